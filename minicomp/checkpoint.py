"""What a training must find again to go on: a file whose every part is known before it is read.

`fit.npz` holds the arrays of the model, the optimizer and the hooks, those of the best epoch, and a
JSON note: history, step, state of the generator, and of which run it is. A run is its settings, its
data, the net that it started from and the version of minicomp; what is of another run is refused.
The file may be anybody's: names, shapes and dtypes are compared in the archive's directory, so that
nothing larger than the training itself is ever read or allocated.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np

from . import __version__
from .archive import DAMAGED, Archive
from .atomic import as_json, write_atomically
from .errors import UserError, printable
from .nn.graph import Model
from .tensor import Array

NOTES = 1 << 20  # bytes of the note without its history
ROW = 1024  # bytes, at most, of one epoch in it
NOTE = {"history", "rng", "step", "spawned", "run"}
SPAWNED = 1024  # children of a seed that are made at once


def fingerprint(*things) -> str:
    """Returns 32 hexadecimal digits of arrays, models, data sets, bytes, and what JSON can say.

    A data set is its `train` and `val`, whatever its name.
    """
    digest = hashlib.blake2b(digest_size=16)
    for thing in things:
        for part in _parts(thing):
            part = part.encode() if isinstance(part, str) else part
            digest.update(len(part).to_bytes(8, "little"))
            digest.update(part)
    return digest.hexdigest()


def _parts(thing):
    if isinstance(thing, np.ndarray):
        yield f"{thing.dtype.str} {thing.shape}"
        yield np.ascontiguousarray(thing).reshape(-1).view(np.uint8).data
    elif isinstance(thing, bytes):
        yield thing
    elif isinstance(thing, Model):
        yield as_json(thing.spec())
        for name, a in thing.state_dict().items():
            yield name
            yield from _parts(a)
    elif isinstance(thing, Mapping):
        for name, held in thing.items():
            yield str(name)
            yield from _parts(held)
    elif hasattr(thing, "train"):
        for split in (thing.train, thing.val):
            yield from _parts(split.x)
            yield from _parts(split.y)
    else:
        yield as_json(thing)


def differing(known: Mapping, asked: Mapping, of: str = "") -> list[str]:
    """Returns in words where two settings differ: "lr is 0.1 there, not 0.2".

    known : as it stands in the file, JSON of any kind        of : before each name
    """
    words = []
    for name in {**asked, **known}:
        there, here = known.get(name), asked.get(name)
        if isinstance(there, dict) and isinstance(here, dict):
            words += differing(there, here, f"{of}{name} ")
        elif there != here and name in ("start", "data"):  # digests, which tell nobody anything
            words.append(f"{of}{name} is another one there")
        elif there != here:
            words.append(f"{of}{name} is {_short(there)} there, not {_short(here)}")
    return words


def _short(value) -> str:
    return "missing" if value is None else printable(as_json(value).strip('"'), 60)


class Checkpoint:
    """The file of one training, in a folder, or none.

    state : of the training, at its start        settings : JSON-able, what else must be the same
    """

    def __init__(self, folder: Path | None, state, hooks: Sequence, settings: dict, data,
                 *, epochs: int, n_threads: int):
        self.path = None if folder is None else Path(folder) / "fit.npz"
        if folder is None:
            return
        self.state, self.hooks, self.epochs, self.n_threads = state, hooks, epochs, n_threads
        seed, optimizer = state.rng.bit_generator.seed_seq, state.optimizer
        run = {"epochs": epochs, "lr": optimizer.lr, "optimizer": type(optimizer).__name__,
               "steps": state.steps, "seed": f"{seed.entropy} {seed.spawn_key}",
               "hooks": [hook.name for hook in hooks], "threads": n_threads, "settings": settings,
               "start": fingerprint(state.model, everything(state.model, hooks)),
               "data": fingerprint(data), "minicomp": __version__}
        self.run = json.loads(as_json(run))

    def write(self, history: list[dict], best: dict[str, Array] | None) -> None:
        """Writes the state as it is; OSError names the file."""
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        state, data = self.state, BytesIO()
        arrays = self._arrays() | {f"best/{k}": v for k, v in (best or {}).items()}
        notes = {"history": history, "rng": state.rng.bit_generator.state, "step": state.step,
                 "spawned": state.rng.bit_generator.seed_seq.n_children_spawned, "run": self.run}
        np.savez(data, notes=np.frombuffer(as_json(notes).encode(), np.uint8), **arrays)
        write_atomically(self.path, data.getvalue())

    def resume(self) -> tuple[list[dict], dict[str, Array] | None]:
        """Returns the history and the best epoch's arrays, and brings everything to that state;
        ([], None) where there is no file.

        Raises UserError that names the file where it is damaged or of another run.
        """
        if self.path is None or not self.path.exists():
            return [], None
        try:
            return self._read()
        except DAMAGED as e:
            raise UserError(f"checkpoint {self.path} cannot be used: {printable(e, 1000)}; "
                            f"delete it to start again") from None

    def _arrays(self) -> dict[str, Array]:
        arrays = everything(self.state.model, self.hooks)
        return arrays | {f"optimizer/{k}": np.asarray(v)
                         for k, v in self.state.optimizer.state_dict().items()}

    def _read(self) -> tuple[list[dict], dict[str, Array] | None]:
        state, mine = self.state, self._arrays()
        may = {f"best/{k}": v for k, v in mine.items() if not k.startswith("optimizer/")}
        with Archive(self.path, mine, may, NOTES + ROW * self.epochs) as f:
            notes = f.notes()
            if notes.keys() != NOTE:
                raise ValueError(f"its note must be a JSON object of {', '.join(sorted(NOTE))}")
            known = notes["run"] if isinstance(notes["run"], dict) else {}
            same = {"start": self.run["start"], "data": self.run["data"]}  # digests come last
            if words := differing(known | same, self.run):
                raise ValueError(f"it is of another run: {'; '.join(words)}")
            f.check()
            if words := differing(known, self.run):
                raise ValueError(f"it is of another run: {'; '.join(words)}")
            self._check(notes)
            arrays = f.arrays()
        parts = {kind: {k[len(kind) + 1:]: v for k, v in arrays.items() if k.startswith(kind + "/")}
                 for kind in ("optimizer", "best")}
        seed, rng = state.rng.bit_generator.seed_seq, state.rng.bit_generator
        restore(state.model, self.hooks, arrays)
        state.optimizer.load_state_dict(parts["optimizer"])
        rng.state = notes["rng"]
        while (left := notes["spawned"] - seed.n_children_spawned) > 0:
            seed.spawn(min(left, SPAWNED))
        state.step = notes["step"]
        return notes["history"], parts["best"] or None

    def _check(self, notes: dict) -> None:
        # ValueError where the note is not of a training of these lengths.
        history, step, spawned = notes["history"], notes["step"], notes["spawned"]
        check_history(history, self.epochs)
        per_epoch = self.state.steps // max(self.epochs, 1)
        if type(step) is not int or step != per_epoch * len(history):
            raise ValueError(f"its step must be {per_epoch * len(history)}, got {_short(step)}")
        seed = self.state.rng.bit_generator.seed_seq.n_children_spawned
        most = seed + step * self.n_threads  # every shard of a batch draws from a child
        if type(spawned) is int and spawned < seed:
            raise ValueError("rng has drawn since the run began; it must be made anew from its "
                             "seed")
        if type(spawned) is not int or spawned > most:
            raise ValueError(f"spawned must be in [{seed}, {most}], got {_short(spawned)}")
        if not _like(notes["rng"], json.loads(as_json(self.state.rng.bit_generator.state))):
            raise ValueError("its state of the generator is of another kind")


HISTORY = {"epoch": int, "loss": float, "val_errors": int, "val_size": int, "lr": float,
           "seconds": float}


def check_history(history, most: int) -> None:
    """Raises ValueError where it is no list of at most so many epochs as `fit` describes them."""
    if not isinstance(history, list) or len(history) > most:
        raise ValueError(f"its history must be a list of at most {most} epochs")
    for row in history:
        if not isinstance(row, dict) or row.keys() != HISTORY.keys():
            raise ValueError(f"an epoch of its history must have {', '.join(HISTORY)}")
        for name, kind in HISTORY.items():
            value = row[name]
            if type(value) not in (int, kind) or not 0 <= abs(value) < 2.0**1000:
                raise ValueError(f"{name} of an epoch must be a number, got {_short(value)}")


def _like(given, mine) -> bool:
    # Whether two JSON values are of one structure, strings equal, integers below 2^128 and not
    # negative, as the states of generators are.
    if isinstance(mine, dict):
        return isinstance(given, dict) and given.keys() == mine.keys() and all(
            _like(given[k], mine[k]) for k in mine)
    if isinstance(mine, list):
        return isinstance(given, list) and len(given) == len(mine) and all(
            map(_like, given, mine))
    if isinstance(mine, str):
        return given == mine
    return type(given) is type(mine) and 0 <= given < 2**128


def everything(model: Model, hooks: Sequence) -> dict[str, Array]:
    """Returns what a training has made so far: "model/NAME" and "hooks/NAME", copies."""
    arrays = {f"model/{k}": v for k, v in model.state_dict().items()}
    return arrays | {f"hooks/{k}": v.copy() for k, v in _remembered(hooks).items()}


def restore(model: Model, hooks: Sequence, arrays: dict[str, Array]) -> None:
    """Takes over what `everything` returned; ValueError where it does not fit."""
    mine = _remembered(hooks)
    given = {k.removeprefix("hooks/"): v for k, v in arrays.items() if k.startswith("hooks/")}
    if wrong := set(mine) ^ set(given):
        raise ValueError(f"what hooks remember does not fit: {', '.join(sorted(wrong))}")
    model.load_state_dict(
        {k.removeprefix("model/"): v for k, v in arrays.items() if k.startswith("model/")}
    )
    for name, a in mine.items():
        a[...] = given[name]


def _remembered(hooks: Sequence) -> dict[str, Array]:
    # What the hooks must find again: slots, and parameters of their own.
    kept = {}
    for hook in hooks:
        kept |= {f"{hook.name}/slot/{name}": a for name, a in hook.slots.items()}
        kept |= {f"{hook.name}/own/{name}": t.data for name, t in hook.parameters().items()}
    return kept
