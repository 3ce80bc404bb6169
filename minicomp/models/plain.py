"""Nets in a row: convolutions, pooling, dense layers; AlexNet and the VGG-small of binary nets."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..nn.graph import Model
from ..nn.init import lecun_uniform
from ..nn.layers import (AdaptiveAvgPool2d, BatchNorm1d, BatchNorm2d, Conv2d, Dropout, Flatten,
                         Linear, MaxPool2d, ReLU)
from ..nn.layers.normalize import Statistics
from .arguments import (RESOLUTION, Argument, built_in, chained, checked, of_images, widened)

ARGUMENTS_ALEXNET = of_images(0.25, least=16)
# Of a larger image the first dense layer would have more weights than the rest of the net.
ARGUMENTS_VGG = of_images(0.125) | {"resolution": replace(RESOLUTION, hi=64),
                                    "hidden": Argument(2, 0, 2)}
LEAST_ALEXNET = 64  # of resolutions that keep torchvision's net; at 62 a map vanishes
GRID = 6  # cells a side that the dense layers of AlexNet see


def AlexNet(*, classes: int = 10, channels: int = 3, resolution: int = 32, width: float = 0.25,
            normalize: Statistics | None = None,
            rng: np.random.Generator | None = None) -> Model:
    """Returns AlexNet in one column: 61,100,840 parameters and 714,188,480 MACs at 1000 classes,
    224 x 224 and width 1.

    Five convolutions, three max-poolings 3 x 3 of stride 2, three dense layers behind dropout.
    Nodes are named as torchvision names its modules, so that a state_dict of torchvision's fits.
    resolution : at least 16; below 64 the stem is 3 x 3 of stride 1 in place of 11 x 11 of stride
        4, and the dense layers see the last map as it is (3 x 3 of 32 x 32), not a grid of 6 x 6
    width : times all channels and features, as `widened` rounds them
    Other arguments as in DepthwiseNet32.
    Raises ValueError for an argument outside ARGUMENTS_ALEXNET.
    Source: Krizhevsky 2014 (arXiv 1404.5997), the net of Krizhevsky et al. 2012 on one device
    """
    args = checked(ARGUMENTS_ALEXNET, {"classes": classes, "channels": channels, "width": width,
                                       "resolution": resolution, "normalize": normalize})
    a, b, c, d, wide = (widened(n, width) for n in (64, 192, 384, 256, 4096))
    small = resolution < LEAST_ALEXNET
    stem = (Conv2d(channels, a, 3, padding=1) if small else
            Conv2d(channels, a, 11, stride=4, padding=2))
    layers = (stem, ReLU(), MaxPool2d(3, 2), Conv2d(a, b, 5, padding=2), ReLU(), MaxPool2d(3, 2),
              Conv2d(b, c, 3, padding=1), ReLU(), Conv2d(c, d, 3, padding=1), ReLU(),
              Conv2d(d, d, 3, padding=1), ReLU(), MaxPool2d(3, 2))
    cells = _pooled(resolution) if small else GRID
    middle = () if small else (("avgpool", AdaptiveAvgPool2d(GRID)),)
    dense = (Dropout(), Linear(d * cells**2, wide), ReLU(), Dropout(), Linear(wide, wide), ReLU(),
             Linear(wide, classes))
    nodes = chained(normalize, *((f"features.{i}", layer) for i, layer in enumerate(layers)),
                    *middle, ("flatten", Flatten()),
                    *((f"classifier.{i}", layer) for i, layer in enumerate(dense)))
    # Poolings keep the largest, so that He's draw, without BN, makes logits that are too large.
    return built_in("alexnet", args, nodes, (channels, resolution), rng, lecun_uniform)


def VGGSmall(*, classes: int = 10, channels: int = 3, resolution: int = 32, width: float = 0.125,
             hidden: int = 2, normalize: Statistics | None = None,
             rng: np.random.Generator | None = None) -> Model:
    """Returns the VGG-small of binary and ternary nets: 14,029,726 parameters, 14,008,320 of them
    in the hidden layers' weights, and 616,966,144 MACs at width 1.

    2 x 128 maps, pool, 2 x 256, pool, 2 x 512, pool, `hidden` dense layers of 1024, the outputs;
    kernels 3 x 3, BN and ReLU behind each, BN behind the outputs too. Only the outputs have a bias.
    hidden : 2 in BinaryConnect; 0 is the net with one dense layer of later papers
    width : times 128, 256, 512 and 1024, as `widened` rounds them
    Other arguments as in DepthwiseNet32.
    Raises ValueError for an argument outside ARGUMENTS_VGG.
    Source: Courbariaux et al. 2015 (arXiv 1511.00363), section 3.3; Cai et al. 2017 (HWGQ, arXiv
        1702.00953), section 5.1. Theirs pools before BN, here behind the ReLU: the same where gamma
        is above 0, and BN folds into the convolution.
    """
    args = checked(ARGUMENTS_VGG, {"classes": classes, "channels": channels, "width": width,
                                   "resolution": resolution, "hidden": hidden,
                                   "normalize": normalize})
    named, c = [], channels
    for i in range(6):
        out = widened(128 << i // 2, width)
        named += [(f"conv{i + 1}", Conv2d(c, out, 3, padding=1, bias=False)),
                  (f"bn{i + 1}", BatchNorm2d(out)), (f"relu{i + 1}", ReLU())]
        named += [(f"pool{i // 2 + 1}", MaxPool2d(2))] * (i % 2)
        c = out
    named.append(("flatten", Flatten()))
    c *= (resolution // 8)**2
    for i in range(7, 7 + hidden):
        out = widened(1024, width)
        named += [(f"fc{i}", Linear(c, out, bias=False)), (f"bn{i}", BatchNorm1d(out)),
                  (f"relu{i}", ReLU())]
        c = out
    nodes = chained(normalize, *named, ("fc", Linear(c, classes)), ("bn", BatchNorm1d(classes)))
    return built_in("vggsmall", args, nodes, (channels, resolution), rng)


def _pooled(n: int) -> int:
    # The side of a map of side n behind AlexNet's three poolings.
    for _ in range(3):
        n = (n - 3) // 2 + 1
    return n
