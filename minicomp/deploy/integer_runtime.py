"""ON-DEVICE: an integer program packed for a batch and this machine.

Maps lie (N, H, W, C), so that a flattened one is in the order of pixels, not of channels: columns
of the linear layer that reads it are put into that order when a plan is made, and the flatten costs
nothing. Every value has its place in one block of memory (arena.py). Between the codes of the input
and int32 logits there is no float under `single` and `gemmlowp`; the result is the same to the bit
for any batch, rung and number of threads. Kernels that follow one another, usually all of them, are
run in one go, from C (kernels/int8/checks.py).

N batch, C in, O out, H W size, D entries of a row.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from ..kernels import cpu
from ..kernels.int8 import checks, conv, gemm, pool, wiring
from ..kernels.int8.depthwise import depthwise, pack_depthwise
from ..kernels.int8.inputs import to_codes
from ..kernels.layout import nchw
from ..nn.graph import INPUT
from ..tensor import Array
from .arena import Value, planned
from .integer import Instruction
from .runtime import Run, check_call, checked
from .steps import Shape

ALIGN = 64
# Bytes of values beyond which the examples of a call go through one portion after the other: what a
# layer writes the next one then finds in a cache. Measured: MobileNetV2-32, 64 examples, is fastest
# at portions of 4 to 8, 1.3 to 2.6 MB.
MOST_BYTES = 2_600_000


class IntegerPlan:
    """Instructions made ready for calls of exactly `batch` examples.

    instructions, input_shape : of a program        isa, n_threads : of the kernels
    portions : how many examples go through at a time, one portion after the other
    size : bytes of the block that all values of a portion share        bound : the largest sum of
        its values that are needed at a time
    Raises ValueError for a batch or n_threads below 1, and for a rung that does not run here.

    Threads may share a plan: each has a block of its own.
    """

    def __init__(self, instructions: Sequence[Instruction], input_shape: Shape, batch: int = 1, *,
                 isa: str = "auto", n_threads: int = 1):
        check_call(batch, n_threads)
        if isa != "auto":
            cpu.resolve(isa, "int8")
        self.instructions, self.batch, self.isa, self.n_threads = (
            tuple(instructions), batch, isa, n_threads)
        self.shape, self.layouts = (batch, *input_shape), {}
        self._how = {"isa": isa, "n_threads": n_threads}
        self._shapes = {i.name: i.shape for i in self.instructions}
        self._orders: dict[str, Array | None] = {}  # of rows: which entry lies where; None: as is
        self._home: dict[str, str] = {}  # by value, that whose memory it shares
        self._plain: set[str] = set()  # the instructions that no kernel computes
        self.runs = tuple(Run(i.name, i.inputs, self._made(i), (i,)) for i in self.instructions)
        self.portions = self._portioned(planned(self._values(1)).size)
        arena = planned(self._values(self.portions[0]))
        self.offsets, self.size, self.bound = arena.offsets, arena.size, arena.bound
        self._scale = 1  # of the logits, along their axes
        if self.instructions and self.instructions[-1].scale is not None:
            last = self.instructions[-1]
            self._scale = last.scale.reshape(-1, *[1] * (len(last.shape) - 1))
        self._own = threading.local()

    def __repr__(self) -> str:
        return (f"<IntegerPlan: {self.batch} examples a call, {len(self.instructions)} "
                f"instructions, {self.size:,} bytes of activations>")

    def __call__(self, x: Array) -> Array:
        """Returns the logits, (batch, classes) float32: integers times the step of each class.

        x : (batch, *input_shape), finite
        Raises ValueError for another shape.
        """
        if not self.instructions:
            return np.array(checked(x, self.shape), order="C")
        y, grid = self._computed(x), self.instructions[-1].grid
        if grid is not None:
            return grid.scale * _steps(y, self.instructions[-1]).astype(np.float32)
        return np.multiply(y, self._scale, dtype=np.float32, casting="unsafe")  # y to float32 first

    def integers(self, x: Array) -> Array:
        """Returns the logits as integers, (batch, classes) int32, 0 standing for 0."""
        return _steps(self._computed(x), self.instructions[-1])

    def _computed(self, x: Array) -> Array:
        # The last value as a program means it, perhaps gone with the next call.
        x = checked(x, self.shape)
        if len(self.portions) == 1:
            return self._portion(x)
        ends = np.cumsum(self.portions)
        return np.concatenate([self._portion(x[end - n: end]).copy()
                               for n, end in zip(self.portions, ends)])

    def _portion(self, x: Array) -> Array:
        # The same of a portion.
        n, own = len(x), self._own.__dict__
        if n not in own:
            values = self._block(n)
            own[n] = self._parts(n, values), values[self.instructions[-1].name]
        parts, y = own[n]
        for part in parts:
            part(x)
        return self._seen(self.instructions[-1].name, y)

    def _parts(self, n: int, values: dict[str, Array]) -> list[Callable[[Array], None]]:
        # What is run on an input of n examples: what NumPy computes, and the kernels between.
        parts, calls, room = [], None, None
        x = np.zeros((n, *self.shape[1:]), np.float32)
        for name, inputs, run, (instruction,) in self.runs:
            if run is None:
                continue
            before, room = room, self._room(instruction)
            if name in self._plain or cpu.resolve(self.isa, room) == 0:
                calls = None
                parts.append(_on_values(run, inputs, name, values))
                continue
            if calls is None or room != before:
                calls = checks.some_calls(room)
                parts.append(_in_one_go(calls, room))
            run(*[x if i == INPUT else values[i] for i in inputs], values[name], calls=calls)
        return parts

    def walk(self, x: Array) -> Iterator[tuple[str, Array]]:
        """Yields the name of each value, one after the other, and the value as it lies, see
        `plain`; it is gone when another takes its place. All examples go through at once."""
        values = self._block(self.batch) | {INPUT: checked(x, self.shape)}
        for name, inputs, run, _ in self.runs:
            if run is not None:
                run(*[values[i] for i in inputs], values[name])
            yield name, values[name]

    def plain(self, name: str, y: Array) -> Array:
        """Returns a value as a program means it, (N, C, H, W) or (N, D), the caller's own."""
        return np.array(self._seen(name, y), order="C")

    def _seen(self, name: str, y: Array) -> Array:
        # The same, perhaps a view of y.
        if y.ndim == 4:
            return nchw(y)
        order = self._orders.get(name)
        return y if order is None else y[:, np.argsort(order)]

    # -------------------------------------------------------------------------------------- memory

    def _portioned(self, each: int) -> tuple[int, ...]:
        # Sizes of portions, the largest first, of examples whose values take `each` bytes.
        count = min(self.batch, -(-self.batch * each // MOST_BYTES))
        return tuple((self.batch + i) // max(count, 1) for i in reversed(range(max(count, 1))))

    def _values(self, n: int) -> list[Value]:
        # The values of n examples that have memory of their own, and how long it is needed.
        made = {i.name: at for at, i in enumerate(self.instructions)}
        last = dict(made)
        for at, instruction in enumerate(self.instructions):
            for name in (instruction.name, *instruction.inputs):
                last[self._home.get(name, name)] = at
        if self.instructions:
            name = self.instructions[-1].name
            last[self._home.get(name, name)] = len(made)
        return [Value(i.name, _bytes(*self._lies(i, n)), made[i.name], last[i.name])
                for i in self.instructions if i.name not in self._home]

    def _block(self, n: int) -> dict[str, Array]:
        # The values of n examples, views of a new block, by name.
        arena = planned(self._values(n))
        room = np.zeros(arena.size + ALIGN, np.uint8)  # entries refuse bits behind the last
        block = room[-room.__array_interface__["data"][0] % ALIGN:]
        return {i.name: self._view(block, arena.offsets, i, n) for i in self.instructions}

    def _view(self, block: Array, offsets: dict[str, int], i: Instruction, n: int) -> Array:
        shape, dtype = self._lies(i, n)
        at = offsets[self._home.get(i.name, i.name)]
        return block[at: at + _bytes(shape, dtype)].view(dtype).reshape(shape)

    def _lies(self, i: Instruction, n: int) -> tuple[Shape, np.dtype]:
        # The shape in memory of the value of n examples, and what it holds.
        return (n, *i.shape[1:], i.shape[0]), np.dtype(np.int32 if i.grid is None else np.uint8)

    def _room(self, i: Instruction) -> str:
        # Of the kernels that compute an instruction.
        return "int8"

    # ------------------------------------------------------------------------------------- packing

    def _made(self, instruction: Instruction) -> Callable | None:
        # What computes an instruction: a function of its inputs and of the array that it fills.
        return _MADE[instruction.kind](self, instruction)

    def _input(self, i: Instruction):
        how = *i.grid.numbers(), i.arrays.get("gain"), i.arrays.get("bias")
        return lambda x, out, calls=None: to_codes(x, *how, out=out, calls=calls, **self._how)

    def _linear(self, i: Instruction):
        order, w = self._orders.get(i.inputs[0]), i.arrays["weight"]
        w = gemm.pack(w if order is None else w[:, order])
        offset, r = i.arrays["offset"], i.arrays.get("requantizer")
        self.layouts[i.name] = "int8"
        if r is None:
            return lambda x, out, calls=None: gemm.gemm(x, w, offset, out=out, calls=calls,
                                                        **self._how)
        return lambda x, out, calls=None: gemm.linear(x, w, offset, r, out=out, calls=calls,
                                                      **self._how)

    def _conv(self, i: Instruction):
        w = np.ascontiguousarray(i.arrays["weight"].transpose(0, 2, 3, 1))
        offset, r = i.arrays["offset"], i.arrays.get("requantizer")
        how, groups = {k: i.args[k] for k in ("stride", "padding", "zero_point")}, i.args["groups"]
        self.layouts[i.name] = "int8"
        if r is not None and w.shape[3] == 1 and len(w) == groups:
            each, n_threads = pack_depthwise(w, offset, r, isa=self.isa), self.n_threads
            return lambda x, out, calls=None: depthwise(x, each, n_threads=n_threads, out=out,
                                                        calls=calls, **how)
        w, how = gemm.pack(w, groups=groups), how | self._how
        if r is None:
            return lambda x, out, calls=None: conv.conv(x, w, offset, out=out, calls=calls, **how)
        return lambda x, out, calls=None: conv.conv2d(x, w, offset, r, out=out, calls=calls, **how)

    def _max_pool(self, i: Instruction):
        how = windows_of(i) | self._how
        return lambda x, out, calls=None: pool.max_pool(x, out=out, calls=calls, **how)

    def _avg_pool(self, i: Instruction):
        how, r = windows_of(i) | {"zero_point": i.args["zero_point"]}, i.arrays.get("requantizer")
        if r is None:
            self._plain.add(i.name)
            return lambda x, out: np.copyto(out, pool.sum_pool_ref(x, **how))
        how |= self._how
        return lambda x, out, calls=None: pool.avg_pool(x, r, out=out, calls=calls, **how)

    def _add(self, i: Instruction):
        adder, places = i.arrays["adder"], self._in_order_of_first(i)
        if any(place is not None for place in places):
            self._plain.add(i.name)

        def run(*xs, calls=None):
            *xs, out = xs
            xs = [x if place is None else x[:, place] for x, place in zip(xs, places)]
            wiring.add(xs, adder, out=out, calls=calls, **self._how)

        return run

    def _concat(self, i: Instruction):
        # Channels lie last, and so do the entries of rows, whose orders are joined.
        tables, sizes = list(i.arrays["tables"]), [self._shapes[name][0] for name in i.inputs]
        starts = np.cumsum([0, *sizes])
        orders = [self._orders.get(name) for name in i.inputs]
        if any(order is not None for order in orders):
            self._orders[i.name] = np.concatenate(
                [start + (np.arange(n) if order is None else order)
                 for start, n, order in zip(starts, sizes, orders)])

        return lambda *xs, calls=None: wiring.concat(xs[:-1], tables, out=xs[-1], calls=calls,
                                                     **self._how)

    def _table(self, i: Instruction):
        self._orders[i.name] = self._orders.get(i.inputs[0])
        t = i.arrays["table"]
        return lambda x, out, calls=None: wiring.look_up(x, t, out=out, calls=calls, **self._how)

    def _shuffle(self, i: Instruction):
        groups = i.args["groups"]
        return lambda x, out, calls=None: wiring.shuffle(x, groups, out=out, calls=calls,
                                                         **self._how)

    def _flatten(self, i: Instruction):
        source = i.inputs[0]
        shape = self._shapes[source]
        self._home[i.name] = self._home.get(source, source)
        self._orders[i.name] = self._orders.get(source)
        if len(shape) == 3 and shape[0] > 1 and shape[1] * shape[2] > 1:
            places = np.arange(math.prod(shape)).reshape(shape)
            self._orders[i.name] = places.transpose(1, 2, 0).reshape(-1)

    def _in_order_of_first(self, i: Instruction) -> list[Array | None]:
        # For each input of a sum of rows, where the entries lie that the first has; None: there.
        orders = [self._orders.get(name) for name in i.inputs]
        self._orders[i.name] = orders[0]
        first, *others = [np.arange(self._shapes[i.name][0]) if order is None else order
                          for order in orders]
        places = [None if (other == first).all() else np.argsort(other)[first] for other in others]
        return [None, *places]


_MADE: dict[str, Callable] = {
    "input": IntegerPlan._input,
    "linear": IntegerPlan._linear,
    "conv": IntegerPlan._conv,
    "max_pool": IntegerPlan._max_pool,
    "avg_pool": IntegerPlan._avg_pool,
    "add": IntegerPlan._add,
    "concat": IntegerPlan._concat,
    "table": IntegerPlan._table,
    "shuffle": IntegerPlan._shuffle,
    "flatten": IntegerPlan._flatten,
}


def _steps(y: Array, last: Instruction) -> Array:
    # A value of that instruction as int32, 0 standing for 0; an array of its own.
    zero_point = 0 if last.grid is None else last.grid.zero_point
    return np.subtract(y, zero_point, dtype=np.int32, order="C", casting="unsafe")


def _on_values(run: Callable, inputs: Sequence[str], name: str,
               values: dict[str, Array]) -> Callable[[Array], None]:
    def part(x):
        run(*[x if i == INPUT else values[i] for i in inputs], values[name])

    return part


def _in_one_go(calls, room: str) -> Callable[[Array], None]:
    # Kernels of room int8 may read the input.
    return (lambda x: calls.run(x.reshape(-1))) if room == "int8" else lambda x: calls.run()


def _bytes(shape: Shape, dtype: np.dtype) -> int:
    return math.prod(shape) * dtype.itemsize


def windows_of(i: Instruction) -> dict:
    """Returns how the windows of a pooling lie, as the entries of kernels take it."""
    return {"kernel": i.args["kernel_size"]} | {k: i.args[k] for k in (
        "stride", "padding", "count")}

