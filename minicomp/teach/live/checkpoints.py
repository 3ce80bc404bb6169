"""Trained nets that lessons start from: trained once, kept with the recipe that made them.

A net is a recipe: a built-in model, the knobs of its training, a data set, a mode and a seed. Its
file bears a hash of all that, so a changed recipe trains a net of its own and never takes up an old
one.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from ...atomic import write_atomically
from ...compress.finetune import FineTune
from ...compress.technique import Run
from ...data.files import cache_dir
from ...models import MODELS
from ...nn.graph import Model

MODES = ("smoke", "full", "paper")
# epochs by mode; the learning rate falls along half a cosine. LeNet-5 has no ReLU after its
# convolutions and needs the smaller rate.
RECIPES = {
    "lenet300": {
        "model": "lenet300",
        "epochs": {"smoke": 3, "full": 8, "paper": 40},
        "lr": 0.03,
        "weight_decay": 5e-4,
    },
    "lenet5": {
        "model": "lenet5",
        "epochs": {"smoke": 2, "full": 3, "paper": 30},
        "lr": 0.01,
        "weight_decay": 5e-4,
    },
}


def recipe(name: str, data, *, mode: str, seed: int) -> dict:
    """Returns everything that decides the weights of a checkpoint, JSON-able."""
    plan = RECIPES[name]
    return {
        "net": plan["model"],
        "epochs": plan["epochs"][mode],
        "lr": plan["lr"],
        "batch_size": 64,
        "weight_decay": plan["weight_decay"],
        "schedule": "cosine",
        "data": data.name,
        "mode": mode,
        "train": len(data.train),
        "seed": seed,
    }


def file_of(how: dict) -> Path:
    """Returns the file of a recipe; it need not exist."""
    digest = hashlib.sha256(json.dumps(how, sort_keys=True).encode()).hexdigest()[:10]
    return cache_dir().parent / "lessons" / f"{how['net']}-{how['data']}-{how['mode']}-{digest}.npz"


def trained(how: dict, data, *, log: Callable[[dict], None] | None = None) -> Model:
    """Returns the net of a recipe, from its file or trained now (and then written)."""
    path = file_of(how)
    rng = np.random.default_rng([how["seed"], 300])
    model = MODELS[how["net"]](rng=rng)
    if path.is_file() and _load(model, path, how):
        return model
    train = FineTune(
        epochs=how["epochs"],
        lr=how["lr"],
        weight_decay=how["weight_decay"],
        batch_size=how["batch_size"],
        schedule=how["schedule"],
    )
    model = train.apply(model, data.without_test(), Run(rng, log=log))
    _save(model, path, how)
    return model


def _save(model: Model, path: Path, how: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    np.savez(
        buffer,
        recipe=np.frombuffer(json.dumps(how, sort_keys=True).encode(), np.uint8),
        **model.state_dict(),
    )
    write_atomically(path, buffer.getvalue())


def _load(model: Model, path: Path, how: dict) -> bool:
    # Whether the file was whole and of this recipe; otherwise it is trained and written again.
    try:
        with np.load(path, allow_pickle=False) as f:
            arrays = dict(f)
        if json.loads(arrays.pop("recipe").tobytes()) != how:
            return False
        model.load_state_dict(arrays)
        return True
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return False
