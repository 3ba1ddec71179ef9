#!/usr/bin/env bash
# Brings docker-compose.yml up on a real Docker engine and does to it, in one go, what production will:
#
#   1. senders and viewers of three generations on all transports, through HAProxy's plain round robin;
#   2. under load, with 18 viewers of three generations and a `tt`: gateways, ingests and token services are scaled from 2 to 5 and back, and then one
#      container of each kind, NATS included, is killed; all viewers must have exactly what the command wrote;
#   3. every target of Prometheus is up, and every panel of the dashboard has data.
#
# It ends with a summary, and succeeds if nothing is wrong. Needs the image (docker compose build), bin/tt (make build) and the clients (npm ci in
# ../clients). COMPOSE may name another compose program; SERVICES names what to start where not all images can be had, as in SERVICES="haproxy prometheus".
set -uo pipefail
cd "$(dirname "$0")/../../.."
compose=${COMPOSE:-docker compose}
here=deploy/e2e/compose
viewers=http://127.0.0.1:${VIEWER_PORT:-8004} clients=http://127.0.0.1:${CLIENT_PORT:-8005} prometheus=http://127.0.0.1:9090
work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null; rm -rf "$work"' EXIT
failed=0
summary=()
check() { # check TEXT COMMAND...: the last line of what it prints goes into the summary
  local text=$1 ok=ok; shift
  "$@" >"$work/out" 2>&1 || { ok=FAILED; failed=$((failed + 1)); }
  cat "$work/out"
  summary+=("$(printf '%-6s %s: %s' "$ok" "$text" "$(tail -n 1 "$work/out")")")
}

echo "== up"
began=$SECONDS
# shellcheck disable=SC2086 # both may be several words
$compose up -d --wait ${SERVICES:-} || exit 1
summary+=("ok     all services are healthy after $((SECONDS - began)) s")
links=$($compose run --rm links 2>/dev/null)
browser_token=$(sed -n 's/.*accessToken=//p' <<<"$links" | tr -d '\r')
client_token=$(grep -o 'TASKTRACER_TOKEN=[^ ]*' <<<"$links" | cut -d= -f2)

echo "== three generations, all transports, round robin"
check "1.4.8, 2.5.0, 4.8, all transports" node $here/senders.js "$viewers" "$clients" "$browser_token" "$client_token" 3

echo "== under load"
task=check-$(date +%s)
node $here/viewers.js "$viewers" "$browser_token" "$task" c1 2 >"$work/viewers" & watching=$!
TASKTRACER_URL=$clients TASKTRACER_TOKEN=$client_token bin/tt -n "$task" --id c1 \
  'i=0; while [ ! -e '"$work"'/stop ]; do i=$((i+1)); echo line $i; sleep 0.02; done' 2>"$work/tt" | sha256sum | cut -d' ' -f1 >"$work/sum" & writing=$!
sleep 3
for part in gateway ingest token; do
  for n in 5 2; do
    echo "$part: $n"
    $compose up -d --no-recreate --no-deps --wait --scale $part=$n $part >/dev/null 2>&1 || { echo "$part does not become $n"; failed=$((failed + 1)); }
    sleep 3
  done
done
for part in gateway ingest token nats-2; do
  container=$($compose ps -q $part | head -n 1)
  echo "kill -9 $part"
  kill -9 "$(docker inspect -f '{{.State.Pid}}' "$container")"
  sleep 7
done
node $here/senders.js "$viewers" "$clients" "$browser_token" "$client_token" 3 >/dev/null # new load for the panels
sleep 6

echo "== what Prometheus knows"
targets() {
  curl -fsS "$prometheus/api/v1/targets?state=active" >"$work/targets" &&
    node -e 'const t = JSON.parse(require("fs").readFileSync(process.argv[1])).data.activeTargets;
      for (const x of t) console.log(x.labels.job, x.labels.instance, x.health, x.lastError);
      const jobs = new Set(t.map((x) => x.labels.job)), down = t.filter((x) => x.health !== "up").length;
      console.log(`${t.length} targets of ${jobs.size} jobs, ${down} of them down`);
      process.exit(down || jobs.size < 5 ? 1 : 0)' "$work/targets"
}
check "Prometheus' targets" targets
check "the dashboard's panels" node $here/panels.js "$prometheus" 1m

echo "== the end"
touch "$work/stop"
wait $writing
wait $watching
same() {
  cat "$work/viewers"
  echo "the command's $(cat "$work/sum")"
  [ "$(grep -c '^[0-9a-f]\{64\} ' "$work/viewers")" = 1 ] && grep -q "^$(cat "$work/sum") 18\$" "$work/viewers" && ! grep -q 'gap\|problem' "$work/viewers" &&
    tail -n 1 "$work/viewers"
}
check "18 viewers have what the command wrote, SHA-256 equal" same
echo
echo "== summary"
printf '%s\n' "${summary[@]}"
[ $failed = 0 ]
