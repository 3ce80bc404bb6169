"""The built-in nets of 32 pixels on a fifth of CIFAR-10: each trains in minutes.

No paper prints these rows. The nets are as they are by default, smaller than published so that one
machine can train them; they learn from 9,000 images for 8 epochs. That a net learns at all is the
claim: it must err less than a linear classifier of the pixels that had the same images and epochs.
Published nets learn from 50,000 images for hundreds of epochs, to 5..10 % errors.

A net's optimizer is that of HOW with fewer validation errors after one epoch of the first seed.
Errors are of the .mcz file, counted by a fresh process; minutes are the processor's, which on one
thread of an idle machine are those of the clock.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..compress.finetune import FineTune
from ..compress.technique import Run
from ..data import Dataset
from ..errors import UserError
from ..models import for_data
from ..nn.graph import Model, chain
from ..nn.init import initialise
from ..nn.layers import Flatten, Linear
from ..train import evaluate
from .journal import Journal, of_arm
from .table import Paper, file_errors, mean, percent

NETS = ("depthwise32", "mobilenetv1", "mobilenetv2", "vggsmall", "resnet20", "alexnet",
        "squeezenet1_0", "squeezenet1_1", "shufflenet", "xception")
EPOCHS, SHORT = 8, 1
HOW = {"sgd": {"lr": 0.05, "weight_decay": 5e-4, "batch_size": 64, "shift": 2},
       "adam": {"lr": 1e-3, "optimizer": "adam", "batch_size": 64, "shift": 2}}
LINEAR = {"lr": 0.01, "batch_size": 64, "shift": 2}
MINUTES = 15.0  # at the most
TEST = 10_000  # images


def linear(data: Dataset, rng: np.random.Generator) -> Model:
    """Returns the linear classifier of a data set's pixels, its weights drawn."""
    shape = data.train.x.shape[1:]
    layers = chain(("flatten", Flatten()), ("fc", Linear(int(np.prod(shape)), len(data.classes))))
    return initialise(Model(layers, input_shape=shape), rng=rng)


class Trainings:
    """The trainings of one seed.

    data : with test        out : folder of the files        journal : of the table
    """

    def __init__(self, data: Dataset, seed: int, out: Path, journal: Journal, log, n_threads: int):
        self.data, self.given, self.seed = data, data.without_test(), seed
        self.out, self.journal, self.log, self.n_threads = out, journal, log, n_threads

    def net(self, word: str) -> Model:
        """Returns a net as it is before it learns."""
        rng = np.random.default_rng([self.seed, 0])
        return linear(self.given, rng) if word == "linear" else for_data(word, self.given, rng=rng)

    def trained(self, word: str, how: dict, epochs: int) -> Model:
        """Returns a net after so many epochs."""
        run = Run(np.random.default_rng([self.seed, 1]), self.log, None, self.n_threads)
        return FineTune(epochs=epochs, **how).apply(self.net(word), self.given, run)

    def optimizer(self, word: str) -> str:
        """Returns the key in HOW that serves a net best, as the first seed found it."""
        def tried(how: dict) -> dict:
            try:
                net = self.trained(word, how, SHORT)
            except UserError:  # its loss did not stay finite
                return {"val_errors": len(self.given.val)}
            return {"val_errors": evaluate(net, self.given.val).errors}

        found = {key: self.journal.take(f"{word}: candidate", None, lambda: tried(how),
                                        optimizer=key)["val_errors"] for key, how in HOW.items()}
        return min(found, key=lambda key: found[key])

    def find(self) -> None:
        """Trains each net that the journal does not know."""
        self.take("linear", LINEAR)
        for word in NETS:
            key = self.optimizer(word)
            self.take(word, HOW[key], optimizer=key)

    def take(self, word: str, how: dict, **settings: str) -> None:
        """Finds the errors of a net's file, its bytes, and how long its training took."""
        def counted() -> dict:
            begun = time.process_time()
            net = self.trained(word, how, EPOCHS)
            minutes = (time.process_time() - begun) / 60
            size, errors = file_errors(net, self.out / f"{word}-{self.seed}.mcz", self.data.name)
            return {"errors": errors, "file_bytes": size, "minutes": round(minutes, 2)}

        self.journal.take(word, self.seed, counted, **settings)


def run(data, *, seeds, log, n_threads, out, journal) -> None:
    """Trains the linear classifier and the nets of each seed."""
    fifth = replace(data, train=data.train.take(slice(9000)))
    for seed in seeds:
        Trainings(fifth, seed, out, journal, log, n_threads).find()


def table(lines: list[dict]) -> list[dict]:
    """Returns the rows of a journal's lines: those of the nets that were run."""
    bar, rows = of_arm(lines, "linear", "errors"), []
    for word in NETS:
        errors = of_arm(lines, word, "errors")
        if not errors:
            continue
        minutes = mean(of_arm(lines, word, "minutes"))
        key = next(line["settings"]["optimizer"] for line in lines if line["arm"] == word)
        rows.append({
            "row": f"{word}, {EPOCHS} epochs of 9,000 images",
            "paper": f"(ours: below a linear classifier, {percent(bar, TEST)})",
            "ours": f"{percent(errors, TEST)} in {minutes:.1f} minutes, {key}; file "
                    f"{mean(of_arm(lines, word, 'file_bytes')):,.0f} bytes",
            "met": mean(errors) < mean(bar) and minutes <= MINUTES,
            "seconds": sum(line["seconds"] for line in lines
                           if line["arm"].split(":")[0] == word),
            "errors": errors,
        })
    return rows


PAPER = Paper("compact-nets", "The built-in nets of 32 pixels: each trains in minutes", "cifar10",
              "25 minutes a seed", run,
              "minutes are the processor's, of one thread; errors are of a .mcz file that a fresh "
              "process decodes", table)
