"""Training and evaluation: a plain loop, and the hooks by which techniques take part in it.

Weights are decoded once a step; the shards of a batch, one a thread, share them. A step is

    w = decode(parts)                                    before_batch may have moved masks
    L = base x product of base_weight + sum of losses    of each shard, weighted by its size
    weight_grads = dL/dw                                 shards summed; after_backward
    grads = dL/d parts                                   through the forms, plus those of penalties
    optimizer step, project()                            after_step
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .checkpoint import Checkpoint, everything, restore
from .errors import UserError
from .kernels.doors import whole
from .kernels.layout import nchw, nhwc
from .kernels.memory import keep_freed_memory
from .kernels.threads import MOST as MOST_THREADS
from .kernels.threads import blas
from .nn.forms import Form
from .nn.graph import INPUT, Model
from .nn.layers import Layer
from .nn.losses import cross_entropy
from .nn.taps import fitting
from .optim import Optimizer, Schedule, constant
from .tensor import Array, Tensor, grad, no_grad

TURNED = 2**28  # bytes of examples that may be kept a second time


@dataclass
class State:
    """What a hook sees: `batch` is (x, y), step and epoch count from 0.

    rows : which training examples the batch is, (N,) int64; None where augmentation moved them
    weights : decoded, by form name        output, loss : of the batch
    weight_grads : dL / d(decoded weight) by form name, of the whole batch
    grads : dL / d(part) by parameter name
    taps : outputs of the nodes that hooks asked for, in `loss` only
    A hook's `loss` sees one shard of the batch, in the shard's thread: output, weights and taps are
    Tensors to differentiate, gradients are not there.
    Elsewhere output and loss are constants of the whole batch.
    """

    model: Model
    optimizer: Optimizer
    rng: np.random.Generator
    batch: tuple[Array, Array] | None = None
    step: int = 0
    steps: int = 0
    epoch: int = 0
    rows: Array | None = None
    weights: dict[str, Tensor] = field(default_factory=dict)
    output: Tensor | None = None
    loss: Tensor | None = None
    taps: dict[str, Tensor] = field(default_factory=dict)
    weight_grads: dict[str, Array] = field(default_factory=dict)
    grads: dict[str, Array] = field(default_factory=dict)


class Hook:
    """What a technique adds to a training; whatever it does not need it leaves as it is here.

    name : how messages and checkpoints call it
    replaces : its `loss` stands in the place of cross-entropy; only one hook of a training may
    base_weight : factor of the loss that is there anyway
    taps : nodes whose outputs `loss` wants
    slots : arrays by name that it must remember between steps, saved with the checkpoint
    """

    name: str = "hook"
    replaces: bool = False
    base_weight: float = 1.0
    taps: Sequence[str] = ()

    def __init__(self):
        self.slots: dict[str, Array] = {}

    def parameters(self) -> dict[str, Tensor]:
        """Returns parameters of its own, by name, for the optimizer and the checkpoint."""
        return {}

    def settled(self, steps: int) -> int:
        """Returns the step of `steps` from which the net is what it will be: epochs that end
        earlier are of a denser or other net, and no candidates for the best."""
        return 0

    def skip(self, model: Model) -> None:
        """Brings the model where the training would have left its forms, without training."""

    def before_batch(self, state: State) -> None:
        """Called before weights are decoded: masks may move."""

    def loss(self, state: State) -> Tensor | None:
        """Returns a term of the loss, the mean over the shard, or None (not if it `replaces`)."""

    def penalty(self, parts: dict[str, Tensor], weights: dict[str, Tensor]) -> Tensor | None:
        """Returns a term that does not depend on the examples, once a step, or None.

        parts : the parameters        weights : decoded from them
        """

    def after_backward(self, state: State) -> None:
        """Called with `weight_grads`, whose entries may be replaced (not written into: two may be
        one array); `grads` follow from them."""

    def after_step(self, state: State) -> None:
        """Called when the parameters have moved and the forms are projected."""

    def after_epoch(self, state: State) -> None:
        """Called before the validation of an epoch."""


@dataclass(frozen=True)
class Score:
    """errors of size examples, and the mean cross-entropy."""

    errors: int
    size: int
    loss: float

    @property
    def error(self) -> float:
        """The fraction of errors, 0..1."""
        return self.errors / self.size if self.size else 0.0


def fit(model: Model, data, *, epochs: int, optimizer: Optimizer, rng: np.random.Generator,
        batch_size: int = 64, schedule: Schedule | None = None, hooks: Sequence[Hook] = (),
        label_smoothing: float = 0.0, augment: Callable | None = None, patience: int | None = None,
        keep_best: bool = False, log: Callable[[dict], None] | None = None,
        checkpoint: Path | None = None, settings: dict | None = None,
        n_threads: int = 1) -> list[dict]:
    """Trains in place; returns a dict an epoch: epoch, loss, val_errors, val_size, lr, seconds.

    data : has `train` and `val`, each with x float32 (N, ...) and y int64 (N,)
    optimizer : of the model's parameters and those of the hooks (`parameters_of`)
    schedule : factor of the learning rate over the training, 0..1
    augment : called as augment(x, rng=rng)
    label_smoothing : part of the target spread over all classes, in the loss that is there anyway
    patience : stop after so many epochs without fewer validation errors, and go back to the best
    keep_best : go back to the epoch of fewest validation errors (the last of equals) at the end;
        for both only epochs count that end when every hook is `settled`
    checkpoint : a folder; written after each epoch, taken up if it is there: the same bits result
        and logged as {"event": "resumed", "rows": the epochs as they were logged}
    settings : JSON-able, what else a checkpoint must have been written under to be taken up
    batch_size : of the last batch fewer; where layers take statistics of the batch, an example that
        is left over alone joins the batch before
    n_threads : the batch is split over threads, or the kernels and BLAS are, where its statistics
        forbid a split
    Raises UserError where the loss is not finite, nobody drew the weights, a checkpoint is of
        another run, or two hooks replace the loss; ValueError for arguments out of range and a
        split without examples.
    """
    for name, value, least in (
        ("epochs", epochs, 0), ("batch_size", batch_size, 1), ("patience", patience, 1)
    ):
        if value is not None and value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")
    if not len(data.train.y):
        raise ValueError("data.train must hold at least one example, got none")
    _refuse_zeros(model)
    log, schedule, base_lr, n = (
        log or (lambda row: None), schedule or constant(), optimizer.lr, len(data.train.y)
    )
    per_epoch, examples = _batches(model, n, batch_size), _examples(data.train.x, augment)
    state = State(model, optimizer, rng, steps=epochs * per_epoch)
    splits = _splits(model, batch_size)
    step = _Step(model, hooks, label_smoothing, n_threads=1 if splits else n_threads)
    given = {"batch_size": batch_size, "label_smoothing": label_smoothing, "patience": patience,
             "keep_best": keep_best, **(settings or {})}
    kept = Checkpoint(checkpoint, state, hooks, given, data, epochs=epochs, n_threads=n_threads)
    history, best = kept.resume()
    if history:
        log({"event": "resumed",
             "rows": [{"event": "epoch", "epochs": epochs, **row} for row in history]})
    best_from = max([-(-hook.settled(state.steps) // per_epoch) - 1 for hook in hooks], default=0)
    counted = slice(max(best_from, 0), None)
    keep_best = keep_best or patience is not None
    with _workers(n_threads, splits) as pool:
        try:
            for state.epoch in range(len(history), epochs):
                if patience is not None and _since_fewer(history[counted]) >= patience:
                    break
                start, order, total = time.perf_counter(), rng.permutation(n), 0.0
                for i in range(per_epoch):
                    last = i + 1 == per_epoch  # one more, where it would be alone
                    rows = order[i * batch_size:None if last else (i + 1) * batch_size]
                    x = examples(rows)
                    seen = augment(x, rng=rng) if augment else x
                    state.batch, state.rows = (seen, data.train.y[rows]), rows
                    if seen is not x:
                        state.rows = None
                    optimizer.lr = float(base_lr * schedule(state.step / max(state.steps, 1)))
                    total += step(state, pool) * len(rows)
                    state.step += 1
                    log({"event": "progress", "name": "train", "done": state.step,
                         "total": state.steps})
                _refuse_not_finite(state)
                for hook in hooks:
                    hook.after_epoch(state)
                val = evaluate(model, data.val, n_threads=n_threads)
                history.append({"epoch": state.epoch + 1, "loss": total / n,
                                "val_errors": val.errors, "val_size": val.size,
                                "lr": optimizer.lr, "seconds": time.perf_counter() - start})
                log({"event": "epoch", "epochs": epochs, **history[-1]})
                if keep_best and _last_is_best(history[counted]):
                    best = everything(model, hooks)
                kept.write(history, best)
        finally:
            optimizer.lr = base_lr
    if keep_best and best is not None:
        restore(model, hooks, best)
    return history


def parameters_of(model: Model, hooks: Sequence[Hook]) -> dict[str, Tensor]:
    """Returns what an optimizer may move: the model's parameters, and the hooks' "hook.name"."""
    own = {f"{hook.name}.{name}": t for hook in hooks for name, t in hook.parameters().items()}
    return {**model.parameters(), **own}


class _Step:
    # One batch: decode, gradients of its shards summed in order, pulled back to the parts, a step.

    def __init__(self, model: Model, hooks: Sequence[Hook], label_smoothing: float, *,
                 n_threads: int):
        replacing = [hook.name for hook in hooks if hook.replaces]
        if len(replacing) > 1:
            raise UserError(
                f"{' and '.join(replacing)} cannot train together: each replaces the loss"
            )
        self.model, self.hooks, self.label_smoothing = model, hooks, label_smoothing
        self.replaced, self.n_threads = bool(replacing), n_threads
        self.own = {
            f"{hook.name}.{name}": t for hook in hooks for name, t in hook.parameters().items()
        }
        # Of every form in which something moves its parts, by the parameters' names.
        self.forms = {name: form for name, form in model.forms().items() if form.parameters()}
        self.parts = {
            name: {f"{name}.{path}".rstrip("."): t for path, t in form.parameters().items()}
            for name, form in self.forms.items()
        }
        self.parts |= {name: {name: t} for name, t in model.grids().items()}
        self.taps = tuple(dict.fromkeys(name for hook in hooks for name in hook.taps))

    def __call__(self, state: State, pool) -> float:
        for hook in self.hooks:
            hook.before_batch(state)
        decoded = self.model.decode(training=True, rng=state.rng)
        # Shards see each weight as a leaf, so that its gradient stops there.
        state.weights = {name: Tensor(w.data, requires_grad=True) if w.requires_grad else w
                         for name, w in decoded.items()}
        value, grads = self.gradients(state, pool)
        if not np.isfinite(value):
            raise UserError(
                f"the loss must stay finite, got {value} at step {state.step}; a smaller learning "
                f"rate than {state.optimizer.lr:g} may help"
            )
        state.weight_grads = {n: g for n, g in grads.items() if n in decoded}
        for hook in self.hooks:
            hook.after_backward(state)
        state.grads = {n: g for n, g in grads.items() if n not in decoded}
        self.pull_back(state, decoded)
        state.optimizer.step(state.grads)
        self.model.project()
        for hook in self.hooks:
            hook.after_step(state)
        return value

    def gradients(self, state: State, pool) -> tuple[float, dict[str, Array]]:
        # The batch's loss and gradients: of its shards, one a thread, summed in their order.
        leaves = {n: w for n, w in state.weights.items() if w.requires_grad} | self.own
        (x, y), rows = state.batch, state.rows
        n_shards = 1 if pool is None else min(pool.size, len(y))
        if n_shards <= 1:
            shard, grads = self.shard(state, x, y, rows, state.rng,
                                      list(leaves.values()))
            state.output, state.loss = Tensor(shard.output.data), Tensor(shard.loss.data)
            return shard.loss.item(), dict(zip(leaves, grads))
        cuts = np.linspace(0, len(y), n_shards + 1).astype(int)
        shares = [float((b - a) / len(y)) for a, b in zip(cuts, cuts[1:])]
        jobs = [pool.submit(self.shard, state, x[a:b], y[a:b], None if rows is None else rows[a:b],
                            r, list(leaves.values()), share)
                for a, b, r, share in zip(cuts, cuts[1:], state.rng.spawn(n_shards), shares)]
        shards, parts = zip(*(job.result() for job in jobs))
        grads = parts[0]
        for part in parts[1:]:  # not in place: two weights may hold one array as their gradient
            grads = [g + more for g, more in zip(grads, part)]
        value = sum(share * shard.loss.item() for share, shard in zip(shares, shards))
        state.output = Tensor(np.concatenate([shard.output.data for shard in shards]))
        state.loss = Tensor(np.asarray(value, state.output.dtype))
        return value, dict(zip(leaves, grads))

    def shard(
        self, state: State, x, y, rows, rng, leaves, share: float = 1.0
    ) -> tuple[State, list[Array]]:
        # Loss and output of the examples x, y, and the gradients of share times the loss.
        shard = State(self.model, state.optimizer, rng, (x, y), state.step, state.steps,
                      state.epoch, rows, state.weights)
        shard.output = self.model(x, weights=state.weights, training=True, rng=rng, taps=self.taps,
                                  n_threads=self.n_threads)
        if self.taps:
            shard.output, shard.taps = shard.output
        shard.loss = self.loss(shard)
        grads = grad(
            shard.loss, leaves, cotangent=np.full(shard.loss.shape, share, shard.loss.dtype)
        )
        return shard, [g.data for g in grads]

    def loss(self, shard: State) -> Tensor:
        # The base loss, weighed by the hooks, and their terms.
        weight, total = 1.0, None
        for hook in self.hooks:
            weight *= hook.base_weight
        if not self.replaced:
            total = cross_entropy(
                shard.output, shard.batch[1], label_smoothing=self.label_smoothing
            )
            total = total if weight == 1 else total * weight
        for hook in self.hooks:
            term = hook.loss(shard)
            if term is not None:
                term = term * weight if hook.replaces and weight != 1 else term
                total = term if total is None else total + term
        if total is None:
            raise UserError("a hook that replaces the loss must return one, got None")
        return total

    def pull_back(self, state: State, decoded: dict[str, Tensor]) -> None:
        # Adds dL / d(part) of every form, and of the penalties, to state.grads.
        for name, parts in self.parts.items():
            w, g = decoded[name], state.weight_grads[name]
            if w is parts.get(name):  # a plain weight is its own only part
                state.grads[name] = g
            else:
                pulled = self.forms[name].pull_back(w, g)
                state.grads |= {n: p for n, p in zip(parts, pulled.values())}
        params = state.optimizer.params
        for hook in self.hooks:
            term = hook.penalty(params, decoded)
            if term is not None:
                for n, g in zip(params, grad(term, list(params.values()))):
                    state.grads[n] = state.grads[n] + g.data


def evaluate(model: Model | Callable[[Array], Array], split, *, batch_size: int = 500,
             n_threads: int = 1) -> Score:
    """Returns errors, size and mean cross-entropy of the model on a split.

    model : a Model, or what gives logits (N, classes) for x (N, ...), such as a Program
    Weights are decoded once. The size of a batch does not depend on the number of threads, which
    count the same; a net with large activations takes fewer examples at a time, see `taps.fitting`.
    """
    if hasattr(model, "activation_bytes"):
        batch_size = fitting(model, batch_size)
    starts = range(0, len(split.y), batch_size)
    with _workers(n_threads, True) as pool, no_grad():
        predict = model
        if isinstance(model, Model):
            predict = functools.partial(model, weights=model.decode())
        parts = list((pool.map if pool else map)(
            lambda i: _score(predict, split.x[i:i + batch_size], split.y[i:i + batch_size]),
            starts))
    size = len(split.y)
    return Score(sum(e for e, _ in parts), size, sum(v for _, v in parts) / max(size, 1))


def _score(predict: Callable, x: Array, y: Array) -> tuple[int, float]:
    with no_grad():
        z = predict(x)
        z = z if isinstance(z, Tensor) else Tensor(z)
        errors = int(np.count_nonzero(z.data.argmax(axis=1) != y))
        return errors, cross_entropy(z, y, reduction="sum").item()


@contextmanager
def _workers(n_threads: int, split: bool):
    # A pool of n_threads with BLAS at one thread each, or None with BLAS at n_threads.
    n_threads = whole("n_threads", n_threads, 1, MOST_THREADS)
    keep_freed_memory()
    with blas(1 if split else n_threads):
        if n_threads == 1 or not split:
            yield None
        else:
            with _Pool(n_threads) as pool:
                yield pool


class _Pool(ThreadPoolExecutor):
    def __init__(self, size: int):
        super().__init__(size)
        self.size = size


def _refuse_not_finite(state: State) -> None:
    # A loss is that of the weights before its step: of the last step's nobody would be told.
    for name, t in state.optimizer.params.items():
        if not np.isfinite(t.data).all():
            raise UserError(f"{name} must stay finite, got NaN or infinity after step "
                            f"{state.step}; a smaller learning rate than {state.optimizer.lr:g} "
                            "may help")


def _refuse_zeros(model: Model) -> None:
    # A layer of zeros learns where examples reach it and the loss is reached from it, with no other
    # one between and no activation that is flat at 0, as ReLU is. Where none learns and the output
    # is the same for all examples, as of a net whose weights nobody drew, the last bias alone would
    # move. What a mask keeps at 0 was pruned, and is left alone.
    zero = [node.name for node in model.nodes if node.layer.coupling == "mix"
            and _is_zero(node.layer.forms["weight"])]
    if not zero:
        return
    seen = {INPUT}  # what depends on the example
    for node in model.nodes:
        if node.name not in zero and not seen.isdisjoint(node.inputs):
            seen.add(node.name)
    if model.nodes[-1].name in seen:
        return
    read = {model.nodes[-1].name}  # what the loss depends on
    for node in reversed(model.nodes):
        if node.name in read and node.name not in zero:
            if node.name in seen or not _is_flat(node.layer):
                read.update(node.inputs)
    if not any(n in read and not seen.isdisjoint(model.node(n).inputs) for n in zero):
        names = ", ".join(f"{name}.weight" for name in zero)
        raise UserError(f"a net must have weights to learn from, all 0 are {names}: draw them with "
                        "minicomp.nn.init.initialise(model, rng=np.random.default_rng(0)) or the "
                        "net's own rng=, or load them")


def _is_zero(form: Form) -> bool:
    return form.movable and form.mask is None and not form.values().any()


def _is_flat(layer: Layer) -> bool:
    # Whether an activation's slope at 0 is 0.
    return layer.activation and not layer.slopes(np.zeros((1, 1), np.float32))[0].any()


def _examples(x: Array, augment: Callable | None) -> Callable[[Array], Array]:
    # What gives the rows of x. Maps of several channels are turned channels-last once for all, as
    # the kernels take them, where augmentation does not move them anyway.
    if augment or x.ndim != 4 or x.shape[1] == 1 or x.nbytes > TURNED:
        return x.__getitem__
    lies = nhwc(x)
    return lambda rows: nchw(lies[rows])


def _batches(model: Model, n: int, batch_size: int) -> int:
    # How many batches n examples are. One example has no statistics: where a layer takes those of
    # the batch, an example that is left over joins the batch before.
    if not _takes_statistics(model):
        return -(-n // batch_size)
    for name, value in (("batch_size", batch_size), ("examples of data.train", n)):
        if value < 2:
            raise ValueError(f"{name} must be at least 2 where batch normalisation trains, "
                             f"got {value}")
    return -(-n // batch_size) - (n % batch_size == 1)


def _takes_statistics(model: Model) -> bool:
    return any(node.layer.tracks for node in model.nodes)


def _splits(model: Model, batch_size: int) -> bool:
    # Whether a batch is split over threads: not across statistics of the batch, and not where
    # to hand over a shard takes as long as to compute it, below about 30 million multiplications.
    return not _takes_statistics(model) and sum(model.macs().values()) * batch_size >= 1 << 25


def _since_fewer(history: list[dict]) -> int:
    # Epochs since there were fewer validation errors than ever before.
    errors = [row["val_errors"] for row in history]
    return len(errors) - 1 - errors.index(min(errors)) if errors else 0


def _last_is_best(history: list[dict]) -> bool:
    # Whether no epoch had fewer validation errors than the last: of equals the last is kept.
    return bool(history) and history[-1]["val_errors"] == min(row["val_errors"] for row in history)
