# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # Lesson 14: Codebooks: k-means, product, residual quantization
#
# A weight can be the number of an entry in a short list, of numbers or of whole vectors; an entropy
# coder then shortens frequent codes. **What stands in the file besides the codes, and when does a
# list pay?**
#
# **Needs:** means, gradients of a linear layer, logarithms to base 2. **Time:** 70 minutes.
# **You will have:** codebooks that train, PQ's true bytes, and a decoder of arithmetic code.

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
from minicomp.codec.arithmetic import encode_bits
from minicomp.codec.entropy import adaptive_bits
from minicomp.compress import FineTune, KMeans, Magnitude, RateDistortion
from minicomp.compress.share.blocks import product_bits, product_break_even, product_quantize
from minicomp.compress.share.kmeans import initial_centroids, kmeans_1d
from minicomp.compress.technique import Run
from minicomp.kernels.codebook import tables
from minicomp.kernels.coding import range_coder
from minicomp.kernels.threads import blas
from minicomp.nn import Binary, Codebook, Dense, Half, Product
from minicomp.passport import passport
from minicomp.teach import Lesson, check, figures, hint, predict, reflect
from minicomp.teach.asking.shown import Table
from minicomp.timing import race
from minicomp.train import evaluate

# %% tags=["mode"]
lesson = Lesson("14", mode="full", student="", course="open")
lesson

# %% [markdown]
# ## Warm-up (3 minutes)
#
# 1. How many whole bits name one of 5 things?
# 2. `a = np.zeros(2); a[[0, 0, 1]] += 1`. What is `a`?
# 3. One bit in ten is 1. How many bits does Huffman (lesson 17) need for each?
#
# <details><summary>Answers</summary>
#
# 1. 3.  2. [1, 1]: the last writer wins.  3. One.
#
# </details>
#
# ## Symbols
#
# | | |
# |---|---|
# | $W$, $g$ | weights, $O \times I$; $\partial L / \partial W$ for the loss $L$ |
# | $c_k$, $I_{ij}$ | centroids; which one weight $(i, j)$ uses |
# | $d$, $s$, $k$, $t$, $b$ | columns of a block; blocks; codewords; stages; bits of their numbers |
# | $p$ | how likely the next bit is 1, in $2^{-16}$ |
# | $r$, $v$ | the width of an interval; where in it the message lies |
# | $\lambda$, $R$ | squared error that a bit is worth; bits of a code |

# %% [markdown]
# ## Your guess (2 minutes)
#
# 300 x 784 weights in blocks of 4 columns, each with 256 codewords in float32: how many bits a
# weight, codebooks included? And where should centroids start, so that the net errs least once they
# are trained: `"linear"`, evenly from the smallest to the largest weight; `"density"`, equally many
# weights each; `"random"` weights?

# %% tags=["predict:14.p1"]
guess_bits = predict("14.p1", None)

# %% tags=["predict:14.p2"]
guess_start = predict("14.p2", None)

# %% [markdown]
# ## A toy: six weights, two numbers

# %%
w, c = np.array([-0.9, -0.7, 0.1, 0.2, 0.3, 1.2]), np.array([-1.0, 0.0])
for turn in range(3):
    index = abs(w[:, None] - c).argmin(axis=1)  # to the nearest centroid ..
    c = np.bincount(index, w) / np.bincount(index)  # .. which becomes the mean
    print(index, c.round(2), f"{np.square(w - c[index]).sum():.3f}")

# %% [markdown]
# *Residual* quantization goes on: what is left, $w - c$, gets two numbers of its own.

# %%
rest, (second, code) = w - c[index], kmeans_1d(w - c[index], 2, init="linear", rng=None)
second, np.square(rest - second[code]).sum().round(3)

# %% [markdown]
# ## Exercise 1: a step of centroids (8 minutes)
#
# Han and others (2016) train centroids on. Each sums its weights' gradients:
#
# $$\frac{\partial L}{\partial c_k} = \sum_{I_{ij} = k} g_{ij}, \qquad
# c \leftarrow c - \eta \frac{\partial L}{\partial c}, \quad c_0\ \mathrm{stays} .$$
#
# $c_0$ is the 0 of pruned weights. Leave the arguments of your functions as they are.

# %% tags=["exercise:14.centroid_step"]
def centroid_step(c, index, g, lr):
    """c: (k,); index: (O, I) integers; g: (O, I); returns dL/dc, (k,), and c after the step."""
    ### BEGIN SOLUTION
    found = np.bincount(index.ravel(), g.ravel(), len(c))
    return found, np.append(c[0], c[1:] - lr * found[1:])
    ### END SOLUTION

# %% tags=["check:14.centroid_step"]
check("14.centroid_step", centroid_step)

# %% [markdown]
# Stuck? `hint("14.centroid_step", 1)` is the idea, 2 the formula, 3 pseudocode. Every exercise has
# three.
#
# ## A real net (15 minutes, of which the machine takes about 2)
#
# A tenth of its weights is left, trained on. Three bits: they share seven values a layer, and 0 is
# the eighth.

# %% tags=["slow"]
dense = lesson.checkpoint("lenet300")
data, test = lesson.data.without_test(), lesson.data.test
lesson.about_data()

# %% tags=["slow"]
def train(model, epochs, **how):
    return FineTune(epochs=epochs, **how).apply(model, data, Run(lesson.rng("train")))

def error(model):
    return 100 * evaluate(model, test).error

pruned = Magnitude(sparsity=0.9).apply(dense, data, Run(lesson.rng("prune")))
pruned = train(pruned, lesson.choose(smoke=1, full=2, paper=10), lr=0.01)

# %% tags=["slow"]
def before_and_after(init, bits):
    shared = KMeans(bits=bits, init=init).apply(pruned, data, Run(lesson.rng("starts")))
    return [error(shared), error(train(shared, 1, optimizer="adam", lr=1e-3))]

inits = ["linear", "density", "random", "optimal"]
bits = lesson.choose(smoke=(3, 4), full=(2, 3, 4))
errors = {b: {init: before_and_after(init, b) for init in inits} for b in bits}
Table(["start", *(f"{b} bits: error, trained, %" for b in bits)],
      [[init, *("{:.2f}, {:.2f}".format(*errors[b][init]) for b in bits)] for init in inits])

# %% tags=["slow"]
w = pruned.forms()["fc1.weight"].dense().data
live = np.sort(w[w != 0])
counts, edges = np.histogram(live, 60)
starts = {init: initial_centroids(live, 15, init, rng=lesson.rng("starts")) for init in inits[:3]}
found = {init: kmeans_1d(live, 15, init=init, rng=lesson.rng("starts")) for init in inits}
ends = {init: found[init][0] for init in starts}
off = {init: np.square(live - c[index]).sum() for init, (c, index) in found.items()}
rows = {init: [off[init] / off["optimal"], *errors[4][init]] for init in starts}

# %% [markdown]
# ## The plot to remember

# %% tags=["plot", "slow", "memorable"]
lesson.show(figures.centroids_on_density(counts, edges, starts, ends, rows, guess=guess_start))

# %% [markdown]
# `optimal`: the least squared error, which on a line can be computed. Recorded on MNIST at 3 bits,
# before and after training: linear {{mnist:linear_before}}, {{mnist:linear}}; density
# {{mnist:density_before}}, {{mnist:density}}; random {{mnist:random_before}}, {{mnist:random}};
# optimal {{mnist:optimal_before}}, {{mnist:optimal}}. With 15 centroids
# linear spends more on few, large weights: {{mnist:far}} times the least squared error, and the net
# hardly minds.
#
# ## Exercise 2: what a codebook costs (12 minutes)
#
# *Product quantization* (Gong and others, 2014): cut the columns of $W$ into $s$ blocks of $d$, the
# last filled up, and cluster the $O$ vectors of each block. A row is $s$ codes of whole bits. With
# $t$ stages, there are $t$ codes and $t$ codebooks for each block. Return the **bytes** of codes
# and codebooks, a begun byte counting whole, and from how many **rows** $O$ on the bits are fewer
# than those of 32-bit weights; 0 if never.

# %% tags=["exercise:14.product_bytes"]
def product_bytes(O, I, d, k, t, b):
    """O, I: of W; d: columns of a block; k: codewords; t: stages; b: bits of their numbers."""
    ### BEGIN SOLUTION
    s = -(-I // d)
    row, once = t * s * (k - 1).bit_length(), t * s * k * d * b
    saved = 32 * I - row
    return -(-(O * row + once) // 8), once // saved + 1 if saved > 0 else 0
    ### END SOLUTION

# %% tags=["check:14.product_bytes"]
check("14.product_bytes", product_bytes)

# %% tags=["slow"]
fc1 = dense.forms()["fc1.weight"].dense().data
O, I = fc1.shape
naive = product_bits(O, I, block=4, k=256) / fc1.size
pays = product_break_even(I, block=4, k=256)
f"{naive:.1f} bits a weight; pays from {pays} rows on. Your guess: {guess_bits}"

# %% [markdown]
# For 300 rows: fewer codewords, halves, or one codebook for all blocks.
#
# ## Two bits a weight, six ways (6 minutes)
#
# fc1 alone, not trained on, at most two bits a weight, codebooks in float16. Settings are chosen on
# validation images.

# %% tags=["slow"]
def product(**how):
    codes, books = product_quantize(fc1, rng=lesson.rng("product"), **how)
    return Product(codes, Half(books), fc1.shape), product_bits(O, I, float_bits=16, **how)

def scalar(k):
    centroids, index = kmeans_1d(fc1, k, init="optimal", rng=None)
    return Codebook(index, Half(centroids)), 2 * fc1.size + 16 * k

def svd(rank):
    u, sigma, vt = np.linalg.svd(fc1, full_matrices=False)
    return Dense(u[:, :rank] * sigma[:rank] @ vt[:rank]), 16 * rank * (O + I)

# %% tags=["slow"]
def of_fc1(form):
    net = dense.copy()
    net.set_form("fc1.weight", form)
    return net

def best(made):
    fitting = [(form, bits / fc1.size) for form, bits in made if bits <= 2.01 * fc1.size]
    return min(fitting, key=lambda pair: evaluate(of_fc1(pair[0]), data.val).errors)

# %% tags=["slow"]
ways = {
    "product": best(product(block=d, k=k) for d, k in ((2, 8), (4, 16), (6, 16), (8, 16))),
    "residual": best(product(block=I, k=k, stages=t) for k, t in ((2, 18), (4, 9), (16, 2))),
    "k-means": best([scalar(4)]),
    "sign": (Binary.of(fc1, np.abs(fc1).mean()), 1.0),
    "SVD": best([svd(int(2 * fc1.size / 16 / (O + I)))]),
    "one codebook": best(product(block=d, k=k, shared=True) for d, k in ((2, 15), (3, 60))),
}
wrong = {name: error(of_fc1(form)) for name, (form, _) in ways.items()}
left = {name: np.square(fc1 - form.dense().data).sum() / np.square(fc1).sum()
        for name, (form, _) in ways.items()}
Table(["fc1", "bits a weight", "squared error, %", "test error, %"],
      [[name, f"{bits:.2f}", f"{100 * left[name]:.1f}", f"{wrong[name]:.2f}"]
       for name, (_, bits) in ways.items()], f"Float: {error(dense):.2f} %.")

# %% [markdown]
# ## The paper's row beside ours
#
# Gong's places are of ImageNet's wide layers. **Ours is a small variant:** one layer of 300 rows.

# %% tags=["slow"]
names = ["product", "residual", "k-means", "sign", "SVD"]
places = [1 + sum(wrong[other] < wrong[name] for other in names) for name in names]
lesson.beside_paper(["place", *names], ["Gong 2014", "1", "2 or 3", "2 or 3", "4 or 5", "4 or 5"],
                    [str(place) for place in places])

# %% [markdown]
# Recorded on MNIST: product {{mnist:product}}, one codebook for all {{mnist:one_codebook}}, k-means
# {{mnist:kmeans}}, residual {{mnist:residual}}, SVD {{mnist:svd}}. A residual codeword is as wide
# as the layer: with 300 rows the codebooks are nearly all there is.
#
# ## Exercise 3: below one bit (15 minutes)
#
# Is a weight kept? Huffman needs a bit for each answer, however rare a yes. *Arithmetic coding*
# makes **one number** of a whole message. Coder and decoder hold an interval, and cut it for each
# bit: the lower part, $p$ of the width, is that of a 1. The part taken is the next interval; a
# message of probability $P$ takes $-\log_2 P$ bits.
#
# In integers: $v$ is the message from the interval's beginning, at first its first four bytes, the
# first one highest; $r = 2^{32} - 1$ its width. For each bit
#
# $$\mathrm{cut} = \lfloor r\,p / 2^{16} \rfloor, \qquad \mathrm{a\ 1\ if\ } v < \mathrm{cut}:\
# r \leftarrow \mathrm{cut}; \qquad \mathrm{else\ a\ 0}:\ v \leftarrow v - \mathrm{cut},\
# r \leftarrow r - \mathrm{cut} .$$
#
# Then, while $r < 2^{24}$, both are multiplied by 256, and $v$ takes in the next byte. Behind the
# end bytes are 0. `.tolist()` makes integers that cannot overflow.

# %% tags=["exercise:14.decode_bits"]
def decode_bits(data, p):
    """data: (B,) uint8; p: (N,) integers of 1..65535; returns the bits, (N,) integers 0 or 1."""
    ### BEGIN SOLUTION
    stream, bits = iter(data.tolist()), []
    v, r = 0, 2**32 - 1
    for _ in range(4):
        v = v << 8 | next(stream, 0)
    for likely in p.tolist():
        cut = r * likely >> 16
        bits.append(int(v < cut))
        v, r = (v, cut) if v < cut else (v - cut, r - cut)
        while r < 2**24:
            v, r = v << 8 | next(stream, 0), r << 8
    return np.array(bits)
    ### END SOLUTION

# %% tags=["check:14.decode_bits"]
check("14.decode_bits", decode_bits)

# %% [markdown]
# $p$ may be another for every bit, if the decoder can compute it from what it has read: then it
# *learns*, and no table is stored.

# %% tags=["slow"]
kept = w != 0
share, bits = kept.mean(), kept.ravel().astype(int)
above = np.cumsum(kept, axis=0) - kept  # kept before, in the same column
of_column = (above + 4 * share) / (np.arange(O)[:, None] + 4)
p = np.clip(65536 * np.stack([np.full(kept.shape, share), of_column]), 1, 65535).astype(int)
one_p, by_column = (8 * len(encode_bits(bits, each.ravel())) / bits.size for each in p)
counting = adaptive_bits(bits, 2) / bits.size
of_file = 8 * len(range_coder.encode(kept, 0, 28)) / bits.size
Table(["pattern of fc1", "bits a weight"],
      [["Huffman", "1.000"], ["one p, known before", f"{one_p:.3f}"],
       ["p counted as it goes", f"{counting:.3f}"],
       ["p of the column, counted", f"{by_column:.3f}"],
       ["the file's coder: row, column, neighbours", f"{of_file:.3f}"]])

# %% [markdown]
# ## Rate and distortion (6 minutes)
#
# If frequent codes are cheap, the nearest code is not always the best one. On a grid of step $s$
# take
#
# $$k = \mathrm{argmin}_k\ (w - s k)^2 + \lambda R(k), \qquad R(k) = -\log_2 p(k) .$$
#
# $p(k)$ is how often codes occur, which this changes: codes, prices and step are fitted in turn.
# $\lambda$ is counted in squared steps.

# %% tags=["slow"]
def on_grid(lam, bits):
    net = RateDistortion(lam=lam, bits=bits).apply(dense, data, Run(lesson.rng("rate")))
    return save(net, "net.mcz") / 1000, error(net), net

lams = lesson.choose(smoke=[0, 0.8], full=[0, 0.2, 0.4, 0.8, 1.2, 1.6])
curve = {lam: on_grid(lam, 5) for lam in lams}
rounded = [(b, *on_grid(0.0, b)[:2]) for b in (3, 4)]

# %% tags=["plot", "slow"]
figures.rate_curve({lam: point[:2] for lam, point in curve.items()}, rounded, error(dense))

# %% tags=["slow"]
save(curve[0.8][2], "net.mcz")
print(passport(curve[0.8][2], path="net.mcz", data=test).summary())

# %% tags=["slow"]
lesson.record(
    error_dense=error(dense), error_pruned=error(pruned),
    **{f"{init}_before": before for init, (before, _) in errors[3].items()},
    **{init: after for init, (_, after) in errors[3].items()}, far=rows["linear"][0],
    naive=naive, pays=pays, product=wrong["product"], residual=wrong["residual"],
    kmeans=wrong["k-means"], sign=wrong["sign"], svd=wrong["SVD"],
    one_codebook=wrong["one codebook"], one_p=one_p, by_column=by_column, of_file=of_file,
    kb_0=curve[0][0], error_0=curve[0][1], kb_8=curve[0.8][0], error_8=curve[0.8][1],
    kb_3_bits=rounded[0][1], error_3_bits=rounded[0][2],
    kb_4_bits=rounded[1][1], error_4_bits=rounded[1][2],
    rows=np.concatenate([*rows.values()]), counts=counts, edges=edges,
    starts=np.concatenate([*starts.values()]), centroids=np.concatenate([*ends.values()]))

# %% [markdown]
# Recorded on MNIST: $\lambda = 0$ {{mnist:kb_0}}, {{mnist:error_0}}; $\lambda = 0.8$
# {{mnist:kb_8}}, {{mnist:error_8}}. Nearest codes of 4 bits {{mnist:kb_4_bits}},
# {{mnist:error_4_bits}}; of 3 bits {{mnist:kb_3_bits}}, {{mnist:error_3_bits}}. $\lambda$ goes
# where whole bits cannot; too large, it prunes what the net needs, as 0 is the cheapest code.
#
# ## Where it breaks: a function to expose (6 minutes)
#
# Somebody else's `product_bytes` passed all of *their* tests, of 16 codewords, whole blocks, floats
# and one stage. It has one of four faults, drawn for your name: bits of a code are rounded down;
# a last, narrower block is lost; a codebook's number always has 32 bits; where rows never pay, it
# says something else than 0. Find an input that shows this fault alone: your variant is wrong on
# it, and functions with the other three faults are right.

# %%
broken = lesson.broken("14.product_bytes")
broken(100, 8, 4, 16, 1, 32)

# %% tags=["exercise:14.broken"]
def failing_input():
    """Returns (O, I, d, k, t, b): shows `broken` alone."""
    ### BEGIN SOLUTION
    return 100, 8, 4, 16, 1, 16  # shows the fault of an empty name
    ### END SOLUTION

# %% tags=["check:14.broken"]
check("14.broken", failing_input, lesson)

# %% [markdown]
# ## The compiled twin
#
# Each codeword is multiplied once by its part of $x$, into tables; a row then adds up what its
# codes look up.

# %% tags=["slow"]
def layer(out, inner, d):
    draw, blocks = lesson.rng("twin"), inner // d
    codes, books = draw.integers(0, 16, (1, out, blocks)), draw.normal(size=(1, blocks, 16, d))
    packed = tables.pack_tables(codes, books.astype("f"), inner)
    return packed, draw.normal(size=inner).astype("f"), draw.normal(size=(out, inner)).astype("f")

shapes = {f"{out:,} x {inner:,}, d = {d}": layer(out, inner, d)
          for out, inner, d in ((1024, 1024, 1), (300, 784, 4), (10, 100, 4))}
lesson.twin("codebook", [(name, lambda w=w, x=x: tables.matvec_ref(w, x),
                          lambda w=w, x=x: tables.matvec(w, x))
                         for name, (w, x, _) in shapes.items()])

# %% [markdown]
# And against BLAS?

# %% tags=["slow"]
rows = []
for name, (packed, x, full) in shapes.items():
    with blas(1):
        ms = race({"BLAS": lambda: full @ x, "look-ups": lambda: tables.matvec(packed, x)},
                  seconds=lesson.choose(smoke=0.1, full=0.5), shortest=0.001)
    rows.append([name, *(f"{1e6 * seconds:.1f}" for seconds in ms.values())])
Table(["", "BLAS, µs", "look-ups, µs"], rows)

# %% [markdown]
# Tables cost $k$ products a column, whatever the rows: with few rows they lose.
#
# ## Reflection (5 minutes)
#
# An app downloads a net whose largest layer is 300 x 784, and one whose largest is 4,096 x 9,216.
# Scalar codebook, product quantization or rate and distortion: which for which, what is in the file
# besides codes, and what does $\lambda$ change? Use the numbers of your run.

# %% tags=["reflect:14.r1"]
reflect("14.r1", """
""")

# %% [markdown]
# ## Next
#
# Lesson 15 stores no codes at all: a hash says who shares.
