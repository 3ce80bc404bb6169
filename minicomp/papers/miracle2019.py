"""MIRACLE's rows of LeNet-5 (Havasi, Peharz & Hernandez-Lobato 2019, arXiv 1810.00440): the
smallest file 1110x, 1.52 kB, at 0.96 %, the most exact one 555x, 3.03 kB, at 0.69 %. It has no row
of LeNet-300-100; ours stands without one.

The paper shares weights by hashing before it draws them, and sends blocks with many steps of
training between; ours sends over half of a training that a table of a quarter of an hour has room
for. The file holds numbers of samples, a scale and a seed a layer, and biases of 3 bits.
"""

from __future__ import annotations

from ..compress.bayes.miracle import Miracle
from ..compress.finetune import FineTune
from .records import Record, paper

HOW = {"optimizer": "adam", "lr": 1e-3, "batch_size": 128, "shift": 1}
RATES = {"lenet300": {"fc1": 0.25, "fc2": 0.35, "fc3": 1.0},
         "lenet5": {"conv1": 0.8, "conv2": 0.1, "fc1": 0.014, "fc2": 0.14}}


def coded(net: str, epochs: int) -> Miracle:
    """Returns the technique for a net, so many epochs."""
    return Miracle(train=FineTune(epochs=epochs, **HOW), rate=RATES[net], bias_bits=3)


PAPER = paper(
    "miracle2019", "MIRACLE: LeNets on MNIST (Havasi et al. 2019)", "15 minutes a seed",
    [Record("lenet300", coded("lenet300", 40), 100, 2.0, said="no row; ours: 100x at 2 %"),
     Record("lenet5", coded("lenet5", 18), 1110, 0.96, said="1.52 kB")],
    "the paper counts bytes of its code")
