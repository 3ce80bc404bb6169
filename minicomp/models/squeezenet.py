"""SqueezeNet: AlexNet's accuracy with a fiftieth of its parameters, by fire modules.

Source: Iandola et al. 2016 (arXiv 1602.07360)
"""

from __future__ import annotations

import numpy as np

from ..nn.graph import Model, Node, chain
from ..nn.init import lecun_uniform
from ..nn.layers import AdaptiveAvgPool2d, Concat, Conv2d, Dropout, Flatten, MaxPool2d, ReLU
from ..nn.layers.normalize import Statistics
from .arguments import LEAST_REDUCED, built_in, chained, checked, of_images, widened

ARGUMENTS = of_images(0.5, most=2.0)
# By version: maps and kernel of the stem, and which of features.2 to 12 are poolings.
STEMS = {"1.0": (96, 7, (2, 6, 11)), "1.1": (64, 3, (2, 5, 8))}
# Maps of the 1 x 1 that squeezes, and of each of the two that expand, fire module by fire module.
FIRES = ((16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256))


def SqueezeNet10(*, classes: int = 10, channels: int = 3, resolution: int = 32, width: float = 0.5,
                 normalize: Statistics | None = None,
                 rng: np.random.Generator | None = None) -> Model:
    """Returns SqueezeNet 1.0: 1,248,424 parameters and 818,924,576 MACs at 1000 classes, 224 x 224
    and width 1.

    A 7 x 7 stem, eight fire modules, three max-poolings, no BN; a 1 x 1 convolution to the classes,
    whose ReLU and global average are the outputs. Nodes are named as torchvision names its modules,
    so that a state_dict of torchvision's fits.
    resolution : below 96 the stem keeps the map's size, so that 32 x 32 ends as 4 x 4
    width : times the maps, as `widened` rounds them
    Other arguments as in DepthwiseNet32.
    Raises ValueError for an argument outside ARGUMENTS.
    Source: Iandola et al. 2016, table 1
    """
    args = checked(ARGUMENTS, {"classes": classes, "channels": channels, "width": width,
                               "resolution": resolution, "normalize": normalize})
    nodes = _nodes("1.0", classes, channels, resolution, width, normalize)
    return _drawn(built_in("squeezenet1_0", args, nodes, (channels, resolution), rng), rng)


def SqueezeNet11(*, classes: int = 10, channels: int = 3, resolution: int = 32, width: float = 0.5,
                 normalize: Statistics | None = None,
                 rng: np.random.Generator | None = None) -> Model:
    """Returns SqueezeNet 1.1: 1,235,496 parameters and 349,151,936 MACs at 1000 classes, 224 x 224
    and width 1: a 3 x 3 stem and earlier poolings; the rest as in SqueezeNet10.

    Source: the authors' code, github.com/forresti/SqueezeNet, SqueezeNet_v1.1
    """
    args = checked(ARGUMENTS, {"classes": classes, "channels": channels, "width": width,
                               "resolution": resolution, "normalize": normalize})
    nodes = _nodes("1.1", classes, channels, resolution, width, normalize)
    return _drawn(built_in("squeezenet1_1", args, nodes, (channels, resolution), rng), rng)


def fire(name: str, channels: int, squeeze: int, expand: int, source: str) -> tuple[Node, ...]:
    """Returns the nodes of a fire module: 1 x 1 to `squeeze` maps, then 1 x 1 and 3 x 3 beside each
    other to `expand` each, a ReLU behind each, joined.

    source : the node that it reads
    Source: Iandola et al. 2016, section 3.2 and figure 1
    """
    head = chain((f"{name}.squeeze", Conv2d(channels, squeeze, 1)),
                 (f"{name}.squeeze_activation", ReLU()), source=source)
    wings = [chain((f"{name}.expand{k}x{k}", Conv2d(squeeze, expand, k, padding=k // 2)),
                   (f"{name}.expand{k}x{k}_activation", ReLU()), source=head[-1].name)
             for k in (1, 3)]
    return head + wings[0] + wings[1] + (
        Node(f"{name}.concat", Concat(), tuple(wing[-1].name for wing in wings)),)


def _drawn(model: Model, rng: np.random.Generator | None) -> Model:
    # The maps of the classes are averaged: drawn as He does, they make outputs that are too large.
    if rng is not None:
        last = model.node("classifier.1").layer
        last.weight = lecun_uniform(last.weight.shape, rng=rng)
    return model


def _nodes(version: str, classes: int, channels: int, resolution: int, width: float,
           normalize: Statistics | None) -> tuple[Node, ...]:
    c, kernel, pools = STEMS[version]
    c, small = widened(c, width), resolution < LEAST_REDUCED
    stem = Conv2d(channels, c, kernel, stride=1 if small else 2, padding=kernel // 2 * small)
    nodes = chained(normalize, ("features.0", stem), ("features.1", ReLU()))
    fires = iter(FIRES)
    for i in range(2, 13):
        if i in pools:
            pool = MaxPool2d(3, 2, ceil_mode=True)
            nodes += chain((f"features.{i}", pool), source=nodes[-1].name)
            continue
        squeeze, expand = (widened(n, width) for n in next(fires))
        nodes += fire(f"features.{i}", c, squeeze, expand, nodes[-1].name)
        c = 2 * expand
    return nodes + chain(
        ("classifier.0", Dropout()), ("classifier.1", Conv2d(c, classes, 1)),
        ("classifier.2", ReLU()), ("classifier.3", AdaptiveAvgPool2d(1)), ("flatten", Flatten()),
        source=nodes[-1].name)
