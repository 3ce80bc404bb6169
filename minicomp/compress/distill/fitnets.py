"""FitNets: hints (Romero, Ballas, Ebrahimi Kahou, Chassang, Gatta & Bengio 2015, "FitNets: Hints
for Thin Deep Nets", arXiv 1412.6550).

A thin and deep student is hard to train from its output alone. In a first stage its guided layer
learns to say what a hint layer of the teacher says, through a regressor r that is thrown away,

    L_HT = 1/2 ||u_h(x) - r(v_g(x); W_r)||^2              mean over examples                (3)

of the *activations* u_h of the teacher and v_g of the student; what lies behind the guided layer
has no gradient. In the second stage the whole net learns from labels and soft targets,

    L_KD = CE(y, softmax(z)) + lambda CE(softmax(v / T), softmax(z / T))                    (1)

where lambda falls in a line from `lam` to `end`: hard examples count less in the beginning. Between
maps r is a convolution without padding whose kernel makes the sizes equal (section 2.2), between
features a linear map. The layers are, unless `to` names them, the activations in the middle of
both nets.

Where we leave the paper: (3) is divided by the number of the hint's entries, so that a learning
rate suits both stages; KL stands for the cross-entropy of (1), which has the same gradient. Both
stages are parts of one training, with one schedule of the learning rate; the optimizer starts
afresh in between.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ... import ops
from ...conv import conv2d
from ...errors import UserError
from ...nn.init import lecun_uniform
from ...tensor import Tensor
from ..technique import knob
from .features import Comparing, ComparingHook, stage_knob
from .places import middle
from .soft import soft_loss, soft_targets
from .teaching import output

ALONE = "it has soft targets of its own in its second stage"


def hint_loss(u, r):
    """Returns 1/2 ||u - r||^2 / entries, the mean over examples: eq. (3), divided.

    u, r : (N, ...) arrays or Tensors of one shape, the hint and the regressor's output
    """
    d = u - r
    return ops.mean(d * d) * 0.5


def regressed(v, w, b):
    """Returns r(v), the hint's shape: a convolution without padding, or a linear map.

    v : (N, C, H, W) or (N, C)        w : (O, C, KH, KW) or (O, C)        b : (O,)
    Source: Romero et al. 2015, section 2.2
    """
    if v.ndim == 2:
        return ops.matmul(v, ops.swapaxes(w, 0, 1)) + b
    return conv2d(v, w) + ops.reshape(b, shape=(1, -1, 1, 1))


def regressor_shape(guided: tuple[int, ...], hint: tuple[int, ...]) -> tuple[int, ...] | None:
    """Returns the shape of W_r between shapes of one example, (C, H, W) or (C,); None where there
    is none: the hint is larger, or one has maps and the other none."""
    if len(guided) != len(hint) or len(guided) not in (1, 3):
        return None
    kernel = tuple(a - b + 1 for a, b in zip(guided[1:], hint[1:]))
    return None if min(kernel, default=1) < 1 else (hint[0], guided[0], *kernel)


@dataclass(frozen=True)
class FitNets(Comparing):
    """Trains first on a hint, then on labels and soft targets."""

    word: ClassVar[str] = "fitnets"
    title: ClassVar[str] = "FitNets: hints"
    source: ClassVar[str] = (
        "Romero, Ballas, Ebrahimi Kahou, Chassang, Gatta & Bengio 2015, FitNets: Hints for Thin "
        "Deep Nets, arXiv:1412.6550")
    apart: ClassVar[dict[str, str]] = {"distill": ALONE, "attention-transfer": (
        "its first stage has no other loss")}

    T: float = knob(3.0, "temperature of the second stage", lo=0.01, hi=1000.0)
    lam: float = knob(4.0, "lambda, weight of the soft targets, at the start of the second stage",
                      lo=0.0)
    end: float = knob(0.0, "lambda at the end of the training", lo=0.0)
    stage: float = stage_knob()

    def found(self, student, teacher):
        both = middle(student), middle(teacher)
        return {} if None in both else {both[0]: both[1]}

    def check_pairs(self, pairs, mine, theirs):
        if len(pairs) != 1:
            raise UserError(f"{self.word}: to must name one guided layer and its hint, as "
                            f"to@relu2=relu1, got {len(pairs)}")
        ((node, other),) = pairs.items()
        if regressor_shape(mine[node], theirs[other]) is None:
            raise UserError(f"{self.word}: to@{node}={other} must be features, or maps of which "
                            f"the hint's are not larger, got {mine[node]} and {theirs[other]}")

    def hooks(self, model, data, run):
        teacher = self.net()
        pairs = self.pairs(model, teacher)
        ((node, other),) = pairs.items()
        shape = regressor_shape(model.shapes()[node], teacher.shapes()[other])
        return [Hint(self, teacher, pairs, lecun_uniform(shape, rng=run.rng), data)]


class Hint(ComparingHook):
    """Stage one: eq. (3), with the regressor's weights beside the student's; stage two: eq. (1)."""

    def __init__(self, technique: FitNets, teacher, pairs, w, data):
        self.technique, (self.guided, self.hint) = technique, next(iter(pairs.items()))
        self.own = {"weight": Tensor(w, requires_grad=True),
                    "bias": Tensor(np.zeros(len(w), np.float32), requires_grad=True)}

        def reduce(seen):
            said = {"hint": seen[0][self.hint]}
            return said | {"p": soft_targets(seen[0][output(teacher)], technique.T)}

        super().__init__(technique.word, teacher, pairs, reduce, data, technique.stage)
        self.teachers.names = [(self.hint, output(teacher))]

    def parameters(self):
        return self.own

    def compare(self, mine, theirs):
        r = regressed(mine[self.guided], self.own["weight"], self.own["bias"])
        return hint_loss(theirs["hint"], r)

    def later(self, state):
        of, begins = self.technique, self.settled(state.steps)
        done = (state.step - begins) / max(state.steps - 1 - begins, 1)
        lam = of.lam + (of.end - of.lam) * done
        return soft_loss(state.output, self.teachers(state)["p"], of.T) * lam if lam else None
