"""Channels divided by s where a layer computes them, and multiplied by s where others read them.

Where f lies between two layers and f(x / s) = f(x) / s for every s > 0 of a channel,

    W2 f(W1 x + b1) + b2  =  (W2 S) f(S^-1 W1 x + S^-1 b1) + b2,     S = diag(s)               (1)

so that outputs stay what they are while the ranges of weights and of activations move from one side
to the other: by equalisation until both are alike (Nagel et al. 2019), by SmoothQuant and AWQ to
where quantization bears them better. ReLU, pooling, flattening and shuffling are such f; ReLU6
becomes a clip at 6 / s, `ClipChannels`. A sum takes part where all that it adds is divided alike, a
concatenation in any case; a sigmoid, a batch norm that reads the channels, or a grid of activations
does not.

`sites` finds which channels of which layers can be rescaled, and together; `rescaled` does it.
Source: Nagel et al. 2019, arXiv 1906.04721, section 4.1; the number is ours
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ...errors import UserError, article
from ...nn.forms import Dense, Form
from ...nn.graph import INPUT, Model, Node
from ...nn.layers import ActQuant, Layer
from ...tensor import Array, no_grad
from ..channels.couplings import Keep, couplings
from .folding import finite


@dataclass(frozen=True)
class Site:
    """Channels that are rescaled together: n of them, between the layers that compute them and the
    layers that read them.

    writers : node -> (O,) which of the n each output channel of it is
    readers : node -> (C,) which of the n each channel that it reads is
    An entry is -1 where a channel is none of them. Several writers are tied by additions.
    """

    writers: dict[str, Array]
    readers: dict[str, Array]
    n: int

    def divisors(self, s: Array) -> dict[str, Array]:
        """Returns what `rescaled` takes: by writer, s of each of its channels, else 1.   s : (n,)
        """
        return {node: of_channels(s, at) for node, at in self.writers.items()}

    def largest(self, given: Mapping[str, Array], side: str) -> Array:
        """Returns the largest over the layers of a side for each channel, (n,).

        given : by node, a number at least 0 of each channel        side : "writers" or "readers"
        """
        found = np.zeros(self.n)
        for node, at in getattr(self, side).items():
            np.maximum.at(found, at[at >= 0], given[node][at >= 0])
        return found


def of_channels(s: Array, at: Array) -> Array:
    """Returns s of each channel, 1 where its number is -1.   s : (n,)        at : (C,)"""
    return np.where(at < 0, 1.0, s[at])


def check_floats(word: str, model: Model) -> None:
    """Raises UserError, beginning with `word`, for a net that is quantized already: its weights
    cannot move, its grids were set for the channels as they are."""
    for node in model.nodes:
        fixed = isinstance(node.layer, ActQuant) or any(
            form.kind in ("affine", "fixed") for form in node.layer.forms.values())
        if fixed:
            raise UserError(f"{word}: {node.name} is quantized already; {word} goes before it")


def sites(model: Model) -> list[Site]:
    """Returns where channels can be rescaled with no output changed, from input to output.

    Only weights whose entries can move take part, and all that compute or read a channel must.
    Raises UserError for a layer that does not say what becomes of channels.
    """
    units = _Units()
    of: dict[str, Array] = {INPUT: units.fresh(model.input_shape[0], fixed=True)}
    reads: dict[str, Array] = {}
    writes: dict[str, Array] = {}
    ways = couplings(model)
    for node in model.nodes:
        ins, layer = [of[i] for i in node.inputs], node.layer
        if _computes(layer):
            reads[node.name] = ins[0]
            movable = _movable(layer)
            units.fix(ins[0] if layer.normalises or not movable else [])
            of[node.name] = units.fresh(ways[node.name].channels, fixed=not movable)
            writes[node.name] = of[node.name]
            continue
        of[node.name] = ways[node.name].pass_on(ins)
        if layer.rescaled(np.full(len(ins[0]), 2.0)) is None:
            for channels in ins:
                units.fix(channels)
            of[node.name] = units.fresh(ways[node.name].channels, fixed=True)
        for other in ins[1:] if ways[node.name].ties else ():
            units.join(ins[0], other)
    units.fix(of[model.nodes[-1].name] if model.nodes else [])
    return units.sites(reads, writes)


class _Units:
    # Channels by numbers, joined where an addition ties them, fixed where they cannot be rescaled.

    def __init__(self):
        self.root: list[int] = []
        self.held: list[bool] = []

    def fresh(self, n: int, *, fixed: bool) -> Array:
        first = len(self.root)
        self.root += range(first, first + n)
        self.held += [fixed] * n
        return np.arange(first, first + n)

    def find(self, unit: int) -> int:
        while self.root[unit] != unit:
            self.root[unit] = self.root[self.root[unit]]
            unit = self.root[unit]
        return unit

    def fix(self, units) -> None:
        for unit in units:
            self.held[self.find(unit)] = True

    def join(self, some: Array, others: Array) -> None:
        for a, b in zip(some.tolist(), others.tolist()):
            a, b = sorted((self.find(a), self.find(b)))
            self.root[b], self.held[a] = a, self.held[a] or self.held[b]

    def roots(self, units: Array) -> Array:
        return np.array([self.find(u) for u in units.tolist()], dtype=int)

    def sites(self, reads: dict[str, Array], writes: dict[str, Array]) -> list[Site]:
        # Writers whose free channels are joined make a site, at the place of the first.
        parts: list[tuple[list[str], set[int]]] = []
        for name, units in writes.items():
            free = {u for u in self.roots(units).tolist() if not self.held[u]}
            joined = [p for p in parts if p[1] & free]
            if joined:
                joined[0][0].append(name)
                joined[0][1].update(free)
                for names, more in joined[1:]:
                    joined[0][0].extend(names)
                    joined[0][1].update(more)
                    parts.remove((names, more))
            elif free:
                parts.append(([name], free))
        return [site for names, free in parts
                if (site := self._site(names, free, reads, writes)).readers]

    def _site(self, names, free, reads, writes) -> Site:
        place = {unit: i for i, unit in enumerate(sorted(free))}

        def numbered(units):
            return np.array([place.get(u, -1) for u in self.roots(units).tolist()], dtype=int)

        readers = {name: numbered(units) for name, units in reads.items()}
        return Site({name: numbered(writes[name]) for name in names},
                    {name: at for name, at in readers.items() if (at >= 0).any()}, len(free))


def _computes(layer: Layer) -> bool:
    return layer.coupling == "mix" or layer.normalises


def _movable(layer: Layer) -> bool:
    # Whether its channels are weights that can move and, a number each, nothing else.
    return set(layer.forms) <= {"weight", "bias"} and layer.forms["weight"].movable and (
        layer.normalises or not layer.buffers)


def rescaled(model: Model, divisors: Mapping[str, Array], word: str = "rescaling") -> Model:
    """Returns the model in which the channels of the named layers are divided; a copy.

    Whatever reads the channels multiplies by as much, so that outputs are the same up to rounding;
    each weight is rounded once. Masks stay; a bias whose entries cannot move becomes a Dense.
    divisors : node -> (O,), finite and above 0        word : in messages
    Raises UserError, by name, for a node that computes no channels, a divisor that is none, a
    layer through which channels cannot be rescaled, a sum of channels that would be divided
    unlike, weights that cannot move, and channels that are outputs of the model.
    """
    shapes = model.shapes()
    for name, s in divisors.items():
        _check_divisor(word, model.node(name), np.asarray(s), shapes[name][0])
    ways = couplings(model)
    given = {INPUT: np.ones(model.input_shape[0])}
    nodes = []
    for node in model.nodes:
        ins = [given[i] for i in node.inputs]
        own = np.asarray(divisors.get(node.name, np.ones(shapes[node.name][0])), np.float64)
        layer, out = _rescaled(word, node, ins, own, ways[node.name])
        nodes.append(replace(node, layer=layer.copy()))
        given[node.name] = out
    if model.nodes and (out != 1).any():
        raise UserError(f"{word}: channels of {nodes[-1].name} are outputs of the model")
    same = all(a.layer.kind == b.layer.kind for a, b in zip(nodes, model.nodes))
    return model.rebuilt(nodes, builtin=model.builtin if same else None)


def _check_divisor(word: str, node: Node, s: Array, channels: int) -> None:
    if not _computes(node.layer):
        raise UserError(f"{word}: {node.name}: a {node.layer.kind} has no weights that could be "
                        "divided")
    if s.shape != (channels,) or not (np.isfinite(s) & (s > 0)).all():
        raise UserError(f"{word}: the divisors of {node.name} must be {channels} numbers, finite "
                        f"and above 0, got shape {s.shape}"
                        + (f" from {s.min()} to {s.max()}" if s.size else ""))


def _rescaled(word: str, node: Node, ins: list[Array], own: Array,
              way: Keep) -> tuple[Layer, Array]:
    # The layer that reads channels divided by `ins` and gives its own divided by what is returned.
    layer, untouched = node.layer, all((s == 1).all() for s in ins)
    if _computes(layer):
        if (own == 1).all() and untouched:
            return layer, own
        if layer.normalises and not untouched:
            raise UserError(f"{word}: {node.name} normalises the channels that it reads; fold it")
        if not _movable(layer):
            raise UserError(f"{word}: {node.name}.weight must hold plain values, of which each can "
                            f"move, got {article(layer.forms['weight'].kind)}")
        with np.errstate(over="ignore"):
            made = _moved(layer, ins[0], own)
        if not finite(made):
            raise UserError(f"{word}: {node.name} must stay finite, got divisors from "
                            f"{own.min():g} to {own.max():g}, and from {ins[0].min():g} to "
                            f"{ins[0].max():g} of what it reads")
        return made, own
    if way.ties and any(not np.array_equal(ins[0], s) for s in ins[1:]):
        raise UserError(f"{word}: {node.name} adds {' and '.join(node.inputs)}, whose channels "
                        "must be divided alike")
    made = layer if untouched else layer.rescaled(ins[0])
    if made is None:
        raise UserError(f"{word}: {node.name}: a {layer.kind} of x / s is not that of x, divided "
                        "by s")
    return made, way.pass_on(ins)


def _moved(layer: Layer, read: Array, own: Array) -> Layer:
    made = layer.copy()
    factor = 1 / own if layer.normalises else columns(layer, read) / own[:, None]
    made.forms["weight"] = times(layer.forms["weight"], factor)       # eq. (1)
    if "bias" in layer.forms:
        made.forms["bias"] = times(layer.forms["bias"], 1 / own)
    return made


def columns(layer: Layer, s: Array) -> Array:
    """Returns a number of each input channel where a mixing layer's weight has it, (O, C / groups).

    s : (C,)
    """
    O = layer.forms["weight"].shape[0]
    return np.repeat(s.reshape(layer.groups, -1), O // layer.groups, axis=0)


def times(form: Form, factor: Array) -> Form:
    """Returns a form of the values times factor, whose axes are the first of the form's.

    A form whose entries cannot move becomes a Dense.
    """
    factor = factor.reshape(*factor.shape, *[1] * (len(form.shape) - factor.ndim))
    if form.movable:
        values = form.values()
        return form.moved((values * factor).astype(values.dtype))
    with no_grad():
        w = form.dense().data
    return Dense((w * factor).astype(w.dtype), trainable=form.trainable)
