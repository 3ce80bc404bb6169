"""Weight sharing by k-means (Han, Mao, Dally 2016, "Deep Compression", arXiv 1510.00149).

n weights of a layer share k values: each stores an index of log2 k bits, the layer a codebook of k
centroids,

    argmin_C sum_i sum_{w in c_i} |w - c_i|^2                                               (eq. 2)

and the centroids are trained on with the gradients of their members summed,

    dL / dC_k = sum_{i,j} dL / dW_ij 1(I_ij = k)                                            (eq. 3)

which is the rule of `take` in the engine. Clusters are of one layer. Pruned weights keep code 0,
whose centroid is pinned to exactly 0; the remaining 2^bits - 1 centroids are shared out among the
weights that are left. With `signs` they are first dealt to the negative and the positive weights,
to each as it has of the weights (E7): else a few large weights of one sign may take most of those
that "linear" spaces evenly, and leave the other sign two.

Where centroids start (section 3.2): "linear" spaces them evenly from the smallest to the largest
weight, which spares the few large weights and which the paper found best after retraining, not in
squared error; "density" at equal heights of the distribution; "random" samples weights (Forgy).
Three more: "k-means++" samples weights far apart (Arthur & Vassilvitskii 2007); "optimal" is the
least squared error there is, which on a line is cheap and of which Lloyd's iterations find only a
local form; "histogram" is within 0.5 % of it, in a few milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...nn.forms import Codebook, Dense, Form, Half
from ...tensor import Array
from ..line import Line, assign
from ..technique import Technique, knob, weights

INITS = ("linear", "density", "random", "k-means++", "histogram", "optimal")


def kmeans_1d(
    x: Array,
    k: int,
    *,
    init: str,
    rng: np.random.Generator | None,
    iterations: int = 50,
    pinned_zero: bool = False,
    signs: bool = False,
) -> tuple[Array, Array]:
    """Returns (centroids, index): at most k centroids, and the number of the nearest for every x.

    x : float32 (others are rounded to it), any shape, at least one value        k : at least 1
    init : "linear", "density", "random" or "k-means++", and at most `iterations` of Lloyd's then;
        "histogram" or "optimal", which need none
    rng : for "random" and "k-means++", else None
    pinned_zero : centroid 0 is exactly 0 and has the x that are 0; the others share the rest
    signs : with a pinned zero, the others are split between negative and positive x (`by_sign`)
    centroids : float32, ascending after a pinned 0; all distinct values where those are at most k
    index : uint16, of x's shape; an x half-way between two centroids has the lower one
    A cluster that loses all its members keeps its centroid, which can win some back.
    Raises ValueError for k < 1 (2 with a pinned zero), no or non-finite x, an unknown init or a
    missing rng.
    Source: Han et al. 2016, eq. (2)
    """
    least = 2 if pinned_zero else 1
    if k < least:
        raise ValueError(f"k must be at least {least}, got {k}")
    if init not in INITS:
        raise ValueError(f"init must be one of {', '.join(INITS)}, got {init!r}")
    x = np.asarray(x, np.float32)
    if x.size == 0 or not np.isfinite(x).all():
        raise ValueError("x must hold at least one number and no NaN or infinity")
    if not pinned_zero:
        centroids = _centroids(x, k, init, rng, iterations)
        return centroids, assign(x, centroids)
    parts, shares = [x != 0], (k - 1,)
    if signs and k > 2 and (x < 0).any() and (x > 0).any():
        parts = [x < 0, x > 0]
        shares = by_sign(x[x < 0], x[x > 0], k - 1)
    centroids, index = np.zeros(1, np.float32), np.zeros(x.shape, np.uint16)
    for live, share in zip(parts, shares):
        if live.any():
            others = _centroids(x[live], share, init, rng, iterations)
            index[live] = assign(x[live], others) + np.uint16(len(centroids))
            centroids = np.concatenate([centroids, others])
    return centroids, index


def by_sign(negative: Array, positive: Array, k: int) -> tuple[int, int]:
    """Returns how many of k centroids go to the negative and to the positive values.

    negative, positive : (n,), at least one value each        k : at least 2
    Each gets its share of the values, rounded half to even, at least one, and no more than it has
    distinct values where the other can take the rest.
    """
    share = round(k * len(negative) / (len(negative) + len(positive)))
    most = min(len(np.unique(negative)), k - 1)
    least = max(k - len(np.unique(positive)), 1)
    share = min(max(share, min(least, most)), most)
    return share, k - share


def initial_centroids(
    values: Array, k: int, init: str, *, rng: np.random.Generator | None
) -> Array:
    """Returns k ascending starting centroids, float64.

    values : (n,) ascending        init : "linear", "density", "random" or "k-means++"
    rng : for the latter two, else None. "random" draws k different places, not values.
    Source: Han et al. 2016, section 3.2; Arthur & Vassilvitskii 2007 for k-means++
    """
    n = len(values)
    if init == "linear":
        return np.linspace(values[0], values[-1], k, dtype=np.float64)
    if init == "density":  # the values at the middles of k equal steps of the distribution function
        return values[((np.arange(k) + 0.5) / k * n).astype(np.int64)].astype(np.float64)
    if rng is None:
        raise ValueError(f"rng must be given for init {init}")
    if init == "random":
        return np.sort(rng.choice(values, k, replace=k > n)).astype(np.float64)
    chosen = [float(values[rng.integers(n)])]
    distance = np.square(values.astype(np.float64) - chosen[0])  # to the nearest chosen one
    while len(chosen) < k:
        upto = np.cumsum(distance)
        # Each value with probability ~ its squared distance.
        at = np.searchsorted(upto, rng.random() * upto[-1], side="right")
        chosen.append(float(values[min(at, n - 1)]))
        np.minimum(distance, np.square(values - chosen[-1]), out=distance)
    return np.sort(chosen)


def centroid_gradient(g: Array, index: Array, k: int) -> Array:
    """Returns the gradient of each centroid: the sum of its members', (k,), in g's dtype.

    g : gradient of the weights        index : integers 0..k-1 of its shape
    Source: Han et al. 2016, eq. (3)
    """
    return np.bincount(index.ravel(), weights=g.ravel(), minlength=k).astype(g.dtype)


def _centroids(x: Array, k: int, init: str, rng, iterations: int) -> Array:
    line = Line(x)
    if line.distinct() <= k:
        return np.unique(line.values)
    if init in ("histogram", "optimal"):
        starts = line.optimum(k) if init == "optimal" else line.near_optimum(k)
        return np.unique(line.means(starts).astype(np.float32))
    first = initial_centroids(line.values, k, init, rng=rng)
    return np.unique(line.lloyd(first, iterations).astype(np.float32))


@dataclass(frozen=True)
class KMeans(Technique):
    """Gives every layer a codebook; masked weights keep an exact 0."""

    word: ClassVar[str] = "kmeans"
    title: ClassVar[str] = "Weight sharing by k-means"
    source: ClassVar[str] = (
        "Han, Mao & Dally 2016, Deep Compression: Compressing Deep Neural Networks with Pruning, "
        "Trained Quantization and Huffman Coding, arXiv:1510.00149"
    )

    bits: int = knob(
        4,
        "bits of an index: 2^bits codes, one of them the pinned 0 of a pruned layer",
        lo=1,
        hi=12,
        per_layer=True,
    )
    k: int | None = knob(
        None,
        "number of codes, instead of bits",
        type=int,
        lo=2,
        hi=4096,
        optional=True,
        per_layer=True,
    )
    init: str = knob("linear", "where centroids start", choices=INITS, per_layer=True)
    iterations: int = knob(50, "Lloyd's iterations at most", lo=0)
    signs: bool = knob(False, "deal a pruned layer's centroids to negative and positive weights by "
                              "their numbers")
    half: bool = knob(False, "store centroids as float16, what is beyond 65504 as that")
    biases: str = knob(
        "keep",
        "biases: keep them, store float16, or share them too",
        choices=("keep", "half", "share"),
    )
    bias_bits: int = knob(4, "bits of a shared bias' index", lo=1, hi=12)

    def targets(self, model):
        return list(weights(model))

    def change(self, model, data, run):
        for node, name in weights(model).items():
            k = self.at("k", node) or 2 ** self.at("bits", node)
            model.set_form(
                name, self.shared(name, model.forms()[name], k, self.at("init", node), run.rng)
            )
        for name, form in model.forms().items():
            if name.endswith(".bias") and self.biases == "half":
                model.set_form(name, Half(form.dense().data.copy(), form.mask))
            elif name.endswith(".bias") and self.biases == "share":
                init = "linear" if isinstance(self.init, dict) else self.init
                model.set_form(name, self.shared(name, form, 2**self.bias_bits, init, run.rng))
        return model

    def shared(
        self, name: str, form: Form, k: int, init: str, rng: np.random.Generator
    ) -> Codebook:
        """Returns a Codebook of at most k codes; code 0 is the pinned 0 where the form has a mask.
        """
        w, pinned = form.dense().data, form.mask is not None
        if w.size == 0:
            return Codebook(np.zeros(w.shape, np.uint8), np.zeros(1, np.float32), pinned)
        centroids, index = kmeans_1d(
            w, k, init=init, rng=rng, iterations=self.iterations, pinned_zero=pinned,
            signs=self.signs,
        )
        return Codebook(index, (Half if self.half else Dense)(centroids), pinned)
