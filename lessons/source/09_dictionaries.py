# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # Lesson 9: Dictionaries: LCNN
#
# A filter is a heap of vectors, one at each place of its kernel, as long as there are channels. If
# all vectors of a layer are sums of a few *atoms*, the image need be multiplied by the atoms alone.
# **How few look-ups make a filter, and what does a look-up cost?**
#
# **Needs:** what a convolution computes, least squares. **Time:** 70 minutes. **You will have:**
# a convolution that looks its products up, and the sizes at which that loses.

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
from minicomp.compress import LCNN, SVD, FineTune, WeightSVD
from minicomp.compress.technique import Run
from minicomp.deploy import lower
from minicomp.kernels.codebook import lookups
from minicomp.kernels.threads import blas
from minicomp.nn import Conv2d, Dictionary, Model, chain
from minicomp.papers.lcnn2017 import ATOMS, REAL
from minicomp.passport import passport
from minicomp.teach import Lesson, check, figures, hint, predict, reflect
from minicomp.teach.asking.shown import Table
from minicomp.timing import race
from minicomp.train import evaluate

# %% tags=["mode"]
lesson = Lesson("09", mode="full", student="", course="open")
lesson

# %% [markdown]
# ## Warm-up (3 minutes)
#
# 1. `D = np.eye(3); D[[2, 0, 2]]`. What is its shape, what its last row?
# 2. 64 filters of 64 x 3 x 3: how many vectors of 64 channels are they?
# 3. Which multiple of (1, 1) is nearest to (2, 0)?
#
# <details><summary>Answers</summary>
#
# 1. (3, 3); [0, 0, 1].  2. 576.  3. (1, 1) itself.
#
# </details>
#
# ## Symbols
#
# | | |
# |---|---|
# | $W$ | filters, $O \times C \times K \times L$: computed, read, kernel |
# | $D$ | the dictionary: $k$ atoms, rows of $C$ |
# | $I$, $c$ | which atoms a place looks up, and how much of each; $s$ of them |
# | $P$ | the same as a table: a coefficient for every place and atom, mostly 0 |
# | $S$ | the maps of the atoms over an image $x$, $C \times H \times W$ |
# | $h$, $w$ | height and width of the output |
# | $\epsilon$, $\lambda$ | what a coefficient must exceed; the price of one |

# %% [markdown]
# ## Your guess (2 minutes)
#
# In LeNet-5's two large layers every vector becomes a sum of 2 atoms, of 10 and of 40; one epoch of
# training follows. The error on digits, in percent? And: 3 x 3 filters, 128 channels to 128, by two
# look-ups of 32 atoms need 19 times fewer products. How many times as fast are they?

# %% tags=["predict:09.p1"]
guess_error = predict("09.p1", None)

# %% tags=["predict:09.p2"]
guess_speed = predict("09.p2", None)

# %% [markdown]
# ## A toy: three vectors of two atoms

# %%
D = np.array([[1.0, 0.0, 2.0], [0.0, 3.0, -1.0]])
I, c = np.array([0, 1, 1]), np.array([2.0, 1.0, 0.5])
c[:, None] * D[I]

# %% [markdown]
# ## Exercise 1: filters from a dictionary (8 minutes)
#
# At place $(r, q)$ of filter $o$ stands a sum of $s$ atoms:
#
# $$W_{o,:,r,q} = \sum_{t < s} c_{orqt}\, D_{I_{orqt},:} .$$
#
# Return $W$, and $P$: the coefficient of every atom at every place, 0 where none is looked up. A
# place may look the same atom up twice. Leave the arguments of your functions as they are.

# %% tags=["exercise:09.decode"]
def decode(D, I, c):
    """D: (k, C); I, c: (O, K, L, s); returns W (O, C, K, L) and P (O, K, L, k)."""
    ### BEGIN SOLUTION
    P = np.zeros((*I.shape[:3], len(D)))
    np.add.at(P, (*np.indices(I.shape)[:3], I), c)
    return np.moveaxis(P @ D, -1, 1), P
    ### END SOLUTION

# %% tags=["check:09.decode"]
check("09.decode", decode)

# %% [markdown]
# Stuck? `hint("09.decode", 1)` is the idea, 2 the formula, 3 pseudocode. Every exercise has three.
#
# ## Exercise 2: the convolution that looks up (15 minutes)
#
# Multiply the image by the atoms, once: $S_{aij} = \sum_m D_{am}\, x_{mij}$. Then a filter is a sum
# of shifted, scaled maps:
#
# $$y_{oij} = \sum_{r, q, t} c_{orqt}\; S_{I_{orqt},\ i + r,\ j + q} .$$
#
# Return $y$ and the number of products: those of $S$, over all of the image, and one for each
# look-up and place of the output. Stride 1, no zeros around.

# %% tags=["exercise:09.lookup_conv"]
def lookup_conv(x, D, I, c):
    """x: (C, H, W); D: (k, C); I, c: (O, K, L, s); returns y (O, h, w) and an int."""
    ### BEGIN SOLUTION
    (O, K, L, s), (_, H, W) = I.shape, x.shape
    S, h, w = np.tensordot(D, x, 1), H - K + 1, W - L + 1
    y = np.zeros((O, h, w))
    for o, r, q, t in np.ndindex(O, K, L, s):
        y[o] += c[o, r, q, t] * S[I[o, r, q, t], r:r + h, q:q + w]
    return y, D.size * H * W + c.size * h * w
    ### END SOLUTION

# %% tags=["check:09.lookup_conv"]
check("09.lookup_conv", lookup_conv)

# %% [markdown]
# ## Exercise 3: whom to look up (15 minutes)
#
# Given the atoms, which $s$ make a vector $x$? To try all is too much. **Orthogonal matching
# pursuit** is greedy: of the atoms take that which agrees most in direction with what is *left*,
# $|D_j \cdot \mathrm{left}| / |D_j|$; then solve for the coefficients of *all* that were taken, by
# least squares. Stop after $s$ atoms, or when nothing is left (of the length a millionth).

# %% tags=["exercise:09.pursuit"]
def pursuit(x, D, s):
    """x: (C,); D: (k, C); s: at most k and C; returns p (k,), so that p D is near x."""
    ### BEGIN SOLUTION
    p, chosen, left, length = np.zeros(len(D)), [], x, np.linalg.norm(D, axis=1)
    while len(chosen) < s and np.linalg.norm(left) > 1e-6 * np.linalg.norm(x):
        chosen.append(int(np.argmax(np.abs(D @ left) / length)))
        p[chosen] = np.linalg.lstsq(D[chosen].T, x, rcond=None)[0]
        left = x - p @ D
    return p
    ### END SOLUTION

# %% tags=["check:09.pursuit"]
check("09.pursuit", pursuit)

# %% [markdown]
# ## A real net (15 minutes, of which the machine takes about 2)
#
# Bagherinezhad and others (2017) train $D$ and $P$: what is above $\epsilon$ is looked up, and
# $\lambda \sum |P|$ in the loss pulls the others below. Here training begins with pursuit, and the
# $s$ largest of each vector count; what does not count goes on training behind the threshold.
# Beside it the rival: low rank (lesson 8) of as many products as two look-ups.

# %% tags=["slow"]
lesson.about_data()

# %% tags=["slow"]
net, data, test = lesson.checkpoint("lenet5"), lesson.data.without_test(), lesson.data.test
passes = max(1, round(55_000 / len(data.train)))
how = dict(epochs=lesson.choose(smoke=1, full=passes, paper=20), lr=0.01)

def looked_up(lookups, knobs=how, **more):
    lcnn = LCNN(atoms=ATOMS, lookups=lookups, real=REAL, **more)
    return lcnn.training(**knobs).apply(net, data, Run(lesson.rng("atoms")))

def error(model):
    return 100 * evaluate(model, test).error

def fewer(model):
    return sum(net.macs().values()) / sum(model.effective_macs().values())

# %% tags=["slow"]
numbers = [1, 2, 3, 5]
nets = [looked_up(s) for s in numbers]
by_threshold = looked_up(3, eps=0.05, lam=1e-4)

def but(layer):
    return {"*": True, layer: False}

low = SVD(rank=25, skip=but("fc1")).apply(net, data, Run(None))
low = WeightSVD(rank=5, skip=but("conv2")).apply(low, data, Run(None))
low = FineTune(**how).apply(low, data, Run(lesson.rng("atoms")))

# %% tags=["slow"]
cut = [error(looked_up(s, {"epochs": 0})) for s in numbers]
tuned, error_dense, error_low = [error(model) for model in nets], error(net), error(low)
named = {str(s): model for s, model in zip(numbers, nets)} | {
    "above 0.05": by_threshold, "low rank": low, "none: dense": net}
errors = tuned + [error(by_threshold), error_low, error_dense]
kB = [save(model, "net.mcz") / 1000 for model in named.values()]
Table(["look-ups", "times fewer products", "file, kB", "looked up, %", "trained on, %"],
      [[name, f"{fewer(model):.1f}", f"{size:.0f}", f"{at:.2f}" if at else "", f"{e:.2f}"]
       for (name, model), size, at, e in zip(named.items(), kB, cut + [None] * 3, errors)])

# %% [markdown]
# Recorded on MNIST: {{mnist:error_dense}} before, with two look-ups {{mnist:cut_2}} as pursuit left
# it and {{mnist:tuned_2}} trained on; one has {{mnist:tuned_1}}, five {{mnist:tuned_5}}. Low
# rank of as many products as two has {{mnist:error_low}}. The file shrinks from
# {{mnist:bytes_dense}} to {{mnist:bytes_2}}, most of it atoms. More look-ups hardly help: ten atoms
# span half of conv2's twenty channels, and with $s = k$ a dictionary *is* a layer of rank $k$. What
# look-ups add is that each place picks a few directions of its own.

# %% tags=["slow"]
forms = [by_threshold.forms()[f"{name}.weight"] for name in ATOMS]
left = [form.lookups / form.places for form in forms]
f"a threshold leaves {left[0]:.1f} look-ups of a vector in conv2, {left[1]:.1f} in fc1"

# %% [markdown]
# Recorded on MNIST: {{mnist:left_conv}} and {{mnist:left_fc}}, with an error of
# {{mnist:error_threshold}}: easy vectors are content with fewer.
#
# ## The plot to remember

# %% tags=["plot", "slow", "memorable"]
form = nets[1].forms()["conv2.weight"]
first = form.P().reshape(50, 5, 5, form.k)[0]
by_name = {"looked up": cut, "trained on": tuned}
lesson.show(figures.atoms_and_lookups(form.atoms.dense().data, first, by_name, error_dense,
                                      lookups=numbers, guess=guess_error))

# %% tags=["slow"]
save(nets[1], "net.mcz")
print(passport(nets[1], path="net.mcz", data=test).summary())

# %% [markdown]
# ## By the clock
#
# No zeros around; look-ups, their maps included, against our dense convolution, whose weights lie
# ready. The last row is LeNet-5's second layer.

# %% tags=["slow"]
def drawn(C, O, size, K, k, s):
    draw, P = lesson.rng("contest"), np.zeros((O * K * K, k))
    who = draw.random(P.shape).argsort(axis=1)[:, :s]
    np.put_along_axis(P, who, draw.normal(size=who.shape), axis=1)
    form = Dictionary.of(draw.normal(size=(k, C)), P, (O, C, K, K))
    packed = lookups.pack_lookups(form.P().reshape(O, K, K, k), (k, size, size))
    return form, packed, draw.normal(size=(1, C, size, size)).astype(np.float32)

def contest(*sizes):
    form, packed, x = drawn(*sizes)
    model = Model(chain(("conv", Conv2d(*form.shape[1::-1], sizes[3], bias=False))),
                  input_shape=x.shape[1:])
    model.set_form("conv.weight", form)
    plan, D, h = lower(model).plan(skip_zeros=False), form.atoms.dense().data, packed.size[0]

    def look_up():
        return lookups.lookups(packed, (D @ x.reshape(len(x[0]), -1)).reshape(packed.shape))

    y = plan(x)[0]
    assert np.allclose(look_up()[:, :, :h], y, atol=1e-4 * np.abs(y).max())
    times = race({"look-ups": look_up, "dense": lambda: plan(x)},
                 seconds=lesson.choose(smoke=0.05, full=1), shortest=0.001)
    fewer = sum(model.macs().values()) / form.multiplications(x[0, 0].size, h * h)
    return fewer, times["dense"] / times["look-ups"], 1000 * times["look-ups"]

# %% tags=["slow"]
shapes = [(128, 128, 16, 3, 32, s) for s in (1, 2, 4, 8, 16)]
shapes += [(64, 64, 16, 3, 32, 2), (64, 64, 16, 3, 32, 8), (20, 50, 12, 5, 10, 2)]
with blas(1):
    clocked = [contest(*shape) for shape in shapes]
Table(["channels, filters, kernel", "atoms", "look-ups", "times fewer products",
       "times as fast", "ms"],
      [[f"{C}, {O}, {K} x {K}", k, s, f"{p:.1f}", f"{f:.2f}", f"{ms:.4f}"]
       for (C, O, _, K, k, s), (p, f, ms) in zip(shapes, clocked)],
      f"Your guess for 128 channels and two look-ups: {guess_speed} times as fast.")

# %% [markdown]
# Recorded: two look-ups of 128 channels are {{mnist:fast_2}} times as fast, 16 of them
# {{mnist:fast_16}} times; of 64 channels eight {{mnist:narrow_8}}; LeNet-5's layer
# {{mnist:small_2}}. A look-up reads a map for one product at each place; a dense kernel uses what
# it has read for many filters. So a program takes look-ups in large layers only, where few
# products are left.

# %% tags=["slow"]
products, fast, _ = map(list, zip(*clocked))
lesson.record(
    error_dense=error_dense, cut_1=cut[0], cut_2=cut[1], tuned_1=tuned[0], tuned_2=tuned[1],
    tuned_5=tuned[3], error_threshold=errors[4], error_low=error_low, left_conv=left[0],
    left_fc=left[1], fewer_1=fewer(nets[0]), fewer_2=fewer(nets[1]), fewer_low=fewer(low),
    bytes_2=kB[1], bytes_low=kB[5], bytes_dense=kB[6], fast_2=fast[1], fast_16=fast[4],
    narrow_2=fast[5], narrow_8=fast[6], small_2=fast[7], cut=cut, tuned=tuned,
    fast=fast, products=products)

# %% [markdown]
# ## The paper's row beside ours
#
# The paper's nets are those of ImageNet: AlexNet 3.2 times as fast at 55.1 % correct, 37.6 times at
# 44.3 %. Ours are products that were counted, no milliseconds; no row of the paper is of digits, so
# that only the trade compares.

# %% tags=["slow"]
Table([f"LeNet-5, {lesson.data.name}", "times fewer products", "correct, %"],
      [[f"{s} look-ups", f"{fewer(model):.1f}", f"{100 - e:.2f}"]
       for s, model, e in zip(numbers, nets, tuned)])

# %% [markdown]
# ## Where it breaks: a function to expose (6 minutes)
#
# Somebody else's `pursuit` passed all of *their* tests, of orthogonal atoms of length 1 and vectors
# without negative entries. It has one of four faults, drawn for your name: long atoms win; an
# agreement below 0 counts as small; earlier coefficients are not solved for again; all atoms are
# chosen at once. Find an input that shows this fault alone: your variant is wrong on it, and
# functions with the other three faults are right.

# %%
broken = lesson.broken("09.pursuit")
broken(np.array([3.0, 1.0]), np.eye(2), 2)

# %% tags=["exercise:09.broken"]
def failing_input():
    """Returns (x, D, s): shows `broken` alone."""
    ### BEGIN SOLUTION
    # Shows the fault of an empty name.
    return np.array([3.0, 0.0, 1.0]), np.array([[1, 0, 0], [0.8, 0.6, 0], [0, 0, 1]]), 2
    ### END SOLUTION

# %% tags=["check:09.broken"]
check("09.broken", failing_input, lesson)

# %% [markdown]
# ## The compiled twin
#
# NumPy makes a slice, a product and a sum for each look-up, and goes to memory three times; the
# kernel keeps a piece of the output in registers while all look-ups of a filter pass.

# %% tags=["slow"]
def pair(*sizes):
    form, packed, x = drawn(*sizes)
    S = np.tensordot(form.atoms.dense().data, x[0], 1)
    return lambda: lookups.lookups_ref(packed, S), lambda: lookups.lookups(packed, S)

lesson.twin("codebook", [("128 to 128, 3 x 3, 2 look-ups", *pair(128, 128, 16, 3, 32, 2)),
                         ("64 to 64, 3 x 3, 8 look-ups", *pair(64, 64, 16, 3, 32, 8)),
                         ("20 to 50, 5 x 5, 2 look-ups", *pair(20, 50, 12, 5, 10, 2)),
                         ("4 to 4, 1 x 1, 1 look-up", *pair(4, 4, 64, 1, 2, 1))])

# %% [markdown]
# ## Reflection (5 minutes)
#
# When would you look filters up? Say for a net of your own, or for LeNet-5, which layers, how many
# atoms and look-ups, and what products, milliseconds and bytes become. Use the numbers of your run.

# %% tags=["reflect:09.r1"]
reflect("09.r1", """
""")

# %% [markdown]
# ## Next
#
# Lesson 10 keeps all weights, and fewer bits of each. Lesson 14 makes a dictionary of codewords.
