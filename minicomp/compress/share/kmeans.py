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

n values, k clusters. A cluster is an interval of the sorted values, so one iteration of
Lloyd's moves k - 1 edges and reads k means off running sums, in k log n steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...kernels.codebook import kmeans as kernel
from ...nn.forms import Codebook, Dense, Form, Half
from ...tensor import Array
from ..technique import Technique, knob, weights

INITS = ("linear", "density", "random", "k-means++", "histogram", "optimal")
GROUPS = 4096  # of neighbouring values, among whose borders "histogram" looks for edges
ZOOMS = 2  # times it looks again, among finer groups around the edges found


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


def kmeans_1d_optimal(x: Array, k: int) -> tuple[Array, float]:
    """Returns the centroids of least squared error, (k',) float64 ascending, and that error.

    x : float32 or float64, any shape, at least one value
    k : at least 1; k' = min(k, number of distinct values)
    Least but for the rounding of float64.
    Source: Gronlund et al. 2017 (arXiv 1701.07204); see kernels/codebook/kmeans.py
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    line = Line(x)
    starts = line.optimum(min(k, line.distinct()))
    return line.means(starts), line.error(starts)


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


def assign(x: Array, centroids: Array) -> Array:
    """Returns the number of the nearest centroid for every x, uint16; half-way goes to the lower.

    x : float32, any shape        centroids : (k,) float32, ascending
    """
    index = kernel.nearest(np.asarray(x, np.float32), edges_between(centroids))
    if (centroids[1:] == centroids[:-1]).any():
        index = np.searchsorted(centroids, centroids).astype(np.uint16)[index]
    return index


def edges_between(centroids: Array) -> Array:
    """Returns the k - 1 edges between ascending centroids; what lies above is nearer to the next.

    An edge is the half-way point rounded down: a float32 lies above the one if and only if above
    the other.
    """
    a, b = centroids[:-1].astype(np.float64), centroids[1:].astype(np.float64)
    total = a + b
    # What rounding took from a + b (Knuth's two-sum).
    lost = (a - (total - (total - a))) + (b - (total - a))
    edges = (0.5 * total).astype(np.float32)
    above = (edges > 0.5 * total) | (edges == 0.5 * total) & (lost < 0)
    return np.where(above, np.nextafter(edges, np.float32(-np.inf)), edges)


def centroid_gradient(g: Array, index: Array, k: int) -> Array:
    """Returns the gradient of each centroid: the sum of its members', (k,), in g's dtype.

    g : gradient of the weights        index : integers 0..k-1 of its shape
    Source: Han et al. 2016, eq. (3)
    """
    return np.bincount(index.ravel(), weights=g.ravel(), minlength=k).astype(g.dtype)


class Line:
    """Finite values in ascending order, with float64 running sums of value and square.

    Clusters are `starts` (k + 1,): cluster i is values[starts[i]:starts[i + 1]].
    """

    def __init__(self, x: Array):
        x = np.asarray(x)
        self.values = np.sort(x if x.dtype == np.float32 else x.astype(np.float64), axis=None)
        self.p1, self.p2, self.centre = kernel.running_sums(self.values)
        self.n = len(self.values)

    def distinct(self) -> int:
        """Returns the number of distinct values."""
        return 1 + int(np.count_nonzero(self.values[1:] != self.values[:-1]))

    def means(self, starts: Array, empty: Array | float = np.nan) -> Array:
        """Returns the mean of each cluster; an empty one gets `empty`."""
        count = np.diff(starts)
        return np.where(
            count > 0, self.centre + np.diff(self.p1[starts]) / np.maximum(count, 1), empty
        )

    def error(self, starts: Array) -> float:
        """Returns the squared error of the clusters around their means, summed."""
        return kernel.cost(starts, self.p1[starts], self.p2[starts], np.arange(len(starts)))

    def starts(self, centroids: Array) -> Array:
        """Returns the clusters of ascending centroids."""
        edges = 0.5 * (centroids[1:] + centroids[:-1])
        if self.values.dtype == np.float32:  # searched without a copy in float64
            edges = edges_between(centroids)
        inner = np.searchsorted(self.values, edges, side="right")
        return np.concatenate([[0], inner, [self.n]])

    def lloyd(self, centroids: Array, iterations: int) -> Array:
        """Returns the centroids after `iterations` of Lloyd's, or once nothing moves."""
        before = None
        for _ in range(iterations):
            starts = self.starts(centroids)
            if before is not None and np.array_equal(starts, before):
                break
            # Sorted: the centroid of an empty cluster may be overtaken.
            centroids, before = np.sort(self.means(starts, centroids)), starts
        return centroids

    def optimum(self, k: int) -> Array:
        """Returns the k clusters of least error, k at most the number of distinct values."""
        groups = self.group_bounds(max(GROUPS, 8 * k), 2 * k)
        penalty = self._among(groups, k)[1] if len(groups) > 2 * k else None
        new = self.values[1:] != self.values[:-1]
        bounds = np.concatenate([[0], np.flatnonzero(new) + 1, [self.n]])
        return self._among(bounds, k, penalty)[0]

    def near_optimum(self, k: int) -> Array:
        """Returns k clusters of nearly the least error, k at most the number of distinct values.

        First the least among clusters of whole groups; then, twice, among finer groups around the
        edges found.
        """
        groups = max(GROUPS, 8 * k)
        bounds = self.group_bounds(groups, 2 * k)
        if self.n <= 8 * groups or len(bounds) <= 2 * k:
            return self.optimum(k)
        starts, penalty = self._among(bounds, k)
        for _ in range(ZOOMS):
            at = np.searchsorted(bounds, starts)
            lo, hi = bounds[np.maximum(at - 2, 0)], bounds[np.minimum(at + 2, len(bounds) - 1)]
            near = np.linspace(lo, hi, max(GROUPS // k, 8)).astype(np.int64)
            bounds = np.unique(np.concatenate([near.ravel(), starts]))
            starts, penalty = self._among(bounds, k, penalty)
        return starts

    def _among(self, bounds: Array, k: int, penalty=None) -> tuple[Array, float | None]:
        # The k clusters of least error that start at some of the bounds; the penalty of a cluster.
        whole = len(bounds) > self.n
        p1, p2 = (p if whole else p[bounds] for p in (self.p1, self.p2))
        starts, penalty = kernel.partition(bounds, p1, p2, k, penalty=penalty)
        return bounds[starts], penalty

    def group_bounds(self, groups: int, alone: int) -> Array:
        """Returns about `groups` + 1 places, 0 and n among them, that bound groups of values.

        The outermost `alone` values at both ends are groups by themselves.

        Where values are sparse clusters are wide: at density p the best width is ~ p^(-1/3)
        (Panter & Dite 1951). Groups follow it, so that every cluster is made of about groups / k
        of them. The density is read off the distances of values whose ranks are evenly spaced, and
        closer together at the ends.
        """
        ends = np.geomspace(1, self.n, 256)
        ranks = np.concatenate([np.linspace(0, self.n, 1024), ends, self.n - ends]).astype(np.int64)
        ranks = np.unique(np.clip(ranks, 0, self.n - 1))
        knots = self.values[ranks].astype(np.float64)
        widths = np.diff(ranks) ** (1 / 3) * np.diff(knots) ** (2 / 3)  # p^(1/3) dx, p = dn / dx
        measure = np.concatenate([[0], np.cumsum(widths)])
        cuts = np.interp(np.linspace(0, measure[-1], groups + 1)[1:-1], measure, knots)
        cuts = cuts.astype(self.values.dtype)
        alone = np.arange(min(alone, self.n) + 1)
        inner = np.searchsorted(self.values, cuts, side="right")
        return np.unique(np.concatenate([alone, inner, self.n - alone]))


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
