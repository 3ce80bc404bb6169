import numpy as np
import pytest

from minicomp.compress import Buckets, net_of
from minicomp.compress.quant.buckets import bucket_params, bucket_quantize
from minicomp.compress.technique import Run, masked

RNG = np.random.default_rng(3)
W = RNG.standard_normal((20, 300)).astype(np.float32)


def made(w=W, seed=0, mask=None, **knobs):
    model = net_of(w)
    name = next(iter(model.forms()))
    model = model if mask is None else masked(model, {name: mask})
    run = Run(np.random.default_rng(seed))
    return Buckets(**knobs).apply(model, None, run).forms()[name]


def test_by_hand():
    # alpha 4, beta -1, 4 steps of 1: 0.25 lies at 1.25, a quarter of the way from 0 to 1
    v = np.array([-1, 3, 0.25, 0.25, 2.5])
    u = np.array([0.9, 0, 0.2, 0.3, 0.5])
    assert bucket_quantize(v, u, steps=4).tolist() == [-1, 3, 1, 0, 2]
    # two buckets: of (0, 1) and of (4, 4)
    got = bucket_quantize(np.array([0, 1, 4, 4.0]), np.full(4, 0.5), steps=1, bucket=2)
    assert got.tolist() == [0, 1, 4, 4]


@pytest.mark.parametrize("steps, bucket", [(1, 256), (3, 7), (15, 1), (15, 50)])
def test_levels_are_those_of_their_bucket_and_the_nearest_two(steps, bucket):
    v = RNG.standard_normal(103)
    got = bucket_quantize(v, RNG.random(103), steps=steps, bucket=bucket)
    for first in range(0, 103, bucket):
        part, q = v[first : first + bucket], got[first : first + bucket]
        levels = np.linspace(part.min(), part.max(), steps + 1)
        assert np.abs(q[:, None] - levels).min(axis=1).max() < 1e-12
        assert np.abs(q - part).max() <= np.ptp(part) / steps + 1e-12


def test_it_is_unbiased_and_its_variance_that_of_a_coin():
    v = RNG.standard_normal(40)
    drawn = np.stack([bucket_quantize(v, RNG.random(40), steps=4, bucket=20) for _ in range(4000)])
    step = np.repeat([np.ptp(v[:20]), np.ptp(v[20:])], 20) / 4
    low = np.repeat([v[:20].min(), v[20:].min()], 20)
    p = (v - low) / step % 1
    sigma = step * np.sqrt(p * (1 - p))
    assert (np.abs(drawn.mean(axis=0) - v) <= 5 * sigma / np.sqrt(4000) + 1e-9).all()
    np.testing.assert_allclose(drawn.std(axis=0), sigma, atol=0.06 * step.max())


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("shift", [0, 3, -3])
def test_no_weight_of_the_model_is_clipped_or_biased(bits, shift):
    w = (W + shift).astype(np.float32)
    forms = [made(w, seed, bits=bits, bucket=64) for seed in range(60)]
    drawn = np.stack([form.dense().data for form in forms]).astype(np.float64)
    step = forms[0].spread(forms[0].scale.data)
    assert (np.abs(drawn - w) < step * (1 + 1e-3)).all()
    bias = ((drawn - w) / step).mean()  # of 360,000 draws
    assert abs(bias) < 0.005
    for form in forms[:1]:  # 0 is one of the levels
        zero = form.zero_point
        assert (0 <= zero).all() and (zero <= 2**bits - 1).all()


def test_nearest_errs_less_and_draws_nothing():
    a, b = made(seed=1, rounding="nearest"), made(seed=2, rounding="nearest")
    assert a.dense().data.tobytes() == b.dense().data.tobytes()
    errors = [np.square(f.dense().data - W).sum() for f in (a, made(), made(bucket=4096))]
    assert errors[0] < 0.6 * errors[1] < errors[1] < errors[2]
    assert made(seed=1).dense().data.tobytes() != made(seed=2).dense().data.tobytes()


def test_what_was_pruned_stays_0():
    mask = RNG.random(W.shape) < 0.3
    w = made(mask=mask, bits=2).dense().data
    assert not w[~mask].any()


def test_parameters_by_hand():
    # lo -1, hi 2 (and 0): 2 bits are 3 steps, of which one is in reserve
    scale, zero = bucket_params(np.array([[-1.0, 2], [1, 2], [0, 0], [-2, -1]]), bits=2)
    np.testing.assert_allclose(scale, [1.5, 1, 1, 1], rtol=1e-6)
    assert zero.tolist() == [1, 0, 0, 2]


def test_wrong_values_are_refused():
    with pytest.raises(ValueError, match=r"v and u must be finite, of one shape \(n,\)"):
        bucket_quantize(np.ones(3), np.ones(2), steps=1)
    with pytest.raises(ValueError, match="v and u must be finite"):
        bucket_quantize(np.array([np.nan]), np.ones(1), steps=1)
    with pytest.raises(ValueError, match="steps and bucket must be at least 1, got 0 and 256"):
        bucket_quantize(np.ones(3), np.ones(3), steps=0)
    with pytest.raises(ValueError, match=r"bits must be in \[2, 16\], got 1"):
        bucket_params(np.ones((1, 2)), bits=1)
