import numpy as np
import pytest

from minicomp.compress import EntropyPenalty
from minicomp.compress.rate.entropy_penalty import rate_slope
from minicomp.compress.rate.pricing import code_bits, code_counts
from minicomp.compress.technique import Run

BITS = np.array([5.0, 3.0, 1.0, 2.0, 6.0])  # of -2..2


def between(w, step):
    # eq. (2)
    return np.interp(w / step, np.arange(-2, 3), BITS)


def test_the_slope_is_that_of_the_line_through_the_prices():
    step, h = 0.5, 1e-6
    w = np.random.default_rng(1).uniform(-1.3, 1.3, 300)
    want = (between(w + h, step) - between(w - h, step)) / (2 * h)
    np.testing.assert_allclose(rate_slope(w, step, BITS), want, rtol=1e-6, atol=1e-6)
    assert rate_slope(np.array([9.0, -9.0]), step, BITS).tolist() == [0, 0]


@pytest.mark.parametrize("bits", [3, 5])
def test_the_bits_of_the_codes_fall_with_lambda(blobs, net, bits):
    spent = []
    for lam in (0.0, 1.0, 8.0):
        training = EntropyPenalty(lam=lam, bits=bits, every=2).training(epochs=6, lr=0.05)
        made = training.apply(net(), blobs(), Run(np.random.default_rng(0)))
        total = 0.0
        for name in ("fc1.weight", "fc2.weight", "fc3.weight"):
            form = made.forms()[name]
            assert form.kind == "affine" and form.bits == bits
            counts = code_counts(form.q.astype(int), form.codes("q").stop - 1)
            total += (counts[counts > 0] * code_bits(counts)[counts > 0]).sum()
        spent.append(total)
    assert spent[1] < 0.97 * spent[0] and spent[2] < 0.92 * spent[1]
