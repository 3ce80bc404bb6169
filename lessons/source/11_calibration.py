# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # Lesson 11: Calibration, bias correction, full int8
#
# Lesson 10 rounded weights. A chip without floats must round activations too, and sums. **What can
# a few hundred images, without labels, tell it?** More than one thinks; and once they mislead.
#
# **Needs:** means, histograms, logarithms; lesson 10's formulas. **Time:** 70 minutes. **You will
# have:** a net in which nothing is float, and its price list.

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
from minicomp.compress import PTQ, QAT, FineTune, FoldBN
from minicomp.compress.quant import ranges
from minicomp.compress.technique import Run
from minicomp.deploy import lower
from minicomp.kernels.int8 import requantize as library
from minicomp.kernels.threads import blas
from minicomp.passport import passport
from minicomp.quality import predicted
from minicomp.teach import Lesson, check, figures, hint, predict, reflect
from minicomp.teach.asking.shown import Table
from minicomp.timing import race
from minicomp.train import evaluate

# %% tags=["mode"]
lesson = Lesson("11", mode="full", student="", course="open")
lesson

# %% [markdown]
# ## Warm-up (3 minutes)
#
# 1. Every input of a layer is at least 0. One weight grew by 0.1. Which way do its outputs move?
# 2. Codes 0..255 for values 0..6: how wide is a step? How wide if one value is 60?
# 3. Round 7 · 0.3 with whole numbers alone: 0.3 is about 77/256.
#
# <details><summary>Answers</summary>
#
# 1. Up, all of them.  2. 0.024; 0.24.  3. (7 · 77 + 128) >> 8 is 2.
#
# </details>
#
# ## Symbols
#
# | | |
# |---|---|
# | $w$, $\hat w$ | a weight, and what rounding made of it |
# | $E$ | mean over the examples at hand |
# | $c_k$ | how many values have their magnitude in bin $k$ |
# | $T$ | threshold: larger values are clipped to it |
# | $P$, $Q$ | what was seen, clipped; what $L$ codes can say of it |
# | $M = 2^{-n} M_0$ | a real factor as a 32-bit integer and a shift |

# %% [markdown]
# ## Your guess (2 minutes)
#
# Lesson 10's depthwise net at 4 bits, one scale a layer, errs on about half of the digits. Only its
# biases are changed. What is the error? And how many times as fast as in float is the net on
# integers alone, one image at a time?

# %% tags=["predict:11.p1"]
guess_bias = predict("11.p1", None)

# %% tags=["predict:11.p2"]
guess_speed = predict("11.p2", None)

# %% [markdown]
# ## A toy: five examples behind a ReLU

# %%
w = np.array([0.7, 0.6, -0.4])
x = lesson.rng("toy").random((5, 3))  # nothing is below 0
np.round(x @ np.rint(w) - x @ w, 2)

# %% [markdown]
# All five outputs move the same way: over examples nothing averages out.
#
# ## Exercise 1: take it back (8 minutes)
#
# On average output channel $c$ moves by
#
# $$E[\hat w x]_c - E[w x]_c = \sum_i (\hat w - w)_{ci}\, E[x_i] .$$
#
# Nagel and others (2019) subtract this from the bias. Return the new bias. Leave the arguments of
# your functions as they are.

# %% tags=["exercise:11.corrected_bias"]
def corrected_bias(w, w_hat, b, x):
    """w, w_hat: (O, C); b: (O,); x: (N, C), what the layer reads; returns (O,)."""
    ### BEGIN SOLUTION
    return b - (w_hat - w) @ x.mean(axis=0)
    ### END SOLUTION

# %% tags=["check:11.corrected_bias"]
check("11.corrected_bias", corrected_bias)

# %% [markdown]
# Stuck? `hint("11.corrected_bias", 1)` is the idea, 2 the formula, 3 pseudocode. Every exercise
# has three.
#
# ## Exercise 2: where to clip (15 minutes)
#
# A range that ends at $T < \max|x|$ clips a few values and gives all others a finer step. Migacz
# (2017) lets the histogram decide. For every cut $i = L..n$:
#
# - $P$ is $c_0..c_{i-1}$, and all counts beyond are added to its last bin.
# - $Q$ is $c_0..c_{i-1}$, *without* those, on $L$ levels: bin $k$ belongs to level
#   $\lfloor k L / i \rfloor$, and the sum of a level is shared equally by those of its bins that
#   are not empty.
#
# Divide both by their sums. $KL = \sum_k p_k \log (p_k/q_k)$ over the bins with $p_k > 0$; a cut
# where such a bin has $q_k = 0$ is skipped. Return $T = (i + \frac{1}{2})$ width of the least $KL$,
# and that $KL$.

# %% tags=["exercise:11.kl_threshold"]
def kl_threshold(counts, width, levels):
    """counts: (n,) floats, the c; width: of a bin; levels: L. Returns T and KL."""
    ### BEGIN SOLUTION
    best = np.inf, 0
    for i in range(levels, len(counts) + 1):
        p, full, level = counts[:i].copy(), counts[:i] > 0, np.arange(i) * levels // i
        p[-1] += counts[i:].sum()
        mass, bins = np.bincount(level, counts[:i]), np.bincount(level, full)
        if p[-1] > 0 and not full[-1]:
            continue
        p, q = p[full] / p.sum(), (mass / np.maximum(bins, 1))[level][full]
        best = min(best, (np.sum(p * np.log(p * q.sum() / q)), (i + 0.5) * width))
    return best[1], best[0]
    ### END SOLUTION

# %% tags=["check:11.kl_threshold"]
check("11.kl_threshold", kl_threshold)

# %% [markdown]
# ## Exercise 3: sums become codes (12 minutes)
#
# Products of codes add up to 32-bit sums. One step of a sum is worth $s_x s_w$, one of the next
# code $s_y$, so the code is $M\,\mathrm{acc} + z$ with $M = s_x s_w / s_y$: a float. Jacob and
# others (2018) write $M = 2^{-n} M_0$: $M = f\,2^e$ with $\frac{1}{2} \leq f < 1$,
# $M_0 = \lfloor 2^{31} f \rceil$, $n = 31 - e$ (should $M_0$ be $2^{31}$, halve it, and $n$ is one
# less). `np.frexp` gives $f$ and $e$. Then
#
# $$q = \mathrm{clip}\left(((\mathrm{acc}\, M_0 + 2^{n-1}) \gg n) + z,\ 0,\ 255\right),$$
#
# in 64 bits. This rule is called `single`: ties go up. Toolkits with other rules differ by one
# code.

# %% tags=["exercise:11.requantize"]
def requantize(acc, m, zero_point):
    """acc: (N,) int32; m: a float above 0; returns M0 and n, ints, and q, (N,) integers."""
    ### BEGIN SOLUTION
    f, e = np.frexp(m)
    m0, n = round(float(f) * 2**31), 31 - int(e)
    if m0 == 2**31:
        m0, n = m0 // 2, n - 1
    q = (acc.astype(np.int64) * m0 + 2 ** (n - 1) >> n) + zero_point
    return m0, n, np.clip(q, 0, 255)
    ### END SOLUTION

# %% tags=["check:11.requantize"]
check("11.requantize", requantize)

# %% [markdown]
# ## A real net (15 minutes, of which the machine takes about 2)
#
# Lesson 10's net, batch norm folded. `PTQ` quantizes after training, with 500 training images to
# calibrate.

# %% tags=["slow"]
lesson.about_data()

# %% tags=["slow"]
data = lesson.data.without_test()

def made(technique):
    return technique.apply(net, data, Run(lesson.rng("calibrate")))

def error(model):
    return 100 * evaluate(model, lesson.data.test).error

net = FoldBN().apply(lesson.checkpoint("depthwise32"), None, Run(lesson.rng("fold")))
dense = error(net)

# %% tags=["slow"]
def rounded(per, correct):
    return error(made(PTQ(mode="weight-only", bits=4, per=per, correct=correct)))

weights = {name: [rounded(per, correct) for correct in ("none", "empirical")]
           for name, per in (("a scale a layer", "tensor"), ("a scale a channel", "channel"))}
Table(["4-bit weights, test error", "rounded, %", "biases corrected, %"],
      [[name, *(f"{e:.2f}" for e in each)] for name, each in weights.items()],
      f"Your guess for the first row, corrected: {guess_bias} %.")

# %% [markdown]
# Recorded on MNIST: float {{mnist:error_dense}}; a scale a layer {{mnist:rounded_4}}, corrected
# {{mnist:corrected_4}}; a scale a channel {{mnist:channel_4}}, corrected
# {{mnist:channel_corrected_4}}. No weight was touched.
#
# Now the activations. Their ranges, by four methods, at three widths:

# %% tags=["slow"]
methods = ["min-max", "mse", "kl", "js"]
widths = lesson.choose(smoke=[8, 4], full=[8, 6, 4])
errors = {method: [error(made(PTQ(act_bits=b, method=method))) for b in widths]
          for method in methods}

# %% [markdown]
# What do they see behind the first layer? Its histogram, and each criterion as the threshold moves
# up to the largest value, the *peak*. (JS compares $P$ and $Q$ with their middle; MSE is the
# rounding error itself.)

# %% tags=["slow"]
stem = ranges.observed(net, data.train.x[:500], ["stem_relu"], method="kl")["stem_relu"]
seen = stem.histogram
counts, width = seen.magnitudes(64, zeros=False)
found = ranges.threshold_curves(seen, bits=9)  # 256 codes a side
cuts = {method: 100 * T[np.argmin(v)] / seen.peak for method, (T, v) in found.items()}
at = np.arange(4.5, 32) / 32  # of the peak

def curve(T, values):  # the least in each 32nd of the peak
    values = np.minimum(values, values[np.isfinite(values)].max())
    part = np.minimum(32 * T / seen.peak, 31).astype(int)
    return np.array([values[part == i].min() for i in range(4, 32)])

curves = {method: curve(*found[method]) for method in methods[1:]}
curves["mse"] /= seen.peak**2

# %% [markdown]
# ## The plot to remember

# %% tags=["plot", "slow", "memorable"]
lesson.show(figures.moving_threshold(counts, at, curves, widths, errors, dense))

# %% [markdown]
# At 4 bits min-max wastes codes: on MNIST {{mnist:min_max_4}} against {{mnist:mse_4}} with MSE. But
# look at 8 bits: KL errs on {{mnist:kl_8}}, JS on {{mnist:js_8}}. The background of a digit is one
# grey, so the first layer's outputs pile up at a few small values. A cut at {{mnist:js_cut}}
# describes these, and clips the digit. A divergence knows how often a value comes, not what it is
# for. No criterion is safe: on glyphs MSE has {{glyphs:mse_4}} at 4 bits, min-max
# {{glyphs:min_max_4}}.
#
# ## Everything in integers
#
# `lower` makes a program of a model: a file to be called, not trained.

# %% tags=["slow"]
how = dict(epochs=lesson.choose(smoke=1, full=round(55_000 / len(data.train))), lr=0.01)
models = {"float32": net, "float16": made(PTQ(mode="float16")),
          "weights only": made(PTQ(mode="weight-only")),
          "dynamic": made(PTQ(mode="dynamic")), "int8": made(PTQ()),
          "int8, trained (QAT)": made(FineTune(**how, methods=(QAT(),))),
          "float32, trained on": made(FineTune(**how))}
precisions = {"weights only": "weight-only", "dynamic": "int8-dynamic", "int8": "int8",
              "int8, trained (QAT)": "int8"}
programs = {name: lower(model, precision=precisions.get(name, "float"))
            for name, model in models.items()}

# %% tags=["slow"]
def milliseconds(batch):
    x = lesson.data.test.x[:batch]
    plans = {name: program.plan(batch) for name, program in programs.items()}
    calls = {name: lambda plan=plan: plan(x) for name, plan in plans.items()}
    with blas(1):  # one thread for all
        taken = race(calls, seconds=lesson.choose(smoke=0.2, full=3), shortest=0.001)
    return {name: 1000 * seconds for name, seconds in taken.items()}

one, many = milliseconds(1), milliseconds(64)

# %% tags=["slow"]
test = lesson.data.test
sizes = {name: save(program, "net.mcz") / 1000 for name, program in programs.items()}
said = {name: predicted(program, test.x) for name, program in programs.items()}
wrong = {name: 100 * np.mean(y != test.y) for name, y in said.items()}
flips = {name: int(np.sum(y != said["float32"])) for name, y in said.items()}
Table(["", "file, kB", "1 image, ms", "64 images, ms", "test error, %", "flips"],
      [[name, f"{sizes[name]:.1f}", f"{one[name]:.3f}", f"{many[name]:.2f}",
        f"{wrong[name]:.2f}", flips[name]] for name in programs],
      f"Flips: test images that get another answer than from the float net. int8 is "
      f"{one['float32'] / one['int8']:.1f} times as fast; your guess: {guess_speed}.")

# %% [markdown]
# Recorded on MNIST: {{mnist:bytes_dense}} in float32, {{mnist:bytes_half}} in float16,
# {{mnist:bytes_int8}} in int8. Storing less is not computing faster: float16 and weights alone are
# made floats again. Integers alone are {{mnist:faster_1}} times as fast for one image,
# {{mnist:faster_64}} times for 64. Dynamic ranges need no calibration, and search for their range
# at every call: {{mnist:slower_dynamic}} times as slow as float.
#
# QAT errs less, {{mnist:qat}} against {{mnist:int8}}; so does the float net that trained on for as
# long, {{mnist:trained}}. And it is no faster, for the program is the same:

# %% tags=["slow"]
def shape(program):
    return [(i.kind, i.shape, {k: np.shape(a) for k, a in i.arrays.items()})
            for i in program.instructions]

same = shape(programs["int8"]) == shape(programs["int8, trained (QAT)"])
f"{len(programs['int8'].instructions)} instructions; the same, but for their numbers: {same}"

# %% [markdown]
# Is that exercise 3? A *trace* holds every integer that a program computes:

# %% tags=["slow"]
trace = programs["int8"].trace(test.x[:1])
acc, m0, n, z, lo, hi, codes = (trace[f"stem_relu_q.{what}"] for what in (
    "accumulators", "multiplier", "shift", "zero_point", "lo", "hi", "codes"))
acc = acc[0].reshape(len(m0), -1).T.astype(np.int64)  # a column a channel
q = np.clip((acc * m0 + (1 << n.astype(np.int64) - 1) >> n) + z, lo, hi)
np.array_equal(q.T.ravel(), codes.ravel())

# %% tags=["slow"]
save(models["int8"], "net.mcz")
card = passport(models["int8"], path="net.mcz", data=test, run=programs["int8"].plan())
print(card.summary())

# %% tags=["slow"]
layer, channel = weights.values()
lesson.record(
    error_dense=dense, rounded_4=layer[0], corrected_4=layer[1],
    channel_4=channel[0], channel_corrected_4=channel[1],
    min_max_4=errors["min-max"][-1], mse_4=errors["mse"][-1], js_8=errors["js"][0],
    kl_8=errors["kl"][0], js_cut=cuts["js"], int8=wrong["int8"], int8_flips=flips["int8"],
    trained=wrong["float32, trained on"], qat=wrong["int8, trained (QAT)"],
    bytes_dense=sizes["float32"], bytes_half=sizes["float16"], bytes_int8=sizes["int8"],
    faster_1=one["float32"] / one["int8"], faster_64=many["float32"] / many["int8"],
    slower_dynamic=one["dynamic"] / one["float32"], bits=widths, min_max=errors["min-max"],
    mse=errors["mse"], kl=errors["kl"], js=errors["js"], counts=counts, at=at,
    kl_curve=curves["kl"], js_curve=curves["js"], mse_curve=curves["mse"])

# %% [markdown]
# ## The papers' rows beside ours
#
# Both on ImageNet, right answers in percent. Nagel's net fell at 8 bits; ours falls at 4. Its
# repair is equalisation and bias correction together. Jacob's numbers are from memory.

# %% tags=["slow"]
lesson.beside_paper(["a scale a layer", "float", "rounded", "repaired"],
                    ["Nagel 2019, MobileNetV2, 8 bits", "71.7", "0.1", "71.2"],
                    [f"{100 - e:.1f}" for e in (dense, *layer)], about=[lesson.data])

# %% tags=["slow"]
both = ("float32, trained on", "int8, trained (QAT)")
lesson.beside_paper(["", "float", "integers alone, trained"],
                    ["Jacob 2018, ResNet-50, 8 bits", "76.4", "74.9"],
                    [f"{100 - wrong[name]:.1f}" for name in both], about=[lesson.data])

# %% [markdown]
# ## Where it breaks: a function to expose (6 minutes)
#
# Somebody else's `requantize` passed all of *their* tests, of a sum of 1, zero point 0. It has one
# of four faults, drawn for your name: the product has 32 bits; ties go to the even code; codes are
# not saturated; the zero point is forgotten. Find an input that shows this fault alone: your
# variant is wrong on it, and functions with the other three faults are right.

# %%
broken = lesson.broken("11.requantize")
broken(np.array([1]), 0.75, 0)

# %% tags=["exercise:11.broken"]
def failing_input():
    """Returns (acc, m, zero_point), acc an array of integers: shows `broken` alone."""
    ### BEGIN SOLUTION
    return np.array([1000]), 0.01, 0  # shows the fault of an empty name
    ### END SOLUTION

# %% tags=["check:11.broken"]
check("11.broken", failing_input, lesson)

# %% [markdown]
# ## The compiled twin
#
# In NumPy exercise 3 makes five passes over arrays of 64 bits; the kernel makes one.

# %% tags=["slow"]
def pair(rows, channels):
    draw = lesson.rng("sums")
    acc = draw.integers(-(2**20), 2**20, size=(rows, channels), dtype=np.int32)
    rule = library.requantizer(draw.uniform(0.0002, 0.001, channels), zero_point=3, lo=0, hi=255)
    return lambda: library.requantize_ref(acc, rule), lambda: library.requantize(acc, rule)

lesson.twin("int8", [("stem, 64 images", *pair(64 * 196, 32)), ("stem, an image", *pair(196, 32)),
                     ("10 sums", *pair(1, 10))])

# %% [markdown]
# And where do integers lose? With dynamic ranges. A *profile* says where the time goes:

# %% tags=["slow"]
def spent(name):
    with blas(1):
        steps = programs[name].profile().steps
    parts = [[s.ms for s in steps if s.kind == kind] for kind in ("conv", "quantize")]
    parts.append([s.ms for s in steps if s.kind not in ("conv", "quantize")])
    return [f"{sum(part):.3f}" for part in parts]

Table(["1 image", "convolutions, ms", "finding ranges, ms", "the rest, ms"],
      [[name, *spent(name)] for name in ("float32", "dynamic")])

# %% [markdown]
# Between its layers a dynamic program goes back to floats and looks for their range. In the full
# one sums become codes where they arise.
#
# ## Reflection (5 minutes)
#
# A colleague has a float net, 500 images without labels, and a chip without floats. What do you
# do, in which order, and what would you check before you trust a threshold? When do you train
# instead? Use the numbers of your run.

# %% tags=["reflect:11.r1"]
reflect("11.r1", """
""")

# %% [markdown]
# ## Next
#
# At 8 bits calibration was enough. At 2 it is not: lesson 12 trains on the grid.
