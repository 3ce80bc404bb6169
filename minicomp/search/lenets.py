"""Spaces of small nets for 28 x 28 digits, and cells whose operations DARTS mixes.

A LeNet of the space: two convolutions, max-pooled and, as in Caffe's LeNet-5, not rectified,
`depth` further 3 x 3 ones with ReLU that keep the size, a hidden layer, ten outputs. A 5 x 5 kernel
is padded by one, so that it sees what a 3 x 3 one sees and a ring around it: maps are 26, 13, 11
and 5 wide with either, and the smaller kernel is the middle of the larger one.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from ..nn.graph import Model, chain
from ..nn.init import initialise
from ..nn.layers import AvgPool2d, Conv2d, Flatten, Layer, Linear, MaxPool2d, Normalize, ReLU
from ..nn.layers.normalize import Statistics
from .darts import Mixture
from .space import Space, declared_bytes

Rng = np.random.Generator
BITS = 8  # a weight, in the bytes that a space is limited by


def small_lenet(*, conv1: int, conv2: int, kernel1: int = 5, kernel2: int = 5, depth: int = 0,
                hidden: int = 16, normalize: Statistics | None = "mnist",
                rng: Rng | None = None) -> Model:
    """Returns a small LeNet, x (N, 1, 28, 28); drawn with rng, weights 0 without.

    conv1, conv2 : filters        kernel1, kernel2 : 3 or 5        depth : further convolutions
    hidden : units of the hidden layer, 0: there is none
    """
    layers: list[tuple[str, Layer]] = [] if normalize is None else [
        ("normalize", Normalize(normalize))]
    for i, (a, b, kernel) in enumerate([(1, conv1, kernel1), (conv1, conv2, kernel2)], start=1):
        layers += [(f"conv{i}", Conv2d(a, b, kernel, padding=(kernel - 3) // 2)),
                   (f"pool{i}", MaxPool2d(2))]
    for i in range(1, depth + 1):
        layers += [(f"deep{i}", Conv2d(conv2, conv2, 3, padding=1)), (f"deep{i}_relu", ReLU())]
    layers += [("flatten", Flatten())]
    features = 25 * conv2
    if hidden:
        layers += [("fc1", Linear(features, hidden)), ("fc1_relu", ReLU())]
    layers += [("fc2", Linear(hidden or features, 10))]
    return _drawn(Model(chain(*layers), input_shape=(1, 28, 28)), rng)


def lenets(*, bits: int = BITS) -> Space:
    """Returns the space of 384 small LeNets that the table `search` enumerates.

    bits : a number takes so many in the file
    """
    return Space({"conv1": (2, 4, 6, 8), "conv2": (4, 8, 12, 16), "kernel1": (3, 5),
                  "kernel2": (3, 5), "depth": (0, 1), "hidden": (12, 20, 32)},
                 small_lenet, weigh=partial(declared_bytes, bits=bits))


OPERATIONS = ("skip", "avg3", "max3", "conv3", "conv5")


def operation(name: str, channels: int) -> list[tuple[str, Layer]]:
    """Returns the layers of one of OPERATIONS, which keep the size of maps (N, channels, H, W)."""
    match name:
        case "skip":
            return []
        case "avg3":
            return [("pool", AvgPool2d(3, stride=1, padding=1))]
        case "max3":
            return [("pool", MaxPool2d(3, stride=1, padding=1))]
    kernel = int(name[-1])
    return [("conv", Conv2d(channels, channels, kernel, padding=kernel // 2)), ("relu", ReLU())]


def cell(*, channels: int = 8, rng: Rng | None = None) -> Mixture:
    """Returns two mixed operations in a row between a convolution and ten outputs.

    x (N, 1, 28, 28), pooled to 13 x 13 before the first operation and to 6 x 6 before the second
    """
    def net(layers, *shape: int) -> Model:
        return _drawn(Model(chain(*layers), input_shape=shape), rng)

    stem = [("normalize", Normalize("mnist")), ("conv", Conv2d(1, channels, 3)),
            ("pool", MaxPool2d(2)), ("relu", ReLU())]
    first, second = ({op: net([*operation(op, channels), *after], channels, size, size)
                      for op in OPERATIONS}
                     for size, after in ((13, [("down", MaxPool2d(2))]), (6, [])))
    head = [("pool", MaxPool2d(2)), ("flatten", Flatten()), ("fc", Linear(9 * channels, 10))]
    return Mixture(net(stem, 1, 28, 28), {"op1": first, "op2": second},
                   net(head, channels, 6, 6))


def cells(*, channels: int = 8, bits: int = BITS) -> Space:
    """Returns the space of the 25 nets that `cell` mixes."""
    def make(*, rng: Rng | None, **choice) -> Model:
        return cell(channels=channels, rng=rng).chosen(choice)

    return Space({"op1": OPERATIONS, "op2": OPERATIONS}, make,
                 weigh=partial(declared_bytes, bits=bits))


def _drawn(model: Model, rng: Rng | None) -> Model:
    return model if rng is None else initialise(model, rng=rng)
