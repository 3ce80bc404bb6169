"""The command line: `minicomp COMMAND ...`.

Exit codes: 0 done; 1 something was compared and differs, or runs of a sweep failed; 2 a user's
mistake, said in one line; 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import sys

from .. import interrupt
from ..errors import UserError, printable
from .streams import Stream, streams


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of all commands."""
    from . import (bench, compare, compress, data, debug, evaluate, export, importing, lesson,
                   listing, lower, paper, sensitivity, show, sweep, trace, train)
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
    for module in (compress, train, evaluate, show, compare, sweep, importing, lower, trace,
                   export, sensitivity, debug, listing, paper, bench, data, lesson):
        module.add_parsers(commands)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    with streams():
        try:
            return _flushed(_guarded(argv))
        except SystemExit as e:  # of argparse: help, or a mistake that it has said
            raise SystemExit(_flushed(e.code or 0)) from None
        finally:
            interrupt.end()


def _guarded(argv: list[str] | None) -> int:
    args = argparse.Namespace(command=None)
    try:
        parser = build_parser()
        interrupt.begin()
        args = parser.parse_args(argv, args)
        if args.version:
            from .listing import print_version
            print_version()
            return 0
        if args.command is None:
            parser.print_help()
            return 0
        return _run(args)
    except UserError as e:
        return _said(args, _one_line(e), 2)
    except OSError as e:
        where = f"{printable(e.filename)}: " if e.filename is not None else ""
        return _said(args, f"{where}{e.strerror or e}" + _resume_hint(args), 2)
    except KeyboardInterrupt:
        return _said(args, "stopped" + _resume_hint(args), 130)


def _said(args, what: str, code: int) -> int:
    print(f"minicomp{f' {args.command}' if args.command else ''}: {what}", file=sys.stderr)
    return code


def _flushed(code: int) -> int:
    # What is still in a buffer is written now, while an error can be said: a full disk behind >.
    try:
        sys.stdout.flush()
    except OSError as e:
        if isinstance(sys.stdout, Stream):
            sys.stdout.drop()
        print(f"minicomp: standard output: {e.strerror or e}", file=sys.stderr)
        return code or 2
    return code


def _run(args) -> int:
    from . import options

    options.check_common(args)
    with contextlib.ExitStack() as args.ending:  # what a command leaves behind when it ends
        return _dispatch(args)


def _dispatch(args) -> int:
    if getattr(args, "json", None) != "-" or args.command == "lesson":  # which writes its own
        return args.run(args) or 0
    # JSON alone goes to standard output, tables and the rest to standard error.
    args.json = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        return args.run(args) or 0


def _one_line(e: Exception) -> str:
    return printable(" ".join(str(e).split()), 4000)  # each part of it was cut where it came in


def _resume_hint(args) -> str:
    folder = getattr(args, "checkpoint_folder", None)
    if folder is None or not folder.exists():
        return ""
    discard = " (--restart discards it)" if hasattr(args, "restart") else ""
    return f"; the same command goes on from {folder}{discard}"
