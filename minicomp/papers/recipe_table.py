"""Tables that are a recipe, the published rows, and what must be reached: one TOML file each.

    recipe = "han2015"                      of `jobs/recipes`, run once a model and seed
    [[row]]
    row = "LeNet-5 weights"                 its title
    model = "lenet5"                        a built-in net
    after = "dns"                           the step whose model is meant, or "train"; left out: the
                                            file at the end, which a fresh process decodes
    of = "weights"                          what the ratio counts: weights that are not 0, or bytes
    ratio, error, bytes = 12, 0.77, 9000    published: at least, at most (%), below; each optional
    ours = "{ratio:.1f}x at {errors}"       the text of our row: also {bytes} and {kept}, means
    flips = true                            of a file: how its net agrees with the dense one, too

A row's seconds are those since the row before it of the same model.
"""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..compress import TECHNIQUES
from ..compress.technique import weights
from ..jobs.job import Job
from ..jobs.job import run as run_job
from ..jobs.recipe import load_recipe
from ..quality import agreement
from ..timing import Clock
from ..train import evaluate
from .table import Paper, beside, file_errors, mean, percent


@dataclass(frozen=True)
class Row:
    """A row as its file has it; see above."""

    row: str
    model: str
    ours: str
    error: float
    after: str = ""
    of: str = "bytes"
    ratio: float | None = None
    bytes: int | None = None
    flips: bool = False

    @property
    def paper(self) -> str:
        """The published row as text."""
        at = f"{self.error:.2f} %"
        if self.bytes is not None:
            return f"(ours: under {self.bytes:,} bytes at {at})"
        return at if self.ratio is None else f"{self.ratio:g}x at {at}"

    def model_of(self, job: Job):
        """Returns the model that the row is about."""
        if self.after == "train":
            return job.dense
        return dict(job.stages)[self.after] if self.after else job.model

    def spent(self, job: Job, total: float) -> float:
        """Returns the seconds of a run up to this row."""
        if not self.after:
            return total
        seconds = sum(e["seconds"] for e in job.epochs if e["stage"] == "train")
        names = ["train", *(step["name"] for step in job.steps)]
        return seconds + sum(step["seconds"] for step in job.steps[:names.index(self.after)])

    def measured(self, job: Job, file: tuple[int, int], test, n_threads: int) -> dict:
        """Returns what is counted of one run: errors, kept weights and their ratio, or bytes'."""
        model = self.model_of(job)
        errors = evaluate(model, test, n_threads=n_threads).errors if self.after else file[1]
        forms = [model.forms()[name] for name in weights(model).values()]
        found = {"errors": errors, "kept": sum(form.nonzeros() for form in forms)}
        if not self.after:
            found |= {"file_bytes": file[0], "ratios": job.model.origin_bytes / file[0]}
        if self.flips:
            found["agreement"] = agreement(job.model, job.dense, test)
        return found | {"total": sum(math.prod(form.shape) for form in forms)}

    def judged(self, runs: list[dict], size: int, seconds: float) -> dict:
        """Returns the row: paper, ours, met, seconds, and lists over the seeds."""
        lists = {key: [run[key] for run in runs] for key in runs[0]}
        total, agreed = lists.pop("total")[0], lists.pop("agreement", None)
        means = {key: mean(list_) for key, list_ in lists.items()}
        ratio = total / means["kept"] if self.of == "weights" else means.get("ratios")
        met = 100 * means["errors"] / size <= self.error
        met &= self.ratio is None or ratio >= self.ratio
        met &= self.bytes is None or means["file_bytes"] < self.bytes
        ours = self.ours.format(ratio=ratio, errors=percent(lists["errors"], size),
                                kept=means["kept"], bytes=means.get("file_bytes"))
        row = {"row": self.row, "paper": self.paper, "ours": ours, "met": bool(met),
               "seconds": seconds, **lists}
        return beside(row, agreed) if agreed else row


def run(data, *, seeds, log, n_threads, out, recipe: str, rows: list[Row]) -> list[dict]:
    """Returns the table's rows, measured."""
    found = []
    for name in dict.fromkeys(row.model for row in rows):
        mine = [row for row in rows if row.model == name]
        steps, clock = load_recipe(recipe, name, TECHNIQUES), Clock()
        runs, seconds = [[] for _ in mine], [0.0] * len(mine)
        for seed in seeds:
            job = run_job(name, data.without_test(), steps, seed=seed, log=log, n_threads=n_threads)
            file = file_errors(job.model, out / f"{name}-{recipe}-{seed}.mcz", data.name)
            for each, row in zip(runs, mine):
                each.append(row.measured(job, file, data.test, n_threads))
            total = clock.lap()
            spent = [0.0, *(row.spent(job, total) for row in mine)]
            seconds = [s + b - a for s, a, b in zip(seconds, spent, spent[1:])]
        found += [row.judged(each, len(data.test.y), s)
                  for row, each, s in zip(mine, runs, seconds)]
    return found


def load_table(name: str) -> Paper:
    """Returns the table of papers/NAME.toml."""
    text = (Path(__file__).parent / f"{name}.toml").read_text(encoding="utf-8")
    given = tomllib.loads(text)
    made = partial(run, recipe=given["recipe"], rows=[Row(**row) for row in given["row"]])
    return Paper(name, given["title"], given["data"], given["time"], made, given["note"])
