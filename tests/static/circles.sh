#!/bin/sh
# No module includes itself by way of others; a module is a header and the source file of the same name. tsort(1)
# names the modules of every circle. Takes another root for the test of this test.
set -eu

# MODULE MODULE: what the first includes of the second closes a circle that is still to be cut. None is added, and a
# row that is no longer needed has to go.
known='
proxy/session/preface proxy/session/session
'
here=$(cd "$(dirname "$0")" && pwd)
cd "${1:-$here/../..}"
includes=$(mktemp)
trap 'rm -f "$includes"' EXIT
sh "$here/files.sh" . | grep '\.[ch]$' | grep -v '^tests/' | xargs awk '
    function module(file) {
        sub(/\.[ch]$/, "", file)
        return file
    }
    /^[ \t]*#[ \t]*include[ \t]*"/ {
        gsub(/^[^"]*"|".*$/, "")
        if (module($0) != module(FILENAME))
            print module(FILENAME), module($0)
    }' | sort -u >"$includes"
known=$(echo "$known" | grep .)
[ ! -f tests/static/circles.sh ] || echo "$known" | while read -r row; do
    grep -qxF "$row" "$includes" || {
        echo "not included any more, take it from the known circles: $row" >&2
        exit 1
    }
done
grep -vxF "$known" "$includes" | tsort >/dev/null
