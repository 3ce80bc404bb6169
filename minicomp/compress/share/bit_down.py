"""And the Bit Goes Down (Stock, Joulin, Gribonval, Graham & Jegou 2020, Revisiting the Quantization
of Neural Networks, arXiv 1907.05686): codewords that keep what a layer gives, not what it holds.

Product quantization makes |W - W^|^2 small. What reaches the next layer is |x (W - W^)'|^2, and
inputs differ: a weight that reads an input which is seldom on may be far off. So a vector v of a
block goes to the codeword of least

    |x~ (c - v)|^2 = (c - v)' H (c - v),     H = sum x~' x~ over the training examples     (eq. 3)

x~ being the part of the inputs that the block reads; centroids are then the means of their members
(eq. 4), as before. One codebook serves all blocks of a layer (`shared`), H being the sum of theirs.
Layers are done from the first to the last, each for the inputs that it has behind the layers done.

Where we leave the paper: a small multiple of I is added to H (blocks.py), for where an input is
always 0 eq. 3 leaves its weight free; empty clusters take the vector that is farthest off; with
`shared` false each block has a codebook, and an H, of its own; codewords are trained on by
`finetune`, against the labels and not against the outputs of the float net. `weighting` diagonal
takes H's diagonal alone: inputs as if they were independent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...tensor import Array, no_grad
from ..curvature.hessian import check_layers, float64
from ..curvature.layerwise import layer_moments, samples_knob
from ..examples import calibration
from ..technique import Run, knob, weights
from .blocks import Search
from .vector_forms import VectorQuantizer, block_knob, half_knob, k_knob

WEIGHTINGS = ("full", "diagonal")


def input_moments(H: Array, columns: int, weighting: str = "full") -> Array:
    """Returns the second moment of what each row is multiplied by, (I, I).

    H : (G, C, C), X'X of each group, C = I or, with a bias, I + 1        columns : I
    weighting : "full", or "diagonal": 0 off the diagonal
    Of several groups their mean. Raises ValueError for another weighting.
    Source: Stock et al. 2020, eq. (3)
    """
    if weighting not in WEIGHTINGS:
        raise ValueError(f"weighting must be one of {', '.join(WEIGHTINGS)}, got {weighting!r}")
    mean = np.mean(H, axis=0)[:columns, :columns]
    return mean if weighting == "full" else np.diag(np.diag(mean))


@dataclass(frozen=True)
class BitDown(VectorQuantizer):
    """Gives every layer codebooks of vectors that keep its outputs, not its weights."""

    word: ClassVar[str] = "bit-down"
    title: ClassVar[str] = "And the bit goes down: activation-aware product quantization"
    source: ClassVar[str] = ("Stock, Joulin, Gribonval, Graham & Jegou 2020, And the Bit Goes "
                             "Down: Revisiting the Quantization of Neural Networks, "
                             "arXiv:1907.05686")

    block: int = block_knob(4)
    k: int = k_knob(256)
    shared: bool = knob(True, "one codebook for all blocks of a layer", per_layer=True)
    half: bool = half_knob()
    weighting: str = knob("full", "what of the inputs' second moments counts", choices=WEIGHTINGS)
    iterations: int = knob(100, "Lloyd's iterations at most", lo=0)
    samples: int = samples_knob()

    def reads(self):
        return ("train",)

    def check(self, model):
        super().check(model)
        check_layers(self.word, model)

    def search(self):
        return Search(iterations=self.iterations)

    def change(self, model, data, run):
        work, made, names = float64(model), {}, weights(model)
        x = calibration(self, data, run).x
        for node, H, _ in layer_moments(work, work, x):
            name = names[node.name]
            form = model.forms()[name]
            columns = form.dense().data[0].size if form.shape[0] else 0
            moments = input_moments(H, columns, self.weighting)
            made[name] = self.product(node.name, form, run, moments=moments)
            with no_grad():  # what later layers read
                work.forms()[name].value.data[...] = made[name].dense().data
            run.log({"event": "progress", "name": self.word, "done": len(made),
                     "total": len(names)})
        model.set_forms(made)
        return model

    def sketch(self, model, *, rng):
        self.check(model)
        model, forms = model.copy(), model.forms()
        model.set_forms({name: self.product(node, forms[name], Run(rng))
                         for node, name in weights(model).items()})
        return model
