"""Lesson 17: relative index, Huffman lengths, canonical codes.

p bits of a gap; K symbols; a length is the number of bits of a symbol's code.
"""

from __future__ import annotations

import heapq
from functools import partial

import numpy as np

from ...reference import ENTRIES
from ...reference.judges import Message
from ..asking.exercise import (
    Diagnosis,
    Exercise,
    Mutant,
    Prediction,
    entry_parts,
    hidden,
    standard_parts,
)
from ..asking.lesson import LessonChecks, Number, Reflection

Array = np.ndarray

# ----------------------------------------------------------------------------------- relative index


def _index(
    positions, p,
    *, before=-1, less=1, limit=None, once=False, mark=lambda i: -1, fill=None, step=None,
) -> tuple[Array, Array]:
    # Gaps of p bits with fillers; the switches are how the mutants slip.
    largest = 1 << p if limit is None else limit
    stored, source, at = [], [], before
    for i, position in enumerate(positions):
        gap = int(position) - at
        while gap > largest:
            stored.append((1 << p) - less if fill is None else fill)
            source.append(mark(i))
            gap -= 1 << p if step is None else step
            if once:
                break
        stored.append(gap - less)
        source.append(i)
        at = int(position)
    return np.array(stored, np.int64), np.array(source, np.int64)


_INDEX = Exercise(
    id="17.relative_index",
    minutes=8,
    parts=entry_parts(ENTRIES["relative_index"]),
    mutants=(
        Mutant("starts-at-zero", partial(_index, before=0)),
        Mutant("gap-itself", partial(_index, less=0)),
        Mutant("filler-too-early", lambda positions, p: _index(positions, p, limit=(1 << p) - 1)),
        Mutant("filler-too-late", lambda positions, p: _index(positions, p, limit=(1 << p) + 1)),
        Mutant("one-filler-only", partial(_index, once=True)),
        Mutant("no-filler", lambda positions, p: _index(positions, 62)),
        Mutant(
            "fillers-not-marked",
            partial(_index, mark=lambda i: i),
            forms=(partial(_index, mark=lambda i: 0), partial(_index, mark=lambda i: i - 1)),
        ),
        Mutant("filler-stores-zero", partial(_index, fill=0)),
        Mutant("filler-too-short", lambda positions, p: _index(positions, p, step=(1 << p) - 1)),
        Mutant("always-three-bits", lambda positions, p: _index(positions, 3)),
    ),
    banned=("minicomp.codec.index:relative_index", "minicomp.codec.index:gaps"),
    reference=ENTRIES["relative_index"].fn,
)

# ---------------------------------------------------------------------------------- Huffman lengths


HUFFMAN = ENTRIES["huffman_lengths"]


def huffman_lengths(counts: Array) -> Array:
    """Returns Huffman's code lengths; 0 for an absent symbol, 1 for a lone one.

    The entry's frequencies are counts here, and nothing limits a length.
    """
    return HUFFMAN.fn(counts)


def _counts(group: str):
    return lambda draw: [{"counts": case["freq"]} for case in HUFFMAN.cases[group](draw)]


def _code_lengths(case, result) -> Message | None:
    return HUFFMAN.judge({"freq": case["counts"], "limit": None}, result)


def _counts_scaled(draw):
    drawn = (draw.integers(1, 50, 8) for _ in range(4))
    return [[{"counts": counts}, {"counts": 3 * counts}] for counts in drawn]


def _scaled_costs(case, results) -> Message | None:
    return _code_lengths(case[0], results[0]) or _code_lengths(case[1], results[1])


def _merge(counts, *, pick=heapq.heappop, absent=False, lone=1) -> Array:
    # Lengths by merging two at a time; `pick` takes the next of the two.
    heap = [(int(c), [i]) for i, c in enumerate(counts) if c > 0 or absent]
    heapq.heapify(heap)
    lengths = np.zeros(len(counts), np.int64)
    if len(heap) == 1:
        lengths[heap[0][1]] = lone
    while len(heap) > 1:
        (a, left), (b, right) = pick(heap), pick(heap)
        lengths[left + right] += 1
        heapq.heappush(heap, (a + b, left + right))
    return lengths


def _pop_largest(heap):
    last = max(heap)
    heap.remove(last)
    heapq.heapify(heap)
    return last


def _shannon(counts) -> Array:
    counts = np.asarray(counts)
    used = counts > 0
    bits = np.log2(counts.sum() / np.where(used, counts, 1))
    return np.where(used, np.maximum(np.ceil(bits - 1e-12), 1), 0).astype(np.int64)


def _shannon_of_all(counts) -> Array:
    # As it is written first: an absent symbol has an infinite length, a lone one 0.
    counts = np.asarray(counts)
    with np.errstate(divide="ignore"):
        return np.ceil(-np.log2(counts / counts.sum()))


def _plain_shannon(counts) -> Array:
    return np.where(np.asarray(counts) > 0, _shannon_of_all(counts), 0)


def _flat(counts) -> Array:
    used = np.asarray(counts) > 0
    return np.where(used, max(1, int(np.ceil(np.log2(max(used.sum(), 1))))), 0).astype(np.int64)


def _unary(counts) -> Array:
    order = np.argsort(-np.asarray(counts), kind="stable")
    used = int((np.asarray(counts) > 0).sum())
    lengths = np.zeros(len(counts), np.int64)
    lengths[order[:used]] = np.minimum(np.arange(1, used + 1), max(used - 1, 1))
    return lengths


_HUFFMAN = Exercise(
    id="17.huffman_lengths",
    minutes=12,
    parts=standard_parts(
        _code_lengths,
        tiny=_counts("tiny"),
        many=_counts("property"),
        golden=_counts("golden"),
        more=hidden("invariance", _counts_scaled, _scaled_costs),
    ),
    mutants=(
        Mutant("shannon", _shannon, forms=(_plain_shannon, _shannon_of_all)),
        Mutant("all-equal", _flat),
        Mutant("comb", _unary),
        Mutant("absent-symbols", partial(_merge, absent=True)),
        Mutant("lone-symbol", partial(_merge, lone=0)),
        Mutant("largest-first", partial(_merge, pick=_pop_largest)),
    ),
    banned=(
        "minicomp.codec.huffman:huffman_lengths",
        "minicomp.codec.huffman:package_merge",
        "minicomp.codec.huffman:_merge",
    ),
    reference=huffman_lengths,
)

# ---------------------------------------------------------------------------------- canonical codes


def _canonical(
    lengths, *, shift=lambda grown: grown, rank=1, start=0, absent=False, back=False, kind="stable"
) -> Array:
    # Codes in the order of rank times the length; the switches are how the mutants slip.
    lengths = np.asarray(lengths, np.int64)
    codes, code, before = np.zeros(len(lengths), np.int64), start, 0
    last = len(lengths) - 1
    order = np.argsort(rank * (lengths[::-1] if back else lengths), kind=kind)
    for i in last - order if back else order:
        if lengths[i] == 0 and not absent:
            continue
        code <<= shift(max(int(lengths[i]) - before, 0))
        codes[i], code, before = code, code + 1, int(lengths[i])
    return codes


_CANONICAL = Exercise(
    id="17.canonical_codes",
    minutes=8,
    parts=entry_parts(ENTRIES["canonical_codes"]),
    mutants=(
        Mutant("no-shift", partial(_canonical, shift=lambda grown: 0)),
        Mutant("one-zero-only", partial(_canonical, shift=lambda grown: min(grown, 1))),
        Mutant("order-of-symbols", partial(_canonical, rank=0)),
        Mutant(
            "last-of-equals",
            partial(_canonical, back=True),
            perhaps=(partial(_canonical, kind=None),),
        ),
        Mutant("longest-first", partial(_canonical, rank=-1)),
        Mutant("starts-at-one", partial(_canonical, start=1)),
        Mutant(
            "absent-symbols",
            partial(_canonical, absent=True),
            perhaps=(partial(_canonical, kind=None, absent=True),),
        ),
    ),
    banned=("minicomp.codec.huffman:canonical_codes",),
    reference=ENTRIES["canonical_codes"].fn,
)

# --------------------------------------------------------------------------------------- the lesson


def _valid_index(positions, p) -> str | None:
    positions = np.asarray(positions)
    if positions.ndim != 1 or positions.dtype.kind not in "iu" or not 1 <= positions.size <= 10_000:
        return "positions is an array of 1 to 10,000 integers"
    if positions[0] < 0 or (np.diff(positions.astype(np.int64)) < 1).any() or positions[-1] > 10**6:
        return "positions rise, from at least 0 to at most 1,000,000"
    whole = isinstance(p, int | np.integer) and not isinstance(p, bool)
    return None if whole and 1 <= p <= 16 else "p is an integer from 1 to 16"


LESSON = LessonChecks(
    number="17",
    name="deepcompression",
    exercises=(_INDEX, _HUFFMAN, _CANONICAL),
    diagnosis=Diagnosis(
        id="17.broken",
        of=_INDEX,
        shown_by={
            "filler-too-early": (np.array([7]), 3),
            "filler-too-late": (np.array([8]), 3),
            "one-filler-only": (np.array([17]), 3),
            "always-three-bits": (np.array([9]), 4),
        },
        valid=_valid_index,
        agreeing=(np.array([0, 1, 2]), 3),
        several=((np.array([3, 8, 30]), 2),),
        invalid=(np.array([3, 1]), 3),
    ),
    predictions=(Prediction("17.p1", unit="kB", lo=0.1, hi=1066),),
    reflections=(Reflection("17.r1"),),
    numbers=(
        Number("error_dense", "error of the dense net", "%", 2),
        Number("error_final", "error of the file", "%", 2),
        Number("bytes_dense", "dense float32", "B", 0),
        Number("bytes_pruned", "pruned", "B", 0),
        Number("bytes_shared", "pruned, shared", "B", 0),
        Number("bytes_coded", "pruned, shared, Huffman", "B", 0),
        Number("ratio", "dense bytes / file bytes", "x", 1),
        Number("kept", "weights kept", "%", 1),
    ),
)
