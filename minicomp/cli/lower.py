"""`minicomp lower`: the program of a model, a file that is called and not trained."""

from __future__ import annotations

from pathlib import Path

from ..codec import save
from ..deploy import Program, lower
from ..deploy.binary import reach
from ..deploy.grids import SIGNS, Grid
from ..deploy.program import PRECISIONS
from ..deploy.simulate import Comparison, compared
from ..errors import UserError
from ..jobs.job import check_data, check_work
from ..kernels.int8.requantize import ROUNDINGS
from ..models import normalization
from ..nn.graph import Model
from . import opening, options
from .progress import Screen, print_table

EXAMPLES = """
minicomp lower lenet5.mcz
minicomp lower lenet5.mcz --out program.mcz --precision float --json steps.json
minicomp compress lenet5 --with ptq --out int8.mcz
minicomp lower int8.mcz --precision int8 --rounding gemmlowp
minicomp compress lenet300 --with bnn --with ptq --out bits.mcz
minicomp lower bits.mcz --precision binary
minicomp eval program.mcz
"""


def add_parsers(commands) -> None:
    """Adds the command `lower`."""
    p = options.command(
        commands, "lower", run, help="turn a model into a program: steps ready to be called",
        description="Write the program of a model: batch norm is folded, activations are fused, "
                    "what only training needs is gone. Outputs are the model's up to rounding. Of "
                    "a quantized model (ptq, qat) --precision int8 makes a program of integers "
                    "alone, of a binarized one (bnn, then ptq) --precision binary one of bits; "
                    "both say how they differ from the model's floats.",
        examples=EXAMPLES)
    p.add_argument("file", metavar="FILE", help=f"{opening.WHAT}; of a model")
    opening.add_structure(p)
    p.add_argument("--out", metavar="P.mcz", help="the file to write (default FILE-program.mcz)")
    p.add_argument("--precision", metavar="NAME", default="float",
                   help=f"one of {', '.join(PRECISIONS)} (default float)")
    p.add_argument("--rounding", metavar="RULE", default=ROUNDINGS[0],
                   help="int8: how sums become codes, one of "
                   f"{', '.join(ROUNDINGS)} (default {ROUNDINGS[0]})")
    p.add_argument("--zero-first", action="store_true",
                   help="int8: add the zero point before rounding, not after; a sum of values "
                   "adds it after")
    options.add_data(p)
    options.add_max_operations(p)
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
        program = lower(model, precision=args.precision, rounding=args.rounding,
                        zero_first=args.zero_first)
    except ValueError as e:
        raise UserError(str(e)) from None
    found = differences(args, model, program)
    size, before = save(program, out), path.stat().st_size
    result = {"file": str(out), "file_bytes": size, "model_file": str(path), "model_bytes": before,
              "precision": program.precision, "integer": program.integer,
              "input": list(program.input_shape), "steps": described(program)}
    print_steps(str(out), result["steps"])
    if program.integer:
        result |= {"instructions": instructions(program, found),
                   "flips": None if found is None else found.flips,
                   "test_size": None if found is None else found.size}
        if program.precision == "int8":
            result |= {"rounding": program.rounding, "zero_first": program.zero_first}
        print_instructions(program, result["instructions"])
    print(f"{size:,} bytes; the model's file has {before:,}")
    if program.integer and found is None:
        print("not compared with the model: no test set at hand (--data)")
    if found is not None:
        print(f"{found.flips:,} of {found.size:,} predictions differ from the model's")
    options.write_json(args.json, result)
    return 0


def print_steps(title: str, steps: list[dict]) -> None:
    """Prints a line a step, of `described`."""
    print_table(title, ["step", "kind", "reads", "then", "output", "stored as", "one image runs"],
                [[s["name"], s["kind"], ", ".join(s["inputs"]), s["args"].get("then", ""),
                  " x ".join(map(str, s["shape"])), s["weights"].get("weight", ""), s["layout"]]
                 for s in steps])


def print_instructions(program: Program, rows: list[dict]) -> None:
    """Prints a line an instruction, of `instructions`, and what the columns are."""
    binary = program.precision == "binary"
    title = "instructions" + ("" if binary else f", rounding {program.rounding}")
    print_table(title, ["instruction", "kind", "reads", "output", "scale", "zero point", "codes",
                        "reach", "differ %", *["constant"] * binary],
                [[i["name"], i["kind"], ", ".join(i["inputs"]), " x ".join(map(str, i["shape"])),
                  _number(i["scale"]), _number(i["zero_point"]),
                  "bits" if i["bits"] else "int32" if i["codes"] is None else
                  "{}..{}".format(*i["codes"]),
                  "" if i["reach"] is None else f"{i['reach']:,}",
                  "" if i["differ"] is None else f"{100 * i['differ']:.3f}",
                  *[_number(i["constant"])] * binary] for i in rows])
    if binary:
        print("reach: the largest sum that could come; differ: the share of codes and signs that "
              "the model's floats have otherwise; constant: channels whose threshold lies outside "
              "of all sums, so that their sign is always one")
    else:
        print("reach: the largest sum that could come, below 2^31 or refused; differ: the share of "
              "codes that fake quantization has otherwise")


def differences(args, model: Model, program: Program) -> Comparison | None:
    """Returns how an integer program differs from its model on the test set of the data that the
    arguments name, or else of those on which the net was trained; None where none are at hand."""
    if not program.integer:
        if args.data is not None:
            raise UserError("--data goes with --precision int8 and binary, to compare on")
        return None
    if args.data is None and not options.at_hand(model.trained_on):
        return None
    data = options.load_data(args, Screen().say, trained_on=model.trained_on)
    check_data(model, data)
    check_work(model, 2 * len(data.test.y), args.max_operations)
    return compared(model, program, data.test.x) if len(data.test.y) else None


def instructions(program: Program, found: Comparison | None) -> list[dict]:
    """Returns what each instruction of an integer program is, for people and JSON.

    codes : least and largest, None of int32 and bits        reach : the largest sum that could
        come, of layers        differ : the share of codes or signs that the model has otherwise
    constant : of bits, how many channels have one sign, whatever comes
    """
    shares = {} if found is None else {d.of: d.share for d in found.grids}
    return [{"name": i.name, "kind": i.kind, "inputs": list(i.inputs), "shape": list(i.shape),
             **_codes(i.grid if isinstance(i.grid, Grid) else None), "bits": i.grid is SIGNS,
             "reach": reach(i) if "weight" in i.arrays else None,
             "differ": shares.get(i.name), "constant": i.args.get("constant")}
            for i in program.instructions]


def _codes(grid: Grid | None) -> dict:
    if grid is None:
        return {"scale": None, "zero_point": None, "codes": None}
    return {"scale": float(grid.scale), "zero_point": grid.zero_point, "codes": [grid.lo, grid.hi]}


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def described(program: Program) -> list[dict]:
    """Returns what each step is, the shape of its output, and its layout for one image here."""
    shapes, layouts = program.shapes(), program.plan().layouts
    return [{"name": s.name, "kind": s.kind, "inputs": list(s.inputs), "args": s.given(),
             "shape": list(shapes[s.name]), "layout": layouts.get(s.name, ""),
             "weights": {part: form.kind for part, form in s.weights.items()}}
            for s in program.steps]
