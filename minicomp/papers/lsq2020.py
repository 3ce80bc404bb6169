"""Learned step size quantization (Esser et al. 2020, arXiv 1902.08153) on MNIST: claims of shape.

No row of the paper is on our data: its tables are of ImageNet. What they say, at the size of
LeNet5Classic: at 8, 4 and 3 bits a net trained with learnt steps is as good as in floats, at 2
little worse (table 1); learnt steps are better than others at equal bits (table 1); the gain
1 / sqrt(N Qp) of the step's gradient matters (table 3).

As in the paper the first and last layer have 8 bits, weights and activations of all others 2, 3, 4
or 8, and training begins with a net trained in floats. Beside LSQ stands fake quantization over the
range (`qat`), trained alike, and rounding to the same grids without training: steps of the paper's
start, ranges of 512 examples. At 2 bits a range over a whole tensor leaves next to no weight: all
below half the largest round to 0. Rates and epochs were chosen on the 5,000 validation images;
training sees images shifted by up to a pixel. Errors are of the .mcz file, counted by a fresh
process.
"""

from __future__ import annotations

import numpy as np

from ..compress.finetune import FineTune
from ..compress.quant.lsq import LSQ
from ..compress.quant.qat import QAT
from ..compress.technique import Run
from ..models import for_data
from ..quality import Agreement, agreement
from ..timing import Clock
from .table import Paper, beside, file_errors, mean, percent

FLOAT = FineTune(epochs=10, lr=0.02, weight_decay=1e-4, shift=1)
SHORT = {"epochs": 4, "lr": 0.01, "shift": 1}  # of the rows that are compared
LONG = SHORT | {"epochs": 20}                  # of the row with a goal
GOAL = 0.9  # percent, at 2 bits
LOSS = 0.15  # points that 8, 4 and 3 bits may lose: the noise of a seed


def wide(bits: int) -> dict[str, int]:
    """Returns bits by layer: 8 in the first and the last."""
    return {"*": bits, "conv1": 8, "fc3": 8}


def rows_of(bits: int) -> dict:
    """Returns the techniques that are compared at so many bits, with their training."""
    both = {"bits": wide(bits), "act_bits": wide(bits)}
    made = {"lsq": LSQ(**both).training(**SHORT)}
    if bits == 2:
        made["long"] = LSQ(**both).training(**LONG)
        made["plain"] = LSQ(**both, gain=False).training(**SHORT)
    if bits < 8:
        made["qat"] = QAT(**both, per="tensor").training(**SHORT)
        made["rounded"] = LSQ(**both).training(epochs=0)
    return made


def run(data, *, seeds, log, n_threads, out) -> list[dict]:
    """Returns rows: two bits with a goal, LSQ against bits, beside others, and without its gain."""
    errors: dict[tuple[str, int], list[int]] = {}
    sizes: dict[tuple[str, int], list[int]] = {}
    seconds: dict[tuple[str, int], float] = {}
    agreed: dict[tuple[str, int], list[Agreement]] = {}
    clock = Clock()

    def note(key, model, seed, start):
        path = out / f"lenet5classic-{key[0]}-{key[1]}-{seed}.mcz"
        size, wrong = file_errors(model, path, data.name)
        errors.setdefault(key, []).append(wrong)
        sizes.setdefault(key, []).append(size)
        agreed.setdefault(key, []).append(agreement(model, start, data.test))
        seconds[key] = seconds.get(key, 0.0) + clock.lap()

    given = data.without_test()
    for seed in seeds:
        net = for_data("lenet5classic", data, rng=np.random.default_rng(seed))
        start = FLOAT.apply(net, given, Run(np.random.default_rng([seed, 0]), log, None, n_threads))
        note(("float", 32), start, seed, start)
        for bits in (2, 3, 4, 8):
            for word, technique in rows_of(bits).items():
                rng = np.random.default_rng([seed, bits])
                made = technique.apply(start, given, Run(rng, log, None, n_threads))
                note((word, bits), made, seed, start)
    return table(errors, sizes, seconds, agreed, len(data.test.y))


def table(errors, sizes, seconds, agreed, n: int) -> list[dict]:
    """Returns the rows of counted errors, {(word, bits): a number a seed}, of n images.

    sizes, agreed : bytes of files, and how nets agree with the floats that they came from, by the
        same keys; a row has those of its first net
    """
    def said(word, bits):
        return percent(errors[word, bits], n)

    def rate(word, bits):
        return 100 * mean(errors[word, bits]) / n

    def row(title, paper, ours, met, *keys):
        found = {"row": title, "paper": paper, "ours": ours, "met": bool(met),
                 "seconds": sum(seconds[k] for k in keys)}
        found |= {f"errors {word} {bits}": errors[word, bits] for word, bits in keys}
        return beside(found | {"file_bytes": sizes[keys[0]]}, agreed[keys[0]])

    base = rate("float", 32)
    rows = [row("2-bit weights and activations, first and last layer 8", f"(ours: {GOAL} %)",
                f"{said('long', 2)}, floats {said('float', 32)}; file "
                f"{mean(sizes['long', 2]):,.0f} bytes", rate("long", 2) <= GOAL, ("long", 2),
                ("float", 32))]
    ladder = [rate("lsq", bits) for bits in (8, 4, 3, 2)]
    rows.append(row(
        "8, 4, 3, 2 bits: as good as floats down to 3", "no loss down to 3 bits (of ImageNet)",
        ", ".join(said("lsq", bits) for bits in (8, 4, 3, 2)) + f"; floats {said('float', 32)}",
        all(r <= base + LOSS for r in ladder[:3]) and ladder[3] == max(ladder),
        *[("lsq", bits) for bits in (8, 4, 3, 2)]))
    for bits in (4, 3, 2):
        rows.append(row(
            f"{bits} bits: learnt steps, ranges, rounding without training",
            "learnt steps are best (of ImageNet)",
            f"{said('lsq', bits)}, {said('qat', bits)}, {said('rounded', bits)}",
            rate("lsq", bits) < min(rate("qat", bits), rate("rounded", bits)),
            ("lsq", bits), ("qat", bits), ("rounded", bits)))
    rows.append(row(
        "2 bits: with the gain 1 / sqrt(N Qp), without", "3.4 points worse without (of ImageNet)",
        f"{said('lsq', 2)}, {said('plain', 2)}", rate("lsq", 2) < rate("plain", 2), ("lsq", 2),
        ("plain", 2)))
    return rows


PAPER = Paper("lsq2020", "Learned step size quantization: LeNet5Classic on MNIST (Esser et al. "
              "2020)", "mnist", "6 minutes a seed", run,
              "claims of shape, no row of the paper is on our data; bytes are of a .mcz file that "
              "a fresh process decodes")
