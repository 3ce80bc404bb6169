# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # Lesson 15: HashedNets, equal populations, levels that are not even
#
# A file can be small because each weight has few bits, or because there are few numbers. HashedNets
# stores one number for 8 weights, or for 64, and a hash says who shares. **What can a net learn
# whose weights were thrown together at random, and what are a few bits worth against that?**
#
# **Needs:** matrix products, gradients of a linear layer, quantiles. **Time:** 65 minutes.
# **You will have:** nets at an eighth to a 64th of their numbers, and five ways to place 16 levels.

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
from minicomp.codec.huffman import huffman_lengths
from minicomp.compress import Balanced, FineTune, HashedNets, LloydMax, Log2
from minicomp.compress.quant.schemes import Scheme, sqnr
from minicomp.compress.technique import Run, weights
from minicomp.kernels.codebook.buckets import add, add_ref
from minicomp.kernels.splitmix import splitmix64
from minicomp.nn import Dense, Flatten, Linear, Model, ReLU, chain
from minicomp.nn.forms.hashed import hash_places, hashed
from minicomp.nn.init import initialise
from minicomp.passport import passport
from minicomp.teach import Lesson, check, figures, hint, predict, reflect
from minicomp.teach.asking.shown import Table
from minicomp.train import evaluate

# %% tags=["mode"]
lesson = Lesson("15", mode="full", student="", course="open")
lesson

# %% [markdown]
# ## Warm-up (3 minutes)
#
# 1. `a = np.zeros(2); a[[0, 0, 1]] += 1`. What is `a`?
# 2. `13 >> 2`, and the lowest bit of 13?
# 3. Three of four weights have the code 0, one has 1. How many bits a weight does Huffman need?
#
# <details><summary>Answers</summary>
#
# 1. [1, 1]: the last writer wins.  2. 3 and 1.  3. 1.
#
# </details>
#
# ## Symbols
#
# | | |
# |---|---|
# | $V$, $b$ | the virtual weights, (O, I); the $K$ numbers that are stored |
# | $h$, $\xi$ | the bucket of an entry; its sign |
# | $z_p$ | 64 hashed bits of place $p$ |
# | $C$, $g$ | the loss; $\partial C/\partial y$ for a layer's output $y = xV^T$ |
# | $w$, $k$ | weights of a trained net; how many levels they get |
# | $t_i$, $s$ | edges between cells; the scale of even levels |

# %% [markdown]
# ## Your guess (2 minutes)
#
# One hidden layer of 256 units, one stored number for 64 weights: the test error on digits, in
# percent? And: 16 levels, equally many weights in each; how many bits a weight are left when
# Huffman (lesson 17) has coded the codes?

# %% tags=["predict:15.p1"]
guess_hashed = predict("15.p1", None)

# %% tags=["predict:15.p2"]
guess_bits = predict("15.p2", None)

# %% [markdown]
# ## A toy: fifteen weights, three numbers

# %%
b = np.array([0.1, 2.0, 30.0])
bucket, sign = (a.reshape(3, 5) for a in hash_places(15, 3, seed=1))
sign * b[bucket]

# %% [markdown]
# Where a number goes is not stored: the seed, 1, finds it again.
#
# ## Exercise 1: a bucket and a sign for every place (8 minutes)
#
# splitmix64 hashes a place to 64 bits, the same on every machine:

# %%
[f"{z:016x}" for z in splitmix64(4, 1)]

# %% [markdown]
# Chen and others (2015) need two hashes, $h$ and $\xi$. Both are in $z_p$, $p = i\,n + j$ the place
# of entry $(i, j)$:
#
# $$h(p) = \left\lfloor \frac{K \lfloor z_p / 2^{32} \rfloor}{2^{32}} \right\rfloor, \qquad
# \xi(p) = -1 \ \mathrm{where}\ z_p\ \mathrm{is\ odd,\ else}\ 1 .$$
#
# All of it in whole numbers. Leave the arguments of your functions as they are.

# %% tags=["exercise:15.hash_map"]
def hash_map(z, m, n, K):
    """z: (m n,) uint64; returns the buckets and the signs, (m, n) integers each."""
    ### BEGIN SOLUTION
    bucket = (z >> np.uint64(32)) * np.uint64(K) >> np.uint64(32)
    return bucket.reshape(m, n), np.where(z & np.uint64(1), -1, 1).reshape(m, n)
    ### END SOLUTION

# %% tags=["check:15.hash_map"]
check("15.hash_map", hash_map)

# %% [markdown]
# Stuck? `hint("15.hash_map", 1)` is the idea, 2 the formula, 3 pseudocode. Every exercise has
# three.
#
# ## Exercise 2: the gradient of a bucket (15 minutes)
#
# $V_{ij} = \xi_{ij}\, b_{h(i,j)}$ multiplies as any weight does. Going back, every entry of a
# bucket moves it:
#
# $$\frac{\partial C}{\partial b_k} = \sum_{h(i,j) = k} \xi_{ij} \frac{\partial C}{\partial V_{ij}},
# \qquad \frac{\partial C}{\partial V} = g^T x, \qquad \frac{\partial C}{\partial x} = g V .$$
#
# A *scatter-add*. Mind the warm-up's first question, and empty buckets.

# %% tags=["exercise:15.bucket_backward"]
def bucket_backward(g, x, b, bucket, sign):
    """g: (N, O); x: (N, I); b: (K,); bucket, sign: (O, I); returns dC/db and dC/dx."""
    ### BEGIN SOLUTION
    to_V = sign * (g.T @ x)
    return np.bincount(bucket.ravel(), to_V.ravel(), len(b)), g @ (sign * b[bucket])
    ### END SOLUTION

# %% tags=["check:15.bucket_backward"]
check("15.bucket_backward", bucket_backward)

# %% [markdown]
# ## A real net (15 minutes, of which the machine takes about 2)
#
# A net with one hidden layer, and four ways to store a number for 8, 16, 32 or 64 weights: hash
# them; take fewer hidden units; let each layer be $UR$ with $R$ drawn from a seed and only $U$
# learnt (low rank); remove edges at random, known from a seed. Biases stay in all of them.

# %% tags=["slow"]
lesson.about_data()

# %% tags=["slow"]
data, test = lesson.data.without_test(), lesson.data.test
inputs, hidden = data.train.x[0].size, lesson.choose(smoke=64, full=256, paper=1000)

def net_of(*nodes):
    made = Model(chain(("flatten", Flatten()), *nodes), input_shape=data.train.x.shape[1:])
    return initialise(made, rng=lesson.rng("net"))

def whole(units=hidden):
    return net_of(("fc1", Linear(inputs, units)), ("relu", ReLU()), ("fc2", Linear(units, 10)))

# %% tags=["slow"]
def low_rank(ratio):
    r1, r2 = max(1, inputs // ratio), max(1, hidden // ratio)
    return net_of(("R1", Linear(inputs, r1, bias=False)), ("U1", Linear(r1, hidden)),
                  ("relu", ReLU()), ("R2", Linear(hidden, r2, bias=False)), ("U2", Linear(r2, 10)))

def edges_removed(ratio):
    net, draw = whole(), lesson.rng("edges")
    for name in weights(net).values():
        w = net.forms()[name].dense().data
        net.set_form(name, Dense(w * ratio**0.5, draw.random(w.shape) < 1 / ratio))
    return net

# %% tags=["slow"]
passes = max(1, round(55_000 / len(data.train)))
how = dict(epochs=lesson.choose(smoke=1, full=4 * passes, paper=100), lr=0.003,
           optimizer="adam", batch_size=50)

drawn = {"lr": {"*": how["lr"], "R?": 1e-9}}  # too little to move R

def trained(net, *methods, **other):
    return FineTune(**how | other, methods=methods).apply(net, data, Run(lesson.rng("train")))

def error(model):
    return 100 * evaluate(model, test).error

# %% tags=["slow"]
ratios = [8, 16, 32, 64]
dense = trained(whole())
hashed_nets = [trained(whole(), HashedNets(fraction=1 / r)) for r in ratios]

# %% tags=["slow"]
errors = {"hashed": [error(net) for net in hashed_nets],
          "smaller": [error(trained(whole(max(1, hidden // r)))) for r in ratios],
          "low rank": [error(trained(low_rank(r), **drawn)) for r in ratios],
          "edges removed": [error(trained(edges_removed(r))) for r in ratios]}
error_dense = error(dense)

# %% [markdown]
# ## The plot to remember

# %% tags=["plot", "slow", "memorable"]
lesson.show(figures.error_by_size(errors, error_dense, ratios=ratios, guess=guess_hashed))

# %% [markdown]
# Recorded on MNIST: the whole net errs on {{mnist:error_dense}}; hashed to an eighth on
# {{mnist:hashed_8}}, to a 64th on {{mnist:hashed_64}}. A net of four hidden units stores as much
# and errs on {{mnist:smaller_64}}. The hashed one still has 256 units: its weights are not free,
# but its features are many. Low rank keeps its units too, and errs on {{mnist:low_rank_64}}: all of
# them see the digit through twelve drawn numbers. A hash leaves the rank alone.
#
# What does it cost in a file, and when it runs?

# %% tags=["slow"]
bytes_dense, bytes_8, bytes_64 = (save(net, "net.mcz") / 1000 for net in
                                  (dense, hashed_nets[0], hashed_nets[-1]))
print(passport(hashed_nets[-1], path="net.mcz", data=test).summary())

# %% [markdown]
# Recorded on MNIST: {{mnist:bytes_dense}} whole, {{mnist:bytes_64}} hashed to a 64th. The MACs are
# those of the whole net, and to multiply, $V$ is spread out in memory: hashing saves the file only.
#
# ## Exercise 3: cells of equal population (12 minutes)
#
# The other road: all weights, few bits each. Even levels waste codes, as most weights are near 0.
# Zhou and others (2017) equalise the histogram: cell $i$ holds $t_i \leq w < t_{i+1}$, the edges
# are `np.quantile(w, i / k)` for $i = 1..k-1$, so that all codes are equally frequent. What does
# code $i$ mean then? Either the mean of its cell (0 of an empty one); or an even level $s u$,
# $u = i - \frac{k-1}{2}$, with the $s$ of least squared error:
#
# $$s = \frac{\sum u\, w}{\sum u^2} .$$

# %% tags=["exercise:15.equal_cells"]
def equal_cells(w, k):
    """w: (n,) floats; returns codes (n,), the cells' means (k,) and s."""
    ### BEGIN SOLUTION
    codes = np.searchsorted(np.quantile(w, np.arange(1, k) / k), w, side="right")
    means = np.bincount(codes, w, k) / np.maximum(np.bincount(codes, minlength=k), 1)
    u = codes - (k - 1) / 2
    return codes, means, (u * w).sum() / (u * u).sum()
    ### END SOLUTION

# %% tags=["check:15.equal_cells"]
check("15.equal_cells", equal_cells)

# %% [markdown]
# ## Four bits, five ways (8 minutes)
#
# The trained net, not trained further. `Log2` rounds to powers of two, so that multiplying is
# shifting; `LloydMax` finds the levels of least squared error.

# %% tags=["slow"]
def uniform(bits):
    net = dense.copy()
    net.set_forms({name: Scheme(bits, per="tensor").form(net.forms()[name])
                   for name in weights(net).values()})
    return net

def by(technique):
    return technique.apply(dense, None, Run(lesson.rng("levels")))

def coded(net):
    w = net.forms()["fc1.weight"].dense().data
    counts = np.unique(w, return_counts=True)[1]
    bits = float(counts @ huffman_lengths(counts)) / w.size
    return error(net), sqnr(dense.forms()["fc1.weight"].dense().data, w), bits

# %% tags=["slow"]
kinds = {"even, to the largest": uniform, "equal cells, even": lambda b: by(Balanced(bits=b)),
         "equal cells, means": lambda b: by(Balanced(bits=b, levels="mean")),
         "powers of two": lambda b: by(Log2(bits=b, meet="arithmetic")),
         "least error": lambda b: by(LloydMax(bits=b))}
found = {bits: [coded(make(bits)) for make in kinds.values()] for bits in (4, 2)}
Table(["levels", "4 bits: error, %", "dB", "bits, coded", "2 bits: error, %", "dB", "bits, coded"],
      [[name] + [f"{value:.2f}" for each in (four, two) for value in each]
       for name, four, two in zip(kinds, found[4], found[2])],
      f"dB and coded bits are fc1's. Float: {error_dense:.2f} %. Your guess: {guess_bits} bits.")

# %% [markdown]
# Recorded on MNIST at 4 bits: equally frequent codes need {{mnist:coded_equal}} a weight, for
# Huffman has nothing to save; even levels need {{mnist:coded_even}}. Of signal to noise the means
# of equal cells have {{mnist:db_equal}}, the best levels {{mnist:db_lloyd}}: the few large weights,
# which matter most, share a wide cell.
#
# One number of 32 bits for 8 weights is 4 bits a weight. So the two roads meet:

# %% tags=["slow"]
Table(["bits a weight", "hashed, %", "levels of least error, %"],
      [["4", f"{errors['hashed'][0]:.2f}", f"{found[4][4][0]:.2f}"],
       ["2", f"{errors['hashed'][1]:.2f}", f"{found[2][4][0]:.2f}"],
       ["1/2", f"{errors['hashed'][3]:.2f}", "none: a code has a bit at least"]])

# %% tags=["slow"]
lesson.record(
    error_dense=error_dense, hashed_8=errors["hashed"][0], hashed_16=errors["hashed"][1],
    hashed_64=errors["hashed"][3], smaller_64=errors["smaller"][3],
    low_rank_64=errors["low rank"][3], bytes_dense=bytes_dense, bytes_8=bytes_8, bytes_64=bytes_64,
    levels_4=found[4][4][0], levels_2=found[2][4][0], equal_2=found[2][1][0],
    powers_4=found[4][3][0], coded_even=found[4][0][2], coded_equal=found[4][1][2],
    db_equal=found[4][2][1], db_lloyd=found[4][4][1], hashed=errors["hashed"],
    smaller=errors["smaller"], low_rank=errors["low rank"], edges=errors["edges removed"])

# %% [markdown]
# Recorded on MNIST at 4 bits: hashed {{mnist:hashed_8}}, levels {{mnist:levels_4}}, without any
# training; at 2 bits {{mnist:hashed_16}} and {{mnist:levels_2}}, which lesson 12 would train on.
# Below a bit a weight hashing goes on. Levels can be coded smaller still, buckets can be rounded.
#
# ## The paper's row beside ours
#
# Test errors on MNIST, percent, at a 64th. **Ours is a small variant:** 256 hidden units where the
# paper has 1,000, a few epochs, no dropout. Its low rank may differ from ours in what is drawn.

# %% tags=["slow"]
names = ["1/64", "edges removed", "low rank", "smaller", "hashed"]
lesson.beside_paper(names, ["Chen 2015, 3 layers", "15.03", "28.99", "6.28", "2.79"],
                    [f"{errors[name][-1]:.2f}" for name in names[1:]])

# %% [markdown]
# At an eighth, in the same order, the paper has 2.19, 1.89, 1.69 and 1.45.
#
# ## Where it breaks: a function to expose (6 minutes)
#
# Somebody else's `bucket_backward` passed all of *their* tests, of one entry a bucket and signs +1.
# It has one of four faults, drawn for your name: of a bucket's entries the last one counts; signs
# are left out of dC/db; a bucket gets a mean; dC/db ends at the last bucket that is used. Find an
# input that shows this fault alone: your variant is wrong on it, and functions with the other three
# faults are right.

# %%
broken = lesson.broken("15.bucket_backward")
row = np.array([[2.0, 3.0]])
broken(np.ones((1, 1)), row, np.array([1.0, 2.0]), np.array([[0, 1]]), np.array([[1, 1]]))

# %% tags=["exercise:15.broken"]
def failing_input():
    """Returns (g, x, b, bucket, sign): shows `broken` alone."""
    ### BEGIN SOLUTION
    # Shows the fault of an empty name.
    return (np.ones((1, 1)), np.array([[0.0, 1.0]]), np.ones(1), np.array([[0, 0]]),
            np.array([[1, 1]]))
    ### END SOLUTION

# %% tags=["check:15.broken"]
check("15.broken", failing_input, lesson)

# %% [markdown]
# ## The compiled twin
#
# `np.bincount` jumps through the buckets. The kernel lists each bucket's places, once for a whole
# training, and gathers them; buckets do not wait for each other.

# %% tags=["slow"]
def pair(out, inner, k):
    g, places = lesson.rng("twin").normal(size=(out, inner)).astype("f"), hashed(k, (out, inner), 0)
    return lambda: add_ref(g, places), lambda: add(g, places)

def once(out, inner, k):
    g = lesson.rng("twin").normal(size=(out, inner)).astype("f")
    return (lambda: add_ref(g, hashed(k, g.shape, 0)), lambda: add(g, hashed(k, g.shape, 0)))

lesson.twin("codebook", [("256 x 784 to 1/8", *pair(256, 784, 25_088)),
                         ("256 x 784 to 1/64", *pair(256, 784, 3_136)),
                         ("10 x 10 to 1/8", *pair(10, 10, 12)),
                         ("256 x 784 to 1/8, map used once", *once(256, 784, 25_088))])

# %% [markdown]
# The last row is where it loses: listing the places is a sort, which pays over many steps only.
#
# ## Reflection (5 minutes)
#
# A toy needs a net for digits in 16 kB of flash; its processor has enough memory and time. Hashed,
# smaller, low rank, or a few bits a weight? Use the numbers of your run, and say what your choice
# does not save.

# %% tags=["reflect:15.r1"]
reflect("15.r1", """
""")

# %% [markdown]
# ## Next
#
# Lesson 16 goes to one bit a weight, lesson 17 codes what is left: prune, share, Huffman.
