import numpy as np
import pytest

from minicomp.nn import ActQuant, Linear, Model, chain
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
        with pytest.raises(ValueError, match="scale must be finite and above 0"):
            ActQuant().set_grid(scale)
    with pytest.raises(ValueError, match="zero_point must be a code"):
        ActQuant().set_grid(1.0, 3)
    with pytest.raises(ValueError, match="r_min must be finite"):
        ActQuant(zero_point=True).set_range(np.nan, 1)
