# A decoder written from minicomp/codec/FORMAT.md alone, in plain Python, and what it must read.
# It imports nothing of minicomp.
import hashlib
import json
import struct
import zlib
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "data" / "conformance"
FILES = sorted(path.name for path in FOLDER.glob("*.mcz"))


def ceil2(k):
    return (k - 1).bit_length()


def clip(v, lo, hi):
    return min(max(v, lo), hi)


# ------------------------------------------------------------------ 1, 2: envelope, header


def sections_of(data):
    # (header, sections)
    assert data[:3] == b"MCZ" and data[3] >> 4 == 2
    assert int.from_bytes(data[-4:], "little") == zlib.crc32(data[:-4])
    dictionary, kind, each = data[3] >> 3 & 1, data[3] >> 1 & 3, data[3] & 1
    at, found = 4, []
    while at < len(data) - 4:
        length = shift = 0
        while True:
            byte, at = data[at], at + 1
            length, shift = length | (byte & 127) << shift, shift + 7
            if byte < 128:
                break
        found.append(data[at : at + length])
        at += length
        if each and len(found) > 1:
            assert int.from_bytes(data[at : at + 4], "little") == zlib.crc32(found[-1])
            at += 4
    text = (FOLDER / f"dictionary-{['model', 'program'][kind]}-{dictionary}.txt").read_bytes()
    return json.loads(zlib.decompressobj(-15, text).decompress(found[0])), found[1:]


def forms_of(header):
    for name, kind, given, _ in header["nodes"]:
        if kind == "Linear":
            shape = given["out_features"], given["in_features"]
        elif kind == "Conv2d":
            inputs = given["in_channels"] // given.get("groups", 1)
            shape = given["out_channels"], inputs, *given["kernel_size"]
        else:
            continue
        yield f"{name}.weight", shape
        if given.get("bias", True):
            yield f"{name}.bias", shape[:1]


# ------------------------------------------------------------------ 3: bits


class Bits:
    def __init__(self, data):
        self.data, self.at = data, 0

    def number(self, width):
        value = 0
        for i in range(width):
            value |= (self.data[self.at // 8] >> self.at % 8 & 1) << i
            self.at += 1
        return value

    def numbers(self, n, width):
        return [self.number(width) for _ in range(n)]

    def count(self):
        value = shift = 0
        while True:
            group = self.number(4)
            value, shift = value | (group & 7) << shift, shift + 3
            if group < 8:
                return value

    def rice(self, n, k):
        high = []
        for _ in range(n):
            zeros = 0
            while not self.number(1):
                zeros += 1
            high.append(zeros)
        return [v << k | low for v, low in zip(high, self.numbers(n, k))]

    def whole_bytes(self, n):
        while self.at % 8:
            assert not self.number(1)
        return self.numbers(n, 8)

    def left(self):
        return 8 * len(self.data) - self.at


def unzigzag(u):
    return -(u + 1 >> 1) if u & 1 else u >> 1


# ------------------------------------------------------------------ 5: streams


def symbols(r, n, size):
    if size == 1 or n == 0:
        return [0] * n
    tag = r.number(2)
    if tag == 0:
        return r.numbers(n, ceil2(size))
    if tag < 3:
        return huffman(r, n, size, tag == 2)
    if size > 4096:
        low = ceil2(size) - 8
        high = symbols(r, n, (size - 1 >> low) + 1)
        return [h << low | v for h, v in zip(high, r.numbers(n, low))]
    if size == 3:
        found = [byte // 3**i % 3 for byte in r.numbers(-(-n // 5), 8) for i in range(5)]
        assert not any(found[n:])
        return found[:n]
    return rans(r, n, size)


def used_symbols(r, size, asks):
    last = r.number(ceil2(size))
    if (asks or last) and r.number(1):
        return [s for s, there in enumerate(r.numbers(last, 1)) if there] + [last]
    return list(range(last + 1))


def lengths_of(r, used, first):
    lengths, length = [], first
    k = r.number(2)
    for step in r.rice(len(used) - 1, k):
        length += unzigzag(step)
        lengths.append(length)
    return lengths


def huffman(r, n, size, four):
    used = used_symbols(r, size, False)
    if len(used) == 1:
        return used * n
    lengths = lengths_of(r, used, ceil2(len(used)))
    room = 2**15 - sum(2 ** (15 - length) for length in lengths)
    lengths.append(16 - room.bit_length())
    assert 2 ** (15 - lengths[-1]) == room
    codes, code, before = {}, 0, 0
    for length, s in sorted(zip(lengths, used)):
        code <<= length - before
        codes[length, code] = s
        code, before = code + 1, length

    def coded(r, n):
        found = []
        for _ in range(n):
            code, length = r.number(1), 1
            while (length, code) not in codes:
                code, length = code << 1 | r.number(1), length + 1
            found.append(codes[length, code])
        return found

    if not four:
        return coded(r, n)
    sizes = [r.count() for _ in range(4)]
    parts = [Bits(bytes(r.whole_bytes(size))) for size in ([sizes[0]] + sizes[1:])]
    found, each = [], -(-n // 4)
    for part in parts:
        found += coded(part, min(each, n - len(found)))
        assert part.left() < 8 and not part.number(part.left())
    return found


def rans(r, n, size):
    used = used_symbols(r, size, True)
    lengths = lengths_of(r, used, 13 - ceil2(len(used)))
    slots = [1 << length - 1 | r.number(length - 1) for length in lengths]
    slots.append(4096 - sum(slots))
    table = [(s, f, i) for s, f in zip(used, slots) for i in range(f)]
    data = bytes(r.whole_bytes(r.count()))
    lanes = 32 if n >= 32768 else 1
    x = list(struct.unpack_from(f"<{lanes}I", data))
    words = iter(struct.unpack_from(f"<{(len(data) - 4 * lanes) // 2}H", data, 4 * lanes))
    found = []
    for i in range(n):
        s, f, offset = table[x[i % lanes] % 4096]
        state = f * (x[i % lanes] >> 12) + offset
        x[i % lanes] = state << 16 | next(words) if state < 65536 else state
        found.append(s)
    assert x == [65536] * lanes and next(words, None) is None
    return found


def floats(r, n, kind):
    # kind : a letter of struct, "H" for bfloat16
    size = struct.calcsize(kind)
    if kind == "e" and 0 < n < 257:
        if r.number(2) == 3:
            return rising(r, n)
        r.at -= 2
    planes = [symbols(r, n, 256) for _ in range(size)]
    values = []
    for bytes_ in zip(*planes):
        u = int.from_bytes(bytes(bytes_), "big")
        u = u >> 1 | (u & 1) << 8 * size - 1
        if kind == "H":
            u, kind_, wide = u << 16, "f", 4
        else:
            kind_, wide = kind, size
        values.append(struct.unpack("<" + kind_, u.to_bytes(wide, "little"))[0])
    return values


def rising(r, n):
    low, out_of_order, K = r.number(ceil2(n + 1)), r.number(1), r.number(5)
    sides = []
    for length in (low, n - low):
        side = [r.number(15)] if length else []
        while len(side) < length:
            step = r.rice(1, clip(K - (side[-1] >> 10), 0, 12))[0]
            side.append(side[-1] + (unzigzag(step) if out_of_order else step + 1))
        sides.append(side)
    bits = [0x8000 | m for m in sides[0][::-1]] + sides[1]
    return [struct.unpack("<e", u.to_bytes(2, "little"))[0] for u in bits]


# ------------------------------------------------------------------ 7: range decoder, context


class Range:
    def __init__(self, data):
        self.data, self.at, self.code, self.range = data, 0, 0, 2**32 - 1
        for _ in range(4):
            self.next()

    def next(self):
        byte = self.data[self.at] if self.at < len(self.data) else 0
        self.code, self.at = (self.code << 8 | byte) % 2**32, self.at + 1

    def bit(self, p):
        bound = self.range * p >> 16
        b = int(self.code < bound)
        if b:
            self.range = bound
        else:
            self.code, self.range = self.code - bound, self.range - bound
        while self.range < 2**24:
            self.range <<= 8
            self.next()
        return b


def learn(state, b, limit):
    state[0] += (((2**22 - 1 if b else 0) - state[0]) * (2**17 // (2 * state[1] + 3))) >> 16
    state[1] = min(state[1] + 1, limit)


def context(data, R, C, m, K, lag):
    coder, n, codes = Range(data), R * C, [[0] * C for _ in range(R)]

    def bit(state):
        b = coder.bit(clip(state[0] >> 6, 16, 65520))
        learn(state, b, 1023)
        return b

    def near(row, c):
        return [row[c - d] for d in ((1, lag, lag + 1, lag - 1) if lag else (1,)) if d <= c]

    def density(a, b, w):
        return min(((a * n + w * m) << 16) // ((b + w) * m), 2**24)

    states = []
    for q in range(24):
        P, by = (m << 22) // n * (7 if q % 2 else 5) // 4, q - 14 >> 1
        P = P << by if by >= 0 else P >> -by
        states += [[clip(P, 2**9, 2**22 - 2**18), 4] for _ in range(5)]
    above = [0] * C
    for r in range(R if m else 0):
        left = 0
        for c in range(C):
            v = density(above[c], r, 8) * density(left, c, 20) >> 16 | 1
            e = v.bit_length() - 1
            q = clip(2 * (e - 16) + (v >> e - 1 & 1 if e else 0) + 14, 0, 23)
            k = sum(code > 0 for code in near(codes[r], c))
            codes[r][c] = bit(states[5 * q + k])
            above[c], left = above[c] + codes[r][c], left + codes[r][c]
    width, before = ceil2(K), None
    highest, below = [[2**21, 0] for _ in range(11)], [[2**21, 0] for _ in range(1 << width)]

    def high(code):
        return code - 1 >> width - 1

    for row in codes if K > 1 else []:
        for c in range(C):
            if row[c]:
                side = sum(1 if high(code) else -1 for code in near(row, c) if code)
                h = side + 4 if side or before is None else 9 if before else 10
                node = 1
                for _ in range(width):
                    node = 2 * node + bit(highest[h] if node == 1 else below[node])
                row[c] = node - (1 << width) + 1
                before = high(row[c])
    return codes


# ------------------------------------------------------------------ 8: mixed

NEAR = {1: 24, 2: 9, 4: 1}
FAR = {1: 56, 2: 50, 4: 39, 5: 34, 8: 24, 9: 21, 10: 18, 13: 13, 16: 9, 17: 8, 18: 7, 20: 5, 25: 3,
       32: 1}
AROUND = {0: 64, 1: 32, 2: 21, 4: 13, 5: 11, 8: 7, 9: 6, 10: 6, 13: 5, 18: 3}
BELL = {0: 64, 1: 39, 2: 24, 4: 9, 5: 5, 8: 1}
WEIGHTS = [
    [1110, -1100, 3604, -580, 1712, 2883, 860, 0, 0, 0, 156, 932, 972, 418, 0, 0, 253, -58, -122,
     -858, 1486, -132, 1287, 4281, 177, -331, -118, 1882],
    [1242, -492, -5173, -2661, 2777, 1309, 4082, 1867, 1489, 2609, 575, 488, -952, -3281, 13550,
     -2907, 21, 3787, 1215, -1362, 2936, 670, 394, 3859, -1125, 2305, 1769, 402],
    [1499, 795, 3010, 522, 2446, 3631, -85, 1222, -51, 812, 462, -236, -243, 2870, 7979, -266,
     1358, 3791, -299, -1566, 2126, 533, -357, 3825, 177, 811, 870, 186],
    [1179, -1167, 3182, -274, 1384, 2817, 860, 0, 0, 0, 245, 911, 1203, 709, 0, 0, 470, 410, -94,
     -42, 1165, -445, 2632, 3999, -531, -812, -114, 3843],
]


def log2(v):
    e = v.bit_length() - 1
    return 4096 * e + (v * 4096 >> e) - 4096


def logit(a, n):
    return log2(a) - log2(n - a)


def probability(x):
    y = min(abs(x), 49151)
    small = max(2**28 // (4096 + ((4096 + y % 4096) << (y >> 12))), 16)
    return small if x < 0 else 65536 - small


def of(state):
    return logit(clip(state[0], 64, 2**22 - 64), 2**22)


def ratio(s, n):
    return 4096 * s // n if s >= 0 else -(-4096 * s // n)


def mixed(data, R, C, m, low, high, width, B, units):
    coder, n = Range(data), R * C
    kind = 3 if R == 1 else 0 if not width else 1 if B == C else 2
    w = [4096 * v for v in WEIGHTS[kind]]
    codes, entries = [[0] * C for _ in range(R)], n
    d = clip((m << 16) // n, 1, 65535)
    base = logit(d, 65536)

    def mixed_bit(first, f, base, rate):
        p = probability(base + (sum(w[first + i] * v for i, v in enumerate(f)) >> 24))
        b = coder.bit(p)
        for i, v in enumerate(f, first):
            w[i] = clip(w[i] + ((65536 * b - p) * v >> rate), -(2**27), 2**27)
        return b

    def states(count, P, t):
        return [[P, t] for _ in range(count)]

    def neighbours(c, table, radius, after=False):
        # (column, weight); after : those for which c lies before
        for y in range(0 if after else -radius, radius + 1):
            for x in range(-radius, radius + 1):
                weight = table.get(x * x + y * y, 0)
                if after and (y == 0 and x <= 0) or not weight:
                    continue
                column = c + x + y * width
                if (0 <= c % width + x < width and 0 <= c % B // width + y < -(-B // width)
                        and 0 <= column < C):
                    yield column, weight

    def total(table, radius, after=False):
        return sum(table.get(x * x + y * y, 0) for x in range(-radius, radius + 1)
                   for y in range(0 if after else -radius, radius + 1)
                   if not (after and y == 0 and x <= 0))

    worth, group = [0] * C, [0] * C
    for c, u in enumerate(units or []):
        worth[c] = log2(5 * u + 1) - log2(5 * sum(units) + C) + log2(C)
        group[c] = 1 if not u else 2 + clip(
            4 + (log2(u) + log2(C) - log2(sum(units)) >> 12), *((0, 8) if R > 1 else (3, 4)))
    places = [[64 * probability(base + 2048 * (i // 16 + i % 16 - 16)), 4] for i in range(256)]
    groups = states(11, 64 * d, 1)
    sides, row_sides, group_sides = (states(count, 2**21, 0) for count in (45, 15, 11))
    W = ceil2(max(low, high))

    def leaves(node, size):
        # sizes - 1 in the right half and below the node
        g = node.bit_length() - 1
        span, first = 2 ** (W - g), node * 2 ** (W - g) - 2**W
        inside = range(first, min(first + span, size))
        return sum(v >= first + span // 2 for v in inside), len(inside)

    def tree(size, contexts):
        nodes = [None]
        for node in range(1, 2**W):
            right, both = leaves(node, size)
            nodes.append(states(contexts, (right << 22) // both if both else 0, 2))
        return nodes

    own = [tree(low, 1), tree(high, 1)]
    shared = [tree(max(low, high), contexts) for contexts in (7, 49, 8, 11)]
    kept, signs, sizes, around = ([0] * C for _ in range(4))
    block_kept, block_signs = [0] * -(-C // B), [0] * -(-C // B)
    S_near, S_far, S_around = total(NEAR, 2, True), total(FAR, 4, True), total(AROUND, 3)
    seen, all_sizes, number, left = [0, 0], 1, 1, m
    for r in range(R):
        row, row_kept, row_signs, row_sizes = codes[r], 0, 0, 0
        before_sign = before_size = 0
        near, far, known = [0] * C, [0] * C, []
        for c in range(C):
            if not left:
                break
            if c % B == 0:
                in_block = signs_in_block = 0
            b = c // B
            if left < entries:
                pb = clip(((block_kept[b] << 16) + 8 * d) // (r * B + 8), 1, 65535)
                f = [4096, logit((kept[c] << 16) + 8 * pb, r + 8 << 16) - base,
                     logit((row_kept << 16) + 40 * d, c + 40 << 16) - base,
                     logit(pb, 65536) - base, logit(4 * left + 1, 4 * entries + 2) - base,
                     worth[c], 0, 0, 0, 0]
                if width:
                    f[6] = logit((in_block << 16) + 12 * d, c % B + 12 << 16) - base
                    f[7] = logit((near[c] << 10) + d, (S_near << 10) + 65536) - base
                    f[8] = logit((far[c] << 10) + 2 * d, (S_far << 10) + 131072) - base
                    f[9] = logit((around[c] << 10) + 8 * pb, (S_around * r << 10) + 524288) - base
                h1, h2 = (clip((2 * v + 2048 >> 12) + 8, 0, 15) for v in f[1:3])
                place, crowd = places[16 * h1 + h2], groups[group[c]]
                f += [of(place) - base, of(crowd) - base if units else 0]
                there = mixed_bit(0, f, base, 13)
                learn(place, there, 255)
                learn(crowd, there, 255)
                if not there:
                    entries -= 1
                    continue
            here, beside = [0, 0, 0], [0, 0, 0]
            for column, weight in (neighbours(c, BELL, 2) if width else
                                   [(v, 64) for v in (c - 1, c, c + 1) if 0 <= v < C]):
                for i, what in enumerate((signs, sizes, kept)):
                    beside[i] += weight * what[column]
                code = row[column]
                if width and column < c and code:
                    here[0] += weight if code > low else -weight
                    here[1] += weight * (code - low if code > low else low + 1 - code)
                    here[2] += weight
            side = int(not low)
            if low and high:
                used = [sides[5 * (clip(2 * here[0] + 32 >> 6, -4, 4) + 4) + clip(signs[c], -2, 2)
                              + 2],
                        row_sides[3 * (clip(row_signs + 1 >> 1, -2, 2) + 2) + before_sign + 1],
                        group_sides[group[c]]]
                side = mixed_bit(12, [
                    ratio(2 * signs[c], 2 * kept[c] + 3), ratio(row_signs, row_kept + 2),
                    ratio(here[0], here[2] + 45),
                    ratio(2 * signs_in_block, 2 * in_block + 3) if width else 0,
                    ratio(block_signs[b], block_kept[b] + 2), ratio(beside[0], beside[2] + 96),
                    4096 * before_sign, log2(seen[1] + 1) - log2(seen[0] + 1),
                    of(used[0]), of(used[1]), of(used[2]) if units else 0], 0, 12)
                for state in used:
                    learn(state, side, 255)
            mean = (all_sizes << 8) // number

            def level(z, v, prior):
                L = log2((z << 8) + prior * mean) - log2((v + prior) * mean)
                return clip((5 * L + 4096 >> 13) + 3, 0, 6)

            contexts = [level(row_sizes, row_kept, 2),
                        7 * level(here[1], here[2], 64) + level(beside[1], beside[2], 128),
                        min(before_size, 7), group[c]]
            node = 1
            for _ in range(W):
                bit = 0
                if leaves(node, high if side else low)[0]:
                    first = own[side][node][0]
                    others = [t[node][i] for t, i in zip(shared, contexts)]
                    f = [of(first)]
                    f += [(of(T) - f[0]) * min(2 * T[1] + 1, 16) >> 4 for T in others]
                    if not units:
                        f[4] = 0
                    bit = mixed_bit(23, f, 0, 11)
                    for state in (first, *others):
                        learn(state, bit, 255)
                node = 2 * node + bit
            size, sign = node - 2**W + 1, 1 if side else -1
            row[c] = low + size if side else low + 1 - size
            left, entries = left - 1, entries - 1
            row_kept, row_signs, row_sizes = row_kept + 1, row_signs + sign, row_sizes + size
            in_block, signs_in_block = in_block + 1, signs_in_block + sign
            before_sign, before_size = sign, size
            seen[side] += 1
            all_sizes, number = all_sizes + size, number + 1
            known.append((c, sign, size))
            for field, table, radius in ((near, NEAR, 2), (far, FAR, 4)):
                for column, weight in neighbours(c, table, radius, True) if width else ():
                    field[column] += weight
        for c, sign, size in known:
            kept[c], signs[c], sizes[c] = kept[c] + 1, signs[c] + sign, sizes[c] + size
            block_kept[c // B] += 1
            block_signs[c // B] += sign
            for column, weight in neighbours(c, AROUND, 3) if width else ():
                around[column] += weight
    return codes


# ------------------------------------------------------------------ 4, 6: forms, layouts


def product(shape):
    n = 1
    for side in shape:
        n *= side
    return n


def unscan(values, shape):
    # of a scan with axes reversed, in C order
    out = []
    for i in range(product(shape)):
        index, rest = [], i
        for side in reversed(shape):
            index.append(rest % side)
            rest //= side
        at = 0
        for side, v in zip(reversed(shape), index):
            at = at * side + v
        out.append(values[at])
    return out


def bucket_symbol(v, s):
    e = v.bit_length() - 1
    return v if v < 2 ** (s + 1) else (2**s) * (e - s) + (v >> e - s)


def gaps(r, layout, n):
    # positions of the entries that a layout of gaps lists
    m, parameter = r.count(), r.number(4)
    if layout == 2:
        ahead = symbols(r, m, 2 ** (parameter + 1))
    elif layout == 3:
        ahead = r.rice(m, parameter)
    else:
        found = symbols(r, m, bucket_symbol(n - 1, parameter) + 1)
        below = [max((v >> parameter) - 1, 0) for v in found]
        ahead = [v - (by << parameter) << by for v, by in zip(found, below)]
        for width in range(1, max(below, default=0) + 1):
            for i, by in enumerate(below):
                if by == width:
                    ahead[i] += r.number(width)
    at, positions = -1, []
    for v in ahead:
        at += v + 1
        positions.append(at)
    return positions


def carrier(r, shape, K, zero, read, units, below, dense):
    # (symbols or floats in C order, the mask or None); K : 0 for floats, read(n) -> n of them
    n, layout = product(shape), r.number(3)
    order = r.number(1) if len(shape) > 1 else 0

    def values(n, least):
        return [v + least for v in symbols(r, n, K + 1 - least)] if K else read(n)

    if layout == 0:
        flat = values(n, 0 if zero else 1)
        return (unscan(flat, shape) if order else flat), None
    if layout == 1:
        positions = [i for i, bit in enumerate(r.numbers(n, 1)) if bit]
    elif layout < 5:
        positions = gaps(r, layout, n)
    else:
        flat = learnt(r, layout, order, shape, K or 1, units, below if K else None, dense, not K)
        positions = [i for i, v in enumerate(flat) if v]
        if K:
            return (unscan(flat, shape) if order else flat), [v != 0 for v in flat]
    found = values(len(positions), 0 if layout == 2 else 1)
    out = [0] * n
    for at, v in zip(positions, found):
        out[at] = v
    keep = set(positions) if layout != 2 else {at for at, v in zip(positions, found)
                                              if K and v or not K and (v or str(v)[0] == "-")}
    mask = [i in keep for i in range(n)]
    return (unscan(out, shape), unscan(mask, shape)) if order else (out, mask)


def learnt(r, layout, order, shape, K, units, below, dense, of_floats):
    n = product(shape)
    R = shape[-1] if order else shape[0]
    R = 1 if len(shape) == 1 else R
    C = n // R
    if layout == 5:
        kept, lag = r.count(), r.count()
        size = r.count() if of_floats else r.left() // 8
        codes = context(r.numbers(size, 8), R, C, kept, K, lag)
    else:
        assert layout == 6 and not order
        kept = n if dense else r.number(ceil2(n + 1))
        low = r.number(ceil2(K + 1)) if below is None else below
        if units is None or len(units) < 2 or C % len(units) or not any(units):
            units = None
        each = C // len(units) if units else 0
        root = round(each**0.5)
        width, block, picture = 0, C, r.number(2)
        if picture == 1:
            own = len(shape) == 4 and shape[2:] != (1, 1)
            assert own or root > 1 and root * root == each
            width, block = (shape[3], shape[2] * shape[3]) if own else (root, each)
        elif picture:
            width = r.count()
            block = r.count() if picture == 3 else C
        by_column = [units[c // each] for c in range(C)] if units and r.number(1) else None
        size = r.count() if of_floats else r.left() // 8
        codes = mixed(r.numbers(size, 8), R, C, kept, low, K - low, width, block, by_column)
    return [v for row in codes for v in row]


FLOATS = {0: "f", 1: "e", 5: "H"}


def form(r, shape, units, within=False):
    # (values, mask or None)
    wire, n = r.count(), product(shape)
    if wire in FLOATS:
        if within:
            return floats(r, n, FLOATS[wire]), None
        return carrier(r, shape, 0, False, lambda n: floats(r, n, FLOATS[wire]), units, None, False)
    if wire == 2:
        k, pinned = r.count() + 1, r.number(1)
        table, _ = form(r, (k - pinned,), None, within=True)
        below = sum(v < 0 for v in table)
        found, _ = carrier(r, shape, k - pinned, pinned, None, units, below, not pinned)
        values = [0.0, *table]
        return [values[s] for s in found], [s > 0 for s in found] if pinned else None
    assert wire == 3
    bits, grid, by_row = r.count() + 1, r.count(), r.number(1)
    group, pruned = r.count(), r.number(1)
    assert not group and grid < 2
    scale = floats(r, shape[0] if by_row else 1, "f")
    assert not r.number(1)  # no zero points
    first = -(2 ** (bits - 1)) + (grid == 0)
    K = 2 ** (bits - 1) - 1 - first
    found, _ = carrier(r, shape, K, True, None, units, None, False)
    codes = [0 if not s else first + s - 1 + (first + s - 1 >= 0) for s in found]
    each = n // len(scale)
    values = [struct.unpack("<f", struct.pack("<f", scale[i // each] * q))[0]
              for i, q in enumerate(codes)]
    return values, [q != 0 for q in codes] if pruned else None


def decoded(data):
    header, sections = sections_of(data)
    units, out = None, {}
    for (name, shape), section in zip(forms_of(header), sections, strict=True):
        r = Bits(section)
        values, mask = form(r, shape, units)
        assert r.left() < 8 and not r.number(r.left())
        out[name] = values
        if len(shape) > 1:
            each = product(shape[1:])
            units = mask and [sum(mask[i : i + each]) for i in range(0, len(mask), each)]
    return out


@pytest.mark.parametrize("name", FILES)
def test_a_decoder_written_from_the_page_reads_it(name):
    wanted = json.loads((FOLDER / "values.json").read_text())[name]
    found = decoded((FOLDER / name).read_bytes())
    as_bytes = {form: struct.pack(f"<{len(v)}f", *v) for form, v in found.items()}
    assert {form: b.hex() if len(b) <= 8000 else hashlib.sha256(b).hexdigest()
            for form, b in as_bytes.items()} == wanted


def test_every_coder_and_layout_has_a_file():
    assert {name.split(".")[0].split("-")[0] for name in FILES} >= {
        "all", "bitmap", "relative", "rice", "bucket", "context", "mixed", "huffman", "four",
        "split", "trits", "rans", "rising", "affine", "bfloat16"}
