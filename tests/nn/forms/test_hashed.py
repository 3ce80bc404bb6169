import numpy as np
import pytest

from minicomp.codec import decode, encode
from minicomp.errors import FormatError
from minicomp.gradcheck import adjoint_check, grad_check
from minicomp.nn import Dense, Hashed, Linear, Model, chain
from minicomp.nn.forms.hashed import hash_places, hashed
from minicomp.nn.forms.shared import gathered, spread

RNG = np.random.default_rng(5)


def test_the_map_by_hand():
    # Outputs 0 and 1 of seed 0 are e220a8397b1dcdaf and 6e789e6aa1b965f4: of 16 buckets the one of
    # the highest four bits, a sign by the lowest one.
    bucket, sign = hash_places(2, 16, 0)
    assert bucket.tolist() == [0xE, 0x6] and sign.tolist() == [-1, 1]
    np.testing.assert_array_equal(hash_places(2**20 + 3, 9, 7)[0][-3:],
                                  hash_places(2**20 + 5, 9, 7)[0][-5:-2])  # across blocks


def test_buckets_and_signs_are_even_and_independent_of_the_seed():
    n, k = 60_000, 50
    bucket, sign = hash_places(n, k, 3)
    counts = np.bincount(bucket, minlength=k)
    assert ((counts - n / k) ** 2 / (n / k)).sum() < 95  # chi-square of 49, p = 1e-4
    assert abs(sign.sum()) < 4 * n**0.5
    both = np.bincount(bucket[sign > 0], minlength=k)
    assert ((both - n / k / 2) ** 2 / (n / k / 2)).sum() < 95
    other = hash_places(n, k, 4)[0]
    assert abs((bucket == other).mean() - 1 / k) < 4 * (1 / k / n) ** 0.5


def test_decode_gradients_and_the_sum_that_both_share():
    form = Hashed(RNG.standard_normal(7), (4, 6), 11)
    bucket, sign = hash_places(24, 7, 11)
    w = form.dense().data
    np.testing.assert_array_equal(w.reshape(-1), sign * form.buckets.value.data[bucket])
    b, g, places = RNG.standard_normal(7), RNG.standard_normal((4, 6)), hashed(7, (4, 6), 11)
    adjoint_check(lambda t: spread(t, places=places), b, rng=RNG)
    adjoint_check(lambda t: gathered(t, places=places), g, rng=RNG)
    grad_check(lambda t: (spread(t, places=places) ** 3.0).sum(), b, order=2, rng=RNG)
    # sum_ij V_ij dL/dV_ij = sum_k b_k dL/db_k
    pulled = form.pull_back(form.dense(training=True), g.astype(np.float32))["buckets"]
    assert (w * g).sum() == pytest.approx(pulled @ form.buckets.value.data, rel=1e-5)


def test_averaged_buckets_are_those_of_least_squares():
    w = RNG.standard_normal((5, 8)).astype(np.float32)
    form = Hashed(np.zeros(40), (5, 8), 2)
    near = form.holding(Dense(form.averaged(w)))
    bucket, sign = hash_places(40, 40, 2)
    A = np.zeros((40, 40))
    A[np.arange(40), bucket] = sign
    least = np.linalg.lstsq(A, w.reshape(-1).astype(float), rcond=None)[0]
    np.testing.assert_allclose(near.buckets.value.data, least, atol=1e-6)


def test_a_file_holds_the_buckets_and_the_seed_alone():
    model = Model(chain(("fc", Linear(300, 200, bias=False))), input_shape=(300,))
    sizes = {}
    for k in (1000, 2000):
        model.set_form("fc.weight", Hashed(RNG.standard_normal(k), (200, 300), 2**32 - 1))
        sizes[k] = len(encode(model))
        back = decode(encode(model)).model.forms()["fc.weight"]
        assert back.seed == 2**32 - 1 and back.count == k
        np.testing.assert_array_equal(back.dense().data, model.forms()["fc.weight"].dense().data)
    assert sizes[1000] < 4300 and 3200 < sizes[2000] - sizes[1000] < 4050


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match=r"buckets must be an integer in \[1, 2.*\], got '0'"):
        Hashed(np.zeros(0), (3, 4), 0)
    for seed in (-1, 2**32, 1.0, True):
        with pytest.raises(ValueError, match=r"seed must be an integer in \[0, 4294967295\]"):
            Hashed(np.zeros(4), (3, 4), seed)
    with pytest.raises(ValueError, match=r"buckets must be unmasked, of shape \(6,\), got"):
        Hashed(Dense(np.zeros((2, 3))), (3, 4), 0)
    with pytest.raises(ValueError, match="buckets must be unmasked"):
        Hashed(Dense(np.ones(4), np.arange(4) > 0), (3, 4), 0)
    with pytest.raises(FormatError, match="count must be an integer in"):
        Hashed.from_stored((8,), {"count": 0, "seed": 1}, {})
