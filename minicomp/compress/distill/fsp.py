"""Flow of solution procedure (Yim, Joo, Bae & Kim 2017, "A Gift from Knowledge Distillation: Fast
Optimization, Network Minimization and Transfer Learning", CVPR 2017).

How a net solves its task is how features of one layer become those of a later one. Of maps F1
(m, h, w) and F2 (n, h, w) that is the matrix of their inner products,

    G_ij = sum_s,t F1_i,s,t F2_j,s,t / (h w)                                                 (1)
    L_FSP = sum_k lambda ||G_T^k - G_S^k||^2           mean over examples                    (2)

over flows k that begin and end at maps of one size. The student learns in two stages: first (2)
alone, then its task alone. Flows go, unless `flow` names others, from the first to the last map of
each size, those of a size that both nets have; both ends of a flow must have as many channels in
the teacher as in the student.

The loss is of fourth order in the activations: of maps with large entries lambda, or the learning
rate, has to be small, or the first steps kill the net.

Where we leave the paper: it makes maps of two sizes equal by pooling; ours must be of one size. The
two stages are parts of one training, with one schedule of the learning rate; the optimizer starts
afresh in between.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ... import ops
from ...errors import UserError
from ...nn.graph import Model
from ..technique import knob
from .features import Comparing, ComparingHook, node_knob, stage_knob
from .places import by_size

ALONE = "it has a first stage without any other loss"


def fsp_matrix(a, b):
    """Returns G, (N, m, n), of maps a (N, m, H, W) and b (N, n, H, W): eq. (1).

    a, b : arrays or Tensors
    """
    n, h, w = a.shape[0], *a.shape[2:]
    flat = [ops.reshape(x, shape=(n, x.shape[1], h * w)) for x in (a, b)]
    return ops.matmul(flat[0], ops.swapaxes(flat[1], 1, 2)) * (1 / (h * w))


@dataclass(frozen=True)
class FSP(Comparing):
    """Trains first on the teacher's flows, then on labels."""

    word: ClassVar[str] = "fsp"
    title: ClassVar[str] = "Flow of solution procedure"
    source: ClassVar[str] = (
        "Yim, Joo, Bae & Kim 2017, A Gift from Knowledge Distillation: Fast Optimization, Network "
        "Minimization and Transfer Learning, CVPR 2017")
    apart: ClassVar[dict[str, str]] = dict.fromkeys(("distill", "attention-transfer", "fitnets"),
                                                    ALONE)

    flow: str | None = node_knob("by the student's node where a flow begins: where it ends; none "
                                 "has one for each size")
    lam: float = knob(1.0, "lambda, weight of the difference of flows", lo=0.0)
    stage: float = stage_knob()

    def flows(self, model: Model) -> dict[str, str]:
        """Returns {where a flow begins: where it ends} in the student."""
        return self.given("flow", model) or {names[0]: names[-1] for names in
                                             by_size(model).values() if len(names) > 1}

    def pairs(self, student, teacher):
        self.check_flows(self.flows(student), student)
        return super().pairs(student, teacher)

    def named(self, student, teacher):
        ends = {n for both in self.flows(student).items() for n in both}
        given = self.given("to", student)
        if stray := sorted(set(given) - ends):
            raise UserError(f"{self.word}: to@{stray[0]} must be an end of a flow; these are "
                            f"{', '.join(sorted(ends)) or 'none'}")
        same = {n: n for n in ends} if self.flow is not None else self.found(student, teacher)
        return same | given

    def found(self, student, teacher):
        mine, theirs = by_size(student), by_size(teacher)
        return {names[i]: theirs[size][i] for size, names in mine.items()
                if len(names) > 1 and len(theirs.get(size, ())) > 1 for i in (0, -1)}

    def check_flows(self, flows: dict[str, str], model: Model) -> None:
        """Raises UserError where a flow of the student does not join maps of one size."""
        shapes = model.shapes()
        for start, end in flows.items():
            if end not in shapes:
                raise UserError(f"{self.word}: flow@{start} must be a node, the student has no "
                                f"{end}; there are {', '.join(shapes)}")
            a, b = shapes[start], shapes[end]
            if len(a) != 3 or a[1:] != b[1:]:
                raise UserError(f"{self.word}: flow@{start}={end} must be maps of one height and "
                                f"width, got {a} and {b}")

    def check_pairs(self, pairs, mine, theirs):
        if not pairs:
            raise UserError(f"{self.word}: flow must name maps of the student, as "
                            "flow@relu1=relu2: both nets have no two maps of one size")
        for node, other in pairs.items():
            if mine[node] != theirs[other]:
                raise UserError(f"{self.word}: to@{node}={other} must be maps of one shape, got "
                                f"{mine[node]} and {theirs[other]}")

    def hooks(self, model, data, run):
        teacher = self.net()
        return [Flows(self, teacher, self.pairs(model, teacher), self.flows(model), data)]


class Flows(ComparingHook):
    """Adds lambda times the differences of eq. (2) in the first stage, the only loss there."""

    def __init__(self, technique: FSP, teacher, pairs, flows: dict[str, str], data):
        self.lam = technique.lam
        self.flows = {a: b for a, b in flows.items() if a in pairs and b in pairs}
        super().__init__(technique.word, teacher, pairs, lambda seen: {
            a: fsp_matrix(seen[0][pairs[a]], seen[0][pairs[b]]) for a, b in self.flows.items()},
            data, technique.stage)

    def compare(self, mine, theirs):
        n, total = len(next(iter(theirs.values()))), 0.0
        for a, b in self.flows.items():
            d = fsp_matrix(mine[a], mine[b]) - theirs[a]
            total = ops.sum(d * d) * (self.lam / n) + total
        return total
