"""Reverse-mode automatic differentiation: the Tensor, the primitive and the backward pass.

A *primitive* is a plain NumPy function with one gradient rule per argument. A rule takes the
cotangent `g` of the output, the output `y` and the arguments; it returns its argument's cotangent:

    @primitive
    def mul(a, b): return a * b
    rules(mul, lambda g, y, a, b: sum_to(g * b, a),
               lambda g, y, a, b: sum_to(g * a, b))

Rules are written in primitives, and a primitive called on plain arrays is plain NumPy. One rule
therefore serves twice: on arrays it computes a gradient and keeps no graph; on Tensors it builds
the graph of the gradient, which can be differentiated again, to any order.

A *fused* primitive computes several steps in one pass and has a hand-written backward on arrays.
Its `composite` says the same in simple primitives; it is what is differentiated where the gradient
itself must be differentiable.

This file knows no operation: `ops.py`, `conv.py` and `nn/` define them.
"""

from __future__ import annotations

import contextlib
import contextvars
import itertools
from collections.abc import Callable, Sequence

import numpy as np

Array = np.ndarray
PRIMITIVES: dict[str, Primitive] = {}  # name -> primitive; Tensor's operators find theirs here
_recording = contextvars.ContextVar("minicomp_recording", default=True)
_serial = itertools.count()  # a Tensor comes after everything it depends on


class Tensor:
    """An array, and how it was computed.

    data : numpy array, the value; float32 in nets, float64 in gradient checks
    requires_grad : whether `backward` accumulates into `grad`
    grad : numpy array of the shape and dtype of `data`, or None before the first `backward`
    """

    __slots__ = ("data", "grad", "requires_grad", "source", "serial", "__weakref__")
    __array_ufunc__ = None  # ndarray * Tensor defers to Tensor.__rmul__

    def __init__(self, data, requires_grad: bool = False, source: _Source | None = None):
        if isinstance(data, Tensor):
            raise TypeError("data must be an array, got a Tensor")
        self.data = np.asarray(data)
        if requires_grad and self.data.dtype.kind != "f":
            raise TypeError(
                f"a Tensor that requires grad must be floating point, got {self.data.dtype}"
            )
        self.grad: Array | None = None
        self.requires_grad = requires_grad
        self.source = source
        self.serial = next(_serial)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    @property
    def ndim(self) -> int:
        return self.data.ndim

    @property
    def size(self) -> int:
        return self.data.size

    @property
    def dtype(self) -> np.dtype:
        return self.data.dtype

    @property
    def T(self) -> Tensor:
        return self.transpose()

    def __len__(self) -> int:
        return len(self.data)

    def __repr__(self) -> str:
        return f"Tensor({self.data!r}{', requires_grad=True' if self.requires_grad else ''})"

    def __array__(self, dtype=None, copy=None):
        raise TypeError("a Tensor does not turn into an array by itself; use .numpy()")

    def numpy(self) -> Array:
        """Returns the value as an array that shares memory with the Tensor."""
        return self.data

    def item(self) -> float:
        """Returns the value of a one-element Tensor as a Python number."""
        return self.data.item()

    def detach(self) -> Tensor:
        """Returns a Tensor of the same memory that is a constant to differentiation."""
        return Tensor(self.data)

    def backward(self, cotangent: Array | None = None) -> None:
        """Adds d self / d leaf to `grad` of every leaf that requires grad.

        cotangent : array of self's shape; None stands for 1 and needs a one-element Tensor
        Raises ValueError where cotangent is missing or has another shape, or nothing requires grad.
        """
        if not self.requires_grad:
            raise ValueError("backward needs a Tensor that depends on one with requires_grad=True")
        order = _topological(self)
        leaves = [t for t in order if t.source is None]
        for leaf, g in zip(leaves, _pull(self, order, leaves, cotangent, create_graph=False)):
            if g is not None:
                leaf.grad = np.array(g) if leaf.grad is None else leaf.grad + g

    def __add__(self, other): return PRIMITIVES["add"](self, other)
    def __radd__(self, other): return PRIMITIVES["add"](other, self)
    def __sub__(self, other): return PRIMITIVES["sub"](self, other)
    def __rsub__(self, other): return PRIMITIVES["sub"](other, self)
    def __mul__(self, other): return PRIMITIVES["mul"](self, other)
    def __rmul__(self, other): return PRIMITIVES["mul"](other, self)
    def __truediv__(self, other): return PRIMITIVES["div"](self, other)
    def __rtruediv__(self, other): return PRIMITIVES["div"](other, self)
    def __matmul__(self, other): return PRIMITIVES["matmul"](self, other)
    def __rmatmul__(self, other): return PRIMITIVES["matmul"](other, self)
    def __neg__(self): return PRIMITIVES["neg"](self)
    def __pow__(self, exponent): return PRIMITIVES["power"](self, exponent=exponent)
    def __getitem__(self, key): return PRIMITIVES["getitem"](self, key=key)

    def sum(self, axis=None, keepdims=False):
        return PRIMITIVES["sum"](self, axis=axis, keepdims=keepdims)

    def mean(self, axis=None, keepdims=False):
        return PRIMITIVES["mean"](self, axis=axis, keepdims=keepdims)

    def max(self, axis=None, keepdims=False):
        return PRIMITIVES["max"](self, axis=axis, keepdims=keepdims)

    def reshape(self, *shape):
        return PRIMITIVES["reshape"](self, shape=shape[0] if len(shape) == 1 else shape)

    def transpose(self, *axes):
        return PRIMITIVES["transpose"](self, axes=axes or None)

    def astype(self, dtype):
        return PRIMITIVES["astype"](self, dtype=dtype)


class Primitive:
    """A NumPy function of arrays with one gradient rule per positional argument.

    Keyword arguments are constants. On arrays it returns an array, given a Tensor a Tensor.
    """

    def __init__(self, fn: Callable[..., Array]):
        self.fn = fn
        self.rules: tuple[Callable | None, ...] | Callable = ()
        self.__name__, self.__doc__, self.__wrapped__ = fn.__name__, fn.__doc__, fn

    def __call__(self, *args, **kw):
        arrays, parents, args = _unwrapped(args)
        if arrays is None:
            return self.fn(*args, **kw)
        return _result(self.fn(*arrays, **kw), self, args, kw, parents)

    def pull(self, g, y: Tensor, source: _Source, wanted: list[bool], create_graph: bool) -> list:
        """Returns the cotangent of each argument, None where it is not wanted."""
        args = source.args if create_graph else tuple(map(raw, source.args))
        y = y if create_graph else y.data
        if callable(self.rules):  # variadic: one rule for the i-th argument
            return [
                self.rules(i, g, y, *args, **source.kw) if w else None
                for i, w in enumerate(wanted)
            ]
        return [r(g, y, *args, **source.kw) if w else None for r, w in zip(self.rules, wanted)]


class FusedPrimitive(Primitive):
    """A primitive of several steps: `fn(*arrays, save, **kw) -> (y, saved)`, backward on arrays.

    backward(g, saved, wanted, *arrays, **kw) -> one cotangent (or None) per argument
    composite(*tensors, **kw) : the same function in simple primitives
    """

    def __init__(self, fn, backward: Callable, composite: Callable):
        super().__init__(fn)
        self.backward, self.composite = backward, composite

    def __call__(self, *args, **kw):
        arrays, parents, args = _unwrapped(args)
        if arrays is None:
            return self.fn(*args, save=False, **kw)[0]
        y, saved = self.fn(*arrays, save=bool(parents), **kw)
        return _result(y, self, args, kw, parents, saved)

    def pull(self, g, y, source, wanted, create_graph):
        if not create_graph:
            return list(self.backward(g, source.saved, wanted, *map(raw, source.args), **source.kw))
        # Replay from aliases: the gradient is a function of the arguments, the search stops there.
        alias = [PRIMITIVES["alias"](a) if w else a for a, w in zip(source.args, wanted)]
        replayed = self.composite(*alias, **source.kw)
        inputs = [a for a, w in zip(alias, wanted) if w]
        pulled = iter(_pull(replayed, _topological(replayed), inputs, g, create_graph=True))
        return [next(pulled) if w else None for w in wanted]


class _Source:
    # How a Tensor was computed: the primitive, its arguments and constants, those of the arguments
    # that required grad, what a fused forward kept.
    __slots__ = ("primitive", "args", "kw", "parents", "saved")

    def __init__(self, primitive, args, kw, parents, saved):
        self.primitive, self.args, self.kw, self.parents, self.saved = (
            primitive, args, kw, parents, saved
        )


def _unwrapped(args: tuple) -> tuple[list | None, list[Tensor], tuple]:
    # The arrays of a primitive's arguments, None where no Tensor is among them; the Tensors that a
    # graph is recorded for, none where none is; and the arguments, NumPy's scalars as plain ones.
    if not any(isinstance(a, Tensor) for a in args):
        return None, [], args
    arrays, parents, given = [], [], args
    for i, a in enumerate(args):
        if isinstance(a, Tensor):
            arrays.append(a.data)
            if a.requires_grad:
                parents.append(a)
            continue
        number = plain(a)
        if number is not a:
            given = (*given[:i], number, *given[i + 1:])
        arrays.append(number)
    return arrays, parents if parents and _recording.get() else [], given


def _result(y: Array, primitive, args, kw, parents, saved=None) -> Tensor:
    if not parents:
        return Tensor(y)
    return Tensor(y, True, _Source(primitive, args, kw, parents, saved))


def primitive(fn: Callable[..., Array]) -> Primitive:
    """Returns `fn` as a primitive, listed by its name in PRIMITIVES; `rules` gives its rules."""
    return _listed(Primitive(fn))


def fused(*, backward: Callable, composite: Callable) -> Callable[[Callable], FusedPrimitive]:
    """Returns a decorator that makes `fn(*arrays, save, **kw) -> (y, saved)` a fused primitive."""
    return lambda fn: _listed(FusedPrimitive(fn, backward, composite))


def rules(of: Primitive, *each: Callable | None) -> None:
    """Gives `of` one rule `(g, y, *args, **kw) -> cotangent` per argument; None: no gradient."""
    of.rules = each


def variadic_rule(of: Primitive, rule: Callable) -> None:
    """Gives `of`, which takes any number of arguments, `(i, g, y, *args, **kw)` for the i-th."""
    of.rules = rule


def plain(x):
    """Returns a NumPy scalar, or an array without axes, as a Python number; else x itself.

    A Python number takes the dtype of the array that it meets; np.float64(2) would lift float32.
    """
    if isinstance(x, (np.generic, np.ndarray)) and not x.ndim and x.dtype.kind in "fiu":
        return float(x) if x.dtype.kind == "f" else int(x)
    return x


def raw(x):
    """Returns the array of a Tensor, and anything else as it is."""
    return x.data if isinstance(x, Tensor) else x


@contextlib.contextmanager
def no_grad():
    """Within it no graph is recorded, in this thread only."""
    token = _recording.set(False)
    try:
        yield
    finally:
        _recording.reset(token)


def grad(output: Tensor, inputs: Tensor | Sequence[Tensor], create_graph: bool = False,
         cotangent=None) -> Tensor | list[Tensor]:
    """Returns d output / d input for each input, zeros where output does not depend on it.

    output : one-element Tensor, or any with a cotangent of its shape
    inputs : Tensors that require grad; leaves or intermediate results
    create_graph : the results are themselves differentiable
    Raises ValueError where an input does not require grad or the cotangent does not fit.
    """
    single = isinstance(inputs, Tensor)
    inputs = [inputs] if single else list(inputs)
    for i, t in enumerate(inputs):
        if not (isinstance(t, Tensor) and t.requires_grad):
            raise ValueError(f"inputs[{i}] must be a Tensor with requires_grad=True")
    pulled = _pull(output, _topological(output), inputs, cotangent, create_graph)
    found = [
        Tensor(np.zeros_like(t.data)) if g is None else g if isinstance(g, Tensor) else Tensor(g)
        for t, g in zip(inputs, pulled)
    ]
    return found[0] if single else found


def hvp(
    loss_fn: Callable[..., Tensor], params: Sequence[Tensor], vectors: Sequence[Array]
) -> list[Array]:
    """Returns the Hessian of the loss times `vectors`, one array per parameter (Pearlmutter 1994).

    loss_fn : called as loss_fn(*params), returns a one-element Tensor
    params : Tensors that require grad        vectors : arrays of their shapes
    Raises ValueError where a vector's shape is not its parameter's.
    """
    params, vectors = list(params), [raw(v) for v in vectors]
    for i, (p, v) in enumerate(zip(params, vectors, strict=True)):
        if np.shape(v) != p.shape:
            raise ValueError(f"vectors[{i}] must have shape {p.shape}, got {np.shape(v)}")
    with _recording_on():
        gradients = grad(loss_fn(*params), params, create_graph=True)
        inner = [(g * v).sum() for g, v in zip(gradients, vectors) if g.requires_grad]
        if not inner:
            return [np.zeros_like(p.data) for p in params]
        total = inner[0]
        for term in inner[1:]:
            total = total + term
        return [h.data for h in grad(total, params)]


@contextlib.contextmanager
def _recording_on():
    token = _recording.set(True)
    try:
        yield
    finally:
        _recording.reset(token)


def _listed(p: Primitive) -> Primitive:
    assert p.__name__ not in PRIMITIVES, f"two primitives are called {p.__name__}"
    PRIMITIVES[p.__name__] = p
    return p


def _topological(output: Tensor) -> list[Tensor]:
    # Every Tensor that output depends on, each after its parents.
    found, stack = {id(output): output}, [output]
    while stack:
        source = stack.pop().source
        for p in source.parents if source else ():
            if id(p) not in found:
                found[id(p)] = p
                stack.append(p)
    return sorted(found.values(), key=lambda t: t.serial)


def _pull(
    output: Tensor, order: list[Tensor], inputs: list[Tensor], cotangent, create_graph: bool
) -> list:
    # Cotangents of `inputs`, walking `order` backwards through what depends on an input.
    wanted = {id(t) for t in inputs}
    needed = set(wanted)
    for t in order:
        if t.source and not needed.isdisjoint(map(id, t.source.parents)):
            needed.add(id(t))
    grads = {id(output): _first_cotangent(output, cotangent, create_graph)}
    token = _recording.set(_recording.get() and create_graph)
    try:
        for t in reversed(order):
            source, key = t.source, id(t)
            if source is None or key not in needed or key not in grads:
                continue
            g = grads[key] if key in wanted else grads.pop(key)
            flags = [
                isinstance(a, Tensor) and a.requires_grad and id(a) in needed for a in source.args
            ]
            if not any(flags):
                continue
            for a, ga in zip(source.args, source.primitive.pull(g, t, source, flags, create_graph)):
                if ga is not None:
                    if ga.dtype != a.dtype:
                        ga = ga.astype(a.dtype)
                    key = id(a)
                    grads[key] = grads[key] + ga if key in grads else ga
    finally:
        _recording.reset(token)
    return [grads.get(id(t)) if id(t) in needed else None for t in inputs]


def _first_cotangent(output: Tensor, cotangent, create_graph: bool):
    if cotangent is None:
        if output.size != 1:
            raise ValueError(f"an output of shape {output.shape} needs a cotangent of that shape")
        cotangent = np.ones_like(output.data)
    if np.shape(raw(cotangent)) != output.shape:
        raise ValueError(
            f"cotangent must have shape {output.shape}, got {np.shape(raw(cotangent))}"
        )
    if not create_graph:
        return raw(cotangent)
    return cotangent if isinstance(cotangent, Tensor) else Tensor(cotangent)
