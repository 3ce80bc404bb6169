"""`minicomp compress`: train, compress, write the file, read it back, show what it cost."""

from __future__ import annotations

import time
from pathlib import Path

from ..codec import load, save
from ..compress import TECHNIQUES
from ..compress.job import Job, open_checkpoint, remove_checkpoint, run
from ..compress.recipe import Recipe, load_recipe, parse_with, recipes
from ..compress.technique import Pipeline
from ..errors import UserError
from ..nn.graph import Model
from ..train import evaluate
from . import options
from .progress import Screen

EXAMPLES = """
minicomp compress
minicomp compress lenet300 --data mnist --out small.mcz --report small.html
minicomp compress lenet5 --bytes 12000
minicomp compress lenet300 --with magnitude:sparsity=0.9,sparsity@fc3=0.5 --with finetune:epochs=2
minicomp compress trained.mcz --recipe my.toml --json result.json
"""


def add_parsers(commands) -> None:
    """Adds the command `compress`."""
    p = options.command(commands, "compress", compress, help="train a net, compress it, write one real file",
                        examples=EXAMPLES, description="Train a net, run a recipe or single techniques on it, write "
                        "a .mcz file, read it back in, and show the cost in error, bytes and milliseconds.")
    p.add_argument("model", nargs="?", metavar="MODEL", help="a built-in model or a .mcz file to start from "
                   "(default: lenet5; lenet300 without compiled kernels)")
    options.add_data(p)
    p.add_argument("--recipe", default="deep-compression", metavar="NAME|FILE",
                   help=f"{', '.join(recipes())}, or a TOML file (default deep-compression)")
    p.add_argument("--with", dest="steps", action="append", default=[], metavar="STEP",
                   help="TECHNIQUE:knob=value,knob@pattern=value; repeatable, in order; takes the recipe's place")
    p.add_argument("--bytes", type=int, metavar="N", help="make the file at most N bytes")
    p.add_argument("--out", metavar="F.mcz", help="the file to write (default MODEL.mcz)")
    p.add_argument("--report", metavar="F.html", help="the page to write (default report.html)")
    p.add_argument("--no-report", action="store_true", help="write no page")
    p.add_argument("--fast", action="store_true", help="a quarter of the epochs: a look at the steps, not at the error")
    p.add_argument("--restart", action="store_true", help="discard an unfinished run of the same file name")
    options.add_run(p)


def compress(args) -> int:
    """Runs the command; see `add_parsers`."""
    with Screen(args.log) as screen:
        begin = time.perf_counter()
        data = options.load_data(args, screen.say, screen.log)
        start, name = _start(args, screen.say)
        recipe = _recipe(args, name)
        out = Path(args.out or f"{name}.mcz")
        if not out.parent.is_dir():
            raise UserError(f"--out: the folder {out.parent} does not exist")
        settings = {"model": name, "from": str(args.model), "data": data.name, "seed": args.seed,
                    "threads": args.threads, "bytes": args.bytes, "train": recipe.train.settings(),
                    "steps": [{"name": s.word, **s.settings()} for s in recipe.pipeline.steps]}
        args.checkpoint_folder = open_checkpoint(out.with_name(out.name + ".run"), settings, args.restart)
        job = run(start, data.without_test(), recipe, seed=args.seed, max_bytes=args.bytes, log=screen.log,
                  checkpoint=args.checkpoint_folder, n_threads=args.threads)
        screen.title = "measuring"
        save(job.model, out)
        result = measure(job, out, data, name, args, recipe)
    options.write_json(args.json, result["json"])
    _show(result, args)
    if not args.no_report:
        _write_report(result, job, data, Path(args.report or "report.html"), args)
    remove_checkpoint(args.checkpoint_folder)
    screen.say(f"done in {time.perf_counter() - begin:.0f} s")
    return 0


def measure(job: Job, out: Path, data, name: str, args, recipe: Recipe) -> dict:
    """Returns what the run cost, measured on the file as it is read back: passports, and the JSON of the command.

    Raises RuntimeError where the file does not give the compressed model's own errors.
    """
    from ..report.passport import passport

    read = load(out)
    dense, score = (evaluate(m, data.test, n_threads=args.threads) for m in (job.dense, job.model))
    again = evaluate(read, data.test, n_threads=args.threads)
    if again.errors != score.errors:
        raise RuntimeError(f"{out} reads back with {again.errors} errors, the model in memory has {score.errors}")
    size = out.stat().st_size
    steps = [dict(step) for step in job.steps]
    for step, (_, model) in zip(steps, job.stages):
        step["test_errors"] = evaluate(model, data.test, n_threads=args.threads).errors
    return {"before": passport(job.dense, data=data.test, errors=dense.errors),
            "after": passport(read, path=out, data=data.test, errors=again.errors), "model": read,
            "json": {"model": name, "data": data.name, "recipe": recipe.name, "seed": args.seed,
                     "threads": args.threads, "file": str(out), "dense_bytes": read.origin_bytes,
                     "file_bytes": size, "ratio": read.origin_bytes / size, "dense_errors": dense.errors,
                     "errors": again.errors, "test_size": again.size, "steps": steps}}


def _start(args, say) -> tuple[str | Model, str]:
    # The model to start from, and the name that files are called by.
    if args.model is None:
        name = options.default_model(say)
        return name, name
    if args.model.endswith(".mcz"):
        path = Path(args.model)
        if not path.is_file():
            raise UserError(f"{path}: there is no such file")
        model = load(path)
        return model, model.builtin["name"] if model.builtin else path.stem + "-compressed"
    return (options.check_model(args.model),) * 2


def _recipe(args, name: str) -> Recipe:
    recipe = load_recipe(args.recipe, name, TECHNIQUES)
    if args.steps:
        recipe = Recipe("with", "Steps of the command line", "", recipe.train, parse_with(args.steps, TECHNIQUES))
    if args.bytes is not None and args.bytes < 1:
        raise UserError(f"--bytes must be at least 1, got {args.bytes}")
    return recipe.faster(0.25) if args.fast else recipe
