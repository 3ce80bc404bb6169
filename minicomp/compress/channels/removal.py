"""Channel removal is planned, then made: which indices of which arrays stay when channels go.

Removing a filter of a convolution removes a row of its weight, an entry of its bias and of the
batch norm behind it, and a column of every layer that reads it. `removal(model, keep)` finds all of
that from the list of nodes, `Removal.apply(model)` does it, `optimizer.select(removal, parameters)`
lets an optimizer follow.

Channels are followed as *units* (`units.py`): tied by an addition they go together, and the model's
inputs and outputs stay.

The smaller net equals the net in which every column that reads a removed unit is 0
(`Removal.mask`). Whether that is the net with the producing rows set to 0 depends on what stands
between: it is where f(0) = 0; else the constant f(b) is folded into the next bias first
(`constants.py`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...errors import UserError
from ...nn.forms import Form, Part
from ...nn.graph import INPUT, Model, Node
from ...tensor import Array
from ..technique import masked
from .couplings import Kept, couplings
from .units import Units, tied_by, units


@dataclass(frozen=True)
class Removal:
    """What stays of a model's arrays when channels go.

    keep : node -> (C',) the channels of its output that stay, in the order in which they stand
        afterwards
    axes : form or buffer -> {axis: kept indices}; on axis 1 of a grouped convolution's weight they
        are (O', C' / groups), a row of columns per output, where the groups keep different ones
    sizes : node -> constructor arguments that change        shapes : form or buffer -> shape before
    parts : form -> what it declares to store
    """

    keep: dict[str, Array]
    axes: dict[str, dict[int, Array]]
    sizes: dict[str, dict[str, int | list[float]]]
    shapes: dict[str, tuple[int, ...]]
    parts: dict[str, dict[str, Part]]

    def apply(self, model: Model) -> Model:
        """Returns the smaller model; the one passed in is untouched.

        Raises UserError where the removal is of another model, or a form cannot be cut.
        """
        self._check(model)
        nodes = []
        for node in model.nodes:
            layer = node.layer.copy()
            if node.name in self.sizes:
                layer = type(layer)(**(node.layer.config() | self.sizes[node.name]))
                layer.forms = {
                    p: self._smaller(f"{node.name}.{p}", f) for p, f in node.layer.forms.items()
                }
                layer.buffers = {
                    p: self.take(f"{node.name}.{p}", a) for p, a in node.layer.buffers.items()
                }
            nodes.append(replace(node, layer=layer))
        return model.rebuilt(nodes, builtin=None if self.sizes else model.builtin)

    def mask(self, model: Model) -> Model:
        """Returns the model at its old size with 0, masked, wherever `apply` would remove an entry.

        Raises UserError for a form that cannot carry a mask.
        """
        self._check(model)
        stays = {n: np.zeros(f.shape, bool) for n, f in model.forms().items() if n in self.axes}
        for name, mask in stays.items():
            mask[self._index(name)] = True
        return masked(model, stays)

    def take(self, name: str, array: Array) -> Array:
        """Returns what stays of the array of a form, a buffer or a part of a form; a copy.

        name : "fc1.weight", "bn1.running_mean", or "fc1.weight.part": what stays of a part is said
            by the axes that the form declares; centroids, which belong to no place, stay whole
        """
        full = next((n for n in self.axes if name == n or name.startswith(f"{n}.")), None)
        if full is None:
            return np.array(array)
        part = self.parts.get(full, {}).get(name[len(full) + 1 :].partition(".")[0], Part("value"))
        if part.axes is None:
            return array[self._index(full)].copy()
        for i, axis in enumerate(part.axes):
            if axis in self.axes[full] and array.shape[i] == self.shapes[full][axis]:
                array = np.take(array, self.axes[full][axis], i)
        return np.array(array)

    def _index(self, name: str) -> tuple[Array, ...]:
        # The fancy index of what stays: rows (O', 1), columns (1 or O', C'), the other axes whole.
        axes = self.axes[name]
        rows = axes.get(0, np.arange(self.shapes[name][0]))
        if len(self.shapes[name]) == 1:
            return (rows,)
        columns = axes.get(1, np.arange(self.shapes[name][1]))
        return rows[:, None], columns if columns.ndim == 2 else columns[None]

    def _smaller(self, name: str, form: Form) -> Form:
        if name not in self.axes:
            return form.copy()
        try:
            if self.axes[name].get(1, np.zeros(0)).ndim == 2:
                return form.gather(self._index(name))
            for axis, kept in self.axes[name].items():
                form = form.select(axis, kept)
        except ValueError as e:
            raise UserError(f"{name}: {e}") from None
        return form.copy()

    def _check(self, model: Model) -> None:
        arrays = _arrays(model)
        wrong = [n for n, shape in self.shapes.items() if arrays.get(n) != shape]
        if wrong:
            raise UserError(
                f"the removal is of another model: {wrong[0]} must have shape "
                f"{self.shapes[wrong[0]]}, got {arrays.get(wrong[0])}"
            )


def removal(model: Model, keep: Mapping[str, Sequence[int] | Array]) -> Removal:
    """Returns the removal that keeps the named channels and follows every coupling, no more.

    keep : node -> the channels of its output that stay, as indices or as booleans; channels tied to
        those that go, go with them; nodes that are not named keep what no tie takes
    Raises UserError for an unknown node, an index out of range, a node that would keep no channel,
        and a coupling that forbids the removal, by name.
    """
    found, ways = units(model), couplings(model)
    gone = _gone(model, found, keep)
    kept, axes, sizes = {INPUT: np.arange(model.input_shape[0])}, {}, {}
    for node in model.nodes:
        of, way = found.of[node.name], ways[node.name]
        stays = np.flatnonzero(~np.isin(of, gone))
        if not stays.size:
            raise UserError(f"{node.name} must keep at least one of its {len(of)} channels")
        made = way.keep([kept[i] for i in node.inputs], stays)
        kept[node.name] = made.out
        read = made.columns is None or _whole(kept[node.inputs[0]], way.sizes[0])
        if not (read and _whole(made.out, way.channels)):
            cut = _cut(node, way.channels, made)
            if cut or node.layer.sizes or node.layer.per_channel:
                axes |= cut
                sizes[node.name] = _sizes(node, len(kept[node.inputs[0]]), made)
    arrays = _arrays(model)
    parts = {name: form.parts for name, form in model.forms().items() if name in axes}
    return Removal(kept, axes, sizes, {name: arrays[name] for name in axes}, parts)


def removed(model: Model, keep: Mapping[str, Sequence[int] | Array]) -> Model:
    """Returns the model without the channels that `keep` leaves out."""
    return removal(model, keep).apply(model)


def indices(name: str, kept: Sequence[int] | Array, channels: int) -> Array:
    """Returns the kept channels as ascending indices; UserError names the node and the fault."""
    kept = np.asarray(kept)
    if kept.dtype == bool:
        if kept.shape != (channels,):
            raise UserError(f"{name} has {channels} channels, got a mask of shape {kept.shape}")
        kept = np.flatnonzero(kept)
    if kept.ndim != 1 or kept.size and kept.dtype.kind not in "iu":
        raise UserError(
            f"{name}: kept channels must be a list of integers, got {kept.dtype} of shape "
            f"{kept.shape}"
        )
    if not kept.size:
        raise UserError(f"{name} must keep at least one of its {channels} channels")
    if kept.min() < 0 or kept.max() >= channels:
        raise UserError(
            f"{name}: kept channels must be in [0, {channels - 1}], got {kept.min()}..{kept.max()}"
        )
    if len(np.unique(kept)) != len(kept):
        raise UserError(f"{name}: a channel is named twice among those to keep")
    return np.sort(kept)


def _gone(model: Model, found: Units, keep) -> Array:
    # The units that go. Those that a tie or a pin, or another entry of `keep`, holds are an error.
    names = {node.name for node in model.nodes}
    gone: dict[int, tuple[str, int]] = {}
    stays: dict[int, tuple[str, int]] = {}
    for name, kept in keep.items():
        if name not in names:
            raise UserError(f"no node {name!r}; there are {', '.join(n.name for n in model.nodes)}")
        of = found.of[name]
        kept = indices(name, kept, len(of))
        gone |= {int(of[c]): (name, c) for c in np.setdiff1d(np.arange(len(of)), kept).tolist()}
        stays |= {int(of[c]): (name, c) for c in kept.tolist()}
    for unit, (name, c) in gone.items():
        if unit in found.pinned:
            raise UserError(
                f"{name}: channel {c} cannot be removed: {_why_pinned(found, name, c, unit)}"
            )
        if unit in stays:
            raise UserError(
                f"{name}: channel {c} cannot be removed: {_why_held(found, name, c, *stays[unit])}"
            )
    return np.array(sorted(gone), dtype=int)


def _why_pinned(found: Units, name: str, c: int, unit: int) -> str:
    what = f"one of the model's {found.pinned[unit]}s"
    ends = found.raw[INPUT] if found.pinned[unit] == "input" else list(found.raw.values())[-1]
    via = tied_by(found, int(found.raw[name][c]), set(map(int, ends)))
    return f"it is {what}" if not via else f"{' and '.join(via)} (add) ties it to {what}"


def _why_held(found: Units, name: str, c: int, other: str, d: int) -> str:
    via = tied_by(found, int(found.raw[name][c]), {int(found.raw[other][d])})
    if via:
        return f"{' and '.join(via)} (add) ties it to channel {d} of {other}, which is to stay"
    node, channel = found.origin[int(found.raw[name][c])]
    return f"it is part of channel {channel} of {node}, of which channel {d} of {other} is to stay"


def _whole(kept: Array, channels: int) -> bool:
    return np.array_equal(kept, np.arange(channels))


def _cut(node: Node, channels: int, made: Kept) -> dict[str, dict[int, Array]]:
    # What stays of each array of a node, by name and axis. An array of one entry belongs to the
    # whole layer.
    axes = {}
    for name, shape in _arrays_of(node).items():
        if math.prod(shape) == 1 and shape != (channels,):
            continue
        if shape[0] != channels:
            raise UserError(f"{name}: shape {shape} does not begin with the {channels} channels")
        axes[name] = {0: made.out}
        if len(shape) > 1 and made.columns is not None:
            axes[name][1] = made.columns
    return axes


def _sizes(node: Node, read: int, made: Kept) -> dict[str, int | list[float]]:
    # The constructor arguments that count channels, or hold a number for each, after the removal.
    layer, counts = node.layer, {"in": read, "out": len(made.out)}
    if layer.per_channel:
        return {argument: [getattr(layer, argument)[c] for c in made.out]
                for argument in layer.per_channel}
    if not layer.sizes:
        raise UserError(
            f"{node.name}: channels of a {layer.kind} cannot be removed: it does not say which of "
            f"its arguments count them (sizes)"
        )
    sizes = {argument: counts[side] for argument, side in layer.sizes.items()}
    return sizes if made.groups is None else sizes | {"groups": made.groups}


def _arrays(model: Model) -> dict[str, tuple[int, ...]]:
    return {name: shape for node in model.nodes for name, shape in _arrays_of(node).items()}


def _arrays_of(node: Node) -> dict[str, tuple[int, ...]]:
    # The shapes of a node's forms and buffers, by full name.
    forms, buffers = node.layer.forms, node.layer.buffers
    shapes = {name: form.shape for name, form in forms.items()}
    shapes |= {name: a.shape for name, a in buffers.items()}
    return {f"{node.name}.{name}": shape for name, shape in shapes.items()}
