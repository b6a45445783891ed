#!/usr/bin/env bash
# `make compose-test`: images from ops/Dockerfile, docker-compose.yml up, and `python -m tests.compose` at it.
# A Docker engine with its compose plugin, if it answers, is used as it is, with the public images. Without one, on
# Debian as root: podman serves Docker's API, the plugin is built as a Go module, and what cannot be pulled is replaced
# by stand-ins (tests/compose/standins). All of it is under build/compose-test (or COMPOSE_TEST_DIR) and gone at the end but for the plugin;
# the images take 15 GB meanwhile. KEEP=1 keeps them for the next time.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${PYTHON:-.venv/bin/python}
export PATH="$PWD/build/tools:$PATH"

if docker info >/dev/null 2>&1 && docker compose version >/dev/null 2>&1; then
    COMPOSE="docker compose" ENGINE=docker exec "$python" -m tests.compose
fi

[ "$(id -u)" = 0 ] && command -v apt-get >/dev/null ||
    { echo "make compose-test: needs a Docker engine with compose, or root on Debian." >&2; exit 1; }
wanted=(podman buildah runc netavark aardvark-dns iptables debootstrap)
dpkg -s "${wanted[@]}" >/dev/null 2>&1 || {
    echo "installing ${wanted[*]}" >&2
    apt-get -qq update
    DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends "${wanted[@]}" >/dev/null
}
if [ ! -x build/tools/docker-compose ]; then
    command -v go >/dev/null || { echo "make compose-test: Go is not installed; it builds the compose plugin." >&2; exit 1; }
    echo "building the compose plugin: some minutes" >&2
    module=$(mktemp -d)
    printf 'module plugin\n\ngo 1.24\n' >"$module/go.mod"
    printf 'package plugin\n\nimport _ "github.com/docker/compose/v2/cmd/compose"\n' >"$module/plugin.go"
    (cd "$module" && go get -u=patch github.com/docker/compose/v2@v2.40.3 2>/dev/null &&
        go build -mod=mod -o docker-compose github.com/docker/compose/v2/cmd)
    mkdir -p build/tools && mv "$module/docker-compose" build/tools/ && rm -r "$module"
fi

folder=${COMPOSE_TEST_DIR:-$PWD/build/compose-test}
mkdir -p "$folder"
# crun does not take the hybrid layout of cgroups that this may run in; nobody's journal is asked for.
cat >"$folder/containers.conf" <<'CONF'
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
compat_api_enforce_docker_hub = false
[network]
network_backend = "netavark"
CONF
printf '[storage]\ndriver = "overlay"\nrunroot = "%s/run"\ngraphroot = "%s/images"\n' "$folder" "$folder" >"$folder/storage.conf"
export CONTAINERS_CONF=$folder/containers.conf CONTAINERS_STORAGE_CONF=$folder/storage.conf

service=
finish() {
    [ -z "$service" ] || kill "$service" 2>/dev/null || true
    if [ -z "${KEEP:-}" ]; then
        podman rm --all --force --volumes >/dev/null 2>&1 || true
        podman rmi --all --force >/dev/null 2>&1 || true
        podman network prune --force >/dev/null 2>&1 || true
        rm -rf "$folder"
    fi
}
trap finish EXIT

# Debian's minimal system, under the name that the Dockerfiles begin with.
base=docker.io/library/python:3.11-slim-bookworm
if ! podman image exists "$base"; then
    echo "making $base with debootstrap" >&2
    debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates bookworm "$folder/debian" >/dev/null
    container=$(buildah from scratch)
    buildah add -q "$container" "$folder/debian" / >/dev/null
    buildah config --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$container"
    buildah commit -q --rm "$container" "$base" >/dev/null
    rm -rf "$folder/debian"
fi

# pip in the images asks the index that this machine's pip asks, and trusts whom it trusts.
authorities=${PIP_CERT:-/etc/ssl/certs/ca-certificates.crt}
{
    echo "[global]"
    "$python" -m pip config list | sed -nE "s/^(:env:|global)\.(index-url|extra-index-url|default-timeout|trusted-host)='(.*)'$/\2 = \3/p"
    echo "cert = /run/authorities.pem"
} >"$folder/pip.conf"
build=(buildah bud --format docker --isolation chroot --network host --layers --secret "id=pip,src=$folder/pip.conf"
    --volume "$authorities:/run/authorities.pem:ro" --volume /etc/resolv.conf:/etc/resolv.conf:ro)
echo "building tagstream:cpu from ops/Dockerfile" >&2
"${build[@]}" --quiet --target cpu --tag localhost/tagstream:cpu --ignorefile ops/Dockerfile.dockerignore \
    -f ops/Dockerfile . >"$folder/build.log" 2>&1 || { tail -40 "$folder/build.log" >&2; exit 1; }
rm -rf "$folder/context"
"$python" -m tests.compose.standins.context "$folder/context"
for image in kafka redis prometheus; do
    echo "building a stand-in for $image" >&2
    "${build[@]}" --quiet --target "$image" --tag "localhost/tagstream-standin:$image" \
        -f tests/compose/standins/Dockerfile "$folder/context" >"$folder/build.log" 2>&1 ||
        { tail -40 "$folder/build.log" >&2; exit 1; }
done

podman system service --time 0 "unix://$folder/engine.sock" 2>"$folder/engine.log" &
service=$!
until [ -S "$folder/engine.sock" ]; do kill -0 "$service"; read -rt 0.2 <> <(:) || true; done
export DOCKER_HOST=unix://$folder/engine.sock
COMPOSE="docker-compose -f docker-compose.yml -f tests/compose/standins/override.yml" ENGINE=podman "$python" -m tests.compose
