"""What a reproduced table is, and how its files are checked."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .. import data as datasets
from ..codec import save
from ..deploy import Program
from ..errors import UserError
from ..lock import locked
from ..nn.graph import Model
from ..quality import Agreement
from ..tensor import Array
from .journal import Journal, recorded

ROOT = Path(__file__).parents[2]  # of this very package: a child takes it, wherever it starts
COMMAND = (
    "import sys; sys.path.insert(0, {root!r}); from minicomp.cli import main; sys.exit(main())"
)


@dataclass(frozen=True)
class Paper:
    """A table of a paper that `minicomp paper NAME` reproduces.

    data : the data set it needs        time : how long a seed takes on 2 cores
    run : run(data, seeds=, log=, n_threads=, out=) -> rows, each with row, paper, ours, met (and
        details); out is a folder for the files
    table : of a table that keeps a journal; table(lines) -> rows, and run gets journal= as well and
        returns nothing: what it finds are the journal's lines
    """

    name: str
    title: str
    data: str
    time: str
    run: Callable[..., list[dict] | None]
    note: str = ""
    table: Callable[[list[dict]], list[dict]] | None = None

    def rows(self, *, seeds: Sequence[int], log: Callable[[dict], None], n_threads: int = 1,
             out: Path | None = None, journal: Path | None = None) -> list[dict]:
        """Returns the rows: row, paper, ours, met, seconds.

        out : a folder for the files        journal : a file of what is found, taken up where it is
            there; NAME.jsonl in `out` where none is named
        Raises UserError where the data set is missing, is not the published one, another run writes
        to the folder `out`, or the table keeps no journal.
        """
        if journal is not None and self.table is None:
            raise UserError(f"table {self.name} keeps no journal")
        data = datasets.load(self.data)
        if not data.original:
            raise UserError(
                f"table {self.name} needs the published data set {self.data}, got: {data.note}"
            )
        with tempfile.TemporaryDirectory() as scratch, locked(out or Path(scratch)):
            out = out or Path(scratch)
            given = {"seeds": seeds, "log": log, "n_threads": n_threads, "out": out}
            if self.table is None:
                return self.run(data, **given)
            kept = Journal(journal or out / f"{self.name}.jsonl", log)
            self.run(data, journal=kept, **given)
            return self.table([line for line in kept.lines if line["seed"] in (None, *seeds)])

    def recorded(self) -> list[dict]:
        """Returns the rows of the committed journal.

        Raises UserError where there is none.
        """
        lines = [] if self.table is None else recorded(self.name)
        if not lines:
            raise UserError(f"table {self.name} has no committed journal")
        return self.table(lines)


def file_errors(model: Model | Program, path: Path, data_name: str) -> tuple[int, int]:
    """Writes the model and returns (bytes, errors) as `minicomp eval` finds them in a new process.

    Raises RuntimeError where that process fails.
    """
    save(model, path)
    words = ["eval", str(path), "--data", data_name, "--json", "-"]
    run = subprocess.run([sys.executable, "-P", "-c", COMMAND.format(root=str(ROOT)), *words],
                         capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(f"minicomp eval {path} failed: {run.stderr.strip()}")
    result = json.loads(run.stdout)
    return result["file_bytes"], result["errors"]


def percent(errors: Sequence[int], size: int) -> str:
    """Returns errors as "1.40 % (1.36..1.43)": the mean, and the range where there are several."""
    rates = [100 * e / size for e in errors]
    mean = f"{sum(rates) / len(rates):.2f} %"
    return mean if len(rates) == 1 else f"{mean} ({min(rates):.2f}..{max(rates):.2f})"


def counts(numbers: Sequence[int]) -> str:
    """Returns numbers as "140 (136..143)": the mean, and the range where there are several."""
    said = f"{mean(numbers):,.0f}"
    return said if len(numbers) == 1 else f"{said} ({min(numbers):,}..{max(numbers):,})"


def beside(row: dict, found: Sequence[Agreement]) -> dict:
    """Returns a row that also says how its nets agree with their float ones, an entry a seed:
    predictions that flip, a fraction, and the KL of the logits, nats."""
    flips, kl = [a.flips / a.size for a in found], [a.kl for a in found]
    said = f"{row['ours']}; {100 * mean(flips):.2f} % flipped, KL {mean(kl):.2g}"
    return row | {"ours": said, "flips": flips, "kl": kl}


def paired(now: Array, was: Array) -> tuple[float, float, float]:
    """Returns by how much an error has risen, and the ends of its 95 % interval, in points.

    now, was : (seeds, N) bool, which images a net gets wrong, and the net that it came from
    Paired by image: what is averaged is a difference each image, its mean over the seeds, so that
    images which all nets get wrong do not widen the interval.
    """
    d = 100 * (now.astype(np.float64) - was).mean(axis=0)
    half = 1.96 * d.std() / np.sqrt(len(d))
    return float(d.mean()), float(d.mean() - half), float(d.mean() + half)


def mean(values: Sequence[float]) -> float:
    """Returns the arithmetic mean."""
    return sum(values) / len(values)
