# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # Lesson 2: LeNets and the passport
#
# "Our network is ten times smaller!" Smaller than what: in numbers stored, in bytes on disk, in
# multiplications, in milliseconds? **Which layer of LeNet-5 would you shrink first?** It depends
# on which of the four you mean, and they disagree.
#
# **Needs:** multiplication. **Time:** 55 minutes. **You will have:** counted two nets by hand,
# exactly, and read the passport that every later lesson prints.

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

from minicomp import no_grad, save
from minicomp.passport import passport
from minicomp.teach import Lesson, check, figures, hint, predict, reflect
from minicomp.teach.live import timing
from minicomp.teach.asking.shown import Table

# %% tags=["mode"]
lesson = Lesson("02", mode="full", student="", course="open")
lesson

# %% [markdown]
# ## Warm-up (3 minutes)
#
# 1. How many numbers has a 3 x 3 filter that reads one channel? Ten such filters, with a bias each?
# 2. You slide a 3 x 3 window over a 5 x 5 image. At how many places does it fit?
# 3. How many bytes is a float32?
#
# <details><summary>Answers</summary>
#
# 1. 9; and 10 x 9 + 10 = 100.  2. 3 x 3 = 9.  3. 4.
#
# </details>
#
# ## Symbols
#
# | | |
# |---|---|
# | $c, o$ | channels in, channels out |
# | $h, w$ | height and width of the input; $h_o, w_o$ of the output |
# | $k, s, p$ | kernel side, stride, padding |
# | $g$ | groups: an output sees only $c/g$ inputs |
# | MAC | multiply-accumulate: one product added to a sum |

# %% [markdown]
# ## Your guess (2 minutes)
#
# LeNet-5, as the compression papers mean it: conv 5 x 5 to 20 maps, pool, conv 5 x 5 to 50 maps,
# pool, 500 units, 10 outputs. Which of `"conv1"`, `"conv2"`, `"fc1"`, `"fc2"` has the most bytes,
# and which the most MACs?

# %% tags=["predict:02.p1"]
most_bytes = predict("02.p1", None)

# %% tags=["predict:02.p2"]
most_macs = predict("02.p2", None)

# %% [markdown]
# ## A toy: one filter on 5 x 5 pixels
#
# Nine weights, nine places: each weight is used nine times. A fully connected unit on the same
# image has 25 weights and uses each once.

# %%
image, weights = np.arange(25).reshape(5, 5), np.ones((3, 3), int)
places = np.lib.stride_tricks.sliding_window_view(image, (3, 3))
out = (places * weights).sum((2, 3))
out, f"{weights.size} weights, {places.size} multiplications"

# %% [markdown]
# ## Exercise 1: a fully connected layer (5 minutes)
#
# `inputs` numbers in, `outputs` numbers out. Return how many parameters it has (weights and, if
# there is one, the bias) and how many MACs an image costs. Our rule, in every lesson: adding the
# bias is no MAC.

# %% tags=["exercise:02.linear_cost"]
def linear_cost(inputs, outputs, bias):
    """Returns (params, macs), two integers; bias: True or False."""
    ### BEGIN SOLUTION
    weights = inputs * outputs
    return weights + (outputs if bias else 0), weights
    ### END SOLUTION

# %% tags=["check:02.linear_cost"]
check("02.linear_cost", linear_cost)

# %% [markdown]
# Stuck? `hint("02.linear_cost", 1)` is the idea, 2 the formula, 3 pseudocode. Every exercise has
# three.
#
# ## Exercise 2: a convolution (10 minutes)
#
# Along one side a window has $h_o = \lfloor (h + 2p - k) / s \rfloor + 1$ places: padding on both
# sides, and a last window that hangs over the edge does not count.

# %% tags=["exercise:02.conv_cost"]
def conv_cost(c, o, h, w, k, stride, padding, groups, bias):
    """Returns (ho, wo, params, macs), four integers."""
    ### BEGIN SOLUTION
    ho = (h + 2 * padding - k) // stride + 1
    wo = (w + 2 * padding - k) // stride + 1
    weights = o * (c // groups) * k * k
    return ho, wo, weights + (o if bias else 0), weights * ho * wo
    ### END SOLUTION

# %% tags=["check:02.conv_cost"]
check("02.conv_cost", conv_cost)

# %% [markdown]
# ## Exercise 3: LeNet-5 by hand (12 minutes)
#
# Walk through a list of layers with the shape in your hand: `("conv", o, k)` with bias, stride 1
# and no padding; `("pool", s)` divides height and width by `s`; `("flatten",)`; `("linear", o)`
# with bias. Return one row `(params, macs)` for each layer that has weights, and leave the list as
# it is.

# %% tags=["exercise:02.model_cost"]
def model_cost(shape, layers):
    """shape: (c, h, w); layers: list of tuples. Returns an array of whole numbers, (n, 2)."""
    ### BEGIN SOLUTION
    c, h, w = shape
    rows = []
    for kind, *args in layers:
        if kind == "conv":
            h, w, params, macs = conv_cost(c, args[0], h, w, args[1], 1, 0, 1, True)
            c = args[0]
            rows.append((params, macs))
        elif kind == "pool":
            h, w = h // args[0], w // args[0]
        elif kind == "flatten":
            n = c * h * w
        else:
            rows.append(linear_cost(n, args[0], True))
            n = args[0]
    return np.array(rows)
    ### END SOLUTION

# %% tags=["check:02.model_cost"]
check("02.model_cost", model_cost)

# %% [markdown]
# ## The real nets (8 minutes, of which the machine may take 3 the first time)
#
# minicomp counts too, and beyond counting it measures: bytes from a file on disk, errors on test
# images, milliseconds by the clock. That is a **passport**.

# %% tags=["slow"]
lesson.about_data()

# %% tags=["slow"]
nets = {name: lesson.checkpoint(name) for name in ("lenet300", "lenet5")}
cards = {}
for name, net in nets.items():
    save(net, f"{name}.mcz")
    cards[name] = passport(net, path=f"{name}.mcz", data=lesson.data.test)
    print(f"{name}: {cards[name].summary()}")

# %% tags=["slow"]
card = cards["lenet5"]
Table(["layer", "parameters", "MACs", "bytes in the file"],
      [[r.name, f"{r.parameters:,}", f"{r.macs:,}", f"{sum(r.bytes.values()):,.0f}"]
       for r in card.layers],
      f"LeNet-5: {card.parameters:,} parameters, {card.macs:,} MACs, "
      f"{card.file_bytes:,} bytes.")

# %% [markdown]
# Four bytes a parameter would be 1,724,320. The file takes about a fifth less, and not one bit of
# a weight is lost: weights are of similar size, so their leading bits are alike, and alike bits
# can be coded. In this course a ratio is always *dense bytes, four a parameter, divided by the
# bytes of a file that can be loaded again*, header included.
#
# ## The plot to remember

# %% tags=["plot", "slow", "memorable"]
lesson.show(figures.bars_swap([r.name for r in card.layers],
                              [4 * r.parameters for r in card.layers],
                              [r.macs for r in card.layers]))

# %% tags=["slow"]
f"bytes: you said {most_bytes}; MACs: you said {most_macs}"

# %% [markdown]
# **The bars swap.** A weight of fc1 is used once per image; a weight of conv2 at 64 places.
# Whoever wants a small file works on the fully connected layers; whoever wants speed, on the
# convolutions.
#
# ## The papers' rows beside ours
#
# Han and others, 2015, give work as operations, two a MAC, rounded: conv1 576K, conv2 3200K, fc1
# 800K, fc2 10K. Twice your column gives exactly those. Their errors:

# %% tags=["slow"]
errors = {name: 100 * card.error for name, card in cards.items()}
lesson.beside_paper(["", "LeNet-300-100, %", "LeNet-5, %"],
                    ["Han 2015", "1.64", "0.80"], [f"{e:.2f}" for e in errors.values()])

# %% [markdown]
# ## And the clock?
#
# MACs are not time. Each layer of LeNet-5 alone, 64 images at once:

# %% tags=["slow"]
def layer_times(net, x):
    """Median seconds of each node, its inputs computed before."""
    with no_grad():
        _, seen = net(x, taps=[n.name for n in net.nodes])
        inputs = dict(zip([n.name for n in net.nodes], [x, *seen.values()]))
        runs = {n.name: lambda n=n: n.layer(inputs[n.name]) for n in net.nodes}
        return {name: timing.side_by_side(run, run, seconds=0.1)[0]
                for name, run in runs.items()}

# %% tags=["slow"]
from minicomp import Tensor

times = layer_times(nets["lenet5"], Tensor(lesson.data.test.x[:64]))
total = sum(times.values())
macs = nets["lenet5"].macs()
Table(["node", "MACs, %", "time, %", "µs"],
      [[n, f"{100 * macs[n] / card.macs:.1f}", f"{100 * t / total:.1f}",
        f"{1e6 * t:,.0f}"] for n, t in times.items()],
      "Pooling has no MACs and takes time all the same: it moves memory.")

# %% tags=["slow"]
convs = ("conv1", "conv2")
rows = {r.name: r for r in card.layers}
lesson.record(error_lenet300=errors["lenet300"], error_lenet5=errors["lenet5"],
              fc1_bytes=100 * rows["fc1"].parameters / card.parameters,
              conv_macs=100 * sum(macs[c] for c in convs) / card.macs,
              conv_time=100 * sum(times[c] for c in convs) / total)

# %% [markdown]
# Recorded on MNIST: fc1 holds {{mnist:fc1_bytes}} of the bytes; the convolutions do
# {{mnist:conv_macs}} of the MACs and take {{mnist:conv_time:range}} of the time; errors
# {{mnist:error_lenet300}} and {{mnist:error_lenet5}}.
#
# ## Where it breaks: a function to expose (6 minutes)
#
# Somebody else's `conv_cost` agrees with yours on every layer of LeNet-5. It has one of four
# faults, drawn for your name in the second cell: padding on one side only; a last window that
# hangs over the edge counts; groups are forgotten; the map is taken as square. Find an input that
# shows this fault alone: your variant is wrong on it, and functions with the other three faults
# are right.

# %%
broken = lesson.broken("02.conv_cost")
broken(1, 20, 28, 28, 5, 1, 0, 1, True), broken(20, 50, 12, 12, 5, 1, 0, 1, True)

# %% tags=["exercise:02.broken"]
def failing_input():
    """Returns (c, o, h, w, k, stride, padding, groups, bias): shows `broken` alone."""
    ### BEGIN SOLUTION
    return 2, 2, 3, 3, 2, 1, 0, 2, True  # shows the fault of an empty name
    ### END SOLUTION

# %% tags=["check:02.broken"]
check("02.broken", failing_input, lesson)

# %% [markdown]
# ## The compiled twin
#
# A fully connected layer is a matrix product, and NumPy hands that to a library that people have
# tuned for decades (BLAS). minicomp's kernel adds the bias in the same pass. Equal results up to
# rounding; who is faster?

# %% tags=["slow"]
from minicomp.kernels.maps import dense as kernel

def pair(n, i, o):
    rng = lesson.rng("twin")
    x, w, b = (rng.normal(size=s).astype(np.float32) for s in ((n, i), (o, i), o))
    return lambda: kernel.linear_ref(x, w, b), lambda: kernel.linear(x, w, b)

# %% tags=["slow"]
shapes = [(2, 100, 10), (2, 784, 300), (64, 784, 300), (64, 1000, 1000)]
cases = [(f"{n} x {i} -> {o}", *pair(n, i, o)) for n, i, o in shapes]
lesson.twin("maps", cases, rtol=1e-5)

# %% [markdown]
# For two images the kernel loses: it first rearranges the weights, and that is nearly all the
# work there is. From eight images or so on, it pays. A single image it does not even try: it
# leaves that to BLAS.
#
# ## Reflection (5 minutes)
#
# An advertisement says: *we removed 90 % of LeNet-5's parameters, so it runs ten times faster.*
# Answer in at most 120 words, with numbers of this lesson.

# %% tags=["reflect:02.r1"]
reflect("02.r1", """
""")

# %% [markdown]
# ## Next
#
# Lesson 4 removes weights, and the passport will say what that brought: in parameters much, in
# milliseconds little.
