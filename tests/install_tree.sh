#!/bin/sh
# `cmake --install` puts down these files and no others, and what it puts down runs. Takes the build's folder.
set -eu
build=$1
prefix=$(mktemp -d)
trap 'rm -rf "$prefix"' EXIT

cmake --install "$build" --prefix "$prefix" >/dev/null
found=$(cd "$prefix" && find . -type f | sort)
expected='./bin/lastack
./share/doc/lastack/LICENSE
./share/doc/lastack/README.md
./share/lastack/lastack.yaml'
[ "$found" = "$expected" ] || {
    printf 'installed:\n%s\nexpected:\n%s\n' "$found" "$expected"
    exit 1
}
"$prefix/bin/lastack" --version | grep -qE '^lastack [0-9]+\.[0-9]+\.[0-9]+$'
