"""Fair races: contestants take turns in one process, on processor time; the ratio counts."""

from __future__ import annotations

import importlib
import statistics
import time
from collections.abc import Callable

Row = dict
Log = Callable[[dict], None]
SECONDS = 2.0  # of one race
SHORTEST = 0.01  # seconds of one timing: shorter calls are repeated


def race(
    contestants: dict[str, Callable[[], object]],
    *,
    part: float = 1.0,
    least: int = 3,
    clock: Callable[[], float] = time.process_time,
) -> dict[str, float]:
    """Returns the median seconds of a call of each contestant, called in turn.

    part : of SECONDS, what the race takes, about
    least : times that each is timed at least, after calls that are not
    """
    each = {name: _calls(call, clock) for name, call in contestants.items()}
    times: dict[str, list[float]] = {name: [] for name in contestants}
    stop = time.perf_counter() + part * SECONDS
    while time.perf_counter() < stop or min(map(len, times.values())) < least:
        for name, call in contestants.items():
            start = clock()
            for _ in range(each[name]):
                call()
            times[name].append((clock() - start) / each[name])
    return {name: statistics.median(t) for name, t in times.items()}


def _calls(call: Callable[[], object], clock: Callable[[], float]) -> int:
    # How many calls last SHORTEST; the first one warms up.
    call()
    number = 1
    while True:
        start = clock()
        for _ in range(number):
            call()
        if clock() - start >= SHORTEST or number >= 1 << 20:
            return number
        number *= 2


def row(
    kernel: str,
    shape: str,
    times: dict[str, float],
    peer: str,
    note: str = "",
    *,
    unit: str = "ms",
    work: float = 0.0,
) -> Row:
    """Returns a row from a race in which "ours" and `peer` took part.

    work : of one call, in `unit` times a second, for a rate instead of a time
    """
    ours, other = (work / times[n] if work else 1e3 * times[n] for n in ("ours", peer))
    return {
        "kernel": kernel,
        "shape": shape,
        "ours": ours,
        "peer": other,
        "ratio": times[peer] / times["ours"],
        "unit": unit,
        "note": f"{unit}; peer: {peer}{'; ' if note else ''}{note}",
    }


def peer_module(name: str, peers: bool, log: Log):
    """Returns the module of a peer, None where peers are not wanted or it is not installed."""
    if not peers:
        return None
    try:
        return importlib.import_module(name)
    except ImportError:
        log({"event": "say", "text": f"bench: {name} is not installed, its rows are left out"})
        return None
