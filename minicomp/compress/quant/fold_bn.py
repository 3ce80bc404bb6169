"""Folding of batch norm (Jacob et al. 2018, arXiv 1712.05877, eq. 14).

An integer program has no batch norm: it is part of the layer before it, whose weights are then
others than those that were trained, wider in some channels and narrower in others. What quantizes
weights must see these; the file becomes smaller by two or three numbers a channel.

The equation, and what cannot be folded, stand in `folding.py`, for other techniques begin with it.
Gamma = 0 leaves a row of zeros and the shift as its bias. A Codebook or an Affine is refused by
name: fold before weights are put on a grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..technique import Technique
from .folding import check_foldable, fold


@dataclass(frozen=True)
class FoldBN(Technique):
    """Multiplies batch norms into the layers before them; outputs stay the same up to rounding."""

    word: ClassVar[str] = "fold-bn"
    title: ClassVar[str] = "Folding of batch norm"
    source: ClassVar[str] = (
        "Jacob et al. 2018, Quantization and Training of Neural Networks for Efficient "
        "Integer-Arithmetic-Only Inference, arXiv:1712.05877")

    def check(self, model):
        super().check(model)
        check_foldable(self.word, model)

    def change(self, model, data, run):
        made = fold(model, run.log, self.word)
        run.log({"event": "say", "text": f"{self.word}: {len(model.nodes) - len(made.nodes)} batch "
                                         "norms are part of the layers before them"})
        return made
