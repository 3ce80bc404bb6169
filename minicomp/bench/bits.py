"""Races of the products of signs: XOR and counting beside float32, codes of 8 bits, onnxruntime.

M rows, K inner, O out. Weights are packed beforehand, as a plan does it; the signs of the left side
too, or, where the row says so, they are packed in each call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from ..kernels.bits.conv import conv2d
from ..kernels.bits.pack import Thresholds, pack_signs
from ..kernels.bits.xnor import gemm, pack
from ..kernels.int8 import gemm as int8
from ..kernels.layout import nchw
from ..kernels.maps import conv as maps
from .int8 import PEER, onnxruntime
from .race import Log, Row, race, row

Array = np.ndarray
# kernel: shapes, M, K, O
SHAPES = {
    "XNOR GEMM": [(512, 512, 512), (1024, 1024, 1024), (2048, 2048, 2048), (4096, 576, 64),
                  (1024, 1152, 128), (256, 2304, 256), (64, 4608, 512)],
    "XNOR gemv": [(1, 4096, 4096)],
    "XNOR GEMM, few rows": [(4, 4096, 4096), (8, 4096, 4096)],
}
PACKED_TOO = "XNOR GEMM, signs packed too"
PACKED_SHAPES = [(512, 512, 512), (1024, 1024, 1024), (2048, 2048, 2048), (256, 2304, 256),
                 (64, 4608, 512)]
CONVS = [(8, 16, 256, 256, 3)]  # N, H = W, C, O, K of a convolution


def products_of_signs(peers: bool, log: Log) -> Iterator[Row]:
    """Yields products of signs beside NumPy's float32, and a convolution beside ours of float32."""
    makers = {"onnxruntime MatMulInteger": onnxruntime(peers, log)}
    makers = {name: make for name, make in makers.items() if make}
    for kernel, shapes in SHAPES.items():
        for shape in shapes:
            yield _product(kernel, shape, makers)
    for shape in PACKED_SHAPES:
        yield _product(PACKED_TOO, shape, makers)
    for sizes in CONVS:
        yield _conv(*sizes)


def contestants(kernel: str, shape: tuple[int, int, int],
                makers: dict[str, Callable]) -> dict[str, Callable]:
    """Returns what takes part in a row, calls that multiply the same signs."""
    M, K, O = shape
    rng = np.random.default_rng(0)
    a, w = (rng.choice(np.float32([-1, 1]), s) for s in ((M, K), (O, K)))
    bits, packed, out = pack_signs(a), pack(pack_signs(w), K), np.empty((M, O), np.int32)
    codes, signs, offset = (a + 1).astype(np.uint8), w.astype(np.int8), -w.sum(axis=1, dtype="i4")
    panels, v = int8.pack(signs), np.ascontiguousarray(w.T)
    sums, y = np.empty((M, O), np.int32), np.empty((M, O), np.float32)
    too = kernel == PACKED_TOO
    return {
        "ours": lambda: gemm(pack_signs(a, out=bits) if too else bits, packed, out=out),
        PEER: lambda: np.matmul(a, v, out=y),
        "our int8 GEMM": lambda: int8.gemm(codes, panels, offset, out=sums),
        **{name: make(codes, signs) for name, make in makers.items()},
    }


def _product(kernel: str, shape: tuple[int, int, int], makers: dict[str, Callable]) -> Row:
    times = race(contestants(kernel, shape, makers))
    beside = [f"{t / times['ours']:.2f} x {name}" for name, t in times.items()
              if name not in ("ours", PEER)]
    return row(kernel, " x ".join(map(str, shape)), times, PEER, ", ".join(beside), unit="GOP/s",
               work=2e-9 * np.prod(shape))


def _conv(N: int, H: int, C: int, O: int, K: int) -> Row:
    rng = np.random.default_rng(0)
    x, w = (rng.choice(np.float32([-1, 1]), s) for s in ((N, H, H, C), (O, K, K, C)))
    bits, packed, how = pack_signs(x), pack(pack_signs(w), C), {"padding": (K // 2, K // 2)}
    t = Thresholds(np.zeros(O, np.int32), np.zeros(O, bool))
    out = conv2d(bits, packed, t, **how)
    maps_x, maps_w = nchw(x), w.transpose(0, 3, 1, 2).copy()
    times = race({
        "ours": lambda: conv2d(bits, packed, t, out=out, **how),
        "our float32": lambda: maps.conv2d(maps_x, maps_w, **how),
    })
    return row(f"XNOR convolution, {K} x {K}, {O} filters", f"{N} x {H} x {H} x {C}", times,
               "our float32", "to bits, padded by 0", unit="GOP/s",
               work=2e-9 * N * H * H * O * K * K * C)
