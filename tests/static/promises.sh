#!/bin/sh
# What tests/README.md names as proof is there: tests between backticks (test_..., FOLDER/NAME), and promises of the
# simulations between quotes. "..." in a promise stands for any words.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
failed=0
missing()
{
    echo "tests/README.md names what is not there: $1"
    failed=1
}

for name in $(grep -oE '`test_[a-z_0-9]+`' tests/README.md | tr -d '`' | sort -u); do
    grep -rqE "\<$name\>" tests/end_to_end --include='*.py' || missing "$name"
done
for name in $(grep -oE '`(unit|end_to_end|simulation)/[a-z_0-9]+`' tests/README.md | tr -d '`' | sort -u); do
    found=$(find "tests/${name%%/*}" -name "${name##*/}_test.c" -o -name "test_${name##*/}.py" -o -name "${name##*/}.c")
    [ -n "$found" ] || missing "$name"
done
grep -E '^\|' tests/README.md | grep -oE '"[a-z][^"]+"' | tr -d '"' | sort -u >"${TMPDIR:-/tmp}/promises.$$"
trap 'rm -f "${TMPDIR:-/tmp}/promises.$$"' EXIT
while IFS= read -r promise; do
    words=$(printf '%s\n' "$promise" | sed 's/ *\.\.\. *//')
    grep -rqF -e "$words" tests/simulation || missing "\"$promise\""
done <"${TMPDIR:-/tmp}/promises.$$"
exit $failed
