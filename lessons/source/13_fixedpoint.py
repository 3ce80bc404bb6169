# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # Lesson 13: Fixed point and stochastic rounding
#
# A step of training moves a weight by a thousandth, often by less. **What happens when the weight
# is a 16-bit integer whose smallest step is larger than that?** Gupta and others (2015) asked, and
# the answer hangs on how one rounds.
#
# **Needs:** means and variances; integers in two's complement. **Time:** 60 minutes. **You will
# have:** both roundings, a dot product of integers, and a net trained without a float weight.

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
from minicomp.compress.finetune import FineTune
from minicomp.compress.quant.fixed_point import FixedPointTraining
from minicomp.compress.technique import Run
from minicomp.kernels.int8 import rounding
from minicomp.models import LeNet300
from minicomp.passport import passport
from minicomp.teach import Lesson, check, figures, hint, predict, reflect
from minicomp.teach.asking.shown import Table
from minicomp.timing import Clock
from minicomp.train import evaluate

# %% tags=["mode"]
lesson = Lesson("13", mode="full", student="", course="open")
lesson

# %% [markdown]
# ## Warm-up (3 minutes)
#
# 1. Four bits in two's complement: which integers?
# 2. Two of the four bits stand behind the point. Which numbers are the least and the largest?
# 3. A coin falls heads with probability 1/4. You go 1 forward on heads, else stay. Where are you
#    after 100 throws, on average?
#
# <details><summary>Answers</summary>
#
# 1. -8 to 7.  2. -2 and 1.75.  3. At 25.
#
# </details>
#
# ## Symbols
#
# | | |
# |---|---|
# | $\langle IL, FL\rangle$ | fixed point: $IL$ integer bits, the sign's too, $FL$ fractional ones |
# | $\varepsilon = 2^{-FL}$ | the step of the grid |
# | $\lfloor x\rfloor$ | the largest multiple of $\varepsilon$ that is at most $x$ |
# | $u$ | a random number, uniform in $[0, 1)$ |
# | $t$, $q$ | $x/\varepsilon$, and the integer that it becomes |

# %% [markdown]
# ## Your guess (2 minutes)
#
# LeNet-300-100 trains with weights of 16 bits, 8 of them behind the point. After each step every
# weight is rounded to the nearest number of the grid. Most steps want to move most weights. Which
# part of these updates does rounding undo, in percent?

# %% tags=["predict:13.p1"]
guess = predict("13.p1", None)

# %% [markdown]
# ## A toy: one weight, twenty updates
#
# The grid is $\varepsilon = 1$; each update adds 0.3. Whoever keeps a float behind the weight ends
# at 6. Whoever keeps only the rounded weight:

# %%
w = 0.0
for step in range(20):
    w = np.rint(w + 0.3)  # nearest
w

# %% [markdown]
# ## Exercise 1: to nearest (8 minutes)
#
# $\langle IL, FL\rangle$ holds the multiples of $\varepsilon$ from $-2^{IL-1}$ to
# $2^{IL-1} - \varepsilon$. Round to the nearest; what lies beyond the range becomes the end that it
# passed. The paper goes up only where $x - \lfloor x\rfloor > \varepsilon/2$, so that ties go
# *down*. Leave the arguments of your functions as they are.

# %% tags=["exercise:13.nearest_fixed"]
def nearest_fixed(x, il, fl):
    """x: array of floats; il, fl: integers. Returns numbers of the grid, not codes."""
    ### BEGIN SOLUTION
    half = 2.0 ** (il + fl - 1)
    q = np.ceil(x * 2.0**fl - 0.5)
    return np.clip(q, -half, half - 1) * 2.0**-fl
    ### END SOLUTION

# %% tags=["check:13.nearest_fixed"]
check("13.nearest_fixed", nearest_fixed)

# %% [markdown]
# Stuck? `hint("13.nearest_fixed", 1)` is the idea, 2 the formula, 3 pseudocode. Every exercise has
# three.
#
# ## Exercise 2: by lot (12 minutes)
#
# Let chance decide, fairly:
#
# $$x \mapsto \lfloor x\rfloor + \varepsilon\ \text{ with probability }\
#   \frac{x - \lfloor x\rfloor}{\varepsilon},\quad \text{else } \lfloor x\rfloor .$$
#
# Then the mean of the result is $x$. With $d = x - \lfloor x\rfloor$ its variance is
# $d\,(\varepsilon - d)$: the price, largest halfway. Use `u`, a draw for each entry. The check
# takes 100,000 draws and looks at the mean. What lies on the grid must stay.

# %% tags=["exercise:13.stochastic_fixed"]
def stochastic_fixed(x, u, il, fl):
    """x, u: arrays of one shape, u uniform in [0, 1); il, fl: integers."""
    ### BEGIN SOLUTION
    half, t = 2.0 ** (il + fl - 1), x * 2.0**fl
    down = np.floor(t)
    q = down + (u < t - down)
    return np.clip(q, -half, half - 1) * 2.0**-fl
    ### END SOLUTION

# %% tags=["check:13.stochastic_fixed"]
check("13.stochastic_fixed", stochastic_fixed)

# %% [markdown]
# The toy again. A thousand weights, each with lots of its own:

# %%
w, rng = np.zeros(1000), lesson.rng("toy")
for step in range(20):
    t = w + 0.3
    w = np.floor(t) + (rng.random(1000) < t - np.floor(t))
w.mean(), w.std()

# %% [markdown]
# ## Exercise 3: a sum is rounded once (8 minutes)
#
# The product of two numbers of $\langle IL, FL\rangle$ has $2\,FL$ fractional bits, a sum of $d$
# products needs $\log_2 d$ more in front. Hardware adds in a wide register and converts the end:
# *accumulate wide, convert once*. Return $\sum_i a_i b_i$ in $\langle IL, FL\rangle$, to nearest.

# %% tags=["exercise:13.fixed_dot"]
def fixed_dot(a, b, il, fl):
    """a, b: arrays of numbers that lie on the grid; returns a number of the grid."""
    ### BEGIN SOLUTION
    half = 2.0 ** (il + fl - 1)
    q = np.ceil(np.sum(a * b) * 2.0**fl - 0.5)
    return np.clip(q, -half, half - 1) * 2.0**-fl
    ### END SOLUTION

# %% tags=["check:13.fixed_dot"]
check("13.fixed_dot", fixed_dot)

# %% [markdown]
# ## A real net (12 minutes, of which the machine takes about 1)
#
# `FixedPointTraining` rounds everything: the output of each layer, its gradient on the way back,
# the gradient of each weight, the weight after each step. No float stands behind a weight.

# %% tags=["slow"]
lesson.about_data()

# %% tags=["slow"]
data, epochs = lesson.data.without_test(), lesson.choose(smoke=2, full=4, paper=40)
training = dict(epochs=epochs, lr=0.1, momentum=0.0, batch_size=100, schedule="constant")
nets, seconds, rows = {}, {}, {}

def train(name, how):
    clock, start = Clock(), LeNet300(rng=lesson.rng("start"))
    keep = lambda row: row["event"] == "fixed-point" and rows[name].append(row)
    rows[name] = []
    nets[name] = how.apply(start, data, Run(lesson.rng("train"), log=keep))
    seconds[name] = clock.lap()

# %% tags=["slow"]
def fixed(rounding, fl):
    how = FixedPointTraining(rounding=rounding, il=16 - fl, fl=fl)  # weights
    return how.training(**training)  # outputs are <6, 10>, gradients <2, 14>

train("float32", FineTune(**training))
train("nearest", fixed("nearest", 8))
train("stochastic", fixed("stochastic", 8))
train("nearest, 14 bits", fixed("nearest", 14))

# %% [markdown]
# Each epoch the training counts updates: how many were *lost*, leaving the weight where it was,
# and how much of the movement *arrived*, $\sum |\text{moved}| / \sum |\text{wanted}|$.

# %% tags=["slow"]
def by_epoch(name, what):
    return [100 * row[what] for row in rows[name]]

both = ("nearest", "stochastic")
lost = tuple(by_epoch(name, "lost") for name in both)
arrived = tuple(by_epoch(name, "arrived") for name in both)

# %% [markdown]
# ## The plot to remember

# %% tags=["plot", "slow", "memorable"]
lesson.show(figures.updates_lost(lost, arrived, guess=guess))

# %% [markdown]
# Did you expect the left side? Stochastic rounding, too, undoes most updates: recorded on MNIST,
# {{mnist:lost_stochastic}} in the last epoch, {{mnist:lost_nearest}} to nearest. The right side
# decides: what it does let through is as much as was asked, {{mnist:arrived_stochastic}} against
# {{mnist:arrived_nearest}}. Ten small updates become one whole step.

# %% tags=["slow"]
errors = {name: 100 * evaluate(net, lesson.data.test).error for name, net in nets.items()}
sizes = {name: save(net, "lenet300-fixed.mcz") / 1000 for name, net in nets.items()}
Table(["", "test error, %", "file, kB", "trained in, s"],
      [[name, f"{errors[name]:.2f}", f"{sizes[name]:.1f}", f"{seconds[name]:.1f}"]
       for name in nets])

# %% tags=["slow"]
save(nets["stochastic"], "lenet300-fixed.mcz")
card = passport(nets["stochastic"], path="lenet300-fixed.mcz", data=lesson.data.test)
print(card.summary())

# %% tags=["slow"]
lesson.record(lost_nearest=lost[0][-1], lost_stochastic=lost[1][-1],
              arrived_nearest=arrived[0][-1], arrived_stochastic=arrived[1][-1],
              error_float=errors["float32"], error_nearest=errors["nearest"],
              error_stochastic=errors["stochastic"], error_fine=errors["nearest, 14 bits"],
              bytes_float=sizes["float32"], bytes_fixed=sizes["stochastic"],
              slower=seconds["stochastic"] / seconds["float32"],
              lost=lost[0], arrived=arrived[0], lost_sr=lost[1], arrived_sr=arrived[1])

# %% [markdown]
# Recorded on MNIST: float {{mnist:error_float}}, stochastic {{mnist:error_stochastic}}, nearest
# {{mnist:error_nearest}}. With 14 bits behind the point nearest has {{mnist:error_fine}}: the grid
# is 64 times finer, and what lies below half a step is little of the movement.
#
# ## The paper's row beside ours
#
# The paper's rows are quoted from memory; its net is larger and trains longer. (`minicomp paper
# gupta2015` trains that net, and a convolutional one.)

# %% tags=["slow"]
lesson.beside_paper(["", "float", "nearest, FL 14", "nearest, FL 8", "stochastic, FL 8"],
                    ["Gupta 2015, from memory", "1.4 %", "as float", "does not train",
                     "nearly as float"],
                    [f"{errors[name]:.2f} %" for name in
                     ("float32", "nearest, 14 bits", "nearest", "stochastic")])

# %% [markdown]
# ## Where it breaks: a function to expose (6 minutes)
#
# Somebody else's `nearest_fixed` passed all of *their* tests, with numbers that lay on the grid.
# It has one of four faults, drawn for your name: ties go up; it cuts off instead of rounding; the
# lowest number of the range is missing; the range ends a step too late. Find an input that shows
# this fault alone: your variant is wrong on it, and functions with the other three faults are
# right.

# %%
broken = lesson.broken("13.nearest_fixed")
broken(np.array([0.25, -1.0]), 2, 3)

# %% tags=["exercise:13.broken"]
def failing_input():
    """Returns (x, il, fl), x an array: shows the fault of `broken` alone."""
    ### BEGIN SOLUTION
    return np.array([0.0625]), 2, 3  # shows the fault of an empty name
    ### END SOLUTION

# %% tags=["check:13.broken"]
check("13.broken", failing_input, lesson)

# %% [markdown]
# ## The compiled twin
#
# A fair lot for each of 266,610 weights in each step is the price. The kernel draws with a counter
# (entry $i$ of step $s$ has always the same lot, on any number of threads), 24 bits an entry.
# Beside it the same in NumPy, to the bit:

# %% tags=["slow"]
def pair(n):
    x = lesson.rng("x").normal(size=n).astype(np.float32)
    args, how = (x, 8, -2**15, 2**15 - 1), dict(key=1, values=True)
    return (lambda: rounding.stochastic_round_ref(*args, **how),
            lambda: rounding.stochastic_round(*args, **how))

lesson.twin("int8", [("1,000,000 weights", *pair(1_000_000)), ("LeNet fc1", *pair(235_200)),
                     ("10 biases", *pair(10))])

# %% [markdown]
# And where does it lose? In the whole: `trained in` above. A processor with fast floats gains
# nothing from pretending to have integers: recorded on MNIST, an epoch took {{mnist:slower}} times
# as long as in float32, however fast the rounding. Only the file is smaller, {{mnist:bytes_fixed}}
# instead of {{mnist:bytes_float}}. What the paper saves it saves in hardware: adders and
# multipliers of 16 bits, and half of the memory's traffic.
#
# ## Reflection (5 minutes)
#
# Stochastic rounding, too, leaves most weights where they are in a step. Why does it train, where
# rounding to nearest stalls? And when would you still round to nearest? Use the numbers of your
# run.

# %% tags=["reflect:13.r1"]
reflect("13.r1", """
""")

# %% [markdown]
# ## Next
#
# Lesson 17 goes the other way: few values, freely placed, and codes that are as short as they are
# frequent.
