"""Running a pruned model without multiplying its zeros.

`prepare(model)` decodes every weight once and packs it once into the layout of a kernel, chosen by
the form, the layer and the batch:

| form                               | Linear, one image  | Linear, a batch; Conv2d, one image |
|---|---|---|
| shared weights (`Codebook`)        | codes in lanes     | relative index                     |
| n of every m kept (masked `Dense`) | N:M                | CSR                                |
| any other                          | lanes              | CSR                                |

A layer stays dense where no rung with vectors runs (a portable kernel skips zeros more slowly than
BLAS multiplies them), where too much of it is left or it is too small, by `LIMITS`, and where it is a
convolution in groups or of a batch: the windows of a batch leave the caches, and the dense kernel,
which builds them in blocks, wins at any density. The limits are constants, not timings taken at the
time, so that a model gives the same bits at every run. They were set by timing the layers of the
LeNets, calls included; `minicomp bench sparse` and `bench removal` show what comes of them.

N batch, C in, O out, I inputs of a row: I of a Linear, C KH KW of a Conv2d, whose columns are the
windows of all output pixels.
"""

from __future__ import annotations

import math

import numpy as np

from ..kernels import cpu
from ..kernels.sparse import lanes, nm, rows
from ..kernels.layout import nchw
from ..kernels.maps.conv import window_view
from ..nn.forms import Codebook, Form
from ..nn.graph import Model, Node
from ..nn.layers import Conv2d, Layer, Linear
from ..tensor import Array, Tensor, no_grad, raw

# (density, non-zeros / weights, up to which a layout is taken; weights from which on). A call with
# one column is over so soon that only a large layer repays looking up where its weights are.
LIMITS = {
    "codes in lanes": (0.5, 100_000),
    "lanes": (0.4, 100_000),
    "N:M": (0.5, 100_000),
    "relative index": (0.35, 4096),
    "CSR": (0.3, 4096),
}
BLOCKS = (4, 8, 16)  # the m that are looked for


def prepare(model: Model, *, batch: int = 1, n_threads: int = 1) -> Model:
    """Returns a model for inference that gives the same outputs up to rounding, and skips zeros.

    batch : how many examples a call will bring; other numbers work too, but slower
    The result has no forms where it skips zeros: it can be called, not trained, edited or saved.
    Raises ValueError for a batch or n_threads below 1.
    """
    for name, value in (("batch", batch), ("n_threads", n_threads)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    dense, swap = model.dense(), {}
    for node in model.nodes:
        layout = layout_of(node.layer, batch)
        if layout:
            weight = packed(node.layer.forms["weight"], layout)
            made = _LAYERS[node.layer.kind](node.layer, weight, n_threads)
            swap[node.name] = (Node(node.name, made, node.inputs),)
    return dense.edit(swap)


def layout_of(layer: Layer, batch: int = 1) -> str | None:
    """Returns the layout in which the zeros of a layer are skipped, a key of LIMITS; None: dense."""
    form = layer.forms.get("weight")
    if layer.kind not in _LAYERS or layer.groups > 1 or not _vectors():
        return None
    if layer.kind == "Conv2d" and batch > 1:
        return None
    shared = isinstance(form, Codebook) and form.k < lanes.MAX_CODES
    if batch > 1 or layer.kind == "Conv2d":
        layout = "relative index" if shared else "CSR"
    elif shared:
        layout = "codes in lanes"
    else:
        layout = "N:M" if blocks_of(form) else "lanes"
    density, least = LIMITS[layout]
    size = math.prod(form.shape)
    return layout if size >= least and form.nonzeros() <= density * size else None


def _vectors() -> bool:
    # Whether the kernels run on vectors here; one that was not built is no reason for a warning.
    if cpu.kernel_module("sparse") is None:
        return False
    return cpu.resolve("auto", "sparse") >= cpu.RUNGS.index("avx2")


def blocks_of(form: Form) -> tuple[int, int] | None:
    """Returns (n, m) where a mask keeps n of every m consecutive weights of each row, m one of BLOCKS."""
    if form.mask is None:
        return None
    mask = form.mask.reshape(len(form.mask), -1)
    for m in BLOCKS:
        if mask.size and mask.shape[1] % m == 0:
            counts = mask.reshape(-1, m).sum(axis=1)
            if 0 < counts[0] < m and (counts == counts[0]).all():
                return int(counts[0]), m
    return None


def packed(form: Form, layout: str):
    """Returns a weight, (O, ...), in a layout; its rows are flattened."""
    with no_grad():
        w = form.dense().data
    w = w.reshape(len(w), -1)
    if layout == "N:M":
        return nm.pack_nm(w, *blocks_of(form))
    if layout == "CSR":
        return rows.pack_csr(w)
    if layout == "lanes":
        return lanes.pack_lanes(w)
    with no_grad():
        table = form.centroids.dense().data
    index = form.index.reshape(w.shape).astype(np.int64)
    if table[0] != 0:  # code 0 is what is skipped
        index, table = index + 1, np.concatenate([np.zeros(1, np.float32), table])
    return (rows.pack_rows if layout == "relative index" else lanes.pack_lanes)(index, table)


_MATVEC = {lanes.Lanes: lanes.matvec, nm.NM: nm.matvec}
_MATMUL = {rows.Rows: rows.matmul, rows.Csr: rows.csr_matmul}


class SparseLinear(Layer):
    """y = x W' + b with W packed;   x (N, I), b (O,)."""

    kind, coupling = "SparseLinear", "mix"

    def __init__(self, layer: Linear, weight, n_threads: int = 1):
        super().__init__()
        self.weight, self.n_threads, self.bias = weight, n_threads, _bias(layer)

    def forward(self, x, **_):
        x = raw(x)
        if type(self.weight) in _MATVEC:
            product = _MATVEC[type(self.weight)]
            y = np.empty((len(x), self.weight.shape[0]), np.float32)
            for i, row in enumerate(x):
                y[i] = product(self.weight, row, n_threads=self.n_threads)
        else:
            product = _MATMUL[type(self.weight)]
            y = product(self.weight, x.T, n_threads=self.n_threads).T
        if self.bias is not None:
            y += self.bias
        return Tensor(y)

    def out_shape(self, shape):
        return (self.weight.shape[0],)


class SparseConv2d(Layer):
    """Cross-correlation with W packed;   x (N, C, H, W), b (O,)."""

    kind, coupling = "SparseConv2d", "mix"

    def __init__(self, layer: Conv2d, weight, n_threads: int = 1):
        super().__init__()
        self.layer, self.weight, self.n_threads = layer, weight, n_threads
        self.bias = _bias(layer)

    def forward(self, x, **_):
        columns, size = columns_of(self.layer, raw(x))
        y = _MATMUL[type(self.weight)](self.weight, columns, n_threads=self.n_threads)
        y = y.T if self.bias is None else y.T + self.bias
        return Tensor(nchw(np.ascontiguousarray(y).reshape(*size, y.shape[1])))

    def out_shape(self, shape):
        return self.layer.out_shape(shape)


def columns_of(layer: Conv2d, x: Array) -> tuple[Array, tuple[int, int, int]]:
    """Returns the windows of all output pixels as columns, (C KH KW, N Ho Wo), and (N, Ho, Wo).

    x : (N, C, H, W)
    """
    seen = window_view(x, layer.kernel_size, layer.stride, layer.padding)
    n, c, ho, wo, kh, kw = seen.shape
    return seen.transpose(1, 4, 5, 0, 2, 3).reshape(c * kh * kw, n * ho * wo), (n, ho, wo)


def _bias(layer: Layer) -> Array | None:
    with no_grad():
        return layer.forms["bias"].dense().data.copy() if "bias" in layer.forms else None


_LAYERS = {"Linear": SparseLinear, "Conv2d": SparseConv2d}
