"""The nets on which single papers report, with weights drawn as they train from scratch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from string import ascii_lowercase

import numpy as np

from ..nn.forms import Dense
from ..nn.graph import INPUT, Model, Node, chain
from ..nn.init import gaussian, glorot_uniform, he_normal, initialise, torch_uniform
from ..nn.layers import (AvgPool2d, BatchNorm1d, BatchNorm2d, Conv2d, Dropout, Flatten, Linear,
                         MaxPool2d, ReLU, Sigmoid, Tanh)
from ..nn.layers.normalize import Statistics
from .arguments import chained
from .resnet import ResNet20

Rng = np.random.Generator


def DigitNet(*, normalize: Statistics | None = None, rng: Rng) -> Model:
    """Returns 28 x 28 - 8 maps - 12 maps - 30 - 10, tanh but for the outputs; x (N, 1, 28, 28).

    5 x 5 kernels at stride 2, 8,720 parameters; LeCun uniform, biases 0.
    normalize : of a first node `Normalize`, or None
    Source: after LeCun, Denker & Solla 1990, whose net has 2,578 of them shared
    """
    nodes = chained(normalize, ("c1", Conv2d(1, 8, 5, stride=2)), ("t1", Tanh()),
                    ("c2", Conv2d(8, 12, 5, stride=2)), ("t2", Tanh()), ("flatten", Flatten()),
                    ("fc1", Linear(192, 30)), ("t3", Tanh()), ("fc2", Linear(30, 10)))
    return initialise(Model(nodes, input_shape=(1, 28, 28)), rng=rng)


def SigmoidNet(inputs: int, hidden: int, *, rng: Rng) -> Model:
    """Returns the net inputs-hidden-1 of sigmoid units, float64, drawn from U(-1, 1).

    Source: Hassibi & Stork 1993: 17-3-1 and 17-2-1 on MONK's problems, 2-2-1 on XOR
    """
    model = Model(chain(("fc1", Linear(inputs, hidden)), ("act1", Sigmoid()),
                        ("fc2", Linear(hidden, 1)), ("act2", Sigmoid())), input_shape=(inputs,))
    for name, form in model.forms().items():
        model.set_form(name, Dense(rng.uniform(-1, 1, form.shape)))
    return model


def SlimmingMLP(*, normalize: Statistics | None = None, rng: Rng) -> Model:
    """Returns 784-500-300-10 with batch norm and ReLU; scales 0.5, x (N, 1, 28, 28).

    Weights are drawn as Torch's layers draw them, biases are 0.
    normalize : of a first node `Normalize`, or None
    Source: Liu et al. 2017, section 4.2
    """
    named = [("flatten", Flatten())]
    for i, (a, b) in enumerate([(784, 500), (500, 300)], start=1):
        named += [(f"fc{i}", Linear(a, b)), (f"bn{i}", BatchNorm1d(b)), (f"relu{i}", ReLU())]
    nodes = chained(normalize, *named, ("fc3", Linear(300, 10)))
    model = initialise(Model(nodes, input_shape=(1, 28, 28)), rng=rng, draw=torch_uniform)
    model.set_forms({f"bn{i}.weight": Dense(np.full(size, 0.5, np.float32))
                     for i, size in enumerate((500, 300), start=1)})
    return model


def HalfVGG(*, rng: Rng) -> Model:
    """Returns the net for CIFAR-10 of the paper on binarized nets at half of its maps and units:
    two convolutions of 64 maps, of 128, of 256, then 512-512-10; x (N, 3, 32, 32).

    Kernels 3 x 3 at padding 1, a maximum of 2 x 2 behind each pair, batch norm and ReLU behind
    every layer but the last, which has a batch norm. Theirs takes the maximum before the batch
    norm.
    Source: Courbariaux et al. 2016, arXiv 1602.02830, section 2.1, after Simonyan & Zisserman 2014
    """
    named, maps = [], 3
    for pair, o in enumerate((64, 128, 256), start=1):
        for name, i in ((f"{pair}a", maps), (f"{pair}b", o)):
            named += [(f"conv{name}", Conv2d(i, o, 3, padding=1)),
                      (f"bn{name}", BatchNorm2d(o)), (f"relu{name}", ReLU())]
        named.append((f"pool{pair}", MaxPool2d(2)))
        maps = o
    named.append(("flatten", Flatten()))
    for n, i in ((1, 4096), (2, 512)):
        named += [(f"fc{n}", Linear(i, 512)), (f"bn{n}", BatchNorm1d(512)), (f"relu{n}", ReLU())]
    named += [("fc3", Linear(512, 10)), ("bn3", BatchNorm1d(10))]
    return initialise(Model(chain(*named), input_shape=(3, 32, 32)), rng=rng)


def GuptaMLP(*, rng: Rng) -> Model:
    """Returns 784-1000-1000-10 with ReLU, weights N(0, 0.01^2), biases 0; x (N, 1, 28, 28).

    Source: Gupta et al. 2015, section 4.1
    """
    nodes = chain(("flatten", Flatten()), ("fc1", Linear(784, 1000)), ("relu1", ReLU()),
                  ("fc2", Linear(1000, 1000)), ("relu2", ReLU()), ("fc3", Linear(1000, 10)))
    model = Model(nodes, input_shape=(1, 28, 28))
    return initialise(model, rng=rng, draw=partial(gaussian, std=0.01))


def GuptaCNN(*, rng: Rng) -> Model:
    """Returns two convolutions of 5 x 5, 8 and 16 maps, each with ReLU and a 2 x 2 maximum, then
    256-128-10; weights LeCun uniform, biases 0; x (N, 1, 28, 28).

    Source: Gupta et al. 2015, section 4.1
    """
    nodes = chain(("conv1", Conv2d(1, 8, 5)), ("relu1", ReLU()), ("pool1", MaxPool2d(2)),
                  ("conv2", Conv2d(8, 16, 5)), ("relu2", ReLU()), ("pool2", MaxPool2d(2)),
                  ("flatten", Flatten()), ("fc1", Linear(256, 128)), ("relu3", ReLU()),
                  ("fc2", Linear(128, 10)))
    return initialise(Model(nodes, input_shape=(1, 28, 28)), rng=rng)


def DropoutMLP(hidden: int, *, dropout: tuple[float, float] = (0.2, 0.5), rng: Rng) -> Model:
    """Returns 784-hidden-hidden-10 with ReLU; weights He normal, biases 0; x (N, 1, 28, 28).

    dropout : of the pixels, and of the hidden units; a layer that would drop none is left out
    Source: Hinton et al. 2015, section 3, hidden 1200 and, without dropout, 800; dropout as in
        Hinton et al. 2012, arXiv 1207.0580
    """
    named = [("flatten", Flatten())]
    pixels, units = dropout
    for i, (a, b, p) in enumerate([(784, hidden, pixels), (hidden, hidden, units)], start=1):
        named += [(f"drop{i}", Dropout(p)), (f"fc{i}", Linear(a, b)), (f"relu{i}", ReLU())]
    named += [("drop3", Dropout(units)), ("fc3", Linear(hidden, 10))]
    nodes = chain(*[(name, layer) for name, layer in named if not layer.drops or layer.p])
    return initialise(Model(nodes, input_shape=(1, 28, 28)), rng=rng, draw=he_normal)


def FitNet(groups: Sequence[Sequence[int]], *, dropout: bool = False, rng: Rng) -> Model:
    """Returns groups of 3 x 3 convolutions at padding 1, each with ReLU, a maximum of 2 x 2 in the
    last of every group, before its ReLU; a dense layer, behind dropout of 0.5 where there is one;
    weights He normal, biases 0; x (N, 1, 28, 28).

    groups : maps of each convolution, at most four groups; nodes are conv1a, relu1a, ...
    Source: after Romero et al. 2015, section 3.2, whose convolutions are maxout
    """
    named, maps, size = [], 1, 28
    for g, group in enumerate(groups, start=1):
        for letter, o in zip(ascii_lowercase, group):
            last = [(f"pool{g}", MaxPool2d(2))] if letter == ascii_lowercase[len(group) - 1] else []
            named += [(f"conv{g}{letter}", Conv2d(maps, o, 3, padding=1)), *last,
                      (f"relu{g}{letter}", ReLU())]
            maps = o
        size //= 2
    named += [("flatten", Flatten())] + [("drop", Dropout(0.5))] * dropout
    named += [("fc", Linear(maps * size**2, 10))]
    return initialise(Model(chain(*named), input_shape=(1, 28, 28)), rng=rng, draw=he_normal)


def HalvedResNet(*, blocks: int, normalize: Statistics | None = None, rng: Rng) -> Model:
    """Returns `ResNet20` of half the width for 16 x 16 pixels, behind a mean of 2 x 2: 809,280
    MACs with a block a stage; x (N, 3, 32, 32)."""
    net = ResNet20(resolution=16, width=0.5, blocks=blocks, normalize=normalize, rng=rng)
    nodes = [replace(n, inputs=tuple("half" if i == INPUT else i for i in n.inputs))
             for n in net.nodes]
    return Model((Node("half", AvgPool2d(2), (INPUT,)), *nodes), input_shape=(3, 32, 32))


def BinaryConnectMLP(*, normalize: Statistics | None = None, hidden: int = 1024, rng: Rng) -> Model:
    """Returns 784-3 x hidden-10 with ReLU and batch norm behind every layer, the last too, without
    biases; x (N, 1, 28, 28).

    Weights are U(-H, H), H = sqrt(1.5 / (fan_in + fan_out)), the range in which BinaryConnect keeps
    them.
    normalize : of a first node `Normalize`, or None
    Source: Courbariaux, Bengio & David 2015, section 3.1; batch norm and range of their code
    """
    sizes, named = (784, hidden, hidden, hidden, 10), [("flatten", Flatten())]
    for i, (a, b) in enumerate(zip(sizes, sizes[1:]), start=1):
        named += [(f"fc{i}", Linear(a, b, bias=False)), (f"bn{i}", BatchNorm1d(b)),
                  (f"relu{i}", ReLU())]
    model = Model(chained(normalize, *named[:-1]), input_shape=(1, 28, 28))
    return initialise(model, rng=rng, draw=_within_H)


def BinaryLeNet5(*, normalize: Statistics | None = None, hidden: int = 500, rng: Rng) -> Model:
    """Returns Caffe's LeNet-5 as a net of signs needs it: conv 20, conv 50, `hidden` units, 10,
    each with batch norm, the first three with ReLU, for a technique to put signs in its place.

    Batch norm stands before the pooling, so that it can become a bias; no biases, weights
    U(-H, H) as in BinaryConnectMLP; x (N, 1, 28, 28)
    normalize : of a first node `Normalize`, or None
    Source: LeNet5 of models/lenet.py, for Courbariaux et al. 2016 (arXiv 1602.02830)
    """
    named = []
    for i, (a, b) in enumerate([(1, 20), (20, 50)], start=1):
        named += [(f"conv{i}", Conv2d(a, b, 5, bias=False)), (f"bn{i}", BatchNorm2d(b)),
                  (f"pool{i}", MaxPool2d(2)), (f"relu{i}", ReLU())]
    named += [("flatten", Flatten()), ("fc1", Linear(800, hidden, bias=False)),
              ("bn3", BatchNorm1d(hidden)), ("relu3", ReLU()),
              ("fc2", Linear(hidden, 10, bias=False)), ("bn4", BatchNorm1d(10))]
    model = Model(chained(normalize, *named), input_shape=(1, 28, 28))
    return initialise(model, rng=rng, draw=_within_H)


def _within_H(shape, *, rng: Rng):
    return glorot_uniform(shape, rng=rng) / 2
