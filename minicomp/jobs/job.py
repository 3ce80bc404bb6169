"""The main job: train a dense net, run a recipe on it, and keep what happened at every step.

With a checkpoint folder the job can be stopped at any time; it goes on where it was,
ending in the same bits.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..atomic import write_atomically
from ..codec import load, save
from ..compress.technique import Run, Technique
from ..errors import UserError
from ..models import MODELS
from ..nn.graph import Model
from .budget import Budgeted
from .recipe import Recipe


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
    model = MODELS[start](rng=init) if isinstance(start, str) else start
    check_data(model, data)
    done = None if checkpoint is None else Path(checkpoint) / "00-dense.mcz"
    if done is not None and done.exists():
        return load(done)
    run = Run(stream, log, checkpoint, n_threads).child("00-dense")
    model = recipe.train.apply(model, data, run)
    if done is not None:
        done.parent.mkdir(parents=True, exist_ok=True)
        save(model, done)
    return model


def run(start: str | Model, data, recipe: Recipe, *, seed: int, max_bytes: int | None = None,
        log: Callable[[dict], None] | None = None, checkpoint: Path | None = None,
        n_threads: int = 1) -> Job:
    """Returns the Job of a recipe: the dense net, trained if `start` is a name, then each step.

    data : has `train` and `val`        max_bytes : a budget for the file, or None
    """
    log, epochs = log or (lambda row: None), []

    def listen(row: dict) -> None:
        if row.get("event") == "epoch":
            epochs.append({"stage": current[0], **row})
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
    model = MODELS[start]() if isinstance(start, str) else start
    check_data(model, data)
    technique.check(model)


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


def open_checkpoint(folder: Path, settings: dict, restart: bool = False) -> Path:
    """Returns the folder after making sure that it belongs to a run of the same settings.

    Steps that have not begun may be others: whoever corrects a knob keeps the training before it.
    settings : JSON-able        restart : remove what another run left there
    Raises UserError where it holds another run and `restart` is not set, or is a file.
    """
    note, settings = folder / "run.json", json.loads(json.dumps(settings))
    if folder.exists() and not folder.is_dir():
        raise UserError(
            f"{folder} is a file; a run keeps its unfinished state in a folder of that name"
        )
    if restart:
        remove_checkpoint(folder)
    known = _read(note)
    if known is None and (note.exists() or any(folder.glob("??-*.mcz"))):
        raise UserError(
            f"{folder} holds an unfinished run whose settings cannot be read; "
            f"discard it with --restart"
        )
    if known is not None and known != settings and not _differ_ahead(known, settings, folder):
        raise UserError(
            f"{folder} holds an unfinished run with other settings "
            f"({_differing(known, settings)}); "
            f"finish it with those, or discard it with --restart"
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(note, json.dumps(settings).encode())
    return folder


def _differ_ahead(known: dict, settings: dict, folder: Path) -> bool:
    # Whether the settings differ in nothing but steps that have left nothing in the folder.
    if any(known.get(k) != settings.get(k) for k in {**known, **settings} if k != "steps"):
        return False
    if any(folder.glob("attempt-*")):
        return False
    begun = max((int(p.name[:2]) for p in folder.glob("[0-9][0-9]-*")), default=0)
    return known.get("steps", [])[:begun] == settings.get("steps", [])[:begun]


def _differing(known: dict, settings: dict) -> str:
    # "seed: 0 there, 1 here" for plain values, the bare name for tables and lists.
    names = [k for k in {**known, **settings} if known.get(k) != settings.get(k)]
    return ", ".join(
        k if isinstance(known.get(k), (dict, list)) or isinstance(settings.get(k), (dict, list))
        else f"{k}: {known.get(k)} there, {settings.get(k)} here" for k in names
    )


# What a run writes: settings, the state of a training, models after steps, and each half written.
_NAME = r"(run\.json|fit\.npz|\d\d-[a-z0-9+-]+\.(mcz|json))"
_OWN = re.compile(rf"{_NAME}|\.{_NAME}\.[0-9a-f]+\.tmp")


def remove_checkpoint(folder: Path) -> None:
    """Removes a checkpoint folder: the files that a run writes, and the folders left empty."""
    for path in sorted(folder.rglob("*"), key=lambda p: -len(p.parts)):
        if path.is_symlink():
            continue
        if path.is_dir():
            if not any(path.iterdir()):
                path.rmdir()
        elif _OWN.fullmatch(path.name):
            path.unlink()
    if folder.is_dir() and not folder.is_symlink() and not any(folder.iterdir()):
        folder.rmdir()


def _read(note: Path) -> dict | None:
    try:
        known = json.loads(note.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return known if isinstance(known, dict) else None
