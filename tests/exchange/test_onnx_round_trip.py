# Out by ONNX and in again: the same numbers, and of a quantized net the same integer program.
import math

import numpy as np
import pytest

from minicomp.compress import PTQ, FoldBN, Run
from minicomp.deploy import lower
from minicomp.exchange.onnx_export import export
from minicomp.exchange.onnx_import import load_onnx
from minicomp.models import MODELS
from minicomp.nn import layers as nn
from minicomp.nn.forms import Dense
from minicomp.nn.graph import Model, Node

pytest.importorskip("onnx")
pytestmark = pytest.mark.peers

RNG = np.random.default_rng(0)
NETS = {"lenet300": lambda: MODELS["lenet300"](normalize="mnist"), "lenet5": MODELS["lenet5"],
        "depthwise32": MODELS["depthwise32"]}


def everything():
    # What no built-in net has: joined, shuffled, clipped channels, windows over the end.
    clip = nn.ClipChannels.of(np.array([0.5, 1, 2, 3, 4, 0.25]))
    nodes = [
        Node("normalize", nn.Normalize([0.1, 0.2], [0.5, 2.0])),
        Node("a", nn.Conv2d(2, 3, 3, padding=1, bias=False), ("normalize",)),
        Node("b", nn.Conv2d(2, 3, 1), ("normalize",)),
        Node("join", nn.Concat(), ("a", "b")),
        Node("bn", nn.BatchNorm2d(6), ("join",)),
        Node("clip", clip, ("bn",)),
        Node("shuffle", nn.ChannelShuffle(3), ("clip",)),
        Node("pool", nn.MaxPool2d(3, 2, 1, ceil_mode=True), ("shuffle",)),
        Node("mean", nn.AvgPool2d(3, 2, 1), ("pool",)),
        Node("tanh", nn.Tanh(), ("mean",)),
        Node("flat", nn.Flatten(), ("tanh",)),
        Node("fc", nn.Linear(24, 5), ("flat",)),
    ]
    return Model(nodes, input_shape=(2, 7, 6))


def drawn(model):
    for name, form in model.forms().items():
        w = RNG.normal(size=form.shape).astype(np.float32)
        model.set_form(name, Dense(w / math.sqrt(w[0].size)))
    for name, a in model.buffers().items():
        if "running" in name:
            a[...] = RNG.uniform(0.5, 1.5, a.shape)
    return model


def again(model, path, form):
    export(model, path, format=form)
    return load_onnx(path).model


def images(model, count=8):
    return RNG.normal(size=(count, *model.input_shape)).astype(np.float32)


@pytest.mark.parametrize("name", [*NETS, "everything"])
def test_floats_come_back(name, tmp_path):
    model = drawn(NETS.get(name, everything)())
    found = again(model, tmp_path / "g.onnx", "float")
    x = images(model)
    y, wanted = found(x).data, model(x).data
    np.testing.assert_allclose(y, wanted, rtol=0, atol=1e-5 * max(1, np.abs(wanted).max()))
    assert found.input_shape == model.input_shape
    assert len(found.nodes) <= len(model.nodes) and found.count() <= model.count() + 6


@pytest.mark.parametrize("form", ["qdq", "qoperator"])
@pytest.mark.parametrize("name", NETS)
def test_integer_programs_come_back_bit_for_bit(name, form, tmp_path):
    model = FoldBN().apply(drawn(NETS[name]()), None, Run(np.random.default_rng(0)))
    model = PTQ().quantized(model, images(model, 32), None)
    found = again(model, tmp_path / "g.onnx", form)
    mine, theirs = ([f for f in m.forms().values() if f.kind == "affine"] for m in (model, found))
    assert len(mine) == len(theirs) > 2
    for a, b in zip(mine, theirs):
        np.testing.assert_array_equal(a.q, b.q)
        np.testing.assert_array_equal(a.scale.data, b.scale.data)
    x = images(model)
    one, other = (lower(m, precision="int8")(x) for m in (model, found))
    np.testing.assert_array_equal(one, other)
