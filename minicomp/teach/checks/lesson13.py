"""Lesson 13: fixed point, rounded to nearest and stochastically, and a dot product converted once.

x real numbers, <il, fl> il integer and fl fractional bits, eps = 2^-fl, u uniform in [0, 1).
"""

from __future__ import annotations

from functools import partial

import numpy as np

from ...grid.fixed import fixed_range
from ...reference import ENTRIES
from ..asking.exercise import (
    Diagnosis,
    Exercise,
    Mutant,
    Prediction,
    entry_parts,
    hidden,
)
from ..asking.lesson import LessonChecks, Number, Reflection
from .inputs import is_finite

Array = np.ndarray

# ------------------------------------------------------------------------------ rounding to nearest

NEAREST = ENTRIES["nearest_fixed"]


def _nearest(x, il, fl, *, code=None, low=0, high=0, eps=True) -> Array:
    # The switches are how the mutants slip. code: what rounds; low, high: added to the ends.
    lo, hi = fixed_range(il, fl)
    t = np.asarray(x) * 2.0**fl
    q = np.clip(np.ceil(t - 0.5) if code is None else code(t), lo + low, hi + high)
    return q * 2.0**-fl if eps else q


def _wraps(x, il, fl) -> Array:
    half = 2.0 ** (il + fl - 1)
    return ((np.ceil(np.asarray(x) * 2.0**fl - 0.5) + half) % (2 * half) - half) * 2.0**-fl


def _range_of_il(x, il, fl) -> Array:
    # The sign's bit is not counted among the integer bits.
    return _nearest(x, il + 1, fl)


_NEAREST = Exercise(
    id="13.nearest_fixed",
    minutes=8,
    parts=entry_parts(NEAREST),
    mutants=(
        Mutant(
            "tie-up",
            partial(_nearest, code=lambda t: np.floor(t + 0.5)),
            forms=(
                partial(_nearest, code=np.rint),
                partial(_nearest, code=lambda t: np.sign(t) * np.floor(np.abs(t) + 0.5)),
            ),
        ),
        Mutant("truncated", partial(_nearest, code=np.floor), forms=(
            partial(_nearest, code=np.trunc),)),
        Mutant("lowest-lost", partial(_nearest, low=1)),
        Mutant("end-too-far", partial(_nearest, high=1)),
        Mutant("wraps", _wraps),
        Mutant("sign-not-counted", _range_of_il),
        Mutant("codes", partial(_nearest, eps=False)),
    ),
    banned=(
        "minicomp.grid.fixed:fixed_point",
        "minicomp.grid.fixed:round_fixed",
        "minicomp.compress.quant.fixed_point:nearest_fixed",
        "minicomp.kernels.int8.rounding:nearest_round",
        "minicomp.kernels.int8.rounding:nearest_round_ref",
    ),
    reference=NEAREST.fn,
)

# -------------------------------------------------------------------------- rounding stochastically


STOCHASTIC = ENTRIES["stochastic_fixed"]


def _stochastic(x, u, il, fl, *, down=np.floor, up=None, clip=True, eps=True) -> Array:
    # The switches are how the mutants slip. up: which entries go up, of u and what is cut off.
    t, (lo, hi) = np.asarray(x) * 2.0**fl, fixed_range(il, fl)
    cut = t - down(t)
    q = down(t) + (u < cut if up is None else up(u, cut))
    q = np.clip(q, lo, hi) if clip else q
    return q * 2.0**-fl if eps else q


def _noise(x, u, il, fl) -> Array:
    lo, hi = fixed_range(il, fl)
    return np.clip(x + (u - 0.5) * 2.0**-fl, lo * 2.0**-fl, hi * 2.0**-fl)


def _one_draw(x, u, il, fl) -> Array:
    return _stochastic(x, np.full_like(u, u[:1]), il, fl)


_STOCHASTIC = Exercise(
    id="13.stochastic_fixed",
    minutes=12,
    parts=entry_parts(
        STOCHASTIC,
        more=hidden("mean of 100,000", STOCHASTIC.cases["means"], STOCHASTIC.judge, points=3),
    ),
    mutants=(
        Mutant("nearest", lambda x, u, il, fl: _nearest(x, il, fl)),
        Mutant("upside-down", partial(_stochastic, up=lambda u, cut: (u >= cut) & (cut > 0)),
               forms=(partial(_stochastic, up=lambda u, cut: u > cut),)),
        Mutant("coin", partial(_stochastic, up=lambda u, cut: (u < 0.5) & (cut > 0)),
               forms=(partial(_stochastic, up=lambda u, cut: u < 0.5),)),
        Mutant("toward-zero", partial(_stochastic, down=np.trunc)),
        Mutant("one-draw", _one_draw),
        Mutant("at-zero", partial(_stochastic, up=lambda u, cut: u <= cut)),
        Mutant("not-saturated", partial(_stochastic, clip=False)),
        Mutant("noise", _noise),
        Mutant("codes", partial(_stochastic, eps=False)),
    ),
    banned=(
        "minicomp.grid.fixed:fixed_point",
        "minicomp.grid.fixed:round_fixed",
        "minicomp.compress.quant.fixed_point:stochastic_fixed",
        "minicomp.kernels.int8.rounding:stochastic_round",
        "minicomp.kernels.int8.rounding:stochastic_round_ref",
    ),
    reference=STOCHASTIC.fn,
)

# ---------------------------------------------------------------------------------- the dot product

DOT = ENTRIES["fixed_dot"]


def _each_product(a, b, il, fl) -> float:
    return float(_nearest(np.sum(_nearest(a * b, il, fl)), il, fl))


def _narrow_sum(a, b, il, fl, *, rounds=False) -> float:
    # The sum so far has no more bits than the result.
    lo, hi, z = *(q * 2.0**-fl for q in fixed_range(il, fl)), 0.0
    for product in np.atleast_1d(a * b):
        z = float(_nearest(z + product, il, fl)) if rounds else min(max(z + product, lo), hi)
    return float(_nearest(z, il, fl))


_DOT = Exercise(
    id="13.fixed_dot",
    minutes=8,
    parts=entry_parts(DOT),
    mutants=(
        Mutant("each-product", _each_product),
        Mutant("narrow-sum", _narrow_sum, forms=(partial(_narrow_sum, rounds=True),)),
        Mutant("truncated", lambda a, b, il, fl: float(
            _nearest(np.sum(a * b), il, fl, code=np.floor))),
        Mutant("not-converted", lambda a, b, il, fl: float(np.sum(a * b))),
        Mutant("not-saturated", lambda a, b, il, fl: float(_nearest(np.sum(a * b), 30, fl))),
        Mutant("codes", lambda a, b, il, fl: float(_nearest(np.sum(a * b), il, fl, eps=False))),
    ),
    banned=(
        "minicomp.grid.fixed:fixed_point",
        "minicomp.grid.fixed:round_fixed",
        "minicomp.compress.quant.fixed_point:fixed_dot",
        "minicomp.compress.quant.fixed_point:nearest_fixed",
    ),
    reference=DOT.fn,
)

# --------------------------------------------------------------------------------------- the lesson


def _valid_format(x, il, fl) -> str | None:
    x = np.asarray(x)
    if x.ndim != 1 or not is_finite(x, "if", most=20):
        return "x is an array of 1 to 20 finite numbers"
    for name, value in (("il", il), ("fl", fl)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer):
            return f"{name} is an integer"
    if il < 1 or not 2 <= il + fl <= 16:
        return "il is at least 1, and il + fl in 2..16"
    return None


_EIGHTH = 0.125

LESSON = LessonChecks(
    number="13",
    name="fixedpoint",
    exercises=(_NEAREST, _STOCHASTIC, _DOT),
    diagnosis=Diagnosis(
        id="13.broken",
        of=_NEAREST,
        shown_by={
            "tie-up": (np.array([0.5 * _EIGHTH]), 2, 3),
            "truncated": (np.array([0.75 * _EIGHTH]), 2, 3),
            "lowest-lost": (np.array([-2.0]), 2, 3),
            "end-too-far": (np.array([5.0]), 2, 3),
        },
        valid=_valid_format,
        agreeing=(np.array([0.25, -1.0]), 2, 3),
        several=((np.array([0.5 * _EIGHTH, 0.75 * _EIGHTH]), 2, 3), (np.array([-2.0, 5.0]), 2, 3)),
        invalid=(np.array([0.25, -1.0]), 0, 3),
    ),
    predictions=(Prediction("13.p1", unit="%"),),
    reflections=(Reflection("13.r1"),),
    numbers=(
        Number("lost_nearest", "updates lost in the last epoch, nearest", "%", 1),
        Number("lost_stochastic", "updates lost in the last epoch, stochastic", "%", 1),
        Number("arrived_nearest", "movement that arrived, nearest", "%", 1),
        Number("arrived_stochastic", "movement that arrived, stochastic", "%", 1),
        Number("error_float", "error, float32", "%", 2),
        Number("error_nearest", "error, nearest", "%", 2),
        Number("error_stochastic", "error, stochastic", "%", 2),
        Number("error_fine", "error, nearest, 14 fractional bits", "%", 2),
        Number("bytes_float", "file, float32", "kB", 1),
        Number("bytes_fixed", "file, fixed point", "kB", 1),
        Number("slower", "time of an epoch, fixed point / float32", "", 1),
        Number("lost", "updates lost by epoch, nearest", "%", 1),
        Number("arrived", "movement that arrived by epoch, nearest", "%", 1),
        Number("lost_sr", "updates lost by epoch, stochastic", "%", 1),
        Number("arrived_sr", "movement that arrived by epoch, stochastic", "%", 1),
    ),
)
