"""Training and evaluation: a plain loop with events.

Events are functions of the `State`, called by name: `before_batch`, `loss` (returns the loss Tensor instead of
cross-entropy), `after_backward`, `after_step`, `after_epoch`. Techniques that train hook in there.
"""

from __future__ import annotations

import json
import os
import time
import zipfile
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .errors import UserError
from .kernels.memory import keep_freed_memory
from .nn.graph import Model, Node
from .nn.layers import BatchNorm1d, BatchNorm2d, Dropout
from .nn.losses import cross_entropy
from .optim import Optimizer, Schedule, constant
from .tensor import Array, Tensor, grad, no_grad

EVENTS = ("before_batch", "loss", "after_backward", "after_step", "after_epoch")


@dataclass
class State:
    """What an event sees: `batch` is (x, y), step and epoch count from 0.

    The event `loss` is given `output`, a Tensor to differentiate; with threads it is called on each shard of the
    batch, in its thread. `after_backward` and `after_step` see output and loss of the whole batch as constants,
    and `grads`, the mean over the batch by parameter name, which `after_backward` may change.
    """

    model: Model
    optimizer: Optimizer
    rng: np.random.Generator
    batch: tuple[Array, Array] = None
    step: int = 0
    steps: int = 0
    epoch: int = 0
    output: Tensor | None = None
    loss: Tensor | None = None
    grads: dict[str, Array] = field(default_factory=dict)


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


def fit(model: Model, data, *, epochs: int, optimizer: Optimizer, rng: np.random.Generator, batch_size: int = 64,
        schedule: Schedule | None = None, events: dict[str, Callable[[State], object]] | None = None,
        augment: Callable | None = None, patience: int | None = None, keep_best: bool = False, best_from: int = 0,
        log: Callable[[dict], None] | None = None, checkpoint: Path | None = None, n_threads: int = 1) -> list[dict]:
    """Trains the model in place; returns one dict an epoch: epoch, loss, val_errors, val_size, lr, seconds.

    data : has `train` and `val`, each with x float32 (N, ...) and y int64 (N,)
    schedule : factor of the learning rate over the training, 0..1        augment : called as augment(x, rng=rng)
    patience : stop after so many epochs without fewer validation errors, and go back to the best
    keep_best : go back to the epoch of fewest validation errors (the last of equals) at the end
    best_from : for both, the first epoch that counts, from 0: earlier ones train another net (a denser one, say)
    checkpoint : a folder; written after each epoch, and taken up if it is there: the same bits result
    n_threads : the batch is split over threads, or BLAS is, where batch statistics forbid a split
    Raises UserError where the loss is not finite, or a checkpoint is of another run; ValueError for arguments
    out of range and a split without examples.
    """
    for name, value, least in (("epochs", epochs, 0), ("batch_size", batch_size, 1), ("patience", patience, 1)):
        if value is not None and value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")
    if not len(data.train.y):
        raise ValueError("data.train must hold at least one example, got none")
    events, base_lr, log = _checked(events), optimizer.lr, log or (lambda row: None)
    schedule, n = schedule or constant(), len(data.train.y)
    steps_per_epoch = -(-n // batch_size)
    state = State(model, optimizer, rng, steps=epochs * steps_per_epoch)
    history, best = _resume(checkpoint, state, epochs, base_lr)
    keep_best = keep_best or patience is not None
    with _workers(n_threads, _splits(model, batch_size)) as pool:
        try:
            for state.epoch in range(len(history), epochs):
                if patience is not None and _since_fewer(history[best_from:]) >= patience:
                    break
                start, order, total = time.perf_counter(), rng.permutation(n), 0.0
                for i in range(steps_per_epoch):
                    rows = order[i * batch_size:(i + 1) * batch_size]
                    x = data.train.x[rows]
                    state.batch = (augment(x, rng=rng) if augment else x, data.train.y[rows])
                    optimizer.lr = float(base_lr * schedule(state.step / max(state.steps, 1)))
                    total += _one_step(state, events, pool) * len(rows)
                    state.step += 1
                    log({"event": "progress", "name": "train", "done": state.step, "total": state.steps})
                events["after_epoch"](state)
                val = evaluate(model, data.val, n_threads=n_threads)
                history.append({"epoch": state.epoch + 1, "loss": total / n, "val_errors": val.errors,
                                "val_size": val.size, "lr": optimizer.lr, "seconds": time.perf_counter() - start})
                log({"event": "epoch", "epochs": epochs, **history[-1]})
                if keep_best and _last_is_best(history[best_from:]):
                    best = model.state_dict()
                if checkpoint is not None:
                    _write_checkpoint(checkpoint, state, history, best, epochs, base_lr)
        finally:
            optimizer.lr = base_lr
    if keep_best and best is not None:
        model.load_state_dict(best)
    return history


def _one_step(state: State, events: dict, pool) -> float:
    # One batch: gradients (of its shards, summed in order), optimizer step, projection. Returns the loss.
    events["before_batch"](state)
    names = list(state.optimizer.params)
    params = [state.optimizer.params[n] for n in names]
    value, output, grads = _shard_gradients(state, events["loss"], params, pool)
    state.output, state.loss = Tensor(output), Tensor(np.asarray(value, output.dtype))
    state.grads = dict(zip(names, grads))
    if not np.isfinite(value):
        raise UserError(f"the loss must stay finite, got {value} at step {state.step}; a smaller learning rate than "
                        f"{state.optimizer.lr:g} may help")
    events["after_backward"](state)
    state.optimizer.step(state.grads)
    state.model.project()
    events["after_step"](state)
    return value


def _shard_gradients(state: State, loss_event, params, pool) -> tuple[float, Array, list[Array]]:
    # Loss, output and gradients of the batch: of its shards, one a thread, summed in their order.
    x, y = state.batch
    n_shards = 1 if pool is None else min(pool.size, len(y))
    if n_shards <= 1:
        return _gradients(state, x, y, loss_event, state.rng, params)
    cuts = np.linspace(0, len(y), n_shards + 1).astype(int)
    shares = [float((b - a) / len(y)) for a, b in zip(cuts, cuts[1:])]
    jobs = [pool.submit(_gradients, state, x[a:b], y[a:b], loss_event, r, params, share)
            for a, b, r, share in zip(cuts, cuts[1:], state.rng.spawn(n_shards), shares)]
    values, outputs, parts = zip(*(job.result() for job in jobs))
    grads = parts[0]
    for part in parts[1:]:  # not in place: two parameters may hold one array as their gradient
        grads = [g + more for g, more in zip(grads, part)]
    return sum(w * v for w, v in zip(shares, values)), np.concatenate(outputs), list(grads)


def _gradients(state: State, x, y, loss_event, rng, params,
               share: float = 1.0) -> tuple[float, Array, list[Array]]:
    # Loss and output of the examples x, y, and the gradients of share times the loss.
    shard = State(state.model, state.optimizer, rng, (x, y), state.step, state.steps, state.epoch)
    shard.output = state.model(x, training=True, rng=rng)
    shard.loss = loss_event(shard)
    cotangent = np.full(shard.loss.shape, share, shard.loss.dtype)
    grads = grad(shard.loss, params, cotangent=cotangent)
    return shard.loss.item(), shard.output.data, [g.data for g in grads]


def evaluate(model: Model, split, *, batch_size: int = 500, n_threads: int = 1) -> Score:
    """Returns errors, size and mean cross-entropy of the model on a split.

    Batches are of fixed size, so the count is the same for any number of threads.
    """
    starts = range(0, len(split.y), batch_size)
    with _workers(n_threads, True) as pool, no_grad():
        parts = list((pool.map if pool else map)(
            lambda i: _score(model, split.x[i:i + batch_size], split.y[i:i + batch_size]), starts))
    size = len(split.y)
    return Score(sum(e for e, _ in parts), size, sum(v for _, v in parts) / max(size, 1))


def _score(model: Model, x: Array, y: Array) -> tuple[int, float]:
    with no_grad():
        z = model(x)
        return int(np.count_nonzero(z.data.argmax(axis=1) != y)), cross_entropy(z, y, reduction="sum").item()


@contextmanager
def _workers(n_threads: int, split: bool):
    # A pool of n_threads with BLAS at one thread each, or None with BLAS at n_threads.
    from threadpoolctl import threadpool_limits

    if n_threads < 1:
        raise ValueError(f"n_threads must be at least 1, got {n_threads}")
    keep_freed_memory()
    with threadpool_limits(1 if split else n_threads):
        if n_threads == 1 or not split:
            yield None
        else:
            with _Pool(n_threads) as pool:
                yield pool


class _Pool(ThreadPoolExecutor):
    def __init__(self, size: int):
        super().__init__(size)
        self.size = size


def _splits(model: Model, batch_size: int) -> bool:
    # Whether a batch is split over threads: not across batch statistics, and not where handing over a
    # shard takes as long as computing it, below about 30 million multiply-accumulates.
    statistics = any(isinstance(n.layer, (BatchNorm1d, BatchNorm2d)) for n in model.nodes)
    return not statistics and sum(model.macs().values()) * batch_size >= 1 << 25


def _checked(events: dict | None) -> dict:
    events = events or {}
    unknown = set(events) - set(EVENTS)
    if unknown:
        raise ValueError(f"events must be of {', '.join(EVENTS)}, got {', '.join(sorted(unknown))}")
    default = {name: lambda state: None for name in EVENTS}
    default["loss"] = lambda state: cross_entropy(state.output, state.batch[1])
    return default | events


def _since_fewer(history: list[dict]) -> int:
    # Epochs since there were fewer validation errors than ever before.
    errors = [row["val_errors"] for row in history]
    return len(errors) - 1 - errors.index(min(errors)) if errors else 0


def _last_is_best(history: list[dict]) -> bool:
    # Whether no epoch had fewer validation errors than the last: of equals the last is kept.
    return bool(history) and history[-1]["val_errors"] == min(row["val_errors"] for row in history)


def scale_dropout(model: Model, factor: float) -> Model:
    """Returns the model with every dropout probability times `factor`; layers are shared otherwise.

    Source: Han et al. 2015, eq. (1)-(2): D_r = D_o sqrt(C_r / C_o)
    """
    swap = {n.name: (Node(n.name, Dropout(min(n.layer.p * factor, 0.99)), n.inputs),)
            for n in model.nodes if isinstance(n.layer, Dropout)}
    return model.edit(swap) if swap else model


# --------------------------------------------------------------------------------------- checkpoints


def _write_checkpoint(folder: Path, state: State, history, best, epochs: int, lr: float) -> None:
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {f"model/{k}": v for k, v in state.model.state_dict().items()}
    arrays |= {f"optimizer/{k}": v for k, v in state.optimizer.state_dict().items()}
    arrays |= {f"best/{k}": v for k, v in (best or {}).items()}
    notes = {"history": history, "rng": state.rng.bit_generator.state, "step": state.step,
             "run": _run(state, epochs, lr), "spawned": state.rng.bit_generator.seed_seq.n_children_spawned}
    partial = folder / "fit.partial.npz"
    with open(partial, "wb") as f:
        np.savez(f, notes=np.frombuffer(json.dumps(notes, default=np.ndarray.tolist).encode(), np.uint8), **arrays)
        f.flush()
        os.fsync(f.fileno())
    os.replace(partial, folder / "fit.npz")


def _run(state: State, epochs: int, lr: float) -> dict:
    seed = state.rng.bit_generator.seed_seq
    return {"epochs": epochs, "lr": lr, "optimizer": type(state.optimizer).__name__, "steps": state.steps,
            "seed": f"{seed.entropy} {seed.spawn_key}"}


def _resume(folder: Path | None, state: State, epochs: int, lr: float) -> tuple[list[dict], dict | None]:
    if folder is None or not (Path(folder) / "fit.npz").exists():
        return [], None
    path = Path(folder) / "fit.npz"
    try:
        with np.load(path, allow_pickle=False) as f:
            arrays = dict(f)
        notes = json.loads(arrays.pop("notes").tobytes())
        parts = {kind: {k[len(kind) + 1:]: v for k, v in arrays.items() if k.startswith(kind + "/")}
                 for kind in ("model", "optimizer", "best")}
        if notes["run"] != _run(state, epochs, lr):
            raise ValueError(f"it is of another run: {notes['run']}, not {_run(state, epochs, lr)}")
        seed = state.rng.bit_generator.seed_seq
        if notes["spawned"] < seed.n_children_spawned:
            raise ValueError("rng has drawn since the run began; it must be made anew from its seed")
        state.model.load_state_dict(parts["model"])
        state.optimizer.load_state_dict(parts["optimizer"])
        state.rng.bit_generator.state = notes["rng"]
        seed.spawn(notes["spawned"] - seed.n_children_spawned)
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as e:
        raise UserError(f"checkpoint {path} cannot be used: {e}; delete it to start again") from None
    state.step = notes["step"]
    return notes["history"], parts["best"] or None
