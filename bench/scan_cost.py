#!/usr/bin/python3
"""What `lastack scan` costs beside `ss`, on the same sockets, in turns.

    LASTACK=.build/release/lastack bench/scan_cost.py [ROWS] [ROUNDS]

Makes ROWS leaks (default 9000) in a network namespace of its own: that many sockets in CLOSE_WAIT, and as many at
the other ends. Prints the median wall time of each command over ROUNDS (default 15), and whether both bounds hold:
scan --brief is no slower than ss, and with owners takes at most half as long as ss -p. Exit status 1 if not.
"""

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
BOUNDS = [("scan", 1.0, "ss"), ("scan with owners", 0.5, "ss -p")]


def wall_ms(command):
    began = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
    return (time.perf_counter() - began) * 1000


def main():
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 9000
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 15
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
    enter_namespace()
    sys.exit(main())
