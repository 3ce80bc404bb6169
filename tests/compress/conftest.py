"""What the tests of techniques share: a look at a training while it runs, and runs that stop."""

import dataclasses
from collections.abc import Callable
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest

from minicomp.compress.finetune import Trained
from minicomp.data import Split
from minicomp.models import MLP
from minicomp.train import Hook


@dataclasses.dataclass(frozen=True)
class Watch(Trained):
    # Takes part in a training and only looks on: `calls` are methods of a Hook by name.
    word: ClassVar[str] = "watch"
    title: ClassVar[str] = "Looks on"

    calls: dict[str, Callable] = dataclasses.field(default_factory=dict)

    def hooks(self, model, data, run):
        hook = Hook()
        hook.name = self.word
        vars(hook).update(self.calls)
        return [hook]


@pytest.fixture(scope="session")
def watching():
    # watching(training, after_step=f): the training, in which f(state) is called after each step.
    def made(training, **calls):
        return dataclasses.replace(training, methods=(*training.methods, Watch(calls)))

    return made


@pytest.fixture(scope="session")
def bits():
    # bits(model): every array of it, to the bit.
    return lambda model: b"".join(a.tobytes() for a in model.state_dict().values())


class Stop(Exception):
    """What a log raises to stop a run."""


@pytest.fixture(scope="session")
def stop_at():
    # stop_at(n): a log that stops the run after n steps of training;
    # stop_at.Stop is what it raises.
    def made(n):
        done = []

        def log(row):
            done.append(row["event"])
            if done.count("progress") == n:
                raise Stop

        return log

    made.Stop = Stop
    return made


@pytest.fixture(scope="session")
def blobs():
    # blobs(n): four clouds in twelve dimensions that overlap, n examples to train and n to judge.
    def made(n=160):
        rng = np.random.default_rng(0)
        y = rng.integers(0, 4, 2 * n)
        x = rng.standard_normal((4, 12))[y] + 0.7 * rng.standard_normal((2 * n, 12))
        x = x.astype(np.float32)
        return SimpleNamespace(train=Split(x[:n], y[:n]), val=Split(x[n:], y[n:]))

    return made


@pytest.fixture(scope="session")
def net():
    # net(): for the blobs; 240, 200 and 40 weights.
    return lambda: MLP([12, 20, 10, 4], rng=np.random.default_rng(0))
