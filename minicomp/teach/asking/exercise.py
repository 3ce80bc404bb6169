"""What an exercise is: parts with points, each two plain functions, and the wrong answers that
people give.

`cases(draw)` yields the arguments, `judge(case, result)` says what is wrong with a result. A case
is a dict of named arguments, passed in order; a list of such dicts is one case of several calls (an
invariance), and its judge receives the list of results.

A *mutant* is a wrong answer with a name: a misconception as a function. When an answer is wrong,
the mutants that give the same wrong result say why; the same mutants prove in CI that a check
catches them, and serve as the broken variant that a lesson asks the student to expose.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ...reference.draw import Draw, seed_of
from .judge import Message, describe, difference, show

OPEN = "open"  # the course of whoever has no course key
REFUSAL = "write this one yourself"  # how the library's own function answers during a graded call


@dataclass(frozen=True)
class Part:
    """One scored part of an exercise: all its cases must pass.

    hidden : cases come from the course key, so feedback does not show them
    """

    name: str
    points: int
    cases: Callable[[Draw], Iterable]
    judge: Callable[[object, object], Message | None]
    hidden: bool = False


@dataclass(frozen=True)
class Mutant:
    """A wrong answer: a function of the arguments, and what to tell whoever wrote it."""

    slug: str
    fn: Callable
    says: str


@dataclass(frozen=True)
class Exercise:
    """One function to write.

    id : "04.masked_sgd"; the part after the dot is the function's name unless `name` is given
    tolerance : one line: how near is right, and why
    hints : idea; shape or formula; pseudocode
    banned : "module:name" of library functions that do the same; they refuse in a graded call
    reference : the right answer, where there is one; what a broken variant is compared with
    rtol, atol : within which two results count as the same
    """

    id: str
    title: str
    minutes: int
    parts: tuple[Part, ...]
    mutants: tuple[Mutant, ...]
    hints: tuple[str, str, str]
    tolerance: str
    banned: tuple[str, ...] = ()
    reference: Callable | None = None
    name: str = ""
    told: bool = True  # whether a mutant's words replace the judge's
    rtol: float = 1e-9
    atol: float = 1e-12

    def __post_init__(self):
        if not self.name:
            object.__setattr__(self, "name", self.id.split(".", 1)[1])

    @property
    def max_points(self) -> int:
        return sum(p.points for p in self.parts)


@dataclass(frozen=True)
class Diagnosis:
    """An exercise whose answer is an input on which a broken variant of another exercise fails.

    of : the exercise whose mutants are drawn from        slugs : which of them
    valid : takes the arguments by name, returns why they are no valid input, or None
    agreeing, invalid : () -> arguments on which right and broken agree, and some that are not valid
    """

    id: str
    of: Exercise
    slugs: tuple[str, ...]
    valid: Callable[..., str | None]
    agreeing: Callable[[], tuple]
    invalid: Callable[[], tuple]
    hints: tuple[str, str, str]
    minutes: int = 6
    points: int = 2

    def mutant(self, student: str = "", course: str = OPEN) -> Mutant:
        """Returns the broken variant of a student in a course."""
        slug = Draw(seed_of("minicomp broken", self.id, course, student.strip().casefold())).choice(
            self.slugs
        )
        return next(m for m in self.of.mutants if m.slug == slug)

    def exercise(self, student: str = "", course: str = OPEN) -> Exercise:
        """Returns this student's exercise: a function without arguments returns the input."""
        broken = self.mutant(student, course)

        def judge(case, result):
            names = list(inspect.signature(self.of.reference).parameters)
            if not isinstance(result, tuple | list) or len(result) != len(names):
                return Message(
                    "no-input",
                    f"an input is a tuple of {len(names)}: {', '.join(names)}",
                    f"got {describe(result)}",
                )
            call = dict(zip(names, result))
            try:
                why = self.valid(**copied(call))
            except Exception as e:  # a strange input may break the very question
                why = f"{type(e).__name__}: {e}"
            if why:
                return Message(
                    "invalid-input",
                    f"the input is not one that {self.of.name} is asked about: {why}",
                )
            right = self.of.reference(**copied(call))
            try:
                wrong = broken.fn(**copied(call))
            except Exception:  # failing loudly is failing too
                return None
            if difference(right, wrong, rtol=self.of.rtol, atol=self.of.atol):
                return None
            return Message(
                "no-difference",
                "on this input the broken function is right",
                f"both give {show(right)}",
            )

        return Exercise(
            id=self.id,
            title=f"Expose the broken {self.of.name}",
            minutes=self.minutes,
            parts=(Part("input", self.points, lambda draw: [{}], judge),),
            mutants=(
                Mutant("no-input", lambda: 0, ""),
                Mutant("no-difference", self.agreeing, ""),
                Mutant("invalid-input", self.invalid, ""),
            ),
            hints=self.hints,
            tolerance="any input counts on which the two results differ by more than rounding",
            name="failing_input",
            told=False,
        )


@dataclass(frozen=True)
class Prediction:
    """A guess before the run; graded for being made.

    kind : "number" in [lo, hi], or "choice" of `options`
    """

    id: str
    question: str
    unit: str = ""
    lo: float = 0.0
    hi: float = 100.0
    options: tuple[str, ...] = ()
    points: int = 1

    def problem(self, value) -> str | None:
        """Returns why `value` is no guess, or None."""
        if value is None:
            return "no guess was made"
        if self.options:
            return (
                None
                if value in self.options
                else f"the guess must be one of {', '.join(self.options)}"
            )
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not self.lo <= value <= self.hi
        ):
            return f"the guess must be a number from {self.lo:g} to {self.hi:g}"
        return None


@dataclass(frozen=True)
class Answer:
    """What one call gave: kind "value", or how it failed: the keys of `_SAYS`, "refused"."""

    kind: str
    value: object = None
    text: str = ""


@dataclass(frozen=True)
class Asked:
    """One case of a part and the calls it makes."""

    part: Part
    case: object
    calls: tuple[dict, ...]


@dataclass(frozen=True)
class PartScore:
    """How one part went."""

    name: str
    points: int
    max_points: int
    message: Message | None = None
    hidden: bool = False


@dataclass(frozen=True)
class Verdict:
    """How an exercise went; message is the first thing that is wrong."""

    exercise: Exercise
    parts: tuple[PartScore, ...]
    message: Message | None = None
    detail_hidden: bool = False

    @property
    def points(self) -> int:
        return sum(p.points for p in self.parts)

    @property
    def message_id(self) -> str:
        """Returns "04.masked_sgd/momentum-revives", or "" when all is right."""
        return f"{self.exercise.id}/{self.message.slug}" if self.message else ""


def questions(exercise: Exercise, key: str = OPEN) -> list[Asked]:
    """Returns all cases of an exercise, smallest first, for a course key."""
    asked = []
    for part in exercise.parts:
        draw = Draw(seed_of("minicomp lesson", exercise.id, part.name, key))
        for case in part.cases(draw):
            case = (
                [_ordered(c, exercise) for c in case]
                if isinstance(case, list)
                else _ordered(case, exercise)
            )
            asked.append(Asked(part, case, tuple(case) if isinstance(case, list) else (case,)))
    return asked


def _ordered(call: dict, exercise: Exercise) -> dict:
    # Arguments are passed by position: in the order of the reference's parameters.
    if exercise.reference is None:
        return call
    return {name: call[name] for name in inspect.signature(exercise.reference).parameters}


def assess(exercise: Exercise, asked: Sequence[Asked], answers: Sequence[Answer]) -> Verdict:
    """Returns the verdict on one answer per call, in order; absent ones count as missing."""
    answers = list(answers) + [Answer("missing")] * (
        sum(len(a.calls) for a in asked) - len(answers)
    )
    if any(a.kind == "refused" for a in answers):
        message = Message("library", f"the library's own function was called: {REFUSAL}")
        return Verdict(
            exercise,
            tuple(PartScore(p.name, 0, p.points, message) for p in exercise.parts),
            message,
        )
    wrong: list[tuple[Message, Asked, slice]] = []  # what, of which case, in which answers
    at = 0
    for a in asked:
        mine = slice(at, at + len(a.calls))
        at = mine.stop
        found = _problem(a, answers[mine])
        if found:
            wrong.append((found, a, mine))
    first = {a.part.name: (found, a) for found, a, _ in reversed(wrong)}
    why = _misconception(exercise, asked, answers, wrong) if exercise.told else None
    scores, message, hidden = [], None, False
    for part in exercise.parts:
        if part.name not in first:
            scores.append(PartScore(part.name, part.points, part.points, None, part.hidden))
            continue
        found, a = first[part.name]
        told = _told(None if found.slug in _UNTOLD else why, found, a)
        scores.append(PartScore(part.name, 0, part.points, told, part.hidden))
        if message is None:
            message, hidden = told, part.hidden
    return Verdict(exercise, tuple(scores), message, hidden)


_UNTOLD = ("slow", "not-written", "missing", "odd")  # no misconception explains these


def _problem(asked: Asked, answers: list[Answer]) -> Message | None:
    for answer in answers:
        if answer.kind != "value":
            return Message(
                answer.kind, _SAYS[answer.kind] + (f": {answer.text}" if answer.text else "")
            )
    values = [a.value for a in answers]
    try:
        return asked.part.judge(asked.case, values if isinstance(asked.case, list) else values[0])
    except Exception as e:  # a result so odd that it cannot even be compared is wrong, not our end
        return Message("odd", f"the result cannot be checked: {type(e).__name__}")


_SAYS = {
    "raised": "the function raised an error",
    "slow": "the function took too long",
    "not-written": "the function is not written yet",
    "missing": "the function was not called",
    "odd": "the result cannot be checked",
}


def _misconception(exercise, asked, answers, wrong) -> Mutant | None:
    # The mutant that gives the same wrong value in at least half of the wrong cases, or that agrees
    # everywhere (an error alone may have any cause). Of several, the one that agrees with most
    # calls.
    best, best_score = None, -1
    calls = [call for a in asked for call in a.calls]
    valued = [mine for found, _, mine in wrong if found.slug not in (*_UNTOLD, "raised")]
    for mutant in exercise.mutants if wrong else ():
        alike = [_alike(exercise, mutant, call, answer) for call, answer in zip(calls, answers)]
        explains = valued and 2 * sum(all(alike[mine]) for mine in valued) >= len(valued)
        if (explains or all(alike)) and sum(alike) > best_score:
            best, best_score = mutant, sum(alike)
    return best


def _alike(exercise: Exercise, mutant: Mutant, call: dict, answer: Answer) -> bool:
    try:
        value = mutant.fn(**copied(call))
    except Exception:
        return answer.kind == "raised"
    if answer.kind != "value":
        return False
    within = {"rtol": exercise.rtol, "atol": exercise.atol}
    return difference(value, answer.value, **within, shown=False) is None


def _told(why: Mutant | None, found: Message, asked: Asked) -> Message:
    detail = "\n".join(f"input    {_shown(call)}" for call in asked.calls)
    detail = f"{detail}\n{found.detail}" if found.detail else detail
    if why is None:
        return Message(found.slug, found.text, detail)
    return Message(why.slug, f"{why.says} ({found.text})", detail)


def _shown(call: dict) -> str:
    return "; ".join(f"{name} = {show(value)}" for name, value in call.items()) or "(none)"


def copied(call: dict) -> dict:
    """Returns the arguments with arrays copied: a function may write into them."""
    return {name: value.copy() if hasattr(value, "copy") else value for name, value in call.items()}
