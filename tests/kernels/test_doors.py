"""Every entry of every room of kernels, called wrongly in every argument: a ValueError always."""

import ast
import copy
import dataclasses
import importlib
import inspect
import math
import os
import pickle
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import minicomp.kernels
from minicomp.kernels import cpu, doors
from minicomp.kernels.bits import conv as conv1
from minicomp.kernels.bits import pack as pack1
from minicomp.kernels.bits import pool as pool1
from minicomp.kernels.bits import xnor
from minicomp.kernels.codebook import buckets, kmeans, lookup, lookups, scatter, tables
from minicomp.kernels.coding import huffman, mixing, range_coder, rans
from minicomp.kernels.int8 import conv as conv8
from minicomp.kernels.int8 import depthwise as depthwise8
from minicomp.kernels.int8 import gemm as gemm8
from minicomp.kernels.int8 import inputs as inputs8
from minicomp.kernels.int8 import outputs as outputs8
from minicomp.kernels.int8 import pool as pool8
from minicomp.kernels.int8 import requantize, rounding, wiring
from minicomp.kernels.maps import conv, conv_norm, conv_pool, dense, norm, pool, softmax
from minicomp.kernels.sparse import lanes, nm, rows
from minicomp.kernels.threads import threads

rng = np.random.default_rng(0)


def real(*shape):
    return rng.standard_normal(shape).astype(np.float32)


# ------------------------------------------------------------------ what is wrong in an argument

THREADS = (0, -1, 257, 10**6, 2**70, True, 1.5, None, "2", [1], np.array(1), np.float32(2))
SWITCH = (None, 1, "yes", np.array(True))
NUMBER = (None, "0.1", np.nan, np.inf, 10**400, 1j, True, [0.1], np.array(0.1))
ISA = ("mmx", None, 2, ("auto",), "", "\x1b[2J" * 1000)


def whole(*wrong):
    return (-1, None, True, 1.5, "1", [1], np.array(1), 2**70, *wrong)


def pair(least):
    # wrong for a pair of integers of `least` or more
    return (None, 2, (1,), (1, 1, 1), (1.0, 1), (True, 1), (least - 1, 1), (1, least - 1), "12",
            (2**70, 1), (2**31, 1), (1, None), np.array([1, 1]), {1, 2})


def array(good, *, kinds="f"):
    # wrong for an array like `good`, of whose kinds it is
    wrong = [None, 1.0, "x", good.tolist(), np.array(1, good.dtype), good[None], good[..., None],
             good.astype(object), good.astype(complex), good.astype("U8")]
    if "f" in kinds:
        wrong += [good.astype(np.int32), good.astype(bool)]
    else:
        wrong += [good.astype(np.float32), good.astype("m8[s]")]
    return wrong


def exact(good):
    # ... and whose dtype must be this one
    other, swapped = np.float64 if good.dtype.kind == "f" else np.int16, good.dtype.newbyteorder()
    wrong = [*array(good, kinds=good.dtype.kind), good.astype(other)]
    return wrong if swapped == good.dtype else [*wrong, good.astype(swapped)]


def sized(good, axis=-1, **kw):
    # ... and whose size along an axis must be that of others
    return [*array(good, **kw), np.concatenate([good, good], axis), np.take(good, [], axis)]


X, W, B = real(2, 4, 6, 7), real(6, 4, 3, 2), real(6)
Y = conv.conv2d(X, W)
STEPS = conv_pool.Steps((1, 1), (0, 0), (2, 2), (2, 2), (0, 0), False)
POOLED, AT = conv_pool.conv2d_max_pool(X, W, B, STEPS)
MAX, MAX_AT = pool.max_pool2d(X, kernel=(3, 2), stride=(2, 2))
A, M, V = real(5, 8), real(3, 8), real(8)
LABELS = np.array([0, 7, 3, 3, 1])
P = softmax.cross_entropy(A, LABELS)[1]
CODES, TABLE = rng.integers(0, 4, (20, 40)).astype(np.uint8), np.arange(4, dtype=np.float32)
SPARSE = TABLE[CODES] * (rng.random(CODES.shape) < 0.3).astype(np.float32)
HALVES = real(20, 40) * np.tile(np.float32([1, 0, 0, 1]), 10)
INDEX, BOOKS = CODES[None].astype(np.int64), TABLE.reshape(1, 1, -1, 1)
PACKED_TABLES = tables.pack_tables(INDEX, BOOKS, CODES.shape[1])
LANES, ROWS = lanes.pack_lanes(CODES, TABLE), rows.pack_rows(CODES, TABLE)
NM, CSR = nm.pack_nm(HALVES, 2, 4), rows.pack_csr(SPARSE)
COLUMN, COLUMNS = real(40), real(40, 3)
SUMS = np.arange(11.0), *kmeans.running_sums(np.sort(real(10)))[:2]
PLACES = buckets.Places(CODES, CODES > 1, 4)
LOOKED_UP = real(3, 2, 2, 4)
LOOKUPS = lookups.pack_lookups(LOOKED_UP, (4, 6, 7))
LENGTHS, STREAM = np.array([1, 2, 2], np.uint8), np.array([7, 99, 3], np.uint8)
STARTS, COUNTS = np.array([0, 8]), np.array([5, 4])
TABLES = (CODES > 2).astype(np.uint16) * CODES
RANGE = range_coder.encode(TABLES, 2, 0)
UNITS = np.arange(40) % 3
MIXED = mixing.encode(TABLES, (2, 1), 5, 20, UNITS)
SLOTS = np.array([2000, 96, 1000, 1000])
MESSAGE = rans.encode(CODES[0], SLOTS, 1)

TOPS = [0, 0.0, -1.0, math.nan, True, "6", 1j, np.ones(1)]


def gates(n):
    # wrong for a gate of n channels
    v = real(n)
    return [1.0, (v, v, 6.0), norm.Gate(None, v, 6.0), norm.Gate(v, v[1:], 6.0),
            *(norm.Gate(v, v, top) for top in (None, *TOPS))]


MOVES = {"stride": pair(1), "padding": pair(0)}
WINDOWS = {"kernel": [*pair(1), (99, 1)], **MOVES, "n_threads": THREADS, "isa": ISA}
GROUPS = whole(0, 3, 5, 2**31)
PICTURED = {"sides": [*pair(0), (0, 0), (200, 57)], "width": whole(21), "block": whole(0, 4, 41),
            "units": sized(UNITS, kinds="i")[1:] + [UNITS - 1], "n_threads": THREADS, "isa": ISA}
SLOTTED = {"freq": [*array(SLOTS, kinds="i"), SLOTS[:3], SLOTS - 1, np.array([4096, 0]),
                    np.repeat(8, 512), np.array([4096])],
           "lanes": whole(0, 2, 33), "n_threads": THREADS, "isa": ISA}
ROUNDED = {
    "x": [*(a for a in exact(COLUMN) if not isinstance(a, np.ndarray) or a.dtype != np.float32),
          COLUMN * np.float32(np.nan)],
    "fl": (101, -101, 1.5, True, None, "3", 2**70), "lo": (9, 2**25, 0.0, None),
    "hi": (-5, 2**25, 3.0, None), "values": SWITCH, "n_threads": THREADS, "isa": ISA}
U8, S8 = rng.integers(0, 256, (5, 8), np.uint8), rng.integers(-128, 128, (6, 8), np.int8)
MAPS, FILTERS = rng.integers(0, 256, (2, 6, 7, 4), np.uint8), S8.reshape(6, 2, 2, 2)
OFFSET, SUMS8 = rng.integers(-99, 99, 6, np.int32), rng.integers(-999, 999, (5, 6), np.int32)
RULE = requantize.requantizer([0.01] * 6, zero_point=3, lo=0, hi=255)
PANELS, FILTER_PANELS = gemm8.pack(S8), gemm8.pack(FILTERS, groups=2)
NOT_RULES = (None, {}, "r", requantize.requantizer([0.01] * 5, zero_point=3, lo=0, hi=255))
SIZES8 = conv8.sizes_of(MAPS.shape, FILTER_PANELS)
EACH = S8.reshape(4, 3, 4, 1)  # a filter for each channel of MAPS
RULES = {n: requantize.requantizer([0.01] * n, zero_point=3, lo=0, hi=255) for n in (1, 4)}
FILTERS_EACH = depthwise8.pack_depthwise(EACH, OFFSET[:4], RULES[4])
ADDER, TABLE8 = wiring.adder([1, 1], [0, 0], zero_point=0, lo=0, hi=255), np.arange(256, dtype="u1")


NUMBERS, SUMS1 = real(5, 70), rng.integers(-9, 9, (5, 70), np.int32)
SIGNS = pack1.pack_signs(NUMBERS)
MAPS1 = pack1.pack_signs(real(2, 6, 7, 70))
PANELS1, FILTER_PANELS1 = (xnor.pack(pack1.pack_signs(real(*shape)), 70)
                           for shape in ((70, 70), (70, 2, 2, 70)))
LIMITS = pack1.Thresholds(SUMS1[0], SUMS1[1] > 0)
NOT_LIMITS = (None, {}, OFFSET, RULE, pack1.Thresholds(OFFSET, OFFSET > 0))
SIZES1 = conv1.sizes_of(MAPS1.shape, FILTER_PANELS1)


def signed(good):
    # wrong for words of bits
    return [*exact(good), *sized(good, kinds="i"), ~good]


def room(dtype, *shape):
    # wrong for an array to write to; None makes one
    good = np.zeros(shape, dtype)
    frozen = good.copy()
    frozen.setflags(write=False)
    return [frozen, good[..., ::-1], good.tolist(), *(a for a in exact(good) if a is not None)]


CALLS = ([], 1, "calls", object())
ENDS = (None, "0", np.nan, True, 1j, [0.0])
CONV8 = {"x": [*exact(MAPS), *sized(MAPS, 3, kinds="i")], "w": [None, FILTERS, PANELS],
         "offset": [*exact(OFFSET), *sized(OFFSET, kinds="i")], **MOVES,
         "zero_point": whole(256), "scratch": [[1], np.zeros(10**6, np.int8)],
         "n_threads": THREADS, "isa": ISA}
CONV1 = {"x": signed(MAPS1), "w": [None, pack1.pack_signs(real(70, 2, 2, 70)), PANELS1], **MOVES,
         "pad": (2, -2, None, True, 1.0, "1"), "scratch": [[1], np.zeros(10**6, np.int64)],
         "calls": CALLS, "n_threads": THREADS, "isa": ISA}
NOT_PLACES = (None, 1, CODES, {}, object())
NOT_PACKED = (None, [1], {}, COLUMN, object(), LANES, ROWS, CSR, NM)


def pair8():
    return [bad for bad in pair(1) if bad is not None] + [(9, 9)]


def not_packed(good):
    return [w for w in NOT_PACKED if type(w) is not type(good)]


def steps():
    wrong = [None, tuple(STEPS), {}]
    for name in ("stride", "pool_kernel", "pool_stride"):
        wrong += [STEPS._replace(**{name: bad}) for bad in pair(1)]
    for name in ("padding", "pool_padding"):
        wrong += [STEPS._replace(**{name: bad}) for bad in pair(0)]
    return [*wrong, STEPS._replace(pool_padding=(2, 0)), STEPS._replace(ceil_mode=None)]


# entry: (a good call's arguments, what is wrong by argument), every argument of each entry
ENTRIES = {
    conv.conv2d: (
        {"x": X, "w": W, "bias": B},
        {"x": sized(X, 1), "w": [*sized(W, 1), W[:0]],
         "bias": [b for b in sized(B) if b is not None],
         "groups": GROUPS, **MOVES, "n_threads": THREADS, "isa": ISA}),
    conv.conv2d_input_grad: (
        {"g": Y, "w": W, "size": (6, 7)},
        {"g": sized(Y, 3), "w": sized(W, 0), "size": [*pair(1), (6, 8)],
         "groups": whole(0, 4, 5), **MOVES, "n_threads": THREADS, "isa": ISA}),
    conv.conv2d_weight_grad: (
        {"x": X, "g": Y, "kernel": (3, 2)},
        {"x": sized(X, 0), "g": sized(Y, 2), "bias": SWITCH, "groups": GROUPS, **WINDOWS}),
    conv_norm.conv2d_moments: (
        {"x": X, "w": W},
        {"x": sized(X, 1), "w": [*sized(W, 1), W[:0]], "before": gates(4), "groups": GROUPS,
         **MOVES, "n_threads": THREADS, "isa": ISA}),
    conv_norm.conv2d_norm_grads: (
        {"g": Y, "u": Y, "x": X, "w": W, "blend": (B, B, B), "gate": None,
         "before": norm.Gate(real(4), real(4), 6.0), "mean": real(4)},
        {"before": gates(4), "mean": [m for m in sized(real(4)) if m is not None],
         "g": sized(Y, 3), "u": sized(Y, 2), "x": sized(X, 0), "w": sized(W, 1),
         "blend": [None, B, (B, B), [B, B, B], *((a, B, B) for a in sized(B))], "gate": gates(6),
         "want_dx": SWITCH, "groups": GROUPS, **MOVES, "n_threads": THREADS, "isa": ISA}),
    conv_pool.conv2d_max_pool: (
        {"x": X, "w": W, "bias": B, "steps": STEPS},
        {"x": sized(X, 1), "w": sized(W, 1), "bias": sized(B), "steps": steps(),
         "n_threads": THREADS, "isa": ISA}),
    conv_pool.conv2d_max_pool_grad: (
        {"g": POOLED, "index": AT, "x": X, "w": W, "steps": STEPS},
        {"g": sized(POOLED, 3), "index": sized(AT, 3, kinds="i"), "x": sized(X, 0),
         "w": sized(W, 0), "steps": steps(), "want_dx": SWITCH, "n_threads": THREADS, "isa": ISA}),
    pool.max_pool2d: (
        {"x": X, "kernel": (3, 2), "stride": (2, 2)},
        {"x": array(X), **WINDOWS, "padding": [*pair(0), (2, 0), (0, 2)], "ceil_mode": SWITCH}),
    pool.max_pool2d_grad: (
        {"g": MAX, "index": MAX_AT, "size": (6, 7), "kernel": (3, 2), "stride": (2, 2)},
        {"g": sized(MAX, 2), "index": sized(MAX_AT, 2, kinds="i"), "size": [*pair(1), (8, 7)],
         **WINDOWS}),
    pool.avg_pool2d: (
        {"x": X, "kernel": (3, 2), "stride": (2, 2)},
        {"x": array(X), **WINDOWS, "padding": [*pair(0), (2, 0), (0, 2)], "ceil_mode": SWITCH}),
    pool.avg_pool2d_grad: (
        {"g": MAX, "size": (6, 7), "kernel": (3, 2), "stride": (2, 2)},
        {"g": sized(MAX, 2), "size": [*pair(1), (8, 7)], **WINDOWS}),
    norm.moments: ({"x": X}, {"x": [a for a in array(X) if np.ndim(a) != 2], "isa": ISA}),
    norm.sums: (
        {"g": X, "x": X, "mean": real(4)},
        {"g": sized(X, 0), "x": sized(X, 1), "mean": sized(real(4)), "gate": gates(4),
         "n_threads": THREADS, "isa": ISA}),
    norm.affine: (
        {"x": X, "a": real(4), "b": real(4)},
        {"x": sized(X, 1), "a": sized(real(4)), "b": sized(real(4)), "top": TOPS,
         "n_threads": THREADS, "isa": ISA}),
    norm.blend: (
        {"g": X, "x": X, "a": real(4), "b": real(4), "d": real(4)},
        {"g": sized(X, 0), "x": sized(X, 2), "a": sized(real(4)), "b": sized(real(4)),
         "d": sized(real(4)), "gate": gates(4), "isa": ISA}),
    dense.linear: (
        {"x": A, "w": M, "b": real(3)},
        {"x": sized(A), "w": sized(M), "b": [b for b in sized(real(3)) if b is not None],
         "relu": SWITCH, "isa": ISA}),
    dense.linear_input_grad: (
        {"g": real(5, 3), "w": M}, {"g": sized(real(5, 3)), "w": sized(M, 0), "isa": ISA}),
    dense.linear_weight_grad: (
        {"x": A, "g": real(5, 3)}, {"x": sized(A, 0), "g": sized(real(5, 3), 0), "isa": ISA}),
    dense.relu_dx: ({"g": A, "y": A}, {"g": sized(A), "y": sized(A), "isa": ISA}),
    dense.sgd: (
        {"w": A.copy(), "v": A.copy(), "g": A, "lr": 0.1, "momentum": 0.9},
        {"w": sized(A), "v": sized(A), "g": sized(A), "lr": NUMBER, "momentum": NUMBER,
         "decay": NUMBER, "isa": ISA}),
    softmax.cross_entropy: (
        {"z": A, "labels": LABELS},
        {"z": sized(A, 0), "labels": [*sized(LABELS, kinds="i"), LABELS - 1, LABELS + 1],
         "smoothing": [*NUMBER, -0.1, 1.0], "isa": ISA}),
    softmax.cross_entropy_dz: (
        {"g": real(5), "p": P, "labels": LABELS},
        {"g": sized(real(5)), "p": sized(P, 0),
         "labels": [*sized(LABELS, kinds="i"), LABELS - 1, LABELS + 1, LABELS + 2**40],
         "smoothing": [*NUMBER, -0.1, 1.0], "isa": ISA}),
    lanes.pack_lanes: (
        {"w": CODES, "table": TABLE},
        {"w": [*array(CODES, kinds="i"), CODES + 1, CODES.astype(int) - 1],
         "table": [*array(TABLE)[1:], TABLE + 1, TABLE[:0], np.zeros(4097, np.float32)]}),
    lanes.matvec: (
        {"w": LANES, "x": COLUMN},
        {"w": not_packed(LANES), "x": [*exact(COLUMN), *sized(COLUMN)], "n_threads": THREADS,
         "isa": ISA}),
    tables.pack_tables: (
        {"index": INDEX, "books": BOOKS, "columns": INDEX.shape[2]},
        {"index": [*array(INDEX, kinds="i"), INDEX + 2**40, INDEX - 1, INDEX[0], INDEX[:, :, 1:]],
         "books": [*array(BOOKS), BOOKS[:, :, :0], BOOKS[0], np.zeros((1, 1, 257, 1), np.float32)],
         "columns": whole(0, INDEX.shape[2] + 1)}),
    tables.matvec: (
        {"w": PACKED_TABLES, "x": COLUMN},
        {"w": not_packed(PACKED_TABLES), "x": [*exact(COLUMN), *sized(COLUMN)],
         "n_threads": THREADS, "isa": ISA}),
    rows.pack_rows: (
        {"codes": CODES, "table": TABLE},
        {"codes": [*array(CODES, kinds="i"), CODES + 1, CODES.astype(int) - 1],
         "table": [*array(TABLE), TABLE + 1, TABLE[:0], np.zeros(4097, np.float32)],
         "gap_bits": [bad for bad in whole(0, 15, 16) if bad is not None],
         "width": [bad for bad in whole(0) if bad is not None]}),
    rows.matmul: (
        {"w": ROWS, "X": COLUMNS},
        {"w": not_packed(ROWS), "X": [*exact(COLUMNS), *sized(COLUMNS, 0)], "n_threads": THREADS,
         "isa": ISA}),
    rows.pack_csr: ({"w": SPARSE}, {"w": array(SPARSE)}),
    rows.csr_matmul: (
        {"w": CSR, "X": COLUMNS},
        {"w": not_packed(CSR), "X": [*exact(COLUMNS), *sized(COLUMNS, 0)], "n_threads": THREADS,
         "isa": ISA}),
    nm.pack_nm: (
        {"w": HALVES, "n": 2, "m": 4},
        {"w": [*array(HALVES), HALVES + 1, HALVES[:, :39]], "n": whole(0, 1, 5),
         "m": whole(0, 1, 3, 17)}),
    nm.matvec: (
        {"w": NM, "x": COLUMN},
        {"w": not_packed(NM), "x": [*exact(COLUMN), *sized(COLUMN)], "n_threads": THREADS,
         "isa": ISA}),
    kmeans.running_sums: (
        {"x": np.sort(COLUMN)},
        {"x": [*array(COLUMN), COLUMN[:0], COLUMN.astype(np.float16)], "isa": ISA}),
    kmeans.partition: (
        dict(zip(("p0", "p1", "p2"), SUMS), k=3),
        {**{p: [*(a for a in sized(s) if getattr(a, "dtype", None) != np.int32), s * np.nan, s[:1]]
            + [a for a in (s * 0, -s) if p == "p0"] for p, s in zip(("p0", "p1", "p2"), SUMS)},
         "k": whole(0, 11), "penalty": ("x", [1.0], 1j), "isa": ISA}),
    kmeans.nearest: (
        {"x": COLUMN, "edges": np.sort(COLUMN)},
        {"x": [a for a in exact(COLUMN) if not isinstance(a, np.ndarray) or a.dtype != np.float32],
         "edges": [*exact(COLUMN), -np.sort(COLUMN), np.float32([np.nan]),
                   np.float32([0, np.nan]), np.zeros(65536, np.float32)],
         "n_threads": THREADS, "isa": ISA}),
    lookup.take: (
        {"table": TABLE, "index": CODES},
        {"table": exact(TABLE),
         "index": [*(a for a in exact(CODES)
                     if not isinstance(a, np.ndarray) or a.dtype.kind != "u"),
                   CODES + np.uint8(len(TABLE))],
         "isa": ISA}),
    scatter.scatter_add: (
        {"g": SPARSE, "index": CODES, "k": 4},
        {"g": [*exact(SPARSE), *sized(SPARSE)],
         "index": [*exact(CODES), *sized(CODES, kinds="i"), CODES + np.uint8(4)],
         "k": whole(), "isa": ISA}),
    buckets.decode: (
        {"b": TABLE, "places": PLACES},
        {"b": sized(TABLE), "places": NOT_PLACES, "isa": ISA}),
    buckets.add: (
        {"g": SPARSE, "places": PLACES},
        {"g": sized(SPARSE), "places": NOT_PLACES, "isa": ISA, "n_threads": THREADS}),
    lookups.pack_lookups: (
        {"P": LOOKED_UP, "maps": (4, 6, 7)},
        {"P": [*sized(LOOKED_UP), np.take(LOOKED_UP, [], 1)],
         "maps": (None, 4, [4, 6, 7], (4, 6), (4, 1, 7), (3, 6, 7), (4, 6.0, 7), (4, 2**31, 7),
                  (4, 2**20, 2**20))}),
    lookups.lookups: (
        {"w": LOOKUPS, "S": real(4, 6, 7)},
        {"w": [*not_packed(LOOKUPS), LOOKED_UP], "S": [*exact(real(4, 6, 7)),
                                                       *sized(real(4, 6, 7))],
         "isa": ISA, "n_threads": THREADS}),
    requantize.requantize: (
        {"acc": SUMS8, "r": RULE},
        {"acc": [a for a in [*exact(SUMS8), *sized(SUMS8, kinds="i")] if np.ndim(a) != 3],
         "r": NOT_RULES, "out": room(np.uint8, 5, 6), "n_threads": THREADS, "isa": ISA}),
    gemm8.pack: (
        {"w": FILTERS, "groups": 2},
        {"w": [*exact(FILTERS), FILTERS[:5]], "groups": whole(0, 4, 7)}),
    gemm8.gemm: (
        {"a": U8, "w": PANELS, "offset": OFFSET},
        {"a": [*exact(U8), *sized(U8, kinds="i")], "w": [None, S8, FILTER_PANELS],
         "offset": [*exact(OFFSET), *sized(OFFSET, kinds="i")], "out": room(np.int32, 5, 6),
         "calls": CALLS,
         "n_threads": THREADS, "isa": ISA}),
    gemm8.linear: (
        {"a": U8, "w": PANELS, "offset": OFFSET, "r": RULE},
        {"a": [*exact(U8), *sized(U8, kinds="i")], "w": [None, S8, FILTER_PANELS],
         "offset": [*exact(OFFSET), *sized(OFFSET, kinds="i")], "r": NOT_RULES,
         "out": room(np.uint8, 5, 6), "calls": CALLS, "n_threads": THREADS, "isa": ISA}),
    conv8.scratch_bytes: (
        {"sizes": SIZES8}, {"sizes": [None, tuple(SIZES8)], "n_threads": THREADS}),
    conv8.conv: (
        {"x": MAPS, "w": FILTER_PANELS, "offset": OFFSET},
        {**CONV8, "out": room(np.int32, 2, 5, 6, 6), "calls": CALLS}),
    conv8.conv2d: (
        {"x": MAPS, "w": FILTER_PANELS, "offset": OFFSET, "r": RULE},
        {**CONV8, "r": NOT_RULES, "out": room(np.uint8, 2, 5, 6, 6), "calls": CALLS}),
    depthwise8.pack_depthwise: (
        {"w": EACH, "offset": OFFSET[:4], "r": RULES[4]},
        {"w": [*exact(EACH), EACH[:0], EACH[..., [0, 0]]],
         "offset": [*exact(OFFSET[:4]), *sized(OFFSET[:4], kinds="i")], "r": NOT_RULES[1:],
         "isa": ISA}),
    depthwise8.depthwise: (
        {"x": MAPS, "w": FILTERS_EACH, "zero_point": 3},
        {"x": [*exact(MAPS), *sized(MAPS, 3, kinds="i")], "w": [None, EACH, FILTER_PANELS], **MOVES,
         "offset": [a for a in [*exact(OFFSET[:4]), OFFSET[:3], OFFSET[:0]] if a is not None],
         "zero_point": whole(256), "out": room(np.uint8, 2, 4, 4, 4),
         "calls": CALLS, "n_threads": THREADS}),
    outputs8.to_floats: (
        {"acc": SUMS8, "scale": V[:6], "bias": V[2:]},
        {"acc": [a for a in exact(SUMS8) if np.ndim(a) < 3 or a.dtype != np.int32],
         "scale": [*exact(V[:6]), *sized(V[:6])], "bias": [*exact(V[2:]), *sized(V[2:])],
         "lo": ENDS, "hi": ENDS, "n_threads": THREADS, "isa": ISA}),
    inputs8.to_codes: (
        {"x": X, "scale": 0.02, "zero_point": 3, "lo": 0, "hi": 255, "gain": V[:4], "bias": V[4:]},
        {"x": exact(X), "scale": [*NUMBER, 0.0], "zero_point": whole(256), "lo": whole(256),
         "hi": whole(256), "gain": [*exact(V[:4]), V[:3], V[:0]], "bias": [*exact(V[4:]), V],
         "out": room(np.uint8, 2, 6, 7, 4), "calls": CALLS, "n_threads": THREADS, "isa": ISA}),
    pool8.max_pool: (
        {"x": MAPS, "kernel": (3, 2), "stride": (2, 2)},
        {"x": exact(MAPS), **WINDOWS, "count": pair8(), "out": room(np.uint8, 2, 2, 3, 4),
         "calls": CALLS}),
    pool8.avg_pool: (
        {"x": MAPS, "r": RULES[1], "kernel": (3, 2), "stride": (2, 2), "zero_point": 3},
        {"x": exact(MAPS), "r": NOT_RULES, **WINDOWS, "count": pair8(), "zero_point": whole(256),
         "out": room(np.uint8, 2, 2, 3, 4), "calls": CALLS}),
    wiring.add: (
        {"xs": [U8, U8], "a": ADDER},
        {"xs": [None, U8, [], [U8], [U8, U8[:4]], *([U8, a] for a in exact(U8))],
         "a": [None, {}, wiring.adder([1], [0], zero_point=0, lo=0, hi=255)],
         "out": room(np.uint8, 5, 8), "calls": CALLS, "n_threads": THREADS, "isa": ISA}),
    wiring.look_up: (
        {"x": U8, "table": TABLE8},
        {"x": [a for a in exact(U8) if np.ndim(a) < 3 and np.size(a) > 1],
         "table": [*exact(TABLE8), *sized(TABLE8, kinds="i")], "out": room(np.uint8, 5, 8),
         "calls": CALLS,
         "n_threads": THREADS, "isa": ISA}),
    wiring.concat: (
        {"xs": [U8, U8], "tables": [TABLE8, TABLE8]},
        {"xs": [None, U8, [], [U8], [U8, U8[:4]]], "tables": [None, [], [TABLE8],
                                                             [TABLE8, TABLE8[:9]]],
         "out": room(np.uint8, 5, 16), "calls": CALLS, "n_threads": THREADS, "isa": ISA}),
    wiring.shuffle: (
        {"x": U8, "groups": 2},
        {"x": [a for a in exact(U8) if np.ndim(a) < 3], "groups": whole(0, 3, 16),
         "out": room(np.uint8, 5, 8), "calls": CALLS, "n_threads": THREADS, "isa": ISA}),
    pack1.pack_signs: (
        {"x": NUMBERS},
        {"x": [None, 1.0, "x", NUMBERS.tolist(), np.array(1.0), NUMBERS.astype(bool),
               NUMBERS.astype(object), NUMBERS.astype(complex), NUMBERS * np.float32(np.nan),
               NUMBERS * np.nan],
         "out": room(np.uint64, 5, 2), "n_threads": THREADS, "isa": ISA}),
    pack1.pack_sums: (
        {"acc": SUMS1, "t": LIMITS},
        {"acc": [a for a in [*exact(SUMS1), *sized(SUMS1, kinds="i")]
                 if not (np.ndim(a) == 3 and np.shape(a)[2] == 70)],
         "t": NOT_LIMITS, "out": room(np.uint64, 5, 2), "calls": CALLS, "n_threads": THREADS,
         "isa": ISA}),
    xnor.pack: (
        {"w": SIGNS, "n": 70}, {"w": signed(SIGNS), "n": whole(64, 129, 2**31)}),
    xnor.gemm: (
        {"a": SIGNS, "w": PANELS1},
        {"a": signed(SIGNS), "w": [None, SIGNS, PANELS], "out": room(np.int32, 5, 70),
         "calls": CALLS, "n_threads": THREADS, "isa": ISA}),
    xnor.linear: (
        {"a": SIGNS, "w": PANELS1, "t": LIMITS},
        {"a": signed(SIGNS), "w": [None, SIGNS, PANELS], "t": NOT_LIMITS,
         "out": room(np.uint64, 5, 2), "calls": CALLS, "n_threads": THREADS, "isa": ISA}),
    conv1.scratch_words: (
        {"sizes": SIZES1}, {"sizes": [None, tuple(SIZES1), SIZES8], "n_threads": THREADS}),
    conv1.conv: (
        {"x": MAPS1, "w": FILTER_PANELS1}, {**CONV1, "out": room(np.int32, 2, 5, 6, 70)}),
    conv1.conv2d: (
        {"x": MAPS1, "w": FILTER_PANELS1, "t": LIMITS},
        {**CONV1, "t": NOT_LIMITS, "out": room(np.uint64, 2, 5, 6, 2)}),
    pool1.max_pool: (
        {"x": MAPS1, "lowest": np.arange(70) > 3, "kernel": (3, 2), "stride": (2, 2)},
        {"x": signed(MAPS1), "lowest": [None, [True], np.ones(70), np.ones((1, 70), bool),
                                        np.ones(5, bool), np.ones(129, bool)],
         **WINDOWS, "count": pair8(), "out": room(np.uint64, 2, 2, 3, 2), "calls": CALLS}),
    rounding.nearest_round: ({"x": COLUMN, "fl": 3, "lo": -4, "hi": 3}, ROUNDED),
    rounding.stochastic_round: (
        {"x": COLUMN, "fl": 3, "lo": -4, "hi": 3, "key": 1}, ROUNDED | {"key": whole(2**64)}),
    huffman.decode: (
        {"data": STREAM, "starts": STARTS, "counts": COUNTS, "lengths": LENGTHS},
        {"data": [*exact(STREAM), STREAM[:0]],
         "starts": [*sized(STARTS, kinds="i"), STARTS - 1, STARTS + 17],
         "counts": [*sized(COUNTS, kinds="i"), COUNTS - 5, np.array([2**62, 2**62]),
                    np.array([2**31, 0])],
         "lengths": [*array(LENGTHS, kinds="i"), LENGTHS + 1, LENGTHS * 0,
                     LENGTHS.astype(int) + 256, np.array([16, 16]), np.array([-1, 1, 1])],
         "n_threads": THREADS, "isa": ISA}),
    range_coder.encode: (
        {"codes": TABLES, "bits": 2, "lag": 0},
        {"codes": [*array(TABLES, kinds="i"), TABLES + np.uint16(5), TABLES.astype(int) + 65536,
                   TABLES.astype(int) - 1], "bits": whole(0, 9), "lag": whole(1, 256),
         "n_threads": THREADS, "isa": ISA}),
    range_coder.decode: (
        {"data": RANGE, "shape": TABLES.shape, "kept": np.count_nonzero(TABLES), "bits": 2,
         "lag": 0},
        {"data": exact(RANGE), "shape": [*pair(0), (2**20, 2**20), (2**21, 1)],
         "kept": whole(TABLES.size + 1), "bits": whole(9), "lag": whole(1, 256),
         "n_threads": THREADS, "isa": ISA}),
    mixing.encode: (
        {"codes": TABLES, "sides": (2, 1), "width": 5, "block": 20, "units": UNITS},
        {"codes": [*array(TABLES, kinds="i"), TABLES + np.uint16(5), TABLES.astype(int) - 1],
         **PICTURED}),
    mixing.decode: (
        {"data": MIXED, "shape": TABLES.shape, "kept": np.count_nonzero(TABLES), "sides": (2, 1),
         "width": 5, "block": 20, "units": UNITS},
        {"data": exact(MIXED), "shape": [*pair(0), (2**20, 2**20), (2**21, 1)],
         "kept": whole(TABLES.size + 1), **PICTURED}),
    rans.encode: (
        {"symbols": CODES[0], "freq": SLOTS, "lanes": 32},
        {"symbols": [*array(CODES[0], kinds="i"), CODES[0] + 4, CODES[0].astype(int) - 4],
         **SLOTTED}),
    rans.decode: (
        {"data": MESSAGE, "n": 40, "freq": SLOTS, "lanes": 1},
        {"data": exact(MESSAGE), "n": whole(2**31), **SLOTTED}),
}
# What touches no memory but through NumPy: sizes, views, copies, references (`*_ref`).
PLAIN = {
    "bits.conv": {"meets", "sizes_of"},
    "bits.pack": {"Thresholds", "limits", "packed", "unpack_signs"},
    "bits.xnor": {"rows_of", "unpacked", "xnor_dot"},
    "codebook.buckets": {"Places"},
    "codebook.kmeans": {"cost"},
    "codebook.lookup": {"check", "index_bytes", "refuse"},
    "coding.huffman": {"symbol_dtype", "symbol_table"},
    "coding.mixing": {"log2", "logit", "probability"},
    "coding.range_coder": {"Decoder", "Encoder", "learn"},
    "int8.conv": {"Sizes", "sizes_of"},
    "int8.gemm": {"Panels", "unpacked"},
    "int8.pool": {"sizes_of", "windowed", "windows"},
    "int8.requantize": {"Requantizer", "multiplier", "numbers", "requantizer", "rule"},
    "int8.rounding": {"draws", "key_of"},
    "int8.wiring": {"Adder", "adder"},
    "int8.inputs": {"codes_of"},
    "maps.conv": {"Sizes", "blocked", "check", "depthwise_sizes", "im2col", "lanes", "padded",
                  "sizes_of", "taps", "window_view"},
    "maps.conv_pool": {"Steps"},
    "maps.norm": {"Gate", "along", "check", "contiguous", "vectors"},
    "maps.pool": {"pooling", "sizes_of"},
    "maps.softmax": {"checked"},
    "sparse.lanes": {"checked", "column"},
    "splitmix": {"splitmix64"},
    "sparse.nm": {"columns"},
    "sparse.packed": {"of_kind"},
    "layout": {"as_nhwc", "nchw", "nhwc"},
    "memory": {"aligned", "keep_freed_memory"},
    "threads": {"blas", "threads"},
    # they read no arrays; they are the checks
    "cpu": None, "doors": None, "bits.checks": None, "int8.checks": None,
}
ROOMS = [m.name for m in pkgutil.walk_packages(minicomp.kernels.__path__, "minicomp.kernels.")
         if not m.ispkg]
# What the entries say, and neither NumPy nor Cython's buffers.
OWN_WORDS = re.compile(
    "must (be|have|hold|lie|rise|divide|fit)|shapes do not fit|does not fit|needs x"
)
PACKED = {depthwise8.Depthwise: FILTERS_EACH, gemm8.Panels: PANELS, lanes.Lanes: LANES,
          tables.Tables: PACKED_TABLES, rows.Rows: ROWS, rows.Csr: CSR, nm.NM: NM,
          xnor.Panels: PANELS1, lookups.Lookups: LOOKUPS}


def said(entry):
    return f"{entry.__module__.split('.')[-1]}.{entry.__name__}"


def arguments():
    for entry, (_, wrong) in ENTRIES.items():
        for name in wrong:
            yield pytest.param(entry, name, id=f"{said(entry)}-{name}")


@pytest.mark.parametrize("room", ROOMS)
def test_every_entry_stands_in_the_table(room):
    module, short = importlib.import_module(room), room.removeprefix("minicomp.kernels.")
    own = {name: f for name, f in vars(module).items() if getattr(f, "__module__", None) == room}
    public = {name for name, f in own.items()
              if not name.startswith("_") and (inspect.isfunction(f) or inspect.isclass(f))}
    entries = {entry.__name__ for entry in ENTRIES if entry.__module__ == room}
    packed = {kind.__name__ for kind in PACKED if kind.__module__ == room} | {"Packed"}
    plain = PLAIN.get(short, set())
    if plain is not None:
        unknown = public - entries - packed - plain
        assert not {n for n in unknown if not n.endswith("_ref")} and plain <= public
        # what calls a compiled kernel is no helper
        for f in (getattr(module, name) for name in plain):
            assert "kernel_module" not in inspect.getsource(f)


@pytest.mark.parametrize("entry", ENTRIES, ids=said)
def test_every_argument_stands_in_the_table(entry):
    good, wrong = ENTRIES[entry]
    assert set(inspect.signature(entry).parameters) == set(wrong)
    for isa in cpu.available() if "isa" in wrong else [None]:
        entry(**copy.deepcopy(good), **({"isa": isa} if isa else {}))


@pytest.mark.parametrize("entry, name", list(arguments()))
def test_a_wrong_argument_is_a_value_error(entry, name):
    good, wrong = ENTRIES[entry]
    for isa in ("ref", "auto") if "isa" in wrong and name != "isa" else (None,):
        for bad in wrong[name]:
            how = {**good, **({} if isa is None else {"isa": isa}), name: bad}
            assert OWN_WORDS.search(refusal(entry, how)), bad


def refusal(entry, how):
    try:
        return f"no error: {entry(**how)}"
    except ValueError as e:
        return str(e)


@pytest.mark.parametrize("entry, name", [
    pytest.param(e, n, id=f"{said(e)}-{n}")
    for e, (good, _) in ENTRIES.items() for n, a in good.items() if isinstance(a, np.ndarray)])
def test_arrays_may_lie_anyhow_and_be_read_only(entry, name):
    good = copy.deepcopy(ENTRIES[entry][0])
    room = np.full([2 * n for n in good[name].shape], 1, good[name].dtype)
    strided = room[tuple(slice(None, None, 2) for _ in room.shape)]
    strided[...] = good[name]
    written = entry is dense.sgd and name in "wv"
    strided.setflags(write=written)
    expected, found = entry(**copy.deepcopy(good)), entry(**{**good, name: strided})
    for a, b in zip(flat(expected), flat(found), strict=True):
        if isinstance(a, np.ndarray) and a.dtype.kind == "f":
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
        else:
            np.testing.assert_array_equal(a, b)


def flat(result):
    # What a result is made of, one after the other.
    result = vars(result) if dataclasses.is_dataclass(result) else result
    result = list(result.values()) if isinstance(result, dict) else result
    if not isinstance(result, (list, tuple)):
        return [result]
    return [a for part in result for a in flat(part)]


@pytest.mark.parametrize("kind", PACKED, ids=lambda kind: kind.__name__)
def test_a_packed_weight_is_made_by_its_packer_and_stays_as_it_is(kind):
    packed = PACKED[kind]
    fields = {f.name: getattr(packed, f.name) for f in dataclasses.fields(packed)}
    for make in (lambda: kind(), lambda: kind(**fields), lambda: kind(*fields.values()),
                 lambda: dataclasses.replace(packed, shape=(10**6, 10**6))):
        with pytest.raises(ValueError, match=f"{kind.__name__} must be made by {kind.packer}"):
            make()
    for name, value in fields.items():
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(packed, name, value)
        if isinstance(value, np.ndarray):
            with pytest.raises(ValueError, match="read-only"):
                value[...] = 0
    again = pickle.loads(pickle.dumps(packed))
    np.testing.assert_array_equal(again.start if kind is rows.Rows else again.shape,
                                  packed.start if kind is rows.Rows else packed.shape)


@pytest.mark.parametrize("n", [1, 2, 256, np.int64(2), np.uint8(1)])
def test_threads_takes_whole_numbers(n):
    assert threads(n) == n and type(threads(n)) is int


def test_geometry_of_numpy_integers_and_lists():
    where = doors.geometry((np.int64(5), 6), [2, 3], (1, np.uint8(2)), [0, 1])
    assert where == ((5, 6), (2, 3), (1, 2), (0, 1), (4, 3))
    assert all(type(n) is int for each in where for n in each)


FORKED = """
import os, sys
import numpy as np
from minicomp.kernels.threads import threads
from minicomp.kernels.maps import conv, pool
from minicomp.kernels.sparse import lanes, nm, rows
from minicomp.kernels.codebook import kmeans
x, w = np.ones((8, 4, 9, 9), np.float32), np.ones((4, 4, 3, 3), np.float32)
m, column = np.eye(64, dtype=np.float32), np.ones(64, np.float32)
def run():
    conv.conv2d(x, w, n_threads=2)
    conv.conv2d_input_grad(x[:, :, :7, :7], w, size=(9, 9), n_threads=2)
    conv.conv2d_weight_grad(x, x[:, :, :7, :7], kernel=(3, 3), n_threads=2)
    conv.conv2d(x, w[:, :1], groups=4, n_threads=2)
    pool.max_pool2d(x, kernel=(2, 2), stride=(2, 2), n_threads=2)
    pool.avg_pool2d(x, kernel=(2, 2), stride=(2, 2), n_threads=2)
    lanes.matvec(lanes.pack_lanes(m), column, n_threads=2)
    nm.matvec(nm.pack_nm(m, 1, 4), column, n_threads=2)
    rows.csr_matmul(rows.pack_csr(m), m, n_threads=2)
    rows.matmul(rows.pack_rows(np.eye(64, dtype=np.uint8), np.float32([0, 1])), m, n_threads=2)
    kmeans.nearest(np.ones(20_000, np.float32), column[:4], n_threads=2)
run()
assert threads(2) == 2
if pid := os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
assert threads(2) == 1
run()
os._exit(7)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_kernels_run_in_a_process_forked_after_threads_did():
    done = subprocess.run([sys.executable, "-c", FORKED], timeout=60)
    assert done.returncode == 7


def test_loops_over_threads_ask_for_a_checked_number():
    # In the compiled modules every loop over threads takes n_threads, which only entries pass on.
    for path in (Path(minicomp.kernels.__file__).parent).rglob("*.py"):
        tree = ast.parse(path.read_text())
        for f in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
            asks = "n_threads" in [a.arg for a in f.args.args + f.args.kwonlyargs]
            if asks and not f.name.startswith("_") and not f.name == "padded":
                assert "threads(n_threads)" in ast.unparse(f), f"{path.name}: {f.name}"
