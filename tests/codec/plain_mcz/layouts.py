"""Section 6: which entries are kept, and in which order they stand."""

from .bits import ceil2, product
from .context import context
from .mixed import mixed
from .streams import symbols


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
    # (symbols or floats in C order, the mask or None); read(n) -> n floats, None for symbols
    # K : codes beside the zero, 1 for floats
    n, layout = product(shape), r.number(3)
    order = r.number(1) if len(shape) > 1 else 0

    def values(n, least):
        return [v + least for v in symbols(r, n, K + 1 - least)] if not read else read(n)

    if layout == 0:
        flat = values(n, 0 if zero else 1)
        return (unscan(flat, shape) if order else flat), None
    if layout == 1:
        positions = [i for i, bit in enumerate(r.numbers(n, 1)) if bit]
    elif layout < 5:
        positions = gaps(r, layout, n)
    else:
        flat = learnt(r, layout, order, shape, K, units, below, dense)
        positions = [i for i, v in enumerate(flat) if v]
        if not read:
            flat = unscan(flat, shape) if order else flat
            return flat, None if dense else [v != 0 for v in flat]
    found = values(len(positions), 0 if layout == 2 else 1)
    out = [0] * n
    for at, v in zip(positions, found):
        out[at] = v
    keep = set(positions) if layout != 2 else {at for at, v in zip(positions, found)
                                              if v or read and str(v)[0] == "-"}
    mask = [i in keep for i in range(n)]
    return (unscan(out, shape), unscan(mask, shape)) if order else (out, mask)


def learnt(r, layout, order, shape, K, units, below, dense):
    n = product(shape)
    R = shape[-1] if order else shape[0]
    R = 1 if len(shape) == 1 else R
    C = n // R
    if layout == 5:
        kept, lag = r.count(), r.count()
        size = r.count() if K == 1 else r.left() // 8
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
        size = r.count() if K == 1 else r.left() // 8
        codes = mixed(r.numbers(size, 8), R, C, kept, low, K - low, width, block, by_column)
    return [v for row in codes for v in row]
