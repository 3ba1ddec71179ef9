#!/usr/bin/env bash
# Drives the compose file on a real Docker engine: 18 viewers of three generations through the load balancer while gateways are scaled from 2 to 5 and back and
# one container of each kind is killed. Succeeds if all of them have exactly what the command wrote. Needs the image built (docker compose build)
# and the clients installed (npm ci in ../clients). COMPOSE may name another compose program.
set -euo pipefail
cd "$(dirname "$0")/../../.."
compose=${COMPOSE:-docker compose}

$compose up -d --wait haproxy prometheus
links=$($compose run --rm links 2>/dev/null)
token=$(sed -n 's/.*accessToken=//p' <<<"$links" | tr -d '\r')
export $(grep -o 'TASKTRACER_[A-Z]*=[^ ]*' <<<"$links")
task=check-$(date +%s)

node deploy/e2e/compose/viewers.js http://127.0.0.1:8004 "$token" "$task" c1 2 >/tmp/$task.viewers & viewers=$!
bin/tt -n "$task" --id c1 'for i in $(seq 1 3500); do echo line $i; sleep 0.02; done' 2>/dev/null | sha256sum | cut -d' ' -f1 >/tmp/$task.sum & command=$!

sleep 3
for n in 5 2; do echo "gateways: $n"; $compose up -d --no-recreate --scale gateway=$n gateway >/dev/null 2>&1; sleep 6; done
for part in gateway-1 ingest-1 token-1 nats-2-1; do
  echo "kill -9 $part"
  kill -9 "$(docker inspect -f '{{.State.Pid}}' "tasktracer-$part")"
  sleep 7
done
wait $command $viewers || true
cat /tmp/$task.viewers
[ "$(grep -c . <(grep -o '^[0-9a-f]\{64\} .*' /tmp/$task.viewers))" = 1 ] && grep -q "^$(cat /tmp/$task.sum) 18\$" /tmp/$task.viewers && echo "all 18 have what the command wrote"
