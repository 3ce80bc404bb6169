"""The reference functions of narrow floats and blocks that share a scale, and their cases."""

from __future__ import annotations

import numpy as np

from ..grid.blocks import (mxfp4_decode, mxfp4_encode, mxint8_decode, mxint8_encode, nf4_decode,
                           nf4_encode, nvfp4_decode, nvfp4_encode, q4_0_decode, q4_0_encode,
                           q8_0_decode, q8_0_encode)
from ..grid.minifloat import MINIFLOATS, minifloat_decode, minifloat_encode
from .draw import Draw
from .entry import Case, Cases, Entry

SIZES = (1, 2, 3, 8)  # blocks


def _codes(draw: Draw) -> list[Case]:
    # All that are of finite numbers.
    cases = []
    for name, f in MINIFLOATS.items():
        codes = np.arange(2**f.bits)
        finite = np.isfinite(minifloat_decode(codes, name))
        cases.append({"codes": codes[finite], "format": name})
    return cases


def _numbers(draw: Draw) -> list[Case]:
    # Of many sizes; ties; what is beyond the largest.
    cases = []
    for name, f in MINIFLOATS.items():
        levels = minifloat_decode(np.arange(f.last + 1), name).astype(np.float64)
        lo, hi = np.log2([levels[1] / 4, levels[-1] * 4 if name != "e8m0" else 2.0**120])
        x = 2.0 ** np.rint(draw.uniform(60, lo=lo, hi=hi)) * draw.uniform(60, lo=1, hi=2)
        x = np.concatenate([x, (levels[1:] + levels[:-1])[:40] / 2])
        if name != "e8m0":
            x = x * (2 * draw.integers(0, 2, len(x)) - 1)
        for saturate in (True, False)[:1 if f.specials == "none" else 2]:
            cases.append({"x": x, "format": name, "saturate": saturate})
    return cases


def _weights(block: int, **more) -> Cases:
    def drawn(draw: Draw) -> list[Case]:
        return [{"x": (draw.normal(k * block) * size).astype(np.float32)} | more
                for k in SIZES for size in (1, 0.05)]

    def ties(draw: Draw) -> list[Case]:
        x = draw.integers(-32, 33, block) / 8
        x[0], x[1] = 4, 4
        return [{"x": (sign * x).astype(np.float32)} | more for sign in (1, -1)]

    zeros = [{"x": np.zeros(block, np.float32)} | more]
    one_sign = [{"x": np.linspace(2, 3.4, block).astype(np.float32)} | more]
    return Cases(zeros=zeros, one_sign=one_sign, ties=ties, sizes=drawn)


def _bytes_of(encode, block: int) -> Cases:
    return Cases(sizes=lambda draw: [{"data": encode(**case)} for case in _weights(block)(draw)])


def _pairs_of(encode, block: int, *names: str) -> Cases:
    return Cases(sizes=lambda draw: [dict(zip(names, encode(**case)))
                                     for case in _weights(block)(draw)])


def _like_both(block: int) -> Cases:
    theirs = _weights(block, like="gguf").groups
    return Cases(**_weights(block, like=None).groups,
                 **{f"{name}_gguf": group for name, group in theirs.items()})


_STORED = "codes of the stored step, half to even; like='gguf': the bytes of gguf 0.19.0"
_MX = "OCP Microscaling Formats (MX) 1.0, "
_NF4 = "Dettmers et al. 2023, arXiv:2305.14314, section 3; bitsandbytes 0.50.2"

QUANT_BLOCKS: dict[str, Entry] = {
    "minifloat_decode": Entry(
        minifloat_decode, Cases(all=_codes), "equal bits", "OFP8 1.0, table 1; " + _MX + "5.3"),
    "minifloat_encode": Entry(
        minifloat_encode, Cases(all=_numbers),
        "rounded once, half to even; e8m0 half up", "OFP8 1.0, section 5; " + _MX + "5.3"),
    "q8_0_encode": Entry(q8_0_encode, _like_both(32), _STORED, "gguf 0.19.0, Q8_0"),
    "q8_0_decode": Entry(q8_0_decode, _bytes_of(q8_0_encode, 32), "equal", "gguf 0.19.0, Q8_0"),
    "q4_0_encode": Entry(q4_0_encode, _like_both(32), _STORED, "gguf 0.19.0, Q4_0"),
    "q4_0_decode": Entry(q4_0_decode, _bytes_of(q4_0_encode, 32), "equal", "gguf 0.19.0, Q4_0"),
    "mxfp4_encode": Entry(
        mxfp4_encode, _like_both(32), "half to even, saturating; like='gguf': the bytes of gguf "
        "0.19.0, ties to the smaller magnitude", _MX + "6.3"),
    "mxfp4_decode": Entry(mxfp4_decode, _bytes_of(mxfp4_encode, 32), "equal", _MX + "5"),
    "mxint8_encode": Entry(
        mxint8_encode, _weights(32), "half to even, saturating at +-127/64", _MX + "6.3"),
    "mxint8_decode": Entry(mxint8_decode, _bytes_of(mxint8_encode, 32), "equal", _MX + "5"),
    "nvfp4_encode": Entry(
        nvfp4_encode, _weights(64), "codes of the stored scales, half to even",
        "NVIDIA's NVFP4; layout of gguf 0.19.0", names=("data", "tensor")),
    "nvfp4_decode": Entry(
        nvfp4_decode, _pairs_of(nvfp4_encode, 64, "data", "tensor"), "equal", "gguf 0.19.0, NVFP4"),
    "nf4_encode": Entry(
        nf4_encode, _weights(64), "x (1 / peak), ties to the lower level", _NF4,
        names=("codes", "peaks")),
    "nf4_decode": Entry(
        nf4_decode, _pairs_of(nf4_encode, 64, "codes", "peaks"), "equal", _NF4),
}
