"""Grading one notebook.

The student's code runs in a process of its own (`process`, `child`), which is sent arguments and
returns values. Key, expected values, judges and points are only here. Predictions and reflections
are read as literals, without running anything.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ... import __version__
from ...atomic import read_text
from ...errors import UserError, printable
from .. import catalog
from ..asking.exercise import OPEN, Verdict, assess, questions
from ..asking.shown import verdict_text
from ..live import wire
from ..live.process import Limits, Nursery
from ..live.running import Ran, run_cells
from ..notebook import cells as notebook
from ..notebook.cells import Notebook


@dataclass(frozen=True)
class Key:
    """A course key: `secret` makes the hidden tests, `course` stands in notebooks."""

    secret: str = OPEN
    course: str = OPEN


def read_key(path: Path | None) -> Key:
    """Returns the course key in a file, or the open one; UserError for a file that holds none.

    path : a file, a descriptor's ("/dev/fd/3"), or "-" for standard input, whose name no process of
        a student's finds among the arguments
    """
    if path is None:
        return Key()
    try:
        if str(path) == "-":
            with open(os.devnull, "rb") as null:
                given = os.dup(0)
                os.dup2(null.fileno(), 0)  # what is not open is not found by other processes
            secret = read_text(given, max_bytes=2**16).strip()
        else:
            secret = read_text(path, max_bytes=2**16).strip()
    except OSError as e:
        raise UserError(f"key {printable(path)}: cannot be read: {e.strerror}") from None
    if len(secret) < 16:
        raise UserError(
            f"key {printable(path)}: a key has at least 16 characters, got {len(secret)}"
        )
    return Key(secret, hashlib.sha256(b"minicomp course code\n" + secret.encode()).hexdigest()[:8])


def grade(
    path: Path,
    number: str,
    *,
    key: Key = Key(),
    student: str | None = None,
    limits: Limits = Limits(),
    nursery: Nursery | None = None,
) -> dict:
    """Returns the grades of one notebook, JSON-able: its points, each exercise's, all beside them.

    student : who it is, as the roster says; None takes the name in the notebook
    nursery : where its process comes from; None starts one
    Raises UserError where the file is no notebook, or is one of another lesson.
    """
    book = notebook.read_notebook(path)
    check_lesson(book, path.name, number)
    with Nursery() if nursery is None else contextlib.nullcontext(nursery) as one:
        row = graded(book, number, one, key=key, limits=limits)
    row["file"] = printable(path.name, 250)
    return row if student is None else row | {"student": student}


def graded(
    book: Notebook,
    number: str,
    nursery: Nursery,
    *,
    key: Key = Key(),
    limits: Limits = Limits(),
) -> dict:
    """Returns the grades of a notebook of this lesson that was read, as `grade` does; no "file"."""
    start = time.perf_counter()
    of = catalog.lesson(number)
    who, course = named_in(book, "student"), named_in(book, "course") or key.course
    exercises = of.asked(who, course)  # with the broken variant that this notebook showed
    ran = run_cells(
        book,
        of,
        {e.id: questions(e, key.secret) for e in exercises},
        exercises,
        limits,
        broken=lambda args: _broken(of, who, course, args),
        nursery=nursery,
    )
    verdicts = {e.id: assess(e, ran.asked[e.id], ran.answers[e.id]) for e in exercises}
    predictions = predictions_of(book, of)
    earned = sum(p.points for p in of.predictions if p.problem(predictions[p.id]) is None)
    return blank(of) | {
        "student": printable(who),
        "notebook_student": printable(who),
        "notebook_course": printable(course),
        "points": sum(v.points for v in verdicts.values()) + earned,
        "exercises": {id: _exercise_row(v) for id, v in verdicts.items()},
        "prediction": {**_guesses(of), "points": earned, "values": _shown(predictions)},
        "manual": reflections_of(book, of),
        "problems": ran.problems,
        "status": "; ".join([ran.status(verdicts), *_remarks(book, exercises, ran, course, key)]),
        "seconds": round(time.perf_counter() - start, 2),
        "versions": versions(book),
        "sha256": book.sha256,
        "key": fingerprint(key),
    }


def blank(of: catalog.LessonChecks) -> dict:
    """Returns the result of whom there is nothing to grade of."""
    nothing = {"points": 0, "message_id": "", "message": "", "parts": [], "report": ""}
    return {
        "lesson": of.number,
        "file": "",
        "student": "",
        "notebook_student": "",
        "notebook_course": "",
        "points": 0,
        "max_points": of.max_points,
        "exercises": {e.id: {**nothing, "max_points": e.max_points} for e in of.asked()},
        "prediction": _guesses(of),
        "manual": {},
        "capstone": {},
        "problems": [],
        "status": "",
        "seconds": 0.0,
        "versions": {},
        "sha256": "",
        "key": "",
    }


def empty(of: catalog.LessonChecks, file: str, student: str, status: str) -> dict:
    """Returns the row of whom there is nothing to grade of, and why."""
    return blank(of) | {"file": file, "student": student, "status": status}


def _guesses(of: catalog.LessonChecks) -> dict:
    return {"points": 0, "max_points": sum(p.points for p in of.predictions), "values": {}}


def _remarks(book: Notebook, exercises, ran: Ran, course: str, key: Key) -> Iterator[str]:
    # What the status says beside how it went.
    if key.course not in (OPEN, course):
        yield f"course code {course!r}, not {key.course!r}"
    for e in exercises:
        cells = [i + 1 for i, said in enumerate(book.said) if e.name in said.defines]
        if len(cells) > 1 and e.name in ran.defined:
            where = f"{', '.join(map(str, cells[:8]))}{' ...' if len(cells) > 8 else ''}"
            yield f"{e.name} stands in cells {where}: that of cell {ran.defined[e.name] + 1} counts"


def fingerprint(key: Key) -> str:
    """Returns what tells two keys apart without giving one away."""
    return hashlib.sha256(b"minicomp fingerprint\n" + key.secret.encode()).hexdigest()[:12]


def versions(book: Notebook) -> dict:
    """Returns the versions that a grade depends on."""
    return {
        "minicomp": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "notebook": printable(book.meta.get("version", "?"), 40),
        "source": printable(book.meta.get("source", "?"), 16),
    }


def _broken(of: catalog.LessonChecks, who: str, course: str, args) -> dict:
    # What the broken variant of this student says to the arguments that his process sends.
    if of.diagnosis is None or not isinstance(args, list):
        return {"error": "this lesson has no broken variant"}
    call = dict(zip(of.diagnosis.of.arguments, args))
    if why := of.diagnosis.why_invalid(call):
        return {"error": why[:200]}
    try:
        value = of.diagnosis.mutant(who, course).fn(**call)
        wire.pack(value)
        return {"value": value}
    except Exception as e:  # the arguments are the student's: anything may be wrong with them
        return {"error": f"{type(e).__name__}: {e}"[:200]}


def predictions_of(book: Notebook, of: catalog.LessonChecks) -> dict:
    """Returns the last guess of each prediction, None where none was made."""
    return {p.id: _last_literal(book, "predict", p.id) for p in of.predictions}


def _shown(predictions: dict) -> dict:
    return {id: printable(v, 200) if isinstance(v, str) else v for id, v in predictions.items()}


def reflections_of(book: Notebook, of: catalog.LessonChecks) -> dict:
    """Returns the words of each reflection, for a person to mark."""
    texts = {r.id: str(_last_literal(book, "reflect", r.id) or "").strip() for r in of.reflections}
    return {
        r.id: {
            "words": len(texts[r.id].split()),
            "text": paragraphs(texts[r.id]),
            "max_points": r.max_points,
        }
        for r in of.reflections
    }


def named_in(book: Notebook, word: str) -> str:
    """Returns the text of an argument of `Lesson(...)`, "student" or "course"; "" without one."""
    for call in book.calls("Lesson"):
        value = call.keywords.get(word)
        if isinstance(value, str):
            return value.strip()[:100]
    return ""


def _last_literal(book: Notebook, function: str, id: str):
    found = None
    for call in book.calls(function):
        if call.args and call.args[0] == id:
            rest = [*call.args[1:], *call.keywords.values()]
            found = rest[0] if rest else None
    return found


def check_lesson(book: Notebook, name: str, number: str) -> None:
    """Raises UserError, naming the file `name`, where a notebook is not one of this lesson."""
    of = catalog.lesson(number)
    said = lesson_of(book, of.number)
    if not said:
        raise UserError(f"{printable(name, 100)}: not a notebook of a minicomp lesson")
    if said != of.number:
        raise UserError(
            f"{printable(name, 100)}: a notebook of lesson {said[:10]}, not of lesson {of.number}"
        )


def lesson_of(book: Notebook, first: str = "") -> str:
    """Returns the number of a notebook's lesson, "" for none: what the metadata say or, where they
    were lost, what the cells ask and define.

    first : of several lessons, the one that is taken
    """
    if said := str(book.meta.get("lesson", "")):
        return printable(said, 20)
    numbers = set()
    for name in ("check", "predict", "Lesson"):
        numbers |= {str(c.args[0]).partition(".")[0] for c in book.calls(name) if c.args}
    defined = frozenset().union(*(said.defines for said in book.said))
    for of in catalog.lessons().values():
        if defined & {e.name for e in of.exercises}:
            numbers.add(of.number)
    numbers &= set(catalog.lessons())
    return first if first in numbers else min(numbers, default="")


def _exercise_row(verdict: Verdict) -> dict:
    return {
        "points": verdict.points,
        "max_points": verdict.exercise.max_points,
        "message_id": verdict.message_id,
        "message": printable(verdict.message.text) if verdict.message else "",
        "parts": [
            {"name": p.name, "points": p.points, "max_points": p.max_points} for p in verdict.parts
        ],
        "report": paragraphs(verdict_text(verdict, show_hidden=not verdict.detail_hidden)),
    }


def paragraphs(text: str, lines: int = 200) -> str:
    """Returns foreign text of several lines, fit to be shown: each line as `printable` has it."""
    all_lines = text.splitlines()
    more = [f"... ({len(all_lines):,} lines)"] if len(all_lines) > lines else []
    return "\n".join([printable(line, 2000) for line in all_lines[:lines]] + more)

