"""The layers by kind; a further one is a class in one of these files and its name here."""

from .base import Layer
from .binary import BinarySum, InputScale
from .normalize import Normalize
from .norms import BatchNorm1d, BatchNorm2d, ShiftBatchNorm1d, ShiftBatchNorm2d
from .pointwise import (ActThreshold, ActTopK, ClipChannels, Dropout, Identity, ReLU, ReLU6,
                        Sigmoid, Sign, Tanh)
from .pools import AdaptiveAvgPool2d, AvgPool2d, MaxPool2d
from .quantized import ActQuant, ConvBN2d
from .weighted import Conv2d, Linear
from .wiring import Add, ChannelShuffle, Concat, CReLU, Flatten

LAYERS: dict[str, type[Layer]] = {
    layer.kind: layer
    for layer in (
        Linear,
        Conv2d,
        Normalize,
        BatchNorm1d,
        BatchNorm2d,
        ReLU,
        ReLU6,
        Sigmoid,
        Tanh,
        MaxPool2d,
        AvgPool2d,
        AdaptiveAvgPool2d,
        Dropout,
        Flatten,
        Identity,
        Add,
        Concat,
        ChannelShuffle,
        ActThreshold,
        ActTopK,
        ActQuant,
        ClipChannels,
        ConvBN2d,
        Sign,
        ShiftBatchNorm1d,
        ShiftBatchNorm2d,
        InputScale,
        BinarySum,
        CReLU,
    )
}

__all__ = [
    "ActQuant",
    "ActThreshold",
    "ActTopK",
    "AdaptiveAvgPool2d",
    "Add",
    "AvgPool2d",
    "BatchNorm1d",
    "BatchNorm2d",
    "BinarySum",
    "CReLU",
    "ChannelShuffle",
    "ClipChannels",
    "Concat",
    "Conv2d",
    "ConvBN2d",
    "Dropout",
    "Flatten",
    "Identity",
    "InputScale",
    "LAYERS",
    "Layer",
    "Linear",
    "MaxPool2d",
    "Normalize",
    "ReLU",
    "ReLU6",
    "ShiftBatchNorm1d",
    "ShiftBatchNorm2d",
    "Sigmoid",
    "Sign",
    "Tanh",
]
