#!/bin/sh
# From a fresh Debian 12 to a running proxy: installs what is missing, builds, runs.
#
#   sh proxy/quickstart.sh                              lastack demo: a leaky backend, with and without the reaper
#   sh proxy/quickstart.sh LISTEN BACKEND [FLAG...]     lastack run before a real service, such as
#   sh proxy/quickstart.sh 0.0.0.0:8080 127.0.0.1:9000 --half-close 10s
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
build=$root/.build/release

usage='usage: sh proxy/quickstart.sh [LISTEN BACKEND [FLAG...]]'
if [ "${1:-}" = --help ]; then
    echo "$usage"
    exit 0
fi
case $# in
0) set -- demo ;;
1)
    echo "$usage" >&2
    exit 2
    ;;
*)
    listen=$1
    backend=$2
    shift 2
    set -- run --listen "$listen" --backend "$backend" "$@"
    ;;
esac

sh "$root/proxy/install.sh"

# Neither the tests nor another compiler's new warning stand between a user and the program.
log=$root/.build/quickstart.log
mkdir -p "$root/.build"
echo "building $build/lastack"
if ! (cd "$root" && cmake --preset release -DLASTACK_TESTS=OFF -DLASTACK_WERROR=OFF &&
      cmake --build --preset release --target lastack) >"$log" 2>&1; then
    tail -n 40 "$log" >&2
    echo "quickstart.sh: the build failed, see above and $log" >&2
    exit 1
fi

exec "$build/lastack" "$@"
