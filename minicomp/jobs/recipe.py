"""Recipes: a dense training and a pipeline, as TOML or as words on the command line.

    title = "..."            [train]            [[step]]
    source = "..."           epochs = 10        technique = "gradual"
                             lr = 0.05          sparsity = {'*' = 0.95, 'conv*' = 0.5}

A table named after a model, `[lenet5]`, replaces `train` and `step` for that model. On the command
line `magnitude:sparsity=0.9,sparsity@conv*=0.5` is one step.
"""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..atomic import read_text
from ..compress.finetune import FineTune, Rounds, Trained
from ..compress.technique import Pipeline, Technique
from ..errors import UserError, did_you_mean, printable
from ..models import MODELS

MAX_BYTES, MAX_DEPTH, MAX_DOTS = 2**16, 16, 100  # of a recipe; its values; a line of it
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


def load_recipe(name: str, model: str, techniques: Sequence[type[Technique]], *,
                pipeline: Pipeline | None = None) -> Recipe:
    """Returns the built-in recipe of that name, or the one in that TOML file, for a model.

    model : name of a built-in model; its own table in the recipe is used if there is one
    pipeline : takes the place of the recipe's steps, of which only the training is then used
    Raises UserError where it is neither, or the file is not a recipe.
    """
    return parse_recipe(*read_recipe(name), model, techniques, pipeline=pipeline)


def read_recipe(name: str) -> tuple[dict, str]:
    """Returns the parsed TOML of the built-in recipe of that name, or of that file, and what to
    call it; UserError where it is neither, or no TOML."""
    path = FOLDER / f"{name}.toml"
    if not path.is_file():
        path = Path(name)
        if path.suffix != ".toml" or not path.is_file():
            raise UserError(
                f"recipe must be {' or '.join(recipes())} or a TOML file that exists, "
                f"got {printable(repr(name))}"
            )
    return _table(path), printable(path.stem, 80)


def _table(path: Path) -> dict:
    # What a TOML file holds. tomllib takes time with the square of a dotted key's parts, and nests
    # and counts without a limit: UserError before, or after, it would.
    where = f"recipe {printable(path)}"
    try:
        text = read_text(path, max_bytes=MAX_BYTES)
    except (UserError, OSError) as e:
        raise UserError(f"{where} is not readable TOML: {printable(e)}") from None
    if any(line.count(".") > MAX_DOTS for line in text.splitlines()):
        raise UserError(f"{where}: a line must have at most {MAX_DOTS} dots")
    try:
        table = tomllib.loads(text)
    except RecursionError:
        raise UserError(f"{where}: values must nest at most {MAX_DEPTH} deep") from None
    except ValueError as e:
        raise UserError(f"{where} is not readable TOML: {printable(e)}") from None
    level = [table]
    for _ in range(MAX_DEPTH):
        level = [v for held in level for v in (held.values() if isinstance(held, dict) else held)]
        for value in level:
            if isinstance(value, int) and abs(value) >= 2**63:
                raise UserError(f"{where}: an integer must be below 2**63")
        level = [value for value in level if isinstance(value, (dict, list))]
    if level:
        raise UserError(f"{where}: values must nest at most {MAX_DEPTH} deep")
    return table


def parse_recipe(table: Mapping, name: str, model: str, techniques: Sequence[type[Technique]], *,
                 pipeline: Pipeline | None = None) -> Recipe:
    """Returns the recipe of a parsed TOML table; UserError for unknown or missing parts."""
    _check_entries(f"recipe {name}", table, ("title", "source", "train", "step", *MODELS))
    for other in set(table) & set(MODELS):
        _check_entries(f"recipe {name}: {other}", table[other], ("train", "step"))
    own = {**table, **table.get(model, {})}
    train, steps = own.get("train", {}), own.get("step", [])
    if not isinstance(train, Mapping):
        raise UserError(f"recipe {name}: train must be a table of knobs, "
                        f"got {printable(repr(train), 80)}")
    if pipeline is None:
        if not isinstance(steps, list) or not all(isinstance(s, Mapping) for s in steps):
            raise UserError(
                f"recipe {name}: step must be written as tables [[step]], "
                f"got {printable(repr(steps), 80)}"
            )
        if not steps:
            having = [
                m for m in MODELS if isinstance(table.get(m), Mapping) and table[m].get("step")
            ]
            raise UserError(f"recipe {name} has no [[step]] for {model}"
                            + (f"; it has them for {', '.join(having)}" if having else ""))
        pipeline = Pipeline(steps=tuple(
            _step(f"recipe {name}: step {i}", s.get("technique"), s, techniques)
            for i, s in enumerate(steps, start=1)
        ))
    return Recipe(name, str(table.get("title", name)), str(table.get("source", "")),
                  _step(f"recipe {name}: train", "finetune", train, techniques), pipeline)


def _check_entries(where: str, table, known: Sequence[str]) -> None:
    if not isinstance(table, Mapping):
        raise UserError(f"{where} must be a table, got {printable(repr(table), 80)}")
    if unknown := sorted(set(table) - set(known)):
        raise UserError(
            f"{where}: unknown entry {printable(', '.join(unknown), 80)}; "
            f"there are {', '.join(known)}"
        )


def _step(where: str, word, table: Mapping, techniques: Sequence[type[Technique]]) -> Technique:
    if not isinstance(word, str):
        raise UserError(f"{where}: technique must be a text, got {printable(repr(word), 80)}")
    try:
        return make_technique(
            word, {k: v for k, v in table.items() if k != "technique"}, techniques
        )
    except UserError as e:
        raise UserError(f"{where}: {e}") from None


def parse_with(texts: Sequence[str], techniques: Sequence[type[Technique]]) -> Pipeline:
    """Returns the pipeline of `WORD:knob=value,knob@pattern=value` texts, in order.

    `A:knob=value+B:knob=value` trains together; knobs of the training may stand with either.
    """
    known = "|".join(re.escape(t.word) for t in techniques)
    steps = []
    for text in texts:
        words, knobs = [], {}
        parts = re.split(rf"\+(?=\s*(?:{known})\s*(?:[:+]|$))", text)
        for part in parts:
            word, _, rest = (t.strip() for t in part.partition(":"))
            words.append(word)
            for name, value in parse_knobs(rest, text).items():
                own = len(parts) > 1 and name not in FineTune.knobs()
                name = f"{word}.{name}" if own else name
                if name in knobs and knobs[name] != value:
                    raise UserError(
                        f"{text}: {name} of the training is given as {knobs[name]!r} and {value!r}"
                    )
                knobs[name] = value
        steps.append(make_technique("+".join(words), knobs, techniques))
    return Pipeline(steps=tuple(steps))


def parse_knobs(text: str, where: str) -> dict[str, Any]:
    """Returns the knobs of `knob=value,knob@pattern=value`; a plain value beside patterns holds
    where none matches.

    where : what messages begin with
    Raises UserError for a part that is not knob=value, or given twice.
    """
    plain: dict[str, Any] = {}
    by_pattern: dict[str, dict[str, Any]] = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        key, equals, value = (t.strip() for t in part.partition("="))
        if not (equals and key):
            raise UserError(f"{where}: knobs must be written knob=value, got {part!r}")
        knob, at, pattern = key.partition("@")
        group, entry = (by_pattern.setdefault(knob, {}), pattern) if at else (plain, knob)
        if entry in group:
            raise UserError(f"{where}: {key} is given twice")
        group[entry] = _value(value)
    mixed = {knob: {"*": plain[knob]} | patterns if knob in plain else patterns
             for knob, patterns in by_pattern.items()}
    return plain | mixed


def make_technique(
    word: str, knobs: Mapping[str, Any], techniques: Sequence[type[Technique]]
) -> Technique:
    """Returns the technique called `word`, or the training of several, "dns+slimming".

    knobs : of a technique, or of the training it takes part in; where two techniques of a training
        have one of the same name it is written with its word, "slimming.sparsity"
    Raises UserError that names the nearest words or knobs.
    """
    by_word = {t.word: t for t in techniques}
    kinds = []
    for each in word.split("+"):
        if not each:
            raise UserError(
                "a technique must be named" + (f" on either side of each + in {word!r}" if word
                                               else f", got none; there are {', '.join(by_word)}")
            )
        if each not in by_word:
            raise UserError(f"unknown technique {printable(repr(each), 80)}"
                            + did_you_mean(each[:80], by_word))
        kinds.append(by_word[each])
    if len(kinds) == 1 and not issubclass(kinds[0], (Trained, Rounds)):
        return kinds[0](**_owned(word, kinds, knobs, [])[0])
    *own, training = _owned(word, kinds, knobs, list(FineTune.knobs()))
    if len(kinds) == 1 and issubclass(kinds[0], Rounds):
        return kinds[0](**own[0], train=FineTune(**training))
    return FineTune(methods=tuple(kind(**mine) for kind, mine in zip(kinds, own)), **training)


def _owned(
    word: str, kinds: Sequence[type[Technique]], knobs: Mapping, training: list[str]
) -> list[dict]:
    # The knobs of each technique, and of the training.
    found: list[dict] = [{} for _ in kinds] + [{}]
    for key, value in knobs.items():
        prefix, _, name = key.rpartition(".")
        owners = [
            i for i, kind in enumerate(kinds) if name in kind.knobs() and prefix in ("", kind.word)
        ]
        if not owners and key in training:
            owners = [len(kinds)]
        if not owners:
            known = [k for kind in kinds if prefix in ("", kind.word) for k in kind.knobs()]
            raise UserError(f"{word}: unknown knob {printable(repr(key), 80)}"
                            + did_you_mean(
                                name[:80], known + ([] if known and prefix else training)))
        if len(owners) > 1:
            raise UserError(
                f"{word}: {key} may be of {' or '.join(kinds[i].word for i in owners)}; "
                f"write {kinds[owners[0]].word}.{key}"
            )
        found[owners[0]][name] = value
    return found


def _value(text: str) -> Any:
    # The text of a knob as bool, None, int, float or text.
    named = {"true": True, "false": False, "none": None}
    if text.lower() in named:
        return named[text.lower()]
    for kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            continue
        if kind is int and abs(number) >= 2**63:
            raise UserError(f"an integer must be below 2**63, got {printable(text, 40)}")
        return number
    return text


def _shorter(step: Technique, factor: float) -> Technique:
    if isinstance(step, Rounds):
        return dataclasses.replace(step, train=_shorter(step.train, factor))
    if not isinstance(step, FineTune) or not step.epochs:
        return step
    return dataclasses.replace(step, epochs=max(1, round(step.epochs * factor)))
