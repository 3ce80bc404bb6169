"""Attention transfer (Zagoruyko & Komodakis 2017, "Paying More Attention to Attention: Improving
the Performance of Convolutional Neural Networks via Attention Transfer", arXiv 1612.03928).

Where a convolutional net looks is one map a layer, the channels summed away:

    F(A) = sum_i |A_i|^p          over the channels i of maps A (C, H, W), flattened         (1)
    L = CE + beta / 2 sum_j || Q_S^j / ||Q_S^j|| - Q_T^j / ||Q_T^j|| ||                      (2)

with Q = F(A) at places j of the student and the teacher that have equal H and W; channels need not
agree. Places are, unless `to` names others, the last maps of each size, as in the paper the end of
each group of a residual net.

Where the norm in (2) is 0 it has no slope; here it is sqrt(d^2 + 1e-12). `form` = "squares" is the
authors' code: the mean over j's entries of the squared difference in place of the norm, for which
beta is 1e3 where (2) has 0.1, and no half. With `distill` in the same training it is the paper's
AT + KD.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ... import ops
from ...errors import UserError
from ..technique import knob
from .features import Comparing, ComparingHook
from .places import last_maps

TINY = 1e-24  # beside the square of a norm, so that a map of zeros is one of zeros


def attention_map(a, p: int = 2):
    """Returns F(a) / ||F(a)||, (N, H W), of maps a, (N, C, H, W): eq. (1), a row of norm 1 each.

    a : array or Tensor        p : at least 1
    """
    q = a * a if p == 2 else ops.power(ops.absolute(a), exponent=float(p))
    q = ops.reshape(ops.sum(q, axis=1), shape=(a.shape[0], -1))
    return q / ops.sqrt(ops.sum(q * q, axis=1, keepdims=True) + TINY)


def attention_loss(mine, theirs, form: str = "norm"):
    """Returns how far normalised maps are from others, the mean over examples: half the norm of the
    difference, or the mean of its squares.

    mine, theirs : (N, H W)        form : "norm" or "squares"
    Source: Zagoruyko & Komodakis 2017, eq. (2), and the authors' code
    """
    d = mine - theirs
    if form == "squares":
        return ops.mean(d * d)
    return ops.mean(ops.sqrt(ops.sum(d * d, axis=1) + 1e-12)) * 0.5


@dataclass(frozen=True)
class AttentionTransfer(Comparing):
    """Trains on labels and on where the teacher looks."""

    word: ClassVar[str] = "attention-transfer"
    title: ClassVar[str] = "Attention transfer"
    source: ClassVar[str] = (
        "Zagoruyko & Komodakis 2017, Paying More Attention to Attention: Improving the Performance "
        "of Convolutional Neural Networks via Attention Transfer, arXiv:1612.03928")

    beta: float = knob(0.1, "weight of the difference of maps", lo=0.0)
    p: int = knob(2, "power of the activations", lo=1, hi=8)
    form: str = knob("norm", "norm, as printed, or squares, as in the authors' code, where beta is "
                             "about 1000", choices=("norm", "squares"))

    def found(self, student, teacher):
        return last_maps(student, teacher)

    def check_pairs(self, pairs, mine, theirs):
        if not pairs:
            raise UserError(f"{self.word}: to must name maps of both nets, as to@relu1=relu1: they "
                            "have none of one size")
        for node, other in pairs.items():
            a, b = mine[node], theirs[other]
            if len(a) != 3 or a[1:] != b[1:]:
                raise UserError(f"{self.word}: to@{node}={other} must be maps of one height and "
                                f"width, got {a} and {b}")

    def hooks(self, model, data, run):
        teacher = self.net()
        return [Attention(self, teacher, self.pairs(model, teacher), data)]


class Attention(ComparingHook):
    """Adds beta times the differences of eq. (2)."""

    def __init__(self, technique: AttentionTransfer, teacher, pairs, data):
        self.technique = technique
        super().__init__(technique.word, teacher, pairs, lambda seen: {
            name: attention_map(a, technique.p) for name, a in seen[0].items()}, data)

    def compare(self, mine, theirs):
        of = self.technique
        terms = [attention_loss(attention_map(mine[node], of.p), theirs[other], of.form)
                 for node, other in self.pairs.items()]
        return sum(terms[1:], terms[0]) * of.beta
