"""Benchmarks: our kernels and training beside those of others, as ratios.

A machine's speed moves by a factor of two within minutes, so single times mean little. Contestants
of a row run in turn in one process, one thread each, on processor time; a row gives the median of
each and their ratio, above 1 where ours is faster. Rows:

    kernel, shape    what ran
    ours, peer       median, in `unit`: times, or rates where the unit is one a second
    ratio            how many times faster ours is
    note             who the peer is, and what else was measured
"""

from __future__ import annotations

import importlib
import statistics
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator

import numpy as np

from .codec import huffman
from .compress.share.kmeans import kmeans_1d, kmeans_1d_optimal
from .data.dataset import Split
from .models import MODELS
from .optim import SGD
from .train import fit

Array = np.ndarray
Row = dict
SECONDS = 2.0  # of one race
SHORTEST = 0.01  # of one timing: shorter calls are repeated


def run(
    names: list[str] | None = None,
    *,
    peers: bool = False,
    log: Callable[[dict], None] | None = None,
) -> list[Row]:
    """Returns the rows of the named benchmarks (all of BENCHES).

    peers : also beside torch and scikit-learn, where they are installed
    log : gets {"event": "progress", ...} as benchmarks end, and {"event": "say", ...} for a peer
        that is missing
    Raises ValueError for an unknown name.
    """
    from threadpoolctl import threadpool_limits

    names, log = list(BENCHES if names is None else names), log or (lambda row: None)
    if unknown := [name for name in names if name not in BENCHES]:
        raise ValueError(f"names must be some of {', '.join(BENCHES)}, got {', '.join(unknown)}")
    rows = []
    for done, name in enumerate(names):
        log({"event": "progress", "name": "bench", "done": done, "total": len(names)})
        with threadpool_limits(1):
            rows += BENCHES[name](peers, log)
    log({"event": "progress", "name": "bench", "done": len(names), "total": len(names)})
    return rows


def race(
    contestants: dict[str, Callable[[], object]],
    *,
    clock: Callable[[], float] = time.process_time,
    seconds: float = SECONDS,
    least: int = 3,
) -> dict[str, float]:
    """Returns the median seconds of a call of each contestant, called in turn.

    seconds : of the whole race, about; but each is timed `least` times, after a call that is not
    """
    each = {name: _calls(call, clock) for name, call in contestants.items()}
    times = {name: [] for name in contestants}
    stop = time.perf_counter() + seconds
    while time.perf_counter() < stop or min(map(len, times.values())) < least:
        for name, call in contestants.items():
            start = clock()
            for _ in range(each[name]):
                call()
            times[name].append((clock() - start) / each[name])
    return {name: statistics.median(t) for name, t in times.items()}


def _calls(call: Callable[[], object], clock: Callable[[], float]) -> int:
    # How many calls last SHORTEST; the first call warms up.
    start = clock()
    call()
    taken, number = clock() - start, 1
    while taken < SHORTEST / 2 and number < 1 << 20:
        number *= 2
        start = clock()
        for _ in range(number):
            call()
        taken = clock() - start
    return number if taken >= SHORTEST else 2 * number if number > 1 else 1


def _row(
    kernel: str,
    shape: str,
    times: dict[str, float],
    peer: str,
    note: str = "",
    *,
    unit: str = "ms",
    work: float = 0.0,
) -> Row:
    # A row from a race in which "ours" took part; `work` of one call, for a rate.
    ours, other = (work / times[n] if work else 1e3 * times[n] for n in ("ours", peer))
    return {
        "kernel": kernel,
        "shape": shape,
        "ours": ours,
        "peer": other,
        "ratio": times[peer] / times["ours"],
        "unit": unit,
        "note": f"{unit}; peer: {peer}{'; ' if note else ''}{note}",
    }


def _peer(name: str, peers: bool, log):
    # The module of a peer, None where peers are not wanted or it is not installed.
    if not peers:
        return None
    try:
        return importlib.import_module(name)
    except ImportError:
        log({"event": "say", "text": f"bench: {name} is not installed, its rows are left out"})
        return None


# --- 1-D k-means
# ----------------------------------------------------------------------------------------------------


def heavy_tailed(n: int, rng: np.random.Generator) -> Array:
    """Returns n weights as a trained layer has them: 70 % normal, 30 % with a heavy tail; float32."""
    tail = rng.random(n) < 0.3
    return np.where(tail, 0.06 * rng.standard_t(3, n), 0.02 * rng.normal(size=n)).astype(np.float32)


def _kmeans(peers: bool, log) -> Iterator[Row]:
    x = heavy_tailed(400_000, np.random.default_rng(0))
    cluster = _peer("sklearn.cluster", peers, log)
    for k in (16, 32, 256):
        best = kmeans_1d_optimal(x, k)[1]
        if cluster is None:
            name, lloyd = "NumPy Lloyd, 50 iterations", lambda: _lloyd(x, k, 50)
        else:
            name = "scikit-learn Lloyd, 50 iterations"
            first = np.linspace(x.min(), x.max(), k)[:, None]
            lloyd = cluster.KMeans(k, init=first, n_init=1, max_iter=50, tol=0, algorithm="lloyd")
            lloyd = lambda model=lloyd: model.fit(x[:, None]).cluster_centers_[:, 0]  # noqa: E731
        errors = {}

        def ours(init):
            centroids, index = kmeans_1d(x, k, init=init, rng=None)
            errors[init] = _squared_error(x, centroids)

        times = race(
            {
                "ours": lambda: kmeans_1d(x, k, init="histogram", rng=None),
                name: lloyd,
                "optimal": lambda: kmeans_1d(x, k, init="optimal", rng=None),
            }
        )
        peer_error = _squared_error(x, np.sort(lloyd()))
        ours("histogram")
        over = f"squared error {100 * (errors['histogram'] / best - 1):.3f} % above the optimum"
        theirs = f"peer's {100 * (peer_error / best - 1):.1f} %"
        shape = f"n = 400,000, k = {k}"
        yield _row("kmeans near-optimal", shape, times, name, f"{over}, {theirs}")
        yield _row(
            "kmeans optimal",
            shape,
            {"ours": times["optimal"], name: times[name]},
            name,
            "the exact optimum",
        )


def _lloyd(x: Array, k: int, iterations: int) -> Array:
    # Lloyd's algorithm as one writes it in NumPy, from evenly spaced centroids.
    centroids = np.linspace(x.min(), x.max(), k)
    for _ in range(iterations):
        index = np.searchsorted(0.5 * (centroids[1:] + centroids[:-1]), x)
        count = np.bincount(index, minlength=k)
        total = np.bincount(index, weights=x, minlength=k)
        moved = np.where(count > 0, total / np.maximum(count, 1), centroids)
        if np.array_equal(moved, centroids):
            break
        centroids = moved
    return centroids


def _squared_error(x: Array, centroids: Array) -> float:
    index = np.searchsorted(0.5 * (centroids[1:] + centroids[:-1]), x)
    return float(np.square(x.astype(np.float64) - centroids[index]).sum())


# --- Huffman decoding
# -----------------------------------------------------------------------------------------------


def _huffman(peers: bool, log) -> Iterator[Row]:
    rng, n = np.random.default_rng(0), 2_000_000
    sources = {
        "4-bit codes": np.clip(np.rint(2.2 * rng.normal(size=n) + 7.5), 0, 15),
        "gaps at 90 % zeros": np.minimum(rng.geometric(0.1, n) - 1, 15),
        "8-bit codes, narrow": np.clip(np.rint(12 * rng.normal(size=n) + 127.5), 0, 255),
        "8-bit codes, wide": np.clip(np.rint(31 * rng.normal(size=n) + 127.5), 0, 255),
    }
    for name, symbols in sources.items():
        symbols = symbols.astype(np.uint8)
        freq = np.bincount(symbols, minlength=16)
        lengths = huffman.huffman_lengths(freq, huffman.FAST_LENGTH)
        parts = huffman.encode_four(symbols, lengths)
        data, sizes = np.concatenate(parts), np.array([len(p) for p in parts])
        deflate = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zlib.Z_HUFFMAN_ONLY)
        packed = deflate.compress(symbols.tobytes()) + deflate.flush()
        times = race(
            {
                "ours": lambda: huffman.decode_four(data, sizes, n, lengths),
                "zlib HUFFMAN_ONLY": lambda: zlib.decompress(packed, -15, n),
            }
        )
        bits = huffman.entropy_bits(freq) / n
        yield _row(
            "huffman decode",
            f"{name}, {bits:.2f} bits",
            times,
            "zlib HUFFMAN_ONLY",
            f"{len(data):,} bytes, zlib {len(packed):,}",
            unit="MB/s",
            work=n / 1e6,
        )


# --- sparse products
# ------------------------------------------------------------------------------------------------


def _sparse(peers: bool, log) -> Iterator[Row]:
    yield from ()


# --- training
# -------------------------------------------------------------------------------------------------------


class Digits:
    """Random pictures of the size of MNIST's, as `train` and `val` of a data set."""

    def __init__(self, n: int, rng: np.random.Generator):
        x, y = rng.normal(size=(n, 1, 28, 28)).astype(np.float32), rng.integers(0, 10, n)
        self.train, self.val = Split(x, y), Split(x[:1], y[:1])


def _train_ours(name: str, batch: int, data: Digits, n_threads: int = 1) -> Callable[[], object]:
    rng = np.random.default_rng(0)
    model = MODELS[name](rng=rng)
    optimizer = SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    return lambda: fit(
        model, data, epochs=1, optimizer=optimizer, rng=rng, batch_size=batch, n_threads=n_threads
    )


def _train_torch(torch, name: str, batch: int, data: Digits) -> Callable[[], object]:
    nn = torch.nn
    torch.set_num_threads(1)
    model = (
        nn.Sequential(
            nn.Flatten(),
            nn.Linear(784, 300),
            nn.ReLU(),
            nn.Linear(300, 100),
            nn.ReLU(),
            nn.Linear(100, 10),
        )
        if name == "lenet300"
        else nn.Sequential(
            nn.Conv2d(1, 20, 5),
            nn.MaxPool2d(2),
            nn.Conv2d(20, 50, 5),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(800, 500),
            nn.ReLU(),
            nn.Linear(500, 10),
        )
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    loss = nn.CrossEntropyLoss()
    x, y = torch.from_numpy(data.train.x), torch.from_numpy(data.train.y)

    def epoch():
        order = torch.randperm(len(y))
        for i in range(0, len(y), batch):
            rows = order[i : i + batch]
            optimizer.zero_grad()
            value = loss(model(x[rows]), y[rows])
            value.backward()
            optimizer.step()
            value.item()

    return epoch


def _training(peers: bool, log) -> Iterator[Row]:
    torch = _peer("torch", peers, log)
    if torch is None:
        log(
            {
                "event": "say",
                "text": "bench training: its peer is torch; --peers runs it where it is installed",
            }
        )
        return
    for name, batch, steps in (("lenet300", 64, 20), ("lenet5", 64, 5), ("lenet5", 256, 2)):
        data = Digits(batch * steps, np.random.default_rng(0))
        times = race(
            {
                "ours": _train_ours(name, batch, data),
                "torch eager": _train_torch(torch, name, batch, data),
            },
            seconds=3 * SECONDS,
        )
        yield _row(
            f"training {name}",
            f"batch {batch}",
            times,
            "torch eager",
            "NCHW, SGD with momentum",
            unit="images/s",
            work=batch * steps,
        )


def _threads(peers: bool, log) -> Iterator[Row]:
    from threadpoolctl import threadpool_limits

    with threadpool_limits(2):
        for batch, steps in ((64, 5), (256, 2)):
            data = Digits(batch * steps, np.random.default_rng(0))
            times = race(
                {
                    "ours": _train_ours("lenet5", batch, data, 2),
                    "one thread": _train_ours("lenet5", batch, data),
                },
                clock=time.perf_counter,
            )
            yield _row(
                "two threads, training lenet5",
                f"batch {batch}",
                times,
                "one thread",
                "wall clock; true only on an idle machine",
                unit="images/s",
                work=batch * steps,
            )


# --- importing
# ------------------------------------------------------------------------------------------------------


def _import(peers: bool, log) -> Iterator[Row]:
    code = "import time; t = time.process_time(); import {}; print(time.process_time() - t)"
    times = {"minicomp": [], "numpy": []}
    for _ in range(5):
        for name, taken in times.items():
            out = subprocess.run(
                [sys.executable, "-c", code.format(name)],
                capture_output=True,
                text=True,
                check=True,
            )
            taken.append(float(out.stdout))
    medians = {
        "ours": statistics.median(times["minicomp"]),
        "numpy alone": statistics.median(times["numpy"]),
    }
    yield _row("import", "minicomp", medians, "numpy alone", "numpy's own time is part of ours")


BENCHES: dict[str, Callable[[bool, Callable], Iterator[Row]]] = {
    "kmeans": _kmeans,
    "huffman": _huffman,
    "sparse": _sparse,
    "training": _training,
    "threads": _threads,
    "import": _import,
}
