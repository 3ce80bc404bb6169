"""OFFLINE: from the steps of a program to its instructions, in which activations are bits.

The steps are those of the float program of a binarized model, one after the other: a grid behind
the input, layers, batch norms, poolings by maximum, a sign behind every layer but the last.

| instruction              | is                                                                    |
|--------------------------|-----------------------------------------------------------------------|
| input                    | [scale] quantize: from floats to codes of 8 bits                      |
| conv, linear             | the first layer, codes times integers, or +1 and -1: int32 sums       |
| sign                     | bits of such sums, by thresholds                                      |
| xnor_conv, xnor_linear   | signs times signs: bits, by thresholds; of the last layer int32 sums  |
| planes                   | a last layer of signs times integers of 8 bits: int32 sums            |
| or_pool                  | the largest sign of a window, or the least                            |
| max_pool, flatten        | codes, bits as they are                                               |

A number y of the net is a float32 expression of a sum s, each operation rounded:

    y = ((float32(s) scale) gain + bias) [gain' + bias'] ...

scale is that of the weights, one for each filter, times that of the grid that the layer reads;
gain and bias are a batch norm; gain' and bias' one behind a pooling. All of it rises or falls with
s, roundings included, so that sign(y) is a comparison of s with an integer. That is found by
evaluating the expression itself between the least and the largest sum that there can be, halving
the interval; where both ends have one sign, the channel is constant. The closed formula, -bias /
(gain scale) rounded up, is off by one where y rounds to 0.

A maximum may be taken of signs as well as of sums: it is OR, or, where what stands behind the
pooling falls, AND. A convolution of signs sees 0 around the map, as the float net does.

Source: Umuroglu et al. 2017, arXiv 1612.07119, sections 4.2.2 and 4.2.3; Courbariaux et al. 2016,
arXiv 1602.02830
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from ..kernels.bits.pack import LEAST, Thresholds
from ..nn.forms import Affine, Binary
from ..nn.graph import INPUT
from ..tensor import Array, raw
from . import folded
from .folded import FITS, codes_of, refuse
from .grids import SIGNS, Grid, Signs, grid_of
from .integer import Instruction, windows
from .steps import Shape, Step, numbers_of

XNOR = ("xnor_conv", "xnor_linear", "planes")  # products of signs
PRODUCTS = ("conv", "linear", *XNOR)
OF_FLOATS = {  # steps that no program of bits computes, and why
    "input_scale": "the scales K of XNOR-Net are sizes of real numbers, of which a binary program "
                   "keeps the signs alone (xnor-net with inputs=signs has none)",
    "binary_sum": "a binary program has one sign an activation, and one a weight; the sums of "
                  "ABC-Net, bases times activations products of signs, are not lowered to bits",
}


def binary_instructions(steps: Iterable[Step], shapes: dict[str, Shape]) -> tuple[Instruction, ...]:
    """Returns what a binary program executes, in order; the last gives its logits as int32 sums.

    steps : of a program of a binarized model        shapes : of `steps.shapes_of`
    In `arrays`, beside those of an `Instruction`:
        products    weight (O, ...) int8; scale, gain, bias (O,) float32 of y; conv and linear:
                    offset (O,) int32, which the zero point makes
        xnor_*, sign  thresholds, where bits are given        or_pool  lowest (C,) bool
    In `args`: "signs", how many steps `sign` end in this value; "constant", how many channels of
    `thresholds` are.
    Raises ValueError, which names the step, for whatever has no such form.
    """
    made, steps = _Chain(shapes), tuple(steps)
    for step in steps:
        if step.kind in OF_FLOATS:
            raise ValueError(f"{step.name}: {OF_FLOATS[step.kind]}; lower the model at precision "
                             f"float, in which it is a step {step.kind}")
    for step in steps:
        made.take(step)
    return made.finished()


class _Chain:
    # made : instructions        read : the name of the value that comes next reads
    # layer : a product that has no sign yet, by the numbers of `affine`, and its moves, each with
    #     how many of these stood before it

    def __init__(self, shapes: dict[str, Shape]):
        self.shapes, self.made, self.read = shapes, [], INPUT
        self.before: Step | None = None  # a scale of the input
        self.layer: Instruction | None = None
        self.affine: list[tuple[Array, Array]] = []
        self.moves: list[tuple[Step, int]] = []

    def take(self, step: Step) -> None:
        if step.inputs != (self.read,):
            raise ValueError(f"{step.name}: the steps of a binary program follow one another, each "
                             "reads the one before")
        if step.kind not in _TAKES:
            raise ValueError(f"{step.name}: a {step.kind} has no form in a binary program, where "
                             "a sign stands behind every layer but the last")
        _TAKES[step.kind](self, step)
        self.read = step.name
        if step.then == "sign":
            self.signed(step)
        elif step.then is not None:
            raise ValueError(f"{step.name}: what stands behind a layer of a binary program must "
                             f"be a sign, got {step.then}")

    @property
    def grid(self) -> Grid | Signs | None:
        # Of the last value; None where there is none yet.
        return self.made[-1].grid if self.made else None

    def add(self, step: Step, kind: str, grid, args: dict, arrays: dict, shape=None,
            name=None) -> None:
        inputs = (self.made[-1].name if self.made else INPUT,)
        self.made.append(Instruction(name or step.name, kind, inputs, shape or
                                     self.shapes[step.name], grid, args, arrays))

    # ------------------------------------------------------------------------------ kinds of steps

    def scaled(self, step: Step) -> None:
        numbers = numbers_of(step.weights)
        if step.inputs == (INPUT,):
            self.before = step
        elif self.layer is None:
            raise ValueError(f"{step.name}: in a binary program a scale stands in front of the "
                             "first grid or of a sign")
        elif any(move.kind == "flatten" for move, _ in self.moves):
            raise ValueError(f"{step.name}: a scale behind a flatten is of more channels than the "
                             "layer has; put the sign before the flatten")
        else:
            self.affine.append(_finite(step, numbers["gain"], numbers["bias"]))

    def quantized(self, step: Step) -> None:
        if self.made or self.layer is not None:
            raise ValueError(f"{step.name}: a binary program has one grid, behind its input; "
                             "between layers stand signs")
        arrays = {} if self.before is None else numbers_of(self.before.weights)
        self.add(step, "input", grid_of(step), {}, arrays)

    def product(self, step: Step) -> None:
        if self.grid is None or self.layer is not None:
            what = self.layer.name if self.layer else "the input"
            raise ValueError(f"{what} is {'no sign' if self.layer else 'on no grid'}: in a binary "
                             f"program {step.name} must read signs, or the first layer codes of "
                             "the input (ptq behind bnn sets its grid)")
        numbers, ones = numbers_of({p: f for p, f in step.weights.items() if p != "weight"}), (
            np.ones(self.shapes[step.name][0], np.float32))
        affine = _finite(step, numbers.get("gain", ones), numbers.get("bias", 0 * ones))
        made = self.of_signs(step) if self.grid is SIGNS else self.of_codes(step)
        self.layer, self.affine, self.moves = made, [affine], []

    def of_codes(self, step: Step) -> Instruction:
        form = step.weights["weight"].freeze()
        q, scale = _signs(step) if isinstance(form, Binary) else codes_of(step)
        (above, below), grid = _sums_of(q), self.grid
        offset = -grid.zero_point * (above - below)
        most = 255 * (above + below) + np.abs(offset)
        refuse(step, most >= FITS, "an accumulator that could reach {} overflows int32, in channel "
               "{}", most)
        least, largest = grid.lo - grid.zero_point, grid.hi - grid.zero_point  # around 0
        lo, hi = above * least - below * largest, above * largest - below * least
        arrays = {"weight": q, "scale": _units(step, scale * grid.scale),
                  "offset": offset.astype(np.int32)}
        args = {k: step.args[k] for k in _OF_PRODUCT if k in step.args}
        return self.open(step, step.kind, args | {"zero_point": grid.zero_point}, arrays, lo, hi)

    def of_signs(self, step: Step) -> Instruction:
        if step.args.get("groups", 1) != 1:
            raise ValueError(f"{step.name}: a convolution of signs has one group, got "
                             f"{step.args['groups']}")
        form = step.weights["weight"].freeze()
        args = {k: step.args[k] for k in _OF_PRODUCT if k in step.args}
        if isinstance(form, Affine) and step.kind == "linear":
            kind, (q, scale) = "planes", codes_of(step)
        else:
            kind, (q, scale) = f"xnor_{step.kind}", _signs(step)
            if form.mask is not None:
                raise ValueError(f"{step.name}: a layer that reads signs has no weights of 0, got "
                                 "a mask")
        most = sum(_sums_of(q))
        return self.open(step, kind, args, {"weight": q, "scale": _units(step, scale)}, -most, most)

    def open(self, step: Step, kind: str, args: dict, arrays: dict, lo: Array,
             hi: Array) -> Instruction:
        return Instruction(step.name, kind, (self.made[-1].name,), self.shapes[step.name], None,
                           args | {"lo": lo, "hi": hi}, arrays)

    def moved(self, step: Step) -> None:
        if self.layer is not None:
            self.moves.append((step, len(self.affine)))
        elif self.grid is None:
            raise ValueError(f"{step.name}: the input of a binary program needs its grid before a "
                             f"{step.kind} (ptq)")
        else:
            self.move(step, np.zeros(self.made[-1].shape[0], bool))

    def move(self, step: Step, lowest: Array) -> None:
        args, arrays, kind = {}, {}, step.kind
        if kind == "max_pool":
            args = windows(step, self.shapes)
            if self.grid is SIGNS:
                kind, arrays = "or_pool", {"lowest": lowest}
        self.add(step, kind, self.grid, args, arrays)

    def signed(self, step: Step) -> None:
        if self.layer is None and self.grid is not SIGNS:
            raise ValueError(f"{step.name}: a sign stands behind a layer in a binary program")
        if self.layer is not None:
            self.closed()
        last = self.made[-1]  # of a sign of signs the value is the same
        self.made[-1] = replace(last, args=last.args | {"signs": last.args.get("signs", 0) + 1})

    # ----------------------------------------------------------------------------- ends of layers

    def closed(self) -> None:
        # The open layer, its sums as bits, its moves of these.
        layer, self.layer = self.layer, None
        if layer.kind == "planes":
            raise ValueError(f"{layer.name}: a layer between signs must have weights of one bit "
                             "(bnn, xnor-net), got integers; the first and the last may have these")
        lo, hi = layer.args.pop("lo"), layer.args.pop("hi")
        gain, bias = self.affine[0]
        found, constant = thresholds(
            [(layer.arrays["scale"], None), *self.affine], lo, hi, layer.name)
        rule, said = {"thresholds": found}, {"constant": int(constant.sum())}
        layer = replace(layer, arrays=layer.arrays | {"gain": gain, "bias": bias})
        if layer.kind in XNOR:
            self.made.append(replace(layer, grid=SIGNS, args=layer.args | said,
                                     arrays=layer.arrays | rule))
        else:
            taken = {*self.shapes}
            sums = f"{layer.name}.sums"
            while sums in taken:
                sums += "_"
            self.made += [replace(layer, name=sums),
                          Instruction(layer.name, "sign", (sums,), layer.shape, SIGNS, said, rule)]
        for step, stood in self.moves:
            falls = np.prod([np.sign(gain) for gain, _ in self.affine[stood:]], axis=0) < 0
            self.move(step, np.broadcast_to(falls, layer.shape[:1]).copy())

    def finished(self) -> tuple[Instruction, ...]:
        layer = self.layer
        if not any(i.grid is SIGNS for i in self.made):
            raise ValueError("a binary program needs a sign behind a layer (bnn), got none")
        if layer is None or self.moves or len(self.affine) > 1 or len(layer.shape) != 1:
            raise ValueError(f"{self.read}: a binary program must end in a linear layer, whose "
                             "sums become its logits")
        gain, bias = self.affine[0]
        args = {k: v for k, v in layer.args.items() if k not in ("lo", "hi")}
        self.made.append(replace(layer, args=args,
                                 arrays=layer.arrays | {"gain": gain, "bias": bias}))
        return tuple(self.made)


_TAKES = {"scale": _Chain.scaled, "quantize": _Chain.quantized, "conv": _Chain.product,
          "linear": _Chain.product, "max_pool": _Chain.moved, "flatten": _Chain.moved,
          "sign": _Chain.signed}
_OF_PRODUCT = ("kernel_size", "stride", "padding", "groups")


def number_of(s: Array, affine: Sequence[tuple[Array, Array | None]]) -> Array:
    """Returns y of sums, float32, each operation rounded.

    s : (..., O) integers        affine : factors and addends, (O,) float32 or None, in order
    """
    y = s.astype(np.float32)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        for factor, addend in affine:
            y = y * factor
            if addend is not None:
                y = y + addend
    return y


def thresholds(affine: Sequence[tuple[Array, Array | None]], lo: Array, hi: Array,
               name: str = "affine") -> tuple[Thresholds, Array]:
    """Returns the thresholds of sign(y), sign(0) = +1, and which channels are constant, (O,) bool.

    affine : of `number_of`        lo, hi : (O,) int64, the least and the largest sum of a channel
    A constant channel has a threshold that no sum, or every one, reaches.
    Raises ValueError, with `name`, where y is infinite or no number at an end.
    """
    lo, hi = lo.astype(np.int64), hi.astype(np.int64)
    ends = np.stack([number_of(lo, affine), number_of(hi, affine)])
    if not np.isfinite(ends).all():
        channel = int(np.argmin(np.isfinite(ends).all(axis=0)))
        raise ValueError(f"{name}: the scale, gain and bias of channel {channel} must give float32 "
                         f"numbers for sums of {lo[channel]} to {hi[channel]}, got "
                         f"{ends[0, channel]:.6g} and {ends[1, channel]:.6g}")
    first, last = ends >= 0
    below, constant = first & ~last, first == last
    # The sign of y is that of `lo` up to some sum, and that of `hi` from the next on.
    while (hi - lo > 1).any():
        middle = (lo + hi) // 2
        as_first = (number_of(middle, affine) >= 0) == first
        lo, hi = np.where(as_first, middle, lo), np.where(as_first, hi, middle)
    at = np.where(constant, LEAST, np.where(below, lo, hi)).astype(np.int32)
    return Thresholds(at, np.where(constant, ~first, below)), constant


def map_of(name: str, instructions: Iterable[Instruction]) -> Shape:
    """Returns the shape of a value before it was flattened."""
    by_name = {i.name: i for i in instructions}
    while by_name[name].kind == "flatten":
        (name,) = by_name[name].inputs
    return by_name[name].shape


def reach(i: Instruction) -> int:
    """Returns the largest magnitude that a sum of a product could come to."""
    if i.kind not in XNOR:
        return folded.reach(i.arrays)
    return int(sum(_sums_of(i.arrays["weight"])).max())


def _sums_of(q: Array) -> tuple[Array, Array]:
    # Of each row of integers, what is above 0 and what is below it, both at least 0, (O,) int64.
    rows = q.reshape(len(q), -1)
    above, below = (at(rows, 0).sum(axis=1, dtype=np.int64) for at in (np.maximum, np.minimum))
    return above, -below


def _signs(step: Step) -> tuple[Array, Array]:
    # The signs of a step's weight, +1 and -1, 0 where masked, int8, and scales, (O,) float32.
    form = step.weights["weight"].freeze()
    if not isinstance(form, Binary) or form.bases > 1:
        found = f"{form.bases} bases" if isinstance(form, Binary) else f"a form {form.kind}"
        raise ValueError(f"{step.name}: a layer of a binary program must have weights of one bit "
                         f"(bnn, binary-connect, xnor-net), got {found}")
    q = form.signs()[0].astype(np.int8)
    alpha = np.broadcast_to(raw(form.alpha)[:, 0].astype(np.float32), (len(q),))
    refuse(step, alpha == 0, "a scale alpha must not be 0, got {} in channel {}", alpha)
    return (q if form.mask is None else q * raw(form.mask)), alpha


def _units(step: Step, scale: Array) -> Array:
    scale = np.asarray(scale, np.float32)
    refuse(step, ~np.isfinite(scale), "scales must be finite, got {} in channel {}", scale)
    return scale


def _finite(step: Step, gain: Array, bias: Array) -> tuple[Array, Array]:
    for what, a in (("gains", gain), ("biases", bias)):
        refuse(step, ~np.isfinite(a), f"{what} must be finite, got {{}} in channel {{}}", a)
    return gain, bias
