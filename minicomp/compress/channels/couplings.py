"""What becomes of channels on their way through a layer: one class for each coupling.

    pass_on     from something known of each input channel to that of each output channel
    parts       the same for labels of channels, with what must lose equally many (`groups.py`)
    constant    the same for the values of channels that are one number everywhere, NaN where not
    pull_back   from the output channels that are needed to the input channels that are
    holds       the input channels that must stay although they may be constant
    keep        from the input channels that stay to the output channels that do, in their order

C channels in, O out. A layer that mixes channels has a weight (O, C / groups, ...).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...errors import UserError
from ...nn.graph import Model, Node
from ...nn.layers import Layer
from ...tensor import Array, no_grad


@dataclass(frozen=True)
class Kept:
    """What stays of a node's channels.

    out : (O',) the output channels that stay, in their order afterwards
    columns : what stays of axis 1 of its weight: (C',), or (O', C' / groups) where the groups keep
        different columns; None: nothing goes there        groups : how many are left; None: as many
    """

    out: Array
    columns: Array | None = None
    groups: int | None = None


class Keep:
    """Channel c of the output is a function of channel c of the input alone.

    node : the layer and its name        shapes : of its inputs, without N
    channels : of its output
    """

    ends = False  # its units end here, and others begin
    ties = False  # it ties the units of its inputs together

    def __init__(self, node: Node, shapes: list[tuple[int, ...]], channels: int):
        self.name, self.layer, self.inputs = node.name, node.layer, node.inputs
        self.shapes, self.sizes, self.channels = shapes, [shape[0] for shape in shapes], channels

    def pass_on(self, ins: list[Array]) -> Array:
        """Returns what is known of each output channel, (O,), from (C,) of each input."""
        return ins[0]

    def parts(self, labels: list[Array]) -> tuple[Array, list[tuple[str, Array]]]:
        """Returns the label of each output channel, (O,), and the splits that the layer demands.

        A split is "in" or "out", for the channels meant, and the part of each: all parts must lose
        equally many.
        """
        return self.pass_on(labels), []

    def constant(self, values: list[Array]) -> Array:
        """Returns the value of each output channel, (O,), NaN where it is not one number."""
        return self.layer.constant(values[0], self.shapes[0])

    def pull_back(self, needed: Array) -> list[Array]:
        """Returns which channels of each input are needed, (C,) bool, for those of the output."""
        return [needed & ~self.layer.switched_off(self.channels)]

    def holds(self, value: Array, needed: Array) -> Array:
        """Returns which input channels must stay, (C,) bool, whatever other readers say.

        value : (C,) of the input        needed : (O,) bool, of the output
        """
        return np.zeros(self.sizes[0], bool)

    def keep(self, ins: list[Array], stays: Array) -> Kept:
        """Returns what stays of the output and the weight; UserError where that is impossible.

        ins : (C',) of each input        stays : (O',) output channels whose units do not go
        """
        return Kept(ins[0])


class Compete(Keep):
    """Channel c of the output belongs to channel c of the input, but all have a say in it."""

    def pull_back(self, needed):
        return [np.full(self.channels, needed.any())]

    def holds(self, value, needed):
        return np.full(self.channels, needed.any())


class Add(Keep):
    """The sum of the inputs: their channels go together or not at all."""

    ties = True

    def parts(self, labels):
        label = labels[0]
        for other in labels[1:]:
            label = joint(label, other)
        return label, []

    def constant(self, values):
        return np.sum(values, axis=0)

    def pull_back(self, needed):
        return [needed] * len(self.sizes)

    def keep(self, ins, stays):
        if any(not np.array_equal(ins[0], other) for other in ins[1:]):
            raise UserError(
                f"{self.name} (add) would add channels in different orders: "
                f"{', '.join(self.inputs)} are shuffled differently by the removal"
            )
        return Kept(ins[0])


class Concat(Keep):
    """The inputs one behind the other."""

    def pass_on(self, ins):
        return np.concatenate(ins)

    def parts(self, labels):
        if not any(label.any() for label in labels):
            return self.pass_on(labels), []
        apart = [joint(label, np.full(len(label), i)) for i, label in enumerate(labels)]
        return self.pass_on(apart), []

    def constant(self, values):
        return self.pass_on(values)

    def pull_back(self, needed):
        return np.split(needed, np.cumsum(self.sizes)[:-1])

    def keep(self, ins, stays):
        starts = np.cumsum([0, *self.sizes])
        return Kept(np.concatenate([start + kept for start, kept in zip(starts, ins)]))


class Flatten(Keep):
    """Each channel becomes a block of features."""

    def pass_on(self, ins):
        return np.repeat(ins[0], self.channels // self.sizes[0])

    def constant(self, values):
        return self.pass_on(values)

    def pull_back(self, needed):
        return [needed.reshape(self.sizes[0], -1).any(axis=1)]

    def keep(self, ins, stays):
        return Kept(self.blocks(ins[0]))

    def blocks(self, kept: Array) -> Array:
        """Returns the outputs of the kept channels, each a block, in their order."""
        size = self.channels // self.sizes[0]
        return (kept[:, None] * size + np.arange(size)).ravel()


class Mirror(Keep):
    """Channel c of the input makes channels c and C + c of the output."""

    def pass_on(self, ins):
        return np.concatenate([ins[0], ins[0]])

    def pull_back(self, needed):
        return [needed[: self.sizes[0]] | needed[self.sizes[0] :]]

    def keep(self, ins, stays):
        return Kept(np.concatenate([ins[0], self.sizes[0] + ins[0]]))


class Permute(Keep):
    """The channels in another order: groups dealt out in turn."""

    def pass_on(self, ins):
        return ins[0][self.layer.permutation(self.channels)]

    def parts(self, labels):
        part = np.arange(self.channels) // (self.channels // self.layer.groups)
        return self.pass_on([joint(labels[0], part)]) + 1, [("in", part)]

    def constant(self, values):
        return self.pass_on(values)

    def pull_back(self, needed):
        return [needed[np.argsort(self.layer.permutation(self.channels))]]

    def keep(self, ins, stays):
        kept, groups = ins[0], self.layer.groups
        if len(kept) % groups:
            raise UserError(
                f"{self.name} (shuffle) needs a multiple of {groups} channels, "
                f"{len(kept)} would stay"
            )
        # Where each channel went before, for the channels as the smaller shuffle orders them.
        place = np.argsort(self.layer.permutation(self.channels))
        return Kept(place[kept[self.layer.permutation(len(kept))]])


class Mix(Keep):
    """Weight times input plus bias: it reads channels and computes others."""

    ends = True

    def pass_on(self, ins):
        return np.zeros(self.channels, int)

    def parts(self, labels):
        # Behind a shuffle a group must lose equally many of each of its own parts too: then the
        # shuffle of what is left sends every channel to the group in which it was.
        groups = self.layer.groups
        if groups == 1:
            return self.pass_on(labels), []
        of_in = np.arange(self.sizes[0]) // (self.sizes[0] // groups)
        of_out = np.arange(self.channels) // (self.channels // groups)
        splits = [("in", of_in), ("out", of_out)]
        if labels[0].any():
            splits.append(("in", joint(labels[0], of_in)))
        return self.pass_on(labels), splits

    def constant(self, values):
        v = values[0]
        known = ~(reads(self.layer) & ~foldable(self.layer, v)).any(axis=1)
        total = sums(self.layer) @ np.where(np.isnan(v), 0.0, v)
        if "bias" in self.layer.forms:
            with no_grad():
                total = total + self.layer.forms["bias"].dense().data
        return np.where(known, total, np.nan)

    def pull_back(self, needed):
        return [(reads(self.layer) & needed[:, None]).any(axis=0)]

    def holds(self, value, needed):
        return self.pull_back(needed)[0] & ~foldable(self.layer, value)

    def keep(self, ins, stays):
        if self.layer.groups == 1:
            return Kept(stays, ins[0])
        return self._grouped(ins[0], stays)

    def _grouped(self, read: Array, stays: Array) -> Kept:
        # The groups that stay must read equally many channels and compute equally many; outputs
        # stand group by group in the order of the inputs.
        groups, what = self.layer.groups, f"convolution in {self.layer.groups} groups"
        wide, tall = self.sizes[0] // groups, self.channels // groups
        order = list(dict.fromkeys((read // wide).tolist()))
        ins = [read[read // wide == g] for g in range(groups)]
        outs = [stays[stays // tall == g] for g in range(groups)]
        for verb, parts in (("read", ins), ("compute", outs)):
            counts = [len(p) for p in parts]
            if len({n for n, i, o in zip(counts, ins, outs) if len(i) or len(o)}) > 1:
                raise UserError(
                    f"{self.name} ({what}): every group must {verb} equally many channels, "
                    f"{', '.join(map(str, counts))} would stay"
                )
        if not np.array_equal(np.concatenate([ins[g] for g in order]), read):
            raise UserError(
                f"{self.name} ({what}): the removal would shuffle channels from one group into "
                f"another"
            )
        columns = np.concatenate([np.tile(ins[g] % wide, (len(outs[g]), 1)) for g in order])
        same = (columns == columns[0]).all()
        out = np.concatenate([outs[g] for g in order])
        return Kept(out, columns[0] if same else columns, len(order))


class Depthwise(Mix):
    """A filter, or several, for each channel: its outputs are the channel's own."""

    ends = False
    pass_on, blocks = Flatten.pass_on, Flatten.blocks

    def parts(self, labels):
        return self.pass_on(labels), []

    def holds(self, value, needed):
        return Keep.holds(self, value, needed)  # the unit passes through: its readers decide

    def keep(self, ins, stays):
        return Kept(self.blocks(ins[0]), groups=len(ins[0]))


COUPLINGS: dict[str, type[Keep]] = {
    "mix": Mix, "keep": Keep, "compete": Compete, "add": Add, "concat": Concat,
    "flatten": Flatten, "mirror": Mirror, "permute": Permute,
}


def couplings(model: Model) -> dict[str, Keep]:
    """Returns what becomes of channels at each node; UserError for a layer that does not say."""
    shapes, found = model.shapes(), {}
    for node in model.nodes:
        kind = COUPLINGS.get(node.layer.coupling)
        if kind is None or kind is Mix and "weight" not in node.layer.forms:
            raise UserError(
                f"{node.name}: channels of a {node.layer.kind} (coupling "
                f"{node.layer.coupling!r}) cannot be removed"
            )
        kind = Depthwise if kind is Mix and multiplier(node.layer) else kind
        found[node.name] = kind(node, [shapes[i] for i in node.inputs], shapes[node.name][0])
    return found


def multiplier(layer: Layer) -> int:
    """Returns how many outputs a depthwise convolution has per channel, 0 for another layer."""
    if layer.groups == 1 or "weight" not in layer.forms:
        return 0
    out, wide = layer.forms["weight"].shape[:2]
    return out // layer.groups if wide == 1 else 0


def reads(layer: Layer) -> Array:
    """Returns whether output o of a mixing layer reads input c at all, (O, C) bool."""
    return _spread(layer, (_weight(layer) != 0).any(axis=-1))


def sums(layer: Layer) -> Array:
    """Returns a mixing layer's weights summed over the kernel, (O, C) float64.

    A grouped convolution's are spread out: 0 outside an output's own group.
    """
    return _spread(layer, _weight(layer).sum(axis=-1))


def peaks(layer: Layer) -> Array:
    """Returns a mixing layer's largest |weight| over the kernel, (O, C) float64, spread out as
    `sums` are."""
    return _spread(layer, np.abs(_weight(layer)).max(axis=-1))


def foldable(layer: Layer, value: Array) -> Array:
    """Returns which inputs of a mixing layer have a constant that its bias can take, (C,) bool.

    Padding is not the constant, so that there only 0 can be taken, as where there can be no bias.
    """
    if any(layer.padding) or not ("bias" in layer.forms or "bias" in layer.config()):
        return value == 0
    return ~np.isnan(value)


def joint(a: Array, b: Array) -> Array:
    """Returns a number for each pair (a_i, b_i) that occurs, (n,)."""
    return np.unique(np.stack([a, b]), axis=1, return_inverse=True)[1].reshape(a.shape)


def _weight(layer: Layer) -> Array:
    with no_grad():
        w = layer.forms["weight"].dense().data.astype(np.float64)
    return w.reshape(*w.shape[:2], -1)


def _spread(layer: Layer, w: Array) -> Array:
    # (O, C / groups) -> (O, C), each output's row in the columns of its group.
    g = layer.groups
    out = np.zeros((w.shape[0], w.shape[1] * g), w.dtype)
    for rows, columns in zip(
        np.split(np.arange(w.shape[0]), g), np.split(np.arange(out.shape[1]), g)
    ):
        out[np.ix_(rows, columns)] = w[rows]
    return out
