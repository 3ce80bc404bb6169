"""By how much quantization moves the mean output of each channel, and where that is taken back.

    shift_c = E[y^_c - y_c]        y of the float net, y^ of the quantized, before activation

Measured on examples (`measured`), or, without any, from what batch norm says of the inputs:

    shift_c = sum_i (w^ - w)_ci E[x_i]                                            (`expected`)

where an x that comes out of a batch norm is taken for Gaussian, of mean beta and deviation |gamma|:

    E[x]                 = beta
    E[max(x, 0)]         = gamma phi(-beta / gamma) + beta (1 - Phi(-beta / gamma))
    E[min(max(x, 0), 6)]   as the integral over 0..6, and 6 where x is above

phi and Phi are the normal density and its integral. What a convolution pads counts as if it were
the mean.
Source: Nagel et al. 2019, arXiv 1906.04721, section 4.2 and appendix C
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from ...errors import UserError, printable
from ...nn.forms import Dense
from ...nn.graph import Model, Node
from ...nn.taps import Walk
from ...tensor import Array, Tensor, no_grad
from ..technique import weights

BATCH = 128  # examples at a time
_erf = np.vectorize(math.erf, otypes=[float])


def density(t: Array) -> Array:
    """Returns the normal density phi."""
    return np.exp(-np.square(t) / 2) / math.sqrt(2 * math.pi)


def below(t: Array) -> Array:
    """Returns Phi, the part of a normal distribution below t."""
    return (1 + _erf(np.asarray(t, float) / math.sqrt(2))) / 2


def clipped_mean(beta: Array, gamma: Array, top: Array | float = math.inf) -> Array:
    """Returns E[min(max(x, 0), top)] for x Gaussian of mean beta and deviation |gamma|, float64.

    beta, gamma : (C,)        top : inf for ReLU, 6 for ReLU6, or (C,) for ClipChannels
    """
    beta, gamma = np.asarray(beta, np.float64), np.abs(np.asarray(gamma, np.float64))
    beta, gamma = np.broadcast_arrays(beta, gamma)
    some = gamma > 0
    g = np.where(some, gamma, 1.0)
    a = -beta / g
    mean = g * density(a) + beta * (1 - below(a))
    if (finite := np.isfinite(top)).any():
        t = np.where(finite, top, 0.0)
        b = (t - beta) / g
        above = g * density(b) + (beta - t) * (1 - below(b))  # what is above the top
        mean = mean - np.where(finite, above, 0.0)
    return np.where(some, mean, np.clip(beta, 0.0, top))


def weight_shift(error: Array, mean: Array, groups: int = 1) -> Array:
    """Returns sum_i (w^ - w)_ci E[x_i], (O,) float64.

    error : w^ - w, (O, C / groups, ...)        mean : E[x], (C,), alike for all places
    """
    rows = np.asarray(error, np.float64).reshape(*error.shape[:2], -1).sum(axis=2)
    parts = zip(np.split(rows, groups), np.split(np.asarray(mean, np.float64), groups))
    return np.concatenate([part @ m for part, m in parts])


def output_means(layer_outputs: Array) -> Array:
    """Returns the mean of each channel over examples and places, (C,) float64; y (N, C, ...)."""
    axes = (0, *range(2, layer_outputs.ndim))
    return layer_outputs.mean(axis=axes, dtype=np.float64)


# ------------------------------------------------------------------------------------ of two nets


def pairs(word: str, model: Model, reference: Model) -> list[Node]:
    """Returns the layers with `weights` that both nets have, those of `model`, in order.

    Raises UserError, beginning with `word`, where a layer on which the output depends is missing
    in the reference or of another shape.
    """
    forms, others, needed = model.forms(), reference.forms(), {model.nodes[-1].name}
    for node in reversed(model.nodes):
        needed |= set(node.inputs) if node.name in needed else set()
    found = []
    for node, name in weights(model).items():
        if name in others and others[name].shape == forms[name].shape:
            found.append(model.node(node))
        elif node in needed:
            got = others[name].shape if name in others else "none"
            raise UserError(f"{word}: the float net must have a layer {node} of shape "
                            f"{forms[name].shape}, got {printable(got, 80)}")
    if not found:
        raise UserError(f"{word}: the model has no Linear or Conv2d layer")
    return found


def measured(model: Model, reference: Model, nodes: list[Node], x: Array
             ) -> Iterator[tuple[Node, Array]]:
    """Yields each of the model's nodes and its shift, (C,) float64, first to last.

    What the model is changed to behind a node, its bias too, while the shift is there, later ones
    see. x : (P, ...) examples, at least one
    """
    now, then = (Walk(x, batch_size=BATCH) for _ in range(2))
    for node in nodes:
        shift = 0.0
        both = zip(then.run(reference, [node.name], to=node.name),
                   now.run(model, [node.name], to=node.name))
        for was, is_ in both:
            moved = is_[node.name].astype(np.float64) - was[node.name]
            shift = shift + len(moved) / len(x) * output_means(moved)
        yield node, shift


def input_sums(model: Model, nodes: list[Node], x: Array) -> Iterator[tuple[Node, Array]]:
    """Yields each node with the mean of the sum of what each of its outputs reads, (O,) float64:
    by how much an output moves on average where all of its weights grow by 1.

    model : has nodes of these names        x : (P, ...) examples, at least one
    Padding counts as the 0 that it is.
    """
    work = model.copy()
    mine = [work.node(node.name) for node in nodes]
    for node in mine:
        for part, form in node.layer.forms.items():
            ones = np.full(form.shape, part == "weight")
            if form.mask is not None:  # what is pruned does not grow
                ones &= form.mask
            work.set_form(f"{node.name}.{part}", Dense(ones))
    for i, outputs in enumerate(_inputs(model, mine, x)):
        yield nodes[i], outputs


def _inputs(model: Model, nodes: list[Node], x: Array) -> Iterator[Array]:
    # The means of the outputs of nodes of other weights that read the model's activations.
    walk = Walk(x, batch_size=BATCH)
    for node in nodes:
        total = 0.0
        for taps in walk.run(model, node.inputs, to=node.name):
            with no_grad():
                y = node.layer(*(Tensor(taps[name]) for name in node.inputs)).data
            total = total + len(y) / len(x) * output_means(y)
        yield total


def expected(model: Model, reference: Model, nodes: list[Node]) -> Iterator[tuple[Node, Array]]:
    """Yields each node of whose input batch norms tell the mean, and its shift, (C,) float64."""
    forms, others, known = model.forms(), reference.forms(), means(reference)
    for node in nodes:
        mean = known.get(reference.node(node.name).inputs[0])
        if mean is not None:
            name = f"{node.name}.weight"
            with no_grad():
                error = forms[name].dense().data.astype(np.float64) - others[name].dense().data
            yield node, weight_shift(error, mean, node.layer.groups)


def means(model: Model) -> dict[str, Array]:
    """Returns E of each channel, (C,) float64, by node, where batch norms tell it.

    Averages keep the mean, additions add it; of a maximum nothing is known.
    """
    found: dict[str, Array] = {}
    gauss: dict[str, tuple[Array, Array]] = {}
    shapes = model.shapes()
    for node in model.nodes:
        layer, first = node.layer, node.inputs[0]
        told = [found.get(name) for name in node.inputs]
        if layer.normalises:
            with no_grad():
                gamma, beta = (layer.forms[p].dense().data for p in ("weight", "bias"))
            gauss[node.name], found[node.name] = (beta, gamma), beta.astype(np.float64)
        elif layer.rectifies and first in gauss:
            top = {"relu6": 6.0, "clip": layer.buffers.get("ceiling")}.get(layer.step, math.inf)
            found[node.name] = clipped_mean(*gauss[first], top)
        elif any(mean is None for mean in told):
            continue
        elif layer.coupling == "flatten":
            found[node.name] = np.repeat(told[0], math.prod(shapes[first][1:]))
        elif layer.coupling in ("add", "concat"):
            found[node.name] = sum(told) if layer.coupling == "add" else np.concatenate(told)
        elif layer.step in ("", "quantize", "avg_pool", "adaptive_avg_pool"):
            found[node.name] = told[0]
    return found


def take_back(model: Model, node: str, shift: Array) -> bool:
    """Subtracts shift (C,) from what a node gives, in place: from its bias, else by the running
    mean of the batch norm that alone reads it. Returns whether there is either.

    Pruned entries of a bias stay 0.
    """
    layer = model.node(node).layer
    if "bias" in layer.forms and layer.forms["bias"].movable:
        form = layer.forms["bias"]
        with no_grad():
            model.set_form(f"{node}.bias", form.moved(form.dense().data - shift.astype(np.float32)))
        return True
    after = [n.layer for n in model.nodes if node in n.inputs]
    if "bias" in layer.forms or len(after) != 1 or not after[0].normalises:
        return False
    after[0].buffers["running_mean"] += shift.astype(np.float32)
    return True


def corrected(word: str, model: Model, reference: Model, x: Array | None, run) -> Model:
    """Returns the model, changed in place, whose layers' mean outputs are those of the reference.

    x : examples, each layer seeing the model corrected so far; None: as batch norms tell
    Layers without a place for it, and those of whose inputs nothing is known, are told to the log.
    Raises UserError as of `pairs`, and where no batch norm tells anything.
    """
    nodes = pairs(word, model, reference)
    found = (expected(model, reference, nodes) if x is None
             else measured(model, reference, nodes, x))
    left, done = [node.name for node in nodes], 0
    for node, shift in found:
        done += 1
        if take_back(model, node.name, shift):
            left.remove(node.name)
    if not done:
        raise UserError(f"{word}: analytic correction reads the means of inputs from batch norms, "
                        "and there is none in front of a layer; correct with examples, empirical")
    if left:
        run.log({"event": "say", "text": f"{word}: no correction of {', '.join(left)}: "
                                         + ("no bias to take it back" if x is not None else
                                            "no bias, or no batch norm that tells its inputs")})
    return model
