"""Floats of 4 to 8 bits, each a row of one table: exponent bits, mantissa bits, bias, specials.

    value = (-1)^s 2^(e - bias) (1 + m / 2^M)        e > 0
    value = (-1)^s 2^(1 - bias) m / 2^M              e = 0, subnormal

| format | s e M | bias | largest | specials                                                      |
|--------|-------|------|---------|---------------------------------------------------------------|
| e4m3   | 1 4 3 | 7    | 448     | "fn": s 1111 111 is NaN, no infinity                          |
| e5m2   | 1 5 2 | 15   | 57344   | "ieee": e = 31 is infinity (m = 0) or NaN                     |
| e3m2   | 1 3 2 | 3    | 28      | none                                                          |
| e2m3   | 1 2 3 | 1    | 7.5     | none                                                          |
| e2m1   | 1 2 1 | 1    | 6       | none                                                          |
| e8m0   | 0 8 0 | 127  | 2^127   | "scale": powers of two from 2^-127 on, no 0; 255 is NaN       |

A number is rounded once, from whatever float it is given as, half to even (e8m0, which has no
mantissa that could be even, half up); ml_dtypes 0.6.0 brings float64 to float32 first and so
rounds twice.
Source: OCP 8-bit Floating Point Specification (OFP8) 1.0; OCP Microscaling Formats (MX) 1.0
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..tensor import Array


@dataclass(frozen=True)
class MiniFloat:
    """One format: `exponent` and `mantissa` bits, `bias`, and what its `specials` are."""

    exponent: int
    mantissa: int
    bias: int
    specials: str

    @property
    def bits(self) -> int:
        """Returns the bits of a code."""
        return self.exponent + self.mantissa + (self.specials != "scale")

    @property
    def last(self) -> int:
        """Returns the code of the largest number."""
        top = (1 << self.exponent + self.mantissa) - 1
        gone = {"ieee": 1 << self.mantissa, "fn": 1, "scale": 1, "none": 0}
        return top - gone[self.specials]


MINIFLOATS: dict[str, MiniFloat] = {
    "e4m3": MiniFloat(4, 3, 7, "fn"),
    "e5m2": MiniFloat(5, 2, 15, "ieee"),
    "e3m2": MiniFloat(3, 2, 3, "none"),
    "e2m3": MiniFloat(2, 3, 1, "none"),
    "e2m1": MiniFloat(2, 1, 1, "none"),
    "e8m0": MiniFloat(8, 0, 127, "scale"),
}


def minifloat(name: str) -> MiniFloat:
    """Returns the format of that name; ValueError names those there are."""
    if name not in MINIFLOATS:
        raise ValueError(f"format must be one of {', '.join(MINIFLOATS)}, got {name!r}")
    return MINIFLOATS[name]


def minifloat_decode(codes: Array, format: str) -> Array:
    """Returns the numbers of codes, float32 of their shape, exactly.

    codes : integers below 2^bits of the format        Raises ValueError for others.
    """
    f, codes = minifloat(format), np.asarray(codes)
    if codes.dtype.kind not in "iu" or codes.size and not (
            0 <= codes.min() and codes.max() < 1 << f.bits):
        raise ValueError(f"codes must be integers in [0, {(1 << f.bits) - 1}] for {format}")
    return _table(f)[codes]


def minifloat_encode(x: Array, format: str, *, saturate: bool) -> Array:
    """Returns the code nearest to each x, uint8 of its shape.

    x : float        saturate : what is beyond the largest number, infinity too, becomes that; else
        infinity where the format has one, else NaN
    0 keeps its sign. NaN is NaN, 0x7F in e4m3 and 0x7E in e5m2, with its sign.
    Raises ValueError for NaN where the format has none, for what is beyond the largest with
    saturate=False where it has neither infinity nor NaN, and, for e8m0, for what is not above 0.
    """
    f, x = minifloat(format), np.asarray(x)
    nan = np.isnan(x)
    if f.specials == "none" and nan.any():
        raise ValueError(f"x must be numbers, got NaN, which {format} has not")
    if f.specials == "scale" and (x <= 0).any():
        raise ValueError(f"x must be above 0 for e8m0, got {x[x <= 0].flat[0]}")
    size = _sizes(np.where(nan, 1, np.abs(x)).astype(np.float64), f)
    beyond = size > f.last
    if f.specials == "none" and not saturate and beyond.any():
        raise ValueError(f"x must be at most {_table(f)[f.last]:g} in magnitude where {format} "
                         f"does not saturate, got {x[beyond].flat[0]:g}")
    size = np.where(beyond, f.last if saturate else f.last + 1, size)
    size = np.where(nan, f.last + (3 if f.specials == "ieee" else 1), size)  # a quiet NaN
    sign = np.signbit(x) if f.specials != "scale" else False
    return (size | sign * (1 << f.bits - 1)).astype(np.uint8)


def round_minifloat(x: Array, format: str, *, saturate: bool = True) -> Array:
    """Returns x rounded to the format, float32; arguments and errors of `minifloat_encode`."""
    return minifloat_decode(minifloat_encode(x, format, saturate=saturate), format)


def _sizes(a: Array, f: MiniFloat) -> Array:
    # The codes of a >= 0, float64, on an exponent range without end above. In units of the step at
    # its exponent a is t in [2^M, 2^(M+1)], below 2^M where subnormal: code (e - least) 2^M + t.
    least = (1 if f.specials != "scale" else 0) - f.bias
    finite = np.where(np.isinf(a), 1, a)
    e = np.maximum(np.where(a > 0, np.frexp(finite)[1] - 1, least), least)
    t = np.rint(np.ldexp(finite, f.mantissa - e))
    if f.specials == "scale":
        t = np.maximum(t, 1)  # below the least: that
    return np.where(np.isinf(a), 1 << 20, (e - least) * (1 << f.mantissa) + t - (
        f.specials == "scale")).astype(np.int64)


def _table(f: MiniFloat) -> Array:
    # float32 of every code
    code = np.arange(1 << f.bits)
    size = code & ((1 << f.exponent + f.mantissa) - 1)
    e, m = size >> f.mantissa, size & ((1 << f.mantissa) - 1)
    if f.specials == "scale":
        value = np.ldexp(1.0, e - f.bias)
    else:
        value = np.ldexp(np.where(e > 0, m + (1 << f.mantissa), m).astype(np.float64),
                         np.maximum(e, 1) - f.bias - f.mantissa)
    value = np.where(size > f.last, np.nan, value)
    if f.specials == "ieee":
        value = np.where(size == f.last + 1, np.inf, value)
    return np.where(code != size, -value, value).astype(np.float32)
