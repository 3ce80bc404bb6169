"""Statistics of batch norm taken anew: exactly those that the net sees, whatever the batches."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicomp.compress import BNReestimate, FineTune, Magnitude, Run
from minicomp.compress.quant.bn_reestimate import cumulative, reestimated
from minicomp.errors import UserError
from minicomp.nn import (
    BatchNorm1d, BatchNorm2d, Conv2d, Dense, Dropout, Flatten, Linear, Model, ReLU, chain,
)
from minicomp.train import evaluate

RNG = np.random.default_rng


def net():
    nodes = chain(("c1", Conv2d(1, 8, 3, bias=False)), ("bn1", BatchNorm2d(8)), ("r1", ReLU()),
                  ("c2", Conv2d(8, 8, 3, bias=False)), ("bn2", BatchNorm2d(8)), ("r2", ReLU()),
                  ("d", Dropout(0.5)), ("f", Flatten()), ("fc", Linear(32, 10)),
                  ("bn3", BatchNorm1d(10)))
    model, rng = Model(nodes, input_shape=(1, 6, 6)), RNG(0)
    for name, form in model.forms().items():
        if len(form.shape) > 1:
            w = rng.standard_normal(form.shape) / np.sqrt(np.prod(form.shape[1:]))
            model.set_form(name, Dense(w.astype(np.float32)))
    return model


def images(n=300, seed=1):
    return RNG(seed).standard_normal((n, 1, 6, 6)).astype(np.float32) + 0.5


def test_by_hand():
    mean, var, n = cumulative([np.array([[1.0], [2.0]]), np.array([[6.0]]), np.array([[3.0]])])
    assert (mean.tolist(), var.tolist(), n) == ([3.0], [3.5], 4)


@given(st.lists(st.integers(1, 7), min_size=1, max_size=6), st.integers(0, 99))
def test_any_parts_give_the_moments_of_the_whole(sizes, seed):
    x = RNG(seed).standard_normal((sum(sizes), 3, 2, 2)) * [[[[1]], [[9]], [[0]]]] + 5
    mean, var, n = cumulative(np.split(x, np.cumsum(sizes)[:-1]))
    np.testing.assert_allclose(mean, x.mean(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(var, x.var(axis=(0, 2, 3)), rtol=1e-9, atol=1e-12)
    assert n == 4 * sum(sizes)


def test_every_norm_then_gives_mean_0_and_variance_1_before_scale_and_shift():
    x, made = images(), reestimated(net(), images())
    _, seen = made(x, taps=["bn1", "bn2", "bn3"])
    for name, y in seen.items():
        axes = (0, 2, 3) if y.ndim == 4 else (0,)
        n = y.size // y.shape[1]
        np.testing.assert_allclose(y.data.mean(axis=axes), 0, atol=1e-5)
        # (n - 1) / n: the running variance is divided by n - 1
        np.testing.assert_allclose(y.data.var(axis=axes), (n - 1) / n, rtol=1e-3)


def test_again_changes_nothing_and_only_statistics_change():
    model = net()
    made = reestimated(model, images())
    assert {n for n, a in made.state_dict().items()
            if not np.array_equal(a, model.state_dict()[n])} == {
        f"bn{i}.running_{what}" for i in (1, 2, 3) for what in ("mean", "var")}
    again = reestimated(made, images())
    for name, a in again.buffers().items():
        np.testing.assert_array_equal(a, made.buffers()[name])
    x = images()[RNG(3).permutation(300)]
    for name, a in reestimated(model, x).buffers().items():
        np.testing.assert_allclose(a, made.buffers()[name], rtol=1e-5, atol=1e-6)


def data(n=600):
    # The class is where the brightest of ten places is.
    rng = RNG(4)
    y = rng.integers(0, 10, 2 * n)
    x = 0.5 * rng.standard_normal((2 * n, 36))
    x[np.arange(2 * n), 3 * y + 2] += 2
    x = x.reshape(-1, 1, 6, 6).astype(np.float32)
    train, val = (SimpleNamespace(x=x[s], y=y[s]) for s in (slice(n), slice(n, None)))
    return SimpleNamespace(train=train, val=val)


def test_a_pruned_net_loses_less():
    # the claim, on a small net: most of what pruning costs is statistics that are not its own
    given = data()
    run = Run(RNG(0))
    trained = FineTune(epochs=6, lr=0.05, batch_size=50).apply(net(), given, run)
    pruned = Magnitude(sparsity=0.85).apply(trained, given, run)
    made = BNReestimate().apply(pruned, given, run)
    before, lost, kept = (evaluate(m, given.val).errors for m in (trained, pruned, made))
    assert lost > before + 200 and kept - before < 0.4 * (lost - before)


def test_one_value_a_channel_is_refused_by_name_and_so_is_a_net_without():
    given = SimpleNamespace(train=SimpleNamespace(x=images(1), y=np.zeros(1, int)), val=None)
    with pytest.raises(UserError, match="^bn-reestimate: bn3 must see more than one value a chan"):
        BNReestimate(samples=1).apply(net(), given, Run(RNG(0)))
    plain = Model(chain(("f", Flatten()), ("fc", Linear(36, 10))), input_shape=(1, 6, 6))
    with pytest.raises(UserError, match="^bn-reestimate: the model has no batch norm"):
        BNReestimate().apply(plain, given, Run(RNG(0)))
