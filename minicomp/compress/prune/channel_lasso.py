"""Channel pruning by LASSO and least squares (He, Zhang, Sun 2017, "Channel Pruning for
Accelerating Very Deep Neural Networks", arXiv 1707.06168).

A channel may go if the layer that reads it can do without: its outputs Y are to stay, whatever its
inputs. With N sampled outputs, X_i the inputs of channel i that they read (N, K K) and W_i the
weights on them,

    min over b, W   1/2N || Y - sum_i b_i X_i W_i' ||^2 + lam |b|_1   with |b|_0 <= c'    (eq. 2)

    (i)   b for fixed W: LASSO, lam rising until at most c' of the b_i are not 0          (eq. 3)
    (ii)  W for fixed b: least squares of Y on the inputs that stay, X' W'                (eq. 4)

Layers are taken first to last; X is read from the net as pruned so far, Y from the one that was
given, so that later layers make up for the error of earlier ones (section 3.2). Both nets are
walked once (`nn.taps.Walk`): what lies in front of the layers at hand is not run again.

Both problems need only second moments, S = X' X and T = Y' X: the LASSO's Gram matrix is
G_ij = sum of (S * W' W) over the block of channels i and j, since
<X_i W_i', X_j W_j'> = tr(W_i' W_j S_ji).

Where we leave the paper: (i) and (ii) run once each, as in its final form; the moments are centred
where the layer has a bias, which is so fitted with W; (ii) is damped towards the weights that were
there, which decides directions the samples do not show; where several layers read the channels, one
b serves them all, their errors summed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...errors import UserError
from ...kernels.maps.conv import window_view
from ...nn.forms import Dense
from ...nn.graph import Model, Node
from ...nn.layers import Conv2d
from ...nn.taps import Walk
from ...tensor import Array, no_grad
from ..examples import calibration
from ..channels.groups import Group, choose_units, groups
from ..channels.couplings import multiplier
from ..channels.choosing import at_group, check_groups, local, unscored, without_units
from ..technique import Run, Technique, knob

BATCH = 250


@dataclass
class Moments:
    """Of one group of a layer S = X' X / N (D, D), T = Y' X / N (O, D), and the means taken off."""

    S: Array
    T: Array
    mean_x: Array
    mean_y: Array


def moments(x: Array, y: Array, *, centred: bool = True) -> Moments:
    """Returns the second moments of samples about their means, or about 0, float64.

    x : (N, D)        y : (N, O)
    """
    mean_x, mean_y = (a.mean(axis=0, dtype=np.float64) * centred for a in (x, y))
    dx, dy = x - mean_x, y - mean_y
    return Moments(dx.T @ dx / len(x), dy.T @ dx / len(x), mean_x, mean_y)


def gram(m: Moments, w: Array, of: Array, n: int) -> tuple[Array, Array]:
    """Returns G (n, n) and r (n,) of the LASSO b' G b / 2 - r' b + lam |b|_1.

    w : (O, D)
    of : (D,) the channel of each column, -1 for one that stays in any case: what it contributes
        is taken from Y first
    """
    fixed, free = of < 0, of >= 0
    place = np.zeros((free.sum(), n))
    place[np.arange(free.sum()), of[free]] = 1
    wf = w[:, free].astype(np.float64)
    left = m.T[:, free] - w[:, fixed] @ m.S[np.ix_(fixed, free)]
    G = place.T @ (m.S[np.ix_(free, free)] * (wf.T @ wf)) @ place
    return G, place.T @ (wf * left).sum(axis=0)


def lasso(G: Array, r: Array, lam: float, b: Array | None = None, *, sweeps: int = 1000,
          tol: float = 1e-7) -> Array:
    """Returns argmin over b of b' G b / 2 - r' b + lam |b|_1, (n,), by coordinate descent from b.

    Stops when no entry moved more than tol times the largest, or after `sweeps`.
    Source: Friedman, Hastie & Tibshirani 2010, eq. (5), in covariance form
    """
    b = np.zeros(len(r)) if b is None else b.copy()
    live = np.flatnonzero(np.diag(G) > 0)
    b[np.diag(G) <= 0] = 0
    slope = r - G @ b  # the negative gradient of the smooth part
    for _ in range(sweeps):
        most = 0.0
        for i in live:
            pull = slope[i] + G[i, i] * b[i]
            new = np.sign(pull) * max(abs(pull) - lam, 0.0) / G[i, i]
            if new != b[i]:
                slope += G[:, i] * (b[i] - new)
                most = max(most, abs(new - b[i]))
                b[i] = new
        if most <= tol * np.abs(b).max(initial=1e-30):
            break
    return b


def select(G: Array, r: Array, count: int) -> tuple[Array, float]:
    """Returns b with at least `count` entries not 0, and lam, the largest found that has so many.

    lam is bisected on a logarithmic scale from max |r|, where b is 0, downwards.
    """
    top = float(np.abs(r).max(initial=0.0))
    lo, hi, b = top, top, np.zeros(len(r))
    while support(b) < count and lo > 1e-9 * top:
        hi, lo = lo, lo / 4
        b = lasso(G, r, lo, b)
    for _ in range(12):
        if support(b) == count:
            break
        middle = (lo * hi) ** 0.5
        tried = lasso(G, r, middle, b)
        if support(tried) >= count:
            lo, b = middle, tried
        else:
            hi = middle
    return b, lo


def support(b: Array) -> int:
    """Returns how many entries of b are not 0, up to rounding: above 1e-8 of the largest."""
    size = np.abs(b)
    return int(np.count_nonzero(size > 1e-8 * size.max(initial=0.0)))


def reconstruct(m: Moments, w: Array, stays: Array, damping: float) -> tuple[Array, Array]:
    """Returns weights (O, D), 0 outside `stays`, of least squared error in Y, and their bias (O,).

    w : (O, D) before        stays : (D,) bool        damping : relative to the mean diagonal of S
    """
    S, T = m.S[np.ix_(stays, stays)], m.T[:, stays]
    before = w[:, stays].astype(np.float64)
    ridge = damping * np.trace(S) / max(len(S), 1) + 1e-30
    new = np.zeros(w.shape)
    change = np.linalg.solve(S + ridge * np.eye(len(S)), (T - before @ S).T).T
    new[:, stays] = before + change                                                      # eq. (4)
    return new, m.mean_y - new @ m.mean_x


@dataclass(frozen=True)
class ChannelLasso(Technique):
    """Removes the channels that a LASSO finds dispensable, and refits what reads the others."""

    word: ClassVar[str] = "channel-lasso"
    title: ClassVar[str] = "Channel pruning by LASSO"
    source: ClassVar[str] = (
        "He, Zhang & Sun 2017, Channel Pruning for Accelerating Very Deep Neural Networks, "
        "arXiv:1707.06168"
    )

    sparsity: float = knob(
        0.5, "fraction of channels removed", lo=0, hi=1, below=True, per_layer=True
    )
    samples: int = knob(
        2000, "training examples on which Y is kept; all where there are fewer", lo=1
    )
    positions: int = knob(10, "places sampled from each map of a convolution", lo=1)
    damping: float = knob(1e-4, "pull of the least squares towards the old weights", lo=1e-9)

    def reads(self):
        return ("train",)

    def check(self, model):
        check_groups(self, groups(model))
        for name, form in model.forms().items():
            if form.mask is not None and len(form.shape) > 1:
                raise UserError(
                    f"channel-lasso: {name} has pruned weights, which least squares would fill; "
                    f"remove channels before weights"
                )

    def check_shapes(self, model):
        local(self.word, unscored(groups(model)), self.asked)

    def change(self, model, data, run):
        found = groups(model)
        x = calibration(self, data, run).x
        made, now, then = model, Walk(x, batch_size=BATCH), Walk(x, batch_size=BATCH)
        # Of a reader's outputs those that it still has: a layer that is added to an earlier one has
        # lost channels before its own inputs are looked at.
        stays = {name: np.arange(shape[0]) for name, shape in model.shapes().items()}
        for done, before in enumerate(found, start=1):
            group = next(g for g in groups(made) if g.nodes == before.nodes)
            if round(self.asked(group) * group.size):
                readers = readers_of(made, group)
                # What the group's first layer reads is settled: the walks stop in front of it.
                to, sources = group.nodes[0], {n.inputs[0] for n in readers}
                pairs = zip(now.run(made, sources, to=to),
                            then.run(model, [n.name for n in readers], to=to))
                parts = sampled(readers, pairs, stays, self.positions, run.rng)
                made, kept = self.thinner(made, group, readers, parts, run)
                for node, keep in group.keep(kept).items():
                    stays[node] = stays[node][keep]
            run.log({"event": "progress", "name": self.word, "done": done, "total": len(found)})
        return made

    def asked(self, group: Group) -> float:
        """Returns the sparsity asked of a group."""
        return at_group(self, "sparsity", group)

    def thinner(self, made: Model, group: Group, readers: list[Node],
                parts: dict[str, list[Moments]], run: Run) -> tuple[Model, Array]:
        """Returns `made` with one group thinned out and its readers refitted, and what stays, (U,).

        parts : the moments of each group of each reader, by node
        """
        G, r = np.zeros((group.size, group.size)), np.zeros(group.size)
        for node in readers:
            for (w, of), m in zip(split(node, group), parts[node.name]):
                part = gram(m, w, of, group.size)
                G, r = G + part[0], r + part[1]
        count = round(self.asked(group) * group.size)
        b, lam = select(G, r, group.size - count)
        kept = choose_units(group, np.abs(b), count)
        made = made.copy()
        for node in readers:
            refit(made, node, group, kept, parts[node.name], self.damping)
        run.log({"event": "removed", "name": self.word, "lam": lam, "damping": self.damping,
                 "units": {group.name: int((~kept).sum())}})
        return without_units(made, [(group, kept)]), kept

    def sketch(self, model, *, rng):
        return without_units(
            model, local(self.word, unscored(groups(model)), self.asked)
        )


def readers_of(model: Model, group: Group) -> list[Node]:
    """Returns the layers that read units of a group and mix them."""
    return [
        n
        for n in model.nodes
        if n.layer.coupling == "mix"
        and not multiplier(n.layer)
        and (group.members.get(n.inputs[0], np.array([-1])) >= 0).any()
    ]


def split(node: Node, group: Group) -> list[tuple[Array, Array]]:
    """Returns for each group of a layer its weights (O, D) and the unit of each column (D,).

    A column that another group's unit fills is of unit -1.
    """
    with no_grad():
        w = node.layer.forms["weight"].dense().data
    w = w.reshape(len(w), w.shape[1], -1)
    units = group.members[node.inputs[0]].reshape(node.layer.groups, -1)
    return [
        (rows.reshape(len(rows), -1), np.repeat(of, w.shape[2]))
        for rows, of in zip(np.split(w, node.layer.groups), units)
    ]


def sampled(readers: list[Node], pairs: Iterable[tuple[dict, dict]], stays: dict[str, Array],
            positions: int, rng: np.random.Generator) -> dict[str, list[Moments]]:
    """Returns the moments of layers' inputs and outputs by node, one per group of the layer.

    stays : by node, which channels of the given net's outputs Y is made of
    pairs : a batch each, node -> what it gives: those that the readers read, in the net as pruned
        so far, and the readers, in the net that was given
    """
    seen: dict[str, tuple[list, list]] = {node.name: ([], []) for node in readers}
    for inputs, outputs in pairs:
        for node in readers:
            x, y = inputs[node.inputs[0]], outputs[node.name]
            if x.ndim == 4:
                x, y = sampled_windows(node.layer, x, y, positions, rng)
            for found, a in zip(seen[node.name], (x, y[:, stays[node.name]])):
                found.append(a)
    return {
        node.name: [
            moments(x.astype(np.float64), y, centred="bias" in node.layer.forms)
            for x, y in zip(*(np.split(np.concatenate(a), node.layer.groups, axis=1)
                              for a in seen[node.name]))
        ]
        for node in readers
    }


def sampled_windows(layer: Conv2d, x: Array, y: Array, positions: int,
                    rng: np.random.Generator) -> tuple[Array, Array]:
    """Returns what a convolution reads and gives at random places, `positions` of each map.

    result : inputs (N positions, C K K) and outputs (N positions, O)
    """
    seen = window_view(x, layer.kernel_size, layer.stride, layer.padding)
    n = np.repeat(np.arange(len(x)), positions)
    i, j = rng.integers(y.shape[2], size=len(n)), rng.integers(y.shape[3], size=len(n))
    return seen[n, :, i, j].reshape(len(n), -1), y[n, :, i, j]


def refit(model: Model, node: Node, group: Group, kept: Array, parts: list[Moments],
          damping: float) -> None:
    """Gives one reader the least squares on the inputs that stay, weight and bias, in place.

    Forms keep their kind and mask where their entries can move; others become plain values.
    """
    layer, rows, biases = node.layer, [], []
    for (w, of), m in zip(split(node, group), parts):
        new, bias = reconstruct(m, w, (of < 0) | kept[of], damping)
        rows.append(new)
        biases.append(bias)
    fitted = {"weight": rows, "bias": biases}
    for part, form in layer.forms.items():
        value = np.concatenate(fitted[part]).reshape(form.shape).astype(np.float32)
        new = form.moved(value) if form.movable else Dense(value, trainable=form.trainable)
        model.set_form(f"{node.name}.{part}", new)
