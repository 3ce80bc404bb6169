"""Weights as codewords of blocks of columns: quantized, decoded, pulled back, and counted in bits.

W (O, I) is cut into s blocks of d columns; the O vectors of a block share k codewords of one
codebook, or of t, one a stage, whose codewords are summed. `shared` makes it one codebook (a stage)
for all blocks. I need not be a multiple of d: the last block is filled up with zeros that are never
read. These are the functions that product.py and bit_down.py have in common.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...tensor import Array
from .vectors import kmeans_vectors, residual_quantize


@dataclass(frozen=True)
class Search:
    """How codewords are looked for: the arguments of `vectors.residual_quantize`."""

    init: str = "k-means++"
    iterations: int = 100
    beam: int = 1
    rounds: int = 0


def product_quantize(
    w: Array,
    block: int,
    k: int,
    *,
    stages: int = 1,
    shared: bool = False,
    moments: Array | None = None,
    search: Search = Search(),
    rng: np.random.Generator | None = None,
    starts: Array | None = None,
) -> tuple[Array, Array]:
    """Returns (codes, codebooks): of t = stages codes and s = ceil(I / block) blocks.

    w : (O, I)        block : d columns of a block        k : codewords of a codebook, at most as
        many as there are vectors
    shared : one codebook for all blocks
    moments : (I, I), E[x x'] of what the rows are multiplied by: then (w - w^) H (w - w^)' is
        made small, H the block's part of it (their sum where a codebook is shared); or None
    starts : (s, k, d) where k-means starts, of one stage; or None
    codes : (t, O, s) int64        codebooks : (t, s, k, d) float32, (t, 1, k, d) where shared
    Raises ValueError for a block beyond 1..I, starts of several stages, and as
    `vectors.residual_quantize` does.
    Source: Gong et al. 2014, eqs. (5), (6), (7); Stock et al. 2020, eq. (3) for the moments
    """
    w = np.asarray(w, np.float64)
    if w.ndim != 2 or not w.size:
        raise ValueError(f"w must have shape (O, I) and an entry at least, got {w.shape}")
    if not 1 <= block <= w.shape[1]:
        raise ValueError(f"block must be in [1, {w.shape[1]}], the columns, got {block}")
    if starts is not None and stages > 1:
        raise ValueError(f"starts must be None where there are several stages, got {stages}")
    vectors = blocks_of(w, block)  # (s, O, d)
    roots = moment_roots(moments, block, len(vectors), shared)
    if shared:
        vectors = vectors.reshape(1, -1, block)
    found = []
    for i, (x, root) in enumerate(zip(vectors, roots)):
        start = None if starts is None else starts[i] @ root
        codes, codebooks = _quantized(x @ root, k, stages, search, rng, start)
        # Means are the same before and after a linear map.
        found.append((codes, codebooks @ np.linalg.inv(root)))
    codes, codebooks = (np.stack(parts, axis=1) for parts in zip(*found))  # (t, s, n), (t, s, k, d)
    codes = codes.reshape(stages, -1, len(w)).transpose(0, 2, 1)  # shared: n is (s, O)
    return np.ascontiguousarray(codes), codebooks.astype(np.float32)


def _quantized(x: Array, k: int, stages: int, search: Search, rng, start) -> tuple[Array, Array]:
    k = min(k, len(x))
    if start is None:
        return residual_quantize(x, k, stages, init=search.init, rng=rng,
                                 iterations=search.iterations, beam=search.beam,
                                 rounds=search.rounds)
    codebook, index = kmeans_vectors(x, k, starts=start, iterations=search.iterations)
    return index[None], codebook[None]


def blocks_of(w: Array, block: int) -> Array:
    """Returns the blocks of w's columns, (s, O, block), the last filled up with 0.   w : (O, I)"""
    O, I = w.shape
    padded = np.zeros((O, -(-I // block) * block), w.dtype)
    padded[:, :I] = w
    return np.ascontiguousarray(padded.reshape(O, -1, block).transpose(1, 0, 2))


def moment_roots(moments: Array | None, block: int, count: int, shared: bool) -> Array:
    """Returns R with R R' = H for each codebook, (s, d, d), or (1, d, d) where one is shared.

    moments : (I, I), E[x x']; None: the identity. 1 % of its mean diagonal is added to H: an input
        that is always 0 must not leave its weights free, for they share codewords with others
    """
    if moments is None:
        return np.broadcast_to(np.eye(block), (1 if shared else count, block, block))
    moments = np.asarray(moments, np.float64)
    full = np.zeros((count * block, count * block))
    full[: len(moments), : len(moments)] = moments
    parts = full.reshape(count, block, count, block)
    H = np.stack([parts[i, :, i] for i in range(count)])
    damping = 0.01 * np.trace(moments) / len(moments)
    H = H + (damping if damping > 0 else 1.0) * np.eye(block)
    return np.linalg.cholesky(H.sum(axis=0, keepdims=True) if shared else H)


def product_decode(codes: Array, codebooks: Array, columns: int) -> Array:
    """Returns W^ (O, columns), the sum over stages of the codewords, in the codebooks' dtype.

    codes : (t, O, s)        codebooks : (t, s, k, d), or (t, 1, k, d) shared by all blocks
    Source: Gong et al. 2014, eqs. (6), (7)
    """
    t, O, s = codes.shape
    at = np.arange(s) if codebooks.shape[1] > 1 else np.zeros(s, np.int64)
    w = np.zeros((O, s, codebooks.shape[3]), codebooks.dtype)
    for index, books in zip(codes, codebooks):
        w += books[at, index]  # (O, s, d)
    return w.reshape(O, -1)[:, :columns]


def product_gradient(g: Array, codes: Array, k: int, block: int, shared: bool = False) -> Array:
    """Returns the gradient of each codeword: the sum of its members', (t, s, k, d), in g's dtype.

    g : (O, I), dL / dW^        codes : (t, O, s) below k        shared : (t, 1, k, d)
    Source: Gong et al. 2014 keep codewords; by the chain rule of eqs. (6) and (7), as Han et al.
        2016, eq. (3)
    """
    t, _, s = codes.shape
    out = np.zeros((t, 1 if shared else s, k, block))
    for stage, index in enumerate(codes):
        for i, part in enumerate(blocks_of(g, block)):
            np.add.at(out[stage, 0 if shared else i], index[:, i], part)
    return out.astype(g.dtype)


def product_bits(
    rows: int, columns: int, *, block: int, k: int, stages: int = 1, shared: bool = False,
    float_bits: int = 32,
) -> int:
    """Returns the bits of codes and codebooks, codes of whole bits, nothing coded further.

    rows, columns : of W        block : d, columns of a block        float_bits : of a codeword's
    number, 32 or 16
    Source: Gong et al. 2014, section 3.2, whose rate leaves rows out of the codebook
    """
    blocks = -(-columns // block)
    codebooks = (1 if shared else blocks) * k * block * float_bits
    return stages * (rows * blocks * (k - 1).bit_length() + codebooks)


def product_break_even(
    columns: int, *, block: int, k: int, stages: int = 1, shared: bool = False,
    float_bits: int = 32,
) -> int:
    """Returns from how many rows on `product_bits` are fewer than 32 a weight, 0 where never.

    columns, block, k, stages, shared, float_bits : of `product_bits`
    """
    how = dict(block=block, k=k, stages=stages, shared=shared, float_bits=float_bits)
    fixed = product_bits(0, columns, **how)
    saved = 32 * columns - (product_bits(1, columns, **how) - fixed)  # by each row
    return fixed // saved + 1 if saved > 0 else 0
