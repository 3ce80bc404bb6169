"""Second order in one shot: LeNet-300-100 at 90 % sparsity without retraining.

No paper prints this row; the claim is that of OBC (Frantar et al. 2022) and SparseGPT (Frantar &
Alistarh 2023), on the net of Han et al. 2015: without retraining, the error rises by at most a
third of what it rises when pruned by magnitude. Magnitude has the better of its scopes, one
ranking over all layers (layer by layer its error is three times as large). OBC ranks all layers
together too; SparseGPT, which must be told how much of each layer goes, takes the sparsities at
which magnitude arrives. That SparseGPT refits was chosen on validation data. How long pruning took
stands beside the rows, not in them: a row is met or not, whatever else the machine does.
"""

from __future__ import annotations

import numpy as np

from ..compress.finetune import FineTune
from ..compress.prune.magnitude import Magnitude
from ..compress.prune.obc import OBC
from ..compress.prune.sparsegpt import SparseGPT
from ..compress.technique import Run, Technique, weights
from ..models import for_data
from ..nn.graph import Model
from ..train import evaluate
from ..timing import Clock
from .table import Paper, file_errors, mean, percent

SPARSITY = 0.9
DENSE = FineTune(epochs=12, lr=0.05, batch_size=64)


def sparsities(model: Model) -> dict[str, float]:
    """Returns the fraction of zeros of each layer's weights."""
    masks = {node: model.forms()[name].mask for node, name in weights(model).items()}
    return {node: float(np.count_nonzero(~mask) / mask.size) for node, mask in masks.items()}


def run(data, *, seeds, log, n_threads, out) -> list[dict]:
    """Returns a row each for OBC and SparseGPT, their rise of the error beside magnitude's."""
    def pruned(technique: Technique, model: Model, seed: int) -> Model:
        run = Run(np.random.default_rng(seed), log=log, n_threads=n_threads)
        return technique.apply(model, data.without_test(), run)

    errors: dict[str, list[int]] = {"dense": [], "magnitude": [], "obc": [], "sparsegpt": []}
    seconds = {"obc": [], "sparsegpt": []}
    sizes = {"obc": [], "sparsegpt": []}
    for seed in seeds:
        dense = pruned(DENSE, for_data("lenet300", data, rng=np.random.default_rng(seed)), seed)
        cut = pruned(Magnitude(sparsity=SPARSITY, scope="global"), dense, seed)
        errors["dense"].append(evaluate(dense, data.test, n_threads=n_threads).errors)
        errors["magnitude"].append(evaluate(cut, data.test, n_threads=n_threads).errors)
        for technique in (OBC(sparsity=SPARSITY, scope="global"),
                          SparseGPT(sparsity=sparsities(cut), refit=True)):
            clock = Clock()
            model = pruned(technique, dense, seed)
            seconds[technique.word].append(clock.lap())
            path = out / f"lenet300-{technique.word}-{seed}.mcz"
            size, wrong = file_errors(model, path, data.name)
            errors[technique.word].append(wrong)
            sizes[technique.word].append(size)
    return [_row(word, errors, seconds[word], sizes[word], len(data.test)) for word in seconds]


def _row(word: str, errors: dict[str, list[int]], seconds: list[float], sizes: list[int],
         n: int) -> dict:
    start = mean(errors["dense"])
    rise, other = mean(errors[word]) - start, mean(errors["magnitude"]) - start
    title = {"obc": "OBC, all layers together", "sparsegpt": "SparseGPT, magnitude's sparsities"}
    return {"row": f"{title[word]}: rise of the error",
            "paper": "at most 1/3 of magnitude's",
            "ours": f"{rise / (other or 1):.2f} of it: {percent(errors['dense'], n)} to "
                    f"{percent(errors[word], n)}, magnitude {percent(errors['magnitude'], n)}; "
                    f"file {mean(sizes):,.0f} bytes",
            "met": bool(other > 0 and rise <= other / 3),
            "seconds": sum(seconds),
            "errors": errors[word], "dense": errors["dense"], "magnitude": errors["magnitude"],
            "pruning_seconds": seconds, "file_bytes": sizes}


PAPER = Paper("second-order", "Second order in one shot: LeNet-300-100 at 90 % sparsity", "mnist",
              "1 minute a seed", run,
              "no retraining; bytes are of a .mcz file that a fresh process decodes")
