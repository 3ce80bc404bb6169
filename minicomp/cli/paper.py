"""`minicomp paper`: reproduce a paper's table, the paper's row beside ours."""

from __future__ import annotations

from pathlib import Path

from ..errors import UserError, did_you_mean
from ..papers import PAPERS
from . import options
from .progress import Screen, print_table

EXAMPLES = """
minicomp paper
minicomp paper han2015
minicomp paper deep-compression --seeds 3 --json rows.json
"""


def add_parsers(commands) -> None:
    """Adds the command `paper`."""
    p = options.command(commands, "paper", run, help="reproduce a paper's table", examples=EXAMPLES)
    p.add_argument("name", nargs="?", metavar="NAME", help="a table; none lists them")
    p.add_argument(
        "--seeds",
        type=int,
        default=1,
        metavar="N",
        help="run seeds SEED .. SEED + N - 1 (default 1)",
    )
    p.add_argument("--out", metavar="DIR", help="keep the .mcz files in this folder")
    options.add_run(p)
    options.files(p, folder=("out",))


def run(args) -> int:
    """Runs the command; exits with 1 where a row is not met."""
    if args.name is None:
        if args.out is not None or args.seeds != 1:
            raise UserError("--seeds and --out go with NAME, the table to reproduce")
        print_table("", ["name", "table", "needs", "about"],
                    [[p.name, p.title, p.data, p.time] for p in PAPERS.values()])
        options.write_json(args.json, {"papers": [{"name": p.name, "title": p.title, "data": p.data}
                                                  for p in PAPERS.values()]})
        return 0
    if args.name not in PAPERS:
        raise UserError(f"unknown table {args.name!r}{did_you_mean(args.name, PAPERS)}")
    if not 1 <= args.seeds <= 100:
        raise UserError(f"--seeds must be in [1, 100], got {args.seeds}")
    if args.out is not None:
        Path(args.out).mkdir(parents=True, exist_ok=True)
    paper = PAPERS[args.name]
    with Screen(args.log) as screen:
        screen.title = paper.name
        rows = paper.rows(
            seeds=range(args.seed, args.seed + args.seeds),
            log=screen.log,
            n_threads=args.threads,
            out=None if args.out is None else Path(args.out),
        )
    print_table(
        f"{paper.title}, on {paper.data}",
        ["row", "paper", "ours", "met", "seconds"],
        [
            [r["row"], r["paper"], r["ours"], "yes" if r["met"] else "no", f"{r['seconds']:.0f}"]
            for r in rows
        ],
        footer=paper.note,
    )
    options.write_json(args.json, {"paper": paper.name, "title": paper.title, "data": paper.data,
                                   "seeds": args.seeds, "rows": rows})
    return 0 if all(r["met"] for r in rows) else 1
