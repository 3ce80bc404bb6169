"""Split pruning: a fully connected matrix cut into blocks, each pruned to the same sparsity.

The blocks lie along its features. Along the inputs of each row this is bank-balanced sparsity (Cao
et al. 2019, "Efficient and Effective Sparse LSTM on FPGA with Bank-Balanced Sparsity", FPGA '19):
every bank of a row keeps equally many weights, so that parallel units finish together. No settled
form exists for blocks along the outputs; here both axes are cut alike: `blocks` equal parts along
`axis`, one ranking in each part (of each row, for inputs).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ...errors import UserError
from ...tensor import Array
from ..technique import Technique, check_maskable, knob, masked, weights
from ..scores import magnitudes, smallest_mask


def bank_mask(w: Array, sparsity: float, blocks: int, *, mask: Array | None = None) -> Array:
    """Returns the mask with exactly round(s n) zeros in each of `blocks` equal banks of every row.

    w : (O, I)        n : I / blocks        Raises ValueError where blocks does not divide I.
    mask : what earlier pruning kept, or None; what it dropped goes first
    Source: Cao et al. 2019, algorithm 1
    """
    _check(w.shape[1], blocks)
    return smallest_mask(magnitudes(w), sparsity, width=w.shape[1] // blocks, mask=mask)


def split_mask(w: Array, sparsity: float, blocks: int, *, mask: Array | None = None) -> Array:
    """Returns the mask with exactly round(s n) zeros in each of `blocks` equal groups of rows.

    w : (O, I)        n : entries of a group
    Raises ValueError where blocks does not divide O.
    mask : what earlier pruning kept, or None; what it dropped goes first
    """
    _check(len(w), blocks)
    return smallest_mask(magnitudes(w), sparsity, width=w.size // blocks, mask=mask)


@dataclass(frozen=True)
class Split(Technique):
    """Prunes equal blocks of each fully connected layer to one sparsity."""

    word: ClassVar[str] = "split"
    title: ClassVar[str] = "Split (bank-balanced) pruning"
    source: ClassVar[str] = ("Cao et al. 2019, Efficient and Effective Sparse LSTM on FPGA with "
                             "Bank-Balanced Sparsity, FPGA '19")

    sparsity: float = knob(0.9, "fraction of zeros in every block", lo=0, hi=1, below=True,
                           per_layer=True)
    blocks: int = knob(4, "equal parts that the axis is cut into", lo=1, per_layer=True)
    axis: str = knob("inputs", "the axis that is cut", choices=("inputs", "outputs"))

    def targets(self, model):
        forms = model.forms()
        return [node for node, name in weights(model).items() if len(forms[name].shape) == 2]

    def check(self, model):
        super().check(model)
        check_maskable(self.word, model, [f"{node}.weight" for node in self.targets(model)])

    def check_shapes(self, model):
        for node in self.targets(model):
            shape = model.forms()[f"{node}.weight"].shape
            try:
                _check(shape[self.axis == "inputs"], self.at("blocks", node))
            except ValueError as e:
                raise UserError(f"split: {node}: {e}") from None

    def change(self, model, data, run):
        make, masks = bank_mask if self.axis == "inputs" else split_mask, {}
        for node in self.targets(model):
            form = model.forms()[f"{node}.weight"]
            masks[f"{node}.weight"] = make(
                form.dense().data, self.at("sparsity", node), self.at("blocks", node),
                mask=form.mask)
        return masked(model, masks)


def _check(n: int, blocks: int) -> None:
    if blocks < 1 or n % blocks:
        raise ValueError(f"blocks must divide {n}, got {blocks}")
