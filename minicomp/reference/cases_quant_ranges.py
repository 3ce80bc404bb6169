"""The reference functions of affine grids and of the ranges they cover, and their cases."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..compress.quant.ranges import (histogram_percentile, js_divergences, js_threshold,
                                     kl_divergences, kl_threshold, mse_range, range_error,
                                     reverse_divergences, symmetric_kl_threshold)
from ..grid import (affine_params, code_range, dequantize, fake_quantize, quantize,
                    symmetric_scale)
from ..tensor import Tensor, grad
from .draw import Draw
from .entry import CLOSE, Case, Cases, Entry
from .judges import Array, Judge, Message, copied, difference


def fake_quantize_gradient(x: Array, scale, zero_point, lo: int, hi: int) -> Array:
    """Returns d sum(fake_quantize(x)) / dx: 1 where the code was not clipped, else 0."""
    t = Tensor(x, requires_grad=True)
    return grad(fake_quantize(t, scale, zero_point, lo=lo, hi=hi).sum(), t).data


# ---------------------------------------------------------------------------------------- the cases

_ENDS = ((-1.0, 1.0), (0.0, 6.0), (2.0, 3.4), (-3.4, -2.0), (0.0, 0.0), (-0.3, 0.0), (-1e-6, 5.0))


def _ranges(draw: Draw) -> list[Case]:
    ends = [np.sort(draw.normal(2)) for _ in range(20)]
    return [{"r_min": float(lo), "r_max": float(hi), "bits": draw.choice((1, 2, 4, 8, 16)),
             "grid": draw.choice(("unsigned", "full"))} for lo, hi in ends]


RANGES = Cases(
    tiny=[{"r_min": lo, "r_max": hi, "bits": 8, "grid": grid}
          for lo, hi in _ENDS for grid in ("unsigned", "full")],
    property=_ranges,
    channels=lambda draw: [{"r_min": -draw.uniform(5), "r_max": draw.uniform(5), "bits": bits,
                            "grid": "full"} for bits in (4, 8)])

PEAKS = Cases(
    tiny=[{"peak": p, "bits": 8, "grid": g} for p in (0.0, 1.0, 127.0)
          for g in ("narrow", "full", "midrise")],
    property=lambda draw: [{"peak": draw.uniform(4), "bits": bits, "grid": grid}
                           for bits in (2, 4, 16) for grid in ("narrow", "full", "midrise")])


def _numbers(draw: Draw) -> list[Case]:
    # Ties, numbers beyond the grid, zeros; scales that are powers of two make ties exact.
    cases = []
    for i in range(12):
        grid, bits = draw.choice(("unsigned", "full", "narrow", "midrise")), draw.choice((2, 4, 8))
        x = np.rint(8 * draw.normal(40)) / 4 if i % 2 else draw.normal(40)
        shifted = grid in ("unsigned", "full")
        zero_point = draw.integer(*code_range(bits, grid)) if shifted else 0
        cases.append({"x": x.astype(np.float32), "scale": np.float32(2.0 ** -(i % 5)),
                      "zero_point": zero_point, "bits": bits, "grid": grid})
    return cases


NUMBERS = Cases(
    tiny=[{"x": np.array([-0.5, 0.0, 0.5, 1.5, 2.5, 300.0], np.float32), "scale": np.float32(1),
           "zero_point": 3, "bits": 8, "grid": "unsigned"}],
    property=_numbers)


def _codes(draw: Draw) -> list[Case]:
    return [{"q": quantize(**case), "scale": case["scale"], "zero_point": case["zero_point"]}
            for case in NUMBERS(draw)]


def _clipped(draw: Draw) -> list[Case]:
    cases = []
    for case in NUMBERS(draw):
        if case["grid"] != "midrise":
            lo, hi = code_range(case["bits"], case["grid"])
            cases.append({"x": case["x"], "scale": case["scale"],
                          "zero_point": case["zero_point"], "lo": lo, "hi": hi})
    return cases


def histogram(x: Array, n: int) -> Array:
    """Returns the counts of |x| in n bins up to the largest |x|, float64."""
    at = np.minimum(np.abs(x) / np.abs(x).max() * n, n - 1).astype(np.int64)
    return np.bincount(at, minlength=n).astype(np.float64)


def _histograms(draw: Draw) -> list[Case]:
    cases = []
    for n, levels in ((16, 4), (50, 7), (64, 8), (300, 16)):
        normal = draw.normal(500)
        for x in (normal, normal**3, np.append(normal, 30.0)):
            cases.append({"counts": histogram(x, n), "width": 0.25, "levels": levels})
    return cases


HISTOGRAMS = Cases(
    tiny=[{"counts": np.array([4.0, 2.0, 1.0, 1.0]), "width": 0.5, "levels": 2},
          {"counts": np.array([5.0, 4.0, 0.0, 0.0, 1.0]), "width": 1.0, "levels": 2},
          {"counts": np.array([5.0, 4.0, 0.0, 0.0, 0.0]), "width": 1.0, "levels": 2}],
    property=_histograms,
    golden=lambda draw: [{"counts": histogram(draw.normal(4000), 2048), "width": 1 / 256,
                          "levels": 128}])

PERCENTILES = Cases(
    tiny=[{"counts": np.array([90.0, 9.0, 0.0, 1.0, 0.0]), "width": 0.5, "percentile": p,
           "edge": edge} for p in (50.0, 90.0, 99.0, 99.5, 100.0) for edge in ("right", "left")],
    property=lambda draw: [{"counts": histogram(draw.normal(300), 64), "width": 0.125,
                            "percentile": p, "edge": "right"} for p in (90.0, 99.0, 99.9)])

TENSORS = Cases(
    tiny=[{"x": np.array([0.0, 0.5, 1.0, 8.0]), "bits": 2, "grid": "unsigned"},
          {"x": np.array([-1.0, 0.25, 1.0]), "bits": 2, "grid": "narrow"},
          {"x": np.array([2.0, 3.4]), "bits": 4, "grid": "unsigned"},
          {"x": np.zeros(3), "bits": 8, "grid": "unsigned"}],
    property=lambda draw: [{"x": draw.normal(200) ** power, "bits": bits, "grid": grid}
                           for power in (1, 2, 3) for bits in (2, 4) for grid in
                           ("unsigned", "narrow")])

# --------------------------------------------------------------------------------------- the judges


def judge_cut(threshold: Callable, divergences: Callable) -> Judge:
    """Returns the judge of (T, divergence): of cuts whose divergences agree to 1e-9 any will do."""

    def judge(case: Case, result) -> Message | None:
        best = threshold(**copied(case))
        wrong = difference(best, result, rtol=1e-9, names=("T", "the divergence"))
        if wrong is None or wrong.slug != "wrong-value":
            return wrong
        T, found = map(float, result)
        each = divergences(case["counts"], levels=case["levels"])
        cut = T / case["width"] - 0.5 - case["levels"]
        on = 0 <= round(cut) < len(each) and abs(cut - round(cut)) < 1e-6
        if on and max(abs(each[round(cut)] - best[1]), abs(found - best[1])) <= 1e-9:
            return None
        return wrong

    return judge


def judge_range(case: Case, result) -> Message | None:
    """The error decides: at most 0.1 % more than that of the reference's range."""
    wrong = difference(mse_range(**copied(case)), result, names=("r_min", "r_max"))
    if wrong is None or wrong.slug != "wrong-value":
        return wrong
    ends = tuple(map(float, result))
    if not ends[0] <= 0 <= ends[1]:
        return Message("no-zero", f"a range must contain 0, got {ends[0]:g} .. {ends[1]:g}")
    how = {"bits": case["bits"], "grid": case["grid"]}
    least, error = (range_error(case["x"], *r, **how) for r in (mse_range(**copied(case)), ends))
    if error <= 1.001 * least + 1e-12 * float(np.square(case["x"]).sum()):
        return None
    return Message("too-far", f"a squared error of {least:g} is expected, got {error:g}")


def _both(counts: Array, levels: int) -> Array:
    return kl_divergences(counts, levels=levels) + reverse_divergences(counts, levels=levels)


# -------------------------------------------------------------------------------------- the entries

_JACOB, _MIGACZ = "Jacob et al. 2018, arXiv:1712.05877, ", "Migacz 2017, GTC S7310"
_CUT = "the cut of least divergence, nats, of equal ones (1e-9) any; a cut whose last bin is empty "

QUANT_RANGES: dict[str, Entry] = {
    "affine_params": Entry(
        affine_params, RANGES, "equal; 0 in the range; scale float32, half to even",
        _JACOB + "section 3", names=("scale", "zero_point")),
    "symmetric_scale": Entry(
        symmetric_scale, PEAKS, "equal, float32: peak / q_max, on midrise / (q_max + 1/2)",
        _JACOB + "section 3"),
    "quantize": Entry(quantize, NUMBERS, "equal codes; float32 division, half to even",
                      _JACOB + "eq. (1)"),
    "dequantize": Entry(dequantize, Cases(property=_codes), "equal, float32", _JACOB + "eq. (1)"),
    "fake_quantize": Entry(fake_quantize, Cases(property=_clipped), "equal, float32",
                           _JACOB + "eq. (12)"),
    "fake_quantize_gradient": Entry(
        fake_quantize_gradient, Cases(property=_clipped), "1 where no code was clipped, else 0",
        "Bengio et al. 2013, arXiv:1308.3432; Krishnamoorthi 2018, arXiv:1806.08342, section 2.4"),
    "kl_threshold": Entry(
        kl_threshold, HISTOGRAMS, _CUT + "while outliers are folded into it is none", _MIGACZ,
        judge=judge_cut(kl_threshold, kl_divergences)),
    "symmetric_kl_threshold": Entry(
        symmetric_kl_threshold, HISTOGRAMS, _CUT + "while outliers are folded into it is none",
        _MIGACZ + ", with Jeffreys' divergence", judge=judge_cut(symmetric_kl_threshold, _both)),
    "js_threshold": Entry(
        js_threshold, HISTOGRAMS, _CUT + "counts like others; no square root",
        _MIGACZ + ", with Jensen and Shannon's divergence",
        judge=judge_cut(js_threshold, js_divergences)),
    "histogram_percentile": Entry(
        histogram_percentile, PERCENTILES, f"the right or left end of a bin; {CLOSE}",
        "definition", rtol=1e-9),
    "mse_range": Entry(
        mse_range, TENSORS, "the squared error is at most 0.1 % above the reference's",
        "definition; eq. (2) of minicomp.compress.quant.ranges.error", judge=judge_range),
}
