"""XNOR-Net on MNIST (Rastegari, Ordonez, Redmon & Farhadi 2016, arXiv 1603.05279): binary weights
with a scale a filter (BWN), and binary inputs without and with the scales K of eq. (11).

The paper has no row on MNIST. Of AlexNet it says that K is worth less than 1 % of accuracy, and the
authors' code leaves K out. Ours is Caffe's LeNet-5 with batch norm, `BinaryLeNet5`; the second
convolution and the first linear layer have weights of one bit, the first and the last layer stay
floats, as in the paper. A float net is trained, each technique goes on with it. All see images
shifted by up to a pixel; the learning rate was chosen of two for inputs of signs, 3 epochs of 6,000
images, on the 5,000 that are held out. Errors are of the .mcz file, counted by a fresh process.
"""

from __future__ import annotations

from ..compress.binary.xnor_net import XNORNet
from ..compress.finetune import FineTune
from ..models.papers import BinaryLeNet5
from .files import Files
from .table import Paper

HOW = {"epochs": 6, "optimizer": "adam", "lr": 3e-3, "shift": 1, "schedule": "exponential"}
REAL = {"*": False, "conv1": True, "fc2": True}
FLOATS = FineTune(**HOW | {"epochs": 4, "lr": 1e-3})
TECHNIQUES = {inputs: XNORNet(inputs=inputs, real=REAL).training(**HOW)
              for inputs in ("real", "signs", "scaled")}
GOAL = 1.5  # percent


def run(data, *, seeds, log, n_threads, out) -> list[dict]:
    """Returns rows: floats, BWN, and signs for inputs without and with K."""
    files = Files(data, out, "xnor")
    files.note_from_floats(lambda rng: BinaryLeNet5(normalize=data.normalize, rng=rng), FLOATS,
                           TECHNIQUES, seeds=seeds, log=log, n_threads=n_threads)
    return table(files)


def table(files: Files) -> list[dict]:
    """Returns the rows of what files say."""
    return [files.row(title, "no row", files.rate(kind) <= GOAL, kind) for kind, title in (
        ("floats", "floats"), ("real", "BWN: weights of one bit, inputs real"),
        ("signs", "XNOR-Net, inputs signs, without K"),
        ("scaled", "XNOR-Net, inputs signs, with K, a step of floats"))]


PAPER = Paper("xnor2016", "XNOR-Net: LeNet-5 of binary weights and inputs on MNIST (Rastegari et "
              "al. 2016)", "mnist", "10 minutes a seed", run,
              f"no row of the paper is of MNIST; met is a goal of {GOAL} %; bytes are of a .mcz "
              "file that a fresh process decodes")
