from types import SimpleNamespace

import numpy as np
import pytest

from minicomp.compress import HashedNets, Magnitude, Pipeline, Run
from minicomp.data import Split
from minicomp.errors import UserError
from minicomp.models import MLP
from minicomp.nn import Hashed
from minicomp.nn.forms.hashed import hash_places
from minicomp.train import evaluate

RNG = np.random.default_rng


def data(n=900):
    # Three rings of points of a plane, seen in 64 noisy directions.
    rng = RNG(0)
    z = rng.standard_normal((n, 2))
    x = z @ rng.standard_normal((2, 64)) + 0.3 * rng.standard_normal((n, 64))
    x, y = x.astype(np.float32), np.digitize(np.hypot(*z.T), [0.8, 1.5])
    return SimpleNamespace(train=Split(x[:600], y[:600]), val=Split(x[600:], y[600:]))


def applied(technique, model=None, **how):
    return technique.apply(model or MLP((64, 128, 3), rng=RNG(1)), data(), Run(RNG(2), **how))


def test_layers_have_maps_of_their_own_and_as_many_numbers_as_asked():
    made = applied(HashedNets(fraction={"*": 0.125, "fc2": 0.25}).training(epochs=0))
    forms = [made.forms()[f"fc{i}.weight"] for i in (1, 2)]
    assert [type(f) for f in forms] == [Hashed, Hashed]
    assert [f.count for f in forms] == [64 * 128 // 8, 128 * 3 // 4]
    assert forms[0].seed != forms[1].seed
    other = applied(HashedNets(seed=1).training(epochs=0)).forms()["fc1.weight"]
    assert other.seed != forms[0].seed and type(made.forms()["fc1.bias"]).kind == "dense"


def test_drawn_weights_are_as_large_as_those_of_the_net():
    net = MLP((64, 128, 3), rng=RNG(1))
    w = applied(HashedNets().training(epochs=0), net).forms()["fc1.weight"].dense().data
    assert w.std() == pytest.approx(net.forms()["fc1.weight"].dense().data.std(), rel=0.15)


def test_averages_are_the_signed_means_of_a_bucket():
    net = MLP((64, 128, 3), rng=RNG(1))
    form = applied(HashedNets(start="averaged").training(epochs=0), net).forms()["fc1.weight"]
    bucket, sign = hash_places(64 * 128, 1024, form.seed)
    w = net.forms()["fc1.weight"].dense().data.reshape(-1)
    for k in range(0, 1024, 51):
        want = (sign * w)[bucket == k]
        assert form.buckets.value.data[k] == pytest.approx(want.mean() if want.size else 0,
                                                           abs=1e-6)


def test_128_numbers_of_8192_weights_learn_what_no_line_separates():
    technique = HashedNets(fraction={"*": 1 / 64, "fc2": 1 / 8})
    made = applied(technique.training(epochs=15, lr=0.05, batch_size=20))
    assert made.forms()["fc1.weight"].count == 128
    untrained = applied(technique.training(epochs=0))
    assert evaluate(made, data().val).error < 0.25  # of 2/3 by chance
    assert evaluate(untrained, data().val).error > 0.4


def test_what_has_no_places_is_refused_before_anything_trains():
    with pytest.raises(UserError, match="hashed: fc1.weight must not be pruned"):
        applied(Pipeline((Magnitude(sparsity=0.5), HashedNets().training(epochs=1))))
    with pytest.raises(UserError, match="hashed: real must leave a layer that takes the form"):
        applied(HashedNets(real=True))
    with pytest.raises(UserError, match="a hashed without a pinned zero cannot be pruned"):
        applied(Pipeline((HashedNets().training(epochs=0), Magnitude(sparsity=0.5))))
