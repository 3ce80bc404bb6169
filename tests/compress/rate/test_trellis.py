import itertools

import numpy as np
import pytest

from minicomp.compress import RateDistortion, TrellisQuantization, net_of
from minicomp.compress.rate.pricing import code_bits, code_counts, price
from minicomp.compress.rate.scalar import rd_quantize
from minicomp.compress.rate.trellis import trellis_codes, trellis_quantize
from minicomp.compress.technique import Run
from minicomp.errors import FormatError, UserError
from minicomp.grid.trellis import NEXT, QUANTIZER, trellis_path, trellis_points
from minicomp.nn import Trellis

RNG = np.random.default_rng(2)


def test_points_by_hand():
    # states 0, 2, 3, 1, 2, 1: Q0, Q1, Q1, Q0, Q1, Q0
    k = np.array([[1, 1, -1, 0, 2, -3]])
    assert trellis_path(k, 4).tolist() == [[0, 2, 3, 1, 2, 1]]
    assert trellis_points(k, 4).tolist() == [[2, 1, -1, 0, 3, -6]]
    assert trellis_path(k, 8).tolist() == [[0, 2, 3, 4, 2, 1]]
    assert trellis_points(k, 8).tolist() == [[2, 2, -1, 0, 4, -5]]
    form = Trellis(k, 0.5, bits=3, states=4)
    assert form.dense().data.tolist() == [[1, 0.5, -0.5, 0, 1.5, -3]]
    assert repr(form) == "<Trellis 1 x 6: 3 bits, 4 states, scale 0.5, 16.7 % zeros, frozen>"


@pytest.mark.parametrize("states", NEXT)
def test_the_machine_is_one(states):
    # Two ways into every state, of which each has a way on by either parity; both quantizers alike.
    into = sorted(t for row in NEXT[states] for t in row)
    assert into == sorted(2 * list(range(states)))
    assert sum(QUANTIZER[states]) == states // 2 and QUANTIZER[states][0] == 0


@pytest.mark.parametrize("states", NEXT)
@pytest.mark.parametrize("lam", [0.0, 0.3])
def test_no_walk_of_six_codes_costs_less(states, lam):
    w, h = 2 * RNG.standard_normal((2, 6)), RNG.random((2, 6))
    bits, keep = np.array([3.0, 2, 0.5, 2, np.inf]), np.ones((2, 6), bool)
    keep[1, 2:4] = False
    k = trellis_codes(w, 0.7, bits, lam, states=states, h=h, keep=keep)
    assert not k[~keep].any()
    every = np.array(list(itertools.product(range(-2, 2), repeat=6)))
    points = trellis_points(every, states)
    for r in range(2):
        def cost(k, points):
            errors = h[r] * np.square(w[r] - 0.7 * points)
            return (errors + lam * bits[k + 2]).sum(axis=-1)

        allowed = ~every[:, ~keep[r]].any(axis=1)
        best = cost(every[allowed], points[allowed]).min()
        np.testing.assert_allclose(cost(k[r], trellis_points(k[r:r + 1], states)[0]), best,
                                   rtol=1e-12)


def test_more_states_err_less_at_equal_bits():
    # Laplacian weights: the step of each is set so that codes take 2.5 bits.
    w, lam = np.random.default_rng(0).laplace(size=(30, 100)), 0.05

    def error(quantize):
        lo, hi = 0.1, 1.5
        for _ in range(9):
            mid = np.sqrt(lo * hi)
            rate, err = quantize(mid)
            lo, hi = (mid, hi) if rate > 2.5 else (lo, mid)
        return err

    def walk(states):
        def found(step):
            k, s = trellis_quantize(w, step, lam * step**2, most=31, states=states, iterations=2)
            counts = code_counts(k, 31)
            rate = (counts * np.where(counts, code_bits(counts), 0))[counts > 0].sum() / k.size
            return rate, np.square(w - s * trellis_points(k, states)).mean()
        return found

    def scalar(step):
        k, s = rd_quantize(w.ravel(), step, lam * step**2 * 4, most=31, iterations=2)
        return price(0 * k, k, 1.0, most=31) / k.size, np.square(w.ravel() - s * k).mean()

    four, eight, one = error(walk(4)), error(walk(8)), error(scalar)
    assert eight < four and four < 0.97 * one


@pytest.mark.parametrize("lam", [0.0, 0.05, 0.3])
def test_never_worse_than_scalar_at_equal_lambda(lam):
    w = RNG.laplace(size=(30, 40)).astype(np.float32)
    model, bits = net_of(w), 5
    most = 2 ** (bits - 1) - 1
    unit = lam * (np.abs(w).max() / most) ** 2
    costs = []
    for technique in (RateDistortion(lam=lam, bits=bits), TrellisQuantization(lam=lam, bits=bits)):
        form = technique.apply(model, None, Run(None)).forms()["fc1.weight"]
        k = (form.q if form.kind == "affine" else form.k).astype(int)
        costs.append(price(form.dense().data - w.astype(float), k, unit, most=most))
    assert form.kind == "trellis" and costs[1] < costs[0]


def test_what_does_not_fit_is_named():
    with pytest.raises(ValueError, match="states must be 4 or 8, got 5"):
        Trellis(np.zeros((1, 2), int), 1.0, states=5)
    with pytest.raises(ValueError, match="two axes or more, got shape"):
        Trellis(np.zeros(2, int), 1.0)
    with pytest.raises(ValueError, match="scale must be one finite number"):
        Trellis(np.zeros((1, 2), int), 0.0)
    with pytest.raises(ValueError, match=r"k must be in \[-3, 3\], got 0..4"):
        Trellis(np.array([[0, 4]]), 1.0, bits=3)
    with pytest.raises(FormatError, match="states must be 4 or 8, got 6"):
        Trellis.blank((1, 2), {"bits": 3, "states": 6})
    form = Trellis(np.array([[0, 3]]), 1.0, bits=3)
    with pytest.raises(ValueError, match="cannot be pruned"):
        form.masked(np.ones((1, 2), bool))
    with pytest.raises(ValueError, match="cannot be cut so"):
        form.select(1, np.array([1]))


@pytest.mark.filterwarnings("error")
def test_a_zero_that_never_occurs_has_no_price_and_none_is_computed():
    bits = np.array([1.0, np.inf, 1.0])  # of code 0, which lam = 0 would make NaN
    assert trellis_codes(np.array([[2.0]]), 1.0, bits, 0.0).tolist() == [[1]]


def test_states_may_be_given_as_a_number():
    assert TrellisQuantization(states=4) == TrellisQuantization(states="4")
    with pytest.raises(UserError, match="states must be one of 4, 8, got 5"):
        TrellisQuantization(states=5)
