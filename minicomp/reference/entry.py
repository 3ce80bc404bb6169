"""What one reference function is: the function, its cases, and what equal means."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from .draw import Draw
from .judges import Case, Judge, equal_to

Group = Callable[[Draw], Iterable[Case]]
LEAST = "ties by lowest index"
CLOSE = "|got - expected| <= 1e-9 max|expected|"


class Cases:
    """Cases in named groups: `cases(draw)` yields all of them, `cases["tiny"](draw)` one group's.

    groups : the cases themselves where nothing is drawn, else a function of a Draw

    Lessons take the groups "tiny" (few, to be read), "property" (many, drawn) and "golden".
    """

    def __init__(self, **groups: Group | Iterable[Case]):
        self.groups = groups

    def __call__(self, draw: Draw) -> Iterator[Case]:
        for name in self.groups:
            yield from self[name](draw)

    def __getitem__(self, name: str) -> Group:
        group = self.groups[name]
        return group if callable(group) else lambda draw: group


@dataclass(frozen=True)
class Entry:
    """One reference function.

    fn : called with a case's arguments by name        cases : Draw -> cases, small ones first
    rule : what equal means, in words        source : the paper and equation
    rtol : of the largest entry, within which numbers are equal; 0 asks for equality
    judge : (case, result) -> what is wrong, or None; left out: comparison with fn within rtol
    names : of the parts of a result that is a tuple
    """

    fn: Callable
    cases: Group
    rule: str
    source: str
    rtol: float = 0.0
    judge: Judge | None = None
    names: tuple[str, ...] = ()

    def __post_init__(self):
        if self.judge is None:
            object.__setattr__(
                self, "judge", equal_to(self.fn, rtol=self.rtol, names=self.names)
            )
