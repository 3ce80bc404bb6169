from dataclasses import replace

import numpy as np
import pytest

from minicomp.codec import decode, encode
from minicomp.deploy import lower
from minicomp.errors import FormatError

from minicomp.grid import code_range
from minicomp.nn import ActQuant, BatchNorm2d, Conv2d, ConvBN2d, Dense, Linear, Model, chain
from minicomp.nn.init import initialise
from minicomp.optim import OPTIMIZERS
from minicomp.tensor import Tensor, grad


def quant(*args, lo=-1.0, hi=3.0, **more):
    layer = ActQuant(*args, **more)
    layer.set_range(lo, hi)
    return layer


def test_the_grid_by_hand():
    layer = quant(8, "unsigned", zero_point=True)  # 4 / 255 a step, -1 at code 0
    assert layer.scale == np.float32(4 / 255) and layer.zero_point == 64
    x = np.array([-9, -1, 0, 0.0079, 3, 9], np.float32)
    assert layer.codes(x).tolist() == [0, 0, 64, 65, 255, 255]
    y = layer(Tensor(x)).data
    np.testing.assert_array_equal(y, layer.scale * (layer.codes(x) - 64).astype(np.float32))
    assert y[2] == 0
    one_sided = quant(4)  # 0..15
    assert one_sided.scale == np.float32(3 / 15) and one_sided.codes(x).tolist()[0] == 0
    assert quant(4, "narrow").scale == np.float32(3 / 7)


def test_a_dynamic_grid_is_of_the_batch():
    layer, x = ActQuant(8, zero_point=True, dynamic=True), np.linspace(-1, 3, 7, dtype=np.float32)
    np.testing.assert_array_equal(layer(Tensor(x)).data, quant(8, zero_point=True)(Tensor(x)).data)
    assert not layer.buffers and not layer.pointwise
    assert layer(Tensor(np.zeros((0, 3), np.float32))).shape == (0, 3)


def test_a_dynamic_grid_is_of_finite_entries():
    layer = ActQuant(8, zero_point=True, dynamic=True)
    x = np.array([[-1.0, 2.0, np.inf, -np.inf, np.nan]], np.float32)
    y = layer(Tensor(x)).data
    assert layer.ranged(x) == layer.ranged(x[:, :2])
    np.testing.assert_array_equal(y[:, :2], layer(Tensor(x[:, :2])).data)
    assert y[0, 2] == y[0, 1] and y[0, 3] == y[0, 0] and np.isnan(y[0, 4])
    assert layer.ranged(np.full((1, 2), np.inf, np.float32))[0] == 1


def test_the_cotangent_passes_inside_the_range_alone():
    x = Tensor(np.array([-1.1, -0.9, 0, 2.9, 3.2], np.float32), requires_grad=True)
    g = grad(quant(8, zero_point=True)(x).sum(), x).data
    assert g.tolist() == [0, 1, 1, 1, 0]


def learning_net():
    model = Model(chain(("fc1", Linear(4, 6)), ("act", ActQuant(3, "full")), ("fc2", Linear(6, 2))),
                  input_shape=(4,))
    initialise(model, rng=np.random.default_rng(0))
    model.node("act").layer.set_range(-1, 1)
    model.node("act").layer.learns = "lsq"
    return model


def test_a_learnt_step_is_a_parameter_and_no_weight():
    model = learning_net()
    assert "act.scale" in model.parameters() and model.undecayed() == ["act.scale"]
    assert model.count() == 4 * 6 + 6 + 6 * 2 + 2 and "act.scale" not in model.forms()
    before = model.node("act").layer.scale.copy()
    optimizer = OPTIMIZERS["sgd"](model.parameters(), lr=0.1)
    x = np.random.default_rng(1).standard_normal((5, 4)).astype(np.float32)
    found = grad((model(x) * model(x)).sum(), list(model.parameters().values()))
    optimizer.step({n: g.data for n, g in zip(model.parameters(), found)})
    model.project()
    assert model.node("act").layer.scale not in (before, 0)
    other = model.copy()
    assert other.grids()["act.scale"].data == model.grids()["act.scale"].data
    assert other.grids()["act.scale"] is not model.grids()["act.scale"]
    state = model.state_dict()
    other = learning_net()
    other.load_state_dict(state)
    np.testing.assert_array_equal(other(x).data, model(x).data)


def test_wrong_grids_are_refused():
    with pytest.raises(ValueError, match=r"bits must be an integer in \[1, 16\]"):
        ActQuant(17)
    with pytest.raises(ValueError, match="activations need grid"):
        ActQuant(4, "midrise")
    for scale in (0, -1, np.inf, np.nan):
        with pytest.raises(ValueError, match="scale must be finite and at least"):
            ActQuant().set_grid(scale)
    with pytest.raises(ValueError, match="zero_point must be 0 where the grid has none"):
        ActQuant().set_grid(1.0, 3)
    for zero_point in (0.5, -1, 256):
        with pytest.raises(ValueError, match=r"zero_point must be a code in \[0, 255\]"):
            ActQuant(zero_point=True).set_grid(1.0, zero_point)
    with pytest.raises(ValueError, match="r_min must be finite"):
        ActQuant(zero_point=True).set_range(np.nan, 1)


# ----------------------------------------------------------------------- convolution and batch norm


def conv_and_norm(bias=True, groups=1):
    rng = np.random.default_rng(0)
    conv, norm = Conv2d(4, 6 if groups == 1 else 4, 3, groups=groups, bias=bias), None
    norm = BatchNorm2d(conv.out_channels)
    for layer in (conv, norm):
        for name, form in layer.forms.items():
            layer.forms[name] = Dense(rng.standard_normal(form.shape).astype(np.float32))
    norm.buffers["running_mean"][...] = rng.standard_normal(conv.out_channels)
    norm.buffers["running_var"][...] = rng.uniform(0.5, 2, conv.out_channels)
    return conv, norm, Tensor(rng.standard_normal((5, 4, 6, 6)).astype(np.float32))


@pytest.mark.parametrize("bias, groups", [(True, 1), (False, 1), (False, 4)])
def test_at_16_bits_both_in_one_are_a_convolution_and_its_batch_norm(bias, groups):
    conv, norm, x = conv_and_norm(bias, groups)
    one = ConvBN2d.of(conv, norm, bits=16, grid="narrow", per="channel")
    close = {"rtol": 2e-3, "atol": 2e-3}
    np.testing.assert_allclose(one(x).data, norm(conv(x)).data, **close)
    np.testing.assert_allclose(one(x, training=True).data, norm(conv(x), training=True).data,
                               **close)
    offset = conv.forms["bias"].dense().data if bias else 0
    np.testing.assert_allclose(one.buffers["running_mean"], norm.buffers["running_mean"] - offset,
                               atol=1e-5)
    np.testing.assert_allclose(one.buffers["running_var"], norm.buffers["running_var"], rtol=1e-5)
    one.still = True
    np.testing.assert_array_equal(one(x, training=True).data, one(x).data)


def test_their_gradients_are_those_of_the_two():
    conv, norm, x = conv_and_norm(False)
    one = ConvBN2d.of(conv, norm, bits=16, grid="narrow", per="channel")
    g = np.random.default_rng(5).standard_normal((5, 6, 4, 4)).astype(np.float32)
    w = one.decode()
    mine = grad(one(x, weights=w, training=True), list(w.values()), cotangent=g)
    a, b = conv.decode(), norm.decode()
    y = norm(conv(x, weights=a), weights=b, training=True)
    expected = grad(y, [a["weight"], b["bias"], b["weight"]], cotangent=g)
    for name, got, want in zip(w, mine, expected):
        np.testing.assert_allclose(got.data, want.data, rtol=0.02, atol=0.02, err_msg=name)


@pytest.mark.parametrize("grid, per", [("narrow", "channel"), ("full", "tensor")])
def test_what_they_become_gives_the_same(grid, per):
    conv, norm, x = conv_and_norm()
    keep = np.random.default_rng(1).random(conv.weight.shape) < 0.5
    conv.forms["weight"] = conv.forms["weight"].masked(keep)
    one = ConvBN2d.of(conv, norm, bits=3, grid=grid, per=per)
    made = one.folded()
    assert type(made) is Conv2d and made.forms["weight"].kind == "affine"
    np.testing.assert_allclose(made(x).data, one(x).data, rtol=1e-5, atol=1e-5)
    assert not made.forms["weight"].dense().data[~keep].any()
    assert made.forms["weight"].bits == 3 and made.forms["weight"].scale.size == (
        1 if per == "tensor" else 6)
    gain = norm.forms["weight"].dense().data / np.sqrt(norm.buffers["running_var"] + 1e-5)
    w = conv.forms["weight"].dense().data * gain.reshape(-1, 1, 1, 1)
    scale = np.abs(made.forms["weight"].scale.data).reshape(-1, 1, 1, 1)
    lo, hi = code_range(3, grid)
    expected = scale * np.clip(np.rint(w / scale), lo, hi)
    np.testing.assert_allclose(made.forms["weight"].dense().data, expected, atol=1e-5)


def test_the_factor_keeps_the_grid_still_while_batches_differ():
    # The codes are those of the running statistics; the batch only sets how the output is scaled.
    conv, norm, x = conv_and_norm(False)
    one = ConvBN2d.of(conv, norm, bits=3, grid="narrow", per="channel")
    before = one.folded().forms["weight"].dense().data
    y = one(Tensor(10 * x.data), training=True).data
    z = y.transpose(1, 0, 2, 3).reshape(6, -1)
    gamma, beta = norm.forms["weight"].dense().data, norm.forms["bias"].dense().data
    plain = conv(Tensor(10 * x.data)).data.transpose(1, 0, 2, 3).reshape(6, -1)
    quantized = z - (beta - gamma * plain.mean(axis=1) / plain.std(axis=1))[:, None]
    running = np.sqrt(np.float32(norm.buffers["running_var"]) + 1e-5)
    made = Conv2d(4, 6, 3, bias=False)
    made.forms["weight"] = Dense(before)
    expected = made(Tensor(10 * x.data)).data.transpose(1, 0, 2, 3).reshape(6, -1)
    np.testing.assert_allclose(quantized, expected * (running / plain.std(axis=1))[:, None],
                               rtol=1e-3, atol=1e-3)


def test_one_value_a_channel_and_other_grids_are_refused():
    conv, norm, _ = conv_and_norm()
    one = ConvBN2d.of(conv, norm, bits=8, grid="narrow", per="channel")
    with pytest.raises(ValueError, match="more than one value a channel"):
        one(Tensor(np.ones((1, 4, 3, 3), np.float32)), training=True)
    with pytest.raises(ValueError, match="grid must be narrow or full"):
        ConvBN2d(4, 4, 3, grid="unsigned")
    with pytest.raises(ValueError, match="per one of tensor, channel"):
        ConvBN2d(4, 4, 3, per="row")
    assert ConvBN2d.entries(4, 6, 3) == 4 * 9 * 6 + 6 + 3 * 6


@pytest.mark.parametrize("scale, zero_point, wrong", [
    (0.1, 300.7, "zero_point must be a code"), (0.1, 2.5, "zero_point must be a code"),
    (0.1, -5, "zero_point must be a code"), (-0.1, 0, "scale must be at least"),
    (1e-45, 0, "scale must be at least")])
def test_grids_that_are_none_come_from_no_state_and_no_file(scale, zero_point, wrong):
    model = Model(chain(("fc", Linear(2, 2)), ("act", ActQuant(8, zero_point=True))),
                  input_shape=(2,))
    state = model.state_dict() | {"act.scale": np.array([scale], np.float32),
                                  "act.zero_point": np.array([zero_point], np.float32)}
    with pytest.raises(ValueError, match=f"act.{wrong}"):
        model.load_state_dict(state)
    assert model.node("act").layer.scale == 1  # untouched
    made = lower(model)
    for part, a in model.node("act").layer.buffers.items():
        a[0] = state[f"act.{part}"][0]
    with pytest.raises(FormatError, match=f"act.{wrong}"):
        decode(encode(model))
    step = made.steps[-1]
    wrongly = {part: Dense(state[f"act.{part}"]) for part in step.weights}
    with pytest.raises(ValueError, match=f"act: {wrong}"):
        replace(step, weights=wrongly)
