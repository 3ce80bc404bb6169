import importlib
import inspect
import pkgutil
import json

import numpy as np
import pytest

from minicomp.gradcheck import grad_check
from minicomp.nn import (
    ActThreshold,
    ActTopK,
    Add,
    AdaptiveAvgPool2d,
    AvgPool2d,
    BatchNorm1d,
    BatchNorm2d,
    ChannelShuffle,
    Concat,
    Conv2d,
    Dense,
    Dropout,
    Flatten,
    Identity,
    Linear,
    MaxPool2d,
    Model,
    ReLU,
    ReLU6,
    Sigmoid,
    Tanh,
    chain,
    cross_entropy,
)
from minicomp.nn import layers
from minicomp.nn.layers import LAYERS, Layer
from minicomp.nn.layers.base import Plain
from minicomp.tensor import Tensor, grad, hvp

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
    (BatchNorm1d(6), [ROW]),
    (BatchNorm2d(6), [MAP]),
    (ReLU(), [MAP]),
    (ReLU6(), [ROW]),
    (Sigmoid(), [ROW]),
    (Tanh(), [MAP]),
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
    (Add(), [MAP, MAP, MAP]),
    (Concat(), [MAP, (2, 9, 7)]),
    (Concat(), [ROW, (2,)]),
    (ChannelShuffle(3), [MAP]),
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


def test_the_table_names_every_layer_with_a_legal_coupling():
    classes = {
        c
        for module in pkgutil.iter_modules(layers.__path__, "minicomp.nn.layers.")
        for c in vars(importlib.import_module(module.name)).values()
        if inspect.isclass(c)
        and issubclass(c, Layer)
        and not c.__name__.startswith("_")
        and c not in (Layer, Plain)
    }
    assert set(LAYERS.values()) == classes and all(c.__name__ == name for name, c in LAYERS.items())
    assert {c.coupling for c in classes} == {"mix", "keep", "add", "concat", "flatten", "permute", "compete"}


# ------------------------------------------------------------------------------------------ by hand


def test_linear_by_hand():
    layer = Linear(2, 3)
    layer.forms["weight"] = Dense(np.array([[1, 2], [3, 4], [5, 6]], np.float32))
    layer.forms["bias"] = Dense(np.array([10, 20, 30], np.float32))
    np.testing.assert_array_equal(
        layer(Tensor(np.array([[1, -1]], np.float32))).data, [[9, 19, 29]]
    )


def test_convolution_is_a_correlation_with_bias():
    layer = Conv2d(1, 1, 2)
    layer.forms["weight"] = Dense(np.array([[[[1, 2], [3, 4]]]], np.float32))
    layer.forms["bias"] = Dense(np.array([100], np.float32))
    x = np.arange(9, dtype=np.float32).reshape(1, 1, 3, 3)
    np.testing.assert_array_equal(layer(Tensor(x)).data[0, 0], [[127, 137], [157, 167]])


def test_activations_by_hand():
    x = Tensor(np.array([[-1.0, 0.0, 3.0, 6.0, 7.0]], np.float32), requires_grad=True)
    np.testing.assert_array_equal(ReLU()(x).data, [[0, 0, 3, 6, 7]])
    np.testing.assert_array_equal(ReLU6()(x).data, [[0, 0, 3, 6, 6]])
    np.testing.assert_allclose(Sigmoid()(x).data, 1 / (1 + np.exp(-x.data)), rtol=1e-6)
    np.testing.assert_allclose(Tanh()(x).data, np.tanh(x.data), rtol=1e-6)
    # at their corners the slope is 0, as PyTorch's
    np.testing.assert_array_equal(grad(ReLU()(x).sum(), x).data, [[0, 0, 1, 1, 1]])
    np.testing.assert_array_equal(grad(ReLU6()(x).sum(), x).data, [[0, 0, 1, 0, 0]])


def test_flatten_is_in_c_order_whatever_the_layout():
    x = RNG(0).standard_normal((2, 3, 4, 5)).astype(np.float32)
    last = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(Flatten()(Tensor(last)).data, x.reshape(2, -1))


def test_shuffle_moves_channel_i_of_group_j_to_i_g_plus_j():
    x = np.arange(6, dtype=np.float32).reshape(1, 6, 1, 1)
    np.testing.assert_array_equal(ChannelShuffle(2)(Tensor(x)).data.ravel(), [0, 3, 1, 4, 2, 5])
    np.testing.assert_array_equal(ChannelShuffle(2).permutation(6), [0, 3, 1, 4, 2, 5])
    for j in range(3):
        for i in range(2):
            assert ChannelShuffle(3).permutation(6)[i * 3 + j] == j * 2 + i


def test_dropout_keeps_the_mean_and_draws_from_rng():
    x = Tensor(np.ones((100, 100), np.float32))
    y = Dropout(0.3)(x, training=True, rng=RNG(0)).data
    assert set(np.unique(y)) == {0, np.float32(1 / 0.7)} and abs(np.mean(y == 0) - 0.3) < 0.02
    np.testing.assert_array_equal(y, Dropout(0.3)(x, training=True, rng=RNG(0)).data)
    assert not np.array_equal(y, Dropout(0.3)(x, training=True, rng=RNG(1)).data)
    assert Dropout(0.3)(x) is x and Dropout(0.0)(x, training=True) is x
    with pytest.raises(ValueError, match="rng must be given when a model with dropout is training"):
        Dropout(0.3)(x, training=True)


def test_batch_norm_tracks_mean_and_unbiased_variance_and_uses_them_at_inference():
    layer = BatchNorm1d(2, momentum=0.25)
    x = np.array([[1, 10], [3, 30]], np.float32)
    layer(Tensor(x), training=True)
    np.testing.assert_allclose(layer.buffers["running_mean"], 0.25 * np.array([2, 20]))
    np.testing.assert_allclose(
        layer.buffers["running_var"], 0.75 + 0.25 * np.array([2, 200])
    )  # divided by n - 1
    mean, var = layer.buffers["running_mean"].copy(), layer.buffers["running_var"].copy()
    layer.forms["weight"], layer.forms["bias"] = Dense(np.array([2, 3], np.float32)), Dense(
        np.ones(2, np.float32)
    )
    y = layer(Tensor(x)).data
    np.testing.assert_allclose(y, (x - mean) / np.sqrt(var + 1e-5) * [2, 3] + 1, rtol=1e-5)
    np.testing.assert_array_equal(layer.buffers["running_mean"], mean)
    assert layer.buffers["running_mean"].dtype == np.float32
    one = BatchNorm1d(2)
    one(Tensor(x[:1]), training=True)
    assert np.isfinite(one.buffers["running_var"]).all()


# ---------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Linear(0, 3), "in_features must be an integer of at least 1, got 0"),
        (lambda: Linear(3, 2.0), "out_features must be an integer of at least 1, got 2.0"),
        (lambda: Linear(3, 2, bias=1), "bias must be true or false, got 1"),
        (lambda: Conv2d(4, 6, 3, groups=4), "groups must divide 4 and 6, got 4"),
        (
            lambda: Conv2d(4, 6, 0),
            "kernel_size must be an integer or a pair, each at least 1, got 0",
        ),
        (lambda: Conv2d(4, 6, (3, 3, 3)), "kernel_size must be an integer or a pair"),
        (lambda: Conv2d(4, 6, 3, stride=(1, 0)), r"stride must be .* at least 1, got \(1, 0\)"),
        (lambda: Conv2d(4, 6, 3, padding=-1), "padding must be .* at least 0, got -1"),
        (lambda: BatchNorm2d(4, eps=-1.0), r"eps must be a float in \[0, 1\], got -1.0"),
        (lambda: BatchNorm2d(4, momentum=None), r"momentum must be a float in \[0, 1\], got None"),
        (lambda: Dropout(1.0), r"p must be in \[0, 1\), got 1.0"),
        (
            lambda: MaxPool2d(2, padding=2),
            r"padding must be at most half of kernel_size \(2, 2\), got \(2, 2\)",
        ),
        (lambda: MaxPool2d(2, ceil_mode=1), "ceil_mode must be true or false, got 1"),
        (lambda: AdaptiveAvgPool2d(0), "output_size must be .* at least 1, got 0"),
        (lambda: ChannelShuffle(0), "groups must be an integer of at least 1, got 0"),
        (
            lambda: Linear(6, 4).out_shape((5,)),
            r"Linear needs 6 features, got an input of shape \(5,\)",
        ),
        (
            lambda: Conv2d(6, 4, 3).out_shape((5, 9, 9)),
            r"Conv2d needs 6 channels, got an input of shape \(5, 9, 9\)",
        ),
        (
            lambda: Conv2d(6, 4, 3).out_shape((6, 2, 9)),
            "a window of 3 does not fit 2 entries padded by 0",
        ),
        (lambda: BatchNorm1d(6).out_shape(MAP), "BatchNorm1d needs 6 channels and 0 spatial axes"),
        (lambda: BatchNorm2d(6).out_shape(ROW), "BatchNorm2d needs 6 channels and 2 spatial axes"),
        (
            lambda: MaxPool2d(2).out_shape(ROW),
            r"MaxPool2d needs an input \(C, H, W\), got shape \(6,\)",
        ),
        (
            lambda: AdaptiveAvgPool2d(2).out_shape(ROW),
            r"AdaptiveAvgPool2d needs an input \(C, H, W\)",
        ),
        (lambda: Add().out_shape(MAP, ROW), r"Add needs equal shapes, got \(6, 9, 7\), \(6,\)"),
        (lambda: Concat().out_shape(MAP, (6, 9, 8)), "Concat needs equal maps"),
        (
            lambda: ChannelShuffle(4).out_shape(MAP),
            r"ChannelShuffle needs \(C, H, W\) with C a multiple of 4",
        ),
    ],
)
def test_wrong_arguments_and_inputs(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_macs_by_hand():
    assert Linear(6, 4).macs(ROW) == 24 and Linear(6, 4, bias=False).macs(ROW) == 24
    assert Conv2d(6, 4, 3).macs(MAP) == 7 * 5 * 4 * 6 * 9
    assert Conv2d(6, 6, 3, padding=1, groups=6).macs(MAP) == 9 * 7 * 6 * 9
    assert Conv2d(6, 4, (3, 2), stride=(2, 1), padding=(1, 0)).macs(MAP) == 5 * 6 * 4 * 6 * 6
    assert (
        sum(
            layer.macs(*shapes) for layer, shapes in LEGAL if layer.kind not in ("Linear", "Conv2d")
        )
        == 0
    )


# ------------------------------------------------------ Hessian-vector products of whole small nets


def small_net(seed=0):
    nodes = chain(
        ("conv", Conv2d(2, 3, 3, padding=1)),
        ("bn", BatchNorm2d(3)),
        ("tanh", Tanh()),
        ("pool", MaxPool2d(2)),
        ("dw", Conv2d(3, 3, 3, padding=1, groups=3)),
        ("avg", AvgPool2d(3, 2, 1)),
        ("flat", Flatten()),
        ("fc1", Linear(12, 5)),
        ("bn1", BatchNorm1d(5)),
        ("sig", Sigmoid()),
        ("fc2", Linear(5, 3)),
    )
    model = Model(nodes, input_shape=(2, 6, 6))
    rng = RNG(seed)
    for name, form in model.forms().items():
        model.set_form(
            name, Dense(rng.standard_normal(form.shape) * 0.5 + name.endswith("bn.weight"))
        )
    return model


@pytest.mark.parametrize("training", [True, False])
def test_hessian_vector_products_of_a_net_agree_with_finite_differences(training):
    # float64, 1e-7 relative: H v against (g(w + h v) - g(w - h v)) / 2h by a four-point stencil
    model, rng = small_net(), RNG(1)
    x, y = rng.standard_normal((4, 2, 6, 6)), rng.integers(0, 3, 4)
    params = list(model.parameters().values())
    vectors = [rng.standard_normal(p.shape) for p in params]

    def loss(*_):
        return cross_entropy(model(x, training=training), y, label_smoothing=0.1)

    exact = hvp(loss, params, vectors)
    saved, h = [p.data.copy() for p in params], 1e-4
    finite = [np.zeros(p.shape) for p in params]
    for m, c in ((-2, 1.0), (-1, -8.0), (1, 8.0), (2, -1.0)):
        for p, s, v in zip(params, saved, vectors):
            p.data[...] = s + m * h * v
        for f, g in zip(finite, grad(loss(), params)):
            f += c / (12 * h) * g.data
    for p, s in zip(params, saved):
        p.data[...] = s
    scale = np.sqrt(sum((e**2).sum() for e in exact))
    error = np.sqrt(sum(((e - f) ** 2).sum() for e, f in zip(exact, finite)))
    assert error < 1e-7 * scale
    for name, e in zip(model.parameters(), exact):
        idle = training and name in (
            "conv.bias",
            "dw.bias",
            "fc1.bias",
        )  # batch norm takes a constant away
        assert np.abs(e).max() < 1e-12 * scale if idle else np.abs(e).max() > 1e-6 * scale
    # symmetry: u'Hv = v'Hu
    others = [rng.standard_normal(p.shape) for p in params]
    left = sum((u * e).sum() for u, e in zip(others, exact))
    right = sum((v * e).sum() for v, e in zip(vectors, hvp(loss, params, others)))
    assert left == pytest.approx(right, rel=1e-9)


def test_three_orders_of_a_net():
    model = small_net()
    names = list(model.forms())
    x, y = RNG(1).standard_normal((4, 2, 6, 6)), np.array([0, 1, 2, 0])

    def loss(*tensors):
        for name, t in zip(names, tensors):
            model.forms()[name].value = t
        return cross_entropy(model(x, training=True), y)

    grad_check(
        loss, *(model.forms()[n].value.data for n in names), rng=RNG(2), order=3, tolerance=1e-6
    )


# ------------------------------------------------------------------------------------------ PyTorch

OURS_ALONE = (
    "Add",
    "Concat",
    "Dropout",
    "ActThreshold",
    "ActTopK",
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


@pytest.mark.peers
def test_ceil_mode_has_torchs_shapes_and_values():
    torch = pytest.importorskip("torch")
    x = RNG(0).standard_normal((1, 2, 11, 8))
    seen = 0
    for kernel in (1, 2, 3, 4, 5):
        for stride in (1, 2, 3, 4):
            for padding in range(kernel // 2 + 1):
                for ceil in (False, True):
                    for ours, theirs in (
                        (MaxPool2d, torch.nn.MaxPool2d),
                        (AvgPool2d, torch.nn.AvgPool2d),
                    ):
                        a = ours(kernel, stride, padding, ceil)
                        want = theirs(kernel, stride, padding, ceil_mode=ceil)(
                            torch.tensor(x)
                        ).numpy()
                        assert a.out_shape((2, 11, 8)) == want.shape[1:]
                        np.testing.assert_allclose(a(Tensor(x)).data, want, rtol=1e-12, atol=1e-12)
                        seen += 1
    assert seen == 176


@pytest.mark.peers
def test_state_dicts_go_both_ways():
    torch = pytest.importorskip("torch")
    nn = torch.nn
    other = nn.Sequential()
    parts = [
        ("conv", nn.Conv2d(2, 3, 3, padding=1)),
        ("bn", nn.BatchNorm2d(3)),
        ("tanh", nn.Tanh()),
        ("pool", nn.MaxPool2d(2)),
        ("dw", nn.Conv2d(3, 3, 3, padding=1, groups=3)),
        ("avg", nn.AvgPool2d(3, 2, 1)),
        ("flat", nn.Flatten()),
        ("fc1", nn.Linear(12, 5)),
        ("bn1", nn.BatchNorm1d(5)),
        ("sig", nn.Sigmoid()),
        ("fc2", nn.Linear(5, 3)),
    ]
    for name, part in parts:
        other.add_module(name, part)
    model = small_net()
    for name, form in model.forms().items():
        model.set_form(name, Dense(form.value.data.astype(np.float32)))
    x = RNG(0).standard_normal((8, 2, 6, 6)).astype(np.float32)
    other(torch.tensor(x))  # training: moves the running statistics
    theirs = {n: t.numpy() for n, t in other.state_dict().items()}
    assert [n for n in theirs if not n.endswith("num_batches_tracked")] == list(model.state_dict())
    model.load_state_dict(theirs)  # with num_batches_tracked
    other.eval()
    np.testing.assert_allclose(
        model(x).data, other(torch.tensor(x)).detach().numpy(), rtol=1e-4, atol=1e-5
    )
    model(x * 2, training=True)
    other.load_state_dict({n: torch.tensor(a) for n, a in model.state_dict().items()})  # strict
    np.testing.assert_allclose(
        model(x).data, other(torch.tensor(x)).detach().numpy(), rtol=1e-4, atol=1e-5
    )
