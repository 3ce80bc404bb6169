"""The layout of a step: how its weight is packed for one machine and one batch.

| form                               | linear, one image  | linear, a batch; conv, one image |
|---|---|---|
| shared weights (`Codebook`)        | codes in lanes     | relative index                   |
| the same, 16 codes, few of them 0  | tables             | dense                            |
| codewords (`Product`)              | tables             | dense                            |
| n of every m kept (masked)         | N:M                | CSR                              |
| a dictionary (`Dictionary`)        | look-ups           | look-ups                         |
| any other                          | lanes              | CSR                              |

A net that runs on one image in one pass (one_image.py) has "lanes" and "codes in lanes" from fewer
weights on (`ONE_PASS`) and dense convolutions.

A step stays dense where no rung with vectors runs (a portable kernel skips zeros more slowly than
BLAS multiplies them), where too much of it is left or it is too small, by `LIMITS`, and where it is
a convolution in groups or of a batch: the windows of a batch leave the caches, and the dense
kernel, which builds them in blocks, wins at any density. The limits are constants, not timings
taken at the time, so that a program gives the same bits at every run. They were set by timing the
layers of the LeNets, calls included, those of look-ups with larger convolutions; `minicomp bench
sparse`, `bench removal` and `bench look-ups` show what comes of them. Look-ups take convolutions of
stride 1 alone.
"""

from __future__ import annotations

import math

import numpy as np

from ..kernels import cpu
from ..kernels.codebook import tables
from ..kernels.sparse import lanes, nm, rows
from ..nn.forms import Codebook, Dictionary, Form, Product
from ..tensor import Array, no_grad
from .steps import Step

DENSE = "dense"
# (density, non-zeros / weights, up to which a layout is taken; weights from which on). A call with
# one column is over so soon that only a large layer repays looking up where its weights are.
LIMITS = {
    "codes in lanes": (0.5, 100_000),
    "lanes": (0.4, 100_000),
    "N:M": (0.5, 100_000),
    "relative index": (0.35, 4096),
    "CSR": (0.3, 4096),
    "look-ups": (0.2, 30_000),  # multiplications of a place, atoms' and look-ups', / weights
    "tables": (1.0, 500_000),
}
LOOKUPS = "look-ups"
# Weights of a linear layer from which on look-ups and N:M are taken: below, one pass of dense steps
# and lanes (one_image.py) wins.
ROW_LEAST = 1_000_000
# (columns that a look-up must stand for, weights from which on), by size of the tables: those of
# 256 are as many bytes as codes, and each look-up is a load.
LOOKED_UP = {16: (1, LIMITS["tables"][1]), 256: (8, 4_000_000)}
# As LIMITS, of what one_image.py skips zeros with, where no call comes between. A net that it can
# run with these and dense weights alone it runs: calls of single steps, and the columns of windows
# that a convolution skips zeros in, cost more than the zeros.
ONE_PASS = {"codes in lanes": (0.6, 24_000), "lanes": (0.4, 24_000)}
OF_CODES = ("codes in lanes", "relative index", "tables")  # they hold no float a weight
BLOCKS = (4, 8, 16)  # the m that are looked for


def layout_of(step: Step, batch: int = 1, isa: str = "auto") -> str | None:
    """Returns the layout of a step's weight, "dense" or a key of LIMITS; None where it has none."""
    form = step.weights.get("weight")
    if form is None:
        return None
    if isinstance(form, Dictionary):
        return _of_dictionary(step, form, batch, isa)
    convolves = step.kind == "conv"
    if convolves and (batch > 1 or step.args["groups"] > 1) or not _vectors(isa):
        return DENSE
    if isinstance(form, Product):
        return "tables" if batch == 1 and not convolves and looked_up(form) else DENSE
    shared = isinstance(form, Codebook) and form.k < lanes.MAX_CODES
    if batch > 1 or convolves:
        layout = "relative index" if shared else "CSR"
    elif shared:
        layout = "codes in lanes"
    else:
        layout = "N:M" if blocks_of(form) else "lanes"
    if _pays(form, LIMITS[layout]):
        return layout
    return "tables" if layout == "codes in lanes" and looked_up(form) else DENSE


def in_one_pass(step: Step, layout: str) -> str:
    """Returns the layout in which `OneImage` would run a step that is packed in `layout` where
    steps are called one by one: what it has no kernel for stays, if that is worth a call."""
    form = step.weights["weight"]
    if step.kind == "conv":
        return DENSE if layout in ("CSR", "relative index") else layout
    small = layout == "N:M" and math.prod(form.shape) < ROW_LEAST
    if layout not in (DENSE, *ONE_PASS) and not small or isinstance(form, (Dictionary, Product)):
        return layout
    shared = isinstance(form, Codebook) and form.k < lanes.MAX_CODES
    kind = "codes in lanes" if shared else "lanes"
    return kind if form.shape[1] >= lanes.LANES and _pays(form, ONE_PASS[kind]) else DENSE


def _pays(form: Form, limit: tuple[float, int]) -> bool:
    density, least = limit
    size = math.prod(form.shape)
    return size >= least and form.nonzeros() <= density * size


def looked_up(form: Codebook | Product) -> bool:
    """Returns whether a product by look-ups is quicker than a dense one, for one column."""
    block, stages = (form.block, form.stages) if isinstance(form, Product) else (1, 1)
    columns, least = LOOKED_UP[16 if form.k <= 16 else 256]
    return form.k <= tables.MAX_CODES and block >= columns * stages and (
        math.prod(form.shape) >= least)


def _of_dictionary(step: Step, form: Dictionary, batch: int, isa: str) -> str:
    density, least = LIMITS[LOOKUPS]
    size = math.prod(form.shape)
    least = ROW_LEAST if step.kind == "linear" else least
    pays = size >= least and form.multiplications(1, 1) <= density * size
    plain = step.kind == "linear" or step.args["groups"] == 1 and step.args["stride"] == (1, 1)
    return LOOKUPS if pays and plain and batch == 1 and _vectors(isa) else DENSE


def _vectors(isa: str) -> bool:
    # Whether the kernels run on vectors here; one that was not built is no reason for a warning.
    if cpu.kernel_module("sparse") is None or cpu.kernel_module("codebook") is None:
        return False
    return cpu.resolve(isa, "sparse") >= cpu.RUNGS.index("avx2")


def atoms_of(step: Step) -> Array:
    """Returns the atoms of a step whose weight is a dictionary, float32 (k, C)."""
    with no_grad():
        return step.weights["weight"].atoms.dense().data.astype(np.float32)


def blocks_of(form: Form) -> tuple[int, int] | None:
    """Returns (n, m) where a mask keeps n of every m consecutive weights of a row, m of BLOCKS."""
    if form.mask is None:
        return None
    mask = form.mask.reshape(len(form.mask), -1)
    for m in BLOCKS:
        if mask.size and mask.shape[1] % m == 0:
            counts = mask.reshape(-1, m).sum(axis=1)
            if 0 < counts[0] < m and (counts == counts[0]).all():
                return int(counts[0]), m
    return None


def packed(form: Form, layout: str, gain: Array | None = None):
    """Returns a weight, (O, ...), in a layout of LIMITS; its rows are flattened.

    gain : (O,) float32 that multiplies the rows, of a layout that holds floats; or None
    """
    if layout == LOOKUPS:  # of a linear layer: of what its atoms give
        w = form.P()
    else:
        with no_grad():
            w = form.dense().data
    w = w.reshape(len(w), -1)
    if layout not in OF_CODES:
        w = w if gain is None else w * gain[:, None]
        if layout == "N:M":
            return nm.pack_nm(w, *blocks_of(form))
        return (lanes.pack_lanes if layout == "lanes" else rows.pack_csr)(w)
    if layout == "tables":
        return _for_look_ups(form, w.shape[1])
    with no_grad():
        table = form.centroids.dense().data
    index = form.index.reshape(w.shape).astype(np.int64)
    if table[0] != 0:  # code 0 is what is skipped
        index, table = index + 1, np.concatenate([np.zeros(1, np.float32), table])
    return (rows.pack_rows if layout == "relative index" else lanes.pack_lanes)(index, table)


def _for_look_ups(form: Codebook | Product, columns: int) -> tables.Tables:
    # A codebook of single weights is one of codewords of one column, which all columns share.
    with no_grad():
        if isinstance(form, Product):
            return tables.pack_tables(form.index, form.codebooks.dense().data, columns)
        index = form.index.reshape(1, -1, columns)
        return tables.pack_tables(index, form.centroids.dense().data.reshape(1, 1, -1, 1), columns)
