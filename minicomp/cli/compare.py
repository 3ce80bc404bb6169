"""`minicomp compare`: files beside each other, by error, bytes, MACs and milliseconds."""

from __future__ import annotations

from pathlib import Path

from ..errors import UserError, printable
from .. import comparison
from ..energy import NOTE
from ..jobs.job import check_data, check_work
from ..report import pareto, plots
from . import opening, options
from .progress import Screen, print_table

EXAMPLES = """
minicomp compare lenet5.mcz small.mcz
minicomp compare lenet5.mcz small.mcz --plot pareto.png --csv nets.csv --latex nets.tex
minicomp compare lenet5.mcz lenet5-program.mcz --json nets.json
minicomp compare int8.mcz int8-program.mcz --energy
"""
MOST = 200  # files


def add_parsers(commands) -> None:
    """Adds the command `compare`."""
    p = options.command(
        commands, "compare", run, help="files beside each other: error, bytes, MACs, milliseconds",
        examples=EXAMPLES,
        description="Files beside each other on one test set: errors with their 95 % interval "
        "(Wilson's) against bytes, multiplications and milliseconds. All are timed in turn, one "
        "image and one thread.")
    p.add_argument("files_given", nargs="+", metavar="FILE",
                   help=f"{opening.WHAT}; of models or programs for one kind of input")
    p.add_argument("--plot", metavar="F.png", help="draw the Pareto fronts")
    p.add_argument("--csv", metavar="F.csv", help="write the table as CSV")
    p.add_argument("--latex", metavar="F.tex", help="write the table as a LaTeX tabular")
    p.add_argument("--no-time", action="store_true", help="take no milliseconds")
    options.add_energy(p)
    opening.add_structure(p)
    options.add_data(p)
    options.add_threads(p)
    options.add_max_operations(p)
    options.add_json(p)
    options.files(p, reads=("files_given",), writes=("plot", "csv", "latex"))
    p.set_defaults(seed=0)


def run(args) -> int:
    """Runs the command; see `add_parsers`."""
    if len(args.files_given) > MOST:
        raise UserError(f"at most {MOST} files are compared, got {len(args.files_given)}")
    with Screen() as screen:
        nets, data = _opened(args, screen)
        rows = comparison.compare(nets, data.test, timed=not args.no_time,
                                  energy=args.energy, n_threads=args.threads, log=screen.log)
    headers, cells = comparison.table(rows)
    on = comparison.fronts(rows)
    print_table(
        f"{data.name}, {len(data.test.y):,} test examples", [*headers, "front of"],
        [[*row, ", ".join(costs)] for row, costs in zip(cells, on)],
        footer="front: no other file errs as rarely at less of it; MACs: those by weights that are "
        "not 0" + (f"; {NOTE}" if args.energy else ""))
    for path, text in ((args.csv, comparison.as_csv), (args.latex, comparison.as_latex)):
        if path:
            options.write_text(Path(path), text(rows))
    if args.plot:
        plots.save(pareto.plot_fronts(rows, examples=f"{len(data.test.y):,} test images")[0],
                   args.plot)
        print(f"{printable(args.plot)}: error against bytes, MACs and milliseconds")
    options.write_json(args.json, {"data": data.name, "rows": [
        row.to_dict() | {"front": costs} for row, costs in zip(rows, on)]})
    return 0


def _opened(args, screen: Screen):
    # The nets with their paths, and the data: those of the first file where none are named.
    nets, data = [], None
    for given in args.files_given:
        net = opening.opened(given, args)
        if data is None:
            net, data = opening.with_data(net, given, args, screen)
            args.data = args.data or data.name
        else:
            net = opening.with_data(net, given, args, screen)[0]
        try:
            check_data(net, data)
            check_work(net, len(data.test.y), args.max_operations)
        except UserError as e:
            raise UserError(f"{printable(given)}: {e}") from None
        nets.append((Path(given), net))
    return nets, data
