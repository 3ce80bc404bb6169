"""`minicomp eval`: the errors of a file, decoded in a fresh process."""

from __future__ import annotations

import time
from pathlib import Path

from ..codec.accounting import times
from ..deploy import Program
from ..errors import printable
from ..jobs.job import check_data, check_work
from ..nn.graph import Model
from ..quality import Agreement, agreement
from ..train import evaluate
from . import opening, options
from .progress import Screen, print_table

EXAMPLES = """
minicomp eval lenet5.mcz
minicomp eval lenet5.mcz --data fashion_mnist --json result.json
minicomp eval lenet5.safetensors --model lenet5
minicomp eval lenet5-program.mcz
minicomp eval small.mcz --against lenet5.mcz
"""


def add_parsers(commands) -> None:
    """Adds the command `eval`."""
    p = options.command(
        commands, "eval", run, help="errors of a file on a test set", examples=EXAMPLES
    )
    p.add_argument("file", metavar="FILE", help=f"{opening.WHAT}; of a model or a program")
    p.add_argument("--against", metavar="FLOAT.mcz",
                   help="a net beside it, as the float one it came from: how many predictions "
                   "flip, and the KL divergence of the logits")
    opening.add_structure(p)
    options.add_data(p)
    options.add_threads(p)
    options.add_max_operations(p)
    options.add_json(p)
    options.files(p, reads=("file", "against"))
    p.set_defaults(seed=0)


def run(args) -> int:
    """Runs the command; see `add_parsers`."""
    path = Path(args.file)
    with Screen() as screen:
        model = opening.opened(args.file, args)
        model, data = opening.with_data(model, args.file, args, screen)
        check_data(model, data)
        found = None if args.against is None else against(args, model, data)
        start = time.perf_counter()
        score = evaluate(model, data.test, n_threads=args.threads)
        seconds = time.perf_counter() - start
    size = path.stat().st_size
    result = {
        "model": opening.named(model, "edited"),
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
    if found is not None:
        result |= {"against": args.against, "flips": found.flips, "kl": found.kl}
    print_table("", ["file", "bytes", "ratio", "data", "errors", "of", "error %"],
                [[str(path), size, times(result["ratio"]), data.name, score.errors, score.size,
                  f"{100 * score.error:.2f}"]],
                footer="" if found is None else f"beside {printable(args.against)} {found.flips:,} "
                f"of {found.size:,} predictions flip; KL of the logits {found.kl:.3g} nats")
    options.write_json(args.json, result)
    return 0


def against(args, model: Model | Program, data) -> Agreement:
    """Returns how the net agrees with that of --against on the test set."""
    reference = opening.float_net(args.against, kind=None)
    check_work(reference, len(data.test.y), args.max_operations)
    return agreement(model, reference, data.test)

