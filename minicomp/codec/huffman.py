"""Huffman codes: frequent symbols get short codes, and no code begins another.

Huffman 1952 merges the two least frequent symbols into one until one is left; a symbol's *length*
is the number of merges it went through. No prefix code takes fewer bits, and
H <= bits a symbol < H + 1, H being the entropy. *Canonical* codes follow from the lengths alone
(codes in order of length, then of symbol, each the one before plus 1), so a file stores lengths
only.

A decoder looks up the next L bits in a table, so no code may be longer than L. The best code under
that limit comes from package-merge (Larmore & Hirschberg 1990): a code of length l is bought as one
coin each of the values 2^-1 ... 2^-l, at the symbol's frequency a coin, and the cheapest coins
worth K - 1 are wanted. From the smallest value up, coins are paired into packages of the next
value, and the 2 K - 2 cheapest of the last list are taken.

A lone symbol has length 1 as a mark and takes no bits; otherwise lengths satisfy Kraft's
sum(2^-length) = 1 exactly, so that every string of bits means something and a decoder cannot meet a
code that is none.
"""

from __future__ import annotations

import heapq

import numpy as np

from ..errors import FormatError
from ..kernels.coding import huffman as kernel
from .bits import BitReader, BitWriter, bits_needed, rice_cost, unzigzag, zigzag

Array = np.ndarray
MAX_LENGTH = kernel.MAX_LENGTH  # 15: of any code
FAST_LENGTH = 12  # of a long stream: its table fits the first-level cache
MAX_SYMBOLS = kernel.MAX_SYMBOLS  # 4096: of an alphabet
STREAMS = 4  # a long stream is cut into four that are decoded side by side
FOUR_FROM = 8 * 16384  # bits; below, three more lengths in the file would cost more than 0.1 %


def entropy_bits(freq: Array) -> float:
    """Returns the bits that no code of single symbols undercuts: -sum(f log2(f / sum f)).

    >>> entropy_bits(np.array([2, 1, 1]))
    6.0
    """
    f = np.asarray(freq, np.float64)
    f = f[f > 0]
    return float(np.sum(f * np.log2(f.sum() / f))) if len(f) > 1 else 0.0


def huffman_lengths(freq: Array, limit: int | None = None) -> Array:
    """Returns the code length of each symbol, uint8 (K,); 0 at frequency 0, 1 for a lone symbol.

    freq : (K,) integers >= 0        limit : no length exceeds it (package-merge), or None (plain
        Huffman)
    Several codes may take the same fewest bits; this is one of them, with frequent symbols never
    longer.
    Raises ValueError where the symbols do not fit codes of `limit` bits, or a frequency is
    negative.

    >>> huffman_lengths(np.array([5, 2, 1, 1])).tolist()
    [1, 2, 3, 3]
    """
    freq = np.asarray(freq, np.int64)
    if (freq < 0).any():
        raise ValueError(f"freq must be >= 0, got {freq.min()}")
    used = np.flatnonzero(freq)
    order = used[np.argsort(freq[used], kind="stable")]  # rising frequency
    lengths = np.zeros(len(freq), np.uint8)
    if len(order) <= 1:
        lengths[order] = 1
    elif limit is None:
        lengths[order] = _merge(freq[order])
    else:
        lengths[order] = package_merge(freq[order], limit)
    return lengths


def _merge(freq: Array) -> Array:
    # Huffman's algorithm on (K,) rising frequencies, K >= 2 -> lengths, falling
    heap = [
        (int(f), i) for i, f in enumerate(freq)
    ]  # sorted, hence a heap; ties: symbols first, then merges
    parent = [0] * (2 * len(heap) - 1)
    for new in range(len(heap), len(parent)):
        f, a = heapq.heappop(heap)
        g, b = heapq.heappop(heap)
        parent[a] = parent[b] = new
        heapq.heappush(heap, (f + g, new))
    depth = [0] * len(parent)
    for node in range(len(parent) - 2, -1, -1):  # the root is last, parents come after children
        depth[node] = depth[parent[node]] + 1
    lengths = np.array(depth[: len(freq)])
    if lengths.max() > 255:
        raise ValueError("a code is longer than 255 bits; give a limit")
    return lengths


def package_merge(freq: Array, limit: int) -> Array:
    """Returns the optimal code lengths of at most `limit` bits, (K,), falling.

    freq : (K,) rising frequencies, K >= 2
    Raises ValueError where 2**limit < K.        Source: Larmore & Hirschberg 1990
    """
    if limit < 1 or len(freq) > 1 << limit:
        raise ValueError(
            f"limit must be at least {bits_needed(len(freq))} for {len(freq)} symbols, got {limit}"
        )
    packages, leaf = np.zeros(0, np.int64), []
    for _ in range(limit):  # from coins of value 2^-limit to those of 2^-1
        cost = np.concatenate([freq, packages])
        order = np.argsort(cost, kind="stable")
        leaf.append(order < len(freq))  # which coins of this value are symbols' own
        cost = cost[order]
        packages = cost[: len(cost) & ~1].reshape(-1, 2).sum(1)
    lengths, take = np.zeros(len(freq), np.int64), 2 * len(freq) - 2
    for is_leaf in reversed(leaf):
        own = int(
            np.count_nonzero(is_leaf[:take])
        )  # the cheapest coins are those of the rarest symbols
        lengths[:own] += 1
        take = 2 * (take - own)  # the rest are packages of two coins of the next smaller value
    return lengths


def canonical_codes(lengths: Array) -> Array:
    """Returns the canonical code of each symbol, uint32 (K,), its first bit most significant.

    lengths : (K,) code lengths whose Kraft sum is at most 1
    Raises ValueError where it is more.

    >>> canonical_codes(np.array([2, 1, 3, 3])).tolist()
    [2, 0, 6, 7]
    """
    lengths = np.asarray(lengths, np.int64)
    top = int(lengths.max(initial=0))
    if top > 32 or int((1 << (top - lengths[lengths > 0])).sum()) > 1 << top:
        raise ValueError("lengths must be at most 32 with a Kraft sum of at most 1")
    codes, code = np.zeros(len(lengths), np.uint32), 0
    for length in range(1, top + 1):
        code <<= 1
        symbols = np.flatnonzero(lengths == length)
        codes[symbols] = code + np.arange(len(symbols))
        code += len(symbols)
    return codes


def check_lengths(lengths: Array) -> None:
    """Raises FormatError unless exactly one symbol has length 1, or sum(2^-length) is exactly 1."""
    used = np.asarray(lengths, np.int64)
    used = used[used > 0]
    if len(used) == 1 and used[0] == 1:
        return
    top = int(used.max(initial=0))
    if not len(used) or top > MAX_LENGTH or int((1 << (top - used)).sum()) != 1 << top:
        raise FormatError(
            f"code lengths must be at most {MAX_LENGTH} with a Kraft sum of exactly 1"
        )


def reverse_bits(codes: Array, lengths: Array) -> Array:
    """Returns codes with their first bit least significant, as they lie in a stream, uint64."""
    spread = np.asarray(codes, np.uint64)
    out = np.zeros(len(spread), np.uint64)
    for _ in range(int(np.max(lengths, initial=0))):
        out = out << np.uint64(1) | spread & np.uint64(1)
        spread = spread >> np.uint64(1)
    return out >> (np.uint64(np.max(lengths, initial=0)) - np.asarray(lengths, np.uint64))


def encode(symbols: Array, lengths: Array) -> tuple[Array, int]:
    """Returns (bytes uint8, number of bits) of the symbols' canonical codes, one after another.

    symbols : (N,) integers below K        lengths : (K,), at most 15; every symbol that occurs has
        one
    Raises ValueError where a symbol has no code.

    >>> encode(np.array([0, 1, 0]), np.array([1, 2, 2]))[0].tolist()  # 0, 1 0, 0, lowest bit first
    [2]
    """
    lengths = np.asarray(lengths)
    width = lengths[symbols].astype(np.int64)
    if np.count_nonzero(lengths) == 1 or not len(width):
        width = np.zeros(len(width), np.int64)
    elif int(width.min()) == 0:
        raise ValueError("a symbol has no code")
    ends = np.cumsum(width)
    bits = int(ends[-1]) if len(ends) else 0
    if not bits:
        return np.zeros(0, np.uint8), 0
    start = ends - width
    code = reverse_bits(canonical_codes(lengths), lengths)[symbols] << (start & 31).astype(
        np.uint64
    )
    # Codes that begin in the same 32-bit word do not overlap: their sum is their union, below 2^47.
    word = start >> 5
    first = np.flatnonzero(np.diff(word, prepend=-1))
    total = np.add.reduceat(code, first)
    words = np.zeros(int(word[-1]) + 2, np.uint64)
    words[word[first]] = total & np.uint64(0xFFFFFFFF)
    words[word[first] + 1] |= total >> np.uint64(32)
    return words.astype("<u4").view(np.uint8)[: -(-bits // 8)], bits


def decode(
    data: Array, start: int, n: int, lengths: Array, *, isa: str = "auto"
) -> tuple[Array, int]:
    """Returns (n symbols, bit after the last one) of a stream of canonical codes.

    data : uint8        start : first bit        lengths : (K,) code lengths
    Raises FormatError where lengths are no complete code or the stream ends before the n-th symbol.
    """
    check_lengths(lengths)
    if np.count_nonzero(lengths) == 1:
        dtype = kernel.symbol_dtype(len(lengths))
        return np.full(n, np.flatnonzero(lengths)[0], dtype), start
    if n > 8 * len(data) - start:
        raise FormatError(
            f"{n} symbols need more than the {8 * len(data) - start} bits that are left"
        )
    symbols, ends = kernel.decode(data, np.array([start]), np.array([n]), lengths, isa=isa)
    if ends[0] > 8 * len(data):
        raise FormatError(f"a Huffman stream ends before its {n} symbols")
    return symbols, int(ends[0])


def encode_four(symbols: Array, lengths: Array) -> list[Array]:
    """Returns four streams of bytes, each of the next quarter (`quarters`) of the symbols."""
    return [
        encode(part, lengths)[0]
        for part in np.split(symbols, np.cumsum(quarters(len(symbols)))[:-1])
    ]


def decode_four(data: Array, sizes: Array, n: int, lengths: Array, *, isa: str = "auto") -> Array:
    """Returns the n symbols of four streams that lie one after another, decoded side by side.

    data : uint8        sizes : (4,) bytes of each stream, their sum that of `data`
    Raises FormatError where one does not end in the last byte of its stream, with zeros after it.
    """
    check_lengths(lengths)
    stops = 8 * np.cumsum(sizes)
    if np.count_nonzero(lengths) == 1 or stops[-1] != 8 * len(data) or n > stops[-1]:
        raise FormatError(f"four streams of {len(data)} bytes cannot hold {n} symbols")
    symbols, ends = kernel.decode(
        data, stops - 8 * np.asarray(sizes), quarters(n), lengths, isa=isa
    )
    for i, (end, stop) in enumerate(zip(ends.tolist(), stops.tolist())):
        if not stop - 8 < end <= stop or (end % 8 and data[end // 8] >> end % 8):
            raise FormatError(f"Huffman stream {i + 1} of 4 does not end where its bytes end")
    return symbols


def quarters(n: int) -> Array:
    """Returns how many of n symbols go into each stream, (4,): ceil(n / 4) while there are any."""
    each = -(-n // STREAMS)
    return np.diff(np.minimum(np.arange(STREAMS + 1) * each, n))


def write_table(w: BitWriter, lengths: Array) -> None:
    """Appends code lengths.

    The last symbol used; a bitmap, if not all below it are used; then the lengths in order, each as
    its difference from the one before, in the shortest Rice code. Kraft's sum gives the last.

    lengths : (K,) a complete code, or a lone symbol; the reader knows K
    """
    last, absent, differences, k = _table(lengths)
    w.write(last, bits_needed(len(lengths)))
    if last:
        w.write(len(absent) > 0, 1)
        w.bits(absent)
    if len(differences):
        w.write(k, 2)
        w.rice(differences, k)


def table_cost(lengths: Array) -> int:
    """Returns the bits that write_table takes."""
    last, absent, differences, k = _table(lengths)
    cost = bits_needed(len(lengths)) + (last > 0) + len(absent)
    return cost + (2 + rice_cost(differences, k) if len(differences) else 0)


def _table(lengths: Array) -> tuple[int, Array, Array, int]:
    used = np.flatnonzero(lengths)
    last = int(used[-1])
    present = np.zeros(last, np.uint8)
    present[used[:-1]] = 1
    values = np.asarray(lengths, np.int64)[used[:-1]]  # all but the last, which Kraft gives
    differences = zigzag(np.diff(values, prepend=_typical(len(used))))
    k = min(range(4), key=lambda k: rice_cost(differences, k))
    return last, present if not present.all() else present[:0], differences, k


def _typical(used: int) -> int:
    # The length to which the first is compared: that of a flat code.
    return bits_needed(used)


def read_table(r: BitReader, size: int) -> Array:
    """Returns the code lengths, uint8 (size,), that write_table wrote; FormatError if no code."""
    last = r.read(bits_needed(size))
    if last >= size:
        raise FormatError(f"symbol must be below {size}, got {last}")
    used, lengths = np.arange(last + 1), np.zeros(size, np.uint8)
    if last and r.read(1):
        used = np.append(np.flatnonzero(r.bits(last)), last)
        if len(used) > last:
            raise FormatError("a bitmap of absent symbols has none")
    if len(used) == 1:
        lengths[last] = 1
        return lengths
    values = _typical(len(used)) + np.cumsum(
        unzigzag(r.rice(len(used) - 1, r.read(2), 2 * MAX_LENGTH + 2))
    )
    if int(values.min()) < 1 or int(values.max()) > MAX_LENGTH:
        raise FormatError(
            f"code lengths must be in [1, {MAX_LENGTH}], got {values.min()} to {values.max()}"
        )
    room = (1 << MAX_LENGTH) - int(
        (1 << (MAX_LENGTH - values)).sum()
    )  # what the last code must fill
    if room < 1 or room & (room - 1):
        raise FormatError("code lengths leave no last length with a Kraft sum of exactly 1")
    lengths[used[:-1]] = values
    lengths[last] = MAX_LENGTH + 1 - room.bit_length()
    return lengths
