import numpy as np
import pytest


@pytest.fixture(scope="session")
def make_layer():
    # Codes (O, I) with a fraction of 0, a table of k centroids, the first 0, and 65 columns.
    def make(O, I, sparsity, k):
        rng = np.random.default_rng(O + I)
        codes = rng.integers(1, k, (O, I)).astype(np.uint16)
        codes[rng.random((O, I)) < sparsity] = 0
        table = rng.normal(size=k).astype(np.float32)
        table[0] = 0
        return codes, table, rng.normal(size=(I, 65)).astype(np.float32)

    return make


@pytest.fixture(scope="session")
def within_rounding():
    # |y - W x| <= (n + 1) u |W| |x|, n the longest sum: products and sums round to u once each.
    def check(y, W, x):
        exact = W.astype(np.float64) @ x.astype(np.float64)
        size = np.abs(W).astype(np.float64) @ np.abs(x).astype(np.float64)
        n = np.count_nonzero(W, axis=1).max(initial=0)
        return (np.abs(y - exact) <= (n + 1) * 2.0**-24 * size).all()

    return check
