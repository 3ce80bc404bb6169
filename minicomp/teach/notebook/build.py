"""Building lessons: student notebooks from sources, expected numbers from runs.

A source is built the same way everywhere: the same source and expected numbers give the same bytes,
so `stale` finds what is out of step by building again and comparing.
"""

from __future__ import annotations

import hashlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ... import __version__
from ...atomic import as_json, write_atomically
from ...errors import UserError
from .. import catalog
from .cells import Cell, filled, numbered, read_source, stub, to_json, unmarked

MAX_WORDS, MAX_CODE_LINES, MAX_MEDIAN_CELL = 1200, 250, 8
_ROOT = Path(__file__).parents[3]  # of the package: a checkout, or where it is installed


def sources() -> Path:
    """Returns the folder of the lesson sources: of the package's checkout, or the one we are in.

    Raises UserError where there is neither: an installation has no sources.
    """
    for root in (_ROOT, Path.cwd()):
        if (root / "lessons" / "source").is_dir():
            return root / "lessons" / "source"
    raise UserError("lessons are built in a checkout of minicomp: an installation has no sources")


def source_of(of: catalog.LessonChecks) -> str:
    """Returns the text of a lesson's source; UserError where it has none."""
    path = sources() / f"{of.stem}.py"
    if not path.is_file():
        raise UserError(f"lesson {of.number} has no source {path.name}")
    return path.read_text(encoding="utf-8")


def cells_of(of: catalog.LessonChecks, *, solutions: bool) -> list[Cell]:
    """Returns the cells of a lesson with its expected numbers filled in; solutions or stubs."""
    numbers = catalog.expected(of)
    out = []
    for cell in numbered(read_source(source_of(of)), of.number):
        if cell.kind == "markdown":
            out.append(replace(cell, source=filled(cell.source, numbers)))
        else:
            out.append(replace(cell, source=(unmarked if solutions else stub)(cell.source)))
    return out


def notebook_text(of: catalog.LessonChecks, *, solutions: bool = False) -> str:
    """Returns the notebook of a lesson: what a student opens, or the solved one."""
    digest = hashlib.sha256(source_of(of).encode()).hexdigest()
    meta = {"lesson": of.number, "version": __version__, "source": digest[:16]}
    return to_json(cells_of(of, solutions=solutions), meta)


def build(of: catalog.LessonChecks) -> Path:
    """Writes lessons/NN_name.ipynb and returns its path."""
    path = sources().parent / f"{of.stem}.ipynb"
    write_atomically(path, notebook_text(of).encode())
    return path


def stale() -> list[str]:
    """Returns one line per notebook that is not what its source builds, or that has no source."""
    wanted = {f"{of.stem}.ipynb": notebook_text(of) for of in catalog.lessons().values()}
    have = {p.name: p for p in sources().parent.glob("*.ipynb")}
    lines = [f"{name}: missing" for name in wanted if name not in have]
    lines += [f"{name}: has no source" for name in have if name not in wanted]
    return lines + [
        f"{name}: out of step with its source"
        for name, text in wanted.items()
        if name in have and have[name].read_text(encoding="utf-8") != text
    ]


def sizes(of: catalog.LessonChecks) -> dict:
    """Returns words, code lines and the median lines of a code cell of a student notebook."""
    cells = cells_of(of, solutions=False)
    words = sum(len(c.source.split()) for c in cells if c.kind == "markdown")
    lines = [
        sum(bool(line.strip()) for line in c.source.splitlines()) for c in cells if c.kind == "code"
    ]
    return {"words": words, "code_lines": sum(lines), "median_cell": statistics.median(lines)}


def at(cells: Sequence[Cell], *, mode: str, data: str = "auto", seed: int = 0) -> list[Cell]:
    """Returns the cells with the arguments of `Lesson(...)` in the cell tagged `mode` replaced."""
    values = (
        {"mode": mode}
        | ({"data": data} if data != "auto" else {})
        | ({"seed": seed} if seed else {})
    )

    def setup(source: str) -> str:
        head, _, tail = source.partition("Lesson(")
        number, _, rest = tail.partition(",")
        inner, _, after = rest.partition(")")
        kept = [
            a.strip()
            for a in inner.split(",")
            if a.strip() and a.split("=")[0].strip() not in ("mode", "data", "seed")
        ]
        given = [f'{k}="{v}"' if isinstance(v, str) else f"{k}={v}" for k, v in values.items()]
        return f"{head}Lesson({', '.join([number, *given, *kept])}){after}"

    if not any(c.tagged("mode") for c in cells):
        raise UserError("a lesson needs one cell tagged mode, which makes its Lesson(...)")
    return [replace(c, source=setup(c.source)) if c.tagged("mode") else c for c in cells]


def run(
    of: catalog.LessonChecks, *, mode: str, data: str = "auto", seed: int = 0, timeout: float = 3600
) -> dict:
    """Runs a lesson with its solutions in a process of its own; returns numbers, seconds per cell.

    Raises UserError with the cell's traceback where one raises.
    """
    cells = at([c for c in cells_of_draft(of) if c.kind == "code"], mode=mode, data=data, seed=seed)
    with tempfile.TemporaryDirectory(prefix="minicomp-lesson-") as folder:
        job, out = Path(folder, "cells.json"), Path(folder, "out.json")
        write_atomically(job, as_json([[c.id, c.source] for c in cells]).encode())
        done = subprocess.run(
            [
                sys.executable,
                "-P",
                "-c",
                _RUN.format(root=str(Path(__file__).parents[3])),
                str(job),
                str(out),
            ],
            capture_output=True,
            text=True,
            timeout=timeout,
            cwd=folder,
        )
        if done.returncode:
            raise UserError(f"lesson {of.number}, mode {mode}: {done.stderr.strip()[-2000:]}")
        return json.loads(out.read_text())


def cells_of_draft(of: catalog.LessonChecks) -> list[Cell]:
    """Returns the solved cells, their prose without numbers: these may not be recorded yet."""
    return [
        replace(c, source=unmarked(c.source))
        for c in numbered(read_source(source_of(of)), of.number)
    ]


_RUN = """
import sys
sys.path.insert(0, {root!r})
import matplotlib
matplotlib.use("Agg")
from minicomp.teach.notebook.build import run_here
run_here(*sys.argv[1:])
"""


def run_here(job: str, out: str) -> None:
    """Runs the cells of a file here and writes what they measured: the inner half of `run`."""
    space: dict = {"__name__": "__main__"}
    seconds = {}
    for name, source in json.loads(Path(job).read_text(encoding="utf-8")):
        start = time.perf_counter()
        exec(compile(source, f"<{name}>", "exec"), space)
        seconds[name] = round(time.perf_counter() - start, 3)
    lesson = space["lesson"]
    found = {
        "data": lesson.data.name,
        "original": lesson.data.original,
        "results": lesson.measured,
        "twin": lesson.timings,
        "cells": seconds,
        "seconds": round(sum(seconds.values()), 1),
    }
    write_atomically(out, as_json(found).encode())


def record(
    of: catalog.LessonChecks,
    *,
    data: Sequence[str],
    seeds: int,
    log: Callable[[dict], None] = lambda row: None,
) -> Path:
    """Runs a lesson in full mode on each data set and writes lessons/expected/NN.json.

    seeds : how many runs, with seeds 0, 1, ...
    Rows of data sets that are not run stay as they are.
    """
    from ..live.session import machine

    path = sources().parent / "expected" / f"{of.number}.json"
    found, runs = catalog.expected(of), []
    for name in data:
        runs = []
        for seed in range(seeds):
            log(
                {
                    "event": "progress",
                    "name": f"lesson {of.number} on {name}",
                    "done": seed,
                    "total": seeds,
                }
            )
            runs.append(run(of, mode="full", data=name, seed=seed))
        found["data"][name] = {
            "results": summary(of, runs),
            "seconds": [r["seconds"] for r in runs],
        }
    if runs and runs[-1]["twin"]:
        found["twin"] = {"machine": machine(), "rows": runs[-1]["twin"]}
    found |= {"lesson": of.number, "mode": "full", "machine": machine(), "numpy": np.__version__}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (as_json(found, indent=1, sort_keys=True) + "\n").encode())
    return path


def summary(of: catalog.LessonChecks, runs: Sequence[dict]) -> dict:
    """Returns mean, lowest and highest of each number over runs, entry by entry in a list."""
    rows = {}
    for number in of.numbers:
        values = [r["results"][number.key] for r in runs if number.key in r["results"]]
        if not values:
            raise UserError(f"lesson {of.number} did not record {number.key}")
        a = np.asarray(values, float)
        rows[number.key] = {
            k: _rounded(v) for k, v in (("mean", a.mean(0)), ("low", a.min(0)), ("high", a.max(0)))
        }
        rows[number.key] |= {"unit": number.unit, "digits": number.digits, "runs": len(values)}
    return rows


def _rounded(value):
    return [float(f"{v:.6g}") for v in value] if np.ndim(value) else float(f"{value:.6g}")
