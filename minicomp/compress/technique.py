"""What a technique is: a frozen dataclass whose fields are the paper's knobs, and one method, `apply`.

A knob is a value, or a mapping from pattern (fnmatch on node names, the last match wins) to value. A pipeline
is a list of techniques and itself one: Deep Compression is [magnitude, finetune, kmeans, finetune].
"""

from __future__ import annotations

import dataclasses
import math
import numbers
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..data.augment import Augment
from ..errors import UserError
from ..nn.graph import Model
from ..nn.losses import cross_entropy
from ..optim import OPTIMIZERS, SCHEDULES
from ..train import evaluate, fit, scale_dropout

Log = Callable[[dict], None]


@dataclass(frozen=True)
class Knob:
    """What a knob allows: `type` within lo..hi (hi itself unless `below`), one of `choices`, or None if optional."""

    type: type
    help: str
    lo: float | None = None
    hi: float | None = None
    below: bool = False
    choices: tuple[str, ...] = ()
    optional: bool = False
    per_layer: bool = False

    def check(self, name: str, value: Any) -> Any:
        """Returns the value in the knob's type; UserError names the knob, the range and what was given."""
        if value is None and self.optional:
            return None
        if self.choices and value not in self.choices:
            raise UserError(f"{name} must be one of {', '.join(self.choices)}, got {value!r}")
        if self.type in (int, float) and isinstance(value, _NUMBER[self.type]) and not isinstance(value, bool):
            value = self.type(value)
        limited = self.lo is not None or self.hi is not None
        if type(value) is not self.type or self.type is float and not math.isfinite(value):
            raise UserError(f"{name} must be {_ARTICLE[self.type]}{f' in {self.range()}' if limited else ''}, "
                            f"got {value!r}")
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
    """Returns a dataclass field that is a knob: its default, one line of help, and its `Knob` limits."""
    kind = limits.pop("type", str if default is None else type(default))
    return field(default=default, metadata={"knob": Knob(kind, help, **limits)})


@dataclass(frozen=True)
class Technique:
    """The contract: knobs as fields, checked when made; `apply` returns another model, its argument untouched."""

    word: ClassVar[str]          # its name on the command line
    title: ClassVar[str]         # its full name
    source: ClassVar[str] = ""   # authors, year and title of the paper; "" where there is none

    def __post_init__(self):
        for name, limits in self.knobs().items():
            value, full = getattr(self, name), f"{self.word}: {name}"
            if isinstance(value, Mapping):
                if not limits.per_layer:
                    raise UserError(f"{full} is one value for the whole model, got one by pattern: {dict(value)}")
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
        """Returns a knob's value at a node: the last pattern that matches, else the knob's default."""
        value = getattr(self, name)
        if not isinstance(value, Mapping):
            return value
        matching = [v for pattern, v in value.items() if fnmatchcase(node, pattern)]
        return matching[-1] if matching else type(self).__dataclass_fields__[name].default

    def targets(self, model: Model) -> list[str]:
        """Returns the names of the nodes that the technique may change: what a pattern can match."""
        return [n.name for n in model.nodes if n.layer.forms]

    def check_patterns(self, model: Model) -> None:
        """Raises UserError for a pattern that matches none of the `targets`."""
        nodes = self.targets(model)
        for name in self.knobs():
            value = getattr(self, name)
            for pattern in value if isinstance(value, Mapping) else ():
                if not any(fnmatchcase(n, pattern) for n in nodes):
                    raise UserError(f"{self.word}: {name}@{pattern} matches no layer; there are {', '.join(nodes)}")

    def apply(self, model: Model, data, *, rng: np.random.Generator, log: Log | None = None,
              checkpoint: Path | None = None, n_threads: int = 1) -> Model:
        """Returns the compressed model; the model passed in is untouched.

        data : has `train` and `val`        checkpoint : a folder to resume from, or None
        """
        raise NotImplementedError

    def sketch(self, model: Model, *, rng: np.random.Generator) -> Model:
        """Returns the model as `apply` would leave its forms, without training: for estimates of bytes."""
        return self.apply(model, None, rng=rng)


@dataclass(frozen=True)
class FineTune(Technique):
    """Training of whatever the forms leave trainable: kept weights, centroids. Also trains a net from scratch."""

    word: ClassVar[str] = "finetune"
    title: ClassVar[str] = "Fine-tuning"

    epochs: int = knob(4, "passes over the training data", lo=0)
    lr: float = knob(0.01, "learning rate", lo=1e-9)
    optimizer: str = knob("sgd", "sgd (momentum), adam, adamw or adamax", choices=tuple(OPTIMIZERS))
    momentum: float = knob(0.9, "momentum of sgd", lo=0, hi=1, below=True)
    nesterov: bool = knob(False, "Nesterov's momentum in sgd")
    weight_decay: float = knob(0.0, "L2 regularisation: lambda of lambda/2 |w|^2", lo=0.0)
    batch_size: int = knob(64, "examples a step", lo=1)
    schedule: str = knob("cosine", "of the learning rate", choices=tuple(SCHEDULES))
    shift: int = knob(0, "augmentation: random shift by up to so many pixels", lo=0)
    cutout: int = knob(0, "augmentation: side of a random square filled with 0, pixels", lo=0)
    label_smoothing: float = knob(0.0, "part of the target spread over all classes", lo=0.0, hi=1.0, below=True)
    dropout: bool = knob(True, "rescale dropout by sqrt(kept weights) (Han et al. 2015, eq. (2))")
    keep_best: bool = knob(False, "end with the epoch of fewest validation errors")
    patience: int | None = knob(None, "stop after so many epochs without improvement", type=int, lo=1, optional=True)

    def apply(self, model, data, *, rng, log=None, checkpoint=None, n_threads=1):
        # The scaled dropout is that of this training alone: the model keeps D_o, which later steps scale anew.
        model = thawed(model)
        tuned = scale_dropout(model, kept(model) ** 0.5) if self.dropout else model  # shares every other layer
        self.fit(tuned, data, rng=rng, log=log, checkpoint=checkpoint, n_threads=n_threads)
        return model

    def sketch(self, model, *, rng):
        return model

    def make_optimizer(self, model: Model):
        """Returns the optimizer that the knobs describe."""
        extra = {"momentum": self.momentum, "nesterov": self.nesterov} if self.optimizer == "sgd" else {}
        return OPTIMIZERS[self.optimizer](model.parameters(), lr=self.lr, weight_decay=self.weight_decay, **extra)

    def fit(self, model: Model, data, *, rng, log=None, checkpoint=None, n_threads=1, events=None,
            best_from=0) -> list[dict]:
        """Trains the model in place with further events; returns the history of `train.fit`.

        data : may have `black`, the value of what a shift brings in, else 0
        """
        smooth = {"loss": lambda s: cross_entropy(s.output, s.batch[1], label_smoothing=self.label_smoothing)}
        return fit(model, data, epochs=self.epochs, optimizer=self.make_optimizer(model), rng=rng,
                   batch_size=self.batch_size, schedule=SCHEDULES[self.schedule](),
                   events=smooth | (events or {}),
                   augment=Augment(self.shift, self.cutout, getattr(data, "black", 0.0)), patience=self.patience,
                   keep_best=self.keep_best, best_from=best_from, log=log, checkpoint=checkpoint,
                   n_threads=n_threads)


@dataclass(frozen=True)
class Pipeline(Technique):
    """Techniques one after the other."""

    word: ClassVar[str] = "pipeline"
    title: ClassVar[str] = "Pipeline"

    steps: tuple[Technique, ...] = ()

    def settings(self) -> dict:
        return {"steps": [{"name": s.word, **s.settings()} for s in self.steps]}

    def check_patterns(self, model):
        for step in self.steps:
            step.check_patterns(model)

    def apply(self, model, data, *, rng, log=None, checkpoint=None, n_threads=1):
        # Each step draws from a stream of its own, so that a resumed run ends in the same bits.
        from ..codec import load, save

        self.check_patterns(model)
        model, log = model.copy(), log or (lambda row: None)
        for i, (step, stream) in enumerate(zip(self.steps, rng.spawn(len(self.steps))), start=1):
            name, start = f"{i:02d}-{step.word}", time.perf_counter()
            done = None if checkpoint is None else Path(checkpoint) / f"{name}.mcz"
            log({"event": "start", "name": step.word, "index": i, "of": len(self.steps)})
            if done is not None and done.exists():
                model = thawed(load(done))
            else:
                inner = None if checkpoint is None else Path(checkpoint) / name
                model = step.apply(model, data, rng=stream, log=log, checkpoint=inner, n_threads=n_threads)
                for form_name, form in model.forms().items():  # as a file holds it
                    model.set_form(form_name, form.freeze().thaw())
                if done is not None:
                    done.parent.mkdir(parents=True, exist_ok=True)
                    save(model, done)
            val = evaluate(model, data.val, n_threads=n_threads)
            log({"event": "step", "name": step.word, "index": i, "knobs": step.settings(), "errors": val.errors,
                 "size": val.size, "sparsity": sparsity(model), "seconds": time.perf_counter() - start,
                 "model": model})
        return model

    def sketch(self, model, *, rng):
        for step, stream in zip(self.steps, rng.spawn(len(self.steps))):
            model = step.sketch(model, rng=stream)
        return model


def thawed(model: Model) -> Model:
    """Returns a copy of the model in which every form is trainable."""
    model = model.copy()
    for name, form in model.forms().items():
        if not form.trainable:
            model.set_form(name, form.thaw())
    return model


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


def weights(model: Model) -> dict[str, str]:
    """Returns {node name: form name} of every weight with at least two axes: what pruning and sharing work on."""
    return {name.rsplit(".", 1)[0]: name for name, form in model.forms().items()
            if name.endswith(".weight") and len(form.shape) > 1}


def kept(model: Model) -> float:
    """Returns the fraction of weights (of at least two axes) that are not 0, in 0..1."""
    forms = [model.forms()[name] for name in weights(model).values()]
    total = sum(int(np.prod(f.shape)) for f in forms)
    return sum(f.nonzeros() for f in forms) / total if total else 1.0


def sparsity(model: Model) -> float:
    """Returns the fraction of weights and biases that are 0."""
    forms = model.forms().values()
    return 1 - sum(f.nonzeros() for f in forms) / max(model.count(), 1)


def steps_of(technique: Technique) -> Sequence[Technique]:
    """Returns the steps of a pipeline, or the technique alone."""
    return technique.steps if isinstance(technique, Pipeline) else (technique,)


def masks(model: Model) -> dict[str, np.ndarray]:
    """Returns the mask of every form that has one, by name."""
    return {name: form.mask for name, form in model.forms().items() if form.mask is not None}


def rows(pairs: Iterable[tuple[str, Any]]) -> dict:
    """Returns pairs as a dict whose numpy scalars are Python numbers: a row of a log."""
    return {k: v.item() if isinstance(v, np.generic) else v for k, v in pairs}
