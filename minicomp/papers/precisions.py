"""Precisions of a program: bytes, milliseconds, errors, flips.

No paper prints this table; it answers the complaint that 8 bits are neither smaller nor faster, and
which precision gives what: floats, weights of 16 bits, weights of 8 bits, these with activations
that each call ranges anew, all in integers, and the last after quantization-aware training. Bytes
are of the program's .mcz file, errors those that a fresh process counts on it; milliseconds of one
image and of 64 are medians of calls in turn, one thread, of the first seed's programs.

Asked is: integers are smaller than floats by 2 at least, and faster by 2; trained and calibrated
integers are equally fast, since they are the same program with other numbers. Where onnxruntime is
installed it runs the same nets beside, as ONNX files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np

from ..bench.programs import PEERS, contestants, onnx_sessions
from ..bench.race import race
from ..compress.finetune import FineTune
from ..compress.quant.ptq import PTQ
from ..compress.quant.qat import QAT
from ..compress.technique import Run, Technique
from ..deploy import Program, lower
from ..kernels.threads import blas
from ..models import for_data
from ..nn.graph import Model
from ..quality import agreement, predicted
from ..tensor import Array
from ..timing import Clock
from .ptq8 import COMMON, NETS, found
from .table import Paper, file_errors, mean, percent

BATCHES = (1, 64)
# name: how its model is made of the float one, the precision of the program
MODES = {
    "float": (None, "float"),
    "float16 weights": (PTQ(mode="float16"), "float"),
    "weight-only": (PTQ(mode="weight-only"), "weight-only"),
    "int8-dynamic": (PTQ(mode="dynamic"), "int8-dynamic"),
    "int8": (PTQ(), "int8"),
    "int8, trained (QAT)": (None, "int8"),
}
QAT_NAME = "int8, trained (QAT)"
EQUALLY = 1.15  # by which times of one program may differ
FACTOR = 2.0


@dataclass(frozen=True)
class Net:
    """A net, its data, its training in floats and on with fake quantization; seeds : at most so
    many of those asked for."""

    title: str
    name: str
    data: str
    train: FineTune
    on: FineTune
    seeds: int = 99


def _on(epochs: int, **more) -> FineTune:
    return QAT(delay=0.25, freeze=0.75).training(epochs=epochs, lr=0.005, **{**COMMON, **more})


SMALL = tuple(Net(net.title, net.name, net.data, net.train, _on(2)) for net in NETS
              if (net.name, net.data) in (("lenet5", "mnist"), ("depthwise32", "fashion_mnist")))
LARGE = {"weight_decay": 5e-4, "shift": 2, "batch_size": 64}
CHOSEN = (*SMALL, Net("MobileNetV2-32", "mobilenetv2", "cifar10",
                      FineTune(epochs=8, lr=0.05, **LARGE), _on(1, **LARGE), seeds=1))


def run(data, *, seeds, log, n_threads, out) -> list[dict]:
    """Returns a row for each net and precision, and one that compares both integer programs.

    data : MNIST; a net whose data set is not here is left out, which is said
    """
    rows = []
    for net in CHOSEN:
        given = data if net.data == data.name else found(net.data, log, "precisions")
        if given is not None:
            rows += _rows(net, given, seeds[:net.seeds], log, n_threads, out)
    return rows


def _rows(net: Net, data, seeds: Sequence[int], log, n_threads: int, out) -> list[dict]:
    clock, kept, first = Clock(), {}, None
    for seed in seeds:
        models = _models(net, data, seed, log, n_threads)
        programs = {name: lower(models[name], precision=MODES[name][1]) for name in MODES}
        for name, program in programs.items():
            kind = "-".join(name.replace(",", "").split()[:2])
            path = out / f"{net.name}-{net.data}-{kind}-{seed}.mcz"
            size, errors = file_errors(program, path, data.name)
            flips = agreement(program, programs["float"], data.test).flips
            kept.setdefault(name, []).append((size, errors, flips))
        first = first or (models["float"], programs)
    sessions = onnx_sessions(first[0], first[1]["int8"]) if all(map(find_spec, PEERS)) else {}
    for name, session in sessions.items():
        kept[f"onnxruntime {name}"] = [_theirs(session, first[1]["float"], data)]
    times = [_times(first[1], sessions, data.test.x[:batch]) for batch in BATCHES]
    return _said(net, data, kept, times, clock.lap())


def _models(net: Net, data, seed: int, log, n_threads: int) -> dict[str, Model]:
    split = data.without_test()

    def made(technique: Technique, start: Model) -> Model:
        run = Run(np.random.default_rng([seed, 1]), log=log, n_threads=n_threads)
        return technique.apply(start, split, run).frozen()

    start = made(net.train, for_data(net.name, data, rng=np.random.default_rng(seed)))
    rounded = {name: made(ptq, start) for name, (ptq, _) in MODES.items() if ptq is not None}
    return {"float": start, **rounded, QAT_NAME: made(net.on, start)}


def _theirs(session, reference: Program, data) -> tuple[None, int, int]:
    # As of our files, of which there is none.
    flips = agreement(session, reference, data.test, batch_size=BATCHES[-1]).flips
    return None, int((predicted(session, data.test.x) != data.test.y).sum()), flips


def _times(programs: dict[str, Program], sessions: dict, x: Array) -> dict[str, float]:
    with blas(1):
        return race(contestants(programs, sessions, x))


def _said(net: Net, data, kept: dict, times: list[dict], seconds: float) -> list[dict]:
    n, was = len(data.test), kept["float"]
    rows = [_row(net, name, files, was, [(t[name], t["float"]) for t in times], n)
            for name, files in kept.items()]
    both = [t[QAT_NAME] / t["int8"] for t in times]
    rows.append({
        "row": f"{net.title}, {net.data}: trained beside calibrated integers",
        "paper": "the same program, equally fast",
        "ours": "times the milliseconds, {:.2f} of one image and {:.2f} of 64".format(*both),
        "met": all(1 / EQUALLY <= r <= EQUALLY for r in both), "ratios": both})
    return [row | {"seconds": seconds if i == 0 else 0.0} for i, row in enumerate(rows)]


def _row(net: Net, name: str, files: list[tuple], was: list[tuple],
         times: list[tuple[float, float]], n: int) -> dict:
    sizes, errors, flips = zip(*files)
    gains = [floats / ours for ours, floats in times]
    ms = " and ".join(f"{1e3 * ours:.3g} ms ({gain:.2f}x)"
                      for (ours, _), gain in zip(times, gains))
    flipped = f"{100 * mean(flips) / n:.2f} % flipped"
    said, met, asked = f"{ms}; {percent(errors, n)}, {flipped}", True, "shown"
    row = {"errors": list(errors), "flips": list(flips), "ms": [1e3 * t for t, _ in times]}
    if sizes[0] is not None:
        smaller = mean([s for s, *_ in was]) / mean(sizes)
        said = f"{mean(sizes):,.0f} bytes ({smaller:.2f}x); {said}"
        row["file_bytes"] = list(sizes)
    if name in ("int8", QAT_NAME):
        asked = f"{FACTOR:g}x smaller and {FACTOR:g}x faster than float"
        met = smaller >= FACTOR and min(gains) >= FACTOR
    return {"row": f"{net.title}, {net.data}, {name}", "paper": asked, "ours": said,
            "met": bool(met)} | row


PAPER = Paper("precisions", "Precisions of a program: float, 16 bits, weight-only, dynamic, int8, "
              "QAT", "mnist", "25 minutes, most of them for MobileNetV2, of the first seed alone",
              run,
              "bytes of the program's .mcz file; milliseconds of one image and of 64, one thread, "
              "and how many times faster than float")
