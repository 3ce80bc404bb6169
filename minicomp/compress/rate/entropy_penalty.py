"""Entropy-penalised quantization: training for codes that occur often (after Wiedemann, Marban,
Mueller & Samek 2018, "Entropy-Constrained Training of Deep Neural Networks", arXiv 1812.07520).

By the principle of minimum description length a net is worth its own bits beside those of the
labels that it leaves open. With codes k = rnd(w / s) on a grid, and R(k) = -log2 p(k) their price,

    L = mean cross-entropy + lambda ln 2 / N sum_i R(k_i)                                      (1)

over N examples, in nats; lambda = 1 weighs a bit of the net like a bit of a label. Rounding has no
slope. Here the price of a weight between two codes is that of either by its nearness, a line
through the prices at the grid's points,

    R(w) = R(j) + (w / s - j) (R(j + 1) - R(j)),       j = floor(w / s)                        (2)

whose slope pulls each weight towards the cheaper of its two codes: near 0, the most frequent one,
like a penalty |w| that grows as zeros do. The forward pass sees codes, and passes gradients
straight through (quantization-aware training).

Where we leave the paper: it relaxes codes to distributions over all grid points; ours is (2), one
subtraction a weight. Codes that have not occurred yet count half an occurrence. Prices are taken
anew every `every` steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...nn.graph import Model
from ...tensor import Array
from ...train import Hook
from ..finetune import Trained
from ..technique import check_movable, knob, weights
from .pricing import code_bits, code_counts, on_grids


def rate_slope(w: Array, step: float, bits: Array) -> Array:
    """Returns dR / dw of eq. (2), in w's dtype and shape; 0 beyond the last code.

    w : float        step : > 0        bits : (2 m + 1,) finite, of the codes -m..m
    """
    most = len(bits) // 2
    slopes = np.concatenate([[0.0], np.diff(bits) / step, [0.0]])
    at = np.clip(np.floor(w / step), -most - 1, most).astype(np.int64)
    return slopes[at + most + 1].astype(w.dtype)


@dataclass(frozen=True)
class EntropyPenalty(Trained):
    """Trains on a grid, with the bits of the codes in the loss."""

    word: ClassVar[str] = "entropy-penalty"
    quantizes: ClassVar[bool] = True
    title: ClassVar[str] = "Entropy-penalised quantization"
    source: ClassVar[str] = (
        "Wiedemann, Marban, Müller & Samek 2018, Entropy-Constrained Training of Deep Neural "
        "Networks, arXiv:1812.07520"
    )

    lam: float = knob(1.0, "lambda: bits of labels that a bit of the net is worth", lo=0.0)
    bits: int = knob(5, "bits of the grid, whose last code is the largest weight", lo=2, hi=8,
                     per_layer=True)
    every: int = knob(20, "steps after which prices are taken anew", lo=1)

    def targets(self, model):
        return list(weights(model))

    def check(self, model):
        super().check(model)
        check_movable(self.word, model)

    def hooks(self, model, data, run):
        on_grids(self, model)
        return [Prices(self, model, 1 if data is None else len(data.train.y))]


class Prices(Hook):
    """Slots "bits.NAME": what each code of a layer costs, bits, float64 (K,)."""

    name = EntropyPenalty.word

    def __init__(self, technique: EntropyPenalty, model: Model, n: int):
        super().__init__()
        self.technique, self.weight = technique, technique.lam * math.log(2) / n
        self.names = list(weights(model).values())
        for name in self.names:
            self.slots[f"bits.{name}"] = np.zeros(len(model.forms()[name].codes("q")))

    def before_batch(self, state):
        if state.step % self.technique.every == 0:
            for name in self.names:
                form = state.model.forms()[name].freeze()
                counts = code_counts(form.q.astype(np.int64), form.codes("q").stop - 1)
                # twice the counts, and one: half an occurrence of each code beside
                self.slots[f"bits.{name}"][...] = code_bits(2 * counts + 1)

    def after_backward(self, state):
        for name in self.names:
            form = state.model.forms()[name]
            slope = rate_slope(form.values(), form.scale.data[0], self.slots[f"bits.{name}"])
            state.weight_grads[name] = (
                state.weight_grads[name] + np.float32(self.weight) * slope
            )
