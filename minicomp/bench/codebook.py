"""Races of products by look-up: codes of 4 bits and codewords beside dense BLAS, one column."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..kernels.codebook.tables import matvec, pack_tables
from ..tensor import Array
from .race import Log, Row, race, row

# side of a square weight, codewords, columns of a codeword, stages
SHAPES = [(n, *how) for n in (500, 1024, 2048, 4096)
          for how in ((16, 1, 1), (16, 4, 1), (16, 8, 2), (256, 8, 1))]
BOUND = 1e-5  # of the largest output: sums in another order


def weight(n: int, k: int, block: int, stages: int, rng: np.random.Generator
           ) -> tuple[Array, Array, Array]:
    """Returns (index, books, W), W (n, n) being what these codes decode to.

    Of single weights, block 1, all columns share one book, as in a layer's codebook.
    """
    blocks = -(-n // block)
    index = rng.integers(0, k, (stages, n, blocks))
    books = rng.normal(size=(stages, 1 if block == 1 else blocks, k, block)).astype(np.float32)
    at = np.zeros(blocks, np.int64) if block == 1 else np.arange(blocks)
    W = sum(book[at, codes] for codes, book in zip(index, books))
    return index, books, np.ascontiguousarray(W.reshape(n, -1)[:, :n])


def looked_up(peers: bool, log: Log) -> Iterator[Row]:
    """Yields products by look-up beside sgemv; RuntimeError where they are not the same."""
    rng, peer = np.random.default_rng(0), "NumPy sgemv"
    for n, k, block, stages in SHAPES:
        index, books, W = weight(n, k, block, stages, rng)
        w, x = pack_tables(index, books, n), rng.normal(size=n).astype(np.float32)
        ours, dense = matvec(w, x), W @ x
        if not np.abs(ours - dense).max() <= BOUND * np.abs(dense).max():
            raise RuntimeError(f"products by look-up of {n} x {n}, k = {k}, differ from dense ones")
        times = race({"ours": lambda: matvec(w, x), peer: lambda: W @ x})
        kernel = f"{k} codes" if block == 1 else f"{k} codewords of {block} columns"
        kernel += f", {stages} stages" if stages > 1 else ""
        yield row(f"look-ups, {kernel}", f"{n} x {n}, 1 column", times, peer,
                  f"{8 * w.nbytes / n**2:.2f} bits a weight, codebooks and all")
