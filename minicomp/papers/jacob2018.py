"""Quantization-aware training (Jacob et al. 2018, arXiv 1712.05877; Krishnamoorthi 2018, arXiv
1806.08342) on the CIFAR-10 batch: claims of shape.

No row of the papers is on our data. What they say, at the size of a depthwise separable net: 8-bit
training comes within a point or two of floats (Jacob, tables 4.3 and 4.4); at 8 bits and a scale
for each channel rounding alone comes near, at 4-bit weights only training does (Krishnamoorthi,
tables 2, 5 and 6).

The net is trained in floats, then on with fake quantization: activations join after a quarter,
ranges and batch norm stay in the last quarter; or it is rounded to the same grids, activations over
the ranges of 512 examples. A net trained on in floats for as long stands beside them, so that what
more epochs give is not taken for what quantization does. Errors are of the .mcz file, counted by a
fresh process.
"""

from __future__ import annotations

import numpy as np

from ..compress.finetune import FineTune
from ..compress.quant.qat import QAT
from ..compress.technique import Run
from ..models import for_data
from ..quality import Agreement, agreement
from ..timing import Clock
from .table import Paper, beside, file_errors, mean, percent

FLOAT = FineTune(epochs=20, lr=0.05, weight_decay=5e-4, shift=2, batch_size=128)
ON = {"epochs": 6, "lr": 0.01, "weight_decay": 5e-4, "shift": 2, "batch_size": 128}
SCHEDULE = {"delay": 0.25, "freeze": 0.75}
LOSS = {8: 1.0, 4: 3.0}  # points that a trained net may lose against floats
KINDS = [(8, "channel"), (8, "tensor"), (4, "channel"), (4, "tensor")]


def techniques(bits: int, per: str) -> dict[str, FineTune]:
    """Returns training and rounding to one grid: weights of so many bits, activations of 8."""
    return {"qat": QAT(bits=bits, per=per, **SCHEDULE).training(**ON),
            "rounded": QAT(bits=bits, per=per).training(epochs=0)}


def run(data, *, seeds, log, n_threads, out) -> list[dict]:
    """Returns a row for each width and kind of scale: trained and rounded beside floats."""
    errors: dict[tuple, list[int]] = {}
    sizes: dict[tuple, list[int]] = {}
    seconds: dict[tuple, float] = {}
    agreed: dict[tuple, list[Agreement]] = {}
    clock, given = Clock(), data.without_test()

    def note(key, model, seed, floats):
        path = out / f"depthwise32-{'-'.join(map(str, key))}-{seed}.mcz"
        size, wrong = file_errors(model, path, data.name)
        errors.setdefault(key, []).append(wrong)
        sizes.setdefault(key, []).append(size)
        agreed.setdefault(key, []).append(agreement(model, floats, data.test))
        seconds[key] = seconds.get(key, 0.0) + clock.lap()

    for seed in seeds:
        def made(technique, start, stream, seed=seed):
            rng = np.random.default_rng([seed, stream])
            return technique.apply(start, given, Run(rng, log, None, n_threads))

        net = for_data("depthwise32", data, rng=np.random.default_rng(seed))
        start = made(FLOAT, net, 0)
        floats = made(FineTune(**ON), start, 1)
        note(("float",), floats, seed, floats)
        for bits, per in KINDS:
            for word, technique in techniques(bits, per).items():
                note((word, bits, per), made(technique, start, 1), seed, floats)
    return [_row(bits, per, errors, sizes, seconds, agreed, len(data.test.y))
            for bits, per in KINDS]


def _row(bits: int, per: str, errors, sizes, seconds, agreed, n: int) -> dict:
    keys = [("qat", bits, per), ("rounded", bits, per), ("float",)]
    qat, rounded, floats = (100 * mean(errors[key]) / n for key in keys)
    said = [percent(errors[key], n) for key in keys]
    claim = "within 1 point of floats" if bits == 8 else "far better than rounding"
    met = qat <= floats + LOSS[bits] and (bits == 8 or qat < rounded)
    row = {"row": f"{bits}-bit weights, a scale a {per}, 8-bit activations",
            "paper": f"training: {claim} (of ImageNet)",
            "ours": f"trained {said[0]}, rounded {said[1]}, floats {said[2]}; file "
                    f"{mean(sizes[keys[0]]):,.0f} bytes",
            "met": bool(met), "seconds": sum(seconds[key] for key in keys),
            "errors": errors[keys[0]], "rounded": errors[keys[1]], "floats": errors[keys[2]],
            "file_bytes": sizes[keys[0]]}
    return beside(row, agreed[keys[0]])


PAPER = Paper("jacob2018", "Quantization-aware training: a depthwise net on the CIFAR-10 batch "
              "(Jacob et al. 2018, Krishnamoorthi 2018)", "cifar10", "7 minutes a seed", run,
              "claims of shape, no row of the papers is on our data; bytes are of a .mcz file "
              "that a fresh process decodes")
