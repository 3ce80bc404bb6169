"""What GPTQ and AdaRound have in common: a layer's weights rounded on its own least squares.

The net is walked once, first layer to last. A layer's problem is that of `curvature/layerwise.py`:
inputs of the net as it is quantized so far, outputs of the net as it was, without its activation
grids. Its solution in floats, W*, is what is rounded; the layer then holds what it was rounded to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...nn.forms import Affine
from ...nn.graph import Model, Node
from ...nn.layers import Layer
from ...tensor import Array
from ..curvature.hessian import float64
from ..curvature.layerwise import LayerProblem, LayerWise, damping_knob, samples_knob, set_rows
from ..technique import Run, knob
from .nodes import without_grids
from .schemes import Scheme, WeightQuantizer
from .sweep import Regroup, Rounded, gptq, on_grid

FRACTIONS = np.arange(20, 3, -1) / 20  # of the largest weight, that `clip = output` tries
STACKED = 2**22  # weights that are swept at a time


@dataclass(frozen=True)
class LayerQuantizer(WeightQuantizer, LayerWise):
    """The knobs and the walk of a technique that rounds each layer on its own least squares."""

    clip: str = knob("output", "what decides a scale: the largest weight, the least squared error "
                               "of the weights, or of the layer's output",
                     choices=("max", "mse", "output"), per_layer=True)
    samples: int = samples_knob()
    damping: float = damping_knob()

    sampled = 0  # rows of X and Z that `round` reads

    def targets(self, model):
        return LayerWise.targets(self, model)

    def scheme(self, node):
        found = super().scheme(node)
        return replace(found, clip="mse") if found.clip == "output" else found

    def sketch(self, model, *, rng):
        # Rounded to nearest: the layers' problems would need data.
        self.check(model)
        model = model.copy()
        self.quantize_weights(model)
        return model

    def change(self, model, data, run):
        x = self.examples(model, data, run)
        dense, work = float64(without_grids(model)), float64(model)
        sample = {"rows": self.sampled, "rng": run.rng} if self.sampled else {}
        made, total = {}, len(self.targets(model))
        walked = self.problems(model, work, dense, x, run, **sample)
        for done, (node, given) in enumerate(walked, start=1):
            best = self._rounded(node, given, run, activation_after(model, node))
            set_rows(work.node(node.name).layer, best.rows)
            made |= self._forms(model, node, best)
            run.log({"event": "progress", "name": self.word, "done": done, "total": total})
        model.set_forms(made)
        return model

    def round(self, p: LayerProblem, scheme: Scheme, scale: Array, zero_point: Array, start: Array,
              regroup: Regroup | None, run: Run, after: Layer | None) -> Rounded:
        """Returns the rows `start`, (O, C), of a problem on the grid.

        scale, zero_point : (O, weights)        regroup : as in `gptq.gptq`, where groups have
        scales        after : the activation that alone reads the layer, or None
        """
        raise NotImplementedError

    def _rounded(self, node: Node, given: Sequence[LayerProblem], run: Run, after) -> Rounded:
        scheme, C = self.scheme(node.name), given[0].weights
        starts = [p.solve(~p.dead) if p.dead.any() else p.W for p in given]
        W = np.concatenate(starts)[:, :C].astype(np.float32)
        fraction = np.ones((len(W), 1))
        if self.at("clip", node.name) == "output":
            scheme = replace(scheme, clip="max")
            fraction = best_fraction(scheme, given, starts, W)
        scale, zero_point = spread_params(scheme, fraction * W)
        parts, o = [], len(starts[0])
        for i, (p, start) in enumerate(zip(given, starts)):
            at = slice(i * o, (i + 1) * o)
            regroup = _regroup(scheme, fraction[at]) if scheme.group else None
            done = self.round(p, scheme, scale[at], zero_point[at], start, regroup, run, after)
            parts.append(done)
        return Rounded(*(np.concatenate(part) for part in zip(*parts)))

    def _forms(self, model: Model, node: Node, best: Rounded) -> dict:
        scheme, forms = self.scheme(node.name), model.node(node.name).layer.forms
        of = slice(None), slice(None, None, scheme.group or best.q.shape[1])
        scale, zero_point = best.scale[of], best.zero_point[of]
        if not scheme.group:
            rows = 1 if scheme.per == "tensor" else len(scale)
            scale, zero_point = scale[:rows, 0], zero_point[:rows, 0]
        shape = forms["weight"].shape
        made = {f"{node.name}.weight": Affine(
            best.q.reshape(shape), scale, zero_point if scheme.zero_point else None,
            bits=scheme.bits, grid=scheme.grid, group=scheme.group, mask=forms["weight"].mask)}
        if "bias" in forms:
            made[f"{node.name}.bias"] = forms["bias"].moved(best.rows[:, -1].astype(np.float32))
        return made


def nearest(p: LayerProblem, scheme: Scheme, scale: Array, zero_point: Array, start: Array
            ) -> Rounded:
    """Returns the rows `start`, (O, C), rounded to nearest, with the bias of least error."""
    q, W = on_grid(start[:, :p.weights], scale, zero_point, ~p.dead, scheme.bits, scheme.grid)
    rows = p.completed(W)
    return Rounded(q, rows, scale, zero_point, p.error(rows))


def best_fraction(scheme: Scheme, given: Sequence[LayerProblem], starts: Sequence[Array],
                  W: Array) -> Array:
    """Returns the fraction of the largest weight, one of FRACTIONS, at which a sweep of GPTQ leaves
    the least error: of each row, or of the tensor, (O, 1).

    given : problems of a layer's groups        starts : the rows (O / G, C) of each
    W : (O, weights), the weights of all
    """
    o, found = len(starts[0]), []
    tried = [spread_params(scheme, f * W) for f in FRACTIONS]
    each = max(1, STACKED // starts[0].size)
    for i, (p, start) in enumerate(zip(given, starts)):
        at = slice(i * o, (i + 1) * o)
        for first in range(0, len(FRACTIONS), each):
            some = tried[first:first + each]
            scale, zero_point = (np.concatenate([a[at] for a in part]) for part in zip(*some))
            f = np.repeat(FRACTIONS[first:first + each], o)[:, None]
            swept = gptq(np.tile(start, (len(some), 1)), p.Hinv, scale, zero_point,
                         bits=scheme.bits, grid=scheme.grid, weights=p.weights,
                         kept=np.tile(~p.dead, (len(some), 1)), group=scheme.group,
                         regroup=_regroup(scheme, f) if scheme.group else None)
            found.append((at, first, swept.rise.reshape(len(some), o)))
    rises = np.empty((len(FRACTIONS), len(W)))
    for at, first, rise in found:
        rises[first:first + len(rise), at] = rise
    if scheme.per == "tensor" and not scheme.group:
        rises[...] = rises.sum(axis=1, keepdims=True)
    return FRACTIONS[np.argmin(rises, axis=0)][:, None]


def spread_params(scheme: Scheme, W: Array) -> tuple[Array, Array]:
    """Returns scales and zero points of a scheme for every weight of W, (O, weights) each."""
    scale, zero_point = scheme.params(W)
    return _spread(scale, scheme, W.shape), _spread(zero_point, scheme, W.shape)


def _regroup(scheme: Scheme, fraction: Array) -> Regroup:
    def of(W):
        one = replace(scheme, group=0, per="channel")
        scale, zero_point = one.params(fraction * W)
        return scale, np.zeros(len(W), np.int32) if zero_point is None else zero_point
    return of


def _spread(a: Array | None, scheme: Scheme, shape: tuple[int, int]) -> Array:
    # Scales or zero points, as `Affine` takes them, for every weight of (O, weights) rows.
    if a is None:
        return np.zeros(shape, np.int32)
    a = a.reshape(len(a), -1)
    if scheme.group:
        a = np.repeat(a, scheme.group, axis=1)[:, :shape[1]]
    return np.broadcast_to(a, shape)


def activation_after(model: Model, node: Node) -> Layer | None:
    """Returns the activation that alone reads a node, if there is one."""
    readers = [other for other in model.nodes if node.name in other.inputs]
    if len(readers) == 1 and readers[0].layer.activation:
        return readers[0].layer
    return None
