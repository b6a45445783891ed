#!/usr/bin/env bash
# Has compose itself read docker-compose.yml, alone and with what may be laid over it: it knows of undefined services,
# networks, volumes and variables, and of wrong durations and ports. Where there is no compose, it says so and is content:
# the schema has been checked by then. `make compose-test` leaves one in build/tools.
set -euo pipefail

if docker compose version >/dev/null 2>&1; then
    compose=(docker compose)
elif [ -x build/tools/docker-compose ]; then
    compose=(build/tools/docker-compose)
else
    echo "docker-compose.yml: no compose here, only its schema was checked" >&2
    exit 0
fi
for over in "" docker-compose.gpu.yml tests/compose/standins/override.yml; do
    "${compose[@]}" --file docker-compose.yml ${over:+--file "$over"} --project-directory . --profile '*' config --quiet
done
