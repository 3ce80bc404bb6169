"""ResNets for small images: three stages of basic blocks.

Source: He, Zhang, Ren & Sun 2016 (arXiv 1512.03385), section 4.2
"""

from __future__ import annotations

import numpy as np

from ..nn.graph import Model, Node, chain
from ..nn.layers import Add, AdaptiveAvgPool2d, BatchNorm2d, Conv2d, Flatten, Linear, ReLU
from ..nn.layers.normalize import Statistics
from .arguments import Argument, built_in, chained, checked, of_images, widened

ARGUMENTS = of_images(1.0, most=4.0) | {"blocks": Argument(3, 1, 9)}


def ResNet20(*, classes: int = 10, channels: int = 3, resolution: int = 32, width: float = 1.0,
             blocks: int = 3, normalize: Statistics | None = None,
             rng: np.random.Generator | None = None) -> Model:
    """Returns the ResNet of 6 blocks + 2 layers: ResNet-20 has 272,474 parameters and 40,813,184
    MACs.

    A 3 x 3 stem of 16 maps, stages of 16, 32 and 64, global average pooling, one dense layer; nodes
    are named as torchvision names the modules of its ResNets.
    blocks : of each stage; 1, 3, 4, 5, 7, 9 are ResNet-8, 20, 26, 32, 44, 56
    width : times the channels, as `widened` rounds them
    Other arguments as in DepthwiseNet32.
    Raises ValueError for an argument outside ARGUMENTS.
    The paper leads a block's input past it as every second pixel with maps of zeros behind (option
    A, 269,722 parameters); here a 1 x 1 convolution with BN does where shapes differ (option B).
    """
    args = checked(ARGUMENTS, {"classes": classes, "channels": channels, "width": width,
                               "resolution": resolution, "blocks": blocks, "normalize": normalize})
    c = widened(16, width)
    nodes = chained(normalize, *_convolved("conv1", "bn1", channels, c, 1), ("relu", ReLU()))
    for stage in range(3):
        out = widened(16 << stage, width)
        for i in range(blocks):
            stride = 2 if stage and not i else 1
            nodes += basic_block(f"layer{stage + 1}.{i}", c, out, stride, nodes[-1].name)
            c = out
    tail = (("avgpool", AdaptiveAvgPool2d(1)), ("flatten", Flatten()), ("fc", Linear(c, classes)))
    nodes += chain(*tail, source=nodes[-1].name)
    return built_in("resnet20", args, nodes, (channels, resolution), rng)


def basic_block(name: str, channels: int, out: int, stride: int, source: str) -> tuple[Node, ...]:
    """Returns the nodes of a block: twice 3 x 3 + BN, a ReLU between them, one behind the sum with
    the input, which a 1 x 1 of `stride` + BN leads past where the shapes differ.

    source : the node that it reads
    Source: He et al. 2016, figure 2 and equations (1), (2)
    """
    nodes = chain(*_convolved(f"{name}.conv1", f"{name}.bn1", channels, out, stride),
                  (f"{name}.relu1", ReLU()),
                  *_convolved(f"{name}.conv2", f"{name}.bn2", out, out, 1), source=source)
    ends = [nodes[-1].name, source]
    if stride > 1 or channels != out:
        past = chain((f"{name}.downsample.0", Conv2d(channels, out, 1, stride=stride, bias=False)),
                     (f"{name}.downsample.1", BatchNorm2d(out)), source=source)
        nodes, ends[1] = nodes + past, past[-1].name
    return nodes + (Node(f"{name}.add", Add(), tuple(ends)),
                    Node(f"{name}.relu2", ReLU(), (f"{name}.add",)))


def _convolved(conv: str, norm: str, channels: int, out: int,
               stride: int) -> list[tuple[str, object]]:
    return [(conv, Conv2d(channels, out, 3, stride=stride, padding=1, bias=False)),
            (norm, BatchNorm2d(out))]
