"""What a technique is: a frozen dataclass, its fields the paper's knobs, and one method, `apply`.

A knob is a value, or a mapping from pattern (fnmatch on node names, the last match wins) to value.
A pipeline is a list of techniques and itself one: Deep Compression is [magnitude, finetune,
kmeans, finetune].
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import numbers
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..atomic import write_atomically
from ..codec import load, save
from ..errors import UserError
from ..nn.graph import Model
from ..train import evaluate

Log = Callable[[dict], None]


def silent(row: dict) -> None:
    """Does nothing with a row of a log."""


@dataclass(frozen=True)
class Run:
    """What a technique runs in.

    rng : of everything it draws        log : called with rows, {"event": ..., ...}
    checkpoint : a folder to resume from, or None        n_threads : at most so many
    """

    rng: np.random.Generator
    log: Log = silent
    checkpoint: Path | None = None
    n_threads: int = 1

    def __post_init__(self):
        object.__setattr__(self, "log", self.log or silent)

    def child(self, name: str, rng: np.random.Generator | None = None) -> Run:
        """Returns the run of a part: a folder `name` in this one's, this rng or its own."""
        inner = None if self.checkpoint is None else Path(self.checkpoint) / name
        return replace(self, rng=rng or self.rng, checkpoint=inner)


@dataclass(frozen=True)
class Knob:
    """What a knob allows: `type` within lo..hi (hi itself unless `below`), or one of `choices`;
    None too where it is `optional`."""

    type: type
    help: str
    lo: float | None = None
    hi: float | None = None
    below: bool = False
    choices: tuple[str, ...] = ()
    optional: bool = False
    per_layer: bool = False

    def check(self, name: str, value: Any) -> Any:
        """Returns the value in the knob's type; UserError names the knob, the range, the value."""
        if value is None and self.optional:
            return None
        if self.choices and value not in self.choices:
            raise UserError(f"{name} must be one of {', '.join(self.choices)}, got {value!r}")
        if (
            self.type in (int, float)
            and isinstance(value, _NUMBER[self.type])
            and not isinstance(value, bool)
        ):
            value = self.type(value)
        limited = self.lo is not None or self.hi is not None
        if type(value) is not self.type or self.type is float and not math.isfinite(value):
            raise UserError(
                f"{name} must be {_ARTICLE[self.type]}{f' in {self.range()}' if limited else ''}, "
                f"got {value!r}"
            )
        if self.lo is not None and value < self.lo or self.hi is not None and (
                value >= self.hi if self.below else value > self.hi):
            raise UserError(f"{name} must be in {self.range()}, got {value!r}")
        return value

    def range(self) -> str:
        """Returns the range as written in messages: "[0, 1)"."""
        lo = "(-inf" if self.lo is None else f"[{self.lo:g}"
        hi = "inf)" if self.hi is None else f"{self.hi:g}{')' if self.below else ']'}"
        return f"{lo}, {hi}"


_NUMBER = {int: numbers.Integral, float: numbers.Real}
_ARTICLE = {float: "a number", int: "an integer", bool: "true or false", str: "a text"}


def knob(default, help: str, **limits) -> Any:
    """Returns a dataclass field that is a knob: its default, a line of help, its `Knob` limits."""
    kind = limits.pop("type", str if default is None else type(default))
    return field(default=default, metadata={"knob": Knob(kind, help, **limits)})


@dataclass(frozen=True)
class Technique:
    """The contract: knobs as fields, checked when made; `apply` returns another model."""

    word: ClassVar[str]          # its name on the command line
    title: ClassVar[str]         # its full name
    source: ClassVar[str] = ""   # authors, year and title of the paper; "" where there is none

    def __post_init__(self):
        for name, limits in self.knobs().items():
            value, full = getattr(self, name), f"{self.word}: {name}"
            if isinstance(value, Mapping):
                if not limits.per_layer:
                    raise UserError(
                        f"{full} is one value for the whole model, "
                        f"got one by pattern: {dict(value)}"
                    )
                if not value:
                    raise UserError(f"{full} by pattern needs at least one pattern, got none")
                value = {p: limits.check(f"{full}@{p}", v) for p, v in value.items()}
            else:
                value = limits.check(full, value)
            object.__setattr__(self, name, value)

    @classmethod
    def knobs(cls) -> dict[str, Knob]:
        """Returns the knobs by name."""
        return {f.name: f.metadata["knob"] for f in dataclasses.fields(cls) if "knob" in f.metadata}

    def settings(self) -> dict:
        """Returns the knobs' values, JSON-able."""
        return {name: getattr(self, name) for name in self.knobs()}

    def at(self, name: str, node: str):
        """Returns a knob's value at a node: the last pattern that matches, else its default."""
        value = getattr(self, name)
        if not isinstance(value, Mapping):
            return value
        matching = [v for pattern, v in value.items() if fnmatchcase(node, pattern)]
        return matching[-1] if matching else type(self).__dataclass_fields__[name].default

    def targets(self, model: Model) -> list[str]:
        """Returns the names of the nodes it may change: what a pattern can match."""
        return [n.name for n in model.nodes if n.layer.forms]

    @property
    def name(self) -> str:
        """What logs and folders call it: its word."""
        return self.word

    def check(self, model: Model) -> None:
        """Raises UserError, before anything is trained, where the technique cannot work on the
        model: a pattern that matches none of its `targets`."""
        nodes = self.targets(model)
        for name in self.knobs():
            value = getattr(self, name)
            for pattern in value if isinstance(value, Mapping) else ():
                if not any(fnmatchcase(n, pattern) for n in nodes):
                    raise UserError(
                        f"{self.word}: {name}@{pattern} matches no layer; "
                        f"there are {', '.join(nodes)}"
                    )

    def apply(self, model: Model, data, run: Run) -> Model:
        """Returns the compressed model; the model passed in is untouched.

        data : has `train` and `val`        run : rng, log, checkpoint, n_threads
        Raises UserError where the model, the data or a knob do not fit.
        """
        self.check(model)
        return self.change(model.copy(), data, run)

    def change(self, model: Model, data, run: Run) -> Model:
        """Returns what becomes of `model`, a copy that may be changed in place."""
        raise NotImplementedError

    def sketch(self, model: Model, *, rng: np.random.Generator) -> Model:
        """Returns the model with the forms of `apply`, without training: to estimate bytes."""
        return self.apply(model, None, Run(rng))


@dataclass(frozen=True)
class Pipeline(Technique):
    """Techniques one after the other; each hands on a model whose forms are frozen."""

    word: ClassVar[str] = "pipeline"
    title: ClassVar[str] = "Pipeline"

    steps: tuple[Technique, ...] = ()

    def settings(self) -> dict:
        return {"steps": [{"name": s.name, **s.settings()} for s in self.steps]}

    def check(self, model):
        for step in self.steps:
            step.check(model)

    def change(self, model, data, run):
        # Each step draws from a stream of its own, so that a resumed run ends in the same bits.
        streams = run.rng.spawn(len(self.steps))
        for i, (step, stream) in enumerate(zip(self.steps, streams), start=1):
            start, part = time.perf_counter(), run.child(f"{i:02d}-{step.name}", stream)
            done = (
                None if run.checkpoint is None
                else part.checkpoint.with_name(f"{part.checkpoint.name}.mcz")
            )
            run.log({"event": "start", "name": step.name, "index": i, "of": len(self.steps)})
            note = None if done is None else _note(step, model, stream)
            if done is not None and done.exists():
                _check_note(done, note)
                model = load(done)
            else:
                model = step.apply(model, data, part).frozen()
                if done is not None:
                    done.parent.mkdir(parents=True, exist_ok=True)
                    write_atomically(done.with_suffix(".json"), json.dumps(note).encode())
                    save(model, done)
            val = evaluate(model, data.val, n_threads=run.n_threads)
            run.log({"event": "step", "name": step.name, "index": i, "knobs": step.settings(),
                     "errors": val.errors, "size": val.size, "sparsity": sparsity(model),
                     "seconds": time.perf_counter() - start, "model": model})
        return model

    def sketch(self, model, *, rng):
        for step, stream in zip(self.steps, rng.spawn(len(self.steps))):
            model = step.sketch(model, rng=stream)
        return model


def _note(step: Technique, start: Model, rng: np.random.Generator) -> dict:
    # What stands beside the model that a step left: of which step and start, as JSON gives it back.
    seed, digest = rng.bit_generator.seed_seq, hashlib.sha256(json.dumps(start.spec()).encode())
    for name, a in start.frozen().state_dict().items():
        digest.update(name.encode() + a.tobytes())
    note = {"step": step.name, "knobs": step.settings(), "start": digest.hexdigest()[:16],
            "seed": f"{seed.entropy} {seed.spawn_key}"}
    return json.loads(json.dumps(note, default=str))


def _check_note(done: Path, note: dict) -> None:
    # Raises UserError where the step that left `done` was another one.
    path = done.with_suffix(".json")
    known = json.loads(path.read_bytes()) if path.is_file() else {}
    if known != note:
        other = ", ".join(k for k in note if known.get(k) != note[k])
        raise UserError(f"checkpoint {done} is of another run ({other}); delete it to start again")


def masked(model: Model, masks: dict[str, np.ndarray]) -> Model:
    """Returns a copy of the model with masks (True where kept) on the named forms.

    A mask that is there already stays: an entry is kept only where both keep it.
    Raises UserError for a form that cannot carry a mask, such as a Codebook without a pinned zero.
    """
    model = model.copy()
    for name, mask in masks.items():
        try:
            model.set_form(name, model.forms()[name].masked(mask))
        except ValueError as e:
            raise UserError(f"{name}: {e}") from None
    return model


def check_movable(word: str, model: Model, names: Iterable[str] | None = None) -> None:
    """Raises UserError for a form whose entries cannot move alone: a shared one.

    names : of the forms; None: of all `weights`
    """
    for name in weights(model).values() if names is None else names:
        form = model.forms()[name]
        if not form.movable:
            raise UserError(
                f"{word}: {name} must hold plain values, of which each can move, got a "
                f"{form.kind}; prune before sharing"
            )


def one_for_all(word: str, scope: str, sparsity, rest: str = "") -> None:
    """Raises UserError where all layers are ranked together and the sparsity is not one number.

    word : of the technique        rest : of the message, what else the scope needs
    """
    if scope == "global" and not isinstance(sparsity, float):
        rest = rest or (", got one by pattern" if isinstance(sparsity, Mapping) else "")
        raise UserError(f"{word}: scope global needs one sparsity for all layers{rest}")


def weights(model: Model) -> dict[str, str]:
    """Returns {node name: form name} of the weights to prune and share: of two axes or more."""
    return {name.rsplit(".", 1)[0]: name for name, form in model.forms().items()
            if name.endswith(".weight") and len(form.shape) > 1}


def kept(model: Model) -> float:
    """Returns the fraction of weights (of at least two axes) that are not 0, in 0..1."""
    forms = [model.forms()[name] for name in weights(model).values()]
    total = sum(int(np.prod(f.shape)) for f in forms)
    return sum(f.nonzeros() for f in forms) / total if total else 1.0


def sparsity(model: Model) -> float:
    """Returns the fraction of weights (of at least two axes) that are 0, in 0..1."""
    return 1 - kept(model)


def masks(model: Model) -> dict[str, np.ndarray]:
    """Returns the mask of every form that has one, by name."""
    return {name: form.mask for name, form in model.forms().items() if form.mask is not None}
