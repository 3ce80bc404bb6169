"""What the entries of this room ask of their arguments, and where they run.

An entry runs its kernel at once, or, with `calls`, keeps it there beside others, to be run in one
go, on the same memory each time (`Calls` of kernels_pyx/int8.pyx): of a net's kernels on one image
checks and calls from Python take longer than the work.
"""

from __future__ import annotations

import numpy as np

from .. import cpu, doors

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


def settle(rule, letter: str, axis: str, dtypes: dict[str, type]) -> None:
    """Makes the arrays of a rule, a frozen dataclass, read-only copies.

    letter : what errors call the rule        axis : the name of its one axis
    dtypes : by field; all are as long as the first
    Raises ValueError for an array of another type or length.
    """
    length = np.shape(getattr(rule, next(iter(dtypes))))[:1]
    for name, dtype in dtypes.items():
        a = getattr(rule, name)
        if not isinstance(a, Array) or a.dtype != dtype or a.shape != length:
            got = f"{a.dtype} {a.shape}" if isinstance(a, Array) else type(a).__name__
            raise ValueError(f"{letter}.{name} must be an array ({axis},) of {np.dtype(dtype)}, "
                             f"got {got}")
        a = np.array(a)
        a.setflags(write=False)
        object.__setattr__(rule, name, a)


def _start(a: Array) -> int:
    return a.__array_interface__["data"][0]


def scratch(given: Array | None, size: int, dtype: type, *others: Array) -> Array:
    """Returns `given`, or where it is None an array of `size` numbers, that a kernel may write to.

    others : arrays that it must not overlap
    Raises ValueError for one that is smaller or cannot be written to.
    """
    if given is None:
        return np.empty(size, dtype)
    fits = isinstance(given, Array) and given.dtype == dtype and given.ndim == 1
    if not fits or len(given) < size or not (
            given.flags.c_contiguous and given.flags.writeable):
        raise ValueError(f"scratch must be a writable, contiguous array of at least {size} "
                         f"{np.dtype(dtype)}")
    if any(np.may_share_memory(given, a) for a in others):
        raise ValueError("scratch must be memory of its own: it overlaps x or out")
    return given


def some_calls(room: str = "int8"):
    """Returns calls to which entries of a room may be given, none yet; None where nothing is
    compiled."""
    module = cpu.kernel_module(room)
    return None if module is None else module.Calls()


def rung(isa: str, calls, *read: Array, room: str = "int8") -> int:
    """Returns the level at which an entry runs.

    calls : None, or those of `some_calls`        read : arrays as they were given
    Raises ValueError for an unknown rung, and where calls cannot be kept: on the reference, or
    where an array would be copied first.
    """
    level = cpu.resolve(isa, room)
    if calls is not None:
        module = cpu.kernel_module(room)
        if module is None or not isinstance(calls, module.Calls):
            raise ValueError(f"calls must be made by some_calls, got a {type(calls).__name__}")
        if level == 0:
            raise ValueError("calls must be None on the rung ref, which keeps none")
        if not all(a.flags.c_contiguous for a in read):
            raise ValueError("what calls read must be contiguous")
    return level


def kernels(calls, room: str = "int8"):
    """Returns what has the kernels: `calls`, or where that is None those that run at once."""
    return cpu.kernel_module(room).NOW if calls is None else calls
