"""The elementary operations and their rules: elementwise, reductions, matmul, movement, gather.

Each is a NumPy function and one rule per argument, `(g, y, *args, **constants)`: g is the cotangent
of the output y. Rules speak in these same operations, so each gradient is differentiable (see
`tensor.py`). Piecewise linear functions take a constant of their input's sign or order: the
derivative of that constant is 0 wherever it exists.

Results keep the dtype of their inputs. Constants are keyword arguments.
"""

from __future__ import annotations

import numpy as np

from .kernels.codebook import lookup, scatter
from .tensor import Array, Tensor, plain, primitive, raw, rules, variadic_rule

# ------------------------------------------------------------------------------------- broadcasting


@primitive
def sum_to(g, like):
    """Returns g summed over the axes that broadcasting added or stretched: of `like`'s shape."""
    shape = np.shape(like)
    if g.shape == shape:
        return g
    lead = g.ndim - len(shape)
    axes = tuple(range(lead)) + tuple(
        lead + i for i, n in enumerate(shape) if n == 1 < g.shape[lead + i]
    )
    return g.sum(axis=axes, keepdims=True).reshape(shape)


@primitive
def broadcast_to(x, *, shape):
    """Returns x stretched to `shape` (a read-only view on plain arrays)."""
    return np.broadcast_to(x, shape)


rules(sum_to, lambda g, y, x, like: broadcast_to(g, shape=x.shape) if g.ndim == x.ndim else
      broadcast_to(reshape(g, shape=(1,) * (x.ndim - g.ndim) + g.shape), shape=x.shape), None)
rules(broadcast_to, lambda g, y, x, shape: sum_to(g, raw(x)))


@primitive
def alias(x):
    """Returns x as another node of the graph."""
    return x


@primitive
def astype(x, *, dtype):
    """Returns x in another floating-point type."""
    return x.astype(dtype)


rules(alias, lambda g, y, x: g)
rules(astype, lambda g, y, x, dtype: astype(g, dtype=x.dtype))

# -------------------------------------------------------------------------------------- elementwise


@primitive
def add(a, b):
    """Returns a + b, broadcast."""
    return a + b


@primitive
def sub(a, b):
    """Returns a - b, broadcast."""
    return a - b


@primitive
def mul(a, b):
    """Returns a * b, broadcast."""
    return a * b


@primitive
def div(a, b):
    """Returns a / b, broadcast."""
    return a / b


@primitive
def neg(x):
    """Returns -x."""
    return -x


@primitive
def power(x, *, exponent):
    """Returns x to the power of a Python number."""
    if isinstance(exponent, Tensor):
        raise TypeError("exponent must be a number, got a Tensor; use exp(b * log(a))")
    return x ** plain(exponent)


@primitive
def exp(x):
    """Returns e ** x."""
    return np.exp(x)


@primitive
def log(x):
    """Returns the natural logarithm of x."""
    return np.log(x)


@primitive
def sqrt(x):
    """Returns the square root of x."""
    return np.sqrt(x)


@primitive
def tanh(x):
    """Returns the hyperbolic tangent of x."""
    return np.tanh(x)


@primitive
def sigmoid(x):
    """Returns 1 / (1 + exp(-x)), without overflow for any x."""
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e)).astype(x.dtype, copy=False)


@primitive
def absolute(x):
    """Returns |x|; its slope at 0 is 0."""
    return np.abs(x)


@primitive
def sign(x):
    """Returns -1, 0 or 1; a constant to differentiation."""
    return np.sign(x)


@primitive
def relu(x):
    """Returns max(x, 0); its slope at 0 is 0."""
    return np.maximum(x, 0)


@primitive
def relu6(x):
    """Returns min(max(x, 0), 6); its slope at 0 and at 6 is 0."""
    return np.clip(x, 0, 6)


@primitive
def clip(x, *, lo, hi):
    """Returns x limited to lo..hi (None: no limit); its slope is 1 at the limits."""
    return np.clip(x, plain(lo), plain(hi))


@primitive
def maximum(a, b):
    """Returns the larger of a and b; where they are equal each gets half of the gradient."""
    return np.maximum(a, b)


@primitive
def minimum(a, b):
    """Returns the smaller of a and b; where they are equal each gets half of the gradient."""
    return np.minimum(a, b)


@primitive
def where(condition, a, b):
    """Returns a where the condition (a boolean array) holds, else b."""
    return np.where(condition, a, b)


rules(add,      lambda g, y, a, b: sum_to(g, raw(a)),
                lambda g, y, a, b: sum_to(g, raw(b)))
rules(sub,      lambda g, y, a, b: sum_to(g, raw(a)),
                lambda g, y, a, b: sum_to(-g, raw(b)))
rules(mul,      lambda g, y, a, b: sum_to(g * b, raw(a)),
                lambda g, y, a, b: sum_to(g * a, raw(b)))
rules(div,      lambda g, y, a, b: sum_to(g / b, raw(a)),
                lambda g, y, a, b: sum_to(-g * y / b, raw(b)))
rules(neg,      lambda g, y, x: -g)
rules(power,    lambda g, y, x, exponent: g * (exponent * power(x, exponent=exponent - 1))
                if exponent else g * _constant(np.zeros, x))
rules(exp,      lambda g, y, x: g * y)
rules(log,      lambda g, y, x: g / x)
rules(sqrt,     lambda g, y, x: g * 0.5 / y)
rules(tanh,     lambda g, y, x: g * (1 - y * y))
rules(sigmoid,  lambda g, y, x: g * (y * (1 - y)))
rules(absolute, lambda g, y, x: g * np.sign(raw(x)))
rules(sign,     lambda g, y, x: None)
rules(relu,     lambda g, y, x: g * _as(raw(x) > 0, x))
rules(relu6,    lambda g, y, x: g * _as((raw(x) > 0) & (raw(x) < 6), x))
rules(clip,     lambda g, y, x, lo, hi: g * _as(_inside(raw(x), lo, hi), x))
rules(maximum,  lambda g, y, a, b: sum_to(g * _share(np.greater, a, b), raw(a)),
                lambda g, y, a, b: sum_to(g * _share(np.greater, b, a), raw(b)))
rules(minimum,  lambda g, y, a, b: sum_to(g * _share(np.less, a, b), raw(a)),
                lambda g, y, a, b: sum_to(g * _share(np.less, b, a), raw(b)))
rules(where, None,
      lambda g, y, condition, a, b: sum_to(g * _as(raw(condition), g), raw(a)),
      lambda g, y, condition, a, b: sum_to(g * _as(~raw(condition), g), raw(b)))


def _as(mask: Array, x) -> Array:
    # A boolean mask as 0 and 1 in the dtype of x.
    return mask.astype(x.dtype)


def _constant(make, x):
    return make(x.shape, x.dtype)


def _inside(x: Array, lo, hi) -> Array:
    above = True if lo is None else x >= lo
    return above & (True if hi is None else x <= hi) & np.ones(x.shape, bool)


def _share(beats, a, b) -> Array:
    # The part of the gradient that a gets in a contest with b: 1, 0, or 1/2 in a draw.
    a, b = raw(a), raw(b)
    dtype = np.result_type(a, b)
    return beats(a, b).astype(dtype) + 0.5 * np.equal(a, b).astype(dtype)


# --------------------------------------------------------------------------------------- reductions


@primitive
def sum(x, *, axis=None, keepdims=False):
    """Returns the sum over `axis` (an int, a tuple or None for all)."""
    return np.asarray(x.sum(axis=axis, keepdims=keepdims))


@primitive
def max(x, *, axis=None, keepdims=False):
    """Returns the largest entry over `axis`; equal entries share the gradient evenly."""
    return np.asarray(x.max(axis=axis, keepdims=keepdims))


def min(x, *, axis=None, keepdims=False):
    """Returns the smallest entry over `axis`; equal entries share the gradient evenly."""
    return neg(max(neg(x), axis=axis, keepdims=keepdims))


def _expand(g, x, axis, keepdims):
    # g, reduced over `axis` of x, stretched back to the shape of x.
    if not keepdims:
        kept = {a % x.ndim for a in _axes(axis, x.ndim)}
        g = reshape(g, shape=tuple(1 if i in kept else n for i, n in enumerate(x.shape)))
    return broadcast_to(g, shape=x.shape)


def _axes(axis, ndim: int) -> tuple[int, ...]:
    return tuple(range(ndim)) if axis is None else (axis,) if isinstance(axis, int) else tuple(axis)


def _max_rule(g, y, x, axis, keepdims):
    hit = _as(raw(x) == raw(x).max(axis=axis, keepdims=True), x)
    return _expand(g, x, axis, keepdims) * (hit / hit.sum(axis=axis, keepdims=True))


rules(sum, lambda g, y, x, axis=None, keepdims=False: _expand(g, x, axis, keepdims))
rules(max, lambda g, y, x, axis=None, keepdims=False: _max_rule(g, y, x, axis, keepdims))


@primitive
def mean(x, *, axis=None, keepdims=False):
    """Returns the mean over `axis`."""
    return np.asarray(x.mean(axis=axis, keepdims=keepdims))


def _count(x, axis) -> float:
    return float(np.prod([x.shape[a] for a in _axes(axis, x.ndim)]))


rules(mean, lambda g, y, x, axis=None, keepdims=False:
      _expand(g / _count(x, axis), x, axis, keepdims))


def var(x, *, axis=None, keepdims=False):
    """Returns the mean squared deviation from the mean over `axis` (divided by n, not n - 1)."""
    d = x - mean(x, axis=axis, keepdims=True)
    return mean(d * d, axis=axis, keepdims=keepdims)


def logsumexp(x, *, axis=-1, keepdims=False):
    """Returns log(sum(exp(x))) over `axis`, without overflow."""
    top = raw(x).max(axis=axis, keepdims=True)
    top = np.where(np.isinf(top), x.dtype.type(0), top)  # inf - inf is no number
    y = log(sum(exp(x - top), axis=axis, keepdims=True)) + top
    return y if keepdims else reshape(y, shape=np.delete(y.shape, axis))


def log_softmax(x, *, axis=-1):
    """Returns x - logsumexp(x) over `axis`."""
    return x - logsumexp(x, axis=axis, keepdims=True)


def softmax(x, *, axis=-1):
    """Returns exp(x) / sum(exp(x)) over `axis`."""
    return exp(log_softmax(x, axis=axis))


# ------------------------------------------------------------------------------------------- matmul


@primitive
def matmul(a, b):
    """Returns the matrix product of (..., M, K) and (..., K, N), leading axes broadcast.

    Raises ValueError for a 0-D or 1-D argument: reshape it to a row or a column.
    """
    if a.ndim < 2 or b.ndim < 2:
        raise ValueError(
            f"matmul needs at least 2 axes on both sides, got shapes {a.shape} and {b.shape}"
        )
    return np.matmul(a, b)


rules(matmul, lambda g, y, a, b: sum_to(matmul(g, swapaxes(b, -1, -2)), raw(a)),
      lambda g, y, a, b: sum_to(matmul(swapaxes(a, -1, -2), g), raw(b)))

# ----------------------------------------------------------------------------------------- movement


@primitive
def reshape(x, *, shape):
    """Returns x in another shape, C order; one entry may be -1."""
    return np.reshape(x, shape)


@primitive
def transpose(x, *, axes=None):
    """Returns x with its axes permuted; None reverses them."""
    return np.transpose(x, axes)


def swapaxes(x, i: int, j: int):
    """Returns x with axes i and j exchanged."""
    axes = list(range(x.ndim))
    axes[i], axes[j] = axes[j], axes[i]
    return transpose(x, axes=tuple(axes))


def _inverse(axes, ndim: int) -> tuple[int, ...]:
    return (
        tuple(range(ndim))[::-1] if axes is None
        else tuple(int(i) for i in np.argsort(np.mod(axes, ndim)))
    )


@primitive
def concat(*xs, axis=0):
    """Returns the arrays joined along `axis`."""
    return np.concatenate(xs, axis=axis)


def stack(*xs, axis=0):
    """Returns the arrays joined along an additional axis."""
    at = axis % (xs[0].ndim + 1)
    return concat(*(reshape(x, shape=x.shape[:at] + (1,) + x.shape[at:]) for x in xs), axis=at)


@primitive
def pad(x, *, width):
    """Returns x with zeros around it; width: one (before, after) pair per axis."""
    out = np.zeros([n + a + b for n, (a, b) in zip(x.shape, width)], x.dtype)
    out[tuple(slice(a, a + n) for n, (a, b) in zip(x.shape, width))] = x
    return out


def _piece(i: int, g, xs, axis: int):
    start = int(np.sum([x.shape[axis] for x in xs[:i]], dtype=int))
    key = [slice(None)] * g.ndim
    key[axis] = slice(start, start + xs[i].shape[axis])
    return getitem(g, key=tuple(key))


rules(reshape,   lambda g, y, x, shape: reshape(g, shape=x.shape))
rules(transpose, lambda g, y, x, axes=None: transpose(g, axes=_inverse(axes, x.ndim)))
variadic_rule(concat, lambda i, g, y, *xs, axis=0: _piece(i, g, xs, axis))
rules(pad, lambda g, y, x, width:
      getitem(g, key=tuple(slice(a, a + n) for n, (a, _) in zip(x.shape, width))))

# --------------------------------------------------------------------------------- indexing, gather


@primitive
def getitem(x, *, key):
    """Returns x[key], for NumPy's basic and advanced indexing."""
    return x[key]


@primitive
def scatter_add(g, *, key, shape):
    """Returns zeros of `shape` with g added at [key], repeats summed: getitem's adjoint."""
    out = np.zeros(shape, g.dtype)
    if _is_basic(key):
        out[key] = g
    else:
        np.add.at(out, key, g)
    return out


def _is_basic(key) -> bool:
    # Slices, integers and masks select each position at most once.
    parts = key if isinstance(key, tuple) else (key,)
    return all(isinstance(p, (slice, int, np.integer, type(None), type(Ellipsis)))
               or getattr(p, "dtype", None) == bool for p in parts)


@primitive
def take(x, *, index):
    """Returns x[index] along the first axis, of shape index.shape + x.shape[1:].

    index : integers of any shape
    A table of float32 and an index of small unsigned integers, as in a codebook, take a kernel.
    """
    if x.ndim == 1 and x.dtype == np.float32 and index.dtype in lookup.INDEX_TYPES:
        return lookup.take(x, index)
    return np.take(x, index, axis=0)


@primitive
def index_add(g, *, index, n):
    """Returns the sums of the entries of g that share an index, (n, ...): take's adjoint.

    g : index.shape + rest        index : integers in 0..n-1        Sums run in float64.
    """
    rest = g.shape[index.ndim:]
    if not rest and g.dtype == np.float32 and index.dtype in lookup.INDEX_TYPES:
        return scatter.scatter_add(g, index, n)
    flat, rows = np.ravel(index), g.reshape(index.size, -1)
    columns = [np.bincount(flat, weights=rows[:, j], minlength=n) for j in range(rows.shape[1])]
    return np.stack(columns, axis=-1).astype(g.dtype).reshape((n,) + rest)


rules(getitem,     lambda g, y, x, key: scatter_add(g, key=key, shape=x.shape))
rules(scatter_add, lambda g, y, x, key, shape: getitem(g, key=key))
rules(take,        lambda g, y, x, index: index_add(g, index=index, n=x.shape[0]))
rules(index_add,   lambda g, y, x, index, n: take(g, index=index))
