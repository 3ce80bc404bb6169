"""Binary weights with a scale a filter (Rastegari, Ordonez, Redmon, Farhadi 2016, "XNOR-Net:
ImageNet Classification Using Binary Convolutional Neural Networks", arXiv 1603.05279).

A filter W of n weights is alpha B, B of +-1. The nearest are, in closed form (section 3.1),

    B* = sign(W),      alpha* = W' sign(W) / n = ||W||_1 / n

Training sees W~ = alpha B, the update moves W. The gradient reaches W by both factors:

    dC/dW_i = dC/dW~_i (1/n + alpha d sign/dW_i),     d sign/dW = 1[|W| <= 1]     "printed"
    dC/dW_i = sign(W_i)/n sum_j dC/dW~_j sign(W_j) + alpha 1[|W_i| <= 1] dC/dW~_i    "exact"

alpha depends on all weights of the filter, so that the first term is a sum over j, which the print
leaves out. The authors' code (github.com/allenai/XNOR-Net, util.lua) is "printed", times
n (1 - 1/C), with 1[|W| < 1], and subtracts a filter's mean over its C input channels before; a
PyTorch one that is much used (jiecaoyu/XNOR-Net-PyTorch) is "exact", times the same. `gradient`
chooses; factors of a filter are a matter of the learning rate, and are not here.

That much is the paper's BWN, binary weight network. Its XNOR-Net (section 3.2) reads signs too:

    I * W ~ (sign(I) * sign(W)) . K alpha                                                  eq. (11)
    K = A * k,     A = sum_i |I_{:,:,i}| / c over the c channels,    k = 1/(w h) everywhere

. is entry by entry, K a map of numbers, one for each place of the filter: the mean |I| of what it
sees there. `inputs` says what a layer of signs reads,

    "real"      what it read before: BWN
    "signs"     signs alone, K = 1, as in the authors' code; the paper says of AlexNet that this
                costs less than 1 % of its accuracy
    "scaled"    signs, and what it gives is multiplied by K: a node `InputScale` behind it

for layers whose input comes from an activation; others read on what they read, as the first does. A
fully connected layer sees all of its input: K is the mean |I| of an example. Such activations
become signs, each behind a batch norm, and that behind any pooling by maximum: the pooling of signs
would be 1 nearly everywhere. A net whose batch norm stands in front of a pooling keeps that order.
The bias is added behind K, whose gradient is followed.

K needs the real numbers whose signs are read. They are the floats of a simulation and of a program
of precision float, in which K is a step `input_scale`; a program of bits has no such step.

The paper leaves the first and the last layer in floats: real@conv1=true,real@fc3=true. Means are
over what a mask keeps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ... import ops
from ...errors import UserError
from ...grid import binarize
from ...nn.forms.affine import spread
from ...nn.forms.binary import pack_bases
from ...nn.graph import Model, Node
from ...nn.layers import Dropout, Flatten, Identity, InputScale, Sign
from ...tensor import Array
from ..technique import knob
from .activations import behind_pools, check_read, read_by, with_binary
from .training import Latents, Signed, kept_mean, latent_of

GRADIENTS = ("exact", "printed")
INPUTS = ("real", "signs", "scaled")


def bwn_scale(w: Array) -> Array:
    """Returns alpha = ||W||_1 / n of each filter, (O,) in w's dtype.

    w : (O, ...) float        Source: Rastegari et al. 2016, section 3.1
    """
    rows = np.abs(w).reshape(len(w), -1)
    return kept_mean(rows, np.ones(rows.shape, bool))


def bwn(w: Array) -> Array:
    """Returns W~ = alpha sign(W), a filter each of axis 0, in w's dtype; sign(0) = +1."""
    return spread(bwn_scale(w), w.shape) * binarize(w)


def bwn_gradient(g, w: Array, *, gradient: str = "exact", mask: Array | None = None):
    """Returns dC/dW of g = dC/dW~, of w's shape: one of GRADIENTS.

    w : (O, ...), 0 where masked        mask : True where kept, or None
    """
    kept = np.ones(w.shape, bool) if mask is None else mask
    rows = kept.reshape(len(w), -1)
    alpha = spread(kept_mean(np.abs(w).reshape(rows.shape), rows), w.shape)
    n = spread(np.maximum(rows.sum(axis=1), 1).astype(w.dtype), w.shape)
    through_sign = g * (alpha * (np.abs(w) <= 1))
    if gradient == "printed":
        return through_sign + g * (1 / n)
    B = binarize(w)
    shared = ops.sum(g * (B * kept), axis=tuple(range(1, w.ndim)), keepdims=True)
    return through_sign + shared * (B / n)


class Scaled(Signed):
    """The form while it trains: alpha and sign of its latent, filter by filter."""

    gradient = "exact"

    def found(self, w):
        alpha = kept_mean(np.abs(w).reshape(self.rows, -1), self.kept())
        return pack_bases(w[None]), alpha[:, None]

    def back(self, g, w, scale):
        return bwn_gradient(g, w, gradient=self.gradient, mask=self.mask)


def real_input(model: Model, layer: str) -> str:
    """Returns the node whose numbers' signs a layer reads, as they are, flattened, or by way of a
    dropout, of which K knows nothing.

    Raises ValueError where it reads no signs, or signs by way of another layer.
    """
    (name,) = model.node(layer).inputs
    nodes = {node.name: node for node in model.nodes}
    while name in nodes and isinstance(nodes[name].layer, (Flatten, Identity, Dropout)):
        (name,) = nodes[name].inputs
    if name not in nodes or not isinstance(nodes[name].layer, Sign):
        raise ValueError(f"{layer} must read signs, or signs flattened, for its input to have "
                         f"scales K, reads {name}")
    return nodes[name].inputs[0]


def with_scales(model: Model, layers) -> Model:
    """Returns the model in which what each of the layers gives, of signs, is multiplied by the
    sizes K of its input, before its bias.

    Further nodes are called "NAME_scale"; ValueError where that is taken, where a layer has groups,
    and as of `real_input`.
    """
    swap = {}
    for name in layers:
        node, read = model.node(name), real_input(model, name)
        layer = node.layer
        if layer.groups != 1:
            raise ValueError(f"{name} must have one group to have scales of its input, got "
                             f"{layer.groups}")
        plain, scale = type(layer)(**layer.config() | {"bias": False}), InputScale.of(layer)
        plain.forms["weight"] = layer.forms["weight"]
        if "bias" in layer.forms:
            scale.forms["bias"] = layer.forms["bias"]
        swap[name] = (Node(name, plain, node.inputs), Node(f"{name}_scale", scale, (name, read)))
    return model.edit(swap)


@dataclass(frozen=True)
class XNORNet(Latents):
    """Trains binary weights with the nearest scale of each filter, of real inputs or of binary
    ones."""

    word: ClassVar[str] = "xnor-net"
    title: ClassVar[str] = "XNOR-Net and binary weights with a scale a filter (BWN)"
    source: ClassVar[str] = (
        "Rastegari, Ordonez, Redmon & Farhadi 2016, XNOR-Net: ImageNet Classification Using Binary "
        "Convolutional Neural Networks, arXiv:1603.05279"
    )

    gradient: str = knob("exact", "of the floats behind: the derivative, or as the paper prints it",
                         choices=GRADIENTS)
    inputs: str = knob("real", "what binary layers read: real numbers (BWN), signs, or signs with "
                               "the scales K of the inputs", choices=INPUTS)

    def check(self, model):
        super().check(model)
        if self.inputs != "real":
            check_read(f"{self.word}: inputs={self.inputs}", model, self.chosen(model))

    def prepared(self, model, data, run):
        if self.inputs == "real":
            return model
        read = read_by(model, self.chosen(model))
        try:
            made = behind_pools(with_binary(model, dict.fromkeys(read.values())))
            scaled = {n.inputs[0] for n in made.nodes if isinstance(n.layer, InputScale)}
            return with_scales(made, [name for name in read if name not in scaled]) if (
                self.inputs == "scaled") else made
        except ValueError as e:
            raise UserError(f"{self.word}: {e}") from None

    def placed(self, node, form):
        made = Scaled(latent_of(form), by_row=True)
        made.gradient = self.gradient
        return made
