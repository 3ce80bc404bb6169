"""k-means of vectors, and k-means of what is left over, in stages.

n vectors of d numbers, k centroids. Lloyd's iterations: each vector goes to its nearest centroid,
each centroid to the mean of its members; the squared error

    E = sum_i |x_i - c_a(i)|^2

never rises. In more than one dimension nobody can find its least, so starts matter: "random"
takes k different vectors; "k-means++" draws each next one with probability ~ its squared distance
from those drawn (Arthur & Vassilvitskii 2007).

Residual quantization goes on where that ends: stage j is k-means of what the stages before left,
x - c_1 - ... - c_{j-1}, and a vector is the sum of t codewords, one a stage (Chen, Guan & Wang
2010, Approximate Nearest Neighbor Search by Residual Vector Quantization). Which t codewords are
best is no longer seen stage by stage: a beam keeps the b best sums after each stage. And once codes
are there, codewords are not means any more but the solution of one least-squares problem

    C = argmin |x - A C|^2,      A (n, t k), a one in each stage's part of a row

so `rounds` of codes by beam and codewords by least squares lower the error further (Babenko &
Lempitsky 2014, Additive Quantization, section 3).
"""

from __future__ import annotations

import numpy as np

from ...tensor import Array

VECTOR_INITS = ("k-means++", "random")
_CELLS = 2**21  # distances held at a time
_DAMPING = 1e-9  # of the least-squares problem, which is singular: a constant can change stages


def kmeans_vectors(
    x: Array,
    k: int,
    *,
    init: str = "k-means++",
    rng: np.random.Generator | None = None,
    iterations: int = 100,
    starts: Array | None = None,
) -> tuple[Array, Array]:
    """Returns (centroids, index): k centroids (k, d) float64, and the nearest one of every vector.

    x : (n, d), n at least k        k : at least 1
    init, rng : "k-means++" or "random", drawn from rng; neither with `starts`
    iterations : of Lloyd's at most; it ends where no vector changes its cluster
    starts : (k, d), where centroids start, or None
    index : (n,) int64; of equally near ones the lower
    A cluster that loses all its members takes over the vector that lies farthest from its centroid.
    Raises ValueError for a k beyond 1..n, no or non-finite x, an unknown init, a missing rng, and
    starts of another shape.
    Source: Lloyd 1982
    """
    x = _vectors(x)
    if not 1 <= k <= len(x):
        raise ValueError(f"k must be in [1, {len(x)}], the number of vectors, got {k}")
    if starts is None:
        centroids = vector_starts(x, k, init=init, rng=rng)
    else:
        centroids = np.array(starts, np.float64)
        if centroids.shape != (k, x.shape[1]):
            raise ValueError(f"starts must have shape {(k, x.shape[1])}, got {centroids.shape}")
    index, before = nearest_vector(x, centroids), None
    for _ in range(iterations):
        if before is not None and np.array_equal(index, before):
            break
        centroids, before = _means(x, index, centroids), index
        index = nearest_vector(x, centroids)
    return centroids, index


def vector_starts(x: Array, k: int, *, init: str, rng: np.random.Generator | None) -> Array:
    """Returns k of the vectors, (k, d) float64, where k-means starts.

    x : (n, d)        init : "k-means++" or "random"        rng : what draws them
    Source: Arthur & Vassilvitskii 2007 for k-means++
    """
    if init not in VECTOR_INITS:
        raise ValueError(f"init must be one of {', '.join(VECTOR_INITS)}, got {init!r}")
    if rng is None:
        raise ValueError(f"rng must be given for init {init}")
    x, n = np.asarray(x, np.float64), len(x)
    if init == "random":
        return x[rng.choice(n, k, replace=False)]
    chosen = [int(rng.integers(n))]
    distance = np.square(x - x[chosen[0]]).sum(axis=1)  # to the nearest chosen one
    while len(chosen) < k:
        upto = np.cumsum(distance)
        at = np.searchsorted(upto, rng.random() * upto[-1], side="right")
        chosen.append(min(int(at), n - 1))
        np.minimum(distance, np.square(x - x[chosen[-1]]).sum(axis=1), out=distance)
    return x[chosen]


def nearest_vector(x: Array, centroids: Array) -> Array:
    """Returns the number of the nearest centroid of every vector, (n,) int64.

    x : (n, d)        centroids : (k, d)        Of equally near ones the lower, but for rounding.
    """
    c = np.asarray(centroids, np.float64)
    half, index = 0.5 * np.square(c).sum(axis=1), np.empty(len(x), np.int64)
    step = max(_CELLS // len(c), 1)
    for i in range(0, len(x), step):  # argmin |x - c|^2 = argmin |c|^2 / 2 - x c
        index[i : i + step] = (half - x[i : i + step].astype(np.float64) @ c.T).argmin(axis=1)
    return index


def residual_quantize(
    x: Array,
    k: int,
    stages: int,
    *,
    init: str = "k-means++",
    rng: np.random.Generator | None = None,
    iterations: int = 100,
    beam: int = 1,
    rounds: int = 0,
) -> tuple[Array, Array]:
    """Returns (codes, codebooks): t = stages codewords whose sum stands for each vector.

    x : (n, d)        k : codewords of a stage, at most n        init, rng, iterations : of k-means
    beam : sums that are kept after each stage when codes are looked for
    rounds : of codes by beam and codewords by least squares, after the last stage; they end where
        the error falls no more
    codes : (t, n) int64        codebooks : (t, k, d) float64
    The squared error does not rise from stage to stage, nor from round to round.
    Raises ValueError for stages or beam below 1, rounds below 0, and as `kmeans_vectors` does.
    Source: Chen, Guan & Wang 2010; Gong et al. 2014, section 3.3
    """
    for name, value, least in (("stages", stages, 1), ("beam", beam, 1), ("rounds", rounds, 0)):
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")
    x = _vectors(x)
    codes, codebooks = np.zeros((0, len(x)), np.int64), np.zeros((0, k, x.shape[1]))
    for _ in range(stages):
        rest = x - residual_sum(codes, codebooks)
        more, index = kmeans_vectors(rest, k, init=init, rng=rng, iterations=iterations)
        codes = np.concatenate([codes, index[None]])
        codebooks = np.concatenate([codebooks, more[None]])
        codes = _better(x, codes, beam_codes(x, codebooks, beam), codebooks)
    for _ in range(rounds if stages > 1 else 0):
        before = codes
        codebooks = least_squares_codebooks(x, codes, codebooks)
        codes = _better(x, codes, beam_codes(x, codebooks, beam), codebooks)
        if np.array_equal(codes, before):
            break
    return codes, codebooks


def residual_sum(codes: Array, codebooks: Array) -> Array:
    """Returns the sum of each vector's codewords, (n, d).

    codes : (t, n)        codebooks : (t, k, d)
    """
    total = np.zeros((codes.shape[1], codebooks.shape[2]), codebooks.dtype)
    for index, codebook in zip(codes, codebooks):
        total += codebook[index]
    return total


def beam_codes(x: Array, codebooks: Array, beam: int) -> Array:
    """Returns the codes, (t, n) int64, of the best sum of codewords that a beam finds.

    x : (n, d)        codebooks : (t, k, d)        beam : sums that are kept after each stage; 1
        takes the nearest codeword of each stage
    """
    x = np.asarray(x, np.float64)
    t, k, _ = codebooks.shape
    found = np.empty((t, len(x)), np.int64)
    step = max(_CELLS // (k * beam), 1)
    for i in range(0, len(x), step):
        found[:, i : i + step] = _beam(x[i : i + step], codebooks, beam)
    return found


def _beam(x: Array, codebooks: Array, beam: int) -> Array:
    # b sums kept of each vector: what they leave of it, (n, b, d), and their codes, (n, b, stages).
    n, rows = len(x), np.arange(len(x))[:, None]
    rest, codes = x[:, None], np.zeros((n, 1, 0), np.int64)
    for codebook in codebooks:
        k = len(codebook)
        # |rest - c|^2 of every sum with every codeword
        error = np.square(rest).sum(axis=2)[..., None] - 2 * rest @ codebook.T
        error = (error + np.square(codebook).sum(axis=1)).reshape(n, -1)
        b = min(beam, error.shape[1])
        best = error.argmin(axis=1)[:, None] if b == 1 else (
            np.argpartition(error, b - 1, axis=1)[:, :b])
        came, code = np.divmod(best, k)
        rest = rest[rows, came] - codebook[code]
        codes = np.concatenate([codes[rows, came], code[..., None]], axis=2)
    last = np.square(rest).sum(axis=2).argmin(axis=1)
    return codes[rows[:, 0], last].T


def least_squares_codebooks(x: Array, codes: Array, codebooks: Array) -> Array:
    """Returns the codebooks of least squared error for these codes, (t, k, d) float64.

    x : (n, d)        codes : (t, n)        codebooks : (t, k, d), to which those that no vector
        uses, and what the codes leave open, stay close
    Source: Babenko & Lempitsky 2014, section 3
    """
    t, k, d = codebooks.shape
    at = codes + k * np.arange(t)[:, None]  # the columns of the ones of A
    gram = np.zeros((t * k, t * k))
    for i in range(t):
        for j in range(t):
            pairs = np.bincount(at[i] * (t * k) + at[j], minlength=(t * k) ** 2)
            gram += pairs.reshape(gram.shape)
    rest = x - residual_sum(codes, codebooks)
    right = np.stack([np.bincount(at.ravel(), weights=np.tile(column, t), minlength=t * k)
                      for column in rest.T], axis=1)
    gram += _DAMPING * len(x) * np.eye(t * k)
    return codebooks + np.linalg.solve(gram, right).reshape(t, k, d)


def _better(x: Array, codes: Array, others: Array, codebooks: Array) -> Array:
    # Of two codes of each vector that with the smaller error.
    old, new = (np.square(x - residual_sum(c, codebooks)).sum(axis=1) for c in (codes, others))
    return np.where(new < old, others, codes)


def _means(x: Array, index: Array, centroids: Array) -> Array:
    k, d = centroids.shape
    count = np.bincount(index, minlength=k)
    flat = (index[:, None] * d + np.arange(d)).ravel()
    total = np.bincount(flat, weights=x.ravel(), minlength=k * d).reshape(k, d)
    means = np.where(count[:, None] > 0, total / np.maximum(count, 1)[:, None], centroids)
    empty = np.flatnonzero(count == 0)
    if len(empty):
        far = np.square(x - means[index]).sum(axis=1)
        taken = np.argsort(-far, kind="stable")[: len(empty)]
        taken = taken[far[taken] > 0]
        means[empty[: len(taken)]] = x[taken]
    return means


def _vectors(x: Array) -> Array:
    x = np.asarray(x, np.float64)
    if x.ndim != 2 or not x.size or not np.isfinite(x).all():
        raise ValueError("x must hold vectors (n, d), at least one number and no NaN or infinity, "
                         f"got shape {x.shape}")
    return x
