"""The reference functions of hashed nets, and their cases."""

from __future__ import annotations

import numpy as np

from ..compress.share.hashednets import hashed_gradient, hashed_weights
from ..kernels.splitmix import splitmix64
from ..nn.forms.hashed import hash_places
from .draw import Draw
from .entry import CLOSE, Case, Cases, Entry

KEYS = (0, 1, 1234567, 2**32 - 1)

OUTPUTS = Cases(tiny=[{"n": 3, "key": key} for key in (0, 1234567)],
                property=[{"n": n, "key": key} for n in (1, 50) for key in (*KEYS, 2**64 - 1)])

MAPS = Cases(tiny=[{"n": 6, "k": k, "seed": 0} for k in (1, 4)],
             property=[{"n": n, "k": k, "seed": seed}
                       for n, k in ((20, 3), (100, 7), (60, 200), (40, 2**28)) for seed in KEYS])

SHAPES = ((3, 4), (5,), (4, 2, 3, 3))


def _buckets(draw: Draw) -> list[Case]:
    return [{"w": draw.normal(k), "shape": shape, "seed": seed}
            for shape in SHAPES for k in (1, 6, 40) for seed in (0, 9)]


def _pulled(draw: Draw) -> list[Case]:
    return [{"g": draw.normal(*shape), "k": k, "seed": seed}
            for shape in SHAPES for k in (1, 6, 40) for seed in (0, 9)]


DECODED = Cases(tiny=[{"w": np.array([1.0, 2.0]), "shape": (2, 3), "seed": 0}], property=_buckets)
PULLED = Cases(tiny=[{"g": np.arange(1.0, 7).reshape(2, 3), "k": 2, "seed": 0}], property=_pulled)

_CHEN = "Chen et al. 2015, arXiv:1504.04788, section 4"
_MAP = "h = floor(K floor(z / 2^32) / 2^32); sign -1 where z is odd; z output p of the seed"

HASH: dict[str, Entry] = {
    "splitmix64": Entry(splitmix64, OUTPUTS, "equal, unsigned 64-bit integers",
                        "Steele, Lea & Flood 2014"),
    "hash_places": Entry(hash_places, MAPS, f"equal; {_MAP}", _CHEN, names=("buckets", "signs")),
    "hashed_weights": Entry(hashed_weights, DECODED, f"equal; positions in C order; {_MAP}",
                            f"{_CHEN}.3"),
    "hashed_gradient": Entry(hashed_gradient, PULLED, f"{CLOSE}; {_MAP}", f"{_CHEN}.4",
                             rtol=1e-9),
}
