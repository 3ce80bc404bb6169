"""Fair races: contestants take turns in one process, on processor time; the ratio counts."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable

from .. import timing

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
    return timing.race(
        contestants, seconds=part * SECONDS, least=least, shortest=SHORTEST, clock=clock
    )


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
