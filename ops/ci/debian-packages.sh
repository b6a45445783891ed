#!/usr/bin/env bash
# The programs that tests need and pip cannot bring, from Debian's own archive; what is there already stays.
# It installs as root on Debian or Ubuntu, as in CI. Anyone else is told what to install: without it the tests that
# need it are skipped and say so (TAGSTREAM_REQUIRE_REAL=1: they fail).
set -euo pipefail

# a program on the PATH, and the package that has it
wanted="
promtool prometheus
pg_ctlcluster postgresql
node nodejs
npm npm
chromium chromium
"

missing=()
while read -r program package; do
    [ -z "$program" ] || command -v "$program" >/dev/null || missing+=("$package")
done <<<"$wanted"
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "To run every test, install: ${missing[*]} (on Debian and Ubuntu: apt-get install ${missing[*]})" >&2
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1  # RUNLEVEL: no package starts a service
apt-get -qq -o Acquire::Retries=3 update
apt-get -qq -o Acquire::Retries=3 -o Dpkg::Use-Pty=0 install --yes --no-install-recommends "${missing[@]}" >/dev/null
