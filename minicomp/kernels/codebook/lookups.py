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
from ..threads import threads

Array = np.ndarray


@dataclass(frozen=True)
class Lookups:
    """The look-ups of all filters, one filter behind the other, made by `pack_lookups`.

    shape : (k, H, W) of the padded maps        size : (Ho, Wo) of the output
    starts : (O + 1,) int64        offsets : (L,) int32        coefficients : (L,) float32
    Raises ValueError where they would lead out of the maps or out of the look-ups.
    """

    shape: tuple[int, int, int]
    size: tuple[int, int]
    starts: Array
    offsets: Array
    coefficients: Array

    def __post_init__(self):
        (k, H, W), (Ho, Wo) = self.shape, self.size
        last = k * H * W - ((Ho - 1) * W + Wo)
        doors.integers("offsets", self.offsets, 1, least=0, most=max(last, 0))
        found = len(self.offsets)
        sound = len(self.starts) and self.starts[0] == 0 and self.starts[-1] == found and (
            (np.diff(self.starts) >= 0).all())
        if not sound or self.coefficients.shape != (found,):
            raise ValueError(f"starts must rise from 0 to the {found} look-ups, each with a "
                             "coefficient")


def pack_lookups(P: Array, maps: tuple[int, int, int]) -> Lookups:
    """Returns the look-ups of P, (O, KH, KW, k) float, over padded maps (k, H, W), at stride 1.

    Raises ValueError where P is not of k atoms, or the kernel is larger than the maps.
    """
    doors.floats("P", P, 4)
    O, KH, KW, k = P.shape
    size = maps[1] - KH + 1, maps[2] - KW + 1
    if k != maps[0] or min(size) < 1:
        raise ValueError(f"P must be of {maps[0]} atoms and kernels of at most {maps[1]} x "
                         f"{maps[2]}, got {k} and {KH} x {KW}")
    doors.whole("entries of maps", int(np.prod(maps)), 1)
    o, r, c, atom = np.nonzero(P)
    starts = np.append(0, np.cumsum(np.bincount(o, minlength=O)))
    offsets = ((atom * maps[1] + r) * maps[2] + c).astype(np.int32)
    return Lookups(tuple(maps), size, starts, offsets, P[o, r, c, atom].astype(np.float32))


def lookups(w: Lookups, S: Array, *, isa: str = "auto", n_threads: int = 1) -> Array:
    """Returns y, (O, Ho, W) float32, of whose columns the first Wo are the output.

    S : float32, of w's `shape`        Raises ValueError for others.
    """
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
