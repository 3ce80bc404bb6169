"""Xception: depthwise separable convolutions in blocks with a residual around each.

Source: Chollet 2017 (arXiv 1610.02357)
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..nn.graph import Model, Node, chain
from ..nn.layers import (Add, AdaptiveAvgPool2d, BatchNorm2d, Conv2d, Flatten, Linear, MaxPool2d,
                         ReLU)
from ..nn.layers.normalize import Statistics
from .arguments import (LEAST_REDUCED, RESOLUTION, built_in, chained, checked, of_images, widened)

ARGUMENTS = of_images(0.125) | {"resolution": replace(RESOLUTION, hi=299)}
# Channels of the separable convolutions of the blocks that halve the map: entry and exit flow.
ENTRY, EXIT = ((128, 128), (256, 256), (728, 728)), (728, 1024)
MIDDLE = 8  # blocks of the middle flow


def Xception(*, classes: int = 10, channels: int = 3, resolution: int = 32, width: float = 0.125,
             normalize: Statistics | None = None,
             rng: np.random.Generator | None = None) -> Model:
    """Returns Xception: 22,855,952 parameters and 8,357,403,496 MACs at 1000 classes, 299 x 299 and
    width 1.

    Two 3 x 3 convolutions, 12 blocks of separable ones with a residual around each, two separable
    ones, global average pooling, one dense layer; BN behind each 1 x 1, not behind a depthwise one.
    resolution : 8 to 299; below 96 the stem keeps the map's size, so that 32 x 32 ends as 2 x 2
    width : times the channels, as `widened` rounds them
    Other arguments as in DepthwiseNet32.
    Raises ValueError for an argument outside ARGUMENTS.
    Source: Chollet 2017, figure 5; in the authors' Keras the pooling of an even map pads its end
        alone, here both sides: as many windows, a pixel apart
    """
    args = checked(ARGUMENTS, {"classes": classes, "channels": channels, "width": width,
                               "resolution": resolution, "normalize": normalize})
    small, (a, c) = resolution < LEAST_REDUCED, (widened(n, width) for n in (32, 64))
    stem = Conv2d(channels, a, 3, stride=1 if small else 2, padding=int(small), bias=False)
    nodes = chained(normalize, ("conv1", stem), ("conv1_bn", BatchNorm2d(a)),
                    ("conv1_relu", ReLU()),
                    ("conv2", Conv2d(a, c, 3, padding=int(small), bias=False)),
                    ("conv2_bn", BatchNorm2d(c)), ("conv2_relu", ReLU()))
    blocks = [(outs, 2) for outs in ENTRY] + [((728,) * 3, 1)] * MIDDLE + [(EXIT, 2)]
    for i, (outs, stride) in enumerate(blocks, start=1):
        outs = [widened(out, width) for out in outs]
        # the ReLU before the first block would be the second
        nodes += block(f"block{i}", c, outs, stride, nodes[-1].name, first_relu=i > 1)
        c = outs[-1]
    d, last = (widened(n, width) for n in (1536, 2048))
    nodes += chain(*separable("sep1", c, d), ("sep1.relu", ReLU()), *separable("sep2", d, last),
                   ("sep2.relu", ReLU()), ("pool", AdaptiveAvgPool2d(1)), ("flatten", Flatten()),
                   ("fc", Linear(last, classes)), source=nodes[-1].name)
    return built_in("xception", args, nodes, (channels, resolution), rng)


def separable(name: str, channels: int, out: int) -> list[tuple[str, object]]:
    """Returns depthwise 3 x 3, pointwise 1 x 1, BN, as named layers; nothing bends between them.

    Source: Chollet 2017, section 4.7: an activation between the two costs accuracy
    """
    depthwise = Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
    return [(f"{name}.dw", depthwise), (f"{name}.pw", Conv2d(channels, out, 1, bias=False)),
            (f"{name}.bn", BatchNorm2d(out))]


def block(name: str, channels: int, outs: list[int], stride: int, source: str, *,
          first_relu: bool = True) -> tuple[Node, ...]:
    """Returns the nodes of a block: separable convolutions to `outs`, a ReLU before each, with the
    input added; stride 2 ends the branch with max-pooling and leads the input past by 1 x 1 + BN.

    source : the node that it reads        first_relu : whether one stands before the first
    """
    named = []
    for i, out in enumerate(outs, start=1):
        named += [(f"{name}.relu{i}", ReLU())] * (first_relu or i > 1)
        named += separable(f"{name}.sep{i}", channels if i == 1 else outs[i - 2], out)
    past, end = (), source
    if stride > 1:
        named.append((f"{name}.pool", MaxPool2d(3, stride, padding=1)))
        short = Conv2d(channels, outs[-1], 1, stride=stride, bias=False)
        past = chain((f"{name}.short", short), (f"{name}.short_bn", BatchNorm2d(outs[-1])),
                     source=source)
        end = past[-1].name
    branch = chain(*named, source=source)
    return branch + past + (Node(f"{name}.add", Add(), (branch[-1].name, end)),)
