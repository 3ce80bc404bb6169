"""What an exercise is: parts with points, each two plain functions, and wrong answers by name.

`cases(draw)` yields the arguments, `judge(case, result)` says what is wrong with a result: the same
pair as in `minicomp.reference`, whose entries many exercises take. A case is a dict of named
arguments, passed in order; a list of such dicts is one case of several calls (an invariance), and
its judge receives the list of results.

A *mutant* is a wrong answer with a name: a misconception as a function. When an answer is wrong,
the mutants that give the same wrong result say why; the same mutants prove in CI that a check
catches them, and serve as the broken variant that a lesson asks the student to expose.

Titles, hints, tolerances and what a mutant says stand in lessons/words/NN.toml.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ...reference import Entry
from ...reference.draw import Draw, seed_of
from ...reference.judges import Judge, Message, copied, describe, difference, show, show_case

OPEN = "open"  # the course of whoever has no course key
REFUSAL = "write this one yourself"  # how the library's own function answers during a graded call
Group = Callable[[Draw], Iterable]


@dataclass(frozen=True)
class Part:
    """One scored part of an exercise: all its cases must pass.

    hidden : cases come from the course key, so feedback does not show them
    """

    name: str
    points: int
    cases: Group
    judge: Judge
    hidden: bool = False


def standard_parts(
    judge: Judge,
    *,
    tiny: Group | list,
    many: Group,
    golden: Group | list,
    more: Part | None = None,
    points: tuple[int, int, int] = (1, 2, 1),
) -> tuple[Part, ...]:
    """Returns the parts that every exercise has, with one judge; one more goes before the last.

    tiny : few cases to be read        many : drawn ones, hidden        golden : fixed ones
    points : of tiny, many, golden
    """
    first = Part("tiny", points[0], _group(tiny), judge)
    last = Part("golden", points[2], _group(golden), judge)
    return first, hidden("property", many, judge, points[1]), *((more,) if more else ()), last


def entry_parts(entry: Entry, *, more: Part | None = None) -> tuple[Part, ...]:
    """Returns the standard parts with the cases and the judge of a reference entry."""
    tiny, many, golden = (entry.cases[name] for name in ("tiny", "property", "golden"))
    return standard_parts(entry.judge, tiny=tiny, many=many, golden=golden, more=more)


def hidden(name: str, cases: Group, judge: Judge, points: int = 1) -> Part:
    """Returns a part whose cases come from the course key."""
    return Part(name, points, cases, judge, hidden=True)


def _group(cases: Group | list) -> Group:
    return cases if callable(cases) else lambda draw: cases


@dataclass(frozen=True)
class Mutant:
    """A wrong answer: a function of the arguments, and what to tell whoever wrote it."""

    slug: str
    fn: Callable
    says: str = ""


@dataclass(frozen=True)
class Exercise:
    """One function to write.

    id : "04.masked_sgd"; the part after the dot is the function's name unless `name` is given
    tolerance : one line: how near is right, and why
    hints : idea; shape or formula; pseudocode
    banned : "module:name" of library functions that do the same; they refuse in a graded call
    reference : the right answer, where there is one; what a broken variant is compared with
    told : whether a mutant's words replace the judge's
    rtol, atol : within which two results count as the same
    """

    id: str
    minutes: int
    parts: tuple[Part, ...]
    mutants: tuple[Mutant, ...]
    title: str = ""
    hints: tuple[str, ...] = ()
    tolerance: str = ""
    banned: tuple[str, ...] = ()
    reference: Callable | None = None
    name: str = ""
    told: bool = True
    rtol: float = 1e-9
    atol: float = 1e-12

    def __post_init__(self):
        if not self.name:
            object.__setattr__(self, "name", self.id.split(".", 1)[1])

    @property
    def max_points(self) -> int:
        return sum(p.points for p in self.parts)

    @property
    def arguments(self) -> list[str]:
        """Returns the names of the arguments in order: the reference's, but for its options."""
        if self.reference is None:
            return []
        known = inspect.signature(self.reference).parameters.values()
        return [p.name for p in known if p.default is p.empty]


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
    hints: tuple[str, ...] = ()
    minutes: int = 6
    points: int = 2

    def mutant(self, student: str = "", course: str = OPEN) -> Mutant:
        """Returns the broken variant of a student in a course."""
        seed = seed_of("minicomp broken", self.id, course, student.strip().casefold())
        slug = Draw(seed).choice(self.slugs)
        return next(m for m in self.of.mutants if m.slug == slug)

    def exercise(self, student: str = "", course: str = OPEN) -> Exercise:
        """Returns this student's exercise: a function without arguments returns the input."""
        broken = self.mutant(student, course)
        return Exercise(
            id=self.id,
            title=f"Expose the broken {self.of.name}",
            minutes=self.minutes,
            parts=(
                Part("input", self.points, _group([{}]), lambda _, got: self._judge(broken, got)),
            ),
            mutants=(
                Mutant("no-input", lambda: 0),
                Mutant("no-difference", self.agreeing),
                Mutant("invalid-input", self.invalid),
            ),
            hints=self.hints,
            tolerance="any input counts on which the two results differ by more than rounding",
            name="failing_input",
            told=False,
        )

    def why_invalid(self, call: dict) -> str | None:
        """Returns why these arguments are no valid input, or None."""
        try:
            return self.valid(**copied(call))
        except Exception as e:  # a strange input may break the very question
            return f"{type(e).__name__}: {e}"

    def _judge(self, broken: Mutant, result) -> Message | None:
        names = self.of.arguments
        if not isinstance(result, tuple | list) or len(result) != len(names):
            told = f"an input is a tuple of {len(names)}: {', '.join(names)}"
            return Message("no-input", told, f"got {describe(result)}")
        call = dict(zip(names, result))
        if why := self.why_invalid(call):
            told = f"the input is not one that {self.of.name} is asked about: {why}"
            return Message("invalid-input", told)
        right = self.of.reference(**copied(call))
        try:
            wrong = broken.fn(**copied(call))
        except Exception:  # failing loudly is failing too
            return None
        if difference(right, wrong, rtol=self.of.rtol, atol=self.of.atol):
            return None
        told = "on this input the broken function is right"
        return Message("no-difference", told, f"both give {show(right)}")


@dataclass(frozen=True)
class Prediction:
    """A guess before the run; graded for being made: a number in [lo, hi], or one of `options`."""

    id: str
    question: str = ""
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
            ok, wanted = value in self.options, f"one of {', '.join(self.options)}"
        else:
            number = isinstance(value, int | float) and not isinstance(value, bool)
            ok = number and self.lo <= value <= self.hi
            wanted = f"a number from {self.lo:g} to {self.hi:g}"
        return None if ok else f"the guess must be {wanted}"


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

    @property
    def points(self) -> int:
        return sum(p.points for p in self.parts)

    @property
    def _wrong(self) -> PartScore | None:
        return next((p for p in self.parts if p.message), None)

    @property
    def message(self) -> Message | None:
        return self._wrong and self._wrong.message

    @property
    def detail_hidden(self) -> bool:
        """Returns whether the message is about a hidden input."""
        return bool(self._wrong and self._wrong.hidden)

    @property
    def message_id(self) -> str:
        """Returns "04.masked_sgd/momentum-revives", or "" when all is right."""
        return f"{self.exercise.id}/{self.message.slug}" if self.message else ""


def questions(exercise: Exercise, key: str = OPEN) -> list[Asked]:
    """Returns all cases of an exercise, smallest first, for a course key."""
    asked, names = [], exercise.arguments
    for part in exercise.parts:
        draw = Draw(seed_of("minicomp lesson", exercise.id, part.name, key))
        for case in part.cases(draw):
            several = isinstance(case, list)
            # Arguments are passed by position: in the order of the reference's parameters.
            each = case if several else [case]
            calls = [{name: call[name] for name in names or call} for call in each]
            asked.append(Asked(part, calls if several else calls[0], tuple(calls)))
    return asked


def assess(exercise: Exercise, asked: Sequence[Asked], answers: Sequence[Answer]) -> Verdict:
    """Returns the verdict on one answer per call, in order; absent ones count as missing."""
    if any(a.kind == "refused" for a in answers):
        message = Message("library", f"the library's own function was called: {REFUSAL}")
        return Verdict(
            exercise, tuple(PartScore(p.name, 0, p.points, message) for p in exercise.parts)
        )
    wanted = sum(len(a.calls) for a in asked)
    answers = [*answers, *[Answer("missing")] * (wanted - len(answers))]
    wrong: list[tuple[Message, Asked, slice]] = []  # what, of which case, in which answers
    at = 0
    for a in asked:
        mine = slice(at, at + len(a.calls))
        at = mine.stop
        if found := _problem(a, answers[mine]):
            wrong.append((found, a, mine))
    first = {a.part.name: (found, a) for found, a, _ in reversed(wrong)}
    why = _misconception(exercise, asked, answers, wrong) if exercise.told else None
    told = {
        name: _told(None if found.slug in _UNTOLD else why, found, a)
        for name, (found, a) in first.items()
    }
    scores = (
        PartScore(p.name, p.points * (p.name not in told), p.points, told.get(p.name), p.hidden)
        for p in exercise.parts
    )
    return Verdict(exercise, tuple(scores))


_UNTOLD = ("slow", "not-written", "missing", "odd")  # no misconception explains these
_SAYS = {
    "raised": "the function raised an error",
    "slow": "the function took too long",
    "not-written": "the function is not written yet",
    "missing": "the function was not called",
    "odd": "the result cannot be checked",
}


def _problem(asked: Asked, answers: list[Answer]) -> Message | None:
    for answer in answers:
        if answer.kind != "value":
            text = f": {answer.text}" if answer.text else ""
            return Message(answer.kind, _SAYS[answer.kind] + text)
    values = [a.value for a in answers]
    try:
        return asked.part.judge(asked.case, values if isinstance(asked.case, list) else values[0])
    except Exception as e:  # a result so odd that it cannot even be compared is wrong, not our end
        return Message("odd", f"the result cannot be checked: {type(e).__name__}")


def _misconception(exercise, asked, answers, wrong) -> Mutant | None:
    # The mutant that gives the same wrong value in at least half of the wrong cases, or that agrees
    # everywhere (an error alone may have any cause). Of several, the one that most calls agree
    # with.
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
    lines = [f"input    {show_case(call)}" for call in asked.calls] + [found.detail]
    detail = "\n".join(filter(None, lines))
    if why is None:
        return Message(found.slug, found.text, detail)
    return Message(why.slug, f"{why.says} ({found.text})", detail)
