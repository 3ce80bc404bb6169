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
minicomp paper hinton2015 --seeds 3 --out nets
minicomp paper hinton2015 --recorded
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
    p.add_argument("--journal", metavar="F.jsonl", help="of a table that keeps one: append a line "
                   "for each training, and go on where it stopped (default NAME.jsonl in --out)")
    p.add_argument("--recorded", action="store_true",
                   help="show the rows of the journal that is part of minicomp; nothing runs")
    options.add_run(p)
    options.files(p, folder=("out",), updates=("journal",))


def run(args) -> int:
    """Runs the command; exits with 1 where a row is not met."""
    if args.name is None:
        if args.out or args.journal or args.recorded or args.seeds != 1:
            raise UserError("--seeds, --out, --journal and --recorded go with NAME, the table to "
                            "reproduce")
        print_table("", ["name", "table", "needs", "about"],
                    [[p.name, p.title, p.data, p.time] for p in PAPERS.values()])
        options.write_json(args.json, {"papers": [{"name": p.name, "title": p.title, "data": p.data}
                                                  for p in PAPERS.values()]})
        return 0
    if args.name not in PAPERS:
        raise UserError(f"unknown table {args.name!r}{did_you_mean(args.name, PAPERS)}")
    if not 1 <= args.seeds <= 100:
        raise UserError(f"--seeds must be in [1, 100], got {args.seeds}")
    if args.recorded and (args.out or args.journal or args.seeds != 1):
        raise UserError("--recorded runs nothing: --seeds, --out and --journal do not go with it")
    paper = PAPERS[args.name]
    rows = paper.recorded() if args.recorded else _found(paper, args)
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


def _found(paper, args) -> list[dict]:
    # The rows of what runs.
    out, journal = (None if path is None else Path(path) for path in (args.out, args.journal))
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    with Screen(args.log) as screen:
        screen.title = paper.name
        return paper.rows(seeds=range(args.seed, args.seed + args.seeds), log=screen.log,
                          n_threads=args.threads, out=out, journal=journal)
