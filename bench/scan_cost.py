#!/usr/bin/python3
"""What `lastack scan` costs beside `ss`, on the same sockets, in turns.

    LASTACK=.build/release/lastack bench/scan_cost.py [--rows ROWS] [--rounds ROUNDS]

Makes leaks in a network namespace of its own: that many sockets in CLOSE_WAIT, and as many at the other ends. Prints
the median wall time of each command, and whether both bounds hold: scan --brief is no slower than ss, and with owners
takes at most half as long as ss -p. Exit status 1 if not.
"""

import argparse
import os
import pathlib
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "end_to_end"))

from leaks import Owner, enter_namespace  # noqa: E402 pylint: disable=wrong-import-position

LASTACK = os.environ.get("LASTACK") or str(ROOT / ".build" / "release" / "lastack")
# (name, command, at most this many times the command named next)
COMMANDS = {
    "ss": ["ss", "-Htan", "state", "close-wait"],
    "scan": [LASTACK, "scan", "--brief"],
    "ss -p": ["ss", "-Htanp", "state", "close-wait"],
    "scan with owners": [LASTACK, "scan"],
}
ROWS_MAX = 9000  # each takes a descriptor here and one in the process that leaks
BOUNDS = [("scan", 1.0, "ss"), ("scan with owners", 0.5, "ss -p")]


def wall_ms(command):
    began = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
    return (time.perf_counter() - began) * 1000


def count(text):
    number = int(text)
    if not 1 <= number <= ROWS_MAX:
        raise argparse.ArgumentTypeError(f"found {text}; allowed: a number from 1 to {ROWS_MAX}")
    return number


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=count, default=9000, help="how many sockets leak (default %(default)s)")
    parser.add_argument("--rounds", type=count, default=15, help="runs of each command (default %(default)s)")
    return parser.parse_args()


def measure(rows, rounds):
    with Owner() as owner:
        for start in range(0, rows, 1000):
            owner.leak(min(1000, rows - start))
        times = {name: [] for name in COMMANDS}
        for _ in range(rounds):
            for name, command in COMMANDS.items():
                times[name].append(wall_ms(command))
    medians = {name: statistics.median(values) for name, values in times.items()}
    print(f"{rows} sockets in CLOSE_WAIT among {2 * rows}; wall time in ms over {rounds} rounds, in turns\n")
    for name, command in COMMANDS.items():
        shown = " ".join([os.path.basename(command[0]), *command[1:]])
        print(f"{shown:36} median {medians[name]:8.1f}   least {min(times[name]):8.1f}   most {max(times[name]):8.1f}")
    print()
    good = True
    for name, bound, other in BOUNDS:
        ratio = medians[name] / medians[other]
        good &= ratio <= bound
        print(f"{name} / {other} = {ratio:.2f}, bound {bound}: {'holds' if ratio <= bound else 'DOES NOT HOLD'}")
    return 0 if good else 1


if __name__ == "__main__":
    arguments = parse()
    enter_namespace()
    sys.exit(measure(arguments.rows, arguments.rounds))
