"""Attention transfer (Zagoruyko & Komodakis 2017, arXiv 1612.03928, section 4.1) and the flow of
solution procedure (Yim et al. 2017, section 4) on a fifth of CIFAR-10.

Their students learn from 50,000 images of 32 x 32 pixels; here a ResNet-8 of half the width learns
from 9,000, halved to 16 x 16 by its first node, for 10 epochs in every arm. FSP's first stage, an
epoch without labels, comes before them, as in its paper: what it leaves is where the student
begins. The teacher is a ResNet-20 of the same width, as FSP needs it, and sees the images shifted
by up to two pixels; the student sees them as they are. What is compared are an arm's errors with
those of plain training, image by image; rate and decay of the weights are the same in all arms.

Candidates: beta of attention transfer, T and alpha of KD, lambda of FSP; AT + KD takes the first of
both. Errors are of the .mcz file, counted by a fresh process.
"""

from __future__ import annotations

from functools import partial

from ..models.papers import HalvedResNet
from .distilling import Setting, difference, interval, seconds
from .journal import of_arm
from .table import Paper, mean, percent

SHARED = {"lr": 0.05, "batch_size": 64, "weight_decay": 5e-4}
NET = partial(HalvedResNet, normalize="cifar10")
LOOKS = [{"beta": beta} for beta in (2.0, 6.0)]
SOFT = [{"T": 4.0, "alpha": alpha} for alpha in (0.7, 0.9)]
FLOWS = [{"lam": lam, "stage": 1 / 11} for lam in (1e-3, 3e-3)]
SETTING = Setting(
    "resnet", partial(NET, blocks=3), partial(NET, blocks=1),
    taught=SHARED | {"epochs": 16, "shift": 2}, training=SHARED | {"epochs": 10},
    arms={
        "plain": [{}],
        "AT": [{"methods": {"attention-transfer": knobs}} for knobs in LOOKS],
        "KD": [{"methods": {"distill": knobs}} for knobs in SOFT],
        "AT + KD": [{"methods": {"attention-transfer": LOOKS[0], "distill": SOFT[0]}}],
        "FSP": [{"epochs": 11, "methods": {"fsp": knobs}} for knobs in FLOWS],
    },
    short=4, images=9000)
ARMS = ("teacher", *SETTING.arms)
AT_ARMS, FSP_ARMS = ("AT", "KD", "AT + KD"), ("FSP", "KD")


def beside(lines: list[dict], arms: tuple[str, ...]) -> str:
    """Returns how arms differ from plain training: "AT -1.25 (-2.01..-0.49), KD ..."."""
    return ", ".join(f"{arm} {interval(difference(lines, arm, 'plain'))}" for arm in arms)


def above(lines: list[dict], arm: str) -> bool:
    """Returns whether an arm errs less than plain training, its interval below 0."""
    return difference(lines, arm, "plain")[2] < 0


def table(lines: list[dict]) -> list[dict]:
    """Returns the rows of a journal's lines."""
    errors = {arm: of_arm(lines, arm, "errors") for arm in ARMS}
    plain, teacher = (percent(errors[arm], 10_000) for arm in ("plain", "teacher"))
    size = mean(of_arm(lines, "plain", "file_bytes"))
    return [{
        "row": f"ResNet-8 by a ResNet-20, 9,000 images: {name} beside plain training",
        "paper": paper,
        "ours": f"{beside(lines, arms)}; plain {plain}, teacher {teacher}; file {size:,.0f} bytes",
        "met": above(lines, arms[0]),
        "seconds": seconds(lines, of),
        "errors": {arm: errors[arm] for arm in ("teacher", "plain", *arms)},
    } for name, paper, arms, of in (
        ("attention transfer", "AT -0.84, KD -1.36, AT + KD -1.26; plain 8.77 %, teacher 6.31 % "
         "(WRN-16-1 by WRN-16-2)", AT_ARMS, ("teacher", "plain", *AT_ARMS)),
        ("FSP", "FSP -0.79; plain 12.09 %, teacher 8.09 % (ResNet-8 by ResNet-26)", FSP_ARMS,
         ("FSP",)))]


PAPER = Paper(
    "attention2017", "Attention transfer (Zagoruyko & Komodakis 2017) and FSP (Yim et al. 2017)",
    "cifar10", "3 minutes a seed", SETTING.run,
    "10 epochs with labels in every arm; differences in points with their 95 % interval", table)
