"""GPTQ (Frantar, Ashkboos, Hoefler, Alistarh 2022, arXiv 2210.17323): OBS for rounding.

A layer's weights go to a grid, and its output should change least: row by row that is

    min over w^ on the grid  |X w - X w^|^2,     H = X'X

OBQ rounds one weight of a row at a time and moves those that are still free, as OBS does:

    err = (w_q - quant(w_q)) / [H^-1]_qq,     w <- w - err H^-1 e_q,     q leaves H     (eqs. 2, 3)

GPTQ takes the columns of every row in the same order, from left to right or by falling diagonal of
H (`act_order`). All rows then share one sequence of inverses, which Cholesky gives at once, as in
SparseGPT: with H^-1 = U'U, U upper triangular,

    err = (w_j - quant(w_j)) / U_jj,     w_j.. <- w_j.. - err U_j,j..            (algorithm 1)

Inside a block of columns updates are made column by column, those of the columns behind it in one
matrix product. Where groups of a row have scales of their own, a group's scale is that of its
weights as they stand when it is reached; under `act_order`, where a group's columns are not reached
together, of the weights at the start.

Where we leave the paper: inputs X are those of the net as it is quantized so far, and the target is
the output of the net as it was (`curvature/layerwise.py`); so the weights that are rounded are
those of least error there. The bias is one more column, the last, whose input is 1: it takes no
code, and what is left over moves it. Masked weights stay 0, and what they do is made up for in the
same sweep, as in SparseGPT. Scales are the paper's (the largest weight) under `clip = max`;
`output` tries fractions of that and keeps for each row the one whose sweep leaves the least error.
A row for which rounding to nearest is better is rounded so. The sweep itself is `sweep.gptq`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..technique import knob
from .layers import LayerQuantizer, nearest
from .sweep import gptq


@dataclass(frozen=True)
class GPTQ(LayerQuantizer):
    """Rounds a layer's weights column by column; what is not rounded yet makes up for it."""

    word: ClassVar[str] = "gptq"
    title: ClassVar[str] = "GPTQ"
    source: ClassVar[str] = ("Frantar, Ashkboos, Hoefler & Alistarh 2022, GPTQ: Accurate "
                             "Post-Training Quantization for Generative Pre-trained Transformers, "
                             "arXiv:2210.17323")

    act_order: bool = knob(False, "columns by falling diagonal of H, not as they stand")
    block: int = knob(128, "columns between two matrix products", lo=1)

    def round(self, p, scheme, scale, zero_point, start, regroup, run, after):
        order = np.argsort(-np.diag(p.H)[:p.weights], kind="stable") if self.act_order else None
        swept = gptq(start, p.Hinv, scale, zero_point, bits=scheme.bits, grid=scheme.grid,
                     weights=p.weights, kept=~p.dead, order=order, block=self.block,
                     group=scheme.group, regroup=None if self.act_order else regroup)
        plain = nearest(p, scheme, swept.scale, swept.zero_point, start)
        return swept.where(p.error(swept.rows) <= p.error(plain.rows), plain)
