"""`minicomp export`: a model or a program for other people's tools: plain C, ONNX."""

from __future__ import annotations

from pathlib import Path

from ..deploy import Program, integer_precision, lower
from ..errors import UserError
from ..exchange import c99, onnx_export
from ..nn.graph import Model
from . import opening, options
from .progress import print_table

EXAMPLES = """
minicomp export int8-program.mcz --c lenet5-c
minicomp export int8.mcz --onnx lenet5.onnx --format qoperator
"""
TAKEN = {"weights": "weights", "constants": "all constants, weights included",
         "code": "code, by gcc -Os for this machine", "buffers": "buffers, static",
         "stack": "stack, at most"}


def add_parsers(commands) -> None:
    """Adds the command `export`."""
    p = options.command(
        commands, "export", run, help="write a model or a program as C or as ONNX",
        description="Write a model or a program for other tools: --c plain C99 with the bits of "
                    "the integer program, --onnx a graph.",
        examples=EXAMPLES)
    p.add_argument("file", metavar="FILE", help=f"{opening.WHAT}; of a model or a program")
    opening.add_structure(p)
    p.add_argument("--c", metavar="DIR", help="the folder to write C files to; a model is lowered "
                   "to integers first")
    p.add_argument("--onnx", metavar="G.onnx", help="the ONNX file to write")
    p.add_argument("--format", choices=onnx_export.FORMATS,
                   help="of --onnx: operators on floats; the same between DequantizeLinear and "
                   "QuantizeLinear; operators on integers (default: qdq for what has activations "
                   "on grids, else float)")
    options.add_json(p)
    options.files(p, reads=("file",), writes=("onnx",), folder=("c",))


def run(args) -> int:
    """Runs the command; see `add_parsers`."""
    if (args.c is None) == (args.onnx is None):
        raise UserError("one of --c DIR and --onnx G.onnx says what to write")
    if args.c is not None and args.format is not None:
        raise UserError("--format goes with --onnx")
    if args.onnx is not None and Path(args.onnx).suffix != ".onnx":
        raise UserError(f"--onnx must end in .onnx, got {args.onnx}")
    options.check_files(args)
    found = opening.opened(args.file, args)
    try:
        told = _onnx(found, args) if args.c is None else _c(found, args)
    except ValueError as e:
        raise UserError(str(e)) from None
    options.write_json(args.json, told)
    return 0


def _c(found: Model | Program, args) -> dict:
    program = found
    if isinstance(found, Model):
        program = lower(found, precision=integer_precision(found))
    bytes_ = c99.export(program, args.c)
    measured = "code" in bytes_
    print_table(args.c, ["what", "bytes"], [[said, bytes_[what]] for what, said in TAKEN.items()
                                            if what in bytes_],
                footer="" if measured else "gcc is not here: code and stack are not measured")
    return {"folder": args.c, "bytes": bytes_}


def _onnx(found: Model | Program, args) -> dict:
    report = onnx_export.export(found, args.onnx, format=args.format)
    print_table(args.onnx, ["what", ""], [
        ["format", report.format], ["opset", report.opset], ["IR version", report.ir_version],
        ["nodes", report.nodes], ["bytes", report.bytes]])
    if report.decoded:
        print_table("weights that the file holds as plain numbers", ["weight", "was"],
                    [[name, was] for name, was in report.decoded.items()])
    return {"file": args.onnx} | report.as_dict()
