#!/bin/sh
# Every C file is as clang-format would have it.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
sh "$here/files.sh" . | grep '\.[ch]$' | xargs clang-format-14 --dry-run -Werror
