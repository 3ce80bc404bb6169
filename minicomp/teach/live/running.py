"""Running a notebook's cells and asking its functions, in processes of their own.

A process that is lost (it ended, hangs, or says what it should not) is started again without the
cell or exercise that lost it, while the notebook's time lasts: one bad cell costs its own points
and no others.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ...errors import printable
from .. import catalog
from ..notebook import cells as notebook
from ..asking.exercise import Answer, Asked, Exercise
from ..notebook.cells import Cell, Notebook
from .process import Child, Limits, Lost, Nursery

SKIPPED = ("slow", "predict", "check", "reflect", "plot")
KINDS = ("value", "changed", "raised", "refused", "slow", "not-written", "odd")
STOPPED = ("stopped after", "not run")  # how a cell's problem begins that was cut short
MOST_STARTS = 6


@dataclass
class Ran:
    """What running a notebook gave: cases and answers by exercise, cells that raised, which cell,
    by the name of a function, defined what was asked, and which cells are those of exercises.
    """

    asked: dict[str, list[Asked]]
    answers: dict[str, list[Answer]]
    problems: list[dict]
    notes: list[str]
    defined: dict[str, int]
    needed: frozenset[int] = frozenset()

    def status(self, verdicts: dict) -> str:
        """Returns "graded", or what went wrong on the way."""
        told = {p["cell"]: p["problem"] for p in self.problems}
        cut = [f"cell {i + 1}: {text}" for i, text in told.items() if text.startswith(STOPPED)]
        if notes := self.notes + cut:
            return "; ".join(dict.fromkeys(notes))
        blank = all(
            v.message and v.message.slug in ("not-written", "missing") for v in verdicts.values()
        )
        return "blank" if blank and not self.needed & set(told) else "graded"


def run_cells(
    book: Notebook,
    of: catalog.LessonChecks,
    asked: dict[str, list[Asked]],
    exercises: Sequence[Exercise],
    limits: Limits,
    *,
    broken: Callable[[list], dict],
    nursery: Nursery,
) -> Ran:
    """Returns the answers of a notebook's functions.

    asked : the cases of each exercise by id        broken : answers calls of the broken variant
    nursery : where its process comes from
    """
    return _Runner(book, of, asked, exercises, limits, broken, nursery).run()


class _Runner:
    # One notebook. `spent` counts seconds of an unhurried machine: the wall's, divided by slack.

    def __init__(self, book, of, asked, exercises, limits, broken, nursery):
        self.nursery = nursery
        self.book, self.cells = book, worth_running(book, of, {e.name for e in exercises})
        self.prelude = prelude(of)
        self.exercises, self.limits, self.broken = exercises, limits, broken
        self.may_ask = {of.diagnosis.id} if of.diagnosis else set()
        homes = (self.homes(e) for e in exercises)
        self.ran = Ran(asked, {}, [], [], {}, frozenset().union(*homes))
        self.note_problems(book.problems)
        self.left_out: set[int] = set()
        self.spent, self.since, self.child = 0.0, 0.0, None

    def run(self) -> Ran:
        for _ in range(MOST_STARTS):
            if len(self.ran.answers) < len(self.exercises) and self.left() > 1:
                self.once()
        for e in self.exercises:
            if e.id not in self.ran.answers:
                self.ran.answers[e.id] = [Answer("slow", text="no time was left")]
                self.ran.notes.append(f"time limit of {self.limits.total:g} s")
        return self.ran

    def homes(self, e: Exercise) -> list[int]:
        # The cells that define an exercise, or would if they could be read.
        each = enumerate(zip(self.book.cells, self.book.said))
        tag = f"exercise:{e.id}"
        return [i for i, (cell, said) in each if e.name in said.defines or tag in cell.tags]

    def why_missing(self, e: Exercise) -> str:
        # Why no function of this name came out of the cells.
        told = {p["cell"]: p["problem"] for p in self.ran.problems}
        cells = [f"; cell {i + 1}: {told[i]}" for i in self.homes(e)[-3:] if i in told]
        return f"no function {e.name} is defined{''.join(cells)}"

    def left(self) -> float:
        now = 0.0 if self.child is None else (time.monotonic() - self.since) / self.child.slack
        return self.limits.total - self.spent - now

    def wait(self, seconds: float) -> float:
        # How long to wait for what may take `seconds`; the process itself stops what it can before.
        return min(2 * seconds + 1.5, self.left()) * self.child.slack

    def once(self) -> None:
        # One process, from its start until all is answered or it is lost.
        with Child(self.nursery, self.broken, self.limits.memory) as child:
            self.child, self.since = child, time.monotonic()
            names = self.run_all_cells()
            for e in self.exercises if names is not None else ():
                if e.id not in self.ran.answers and not self.ask(e, names):
                    break
            self.spent = self.limits.total - self.left()
            self.child = None

    def run_all_cells(self) -> dict[str, bool] | None:
        # Returns which names are functions, or None where the process was lost.
        limits, at = self.limits, -1
        try:
            self.begin(
                {
                    "banned": sorted({name for e in self.exercises for name in e.banned}),
                    "processor": int(2 * limits.total) + 1,
                    "cells": [c for c in self.cells if c[0] not in self.left_out],
                    "names": sorted({e.name for e in self.exercises}),
                    "prelude": self.prelude,
                    "seconds": limits.cells,
                    "cell_seconds": limits.cell,
                    "memory": limits.memory,
                }
            )
            self.since = time.monotonic()
            while "cell" in (frame := self.child.receive(self.wait(limits.cell), broken=True)):
                at = int(frame["cell"])
                if self.left() <= 0:
                    raise Lost("it did not stop in time")
            known = {c[0] for c in self.cells}
            self.note_problems(
                {i: printable(text) for i, text in list(frame["problems"]) if i in known}
            )
            self.ran.defined |= {str(n): i for n, i in frame["defined"].items() if i in known}
            return {e.name: bool(frame["names"].get(e.name)) for e in self.exercises}
        except _LOST as e:
            why = _why(e)
            self.note_problems({at: why} if at >= 0 else {})
            self.ran.notes.append(f"cell {at + 1}: {why}" if at >= 0 else why)
            self.left_out.add(at)
            return None

    def begin(self, job: dict) -> None:
        # Until here no code of the student has run: what fails is not the student's.
        try:
            self.child.start(job)
        except _LOST as e:
            raise RuntimeError(f"a process did not start: {_why(e)}") from e

    def note_problems(self, found: dict[int, str]) -> None:
        kept = {p["cell"]: p["problem"] for p in self.ran.problems} | found
        self.ran.problems = [{"cell": i, "problem": text} for i, text in sorted(kept.items())]

    def ask(self, e: Exercise, names: dict[str, bool]) -> bool:
        # Puts the answers of one exercise into ran; False where the process was lost.
        calls = [call for a in self.ran.asked[e.id] for call in a.calls]
        if not names.get(e.name):
            self.ran.answers[e.id] = [Answer("missing", text=self.why_missing(e))] * len(calls)
            return True
        try:
            self.child.send(
                {
                    "name": e.name,
                    "calls": calls,
                    "banned": list(e.banned),
                    "seconds": self.limits.call,
                },
                self.wait(self.limits.exercise),
            )
            frame = self.child.receive(self.wait(self.limits.exercise), e.id in self.may_ask)
            answers = [_answer(row) for row in list(frame["answers"])[: len(calls)]]
            # Whoever lets the broken variant answer did not write the function.
            self.ran.answers[e.id] = [Answer("refused")] if self.child.refused else answers
            return True
        except _LOST as error:
            why = _why(error)
            kind = "slow" if "in time" in why else "raised"
            self.ran.answers[e.id] = [Answer(kind, text=why)]
            self.ran.notes.append(f"{e.id}: {why}")
            return False


# What a message that is none, or of odd parts, may raise.
_LOST = (Lost, KeyError, TypeError, ValueError, AttributeError)


def _why(e: Exception) -> str:
    return str(e) if isinstance(e, Lost) else "the process sent something else"


def _answer(row) -> Answer:
    kind, value, text = row
    if kind not in KINDS or not isinstance(text, str):
        raise ValueError("not an answer")
    return Answer(kind, value, printable(text))


def worth_running(
    book: Notebook, of: catalog.LessonChecks, names: set[str]
) -> list[tuple[int, str, bool]]:
    """Returns (index, source, needed) of the code cells that grading runs, in the file's order.

    A cell that lost its tags gets those of the lesson's cell with the same text. What defines an
    exercise is needed; what is slow, a check, a guess or a plot is left out.
    """
    known = {c.source.strip(): c for c in shipped(of).code()}
    chosen = []
    for i, (cell, said) in enumerate(zip(book.cells, book.said)):
        if cell.kind != "code" or not cell.source.strip():
            continue
        same = known.get(cell.source.strip())
        tags = Cell("code", "", cell.tags + (same.tags if same else ()))
        needed = bool(said.defines & names) or tags.tagged("exercise")
        if needed or not any(tags.tagged(t) for t in SKIPPED):
            chosen.append((i, cell.source, needed))
    return chosen


def prelude(of: catalog.LessonChecks) -> str:
    """Returns the lesson's own imports, which run first: the student's may be gone."""
    return "\n".join(c.source for c in shipped(of).code() if c.tagged("imports"))


def shipped(of: catalog.LessonChecks) -> Notebook:
    """Returns the notebook of a lesson as students get it."""
    return _shipped(catalog.notebook_path(of))


@cache
def _shipped(path: Path) -> Notebook:
    return notebook.read_notebook(path)
