import numpy as np
import pytest

from minicomp.compress.quant.nodes import grids, places, with_grids, without_grids
from minicomp.nn import (ActQuant, Add, AvgPool2d, BatchNorm2d, Conv2d, Flatten, Linear, MaxPool2d,
                         Model, Node, Normalize, ReLU)
from minicomp.nn.init import initialise


def net():
    nodes = [
        Node("normalize", Normalize([0.5], [0.5])),
        Node("conv1", Conv2d(1, 4, 3, padding=1), ("normalize",)),
        Node("bn1", BatchNorm2d(4), ("conv1",)),
        Node("relu1", ReLU(), ("bn1",)),
        Node("conv2", Conv2d(4, 4, 3, padding=1), ("relu1",)),
        Node("pool", MaxPool2d(3, 1, 1), ("conv2",)),
        Node("add", Add(), ("relu1", "pool")),
        Node("relu2", ReLU(), ("add",)),
        Node("mean", AvgPool2d(2), ("relu2",)),
        Node("flatten", Flatten(), ("mean",)),
        Node("fc", Linear(16, 3), ("flatten",)),
    ]
    model = Model(nodes, input_shape=(1, 4, 4))
    initialise(model, rng=np.random.default_rng(0))
    return model


def test_a_grid_stands_where_an_integer_program_keeps_a_value():
    # behind the normalised input, a fused conv + norm + activation, a conv that pooling reads, an
    # activated sum, an average; not behind what hands on its input, not behind the logits
    assert places(net()) == ["normalize", "relu1", "conv2", "relu2", "mean"]


def test_grids_are_put_in_and_taken_out_again():
    model, x = net(), np.random.default_rng(1).random((2, 1, 4, 4), np.float32)
    made = with_grids(model, {name: ActQuant(16) for name in places(model)})
    assert list(grids(made)) == ["normalize_q", "relu1_q", "conv2_q", "relu2_q", "mean_q"]
    assert places(made) == []
    assert made.node("add").inputs == ("relu1_q", "pool") and made.node("pool").inputs == (
        "conv2_q",)
    for layer in grids(made).values():
        layer.set_grid(1e-4)
    back = without_grids(made)
    assert [n.name for n in back.nodes] == [n.name for n in model.nodes]
    np.testing.assert_array_equal(back(x).data, model(x).data)


def test_a_net_without_normalisation_has_a_grid_behind_its_input():
    model = net().edit({"normalize": ()})
    assert places(model)[0] == "x"
    made = with_grids(model, {"x": ActQuant()})
    assert made.node("conv1").inputs == ("x_q",) and made.nodes[0].name == "x_q"


def test_a_grid_behind_nothing_is_refused():
    with pytest.raises(ValueError, match="a grid needs a node to stand behind"):
        with_grids(net(), {"conv9": ActQuant()})
