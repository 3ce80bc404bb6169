# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # Lesson 18: Distillation: Hinton, FitNets, FSP, attention
#
# A label says: this is a 2. A trained net says: a 2, rather like a 3, not at all like a 4. **Can a
# small net learn more from the second than from the first?** So much more that it knows a digit
# that it has never seen?
#
# **Needs:** softmax and cross-entropy, the chain rule. **Time:** 70 minutes. **You will have:**
# the gradient of distillation in closed form, and a student that knows 3s without having seen one.

# %% tags=["colab"]
import subprocess
import sys

# On Colab, upload a wheel of minicomp or a zip of its checkout and name it here, or name a
# git+ address. Elsewhere this cell does nothing.
SOURCE = "minicomp.zip"
if "google.colab" in sys.modules:
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", SOURCE], check=True)

# %% tags=["imports"]
from dataclasses import replace

import numpy as np

from minicomp import no_grad, save
from minicomp.compress import AttentionTransfer, Distill, FineTune, FitNets
from minicomp.compress.distill import soft as library
from minicomp.compress.technique import Run
from minicomp.models.papers import DropoutMLP, GuptaCNN
from minicomp.papers.hinton2015 import best_offset, errors_of, raised, without
from minicomp.passport import passport
from minicomp.teach import Lesson, check, figures, hint, predict, reflect
from minicomp.teach.asking.shown import Table
from minicomp.train import evaluate

# %% tags=["mode"]
lesson = Lesson("18", mode="full", student="", course="open")
lesson

# %% [markdown]
# ## Warm-up (3 minutes)
#
# 1. Logits 0 and $\ln 9$: what does softmax make of them? And of half of them?
# 2. What is the gradient of softmax with cross-entropy in the logits?
# 3. $f(z/T)$ changes how fast with $z$, if $f'$ is known?
#
# <details><summary>Answers</summary>
#
# 1. 0.1 and 0.9; 0.25 and 0.75.  2. $q$ minus the target.  3. $f'(z/T)/T$.
#
# </details>
#
# ## Symbols
#
# | | |
# |---|---|
# | $z, v$ | logits of the student, of the teacher; $N$ examples, $K$ classes |
# | $T$ | temperature; $q, p$: softmax of $z/T$, of $v/T$ |
# | $\alpha$ | weight of the soft targets, $1 - \alpha$ that of the labels $y$ |
# | $A, B$ | feature maps of two layers, $(N, M, H, W)$ and $(N, L, H, W)$ |
# | $Q, G$ | attention map; flow between two layers |

# %% [markdown]
# ## Your guess (3 minutes)
#
# The teacher has seen all training images and errs on about 1 %. A net of two hidden layers of 100
# units sees 3,000 of them; with labels alone it errs on 7 or 8 %. And with the teacher's soft
# targets for the same 3,000? Then all 3s are taken out of them. The student is taught by soft
# targets, and in the end the bias of class 3 is raised by one number. Of the test set's 3s, how
# many percent does it know?

# %% tags=["predict:18.p1"]
guess_error = predict("18.p1", None)

# %% tags=["predict:18.p2"]
guess_threes = predict("18.p2", None)

# %% [markdown]
# ## A toy: three classes, three temperatures

# %%
v = np.array([9.0, 4.0, 1.0])
for T in (1, 4, 20):
    p = np.exp(v / T) / np.exp(v / T).sum()
    print(f"T = {T:2}: {p.round(3)}")

# %% [markdown]
# At $T = 1$ this says "class 0", like a label. At $T = 4$ it also says that class 1 is nearer than
# class 2. At $T = 20$ hardly a class stands out, yet the *order* is all there.
#
# ## Exercise 1: soft targets (6 minutes)
#
# Softmax of $z / T$, row by row. Logits may be 1000.

# %% tags=["exercise:18.soft_targets"]
def soft_targets(z, T):
    """z: (N, K) logits; T above 0. Returns (N, K), rows of sum 1."""
    ### BEGIN SOLUTION
    e = np.exp((z - z.max(axis=1, keepdims=True)) / T)
    return e / e.sum(axis=1, keepdims=True)
    ### END SOLUTION

# %% tags=["check:18.soft_targets"]
check("18.soft_targets", soft_targets)

# %% [markdown]
# Stuck? `hint("18.soft_targets", 1)` is the idea, 2 the formula, 3 pseudocode. Every exercise has
# three.
#
# ## Exercise 2: the gradient, and $T^2$ (12 minutes)
#
# $$L = (1 - \alpha)\, CE(y, z) + \alpha\, T^2\, KL(p \,||\, q)$$
#
# as a mean over the batch; $CE$ at temperature 1. Return $\partial L / \partial z$ in closed form:
# no differences, no loops over classes. Then see what $T^2$ is for: the soft term's slope in $z$
# falls as $1/T$, and $q - p$ falls as $1/T$ once more.

# %% tags=["exercise:18.kd_gradient"]
def kd_gradient(z, v, y, T, alpha):
    """z, v: (N, K) logits; y: (N,) labels. Returns dL/dz, (N, K)."""
    ### BEGIN SOLUTION
    hard = soft_targets(z, 1.0)
    hard[np.arange(len(z)), y] -= 1
    soft = T * (soft_targets(z, T) - soft_targets(v, T))
    return ((1 - alpha) * hard + alpha * soft) / len(z)
    ### END SOLUTION

# %% tags=["check:18.kd_gradient"]
check("18.kd_gradient", kd_gradient)

# %% [markdown]
# ## Exercise 3: what maps say (10 minutes)
#
# A teacher's inside can teach too. **FitNets**: the student's middle layer learns to say, through a
# linear map that is thrown away, what the teacher's says. **Attention** (Zagoruyko 2017) compares
# only *where* a layer looks: $Q = \sum_l B_l^2$ over the channels, a row of $HW$ numbers an
# example, divided by its Euclidean norm. **FSP** (Yim 2017) compares how one layer becomes another:
# $G_{ml} = \sum_{s,t} A_{mst} B_{lst} / (H W)$. Return both.

# %% tags=["exercise:18.map_targets"]
def map_targets(a, b):
    """a: (N, M, H, W); b: (N, L, H, W). Returns Q of b, (N, H W), and G, (N, M, L)."""
    ### BEGIN SOLUTION
    q = (b**2).sum(axis=1).reshape(len(b), -1)
    G = np.einsum("nmhw,nlhw->nml", a, b) / b[0, 0].size
    return q / np.linalg.norm(q, axis=1, keepdims=True), G
    ### END SOLUTION

# %% tags=["check:18.map_targets"]
check("18.map_targets", map_targets)

# %% [markdown]
# $Q$ asks for maps of one size, $G$ also for as many channels in both nets: our students have
# fewer than their teacher, so below you meet $Q$ alone (`--with fsp` is for nets of one width).
#
# ## The real net (14 minutes, of which the machine takes about 2)

# %% tags=["slow"]
lesson.about_data()

# %% tags=["slow"]
teacher, full = lesson.checkpoint("lenet5"), lesson.data.without_test()
few = full.train.take(slice(0, lesson.choose(smoke=200, full=3000)))
data = replace(full, train=few)
epochs = lesson.choose(smoke=1, full=10, paper=60)
start = DropoutMLP(100, dropout=(0.0, 0.0), rng=lesson.rng("start"))

def taught(start, *methods, data=data, epochs=epochs, lr=0.05):
    how = FineTune(epochs=epochs, lr=lr, batch_size=50, methods=methods)
    return how.apply(start, data, Run(lesson.rng("train")))

def error(model, split=lesson.data.test):
    return 100 * evaluate(model, split).error

# %% [markdown]
# One student from labels, one for each temperature, all from the same start. Which temperature is
# best, the *validation* images decide.

# %% tags=["slow"]
temperatures = (1, 2, 4, 20)
alone = taught(start)
students = [taught(start, Distill(teachers=teacher, T=float(T), alpha=0.9))
            for T in temperatures]
best = int(np.argmin([error(s, full.val) for s in students]))
errors = [error(s) for s in students]

# %% [markdown]
# ## The plot to remember

# %% tags=["slow"]
two = few.x[few.y == 2][:1]
with no_grad():
    logits = teacher(two).data
bars = {T: 100 * library.soft_targets(logits, T)[0] for T in temperatures}

# %% tags=["plot", "slow", "memorable"]
lesson.show(figures.soft_bars(bars, errors, alone=error(alone), teacher=error(teacher),
                              guess=guess_error))

# %% [markdown]
# Recorded on MNIST: labels alone {{mnist:error_alone}}, distilled {{mnist:error_soft}}, from the
# same images; the teacher has {{mnist:error_teacher}}. At $T = 1$ the teacher says little more
# than the label.
#
# ## The paper's row beside ours
#
# Errors of 10,000. The paper's student has 800 units, and sees all 60,000 images unmoved; its
# teacher saw moved ones. In the paper's size: `minicomp paper hinton2015`. There a student comes
# nearest to its teacher where both see images with pieces of others (`inputs="cutmix"`), more than
# there are, which no label fits.

# %% tags=["slow"]
ours = [evaluate(m, lesson.data.test).errors for m in (teacher, alone, students[best])]
lesson.beside_paper(["", "teacher", "labels alone", "distilled", "T"],
                    ["Hinton 2015, MNIST", "67", "146", "74", "20"],
                    [*map(str, ours), temperatures[best]])

# %% tags=["slow"]
sizes = [save(m, "net.mcz") / 1000 for m in (teacher, students[best])]
print(passport(students[best], path="net.mcz", data=lesson.data.test).summary())

# %% [markdown]
# ## A student that never saw a 3
#
# No 3 among its images, and a label never says 3. What 3s look like it can only know from what the
# teacher says of *other* digits. Its bias for 3 is then far too low, for 3s were rare; one number,
# the one of fewest errors on validation images, mends that. Beside it a net that had labels alone.

# %% tags=["slow"]
def mended(net):
    """The net with the bias of 3 raised, and by how much."""
    with no_grad():
        offset = best_offset(net(full.val.x).data, full.val.y, 3)
    return raised(net, 3, offset), offset

no3 = replace(data, train=without(few, 3))
blind = taught(start, Distill(teachers=teacher, T=float(temperatures[best]), alpha=0.9),
               data=no3)
(seeing, offset), (labelled, _) = mended(blind), mended(taught(start, data=no3))

# %% tags=["slow"]
n3 = np.sum(lesson.data.test.y == 3)
after = {"soft targets": blind, "bias raised": seeing, "labels, bias raised": labelled}
known = [100 * (1 - errors_of(m, lesson.data.test, 3) / n3) for m in after.values()]
Table(["never saw a 3", "3s known, %", "error on all, %"],
      [[name, f"{k:.1f}", f"{error(m):.2f}"] for (name, m), k in zip(after.items(), known)],
      f"You said {guess_threes}. The paper, with 800 units and all other digits: 98.6 % of the 3s.")

# %% [markdown]
# Recorded on MNIST: {{mnist:threes_unseen}} of the 3s, and with the bias raised by
# {{mnist:offset}} {{mnist:threes_raised}}. From labels, with a raised bias too,
# {{mnist:threes_labels}}: to them a 3 is only what looks like nothing else.
#
# ## Inside the teacher
#
# A small convolutional net (8 and 16 maps; the teacher has 20 and 50), taught by soft targets, by
# a hint at its second pooling, and by attention with soft targets.

# %% tags=["slow"]
soft = Distill(teachers=teacher, T=4.0, alpha=0.9)
ways = {"alone": (), "soft": (soft,), "both": (soft, AttentionTransfer(teachers=teacher)),
        "hint": (FitNets(teachers=teacher, to={"pool2": "pool2"}),)}
thin, rounds = GuptaCNN(rng=lesson.rng("thin")), lesson.choose(smoke=1, full=5, paper=30)
small = {name: error(taught(thin, *how, epochs=rounds, lr=0.03)) for name, how in ways.items()}
Table(["", "test error, %"], [[name, f"{e:.2f}"] for name, e in small.items()])

# %% tags=["slow"]
lesson.record(error_teacher=error(teacher), error_alone=error(alone), error_soft=errors[best],
              chosen=temperatures[best], threes_unseen=known[0], threes_raised=known[1],
              threes_labels=known[2], error_raised=error(seeing), offset=offset,
              **{f"thin_{name}": e for name, e in small.items()},
              kb_teacher=sizes[0], kb_student=sizes[1], temperatures=temperatures,
              errors=errors, **{f"bars_{T}": bars[T] for T in temperatures})

# %% [markdown]
# Recorded on MNIST: alone {{mnist:thin_alone}}, soft targets {{mnist:thin_soft}}, hint (with soft
# targets in its second stage) {{mnist:thin_hint}}, attention with soft targets
# {{mnist:thin_both}}. Soft targets helped; the hint, for which five rounds may be too few, gave
# nothing, and attention no more than they do alone. On glyphs even soft targets cost:
# {{glyphs:thin_soft}} against {{glyphs:thin_alone}}. A paper's gain is a gain on its nets and data.
#
# ## Where it breaks: a function to expose (6 minutes)
#
# Somebody else's `kd_gradient` was tried on one example at $T = 1$. It has one of four faults,
# drawn for your name: $T^2$ is missing; the teacher is not softened; $\alpha$ and $1 - \alpha$ are
# exchanged; it sums over the batch. Find an input that shows this fault alone: your variant is
# wrong on it, and functions with the other three faults are right.

# %%
broken = lesson.broken("18.kd_gradient")
one, other = np.array([[1.0, 0.0]]), np.array([[0.0, 2.0]])
broken(one, other, np.array([0]), 1.0, 0.5)

# %% tags=["exercise:18.broken"]
def failing_input():
    """Returns (z, v, y, T, alpha): shows `broken` alone."""
    ### BEGIN SOLUTION
    z = np.array([[1.0, 0.0]])
    return z, 0 * z, np.array([0]), 2.0, 0.5  # shows the fault of an empty name
    ### END SOLUTION

# %% tags=["check:18.broken"]
check("18.broken", failing_input, lesson)

# %% [markdown]
# ## The compiled twin
#
# Every step of a training ends in a softmax with cross-entropy. A batch has 500 logits: that is
# no work, only calls. And a large batch?

# %% tags=["slow"]
from minicomp.kernels.maps import softmax as kernel

def pair(n, k):
    rng = lesson.rng("twin")
    z, y = rng.normal(size=(n, k)).astype(np.float32), rng.integers(0, k, n)
    return lambda: kernel.cross_entropy_ref(z, y, 0.0), lambda: kernel.cross_entropy(z, y)

shapes = [(1, 10), (50, 10), (50, 1000), (1000, 1000)]
lesson.twin("maps", [(f"{n} x {k}", *pair(n, k)) for n, k in shapes], rtol=1e-5)

# %% [markdown]
# On a training's batch the kernel wins, for calls are all there is. On 1000 classes NumPy's
# vectorised exponential wins clearly.
#
# ## Reflection (5 minutes)
#
# Soft targets come from the same images. What is in them that labels do not hold, and where did you
# see it? Say also what did not help here, and why you need $T^2$. At most 130 words, with numbers
# of your run.

# %% tags=["reflect:18.r1"]
reflect("18.r1", """
""")

# %% [markdown]
# ## Next
#
# A teacher helps whatever student you chose. Which student *should* you choose, under so many
# bytes or MACs? That is a search.
