"""Networks as data: forms, layers, the model graph, losses and initial weights."""

from .forms import (AdditivePowers, Affine, BFloat16, Binary, Circulant, Codebook, Dense,
                    Dictionary, FixedPoint, Form, Half, Hashed, Powers, Product, Seeded, Segments,
                    Ternary, Trellis, Wavelet)
from .graph import Model, Node, chain
from .layers import (ActQuant, ActThreshold, ActTopK, AdaptiveAvgPool2d, Add, AvgPool2d,
                     BatchNorm1d, BatchNorm2d, BinarySum, ChannelShuffle, ClipChannels, Concat,
                     Conv2d, ConvBN2d, CReLU, Dropout, Flatten, Identity, InputScale, Layer, Linear,
                     MaxPool2d, Normalize, ReLU, ReLU6, ShiftBatchNorm1d, ShiftBatchNorm2d, Sigmoid,
                     Sign, Tanh)
from .losses import cross_entropy, huber, l1, l2, mse, squared_hinge

__all__ = ["ActQuant", "ActThreshold", "ActTopK", "AdaptiveAvgPool2d", "Add", "AdditivePowers",
           "Affine", "AvgPool2d", "BFloat16", "BatchNorm1d", "BatchNorm2d", "Binary", "BinarySum",
           "ChannelShuffle", "Circulant", "ClipChannels", "Codebook", "Concat", "Conv2d",
           "ConvBN2d", "CReLU", "Dense", "Dictionary", "Dropout", "FixedPoint", "Flatten", "Form",
           "Half", "Hashed", "Identity", "InputScale", "Layer", "Linear", "MaxPool2d", "Model",
           "Node", "Normalize", "Powers", "Product", "ReLU", "ReLU6", "Seeded", "Segments",
           "ShiftBatchNorm1d", "ShiftBatchNorm2d", "Sigmoid", "Sign", "Tanh", "Ternary", "Trellis",
           "Wavelet", "chain", "cross_entropy", "huber", "l1", "l2", "mse", "squared_hinge"]
