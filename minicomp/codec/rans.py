"""rANS codes: symbols take close to -log2 p bits, not whole numbers of them as Huffman's.

A symbol's probability is a number of 4096 slots (kernels/coding/rans.py). A table of them stands
before the message:

    last        the last symbol used, in ceil(log2 K) bits; then 1 bit, and where it is 1 a bit for
                each symbol below, whether it is used
    lengths     of all slot counts but that of the last: their bits, 1..12, each as its difference
                from the one before (the first from 12 - log2 of how many are used), 0, -1, 1, -2 as
                0, 1, 2, 3, in a Rice code whose parameter stands before it in 2 bits
    counts      the bits of each below its highest; the last count is what is missing to 4096

The number of bytes, a count, and the message follow, on whole bytes. Messages of 32768 symbols and
more have 32 lanes, shorter ones 1.
"""

from __future__ import annotations

import numpy as np

from ..errors import FormatError
from ..kernels.coding import rans as kernel
from .bits import BitReader, BitWriter, bits_needed, count_cost, rice_cost, unzigzag, zigzag

Array = np.ndarray
LEAST = 257  # symbols of a message
WIDE_FROM = 32768  # symbols of a message with all lanes


def slots(freq: Array) -> Array:
    """Returns how many of 4096 slots each symbol gets, (K,), for counts freq; 0 where it is 0.

    From rounded shares, at least 1, slots are given or taken one at a time where it costs least:
    a slot more saves freq log2(1 + 1 / slots) bits.
    freq : (K,) counts, at least two of them not 0, K <= 256

    >>> slots(np.array([3, 1])).tolist()
    [3072, 1024]
    """
    freq = np.asarray(freq, np.int64)
    found = np.maximum(np.rint(freq * (kernel.SLOTS / freq.sum())).astype(np.int64), freq > 0)
    while (missing := kernel.SLOTS - int(found.sum())) != 0:
        step = 1 if missing > 0 else -1
        room = (freq > 0) & (found + step > 0)
        gain = np.full(len(freq), -np.inf)
        gain[room] = freq[room] * np.log2((found[room] + step) / found[room])
        found[int(np.argmax(gain))] += step
    return found


def lanes_of(n: int) -> int:
    """Returns the lanes of a message of n symbols."""
    return kernel.MAX_LANES if n >= WIDE_FROM else 1


def cost(freq: Array, given: Array) -> int:
    """Returns the bits of table and message, the message's to some bytes.

    freq : (K,) counts        given : (K,) their slots
    """
    used, n = freq > 0, int(freq.sum())
    bits = float(np.sum(freq[used] * np.log2(kernel.SLOTS / given[used])))
    size = int(bits + 24 * lanes_of(n)) // 8 + 1  # 16 bits of a state at its start, half a word
    return table_cost(given) + count_cost(size) + 8 * size + 7


def _table(given: Array) -> tuple[int, Array, Array, Array, int]:
    # last used, bitmap of those before (empty where all are), counts but the last, lengths, Rice k
    used = np.flatnonzero(given)
    last = int(used[-1])
    present = (given[:last] > 0).astype(np.uint8)
    counts = given[used[:-1]].astype(np.int64)
    lengths = np.frexp(counts.astype(np.float64))[1]  # of bits
    differences = zigzag(np.diff(lengths, prepend=_typical(len(used))))
    k = min(range(4), key=lambda k: rice_cost(differences, k))
    return last, present[:0] if present.all() else present, counts, differences, k


def _typical(used: int) -> int:
    return kernel.BITS + 1 - bits_needed(used)


def table_cost(given: Array) -> int:
    """Returns the bits of the table."""
    last, absent, counts, differences, k = _table(given)
    below = int((np.frexp(counts.astype(np.float64))[1] - 1).sum())
    return bits_needed(len(given)) + 1 + len(absent) + 2 + rice_cost(differences, k) + below


def write(w: BitWriter, symbols: Array, given: Array) -> None:
    """Appends table and message of (N,) symbols."""
    last, absent, counts, differences, k = _table(given)
    w.write(last, bits_needed(len(given)))
    w.write(len(absent) > 0, 1)
    w.bits(absent)
    w.write(k, 2)
    w.rice(differences, k)
    for count in counts.tolist():
        w.write(count & (1 << count.bit_length() - 1) - 1, count.bit_length() - 1)
    data = kernel.encode(symbols, given, lanes_of(len(symbols)))
    w.count(len(data))
    w.raw(data.tobytes())


def read_table(r: BitReader, size: int) -> Array:
    """Returns the slots of `size` symbols, int64; FormatError where they are no table."""
    last = r.read(bits_needed(size))
    if not 0 < last < size:
        raise FormatError(f"the last symbol must be in [1, {size - 1}], got {last}")
    used = np.arange(last + 1)
    if r.read(1):
        used = np.append(np.flatnonzero(r.bits(last)), last)
    if not 2 <= len(used):
        raise FormatError("a table of slots must have at least two symbols")
    differences = unzigzag(r.rice(len(used) - 1, r.read(2), 2 * kernel.BITS + 2))
    lengths = _typical(len(used)) + np.cumsum(differences)
    if int(lengths.min()) < 1 or int(lengths.max()) > kernel.BITS:
        raise FormatError(f"counts of slots must have 1..{kernel.BITS} bits")
    given = np.zeros(size, np.int64)
    for symbol, length in zip(used.tolist(), lengths.tolist()):
        given[symbol] = 1 << length - 1 | r.read(length - 1)
    given[last] = kernel.SLOTS - given.sum()
    if given[last] < 1:
        raise FormatError(f"slots must sum to {kernel.SLOTS}")
    return given


def read_message(r: BitReader, n: int, given: Array, part: str) -> Array:
    """Returns n symbols, uint8; FormatError where the message is damaged."""
    data = r.raw(r.count())
    symbols, used, whole = kernel.decode(data, n, given, lanes_of(n))
    if used != len(data) or not whole:
        raise FormatError(f"{part}: a rANS message of {len(data)} bytes does not hold {n} symbols")
    return symbols
