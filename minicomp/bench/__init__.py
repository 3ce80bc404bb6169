"""Benchmarks: our kernels and training beside those of others, as ratios.

A machine's speed moves by a factor of two within minutes, so single times mean little. The
contestants of a row run in turn in one process, one thread each, on processor time; a row gives the
median of each and their ratio, above 1 where ours is faster:

    kernel, shape    what ran
    ours, peer       medians, in `unit`
    ratio            how many times faster ours is
    note             the unit, who the peer is, and what else was measured
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ..kernels.threads import blas
from .bits import products_of_signs
from .codebook import looked_up
from .coding import coders
from .depthwise import depthwise_layers
from .int8 import products_of_codes
from .kernels import huffman_decoding, kmeans, rounding, sparse_products
from .lookups import look_ups, products_by_fft
from .lowrank import factored_layers, singular_values
from .programs import whole_programs
from .pruned import removal
from .race import Log, Row
from .training import importing, threads, trainings

# Each takes (whether peers are wanted, log) and yields its rows.
BENCHES: dict[str, Callable[[bool, Log], Iterator[Row]]] = {
    "kmeans": kmeans,
    "huffman": huffman_decoding,
    "coding": coders,
    "rounding": rounding,
    "sparse": sparse_products,
    "codebook": looked_up,
    "int8": products_of_codes,
    "programs": whole_programs,
    "bits": products_of_signs,
    "circulant": products_by_fft,
    "look-ups": look_ups,
    "removal": removal,
    "svd": singular_values,
    "low-rank": factored_layers,
    "depthwise": depthwise_layers,
    "training": trainings,
    "threads": threads,
    "import": importing,
}


def run(
    names: list[str] | None = None, *, peers: bool = False, log: Log | None = None
) -> list[Row]:
    """Returns the rows of the named benchmarks (all of BENCHES).

    peers : also beside torch and scikit-learn, where they are installed
    log : gets {"event": "progress", ...} as benchmarks end, {"event": "say", ...} where a peer is
        missing
    Raises ValueError for an unknown name.
    """
    names, log = list(BENCHES if names is None else names), log or (lambda row: None)
    if unknown := [name for name in names if name not in BENCHES]:
        raise ValueError(f"names must be some of {', '.join(BENCHES)}, got {', '.join(unknown)}")
    rows: list[Row] = []
    for done, name in enumerate(names):
        log({"event": "progress", "name": "bench", "done": done, "total": len(names)})
        with blas(1):
            rows += BENCHES[name](peers, log)
    log({"event": "progress", "name": "bench", "done": len(names), "total": len(names)})
    return rows
