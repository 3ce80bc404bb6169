"""Races of products that structure makes shorter: circulant matrices by FFT, and look-ups.

A matrix that is circulant is never made: the spectrum of its first column is kept ready, as a plan
keeps packed weights. Beside it stands BLAS with the decoded matrix, one row a call and a batch.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..compress.share.circulant import column_spectrum, spectrum_product
from ..deploy import lower
from ..deploy.choose import LOOKUPS
from ..nn.forms import Circulant, Dictionary
from ..nn.graph import Model, chain
from ..nn.layers import Conv2d
from .race import Log, Row, race, row

PEER = "NumPy float32"
SIZES = ((1, 1024, 1024), (1, 4096, 4096), (64, 1024, 1024), (64, 4096, 4096), (1, 4096, 64),
         (64, 4096, 64))  # rows, outputs = inputs, block
# channels, filters, size of a map, atoms, look-ups of a place of a filter
CONVS = ((64, 64, 14, 32, 2), (128, 128, 14, 32, 2), (128, 256, 14, 64, 3))


def products_by_fft(peers: bool, log: Log) -> Iterator[Row]:
    """Yields circulant products beside sgemv and sgemm of the matrix they stand for."""
    for N, n, block in SIZES:
        rng = np.random.default_rng(0)
        columns = rng.standard_normal(n * (n // block)).astype(np.float32)
        x = rng.standard_normal((N, n)).astype(np.float32)
        w = Circulant(columns, (n, n), block).dense().data
        spectrum = column_spectrum(columns, (n, n), block)
        times = race({"ours": lambda: spectrum_product(x, spectrum, n, block),
                      PEER: lambda: x @ w.T})
        yield row("circulant product by FFT", f"{N} x {n} x {n}, blocks of {block}", times, PEER,
                  f"{w.nbytes // columns.nbytes} x fewer numbers")


def look_ups(peers: bool, log: Log) -> Iterator[Row]:
    """Yields 3 x 3 convolutions of one image by look-ups beside our dense ones, with what is
    multiplied."""
    for C, O, size, k, s in CONVS:
        model = looked_up(C, O, size, k, s)
        program, x = lower(model), np.ones((1, C, size, size), np.float32)
        ours, dense = program.plan(), program.plan(skip_zeros=False)
        if ours.layouts["conv"] != LOOKUPS:
            log({"event": "say", "text": "bench: look-ups need a rung with vectors, and more than "
                                         f"{C} x {O} channels"})
            continue
        times = race({"ours": lambda: ours(x), "our dense convolution": lambda: dense(x)})
        less = model.macs()["conv"] / model.effective_macs()["conv"]
        yield row("convolution by look-ups", f"{C} x {size} x {size} to {O}, {k} atoms, {s} each",
                  times, "our dense convolution", f"{less:.1f} x fewer multiplications")


def looked_up(C: int, O: int, size: int, k: int, s: int) -> Model:
    """Returns a 3 x 3 convolution whose every place looks s of k atoms up."""
    rng, model = np.random.default_rng(0), Model(
        chain(("conv", Conv2d(C, O, 3, padding=1))), input_shape=(C, size, size))
    P = np.zeros((9 * O, k))
    for place in P:
        place[rng.permutation(k)[:s]] = rng.standard_normal(s)
    model.set_form("conv.weight", Dictionary.of(rng.standard_normal((k, C)), P, (O, C, 3, 3)))
    return model
