import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicomp.compress.curvature.layerwise import LayerProblem
from minicomp.compress.finetune import FineTune
from minicomp.compress.prune.magnitude import Magnitude
from minicomp.compress.prune.sparsegpt import SparseGPT, sparsegpt
from minicomp.compress.technique import Run, weights
from minicomp.data import Dataset, Split
from minicomp.errors import UserError
from minicomp.models import MLP, LeNet5
from minicomp.train import evaluate

RNG = np.random.default_rng


def problem(seed, rows, n):
    X = RNG(seed).standard_normal((3 * n, n)) @ (
        np.eye(n) + 0.3 * RNG(seed + 1).standard_normal((n, n))
    )
    return RNG(seed + 2).standard_normal((rows, n)), X.T @ X / len(X) + 0.01 * np.eye(n)


@pytest.fixture(scope="module")
def trained():
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x, y = (x / 16).astype(np.float32), y.astype(np.int64)
    cut = [Split(x[a:b], y[a:b]) for a, b in ((0, 1300), (1300, 1500), (1500, 1797))]
    data = Dataset("digits", *cut, tuple("0123456789"), "files")
    model = MLP([64, 48, 10], rng=RNG(0))
    return FineTune(epochs=20, lr=0.1, batch_size=32).apply(model, data, Run(RNG(0))), data


def apply(technique, model, data, log=None):
    return technique.apply(model, data, Run(RNG(0), log=log))


def mask(model, name):
    return model.forms()[f"{name}.weight"].mask


def zeros(model):
    return {n: int(np.count_nonzero(~mask(model, n))) for n in weights(model)}


# ---------------------------------------------------------------------------------- the equations


def column_by_column(W, H, kept):
    # Eqs. 4 and 5 with an inverse of its own for every column: what is left of it stays as it is.
    W = W.copy()
    for j in range(kept.shape[1]):
        Hinv = np.linalg.inv(H[j:, j:])
        for row in np.flatnonzero(~kept[:, j]):
            W[row, j:] -= W[row, j] / Hinv[0, 0] * Hinv[0]
            W[row, j] = 0
    return W


@given(
    rows=st.integers(1, 4),
    n=st.integers(2, 12),
    block=st.sampled_from([1, 3, 5, 128]),
    s=st.sampled_from([0.0, 0.3, 0.5, 0.9]),
    seed=st.integers(0, 999),
)
def test_one_cholesky_gives_every_column_s_inverse_whatever_the_block(rows, n, block, s, seed):
    W, H = problem(seed, rows, n)
    found, kept = sparsegpt(W, np.linalg.inv(H), s, block=block)
    assert np.count_nonzero(~kept) == round(s * W.size)
    assert not found[~kept].any()
    np.testing.assert_allclose(found, column_by_column(W, H, kept), atol=1e-8)


def test_a_block_takes_the_least_rises_of_its_columns():
    W, H = problem(1, 5, 6)
    _, kept = sparsegpt(W, np.linalg.inv(H), 0.4, block=6)
    pivots = [1 / np.linalg.inv(H[j:, j:])[0, 0] for j in range(6)]
    rise = W * W * pivots  # 2 L of deleting each on its own, columns before it frozen
    expected = np.ones(30, bool)
    expected[np.argsort(rise, axis=None)[:12]] = False
    np.testing.assert_array_equal(kept, expected.reshape(5, 6))


def test_refitting_is_least_squares_over_the_same_mask():
    W, H = problem(7, 4, 10)
    X = np.linalg.cholesky(H).T
    found, kept = sparsegpt(W, np.linalg.inv(H), 0.5)
    p = LayerProblem(W, H, np.linalg.inv(H), H @ W.T, 10, ~kept, 0.0, 0.0)
    again = p.solve(kept)
    for row, fitted, w, k in zip(found, again, W, kept):
        best = np.linalg.lstsq(X[:, k], X @ w, rcond=None)[0]
        np.testing.assert_allclose(fitted[k], best, atol=1e-9)
        assert not fitted[~k].any()
        assert (fitted - w) @ H @ (fitted - w) <= (row - w) @ H @ (row - w) + 1e-12


def test_columns_of_a_diagonal_hessian_do_not_meet():
    W, H = RNG(0).standard_normal((3, 8)), np.diag(RNG(1).random(8) + 0.1)
    found, kept = sparsegpt(W, np.linalg.inv(H), 0.5, block=8)
    np.testing.assert_array_equal(found, W * kept)
    np.testing.assert_array_equal(
        kept.ravel(), (W * W * np.diag(H)).ravel() > np.sort((W * W * np.diag(H)).ravel())[11]
    )


@pytest.mark.parametrize("pattern", [(1, 2), (2, 4), (3, 6), (1, 8)])
@pytest.mark.parametrize("block", [1, 5, 24, 128])
def test_a_pattern_keeps_exactly_n_of_every_m(pattern, block):
    W, H = problem(2, 7, 25)
    found, kept = sparsegpt(W, np.linalg.inv(H), pattern, weights=24, block=block)
    N, M = pattern
    assert (kept.reshape(7, -1, M).sum(axis=2) == N).all() and kept.shape == (7, 24)
    np.testing.assert_allclose(found, column_by_column(W, H, kept), atol=1e-8)
    whole = sparsegpt(W, np.linalg.inv(H), pattern, weights=24)[1]
    np.testing.assert_array_equal(kept, whole)  # a group never spans two blocks
    assert (found[:, 24] != W[:, 24]).all()  # the bias catches what is left over
    with pytest.raises(ValueError, match="M must divide"):
        sparsegpt(W, np.linalg.inv(H), (2, 7), weights=24)


@pytest.mark.parametrize("amount", [0.1, 0.5, 0.8, (1, 4), (3, 4)])
def test_what_is_dead_stays_dead_and_counts(amount):
    W, H = problem(3, 6, 21)
    dead = RNG(4).random((6, 20)) < 0.3
    found, kept = sparsegpt(W, np.linalg.inv(H), amount, weights=20, dead=dead, block=8)
    assert not (kept & dead).any() and not found[:, :20][~kept].any()
    if isinstance(amount, float):
        assert np.count_nonzero(~kept) == max(round(amount * 120), np.count_nonzero(dead))
    else:
        expected = np.minimum(amount[0], (~dead).reshape(6, 5, 4).sum(axis=2))
        np.testing.assert_array_equal(kept.reshape(6, 5, 4).sum(axis=2), expected)


# ---------------------------------------------------------------------------------- the technique


@pytest.mark.parametrize("s", [0.0, 0.37, 0.9])
@pytest.mark.parametrize("refit", [False, True])
def test_exactly_round_s_n_go(trained, s, refit):
    model, data = trained
    pruned = apply(SparseGPT(sparsity=s, refit=refit, block=20), model, data)
    assert zeros(pruned) == {"fc1": round(s * 3072), "fc2": round(s * 480)}
    assert all(f.value.dtype == np.float32 for f in pruned.forms().values())


def test_it_costs_a_fraction_of_magnitude_s_loss(trained):
    # One claim of the paper: one-shot, without retraining.
    model, data = trained
    start = evaluate(model, data.train).loss
    for s in (0.5, 0.7):
        rise, refit, other = (
            evaluate(apply(t, model, data), data.train).loss - start
            for t in (
                SparseGPT(sparsity=s),
                SparseGPT(sparsity=s, refit=True),
                Magnitude(sparsity=s),
            )
        )
        assert rise < other / 2 and refit < other / 2


def test_refitting_keeps_a_layer_s_mask_and_lowers_its_error(trained):
    model, data = trained
    x = data.train.x.astype(np.float64)
    plain, refit = (apply(SparseGPT(sparsity=0.7, refit=r), model, data) for r in (False, True))
    np.testing.assert_array_equal(mask(plain, "fc1"), mask(refit, "fc1"))
    z, a, b = (m(x, taps=("fc1",))[1]["fc1"].data for m in (model, plain, refit))
    assert np.sum((b - z) ** 2) < 0.99 * np.sum((a - z) ** 2)


def test_patterns_by_layer_on_a_convolution():
    model, x = LeNet5(rng=RNG(0)), RNG(1).standard_normal((20, 1, 28, 28)).astype(np.float32)
    split = Split(x, np.zeros(20, np.int64))
    data = Dataset("noise", split, split, None, tuple("0123456789"), "files")
    pruned = apply(
        SparseGPT(pattern={"conv2": "2:4", "fc2": "1:4"}, sparsity={"conv1": 0.3, "fc1": 0.5}),
        model,
        data,
    )
    by_channel = mask(pruned, "conv2").reshape(50, 20, 5, 5).transpose(0, 2, 3, 1)
    assert (by_channel.reshape(-1, 4).sum(axis=1) == 2).all()
    assert (mask(pruned, "fc2").reshape(-1, 4).sum(axis=1) == 1).all()
    assert zeros(pruned)["conv1"] == 150 and zeros(pruned)["fc1"] == 200000
    with pytest.raises(
        UserError, match="sparsegpt: pattern 2:4 needs inputs that 4 divides, got 1 in conv1"
    ):
        apply(SparseGPT(pattern="2:4"), model, data)


def test_earlier_masks_and_training_between(trained):
    model, data = trained
    half = FineTune(epochs=1, lr=0.05, momentum=0.9, weight_decay=1e-3).apply(
        apply(SparseGPT(pattern="2:4"), model, data), data, Run(RNG(0))
    )
    assert zeros(half) == {"fc1": 1536, "fc2": 240}
    more = apply(SparseGPT(sparsity=0.7), half, data)
    assert zeros(more) == {"fc1": round(0.7 * 3072), "fc2": 336}
    assert not any((mask(more, n) & ~mask(half, n)).any() for n in ("fc1", "fc2"))
    quarter = apply(SparseGPT(pattern="1:4"), half, data)
    assert (mask(quarter, "fc1").reshape(-1, 4).sum(axis=1) == 1).all()


def test_the_damping_is_told_and_knobs_are_checked(trained):
    model, data = trained
    rows = []
    few = Dataset("few", data.train.take(slice(0, 20)), data.val, None, data.classes, "files")
    apply(SparseGPT(sparsity=0.5, damping=0.0), model, few, rows.append)
    told = [r for r in rows if r["event"] == "damping"]
    assert [r["layer"] for r in told] == ["fc1", "fc2"] and told[0]["asked"] == 0 < told[0][
        "damping"
    ]
    assert [r["done"] for r in rows if r["event"] == "progress"] == [1, 2]
    with pytest.raises(UserError, match="sparsegpt: sparsity or pattern must be given"):
        SparseGPT()
    bad = Dataset(
        "bad", Split(data.train.x * np.nan, data.train.y), data.val, None, data.classes, "files"
    )
    with pytest.raises(UserError, match="sparsegpt: the examples of train must hold finite"):
        apply(SparseGPT(sparsity=0.5), model, bad)
