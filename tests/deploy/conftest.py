import math
from types import SimpleNamespace

import numpy as np
import pytest

from minicomp.compress.prune.magnitude import Magnitude
from minicomp.compress.prune.nm import NM
from minicomp.compress.share.kmeans import KMeans
from minicomp.compress.technique import Run
from minicomp.deploy import choose
from minicomp.nn import layers as nn
from minicomp.nn.forms import Dense, Half
from minicomp.nn.graph import Model, Node, chain


@pytest.fixture
def every_machine(monkeypatch):
    # Layouts are chosen as where vectors run; the kernels' references compute the same elsewhere.
    monkeypatch.setattr(choose, "_vectors", lambda isa: True)


def drawn(model, seed=1):
    # Weights, biases and running statistics as of a trained net.
    rng = np.random.default_rng(seed)
    for name, form in model.forms().items():
        w = rng.normal(size=form.shape).astype(np.float32)
        model.set_form(name, Dense(w / math.sqrt(w[0].size)))
    for name, a in model.buffers().items():
        above = name.endswith(("var", "ceiling"))
        draw = rng.uniform(0.5, 1.5, a.shape) if above else rng.normal(size=a.shape)
        a[...] = draw
    for node in model.nodes:
        if isinstance(node.layer, nn.ActQuant):
            node.layer.set_range(-0.8, 0.7)
    return model


def pruned(model, how, seed=0):
    # A model whose weights have the forms that a word names.
    run = Run(np.random.default_rng(seed))
    if how == "dense":
        return model
    if how == "half":
        for name, form in model.forms().items():
            model.set_form(name, Half(form.dense().data))
        return model
    if how == "n:m":
        return NM(n=1, m=4, skip=True).apply(model, None, run)
    model = Magnitude(sparsity=0.9).apply(model, None, run)
    return KMeans(bits=4).apply(model, None, run) if how == "shared" else model


def every_layer():
    # A net in which every layer stands, batch norms and activations in all positions.
    nodes = [
        Node("normalize", nn.Normalize("cifar10")),
        Node("stem", nn.Conv2d(3, 8, 3, padding=1, bias=False), ("normalize",)),
        Node("stem_bn", nn.BatchNorm2d(8), ("stem",)),
        Node("stem_relu", nn.ReLU(), ("stem_bn",)),
        Node("drop", nn.Dropout(0.5), ("stem_relu",)),
        Node("left", nn.Conv2d(8, 8, 3, padding=1, groups=4), ("drop",)),
        Node("left_bn", nn.BatchNorm2d(8), ("left",)),
        Node("right", nn.AvgPool2d(3, 1, padding=1), ("drop",)),
        Node("right_bn", nn.BatchNorm2d(8), ("right",)),
        Node("right_relu", nn.ReLU6(), ("right_bn",)),
        Node("add", nn.Add(), ("left_bn", "right_relu")),
        Node("add_relu", nn.ReLU(), ("add",)),
        Node("shift", nn.ShiftBatchNorm2d(8), ("right",)),
        Node("stripes", nn.ChannelShuffle(4), ("shift",)),
        Node("sign", nn.Sign(), ("stripes",)),
        Node("signed", nn.Conv2d(8, 8, 3, padding=1, bias=False), ("sign",)),
        Node("sized", nn.InputScale(8, 3, padding=1), ("signed", "stripes")),
        Node("sized_bn", nn.BatchNorm2d(8), ("sized",)),
        Node("concat", nn.Concat(), ("add_relu", "stem_relu", "add", "sized_bn")),
        Node("shuffle", nn.ChannelShuffle(4), ("concat",)),
        Node("pool", nn.MaxPool2d(3, 2, padding=1, ceil_mode=True), ("shuffle",)),
        Node("same", nn.Identity(), ("pool",)),
        Node("cells", nn.AdaptiveAvgPool2d((3, 2)), ("same",)),
        Node("flatten", nn.Flatten(), ("cells",)),
        Node("fc1", nn.Linear(192, 40), ("flatten",)),
        Node("bn1", nn.BatchNorm1d(40), ("fc1",)),
        Node("bn2", nn.BatchNorm1d(40), ("bn1",)),
        Node("tanh", nn.Tanh(), ("bn2",)),
        Node("thresh", nn.ActThreshold(0.1), ("tanh",)),
        Node("clip", nn.ClipChannels.of(np.linspace(0.1, 1, 40)), ("thresh",)),
        Node("quant", nn.ActQuant(4, "full", zero_point=True), ("clip",)),
        Node("fc2", nn.Linear(40, 15, bias=False), ("quant",)),
        Node("bn3", nn.ShiftBatchNorm1d(15), ("fc2",)),
        Node("sigmoid", nn.Sigmoid(), ("bn3",)),
        Node("sums", nn.BinarySum(3), ("sigmoid",)),
        Node("both", nn.Add(), ("sigmoid", "sums")),
        Node("phases", nn.CReLU(), ("both",)),
        Node("topk", nn.ActTopK(12), ("phases",)),
        Node("fc3", nn.Linear(30, 10), ("topk",)),
        Node("dead", nn.ReLU(), ("topk",)),
        Node("last", nn.Identity(), ("fc3",)),
    ]
    # ConvBN2d is for training alone: it is folded before anything is lowered
    assert {node.layer.kind for node in nodes} == set(nn.LAYERS) - {"ConvBN2d"}
    return drawn(Model(nodes, input_shape=(3, 9, 11)))


def large(how="pruned", *, stride=1, padding=0):
    # A convolution and two linear layers, all but the last worth a kernel for one image.
    side = 10 // stride if padding else 6 // stride
    layers = (
        ("conv", nn.Conv2d(6, 40, 5, stride=stride, padding=padding)),
        ("bn", nn.BatchNorm2d(40)),
        ("relu", nn.ReLU()),
        ("flatten", nn.Flatten()),
        ("fc1", nn.Linear(40 * side**2, 120)),
        ("bn1", nn.BatchNorm1d(120)),
        ("fc2", nn.Linear(120, 10)),
    )
    return pruned(drawn(Model(chain(*layers), input_shape=(6, 10, 10))), how)


def images(model, n, seed=0):
    x = np.random.default_rng(seed + n).normal(size=(n, *model.input_shape))
    return x.astype(np.float32)


def close(got, want):
    # A logit is a sum of some thousand products, and each rounds to 2**-24: the orders differ.
    assert got.dtype == np.float32 and got.shape == want.shape
    assert np.abs(got - want).max() <= 1e-5 * np.abs(want).max()


@pytest.fixture
def nets():
    return SimpleNamespace(
        drawn=drawn, pruned=pruned, every_layer=every_layer, large=large, images=images, close=close
    )
