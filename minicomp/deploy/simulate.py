"""What an integer program should give, from the model: sums in float64, the named requantization.

The layers of the model compute on differences of codes and zero points, whole numbers in float64,
so that every sum is exact; where a grid stands, sums become codes by the rule (kernels/int8/
requantize.py) and activations and moves are applied to these. No instruction, kernel, layout or
buffer of the program is used: the two are equal to the bit, or one is wrong. Shared are the
references of the rule itself, how codes and grids are read, and the scale of a channel that is its
bias alone (folded.py, grids.py).

`compared` holds a program against ordinary fake quantization, the model itself, whose products and
sums are float32 and whose division by the scale is rounded once: given the same inputs, a step's
codes differ by at most one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..kernels.int8.requantize import requantize_ref, requantizer
from ..kernels.int8.wiring import add_ref, adder
from ..kernels.layout import nchw, nhwc
from ..nn.graph import INPUT, Model, Node
from ..nn.layers import ActQuant, Sign
from ..nn.layers.base import Layer
from ..nn.taps import fitting
from ..tensor import Array, Tensor, no_grad
from .folded import codes_of, scaled
from .grids import SHIFT, Grid, grid_of
from .integer import MOVES, codes_of_steps
from .lower import leading_to, step_of
from .steps import numbers_of


@dataclass(frozen=True)
class _Codes:
    codes: Array  # (N, C, H, W) or (N, D) uint8
    grid: Grid

    @property
    def steps(self) -> Tensor:
        """q - z, whole numbers in float64."""
        return Tensor(self.codes.astype(np.float64) - self.grid.zero_point)

    def on(self, grid: Grid) -> Array:
        return grid.codes(self.grid.real(self.codes))

    def behind(self, layer: Layer) -> _Codes:
        # Moves are of codes, activations of the numbers that they stand for.
        x = self.grid.real(self.codes) if layer.activation else self.codes.astype(np.float64)
        y = layer(Tensor(x)).data
        return replace(self, codes=self.grid.codes(y) if layer.activation else y.astype(np.uint8))

    def stays_on(self, layer: Layer) -> bool:
        return self.grid.holds(layer(Tensor(self.grid.real(self.codes))).data)


@dataclass(frozen=True)
class _Sums:
    # What a convolution or a linear layer gives: whole sums, (N, O, ...) float64, of which one is
    # s_x scale gain; its bias, in real units.
    sums: Array
    q: Array
    scale: Array
    s_x: np.float32
    gain: Array
    bias: Array

    def normalised(self, gain: Array, bias: Array) -> _Sums:
        # A batch norm behind it: rounded to float32 once, as the program keeps it.
        b = self.bias.astype(np.float64) * gain + bias
        return replace(self, gain=(self.gain.astype(np.float64) * gain).astype(np.float32),
                       bias=b.astype(np.float32))

    def accumulators(self) -> tuple[Array, Array]:
        """Returns int32 sums with the bias in them, and the float32 scales of the channels."""
        scale, constant = scaled(self.q, self.scale, self.gain, self.bias, self.s_x)
        bias = np.rint(self.bias.astype(np.float64) / (np.float64(self.s_x) * scale))
        at = (-1, *[1] * (self.sums.ndim - 2))
        total = np.where(constant.reshape(at), 0, self.sums) + bias.reshape(at)
        assert np.abs(total).max(initial=0) < 2**31 and (total == np.rint(total)).all()
        return total.astype(np.int32), scale


@dataclass(frozen=True)
class _Open:
    # A value before its grid: `on(grid)` gives its codes, to which the layers `behind` are then
    # applied. Without a grid it is its `sums`, int32.
    on: Callable[[Grid], Array]
    sums: Array | None = None
    behind: tuple = ()

    def codes(self, grid: Grid) -> _Codes:
        found = _Codes(self.on(grid), grid)
        for layer in self.behind:
            found = found.behind(layer)
        return found


def simulated(model: Model, x: Array, *, rounding: str = "single", zero_first: bool = False
              ) -> tuple[Array, dict[str, Array]]:
    """Returns what the integer program of a model should give: logits, (N, classes) int32, and
    codes by the names of the nodes ActQuant on which they depend, uint8 as stored in a program.

    model : quantized, that `lower` takes at precision int8        x : (N, *input_shape)
    rounding, zero_first : the rule, as of `lower`
    Raises ValueError where a value that a layer reads is on no grid.
    """
    rule = {"rounding": rounding, "zero_first": zero_first}
    values, found = {INPUT: np.asarray(x, np.float32)}, {}
    with no_grad():
        for node in leading_to(model.nodes, model.nodes[-1].name):
            y = _simulated(node, [values[name] for name in node.inputs], rule)
            values[node.name] = y
            if isinstance(node.layer, ActQuant):
                found[node.name] = y.codes
        return _integers(node, _opened(y, rule) if not isinstance(y, _Codes) else y), found


def _integers(node: Node, y: _Codes | _Open) -> Array:
    # The output: codes less their zero point, or sums, which may be flattened.
    if isinstance(y, _Codes):
        return y.codes.astype(np.int32) - y.grid.zero_point
    if y.sums is None or any(layer.step != "flatten" for layer in y.behind):
        raise ValueError(f"{node.name}: what ends an integer program needs a grid")
    return y.sums.reshape(len(y.sums), -1) if y.behind else y.sums


def _simulated(node: Node, xs: list, rule: dict):
    layer, x = node.layer, xs[0]
    if layer.step == "":
        return x
    if layer.step == "quantize":
        grid = grid_of(step_of(node, node.inputs))
        return _opened(x, rule).codes(grid)
    if layer.step == "scale":
        numbers = numbers_of(layer.lowered())
        if isinstance(x, _Sums):
            return x.normalised(numbers["gain"], numbers["bias"])
        at = (-1, *[1] * (x.ndim - 2))
        return x * numbers["gain"].reshape(at) + numbers["bias"].reshape(at)
    if layer.activation or layer.step in MOVES:
        if isinstance(x, _Codes) and (layer.step in MOVES or x.stays_on(layer)):
            return x.behind(layer)
        x = x.grid.real(x.codes) if isinstance(x, _Codes) else x
        if isinstance(x, np.ndarray):
            return layer(Tensor(x)).data
        value = _opened(x, rule)
        return replace(value, behind=(*value.behind, layer))
    if layer.step not in _RULES or not all(isinstance(x, _Codes) for x in xs):
        raise ValueError(f"{node.name}: it has no integer form, or what it reads is on no grid")
    return _RULES[layer.step](node, xs, rule)


def _opened(x, rule: dict) -> _Open:
    # A value as one that waits for its grid.
    if isinstance(x, _Open):
        return x
    if isinstance(x, _Codes):
        return _Open(x.on)
    if isinstance(x, _Sums):
        acc, scale = x.accumulators()
        return _Open(lambda grid: _rounded(acc, scale, x.s_x, grid, rule), acc)
    return _Open(lambda grid: grid.codes(x))  # floats: the input, or functions of codes


def _rounded(acc: Array, scale: Array, s_x: np.float32, grid: Grid, rule: dict) -> Array:
    # The codes of sums of which one is s_x scale, a number or (O,).
    with np.errstate(over="ignore", under="ignore"):
        factor = s_x * scale.astype(np.float32) / grid.scale
    m = np.float64(s_x) * scale.astype(np.float64) / np.float64(grid.scale)
    r = requantizer(m, zero_point=grid.zero_point, lo=grid.lo, hi=grid.hi, factor=factor, **rule)
    return nchw(requantize_ref(nhwc(acc), r)) if acc.ndim == 4 else requantize_ref(acc, r)


def _product(node: Node, xs: Sequence[_Codes], rule: dict) -> _Sums:
    (x,), step = xs, step_of(node, node.inputs)
    q, scale = codes_of(step)
    bias = numbers_of({p: f for p, f in step.weights.items() if p == "bias"})
    sums = node.layer(x.steps, weights={"weight": Tensor(q.astype(np.float64))}).data
    return _Sums(sums, q, scale, x.grid.scale, np.ones_like(scale),
                 bias.get("bias", np.zeros_like(scale)))


def _average(node: Node, xs: Sequence[_Codes], rule: dict) -> _Open:
    # The layer's mean is a sum over a share of the window, which is whole again when multiplied.
    (x,), layer = xs, node.layer
    y = layer(x.steps).data
    cell = (layer.kernel_size if layer.step == "avg_pool" else
            tuple(n // m for n, m in zip(x.codes.shape[2:], y.shape[2:])))
    acc = np.rint(y * math.prod(cell)).astype(np.int32)
    return _Open(lambda grid: _mean(acc, x.grid, grid, math.prod(cell), rule), acc)


def _mean(acc: Array, before: Grid, grid: Grid, n: int, rule: dict) -> Array:
    m = np.float64(before.scale) / n / np.float64(grid.scale)
    r = requantizer([m], zero_point=grid.zero_point, lo=grid.lo, hi=grid.hi, **rule)
    return requantize_ref(acc[..., None], r)[..., 0]


def _add(node: Node, xs: Sequence[_Codes], rule: dict) -> _Open:
    def on(grid):
        factors = [np.float64(x.grid.scale) / np.float64(grid.scale) for x in xs]
        return add_ref([x.codes for x in xs], adder(
            factors, [x.grid.zero_point for x in xs], zero_point=grid.zero_point, lo=grid.lo,
            hi=grid.hi, rounding=rule["rounding"]))

    return _Open(on)


def _concat(node: Node, xs: Sequence[_Codes], rule: dict) -> _Open:
    return _Open(lambda grid: np.concatenate([x.on(grid) for x in xs], axis=1))


_RULES = {"conv": _product, "linear": _product, "avg_pool": _average,
          "adaptive_avg_pool": _average, "add": _add, "concat": _concat}


# ---------------------------------------------------------------- beside ordinary fake quantization


@dataclass(frozen=True)
class Differs:
    """A grid's codes, or signs, the program's beside the model's given the same inputs.

    name : of the node ActQuant or Sign        of : the instruction that gives its codes or bits
    share : of these that differ        most : the largest difference
    """

    name: str
    of: str
    share: float
    most: int


@dataclass(frozen=True)
class Comparison:
    """grids : one Differs for each node ActQuant and Sign        flips : predictions of the whole
    net that differ        size : of how many"""

    grids: tuple[Differs, ...]
    flips: int
    size: int


def compared(model: Model, program, x: Array, *, batch_size: int = 500) -> Comparison:
    """Returns how the integer program of a model differs from its fake quantization.

    program : of the model, precision int8 or binary        x : (N, *input_shape), N at least 1
    batch_size : examples that go through at a time
    """
    batch_size = fitting(model, min(batch_size, len(x)))
    plans: dict[int, object] = {}
    totals: dict[str, list[int]] = {}
    flips = 0
    for start in range(0, len(x), batch_size):
        part = np.asarray(x[start: start + batch_size], np.float32)
        plan = plans.setdefault(len(part), program.plan(len(part)))
        codes = {name: plan.plain(name, y) for name, y in plan.walk(part)}
        for name, differ in _differing(model, program, part, codes):
            seen = totals.setdefault(name, [0, 0, 0])
            seen[0] += int(np.count_nonzero(differ))
            seen[1] += differ.size
            seen[2] = max(seen[2], int(differ.max(initial=0)))
        with no_grad():
            want = model(part).data.argmax(axis=1)
        flips += int(np.count_nonzero(plan(part).argmax(axis=1) != want))
    names = _names(model, program)
    grids = tuple(Differs(name, names[name], n / max(size, 1), most)
                  for name, (n, size, most) in totals.items())
    return Comparison(grids, flips, len(x))


def _names(model: Model, program) -> dict[str, str]:
    # By node ActQuant or Sign, the instruction whose codes or bits are its.
    bits = [i.name for i in program.instructions for _ in range(i.args.get("signs", 0))]
    signs = [node.name for node in model.nodes if isinstance(node.layer, Sign)] if bits else []
    return codes_of_steps(program.steps, program.instructions) | dict(zip(signs, bits))


def _differing(model: Model, program, x: Array, codes: dict[str, Array]):
    # Yields by ActQuant how far its codes are from the program's, which is what layers then read.
    names = _names(model, program)
    grids = {i.name: i.grid for i in program.instructions}
    values = {INPUT: Tensor(x)}
    with no_grad():
        for node in model.nodes:
            xs = [values[name] for name in node.inputs]
            y = node.layer(*xs)
            if node.name in names and isinstance(node.layer, Sign):
                signs = codes[names[node.name]]
                yield node.name, (y.data != signs).astype(np.uint8)
                y = Tensor(signs.astype(np.float32))
            elif node.name in names:
                of = names[node.name]
                shift = SHIFT if grids[of].signed else 0
                given = node.layer.codes(xs[0].data) + shift
                yield node.name, np.abs(given - codes[of])
                y = Tensor(grids[of].real(codes[of]))
            values[node.name] = y
