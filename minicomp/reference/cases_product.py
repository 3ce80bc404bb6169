"""The reference functions of codebooks of vectors, and their cases: small ones first."""

from __future__ import annotations

import numpy as np

from ..compress.share.bit_down import input_moments
from ..compress.share.blocks import (product_bits, product_break_even, product_decode,
                                     product_gradient)
from ..compress.share.vectors import (beam_codes, kmeans_vectors, least_squares_codebooks,
                                      nearest_vector, residual_sum)
from .draw import Draw
from .entry import CLOSE, Case, Cases, Entry
from .judges import Message

PAIRS = np.array([[0.0, 0.0], [0.0, 1.0], [5.0, 5.0], [6.0, 5.0]])


def _clusters(draw: Draw) -> list[Case]:
    cases = []
    for n, d, k in ((5, 1, 2), (8, 2, 3), (40, 3, 4), (60, 4, 16)):
        x = draw.normal(n, d)
        cases.append({"x": x, "k": k, "starts": x[draw.permutation(n)[:k]]})
    return cases


CLUSTERS = Cases(tiny=[{"x": PAIRS, "k": 2, "starts": PAIRS[:2]}], property=_clusters)

NEIGHBOURS = Cases(
    tiny=[{"x": PAIRS, "centroids": PAIRS[[1, 3]]}],
    property=lambda draw: [{"x": draw.normal(30, d), "centroids": draw.normal(k, d)}
                           for d in (1, 2, 5) for k in (1, 3, 16)])


def _coded(draw: Draw) -> list[Case]:
    return [{"codes": draw.integers(0, k, t, O, s), "codebooks": draw.normal(t, books, k, d),
             "columns": s * d - less}
            for t, O, s, k, d, books, less in ((1, 3, 2, 4, 2, 2, 0), (2, 5, 3, 4, 3, 3, 2),
                                               (1, 7, 4, 8, 2, 1, 1), (3, 4, 1, 16, 5, 1, 0))]


CODED = Cases(
    tiny=[{"codes": np.array([[[0, 1], [1, 1]]]), "columns": 3,
           "codebooks": np.array([[[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]]]])}],
    property=_coded)


def _pulled(draw: Draw) -> list[Case]:
    return [{"g": draw.normal(len(c["codes"][0]), c["columns"]), "codes": c["codes"],
             "k": c["codebooks"].shape[2], "block": c["codebooks"].shape[3],
             "shared": c["codebooks"].shape[1] == 1} for c in _coded(draw)]


PULLED = Cases(
    tiny=[{"g": np.array([[1.0, 2.0, 3.0], [10.0, 20.0, 30.0]]), "k": 2, "block": 2,
           "codes": np.array([[[0, 1], [1, 1]]]), "shared": shared} for shared in (False, True)],
    property=_pulled)

SIZES = [{"columns": columns, "block": block, "k": k, "stages": stages, "shared": shared,
          "float_bits": float_bits}
         for columns, block, k, stages in ((784, 4, 16, 1), (784, 784, 256, 4), (10, 3, 5, 2),
                                           (100, 1, 256, 4))
         for shared in (False, True) for float_bits in (32, 16)]
BITS = Cases(tiny=[{"rows": rows} | case for case in SIZES for rows in (1, 300)])
EVEN = Cases(tiny=SIZES)


def _summed(draw: Draw) -> list[Case]:
    return [{"codes": draw.integers(0, 4, t, n), "codebooks": draw.normal(t, 4, d)}
            for t, n, d in ((1, 3, 2), (2, 8, 3), (4, 20, 2))]


SUMMED = Cases(tiny=[{"codes": np.array([[0, 1], [1, 0]]),
                      "codebooks": np.array([[[1.0], [2.0]], [[10.0], [20.0]]])}],
               property=_summed)


def _beams(draw: Draw) -> list[Case]:
    return [{"x": draw.normal(12, d), "codebooks": draw.normal(t, k, d), "beam": beam}
            for t, k, d in ((1, 4, 2), (2, 4, 2), (3, 3, 3)) for beam in (1, 4, 64)]


BEAMS = Cases(
    tiny=[{"x": np.array([[1.0]]), "codebooks": np.array([[[0.9], [1.5]], [[0.6], [-0.5]]]),
           "beam": beam} for beam in (1, 2)],
    property=_beams)

SOLVED = Cases(property=lambda draw: [{"x": draw.normal(case["codes"].shape[1],
                                                        case["codebooks"].shape[2]), **case}
                                      for case in _summed(draw)])

MOMENTS = Cases(
    tiny=[{"H": np.array([[[2.0, 1.0, 9.0], [1.0, 3.0, 9.0], [9.0, 9.0, 9.0]]]), "columns": 2,
           "weighting": weighting} for weighting in ("full", "diagonal")],
    property=lambda draw: [{"H": draw.normal(g, d, d), "columns": columns, "weighting": weighting}
                           for g, d, columns in ((1, 1, 1), (3, 4, 4), (2, 5, 3))
                           for weighting in ("full", "diagonal")])


def judge_vectors(case: Case, result) -> Message | None:
    """k centroids, every vector at its nearest one, and a squared error of at most 0.1 % more than
    ours: the least is nobody's."""
    x, k = case["x"], case["k"]
    if not isinstance(result, tuple | list) or len(result) != 2:
        return Message("no-pair", "(centroids, index) is expected")
    centroids, index = np.asarray(result[0], np.float64), np.asarray(result[1])
    if centroids.shape != (k, x.shape[1]) or index.shape != x.shape[:1]:
        return Message("wrong-shape", f"shapes {(k, x.shape[1])} and {x.shape[:1]} are expected, "
                                      f"got {centroids.shape} and {index.shape}")
    if index.dtype.kind not in "iu" or index.min() < 0 or index.max() >= k:
        return Message("odd", f"index must hold integers in [0, {k - 1}]")
    distance = np.square(x[:, None] - centroids).sum(axis=2)
    own, least = distance[np.arange(len(x)), index], distance.min(axis=1)
    if (own > least + 1e-9 * (1 + least)).any():
        return Message("not-nearest", "every vector must have its nearest centroid")
    ours, at = kmeans_vectors(**case)
    return _dearer(float(np.square(x - ours[at]).sum()), float(own.sum()), 1e-3)


def judge_beam(case: Case, result) -> Message | None:
    """Codes in range, whose squared error over all vectors is no more than ours."""
    x, codebooks = case["x"], case["codebooks"]
    codes = np.asarray(result)
    if codes.shape != (len(codebooks), len(x)) or codes.dtype.kind not in "iu":
        return Message("wrong-shape", f"integers of shape {(len(codebooks), len(x))} are expected, "
                                      f"got {codes.dtype} {codes.shape}")
    if codes.min() < 0 or codes.max() >= codebooks.shape[1]:
        return Message("odd", f"codes must be in [0, {codebooks.shape[1] - 1}]")
    ours, got = (float(np.square(x - residual_sum(c, codebooks)).sum())
                 for c in (beam_codes(**case), codes))
    return _dearer(ours, got, 1e-9)


def judge_solved(case: Case, result) -> Message | None:
    """The squared error decides: codebooks may differ by what the codes leave open."""
    x, codes = case["x"], case["codes"]
    if np.shape(result) != case["codebooks"].shape:
        return Message("wrong-shape", f"shape {case['codebooks'].shape} is expected, got "
                                      f"{np.shape(result)}")
    ours, got = (float(np.square(x - residual_sum(codes, np.asarray(books))).sum())
                 for books in (least_squares_codebooks(**case), result))
    return _dearer(ours, got, 1e-6)


def _dearer(ours: float, got: float, rtol: float) -> Message | None:
    if got <= ours * (1 + rtol) + 1e-12:
        return None
    return Message("too-far", f"a squared error of {ours} is expected, got {got}")


_GONG, _STOCK = "Gong et al. 2014, arXiv:1412.6115, ", "Stock et al. 2020, arXiv:1907.05686, "
_PARTS = "of codes of whole bits, and of every number of the codebooks"

PRODUCT: dict[str, Entry] = {
    "nearest_vector": Entry(nearest_vector, NEIGHBOURS, "equal; of equally near ones the lower",
                            "Lloyd 1982"),
    "kmeans_vectors": Entry(
        kmeans_vectors, CLUSTERS, "every vector has its nearest centroid, and the squared error is "
        "at most 0.1 % above ours, from the same starts", "Lloyd 1982", judge=judge_vectors),
    "product_decode": Entry(product_decode, CODED, f"{CLOSE}; stages are summed",
                            _GONG + "eqs. (6), (7)", rtol=1e-9),
    "product_gradient": Entry(product_gradient, PULLED, f"{CLOSE}; summed over members",
                              _GONG + "by the chain rule of eq. (6)", rtol=1e-9),
    "product_bits": Entry(product_bits, BITS, f"equal; {_PARTS}", _GONG + "section 3.2"),
    "product_break_even": Entry(product_break_even, EVEN, "equal; the first number of rows with "
                                "fewer bits than 32 a weight, 0 where there is none",
                                _GONG + "section 3.2"),
    "residual_sum": Entry(residual_sum, SUMMED, CLOSE, _GONG + "eq. (7)", rtol=1e-9),
    "beam_codes": Entry(beam_codes, BEAMS, "the squared error is at most ours", "Babenko & "
                        "Lempitsky 2014, Additive Quantization", judge=judge_beam),
    "least_squares_codebooks": Entry(
        least_squares_codebooks, SOLVED, "the squared error is at most ours, to 1e-6",
        "Babenko & Lempitsky 2014, Additive Quantization, section 3", judge=judge_solved),
    "input_moments": Entry(input_moments, MOMENTS, f"{CLOSE}; the mean of the groups",
                           _STOCK + "eq. (3)", rtol=1e-9),
}
