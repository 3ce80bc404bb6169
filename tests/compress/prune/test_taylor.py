"""Taylor importance: the score by hand, and against losses measured with a weight taken out."""

import numpy as np

from minicomp.compress.prune.taylor import Taylor, taylor_score
from minicomp.compress.technique import Run
from minicomp.data import Dataset, Split
from minicomp.models import MLP
from minicomp.nn import Dense
from minicomp.nn.losses import cross_entropy
from minicomp.tensor import Tensor


def test_score_by_hand():
    np.testing.assert_array_equal(
        taylor_score(np.array([1.0, -2.0, 0.5]), np.array([3.0, 1.0, -4.0])), [9, 4, 4]
    )


def test_it_is_the_squared_change_of_the_loss_to_first_order():
    # Weights so small that the first order is all there is.
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((80, 5)).astype(np.float32), rng.integers(0, 3, 80)
    split, model = Split(x, y), MLP([5, 3], rng=rng)
    data = Dataset("toy", split, split, None, ("0", "1", "2"), "rendered")
    w = 0.02 * rng.standard_normal((3, 5)).astype(np.float32)
    model.set_form("fc1.weight", Dense(w))

    def loss(w):
        return cross_entropy(Tensor(x.astype(np.float64) @ w.T.astype(np.float64)), y).item()

    rises = np.empty(w.shape)
    for at in np.ndindex(w.shape):
        without = w.copy()
        without[at] = 0
        rises[at] = loss(without) - loss(w)
    scores = Taylor(samples=80).scores(model, data, Run(rng))["fc1"]
    np.testing.assert_allclose(scores, rises**2, rtol=0.1, atol=1e-3 * (rises**2).max())
