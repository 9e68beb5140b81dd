#!/usr/bin/env python3
"""scripts/study_pages.py: statistics against numbers worked out by hand, and pages that say what is missing.

   check_study.py [--plant]      --plant: results that must not count as right
"""
import os
import sys
from types import SimpleNamespace

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "scripts"))
sys.dont_write_bytecode = True
import study  # noqa: E402
import study_pages as pages  # noqa: E402

planted = "--plant" in sys.argv
failures = []


def check(what, ok, *details):
    print(("ok      " if ok else "FAILED  ") + what, flush=True)
    if not ok:
        failures.append(what)
        print("        ", *details)


x, y = [1, 2, 3, 4], [2, 4, 5, 9]
if planted:
    y[3] = 8
# Centred: x -1.5 -0.5 0.5 1.5, y -3 -1 0 4: 11 / sqrt(5 * 26).
check("pearson", abs(pages.pearson(x, y) - 11 / 130 ** 0.5) < 1e-12, pages.pearson(x, y))
check("ranks: ties share the mean of theirs", pages.ranks([3, 1, 3, 0]) == [2.5, 1, 2.5, 0])
check("spearman: of any rising curve 1",
      abs(pages.pearson(pages.ranks(x), pages.ranks([v ** 3 for v in x])) - 1) < 1e-12)
check("slope", abs(pages.slope(x, y) - 2.2) < 1e-12, pages.slope(x, y))
left = pages.without(x, y)
check("what a line leaves is level", abs(pages.slope(x, left)) < 1e-12, left)
check("cell: mean and its standard error", pages.cell([1.0, 2.0, 3.0], 2) == "2.00 ± 0.58", pages.cell([1.0, 2.0, 3.0], 2))
check("cell: one run has no error", pages.cell([1.0], 2) == "1.00" and pages.cell([], 2) == "")

sizes = dict(study.MEDIUM, **study.NETWORKS["fashion"]["medium"], seeds=[1])
if planted:
    sizes["budgets"] = [75]
row = lambda value: [(value, 0.5)]
points = {"eagl": {75: row(0.90), 60: row(0.88), 90: row(0.91)}, "alps": {75: row(0.905), 60: row(0.89), 90: row(0.92)},
          "hawq": {75: row(0.89)}}
run = {"seconds": 1.0, "cpu_seconds": 1.0, "peak_mib": 10.0}
alps = dict(run, result={"runs": [{"group": "conv", "gain": 0.1, "seconds": 2.0}]})
options = SimpleNamespace(size="medium", selectors=None)
found = ({"float": 0.91, "longer": 0.912, "w4a4": 0.911}, alps, points, dict.fromkeys(points, run))
text, figures = pages.frontier_page(SimpleNamespace(name="fashion", sizes=sizes, options=options, full=study.FULL,
                                                    needs=study.NEEDS, net=study.NETWORKS["fashion"]), found)
check("page: 4 bit beside the better float network", "All 4 bit: -0.10 points" in text, text)
check("page: at 75 %, and means of all budgets", "| alps | -0.70 | +0.83 | +0.00 |" in text, text)
check("page: who lacks budgets has no mean", "| hawq | -2.20 |  |  |" in text, text)
check("page: says what is missing", "hawq at 60, 90 %; fit at 75, 60, 90 %" in text and "eagl at" not in text, text)
check("page: says that it is reduced", "**Reduced**" in text, text)
check("figures: a line a selector", all(figure.count("<polyline") == 3 for figure in figures.values()), figures)
print(f"{len(failures)} failures")
sys.exit(1 if failures else 0)
