"""Section 8: the layout mixed."""

from .bits import ceil2, clip
from .context import Range, learn


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
