# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # Lesson 19: Architecture search
#
# Until now somebody had chosen the net, and we made it smaller. Which net should it have been? **Of
# 96 small LeNets, find the best that fits into 6,000 bytes and 200,000 multiplications, training
# 20. Does a clever search beat drawing at random, and is its winner as good as it looked?**
#
# **Needs:** lesson 2; minimum and mean; a queue. **Time:** 65 minutes. **You will have:** evolution
# of your own that finds a known optimum, and a reason to distrust winners.

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

from minicomp.data import Dataset
from minicomp.optim import Adam, cosine
from minicomp.search import (
    Limit, Space, Trials, declared_bytes, evolve, random_search, small_lenet)
from minicomp.teach import Lesson, check, figures, hint, predict, reflect
from minicomp.teach.asking.shown import Table
from minicomp.train import evaluate, fit

# %% tags=["mode"]
lesson = Lesson("19", mode="full", student="", course="open")
lesson

# %% [markdown]
# ## Warm-up (3 minutes)
#
# 1. Five choices with 3, 4, 2, 2 and 2 values: how many nets?
# 2. You draw 20 of 40 nets. How likely is the best among them?
# 3. Twenty fair coins are tossed ten times each. Will the best coin of the twenty again show as
#    many heads?
#
# <details><summary>Answers</summary>
#
# 1. 96.  2. A half.  3. Hardly: it was picked for its luck.
#
# </details>
#
# ## Symbols
#
# | | |
# |---|---|
# | $n, d$ | nets of a space, choices of a net |
# | $P$ | nets alive: the population |
# | $S$ | nets drawn a cycle: the sample |
# | $T$ | cycles |
# | $\hat e_i, e_i$ | error of net $i$ as the search sees it, and on images it never sees |

# %% [markdown]
# ## Your guess (2 minutes)
#
# About half of the 96 nets are within the limits. Evolution trains 20 of them. In how many of 20
# searches will it find the very best of what it can see?

# %% tags=["predict:19.p1"]
guess = predict("19.p1", None)

# %% [markdown]
# ## A space is data (toy)
#
# A net is a **code**: which value each of its choices has. Two choices of three and two values make
# a table, and a limit says which entries may be trained at all, before anything is:

# %%
filters, kernels = (2, 4, 8), (3, 5)
weights = np.array([[10 * f * k * k for k in kernels] for f in filters])
allowed = weights <= 1000
weights, allowed

# %% [markdown]
# ## Exercise 1: the nets around a net (8 minutes)
#
# Return all codes that differ from `code` in exactly one choice, by any value, and are allowed: an
# array `(m, d)`. Those that change the first choice come first; of one choice, the lowest value.

# %% tags=["exercise:19.neighbours"]
def neighbours(code, allowed):
    """code: (d,) integers; allowed: bool, an axis for each choice."""
    ### BEGIN SOLUTION
    found = []
    for k, size in enumerate(allowed.shape):
        for value in range(size):
            other = np.array(code)
            other[k] = value
            if value != code[k] and allowed[tuple(other)]:
                found.append(other)
    return np.array(found, int).reshape(-1, len(code))
    ### END SOLUTION

# %% tags=["check:19.neighbours"]
check("19.neighbours", neighbours)

# %% [markdown]
# Stuck? `hint("19.neighbours", 1)` is the idea, 2 the formula, 3 pseudocode. Every exercise has
# three.
#
# ## Evolution
#
# Real, Aggarwal, Huang and Le, 2019. A queue of $P$ nets, all trained. In each cycle:
#
# $$\mathrm{parent} = \arg\min_{i \in \mathrm{sample}} \hat e_i,\qquad
# \mathrm{child} = \mathrm{mutate}(\mathrm{parent}),\qquad\mathrm{the\ oldest\ dies.}$$
#
# The child is trained and joins the queue at its end. Why the *oldest*, not the worst? A net that
# was lucky once would otherwise stay for ever and have all the children. This way a net lives on
# only if its children, trained anew, are good too. The best of *all that were tried* is returned.
#
# ## Exercise 2: evolution (18 minutes)
#
# All that is random is given. Net `i` has the error `errors[i]` and can mutate into `near[i]`, a
# row of nets. `first` are the $P$ nets at the beginning, oldest first. In cycle $t$, `drawn[t]`
# are places in the queue, 0 the oldest; the child is number `picks[t]` in its parent's row. Of
# equal errors the older one counts. Return an array of all nets tried, in order, and the best of
# them.

# %% tags=["exercise:19.evolution"]
def evolution(errors, near, first, drawn, picks):
    """errors: (n,); near: (n, m); first: (P,); drawn: (T, S); picks: (T,)."""
    ### BEGIN SOLUTION
    queue, tried = list(first), list(first)
    for sample, pick in zip(drawn, picks):
        parent = min((queue[place] for place in sorted(sample)), key=lambda i: errors[i])
        child = near[parent][pick]
        queue = queue[1:] + [child]
        tried.append(child)
    return np.array(tried), min(tried, key=lambda i: errors[i])
    ### END SOLUTION

# %% tags=["check:19.evolution"]
check("19.evolution", evolution)

# %% [markdown]
# ## The real space (15 minutes, of which the machine takes about 2)
#
# 96 small LeNets: filters of two convolutions, their kernels, hidden units. Bytes are those of a
# file with 8 bits a weight, its header included.

# %% tags=["slow"]
lesson.about_data()

# %% tags=["slow"]
def make(*, rng, **choice):
    return small_lenet(normalize=lesson.data.normalize, rng=rng, **choice)

space = Space({"conv1": (2, 4, 8), "conv2": (4, 8, 12, 16), "kernel1": (3, 5),
               "kernel2": (3, 5), "hidden": (12, 32)},
              make, weigh=lambda model: declared_bytes(model, bits=8))
within = space.under(Limit(bytes=6000, macs=200_000))
nets = list(space)
f"{len(nets)} nets, {len(list(within))} of them with {within.limit}"

# %% [markdown]
# So small a space can be **enumerated**: we train every net, for a few seconds' worth of images,
# and know what there is to find. A search sees errors on 400 validation images only; the truth is
# measured on all the other validation images, which no search sees.

# %% tags=["slow"]
examples = lesson.choose(smoke=100, full=4000, paper=20_000)
shown, truth_split = (lesson.data.val.take(s) for s in (slice(0, 400), slice(400, None)))
few = Dataset(lesson.data.name, lesson.data.train.take(slice(examples)), shown)

def errors_of(choice):
    rng = np.random.default_rng([lesson.seed, *space.encode(choice)])
    model = space.build(choice, rng=rng)
    fit(model, few, epochs=1, optimizer=Adam(model.parameters(), lr=0.01), batch_size=25,
        schedule=cosine(), rng=rng)
    return [100 * evaluate(model, split).error for split in (shown, truth_split)]

# %% tags=["slow"]
table = {space.encode(choice): errors_of(choice) for choice in nets}
seen, truth = np.array(list(table.values())).T
sizes = np.array([space.cost("bytes", choice) for choice in nets])
inside = np.array([within.admits(choice) for choice in nets])
optimum = seen[inside].min()

# %% [markdown]
# Now 20 searches of each kind, from different seeds. Each may look at 20 nets.

# %% tags=["slow"]
KINDS = {"evolution": evolve, "random": random_search,
         "the worst dies": lambda *args, **kw: evolve(*args, remove="worst", **kw)}
found = {kind: [] for kind in KINDS}
for kind, search in KINDS.items():
    for i in range(20):
        trials = Trials(within, lambda choice: table[space.encode(choice)][0], most=20)
        search(within, trials, rng=lesson.rng(f"search {i}"))
        found[kind].append(trials)

# %% tags=["slow"]
curves = {kind: np.array([np.minimum.accumulate([t.error for t in trials.rows])
                          for trials in row]) for kind, row in found.items()}
hits = {kind: int((curve[:, -1] <= optimum).sum()) for kind, curve in curves.items()}
winners = {kind: np.array([table[space.encode(t.best().choice)] for t in row])
           for kind, row in found.items()}
Table(["of 20 searches", "found the optimum", "winner as seen, %", "not seen, %"],
      [[kind, hits[kind], *(f"{e:.2f}" for e in winners[kind].mean(0))] for kind in KINDS],
      f"The least error that a search can see is {optimum:.2f} %.")

# %% [markdown]
# ## The plot to remember

# %% tags=["plot", "slow", "memorable"]
lesson.show(figures.searches(curves, optimum, sizes, truth, inside, guess=guess))

# %% [markdown]
# Recorded on MNIST: of 20 searches evolution finds the optimum in {{mnist:hits_oldest}}, random
# search in {{mnist:hits_random}}; where the worst dies instead of the oldest, in
# {{mnist:hits_worst}}: here every net is trained once, so its luck stays, whoever dies. As their
# searches *saw* them, the winners of evolution and of chance err on {{mnist:seen_oldest}} and
# {{mnist:seen_random}}. On images that no search saw: {{mnist:true_oldest}} and
# {{mnist:true_random}}, where the best net within the limit has {{mnist:best}}. Evolution finds the
# optimum more often; is it the right one?
#
# ## The winner's curse
#
# Each $\hat e_i$ is counted on 400 images, so it is $e_i$ plus luck. Averaged over *all* nets luck
# is 0; what is left says how much harder these 400 are for everybody. But a search returns the
# **minimum**, and whoever has the least $\hat e_i$ is probably good *and* lucky:

# %% tags=["slow"]
curse_all = (truth - seen)[inside].mean()
curse_winners = np.diff(winners["evolution"]).mean()
f"not seen less seen: all nets {curse_all:+.2f} %, winners {curse_winners:+.2f} %"

# %% [markdown]
# Recorded on MNIST: {{mnist:curse_all}} for all, {{mnist:curse_winners}} for winners; the
# difference is luck, and it ate what evolution had gained over chance. The harder you search on
# the same images, the luckier the winner. The cure: a winner's own number never counts; measure
# it once more, on other images.
#
# ## The paper's row beside ours
#
# Li and Talwalkar, 2019, asked the same of the searches of their day, on CIFAR-10: DARTS against
# drawing at random with shared weights. Test errors of the winners:

# %% tags=["slow"]
mean = {kind: pair.mean(0) for kind, pair in winners.items()}
lesson.beside_paper(["", "searched, %", "random, %"],
                    ["Li & Talwalkar 2019, CIFAR-10, from memory", "2.76", "2.85"],
                    [f"{mean['evolution'][1]:.2f}", f"{mean['random'][1]:.2f}"],
                    about=[lesson.data])

# %% tags=["slow"]
short = {"evolution": "oldest", "random": "random", "the worst dies": "worst"}
lesson.record(
    nets=inside.sum(), optimum=optimum, best=truth[inside].min(),
    curse_all=curse_all, curse_winners=curse_winners,
    seen_random=mean["random"][0], true_random=mean["random"][1],
    seen_oldest=mean["evolution"][0], true_oldest=mean["evolution"][1],
    sizes=sizes, truth=truth, inside=inside,
    **{f"hits_{short[kind]}": n for kind, n in hits.items()},
    **{f"curve_{short[kind]}": curve.mean(0) for kind, curve in curves.items()})

# %% [markdown]
# ## Where it breaks: a function to expose (6 minutes)
#
# Somebody else's `neighbours` is right on the net below. It has one of four faults, drawn for your
# name in the second cell: a choice moves by one value only; the code itself is among its
# neighbours; the limit is not asked; the first choice is never changed. Find an input that shows
# this fault alone: your variant is wrong on it, and functions with the other three faults are
# right.

# %%
broken = lesson.broken("19.neighbours")
broken(np.array([0, 0]), np.array([[False, True]]))

# %% tags=["exercise:19.broken"]
def failing_input():
    """Returns (code, allowed) that shows the fault of `broken` alone."""
    ### BEGIN SOLUTION
    return np.array([0, 0]), np.array([[False, True, True]])  # shows the fault of an empty name
    ### END SOLUTION

# %% tags=["check:19.broken"]
check("19.broken", failing_input, lesson)

# %% [markdown]
# ## The compiled twin
#
# The limit counts multiplications because they are known before anything is trained. Are they
# time? The two kernels of the space's first layer, 8 filters, one image; the NumPy reference beside
# the compiled kernel:

# %% tags=["slow"]
from minicomp.kernels.maps import conv as kernel

def pair(filters, size):
    rng = lesson.rng("twin")
    x = rng.normal(size=(1, 1, 28, 28)).astype(np.float32)
    w = rng.normal(size=(filters, 1, size, size)).astype(np.float32)
    return (lambda: kernel.conv2d_ref(x, w, (1, 1), (0, 0), 1),
            lambda: kernel.conv2d(x, w))

# %% tags=["slow"]
lesson.twin("maps", [(f"{f} filters {k} x {k}: {f * k * k * (29 - k) ** 2:,} MACs", *pair(f, k))
                     for f in (2, 8) for k in (3, 5)], rtol=1e-5)

# %% [markdown]
# Nearly ten times the multiplications, and how much more time? A call has a price of its own.
# Whoever wants milliseconds must put them into the limit: `Limit(ms=0.05)` measures each net once.
#
# ## Reflection (5 minutes)
#
# A colleague searched 5,000 nets on 400 validation images and reports the winner's error on these
# images. What do you ask, what would you measure, and what would random search have told? Use the
# numbers of your run.

# %% tags=["reflect:19.r1"]
reflect("19.r1", """
""")

# %% [markdown]
# ## Next
#
# Lesson 20 puts everything together: the smallest file that still reads digits nobody has seen.
