"""Trellis (dependent) quantization with the rates of a coder (Schwarz, Nguyen, Marpe & Wiegand
2019, "Hybrid Video Coding with Trellis-Coded Quantization"; for nets ISO/IEC 15938-17 and Haase et
al. 2020, "Dependent Scalar Quantization for Neural Network Compression"). After Marcellin & Fischer
1990, "Trellis Coded Quantization of Memoryless and Gauss-Markov Sources".

Two scalar quantizers are interleaved, and a machine of 4 or 8 states, which the parities of the
codes move, says which is in (`grid/trellis.py`). In each there are as few codes as on a grid of the
double step, while all points together lie twice as dense: codes chosen for a whole row fill space
better than the best code of each weight. The codes of a row are those of least

    J = sum_i h_i (w_i - s p_i)^2 + lambda sum_i R(k_i),      p = points(k)                    (1)

which Viterbi's algorithm finds exactly: whatever comes later depends on the codes so far by their
state alone, so of all ways into a state only the cheapest is kept,

    J_i(t) = min over s, b with NEXT[s][b] = t of
             J_{i-1}(s) + min over k of parity b of h_i (w_i - s p)^2 + lambda R(k)            (2)

The inner minimum depends on the quantizer alone, so that it is taken for all weights at once; the
walk is along a row, all rows side by side. Prices, codes and step are fitted in turn as in scalar
quantization, and none of it raises J.

Of grids with several steps, and the scalar one, the layer takes what costs least: it is never worse
than scalar quantization at the same lambda. Where we leave the papers: p(k) is that of a layer,
alike for both quantizers; each row begins in state 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...grid.trellis import NEXT, QUANTIZER, check_states, trellis_path, trellis_points
from ...nn.forms import Trellis
from ...tensor import Array
from ..technique import knob
from .pricing import code_bits, code_counts, price, refit, rows_of
from .quantizer import RateQuantizer
from .scalar import by_size, cheapest, settled

STEPS = (0.5, 0.6, 0.75)  # of the scalar grid's step, that are tried


def branch_costs(w: Array, step: float, bits: Array, lam: float, h: Array, keep: Array
                 ) -> tuple[Array, Array]:
    """Returns (cost, code), (2 quantizers, 2 parities, R, C): the cheapest code of each parity.

    w, h : (R, C) float64        bits : (2 m + 1,)        keep : (R, C), where False only code 0
    The inner minimum of eq. (2); cost inf where there is no such code. Of equal costs the code
    nearest 0.
    """
    most, shape = len(bits) // 2, (2, 2, *w.shape)
    cost, code = np.full(shape, np.inf), np.zeros(shape, np.int64)
    for parity in (0, 1):
        codes = [k for k in by_size(bits) if k & 1 == parity]
        price = [lam * bits[k + most] for k in codes]
        for quantizer in (0, 1):
            points = [2 * k - quantizer * (k > 0) + quantizer * (k < 0) for k in codes]
            found = cheapest(w.ravel(), step, codes, points, price, h.ravel())
            cost[quantizer, parity], code[quantizer, parity] = (a.reshape(w.shape) for a in found)
    if not keep.all():  # else code 0 may have no price: inf, of which lam = 0 makes NaN
        alone = h * np.square(w) + lam * bits[most]
        cost[:, 0] = np.where(keep, cost[:, 0], alone)
    cost[:, 1] = np.where(keep, cost[:, 1], np.inf)
    code[:, 0] *= keep
    return cost, code


def viterbi(cost: Array, states: int) -> Array:
    """Returns the parities of the cheapest walk along each row from state 0, uint8 (R, C).

    cost : (2 quantizers, 2 parities, R, C) of `branch_costs`        states : 4 or 8
    Source: Viterbi 1967; eq. (2) of the file
    """
    check_states(states)
    into = [[(s, b) for s in range(states) for b in (0, 1) if NEXT[states][s][b] == t]
            for t in range(states)]  # two ways into every state
    came = np.array(into).transpose(2, 1, 0)                          # (s or b, way, states)
    quantizer = np.array(QUANTIZER[states])[came[0]]
    R, C = cost.shape[2:]
    way = np.zeros((C, R, states), bool)
    total = np.full((R, states), np.inf)
    total[:, 0] = 0
    by_column = np.ascontiguousarray(cost.transpose(3, 2, 0, 1))      # (C, R, quantizer, parity)
    for c in range(C):
        first, second = (total[:, came[0, i]] + by_column[c][:, quantizer[i], came[1, i]]
                         for i in (0, 1))
        way[c] = second < first
        total = np.where(way[c], second, first)
    at, rows, parity = total.argmin(axis=1), np.arange(R), np.zeros((R, C), np.uint8)
    for c in range(C - 1, -1, -1):
        took = way[c, rows, at].astype(np.int64)
        parity[:, c], at = came[1, took, at], came[0, took, at]
    return parity


def trellis_codes(w: Array, step: float, bits: Array, lam: float, *, states: int = 8,
                  h: Array | None = None, keep: Array | None = None) -> Array:
    """Returns the codes of least J, int64 (R, C): eq. (1), each row for itself.

    w : (R, C)        step : between the points of both quantizers together
    bits : (2 m + 1,) of each code, inf for one that may not be taken; a walk must remain
    h : (R, C), None for 1        keep : (R, C), where False code 0 alone is taken
    """
    w = np.asarray(w, np.float64)
    h = np.ones(w.shape) if h is None else h
    keep = np.ones(w.shape, bool) if keep is None else keep
    cost, code = branch_costs(w, step, bits, lam, h, keep)
    parity = viterbi(cost, states)
    odd = np.array(QUANTIZER[states])[trellis_path(parity, states)]
    rows, columns = np.indices(w.shape, sparse=True)
    return code[odd, parity, rows, columns]


def trellis_quantize(w: Array, step: float, lam: float, *, most: int, states: int = 8,
                     h: Array | None = None, keep: Array | None = None, iterations: int = 20
                     ) -> tuple[Array, float]:
    """Returns (codes int64 (R, C), step) after prices, codes and step are fitted in turn.

    Arguments of `trellis_codes`; most : the largest code. The first codes are of least error alone.
    """
    k = trellis_codes(w, step, np.zeros(2 * most + 1), 0.0, states=states, h=h, keep=keep)
    of = 1.0 if h is None else h
    for _ in range(iterations):
        bits, was = code_bits(code_counts(k, most)), k
        k = trellis_codes(w, step, bits, lam, states=states, h=h, keep=keep)
        step = refit(w, trellis_points(k, states), step, of)
        if settled(k, was):
            break
    return k, step


@dataclass(frozen=True)
class TrellisQuantization(RateQuantizer):
    """Puts weights on two interleaved grids; the codes of a row are chosen together."""

    word: ClassVar[str] = "trellis"
    title: ClassVar[str] = "Trellis (dependent) quantization"
    source: ClassVar[str] = (
        "Schwarz, Nguyen, Marpe & Wiegand 2019, Hybrid Video Coding with Trellis-Coded "
        "Quantization; Marcellin & Fischer 1990, Trellis Coded Quantization"
    )

    states: str = knob("8", "of the machine that chooses the quantizer", choices=("4", "8"))

    def coded(self, node, form, h):
        w, made = form.dense().data.astype(np.float64), self.scalar(node, form, h)
        keep = np.ones(w.shape, bool) if form.mask is None else form.mask
        most, step = self.grid(node, w)
        lam, states = self.at("lam", node) * step * step, int(self.states)
        k = made.q.astype(np.int64)
        best = price(w - made.dense().data, k, lam, most=most, h=h)
        rows = [a.reshape(rows_of(w.shape)) for a in (w, h, keep)]
        for part in STEPS if w.size else ():
            k, scale = trellis_quantize(
                rows[0], part * step, lam, most=most, states=states, h=rows[1], keep=rows[2],
                iterations=self.iterations)
            cost = price(rows[0] - scale * trellis_points(k, states), k, lam, most=most, h=rows[1])
            if cost < best:
                best, made = cost, Trellis(k.reshape(w.shape), scale,
                                           bits=self.at("bits", node), states=states)
        return made
