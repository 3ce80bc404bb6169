"""Weights that share signed buckets by a map: the gradient of a bucket, summed over its entries.

    dL/db_k = sum of sign_p dL/dw_p over all p with bucket_p = k    Chen et al. 2015, section 4.4

A map has as many buckets as numbers are stored, up to millions, and a bucket few entries. So the
places of each bucket are listed once, in ascending order, and its sum is gathered, in float64:
buckets are independent, and any number of threads gives the bits of one. Decoding is a look-up in
the table (b_0, -b_0, b_1, -b_1, ...), see lookup.py. The compiled twin is in
kernels_pyx/codebook.pyx.
"""

from __future__ import annotations

import functools

import numpy as np

from .. import cpu, doors
from ..threads import threads
from .lookup import take

Array = np.ndarray
MOST = 2**31 - 1  # places, each of which has a sign beside it in 32 bits


class Places:
    """Where buckets go: entry p of the weight, in C order, is sign_p times bucket_p.

    bucket : integers in [0, k), of the weight's shape; copied        k : how many buckets there are
    negative : bool of its shape, where the sign is -1
    Raises ValueError for others.
    """

    def __init__(self, bucket: Array, negative: Array, k: int):
        self.k = doors.whole("k", k, 1, MOST)
        doors.integers("bucket", bucket, least=0, most=self.k - 1)
        self.shape = bucket.shape
        if bucket.size > MOST:
            raise ValueError(f"bucket must have at most {MOST} entries, got {bucket.size}")
        if negative.shape != bucket.shape or negative.dtype != bool:
            raise ValueError(f"negative must be bool of shape {bucket.shape}, got {negative.dtype} "
                             f"of shape {negative.shape}")
        self.code = bucket.astype(np.uint32) << 1 | negative

    @property
    def bucket(self) -> Array:
        """The bucket of each entry, uint32."""
        return self.code >> 1

    @property
    def sign(self) -> Array:
        """+1 or -1 of each entry, int8."""
        return 1 - 2 * (self.code & 1).astype(np.int8)

    @functools.cached_property
    def lists(self) -> tuple[Array, Array]:
        """(places, starts): of bucket k places[starts[k]:starts[k + 1]], ascending.

        places : (n,) uint32, twice the place, and 1 where the sign is -1        starts : (k + 1,)
        int64
        """
        code = self.code.reshape(-1)
        order = np.argsort(code >> 1, kind="stable").astype(np.uint32)
        counts = np.bincount(code >> 1, minlength=self.k)
        return order << 1 | code[order] & 1, np.append(0, np.cumsum(counts))


def decode(b: Array, places: Places, *, isa: str = "auto") -> Array:
    """Returns sign_p b[bucket_p] of every entry, of the places' shape and b's dtype.

    b : (k,) float
    """
    _check("b", b, places, "k")
    table = np.stack([b, -b], axis=1).reshape(-1)
    return take(table, places.code, isa=isa) if b.dtype == doors.F32 else table[places.code]


def add(g: Array, places: Places, *, isa: str = "auto", n_threads: int = 1) -> Array:
    """Returns the sums of sign_p g_p over the entries of each bucket, (k,) of g's dtype.

    g : float, of the places' shape        float64 runs on the reference
    """
    n_threads = threads(n_threads)
    _check("g", g, places, "shape")
    if cpu.resolve(isa, "codebook") == 0 or g.dtype != doors.F32:
        return add_ref(g, places)
    lists, starts = places.lists
    out = np.empty(places.k, np.float32)
    cpu.kernel_module("codebook").bucket_add(np.ascontiguousarray(g).reshape(-1), lists, starts,
                                             out, n_threads)
    return out


def add_ref(g: Array, places: Places) -> Array:
    """Returns what `add` returns, by a count of weights."""
    signed = (g * places.sign.astype(g.dtype)).reshape(-1)
    return np.bincount(places.bucket.reshape(-1), signed, places.k).astype(g.dtype)


def _check(name: str, a: Array, places: Places, of: str) -> None:
    if not isinstance(places, Places):
        raise ValueError(f"places must be Places, got {type(places).__name__}")
    doors.floats(name, a)
    shape = (places.k,) if of == "k" else places.shape
    if a.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {a.shape}")
