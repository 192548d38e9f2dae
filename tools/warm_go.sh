#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Fetch and compile what the simulator stands on, while pip is busy installing what the rest needs. Where there is no Go yet,
# or anything fails, nothing is lost: `make simulator` does and tells it all.
set -euo pipefail
go=$(tools/find_go.sh "$1" --present)
cd simulator
# Ours cannot be compiled yet: the description of the API that they embed is made by what pip installs.
mapfile -t libraries < <("$go" list -e -deps -f '{{if and .Module (not .Module.Main)}}{{.ImportPath}}{{end}}' .)
nice "$go" build "${libraries[@]}"
