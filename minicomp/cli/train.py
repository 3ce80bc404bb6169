"""`minicomp train`: train a built-in net, or the net of a file on; write it as a .mcz file or as
safetensors for PyTorch."""

from __future__ import annotations

from dataclasses import replace

from ..codec import save
from ..compress import TECHNIQUES, Pipeline
from ..exchange.safetensors import metadata_of, save_safetensors
from ..jobs.folder import folder_of, run_folder
from ..jobs.job import check_data, train_dense
from ..jobs.recipe import load_recipe, make_technique, parse_knobs
from ..errors import UserError, printable
from ..models import for_data
from ..train import evaluate
from . import opening, options
from .progress import Screen

EXAMPLES = """
minicomp train lenet300
minicomp train resnet20:blocks=1,width=0.5 --data glyphs --fast
minicomp train lenet5 --data fashion_mnist --out fashion.mcz --set epochs=10,lr=0.02
minicomp train lenet5.mcz --set epochs=2,lr=0.005 --out better.mcz
minicomp train lenet5 --out lenet5.safetensors
"""


def add_parsers(commands) -> None:
    """Adds the command `train`."""
    p = options.command(commands, "train", train, help="train a net", examples=EXAMPLES)
    p.add_argument(
        "model", nargs="?", metavar="MODEL",
        help="a built-in model, NAME or NAME:argument=value,...; or, to be trained on, "
        f"{opening.WHAT} (default: lenet5; lenet300 without compiled kernels)")
    opening.add_structure(p)
    options.add_max_operations(p)
    options.add_data(p)
    p.add_argument(
        "--set",
        dest="knobs",
        action="append",
        default=[],
        metavar="knob=value,...",
        help="knobs of the training, as of the technique finetune (see minicomp list finetune); "
        "repeatable",
    )
    p.add_argument(
        "--out", metavar="F",
        help="the file to write: F.mcz, or F.safetensors (default MODEL.mcz; FILE-trained.mcz of a "
        "file)"
    )
    p.add_argument("--fast", action="store_true", help="a quarter of the epochs")
    p.add_argument(
        "--restart", action="store_true", help="discard an unfinished run of the same file name"
    )
    options.add_run(p)
    options.files(p, reads=("model",), writes=("out",))


def train(args) -> int:
    """Runs the command; see `add_parsers`."""
    with Screen(args.log) as screen:
        start, name, out = opening.start(args, screen.say, "trained")
        start, data = opening.with_data(start, args.model, args, screen)
        if out.suffix not in (".mcz", ".safetensors"):
            raise UserError(f"--out must end in .mcz or .safetensors, got {out}")
        folder = folder_of(out)
        options.check_files(args, out=out, also=[("the run", folder, "run")])
        check_data(for_data(start, data) if isinstance(start, str) else start, data)
        recipe = load_recipe("deep-compression", name, TECHNIQUES, pipeline=Pipeline())
        recipe = recipe.faster(0.25) if args.fast else recipe
        if args.knobs:
            given = parse_knobs(",".join(args.knobs), "--set")
            if args.fast and "epochs" in given:
                raise UserError("--fast and --set epochs contradict each other: give one")
            knobs = recipe.train.settings() | given
            recipe = replace(recipe, train=make_technique("finetune", knobs, TECHNIQUES))
        settings = {"model": name, "from": opening.digest(start, args.model, args.structure),
                    "data": data.name, "seed": args.seed, "threads": args.threads,
                    "train": recipe.train.settings()}
        args.checkpoint_folder = args.ending.enter_context(run_folder(
            folder, settings, data, restart=args.restart, say=screen.say))
        screen.title = f"train {name}"
        model = train_dense(start, data.without_test(), recipe, seed=args.seed, log=screen.log,
                            checkpoint=args.checkpoint_folder, n_threads=args.threads)
        if not isinstance(start, str):
            _say_if_worse(start, model, data.val, recipe.train.lr, args.threads, screen.say)
        score = evaluate(model, data.test, n_threads=args.threads)
        if out.suffix == ".mcz":
            save(model, out)
        else:
            save_safetensors(model.dense().state_dict(), out, metadata_of(model))
    print(
        f"{printable(out)}: {out.stat().st_size:,} bytes, {score.errors:,} errors of "
        f"{score.size:,} test images ({100 * score.error:.2f} %)"
    )
    options.write_json(
        args.json,
        {
            "model": name,
            "data": data.name,
            "seed": args.seed,
            "file": str(out),
            "file_bytes": out.stat().st_size,
            "errors": score.errors,
            "test_size": score.size,
        },
    )
    return 0


def _say_if_worse(start, model, val, lr, n_threads, say) -> None:
    # A rate that suits drawn weights can undo trained ones, above all centroids, whose gradients
    # are sums over thousands of weights.
    before, after = (evaluate(m, val, n_threads=n_threads).errors for m in (start, model))
    if after > before:
        less = f", --set lr={lr / 10:.2g}" if isinstance(lr, float) else ""
        say(f"training made it worse: {after:,} errors of {len(val.y):,} validation examples, "
            f"{before:,} before; a smaller learning rate may serve{less}")
