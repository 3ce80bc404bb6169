"""A reference that others test against: pure functions, arrays in and out, with their test cases.

    from minicomp import reference
    reference.verify("relative_index", mine)              # AssertionError, the smallest input
    reference.ENTRIES["relative_index"].fn(positions, p)  # the reference itself

Each entry has `cases(draw)`, which yields arguments from small to large, and `judge(case, result)`,
which returns None or what is wrong. Where several answers are right the judge tests the property
that decides. `minicomp vectors NAME --out F.json` writes cases and results for other languages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..codec.bits import pack_bits, unpack_bits
from ..codec.huffman import canonical_codes, huffman_lengths
from ..codec.index import relative_index
from ..compress.hessian import inverse_hessian
from ..compress.prune.dns import surgery_mask
from ..compress.prune.fpgm import fpgm_score
from ..compress.prune.gradual import agp_sparsity
from ..compress.prune.lamp import lamp_score
from ..compress.prune.movement import movement_scores
from ..compress.prune.nm import nm_mask
from ..compress.prune.obc import obc_trace
from ..compress.prune.obd import obd_saliency, obd_shared, obd_unit, obd_weight
from ..compress.prune.obs import obs_saliency, obs_step
from ..compress.prune.scores import magnitude_mask
from ..compress.prune.sparsegpt import sparsegpt
from ..compress.share.kmeans import centroid_gradient, kmeans_1d, kmeans_1d_optimal
from ..teach.draw import Draw
from . import cases, vectors
from .judges import (copied, equal_to, judge_huffman, judge_kmeans, judge_lloyd,
                     judge_sparsegpt)

Case = dict[str, Any]


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
    rule : further keyword arguments of every call, for a function whose convention can be chosen
    Raises AssertionError with the failing case of the fewest numbers, what was expected, what came,
    the rule and its tolerance; ValueError for an unknown name.
    """
    entry = _entry(name)
    numbered = enumerate(entry.cases(Draw(seed)))
    for number, case in sorted(numbered, key=lambda pair: _size(pair[1])):
        shown = f"{name}, case {number}: {_shown(case)}"
        try:
            result = fn(**copied(case), **rule)
        except Exception as e:
            raise AssertionError(f"{shown}\n  raised {type(e).__name__}: {e}") from e
        try:
            wrong = entry.judge(case, result)
        except Exception as e:  # a judge expects numbers of the right kind
            wrong = f"the result cannot be judged: {type(e).__name__}: {e}"
        if wrong is not None:
            expected = _text(entry.fn(**copied(case)))
            raise AssertionError(f"{shown}\n  expected: {expected}\n  got:      {_text(result)}\n"
                                 f"  {wrong}\n  rule: {entry.rule}; {entry.source}")


def write_vectors(name: str, path: str | Path, *, seed: int = 0) -> int:
    """Writes the cases of an entry with their expected results, and returns how many.

    path : F.json or F.npz; `vectors.plain` says how arrays lie in JSON
    Raises ValueError for an unknown name or another ending.
    """
    entry = _entry(name)
    return vectors.write(Path(path), name, entry, entry.cases(Draw(seed)), seed)


_LEAST, _LSB = "ties by lowest index", "least significant bit first"
_CLOSE = "|got - expected| <= 1e-9 max|expected|"
_HAN, _OBS = "Han et al. 2016, arXiv:1510.00149, ", "Hassibi & Stork 1993, "
_OBD = "LeCun, Denker & Solla 1990, "

ENTRIES: dict[str, Entry] = {
    "magnitude_mask": Entry(
        magnitude_mask, cases.weights, equal_to(magnitude_mask),
        f"exactly round(s n) zeros, {_LEAST}", "Han et al. 2015, arXiv:1506.02626"),
    "nm_mask": Entry(
        nm_mask, cases.matrices, equal_to(nm_mask), _LEAST, "Mishra et al. 2021, arXiv:2104.08378"),
    "lamp_score": Entry(
        lamp_score, cases.weights_to_score, equal_to(lamp_score, 1e-9), _CLOSE,
        "Lee et al. 2021, eq. (1)"),
    "agp_sparsity": Entry(
        agp_sparsity, cases.ramps, equal_to(agp_sparsity, 1e-9), _CLOSE,
        "Zhu & Gupta 2017, eq. (1)"),
    "surgery_mask": Entry(
        surgery_mask, cases.surgeries, equal_to(surgery_mask), "equal in every entry",
        "Guo et al. 2016, eq. (3)"),
    "movement_scores": Entry(
        movement_scores, cases.trajectories, equal_to(movement_scores, 1e-9), _CLOSE,
        "Sanh et al. 2020, arXiv:2005.07683, table 1"),
    "fpgm_score": Entry(
        fpgm_score, cases.filters, equal_to(fpgm_score, 1e-9), _CLOSE,
        "He et al. 2019, arXiv:1811.00250, eq. (5)"),
    "obs_saliency": Entry(
        obs_saliency, cases.hessians, equal_to(obs_saliency, 1e-9), _CLOSE, _OBS + "eq. (5)"),
    "obs_step": Entry(
        obs_step, cases.obs_deletions, equal_to(obs_step, 1e-9), _CLOSE, _OBS + "eq. (5)"),
    "inverse_hessian": Entry(
        inverse_hessian, cases.gradients, equal_to(inverse_hessian, 1e-9), _CLOSE,
        _OBS + "section 3"),
    "obd_saliency": Entry(
        obd_saliency, cases.saliencies, equal_to(obd_saliency, 1e-9), _CLOSE, _OBD + "section 2"),
    "obd_unit": Entry(
        obd_unit, cases.bends, equal_to(obd_unit, 1e-9), _CLOSE + "; f2 None: the first term alone",
        _OBD + "eq. (7), with a plus"),
    "obd_weight": Entry(
        obd_weight, cases.unit_curvatures, equal_to(obd_weight, 1e-9), _CLOSE, _OBD + "eq. (6)"),
    "obd_shared": Entry(
        obd_shared, cases.connections, equal_to(obd_shared, 1e-9), _CLOSE, _OBD + "eq. (5)"),
    "obc_trace": Entry(
        obc_trace, cases.hessians, equal_to(obc_trace, 1e-9),
        f"the same order, {_LEAST}; rises to 1e-9 of the largest",
        "Frantar et al. 2022, arXiv:2208.11580, algorithm 1"),
    "sparsegpt": Entry(
        sparsegpt, cases.layer_rows, judge_sparsegpt,
        f"the same entries kept, exactly round(s n) zeros or N of M, {_LEAST}; "
        "weights to 1e-9 of the largest", "Frantar & Alistarh 2023, arXiv:2301.00774, algorithm 1"),
    "kmeans_1d": Entry(
        kmeans_1d, cases.lloyds, judge_lloyd,
        "every x has its nearest centroid, and the squared error is at most ours, to 1e-6 of the "
        "variance; code 0 is the pinned 0", _HAN + "section 3.2"),
    "kmeans_1d_optimal": Entry(
        kmeans_1d_optimal, cases.lines_to_cut, judge_kmeans,
        "the least squared error, to 1e-9 of the variance", _HAN + "eq. (2)"),
    "centroid_gradient": Entry(
        centroid_gradient, cases.cluster_members, equal_to(centroid_gradient, 1e-9), _CLOSE,
        _HAN + "eq. (3)"),
    "relative_index": Entry(
        relative_index, cases.positions, equal_to(relative_index),
        "0-based; a gap above 2^p emits a filler", _HAN + "figure 2"),
    "huffman_lengths": Entry(
        huffman_lengths, cases.frequencies, judge_huffman,
        "fewest bits in all, Kraft sum 1; lengths may differ",
        "Huffman 1952; Larmore & Hirschberg 1990"),
    "canonical_codes": Entry(
        canonical_codes, cases.code_lengths, equal_to(canonical_codes), "by (length, symbol)",
        "Schwartz & Kallick 1964"),
    "pack_bits": Entry(
        pack_bits, cases.numbers_to_pack, equal_to(pack_bits), _LSB, "minicomp/codec/bits.py"),
    "unpack_bits": Entry(
        unpack_bits, cases.packed_numbers, equal_to(unpack_bits), _LSB, "minicomp/codec/bits.py"),
}


def _entry(name: str) -> Entry:
    if name not in ENTRIES:
        raise ValueError(f"name must be one of {', '.join(ENTRIES)}, got {name!r}")
    return ENTRIES[name]


def _size(case: Case) -> int:
    return sum(np.size(v) for v in case.values())


def _shown(case: Case) -> str:
    return ", ".join(f"{k} = {_text(v)}" for k, v in case.items())


def _text(value) -> str:
    return np.array2string(value, threshold=20) if isinstance(value, np.ndarray) else repr(value)
