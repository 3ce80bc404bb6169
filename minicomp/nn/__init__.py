"""Networks as data: forms, layers, the model graph, losses and initial weights."""

from .forms import (AdditivePowers, Affine, BFloat16, Binary, Codebook, Dense, FixedPoint, Form,
                    Half, Hashed, Powers, Segments, Ternary, Wavelet)
from .graph import Model, Node, chain
from .layers import (ActQuant, ActThreshold, ActTopK, AdaptiveAvgPool2d, Add, AvgPool2d,
                     BatchNorm1d, BatchNorm2d, ChannelShuffle, ClipChannels, Concat, Conv2d,
                     ConvBN2d, Dropout, Flatten, Identity, Layer, Linear, MaxPool2d, Normalize,
                     ReLU, ReLU6, ShiftBatchNorm1d, ShiftBatchNorm2d, Sigmoid, Sign, Tanh)
from .losses import cross_entropy, huber, l1, l2, mse, squared_hinge

__all__ = ["ActQuant", "ActThreshold", "ActTopK", "AdaptiveAvgPool2d", "Add", "AdditivePowers",
           "Affine", "AvgPool2d", "BFloat16", "BatchNorm1d", "BatchNorm2d", "Binary",
           "ChannelShuffle", "ClipChannels", "Codebook", "Concat", "Conv2d", "ConvBN2d", "Dense",
           "Dropout", "FixedPoint", "Flatten", "Form", "Half", "Hashed", "Identity", "Layer",
           "Linear", "MaxPool2d", "Model", "Node", "Normalize", "Powers", "ReLU", "ReLU6",
           "Segments", "ShiftBatchNorm1d", "ShiftBatchNorm2d", "Sigmoid", "Sign", "Tanh", "Ternary",
           "Wavelet", "chain", "cross_entropy", "huber", "l1", "l2", "mse", "squared_hinge"]
