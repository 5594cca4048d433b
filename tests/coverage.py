"""Turns gcov's JSON, one document a line, into the table of tests/coverage.sh.

A header's code is compiled into several objects: a line was run if it was in any. The branches of an assertion do
not count, for the one that fails is there never to be taken; the table says how many those are. With --goals it is
an error when a part misses its goal.
"""

import collections
import json
import os
import re
import sys

PARTS = ["reaper/policy", "reaper/kernel", "reaper", "conf", "proxy/worker", "proxy/entry", "proxy/exchange", "proxy/session", "proxy/server", "proxy/http", "proxy/shared", "proxy/socket", "proxy/loop", "proxy/command", "proxy",
         "bench"]

# (part, column, at least so many percent)
GOALS = [("reaper", "lines", 95), ("reaper", "branches", 90), ("proxy", "lines", 85)]


def asserting_lines(path):
    """The numbers of the lines that an assertion stands on, from `assert(` to the semicolon."""
    numbers, inside = set(), False
    with open(path, encoding="utf-8") as source:
        for number, text in enumerate(source, 1):
            inside = inside or re.match(r"\s*assert\(", text) is not None
            if inside:
                numbers.add(number)
                inside = not text.rstrip().endswith(";")
    return numbers


def read(documents):
    """path -> line number -> [times run, [times taken, a branch]]"""
    files = collections.defaultdict(dict)
    for document in documents:
        for file in json.loads(document)["files"]:
            path = os.path.relpath(file["file"])
            if path.startswith(".."):
                continue  # a function of a system header
            for line in file["lines"]:
                known = files[path].setdefault(line["line_number"], [0, []])
                taken = [branch["count"] for branch in line["branches"]]
                known[0] += line["count"]
                known[1] = [sum(pair) for pair in zip(known[1], taken)] or taken
    return files


def counts(path, lines):
    """Lines, lines run, branches, branches taken, and branches of assertions."""
    asserting = asserting_lines(path)
    branches = [taken for number, (_, line) in lines.items() if number not in asserting for taken in line]
    asserted = sum(len(line) for number, (_, line) in lines.items() if number in asserting)
    return [len(lines), sum(run > 0 for run, _ in lines.values()), len(branches), sum(map(bool, branches)), asserted]


def row(name, lines, lines_run, branches, branches_taken, _):
    def share(part, whole):
        return f"{100 * part / whole:6.1f} %" if whole else "       -"

    print(f"{name:32} {lines:7} {share(lines_run, lines)} {branches:9} {share(branches_taken, branches)}")


def missed(total):
    """What the parts lack, a sentence each."""
    for part, column, goal in GOALS:
        whole, found = total[part][:2] if column == "lines" else total[part][2:4]
        if 100 * found < goal * whole or whole == 0:
            yield f"{part}/: {100 * found / max(whole, 1):.1f} % of the {column}, the goal is {goal} %"


def main():
    total = collections.defaultdict(lambda: [0, 0, 0, 0, 0])
    print(f"{'':32} {'lines':>7} {'run':>8} {'branches':>9} {'taken':>8}")
    for path, lines in sorted(read(sys.stdin).items()):
        found = counts(path, lines)
        row(path, *found)
        total[""] = [sum(pair) for pair in zip(total[""], found)]
        for part in PARTS:
            if path.startswith(part + "/"):
                total[part] = [sum(pair) for pair in zip(total[part], found)]
    print()
    for part in PARTS:
        row(part + "/", *total[part])
    print(f"\nNot counted: the {total[''][4]} branches of assertions, of which one side is never to be taken.")
    if "--goals" not in sys.argv[1:]:
        return 0
    lacking = list(missed(total))
    print("\n".join(lacking) or "Every goal is reached.")
    return 1 if lacking else 0


sys.exit(main())
