"""N:M fine-grained structured sparsity (Mishra et al. 2021, arXiv 2104.08378).

In every M consecutive weights along the inputs, the N largest stay. Hardware then needs log2 M bits
a kept weight to find its input, and every block costs the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...errors import UserError
from ...tensor import Array
from ..technique import Technique, knob, masked, weights
from ..scores import drop_smallest, magnitudes


def nm_mask(w: Array, n: int, m: int, *, mask: Array | None = None) -> Array:
    """Returns the mask that keeps the n largest |w| of every m that follow one another in a row.

    Of equals those of lowest index go.
    w : (O, ...), its rows of a length that m divides        result : bool, True where kept
    mask : what earlier pruning kept, or None; what it dropped goes first
    Raises ValueError where m does not divide a row, n is not in [1, m], or a weight is NaN.
    """
    width = int(np.prod(w.shape[1:]))
    if not 1 <= n <= m:
        raise ValueError(f"n must be in [1, {m}], got {n}")
    if width % m:
        raise ValueError(f"m must divide the {width} weights of a row, got {m}")
    return drop_smallest(magnitudes(w), m - n, width=m, mask=mask)


@dataclass(frozen=True)
class NM(Technique):
    """Keeps the n largest of every m consecutive weights."""

    word: ClassVar[str] = "nm"
    title: ClassVar[str] = "N:M sparsity"
    source: ClassVar[str] = ("Mishra et al. 2021, Accelerating Sparse Deep Neural Networks, "
                             "arXiv:2104.08378")

    n: int = knob(2, "weights kept in a block", lo=1, per_layer=True)
    m: int = knob(4, "weights in a block", lo=2, per_layer=True)
    skip: bool = knob(False, "leave layers whose width m does not divide as they are, instead of "
                             "refusing them")

    def targets(self, model):
        return list(weights(model))

    def change(self, model, data, run):
        masks = {}
        for node, name in weights(model).items():
            form, m = model.forms()[name], self.at("m", node)
            w = form.dense().data
            if self.skip and int(np.prod(w.shape[1:])) % m:
                continue
            try:
                masks[name] = nm_mask(w, self.at("n", node), m, mask=form.mask)
            except ValueError as e:
                raise UserError(f"nm: {node}: {e}") from None
        return masked(model, masks)
