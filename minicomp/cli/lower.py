"""`minicomp lower`: the program of a model, a file that is called and not trained."""

from __future__ import annotations

from pathlib import Path

from ..codec import save
from ..deploy import Program, lower
from ..deploy.program import PRECISIONS
from ..errors import UserError
from ..models import normalization
from . import opening, options
from .progress import Screen, print_table

EXAMPLES = """
minicomp lower lenet5.mcz
minicomp lower lenet5.mcz --out program.mcz --precision float --json steps.json
minicomp eval program.mcz
"""


def add_parsers(commands) -> None:
    """Adds the command `lower`."""
    p = options.command(
        commands, "lower", run, help="turn a model into a program: steps ready to be called",
        description="Write the program of a model: batch norm is folded, activations are fused, "
                    "what only training needs is gone. Outputs are the model's up to rounding.",
        examples=EXAMPLES)
    p.add_argument("file", metavar="FILE", help=f"{opening.WHAT}; of a model")
    opening.add_structure(p)
    p.add_argument("--out", metavar="P.mcz", help="the file to write (default FILE-program.mcz)")
    p.add_argument("--precision", metavar="NAME", default="float",
                   help=f"one of {', '.join(PRECISIONS)} (default float)")
    options.add_json(p)
    options.files(p, reads=("file",), writes=("out",))


def run(args) -> int:
    """Runs the command; see `add_parsers`."""
    path = opening.existing(args.file)
    out = Path(args.out or path.with_name(f"{path.stem}-program.mcz").name)
    if out.suffix != ".mcz":
        raise UserError(f"--out must end in .mcz, got {out}")
    options.check_files(args, out=out)
    model = opening.opened(args.file, args, kind="model")
    if args.normalize is None and normalization(model) is None and not opening.says(path):
        Screen().say(opening.assumed(path, None))
    try:
        program = lower(model, precision=args.precision)
    except ValueError as e:
        raise UserError(str(e)) from None
    size = save(program, out)
    steps, before = described(program), path.stat().st_size
    print_table(str(out),
                ["step", "kind", "reads", "then", "output", "stored as", "one image runs"],
                [[s["name"], s["kind"], ", ".join(s["inputs"]), s["args"].get("then", ""),
                  " x ".join(map(str, s["shape"])), s["weights"].get("weight", ""), s["layout"]]
                 for s in steps],
                footer=f"{size:,} bytes; the model's file has {before:,}")
    options.write_json(args.json, {
        "file": str(out), "file_bytes": size, "model_file": str(path), "model_bytes": before,
        "precision": program.precision, "integer": program.integer,
        "input": list(program.input_shape), "steps": steps})
    return 0


def described(program: Program) -> list[dict]:
    """Returns what each step is, the shape of its output, and its layout for one image here."""
    shapes, layouts = program.shapes(), program.plan().layouts
    return [{"name": s.name, "kind": s.kind, "inputs": list(s.inputs), "args": s.given(),
             "shape": list(shapes[s.name]), "layout": layouts.get(s.name, ""),
             "weights": {part: form.kind for part, form in s.weights.items()}}
            for s in program.steps]
