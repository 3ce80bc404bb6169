"""What an integer program begins with: numbers become codes, (N, C, H, W) becomes (N, H, W, C).

    q = clip(rint((gain x + bias) / scale) + z, lo, hi)        float32, ties to even

Each step is rounded to float32 by itself, as NumPy does it: no product and sum become one.
"""

from __future__ import annotations

import numpy as np

from .. import doors
from ..doors import F32
from ..threads import threads
from .checks import kernels, result, rung

Array = np.ndarray


def codes_of(x: Array, scale: np.float32, zero_point: int, lo: int, hi: int) -> Array:
    """Returns the codes of numbers, uint8 of x's shape.   x : float32, no NaN"""
    with np.errstate(over="ignore"):
        t = np.rint(x / scale) + np.float32(zero_point)
    return np.clip(t, lo, hi).astype(np.uint8)


def to_codes_ref(x: Array, scale: np.float32, zero_point: int, lo: int, hi: int,
                 gain: Array | None = None, bias: Array | None = None) -> Array:
    """Returns the codes of x, channels last: (N, H, W, C) or (N, D) uint8; see `to_codes`."""
    if gain is not None:
        at = (-1, *[1] * (x.ndim - 2))
        with np.errstate(over="ignore"):
            x = x * gain.reshape(at) + bias.reshape(at)
    codes = codes_of(x, scale, zero_point, lo, hi)
    return codes if x.ndim == 2 else np.ascontiguousarray(codes.transpose(0, 2, 3, 1))


def to_codes(x: Array, scale: np.float32, zero_point: int, lo: int, hi: int,
             gain: Array | None = None, bias: Array | None = None, *, out: Array | None = None,
             isa: str = "auto", n_threads: int = 1, calls=None) -> Array:
    """Returns the codes of x, channels last: (N, H, W, C) or (N, D) uint8.

    x : (N, C, H, W) or (N, D) float32, no NaN        scale : float32, not 0
    zero_point, lo, hi : 0..255        gain, bias : (1,) or (C,), (D,) float32, or None both
    out : uint8, C-contiguous, or None        calls : where to keep it for later, see checks.py;
        x is then what `Calls.run` is given
    Raises ValueError for other arrays and numbers.
    """
    doors.floats("x", x, 2, 4)
    if x.dtype != F32:
        raise ValueError(f"x must be float32, got {x.dtype}")
    scale = np.float32(doors.number("scale", scale))
    if not scale:
        raise ValueError("scale must be a number other than 0, got 0")
    for name, number in (("zero_point", zero_point), ("lo", lo), ("hi", hi)):
        doors.whole(name, number, 0, 255)
    shape, channels = (len(x), *x.shape[2:], x.shape[1]), x.shape[1]
    if gain is not None or bias is not None:
        for name, a in (("gain", gain), ("bias", bias)):
            if not isinstance(a, Array) or a.dtype != F32 or a.shape not in ((1,), (channels,)):
                raise ValueError(
                    f"{name} must be float32 of shape (1,) or ({channels},), or both None, got "
                    f"{getattr(a, 'dtype', type(a).__name__)} {getattr(a, 'shape', '')}")
    out, level, n_threads = result(out, shape), rung(isa, calls, x), threads(n_threads)
    if level == 0:
        out[...] = to_codes_ref(x, scale, zero_point, lo, hi, gain, bias)
    elif x.size:
        if x.ndim == 2 and (gain is None or len(gain) == len(bias) == 1):
            channels = 1  # a row is a map of one channel
        if gain is not None:
            gain, bias = (np.array(np.broadcast_to(a, channels)) for a in (gain, bias))
        kernels(calls).to_codes(
            np.ascontiguousarray(x).reshape(-1), gain, bias, len(x), channels,
            (scale, zero_point, lo, hi), out.reshape(-1), level, n_threads)
    return out
