"""The cases of the reference functions: arguments by name, small ones first, fixed by a seed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..codec.bits import pack_bits
from ..codec.huffman import huffman_lengths
from ..compress.prune.obs import obs_saliency
from ..teach.draw import Draw

Case = dict[str, Any]
SIZES = (1, 2, 3, 7, 8, 63, 64, 65, 200)


def weights(draw: Draw) -> Iterator[Case]:
    """Weights with ties, and sparsities."""
    yield {"w": np.array([0.5, -0.1, 0.1, 2.0]), "sparsity": 0.5}
    for n in SIZES:
        for s in (0.0, 0.33, 0.5, 0.9, 0.995):
            yield {"w": np.round(draw.normal(n), 1), "sparsity": s}  # rounded: ties occur


def matrices(draw: Draw) -> Iterator[Case]:
    """Matrices in groups of m."""
    for rows, blocks in ((1, 1), (2, 3), (5, 8)):
        for n, m in ((1, 2), (2, 4), (1, 4), (4, 8)):
            yield {"w": np.round(draw.normal(rows, blocks * m), 1), "n": n, "m": m}


def weights_to_score(draw: Draw) -> Iterator[Case]:
    """Weights without ties."""
    for n in SIZES:
        yield {"w": draw.normal(n)}


def ramps(draw: Draw) -> Iterator[Case]:
    """Steps before, on and after a ramp."""
    for t in (0, 5, 10, 60, 109, 110, 500):
        yield {"t": t, "s_i": 0.1, "s_f": 0.9, "t0": 10, "n": 10, "dt": 10}
    for _ in range(20):
        lo, hi = sorted(draw.uniform(2).tolist())
        yield {
            "t": draw.integer(0, 300),
            "s_i": lo,
            "s_f": hi,
            "t0": draw.integer(0, 50),
            "n": draw.integer(1, 20),
            "dt": draw.integer(1, 20),
        }


def surgeries(draw: Draw) -> Iterator[Case]:
    """Weights about the two thresholds."""
    yield {
        "w": np.array([0.05, -0.2, 0.2, -0.5]),
        "mask": np.array([True, True, False, False]),
        "a": 0.1,
        "b": 0.3,
    }
    for n in SIZES:
        yield {"w": np.round(draw.normal(n), 1), "mask": draw.uniform(n) < 0.5, "a": 0.4, "b": 0.9}


def trajectories(draw: Draw) -> Iterator[Case]:
    """Weights and gradients of several steps, and a learning rate of the scores."""
    yield {"w": np.array([[2.0], [1.0]]), "g": np.array([[-1.0], [0.5]]), "lr": 1.0}
    for steps in (1, 2, 5):
        for n in SIZES:
            yield {"w": draw.normal(steps, n), "g": draw.normal(steps, n), "lr": 0.1}


def filters(draw: Draw) -> Iterator[Case]:
    """Filters of a linear layer and of convolutions, two of them equal."""
    yield {"w": np.array([[0.0], [1.0], [3.0]])}
    for shape in ((1, 4), (2, 3), (7, 5), (6, 2, 3, 3), (20, 3, 5, 5)):
        w = draw.normal(*shape)
        w[-1] = w[0]
        yield {"w": w}


def positions(draw: Draw) -> Iterator[Case]:
    """Gaps about 2^p, and random ones."""
    yield {"positions": np.array([0, 3, 14]), "p": 3}  # Han et al. 2016, figure 2
    yield {"positions": np.zeros(0, np.int64), "p": 4}
    for p in (1, 3, 5, 8):
        for gap in (1, 2**p, 2**p + 1, 3 * 2**p):
            yield {"positions": np.array([gap - 1]), "p": p}
        for n in (8, 65, 200):
            yield {"positions": np.flatnonzero(draw.uniform(4 * n) < 0.1), "p": p}


def frequencies(draw: Draw) -> Iterator[Case]:
    """Frequencies, with and without a limit that binds."""
    yield {"freq": np.array([5, 2, 1, 1]), "limit": None}
    for n in (1, 2, 3, 7, 16, 65):
        freq = draw.integers(0, 50, n)
        freq[0] += 1
        yield {"freq": freq, "limit": None}
        yield {"freq": freq, "limit": 7}
    yield {
        "freq": np.array([1, 1, 2, 3, 5, 8, 13, 21, 34, 55]),
        "limit": 5,
    }  # Fibonacci: unlimited codes reach 9


def code_lengths(draw: Draw) -> Iterator[Case]:
    """The lengths of Huffman codes."""
    for case in frequencies(draw):
        yield {"lengths": huffman_lengths(**case)}


def numbers_to_pack(draw: Draw) -> Iterator[Case]:
    """Numbers of several widths."""
    for width in (1, 3, 5, 8, 11):
        for n in (0, *SIZES):
            yield {"values": draw.integers(0, 2**width, n), "width": width}


def packed_numbers(draw: Draw) -> Iterator[Case]:
    """The bytes of such numbers."""
    for case in numbers_to_pack(draw):
        yield {"data": pack_bits(**case), "width": case["width"], "n": len(case["values"])}


def cluster_members(draw: Draw) -> Iterator[Case]:
    """Gradients and codes; some codes have no members."""
    for n in SIZES:
        yield {"g": draw.normal(n), "index": draw.integers(0, 5, n), "k": 5}


def lines_to_cut(draw: Draw) -> Iterator[Case]:
    """Numbers with ties."""
    yield {"x": np.array([0.0, 1.0, 10.0, 11.0]), "k": 2}
    for n in (1, 2, 3, 7, 8, 63, 200):
        for k in (1, 2, 4, 16):
            yield {"x": np.round(draw.normal(n), 2), "k": k}


def lloyds(draw: Draw) -> Iterator[Case]:
    """The paper's figure, then numbers with and without zeros."""
    x = np.array(
        [
            2.09,
            -0.98,
            1.48,
            0.09,
            0.05,
            -0.14,
            -1.08,
            2.12,
            -0.91,
            1.92,
            0,
            -1.03,
            1.87,
            0,
            1.53,
            1.49,
        ]
    )
    rest = {"rng": None, "iterations": 50}
    yield {
        "x": x.astype(np.float32),
        "k": 4,
        "init": "linear",
        "pinned_zero": False,
        **rest,
    }  # Han et al., fig. 3
    for n in (1, 2, 7, 64, 200):
        for k in (2, 4, 16):
            for init in ("linear", "density", "optimal"):
                for pinned in (False, True):
                    x = draw.normal(n) * (draw.uniform(n) < 0.7 if pinned else 1)
                    yield {
                        "x": x.astype(np.float32),
                        "k": k,
                        "init": init,
                        "pinned_zero": pinned,
                        **rest,
                    }


def gradients(draw: Draw) -> Iterator[Case]:
    """Rows of gradients."""
    for n in (1, 2, 3, 8):
        for alpha in (1e-2, 1e-1, 1.0):
            yield {"X": draw.normal(2 * n + 1, n), "alpha": alpha}


def hessians(draw: Draw) -> Iterator[Case]:
    """Inverse Hessians that are positive definite."""
    yield {"w": np.array([1.0, 3.0]), "Hinv": np.linalg.inv(np.array([[2.0, 1.0], [1.0, 2.0]]))}
    for n in (1, 2, 3, 8):
        X = draw.normal(2 * n + 1, n)
        yield {"w": draw.normal(n), "Hinv": np.linalg.inv(0.1 * np.eye(n) + X.T @ X / len(X))}


def layer_rows(draw: Draw) -> Iterator[Case]:
    """Matrices of weights with the inverse Hessian of their layer, a sparsity or (N, M)."""
    for n, rows in ((1, 1), (2, 1), (4, 3), (8, 5)):
        X = draw.normal(2 * n + 1, n)
        Hinv = np.linalg.inv(0.1 * np.eye(n) + X.T @ X / len(X))
        for amount in (0.0, 0.5, 0.8) + (((1, 2),) if n > 1 else ()) + (((2, 4),) if n > 2 else ()):
            yield {"W": draw.normal(rows, n), "Hinv": Hinv, "amount": amount}


def saliencies(draw: Draw) -> Iterator[Case]:
    """Parameters and their second derivatives."""
    yield {"u": np.array([1.0, 3.0]), "h": np.array([4.0, 0.1])}
    for n in SIZES:
        yield {"u": draw.normal(n), "h": draw.uniform(n)}


def bends(draw: Draw) -> Iterator[Case]:
    """Derivatives at the output of units, and of their sigmoid, with and without f''."""
    for n in (1, 2, 7, 64):
        f = 1 / (1 + np.exp(-draw.normal(3, n)))
        f1 = f * (1 - f)
        for f2 in (f1 * (1 - 2 * f), None):
            yield {"h_x": draw.uniform(3, n), "g_x": draw.normal(3, n), "f1": f1, "f2": f2}


def unit_curvatures(draw: Draw) -> Iterator[Case]:
    """Second derivatives of units, and the inputs of their layer."""
    for P, O, I in ((1, 1, 1), (3, 2, 4), (20, 5, 7)):
        yield {"h_a": draw.uniform(P, O), "x": draw.normal(P, I)}


def connections(draw: Draw) -> Iterator[Case]:
    """Second derivatives of connections, and the parameters that they use, some of them none."""
    yield {"h": np.array([[1.0, 2.0], [4.0, 8.0]]), "index": np.array([[0, 2], [2, 0]]), "k": 3}
    for n, k in ((1, 1), (7, 2), (200, 16)):
        yield {"h": draw.uniform(n), "index": draw.integers(0, k, n), "k": k + 1}


def obs_deletions(draw: Draw) -> Iterator[Case]:
    """Weights to delete with such a Hessian."""
    for case in hessians(draw):
        yield {**case, "q": int(np.argmin(obs_saliency(**case)))}
