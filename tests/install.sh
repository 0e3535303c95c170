#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# install.sh BUILD SOURCE: installs into an empty prefix, builds examples/chat.c against it with pkg-config (shared and static) and
# with the CMake package, and asks the real model one question where it is at hand. Ends with Check's line.
# shellcheck disable=SC2317 # check calls the functions below
set -u

build=$1 source=$2
generator=$(sed -n 's/^CMAKE_GENERATOR:INTERNAL=//p' "$build/CMakeCache.txt") # make need not be there
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
checks=0 failures=0
check() { # sentence, command...
    checks=$((checks + 1))
    if ! "${@:2}" >"$work/log" 2>&1; then
        failures=$((failures + 1))
        echo "failed: $1"
        sed 's/^/    /' "$work/log"
    fi
}
finish() {
    echo "$((100 * (checks - failures) / checks))%: Checks: $checks, Failures: $failures, Errors: 0"
    [ "$failures" -eq 0 ]
    exit
}
has() {
    local file
    for file in "$@"; do
        [ -e "$prefix/$file" ] || { echo "$file is not installed" && return 1; }
    done
}
with_pkg_config() { # output, flags of pkg-config...
    local flags
    flags=$(pkg-config "${@:2}" --cflags --libs graft) || return 1
    # shellcheck disable=SC2086
    cc -std=c11 -Wall -Wextra -Wpedantic -Werror "$source/examples/chat.c" $flags -o "$1"
}
says_usage() {
    local text
    text=$("$1" 2>&1)
    [ $? -eq 1 ] && case $text in *usage*) true ;; *) false ;; esac
}
answers() {
    local text
    text=$(echo "What is the capital of France?" | "$1" "$GRAFT_TEST_MODEL" ref) || return 1
    echo "$text"
    case $text in *Paris*) true ;; *) false ;; esac
}

prefix=$work/prefix
check "the project installs" cmake --install "$build" --prefix "$prefix"
[ "$failures" -eq 0 ] || finish
libraries=$(dirname "$(find "$prefix" -name 'libgraft.so' | head -n 1)")
export PKG_CONFIG_PATH=$libraries/pkgconfig LD_LIBRARY_PATH=$libraries
sed -i "s|^prefix=.*|prefix=$prefix|" "$libraries/pkgconfig/graft.pc"

check "headers, libraries, command, manual pages and completion are there" has include/graft/graft.h \
    "${libraries#"$prefix"/}/libgraft.so.0" "${libraries#"$prefix"/}/libgraft.a" bin/graft share/man/man1/graft.1 share/man/man1/graft-run.1 share/bash-completion/completions/graft
check "unit, dashboard and alerts are there" has lib/systemd/system/graft.service share/graft/grafana-dashboard.json \
    share/graft/prometheus-alerts.yml share/graft/prometheus.yml
check "no header of the inside is installed" test "$(find "$prefix/include" -name '*.h' | wc -l)" = \
    "$(find "$source/include/graft" -name '*.h' | wc -l)"
check "the installed command knows its version" "$prefix/bin/graft" version
check "the example builds with pkg-config" with_pkg_config "$work/chat"
check "the example runs with the shared library" says_usage "$work/chat"
check "the example builds from the CMake package" cmake -G "$generator" -S "$source/examples" -B "$work/examples" \
    -DCMAKE_PREFIX_PATH="$prefix"
check "the example of the CMake package compiles and links, shared and static" cmake --build "$work/examples"
check "the example of the CMake package runs with the shared library" says_usage "$work/examples/chat"
check "the example of the CMake package runs with the static library" says_usage "$work/examples/chat_static"
if [ -f "${GRAFT_TEST_MODEL:-}" ]; then
    check "the example knows the capital of France" answers "$work/chat"
else
    echo "skipped: the example asks no question, because GRAFT_TEST_MODEL names no model"
fi
finish
