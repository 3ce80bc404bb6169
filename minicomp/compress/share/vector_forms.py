"""What techniques share that give every layer codebooks of vectors: knobs, and the form."""

from __future__ import annotations


import numpy as np

from ...nn.forms import Dense, Form, Half, Product
from ...tensor import Array, no_grad
from ..quant.tables import WholeQuantizer
from ..technique import Run, knob
from .blocks import Search, product_quantize


def block_knob(default: int):
    """Returns the field for the columns of a block."""
    return knob(default, "columns of a block; all of them where a layer has fewer", lo=1, hi=65536,
                per_layer=True)


def k_knob(default: int):
    """Returns the field for the codewords of a codebook."""
    return knob(default, "codewords of a codebook; fewer where a layer has fewer vectors", lo=1,
                hi=65536, per_layer=True)


def half_knob():
    """Returns the field for codewords of 16 bits."""
    return knob(False, "store codewords as float16, what is beyond 65504 as that")


class VectorQuantizer(WholeQuantizer):
    """A technique whose layers become a `Product`; its knobs are those of `blocks`, by layer."""

    def search(self) -> Search:
        """Returns how codewords are looked for."""
        raise NotImplementedError

    def product(self, node: str, form: Form, run: Run, *, stages: int = 1,
                moments: Array | None = None) -> Form:
        """Returns a layer's weight as codewords; an empty one as it is.

        stages, moments : of `blocks.product_quantize`
        """
        with no_grad():
            w = np.array(form.dense().data, np.float32)
        if not w.size:
            return form
        rows = w.reshape(len(w), -1)
        index, codebooks = product_quantize(
            rows, min(self.at("block", node), rows.shape[1]), self.at("k", node),
            stages=stages, shared=self.at("shared", node), moments=moments, search=self.search(),
            rng=run.rng)
        return Product(index, (Half if self.half else Dense)(codebooks), w.shape)
