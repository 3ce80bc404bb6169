"""Movement pruning against magnitude on a changed task (Sanh, Wolf, Rush 2020, arXiv 2005.07683).

The paper fine-tunes BERT to tasks of language; at high sparsity movement pruning is better there
than magnitude pruning under the same schedule. Its tables are of BERT, and none of their numbers
stands here: what is asked is the claim, of LeNet-300-100 that learned MNIST and is fine-tuned to
Fashion-MNIST while it is pruned. Magnitude is `gradual`, its ramp along the same cubic and to the
same step; both rank all layers together. Errors are of the .mcz file on Fashion-MNIST's test
images, counted by a fresh process.

BERT's weights hardly move while it is fine-tuned. Two rows are set so, by a small learning rate,
the same for both; how far the kept weights went is said beside the errors. A small net can also
learn the second task as if from the start: in the last row either method has the learning rate that
is best for it. Warm-up and those learning rates were chosen on validation data.
"""

from __future__ import annotations

import numpy as np

from .. import data as datasets
from ..compress.finetune import FineTune
from ..compress.prune.gradual import Gradual
from ..compress.prune.movement import Movement
from ..compress.technique import Run, Technique, weights
from ..errors import UserError
from ..models import for_data, renormalized
from ..nn.graph import Model
from ..timing import Clock
from .table import Paper, file_errors, mean, percent

SECOND = "fashion_mnist"
FIRST = FineTune(epochs=6, lr=0.05, batch_size=64)
TUNING = {"epochs": 4, "batch_size": 128}
NEAR = {"movement": 0.001, "gradual": 0.001}  # learning rates at which weights hardly move
BEST = {"movement": 0.03, "gradual": 0.14}
ROWS = {  # title -> sparsity, learning rates
    "to Fashion-MNIST, 95 % zeros, weights hardly move": (0.95, NEAR),
    "to Fashion-MNIST, 97 % zeros, weights hardly move": (0.97, NEAR),
    "to Fashion-MNIST, 97 % zeros, each at its best learning rate": (0.97, BEST),
}


def techniques(sparsity: float, lr: dict[str, float]) -> list[Technique]:
    """Returns movement and magnitude pruning, under one schedule."""
    same = {"sparsity": sparsity, "scope": "global"}
    pair = Movement(warmup=0.3, cooldown=0.3, **same), Gradual(ramp=0.7, **same)
    return [method.training(lr=lr[method.word], **TUNING) for method in pair]


def run(data, *, seeds, log, n_threads, out) -> list[dict]:
    """Returns a row for each sparsity and learning rate: movement's error beside magnitude's.

    data : the first task
    """
    second = datasets.load(SECOND)
    if not second.original:
        raise UserError(f"table movement2020 needs the published data set {SECOND}, got: "
                        f"{second.note}")
    clock, starts = Clock(), {}

    def tuned(technique: Technique, model: Model, given, seed: int) -> Model:
        run = Run(np.random.default_rng([seed, 1]), log=log, n_threads=n_threads)
        return technique.apply(model, given.without_test(), run)

    for seed in seeds:
        net = for_data("lenet300", data, rng=np.random.default_rng(seed))
        starts[seed] = renormalized(tuned(FIRST, net, data, seed), second.normalize)
    rows = []
    for number, (title, (sparsity, lr)) in enumerate(ROWS.items()):
        files: dict[str, list[tuple[int, int]]] = {"movement": [], "gradual": []}
        way: dict[str, list[float]] = {"movement": [], "gradual": []}
        for seed, start in starts.items():
            for technique in techniques(sparsity, lr):
                made = tuned(technique, start, second, seed)
                path = out / f"lenet300-{technique.name}-{number}-{seed}.mcz"
                files[technique.name].append(file_errors(made, path, SECOND))
                way[technique.name].append(moved(start, made))
        rows.append(_row(title, files, way, len(second.test), clock.lap()))
    return rows


def moved(start: Model, made: Model) -> float:
    """Returns |w - w0| / |w0| over the weights that are kept, w0 those of the start."""
    names = weights(made).values()
    pairs = [(start.forms()[name].dense().data, made.forms()[name]) for name in names]
    w0 = np.concatenate([a[form.mask] for a, form in pairs]).astype(np.float64)
    w = np.concatenate([form.dense().data[form.mask] for _, form in pairs])
    return float(np.linalg.norm(w - w0) / np.linalg.norm(w0))


def _row(title: str, files: dict[str, list[tuple[int, int]]], way: dict[str, list[float]], n: int,
         seconds: float) -> dict:
    errors = {word: [e for _, e in each] for word, each in files.items()}
    sizes = {word: [b for b, _ in each] for word, each in files.items()}
    return {"row": title, "paper": "movement below magnitude (of BERT)",
            "ours": f"{percent(errors['movement'], n)}, magnitude {percent(errors['gradual'], n)}; "
                    f"file {mean(sizes['movement']):,.0f} bytes, {mean(sizes['gradual']):,.0f}; "
                    f"moved by {mean(way['movement']):.2f}, {mean(way['gradual']):.2f}",
            "met": bool(mean(errors["movement"]) < mean(errors["gradual"])), "seconds": seconds,
            "errors": errors["movement"], "magnitude": errors["gradual"],
            "file_bytes": sizes["movement"], "magnitude_bytes": sizes["gradual"],
            "moved": way["movement"], "magnitude_moved": way["gradual"]}


PAPER = Paper("movement2020", "Movement pruning: LeNet-300-100 from MNIST to Fashion-MNIST "
              "(Sanh et al. 2020)", "mnist", "1 minute a seed", run,
              "errors on Fashion-MNIST; bytes are of a .mcz file that a fresh process decodes; "
              "moved: |w - w0| / |w0| of kept weights")
