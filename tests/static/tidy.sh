#!/bin/sh
# Every C file that the build compiles is clean under clang-tidy. Takes the build's folder, where it also notes what
# it found clean, so that only what changed since is looked at again.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
build=$(cd "$1" && pwd)
cd "$here/../.."
mkdir -p "$build/tidy"

# A header can change the verdict on any file, and so can the way it is compiled.
common=$({ sh "$here/files.sh" . | grep '\.h$' | xargs cat .clang-tidy "$build/compile_commands.json"; } | sha256sum)

# FILE: the note that says that this file, as it stands, is clean.
note()
{
    echo "$build/tidy/$({ echo "$common $1" && cat "$1"; } | sha256sum | cut -c1-32)"
}

# In the order of compile_commands.json; each file once, however many targets compile it.
sed -n 's|.*"file": "'"$PWD"'/\(.*\)".*|\1|p' "$build/compile_commands.json" | sort -u | while read -r file; do
    [ -e "$(note "$file")" ] || echo "$file $(note "$file")"
done | xargs -r -n 2 -P "$(nproc)" sh -c '
    if found=$(clang-tidy-14 --quiet -p "$0" "$1" 2>/dev/null); then
        : >"$2"
    else
        printf "%s\n" "$found"
        exit 1
    fi' "$build"
