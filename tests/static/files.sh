#!/bin/sh
# Prints the names of the project's own files below a root, one a line: what git tracks or would add, and without
# git whatever is there. Names with spaces have no place here.
set -eu
cd "$1"
if [ -e .git ]; then
    git -c safe.directory='*' ls-files --cached --others --exclude-standard
else
    find . -path ./.build -prune -o -type f -print | sed 's|^\./||'
fi | while read -r name; do
    [ ! -f "$name" ] || echo "$name"
done
