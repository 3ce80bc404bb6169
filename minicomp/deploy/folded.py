"""The weights of a step as integers: codes, the bias in units of the accumulator, what could
overflow.

    y_o = S_o (sum q_x q_w + offset_o)        S_o = s_x s_w,o
    offset_o = rint(b_o / S_o) - z_x sum q_w

A gain of each channel (a batch norm behind the convolution) multiplies the scale of its weights, of
which it may turn the sign. A channel that has no weights, all codes 0 or gain 0, is its bias: its
scale is chosen so that this fits, for the scale of such a channel may be anything, 1e-38 included.

Source: Jacob et al. 2018, arXiv 1712.05877, eqs. (7)-(9)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..grid.affine import TINY
from ..nn.forms import Affine
from ..tensor import Array, raw
from .grids import MOST_BITS, Grid
from .steps import Step, numbers_of

FITS = 2**31  # magnitudes below
OF_CONSTANT = 2.0**23  # steps of the bias of a channel without weights: a float32 holds them


@dataclass(frozen=True)
class Folded:
    """A weight (O, ...) int8, its scale (O,) float32 (below 0 where a gain is), bias and offset
    (O,) int32, and the real units of a step of the accumulator, (O,) float64."""

    weight: Array
    scale: Array
    bias: Array
    offset: Array
    step: Array


def folded(step: Step, grid: Grid) -> Folded:
    """Returns the integers of a step `conv` or `linear` whose input lies on a grid.

    Raises ValueError, which names the step, for weights that are no symmetric integers of at most 8
    bits, a bias that does not fit int32 and an accumulator that could overflow.
    """
    q, scale = codes_of(step)
    numbers = numbers_of({p: f for p, f in step.weights.items() if p != "weight"})
    gain, b = numbers.get("gain", np.ones_like(scale)), numbers.get("bias", np.zeros_like(scale))
    scale, constant = scaled(q, scale, gain, b, grid.scale)
    if not (np.isfinite(scale).all() and np.isfinite(b).all()):
        raise ValueError(f"{step.name}: scales, gains and biases must be finite")
    q[constant] = 0
    units = np.float64(grid.scale) * scale.astype(np.float64)
    bias = np.rint(b.astype(np.float64) / units)
    refuse(step, np.abs(bias) >= FITS, "a bias of {} does not fit int32 at the scale of channel "
            "{}; raise the scale", b)
    offset = bias.astype(np.int64) - grid.zero_point * q.reshape(len(q), -1).sum(
        axis=1, dtype=np.int64)
    most = _reaches(q, offset)
    refuse(step, most >= FITS, "an accumulator that could reach {} overflows int32, in channel {}",
           most)
    return Folded(q, scale, bias.astype(np.int32), offset.astype(np.int32), units)


def reach(arrays: dict[str, Array]) -> int:
    """Returns the largest magnitude that an accumulator of an instruction could come to."""
    return int(_reaches(arrays["weight"], arrays["offset"].astype(np.int64)).max(initial=0))


def _reaches(q: Array, offset: Array) -> Array:
    # 255 sum |q_w| + |offset|, (O,) int64.
    rows = np.abs(q.reshape(len(q), -1).astype(np.int16))
    return 255 * rows.sum(axis=1, dtype=np.int64) + np.abs(offset)


def codes_of(step: Step) -> tuple[Array, Array]:
    """Returns the codes of a step's weight, int8 of its shape, a copy, and scales, (O,) float32."""
    form = step.weights["weight"].freeze()
    if not isinstance(form, Affine):
        raise ValueError(f"{step.name}: an integer program needs weights on an affine grid of at "
                         f"most {MOST_BITS} bits (ptq, qat), got a form {form.kind}")
    if form.bits > MOST_BITS or form.grid == "midrise" or form.group:
        raise ValueError(f"{step.name}: an integer program needs weights of at most {MOST_BITS} "
                         "bits, with a 0, a scale each channel or one for all, got "
                         f"{', '.join(form.in_words())}")
    if form.zero_point is not None and form.zero_point.any():
        raise ValueError(f"{step.name}: an integer program needs weights without zero points")
    q = np.asarray(form.q)
    if q.size and not -128 <= q.min() <= q.max() <= 127:
        raise ValueError(f"{step.name}: an integer program needs weights of codes -128..127, got "
                         f"{q.min()}..{q.max()}")
    scale = np.broadcast_to(raw(form.scale).astype(np.float32), (len(q),))
    return q.astype(np.int8), scale


def scaled(q: Array, scale: Array, gain: Array, b: Array, s_x: np.float32) -> tuple[Array, Array]:
    """Returns the scale of each channel, gain included, and which channels are their bias alone,
    (O,) float32 and bool; of such a one, that at which the bias takes 2^23 steps.

    q : (O, ...) codes        scale, gain, b : (O,) float32        s_x : of the input
    """
    with np.errstate(over="ignore", under="ignore"):
        found = scale * gain
        of_bias = np.abs(b.astype(np.float64)) / (np.float64(s_x) * OF_CONSTANT)
    of_bias = np.where(b == 0, scale, np.clip(of_bias, TINY, np.finfo(np.float32).max))
    constant = (found == 0) | ~q.reshape(len(q), -1).any(axis=1)
    return np.where(constant, of_bias, found).astype(np.float32), constant


def refuse(step: Step, wrong: Array, message: str, shown: Array) -> None:
    """Raises ValueError for the first channel that is wrong, (O,) bool: its shown and its number
    are put into the message."""
    if wrong.any():
        channel = int(np.argmax(wrong))
        raise ValueError(f"{step.name}: " + message.format(f"{shown[channel]:.6g}", channel))
