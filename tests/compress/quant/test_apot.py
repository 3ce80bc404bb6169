from types import SimpleNamespace

import numpy as np
import pytest

from minicomp.codec import decode, encode
from minicomp.compress import APoT, FineTune, net_of
from minicomp.compress.quant.apot import apot_scale
from minicomp.compress.quant.log2 import log2_quantize
from minicomp.compress.technique import Run
from minicomp.data import Split
from minicomp.grid.powers import additive_codes, additive_levels

RNG = np.random.default_rng(3)
W = RNG.standard_normal((60, 50)).astype(np.float32) / 8


def quantized(w, bits, clip="mse"):
    alpha = apot_scale(w, bits=bits, clip=clip)
    return alpha * additive_levels(bits)[additive_codes(w, alpha, bits)]


def test_codes_by_hand():
    # 3 bits, alpha 2: levels 0, +-0.5, +-1, +-2; half-way goes down
    w = np.array([0, 0.25, 0.26, 0.75, 0.76, 1.5, 1.6, 9, -0.25, -0.24, -1.5, -1.4])
    got = 2 * additive_levels(3)[additive_codes(w, 2, 3)]
    assert got.tolist() == [0, 0, 0.5, 0.5, 1, 1, 2, 2, -0.5, 0, -2, -1]


@pytest.mark.parametrize("bits", range(2, 9))
def test_every_weight_goes_to_the_nearest_level(bits):
    levels = np.float32(0.3) * additive_levels(bits)
    got = levels[additive_codes(W, 0.3, bits)]
    best = np.abs(W[..., None].astype(np.float64) - levels).min(axis=-1)
    np.testing.assert_array_equal(np.abs(W.astype(np.float64) - got), best)


@pytest.mark.parametrize("bits", [2, 3, 5])
def test_alpha_is_the_best_of_the_clips_tried(bits):
    peak = np.abs(W).max()
    errors = {}
    for fraction in np.arange(1, 101) / 100:
        a = np.float32(fraction * peak)
        levels = a * additive_levels(bits)
        nearest = levels[np.abs(W[..., None] - levels).argmin(axis=-1)]
        errors[float(a)] = np.square((nearest - W).astype(np.float64)).sum()
    found = apot_scale(W, bits=bits)
    assert errors[min(errors, key=lambda a: abs(a - found))] <= min(errors.values()) * (1 + 1e-6)
    assert apot_scale(W, bits=bits, clip="max") == peak
    assert np.square(quantized(W, bits) - W).sum() <= np.square(quantized(W, bits, "max") - W).sum()


def test_sums_err_less_than_powers_of_as_many_bits():
    # Li et al. 2020, section 2.2: further bits of powers of two only refine around 0
    for bits, least in ((4, 1.2), (5, 3)):
        powers = np.square(log2_quantize(W, bits=bits, meet="arithmetic") - W).sum()
        assert powers > least * np.square(quantized(W, bits, "max") - W).sum()


def test_the_model_holds_codes_and_one_scale_which_training_moves():
    model = APoT(bits=4).apply(net_of(W), None, Run(np.random.default_rng(0)))
    name, form = next(iter(model.forms().items()))
    np.testing.assert_array_equal(form.dense().data, quantized(W, 4), strict=True)
    row = decode(encode(model)).rows[0]
    assert row.parts["codebook"] < 8 and sum(row.parts.values()) < 0.53 * W.size
    assert list(form.parameters()) == ["centroids.scale"]
    x = np.random.default_rng(0).standard_normal((40, 50)).astype(np.float32)
    split = Split(x, (x[:, 0] > 0).astype(np.int64))
    data = SimpleNamespace(train=split, val=split)
    trained = FineTune(epochs=1, lr=0.1).apply(model, data, Run(np.random.default_rng(0)))
    after = trained.forms()[name].dense().data
    ratio = after[form.dense().data != 0] / form.dense().data[form.dense().data != 0]
    assert np.ptp(ratio) < 1e-5 and abs(ratio[0] - 1) > 1e-5


def test_what_is_none_is_refused():
    assert apot_scale(np.zeros(4), bits=4) == 1
    with pytest.raises(ValueError, match="clip must be one of max, mse, got 'min'"):
        apot_scale(W, bits=4, clip="min")
    with pytest.raises(ValueError, match="w must be finite"):
        apot_scale(np.array([np.nan]), bits=4)
    with pytest.raises(ValueError, match="scale must be finite and above 0, got 0"):
        additive_codes(W, 0, 4)
    with pytest.raises(ValueError, match=r"bits must be in \[2, 8\], got 1"):
        apot_scale(W, bits=1)
