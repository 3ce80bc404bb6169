"""How long things take.

A machine's speed moves by a factor of two within minutes, so contestants take turns and their
medians are compared: what slows one slows the others alike.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

Measure = Callable[[], float]


class Clock:
    """Gives the seconds since the last time it was asked."""

    def __init__(self):
        self._last = time.perf_counter()

    def lap(self) -> float:
        """Returns the seconds since the last lap."""
        last, self._last = self._last, time.perf_counter()
        return self._last - last


def in_turn(measures: dict[str, Measure], *, seconds: float, least: int = 3) -> dict[str, float]:
    """Returns the median of what each measure returns, called in turn.

    seconds : for which they are called, about        least : times that each is called at least
    """
    taken: dict[str, list[float]] = {name: [] for name in measures}
    stop = time.perf_counter() + seconds
    while time.perf_counter() < stop or min(map(len, taken.values())) < least:
        for name, measure in measures.items():
            taken[name].append(measure())
    return {name: statistics.median(t) for name, t in taken.items()}


def race(
    contestants: dict[str, Callable[[], object]],
    *,
    seconds: float,
    least: int = 3,
    shortest: float = 0.0,
    clock: Measure | None = None,
) -> dict[str, float]:
    """Returns the median seconds of a call of each contestant, called in turn.

    seconds, least : as of `in_turn`
    shortest : seconds of one timing; calls that are over sooner are repeated within it. With 0 none
        is, and none is called beforehand to warm up
    clock : time.perf_counter where none is given
    """
    clock = clock or time.perf_counter
    numbers = {name: _calls(call, shortest, clock) for name, call in contestants.items()}
    measures = {name: _timed(call, numbers[name], clock) for name, call in contestants.items()}
    return in_turn(measures, seconds=seconds, least=least)


def _timed(call: Callable[[], object], number: int, clock: Measure) -> Measure:
    # The seconds of a call, the mean of `number`.
    def measure() -> float:
        start = clock()
        for _ in range(number):
            call()
        return (clock() - start) / number

    return measure


def _calls(call: Callable[[], object], shortest: float, clock: Measure) -> int:
    # How many calls last `shortest`; the first one warms up.
    if not shortest:
        return 1
    call()
    number = 1
    while _timed(call, number, clock)() * number < shortest and number < 1 << 20:
        number *= 2
    return number
