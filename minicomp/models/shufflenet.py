"""ShuffleNet: 1 x 1 convolutions in groups, their channels shuffled so that groups mix.

Source: Zhang, Zhou, Lin & Sun 2018 (arXiv 1707.01083)
"""

from __future__ import annotations

import numpy as np

from ..nn.graph import Model, Node, chain
from ..nn.layers import (Add, AdaptiveAvgPool2d, AvgPool2d, BatchNorm2d, ChannelShuffle, Concat,
                         Conv2d, Flatten, Linear, MaxPool2d, ReLU)
from ..nn.layers.normalize import Statistics
from .arguments import LEAST_REDUCED, Argument, built_in, chained, checked, of_images, widened

# Channels of stage 2 by the number of groups, twice as many in each further stage: table 1.
CHANNELS_OF = {1: 144, 2: 200, 3: 240, 4: 272, 8: 384}
UNITS = (4, 8, 4)  # of stages 2, 3, 4
ARGUMENTS = of_images(0.5, most=2.0) | {"groups": Argument(3, 1, 8, tuple(CHANNELS_OF))}


def ShuffleNet(*, classes: int = 10, channels: int = 3, resolution: int = 32, width: float = 0.5,
               groups: int = 3, normalize: Statistics | None = None,
               rng: np.random.Generator | None = None) -> Model:
    """Returns ShuffleNet V1: 1,865,728 parameters and 137,460,672 MACs at 1000 classes, 224 x 224,
    3 groups and width 1; the paper's 137 M leave out the dense layer.

    A 3 x 3 stem, max-pooling, three stages of 4, 8, 4 units, global average pooling, one dense
    layer.
    groups : of the 1 x 1 convolutions, 1, 2, 3, 4 or 8
    resolution : below 96 the stem keeps the map's size and no max-pooling follows, so that 32 x 32
        ends as 4 x 4
    width : times the channels, the paper's s, as `widened` rounds them, to multiples of the groups
    Other arguments as in DepthwiseNet32.
    Raises ValueError for an argument outside ARGUMENTS.
    Source: Zhang et al. 2018, table 1
    """
    args = checked(ARGUMENTS, {"classes": classes, "channels": channels, "width": width,
                               "resolution": resolution, "groups": groups, "normalize": normalize})
    small, c = resolution < LEAST_REDUCED, widened(24, width, of=groups)
    stem = Conv2d(channels, c, 3, stride=1 if small else 2, padding=1, bias=False)
    pool = () if small else (("stem_pool", MaxPool2d(3, 2, padding=1)),)
    nodes = chained(normalize, ("stem", stem), ("stem_bn", BatchNorm2d(c)),
                    ("stem_relu", ReLU()), *pool)
    for stage, units in enumerate(UNITS, start=2):
        # of 4 groups: the bottleneck has a quarter of the channels
        out = widened(CHANNELS_OF[groups], width, of=4 * groups) << (stage - 2)
        for i in range(units):
            first = 1 if stage == 2 and not i else groups  # too few channels to be grouped
            nodes += unit(f"stage{stage}.{i}", c, out, (first, groups), nodes[-1].name)
            c = out
    nodes += chain(("pool", AdaptiveAvgPool2d(1)), ("flatten", Flatten()),
                   ("fc", Linear(c, classes)), source=nodes[-1].name)
    return built_in("shufflenet", args, nodes, (channels, resolution), rng)


def unit(name: str, channels: int, out: int, groups: tuple[int, int],
         source: str) -> tuple[Node, ...]:
    """Returns the nodes of a unit: 1 x 1 in groups to out / 4 + BN + ReLU, shuffle, depthwise 3 x 3
    + BN, 1 x 1 in groups + BN; then a sum with the input and a ReLU.

    Where channels differ, it halves the map, and the input's average of 3 x 3 pixels stands before
    the branch's channels in place of the sum.
    groups : of the first 1 x 1; and of the shuffle and the second        source : what it reads
    Source: Zhang et al. 2018, figure 2 (b), (c); its stage 2 has one group in the first 1 x 1
    """
    first, g = groups
    halves, inner = channels != out, out // 4
    made = out - channels if halves else out
    depthwise = Conv2d(inner, inner, 3, stride=2 if halves else 1, padding=1, groups=inner,
                       bias=False)
    nodes = chain((f"{name}.gconv1", Conv2d(channels, inner, 1, groups=first, bias=False)),
                  (f"{name}.bn1", BatchNorm2d(inner)), (f"{name}.relu1", ReLU()),
                  (f"{name}.shuffle", ChannelShuffle(g)), (f"{name}.dw", depthwise),
                  (f"{name}.bn2", BatchNorm2d(inner)),
                  (f"{name}.gconv2", Conv2d(inner, made, 1, groups=g, bias=False)),
                  (f"{name}.bn3", BatchNorm2d(made)), source=source)
    end = nodes[-1].name
    if halves:
        nodes += (Node(f"{name}.past", AvgPool2d(3, 2, padding=1), (source,)),
                  Node(f"{name}.joined", Concat(), (f"{name}.past", end)))
    else:
        nodes += (Node(f"{name}.joined", Add(), (source, end)),)
    return nodes + chain((f"{name}.relu2", ReLU()), source=f"{name}.joined")
