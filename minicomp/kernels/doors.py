"""What an entry asks of its arguments before a kernel sees their memory.

A kernel trusts what it is given: it reads shapes, strides of a window and numbers of threads
without a further look, and what is wrong ends in other arrays' memory. So each entry checks, once,
and refuses with a ValueError that names the argument, what it may be and what was given. An entry
takes arrays, not lists; contiguous or not, writable or not. Checks cost a fraction of a
microsecond each.
"""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import NamedTuple

import numpy as np

Array = np.ndarray
Pair = tuple[int, int]
F32 = np.dtype(np.float32)
MOST = 2**31 - 1  # entries of a map's channel, padded; every single number of a geometry


def floats(name: str, a: Array, *axes: int) -> None:
    """Raises ValueError unless `a` is an array of floats with a number of axes among `axes`."""
    if isinstance(a, Array) and (not axes or a.ndim in axes):
        dtype = a.dtype
        if dtype is F32 or dtype.kind == "f":
            return
    _refuse(name, f"an array of floats{_with(axes)}", a)


def integers(name: str, a: Array, *axes: int, least: int | None = None,
             most: int = MOST) -> None:
    """Raises ValueError unless `a` is an array of integers, in least..most where least is given."""
    if not isinstance(a, np.ndarray) or a.dtype.kind not in "iu" or axes and a.ndim not in axes:
        _refuse(name, f"integers, in an array{_with(axes)}", a)
    if a.size and least is not None and not (least <= a.min() and a.max() <= most):
        raise ValueError(f"{name} must be integers in [{least}, {most}], "
                         f"got {a.min()}..{a.max()}")


def stream(name: str, data) -> Array:
    """Returns bytes, or an array of uint8 with one axis, as a contiguous array (B,)."""
    if isinstance(data, np.ndarray) and data.dtype == np.uint8 and data.ndim == 1:
        return np.ascontiguousarray(data)
    if not isinstance(data, (bytes, bytearray, memoryview)):
        _refuse(name, "bytes or an array of uint8 with 1 axis", data)
    return np.frombuffer(data, np.uint8)


def whole(name: str, n, least: int, most: int = MOST) -> int:
    """Returns n as an int; ValueError unless it is a whole number, no bool, in least..most."""
    if type(n) is int and least <= n <= most:
        return n
    if isinstance(n, bool) or not isinstance(n, Integral):
        raise ValueError(f"{name} must be an integer, got {_shown(n)}")
    if not least <= n <= most:
        limits = f"at least {least}" if n < least and most == MOST else f"in [{least}, {most}]"
        raise ValueError(f"{name} must be {limits}, got {_shown(n)}")
    return int(n)


def number(name: str, x, least: float = -math.inf, below: float = math.inf) -> float:
    """Returns x as a float; ValueError unless it is a finite number, no bool, in [least, below)."""
    if type(x) is float and least <= x < below and x > -math.inf:
        return x
    if isinstance(x, (bool, np.bool_)) or not isinstance(x, Real):
        raise ValueError(f"{name} must be a number, got {_shown(x)}")
    try:
        x = float(x)
    except OverflowError:
        x = math.inf
    if not (least <= x < below and x > -math.inf):
        raise ValueError(f"{name} must be a finite number in [{least}, {below}), got {x}")
    return x


def switch(name: str, value) -> bool:
    """Returns value as a bool; ValueError unless it is one."""
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"{name} must be true or false, got {_shown(value)}")
    return bool(value)


def pair(name: str, value, least: int) -> Pair:
    """Returns (vertical, horizontal) as ints; ValueError unless both are whole, `least` or more."""
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise ValueError(f"{name} must be a pair of integers, got {_shown(value)}")
    return whole(name, value[0], least), whole(name, value[1], least)


class Geometry(NamedTuple):
    """How windows lie on a map: pairs (vertical, horizontal); `count` windows fit."""

    size: Pair
    kernel: Pair
    stride: Pair
    padding: Pair
    count: Pair


def geometry(size, kernel, stride, padding, ceil_mode: bool = False) -> Geometry:
    """Returns the geometry of windows on a map, checked.

    size : (H, W) of the map, at least 1        kernel, stride : at least 1        padding : at
        least 0
    ceil_mode : also windows that hang over the end
    Raises ValueError for other numbers, where no window fits, and for maps of more than MOST
    entries a channel.
    """
    size, kernel = pair("size", size, 1), pair("kernel", kernel, 1)
    stride, padding = pair("stride", stride, 1), pair("padding", padding, 0)
    padded = (size[0] + 2 * padding[0]) * (size[1] + 2 * padding[1])
    if padded > MOST or kernel[0] * kernel[1] > MOST:
        raise ValueError(f"a map of {size} padded by {padding}, and a window of {kernel}, must "
                         f"have at most {MOST} entries")
    count = (window_count(size[0], kernel[0], stride[0], padding[0], ceil_mode),
             window_count(size[1], kernel[1], stride[1], padding[1], ceil_mode))
    return Geometry(size, kernel, stride, padding, count)


def window_count(n: int, k: int, stride: int, padding: int, ceil_mode: bool = False) -> int:
    """Returns how many windows of k entries lie on n entries padded on both sides.

    ceil_mode : also those that hang over the end, as long as they start inside the entries or the
        padding before them
    Raises ValueError where there is none. Source: PyTorch's pooling_output_shape.
    """
    span = n + 2 * padding - k
    count = (-(-span // stride) if ceil_mode else span // stride) + 1
    if ceil_mode and (count - 1) * stride >= n + padding:
        count -= 1
    if count < 1:
        raise ValueError(f"a window of {k} does not fit {n} entries padded by {padding}")
    return count


def _refuse(name: str, wanted: str, got) -> None:
    what = f"shape {got.shape}, {got.dtype}" if isinstance(got, np.ndarray) else _shown(got)
    raise ValueError(f"{name} must be {wanted}, got {what}")


def _shown(value) -> str:
    return f"{type(value).__name__} {str(value)[:40]!r}" if not isinstance(value, (
        int, float, tuple, list)) else repr(value)[:40]


def _with(axes: tuple[int, ...]) -> str:
    return f" with {' or '.join(map(str, axes))} axes" if axes else ""
