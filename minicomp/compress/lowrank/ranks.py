"""Ranks: where factors begin to pay, how much they lose, and ranks under a budget.

W (m, k) with singular values sigma_1 >= sigma_2 >= ..., t of them kept. The factors (m, t) and
(t, k) hold t (m + k) numbers instead of m k, so that they pay only below the break-even rank

    t < m k / (m + k)                                                      (Denton et al. 2014)

and no matrix of rank t is nearer to W than the truncated one:

    min |W - W_t|_F^2 = sum_{i > t} sigma_i^2                        (Eckart & Young 1936)

A budget over several layers is a knapsack: the gains sigma_i^2 of a layer fall, and each rank costs
the same, so that taking the best gain per cost first is the optimum wherever it fills the budget.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...tensor import Array

BYTES = 4  # of a float32


def break_even_rank(m: int, k: int) -> int:
    """Returns the largest rank at which the factors of an m x k matrix hold fewer numbers than it:
    the largest t < m k / (m + k), 0 where there is none.

    Source: Denton et al. 2014 (arXiv 1404.0736), section 3

    >>> break_even_rank(300, 784)
    216
    """
    if min(m, k) < 1:
        raise ValueError(f"sizes must be at least 1, got {m} x {k}")
    return paying_rank(m + k, m * k)


def paying_rank(each: int, whole: int) -> int:
    """Returns the largest rank t whose t each stays below `whole`, what the layer costs as it is.

    each : cost of a rank, at least 1
    """
    return (whole - 1) // each


def energy_rank(s: Array, energy: float) -> int:
    """Returns the least rank t, at least 1, with sum_{i <= t} s_i^2 >= energy sum_i s_i^2.

    s : (n,) singular values, falling        energy : in (0, 1], of the squares
    Rounding of the sums does not add a rank: a shortfall of 1e-12 of the whole is none.
    """
    if not 0 < energy <= 1:
        raise ValueError(f"energy must be in (0, 1], got {energy}")
    kept = np.cumsum(np.square(np.asarray(s, np.float64)))
    return 1 + int(np.searchsorted(kept, (energy - 1e-12) * kept[-1]))


def ranks_under_bytes(spectra: Sequence[Array], shapes: Sequence[tuple[int, int]],
                      budget: int) -> list[int]:
    """Returns the rank of each matrix when all factors together take at most `budget` bytes.

    spectra : of each the singular values (min(m, k),), falling        shapes : of each (m, k)
    budget : bytes, 4 a number
    A matrix that stays as it is has rank min(m, k). The choice is that of `ranks_under_budget`.

    >>> ranks_under_bytes([np.array([4.0, 3.0, 1.0])], [(3, 8)], 4 * 22)
    [2]
    """
    each, whole = [m + k for m, k in shapes], [m * k for m, k in shapes]
    return ranks_under_budget(spectra, each, whole, budget / BYTES)


def ranks_under_budget(spectra: Sequence[Array], each: Sequence[float], whole: Sequence[float],
                       budget: float) -> list[int]:
    """Returns the rank of each layer when their costs together are at most `budget`.

    spectra : of each layer the singular values, falling
    each, whole : cost of a rank of each layer, and of the layer as it is
    Every layer begins at rank 1, or whole where that costs no more. Then, of the steps that fit
    into what is left of the budget, the one of most energy per cost is taken, ties to the earlier
    layer, until none fits. A layer's next step is its next rank, of energy sigma^2; from its last
    rank that pays it is the whole layer, of all the energy that is still dropped. Of a whole layer
    the rank is that of its full spectrum.
    Raises ValueError where even rank 1 everywhere is beyond the budget.
    """
    steps = [_steps(np.asarray(s, np.float64), e, w) for s, e, w in zip(spectra, each, whole)]
    left = budget - sum(min(e, w) for e, w in zip(each, whole))
    if left < 0:
        raise ValueError(f"budget must be at least {budget - left:,.0f}, got {budget:,.0f}")
    taken = [0] * len(steps)
    while True:
        open_steps = [(s[t], i) for i, (s, t) in enumerate(zip(steps, taken)) if t < len(s)]
        fitting = [(-gain / cost, i) for (gain, cost), i in open_steps if cost <= left]
        if not fitting:
            return [len(s) if t == len(step) else t + 1
                    for s, step, t in zip(spectra, steps, taken)]
        i = min(fitting)[1]
        left -= steps[i][taken[i]][1]
        taken[i] += 1


def _steps(s: Array, each: float, whole: float) -> list[tuple[float, float]]:
    # (energy gained, cost) of each step after rank 1, the last of which makes the layer whole.
    last = min(int(np.ceil(whole / each)) - 1, len(s))
    if last < 1:
        return []
    squares = np.square(s)
    return [(float(g), each) for g in squares[1:last]] + [
        (float(squares[last:].sum()), whole - last * each)]
