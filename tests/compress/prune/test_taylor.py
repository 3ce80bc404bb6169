from types import SimpleNamespace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from minicomp.compress.finetune import FineTune
from minicomp.compress.prune.magnitude import Magnitude
from minicomp.compress.prune.taylor import Taylor, taylor_score
from minicomp.compress.technique import Run, masked
from minicomp.data import Split
from minicomp.models import MLP
from minicomp.train import evaluate
from scipy.stats import spearmanr

NUMBERS = st.floats(-1e3, 1e3, width=32)
PAIRS = hnp.arrays(np.float32, st.tuples(st.just(2), st.integers(1, 30)), elements=NUMBERS)


def dataset(x, y):
    split = Split(np.asarray(x, np.float32), np.asarray(y, np.int64))
    return SimpleNamespace(
        train=split, val=split, calibration=lambda n, rng: split.take(slice(n))
    )


def test_by_hand():
    # Both logits are 1 - 2 = -1, so each class has probability 1/2 and dL/dz = (-1/2, 1/2).
    model = MLP([2, 2])
    model.forms()["fc1.weight"].value.data[:] = [[1, -1], [1, -1]]
    model.forms()["fc1.bias"].value.data[:] = 0
    data = dataset([[1, 2]], [0])
    score = Taylor().scores(model, data, Run(np.random.default_rng(0)))["fc1"]
    np.testing.assert_allclose(score, [[0.25, 1], [0.25, 1]], rtol=1e-6)
    # Of each pair of ties the first goes, and nothing is moved.
    pruned = Taylor(sparsity=0.5).apply(model, data, Run(np.random.default_rng(0)))
    np.testing.assert_array_equal(pruned.forms()["fc1.weight"].dense().data, [[0, -1], [0, -1]])


@given(PAIRS, st.sampled_from([-4.0, 0.5, 2.0]))
def test_neither_sign_matters_and_a_factor_counts_squared(pair, factor):
    w, g = pair.astype(np.float64)
    score = taylor_score(w, g)
    assert (score >= 0).all() and not score[(w == 0) | (g == 0)].any()
    np.testing.assert_array_equal(taylor_score(-w, g), score)
    np.testing.assert_array_equal(taylor_score(g, w), score)
    np.testing.assert_array_equal(taylor_score(factor * w, g), factor**2 * score)


def changes(W, b, x, y):
    # What the mean cross-entropy of a linear net gains when each weight alone becomes 0, float64.
    def loss(W):
        z = x @ W.T + b
        return np.mean(np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(y)), y])

    kept = [W * (np.arange(W.size) != i).reshape(W.shape) for i in range(W.size)]
    return np.array([loss(V) - loss(W) for V in kept]).reshape(W.shape)


@given(st.integers(1, 40), st.floats(0.01, 3), st.integers(0, 2**32 - 1))
def test_it_is_the_squared_change_of_the_loss_to_first_order(n, size, seed):
    # By removing each weight in turn. A logit's second derivative is p (1 - p) <= 1/4, so that
    # the term left out is at most w^2 mean(x^2) / 8.
    rng = np.random.default_rng(seed)
    data = dataset(rng.standard_normal((n, 4)), rng.integers(0, 2, n))
    model = MLP([4, 2], rng=rng)
    W, b = (model.forms()[f"fc1.{part}"].value.data for part in ("weight", "bias"))
    W[:] = size * rng.standard_normal(W.shape)
    score = Taylor().scores(model, data, Run(rng))["fc1"]
    x = data.train.x.astype(np.float64)
    rest = np.abs(changes(W.astype(np.float64), b, x, data.train.y)) - np.sqrt(score)
    assert (np.abs(rest) <= W**2 * np.square(x).mean(axis=0) / 8 + 1e-6 * size).all()


def test_it_ranks_weights_as_removing_each_does_where_magnitude_does_not():
    # Molchanov et al. 2019, section 4.1: near to the oracle. Here inputs differ in scale by 40.
    rng = np.random.default_rng(1)
    x = rng.standard_normal((400, 6)) * [4, 2, 1, 0.5, 0.25, 0.1]
    data = dataset(x, (x @ [0.3, -0.6, 1, 1, 0, 0] + 0.3 * rng.standard_normal(400)) > 0)
    model = FineTune(epochs=3, lr=0.05).apply(MLP([6, 8, 2], rng=rng), data, Run(rng))
    score = Taylor(samples=400).scores(model.thawed(), data, Run(rng))["fc1"].ravel()
    w, oracle = model.forms()["fc1.weight"].dense().data.ravel(), []
    before = evaluate(model, data.val)
    for i in range(w.size):
        mask = {"fc1.weight": (np.arange(w.size) != i).reshape(8, 6)}
        oracle.append((evaluate(masked(model, mask), data.val).loss - before.loss) ** 2)
    assert spearmanr(score, oracle).statistic > 0.9
    assert spearmanr(np.abs(w), oracle).statistic < 0.7
    errors = [
        evaluate(kind.apply(model, data, Run(rng)), data.val).errors
        for kind in (Taylor(sparsity=0.7, samples=400), Magnitude(sparsity=0.7, scope="global"))
    ]
    assert errors[0] <= before.errors + 12 <= errors[1] - 12
