"""Recipes: a dense training and a pipeline, as TOML or as words on the command line.

    title = "..."                         [train]                      [[step]]
    source = "..."                        epochs = 10                  technique = "gradual"
                                          lr = 0.05                    sparsity = {'*' = 0.95, 'conv*' = 0.5}

A table named after a model, `[lenet5]`, replaces `train` and `step` for that model. On the command line
`magnitude:sparsity=0.9,sparsity@conv*=0.5` is one step.
"""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..models import MODELS
from .technique import FineTune, Pipeline, Technique

FOLDER = Path(__file__).parent / "recipes"


@dataclass(frozen=True)
class Recipe:
    """How the dense net is trained, and the steps that compress it."""

    name: str
    title: str
    source: str
    train: FineTune
    pipeline: Pipeline

    def faster(self, factor: float) -> Recipe:
        """Returns the recipe with every number of epochs times `factor`, at least 1."""
        return dataclasses.replace(self, train=_shorter(self.train, factor), pipeline=Pipeline(
            steps=tuple(_shorter(s, factor) for s in self.pipeline.steps)))


def recipes() -> list[str]:
    """Returns the names of the built-in recipes."""
    return sorted(p.stem for p in FOLDER.glob("*.toml"))


def load_recipe(name: str, model: str, techniques: Sequence[type[Technique]]) -> Recipe:
    """Returns the built-in recipe of that name, or the one in that TOML file, for a model.

    model : name of a built-in model; its own table in the recipe is used if there is one
    Raises UserError where it is neither, or the file is not a recipe.
    """
    path = FOLDER / f"{name}.toml"
    if not path.is_file():
        path = Path(name)
        if path.suffix != ".toml" or not path.is_file():
            raise UserError(f"recipe must be {' or '.join(recipes())} or a TOML file that exists, got {name!r}")
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as e:
        raise UserError(f"recipe {path} is not readable TOML: {e}") from None
    return parse_recipe(table, path.stem, model, techniques)


def parse_recipe(table: Mapping, name: str, model: str, techniques: Sequence[type[Technique]]) -> Recipe:
    """Returns the recipe that a parsed TOML table describes; UserError where it has unknown or missing parts."""
    unknown = set(table) - {"title", "source", "train", "step", *MODELS}
    if unknown:
        raise UserError(f"recipe {name}: unknown entry {', '.join(sorted(unknown))}; there are title, source, train, "
                        f"step and the models' names")
    table = {**table, **table.get(model, {})}
    steps = table.get("step", [])
    if not isinstance(steps, list) or not steps or not all(isinstance(s, Mapping) for s in steps):
        raise UserError(f"recipe {name}: at least one [[step]] must be given for {model}")
    made = [make_technique(s.get("technique"), {k: v for k, v in s.items() if k != "technique"}, techniques)
            for s in steps]
    return Recipe(name, str(table.get("title", name)), str(table.get("source", "")),
                  make_technique("finetune", table.get("train", {}), techniques), Pipeline(steps=tuple(made)))


def parse_with(texts: Sequence[str], techniques: Sequence[type[Technique]]) -> Pipeline:
    """Returns the pipeline of `WORD:knob=value,knob@pattern=value` texts, in order."""
    steps = []
    for text in texts:
        word, _, rest = text.partition(":")
        knobs: dict[str, Any] = {}
        for part in filter(None, rest.split(",")):
            key, equals, value = part.partition("=")
            if not equals:
                raise UserError(f"{text}: knobs must be written knob=value, got {part!r}")
            knob, at, pattern = key.partition("@")
            known = knobs.get(knob)
            if at:
                default = {} if known is None else {"*": known}
                knobs[knob] = {**(known if isinstance(known, dict) else default), pattern: _value(value)}
            else:
                knobs[knob] = {"*": _value(value), **known} if isinstance(known, dict) else _value(value)
        steps.append(make_technique(word, knobs, techniques))
    return Pipeline(steps=tuple(steps))


def make_technique(word, knobs: Mapping[str, Any], techniques: Sequence[type[Technique]]) -> Technique:
    """Returns the technique called `word` with these knobs; UserError names the nearest words or knobs."""
    by_word = {t.word: t for t in techniques}
    if word not in by_word:
        raise UserError(f"unknown technique {str(word)!r}{_nearest(str(word), by_word)}")
    kind = by_word[word]
    for name in knobs:
        if name not in kind.knobs():
            raise UserError(f"{word}: unknown knob {name!r}{_nearest(name, kind.knobs())}")
    return kind(**knobs)


def _nearest(word: str, known) -> str:
    near = difflib.get_close_matches(word, list(known), n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(near)}?" if near else f"; there are {', '.join(known)}"


def _value(text: str) -> Any:
    # The text of a knob as bool, None, int, float or text.
    named = {"true": True, "false": False, "none": None}
    if text.lower() in named:
        return named[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _shorter(step: Technique, factor: float) -> Technique:
    if "epochs" not in step.knobs() or not step.epochs:
        return step
    return dataclasses.replace(step, epochs=max(1, round(step.epochs * factor)))
