"""Channel removal as a plan: which indices of which arrays stay when channels go.

Removing a filter of a convolution removes a row of its weight, an entry of its bias and of the batch norm
behind it, and a column of every layer that reads it. `plan(model, keep)` finds all of that from the list of
nodes, `Plan.apply(model)` does it, `optimizer.select(plan, parameters)` lets an optimizer follow.

Vocabulary. A *unit* is a channel as some layer computes it. Nodes pass units on: a layer whose coupling is
"mix" reads units and computes others; "keep", "concat", "permute" and a depthwise convolution hand on those
they get; "flatten" makes of each a block of H W features; "add" *ties* the units that it adds: they go
together or not at all. The model's inputs and outputs are *pinned*.

The removed net equals the net in which every column that reads a removed unit is 0 (`Plan.mask`). Whether
that is the net with the producing rows set to 0 depends on what stands between: it is where f(0) = 0; else the
constant f(b) is folded into the next bias first (`constants.py`).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..errors import UserError
from ..nn.forms import Codebook, Dense, Form
from ..nn.graph import INPUT, Model, Node
from ..nn.layers import Layer
from ..tensor import Array

_IN, _OUT, _SAME = ("in_features", "in_channels"), ("out_features", "out_channels"), ("num_features",)


@dataclass(frozen=True)
class Units:
    """The units of a model.

    of : node -> (C,) the unit in each channel of its output; tied units have one number; "x" is the input
    origin : unit -> (node, channel) that computes it, of tied ones the first
    pinned : unit -> what it is of the model, "input" or "output"
    ties : unit before tying -> [(another, the node that adds them)]
    raw : as `of`, before tying
    """

    of: dict[str, Array]
    origin: dict[int, tuple[str, int]]
    pinned: dict[int, str]
    ties: dict[int, list[tuple[int, str]]]
    raw: dict[str, Array]


def units(model: Model) -> Units:
    """Returns which channel of which node is the same unit.

    Raises UserError for a layer whose coupling is not known here.
    """
    raw, origin, ties = {}, {}, {}
    shapes = model.shapes()

    def fresh(node: str, n: int) -> Array:
        ids = np.arange(len(origin), len(origin) + n)
        origin.update((int(u), (node, c)) for c, u in enumerate(ids))
        return ids

    raw[INPUT] = fresh(INPUT, model.input_shape[0])
    for node in model.nodes:
        ins = [raw[i] for i in node.inputs]
        match node.layer.coupling:
            case "mix":
                m = multiplier(node.layer)
                raw[node.name] = np.repeat(ins[0], m) if m else fresh(node.name, shapes[node.name][0])
            case "keep":
                raw[node.name] = ins[0]
            case "flatten":
                raw[node.name] = np.repeat(ins[0], math.prod(shapes[node.inputs[0]][1:]))
            case "permute":
                raw[node.name] = ins[0][node.layer.permutation(len(ins[0]))]
            case "concat":
                raw[node.name] = np.concatenate(ins)
            case "add":
                for other in ins[1:]:
                    for a, b in zip(ins[0].tolist(), other.tolist()):
                        ties.setdefault(a, []).append((b, node.name))
                        ties.setdefault(b, []).append((a, node.name))
                raw[node.name] = ins[0]
            case other:
                raise UserError(f"{node.name}: channels of a {node.layer.kind} (coupling {other!r}) cannot be removed")
    root = np.arange(len(origin))
    for start in origin:
        if root[start] == start:
            for u in _reached(start, ties):
                root[u] = start
    last = model.nodes[-1].name if model.nodes else INPUT
    pinned = {int(root[u]): "input" for u in raw[INPUT]} | {int(root[u]): "output" for u in raw[last]}
    return Units({name: root[ids] for name, ids in raw.items()}, origin, pinned, ties, raw)


def multiplier(layer: Layer) -> int:
    """Returns how many outputs a depthwise convolution has per channel, 0 for a layer that is not depthwise."""
    if getattr(layer, "groups", 1) in (1, None) or layer.groups != layer.in_channels:
        return 0
    return layer.out_channels // layer.groups


def _reached(start: int, ties) -> dict[int, tuple[int, str] | None]:
    # Every unit tied to `start`, with the step by which it was reached; breadth first, so paths are shortest.
    seen, queue = {start: None}, deque([start])
    while queue:
        u = queue.popleft()
        for v, node in ties.get(u, ()):
            if v not in seen:
                seen[v] = (u, node)
                queue.append(v)
    return seen


@dataclass(frozen=True)
class Plan:
    """What stays of a model's arrays.

    keep : node -> (C',) the channels of its output that stay, in the order in which they stand afterwards
    axes : form or buffer -> {axis: kept indices}; on axis 1 of a grouped convolution's weight they are
        (O', C' / groups), a row of columns per output, where the groups keep different ones
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
                layer.forms = {p: self._cut(f"{node.name}.{p}", f) for p, f in node.layer.forms.items()}
                layer.buffers = {p: self.take(f"{node.name}.{p}", a) for p, a in node.layer.buffers.items()}
            nodes.append(replace(node, layer=layer))
        return Model(nodes, input_shape=model.input_shape, builtin=None if self.sizes else model.builtin,
                     origin_bytes=model.origin_bytes)

    def mask(self, model: Model) -> Model:
        """Returns the model at its old size with 0, masked, wherever `apply` would remove an entry of a Dense.

        Raises UserError for a form that cannot carry a mask.
        """
        self._check(model)
        model = model.copy()
        for name, form in model.forms().items():
            if name in self.axes:
                if not isinstance(form, Dense):
                    raise UserError(f"{name}: a {form.kind} cannot be masked; remove the channels instead")
                stays = np.zeros(form.shape, bool)
                stays[self._index(name)] = True
                stays = stays if form.mask is None else stays & form.mask
                model.set_form(name, type(form)(form.value.data, stays, form.trainable))
        return model

    def take(self, name: str, array: Array) -> Array:
        """Returns what stays of an array that belongs to a form, a buffer or a part of a form; a copy.

        name : "fc1.weight", "bn1.running_mean", or "fc1.weight.centroids"; an array whose shape is not the
            form's (centroids) stays whole
        """
        for full in (name, ".".join(name.split(".")[:-1])):
            if full in self.axes and np.shape(array) == self.shapes[full]:
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

    def _cut(self, name: str, form: Form) -> Form:
        if name not in self.axes:
            return form.copy()
        try:
            if self.axes[name].get(1, np.zeros(0)).ndim == 2:
                return _gather(form, self._index(name))
            for axis, kept in self.axes[name].items():
                form = form.select(axis, kept)
        except ValueError as e:
            raise UserError(f"{name}: {e}") from None
        return form.copy()

    def _check(self, model: Model) -> None:
        arrays = {n: f.shape for n, f in model.forms().items()} | {n: a.shape for n, a in model.buffers().items()}
        wrong = [n for n, shape in self.shapes.items() if arrays.get(n) != shape]
        if wrong:
            raise UserError(f"the plan is of another model: {wrong[0]} must have shape {self.shapes[wrong[0]]}, got "
                            f"{arrays.get(wrong[0])}")


def _gather(form: Form, index: tuple[Array, ...]) -> Form:
    if isinstance(form, Dense):
        mask = None if form.mask is None else form.mask[index]
        return type(form)(form.value.data[index], mask, form.trainable)
    if isinstance(form, Codebook):
        return Codebook(form.index[index], form.centroids.copy(), form.pinned_zero, form.trainable)
    raise ValueError(f"a {form.kind} can lose only the same channels in every group")


def plan(model: Model, keep: Mapping[str, Sequence[int] | Array]) -> Plan:
    """Returns the plan that keeps the named channels, follows every coupling and touches nothing else.

    keep : node -> the channels of its output that stay, as indices or as booleans; channels tied to those that
        go, go with them; nodes that are not named keep what no tie takes
    Raises UserError for an unknown node, an index out of range, a node that would keep no channel, and a
        coupling that forbids the removal, by name.
    """
    found = units(model)
    gone = _gone(model, found, keep)
    kept, axes, sizes = {INPUT: np.arange(model.input_shape[0])}, {}, {}
    for node in model.nodes:
        ins = [kept[i] for i in node.inputs]
        stays = np.flatnonzero(~np.isin(found.of[node.name], gone))
        if not stays.size:
            raise UserError(f"{node.name} must keep at least one of its {len(found.of[node.name])} channels")
        out, columns, groups = _passed(node, ins, stays, found)
        kept[node.name] = out
        _cut(node, ins, out, columns, groups, axes, sizes, len(found.of[node.name]),
             [len(found.of[i]) for i in node.inputs])
    arrays = {n: f.shape for n, f in model.forms().items()} | {n: a.shape for n, a in model.buffers().items()}
    return Plan(kept, axes, sizes, {n: arrays[n] for n in axes})


def removed(model: Model, keep: Mapping[str, Sequence[int] | Array]) -> Model:
    """Returns the model without the channels that `keep` leaves out: `plan(model, keep).apply(model)`."""
    return plan(model, keep).apply(model)


def indices(name: str, kept: Sequence[int] | Array, channels: int) -> Array:
    """Returns the kept channels as ascending indices; UserError names the node and what is wrong."""
    kept = np.asarray(kept)
    if kept.dtype == bool:
        if kept.shape != (channels,):
            raise UserError(f"{name} has {channels} channels, got a mask of shape {kept.shape}")
        kept = np.flatnonzero(kept)
    if kept.ndim != 1 or kept.size and kept.dtype.kind not in "iu":
        raise UserError(f"{name}: kept channels must be a list of integers, got {kept.dtype} of shape {kept.shape}")
    if not kept.size:
        raise UserError(f"{name} must keep at least one of its {channels} channels")
    if kept.min() < 0 or kept.max() >= channels:
        raise UserError(f"{name}: kept channels must be in [0, {channels - 1}], got {kept.min()}..{kept.max()}")
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
            raise UserError(f"{name}: channel {c} cannot be removed: {_why_pinned(found, name, c, unit)}")
        if unit in stays:
            raise UserError(f"{name}: channel {c} cannot be removed: {_why_held(found, name, c, *stays[unit])}")
    return np.array(sorted(gone), dtype=int)


def _why_pinned(found: Units, name: str, c: int, unit: int) -> str:
    what = f"one of the model's {found.pinned[unit]}s"
    ends = found.raw[INPUT] if found.pinned[unit] == "input" else list(found.raw.values())[-1]
    via = _path(found, int(found.raw[name][c]), set(map(int, ends)))
    return f"it is {what}" if not via else f"{' and '.join(via)} (add) ties it to {what}"


def _why_held(found: Units, name: str, c: int, other: str, d: int) -> str:
    via = _path(found, int(found.raw[name][c]), {int(found.raw[other][d])})
    if via:
        return f"{' and '.join(via)} (add) ties it to channel {d} of {other}, which is to stay"
    node, channel = found.origin[int(found.raw[name][c])]
    return f"it is part of channel {channel} of {node}, of which channel {d} of {other} is to stay"


def _path(found: Units, start: int, ends: set[int]) -> list[str]:
    # The nodes whose additions tie unit `start` to the nearest of `ends`, in order.
    seen = _reached(start, found.ties)
    u = next((u for u in seen if u in ends), start)
    via = []
    while seen[u] is not None:
        u, node = seen[u]
        via.insert(0, node)
    return list(dict.fromkeys(via))


def _passed(node: Node, ins: list[Array], stays: Array, found: Units):
    # The channels that stay of a node's output in their order, and of a grouped convolution its columns and groups.
    layer = node.layer
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
                raise UserError(f"{node.name} (shuffle) needs a multiple of {layer.groups} channels, {len(ins[0])} would stay")
            place = np.argsort(layer.permutation(len(found.of[node.name])))  # where each channel went before
            return place[ins[0][layer.permutation(len(ins[0]))]], None, None
        case "concat":
            starts = np.cumsum([0] + [len(found.of[i]) for i in node.inputs])
            return np.concatenate([start + kept for start, kept in zip(starts, ins)]), None, None
        case "add":
            if any(not np.array_equal(ins[0], other) for other in ins[1:]):
                raise UserError(f"{node.name} (add) would add channels in different orders: "
                                f"{', '.join(node.inputs)} are shuffled differently by the removal")
    return ins[0], None, None


def _grouped(node: Node, read: Array, stays: Array):
    # A grouped convolution: its groups that stay must read equally many channels and compute equally many.
    # Returns the kept outputs, group by group in the order of the inputs, and each one's columns.
    layer = node.layer
    wide, tall = layer.in_channels // layer.groups, layer.out_channels // layer.groups
    order = list(dict.fromkeys((read // wide).tolist()))
    ins = [read[read // wide == g] for g in range(layer.groups)]
    outs = [stays[stays // tall == g] for g in range(layer.groups)]
    for what, parts in (("read", ins), ("compute", outs)):
        counts = [len(p) for p in parts]
        if len({n for n, i, o in zip(counts, ins, outs) if len(i) or len(o)}) > 1:
            raise UserError(f"{node.name} (convolution in {layer.groups} groups): every group must {what} equally many "
                            f"channels, {', '.join(map(str, counts))} would stay")
    if not np.array_equal(np.concatenate([ins[g] for g in order]), read):
        raise UserError(f"{node.name} (convolution in {layer.groups} groups): the removal would shuffle channels from one "
                        f"group into another")
    out = np.concatenate([outs[g] for g in order])
    columns = np.concatenate([np.tile(ins[g] % wide, (len(outs[g]), 1)) for g in order])
    return out, columns[0] if (columns == columns[0]).all() else columns, len(order)


def _cut(node: Node, ins, out, columns, groups, axes, sizes, before_out: int, before_in: list[int]) -> None:
    # Writes what stays of one node's arrays, and its changed sizes.
    layer, config = node.layer, node.layer.config()
    whole = np.array_equal(out, np.arange(before_out))
    same_in = layer.coupling != "mix" or np.array_equal(ins[0], np.arange(before_in[0]))
    named = {p: f.shape for p, f in layer.forms.items()} | {p: a.shape for p, a in layer.buffers.items()}
    named = {p: shape for p, shape in named.items() if math.prod(shape) > 1 or shape == (before_out,)}
    if not named or whole and same_in:
        return
    sizes[node.name] = {}
    for key in config:
        if key in _SAME or key in _OUT:
            sizes[node.name][key] = len(out)
        elif key in _IN:
            sizes[node.name][key] = len(ins[0])
        elif key == "groups" and groups is not None:
            sizes[node.name][key] = groups
    for part, shape in named.items():
        if shape[0] != before_out:
            raise UserError(f"{node.name}.{part}: entries of shape {shape} do not belong to {before_out} channels each")
        axes[f"{node.name}.{part}"] = {0: out}
        if len(shape) > 1 and not multiplier(layer):
            axes[f"{node.name}.{part}"][1] = ins[0] if columns is None else columns
