#!/usr/bin/env python3
"""bench/compare.py on made-up runs: what it calls faster, slower, the same, missing and failed."""
import json
import os
import subprocess
import sys
import tempfile

COMPARE = sys.argv[1]


def run(name, time, unit="us", **more):
    return {"name": name, "run_type": "iteration", "cpu_time": time, "time_unit": unit, **more}


def compare(old, new, *options):
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for name, runs in (("old", old), ("new", new)):
            paths.append(os.path.join(folder, name))
            with open(paths[-1], "w", encoding="utf-8") as file:
                json.dump({"benchmarks": runs}, file)
        done = subprocess.run([sys.executable, COMPARE, *paths, *options], capture_output=True, text=True, check=False)
    return done.returncode, {line.split()[0]: line.split() for line in done.stdout.splitlines()[1:]}


steady = [run("a", t) for t in (10.0, 10.1, 10.1)]
status, rows = compare(steady, [run("a", t) for t in (5.0, 5.0, 5.05)])
assert status == 0 and rows["a"][1:] == ["10.0", "5.0", "2.000", "2.0%", "faster"], rows
status, rows = compare(steady, [run("a", t) for t in (15000.0, 15000.0)], "--fail-above", "10")
assert status == 7 and rows["a"][5] == "slower", (status, rows)
status, rows = compare(steady, [run("a", 0.0099, "ms")], "--fail-above", "10")  # a change of unit, and noise
assert status == 0 and rows["a"][2] == "9.9" and rows["a"][5] == "same", rows
status, rows = compare([run("a", t) for t in (10.0, 14.0, 15.0)], [run("a", 12.0)], "--fail-above", "10")
assert status == 0 and rows["a"][4:] == ["40.0%", "same"], rows  # a noisy run proves nothing
aggregate = {"name": "a_mean", "run_type": "aggregate", "cpu_time": 1.0, "time_unit": "us"}
status, rows = compare(steady + [run("gone", 1.0), aggregate], steady + [run("added", 1.0)])
assert status == 0 and set(rows) == {"a", "gone", "added"}, rows
assert rows["gone"][5:] == ["only", "in", "old"] and rows["added"][5:] == ["only", "in", "new"], rows
status, rows = compare(steady, [run("a", 1.0, error_occurred=True)])
assert status == 1 and rows["a"][5] == "failed", (status, rows)
assert compare(steady, steady, "--filter", "nothing")[0] == 2
