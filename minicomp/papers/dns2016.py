"""Dynamic network surgery's MNIST rows (Guo, Yao, Chen 2016, arXiv 1608.04493, table 2), and the file that
Deep Compression makes of the result.

The paper counts weights kept: LeNet-5 108x at 0.91 %, LeNet-300-100 56x at 1.99 %. Ours are the weights kept
after surgery, and beside them the .mcz file after sharing, its errors counted by a fresh process. The recipe is
`deep-compression-dns`; knobs were chosen on validation data.

Where we leave the paper: tau rises over the first half of the training instead of standing at its value at
once, the net sees images shifted by up to one pixel, and all layers are operated on together.
"""

from __future__ import annotations

from ..compress import TECHNIQUES
from ..jobs.job import run as run_job
from ..jobs.recipe import load_recipe
from ..compress.technique import weights
from ..train import evaluate
from .table import Clock, Paper, file_errors, mean, percent

PUBLISHED = {"lenet5": (108, 0.91), "lenet300": (56, 1.99)}
TITLES = {"lenet300": "LeNet-300-100", "lenet5": "LeNet-5"}
FILE = 9000  # bytes: what the file must stay under at the same error; the paper has no such row


def run(data, *, seeds, log, n_threads, out) -> list[dict]:
    """Returns two rows a net: weights kept after surgery, and the file after sharing."""
    rows = []
    for name, (ratio, error) in PUBLISHED.items():
        clock, kept, errors, files, sharing = Clock(), [], [], [], 0.0
        recipe = load_recipe("deep-compression-dns", name, TECHNIQUES)
        for seed in seeds:
            job = run_job(name, data.without_test(), recipe, seed=seed, log=log, n_threads=n_threads)
            operated = dict(job.stages)["dns"]
            kept.append(sum(operated.forms()[n].nonzeros() for n in weights(operated).values()))
            errors.append(evaluate(operated, data.test, n_threads=n_threads).errors)
            sharing += sum(s["seconds"] for s in job.steps if s["name"] != "dns")
            files.append(file_errors(job.model, out / f"{name}-dns-{seed}.mcz", data.name))
        size, total = len(data.test.y), sum(operated.forms()[n].mask.size for n in weights(operated).values())
        times, seconds = total / mean(kept), clock.lap() - sharing
        rows.append({"row": f"{TITLES[name]} weights", "paper": f"{ratio}x at {error:.2f} %",
                     "ours": f"{times:.0f}x at {percent(errors, size)}, {mean(kept):,.0f} weights",
                     "met": bool(times >= ratio and 100 * mean(errors) / size <= error), "seconds": seconds,
                     "kept": kept, "errors": errors})
        bytes_, after = mean([b for b, _ in files]), [e for _, e in files]
        rows.append({"row": f"{TITLES[name]} file", "paper": f"(ours: under {FILE:,} bytes at {error:.2f} %)",
                     "ours": f"{bytes_:,.0f} bytes, {job.model.origin_bytes / bytes_:.0f}x, at {percent(after, size)}",
                     "met": bool(bytes_ < FILE and 100 * mean(after) / size <= error), "seconds": sharing,
                     "file_bytes": [b for b, _ in files], "errors": after})
    return rows


PAPER = Paper("dns2016", "Dynamic network surgery: LeNets on MNIST (Guo et al. 2016)", "mnist", "4 minutes a seed", run,
              "paper: weights kept; files: bytes of a .mcz file that a fresh process decodes")
