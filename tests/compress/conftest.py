"""What the tests of techniques share: a look at a training while it runs, and runs that stop."""

import dataclasses
from collections.abc import Callable
from typing import ClassVar

import pytest

from minicomp.compress.finetune import Trained
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


@pytest.fixture
def watching():
    # watching(training, after_step=f): the training, in which f(state) is called after each step.
    def made(training, **calls):
        return dataclasses.replace(training, methods=(*training.methods, Watch(calls)))

    return made


@pytest.fixture
def bits():
    # bits(model): every array of it, to the bit.
    return lambda model: b"".join(a.tobytes() for a in model.state_dict().values())


class Stop(Exception):
    """What a log raises to stop a run."""


@pytest.fixture
def stop_at():
    # stop_at(n): a log that stops the run after n steps of training; stop_at.Stop is what it raises.
    def made(n):
        done = []

        def log(row):
            done.append(row["event"])
            if done.count("progress") == n:
                raise Stop

        return log

    made.Stop = Stop
    return made
