#!/bin/sh
# The top level holds the agreed names and nothing else. What begins with a dot is free.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
odd=$(sh "$here/files.sh" "$here/../.." | cut -d/ -f1 | sort -u |
    grep -vE '^(\..*|CMakeLists\.txt|CMakePresets\.json|LICENSE|README\.md|bench|conf|proxy|reaper|tests)$' || true)
[ -z "$odd" ] || {
    echo "the top level has more than it should:" "$odd"
    exit 1
}
