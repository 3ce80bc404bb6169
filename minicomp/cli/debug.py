"""`minicomp debug`: which layer of a quantized net loses what, beside the float net."""

from __future__ import annotations

import math

from ..data import Dataset
from ..errors import UserError, printable
from ..jobs.job import check_data, check_work
from ..nn.graph import Model
from ..quality import Agreement, agreement
from ..report import plots
from ..report.debug import HEADERS, LayerGap, layer_gaps, table
from . import opening, options
from .progress import Screen, print_table

EXAMPLES = """
minicomp debug small.mcz --against lenet5.mcz
minicomp debug small.mcz --against lenet5.mcz --data mnist --samples 500 --plot layers.png
minicomp debug small.mcz --against lenet5.mcz --json layers.json --least 5
"""


def add_parsers(commands) -> None:
    """Adds the command `debug`."""
    p = options.command(
        commands, "debug", run, help="each layer of a quantized net beside the float net's",
        examples=EXAMPLES,
        description="Signal to quantization noise (dB), cosine and largest error of each layer's "
        "weights, of its output where it alone is quantized, and of its output in the quantized "
        "net. Exit code 1 where the net's output has fewer dB than --least.")
    p.add_argument("file", metavar="FILE", help=f"{opening.WHAT}; of the quantized model")
    p.add_argument("--against", metavar="FLOAT.mcz", required=True,
                   help="the float model that was quantized, with the same layers")
    opening.add_structure(p)
    options.add_max_operations(p)
    options.add_data(p)
    p.add_argument("--samples", type=int, default=500, metavar="N",
                   help="test examples that are run, the first ones (default 500)")
    p.add_argument("--least", type=float, metavar="DB",
                   help="exit with code 1 where the output's ratio is below it")
    p.add_argument("--plot", metavar="F.png", help="draw the ratios")
    options.add_json(p)
    options.files(p, reads=("file", "against"), writes=("plot",))
    p.set_defaults(seed=0)


def run(args) -> int:
    """Runs the command; see `add_parsers`."""
    if args.samples < 1:
        raise UserError(f"--samples must be at least 1, got {args.samples}")
    if args.least is not None and math.isnan(args.least):
        raise UserError("--least must be a number of dB, got nan")
    with Screen() as screen:
        model, reference, data = opened(args, screen)
        split = (data.test or data.val).take(slice(0, args.samples))
        gaps = layer_gaps(model, reference, split.x)
        found = agreement(model, reference, split)
    print_gaps(args, gaps, found)
    if args.plot:
        draw(args.plot, gaps)
    options.write_json(args.json, {
        "file": args.file, "against": args.against, "data": data.name, "size": found.size,
        "flips": found.flips, "kl": found.kl, "layers": [gap.to_dict() for gap in gaps]})
    return int(args.least is not None and gaps[-1].accumulated.sqnr < args.least)


def opened(args, screen: Screen) -> tuple[Model, Model, Dataset]:
    """Returns the quantized model, the float one and the data; UserError where they do not fit."""
    model = opening.opened(args.file, args, kind="model")
    reference = opening.float_net(args.against)
    known = model.trained_on or reference.trained_on or ""
    if args.data is None and "@" not in known:  # arrays without a label are of the float net's data
        args.data = known or None
    model, data = opening.with_data(model, args.file, args, screen)
    check_data(model, data)
    check_work(reference, min(args.samples, len((data.test or data.val).y)), args.max_operations)
    return model, reference, data


def print_gaps(args, gaps: list[LayerGap], found: Agreement) -> None:
    """Prints the table, and under it what the two nets say of the examples."""
    print_table(f"{printable(args.file)} against {printable(args.against)}", HEADERS, table(gaps),
                footer=f"alone: only this layer is quantized; all: every layer is. {found.flips:,} "
                f"of {found.size:,} predictions flip; KL of the logits {found.kl:.3g} nats")


def draw(path: str, gaps: list[LayerGap]) -> None:
    """Writes the picture."""
    kinds = ("weights", "alone", "accumulated")
    shown = {gap.name: {kind: getattr(gap, kind).sqnr for kind in kinds if getattr(gap, kind)}
             for gap in gaps}
    plots.save(plots.plot_gaps(shown), path)
    print(f"{printable(path)}: signal to quantization noise, layer by layer")
