"""Sums and scalings per channel, for batch normalisation: contract, NumPy reference, entry.

N batch, C channels, M entries of a channel. Arrays are (N, C) or (N, C, H, W), maps best
channels-last; NumPy reduces those over (0, 2, 3) at a fraction of memory speed. The compiled twin
is in kernels_pyx/maps.pyx, for float32; other dtypes run the reference. Sums run in float64.
"""

from __future__ import annotations

from numbers import Real
from typing import NamedTuple

import numpy as np

from .. import cpu
from ..doors import F32, floats
from ..layout import nchw, nhwc
from ..memory import aligned
from ..threads import threads

Array = np.ndarray


class Gate(NamedTuple):
    """The rectifier behind x a + b, which gives min(max(x a + b, 0), top).

    a, b : (C,) in the dtype of x        top : above 0; inf: no limit
    It lets a cotangent through where 0 < x a + b < top.
    """

    a: Array
    b: Array
    top: float


def along(v: Array, x: Array) -> Array:
    """Returns v, (C,), in the shape that broadcasts along the channels of x."""
    return v.reshape([-1 if i == 1 else 1 for i in range(x.ndim)])


def _axes(x: Array) -> tuple[int, ...]:
    return (0, *range(2, x.ndim))


def moments_ref(x: Array) -> tuple[Array, Array]:
    """Returns mean and variance (divided by M) of each channel, (C,) float64."""
    mean = x.mean(axis=_axes(x), dtype=np.float64)
    return mean, np.square(x - along(mean, x)).mean(axis=_axes(x))


def through_ref(g: Array, x: Array, gate: Gate | None) -> Array:
    """Returns the g that a gate lets through, 0 elsewhere; g where there is none."""
    if gate is None:
        return g
    y = affine_ref(x, gate.a, gate.b)
    return np.where((y > 0) & (y < gate.top), g, np.zeros((), g.dtype))


def sums_ref(g: Array, x: Array, mean: Array, gate: Gate | None = None) -> tuple[Array, Array]:
    """Returns the sums of g and of g (x - mean) of each channel, (C,) float64, as `sums`."""
    wide = through_ref(g, x, gate).astype(np.float64)
    centred = x - along(mean.astype(np.float64), x)
    return wide.sum(axis=_axes(g)), (wide * centred).sum(axis=_axes(g))


def affine_ref(x: Array, a: Array, b: Array, top: float | None = None) -> Array:
    """Returns x a + b, or min(max(x a + b, 0), top).   a, b : (C,) in the dtype of x"""
    y = x * along(a, x)
    y += along(b, x)
    return y if top is None else np.clip(y, 0, top, out=y)


def blend_ref(g: Array, x: Array, a: Array, b: Array, d: Array, gate: Gate | None = None) -> Array:
    """Returns g a + x b + d.   g, x : one shape   a, b, d : (C,) in their dtype"""
    return through_ref(g, x, gate) * along(a, x) + x * along(b, x) + along(d, x)


def moments(x: Array, *, isa: str = "auto") -> tuple[Array, Array]:
    """Returns mean and variance (divided by M) of each channel, (C,) float64.

    The kernel sums x - x0 and its square, x0 a channel's first entry: one pass over x, and no
    cancellation where the mean is large beside the deviation.
    Raises ValueError for another array.
    """
    level = _level(isa, {"x": x}, {})
    if level == 0:
        return moments_ref(x)
    rows = _rows(x)
    shift, (s, q) = np.ascontiguousarray(rows[0]), np.zeros((2, rows.shape[1]))
    cpu.kernel_module("maps").moments(rows, shift, s, q, level)
    off = s / float(len(rows))
    return shift + off, np.maximum(q / float(len(rows)) - off * off, 0.0)


def sums(g: Array, x: Array, mean: Array, gate: Gate | None = None, *, isa: str = "auto",
         n_threads: int = 1) -> tuple[Array, Array]:
    """Returns the sums of g and of g (x - mean) of each channel, (C,) float64.

    g, x : one shape        mean : (C,)        gate : what of g counts; None: all
    Raises ValueError for other arrays and shapes.
    """
    level = _level(isa, {"g": g, "x": x}, {"mean": mean, **vectors(gate)})
    n_threads, module = threads(n_threads), cpu.kernel_module("maps")
    if level == 0:
        return sums_ref(g, x, mean, gate)
    s, q = np.zeros((2, module.SLABS, x.shape[1]))
    module.sums(_rows(g), _rows(x), np.ascontiguousarray(mean), contiguous(gate), s, q, level,
                n_threads)
    return s.sum(axis=0), q.sum(axis=0)


def affine(x: Array, a: Array, b: Array, top: float | None = None, *, isa: str = "auto",
           n_threads: int = 1) -> Array:
    """Returns x a + b, channels-last; or min(max(x a + b, 0), top).   a, b : (C,) in the dtype of x

    The kernel's inner loop is over channels; of a single one NumPy makes a long row.
    Raises ValueError for other arrays and shapes.
    """
    level, n_threads = _level(isa, {"x": x}, {"a": a, "b": b}), threads(n_threads)
    if top is not None:
        _check_top(top)
    if level == 0 or x.shape[1] == 1:
        return affine_ref(x, a, b, top)
    rows = _rows(x)
    y = aligned(*rows.shape)
    cpu.kernel_module("maps").affine(rows, *map(np.ascontiguousarray, (a, b)), top is not None,
                                     top or 0.0, y, level, n_threads)
    return _shaped(y, x)


def blend(g: Array, x: Array, a: Array, b: Array, d: Array, gate: Gate | None = None, *,
          isa: str = "auto") -> Array:
    """Returns g a + x b + d, channels-last.

    g, x : one shape        a, b, d : (C,) in their dtype        gate : what of g counts; None: all
    Raises ValueError for other arrays and shapes.
    """
    level = _level(isa, {"g": g, "x": x}, {"a": a, "b": b, "d": d, **vectors(gate)})
    if level == 0:
        return blend_ref(g, x, a, b, d, gate)
    rows = _rows(x)
    y = aligned(*rows.shape)
    cpu.kernel_module("maps").blend(_rows(g), rows, *map(np.ascontiguousarray, (a, b, d)),
                                    contiguous(gate), y, level)
    return _shaped(y, x)


def contiguous(gate: Gate | None) -> Gate | None:
    """Returns the gate with contiguous vectors, as kernels take it."""
    return gate and Gate(*map(np.ascontiguousarray, gate[:2]), float(gate.top))


def vectors(gate: Gate | None, name: str = "gate") -> dict[str, Array]:
    """Returns the vectors of a gate by name, as `check` takes them; ValueError where it is none."""
    if gate is None:
        return {}
    if not isinstance(gate, Gate):
        raise ValueError(f"{name} must be a Gate or None, got {type(gate).__name__}")
    _check_top(gate.top)
    return {f"{name}.a": gate.a, f"{name}.b": gate.b}


def _check_top(top: float) -> None:
    # inf is one
    number = isinstance(top, Real) and not isinstance(top, (bool, np.bool_))
    if not number or not top > 0:
        raise ValueError(f"top must be a number above 0, got {type(top).__name__} {str(top)[:40]}")


def check(maps: dict[str, Array], vectors: dict[str, Array]) -> None:
    """Raises ValueError, which names it, where one of the maps has another shape than the first, or
    one of the vectors not an entry per channel."""
    for name, a in maps.items():
        floats(name, a, 2, 4)
    shape = next(iter(maps.values())).shape
    for name, a in vectors.items():
        floats(name, a, 1)
    for name, a in (*maps.items(), *vectors.items()):
        if a.shape != (shape if name in maps else shape[1:2]):
            raise ValueError(f"arrays must have shape {shape} or, a number a channel, "
                             f"{shape[1:2]}, got {a.shape} for {name}")


def _level(isa: str, maps: dict[str, Array], vectors: dict[str, Array]) -> int:
    # The rung for maps of one shape and vectors of one entry per channel.
    check(maps, vectors)
    level = cpu.resolve(isa, "maps")
    every = (*maps.values(), *vectors.values())
    return level if all(a.dtype == F32 and a.size for a in every) else 0


def _rows(x: Array) -> Array:
    # (N, C) or (N, C, H, W) -> (M, C)
    return np.ascontiguousarray(x) if x.ndim == 2 else nhwc(x).reshape(-1, x.shape[1])


def _shaped(rows: Array, like: Array) -> Array:
    if like.ndim == 2:
        return rows
    n, c, h, w = like.shape
    return nchw(rows.reshape(n, h, w, c))
