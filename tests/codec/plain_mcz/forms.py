"""Section 4: forms, what they hold and the numbers that these decode to.

A decoder takes the bits behind the number of its form, the shape, the units of the tensor before
and whether it is within another form; it returns (numbers, mask or None), both in C order. Numbers
are floats that float32 holds: a sum or a product of two is rounded by `f32` once, as float32 does.
"""

import struct

from .bits import product
from .layouts import carrier
from .splitmix import drawn, normals, order
from .streams import floats, symbols

LOW_PASSES = (
    (0.7071067811865476, 0.7071067811865476),
    (0.4829629131445341, 0.8365163037378077, 0.2241438680420134, -0.12940952255126034),
    (0.2303778133088965, 0.7148465705529157, 0.6308807679298589, -0.027983769416859854,
     -0.18703481171909309, 0.030841381835560764, 0.0328830116668852, -0.010597401785069032),
)
# of a trellis: by parity of the code the state after each, and which states are of Q1
NEXT = {4: ((0, 2, 1, 3), (2, 0, 3, 1)), 8: ((0, 7, 1, 6, 2, 5, 3, 4), (2, 5, 3, 4, 0, 7, 1, 6))}
ODD = {4: (2, 3), 8: (1, 3, 5, 7)}


def f32(v):
    return struct.unpack("<f", struct.pack("<f", v))[0]


def total(terms, start=0.0):
    for term in terms:
        start = f32(start + term)
    return start


def form(r, shape, units=None, within=()):
    # within : the forms of which it may be one within another
    wire = r.count()
    assert not within or wire in within
    return FORMS[wire](r, shape, units, bool(within))


def part(r, shape, of=(0, 1, 3, 5)):
    # the numbers of a form within another
    return form(r, shape, None, of)[0]


def integers(r, n, lo, hi):
    return [lo + s for s in symbols(r, n, hi - lo + 1)]


# Forms with a carrier: whatever has an entry for each of the weight.


def coded(r, shape, lo, hi, zero, units, within, below=None, dense=False):
    # (codes, mask or None) of a carrier
    K = hi - lo + 1 - (zero is not None)
    if within and zero is None:
        return integers(r, product(shape), lo, hi), None
    found, mask = carrier(r, shape, K, zero is not None, None, units, below, dense)
    codes = [zero if not s and zero is not None else lo + max(s - 1, 0) for s in found]
    if zero is not None:
        codes = [q + (q >= zero) if s else q for q, s in zip(codes, found)]
    return codes, mask


def pruned_to(values, codes, zero, pruned, mask):
    # (values, mask) of integers: what is not kept is +0
    assert zero is not None or bool(pruned) == (mask is not None)
    if not pruned:
        return values, None
    mask = mask if zero is None else [q != zero for q in codes]
    return [v if kept else 0.0 for v, kept in zip(values, mask)], mask


def plain(kind):
    def read(r, shape, units, within):
        if within:
            return floats(r, product(shape), kind), None
        return carrier(r, shape, 1, False, lambda n: floats(r, n, kind), units, None, False)
    return read


def codebook(r, shape, units, within):
    k, pinned = r.count() + 1, r.number(1)
    table = part(r, (k - pinned,), (0, 1, 5, 6, 7))
    index, _ = coded(r, shape, 0, k - 1, 0 if pinned else None, units, within,
                     sum(v < 0 for v in table), not pinned)
    values = [0.0] * pinned + table
    return [values[i] for i in index], [i > 0 for i in index] if pinned else None


def affine(r, shape, units, within):
    bits, grid, by_row = r.count() + 1, r.count(), r.number(1)
    group, pruned = r.count(), r.number(1)
    half = 2 ** (bits - 1)
    lo, hi = (0, 2 * half - 1) if grid == 2 else (-half + (grid == 0), half - 1)
    n, rows = product(shape), shape[0] if by_row else 1
    row = n // rows
    each = group or row  # entries that share a scale
    in_row = -(-row // each)
    scale = floats(r, rows * in_row, "f")
    zeros = integers(r, len(scale), lo, hi) if r.number(1) else [0] * len(scale)
    zero = zeros[0] if grid != 3 and len(set(zeros)) == 1 else None
    q, mask = coded(r, shape, lo, hi, zero, units, within)
    at = [i // row * in_row + i % row // each for i in range(n)]
    values = [f32(scale[a] * (c - zeros[a] + (0.5 if grid == 3 else 0))) for c, a in zip(q, at)]
    return pruned_to(values, q, zero, pruned, mask)


def fixed(r, shape, units, within):
    il, fl, pruned = r.count() + 1, r.count() - 23, r.number(1)
    half = 2 ** (il + fl - 1)
    q, mask = coded(r, shape, -half, half - 1, 0, units, within)
    return pruned_to([c * 2.0**-fl for c in q], q, 0, pruned, mask)


def binary(r, shape, units, within):
    bases, by_row, pruned = r.count() + 1, r.number(1), r.number(1)
    rows = shape[0] if by_row else 1
    alpha, each = floats(r, rows * bases, "f"), product(shape) // rows
    q, mask = coded(r, shape, 0, 2**bases - 1, None, units, within)
    values = []
    for i, c in enumerate(q):
        a = alpha[i // each * bases :][:bases]
        first, *rest = [v if c >> b & 1 else -v for b, v in enumerate(a)]
        values.append(total(rest, first))
    return pruned_to(values, q, None, pruned, mask)


def ternary(r, shape, units, within):
    by_row, equal, pruned = r.number(1), r.number(1), r.number(1)
    rows = shape[0] if by_row else 1
    scale, each = floats(r, rows * (2 - equal), "f"), product(shape) // rows
    pairs = [scale[i * (2 - equal) :][: 2 - equal] for i in range(rows)]
    q, mask = coded(r, shape, -1, 1, 0, units, within)
    values = [(0.0, pairs[i // each][0], -pairs[i // each][-1])[c] for i, c in enumerate(q)]
    return pruned_to(values, q, 0, pruned, mask)


def trellis(r, shape, units, within):
    bits, states = r.count() + 2, r.count() + 4
    scale, = floats(r, 1, "f")
    most = 2 ** (bits - 1) - 1
    codes, _ = coded(r, shape, -most, most, 0, units, within)
    each, values = product(shape[1:]), []
    for i, k in enumerate(codes):
        if i % each == 0:
            state = 0
        point = 2 * k - ((k > 0) - (k < 0)) * (state in ODD[states])
        values.append(f32(scale * point))
        state = NEXT[states][k & 1][state]
    return values, None


# Tables.


def powers(r, shape, units, within):
    top, (k,) = r.count() - 126, shape
    sizes = [2.0**e for e in range(top - k // 2 + 1, top + 1)]
    return [0.0] * (k % 2) + [-v for v in sizes[::-1]] + sizes, None


def apot(r, shape, units, within):
    scale, = floats(r, 1, "f")
    (k,) = shape
    bits = k.bit_length()
    n, odd = divmod(bits - 1, 2)
    sums = [0.0]
    for i in range(n):
        sums = [v + 2.0**e for v in sums for e in (-i, -i - n, -i - 2 * n - odd)] + sums
    sums += [v + 2.0 ** (-2 * n) for v in sums] * odd
    ordered = sorted(sums)
    sizes = [f32(v / ordered[-1]) for v in ordered[1:]]
    levels = [0.0] * (k % 2) + [-v for v in sizes[::-1]] + sizes
    assert len(levels) == k
    return [f32(scale * v) for v in levels], None


# Forms none of whose numbers belongs to one place.


def wavelet(r, shape, units, within):
    number, levels = r.count(), r.count()
    m = -(-product(shape) >> levels) << levels
    c = part(r, (m,))
    h = [f32(tap) for tap in LOW_PASSES[number]]
    g = [(-1) ** j * tap for j, tap in enumerate(h[::-1])]
    x = c[: m >> levels]
    while len(x) < m:
        d, y = c[len(x) : 2 * len(x)], []
        for i in range(2 * len(x)):
            at = [((i - j + len(h) // 2 - 1) // 2 % len(x), j) for j in range(len(h))
                  if (i - j + len(h) // 2 - 1) % 2 == 0]
            y.append(total(f32(f32(h[j] * x[k]) + f32(g[j] * d[k])) for k, j in at))
        x = y
    return x[: product(shape)], None


def segments(r, shape, units, within):
    count, longest = r.count(), r.count() + 1
    lengths = integers(r, count, 1, longest)
    levels = part(r, (count,))
    assert sum(lengths) == product(shape)
    return [v for v, length in zip(levels, lengths) for _ in range(length)], None


def vectors(r, shape, units, within):
    stages, block, k = r.count() + 1, r.count() + 1, r.count() + 1
    shared, rows, columns = r.number(1), shape[0], product(shape[1:])
    s = -(-columns // block)
    index = integers(r, stages * rows * s, 0, k - 1)
    books = part(r, (stages, 1 if shared else s, k, block), (0, 1, 5))

    def term(t, o, j):
        b = j // block
        book = t if shared else t * s + b
        return books[(book * k + index[(t * rows + o) * s + b]) * block + j - b * block]

    return [total(term(t, o, j) for t in range(stages))
            for o in range(rows) for j in range(columns)], None


def hashed(r, shape, units, within):
    count, seed = r.count() + 1, r.count()
    buckets, values = part(r, (count,)), []
    for p in range(product(shape)):
        z = drawn(seed, p)
        b = buckets[count * (z >> 32) >> 32]
        values.append(-b if z & 1 else b)
    return values, None


def circulant(r, shape, units, within):
    b, flipped, seed = r.count() + 1, r.number(1), r.count()
    rows, inputs = shape[0], product(shape[1:])
    across = -(-inputs // b)
    columns, values = part(r, (-(-rows // b) * across * b,)), []
    for i in range(rows):
        for j in range(inputs):
            v = columns[(i // b * across + j // b) * b + (i - j) % b]
            values.append(-v if flipped and drawn(seed, j) & 1 else v)
    return values, None


def dictionary(r, shape, units, within):
    k, lookups, most = r.count() + 1, r.count(), r.count()
    C, inner = shape[1], product(shape[2:])
    atoms = part(r, (k, C))
    counts = integers(r, shape[0] * inner, 0, most)
    index = integers(r, lookups, 0, k - 1)
    coefficient = part(r, (lookups,))
    assert sum(counts) == lookups
    values, first = [0.0] * product(shape), 0
    for place, count in enumerate(counts):
        own = range(first, first + count)
        for c in range(C):
            values[(place // inner * C + c) * inner + place % inner] = total(
                f32(atoms[index[t] * C + c] * coefficient[t]) for t in own)
        first += count
    return values, None


def seeded(r, shape, units, within):
    seed, count, bits = r.count(), r.count(), r.count() + 1
    index = integers(r, count, 0, 2**bits - 1)
    scale, = floats(r, 1, "f")
    n = product(shape)
    samples = [z for b, k in enumerate(index) for z in normals(seed, b, k, -(-n // count))]
    values = [0.0] * n
    for at, z in zip(order(n, seed), samples):
        values[at] = f32(f32(z * f32(43690**-0.5)) * scale)
    return values, None


FORMS = {0: plain("f"), 1: plain("e"), 2: codebook, 3: affine, 4: fixed, 5: plain("H"), 6: powers,
         7: apot, 8: wavelet, 9: segments, 11: binary, 12: ternary, 13: vectors, 14: hashed,
         15: circulant, 16: dictionary, 17: trellis, 18: seeded}
