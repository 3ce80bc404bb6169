"""The command line: `minicomp COMMAND ...`.

Exit codes: 0 done; 1 something was compared and differs; 2 a user's mistake, said in one line;
130 stopped by Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys

from ..errors import UserError


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of all commands."""
    from . import (bench, compress, data, evaluate, lesson, listing, lower, paper, sensitivity,
                   show, train)
    from .parser import Parser

    parser = Parser(
        prog="minicomp",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Neural-network model compression from scratch: every technique readable, "
        "measured in file bytes and milliseconds.",
        epilog="examples:\n"
        "  minicomp compress                    train LeNet-5, compress it, write lenet5.mcz and "
        "report.html\n"
        "  minicomp list                        what there is\n"
        "  minicomp COMMAND --help              the options of a command, with examples",
    )
    parser.add_argument("--version", action="store_true", help="version, and which kernels run")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for module in (compress, train, evaluate, show, lower, sensitivity, listing, paper, bench,
                   data, lesson):
        module.add_parsers(commands)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    try:
        parser = build_parser()
    except KeyboardInterrupt:  # while modules are imported
        print("minicomp: stopped", file=sys.stderr)
        return 130
    args = parser.parse_args(argv)
    if args.version:
        from .listing import print_version
        print_version()
        return 0
    if args.command is None:
        parser.print_help()
        return 0
    try:
        return _run(args)
    except UserError as e:
        print(f"minicomp {args.command}: {_one_line(e)}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of a pipe has gone, such as head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as e:
        where = f"{e.filename}: " if e.filename else ""
        print(f"minicomp {args.command}: {where}{e.strerror or e}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"minicomp {args.command}: stopped" + _resume_hint(args), file=sys.stderr)
        return 130


def _run(args) -> int:
    from . import options

    options.check_common(args)
    if getattr(args, "json", None) != "-" or args.command == "lesson":  # which writes its own
        return args.run(args) or 0
    # JSON alone goes to standard output, tables and the rest to standard error.
    args.json = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        return args.run(args) or 0


def _one_line(e: Exception) -> str:
    return " ".join(str(e).split())


def _resume_hint(args) -> str:
    folder = getattr(args, "checkpoint_folder", None)
    if folder is None or not folder.exists():
        return ""
    return f"; the same command goes on from {folder} (--restart discards it)"
