#!/bin/sh
# Installs what is missing, builds every preset and runs every test where it belongs. What fails is shown; the last
# line sums up. Needs no terminal, no input and no particular working directory.
#
#   release   everything, compiled as people run it
#   debug     unit tests, also under valgrind
#   clang     unit tests, by the second compiler
#   asan      unit tests and those labelled asan
#   tsan      unit tests and those labelled tsan
#   fuzz      each target for at most 20 seconds, from its seeds
set -u
exec </dev/null
export LC_ALL=C
cd "$(dirname "$0")/.." || exit 1
mkdir -p .build/logs || exit 1

cores=$(nproc)
waiting=$((2 * cores)) # end-to-end tests, which mostly wait
began=$(date +%s)
passed=0
failed=0

# NAME COMMAND...: one step, with the time it took; its output goes to a log and is shown if it fails.
step()
{
    name=$1
    shift
    log=.build/logs/$(echo "$name" | tr -c 'a-z0-9\n' '-').log
    step_began=$(date +%s)
    "$@" >"$log" 2>&1
    status=$?
    printf '%4d s  %-32s' $(($(date +%s) - step_began)) "$name"
    return $status
}

show_failure()
{
    echo '  FAILED'
    sed 's/^/        | /' "$log" | tail -n 300
}

# NAME COMMAND...: a step without tests of its own, which counts only if it fails.
prepare()
{
    if step "$@"; then
        echo
    else
        show_failure
        failed=$((failed + 1))
        return 1
    fi
}

build()
{
    cmake --preset "$1" && cmake --build --preset "$1" --parallel "$cores"
}

# What ctest says at its end: "66% tests passed, 2 tests failed out of 6", where skipped ones count as passed, and
# then a line for each of those. Prints passed, failed and skipped.
summary()
{
    awk '
        / tests failed out of / { all = $NF; failed = $4; skipped = 0 }
        / \(Skipped\)$/ { skipped++ }
        END { print all - failed - skipped, failed + 0, skipped + 0 }' "$1"
}

# NAME PRESET ARGUMENT...: a run of ctest.
run()
{
    name=$1
    preset=$2
    shift 2
    step "$name" ctest --preset "$preset" --timeout 300 "$@"
    status=$?
    # shellcheck disable=SC2046 # three numbers
    set -- $(summary "$log")
    good=$1
    bad=$2
    [ "$status" -eq 0 ] || [ "$bad" -gt 0 ] || bad=1
    passed=$((passed + good))
    failed=$((failed + bad))
    printf '%5d passed' "$good"
    [ "$3" -eq 0 ] || printf ', %d skipped' "$3"
    if [ "$bad" -eq 0 ]; then echo; else show_failure; fi
}

if prepare 'install' sh tests/install.sh; then
    if prepare 'release: build' build release; then
        run 'release: all but end to end' release -E '^end_to_end/' -j "$cores"
        run 'release: end to end' release -R '^end_to_end/' -j "$waiting"
    fi
    if prepare 'debug: build' build debug; then
        run 'debug: unit' debug -R '^unit/' -j "$cores" --no-tests=error
        run 'debug: unit under valgrind' debug -C valgrind -R '^valgrind/' -j "$cores" --no-tests=error
    fi
    if prepare 'clang: build' build clang; then
        run 'clang: unit' clang -R '^unit/' -j "$cores" --no-tests=error
    fi
    for preset in asan tsan; do
        if prepare "$preset: build" build "$preset"; then
            run "$preset: unit" "$preset" -R '^unit/' -j "$cores" --no-tests=error
            run "$preset: labelled" "$preset" -L "^$preset\$" -j "$waiting"
        fi
    done
    if prepare 'fuzz: build' build fuzz; then
        run 'fuzz: from the seeds' fuzz -R '^fuzz/' -j "$cores" --no-tests=error
    fi
fi

echo "took $(($(date +%s) - began)) s; the logs are in .build/logs"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
