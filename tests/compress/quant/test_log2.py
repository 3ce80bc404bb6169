import numpy as np
import pytest

from minicomp.codec import decode, encode
from minicomp.compress import KMeans, Log2, net_of
from minicomp.compress.quant.log2 import log2_quantize, top_exponent
from minicomp.compress.technique import Run
from minicomp.errors import UserError

RUN = Run(np.random.default_rng(0))
W = np.random.default_rng(1).standard_normal((60, 50)).astype(np.float32) / 8


def test_by_hand():
    # the largest is 0.7: log2 of it -0.51, so that 2^-1 is the top, and 2^-3 the least
    w = np.array([0.7, -0.36, 0.35, 0.17, 0.01, 0])
    assert log2_quantize(w, bits=3).tolist() == [0.5, -0.5, 0.25, 0.125, 0.125, 0]
    # parts at 0.75, 0.375, 0.1875, and half of 0.125; the top is floor(log2 0.933)
    assert log2_quantize(w, bits=3, meet="arithmetic").tolist() == [0.5, -0.25, 0.25, 0.125, 0, 0]


def test_the_top_exponent():
    for peak, log, arithmetic in ((1.0, 0, 0), (1.4, 0, 0), (1.45, 1, 0), (1.5, 1, 1), (0, 0, 0),
                                  (2.0**-140, -140, -140)):
        w = np.array([peak, -peak / 3])
        assert top_exponent(w) == log and top_exponent(w, meet="arithmetic") == arithmetic
        if peak:  # Zhou et al. 2017, eq. (2)
            assert top_exponent(w, meet="arithmetic") == np.floor(np.log2(4 * peak / 3))


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("meet", ["log", "arithmetic"])
def test_every_weight_is_0_or_a_power_in_range(bits, meet):
    w = log2_quantize(W, bits=bits, meet=meet)
    sizes = np.unique(np.abs(w[w != 0]))
    assert (np.exp2(np.round(np.log2(sizes))) == sizes).all()
    assert sizes[-1] / sizes[0] <= 2.0 ** (2 ** (bits - 1) - 2) and ((w == 0) | (w * W > 0)).all()
    if bits > 4:  # of log quantization the relative error is at most 2^(1/2) - 1
        error = np.abs(w - W)[np.abs(W) > 1e-3] / np.abs(W)[np.abs(W) > 1e-3]
        assert error.max() < {"log": 2**0.5 - 1, "arithmetic": 1 / 3}[meet] + 1e-6


def test_the_model_holds_them_and_one_exponent():
    model = Log2(bits=4).apply(net_of(W), None, RUN)
    form = next(iter(model.forms().values()))
    np.testing.assert_array_equal(form.dense().data, log2_quantize(W, bits=4), strict=True)
    row = decode(encode(model)).rows[0]
    assert row.parts["codebook"] < 4 and sum(row.parts.values()) < 0.53 * W.size
    shared = decode(encode(KMeans(bits=4).apply(net_of(W), None, RUN))).rows[0]
    assert row.parts["codebook"] < shared.parts["codebook"] / 10


def test_bits_may_differ_by_layer_and_are_bounded():
    with pytest.raises(ValueError, match=r"bits must be in \[2, 8\], got 9"):
        log2_quantize(W, bits=9)
    with pytest.raises(ValueError, match="meet must be one of log|arithmetic"):
        log2_quantize(W, bits=4, meet="up")
    with pytest.raises(ValueError, match="w must be finite"):
        log2_quantize(np.array([np.inf, 1]), bits=4)
    with pytest.raises(UserError, match=r"log2: bits must be in \[2, 8\], got 1"):
        Log2(bits=1)


def test_no_weights_and_weights_of_0_or_tiny_are_weights_too():
    assert log2_quantize(np.zeros((0, 3)), bits=4).shape == (0, 3)
    assert not log2_quantize(np.zeros(5), bits=4).any()
    tiny = log2_quantize(np.full(3, 2.0**-126), bits=8)
    assert (tiny == 2.0**-126).all()


def test_small_weights_keep_their_digits_where_an_even_grid_has_none():
    # Miyashita et al. 2016: a log grid suits a distribution that is dense near 0
    w = np.random.default_rng(0).laplace(size=20000) ** 3
    step = np.abs(w).max() / 31
    even, log = np.clip(np.rint(w / step), -31, 31) * step, log2_quantize(w, bits=6)
    relative = [np.median(np.abs(q - w) / np.abs(w)) for q in (even, log)]
    assert relative[0] == 1 and relative[1] < 0.25
