"""What one reference function is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from .draw import Draw

Case = dict[str, Any]
LEAST = "ties by lowest index"
CLOSE = "|got - expected| <= 1e-9 max|expected|"


@dataclass(frozen=True)
class Entry:
    """One reference function.

    fn : called with a case's arguments by name        cases : Draw -> cases, small ones first
    judge : (case, result) -> what is wrong, or None        rule : what equal means, in words
    source : the paper and equation
    """

    fn: Callable
    cases: Callable[[Draw], Iterator[Case]]
    judge: Callable[[Case, Any], str | None]
    rule: str
    source: str
