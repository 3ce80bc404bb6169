# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # Lesson 12: Quantization-aware training
#
# Lesson 10 rounded a trained net and hoped. At 2 bits hope ends. **Can a net learn to live on four
# numbers?** Rounding has no slope, so nothing can be learnt behind it; and yet everybody does it,
# with a gradient that is wrong on purpose.
#
# **Needs:** gradients; the product rule; lesson 10's formulas. **Time:** 60 minutes. **You will
# have:** the backward rules that QAT and LSQ rest on, and a net at 2 bits that works.

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
from minicomp.compress import LSQ, QAT, FineTune
from minicomp.compress.technique import Run
from minicomp.passport import passport
from minicomp.teach import Lesson, check, figures, hint, predict, reflect
from minicomp.teach.asking.shown import Table
from minicomp.train import evaluate

# %% tags=["mode"]
lesson = Lesson("12", mode="full", student="", course="open")
lesson

# %% [markdown]
# ## Warm-up (3 minutes)
#
# 1. What is the slope of `np.rint` at 0.3? At 0.5?
# 2. 2 bits, codes 0..3, zero point 1, scale 0.5. Which range of $x$ gets the code 3 unclipped?
# 3. $\hat v = s\, n$ with a constant $n$. How fast does $\hat v$ grow with $s$?
#
# <details><summary>Answers</summary>
#
# 1. 0; there is none: it jumps.  2. $x/s$ from 1.5 to 2.5: $x$ from 0.75 to 1.25.  3. By $n$.
#
# </details>
#
# ## Symbols
#
# | | |
# |---|---|
# | $x$, $\hat x$ | a value, and the same on its grid |
# | $s$, $z$, $b$ | scale (or step), zero point, bits |
# | $g$ | gradient that comes from above: $\partial L/\partial \hat x$ |
# | $v$, $\hat v$ | a *latent* weight in float, and what the net uses of it |
# | $Q$ | last code of a symmetric grid, $2^{b-1} - 1$; $N$ weights share a step |
# | $\gamma, \beta, \mu, \sigma$ | batch norm: scale, shift, mean, $\sqrt{var + \epsilon}$ |

# %% [markdown]
# ## Your guess (2 minutes)
#
# LeNet-300-100 in float errs on about one or two percent. Weights and activations are rounded to 2
# bits. What is the error? And after a short training on the grid?

# %% tags=["predict:12.p1"]
guess_rounded = predict("12.p1", None)

# %% tags=["predict:12.p2"]
guess_trained = predict("12.p2", None)

# %% [markdown]
# ## A toy: one weight on a staircase
#
# The net uses $\hat v = \lfloor v \rceil$; the loss is $(\hat v - 1.7)^2/2$. Its slope in $v$ is
# $(\hat v - 1.7)$ times the slope of rounding, which is 0. *Straight through* (STE) takes 1
# instead:

# %%
def walk(v, rounding_slope, steps=40, lr=0.1):
    path = [v]
    for _ in range(steps - 1):
        v = v - lr * (np.rint(v) - 1.7) * rounding_slope
        path.append(v)
    return np.array(path)

stuck, through = walk(0.2, 0.0), walk(0.2, 1.0)
np.round([stuck[-6:], through[-6:], np.rint(through[-6:])], 2)

# %% [markdown]
# By its true gradient the weight never moves. Straight through, small pushes add up in the latent
# weight until it crosses a border. It ends hopping between 1 and 2: no code is 1.7.
#
# ## Exercise 1: backward (8 minutes)
#
# Lesson 10's formula, forward: $q = \lfloor x/s \rceil + z$, clipped to $0..2^b-1$, and
# $\hat x = s(q - z)$. Backward: rounding counts as slope 1, clipping as what it is. So $g$ passes
# where $q$ was *not clipped*, and 0 elsewhere. Return $\partial L/\partial x$. Leave the arguments
# of your functions as they are.

# %% tags=["exercise:12.fake_quant_backward"]
def fake_quant_backward(g, x, scale, zero_point, bits):
    """g, x: float arrays of one shape; returns the gradient of x."""
    ### BEGIN SOLUTION
    q = np.rint(x / scale) + zero_point
    return g * ((q >= 0) & (q <= 2**bits - 1))
    ### END SOLUTION

# %% tags=["check:12.fake_quant_backward"]
check("12.fake_quant_backward", fake_quant_backward)

# %% [markdown]
# Stuck? `hint("12.fake_quant_backward", 1)` is the idea, 2 the formula, 3 pseudocode. Every
# exercise has three.
#
# ## Exercise 2: the step learns too (12 minutes)
#
# Why should $s$ be what the largest weight says? LSQ (Esser and others, 2020) learns it. With
# $t = v/s$, $\hat v = s\,\mathrm{clip}(\lfloor t \rceil, -Q, Q)$, and by the product rule,
# straight through,
#
# $$\frac{\partial \hat v}{\partial s} = \lfloor t \rceil - t \ \text{ where } |t| < Q,\qquad
# \text{else } Q \text{ or } -Q .$$
#
# One step serves $N$ weights, so its gradient is a sum, multiplied by $1/\sqrt{N Q}$ lest it run
# away. Return that one number. (One hidden test compares with differences, where all is clipped:
# there the forward pass has a true slope.)

# %% tags=["exercise:12.step_gradient"]
def step_gradient(g, v, scale, bits):
    """g, v: float arrays of one shape; returns dL/ds, a float."""
    ### BEGIN SOLUTION
    Q, t = 2 ** (bits - 1) - 1, v / scale
    slope = np.where(np.abs(t) < Q, np.rint(t) - t, Q * np.sign(t))
    return np.sum(g * slope) / np.sqrt(v.size * Q)
    ### END SOLUTION

# %% tags=["check:12.step_gradient"]
check("12.step_gradient", step_gradient)

# %% [markdown]
# ## Exercise 3: batch norm goes first (8 minutes)
#
# An integer program has no batch norm. What is rounded is the layer with batch norm *folded* in,
# so training must round that one too. From $\gamma (Wx - \mu)/\sigma + \beta$ find the weights and
# the bias, without any batch norm, that compute the same.

# %% tags=["exercise:12.fold_batch_norm"]
def fold_batch_norm(w, gamma, beta, mean, var, eps):
    """w: (O, C, K, K); gamma .. var: (O,); returns W, (O, C, K, K), and b, (O,)."""
    ### BEGIN SOLUTION
    gain = gamma / np.sqrt(var + eps)
    return w * gain[:, None, None, None], beta - gain * mean
    ### END SOLUTION

# %% tags=["check:12.fold_batch_norm"]
check("12.fold_batch_norm", fold_batch_norm)

# %% [markdown]
# ## A real net (12 minutes, of which the machine takes about 1)
#
# LeNet-300-100, weights and activations on $b$ bits. `QAT` puts its grids where the ranges are, one
# a channel, and trains by exercise 1. `LSQ` learns every step by exercise 2, one a layer (its grid
# has one code more below 0, $-2^{b-1}$). `epochs=0` is lesson 10: rounded, not trained.

# %% tags=["slow"]
lesson.about_data()

# %% tags=["slow"]
dense = lesson.checkpoint("lenet300")
data = lesson.data.without_test()

def on_grid(method, epochs):
    how = FineTune(epochs=epochs, lr=0.01, methods=(method,))
    return how.apply(dense, data, Run(lesson.rng("grid")))

def error(model):
    return 100 * evaluate(model, lesson.data.test).error

# %% tags=["slow"]
widths = [8, 4, 3, 2]
epochs = lesson.choose(smoke=2, full=round(55_000 / len(data.train)), paper=20)
ways = {"rounded": lambda b: on_grid(QAT(bits=b, act_bits=b), 0),
        "trained (QAT)": lambda b: on_grid(QAT(bits=b, act_bits=b), epochs),
        "steps learnt (LSQ)": lambda b: on_grid(LSQ(bits=b, act_bits=b), epochs)}
nets = {name: [way(b) for b in widths] for name, way in ways.items()}

# %% tags=["slow"]
float_error = error(dense)
errors = {name: [error(net) for net in each] for name, each in nets.items()}
Table(["test error, %", *(f"{b} bits" for b in widths)],
      [[name, *(f"{e:.2f}" for e in each)] for name, each in errors.items()],
      f"Float: {float_error:.2f} %.")

# %% [markdown]
# ## The plot to remember

# %% tags=["plot", "slow", "memorable"]
lesson.show(figures.trapped(stuck, through, 1.7, widths, errors, float_error,
                            guesses=(guess_rounded, guess_trained)))

# %% [markdown]
# Recorded on MNIST: float {{mnist:error_dense}}. At 8 bits rounding alone does no harm,
# {{mnist:rounded_8}}: training would be wasted. At 3 it costs, {{mnist:rounded_3}}, and LSQ brings
# it back, {{mnist:learnt_3}}. At 2 bits rounding leaves {{mnist:rounded_2}}, QAT
# {{mnist:trained_2}}, LSQ {{mnist:learnt_2}}. The two differ in who chooses the step: under QAT
# the largest weight of a channel does, and with three codes nearly all others become 0. LSQ clips
# the few for the many.

# %% tags=["slow"]
def codes(net):
    return net.forms()["fc1.weight"].q

learnt, rounded = nets["steps learnt (LSQ)"][-1], nets["rounded"][-1]
start = on_grid(LSQ(bits=2, act_bits=2), 0)
crossed = 100 * np.mean(codes(learnt) != codes(start))
zeros = [f"{100 * np.mean(codes(net) == 0):.0f} %" for net in (rounded, start, learnt)]
f"0 in fc1: rounded {zeros[0]}, LSQ before {zeros[1]}, after {zeros[2]}; {crossed:.1f} % moved"

# %% [markdown]
# {{mnist:crossed}} of fc1's weights have another code than at the start, because they moved or
# because their step did. The others pushed too, and did not cross.
#
# ## The paper's row beside ours
#
# LSQ, ResNet-18 on ImageNet, all but first and last layer on $b$ bits, right answers in percent,
# quoted from memory. Ours: all layers.

# %% tags=["slow"]
share = [f"{100 - e:.1f}" for e in (*errors["steps learnt (LSQ)"][::-1], float_error)]
lesson.beside_paper(["", "2 bits", "3 bits", "4 bits", "8 bits", "float"],
                    ["Esser 2020, ResNet-18", "67.6", "70.2", "71.1", "71.1", "70.5"],
                    share, about=[lesson.data])

# %% tags=["slow"]
sizes = [save(net, "lenet300-grid.mcz") / 1000 for net in (dense, learnt)]
card = passport(learnt, path="lenet300-grid.mcz", data=lesson.data.test)
print(card.summary())

# %% tags=["slow"]
named = dict(zip(("rounded", "trained", "learnt"), errors.values()))
lesson.record(error_dense=float_error, rounded_8=named["rounded"][0],
              rounded_2=named["rounded"][-1], trained_2=named["trained"][-1],
              learnt_2=named["learnt"][-1], learnt_3=named["learnt"][2],
              rounded_3=named["rounded"][2], bytes_dense=sizes[0], bytes_2=sizes[1],
              crossed=crossed, bits=widths, stuck=stuck, through=through, **named)

# %% [markdown]
# Recorded on MNIST: {{mnist:bytes_dense}} in float32, {{mnist:bytes_2}} with LSQ at 2 bits. That
# is less than 2 bits a weight: codes are not equally frequent, and the file uses it (lesson 17).
#
# ## Where it breaks: a function to expose (6 minutes)
#
# Somebody else's `fake_quant_backward` passed all of *their* tests, of small whole numbers, zero
# point 0, gradients of 1. It has one of four faults, drawn for your name: the gradient passes
# everywhere; values are compared with the range, not codes with their ends; the zero point is
# forgotten; the mask comes back without $g$. Find an input that shows this fault alone: your
# variant is wrong on it, and functions with the other three faults are right.

# %%
broken = lesson.broken("12.fake_quant_backward")
broken(np.array([1.0]), np.array([2.0]), 1.0, 0, 2)

# %% tags=["exercise:12.broken"]
def failing_input():
    """Returns (g, x, scale, zero_point, bits), g and x arrays: shows `broken` alone."""
    ### BEGIN SOLUTION
    return np.array([3.0]), np.array([1.0]), 1.0, 0, 2  # shows the fault of an empty name
    ### END SOLUTION

# %% tags=["check:12.broken"]
check("12.broken", failing_input, lesson)

# %% [markdown]
# ## The compiled twin
#
# Many codes of 2 bits are 0, and minicomp compiles a product that skips zeros. Is a net on four
# numbers therefore fast?

# %% tags=["slow"]
from minicomp.kernels.sparse import lanes

def pair(net, layer):
    w = net.forms()[f"{layer}.weight"].dense().data
    x = lesson.rng("x").normal(size=w.shape[1]).astype(np.float32)
    packed = lanes.pack_lanes(w)
    return lambda: w @ x, lambda: lanes.matvec(packed, x)

trained = nets["trained (QAT)"][-1]
lesson.twin("sparse", [("fc1, QAT, 2 bits", *pair(trained, "fc1")),
                       ("fc1, LSQ, 2 bits", *pair(learnt, "fc1")),
                       ("fc3, LSQ, 2 bits", *pair(learnt, "fc3"))], rtol=1e-4)

# %% [markdown]
# That pays under QAT, which leaves few codes but 0. LSQ uses all four, and gains little or
# nothing; in fc3 the call costs more than the product. Fewer bits make a net small. Fast they
# make it where a kernel knows of them: integers in lesson 11, signs in lesson 16.
#
# ## Reflection (5 minutes)
#
# Straight through is a wrong gradient on purpose. Why does it work, and where in your figure do
# you see that it is wrong? At how many bits would you not bother to train? Use the numbers of your
# run.

# %% tags=["reflect:12.r1"]
reflect("12.r1", """
""")

# %% [markdown]
# ## Next
#
# Behind every code stood a float32. Lesson 13 takes that away too, and rounds by lot.
