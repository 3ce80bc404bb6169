"""What all distillation shares: teachers from files or models, and what they say of a batch.

A teacher is given by the path of its .mcz file, several joined by +, "a.mcz+b.mcz", or as models.
It is not trained: its weights are decoded once. Where no augmentation moves the inputs, what it
says of every training example is computed once and kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...checkpoint import fingerprint
from ...codec import load
from ...data.augment import cutmix
from ...errors import FormatError, UserError, printable
from ...nn.graph import Model
from ...nn.taps import fitting
from ...tensor import Array, no_grad
from ...train import Hook, State
from ..finetune import Trained
from ..technique import knob
from .soft import mean_targets, soft_loss

KEPT = 2**28  # bytes that what is kept of all examples may take; more is computed batch by batch
BATCH = 500  # examples of a batch in which it is computed

Said = dict[str, Array]  # arrays (N, ...) by name
Reduce = Callable[[list[Said]], Said]  # of the named nodes' outputs, a dict a teacher


def file_knob(what: str, more: str = "") -> Any:
    """Returns the field of a knob that holds paths of nets, joined by +."""
    return knob(None, f"the .mcz file of {what}, several joined by +{more}", type=str,
                optional=True, file=True)


def t_knob(default: float = 4.0) -> Any:
    """Returns the field of a temperature."""
    return knob(default, "temperature of teacher and student", lo=0.01, hi=1000.0)


def alpha_knob() -> Any:
    """Returns the field of the weight of soft targets."""
    return knob(0.9, "weight of the soft targets, 1 - alpha that of the labels", lo=0.0, hi=1.0)


def paths(text: str | None) -> list[str]:
    """Returns the paths of a text that joins them by +; a file that has a + in its name is one."""
    if text is None:
        return []
    return [text] if Path(text).is_file() else [p.strip() for p in text.split("+")]


def loaded(where: str, text: str | None) -> list[Model]:
    """Returns the nets of the files that a text joins by +.

    where : what messages begin with, "distill: teacher"
    Raises UserError that names the file which cannot be read.
    """
    nets = []
    for path in paths(text):
        try:
            nets.append(load(path, kind="model"))
        except (OSError, FormatError) as e:
            said = e.strerror if isinstance(e, OSError) else e
            raise UserError(f"{where} must be the .mcz file of a net, got {printable(path, 200)}: "
                            f"{printable(said, 300)}") from None
    return nets


def check_alike(where: str, teachers: Sequence[Model], model: Model) -> None:
    """Raises UserError unless each of the nets takes the model's input and gives its outputs."""
    for teacher in teachers:
        asked = [(m.input_shape, [*m.shapes().values()][-1]) for m in (model, teacher)]
        if asked[0] != asked[1]:
            (shape, out), (other, others) = asked
            raise UserError(f"{where} must take {shape} and give {out} as the student does, got "
                            f"a net that takes {other} and gives {others}")


@dataclass(frozen=True)
class Taught(Trained):
    """A training with teachers: those of the files, and those given as models."""

    teacher: str | None = file_knob("the teacher")
    teachers: tuple[Model, ...] = ()

    def __post_init__(self):
        super().__post_init__()
        if isinstance(self.teachers, Model):
            object.__setattr__(self, "teachers", (self.teachers,))
        wrong = [t for t in self.teachers if not isinstance(t, Model)]
        if wrong:
            raise UserError(f"{self.word}: teachers must be models, got "
                            f"{printable(repr(wrong[0]), 80)}")

    def files(self):
        return paths(self.teacher)

    def settings(self):
        given = [fingerprint(t) for t in self.teachers]
        return super().settings() | ({"teachers": given} if given else {})

    def check(self, model):
        super().check(model)
        check_alike(f"{self.word}: teacher", self.nets(), model)

    def nets(self) -> list[Model]:
        """Returns the teachers; UserError where there is none or a file cannot be read."""
        found = [*loaded(f"{self.word}: teacher", self.teacher), *self.teachers]
        if not found:
            raise UserError(f"{self.word}: teacher must name the .mcz file of the teacher, got "
                            "none")
        return found

    def net(self) -> Model:
        """Returns the teacher, where there may be only one."""
        found = self.nets()
        if len(found) > 1:
            raise UserError(f"{self.word}: teacher must be one net, got {len(found)}")
        return found[0]


class Teachers:
    """Nets that are not trained, and what they say of a batch.

    names : for each net, the nodes whose outputs are looked at        reduce : what is made of them
    data : whose training examples it says it of, None where nothing will be trained
    """

    def __init__(self, nets: Sequence[Model], names: Sequence[Sequence[str]], reduce: Reduce, data):
        self.nets, self.names, self.reduce = nets, names, reduce
        self.x = None if data is None else data.train.x
        self.kept: Said | None = None
        with no_grad():
            self.weights = [net.decode() for net in nets]

    def say(self, x: Array) -> Said:
        """Returns what they say of examples x (N, ...)."""
        with no_grad():
            seen = [net(x, weights=w, taps=names)[1]
                    for net, w, names in zip(self.nets, self.weights, self.names)]
        return self.reduce([{name: t.data for name, t in each.items()} for each in seen])

    def keep(self, state: State) -> None:
        """Computes what is said of all training examples, once, where the inputs do not move and
        it does not take too much memory."""
        if state.rows is None or self.kept is not None:
            return
        one = sum(a.nbytes for a in self.say(self.x[:1]).values())
        if one * len(self.x) > KEPT:
            self.kept = {}
            return
        step = min(fitting(net, BATCH) for net in self.nets)
        parts = [self.say(self.x[i:i + step]) for i in range(0, len(self.x), step)]
        self.kept = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def __call__(self, state: State) -> Said:
        """Returns what they say of the examples of a batch, or of a shard of it."""
        if state.rows is not None and self.kept:
            return {name: a[state.rows] for name, a in self.kept.items()}
        return self.say(state.batch[0])


class TaughtHook(Hook):
    """A hook with `teachers`; slot "teacher" is their digest, so that no other teachers go on with
    what these began."""

    def __init__(self, name: str, teachers: Teachers):
        super().__init__()
        self.name, self.teachers = name, teachers
        digest = bytes.fromhex(fingerprint(*teachers.nets))
        self.slots["teacher"] = np.frombuffer(digest, np.uint8).copy()

    def before_batch(self, state):
        self.teachers.keep(state)


class SoftTargets(TaughtHook):
    """Adds alpha T^2 KL to 1 - alpha times the loss that is there.

    inputs : "images"; "cutmix" puts a piece of another image into each of a batch, for all hooks
    """

    def __init__(self, name: str, nets: list[Model], data, *, T: float, alpha: float,
                 mean: str = "arithmetic", inputs: str = "images"):
        def targets(seen: list[Said]) -> Said:
            z = np.stack([logits for each in seen for logits in each.values()])
            return {"p": mean_targets(z, T, mean)}

        super().__init__(name, Teachers(nets, [(output(net),) for net in nets], targets, data))
        self.T, self.alpha, self.base_weight, self.inputs = T, alpha, 1 - alpha, inputs

    def before_batch(self, state):
        if self.inputs == "cutmix":
            x, y = state.batch
            state.batch, state.rows = (cutmix(x, rng=state.rng), y), None
        super().before_batch(state)

    def loss(self, state):
        if not self.alpha:
            return None
        p = self.teachers(state)["p"]
        return soft_loss(state.output, p, self.T) * (self.alpha * self.T * self.T)


def output(model: Model) -> str:
    """Returns the name of the node whose output is the model's."""
    return model.nodes[-1].name
