"""Layers whose weights are Gaussian while they train, by the local reparametrization (Kingma,
Salimans & Welling 2015, "Variational Dropout and the Local Reparameterization Trick").

With w_ij ~ N(theta_ij, sigma_ij^2) independent, the output of a mixing layer is Gaussian too,

    y = x theta' + b + eps sqrt(x^2 sigma^2'),        eps ~ N(0, 1) for each output entry      (1)

Drawn there, each example has its own noise, and the slope of the loss varies less than with one
weight for the batch; sigma enters as an additive term (Molchanov et al. 2017, eq. 11), so that its
slope does not grow with theta. log sigma^2 moves as a `grid` of the layer: no weight, not counted,
not decayed. These layers stand in a net during a training only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar

import numpy as np

from ... import ops
from ...conv import conv2d
from ...errors import UserError
from ...nn.graph import Model, Node
from ...nn.layers import Conv2d, Layer, Linear
from ...tensor import Array, Tensor
from ..moving import FREE, Moving
from ..technique import check_movable, weights
from .divergence import slopes

SMALL = 1e-8  # beside the variance of an output, whose root has no slope at 0
LOW, HIGH = -20.0, 6.0  # of log sigma^2


class Noisy(Moving):
    """What both kinds share.   buffers : log_var, of the weight's shape"""

    buffer_parts = {"log_var": FREE}

    base: ClassVar[type[Layer]]  # what it becomes again

    @classmethod
    def of(cls, layer: Layer, log_var: float) -> Layer:
        """Returns the noisy layer of the same forms.   log_var : log sigma^2 at the start"""
        made = cls(**layer.config())
        made.forms = {part: form.copy() for part, form in layer.forms.items()}
        made.buffers = {"log_var": np.full(made.forms["weight"].shape, log_var, np.float32)}
        return made

    def plain(self) -> Layer:
        """Returns the ordinary layer of these forms."""
        made = self.base(**self.config())
        made.forms = dict(self.forms)
        return made

    def project(self):
        np.clip(self.buffers["log_var"], LOW, HIGH, out=self.buffers["log_var"])

    def fused(self, *after):
        return None

    def kept(self) -> Array:
        """Returns which weights an earlier mask keeps: the others have no noise either."""
        form = self.forms["weight"]
        return np.ones(form.shape, bool) if form.mask is None else form.mask

    def forward(self, x, *, weights, training, rng):
        mean = super().forward(x, weights=weights, training=training, rng=rng)
        if not training:
            return mean
        if rng is None:
            raise ValueError("rng must be given when a model with noisy weights is training")
        variance = ops.exp(weights["log_var"]) * self.kept().astype(np.float32)
        spread = ops.sqrt(self.mixed(x * x, variance) + SMALL)
        return mean + spread * rng.standard_normal(mean.shape, np.float32).astype(mean.dtype)

    def slopes_of(self, theta: Array) -> dict[str, Array]:
        """Returns the slopes of KL(q || log-uniform prior), by "weight" and names of buffers."""
        found = zip(("weight", "log_var"), slopes(theta, self.buffers["log_var"]))
        return {name: slope * self.kept() for name, slope in found}

    def mixed(self, x: Tensor, w: Tensor) -> Tensor:
        """Returns the layer's output for another weight, without bias."""
        raise NotImplementedError


class NoisyLinear(Noisy, Linear):
    """A Linear of Gaussian weights."""

    kind, base = "NoisyLinear", Linear

    def mixed(self, x, w):
        return ops.matmul(x, ops.transpose(w))


class NoisyConv2d(Noisy, Conv2d):
    """A Conv2d of Gaussian weights."""

    kind, base = "NoisyConv2d", Conv2d

    def mixed(self, x, w):
        return conv2d(x, w, stride=self.stride, padding=self.padding, groups=self.groups)


KINDS: dict[type[Layer], type[Noisy]] = {Linear: NoisyLinear, Conv2d: NoisyConv2d}


def check_mixing(word: str, model: Model) -> None:
    """Raises UserError for a weight of another layer than Linear and Conv2d, and for one whose
    entries cannot move alone."""
    check_movable(word, model)
    for node in weights(model):
        if type(model.node(node).layer) not in KINDS:
            raise UserError(f"{word}: {node} must be a Linear or Conv2d, got "
                            f"{model.node(node).layer.kind}")


def noisy(model: Model, log_var: float, kinds: dict = KINDS) -> Model:
    """Returns the model with noisy layers in the place of those with weights.

    log_var : log sigma^2 at the start        kinds : of layers, by the kind that they replace
    """
    names = weights(model)
    return replaced(model, lambda node: kinds[type(node.layer)].of(node.layer, log_var)
                    if node.name in names else node.layer)


def quiet(model: Model) -> Model:
    """Returns the model with ordinary layers again, of the forms that the noisy ones hold."""
    return replaced(model, lambda node: node.layer.plain() if isinstance(node.layer, Noisy)
                    else node.layer)


def replaced(model: Model, made: Callable[[Node], Layer]) -> Model:
    """Returns the model with the layer `made(node)` at each node; still the built-in net."""
    nodes = [replace(node, layer=made(node)) for node in model.nodes]
    return model.rebuilt(nodes, builtin=model.builtin)


def noisy_nodes(model: Model) -> list[Node]:
    """Returns the nodes whose weights are Gaussian."""
    return [node for node in model.nodes if isinstance(node.layer, Noisy)]
