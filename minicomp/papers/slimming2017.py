"""Network slimming's MNIST row (Liu et al. 2017, arXiv 1708.06519): 784-500-300-10 with
batch norm loses 80 % of the neurons of each hidden layer, 84.4 % of its weights, from 1.43 % error
to 1.49 %.

The setting is the paper's: 30 epochs of SGD with Nesterov momentum 0.9, batches of 256, learning
rate 0.1 divided by 10 after a third and two thirds, weight decay 1e-4, scales 0.5 at the start, the
same schedule for fine-tuning. Weights are counted without biases and batch norm, as the paper's
545,000 and 85,000 are. Errors are of the .mcz file, counted by a fresh process.

Where we leave the paper: weights are drawn as Torch's layers draw them, which its authors used and
do not mention; biases begin at 0. All 60,000 images train, as theirs did; where a knob is ours it
was chosen before, with 5,000 of them held out. Two rows keep to the paper's setting; trained so,
the net overfits before it is slimmed. The other two see images shifted by up to one pixel, with a
larger lam and 60 epochs of fine-tuning. Channels are cut per layer, as its 784-100-60-10 is; at
lam = 1e-4 one percentile over both layers would cut the first to a single neuron, as its scales are
the smaller ones.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..compress.finetune import FineTune
from ..compress.prune.slimming import Slimming
from ..compress.technique import Run, weights
from ..data.dataset import Dataset, Split
from ..models.papers import SlimmingMLP
from ..nn.graph import Model
from ..timing import Clock
from .table import Paper, file_errors, mean, percent

SETTING = {
    "epochs": 30,
    "batch_size": 256,
    "lr": 0.1,
    "momentum": 0.9,
    "nesterov": True,
    "weight_decay": 1e-4,
    "schedule": "step",
}
OURS = {"shift": 1}
TUNING = 60  # epochs of fine-tuning in our rows
BASELINE, ERROR, REMOVED = 1.43, 1.49, 0.844  # the paper's, in percent, percent and a fraction


def size(model: Model) -> int:
    """Returns the number of weights of the linear layers, biases not counted."""
    return sum(int(np.prod(model.forms()[name].shape)) for name in weights(model).values())


def whole(data: Dataset) -> Dataset:
    """Returns the data without test, its validation images among the training images.

    The validation errors that training logs are then of images it has seen.
    """
    parts = (data.train, data.val)
    joined = Split(np.concatenate([s.x for s in parts]), np.concatenate([s.y for s in parts]))
    return replace(data, train=joined, test=None)


def run(data, *, seeds, log, n_threads, out) -> list[dict]:
    """Returns four rows: the trained net; 80 % of neurons cut, as published and shifted; 87 %."""
    clock, seconds = Clock(), {}
    made: dict[str, list[Model]] = {"dense": [], "published": [], "shifts": [], "smaller": []}
    for seed in seeds:
        init, *streams = np.random.default_rng(seed).spawn(8)
        start, given = SlimmingMLP(normalize=data.normalize, rng=init), whole(data)

        def trained(rng, lam, **more):
            how = Slimming(sparsity=0.0, lam=lam).training(**SETTING, **more)
            return how.apply(start, given, Run(rng, log=log, n_threads=n_threads))

        def tuned(model, rng, sparsity, **more):
            cut = Slimming(sparsity=sparsity, scope="local").slimmed(model)
            run = Run(rng, log=log, n_threads=n_threads)
            return FineTune(**(SETTING | more)).apply(cut, given, run)

        made["dense"].append(trained(streams[0], 0.0))
        seconds["dense"] = seconds.get("dense", 0.0) + clock.lap()
        made["published"].append(tuned(trained(streams[1], 1e-4), streams[2], 0.8))
        seconds["published"] = seconds.get("published", 0.0) + clock.lap()
        wide = trained(streams[3], 1e-3, **OURS)
        made["shifts"].append(tuned(wide, streams[4], 0.8, epochs=TUNING, **OURS))
        seconds["shifts"] = seconds.get("shifts", 0.0) + clock.lap()
        made["smaller"].append(tuned(wide, streams[5], 0.87, epochs=TUNING, **OURS))
        seconds["smaller"] = seconds.get("smaller", 0.0) + clock.lap()
    rows = []
    for key, (title, error, removed) in {
        "dense": ("784-500-300-10", BASELINE, 0.0),
        "published": ("784-100-60-10, as published", ERROR, REMOVED),
        "shifts": ("784-100-60-10, trained on shifts", ERROR, REMOVED),
        "smaller": ("784-65-39-10, trained on shifts", ERROR, 0.9),
    }.items():
        files = [
            file_errors(m, out / f"slimming-{key}-{seed}.mcz", data.name)
            for m, seed in zip(made[key], seeds)
        ]
        rows.append(
            _row(title, error, removed, made[key][0], files, len(data.test.y), seconds[key])
        )
    return rows


def _row(title: str, error: float, removed: float, model: Model, files, images, seconds) -> dict:
    gone, errors = 1 - size(model) / 545_000, [e for _, e in files]
    paper = f"{error:.2f} %" if not removed else f"84.4 % removed at {ERROR:.2f} %"
    ours = percent(errors, images)
    if removed:
        ours = f"{100 * gone:.1f} % removed at {ours}"
        ours += f"; file {mean([b for b, _ in files]):,.0f} bytes"
    met = gone >= removed - 5e-4 and 100 * mean(errors) / images <= error
    return {
        "row": title,
        "paper": paper,
        "ours": ours,
        "met": bool(met),
        "seconds": seconds,
        "removed": gone,
        "errors": errors,
        "file_bytes": [b for b, _ in files],
    }


PAPER = Paper(
    "slimming2017",
    "Network slimming: an MLP on MNIST (Liu et al. 2017)",
    "mnist",
    "3 minutes a seed",
    run,
    "weights removed are counted without biases and batch norm, as in the paper; bytes are of the "
    ".mcz file",
)
