"""Dependent quantization: two scalar quantizers of which a state machine chooses.

    Q0: the even multiples of the step, 2 k            Q1: 0 and the odd ones, 2 k - sign(k)

A code k moves the machine by its parity, s <- NEXT[s][k & 1], and the state before a code says
which quantizer it belongs to; every row begins in state 0. The points of both together are a grid
twice as fine as either, and the reader, who sees the codes, knows every state: no bit is spent on
the choice. Code 0 is 0 in both.

Source: Schwarz, Nguyen, Marpe & Wiegand 2019, "Hybrid Video Coding with Trellis-Coded
Quantization" (4 states; they are those of H.266/VVC); ISO/IEC 15938-17 (8 states)
"""

from __future__ import annotations

import numpy as np

from ..tensor import Array

# Next state by state and parity, and the quantizer of each state.
NEXT = {4: ((0, 2), (2, 0), (1, 3), (3, 1)),
        8: ((0, 2), (7, 5), (1, 3), (6, 4), (2, 0), (5, 7), (3, 1), (4, 6))}
QUANTIZER = {4: (0, 0, 1, 1), 8: (0, 1, 0, 1, 0, 1, 0, 1)}


def check_states(states: int) -> None:
    """Raises ValueError for a number of states that there is no machine of."""
    if states not in NEXT:
        raise ValueError(f"states must be 4 or 8, got {states}")


def trellis_path(k: Array, states: int) -> Array:
    """Returns the state before each code, uint8 (R, C): 0 before the first of a row.

    k : (R, C) integers        states : 4 or 8
    """
    check_states(states)
    step = np.array(NEXT[states], np.uint8).reshape(-1)
    parity, path = (k.T & 1).astype(np.uint8), np.zeros(k.shape[::-1], np.uint8)
    for c in range(1, len(path)):  # all rows at once
        path[c] = step[2 * path[c - 1] + parity[c - 1]]
    return path.T


def trellis_points(k: Array, states: int) -> Array:
    """Returns what codes stand for, in steps, int32 (R, C): 2 k where Q0 is in, 2 k - sign(k) where
    Q1 is.

    k : (R, C) integers        states : 4 or 8        Source: see the file

    >>> trellis_points(np.array([[1, 1, -1, 0, 2]]), 4)
    array([[ 2,  1, -1,  0,  3]], dtype=int32)
    """
    odd = np.array(QUANTIZER[states], np.int32)[trellis_path(k, states)]
    k = k.astype(np.int32)
    return 2 * k - odd * np.sign(k)
