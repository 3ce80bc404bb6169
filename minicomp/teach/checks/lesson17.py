"""Lesson 17: relative index, Huffman lengths, canonical codes.

p bits of a gap; K symbols; a length is the number of bits of a symbol's code.
"""

from __future__ import annotations

import heapq

import numpy as np

from ..catalog import LessonChecks, Number, Reflection
from ..asking.exercise import Diagnosis, Exercise, Mutant, Part, Prediction
from ..asking.judge import Message, difference, show

Array = np.ndarray

# ----------------------------------------------------------------------------------- relative index


def relative_index(positions: Array, p: int) -> tuple[Array, Array]:
    """Returns (stored, source) of a relative index of p bits, as codec.index does."""
    return _index(positions, p)


def _index(
    positions, p, *, before=-1, less=1, limit=None, once=False, marked=True
) -> tuple[Array, Array]:
    # Gaps of p bits with fillers; the switches are how the mutants slip.
    largest = limit or 1 << p
    stored, source, at = [], [], before
    for i, position in enumerate(positions):
        gap = int(position) - at
        while gap > largest:
            stored.append((1 << p) - less)
            source.append(-1 if marked else i)
            gap -= 1 << p
            if once:
                break
        stored.append(gap - less)
        source.append(i)
        at = int(position)
    return np.array(stored, np.int64), np.array(source, np.int64)


def _index_tiny(draw):
    yield {"positions": np.array([0, 3]), "p": 3}
    yield {"positions": np.array([0, 3, 14]), "p": 3}
    yield {"positions": np.array([7, 15, 24]), "p": 3}


def _index_property(draw):
    yield {"positions": np.array([], np.int64), "p": 2}
    for _ in range(20):
        gaps = draw.integers(1, draw.choice([3, 9, 40, 200]), draw.integer(1, 15))
        yield {"positions": np.cumsum(gaps) - 1, "p": draw.integer(1, 6)}


def _index_decodes(case, result) -> Message | None:
    # What a decoder finds: cumsum(gap) - 1 at the entries that are no fillers.
    wrong = difference(relative_index(**case), result)
    if wrong and wrong.slug in ("wrong-value", "wrong-shape"):
        stored, source = (np.asarray(r) for r in result)
        if stored.shape == source.shape and stored.ndim == 1:
            back = (np.cumsum(stored + 1) - 1)[source >= 0]
            return Message(
                wrong.slug, wrong.text, f"a decoder finds positions {show(back)}\n{wrong.detail}"
            )
    return wrong


_INDEX = Exercise(
    id="17.relative_index",
    title="Gaps instead of positions",
    minutes=8,
    parts=(
        Part("tiny", 1, _index_tiny, _index_decodes),
        Part("property", 2, _index_property, _index_decodes, hidden=True),
        Part(
            "golden",
            1,
            lambda draw: [{"positions": np.array([3, 4, 8, 25, 26, 100]), "p": 4}],
            _index_decodes,
        ),
    ),
    mutants=(
        Mutant(
            "starts-at-zero",
            lambda positions, p: _index(positions, p, before=0),
            "The first gap was taken from 0. Before the first position lies -1, so that position 0"
            " has gap 1 and a gap is never 0.",
        ),
        Mutant(
            "gap-itself",
            lambda positions, p: _index(positions, p, less=0),
            "The gap itself was stored. p bits hold 0..2^p - 1, and a gap is at least 1: gap - 1 is"
            " stored.",
        ),
        Mutant(
            "filler-too-early",
            lambda positions, p: _index(positions, p, limit=(1 << p) - 1),
            "A gap of exactly 2^p still fits, because gap - 1 is stored; a filler is needed only"
            " above it.",
        ),
        Mutant(
            "one-filler-only",
            lambda positions, p: _index(positions, p, once=True),
            "At most one filler was written. A very long gap needs several: while, not if.",
        ),
        Mutant(
            "fillers-not-marked",
            lambda positions, p: _index(positions, p, marked=False),
            "A filler holds no weight: its source is -1, and its value in the file is 0.",
        ),
    ),
    hints=(
        (
            "Walk along the positions and write down how far each is from the one before. What if"
            " that number does not fit the field?"
        ),
        (
            "gap = position - before (the first: before = -1). While gap > 2^p: store 2^p - 1,"
            " source -1, gap -= 2^p. Then store gap - 1 with the number of the weight."
        ),
        (
            "before = -1; for i, position: gap = position - before; while gap > 2 ** p: append (2"
            " ** p - 1, -1), gap -= 2 ** p; append (gap - 1, i); before = position; return both"
            " lists as arrays"
        ),
    ),
    tolerance="equality: the stored bits are integers",
    banned=("minicomp.codec.index:relative_index", "minicomp.codec.index:gaps"),
    reference=relative_index,
)

# ---------------------------------------------------------------------------------- Huffman lengths


def huffman_lengths(counts: Array) -> Array:
    """Returns Huffman's code lengths; 0 for an absent symbol, 1 for a lone one."""
    return _merge(counts)


def _merge(counts, *, pick=heapq.heappop, absent=False) -> Array:
    # Lengths by merging two at a time; `pick` takes the next of the two.
    heap = [(int(c), [i]) for i, c in enumerate(counts) if c > 0 or absent]
    heapq.heapify(heap)
    lengths = np.zeros(len(counts), np.int64)
    if len(heap) == 1:
        lengths[heap[0][1]] = 1
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


def _flat(counts) -> Array:
    used = np.asarray(counts) > 0
    return np.where(used, max(1, int(np.ceil(np.log2(max(used.sum(), 1))))), 0).astype(np.int64)


def _unary(counts) -> Array:
    order = np.argsort(-np.asarray(counts), kind="stable")
    used = int((np.asarray(counts) > 0).sum())
    lengths = np.zeros(len(counts), np.int64)
    lengths[order[:used]] = np.minimum(np.arange(1, used + 1), max(used - 1, 1))
    return lengths


def _code_lengths(case, result) -> Message | None:
    # Several codes are best: what counts is the total of bits, Kraft's sum and where lengths are 0.
    best, counts = huffman_lengths(case["counts"]), np.asarray(case["counts"])
    wrong = difference(best, result)
    if wrong is None or wrong.slug != "wrong-value":
        return wrong
    got = np.asarray(result, np.int64)
    if ((got > 0) != (counts > 0)).any():
        return Message(
            "wrong-symbols",
            "a symbol that occurs needs a length above 0, one that does not has 0",
            f"got lengths {show(got)}",
        )
    kraft, bits, least = float(np.sum(2.0 ** -got[got > 0])), int(got @ counts), int(best @ counts)
    if (counts > 0).sum() > 1 and kraft != 1:
        return Message(
            "wrong-kraft",
            "the Kraft sum of the lengths, sum 2^-length, is not 1",
            f"sum {kraft:g} of lengths {show(got)}",
        )
    return (
        None
        if bits == least
        else Message(
            "too-many-bits",
            "the code takes more bits than the best one",
            f"{bits} bits with lengths {show(got)}; {least} are enough",
        )
    )


def _counts(draw):
    for i in range(20):
        n = draw.integer(1, 18)
        counts = draw.integers(0 if i % 2 else 1, 60, n) ** draw.integer(1, 3)
        yield {"counts": counts if counts.any() else counts + 1}


def _counts_scaled(draw):
    for _ in range(4):
        counts = draw.integers(1, 50, 8)
        yield [{"counts": counts}, {"counts": 3 * counts}]


def _scaled_costs(case, results) -> Message | None:
    return _code_lengths(case[0], results[0]) or _code_lengths(case[1], results[1])


_HUFFMAN = Exercise(
    id="17.huffman_lengths",
    title="Huffman's lengths",
    minutes=12,
    parts=(
        Part(
            "tiny",
            1,
            lambda draw: [{"counts": np.array(c)} for c in ([2, 1, 1], [5], [4, 0, 2])],
            _code_lengths,
        ),
        Part("property", 2, lambda draw: _counts(draw), _code_lengths, hidden=True),
        Part("invariance", 1, _counts_scaled, _scaled_costs, hidden=True),
        Part(
            "golden",
            1,
            lambda draw: [
                {"counts": np.array([45, 13, 12, 16, 9, 5])},
                {"counts": np.array([1, 1, 2, 3, 5, 8, 13])},
            ],
            _code_lengths,
        ),
    ),
    mutants=(
        Mutant(
            "shannon",
            _shannon,
            "The lengths are -log2 of the share, rounded up. That code is near the best but leaves"
            " codes unused: its Kraft sum is below 1. Huffman merges the two rarest instead.",
        ),
        Mutant(
            "all-equal",
            _flat,
            "All lengths are equal: that is the plain code of ceil(log2 K) bits, which saves"
            " nothing.",
        ),
        Mutant(
            "comb",
            _unary,
            "Lengths 1, 2, 3, ...: after each merge the result went on being merged, however heavy"
            " it was. Put it back among the others and take the two lightest again.",
        ),
        Mutant(
            "absent-symbols",
            lambda counts: _merge(counts, absent=True),
            "Symbols that never occur got a code. They take no part in the merging; their length"
            " is 0.",
        ),
        Mutant(
            "largest-first",
            lambda counts: _merge(counts, pick=_pop_largest),
            "The two heaviest were merged, so frequent symbols lie deepest. The two lightest go"
            " first.",
        ),
    ),
    hints=(
        (
            "The two rarest symbols differ only in their last bit. Glue them together and forget"
            " that they were two."
        ),
        (
            "heap of (count, symbols); take out the two lightest, add 1 to the length of every"
            " symbol in both, put (sum, both) back; until one is left. A lone symbol has length 1,"
            " an absent one 0."
        ),
        (
            "heap = [(count, [i])] where count > 0; lengths = zeros; if one entry: its length is 1;"
            " while two or more: pop a, pop b; lengths[symbols of a and b] += 1; push (a + b,"
            " symbols of both)"
        ),
    ),
    tolerance=(
        "the fewest bits in total and a Kraft sum of exactly 1; which of several best codes is free"
    ),
    banned=(
        "minicomp.codec.huffman:huffman_lengths",
        "minicomp.codec.huffman:package_merge",
        "minicomp.codec.huffman:_merge",
    ),
    reference=huffman_lengths,
)

# ---------------------------------------------------------------------------------- canonical codes


def canonical_codes(lengths: Array) -> Array:
    """Returns the canonical code of each symbol, 0 where its length is 0."""
    return _canonical(lengths)


def _canonical(lengths, *, shift=True, order=None, start=0, absent=False) -> Array:
    lengths = np.asarray(lengths, np.int64)
    codes, code, before = np.zeros(len(lengths), np.int64), start, 0
    chosen = np.argsort(lengths, kind="stable") if order is None else order(lengths)
    for i in chosen:
        if lengths[i] == 0 and not absent:
            continue
        code = code << (int(lengths[i]) - before) if shift and lengths[i] > before else code
        codes[i], code, before = code, code + 1, int(lengths[i])
    return codes


def _lengths(draw):
    for _ in range(20):
        n = draw.integer(1, 14)
        counts = draw.integers(0, 40, n)
        counts[draw.integer(0, n)] += 1
        yield {"lengths": huffman_lengths(counts)}


def _prefix_free(case, result) -> Message | None:
    wrong = difference(canonical_codes(**case), result)
    if wrong and wrong.slug == "wrong-value":
        lengths, codes = np.asarray(case["lengths"]), np.asarray(result, np.int64)
        used = np.flatnonzero(lengths)
        words = [f"{max(int(codes[i]), 0):0{lengths[i]}b}" for i in used]
        for a in words:
            for b in words:
                if a is not b and b.startswith(a):
                    return Message(
                        wrong.slug,
                        "one code begins another, so a decoder cannot tell them apart",
                        f"{a} and {b}\n{wrong.detail}",
                    )
    return wrong


_CANONICAL = Exercise(
    id="17.canonical_codes",
    title="Codes from lengths alone",
    minutes=8,
    parts=(
        Part(
            "tiny",
            1,
            lambda draw: [{"lengths": np.array(x)} for x in ([2, 1, 2], [1, 0, 3, 3, 2])],
            _prefix_free,
        ),
        Part("property", 2, _lengths, _prefix_free, hidden=True),
        Part(
            "golden",
            1,
            lambda draw: [{"lengths": np.array([3, 3, 3, 3, 3, 2, 4, 4])}],
            _prefix_free,
        ),
    ),
    mutants=(
        Mutant(
            "no-shift",
            lambda lengths: _canonical(lengths, shift=False),
            "The code was not lengthened: when the length grows by one, the next code is (code + 1)"
            " << 1.",
        ),
        Mutant(
            "order-of-symbols",
            lambda lengths: _canonical(lengths, order=lambda n: np.arange(len(n))),
            "Codes were given in the order of the symbols. Canonical codes go by length first, then"
            " by symbol.",
        ),
        Mutant(
            "longest-first",
            lambda lengths: _canonical(lengths, order=lambda n: np.argsort(-n, kind="stable")),
            "Codes were given from the longest length on; the shortest code is 0.",
        ),
        Mutant(
            "starts-at-one",
            lambda lengths: _canonical(lengths, start=1),
            "The first code is 0, not 1.",
        ),
        Mutant(
            "absent-symbols",
            lambda lengths: _canonical(lengths, absent=True),
            "A symbol of length 0 never occurs and uses up no code; its entry is 0.",
        ),
    ),
    hints=(
        "Count in binary. When the codes become one bit longer, append a 0 and go on counting.",
        (
            "Sort symbols by (length, symbol). The first code is 0; the next is (code + 1) << (its"
            " length - the length before). Leave out length 0."
        ),
        (
            "code, before = 0, 0; for each symbol in order of (length, symbol), length > 0: "
            "code <<= length - before; codes[symbol] = code; code += 1; before = length"
        ),
    ),
    tolerance="equality: codes are integers, first bit most significant",
    banned=("minicomp.codec.huffman:canonical_codes",),
    reference=canonical_codes,
)

# --------------------------------------------------------------------------------------- the lesson


def _valid_index(positions, p) -> str | None:
    positions = np.asarray(positions)
    if positions.ndim != 1 or positions.dtype.kind not in "iu" or not 1 <= positions.size <= 10_000:
        return "positions is an array of 1 to 10,000 integers"
    if positions[0] < 0 or (np.diff(positions.astype(np.int64)) < 1).any() or positions[-1] > 10**6:
        return "positions rise, from at least 0 to at most 1,000,000"
    return (
        None
        if isinstance(p, int | np.integer) and not isinstance(p, bool) and 1 <= p <= 16
        else "p is an integer from 1 to 16"
    )


LESSON = LessonChecks(
    number="17",
    name="deepcompression",
    title="Deep Compression",
    exercises=(_INDEX, _HUFFMAN, _CANONICAL),
    diagnosis=Diagnosis(
        id="17.broken",
        of=_INDEX,
        slugs=("filler-too-early", "one-filler-only", "fillers-not-marked"),
        valid=_valid_index,
        agreeing=lambda: (np.array([0, 1, 2]), 3),
        invalid=lambda: (np.array([3, 1]), 3),
        hints=(
            "Short gaps never show what happens at the edge of the field.",
            "The answer is a tuple (positions, p). With p = 2 the field ends at a gap of 4.",
            (
                "try gaps of exactly 2^p, of 2^p + 1 and of 3 * 2^p; compare both results; return"
                " the pair that differs"
            ),
        ),
    ),
    predictions=(
        Prediction(
            "17.p1",
            "LeNet-300-100 takes 1,066 kB as float32. How many kB will its file have after all "
            "three stages?",
            "kB",
            lo=0.1,
            hi=1066,
        ),
    ),
    reflections=(
        Reflection(
            "17.r1",
            "Which of the three stages brought least on your run, and would you leave it out? "
            "Say what it costs in code, in time to load and in risk.",
            (
                (
                    3,
                    (
                        "names the stage by its factor in the waterfall; weighs bytes against"
                        " decoder, loading time and a format that must be trusted; reaches a"
                        " decision"
                    ),
                ),
                (2, "factor quoted and one cost named"),
                (1, "a stage named without a number"),
                (0, "neither"),
            ),
        ),
    ),
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
