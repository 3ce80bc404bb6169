"""Section 5: streams of symbols and of floats."""

import struct

from .bits import Bits, ceil2, clip, unzigzag


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
