#!/usr/bin/env python3
"""Counts the cases of a Meson test log and prints what was skipped; fails when anything failed.

Programs of doctest and pytest count by their cases, any other test as one. A line `SKIPPED: name: reason` in a
test's output is one skipped check; a program that dies counts at least one failure.
"""
import json
import re
import sys

CASES = re.compile(r"\[doctest\] test cases:\s*(\d+)\s*\|\s*(\d+) passed\s*\|\s*(\d+) failed")

PYTEST = re.compile(r"^(?:=+ )?((?:\d+ [a-z]+,? ?)+) in [\d.]+s", re.M)
PYTEST_SKIP = re.compile(r"^SKIPPED \[\d+\] \S*?([\w.]+):(\d+): ", re.M)


def count(test):
    """(passed, failed, skipped lines) of one entry of Meson's testlog.json."""
    output = test.get("stdout", "") + test.get("stderr", "")
    output = re.sub(r"\x1b\[[0-9;]*m", "", output)
    output = PYTEST_SKIP.sub(r"SKIPPED: \1, line \2: ", output)
    skipped = [line.strip() for line in output.splitlines() if line.startswith("SKIPPED: ")]
    if test["result"] == "SKIP":
        return 0, 0, skipped or [f"SKIPPED: {test['name']}: the test says that it cannot run here"]
    ok = test["result"] in ("OK", "EXPECTEDFAIL")
    cases = CASES.findall(output)
    for words in PYTEST.findall(output):
        counts = {word: int(n) for n, word in re.findall(r"(\d+) ([a-z]+?)s?\b", words)}
        cases.append((0, counts.get("passed", 0), counts.get("failed", 0) + counts.get("error", 0)))
    passed = sum(int(case[1]) for case in cases) if cases else int(ok)
    failed = sum(int(case[2]) for case in cases)
    return passed, failed if ok else max(failed, 1), skipped


def main(path):
    passed = failed = 0
    skipped = []
    with open(path, encoding="utf-8") as log:
        for line in log:
            p, f, s = count(json.loads(line))
            passed, failed = passed + p, failed + f
            skipped += s
    for line in sorted(set(skipped)):
        print(line)
    print(f"{passed} passed, {failed} failed, {len(set(skipped))} skipped")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
