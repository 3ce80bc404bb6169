"""The files of a command: what it reads, what it writes, and that neither destroys the other.

Every option that takes a path says what for, with `files`. Before anything runs, `check_files`
refuses an output that cannot be written, that is also an input or another output (links and hard
links resolved), or where standard output goes; one that will be replaced is said in one line, as
compilers replace what -o names. Pipes and devices may stand anywhere.
"""

from __future__ import annotations

import argparse
import os
import stat
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..atomic import resolved
from ..data.catalog import COLLECTIONS
from ..data.files import cache_dir, roots
from ..errors import UserError, printable

HANDED_IN = {".ipynb", ".zip"}  # what is read of a folder that is an input


@dataclass(frozen=True)
class Claim:
    """A path of a command.

    option : what the user calls it        role : of `ROLES`
    """

    option: str
    path: Path
    role: str

    @property
    def writes(self) -> bool:
        """Whether the command changes what is there."""
        return self.role != "reads"


ROLES = ("reads", "writes", "updates", "folder", "run")  # an output folder; a run's own folder


def files(parser: argparse.ArgumentParser, *, reads: Sequence[str] = (),
          writes: Sequence[str] = (), updates: Sequence[str] = (),
          folder: Sequence[str] = ()) -> None:
    """Declares what the options of a parser, by their dest, do with the paths that they take."""
    known = dict(parser.get_default("files") or {})
    titles = {a.dest: a.option_strings[-1] if a.option_strings else a.metavar or a.dest
              for a in parser._actions}
    for role, names in (("reads", reads), ("writes", writes), ("updates", updates),
                        ("folder", folder)):
        known |= {name: (role, titles[name]) for name in names}
    parser.set_defaults(files=known)


def check_files(args, *, also: Iterable[tuple[str, str | Path, str]] = (), **paths) -> None:
    """Raises UserError, before any work, where an output cannot be, or would destroy something.

    paths : by dest, of outputs that were not named and got a name of the command's
    also : (what it is, path, role) of files without an option
    What will be replaced is said on standard error, once a path.
    """
    claims = [Claim(title, Path(each), role) for dest, (role, title) in args.files.items()
              for each in _each(paths.get(dest) or getattr(args, dest, None))]
    claims += [Claim(title, Path(path), role) for title, path, role in also]
    outputs = [c for c in claims if c.writes]
    for i, out in enumerate(outputs):
        _check_place(out)
        for other in [c for c in claims if not c.writes] + outputs[:i]:
            _check_pair(out, other)
        _check_data(out)
        _check_streams(out)
    known = vars(args).setdefault("replaced", set())
    here = [c for c in outputs if c.role == "writes" and c.path.is_file()]
    new = dict.fromkeys(str(c.path) for c in here if str(c.path) not in known)
    known.update(new)
    if new:
        names = ", ".join(printable(name) for name in new)
        print(f"{names}: there already, will be replaced", file=sys.stderr)


def _each(given) -> list[str | Path]:
    # The paths that an option took: none, one or several.
    return [path for path in (given if isinstance(given, list) else [given])
            if isinstance(path, (str, Path)) and path not in ("", "-")]


def check_readable(path: Path) -> None:
    """Raises UserError where there is no regular file to read at that path."""
    if path.is_file():
        return
    shown = printable(path)
    if path.is_dir():
        raise UserError(f"{shown} is a folder, not a file")
    if path.exists():
        raise UserError(f"{shown} is a pipe or a device, not a file")
    raise UserError(f"{shown}: there is no such file")


def check_writable(option: str, path: Path) -> None:
    """Raises UserError where a file cannot be written at that path."""
    given, path = printable(path), resolved(path)
    folder = path.parent if os.path.islink(given) else Path(given).parent
    if path.is_dir():
        raise UserError(f"{option}: {given} is a folder, not a file")
    if not path.parent.is_dir():
        raise UserError(f"{option}: the folder {folder} does not exist")
    if path.exists():
        mode = path.stat().st_mode
        if stat.S_ISSOCK(mode):
            raise UserError(f"{option}: {given} is a socket, not a file")
        if not (mode & 0o222 and os.access(path, os.W_OK)):
            raise UserError(f"{option}: {given} is write-protected")
        if not stat.S_ISREG(mode):
            return  # written in its place
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise UserError(f"{option}: the folder {folder} cannot be written to")


def _check_place(out: Claim) -> None:
    if out.role in ("writes", "updates"):
        check_writable(out.option, out.path)
        return
    above = next(p for p in (out.path, *out.path.absolute().parents) if os.path.lexists(p))
    if not above.is_dir():
        raise UserError(f"{out.option}: {above} is no folder")
    if not os.access(above, os.W_OK | os.X_OK):
        raise UserError(f"{out.option}: the folder {above} cannot be written to")


def _check_pair(out: Claim, other: Claim) -> None:
    # An output beside an input or another output.
    shown = printable(out.path)
    if same(out.path, other.path):
        what = "what it writes too" if other.writes else "what it reads"
        raise UserError(f"{out.option}: {shown} is {what} ({other.option}); give another name")
    for a, b in ((out, other), (other, out)):
        if b.role == "run" and within(a.path, b.path):
            raise UserError(f"{a.option}: {printable(a.path)} lies in {printable(b.path)}, where "
                            f"the run keeps its unfinished state; give another name")
    if not other.writes and out.path.suffix.lower() in HANDED_IN and out.path.exists() and (
            within(out.path, other.path)):
        raise UserError(f"{out.option}: {shown} lies in {printable(other.path)}, which is read "
                        f"({other.option}); give another name")


def _check_data(out: Claim) -> None:
    # What is there already in a folder of data, or of the cache, is no place for results.
    if out.role == "run" or not out.path.is_file():
        return
    folders = [root / c.folder for root in roots() for c in COLLECTIONS.values()]
    for folder in [*folders, cache_dir()]:
        if within(out.path, folder):
            raise UserError(f"{out.option}: {printable(out.path)} is a file of a data set; give "
                            f"another name")


def _check_streams(out: Claim) -> None:
    for number, name in ((1, "standard output"), (2, "standard error")):
        try:
            there = os.fstat(number)
        except OSError:  # closed
            continue
        if out.path.is_file() and os.path.samestat(there, out.path.stat()):
            raise UserError(f"{out.option}: {printable(out.path)} is where {name} goes; give "
                            f"another name")


def same(a: Path, b: Path) -> bool:
    """Returns whether two paths name one file or folder, there or not yet, by whatever links;
    never for what is neither, such as a pipe."""
    if a.exists() and b.exists():
        return (a.is_file() or a.is_dir()) and os.path.samefile(a, b)
    return os.path.realpath(a) == os.path.realpath(b)


def within(path: Path, folder: Path) -> bool:
    """Returns whether `path` lies in `folder` at any depth, links resolved, or is it."""
    real = Path(os.path.realpath(path))
    return Path(os.path.realpath(folder)) in (real, *real.parents)
