"""Options that several commands share, and what they stand for."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from .. import data as datasets
from ..errors import UserError
from ..kernels import cpu
from ..models import MODELS


def command(commands, name: str, run, *, help: str, examples: str, description: str = "") -> argparse.ArgumentParser:
    """Returns the parser of one command with examples below its help."""
    parser = commands.add_parser(name, help=help, description=description or help[0].upper() + help[1:] + ".",
                                 epilog="examples:\n" + "\n".join("  " + e for e in examples.strip().splitlines()),
                                 formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.set_defaults(run=run)
    return parser


def add_data(parser, required: bool = False) -> None:
    """Adds --data and --download."""
    parser.add_argument("--data", metavar="NAME", required=required,
                        help="data set: " + ", ".join(datasets.NAMES) + " (default: mnist if found, else glyphs)")
    parser.add_argument("--download", action="store_true", help="fetch the data set named by --data if it is not here")


def add_run(parser) -> None:
    """Adds --seed, --threads, --json and --log."""
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of everything that draws (default 0)")
    add_threads(parser)
    add_json(parser)
    parser.add_argument("--log", metavar="F.jsonl", help="append every step and epoch as a JSON line")


def add_threads(parser) -> None:
    """Adds --threads."""
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, metavar="N",
                        help="threads (default: all cores)")


def add_json(parser) -> None:
    """Adds --json."""
    parser.add_argument("--json", metavar="F", help="write the result as JSON; - for standard output")


def load_data(args, say, log=None) -> datasets.Dataset:
    """Returns the data set that the arguments name, or MNIST if found, else glyphs; says which one and why.

    say : takes a line of text        log : takes the rows of a download
    """

    if args.threads < 1:
        raise UserError(f"--threads must be at least 1, got {args.threads}")
    if args.seed < 0:
        raise UserError(f"--seed must be at least 0, got {args.seed}")
    name = args.data
    if name is None:
        name = datasets.default_name()
        say(datasets.default_note())
    elif args.download and name in datasets.NAMES and _absent(name):
        datasets.get(name, progress=log)
    return datasets.load(name)


def _absent(name: str) -> bool:
    return any(row.name == name and row.state in ("absent", "incomplete") for row in datasets.available())


def default_model(say) -> str:
    """Returns lenet5, or lenet300 where the compiled convolution is missing, and says so."""
    if cpu.kernel_module("conv") is not None:
        return "lenet5"
    say("The compiled kernels are missing, so LeNet-300-100 is taken instead of LeNet-5: convolutions in plain "
        "NumPy take too long. `minicomp --version` says why they are missing.")
    return "lenet300"


def check_model(name: str) -> str:
    """Returns the name of a built-in model; UserError names those there are."""
    if name not in MODELS:
        raise UserError(f"unknown model {name!r}; there are {', '.join(MODELS)}, or a .mcz file")
    return name


def write_json(path: str | None, result: dict) -> None:
    """Writes a result as JSON, atomically, or prints it for "-"; nothing where path is None."""
    if path is None:
        return
    text = json.dumps(result, indent=1, default=_plain) + "\n"
    if path == "-":
        print(text, end="")
        return
    write_text(Path(path), text)


def write_text(path: Path, text: str) -> None:
    """Writes a text file through a temporary one beside it, so that no half of it is ever seen."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def _plain(value):
    return value.item() if hasattr(value, "item") else str(value)
