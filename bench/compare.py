#!/usr/bin/env python3
"""Two runs of bench_kernels side by side: time, ratio, and whether the difference is more than noise.

    build/bench/bench_kernels --benchmark_repetitions=9 --benchmark_out=old.json
    ...change something...
    build/bench/bench_kernels --benchmark_repetitions=9 --benchmark_out=new.json
    bench/compare.py old.json new.json [--filter conv] [--fail-above 10]

The time of a benchmark is the least CPU time of its repetitions: on a shared machine disturbances only
add. Noise is how far the median lies above the least, in either run, and never taken as less than 2 %. A
ratio above 1 is a gain. Exit status 7 when a benchmark lost more than --fail-above percent and noise.
"""
import argparse
import json
import re
import statistics
import sys

LEAST_NOISE = 0.02
UNITS = {"ns": 1e-3, "us": 1.0, "ms": 1e3, "s": 1e6}


def read(path):
    """name -> CPU times in microseconds; failed benchmarks have none."""
    with open(path, encoding="utf-8") as file:
        runs = json.load(file)["benchmarks"]
    times = {}
    for run in runs:
        if run.get("run_type") == "aggregate":
            continue
        samples = times.setdefault(run["name"], [])
        if not run.get("error_occurred"):
            samples.append(run["cpu_time"] * UNITS[run["time_unit"]])
    return times


def noise(samples):
    return statistics.median(samples) / min(samples) - 1


def compare(old, new):
    """Rows (name, old, new, ratio, noise, verdict); times are None where there are no samples."""
    for name in list(old) + [name for name in new if name not in old]:
        a, b = old.get(name), new.get(name)
        if not a or not b:
            word = "only in new" if a is None else "only in old" if b is None else "failed"
            yield name, min(a) if a else None, min(b) if b else None, None, None, word
            continue
        ratio, width = min(a) / min(b), max(noise(a), noise(b), LEAST_NOISE)
        slower = ratio < 1 / (1 + width)
        verdict = "slower" if slower else "faster" if ratio > 1 + width else "same"
        yield name, min(a), min(b), ratio, width, verdict


def cell(value, form):
    return "-" if value is None else format(value, form)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old")
    parser.add_argument("new")
    parser.add_argument("--filter", default="", help="regular expression on names")
    parser.add_argument("--fail-above", type=float, metavar="PERCENT")
    options = parser.parse_args()
    rows = [row for row in compare(read(options.old), read(options.new)) if re.search(options.filter, row[0])]
    if not rows:
        print("compare.py: no benchmark in common with the filter", file=sys.stderr)
        return 2
    width = max(len(row[0]) for row in rows)
    print(f"{'benchmark':{width}}  {'old us':>10}  {'new us':>10}  {'ratio':>6}  {'noise':>6}  verdict")
    for name, a, b, ratio, wide, verdict in rows:
        print(f"{name:{width}}  {cell(a, '10.1f'):>10}  {cell(b, '10.1f'):>10}  {cell(ratio, '.3f'):>6}  "
              f"{cell(wide, '.1%'):>6}  {verdict}")
    if any(row[5] == "failed" for row in rows):
        return 1
    limit = options.fail_above
    lost = [row for row in rows if limit is not None and row[5] == "slower" and 1 / row[3] > 1 + limit / 100]
    for row in lost:
        print(f"compare.py: {row[0]} takes {1 / row[3] - 1:.1%} longer", file=sys.stderr)
    return 7 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
