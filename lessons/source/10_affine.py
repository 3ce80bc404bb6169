# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # Lesson 10: Uniform quantization: affine, symmetric, per channel
#
# A weight takes 32 bits. Eight are enough, people say, sometimes four; and sometimes a net with
# excellent weights then merely guesses. **What decides whether rounding harms?**
# Krishnamoorthi asked in 2018, and the answer was one word in a table.
#
# **Needs:** fractions; mean and maximum. **Time:** 60 minutes. **You will have:** the rounding
# rules of every integer format, and a net in a sixth of its bytes.

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

from minicomp import grid, save
from minicomp.compress import FoldBN
from minicomp.compress.quant.schemes import Scheme, sqnr
from minicomp.compress.technique import Run, weights
from minicomp.passport import passport
from minicomp.teach import Lesson, check, figures, hint, predict, reflect
from minicomp.teach.asking.shown import Table
from minicomp.teach.live import timing
from minicomp.train import evaluate

# %% tags=["mode"]
lesson = Lesson("10", mode="full", student="", course="open")
lesson

# %% [markdown]
# ## Warm-up (3 minutes)
#
# 1. How many numbers can 3 bits name? How many steps lie between the first and the last?
# 2. Round 0.5, 1.5 and 2.5 to whole numbers so that, on average, nothing is added.
# 3. A ruler has marks every 4 mm. How far can a point be from the nearest mark?
#
# <details><summary>Answers</summary>
#
# 1. Eight, and seven steps.  2. 0, 2, 2: half to even.  3. 2 mm, half a step.
#
# </details>
#
# ## Symbols
#
# | | |
# |---|---|
# | $x$, $\hat x$ | a value, and what is stored of it |
# | $b$ | bits of a code |
# | $q$ | code: an integer, $0$ to $2^b - 1$ |
# | $s$ | scale: what one step of the code is worth |
# | $z$ | zero point: the code of the value 0 |
# | $\lfloor \cdot \rceil$ | rounded to the nearest integer, ties to the even one |

# %% [markdown]
# ## Your guess (2 minutes)
#
# A small net of depthwise convolutions, batch norm folded, errs on a few percent of the digits.
# Its weights are rounded to 4 bits, nothing is retrained. What is the error with one scale for
# each layer? With one for each output channel?

# %% tags=["predict:10.p1"]
guess_layer = predict("10.p1", None)

# %% tags=["predict:10.p2"]
guess_channel = predict("10.p2", None)

# %% [markdown]
# ## A toy: five numbers, eight codes
#
# $$q = \mathrm{clip}\left(\left\lfloor \frac{x}{s} \right\rceil + z,\ 0,\ 2^b - 1\right),
# \qquad \hat x = s\,(q - z)$$
#
# This is called *affine*. The range -1 to 3 in 3 bits has $s = 4/7$ and $z = 2$:

# %%
x, s, z = np.array([-1, -0.3, 0, 1.5, 4]), 4 / 7, 2
q = np.clip(np.rint(x / s) + z, 0, 7)
np.round([x, q, s * (q - z), s * (q - z) - x], 2)

# %% [markdown]
# 0 comes back exactly. Inside the range nothing is off by more than $s/2$, 0.29. The 4 lies
# outside: it *saturates*, and its error has no bound.
#
# ## Exercise 1: scale and zero point (8 minutes)
#
# Given a range, which $s$ and $z$? The range must contain 0 (zeros are everywhere: padding, ReLU,
# pruned weights): one that does not is stretched to it, 2..3.4 to 0..3.4. Then $r_{min}$ gets code
# 0, $r_{max}$ the last one, and
#
# $$s = \frac{r_{max} - r_{min}}{2^b - 1},\qquad z = \left\lfloor -r_{min}/s \right\rceil .$$
#
# If both are 0, $s = 1$ and $z = 0$. Return $(s, z)$, $z$ an integer. (Python's `round` takes ties
# to the even integer.)

# %% tags=["exercise:10.affine_params"]
def affine_params(r_min, r_max, bits):
    """r_min <= r_max: numbers; returns the scale, a float, and the zero point, an int."""
    ### BEGIN SOLUTION
    r_min, r_max = min(r_min, 0), max(r_max, 0)
    if r_min == r_max:
        return 1.0, 0
    scale = (r_max - r_min) / (2**bits - 1)
    return scale, round(-r_min / scale)
    ### END SOLUTION

# %% tags=["check:10.affine_params"]
check("10.affine_params", affine_params)

# %% [markdown]
# Stuck? `hint("10.affine_params", 1)` is the idea, 2 the formula, 3 pseudocode. Every exercise has
# three.
#
# ## Exercise 2: codes and back (10 minutes)
#
# The formulas of the toy, for an array. Their order is part of the format: round $x/s$ *first*,
# then add $z$, then clip. Toolkits that swap two of these differ from one another by one code.
# Leave the arguments of your functions as they are.

# %% tags=["exercise:10.quantize"]
def quantize(x, scale, zero_point, bits):
    """x: float array; returns its codes, an integer array, and the values they stand for."""
    ### BEGIN SOLUTION
    q = np.clip(np.rint(x / scale) + zero_point, 0, 2**bits - 1).astype(int)
    return q, scale * (q - zero_point)
    ### END SOLUTION

# %% tags=["check:10.quantize"]
check("10.quantize", quantize)

# %% [markdown]
# ## Exercise 3: one scale, or many (12 minutes)
#
# Weights lie around 0, so their grid may be *symmetric*: $z = 0$, codes $-Q..Q$ with
# $Q = 2^{b-1} - 1$, and $s = \max|w| / Q$ (1 where all are 0). Either all weights share $s$, or
# each output channel (axis 0) has its own. Return the scales, the mean squared error of
# $\hat w = s \lfloor w/s \rceil$, and the bytes: $b$ bits a weight, rounded up to whole bytes, and
# 4 bytes a scale.

# %% tags=["exercise:10.weight_scales"]
def weight_scales(w, bits, per_channel):
    """w: (O, ...) array; returns scales, (O,) or (1,), the error, and bytes, an int."""
    ### BEGIN SOLUTION
    rows = w.reshape(len(w) if per_channel else 1, -1)
    scale = np.abs(rows).max(axis=1) / (2 ** (bits - 1) - 1)
    scale[scale == 0] = 1
    error = rows - scale[:, None] * np.rint(rows / scale[:, None])
    return scale, np.mean(error**2), (w.size * bits + 7) // 8 + 4 * len(scale)
    ### END SOLUTION

# %% tags=["check:10.weight_scales"]
check("10.weight_scales", weight_scales)

# %% [markdown]
# ## A depthwise net (10 minutes, of which the machine takes about 1)
#
# In a depthwise convolution each channel has nine weights of its own. Batch norm behind it divides
# each channel by its own deviation; for integers it is *folded* into the weights (lesson 12 asks
# you for that), and then channels have ranges of their own:

# %% tags=["slow"]
lesson.about_data()

# %% tags=["slow"]
trained = lesson.checkpoint("depthwise32")
net = FoldBN().apply(trained, None, Run(lesson.rng("fold")))
names = weights(net)

def peaks(layer):
    w = net.forms()[names[layer]].dense().data
    return np.abs(w).reshape(len(w), -1).max(axis=1)

# %% tags=["slow"]
rows = [[layer, len(p), f"{p.min():.2f}", f"{np.median(p):.2f}", f"{p.max():.2f}"]
        for layer, p in ((layer, peaks(layer)) for layer in names)]
Table(["layer", "channels", "narrowest", "median", "widest"], rows,
      "Largest |w| of a channel, batch norm folded.")

# %% [markdown]
# One scale for a layer must reach its widest channel, and the narrow ones share what few codes are
# left. In minicomp a `Scheme` says how a weight lies on a grid.

# %% tags=["slow"]
def quantized(bits, **how):
    out = net.copy()
    scheme = Scheme(bits, **how)
    out.set_forms({name: scheme.form(out.forms()[name]) for name in names.values()})
    return out

def error(model):
    return 100 * evaluate(model, lesson.data.test).error

# %% tags=["slow"]
widths, dense = [8, 6, 4, 3], error(net)
tensor = [error(quantized(b, per="tensor")) for b in widths]
channel = [error(quantized(b, per="channel")) for b in widths]
affine_4 = error(quantized(4, per="tensor", grid="full", zero_point=True))
Table(["bits", "a scale a layer, %", "a scale a channel, %"],
      [[b, f"{t:.2f}", f"{c:.2f}"] for b, t, c in zip(widths, tensor, channel)],
      f"Float: {dense:.2f} %. Affine, 4 bits, a range a layer: {affine_4:.2f} %.")

# %% [markdown]
# ## The plot to remember

# %% tags=["plot", "slow", "memorable"]
lesson.show(figures.staircase(-1, 3, 3, widths, tensor, channel, dense,
                              guesses=(guess_layer, guess_channel)))

# %% [markdown]
# Left, your exercise 2: the error is a saw of height $s/2$, so what counts is how large $s$ is.
# Right, the net. Recorded on MNIST, five nets: float {{mnist:error_dense}}; 4 bits with a scale a
# layer {{mnist:tensor_4}} (from {{mnist:tensor_4:range}}), with a scale a channel
# {{mnist:channel_4}}. A zero point does not save the layer: {{mnist:affine_4}}. At 8 bits nothing
# falls, {{mnist:tensor_8}} and {{mnist:channel_8}}: in block1.dw the widest channel is only
# {{mnist:spread}} times the median one, and 127 codes bear that, 7 do not. Where does a scale of
# its own help most?

# %% tags=["slow"]
def noise(layer, per):
    form = net.forms()[names[layer]]
    return sqnr(form.dense().data, Scheme(4, per=per).form(form).dense().data)

Table(["4 bits", "a scale a layer, dB", "a scale a channel, dB"],
      [[layer, *(f"{noise(layer, per):.1f}" for per in ("tensor", "channel"))]
       for layer in names], "Signal to rounding noise: 10 dB are a factor of ten.")

# %% [markdown]
# ## The paper's row beside ours
#
# MobileNet v1 on ImageNet, 8-bit weights, quoted from memory: right answers in percent. Its ranges
# differ far more than ours, so it fell at 8 bits already; ours stands here with 4.

# %% tags=["slow"]
lesson.beside_paper(["weights rounded", "affine, a layer", "symmetric, a channel", "float"],
                    ["Krishnamoorthi 2018, 8 bits", "0.1", "59.1", "70.9"],
                    [f"{100 - e:.1f}" for e in (affine_4, channel[2], dense)],
                    about=[lesson.data])

# %% [markdown]
# What does a scale for each channel cost? Files:

# %% tags=["slow"]
kinds = {"float32": net, "8 bits, a layer": quantized(8, per="tensor"),
         "8 bits, a channel": quantized(8), "4 bits, a layer": quantized(4, per="tensor"),
         "4 bits, a channel": quantized(4)}
sizes = {name: save(model, "depthwise.mcz") / 1000 for name, model in kinds.items()}
Table(["", "file, kB"], [[name, f"{size:.1f}"] for name, size in sizes.items()])

# %% tags=["slow"]
card = passport(kinds["4 bits, a channel"], path="depthwise.mcz", data=lesson.data.test)
print(card.summary())

# %% tags=["slow"]
wide = peaks("block1.dw")
lesson.record(error_dense=dense, tensor_8=tensor[0], channel_8=channel[0], tensor_4=tensor[2],
              affine_4=affine_4, channel_4=channel[2], spread=wide.max() / np.median(wide),
              bytes_dense=sizes["float32"], bytes_8=sizes["8 bits, a channel"],
              bytes_4=sizes["4 bits, a channel"], bits=widths, tensor=tensor, channel=channel)

# %% [markdown]
# Recorded on MNIST: {{mnist:bytes_dense}} in float32, {{mnist:bytes_8}} with 8 bits,
# {{mnist:bytes_4}} with 4.
#
# ## Where it breaks: a function to expose (6 minutes)
#
# Somebody else's `quantize` passed all of *their* tests, of whole numbers inside the range. It has
# one of four faults, drawn for your name: ties go up; the zero point is added before rounding; it
# cuts off instead of rounding; it does not saturate. Find an input that shows this fault alone:
# your variant is wrong on it, and functions with the other three faults are right.

# %%
broken = lesson.broken("10.quantize")
broken(np.array([1.0, 2.0]), 1.0, 0, 2)

# %% tags=["exercise:10.broken"]
def failing_input():
    """Returns (x, scale, zero_point, bits), x an array: shows `broken` alone."""
    ### BEGIN SOLUTION
    return np.array([-0.5]), 1.0, 1, 2  # shows the fault of an empty name
    ### END SOLUTION

# %% tags=["check:10.broken"]
check("10.broken", failing_input, lesson)

# %% [markdown]
# ## The compiled twin
#
# Are small integers fast? In NumPy, a product of integers against one of floats, the same numbers:

# %% tags=["slow"]
codes = lesson.rng("codes").integers(-7, 8, size=(2, 128, 128))
a, b = codes.astype(np.int32)
np.testing.assert_array_equal(a @ b, a.astype(np.float32) @ b.astype(np.float32))
ints, floats = timing.side_by_side(lambda: a @ b,
                                   lambda: a.astype(np.float32) @ b.astype(np.float32))
f"int32: {1000 * ints:.2f} ms; float32, with the conversion: {1000 * floats:.2f} ms"

# %% [markdown]
# NumPy's floats go to BLAS, its integers to a plain loop: fewer bits are not faster by themselves.
# And the rounding itself? minicomp compiles it for scales that are powers of two, here 1/64 in 8
# bits. (Its ties go down: a third rule beside half-even and half-up.)

# %% tags=["slow"]
from minicomp.kernels.int8 import rounding

def pair(n):
    x = lesson.rng("twin").normal(size=n).astype(np.float32)
    return (lambda: rounding.nearest_round_ref(x, 6, -127, 127),
            lambda: rounding.nearest_round(x, 6, -127, 127))

lesson.twin("int8", [(f"{n:,} numbers", *pair(n)) for n in (10, 1000, 100_000)])

# %% [markdown]
# NumPy passes over the array once for each operation, the kernel once for all.
#
# ## Reflection (5 minutes)
#
# A colleague quantized a net to 4 bits with one scale a layer, saw it collapse, and concludes that
# 4 bits are too few. What do you answer, with the numbers of your run, and what does your cure
# cost in bytes? When would your cure not help?

# %% tags=["reflect:10.r1"]
reflect("10.r1", """
""")

# %% [markdown]
# ## Next
#
# Weights show their range. Activations show theirs only when data come: lesson 11 calibrates.
