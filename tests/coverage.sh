#!/bin/sh
# Prints which share of the project's lines and branches the tests run: a row a file, then a row a part.
#
#   sh tests/coverage.sh                all unit tests, a short simulation, and the end-to-end tests but those that
#                                       repeat what others do for longer. Fails if a part misses its goal (GOALS in
#                                       coverage.py).
#   sh tests/coverage.sh PATTERN        only by the tests whose names match it, as ctest -R takes it; no goals
#
# It takes about five minutes. What is killed with SIGKILL, or runs as another user, does not write down what it ran:
# such a line counts only if another test runs it.
set -eu
exec </dev/null
export LC_ALL=C
cd "$(dirname "$0")/.."
build=.build/coverage
log=.build/logs/coverage.log
repeat='^end_to_end/(http_leak|soak)$'

sh tests/install.sh
mkdir -p .build/logs
rm -rf $build # what an earlier build left there would be counted as lines that no test runs
if ! { cmake --preset coverage && cmake --build --preset coverage --parallel "$(nproc)"; } >$log 2>&1; then
    tail -n 40 $log >&2
    echo "coverage.sh: the build failed, see above and $log" >&2
    exit 1
fi

status=0
if [ $# -gt 0 ]; then
    goals=
    ctest --preset coverage --timeout 300 -R "$1" >$log 2>&1 || status=$?
else
    goals=--goals
    ctest --preset coverage --timeout 120 -j "$(nproc)" -E '^(end_to_end|install)/' >$log 2>&1 || status=$?
    ctest --preset coverage --timeout 300 -R '^end_to_end/' -E "$repeat" >>$log 2>&1 || status=$?
fi
# The simulation has compiled the data plane for itself.
find $build/reaper $build/conf $build/bench $build/proxy $build/tests/simulation -name '*.gcno' |
    grep -v "^$build/tests/simulation/CMakeFiles/[a-z_]*.dir/[a-z_]*.c.gcno" | sort |
    xargs gcov --json-format --stdout --branch-probabilities 2>>$log |
    python3 tests/coverage.py $goals || status=1
if grep -q 'The following tests FAILED' $log; then
    grep -E '^[[:space:]]+[0-9]+ - .*\((Failed|Timeout|Not Run|SEGFAULT|Subprocess aborted)\)' $log >&2 || true
    echo "coverage.sh: some tests failed, so the figures are too low; see $log" >&2
fi
[ $status -eq 0 ]
