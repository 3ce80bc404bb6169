"""The public doors as a user calls them, for mypy: the types that come out are what they say."""

from pathlib import Path
from typing import assert_type

import numpy as np

import minicomp
from minicomp import data, deploy, models
from minicomp.codec import Shown
from minicomp.compress import FineTune, KMeans, Magnitude, Pipeline, Run
from minicomp.nn import Form, Model
from minicomp.train import Score, evaluate


def train_prune_save(folder: Path) -> None:
    rng = np.random.default_rng(0)
    digits = assert_type(data.load("glyphs"), data.Dataset)
    net = assert_type(models.for_data("lenet300", digits, rng=rng), Model)
    recipe = Pipeline(steps=(Magnitude(sparsity=0.9), FineTune(epochs=1), KMeans(bits=4)))
    small = assert_type(recipe.apply(net, digits, Run(rng, log=print)), Model)
    assert_type(evaluate(small, digits.val), Score)
    assert_type(minicomp.save(small, folder / "small.mcz"), int)
    assert_type(minicomp.load(folder / "small.mcz"), Model | deploy.Program)
    assert_type(minicomp.show(folder / "small.mcz"), Shown)
    assert_type(small.forms(), dict[str, Form])
    assert_type(minicomp.passport.passport(small).ratio, float | None)
    plan = deploy.lower(small).plan(batch=1)
    plan(digits.val.x[:1])


def wrong_words() -> None:
    data.load(3)  # type: ignore[arg-type]
    minicomp.save("not a model", "f.mcz")  # type: ignore[arg-type]
    Magnitude(sparsity=0.9).apply(None, None, None)  # type: ignore[arg-type]
