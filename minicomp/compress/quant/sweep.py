"""OBS for rounding in one sweep over the columns: GPTQ's algorithm, and how scales are tried."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ...grid import dequantize, quantize
from ...tensor import Array

Regroup = Callable[[Array], tuple[Array, Array]]


class Rounded(NamedTuple):
    """Rows on their grid.

    q : (O, weights) codes, int32        rows : (O, C) what they stand for, float64, then the bias
    scale, zero_point : (O, weights)        rise : (O,) of each row's error, by whatever measure
    """

    q: Array
    rows: Array
    scale: Array
    zero_point: Array
    rise: Array

    def where(self, ours: Array, other: Rounded) -> Rounded:
        """Returns these rows where `ours`, (O,) bool, those of the other elsewhere."""
        return Rounded(*(np.where(ours.reshape(-1, *[1] * (a.ndim - 1)), a, b)
                         for a, b in zip(self, other)))


def gptq(W: Array, Hinv: Array, scale, zero_point=0, *, bits: int = 4, grid: str = "narrow",
         weights: int | None = None, kept: Array | None = None, order: Array | None = None,
         block: int = 128, group: int = 0, regroup: Regroup | None = None) -> Rounded:
    """Returns the rows rounded column by column, what is not rounded yet making up for it.

    W : (O, C) rows        Hinv : (C, C), of H = X'X or any multiple of it
    scale, zero_point : broadcast to (O, weights)        bits, grid : see grid/affine.py
    weights : the first so many columns take codes, the others move only; None: all
    kept : (O, weights) bool, entries that may be other than 0; None: all
    order : (weights,) int, in which columns are rounded; None: as they stand
    block : columns between two matrix products; changes rounding errors only
    regroup : called with each `group` of columns as it stands when reached, (O, group), it returns
        scale and zero point, (O,) each, in place of those given; not with an order
    With H^-1 = U'U a column's error is err = (w_j - quant(w_j)) / U_jj, the columns behind it move
    by -err U_j,j.., and its rise of (w - w^)' H (w - w^) is err^2.
    Source: Frantar et al. 2022, arXiv 2210.17323, algorithm 1
    """
    W, weights = np.array(W, np.float64), W.shape[1] if weights is None else weights
    shape = (len(W), weights)
    scale = np.broadcast_to(np.asarray(scale, np.float32), shape).copy()
    zero_point = np.broadcast_to(np.asarray(zero_point, np.int32), shape).copy()
    kept = np.ones(shape, bool) if kept is None else kept
    order = np.arange(weights) if order is None else np.asarray(order)
    at = np.concatenate([order, np.arange(weights, W.shape[1])])
    W, U = W[:, at], np.linalg.cholesky(Hinv[np.ix_(at, at)]).T       # H^-1 = U' U
    q, rise = np.zeros(shape, np.int32), np.zeros(len(W))
    if regroup is not None:                                           # groups lie within blocks
        block = max(block // group, 1) * group
    for start in range(0, len(at), block):
        stop = min(start + block, len(at))
        errors = np.zeros((len(W), stop - start))
        for j in range(start, min(stop, weights)):
            if regroup is not None and j % group == 0:
                of = slice(j, min(j + group, weights))
                scale[:, of], zero_point[:, of] = (a[:, None] for a in regroup(W[:, of]))
            c = order[j]
            q[:, c], back = on_grid(W[:, j], scale[:, c], zero_point[:, c], kept[:, c], bits, grid)
            err = (W[:, j] - back) / U[j, j]
            W[:, j:stop] -= np.outer(err, U[j, j:stop])
            W[:, j], errors[:, j - start] = back, err
        W[:, stop:] -= errors @ U[start:stop, stop:]
        rise += np.einsum("oj,oj->o", errors, errors)
    return Rounded(q, W[:, np.argsort(at)], scale, zero_point, rise)


def on_grid(w: Array, scale: Array, zero_point: Array, kept: Array, bits: int, grid: str
            ) -> tuple[Array, Array]:
    """Returns the codes of w, int32, and the values they stand for, float64; 0 where not kept."""
    code = quantize(w, scale, zero_point, bits=bits, grid=grid)
    back = dequantize(code, scale, zero_point, midrise=grid == "midrise")
    return np.where(kept, code, zero_point), np.where(kept, back, 0).astype(np.float64)
