"""ON-DEVICE: a binary program packed for a batch and this machine.

Activations go from layer to layer as bits, 64 channels a word; maps lie (N, H, W, words), and a
flattened one is the same words, in the order of which the weights that meet it are packed. Kernels
of both rooms, int8 for the first layer and bits behind it, follow one another from C. Floats are
those of the input, and the logits, which are made of int32 sums at the end. Bits and sums are the
same for any batch, rung and number of threads.

A last layer of 8-bit integers q is nine products of signs: with bit i of q + 128 as a sign s_i,

    q = (sum_i 2^i s_i - 1) / 2,    so that    a q = (sum_i 2^i a s_i - a 1) / 2        i = 0..7

N batch, C in, O out, H W size, D entries of a row.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np

from ..kernels.bits import conv, pack, pool, xnor
from ..kernels.bits.checks import U64, word_count
from ..kernels.layout import nchw
from ..tensor import Array
from .binary import XNOR, map_of, number_of
from .grids import SIGNS
from .integer import Instruction
from .integer_runtime import IntegerPlan, windows_of

OF_BITS = (*XNOR, "sign", "or_pool")  # what room bits computes
PLANES = 8  # bits of an integer weight


class BinaryPlan(IntegerPlan):
    """Instructions of a binary program made ready for calls of exactly `batch` examples.

    Arguments, attributes and errors of `IntegerPlan`.
    """

    def __repr__(self) -> str:
        return super().__repr__().replace("IntegerPlan", "BinaryPlan")

    def __call__(self, x: Array) -> Array:
        """Returns the logits, (batch, classes) float32: of the int32 sums, multiplied by scale and
        gain and added to the bias one after the other.

        x : (batch, *input_shape), finite
        Raises ValueError for another shape.
        """
        a = self.instructions[-1].arrays
        return number_of(self.integers(x), [(a["scale"], None), (a["gain"], a["bias"])])

    def integers(self, x: Array) -> Array:
        """Returns the sums of the last layer, (batch, classes) int32."""
        return self._whole(self.instructions[-1], self._computed(x))

    def plain(self, name: str, y: Array) -> Array:
        """Returns a value as a program means it, (N, C, H, W) or (N, D), the caller's own: bits as
        +1 and -1, int8."""
        i = next(i for i in self.instructions if i.name == name)
        if i.grid is not SIGNS:
            return self._whole(i, super().plain(name, y))
        C, *size = map_of(i.name, self.instructions)
        signs = pack.unpack_signs(y.reshape(len(y), *size, word_count(C)), C)
        return nchw(signs).reshape(len(y), *i.shape).copy() if size else signs

    def _whole(self, i: Instruction, y: Array) -> Array:
        # Sums of planes as those of the integers that they are of.
        if i.kind != "planes":
            return y.copy()
        each = y[:, :-1].reshape(len(y), *i.shape, PLANES).astype(np.int64) << np.arange(PLANES)
        return ((each.sum(axis=2) - y[:, -1:]) // 2).astype(np.int32)

    def _lies(self, i, n):
        if i.kind == "planes":
            return (n, PLANES * i.shape[0] + 1), np.dtype(np.int32)
        if i.grid is not SIGNS:
            return super()._lies(i, n)
        C, *size = map_of(i.name, self.instructions)
        shape = (n, prod(size) * word_count(C)) if i.kind == "flatten" else (
            n, *size, word_count(C))
        return shape, U64

    def _room(self, i):
        return "bits" if i.kind in OF_BITS else "int8"

    # ------------------------------------------------------------------------------------- packing

    def _made(self, instruction):
        made = _MADE.get(instruction.kind)
        return super()._made(instruction) if made is None else made(self, instruction)

    def _rows(self, i: Instruction, q: Array) -> xnor.Panels:
        # Rows of signs (O, D), packed as the bits lie that they meet.
        C, *size = map_of(i.inputs[0], self.instructions)
        if size:
            q = np.ascontiguousarray(q.reshape(len(q), C, *size).transpose(0, 2, 3, 1))
        return xnor.pack(pack.pack_signs(q), C)

    def _linear_of_signs(self, i: Instruction):
        w, t = self._rows(i, i.arrays["weight"]), i.arrays.get("thresholds")
        self.layouts[i.name] = "bits"
        if t is None:
            return lambda x, out, calls=None: xnor.gemm(x, w, out=out, calls=calls, **self._how)
        return lambda x, out, calls=None: xnor.linear(x, w, t, out=out, calls=calls, **self._how)

    def _conv_of_signs(self, i: Instruction):
        q = np.ascontiguousarray(i.arrays["weight"].transpose(0, 2, 3, 1))
        w, t = xnor.pack(pack.pack_signs(q), q.shape[3]), i.arrays["thresholds"]
        how = {k: i.args[k] for k in ("stride", "padding")} | {"pad": 0} | self._how
        self.layouts[i.name] = "bits"
        return lambda x, out, calls=None: conv.conv2d(x, w, t, out=out, calls=calls, **how)

    def _planes(self, i: Instruction):
        q = i.arrays["weight"].astype(np.int16) + 128
        planes = np.stack([q >> k & 1 for k in range(PLANES)], axis=1) * 2 - 1  # (O, planes, D)
        ones = np.ones((1, q.shape[1]), planes.dtype)
        w = self._rows(i, np.concatenate([planes.reshape(-1, q.shape[1]), ones]))
        self.layouts[i.name] = "bits"
        return lambda x, out, calls=None: xnor.gemm(x, w, out=out, calls=calls, **self._how)

    def _sign(self, i: Instruction):
        t = i.arrays["thresholds"]
        return lambda x, out, calls=None: pack.pack_sums(x, t, out=out, calls=calls, **self._how)

    def _or_pool(self, i: Instruction):
        how, lowest = windows_of(i) | self._how, i.arrays["lowest"]
        return lambda x, out, calls=None: pool.max_pool(x, lowest, out=out, calls=calls, **how)

    def _flatten(self, i: Instruction):
        if i.grid is not SIGNS:
            return super()._flatten(i)
        self._home[i.name] = self._home.get(i.inputs[0], i.inputs[0])
        return None


_MADE: dict[str, Callable] = {
    "xnor_linear": BinaryPlan._linear_of_signs,
    "xnor_conv": BinaryPlan._conv_of_signs,
    "planes": BinaryPlan._planes,
    "sign": BinaryPlan._sign,
    "or_pool": BinaryPlan._or_pool,
    "flatten": BinaryPlan._flatten,
}
