"""Depthwise separable networks: a 3 x 3 filter per channel, then 1 x 1 across channels.

Source: Howard et al. 2017 (arXiv 1704.04861); Sandler et al. 2018 (arXiv 1801.04381)
"""

from __future__ import annotations

import numpy as np

from ..nn.graph import Model, Node, chain
from ..nn.layers import Add, AdaptiveAvgPool2d, BatchNorm2d, Conv2d, Flatten, Linear, ReLU6
from ..nn.layers.normalize import Statistics
from .arguments import LEAST_REDUCED, built_in, chained, checked, of_images, widened

ARGUMENTS = of_images(1.0, most=4.0)
ARGUMENTS_V1, ARGUMENTS_V2 = of_images(0.25, most=2.0), of_images(1.0, most=2.0)
# Channels and stride of each block of V1: the paper's table 1, whose last stride of 2 is 1.
SEPARABLES = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1), (512, 1),
              (512, 1), (512, 1), (512, 1), (1024, 2), (1024, 1))
# Expansion t, channels c, blocks n, stride s of the first of them: the paper's table 2.
BOTTLENECKS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1),
               (6, 160, 3, 2), (6, 320, 1, 1))


def separable(name: str, channels: int, out: int, stride: int) -> list[tuple[str, object]]:
    """Returns depthwise 3 x 3 + BN + ReLU6, pointwise 1 x 1 + BN + ReLU6, as named layers."""
    depthwise = Conv2d(channels, channels, 3, stride=stride, padding=1, groups=channels, bias=False)
    pointwise = Conv2d(channels, out, 1, bias=False)
    return [(f"{name}.dw", depthwise), (f"{name}.dw_bn", BatchNorm2d(channels)),
            (f"{name}.dw_relu", ReLU6()), (f"{name}.pw", pointwise),
            (f"{name}.pw_bn", BatchNorm2d(out)), (f"{name}.pw_relu", ReLU6())]


def DepthwiseNet32(*, classes: int = 10, channels: int = 3, resolution: int = 32,
                   width: float = 1.0, normalize: Statistics | None = None,
                   rng: np.random.Generator | None = None) -> Model:
    """Returns a small depthwise separable net: 3 -> 32 -> 64 -> 128 -> 128 -> 10; x (N, 3, 32, 32).

    A 3 x 3 stem of stride 2, three separable blocks with BN and ReLU6 (the last two of stride 2 and
    1), a residual add around the last, global average pooling; at most 4 MMAC.
    classes : outputs        channels, resolution : of the input
    width : times 32, 64 and 128, as `widened` rounds it
    normalize : what a first node `Normalize` does to pixels in 0..1, or None, as in LeNet300
    rng : draws the weights (He normal); None leaves them 0
    Raises ValueError for an argument outside ARGUMENTS.
    """
    args = checked(ARGUMENTS, {"classes": classes, "channels": channels, "width": width,
                               "resolution": resolution, "normalize": normalize})
    a, b, c = (widened(n, width) for n in (32, 64, 128))
    nodes = chained(normalize,
                    ("stem", Conv2d(channels, a, 3, stride=2, padding=1, bias=False)),
                    ("stem_bn", BatchNorm2d(a)), ("stem_relu", ReLU6()),
                    *separable("block1", a, b, 1), *separable("block2", b, c, 2),
                    *separable("block3", c, c, 1))
    tail = [Node("add", Add(), ("block2.pw_relu", "block3.pw_relu")),
            Node("pool", AdaptiveAvgPool2d(1), ("add",)), Node("flatten", Flatten(), ("pool",)),
            Node("fc", Linear(c, classes), ("flatten",))]
    return built_in("depthwise32", args, nodes + tuple(tail), (channels, resolution), rng)


def MobileNetV1(*, classes: int = 10, channels: int = 3, resolution: int = 32,
                width: float = 0.25, normalize: Statistics | None = None,
                rng: np.random.Generator | None = None) -> Model:
    """Returns MobileNet: 4,231,976 parameters and 568,740,352 MACs at 1000 classes, 224 x 224 and
    width 1.

    A 3 x 3 stem, 13 separable blocks with BN and ReLU6 as in the authors' code, global average
    pooling, one dense layer.
    resolution : below 96 the stem and the first stride of the blocks keep the map's size, so that
        32 x 32 ends as 4 x 4
    width : times the channels, as `widened` rounds them; the published ones are 1, 0.75, 0.5, 0.25
    Other arguments as in DepthwiseNet32.
    Raises ValueError for an argument outside ARGUMENTS_V1.
    Source: Howard et al. 2017 (arXiv 1704.04861), table 1
    """
    args = checked(ARGUMENTS_V1, {"classes": classes, "channels": channels, "width": width,
                                  "resolution": resolution, "normalize": normalize})
    first = 1 if resolution < LEAST_REDUCED else 2
    c = widened(32, width)
    named = [("stem", Conv2d(channels, c, 3, stride=first, padding=1, bias=False)),
             ("stem_bn", BatchNorm2d(c)), ("stem_relu", ReLU6())]
    for i, (out, stride) in enumerate(SEPARABLES, start=1):
        out, stride = widened(out, width), first if i == 2 else stride
        named += separable(f"block{i}", c, out, stride)
        c = out
    nodes = chained(normalize, *named, ("pool", AdaptiveAvgPool2d(1)), ("flatten", Flatten()),
                    ("fc", Linear(c, classes)))
    return built_in("mobilenetv1", args, nodes, (channels, resolution), rng)


def MobileNetV2(*, classes: int = 10, channels: int = 3, resolution: int = 32, width: float = 1.0,
                normalize: Statistics | None = None,
                rng: np.random.Generator | None = None) -> Model:
    """Returns MobileNetV2: 3,504,872 parameters and 300,774,272 MACs at 1000 classes, 224 x 224.

    A 3 x 3 stem, 17 inverted residual blocks, 1 x 1 to 1280 channels, global average pooling, one
    dense layer. Nodes are named as torchvision names its modules, so that a state_dict of
    torchvision's fits as it is; there is no dropout, of which the paper says nothing.
    resolution : below 96 the stem and the first stride of the blocks keep the map's size, so that
        32 x 32 ends as 4 x 4 (88 MMAC)
    width : times the channels, as `widened` rounds them; the last 1280 never become fewer
    Other arguments as in DepthwiseNet32, width at most 2.
    Raises ValueError for an argument outside ARGUMENTS_V2.
    Source: Sandler et al. 2018 (arXiv 1801.04381), tables 1 and 2, section 6.1
    """
    args = checked(ARGUMENTS_V2, {"classes": classes, "channels": channels, "width": width,
                                  "resolution": resolution, "normalize": normalize})
    first = 1 if resolution < LEAST_REDUCED else 2
    c, last = widened(32, width), widened(1280, max(width, 1.0))
    nodes = chained(normalize, *_convolved("features.0", channels, c, 3, first))
    for i, (t, out, stride) in enumerate(_blocks(width, first), start=1):
        nodes += inverted_residual(f"features.{i}", c, out, stride, t, nodes[-1].name)
        c = out
    tail = (*_convolved("features.18", c, last, 1, 1), ("pool", AdaptiveAvgPool2d(1)),
            ("flatten", Flatten()), ("classifier.1", Linear(last, classes)))
    nodes += chain(*tail, source=nodes[-1].name)
    return built_in("mobilenetv2", args, nodes, (channels, resolution), rng)


def inverted_residual(name: str, channels: int, out: int, stride: int, expansion: int,
                      source: str) -> tuple[Node, ...]:
    """Returns the nodes of a block: 1 x 1 to `expansion` times the channels (where that is not 1),
    depthwise 3 x 3, each + BN + ReLU6, then 1 x 1 + BN, linear; and, where input and output are of
    one shape, their sum.

    source : the node that it reads
    Source: Sandler et al. 2018, table 1 and figure 4 (d)
    """
    inner, named, i = expansion * channels, [], 0
    if expansion > 1:
        named, i = _convolved(f"{name}.conv.0", channels, inner, 1, 1), 1
    named += _convolved(f"{name}.conv.{i}", inner, inner, 3, stride, groups=inner)
    named += [(f"{name}.conv.{i + 1}", Conv2d(inner, out, 1, bias=False)),
              (f"{name}.conv.{i + 2}", BatchNorm2d(out))]
    nodes = chain(*named, source=source)
    if stride == 1 and channels == out:
        nodes += (Node(f"{name}.add", Add(), (source, nodes[-1].name)),)
    return nodes


def _blocks(width: float, first: int) -> list[tuple[int, int, int]]:
    # (expansion, channels, stride) of each of the 17; `first` replaces the first stride of 2
    blocks = [(t, widened(c, width), s if i == 0 else 1)
              for t, c, n, s in BOTTLENECKS for i in range(n)]
    t, c, _ = blocks[1]
    blocks[1] = t, c, first
    return blocks


def _convolved(name: str, channels: int, out: int, kernel: int, stride: int, *,
               groups: int = 1) -> list[tuple[str, object]]:
    # A convolution that keeps the map's size but for its stride, + BN + ReLU6.
    conv = Conv2d(channels, out, kernel, stride=stride, padding=kernel // 2, groups=groups,
                  bias=False)
    return [(f"{name}.0", conv), (f"{name}.1", BatchNorm2d(out)), (f"{name}.2", ReLU6())]
