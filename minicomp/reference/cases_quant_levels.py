"""The reference functions of quantizers by their levels, and their cases: small ones first."""

from __future__ import annotations

import numpy as np

from ..compress.quant.apot import apot_scale
from ..compress.quant.balanced import balanced_codes, cell_means
from ..compress.quant.buckets import bucket_quantize
from ..compress.quant.lloyd_max import lloyd_max
from ..compress.quant.log2 import log2_quantize, top_exponent
from ..compress.quant.segments import segment
from ..compress.quant.wavelet import soft_threshold, universal_threshold
from ..grid.powers import additive_codes, additive_levels, power_codes, power_levels
from ..grid.uniform import sign_magnitude, twos_complement, uniform_codes, uniform_levels
from ..nn.forms.wavelet import WAVELETS, dwt, idwt
from .draw import Draw
from .entry import CLOSE, Case, Cases, Entry

SIZES = (1, 2, 7, 63, 200)


def _numbers(draw: Draw, **options) -> list[Case]:
    # Arrays of several sizes with every combination of the options.
    cases: list[Case] = [{}]
    for name, values in options.items():
        cases = [case | {name: value} for case in cases for value in values]
    return [{"w": draw.normal(n).astype(np.float32)} | case for n in SIZES for case in cases]


def _renamed(cases: list[Case], name: str) -> list[Case]:
    return [{name: case.pop("w"), **case} for case in cases]


def _lloyds(draw: Draw) -> list[Case]:
    return [{"x": draw.normal(n), "k": k, "method": method}
            for n in SIZES for k in (1, 2, 4, 16) for method in ("optimal", "lloyd")]


def _cells(draw: Draw) -> list[Case]:
    # Cells of which some have no members.
    return [{"x": draw.normal(n), "codes": draw.integers(0, k, n), "k": k}
            for n in SIZES for k in (2, 5)]


def _coins(draw: Draw) -> list[Case]:
    return [{"v": draw.normal(n), "u": draw.uniform(n), "steps": steps, "bucket": bucket}
            for n in SIZES for steps in (1, 3, 15) for bucket in (4, 256)]


def _signals(draw: Draw) -> list[dict]:
    return [{"values": draw.normal(m), "wavelet": wavelet, "levels": levels}
            for wavelet in WAVELETS for m, levels in ((2, 1), (8, 1), (16, 2), (64, 3))]


def _runs(draw: Draw) -> list[Case]:
    return [{"x": draw.normal(n), "s": s} for n in (1, 2, 7, 20) for s in (1, 2, n // 2, n)
            if 1 <= s <= n]


def _partitions(draw: Draw) -> list[Case]:
    return [{"a": -1.0, "b": b, "n": n, "ends": ends}
            for b in (1.0, 2.5) for n in (2, 3, 16) for ends in ("kept", "cells")]


def _signed(lowest: int) -> Cases:
    return Cases(all=[{"q": np.arange(lowest - (1 << bits - 1), 1 << bits - 1), "bits": bits}
                      for bits in (2, 3, 8)])


TIES = np.array([0, 0.25, 0.375, 0.74, 0.75, 1.49, 1.5, 2.9, 9, -0.375, -0.75], np.float32)
_LI = "Li, Dong & Wang 2020, arXiv:1909.13144, "
_ZHOU = "Zhou et al. 2017, arXiv:1702.03044, "
_LOG = "Miyashita et al. 2016, arXiv:1603.01025, eq. (1)"
_BALANCED = "Zhou et al. 2017, arXiv:1706.07145"

QUANT_LEVELS: dict[str, Entry] = {
    "uniform_levels": Entry(
        uniform_levels, Cases(all=_partitions), CLOSE, "ends kept, or mid-points of cells", 1e-9),
    "uniform_codes": Entry(
        uniform_codes,
        Cases(all=lambda draw: [{"x": draw.uniform(40, lo=-1.5, hi=3)} | case
                                for case in _partitions(draw)]),
        "half to even; with cells an edge is the upper one's", "ends kept, or mid-points of cells"),
    "sign_magnitude": Entry(
        sign_magnitude, _signed(1), "the sign is the upper bit; 0 is +0", "IEEE 754's signs"),
    "twos_complement": Entry(
        twos_complement, _signed(0), "modulo 2^bits", "what integer kernels take"),
    "power_levels": Entry(
        power_levels, Cases(all=[{"top": top, "n": n} for n in (0, 1, 3, 7) for top in (-2, 0, 3)]),
        "0, then ascending", _ZHOU + "eq. (1)"),
    "power_codes": Entry(
        power_codes,
        Cases(ties=[{"w": TIES, "top": 1, "n": 3, "meet": meet} for meet in ("arithmetic", "log")],
              sizes=lambda draw: _numbers(draw, top=(0,), n=(1, 3, 7), meet=("arithmetic", "log"))),
        "arithmetic: from 1.5 2^k on 2^(k+1); log: from 2^(k+1/2) on", _ZHOU + "eq. (4); " + _LOG),
    "top_exponent": Entry(
        top_exponent, Cases(sizes=lambda draw: _numbers(draw, meet=("arithmetic", "log"))),
        "0 where all are 0", _ZHOU + "eq. (2)"),
    "log2_quantize": Entry(
        log2_quantize,
        Cases(sizes=lambda draw: _numbers(draw, bits=(2, 3, 5), meet=("arithmetic", "log"))),
        "the powers of 2^(bits-1) - 1 exponents, and 0", _LOG),
    "additive_levels": Entry(
        additive_levels, Cases(all=[{"bits": bits} for bits in range(2, 9)]),
        "0, then ascending; the largest is 1", _LI + "eqs. (5), (6)", rtol=1e-7),
    "additive_codes": Entry(
        additive_codes,
        Cases(sizes=lambda draw: _numbers(draw, scale=(0.5, 2.0), bits=(2, 3, 4, 5))),
        "the nearest level, half-way the lower one", _LI + "eq. (1)"),
    "apot_scale": Entry(
        apot_scale, Cases(sizes=lambda draw: _numbers(draw, bits=(2, 4), clip=("max", "mse"))),
        "of 100 fractions of max |w| that of least squared error", _LI + "section 2.2", rtol=1e-6),
    "lloyd_max": Entry(
        lloyd_max, Cases(sizes=_lloyds), CLOSE, "Lloyd 1982; Max 1960", rtol=1e-9,
        names=("levels", "error")),
    "balanced_codes": Entry(
        balanced_codes,
        Cases(sizes=lambda draw: _renamed(_numbers(draw, k=(1, 2, 4, 16)), "x")),
        "edges are linear quantiles; an edge belongs to the upper cell", _BALANCED),
    "cell_means": Entry(
        cell_means, Cases(sizes=_cells), "0 where a cell has no members; " + CLOSE, _BALANCED,
        rtol=1e-9),
    "bucket_quantize": Entry(
        bucket_quantize, Cases(sizes=_coins), "xi = 1 where u is below its probability; " + CLOSE,
        "Polino et al. 2018, arXiv:1802.05668, section 2.1", rtol=1e-9),
    "dwt": Entry(
        dwt.fn, Cases(sizes=lambda draw: [{"x": case.pop("values"), **case}
                                          for case in _signals(draw)]),
        "periodic, coarse to fine; " + CLOSE, "Mallat 1989; PyWavelets' mode periodization", 1e-9),
    "idwt": Entry(
        idwt.fn, Cases(sizes=lambda draw: [{"c": case.pop("values"), **case}
                                           for case in _signals(draw)]),
        "periodic, coarse to fine; " + CLOSE, "Mallat 1989; PyWavelets' mode periodization", 1e-9),
    "soft_threshold": Entry(
        soft_threshold, Cases(sizes=lambda draw: _renamed(_numbers(draw, lam=(0.0, 0.5)), "c")),
        "in c's dtype", "Donoho 1995, eq. (4)", rtol=1e-6),
    "universal_threshold": Entry(
        universal_threshold,
        Cases(sizes=lambda draw: [{"finest": draw.normal(n), "n": 2 * n} for n in SIZES]),
        CLOSE, "Donoho & Johnstone 1994, section 4.2", rtol=1e-9),
    "segment": Entry(
        segment, Cases(sizes=_runs), CLOSE, "Fisher 1958; Bellman 1961", rtol=1e-9,
        names=("lengths", "error")),
}
