"""Iterative pruning's MNIST rows (Han, Pool, Tran, Dally 2015, arXiv 1506.02626, tables 1, 3 and 4).

12x fewer weights at 1.59 % (LeNet-300-100, from 1.64 %) and 0.77 % (LeNet-5, from 0.80 %), with the kept
fractions of each layer as the paper's tables give them. Ratios count weights, as the paper's do; the file's
bytes, pruned but neither shared nor entropy-coded further, stand beside them.
"""

from __future__ import annotations

from ..compress import TECHNIQUES
from ..jobs.job import run as run_job
from ..jobs.recipe import load_recipe
from ..compress.technique import weights
from .table import Clock, Paper, file_errors, mean, percent

PUBLISHED = {"lenet300": (12, 1.59), "lenet5": (12, 0.77)}
TITLES = {"lenet300": "LeNet-300-100", "lenet5": "LeNet-5"}


def run(data, *, seeds, log, n_threads, out) -> list[dict]:
    """Returns a row a model: weights kept, and error, after iterative pruning with retraining."""
    rows = []
    for name, (ratio, error) in PUBLISHED.items():
        clock, files, kept = Clock(), [], []
        for seed in seeds:
            job = run_job(name, data.without_test(), load_recipe("han2015", name, TECHNIQUES), seed=seed, log=log,
                          n_threads=n_threads)
            forms = [job.model.forms()[n] for n in weights(job.model).values()]
            kept.append(sum(f.nonzeros() for f in forms))
            total = sum(f.value.size for f in forms)
            files.append(file_errors(job.model, out / f"{name}-han2015-{seed}.mcz", data.name))
        times, size = total / mean(kept), len(data.test.y)
        rows.append({"row": f"{TITLES[name]} weights", "paper": f"{ratio}x at {error:.2f} %",
                     "ours": f"{times:.1f}x at {percent([e for _, e in files], size)}; file "
                             f"{mean([b for b, _ in files]):,.0f} bytes",
                     "met": bool(times >= ratio and 100 * mean([e for _, e in files]) / size <= error),
                     "seconds": clock.lap(), "kept": kept, "errors": [e for _, e in files],
                     "file_bytes": [b for b, _ in files]})
    return rows


PAPER = Paper("han2015", "Learning both Weights and Connections: LeNets on MNIST (Han et al. 2015)", "mnist",
              "5 minutes a seed", run, "ratios of weights, as in the paper; bytes are of the .mcz file")
