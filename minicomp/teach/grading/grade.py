"""Grading one notebook.

The student's code runs in a process of its own (`process`, `child`), which is sent arguments and
returns values. Key, expected values, judges and points are only here. Predictions and reflections
are read as literals, without running anything.
"""

from __future__ import annotations

import hashlib
import platform
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ... import __version__
from ...errors import UserError
from .. import catalog
from ..notebook import cells as notebook
from ..live import wire
from ..asking.exercise import OPEN, Verdict, assess, questions
from ..notebook.cells import Notebook
from ..live.process import Limits
from ..live.running import run_cells
from ..asking.shown import verdict_text


@dataclass(frozen=True)
class Key:
    """A course key: `secret` makes the hidden tests, `course` stands in notebooks."""

    secret: str = OPEN
    course: str = OPEN


def read_key(path: Path | None) -> Key:
    """Returns the course key in a file, or the open one; UserError for a file that holds none."""
    if path is None:
        return Key()
    try:
        secret = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as e:
        raise UserError(
            f"key {path}: cannot be read: {getattr(e, 'strerror', None) or 'not text'}"
        ) from None
    if len(secret) < 16:
        raise UserError(f"key {path}: a key has at least 16 characters, got {len(secret)}")
    return Key(secret, hashlib.sha256(b"minicomp course code\n" + secret.encode()).hexdigest()[:8])


def grade(
    path: Path,
    number: str,
    *,
    key: Key = Key(),
    student: str | None = None,
    limits: Limits = Limits(),
) -> dict:
    """Returns the grades of one notebook, JSON-able: its points, each exercise's, all beside them.

    student : who it is, as the roster says; None takes the name in the notebook
    Raises UserError where the file is no notebook, or is one of another lesson.
    """
    start = time.perf_counter()
    of = catalog.lesson(number)
    book = notebook.read_notebook(path)
    _check_lesson(book, of, path)
    who, course = named_in(book, "student"), named_in(book, "course") or key.course
    exercises = of.asked(who, course)  # with the broken variant that this notebook showed
    ran = run_cells(
        book,
        of,
        {e.id: questions(e, key.secret) for e in exercises},
        exercises,
        limits,
        broken=lambda args: _broken(of, who, course, args),
    )
    verdicts = {e.id: assess(e, ran.asked[e.id], ran.answers[e.id]) for e in exercises}
    predictions = predictions_of(book, of)
    earned = sum(p.points for p in of.predictions if p.problem(predictions[p.id]) is None)
    return blank(of) | {
        "file": path.name,
        "student": who if student is None else student,
        "notebook_student": who,
        "notebook_course": course,
        "points": sum(v.points for v in verdicts.values()) + earned,
        "exercises": {id: _exercise_row(v) for id, v in verdicts.items()},
        "prediction": {**_guesses(of), "points": earned, "values": predictions},
        "manual": reflections_of(book, of),
        "problems": ran.problems,
        "status": ran.status(verdicts) + _other_course(course, key),
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
        "problems": [],
        "status": "",
        "seconds": 0.0,
        "versions": {},
        "sha256": "",
        "key": "",
    }


def _guesses(of: catalog.LessonChecks) -> dict:
    return {"points": 0, "max_points": sum(p.points for p in of.predictions), "values": {}}


def _other_course(course: str, key: Key) -> str:
    # What is added to the status where the notebook's course code is not the key's.
    return "" if key.course in (OPEN, course) else f"; course code {course!r}, not {key.course!r}"


def fingerprint(key: Key) -> str:
    """Returns what tells two keys apart without giving one away."""
    return hashlib.sha256(b"minicomp fingerprint\n" + key.secret.encode()).hexdigest()[:12]


def versions(book: Notebook) -> dict:
    """Returns the versions that a grade depends on."""
    return {
        "minicomp": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "notebook": str(book.meta.get("version", "?"))[:40],
        "source": str(book.meta.get("source", "?"))[:16],
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


def reflections_of(book: Notebook, of: catalog.LessonChecks) -> dict:
    """Returns the words of each reflection, for a person to mark."""
    texts = {r.id: str(_last_literal(book, "reflect", r.id) or "").strip() for r in of.reflections}
    return {
        r.id: {
            "words": len(texts[r.id].split()),
            "text": texts[r.id][:20_000],
            "max_points": r.max_points,
        }
        for r in of.reflections
    }


def named_in(book: Notebook, word: str) -> str:
    """Returns the text of an argument of `Lesson(...)`, "student" or "course"; "" without one."""
    for call in notebook.calls(book.code(), "Lesson"):
        for argument in call.keywords:
            value = notebook.literal(argument.value)
            if argument.arg == word and isinstance(value, str):
                return value.strip()[:100]
    return ""


def _last_literal(book: Notebook, function: str, id: str):
    found = None
    for call in notebook.calls(book.code(), function):
        if call.args and notebook.literal(call.args[0]) == id:
            value = (
                call.args[1] if len(call.args) > 1 else next((w.value for w in call.keywords), None)
            )
            found = None if value is None else notebook.literal(value)
    return found if isinstance(found, str | int | float) else None


def _check_lesson(book: Notebook, of: catalog.LessonChecks, path: Path) -> None:
    # The lesson is what the metadata say; where they were lost, what the cells ask.
    said = str(book.meta.get("lesson", ""))
    if not said:
        ids = {
            str(notebook.literal(c.args[0]))
            for name in ("check", "predict", "Lesson")
            for c in notebook.calls(book.code(), name)
            if c.args
        }
        numbers = {i.partition(".")[0] for i in ids} & set(catalog.lessons())
        names = {e.name for e in of.exercises}
        mine = of.number in numbers or any(notebook.defines(c.source) & names for c in book.code())
        said = of.number if mine else min(numbers, default="")
    if not said:
        raise UserError(f"{path.name}: not a notebook of a minicomp lesson")
    if said != of.number:
        raise UserError(f"{path.name}: a notebook of lesson {said[:10]}, not of lesson {of.number}")


def _exercise_row(verdict: Verdict) -> dict:
    return {
        "points": verdict.points,
        "max_points": verdict.exercise.max_points,
        "message_id": verdict.message_id,
        "message": verdict.message.text if verdict.message else "",
        "parts": [
            {"name": p.name, "points": p.points, "max_points": p.max_points} for p in verdict.parts
        ],
        "report": verdict_text(verdict, show_hidden=not verdict.detail_hidden),
    }

