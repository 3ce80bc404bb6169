"""Races of two installations of minicomp: ours, and the one that another Python imports.

Each runs in a process of its own, as a worker that runs a benchmark when it is asked; they take
turns. A row gives the median of each, processor time where one thread works, and their ratio, above
1 where ours is faster.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ..errors import UserError
from ..timing import in_turn
from . import worker
from .race import Log, Row, row

SECONDS = 8.0  # of one race, about
# kernel, shape and clock of each row; what runs is in worker.BENCHES
ROWS = {
    "lenet300": ("training lenet300", "batch 64", "cpu"),
    "lenet300-shared": ("shared weights lenet300", "batch 64", "cpu"),
    "lenet5": ("training lenet5", "batch 64", "cpu"),
    "lenet5-threads": ("training lenet5", "batch 64, two threads", "wall"),
    "lenet5-shared-threads": ("shared weights lenet5", "batch 64, two threads", "wall"),
    "sparsegpt": ("SparseGPT lenet5", "all layers, 512 images", "cpu"),
    "obc": ("OBC lenet5", "all layers, 512 images", "cpu"),
    "compress": ("minicomp compress --fast", "lenet5, glyphs", "cpu"),
}
BESIDE = {"lenet300-shared": "lenet300", "lenet5-shared-threads": "lenet5-threads"}  # dense
DEFAULT = [name for name in ROWS if name != "compress"]  # which takes minutes


class Worker:
    """A process of another interpreter that runs benchmarks when asked."""

    def __init__(self, python: str):
        self.python = python
        script = Path(worker.__file__).resolve()
        try:
            # -P: neither the script's folder nor the current one comes before what is installed.
            self.process = subprocess.Popen(
                [python, "-P", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        except OSError as e:
            raise UserError(f"{python} cannot be run: {e}") from None

    def ask(self, request: str) -> dict:
        """Returns the answer to a request; UserError where the process has ended."""
        try:
            self.process.stdin.write(request + "\n")
            self.process.stdin.flush()
            return json.loads(self.process.stdout.readline())
        except (OSError, ValueError):
            why = f"{self.python} ended at {request!r}: is minicomp installed there?"
            raise UserError(why) from None

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_) -> None:
        self.process.terminate()
        with suppress(OSError):  # a request that was not read
            self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


def against(python: str, names: list[str] | None = None, *, log: Log | None = None) -> list[Row]:
    """Returns a row for each benchmark that both installations have.

    python : the other's interpreter        names : of ROWS; None takes all but `compress`
    log : gets {"event": "progress", ...}, and {"event": "say", ...} where one lacks a benchmark
    Raises ValueError for an unknown name, UserError where the interpreter does not run minicomp.
    """
    names, log = list(DEFAULT if names is None else names), log or (lambda row: None)
    if unknown := [name for name in names if name not in ROWS]:
        raise ValueError(f"names must be some of {', '.join(ROWS)}, got {', '.join(unknown)}")
    with Worker(sys.executable) as ours, Worker(python) as theirs:
        sides = {"ours": ours, "theirs": theirs}
        paths = {side: w.ask("about")["path"] for side, w in sides.items()}
        log({"event": "say", "text": f"ours: {paths['ours']}; theirs: {paths['theirs']}"})
        return list(_rows(sides, names, log))


def _rows(sides: dict[str, Worker], names: list[str], log: Log) -> Iterator[Row]:
    for done, name in enumerate(names):
        log({"event": "progress", "name": "bench", "done": done, "total": len(names)})
        runs = [name, *filter(None, [BESIDE.get(name)])]
        missing = {side: w.ask(f"make {run}").get("missing")
                   for side, w in sides.items() for run in runs}
        if any(missing.values()):
            log({"event": "say", "text": f"bench {name}: " + "; ".join(
                f"{side} have none ({why})" for side, why in missing.items() if why)})
            continue
        kernel, shape, clock = ROWS[name]
        measures = {(side, run): lambda w=w, run=run: w.ask(f"run {run}")[clock]
                    for run in runs for side, w in sides.items()}
        times = in_turn(measures, seconds=SECONDS * len(runs))
        notes = ["wall clock; means something only on an idle machine"] if clock == "wall" else []
        if len(runs) == 2:
            beside = (f"{side} {times[side, name] / times[side, runs[1]]:.2f}" for side in sides)
            notes.append(f"times dense training: {', '.join(beside)}")
        mine = {side: times[side, name] for side in sides}
        yield row(kernel, shape, mine, "theirs", "; ".join(notes))
    log({"event": "progress", "name": "bench", "done": len(names), "total": len(names)})
