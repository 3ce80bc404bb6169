"""Weights as coefficients of orthonormal wavelets (Daubechies 1988): the form and the transform.

h, g : low pass and high pass, g_j = (-1)^j h_{L-1-j}, L taps        x : (m,), as if periodic

    a_k = sum_j h_j x_{2k + j - L/2 + 1}        d_k = sum_j g_j x_{2k + j - L/2 + 1}

a is halved again, `levels` times; coefficients stand coarse to fine, (a_levels, d_levels .. d_1).
The transform is orthonormal: its inverse is its adjoint, and squared errors of coefficients are
those of weights. It is PyWavelets' wavedec of mode "periodization" where 2^levels divides m.
"""

from __future__ import annotations

import math

import numpy as np

from ...tensor import Array, primitive, rules
from .base import Form
from .dense import Dense
from .parts import Part, Setting

SQRT3, HALF = math.sqrt(3), 1 / (4 * math.sqrt(2))
# The low passes, sum sqrt(2), sum of squares 1; db2 and db4 have 2 and 4 vanishing moments.
# Daubechies 1988, table 1.
FILTERS: dict[str, tuple[float, ...]] = {
    "haar": (math.sqrt(0.5), math.sqrt(0.5)),
    "db2": ((1 + SQRT3) * HALF, (3 + SQRT3) * HALF, (3 - SQRT3) * HALF, (1 - SQRT3) * HALF),
    "db4": (0.2303778133088965, 0.7148465705529157, 0.6308807679298589, -0.027983769416859854,
            -0.18703481171909309, 0.030841381835560764, 0.0328830116668852, -0.010597401785069032),
}
WAVELETS = tuple(FILTERS)  # the index is their number in a file
MAX_LEVELS = 16


@primitive
def dwt(x, *, wavelet: str, levels: int):
    """Returns the coefficients of x, (m,) in its dtype; 2^levels must divide m."""
    details, (h, g, first) = [], _filters(wavelet, x, levels)
    for _ in range(levels):
        shifted = [np.roll(x, -(first + j))[::2] for j in range(len(h))]
        details.append(sum(b * s for b, s in zip(g, shifted)))
        x = sum(a * s for a, s in zip(h, shifted))
    return np.concatenate([x, *details[::-1]])


@primitive
def idwt(c, *, wavelet: str, levels: int):
    """Returns the x whose `dwt` is c, (m,) in its dtype."""
    h, g, first = _filters(wavelet, c, levels)
    x = c[: len(c) >> levels]
    for level in range(levels, 0, -1):
        low, high = np.zeros(2 * len(x), c.dtype), np.zeros(2 * len(x), c.dtype)
        low[::2], high[::2] = x, c[len(x): 2 * len(x)]
        x = sum(a * np.roll(low, first + j) + b * np.roll(high, first + j)
                for j, (a, b) in enumerate(zip(h, g)))
    return x


rules(dwt, lambda g, y, x, **how: idwt(g, **how))  # each the other's adjoint
rules(idwt, lambda g, y, c, **how: dwt(g, **how))


def _filters(wavelet: str, x: Array, levels: int) -> tuple[tuple, tuple, int]:
    # (h, g, place of their first tap before 2k)
    if wavelet not in FILTERS:
        raise ValueError(f"wavelet must be one of {', '.join(WAVELETS)}, got {wavelet!r}")
    if not 0 <= levels <= MAX_LEVELS or len(x) % (1 << levels):
        raise ValueError(f"levels must be in [0, {MAX_LEVELS}] and 2^levels divide the length, got "
                         f"{levels} for {len(x)}")
    h = FILTERS[wavelet]
    g = tuple((-1) ** j * tap for j, tap in enumerate(h[::-1]))
    return h, g, 1 - len(h) // 2


def padded(n: int, levels: int) -> int:
    """Returns the least multiple of 2^levels that is at least n: how many coefficients there are.
    """
    return -(-n >> levels) << levels


class Wavelet(Form):
    """Coefficients of the weights in C order; what they are filled up with is cut off.

    coefficients : an unmasked form of shape (padded(n, levels),) for n weights, or an array; copied
    shape : of the weight        wavelet : one of WAVELETS        levels : 0..MAX_LEVELS
    No coefficient belongs to one place: no channel can be cut out, no mask can be carried.
    """

    kind, wire = "wavelet", 8
    settings = {"number": Setting(0, len(WAVELETS) - 1), "levels": Setting(0, MAX_LEVELS)}
    parts = {"coefficients": Part("value", moves=True, axes=(),
                                  nested=("affine", "dense", "half", "bfloat16"))}

    def __init__(self, coefficients, shape: tuple[int, ...], wavelet: str, levels: int,
                 trainable: bool = True):
        if not isinstance(coefficients, Form):
            coefficients = Dense(np.asarray(coefficients, np.float32))
        self.shape, self.levels = tuple(shape), int(levels)
        want = self.stored_shape("coefficients")
        if coefficients.shape != want or coefficients.mask is not None:
            raise ValueError(f"coefficients must be unmasked, of shape {want}, got "
                             f"{coefficients.shape}")
        _filters(wavelet, np.empty(want), self.levels)
        self.number = WAVELETS.index(wavelet)
        self._hold({"coefficients": coefficients}, trainable)

    @property
    def wavelet(self) -> str:
        """The name of the wavelet."""
        return WAVELETS[self.number]

    def _said(self):
        yield f"{self.coefficients.shape[0]} coefficients, {self.wavelet}, {self.levels} levels"
        yield "trainable" if self.trainable else "frozen"

    def stored_shape(self, name):
        return (padded(math.prod(self.shape), self.levels),)

    def decode(self, *, training=False, rng=None):
        c = self.coefficients.dense(training=training, rng=rng)
        x = idwt(c, wavelet=self.wavelet, levels=self.levels)
        return x[: math.prod(self.shape)].reshape(*self.shape)
