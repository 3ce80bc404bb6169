"""The cases of codes and clusters: arguments by name, small ones first, fixed by a seed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..codec.bits import pack_bits
from ..codec.huffman import huffman_lengths
from .draw import Draw

Case = dict[str, Any]
SIZES = (1, 2, 3, 7, 8, 63, 64, 65, 200)


def positions(draw: Draw) -> Iterator[Case]:
    """Gaps about 2^p, and random ones."""
    yield {"positions": np.array([0, 3, 14]), "p": 3}  # Han et al. 2016, figure 2
    yield {"positions": np.zeros(0, np.int64), "p": 4}
    for p in (1, 3, 5, 8):
        for gap in (1, 2**p, 2**p + 1, 3 * 2**p):
            yield {"positions": np.array([gap - 1]), "p": p}
        for n in (8, 65, 200):
            yield {"positions": np.flatnonzero(draw.uniform(4 * n) < 0.1), "p": p}


def frequencies(draw: Draw) -> Iterator[Case]:
    """Frequencies, with and without a limit that binds."""
    yield {"freq": np.array([5, 2, 1, 1]), "limit": None}
    for n in (1, 2, 3, 7, 16, 65):
        freq = draw.integers(0, 50, n)
        freq[0] += 1
        yield {"freq": freq, "limit": None}
        yield {"freq": freq, "limit": 7}
    yield {
        "freq": np.array([1, 1, 2, 3, 5, 8, 13, 21, 34, 55]),
        "limit": 5,
    }  # Fibonacci: unlimited codes reach 9


def code_lengths(draw: Draw) -> Iterator[Case]:
    """The lengths of Huffman codes."""
    for case in frequencies(draw):
        yield {"lengths": huffman_lengths(**case)}


def numbers_to_pack(draw: Draw) -> Iterator[Case]:
    """Numbers of several widths."""
    for width in (1, 3, 5, 8, 11):
        for n in (0, *SIZES):
            yield {"values": draw.integers(0, 2**width, n), "width": width}


def packed_numbers(draw: Draw) -> Iterator[Case]:
    """The bytes of such numbers."""
    for case in numbers_to_pack(draw):
        yield {"data": pack_bits(**case), "width": case["width"], "n": len(case["values"])}


def cluster_members(draw: Draw) -> Iterator[Case]:
    """Gradients and codes; some codes have no members."""
    for n in SIZES:
        yield {"g": draw.normal(n), "index": draw.integers(0, 5, n), "k": 5}


def lines_to_cut(draw: Draw) -> Iterator[Case]:
    """Numbers with ties."""
    yield {"x": np.array([0.0, 1.0, 10.0, 11.0]), "k": 2}
    for n in (1, 2, 3, 7, 8, 63, 200):
        for k in (1, 2, 4, 16):
            yield {"x": np.round(draw.normal(n), 2), "k": k}


def lloyds(draw: Draw) -> Iterator[Case]:
    """The paper's figure, then numbers with and without zeros."""
    x = np.array(
        [
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
    )
    rest = {"rng": None, "iterations": 50}
    yield {
        "x": x.astype(np.float32),
        "k": 4,
        "init": "linear",
        "pinned_zero": False,
        **rest,
    }  # Han et al., fig. 3
    for n in (1, 2, 7, 64, 200):
        for k in (2, 4, 16):
            for init in ("linear", "density", "optimal"):
                for pinned in (False, True):
                    x = draw.normal(n) * (draw.uniform(n) < 0.7 if pinned else 1)
                    yield {
                        "x": x.astype(np.float32),
                        "k": k,
                        "init": init,
                        "pinned_zero": pinned,
                        **rest,
                    }
