#!/bin/sh
# No function is longer than 80 lines, no line longer than 110 columns. (clang-format breaks code, but neither
# strings nor addresses in comments.)
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
sh "$here/files.sh" . | grep '\.[ch]$' | xargs awk '
    FNR == 1 { start = 0 }
    length > 110 { printf "%s:%d: %d columns\n", FILENAME, FNR, length; breaches++ }
    /^[a-z].*\(/ { name = $0 }
    /^\{/ { start = FNR }
    /^\}/ {
        if (start && FNR - start + 1 > 80) {
            printf "%s:%d: %d lines: %s\n", FILENAME, start, FNR - start + 1, name
            breaches++
        }
        start = 0
    }
    END { exit breaches > 0 }'
