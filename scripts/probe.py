#!/usr/bin/env python3
"""Linear probe: logistic regression on embeddings, by Newton's method; no other freedom than the weight of L2.

  probe.py LABELS.tsv TRAIN TEST NAME=TRAIN.npy,TEST.npy ...

LABELS.tsv: lines "part<TAB>label" in the order of the rows of each file; parts TRAIN and TEST. The first NAME is the
reference. Prints for each: accuracy of a probe trained on its own embeddings, and of the reference's probe on them (what
a user sees who only changes the encoder). The weight of L2 is chosen on the last fifth of TRAIN by the reference.
"""
import sys

import numpy as np

LAMBDAS = (1e-4, 1e-3, 1e-2, 1e-1)


def fit(x, y, weight):
    x = np.hstack([x, np.ones((len(x), 1))])
    w = np.zeros(x.shape[1])
    penalty = np.full(x.shape[1], weight * len(x))
    penalty[-1] = 0.0
    for _ in range(30):
        p = 1.0 / (1.0 + np.exp(-x @ w))
        gradient = x.T @ (p - y) + penalty * w
        hessian = (x * (p * (1.0 - p))[:, None]).T @ x + np.diag(penalty + 1e-9)
        step = np.linalg.solve(hessian, gradient)
        w -= step
        if np.abs(step).max() < 1e-8:
            break
    return w


def accuracy(w, x, y):
    return 100.0 * np.mean((x @ w[:-1] + w[-1] > 0) == (y > 0.5))


def main():
    labels_file, train, test = sys.argv[1:4]
    rows = [line.rstrip("\n").split("\t") for line in open(labels_file)]
    labels = {part: np.array([float(label) for p, label in rows if p == part]) for part in (train, test)}
    weight = reference = None
    for entry in sys.argv[4:]:
        name, files = entry.split("=", 1)
        x, z = (np.load(f).astype(np.float64) for f in files.split(","))
        if weight is None:
            cut = len(x) * 4 // 5
            scores = [accuracy(fit(x[:cut], labels[train][:cut], w), x[cut:], labels[train][cut:]) for w in LAMBDAS]
            weight = LAMBDAS[int(np.argmax(scores))]
        own = fit(x, labels[train], weight)
        reference = own if reference is None else reference
        print(f"{name}\t{accuracy(own, z, labels[test]):.2f}\t{accuracy(reference, z, labels[test]):.2f}", flush=True)


main()
