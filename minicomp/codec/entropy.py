"""What no code undercuts: order-0 entropy, and that of symbols whose context is known.

Shannon's source coding theorem: symbols that occur f of n times take at least log2(n / f) bits each
if all that is known of a symbol is how often it occurs. Whoever knows more, where it stands and
what stands around it, counts in each context by itself; what is left then bounds a coder that looks
at this context alone, its knowledge of the counts not charged.

Source: Shannon 1948, theorem 9; Krichevsky & Trofimov 1981.
"""

from __future__ import annotations

import numpy as np

from ..nn.forms import Form
from .context import best_lag
from .forms import symbols_of
from .huffman import entropy_bits
from .mixed import table_shape

Array = np.ndarray


def order0_bits(symbols: Array) -> float:
    """Returns sum over symbols of log2(n / f), in bits.

    symbols : integers >= 0, of any shape

    >>> order0_bits(np.array([0, 0, 1, 2]))
    6.0
    """
    return entropy_bits(np.unique(symbols, return_counts=True)[1])


def conditional_bits(symbols: Array, contexts: Array) -> float:
    """Returns the order-0 bits of the symbols of each context, in all.

    symbols, contexts : integers >= 0, of one shape

    >>> conditional_bits(np.array([0, 0, 1, 2]), np.array([5, 5, 6, 6]))
    2.0
    """
    symbols, contexts = np.ravel(symbols), np.ravel(contexts)
    return sum(order0_bits(symbols[contexts == c]) for c in np.unique(contexts))


def adaptive_bits(symbols: Array, k: int, first: float = 0.5) -> float:
    """Returns the bits of a coder that counts as it goes, in bits.

    Each symbol takes -log2 of its share of what was seen, (count + first) / (seen + k first); with
    first = 1/2 that is at most (k - 1) / 2 log2 n + log2 k bits more than order 0.
    symbols : (N,) integers below k        first : what each count begins at, > 0
    Source: Krichevsky & Trofimov 1981
    """
    counts, bits = np.full(k, first), 0.0
    for s in np.asarray(symbols).tolist():
        bits -= float(np.log2(counts[s] / counts.sum()))
        counts[s] += 1
    return bits


def bounds(form: Form) -> tuple[float, float] | None:
    """Returns (order 0, best context) of a form's codes, in bytes; None where it has no codes.

    Pruned entries are a symbol among the others, so both hold for pattern and codes together. The
    best context is that of the fewest bits among: the sign of the entry before, above, one image
    row before; two of these; how many of its column's entries above are kept, in octaves.
    """
    symbols, below = symbols_of(form)
    if symbols is None or not symbols.size:
        return None
    table = symbols.reshape(table_shape(symbols.shape)).astype(np.int64)
    known = _contexts(table, below)
    return order0_bits(table) / 8, min(conditional_bits(table, c) for c in known) / 8


def _contexts(table: Array, below: int) -> list[Array]:
    signs = np.where(table == 0, 0, np.where(table <= below, 1, 2))
    lag = best_lag(table > 0) or table.shape[1]
    before, above, row = _shifted(signs, 1, 1), _shifted(signs, 1, 0), _shifted(signs, lag, 1)
    kept = np.cumsum(table > 0, axis=0) - (table > 0)
    octaves = np.frexp(kept.astype(np.float64))[1]  # 0 at none, then 1 + floor(log2)
    return [0 * table, before, above, row, before + 3 * above, before + 3 * row, octaves]


def _shifted(a: Array, by: int, axis: int) -> Array:
    out = np.zeros_like(a)
    if by < a.shape[axis]:
        if axis:
            out[:, by:] = a[:, :-by]
        else:
            out[by:] = a[:-by]
    return out
