"""Sensitivity: what the loss does when one layer alone is pruned, and a choice under a budget.

Layers differ: the first convolution may stand half of its weights going, the large fully connected
one nine tenths. A scan prunes one layer (its weights of least magnitude), or one group of coupled
layers (its channels of least norm), at a time, at rising sparsity and without retraining, and
counts errors, loss, bytes and MACs. From these points a budget of bytes or MACs is spent: of all
combinations of one point per layer that fit, the one of least summed rise of the loss,

    min sum_l rise_l(s_l)     such that     cost(dense) - sum_l saving_l(s_l) <= budget

a small integer program. It takes rises and savings of layers to add up, which savings do not where
one layer's channels are the next one's inputs; so the choice is counted as a whole, and the budget
given to the program bisected until the whole just fits.

A net may be pruned already: at a sparsity up to its own nothing of a layer would go, and there is
no point. A layer whose weights are shared without a code for 0 gets one, at code 0, where it is
pruned.

Source: Han et al. 2015 (arXiv 1506.02626), figure 6, and Li et al. 2017 (arXiv 1608.08710), section
3.2, for the scan; the choice under a budget is ours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np

from ..codec import encode
from ..compress.channels.choosing import without_units
from ..compress.channels.groups import Group, choose_units, groups
from ..compress.prune.filters import group_norms
from ..compress.scores import magnitude_mask
from ..compress.technique import check_numbers, masked, weights
from ..errors import UserError
from ..nn.forms import Codebook
from ..nn.graph import Model
from ..tensor import no_grad
from ..train import evaluate

SPARSITIES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
ROUNDS = 12


@dataclass(frozen=True)
class Point:
    """What one sparsity of one target does, the rest of the model as it was.

    target : a layer, or the layers of a group joined by "+"        sparsity : what was asked, 0..1
    removed, of : weights (channels) that went, and that there were
    errors, size, loss : on the split        rise : loss minus that of the whole model
    bytes : of the file, or None where they were not counted
    macs : multiplications by non-zero weights
    """

    target: str
    sparsity: float
    removed: int
    of: int
    errors: int
    size: int
    loss: float
    rise: float
    bytes: int | None
    macs: int


@dataclass(frozen=True)
class Scan:
    """The points of a scan, by target and rising sparsity, and the whole model as a point.

    base : the whole model, sparsity 0        points : the others
    what : "weights" or "channels"        nodes : target -> its layers
    """

    what: str
    base: Point
    points: tuple[Point, ...]
    nodes: dict[str, tuple[str, ...]]

    @property
    def baseline(self) -> float:
        """The error of the whole model, 0..1."""
        return self.base.errors / max(self.base.size, 1)

    def curves(self) -> dict[str, tuple[list[float], list[float]]]:
        """Returns {target: (sparsities, errors in 0..1)}, what `plot_sensitivity` draws."""
        return {
            t: ([p.sparsity for p in self.of(t)], [p.errors / max(p.size, 1) for p in self.of(t)])
            for t in self.nodes
            if self.of(t)
        }

    def of(self, target: str) -> list[Point]:
        """Returns the points of one target."""
        return [p for p in self.points if p.target == target]


@dataclass(frozen=True)
class Chosen:
    """A choice under a budget.

    sparsity : layer -> sparsity, what `Magnitude` or `Filters` takes as its knob; 0 where nothing
        goes
    rise : the summed rise of the loss that the scan predicts
    cost : bytes or MACs of the whole, counted
    model : the pruned model
    """

    sparsity: dict[str, float]
    rise: float
    cost: int
    unit: str
    model: Model


def scan(
    model: Model,
    split,
    *,
    what: str = "weights",
    sparsities: Sequence[float] = SPARSITIES,
    only: str = "*",
    count_bytes: bool = True,
    log: Callable[[dict], None] | None = None,
    n_threads: int = 1,
) -> Scan:
    """Returns the Scan of every layer's weights, or of every group's channels.

    split : examples on which errors and loss are measured
    sparsities : in (0, 1), tried on each target
    only : pattern (fnmatch) of the layers to scan
    count_bytes : encode the model at every point
    Sparsities at which nothing of a target would go are left out of it and told to the log.
    Raises UserError for another `what`, a sparsity out of range, a pattern that matches nothing, or
        where nothing would go at any point.
    """
    if what not in ("weights", "channels"):
        raise UserError(f"what must be weights or channels, got {what!r}")
    check_numbers("sensitivity", model)
    sparsities = sorted({float(s) for s in sparsities})
    for s in sparsities:
        if not 0 < s < 1:
            raise UserError(f"sparsities of a scan must be in (0, 1), got {s:g}")
    if not sparsities or not len(split.y):
        raise UserError(f"a scan needs at least one {'sparsity' if not sparsities else 'example'}")
    targets = _targets(model, what)
    named = {t: g for t, g in targets.items() if any(fnmatchcase(n, only) for n in _nodes(t, g))}
    if not named:
        raise UserError(
            f"only={only} matches no layer with {what} to prune; there are "
            f"{', '.join(targets) or 'none'}"
        )
    log, whole = log or (lambda row: None), evaluate(model, split, n_threads=n_threads)
    base = Point(
        "",
        0.0,
        0,
        0,
        whole.errors,
        whole.size,
        whole.loss,
        0.0,
        _bytes(model, count_bytes),
        macs(model),
    )
    points: list[Point] = []
    left_out = 0
    for target, group in named.items():
        idle = []
        for s in sparsities:
            smaller, removed, of = pruned(model, target, group, s)
            if not removed:
                idle.append(f"{s:g}")
                continue
            score = evaluate(smaller, split, n_threads=n_threads)
            points.append(
                Point(
                    target,
                    s,
                    removed,
                    of,
                    score.errors,
                    score.size,
                    score.loss,
                    score.loss - whole.loss,
                    _bytes(smaller, count_bytes),
                    macs(smaller),
                )
            )
            log(
                {
                    "event": "progress",
                    "name": "sensitivity",
                    "done": len(points) + left_out + len(idle),
                    "total": len(named) * len(sparsities),
                }
            )
            log(
                {
                    "event": "sensitivity",
                    "target": target,
                    "sparsity": s,
                    "errors": score.errors,
                    "size": score.size,
                }
            )
        left_out += len(idle)
        if idle:
            log({"event": "say", "text": f"sensitivity: {_own(model, target, group)}: at "
                                         f"{', '.join(idle)} nothing would go, left out"})
    if not points:
        raise UserError(
            f"sensitivity: nothing of {', '.join(named)} goes at "
            f"{', '.join(f'{s:g}' for s in sparsities)}; a higher sparsity must be given"
        )
    return Scan(what, base, tuple(points), {t: _nodes(t, g) for t, g in named.items()})


def pruned(
    model: Model, target: str, group: Group | None, sparsity: float
) -> tuple[Model, int, int]:
    """Returns the model with one target pruned, and how many weights (channels) went of how many.

    group : the coupled layers whose channels go, or None: weights of the layer `target` go
    """
    if group is None:
        name = f"{target}.weight"
        form = model.forms()[name]
        with no_grad():
            w = form.dense().data
        if form.mask is None and form.kind == "codebook":
            model = model.copy()
            model.set_form(name, with_zero(form))
        smaller = masked(model, {name: magnitude_mask(w, sparsity, mask=form.mask)})
        return smaller, form.nonzeros() - smaller.forms()[name].nonzeros(), w.size
    kept = choose_units(group, group_norms(model, group), round(sparsity * group.size))
    return without_units(model, [(group, kept)]), int((~kept).sum()), group.size


def with_zero(form: Codebook) -> Codebook:
    """Returns an equal codebook whose code 0 is an exact 0: it can be pruned."""
    if form.centroids.dense().data[0] == 0:
        return Codebook(form.index, form.centroids, True, form.trainable)
    table = form.centroids.after_zero()
    return Codebook(form.index.astype(np.int64) + 1, table, True, form.trainable)


def macs(model: Model) -> int:
    """Returns the multiplications by non-zero weights of one example."""
    return sum(model.effective_macs().values())


def allocate(model: Model, found: Scan, budget: int, *, unit: str = "bytes") -> Chosen:
    """Returns the sparsities at which the whole fits the budget, of least summed rise of the loss.

    found : of this model        budget : of bytes of the file, or multiplications of an example
    Raises UserError where bytes were not counted, or the highest scanned sparsities take more than
        the budget.
    """
    if unit not in ("bytes", "macs"):
        raise UserError(f"unit must be bytes or macs, got {unit!r}")
    if isinstance(budget, bool) or not isinstance(budget, (int, np.integer)) or budget < 1:
        raise UserError(f"a budget must be an integer of at least 1, got {budget!r}")
    if unit == "bytes" and found.base.bytes is None:
        raise UserError("a budget of bytes needs a scan that counted them (count_bytes)")
    full = getattr(found.base, unit)
    least = full - sum(
        max((full - getattr(p, unit) for p in found.of(t)), default=0) for t in found.nodes
    )
    best = _tried(model, found, min(least, full), unit)
    if best.cost > budget:
        raise UserError(
            f"a budget of {budget} {unit} cannot be met: {best.cost} remain when every target is "
            f"as sparse as scanned"
        )
    lo, hi, limit = least, budget, budget  # the sum of the savings may fit where the whole does not
    for _ in range(ROUNDS):
        made = _tried(model, found, limit, unit)
        lo, hi, best = (limit, hi, made) if made.cost <= budget else (lo, limit, best)
        if lo >= hi:
            break
        limit = (lo + hi) / 2
    return best


def _tried(model: Model, found: Scan, limit: float, unit: str) -> Chosen:
    # The choice whose summed savings fit the limit, with the whole counted.
    at = _solve(found, limit, unit)
    smaller = combined(model, found, {t: p.sparsity for t, p in at.items() if p is not None})
    sparsity = {n: 0.0 if p is None else p.sparsity for t, p in at.items() for n in found.nodes[t]}
    rise = sum(p.rise for p in at.values() if p is not None)
    return Chosen(
        sparsity, rise, macs(smaller) if unit == "macs" else len(encode(smaller)), unit, smaller
    )


def combined(model: Model, found: Scan, sparsity: dict[str, float]) -> Model:
    """Returns the model with every target pruned to its sparsity, ranked in the model as it was."""
    targets = _targets(model, found.what)
    if found.what == "weights":
        for target, s in sparsity.items():
            model = pruned(model, target, None, s)[0]
        return model
    chosen = [
        (
            targets[t],
            choose_units(targets[t], group_norms(model, targets[t]), round(s * targets[t].size)),
        )
        for t, s in sparsity.items()
    ]
    return without_units(model, chosen) if chosen else model.copy()


def _solve(found: Scan, budget: float, unit: str) -> dict[str, Point | None]:
    # One level of every target, None for level 0, of least summed rise among those that fit by
    # summed savings.
    from scipy.optimize import Bounds, LinearConstraint, milp

    options = [(t, p) for t in found.nodes for p in (None, *found.of(t))]
    cost = np.array(
        [0 if p is None else getattr(p, unit) - getattr(found.base, unit) for _, p in options],
        float,
    )
    rise = np.array([0.0 if p is None else p.rise for _, p in options])
    one = np.array([[t == target for t, _ in options] for target in found.nodes], float)
    answer = milp(
        rise,
        integrality=np.ones(len(options)),
        bounds=Bounds(0, 1),
        options={"mip_rel_gap": 0},
        constraints=[
            LinearConstraint(one, 1, 1),
            LinearConstraint(cost, ub=budget - getattr(found.base, unit)),
        ],
    )
    return {t: p for (t, p), z in zip(options, answer.x) if z > 0.5}


def _targets(model: Model, what: str) -> dict[str, Group | None]:
    return (
        {g.name: g for g in groups(model)} if what == "channels" else dict.fromkeys(weights(model))
    )


def _own(model: Model, target: str, group: Group | None) -> str:
    # What a target is that nothing goes of: "fc1 has 0.95 of its 400 weights at 0".
    if group is not None:
        return f"{target} has {group.size} channels"
    form = model.forms()[f"{target}.weight"]
    size = int(np.prod(form.shape))
    return f"{target} has {1 - form.nonzeros() / max(size, 1):.4g} of its {size} weights at 0"


def _nodes(target: str, group: Group | None) -> tuple[str, ...]:
    return (target,) if group is None else group.nodes


def _bytes(model: Model, count: bool) -> int | None:
    return len(encode(model)) if count else None
