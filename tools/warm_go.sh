#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Fetch and compile what the simulator stands on, while pip is busy installing what the rest needs. Where there is no Go yet,
# or anything fails, nothing is lost: `make simulator` does and tells it all.
set -euo pipefail
go=$(tools/find_go.sh "$1" --present)
# `make simulator` waits for this, rather than compile the same beside it.
exec 9>build/warm_go.lock
flock 9 || true
cd simulator
# Ours cannot be compiled yet: the description of the API that they embed is made by what pip installs.
mapfile -t libraries < <("$go" list -e -deps -f '{{if and .Module (not .Module.Main)}}{{.ImportPath}}{{end}}' .)
# The compiler spends a fifth less of the processor's time when it collects its garbage less often.
GOGC=300 nice "$go" build "${libraries[@]}" 9>&-
