"""Weight sharing by k-means (Han, Mao, Dally 2016, "Deep Compression", arXiv 1510.00149, section 3).

n weights of a layer share k values: each stores an index of log2 k bits, the layer a codebook of k centroids,

    argmin_C sum_i sum_{w in c_i} |w - c_i|^2                                               (eq. 2)

and the centroids are trained on with the gradients of their members summed,

    dL / dC_k = sum_{i,j} dL / dW_ij 1(I_ij = k)                                            (eq. 3)

which is the rule of `take` in the engine. Clusters are of one layer. Pruned weights keep code 0, whose centroid
is pinned to exactly 0; the remaining 2^bits - 1 centroids are shared out among the weights that are left.

Where centroids start (section 3.2): "linear" spaces them evenly from the smallest to the largest weight, which
spares the few large weights and which the paper found best; "density" at equal heights of the distribution;
"random" samples weights (Forgy); "k-means++" samples them far apart (Arthur & Vassilvitskii 2007); "optimal" is the
exact least squared error in one dimension, for which Lloyd's iterations are only an approximation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...errors import UserError
from ...kernels import kmeans as kernel
from ...nn.forms import Codebook, Dense, Form, Half
from ...tensor import Array
from ..technique import Technique, knob, weights

INITS = ("linear", "density", "random", "k-means++", "optimal")
GROUPS = 4096   # groups of equal width that the fast optimum is sought over
REFINE = 30     # Lloyd's iterations on all values after it


class Sorted:
    """Values in ascending order with the running sums of value and square, in float64 around their mean."""

    def __init__(self, x: Array):
        self.values = np.sort(x.ravel()).astype(np.float64)
        self.centre = float(self.values.mean()) if self.values.size else 0.0
        shifted = self.values - self.centre  # running sums of centred values lose fewer digits
        self.sums = np.concatenate([[0.0], np.cumsum(shifted)])
        self.squares = np.concatenate([[0.0], np.cumsum(shifted * shifted)])

    def means(self, starts: Array, empty: Array) -> Array:
        """Returns the mean of each interval starts[i]..starts[i + 1] - 1; an empty one keeps `empty`."""
        count = np.diff(starts)
        return np.where(count > 0, self.centre + np.diff(self.sums[starts]) / np.maximum(count, 1), empty)

    def error(self, starts: Array) -> float:
        """Returns the squared error of the intervals around their means, summed."""
        d, count = np.diff(self.sums[starts]), np.maximum(np.diff(starts), 1)
        return float(np.sum(np.diff(self.squares[starts]) - d * d / count))

    def starts(self, centroids: Array) -> Array:
        """Returns the first value of each ascending centroid's interval, and the number of values at the end."""
        edges = 0.5 * (centroids[1:] + centroids[:-1])
        return np.concatenate([[0], np.searchsorted(self.values, edges, side="right"), [self.values.size]])

    def lloyd(self, centroids: Array, iterations: int) -> Array:
        """Returns the centroids after at most `iterations` of Lloyd's, stopping where nothing moves."""
        for _ in range(iterations):
            moved = np.sort(self.means(self.starts(centroids), centroids))
            if np.array_equal(moved, centroids):
                break
            centroids = moved
        return centroids


def kmeans_1d(x: Array, k: int, *, init: str = "optimal", rng: np.random.Generator | None = None,
              iterations: int = 50) -> tuple[Array, Array]:
    """Returns (centroids, index): ascending centroids (k',) float32, and the nearest one's number for every x.

    x : float, any shape, at least one value        k : at least 1; k' = min(k, number of distinct values)
    init : "linear", "density", "random", "k-means++", then Lloyd's iterations; or "optimal": within 0.5 % of the
        exact least squared error, by `kmeans_1d_optimal` over groups and Lloyd's iterations on all values
    rng : for "random" and "k-means++"
    An empty cluster keeps its centroid; an x half-way between two centroids goes to the lower one.
    Raises ValueError for k < 1, no or non-finite x, an unknown init or a missing rng.
    Source: Han et al. 2016, eq. (2)
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    if init not in INITS:
        raise ValueError(f"init must be one of {', '.join(INITS)}, got {init!r}")
    if x.size == 0 or not np.isfinite(x).all():
        raise ValueError("x must hold at least one number and no NaN or infinity")
    ordered = Sorted(x)
    first = ordered.values[np.concatenate([[True], np.diff(ordered.values) > 0])]
    if len(first) <= k:
        centroids = first
    elif init == "optimal":
        centroids = ordered.lloyd(_grouped_optimum(ordered, k), REFINE)
    else:
        centroids = ordered.lloyd(initial_centroids(ordered.values, k, init, rng=rng), iterations)
    centroids = centroids.astype(np.float32)
    return centroids, assign(x, centroids)


def kmeans_1d_optimal(x: Array, k: int) -> tuple[Array, float]:
    """Returns the centroids of exactly least squared error, (k',) float64 ascending, and that error.

    x : float, any shape        k : at least 1; k' = min(k, number of distinct values)
    Source: Wu 1991; Gronlund et al. 2017 (arXiv 1701.07204), section 2, over the distinct values
    """
    ordered = Sorted(x)
    bounds = np.concatenate([[0], np.flatnonzero(np.diff(ordered.values) > 0) + 1, [ordered.values.size]])
    k = min(k, len(bounds) - 1)
    starts = bounds[kernel.partition(bounds, ordered.sums[bounds], ordered.squares[bounds], k)]
    return ordered.means(starts, np.zeros(k)), ordered.error(starts)


def _grouped_optimum(ordered: Sorted, k: int) -> Array:
    # The optimum over boundaries of equal-width groups; narrower groups where k is large.
    edges = np.linspace(ordered.values[0], ordered.values[-1], GROUPS + 1)[1:-1]
    bounds = np.unique(np.concatenate([[0], np.searchsorted(ordered.values, edges), [ordered.values.size]]))
    if len(bounds) - 1 < 2 * k:  # the values crowd into few groups: take groups of equal counts instead
        bounds = np.unique(np.linspace(0, ordered.values.size, min(GROUPS, ordered.values.size) + 1).astype(int))
    starts = bounds[kernel.partition(bounds, ordered.sums[bounds], ordered.squares[bounds], k)]
    return np.sort(ordered.means(starts, ordered.values[np.minimum(starts[:-1], ordered.values.size - 1)]))


def initial_centroids(values: Array, k: int, init: str, *, rng: np.random.Generator | None = None) -> Array:
    """Returns k ascending starting centroids.

    values : (n,) ascending        init : "linear", "density", "random" or "k-means++"
    Source: Han et al. 2016, section 3.2; Arthur & Vassilvitskii 2007 for k-means++
    """
    if init == "linear":
        return np.linspace(values[0], values[-1], k)
    if init == "density":  # the values at the middles of k equal steps of the distribution function
        return values[((np.arange(k) + 0.5) / k * len(values)).astype(int)]
    if rng is None:
        raise ValueError(f"rng must be given for init {init}")
    if init == "random":
        return np.sort(rng.choice(values, k, replace=False))
    chosen = [values[rng.integers(len(values))]]
    distance = np.square(values - chosen[0])
    while len(chosen) < k:
        chosen.append(values[np.searchsorted(np.cumsum(distance), rng.random() * distance.sum(), side="right")])
        distance = np.minimum(distance, np.square(values - chosen[-1]))
    return np.sort(chosen)


def assign(x: Array, centroids: Array) -> Array:
    """Returns the number of the nearest of ascending centroids for every x, uint16; half-way goes to the lower."""
    middle = 0.5 * (centroids[1:].astype(np.float64) + centroids[:-1])
    return kernel.nearest(x, middle.astype(np.float32))


def centroid_gradient(g: Array, index: Array, k: int) -> Array:
    """Returns the gradient of each centroid: the sum of its members', (k,), in g's dtype.

    g : gradient of the weights        index : integers 0..k-1 of its shape
    Source: Han et al. 2016, eq. (3)
    """
    return np.bincount(index.ravel(), weights=g.ravel(), minlength=k).astype(g.dtype)


@dataclass(frozen=True)
class KMeans(Technique):
    """Gives every layer a codebook; masked weights keep an exact 0."""

    word: ClassVar[str] = "kmeans"
    title: ClassVar[str] = "Weight sharing by k-means"
    source: ClassVar[str] = ("Han, Mao & Dally 2016, Deep Compression: Compressing Deep Neural Networks with Pruning, "
                             "Trained Quantization and Huffman Coding, arXiv:1510.00149")

    bits: int = knob(4, "bits of an index: 2^bits codes, one of them the pinned 0 of a pruned layer", lo=1, hi=12,
                     per_layer=True)
    k: int | None = knob(None, "number of codes, instead of bits", type=int, lo=2, hi=4096, optional=True,
                         per_layer=True)
    init: str = knob("linear", "where centroids start", choices=INITS)
    iterations: int = knob(50, "Lloyd's iterations at most", lo=0)
    half: bool = knob(False, "store centroids as float16")
    biases: str = knob("keep", "biases: keep them, store float16, or share them too", choices=("keep", "half", "share"))
    bias_bits: int = knob(4, "bits of a shared bias' index", lo=1, hi=12)

    def apply(self, model, data, *, rng, log=None, checkpoint=None, n_threads=1):
        self.check_patterns(model)
        model = model.copy()
        for node, name in weights(model).items():
            k = self.at("k", node) or 2 ** self.at("bits", node)
            model.set_form(name, self.shared(name, model.forms()[name], k, rng))
        for name, form in model.forms().items():
            if name.endswith(".bias") and self.biases == "half":
                model.set_form(name, Half(form.dense().data.copy(), form.mask))
            elif name.endswith(".bias") and self.biases == "share":
                model.set_form(name, self.shared(name, form, 2 ** self.bias_bits, rng))
        return model

    def shared(self, name: str, form: Form, k: int, rng: np.random.Generator) -> Codebook:
        """Returns a Codebook of at most k codes in place of a form; code 0 is the pinned 0 where it has a mask."""
        w = form.dense().data
        if not np.isfinite(w).all():
            raise UserError(f"kmeans: the weights of {name} must be finite, got NaN or infinity")
        pinned = form.mask is not None
        live = w[form.mask] if pinned else w
        if not live.size:
            return Codebook(np.zeros(w.shape, np.uint8), np.zeros(1, np.float32), pinned)
        centroids, index = kmeans_1d(live, max(k - pinned, 1), init=self.init, rng=rng, iterations=self.iterations)
        if pinned:
            full = np.zeros(w.shape, np.uint16)
            full[form.mask] = index + 1
            centroids, index = np.concatenate([np.zeros(1, np.float32), centroids]), full
        return Codebook(index, (Half if self.half else Dense)(centroids), pinned)
