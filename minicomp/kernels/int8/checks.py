"""What the entries of this room ask of their arguments."""

from __future__ import annotations

import numpy as np

from .. import doors

Array = np.ndarray
U8 = np.dtype(np.uint8)
I32 = np.dtype(np.int32)


def codes(name: str, x: Array, *axes: int) -> Array:
    """Returns x contiguous; ValueError unless it is an array of uint8 with `axes` axes."""
    if not isinstance(x, np.ndarray) or x.dtype != U8 or axes and x.ndim not in axes:
        doors.integers(name, x, *axes)
        raise ValueError(f"{name} must be codes, uint8, got {x.dtype}")
    return np.ascontiguousarray(x)


def sums(name: str, x: Array, *axes: int) -> Array:
    """Returns x contiguous; ValueError unless it is an array of int32 with `axes` axes."""
    if not isinstance(x, np.ndarray) or x.dtype != I32 or axes and x.ndim not in axes:
        doors.integers(name, x, *axes)
        raise ValueError(f"{name} must be an array of int32, got {x.dtype}")
    return np.ascontiguousarray(x)


def result(out: Array | None, shape: tuple[int, ...], *read: Array, in_place: bool = False,
           dtype: np.dtype = U8) -> Array:
    """Returns `out`, or where it is None an array of that shape and dtype.

    read : arrays that `out` must not overlap, unless `in_place`, and it is one of them
    Raises ValueError for an `out` that cannot be written to.
    """
    if out is None:
        return np.empty(shape, dtype)
    fits = isinstance(out, np.ndarray) and out.dtype == dtype and out.shape == shape
    if not (fits and out.flags.c_contiguous and out.flags.writeable):
        raise ValueError(f"out must be a writable, contiguous array of {dtype} of shape {shape}, "
                         f"got {getattr(out, 'dtype', type(out).__name__)} "
                         f"{getattr(out, 'shape', '')}")
    if any(np.may_share_memory(out, x) and not (in_place and _start(out) == _start(x))
           for x in read):
        raise ValueError("out must not overlap what is read")
    return out


def _start(a: Array) -> int:
    return a.__array_interface__["data"][0]
