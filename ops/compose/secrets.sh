#!/usr/bin/env bash
# What docker-compose.yml wants in files: random passwords of Redis's users, the console's first token and Grafana's
# password. Run it once; what is there already stays. To change them all: delete the folder, run it again, and
# `docker compose up --detach --force-recreate`.
#   ops/compose/secrets.sh [FOLDER]      the default is secrets/, where docker-compose.yml looks; else set SECRETS_DIR
set -euo pipefail
umask 077

here=$(cd "$(dirname "$0")" && pwd)
folder=${1:-$here/../../secrets}
mkdir -p "$folder"
if [ -e "$folder/redis_acl" ]; then
    echo "$folder has them already; delete it to make new ones." >&2
    exit 0
fi

random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }
sha256() { printf '%s' "$1" | { sha256sum 2>/dev/null || shasum -a 256; } | cut -d' ' -f1; }

worker=$(random) ops=$(random) admin=$(random)
printf 'redis://worker:%s@redis:6379/0\n' "$worker" >"$folder/redis_worker_url"
printf 'redis://ops:%s@redis:6379/0\n' "$ops" >"$folder/redis_ops_url"
printf 'redis://admin:%s@localhost:6379/0\n' "$admin" >"$folder/redis_admin_url" # for redis-cli; no container gets it
printf 'ops:write:%s\n' "$(random)" >"$folder/console_users"
random >"$folder/grafana_password"
sed -e "s/@WORKER@/$(sha256 "$worker")/" -e "s/@OPS@/$(sha256 "$ops")/" -e "s/@ADMIN@/$(sha256 "$admin")/" \
    "$here/redis_acl.template" >"$folder/redis_acl"

# Compose binds these files as they are, and each container reads them as a user of its own: the folder keeps others out.
chmod 0444 "$folder"/*
echo "The console's token is the last field of $folder/console_users, Grafana's user is admin, its password in $folder/grafana_password."
