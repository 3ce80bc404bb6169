"""Integer programs as operators on floats between DequantizeLinear and QuantizeLinear.

A tool that knows the pattern runs DequantizeLinear - Conv - QuantizeLinear as one operator on
integers; one that does not computes the same in floats, up to a step where a sum is near a tie.
"""

from __future__ import annotations

import numpy as np

from .floats import conv_attributes, pool_attributes
from .integers import Writer, covers, ends_of, table_of


class QDQ(Writer):
    """Format qdq."""

    def conv(self, i, x):
        return self._computed(i, "Conv", [self.real(x), *self._weights(i, x)],
                              **conv_attributes(i.args))

    def linear(self, i, x):
        return self._computed(i, "Gemm", [self.real(x), *self._weights(i, x)], transB=1)

    def avg_pool(self, i, x):
        if covers(i, x):
            return self._computed(i, "GlobalAveragePool", [self.real(x)])
        return self._computed(i, "AveragePool", [self.real(x)], count_include_pad=1,
                              **pool_attributes(i.args, x.shape[1:], i.shape[1:]))

    def add(self, i, *xs):
        if len(xs) == 1:
            return self.made(i, self.looked_up(i.name, *xs, table_of(i.arrays["adder"])))
        return self._computed(i, "Add" if len(xs) == 2 else "Sum", [self.real(x) for x in xs])

    def _computed(self, i, op, inputs, **attributes):
        y = self.graph.add(op, *inputs, name=f"{i.name}.sums", **attributes)
        if i.grid is None:
            return self.unquantized(i, y)
        return self.clamped(self.rounded(i, y), *ends_of(i))

    def _weights(self, i, x):
        # Weight and bias behind DequantizeLinear, along axis 0.
        p, names = self.product(i, x), []
        for part, q, scale in (("weight", p.weight, p.scale), ("bias", p.bias, p.step)):
            constants = self.constants(f"{i.name}.{part}", {
                "codes": q, "scale": scale, "zero_point": np.zeros(len(q), q.dtype)})
            names.append(self.graph.add("DequantizeLinear", *constants, axis=0,
                                        name=f"{i.name}.{part}"))
        return names
