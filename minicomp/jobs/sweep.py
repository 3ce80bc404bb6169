"""Many runs of recipes over a grid of settings and seeds: each as `minicomp compress` does it.

    DIR/runs.jsonl         a JSON line a run: settings, seed, bytes, errors, or why it failed
    DIR/NAME/net.mcz       its file; beside it, while it is not finished, where it goes on from
    DIR/dense/KEY/         a dense net that several runs begin with

Who runs them, and where, is joblib's matter: processes of this machine (loky), a dask cluster, or
this process. A run writes its own line when it ends, so that nothing is lost whoever is killed; a
run whose line is there is not run again. Workers on other machines must see DIR under its path.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from .. import __version__
from .. import data as datasets
from ..atomic import as_json, write_atomically
from ..checkpoint import fingerprint
from ..codec import load, save
from ..errors import UserError, printable
from ..lock import Busy, append, locked
from ..nn.graph import Model
from ..timing import Clock
from ..train import evaluate
from .folder import run_folder
from .job import run, train_dense
from .recipe import Recipe

RUNS, NET = "runs.jsonl", "net.mcz"
DENSE = "00-dense.step"  # where `train_dense` keeps its net
BACKENDS = ("loky", "dask", "sequential")
TRIES = 3  # times that workers may die without a run having ended between


@dataclass(frozen=True)
class Planned:
    """A run: everything that decides its file.

    model : a built-in net, "resnet20:blocks=1"; or the name of the net of the file `start`
    start : a .mcz file to begin with; None: a built-in net is trained
    origin : the model; of a file the digest of its net
    data, label, examples : the data set, as it is loaded, as a file notes it; the fingerprint of
        its examples
    chosen : what was asked for, by name, for tables: {"step 1": "magnitude:sparsity=0.9"}
    """

    model: str
    start: Path | None
    origin: str
    data: str
    label: str
    examples: str
    recipe: Recipe
    seed: int
    chosen: dict[str, str]
    max_bytes: int | None = None
    n_threads: int = 1

    @cached_property
    def settings(self) -> dict:
        """Everything that decides the file, JSON-able; runs of equal settings are one."""
        return json.loads(as_json({
            "model": self.model, "from": self.origin, "data": self.label, "seed": self.seed,
            "threads": self.n_threads, "bytes": self.max_bytes,
            "train": self.recipe.train.settings(),
            "steps": [{"name": s.word, **s.settings()} for s in self.recipe.pipeline.steps],
            "examples": self.examples, "minicomp": __version__}))

    @cached_property
    def key(self) -> str:
        """16 hexadecimal digits of the settings."""
        return fingerprint(as_json(self.settings, sort_keys=True))[:16]

    @property
    def name(self) -> str:
        """Of its folder: the first letters of what was chosen, its seed and its key."""
        words = re.sub(r"[^A-Za-z0-9.=@]+", "-", " ".join(self.chosen.values()))[:60].strip("-.")
        return f"{words}-seed{self.seed}-{self.key}"

    @property
    def dense(self) -> str | None:
        """16 digits of what decides its dense net; None where it begins with a file's."""
        parts = ("model", "data", "seed", "threads", "train", "examples", "minicomp")
        return None if self.start else fingerprint(
            as_json({part: self.settings[part] for part in parts}))[:16]


# ------------------------------------------------------------------------------------ the lines


def lines(folder: Path, say: Callable[[str], None] = lambda text: None) -> dict[str, dict]:
    """Returns the line of every run in DIR/runs.jsonl by its key, the last where it has several.

    A line that is none, such as one that was cut off, is left out, which is said.
    """
    found = {}
    try:
        texts = (folder / RUNS).read_bytes().split(b"\n")
    except FileNotFoundError:
        return found
    for i, text in enumerate(texts, start=1):
        try:
            line = json.loads(text) if text else None
            if line is not None:
                found[_checked(line)["run"]] = line
        except (ValueError, TypeError, KeyError, RecursionError):
            say(f"{folder / RUNS}: line {i} was cut off or is not one of a sweep: left out")
    return found


ALWAYS = {"run": str, "seed": int, "chosen": dict, "source": str, "settings": dict,
          "seconds": (int, float)}
MEASURED = {"file": str, "file_bytes": int, "dense_bytes": int, "val_errors": int, "val_size": int,
            "errors": int, "test_size": int, "macs": int, "effective_macs": int}


def _checked(line: dict) -> dict:
    # A line with all that tables read; else KeyError, TypeError, ValueError.
    wanted = ALWAYS | ({"error": str} if "error" in line else MEASURED)
    for name, kind in wanted.items():
        if not isinstance(line[name], kind):
            raise TypeError(name)
    if not all(isinstance(value, str) for value in line["chosen"].values()):
        raise TypeError("chosen")
    if "error" not in line and not (
            0 <= line["errors"] <= line["test_size"] >= 1 <= line["file_bytes"] and
            0 <= line["val_errors"] <= line["val_size"] >= 1):
        raise ValueError("counts")
    return line


# ------------------------------------------------------------------------------------ one run


def take(planned: Planned, folder: Path, again: bool = False) -> dict:
    """Returns the line of a run, which is run and written where it is not there.

    again : also where the line says that it failed
    A run that another process still has is waited for.
    """
    with _waiting(folder / planned.name):
        known = lines(folder).get(planned.key)
        if known and not (again and "error" in known):
            return known
        clock = Clock()
        try:
            found = _measured(planned, folder)
        except Exception as e:  # of whatever kind: the others go on
            kind = "" if isinstance(e, UserError) else f"{type(e).__name__}: "
            found = {"error": printable(kind + " ".join(str(e).split()), 1000)}
        line = {"run": planned.key, "seed": planned.seed, "chosen": planned.chosen, **found,
                "source": planned.data, "seconds": round(clock.lap(), 2),
                "settings": planned.settings, "version": __version__}
        append(folder / RUNS, as_json(line))
        return line


def _measured(planned: Planned, folder: Path) -> dict:
    # Runs it and returns what its file costs and gets wrong.
    path = folder / planned.name / NET
    data = _data(planned)
    start = planned.start and load(planned.start, kind="model")
    with run_folder(path.with_name(NET + ".run"), planned.settings, data,
                    say=lambda text: None) as checkpoint:
        kept = folder / "dense" / str(planned.dense) / DENSE
        if kept.exists() and not (checkpoint / DENSE).exists():
            write_atomically(checkpoint / DENSE, kept.read_bytes())
        job = run(start or planned.model, data.without_test(), planned.recipe, seed=planned.seed,
                  max_bytes=planned.max_bytes, checkpoint=checkpoint, n_threads=planned.n_threads)
        save(job.model, path)
        return {"file": f"{planned.name}/{NET}"} | _figures(load(path), path, job.dense, data,
                                                           planned.n_threads)


def _figures(net: Model, path: Path, dense: Model, data, n_threads: int) -> dict:
    val, test, before = (evaluate(m, split, n_threads=n_threads) for m, split in (
        (net, data.val), (net, data.test), (dense, data.test)))
    size = path.stat().st_size
    return {"file_bytes": size, "dense_bytes": net.origin_bytes, "ratio": net.origin_bytes / size,
            "val_errors": val.errors, "val_size": val.size, "errors": test.errors,
            "test_size": test.size, "dense_errors": before.errors,
            "macs": sum(net.macs().values()), "effective_macs": sum(net.effective_macs().values())}


def train(planned: Planned, folder: Path) -> None:
    """Trains the dense net that a run begins with into DIR/dense, where it is not there.

    What cannot be trained is said by the runs that begin with it.
    """
    place = folder / "dense" / planned.dense
    with _waiting(place), contextlib.suppress(Exception):
        if not (place / DENSE).exists():
            train_dense(planned.model, _data(planned).without_test(), planned.recipe,
                        seed=planned.seed, checkpoint=place, n_threads=planned.n_threads)


def _data(planned: Planned):
    data = datasets.load(planned.data)
    if (found := fingerprint(data)) != planned.examples:
        raise UserError(f"the worker finds other examples under the name {planned.data} "
                        f"({found[:8]}) than the sweep began with ({planned.examples[:8]})")
    return data


@contextlib.contextmanager
def _waiting(folder: Path) -> Iterator[None]:
    # Holds the folder of a run; a worker that has it, also of a sweep that was killed, ends first.
    with contextlib.ExitStack() as stack:
        while True:
            try:
                stack.enter_context(locked(folder))
                break
            except Busy:
                time.sleep(0.2)
        yield


# ------------------------------------------------------------------------------------ all of them


def sweep(runs: Sequence[Planned], folder: Path, *, backend: str = "loky", jobs: int = 1,
          address: str | None = None, again: bool = False,
          log: Callable[[dict], None] = lambda row: None) -> list[dict]:
    """Returns the lines of the runs, in their order; those that are not there are run.

    backend : of BACKENDS        jobs : processes, or dask workers of a local cluster; 1: here
    address : of a dask scheduler to use instead        again : run what failed again
    log : takes {"event": "progress"}, and {"event": "run", "line", "known"} of each line
    Raises UserError where another sweep has the folder, workers die again and again, or packages
        are missing.
    """
    with locked(folder):
        known = lines(folder, lambda text: log({"event": "say", "text": text}))
        left = [r for r in runs if r.key not in known or again and "error" in known[r.key]]
        log({"event": "known", "known": len(runs) - len(left), "runs": len(runs)})
        if left:
            with _cluster_errors(), _workers(backend, min(jobs, len(left)), address) as call:
                _trained(left, folder, call, log)
                for done, line in enumerate(_taken(left, folder, call, again, log), start=1):
                    log({"event": "run", "line": line})
                    log({"event": "progress", "name": "sweep", "done": done, "total": len(left)})
        found = lines(folder)
        return [found[r.key] for r in runs]


def _trained(runs: Sequence[Planned], folder: Path, call: Callable, log: Callable) -> None:
    # The dense nets that several of the runs begin with, each once.
    of = [r.dense for r in runs if r.dense]
    first = {r.dense: r for r in runs if of.count(r.dense) > 1
             and not (folder / "dense" / r.dense / DENSE).exists()}
    if first:
        log({"event": "say", "text": f"{len(first)} dense nets are trained first, from which "
             f"{sum(of.count(key) for key in first)} runs begin"})
    with contextlib.suppress(*_killed()):  # then each run trains its own
        for i, _ in enumerate(call(train, [(r, folder) for r in first.values()]), start=1):
            log({"event": "progress", "name": "dense nets", "done": i, "total": len(first)})


def _taken(runs: Sequence[Planned], folder: Path, call: Callable, again: bool, log: Callable
           ) -> Iterator[dict]:
    # Lines as they come. Where a worker is killed joblib gives all of them up: the others begin
    # again with what is left, as long as something comes of it.
    left, tries = {r.key: r for r in runs}, 0
    while left:
        try:
            for line in call(take, [(r, folder, again) for r in left.values()]):
                del left[line["run"]]
                tries = 0
                yield line
        except _killed() as e:
            tries += 1
            done = {} if again else lines(folder)
            for key in [key for key in left if key in done]:  # written, but its answer was lost
                del left[key]
                tries = 0
                yield done[key]
            if tries == TRIES:
                raise UserError(f"workers were killed {TRIES} times without a run having ended: "
                                f"{printable(e, 200)}; {len(left)} runs are missing, such as "
                                f"{next(iter(left.values())).name}; fewer --jobs take less "
                                "memory") from None
            log({"event": "say", "text": "a worker was killed: what it had begun is run again"})


def _killed() -> tuple[type[Exception], ...]:
    # What joblib's backends raise where a worker's process is gone.
    from concurrent.futures.process import BrokenProcessPool

    with contextlib.suppress(ImportError):
        from distributed.scheduler import KilledWorker
        return BrokenProcessPool, KilledWorker
    return (BrokenProcessPool,)


@contextlib.contextmanager
def _cluster_errors() -> Iterator[None]:
    # What a dask cluster raises when it has no workers, or is gone.
    try:
        yield
    except TimeoutError as e:
        raise UserError(f"the dask cluster: {printable(str(e).split('. ')[0], 200)}") from None
    except Exception as e:
        if type(e).__module__.split(".")[0] != "distributed":
            raise
        raise UserError(f"the dask cluster is gone ({type(e).__name__}); what has ended is kept, "
                        "the same command goes on") from None


@contextlib.contextmanager
def _workers(backend: str, jobs: int, address: str | None) -> Iterator[Callable]:
    # Gives call(function, list of arguments), an iterator over results as they come. One job joblib
    # runs in this process, whatever the backend: no cluster is started for it.
    joblib = _needed("joblib")
    with contextlib.ExitStack() as stack:
        given: dict[str, object] = {"n_jobs": jobs}
        if address is None and jobs == 1:
            backend = "sequential"
        elif backend == "dask":
            given = {"client": stack.enter_context(_client(jobs, address)), "n_jobs": -1}
        stack.enter_context(joblib.parallel_config(backend=backend, **given))

        def call(function: Callable, arguments: list[tuple]) -> Iterator:
            made = joblib.Parallel(return_as="generator_unordered", batch_size=1,
                                   pre_dispatch="all")
            return made(joblib.delayed(function)(*each) for each in arguments)

        yield call


def _client(jobs: int, address: str | None):
    # A client of the scheduler there, or of a cluster of this machine, which ends with it.
    distributed = _needed("distributed")
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what goes wrong is raised too
    if address is None:
        cluster = distributed.LocalCluster(n_workers=jobs, threads_per_worker=1, processes=True,
                                           dashboard_address=None, silence_logs=logging.CRITICAL)
        return _closing(distributed.Client(cluster), cluster)
    try:
        return distributed.Client(address, timeout=10)
    except (OSError, ValueError) as e:
        raise UserError(f"--address: no dask scheduler answers at {printable(address, 100)} "
                        f"({printable(e, 200)})") from None


@contextlib.contextmanager
def _closing(client, cluster) -> Iterator:
    with cluster, client:
        yield client


def _needed(name: str):
    # The module; UserError where it is not installed.
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as e:
        raise UserError("a sweep needs the packages joblib and, with --backend dask, dask and "
                        f"distributed: pip install '.[sweep]' in the checkout ({e})") from None
