#!/bin/sh
# No module includes itself by way of others; a module is a header and the source file of the same name. tsort(1)
# names the modules of every circle. Takes another root for the test of this test.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cd "${1:-$here/../..}"
sh "$here/files.sh" . | grep '\.[ch]$' | grep -v '^tests/' | xargs awk '
    function module(file) {
        sub(/\.[ch]$/, "", file)
        return file
    }
    /^[ \t]*#[ \t]*include[ \t]*"/ {
        gsub(/^[^"]*"|".*$/, "")
        if (module($0) != module(FILENAME))
            print module(FILENAME), module($0)
    }' | tsort >/dev/null
