"""The folder of a run: it belongs to one run at a time, and to one set of settings.

    f.mcz.run/run.json          the settings, and how the run ended if it ended in a user's error
    f.mcz.run/lock              held by the process that runs
    f.mcz.run/NN-STEP.step      the net after a step; NN-STEP/fit.npz a training in its middle

A run that is stopped or killed leaves the folder, and the same command goes on from it; one that
ends in a result removes it. What a run left that ended in a user's error stands in nobody's way:
steps that the corrected settings share with it are kept, the others go.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from .. import __version__
from ..atomic import as_json, write_atomically
from ..checkpoint import fingerprint
from ..errors import UserError, printable
from ..lock import NAME as LOCK
from ..lock import locked

NOTE, NOTE_BYTES = "run.json", 1 << 24  # the settings, and their limit
# What a run writes, or an older one wrote: settings, the state of a training, nets after steps, and
# each half written.
_OWN = re.compile(
    rf"run\.json|{LOCK}|fit\.npz|\d\d-[a-z0-9+-]+\.(step|mcz|json)|\.[0-9a-f]{{16}}\.tmp")


def folder_of(out: Path) -> Path:
    """Returns the folder of the run that writes `out`: beside the file that a link names."""
    out = Path(os.path.realpath(out)) if out.is_symlink() else out
    return out.with_name(out.name + ".run")


@contextlib.contextmanager
def run_folder(folder: Path, settings: dict, data, *, restart: bool = False,
               say: Callable[[str], None] = print) -> Iterator[Path]:
    """Holds the folder of a run until the block ends: removed after a result, kept otherwise.

    settings : JSON-able, everything that decides the result; the steps in a list "steps"
    data : its examples decide too        restart : remove what another run left there
    say : takes a line about what is taken up
    Steps that have not begun may be others: whoever corrects a knob keeps the training before it.
    Raises UserError where another run is using the folder, it holds an unfinished run with other
        settings and `restart` is not set, or it is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(
            f"{folder} is a file; a run keeps its unfinished state in a folder of that name"
        )
    settings = json.loads(as_json(
        settings | {"examples": fingerprint(data), "minicomp": __version__}))
    with locked(folder):
        try:
            _take_up(folder, settings, restart, say)
            yield folder
        except BaseException as e:
            with contextlib.suppress(OSError):  # the error that was there first is what to say
                _ended(folder, settings, e)
            raise
        remove(folder)


def _take_up(folder: Path, settings: dict, restart: bool, say: Callable[[str], None]) -> None:
    # Brings the folder to what a run with these settings may believe, and writes the settings.
    note = folder / NOTE
    if restart:
        _remove_steps(folder)
        remove(note)
    for half in folder.rglob(".*.tmp"):  # of a process that was killed
        if _OWN.fullmatch(half.name) and not half.is_symlink():
            half.unlink()
    known, ended = _read(note)
    if known is None and not restart and (note.exists() or _begun(folder)):
        raise _Other(f"{folder} holds an unfinished run whose settings cannot be read; "
                     f"discard it with --restart")
    if known is not None and known != settings:
        same = _shared(known, settings)
        if not ended and _begun(folder) > same:
            raise _Other(f"{folder} holds an unfinished run with other settings "
                         f"({_differing(known, settings)}); finish it with those, or discard it "
                         f"with --restart")
        _remove_steps(folder, after=same)
    if begun := _begun(folder):
        say(f"{folder}: goes on from a run {'that ended in an error' if ended else 'not finished'}"
            f": {_done(folder, begun)}")
    write_atomically(note, as_json(settings).encode())


class _Other(UserError):
    # The folder holds another run, which stays as it is.
    pass


def _ended(folder: Path, settings: dict, e: BaseException) -> None:
    # After a user's error nothing is left to finish; after any other, the same command goes on.
    if isinstance(e, _Other):
        return
    if not _begun(folder):
        remove(folder)
    elif isinstance(e, UserError):
        write_atomically(folder / NOTE, as_json(settings | {"ended": str(e)}).encode())


def _begun(folder: Path) -> int:
    # One more than the number of the last step that left something; 0: none did.
    if any(folder.glob("attempt-*")):
        return 100
    return max((int(p.name[:2]) + 1 for p in folder.glob("[0-9][0-9]-*") if _any(p)), default=0)


def _any(path: Path) -> bool:
    # Whether a run left anything there: a folder that is empty is no state.
    return not path.is_dir() or any(path.iterdir())


def _done(folder: Path, begun: int) -> str:
    # Which steps are there, in words.
    names = [p.stem for p in sorted(folder.glob("[0-9][0-9]-*.step"))]
    if begun == 100:
        names.append(f"attempt {len(list(folder.glob('attempt-*')))} at the budget")
    elif (half := sorted(folder.glob(f"{begun - 1:02d}-*"))) and half[0].stem not in names:
        names.append(f"{half[0].stem} in its middle")
    return ", ".join(names)


def _shared(known: dict, settings: dict) -> int:
    # How many steps, the training before the first one counted, two settings have in common.
    names = {k for k in {**known, **settings} if known.get(k) != settings.get(k)}
    if names - {"steps", "bytes"}:
        return 0
    if "bytes" in names or settings.get("bytes") is not None:
        return 1  # a budget changes every step
    mine, theirs = (s if isinstance(s, list) else [] for s in
                    (settings.get("steps"), known.get("steps")))
    return 1 + next((i for i, (a, b) in enumerate(zip(mine, theirs)) if a != b),
                    min(len(mine), len(theirs)))


WORDS = {"from": "the file to start from", "bytes": "budget of bytes", "examples": "the data",
         "minicomp": "minicomp's version", "train": "training"}


def _differing(known: dict, settings: dict) -> str:
    # In words: "seed 0 there, 1 here; step 2: bits 4 there, 2 here".
    words = []
    for k in {**settings, **known}:
        there, here = known.get(k), settings.get(k)
        if there == here:
            continue
        if k == "steps" and isinstance(there, list) and isinstance(here, list):
            words += _steps(there, here)
        elif isinstance(there, dict) and isinstance(here, dict):
            words += [f"{WORDS.get(k, k)}: {w}" for w in _knobs(there, here)]
        elif k == "examples":
            words.append("the data are others")
        else:
            words.append(f"{WORDS.get(k, k)} {_short(there)} there, {_short(here)} here")
    return printable("; ".join(words))


def _steps(there: list, here: list) -> list[str]:
    names = [[str(s.get("name")) if isinstance(s, dict) else "?" for s in each]
             for each in (there, here)]
    if names[0] != names[1]:
        return [f"steps {', '.join(names[0]) or 'none'} there, {', '.join(names[1])} here"]
    return [f"{a['name']} (step {i}): {word}"
            for i, (a, b) in enumerate(zip(there, here), start=1) for word in _knobs(a, b)]


def _knobs(there: dict, here: dict) -> list[str]:
    return [f"{k} {_short(there.get(k))} there, {_short(here.get(k))} here"
            for k in {**here, **there} if there.get(k) != here.get(k)]


def _short(value) -> str:
    return "none" if value is None else printable(as_json(value).replace('"', ""), 80)


def _read(note: Path) -> tuple[dict | None, bool]:
    # The settings of a folder, or None, and whether their run ended in a user's error.
    try:
        with open(note, "rb") as f:
            raw = f.read(NOTE_BYTES + 1)
        known = json.loads(raw) if len(raw) <= NOTE_BYTES else None
    except (OSError, ValueError, RecursionError):
        return None, False
    if not isinstance(known, dict):
        return None, False
    return known, known.pop("ended", None) is not None


def _remove_steps(folder: Path, after: int = 0) -> None:
    # Removes what the steps from number `after` on left, and attempts.
    for path in [*folder.glob("[0-9][0-9]-*"), *folder.glob("attempt-*")]:
        if path.name.startswith("attempt-") or int(path.name[:2]) >= after:
            remove(path)


def remove(path: Path) -> None:
    """Removes the files that a run writes, and the folders that are then empty, the lock last.

    The settings go after all steps: whoever is killed in between leaves a run that can be taken up.
    path : a folder or a file; links are left, and what they name
    """
    if path.is_symlink() or not path.exists():
        return
    if path.is_file():
        if _OWN.fullmatch(path.name):
            path.unlink(missing_ok=True)
        return
    for each in sorted(path.iterdir(), key=lambda p: (p.name == LOCK, p.name == NOTE)):
        remove(each)
    with contextlib.suppress(OSError):  # somebody else's files are in it, or one is made just now
        path.rmdir()
