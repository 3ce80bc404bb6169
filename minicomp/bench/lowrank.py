"""Races of low rank: the randomised SVD, and a convolution at a third of its MACs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..compress.lowrank.clocked import alone
from ..compress.lowrank.randomized import randomized_svd
from ..compress.lowrank.spatial_svd import SpatialSVD
from ..compress.lowrank.svd import SVD
from ..compress.lowrank.weight_svd import WeightSVD
from ..compress.technique import Run
from ..deploy import lower
from ..kernels.threads import blas
from ..models import MODELS
from ..tensor import Array
from .race import Log, Row, peer_module, race, row

SIZE, RANK, OVERSAMPLE = 4096, 128, 10
SPECTRUM = 512  # singular values of the matrix, 1 / i^0.7, above noise
BATCH = 64


def singular_values(peers: bool, log: Log) -> Iterator[Row]:
    """Yields the randomised SVD beside the peers', at the same oversampling and power steps.

    The note says the residual of each over ours.
    """
    w = decaying(np.random.default_rng(0), SIZE)
    shape = f"{SIZE} x {SIZE}, r = {RANK} + {OVERSAMPLE}"
    for power in (2, 4):
        calls = contestants(w, power, peers, log)
        left = {name: residual(w, call()) for name, call in calls.items()}
        times = race(calls)
        for peer in [name for name in calls if name != "ours"]:
            yield row(f"randomised SVD, {power} power steps", shape, times, peer,
                      f"its residual {left[peer] / left['ours']:.4f} of ours")


def contestants(w: Array, power: int, peers: bool, log: Log) -> dict:
    """Returns what races: a call each gives U, s and V'; without peers the plain method."""
    calls = {"ours": lambda: randomized_svd(w, RANK, oversample=OVERSAMPLE, power=power,
                                            rng=np.random.default_rng(1)),
             "plain NumPy": lambda: plain(w, power)}
    sklearn = peer_module("sklearn.utils.extmath", peers, log)
    if sklearn is not None:
        for normalizer in ("auto", "LU"):
            calls[f"scikit-learn {normalizer}"] = lambda how=normalizer: sklearn.randomized_svd(
                w, RANK, n_oversamples=OVERSAMPLE, n_iter=power, power_iteration_normalizer=how,
                random_state=1)
    torch = peer_module("torch", peers, log)
    if torch is not None:
        torch.set_num_threads(1)
        theirs = torch.from_numpy(w)

        def svd_lowrank():
            U, s, V = torch.svd_lowrank(theirs, q=RANK + OVERSAMPLE, niter=power)
            return U[:, :RANK].numpy(), s[:RANK].numpy(), V[:, :RANK].numpy().T

        calls["torch.svd_lowrank"] = svd_lowrank
    return calls


def plain(w: Array, power: int) -> tuple[Array, Array, Array]:
    """Returns U, s and V' by Halko et al.'s algorithms 4.4 and 5.1, with Householder QRs."""
    draws = np.random.default_rng(1).standard_normal((w.shape[1], RANK + OVERSAMPLE), np.float32)
    Q = np.linalg.qr(w @ draws)[0]
    for _ in range(power):
        Q = np.linalg.qr(w @ np.linalg.qr(w.T @ Q)[0])[0]
    U, s, Vt = np.linalg.svd(Q.T @ w, full_matrices=False)
    return Q @ U[:, :RANK], s[:RANK], Vt[:RANK]


def decaying(rng: np.random.Generator, n: int) -> Array:
    """Returns an n x n float32 matrix of singular values 1 / i^0.7 and a little noise."""
    k = min(SPECTRUM, n)
    U, V = (np.linalg.qr(rng.standard_normal((n, k), np.float32))[0] for _ in "UV")
    s = np.arange(1, k + 1, dtype=np.float32) ** np.float32(-0.7)
    return U * s @ V.T + np.float32(1e-4) * rng.standard_normal((n, n), np.float32)


def residual(w: Array, factors: tuple[Array, Array, Array]) -> float:
    """Returns |w - U s V'|."""
    U, s, Vt = factors
    return float(np.linalg.norm(w - U * s @ Vt))


def factored_layers(peers: bool, log: Log) -> Iterator[Row]:
    """Yields layers at a third of their MACs beside themselves: LeNet-5's conv2, LeNet-300's fc1.

    Shapes decide the time, not training: weights are as drawn.
    """
    for net, name, technique in (("lenet5", "conv2", WeightSVD), ("lenet5", "conv2", SpatialSVD),
                                 ("lenet300", "fc1", SVD)):
        for batch in (1, BATCH):
            yield layer_row(net, name, technique, batch)


def layer_row(net: str, name: str, technique, batch: int) -> Row:
    """Returns the row of one layer, alone, at the rank of a third of its MACs."""
    model = MODELS[net](rng=np.random.default_rng(0))
    node = model.node(name)
    layer = alone([node.layer], model.shapes()[node.inputs[0]])
    whole = sum(layer.macs().values())
    made = technique(macs=whole // 3).apply(layer, None, Run(np.random.default_rng(0)))
    x = np.random.default_rng(0).random((batch, *layer.input_shape), np.float32)
    plans = {"ours": lower(made).plan(batch), "dense": lower(layer).plan(batch)}
    with blas(1):
        times = race({key: lambda plan=plan: plan(x) for key, plan in plans.items()})
    fewer = whole / sum(made.macs().values())
    shape = f"{net} {name}, {batch} image{'s' if batch > 1 else ''}"
    return row(technique.word, shape, times, "dense", f"{fewer:.2f} x fewer MACs")

