"""The words of checks: titles, hints, tolerances, what mutants say, questions and rubrics.

They stand in lessons/words/NN.toml, one table an id without the lesson's number:

    title = "..."                   of the lesson
    [masked_sgd]                    an exercise: title, tolerance, hints, and a line a mutant
    [broken]                        the diagnosis: hints
    [p1]                            a prediction: question
    [r1]                            a reflection: question and rubric, rows of points and text
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ...errors import UserError
from ..asking.lesson import LessonChecks


def worded(of: LessonChecks, path: Path) -> LessonChecks:
    """Returns a lesson with the words of a file.

    Raises UserError where the file is missing, lacks words of an id, or has words of nobody.
    """
    try:
        words = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise UserError(f"the words of lesson {of.number} cannot be read: {e}") from None
    asked, written = set(_asked(of)), set(_leaves(words))
    if asked != written:
        raise UserError(
            f"{path.name}: no words for {', '.join(sorted(asked - written)) or 'nothing'}; words"
            f" of nobody: {', '.join(sorted(written - asked)) or 'none'}"
        )

    def with_words(asked):
        return replace(asked, **_values(asked, words[_key(asked.id)]))

    exercises = tuple(map(with_words, of.exercises))
    diagnosis = of.diagnosis and replace(
        with_words(of.diagnosis), of=exercises[of.exercises.index(of.diagnosis.of)]
    )
    return replace(
        of,
        title=words["title"],
        exercises=exercises,
        diagnosis=diagnosis,
        predictions=tuple(map(with_words, of.predictions)),
        reflections=tuple(map(with_words, of.reflections)),
    )


def _key(id: str) -> str:
    return id.partition(".")[2]


def _asked(of: LessonChecks) -> Iterator[str]:
    # The dotted keys that the file must have.
    yield "title"
    for e in of.exercises:
        mutants = (f"mutants.{m.slug}" for m in e.mutants)
        yield from (f"{_key(e.id)}.{what}" for what in ("title", "tolerance", "hints", *mutants))
    if of.diagnosis:
        yield f"{_key(of.diagnosis.id)}.hints"
    for asked in of.predictions + of.reflections:
        yield f"{_key(asked.id)}.question"
    yield from (f"{_key(r.id)}.rubric" for r in of.reflections)


def _leaves(table: dict, before: str = "") -> Iterator[str]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{before}{key}.")
        else:
            yield before + key


def _values(asked, table: dict) -> dict:
    # The fields of one table: lists as tuples, mutants with what they say.
    found = {key: _frozen(value) for key, value in table.items() if key != "mutants"}
    if says := table.get("mutants"):
        found["mutants"] = tuple(replace(m, says=says[m.slug]) for m in asked.mutants)
    return found


def _frozen(value):
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
