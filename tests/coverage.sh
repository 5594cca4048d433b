#!/bin/sh
# Prints which share of the project's lines and branches the tests run: a row a file, then a row a part.
#
#   sh tests/coverage.sh [PATTERN]      only by the tests whose names match it, as ctest -R takes it
set -eu
exec </dev/null
export LC_ALL=C
cd "$(dirname "$0")/.."
build=.build/coverage
log=.build/logs/coverage.log

sh tests/install.sh
mkdir -p .build/logs
if ! { cmake --preset coverage && cmake --build --preset coverage --parallel "$(nproc)"; } >$log 2>&1; then
    tail -n 40 $log >&2
    echo "coverage.sh: the build failed, see above and $log" >&2
    exit 1
fi

find $build -name '*.gcda' -delete
status=0
ctest --preset coverage -R "${1:-.}" >$log 2>&1 || status=$?
find $build/reaper $build/conf $build/bench $build/proxy -name '*.gcno' | sort |
    xargs gcov --json-format --stdout --branch-probabilities 2>>$log |
    python3 tests/coverage.py
[ $status -eq 0 ] || {
    tail -n 20 $log >&2
    echo "coverage.sh: some tests failed, so the figures are too low; see above and $log" >&2
    exit 1
}
