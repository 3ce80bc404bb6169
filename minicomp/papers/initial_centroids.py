"""Where centroids start (Han, Mao & Dally 2016, arXiv 1510.00149, section 3.2 and its figure of
initialisation methods): linear, by density, at random.

The figure is of AlexNet after retraining, at 2 to 8 bits a weight: linear is ahead, for few weights
are large, large ones matter, and density and random spend hardly a centroid on them. Ours are
LeNet-300-100 and LeNet-5 on MNIST, 90 % of whose weights have been pruned and the others trained
on, at 2, 3 and 4 bits in all layers, code 0 being the pruned 0. Errors are counted as the centroids
are found, and again, of a .mcz file, after they have been trained; by Adam, whose steps do not
depend on how many weights a centroid sums its gradient over.

Further columns: linear dealt to both signs by their numbers (E7 of our list of techniques),
k-means++, and the partition of least squared error. Beside each error stands the squared error
over that of the last. No knob is searched; a row is met where linear errs no more than density and
random after training.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..compress.finetune import FineTune
from ..compress.prune.magnitude import Magnitude
from ..compress.share.kmeans import KMeans
from ..compress.technique import Run, weights
from ..models import for_data
from ..nn.graph import Model
from ..timing import Clock
from ..train import evaluate
from .table import Paper, file_errors, mean

SGD = {"batch_size": 64, "momentum": 0.9}
# net: its title, how it is trained, how after pruning, how after sharing
NETS = {
    "lenet300": ("LeNet-300-100", FineTune(epochs=8, lr=0.05, **SGD),
                 FineTune(epochs=4, lr=0.02, **SGD),
                 FineTune(epochs=2, optimizer="adam", lr=1e-3, batch_size=64)),
    "lenet5": ("LeNet-5", FineTune(epochs=4, lr=0.02, **SGD),
               FineTune(epochs=2, lr=0.01, **SGD),
               FineTune(epochs=1, optimizer="adam", lr=1e-3, batch_size=64)),
}
BITS = (2, 3, 4)
PRUNED = Magnitude(sparsity=0.9)
PAPERS_OWN = ("linear", "density", "random")
COLUMNS = {**{init: {"init": init} for init in PAPERS_OWN},
           "linear by sign": {"init": "linear", "signs": True},
           "k-means++": {"init": "k-means++"}, "optimal": {"init": "optimal"}}


def off(model: Model, reference: Model) -> float:
    """Returns the squared error of the weights, summed over layers."""
    forms, others = model.forms(), reference.forms()
    return float(sum(np.square((forms[name].dense().data - others[name].dense().data
                                ).astype(np.float64)).sum() for name in weights(model).values()))


def run(data, *, seeds, log, n_threads, out) -> list[dict]:
    """Returns a row for each net and number of bits."""
    found: dict = {}
    for name in NETS:
        for seed in seeds:
            for bits, cell in _cells(name, data, seed, log, n_threads, out):
                found.setdefault((name, bits), []).append(cell)
    return [_row(*key, cells, len(data.test)) for key, cells in found.items()]


def _cells(name: str, data, seed: int, log, n_threads, out) -> Iterator[tuple[int, dict]]:
    # (bits, what came of one seed); every column starts at the same net, and the same draws
    _, training, pruning, after = NETS[name]
    init, rng = np.random.default_rng(seed).spawn(2)
    given, clock = data.without_test(), Clock()

    def made(technique, model, rng=None):
        rng = rng or np.random.default_rng(seed)
        return technique.apply(model, given, Run(rng, log, None, n_threads)).frozen()

    start = made(training, for_data(name, data, rng=init), rng)
    start = made(pruning, made(PRUNED, start), rng)
    for bits in BITS:
        cell: dict = {}
        for column, how in COLUMNS.items():
            shared = made(KMeans(bits=bits, **how), start)
            path = out / f"centroids-{name}-{bits}-{column.replace(' ', '-')}-{seed}.mcz"
            size, errors = file_errors(made(after, shared), path, data.name)
            cell[column] = {"off": off(shared, start), "errors": errors, "bytes": size,
                            "before": evaluate(shared, data.test).errors}
            log({"event": "say", "text": f"{name}, {bits} bits, {column}: "
                                         f"{cell[column]['before']} errors, {errors} trained"})
        yield bits, cell | {"seconds": clock.lap()}


def _row(name: str, bits: int, cells: list[dict], images: int) -> dict:
    def of(column, key):
        return mean([cell[column][key] for cell in cells])

    said = [f"{column} {100 * of(column, 'before') / images:.2f} to "
            f"{100 * of(column, 'errors') / images:.2f} % "
            f"[{of(column, 'off') / of('optimal', 'off'):.2f}]" for column in COLUMNS]
    errors = {column: [cell[column]["errors"] for cell in cells] for column in COLUMNS}
    return {"row": f"{NETS[name][0]}, 90 % pruned, {bits} bits: error before and after training",
            "paper": "linear ahead of density and random, trained", "ours": "; ".join(said),
            "met": all(of("linear", "errors") <= of(c, "errors") for c in PAPERS_OWN),
            "seconds": sum(cell["seconds"] for cell in cells), "errors": errors,
            "before": {c: [cell[c]["before"] for cell in cells] for c in COLUMNS},
            "file_bytes": {c: [cell[c]["bytes"] for cell in cells] for c in COLUMNS}}


PAPER = Paper("initial-centroids", "Where centroids start (Han et al. 2016)", "mnist",
              "6 minutes a seed", run,
              "in brackets the squared error of the weights over the least there is; the paper's "
              "figure is of AlexNet")
