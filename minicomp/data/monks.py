"""MONK's problems made from their rules, for a machine without the files.

Source: Thrun and others 1991, CMU-CS-91-197

Robots have six attributes: head shape a1, body shape a2, smiling a3, holding a4, jacket colour a5,
tie a6. The 432 combinations are the test set of each problem, so that part is exact. Which of them
are the training examples was drawn by the authors and cannot be derived: ours are drawn anew, with
as many examples, and in problem 3 as many flipped labels (6 of 122). A result on them is not a
result on the published problem, and the data set says so by `source = "generated"`.
"""

from __future__ import annotations

import itertools

import numpy as np

from .readers import MONK_SIZES

Array = np.ndarray
TRAIN_SIZES = {1: 124, 2: 169, 3: 122}
FLIPPED = {1: 0, 2: 0, 3: 6}


def cases() -> Array:
    """Returns the (432, 6) int64 combinations of attributes, a6 fastest, as in the test files."""
    return np.array(list(itertools.product(*(range(1, size + 1) for size in MONK_SIZES))), np.int64)


def rule(problem: int, a: Array) -> Array:
    """Returns the class of each case, (N,) int64 in 0..1.

    problem : 1, 2 or 3        a : (N, 6) attributes counted from 1
    """
    a1, a2, _, a4, a5, _ = a.T
    if problem == 1:
        return ((a1 == a2) | (a5 == 1)).astype(np.int64)
    if problem == 2:
        return ((a == 1).sum(axis=1) == 2).astype(np.int64)
    if problem == 3:
        return (((a5 == 3) & (a4 == 1)) | ((a5 != 4) & (a2 != 3))).astype(np.int64)
    raise ValueError(f"problem must be in [1, 3], got {problem}")


def generate(problem: int) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """Returns (attributes, classes) for training and for testing; the same on every machine.

    The order of the 432 cases by their numbers from PCG64.random_raw is the draw: its head is the
    training set, kept in the order of the cases; the first of the draw are the flipped ones.
    """
    a = cases()
    y = rule(problem, a)
    drawn = np.argsort(np.random.PCG64(problem).random_raw(len(a)), kind="stable")[
        : TRAIN_SIZES[problem]
    ]
    noisy = y.copy()
    noisy[drawn[: FLIPPED[problem]]] ^= 1
    chosen = np.sort(drawn)
    return (a[chosen], noisy[chosen]), (a, y)
