"""Decoding canonical Huffman codes (see codec/huffman.py for the codes themselves).

Codes lie first bit first in a stream whose bits run from the least significant of byte 0 upward, so
the next 15 bits, taken as a number, index a table of symbols. A complete code (Kraft sum 1) gives
every index a symbol.

    decode(data, starts, counts, lengths) -> (symbols, ends)

A long stream comes as several that are independent of each other: a decoder waits for the table
about as long as it takes to start three more look-ups.
"""

from __future__ import annotations

import numpy as np

from .. import cpu, doors
from ..threads import threads

Array = np.ndarray
MAX_LENGTH = 15
MAX_SYMBOLS = 4096
MOST = 2**31 - 1  # symbols of one call


def decode(
    data: Array,
    starts: Array,
    counts: Array,
    lengths: Array,
    *,
    isa: str = "auto",
    n_threads: int = 1,
) -> tuple[Array, Array]:
    """Returns (symbols, ends): of all streams one after another; the bit after each stream.

    data : uint8 (B,)        starts : (S,) first bit of each stream        counts : (S,) symbols of
        each
    lengths : (K,) code lengths, 0 where a symbol has none, at most 15, with a Kraft sum of 1, K <=
        4096
    symbols : uint8 (K <= 256) or uint16        ends : (S,) int64
    isa : rung, see kernels/cpu.py        n_threads : no effect, one core decodes all streams side
        by side
    Bits past the end of `data` read as 0; an end beyond 8 B tells that it happened.
    Raises ValueError where the lengths are no complete code, a start lies beyond the data, a count
        is negative, or all counts together pass MOST.
    """
    threads(n_threads)
    data = doors.stream("data", data)
    doors.integers("starts", starts, 1)
    doors.integers("counts", counts, 1)
    doors.integers("lengths", lengths, 1)
    used = lengths[lengths != 0].astype(np.int64)
    if (
        not 2 <= len(used)
        or len(lengths) > MAX_SYMBOLS
        or not 1 <= used.min() <= used.max() <= MAX_LENGTH
        or int((1 << (MAX_LENGTH - used)).sum()) != 1 << MAX_LENGTH
    ):
        raise ValueError(
            f"lengths must be a complete code of 2..{MAX_SYMBOLS} symbols "
            f"and at most {MAX_LENGTH} bits"
        )
    if (
        len(starts) != len(counts)
        or (starts < 0).any()
        or (starts > 8 * len(data)).any()
        or (counts < 0).any()
        or sum(counts.tolist()) > MOST  # of Python's integers, which do not overflow
    ):
        raise ValueError(f"starts must lie in [0, {8 * len(data)}], counts be >= 0, as many, and "
                         f"at most {MOST} together")
    starts, counts = np.ascontiguousarray(starts, np.int64), np.ascontiguousarray(counts, np.int64)
    lengths = np.ascontiguousarray(lengths, np.uint8)
    if cpu.resolve(isa, "coding") == 0:
        return decode_ref(data, starts, counts, lengths)
    symbols = np.empty(int(counts.sum()), symbol_dtype(len(lengths)))
    ends = np.empty(len(starts), np.int64)
    module = cpu.kernel_module("coding")
    run = module.huffman8 if symbols.dtype == np.uint8 else module.huffman16
    run(data, starts, counts, lengths, symbols, ends)
    return symbols, ends


def decode_ref(data: Array, starts: Array, counts: Array, lengths: Array) -> tuple[Array, Array]:
    """Returns what `decode` returns: one look-up a symbol, in Python."""
    table = symbol_table(lengths)
    longest = len(table).bit_length() - 1
    found, width = table.tolist(), lengths.tolist()
    stream, symbols, ends = data.tobytes() + bytes(8), [], []
    for at, count in zip(starts.tolist(), counts.tolist()):
        byte, have = at // 8, -(at % 8)  # `have` bits wait in `bits`
        bits = 0
        for _ in range(count):
            while have < longest:
                value = stream[byte] if byte < len(stream) else 0
                bits |= value << have if have >= 0 else value >> -have
                byte, have = byte + 1, have + 8
            symbol = found[bits & (len(found) - 1)]
            symbols.append(symbol)
            bits, have, at = bits >> width[symbol], have - width[symbol], at + width[symbol]
        ends.append(at)
    return np.array(symbols, symbol_dtype(len(lengths))), np.array(ends, np.int64)


def symbol_table(lengths: Array) -> Array:
    """Returns the symbol that the next `longest` bits begin with, uint16 (2**longest,)."""
    longest = int(lengths.max())
    table, code, before = np.zeros(1 << longest, np.uint16), 0, 0
    for symbol in sorted(np.flatnonzero(lengths).tolist(), key=lambda s: (lengths[s], s)):
        length = int(lengths[symbol])
        code <<= length - before
        first = int(format(code, f"0{length}b")[::-1], 2)  # the code's first bit comes lowest
        table[first :: 1 << length] = symbol
        code, before = code + 1, length
    return table


def symbol_dtype(k: int) -> type:
    """Returns the dtype of the symbols 0..k - 1 that `decode` returns."""
    return np.uint8 if k <= 256 else np.uint16
