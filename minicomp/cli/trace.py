"""`minicomp trace`: every integer that an integer program computes, for whoever checks hardware."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from ..atomic import write_atomically
from ..codec import load
from ..deploy import Program, integer_precision, lower
from ..errors import UserError, printable
from ..kernels.int8.requantize import ROUNDINGS
from . import opening, options
from .paths import check_readable
from .progress import print_table

EXAMPLES = """
minicomp trace int8-program.mcz --input images.npy --out trace.npz
minicomp trace int8.mcz --input images.npy --out trace.npz --rounding gemmlowp
"""
MOST_EXAMPLES = 10_000


def add_parsers(commands) -> None:
    """Adds the command `trace`."""
    p = options.command(
        commands, "trace", run,
        help="every step's integers of an integer program: codes, sums, multipliers, shifts",
        description="Write what each instruction of an integer program makes of images, and the "
                    "constants by which it does: an .npz of arrays NAME.codes, NAME.accumulators, "
                    "NAME.multiplier, NAME.shift, NAME.zero_point and so on; of a binary one "
                    "NAME.signs and thresholds too.",
        examples=EXAMPLES)
    p.add_argument("file", metavar="F.mcz", help="an integer program, or a quantized model")
    p.add_argument("--input", metavar="X.npy", required=True,
                   help="images as the net takes them, (N, C, H, W) or (N, D)")
    p.add_argument("--out", metavar="T.npz", required=True, help="the file to write")
    p.add_argument("--rounding", metavar="RULE", default=None,
                   help=f"of a model: one of {', '.join(ROUNDINGS)} (default {ROUNDINGS[0]})")
    p.add_argument("--zero-first", action="store_true",
                   help="of a model: add the zero point before rounding, not after")
    options.add_max_operations(p)
    options.add_json(p)
    options.files(p, reads=("file", "input"), writes=("out",))


def run(args) -> int:
    """Runs the command; see `add_parsers`."""
    out = Path(args.out)
    if out.suffix != ".npz":
        raise UserError(f"--out must end in .npz, got {printable(out)}")
    options.check_files(args, out=out)
    program = _program(args)
    x = _images(args.input, program)
    opening.check_work(program, len(x), args.max_operations)
    arrays = program.trace(x)
    packed = io.BytesIO()
    np.savez_compressed(packed, **arrays)
    write_atomically(out, packed.getvalue())
    print_table(str(out), ["array", "shape", "type"],
                [[name, " x ".join(map(str, a.shape)), str(a.dtype)]
                 for name, a in arrays.items()])
    options.write_json(args.json, {
        "file": str(out), "program": args.file, "rounding": program.rounding,
        "zero_first": program.zero_first,
        "arrays": {name: {"shape": list(a.shape), "dtype": str(a.dtype)}
                   for name, a in arrays.items()}})
    return 0


def _program(args) -> Program:
    path = opening.existing(args.file)
    if path.suffix != ".mcz":
        raise UserError(f"{printable(path)}: a trace is of a .mcz file")
    held = load(path)
    if isinstance(held, Program):
        if args.rounding is not None or args.zero_first:
            raise UserError(f"--rounding and --zero-first go with a model; {printable(path)} is a "
                            "program, which has its rule")
        if not held.integer:
            raise UserError(f"{printable(path)}: a trace is of an integer program, got precision "
                            f"{held.precision}")
        return held
    try:
        return lower(held, precision=integer_precision(held), zero_first=args.zero_first,
                     rounding=args.rounding or ROUNDINGS[0])
    except ValueError as e:
        raise UserError(str(e)) from None


def _images(given: str, program: Program) -> np.ndarray:
    # What the file holds, float32; UserError for anything but images of the program's shape.
    check_readable(Path(given))
    shape = ", ".join(map(str, program.input_shape))
    try:
        x = np.load(given, mmap_mode="r", allow_pickle=False)  # no more than the file has
    except (ValueError, EOFError, OSError) as e:
        raise UserError(f"--input: {printable(given)} is no .npy file: {printable(e, 200)}"
                        ) from None
    if not isinstance(x, np.ndarray) or x.dtype.kind not in "fiu" or x.shape[1:] != (
            program.input_shape) or not 1 <= len(x) <= MOST_EXAMPLES:
        what = f"shape {x.shape}, {x.dtype}" if isinstance(x, np.ndarray) else "an archive"
        raise UserError(f"--input must be numbers of shape (N, {shape}), N in [1, {MOST_EXAMPLES}],"
                        f" got {what}")
    with np.errstate(over="ignore"):  # which is said by name
        x = x.astype(np.float32)
    if not np.isfinite(x).all():
        raise UserError("--input must be finite, got NaN or infinity")
    return x
