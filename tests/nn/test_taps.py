"""The calibration loop: what is seen, in what batches, and how often layers are run for it."""

import weakref

import numpy as np
import pytest

from minicomp.models import MLP
from minicomp.nn import (
    Add,
    Codebook,
    Concat,
    Conv2d,
    Dense,
    Flatten,
    Linear,
    Model,
    Node,
    ReLU,
    chain,
)
from minicomp.nn.taps import Walk, crossing, observe

RNG = np.random.default_rng


def branched():
    # x -> a -> relu -> b, c -> concat; concat + relu's other reader -> add -> flat -> fc;
    # dead: unused
    nodes = chain(("a", Conv2d(2, 4, 3, padding=1)), ("relu", ReLU())) + (
        Node("b", Conv2d(4, 1, 1), ("relu",)),
        Node("c", Conv2d(4, 3, 1, bias=False), ("relu",)),
        Node("unused", ReLU(), ("b",)),
        Node("join", Concat(), ("b", "c")),
        Node("sum", Add(), ("join", "relu")),
        Node("flat", Flatten(), ("sum",)),
        Node("fc", Linear(64, 3), ("flat",)),
    )
    model = Model(nodes, input_shape=(2, 4, 4))
    rng = RNG(0)
    for name, form in model.forms().items():
        model.set_form(name, Dense(rng.standard_normal(form.shape).astype(np.float32)))
    return model


X = RNG(1).standard_normal((7, 2, 4, 4)).astype(np.float32)
NAMES = ("a", "relu", "b", "c", "join", "sum", "flat", "fc")


@pytest.mark.parametrize("batch_size", [1, 3, 7, 500])
def test_what_is_seen_is_what_the_net_computes(batch_size):
    model = branched()
    whole = model(X, taps=NAMES)[1]
    parts = list(observe(model, X, ["x", *NAMES], batch_size=batch_size))
    assert [len(p["x"]) for p in parts] == [
        len(X[i : i + batch_size]) for i in range(0, 7, batch_size)
    ]
    np.testing.assert_array_equal(np.concatenate([p["x"] for p in parts]), X)
    for name in NAMES:
        seen = np.concatenate([p[name] for p in parts])
        np.testing.assert_allclose(seen, whole[name].data, rtol=1e-5, atol=1e-5)
    assert list(parts[0]) == ["x", *NAMES]


def test_only_what_a_name_depends_on_is_run(layer_calls):
    model = branched()
    list(observe(model, X, ["c"], batch_size=4))
    assert layer_calls == {"Conv2d": 4, "ReLU": 2}  # a and c, two batches
    layer_calls.clear()
    assert [set(seen) for seen in observe(model, X, ["x"])] == [{"x"}] and not layer_calls


def test_what_no_later_node_reads_is_dropped(monkeypatch):
    alive, most, plain = [], [], ReLU.forward

    def watched(self, x, **kwargs):
        y = plain(self, x, **kwargs)
        alive.append(weakref.ref(y.data))
        most.append(sum(ref() is not None for ref in alive))
        return y

    monkeypatch.setattr(ReLU, "forward", watched)
    model = Model(chain(*((f"r{i}", ReLU()) for i in range(20))), input_shape=(3,))
    for _ in observe(model, np.ones((5, 3), np.float32), ["r19"], batch_size=2):
        pass
    assert len(most) == 60 and max(most) <= 3


def test_weights_are_decoded_once_and_may_be_given(monkeypatch):
    model = MLP([4, 3, 2], rng=RNG(0))
    model.set_form("fc2.weight", Codebook(np.array([[0, 1, 1], [1, 0, 1]]), np.float32([-1, 2])))
    decoded, plain = [], Codebook.dense

    def counting(self, **kwargs):
        decoded.append(1)
        return plain(self, **kwargs)

    monkeypatch.setattr(Codebook, "dense", counting)
    x = RNG(0).standard_normal((9, 4)).astype(np.float32)
    plainly = np.concatenate([seen["fc2"] for seen in observe(model, x, ["fc2"], batch_size=2)])
    assert len(decoded) == 1
    weights = model.decode()
    decoded.clear()
    weights["fc2.bias"].data[...] += 1
    moved = [seen["fc2"] for seen in observe(model, x, ["fc2"], batch_size=2, weights=weights)]
    np.testing.assert_allclose(np.concatenate(moved), plainly + 1, rtol=1e-6)
    assert not decoded


def test_no_graph_is_recorded_and_recording_goes_on_outside():
    model, x = MLP([4, 3], rng=RNG(0)), RNG(0).standard_normal((4, 4)).astype(np.float32)
    for _ in observe(model, x, ["fc1"], batch_size=1):
        assert model(x).requires_grad


def test_what_is_refused():
    model = branched()
    with pytest.raises(KeyError, match="no node 'nobody'; there are a, relu, b"):
        observe(model, X, ["a", "nobody"])
    with pytest.raises(ValueError, match=r"x must have shape \(N, 2, 4, 4\), got \(N, 2, 4, 5\)"):
        observe(model, np.zeros((3, 2, 4, 5), np.float32), ["a"])
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        observe(model, X, ["a"], batch_size=0)
    assert list(observe(model, X[:0], ["a"])) == []


# ------------------------------------------------------------------------------------- the walk


def test_what_crosses_a_cut():
    nodes = branched().nodes
    assert [crossing(nodes, i) for i in range(len(nodes))] == [
        {"x"},
        {"a"},
        {"relu"},
        {"relu", "b"},
        {"relu", "b", "c"},
        {"relu", "b", "c"},
        {"relu", "join"},
        {"sum"},
        {"flat"},
    ]


def test_a_walk_sees_the_same_and_runs_every_node_once(layer_calls):
    model = branched()
    whole = model(X, taps=NAMES)[1]
    layer_calls.clear()
    walk = Walk(X, batch_size=3)
    for name, after in zip(NAMES, [*NAMES[1:], None]):
        seen = [part[name] for part in walk.run(model, [name], to=after)]
        np.testing.assert_allclose(np.concatenate(seen), whole[name].data, rtol=1e-5, atol=1e-5)
        if after:
            assert walk.live == crossing(model.nodes, [n.name for n in model.nodes].index(after))
            assert all(set(part) == walk.live for part in walk.carried)
    assert sum(layer_calls.values()) == 3 * len(NAMES)  # three batches; "unused" is run for nobody


def test_a_net_may_change_behind_the_cut():
    model, walk = branched(), Walk(X, batch_size=4)
    for _ in walk.run(model, [], to="c"):
        pass
    model.set_form("fc.weight", Dense(np.ones((3, 64), np.float32)))
    seen = np.concatenate([part["fc"] for part in walk.run(model, ["fc"])])
    np.testing.assert_allclose(seen, model(X).data, rtol=1e-5, atol=1e-5)
    assert walk.cut == "c"  # looking moves nothing
    again = np.concatenate([part["sum"] for part in walk.run(model, ["sum"])])
    np.testing.assert_allclose(again, model(X, taps=("sum",))[1]["sum"].data, rtol=1e-5, atol=1e-5)


def test_a_walk_does_not_go_back():
    model, walk = branched(), Walk(X)
    list(walk.run(model, [], to="sum"))
    for names, to, first in ((["b"], None, "b"), (["x"], None, "x"), ([], "a", "a")):
        with pytest.raises(
            ValueError, match=f"{first} lies in front of the cut, which is before sum"
        ):
            walk.run(model, names, to=to)
    assert [set(p) for p in walk.run(model, ["relu"])] == [{"relu"}]  # still read behind the cut


def test_arithmetic_in_another_dtype():
    model = MLP([4, 3], rng=RNG(0))
    for name, form in model.forms().items():
        model.set_form(name, Dense(form.dense().data.astype(np.float64)))
    x = RNG(0).standard_normal((5, 4)).astype(np.float32)
    (seen,) = Walk(x, dtype=np.float64).run(model, ["fc1"])
    w = {n: f.dense().data for n, f in model.forms().items()}
    assert seen["fc1"].dtype == np.float64
    np.testing.assert_allclose(seen["fc1"], x @ w["fc1.weight"].T + w["fc1.bias"], rtol=1e-14)
