package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
)

type listed struct {
	ImportPath                         string
	Imports, TestImports, XTestImports []string
	Deps                               []string
	Standard                           bool
}

func list(t *testing.T, args ...string) []listed {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-json=ImportPath,Imports,TestImports,XTestImports,Deps"}, args...)...)
	cmd.Dir = "../.."
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var all []listed
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// layer orders the packages of this module: a package imports lower layers only. Packages of one layer that may know each other share a group.
func layer(path string) (level int, group string) {
	path = strings.TrimPrefix(path, "tasktracer/")
	parts := strings.SplitN(path, "/", 3)
	switch {
	case parts[0] == "proto":
		return 0, "proto"
	case path == "pkg/frame", strings.HasPrefix(path, "pkg/ops"):
		return 1, parts[1]
	case parts[0] == "pkg" && parts[1] == "trace": // what tt is made of; it stands on socketio
		return 3, "trace"
	case parts[0] == "pkg":
		return 2, parts[1]
	case parts[0] == "services" && parts[1] == "tasktracer":
		return 5, "tasktracer"
	case parts[0] == "services":
		return 4, parts[1]
	}
	return 9, path
}

func TestImportsGoOneWay(t *testing.T) {
	packages := list(t, "./...")
	if len(packages) < 10 {
		t.Fatalf("go list found %d packages: want all of the module's", len(packages))
	}
	for _, p := range packages {
		level, group := layer(p.ImportPath)
		for _, imp := range p.Imports {
			if !strings.HasPrefix(imp, "tasktracer/") {
				continue
			}
			if l, g := layer(imp); g != group && l >= level {
				t.Errorf("%s imports %s: imports go from services down to proto, and never sideways", p.ImportPath, imp)
			}
		}
	}
}

// homes are the foreign modules that only one package may know.
var homes = map[string]string{
	"github.com/nats-io/nats.go":      "tasktracer/pkg/bus",
	"github.com/nats-io/nats-server/": "tasktracer/pkg/natsd",
	"github.com/golang-jwt/jwt/":      "tasktracer/pkg/auth",
	"github.com/coder/websocket":      "tasktracer/pkg/socketio",
	"github.com/lxzan/gws":            "tasktracer/pkg/socketio",
	"github.com/gorilla/websocket":    "tasktracer/pkg/socketio",
}

func TestForeignLibrariesStayAtHome(t *testing.T) {
	for _, p := range list(t, "./...") {
		for _, imp := range p.Imports {
			for lib, home := range homes {
				if strings.HasPrefix(imp, lib) && p.ImportPath != home && !strings.HasPrefix(p.ImportPath, home+"/") {
					t.Errorf("%s imports %s: that is known to %s alone", p.ImportPath, imp, home)
				}
			}
		}
	}
}

func TestTTIsSmall(t *testing.T) {
	for _, p := range list(t, "./services/tt") {
		for _, dep := range p.Deps {
			for _, foreign := range []string{"github.com/nats-io/", "github.com/prometheus/", "tasktracer/pkg/bus", "tasktracer/pkg/natsd"} {
				if strings.HasPrefix(dep, foreign) {
					t.Errorf("tt links %s", dep)
				}
			}
		}
	}
}
