"""Coding a sparse table of codes with an adaptive binary range coder.

    encode(codes, bits, lag) -> data            decode(data, shape, kept, bits, lag) -> codes, used,
    split

R rows, C columns, m = `kept` entries that are not 0, n = R C. Every decision is a bit b with a
probability p that b = 1, learned from the bits that met the same *context*; coder and decoder learn
alike, so no table is stored. All arithmetic is on integers: the bytes are the same on every
machine.

*The range coder* (Martin 1979). The bits so far single out an interval [low, low + range) of 32-bit
numbers. A 1 keeps the first p of it, a 0 the rest. When range falls below 2^24, the top byte of low
is settled: it is put out and both are shifted up. An addition to low may carry into bytes put out
already. At the end any number of the interval will do; the one with most zeros at its end is put
out, and zeros at the end are not stored.

*A state* is p in 22 bits and the number t of bits seen: p += (b - p) / (t + 3/2), so p is close to
the mean of what was seen; from t = 1023 on it forgets slowly.

*First the pattern*, row by row: is the entry 0? Its context is
    q : how dense its row and column are, from what lies before, against m / n, in half octaves (24
        of them) column = (kept above + 8 d) / ((rows above + 8) d), row = (kept to the left + 20 d)
        / ((columns + 20) d) with d = m / n; the product is cut to a power of 2, or 3/2 of one
    k : how many of four neighbours are kept: the one to the left, the one `lag` to the left, and
        its two neighbours; in the first layer of a net that sees images of width lag, those are the
        pixels around
and a state begins at the density that q says, with the weight of four bits.

*Then the codes* 1..2^bits of the kept entries, as bits of code - 1 from the highest down, each in
the context of the bits above it. Codes of sorted centroids have a middle where the sign changes, so
the highest bit's context is also
    t : among the kept of the four neighbours, those with a high code less those with a low one; if
        that is 0, whether the kept entry before was high or low
"""

from __future__ import annotations

import numpy as np

from .. import cpu, doors
from ..threads import threads

Array = np.ndarray
MAX_BITS = 8  # of code - 1
MAX_LAG = 255
MAX_ENTRIES = 2**26
MAX_SIDE = 2**20  # rows or columns: kept above times n stays below 2^46
DENSITIES, NEIGHBOURS = 24, 5
MIDDLE = 14  # the q of density m / n
P_BITS = 22
LIMIT = 1023
RATES = tuple(2**17 // (2 * t + 3) for t in range(LIMIT + 1))  # 2^16 / (t + 3/2)


def encode(codes: Array, bits: int, lag: int, *, isa: str = "auto", n_threads: int = 1) -> Array:
    """Returns the bytes of a table of codes, uint8 (B,).

    codes : (R, C) integers in 0..2**bits, 0 where none is kept; or bool        bits : 0..8
    lag : 0 (none), 2..255
    isa : rung, see kernels/cpu.py        n_threads : no effect, every bit depends on the one before
    Raises ValueError where an argument is out of range.
    """
    threads(n_threads)
    if isinstance(codes, np.ndarray) and codes.dtype == bool:
        codes = codes.view(np.uint8)
    doors.integers("codes", codes)
    _, bits, lag = _checked(codes.shape, bits, lag)
    doors.integers("codes", codes, least=0, most=1 << bits)
    codes = np.ascontiguousarray(codes, np.uint16)
    kept = int(np.count_nonzero(codes))
    if kept == 0:
        return np.zeros(0, np.uint8)
    if cpu.resolve(isa, "coding") == 0:
        return encode_ref(codes, bits, lag)
    out = np.empty(
        2 * codes.size + 2 * bits * kept + 16, np.uint8
    )  # a bit costs less than 12 bits: p >= 2^-12
    return out[: cpu.kernel_module("coding").range_encode(codes, kept, bits, lag, out)].copy()


def decode(
    data: Array,
    shape: tuple[int, int],
    kept: int,
    bits: int,
    lag: int,
    *,
    isa: str = "auto",
    n_threads: int = 1,
) -> tuple[Array, int, int]:
    """Returns (codes, used, split) of what `encode` returned.

    data : uint8 (B,)        shape : (R, C)        kept : entries that are not 0        bits, lag :
        as encoded
    codes : uint16 (R, C)        used : bytes asked for, at least B if the data are whole; past the
        end they are 0
    split : how many of them belong to the pattern
    Any bytes decode to something; a caller compares the codes' count with kept, and used with B.
    Raises ValueError where an argument is out of range.
    """
    threads(n_threads)
    data = doors.stream("data", data)
    shape, bits, lag = _checked(shape, bits, lag)
    kept = doors.whole("kept", kept, 0, shape[0] * shape[1])
    codes = np.zeros(shape, np.uint16)
    if kept == 0:
        return codes, 0, 0
    if cpu.resolve(isa, "coding") == 0:
        return decode_ref(data, shape, kept, bits, lag)
    used, split = cpu.kernel_module("coding").range_decode(data, codes, kept, bits, lag)
    return codes, used, split


def _checked(shape: tuple[int, int], bits: int, lag: int) -> tuple[tuple[int, int], int, int]:
    # The three as ints; ValueError where one is out of range.
    shape = doors.pair("shape", shape, 0)
    if max(shape) > MAX_SIDE or shape[0] * shape[1] > MAX_ENTRIES:
        raise ValueError(
            f"codes must be a table of at most {MAX_ENTRIES} entries, {MAX_SIDE} a side, "
            f"got {shape}"
        )
    bits, lag = doors.whole("bits", bits, 0, MAX_BITS), doors.whole("lag", lag, 0, MAX_LAG)
    if lag == 1:
        raise ValueError(f"lag must be 0 or in [2, {MAX_LAG}], got 1")
    return shape, bits, lag


class Encoder:
    """The interval of a coder, and the bytes put out."""

    def __init__(self):
        self.low, self.range, self.out = 0, 2**32 - 1, bytearray()

    def bit(self, p: int, b: int) -> int:
        """Codes bit b, whose probability to be 1 is p of 2^16."""
        bound = self.range * p >> 16
        if b:
            self.range = bound
        else:
            self.low, self.range = self.low + bound, self.range - bound
        while self.range < 2**24:
            self.byte()
            self.range <<= 8
        return b

    def byte(self) -> None:
        """Puts out the top byte of low."""
        if self.low >> 32:  # the carry: 255s turn to 0, and one before them counts up
            i = len(self.out) - 1
            while self.out[i] == 255:
                self.out[i], i = 0, i - 1
            self.out[i] += 1
        self.out.append(self.low >> 24 & 255)
        self.low = self.low << 8 & 0xFFFFFFFF

    def finish(self) -> bytes:
        """Returns the message: a number of the interval with most zeros at its end, without them.
        """
        high = self.low + self.range - 1
        zeros = next(z for z in range(32, -1, -1) if high >> z << z >= self.low)
        self.low = high >> zeros << zeros
        for _ in range(4):
            self.byte()
        return bytes(self.out).rstrip(b"\0")


class Decoder:
    """The interval of a decoder, and where in the data it is."""

    def __init__(self, data: bytes):
        self.data, self.used, self.code, self.range = data, 0, 0, 2**32 - 1
        for _ in range(4):
            self.byte()

    def bit(self, p: int, _=None) -> int:
        """Returns the next bit, whose probability to be 1 is p of 2^16."""
        bound = self.range * p >> 16
        b = int(self.code < bound)
        if b:
            self.range = bound
        else:
            self.code, self.range = self.code - bound, self.range - bound
        while self.range < 2**24:
            self.byte()
            self.range <<= 8
        return b

    def byte(self) -> None:
        """Takes in a byte, 0 past the end."""
        value = self.data[self.used] if self.used < len(self.data) else 0
        self.code, self.used = (self.code << 8 | value) & 0xFFFFFFFF, self.used + 1


def learn(state: list[int], b: int, limit: int = LIMIT) -> None:
    """Moves a state (p, t) towards the bit b."""
    p, t = state
    state[0] = p + (((2**P_BITS - 1 if b else 0) - p) * RATES[t] >> 16)  # >> rounds down, as in C
    state[1] = min(t + 1, limit)


def _bit(coder, state: list[int], b: int) -> int:
    b = coder.bit(min(max(state[0] >> 6, 16), 65520), b)
    learn(state, b)
    return b


def _pattern_states(kept: int, n: int) -> list[list[int]]:
    states = []
    for q in range(DENSITIES):
        octave, half = divmod(q - MIDDLE, 2)
        p = (kept << P_BITS) // n * (7 if half else 5) // 4  # the middle of the bin
        p = p << octave if octave >= 0 else p >> -octave
        states += [[min(max(p, 2**9), 2**P_BITS - 2**18), 4] for _ in range(NEIGHBOURS)]
    return states


def _density(kept_before: int, before: int, weight: int, kept: int, n: int) -> int:
    # (kept_before + weight d) / ((before + weight) d) in 16 fractional bits, at most 256
    return min((kept_before * n + weight * kept << 16) // ((before + weight) * kept), 2**24)


def _half_octaves(product: int) -> int:
    product |= 1
    top = product.bit_length() - 1
    half = product >> top - 1 & 1 if top else 0
    return min(max(2 * (top - 16) + half + MIDDLE, 0), DENSITIES - 1)


def _neighbours(row: list[int], c: int, lag: int) -> list[int]:
    return [row[c - d] for d in ((1, lag, lag + 1, lag - 1) if lag else (1,)) if d <= c]


def _walk(coder, codes: list[list[int]], kept: int, bits: int, lag: int) -> int:
    # Codes the table, or decodes into it; returns the bytes that the pattern took of a decoder.
    n = len(codes) * len(codes[0])
    states, column = _pattern_states(kept, n), [0] * len(codes[0])
    for r, row in enumerate(codes):
        in_row = 0
        for c in range(len(row)):
            product = _density(column[c], r, 8, kept, n) * _density(in_row, c, 20, kept, n) >> 16
            k = sum(code > 0 for code in _neighbours(row, c, lag))
            b = _bit(coder, states[_half_octaves(product) * NEIGHBOURS + k], int(row[c] > 0))
            row[c] = row[c] or b
            column[c] += b
            in_row += b
    split = getattr(coder, "used", 4) - 4
    highest = [[2**21, 0] for _ in range(11)]
    below = [[2**21, 0] for _ in range(1 << bits)]
    top, before = (1 << bits) >> 1, 0
    for row in codes if bits else []:
        for c in range(len(row)):
            if row[c]:
                side = sum(1 if code - 1 & top else -1 for code in _neighbours(row, c, lag) if code)
                context = side + 4 if side or not before else 9 + (before == 1)
                node = 1
                for i in range(bits - 1, -1, -1):
                    state = highest[context] if node == 1 else below[node]
                    node = node << 1 | _bit(coder, state, row[c] - 1 >> i & 1)
                row[c] = node - (1 << bits) + 1
                before = 2 if row[c] - 1 & top else 1
    return split


def encode_ref(codes: Array, bits: int, lag: int) -> Array:
    """Returns what `encode` returns, in Python."""
    coder = Encoder()
    _walk(coder, codes.tolist(), int(np.count_nonzero(codes)), bits, lag)
    return np.frombuffer(coder.finish(), np.uint8)


def decode_ref(
    data: Array, shape: tuple[int, int], kept: int, bits: int, lag: int
) -> tuple[Array, int, int]:
    """Returns what `decode` returns, in Python."""
    coder, codes = Decoder(data.tobytes()), [[0] * shape[1] for _ in range(shape[0])]
    split = _walk(coder, codes, kept, bits, lag)
    return np.array(codes, np.uint16).reshape(shape), coder.used, split
