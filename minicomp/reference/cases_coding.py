"""The reference functions of codes and clusters, and their cases: small ones first."""

from __future__ import annotations

import numpy as np

from ..codec.bits import pack_bits, unpack_bits
from ..codec.huffman import canonical_codes, huffman_lengths
from ..codec.index import relative_index
from ..compress.line import kmeans_1d_optimal
from ..compress.share.kmeans import centroid_gradient, kmeans_1d
from .draw import Draw
from .entry import CLOSE, Case, Cases, Entry
from .judges import judge_canonical, judge_huffman, judge_index, judge_kmeans, judge_lloyd

SIZES = (1, 2, 3, 7, 8, 63, 64, 65, 200)


def _positions(draw: Draw) -> list[Case]:
    # Gaps of all sizes beside fields of all widths.
    cases = [{"positions": np.array([], np.int64), "p": 2}]
    for _ in range(20):
        gaps = draw.integers(1, draw.choice([3, 9, 40, 200]), draw.integer(1, 15))
        cases.append({"positions": np.cumsum(gaps) - 1, "p": draw.integer(1, 6)})
    return cases


def _gaps_about_the_field(draw: Draw) -> list[Case]:
    return [
        {"positions": np.array([gap - 1]), "p": p}
        for p in (1, 3, 5, 8)
        for gap in (1, 2**p, 2**p + 1, 3 * 2**p)
    ]


def _positions_of_many(draw: Draw) -> list[Case]:
    return [
        {"positions": np.flatnonzero(draw.uniform(4 * n) < 0.1), "p": p}
        for p in (1, 3, 5, 8)
        for n in (8, 65, 200)
    ]


INDEX = Cases(
    tiny=[{"positions": np.array(a), "p": 3} for a in ([0, 3], [0, 3, 14], [7, 15, 24])],
    golden=[{"positions": np.array([3, 4, 8, 25, 26, 100]), "p": 4}],
    property=_positions,
    gaps=_gaps_about_the_field,
    many=_positions_of_many,
)


def _frequencies(draw: Draw) -> list[Case]:
    cases = []
    for i in range(20):
        n = draw.integer(1, 18)
        freq = draw.integers(0 if i % 2 else 1, 60, n) ** draw.integer(1, 3)
        cases.append({"freq": freq if freq.any() else freq + 1, "limit": None})
    return cases


def _limits(draw: Draw) -> list[Case]:
    # The same frequencies with and without a limit, which may bind.
    drawn = [draw.integers(0, 50, n) for n in (1, 2, 3, 7, 16, 65)]
    return [
        {"freq": freq + (np.arange(len(freq)) == 0), "limit": limit}
        for freq in drawn
        for limit in (None, 7)
    ]


FREQUENCIES = Cases(
    tiny=[{"freq": np.array(a), "limit": None} for a in ([2, 1, 1], [5], [4, 0, 2])],
    golden=[
        {"freq": np.array(a), "limit": None}
        for a in ([45, 13, 12, 16, 9, 5], [1, 1, 2, 3, 5, 8, 13])
    ],
    property=_frequencies,
    limited=_limits,
    # Fibonacci: unlimited codes reach 9
    binding=[
        {"freq": np.array([1, 1, 2, 3, 5, 8, 13, 21, 34, 55]), "limit": 5},
        {"freq": np.array([5, 2, 1, 1]), "limit": 2},
    ],
)


def _lengths(draw: Draw) -> list[Case]:
    cases = []
    for i in range(20):
        n = draw.integer(1, 14)
        freq = draw.integers(0, 40, n)
        freq[draw.integer(0, n)] += 1 if i % 3 else 10_000  # lengths that grow by more than one
        cases.append({"lengths": huffman_lengths(freq).astype(np.int64)})
    return cases


LENGTHS = Cases(
    tiny=[{"lengths": np.array(a)} for a in ([2, 1, 2], [1, 0, 3, 3, 2], [3, 3, 1, 3, 3])],
    golden=[{"lengths": np.array([3, 3, 3, 3, 3, 2, 4, 4])}],
    property=_lengths,
    limited=lambda draw: [{"lengths": huffman_lengths(**case)} for case in _limits(draw)],
)

NUMBERS_TO_PACK = Cases(  # numbers of several widths
    sizes=lambda draw: [
        {"values": draw.integers(0, 2**width, n), "width": width}
        for width in (1, 3, 5, 8, 11)
        for n in (0, *SIZES)
    ]
)

PACKED_NUMBERS = Cases(  # the bytes of such numbers
    sizes=lambda draw: [
        {"data": pack_bits(**case), "width": case["width"], "n": len(case["values"])}
        for case in NUMBERS_TO_PACK(draw)
    ]
)

CLUSTER_MEMBERS = Cases(  # gradients and codes; some codes have no members
    sizes=lambda draw: [
        {"g": draw.normal(n), "index": draw.integers(0, 5, n), "k": 5} for n in SIZES
    ]
)

LINES_TO_CUT = Cases(  # numbers with ties
    tiny=[{"x": np.array([0.0, 1.0, 10.0, 11.0]), "k": 2}],
    sizes=lambda draw: [
        {"x": np.round(draw.normal(n), 2), "k": k}
        for n in (1, 2, 3, 7, 8, 63, 200)
        for k in (1, 2, 4, 16)
    ],
)


FIGURE_3 = [
    2.09,
    -0.98,
    1.48,
    0.09,
    0.05,
    -0.14,
    -1.08,
    2.12,
    -0.91,
    1.92,
    0,
    -1.03,
    1.87,
    0,
    1.53,
    1.49,
]


def _lloyd(x, k: int, init: str, pinned: bool) -> Case:
    return {
        "x": np.asarray(x, np.float32),
        "k": k,
        "init": init,
        "pinned_zero": pinned,
        "rng": None,
        "iterations": 50,
    }


LLOYDS = Cases(  # the paper's figure, then numbers with and without zeros
    tiny=[_lloyd(FIGURE_3, 4, "linear", False)],
    sizes=lambda draw: [
        _lloyd(draw.normal(n) * (draw.uniform(n) < 0.7 if pinned else 1), k, init, pinned)
        for n in (1, 2, 7, 64, 200)
        for k in (2, 4, 16)
        for init in ("linear", "density", "optimal")
        for pinned in (False, True)
    ],
)

_LSB = "least significant bit first"
_HAN = "Han et al. 2016, arXiv:1510.00149, "

CODING: dict[str, Entry] = {
    "kmeans_1d": Entry(
        kmeans_1d, LLOYDS,
        "every x has its nearest centroid, and the squared error is at most ours, to 1e-6 of the "
        "variance; code 0 is the pinned 0", _HAN + "section 3.2", judge=judge_lloyd),
    "kmeans_1d_optimal": Entry(
        kmeans_1d_optimal, LINES_TO_CUT, "the least squared error, to 1e-9 of the variance",
        _HAN + "eq. (2)", judge=judge_kmeans),
    "centroid_gradient": Entry(
        centroid_gradient, CLUSTER_MEMBERS, CLOSE, _HAN + "eq. (3)", rtol=1e-9),
    "relative_index": Entry(
        relative_index, INDEX, "0-based; a gap above 2^p emits a filler", _HAN + "figure 2",
        judge=judge_index),
    "huffman_lengths": Entry(
        huffman_lengths, FREQUENCIES, "fewest bits in all, Kraft sum 1; lengths may differ",
        "Huffman 1952; Larmore & Hirschberg 1990", judge=judge_huffman),
    "canonical_codes": Entry(
        canonical_codes, LENGTHS, "by (length, symbol)", "Schwartz & Kallick 1964",
        judge=judge_canonical),
    "pack_bits": Entry(pack_bits, NUMBERS_TO_PACK, _LSB, "minicomp/codec/bits.py"),
    "unpack_bits": Entry(unpack_bits, PACKED_NUMBERS, _LSB, "minicomp/codec/bits.py"),
}
