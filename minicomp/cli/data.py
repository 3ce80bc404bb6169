"""`minicomp data`: which data sets are here, and how to get those that are not."""

from __future__ import annotations

from .. import data as datasets
from . import options
from .progress import Screen, print_table

EXAMPLES = """
minicomp data list
minicomp data get mnist
minicomp data get mnist --from DOWNLOADS
"""


def add_parsers(commands) -> None:
    """Adds the command `data`."""
    p = options.command(
        commands, "data", listing, help="list data sets, or get one", examples=EXAMPLES
    )
    inner = p.add_subparsers(dest="action", metavar="list|get")
    p = options.command(
        inner,
        "list",
        listing,
        help="the data sets, and where they were found",
        examples="minicomp data list",
    )
    options.add_json(p)
    p = options.command(
        inner,
        "get",
        get,
        help="fetch a data set into the user's cache",
        examples="\n".join(EXAMPLES.strip().splitlines()[1:]),
    )
    p.add_argument("name", metavar="NAME", help=", ".join(datasets.NAMES))
    p.add_argument(
        "--from", dest="source", metavar="DIR|URL", help="a folder that has the files, or a mirror"
    )
    options.files(p, reads=("source",))


def listing(args) -> int:
    """Prints the data sets."""
    found = datasets.available()
    print_table(
        "",
        ["name", "state", "where", "how"],
        [[r.name, r.state, str(r.where or ""), r.how] for r in found],
    )
    options.write_json(
        getattr(args, "json", None),
        {
            "data": [
                {"name": r.name, "state": r.state, "where": str(r.where or ""), "how": r.how}
                for r in found
            ]
        },
    )
    return 0


def get(args) -> int:
    """Fetches one data set."""
    with Screen() as screen:
        folder = datasets.get(args.name, from_=args.source, progress=screen.log)
    print(f"{args.name}: in {folder}")
    return 0
