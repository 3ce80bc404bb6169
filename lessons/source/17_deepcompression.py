# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # Lesson 17: Deep Compression
#
# LeNet-300-100 is 1,066 kB of float32. In 2016 Han, Mao and Dally put it into 27 kB without
# losing accuracy, in three stages: prune, share, code. **Where do the factors come from, and can
# you rebuild the file bit by bit?**
#
# **Needs:** lesson 4; binary numbers; logarithms to base 2. **Time:** 70 minutes. **You will
# have:** an index of gaps and a Huffman code of your own, and a file of which you can account for
# every byte.

# %% tags=["colab"]
import subprocess
import sys

# On Colab, upload a wheel of minicomp or a zip of its checkout and name it here, or name a
# git+ address. Elsewhere this cell does nothing.
SOURCE = "minicomp.zip"
if "google.colab" in sys.modules:
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", SOURCE], check=True)

# %% tags=["imports"]
import heapq

import numpy as np

from minicomp import codec, load, no_grad, save
from minicomp.codec import Choice
from minicomp.compress.finetune import FineTune
from minicomp.compress.prune.magnitude import Magnitude
from minicomp.compress.share.kmeans import KMeans
from minicomp.compress.technique import Run
from minicomp.teach import Lesson, check, figures, hint, predict, reflect
from minicomp.teach.asking.shown import Table
from minicomp.teach.live import timing
from minicomp.train import evaluate

# %% tags=["mode"]
lesson = Lesson("17", mode="full", student="", course="open")
lesson

# %% [markdown]
# ## Warm-up (3 minutes)
#
# 1. How many bits does it take to name one of 64 things? One of 65?
# 2. A layer keeps 8 % of 235,200 weights. How many is that?
# 3. Which is a better code for a, b, c: {0, 10, 11} or {0, 1, 01}?
#
# <details><summary>Answers</summary>
#
# 1. 6; 7.  2. 18,816.  3. The first. In the second, 01 can be "ab" or "c".
#
# </details>
#
# ## Symbols
#
# | | |
# |---|---|
# | $p$ | bits of a gap |
# | $k$ | number of centroids in a codebook; $\log_2 k$ bits name one |
# | $I_{ij}$ | index: which centroid weight $(i, j)$ uses |
# | $\ell$ | length of a symbol's code, in bits |

# %% [markdown]
# ## Your guess (2 minutes)
#
# 8 % of the weights stay, 64 shared values, Huffman on top. How many kB will our file have?

# %% tags=["predict:17.p1"]
guess = predict("17.p1", None)

# %% [markdown]
# ## Stage 1: prune, and say where (toy)
#
# 25 weights, five left. To store them we need their values *and* their places. Places rise, so we
# store **gaps**: each is the distance to the place before, the first counted from -1.

# %%
toy = np.zeros(25, int)
toy[[2, 3, 9, 11, 24]] = [5, -3, 4, 1, -2]
places = np.flatnonzero(toy)
places, np.diff(places, prepend=-1)

# %% [markdown]
# A gap is at least 1, so gap - 1 is stored, in $p$ bits: gaps $1..2^p$ fit. A longer gap is cut:
# we store a **filler**, a weight of value 0 after the largest gap, and go on from there. With
# $p = 3$ the last gap, 13, becomes 8 and 5.
#
# ## Exercise 1: the relative index (8 minutes)
#
# Return two arrays of whole numbers, one entry per weight or filler: `stored` (gap - 1), and
# `source` (which weight it is, counted from 0, or -1 for a filler). Leave the arguments of your
# functions as they are.

# %% tags=["exercise:17.relative_index"]
def relative_index(positions, p):
    """positions: rising integers from 0 on; p: bits of a gap."""
    ### BEGIN SOLUTION
    stored, source, before = [], [], -1
    for i, position in enumerate(positions):
        gap = position - before
        while gap > 2**p:
            stored.append(2**p - 1)
            source.append(-1)
            gap -= 2**p
        stored.append(gap - 1)
        source.append(i)
        before = position
    return np.array(stored, int), np.array(source, int)
    ### END SOLUTION

# %% tags=["check:17.relative_index"]
check("17.relative_index", relative_index)

# %% [markdown]
# Stuck? `hint("17.relative_index", 1)` is the idea, 2 the formula, 3 pseudocode. Every exercise
# has three.
#
# ## Stage 2: share (toy, figure 3 of the paper)
#
# Weights that are nearly equal become equal: k-means finds $k$ centroids, each weight keeps the
# number of its nearest. When the centroids are trained on, a centroid's gradient is the **sum**
# over its members,
#
# $$\frac{\partial L}{\partial C_k}
# = \sum_{i,j} \frac{\partial L}{\partial W_{ij}}\,\mathbf{1}(I_{ij} = k) .$$

# %%
index = np.array([[3, 0, 2, 1], [1, 1, 0, 3], [0, 3, 1, 0], [3, 1, 2, 2]])
gradient = 0.01 * np.array([[-3, -1, 3, 2], [-1, 1, -2, 12],
                            [-1, 2, 4, 1], [-7, -2, 1, -2]])
centroids = np.array([-1.0, 0.0, 1.5, 2.0])
# the paper prints -0.97, -0.04, 1.48, 1.96
centroids - 1.0 * np.bincount(index.ravel(), weights=gradient.ravel())

# %% [markdown]
# ## Stage 3: code
#
# Some indices and some gaps occur far more often than others. Give those short codes. Huffman,
# 1952: take the two rarest symbols, glue them together into one, and repeat until one is left.
# Each gluing makes every symbol inside one bit longer. No code that gives each symbol its own
# bits is shorter.
#
# ## Exercise 2: Huffman's lengths (12 minutes)
#
# Return the length of each symbol's code. A count of 0 has length 0; a symbol that is alone has
# length 1. `heapq` hands out the smallest first.

# %% tags=["exercise:17.huffman_lengths"]
def huffman_lengths(counts):
    """counts: integer array, how often each symbol occurs."""
    ### BEGIN SOLUTION
    lengths = np.zeros(len(counts), int)
    heap = [(int(c), [i]) for i, c in enumerate(counts) if c > 0]
    heapq.heapify(heap)
    if len(heap) == 1:
        lengths[heap[0][1]] = 1
    while len(heap) > 1:
        (a, left), (b, right) = heapq.heappop(heap), heapq.heappop(heap)
        lengths[left + right] += 1
        heapq.heappush(heap, (a + b, left + right))
    return lengths
    ### END SOLUTION

# %% tags=["check:17.huffman_lengths"]
check("17.huffman_lengths", huffman_lengths)

# %% [markdown]
# ## Exercise 3: codes from lengths alone (8 minutes)
#
# A file stores lengths only; both sides agree on the codes. **Canonical**: go through the symbols
# by length, then by number; the first code is 0, each next one is one more, with zeros appended
# when the length grows. Lengths 2, 1, 2 give 10, 0, 11. Return the codes as integers, 0 where the
# length is 0.

# %% tags=["exercise:17.canonical_codes"]
def canonical_codes(lengths):
    """lengths: integer array, 0 for symbols that do not occur."""
    ### BEGIN SOLUTION
    codes, code, before = np.zeros(len(lengths), int), 0, 0
    for i in np.argsort(lengths, kind="stable"):
        if lengths[i]:
            code <<= lengths[i] - before
            codes[i] = code
            code, before = code + 1, lengths[i]
    return codes
    ### END SOLUTION

# %% tags=["check:17.canonical_codes"]
check("17.canonical_codes", canonical_codes)

# %% [markdown]
# Kraft's sum $\sum 2^{-\ell}$ says how much of all bit strings a code uses. Exactly 1 means:
# every string of bits decodes to something, and nothing is wasted. minicomp's reader refuses a
# file whose sum is anything else.

# %%
counts = np.array([45, 13, 12, 16, 9, 5])
lengths = codec.huffman.huffman_lengths(counts)
entropy = codec.huffman.entropy_bits(counts) / counts.sum()
mean = lengths @ counts / counts.sum()
f"Kraft {np.sum(0.5**lengths):g}; {mean:.3f} bits a symbol, entropy {entropy:.3f}"

# %% [markdown]
# ## The real net (15 minutes, of which the machine takes about 2)
#
# The pipeline of the paper on LeNet-300-100: prune in three rounds to 8 %, retraining each time;
# 6 bits per weight; train the centroids.

# %% tags=["slow"]
dense = lesson.checkpoint("lenet300")
data = lesson.data.without_test()
lesson.about_data()

# %% tags=["slow"]
def prune(model, keep):
    how = Magnitude(sparsity={"*": 1 - keep, "fc3": min(1 - keep, 0.74)})
    return how.apply(model, data, Run(lesson.rng("prune")))

def train(model, lr, epochs):
    return FineTune(epochs=epochs, lr=lr).apply(model, data, Run(lesson.rng("train")))

# %% tags=["slow"]
pruned, epochs = dense, lesson.choose(smoke=1, full=3, paper=15)
for keep in (0.3, 0.12, 0.08):
    pruned = train(prune(pruned, keep), lr=0.01, epochs=epochs)
shared = KMeans(bits=6, init="linear").apply(pruned, data, Run(lesson.rng("share")))
shared = train(shared, lr=1e-4, epochs=lesson.choose(smoke=1, full=1, paper=5))

# %% [markdown]
# Now the file, stage by stage. `plain` writes every number in full, `huffman` codes them; gaps
# have 5 bits, as in the paper. All sizes include header, biases, codebooks and fillers.

# %% tags=["slow"]
plain = Choice("relative", 5, gaps="plain", values="plain")
coded = Choice("relative", 5, gaps="huffman", values="huffman")
sizes = {"float32": dense.dense_bytes(),
         "pruned": len(codec.encode(pruned, force={"*.weight": plain})),
         "shared": len(codec.encode(shared, force={"*.weight": plain})),
         "Huffman": save(shared, "lenet300.mcz", force={"*.weight": coded})}
sizes

# %% [markdown]
# Does it still *work*? Load the file and compare the logits, bit for bit.

# %% tags=["slow"]
again, x = load("lenet300.mcz"), lesson.data.test.x[:500]
with no_grad():
    np.testing.assert_array_equal(again(x).data, shared(x).data)
nets = {"float32": dense, "pruned": pruned, "file": again}
errors = {name: 100 * evaluate(net, lesson.data.test).error
          for name, net in nets.items()}
{name: f"{error:.2f} %" for name, error in errors.items()}

# %% [markdown]
# ## The plot to remember

# %% tags=["plot", "slow", "memorable"]
lesson.show(figures.waterfall(list(sizes.items()), guess=guess))

# %% [markdown]
# Pruning to 8 % does *not* divide by 12: each weight now also pays for its place, and fillers pay
# too. Sharing divides by another three, Huffman takes off the last fifth. Recorded on MNIST:
# {{mnist:bytes_dense}}, {{mnist:bytes_pruned}}, {{mnist:bytes_shared}}, {{mnist:bytes_coded}};
# error {{mnist:error_dense}} before, {{mnist:error_final}} after.
#
# ## The paper's row beside ours

# %% tags=["slow"]
lesson.beside_paper(["", "dense, %", "compressed, %", "kB", "ratio"],
                    ["Han 2016, LeNet-300-100", "1.64", "1.58", "27", "40x"],
                    [f"{errors['float32']:.2f}", f"{errors['file']:.2f}",
                     f"{sizes['Huffman'] / 1000:.1f}",
                     f"{sizes['float32'] / sizes['Huffman']:.1f}x"])

# %% [markdown]
# The paper's 27 kB is its own accounting; ours is the length of a file that loads. Where do its
# bytes go?

# %% tags=["slow"]
shown = codec.show("lenet300.mcz")
parts = {part: n for part, n in shown.parts().items() if n}
Table(["part", "bytes", "%"],
      [[part, f"{n:,.0f}", f"{100 * n / shown.file_bytes:.1f}"]
       for part, n in parts.items()],
      f"{shown.file_bytes:,} bytes in all, {shown.ratio:.1f}x smaller.")

# %% tags=["slow"]
weights = [f for name, f in shared.forms().items() if name.endswith("weight")]
kept = sum(f.nonzeros() for f in weights) / sum(f.index.size for f in weights)
lesson.record(error_dense=errors["float32"], error_final=errors["file"],
              ratio=shown.ratio, kept=100 * kept, bytes_dense=sizes["float32"],
              bytes_pruned=sizes["pruned"], bytes_shared=sizes["shared"],
              bytes_coded=sizes["Huffman"])

# %% [markdown]
# Almost half of the file says *where*. Left to itself, minicomp describes the places better than
# the paper does:

# %% tags=["slow"]
best = save(shared, "best.mcz")
f"{best:,} bytes, {sizes['float32'] / best:.1f}x: {codec.show('best.mcz').rows[0].how}"

# %% [markdown]
# ## Where it breaks: a function to expose (6 minutes)
#
# Somebody else's `relative_index` is right on the toy above. It has one of four faults, drawn for
# your name in the second cell: a gap of $2^p$ already gets a filler; one of $2^p + 1$ gets none;
# at most one filler is written; $p$ is always 3. Find an input that shows this fault alone: your
# variant is wrong on it, and functions with the other three faults are right.

# %%
broken = lesson.broken("17.relative_index")
broken(np.array([2, 3, 9, 11]), 3)

# %% tags=["exercise:17.broken"]
def failing_input():
    """Returns (positions, p) that shows the fault of `broken` alone."""
    ### BEGIN SOLUTION
    return np.array([17]), 3  # shows the fault of an empty name
    ### END SOLUTION

# %% tags=["check:17.broken"]
check("17.broken", failing_input, lesson)

# %% [markdown]
# ## The compiled twin
#
# Decoding bit by bit in Python is slow: each symbol must be found before the next begins. The
# kernel looks up 12 bits at a time, four streams side by side.

# %% tags=["slow"]
from minicomp.codec.bits import pack_bits, unpack_bits
from minicomp.kernels.coding import huffman as kernel

def readers(n):
    """Three ways to read n symbols: bit by bit, the kernel, plain 6-bit fields."""
    symbols = np.minimum(lesson.rng("twin").geometric(0.2, n), 63).astype(np.uint8)
    counts = np.bincount(symbols, minlength=64) + 1
    lengths = codec.huffman.huffman_lengths(counts, limit=12)
    stream, _ = codec.huffman.encode(symbols, lengths)
    args = stream, np.array([0]), np.array([n]), lengths
    fields = pack_bits(symbols, 6)
    return (lambda: kernel.decode_ref(*args)[0], lambda: kernel.decode(*args)[0],
            lambda: unpack_bits(fields, 6, n))

# %% tags=["slow"]
numbers = (2, 10, 1000, 21_000)
lesson.twin("coding", [(f"{n:,} symbols", *readers(n)[:2]) for n in numbers])

# %% [markdown]
# And against plain fields of 6 bits, which need no table?

# %% tags=["slow"]
rows = []
for n in numbers:
    _, kernel_run, plain_run = readers(n)
    slow, fast = timing.side_by_side(plain_run, kernel_run, seconds=0.1)
    rows.append([f"{n:,} symbols", f"{1e6 * slow:.0f}", f"{1e6 * fast:.0f}",
                 timing.times(slow / fast)])
Table(["", "plain, µs", "Huffman kernel, µs", "kernel is"], rows)

# %% [markdown]
# For a few symbols the decoder builds its table for nothing and loses; for a layer it wins even
# against plain fields, because it has fewer bits to fetch.
#
# ## Reflection (5 minutes)
#
# Which of the three stages brought least on your run, and would you leave it out? Say what it
# costs in code, in time to load, and in risk.

# %% tags=["reflect:17.r1"]
reflect("17.r1", """
""")

# %% [markdown]
# ## Next
#
# Lesson 18 makes a small net learn from a large one, instead of cutting the large one down.
