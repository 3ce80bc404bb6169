"""What an exercise is: parts with points, each two plain functions, and wrong answers by name.

`cases(draw)` yields the arguments, `judge(case, result)` says what is wrong with a result: the same
pair as in `minicomp.reference`, whose entries many exercises take. A case is a dict of named
arguments, passed in order; a list of such dicts is one case of several calls (an invariance), and
its judge receives the list of results.

A *mutant* is a wrong answer with a name: a misconception as a function, in the spellings that are
usual. When an answer is wrong, a mutant that gives the same wrong results says why, beside an input
on which it does: nobody is told of a misconception that the input in front of him refutes. The same
mutants prove in CI that a check catches them, and serve as the broken variant that a lesson asks
the student to expose.

Titles, hints, tolerances and what a mutant says stand in lessons/words/NN.toml.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...reference import Entry
from ...reference.draw import Draw, seed_of
from ...reference.judges import (
    Judge,
    Message,
    copied,
    describe,
    difference,
    show,
    show_case,
)

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
    """A wrong answer: a function of the arguments, and what to tell whoever wrote it.

    forms : the same misconception as others write it, where that gives other values
    perhaps : forms that are right on some machines, as those that sort equals in any order
    seen : takes a call's arguments by name and a wrong result, returns whether the result shows the
        misconception, whatever its numbers
    """

    slug: str
    fn: Callable
    says: str = ""
    forms: tuple[Callable, ...] = ()
    perhaps: tuple[Callable, ...] = ()
    seen: Callable[[dict, object], bool] = lambda call, result: False

    @property
    def spellings(self) -> tuple[Callable, ...]:
        """Returns every form of it that is wrong everywhere, the usual one first."""
        return self.fn, *self.forms


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

    A student's variant has one of a few faults. The input must show that fault and no other: the
    variant is wrong there, and each of the other variants is right. So an input that exposes
    everything earns nothing, and each variant asks for an input of its own.

    of : the exercise whose mutants are the variants
    shown_by : for each variant's slug an input on which it alone is wrong
    valid : takes the arguments by name, returns why they are no valid input, or None
    agreeing : an input on which all variants are right        invalid : one that is not valid
    several : inputs that show more than one variant; each variant by one of them
    """

    id: str
    of: Exercise
    shown_by: dict[str, tuple]
    valid: Callable[..., str | None]
    agreeing: tuple
    several: tuple[tuple, ...]
    invalid: tuple
    hints: tuple[str, ...] = ()
    minutes: int = 6
    points: int = 2

    @property
    def slugs(self) -> tuple[str, ...]:
        """Returns the names of the variants."""
        return tuple(self.shown_by)

    @property
    def variants(self) -> tuple[Mutant, ...]:
        """Returns the variants, in the order of their names in `shown_by`."""
        known = {m.slug: m for m in self.of.mutants}
        return tuple(known[slug] for slug in self.slugs)

    def mutant(self, student: str = "", course: str = OPEN) -> Mutant:
        """Returns the broken variant of a student in a course."""
        seed = seed_of("minicomp broken", self.id, course, student.strip().casefold())
        return Draw(seed).choice(self.variants)

    def exercise(self, student: str = "", course: str = OPEN) -> Exercise:
        """Returns this student's exercise: a function without arguments returns the input."""
        broken, names = self.mutant(student, course), self.of.arguments
        several = next(i for i in self.several if self.shows(broken, dict(zip(names, i))))
        return Exercise(
            id=self.id,
            title=f"Expose the broken {self.of.name}",
            minutes=self.minutes,
            parts=(
                Part("input", self.points, _group([{}]), lambda _, got: self._judge(broken, got)),
            ),
            mutants=(
                Mutant("no-input", lambda: 0),
                Mutant("no-difference", lambda: self.agreeing),
                Mutant("shows-another", lambda: several),
                Mutant("invalid-input", lambda: self.invalid),
            ),
            hints=self.hints,
            tolerance=(
                "any input on which the result of your variant is wrong by more than rounding and"
                f" those of the other {len(self.slugs) - 1} are right"
            ),
            name="failing_input",
            told=False,
        )

    def why_invalid(self, call: dict) -> str | None:
        """Returns why these arguments are no valid input, or None."""
        try:
            return self.valid(**copied(call))
        except Exception as e:  # a strange input may break the very question
            return f"{type(e).__name__}: {e}"

    def shows(self, variant: Mutant, call: dict) -> bool:
        """Returns whether a variant is wrong on a valid input."""
        right = self.of.reference(**copied(call))
        try:
            with np.errstate(all="ignore"):
                wrong = variant.fn(*copied(call).values())
        except Exception:  # failing loudly is failing too
            return True
        within = {"rtol": self.of.rtol, "atol": self.of.atol}
        return difference(right, wrong, **within, shown=False) is not None

    def _judge(self, broken: Mutant, result) -> Message | None:
        names = self.of.arguments
        if not isinstance(result, tuple | list) or len(result) != len(names):
            told = f"an input is a tuple of {len(names)}: {', '.join(names)}"
            return Message("no-input", told, f"got {describe(result)}")
        call = dict(zip(names, map(_as, self.agreeing, result)))
        if why := self.why_invalid(call):
            told = f"the input is not one that {self.of.name} is asked about: {why}"
            return Message("invalid-input", told)
        given = f"your input: {show_case(call)}"
        if not self.shows(broken, call):
            both = show(self.of.reference(**copied(call)))
            told = "on this input the broken function is right"
            return Message("no-difference", told, f"{given}\nboth give {both}")
        others = [v for v in self.variants if v is not broken and self.shows(v, call)]
        if not others:
            return None
        told = (
            "the broken function is wrong here, but so is a function with another of the faults."
            " Change the input until yours alone shows"
        )
        return Message("shows-another", told, f"{given}\nthe other fault: {others[0].says}")


def _as(example, value):
    # A value as an array, or a tuple of them, where the example is one: lists are as good.
    if isinstance(example, tuple) and isinstance(value, tuple | list):
        return tuple(_as(example[0], v) for v in value)
    if isinstance(example, np.ndarray):
        with contextlib.suppress(ValueError):  # rows of different lengths
            return np.asarray(value)
    return value


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
    """What one call gave.

    kind : "value"; "changed", a value of a function that wrote to its arguments, whose names are
        `text`; or how it failed: the keys of `_SAYS`, "refused"
    """

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
        # Of the parts that fail the first whose input may be shown to everybody.
        failed = [p for p in self.parts if p.message]
        return next((p for p in failed if not p.hidden), failed[0] if failed else None)

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
    tried, at = [], 0
    for a in asked:
        mine = tuple(answers[at : at + len(a.calls)])
        at += len(a.calls)
        tried.append(_Tried(a, mine, _problem(a, mine)))
    why = _misconception(exercise, tried) if exercise.told else None
    scores = []
    for part in exercise.parts:
        wrong = [t for t in tried if t.asked.part is part and t.problem]
        message = _told(why, wrong) if wrong else None
        points = 0 if wrong else part.points
        scores.append(PartScore(part.name, points, part.points, message, part.hidden))
    return Verdict(exercise, tuple(scores))


_VALUES = ("value", "changed")
_UNTOLD = ("slow", "not-written", "missing", "odd")  # no misconception explains these
_SAYS = {
    "raised": "the function raised an error",
    "slow": "the function took too long",
    "not-written": "the function is not written yet",
    "missing": "the function was not called",
    "odd": "the result cannot be checked",
}


@dataclass(frozen=True, eq=False)
class _Tried:
    # A case, the answers to its calls, and what is wrong with them.
    asked: Asked
    answers: tuple[Answer, ...]
    problem: Message | None

    @property
    def size(self) -> int:
        return sum(map(_numbers, self.asked.calls))


def _numbers(value) -> int:
    # How many numbers a case has.
    if isinstance(value, dict | list | tuple):
        return sum(map(_numbers, value.values() if isinstance(value, dict) else value))
    return np.size(value)


def _problem(asked: Asked, answers: Sequence[Answer]) -> Message | None:
    for answer in answers:
        if answer.kind not in _VALUES:
            text = f": {answer.text}" if answer.text else ""
            return Message(answer.kind, _SAYS[answer.kind] + text)
    wrong = _judged(asked, [a.value for a in answers])
    changed = next((a.text for a in answers if a.kind == "changed"), "")
    if wrong is None and changed:
        told = (
            f"the result is right, but the function writes to what it was given ({changed}), which"
            " belongs to the caller: work on a copy"
        )
        return Message("overwrites", told)
    if changed:
        more = f"and the function wrote to what it was given: {changed}"
        return replace(wrong, detail="\n".join(filter(None, (wrong.detail, more))))
    return wrong


def _judged(asked: Asked, values: list) -> Message | None:
    try:
        return asked.part.judge(asked.case, values if isinstance(asked.case, list) else values[0])
    except Exception as e:  # a result so odd that it cannot even be compared is wrong, not our end
        return Message("odd", f"the result cannot be checked: {type(e).__name__}")


@dataclass(frozen=True)
class _Why:
    # A misconception that explains an answer, and the wrong cases on which it gives that answer.
    mutant: Mutant
    cases: tuple[_Tried, ...]


def _misconception(exercise: Exercise, tried: Sequence[_Tried]) -> _Why | None:
    # The mutant that gives the student's wrong answer in at least as many cases as it does not (a
    # case where the student is right and it is wrong counts against it too), or that agrees
    # everywhere: an error alone may have any cause. Of several, the one that most cases agree with.
    best, most = None, -1
    untold = (*_UNTOLD, "overwrites")
    wrong = [t for t in tried if t.problem and t.problem.slug not in untold]
    wrong.sort(key=lambda t: t.size)  # most mutants differ on a small case, which is soon asked
    valued = [t for t in wrong if t.problem.slug != "raised"]
    for mutant in exercise.mutants if wrong else ():
        for fn in (*mutant.spellings, *mutant.perhaps):
            found = _found(exercise, mutant, fn, wrong)
            if not found or 2 * sum(t in valued for t in found) < len(valued):
                continue
            alike = len(found) + sum(_alike(exercise, fn, t) for t in tried if t not in wrong)
            if len(found) < len(tried) - alike or not valued and alike < len(tried):
                continue
            shown = tuple(t for t in found if _fails(fn, t))
            if shown and alike > most:
                best, most = _Why(mutant, shown), alike
    return best


def _found(
    exercise: Exercise, mutant: Mutant, fn: Callable, wrong: Sequence[_Tried]
) -> list[_Tried]:
    # The wrong cases that a wrong function answers alike; none as soon as more are not.
    found: list[_Tried] = []
    for i, t in enumerate(wrong):
        if _alike(exercise, fn, t) or _is_seen(mutant, t):
            found.append(t)
        elif 2 * (i + 1 - len(found)) > len(wrong):
            return []
    return found


def _is_seen(mutant: Mutant, tried: _Tried) -> bool:
    each = zip(tried.asked.calls, tried.answers, strict=True)
    return all(a.kind in _VALUES and mutant.seen(call, a.value) for call, a in each)


def _values(fn: Callable, tried: _Tried) -> list:
    with np.errstate(all="ignore"):
        return [fn(*copied(call).values()) for call in tried.asked.calls]


def _alike(exercise: Exercise, fn: Callable, tried: _Tried) -> bool:
    # Whether a wrong function answers a case as the student did; an error is like one of its kind.
    within = {"rtol": exercise.rtol, "atol": exercise.atol, "shown": False}
    for call, answer in zip(tried.asked.calls, tried.answers, strict=True):
        try:
            with np.errstate(all="ignore"):
                value = fn(*copied(call).values())
        except Exception as e:
            if answer.kind != "raised" or answer.text.partition(":")[0] != type(e).__name__:
                return False
            continue
        if answer.kind not in _VALUES:
            return False
        if difference(value, answer.value, **within) is not None:
            return False
    return True


def _fails(fn: Callable, tried: _Tried) -> bool:
    # Whether a case shows that a function is wrong.
    try:
        values = _values(fn, tried)
    except Exception:
        return True
    return _judged(tried.asked, values) is not None


def _told(why: _Why | None, wrong: Sequence[_Tried]) -> Message:
    # What is said of a part: of its wrong cases the smallest, rather one with a result than an
    # error; where there are any, of those on which the misconception gives the answer that came.
    explained = [t for t in wrong if why and t in why.cases]
    worst = ("missing", "raised")
    case = min(explained or wrong, key=lambda t: (*(t.problem.slug == s for s in worst), t.size))
    found = case.problem
    lines = [f"input    {show_case(call)}" for call in case.asked.calls if call] + [found.detail]
    detail = "\n".join(filter(None, lines))
    if not explained:
        return Message(found.slug, found.text, detail)
    return Message(why.mutant.slug, f"{why.mutant.says} ({found.text})", detail)
