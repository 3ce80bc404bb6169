"""The reference functions of fixed point, and their cases: rounding, draws, a dot product."""

from __future__ import annotations

import numpy as np

from ..compress.quant.fixed_point import fixed_dot, nearest_fixed, stochastic_fixed
from ..grid.fixed import fixed_range
from ..kernels.int8.rounding import draws
from .draw import Draw
from .entry import Case, Cases, Entry
from .judges import Message, difference

Array = np.ndarray
MANY = 100_000  # draws of a mean
SIGMAS = 5.0  # by so many deviations a mean of MANY may be off: one in 1.7 million is

# ---------------------------------------------------------------------------------------- the cases


def _numbers(draw: Draw) -> list[Case]:
    cases = []
    for i in range(24):
        il, fl = draw.integer(1, 5), draw.integer(1, 8)
        x = 2.0 ** (il - 1) * draw.normal(draw.choice([1, 2, 5, 9]))  # some beyond the ends
        x = np.rint(2 * 2.0**fl * x) / 2 / 2.0**fl if i % 3 == 1 else x  # on the grid, and ties
        cases.append({"x": np.abs(x) if i % 6 == 2 else x, "il": il, "fl": fl})
    return cases


NUMBERS = Cases(
    tiny=[
        {"x": np.array([0.25, 0.75, -0.25, -0.75]), "il": 3, "fl": 1},  # ties go down
        {"x": np.array([0.3, 0.4, -0.3, 1.0]), "il": 3, "fl": 1},
        {"x": np.array([3.4, 3.9, 9.0, -3.9, -4.0, -9.0]), "il": 3, "fl": 1},
    ],
    golden=[{"x": np.array([-2.5, -0.9375, -0.0625, 0.1875, 0.7, 1.96875, 2.0]), "il": 2,
             "fl": 3}],
    property=_numbers,
    wide=lambda draw: [{"x": 4 * draw.normal(65), "il": il, "fl": fl}
                       for il, fl in ((2, 14), (6, 10), (8, 8), (1, 0), (4, -2), (12, 12))],
)


def evenly(n: int) -> Array:
    """Returns n numbers of 0..1, one in the middle of each nth, not in order.   n : not by 5"""
    return ((5 * np.arange(n)) % n + 0.5) / n


def _spread(draw: Draw):
    # Twenty numbers, each with 32 draws of which every 32nd of 0..1 has one.
    for i in range(20):
        fl, il = draw.integer(1, 8), draw.integer(3, 6)
        share = 0.0 if i % 5 == 4 else float(draw.uniform(1)[0])
        u = (draw.permutation(32) + draw.uniform(32)) / 32
        yield {"x": np.full(32, (draw.integer(-3, 4) + share) * 2.0**-fl), "u": u, "il": il,
               "fl": fl}


def _means(draw: Draw):
    for share in (0.0625, 0.5, 0.8):
        x = (draw.integer(-8, 8) + share) / 16
        yield {"x": np.full(MANY, x), "u": draw.uniform(MANY), "il": 3, "fl": 4}


DRAWN = Cases(
    tiny=[
        {"x": np.full(4, 0.125), "u": evenly(4), "il": 3, "fl": 1},
        {"x": np.full(4, -0.125), "u": evenly(4), "il": 3, "fl": 1},
        {"x": np.array([1.0, 1.0, -0.5, 9.0, -9.0, 3.9]),
         "u": np.array([0.0, 0.99, 0.0, 0.5, 0.5, 0.01]), "il": 3, "fl": 1},
    ],
    golden=[{"x": np.full(8, 0.78125), "u": evenly(8), "il": 2, "fl": 2}],
    property=_spread,
    means=_means,
)


def _vectors(draw: Draw):
    for i in range(20):
        il, fl, n = draw.integer(1, 5), draw.integer(1, 6), draw.choice([1, 2, 3, 7, 20])
        half = 2 ** (il + fl - 1)
        most = half if i % 4 == 1 else max(1, half // 2)
        least = 0 if i % 5 == 2 else -most
        a, b = (draw.integers(low, most - 1, n) * 2.0**-fl for low in (least, -most))
        yield {"a": a, "b": b, "il": il, "fl": fl}


VECTORS = Cases(
    tiny=[
        {"a": np.full(3, 0.25), "b": np.full(3, 0.25), "il": 3, "fl": 2},  # 3/4 of a step
        {"a": np.array([3.0, 1.5, -3.0]), "b": np.array([1.5, 0.5, 1.5]), "il": 3, "fl": 1},
        {"a": np.array([3.5, -3.5]), "b": np.array([3.5, -0.5]), "il": 3, "fl": 1},
        {"a": np.array([0.5]), "b": np.array([-1.5]), "il": 3, "fl": 1},  # -0.75: a tie
    ],
    golden=[{"a": np.array([7, -3, 5, 2, -1]) / 4, "b": np.array([1, 3, 3, -7, 5]) / 4, "il": 2,
             "fl": 2}],
    property=_vectors,
)


def _keys(draw: Draw):
    for n in (0, 1, 2, 3, 8, 65):
        for key in (0, 1, 2**63, 2**64 - 1):
            yield {"n": n, "key": key}


# ---------------------------------------------------------------------------------------- the judge


def rounds_right(case, result) -> Message | None:
    """Says what is wrong with the numbers: not on the grid, not next to x, or wrong on average.

    Which draws go up is left open. Where all x are one number, the mean decides: of few draws,
    which are spread evenly, off by less than one going up; of many by at most SIGMAS deviations.
    """
    x, u, il, fl = (case[name] for name in ("x", "u", "il", "fl"))
    wrong = difference(np.zeros(len(x)), np.asarray(result) * 0 if _is_finite(result) else result)
    if wrong:
        return wrong
    (lo, hi), t, got = fixed_range(il, fl), x * 2.0**fl, np.asarray(result, float)
    q = got * 2.0**fl
    down = np.clip(np.floor(t), lo, hi)
    if wrong := _first(q != np.rint(q), "off-grid", "is not a multiple of eps", got, x, fl):
        return wrong
    if wrong := _first((q < lo) | (q > hi), "out-of-range", "is beyond the range", got, x, fl):
        return wrong
    beside = (q != down) & (q != np.clip(np.ceil(t), lo, hi))
    if wrong := _first(beside, "not-next-to-x", "is not next to x on the grid", got, x, fl):
        return wrong
    share = float(t[0] - np.floor(t[0]))
    if (x != x[0]).any() or not lo <= t[0] <= hi:
        return None
    ups, n = float((q - down).sum()), len(x)
    most = SIGMAS * np.sqrt(n * share * (1 - share)) if n >= MANY else 1 - 1e-9
    if abs(ups - n * share) <= most:
        return None
    told = f"expected {100 * share:.4g} % of {n} draws to go up, got {100 * ups / n:.4g} %"
    return Message("biased", "the mean of the results is not x", told)


def _is_finite(result) -> bool:
    array = np.asarray(result)
    return array.dtype.kind in "fiu" and bool(np.isfinite(array).all())


def _first(wrong: Array, slug: str, says: str, got: Array, x: Array, fl: int) -> Message | None:
    if not wrong.any():
        return None
    i = int(np.argmax(wrong))
    told = f"entry {i}: x = {x[i]:.6g}, eps = {2.0**-fl:g}, got {got[i]:.6g}"
    return Message(slug, f"a result {says}", told)


# -------------------------------------------------------------------------------------- the entries

_GUPTA = "Gupta et al. 2015, arXiv:1502.02551, section 3"

FIXED: dict[str, Entry] = {
    "nearest_fixed": Entry(nearest_fixed, NUMBERS, "ties go down; equal in every entry",
                           _GUPTA + ".1"),
    "stochastic_fixed": Entry(
        stochastic_fixed, DRAWN,
        "either neighbour on the grid; of evenly spread draws the right number goes up, the mean "
        f"of {MANY:,} is within {SIGMAS:g} standard deviations", _GUPTA + ".1",
        judge=rounds_right),
    "fixed_dot": Entry(fixed_dot, VECTORS, "exact sum, converted once, ties go down",
                       _GUPTA + ".2"),
    "splitmix_uniform": Entry(draws, _keys, "equal in every entry",
                              "Steele et al. 2014; minicomp/kernels/int8/rounding.py"),
}
