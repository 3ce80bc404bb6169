"""Coding a table of codes bit by bit, each probability mixed from several opinions.

    encode(codes, sides, width, block, units) -> data
    decode(data, shape, kept, sides, width, block, units) -> codes, used, split

R rows, C columns; codes 1..low are values below 0 and low + 1..low + high those above, 0 is an
entry that is not kept; m = `kept` entries are. The *side* of a kept entry is whether it is above;
its *size* - 1 how many codes of its side lie between it and 0. A row may be a *picture*: it is cut
into blocks of so many columns, each an image `width` columns wide. `units` says how much each
column's input is used, kept entries of the layer before; columns of dead units tend to be empty.

Coder and decoder learn alike, so no table is stored; all arithmetic is on integers, and the bytes
are the same on every machine. The range coder is that of range_coder.py, and so is a *state*, which
here stops getting slower at t = 255.

*A logit* is log2(p / (1 - p)) in 12 fractional bits; log2 v of an integer v = 2^e (1 + x), is taken
as e + x, straight between powers of 2, and 2^x as its inverse. Logits of counts are
log2 a - log2(n - a).

*A mixer* (Mattern 2012; Mahoney's PAQ, 2005) has weights w in 24 fractional bits. From inputs f it
makes p = 2^x / (1 + 2^x), x = base + sum(w f); after a bit b it moves w by rate (b - p) f, downhill
in code length. What a weight begins at was trained on other nets than those that are measured, and
depends on the kind of table: without pictures, a row one picture, a row of several, a single row.

For each entry, row by row, in turn; d = m / (R C), r rows above, c columns before, logits as
differences to that of d:

kept    base logit(d)
        0 1    1 kept above, prior 8 from 3      2 kept to the left, prior 40 of d
        3 kept above in the block, prior 8 of d       4 still to come     5 units against their mean
        6 kept before in the block, prior 12 of d     7 near and 8 far neighbours before it
        9 of the columns around, prior 8 from 3       10 a state for 1 and 2 in half octaves
        11 a state for the group of the column's units
        When all entries left are kept, or none is, nothing is coded.
side    means of the signs of 0 its column 1 its row 2 its neighbours 3 its block so far 4 its block
        above 5 columns around; 6 the sign before; 7 all so far; three states: 8 neighbours and
        column, 9 row and the sign before, 10 group.        Nothing if there is one side only.
size    the bits of size - 1 from the highest down, as many as the larger side needs, in the context
        of those above: 0 a state of the side; and, as differences to it, weaker while they have
        seen little, states for 1 the sizes in its row, 2 those of its neighbours and of the columns
        around, 3 the size before, 4 the group. A bit that can only be 0 is not coded.
"""

from __future__ import annotations

import numpy as np

from .. import cpu, doors
from ..threads import threads
from .range_coder import MAX_ENTRIES, MAX_SIDE, P_BITS, Decoder, Encoder, learn

Array = np.ndarray
MAX_CODES = 256
ONE = 1 << 12  # of a logit
SLOWEST = 255
KEPT, SIGN, SIZE = 12, 11, 5  # inputs of the three mixers
GROUPS, LEVELS = 11, 7
# by kind of table; in 12 fractional bits
WEIGHTS = (
    (1110, -1100, 3604, -580, 1712, 2883, 860, 0, 0, 0, 156, 932, 972, 418, 0, 0, 253, -58, -122,
     -858, 1486, -132, 1287, 4281, 177, -331, -118, 1882),
    (1242, -492, -5173, -2661, 2777, 1309, 4082, 1867, 1489, 2609, 575, 488, -952, -3281, 13550,
     -2907, 21, 3787, 1215, -1362, 2936, 670, 394, 3859, -1125, 2305, 1769, 402),
    (1499, 795, 3010, 522, 2446, 3631, -85, 1222, -51, 812, 462, -236, -243, 2870, 7979, -266,
     1358, 3791, -299, -1566, 2126, 533, -357, 3825, 177, 811, 870, 186),
    (1179, -1167, 3182, -274, 1384, 2817, 860, 0, 0, 0, 245, 911, 1203, 709, 0, 0, 470, 410, -94,
     -42, 1165, -445, 2632, 3999, -531, -812, -114, 3843),
)
# weight of a neighbour by its squared distance: times 64 e^-q, e^-(q / 8), 1 / (1 + q), e^-(q / 2)
SHARP = {1: 24, 2: 9, 4: 1}
WIDE = {1: 56, 2: 50, 4: 39, 5: 34, 8: 24, 9: 21, 10: 18, 13: 13, 16: 9, 17: 8, 18: 7, 20: 5,
        25: 3, 32: 1}
FLAT = {0: 64, 1: 32, 2: 21, 4: 13, 5: 11, 8: 7, 9: 6, 10: 6, 13: 5, 18: 3}
BELL = {0: 64, 1: 39, 2: 24, 4: 9, 5: 5, 8: 1}


def encode(codes: Array, sides: tuple[int, int], width: int, block: int,
           units: Array | None = None, *, isa: str = "auto", n_threads: int = 1) -> Array:
    """Returns the bytes of a table of codes, uint8 (B,).

    codes : (R, C) integers in 0..low + high, 0 where none is kept; or bool
    sides : (low, high), the numbers of codes, together 1..256
    width, block : columns of an image and of a block, 1 <= width <= block <= C; 0 and C: no images
    units : (C,) integers >= 0, what each column's input is worth
    isa : rung, see kernels/cpu.py        n_threads : no effect, every bit depends on the one before
    Raises ValueError where an argument is out of range.
    """
    threads(n_threads)
    if isinstance(codes, np.ndarray) and codes.dtype == bool:
        codes = codes.view(np.uint8)
    doors.integers("codes", codes)
    _, sides, width, block, units = _checked(codes.shape, sides, width, block, units)
    doors.integers("codes", codes, least=0, most=sum(sides))
    codes = np.ascontiguousarray(codes, np.uint16)
    kept = int(np.count_nonzero(codes))
    if kept == 0:
        return np.zeros(0, np.uint8)
    if cpu.resolve(isa, "coding") == 0:
        return encode_ref(codes, sides, width, block, units)
    out = np.empty(4 * codes.size + 20 * kept + 16, np.uint8)  # a bit costs at most 12
    run = cpu.kernel_module("coding").mixing_encode
    return out[: run(codes, kept, *sides, width, block, _weights(codes.shape, width, block),
                     units, out)].copy()


def decode(data: Array, shape: tuple[int, int], kept: int, sides: tuple[int, int], width: int,
           block: int, units: Array | None = None, *, isa: str = "auto", n_threads: int = 1
           ) -> tuple[Array, int, int]:
    """Returns (codes, used, split) of what `encode` returned; the other arguments are as encoded.

    data : uint8 (B,)        shape : (R, C)        kept : entries that are not 0
    codes : uint16 (R, C), always `kept` of them in 1..low + high
    used : bytes asked for, at least B if the data are whole; past the end they are 0
    split : how many of them the pattern took, about
    Any bytes decode to something; a caller compares used with B.
    Raises ValueError where an argument is out of range.
    """
    threads(n_threads)
    data = doors.stream("data", data)
    shape, sides, width, block, units = _checked(shape, sides, width, block, units)
    kept = doors.whole("kept", kept, 0, shape[0] * shape[1])
    codes = np.zeros(shape, np.uint16)
    if kept == 0:
        return codes, 0, 0
    if cpu.resolve(isa, "coding") == 0:
        codes, used, *costs = decode_ref(data, shape, kept, sides, width, block, units)
    else:
        run = cpu.kernel_module("coding").mixing_decode
        used, *costs = run(data, codes, kept, *sides, width, block,
                           _weights(shape, width, block), units)
    return codes, used, max(used - 4, 0) * costs[0] // max(sum(costs), 1)


def _checked(shape, sides, width, block, units):
    shape = doors.pair("shape", shape, 0)
    if max(shape) > MAX_SIDE or shape[0] * shape[1] > MAX_ENTRIES:
        raise ValueError(f"codes must be a table of at most {MAX_ENTRIES} entries, {MAX_SIDE} a "
                         f"side, got {shape}")
    sides = doors.pair("sides", sides, 0)
    if not 1 <= sum(sides) <= MAX_CODES:
        raise ValueError(f"sides must be 1..{MAX_CODES} codes together, got {sides}")
    block = doors.whole("block", block, min(1, shape[1]), shape[1])
    width = doors.whole("width", width, 0, block)
    if not width and block != shape[1]:
        raise ValueError(f"block must be {shape[1]} where width is 0, got {block}")
    if units is None:
        return shape, sides, width, block, np.zeros(0, np.int32)
    doors.integers("units", units, 1, least=0)
    if len(units) != shape[1]:
        raise ValueError(f"units must have {shape[1]} numbers, got {len(units)}")
    return shape, sides, width, block, np.ascontiguousarray(units, np.int32)


def _weights(shape: tuple[int, int], width: int, block: int) -> Array:
    kind = 3 if shape[0] == 1 else 1 + (block < shape[1]) if width else 0
    return np.array(WEIGHTS[kind], np.int32) << 12


def log2(v: int) -> int:
    """Returns log2 v in 12 fractional bits, straight between powers of 2; v >= 1.

    >>> [log2(v) / 4096 for v in (1, 2, 3, 4)]
    [0.0, 1.0, 1.5, 2.0]
    """
    e = v.bit_length() - 1
    return (e << 12) + (v << 12 >> e) - ONE


def logit(a: int, n: int) -> int:
    """Returns log2(a / (n - a)) in 12 fractional bits, 0 < a < n."""
    return log2(a) - log2(n - a)


def probability(x: int) -> int:
    """Returns 2^16 / (1 + 2^-x), the inverse of a logit, in 16..2^16 - 16."""
    y = min(abs(x), 12 * ONE - 1)
    small = max((1 << 28) // (ONE + ((ONE + (y & ONE - 1)) << (y >> 12))), 16)
    return small if x < 0 else 65536 - small


def _of(state: list[int]) -> int:
    return logit(min(max(state[0], 64), (1 << P_BITS) - 64), 1 << P_BITS)


def _clip(v: int, lo: int, hi: int) -> int:
    return min(max(v, lo), hi)


def _ratio(s: int, n: int) -> int:
    return s * ONE // n if s >= 0 else -(-s * ONE // n)  # towards 0


def _offsets(radius: int, past: bool, weights: dict[int, int]) -> list[tuple[int, int, int]]:
    # (x, y, weight) of the neighbours; past : only entries for which this one lies before
    return [(x, y, weights[x * x + y * y])
            for y in range(0 if past else -radius, radius + 1) for x in range(-radius, radius + 1)
            if x * x + y * y in weights and not (past and y == 0 and x <= 0)]


def _states(n: int, p: int, t: int) -> list[list[int]]:
    return [[p, t] for _ in range(n)]


def _leaves(node: int, bits: int, size: int) -> tuple[int, int]:
    # how many of the codes 0..size - 1 lie under the right child of a node, and under the node
    span = (1 << bits) >> node.bit_length() - 1
    first = node * span - (1 << bits)
    under = _clip(size - first, 0, span)
    return max(under - span // 2, 0), under


def _tree(bits: int, size: int, contexts: int) -> list[list[list[int]]]:
    # states by node and context; a bit begins as if all codes were equally frequent
    tree = [_states(contexts, 0, 2)]
    for node in range(1, 1 << bits):
        right, both = _leaves(node, bits, size)
        tree.append(_states(contexts, (right << P_BITS) // both if both else 0, 2))
    return tree


class _Row:
    """What is known of the row so far: all of it, and the block."""

    def __init__(self, columns: int):
        self.kept = self.signs = self.sizes = self.kept_block = self.sign_block = 0
        self.side = self.size = 0  # of the kept entry before
        self.near, self.far = [0] * columns, [0] * columns


class _Model:
    """What coder and decoder know; coder.bit(p, b) -> b."""

    def __init__(self, coder, shape, kept, sides, width, block, units):
        self.coder, (self.R, self.C), self.left, self.sides = coder, shape, kept, sides
        self.width, self.block = width, block
        self.height = -(-block // width) if width else 1
        self.w, self.cost = _weights(shape, width, block).tolist(), [0, 0]
        self.d = _clip((kept << 16) // (self.R * self.C), 1, 65535)
        self.base = logit(self.d, 1 << 16)
        self.column, self.signs, self.sizes, self.around = ([0] * self.C for _ in range(4))
        self.in_block, self.sign_block = ([0] * -(-self.C // block) for _ in range(2))
        self.near_of, self.far_of = _offsets(2, True, SHARP), _offsets(4, True, WIDE)
        self.beside, self.by = _offsets(3, False, FLAT), _offsets(2, False, BELL)
        self.judge_units(units.tolist())
        half = 1 << P_BITS - 1
        self.places = [[probability(self.base + (i // 16 + i % 16 - 16) * (ONE // 2)) << 6, 4]
                       for i in range(256)]
        self.grouped = _states(GROUPS, self.d << 6, 1)
        self.sides_seen, self.row_sides = _states(45, half, 0), _states(15, half, 0)
        self.group_sides = _states(GROUPS, half, 0)
        most = max(sides)
        self.bits = (most - 1).bit_length()
        self.all = [_tree(self.bits, size, 1) for size in sides]
        self.trees = [_tree(self.bits, most, n) for n in (LEVELS, LEVELS * LEVELS, 8, GROUPS)]
        self.seen, self.total, self.number = [0, 0], 1, 1

    def judge_units(self, units: list[int]) -> None:
        self.has_units = bool(units)
        self.worth, self.group = [0] * self.C, [0] * self.C
        total = sum(units)
        for c, u in enumerate(units):
            self.worth[c] = log2(5 * u + 1) - log2(5 * total + self.C) + log2(self.C)
            share = log2(u) + log2(self.C) - log2(total) >> 12 if u else 0
            self.group[c] = 2 + _clip(share + 4, *((0, 8) if self.R > 1 else (3, 4))) if u else 1

    def mixed(self, first: int, f: list[int], base: int, rate: int, part: int, b: int) -> int:
        """Codes b, or decodes and returns it, from inputs f whose weights begin at `first`."""
        w = self.w
        p = probability(base + (sum(w[i] * v for i, v in enumerate(f, first)) >> 24))
        b = self.coder.bit(p, b)
        self.cost[part] += (16 << 12) - log2(p if b else 65536 - p)
        error = (b << 16) - p
        for i, v in enumerate(f, first):
            w[i] = _clip(w[i] + (error * v >> rate), -(1 << 27), 1 << 27)
        return b

    def neighbours(self, c: int, offsets: list[tuple[int, int, int]]):
        """Yields (column, weight) of the neighbours of column c in its picture."""
        left, above = c % self.width, c % self.block // self.width
        for x, y, weight in offsets:
            at = c + x + y * self.width
            if 0 <= left + x < self.width and 0 <= above + y < self.height and 0 <= at < self.C:
                yield at, weight

    def begin_row(self, r: int) -> None:
        """Turns what the columns say into logits."""
        self.by_block, self.by_column, self.by_around = [], [], []
        beside = (sum(weight for *_, weight in self.beside) * r << 10) + (8 << 16)
        for c in range(self.C):
            if c % self.block == 0:
                kept = (self.in_block[c // self.block] << 16) + 8 * self.d
                p = _clip(kept // (r * self.block + 8), 1, 65535)
                self.by_block.append(logit(p, 1 << 16) - self.base)
            self.by_column.append(logit((self.column[c] << 16) + 8 * p, r + 8 << 16) - self.base)
            if self.width:
                around = logit((self.around[c] << 10) + 8 * p, beside)
                self.by_around.append(around - self.base)

    def kept(self, row: _Row, c: int, entries: int, b: int) -> int:
        """Codes whether the entry of column c is kept; so many `entries` are left."""
        d, base = self.d, self.base
        f = [ONE, self.by_column[c], logit((row.kept << 16) + 40 * d, c + 40 << 16) - base,
             self.by_block[c // self.block], logit(4 * self.left + 1, 4 * entries + 2) - base,
             self.worth[c], 0, 0, 0, 0]
        if self.width:
            near, far = (sum(weight for *_, weight in of) for of in (self.near_of, self.far_of))
            f[6:] = [
                logit((row.kept_block << 16) + 12 * d, c % self.block + 12 << 16) - base,
                logit((row.near[c] << 10) + d, (near << 10) + (1 << 16)) - base,
                logit((row.far[c] << 10) + 2 * d, (far << 10) + (2 << 16)) - base,
                self.by_around[c]]
        place, of_row = (_clip((2 * v + 2048 >> 12) + 8, 0, 15) for v in f[1:3])
        states = [self.places[place * 16 + of_row], self.grouped[self.group[c]]]
        f += [_of(states[0]) - base, _of(states[1]) - base if self.has_units else 0]
        b = self.mixed(0, f, base, 13, 0, b)
        for state in states:
            learn(state, b, SLOWEST)
        return b

    def look(self, row: list[int], c: int) -> tuple[list[int], list[int]]:
        """Returns (sign, size, weight) of kept neighbours in the row, and of columns around."""
        here, around = [0, 0, 0], [0, 0, 0]
        near = (self.neighbours(c, self.by) if self.width else
                ((at, 64) for at in range(max(c - 1, 0), min(c + 2, self.C))))
        for at, weight in near:
            for i, known in enumerate((self.signs, self.sizes, self.column)):
                around[i] += weight * known[at]
            if self.width and at < c and row[at]:
                side, size = self.side_and_size(row[at])
                for i, v in enumerate((1 if side else -1, size, 1)):
                    here[i] += weight * v
        return here, around

    def side_and_size(self, code: int) -> tuple[int, int]:
        low = self.sides[0]
        return (1, code - low) if code > low else (0, low + 1 - code)

    def side(self, row: _Row, here: list[int], around: list[int], c: int, b: int) -> int:
        """Codes on which side of 0 the entry of column c is."""
        if 0 in self.sides:
            return int(not self.sides[0])
        block = c // self.block
        f = [_ratio(2 * self.signs[c], 2 * self.column[c] + 3), _ratio(row.signs, row.kept + 2),
             _ratio(here[0], here[2] + 45),
             _ratio(2 * row.sign_block, 2 * row.kept_block + 3) if self.width else 0,
             _ratio(self.sign_block[block], self.in_block[block] + 2),
             _ratio(around[0], around[2] + 96), row.side * ONE,
             log2(self.seen[1] + 1) - log2(self.seen[0] + 1)]
        near = _clip(2 * here[0] + 32 >> 6, -4, 4) + 4
        in_row = _clip(row.signs + 1 >> 1, -2, 2) + 2
        states = [self.sides_seen[near * 5 + _clip(self.signs[c], -2, 2) + 2],
                  self.row_sides[in_row * 3 + row.side + 1], self.group_sides[self.group[c]]]
        f += [_of(states[0]), _of(states[1]), _of(states[2]) if self.has_units else 0]
        b = self.mixed(KEPT, f, 0, 12, 1, b)
        for state in states:
            learn(state, b, SLOWEST)
        return b

    def size(self, row: _Row, here: list[int], around: list[int], c: int, side: int, value: int
             ) -> int:
        """Codes size - 1 of the entry of column c."""
        mean = (self.total << 8) // self.number
        spot = _level(here[1], here[2], 64, mean) * LEVELS + _level(around[1], around[2], 128, mean)
        contexts = [_level(row.sizes, row.kept, 2, mean), spot, min(row.size, 7), self.group[c]]
        node = 1
        for i in range(self.bits - 1, -1, -1):
            if not _leaves(node, self.bits, self.sides[side])[0]:
                node <<= 1
                continue
            states = [self.all[side][node][0],
                      *(tree[node][context] for tree, context in zip(self.trees, contexts))]
            f = [_of(states[0])]
            f += [(_of(state) - f[0]) * min(2 * state[1] + 1, 16) >> 4 for state in states[1:]]
            if not self.has_units:
                f[4] = 0
            b = self.mixed(KEPT + SIGN, f, 0, 11, 1, value >> i & 1)
            for state in states:
                learn(state, b, SLOWEST)
            node = node << 1 | b
        return node - (1 << self.bits)

    def entry(self, codes: list[int], row: _Row, c: int) -> None:
        """Codes the kept entry of column c, or decodes it into the row's `codes`."""
        here, around = self.look(codes, c)
        side, size = self.side_and_size(codes[c])
        side = self.side(row, here, around, c, side)
        size = self.size(row, here, around, c, side, size - 1) + 1
        low = self.sides[0]
        codes[c] = low + size if side else low + 1 - size
        sign = 1 if side else -1
        self.seen[side] += 1
        self.total, self.number = self.total + size, self.number + 1
        row.kept, row.kept_block = row.kept + 1, row.kept_block + 1
        row.signs, row.sign_block = row.signs + sign, row.sign_block + sign
        row.sizes, row.side, row.size = row.sizes + size, sign, size
        if self.width:
            for field, offsets in ((row.near, self.near_of), (row.far, self.far_of)):
                for at, weight in self.neighbours(c, offsets):
                    field[at] += weight

    def end_row(self, codes: list[int]) -> None:
        """Lets the columns know what the row kept."""
        for c, code in enumerate(codes):
            if not code:
                continue
            side, size = self.side_and_size(code)
            self.column[c] += 1
            self.in_block[c // self.block] += 1
            self.signs[c] += 1 if side else -1
            self.sign_block[c // self.block] += 1 if side else -1
            self.sizes[c] += size
            for at, weight in self.neighbours(c, self.beside) if self.width else ():
                self.around[at] += weight

    def walk(self, codes: list[list[int]]) -> None:
        """Codes the table, or decodes into it."""
        entries = self.R * self.C
        for r, line in enumerate(codes):
            row = _Row(self.C)
            self.begin_row(r)
            for c in range(self.C):
                if not self.left:
                    return
                if c % self.block == 0:
                    row.kept_block = row.sign_block = 0
                if entries == self.left or self.kept(row, c, entries, int(line[c] > 0)):
                    self.left -= 1
                    self.entry(line, row, c)
                entries -= 1
            self.end_row(line)


def _level(total: int, weight: int, prior: int, mean: int) -> int:
    # how large sizes of this weight are against the mean of all, 0..6
    large = log2((total << 8) + prior * mean) - log2((weight + prior) * mean)
    return _clip((5 * large + ONE >> 13) + 3, 0, LEVELS - 1)


def encode_ref(codes: Array, sides: tuple[int, int], width: int, block: int, units: Array) -> Array:
    """Returns what `encode` returns, in Python."""
    coder = Encoder()
    kept = int(np.count_nonzero(codes))
    _Model(coder, codes.shape, kept, sides, width, block, units).walk(codes.tolist())
    return np.frombuffer(coder.finish(), np.uint8)


def decode_ref(data: Array, shape: tuple[int, int], kept: int, sides: tuple[int, int], width: int,
               block: int, units: Array) -> tuple[Array, int, int, int]:
    """Returns (codes, used, cost of the pattern, cost of the codes), in Python."""
    coder, codes = Decoder(data.tobytes()), [[0] * shape[1] for _ in range(shape[0])]
    model = _Model(coder, shape, kept, sides, width, block, units)
    model.walk(codes)
    return np.array(codes, np.uint16).reshape(shape), coder.used, *model.cost
