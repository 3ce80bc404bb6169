"""A reference that others test against: pure functions, arrays in and out, with their test cases.

    from minicomp import reference
    reference.verify("relative_index", mine)              # AssertionError, the smallest input
    reference.ENTRIES["relative_index"].fn(positions, p)  # the reference itself

Each entry has `cases(draw)`, which yields arguments from small to large, and `judge(case, result)`,
which returns None or what is wrong. Where several answers are right the judge tests the property
that decides. `minicomp vectors NAME --out F.json` writes cases and results for other languages.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..codec.bits import pack_bits, unpack_bits
from ..codec.huffman import canonical_codes, huffman_lengths
from ..codec.index import relative_index
from ..compress.share.kmeans import centroid_gradient, kmeans_1d, kmeans_1d_optimal
from .draw import Draw
from . import cases, vectors
from .entry import CLOSE, Case, Entry
from .judges import copied, equal_to, judge_huffman, judge_kmeans, judge_lloyd
from .pruning import PRUNING

def verify(name: str, fn: Callable, *, seed: int = 0, **rule) -> None:
    """Runs a stranger's function over the cases of entry `name`.

    fn : takes the reference's arguments by name        seed : of the cases
    rule : further keyword arguments of every call, for a function whose convention can be chosen
    Raises AssertionError with the failing case of the fewest numbers, what was expected, what came,
    the rule and its tolerance; ValueError for an unknown name.
    """
    entry = _entry(name)
    numbered = enumerate(entry.cases(Draw(seed)))
    for number, case in sorted(numbered, key=lambda pair: _size(pair[1])):
        shown = f"{name}, case {number}: {_shown(case)}"
        try:
            result = fn(**copied(case), **rule)
        except Exception as e:
            raise AssertionError(f"{shown}\n  raised {type(e).__name__}: {e}") from e
        try:
            wrong = entry.judge(case, result)
        except Exception as e:  # a judge expects numbers of the right kind
            wrong = f"the result cannot be judged: {type(e).__name__}: {e}"
        if wrong is not None:
            expected = _text(entry.fn(**copied(case)))
            raise AssertionError(f"{shown}\n  expected: {expected}\n  got:      {_text(result)}\n"
                                 f"  {wrong}\n  rule: {entry.rule}; {entry.source}")


def write_vectors(name: str, path: str | Path, *, seed: int = 0) -> int:
    """Writes the cases of an entry with their expected results, and returns how many.

    path : F.json or F.npz; `vectors.plain` says how arrays lie in JSON
    Raises ValueError for an unknown name or another ending.
    """
    entry = _entry(name)
    return vectors.write(Path(path), name, entry, entry.cases(Draw(seed)), seed)


_LSB = "least significant bit first"
_HAN = "Han et al. 2016, arXiv:1510.00149, "

ENTRIES: dict[str, Entry] = {
    **PRUNING,
    "kmeans_1d": Entry(
        kmeans_1d, cases.lloyds, judge_lloyd,
        "every x has its nearest centroid, and the squared error is at most ours, to 1e-6 of the "
        "variance; code 0 is the pinned 0", _HAN + "section 3.2"),
    "kmeans_1d_optimal": Entry(
        kmeans_1d_optimal, cases.lines_to_cut, judge_kmeans,
        "the least squared error, to 1e-9 of the variance", _HAN + "eq. (2)"),
    "centroid_gradient": Entry(
        centroid_gradient, cases.cluster_members, equal_to(centroid_gradient, 1e-9), CLOSE,
        _HAN + "eq. (3)"),
    "relative_index": Entry(
        relative_index, cases.positions, equal_to(relative_index),
        "0-based; a gap above 2^p emits a filler", _HAN + "figure 2"),
    "huffman_lengths": Entry(
        huffman_lengths, cases.frequencies, judge_huffman,
        "fewest bits in all, Kraft sum 1; lengths may differ",
        "Huffman 1952; Larmore & Hirschberg 1990"),
    "canonical_codes": Entry(
        canonical_codes, cases.code_lengths, equal_to(canonical_codes), "by (length, symbol)",
        "Schwartz & Kallick 1964"),
    "pack_bits": Entry(
        pack_bits, cases.numbers_to_pack, equal_to(pack_bits), _LSB, "minicomp/codec/bits.py"),
    "unpack_bits": Entry(
        unpack_bits, cases.packed_numbers, equal_to(unpack_bits), _LSB, "minicomp/codec/bits.py"),
}


def _entry(name: str) -> Entry:
    if name not in ENTRIES:
        raise ValueError(f"name must be one of {', '.join(ENTRIES)}, got {name!r}")
    return ENTRIES[name]


def _size(case: Case) -> int:
    values = [a for v in case.values() for a in (v if isinstance(v, list) else [v])]
    return sum(np.size(a) for a in values)


def _shown(case: Case) -> str:
    return ", ".join(f"{k} = {_text(v)}" for k, v in case.items())


def _text(value) -> str:
    return np.array2string(value, threshold=20) if isinstance(value, np.ndarray) else repr(value)
