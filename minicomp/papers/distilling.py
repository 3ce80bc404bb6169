"""What tables of distillation share: a student trained in several ways, a teacher beside it.

A way is an arm of the table, "plain" or "KD". Its candidates are data: knobs of the training, and
of the techniques that take part in it,

    {"lr": 0.01, "methods": {"distill": {"T": 4.0, "alpha": 0.9}}}

The one of fewest validation errors after a short training of the first seed's student is taken for
all seeds. The students of a seed begin with the same weights and see as many epochs in every arm.

The journal holds which test images a net gets wrong, so that arms are compared image by image.
"""

from __future__ import annotations

import base64
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..codec import load
from ..compress import TECHNIQUES
from ..compress.finetune import FineTune
from ..compress.technique import Run
from ..data import Dataset
from ..errors import UserError
from ..nn.graph import Model
from ..quality import predicted
from ..tensor import Array
from ..train import evaluate
from .journal import Journal, kept, of_arm
from .table import file_errors, paired

BY_WORD = {technique.word: technique for technique in TECHNIQUES}
LOGGED = 500  # validation images of which a training logs the errors
TEST = 10_000  # images of MNIST's and of CIFAR-10's test set


@dataclass(frozen=True)
class Setting:
    """What a table trains.

    name : what its files begin with        teacher, student : called with rng=, return the nets
    taught, training : knobs of the teacher's training, and those that all the student's share
    arms : {arm: candidates}        short : epochs of a training that is compared with others
    images : training images that the student sees, the first ones
    """

    name: str
    teacher: Callable[..., Model]
    student: Callable[..., Model]
    taught: dict
    training: dict
    arms: dict[str, Sequence[dict]]
    short: int
    images: int

    def run(self, data: Dataset, *, seeds, log, n_threads, out, journal) -> None:
        """Finds the arms of all seeds: "teacher" and those of the student."""
        for seed in seeds:
            Arms(self, data, seed, out, journal, log, n_threads).find()


class Arms:
    """The trainings of one seed.

    data : with test        out : folder of the files        journal : of the table
    """

    def __init__(self, of: Setting, data: Dataset, seed: int, out: Path, journal: Journal, log,
                 n_threads: int):
        self.of, self.data, self.seed, self.out, self.journal = of, data, seed, out, journal
        self.log, self.n_threads = log, n_threads
        # After each epoch a part of the validation images is enough; candidates see all.
        self.given = replace(data, train=data.train.take(slice(of.images)),
                             val=data.val.take(slice(LOGGED)), test=None)
        self.start = of.student(rng=np.random.default_rng([seed, 0]))

    def stream(self, i: int) -> Run:
        """Returns the i-th of the seed's streams of random numbers."""
        return Run(np.random.default_rng([self.seed, i]), self.log, None, self.n_threads)

    def path(self, word: str) -> Path:
        """Returns the file of a net."""
        return self.out / f"{self.of.name}-{word.replace(' ', '')}-{self.seed}.mcz"

    @functools.cached_property
    def teacher(self) -> Model:
        """The teacher, from its file where it was trained before."""
        def trained():
            start = self.of.teacher(rng=np.random.default_rng([self.seed, 1]))
            training = FineTune(**self.of.taught)
            return training.apply(start, replace(self.given, train=self.data.train),
                                  self.stream(2))
        return kept(self.path("teacher"), trained)

    def student(self, candidate: dict, run: Run, **knobs) -> Model:
        """Returns the student that a candidate makes."""
        own = {name: value for name, value in candidate.items() if name != "methods"}
        methods = tuple(BY_WORD[word](teachers=self.teacher, **settings)
                        for word, settings in candidate.get("methods", {}).items())
        training = FineTune(methods=methods, **(self.of.training | own | knobs))
        return training.apply(self.start, self.given, run)

    def errors(self, candidate: dict) -> int:
        """Returns the validation errors of a short training, all where its loss is not finite."""
        try:
            net = self.student(candidate, self.stream(3), epochs=self.of.short)
        except UserError:
            return len(self.data.val)
        return evaluate(net, self.data.val, n_threads=self.n_threads).errors

    def chosen(self, arm: str) -> dict:
        """Returns the candidate of fewest validation errors, as the first seed found it; of equals
        the first. A candidate that is alone is not tried."""
        candidates = self.of.arms[arm]
        found = [self.journal.take(f"{arm}: candidate", None, lambda: {
            "errors": self.errors(candidate)}, **candidate) for candidate in candidates
            if len(candidates) > 1]
        return candidates[int(np.argmin([line["errors"] for line in found] or [0]))]

    def counted(self, word: str, net: Model) -> dict:
        """Returns what a fresh process finds of a net's file, and which test images are wrong."""
        size, errors = file_errors(net, self.path(word), self.data.name)
        read, test = load(self.path(word), kind="model"), self.data.test
        return {"errors": errors, "file_bytes": size,
                "wrong": packed(predicted(read, test.x) != test.y)}

    def find(self) -> None:
        """Runs each arm that the journal does not know."""
        self.journal.take("teacher", self.seed, lambda: self.counted("teacher", self.teacher))
        for i, arm in enumerate(self.of.arms, start=4):
            chosen = self.chosen(arm)
            self.journal.take(arm, self.seed, lambda: self.counted(
                arm, self.student(chosen, self.stream(i))), **chosen)


def packed(wrong: Array) -> str:
    """Returns booleans (N,) as text: bits, the first the highest of a byte, in base 64."""
    return base64.b64encode(np.packbits(wrong).tobytes()).decode()


def unpacked(text: str, n: int = TEST) -> Array:
    """Returns the booleans (n,) of a text that `packed` made."""
    return np.unpackbits(np.frombuffer(base64.b64decode(text), np.uint8), count=n).astype(bool)


def difference(lines: list[dict], arm: str, other: str) -> tuple[float, float, float]:
    """Returns how much higher an arm's error is than another's, points, and the ends of its 95 %
    interval: paired by image, the mean of the seeds that both have."""
    wrong = [np.array([unpacked(text) for text in of_arm(lines, word, "wrong")])
             for word in (arm, other)]
    return paired(*wrong)


def interval(found: tuple[float, float, float]) -> str:
    """Returns a difference as "-1.25 (-2.01..-0.49)"."""
    return "{:+.2f} ({:+.2f}..{:+.2f})".format(*found)


def seconds(lines: list[dict], arms: Sequence[str]) -> float:
    """Returns how long arms took, candidates included."""
    return sum(line["seconds"] for line in lines if line["arm"].split(":")[0] in arms)
