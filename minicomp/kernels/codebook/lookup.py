"""Decoding shared weights: one look-up in a small table per weight.

k centroids. The compiled twin is in kernels_pyx/codebook.pyx; what each rung gains is said in
simd/codebook/lookup.h.
"""

from __future__ import annotations

import numpy as np

from .. import cpu, doors

Array = np.ndarray
INDEX_TYPES = (np.dtype(np.uint8), np.dtype(np.uint16), np.dtype(np.uint32))


def take(table: Array, index: Array, *, isa: str = "auto") -> Array:
    """Returns table[index], float32 of index's shape.

    table : (k,) float32        index : uint8, uint16 or uint32, any shape
    Raises ValueError where an index is not below k, and for other types.
    """
    doors.floats("table", table, 1)
    check(table, index)
    level = cpu.resolve(isa, "codebook")
    if level == 0:
        return take_ref(table, index)
    out = np.empty(index.size, np.float32)
    top = cpu.kernel_module("codebook").take(
        np.ascontiguousarray(table), index_bytes(index), index.itemsize, out, level
    )
    refuse(top, len(table))
    return out.reshape(index.shape)


def take_ref(table: Array, index: Array) -> Array:
    """Returns what `take` returns, by NumPy's indexing."""
    refuse(int(index.max(initial=0)) if index.size else -1, len(table))
    return table[index]


def check(values: Array, index: Array) -> None:
    """Raises ValueError where values are not float32 or index is of none of INDEX_TYPES."""
    arrays = isinstance(values, np.ndarray) and isinstance(index, np.ndarray)
    if not arrays or values.dtype != doors.F32 or index.dtype not in INDEX_TYPES:
        given = [getattr(a, "dtype", type(a).__name__) for a in (values, index)]
        raise ValueError("values must be float32 and index uint8, uint16 or uint32, arrays both, "
                         f"got {given[0]} and {given[1]}")


def index_bytes(index: Array) -> Array:
    """Returns the bytes of the indices in C order, (n width,); index's own memory if it can."""
    return np.ascontiguousarray(index).reshape(-1).view(np.uint8)


def refuse(top: int, k: int) -> None:
    """Raises ValueError where the largest index is not below k."""
    if top >= k:
        raise ValueError(f"index must be in [0, {k - 1}], got {top}")
