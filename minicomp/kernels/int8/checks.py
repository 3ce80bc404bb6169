"""What the entries of this room ask of their arguments."""

from __future__ import annotations

import numpy as np

from .. import doors
from .requantize import LEAST_SHIFT, MOST_SHIFT, ROUNDINGS, Requantizer

Array = np.ndarray
U8 = np.dtype(np.uint8)


def codes(name: str, x: Array, *axes: int) -> Array:
    """Returns x contiguous; ValueError unless it is an array of uint8 with `axes` axes."""
    if not isinstance(x, np.ndarray) or x.dtype != U8 or axes and x.ndim not in axes:
        doors.integers(name, x, *axes)
        raise ValueError(f"{name} must be codes, uint8, got {x.dtype}")
    return np.ascontiguousarray(x)


def result(out: Array | None, shape: tuple[int, ...], *read: Array, in_place: bool = False
           ) -> Array:
    """Returns `out`, or where it is None an array of codes of that shape.

    read : arrays that `out` must not overlap, unless `in_place`, and it is one of them
    Raises ValueError for an `out` that cannot be written to.
    """
    if out is None:
        return np.empty(shape, np.uint8)
    fits = isinstance(out, np.ndarray) and out.dtype == U8 and out.shape == shape
    if not (fits and out.flags.c_contiguous and out.flags.writeable):
        raise ValueError(f"out must be a writable, contiguous array of uint8 of shape {shape}, "
                         f"got {getattr(out, 'dtype', type(out).__name__)} "
                         f"{getattr(out, 'shape', '')}")
    if any(np.may_share_memory(out, x) and not (in_place and _start(out) == _start(x))
           for x in read):
        raise ValueError("out must not overlap what is read")
    return out


def _start(a: Array) -> int:
    return a.__array_interface__["data"][0]


def rule(r: Requantizer, channels: int) -> Requantizer:
    """Returns r; ValueError unless it is a requantizer of that many channels, within bounds."""
    if not isinstance(r, Requantizer):
        raise ValueError(f"r must be a Requantizer, got a {type(r).__name__}")
    for name, dtype in (("m0", np.int32), ("shift", np.int32), ("factor", np.float32),
                        ("lo", np.uint8), ("hi", np.uint8)):
        a = getattr(r, name)
        if not isinstance(a, np.ndarray) or a.dtype != dtype or a.shape != (channels,):
            raise ValueError(f"r.{name} must be {np.dtype(dtype)} of shape ({channels},), got "
                             f"{getattr(a, 'dtype', type(a).__name__)} {getattr(a, 'shape', '')}")
    doors.integers("r.shift", r.shift, least=LEAST_SHIFT, most=MOST_SHIFT)
    if not np.isfinite(r.factor).all():
        raise ValueError("r.factor must be finite")
    if r.rounding not in ROUNDINGS:
        raise ValueError(f"r.rounding must be one of {', '.join(ROUNDINGS)}, got {r.rounding!r}")
    doors.whole("r.zero_point", r.zero_point, 0, 255)
    return r


def numbers(r: Requantizer) -> tuple[int, int, bool]:
    """Returns what a kernel takes of r beside arrays: zero point, number of the rule, order."""
    return r.zero_point, ROUNDINGS.index(r.rounding), r.zero_first
