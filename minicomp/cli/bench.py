"""`minicomp bench`: kernels and training beside dense BLAS and the peers, in one run."""

from __future__ import annotations

from .. import bench
from ..bench import against
from ..errors import UserError, did_you_mean, printable
from ..report import plots
from . import options
from .progress import Screen, print_table

EXAMPLES = """
minicomp bench
minicomp bench kmeans --peers
minicomp bench huffman --json bench.json
minicomp bench sparse --plot break-even.png
minicomp bench --against ../old/bin/python
minicomp bench lenet5 --against ../old/bin/python
"""


def add_parsers(commands) -> None:
    """Adds the command `bench`."""
    p = options.command(
        commands,
        "bench",
        run,
        help="time the kernels beside their peers",
        examples=EXAMPLES,
        description="Time the kernels and training, interleaved with NumPy's BLAS and, with "
        "--peers, with torch and scikit-learn where they are installed. Ratios above 1 are ours "
        "faster.",
    )
    p.add_argument(
        "kernel",
        nargs="?",
        metavar="KERNEL",
        help=f"one of {', '.join(bench.BENCHES)} (default all)",
    )
    p.add_argument("--peers", action="store_true", help="beside torch, scikit-learn and the like")
    p.add_argument(
        "--against",
        metavar="PYTHON",
        help="beside the minicomp that this interpreter imports, each in a process of its own; "
        f"KERNEL is then one of {', '.join(against.ROWS)} (default all but compress)",
    )
    p.add_argument(
        "--plot", metavar="F.png", help="draw where sparse products break even with dense BLAS"
    )
    options.add_json(p)
    options.files(p, reads=("against",), writes=("plot",))


def run(args) -> int:
    """Runs the command."""
    known = against.ROWS if args.against else bench.BENCHES
    if args.against and args.kernel in bench.BENCHES and args.kernel not in known:
        raise UserError(f"--against has no {args.kernel}; it races {', '.join(known)}")
    if args.kernel is not None and args.kernel not in known:
        raise UserError(f"unknown kernel {args.kernel!r}{did_you_mean(args.kernel, known)}")
    if args.against and (args.peers or args.plot):
        raise UserError("--against races two installations: without --peers and --plot")
    if args.plot and args.kernel not in (None, "sparse"):
        raise UserError(
            f"--plot draws the sparse products: it goes with `bench sparse`, not with {args.kernel}"
        )
    names = None if args.kernel is None else [args.kernel]
    with Screen() as screen:
        if args.against:
            rows = against.against(args.against, names, log=screen.log)
        else:
            rows = bench.run(names, peers=args.peers, log=screen.log)
    print_table(
        "",
        ["kernel", "shape", "ours", "peer", "ratio", "note"],
        [
            [r["kernel"], r["shape"], r["ours"], r["peer"], f"{r['ratio']:.2f}", r.get("note", "")]
            for r in rows
        ],
    )
    if args.plot:
        curves = {
            f"{r['kernel'].removesuffix(', break-even')}, {r['shape']}": {
                float(d): ratio for d, ratio in r["curve"].items()
            }
            for r in rows
            if "curve" in r
        }
        ax = plots.plot_break_even(curves)
        plots.save(ax, args.plot)
        print(f"{printable(args.plot)}: how many times faster than dense, against density")
    options.write_json(args.json, {"rows": rows})
    return 0
