"""Deep Compression's MNIST rows (Han, Mao, Dally 2016, arXiv 1510.00149, tables 1, 2 and 3) in real file bytes.

The paper counts bits of weights, indices and codebooks: 40x for LeNet-300-100 at 1.58 %, 39x for LeNet-5 at
0.74 %. Ours is the size of the .mcz file, header and biases included, and the errors are those that
`minicomp eval` finds when a fresh process decodes it.

Where we leave the paper: sparsity rises while the net trains (the cubic of Zhu & Gupta) instead of in
hand-picked rounds, and training sees images shifted by up to one pixel. Knobs and epochs were chosen on
validation data.
"""

from __future__ import annotations

from ..compress import TECHNIQUES
from ..jobs.job import run as run_job
from ..jobs.recipe import load_recipe
from ..train import evaluate
from .table import Clock, Paper, file_errors, mean, percent

# model: (paper's dense error, paper's ratio, paper's error), errors in %
PUBLISHED = {"lenet300": (1.64, 40, 1.58), "lenet5": (0.80, 39, 0.74)}
TITLES = {"lenet300": "LeNet-300-100", "lenet5": "LeNet-5"}


def run(data, *, seeds, log, n_threads, out, recipe="deep-compression-long", models=tuple(PUBLISHED)) -> list[dict]:
    """Returns two rows a model: the dense error, and the file's ratio at its error."""
    rows = []
    for name in models:
        clock, dense, files, training = Clock(), [], [], 0.0
        for seed in seeds:
            job = run_job(name, data.without_test(), load_recipe(recipe, name, TECHNIQUES), seed=seed, log=log,
                          n_threads=n_threads)
            training += sum(e["seconds"] for e in job.epochs if e["stage"] == "train")
            dense.append(evaluate(job.dense, data.test, n_threads=n_threads).errors)
            files.append(file_errors(job.model, out / f"{name}-{recipe}-{seed}.mcz", data.name))
        base, ratio, error = PUBLISHED[name]
        size, origin = len(data.test.y), job.model.origin_bytes
        rows.append({"row": f"{TITLES[name]} dense error", "paper": f"{base:.2f} %", "ours": percent(dense, size),
                     "met": bool(100 * mean(dense) / size <= base), "seconds": training, "errors": dense})
        ratios = [origin / b for b, _ in files]
        rows.append({"row": f"{TITLES[name]} file", "paper": f"{ratio}x at {error:.2f} %",
                     "ours": f"{mean(ratios):.0f}x at {percent([e for _, e in files], size)}, "
                             f"{mean([b for b, _ in files]):,.0f} bytes",
                     "met": bool(mean(ratios) >= ratio and 100 * mean([e for _, e in files]) / size <= error),
                     "seconds": clock.lap() - training, "file_bytes": [b for b, _ in files],
                     "errors": [e for _, e in files], "ratios": ratios})
    return rows


PAPER = Paper("deep-compression", "Deep Compression: LeNets on MNIST (Han et al. 2016)", "mnist", "5 minutes a seed",
              run, "paper: Han's accounting; ours: bytes of a .mcz file that a fresh process decodes")
