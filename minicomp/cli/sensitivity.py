"""`minicomp sensitivity`: how much each layer can lose, and a choice from it under a budget.

With --criteria: what the whole net loses when its weights go by different measures of importance.
"""

from __future__ import annotations

import numpy as np

from ..compress import TECHNIQUES, Pipeline
from ..data import Dataset
from ..jobs import criteria
from ..jobs.job import check_data, train_dense
from ..jobs.recipe import load_recipe
from ..jobs.sensitivity import SPARSITIES, Scan, allocate, scan
from ..errors import UserError, printable
from ..nn.graph import Model
from ..report import plots
from ..train import evaluate
from . import opening, options
from .progress import Screen, print_table

EXAMPLES = """
minicomp sensitivity lenet5.mcz
minicomp sensitivity lenet300 --plot scan.png --bytes 60000
minicomp sensitivity lenet5.mcz --what channels --macs 1000000 --json scan.json
minicomp sensitivity lenet300 --criteria magnitude,taylor,lamp,obd --plot importance.png
minicomp sensitivity lenet5.mcz --criteria all --json importance.json
"""


def add_parsers(commands) -> None:
    """Adds the command `sensitivity`."""
    p = options.command(
        commands,
        "sensitivity",
        run,
        help="scan layers over sparsity, and choose under a budget",
        examples=EXAMPLES,
    )
    p.add_argument(
        "model", metavar="MODEL",
        help=f"a built-in model, which is trained first; {opening.WHAT}"
    )
    opening.add_structure(p)
    options.add_max_operations(p)
    options.add_data(p)
    p.add_argument(
        "--what", choices=("weights", "channels"), default="weights", help="what is pruned"
    )
    p.add_argument(
        "--only", default="*", metavar="PATTERN", help="the layers to scan (default all)"
    )
    p.add_argument(
        "--bytes", type=int, metavar="N", help="choose sparsities for a file of at most N bytes"
    )
    p.add_argument(
        "--macs",
        type=int,
        metavar="N",
        help="choose sparsities for at most N multiplications an image",
    )
    p.add_argument(
        "--criteria",
        metavar="LIST",
        help="compare measures of importance over the whole net instead: "
        f"{', '.join(criteria.CRITERIA)}, or all",
    )
    p.add_argument("--plot", metavar="F.png", help="draw the curves")
    options.add_run(p)
    options.files(p, reads=("model",), writes=("plot",))


def run(args) -> int:
    """Runs the command; errors are counted on validation data."""
    if args.bytes is not None and args.macs is not None:
        raise UserError("--bytes and --macs are two budgets: give one")
    for option, budget in (("--bytes", args.bytes), ("--macs", args.macs)):
        if budget is not None and budget < 1:
            raise UserError(f"{option} must be at least 1, got {budget}")
    if args.criteria is not None:
        return compare(args)
    with Screen(args.log) as screen:
        model, data = found_model(args, screen)
        screen.title = "scan"
        found = scan(
            model,
            data.val,
            what=args.what,
            sparsities=SPARSITIES,
            only=args.only,
            count_bytes=args.macs is None,
            log=screen.log,
            n_threads=args.threads,
        )
    print_table(
        f"{args.what} pruned, one target at a time, nothing retrained",
        ["target", "sparsity", "removed", "of", "errors", "loss rise", "bytes", "MACs"],
        [
            [
                p.target,
                p.sparsity,
                p.removed,
                p.of,
                p.errors,
                f"{p.rise:.4f}",
                "" if p.bytes is None else p.bytes,
                p.macs,
            ]
            for p in found.points
        ],
    )
    result = {
        "what": args.what,
        "baseline": found.baseline,
        "points": [vars(p) for p in found.points],
    }
    if args.plot:
        curves = {target: curve for target, curve in found.curves().items() if curve[0]}
        examples = f"{found.base.size:,} validation images"
        ax = plots.plot_sensitivity(curves, found.baseline, examples=examples)
        plots.save(ax, args.plot)
        print(f"{printable(args.plot)}: error against sparsity")
    try:
        choose(args, model, found, result)
    finally:  # the scan is worth its minutes where no choice meets the budget
        options.write_json(args.json, result)
    return 0


def choose(args, model: Model, found: Scan, result: dict) -> None:
    """Prints the sparsities under the budget asked for, if one was, and adds them to the result."""
    budget, unit = (args.bytes, "bytes") if args.macs is None else (args.macs, "macs")
    if budget is None:
        return
    chosen = allocate(model, found, budget, unit=unit)
    print_table(f"chosen for at most {budget:,} {unit}", ["layer", "sparsity"],
                [[k, v] for k, v in chosen.sparsity.items()],
                footer=f"{chosen.cost:,} {unit}; predicted rise of the loss {chosen.rise:.4f}")
    result["chosen"] = {
        "sparsity": chosen.sparsity,
        "cost": chosen.cost,
        "unit": unit,
        "rise": chosen.rise,
    }


def found_model(args, screen: Screen) -> tuple[Model, Dataset]:
    """Returns the model of the file, or the built-in one, trained, and the data."""
    if opening.is_file(args.model):
        model = opening.opened(args.model, args, kind="model")
        model, data = opening.with_data(model, args.model, args, screen)
        check_data(model, data)
        return model, data
    name = opening.built_in(args.model, args)
    data = options.load_data(args, screen.say, screen.log)
    recipe = load_recipe("deep-compression", name, TECHNIQUES, pipeline=Pipeline())
    return train_dense(args.model, data.without_test(), recipe, seed=args.seed, log=screen.log,
                       n_threads=args.threads), data


def compare(args) -> int:
    """Prunes the whole net by each criterion to rising sparsity, and shows the errors."""
    for option, value, default in (("--bytes", args.bytes, None), ("--macs", args.macs, None),
                                   ("--what", args.what, "weights"), ("--only", args.only, "*")):
        if value != default:
            raise UserError(
                f"--criteria compares on the weights of the whole net: it does not go with {option}"
            )
    asked = criteria.named(args.criteria)
    with Screen(args.log) as screen:
        model, data = found_model(args, screen)
        screen.title = "importance"

        def error(m):
            return evaluate(m, data.val, n_threads=args.threads).error
        baseline = error(model)
        rows = criteria.importance(
            model,
            data.without_test(),
            asked,
            rng=np.random.default_rng([args.seed, 2]),
            evaluate=error,
            sparsities=SPARSITIES,
            log=screen.log,
        )
    print_table(
        "weights pruned by importance, nothing retrained",
        ["criterion", "sparsity", "zeros", "error"],
        [
            [r["criterion"], r["sparsity"], f"{r['zeros']:.3f}", f"{100 * r['error']:.2f} %"]
            for r in rows
        ],
        footer=f"as given {100 * baseline:.2f} % of {len(data.val):,} validation examples; "
        "sparsity of fpgm is of filters",
    )
    if args.plot:
        curves = {c.word: ([r["zeros"] for r in rows if r["criterion"] == c.word],
                           [r["error"] for r in rows if r["criterion"] == c.word]) for c in asked}
        curves = {word: curve for word, curve in curves.items() if curve[0]}
        ax = plots.plot_importance(
            curves, baseline, examples=f"{len(data.val):,} validation images")
        plots.save(ax, args.plot)
        print(f"{printable(args.plot)}: error against the fraction of zeros")
    options.write_json(args.json, {"criteria": [c.word for c in asked], "baseline": baseline,
                                   "size": len(data.val), "rows": rows})
    return 0
