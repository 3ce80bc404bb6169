"""What a technique is: a frozen dataclass, its fields the paper's knobs, and one method, `apply`.

A knob is a value, or a mapping from pattern (fnmatch on node names, the last match wins) to value.
A pipeline is a list of techniques and itself one: Deep Compression is [magnitude, finetune,
kmeans, finetune].
"""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from .. import __version__
from ..checkpoint import fingerprint
from ..errors import UserError, article, did_you_mean, printable
from ..nn.graph import INPUT, Model
from ..tensor import no_grad
from ..train import evaluate
from .examples import check_examples
from .stepfile import kept as kept_step

Log = Callable[[dict], None]


def silent(row: dict) -> None:
    """Does nothing with a row of a log."""


@dataclass(frozen=True)
class Run:
    """What a technique runs in.

    rng : of everything it draws, None where nothing is
    log : called with rows, {"event": ..., ...}
    checkpoint : a folder to resume from, or None        n_threads : at most so many
    """

    rng: np.random.Generator
    log: Log = silent
    checkpoint: Path | None = None
    n_threads: int = 1

    def __post_init__(self):
        if not isinstance(self.rng, np.random.Generator | None):
            raise UserError("rng must be a generator, as np.random.default_rng(0), got "
                            f"{printable(repr(self.rng), 100)}")
        object.__setattr__(self, "log", self.log or silent)

    def child(self, name: str, rng: np.random.Generator | None = None) -> Run:
        """Returns the run of a part: a folder `name` in this one's, this rng or its own."""
        inner = None if self.checkpoint is None else Path(self.checkpoint) / name
        return replace(self, rng=rng or self.rng, checkpoint=inner)


@dataclass(frozen=True)
class Knob:
    """What a knob allows: `type` within lo..hi (hi itself unless `below`), or one of `choices`;
    None too where it is `optional`; a text that is the path of a `file` to read."""

    type: type
    help: str
    lo: float | None = None
    hi: float | None = None
    below: bool = False
    choices: tuple[str, ...] = ()
    optional: bool = False
    per_layer: bool = False
    file: bool = False

    def check(self, name: str, value: Any) -> Any:
        """Returns the value in the knob's type; UserError names the knob, the range, the value."""
        kind: Any = self.type
        if value is None and self.optional:
            return None
        if type(value) is int and str(value) in self.choices:
            value = str(value)  # 4 for "4"
        if self.choices and value not in self.choices:
            raise UserError(f"{name} must be one of {', '.join(self.choices)}, got {value!r}")
        if (
            kind in (int, float)
            and isinstance(value, _NUMBER[kind])
            and not isinstance(value, bool)
        ):
            value = kind(value)
        limited = self.lo is not None or self.hi is not None
        if type(value) is not kind or kind is float and not math.isfinite(value):
            raise UserError(
                f"{name} must be {_ARTICLE[kind]}{f' in {self.range()}' if limited else ''}, "
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

    word: ClassVar[str] = "technique"  # its name on the command line
    title: ClassVar[str]         # its full name
    source: ClassVar[str] = ""   # authors, year and title of the paper; "" where there is none
    composite: ClassVar[bool] = False  # made of techniques that log for themselves

    def __new__(cls, *args, **knobs):
        # Before the dataclass's own __init__, whose message would not name the nearest knob.
        names = [f.name for f in dataclasses.fields(cls)]
        for name in knobs:
            if name not in names:
                raise UserError(f"{cls.word}: unknown knob {name!r}"
                                + (cls.elsewhere(name) or did_you_mean(name, names)))
        return super().__new__(cls)

    @classmethod
    def elsewhere(cls, name: str) -> str:
        """Returns the end of a message about a knob that is given in another place, else ""."""
        return ""

    def __init_subclass__(cls, **kw):
        super().__init_subclass__(**kw)
        cls.__repr__ = Technique.__repr__  # there before dataclass looks for one

    def __repr__(self) -> str:
        plain = {f.name: f.default for f in dataclasses.fields(self)}
        said = [f"{name}={printable(repr(getattr(self, name)), 100)}"
                for name, value in plain.items() if getattr(self, name) != value]
        return printable(f"{type(self).__name__}({', '.join(said)})", 1000)

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

    def files(self) -> list[str]:
        """Returns the paths of the files that it reads: the values of its knobs that are `file`."""
        return [getattr(self, name) for name, limits in self.knobs().items()
                if limits.file and getattr(self, name) is not None]

    @property
    def name(self) -> str:
        """What logs and folders call it: its word."""
        return self.word

    def reads(self) -> tuple[str, ...]:
        """Returns which splits of the data it reads: none, "train", "val" or both."""
        return ()

    def resizes(self) -> bool:
        """Returns whether weights or data decide which nodes and shapes it leaves: then those of
        its sketch need not be those of its result."""
        return False

    def check(self, model: Model) -> None:
        """Raises UserError, before anything is trained, where the technique cannot work on such a
        model, whatever its weights and sizes: a pattern that matches none of its `targets`."""
        nodes = self.targets(model)
        for name in self.knobs():
            value = getattr(self, name)
            if isinstance(value, Mapping):
                check_patterns(f"{self.word}: {name}", value, nodes)

    def check_shapes(self, model: Model) -> None:
        """Raises UserError, before anything is trained, where a knob does not fit the sizes of the
        model's layers."""

    def apply(self, model: Model, data, run: Run) -> Model:
        """Returns the compressed model; the model passed in is untouched.

        data : has what `reads` names of `train` and `val`, each with x float32 (N, ...) and
            y int64 (N,)        run : rng, log, checkpoint, n_threads
        Raises UserError where the model, the data or a knob do not fit. A layer that loses its last
        weight is told to the log.
        """
        if not isinstance(model, Model):
            raise UserError(f"{self.name}: apply takes a Model, its data and a Run, in this order; "
                            f"got {printable(repr(model), 80)}")
        check_numbers(self.name, model)
        self.check(model)
        self.check_shapes(model)
        check_examples(self.name, data, self.reads(), model)
        made = self.change(model.copy(), data, run)
        for node in () if self.composite else emptied_layers(model, made):
            run.log({"event": "say", "text": f"{self.word}: no weight of {node} is left: what it "
                                             "gives does not depend on its input"})
        return made

    def change(self, model: Model, data, run: Run) -> Model:
        """Returns what becomes of `model`, a copy that may be changed in place."""
        raise NotImplementedError

    def sketch(self, model: Model, *, rng: np.random.Generator) -> Model:
        """Returns the model with the forms of `apply`, without training: to estimate bytes."""
        return self.apply(model, None, Run(rng))


def techniques(name: str, given) -> tuple[Technique, ...]:
    """Returns the techniques given as a tuple; UserError names what is none."""
    made = tuple(given) if isinstance(given, (tuple, list)) else None
    if made is None or not all(isinstance(t, Technique) for t in made):
        wrong = given if made is None else next(t for t in made if not isinstance(t, Technique))
        raise UserError(f"{name} must be a tuple of techniques, as (Magnitude(sparsity=0.9),), got "
                        f"{printable(repr(wrong), 100)}")
    return made


@dataclass(frozen=True)
class Pipeline(Technique):
    """Techniques one after the other; each hands on a model whose forms are frozen."""

    word: ClassVar[str] = "pipeline"
    title: ClassVar[str] = "Pipeline"
    composite: ClassVar[bool] = True

    steps: tuple[Technique, ...] = ()

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "steps", techniques("steps", self.steps))

    def settings(self) -> dict:
        return {"steps": [{"name": s.name, **s.settings()} for s in self.steps]}

    def files(self):
        return [path for step in self.steps for path in step.files()]

    def reads(self):
        read = {"val"}.union(*(step.reads() for step in self.steps))
        return tuple(name for name in ("train", "val") if name in read)

    def resizes(self):
        return any(step.resizes() for step in self.steps)

    def check(self, model):
        """Raises UserError where a step cannot work on what the steps before it will leave.

        That is known by sketches up to the first step whose sizes depend on weights or data; behind
        it layers keep names and kinds of forms, while sizes are left open.
        """
        check_numbers(self.name, model)
        known = True
        for i, step in enumerate(self.steps, start=1):
            step.check(model)
            if known:
                step.check_shapes(model)
            if i == len(self.steps):
                break
            try:
                # Any numbers will do: only the forms are looked at.
                rng = np.random.default_rng(0)
                model = model if step.resizes() else step.sketch(model, rng=rng)
                known &= not step.resizes()
            except UserError:  # of weights that are not those there will be
                known = False

    def change(self, model, data, run):
        # Each step draws from a stream of its own, so that a resumed run ends in the same bits.
        streams, common = run.rng.spawn(len(self.steps)), {}
        if run.checkpoint is not None:
            common = {"data": fingerprint(data), "threads": run.n_threads, "minicomp": __version__}
        for i, (step, stream) in enumerate(zip(self.steps, streams), start=1):
            part = run.child(f"{i:02d}-{step.name}", stream)
            run.log({"event": "start", "name": step.name, "index": i, "of": len(self.steps)})
            model, seconds = kept_step(*_file(step, model, part, common),
                                       partial(_applied, step, model, data, part), run.log)
            val = evaluate(model, data.val, n_threads=run.n_threads)
            run.log({"event": "step", "name": step.name, "index": i, "knobs": step.settings(),
                     "errors": val.errors, "size": val.size, "sparsity": sparsity(model),
                     "seconds": seconds, "model": model})
        return model

    def sketch(self, model, *, rng):
        for step, stream in zip(self.steps, rng.spawn(len(self.steps))):
            model = step.sketch(model, rng=stream)
        return model


def _applied(step: Technique, model: Model, data, part: Run, log: Log) -> Model:
    return step.apply(model, data, replace(part, log=log)).frozen()


def _file(step: Technique, start: Model, part: Run, common: dict) -> tuple[Path | None, dict]:
    # Where the model is kept that a step leaves, and of what it is; (None, {}) without a folder.
    if part.checkpoint is None:
        return None, {}
    seed: Any = part.rng.bit_generator.seed_seq
    of = {"step": step.name, "knobs": step.settings(), "start": fingerprint(start.frozen()),
          "seed": f"{seed.entropy} {seed.spawn_key}", **common}
    if files := step.files():
        of["files"] = {name: fingerprint(Path(name).read_bytes()) for name in files}
    return part.checkpoint.with_name(f"{part.checkpoint.name}.step"), of


def check_numbers(word: str, model: Model) -> None:
    """Raises UserError where a weight, bias or running statistic is not a finite number, by name.
    """
    with no_grad():
        arrays = {name: form.dense().data for name, form in model.forms().items()}
    for name, a in (arrays | model.buffers()).items():
        if not np.isfinite(a).all():
            raise UserError(f"{word}: {name} must hold finite numbers, got NaN or infinity")


def check_patterns(where: str, patterns: Iterable[str], names: Sequence[str], *,
                   what: str = "") -> None:
    """Raises UserError for a pattern that matches none of the names, and for one all of whose
    names a later pattern matches too: the last match wins, so that it would decide nothing.

    where : what messages begin with, "magnitude: sparsity"        names : of nodes
    what : of messages, what the layers of those names are
    """
    last = {n: p for p in patterns for n in names if fnmatchcase(n, p)}
    for pattern in patterns:
        matching = [n for n in names if fnmatchcase(n, pattern)]
        if not matching:
            raise UserError(f"{where}@{pattern} matches no layer{what}; there are "
                            f"{', '.join(names)}")
        if pattern not in last.values():
            raise UserError(f"{where}@{pattern} decides nothing: a later pattern matches "
                            f"{', '.join(matching)} too, and the last match wins")


def emptied_layers(model: Model, made: Model) -> list[str]:
    """Returns the nodes all of whose weights are 0 in `made`, of the same shape, not in `model`."""
    before, after = model.forms(), made.forms()
    return [node for node, name in weights(made).items()
            if name in before and before[name].shape == after[name].shape
            and before[name].nonzeros() and not after[name].nonzeros()]


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
                f"{word}: {name} must hold plain values, of which each can move, got "
                f"{article(form.kind)}; prune before sharing, and train before either"
            )


def check_maskable(word: str, model: Model, names: Iterable[str] | None = None) -> None:
    """Raises UserError for a form that cannot carry a mask, such as a Codebook without a pinned 0.

    names : of the forms; None: of all `weights`
    """
    forms = model.forms()
    for name in weights(model).values() if names is None else names:
        try:
            forms[name].masked(np.ones(forms[name].shape, bool))
        except ValueError as e:
            raise UserError(f"{word}: {name}: {e}") from None


def floor_knob() -> Any:
    """Returns the field of a technique that can rank all layers together: what a layer keeps."""
    return knob(0.0, "scope global: fraction of its weights that every layer keeps, at least one "
                     "weight", lo=0, hi=1, below=True)


def least_kept(model: Model, floor: float) -> dict[str, int]:
    """Returns how many entries each form keeps where all layers are ranked together, by name.

    floor : fraction of a layer's weights, of which at least one stays. Of biases none has to, and
        none of a layer on which the output does not depend.
    """
    used = {model.nodes[-1].name} if model.nodes else set()
    for node in reversed(model.nodes):
        used |= set(node.inputs) if node.name in used else set()
    held = {name for node, name in weights(model).items() if node in used}
    return {name: max(1, math.ceil(floor * math.prod(form.shape))) if name in held else 0
            for name, form in model.forms().items()}


def one_for_all(word: str, scope: str, sparsity, floor: float = 0.0, rest: str = "") -> None:
    """Raises UserError where all layers are ranked together and the sparsity is not one number, or
    where they are not and there is a floor.

    word : of the technique        rest : of the message, what else the scope needs
    """
    if scope != "global" and floor:
        raise UserError(f"{word}: floor is of scope global, got scope {scope}")
    if scope == "global" and not isinstance(sparsity, float):
        rest = rest or (", got one by pattern" if isinstance(sparsity, Mapping) else "")
        raise UserError(f"{word}: scope global needs one sparsity for all layers{rest}")


def weights(model: Model) -> dict[str, str]:
    """Returns {node name: form name} of the weights to prune and share: of two axes or more."""
    return {name.rsplit(".", 1)[0]: name for name, form in model.forms().items()
            if name.endswith(".weight") and len(form.shape) > 1}


def unmasked(word: str, model: Model, names: Iterable[str]) -> None:
    """Raises UserError where one of the named forms is pruned: for techniques whose forms store
    nothing by place."""
    for name in names:
        if model.forms()[name].mask is not None:
            raise UserError(f"{word}: {name} must not be pruned: {word} cannot keep what was "
                            "pruned at 0")


def feeding(model: Model) -> dict[str, frozenset[str]]:
    """Returns by node, and "x", the layers whose `weights` it comes from: itself, or the last such
    layer on each path to it."""
    names = weights(model)
    found: dict[str, frozenset[str]] = {INPUT: frozenset()}
    for node in model.nodes:
        found[node.name] = (frozenset([node.name]) if node.name in names else
                            frozenset().union(*(found[i] for i in node.inputs)))
    return found


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
