"""Races of whole nets: integer programs beside our float32, and both beside onnxruntime; programs
of bits (binary.py) beside these.

Shapes decide the time, not training: weights are as drawn, and so are the images. onnxruntime gets
the same codes in both forms of file, QDQ and QOperator, and the faster one counts. What predictions
flip stands beside: an integer net that is fast and wrong would be of no use. `minicomp paper
precisions` has trained nets.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..compress.quant.ptq import PTQ
from ..compress.technique import Run
from ..data.dataset import Split
from ..deploy import Instruction, Program, Step, lower
from ..deploy.integer_runtime import IntegerPlan
from ..exchange.onnx_export import export
from ..models import MODELS
from ..nn.graph import Model
from ..quality import agreement
from . import binary
from .ort import Session
from .race import Log, Row, peer_module, race, row

Array = np.ndarray
NETS = {"lenet5": "LeNet-5", "depthwise32": "DepthwiseNet32", "mobilenetv2": "MobileNetV2-32"}
BATCHES = (1, 64)
IMAGES = 256  # of calibration, and of those whose predictions are compared
LEAST_MACS = 50_000  # of a layer that is raced by itself
FORMATS = ("qdq", "qoperator")
PEERS = ("onnxruntime", "onnx")


class Images:
    """Random pictures, as the `train` and `val` that calibration asks for."""

    def __init__(self, shape: tuple[int, ...], rng: np.random.Generator):
        self.train = self.val = Split(rng.normal(size=(IMAGES, *shape)).astype(np.float32),
                                      rng.integers(0, 10, IMAGES))


def whole_programs(peers: bool, log: Log) -> Iterator[Row]:
    """Yields programs of one image and of 64, and the layers of each by themselves."""
    onnx = all(peer_module(name, peers, log) is not None for name in PEERS)
    for name, title in NETS.items():
        rng = np.random.default_rng(0)
        model = MODELS[name](rng=rng)
        data = Images(model.input_shape, rng)
        programs = {"float": lower(model),
                    "int8": lower(PTQ().apply(model, data, Run(rng)), precision="int8")}
        sessions = onnx_sessions(model, programs["int8"]) if onnx else {}
        flips = f"flips {_flips(programs['int8'], programs['float'], data):.1f} %"
        if sessions:
            theirs = _flips(sessions["qdq"], sessions["float"], data)
            flips += f" of predictions, theirs {theirs:.1f} %"
        for batch in BATCHES:
            yield from _rows(title, batch, programs, sessions, data.train.x[:batch], flips)
        yield _layers(title, programs)
    for title, drawn in binary.NETS.items():
        yield from _binary(title, drawn(np.random.default_rng(0)), onnx)


def _binary(title: str, model: Model, onnx: bool) -> Iterator[Row]:
    # Programs of bits; onnxruntime races a net with convolutions.
    data = Images(model.input_shape, np.random.default_rng(0))
    conv = onnx and any(node.layer.kind == "Conv2d" for node in model.nodes)
    programs = binary.programs_of(model, data, integers=conv)
    sessions = onnx_sessions(model, programs["int8"]) if conv else {}
    of_weights = sum(cost.weight_bytes for cost in programs["binary"].profile().steps)
    for batch in BATCHES:
        times = race(contestants(programs, sessions, data.train.x[:batch]))
        if sessions:
            times["onnxruntime int8"] = fastest_integers(times)
        yield from binary.binary_rows(title, batch, times, of_weights)


def onnx_sessions(model: Model, integers: Program) -> dict[str, Session]:
    """Returns the float model and the integer program by onnxruntime: "float", and each of FORMATS.
    """
    sessions = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in ("float", *FORMATS):
            path = Path(folder, f"{name}.onnx")
            export(model if name == "float" else integers, path, name)
            sessions[name] = Session(path)
    return sessions


def contestants(programs: dict[str, Program], sessions: dict[str, Session],
                x: Array) -> dict[str, Callable[[], object]]:
    """Returns calls for the images x: of plans by their names, of sessions "onnxruntime NAME"."""
    plans = {name: program.plan(len(x)) for name, program in programs.items()}
    x = np.ascontiguousarray(x)
    return {**{name: lambda plan=plan: plan(x) for name, plan in plans.items()},
            **{f"onnxruntime {name}": s.bound(x) for name, s in sessions.items()}}


def fastest_integers(times: dict[str, float]) -> float:
    """Returns the seconds of onnxruntime's better form of an integer net."""
    return min(times[f"onnxruntime {name}"] for name in FORMATS)


def _flips(net, reference, data: Images) -> float:
    # Percent.
    found = agreement(net, reference, data.val)
    return 100 * found.flips / found.size


def _rows(title: str, batch: int, programs: dict, sessions: dict, x: Array,
          flips: str) -> Iterator[Row]:
    times = race(contestants(programs, sessions, x))
    shape = f"{batch} image{'s' if batch > 1 else ''}"
    ours = {"ours": times["int8"], "our float32": times["float"]}
    yield row(f"int8 program, {title}", shape, ours, "our float32", flips)
    if sessions:
        peer = {"ours": times["int8"], "onnxruntime int8": fastest_integers(times)}
        yield row(f"int8 program, {title}", shape, peer, "onnxruntime int8", flips)
        peer = {"ours": times["float"], "onnxruntime float32": times["onnxruntime float"]}
        yield row(f"float32 program, {title}", shape, peer, "onnxruntime float32")


def _layers(title: str, programs: dict[str, Program]) -> Row:
    # The layer that gains least.
    batch, rng, found = BATCHES[-1], np.random.default_rng(0), {}
    shapes = programs["float"].shapes()
    steps = {step.name: step for step in programs["float"].steps}
    ready = {i.name: i.shape for i in programs["int8"].instructions}
    for i in programs["int8"].instructions:
        step = _source(i, programs["int8"].steps, steps)
        if step is None or i.arrays["weight"].size * np.prod(i.shape[1:]) < LEAST_MACS:
            continue
        floats = Program([replace(step, inputs=("x",))], input_shape=shapes[step.inputs[0]])
        x = rng.normal(size=(batch, *floats.input_shape)).astype(np.float32)
        calls = {"ours": _alone(i, ready, batch, rng), "our float32": floats.plan(batch)}
        times = race({"ours": calls["ours"], "our float32": lambda c=calls: c["our float32"](x)},
                     part=0.25)
        found[step.name] = times
    ratios = {name: t["our float32"] / t["ours"] for name, t in found.items()}
    name = min(ratios, key=ratios.__getitem__)
    return row(f"int8 layers, {title}", f"{name}, {batch} images", found[name], "our float32",
               f"of {len(ratios)} layers of {LEAST_MACS:,} MACs and more the one that gains least; "
               f"median {np.median(list(ratios.values())):.2f}, most {max(ratios.values()):.2f}")


def _source(i: Instruction, steps: tuple[Step, ...], floats: dict[str, Step]) -> Step | None:
    # The conv or linear of the float program that an instruction, named after what ends it, began
    # with.
    if i.kind not in ("conv", "linear"):
        return None
    by_name = {step.name: step for step in steps}
    step = by_name[i.name]
    while step.kind not in ("conv", "linear"):
        step = by_name[step.inputs[0]]
    return floats[step.name]


def _alone(i: Instruction, shapes: dict, batch: int, rng: np.random.Generator) -> Callable:
    # An instruction on codes, by its entry.
    shape = shapes[i.inputs[0]]
    plan = IntegerPlan([replace(i, inputs=("x",))], shape, batch)
    x = rng.integers(0, 256, (batch, *shape[1:], shape[0])).astype(np.uint8)
    out = np.empty((batch, *i.shape[1:], i.shape[0]), np.int32 if i.grid is None else np.uint8)
    return lambda: plan.runs[0].call(x, out)
