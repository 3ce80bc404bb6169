"""A reference that others test against: pure functions, arrays in and arrays out, with their test cases.

    from minicomp import reference
    reference.verify("relative_index", my_relative_index)     # AssertionError with the smallest failing input
    reference.ENTRIES["relative_index"].fn(positions, p)      # the reference itself

Each entry has `cases(draw)`, which yields arguments from small to large, and `judge(case, result)`, which
returns None or what is wrong. Where several answers are right the judge tests the property that decides.
`minicomp vectors NAME --out F.json` writes cases and expected results for other languages.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .codec.bits import pack_bits, unpack_bits
from .codec.huffman import canonical_codes, huffman_lengths
from .codec.index import relative_index
from .compress.hessian import inverse_hessian
from .compress.prune.dns import surgery_mask
from .compress.prune.gradual import agp_sparsity
from .compress.prune.lamp import lamp_score
from .compress.prune.nm import nm_mask
from .compress.prune.obs import obs_saliency, obs_step
from .compress.prune.scores import magnitude_mask
from .compress.share.kmeans import centroid_gradient, kmeans_1d_optimal
from .teach.draw import Draw

Array = np.ndarray
Case = dict[str, Any]
VERSION = 1       # of the cases and their order
SIZES = (1, 2, 3, 7, 8, 63, 64, 65, 200)


@dataclass(frozen=True)
class Entry:
    """One reference function.

    fn : called with a case's arguments by name        cases : Draw -> cases, small ones first
    judge : (case, result) -> what is wrong, or None        rule : what equal means, in words
    source : the paper and equation
    """

    fn: Callable
    cases: Callable[[Draw], Iterator[Case]]
    judge: Callable[[Case, Any], str | None]
    rule: str
    source: str


def verify(name: str, fn: Callable, *, seed: int = 0, **rule) -> None:
    """Runs a stranger's function over the cases of entry `name`.

    fn : takes the reference's arguments by name        seed : of the cases
    rule : further keyword arguments of every call, for a function that lets its convention be chosen
    Raises AssertionError with the smallest failing input, what was expected, what came, the rule and its
    tolerance; ValueError for an unknown name.
    """
    entry = _entry(name)
    for number, case in enumerate(entry.cases(Draw(seed))):
        try:
            result = fn(**_copied(case), **rule)
        except Exception as e:
            raise AssertionError(f"{name}, case {number}: {_shown(case)}\n  raised {type(e).__name__}: {e}") from e
        wrong = entry.judge(case, result)
        if wrong is not None:
            raise AssertionError(f"{name}, case {number}: {_shown(case)}\n  expected: {_text(entry.fn(**case))}\n"
                                 f"  got:      {_text(result)}\n  {wrong}\n  rule: {entry.rule}; {entry.source}")


def write_vectors(name: str, path: str | Path, *, seed: int = 0) -> int:
    """Writes the cases of an entry with their expected results, atomically, and returns how many.

    path : F.json or F.npz. Arrays are row-major, with dtype and shape. JSON gives integers beyond 2^53 as text, and
        floats twice: shortest decimal, and hexadecimal bits.
    Raises ValueError for an unknown name or another ending.
    """
    entry, path = _entry(name), Path(path)
    cases = [(case, entry.fn(**_copied(case))) for case in entry.cases(Draw(seed))]
    partial = path.with_name(path.name + ".partial")
    if path.suffix == ".json":
        partial.write_text(json.dumps({
            "contract": VERSION, "name": name, "rule": entry.rule, "source": entry.source, "seed": seed,
            "cases": [{"arguments": {k: _plain(v) for k, v in case.items()}, "expected": _plain(result)}
                      for case, result in cases]}, indent=1), encoding="utf-8")
    elif path.suffix == ".npz":
        arrays = {"contract": np.int64(VERSION)}
        for i, (case, result) in enumerate(cases):
            arrays |= {f"{i}/{k}": np.asarray(v) for k, v in case.items()}
            parts = result if isinstance(result, tuple) else (result,)
            arrays |= {f"{i}/expected/{j}": np.asarray(part) for j, part in enumerate(parts)}
        with open(partial, "wb") as f:
            np.savez_compressed(f, **arrays)
    else:
        raise ValueError(f"path must end in .json or .npz, got {path}")
    os.replace(partial, path)
    return len(cases)


# --- what equal means -----------------------------------------------------------------------------------------------


def _equal_to(fn: Callable, rtol: float = 0.0) -> Callable[[Case, Any], str | None]:
    # Compares with the reference's own result, entry by entry: exact, or |got - expected| <= rtol max|expected|.
    def judge(case: Case, result) -> str | None:
        expected = fn(**_copied(case))
        pairs = zip(expected, result) if isinstance(expected, tuple) else [(expected, result)]
        if isinstance(expected, tuple) and len(expected) != len(result):
            return f"{len(expected)} results are expected, got {len(result)}"
        for e, r in pairs:
            e, r = np.asarray(e), np.asarray(r)
            if e.shape != r.shape:
                return f"shape {e.shape} is expected, got {r.shape}"
            bound = rtol * float(np.abs(e).max(initial=0)) if rtol else 0
            wrong = ~(np.abs(e - r) <= bound) if rtol else e != r
            if wrong.any():
                at = tuple(int(i[0]) for i in np.nonzero(wrong)) if e.ndim else ()
                return f"first difference at {at}: {e[at]} is expected, got {r[at]}"
        return None
    return judge


def _judge_huffman(case: Case, lengths) -> str | None:
    # Equal total bits decide, not equal lengths: ties can be merged in any order.
    freq, lengths = case["freq"], np.asarray(lengths).astype(np.int64)
    used = freq > 0
    if lengths.shape != freq.shape or (lengths[~used] != 0).any() or (lengths[used] < 1).any():
        return "symbols that occur need a length of at least 1, others 0"
    kraft = float(np.sum(2.0 ** -lengths[used]))
    if used.sum() > 1 and kraft != 1.0:
        return f"the Kraft sum must be 1, got {kraft}"
    if case["limit"] is not None and lengths.max(initial=0) > case["limit"]:
        return f"no length may pass {case['limit']}, got {lengths.max()}"
    best, bits = (int(np.sum(freq * m.astype(np.int64))) for m in (huffman_lengths(**case), lengths))
    return None if bits == best else f"{best} bits in all are expected, got {bits}"


def _judge_kmeans(case: Case, result) -> str | None:
    # Equal squared error decides: centroids may differ where two partitions are equally good.
    centroids, x = np.asarray(result[0], np.float64), case["x"].astype(np.float64)
    if centroids.ndim != 1 or len(centroids) > case["k"] or not len(centroids):
        return f"1 to {case['k']} centroids are expected, got shape {centroids.shape}"
    error = float(np.square(x[:, None] - centroids).min(axis=1).sum())
    best = kmeans_1d_optimal(**case)[1]
    scale = float(np.square(x - x.mean()).sum())
    return None if error <= best + 1e-9 * scale else f"a squared error of {best} is possible, got {error}"


# --- the cases ------------------------------------------------------------------------------------------------------


def _weights(draw: Draw) -> Iterator[Case]:
    yield {"w": np.array([0.5, -0.1, 0.1, 2.0]), "sparsity": 0.5}
    for n in SIZES:
        for s in (0.0, 0.33, 0.5, 0.9, 0.995):
            yield {"w": np.round(draw.normal(n), 1), "sparsity": s}  # rounded: ties occur


def _matrices(draw: Draw) -> Iterator[Case]:
    for rows, blocks in ((1, 1), (2, 3), (5, 8)):
        for n, m in ((1, 2), (2, 4), (1, 4), (4, 8)):
            yield {"w": np.round(draw.normal(rows, blocks * m), 1), "n": n, "m": m}


def _scores(draw: Draw) -> Iterator[Case]:
    for n in SIZES:
        yield {"w": draw.normal(n)}


def _ramps(draw: Draw) -> Iterator[Case]:
    for t in (0, 5, 10, 60, 109, 110, 500):
        yield {"t": t, "s_i": 0.1, "s_f": 0.9, "t0": 10, "n": 10, "dt": 10}
    for _ in range(20):
        lo, hi = sorted(draw.uniform(2).tolist())
        yield {"t": draw.integer(0, 300), "s_i": lo, "s_f": hi, "t0": draw.integer(0, 50), "n": draw.integer(1, 20),
               "dt": draw.integer(1, 20)}


def _surgeries(draw: Draw) -> Iterator[Case]:
    yield {"w": np.array([0.05, -0.2, 0.2, -0.5]), "mask": np.array([True, True, False, False]), "a": 0.1, "b": 0.3}
    for n in SIZES:
        yield {"w": np.round(draw.normal(n), 1), "mask": draw.uniform(n) < 0.5, "a": 0.4, "b": 0.9}


def _positions(draw: Draw) -> Iterator[Case]:
    yield {"positions": np.array([0, 3, 14]), "p": 3}  # Han et al. 2016, figure 2
    yield {"positions": np.zeros(0, np.int64), "p": 4}
    for p in (1, 3, 5, 8):
        for gap in (1, 2**p, 2**p + 1, 3 * 2**p):
            yield {"positions": np.array([gap - 1]), "p": p}
        for n in (8, 65, 200):
            yield {"positions": np.flatnonzero(draw.uniform(4 * n) < 0.1), "p": p}


def _frequencies(draw: Draw) -> Iterator[Case]:
    yield {"freq": np.array([5, 2, 1, 1]), "limit": None}
    for n in (1, 2, 3, 7, 16, 65):
        freq = draw.integers(0, 50, n)
        freq[0] += 1
        yield {"freq": freq, "limit": None}
        yield {"freq": freq, "limit": 7}
    yield {"freq": np.array([1, 1, 2, 3, 5, 8, 13, 21, 34, 55]), "limit": 5}  # Fibonacci: unlimited codes reach 9


def _lengths(draw: Draw) -> Iterator[Case]:
    for case in _frequencies(draw):
        yield {"lengths": huffman_lengths(**case)}


def _numbers(draw: Draw) -> Iterator[Case]:
    for width in (1, 3, 5, 8, 11):
        for n in (0, *SIZES):
            yield {"values": draw.integers(0, 2**width, n), "width": width}


def _packed(draw: Draw) -> Iterator[Case]:
    for case in _numbers(draw):
        yield {"data": pack_bits(**case), "width": case["width"], "n": len(case["values"])}


def _members(draw: Draw) -> Iterator[Case]:
    for n in SIZES:
        yield {"g": draw.normal(n), "index": draw.integers(0, 5, n), "k": 5}


def _lines(draw: Draw) -> Iterator[Case]:
    yield {"x": np.array([0.0, 1.0, 10.0, 11.0]), "k": 2}
    for n in (1, 2, 3, 7, 8, 63, 200):
        for k in (1, 2, 4, 16):
            yield {"x": np.round(draw.normal(n), 2), "k": k}


def _gradients(draw: Draw) -> Iterator[Case]:
    for n in (1, 2, 3, 8):
        for alpha in (1e-2, 1e-1, 1.0):
            yield {"X": draw.normal(2 * n + 1, n), "alpha": alpha}


def _hessians(draw: Draw) -> Iterator[Case]:
    yield {"w": np.array([1.0, 3.0]), "Hinv": np.linalg.inv(np.array([[2.0, 1.0], [1.0, 2.0]]))}
    for n in (1, 2, 3, 8):
        X = draw.normal(2 * n + 1, n)
        yield {"w": draw.normal(n), "Hinv": np.linalg.inv(0.1 * np.eye(n) + X.T @ X / len(X))}


def _steps(draw: Draw) -> Iterator[Case]:
    for case in _hessians(draw):
        yield {**case, "q": int(np.argmin(obs_saliency(**case)))}


_EXACT, _CLOSE = "equal in every entry", "|got - expected| <= 1e-9 max|expected|"
_HAN, _OBS = "Han et al. 2016, arXiv:1510.00149, ", "Hassibi & Stork 1993, "

ENTRIES: dict[str, Entry] = {
    "magnitude_mask": Entry(magnitude_mask, _weights, _equal_to(magnitude_mask), "exactly round(s n) zeros, ties by "
                            "lowest index", "Han et al. 2015, arXiv:1506.02626"),
    "nm_mask": Entry(nm_mask, _matrices, _equal_to(nm_mask), "ties by lowest index", "Mishra et al. 2021, arXiv:2104.08378"),
    "lamp_score": Entry(lamp_score, _scores, _equal_to(lamp_score, 1e-9), _CLOSE, "Lee et al. 2021, eq. (1)"),
    "agp_sparsity": Entry(agp_sparsity, _ramps, _equal_to(agp_sparsity, 1e-9), _CLOSE, "Zhu & Gupta 2017, eq. (1)"),
    "surgery_mask": Entry(surgery_mask, _surgeries, _equal_to(surgery_mask), _EXACT, "Guo et al. 2016, eq. (3)"),
    "obs_saliency": Entry(obs_saliency, _hessians, _equal_to(obs_saliency, 1e-9), _CLOSE, _OBS + "eq. (5)"),
    "obs_step": Entry(obs_step, _steps, _equal_to(obs_step, 1e-9), _CLOSE, _OBS + "eq. (5)"),
    "inverse_hessian": Entry(inverse_hessian, _gradients, _equal_to(inverse_hessian, 1e-9), _CLOSE, _OBS + "section 3"),
    "kmeans_1d_optimal": Entry(kmeans_1d_optimal, _lines, _judge_kmeans, "the least squared error, to 1e-9 of the "
                               "variance", _HAN + "eq. (2)"),
    "centroid_gradient": Entry(centroid_gradient, _members, _equal_to(centroid_gradient, 1e-9), _CLOSE, _HAN + "eq. (3)"),
    "relative_index": Entry(relative_index, _positions, _equal_to(relative_index), "0-based; a gap above 2^p emits a "
                            "filler", _HAN + "figure 2"),
    "huffman_lengths": Entry(huffman_lengths, _frequencies, _judge_huffman, "fewest bits in all, Kraft sum 1; lengths "
                             "may differ", "Huffman 1952; Larmore & Hirschberg 1990"),
    "canonical_codes": Entry(canonical_codes, _lengths, _equal_to(canonical_codes), "by (length, symbol)",
                             "Schwartz & Kallick 1964"),
    "pack_bits": Entry(pack_bits, _numbers, _equal_to(pack_bits), "least significant bit first", "minicomp/codec/bits.py"),
    "unpack_bits": Entry(unpack_bits, _packed, _equal_to(unpack_bits), "least significant bit first",
                         "minicomp/codec/bits.py"),
}


def _entry(name: str) -> Entry:
    if name not in ENTRIES:
        raise ValueError(f"name must be one of {', '.join(ENTRIES)}, got {name!r}")
    return ENTRIES[name]


def _copied(case: Case) -> Case:
    return {k: v.copy() if isinstance(v, np.ndarray) else v for k, v in case.items()}


def _shown(case: Case) -> str:
    return ", ".join(f"{k} = {_text(v)}" for k, v in case.items())


def _text(value) -> str:
    return np.array2string(value, threshold=20) if isinstance(value, np.ndarray) else repr(value)


def _plain(value):
    # A value as JSON: arrays with dtype, shape and row-major entries; floats with their bits beside.
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    if value is None or isinstance(value, (bool, str)):
        return value
    array = np.asarray(value)
    entries = array.ravel().tolist()
    if array.dtype.kind in "iu":
        entries = [str(e) if abs(e) > 2**53 else e for e in entries]
    plain = {"dtype": str(array.dtype), "shape": list(array.shape), "data": entries}
    if array.dtype.kind == "f":
        text, width = array.astype(array.dtype.newbyteorder(">")).tobytes().hex(), 2 * array.itemsize
        plain["bits"] = [text[i:i + width] for i in range(0, len(text), width)]
    return plain
