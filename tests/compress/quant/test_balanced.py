import numpy as np
import pytest
from sklearn.preprocessing import KBinsDiscretizer

from minicomp.codec import decode, encode
from minicomp.compress import Balanced, net_of
from minicomp.compress.quant.balanced import balanced_codes, cell_means, even_scale
from minicomp.compress.technique import Run, masked
from minicomp.errors import UserError

RNG = np.random.default_rng(3)
W = RNG.laplace(size=(64, 50)).astype(np.float32)


def test_by_hand():
    x = np.array([0, 1, 2, 3, 10, 11, 50, 90.0])
    assert balanced_codes(x, 4).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    np.testing.assert_array_equal(cell_means(x, balanced_codes(x, 4), 4), [0.5, 2.5, 10.5, 70])
    # codes -1.5 .. 1.5: the scale of least squares
    codes = np.array([0, 1, 2, 3])
    x = np.array([-3.0, -1, 1, 3])
    assert even_scale(x, codes, 4) == np.float32(x @ (codes - 1.5) / 5)


@pytest.mark.parametrize("k", [1, 2, 3, 8, 16])
def test_cells_hold_equally_many(k):
    for n in (k, 64, 240, 241):
        if n >= k:
            counts = np.bincount(balanced_codes(RNG.standard_normal(n), k), minlength=k)
            assert counts.max() - counts.min() <= 1


def test_equal_values_share_a_cell():
    x = np.array([0.0] * 10 + [1, 2])
    assert len(set(balanced_codes(x, 4)[:10])) == 1
    assert cell_means(x, balanced_codes(x, 4), 4).tolist() == [0, 0, 0, 0.25]


@pytest.mark.parametrize("k", [2, 5, 16])
def test_cells_are_those_of_scikit_learn(k):
    x = RNG.standard_normal(500)
    bins = KBinsDiscretizer(k, encode="ordinal", strategy="quantile", subsample=None,
                            quantile_method="linear")
    theirs = bins.fit_transform(x[:, None])[:, 0]
    np.testing.assert_array_equal(balanced_codes(x, k), theirs)


@pytest.mark.parametrize("levels", ["even", "mean"])
def test_codes_of_the_model_are_equally_frequent(levels):
    model = Balanced(bits=3, levels=levels).apply(net_of(W), None, Run(np.random.default_rng(0)))
    w = next(iter(model.forms().values())).dense().data
    values, counts = np.unique(w, return_counts=True)
    assert len(values) == 8 and counts.max() - counts.min() <= 1
    # nothing is left to an entropy coder: 3 bits a weight
    spent = sum(decode(encode(model)).rows[0].parts.values())
    assert 3 * W.size / 8 <= spent < 3 * W.size / 8 + 60
    steps = np.diff(values)
    assert (np.ptp(steps) < 1e-5) == (levels == "even")


def test_a_cell_s_mean_is_its_best_value():
    found = {levels: next(iter(Balanced(bits=3, levels=levels).apply(
        net_of(W), None, Run(np.random.default_rng(0))).forms().values())).dense().data
        for levels in ("even", "mean")}
    errors = {levels: np.square(w - W).sum() for levels, w in found.items()}
    assert errors["mean"] < 0.9 * errors["even"]
    # the even scale cannot be bettered
    for factor in (0.95, 1.05):
        assert np.square(factor * found["even"] - W).sum() > errors["even"]


@pytest.mark.parametrize("levels", ["even", "mean"])
def test_of_a_pruned_layer_only_what_is_kept_counts(levels):
    model = net_of(W)
    name = next(iter(model.forms()))
    mask = np.abs(W) > 0.5
    run = Run(np.random.default_rng(0))
    w = Balanced(bits=2, levels=levels).apply(masked(model, {name: mask}), None, run).forms()[name]
    np.testing.assert_array_equal(w.dense().data != 0, mask)
    counts = np.unique(w.dense().data[mask], return_counts=True)[1]
    assert len(counts) == (4 if levels == "even" else 3) and counts.max() - counts.min() <= 1


def test_wrong_values_are_refused():
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        balanced_codes(W, 0)
    for bad in (np.zeros(0), np.array([1, np.inf])):
        with pytest.raises(ValueError, match="x must hold at least one number and no NaN"):
            balanced_codes(bad, 2)


def test_weights_of_one_sign():
    for value in (-0.5, 0.5):  # a constant is exact
        model = net_of(np.full((2, 3), value))
        made = Balanced(bits=2).apply(model, None, Run(None))
        np.testing.assert_allclose(made.forms()["fc1.weight"].dense().data, value, rtol=1e-6)
    for sign in (1, -1):
        model = net_of(sign * RNG.uniform(2, 3.4, (8, 9)))
        with pytest.raises(UserError, match="levels@fc1 must be mean for weights of one sign"):
            Balanced(bits=2).apply(model, None, Run(None))
        made = Balanced(bits=2, levels="mean").apply(model, None, Run(None))
        w, got = (m.forms()["fc1.weight"].dense().data for m in (model, made))
        assert np.abs(got - w).max() < 0.5
