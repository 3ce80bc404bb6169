"""ON-DEVICE: a program packed for a batch and this machine, and how each step is computed.

All that can be done before the first image is done when a `Plan` is made: the layout of every
weight is chosen (choose.py), weights are decoded and packed into it, gains are multiplied into
packed floats, a dense convolution and the pooling that alone reads it become one pass, and for
every value it is known after which step nobody reads it. A call then walks the list. A plan holds
nothing that a call changes, so threads may share it.

N batch, C in, O out, H W size, K kernel; I inputs of a row: I of a linear, C KH KW of a conv, whose
columns are the windows of all output pixels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from itertools import zip_longest
from numbers import Integral
from typing import NamedTuple

import numpy as np

from ..conv import adaptive_avg_pool2d
from ..grid import binarize
from ..kernels import cpu
from ..kernels.codebook import lookups, tables
from ..kernels.maps import conv, conv_pool, dense, norm, pool
from ..kernels.sparse import lanes, nm, rows
from ..nn.graph import INPUT
from ..nn.layers import ActQuant
from ..nn.layers.binary import binary_sum, input_scales
from ..ops import sigmoid
from ..tensor import Array, Tensor, no_grad, raw
from . import choose
from .grids import IN_PLACE
from .one_image import OneImage, fits
from .packing import dense_weight, gain_and_bias, numbers, windows
from .steps import WINDOWS, Shape, Step, numbers_of, shapes_of

_MATVEC = {lanes.Lanes: lanes.matvec, nm.NM: nm.matvec, tables.Tables: tables.matvec}
_MATMUL = {rows.Rows: rows.matmul, rows.Csr: rows.csr_matmul}


class Run(NamedTuple):
    """What a plan calls: the name of the value that it gives, those that it reads, what computes
    it, and which steps it is."""

    name: str
    inputs: tuple[str, ...]
    call: Callable | None
    steps: tuple


class Plan:
    """Steps made ready for calls of exactly `batch` examples: another number needs another plan.

    steps, input_shape : of a program
    isa : rung of the kernels, see kernels/cpu.py
    n_threads : of our kernels; the bits are the same for any number. One image in one pass
        (one_image.py) has one. BLAS, which multiplies dense matrices, has threads of its own, set
        by whoever calls
    skip_zeros : whether zeros are skipped where that pays; otherwise every weight is multiplied
    layouts : by name of step, how its weight is packed
    Raises ValueError for a batch or n_threads below 1, and for a rung that does not run here.
    """

    def __init__(self, steps: Sequence[Step], input_shape: Shape, batch: int = 1, *,
                 isa: str = "auto", n_threads: int = 1, skip_zeros: bool = True):
        check_call(batch, n_threads)
        if isa != "auto":
            cpu.resolve(isa, "maps")
        self.batch, self.isa, self.n_threads = batch, isa, n_threads
        self.shape = (batch, *input_shape)
        self.layouts: dict[str, str] = {}
        for step in steps:
            layout = choose.layout_of(step, batch, isa)
            if layout is not None:
                self.layouts[step.name] = layout if skip_zeros else choose.DENSE
        self._shapes = shapes_of(steps, input_shape) if batch == 1 else {}
        at_once = False
        if batch == 1:
            whole = {step.name: choose.in_one_pass(step, self.layouts[step.name])
                     for step in steps if step.name in self.layouts} if skip_zeros else self.layouts
            at_once = fits(steps, self._shapes, whole, isa)
            self.layouts = whole if at_once else self.layouts
        self.runs = tuple(self._in_order(steps))
        last = {name: i for i, run in enumerate(self.runs) for name in run.inputs}
        self._over = [[name for name, at in last.items() if at == i]
                      for i in range(len(self.runs))]
        self._one = None  # what computes one image in one go
        if at_once:
            self._one = OneImage([run.steps for run in self.runs], self._shapes, self.layouts, isa)

    def __repr__(self) -> str:
        packed = ", ".join(f"{name}: {layout}" for name, layout in self.layouts.items())
        return f"<Plan: {self.batch} examples a call, {packed}>"

    def __call__(self, x: Array) -> Array:
        """Returns the logits, (batch, classes) float32, an array of the caller's own.

        x : (batch, *input_shape), finite
        Raises ValueError for another shape.
        """
        y = checked(x, self.shape)
        if self._one is not None:
            return self._one(y)
        for _, y in self.walk(y):
            pass
        return self._plain(y)

    def walk(self, x: Array) -> Iterator[tuple[str, Array]]:
        """Yields the name of each value that is computed, one after the other, and the value."""
        values = {INPUT: checked(x, self.shape)}
        for (name, inputs, run, _), over in zip(self.runs, self._over):
            values[name] = run(*[values[i] for i in inputs])
            for gone in over:  # its memory is free for what comes
                del values[gone]
            yield name, values[name]

    def _plain(self, y: Array) -> Array:
        # The output as the caller's own.
        return np.array(y, order="C")

    def _in_order(self, steps: Sequence[Step]) -> list[Run]:
        # What computes a step, or a conv with its pooling.
        readers = Counter(name for step in steps for name in step.inputs)
        runs, pools = [], set()
        for step, after in zip_longest(steps, steps[1:]):
            if step.name in pools:
                continue
            if after and after.inputs == (step.name,) and readers[step.name] == 1 and (
                    self._pools_at_once(step, after)):
                pools.add(after.name)
                runs.append(Run(after.name, step.inputs, self._conv_pool(step, after),
                                (step, after)))
            else:
                runs.append(Run(step.name, step.inputs, self._made(step), (step,)))
        return runs

    def _pools_at_once(self, step: Step, after: Step) -> bool:
        # A rectifier does not fall, so that the largest may be taken before it.
        return (step.kind == "conv" and after.kind == "max_pool" and step.args["groups"] == 1
                and self.layouts[step.name] == choose.DENSE
                and step.then in (None, "relu", "relu6"))

    def _made(self, step: Step) -> Callable[..., Array]:
        # What computes a step, with all that it needs packed.
        if step.kind in _PLAIN:
            return _PLAIN[step.kind](step.args)
        return _MADE[step.kind](self, step)

    def _linear(self, step: Step) -> Callable[..., Array]:
        layout, gain, bias = self.layouts[step.name], *gain_and_bias(step)
        how = {"isa": self.isa, "n_threads": self.n_threads}
        if layout == choose.DENSE:
            w = dense_weight(step, gain)
            if step.then == "relu":
                return lambda x: dense.linear(x, w, bias, relu=True, isa=self.isa)
            return _then(step, lambda x: dense.linear(x, w, bias, isa=self.isa))
        w = choose.packed(step.weights["weight"], layout, gain)
        finish = _epilogue(step, layout, axis=1)
        if layout == choose.LOOKUPS:
            atoms = choose.atoms_of(step)
            return lambda x: finish(rows.csr_matmul(
                w, dense.linear(x, atoms, None, isa=self.isa).T, **how).T)
        if type(w) in _MATVEC:  # one example
            product = _MATVEC[type(w)]
            return lambda x: finish(product(w, x[0], **how)[None])
        product = _MATMUL[type(w)]
        return lambda x: finish(product(w, x.T, **how).T)

    def _conv(self, step: Step) -> Callable[..., Array]:
        if self.layouts[step.name] == choose.LOOKUPS:
            return self._look_ups(step)
        layout, gain, bias = self.layouts[step.name], *gain_and_bias(step)
        how, args = {"isa": self.isa, "n_threads": self.n_threads}, step.args
        form = {"stride": args["stride"], "padding": args["padding"]}
        if layout == choose.DENSE:
            w = dense_weight(step, gain)
            how |= form | {"groups": args["groups"]}
            return _then(step, lambda x: conv.conv2d(x, w, bias, **how))
        w = choose.packed(step.weights["weight"], layout, gain)
        product, finish = _MATMUL[type(w)], _epilogue(step, layout, axis=0)

        def run(x):  # one example
            seen = conv.window_view(x, args["kernel_size"], **form)[0]  # (C, Ho, Wo, KH, KW)
            columns = seen.transpose(0, 3, 4, 1, 2).reshape(w.shape[1], -1)  # (C KH KW, Ho Wo)
            return finish(product(w, columns, **how)).reshape(1, -1, *seen.shape[1:3])

        return run

    def _look_ups(self, step: Step) -> Callable[..., Array]:
        # One image: maps of the atoms, a product of matrices, and sums of them, shifted and scaled.
        form, finish = step.weights["weight"], _epilogue(step, choose.LOOKUPS, axis=0)
        atoms, how = choose.atoms_of(step), {"isa": self.isa, "n_threads": self.n_threads}
        (KH, KW), (top, left) = step.args["kernel_size"], step.args["padding"]
        P, gain = form.P().reshape(-1, KH, KW, form.k), gain_and_bias(step)[0]
        C, H, W = self._shapes[step.inputs[0]]
        w = lookups.pack_lookups(P if gain is None else P * gain.reshape(-1, 1, 1, 1),
                                 (form.k, H + 2 * top, W + 2 * left))

        def run(x):
            S = np.zeros(w.shape, np.float32)
            S[:, top : top + H, left : left + W] = (atoms @ x.reshape(C, -1)).reshape(-1, H, W)
            y = lookups.lookups(w, S, **how)
            y = finish(y.reshape(len(y), -1)).reshape(y.shape)
            return np.ascontiguousarray(y[None, :, :, : w.size[1]])

        return run

    def _conv_pool(self, step: Step, after: Step) -> Callable[..., Array]:
        (gain, bias), args = gain_and_bias(step), windows(after)
        w, how = dense_weight(step, gain), {"isa": self.isa, "n_threads": self.n_threads}
        bias = np.zeros(len(w), np.float32) if bias is None else bias
        moves = conv_pool.Steps(step.args["stride"], step.args["padding"], args["kernel"],
                                args["stride"], args["padding"], args["ceil_mode"])
        return _then(step, lambda x: conv_pool.conv2d_max_pool(x, w, bias, moves, **how)[0])

    def _scale(self, step: Step) -> Callable[..., Array]:
        gain, bias = gain_and_bias(step)
        return _then(step, lambda x: norm.affine(x, gain, bias, isa=self.isa))

    def _input_scale(self, step: Step) -> Callable[..., Array]:
        form = {name: step.args[name] for name in WINDOWS}
        gain, bias = gain_and_bias(step)

        def run(y, x):
            y = y * input_scales(x, **form)
            for a, change in ((gain, np.multiply), (bias, np.add)):
                if a is not None:
                    y = change(y, a.reshape(-1, *[1] * (y.ndim - 2)), out=y)
            return y

        return _then(step, run)

    def _max_pool(self, step: Step) -> Callable[..., Array]:
        args, how = windows(step), {"isa": self.isa, "n_threads": self.n_threads}
        return lambda x: pool.max_pool2d(x, **args, **how)[0]

    def _avg_pool(self, step: Step) -> Callable[..., Array]:
        args, how = windows(step), {"isa": self.isa, "n_threads": self.n_threads}
        return lambda x: pool.avg_pool2d(x, **args, **how)

    def _quantize(self, step: Step) -> Callable[..., Array]:
        layer = ActQuant(**step.args)
        layer.buffers |= numbers_of(step.weights)
        return lambda x: layer(Tensor(x)).data

    def _clip(self, step: Step) -> Callable[..., Array]:
        ceiling = numbers(step, "ceiling")
        at = {n: ceiling.reshape(-1, *[1] * (n - 2)) for n in (2, 4)}  # axes of rows, of maps
        return lambda x: np.minimum(np.maximum(x, 0), at[x.ndim])

    def _binary_sum(self, step: Step) -> Callable[..., Array]:
        beta, shift = numbers(step, "beta"), numbers(step, "shift")
        return lambda x: binary_sum(x, beta, shift)

    def _add(self, step: Step) -> Callable[..., Array]:
        return _then(step, lambda *xs: reduce(np.add, xs) if len(xs) > 1 else xs[0].copy())


# Steps with weights, or whose kernels have rungs, by kind: methods of a plan.
_MADE: dict[str, Callable[[Plan, Step], Callable[..., Array]]] = {
    "linear": Plan._linear,
    "conv": Plan._conv,
    "scale": Plan._scale,
    "input_scale": Plan._input_scale,
    "max_pool": Plan._max_pool,
    "avg_pool": Plan._avg_pool,
    "add": Plan._add,
    "quantize": Plan._quantize,
    "clip": Plan._clip,
    "binary_sum": Plan._binary_sum,
}
# Steps without weights, by kind: from arguments to what computes them.
_PLAIN: dict[str, Callable[[dict], Callable[..., Array]]] = {
    "relu": lambda args: lambda x: np.maximum(x, 0),
    "relu6": lambda args: lambda x: np.clip(x, 0, 6),
    "sigmoid": lambda args: sigmoid.fn,
    "tanh": lambda args: np.tanh,
    "sign": lambda args: binarize,
    "threshold": lambda args: lambda x: x * (np.abs(x) >= args["threshold"]),
    "topk": lambda args: lambda x: _largest(x, args["k"]),
    "adaptive_avg_pool": lambda args: lambda x: _cells(x, args["output_size"]),
    "flatten": lambda args: lambda x: x.reshape(len(x), -1),
    "shuffle": lambda args: lambda x: shuffled(x, args["groups"]),
    "crelu": lambda args: lambda x: np.maximum(np.concatenate([x, -x], axis=1), 0),
    "concat": lambda args: lambda *xs: np.concatenate(xs, axis=1),
}


def check_call(batch: int, n_threads: int) -> None:
    """Raises ValueError for a batch or n_threads below 1."""
    for name, value in (("batch", batch), ("n_threads", n_threads)):
        if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
            raise ValueError(f"{name} must be an integer of at least 1, got {value!r}")


def checked(x: Array, shape: Shape) -> Array:
    """Returns x as float32, C-contiguous; ValueError where it has another shape than a plan's."""
    x = np.asarray(x, np.float32, order="C")  # so that sums do not depend on how it lay
    if x.shape != shape:
        raise ValueError(f"x must have shape {shape}, got {x.shape}; "
                         "a plan is for one number of examples")
    return x


def _then(step: Step, run: Callable[..., Array]) -> Callable[..., Array]:
    # `run`, whose output is nobody else's, and the step's activation in its place.
    if step.then is None:
        return run
    activation = IN_PLACE[step.then]
    return lambda *xs: activation(run(*xs))


def _epilogue(step: Step, layout: str, axis: int) -> Callable[[Array], Array]:
    # What follows a product from a layout, whose outputs lie along `axis`, in place.
    shape = (-1,) + (1,) * (1 - axis)
    gain, bias = (None if a is None else a.reshape(shape) for a in gain_and_bias(step))
    if layout not in choose.OF_CODES:
        gain = None  # it is in the weights

    def finish(y):
        if gain is not None:
            y *= gain
        if bias is not None:
            y += bias
        return y

    return _then(step, finish)


def _cells(x: Array, size: tuple[int, int]) -> Array:
    with no_grad():
        return raw(adaptive_avg_pool2d(x, size=size))


def _largest(x: Array, k: int) -> Array:
    # The k entries of largest magnitude of each example, ties by lowest index; the others 0.
    flat = np.abs(x).reshape(len(x), -1)
    keep = np.zeros(flat.shape, x.dtype)
    np.put_along_axis(keep, np.argsort(-flat, axis=1, kind="stable")[:, :k], 1, axis=1)
    return x * keep.reshape(x.shape)


def shuffled(x: Array, groups: int) -> Array:
    """Returns x, (N, C, H, W), whose channels (g, n) have become (n, g)."""
    n, c, h, w = x.shape
    return x.reshape(n, groups, c // groups, h, w).swapaxes(1, 2).reshape(x.shape)
