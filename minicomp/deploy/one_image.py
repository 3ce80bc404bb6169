"""ON-DEVICE: a float program on one image, its kernels run in one go, from C.

On one image checks, allocations and calls from Python take longer than the work. Where each step
has a kernel here, a plan for one example keeps the calls with their arguments (kernels_pyx/
floats.pyx): weights packed once, every value at its place in one block of memory (arena.py). Maps
lie channels-last, (H, W, C). The numbers are those of the plan's steps up to the order of sums.
Zeros of linear layers are skipped (`choose.ONE_PASS`), those of convolutions multiplied: a pass of
dense convolutions wins over steps that skip.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence

import numpy as np

from ..kernels import cpu
from ..kernels.doors import geometry
from ..kernels.maps import conv, pool
from ..kernels.memory import aligned
from ..kernels.sparse.lanes import Lanes
from ..nn.graph import INPUT
from ..tensor import Array
from . import choose
from .arena import Value, planned
from .packing import dense_weight, gain_and_bias, windows
from .steps import Shape, Step

CLAMPS = {None: 0, "relu": 1, "relu6": 2}  # the number of each in simd/floats/row.h
NONE = CLAMPS[None]
LEAST = cpu.RUNGS.index("avx2")  # below it maps are convolved by im2col and BLAS


class OneImage:
    """Steps made ready for calls of one example; each thread has a block of its own.

    runs : groups of steps, each computed at once, a conv with the max_pool after it; all `fit`
    shapes : of every value, N left out        layouts : by name of step, how its weight is packed
    """

    def __init__(self, runs: Sequence[tuple[Step, ...]], shapes: dict[str, Shape],
                 layouts: dict[str, str], isa: str):
        self.runs, self.shapes, self.layouts = runs, shapes, layouts
        self.level, self.sparse_level = (cpu.resolve(isa, ladder) for ladder in ("maps", "sparse"))
        self._packed: dict[str, Array | Lanes] = {}  # weights, by step
        self._own = threading.local()
        last = {name: at for at, run in enumerate(runs) for name in (run[-1].name, *run[0].inputs)}
        last[runs[-1][-1].name] = len(runs)
        starts = [] if runs[0][0].kind == "scale" else [Value(INPUT, self._bytes(INPUT), 0,
                                                              last[INPUT])]
        self._arena = planned(starts + [
            Value(run[-1].name, self._bytes(run[-1].name), at, last[run[-1].name])
            for at, run in enumerate(runs)])

    def __call__(self, x: Array) -> Array:
        """Returns the output, (1, ...), an array of the caller's own.

        x : (1, *input_shape) float32, C-contiguous
        """
        if not hasattr(self._own, "calls"):
            self._own.calls, self._own.last = self._kept()
        self._own.calls.run(x.reshape(-1))
        return self._own.last.copy()

    def _kept(self):
        # The calls of a thread, and its view of the output.
        calls, block = cpu.kernel_module("floats").Calls(self.level), aligned(self._arena.size // 4)
        values = {name: block[at // 4: at // 4 + math.prod(self.shapes[name])]
                  for name, at in self._arena.offsets.items()}
        first = self.runs[0][0]
        if first.kind != "scale":
            calls.input(None, None, self.shapes[INPUT][0], values[INPUT], NONE)
        for run in self.runs:
            *_, step = run
            if step is first and step.kind == "scale":
                calls.input(*gain_and_bias(step), self.shapes[INPUT][0], values[step.name],
                            CLAMPS[step.then])
            else:
                _KEEP[run[0].kind](self, calls, run, [values[i] for i in run[0].inputs],
                                   values[step.name])
        return calls, self._seen(step.name, values[step.name])

    def _bytes(self, name: str) -> int:
        return 4 * math.prod(self.shapes[name])

    def _seen(self, name: str, y: Array) -> Array:
        shape = self.shapes[name]
        if len(shape) == 1:
            return y[None]
        return y.reshape(1, *shape[1:], shape[0]).transpose(0, 3, 1, 2)

    def _scale(self, calls, run, xs, y):
        calls.affine(xs[0], *gain_and_bias(run[0]), y, CLAMPS[run[0].then])

    def _linear(self, calls, run, xs, y):
        step, (gain, bias) = run[0], gain_and_bias(run[0])
        if self.layouts[step.name] != choose.DENSE:
            self._lanes(calls, step, gain, bias, xs[0], y)
            return
        if step.name not in self._packed:
            self._packed[step.name] = dense_weight(step, gain)
        calls.row(xs[0], self._packed[step.name], bias, y, CLAMPS[step.then])

    def _lanes(self, calls, step: Step, gain: Array | None, bias: Array | None, x, y):
        layout, then = self.layouts[step.name], CLAMPS[step.then]
        if step.name not in self._packed:
            self._packed[step.name] = choose.packed(step.weights["weight"], layout, gain)
        w = self._packed[step.name]
        scaled = gain is not None and layout in choose.OF_CODES  # else it is in the weights
        ends = not scaled and bias is None
        product = np.empty_like(y) if scaled else y
        calls.lanes(x, w.entry, w.value, w.table, w.base, w.start, w.row, product,
                    then if ends else NONE, self.sparse_level)
        if scaled:
            calls.affine(product, gain, np.zeros_like(gain) if bias is None else bias, y, then)
        elif bias is not None:
            calls.add(y, bias, y, then)

    def _conv(self, calls, run, xs, y):
        step, (gain, bias) = run[0], gain_and_bias(run[0])
        c, *size = self.shapes[step.inputs[0]]
        o, depthwise = self.shapes[step.name][0], step.args["groups"] > 1
        where = geometry(tuple(size), step.args["kernel_size"], step.args["stride"],
                         step.args["padding"])
        sizes = conv.sizes_of(where, c, o) if not depthwise else conv.depthwise_sizes(where, c)
        w, room = self._filters(step, gain, sizes, depthwise), conv.padded(sizes, 1)[0]
        if len(run) == 1:
            calls.conv(xs[0], w, bias, sizes, room, y, CLAMPS[step.then], depthwise)
            return
        pools = _pooling(run[1], where.count)
        calls.conv_pool(xs[0], w, bias, sizes, pool.sizes_of(pools, o), room,
                        aligned(math.prod(where.count) * o), np.empty(len(y), np.uint8), y,
                        CLAMPS[step.then])

    def _filters(self, step: Step, gain: Array | None, sizes, depthwise: bool) -> Array:
        if step.name not in self._packed:
            w = dense_weight(step, gain)
            if depthwise:
                self._packed[step.name] = conv.taps(w).reshape(-1)
            else:
                packed = aligned(w[0].size * conv.lanes(len(w)))
                cpu.kernel_module("floats").pack(w, sizes, packed, self.level)
                self._packed[step.name] = packed
        return self._packed[step.name]

    def _max_pool(self, calls, run, xs, y):
        c, *size = self.shapes[run[0].inputs[0]]
        calls.max_pool(xs[0], pool.sizes_of(_pooling(run[0], size), c), np.empty(len(y), np.uint8),
                       y, CLAMPS[run[0].then])

    def _avg_pool(self, calls, run, xs, y):
        c, *size = self.shapes[run[0].inputs[0]]
        calls.avg_pool(xs[0], pool.sizes_of(_pooling(run[0], size), c), y, CLAMPS[run[0].then])

    def _cells(self, calls, run, xs, y):
        c, *size = self.shapes[run[0].inputs[0]]
        cell = tuple(n // m for n, m in zip(size, self.shapes[run[0].name][1:]))
        where = geometry(tuple(size), cell, cell, (0, 0))
        calls.avg_pool(xs[0], pool.sizes_of(where, c), y, CLAMPS[run[0].then])

    def _flatten(self, calls, run, xs, y):
        shape = self.shapes[run[0].inputs[0]]
        calls.planes(xs[0], shape[0] if len(shape) == 3 else 1, y, CLAMPS[run[0].then])

    def _clamp(self, calls, run, xs, y):
        calls.planes(xs[0], 1, y, CLAMPS[run[0].kind])  # of one channel: as they lie

    def _add(self, calls, run, xs, y):
        for i, x in enumerate(xs[1:], start=2):
            calls.add(xs[0] if i == 2 else y, x, y, CLAMPS[run[0].then] if i == len(xs) else NONE)


_KEEP: dict[str, Callable] = {
    "scale": OneImage._scale,
    "linear": OneImage._linear,
    "conv": OneImage._conv,
    "max_pool": OneImage._max_pool,
    "avg_pool": OneImage._avg_pool,
    "adaptive_avg_pool": OneImage._cells,
    "flatten": OneImage._flatten,
    "add": OneImage._add,
    "relu": OneImage._clamp,
    "relu6": OneImage._clamp,
}


def fits(steps: Sequence[Step], shapes: dict[str, Shape], layouts: dict[str, str],
         isa: str) -> bool:
    """Whether `OneImage` has a kernel for each step of a program.

    layouts : by name of step, how a plan packs its weight
    """
    if cpu.kernel_module("floats") is None or cpu.resolve(isa, "maps") < LEAST:
        return False
    if not steps or steps[0].kind == "scale" and any(INPUT in step.inputs for step in steps[1:]):
        return False
    return all(_fits(step, shapes, layouts) for step in steps)


def _fits(step: Step, shapes: dict[str, Shape], layouts: dict[str, str]) -> bool:
    if step.kind not in _KEEP or step.then not in CLAMPS:
        return False
    before, after = shapes[step.inputs[0]], shapes[step.name]
    layout = layouts.get(step.name, choose.DENSE)
    if layout in choose.ONE_PASS:  # of linear layers alone
        return True
    if layout != choose.DENSE:
        return False
    if step.kind == "conv":
        return step.args["groups"] in (1, before[0]) and (
            step.args["groups"] == 1 or before[0] == after[0])
    if step.kind == "max_pool":
        return math.prod(step.args["kernel_size"]) <= 256
    if step.kind == "adaptive_avg_pool":
        return all(n % m == 0 for n, m in zip(before[1:], after[1:]))
    return step.kind != "add" or len(step.inputs) > 1


def _pooling(step: Step, size: Sequence[int]):
    args = windows(step)
    return pool.pooling(tuple(size), args["kernel"], args["stride"], args["padding"],
                        args["ceil_mode"])
