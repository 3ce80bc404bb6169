"""`python -m tests.campaign SECONDS`: damaged files, killed runs, runs in pairs, odd notebooks.

It goes on where the last run in the same folder stopped, with seeds that were not used yet. A
failure is printed with the command that repeats it, and makes the exit code 1; the summary is JSON
on standard output and in the folder's state.json.
"""

from __future__ import annotations

import os

for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")  # before anything loads NumPy; workers inherit it

import argparse  # noqa: E402
import json  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
from pathlib import Path  # noqa: E402

from tests.campaign import frame  # noqa: E402


def main() -> int:
    """Runs the campaign and returns its exit code."""
    p = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__.split("\n")[0])
    p.add_argument("seconds", type=float, metavar="SECONDS", help="how long; at least one step")
    p.add_argument("--seed", type=int, metavar="N", help="run the step of this seed alone; --only")
    p.add_argument("--only", choices=frame.parts(), help="run one part")
    p.add_argument("--folder", type=Path, default=Path(".campaign"), metavar="DIR",
                   help="where counts and seeds are kept (default .campaign)")
    p.add_argument("--workers", type=int, default=os.cpu_count() or 1, metavar="N",
                   help="steps at a time (default: the cores)")
    args = p.parse_args()
    if args.seed is not None and args.only is None:
        p.error("--seed is of a part: name it with --only")
    if args.seed is None:
        return _told(frame.run(args.seconds, args.folder, args.only, None, args.workers))
    with tempfile.TemporaryDirectory() as folder:  # a repeated step is not counted again
        return _told(frame.run(0, Path(folder), args.only, args.seed, 1))


def _told(memory: frame.Memory) -> int:
    print(json.dumps(memory.summary(), indent=1))
    return 1 if memory.failed else 0


if __name__ == "__main__":
    sys.exit(main())
