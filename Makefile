# What there is to do here: make help. Needs Go, Node 20 and make, and fetches the rest.

VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS   = -s -w -buildid= -X tasktracer/pkg/ops.version=$(VERSION)
# The same source gives the same bytes in whatever folder it lies, whether git is there or not; the version says which source.
GOBUILD   = GOWORK=off CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "$(LDFLAGS)"
TESTFLAGS ?=
ADDR     ?= localhost:8004

WEB      = services/gateway/web
WEB_SRC  = $(shell find $(WEB) -type f -not -path '*/node_modules/*' -not -path '*/dist/*' -not -path '*/.out-*')
GO_SRC   = $(shell find services pkg proto -name '*.go') go.mod go.sum
# The modules beside the root one, each with tests of its own.
MODULES  = $(patsubst %/go.mod,%,$(wildcard deploy/*/go.mod))

GOLANGCI = go run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
BUF      = go run github.com/bufbuild/buf/cmd/buf@v1.75.0

.DEFAULT_GOAL := help
.PHONY: help chaos outage cross run build test test-web test-go test-page test-modules lint generate fresh web bench bench-socketio bench-gateway bench-sizing bench-tt bench-page release binaries chromium tools clean

help: ## show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: build ## build all and serve http://localhost:8004, data in ./data
	bin/tasktracer all --listen $(ADDR) --data ./data --tt bin/tt

build: bin/tasktracer bin/tt ## build bin/tasktracer and bin/tt, the page included

bin/tasktracer: $(GO_SRC) $(WEB)/dist/index.html
	$(GOBUILD) -o $@ ./services/tasktracer

bin/tt: $(GO_SRC)
	$(GOBUILD) -o $@ ./services/tt

web: $(WEB)/dist/index.html ## build the page

$(WEB)/node_modules/.package-lock.json: $(WEB)/package.json $(WEB)/package-lock.json
	cd $(WEB) && npm ci
	@touch $@

$(WEB)/dist/index.html: $(WEB)/node_modules/.package-lock.json $(WEB_SRC)
	cd $(WEB) && npm run build
	@touch $@

test: test-web test-go cross test-page test-modules ## run every test

test-web: web chromium
	cd $(WEB) && npm test

test-go: web
	go test -race $(TESTFLAGS) ./...

# What this machine cannot run is at least built and checked, tests included; and tt stays small everywhere.
SYSTEMS = linux/arm64 darwin/amd64 darwin/arm64 windows/amd64 windows/arm64
cross: web ## build tt and tasktracer for the other systems (minutes the first time, then from the cache)
	@set -e; out=$$(mktemp -d); trap 'rm -rf $$out' EXIT; for s in $(SYSTEMS); do echo "cross $$s"; \
	  export GOOS=$${s%/*} GOARCH=$${s#*/} CGO_ENABLED=0 GOWORK=off GOFLAGS="$(GOFLAGS) -trimpath"; \
	  go vet ./services/tt ./pkg/trace/...; \
	  go build -ldflags "$(LDFLAGS)" -o $$out/ ./services/tt ./services/tasktracer; \
	  size=$$(cat $$out/tt $$out/tt.exe 2>/dev/null | wc -c); [ $$size -lt 12000000 ] || { echo "tt for $$s has $$size bytes: too many"; exit 1; }; rm -f $$out/*; \
	done

# They run the real binaries, so these are built first. Go shows no log of a test that passes: what they measured is in a file.
test-modules: build chromium tools
	@set -e; f=$$(mktemp); trap 'cat $$f; rm -f $$f' EXIT; \
	for m in $(MODULES); do echo "cd $$m && go test -race $(TESTFLAGS) ./..."; (cd $$m && FIGURES=$$f CHECKS=all go test -race -timeout 15m $(TESTFLAGS) ./...); done

# The page in a real browser, against the real services.
test-page: build chromium
	cd $(WEB) && npm run e2e

chromium: # the page is tested in a real browser
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || { \
	  echo "no Chromium here: installing it with apt-get"; SUDO=$$([ $$(id -u) = 0 ] || echo sudo); \
	  $$SUDO apt-get update && $$SUDO env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends chromium; }

tools: # what checks the deployment's files, what the examples in Python need, and the shells that complete tt
	@command -v zsh >/dev/null && command -v fish >/dev/null || { \
	  echo "installing zsh and fish with apt-get"; SUDO=$$([ $$(id -u) = 0 ] || echo sudo); \
	  $$SUDO apt-get update && $$SUDO env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends zsh fish; }
	@{ python3 -c 'import socketio, requests, websocket' || /usr/bin/python3 -c 'import socketio, requests, websocket'; } 2>/dev/null || { \
	  echo "installing python3-socketio with apt-get"; SUDO=$$([ $$(id -u) = 0 ] || echo sudo); \
	  $$SUDO apt-get update && $$SUDO env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends python3-socketio python3-requests python3-websocket; }
	@command -v promtool >/dev/null && { command -v haproxy >/dev/null || test -x /usr/sbin/haproxy; } || { \
	  echo "installing haproxy and promtool with apt-get"; SUDO=$$([ $$(id -u) = 0 ] || echo sudo); \
	  $$SUDO apt-get update && $$SUDO env RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends haproxy prometheus; }

lint: web ## vet, linters, formats
	go vet ./...
	@test -z "$$(gofmt -l services pkg deploy)" || { echo "not formatted:"; gofmt -l services pkg deploy; exit 1; }
	$(GOLANGCI) run --allow-parallel-runners ./...
	@set -e; for m in $(MODULES); do (cd $$m && go vet ./...); done
	$(BUF) lint

generate: ## make the Go of proto/ anew
	$(BUF) generate

fresh: generate # fails where what is committed is not what proto/ says
	git diff --exit-code -- proto
	@test -z "$$(git ls-files --others --exclude-standard -- proto)" || { echo "generated, but not committed:"; git ls-files --others --exclude-standard -- proto; exit 1; }

# The second time all of NATS is down for 20 s.
chaos: build chromium ## kill, stop and cut everything for 4 minutes, and prove that nothing was lost (deploy/e2e/chaos)
	cd deploy/e2e && go run ./chaos $(CHAOSFLAGS)
	cd deploy/e2e && go run ./chaos --over 45s --mb 20 --blackout 20s $(CHAOSFLAGS)

outage: ## the server killed for a minute while tt sends 200 MB (2 s and 20 MB are part of make test)
	go test ./services/tt -run TestOutage -count=1 -v -timeout 15m -outage 60s -outage-mb 200

bench: bench-socketio bench-gateway bench-sizing bench-tt bench-page ## measure, and compare with others (deploy/bench)

bench-socketio: ## measure pkg/socketio beside other servers (deploy/bench/socketio)
	cd deploy/bench && go run ./socketio $(BENCHFLAGS)

bench-gateway: build ## measure late viewers, and the memory of a gateway beside its bound
	cd deploy/bench && go run ./gateway $(BENCHFLAGS)

bench-sizing: build ## measure what a core of an ingest and of a gateway does, and what the log takes on disk
	cd deploy/bench && go run ./sizing $(SIZINGFLAGS)

bench-tt: build ## measure what tt costs the command it runs
	cd deploy/bench && go run ./tt $(BENCHFLAGS)

bench-page: build chromium ## measure the page in Chromium, beside xterm.js with the same bytes
	cd $(WEB) && node bench/run.mjs page

RELEASE_OS   ?= linux darwin windows
RELEASE_ARCH ?= amd64 arm64
RELEASE_OF   ?= tt tasktracer

release: web binaries ## tt and tasktracer for all systems, with checksums, in dist/

binaries: # of a release, with whatever page there is
	rm -rf dist && mkdir -p dist
	@set -e; for os in $(RELEASE_OS); do for arch in $(RELEASE_ARCH); do for p in $(RELEASE_OF); do \
	  out=dist/$${p}_$(VERSION)_$${os}_$${arch}; [ $$os = windows ] && out=$$out.exe; \
	  echo $$out; GOOS=$$os GOARCH=$$arch $(GOBUILD) -o $$out ./services/$$p; \
	done; done; done
	cd dist && sha256sum * > SHA256SUMS

clean: ## remove what was built; data stays
	rm -rf bin dist $(WEB)/dist/* $(WEB)/node_modules
