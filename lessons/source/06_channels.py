# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # Lesson 6: Channels: L1, slimming, dependency groups
#
# A pruned weight leaves a hole, and a matrix product multiplies holes too. A whole channel leaves
# no hole: the arrays get smaller. **Which channels can go, and what goes with them?** Liu and
# others asked in 2017, and let the net answer.
#
# **Needs:** matrix products; what batch norm does. **Time:** 65 minutes. **You will have:** a net
# with a fifth of its neurons, equal to the masked one, smaller and measurably faster.

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
from minicomp.compress.channels.groups import groups
from minicomp.compress.channels.removal import removal
from minicomp.compress.prune.filters import Filters
from minicomp.compress.prune.slimming import Slimming
from minicomp.compress.channels.choosing import local
from minicomp.compress.finetune import FineTune
from minicomp.compress.technique import Run
from minicomp.errors import UserError
from minicomp.models import DepthwiseNet32
from minicomp.models.papers import SlimmingMLP
from minicomp.papers.slimming2017 import size
from minicomp.passport import passport
from minicomp.teach import Lesson, check, figures, hint, predict, reflect
from minicomp.teach.live import timing
from minicomp.teach.asking.shown import Table
from minicomp.train import evaluate

# %% tags=["mode"]
lesson = Lesson("06", mode="full", student="", course="open")
lesson

# %% [markdown]
# ## Warm-up (3 minutes)
#
# 1. A weight has shape (50, 20, 5, 5). How many channels does it read, how many does it compute?
# 2. How many numbers does batch norm keep for each channel?
# 3. A channel has $\gamma = 0$. What does batch norm output there?
#
# <details><summary>Answers</summary>
#
# 1. It reads 20 and computes 50.  2. Four: $\gamma$, $\beta$, a running mean and a running
# variance.  3. $\beta$, whatever comes in.
#
# </details>
#
# ## Symbols
#
# | | |
# |---|---|
# | $\gamma_j$, $\beta_j$ | scale and shift of channel $j$ in batch norm |
# | $\lambda$ | weight of the penalty |
# | $f$ | what follows batch norm, here ReLU |
# | $w_{ji}$ | weight from input $i$ to neuron $j$ |
# | $s$, $n$ | sparsity, here the fraction of channels that go; of how many |
# | $O$, $C$, $P$ | channels: computed by a layer, read by it, computed by the next |

# %% [markdown]
# ## Your guess (2 minutes)
#
# We train 784-500-300-10 as usual and remove the 80 % of its neurons that seem to matter least.
# What is the error before any fine-tuning, in percent? And if those neurons are only set to 0:
# how many times faster is the net?

# %% tags=["predict:06.p1"]
guess_error = predict("06.p1", None)

# %% tags=["predict:06.p2"]
guess_times = predict("06.p2", None)

# %% [markdown]
# ## A toy: five switches
#
# Batch norm multiplies channel $j$ by $\gamma_j$: a switch, already built in. Network slimming
# adds a price for each switch that is on,
#
# $$L = \text{loss} + \lambda \sum_j |\gamma_j|,
# \qquad \text{gradient: } \lambda\,\mathrm{sign}(\gamma_j).$$
#
# Three steps of 1/8 with that gradient alone (middle row), beside those of weight decay (last row):

# %%
gamma = np.array([0.75, -0.5, 0.25, -0.125, 0.0625])
l1, l2 = gamma, gamma
for step in range(3):
    l1, l2 = l1 - np.sign(l1) / 8, l2 - l2 / 8
np.round([gamma, l1, l2], 3)

# %% [markdown]
# L1 takes the same from all: small ones arrive at 0 (the last one hops around it). Decay takes a
# part of each: nobody arrives. In training the loss pulls back, and only channels that it needs
# stay up.
#
# ## Exercise 1: one percentile (7 minutes)
#
# The paper ranks the channels of all layers together. Of all $n$ scales, `round(s n)` go (Python's
# `round`: 2.5 are 2, 3.5 are 4): those of least $|\gamma|$, of equal ones the first. Return a tuple
# of boolean arrays, one per layer, True where a channel stays. Leave the arguments of your
# functions as they are.

# %% tags=["exercise:06.global_keep"]
def global_keep(gammas, sparsity):
    """gammas: tuple of float arrays, one per layer; sparsity: in [0, 1)."""
    ### BEGIN SOLUTION
    worth = np.abs(np.concatenate(gammas))
    keep = np.ones(worth.size, dtype=bool)
    n = round(sparsity * worth.size)
    keep[np.argsort(worth, kind="stable")[:n]] = False
    return tuple(np.split(keep, np.cumsum([len(g) for g in gammas])[:-1]))
    ### END SOLUTION

# %% tags=["check:06.global_keep"]
check("06.global_keep", global_keep)

# %% [markdown]
# Stuck? `hint("06.global_keep", 1)` is the idea, 2 the formula, 3 pseudocode. Every exercise has
# three.
#
# ## Exercise 2: remove them (14 minutes)
#
# A convolution, batch norm, ReLU, a convolution. Take out the channels between the two that are
# not kept. What you return must compute exactly what the full net computes with those channels
# at 0. Weights are (computes, reads, K, K). Channels stay in their order.

# %% tags=["exercise:06.remove_channels"]
def remove_channels(keep, w1, b1, gamma, beta, mean, var, w2):
    """keep: (O,) bool; w1: (O, C, K, K); b1 .. var: (O,); w2: (P, O, K, K).

    Returns the tuple (w1, b1, gamma, beta, mean, var, w2), smaller."""
    ### BEGIN SOLUTION
    own = tuple(a[keep] for a in (w1, b1, gamma, beta, mean, var))
    return *own, w2[:, keep]
    ### END SOLUTION

# %% tags=["check:06.remove_channels"]
check("06.remove_channels", remove_channels)

# %% [markdown]
# ## Exercise 3: behind a Flatten (6 minutes)
#
# Where maps become a vector, the next layer reads one column per *pixel*: (C, H, W) is flattened
# channel by channel, row by row. Return the columns that stay, rising.

# %% tags=["exercise:06.flatten_columns"]
def flatten_columns(keep, height, width):
    """keep: (C,) bool; returns an array of whole numbers."""
    ### BEGIN SOLUTION
    return np.flatnonzero(np.repeat(keep, height * width))
    ### END SOLUTION

# %% tags=["check:06.flatten_columns"]
check("06.flatten_columns", flatten_columns)

# %% [markdown]
# ## Dependency groups
#
# minicomp follows a channel through the whole net and calls what must go together a **group**. A
# residual net adds two layers' outputs channel by channel, so neither can lose a channel alone:

# %%
residual = DepthwiseNet32()
Table(["group", "channels", "pass through"],
      [[g.name, g.size, ", ".join(n for n in g.members if n not in g.nodes)]
       for g in groups(residual)])

# %% [markdown]
# Ask for what cannot be, and the answer says why:

# %%
most = np.arange(1, 128)
for keep in ({"block2.pw": most, "block3.pw": most - 1}, {"fc": range(9)}):
    try:
        removal(residual, keep)
    except UserError as e:
        print(e)
cut = removal(residual, {"block2.pw": most})
f"one channel of block2.pw: {len(cut.axes)} arrays, among them {list(cut.axes)[-2]}"

# %% [markdown]
# ## The real net (15 minutes, of which the machine takes about 1)
#
# The paper's MLP, all scales 0.5 at the start, trained with three prices.

# %% tags=["slow"]
lesson.about_data()

# %% tags=["slow"]
data = lesson.data.without_test()
full = round(4 * 55_000 / len(data.train))  # as many steps on every data set
epochs = lesson.choose(smoke=6, full=full, paper=30)
setting = dict(epochs=epochs, batch_size=128, lr=0.05, nesterov=True, weight_decay=1e-4)

def test_error(model):
    return 100 * evaluate(model, lesson.data.test).error

def tuned(model):
    return FineTune(**setting).apply(model, data, Run(lesson.rng("tune")))

# %% tags=["slow"]
lams = lesson.choose(smoke=[0, 1e-3, 4e-3], full=[0, 1e-3, 4e-3],
                     paper=[0, 1e-4, 1e-3])
start = SlimmingMLP(normalize=data.normalize, rng=lesson.rng("start"))

def trained(lam):
    priced = Slimming(lam=lam, sparsity=0.0).training(**setting)
    return priced.apply(start, data, Run(lesson.rng("train")))

nets = [trained(lam) for lam in lams]

# %% [markdown]
# Now cut 80 % of each hidden layer, as the paper's 784-100-60-10. Beside it an older rule that
# needs no penalty (Li and others, 2017): a neuron is worth the **L1 norm** of its weights,
# $\sum_i |w_{ji}|$.

# %% tags=["slow"]
how = Slimming(sparsity=0.8, scope="local")
l1_norm = Filters(sparsity=0.8, fold=True)
small = [how.slimmed(n) for n in nets]
small.append(l1_norm.apply(nets[0], data, Run(lesson.rng("cut"))))

# %% tags=["slow"]
ways = [*[f"slimming, λ = {lam:g}" for lam in lams], "L1 norm, λ = 0"]
final = [tuned(n) for n in small]
errors = np.array([[test_error(n) for n in row]
                   for row in ([*nets, nets[0]], small, final)]).T
Table(["", "trained, %", "80 % cut, %", "fine-tuned, %"],
      [[way, *(f"{e:.2f}" for e in row)] for way, row in zip(ways, errors)])

# %% [markdown]
# ## Zeroed is not removed
#
# The same channels twice: masked in place, and taken out. Same outputs. Same time?

# %% tags=["slow"]
def kept(model):
    """The groups' scales, and which stay."""
    scored = how.scored(model)
    return scored, local("slimming", scored, lambda group: 0.8)

whole, keep = nets[-1], {}
for group, stays in kept(whole)[1]:
    keep |= group.keep(stays)
cut = removal(whole, keep)
zeroed, removed = cut.mask(whole).dense(), cut.apply(whole)

# %% tags=["slow"]
x = lesson.data.test.x[:64]

def run(model):
    with no_grad():
        return model(x).data

np.testing.assert_allclose(run(zeroed), run(removed), rtol=1e-3, atol=1e-4)

# %% tags=["slow"]
whole_s, zeroed_s = timing.side_by_side(lambda: run(whole), lambda: run(zeroed))
again_s, removed_s = timing.side_by_side(lambda: run(whole), lambda: run(removed))
# both pairs hold the whole net, so that a busy machine slows all three alike
ms = [1000 * whole_s, 1000 * zeroed_s, 1000 * removed_s * whole_s / again_s]

# %% [markdown]
# ## The plot to remember

# %% tags=["slow"]
edges, counts = np.linspace(0, 0.8, 41), {"all": [], "kept": []}
for model in nets:
    scored, chosen = kept(model)
    worth = np.minimum(np.concatenate([w for _, w in scored]), 0.799)
    stays = np.concatenate([k for _, k in chosen])
    counts["all"].append(np.histogram(worth, edges)[0])
    counts["kept"].append(np.histogram(worth[stays], edges)[0])

# %% tags=["plot", "slow", "memorable"]
lesson.show(figures.gamma_split(
    lams, edges, counts["all"], counts["kept"], errors[:-1, 1], ms,
    guesses=(guess_error, guess_times)))

# %% [markdown]
# The two crowds are the two layers. Without a price the scales of a layer are alike, and the cut
# goes through the middle of its crowd. The price splits them: most fall to 0, a few stay.
# Recorded on MNIST: the cut net errs {{mnist:cut_plain}} without the penalty, {{mnist:cut_slim}}
# with the largest. The price costs something too: before the cut {{mnist:error_slim}} instead of
# {{mnist:error_plain}}. And fine-tuning levels all of it: {{mnist:tuned_plain}} and
# {{mnist:tuned_slim}}, with L1 norms {{mnist:tuned_l1}}. In a net this easy, *which* neurons stay
# matters little once they may train again.
#
# A channel switched off is not silent: it says $f(\beta_j)$, a constant. minicomp adds that to
# the next layer's bias before the channel goes (`fold`); the paper drops it. It counts where the
# scales are near 0, and the constant is all that a channel said:

# %% tags=["slow"]
dropped = Slimming(sparsity=0.8, scope="local", fold=False)
[f"λ = {lam:g}: {e:.1f} % folded, {test_error(dropped.slimmed(n)):.1f} % dropped"
 for lam, n, e in zip(lams, nets, errors[:, 1])]

# %% [markdown]
# ## The paper's row beside ours
#
# Weights removed: 545,000 - 85,000 of 545,000.

# %% tags=["slow"]
def neurons(model):
    return [model.node(name).layer.out_features for name in ("fc1", "fc2")]

lesson.beside_paper(["", "trained, %", "slimmed, %", "neurons", "weights removed, %"],
                    ["Liu 2017, 784-500-300-10", "1.43", "1.49", "[100, 60]", "84.4"],
                    [f"{errors[0, 0]:.2f}", f"{errors[2, 2]:.2f}", neurons(final[2]),
                     f"{100 * (1 - size(final[2]) / size(start)):.1f}"])

# %% tags=["slow"]
save(nets[0], "mlp.mcz"), save(final[2], "mlp-slim.mcz")

# %% tags=["slow"]
card = passport(final[2], path="mlp-slim.mcz", data=lesson.data.test)
card.summary()

# %% [markdown]
# ## Where it breaks (7 minutes)
#
# First the rule itself. One percentile over *both* layers, as in exercise 1, on the net of the
# largest $\lambda$:

# %% tags=["slow"]
uneven = Slimming(sparsity=0.8, scope="global").slimmed(nets[-1])
error_global = test_error(uneven)
(f"{neurons(uneven)} neurons stay, error {error_global:.1f} %; "
 f"per layer {errors[2, 1]:.1f} %")

# %% [markdown]
# The layer whose scales are smaller, the left crowd of the plot, pays for both, though the next
# batch norm would undo their size.
#
# Then a function to expose. Somebody else's `global_keep` has one of five faults, drawn for your
# name in the second cell: the sign counts; each layer is ranked alone; $s\,n$ is cut off, not
# rounded; a half is rounded up; equal scales go together. Find an input that shows this fault
# alone: your variant is wrong on it, and functions with the other four faults are right.

# %%
broken = lesson.broken("06.global_keep")
two = np.array([1.0, 4.0]), np.array([2.0, 3.0])
three = np.array([1.0, 5.0]), np.array([2.0, 6.0]), np.array([3.0, 7.0])
broken(two, 0.5), broken(three, 0.5)

# %% tags=["exercise:06.broken"]
def failing_input():
    """Returns (gammas, sparsity) that shows the fault of `broken` alone."""
    ### BEGIN SOLUTION
    return (np.array([1.0]),), 0.5  # shows the fault of an empty name
    ### END SOLUTION

# %% tags=["check:06.broken"]
check("06.broken", failing_input, lesson)

# %% tags=["slow"]
lesson.record(error_plain=errors[0, 0], error_slim=errors[2, 0], cut_plain=errors[0, 1],
              cut_slim=errors[2, 1], cut_l1=errors[3, 1], tuned_plain=errors[0, 2],
              tuned_slim=errors[2, 2], tuned_l1=errors[3, 2], error_global=error_global,
              first_global=neurons(uneven)[0], ratio=card.ratio, cuts=errors[:3, 1],
              lams=lams, edges=edges, ms=ms,
              **{f"{k}_{i}": row for k in counts for i, row in enumerate(counts[k])})

# %% [markdown]
# ## The compiled twin
#
# Convolutions in Cython beside NumPy's: 8 images, and the second layer of LeNet-5, whole, with
# 80 % of its channels zeroed, with 80 % removed. The last line is another layer: one image, maps
# of one pixel.

# %% tags=["slow"]
from minicomp.kernels.maps import conv

def pair(reads, computes, side, k, images=8, zeroed=0):
    rng = lesson.rng("twin")
    x = rng.normal(size=(images, reads, side, side)).astype(np.float32)
    w = rng.normal(size=(computes, reads, k, k)).astype(np.float32)
    w[computes - zeroed:] = 0
    return (lambda: conv.conv2d_ref(x, w, (1, 1), (0, 0), 1),
            lambda: conv.conv2d(x, w))

# %% tags=["slow"]
lesson.twin("maps", [
    ("20 to 50, 5 x 5", *pair(20, 50, 12, 5)),
    ("20 to 50, 40 zeroed", *pair(20, 50, 12, 5, zeroed=40)),
    ("20 to 10, 5 x 5", *pair(20, 10, 12, 5)),
    ("512 to 512, one pixel", *pair(512, 512, 1, 1, images=1))], rtol=1e-5)

# %% [markdown]
# Kernel or not: a zero is multiplied like any number, a channel that is gone is not. And where a
# map is one pixel, convolution is a matrix times a vector: there BLAS needs no help, and the
# kernel loses.
#
# ## Reflection (5 minutes)
#
# A colleague trains with the penalty, sets $\gamma$ and $\beta$ of 80 % of the channels to 0 and
# saves the net: same shapes, many zeros. What has he gained in time, what does it take to gain
# more, and which channels of a residual net could he not choose freely? Use the numbers of your
# run.

# %% tags=["reflect:06.r1"]
reflect("06.r1", """
""")

# %% [markdown]
# ## Next
#
# Lesson 7 asks the loss itself what a weight is worth, and moves the others when it goes. Lesson
# 8 makes layers smaller without choosing any channel.
