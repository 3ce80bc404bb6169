"""Channel removal as a plan: which indices of which arrays stay when channels go.

Removing a filter of a convolution removes a row of its weight, an entry of its bias and of the
batch norm behind it, and a column of every layer that reads it. `plan(model, keep)` finds all of
that from the list of nodes, `Plan.apply(model)` does it, `optimizer.select(plan, parameters)` lets
an optimizer follow.

Channels are followed as *units* (`units.py`): tied by an addition they go together, and the model's
inputs and outputs stay.

The removed net equals the net in which every column that reads a removed unit is 0 (`Plan.mask`).
Whether that is the net with the producing rows set to 0 depends on what stands between: it is where
f(0) = 0; else the constant f(b) is folded into the next bias first (`constants.py`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...errors import UserError
from ...nn.forms import Form
from ...nn.graph import INPUT, Model, Node
from ...nn.layers import Layer
from ...tensor import Array
from .units import Units, multiplier, tied_by, units

# The constructor arguments that count channels: those read, and those computed or passed on.
_READ = ("in_features", "in_channels")
_MADE = ("out_features", "out_channels", "num_features")


@dataclass(frozen=True)
class Plan:
    """What stays of a model's arrays.

    keep : node -> (C',) the channels of its output that stay, in the order in which they stand
        afterwards
    axes : form or buffer -> {axis: kept indices}; on axis 1 of a grouped convolution's weight they
        are (O', C' / groups), a row of columns per output, where the groups keep different ones
    sizes : node -> constructor arguments that change        shapes : form or buffer -> shape before
    """

    keep: dict[str, Array]
    axes: dict[str, dict[int, Array]]
    sizes: dict[str, dict[str, int]]
    shapes: dict[str, tuple[int, ...]]

    def apply(self, model: Model) -> Model:
        """Returns the smaller model; the one passed in is untouched.

        Raises UserError where the plan is of another model, or a form cannot be cut.
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
        return Model(
            nodes,
            input_shape=model.input_shape,
            builtin=None if self.sizes else model.builtin,
            origin_bytes=model.origin_bytes,
        )

    def mask(self, model: Model) -> Model:
        """Returns the model at its old size with 0, masked, wherever `apply` would remove an entry.

        Raises UserError for a form that cannot carry a mask.
        """
        self._check(model)
        model = model.copy()
        for name, form in model.forms().items():
            if name in self.axes:
                stays = np.zeros(form.shape, bool)
                stays[self._index(name)] = True
                try:
                    model.set_form(name, form.masked(stays))
                except ValueError as e:
                    raise UserError(f"{name}: {e}") from None
        return model

    def take(self, name: str, array: Array) -> Array:
        """Returns what stays of an array that belongs to a form, a buffer or a part of a form; a
        copy.

        name : "fc1.weight", "bn1.running_mean", or "fc1.weight.part"; a part that has not the
        form's
            shape stays whole, and so do centroids, which belong to no place
        """
        full, _, part = (name, "", "") if name in self.axes else name.rpartition(".")
        if full in self.axes and np.shape(array) == self.shapes[full] and part != "centroids":
            return array[self._index(full)].copy()
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
                f"the plan is of another model: {wrong[0]} must have shape "
                f"{self.shapes[wrong[0]]}, got {arrays.get(wrong[0])}"
            )


def plan(model: Model, keep: Mapping[str, Sequence[int] | Array]) -> Plan:
    """Returns the plan that keeps the named channels, follows every coupling and touches nothing
    else.

    keep : node -> the channels of its output that stay, as indices or as booleans; channels tied to
        those that go, go with them; nodes that are not named keep what no tie takes
    Raises UserError for an unknown node, an index out of range, a node that would keep no channel,
        and a coupling that forbids the removal, by name.
    """
    found = units(model)
    gone = _gone(model, found, keep)
    kept, axes, sizes = {INPUT: np.arange(model.input_shape[0])}, {}, {}
    for node in model.nodes:
        of, read = found.of[node.name], kept[node.inputs[0]]
        stays = np.flatnonzero(~np.isin(of, gone))
        if not stays.size:
            raise UserError(f"{node.name} must keep at least one of its {len(of)} channels")
        out, columns, groups = _passed(node, kept, stays, found)
        kept[node.name] = out
        whole = np.array_equal(read, np.arange(len(found.of[node.inputs[0]])))
        if (
            not np.array_equal(out, np.arange(len(of)))
            or node.layer.coupling == "mix"
            and not whole
        ):
            cut = _cut(node, len(of), out, read if columns is None else columns)
            if cut:
                axes |= cut
                sizes[node.name] = _sizes(node.layer, len(read), len(out), groups)
    arrays = _arrays(model)
    return Plan(kept, axes, sizes, {name: arrays[name] for name in axes})


def removed(model: Model, keep: Mapping[str, Sequence[int] | Array]) -> Model:
    """Returns the model without the channels that `keep` leaves out: `plan(model,
    keep).apply(model)`.
    """
    return plan(model, keep).apply(model)


def indices(name: str, kept: Sequence[int] | Array, channels: int) -> Array:
    """Returns the kept channels as ascending indices; UserError names the node and what is
    wrong.
    """
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


def _passed(node: Node, kept: dict[str, Array], stays: Array, found: Units):
    # The channels that stay of a node's output, in their order; and the columns that a grouped
    # convolution keeps, None where they are the channels read; and its groups.
    layer, ins = node.layer, [kept[i] for i in node.inputs]
    match layer.coupling:
        case "mix" if multiplier(layer):
            m = multiplier(layer)
            return (ins[0][:, None] * m + np.arange(m)).ravel(), None, len(ins[0])
        case "mix" if getattr(layer, "groups", 1) > 1:
            return _grouped(node, ins[0], stays)
        case "mix":
            return stays, None, None
        case "flatten":
            block = len(found.of[node.name]) // len(found.of[node.inputs[0]])
            return (ins[0][:, None] * block + np.arange(block)).ravel(), None, None
        case "permute":
            if len(ins[0]) % layer.groups:
                raise UserError(
                    f"{node.name} (shuffle) needs a multiple of {layer.groups} channels, "
                    f"{len(ins[0])} would stay"
                )
            # Where each channel went before, for the channels as the smaller shuffle orders them.
            place = np.argsort(layer.permutation(len(found.of[node.name])))
            return place[ins[0][layer.permutation(len(ins[0]))]], None, None
        case "concat":
            starts = np.cumsum([0] + [len(found.of[i]) for i in node.inputs])
            return np.concatenate([start + kept for start, kept in zip(starts, ins)]), None, None
        case "add":
            if any(not np.array_equal(ins[0], other) for other in ins[1:]):
                raise UserError(
                    f"{node.name} (add) would add channels in different orders: "
                    f"{', '.join(node.inputs)} are shuffled differently by the removal"
                )
    return ins[0], None, None


def _grouped(node: Node, read: Array, stays: Array):
    # A grouped convolution: its groups that stay must read equally many channels and compute
    # equally many. Returns the kept outputs, group by group in the order of the inputs, and each
    # one's columns.
    layer = node.layer
    wide, tall = layer.in_channels // layer.groups, layer.out_channels // layer.groups
    order = list(dict.fromkeys((read // wide).tolist()))
    ins = [read[read // wide == g] for g in range(layer.groups)]
    outs = [stays[stays // tall == g] for g in range(layer.groups)]
    for what, parts in (("read", ins), ("compute", outs)):
        counts = [len(p) for p in parts]
        if len({n for n, i, o in zip(counts, ins, outs) if len(i) or len(o)}) > 1:
            raise UserError(
                f"{node.name} (convolution in {layer.groups} groups): every group must {what} "
                f"equally many channels, {', '.join(map(str, counts))} would stay"
            )
    if not np.array_equal(np.concatenate([ins[g] for g in order]), read):
        raise UserError(
            f"{node.name} (convolution in {layer.groups} groups): the removal would shuffle "
            f"channels from one group into another"
        )
    out = np.concatenate([outs[g] for g in order])
    columns = np.concatenate([np.tile(ins[g] % wide, (len(outs[g]), 1)) for g in order])
    return out, columns[0] if (columns == columns[0]).all() else columns, len(order)


def _cut(node: Node, channels: int, out: Array, columns: Array) -> dict[str, dict[int, Array]]:
    # What stays of each array of a node, by name and axis; an array of one entry is the whole
    # layer's.
    axes = {}
    for name, shape in _arrays_of(node).items():
        if math.prod(shape) == 1 and shape != (channels,):
            continue
        if shape[0] != channels:
            raise UserError(f"{name}: shape {shape} does not begin with the {channels} channels")
        axes[name] = {0: out}
        if len(shape) > 1 and not multiplier(node.layer):
            axes[name][1] = columns
    return axes


def _sizes(layer: Layer, read: int, made: int, groups: int | None) -> dict[str, int]:
    # The constructor arguments that count channels, after the removal.
    sizes = {key: read for key in _READ} | {key: made for key in _MADE}
    if groups is not None:
        sizes["groups"] = groups
    return {key: n for key, n in sizes.items() if key in layer.config()}


def _arrays(model: Model) -> dict[str, tuple[int, ...]]:
    return {name: shape for node in model.nodes for name, shape in _arrays_of(node).items()}


def _arrays_of(node: Node) -> dict[str, tuple[int, ...]]:
    # The shapes of a node's forms and buffers, by full name.
    forms, buffers = node.layer.forms, node.layer.buffers
    shapes = {name: form.shape for name, form in forms.items()}
    shapes |= {name: a.shape for name, a in buffers.items()}
    return {f"{node.name}.{name}": shape for name, shape in shapes.items()}
