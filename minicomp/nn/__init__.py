"""Networks as data: forms, layers, the model graph, losses and initial weights."""

from .forms import Affine, Codebook, Dense, FixedPoint, Form, Half
from .graph import Model, Node, chain
from .layers import (ActQuant, ActThreshold, ActTopK, AdaptiveAvgPool2d, Add, AvgPool2d,
                     BatchNorm1d, BatchNorm2d, ChannelShuffle, ClipChannels, Concat, Conv2d,
                     Dropout, Flatten, Identity, Layer, Linear, MaxPool2d, Normalize, ReLU, ReLU6, Sigmoid, Tanh)
from .losses import cross_entropy, huber, l1, l2, mse, squared_hinge

__all__ = ["Affine", "FixedPoint", "ActQuant", "ActThreshold", "ActTopK", "AdaptiveAvgPool2d", "Add",
           "AvgPool2d", "BatchNorm1d", "BatchNorm2d", "ChannelShuffle", "ClipChannels", "Codebook",
           "Concat", "Conv2d", "Dense", "Dropout", "Flatten", "Form", "Half", "Identity", "Layer", "Linear", "MaxPool2d", "Model", "Node",
           "Normalize", "ReLU", "ReLU6", "Sigmoid", "Tanh", "chain", "cross_entropy", "huber", "l1",
           "l2", "mse", "squared_hinge"]
