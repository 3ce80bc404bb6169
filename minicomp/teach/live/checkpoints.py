"""Trained nets that lessons start from: trained once, kept as .mcz files.

A net is a recipe: a built-in model, the knobs of its training, a data set, a mode and a seed. Its
file's name bears a hash of all that, so a changed recipe trains a net of its own and never takes up
an old one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ...codec import load, save
from ...compress.finetune import FineTune
from ...compress.technique import Run
from ...data.files import cache_dir
from ...errors import FormatError
from ...models import for_data
from ...nn.graph import Model

MODES = ("smoke", "full", "paper")
# By built-in model: epochs by mode, learning rate. LeNet-5 has no ReLU after its convolutions and
# needs the smaller rate.
RECIPES = {
    "lenet300": ({"smoke": 3, "full": 8, "paper": 40}, 0.03),
    "lenet5": ({"smoke": 2, "full": 3, "paper": 30}, 0.01),
}


def recipe(name: str, data, *, mode: str, seed: int) -> dict:
    """Returns everything that decides the weights of a checkpoint, JSON-able."""
    epochs, lr = RECIPES[name]
    knobs = {"epochs": epochs[mode], "lr": lr, "batch_size": 64, "weight_decay": 5e-4}
    return {
        "net": name,
        "knobs": knobs | {"schedule": "cosine"},
        "data": data.name,
        "normalize": data.normalize,
        "mode": mode,
        "train": len(data.train),
        "seed": seed,
    }


def file_of(how: dict) -> Path:
    """Returns the file of a recipe; it need not exist."""
    digest = hashlib.sha256(json.dumps(how, sort_keys=True).encode()).hexdigest()[:16]
    return cache_dir().parent / "lessons" / f"{how['net']}-{how['data']}-{how['mode']}-{digest}.mcz"


def trained(how: dict, data, *, log: Callable[[dict], None] | None = None) -> Model:
    """Returns the net of a recipe, from its file or trained now (and then written)."""
    path = file_of(how)
    try:
        return load(path).thawed()
    except (OSError, FormatError):  # absent, damaged, or of an older version
        pass
    rng = np.random.default_rng([how["seed"], 300])
    model = for_data(how["net"], data, rng=rng)
    model = FineTune(**how["knobs"]).apply(model, data.without_test(), Run(rng, log=log))
    path.parent.mkdir(parents=True, exist_ok=True)
    save(model, path)
    return model.thawed()
