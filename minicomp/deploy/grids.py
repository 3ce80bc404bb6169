"""The grids of an integer program: codes 0..255, the numbers that they stand for, what clamps them.

    real = scale (code - zero_point)

A grid that goes below 0, "full" or "narrow", is stored shifted by 128, its zero point too: kernels
read unsigned bytes alone, and differences, which are all that counts, stay what they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..grid import binarize, code_range, dequantize
from ..kernels.int8.inputs import codes_of
from ..ops import sigmoid
from ..tensor import Array
from .steps import Step, numbers_of

MOST_BITS = 8
SHIFT = 128  # of a signed grid's codes
CODES = np.arange(256, dtype=np.uint8)
# By activation: may write to its argument; returns the result.
IN_PLACE = {
    "relu": lambda y: np.maximum(y, 0, out=y),
    "relu6": lambda y: np.clip(y, 0, 6, out=y),
    "sigmoid": sigmoid.fn,
    "tanh": lambda y: np.tanh(y, out=y),
    "sign": binarize,
}
CEILINGS = {"relu": None, "relu6": np.float32(6)}  # of the activations that are clamps


@dataclass(frozen=True)
class Grid:
    """Codes lo..hi, within 0..255, and what they stand for.

    scale : real units a step        zero_point : the code of 0
    signed : whether a file's code is q - 128
    """

    scale: np.float32
    zero_point: int
    lo: int
    hi: int
    signed: bool

    def real(self, codes: Array) -> Array:
        """Returns the numbers that codes stand for, float32."""
        return dequantize(codes, self.scale, self.zero_point)

    def codes(self, x: Array) -> Array:
        """Returns the codes of numbers, uint8 of x's shape.   x : float32, no NaN

        float32 division, half to even: what `grid.quantize` computes.
        """
        return codes_of(x, *self.numbers())

    def numbers(self) -> tuple[np.float32, int, int, int]:
        """Returns the scale, the zero point, and both ends, as kernels take them."""
        return self.scale, self.zero_point, self.lo, self.hi

    def holds(self, x: Array) -> bool:
        """Whether all numbers lie on the grid exactly."""
        return bool((self.real(self.codes(x)) == x).all())


@dataclass(frozen=True)
class Signs:
    """What bits stand for: +1 and -1. In the place of a grid it says that a value is of bits."""


SIGNS = Signs()


def grid_of(step: Step) -> Grid:
    """Returns the grid of a step `quantize`; ValueError for one that bytes do not hold."""
    args = step.args
    if args["dynamic"]:
        raise ValueError(f"{step.name}: a grid that each batch sets anew cannot be part of an "
                         "integer program; calibrate it (ptq of mode full)")
    if args["bits"] > MOST_BITS:
        raise ValueError(f"{step.name}: an integer program needs grids of at most {MOST_BITS} "
                         f"bits, got {args['bits']}")
    lo, hi = code_range(args["bits"], args["grid"])
    shift = 0 if args["grid"] == "unsigned" else SHIFT
    numbers = numbers_of(step.weights)
    zero_point = int(numbers["zero_point"][0]) if "zero_point" in numbers else 0
    return Grid(numbers["scale"][0], zero_point + shift, lo + shift, hi + shift, shift > 0)


def clamped(grid: Grid, ceilings: list[Array | np.float32 | None]) -> tuple[Array, Array]:
    """Returns the least and the largest code that clamps leave of a grid, numbers or (O,).

    ceilings : for each clamp to 0..ceiling, its end: a number, one for each of O channels, or None
    The order of rounding and clamping does not matter: rounding to a grid keeps the order of
    numbers, and 0 is one of its codes.
    """
    lo, hi = np.int64(grid.lo), np.int64(grid.hi)
    for ceiling in ceilings:
        lo = np.maximum(lo, grid.zero_point)
        if ceiling is not None:
            hi = np.minimum(hi, grid.codes(ceiling))
    return lo, hi


def images(grid: Grid, functions: list) -> Array:
    """Returns what functions make of the number of each code of a grid, (256,) float32.

    functions : names of activations, and numbers: where a clamp from 0 on ends
    Codes that the grid does not have saturate.
    """
    x = grid.real(np.clip(CODES, grid.lo, grid.hi))
    for f in functions:
        x = IN_PLACE[f](x) if isinstance(f, str) else np.clip(x, 0, f)
    return x


def table(grid: Grid, new: Grid, functions: list) -> Array:
    """Returns the new code of each code of a grid, (256,) uint8: what the float model computes,
    rounded once.   functions : of `images`"""
    return new.codes(images(grid, functions))
