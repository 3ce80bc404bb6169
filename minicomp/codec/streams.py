"""Streams: how one array of symbols, or of floats, lies in a file.

*Symbols* are integers 0..K - 1; the reader knows K and their number. Two bits say how they follow:

    0 plain     each in ceil(log2 K) bits
    1 huffman   a code table, then the codes
    2 four      for long ones: a code table, four counts of bytes, four streams of codes
    3 split     where K is above 4096: their highest 8 bits as symbols, then the others, plain
    3 trits     where K is 3: five in a byte, the first as its lowest digit of base 3
    3 rans      where K is any other up to 256, of 257 symbols and more: codec/rans.py

*Floats* are cut into bytes, most significant first, each *plane* of bytes a stream of symbols. The
bits are rotated left by one before, so that the sign leaves and the first plane is float32's
exponent, which has few values in a trained net; the planes of low mantissa bits look random and
stay plain, or are all 0. Where rising float16 numbers (codec/rising.py) take fewer bits, the two
bits of the first plane say 3, and they follow.

Every read charges its bits to a part, so that the parts of a file add up to its size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import FormatError
from . import huffman, rans, rising
from .bits import BitReader, BitWriter, bits_needed, smallest_dtype

Array = np.ndarray
PLAIN, HUFFMAN, FOUR, SPLIT = 0, 1, 2, 3  # their numbers in a file
TRITS = SPLIT  # of an alphabet that is not split
RANS = SPLIT  # of other small alphabets
RISING = SPLIT  # of the first plane of few floats, which no message of rANS is as short as
POWERS = 3 ** np.arange(5)  # what the trits of a byte count for
HIGH = 8  # bits of a split symbol that are coded
TAG = 2  # bits of such a number
CODERS = ("plain", "huffman", "rans")  # what a caller may force
_BLOCK = 1 << 16  # numbers turned at once


@dataclass(frozen=True)
class Code:
    """How symbols will be written, and in how many bits; for long streams those are an estimate.

    table : of huffman and four their code lengths, of rans its slots
    """

    tag: int
    bits: int
    table: Array | None = None


def choose(freq: Array, coder: str | None = None) -> Code:
    """Returns the cheapest code for symbols that occur freq times.

    freq : (K,) counts        coder : one of CODERS to force it; rans is huffman where it cannot
    Raises ValueError where "huffman" or "rans" is forced on an alphabet above 4096.
    """
    n, width = int(freq.sum()), bits_needed(len(freq))
    if n == 0 or width == 0:
        return Code(PLAIN, 0)
    plain = Code(PLAIN, TAG + n * width)
    if len(freq) > huffman.MAX_SYMBOLS:
        if coder in ("huffman", "rans"):
            raise ValueError(
                f"a Huffman code takes at most {huffman.MAX_SYMBOLS} symbols, got {len(freq)}"
            )
        low = width - HIGH
        split = TAG + n * low + choose(np.add.reduceat(freq, range(0, len(freq), 1 << low))).bits
        return Code(SPLIT, split) if coder is None and split < plain.bits else plain
    coded = _huffman(freq)
    if coder is not None:
        forced = _rans(freq, n) if coder == "rans" and len(freq) != 3 else []
        return plain if coder == "plain" else (forced or [coded])[0]
    best = coded if coded.bits < plain.bits else plain
    if len(freq) == 3:
        trits = TAG + 8 * -(-n // len(POWERS))
        return Code(TRITS, trits) if trits < best.bits else best
    return min([best, *_rans(freq, n)], key=lambda code: code.bits)


def _rans(freq: Array, n: int) -> list[Code]:
    if n < rans.LEAST or len(freq) > rans.kernel.MAX_SYMBOLS or np.count_nonzero(freq) < 2:
        return []
    given = rans.slots(freq)
    return [Code(RANS, TAG + rans.cost(freq, given), given)]


def _huffman(freq: Array) -> Code:
    lengths = huffman.huffman_lengths(freq, huffman.MAX_LENGTH)
    if np.count_nonzero(lengths) == 1:
        return Code(HUFFMAN, TAG + huffman.table_cost(lengths), lengths)
    bits, tag = int((freq * lengths.astype(np.int64)).sum()), HUFFMAN
    if bits >= huffman.FOUR_FROM:
        lengths, tag = huffman.huffman_lengths(freq, huffman.FAST_LENGTH), FOUR
        bits = int((freq * lengths.astype(np.int64)).sum()) + 12 * huffman.STREAMS
    return Code(tag, TAG + huffman.table_cost(lengths) + bits, lengths)


def write_symbols(w: BitWriter, symbols: Array, size: int, coder: str | None = None) -> None:
    """Appends (N,) symbols below `size`, in the cheapest way or as forced."""
    if size == 1 or not len(symbols):
        return
    code = choose(np.bincount(symbols, minlength=size), coder)
    w.write(code.tag, TAG)
    if code.tag == PLAIN:
        w.numbers(symbols, bits_needed(size))
        return
    if code.tag == TRITS and size == 3:
        w.numbers(_as_bytes(symbols), 8)
        return
    if code.tag == RANS and size <= rans.kernel.MAX_SYMBOLS:
        rans.write(w, symbols, code.table)
        return
    if code.tag == SPLIT:
        low = bits_needed(size) - HIGH
        write_symbols(w, symbols >> low, (size - 1 >> low) + 1)
        w.numbers(symbols & (1 << low) - 1, low)
        return
    huffman.write_table(w, code.table)
    if code.tag == HUFFMAN:
        data, bits = huffman.encode(symbols, code.table)
        w.bits(np.unpackbits(data, count=bits, bitorder="little"))
        return
    streams = huffman.encode_four(symbols, code.table)
    for stream in streams:
        w.count(len(stream))
    w.raw(b"".join(stream.tobytes() for stream in streams))


def read_symbols(r: BitReader, n: int, size: int, part: str) -> Array:
    """Returns n symbols below `size`, in the smallest unsigned dtype, charged to `part`.

    Raises FormatError where the stream is damaged; n must be bounded by the caller, for a lone
    symbol takes no bits however often it occurs.
    """
    if size == 1 or n == 0:
        return np.zeros(n, np.uint8)
    tag = r.read(TAG)
    r.charge("header")
    if tag == PLAIN:
        symbols = r.numbers(n, bits_needed(size))
        if int(symbols.max()) >= size:
            raise FormatError(f"{part}: a symbol must be below {size}, got {symbols.max()}")
    elif tag == SPLIT and size > huffman.MAX_SYMBOLS:
        low = bits_needed(size) - HIGH
        high = read_symbols(r, n, (size - 1 >> low) + 1, part)
        symbols = high.astype(smallest_dtype(low + HIGH)) << low
        symbols |= r.numbers(n, low)
        if int(symbols.max()) >= size:
            raise FormatError(f"{part}: a symbol must be below {size}, got {symbols.max()}")
    elif tag == TRITS and size == 3:
        symbols = _as_trits(r.numbers(-(-n // len(POWERS)), 8), n, part)
    elif tag == RANS and 3 != size <= rans.kernel.MAX_SYMBOLS and n >= rans.LEAST:
        given = rans.read_table(r, size)
        r.charge("tables")
        symbols = rans.read_message(r, n, given, part)
    elif tag in (HUFFMAN, FOUR) and size <= huffman.MAX_SYMBOLS:
        lengths = huffman.read_table(r, size)
        r.charge("tables")
        used = int(np.count_nonzero(lengths))
        if used > n:
            raise FormatError(f"{part}: a code of {used} symbols for {n} has some that never occur")
        symbols = (_read_one if tag == HUFFMAN else _read_four)(r, n, lengths, used == 1)
    else:
        raise FormatError(f"{part}: no coder {tag} for {size} symbols")
    r.charge(part)
    return symbols


def _as_bytes(trits: Array) -> Array:
    rows = np.zeros((-(-len(trits) // len(POWERS)), len(POWERS)), np.uint8)
    rows.reshape(-1)[:len(trits)] = trits
    return rows @ POWERS


def _as_trits(data: Array, n: int, part: str) -> Array:
    trits = np.empty((len(data), len(POWERS)), np.uint8)
    for i, power in enumerate(POWERS.astype(np.uint8)):
        trits[:, i] = data // power % 3
    trits = trits.reshape(-1)
    if int(data.max()) >= 3 ** len(POWERS) or trits[n:].any():
        raise FormatError(f"{part}: a byte of trits must be below 243, and 0 behind the last, got "
                          f"{data.max()}")
    return trits[:n]


def _read_one(r: BitReader, n: int, lengths: Array, lone: bool) -> Array:
    if lone:
        return np.full(n, lengths.argmax(), smallest_dtype(bits_needed(len(lengths))))
    symbols, r.position = huffman.decode(r.data, r.position, n, lengths)
    return symbols


def _read_four(r: BitReader, n: int, lengths: Array, lone: bool) -> Array:
    sizes = np.array([r.count() for _ in range(huffman.STREAMS)])
    return huffman.decode_four(r.raw(int(sizes.sum())), sizes, n, lengths)


def write_floats(w: BitWriter, values: Array, coder: str | None = None) -> None:
    """Appends float32 or float16 numbers, or the bits of bfloat16 as uint16, any shape, in C order.
    """
    if coder is None and rising.fits(values):
        K, bits = rising.best(values)
        if TAG + bits < floats_cost(values):
            w.write(RISING, TAG)
            rising.write(w, values, K)
            return
    for plane in _planes(values):
        write_symbols(w, plane, 256, coder)


def floats_cost(values: Array, zeros: int = 0, coder: str | None = None) -> int:
    """Returns the bits that write_floats takes for the values and so many zeros, in any order."""
    bits = 0
    for plane in _planes(values):
        freq = np.bincount(plane, minlength=256)
        freq[0] += zeros
        bits += choose(freq, coder).bits
    return bits


def _planes(values: Array) -> Array:
    width = 8 * values.dtype.itemsize
    u = np.ascontiguousarray(values, values.dtype.newbyteorder("<")).ravel().view(f"<u{width // 8}")
    rotated = (u << 1 | u >> (width - 1)).astype(f">u{width // 8}")
    return rotated.view(np.uint8).reshape(-1, width // 8).T


def read_floats(r: BitReader, n: int, dtype: type, part: str) -> Array:
    """Returns n numbers of dtype float32 or float16, or bits of bfloat16 as uint16.

    FormatError where a float is NaN or infinite; of bits, whoever turns them into floats asks.
    """
    if dtype is np.float16 and 0 < n < rans.LEAST and r.peek(TAG) == RISING:
        r.read(TAG)
        values = rising.read(r, n, part)
        r.charge(part)
        return values
    size = np.dtype(dtype).itemsize
    planes = np.empty((n, size), np.uint8)
    for i in range(size):
        planes[:, size - 1 - i] = read_symbols(r, n, 256, part)  # the most significant comes first
    u = planes.reshape(-1).view(f"<u{size}")
    values = u.view(np.dtype(dtype).newbyteorder("<"))
    for first in range(0, n, _BLOCK):  # in place
        block = u[first : first + _BLOCK]
        block[...] = block >> 1 | block << (8 * size - 1)
        if not np.isfinite(values[first : first + _BLOCK]).all():
            raise FormatError(f"{part}: numbers must be finite, got NaN or infinity")
    return values.astype(dtype, copy=False)


def all_bits_zero(values: Array) -> Array:
    """Returns where a value is 0 and not -0, which is how a filler is stored."""
    return values.view(f"u{values.itemsize}") == 0


def as_symbols(values: Array, size: int) -> Array:
    """Returns integers below `size` in the smallest unsigned dtype that holds size - 1."""
    return values.astype(smallest_dtype(bits_needed(size)), copy=False)
