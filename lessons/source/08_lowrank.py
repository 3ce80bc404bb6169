# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # Lesson 8: SVD, CP, flattened convolutions
#
# A layer of $m$ neurons with $k$ inputs holds $mk$ weights. If its matrix is nearly a sum of few
# products of a column and a row, two small layers compute the same. **How few may they be, and
# from where on are two layers slower than one?**
#
# **Needs:** matrix products, what a convolution computes. **Time:** 65 minutes. **You will have:**
# layers of any rank, the rank at which they stop paying by count, and by the clock.

# %% tags=["colab"]
import subprocess
import sys

# On Colab, upload a wheel of minicomp or a zip of its checkout and name it here, or name a
# git+ address. Elsewhere this cell does nothing.
SOURCE = "minicomp.zip"
if "google.colab" in sys.modules:
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", SOURCE], check=True)

# %% tags=["imports"]
import numpy as np

from minicomp import save
from minicomp.compress import CP, SVD, FineTune, Flattened, SpatialSVD, WeightSVD
from minicomp.compress.lowrank.clocked import alone, milliseconds, rank_times
from minicomp.compress.technique import Run
from minicomp.kernels.maps import conv
from minicomp.kernels.threads import blas
from minicomp.models import LeNet5, LeNet300
from minicomp.papers.low_rank import CASES, narrower
from minicomp.passport import passport
from minicomp.teach import Lesson, check, figures, hint, predict, reflect
from minicomp.teach.asking.shown import Table
from minicomp.train import evaluate

# %% tags=["mode"]
lesson = Lesson("08", mode="full", student="", course="open")
lesson

# %% [markdown]
# ## Warm-up (3 minutes)
#
# 1. A column of 5 numbers times a row of 4: how many entries has the product, made of how many
#    numbers?
# 2. Two layers, 784 to 50 and 50 to 300: how many weights? And one from 784 to 300?
# 3. What is the largest rank of a 300 x 784 matrix?
#
# <details><summary>Answers</summary>
#
# 1. 20, of 9.  2. 54,200; 235,200.  3. 300.
#
# </details>
#
# ## Symbols
#
# | | |
# |---|---|
# | $W$ | weights, $m \times k$: $m$ computed, $k$ read |
# | $\sigma_i$, $u_i$, $v_i$ | singular values, falling; their columns and rows, of length 1 |
# | $t$, $W_t$ | rank that is kept; the nearest matrix of that rank |
# | $\Vert W\Vert_F^2$ | the sum of the squares of all entries |
# | $C$, $H$, $W$; $K$, $L$ | an image's channels, height, width; a filter's height, width |
# | $a$, $b$, $c$ | the factors of a filter: over channels, down, across |

# %% [markdown]
# ## Your guess (2 minutes)
#
# The first layer of LeNet-300-100 becomes two, 784 to $t$ and $t$ to 300. They hold fewer weights
# up to $t = 216$. Up to which $t$ are they also faster, for one image? And at $t = 13$, with
# nothing trained afterwards: what is the net's error, in percent?

# %% tags=["predict:08.p1"]
guess_rank = predict("08.p1", None)

# %% tags=["predict:08.p2"]
guess_error = predict("08.p2", None)

# %% [markdown]
# ## A toy: a table with a mistake
#
# The multiplication table is one column times one row. One wrong entry, and a second singular
# value appears; the nearest table of rank 1 almost repairs it:

# %%
table = np.outer(range(1, 6), range(1, 6)).astype(float)
table[1, 1] = 7  # 2 x 2
u, s, vt = np.linalg.svd(table)
np.round(s, 2), np.round(s[0] * np.outer(u[:, 0], vt[0]), 1)

# %% [markdown]
# ## Exercise 1: the nearest matrix (8 minutes)
#
# $$W = \sum_i \sigma_i u_i v_i^T, \qquad W_t = \sum_{i \leq t} \sigma_i u_i v_i^T, \qquad
# \Vert W - W_t\Vert_F^2 = \sum_{i > t} \sigma_i^2 .$$
#
# No matrix of rank $t$ is nearer (Eckart and Young, 1936). Factored, $(m, t)$ times $(t, k)$ with
# each $\sigma_i$ folded into one of the two, $W_t$ holds $t(m + k)$ numbers. Return $W_t$, the
# squared error and that count. Leave the arguments of your functions as they are.

# %% tags=["exercise:08.low_rank"]
def low_rank(w, t):
    """w: (m, k); t: int; returns W_t (m, k), |W - W_t|^2 and an int."""
    ### BEGIN SOLUTION
    u, s, vt = np.linalg.svd(w, full_matrices=False)
    return u[:, :t] * s[:t] @ vt[:t], np.sum(s[t:] ** 2), t * sum(w.shape)
    ### END SOLUTION

# %% tags=["check:08.low_rank"]
check("08.low_rank", low_rank)

# %% [markdown]
# Stuck? `hint("08.low_rank", 1)` is the idea, 2 the formula, 3 pseudocode. Every exercise has
# three.
#
# ## Exercise 2: ranks under a byte budget (16 minutes)
#
# Factors pay only while $t(m + k) < mk$: below the **break-even rank** $mk/(m + k)$. How are bytes
# shared among layers?
#
# - Every layer begins at rank 1.
# - A step gives a layer one rank more: $m + k$ numbers of 4 bytes, $\sigma_{t+1}^2$ less error.
#   From the last rank below break-even the step keeps it *whole*: what is missing to $mk$ numbers,
#   no error left. Its rank is then $\min(m, k)$.
# - Of the steps that fit into what is left, take that of most gain per byte, of equal ones the
#   first layer's. Stop when none fits.

# %% tags=["exercise:08.choose_ranks"]
def choose_ranks(spectra, shapes, budget):
    """spectra: tuple of arrays, falling; shapes: tuple of (m, k), at least 3; budget: bytes, enough
    for rank 1 everywhere. Returns a list of ints."""
    ### BEGIN SOLUTION
    ranks, left = [1] * len(shapes), budget / 4 - sum(m + k for m, k in shapes)
    while True:
        best = None
        for i, (s, (m, k), t) in enumerate(zip(spectra, shapes, ranks)):
            last = (m * k - 1) // (m + k)
            if t == len(s):
                continue
            step, cost = (t + 1, m + k) if t < last else (len(s), m * k - last * (m + k))
            worth = np.sum(s[t:step] ** 2) / cost
            if cost <= left and (best is None or worth > best[0]):
                best = worth, i, step, cost
        if best is None:
            return ranks
        _, i, ranks[i], cost = best
        left -= cost
    ### END SOLUTION

# %% tags=["check:08.choose_ranks"]
check("08.choose_ranks", choose_ranks)

# %% [markdown]
# ## Exercise 3: one filter as three short ones (12 minutes)
#
# A filter $w_{juv} = a_j b_u c_v$ is a **CP** decomposition of rank 1; Jin and others (2015) call
# the layer *flattened*: sums over $j$, $u$ and $v$ are taken one after the other, with $C + K + L$
# weights instead of $CKL$.
#
# $$y_{pq} = \sum_v c_v \sum_u b_u \sum_j a_j\, x_{j,\,p+u,\,q+v}$$
#
# Return the map, and how many products your three passes take: over channels on the whole image,
# then down, then across. No zeros around the image.

# %% tags=["exercise:08.flattened_conv"]
def flattened_conv(x, a, b, c):
    """x: (C, H, W); a: (C,); b: (K,); c: (L,); returns y (H - K + 1, W - L + 1) and an int."""
    ### BEGIN SOLUTION
    (C, H, W), K, L = x.shape, len(b), len(c)
    h, w = H - K + 1, W - L + 1
    y = np.tensordot(a, x, 1)
    y = sum(b[u] * y[u:u + h] for u in range(K))
    y = sum(c[v] * y[:, v:v + w] for v in range(L))
    return y, C * H * W + K * h * W + L * h * w
    ### END SOLUTION

# %% tags=["check:08.flattened_conv"]
check("08.flattened_conv", flattened_conv)

# %% [markdown]
# ## The plot to remember
#
# The first layer of LeNet-300-100, trained and only drawn. Then it is clocked: whole, and as two
# layers of each rank, in turn.

# %% tags=["slow"]
lesson.about_data()

# %% tags=["slow"]
net, data, test = lesson.checkpoint("lenet300"), lesson.data.without_test(), lesson.data.test
drawn = LeNet300(normalize=data.normalize, rng=lesson.rng("drawn"))
cuts = {name: SVD(rank=1).plain_cuts(model)["fc1"]
        for name, model in (("trained", net), ("random", drawn))}
spectra = {name: cut.spectrum / cut.spectrum[0] for name, cut in cuts.items()}
energy = {name: 100 * np.sum(s[:54] ** 2) / np.sum(s ** 2) for name, s in spectra.items()}
", ".join(f"{name}: {e:.0f} % of the energy in 54 of 300" for name, e in energy.items())

# %% tags=["slow"]
ranks = (8, 27, 54, 108, 162, 216, 270)
with blas(1):
    clocked = {batch: rank_times(cuts["trained"], (784,), ranks, batch) for batch in (1, 64)}
dense = {batch: times.pop(0) for batch, times in clocked.items()}
ms = {batch: list(times.values()) for batch, times in clocked.items()}
even = {batch: figures.crossing(ranks, ms[batch], dense[batch]) for batch in ms}

# %% tags=["plot", "slow", "memorable"]
lesson.show(figures.break_even(spectra, ms, dense, ranks=ranks, guess=guess_rank))

# %% [markdown]
# Recorded on MNIST: whole, the layer takes {{mnist:dense_1}} for one image and {{mnist:dense_64}}
# for 64. By count two layers pay up to rank 216; by the clock they are as slow as one at rank
# {{mnist:even_1}} and {{mnist:even_64}}: a second layer is a second call, and writes numbers to be
# read again.
#
# ## A real net (15 minutes, of which the machine takes about 2)
#
# The first layer at a fraction of its weights, then fine-tuned. Beside it the rival to try: a net
# with fewer neurons, of as many numbers, trained from the start for as long.

# %% tags=["slow"]
def error(model):
    return 100 * evaluate(model, test).error

def tuned(model, epochs, lr=0.01):
    how = FineTune(epochs=epochs, lr=lr, batch_size=64, weight_decay=5e-4, schedule="cosine")
    return how.apply(model, data, Run(lesson.rng("tune")))

# %% tags=["slow"]
parts, more = (4, 8, 16, 32), lesson.choose(smoke=1, full=2, paper=10)
low = [SVD(ratio=1 / part, skip={"fc[23]": True}).apply(net, data, Run(None)) for part in parts]
fine = [tuned(model, more) for model in low]
drawn_anew = [narrower(net, CASES[0], model.dense_bytes(), rng=lesson.rng("narrow"))
              for model in low[1::2]]
longer = lesson.choose(smoke=1, full=8, paper=40) + more
small = [tuned(model, longer, lr=0.03) for model in drawn_anew]

# %% tags=["slow"]
error_dense, cut = error(net), [error(m) for m in low]
kept, scratch = [error(m) for m in fine], [error(m) for m in small]
Table(["fc1", "rank", "net, numbers", "cut, %", "fine-tuned, %", "fewer neurons, %"],
      [["whole", "300", f"{net.count():,}", f"{error_dense:.2f}", "", ""]] + [
          [f"1/{part}", m.node("fc1.0").layer.out_features, f"{m.count():,}", f"{c:.2f}",
           f"{k:.2f}", f"{scratch[i // 2]:.2f}" if i % 2 else ""]
          for i, (part, m, c, k) in enumerate(zip(parts, low, cut, kept))],
      f"Your guess for rank 13: {guess_error}.")

# %% [markdown]
# Recorded on MNIST: error {{mnist:error_dense}} whole. With 1/8 of the weights, rank 27,
# {{mnist:cut_8}}, fine-tuned {{mnist:tuned_8}}; a narrow net of as many numbers has
# {{mnist:narrow_8}}. At 1/32 it is {{mnist:cut_32}}, then {{mnist:tuned_32}}, narrow
# {{mnist:narrow_32}}. Rank 54 keeps {{mnist:energy_trained}} of the energy, and errs on
# {{mnist:cut_4}}: what goes answers to directions in which few images lie. `activation-svd` weighs
# them by the inputs.
#
# Exercise 2 for an eighth of the net's bytes (minicomp compares parts of each layer's energy):

# %% tags=["slow"]
told = []
eighth = SVD(bytes=net.dense_bytes() // 8).apply(net, data, Run(None, log=told.append))
print("\n".join(row["text"] for row in told if "text" in row), f"error {error(eighth):.2f} %")

# %% [markdown]
# ## Convolutions
#
# Filters have four axes, laid out in several ways. The second layer of LeNet-5, 50
# filters of 20 x 5 x 5, at about a third of its products:
#
# - **weight-SVD** (Denton and others, 2014): 50 rows of 500, fewer filters and a 1 x 1 convolution.
# - **spatial-SVD** (Jaderberg and others, 2014): filters 5 x 1, then 1 x 5.
# - **CP** (Lebedev and others, 2015): a sum of 77 products of four vectors.
# - **flattened**: exercise 3, each filter's nearest product; and a net trained so from the start,
#   as in the paper.

# %% tags=["slow"]
lenet, only = lesson.checkpoint("lenet5"), {"conv1": True}
ways = {"weight-SVD": WeightSVD(rank=15, skip=only), "spatial-SVD": SpatialSVD(rank=20, skip=only),
        "CP": CP(rank=77, starts=1, rounds=50, skip=only),
        "flattened": Flattened(start="cp", skip=only)}
raw = {"whole": lenet} | {name: way.apply(lenet, data, Run(lesson.rng("cut")))
                          for name, way in ways.items()}
fresh = Flattened(skip=only).apply(LeNet5(normalize=data.normalize, rng=lesson.rng("flat")), data,
                                   Run(lesson.rng("cut")))
nets = {name: tuned(model, 1) for name, model in raw.items()}
nets["so from the start"] = tuned(fresh, lesson.choose(smoke=0, full=3, paper=30) + 1)

# %% tags=["slow"]
def second(model):
    return alone([n.layer for n in model.nodes if n.name.startswith("conv2")], (20, 12, 12))

layers = {name: second(model) for name, model in nets.items()}
with blas(1):
    took = {batch: milliseconds(layers, batch) for batch in (1, 64)}
products = {name: sum(layer.macs().values()) for name, layer in layers.items()}
errors = {name: (error(raw[name]) if name in raw else np.nan, error(model))
          for name, model in nets.items()}

# %% tags=["slow"]
Table(["conv2", "products", "1 image, ms", "64 images, ms", "cut, %", "trained on, %"],
      [[name, f"{products[name]:,}", f"{took[1][name]:.4f}", f"{took[64][name]:.3f}"]
       + [f"{e:.2f}" for e in errors[name]] for name in nets])

# %% [markdown]
# Recorded on MNIST: error {{mnist:conv_whole}} whole, weight-SVD {{mnist:conv_weight}},
# spatial-SVD {{mnist:conv_spatial}}, CP {{mnist:conv_cp}}. Flattened filters are far from the
# trained ones, {{mnist:cut_flat}}, until they are trained on: {{mnist:conv_flat}}, from the start
# {{mnist:conv_start}}. For 64 images weight-SVD is {{mnist:fast_weight}} times as fast,
# spatial-SVD {{mnist:fast_spatial}}, CP {{mnist:fast_cp}}, flattened {{mnist:fast_flat}} with
# {{mnist:fewer_flat}} times fewer products. A depthwise filter of five weights takes five products
# for each number that it reads: the clock counts the reading.

# %% tags=["slow"]
save(fine[1], "net.mcz")
print(passport(fine[1], path="net.mcz", data=test).summary())

# %% tags=["slow"]
keys = ("whole", "weight", "spatial", "cp", "flat", "start")
fast = [took[64]["whole"] / ms for ms in took[64].values()]
lesson.record(
    trained=spectra["trained"][::13], random=spectra["random"][::13],
    energy_trained=energy["trained"], energy_random=energy["random"], ms_1=ms[1], ms_64=ms[64],
    dense_1=dense[1], dense_64=dense[64], even_1=even[1], even_64=even[64], error_dense=error_dense,
    **{f"cut_{p}": e for p, e in zip(parts, cut)}, **{f"tuned_{p}": e for p, e in zip(parts, kept)},
    narrow_8=scratch[0], narrow_32=scratch[1],
    **{f"conv_{key}": errors[name][1] for key, name in zip(keys, nets)},
    **{f"fast_{key}": times for key, times in zip(keys[1:5], fast[1:])},
    cut_flat=errors["flattened"][0], fewer_flat=products["whole"] / products["flattened"])

# %% [markdown]
# ## The papers' rows beside ours
#
# Denton's net is too large for us: on ImageNet its convolutions became twice as fast, within one
# point of error. Jin's is larger than LeNet-5 too.

# %% tags=["slow"]
lesson.beside_paper(["", "whole, %", "flattened, %"], ["Jin 2015", "0.38", "0.44"],
                    [f"{errors[name][1]:.2f}" for name in ("whole", "so from the start")])

# %% [markdown]
# ## Where it breaks: a function to expose (6 minutes)
#
# Somebody else's `choose_ranks` has one of four faults, drawn for your name: it compares energy
# alone, not per byte; it compares $\sigma$, not $\sigma^2$; it never keeps a layer whole; it stops
# at the first step that does not fit. Find an input that shows this fault alone: your variant is
# wrong on it, and functions with the other three faults are right.

# %%
broken = lesson.broken("08.choose_ranks")
broken((np.array([4.0, 3.0, 1.0]),), ((3, 8),), 88)

# %% tags=["exercise:08.broken"]
def failing_input():
    """Returns (spectra, shapes, budget): shows `broken` alone."""
    ### BEGIN SOLUTION
    spectra = np.array([8.0, 4.0, 4.0, 2.0]), np.array([8.0, 8.0, 3.0])
    return spectra, ((4, 5), (3, 7)), 112  # shows the fault of an empty name
    ### END SOLUTION

# %% tags=["check:08.broken"]
check("08.broken", failing_input, lesson)

# %% [markdown]
# ## The compiled twin
#
# Eight images, the layer whole and pieces of it:

# %% tags=["slow"]
def pair(reads, computes, size, kernel, groups=1):
    draw = lesson.rng("twin")
    x = draw.normal(size=(8, reads, *size)).astype(np.float32)
    w = draw.normal(size=(computes, reads // groups, *kernel)).astype(np.float32)
    return (lambda: conv.conv2d_ref(x, w, (1, 1), (0, 0), groups),
            lambda: conv.conv2d(x, w, groups=groups))

lesson.twin("maps", [
    ("whole, 20 to 50, 5 x 5", *pair(20, 50, (12, 12), (5, 5))),
    ("spatial, 20 to 20, 5 x 1", *pair(20, 20, (12, 12), (5, 1))),
    ("weight, 15 to 50, 1 x 1", *pair(15, 50, (8, 8), (1, 1))),
    ("flattened, 50, 5 x 1", *pair(50, 50, (12, 12), (5, 1), groups=50))], rtol=1e-5)

# %% [markdown]
# ## Reflection (5 minutes)
#
# Where does low rank pay? For your own net: which layers would you factor, at which rank, and what
# do count and clock say? Use the numbers of your run.

# %% tags=["reflect:08.r1"]
reflect("08.r1", """
""")

# %% [markdown]
# ## Next
#
# Lesson 9 lets filters pick from a dictionary; lesson 10 keeps all weights, and fewer bits of each.
