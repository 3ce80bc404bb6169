"""What a running lesson uses: its data, trained nets, recorded numbers; checks, hints, guesses.

    lesson = Lesson("04", mode="full")     # "smoke": seconds; "full": minutes; "paper": its scale
    check("04.masked_sgd", masked_sgd)     # runs the cases here and says what is wrong
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np

from ... import data as datasets
from ...errors import UserError
from ...reference.judges import copied, difference
from .. import catalog
from . import checkpoints, timing
from ..asking.ban import refusing
from .calling import one_answer
from ..asking.exercise import OPEN, Answer, Prediction, assess, questions
from ..asking.lesson import Number, Reflection
from ..asking.shown import Figure, Measured, Shown, Table, Text
from ..notebook.cells import read_bytes

MODES = checkpoints.MODES
SMOKE = {"train": 2000, "val": 500, "test": 500}


class Lesson:
    """One run of a lesson.

    number : "04"
    mode : "smoke" (seconds, rough), "full" (minutes) or "paper" (the paper's scale)
    data : "auto" (MNIST where its files are, else glyphs) or the name of a data set
    seed : of everything that draws        student, course : what the broken variant is drawn from
    Raises UserError for a lesson, mode or data set that does not exist.
    """

    idle = False  # in the grader's process: no data, no training

    def __init__(
        self,
        number: str,
        *,
        mode: str = "full",
        data: str = "auto",
        seed: int = 0,
        student: str = "",
        course: str = OPEN,
    ):
        if mode not in MODES:
            raise UserError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")
        self.number, self.mode, self.wanted, self.seed = str(number), mode, data, seed
        self.student, self.course = student, course
        self.measured: dict = {}
        self.figure: Figure | None = None
        self.timings: list = []

    def __repr__(self) -> str:
        of = catalog.lesson(self.number)
        return f"Lesson {int(of.number)}: {of.title}. Mode {self.mode}, seed {self.seed}."

    @cached_property
    def data(self) -> datasets.Dataset:
        """The data set; in smoke mode the first examples of it."""
        self._awake("data")
        full = datasets.load(datasets.default_name() if self.wanted == "auto" else self.wanted)
        if self.mode != "smoke":
            return full
        small = {part: getattr(full, part).take(slice(0, n)) for part, n in SMOKE.items()}
        return replace(full, **small)

    def about_data(self) -> Text:
        """Returns a line that says what the data are and how to get MNIST."""
        d = self.data
        sizes = f"{len(d.train):,} to train, {len(d.val):,} to validate, {len(d.test):,} to test"
        made = " Digits rendered from fonts; for MNIST run: minicomp data get mnist"
        return Text(f"data: {d.name}, {sizes}.{'' if d.original else made}")

    def choose(self, *, smoke, full, paper=None):
        """Returns the value for this mode; paper falls back to full."""
        return {"smoke": smoke, "full": full, "paper": full if paper is None else paper}[self.mode]

    def rng(self, purpose: str) -> np.random.Generator:
        """Returns a generator for one purpose, the same for the same seed."""
        return np.random.default_rng([self.seed, *purpose.encode()])

    def checkpoint(self, name: str):
        """Returns a trained net, from the cache or trained now; its recipe is kept with it."""
        self._awake("checkpoint")
        catalog.one_of("checkpoint", name, checkpoints.RECIPES)
        how = checkpoints.recipe(name, self.data, mode=self.mode, seed=self.seed)
        return checkpoints.trained(how, self.data)

    def broken(self, id: str) -> Callable:
        """Returns the broken variant of an exercise that this student is to expose."""
        diagnosis = catalog.lesson(self.number).diagnosis
        if diagnosis is None or diagnosis.of.id != id:
            raise UserError(f"lesson {self.number} has no broken variant of {id}")
        mutant = diagnosis.mutant(self.student, self.course)
        return lambda *args: mutant.fn(*args)

    def record(self, **measured) -> Table:
        """Returns a table of measured numbers beside the expected ones, and keeps them.

        measured : numbers or lists of numbers by key; the keys are those of the lesson
        """
        of = catalog.lesson(self.number)
        known = {n.key: n for n in of.numbers}
        for key in set(measured) - set(known):
            raise UserError(
                f"lesson {of.number} has no number {key!r}; there are {', '.join(known)}"
            )
        self.measured |= {k: np.asarray(v, float).tolist() for k, v in measured.items()}
        name, recorded = self.data.name, {}
        note = f"No numbers are recorded for mode {self.mode} on {name}."
        if self.mode == "full" and name in (kept := catalog.expected(of)["data"]):
            recorded = kept[name]["results"]
            runs = max(row.get("runs", 0) for row in recorded.values())
            note = f"Expected: lowest to highest of {runs} recorded full runs on {name}."
        rows = [
            _compared(known[k], self.measured[k], recorded.get(k))
            for k in measured
            if np.ndim(measured[k]) == 0
        ]
        return Table(["", "here", "expected", ""], rows, note)

    def beside_paper(
        self,
        header: Sequence[str],
        paper: Sequence,
        ours: Sequence,
        *,
        about: Sequence[datasets.Dataset] = (),
    ) -> Table:
        """Returns the paper's row above ours; on other data than the paper's, ours alone.

        about : the data sets that the rows are about, where that is not the lesson's
        """
        used = list(about) or [self.data]
        mine = [f"here, {', '.join(d.name for d in used)}, {self.mode}", *ours]
        if all(d.original for d in used):
            return Table(header, [paper, mine])
        note = (
            "The paper's row is about MNIST; these are other digits, so it does not stand beside"
            " them. `minicomp data get mnist` fetches MNIST."
        )
        if about:
            other = next(d.note for d in used if not d.original)
            note = f"The paper's row is about the published data; it does not stand beside {other}."
        return Table(header, [mine], note)

    def twin(
        self, kernel: str, cases: Sequence[tuple[str, Callable, Callable]], *, rtol: float = 0.0
    ) -> Table:
        """Returns a table of a kernel's times beside its NumPy reference's, which must agree.

        kernel : its room, as "maps"        cases : (size, reference, entry), both without arguments
        rtol : of the largest entry; 0 asks for equal bits
        Without the compiled kernel the recorded times are shown, with the machine they were taken
        on.
        """
        from ...kernels import cpu

        header = ["size", "NumPy, ms", "kernel, ms", "kernel is"]
        if cpu.kernel_module(kernel) is None:
            kept = catalog.expected(catalog.lesson(self.number)).get("twin")
            if not kept:
                told = f"The kernels {kernel!r} are not built here, and no times are recorded."
                return Table(header, [], told)
            told = f"Recorded on {kept['machine']}: the kernels {kernel!r} are not built here."
            return Table(header, kept["rows"], told)
        rows = []
        for size, reference, entry in cases:
            wrong = difference(reference(), entry(), rtol=rtol)
            assert wrong is None, f"{kernel}, {size}: {wrong.text} {wrong.detail}"
            seconds = self.choose(smoke=0.05, full=0.4)
            slow, fast = timing.side_by_side(reference, entry, seconds=seconds)
            each = (f"{1000 * slow:.3f}", f"{1000 * fast:.3f}", timing.times(slow / fast))
            rows.append([size, *each])
        self.timings = rows
        told = f"Results agree. Medians of runs in turn, one thread, {machine()}."
        return Table(header, rows, told)

    def measure(self, path: str) -> Measured:
        """Returns what grading would say of a net's file, on digits of the open key: other ones
        than those that count.

        Raises UserError where the lesson asks for no file, or there is none.
        """
        from . import capstone

        self._awake("measure")
        asked = catalog.lesson(self.number).capstone
        if asked is None:
            raise UserError(f"lesson {self.number} asks for no file")
        digits = capstone.unseen(OPEN, self.choose(smoke=500, full=asked.images))
        found = capstone.measure(read_bytes(Path(path)), digits, asked)
        points, text = capstone.scored(found, asked)
        return Measured(found, f"{path}: {points} of {asked.points} points: {text}")

    def show(self, figure: Figure) -> Figure:
        """Returns the figure that one remembers of this lesson, and keeps it."""
        self.figure = figure
        return figure

    def _awake(self, what: str) -> None:
        if self.idle:
            raise RuntimeError(f"{what} is not loaded while a notebook is graded")


def check(id: str, fn: Callable, lesson: Lesson | None = None) -> Shown:
    """Returns the verdict on a function: points for each part, and the first thing that is wrong.

    id : "04.masked_sgd"        fn : the function itself
    lesson : needed where the question depends on the student
    Raises UserError for an unknown id, or where fn is no function.
    """
    who = {"student": lesson.student, "course": lesson.course} if lesson is not None else {}
    exercise = catalog.exercise(id, **who)
    if not callable(fn):
        raise UserError(f'check takes the function itself: check("{id}", {exercise.name})')
    asked = questions(exercise)
    answers = []
    with refusing(exercise.banned):
        for call in (c for a in asked for c in a.calls):
            answers.append(Answer(*one_answer(fn, copied(call))))
            if answers[-1].kind == "not-written":
                break
    return Shown(assess(exercise, asked, answers))


def hint(id: str, level: int = 1) -> Text | Figure:
    """Returns help: 1 the idea, 2 shape or formula, 3 pseudocode; 0 the expected plot."""
    if level == 0:
        from .. import figures

        return figures.expected_figure(catalog.lesson(str(id).partition(".")[0]))
    exercise = catalog.exercise(id)
    if level not in (1, 2, 3):
        raise UserError(f"level must be 0, 1, 2 or 3, got {level!r}")
    what = ("the idea", "shape and formula", "pseudocode")[level - 1]
    return Text(f"Hint {level} of 3 for {id}, {what}:\n{exercise.hints[level - 1]}")


def predict(id: str, guess=None):
    """Returns the guess unchanged; says what to guess where it is None or no guess."""
    problem = _one_of("predictions", id).problem(guess)
    if problem is None:
        return guess
    print(
        f"{id}: {problem}. Put your guess in place of None, before you read on: it earns the"
        " point, right or wrong."
    )
    return None


def reflect(id: str, text: str = "") -> Text:
    """Returns a line that says how many words the reflection has; a person reads and marks it."""
    asked, words = _one_of("reflections", id), len(str(text).split())
    if not words:
        return Text(f"{id}: write your answer between the quotes.")
    points = asked.max_points
    return Text(f"{id}: {words} words. Read and marked by a person, {points} points.")


def _one_of(kind: str, id: str) -> Prediction | Reflection:
    # kind: "predictions" or "reflections" of the lesson that the id names.
    asked = getattr(catalog.lesson(str(id).partition(".")[0]), kind)
    return catalog.one_of(kind[:-1], str(id), {one.id: one for one in asked})


def machine() -> str:
    """Returns one line about the machine that timings were made on."""
    from ...kernels import cpu

    return f"{platform.machine()} {platform.system()}, rungs {', '.join(cpu.available())}"


def _compared(number: Number, value: float, row: dict | None) -> list[str]:
    text = f"{value:,.{number.digits}f} {number.unit}".strip()
    if row is None:
        return [number.label, text, "-", ""]
    low, high = row["low"], row["high"]
    slack = max(high - low, 0.05 * abs(row["mean"]), 10.0**-number.digits)
    near = low - slack <= value <= high + slack
    span = f"{low:,.{number.digits}f} to {high:,.{number.digits}f} {number.unit}".strip()
    return [number.label, text, span, "as expected" if near else "DIFFERS"]

