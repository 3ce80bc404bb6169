import json

import numpy as np
import pytest

from minicomp.errors import FormatError
from minicomp.models import MODELS, MLP, DepthwiseNet32, LeNet5, LeNet300, from_spec
from minicomp.nn import (
    Add,
    BatchNorm1d,
    BatchNorm2d,
    Codebook,
    Concat,
    Conv2d,
    Dense,
    Dropout,
    Flatten,
    Identity,
    Linear,
    MaxPool2d,
    Model,
    Node,
    ReLU,
    ReLU6,
    chain,
)
from minicomp.tensor import Tensor, grad

RNG = np.random.default_rng


def bits(model) -> bytes:
    return b"".join(a.tobytes() for a in model.state_dict().values())


def filled(model, seed=0):
    # Every array drawn, running variances positive.
    rng = RNG(seed)
    for a in [f.value.data for f in model.forms().values()] + list(model.buffers().values()):
        a[...] = np.abs(rng.standard_normal(a.shape)) + 0.1
    return model


def branched():
    # x -> conv -> bn -> relu -> a, b -> concat -> add with itself -> flatten -> fc
    nodes = chain(("conv", Conv2d(2, 3, 3, padding=1)), ("bn", BatchNorm2d(3)), ("relu", ReLU()))
    nodes += (
        Node("a", Conv2d(3, 2, 1), ("relu",)),
        Node("b", Conv2d(3, 4, 1, bias=False), ("relu",)),
        Node("join", Concat(), ("a", "b")),
        Node("sum", Add(), ("join", "join")),
        Node("flat", Flatten(), ("sum",)),
        Node("fc", Linear(6 * 16, 5), ("flat",)),
    )
    return filled(Model(nodes, input_shape=(2, 4, 4)))


X = RNG(1).standard_normal((3, 2, 4, 4)).astype(np.float32)

# ------------------------------------------------------------------------------------------ walking


class Halved(ReLU):
    # Half of ReLU: a further layer, not the one that is fused.
    kind = "Halved"

    def forward(self, x, **_):
        return super().forward(x) * 0.5


def in_pairs(relu=ReLU):
    nodes = chain(("conv", Conv2d(2, 5, 3, padding=1)), ("pool", MaxPool2d(2)),
                  ("flat", Flatten()), ("fc1", Linear(20, 7)), ("relu", relu()),
                  ("fc2", Linear(7, 3)))
    model = Model(nodes, input_shape=(2, 4, 4))
    for form in model.forms().values():
        form.value.data[...] = RNG(2).standard_normal(form.shape)
    return model


def gradients(model, taps=()):
    y = model(X, taps=taps)
    y = y[0] if taps else y
    return [y.data] + [g.data for g in grad((y * y).sum(), list(model.parameters().values()))]


def test_two_layers_in_one_pass_give_the_bits_of_each_alone(monkeypatch):
    model, calls = in_pairs(), []
    for layer in (MaxPool2d, ReLU):
        before = layer.forward
        monkeypatch.setattr(
            layer,
            "forward",
            lambda self, x, before=before, **kw: calls.append(1) or before(self, x, **kw),
        )
    together = gradients(model)
    assert not calls
    alone = gradients(model, taps=("conv", "fc1"))  # what is wanted between two layers is there
    assert len(calls) == 2
    for a, e in zip(together, alone, strict=True):
        np.testing.assert_array_equal(a, e, strict=True)


@pytest.mark.parametrize("relu", [ReLU, ReLU6])
@pytest.mark.parametrize("conv", [dict(kernel_size=1), dict(kernel_size=3, padding=1, groups=2)])
def test_convolution_norm_and_rectifier_run_in_one_pass(relu, conv, monkeypatch):
    def made():
        nodes = chain(("conv", Conv2d(2, 4, bias=False, **conv)), ("bn", BatchNorm2d(4)),
                      ("relu", relu()), ("flat", Flatten()), ("fc", Linear(64, 3)))
        model = Model(nodes, input_shape=(2, 4, 4))
        for form in model.forms().values():
            form.value.data[...] = RNG(2).standard_normal(form.shape)
        return model

    def step(model, taps=(), n_threads=1):
        y = model(X, training=True, taps=taps, n_threads=n_threads)
        y = y[0] if taps else y
        g = grad((y * y).sum(), list(model.parameters().values()))
        return [y.data, *(t.data for t in g), *model.buffers().values()]

    calls = []
    for layer in (Conv2d, BatchNorm2d, relu):
        before = layer.forward
        monkeypatch.setattr(layer, "forward", lambda self, x, before=before, **kw: calls.append(
            self.kind) or before(self, x, **kw))
    together = step(made())
    assert not calls
    for taps, alone in ((("conv",), ["Conv2d", "BatchNorm2d"]), (("bn",), [relu.kind]),
                        (("conv", "bn"), ["Conv2d", "BatchNorm2d", relu.kind])):
        for a, e in zip(step(made(), taps), together, strict=True):
            np.testing.assert_allclose(a, e, rtol=1e-5, atol=1e-6)
        assert calls == alone
        calls.clear()
    for a, e in zip(step(made(), n_threads=2), together, strict=True):
        np.testing.assert_array_equal(a, e)
    model = made()
    for a, e in zip(*(np.split(model(X, taps=t)[0].data, 1) for t in (("x",), ("conv", "bn")))):
        np.testing.assert_array_equal(a, e)  # with the running statistics


def test_blocks_in_a_row_run_in_one_pass_unless_one_stands_still_or_something_is_wanted():
    def made():
        nodes = chain(
            ("conv1", Conv2d(2, 4, 1, bias=False)), ("bn1", BatchNorm2d(4)), ("relu1", ReLU6()),
            ("conv2", Conv2d(4, 4, 3, padding=1, groups=4, bias=False)), ("bn2", BatchNorm2d(4)),
            ("relu2", ReLU()), ("conv3", Conv2d(4, 3, 1, bias=False)), ("bn3", BatchNorm2d(3)),
            ("conv4", Conv2d(3, 2, 1, bias=False)), ("bn4", BatchNorm2d(2)), ("flat", Flatten()),
            ("fc", Linear(32, 3)))
        model = Model(nodes, input_shape=(2, 4, 4))
        for form in model.forms().values():
            form.value.data[...] = RNG(2).standard_normal(form.shape)
        return model

    def step(model, taps=(), n_threads=1, training=True):
        y = model(X, training=training, taps=taps, n_threads=n_threads)
        y = y[0] if taps else y
        g = grad((y * y).sum(), list(model.parameters().values()))
        return [y.data, *(t.data for t in g), *model.buffers().values()]

    def equal(one, other):
        for a, e in zip(one, other, strict=True):
            np.testing.assert_allclose(a, e, rtol=1e-5, atol=1e-6)

    model = made()
    rows = {name: [len(row) for _, row in found] for name, found in model._rows.items()}
    # bn3 has no rectifier: a row ends there.
    assert rows["conv1"] == [8, 6, 5, 3, 2] and rows["conv3"] == [2] and rows["conv4"] == [2]
    every = [name for name in model.shapes() if name != "x"]
    alone = step(made(), every)
    equal(step(model), alone)
    for taps in (["relu1"], ["conv2"], ["bn1", "relu2"]):
        equal(step(made(), taps), alone)
    for a, e in zip(step(made(), n_threads=2), step(made()), strict=True):
        np.testing.assert_array_equal(a, e)
    equal(step(made(), training=False), step(made(), every, training=False))
    still = []
    for taps in ((), every):
        model = made()
        model.node("bn2").layer.still = True
        still.append(step(model, taps))
    equal(*still)
    assert not np.allclose(still[0][0], alone[0])
    assert (model.buffers()["bn2.running_var"] == 1).all()
    assert (model.buffers()["bn1.running_var"] != 1).all()


def test_a_further_layer_and_a_shared_output_are_not_fused():
    y = in_pairs(Halved)(X, taps=("fc1",))[0]
    np.testing.assert_array_equal(in_pairs(Halved)(X).data, y.data)
    assert not np.array_equal(in_pairs()(X).data, y.data)
    nodes = chain(("a", Linear(4, 4)), ("relu", ReLU())) + (Node("sum", Add(), ("a", "relu")),)
    model = Model(nodes, input_shape=(4,))
    model.forms()["a.weight"].value.data[...] = -np.eye(4)
    np.testing.assert_array_equal(model(np.ones((1, 4), np.float32)).data, [[-1] * 4])


def test_the_walk_is_the_layers_applied_in_order():
    model = branched()
    layers = {n.name: n.layer for n in model.nodes}
    relu = layers["relu"](layers["bn"](layers["conv"](X)))
    a, b = layers["a"](relu), layers["b"](relu)
    join = np.concatenate([a.data, b.data], axis=1)
    want = layers["fc"](layers["flat"](join + join)).data
    y, taps = model(X, taps=("x", "relu", "a", "fc"))
    np.testing.assert_array_equal(y.data, want)
    np.testing.assert_array_equal(model(X).data, want)
    assert list(taps) == ["x", "relu", "a", "fc"]
    np.testing.assert_array_equal(taps["relu"].data, relu.data)
    np.testing.assert_array_equal(taps["a"].data, a.data)
    np.testing.assert_array_equal(taps["x"].data, X)
    assert taps["fc"] is y


def test_training_and_rng_reach_the_layers():
    model = MLP([4, 50, 2], rng=RNG(0)).edit({"act1": (Node("drop", Dropout(0.5), ("fc1",)),)})
    x = np.ones((2, 4), np.float32)
    _, taps = model(x, training=True, rng=RNG(3), taps=("drop",))
    assert 20 < np.count_nonzero(taps["drop"].data == 0) < 80
    _, taps = model(x, taps=("drop",))
    assert np.count_nonzero(taps["drop"].data == 0) == 0
    with pytest.raises(ValueError, match="rng must be given"):
        model(x, training=True)


def test_wrong_inputs_and_taps_are_named():
    with pytest.raises(ValueError, match=r"x must have shape \(N, 2, 4, 4\), got \(3, 1, 4, 4\)"):
        branched()(X[:, :1])
    with pytest.raises(KeyError, match="no node 'relu9'; there are x, conv, bn, relu, a"):
        branched()(X, taps=("relu9",))
    with pytest.raises(KeyError, match="no node 'fc9'; there are fc1, act1, fc2"):
        MLP([2, 3, 2]).node("fc9")


def test_an_empty_model_is_the_identity():
    np.testing.assert_array_equal(Model((), input_shape=(2, 4, 4))(X).data, X)


@pytest.mark.parametrize(
    "nodes, message",
    [
        ([Node("a", ReLU()), Node("a", ReLU(), ("a",))], "node names must be unique .* got 'a'"),
        ([Node("x", ReLU())], "node names must be unique .* got 'x'"),
        ([Node("a b", ReLU())], "match .* got 'a b'"),
        ([Node("", ReLU())], "got ''"),
        ([Node("n" * 101, ReLU())], "got 'nnn"),
        ([Node("a\n", ReLU())], "got 'a"),
        ([Node(3, ReLU())], "got 3"),
        ([Node("a", ReLU(), ("b",)), Node("b", ReLU())], "a: inputs must be earlier nodes, got b"),
        ([Node("a", ReLU(), ())], "a: inputs must be earlier nodes, got none"),
        ([Node("a", ReLU()), Node("b", ReLU(), ("x", "a"))], "b: ReLU takes 1 input, got 2"),
        ([Node("a", Linear(2, 2), ("x", "x"))], "a: Linear takes 1 input, got 2"),
    ],
)
def test_a_malformed_list_is_refused(nodes, message):
    with pytest.raises(ValueError, match=message):
        Model(nodes, input_shape=(2,))


@pytest.mark.parametrize("shape", [(0,), (-1, 2), (2.5,), (True,), ("2",)])
def test_an_input_shape_is_positive_integers(shape):
    with pytest.raises(
        ValueError, match=r"input_shape must be positive integers, \(D,\) or \(C, H, W\), got"
    ):
        Model([Node("a", ReLU())], input_shape=shape)


# --------------------------------------------------------------------------------- names and arrays


def test_names_of_forms_parameters_and_state():
    model = branched()
    assert list(model.forms()) == [
        "conv.weight",
        "conv.bias",
        "bn.weight",
        "bn.bias",
        "a.weight",
        "a.bias",
        "b.weight",
        "fc.weight",
        "fc.bias",
    ]
    assert list(model.buffers()) == ["bn.running_mean", "bn.running_var"]
    assert list(model.state_dict()) == [
        "conv.weight",
        "conv.bias",
        "bn.weight",
        "bn.bias",
        "bn.running_mean",
        "bn.running_var",
        "a.weight",
        "a.bias",
        "b.weight",
        "fc.weight",
        "fc.bias",
    ]
    model.set_form("fc.weight", Codebook(np.zeros((5, 96), int), [0.0, 1.0]))
    model.set_form(
        "a.weight", Dense(np.ones((2, 3, 1, 1), np.float32), np.ones((2, 3, 1, 1), bool))
    )
    model.set_form("a.bias", model.forms()["a.bias"].freeze())
    assert {"fc.weight.centroids", "a.weight"} <= set(
        model.parameters()
    ) and "a.bias" not in model.parameters()
    assert {
        "fc.weight.index",
        "fc.weight.centroids.value",
        "a.weight.value",
        "a.weight.mask",
    } <= set(model.state_dict())
    assert model.parameters()["fc.weight.centroids"] is model.forms()["fc.weight"].centroids.value


def test_set_form_keeps_the_shape():
    model = MLP([4, 3], rng=RNG(0))
    with pytest.raises(ValueError, match=r"fc1.weight must have shape \(3, 4\), got \(4, 3\)"):
        model.set_form("fc1.weight", Dense(np.zeros((4, 3), np.float32)))
    with pytest.raises(KeyError, match="no form 'fc1.wait'; there are fc1.weight, fc1.bias"):
        model.set_form("fc1.wait", Dense(np.zeros((4, 3), np.float32)))
    with pytest.raises(KeyError, match="no form 'fc9.weight'"):
        model.set_form("fc9.weight", Dense(np.zeros((4, 3), np.float32)))
    with pytest.raises(KeyError, match="no form 'nonsense'"):
        model.set_form("nonsense", Dense(np.zeros((4, 3), np.float32)))


def test_project_reaches_every_form():
    model = MLP([4, 3], rng=RNG(0))
    model.set_form("fc1.weight", Dense(np.ones((3, 4), np.float32), np.eye(3, 4) > 0))
    model.forms()["fc1.weight"].value.data[...] = 5
    model.project()
    np.testing.assert_array_equal(
        model.forms()["fc1.weight"].value.data, 5 * np.eye(3, 4, dtype=np.float32)
    )


@pytest.mark.parametrize("name", [*MODELS, "branched"])
def test_state_round_trip_restores_the_output(name, built_in):
    model, other = (filled(branched() if name == "branched" else built_in(name), seed)
                    for seed in (1, 2))
    x = RNG(0).standard_normal((2, *model.input_shape)).astype(np.float32)
    assert bits(other) != bits(model)
    tensors = other.parameters()
    other.load_state_dict(model.state_dict())
    assert bits(other) == bits(model)
    np.testing.assert_array_equal(other(x).data, model(x).data)
    assert all(
        other.parameters()[n] is t for n, t in tensors.items()
    )  # an optimizer still holds them


def test_a_state_dict_is_a_copy():
    model = branched()
    before = bits(model)
    for a in model.state_dict().values():
        a[...] = 0
    assert bits(model) == before


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda s: s.pop("fc.bias"), "state does not fit the model: missing fc.bias$"),
        (lambda s: s.update(extra=np.zeros(1)), "unexpected extra$"),
        (
            lambda s: s.update({"\x1b[2J" * 99: np.zeros(1)}),
            r"unexpected (\\x1b\[2J){25}\.\.\. \(396 letters\)$",
        ),
        (
            lambda s: s.update({"bn.running_var": np.array([1, -1, 1])}),
            "bn.running_var must be at least 0, got -1$",
        ),
        (
            lambda s: s.update({"fc.bias": np.zeros(6)}),
            r"fc.bias must have shape \(5,\), got \(6,\)$",
        ),
        (
            lambda s: s.update({"bn.running_var": np.zeros(())}),
            r"bn.running_var must have shape \(3,\), got \(\)$",
        ),
        (
            lambda s: (s.pop("conv.weight"), s.pop("fc.bias"), s.update(a=1, b=2)),
            "missing conv.weight; missing fc.bias; unexpected a; unexpected b$",
        ),
        (
            lambda s: s.update({"fc.weight.index": s["fc.weight.index"] + 2}),
            r"fc.weight: index must be in \[0, 1\], got 2\.\.2$",
        ),
        (
            lambda s: s.update({"conv.bias": np.array(["a", "b", "c"])}),
            "conv.bias must hold numbers, got <U1$",
        ),
        (
            lambda s: s.update({"conv.bias": np.array([0, np.nan, 0])}),
            "conv.bias: value must be finite in float32, got nan$",
        ),
        (
            lambda s: s.update({"conv.bias": np.array([0, 0, 1e39])}),  # finite in float64
            r"conv.bias: value must be finite in float32, got 1e\+39$",
        ),
        (
            lambda s: s.update({"fc.weight.centroids.value": np.array([0, -np.inf])}),
            "fc.weight: centroids.value must be finite in float32, got -inf$",
        ),
        (
            lambda s: s.update({"bn.running_mean": np.array([0, np.nan, 0])}),
            "bn.running_mean must be finite in float32, got nan$",
        ),
    ],
)
def test_a_state_that_does_not_fit_is_one_error_and_changes_nothing(change, message):
    model = branched()
    model.set_form("fc.weight", Codebook(np.zeros((5, 96), int), [0.0, 1.0]))
    state = {n: a + (a.dtype == np.float32) for n, a in model.state_dict().items()}
    change(state)
    before = bits(model)
    with pytest.raises(ValueError, match=message):
        model.load_state_dict(state)
    assert bits(model) == before


def test_torchs_counter_of_batches_is_left_out():
    model = branched()
    model.load_state_dict(model.state_dict() | {"bn.num_batches_tracked": np.int64(7)})
    with pytest.raises(ValueError, match="unexpected fc.num_batches_tracked"):
        model.load_state_dict(model.state_dict() | {"fc.num_batches_tracked": np.int64(7)})


# --------------------------------------------------------------------------------- copies and edits


def test_a_copy_shares_no_writable_array_and_keeps_the_origin():
    model = branched()
    model.set_form("fc.weight", Codebook(np.ones((5, 96), int), [0.0, 1.0]))
    other = model.copy()
    before = bits(model)
    x = X.copy()
    for t in other.parameters().values():
        t.data[...] = 0
    other(x, training=True)  # moves the running statistics
    other.set_form("a.bias", Dense(np.zeros(2, np.float32)))
    assert bits(model) == before != bits(other)
    assert other.origin_bytes == model.origin_bytes == 4 * (54 + 3 + 6 + 6 + 6 + 2 + 12 + 480 + 5)
    assert other.spec() == model.spec()
    lenet = LeNet300().copy()
    assert lenet.builtin == {"name": "lenet300", "args": {}}


def test_dense_has_plain_names_and_the_same_outputs():
    model = branched()
    rng = RNG(0)
    model.set_form(
        "fc.weight", Codebook(rng.integers(0, 3, (5, 96)), [0.0, -1.0, 2.0], pinned_zero=True)
    )
    w = model.forms()["conv.weight"].value
    model.set_form("conv.weight", Dense(w, rng.random(w.shape) < 0.5, trainable=False))
    dense = model.dense()
    assert list(dense.state_dict()) == list(branched().state_dict())
    np.testing.assert_array_equal(dense(X).data, model(X).data)
    assert all(type(f) is Dense and f.mask is None for f in dense.forms().values())
    assert dense.origin_bytes == model.origin_bytes
    dense.forms()["conv.weight"].value.data[...] = 0
    assert model.forms()["conv.weight"].nonzeros()


def test_edit_replaces_a_node_by_a_chain():
    model = branched()
    swap = (Node("fc.0", Linear(96, 2), ("flat",)), Node("fc.1", Linear(2, 5), ("fc.0",)))
    low = model.edit({"fc": swap})
    assert [n.name for n in low.nodes][-3:] == ["flat", "fc.0", "fc.1"]
    assert low.shapes()["fc.1"] == (5,) and low.origin_bytes == model.origin_bytes
    assert [n.name for n in model.nodes][-1] == "fc"

    middle = model.edit({"relu": (Node("r1", ReLU(), ("bn",)), Node("r2", Identity(), ("r1",)))})
    assert middle.node("a").inputs == middle.node("b").inputs == ("r2",)
    np.testing.assert_array_equal(middle(X).data, model(X).data)
    assert middle.node("a").layer is model.node("a").layer  # shared, not copied

    same = model.edit({"relu": (Node("relu", ReLU(), ("bn",)),)})  # under its own name
    assert same.node("a").inputs == ("relu",)


def test_edit_removes_nodes_and_rewires_through_several():
    model = branched()
    cut = model.edit({"relu": (), "bn": ()})
    assert cut.node("a").inputs == ("conv",)
    _, taps = model(X, taps=("conv",))
    _, mine = cut(X, taps=("a",))
    np.testing.assert_array_equal(mine["a"].data, model.node("a").layer(taps["conv"]).data)
    assert model.edit({"conv": (), "bn": ()}).node("relu").inputs == ("x",)
    both = model.edit(
        {"bn": (), "relu": (Node("r", ReLU(), ("bn",)),)}
    )  # the chain reads what was removed
    assert both.node("r").inputs == ("conv",) and both.node("a").inputs == ("r",)
    last = model.edit({"fc": ()})
    assert last(X).shape == (3, 96)


def test_edit_refuses_what_it_cannot_do():
    model = branched()
    with pytest.raises(ValueError, match="join has 2 inputs: it cannot become the identity"):
        model.edit({"join": ()})
    with pytest.raises(KeyError, match="no node 'fc9'"):
        model.edit({"fc9": ()})
    with pytest.raises(ValueError, match="node names must be unique"):
        model.edit({"fc": (Node("conv", Linear(96, 5), ("flat",)),)})
    with pytest.raises(ValueError, match="x2: inputs must be earlier nodes, got fc"):
        model.edit({"relu": (Node("x2", ReLU(), ("fc",)),)})


def test_an_edited_builtin_is_no_longer_one():
    model = LeNet300(rng=RNG(0))
    assert model.edit({"relu1": ()}).builtin is None
    assert "nodes" in model.edit({"relu1": ()}).spec()
    unchanged = model.edit({})
    assert unchanged.builtin == model.builtin


# ------------------------------------------------------------------------- shapes, counts, the spec


def test_shapes_macs_and_counts_by_hand():
    model = branched()
    assert model.shapes() == {
        "x": (2, 4, 4),
        "conv": (3, 4, 4),
        "bn": (3, 4, 4),
        "relu": (3, 4, 4),
        "a": (2, 4, 4),
        "b": (4, 4, 4),
        "join": (6, 4, 4),
        "sum": (6, 4, 4),
        "flat": (96,),
        "fc": (5,),
    }
    macs = {n: m for n, m in model.macs().items() if m}
    assert macs == {"conv": 16 * 3 * 2 * 9, "a": 16 * 2 * 3, "b": 16 * 4 * 3, "fc": 480}
    assert model.count() == 54 + 3 + 6 + 6 + 2 + 12 + 480 + 5
    assert model.dense_bytes() == 4 * (model.count() + 6)


def test_a_layer_that_does_not_fit_is_named():
    model = Model(chain(("a", Linear(4, 3)), ("b", Linear(4, 2))), input_shape=(4,))
    with pytest.raises(
        ValueError, match=r"b: Linear needs 4 features, got an input of shape \(3,\)"
    ):
        model.shapes()


@pytest.mark.parametrize("name", [*MODELS, "branched", "mlp"])
def test_a_spec_through_json_gives_the_same_net_with_weights_0(name, built_in):
    own = {"branched": branched, "mlp": lambda: MLP([3, 4, 2])}
    model = filled(own[name]() if name in own else built_in(name))
    other = from_spec(json.loads(json.dumps(model.spec())))
    assert other.spec() == model.spec() and other.shapes() == model.shapes()
    assert other.input_shape == model.input_shape and other.origin_bytes == model.origin_bytes
    assert [(n.name, n.layer.kind, n.inputs) for n in other.nodes] == [
        (n.name, n.layer.kind, n.inputs) for n in model.nodes
    ]
    dense = [n.name for n in other.nodes if n.layer.coupling == "mix"]
    assert dense and not any(other.forms()[f"{n}.weight"].dense().data.any() for n in dense)
    other.load_state_dict(model.state_dict())
    x = RNG(0).standard_normal((2, *model.input_shape)).astype(np.float32)
    np.testing.assert_array_equal(other(x).data, model(x).data)


def test_a_builtin_is_its_name():
    assert LeNet5().spec() == {"builtin": "lenet5", "args": {}}
    assert len(json.dumps(DepthwiseNet32().spec())) < 50


def test_an_edited_builtin_through_its_listed_spec_is_the_same_net():
    model = filled(DepthwiseNet32())
    listed = Model(model.nodes, input_shape=model.input_shape)
    other = from_spec(json.loads(json.dumps(listed.spec())))
    other.load_state_dict(model.state_dict())
    x = RNG(0).standard_normal((2, 3, 32, 32)).astype(np.float32)
    np.testing.assert_array_equal(other(x).data, model(x).data)


def layer(kind="Linear", *, name="a", inputs=("x",), **config):
    images = kind in (
        "Conv2d",
        "MaxPool2d",
        "AvgPool2d",
        "AdaptiveAvgPool2d",
        "ChannelShuffle",
        "BatchNorm2d",
    )
    return {"input": [4, 8, 8] if images else [4], "nodes": [[name, kind, config, list(inputs)]]}


FC = {"in_features": 4, "out_features": 3}


@pytest.mark.parametrize(
    "spec",
    [
        None,
        [],
        3,
        "lenet5",
        {},
        {"builtin": "lenet6", "args": {}},
        {"builtin": ["lenet5"], "args": {}},
        {"builtin": "lenet5", "args": {"rng": 1}},
        {"builtin": "lenet5"},
        {"builtin": None, "args": {}},
        {"input": [4]},
        {"nodes": []},
        {"input": [4], "nodes": 3},
        {"input": [4], "nodes": [3]},
        {"input": [4], "nodes": [["a", "Linear", FC]]},
        {"input": "44", "nodes": []},
        {"input": [0], "nodes": []},
        {"input": [-4], "nodes": []},
        {"input": [4.0], "nodes": []},
        {"input": [True], "nodes": []},
        {"input": [], "nodes": []},
        {"input": [2] * 9, "nodes": []},
        {"input": 4, "nodes": []},
        {"input": [float("inf")], "nodes": []},
        layer("Lin", **FC),
        layer(["Linear"], **FC),
        layer(None, **FC),
        layer(**FC, color=3),
        layer(in_features=4),
        layer(in_features="4", out_features=3),
        layer(in_features=4, out_features=0),
        layer(in_features=-4, out_features=-3),
        layer(in_features=True, out_features=3),
        layer(in_features=4.0, out_features=3),
        layer(in_features=[4], out_features=3),
        layer(**FC, bias="yes"),
        layer(**FC, bias=1),
        layer(in_features=5, out_features=3),
        layer(**FC, name="a b"),
        layer(**FC, name=["a"]),
        layer(**FC, inputs=("y",)),
        layer(**FC, inputs=("x", "x")),
        layer(**FC, inputs=()),
        layer(**FC, inputs=([],)),
        layer("Conv2d", in_channels=4, out_channels=4, kernel_size=3, groups=0),
        layer("Conv2d", in_channels=4, out_channels=4, kernel_size=3, groups=3),
        layer("Conv2d", in_channels=4, out_channels=4, kernel_size=[3, 3, 3]),
        layer("Conv2d", in_channels=4, out_channels=4, kernel_size=3, stride=0),
        layer("Conv2d", in_channels=4, out_channels=4, kernel_size=3, padding=-1),
        layer("Conv2d", in_channels=5, out_channels=4, kernel_size=3),
        layer("Conv2d", in_channels=4, out_channels=4, kernel_size=9),
        layer("BatchNorm1d", num_features=4, eps="small"),
        layer("BatchNorm1d", num_features=4, momentum=2.0),
        layer("BatchNorm1d", num_features=5),
        layer("Dropout", p=1.0),
        layer("Dropout", p="half"),
        layer("Dropout", p=True),
        layer("MaxPool2d", kernel_size=9),
        layer("MaxPool2d", kernel_size=2, padding=2),
        layer("MaxPool2d", kernel_size=2, stride=0),
        layer("MaxPool2d"),
        layer("AvgPool2d", kernel_size=2, ceil_mode="no"),
        layer("ChannelShuffle", groups=0),
        layer("AdaptiveAvgPool2d", output_size=-1),
        layer("Identity", p=3),
        layer("ChannelShuffle", groups=3),
        {"input": [4], "nodes": [["a", "MaxPool2d", {"kernel_size": 2}, ["x"]]]},
        {"input": [4], "nodes": [["a", "Linear", FC, ["x"]], ["s", "Add", {}, ["a", "x"]]]},
        {"input": [4], "nodes": [["a", "Linear", FC, "x"]]},
    ],
)
def test_a_malformed_spec_is_a_format_error(spec):
    with pytest.raises(FormatError):
        from_spec(spec)


@pytest.mark.parametrize(
    "spec",
    [
        layer(**FC),
        layer(**FC, bias=False),
        layer("Conv2d", in_channels=4, out_channels=4, kernel_size=[3, 1], groups=4),
        layer("BatchNorm1d", num_features=4),
        layer("BatchNorm2d", num_features=4),
        layer("Dropout", p=0.5),
        layer("MaxPool2d", kernel_size=2, padding=1, ceil_mode=True),
        layer("AvgPool2d", kernel_size=3, stride=[1, 2]),
        layer("AdaptiveAvgPool2d", output_size=2),
        layer("ChannelShuffle", groups=2),
        layer("Identity"),
    ],
)
def test_the_specs_above_are_wrong_in_one_thing_only(spec):
    assert from_spec(spec).spec()["nodes"][0][1] == spec["nodes"][0][1]


HUGE = {"in_features": 2**40, "out_features": 2**20}


@pytest.mark.parametrize(
    "nodes",
    [
        [["a", "Linear", HUGE, ["x"]]],
        [["a", "Linear", {"in_features": 10**400, "out_features": 3}, ["x"]]],
        [
            ["a", "Linear", HUGE, ["x"]],
            ["b", "Linear", {"in_features": -(2**60) - 1, "out_features": 1}, ["a"]],
        ],
        [["a", "Linear", HUGE, ["x"]], ["b", "BatchNorm1d", {"num_features": -(2**62)}, ["a"]]],
        [["a", "Conv2d", {"in_channels": 2**30, "out_channels": 2**30, "kernel_size": 3}, ["x"]]],
        [["a", "BatchNorm1d", {"num_features": 2**50}, ["x"]]],
        [
            [f"a{i}", "Linear", {"in_features": 2**14, "out_features": 2**13}, ["x"]]
            for i in range(3)
        ],
    ],
)
def test_a_spec_that_declares_too_much_is_refused_before_anything_is_allocated(nodes, monkeypatch):
    def allocate(*args, **kw):
        raise AssertionError("allocated")

    for name in ("zeros", "ones", "empty"):
        monkeypatch.setattr(np, name, allocate)
    says = "weights must take 0 to 1073741824 bytes, declared|must be an integer below 2..31"
    with pytest.raises(FormatError, match=says):
        from_spec({"input": [4], "nodes": nodes})


def test_max_bytes_is_of_the_weights():
    spec = layer(in_features=4, out_features=3)
    assert from_spec(spec, max_bytes=60).count() == 15
    with pytest.raises(FormatError, match="0 to 59 bytes, declared 60"):
        from_spec(spec, max_bytes=59)


def test_no_layer_and_no_form_stands_in_a_model_twice():
    fc = Linear(3, 3)
    with pytest.raises(ValueError, match="b: its Linear is that of a too"):
        Model(chain(("a", fc), ("b", fc)), input_shape=(3,))
    other = Linear(3, 3)
    other.forms["weight"] = fc.forms["weight"]
    with pytest.raises(ValueError, match="b: its dense is that of a too"):
        Model(chain(("a", fc), ("b", other)), input_shape=(3,))


def test_a_model_is_a_function_of_decoded_weights():
    model = MLP([3, 4, 2], rng=np.random.default_rng(0))
    x = np.random.default_rng(1).standard_normal((5, 3)).astype(np.float32)
    w = model.decode()
    assert list(w) == list(model.forms())
    np.testing.assert_array_equal(model(x, weights=w).data, model(x).data)
    w["fc2.bias"] = Tensor(w["fc2.bias"].data + np.float32(1))
    np.testing.assert_allclose(model(x, weights=w).data, model(x).data + 1, rtol=1e-6)


def test_a_form_is_not_set_in_two_places():
    model = Model(chain(("a", Linear(3, 3)), ("b", Linear(3, 3))), input_shape=(3,))
    form = Dense(np.ones((3, 3), np.float32))
    model.set_form("a.weight", form)
    model.set_form("a.weight", form)
    with pytest.raises(ValueError, match="b.weight: this form is that of a.weight"):
        model.set_form("b.weight", form)


def two_norms():
    return Model(
        chain(("a", BatchNorm1d(4)), ("b", BatchNorm1d(4))), input_shape=(4,)
    )


@pytest.mark.parametrize(
    "tie, what",
    [
        (lambda a, b: b.forms.update(weight=a.forms["weight"]), "dense"),
        (lambda a, b: setattr(b.forms["weight"], "value", a.forms["weight"].value), "array"),
        (lambda a, b: b.buffers.update(running_var=a.buffers["running_var"]), "array"),
    ],
    ids=["form", "array", "buffer"],
)
@pytest.mark.parametrize(
    "use",
    [
        lambda model: model.copy(),
        lambda model: model.parameters(),
        lambda model: model.load_state_dict(two_norms().state_dict()),
        lambda model: model.edit({}),
        lambda model: Model(model.nodes, input_shape=(4,)),
    ],
    ids=["copy", "parameters", "load", "edit", "model"],
)
def test_what_was_tied_behind_the_model_s_back_is_refused_where_it_is_used(tie, what, use):
    model = two_norms()
    tie(model.node("a").layer, model.node("b").layer)
    with pytest.raises(ValueError, match=f"b: its {what} is that of a too"):
        use(model)


def test_what_is_no_node_is_refused():
    for nodes in ([("fc", Linear(2, 2), ("x",))], [Linear(2, 2)]):
        with pytest.raises(ValueError, match=r"nodes must be Node\(name, layer, inputs\)"):
            Model(nodes, input_shape=(2,))
