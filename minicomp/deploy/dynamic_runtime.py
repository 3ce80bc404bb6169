"""ON-DEVICE: products in integers between floats, with activations ranged at each call.

What a step `quantize` gives is codes and the grid that the batch at hand set. Moves hand both on; a
convolution or a linear layer multiplies codes, and its int32 sums become floats again, s_x s_w acc
+ bias; whatever else reads codes reads the numbers that they stand for. So the net's arithmetic is
that of its float program but for the products, which are exact.

The range is that of all examples of a call: another batch has another grid, as in the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from ..kernels.doors import geometry
from ..kernels.int8 import conv, gemm, pool
from ..kernels.int8.depthwise import depthwise, pack_depthwise
from ..kernels.int8.inputs import to_codes
from ..kernels.int8.outputs import to_floats
from ..kernels.layout import nchw, nhwc
from ..nn.graph import INPUT
from ..nn.layers import ActQuant
from ..tensor import Array
from .folded import FITS, codes_of, refuse
from .grids import IN_PLACE, MOST_BITS, SHIFT, Grid
from .integer import MOVES
from .runtime import Plan, shuffled
from .steps import Shape, Step, numbers_of


CLAMPS = {"relu": (0.0,), "relu6": (0.0, 6.0)}  # ends, by activation


class Codes(NamedTuple):
    """Codes, (N, C, H, W) or (N, D) uint8, and their grid."""

    codes: Array
    grid: Grid


def check_dynamic(steps: Iterable[Step], shapes: dict[str, Shape]) -> None:
    """Raises ValueError, which names the step, for a product that a dynamic program could not
    compute in integers.   shapes : of `steps.shapes_of`"""
    ranged = {INPUT: False}
    for step in steps:
        before = ranged[step.inputs[0]]
        ranged[step.name] = step.kind in MOVES and before
        if step.kind == "quantize":
            ranged[step.name] = True
            if not step.args["dynamic"] or step.args["bits"] > MOST_BITS:
                raise ValueError(f"{step.name}: an int8-dynamic program needs grids of at most "
                                 f"{MOST_BITS} bits that each batch sets (ptq of mode dynamic)")
        elif step.kind in ("conv", "linear"):
            if not before:
                raise ValueError(f"{step.name}: an int8-dynamic program needs a quantize step "
                                 "before it (ptq of mode dynamic)")
            q = codes_of(step)[0].reshape(shapes[step.name][0], -1).astype(np.int16)
            reach = 255 * (np.abs(q).sum(axis=1, dtype=np.int64)
                           + np.abs(q.sum(axis=1, dtype=np.int64)))
            refuse(step, reach >= FITS, "an accumulator that could reach {} overflows int32, in "
                   "channel {}", reach)


class DynamicPlan(Plan):
    """A plan whose products are of integers; arguments and errors of `Plan`."""

    def _plain(self, y):
        return super()._plain(y.grid.real(y.codes) if isinstance(y, Codes) else y)

    def _pools_at_once(self, step: Step, after: Step) -> bool:
        return False

    def _made(self, step: Step) -> Callable:
        if step.kind == "quantize":
            return _ranged(step, {"isa": self.isa, "n_threads": self.n_threads})
        if step.kind in ("conv", "linear"):
            self.layouts[step.name] = "int8"
            return self._product(step)
        run = super()._made(step)
        if step.kind in MOVES:
            move = _MOVES[step.kind](step.args, self.isa)
            return lambda x: Codes(move(x.codes), x.grid) if isinstance(x, Codes) else run(x)
        return lambda *xs: run(*[x.grid.real(x.codes) if isinstance(x, Codes) else x for x in xs])

    def _product(self, step: Step) -> Callable[[Codes], Array]:
        w, scale = codes_of(step)
        numbers = numbers_of({p: f for p, f in step.weights.items() if p != "weight"})
        scale = scale * numbers.get("gain", np.float32(1))
        sums = w.reshape(len(w), -1).sum(axis=1, dtype=np.int32)
        product = (self._maps if step.kind == "conv" else self._rows)(step, w)
        bias = numbers.get("bias", np.zeros_like(scale))
        how = {"isa": self.isa, "n_threads": self.n_threads}
        clamp = CLAMPS.get(step.then, ())
        activation = IN_PLACE[step.then] if step.then and not clamp else lambda y: y

        def run(x):
            acc = product(x, -x.grid.zero_point * sums)  # channels last
            y = activation(to_floats(acc, x.grid.scale * scale, bias, *clamp, **how))
            return nchw(y) if y.ndim == 4 else y

        return run

    # The product, channels last: a function of codes and offset.

    def _rows(self, step: Step, w: Array):
        packed, how = gemm.pack(w), {"isa": self.isa, "n_threads": self.n_threads}
        return lambda x, offset: gemm.gemm(x.codes, packed, offset, **how)

    def _maps(self, step: Step, w: Array):
        w, groups = np.ascontiguousarray(w.transpose(0, 2, 3, 1)), step.args["groups"]
        how = {k: step.args[k] for k in ("stride", "padding")}
        if w.shape[3] == 1 and len(w) == groups:
            each = pack_depthwise(w, np.zeros(groups, np.int32), None, isa=self.isa)
            return lambda x, offset: depthwise(
                nhwc(x.codes), each, offset=offset, zero_point=x.grid.zero_point,
                n_threads=self.n_threads, **how)
        packed, how = gemm.pack(w, groups=groups), how | {"isa": self.isa,
                                                          "n_threads": self.n_threads}
        return lambda x, offset: conv.conv(nhwc(x.codes), packed, offset,
                                           zero_point=x.grid.zero_point, **how)


def _ranged(step: Step, how: dict) -> Callable[[Array], Codes]:
    layer = ActQuant(**step.args)
    shift = 0 if layer.grid == "unsigned" else SHIFT

    def run(x):
        x = x.grid.real(x.codes) if isinstance(x, Codes) else x
        if np.isnan(x.max(initial=-np.inf)):
            x = np.where(np.isnan(x), np.float32(0), x)  # NaN has no code: it counts as 0
        scale, zero_point = layer.ranged(x)
        grid = Grid(scale, zero_point + shift, layer.lo + shift, layer.hi + shift, shift > 0)
        if x.ndim == 2:
            return Codes(to_codes(x, *grid.numbers(), **how), grid)
        lying = nhwc(x)  # its entries one after the other keep their order
        codes = to_codes(lying.reshape(len(x), -1), *grid.numbers(), **how)
        return Codes(nchw(codes.reshape(lying.shape)), grid)

    return run


def _max_pool(args: dict, isa: str) -> Callable[[Array], Array]:
    def run(q):
        where = geometry(q.shape[2:], args["kernel_size"], args["stride"], args["padding"],
                         args["ceil_mode"])
        return nchw(pool.max_pool(nhwc(q), kernel=where.kernel, stride=where.stride,
                                  padding=where.padding, count=where.count, isa=isa))
    return run


# Moves of codes, by kind: from arguments and a rung to what computes them.
_MOVES: dict[str, Callable[[dict, str], Callable[[Array], Array]]] = {
    "max_pool": _max_pool,
    "flatten": lambda args, isa: lambda q: q.reshape(len(q), -1),
    "shuffle": lambda args, isa: lambda q: shuffled(q, args["groups"]),
}
