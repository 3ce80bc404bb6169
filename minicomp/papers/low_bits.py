"""Weights of 2, 3, 4 bits, activations of 8, without training: what the choice of codes is worth.

No paper prints this row on our data; the claim is that of AdaRound (Nagel et al. 2020) and GPTQ
(Frantar et al. 2022): a net loses far less when weights are rounded for their layer's output than
when each goes to the nearest code. Here the error must rise by at most half of what it rises with
the nearest code at the scale of least squared error.

LeNet-300-100 and LeNet-5 on MNIST, DepthwiseNet32 on Fashion-MNIST, its batch norms folded. Every
layer has weights of so many bits, the first and the last too, a scale for each output channel;
activations lie on grids that calibration of the float net has set. The grid is the one of GRIDS
that serves nearest with least squared error best on validation data, for all columns. Biases stay
float32. Beside each rise stands the reconstruction error: the squared change of the logits over
their square, on the validation images. Where nearest itself costs less than TELLS points, half of
it is no more than a few images, and the row is judged by reconstruction error. Data, examples and
float net of a seed are the same for all columns.
"""

from __future__ import annotations

import time

import numpy as np

from .. import data as datasets
from ..compress.finetune import FineTune
from ..compress.quant.adaround import AdaRound
from ..compress.quant.fold_bn import FoldBN
from ..compress.quant.gptq import GPTQ
from ..compress.quant.ptq import PTQ
from ..compress.technique import Run
from ..errors import UserError
from ..kernels.threads import blas
from ..models import for_data
from ..nn.graph import Model
from ..tensor import Array
from ..quality import agreement, predicted
from ..timing import Clock
from ..train import evaluate
from .table import Paper, file_errors, mean, paired, percent

NETS = {
    "lenet300": ("mnist", FineTune(epochs=8, lr=0.05, batch_size=64, momentum=0.9)),
    "lenet5": ("mnist", FineTune(epochs=4, lr=0.02, batch_size=64, momentum=0.9)),
    "depthwise32": ("fashion_mnist", FineTune(epochs=5, lr=0.05, batch_size=64, momentum=0.9)),
}
BITS = (2, 3, 4)
GRIDS = ("narrow", "unsigned", "midrise")
ACTIVATIONS = PTQ(mode="activations", act_bits=8)
TELLS = 0.1     # points of error
FLOOR = 0.5     # of the rise, at the most; a quarter is wanted
LEAST = {"gptq": "GPTQ", "adaround": "AdaRound"}


def columns(bits: int, grid: str) -> dict[str, tuple]:
    """Returns the techniques of each column, one after the other."""
    def nearest(**how):
        return (PTQ(bits=bits, grid=grid, act_bits=8, **how),)

    return {"min-max": nearest(), "mse": nearest(clip="mse"),
            "corrected": nearest(clip="mse", correct="empirical"),
            "gptq": (ACTIVATIONS, GPTQ(bits=bits, grid=grid)),
            "adaround": (ACTIVATIONS, AdaRound(bits=bits, grid=grid))}


def reconstruction(model: Model, reference: Model, split) -> float:
    """Returns the squared change of the logits over their square, on a split."""
    off = total = 0.0
    for i in range(0, len(split.x), 500):
        z, a = (m(split.x[i:i + 500]).data.astype(np.float64) for m in (reference, model))
        off, total = off + np.square(a - z).sum(), total + np.square(z).sum()
    return float(off / total)


def wrong(model: Model, split) -> Array:
    """Returns which examples of a split the model gets wrong, (N,) bool."""
    return predicted(model, split.x) != split.y


def run(data, *, seeds, log, n_threads, out) -> list[dict]:
    """Returns a row for each net and number of bits, and one of seconds."""
    found: dict = {}
    for name, (label, how) in NETS.items():
        given = data if label == data.name else _other(label)
        for seed in seeds:
            clock = Clock()
            start = _start(name, how, given, seed, log, n_threads)
            net = {"float": wrong(start, given.test)}
            for bits in BITS:
                cell = _cell(start, given, seed, bits, name, out, log)
                found.setdefault((name, bits), []).append(
                    cell | net | {"seconds": clock.lap()})
    rows = [_row(name, bits, cells) for (name, bits), cells in found.items()]
    return rows + [_seconds(found)]


def _other(label: str):
    data = datasets.load(label)
    if not data.original:
        raise UserError(f"table low-bits needs the published data set {label}, got: {data.note}")
    return data


def _start(name, how, data, seed, log, n_threads) -> Model:
    run = Run(np.random.default_rng(seed), log=log, n_threads=n_threads)
    model = how.apply(for_data(name, data, rng=np.random.default_rng(seed)), data.without_test(),
                      run)
    return FoldBN().apply(model, None, run) if name == "depthwise32" else model


def _cell(start: Model, data, seed, bits, name, out, log) -> dict:
    # Of one seed: the grid, and of each column errors, file bytes, reconstruction error, seconds.
    def made(techniques):
        model, began = start, time.process_time()
        with blas(1):
            for technique in techniques:
                run = Run(np.random.default_rng(seed), log=log)
                model = technique.apply(model, data.without_test(), run).frozen()
        return model, time.process_time() - began

    tried = {grid: evaluate(made(columns(bits, grid)["mse"])[0], data.val).errors for grid in GRIDS}
    grid = min(tried, key=lambda name: tried[name])
    cell: dict = {"grid": grid, "images": len(data.test)}
    for column, techniques in columns(bits, grid).items():
        model, seconds = made(techniques)
        size, errors = file_errors(model, out / f"{name}-{bits}-{column}-{seed}.mcz", data.name)
        cell[column] = {"errors": errors, "bytes": size, "taken": seconds,
                        "wrong": wrong(model, data.test),
                        "agreement": agreement(model, start, data.test),
                        "reconstruction": reconstruction(model, start, data.val)}
        log({"event": "say", "text": f"{name}, {bits} bits, {grid}, {column}: "
                                     f"{100 * errors / len(data.test):.2f} %, reconstruction error "
                                     f"{cell[column]['reconstruction']:.4f}, {seconds:.1f} s"})
    return cell


def _row(name: str, bits: int, cells: list[dict]) -> dict:
    images, was = cells[0]["images"], np.stack([cell["float"] for cell in cells])
    said, shares, errors, rises = [], {}, {}, {}
    for column in columns(bits, "midrise"):
        part = [cell[column] for cell in cells]
        rise, low, high = paired(np.stack([p["wrong"] for p in part]), was)
        rises[column], errors[column] = rise, mean([p["reconstruction"] for p in part])
        said.append(f"{column} {rise:+.2f} ({low:+.2f}..{high:+.2f}) [{errors[column]:.2g}]")
    told = rises["mse"] >= TELLS
    of = rises if told else errors
    shares = {c: of[c] / of["mse"] for c in LEAST}
    grids = ", ".join(dict.fromkeys(cell["grid"] for cell in cells))
    ours = (f"float {percent([int(w.sum()) for w in was], images)}; {'; '.join(said)}; of mse's "
            f"{'rise' if told else '[reconstruction error]'} "
            + ", ".join(f"{LEAST[c]} {share:.2f}" for c, share in shares.items()))
    agreed = {c: [cell[c]["agreement"] for cell in cells] for c in rises}
    flips = {c: [a.flips / a.size for a in found] for c, found in agreed.items()}
    ours += "; flipped: " + ", ".join(f"{c} {100 * mean(flips[c]):.2f} %" for c in flips)
    return {"row": f"{name}, {bits} bits ({grids}): rise of the error",
            "paper": f"at most {FLOOR} of mse's", "ours": ours,
            "met": bool(max(shares.values()) <= FLOOR),
            "seconds": sum(cell["seconds"] for cell in cells), "shares": shares, "rises": rises,
            "reconstruction": errors, "flips": flips,
            "kl": {c: [a.kl for a in found] for c, found in agreed.items()},
            "errors": {c: [cell[c]["errors"] for cell in cells] for c in rises},
            "file_bytes": {c: [cell[c]["bytes"] for cell in cells] for c in rises}}


def _seconds(found: dict) -> dict:
    taken = {c: [cell[c]["taken"] for (name, _), cells in found.items() if name == "lenet5"
                 for cell in cells] for c in LEAST}
    worst = {c: max(seconds) for c, seconds in taken.items()}
    return {"row": "processor seconds for LeNet-5, one thread, activations included",
            "paper": "under 60 each, 15 wanted",
            "ours": ", ".join(f"{LEAST[c]} {mean(taken[c]):.1f} (at most {worst[c]:.1f})"
                              for c in LEAST),
            "met": max(worst.values()) < 60, "seconds": 0.0, "taken": taken}


PAPER = Paper("low-bits", "2-, 3- and 4-bit weights, 8-bit activations, without training", "mnist",
              "8 minutes a seed", run,
              "columns: points of the error against the float net, paired by image, with the 95 % "
              "interval; [reconstruction error of the logits on the validation images]; bytes and "
              "errors are of .mcz files that a fresh process decodes")
