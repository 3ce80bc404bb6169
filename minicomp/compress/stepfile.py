"""The net that a step left, in a file that says of which step: nothing is believed by its name.

One line of JSON, then the net's own `.mcz` bytes. The line holds `of`, everything that decides the
net (knobs, the net before, data, seed, threads, version of minicomp), and what was logged on the
way: the rows of its epochs, and the seconds. Line and net are one file, so that they are of one
run whoever else writes there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

from ..atomic import as_json, write_atomically
from ..checkpoint import HISTORY, check_history, differing
from ..codec import decode, encode
from ..errors import UserError, printable
from ..nn.graph import Model

LINE = 1 << 24  # bytes, at most, of the first line
NET = 1 << 30  # of what follows
EPOCHS = 100_000  # rows, at most, in it
MARK = "minicomp step"


def kept(path: Path | None, of: dict, make: Callable, log: Callable) -> tuple[Model, float]:
    """Returns (the model, its seconds): from the file, its epochs logged as "resumed", or of
    `make(log)`, and then written.

    path : None keeps nothing        of : JSON-able, what decides the model
    Raises UserError where the file is damaged or of something else.
    """
    if path is not None and path.exists():
        model, rows, seconds = read(path, of)
        log({"event": "resumed", "rows": rows})
        return model, seconds
    rows, start = [], time.perf_counter()
    seconds = 0.0  # of a training that was taken up in its middle

    def listen(row: dict) -> None:
        nonlocal seconds
        if row.get("event") == "resumed":
            rows.extend(row["rows"])
            seconds += sum(r["seconds"] for r in row["rows"])
        elif row.get("event") == "epoch":
            rows.append(row)
        log(row)

    model = make(listen)
    seconds += time.perf_counter() - start
    if path is not None:
        write(path, of, model, rows, seconds)
    return model, seconds


def write(path: Path, of: dict, model: Model, rows: list[dict], seconds: float) -> None:
    """Writes the file; its folder is made. OSError names the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    line = as_json({"file": MARK, "of": of, "rows": rows, "seconds": seconds})
    write_atomically(path, line.encode() + b"\n" + encode(model))


def read(path: Path, of: dict) -> tuple[Model, list[dict], float]:
    """Returns (model, rows of its epochs, seconds) of a file that must be `of` just this.

    Raises UserError that names the file where it is damaged or of something else.
    """
    try:
        with open(path, "rb") as f:
            raw = f.readline(LINE)
            line = json.loads(raw)
            if not isinstance(line, dict) or line.get("file") != MARK:
                raise ValueError("it is no step of a run")
            known = line["of"] if isinstance(line["of"], dict) else {}
            if words := differing(known, json.loads(as_json(of))):
                raise ValueError(f"it is of another run: {'; '.join(words)}")
            rows, seconds = line["rows"], line["seconds"]
            _check(rows, seconds)
            net = f.read(NET + 1)
            if len(net) > NET:
                raise ValueError(f"its net must take at most {NET:,} bytes")
            return decode(net, kind="model").model, rows, seconds
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as e:
        raise UserError(f"checkpoint {path} cannot be used: {printable(e, 1000)}; delete it to "
                        f"start again") from None


def _check(rows, seconds) -> None:
    # ValueError where they are not what `kept` writes.
    known = {"event", "epochs", *HISTORY}
    if not isinstance(rows, list) or not all(isinstance(r, dict) for r in rows):
        raise ValueError("its rows must be a list of epochs")
    if any(r.keys() != known or r["event"] != "epoch" or type(r["epochs"]) is not int
           for r in rows):
        raise ValueError(f"each of its rows must have {', '.join(sorted(known))}")
    check_history([{k: r[k] for k in HISTORY} for r in rows], EPOCHS)
    if type(seconds) not in (int, float) or not 0 <= seconds < 1e12:
        raise ValueError("its seconds must be a number of at least 0")
