"""Running a model over examples and seeing what its nodes give: the one loop of calibration.

Examples go through in batches, no graph is recorded, and every weight is decoded once. `observe` is
the whole of it for a method that looks at a net as it is. A method that changes the net from the
first layer to the last and looks before each change keeps a `Walk`: the activations at a cut
through the net, which moves forward and never back, so that a net of twice the depth costs twice
as much.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from ..tensor import Array, Tensor, no_grad
from .graph import INPUT, Model, Node

ACTIVATIONS = 2**29  # bytes that the activations of a batch may take, all nodes of it together


def fitting(model, batch_size: int) -> int:
    """Returns batch_size, or fewer examples where the activations of so many would take more than
    512 MiB; at least 1.

    model : a Model or a Program        batch_size : for nets of the size that is common here
    """
    return max(1, min(batch_size, ACTIVATIONS // max(model.activation_bytes(), 1)))


def observe(model: Model, x: Array, names: Iterable[str], *, batch_size: int = 500,
            weights: dict[str, Tensor] | None = None) -> Iterator[dict[str, Array]]:
    """Yields the outputs of the named nodes, {name: (n, ...)}, one batch after the other.

    x : (N, *input_shape)        names : of nodes; "x" is the input
    batch_size : examples of a batch, the last may be shorter; of a net with large activations fewer
        are taken, see `fitting`
    weights : what `model.decode` gave; None decodes here, once, the weights that are used
    Only nodes that a name depends on are run. Arrays may share memory with the net's own: do not
    write to them.
    Raises KeyError for a name that is no node, ValueError for an x of another shape or a
    batch_size below 1.
    """
    return Walk(x, batch_size=min(batch_size, fitting(model, batch_size))).run(
        model, names, weights=weights)


class Walk:
    """The examples' activations at a cut through a net: what nodes behind the cut read.

    Memory: what crosses the cut, of every example; all else is of one batch at a time.

    x : (N, ...)        batch_size : examples of a batch        dtype : of the arithmetic; None: x's
    """

    def __init__(self, x: Array, *, batch_size: int = 500, dtype=None):
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        self.shape, self.cut, self.live = x.shape[1:], None, {INPUT}  # None: before the first node
        self.carried = [{INPUT: np.asarray(x[i:i + batch_size], dtype)}
                        for i in range(0, len(x), batch_size)]

    def run(self, model: Model, names: Iterable[str], *, to: str | None = None,
            weights: dict[str, Tensor] | None = None) -> Iterator[dict[str, Array]]:
        """Yields the outputs of the named nodes, batch by batch; then the cut is in front of `to`.

        model : in front of the cut as in earlier calls; behind it nodes may have changed
        to : a node; None leaves the cut where it is. To be read to the end: batches move one by one
        weights : what `model.decode` gave; None decodes here what is used
        Raises KeyError for a name that is no node, ValueError for one that lies in front of the cut
        and is not read behind it, and for an x of another shape.
        """
        names = tuple(names)
        places = {INPUT: -1} | {node.name: i for i, node in enumerate(model.nodes)}
        for name in {*names, to, self.cut} - {None}:
            if name not in places:
                raise KeyError(f"no node {name!r}; there are {', '.join(list(places)[1:])}")
        start = 0 if self.cut is None else places[self.cut]
        stop = start if to is None else places[to]
        gone = [name for name in names if places[name] < start and name not in self.live]
        gone += [to] * (stop < start)
        if gone:
            raise ValueError(f"{gone[0]} lies in front of the cut, which is before {self.cut}")
        if INPUT in self.live and self.shape != model.input_shape:
            raise ValueError(f"x must have shape (N, {', '.join(map(str, model.input_shape))}), "
                             f"got (N, {', '.join(map(str, self.shape))})")
        keep = set() if to is None else crossing(model.nodes, stop)
        nodes = _leading_to(model.nodes[start:], keep.union(names))
        return self._run(nodes, names, keep, to, weights)

    def _run(self, nodes, names, keep, to, weights):
        if weights is None:
            with no_grad():
                weights = {f"{node.name}.{part}": w for node in nodes
                           for part, w in node.layer.decode().items()}
        last = {name: i for i, node in enumerate(nodes) for name in node.inputs}
        wanted = keep.union(names)
        if to is not None:
            self.cut, self.live = to, keep
        for b in range(len(self.carried)):
            values = dict(self.carried[b])
            for i, node in enumerate(nodes):
                parts = {part: weights[f"{node.name}.{part}"]
                         for part in (*node.layer.forms, *node.layer.grids)}
                with no_grad():
                    inputs = [Tensor(values[name]) for name in node.inputs]
                    values[node.name] = node.layer(*inputs, weights=parts).data
                for name in set(node.inputs) - wanted:  # drop what no later node needs
                    if last[name] == i:
                        del values[name]
            if to is not None:
                self.carried[b] = {name: values[name] for name in keep}
            yield {name: values[name] for name in names}


def crossing(nodes: Sequence[Node], stop: int) -> set[str]:
    """Returns the names that nodes from `stop` on read of those in front of it, or of the input."""
    behind = nodes[stop:]
    return {name for node in behind for name in node.inputs} - {node.name for node in behind}


def _leading_to(nodes: Sequence[Node], names: set[str]) -> list[Node]:
    # The nodes on whose outputs the named ones depend, and these themselves, in order.
    needed, found = set(names), []
    for node in reversed(nodes):
        if node.name in needed:
            needed |= set(node.inputs)
            found.append(node)
    return found[::-1]
