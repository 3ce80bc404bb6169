"""A layer by itself: the least-squares problem on which OBC, SparseGPT, GPTQ and AdaRound work.

P examples, L positions, O outputs, C entries of a row: its weights, and 1 for its bias. A layer
should go on giving what it gave, Z, after its rows have lost entries. Row by row that is linear
regression,

    min over w^  |Z_o - X w^|^2 / 2P,     H = X'X / P  (C, C),     S = X'Z / P  (C, O)

with X the layer's inputs. H is the Hessian of every row, exactly. The least lies at W* = (H^-1 S)',
and w^ is above it by 1/2 (w^ - w*)' H (w^ - w*).

lambda I is added to H, and lambda W' to S: what X does not decide is drawn towards the weights
there were. A bias is one more weight, whose input is always 1; it moves but is never removed.

X may come from the net as it *is*, pruned up to this layer, while Z comes from the net as it *was*:
then W* makes up for what the pruning of earlier layers broke.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import repeat

import numpy as np

from ...errors import UserError
from ...nn.graph import Model, Node
from ...nn.layers import Layer
from ...nn.taps import Walk, crossing
from ...tensor import Array
from ..examples import calibration
from ..scores import block_mask, channels_last, drop_smallest, zeros_of
from ..technique import Run, Technique, knob
from .hessian import by_unit, check_layers, damped_inverse, input_rows, layers

BATCH = 128  # examples at a time: their rows stay near the cache
CARRIED = 2**30  # bytes of activations that a walk carries, at the most; of each of two nets
Amount = float | tuple[int, int]  # a sparsity, or (N, M): N of every M kept


@dataclass
class LayerProblem:
    """One group of one layer as least squares.

    W : (O, C) rows of least error, the bias last if there is one
    H, Hinv : (C, C), damped        S : (C, O), H W' = S
    weights : how many of the C entries are weights, the rest being the bias
    dead : (O, weights) bool, entries that a mask has taken already
    damping : lambda        asked : the lambda asked for, smaller where H was singular with it
    positions : L        X, Z : (R, C) and (R, O) rows of inputs and outputs, where a technique asks
        for some; else None
    """

    W: Array
    H: Array
    Hinv: Array
    S: Array
    weights: int
    dead: Array
    damping: float
    asked: float
    positions: int = 1
    X: Array | None = None
    Z: Array | None = None

    def error(self, rows: Array) -> Array:
        """Returns what rows (O, C) lie above the least: |Z_o - X w^|^2 / P less its least, (O,)."""
        d = rows - self.W
        return np.einsum("oc,oc->o", d @ self.H, d)

    def completed(self, weights: Array) -> Array:
        """Returns rows (O, C) of these weights, (O, weights), and the bias of least error."""
        if len(self.H) == self.weights:
            return weights.astype(np.float64)
        moved = (weights - self.W[:, :-1]) @ self.H[:-1, -1:] / self.H[-1, -1]
        return np.concatenate([weights, self.W[:, -1:] - moved], axis=1)

    def ordered(self, order: Array) -> tuple[Array, Array, Array]:
        """Returns W, Hinv and dead with the weights of a row in another order, the bias last."""
        at = np.concatenate([order, np.arange(self.weights, len(self.H))])
        if np.array_equal(at, np.arange(len(at))):
            return self.W, self.Hinv, self.dead
        return self.W[:, at], self.Hinv[np.ix_(at, at)], self.dead[:, order]

    def solve(self, kept: Array) -> Array:
        """Returns the rows of least error over the kept entries, (O, C), 0 elsewhere.

        kept : (O, weights) bool
        """
        out, free = np.zeros_like(self.W), np.arange(self.weights, len(self.H))
        for row, mask, s in zip(out, kept, self.S.T):
            at = np.concatenate([np.flatnonzero(mask), free])
            row[at] = np.linalg.solve(self.H[np.ix_(at, at)], s[at])
        return out


def problems(model: Model, reference: Model, x: Array, damping: float,
             dead: Mapping[str, Array] | None = None, *, rows: int = 0,
             rng: np.random.Generator | None = None
             ) -> Iterator[tuple[Node, list[LayerProblem]]]:
    """Yields each layer, first to last, and the least-squares problem of each of its groups.

    Both nets are walked once, side by side: what a layer is changed to while its problem is there
    is what later ones read.

    model : gives the inputs X
    reference : gives the outputs Z and the weights W (both models of `hessian.float64`). Where it
        is the model itself, W* = W and no output need be computed
    x : (P, ...) examples
    damping : lambda over the mean of H's diagonal; raised where H is singular all the same
    dead : by node (O, weights) bool, what masks have taken already; absent: nothing
    rows : of X and Z to keep, at most, drawn from rng where there are more; 0: none
    Raises ValueError where X or Z is not finite.
    """
    sample, shapes = Sample(rows, rng), reference.shapes()
    for node, H, S in layer_moments(model, reference, x, sample):
        layer = reference.node(node.name).layer
        all_rows, found = rows_of(layer), []
        weights = all_rows.shape[1] - ("bias" in layer.forms)
        taken = (dead or {}).get(node.name, np.zeros((len(all_rows), weights), bool))
        kept = sample.take(len(H))
        for g, (W, gone) in enumerate(zip(np.split(all_rows, len(H)), np.split(taken, len(H)))):
            Hinv, used = damped_inverse(H[g], damping)
            asked = damping * float(np.diag(H[g]).mean())
            damped = H[g] + used * np.eye(len(Hinv))
            if S is None:
                best, right = W, damped @ W.T
            else:
                right = S[g] + used * W.T
                best = (Hinv @ right).T
            found.append(LayerProblem(best, damped, Hinv, right, weights, gone, used, asked,
                                      math.prod(shapes[node.name][1:]), *kept[g]))
        yield node, found


class Sample:
    """At most `rows` rows of the X and Z of a layer, an equal share of every batch of examples."""

    def __init__(self, rows: int, rng: np.random.Generator | None):
        self.rows, self.rng = rows, rng
        self.held: list[tuple[Array, Array]] = []

    def add(self, X: Array, Z: Array, part: float) -> None:
        """Draws from a batch, X (G, R, C) and Z (G, R, O / G), `part` of all examples."""
        n = min(math.ceil(self.rows * part), X.shape[1])
        if n:
            at = np.sort(self.rng.choice(X.shape[1], n, replace=False))
            self.held.append((X[:, at], Z[:, at]))

    def take(self, groups: int) -> list[tuple[Array | None, Array | None]]:
        """Returns (X, Z) of each group, and forgets them; (None, None) where none were drawn."""
        held, self.held = self.held, []
        if not held:
            return [(None, None)] * groups
        X, Z = (np.concatenate(a, axis=1) for a in zip(*held))
        return list(zip(X, Z))


def carried_bytes(model: Model) -> int:
    """Returns the bytes that an example's activations take between two layers, at the most."""
    shapes, first = model.shapes(), {node.name for node in layers(model)}
    sizes = [sum(math.prod(shapes[name]) for name in crossing(model.nodes, i))
             for i, node in enumerate(model.nodes) if node.name in first]
    return 8 * max(sizes, default=1)


def rows_of(layer: Layer) -> Array:
    """Returns a layer's weights as rows, (O, C), the bias last if there is one."""
    W = layer.forms["weight"].value.data
    W = W.reshape(len(W), -1)
    if "bias" not in layer.forms:
        return W.copy()
    return np.concatenate([W, layer.forms["bias"].value.data[:, None]], axis=1)


def set_rows(layer: Layer, rows: Array) -> None:
    """Writes rows (O, C), the bias last if there is one, into a layer's forms, in place."""
    weight = layer.forms["weight"].value.data
    C = weight.size // len(weight)
    weight[...] = rows[:, :C].reshape(weight.shape)
    if "bias" in layer.forms:
        layer.forms["bias"].value.data[...] = rows[:, C]


def layer_moments(model: Model, reference: Model, x: Array, sample: Sample | None = None
                  ) -> Iterator[tuple[Node, Array, Array | None]]:
    """Yields each layer, first to last, X'X / P, (G, C, C), and X'Z / P, (G, C, O / G).

    X : (P L, C) rows of the node's input in `model`, with a column of ones last for a bias
    Z : (P L, O / G) the node's output in `reference`; where that is the model itself it is X W',
        and the second None        both models of `hessian.float64`
    sample : takes rows of X and Z (two different models)
    """
    nodes, same = layers(model), model is reference
    now = Walk(x, batch_size=BATCH, dtype=np.float64)
    then = None if same else Walk(x, batch_size=BATCH, dtype=np.float64)
    for node, after in zip(nodes, [*nodes[1:], None]):
        inputs, to = now.run(model, node.inputs, to=node.name), after and after.name
        outputs = repeat({}) if same else then.run(reference, [node.name], to=to)
        H, S = 0.0, None if same else 0.0
        for taps, z in zip(inputs, outputs):
            X = input_rows(node.layer, taps[node.inputs[0]], ones="bias" in node.layer.forms)
            H = H + X.transpose(0, 2, 1) @ X / len(x)
            if not same:
                Z = by_unit(node.layer, z[node.name]).transpose(1, 0, 3, 2)
                Z = Z.reshape(*X.shape[:2], -1)
                S = S + X.transpose(0, 2, 1) @ Z / len(x)
                if sample is not None:
                    sample.add(X, Z, len(taps[node.inputs[0]]) / len(x))
        if not (np.isfinite(H).all() and (same or np.isfinite(S).all())):
            raise ValueError(f"inputs and outputs of {node.name} must be finite, got NaN or "
                             "infinity")
        yield node, H, S


# -------------------------------------------------------------- what such techniques have in common


def samples_knob():
    """Returns the field for the number of examples of X."""
    return knob(2000, "training examples drawn for X; all where there are fewer", lo=1)


def damping_knob():
    """Returns the field for lambda."""
    return knob(0.01, "added to H's diagonal, times its mean", lo=0, hi=1)


class LayerWise(Technique):
    """A technique that treats each layer on its own least squares; it has knobs `samples` and
    `damping`."""

    samples: int
    damping: float

    def targets(self, model):
        return [node.name for node in layers(model)]

    def reads(self):
        return ("train",)

    def check(self, model):
        super().check(model)
        check_layers(self.word, model)

    def examples(self, model: Model, data, run: Run) -> Array:
        """Returns the examples X is read on, (P, ...): `samples`, or as many as memory allows."""
        samples = min(self.samples, max(1, CARRIED // carried_bytes(model)))
        if samples < self.samples:
            run.log({"event": "say", "text":
                     f"{self.word}: the activations of {samples} examples fill "
                     f"{CARRIED // 2**20} MiB; {self.samples} are asked for"})
        return calibration(self, data, run, samples).x

    def problems(self, given: Model, model: Model, reference: Model, x: Array, run: Run,
                 **sample) -> Iterator[tuple[Node, list[LayerProblem]]]:
        """Yields `problems`, dead where the masks of the `given` model say so; logs the damping
        used, aloud where it had to be raised."""
        masks = {node.name: node.layer.forms["weight"].mask for node in layers(given)}
        dead = {name: ~m.reshape(len(m), -1) for name, m in masks.items() if m is not None}
        try:
            for node, found in problems(model, reference, x, self.damping, dead, **sample):
                for p in found:
                    run.log({"event": "damping", "name": self.word, "layer": node.name,
                             "damping": p.damping, "asked": p.asked})
                    if p.damping > 1.001 * p.asked:
                        run.log({"event": "say", "text":
                                 f"{self.word}: the Hessian of {node.name} is singular; damping "
                                 f"raised from {p.asked:.3g} to {p.damping:.3g}"})
                yield node, found
        except ValueError as e:
            raise UserError(f"{self.word}: {e}") from None


@dataclass(frozen=True)
class LayerPruner(LayerWise):
    """The knobs and the door of a technique that prunes each layer on its own least squares."""

    sparsity: float | None = knob(None, "fraction of zeros, exactly round(s n)", type=float, lo=0,
                                  hi=1, below=True, optional=True, per_layer=True)
    pattern: str | None = knob(None, "instead of sparsity: N:M keeps N of every M inputs of an "
                                     "output", type=str, optional=True, per_layer=True)
    samples: int = samples_knob()
    damping: float = damping_knob()

    def __post_init__(self):
        super().__post_init__()
        if self.sparsity is None and self.pattern is None:
            raise UserError(f"{self.word}: sparsity or pattern must be given, got neither")
        for text in self.pattern.values() if isinstance(self.pattern, dict) else [self.pattern]:
            if text is not None:
                parse_pattern(text, self.word)

    def check_shapes(self, model):
        self.amounts(model)

    def amounts(self, model: Model) -> dict[str, Amount]:
        """Returns how much goes from each layer, by node; UserError where M does not divide the
        inputs of one."""
        found = {}
        for node in layers(model):
            sparsity, pattern = self.at("sparsity", node.name), self.at("pattern", node.name)
            if sparsity is not None and pattern is not None:
                raise UserError(f"{self.word}: {node.name} takes a sparsity or a pattern, got both")
            found[node.name] = sparsity or 0.0
            if pattern is not None:
                N, M = found[node.name] = parse_pattern(pattern, self.word)
                inputs = node.layer.forms["weight"].shape[1]
                if inputs % M:
                    raise UserError(f"{self.word}: pattern {N}:{M} needs inputs that {M} divides, "
                                    f"got {inputs} in {node.name}")
        return found

    def sketch(self, model, *, rng):
        # As many zeros, of least magnitude: the layers' problems would need data.
        self.check(model)
        self.check_shapes(model)
        kept = {}
        for name, amount in self.amounts(model).items():
            form = model.node(name).layer.forms["weight"]
            w = np.abs(form.dense().data)
            if isinstance(amount, tuple):
                kept[name] = block_mask(w, *amount, mask=form.mask)
            else:
                kept[name] = drop_smallest(w, zeros_of(amount, w.size), mask=form.mask)
        return with_rows(model, model, kept)


def block_order(layer: Layer, amount: Amount) -> Array:
    """Returns the order of a row's weights (C,) in which they are gone through: for (N, M) the
    inputs of a block follow one another, else as they stand."""
    shape = layer.forms["weight"].shape
    return channels_last(shape if isinstance(amount, tuple) else (1, math.prod(shape[1:])))


def shapes_of_rows(model: Model) -> dict[str, tuple[int, int]]:
    """Returns the shape of each layer's weights as rows, (O, C), without bias, by node."""
    shapes = {n.name: n.layer.forms["weight"].shape for n in layers(model)}
    return {name: (shape[0], math.prod(shape[1:])) for name, shape in shapes.items()}


def parse_pattern(text: str, word: str) -> tuple[int, int]:
    """Returns (N, M) of "N:M"; UserError unless 1 <= N < M."""
    parts = text.split(":")
    if len(parts) == 2 and all(p.isascii() and p.isdigit() for p in parts):
        N, M = map(int, parts)
        if 1 <= N < M:
            return N, M
    raise UserError(f'{word}: pattern must be "N:M" with 1 <= N < M, got {text!r}')


def with_rows(model: Model, work: Model, kept: dict[str, Array]) -> Model:
    """Returns a copy of the model with the weights and biases of `work`, float32, and masks.

    work : of the same nodes        kept : by node, bool, (O, C) or of the weight's shape
    """
    model = model.copy()
    for name, mask in kept.items():
        for part, form in model.node(name).layer.forms.items():
            moved = form.moved(work.node(name).layer.forms[part].dense().data.astype(np.float32))
            if part == "weight":
                moved = moved.masked(mask.reshape(form.shape))
            model.set_form(f"{name}.{part}", moved)
    return model
