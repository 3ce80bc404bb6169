"""Convolutions by look-ups: sums of shifted, scaled maps (Bagherinezhad et al. 2017).

    y[o, i, j] = sum over look-ups e of filter o of C_e S[I_e, i + r_e, j + c_e]

S are the maps of the atoms, padded, (k, H, W); a look-up is the offset (I H + r) W + c into them
and its coefficient. Outputs lie in rows of W as the maps do, of which the last KW - 1 columns are
nobody's. Sums are float32, look-up after look-up, with a rounding each, on every rung and for any
number of threads. The compiled twin is in kernels_pyx/codebook.pyx.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .. import cpu, doors
from ..sparse.packed import Packed, of_kind
from ..threads import threads

Array = np.ndarray


@dataclass(frozen=True, init=False)
class Lookups(Packed):
    """The look-ups of all filters, one filter behind the other; made by `pack_lookups`.

    shape : (k, H, W) of the padded maps        size : (Ho, Wo) of the output
    starts : (O + 1,) int64        offsets : (L,) int32        coefficients : (L,) float32
    """

    packer = "pack_lookups"
    shape: tuple[int, int, int]
    size: tuple[int, int]
    starts: Array
    offsets: Array
    coefficients: Array


def pack_lookups(P: Array, maps: tuple[int, int, int]) -> Lookups:
    """Returns the look-ups of P, (O, KH, KW, k) float, over padded maps (k, H, W), at stride 1.

    Raises ValueError where P is not of k atoms, or the kernel is larger than the maps.
    """
    doors.floats("P", P, 4)
    if not isinstance(maps, tuple) or len(maps) != 3:
        raise ValueError(f"maps must be (k, H, W), got {str(maps)[:40]!r}")
    k, H, W = (doors.whole("maps", n, 1) for n in maps)
    O, KH, KW, atoms = P.shape
    size = H - KH + 1, W - KW + 1
    if atoms != k or min(KH, KW, *size) < 1:
        raise ValueError(f"P must be of {k} atoms and kernels of at most {H} x {W}, got {atoms} "
                         f"and {KH} x {KW}")
    doors.whole("entries of maps", k * H * W, 1)
    o, r, c, atom = np.nonzero(P)
    return Lookups._made(shape=(k, H, W), size=size,
                         starts=np.append(0, np.cumsum(np.bincount(o, minlength=O))),
                         offsets=((atom * H + r) * W + c).astype(np.int32),
                         coefficients=P[o, r, c, atom].astype(np.float32))


def lookups(w: Lookups, S: Array, *, isa: str = "auto", n_threads: int = 1) -> Array:
    """Returns y, (O, Ho, W) float32, of whose columns the first Wo are the output.

    S : float32, of w's `shape`        Raises ValueError for others.
    """
    of_kind(w, Lookups)
    n_threads = threads(n_threads)
    if not isinstance(S, Array) or S.dtype != doors.F32 or S.shape != w.shape:
        raise ValueError(f"S must be float32 of shape {w.shape}, got {getattr(S, 'dtype', S)} of "
                         f"shape {np.shape(S)}")
    level = cpu.resolve(isa, "codebook")
    if level == 0:
        return lookups_ref(w, S)
    y = np.zeros((len(w.starts) - 1, w.size[0] * w.shape[2]), np.float32)
    n = y.shape[1] - w.shape[2] + w.size[1]
    cpu.kernel_module("codebook").lookups(np.ascontiguousarray(S).reshape(-1), w.offsets,
                                          w.coefficients, w.starts, n, y, level, n_threads)
    return y.reshape(len(y), w.size[0], w.shape[2])


def lookups_ref(w: Lookups, S: Array) -> Array:
    """Returns what `lookups` returns, by a slice of the maps for each look-up."""
    flat, y = S.reshape(-1), np.zeros((len(w.starts) - 1, w.size[0] * w.shape[2]), np.float32)
    n = y.shape[1] - w.shape[2] + w.size[1]
    for o, (a, b) in enumerate(zip(w.starts, w.starts[1:])):
        for at, c in zip(w.offsets[a:b], w.coefficients[a:b]):
            y[o, :n] += c * flat[at : at + n]
    return y.reshape(len(y), w.size[0], w.shape[2])
