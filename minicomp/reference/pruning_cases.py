"""The cases of pruning: arguments by name, small ones first, fixed by a seed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..compress.prune.obs import obs_saliency
from .draw import Draw
from .cases import SIZES, Case


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


def obs_deletions(draw: Draw) -> Iterator[Case]:
    """Weights to delete with such a Hessian."""
    for case in hessians(draw):
        yield {**case, "q": int(np.argmin(obs_saliency(**case)))}


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


def thresholds(draw: Draw) -> Iterator[Case]:
    """Weights with zeros, which do not count, and a quality."""
    yield {"w": np.array([3.0, -1.0, 0.0, 0.0]), "quality": 0.5}
    for n in SIZES:
        for q in (0.25, 1.0, 2.0):
            yield {"w": draw.normal(n) * (draw.uniform(n) < 0.8), "quality": q}


def percentiles(draw: Draw) -> Iterator[Case]:
    """Weights and a percentile between two of them."""
    for n in SIZES:
        for p in (0.0, 0.3, 0.95, 1.0):
            yield {"w": draw.normal(n), "percentile": p}


def banks(draw: Draw) -> Iterator[Case]:
    """Matrices in banks along the inputs."""
    yield {"w": np.array([[4.0, -3.0, 1.0, 2.0]]), "sparsity": 0.5, "blocks": 2}
    for rows, blocks, width in ((1, 1, 5), (3, 2, 4), (7, 5, 9)):
        for s in (0.0, 0.33, 0.5, 0.9):
            w = np.round(draw.normal(rows, blocks * width), 1)
            yield {"w": w, "sparsity": s, "blocks": blocks}


def biases(draw: Draw) -> Iterator[Case]:
    """Biases, some of them at the threshold."""
    yield {"b": np.array([0.5, -0.5, 0.6, 0.0]), "threshold": 0.5}
    for n in SIZES:
        yield {"b": np.round(draw.normal(n), 1), "threshold": 0.3}


def cut_rates(draw: Draw) -> Iterator[Case]:
    """Weights and c, also so far below 0 that tau would be negative."""
    yield {"w": np.array([1.0, -3.0]), "c": 1.0}
    for n in SIZES:
        for c in (-9.0, 0.0, 2.5):
            yield {"w": draw.normal(n), "c": c}


def weights_and_gradients(draw: Draw) -> Iterator[Case]:
    """Weights and their gradients."""
    yield {"w": np.array([2.0, -3.0]), "g": np.array([-0.5, 0.0])}
    for n in SIZES:
        yield {"w": draw.normal(n), "g": draw.normal(n)}


def inputs_of_rows(draw: Draw) -> Iterator[Case]:
    """Weights of a linear layer or a convolution, and the norms of their inputs."""
    yield {"w": np.array([[1.0, -2.0], [3.0, 0.5]]), "norm": np.array([2.0, 1.0])}
    for shape in ((1, 1), (3, 5), (7, 2), (4, 3, 3, 3), (2, 6, 1, 5)):
        yield {"w": draw.normal(*shape), "norm": np.abs(draw.normal(shape[1]))}


def filters_and_norms(draw: Draw) -> Iterator[Case]:
    """Filters, and which norm."""
    yield {"w": np.array([[3.0, -4.0], [0.0, 1.0]]), "order": 2}
    for shape in ((1, 4), (7, 5), (6, 2, 3, 3)):
        for order in (1, 2):
            yield {"w": draw.normal(*shape), "order": order}


def batch_norm_scales(draw: Draw) -> Iterator[Case]:
    """Scales of both signs, and one that is 0."""
    yield {"gamma": np.array([0.5, 0.0, -2.0]), "lam": 1e-4}
    for n in SIZES:
        yield {"gamma": np.round(draw.normal(n), 1), "lam": 0.125}


def activations(draw: Draw) -> Iterator[Case]:
    """Outputs of a ReLU, of units and of maps."""
    yield {"a": np.array([[0.0, 1.0], [0.0, 0.0], [2.0, 3.0]])}
    for shape in ((1, 1), (5, 3), (4, 2, 3, 3), (9, 6, 1, 5)):
        yield {"a": np.maximum(draw.normal(*shape), 0.0)}


def lassos(draw: Draw) -> Iterator[Case]:
    """Gram matrices that are positive definite: the minimum is one point."""
    yield {"G": np.array([[2.0]]), "r": np.array([3.0]), "lam": 1.0}
    for n in (1, 2, 3, 8):
        X = draw.normal(2 * n + 3, n)
        G = 0.5 * np.eye(n) + X.T @ X / len(X)
        for lam in (0.0, 0.1, 1.0, 10.0):
            yield {"G": G, "r": draw.normal(n), "lam": lam}


def chains_of_masks(draw: Draw) -> Iterator[Case]:
    """Masks of layers in a row, from dense to nearly empty."""
    yield {"masks": [np.array([[True, False], [False, False]]), np.array([[True, True]])]}
    for sizes in ((3, 2), (4, 5, 3), (6, 7, 5, 4)):
        for kept in (0.1, 0.3, 0.6):
            yield {"masks": [draw.uniform(o, i) < kept for i, o in zip(sizes, sizes[1:])]}
