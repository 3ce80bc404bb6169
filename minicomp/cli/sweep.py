"""`minicomp sweep`: many runs of recipes over a grid of settings and seeds."""

from __future__ import annotations

import argparse
import itertools
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from .. import comparison
from .. import data as datasets
from ..atomic import write_atomically
from ..checkpoint import fingerprint
from ..codec import encode, load
from ..compress import TECHNIQUES
from ..data import Dataset
from ..energy import NOTE, modelled
from ..errors import UserError, printable
from ..jobs.axes import MOST, alternatives, varied
from ..jobs.job import check_job
from ..jobs.recipe import Recipe, parse_recipe, parse_with, read_recipe, recipes
from ..jobs.sweep import BACKENDS, RUNS, Planned, lines, sweep
from ..jobs.swept import settings, titles
from ..models import MODELS
from ..nn.graph import Model
from ..report import pareto, plots
from . import opening, options
from .progress import Screen, print_table

EXAMPLES = """
minicomp sweep lenet300 --with 'magnitude:sparsity={0.8,0.9}' --with finetune:epochs=2 --seeds 2
minicomp sweep lenet300 --with '{magnitude,lamp}:sparsity=0.9' --with 'kmeans:bits={2..4}' --dry-run
minicomp sweep lenet5.mcz --with 'kmeans:bits={2..3}' --out bits --plot bits.png --csv bits.csv
minicomp sweep 'resnet20:blocks=1,width={0.25,0.5}' --data glyphs --fast --out widths --dry-run
minicomp sweep lenet300 --recipe grid.toml --out grid
minicomp sweep sweep --plot front.png --latex front.tex --energy
"""
DIR = "sweep"
PLANS = {"--with": "steps", "--seeds": "seeds", "--seed": "seed", "--fast": "fast",
         "--bytes": "bytes", "--recipe": "recipe", "--out": "out", "--retry": "retry",
         "--dry-run": "dry_run", "--model": "structure", "--normalize": "normalize"}


def add_parsers(commands) -> None:
    """Adds the command `sweep`."""
    p = options.command(
        commands, "sweep", run, help="many runs over a grid of settings and seeds",
        examples=EXAMPLES,
        description="Run what `minicomp compress` runs for every choice of what varies, and every "
        "seed: braces in MODEL, --with, --recipe and --bytes, as a shell writes them, "
        "{0.8,0.9} or {2..4} (in quotes, so that the shell leaves them), and lists of values in a "
        "recipe file, sparsity = [0.8, 0.9]. Each run keeps its file, DIR/NAME/net.mcz, and writes "
        f"a JSON line, DIR/{RUNS}; the same command goes on where it was stopped, and a run that "
        "is there is not run again. A run that fails is noted, the others go on, and the command "
        "exits with 1. At the end, and by `minicomp sweep DIR` at any time, settings stand beside "
        "each other; which are on the front is chosen by validation errors. Needs the packages of "
        "minicomp[sweep].")
    p.add_argument("model", nargs="?", metavar="MODEL|DIR",
                   help="what to start from: a built-in model, NAME or NAME:argument=value,...; "
                   f"{opening.WHAT} (default: as of compress); or a sweep's folder, to be shown")
    opening.add_structure(p)
    options.add_max_operations(p)
    options.add_data(p)
    p.add_argument("--recipe", metavar="NAME|FILE",
                   help=f"{', '.join(recipes())}, or a TOML file, in which a list of values varies "
                   "(default deep-compression)")
    p.add_argument("--with", dest="steps", action="append", default=[], metavar="STEP",
                   help="TECHNIQUE:knob=value,...; repeatable, in order; takes the recipe's place")
    p.add_argument("--bytes", metavar="N", help="make each file at most N bytes")
    p.add_argument("--fast", action="store_true", help="a quarter of the epochs")
    p.add_argument("--seeds", type=int, default=1, metavar="N",
                   help="run seeds SEED .. SEED + N - 1 (default 1)")
    p.add_argument("--seed", type=int, default=0, metavar="N", help="the first seed (default 0)")
    p.add_argument("--threads", type=int, default=1, metavar="N",
                   help="threads of a run, on which its bits depend (default 1)")
    p.add_argument("--out", metavar="DIR", help=f"the sweep's folder (default {DIR})")
    p.add_argument("--backend", choices=BACKENDS, default="loky",
                   help="who runs: processes of this machine (loky), dask workers, or this process "
                   "(default loky)")
    p.add_argument("--jobs", type=int, metavar="N",
                   help="runs at a time: processes, or workers of a dask cluster that is started "
                   "here (default: as many as cores)")
    p.add_argument("--address", metavar="HOST:PORT",
                   help="a dask scheduler, whose workers see the same folders; goes with --backend "
                   "dask")
    p.add_argument("--retry", action="store_true", help="run again what failed")
    p.add_argument("--dry-run", action="store_true", help="list the runs and run none")
    p.add_argument("--time", action="store_true",
                   help="take milliseconds of all files at the end, in turn, one image and one "
                   "thread")
    options.add_energy(p)
    p.add_argument("--plot", metavar="F.png", help="draw the Pareto fronts")
    p.add_argument("--csv", metavar="F.csv", help="write the settings as CSV")
    p.add_argument("--latex", metavar="F.tex", help="write the settings as a LaTeX tabular")
    options.add_json(p)
    options.files(p, reads=("model", "recipe"), writes=("plot", "csv", "latex"), folder=("out",))


def run(args) -> int:
    """Runs the command; see `add_parsers`."""
    _check(args)
    with Screen(period=3600) as screen:
        if args.model is not None and Path(args.model).is_dir():
            folder, found = Path(args.model), _known(args, screen)
        else:
            folder = Path(args.out or DIR)
            runs, starts = _planned(args, folder, screen)
            if args.dry_run:
                _print_runs(runs, folder, args)
                return 0
            for path, raw in starts.items():
                if not path.exists():
                    path.parent.mkdir(parents=True, exist_ok=True)
                    write_atomically(path, raw)
            args.checkpoint_folder = folder
            found = sweep(runs, folder, backend=args.backend, jobs=args.jobs or os.cpu_count() or 1,
                          address=args.address, again=args.retry, log=_Log(screen, runs).take)
        rows = _rows(found, folder, args)
    _print_rows(rows, found, args)
    failed = [[name, line["seed"], line["error"]]
              for name, line in zip(titles(found), found) if "error" in line]
    if failed:
        print_table("failed", ["run", "seed", "error"], failed)
    print(f"{printable(folder / RUNS)}: {len(found)} runs of {len(rows)} settings"
          + (f", {len(failed)} of the runs failed; --retry runs them again" if failed else ""))
    return 1 if failed else 0


def _check(args) -> None:
    for name, value, most in (("--seeds", args.seeds, 1000), ("--jobs", args.jobs, 1000)):
        if value is not None and not 1 <= value <= most:
            raise UserError(f"{name} must be in [1, {most}], got {value}")
    if args.address is not None and args.backend != "dask":
        raise UserError("--address goes with --backend dask")
    if args.address is not None and args.jobs is not None:
        raise UserError("--jobs goes with a cluster that is started here; that of --address has "
                        "its workers")
    if args.backend == "sequential" and args.jobs not in (None, 1):
        raise UserError("--backend sequential runs one at a time: --jobs does not go with it")


# ---------------------------------------------------------------------------- which runs there are


def _planned(args, folder: Path, screen: Screen) -> tuple[list[Planned], dict[Path, bytes]]:
    # The runs, each once, and the files that they start from with what these hold. Where steps do
    # not fit some of the nets the others run; where they fit none nothing does.
    runs, starts, errors, fits = {}, {}, [], False
    for given in alternatives(args.model) if args.model is not None else [None]:
        start, name, data, begun = _begun(given, args, screen)
        if not isinstance(start, str):
            raw = encode(start)
            begun |= {"origin": fingerprint(raw)[:16]}
            begun["start"] = folder.resolve() / "starts" / f"{begun['origin']}.mcz"
            starts[begun["start"]] = raw
        for recipe, chosen in _recipes(args, name):
            chosen = {"model": given or name} | chosen
            try:
                check_job(start, data, recipe.pipeline)
                fits = True
            except UserError as e:
                errors.append(f"{', '.join(chosen.values())}: {e}")
            for most, seed in itertools.product(_budgets(args), range(args.seeds)):
                made = Planned(**begun, recipe=recipe, seed=args.seed + seed, max_bytes=most,
                               n_threads=args.threads, chosen=chosen | (
                                   {} if most is None else {"bytes": f"bytes={most}"}))
                runs.setdefault(made.key, made)
                if len(runs) > MOST:
                    raise UserError(f"a sweep has at most {MOST:,} runs")
    if not fits:
        raise UserError(errors[0])
    for error in errors:
        screen.say(f"this will fail: {error}")
    options.check_files(args, out=folder, also=[
        ("--with or --recipe", path, "reads")
        for path in dict.fromkeys(f for r in runs.values() for f in r.recipe.pipeline.files())])
    return list(runs.values()), starts


def _begun(given: str | None, args, screen: Screen) -> tuple[str | Model, str, Dataset, dict]:
    # What runs start from, its name for recipes, their data, and these as fields of `Planned`.
    if given is not None and given.partition(":")[0] in {t.word for t in TECHNIQUES}:
        raise UserError(f"{printable(given)} is no model; put a --with that has braces in quotes, "
                        "so that the shell leaves them")
    here = argparse.Namespace(**vars(args) | {"model": given, "out": None})
    start, name, _ = opening.start(here, screen.say, "swept")
    start, data = opening.with_data(start, given, here, screen)
    args.data = args.data or data.name
    where = args.data if args.data in datasets.NAMES else str(Path(args.data).resolve())
    model = start if isinstance(start, str) else name
    return start, name, data, {"model": model, "start": None, "origin": model, "data": where,
                               "label": data.label, "examples": fingerprint(data)}


def _recipes(args, model: str) -> Iterator[tuple[Recipe, dict[str, str]]]:
    # Every recipe for a model, and what was chosen in it by name.
    fast = {"fast": "fast"} if args.fast else {}
    for name in alternatives(args.recipe or "deep-compression"):
        table, title = read_recipe(name)
        for steps in itertools.product(*map(alternatives, args.steps)):
            pipeline = parse_with(steps, TECHNIQUES) if steps else None
            for own, axes in varied(_own(table, model, pipeline is None), f"recipe {title}"):
                recipe = parse_recipe(own, title, model, TECHNIQUES, pipeline=pipeline)
                chosen = {f"step {i}": text for i, text in enumerate(steps, start=1)}
                if args.recipe or not steps:
                    chosen = {"recipe": title} | chosen
                chosen |= {axis: f"{axis}={value}" for axis, value in axes.items()} | fast
                yield recipe.faster(0.25) if args.fast else recipe, chosen


def _own(table: Mapping, model: str, steps: bool) -> dict:
    # What of a recipe holds for a model, its steps too unless others take their place; a table of
    # the model that is none stays, for the parser to say.
    own = table.get(model, {})
    if not isinstance(own, Mapping) or set(own) - {"train", "step"}:
        return {model: own}
    return {part: value for part, value in {**table, **own}.items()
            if part not in MODELS and (steps or part != "step")}


def _budgets(args) -> list[int | None]:
    if args.bytes is None:
        return [None]
    found = []
    for text in alternatives(args.bytes):
        if not (text.isascii() and text.isdigit() and 1 <= int(text) < 2**40):
            raise UserError(f"--bytes must be integers of at least 1, got {printable(text, 40)}")
        found.append(int(text))
    return found


def _titles(runs: list[Planned]) -> list[str]:
    return titles([{"chosen": r.chosen, "settings": r.settings} for r in runs])


def _print_runs(runs: list[Planned], folder: Path, args) -> None:
    known = lines(folder)
    states = ["to run" if r.key not in known else
              "failed" if "error" in known[r.key] else "there" for r in runs]
    print_table("", ["run", "seed", "state"], [
        [name, r.seed, state] for name, r, state in zip(_titles(runs), runs, states)],
        footer=f"{len(runs)} runs, {states.count('to run')} to run")
    options.write_json(args.json, {"runs": [
        {"run": r.key, "folder": r.name, "state": state, "chosen": r.chosen, "seed": r.seed,
         "settings": r.settings} for r, state in zip(runs, states)]})


# ---------------------------------------------------------------------------- what is shown


class _Log:
    """Shows what a sweep logs: a line a run, with how long the others will take."""

    def __init__(self, screen: Screen, runs: list[Planned]):
        self.screen, self.begin = screen, time.perf_counter()
        self.names = dict(zip((r.key for r in runs), _titles(runs)))
        self.done = self.total = 0

    def take(self, row: dict) -> None:
        """Takes one row of the log."""
        if row["event"] == "known":
            self.total = row["runs"] - row["known"]
            self.screen.say(f"{row['runs']} runs" + (f", {row['known']} of them are there"
                                                     if row["known"] else ""))
            self.screen.log({"event": "progress", "name": "sweep", "done": 0,
                             "total": self.total or 1})
        elif row["event"] == "run":
            self._said(row["line"])
        else:
            self.screen.log(row)

    def _said(self, line: dict) -> None:
        self.done += 1
        left = (time.perf_counter() - self.begin) / self.done * (self.total - self.done)
        name = f"{self.names[line['run']]}, seed {line['seed']}"
        found = f"failed: {line['error']}" if "error" in line else (
            f"{line['file_bytes']:,} bytes, errors {line['val_errors']}/{line['val_size']} "
            f"(validation), {line['errors']}/{line['test_size']} (test)")
        self.screen.say(f"  {self.done}/{self.total} {name}: {found}, {line['seconds']:.1f} s"
                        + (f"; about {_duration(left)} left" if self.done < self.total else ""))


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else (
        f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h")


def _known(args, screen: Screen) -> list[dict]:
    # The lines of a sweep that is only shown.
    plain = {"seeds": 1, "seed": 0}
    given = [name for name, dest in PLANS.items() if getattr(args, dest) not in (
        plain.get(dest), None, False, [])]
    if given:
        raise UserError(f"{printable(args.model)} is a folder, whose sweep is shown: "
                        f"{', '.join(given)} go with a model")
    found = list(lines(Path(args.model), screen.say).values())
    found = [line for line in found
             if args.data in (None, line["settings"].get("data"), line["source"])]
    if not found:
        raise UserError(f"{printable(args.model)} holds no runs of a sweep"
                        + (f" on {printable(args.data)}" if args.data else f" ({RUNS})"))
    data = {str(line["settings"].get("data")) for line in found}
    if len(data) > 1:
        raise UserError(f"{printable(args.model)} holds runs on "
                        f"{printable(', '.join(sorted(data)))}: choose one with --data")
    return found


def _rows(found: list[dict], folder: Path, args) -> list[comparison.Setting]:
    # Settings, with what is taken of their files only where it is asked for.
    ms = energy = None
    done = [line for line in found if "error" not in line]
    if done and (args.time or args.energy):
        nets = [load(folder / line["file"], kind="model") for line in done]
        keys = [line["run"] for line in done]
        if args.energy:
            energy = dict(zip(keys, (modelled(net, line["file_bytes"])
                                     for net, line in zip(nets, done))))
        if args.time:
            x = datasets.load(done[0]["source"]).test.x[:1]
            ms = dict(zip(keys, comparison.milliseconds(nets, x, 0.3)))
    return settings(found, ms, energy)


def _print_rows(rows: list[comparison.Setting], found: list[dict], args) -> None:
    result = {"runs": found, "rows": []}
    if not rows and (args.plot or args.csv or args.latex):
        print("every run failed: no table is written and nothing drawn")
    if rows:
        headers, cells = comparison.table(rows)
        on = comparison.fronts(rows)
        print_table(f"{found[0]['settings'].get('data')}, {rows[0].size:,} test examples",
                    [*headers, "front of"],
                    [[*row, ", ".join(costs)] for row, costs in zip(cells, on)],
                    footer="means of the seeds; front: no other setting errs as rarely on "
                    "validation data at less of it; MACs: those by weights that are not 0"
                    + (f"; {NOTE}" if args.energy else ""))
        result["rows"] = [row.to_dict() | {"front": costs} for row, costs in zip(rows, on)]
        for path, text in ((args.csv, comparison.as_csv), (args.latex, comparison.as_latex)):
            if path:
                options.write_text(Path(path), text(rows))
        if args.plot:
            plots.save(pareto.plot_fronts(rows, examples=f"{rows[0].size:,} test images")[0],
                       args.plot)
            print(f"{printable(args.plot)}: error against what a setting costs")
    options.write_json(args.json, result)
