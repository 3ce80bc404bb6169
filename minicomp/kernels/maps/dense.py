"""A linear layer and the optimizer's pass over its weights: contract, NumPy reference, entry.

N batch, I in, O out. The compiled twin is kernels_pyx/maps.pyx, for float32; simd/maps/dense.h says
what its one rung gains over BLAS, which is the reference here.
"""

from __future__ import annotations

import numpy as np

from .. import cpu
from ..doors import F32, floats, number, switch
from ..memory import aligned

Array = np.ndarray

# Beyond about this many floats W leaves the caches between uses, and BLAS wins, which blocks for
# that case.
MOST_WEIGHTS = 1 << 20
AVX512 = cpu.RUNGS.index("avx512")


def linear_ref(x: Array, w: Array, b: Array | None) -> Array:
    """Returns x w' + b, (N, O).   x : (N, I)   w : (O, I)   b : (O,) or None"""
    y = x @ w.T
    if b is not None:
        y += b
    return y


def linear_input_grad_ref(g: Array, w: Array) -> Array:
    """Returns g w, (N, I).   g : (N, O)   w : (O, I)"""
    return g @ w


def linear_weight_grad_ref(x: Array, g: Array) -> tuple[Array, Array]:
    """Returns g' x, (O, I), and the sum of g over the batch, (O,).   x : (N, I)   g : (N, O)"""
    return g.T @ x, g.sum(axis=0)


def relu_dx_ref(g: Array, y: Array) -> Array:
    """Returns g where y > 0, else 0.   g, y : one shape"""
    return np.where(y > 0, g, g.dtype.type(0))


def sgd_ref(w: Array, v: Array, g: Array, lr: float, momentum: float, decay: float) -> None:
    """v = momentum v + (g + decay w);  w = w - lr v, in place.   w, v, g : one shape"""
    v *= momentum
    v += g + decay * w
    w -= lr * v


def linear(
    x: Array, w: Array, b: Array | None = None, *, relu: bool = False, isa: str = "auto"
) -> Array:
    """Returns x w' + b, (N, O), or its positive part.   x : (N, I)   w : (O, I)   b : (O,) or None

    One row is BLAS's: packing W into tiles takes longer than reading it once. From two rows on a
    row of the kernel's y does not depend on how many there are.
    Raises ValueError for other arrays and shapes.
    """
    floats("x", x, 2)
    floats("w", w, 2)
    if b is not None:
        floats("b", b, 1)
    relu = switch("relu", relu)
    _fit(x.shape[1] == w.shape[1] and (b is None or b.shape == w.shape[:1]), x, w, b)
    if len(x) == 1 or not _tiled(isa, w.size, x, w, *([] if b is None else [b])):
        y = linear_ref(x, w, b)
        return np.maximum(y, 0) if relu else y
    module = cpu.kernel_module("maps")
    x, w, b = _contiguous(x), _contiguous(w), None if b is None else _contiguous(b)
    y = aligned(len(x), len(w))
    module.linear(x, w, b, relu, aligned((x.shape[1] + module.ROWS) * module.LANES), y)
    return y


def linear_input_grad(g: Array, w: Array, *, isa: str = "auto") -> Array:
    """Returns g w, (N, I).   g : (N, O)   w : (O, I)

    Raises ValueError for other arrays and shapes.
    """
    floats("g", g, 2)
    floats("w", w, 2)
    _fit(g.shape[1] == len(w), g, w)
    if not _tiled(isa, w.size, g, w):
        return linear_input_grad_ref(g, w)
    g, w = _contiguous(g), _contiguous(w)
    dx = aligned(len(g), w.shape[1])
    cpu.kernel_module("maps").linear_dx(g, w, dx)
    return dx


def linear_weight_grad(x: Array, g: Array, *, isa: str = "auto") -> tuple[Array, Array]:
    """Returns g' x, (O, I), and the sum of g over the batch, (O,).   x : (N, I)   g : (N, O)

    Raises ValueError for other arrays and shapes.
    """
    floats("x", x, 2)
    floats("g", g, 2)
    _fit(len(x) == len(g), x, g)
    if not _tiled(isa, x.shape[1] * g.shape[1], x, g):
        return linear_weight_grad_ref(x, g)
    x, g = _contiguous(x), _contiguous(g)
    dw = aligned(g.shape[1], x.shape[1])
    db = aligned(g.shape[1])
    cpu.kernel_module("maps").linear_dw(x, g, dw, db)
    return dw, db


def relu_dx(g: Array, y: Array, *, isa: str = "auto") -> Array:
    """Returns g where y > 0, else 0: the cotangent before a ReLU that returned y.   one shape

    Raises ValueError for other arrays and shapes.
    """
    floats("g", g)
    floats("y", y)
    _fit(g.shape == y.shape, g, y)
    level = cpu.resolve(isa, "maps")
    if level == 0 or not g.dtype == y.dtype == F32 or not g.size:
        return relu_dx_ref(g, y)
    g, y = _contiguous(g), _contiguous(y)
    dx = np.empty_like(g)
    cpu.kernel_module("maps").relu_dx(g.reshape(-1), y.reshape(-1), dx.reshape(-1), level)
    return dx


def sgd(w: Array, v: Array, g: Array, *, lr: float, momentum: float, decay: float = 0.0,
        isa: str = "auto") -> None:
    """v = momentum v + (g + decay w);  w = w - lr v, in place.   w, v, g : one shape

    The kernel reads and writes each array once and computes the same bits.
    Raises ValueError for other arrays and shapes, w and v that cannot be written, numbers that are
        none.
    """
    floats("w", w)
    floats("v", v)
    floats("g", g)
    _fit(w.shape == v.shape == g.shape, w, v, g)
    of_w, of_v = w.flags, v.flags
    if not (of_w.writeable and of_v.writeable):
        raise ValueError("w and v must be writable, got a read-only array")
    lr, momentum, decay = number("lr", lr), number("momentum", momentum), number("decay", decay)
    level = cpu.resolve(isa, "maps")
    flat = of_w.c_contiguous and of_v.c_contiguous and g.flags.c_contiguous
    if level and flat and w.size and w.dtype == v.dtype == g.dtype == F32:
        cpu.kernel_module("maps").sgd(w.reshape(-1), v.reshape(-1), g.reshape(-1), lr, momentum,
                                      decay, level)
    else:
        sgd_ref(w, v, g, lr, momentum, decay)


def _tiled(isa: str, weights: int, *arrays: Array) -> bool:
    if cpu.resolve(isa, "maps") < AVX512 or not 0 < weights <= MOST_WEIGHTS:
        return False
    for a in arrays:
        if a.dtype != F32 or not a.size:
            return False
    return True


def _fit(holds: bool, *arrays: Array | None) -> None:
    if not holds:
        shapes = ", ".join(str(np.shape(a)) for a in arrays)
        raise ValueError(f"the shapes do not fit each other: {shapes}")


def _contiguous(a: Array) -> Array:
    return np.ascontiguousarray(a)
