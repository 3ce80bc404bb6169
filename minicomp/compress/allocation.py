"""A choice for each layer under one budget, of the least sum of costs."""

from __future__ import annotations

import math
from collections.abc import Sequence


def allocate(costs: Sequence[Sequence[float]], sizes: Sequence[Sequence[float]], budget: float
             ) -> list[int]:
    """Returns the choice of each layer, an index, of the least sum of costs within the budget;
    ties by the least size.

    costs, sizes : of each layer a number for each choice, sizes at least 0        budget : >= 0
    Raises ValueError where even the smallest choices are beyond the budget.
    """
    # (size, cost, choices) of layers so far, sizes rising and costs falling.
    front: list[tuple[float, float, tuple[int, ...]]] = [(0, 0.0, ())]
    for cost, size in zip(costs, sizes):
        every = sorted((s + more, c + extra, (*choices, i)) for s, c, choices in front
                       for i, (extra, more) in enumerate(zip(cost, size)))
        front, least = [], math.inf
        for s, c, choices in every:
            if s <= budget and c < least:
                front.append((s, c, choices))
                least = c
    if not front:
        raise ValueError(f"budget must be at least {sum(min(s) for s in sizes):,.0f}, got "
                         f"{budget:,.0f}")
    return list(front[-1][2])
