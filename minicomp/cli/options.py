"""Options that several commands share, and what they stand for."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TextIO

from .. import data as datasets
from ..atomic import as_json, write_atomically
from ..errors import UserError
from ..jobs.job import MAX_OPERATIONS
from ..kernels import cpu
from ..kernels.threads import MOST as MOST_THREADS
from ..report.plots import check_format
from .paths import check_files, files


def command(
    commands, name: str, run, *, help: str, examples: str, description: str = ""
) -> argparse.ArgumentParser:
    """Returns the parser of one command with examples below its help."""
    parser = commands.add_parser(
        name,
        help=help,
        description=description or help[0].upper() + help[1:] + ".",
        epilog="examples:\n" + "\n".join("  " + e for e in examples.strip().splitlines()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run, files={})
    return parser


def add_data(parser, required: bool = False) -> None:
    """Adds --data and --download."""
    parser.add_argument(
        "--data",
        metavar="NAME|F.npz",
        required=required,
        help="data set: " + ", ".join(datasets.NAMES) + ", or a file F.npz of x_train, y_train, "
        "x_test, y_test (default: what a file's net was trained on; else mnist if found, else "
        "glyphs)",
    )
    files(parser, reads=("data",))
    parser.add_argument(
        "--download",
        action="store_true",
        help="fetch the data set named by --data if it is not here",
    )


def add_run(parser) -> None:
    """Adds --seed, --threads, --json and --log."""
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="seed of everything that draws (default 0)"
    )
    add_threads(parser)
    add_json(parser)
    parser.add_argument(
        "--log", metavar="F.jsonl", help="append every step and epoch as a JSON line"
    )
    files(parser, updates=("log",))


def add_threads(parser) -> None:
    """Adds --threads."""
    parser.add_argument("--threads", type=int, default=min(os.cpu_count() or 1, MOST_THREADS),
                        metavar="N", help="threads (default: all cores)")


def add_max_operations(parser) -> None:
    """Adds --max-operations, for commands that run the net of a file."""
    parser.add_argument(
        "--max-operations", type=int, default=MAX_OPERATIONS, metavar="N",
        help="refuse a file whose net takes more operations (MACs, windows of pools, activations) "
        f"for all examples (default {MAX_OPERATIONS:.0e}, some minutes)")


def add_energy(parser) -> None:
    """Adds --energy."""
    parser.add_argument(
        "--energy", action="store_true",
        help="a column of modelled energy, microjoules an image: multiplications, additions and "
        "the file's bytes times the table of Horowitz (ISSCC 2014, 45 nm); nothing is measured")


def add_json(parser) -> None:
    """Adds --json."""
    parser.add_argument(
        "--json",
        metavar="F",
        help="write the result as JSON; - for standard output, which then holds nothing "
        "else",
    )
    files(parser, writes=("json",))


def check_common(args) -> None:
    """Raises UserError, before any work, for a seed, threads or files that cannot be."""
    if not 1 <= getattr(args, "threads", 1) <= MOST_THREADS:
        raise UserError(f"--threads must be in [1, {MOST_THREADS}], got {args.threads}")
    if getattr(args, "seed", 0) < 0:
        raise UserError(f"--seed must be at least 0, got {args.seed}")
    if getattr(args, "download", False) and args.data is None:
        raise UserError("--download goes with --data NAME")
    if getattr(args, "plot", None):
        check_format(args.plot)
    check_files(args)


def load_data(args, say, log=None, *, trained_on: str | None = None) -> datasets.Dataset:
    """Returns the data set that the arguments name; else the one on which the net was trained; else
    MNIST if found, else glyphs. Says which one it took by itself, and where the net was trained on
    another.

    say : takes a line of text        log : takes the rows of a download
    trained_on : label of the data that the net's file notes
    Raises UserError where it notes arrays of one's own, of which it has only the name.
    """
    name = args.data
    if name is None and trained_on is not None:
        name = _noted(trained_on)
        say(f"data: {name}, on which the net was trained")
    elif name is None:
        name = datasets.default_name()
        say(datasets.default_note())
    if args.download and name in datasets.NAMES and _absent(name):
        datasets.get(name, progress=log)
    data = datasets.load(name)
    if trained_on not in (None, data.label):
        say(f"data: {data.label}, although the net was trained on {trained_on}")
    return data


def at_hand(label: str | None) -> bool:
    """Returns whether a data set that a net's file notes is here, without a download."""
    return label in datasets.NAMES and not _absent(label)


def _noted(label: str) -> str:
    if label in datasets.NAMES:
        return label
    name, own, _ = label.partition("@")
    what = f"arrays of your own, --data {name}.npz" if own else "a set that this version has not"
    raise UserError(f"the net was trained on {label}: {what}; say which data with --data")


def _absent(name: str) -> bool:
    return any(
        row.name == name and row.state in ("absent", "incomplete") for row in datasets.available()
    )


def default_model(say) -> str:
    """Returns lenet5, or lenet300 where the compiled convolution is missing, and says so."""
    if cpu.kernel_module("maps") is not None:
        return "lenet5"
    say(
        "The compiled kernels are missing, so LeNet-300-100 is taken instead of LeNet-5: "
        "convolutions in plain NumPy take too long. `minicomp --version` says why they are missing."
    )
    return "lenet300"


def write_json(target: str | TextIO | None, result: dict) -> None:
    """Writes a result as JSON to a file, atomically, or to an open one; nowhere for None."""
    if target is None:
        return
    text = as_json(result, indent=1) + "\n"
    if isinstance(target, str):
        write_text(Path(target), text)
    else:
        target.write(text)


def write_text(path: Path, text: str) -> None:
    """Writes a text file, atomically, in UTF-8; bytes of names that are no text become \\udce9."""
    write_atomically(path, text.encode("utf-8", "backslashreplace"))
