"""A byte budget: "make the file at most N bytes".

One factor f scales the density of every pruning step, density = f (1 - sparsity), so that layers
keep their proportions. f is found by bisection on the bytes of a *sketch*: the forms that the
pipeline would leave, without training, written by the real codec. Training changes the bytes a
little; the run is checked against the budget and, where it is over, repeated with an f whose sketch
is smaller by as much.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..codec import encode
from ..compress.finetune import FineTune
from ..compress.technique import Log, Pipeline, Technique
from ..errors import UserError
from ..nn.graph import Model

ATTEMPTS = 4
SKETCHES = 11  # about: two to bracket the factor, nine to halve [0.01, 1] to 1 %


def scaled(pipeline: Pipeline, factor: float) -> Pipeline:
    """Returns the pipeline with the density 1 - sparsity of every step times `factor`, and
    sparsity kept in [0, 0.9995]."""
    def sparser(s):
        return None if s is None else float(min(max(1 - factor * (1 - s), 0.0), 0.9995))

    def made(step: Technique) -> Technique:
        if isinstance(step, FineTune):
            return dataclasses.replace(step, methods=tuple(made(m) for m in step.methods))
        value = getattr(step, "sparsity", None)
        if value is None:
            return step
        value = (
            {p: sparser(s) for p, s in value.items()} if isinstance(value, Mapping)
            else sparser(value)
        )
        return dataclasses.replace(step, sparsity=value)

    return Pipeline(steps=tuple(made(step) for step in pipeline.steps))


def sketch_bytes(pipeline: Pipeline, model: Model, seed: int) -> int:
    """Returns the bytes of the file that the pipeline would leave of the model without training."""
    return len(encode(pipeline.sketch(model, rng=np.random.default_rng(seed))))


def density_for(
    pipeline: Pipeline, model: Model, max_bytes: int, seed: int, *, log: Log | None = None
) -> float:
    """Returns the largest factor, to 1 %, at which the sketch takes at most max_bytes.

    Raises UserError where no step has a sparsity, or even almost no weights take more.
    """
    if scaled(pipeline, 0.5) == scaled(pipeline, 1.0):
        raise UserError(
            "a byte budget needs a step with a sparsity to scale, such as gradual or magnitude"
        )
    log, tried = log or (lambda row: None), 0

    def size(factor: float) -> int:
        nonlocal tried
        tried += 1
        log({"event": "progress", "name": "budget", "done": min(tried, SKETCHES),
             "total": SKETCHES})
        return sketch_bytes(scaled(pipeline, factor), model, seed)

    log({"event": "search", "name": "budget"})
    lo, hi, least = 0.01, 1.0, size(0.01)
    if least > max_bytes:
        raise UserError(
            f"a budget of {max_bytes:,} bytes cannot be met by these steps: {least:,} bytes remain "
            f"at 1 % of their density"
        )
    while hi < 1024 and size(hi) <= max_bytes:
        if scaled(pipeline, hi) == scaled(pipeline, 2 * hi):  # nothing is pruned any more
            return hi
        lo, hi = hi, 2 * hi
    while hi / lo > 1.01:
        middle = (lo * hi) ** 0.5
        lo, hi = (middle, hi) if size(middle) <= max_bytes else (lo, middle)
    return lo


@dataclass(frozen=True)
class Budgeted(Technique):
    """A pipeline whose sparsities are scaled until the file takes at most `max_bytes`."""

    word: ClassVar[str] = "budget"
    title: ClassVar[str] = "Byte budget"
    composite: ClassVar[bool] = True

    pipeline: Pipeline = Pipeline()
    max_bytes: int = 0

    def __post_init__(self):
        if (
            isinstance(self.max_bytes, bool)
            or not isinstance(self.max_bytes, int)
            or self.max_bytes < 1
        ):
            raise UserError(f"bytes must be an integer of at least 1, got {self.max_bytes!r}")

    def settings(self) -> dict:
        return {"max_bytes": self.max_bytes, **self.pipeline.settings()}

    def reads(self):
        return self.pipeline.reads()

    def resizes(self):
        return self.pipeline.resizes()

    def check(self, model):
        self.pipeline.check(model)

    def change(self, model, data, run):
        log, seed, target = run.log, int(run.rng.integers(2**32)), self.max_bytes
        for attempt, stream in enumerate(run.rng.spawn(ATTEMPTS), start=1):
            try:
                factor = density_for(self.pipeline, model, target, seed, log=log)
            except UserError:
                if attempt == 1:
                    raise
                break
            log({"event": "budget", "attempt": attempt, "density_factor": factor,
                 "max_bytes": self.max_bytes})
            made = scaled(self.pipeline, factor).apply(
                model, data, run.child(f"attempt-{attempt}", stream)
            )
            size = len(encode(made))
            if size <= self.max_bytes:
                return made
            # What training added, and 1 % more.
            target -= size - self.max_bytes + self.max_bytes // 100
        raise UserError(
            f"the file takes {size:,} bytes after {attempt} attempts, more than the "
            f"{self.max_bytes:,} allowed"
        )
