"""What a long table has found: a JSON line for each arm and seed, so that a stopped table goes on.

An arm is one training of a table, "teacher" or "distilled". What it found is appended as soon as
it is there, and what is there is not run again:

    found = journal.take("student", seed, lambda: {"errors": ..., "file_bytes": ...})

A table that keeps a journal makes its rows of these lines alone, `Paper.table(lines)`, so that
those of the committed journals, runs/NAME.jsonl, are README's rows.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from .. import __version__
from ..atomic import as_json, read_text, write_atomically
from ..codec import load, save
from ..errors import UserError, printable
from ..nn.graph import Model
from ..timing import Clock

RUNS = Path(__file__).with_name("runs")  # the committed journals


class Journal:
    """The lines of one table, in a file.

    path : made where it is missing        log : told which arms are taken from the file
    A last line without an end, as a copy that was broken off leaves it, is dropped. Raises
    UserError where another line is not one of a journal.
    """

    def __init__(self, path: Path, log: Callable[[dict], None] | None = None):
        self.path, self.log = path, log or (lambda row: None)
        self.lines = read(path) if path.exists() else []

    def get(self, arm: str, seed: int | None = None, **settings) -> dict | None:
        """Returns the line of an arm and seed under these settings, or None."""
        wanted = {"arm": arm, "seed": seed, "settings": settings}
        return next((line for line in self.lines
                     if all(line[key] == value for key, value in wanted.items())), None)

    def take(self, arm: str, seed: int | None, make: Callable[[], dict], **settings) -> dict:
        """Returns what is known of an arm and seed; where nothing is, what `make` finds.

        seed : None for what is found once for all seeds, as choices on validation data
        settings : JSON-able, what else it must have been found under
        make : returns what is JSON-able; its seconds are noted beside
        """
        line = self.get(arm, seed, **settings)
        if line is not None:
            self.log({"event": "say", "text": f"{arm}, seed {seed}: known, {self.path.name}"})
            return line
        clock = Clock()
        found = make()
        line = json.loads(as_json({"arm": arm, "seed": seed, "settings": settings, **found,
                                   "seconds": round(clock.lap(), 1), "version": __version__}))
        self.lines.append(line)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path, "".join(as_json(line) + "\n" for line in self.lines).encode())
        return line


def kept(path: Path, make: Callable[[], Model]) -> Model:
    """Returns the net of a file; where there is none what `make` gives, written to it: a net that
    several arms begin with need not be trained again when a table goes on."""
    if not path.exists():
        save(make(), path)
    return load(path, kind="model")


def read(path: Path) -> list[dict]:
    """Returns the lines of a journal, without a last one that was cut off.

    Raises UserError where a line is not one of a journal.
    """
    lines = []
    for i, text in enumerate(read_text(path).split("\n")[:-1]):
        try:
            line = json.loads(text)
            line["arm"], line["seed"], line["settings"]
        except (ValueError, TypeError, KeyError, RecursionError):
            raise UserError(f"{printable(path)}: line {i + 1} is not one of a journal") from None
        lines.append(line)
    return lines


def recorded(name: str) -> list[dict]:
    """Returns the committed lines of a table; none where there is no such file."""
    path = RUNS / f"{name}.jsonl"
    return read(path) if path.exists() else []


def of_arm(lines: list[dict], arm: str, field: str) -> list:
    """Returns a field of an arm's lines, an entry a seed, in the order of seeds."""
    return [line[field] for line in sorted((line for line in lines if line["arm"] == arm),
                                           key=lambda line: line["seed"])]
