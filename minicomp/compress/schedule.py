"""How sparsity rises during a training."""

from __future__ import annotations


def agp_sparsity(t: float, *, s_i: float, s_f: float, t0: float, n: int, dt: float) -> float:
    """Returns the sparsity at step t, in 0..1: s_i up to t0, s_f from t0 + n dt on.

    s_i, s_f : first and final sparsity        t0 : first step of the ramp
    n, dt : prunings, steps between
    Source: Zhu & Gupta 2017, eq. (1)
    """
    part = min(max((t - t0) / (n * dt), 0.0), 1.0)
    return s_f + (s_i - s_f) * (1 - part) ** 3
