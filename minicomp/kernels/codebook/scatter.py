"""The gradient of shared weights: the sums of what falls on each centroid.

    dL/dc_j = sum of dL/dw_i over all i with index_i = j        Han et al. 2016, eq. (3)

Sums run in float64, in a fixed order: entry i is added to the sum i mod 8 of its centroid, and the
eight are added in pairs. So a centroid's gradient is off by its rounding to float32 alone, and is
the same on every rung. The compiled twin is in kernels_pyx/codebook.pyx; what each rung gains is
said in simd/codebook/scatter.h.
"""

from __future__ import annotations

import numpy as np

from .. import cpu, doors
from .lookup import check, index_bytes, refuse

Array = np.ndarray
LANES = 8  # sums of a centroid


def scatter_add(g: Array, index: Array, k: int, *, isa: str = "auto") -> Array:
    """Returns the sums of the entries of g that share an index, (k,) float32.

    g : float32        index : uint8, uint16 or uint32 of its shape, below k, at most 2^31 - 1
    Raises ValueError where an index is not below k, and for other shapes and types.
    """
    check(g, index)
    k = doors.whole("k", k, 0)
    if g.shape != index.shape:
        raise ValueError(f"g must have the shape of index, {index.shape}, got {g.shape}")
    level = cpu.resolve(isa, "codebook")
    if level == 0:
        return scatter_add_ref(g, index, k)
    out, room = np.empty(k, np.float32), np.zeros((k, LANES))
    flat = np.ascontiguousarray(g).reshape(-1)
    top = cpu.kernel_module("codebook").scatter_add(
        flat, index_bytes(index), index.itemsize, room, out, level
    )
    refuse(top, k)
    return out


def scatter_add_ref(g: Array, index: Array, k: int) -> Array:
    """Returns what `scatter_add` returns, by a count of weights for each of the eight sums."""
    g, index = g.reshape(-1), index.reshape(-1)
    refuse(int(index.max(initial=0)) if index.size else -1, k)
    sums = [np.bincount(index[i::LANES], weights=g[i::LANES], minlength=k) for i in range(LANES)]
    while len(sums) > 1:
        sums = [a + b for a, b in zip(sums[::2], sums[1::2])]
    return sums[0].astype(np.float32)
