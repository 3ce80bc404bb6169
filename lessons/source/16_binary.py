# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # Lesson 16: BinaryConnect, BNN, XNOR-popcount
#
# A weight of one bit is +1 or -1. 64 of them fit into a machine word, and one instruction counts
# its bits. **How does one train what has no slope, and when is counting faster than multiplying?**
#
# **Needs:** matrix products, gradients of a linear layer, binary numbers. **Time:** 70 minutes.
# **You will have:** a net that multiplies 64 pairs at once, and the shapes at which that loses.

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
from minicomp.compress import BNN, PTQ, BinaryConnect, FineTune
from minicomp.compress.binary.binary_connect import ways
from minicomp.compress.binary.signs import glorot
from minicomp.compress.technique import Run
from minicomp.deploy import lower
from minicomp.kernels.bits.pack import pack_signs
from minicomp.kernels.bits.xnor import gemm, gemm_ref, pack
from minicomp.kernels.threads import blas
from minicomp.nn import BatchNorm1d, Flatten, Linear, Model, ReLU, chain
from minicomp.nn.init import initialise
from minicomp.passport import passport
from minicomp.quality import predicted
from minicomp.teach import Lesson, check, figures, hint, predict, reflect
from minicomp.teach.asking.shown import Table
from minicomp.timing import race
from minicomp.train import evaluate

# %% tags=["mode"]
lesson = Lesson("16", mode="full", student="", course="open")
lesson

# %% [markdown]
# ## Warm-up (3 minutes)
#
# 1. Five pairs of signs: three agree, two differ. What is the sum of their products?
# 2. `0b101 ^ 0b100`: how many bits are set?
# 3. What is the derivative of sign(x) at x = 2?
#
# <details><summary>Answers</summary>
#
# 1. 3 - 2 = 1.  2. One.  3. 0, as nearly everywhere.
#
# </details>
#
# ## Symbols
#
# | | |
# |---|---|
# | $a$, $w$ | real numbers: what a layer reads, its weights |
# | $a_b$, $w_b$ | their signs, +1 or -1; the sign of 0 is +1 |
# | $C$, $g$ | the loss; $\partial C/\partial y$, for a layer's output $y$ |
# | $\eta$ | learning rate |
# | $n$, $K$ | how many signs a sum has |
# | $s$ | such a sum, a whole number |
# | $H$ | the size of a binary weight: it is $+H$ or $-H$ |

# %% [markdown]
# ## Your guess (2 minutes)
#
# 256 rows of 1,024 signs, times 1,024 columns. 64 signs are packed into a word, packing the rows
# included. How many times as fast as float32 BLAS? And a net whose weights and activations have one
# bit each: what is its error on digits, in percent?

# %% tags=["predict:16.p1"]
guess_speed = predict("16.p1", None)

# %% tags=["predict:16.p2"]
guess_error = predict("16.p2", None)

# %% [markdown]
# ## A toy: a sign that remembers

# %%
w, path = 0.375, []
for push in (0.125, 0.125, 0.125, 0.125, -0.125):  # the gradient, step by step
    w -= push
    path.append((w, 1 if w >= 0 else -1))
path

# %% [markdown]
# Small pushes add up in the real number; its sign changes when they are enough.
#
# ## Exercise 1: one step of a binary layer (8 minutes)
#
# Courbariaux and others (2015, 2016) compute with signs alone, forward and back:
#
# $$y = a_b w_b^T, \qquad \frac{\partial C}{\partial a} = (g\, w_b) \cdot 1[|a| \leq 1], \qquad
# w \leftarrow \mathrm{clip}\left(w - \eta\, g^T a_b,\ -1,\ 1\right) .$$
#
# The gradient goes *straight through* the sign, and for $a$ only where clip$(a, -1, 1)$ would let
# it. Leave the arguments of your functions as they are.

# %% tags=["exercise:16.binary_step"]
def binary_step(a, w, g, lr):
    """a: (N, C); w: (O, C); g: (N, O); returns y, what reaches a, and the w after the step."""
    ### BEGIN SOLUTION
    a_b, w_b = (np.where(x >= 0, 1.0, -1.0) for x in (a, w))
    return a_b @ w_b.T, (g @ w_b) * (abs(a) <= 1), np.clip(w - lr * g.T @ a_b, -1, 1)
    ### END SOLUTION

# %% tags=["check:16.binary_step"]
check("16.binary_step", binary_step)

# %% [markdown]
# Stuck? `hint("16.binary_step", 1)` is the idea, 2 the formula, 3 pseudocode. Every exercise has
# three.
#
# ## Exercise 2: 64 products at once (15 minutes)
#
# A sign is a bit, 1 for +1. Sign $k$ is bit $k\ \mathrm{mod}\ 64$ of word
# $\lfloor k / 64 \rfloor$, the lowest bit first. Two signs multiply to -1 where their bits
# differ, so that of $n$ signs
#
# $$a_b \cdot w_b = n - 2\,\mathrm{popcount}(\mathrm{bits}(a) \oplus \mathrm{bits}(w)) .$$
#
# Pack $x$, bits behind the last 0, and multiply it by a packed $w$. This $w$ comes from elsewhere:
# **behind its last sign may stand anything**. Any length. `np.packbits`, `.view(np.uint64)` and
# `np.bitwise_count` may help.

# %% tags=["exercise:16.packed_dot"]
def packed_dot(x, w):
    """x: (n,) floats; w: (ceil(n / 64),) uint64; returns the words of x, uint64, and an int."""
    ### BEGIN SOLUTION
    bits, mask = np.zeros((2, 64 * len(w)), bool)
    bits[: len(x)], mask[: len(x)] = x >= 0, True
    words, kept = (np.packbits(b, bitorder="little").view(np.uint64) for b in (bits, mask))
    differ = int(np.bitwise_count((words ^ w) & kept).sum())
    return words, len(x) - 2 * differ
    ### END SOLUTION

# %% tags=["check:16.packed_dot"]
check("16.packed_dot", packed_dot)

# %% [markdown]
# ## Exercise 3: a batch norm becomes a number (12 minutes)
#
# Behind the sum stand a batch norm and a sign. With gain $\gamma/\sigma$ and bias
# $\beta - \mu\gamma/\sigma$ the next bit is $s\,\mathrm{gain} + \mathrm{bias} \geq 0$. That changes
# at one place, so no float is needed: the bit is $s \geq t$ or, where the gain is negative,
# $s \leq t$ (`below`). $t$ is the least, or the largest, $s$ in $-K..K$ whose bit is set.
# A channel whose bit is always the same has $t = -2^{31}$, and is `below` if that bit is 0.
#
# On paper $t$ is $-\mathrm{bias}/\mathrm{gain}$, rounded up. But the net computes in float32, and
# rounds product and sum; your $t$ must give *its* bits.

# %%
gain, bias = np.float32([0.1, -0.3])
np.float32(3) * gain + bias, np.ceil(-float(bias) / float(gain))

# %% tags=["exercise:16.sign_threshold"]
def sign_threshold(gain, bias, K):
    """gain, bias: (O,) float32; K: int; returns t, (O,) integers, and below, (O,) bool."""
    ### BEGIN SOLUTION
    s = np.arange(-K, K + 1)
    t, below = np.full(len(gain), -(2**31)), np.zeros(len(gain), bool)
    for c in range(len(gain)):
        bits = s.astype(np.float32) * gain[c] + bias[c] >= 0
        if bits[0] == bits[-1]:
            below[c] = not bits[0]
        else:
            below[c], t[c] = bits[0], s[bits][-1 if bits[0] else 0]
    return t, below
    ### END SOLUTION

# %% tags=["check:16.sign_threshold"]
check("16.sign_threshold", sign_threshold)

# %% [markdown]
# ## The plot to remember
#
# The same product as bits (packing included), as floats, and as integers, which NumPy multiplies in
# plain loops. The race takes about ten seconds.

# %% tags=["slow"]
def contestants(rows, inner, out):
    draw = lesson.rng("signs")
    a, w = (draw.choice(np.float32([-1, 1]), s) for s in ((rows, inner), (out, inner)))
    packed, columns = pack(pack_signs(w), inner), np.ascontiguousarray(w.T)
    a_int, w_int = a.astype(np.int32), columns.astype(np.int32)
    assert np.array_equal(gemm(pack_signs(a), packed), a @ columns)
    return {"popcount": lambda: gemm(pack_signs(a), packed), "sgemm": lambda: a @ columns,
            "naive": lambda: a_int @ w_int}

# %% tags=["slow"]
shapes = [(lesson.choose(smoke=16, full=256), 1024, 1024), (1, 1024, 1024), (4096, 9, 16)]
with blas(1):  # one thread for all
    taken = [race(contestants(*shape), seconds=lesson.choose(smoke=0.1, full=2), shortest=0.001)
             for shape in shapes]
ms = {name: [1000 * each[name] for each in taken] for name in taken[0]}

# %% tags=["plot", "slow", "memorable"]
lesson.show(figures.speed_bars(ms, shapes=shapes, guess=guess_speed))

# %% [markdown]
# Recorded: at the first shape popcount is {{mnist:beats_sgemm}} times as fast as BLAS and
# {{mnist:beats_naive}} times as fast as loops. At the last one, a 3 x 3 filter over one channel,
# sgemm takes {{mnist:few}} of popcount's time: nine signs fill a seventh of a word, and every row
# is packed first.
#
# ## A real net (15 minutes, of which the machine takes about 2)
#
# Three hidden layers, a batch norm behind each. All four trainings start from the same weights.

# %% tags=["slow"]
lesson.about_data()

# %% tags=["slow"]
data, width = lesson.data.without_test(), lesson.choose(smoke=64, full=256, paper=1024)

def layers():
    sizes = [data.train.x[0].size, width, width, width, 10]
    for i, (inputs, outputs) in enumerate(zip(sizes, sizes[1:]), 1):
        yield f"fc{i}", Linear(inputs, outputs, bias=False)
        yield f"bn{i}", BatchNorm1d(outputs)
        yield f"act{i}", ReLU()

nodes = chain(("flatten", Flatten()), *list(layers())[:-1])
net = initialise(Model(nodes, input_shape=data.train.x.shape[1:]), rng=lesson.rng("net"))

# %% tags=["slow"]
passes = max(1, round(55_000 / len(data.train)))
how = dict(epochs=lesson.choose(smoke=1, full=6 * passes, paper=100), lr=0.001,
           optimizer="adam", batch_size=100)

def trained(*methods):
    return FineTune(**how, methods=methods).apply(net, data, Run(lesson.rng("train")))

dense, signs = trained(), trained(BinaryConnect())
behind = trained(BinaryConnect(stochastic=True, ends="real"))
bnn = trained(BNN(size="glorot"))

# %% [markdown]
# `BinaryConnect` keeps floats behind its signs, in $-H..H$. *Stochastic*: each step draws $+H$ with
# probability $(w/H + 1)/2$. Such a net may be used in three ways:

# %% tags=["slow"]
test = lesson.data.test
H = {name: glorot(form.shape) for name, form in behind.forms().items() if len(form.shape) == 2}
found = ways(behind, H, test, rng=lesson.rng("draw"))
Table(["drawn in training", "test error, %", "kB"],
      [[way.name, f"{100 * way.score.error:.2f}", f"{way.bytes / 1000:.1f}"] for way in found])

# %% tags=["slow"]
ends = np.concatenate([np.abs(behind.forms()[name].dense().data).ravel() / h
                       for name, h in H.items()])
saturated = 100 * np.mean(ends >= 0.9)
f"{saturated:.1f} % of the real weights lie within a tenth of H of an end"

# %% [markdown]
# Recorded on MNIST: real weights {{mnist:error_real}}, their signs {{mnist:error_drawn}}, the mean
# of ten drawn nets {{mnist:error_mean}}. A file of one bit a weight is not what this trains for.
# Drawing is noise, as dropout is: it regularises whoever trains a thousand epochs, as the paper
# did. In six it costs: signs that were not drawn err on {{mnist:error_signs}}.
#
# ## A program of bits
#
# `BNN` makes the activations signs too. Then a layer is exercise 2, its batch norm exercise 3. The
# first reads pixels: `PTQ` makes them codes of 8 bits.

# %% tags=["slow"]
ready = PTQ().apply(bnn, data, Run(lesson.rng("calibrate")))
models = {"float": dense, "BinaryConnect": signs, "BNN": ready}
programs = {name: lower(model, precision="binary" if name == "BNN" else "float")
            for name, model in models.items()}

def milliseconds(batch):
    x = test.x[:batch]
    plans = {name: program.plan(batch) for name, program in programs.items()}
    calls = {name: lambda plan=plan: plan(x) for name, plan in plans.items()}
    with blas(1):
        times = race(calls, seconds=lesson.choose(smoke=0.2, full=2), shortest=0.001)
    return {name: 1000 * seconds for name, seconds in times.items()}

one, batch = milliseconds(1), milliseconds(64)

# %% tags=["slow"]
sizes = {name: save(model, "net.mcz") / 1000 for name, model in models.items()}
said = {name: predicted(program, test.x) for name, program in programs.items()}
wrong = {name: 100 * np.mean(y != test.y) for name, y in said.items()}
error_bnn = 100 * evaluate(bnn, test).error
flips = int(np.sum(said["BNN"] != predicted(bnn, test.x)))
Table(["", "file, kB", "test error, %", "1 image, ms", "64 images, ms"],
      [[name, f"{sizes[name]:.1f}", f"{wrong[name]:.2f}", f"{one[name]:.3f}", f"{batch[name]:.2f}"]
       for name in programs],
      f"The program of bits gives {flips} other answers than the net that was trained, which errs "
      f"on {error_bnn:.2f} %. Your guess: {guess_error}.")

# %% [markdown]
# Recorded on MNIST: {{mnist:bytes_float}} in floats, {{mnist:bytes_signs}} in signs. Errors: float
# {{mnist:error_float}}, signs {{mnist:error_signs}}, all binary {{mnist:error_bits}}.
# BinaryConnect's file is small and its program no faster: what it reads is float. The program of
# bits is {{mnist:faster_1}} times as fast for one image, {{mnist:faster_64}} times for 64.
#
# Is that exercise 3? A layer of the program, its sums, and the bits that it gives:

# %% tags=["slow"]
(layer,) = (i for i in programs["BNN"].instructions if i.name == "fc2")
scale, norm, rule = (layer.arrays[name] for name in ("scale", "gain", "thresholds"))
s = np.arange(-width, width + 1)[:, None]
y = s.astype(np.float32) * scale * norm + layer.arrays["bias"]
np.array_equal(np.where(rule.below, s <= rule.at, s >= rule.at), y >= 0), int(rule.below.sum())

# %% tags=["slow"]
save(ready, "net.mcz")
print(passport(ready, path="net.mcz", data=test, run=programs["BNN"].plan()).summary())

# %% tags=["slow"]
three = [100 * way.score.error for way in found]
lesson.record(
    error_float=wrong["float"], error_signs=wrong["BinaryConnect"], error_real=three[0],
    error_drawn=three[1], error_mean=three[2], error_bnn=error_bnn, error_bits=wrong["BNN"],
    flips=flips, bytes_float=sizes["float"], bytes_signs=sizes["BinaryConnect"],
    bytes_bnn=sizes["BNN"], faster_1=one["float"] / one["BNN"],
    faster_64=batch["float"] / batch["BNN"], saturated=saturated, popcount=ms["popcount"],
    sgemm=ms["sgemm"], naive=ms["naive"], beats_sgemm=ms["sgemm"][0] / ms["popcount"][0],
    beats_naive=ms["naive"][0] / ms["popcount"][0], few=ms["sgemm"][2] / ms["popcount"][2])

# %% [markdown]
# ## The papers' rows beside ours
#
# Test errors on MNIST, percent. **Ours is a small variant:** 256 units where the papers have 1,024
# and 4,096, a few epochs where they have 1,000, cross-entropy instead of their hinge loss.

# %% tags=["slow"]
lesson.beside_paper(["", "float", "BinaryConnect", "stochastic", "all binary"],
                    ["Courbariaux 2015, 2016", "1.30", "1.29", "1.18", "0.96"],
                    [f"{e:.2f}" for e in (wrong["float"], wrong["BinaryConnect"], three[0],
                                          error_bnn)])

# %% [markdown]
# (Theirs, stochastic, is that of the real weights too.)
#
# ## Where it breaks: a function to expose (6 minutes)
#
# Somebody else's `packed_dot` passed all of *their* tests, of 64 signs +1. It has one of four
# faults, drawn for your name: bits behind the last sign count; the sign of 0 is -1; a product below
# 0 wraps round; the bits of a byte stand the other way round. Find an input that shows this fault
# alone: your variant is wrong on it, and functions with the other three faults are right.

# %%
broken = lesson.broken("16.packed_dot")
broken(np.ones(64), np.array([2**64 - 1], np.uint64))

# %% tags=["exercise:16.broken"]
def failing_input():
    """Returns (x, w): shows `broken` alone."""
    ### BEGIN SOLUTION
    return np.array([1.0, -1.0]), np.array([0b01], np.uint64)  # shows the fault of an empty name
    ### END SOLUTION

# %% tags=["check:16.broken"]
check("16.broken", failing_input, lesson)

# %% [markdown]
# ## The compiled twin
#
# NumPy does exercise 2 row by row and writes every XOR to memory; the kernel counts in registers.

# %% tags=["slow"]
def pair(rows, inner, out):
    draw = lesson.rng("twin")
    a, w = (pack_signs(draw.normal(size=(each, inner))) for each in (rows, out))
    packed = pack(w, inner)
    return lambda: gemm_ref(a, w, inner), lambda: gemm(a, packed)

lesson.twin("bits", [("64 x 1,024 x 1,024", *pair(64, 1024, 1024)),
                     ("1 x 1,000 x 10", *pair(1, 1000, 10)), ("64 x 9 x 16", *pair(64, 9, 16))])

# %% [markdown]
# Where bits lose you saw in the plot: packing costs a pass over the floats, and only long sums pay
# for it. In a program of bits signs are packed once, where they arise.
#
# ## Reflection (5 minutes)
#
# A sensor with a small battery shall tell digits. Float, binary weights or all binary: what do you
# take, what does it cost in errors, and where will popcount not help you? Use the numbers of your
# run.

# %% tags=["reflect:16.r1"]
reflect("16.r1", """
""")

# %% [markdown]
# ## Next
#
# One bit a weight is 32 times smaller, at best. Lesson 17 goes further: prune, share, code.
