"""`minicomp show`: where every byte of a file went."""

from __future__ import annotations

from pathlib import Path

from ..codec import load, show
from ..errors import UserError
from ..report.passport import passport
from . import options
from .progress import print_table

EXAMPLES = """
minicomp show lenet5.mcz
minicomp show lenet5.mcz --json parts.json
"""


def add_parsers(commands) -> None:
    """Adds the command `show`."""
    p = options.command(commands, "show", run, help="where every byte of a .mcz file went, per layer",
                        examples=EXAMPLES)
    p.add_argument("file", metavar="FILE", help="a .mcz file")
    options.add_json(p)


def run(args) -> int:
    """Runs the command; see `add_parsers`."""
    path = Path(args.file)
    if not path.is_file():
        raise UserError(f"{path}: there is no such file")
    parts, model = show(path), load(path)
    print_passport(f"{path}", passport(model, path=path))
    print_table("bytes by part", ["form", "encoding", "part", "bytes"],
                [[row["name"], row.get("encoding", ""), row["part"], row["bytes"]] for row in parts],
                footer=f"{sum(row['bytes'] for row in parts):,} bytes, the size of the file")
    options.write_json(args.json, {"file": str(path), "file_bytes": path.stat().st_size,
                                   "dense_bytes": model.origin_bytes, "parts": parts})
    return 0


def print_passport(title: str, table) -> None:
    """Prints a passport as a table with its totals below."""
    print_table(title, table.headers(), table.rows(), footer=table.summary())
