#!/bin/sh
# Shows that circles.sh finds a circle of two modules and one of three, and takes a tree without one.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
cd "$tree"
mkdir -p conf reaper
failed=0

# FILE INCLUDE: one file, one include.
write()
{
    echo "#include \"$2\"" >"$1"
}

write conf/load.c conf/load.h
write conf/load.h reaper/policy.h
write conf/option.c conf/load.h
sh "$here/circles.sh" . || {
    echo "a tree without a circle is refused"
    failed=1
}

# WORDS...: the circle that was just made must be found, and these modules named.
found()
{
    if sh "$here/circles.sh" . 2>said; then
        echo "not found: a circle of $*"
        failed=1
    fi
    for name; do
        grep -q "$name" said || {
            echo "not named: $name in a circle of $*"
            failed=1
        }
    done
}

write reaper/policy.c conf/load.h
found conf/load reaper/policy
write reaper/policy.c conf/option.h
write conf/option.h conf/load.h
found conf/load reaper/policy conf/option
exit $failed
