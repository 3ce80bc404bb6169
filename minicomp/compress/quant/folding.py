"""Batch norm becomes part of the layer before it (Jacob et al. 2018, arXiv 1712.05877).

Outside of training batch norm is a gain and a shift for each channel, so that for a layer with
weights, whatever it is,

    gamma (W x + b - mu) / sigma + beta  =  W_fold x + b_fold,     sigma = sqrt(EMA var + eps)

    W_fold = gamma W / sigma                                                             (14)
    b_fold = gamma (b - mu) / sigma + beta

where W has a row for each channel: of a convolution, in groups or not, or of a linear layer. The
layer then gives what quantization sees: the codes of W_fold are the codes that are stored.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...errors import UserError, article
from ...nn.forms import Dense, Form
from ...nn.graph import Model, Node
from ...nn.layers import Layer
from ...tensor import Array, no_grad
from ..technique import Log, silent


def fold_bn(w: Array, b: Array | None, gain: Array, bias: Array) -> tuple[Array, Array]:
    """Returns (W_fold, b_fold) of a layer behind which a channel's y becomes y gain + bias.

    w : (O, ...)        b : (O,), None where the layer has none
    gain, bias : (O,), gamma / sigma and beta - mu gamma / sigma
    Source: Jacob et al. 2018, eq. (14)
    """
    w_fold = w * by_channel(gain, w.ndim)                            # eq. (14)
    return w_fold, bias + (0.0 if b is None else b * gain)


def by_channel(a: Array, axes: int) -> Array:
    """Returns a (O,) in the shape that broadcasts along axis 0 of an array of so many axes."""
    return a.reshape(-1, *[1] * (axes - 1))


def fold(model: Model, log: Log = silent, word: str = "fold-bn") -> Model:
    """Returns the model whose batch norms are in the layers before them; a copy.

    Outside of training its outputs are the same up to rounding. A mask of a weight stays; where
    there was no bias there is one, and a bias that had a mask or another form becomes a Dense.
    Half weights are rounded to float16 again. A batch norm that cannot be folded stays, and `log`
    is told why: in front of it stands no layer with weights, or another reads that layer too.
    word : in messages
    Raises UserError, which names it, for a weight whose entries cannot move alone, for a batch norm
    that would divide by 0, and for numbers that would overflow.
    """
    check_foldable(word, model)
    found, obstacles = _foldable(model)
    for name, why in obstacles.items():
        log({"event": "say", "text": f"{word}: {name} stays a batch norm: {why}"})
    made = model.copy()
    for name, before in found.items():
        made = _without(made, made.node(before), made.node(name), word)
    return made


def foldable(model: Model) -> dict[str, str]:
    """Returns {batch norm: the layer that it can be folded into}, by names, in order."""
    return _foldable(model)[0]


def check_foldable(word: str, model: Model) -> None:
    """Raises UserError for a weight that a batch norm folds into and whose entries cannot move
    alone.   word : of the technique, for messages"""
    for name, before in foldable(model).items():
        weight = model.node(before).layer.forms["weight"]
        if not weight.movable:
            raise UserError(f"{word}: {before}.weight must hold plain values, of which each can "
                            f"move, got {article(weight.kind)}; fold {name} first")


def _foldable(model: Model) -> tuple[dict[str, str], dict[str, str]]:
    # By batch norm: the layer that it can be folded into, or why it cannot. Of two in a row the
    # second is folded into the layer that the first one is.
    found: dict[str, str] = {}
    obstacles: dict[str, str] = {}
    nodes = {node.name: node for node in model.nodes}
    for node in model.nodes:
        if not hasattr(node.layer, "gain_and_bias"):
            continue
        (read,) = node.inputs
        why = _obstacle(model, nodes.get(read), read in found)
        if why:
            obstacles[node.name] = why
        else:
            found[node.name] = found.get(read, read)
    return found, obstacles


def _obstacle(model: Model, before: Node | None, folded: bool) -> str:
    # Why a batch norm cannot become part of what it reads, "" where it can.
    if before is None:
        return "it reads the model's input"
    layer = before.layer
    takes = layer.coupling == "mix" and "weight" in layer.forms and (
        "bias" in layer.forms or "bias" in layer.config())
    if not takes and not folded:
        return f"{before.name}, which it reads, has no weights that could take it"
    if sum(node.inputs.count(before.name) for node in model.nodes) > 1:
        return f"others read {before.name} too"
    return ""


def _without(model: Model, before: Node, norm: Node, word: str) -> Model:
    layer, weight = before.layer, before.layer.forms["weight"]
    try:
        gain, bias = norm.layer.gain_and_bias()
    except ValueError as e:
        raise UserError(f"{word}: {norm.name}: {e}") from None
    there = layer.forms.get("bias")
    with no_grad():
        b = None if there is None else there.dense().data
    w_fold, b_fold = fold_bn(weight.values(), b, gain, bias)
    with np.errstate(over="ignore"):
        made = with_forms(layer, weight.moved(w_fold.astype(weight.values().dtype)),
                          moved_bias(there, b_fold, weight))
    if not finite(made):
        raise UserError(f"{word}: {before.name} with {norm.name} folded into it must stay finite, "
                        f"got a gain of up to {np.abs(gain).max():.3g}")
    # The layer stands where the batch norm stood, so that the last node stays the last.
    return model.edit({before.name: (), norm.name: (replace(before, layer=made),)})


def finite(layer: Layer) -> bool:
    """Returns whether all weights of a layer are finite."""
    with no_grad():
        return all(np.isfinite(form.dense().data).all() for form in layer.forms.values())


def moved_bias(form: Form | None, b: Array, weight: Form) -> Form:
    """Returns the form of a bias that becomes b: of its kind where that is free to move, else a
    Dense.   weight : of the layer, whose dtype and trainability a bias takes that there was not"""
    if form is not None and form.movable and form.mask is None:
        return form.moved(b.astype(form.values().dtype))
    like = weight if form is None else form
    dtype = weight.values().dtype if weight.movable else np.float32
    return Dense(b.astype(dtype), trainable=like.trainable)


def with_forms(layer: Layer, weight: Form, bias: Form | None = None) -> Layer:
    """Returns a layer of the kind and configuration with these forms; it may have had no bias."""
    config = layer.config() | ({"bias": True} if bias is not None else {})
    made = type(layer)(**config)
    made.forms["weight"] = weight
    if bias is not None:
        made.forms["bias"] = bias
    return made


def gaussians(model: Model) -> dict[str, tuple[Array, Array]]:
    """Returns {layer: (mean, deviation)} of each channel's output as batch norm makes it, (C,)
    float64: beta and |gamma| of the batch norm that is folded into the layer.

    Source: Nagel et al. 2019, arXiv 1906.04721, section 4.1, on high biases
    """
    found = {}
    for name, before in foldable(model).items():  # of two in a row the second counts
        with no_grad():
            beta, gamma = (model.node(name).layer.forms[part].dense().data.astype(np.float64)
                           for part in ("bias", "weight"))
        found[before] = beta, np.abs(gamma)
    return found
