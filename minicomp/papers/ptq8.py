"""Eight bits without training: what post-training quantization of weights and activations costs.

No paper prints these rows; the claim is Krishnamoorthi's (2018, arXiv 1806.08342, section 3): with
8 bits, a grid each output channel for weights and calibrated grids for activations, the error stays
that of the float net, depthwise nets included. Asked is that it rises by at most `Net.floor`
points, on average over the seeds. Nets are quantized as they were trained, batch norm where it was.

The method that chooses the ranges of activations is the one of fewest validation errors over all
seeds, the earlier in `METHODS` of several; the others stand beside it. The interval is that of the
difference, paired by image. Errors are of .mcz files, counted by a fresh process. A second row each
has the file's bytes in every mode: what weights of 8 bits save they save in all of them, and grids
of activations cost next to nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .. import data as datasets
from ..codec import load
from ..compress.finetune import FineTune
from ..compress.quant.ptq import PTQ
from ..compress.technique import Run, Technique
from ..models import for_data
from ..nn.graph import Model
from ..quality import Agreement, agreement, predicted
from ..tensor import Array
from ..timing import Clock
from ..train import evaluate
from .table import Paper, beside, file_errors, mean, paired, percent

METHODS = ("min-max", "percentile", "kl", "mse")
OTHERS = ("dynamic", "weight-only", "float16")  # modes beside "full"


@dataclass(frozen=True)
class Net:
    """A net, its data and its training; floor : points by which the error may rise."""

    title: str
    name: str
    data: str
    train: FineTune
    floor: float


COMMON = {"weight_decay": 1e-4, "shift": 1}
NETS = (
    Net("LeNet-300-100", "lenet300", "mnist", FineTune(epochs=10, lr=0.05, **COMMON), 0.05),
    Net("LeNet-5", "lenet5", "mnist", FineTune(epochs=4, lr=0.02, **COMMON), 0.05),
    Net("DepthwiseNet32", "depthwise32", "fashion_mnist", FineTune(epochs=6, lr=0.05, **COMMON),
        0.3),
    Net("DepthwiseNet32", "depthwise32", "cifar10", FineTune(epochs=25, lr=0.05, **COMMON), 0.3),
)


def run(data, *, seeds, log, n_threads, out) -> list[dict]:
    """Returns two rows for each net: its error at 8 bits, and its bytes in every mode.

    data : MNIST; a net whose data set is not here is left out, which is said
    """
    rows = []
    for net in NETS:
        given = data if net.data == data.name else found(net.data, log, "ptq8")
        if given is not None:
            rows += _rows(net, given, seeds, log, n_threads, out)
    return rows


def found(name: str, log, table: str):
    """Returns the published data set, or None, which the table then says."""
    if any(row.name == name and row.state == "found" for row in datasets.available()):
        data = datasets.load(name)
        if data.original:
            return data
    log({"event": "say", "text": f"{table}: data {name} is not here, its rows are left out"})
    return None


def _rows(net: Net, data, seeds: Sequence[int], log, n_threads: int, out) -> list[dict]:
    clock, split = Clock(), data.without_test()
    kept: dict[str, list] = {name: [] for name in ("float", *METHODS, *OTHERS)}
    validation = dict.fromkeys(METHODS, 0)
    for seed in seeds:

        def made(technique: Technique, start: Model) -> Model:
            run = Run(np.random.default_rng([seed, 1]), log=log, n_threads=n_threads)
            return technique.apply(start, split, run).frozen()

        def keep(key: str, model: Model) -> None:
            path = out / f"{net.name}-{net.data}-{key}-{seed}.mcz"
            size, errors = file_errors(model, path, net.data)
            kept[key].append((size, errors, *outputs(path, start, data)))

        start = made(net.train, for_data(net.name, data, rng=np.random.default_rng(seed)))
        keep("float", start)
        for method in METHODS:
            model = made(PTQ(method=method), start)
            validation[method] += evaluate(model, data.val, n_threads=n_threads).errors
            keep(method, model)
        for mode in OTHERS:
            keep(mode, made(PTQ(mode=mode), start))
    chosen = min(METHODS, key=validation.__getitem__)
    seconds = clock.lap()
    return [_errors(net, kept, chosen, len(data.test), seconds),
            _bytes(net, kept, chosen, len(data.test))]


def outputs(path, start: Model, data) -> tuple[Agreement, Array]:
    """Returns how the net of a file agrees with `start` on the test images, and which of these it
    gets wrong, (N,) bool."""
    model = load(path, kind="model")
    return agreement(model, start, data.test), predicted(model, data.test.x) != data.test.y


def _errors(net: Net, kept: dict, chosen: str, n: int, seconds: float) -> dict:
    files = {key: kept[key] for key in ("float", *METHODS)}
    was = np.stack([w for *_, w in files["float"]])
    rise = {m: paired(np.stack([w for *_, w in files[m]]), was) for m in METHODS}
    value, low, high = rise[chosen]
    others = ", ".join(f"{m} {rise[m][0]:+.2f}" for m in METHODS)
    errors = {key: [e for _, e, *_ in each] for key, each in files.items()}
    row = {"row": f"{net.title}, {net.data}, 8 bits", "paper": f"rises by at most {net.floor:.2f}",
            "ours": f"{value:+.2f} points ({low:+.2f}..{high:+.2f}) by {chosen}: "
                    f"{percent(errors['float'], n)} to {percent(errors[chosen], n)}; {others}",
            "met": bool(value <= net.floor), "seconds": seconds, "chosen": chosen,
            "rise": {m: list(r) for m, r in rise.items()}, "errors": errors[chosen],
            "dense_errors": errors["float"], "by_method": errors,
            "file_bytes": [b for b, *_ in files[chosen]],
            "dense_file_bytes": [b for b, *_ in files["float"]]}
    return beside(row, [a for *_, a, _ in files[chosen]])


def _bytes(net: Net, kept: dict, chosen: str, n: int) -> dict:
    files = {"float": kept["float"], **{m: kept[m] for m in OTHERS[::-1]},
             "full": kept[chosen]}
    sizes = {key: mean([b for b, *_ in each]) for key, each in files.items()}
    said = "; ".join(f"{key} {size:,.0f} ({100 * mean([e for _, e, *_ in files[key]]) / n:.2f} %)"
                     for key, size in sizes.items())
    met = sizes["float"] > sizes["float16"] > 1.4 * sizes["weight-only"] and (
        sizes["full"] < 1.05 * sizes["weight-only"])
    return {"row": f"{net.title}, {net.data}, bytes by mode", "paper": "8 bits smaller than 16",
            "ours": said, "met": bool(met), "seconds": 0.0, "bytes": sizes,
            "errors_by_mode": {key: [e for _, e, *_ in each] for key, each in files.items()}}


PAPER = Paper("ptq8", "Post-training quantization to 8 bits (after Krishnamoorthi 2018)", "mnist",
              "5 minutes a seed", run,
              "points: of the error in percent, paired by image, with the 95 % interval; bytes are "
              "of .mcz files, in brackets their errors")
