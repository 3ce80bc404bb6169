"""What the techniques that remove channels share: from a score per unit to a smaller model.

A technique says what each unit of each group is worth; here the units of least worth are chosen,
per group or over all groups together, and removed at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from ...errors import UserError
from ...nn.graph import Model
from ...tensor import Array, no_grad
from ..technique import check_patterns, masked
from .constants import folded
from .groups import Group, choose_units
from .removal import removed

Scored = list[tuple[Group, Array]]  # each with the worth of its units, (U,), NaN where it has none


def local(
    word: str, scored: Scored, sparsity: Callable[[Group], float]
) -> list[tuple[Group, Array]]:
    """Returns which units stay, (U,) bool per group: each loses the round(sparsity U) least worth.

    word : of the technique, for messages        sparsity : of a group, in [0, 1)
    Raises UserError where that is all of a layer, or its groups and shuffles allow none of it.
    """
    chosen = []
    for group, worth in scored:
        count = round(sparsity(group) * group.size)
        for node in group.nodes:
            if count >= len(group.members[node]) and len(group.nodes) == 1:
                raise UserError(
                    f"{word}: sparsity {sparsity(group):g} would remove all {group.size} channels "
                    f"of {node}; at least one must stay"
                )
        chosen.append((group, _chosen(word, group, worth, count)))
    return chosen


def unscored(found: list[Group]) -> Scored:
    """Returns groups with some worth of their units: to ask how many may go, not which."""
    return [(group, np.arange(group.size, dtype=np.float64)) for group in found]


def overall(word: str, scored: Scored, sparsity: float) -> list[tuple[Group, Array]]:
    """Returns which units stay when round(sparsity n) of the n units of all groups go, by one
    ranking over all.

    Every group keeps its best unit. Fewer go where groups and shuffles demand equal parts.
    Raises UserError where no group could keep one, or the parts allow none to go.
    """
    ranked, n = [], sum(group.size for group, _ in scored)
    for _, worth in scored:
        ranked.append(np.where(np.isnan(worth), np.inf, worth))
        ranked[-1][np.nanargmax(worth)] = np.inf
    flat, count = np.concatenate(ranked), round(sparsity * n)
    if count > np.isfinite(flat).sum():
        raise UserError(
            f"{word}: sparsity {sparsity:g} would remove all channels of a layer; at least one of "
            f"each must stay"
        )
    goes = np.zeros(n, bool)
    goes[np.argsort(flat, kind="stable")[:count]] = True
    parts = np.split(goes, np.cumsum([group.size for group, _ in scored])[:-1])
    return [
        (group, _chosen(word, group, worth, int(part.sum())))
        for (group, worth), part in zip(scored, parts)
    ]


def _chosen(word: str, group: Group, worth: Array, count: int) -> Array:
    kept = choose_units(group, np.nan_to_num(worth), count, ~np.isnan(worth))
    if count and kept.all() and group.splits:
        raise UserError(
            f"{word}: {count} of the {group.size} channels of {group.name} cannot be removed: a "
            f"convolution in groups or a shuffle demands equal parts, and {count} do not divide so"
        )
    return kept


def without_units(
    model: Model, chosen: list[tuple[Group, Array]], *, fold: bool = False
) -> Model:
    """Returns the model without the units that do not stay.

    fold : the constants of units that are constant go into the biases of their readers first
    """
    keep = {node: kept for group, stays in chosen for node, kept in group.keep(stays).items()}
    if fold:
        gone = [group.ids[~stays] for group, stays in chosen]
        model = folded(model, np.concatenate(gone) if gone else np.zeros(0, int))
    return removed(model, keep)


def emptied(model: Model, chosen: list[tuple[Group, Array]]) -> Model:
    """Returns the model in which the weights, not the biases, of units that do not stay are 0.

    Raises UserError, by name, for a form that can neither move nor carry a mask.
    """
    return zeroed(model, {
        f"{node}.weight": keep
        for group, kept in chosen
        for node, keep in group.keep(kept).items()
    })


def zeroed(model: Model, keeps: dict[str, Array]) -> Model:
    """Returns the model in which the named forms are 0 where they do not stay; kinds are the same.

    keeps : by name, bool along the form's first axis
    Raises UserError for a form that can neither move nor carry a mask.
    """
    model, masks = model.copy(), {}
    for name, keep in keeps.items():
        form = model.forms()[name]
        keep = np.broadcast_to(keep.reshape(-1, *[1] * (len(form.shape) - 1)), form.shape)
        if form.movable:
            with no_grad():
                model.set_form(name, form.moved(np.where(keep, form.dense().data, np.float32(0))))
        else:
            masks[name] = keep
    return masked(model, masks) if masks else model


def removed_row(word: str, model: Model, made: Model, chosen: list[tuple[Group, Array]]) -> dict:
    """Returns the row of a log that says what `made` has no more of `model`."""
    return {"event": "removed", "name": word, "weights": model.count() - made.count(),
            "units": {group.name: int((~kept).sum()) for group, kept in chosen}}


def at_group(technique, name: str, group: Group):
    """Returns a per-layer knob at a group; UserError where tied layers have different values."""
    values = {node: technique.at(name, node) for node in group.nodes}
    if len(set(values.values())) > 1:
        raise UserError(
            f"{technique.word}: {name} must be one value for the layers tied together, got "
            + ", ".join(f"{v} for {n}" for n, v in values.items())
        )
    return next(iter(values.values()))


def check_groups(
    technique, found: list[Group], what: str = "whose channels can be removed"
) -> None:
    """Raises UserError where there is no group, or a pattern of a knob decides nothing for one."""
    nodes = [node for group in found for node in group.nodes]
    if not nodes:
        raise UserError(f"{technique.word}: the model has no layer {what}")
    for name in technique.knobs():
        value = getattr(technique, name)
        if isinstance(value, Mapping):
            check_patterns(f"{technique.word}: {name}", value, nodes, what=f" {what}")
