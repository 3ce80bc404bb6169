import itertools

import numpy as np
import pytest

from minicomp.codec import encode
from minicomp.compress import Magnitude, RateDistortion, net_of
from minicomp.compress.rate.pricing import code_bits, code_counts, mean_squares, price, refit
from minicomp.compress.rate.scalar import rd_codes, rd_quantize
from minicomp.compress.technique import Run

RNG = np.random.default_rng(5)


def test_by_hand():
    # 0 costs 1 bit, 1 costs 3: at a price of 0.1 the border moves from 0.5 to 0.6
    bits = np.array([np.inf, 1.0, 3.0])
    w = np.array([0.55, 0.61, -0.9, 0.59])
    assert rd_codes(w, 1.0, bits, 0.1).tolist() == [0, 1, 0, 0]
    assert rd_codes(w, 1.0, bits, 0.0).tolist() == [1, 1, 0, 1]
    assert rd_codes(w, 1.0, bits, 0.1, np.array([9.0, 1, 1, 1])).tolist() == [1, 1, 0, 0]
    assert rd_codes(np.array([0.5, -0.5]), 1.0, np.zeros(3), 0.0).tolist() == [0, 0]
    assert refit(np.array([1.0, 3.0]), np.array([1, 2]), 9.0) == pytest.approx(7 / 5)
    assert refit(np.array([1.0, 3.0]), np.array([0, 0]), 9.0) == 9.0
    k = np.array([0, 1, -1, 0])
    assert code_counts(k, 2, zeros=3).tolist() == [0, 1, 5, 1, 0]
    assert code_bits(np.array([4, 2, 2])).tolist() == [1, 2, 2]
    assert price(np.array([1.0, 0, 0, 2]), k, 0.5, most=1) == pytest.approx(5 + 0.5 * 6)


@pytest.mark.parametrize("lam", [0.0, 0.2, 2.0])
def test_no_codes_cost_less_at_the_prices(lam):
    w, h, bits = RNG.standard_normal(4) * 2, RNG.random(4), RNG.random(5) * 4
    k = rd_codes(w, 0.8, bits, lam, h)
    cost = (h * np.square(w - 0.8 * k)).sum() + lam * bits[k + 2].sum()
    every = itertools.product(range(-2, 3), repeat=4)
    best = min((h * np.square(w - 0.8 * np.array(c))).sum() + lam * bits[np.array(c) + 2].sum()
               for c in every)
    np.testing.assert_allclose(cost, best, rtol=1e-12)


def test_no_turn_raises_the_cost_and_lambda_trades_bits_for_error():
    w = np.clip(RNG.laplace(size=2000), -6, 6)
    rates, errors = [], []
    for lam in (0.0, 0.02, 0.1, 0.5):
        costs = []
        for turns in range(1, 8):
            k, step = rd_quantize(w, 0.4, lam, most=15, iterations=turns, zeros=100)
            costs.append(price(w - step * k, k, lam, most=15, zeros=100))
        assert (np.diff(costs) <= 1e-9).all() and (lam == 0 or costs[-1] < costs[0])
        rates.append(price(0 * w, k, 1.0, most=15))
        errors.append(float(np.square(w - step * k).sum()))
    assert (np.diff(rates) < 0).all() and (np.diff(errors) > 0).all()


def test_fewer_bits_than_nearest_codes_at_equal_error_where_errors_hurt_unequally():
    w, h = RNG.laplace(size=3000), np.exp(2 * RNG.standard_normal(3000))

    def spent(k, step):
        return price(0 * w, k, 1.0, most=99), float((h * np.square(w - step * k)).sum())

    rate, error = spent(*rd_quantize(w, 0.5, 0.3, most=99, h=h))
    lo, hi = 0.05, 3.0
    for _ in range(20):  # the step of nearest codes that err as much
        step = (lo + hi) / 2
        k = np.rint(w / step).astype(int)
        plain, err = spent(k, refit(w, k, step, h))
        lo, hi = (step, hi) if err < error else (lo, step)
    assert rate < 0.9 * plain


def test_lambda_makes_the_file_smaller():
    model = net_of(RNG.laplace(size=(60, 100)))
    sizes = [len(encode(RateDistortion(lam=lam).apply(model, None, Run(None))))
             for lam in (0.0, 0.3, 1.0)]
    assert sizes[1] < 0.97 * sizes[0] and sizes[2] < 0.8 * sizes[1]


def test_what_was_pruned_stays_and_whom_an_error_hurts_is_heard(net, blobs):
    model = Magnitude(sparsity=0.5).apply(net(), None, Run(None))
    data, rng = blobs(), np.random.default_rng(0)
    plain = RateDistortion(lam=0.3).apply(model, data, Run(rng))
    heard = RateDistortion(lam=0.3, weigh="fisher").apply(model, data, Run(rng))
    h = mean_squares(net().thawed(), data.train.take(slice(20)))
    assert all(a.min() > 0 and a.shape == net().forms()[name].shape for name, a in h.items())
    for name in ("fc1.weight", "fc3.weight"):
        a, b = (m.forms()[name].dense().data for m in (plain, heard))
        assert (a != b).any() and not a[~model.forms()[name].mask].any()
