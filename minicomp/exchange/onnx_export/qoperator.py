"""Integer programs as operators on integers.

QLinearConv, ConvInteger, MaxPool, Clip, Gather are ONNX's; QGemm, QLinearAdd, QLinearAveragePool
and QLinearGlobalAveragePool belong to onnxruntime (domain com.microsoft). The first two and QGemm
accumulate in int32, multiply by float32(float32(s_x s_w) / s_y), round half to even, add the zero
point: rule `float` of kernels/int8/requantize.py. Those of sums and averages add the zero point
first, in floats of their own order: one code may differ.
"""

from __future__ import annotations

import numpy as np

from .floats import conv_attributes, over_maps, pool_attributes
from .graph import MICROSOFT
from .integers import Writer, covers, ends_of, table_of


class QOperator(Writer):
    """Format qoperator."""

    def conv(self, i, x):
        if i.grid is None:
            return self._sums(i, x)
        p, y = self.product(i, x), self.grid_of(i)
        w = self.constants(f"{i.name}.weight", _coded(p))
        bias = self.graph.constant(f"{i.name}.bias", p.bias)
        codes = self.graph.add("QLinearConv", *x.coded, *w, *y.on, bias, name=i.name,
                               **conv_attributes(i.args))
        return self.clamped(y._replace(name=codes), *ends_of(i))

    def _sums(self, i, x):
        # A convolution that ends the program: int32, then their real units.
        p = self.product(i, x)
        w, bias, step = self.constants(i.name, {
            "weight": p.weight, "bias": over_maps(p.bias, i.shape),
            "step": over_maps(p.step, i.shape)})
        y = self.graph.add("ConvInteger", x.name, w, x.zero_point, name=f"{i.name}.products",
                           **conv_attributes(i.args))
        y = self.graph.add("Add", y, bias, name=f"{i.name}.sums")
        y = self.graph.add("Cast", y, name=f"{i.name}.floats", to=self.graph.onnx.TensorProto.FLOAT)
        return self.unquantized(i, self.graph.add("Mul", y, step, name=i.name))

    def linear(self, i, x):
        p, y = self.product(i, x), None if i.grid is None else self.grid_of(i)
        w = self.constants(f"{i.name}.weight", _coded(p))
        bias = self.graph.constant(f"{i.name}.bias", p.bias)
        codes = self.graph.add("QGemm", *x.coded, *w, bias, *(y.on if y else ()), name=i.name,
                               domain=MICROSOFT, transB=1)
        if y is None:
            return self.unquantized(i, codes)
        return self.clamped(y._replace(name=codes), *ends_of(i))

    def avg_pool(self, i, x):
        whole = covers(i, x)
        windows = {} if whole else pool_attributes(i.args, x.shape[1:], i.shape[1:]) | {
            "count_include_pad": 1}
        op = "GlobalAveragePool" if whole else "AveragePool"
        if i.grid is None:
            return self.unquantized(i, self.graph.add(op, self.real(x), name=i.name, **windows))
        y = self.grid_of(i)
        codes = self.graph.add(f"QLinear{op}", *x.coded, *y.on, name=i.name, domain=MICROSOFT,
                               **windows)
        return self.clamped(y._replace(name=codes), *ends_of(i))

    def add(self, i, *xs):
        if len(xs) == 1:
            return self.made(i, self.looked_up(i.name, *xs, table_of(i.arrays["adder"])))
        if len(xs) == 2:
            y, (a, b) = self.grid_of(i), xs
            codes = self.graph.add("QLinearAdd", *a.coded, *b.coded, *y.on, name=i.name,
                                   domain=MICROSOFT)
            return self.clamped(y._replace(name=codes), *ends_of(i))
        total = self.graph.add("Sum", *(self.real(x) for x in xs), name=f"{i.name}.sums")
        return self.clamped(self.rounded(i, total), *ends_of(i))


def _coded(p):
    return {"codes": p.weight, "scale": p.scale, "zero_point": np.zeros(len(p.weight), np.int8)}
