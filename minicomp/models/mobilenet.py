"""Depthwise separable networks: a 3 x 3 filter per channel, then 1 x 1 across channels.

Source: Howard et al. 2017 (arXiv 1704.04861)
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..nn.forms import Dense
from ..nn.graph import Model, Node
from ..nn.init import he_normal
from ..nn.layers import Add, AdaptiveAvgPool2d, BatchNorm2d, Conv2d, Flatten, Linear, ReLU6
from ..nn.layers.normalize import Statistics
from .arguments import (CHANNELS, CLASSES, NORMALIZE, RESOLUTION, WIDTH, Argument,
                        Normalization, chained, checked,
                        widened)

ARGUMENTS: dict[str, Argument | Normalization] = {
    "classes": CLASSES, "channels": replace(CHANNELS, default=3), "resolution": RESOLUTION,
    "width": WIDTH, "normalize": NORMALIZE}


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
    args = checked(ARGUMENTS, {"classes": classes, "channels": channels,
                               "resolution": resolution, "width": width,
                               "normalize": normalize})
    a, b, c = (widened(n, width) for n in (32, 64, 128))
    nodes = chained(normalize,
                    ("stem", Conv2d(channels, a, 3, stride=2, padding=1, bias=False)),
                    ("stem_bn", BatchNorm2d(a)), ("stem_relu", ReLU6()),
                    *separable("block1", a, b, 1), *separable("block2", b, c, 2),
                    *separable("block3", c, c, 1))
    tail = [Node("add", Add(), ("block2.pw_relu", "block3.pw_relu")),
            Node("pool", AdaptiveAvgPool2d(1), ("add",)), Node("flatten", Flatten(), ("pool",)),
            Node("fc", Linear(c, classes), ("flatten",))]
    model = Model(nodes + tuple(tail), input_shape=(channels, resolution, resolution),
                  builtin={"name": "depthwise32", "args": args})
    if rng is not None:
        for name, form in model.forms().items():
            if len(form.shape) > 1:
                model.set_form(name, Dense(he_normal(form.shape, rng=rng)))
    return model
