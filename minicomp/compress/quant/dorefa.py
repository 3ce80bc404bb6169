"""DoReFa-Net (Zhou, Wu, Ni, Zhou, Wen, Zou 2016, "DoReFa-Net: Training Low Bitwidth Convolutional
Neural Networks with Low Bitwidth Gradients", arXiv 1606.06160).

Weights and activations of few bits, by one function of numbers in [0, 1]:

    quantize_k(r) = rnd((2^k - 1) r) / (2^k - 1),        d quantize_k / d r = 1           (eq. 5)
    w^ = 2 quantize_k(tanh w / (2 max |tanh w|) + 1/2) - 1                                (eq. 9)
    a^ = quantize_k(clip(a, 0, 1))                                                       (eq. 11)

and weights of 1 bit by E|w| sign w, E the mean over the layer, straight through (section 2.3).

tanh bounds the weights; the maximum is over the layer and a constant to differentiation.

The grid of eq. (9) is symmetric and has no 0: 2^k levels (2 i / (2^k - 1)) - 1, which is the grid
"midrise" at the scale 2 / (2^k - 1), stored at k bits. Weights are therefore of size 1 whatever
they were, which nets with batch norm bear and others must learn.

Where we leave the paper: gradients stay floats (its eq. (12) quantizes them too). Only values that
cannot be below 0 are clipped to 0..1; others, such as the input, have a grid over the calibrated
range. Layers that the paper leaves in floats, the first and the last, have 8 bits where one asks
for them by name. A mask stays: masked entries are 0 although the grid has none, and no part of E.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...grid.affine import TINY
from ...nn.forms import Affine
from ...nn.forms.binary import pack_bases
from ...tensor import Array, primitive, raw, rules
from ..binary.training import Signed, kept_mean, latent_of, refuse_zeros, with_mask_of
from ..technique import knob
from .schemes import Scheme
from .training import Calibrated


def quantize_k(r: Array, k: int) -> Array:
    """Returns rnd((2^k - 1) r) / (2^k - 1), in r's dtype, half to even.

    r : float in 0..1        Source: Zhou et al. 2016, eq. (5)
    """
    n = 2**k - 1
    return np.rint(n * r) / n


def squashed(w: Array) -> Array:
    """Returns tanh w / max |tanh w|, in w's dtype, within -1..1; 0 where all w are 0."""
    t = np.tanh(w)
    return t / max(np.abs(t).max(initial=0.0), TINY)


def dorefa_weights(w: Array, k: int) -> Array:
    """Returns w^ = 2 quantize_k(tanh w / (2 max |tanh w|) + 1/2) - 1, in w's dtype.

    w : float        k : bits        Source: Zhou et al. 2016, eq. (9)
    """
    return 2 * quantize_k(squashed(w) / 2 + 0.5, k) - 1


def dorefa_activations(a: Array, k: int) -> Array:
    """Returns quantize_k(clip(a, 0, 1)), in a's dtype.   Source: Zhou et al. 2016, eq. (11)"""
    return quantize_k(np.clip(a, 0, 1), k)


@primitive
def dorefa(w, *, bits: int):
    """Returns `dorefa_weights(w, bits)`, with gradient (1 - tanh^2 w) / max |tanh w|."""
    return dorefa_weights(w, bits).astype(w.dtype, copy=False)


def _slope(w: Array) -> Array:
    t = np.tanh(w)
    return (1 - t * t) / max(np.abs(t).max(initial=0.0), TINY)


rules(dorefa, lambda g, y, w, bits: g * _slope(raw(w)))


class Squashed(Affine):
    """The form while it trains: of its latent, eq. (9) makes the codes."""

    ranged = False

    def decode(self, *, training=False, rng=None):
        if self.latent is None:
            return super().decode()
        return dorefa(self.latent, bits=self.bits)

    def frozen_parts(self):
        if self.latent is None:
            return {}
        n = 2**self.bits - 1
        r = np.rint(n * (squashed(self.latent.data) / 2 + 0.5))
        return {"q": r.astype(np.int64) - 2 ** (self.bits - 1), "latent": None}


class OneBit(Signed):
    """The form while it trains at 1 bit: E|w| sign w of its latent."""

    def found(self, w):
        return pack_bases(w[None]), kept_mean(np.abs(w).reshape(1, -1), self.kept())[:, None]


def squashing(form, scheme: Scheme) -> Squashed:
    """Returns the trainable form of a form: its values are the latent, its mask stays."""
    scale = np.float32(2 / (2**scheme.bits - 1))
    w = form.values() if form.behind else form.dense().data
    made = Squashed.of(w, scale, bits=scheme.bits, grid="midrise", trainable=True)
    return made if form.mask is None else made.masked(form.mask, behind=form.behind)


@dataclass(frozen=True)
class DoReFa(Calibrated):
    """Trains with weights squashed onto a grid without 0, and activations clipped to 0..1."""

    word: ClassVar[str] = "dorefa"
    title: ClassVar[str] = "DoReFa-Net"
    source: ClassVar[str] = (
        "Zhou, Wu, Ni, Zhou, Wen & Zou 2016, DoReFa-Net: Training Low Bitwidth Convolutional "
        "Neural Networks with Low Bitwidth Gradients, arXiv:1606.06160"
    )

    bits: int = knob(8, "bits of a weight", lo=1, hi=16, per_layer=True)

    def start(self, layers, model, x):
        free = {n: a for n, a in layers.items() if "zero_point" in a.buffers}
        if free:
            super().start(free, model, x)

    def layers(self, model):
        layers = super().layers(model)
        for layer in layers.values():
            if "zero_point" not in layer.buffers:
                layer.set_range(0.0, 1.0)
        return layers

    def scheme(self, node):
        return Scheme(self.at("bits", node), "midrise", "tensor")

    def placed(self, form, scheme):
        if scheme.bits == 1:
            return with_mask_of(form, OneBit(latent_of(form)))
        return squashing(form, scheme) if scheme.grid == "midrise" else super().placed(form, scheme)

    def hooks(self, model, data, run):
        hooks = super().hooks(model, data, run)
        for name, form in model.forms().items():
            if isinstance(form, OneBit):
                refuse_zeros(self.word, name, form)
        return hooks

    def finish(self, model, run):
        model = super().finish(model, run)
        plain = {name: Affine(f.q, f.scale.data, bits=f.bits, grid="midrise", mask=f.mask)
                 for name, f in model.forms().items() if isinstance(f, Squashed)}
        model.set_forms(plain | {name: f.plain() for name, f in model.forms().items()
                                 if isinstance(f, OneBit)})
        return model
