import importlib
import inspect
import pkgutil
import json

import numpy as np
import pytest

from minicomp.compress.channels.couplings import couplings, reads
from minicomp.gradcheck import grad_check
from minicomp.nn import (
    ActQuant, ActThreshold, ActTopK, AdaptiveAvgPool2d, Add, AvgPool2d, BatchNorm1d, BatchNorm2d,
    BinarySum, ChannelShuffle, ClipChannels, Concat, Conv2d, ConvBN2d, CReLU, Dense, Dropout,
    Flatten, Identity, InputScale, Linear, MaxPool2d, Model, Node, Normalize, ReLU, ReLU6,
    ShiftBatchNorm1d, ShiftBatchNorm2d, Sigmoid, Sign, Tanh,
)
from minicomp.nn import layers
from minicomp.nn.layers import LAYERS, Layer
from minicomp.nn.layers.base import Moving, Plain
from minicomp.tensor import Tensor, grad

RNG = np.random.default_rng
MAP, ROW = (6, 9, 7), (6,)

# layer -> input shapes without N
LEGAL = [
    (Linear(6, 4), [ROW]),
    (Linear(6, 4, bias=False), [ROW]),
    (Conv2d(6, 4, 3), [MAP]),
    (Conv2d(6, 4, (3, 2), stride=(2, 1), padding=(1, 0), bias=False), [MAP]),
    (Conv2d(6, 6, 3, padding=1, groups=6), [MAP]),
    (Conv2d(6, 4, 1, groups=2), [MAP]),
    (Normalize([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [1.0, 0.5, 0.25, 2.0, 4.0, 0.1]), [MAP]),
    (Normalize([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [1.0, 0.5, 0.25, 2.0, 4.0, 0.1]), [ROW]),
    (BatchNorm1d(6), [ROW]),
    (BatchNorm2d(6), [MAP]),
    (ReLU(), [MAP]),
    (ReLU6(), [ROW]),
    (ClipChannels(6), [MAP]),
    (ClipChannels(6), [ROW]),
    (Sigmoid(), [ROW]),
    (Tanh(), [MAP]),
    (Sign(), [MAP]),
    (BinarySum(3), [MAP]),
    (ShiftBatchNorm1d(6), [ROW]),
    (ShiftBatchNorm2d(6), [MAP]),
    (MaxPool2d(2), [MAP]),
    (MaxPool2d(3, stride=2, padding=1, ceil_mode=True), [MAP]),
    (AvgPool2d((2, 3)), [MAP]),
    (AvgPool2d(3, 2, 1, ceil_mode=True), [MAP]),
    (AdaptiveAvgPool2d(1), [MAP]),
    (AdaptiveAvgPool2d((4, 3)), [MAP]),
    (Dropout(0.3), [MAP]),
    (Flatten(), [MAP]),
    (Flatten(), [ROW]),
    (Identity(), [MAP]),
    (ActThreshold(0.7), [MAP]),
    (ActTopK(7), [MAP]),
    (ActQuant(), [MAP]),
    (ActQuant(4, "full", zero_point=True), [ROW]),
    (ConvBN2d(6, 4, 3, padding=1, bits=6), [MAP]),
    (ConvBN2d(6, 6, 3, groups=6, grid="full", per="tensor"), [MAP]),
    (Add(), [MAP, MAP, MAP]),
    (Concat(), [MAP, (2, 9, 7)]),
    (Concat(), [ROW, (2,)]),
    (ChannelShuffle(3), [MAP]),
    (InputScale(6, 3, padding=1), [MAP, (2, 9, 7)]),
    (InputScale(6), [ROW, MAP]),
    (CReLU(), [MAP]),
]
EVERY = pytest.mark.parametrize(
    "layer, shapes", LEGAL, ids=lambda v: v.kind if isinstance(v, Layer) else ""
)


def filled(layer, dtype=np.float32, seed=0):
    # The layer with every array drawn; running variances positive.
    rng = RNG(seed)
    layer = layer.copy()
    for name, form in layer.forms.items():
        layer.forms[name] = Dense(rng.standard_normal(form.shape).astype(dtype))
    for name, a in layer.buffers.items():
        layer.buffers[name] = (rng.standard_normal(a.shape) ** 2 + 0.1).astype(np.float32)
    return layer


def inputs(shapes, n=3, dtype=np.float32, seed=1):
    return [
        Tensor((2 * RNG(seed + i).standard_normal((n, *s))).astype(dtype))
        for i, s in enumerate(shapes)
    ]


# --------------------------------------------------------------------- the contract, of every layer


@EVERY
@pytest.mark.parametrize("training", [False, True])
def test_the_output_has_the_announced_shape_and_the_dtype_of_the_input(layer, shapes, training):
    for dtype in (np.float32, np.float64):
        y = filled(layer, dtype)(*inputs(shapes, dtype=dtype), training=training, rng=RNG(0))
        assert y.shape == (3, *layer.out_shape(*shapes)) and y.dtype == dtype


@EVERY
def test_a_batch_of_none_gives_none(layer, shapes):
    assert filled(layer)(*inputs(shapes, n=0)).shape == (0, *layer.out_shape(*shapes))


@EVERY
def test_config_makes_an_equal_layer(layer, shapes):
    config = json.loads(json.dumps(layer.config()))
    other = LAYERS[layer.kind](**config)
    assert type(other) is type(layer) and other.config() == layer.config()
    assert {n: f.shape for n, f in other.forms.items()} == {
        n: f.shape for n, f in layer.forms.items()
    }
    assert other.out_shape(*shapes) == layer.out_shape(*shapes) and other.macs(
        *shapes
    ) == layer.macs(*shapes)
    config["more"] = 1
    assert "more" not in layer.config()


def test_sizes_may_be_numpy_integers_and_are_written_as_plain_ones():
    n = np.int64(6)
    made = [Linear(n, n), Conv2d(n, n, n, n, n, n), BatchNorm1d(n), ChannelShuffle(n), ActTopK(n)]
    for layer in (*made, MaxPool2d(n), AdaptiveAvgPool2d(n)):
        assert (
            LAYERS[layer.kind](**json.loads(json.dumps(layer.config()))).config() == layer.config()
        )


@EVERY
def test_entries_bound_what_is_allocated(layer, shapes):
    held = sum(np.prod(f.shape, dtype=int) for f in layer.forms.values()) + sum(
        a.size for a in layer.buffers.values()
    )
    assert held <= type(layer).entries(**layer.config()) <= held + 4


@EVERY
def test_a_copy_is_equal_and_its_own(layer, shapes):
    layer = filled(layer)
    other, x = layer.copy(), inputs(shapes)
    np.testing.assert_array_equal(other(*x).data, layer(*x).data)
    before = layer(*x).data.copy()
    for form in other.forms.values():
        form.value.data[...] = 7
    for a in other.buffers.values():
        a[...] = 7
    np.testing.assert_array_equal(layer(*x).data, before)


@EVERY
def test_gradients_agree_with_finite_differences_in_training_and_not(layer, shapes):
    if layer.straight_through:  # see its own tests
        return
    layer = filled(layer, np.float64)
    names = list(layer.forms)
    values = [layer.forms[n].value.data for n in names]
    x = [t.data for t in inputs(shapes, dtype=np.float64)]

    for training in (False, True):

        def output(*tensors):
            for name, t in zip(names, tensors[len(x) :]):
                layer.forms[name].value = t
            y = layer(*tensors[: len(x)], training=training, rng=RNG(0))
            return y * y  # so that linear layers have second derivatives too

        # steps small enough to cross no kink of ReLU or change of a maximum
        grad_check(output, *x, *values, rng=RNG(2), order=2, step=1e-5, tolerance=1e-6)


def test_the_table_names_every_layer():
    classes = {
        c
        for module in pkgutil.iter_modules(layers.__path__, "minicomp.nn.layers.")
        for c in vars(importlib.import_module(module.name)).values()
        if inspect.isclass(c)
        and issubclass(c, Layer)
        and not c.__name__.startswith("_")
        and c not in (Layer, Moving, Plain)
    }
    assert set(LAYERS.values()) == classes and all(c.__name__ == name for name, c in LAYERS.items())
    assert {layer.kind for layer, _ in LEGAL} == set(LAYERS)  # and all are tested here


# ------------------------------------------------- what a layer says of itself is what it computes


def way_of(layer, shapes):
    # What becomes of channels at the layer in a model of its own, each input by way of a layer.
    nodes = [Node(f"i{i}", Conv2d(6, s[0], 1) if len(s) == 3 else Linear(6, s[0]))
             for i, s in enumerate(shapes)]
    nodes.append(Node("it", layer, tuple(node.name for node in nodes)))
    return couplings(Model(nodes, input_shape=shapes[0]))["it"]


@EVERY
def test_a_channel_of_the_output_depends_on_the_channels_that_the_coupling_says(layer, shapes):
    if layer.coupling is None:  # it does not say
        return
    layer, xs = filled(layer), inputs(shapes)
    way, before, n = way_of(layer, shapes), layer(*xs).data, 0
    for i, x in enumerate(xs):
        for c in range(x.shape[1]):
            moved = [t.data.copy() for t in xs]
            moved[i][:, c] += 3
            changed = layer(*map(Tensor, moved)).data != before
            found = changed.any(axis=(0, *range(2, changed.ndim)))
            one = [np.zeros(t.shape[1], bool) for t in xs]
            one[i][c] = True
            if layer.coupling == "mix":
                expected = reads(layer)[:, c]
            elif layer.coupling == "add":
                expected = one[i]
            elif layer.coupling == "compete":
                expected = np.ones(len(found), bool)
            else:
                expected = way.pass_on(one)
            assert not (found & ~expected).any()
            assert layer.coupling == "compete" or (found | ~expected).all()
            for o in np.flatnonzero(expected):
                assert way.pull_back(np.arange(way.channels) == o)[i][c]
            n += found.sum()
    if layer.coupling == "compete":
        assert n > sum(x.shape[1] for x in xs)  # it is no "keep"
    assert n


@EVERY
def test_an_entry_of_a_pointwise_layer_s_output_depends_on_that_entry_alone(layer, shapes):
    if not layer.pointwise:
        assert not (layer.activation or layer.rectifies)
        return
    layer, (x,) = filled(layer), inputs(shapes)
    before = layer(x).data
    assert layer.coupling == "keep" and before.shape == x.shape
    at = tuple(s // 2 for s in x.shape)
    for value in (-8.0, 0.3, 8.0):
        moved = x.data.copy()
        moved[at] = value
        changed = np.argwhere(layer(Tensor(moved)).data != before)
        assert {tuple(i) for i in changed} <= {at}


@EVERY
def test_activations_bend_and_rectifiers_are_0_below_0(layer, shapes):
    if not layer.activation:
        return
    a = Tensor(np.tile(np.linspace(-3, 3, 60, dtype=np.float32)[:, None], 6))
    y = filled(layer)(a).data
    assert (np.diff(y, axis=0) >= 0).all() and (np.ptp(np.diff(y, axis=0), axis=0) > 1e-3).all()
    assert (y[a.data < 0] == 0).all() == layer.rectifies


@EVERY
def test_a_layer_is_rescaled_by_channels_and_only_a_homogeneous_one_into_itself(layer, shapes):
    # g(x / s) = f(x) / s, to a few roundings; of several inputs that are joined, each has its own
    if layer.coupling == "mix":
        return
    layer, xs = filled(layer), inputs(shapes)
    s = [np.exp(RNG(i).standard_normal(shape[0])) for i, shape in enumerate(shapes)]
    s = s[:1] * len(s) if layer.coupling == "add" else s
    other = layer.rescaled(s[0])
    assert layer.homogeneous == (other is layer)
    if other is None:
        return
    out = way_of(layer, shapes).pass_on(s)
    divided = [Tensor((x.data / by_channel(c, x)).astype(np.float32)) for x, c in zip(xs, s)]
    y, expected = other(*divided).data, layer(*xs).data
    np.testing.assert_allclose(y, expected / by_channel(out, expected), rtol=1e-5, atol=1e-6)
    assert layer.rescaled(np.ones(shapes[0][0])).config() == layer.config()


def by_channel(a, like):
    return a.reshape(1, -1, *[1] * (like.ndim - 2))


@EVERY
@pytest.mark.parametrize("switched", [False, True])
def test_a_constant_channel_gives_the_constant_that_the_layer_says(layer, shapes, switched):
    if layer.coupling == "mirror":
        v = np.array([1.5, -0.5, 0.0, np.nan])
        both = [1.5, 0, 0, np.nan, 0, 0.5, 0, np.nan]
        np.testing.assert_array_equal(layer.constant(v, (4,)), both)
    if layer.coupling not in ("keep", "compete"):
        return
    layer = filled(layer)
    if switched and "weight" in layer.forms:
        layer.forms["weight"].value.data[3] = 0
    v = np.array([np.nan, 0.0, 1.5, np.nan, -0.5, 6.5])
    found = layer.constant(v, shapes[0])
    assert found.shape == (6,)
    for seed in (1, 5):
        (x,) = inputs(shapes, seed=seed)
        known = np.flatnonzero(~np.isnan(v))
        x.data[:, known] = v[known].reshape(-1, *[1] * (x.ndim - 2))
        y = layer(x).data
        for c in np.flatnonzero(~np.isnan(found)):
            np.testing.assert_allclose(y[:, c], found[c], rtol=1e-6, atol=1e-6)
    assert layer.switched_off(6)[3] == (switched and "weight" in layer.forms)
    assert np.isnan(found[3]) != layer.switched_off(6)[3] and np.isnan(found[0])
    if layer.pointwise:
        assert not np.isnan(found[known]).any()


@EVERY
def test_only_a_layer_that_tracks_moves_its_buffers_and_only_in_training(layer, shapes):
    layer, xs = filled(layer), inputs(shapes)
    for training in (False, True):
        before = {name: a.copy() for name, a in layer.buffers.items()}
        layer(*xs, training=training, rng=RNG(0))
        moved = any(not np.array_equal(a, before[name]) for name, a in layer.buffers.items())
        assert moved == (training and layer.tracks)


@EVERY
def test_a_layer_that_normalises_multiplies_each_channel_by_its_weight(layer, shapes):
    if not layer.normalises:
        return
    for training in (False, True):
        layer, (x,) = filled(layer), inputs(shapes)
        weight, bias = (layer.forms[part].value.data for part in ("weight", "bias"))
        shape = (1, -1, *[1] * (x.ndim - 2))
        scaled = layer(x, training=training).data - bias.reshape(shape)
        other = layer.copy()
        other.forms["weight"] = Dense(2 * weight)
        twice = other(x, training=training).data - bias.reshape(shape)
        if training:
            normal = scaled / weight.reshape(shape)
            axes = (0, *range(2, x.ndim))
            np.testing.assert_allclose(normal.mean(axis=axes), 0, atol=1e-5)
            np.testing.assert_allclose(normal.std(axis=axes), 1, rtol=1e-3)
        else:
            np.testing.assert_allclose(twice, 2 * scaled, rtol=1e-4, atol=1e-5)


@EVERY
def test_sizes_are_the_arguments_that_count_channels(layer, shapes):
    counts = {"in": shapes[0][0], "out": layer.out_shape(*shapes)[0]}
    assert all(layer.config()[argument] == counts[side] for argument, side in layer.sizes.items())
    arrays = [form.shape for form in layer.forms.values()]
    arrays += [a.shape for part, a in layer.buffers.items()
               if layer.buffer_parts[part].axes != ()]  # of the whole layer
    assert bool(arrays) == bool(layer.sizes)
    for shape in arrays:
        assert shape[0] == counts["out"]
        assert len(shape) == 1 or shape[1] == counts["in"] // layer.groups


@EVERY
def test_macs_are_the_weights_of_an_output_for_every_output(layer, shapes):
    outputs = int(np.prod(layer.out_shape(*shapes)))
    mixes = layer.coupling == "mix" or isinstance(layer, ConvBN2d)
    weight = layer.forms["weight"].shape[1:] if mixes else (0,)
    assert layer.macs(*shapes) == outputs * int(np.prod(weight))


@EVERY
def test_rows_of_the_input_times_the_weight_are_the_output(layer, shapes):
    xs = inputs(shapes, dtype=np.float64)
    if layer.coupling != "mix":
        with pytest.raises(NotImplementedError):
            layer.rows(xs[0].data)
        return
    layer = filled(layer, np.float64)
    w, groups, channels = layer.decode(), layer.groups, layer.out_shape(*shapes)[0]
    b = w["bias"].data if "bias" in w else np.zeros(channels)
    w = np.concatenate([w["weight"].data.reshape(channels, -1), b[:, None]], axis=1)
    w = w.reshape(groups, channels // groups, -1)
    y = np.einsum("gpc,goc->gop", layer.rows(xs[0].data, ones=True), w).reshape(channels, 3, -1)
    np.testing.assert_allclose(y.transpose(1, 0, 2).ravel(), layer(*xs).data.ravel(), rtol=1e-10)
    np.testing.assert_array_equal(
        layer.rows(xs[0].data, ones=True)[..., :-1], layer.rows(xs[0].data)
    )


@EVERY
def test_slopes_are_those_of_finite_differences(layer, shapes):
    if not layer.pointwise or layer.straight_through:
        return
    layer, x = filled(layer, np.float64), inputs(shapes, dtype=np.float64)[0].data
    f1, f2 = layer.slopes(x)
    h = 1e-5
    down, at, up = (layer(Tensor(x + d)).data for d in (-h, 0.0, h))
    np.testing.assert_allclose(f1, (up - down) / (2 * h), atol=1e-6)
    np.testing.assert_allclose(f2, (up - 2 * at + down) / h**2, atol=1e-3)


@EVERY
def test_curvature_goes_back_through_the_squared_jacobian(layer, shapes):
    # By brute force on small inputs: h_i = sum_o (dy_o / dx_i)^2 h_o.
    small = [(6, 4, 3) if len(s) == 3 else s for s in shapes]
    small = [(s[0], *t[1:]) for s, t in zip(shapes, small)]
    layer, xs = filled(layer, np.float64), inputs(small, n=2, dtype=np.float64)
    xs = [Tensor(x.data, requires_grad=True) for x in xs]
    y = layer(*xs)
    h = RNG(3).random(y.shape)
    expected = [np.zeros(x.shape) for x in xs]
    for o in np.ndindex(y.shape):
        for e, g in zip(expected, grad(y[o], xs)):
            e[...] += g.data**2 * h[o]
    try:
        found = layer.pull_squared(h, *(x.data for x in xs))
    except NotImplementedError:
        ceil = layer.config().get("ceil_mode", False)
        uneven = layer.kind == "AdaptiveAvgPool2d" and layer.output_size != (1, 1)
        says = layer.coupling not in (None, "compete")
        assert not says or layer.kind == "AvgPool2d" and ceil or uneven
        return
    for a, b in zip(found, expected):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


# ------------------------------------------------------------------------------------------ PyTorch

OURS_ALONE = (
    "Add",
    "BinarySum",
    "CReLU",
    "InputScale",
    "Concat",
    "Dropout",
    "ActThreshold",
    "Normalize",
    "ActTopK",
    "ActQuant",
    "ClipChannels",
    "Sign",
    "ShiftBatchNorm1d",
    "ShiftBatchNorm2d",
    "ConvBN2d",  # see test_quantized.py: at 16 bits it is its two layers, which are held to torch
)  # no module there, or other random bits


def twin(layer, torch):
    # The PyTorch module of a layer, by its own config.
    config, kind = layer.config(), layer.kind
    args = {k: tuple(v) if isinstance(v, list) else v for k, v in config.items()}
    return getattr(torch.nn, kind)(**args)


@pytest.mark.peers
@pytest.mark.parametrize(
    "layer, shapes",
    [p for p in LEGAL if p[0].kind not in OURS_ALONE],
    ids=lambda v: v.kind if isinstance(v, Layer) else "",
)
def test_values_gradients_and_running_statistics_are_torchs(layer, shapes):
    torch = pytest.importorskip("torch")
    layer = filled(layer)
    other = twin(layer, torch).double()
    state = {n: torch.tensor(f.value.data) for n, f in layer.forms.items()}
    state |= {n: torch.tensor(a) for n, a in layer.buffers.items()}
    other.load_state_dict(state)
    for training in (True, False):
        other.train(training)
        x = inputs(shapes)[0]
        mine = Tensor(x.data.astype(np.float64), requires_grad=True)
        theirs = torch.tensor(mine.data, requires_grad=True)
        for name, form in layer.forms.items():
            layer.forms[name] = Dense(form.value.data.astype(np.float64))
        a, b = layer(mine, training=training), other(theirs)
        np.testing.assert_allclose(a.data, b.detach().numpy(), rtol=1e-6, atol=1e-6)
        g = RNG(3).standard_normal(a.shape)
        (a * g).sum().backward()
        other.zero_grad()
        (b * torch.tensor(g)).sum().backward()
        np.testing.assert_allclose(mine.grad, theirs.grad.numpy(), rtol=1e-5, atol=1e-6)
        for name, form in layer.forms.items():
            np.testing.assert_allclose(
                form.value.grad, getattr(other, name).grad.numpy(), rtol=1e-5, atol=1e-6
            )
        for name, buffer in layer.buffers.items():
            np.testing.assert_allclose(buffer, getattr(other, name).numpy(), rtol=1e-5)


