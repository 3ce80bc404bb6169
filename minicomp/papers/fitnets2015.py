"""A thin and deep student on MNIST (Romero et al. 2015, FitNets, arXiv 1412.6550, section 3.2).

Theirs has six convolutions of maxout and 8 % of its teacher's parameters; here it has eleven of 8
maps each with ReLU, 6,650 parameters in place of the 29,066 of a teacher of three convolutions, and
no batch norm: deep and thin, it is hard to train from labels alone. The teacher sees all training
images, shifted by up to two pixels, and has dropout; the student sees the first `IMAGES` of them as
they are, for as many epochs in each arm: those of FitNet's first stage are not on top.

The hint is what the teacher's second convolution says, 14 x 14 halved to 7 x 7; the guided layer is
the sixth of the student's eleven. T = 3 and lambda = 4, falling to 0, are the paper's; candidates
are the rate and, of KD alone, T and alpha. Errors are of the .mcz file, counted by a fresh process.
"""

from __future__ import annotations

from functools import partial

from ..models.papers import FitNet
from .distilling import Setting, difference, interval, seconds
from .journal import of_arm
from .table import Paper, mean, percent

IMAGES = 10_000
RATES = (0.003, 0.001)
HINT = {"relu2e": "relu2a"}  # the student's sixth activation, the teacher's second
SETTING = Setting(
    "thin", partial(FitNet, [(16,), (32,), (64,)], dropout=True),
    partial(FitNet, [(8,), (8,) * 5, (8,) * 5]),
    taught={"epochs": 8, "lr": 0.002, "optimizer": "adam", "batch_size": 128, "shift": 2},
    training={"epochs": 15, "optimizer": "adam", "batch_size": 64},
    arms={
        "plain": [{"lr": lr} for lr in RATES],
        "KD": [{"lr": lr, "methods": {"distill": {"T": T, "alpha": alpha}}}
               for lr in RATES for T, alpha in ((3.0, 0.8), (4.0, 0.9))],
        "FitNet": [{"lr": lr, "methods": {"fitnets": {"to": HINT, "stage": 0.2}}}
                   for lr in RATES],
    },
    short=4, images=IMAGES)
ARMS = ("teacher", *SETTING.arms)


def table(lines: list[dict]) -> list[dict]:
    """Returns the row of a journal's lines."""
    errors = {arm: of_arm(lines, arm, "errors") for arm in ARMS}
    means = {arm: mean(found) for arm, found in errors.items()}
    beside = [difference(lines, "FitNet", arm) for arm in ("plain", "KD")]
    said = ", ".join(percent(errors[arm], 10_000) for arm in ARMS)
    size = mean(of_arm(lines, "FitNet", "file_bytes"))
    return [{
        "row": "a thin deep student: error of the teacher, of plain training, KD, FitNet",
        "paper": "0.55, 1.9, 0.65, 0.51 %",
        "ours": f"{said}; FitNet beside plain {interval(beside[0])}, KD {interval(beside[1])}; "
                f"file {size:,.0f} bytes",
        "met": means["FitNet"] < min(means["plain"], means["KD"]),
        "seconds": seconds(lines, ARMS), "errors": errors, "differences": beside,
    }]


PAPER = Paper("fitnets2015", "Hints for a thin deep net on MNIST (Romero et al. 2015)", "mnist",
              "4 minutes a seed", SETTING.run,
              "10,000 training images, 15 epochs in every arm; differences in points with their 95 "
              "% interval", table)
