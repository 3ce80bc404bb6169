"""The reference functions of trainings on grids, and their cases."""

from __future__ import annotations

import numpy as np

from ..compress.quant.dorefa import dorefa_activations, dorefa_weights
from ..compress.quant.inq import inq_frozen, inq_quantize, largest_exponent
from ..compress.quant.lsq import initial_step, step_gain
from ..compress.quant.qat import ema
from ..grid import lsq_quantize, pact_quantize
from ..tensor import Array, Tensor, grad
from .draw import Draw
from .entry import CLOSE, LEAST, Case, Cases, Entry


def lsq_gradients(v: Array, s: float, lo: int, hi: int, gain: float) -> tuple[Array, float]:
    """Returns (d sum(v^) / dv, gain d sum(v^) / ds) of v^ = s clip(rint(v / s), lo, hi)."""
    t = Tensor(v, requires_grad=True), Tensor(np.array([s]), requires_grad=True)
    dv, ds = grad(lsq_quantize(*t, lo=lo, hi=hi, gain=gain).sum(), list(t))
    return dv.data, float(ds.data[0])


def pact_gradients(x: Array, alpha: float, k: int) -> tuple[Array, float]:
    """Returns (d sum(y) / dx, d sum(y) / d alpha) of y = clip(x, 0, alpha) on k bits."""
    hi = 2**k - 1
    t = Tensor(x, requires_grad=True), Tensor(np.array([alpha / hi]), requires_grad=True)
    dx, ds = grad(pact_quantize(*t, hi=hi).sum(), list(t))
    return dx.data, float(ds.data[0]) * hi


def _steps(draw: Draw) -> list[Case]:
    return [{"v": draw.normal(40), "s": float(2.0**-i), "lo": lo, "hi": hi, "gain": gain}
            for i in range(4) for lo, hi in ((-2, 1), (0, 3), (-8, 7)) for gain in (1.0, 0.25)]


STEPS = Cases(
    tiny=[{"v": np.array([-3.0, -1.2, 0.3, 0.6, 0.9, 5.0]), "s": 0.5, "lo": -2, "hi": 1,
           "gain": 1.0}],
    property=_steps)

CLIPPED = Cases(
    tiny=[{"x": np.array([-1.0, 0.0, 0.4, 1.9, 2.0, 3.0]), "alpha": 2.0, "k": 2}],
    property=lambda draw: [{"x": 2 * draw.normal(40), "alpha": 2.0**i, "k": k}
                           for i in (-1, 0, 2) for k in (1, 2, 4)])

SIZES = Cases(
    tiny=[{"v": np.array([1.0, -3.0]), "Qp": 4}, {"v": np.zeros(3), "Qp": 1}],
    property=lambda draw: [{"v": draw.normal(30), "Qp": Qp} for Qp in (1, 7, 127)])

COUNTS = Cases(tiny=[{"n": n, "Qp": Qp} for n in (1, 100, 25000) for Qp in (1, 3, 127)])

MOVES = Cases(
    tiny=[{"a": np.array([-1.0, 2.0]), "batch": np.array([-2.0, 4.0]), "decay": 0.5}],
    property=lambda draw: [{"a": draw.normal(2), "batch": draw.normal(2), "decay": d}
                           for d in (0.0, 0.9, 0.99)])

WEIGHTS = Cases(
    tiny=[{"w": np.array([-0.5, 0.0, 0.1, 1.0]), "k": 2}],
    property=lambda draw: [{"w": draw.normal(30), "k": k} for k in (1, 2, 3, 8)])

ACTIVATIONS = Cases(
    tiny=[{"a": np.array([-1.0, 0.2, 0.5, 0.9, 2.0]), "k": 2}],
    property=lambda draw: [{"a": draw.normal(30), "k": k} for k in (1, 3, 8)])

PEAKS = Cases(
    tiny=[{"s": s} for s in (0.7, 0.75, 0.74, 1.0, 1.49, 1.5, 3.0)],
    property=lambda draw: [{"s": float(4 * draw.uniform(1)[0]) + 1e-3} for _ in range(20)])

POWERS = Cases(
    tiny=[{"w": np.array([0.0, 0.11, 0.13, -0.37, 0.38, 0.74, -0.76, 1.4]), "n1": 0, "bits": 4}],
    property=lambda draw: [{"w": draw.normal(40), "n1": 1, "bits": bits} for bits in (2, 3, 5)])


def _portions(draw: Draw) -> list[Case]:
    cases = []
    for portion in (0.5, 0.75, 1.0):
        live = draw.uniform(24) < 0.8
        w = np.rint(4 * draw.normal(24)) * live
        cases.append({"w": w, "frozen": np.zeros(24, bool), "live": live, "portion": portion})
        first = inq_frozen(w, np.zeros(24, bool), live, 0.25)
        cases.append({"w": w, "frozen": first, "live": live, "portion": portion})
    return cases


PORTIONS = Cases(
    tiny=[{"w": np.array([1.0, -2.0, 2.0, 0.5]), "frozen": np.zeros(4, bool),
           "live": np.ones(4, bool), "portion": 0.25}],
    property=_portions)

_LSQ = "Esser et al. 2020, arXiv:1902.08153, "
_DOREFA, _INQ = "Zhou et al. 2016, arXiv:1606.06160, ", "Zhou et al. 2017, arXiv:1702.03044, "

QUANT_TRAINING: dict[str, Entry] = {
    "ema": Entry(ema, MOVES, CLOSE, "Jacob et al. 2018, arXiv:1712.05877, section 3.1", rtol=1e-9),
    "initial_step": Entry(initial_step, SIZES, "2 mean |v| / sqrt(Qp), float32, 1 where it is 0; "
                          "|got - expected| <= 1e-6 expected", _LSQ + "section 2.1", rtol=1e-6),
    "step_gain": Entry(step_gain, COUNTS, CLOSE, _LSQ + "section 2.2", rtol=1e-9),
    "lsq_gradients": Entry(lsq_gradients, STEPS, f"{CLOSE}; half to even; an end itself is outside",
                           _LSQ + "eqs. (3), (5)", rtol=1e-9, names=("dv", "ds")),
    "pact_gradients": Entry(pact_gradients, CLIPPED, f"{CLOSE}; alpha itself is clipped",
                            "Choi et al. 2018, arXiv:1805.06085, eqs. (1)-(3)", rtol=1e-9,
                            names=("dx", "dalpha")),
    "dorefa_weights": Entry(dorefa_weights, WEIGHTS, f"{CLOSE}; half to even", _DOREFA + "eq. (9)",
                            rtol=1e-9),
    "dorefa_activations": Entry(dorefa_activations, ACTIVATIONS, f"{CLOSE}; half to even",
                                _DOREFA + "eq. (11)", rtol=1e-9),
    "largest_exponent": Entry(largest_exponent, PEAKS, "equal", _INQ + "eq. (2)"),
    "inq_quantize": Entry(inq_quantize, POWERS, "equal; 2^(bits-2) exponents; what lies at a mean "
                          "of two levels goes up", _INQ + "eq. (4)"),
    "inq_frozen": Entry(inq_frozen, PORTIONS, f"equal; {LEAST}", _INQ + "section 2.2"),
}
