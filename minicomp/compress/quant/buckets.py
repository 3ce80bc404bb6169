"""Stochastic uniform quantization in buckets (Polino, Pascanu & Alistarh 2018, "Model Compression
via Distillation and Quantization", arXiv 1802.05668; Alistarh et al. 2017, QSGD, arXiv 1610.02132).

A scale for all weights of a layer follows its largest; a scale for each bucket of 256 does not. In
a bucket v is brought to [0, 1] and rounded at random, so that no weight is biased:

    v^ = (v - beta) / alpha,  alpha = max v - min v,  beta = min v              (section 2.1)
    Q(v^) = floor(v^ S) / S + xi / S,  xi ~ Bernoulli(v^ S - floor(v^ S))
    v~ = alpha Q(v^) + beta,  E v~ = v

with S = 2^b - 1 steps. `bucket_quantize` is that. The technique stores integers, q and a zero point
z (`nn/forms/affine.py`), whose levels contain 0: what was pruned stays exactly 0. For that the step
is alpha' / (S - 1) instead of alpha / S, alpha' the range of the bucket's weights and 0, and z =
-floor(min / step): no weight is clipped and the rounding is unbiased as before. A bucket is of
neighbouring weights of one output channel, none crosses into the next. rounding="nearest" is the
paper's deterministic variant.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...grid.affine import TINY
from ...nn.forms import Affine
from ...nn.forms.affine import spread
from ...tensor import Array
from ..technique import knob
from .tables import FormQuantizer

ROUNDINGS = ("stochastic", "nearest")


def bucket_quantize(v: Array, u: Array, *, steps: int, bucket: int = 256) -> Array:
    """Returns alpha Q(v^) + beta for every bucket, float64 of v's shape.

    v : (n,) float, finite; the last bucket may be shorter        bucket : weights, at least 1
    u : (n,) in [0, 1): xi = 1 where u is below its probability; 0.5 everywhere rounds to nearest
    steps : S, at least 1
    A bucket of equal values is left as it is. Raises ValueError for NaN, infinity, other shapes.
    Source: Polino et al. 2018, section 2.1
    """
    v, u = np.asarray(v, np.float64), np.asarray(u)
    if v.ndim != 1 or u.shape != v.shape or not np.isfinite(v).all():
        raise ValueError(f"v and u must be finite, of one shape (n,), got {v.shape} and {u.shape}")
    if steps < 1 or bucket < 1:
        raise ValueError(f"steps and bucket must be at least 1, got {steps} and {bucket}")
    out = np.empty_like(v)
    for first in range(0, len(v), bucket):
        part = v[first : first + bucket]
        beta, alpha = part.min(), np.ptp(part)
        t = (part - beta) / (alpha or 1.0) * steps
        whole = np.floor(t)
        out[first : first + bucket] = beta + alpha * (whole + (u[first : first + bucket] < t - whole
                                                               )) / steps
    return out


def bucket_params(blocks: Array, *, bits: int) -> tuple[Array, Array]:
    """Returns (scale float32, zero_point int32), (buckets,) each, of levels 0..2^bits - 1 that
    contain 0 and reach beyond every weight.

    blocks : (buckets, members) float, finite        bits : 2..16
    """
    if not 2 <= bits <= 16:
        raise ValueError(f"bits must be in [2, 16], got {bits}")
    lo = blocks.min(axis=1, initial=0).astype(np.float64)
    hi = blocks.max(axis=1, initial=0).astype(np.float64)
    step = np.maximum((hi - lo) / (2**bits - 2), TINY).astype(np.float32)
    step = np.where(hi > lo, np.nextafter(step, np.float32(np.inf)), np.float32(1))  # never short
    return step, -np.floor(lo / step).astype(np.int32)


@dataclass(frozen=True)
class Buckets(FormQuantizer):
    """Rounds weights at random, without a bias, on a grid for each bucket."""

    word: ClassVar[str] = "buckets"
    title: ClassVar[str] = "Stochastic rounding in buckets"
    source: ClassVar[str] = ("Polino, Pascanu & Alistarh 2018, Model Compression via Distillation "
                             "and Quantization, arXiv:1802.05668")

    bits: int = knob(4, "bits of a weight", lo=2, hi=16, per_layer=True)
    bucket: int = knob(256, "neighbouring weights of an output channel that share a scale", lo=1,
                       hi=65536, per_layer=True)
    rounding: str = knob("stochastic", "at random and unbiased, or to the nearest level",
                         choices=ROUNDINGS, per_layer=True)

    def form(self, node, form, run):
        w, bits, bucket = form.dense().data, self.at("bits", node), self.at("bucket", node)
        rows = w.reshape(len(w), math.prod(w.shape[1:]))
        bucket = min(bucket, max(rows.shape[1], 1))
        blocks = np.pad(rows, ((0, 0), (0, -rows.shape[1] % bucket))).reshape(-1, bucket)
        scale, zero = (a.reshape(len(w), -1) for a in bucket_params(blocks, bits=bits))
        t = w.astype(np.float64) / spread(scale, w.shape, bucket)
        u = 0.5 if self.at("rounding", node) == "nearest" else run.rng.random(w.shape)
        whole = np.floor(t)
        q = np.clip(whole + (u < t - whole) + spread(zero, w.shape, bucket), 0, 2**bits - 1)
        return Affine(q.astype(np.int64), scale, zero, bits=bits, grid="unsigned", group=bucket,
                      mask=form.mask, trainable=True)
