"""Signs: numbers onto +-1, and onto -1, 0, +1.

sign(0) = +1, of -0 too: a binary number has no 0. A sign is a bit, 1 for +1.
"""

from __future__ import annotations

import numpy as np

from ..ops import sum_to
from ..tensor import Array, primitive, raw, rules


def binarize(x: Array) -> Array:
    """Returns +1 where x >= 0, else -1, in x's dtype; sign(0) = +1.

    Source: Courbariaux, Hubara, Soudry, El-Yaniv & Bengio 2016, arXiv 1602.02830, section 1.1
    """
    x = np.asarray(x)
    return 1 - 2 * (x < 0).astype(x.dtype)  # three times as fast as where()


@primitive
def hard_sign(x):
    """Returns `binarize(x)`; the gradient is g 1[|x| <= 1], that of clip(x, -1, 1).

    Source: ibid., section 1.3
    """
    return binarize(x)


rules(hard_sign, lambda g, y, x: g * (np.abs(raw(x)) <= 1))


def stochastic_signs(x: Array, u: Array) -> Array:
    """Returns +1 where u < clip((x + 1) / 2, 0, 1), else -1, in x's dtype.

    u : uniform in [0, 1), of x's shape: then the mean over u is clip(x, -1, 1)
    Source: Courbariaux, Bengio & David 2015, arXiv 1511.00363, eqs. (2), (3)
    """
    x = np.asarray(x)
    return np.where(u < np.clip((x + 1) / 2, 0, 1), x.dtype.type(1), x.dtype.type(-1))


@primitive
def drawn_sign(x, *, u):
    """Returns `stochastic_signs(x, u)`; the gradient is that of `hard_sign`.

    Source: Courbariaux, Hubara, Soudry, El-Yaniv & Bengio 2016, arXiv 1602.02830, eqs. (2)-(4)
    """
    return stochastic_signs(x, u)


rules(drawn_sign, lambda g, y, x, u: g * (np.abs(raw(x)) <= 1))


@primitive
def shifted_sign(x, v):
    """Returns +1 where h_v(x) >= 0.5, else -1, h_v(x) = clip(x + v, 0, 1), of x's shape and dtype;
    the gradient is g where 0 <= x + v <= 1, of both.

    v : a number, as an array that broadcasts to x
    Source: Lin, Zhao & Pan 2017, arXiv 1711.11294, section 3.2
    """
    return binarize(x + v - x.dtype.type(0.5)).astype(x.dtype, copy=False)


def _inside(x, v) -> Array:
    h = raw(x) + raw(v)
    return (h >= 0) & (h <= 1)


rules(shifted_sign, lambda g, y, x, v: g * _inside(x, v),
      lambda g, y, x, v: sum_to(g * _inside(x, v), raw(v)))


def ternary_codes(w: Array, delta) -> Array:
    """Returns +1 where w > delta, -1 where w < -delta, else 0, int8 of w's shape.

    delta : at least 0, a number or an array that broadcasts to w
    Source: Li, Zhang & Liu 2016, arXiv 1605.04711, section 2
    """
    w, delta = np.asarray(w), np.asarray(delta)
    return (w > delta).astype(np.int8) - (w < -delta)
