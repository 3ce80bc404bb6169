"""SparseGPT (Frantar, Alistarh 2023, arXiv 2301.00774): OBS in one sweep over the columns.

OBC gives every row its own order of deletions, hence its own inverse Hessians. Here every row goes
from left to right, and a weight deleted in column j is made up for by the columns after j only.
Then all rows share one sequence of inverses, that of H without its first j columns, and Cholesky
gives it at once:

    H^-1 = U' U, U upper triangular:  row j of U is [H_j..^-1]_j,j.. / sqrt([H_j..^-1]_jj)

so that deleting w_j means

    err = w_j / U_jj,     w_j.. <- w_j.. - err U_j,j..,     its rise err^2 / 2     (eqs. 4, 5)

Which weights go is decided for a block of columns at a time, by the rises (w / U_jj)^2 as they
stand when the block is reached; in the N:M pattern for M columns of a row at a time. Inside a block
updates are made column by column, and those of the columns after it in one matrix product (`Bs` and
`B` of the paper).

Where we leave the paper: each block takes its share of exactly round(s n) zeros (the paper rounds
in every block). The bias is the last column, always 1, that is never deleted and catches what is
left over. A layer's inputs are those of the pruned net, as in the paper; its target is the outputs
of the net as it was (see `layerwise`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...tensor import Array
from ..curvature.hessian import float64
from ..curvature.layerwise import Amount, LayerPruner, block_order, set_rows, with_rows
from ..technique import knob
from ..scores import drop_smallest, zeros_of


def sparsegpt(W: Array, Hinv: Array, amount: Amount, *, weights: int | None = None,
              dead: Array | None = None, block: int = 128) -> tuple[Array, Array]:
    """Returns the pruned rows, (O, C), and which of their weights were kept, (O, weights) bool.

    W : (O, C) rows        Hinv : (C, C), of H = X'X / P
    amount : the sparsity, exactly round(s O weights) zeros; or (N, M), N kept of every M in a row
    weights : the first so many columns may go, the others move only; None: all may go
    dead : (O, weights) bool, entries that must go; they count
    block : columns whose weights are chosen together
    Ties by lowest index within the block. Raises ValueError where M does not divide a row.
    Source: Frantar & Alistarh 2023, algorithm 1
    """
    W, weights = np.array(W, np.float64), W.shape[1] if weights is None else weights
    dead = np.zeros((len(W), weights), bool) if dead is None else dead
    by_row = isinstance(amount, tuple)
    if by_row:
        block = max(block // amount[1], 1) * amount[1]
        if weights % amount[1]:
            raise ValueError(f"M must divide the {weights} weights of a row, got {amount}")
    U = np.linalg.cholesky(Hinv).T                                    # H^-1 = U' U
    share = [] if by_row else _shares(amount, dead, block)
    kept = ~dead
    for start in range(0, W.shape[1], block):
        stop = min(start + block, W.shape[1])
        errors = np.zeros((len(W), stop - start))
        if not by_row and start < weights:
            at = slice(start, min(stop, weights))
            rise = (W[:, at] / np.diag(U)[at]) ** 2
            kept[:, at] = drop_smallest(rise, share[start // block], mask=kept[:, at])
        for j in range(start, min(stop, weights)):
            if by_row and j % amount[1] == 0:
                at = slice(j, j + amount[1])
                rise, (N, M) = (W[:, at] / np.diag(U)[at]) ** 2, amount
                kept[:, at] &= drop_smallest(rise, M - N, width=M, mask=kept[:, at])
            err = np.where(kept[:, j], 0.0, W[:, j] / U[j, j])        # eq. 4
            W[:, j:stop] -= np.outer(err, U[j, j:stop])
            W[~kept[:, j], j] = 0.0
            errors[:, j - start] = err
        W[:, stop:] -= errors @ U[start:stop, stop:]
    return W, kept


def _shares(sparsity: float, dead: Array, block: int) -> list[int]:
    # How many zeros each block of columns gets: round(s n) in all, or what is dead already if that
    # is more; what goes beyond the dead is spread evenly over the weights that are alive.
    zeros = dead.sum(axis=0)
    alive = np.cumsum(len(dead) - zeros)
    more = max(zeros_of(sparsity, dead.size) - int(zeros.sum()), 0)
    ends = [min(e, dead.shape[1]) for e in range(block, dead.shape[1] + block, block)]
    upto = [round(more * int(alive[e - 1]) / max(int(alive[-1]), 1)) + int(zeros[:e].sum())
            for e in ends]
    return np.diff([0] + upto).tolist()


@dataclass(frozen=True)
class SparseGPT(LayerPruner):
    """Deletes from left to right, all rows of a layer at once, and moves what lies to the right."""

    word: ClassVar[str] = "sparsegpt"
    title: ClassVar[str] = "SparseGPT"
    source: ClassVar[str] = ("Frantar & Alistarh 2023, SparseGPT: Massive Language Models Can Be "
                             "Accurately Pruned in One-Shot, arXiv:2301.00774")

    block: int = knob(128, "columns whose weights are chosen together", lo=1)
    refit: bool = knob(False, "solve each row again for what it keeps; the paper does not")

    def change(self, model, data, run):
        amounts = self.amounts(model)
        x = self.examples(model, data, run)
        dense, work, kept = float64(model), float64(model), {}
        walked = self.problems(model, work, dense, x, run)
        for done, (node, given) in enumerate(walked, start=1):
            rows, masks, places = [], [], block_order(node.layer, amounts[node.name])
            back = np.argsort(places)                                 # where each weight went
            for p in given:
                W, Hinv, dead = p.ordered(places)
                W, mask = sparsegpt(W, Hinv, amounts[node.name], weights=p.weights, dead=dead,
                                    block=self.block)
                mask, W[:, :p.weights] = mask[:, back], W[:, back]
                rows.append(p.solve(mask) if self.refit else W)
                masks.append(mask)
            set_rows(work.node(node.name).layer, np.concatenate(rows))
            kept[node.name] = np.concatenate(masks)
            run.log({"event": "progress", "name": self.word, "done": done, "total": len(amounts)})
        return with_rows(model, work, kept)
