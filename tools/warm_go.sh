#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Download and compile the simulator's libraries while pip installs the other packages. If there is no Go yet, or a step
# fails, this does no harm: `make simulator` repeats everything and reports errors.
set -euo pipefail
go=$(tools/find_go.sh "$1" --present)
# `make simulator` waits for this, rather than compile the same beside it.
exec 9>build/warm_go.lock
flock 9 || true
cd simulator
# Our own packages cannot be compiled yet: they embed a description of the API, which a package that pip installs generates.
mapfile -t libraries < <("$go" list -e -deps -f '{{if and .Module (not .Module.Main)}}{{.ImportPath}}{{end}}' .)
# The compiler spends a fifth less of the processor's time when it collects its garbage less often.
GOGC=300 nice "$go" build "${libraries[@]}" 9>&-
