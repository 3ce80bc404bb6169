"""Bits: the order they lie in, and how numbers narrower than a byte are packed.

One order serves every stream: bit i of a stream is bit (i mod 8), counted from the least
significant, of byte i // 8. Read as little-endian 64-bit words, bit i is bit (i mod 64) of word
i // 64. A number goes least significant bit first; a Huffman code goes first bit first, so its
table is indexed by the next bits as they lie. The bits that fill up the last byte are 0, and a
reader refuses anything else.

    values 5, 2, 7 of 3 bits: 101 010 111 -> bits 1 0 1 0 1 0 1 1 | 1 -> bytes 0b11010101, 0b1

N numbers of W bits take ceil(N W / 8) bytes.
"""

from __future__ import annotations

import numpy as np

from ..errors import FormatError

Array = np.ndarray
MAX_WIDTH = 32  # bits of a packed number
_BLOCK = 1 << 16  # numbers unpacked at once: a multiple of 8, so blocks end on bytes


def pack_bits(values: Array, width: int) -> Array:
    """Returns numbers of `width` bits as bytes, uint8 (ceil(N * width / 8),).

    values : (N,) integers in 0..2**width - 1        width : 0..32; at 0 all values are 0
    Raises ValueError where width or a value is out of range.

    >>> pack_bits(np.array([5, 2, 7]), 3).tolist()
    [213, 1]
    """
    return np.packbits(_bits_of(values, width), bitorder="little")


def unpack_bits(data: Array, width: int, n: int) -> Array:
    """Returns the n numbers of `width` bits that `data` holds, in the smallest unsigned dtype.

    data : uint8 (ceil(n * width / 8),) or bytes        width : 0..32        n : count of numbers
    Raises ValueError where width is out of range, FormatError where `data` has another length or a
    bit past the last number is set.

    >>> unpack_bits(np.array([213, 1], np.uint8), 3, 3).tolist()
    [5, 2, 7]
    """
    _check_width(width)
    data = np.frombuffer(data, np.uint8)
    if data.size != -(-n * width // 8):
        raise FormatError(
            f"{n} numbers of {width} bits take {-(-n * width // 8)} bytes, got {data.size}"
        )
    if (n * width) % 8 and data[-1] >> (n * width) % 8:
        raise FormatError(f"a bit is set after the last of {n} numbers of {width} bits")
    out = np.zeros(n, smallest_dtype(width))
    for first in range(0, n if width else 0, _BLOCK):
        count = min(_BLOCK, n - first)
        block = data[first * width // 8 : -(-(first + count) * width // 8)]
        bits = np.unpackbits(block, count=count * width, bitorder="little")
        out[first : first + count] = _numbers_of(bits, width)
    return out


def bits_needed(k: int) -> int:
    """Returns ceil(log2 k), the width that holds 0..k - 1; 0 for k = 1."""
    return max(int(k) - 1, 0).bit_length()


def smallest_dtype(width: int) -> type:
    """Returns the smallest unsigned dtype of at least `width` bits."""
    return np.uint8 if width <= 8 else np.uint16 if width <= 16 else np.uint32


def zigzag(x: Array) -> Array:
    """Returns signed integers as unsigned ones, small for small: 0, -1, 1, -2 -> 0, 1, 2, 3."""
    return np.where(x < 0, -2 * x - 1, 2 * x)


def unzigzag(u: Array) -> Array:
    """Returns the signed integers that `zigzag` turned into u."""
    return np.where(u & 1, -((u + 1) >> 1), u >> 1)


def rice_cost(values: Array, k: int) -> int:
    """Returns the bits of a Rice code of parameter k: sum((v >> k) + 1 + k)."""
    return int((values >> k).sum()) + (1 + k) * len(values)


def count_cost(value: int) -> int:
    """Returns the bits that BitWriter.count spends on a value: 4 for every 3 bits of it."""
    return 4 * max(1, -(-value.bit_length() // 3))


class BitWriter:
    """Collects bits and gives them back as bytes."""

    def __init__(self):
        self._done: list[bytes] = []
        self._pending = np.zeros(0, np.uint8)  # fewer than 8 bits, each 0 or 1
        self._count = 0

    def __len__(self) -> int:
        """Returns the number of bits written."""
        return self._count

    def write(self, value: int, width: int) -> None:
        """Appends one number of `width` <= 32 bits."""
        self.numbers(np.array([value]), width)

    def numbers(self, values: Array, width: int) -> None:
        """Appends (N,) integers of `width` <= 32 bits each."""
        for first in range(0, len(values), _BLOCK):
            self.bits(_bits_of(values[first : first + _BLOCK], width))

    def bits(self, bits: Array) -> None:
        """Appends bits, uint8 of 0 and 1."""
        joined = np.concatenate([self._pending, bits])
        whole = len(joined) & ~7
        self._done.append(np.packbits(joined[:whole], bitorder="little").tobytes())
        self._pending = joined[whole:]
        self._count += len(bits)

    def count(self, value: int) -> None:
        """Appends any integer >= 0, 3 bits at a time, each with a bit that says: more follows."""
        if value < 0:
            raise ValueError(f"a count must be >= 0, got {value}")
        while True:
            more = value > 7
            self.write(value & 7 | more << 3, 4)
            if not more:
                return
            value >>= 3

    def rice(self, values: Array, k: int) -> None:
        """Appends (N,) non-negative integers in a Rice code (Rice 1971; Golomb 1966 with M = 2^k).

        First every v >> k in unary (that many zeros, then a one), then every v mod 2^k in k bits:
        the same bits as code after code, ordered so that both halves are read without a loop.
        """
        ends = np.cumsum((values >> k) + 1) - 1
        unary = np.zeros(int(ends[-1]) + 1 if len(values) else 0, np.uint8)
        unary[ends] = 1
        self.bits(unary)
        self.numbers(values & ((1 << k) - 1), k)

    def align(self) -> None:
        """Appends zeros up to the next byte."""
        self.bits(np.zeros(-self._count % 8, np.uint8))

    def raw(self, data: bytes) -> None:
        """Appends whole bytes, after zeros up to the next byte."""
        self.align()
        self._done.append(bytes(data))
        self._count += 8 * len(data)

    def getvalue(self) -> bytes:
        """Returns what was written, its last byte filled up with zeros."""
        return b"".join(self._done) + np.packbits(self._pending, bitorder="little").tobytes()


class Budget:
    """The memory that reading a file may take: what stays, and besides it what one step needs.

    Both are asked for before anything is allocated, so that whatever a file says, no more than
    2 `max_bytes` and a part of Python's own are ever in use.
    """

    def __init__(self, max_bytes: int = 2**30):
        self.max_bytes, self.held = max_bytes, 0

    @property
    def left(self) -> int:
        """The bytes that may still be held."""
        return self.max_bytes - self.held

    def hold(self, size: int) -> None:
        """Books bytes that stay: the file, its weights; FormatError where they are too many."""
        if size > self.left:
            raise FormatError("the file, its weights and activations must take at most "
                              f"{self.max_bytes} bytes, declared {self.held + size}")
        self.held += size

    def allow(self, size: int) -> None:
        """Raises FormatError where a step needs more than max_bytes for its own arrays.

        It is asked where few bits can mean many numbers.
        """
        if size > self.max_bytes:
            raise FormatError(f"decoding needs {size} bytes, at most {self.max_bytes} are allowed")


class BitReader:
    """Reads what BitWriter wrote.

    Whatever would pass the end raises FormatError, before anything of the asked size is allocated.

    data : bytes        position : the next bit        spent : bits by part, as `charge` was told
    budget : of the file that the bits are of; None: one of its own
    """

    def __init__(self, data: bytes | memoryview, budget: Budget | None = None):
        self.data, self._bytes = np.frombuffer(data, np.uint8), memoryview(data)
        self.budget = Budget() if budget is None else budget
        self.position = self._charged = 0
        self.spent: dict[str, int] = {}

    def charge(self, part: str, bits: int | None = None) -> None:
        """Books the bits read since the last charge on `part`, or only so many of them."""
        bits = self.position - self._charged if bits is None else bits
        self.spent[part] = self.spent.get(part, 0) + bits
        self._charged += bits

    @property
    def left(self) -> int:
        """The bits not read yet."""
        return 8 * len(self.data) - self.position

    def read(self, width: int) -> int:
        """Returns one number of `width` <= 32 bits."""
        value = self.peek(width)
        self.position += width
        return value

    def peek(self, width: int) -> int:
        """Returns the number that `read` would, which stays to be read."""
        self._need(width)
        first, stop = self.position, self.position + width
        value = int.from_bytes(self._bytes[first // 8 : (stop + 7) // 8], "little")
        return value >> first % 8 & ((1 << width) - 1)

    def numbers(self, n: int, width: int) -> Array:
        """Returns (n,) numbers of `width` <= 32 bits each, in the smallest unsigned dtype."""
        _check_width(width)
        self._need(n * width)
        out = np.zeros(n, smallest_dtype(width))
        for first in range(0, n if width else 0, _BLOCK):
            count = min(_BLOCK, n - first)
            out[first : first + count] = _numbers_of(self.bits(count * width), width)
        return out

    def bits(self, n: int) -> Array:
        """Returns the next n bits, uint8 of 0 and 1."""
        self._need(n)
        bits = self._peek(n)
        self.position += n
        return bits

    def count(self) -> int:
        """Returns an integer that BitWriter.count wrote.

        Raises FormatError where it is 2**48 or more, or has more groups than it needs.
        """
        value = 0
        for shift in range(0, 48, 3):
            group = self.read(4)
            value |= (group & 7) << shift
            if group < 8:
                if shift and not group:
                    raise FormatError("a count ends in an empty group")
                return value
        raise FormatError("a count is longer than 48 bits")

    def rice(self, n: int, k: int, limit: int) -> Array:
        """Returns (n,) int64 that BitWriter.rice wrote; FormatError for one of `limit` or more."""
        if n == 0:
            return np.zeros(0, np.int64)
        self._need(n)
        ends, seen, passed, ahead = [], 0, 0, 64 + 4 * n
        while seen < n:  # the unary half ends with its n-th one
            bits = self._peek(min(self.left, _BLOCK, ahead))
            ahead *= 2  # few blocks, whatever the gaps
            if not len(bits):
                raise FormatError(f"a unary stream ends after {seen} of {n} numbers")
            ones = np.flatnonzero(bits)[: n - seen]
            seen += len(ones)
            used = int(ones[-1]) + 1 if seen == n else len(bits)
            ends.append(ones + passed)
            passed += used
            self.position += used
        high = ends[0] if len(ends) == 1 else np.concatenate(ends)
        high[1:] -= high[:-1] + 1  # gaps from one to the next; the first is its own
        if int(high.max()) > limit >> k:
            raise FormatError(f"a number in a Rice code is past its limit {limit}")
        values = (high << k) | self.numbers(n, k).astype(np.int64)
        if int(values.max()) >= limit:
            raise FormatError(f"a number in a Rice code is past its limit {limit}")
        return values

    def align(self) -> None:
        """Skips to the next byte; FormatError where a skipped bit is set."""
        if self.bits(-self.position % 8).any():
            raise FormatError("a filling bit is set")

    def raw(self, n: int) -> Array:
        """Returns the next n whole bytes, uint8, a view."""
        self.align()
        self._need(8 * n)
        first = self.position // 8
        self.position += 8 * n
        return self.data[first : first + n]

    def finish(self) -> None:
        """Raises FormatError unless all that is left is the filling of the last byte."""
        if self.left >= 8:
            raise FormatError(f"{self.left // 8} bytes are left after the end")
        self.align()

    def _need(self, n: int) -> None:
        if n > self.left:
            raise FormatError(f"{n} bits are needed, {self.left} are left")

    def _peek(self, n: int) -> Array:
        skip = self.position % 8
        block = self.data[self.position // 8 : -(-(self.position + n) // 8)]
        return np.unpackbits(block, count=skip + n, bitorder="little")[skip:]


def _check_width(width: int) -> None:
    if not 0 <= width <= MAX_WIDTH:
        raise ValueError(f"width must be in [0, {MAX_WIDTH}], got {width}")


def _bits_of(values: Array, width: int) -> Array:
    # (N,) integers -> (N * width,) uint8 of 0 and 1, least significant first
    _check_width(width)
    values = np.asarray(values)
    if values.size and (int(values.min()) < 0 or int(values.max()) >> width):
        raise ValueError(
            f"values must be in [0, 2**{width} - 1], got {values.min()} to {values.max()}"
        )
    size = smallest_dtype(width)().itemsize
    rows = np.ascontiguousarray(values, f"<u{size}").view(np.uint8).reshape(-1, size)
    return np.unpackbits(rows, axis=1, count=width, bitorder="little").reshape(-1)


def _numbers_of(bits: Array, width: int) -> Array:
    # (N * width,) uint8 of 0 and 1 -> (N,) integers
    size = smallest_dtype(width)().itemsize
    rows = np.packbits(bits.reshape(-1, width), axis=1, bitorder="little")  # (N, ceil(width / 8))
    padded = np.zeros((len(rows), size), np.uint8)
    padded[:, : rows.shape[1]] = rows
    return padded.view(f"<u{size}").reshape(-1)
