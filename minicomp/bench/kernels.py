"""Races of the kernels: k-means on a line, Huffman decoding, rounding, sparse products."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Callable, Iterator

import numpy as np

from ..codec import huffman
from ..compress.prune.nm import nm_mask
from ..compress.line import kmeans_1d_optimal
from ..compress.share.kmeans import kmeans_1d
from ..kernels.int8.rounding import nearest_round, stochastic_round
from ..kernels.sparse import nm
from ..kernels.sparse.lanes import matvec, pack_lanes
from ..kernels.sparse.rows import csr_matmul, matmul, pack_csr, pack_rows
from .race import Log, Row, peer_module, race, row

Array = np.ndarray
WEIGHTS, CLUSTERS = 400_000, (16, 32, 256)
SYMBOLS = 2_000_000
ROUNDED = (1_000_000, 16_000_000)  # numbers rounded, in the processor's cache and beyond
SIZES = ((1024, 1024, 16, 0.1), (4096, 4096, 16, 0.1), (300, 784, 64, 0.08))  # O, I, k, density
DENSITIES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
BLOCK = 16  # m of N:M; its densities are n / m
# width, columns, layout: where a product breaks even with dense BLAS
EVEN = (
    (1024, 1, "lanes"),
    (4096, 1, "lanes"),
    (1024, 1, "N:M"),
    (4096, 1, "N:M"),
    (1024, 1, "CSR"),
    (1024, 64, "rows"),
    (1024, 64, "CSR"),
)
TITLES = {"lanes": "codebook matvec", "N:M": "N:M matvec", "rows": "codebook matmul", "CSR": "CSR"}

# --- k-means on a line ---


def heavy_tailed(n: int, rng: np.random.Generator) -> Array:
    """Returns n weights as of a trained layer, 70 % normal and 30 % with a heavy tail; float32."""
    tail = rng.random(n) < 0.3
    return np.where(tail, 0.06 * rng.standard_t(3, n), 0.02 * rng.normal(size=n)).astype(np.float32)


def kmeans(peers: bool, log: Log) -> Iterator[Row]:
    """Yields 400,000 weights beside Lloyd's algorithm, with the squared errors."""
    x = heavy_tailed(WEIGHTS, np.random.default_rng(0))
    cluster = peer_module("sklearn.cluster", peers, log)
    peer = f"{'scikit-learn' if cluster else 'NumPy'} Lloyd, 50 iterations"
    for k in CLUSTERS:
        found: dict[str, Array] = {}  # centroids by contestant

        def lloyd():
            first = np.linspace(x.min(), x.max(), k)
            if cluster is None:
                found[peer] = _numpy_lloyd(x, first, 50)
            else:
                model = cluster.KMeans(k, init=first[:, None], n_init=1, max_iter=50, tol=0)
                found[peer] = np.sort(model.fit(x[:, None]).cluster_centers_[:, 0])

        def ours(init):
            found[init] = kmeans_1d(x, k, init=init, rng=None)[0]

        times = race(
            {
                peer: lloyd,
                "histogram": lambda: ours("histogram"),
                "optimal": lambda: ours("optimal"),
            }
        )
        best = kmeans_1d_optimal(x, k)[1]
        above = {
            n: f"{100 * max(_squared_error(x, c) / best - 1, 0):.3f} %" for n, c in found.items()
        }
        for init in ("histogram", "optimal"):
            yield row(
                f"kmeans, {init}",
                f"n = {WEIGHTS:,}, k = {k}",
                {"ours": times[init], peer: times[peer]},
                peer,
                f"squared error above the optimum: {above[init]}, peer {above[peer]}",
            )


def _numpy_lloyd(x: Array, centroids: Array, iterations: int) -> Array:
    # Lloyd's algorithm as one writes it in NumPy.
    for _ in range(iterations):
        index = np.searchsorted(0.5 * (centroids[1:] + centroids[:-1]), x)
        count = np.bincount(index, minlength=len(centroids))
        total = np.bincount(index, weights=x, minlength=len(centroids))
        moved = np.where(count > 0, total / np.maximum(count, 1), centroids)
        if np.array_equal(moved, centroids):
            break
        centroids = moved
    return centroids


def _squared_error(x: Array, centroids: Array) -> float:
    centroids = np.asarray(centroids, np.float64)
    index = np.searchsorted(0.5 * (centroids[1:] + centroids[:-1]), x)
    return float(np.square(x.astype(np.float64) - centroids[index]).sum())


# --- Huffman decoding ---


def huffman_decoding(peers: bool, log: Log) -> Iterator[Row]:
    """Yields the decoding of four streams beside zlib, which decodes one."""
    rng, n, peer = np.random.default_rng(0), SYMBOLS, "zlib HUFFMAN_ONLY"
    sources = {
        "4-bit codes": np.clip(np.rint(2.2 * rng.normal(size=n) + 7.5), 0, 15),
        "gaps at 90 % zeros": np.minimum(rng.geometric(0.1, n) - 1, 15),
        "8-bit codes, narrow": np.clip(np.rint(12 * rng.normal(size=n) + 127.5), 0, 255),
        "8-bit codes, wide": np.clip(np.rint(31 * rng.normal(size=n) + 127.5), 0, 255),
    }
    for name, symbols in sources.items():
        symbols = symbols.astype(np.uint8)
        freq = np.bincount(symbols)
        lengths = huffman.huffman_lengths(
            freq, huffman.FAST_LENGTH
        )  # as long streams in a file are coded
        parts = huffman.encode_four(symbols, lengths)
        data, sizes = np.concatenate(parts), np.array([len(p) for p in parts])
        deflate = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zlib.Z_HUFFMAN_ONLY)
        packed = deflate.compress(symbols.tobytes()) + deflate.flush()
        times = race(
            {
                "ours": lambda: huffman.decode_four(data, sizes, n, lengths),
                peer: lambda: zlib.decompress(packed, -15, n),
            }
        )
        yield row(
            "huffman decode",
            f"{name}, {huffman.entropy_bits(freq) / n:.2f} bits",
            times,
            peer,
            f"{len(data):,} bytes, zlib {len(packed):,}",
            unit="MB/s",
            work=n / 1e6,
        )


# --- rounding to fixed point ---


def rounding(peers: bool, log: Log) -> Iterator[Row]:
    """Yields stochastic rounding to <3, 13> beside NumPy, and what it costs over nearest."""
    (fl, lo, hi), rng, peer = (13, -(2**15), 2**15 - 1), np.random.default_rng(0), "NumPy"
    for n in ROUNDED:
        x = rng.normal(size=n).astype(np.float32)

        def by_numpy():
            t = x * np.float32(2.0**fl)
            down = np.floor(t)
            np.subtract(t, down, out=t)
            down += rng.random(n, dtype=np.float32) < t
            return np.clip(down, lo, hi, out=down)

        times = race(
            {
                "codes": lambda: stochastic_round(x, fl, lo, hi, key=1),
                "values": lambda: stochastic_round(x, fl, lo, hi, key=1, values=True),
                "nearest": lambda: nearest_round(x, fl, lo, hi),
                "codes by NumPy": lambda: by_numpy().astype(np.int32),
                "values by NumPy": lambda: np.multiply(by_numpy(), np.float32(2.0**-fl)),
            }
        )
        for what in ("codes", "values"):
            beside = {"ours": times[what], peer: times[f"{what} by NumPy"]}
            yield row(
                "stochastic rounding",
                f"n = {n:,}, {what}",
                beside,
                peer,
                f"{times[what] / times['nearest']:.2f} x the time of nearest",
            )


# --- sparse products ---


def sparse_layer(
    O: int, I: int, k: int, density: float, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Returns codes (O, I) uint16 of a pruned and shared layer, and its k centroids."""
    codes = rng.integers(1, k, (O, I)).astype(np.uint16)
    codes[rng.random((O, I)) >= density] = 0
    return codes, np.append(0, rng.normal(size=k - 1)).astype(np.float32)


def sparse_products(peers: bool, log: Log) -> Iterator[Row]:
    """Yields products of pruned and shared layers beside dense BLAS, and where they break even."""
    torch = peer_module("torch", peers, log)
    for O, I, k, density in SIZES:
        yield from _products(O, I, k, density, torch)
    for n, columns, layout in EVEN:
        yield _break_even(n, columns, layout)


def _products(O: int, I: int, k: int, density: float, torch) -> Iterator[Row]:
    from scipy.sparse import csr_matrix

    rng = np.random.default_rng(0)
    codes, table = sparse_layer(O, I, k, density, rng)
    dense, X = table[codes], rng.normal(size=(I, 64)).astype(np.float32)
    x, csr = X[:, 0].copy(), csr_matrix(dense)
    lanes, rows = pack_lanes(codes, table), pack_rows(codes, table)
    one = {
        "ours": lambda: matvec(lanes, x),
        "NumPy sgemv": lambda: dense @ x,
        "scipy CSR": lambda: csr @ x,
    }
    many = {
        "ours": lambda: matmul(rows, X),
        "NumPy sgemm": lambda: dense @ X,
        "scipy CSR": lambda: csr @ X,
    }
    if torch is not None:
        torch.set_num_threads(1)
        with warnings.catch_warnings(action="ignore"):  # torch calls its CSR beta
            mkl = torch.from_numpy(dense).to_sparse_csr()
        x_mkl, X_mkl = torch.from_numpy(x), torch.from_numpy(X)
        one["torch CSR"], many["torch CSR"] = lambda: mkl @ x_mkl, lambda: mkl @ X_mkl
    shape = f"{O} x {I}, {1 - density:.0%} zeros, {k} codes"
    for kernel, contestants, layout in (
        ("codebook matvec", one, lanes),
        ("codebook matmul, 64 columns", many, rows),
    ):
        times, (_, blas, *others) = race(contestants), contestants
        beside = ", ".join(f"{times[other] / times['ours']:.1f} x {other}" for other in others)
        yield row(
            kernel,
            shape,
            times,
            blas,
            f"{beside}; {layout.nbytes / np.count_nonzero(codes):.2f} bytes a weight",
        )


def _break_even(n: int, columns: int, layout: str) -> Row:
    # The density at which a product is as fast as dense BLAS.
    rng, ratios = np.random.default_rng(1), {}
    X = rng.normal(size=(n, columns)).astype(np.float32)
    for density in [k / BLOCK for k in (1, 2, 4, 8, 12)] if layout == "N:M" else DENSITIES:
        codes, table = weights_at(n, density, layout, rng)
        ours, dense = product(codes, table, X, layout), table[codes]
        x = X if columns > 1 else X[:, 0].copy()
        times = race({"ours": ours, "dense": lambda: dense @ x}, part=0.25)
        ratios[density] = times["dense"] / times["ours"]
    even = break_even(ratios)
    seen = ", ".join(f"{r:.1f} x at {_percent(d)}" for d, r in ratios.items())
    return {
        "kernel": f"{TITLES[layout]}, break-even",
        "shape": f"{n} x {n}, {columns} column{'s' if columns > 1 else ''}",
        "ours": even,
        "peer": 1.0,
        "ratio": even,
        "unit": "density",
        "note": f"density up to which it beats dense BLAS: {seen}",
        "curve": {f"{d:g}": r for d, r in ratios.items()},
    }


def weights_at(
    n: int, density: float, layout: str, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Returns codes (n, n) and 16 centroids of a layer of a density that suits the layout."""
    codes, table = sparse_layer(n, n, 16, 1.0 if layout == "N:M" else density, rng)
    if layout == "N:M":
        codes *= nm_mask(rng.normal(size=(n, n)), round(density * BLOCK), BLOCK)
    return codes, table


def product(codes: Array, table: Array, X: Array, layout: str) -> Callable[[], Array]:
    """Returns the call that multiplies X, (I, N), by the weights table[codes] in a layout."""
    if layout == "rows":
        rows = pack_rows(codes, table)
        return lambda: matmul(rows, X)
    if layout == "CSR":
        csr = pack_csr(table[codes])
        return lambda: csr_matmul(csr, X)
    x = X[:, 0].copy()
    if layout == "lanes":
        lanes = pack_lanes(codes, table)
        return lambda: matvec(lanes, x)
    blocks = nm.pack_nm(table[codes], np.count_nonzero(codes[0, :BLOCK]), BLOCK)
    return lambda: nm.matvec(blocks, x)


def _percent(density: float) -> str:
    return f"{100 * density:.3g}%"


def break_even(ratios: dict[float, float]) -> float:
    """Returns the density up to which every ratio is above 1, interpolated in the logarithms.

    ratios : {density in (0, 1]: how many times faster than dense}, in rising density
    0 where the least density is behind already, the largest where none is.
    """
    before = None
    for density, ratio in ratios.items():
        if ratio < 1:
            if before is None:
                return 0.0
            (d0, r0), (d1, r1) = np.log(before), np.log((density, ratio))
            return float(np.exp(d0 + (d1 - d0) * r0 / (r0 - r1)))
        before = (density, ratio)
    return float(before[0])
