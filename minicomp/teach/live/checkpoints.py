"""Trained nets that lessons start from: trained once, kept as step files.

A net is a recipe: a built-in model, the knobs of its training, a data set, a mode, a seed and the
version of minicomp. Its file says of which recipe it is, and its name bears a hash of all that, so
a changed recipe trains a net of its own and never takes up an old one.
"""

from __future__ import annotations

import contextlib
import hashlib
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ... import __version__
from ...atomic import as_json
from ...checkpoint import fingerprint
from ...compress import stepfile
from ...compress.finetune import FineTune
from ...compress.technique import Run
from ...data.files import cache_dir
from ...errors import UserError
from ...models import for_data
from ...nn.graph import Model

MODES = ("smoke", "full", "paper")
# By built-in model: epochs by mode, learning rate, examples that an epoch of mode full has at least
# (batch norm needs steps; where data are few they pass several times). LeNet-5 has no ReLU after
# its convolutions and needs the smaller rate.
RECIPES = {
    "lenet300": ({"smoke": 3, "full": 8, "paper": 40}, 0.03, 0),
    "lenet5": ({"smoke": 2, "full": 3, "paper": 30}, 0.01, 0),
    "depthwise32": ({"smoke": 4, "full": 1, "paper": 30}, 0.05, 55_000),
}


def recipe(name: str, data, *, mode: str, seed: int) -> dict:
    """Returns everything that decides the weights of a checkpoint, JSON-able."""
    epochs, lr, least = RECIPES[name]
    passes = max(1, round(least / len(data.train))) if mode == "full" else 1
    knobs = {"epochs": passes * epochs[mode], "lr": lr, "batch_size": 64, "weight_decay": 5e-4}
    return {
        "net": name,
        "knobs": knobs | {"schedule": "cosine"},
        "data": data.name,
        "normalize": data.normalize,
        "mode": mode,
        "train": len(data.train),
        "seed": seed,
        "examples": fingerprint(data),
        "minicomp": __version__,
    }


def file_of(how: dict) -> Path:
    """Returns the file of a recipe; it need not exist."""
    digest = hashlib.sha256(as_json(how, sort_keys=True).encode()).hexdigest()[:16]
    name = f"{how['net']}-{how['data']}-{how['mode']}-{digest}.step"
    return cache_dir().parent / "lessons" / name


def trained(how: dict, data, *, log: Callable[[dict], None] | None = None) -> Model:
    """Returns the net of a recipe, from its file or trained now (and then written); with a warning
    where the file cannot be written."""
    path = file_of(how)
    with contextlib.suppress(UserError):  # absent, damaged, or of another recipe
        return stepfile.read(path, how)[0].thawed()
    rng = np.random.default_rng([how["seed"], 300])
    model = for_data(how["net"], data, rng=rng)
    model = FineTune(**how["knobs"]).apply(model, data.without_test(), Run(rng, log=log))
    try:
        stepfile.write(path, how, model, [], 0.0)
    except OSError as e:
        warnings.warn(
            f"the trained net cannot be kept in {path.parent} ({e.strerror or e}): it is trained "
            f"again each time; set XDG_CACHE_HOME to a folder that can be written", stacklevel=3)
    return model.thawed()
