"""What a price for bits gains: no paper's row, LeNet-300-100 and LeNet-5 on MNIST.

A float net is trained, half of its training under `gradual` pruning, and quantized in four ways:
nearest codes of a grid, rate-distortion, trellis, and training with the bits in the loss. Of each
the smallest file counts whose validation error is no more than MARGIN above the pruned float net's:
nearest codes choose their grid, the others lambda. What stands in the table are its bytes and test
errors; a row is met where the file is smaller than that of nearest codes.
"""

from __future__ import annotations

import numpy as np

from ..codec import encode
from ..compress.prune.gradual import Gradual
from ..compress.rate.entropy_penalty import EntropyPenalty
from ..compress.rate.rate_distortion import RateDistortion
from ..compress.rate.trellis import TrellisQuantization
from ..compress.technique import Run, Technique
from ..models import for_data
from ..nn.graph import Model
from ..train import evaluate
from .files import Files
from .records import FLOATS, NAMES
from .table import Paper

SPARSITY = {"lenet300": {"*": 0.9, "fc3": 0.6}, "lenet5": {"*": 0.9, "conv1": 0.2}}
PRUNE = {"lenet300": 10, "lenet5": 4}  # epochs
MARGIN = 0.001  # of the validation images
LAMBDAS = (0.5, 1.0, 2.0, 3.0, 5.0, 8.0)
PENALTIES = (0.3, 1.0, 3.0)
SWEEPS: dict[str, list[Technique]] = {
    "nearest": [RateDistortion(lam=0.0, bits=bits) for bits in (3, 4, 5, 6)],
    "rate-distortion": [RateDistortion(lam=lam, bits=6) for lam in LAMBDAS],
    "trellis": [TrellisQuantization(lam=lam, bits=6) for lam in LAMBDAS],
    "entropy-penalty": [EntropyPenalty(lam=lam, bits=5).training(epochs=2, lr=0.005, shift=1)
                        for lam in PENALTIES],
}


def smallest(sweep: list[Technique], model: Model, given, runs: list[Run], most: float) -> Model:
    """Returns what makes the smallest file with at most so many validation errors; where none has,
    what has the fewest.

    runs : one for each technique of the sweep
    """
    made = [technique.apply(model, given, run) for technique, run in zip(sweep, runs, strict=True)]
    wrong = [evaluate(m, given.val).errors for m in made]
    sizes = [len(encode(m)) for m in made]
    within = [i for i, errors in enumerate(wrong) if errors <= most]
    chosen = min(within, key=lambda i: sizes[i]) if within else int(np.argmin(wrong))
    return made[chosen]


def run(data, *, seeds, log, n_threads, out) -> list[dict]:
    """Returns a row for each net and way."""
    files, given = Files(data, out, "rate"), data.without_test()
    for seed in seeds:
        for name, pruned in SPARSITY.items():
            init, *streams = np.random.default_rng([seed, len(name)]).spawn(3 + len(SWEEPS))

            def way(rng):
                return Run(rng, log, None, n_threads)

            dense = FLOATS[name].apply(for_data(name, data, rng=init), given, way(streams[0]))
            gradual = Gradual(sparsity=pruned).training(epochs=PRUNE[name], lr=0.02, shift=1)
            start = gradual.apply(dense, given, way(streams[1]))
            most = evaluate(start, given.val).errors + MARGIN * len(given.val.y)
            files.note(f"{name}-floats", start, seed, start)
            for (kind, sweep), rng in zip(SWEEPS.items(), streams[2:]):
                runs = [way(r) for r in rng.spawn(len(sweep))]
                files.note(f"{name}-{kind}", smallest(sweep, start, given, runs, most), seed, start)
    return table(files)


def table(files: Files) -> list[dict]:
    """Returns the rows of what files say."""
    rows = []
    for name, title in NAMES.items():
        plain = files.size(f"{name}-nearest")
        for kind in ("floats", *SWEEPS):
            key = f"{name}-{kind}"
            met = kind in ("floats", "nearest") or files.size(key) < plain
            asked = "no row" if kind in ("floats", "nearest") else "(ours: below nearest codes)"
            rows.append(files.row(f"{title}, {kind}", asked, met, key))
    return rows


PAPER = Paper("rate-distortion", "Codes by error and bits: pruned LeNets on MNIST", "mnist",
              "12 minutes a seed", run,
              "no paper's row; lambda and grids are chosen on validation images; bytes are of a "
              ".mcz file that a fresh process decodes")
