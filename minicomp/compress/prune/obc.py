"""Optimal Brain Compression (Frantar, Singh, Alistarh 2022, arXiv 2208.11580): the pruner ExactOBS.

OBS needs the Hessian of the whole net. Ask instead that each layer's output changes least. For a
row w of its weights and its inputs X that is linear regression,

    min over w^  |X w - X w^|^2 / 2P,     H = X'X / P,

with a Hessian that is exact, the same for every row, and no larger than the layer's width. Within a
row one weight goes at a time, by OBS itself:

    q = argmin w_p^2 / [H^-1]_pp,     dw = -w_q / [H^-1]_qq  H^-1 e_q                        (eq. 3)
    H^-1 <- H^-1 - H^-1 e_q e_q' H^-1 / [H^-1]_qq                                        (lemma 1)

Every row is followed to its end. Then the rises of all rows are merged, so that rows that can spare
more give more (the global step), and each row is solved once for the weights that it keeps.

After k deletions H^-1 has lost k outer products. Inside a block of deletions only its diagonal and
the columns of deleted weights are formed; at the block's end all products are subtracted as one
matrix product and the deleted columns leave the matrix: the arithmetic of one deletion after the
other at the speed of a matrix product.

Where we leave the paper: the bias is one more input, always 1, that moves but never goes. Layers
are solved in order, each for the inputs that the pruned layers before it give and for the outputs
of the net as it was (`sequential`). `scope = global` merges the rows of all layers: a row's rise
then counts times the loss's mean curvature along its output (`hessian.output_curvature`), which
makes layers comparable.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...errors import UserError
from ...nn.graph import Model
from ...tensor import Array
from ..curvature.hessian import LOSSES, float64, output_curvature
from ..curvature.layerwise import (
    Amount, LayerPruner, block_order, set_rows, shapes_of_rows, with_rows,
)
from ..technique import Run, floor_knob, knob, least_kept, one_for_all
from ..scores import zeros_of

BLOCK = 64  # deletions between two products: where their cost and that of the columns balance


def obc_trace(w: Array, Hinv: Array, *, weights: int | None = None, dead: Array | None = None,
              pattern: tuple[int, int] | None = None, block: int = BLOCK) -> tuple[Array, Array]:
    """Returns the order in which the weights of one row go, (k,) int, and the rise of each, (k,).

    w : (n,) the row        Hinv : (n, n), of H = X'X / P
    weights : the first so many entries may go, the others move only; None: all may go
    dead : (weights,) bool, entries that must go, and go first
    pattern : (N, M) keeps N of every M entries that follow one another
    block : deletions between two products; 1 subtracts each at once
    A rise is w_q^2 / (2 [H^-1]_qq) at its time; ties by lowest index.
    Source: Frantar et al. 2022, algorithm 1

    >>> obc_trace(np.array([1., 3.]), np.linalg.inv([[2., 1.], [1., 2.]]))[0].tolist()
    [0, 1]
    """
    w, weights = np.array(w, np.float64), len(w) if weights is None else weights
    must = np.zeros(len(w), bool)
    if dead is not None:
        must[:weights] = dead
    keep, width = pattern or (0, weights)
    group = np.minimum(np.arange(len(w)) // width, weights // width)  # what only moves: the last
    spare = np.maximum(width - keep, np.bincount(group, must, weights // width + 1).astype(int))
    spare[-1] = 0                                                     # deletions left in each group
    order, rises = np.empty(spare.sum(), np.int64), np.empty(spare.sum())
    at, done, first = np.arange(len(w)), 0, np.flatnonzero(must)      # places still in the matrix
    while done < len(order):
        d, U = np.diag(Hinv).copy(), np.empty((min(block, len(order) - done), len(at)))
        bar = np.where(spare[group[at]] > 0, 0.0, np.inf)             # infinite: must stay
        rise, square, left = np.empty(len(at)), np.empty(len(at)), np.ones(len(at), bool)
        for j in range(len(U)):
            np.divide(np.multiply(w, w, out=square), d, out=rise)     # eq. 3
            q = (np.searchsorted(at, first[done]) if done < len(first)
                 else np.add(rise, bar, out=square).argmin())
            column = Hinv[q] - U[:j, q] @ U[:j]                       # of H^-1 after j deletions
            order[done], rises[done] = at[q], rise[q] / 2
            w -= (w[q] / column[q]) * column
            np.divide(column, math.sqrt(column[q]), out=U[j])         # lemma 1: less U_j U_j'
            d -= np.multiply(U[j], U[j], out=square)
            w[q], d[q], bar[q], left[q] = 0.0, 1.0, np.inf, False
            spare[group[at[q]]] -= 1
            if not spare[group[at[q]]]:
                bar[group[at] == group[at[q]]] = np.inf
            done += 1
        stay = np.flatnonzero(left)
        V, w, at = U[:, stay], w[stay], at[stay]
        Hinv = Hinv.take(stay, axis=0).take(stay, axis=1)             # a fifth of np.ix_'s time
        Hinv -= V.T @ V                                               # NumPy knows: symmetric
    return order, rises


def obc_merge(rises: Sequence[Array], drop: int) -> Array:
    """Returns how many deletions each row makes where `drop` are made in all, (rows,) int.

    rises : of each row, in the order of its deletions; the least of the rows' next rises goes first
    Source: Frantar et al. 2022, the global step after algorithm 1

    >>> obc_merge([np.array([1., 5.]), np.array([2., 3.])], 3).tolist()
    [1, 2]
    """
    row = np.repeat(np.arange(len(rises)), [len(r) for r in rises])
    return np.bincount(row[_order(rises)[:drop]], minlength=len(rises))


@dataclass(frozen=True)
class OBC(LayerPruner):
    """OBS row by row on each layer's own least-squares problem; no retraining."""

    word: ClassVar[str] = "obc"
    title: ClassVar[str] = "Optimal Brain Compression"
    source: ClassVar[str] = ("Frantar, Singh & Alistarh 2022, Optimal Brain Compression: A "
                             "Framework for Accurate Post-Training Quantization and Pruning, "
                             "arXiv:2208.11580")

    scope: str = knob("local", "what is ranked together", choices=("local", "global"))
    floor: float = floor_knob()
    sequential: bool = knob(True, "solve a layer for the inputs that pruned layers before it give")
    loss: str = knob("cross-entropy", "for scope global: whose curvature weighs the rows",
                     choices=LOSSES)

    def __post_init__(self):
        super().__post_init__()
        sparsity = self.sparsity if self.pattern is None else None
        one_for_all(self.word, self.scope, sparsity, self.floor, " and no pattern")

    def change(self, model, data, run):
        amounts = self.amounts(model)
        x = self.examples(model, data, run)
        dense, work = float64(model), float64(model)
        kept = self.masks(model, dense, x, amounts, run)
        seen = work if self.sequential else dense
        for node, given in self.problems(model, seen, dense, x, Run(run.rng)):
            rows = [p.solve(k) for p, k in zip(given, np.split(kept[node.name], len(given)))]
            set_rows(work.node(node.name).layer, np.concatenate(rows))
        return with_rows(model, work, kept)

    def masks(self, model: Model, dense: Model, x: Array, amounts: dict[str, Amount], run: Run
              ) -> dict[str, Array]:
        """Returns which weights stay, (O, C) bool by node, judged on the net as it is.

        dense : the model as float64        amounts : of each layer
        """
        traces: dict[str, list] = {}
        shapes, done = shapes_of_rows(model), 0
        for node, given in self.problems(model, dense, dense, x, run):
            amount, traces[node.name] = amounts[node.name], []
            places = block_order(node.layer, amount)
            for p in given:
                rows, Hinv, gone = p.ordered(places)
                for w, dead in zip(rows, gone):
                    order, rises = obc_trace(w, Hinv, weights=p.weights, dead=dead,
                                             pattern=amount if isinstance(amount, tuple) else None)
                    rises[:np.count_nonzero(dead)] = -1.0             # gone already: always first
                    traces[node.name].append((places[order], rises))
                    done += 1
                    run.log({"event": "progress", "name": self.word, "done": done,
                             "total": sum(O for O, _ in shapes.values())})
        counts = self.counts({n: [r for _, r in t] for n, t in traces.items()}, amounts, dense, x)
        kept = {name: np.ones(shape, bool) for name, shape in shapes.items()}
        for name, trace in traces.items():
            for mask, (order, _), count in zip(kept[name], trace, counts[name]):
                mask[order[:count]] = False
        return kept

    def counts(self, rises: dict[str, list[Array]], amounts: dict[str, Amount], dense: Model,
               x: Array) -> dict[str, Array]:
        """Returns how many deletions each row makes, (O,) int by node.

        rises : of each row by node, -1 for what is gone already
        """
        sizes = {name: sum(map(len, each)) for name, each in rises.items()}
        if self.scope == "local":
            drop = {n: sizes[n] if isinstance(a, tuple) else zeros_of(a, sizes[n])
                    for n, a in amounts.items()}
            return {n: obc_merge(each, max(drop[n], _gone(each))) for n, each in rises.items()}
        unit = output_curvature(dense, x, self.loss)
        weighed = [np.where(r < 0, r, c * r) for n, each in rises.items()
                   for r, c in zip(each, unit[n])]
        n = sum(sizes.values())
        drop = max(zeros_of(self.sparsity, n), _gone(weighed))
        ends = np.cumsum([len(each) for each in rises.values()])[:-1]
        least = least_kept(dense, self.floor)
        safe = [protected(layer, least[f"{name}.weight"])
                for layer, name in zip(_parts(weighed, ends), sizes)]
        most = sum(int(np.count_nonzero(r < np.inf)) for layer in safe for r in layer)
        if drop > most:
            raise UserError(f"obc: sparsity must be at most {most / n:.4g} for every layer to keep "
                            f"what it must, got {self.sparsity:g}")
        counts = obc_merge([r for layer in safe for r in layer], drop)
        return dict(zip(rises, np.split(counts, ends)))


def protected(rises: Sequence[Array], least: int) -> list[Array]:
    """Returns a layer's rises with infinity for the `least` deletions that would be its last ones.

    rises : of each row, in the order of its deletions, -1 for what is gone already and counts not
    """
    ends = np.cumsum([len(r) for r in rises])[:-1]
    flat, order = np.concatenate(rises), _order(rises)
    live = order[flat[order] >= 0]
    flat[live[max(len(live) - least, 0):]] = np.inf
    return np.split(flat, ends)


def _order(rises: Sequence[Array]) -> Array:
    # Taking the least next rise is sorting by the largest so far: what lies behind a peak waits.
    return np.argsort(np.concatenate([np.maximum.accumulate(r) for r in rises]), kind="stable")


def _parts(rows: list, ends: Array) -> list[list]:
    return [rows[a:b] for a, b in zip([0, *ends], [*ends, len(rows)])]


def _gone(rises: Sequence[Array]) -> int:
    return sum(int(np.count_nonzero(r < 0)) for r in rises)
