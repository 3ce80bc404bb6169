"""A thin and deep student on MNIST (Romero et al. 2015, FitNets, arXiv 1412.6550, section 3.2).

Theirs has six convolutions of maxout and 8 % of its teacher's parameters; here it has eleven of 8
maps each with ReLU and no batch norm, 6,650 parameters beside the 29,066 of a teacher of three
convolutions. The teacher sees all 55,000 training images, shifted by up to two pixels, and has
dropout; the student sees 500 of them as they are, for 30 epochs in each arm: those of FitNet's
first stage are not on top. Hints show where images are few: in trials with one seed and 2,000 to
10,000 images FitNet was as good as KD on validation images, or worse.

The hint is the output of the teacher's last convolution, 3 x 3 pixels of 64 maps, the guided layer
is the ninth of the student's eleven. Candidates are T and alpha of KD, and of FitNet the length of
the first stage and what lambda is in the second: the paper's T = 3 and lambda from 4 down to 0, or
T = 4 and the lambda at which it is KD's alpha of 0.9. They train as long as the arms do. The rate
is one for all arms and was lowered to where every start learns: at rates of two to four times as
much all arms err less where they learn, and of one seed KD erred less than FitNet, but of another
seed plain training and KD never learnt. Errors are of the .mcz file, counted by a fresh process.
"""

from __future__ import annotations

from functools import partial

from ..models.papers import FitNet
from .distilling import Setting, difference, interval, seconds
from .journal import of_arm
from .table import Paper, mean, percent

EPOCHS, RATE = 30, 0.004
SOFT = [{"T": 4.0, "alpha": 0.9}, {"T": 4.0, "alpha": 0.5}]
STEADY = {"T": 4.0, "lam": 144.0, "end": 144.0}  # alpha T^2 / (1 - alpha) at alpha = 0.9
HINTS = [{"to": {"relu3c": "relu3a"}} | knobs
         for knobs in ({"stage": 0.3} | STEADY, {"stage": 0.2} | STEADY, {"stage": 0.3})]
SETTING = Setting(
    "thin", partial(FitNet, [(16,), (32,), (64,)], dropout=True),
    partial(FitNet, [(8,), (8,) * 5, (8,) * 5]),
    taught={"epochs": 6, "lr": 0.002, "optimizer": "adam", "batch_size": 128, "shift": 2},
    training={"epochs": EPOCHS, "optimizer": "adam", "batch_size": 16},
    arms={
        "plain": [{"lr": RATE}],
        "KD": [{"lr": RATE, "methods": {"distill": knobs}} for knobs in SOFT],
        "FitNet": [{"lr": RATE, "methods": {"fitnets": knobs}} for knobs in HINTS],
    },
    short=EPOCHS, images=500)
ARMS = ("teacher", *SETTING.arms)


def table(lines: list[dict]) -> list[dict]:
    """Returns the row of a journal's lines."""
    errors = {arm: of_arm(lines, arm, "errors") for arm in ARMS}
    means = {arm: mean(found) for arm, found in errors.items()}
    beside = [difference(lines, "FitNet", arm) for arm in ("plain", "KD")]
    said = ", ".join(percent(errors[arm], 10_000) for arm in ARMS)
    size = mean(of_arm(lines, "FitNet", "file_bytes"))
    return [{
        "row": "a thin deep student, 500 images: error of the teacher; plain, KD, FitNet",
        "paper": "0.55, 1.9, 0.65, 0.51 %",
        "ours": f"{said}; FitNet beside plain {interval(beside[0])}, KD {interval(beside[1])}; "
                f"file {size:,.0f} bytes",
        "met": means["FitNet"] < min(means["plain"], means["KD"]),
        "seconds": seconds(lines, ARMS), "errors": errors, "differences": beside,
    }]


PAPER = Paper("fitnets2015", "Hints for a thin deep net on MNIST (Romero et al. 2015)", "mnist",
              "a minute a seed", SETTING.run,
              "500 training images, 30 epochs in every arm; differences in points with their 95 "
              "% interval", table)
