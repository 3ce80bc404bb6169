from types import SimpleNamespace

import numpy as np
import pytest

from minicomp.compress import finetune
from minicomp.compress.finetune import FineTune
from minicomp.compress.prune.iterative import Iterative
from minicomp.compress.prune.magnitude import Magnitude
from minicomp.compress.technique import Run, weights
from minicomp.models import MLP
from minicomp.nn import Conv2d, Dense, Dropout, Flatten, Linear, Model, Node, ReLU, chain
from minicomp.nn.init import lecun_uniform
from minicomp.train import evaluate

SIZES = [240, 200, 40]


def net(p=0.0):
    model = MLP([12, 20, 10, 4], rng=np.random.default_rng(0))
    drop = (Node("act1", ReLU(), ("fc1",)), Node("drop", Dropout(p), ("act1",)))
    return model.edit({"act1": drop}) if p else model


def zeros(model):
    masks = [model.forms()[name].mask for name in weights(model).values()]
    return [0 if m is None else np.count_nonzero(~m) for m in masks]


@pytest.fixture
def watched(monkeypatch, blobs):
    # Applies it; returns the result and, at the start of every retraining, a copy of the model, the
    # names of what it may train and its dropout.
    def apply(technique, model, given=None):
        starts, fit = [], finetune.fit

        def spy(model, data, **knobs):
            drop = [n.layer.p for n in model.nodes if isinstance(n.layer, Dropout)]
            starts.append((model.copy(), set(model.parameters()), drop))
            return fit(model, data, **knobs)

        with monkeypatch.context() as patch:
            patch.setattr(finetune, "fit", spy)
            return technique.apply(model, given or blobs(), Run(np.random.default_rng(1))), starts

    return apply


def test_the_kept_fraction_falls_geometrically_to_exactly_the_sparsity(watched):
    knobs = {"sparsity": {"*": 0.875, "fc2": 0.7}, "rounds": 3, "train": FineTune(epochs=1)}
    model, starts = watched(Iterative(**knobs), net())
    # keep 1/2, 1/4, 1/8 of fc1 and fc3; fc2 keeps 0.3^(1/3), 0.3^(2/3), 0.3
    for r, (start, _, _) in enumerate(starts, start=1):
        want = [120, 180, 210][r - 1], round(200 * (1 - 0.3 ** (r / 3))), [20, 30, 35][r - 1]
        assert tuple(zeros(start)) == want
    assert zeros(model) == [210, 140, 35]


@pytest.mark.parametrize("s", [0.02, 0.34, 0.7, 0.999])
def test_the_last_round_is_round_s_n_to_the_bit(s):
    # 1 - (1 - 0.34) is a little more than 0.34, and 8.5 entries would round the other way
    model = Model(chain(("fc", Linear(5, 5))), input_shape=(5,))
    model.set_form("fc.weight", Dense(np.arange(25.0).reshape(5, 5).astype(np.float32)))
    sketch = Iterative(sparsity=s).sketch(model, rng=np.random.default_rng(0))
    assert np.count_nonzero(~sketch.forms()["fc.weight"].mask) == round(s * 25)


def test_survivors_keep_their_values_and_the_smallest_go(watched):
    _, starts = watched(Iterative(sparsity=0.9, rounds=3, train=FineTune(epochs=1)), net())
    before = net()
    for start, _, _ in starts:
        mask = start.forms()["fc1.weight"].mask
        earlier = before.forms()["fc1.weight"].mask
        assert earlier is None or not (mask & ~earlier).any()
        before = start
    first = starts[0][0].forms()["fc1.weight"]
    w = net().forms()["fc1.weight"].dense().data
    np.testing.assert_array_equal(first.dense().data[first.mask], w[first.mask])
    assert np.abs(w[~first.mask]).max() <= np.abs(w[first.mask]).min()


def test_what_is_pruned_already_counts():
    first = Magnitude(sparsity=0.5).apply(net(), None, Run(np.random.default_rng(0)))
    for name in weights(first).values():  # live weights of 0, which must not count as pruned
        form = first.forms()[name]
        form.value.data.ravel()[np.flatnonzero(form.mask)[::3]] = 0
    sketch = Iterative(sparsity=0.6).sketch(first, rng=np.random.default_rng(0))
    assert zeros(sketch) == [144, 120, 24]


def test_dropout_shrinks_with_the_root_of_what_is_kept_and_comes_back(watched):
    # Han et al. 2015, eq. (2): keep 1/4, then 1/16
    model, starts = watched(
        Iterative(sparsity=15 / 16, rounds=2, train=FineTune(epochs=1)), net(0.5)
    )
    kept = [1 - zeros(start)[0] / SIZES[0] for start, _, _ in starts]  # of fc1, which feeds it
    assert [drop[0] for _, _, drop in starts] == pytest.approx([0.5 * k**0.5 for k in kept])
    assert kept == [1 / 4, 1 / 16]
    assert model.node("drop").layer.p == 0.5
    _, plain = watched(
        Iterative(sparsity=0.9, rounds=1, train=FineTune(epochs=1, dropout=False)), net(0.5)
    )
    assert plain[0][2] == [0.5]


def conv_net():
    nodes = chain(
        ("conv", Conv2d(1, 4, 3)), ("relu", ReLU()), ("flat", Flatten()), ("fc", Linear(16, 3))
    )
    model = Model(nodes, input_shape=(1, 4, 4))
    for name in weights(model).values():
        shape = model.forms()[name].shape
        model.set_form(name, Dense(lecun_uniform(shape, rng=np.random.default_rng(0))))
    return model


def test_convolutions_and_fully_connected_layers_in_turn(watched):
    rng = np.random.default_rng(0)
    part = SimpleNamespace(
        x=rng.standard_normal((64, 1, 4, 4)).astype(np.float32), y=rng.integers(0, 3, 64)
    )
    given = SimpleNamespace(train=part, val=part)
    knobs = {"sparsity": 0.75, "rounds": 2, "alternate": True, "train": FineTune(epochs=1)}
    model, starts = watched(Iterative(**knobs), conv_net(), given)
    assert [sorted(names) for _, names, _ in starts] == 2 * [
        ["conv.bias", "conv.weight"],
        ["fc.bias", "fc.weight"],
    ]
    assert [zeros(start) for start, _, _ in starts] == [[18, 0], [18, 24], [27, 24], [27, 36]]
    frozen = [start.forms()["fc.bias"].dense().data for start, _, _ in starts]
    np.testing.assert_array_equal(frozen[0], frozen[1])  # while the convolution trained
    assert not np.array_equal(frozen[1], frozen[2])
    assert not any(form.trainable for form in model.forms().values())


def test_the_rounds_are_logged(blobs):
    model, log = net(), []
    technique = Iterative(sparsity=0.9, rounds=3, train=FineTune(epochs=2))
    made = technique.apply(model, blobs(), Run(np.random.default_rng(1), log=log.append))
    rounds = [row for row in log if row["event"] == "round"]
    assert [(row["round"], row["rounds"]) for row in rounds] == [(1, 3), (2, 3), (3, 3)]
    assert rounds[0]["sparsity"] < rounds[1]["sparsity"] < rounds[2]["sparsity"]
    assert rounds[2]["errors"] == evaluate(made, blobs().val).errors


def test_pruning_and_retraining_in_rounds_beats_pruning_at_once(blobs):
    # The paper's figure 5: without retraining accuracy falls early, with rounds of it late.
    given = blobs(400)
    dense = FineTune(epochs=10, lr=0.05, batch_size=32).apply(
        net(), given, Run(np.random.default_rng(0))
    )
    once = Magnitude(sparsity=0.9).apply(dense, given, Run(np.random.default_rng(0)))
    rounds = Iterative(
        sparsity=0.9, rounds=3, train=FineTune(epochs=3, lr=0.05, batch_size=32)
    ).apply(dense, given, Run(np.random.default_rng(0)))
    assert zeros(rounds) == zeros(once)
    assert evaluate(rounds, given.val).errors + 40 < evaluate(once, given.val).errors
