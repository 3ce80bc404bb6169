"""Races of the products of codes: u8 x s8 beside float32, onnxruntime and torch.

M rows, K inner, O out. Weights are packed and the call is kept beforehand, as a plan does it;
onnxruntime has weights as a constant, its inputs and outputs bound beforehand. torch multiplies
s8 x s8.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from ..kernels.int8.checks import some_calls
from ..kernels.int8.conv import conv2d
from ..kernels.int8.gemm import gemm, pack
from ..kernels.int8.requantize import requantizer
from ..kernels.layout import nchw
from ..kernels.maps import conv as maps
from .ort import Session
from .race import Log, Row, peer_module, race, row

Array = np.ndarray
# kernel: shapes, M, K, O
SHAPES = {
    "int8 GEMM": [(n, n, n) for n in (256, 512, 1024, 2048, 4096)],
    "int8 gemv": [(1, 800, 500), (1, 4096, 4096)],
    "int8 GEMM, few rows": [(2, 800, 500), (4, 800, 500), (8, 800, 500)],
    "int8 GEMM, LeNet-5": [(36864, 25, 20), (4096, 500, 50), (64, 800, 500), (64, 500, 10)],
}
# name: N, H, C, O, K of a convolution
CONVS = {"conv1": (64, 28, 1, 20, 5), "conv2": (64, 12, 20, 50, 5)}
PEER = "NumPy sgemm"


def products_of_codes(peers: bool, log: Log) -> Iterator[Row]:
    """Yields products of codes beside NumPy's float32, and LeNet-5's convolutions beside ours."""
    makers = {"onnxruntime MatMulInteger": onnxruntime(peers, log),
              "torch._int_mm": torch(peers, log)}
    for kernel, shapes in SHAPES.items():
        for shape in shapes:
            yield _product(kernel, shape, {n: make for n, make in makers.items() if make})
    for name, sizes in CONVS.items():
        yield _conv(name, *sizes)


def _product(kernel: str, shape: tuple[int, int, int], makers: dict[str, Callable]) -> Row:
    M, K, O = shape
    rng = np.random.default_rng(0)
    a, w = rng.integers(0, 256, (M, K), np.uint8), rng.integers(-127, 128, (O, K), np.int8)
    packed, offset, calls = pack(w), np.zeros(O, np.int32), some_calls()
    out = gemm(a, packed, offset)
    if calls is not None:
        gemm(a, packed, offset, out=out, calls=calls)
    x, v, y = a.astype(np.float32), w.T.astype(np.float32), np.empty((M, O), np.float32)
    times = race({
        "ours": calls.run if calls else lambda: gemm(a, packed, offset, out=out),
        PEER: lambda: np.matmul(x, v, out=y),
        **{name: make(a, w) for name, make in makers.items()},
    })
    beside = [f"{times[name] / times['ours']:.2f} x {name}" for name in makers]
    work = 2e-9 * M * K * O
    return row(kernel, f"{M} x {K} x {O}", times, PEER, ", ".join(beside), unit="GOP/s", work=work)


def _conv(name: str, N: int, H: int, C: int, O: int, K: int) -> Row:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (N, H, H, C), np.uint8)
    w = rng.integers(-127, 128, (O, K, K, C), np.int8)
    packed, offset = pack(w), np.zeros(O, np.int32)
    r = requantizer(np.full(O, 1e-4), zero_point=0, lo=0, hi=255)
    out = np.empty((N, H - K + 1, H - K + 1, O), np.uint8)
    maps_x, maps_w = nchw(x.astype(np.float32)), w.transpose(0, 3, 1, 2).astype(np.float32)
    times = race({
        "ours": lambda: conv2d(x, packed, offset, r, out=out),
        "our float32": lambda: maps.conv2d(maps_x, maps_w),
    })
    return row(f"int8 convolution, LeNet-5 {name}", f"{N} x {H} x {H} x {C}", times, "our float32",
               "to codes", unit="GOP/s", work=2e-9 * out.size * K * K * C)


def onnxruntime(peers: bool, log: Log) -> Callable | None:
    """Returns what makes a call of a w', by onnxruntime; None where it is not wanted or not there.
    """
    if any(peer_module(name, peers, log) is None for name in ("onnxruntime", "onnx")):
        return None

    def make(a: Array, w: Array):
        from onnx import TensorProto, helper, numpy_helper

        (M, K), O = a.shape, len(w)
        node = helper.make_node("MatMulInteger", ["a", "w"], ["y"])
        graph = helper.make_graph(
            [node], "product", [helper.make_tensor_value_info("a", TensorProto.UINT8, [M, K])],
            [helper.make_tensor_value_info("y", TensorProto.INT32, [M, O])],
            [numpy_helper.from_array(np.ascontiguousarray(w.T), "w")])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        return Session(model.SerializeToString()).bound(a)

    return make


def torch(peers: bool, log: Log) -> Callable | None:
    """Returns what makes a call of a w', by torch, a as s8; None as `onnxruntime` does."""
    module = peer_module("torch", peers, log)
    if module is None:
        return None
    module.set_num_threads(1)

    def make(a: Array, w: Array):
        x, v = (module.from_numpy(m) for m in (a.view(np.int8), np.ascontiguousarray(w.T)))
        return lambda: module._int_mm(x, v)

    return make
