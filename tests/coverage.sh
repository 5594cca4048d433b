#!/bin/sh
# Prints which share of the lines and branches of the project the tests run, a row a file, then a row a part:
#
#   sh tests/coverage.sh [PATTERN]      only tests whose names match it, as ctest -R takes it
#
# Branches of an assertion don't count: the one that fails is there never to be taken.
set -eu
exec </dev/null
export LC_ALL=C
cd "$(dirname "$0")/.."
build=.build/coverage

sh tests/install.sh
mkdir -p .build/logs
log=.build/logs/coverage.log
if ! { cmake --preset coverage && cmake --build --preset coverage --parallel "$(nproc)"; } >$log 2>&1; then
    tail -n 40 $log >&2
    echo "coverage.sh: the build failed, see above and $log" >&2
    exit 1
fi
find $build -name '*.gcda' -delete
status=0
ctest --preset coverage -R "${1:-}" >$log 2>&1 || status=1

# Without data a file was never run, which gcov says in as many words; the table says it too.
find $build/reaper $build/conf $build/proxy $build/bench -name '*.gcno' |
    xargs gcov --stdout --branch-probabilities --branch-counts --relative-only --source-prefix "$PWD" 2>/dev/null |
    awk '
    function add(group, name) {
        total[group, name] += 0
        names[group, name]
    }

    # One row; columns by what has been counted under the key.
    function row(key) {
        printf "%-36s %7d %6.1f %% %9d %6.1f %%\n", key, lines[key], share(lines_run[key], lines[key]),
               branches[key], share(branches_run[key], branches[key])
    }

    function share(part, whole) {
        return whole ? 100 * part / whole : 100
    }

    function count_line(key, hit) {
        lines[key]++
        lines_run[key] += hit
    }

    function count_branch(key, hit) {
        branches[key]++
        branches_run[key] += hit
    }

    function sorted(set, list,    key, n, i, swap) {
        for (key in set) {
            list[++n] = key
            for (i = n; i > 1 && list[i] < list[i - 1]; i--) {
                swap = list[i]
                list[i] = list[i - 1]
                list[i - 1] = swap
            }
        }
        return n
    }

    /^ *-: *0:Source:/ { file = $0; sub(/^.*Source:/, "", file); asserting = 0; next }
    /^(function|call|unconditional) / { next }
    /^branch / { # "branch  0 taken 12 (fallthrough)", "branch  1 never executed"
        if (!asserted)
            branch_run[file, number, branch++] += $4
        next
    }
    { # "  count*:  line:text"; a count is "-" without code, "#####" or "=====" when never run
        split($0, field, ":")
        number = field[2] + 0
        branch = 0
        if (field[3] ~ /^ *assert\(/)
            asserting = 1
        asserted = asserting
        if (field[0 + 1] !~ /^ *-$/ && number)
            line_run[file, number] += field[1] + 0
        if ($0 ~ /;$/)
            asserting = 0
    }
    END {
        for (place in line_run) {
            split(place, part, SUBSEP)
            count(part[1], line_run[place] > 0)
        }
    }' || true
exit $status
