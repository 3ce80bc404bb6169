"""What trainings share that compare features of a student with those of its teacher."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...errors import UserError
from ...nn.graph import Model
from ...tensor import Tensor
from ..technique import knob
from .places import check_nodes
from .teaching import Reduce, Said, Taught, TaughtHook, Teachers


def node_knob(what: str) -> Any:
    """Returns the field of a knob that names a node beside a node, `to@relu1=relu3`."""
    return knob(None, what, type=str, optional=True, per_layer=True)


def stage_knob() -> Any:
    """Returns the field of a knob that says how long the first of two stages is."""
    return knob(0.3, "part of the training that is the first stage, 0..1", lo=0.0, hi=1.0,
                below=True)


@dataclass(frozen=True)
class Comparing(Taught):
    """A training that compares outputs of nodes, with one teacher."""

    to: str | None = node_knob("by the student's node: the teacher's beside it; none finds them")

    def __post_init__(self):
        super().__post_init__()
        for name, limits in self.knobs().items():
            if limits.type is str and limits.per_layer and isinstance(getattr(self, name), str):
                raise UserError(f"{self.word}: {name} must be given by node, as {name}@relu1=relu2,"
                                f" got {getattr(self, name)!r}")

    def targets(self, model):
        return [node.name for node in model.nodes]

    def check(self, model):
        super().check(model)
        self.pairs(model, self.net())

    def given(self, name: str, model: Model) -> dict[str, str]:
        """Returns what a knob says by node, of those that a pattern of it matches."""
        said = {node: self.at(name, node) for node in self.targets(model)}
        return {node: other for node, other in said.items() if other is not None}

    def pairs(self, student: Model, teacher: Model) -> dict[str, str]:
        """Returns {student's node: teacher's node}; UserError where they do not fit."""
        found = self.named(student, teacher)
        check_nodes(f"{self.word}: to", found, student, teacher)
        self.check_pairs(found, student.shapes(), teacher.shapes())
        return found

    def named(self, student: Model, teacher: Model) -> dict[str, str]:
        """Returns the pairs that `to` names, else those that are found."""
        return self.given("to", student) or self.found(student, teacher)

    def found(self, student: Model, teacher: Model) -> dict[str, str]:
        """Returns the pairs where none are given."""
        raise NotImplementedError

    def check_pairs(self, pairs: dict[str, str], mine: dict, theirs: dict) -> None:
        """Raises UserError where there are no pairs or shapes of a pair do not fit.

        mine, theirs : shapes of the student's and the teacher's nodes, by name
        """
        raise NotImplementedError


class ComparingHook(TaughtHook):
    """Adds what `compare` returns to the loss. In the first `stage` of a training there is no other
    loss, and behind it nothing is compared and the optimizer starts afresh: two trainings in one. A
    stage of None has both losses all the time.

    pairs : {student's node: teacher's}        reduce : {teacher's node: (N, ...)} -> arrays
    """

    def __init__(self, name: str, teacher: Model, pairs: dict[str, str], reduce: Reduce, data,
                 stage: float | None = None):
        super().__init__(name, Teachers([teacher], [tuple(dict.fromkeys(pairs.values()))], reduce,
                                        data))
        self.pairs, self.taps, self.stage = pairs, tuple(pairs), stage

    def settled(self, steps):
        return round((self.stage or 0.0) * steps)

    def first(self, state) -> bool:
        """Returns whether the training is in its first stage."""
        return state.step < self.settled(state.steps)

    def before_batch(self, state):
        super().before_batch(state)
        if self.stage and state.step == self.settled(state.steps):
            state.optimizer.restart()  # means of the first loss's gradients say nothing of these
        self.base_weight = 0.0 if self.first(state) else 1.0

    def loss(self, state):
        if self.stage is None or self.first(state):
            return self.compare(state.taps, self.teachers(state))
        return self.later(state)

    def compare(self, mine: dict[str, Tensor], theirs: Said) -> Tensor:
        """Returns how far the student's maps, by node, are from what is made of the teacher's."""
        raise NotImplementedError

    def later(self, state) -> Tensor | None:
        """Returns a term of the second stage, or None."""
        return None
