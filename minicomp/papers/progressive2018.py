"""Few weights of Caffe's LeNet-5, and what they err on MNIST, beside progressive ADMM (Ye et al.
2018, arXiv 1810.07378), which keeps one weight of 246.

Theirs is progressive: a net that was pruned is the start of a pruning that goes further, so that no
step is large. So is ours, with surgery in the place of ADMM: in each round what was cut a moment
ago may come back, and thresholds, in deviations of what is left, are new. After each go units that
are left without inputs or outputs, their constants folded into the next bias. Before the first
round half and more of the units go by norm, since a small net trains faster; what a round leaves is
trained without decay before it is counted. Knobs were chosen on validation images.

A row is met where at most `ERROR` percent are wrong and as many weights are gone as `RATIOS` says
of its round, the paper's at last. Weights are counted as in the paper; biases that are not 0 stand
beside, against all 431,080 parameters. Errors are of the .mcz file, counted by a fresh process.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..compress.finetune import FineTune
from ..compress.prune.dead_units import DeadUnits
from ..compress.prune.dns import DNS
from ..compress.prune.filters import Filters
from ..compress.technique import Pipeline, Run, Technique, weights
from ..data.dataset import Dataset
from ..models import LeNet5
from ..nn.graph import Model
from ..train import evaluate
from .journal import kept, of_arm
from .table import Paper, counts, file_errors, mean, percent

PARAMETERS, WEIGHTS = 431_080, 430_500  # of the dense net, with biases and without
RATIOS, ERROR = (200, 246), 0.8  # at least, the last the paper's; percent, at most
N_TEST = 10_000

FLOATS = FineTune(epochs=6, lr=0.02, weight_decay=1e-4, shift=1)
SMALLER = Pipeline([Filters(sparsity={"conv1": 0.5, "conv2": 0.6, "fc1": 0.8}),
                    FineTune(epochs=5, lr=0.03, weight_decay=1e-4, shift=1)])
SURGERY = FineTune(epochs=20, lr=0.03, weight_decay=5e-4, shift=1)
ROUNDS = ({"conv1": 0.55, "conv2": 1.9, "fc1": 4.2, "fc2": 2.1},  # c, thresholds in deviations
          {"conv1": 0.6, "conv2": 1.8, "fc1": 4.0, "fc2": 2.0})
TUNE = FineTune(epochs=8, lr=0.03, shift=1)
EPOCHS = [FLOATS.epochs, SMALLER.steps[1].epochs, *[SURGERY.epochs] * len(ROUNDS), TUNE.epochs]
# What each net is made of, and by which of the seed's streams of random numbers.
STEPS = {"dense": ("", 1), "smaller": ("dense", 2), "round1": ("smaller", 11),
         "tuned1": ("round1", 21), "round2": ("round1", 12), "tuned2": ("round2", 22)}
COUNTED = ("dense", "tuned1", "tuned2")  # on test images


def technique(word: str, shift: int = 1) -> Technique:
    """Returns what makes a net of STEPS.   shift : of the images, pixels

    In a round thresholds rise for 0.6 of it, and masks stay from 0.7 of it on.
    """
    if word in ("dense", "smaller"):
        return _shifted(FLOATS if word == "dense" else SMALLER, shift)
    if word.startswith("tuned"):
        return _shifted(TUNE, shift)
    cut = DNS(c=ROUNDS[int(word[-1]) - 1], ramp=0.6, stop=0.7)
    return Pipeline([_shifted(replace(SURGERY, methods=(cut,)), shift), DeadUnits()])


def _shifted(how: Technique, shift: int) -> Technique:
    if isinstance(how, Pipeline):
        return Pipeline([_shifted(step, shift) for step in how.steps])
    return replace(how, shift=shift) if isinstance(how, FineTune) else how


class Nets:
    """The nets of one seed, each made of the one before, from its file where there is one.

    data : without test        out : folder of the files        shift : of the images, pixels
    """

    def __init__(self, data: Dataset, seed: int, out: Path, log, n_threads: int, shift: int = 1):
        self.given, self.seed, self.out, self.shift = data, seed, out, shift
        self.log, self.n_threads = log, n_threads

    def path(self, word: str) -> Path:
        """Returns the file of a net."""
        kind = "progressive" if self.shift else "unshifted"
        return self.out / f"{kind}-{word}-{self.seed}.mcz"

    def net(self, word: str) -> Model:
        """Returns a net of STEPS."""
        def made() -> Model:
            before, i = STEPS[word]
            start = self.net(before) if before else LeNet5(
                normalize=self.given.normalize, rng=np.random.default_rng([self.seed, 0]))
            run = Run(np.random.default_rng([self.seed, i]), self.log, None, self.n_threads)
            return technique(word, self.shift).apply(start, self.given, run)
        return kept(self.path(word), made)


def left(model: Model) -> dict[str, int]:
    """Returns how many weights, and biases, are not 0."""
    forms, names = model.forms(), set(weights(model).values())
    count = {name: form.nonzeros() for name, form in forms.items()}
    return {"weights": sum(n for name, n in count.items() if name in names),
            "biases": sum(n for name, n in count.items() if name not in names)}


def found(nets: Nets, word: str, data: Dataset) -> dict:
    """Returns what is said of a net: what is left, errors, and bytes.   data : with test"""
    net = nets.net(word)
    val = evaluate(net, data.val, n_threads=nets.n_threads).errors
    said = left(net) | {"val_errors": val}
    if word in COUNTED:
        size, errors = file_errors(net, nets.path(word), data.name)
        said |= {"errors": errors, "file_bytes": size}
    return said


def run(data, *, seeds, log, n_threads, out, journal) -> None:
    """Finds the arms: the dense net, the smaller one, and each round's, plain and tuned."""
    for seed in seeds:
        nets = Nets(data.without_test(), seed, out, log, n_threads)
        for word in STEPS:
            journal.take(word, seed, lambda: found(nets, word, data))


def table(lines: list[dict]) -> list[dict]:
    """Returns a row for each round of a journal's lines."""
    floats = percent(of_arm(lines, "dense", "errors"), N_TEST)
    rows = [row(lines, i, ratio) for i, ratio in enumerate(RATIOS, 1)
            if of_arm(lines, f"tuned{i}", "errors")]
    return [each | {"ours": f"{each['ours']}; floats {floats}"} for each in rows]


def row(lines: list[dict], i: int, ratio: float) -> dict:
    """Returns the row of a round.   ratio : of weights, at least"""
    tuned = functools.partial(of_arm, lines, f"tuned{i}")
    w, errors = tuned("weights"), tuned("errors")
    everything = [a + b for a, b in zip(w, tuned("biases"))]
    each = "; ".join(f"{WEIGHTS / n:.0f}x, validation {v / 50:.2f} %, test {e / 100:.2f} %"
                     for n, v, e in zip(w, tuned("val_errors"), errors))
    return {
        "row": f"LeNet-5 after round {i}",
        "paper": f"{ratio}x (weights) at {ERROR} %" if ratio == RATIOS[-1] else
                 f"(ours: {ratio}x at {ERROR} %)",
        "ours": f"{WEIGHTS / mean(w):.0f}x, {counts(w)} weights; "
                f"{PARAMETERS / mean(everything):.0f}x with biases, {counts(everything)}; at "
                f"{percent(errors, N_TEST)}, file {mean(tuned('file_bytes')):,.0f} bytes; each "
                f"seed: {each}",
        "met": WEIGHTS / mean(w) >= ratio and 100 * mean(errors) / N_TEST <= ERROR,
        "seconds": sum(line["seconds"] for line in lines if line["arm"][-1] == str(i)),
        "weights": w, "errors": errors,
    }


PAPER = Paper("progressive2018", "Few weights of LeNet-5 (Ye et al. 2018)", "mnist",
              "3 minutes a seed", run,
              "ratios are of parameters that are not 0; bytes are of a .mcz file that a fresh "
              "process decodes", table)
