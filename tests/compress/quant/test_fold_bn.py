"""Folding of batch norm: equation (14), outputs, masks, what stays and what is refused."""

from types import SimpleNamespace

import numpy as np
import pytest

from minicomp.codec import encode
from minicomp.compress import FineTune, FoldBN, Magnitude, Run
from minicomp.compress.quant.folding import fold, fold_bn, foldable
from minicomp.compress.technique import masks
from minicomp.deploy import lower
from minicomp.errors import UserError
from minicomp.models import MODELS
from minicomp.nn import (
    ActQuant, Add, BatchNorm1d, BatchNorm2d, Codebook, Conv2d, Dense, Flatten, Half, Identity,
    Linear, Model, Node, ReLU, Sigmoid, chain,
)
from minicomp.nn.forms import Affine

EPS = np.finfo(np.float32).eps


def drawn(model, seed=0):
    # Weights, shifts and statistics drawn; variances within 1/4 and 4.
    rng = np.random.default_rng(seed)
    for name, form in model.forms().items():
        model.set_form(name, Dense(rng.standard_normal(form.shape).astype(np.float32)))
    for name, a in model.buffers().items():
        var = name.endswith("var")
        a[...] = rng.uniform(0.25, 4, a.shape) if var else rng.standard_normal(a.shape)
    return model


def bound(model, x):
    # How far rounding alone may move the outputs, first order: every layer adds at most (K + 8)
    # roundings of what its terms sum up to without their signs, and later layers multiply that no
    # further than they multiply the sums themselves.
    absolute, roundings = model.copy(), 0
    for node in absolute.nodes:
        layer = node.layer
        if layer.normalises:
            gain, shift = layer.gain_and_bias()
            beta = layer.bias.dense().data
            layer.buffers["running_mean"][...] = 0
            layer.weight = np.abs(layer.weight.dense().data)
            layer.bias = np.abs(beta) + np.abs(shift - beta)
            roundings += 8
        elif layer.forms:
            for part, form in layer.forms.items():
                layer.forms[part] = Dense(np.abs(form.dense().data))
            roundings += int(np.prod(layer.forms["weight"].shape[1:])) + 8
    absolute = absolute.edit({n.name: (Node(n.name, Identity(), n.inputs),)
                              for n in absolute.nodes if n.layer.activation})
    return roundings * EPS * absolute(np.abs(x)).data


def assert_same(model, made, seed=1):
    x = np.random.default_rng(seed).standard_normal((5, *model.input_shape)).astype(np.float32)
    assert (np.abs(made(x).data - model(x).data) <= bound(model, x)).all()


def convolved():
    nodes = chain(("c", CONVS[0].copy()), ("bn", BatchNorm2d(6)))
    return drawn(Model(nodes, input_shape=(4, 6, 6)))


CONVS = [
    Conv2d(4, 6, 3, padding=1), Conv2d(4, 6, 3, stride=2, bias=False), Conv2d(4, 4, 3, groups=4),
    Conv2d(4, 8, 3, padding=1, groups=4, bias=False), Conv2d(4, 6, 1, groups=2),
]


def test_a_case_by_hand():
    # y = 2 (3 x + 1 - 5) / 4 + 7 = 1.5 x + 5
    model = Model(chain(("fc", Linear(1, 1)), ("bn", BatchNorm1d(1, eps=0.0))), input_shape=(1,))
    model.load_state_dict({"fc.weight": [[3]], "fc.bias": [1], "bn.weight": [2], "bn.bias": [7],
                           "bn.running_mean": [5], "bn.running_var": [16]})
    made = fold(model)
    assert [node.name for node in made.nodes] == ["fc"]
    assert made.forms()["fc.weight"].dense().data.tolist() == [[1.5]]
    assert made.forms()["fc.bias"].dense().data.tolist() == [5]
    w, b = fold_bn(np.array([[3.0]]), None, np.array([0.5]), np.array([4.0]))
    assert w.tolist() == [[1.5]] and b.tolist() == [4]


@pytest.mark.parametrize("layer", CONVS, ids=lambda c: f"groups{c.groups}")
def test_convolutions_with_and_without_bias_in_groups_and_depthwise(layer):
    out = layer.out_channels
    nodes = chain(("c", layer.copy()), ("bn", BatchNorm2d(out)), ("r", ReLU()))
    model = drawn(Model(nodes, input_shape=(4, 6, 5)))
    made = fold(model)
    assert [n.name for n in made.nodes] == ["c", "r"] and "bias" in made.node("c").layer.forms
    assert made.node("c").layer.config() == layer.config() | {"bias": True}
    assert_same(model, made)


def test_a_whole_net_gives_the_same_in_a_smaller_file_and_as_a_program():
    model = drawn(MODELS["depthwise32"](width=0.25))
    told = []
    made = FoldBN().apply(model, None, Run(None, told.append))
    assert not any(node.layer.normalises for node in made.nodes)
    assert [row["text"] for row in told] == [
        "fold-bn: 7 batch norms are part of the layers before them"]
    assert_same(model, made)
    assert len(encode(made)) < len(encode(model)) and made.origin_bytes == model.origin_bytes
    x = np.random.default_rng(2).standard_normal((1, *model.input_shape)).astype(np.float32)
    assert (np.abs(lower(made)(x) - model(x).data) <= bound(model, x)).all()


def test_gamma_0_leaves_zeros_and_the_shift():
    model = convolved()
    model.forms()["bn.weight"].value.data[2] = 0
    made = fold(model)
    assert not made.forms()["c.weight"].dense().data[2].any()
    assert made.forms()["c.bias"].dense().data[2] == model.forms()["bn.bias"].dense().data[2]
    assert_same(model, made)


def test_masks_stay_and_a_masked_bias_is_a_bias_like_any_other():
    model = convolved()
    model = Magnitude(sparsity=0.7).apply(model, None, Run(None))
    bias = model.forms()["c.bias"]
    model.set_form("c.bias", bias.masked(np.arange(6) % 2 == 0))
    made = fold(model)
    before, after = masks(model)["c.weight"], masks(made)
    assert list(after) == ["c.weight"]
    np.testing.assert_array_equal(after["c.weight"], before)
    assert made.forms()["c.bias"].dense().data.all()
    assert_same(model, made)


def test_a_hidden_entry_behind_a_mask_is_scaled_too():
    model = drawn(Model(chain(("fc", Linear(3, 2)), ("bn", BatchNorm1d(2))), input_shape=(3,)))
    keep = np.array([[True, False, True], [False, True, True]])
    weight = model.forms()["fc.weight"].masked(keep, behind=True)
    model.set_form("fc.weight", weight)
    gain, _ = model.node("bn").layer.gain_and_bias()
    made = fold(model).forms()["fc.weight"]
    assert made.behind
    np.testing.assert_allclose(made.values(), weight.values() * gain[:, None], rtol=1e-6)


def test_half_stays_half_and_frozen_stays_frozen():
    model = drawn(Model(chain(("fc", Linear(3, 2)), ("bn", BatchNorm1d(2))), input_shape=(3,)))
    model.set_form("fc.weight", Half(model.forms()["fc.weight"].values(), trainable=False))
    model.set_form("fc.bias", model.forms()["fc.bias"].freeze())
    made = fold(model).forms()
    assert made["fc.weight"].kind == "half" and made["fc.bias"].kind == "dense"
    assert not made["fc.weight"].trainable and not made["fc.bias"].trainable


def test_two_in_a_row_are_folded_into_one_layer():
    nodes = chain(("c", CONVS[1].copy()), ("bn1", BatchNorm2d(6)), ("bn2", BatchNorm2d(6)),
                  ("r", ReLU()))
    model = drawn(Model(nodes, input_shape=(4, 6, 6)))
    assert foldable(model) == {"bn1": "c", "bn2": "c"}
    made = fold(model)
    assert [n.name for n in made.nodes] == ["c", "r"]
    assert_same(model, made)


def test_what_cannot_be_folded_stays_and_is_told():
    c, b = lambda: Conv2d(4, 4, 3, padding=1), lambda: BatchNorm2d(4)
    nodes = (
        Node("first", b(), ("x",)), Node("c1", c(), ("first",)), Node("two", b(), ("c1",)),
        Node("add", Add(), ("c1", "two")), Node("sum", b(), ("add",)), Node("r", ReLU(), ("sum",)),
        Node("c2", c(), ("r",)), Node("q", ActQuant(16, "full"), ("c2",)),
        Node("grid", b(), ("q",)), Node("c3", c(), ("grid",)), Node("good", b(), ("c3",)),
        Node("also", b(), ("good",)),
        Node("again", b(), ("good",)), Node("end", Add(), ("also", "again")),
    )
    model, told = drawn(Model(nodes, input_shape=(4, 5, 5))), []
    model.node("q").layer.set_range(-1e3, 1e3)
    made = fold(model, told.append)
    assert {n.name for n in made.nodes} == {n.name for n in nodes} - {"good"}
    assert [row["text"].removeprefix("fold-bn: ") for row in told] == [
        "first stays a batch norm: it reads the model's input",
        "two stays a batch norm: others read c1 too",
        "sum stays a batch norm: add, which it reads, has no weights that could take it",
        "grid stays a batch norm: q, which it reads, has no weights that could take it",
        "also stays a batch norm: others read good too",
        "again stays a batch norm: others read good too",
    ]


def test_a_batch_norm_at_the_end_that_does_not_stand_behind_its_layer_gives_the_output():
    nodes = (Node("fc", Linear(3, 2)), Node("other", Linear(3, 5)),
             Node("bn", BatchNorm1d(2), ("fc",)))
    model = drawn(Model(nodes, input_shape=(3,)))
    made = fold(model)
    assert [n.name for n in made.nodes] == ["other", "fc"]
    assert_same(model, made)


def test_a_net_without_batch_norm_stays_the_built_in_net():
    model = drawn(MODELS["lenet5"]())
    made = fold(model)
    assert made.spec() == model.spec() and made is not model


@pytest.mark.parametrize("form", [
    Codebook(np.zeros((2, 3), int), np.ones(1)),
    Affine.of(np.ones((2, 3), np.float32), 0.01, bits=8),
])
def test_weights_that_cannot_move_are_refused_by_name(form):
    model = Model(chain(("fc", Linear(3, 2)), ("bn", BatchNorm1d(2))), input_shape=(3,))
    model.set_form("fc.weight", form)
    with pytest.raises(UserError, match=rf"^fold-bn: fc.weight must hold plain values.*got an? "
                                        rf"{form.kind}; fold bn first"):
        FoldBN().apply(model, None, Run(None))


def test_a_batch_norm_that_would_divide_by_0_is_refused_by_name():
    model = Model(chain(("fc", Linear(3, 2)), ("bn", BatchNorm1d(2, eps=0.0))), input_shape=(3,))
    model.buffers()["bn.running_var"][1] = 0
    with pytest.raises(UserError, match=r"^fold-bn: bn: running_var \+ eps must be above 0, got 0"):
        FoldBN().apply(model, None, Run(None))


def test_what_would_overflow_is_refused_by_name():
    model = drawn(Model(chain(("fc", Linear(3, 2)), ("bn", BatchNorm1d(2))), input_shape=(3,)))
    for name in ("fc", "bn"):
        model.forms()[f"{name}.weight"].value.data[...] = 1e30
    with pytest.raises(UserError, match="^fold-bn: fc with bn folded into it must stay fin"):
        FoldBN().apply(model, None, Run(None))


def test_what_is_folded_can_be_trained_on():
    rng = np.random.default_rng(0)
    nodes = chain(("c", Conv2d(1, 4, 3)), ("bn", BatchNorm2d(4)), ("s", Sigmoid()),
                  ("f", Flatten()), ("fc", Linear(16, 2)))
    model = drawn(Model(nodes, input_shape=(1, 4, 4)))
    x = rng.standard_normal((20, 1, 4, 4)).astype(np.float32)
    split = SimpleNamespace(x=x, y=(x[:, 0, 0, 0] > 0).astype(np.int64))
    data = SimpleNamespace(train=split, val=split)
    made = FineTune(epochs=1, lr=0.05).apply(fold(model), data, Run(rng))
    assert not np.array_equal(made.forms()["c.bias"].dense().data,
                              fold(model).forms()["c.bias"].dense().data)
