"""`minicomp eval`: the errors of a file, decoded in a fresh process."""

from __future__ import annotations

import time
from pathlib import Path

from ..codec import load
from ..deploy import Program
from ..jobs.job import check_data
from ..nn.graph import Model
from ..train import evaluate
from . import options
from .progress import Screen, print_table

EXAMPLES = """
minicomp eval lenet5.mcz --data mnist
minicomp eval lenet5.mcz --data mnist --json result.json
minicomp eval lenet5-program.mcz --data mnist
"""


def add_parsers(commands) -> None:
    """Adds the command `eval`."""
    p = options.command(
        commands, "eval", run, help="errors of a .mcz file on a test set", examples=EXAMPLES
    )
    p.add_argument("file", metavar="FILE", help="a .mcz file, of a model or a program")
    options.add_data(p)
    options.add_threads(p)
    options.add_json(p)
    options.files(p, reads=("file",))
    p.set_defaults(seed=0)


def run(args) -> int:
    """Runs the command; see `add_parsers`."""
    path = Path(args.file)
    options.check_readable(path)
    with Screen() as screen:
        model = load(path)
        data = options.load_data(args, screen.say, screen.log)
        check_data(model, data)
        start = time.perf_counter()
        score = evaluate(model, data.test, n_threads=args.threads)
        seconds = time.perf_counter() - start
    size = path.stat().st_size
    result = {
        "model": _named(model),
        "data": data.name,
        "file": str(path),
        "file_bytes": size,
        "dense_bytes": model.origin_bytes,
        "ratio": model.origin_bytes / size,
        "errors": score.errors,
        "test_size": score.size,
        "error": score.error,
        "seconds": seconds,
    }
    print_table("", ["file", "bytes", "ratio", "data", "errors", "of", "error %"],
                [[str(path), size, f"{result['ratio']:.1f}", data.name, score.errors, score.size,
                  f"{100 * score.error:.2f}"]])
    options.write_json(args.json, result)
    return 0


def _named(model: Model | Program) -> str:
    if isinstance(model, Program):
        return "program"
    return model.builtin["name"] if model.builtin else "edited"
