"""Which rule reads which operator."""

from __future__ import annotations

from collections.abc import Callable

from . import dynamic, folding, pointwise, pools, quantized, weighted, wiring

# Each is called with the net and the operator, and returns what its first output stands for.
RULES: dict[str, Callable] = {
    "Add": pointwise.add,
    "ArgMax": wiring.softmax,
    "AveragePool": pools.average_pool,
    "BatchNormalization": pointwise.batch_norm,
    "Cast": dynamic.to_float,
    "Clip": pointwise.clip,
    "Concat": wiring.concat,
    "Conv": weighted.conv,
    "ConvInteger": dynamic.conv_integer,
    "DequantizeLinear": quantized.dequantize_linear,
    "Div": pointwise.divide,
    "DynamicQuantizeLinear": dynamic.dynamic_quantize,
    "Dropout": pointwise.dropout,
    "Flatten": wiring.flatten,
    "Gemm": weighted.gemm,
    "GlobalAveragePool": pools.global_average_pool,
    "GlobalMaxPool": pools.global_max_pool,
    "Identity": pointwise.identity,
    "LogSoftmax": wiring.softmax,
    "MatMul": weighted.matmul,
    "MatMulInteger": dynamic.matmul_integer,
    "MaxPool": pools.max_pool,
    "Min": pointwise.minimum,
    "Mul": dynamic.times,
    "Neg": pointwise.negate,
    "Pad": wiring.pad,
    "QLinearConv": quantized.qlinear_conv,
    "QLinearMatMul": quantized.qlinear_matmul,
    "QuantizeLinear": quantized.quantize_linear,
    "ReduceMean": pools.reduce_mean,
    "Relu": pointwise.relu,
    "Reshape": wiring.reshape,
    "Shape": folding.shape_of,
    "Sigmoid": pointwise.sigmoid,
    "Softmax": wiring.softmax,
    "Squeeze": wiring.squeeze,
    "Sub": pointwise.subtract,
    "Sum": pointwise.add,
    "Tanh": pointwise.tanh,
    "TopK": wiring.softmax,
    "Transpose": wiring.transpose,
    "Unsqueeze": wiring.unsqueeze,
    # of onnxruntime's own, which its quantization writes
    "com.microsoft.DequantizeLinear": quantized.dequantize_linear,
    "com.microsoft.QGemm": quantized.qgemm,
    "com.microsoft.QLinearAdd": quantized.qlinear_add,
    "com.microsoft.QLinearAveragePool": quantized.qlinear_average_pool,
    "com.microsoft.QLinearConcat": quantized.qlinear_concat,
    "com.microsoft.QLinearGlobalAveragePool": quantized.qlinear_global_average_pool,
    "com.microsoft.QuantizeLinear": quantized.quantize_linear,
}
