"""The main job: train a dense net, run a recipe on it, and keep what happened at every step.

With a checkpoint folder the job can be stopped at any time; it goes on where it was,
ending in the same bits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from .. import __version__
from ..checkpoint import fingerprint
from ..compress import stepfile
from ..compress.technique import Run, Technique
from ..errors import UserError
from ..models import for_data
from ..nn.graph import Model
from .budget import Budgeted
from .recipe import Recipe

MAX_OPERATIONS = 4 * 10**12  # of one pass over the examples: some minutes of one core


@dataclass
class Job:
    """What a run of a recipe left.

    dense : the trained net        model : the compressed one
    steps : one row a step: name, knobs, errors (of `size` validation examples), sparsity, seconds
    stages : (name, model) after each step        epochs : the rows of every epoch of every training
    """

    dense: Model
    model: Model
    steps: list[dict] = field(default_factory=list)
    stages: list[tuple[str, Model]] = field(default_factory=list)
    epochs: list[dict] = field(default_factory=list)


def train_dense(start: str | Model, data, recipe: Recipe, *, seed: int,
                log: Callable[[dict], None] | None = None, checkpoint: Path | None = None,
                n_threads: int = 1) -> Model:
    """Returns a model trained on data.train as the recipe says.

    start : name of a built-in model, whose weights are drawn, or a model to be trained on

    Raises UserError where the data do not fit the model's input.
    """
    init, stream = np.random.default_rng(seed).spawn(2)
    model = for_data(start, data, rng=init) if isinstance(start, str) else start
    check_data(model, data)
    path, of, part = None, {}, Run(stream, log, checkpoint, n_threads).child("00-dense")
    if checkpoint is not None:
        path = part.checkpoint.with_name("00-dense.step")
        of = {"model": start if isinstance(start, str) else fingerprint(model),
              "knobs": recipe.train.settings(), "seed": seed,
              "data": fingerprint(data), "threads": n_threads, "minicomp": __version__}
    return stepfile.kept(
        path, of, lambda log: recipe.train.apply(model, data, replace(part, log=log)), part.log)[0]


def run(start: str | Model, data, recipe: Recipe, *, seed: int, max_bytes: int | None = None,
        log: Callable[[dict], None] | None = None, checkpoint: Path | None = None,
        n_threads: int = 1) -> Job:
    """Returns the Job of a recipe: the dense net, trained if `start` is a name, then each step.

    data : has `train` and `val`        max_bytes : a budget for the file, or None
    """
    log, epochs = log or (lambda row: None), []

    def listen(row: dict) -> None:
        if row.get("event") in ("epoch", "resumed"):
            rows = row["rows"] if row["event"] == "resumed" else [row]
            epochs.extend({"stage": current[0], **each} for each in rows)
        elif row.get("event") == "start":
            current[0] = row["name"]
        elif row.get("event") == "step":
            job.steps.append({
                k: row[k] for k in ("name", "knobs", "errors", "size", "sparsity", "seconds")
            })
            job.stages.append((row["name"], row["model"]))
        elif row.get("event") == "budget":
            del job.steps[:], job.stages[:]  # an attempt over the budget is no part of the result
            epochs[:] = [row for row in epochs if row["stage"] == "train"]
        log(row)

    current = ["train"]
    job = Job(None, None, epochs=epochs)
    technique = recipe.pipeline if max_bytes is None else Budgeted(recipe.pipeline, max_bytes)
    check_job(start, data, technique)
    if isinstance(start, str):
        log({"event": "start", "name": "train", "index": 0, "of": len(recipe.pipeline.steps)})
        job.dense = train_dense(start, data, recipe, seed=seed, log=listen, checkpoint=checkpoint,
                                n_threads=n_threads)
    else:
        job.dense = start
    rng = np.random.default_rng([seed, 1])
    job.model = technique.apply(job.dense, data, Run(rng, listen, checkpoint, n_threads))
    return job


def check_job(start: str | Model, data, technique: Technique) -> None:
    """Raises UserError, before anything is trained, where data or patterns do not fit the net."""
    model = for_data(start, data) if isinstance(start, str) else start
    check_data(model, data)
    technique.check(model)


def check_work(model: Model, examples: int, most: int = MAX_OPERATIONS) -> None:
    """Raises UserError where the net takes more than `most` operations for so many examples.

    model : a Model or a Program, such as a stranger's file holds
    """
    each = model.operations()
    if each * examples > most:
        raise UserError(
            f"the net takes about {each:.1e} operations an example, {each * examples:.1e} for "
            f"{examples:,}: more than {most:.1e}; if that is meant, raise --max-operations")


def check_data(model: Model, data) -> None:
    """Raises UserError where the examples or classes of the data do not fit the model."""
    if data.train.x.shape[1:] != model.input_shape:
        raise UserError(
            f"data {data.name} has examples of shape {data.train.x.shape[1:]}, the model takes "
            f"{model.input_shape}"
        )
    outputs = list(model.shapes().values())[-1]
    if len(data.classes) > outputs[0]:
        raise UserError(
            f"data {data.name} has {len(data.classes)} classes, the model {outputs[0]} outputs"
        )
