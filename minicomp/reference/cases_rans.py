"""The reference functions of arithmetic coding, rANS and entropies, and their cases."""

from __future__ import annotations

import numpy as np

from ..codec.arithmetic import decode_bits, encode_bits
from ..codec.entropy import adaptive_bits, conditional_bits, order0_bits
from ..codec.rans import slots
from ..kernels.coding import rans
from .draw import Draw
from .entry import CLOSE, Case, Cases, Entry
from .judges import Message, difference

Array = np.ndarray
_SHANNON = "Shannon 1948, theorem 9"


def rans_encode(symbols: Array, freq: Array, lanes: int) -> Array:
    """Returns the bytes of a rANS message; see kernels/coding/rans.py."""
    return rans.encode(symbols, freq, lanes)


def rans_decode(data: Array, n: int, freq: Array, lanes: int) -> Array:
    """Returns the n symbols of a rANS message."""
    return rans.decode(data, n, freq, lanes)[0]


def _skewed(draw: Draw, n: int, k: int) -> Array:
    # small symbols are frequent
    return np.minimum(draw.integers(0, k, n), draw.integers(0, k, n))


def _symbols(draw: Draw) -> list[Case]:
    return [{"symbols": _skewed(draw, n, k)} for n in (1, 2, 9, 65, 300) for k in (1, 2, 7, 40)]


SYMBOLS = Cases(
    tiny=[{"symbols": np.array(a)} for a in ([0, 0, 1, 2], [5], [1, 1, 1], [0, 1])],
    property=_symbols,
)


def _in_contexts(draw: Draw) -> list[Case]:
    return [case | {"contexts": draw.integers(0, 4, len(case["symbols"]))}
            for case in _symbols(draw)]


CONTEXTS = Cases(
    tiny=[{"symbols": np.array([0, 0, 1, 2]), "contexts": np.array(c)}
          for c in ([5, 5, 6, 6], [0, 0, 0, 0], [0, 1, 2, 3])],
    property=_in_contexts,
)


def _counted(draw: Draw) -> list[Case]:
    return [case | {"k": int(case["symbols"].max()) + 1 + more, "first": first}
            for case in _symbols(draw) for more in (0, 3) for first in (0.5, 1.0)]


COUNTED = Cases(
    tiny=[{"symbols": np.array(a), "k": 2, "first": 0.5} for a in ([0], [0, 0, 1], [1, 0, 1, 0])],
    property=_counted,
)


def _bits(draw: Draw) -> list[Case]:
    cases = []
    for n in (1, 8, 65, 300):
        for hi in (2, 1000, 65536):
            p = draw.integers(1, hi, n) if hi > 2 else np.ones(n, np.int64)
            cases.append({"bits": (draw.integers(0, 65536, n) < p).astype(np.int64), "p": p})
    return cases


BITS = Cases(
    tiny=[{"bits": np.array(b), "p": np.full(len(b), 32768)} for b in ([0], [1], [0, 0, 1])],
    property=_bits,
    # improbable bits at the far end: carries run through bytes of 255
    carries=[{"bits": np.array([0] * 40 + [1] * 3), "p": np.array([1] * 40 + [65535] * 3)},
             {"bits": np.array([1, 0] * 30), "p": np.array([65535, 1] * 30)}],
)


def _coded(draw: Draw) -> list[Case]:
    cases = [*BITS.groups["tiny"], *_bits(draw), *BITS.groups["carries"]]
    return [{"data": encode_bits(case["bits"], case["p"]), "p": case["p"]} for case in cases]


def _messages(draw: Draw) -> list[Case]:
    cases = []
    for n in (0, 1, 31, 33, 65, 200):
        for k in (2, 5, 40):
            symbols = _skewed(draw, n, k)
            freq = slots(np.bincount(symbols, minlength=k) + 1)
            cases += [{"symbols": symbols, "freq": freq, "lanes": lanes} for lanes in (1, 32)]
    return cases


MESSAGES = Cases(
    tiny=[{"symbols": np.array(a, np.int64), "freq": np.array([2048, 2048]), "lanes": 1}
          for a in ([], [1], [0, 1], [1] * 17)],
    property=_messages,
)


def _received(draw: Draw) -> list[Case]:
    return [{"data": rans_encode(case["symbols"], case["freq"], case["lanes"]),
             "n": len(case["symbols"]), "freq": case["freq"], "lanes": case["lanes"]}
            for case in MESSAGES(draw)]


def _frequencies(draw: Draw) -> list[Case]:
    return [{"freq": draw.integers(1, hi, k)} for k in (2, 3, 16, 200) for hi in (2, 50, 9000)]


FREQUENCIES = Cases(
    tiny=[{"freq": np.array(a)} for a in ([3, 1], [1, 1], [5, 0, 3], [10**6, 1])],
    property=_frequencies,
)


def judge_slots(case: Case, result) -> Message | None:
    """Several tables are best: the bits of the message decide, the sum, and where slots are 0."""
    freq, best = np.asarray(case["freq"]), slots(case["freq"])
    wrong = difference(best, result)
    if wrong is None or wrong.slug != "wrong-value":
        return wrong
    got = np.asarray(result, np.int64)
    if got.sum() != rans.SLOTS:
        return Message("wrong-sum", f"slots must sum to {rans.SLOTS}", f"sum {got.sum()}")
    if ((got > 0) != (freq > 0)).any():
        return Message("lost", "a symbol that occurs needs a slot, one that does not has none")
    mine, least = ((freq * np.log2(rans.SLOTS / np.maximum(s, 1))).sum() for s in (got, best))
    if mine <= least * (1 + 1e-9):
        return None
    return Message("too-many-bits", "the message takes more bits than with the best slots",
                   f"{mine:.6g} bits; {least:.6g} are enough")


_WORDS = "bytes are equal: 12 bits of slots, states in [2^16, 2^32), words of 16 bits"
_RANGE = "bytes are equal: carries, 32-bit interval, fewest bytes at the end"
RANS = {
    "order0_bits": Entry(order0_bits, SYMBOLS, CLOSE, _SHANNON, rtol=1e-9),
    "conditional_bits": Entry(conditional_bits, CONTEXTS, CLOSE, _SHANNON, rtol=1e-9),
    "adaptive_bits": Entry(adaptive_bits, COUNTED, CLOSE, "Krichevsky & Trofimov 1981", rtol=1e-9),
    "encode_bits": Entry(encode_bits, BITS, _RANGE, "Martin 1979"),
    "decode_bits": Entry(decode_bits, _coded, "bits are equal", "Martin 1979"),
    "rans_slots": Entry(slots, FREQUENCIES, "fewest bits of the message", "Duda 2013",
                        judge=judge_slots),
    "rans_encode": Entry(rans_encode, MESSAGES, _WORDS, "Duda 2013, arXiv 1311.2540"),
    "rans_decode": Entry(rans_decode, _received, _WORDS, "Duda 2013, arXiv 1311.2540"),
}
