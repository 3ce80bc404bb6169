"""Training as a technique, alone or with others that take part in it.

`FineTune(epochs=4)` trains whatever the forms leave trainable. Techniques that change a net *while*
it trains are `Trained`: they give hooks of the training and what is left to do when it ends, and
several can train together,

    FineTune(methods=(DNS(c=2.0), Slimming(lam=1e-4)), epochs=30, lr=0.02)

on the command line `--with dns:c=2+slimming:lam=1e-4,epochs=30,lr=0.02`. The training's knobs
belong to the group. `DNS(c=2.0).training(epochs=30)` is a group of one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from ..data.augment import Augment
from ..errors import UserError
from ..nn.graph import Model, Node
from ..optim import OPTIMIZERS, SCHEDULES, Optimizer, Schedule, by_parameter
from ..tensor import Array
from ..train import Hook, fit, parameters_of
from .technique import Run, Technique, feeding, knob, techniques


@dataclass(frozen=True)
class FineTune(Technique):
    """Training of whatever the forms leave trainable: kept weights, centroids. Also trains a net
    from scratch, and is the training in which `methods` take part.
    """

    word: ClassVar[str] = "finetune"
    title: ClassVar[str] = "Fine-tuning"

    epochs: int = knob(4, "passes over the training data", lo=0)
    lr: float = knob(0.01, "learning rate", lo=1e-9, per_layer=True)
    optimizer: str = knob("sgd", "sgd (momentum), adam, adamw, adamax or shift-adamax",
                          choices=tuple(OPTIMIZERS))
    momentum: float = knob(0.9, "momentum of sgd", lo=0, hi=1, below=True)
    nesterov: bool = knob(False, "Nesterov's momentum in sgd")
    weight_decay: float = knob(
        0.0, "L2 regularisation: lambda of lambda/2 |w|^2", lo=0.0, per_layer=True
    )
    batch_size: int = knob(64, "examples a step", lo=1)
    schedule: str = knob("cosine", "of the learning rate", choices=tuple(SCHEDULES))
    shift: int = knob(0, "augmentation: random shift by up to so many pixels", lo=0)
    cutout: int = knob(0, "augmentation: side of a random square of the mean pixel, pixels", lo=0)
    label_smoothing: float = knob(
        0.0, "part of the target spread over all classes", lo=0.0, hi=1.0, below=True
    )
    dropout: bool = knob(True, "rescale dropout by sqrt(kept weights) (Han et al. 2015, eq. (2))")
    keep_best: bool = knob(False, "end with the epoch of fewest validation errors")
    patience: int | None = knob(
        None, "stop after so many epochs without improvement", type=int, lo=1, optional=True
    )
    methods: tuple[Trained, ...] = ()

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "methods", techniques("methods", self.methods))
        for m in self.methods:
            if not isinstance(m, Trained):
                raise UserError(
                    f"{m.word} cannot take part in a training: it does not change a net while "
                    f"it trains; make it a step of its own"
                )
        gridded = [m.word for m in self.methods if m.quantizes]
        plain = [m.word for m in self.methods if m.plain]
        if gridded and plain:
            raise UserError(f"{plain[0]} and {gridded[0]} cannot train together: {plain[0]} moves "
                            "plain weights, not those behind a grid")
        words = [m.word for m in self.methods]
        for m in self.methods:
            for word, why in m.apart.items():
                if word in words:
                    raise UserError(f"{word} and {m.word} cannot train together: {why}")
        for word in words:
            if words.count(word) > 1:
                raise UserError(f"{word} is named twice in one training")
        for flag, what in (("masks", "sets the masks of the same weights"),
                           ("quantizes", "puts the same weights on grids")):
            same = [m.word for m in self.methods if getattr(m, flag)]
            if len(same) > 1:
                raise UserError(f"{' and '.join(same)} cannot train together: each {what}")

    @property
    def name(self):
        return "+".join(m.word for m in self.methods) or self.word

    def settings(self):
        more = {}
        for m in self.methods:
            prefix = f"{m.word}." if len(self.methods) > 1 else ""
            more |= {prefix + name: value for name, value in m.settings().items()}
        return more | super().settings()

    def files(self):
        return [path for m in self.methods for path in m.files()]

    def reads(self):
        return ("train", "val") if self.epochs else ()

    def resizes(self):
        return any(m.resizes() for m in self.methods)

    def check(self, model):
        for m in self.methods:
            m.check(model)
        for m in self.methods:
            model = m.prepared(model, None, None)
        names = model.thawed().parameters()
        for rate in ("lr", "weight_decay"):
            value = self.rates(rate)
            try:
                by_parameter(rate, value, names)
                patterns = list(value) if isinstance(value, Mapping) else []
                last = by_parameter(rate, {p: i for i, p in enumerate(patterns)} or 0.0, names)
            except ValueError as e:
                raise UserError(f"{self.name}: {e}") from None
            for i, pattern in enumerate(patterns):
                if i not in last.values() and pattern in getattr(self, rate):
                    raise UserError(
                        f"{self.name}: {rate}@{pattern} decides nothing: later patterns match all "
                        f"of its parameters too, and the last match wins"
                    )

    def check_shapes(self, model):
        for m in self.methods:
            m.check_shapes(model)

    def rates(self, name: str) -> float | dict[str, float]:
        """Returns lr or weight_decay, its default in front of patterns that may leave some out."""
        value = getattr(self, name)
        default = type(self).__dataclass_fields__[name].default
        if not isinstance(value, Mapping) or "*" in value:
            return value
        return {"*": default} | value

    def change(self, model, data, run):
        for m in self.methods:
            model = m.prepared(model, data, run)
        model = model.thawed()
        hooks = [hook for m in self.methods for hook in m.hooks(model, data, run)]
        if self.epochs:
            self.fit(model, data, run, hooks)
        for hook in () if self.epochs else hooks:
            hook.skip(model)
        model = model.frozen()
        for m in self.methods:
            model = m.finish(model, run)
        return model

    def sketch(self, model, *, rng):
        return replace(self, epochs=0).apply(model, None, Run(rng))

    def make_optimizer(self, params, undecayed: Sequence[str] = ()) -> Optimizer:
        """Returns the optimizer that the knobs describe.

        params : Tensors by name        undecayed : names of those without weight decay
        """
        decay: Any = self.rates("weight_decay")
        if undecayed:
            decay = (decay if isinstance(decay, Mapping) else {"*": decay}) | dict.fromkeys(
                undecayed, 0.0)
        sgd = {"momentum": self.momentum, "nesterov": self.nesterov}
        return OPTIMIZERS[self.optimizer](
            params,
            lr=self.rates("lr"),
            weight_decay=decay,
            **(sgd if self.optimizer == "sgd" else {}),
        )

    def make_schedule(self) -> Schedule:
        """Returns the factor of the learning rate over the training."""
        return SCHEDULES[self.schedule]()

    def fit(self, model: Model, data, run: Run, hooks: Sequence[Hook] = ()) -> list[dict]:
        """Trains the model in place; returns the history of `train.fit`. Dropout is rescaled, where
        the knob says so, for this training alone.

        data : may have `mean`, the mean pixel that fills what is cut out, else 0; and `label`,
            which the model then notes
        """
        model.trained_on = getattr(data, "label", model.trained_on)
        return fit(
            with_dropout_of(model) if self.dropout else model,
            data,
            epochs=self.epochs,
            optimizer=self.make_optimizer(parameters_of(model, hooks), model.undecayed()),
            rng=run.rng,
            batch_size=self.batch_size,
            schedule=self.make_schedule(),
            hooks=hooks,
            label_smoothing=self.label_smoothing,
            augment=Augment(self.shift, self.cutout, getattr(data, "mean", 0.0)),
            patience=self.patience,
            keep_best=self.keep_best,
            log=run.log,
            checkpoint=run.checkpoint,
            settings=self.settings(),
            n_threads=run.n_threads,
        )


@dataclass(frozen=True)
class Trained(Technique):
    """A technique that changes a net while it trains: hooks, and what is done when it ends."""

    masks: ClassVar[bool] = False  # whether it sets masks while the net trains
    plain: ClassVar[bool] = False  # whether it moves weights that no grid may cover
    apart: ClassVar[dict[str, str]] = {}  # words of techniques that it cannot train with, and why
    quantizes: ClassVar[bool] = False  # whether it puts weights on grids while the net trains

    @classmethod
    def elsewhere(cls, name):
        where = f"{cls.__name__}(...).training({name}=...)"
        return f"; of its training: {where}" if name in FineTune.knobs() else ""

    def reads(self):
        return self.training().reads()

    def prepared(self, model: Model, data, run: Run | None) -> Model:
        """Returns the model to train: with the further nodes that the technique needs.

        data : None where nothing will be trained, then run may be None too
        """
        return model

    def hooks(self, model: Model, data, run: Run) -> list[Hook]:
        """Returns its hooks for a training of `model`, a copy whose forms are trainable and may be
        replaced here. data is None where nothing will be trained.
        """
        raise NotImplementedError

    def finish(self, model: Model, run: Run) -> Model:
        """Returns what becomes of the trained model, whose forms are frozen."""
        return model

    def training(self, **knobs) -> FineTune:
        """Returns the training, with these knobs, in which this technique alone takes part."""
        return FineTune(methods=(self,), **knobs)

    def change(self, model, data, run):
        return self.training().change(model, data, run)

    def sketch(self, model, *, rng):
        return self.training().sketch(model, rng=rng)


@dataclass(frozen=True)
class Rounds(Technique):
    """A technique that trains in rounds of its own, each as `train` says."""

    train: FineTune = FineTune()

    def __post_init__(self):
        super().__post_init__()
        if self.train.methods:
            raise UserError(
                f"{self.word} trains in rounds of its own: {self.train.name} cannot take part"
            )

    @classmethod
    def elsewhere(cls, name):
        where = f"{cls.__name__}(train=FineTune({name}=...))"
        return f"; of its training: {where}" if name in FineTune.knobs() else ""

    def reads(self):
        return "train", "val"

    def settings(self):
        return self.train.settings() | super().settings()

    def check(self, model):
        super().check(model)
        self.train.check(model)


def behind(model: Model, names: Iterable[str]) -> dict[str, Array]:
    """Puts a mask behind each of the named forms, in place: what it hides goes on training.

    result : by name, which entries may be kept: not what an earlier technique pruned
    """
    allowed = {}
    for name in names:
        form = model.forms()[name]
        allowed[name] = np.ones(form.shape, bool) if form.mask is None else form.mask.copy()
        model.set_form(name, form.masked(allowed[name], behind=True))
    return allowed


def with_dropout_of(model: Model) -> Model:
    """Returns the model with every dropout probability rescaled to the connections that are left:
    the layers are shared otherwise.

    A dropout belongs to the last layer with weights before it, of whose C_o weights C_r are not 0;
    behind an addition or a concatenation to the last of each branch together.
    Source: Han et al. 2015, eq. (2): D_r = D_o sqrt(C_r / C_o)
    """
    before, swap = feeding(model), {}
    for node in (n for n in model.nodes if n.layer.drops):
        forms = [model.node(n).layer.forms["weight"] for n in before[node.name]]
        left, of = sum(f.nonzeros() for f in forms), sum(math.prod(f.shape) for f in forms)
        if left < of:
            p = node.layer.p * math.sqrt(left / of)
            swap[node.name] = (Node(node.name, type(node.layer)(p), node.inputs),)
    return model.edit(swap) if swap else model
