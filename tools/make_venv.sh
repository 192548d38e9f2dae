#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Create the virtualenv $1, and install the requirement files of the other arguments and this project in place.
# The output of uv and pip is written to $1.log; this script prints its progress.
set -euo pipefail

venv=$1
shift
log=$venv.log
mkdir -p "$(dirname "$venv")"
: >"$log"

fail() {
    echo "ERROR: $*" >&2
    exit 1
}

# Find the first Python of 3.11 or later; python3 is tried first.
find_python() {
    local candidate
    for candidate in ${PYTHON:-} python3 python3.13 python3.12 python3.11 python3.14; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    fail "no Python 3.11 or later on PATH: install one (Debian 12 and later: apt-get install python3 python3-venv)," \
        "or name one: make PYTHON=/path/to/python3"
}

# Debian ships Python without its venv module's pip; virtualenv brings its own.
make_venv() {
    local python=$1
    if "$python" -m venv "$venv" >>"$log" 2>&1; then
        return
    fi
    rm -rf "$venv"
    if "$python" -m virtualenv "$venv" >>"$log" 2>&1; then
        return
    fi
    rm -rf "$venv"
    if "$python" -m pip --version >/dev/null 2>&1; then
        local own=$venv.virtualenv
        "$python" -m pip install --quiet --target "$own" virtualenv >>"$log" 2>&1 &&
            PYTHONPATH=$own "$python" -m virtualenv "$venv" >>"$log" 2>&1 && rm -rf "$own" && return
    fi
    rm -rf "$venv"
    fail "$python cannot make a virtualenv (no venv, no virtualenv): on Debian and Ubuntu 'apt-get install python3-venv'" \
        "(details: $log)"
}

# run_with_progress WHAT COMMAND...: prints a line every ten seconds; its exit status is the command's.
run_with_progress() {
    local what=$1 started=$SECONDS next=10 pid
    shift
    echo "  $what ..."
    "$@" >>"$log" 2>&1 &
    pid=$!
    trap 'kill $pid 2>/dev/null || true' INT TERM EXIT
    while kill -0 $pid 2>/dev/null; do
        sleep 0.5
        if ((SECONDS - started >= next)); then
            echo "    $((SECONDS - started)) s, now: $(tail -n 1 "$log" | cut -c 1-90)"
            next=$((next + 10))
        fi
    done
    trap - INT TERM EXIT
    wait $pid
}

if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    rm -rf "$venv"
    python=$(find_python)
    echo "  virtualenv $venv with $("$python" --version) ..."
    make_venv "$python"
fi
requirements=()
for file in "$@"; do
    requirements+=(-r "$file")
done
arguments=(-c constraints.txt "${requirements[@]}" -e .)
what="installing Cinder, its clients and the test tools"
if ! run_with_progress "$what" "$venv/bin/python" tools/uv_install.py "${arguments[@]}"; then
    # Python compiles modules at their first import; compiling all of them now would double the work.
    if ! run_with_progress "$what, by pip" \
        "$venv/bin/python" -m pip install --no-compile --progress-bar off "${arguments[@]}"; then
        tail -n 25 "$log" >&2
        fail "$what failed; the whole log is $log"
    fi
fi
echo "  ready after $SECONDS s: $("$venv/bin/python" -c 'from importlib.metadata import version as v; print("Cinder", v("cinder"))')"
