"""LCNN on LeNet-5: accuracy against look-ups (Bagherinezhad, Rastegari & Farhadi 2017, arXiv
1611.06473), whose nets are AlexNet and ResNet-18 on ImageNet: no row of the paper is of LeNet-5.

conv2 and fc1, most of the weights and of the multiplications, take dictionaries; the others stay
floats. From one trained net, as many look-ups of a vector as SWEEP says, fine-tuned as
long in each row. What is counted are multiplications by look-ups of the whole net, passport's
effective MACs; milliseconds, one image, are of the program, beside the dense one's in `ms_dense`:
layers as small as these it multiplies dense (deploy/choose.py); `minicomp bench look-ups` has large
ones.
The dictionaries' sizes and the learning rate are first guesses, not searched; 5,000 images are held
out. Errors are of the .mcz file, counted by a fresh process.
"""

from __future__ import annotations

import numpy as np

from ..compress.finetune import FineTune
from ..compress.share.lcnn import LCNN
from ..compress.technique import Run
from ..models import LeNet5
from ..nn.graph import Model
from ..passport import passport
from .files import Files
from .table import Paper

FLOATS = FineTune(epochs=6, lr=0.02)
HOW = {"epochs": 8, "lr": 0.01}
ATOMS = {"conv2": 10, "fc1": 40}
SWEEP = (1, 2, 3, 5)
REAL = {"*": True} | dict.fromkeys(ATOMS, False)
POINTS, PART = 0.3, 0.5  # what two look-ups may cost of accuracy, and take of multiplications


def made(net: Model, lookups: int, data, run: Run) -> Model:
    """Returns a trained net with so many look-ups of a vector.   data : without test"""
    return LCNN(atoms=ATOMS, lookups=lookups, real=REAL).training(**HOW).apply(net, data, run)


def run(data, *, seeds, log, n_threads, out) -> list[dict]:
    """Returns rows: the float net, and one for each number of look-ups."""
    files, given, nets = Files(data, out, "lcnn2017"), data.without_test(), {}
    for seed in seeds:
        init, *streams = np.random.default_rng(seed).spawn(2 + len(SWEEP))
        runs = [Run(rng, log, None, n_threads) for rng in streams]
        floats = FLOATS.apply(LeNet5(normalize=data.normalize, rng=init), given, runs[0])
        nets["floats"] = floats
        files.note("floats", floats, seed, floats)
        for lookups, each in zip(SWEEP, runs[1:], strict=True):
            nets[f"{lookups} look-ups"] = made(floats, lookups, given, each)
            files.note(f"{lookups} look-ups", nets[f"{lookups} look-ups"], seed, floats)
    return table(files, {kind: cost(net) for kind, net in nets.items()})


def cost(model: Model) -> dict:
    """Returns multiplications by look-ups, and milliseconds of an image, with and without them."""
    measured = passport(model)
    return {"macs": measured.effective_macs, "ms": measured.ms, "ms_dense": measured.ms_dense}


def table(files: Files, costs: dict[str, dict]) -> list[dict]:
    """Returns the rows of what files say.   costs : of `cost`, by kind"""
    rows, whole = [], costs["floats"]["macs"]
    for kind, known in costs.items():
        part = known["macs"] / whole
        met = kind != "2 look-ups" or part <= PART and (
            files.rate(kind) <= files.rate("floats") + POINTS)
        row = files.row(kind, "no row", met, kind) | known
        row["ours"] += f"; {known['macs']:,} multiplications, {whole / known['macs']:.1f} x fewer"
        rows.append(row)
    return rows


PAPER = Paper("lcnn2017", "LCNN: LeNet-5 on MNIST, accuracy against look-ups (Bagherinezhad et al. "
              "2017)", "mnist", "8 minutes a seed", run,
              "no row of the paper is of LeNet-5; met: two look-ups of a vector take half of the "
              "multiplications at most and cost at most 0.3 points; bytes are of a .mcz file that "
              "a fresh process decodes")
