"""`minicomp compress`: train, compress, write the file, read it back, show what it cost."""

from __future__ import annotations

import shlex
import time
from pathlib import Path

import numpy as np

from ..codec import load, save
from ..codec.accounting import times
from ..compress import TECHNIQUES
from ..jobs.folder import folder_of, run_folder
from ..jobs.job import Job, check_job, run
from ..jobs.recipe import Recipe, load_recipe, parse_with, recipes
from ..jobs.sensitivity import scan
from ..errors import UserError, printable
from ..nn.forms import Codebook
from ..nn.graph import Model
from ..report.compression import Compression, write_report
from ..passport import Passport, passport
from ..train import evaluate
from . import opening, options
from .progress import Screen, print_table

SPARSITIES = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98)

EXAMPLES = """
minicomp compress
minicomp compress lenet300 --data mnist --out small.mcz --report small.html
minicomp compress lenet5 --bytes 12000
minicomp compress lenet300 --with magnitude:sparsity=0.9,sparsity@fc3=0.5 --with finetune:epochs=2
minicomp compress lenet5.mcz --with kmeans:bits=3 --with finetune:epochs=2 --json result.json
minicomp compress lenet300 --with ptq:bits=4,bits@fc3=8,correct=empirical --out int4.mcz
minicomp compress lenet5.safetensors --model lenet5 --recipe my.toml
"""


def add_parsers(commands) -> None:
    """Adds the command `compress`."""
    p = options.command(
        commands,
        "compress",
        compress,
        help="train a net, compress it, write one real file",
        examples=EXAMPLES,
        description="Train a net, run a recipe or single techniques on it, write "
        "a .mcz file, read it back in, and show the cost in error, bytes and milliseconds. Without "
        "further words: 14 epochs of LeNet-5, on two cores half a minute with the digits of fonts, "
        "two with MNIST; --fast takes a quarter.",
    )
    p.add_argument(
        "model",
        nargs="?",
        metavar="MODEL",
        help="what to start from: a built-in model, NAME or NAME:argument=value,...; "
        f"{opening.WHAT} (default: lenet5; lenet300 without compiled kernels)",
    )
    opening.add_structure(p)
    options.add_max_operations(p)
    options.add_data(p)
    p.add_argument("--recipe", default="deep-compression", metavar="NAME|FILE",
                   help=f"{', '.join(recipes())}, or a TOML file (default deep-compression)")
    p.add_argument(
        "--with",
        dest="steps",
        action="append",
        default=[],
        metavar="STEP",
        help="TECHNIQUE:knob=value,knob@pattern=value; repeatable, in order; takes the recipe's "
        "place",
    )
    p.add_argument("--bytes", type=int, metavar="N", help="make the file at most N bytes")
    p.add_argument(
        "--out",
        metavar="F.mcz",
        help="the file to write (default MODEL.mcz; FILE-compressed.mcz of a file)",
    )
    p.add_argument("--report", metavar="F.html", help="the page to write (default report.html)")
    p.add_argument("--no-report", action="store_true", help="write no page")
    p.add_argument(
        "--fast",
        action="store_true",
        help="a quarter of the epochs: a look at the steps, not at the error",
    )
    p.add_argument(
        "--restart", action="store_true", help="discard an unfinished run of the same file name"
    )
    options.add_run(p)
    options.files(p, reads=("model", "recipe"), writes=("out", "report"))


def compress(args) -> int:
    """Runs the command; see `add_parsers`."""
    with Screen(args.log) as screen:
        begin = time.perf_counter()
        if args.report and args.no_report:
            raise UserError("--report and --no-report contradict each other: give one")
        start, name, out = opening.start(args, screen.say, "compressed")
        if out.suffix != ".mcz":
            raise UserError(f"--out must end in .mcz, got {out}")
        start, data = opening.with_data(start, args.model, args, screen)
        page = Path(args.report or "report.html")
        recipe = _recipe(args, name)
        folder = folder_of(out)
        options.check_files(
            args, out=out, **({} if args.no_report else {"report": page}),
            also=[("the run", folder, "run"),
                  *(("--with or --recipe", path, "reads") for path in recipe.pipeline.files())])
        check_job(start, data, recipe.pipeline)
        settings = {
            "model": name,
            "from": opening.digest(start, args.model, args.structure),
            "data": data.name,
            "seed": args.seed,
            "threads": args.threads,
            "bytes": args.bytes,
            "train": recipe.train.settings(),
            "steps": [{"name": s.word, **s.settings()} for s in recipe.pipeline.steps],
        }
        args.checkpoint_folder = args.ending.enter_context(run_folder(
            folder, settings, data, restart=args.restart, say=screen.say))
        job = run(
            start,
            data.without_test(),
            recipe,
            seed=args.seed,
            max_bytes=args.bytes,
            log=screen.log,
            checkpoint=args.checkpoint_folder,
            n_threads=args.threads,
        )
        screen.title = "measuring"
        save(job.model, out)
        read = load(out)
        result, before, after = measure(job, read, out, data, name, args, recipe)
        scanned = (
            None if args.no_report else error_curves(job.dense, data.val, screen, args.threads)
        )
    options.write_json(args.json, result)
    print_passports(before, after, result)
    if not args.no_report:
        write_report(
            page,
            Compression(
                result,
                before,
                after,
                job.dense,
                read,
                job.stages,
                job.epochs,
                scanned,
                note=data.note,
                command=_command(args, name),
            ),
        )
        print(f"{printable(page)}: the same with pictures, {page.stat().st_size:,} bytes")
    print(
        f"{printable(out)}: {result['file_bytes']:,} bytes, {times(result['ratio'])}x smaller; "
        f"errors of {result['test_size']:,} test images: {result['dense_errors']} before, "
        f"{result['errors']} after; "
        f"{time.perf_counter() - begin:.0f} s in all"
    )
    return 0


def measure(
    job: Job, read: Model, out: Path, data, name: str, args, recipe: Recipe
) -> tuple[dict, Passport, Passport]:
    """Returns (the command's JSON, passport before, passport after), all of the file read back.

    Raises RuntimeError where the file does not give the compressed model's own errors.
    """
    dense, score, again = (evaluate(m, data.test, n_threads=args.threads).errors
                           for m in (job.dense, job.model, read))
    if again != score:
        raise RuntimeError(f"{out} reads back with {again} errors, the model in memory has {score}")
    size = out.stat().st_size
    before = passport(job.dense, data=data.test, errors=dense, n_threads=args.threads)
    after = passport(read, path=out, data=data.test, errors=again, against=job.dense,
                     n_threads=args.threads)
    steps = [{**step, **_left(model, job.dense),
              "test_errors": evaluate(model, data.test, n_threads=args.threads).errors}
             for step, (_, model) in zip(job.steps, job.stages)]
    return (
        {
            "model": name,
            "data": data.name,
            "recipe": recipe.name,
            "seed": args.seed,
            "threads": args.threads,
            "file": str(out),
            "dense_bytes": read.origin_bytes,
            "file_bytes": size,
            "max_bytes": args.bytes,
            "ratio": read.origin_bytes / size,
            "dense_errors": dense,
            "errors": again,
            "flips": after.flips,
            "kl": after.kl,
            "test_size": len(data.test.y),
            "left": after.left,
            "units_removed": before.units - after.units,
            "macs": after.macs,
            "empty_clusters": empty_clusters(read),
            "steps": steps,
        },
        before,
        after,
    )


def _left(model: Model, start: Model) -> dict:
    # What a step has left of the structure and the numbers.
    now, was = (passport(m, timed=False) for m in (model, start))
    return {"units_removed": was.units - now.units, "macs": now.macs, "left": now.left}


def empty_clusters(model: Model) -> dict[str, tuple[int, int]]:
    """Returns {form: (centroids that stand for no weight, centroids)} of shared weights that have
    such."""
    found = {}
    for name, form in model.forms().items():
        if isinstance(form, Codebook):
            empty = form.k - len(np.unique(form.index)) - form.pinned_zero * (form.index != 0).all()
            found |= {name: (int(empty), form.k - form.pinned_zero)} if empty else {}
    return found


def error_curves(model: Model, split, screen: Screen, n_threads: int) -> tuple | None:
    """Returns ({layer: (sparsities, errors)}, error of the whole net, examples), what a report
    draws; None where no layer can be pruned further, which is said.

    One layer is pruned at a time, nothing is retrained.
    """
    few = split.take(slice(0, 2000))
    try:
        found = scan(model, few, sparsities=SPARSITIES, count_bytes=False, log=screen.log,
                     n_threads=n_threads)
    except UserError as e:
        screen.say(f"the report has no picture of sensitivity: {e}")
        return None
    curves = {target: curve for target, curve in found.curves().items() if curve[0]}
    return (curves, found.baseline, found.base.size) if curves else None


def print_passports(before: Passport, after: Passport, result: dict) -> None:
    """Prints both passports and the steps between them."""
    print_table("before, errors of the test set", before.headers(), before.rows(),
                footer=before.summary())
    steps = result["steps"]
    cut = any(s["units_removed"] for s in steps)
    print_table(
        "steps",
        ["step", "sparsity", *(["units removed", "MACs"] if cut else []), "numbers left, %",
         "validation errors", "of", "seconds"],
        [
            [s["name"], round(s["sparsity"], 4), *([s["units_removed"], s["macs"]] if cut else []),
             round(100 * s["left"], 2), s["errors"], s["size"], round(s["seconds"], 1)]
            for s in steps
        ],
        footer="sparsity: zeros among the weights that are there, biases not counted; numbers "
        f"left: of the original's {after.original_numbers:,}, biases too",
    )
    print_table(
        "after, as the file is read back, errors of the test set", after.headers(), after.rows(),
        footer=after.summary(),
    )
    for name, (empty, k) in result["empty_clusters"].items():
        print(f"{name}: {empty} of {k} centroids stand for no weight")


def _command(args, name: str) -> str:
    # What gives the page again; the bits of a training depend on the number of threads.
    given = {"--model": args.structure, "--normalize": args.normalize, "--data": args.data,
             "--recipe": None if args.steps else args.recipe, "--bytes": args.bytes,
             "--seed": args.seed, "--threads": args.threads}
    words = ["minicomp", "compress", args.model or name]
    words += [w for step in args.steps for w in ("--with", step)]
    words += [str(w) for option, value in given.items() if value is not None
              for w in (option, value)]
    return shlex.join(words + (["--fast"] if args.fast else []))


def _recipe(args, name: str) -> Recipe:
    if args.bytes is not None and args.bytes < 1:
        raise UserError(f"--bytes must be at least 1, got {args.bytes}")
    given = parse_with(args.steps, TECHNIQUES) if args.steps else None
    recipe = load_recipe(args.recipe, name, TECHNIQUES, pipeline=given)
    if given is not None:
        recipe = Recipe("with", "Steps of the command line", "", recipe.train, given)
    return recipe.faster(0.25) if args.fast else recipe
