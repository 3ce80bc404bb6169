"""Teacher assistants (Mirzadeh, Farajtabar, Li, Levine, Matsukawa & Ghasemzadeh 2020, "Improved
Knowledge Distillation via Teacher Assistant", AAAI, arXiv 1902.03393).

From a teacher far larger than itself a student learns less than from one nearer to its size. So
nets of sizes between stand in a row,

    teacher -> assistant 1 -> ... -> student

each distilled from the one before it as by Hinton et al. 2015. An assistant begins with the weights
of its file; it is trained here, with the student's training.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ...errors import UserError
from ...train import evaluate
from ..finetune import Rounds
from .teaching import SoftTargets, alpha_knob, check_alike, file_knob, loaded, paths, t_knob


@dataclass(frozen=True)
class Assistants(Rounds):
    """Distils the teacher into each assistant in turn, and the last one into the student."""

    word: ClassVar[str] = "teacher-assistant"
    title: ClassVar[str] = "Teacher assistants"
    source: ClassVar[str] = (
        "Mirzadeh, Farajtabar, Li, Levine, Matsukawa & Ghasemzadeh 2020, Improved Knowledge "
        "Distillation via Teacher Assistant, arXiv:1902.03393")

    teacher: str | None = file_knob("the teacher", ", which then speak together")
    assistants: str | None = file_knob("each assistant", ", from the largest to the smallest")
    T: float = t_knob()
    alpha: float = alpha_knob()

    def files(self):
        return paths(self.teacher) + paths(self.assistants)

    def nets(self, name: str) -> list:
        """Returns the nets of a knob; UserError where there are none."""
        if getattr(self, name) is None:
            raise UserError(f"{self.word}: {name} must name a .mcz file, got none")
        return loaded(f"{self.word}: {name}", getattr(self, name))

    def check(self, model):
        super().check(model)
        for name in ("teacher", "assistants"):
            check_alike(f"{self.word}: {name}", self.nets(name), model)

    def change(self, model, data, run):
        teachers, row = self.nets("teacher"), [*self.nets("assistants"), model]
        for i, (net, stream) in enumerate(zip(row, run.rng.spawn(len(row))), start=1):
            net = net.thawed()
            hook = SoftTargets("distill", teachers, data, T=self.T, alpha=self.alpha)
            self.train.fit(net, data, run.child(f"net-{i}", stream), [hook])
            teachers = [net.frozen()]
            run.log({"event": "round", "round": i, "rounds": len(row), "errors": evaluate(
                net, data.val, n_threads=run.n_threads).errors})
        return teachers[0]

    def sketch(self, model, *, rng):
        return model.frozen()
