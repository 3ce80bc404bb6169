"""What a lesson asks: exercises, a broken variant to expose, guesses, reflections, a file, numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

from .exercise import OPEN, Diagnosis, Exercise, Prediction


@dataclass(frozen=True)
class Reflection:
    """A question answered in words; a person marks it by the rubric.

    rubric : (points, what earns them) from the most to the least
    """

    id: str
    question: str = ""
    rubric: tuple[tuple[int, str], ...] = ()

    @property
    def max_points(self) -> int:
        return max(points for points, _ in self.rubric)


@dataclass(frozen=True)
class Number:
    """A measured number of a lesson: key in lessons/expected, what it is, unit, decimals."""

    key: str
    label: str
    unit: str = ""
    digits: int = 2


@dataclass(frozen=True)
class Capstone:
    """A net that is handed in as a file, measured on digits that nobody has seen.

    limit : the largest error that counts as good, percent
    sizes : bytes, from many to few; a good file earns a point for each that it does not exceed
    most_bytes, memory, operations : of a file; of what it becomes; of one image
    images : of each kind of digits
    """

    limit: float = 1.8
    sizes: tuple[int, ...] = (100_000, 30_000, 10_000)
    most_bytes: int = 2_000_000
    memory: int = 2**27
    operations: int = 20_000_000
    images: int = 4000
    of_loading: int = 2
    of_error: int = 3

    @property
    def points(self) -> int:
        """Returns the most that a file can earn."""
        return self.of_loading + self.of_error + len(self.sizes)


@dataclass(frozen=True)
class LessonChecks:
    """All that is asked in one lesson.

    number : "04"        name : of its files, "magnitude": lessons/04_magnitude.ipynb
    numbers : what a full run measures and compares with lessons/expected
    capstone : what is asked of a file beside the notebook, where one is asked for
    """

    number: str
    name: str
    exercises: tuple[Exercise, ...]
    diagnosis: Diagnosis | None = None
    predictions: tuple[Prediction, ...] = ()
    reflections: tuple[Reflection, ...] = ()
    numbers: tuple[Number, ...] = ()
    title: str = ""
    capstone: Capstone | None = None

    @property
    def stem(self) -> str:
        """Returns the name of its files without suffix: "04_magnitude"."""
        return f"{self.number}_{self.name}"

    def asked(self, student: str = "", course: str = OPEN) -> tuple[Exercise, ...]:
        """Returns the exercises, with the broken variant of this student last."""
        last = (self.diagnosis.exercise(student, course),) if self.diagnosis else ()
        return self.exercises + last

    def ids(self) -> list[str]:
        """Returns every exercise id."""
        return [e.id for e in self.asked()]

    @property
    def max_points(self) -> int:
        """Returns what a machine can give: exercises, predictions, a file."""
        of_file = self.capstone.points if self.capstone else 0
        guesses = sum(p.points for p in self.predictions)
        return sum(e.max_points for e in self.asked()) + guesses + of_file
