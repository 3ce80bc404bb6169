"""Flattened convolutions (Jin, Dundar & Culurciello 2015, arXiv 1412.5474).

Each filter is a product of three vectors, along channels, height and width:

    W[o, c, i, j] = alpha[o, c] beta[o, i] gamma[o, j]          C h w numbers become C + h + w

    conv (O, C, h, w)  becomes  1 x 1 (O, C), depthwise h x 1, depthwise 1 x w with the bias

That is exact for filters of rank one only, which trained ones are not. The paper trains the net in
this form from the beginning, with `sets` such chains in a row, l = 2 by cross-validation, and a
bias in each layer; no activation stands between them. `start = random` makes the net to be trained
so, `finetune` trains it. `start = cp` begins at the nearest filter of rank one of each filter of a
trained net, the rank-one CP of each, for fine-tuning; it has one set.

Where we leave the paper: its vertical and horizontal filters pad so that maps do not shrink; here
the first set has the stride and padding of the convolution that it replaces, so that whatever
follows fits; further sets have stride 1 and half the kernel as padding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...errors import UserError
from ...nn.init import lecun_uniform
from ...nn.layers import Conv2d, Layer
from ...tensor import Array
from ..technique import knob
from .chains import decoded, given
from .factors import svd
from .tensors import TensorTechnique


def flattened_filters(alpha: Array, beta: Array, gamma: Array) -> Array:
    """Returns the filters alpha[o, c] beta[o, i] gamma[o, j], (O, C, h, w).

    alpha : (O, C)        beta : (O, h)        gamma : (O, w)
    Source: Jin et al. 2015, eq. (2)
    """
    return np.einsum("oc,oi,oj->ocij", alpha, beta, gamma)


def flattened_conv(x: Array, alpha: Array, beta: Array, gamma: Array) -> Array:
    """Returns the cross-correlation of x with flattened filters as three passes along one axis
    each, (O, H - h + 1, W - w + 1).

    x : (C, H, W)        alpha : (O, C)        beta : (O, h)        gamma : (O, w)
    Source: Jin et al. 2015, eq. (3)
    """
    y = np.einsum("oc,cyx->oyx", alpha, x)
    h, w = beta.shape[1], gamma.shape[1]
    H, W = y.shape[1] - h + 1, y.shape[2] - w + 1
    y = sum(beta[:, i, None, None] * y[:, i:i + H] for i in range(h))
    return sum(gamma[:, j, None, None] * y[:, :, j:j + W] for j in range(w))


def rank_one(w: Array, rounds: int = 50) -> tuple[Array, Array, Array]:
    """Returns alpha (O, C), beta (O, h) and gamma (O, w), of equal norms, whose products are near
    each filter: none of the three can be bettered with the other two as they are.

    w : (O, C, h, w)        rounds : of alternating least squares, at most, from the leading
        singular vectors of each filter
    Source: De Lathauwer et al. 2000, the higher-order power method
    """
    w = np.asarray(w, np.float64)
    O, C, h, width = w.shape
    beta = svd(w.transpose(0, 2, 1, 3).reshape(O, h, -1))[0][:, :, 0]
    gamma = svd(w.transpose(0, 3, 1, 2).reshape(O, width, -1))[0][:, :, 0]
    size = np.zeros(O)
    for _ in range(rounds):
        alpha = _unit(np.einsum("ocij,oi,oj->oc", w, beta, gamma))
        beta = _unit(np.einsum("ocij,oc,oj->oi", w, alpha, gamma))
        gamma = np.einsum("ocij,oc,oi->oj", w, alpha, beta)
        before, size = size, np.linalg.norm(gamma, axis=1)
        gamma = _unit(gamma)
        if (size - before <= 1e-12 * size).all():
            break
    root = np.cbrt(size)[:, None]
    return alpha * root, beta * root, gamma * root


def _unit(a: Array) -> Array:
    norms = np.linalg.norm(a, axis=1, keepdims=True)
    return a / np.where(norms > 0, norms, 1.0)


@dataclass(frozen=True)
class Flattened(TensorTechnique):
    """Replaces convolutions by three along one axis each, to be trained in that form."""

    word: ClassVar[str] = "flattened"
    title: ClassVar[str] = "Flattened convolutions"
    source: ClassVar[str] = ("Jin, Dundar & Culurciello 2015, Flattened Convolutional Neural "
                             "Networks for Feedforward Acceleration, arXiv:1412.5474")

    start: str = knob("random", "weights drawn, to be trained from the beginning, or each filter's "
                                "nearest of rank one", choices=("random", "cp"))
    sets: int = knob(1, "start random: chains of three in a row; the paper has 2", lo=1, hi=8)

    def __post_init__(self):
        super().__post_init__()
        if self.start == "cp" and self.sets > 1:
            raise UserError(f"{self.word}: start cp has one set, got {self.sets}")

    def check_shapes(self, model):
        for node in self.wanted(model):
            if self.sets > 1 and any(k % 2 == 0 for k in node.layer.kernel_size):
                raise UserError(f"{self.word}: sets of {node.name} must be 1, got {self.sets}: its "
                                "kernel is even, and padding would not keep the size of maps")

    def factored(self, node, run):
        layers = flattened_layers(node.layer, self.sets, biased=self.start == "random")
        if self.start == "random":
            for layer in layers:
                given(layer, lecun_uniform(layer.forms["weight"].shape, rng=run.rng))
            return layers, None, f"as {self.sets} x 3 filters along one axis, drawn"
        factors = rank_one(decoded(node.layer))
        for layer, weight in zip(layers, factors):
            given(layer, weight)
        return layers, flattened_filters(*factors), "as filters of rank one"


def flattened_layers(layer: Conv2d, sets: int, *, biased: bool) -> list[Layer]:
    """Returns `sets` times 1 x 1, depthwise h x 1 and 1 x w, with weights 0.

    biased : whether layers before the last have a bias where the convolution has one
    """
    O, (h, w), made = layer.out_channels, layer.kernel_size, []
    C, (sh, sw), (ph, pw) = layer.in_channels, layer.stride, layer.padding
    last = "bias" in layer.forms
    for i in range(sets):
        end = i == sets - 1
        made += [Conv2d(C, O, 1, bias=last and biased),
                 Conv2d(O, O, (h, 1), (sh, 1), (ph, 0), O, bias=last and biased),
                 Conv2d(O, O, (1, w), (1, sw), (0, pw), O, bias=last and (biased or end))]
        C, (sh, sw), (ph, pw) = O, (1, 1), (h // 2, w // 2)
    return made
