"""LeNets: the two nets of most compression papers, and the one for which they are mistaken.

The LeNet-5 of the papers is Caffe's 20-50-500-10 with no ReLU after the convolutions, 431,080
parameters; LeCun's 6-16-120-84-10 of 1998 has 61,706 and pads its 28 x 28 input to 32 x 32.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..nn.graph import Model, chain
from ..nn.init import initialise
from ..nn.layers import Conv2d, Flatten, Linear, MaxPool2d, ReLU
from ..nn.layers.normalize import Statistics
from .arguments import (CHANNELS, CLASSES, NORMALIZE, Argument, Normalization, chained,
                        checked)

Rng = np.random.Generator
SIZE = Argument(1, 1, 2**20)  # of a layer of an MLP
MOST_WEIGHTS = 2**28  # of an MLP: 1 GiB
ARGUMENTS: dict[str, Argument | Normalization] = {
    "classes": CLASSES, "channels": CHANNELS, "normalize": NORMALIZE}


def LeNet300(*, classes: int = 10, channels: int = 1, normalize: Statistics | None = None,
             rng: Rng | None = None) -> Model:
    """Returns LeNet-300-100: 784-300-100-10 with ReLU, 266,610 parameters, 266,200 MACs.

    x (N, 1, 28, 28)
    classes, channels : outputs, and channels of the input; ValueError outside ARGUMENTS
    normalize : what a first node `Normalize` does to pixels in 0..1, such as `Dataset.normalize`;
        None: the net has no such node
    rng : draws the weights (LeCun uniform, biases 0); None leaves them 0, for a file to fill
    Source: LeCun et al. 1998 in the form of Han et al. 2015 (arXiv 1506.02626), table 3
    """
    args = checked(ARGUMENTS, {"classes": classes, "channels": channels, "normalize": normalize})
    nodes = chained(normalize, ("flatten", Flatten()), ("fc1", Linear(784 * channels, 300)),
                    ("relu1", ReLU()), ("fc2", Linear(300, 100)), ("relu2", ReLU()),
                    ("fc3", Linear(100, classes)))
    return _built_in("lenet300", args, nodes, channels, rng)


def LeNet5(*, classes: int = 10, channels: int = 1, normalize: Statistics | None = None,
           rng: Rng | None = None) -> Model:
    """Returns Caffe's LeNet-5: conv 20, pool, conv 50, pool, 500, ReLU, 10.

    431,080 parameters, 2,293,000 MACs; x (N, 1, 28, 28); kernels 5 x 5, max-pooling 2 x 2, no ReLU
    after the convolutions; arguments as in LeNet300
    Source: Caffe's lenet_train_test.prototxt, the net of Han et al. 2015, table 4
    """
    args = checked(ARGUMENTS, {"classes": classes, "channels": channels, "normalize": normalize})
    nodes = chained(normalize, ("conv1", Conv2d(channels, 20, 5)), ("pool1", MaxPool2d(2)),
                    ("conv2", Conv2d(20, 50, 5)), ("pool2", MaxPool2d(2)), ("flatten", Flatten()),
                    ("fc1", Linear(800, 500)), ("relu1", ReLU()), ("fc2", Linear(500, classes)))
    return _built_in("lenet5", args, nodes, channels, rng)


def LeNet5Classic(*, classes: int = 10, channels: int = 1, normalize: Statistics | None = None,
                  rng: Rng | None = None) -> Model:
    """Returns the 6-16-120-84-10 net with ReLU and max-pooling: 61,706 parameters, 416,520 MACs.

    x (N, 1, 28, 28), padded by 2; arguments as in LeNet300
    Source: LeCun et al. 1998, figure 2
    """
    args = checked(ARGUMENTS, {"classes": classes, "channels": channels, "normalize": normalize})
    nodes = chained(normalize, ("conv1", Conv2d(channels, 6, 5, padding=2)), ("relu1", ReLU()),
                    ("pool1", MaxPool2d(2)), ("conv2", Conv2d(6, 16, 5)), ("relu2", ReLU()),
                    ("pool2", MaxPool2d(2)), ("flatten", Flatten()), ("fc1", Linear(400, 120)),
                    ("relu3", ReLU()), ("fc2", Linear(120, 84)), ("relu4", ReLU()),
                    ("fc3", Linear(84, classes)))
    return _built_in("lenet5classic", args, nodes, channels, rng)


def MLP(sizes: Sequence[int], *, rng: Rng | None = None, activation=ReLU) -> Model:
    """Returns fully connected layers sizes[0]-...-sizes[-1] with `activation` between them.

    x (N, sizes[0])
    Raises ValueError for fewer than two sizes, one outside SIZE, or more than MOST_WEIGHTS weights.
    """
    if len(sizes) < 2:
        raise ValueError(f"sizes must name at least an input and an output, got {list(sizes)}")
    sizes = [SIZE.check("sizes", size) for size in sizes]
    if (weights := sum(a * b for a, b in zip(sizes, sizes[1:]))) > MOST_WEIGHTS:
        raise ValueError(f"sizes must make at most {MOST_WEIGHTS:,} weights, got {weights:,}")
    named = []
    for i, (a, b) in enumerate(zip(sizes, sizes[1:]), start=1):
        named += [(f"fc{i}", Linear(a, b)), (f"act{i}", activation())]
    model = Model(chain(*named[:-1]), input_shape=(sizes[0],))
    return model if rng is None else initialise(model, rng=rng)


def _built_in(name: str, args: dict, nodes: tuple, channels: int, rng: Rng | None) -> Model:
    model = Model(nodes, input_shape=(channels, 28, 28), builtin={"name": name, "args": args})
    return model if rng is None else initialise(model, rng=rng)
