"""N:M fine-grained structured sparsity (Mishra et al. 2021, arXiv 2104.08378).

In every M consecutive weights along the inputs, the N largest stay. Hardware then needs log2 M bits
a kept weight to find its input, and every block costs the same. The inputs of a convolution are its
channels: a block is of M channels at one place of the kernel, as in the authors' code, which
permutes (O, C, K, K) to (O, K, K, C) first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from ...errors import UserError
from ...tensor import Array
from ..technique import Technique, check_maskable, knob, masked, weights
from ..scores import block_mask, magnitudes


def nm_mask(w: Array, n: int, m: int, *, mask: Array | None = None) -> Array:
    """Returns the mask that keeps the n largest |w| of every m along the inputs.

    Of equals those of lowest index go.
    w : (O, I), or (O, C, K, K) with blocks of channels        result : bool, True where kept
    mask : what earlier pruning kept, or None; what it dropped goes first
    Raises ValueError where m does not divide I or C, n is not in [1, m], or a weight is NaN.
    """
    return block_mask(magnitudes(w), n, m, mask=mask)


@dataclass(frozen=True)
class NM(Technique):
    """Keeps the n largest of every m consecutive inputs of each output."""

    word: ClassVar[str] = "nm"
    title: ClassVar[str] = "N:M sparsity"
    source: ClassVar[str] = ("Mishra et al. 2021, Accelerating Sparse Deep Neural Networks, "
                             "arXiv:2104.08378")

    n: int = knob(2, "weights kept in a block", lo=1, per_layer=True)
    m: int = knob(4, "weights in a block", lo=2, per_layer=True)
    skip: bool = knob(False, "leave layers whose inputs m does not divide as they are, instead of "
                             "refusing them")

    def __post_init__(self):
        super().__post_init__()
        if not isinstance(self.n, Mapping) and not isinstance(self.m, Mapping):
            self.check_blocks("", self.n, self.m)

    def targets(self, model):
        return list(weights(model))

    def check(self, model):
        super().check(model)
        check_maskable(self.word, model)
        for node in self.targets(model):
            self.check_blocks(f"{node}: ", self.at("n", node), self.at("m", node))

    def check_shapes(self, model):
        for node, name in weights(model).items():
            inputs, m = model.forms()[name].shape[1], self.at("m", node)
            if inputs % m and not self.skip:
                raise UserError(f"nm: {node}: m must divide the {inputs} inputs, got {m}; "
                                "skip=true leaves such a layer as it is")

    @staticmethod
    def check_blocks(where: str, n: int, m: int) -> None:
        """Raises UserError where n of a block of m cannot be kept."""
        if n > m:
            raise UserError(f"nm: {where}n must be at most m = {m}, got {n}")

    def change(self, model, data, run):
        masks = {}
        for node, name in weights(model).items():
            form, m = model.forms()[name], self.at("m", node)
            if form.shape[1] % m == 0:
                masks[name] = nm_mask(form.dense().data, self.at("n", node), m, mask=form.mask)
        return masked(model, masks)
