"""Which activations become binary, and what moves in front of them."""

import numpy as np
import pytest

from minicomp.compress import BNN, PTQ, ABCNet, Run, XNORNet
from minicomp.compress.binary.activations import activations, with_signs
from minicomp.data.dataset import Dataset, Split
from minicomp.errors import UserError
from minicomp.nn import (ActQuant, BatchNorm2d, Conv2d, Dense, Flatten, InputScale, Linear,
                         MaxPool2d, Model, Node, ReLU, chain)
from minicomp.nn.forms import Binary
from minicomp.nn.init import initialise

RNG = np.random.default_rng
X = RNG(1).standard_normal((40, 1, 8, 8)).astype(np.float32)
NORM, RELU, POOL = ("bn", BatchNorm2d(4)), ("relu", ReLU()), ("pool", MaxPool2d(2))


def net(*between):
    nodes = chain(("conv1", Conv2d(1, 4, 3)), *between, ("conv2", Conv2d(4, 3, 2)),
                  ("flatten", Flatten()), ("fc", Linear(12, 2)))
    return initialise(Model(nodes, input_shape=(1, 8, 8)), rng=RNG(0)).copy()


def data():
    split = Split(X, np.arange(len(X)) % 2)
    return Dataset("few", split, split, split, ("a", "b"))


def kinds(model):
    return [node.layer.kind for node in model.nodes]


@pytest.mark.parametrize("norm", [(), (NORM,)])
def test_a_pooling_goes_in_front_of_a_sign_and_of_its_norm(norm):
    made = with_signs(net(*norm, RELU, POOL))
    assert kinds(made)[:5] == ["Conv2d", "MaxPool2d", "BatchNorm2d", "Sign", "Conv2d"]
    conv1, pool, bn, sign, conv2 = (node.layer for node in made.nodes[:5])
    assert made.nodes[4].inputs == ("relu",) and made.shapes()["relu"] == (4, 3, 3)
    read = sign(bn(pool(conv1(X))))
    assert set(np.unique(read.data)) == {-1, 1}
    flat, fc = (node.layer for node in made.nodes[5:7])
    np.testing.assert_array_equal(made.nodes[-1].layer(fc(flat(conv2(read)))).data, made(X).data)


def test_a_float_net_whose_pooling_moves_says_the_same():
    model = net(NORM, RELU, POOL)
    moved = with_signs(model)
    swap = {"relu": (Node("relu", ReLU(), moved.node("relu").inputs),), moved.nodes[-1].name: ()}
    np.testing.assert_array_equal(moved.edit(swap)(X).data, model(X).data)


def test_a_pooling_stays_behind_a_norm_that_falls():
    model = net(NORM, RELU, POOL)
    model.set_form("bn.weight", Dense(np.float32([1, 1, -1, 1])))
    assert kinds(with_signs(model))[1:4] == ["BatchNorm2d", "Sign", "MaxPool2d"]


def test_activations_in_front_of_all_weights_and_behind_them_stay():
    model = Model(
        chain(("first", ReLU()), ("fc1", Linear(5, 4)), ("relu", ReLU()), ("fc2", Linear(4, 3)),
              ("last", ReLU())), input_shape=(5,))
    assert activations(model) == ["relu"]
    made = BNN().training(epochs=0).apply(model, None, Run(RNG(0)))
    assert [n.name for n in made.nodes if n.layer.kind == "Sign"] == ["relu"]
    alone = Model(chain(("fc", Linear(5, 4)), ("last", ReLU())), input_shape=(5,))
    with pytest.raises(UserError, match="bnn: the model must have an activation between layers"):
        BNN().training(epochs=0).apply(alone, None, Run(RNG(0)))


@pytest.mark.parametrize("technique", [BNN(), XNORNet(inputs="scaled"), ABCNet(activations=2)],
                         ids=lambda t: t.word)
def test_grids_of_activations_that_become_binary_go(technique):
    start = PTQ(samples=20).apply(net(RELU, POOL), data(), Run(RNG(0)))
    assert any(isinstance(n.layer, ActQuant) and n.inputs == ("relu",) for n in start.nodes)
    made = technique.training(epochs=0).apply(start, None, Run(RNG(0)))
    assert not any(isinstance(n.layer, ActQuant) and n.inputs == ("relu",) for n in made.nodes)


def test_scales_of_inputs_are_put_in_once():
    technique = XNORNet(inputs="scaled").training(epochs=0)
    made = technique.apply(net(RELU, POOL), None, Run(RNG(0)))
    again = technique.apply(made, None, Run(RNG(0)))
    assert kinds(again) == kinds(made) and any(
        isinstance(n.layer, InputScale) for n in again.nodes)


def test_a_layer_whose_scale_would_be_0_is_named():
    model = Model(chain(("fc1", Linear(4, 1, bias=False))), input_shape=(4,))
    model.set_form("fc1.weight", Dense(np.float32([[3, 1, 1, 1]])))  # 3 - 3
    with pytest.raises(UserError, match="abc-net: fc1.weight .*alpha"):
        ABCNet(bases=1).training(epochs=0).apply(model, None, Run(RNG(0)))


@pytest.mark.parametrize("w", [np.full((2, 2), np.nan), np.full((2, 2), np.inf), np.eye(2) * 1j,
                               np.array([["a", "b"]])])
def test_signs_are_of_finite_real_numbers(w):
    with pytest.raises(ValueError, match="sign must be finite real numbers"):
        Binary.of(w, 1.0)
