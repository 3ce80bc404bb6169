# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # Lesson 3: Blocks: depthwise, inverted residual, fire, shuffle, Xception
#
# Nobody pruned MobileNet: it was *built* small. Its trick cuts the work of a 3 x 3 convolution to
# an eighth. **Is it eight times as fast?**
#
# **Needs:** lesson 2's counts; a sum of products. **Time:** 65 minutes. **You will have:** the
# exact cost of a separable convolution, a channel shuffle, and a plot that says what a MAC costs.

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

from minicomp import conv, no_grad, save
from minicomp.compress import FineTune
from minicomp.compress.technique import Run
from minicomp.models import MODELS, DepthwiseNet32, mobilenet, shufflenet, squeezenet, xception
from minicomp.models.arguments import initialise
from minicomp.nn import BatchNorm2d, Conv2d, Model, Node, chain
from minicomp.passport import passport
from minicomp.teach import Lesson, check, figures, hint, predict, reflect
from minicomp.teach.asking.shown import Table
from minicomp.teach.live import timing

# %% tags=["mode"]
lesson = Lesson("03", mode="full", student="", course="open")
lesson

# %% [markdown]
# ## Warm-up (4 minutes)
#
# 1. A convolution 3 x 3 from 64 channels to 64: how many weights, without bias?
# 2. A 1 x 1 convolution: what does it see of its neighbours?
# 3. Two linear maps, one behind the other, nothing between. What are they together?
#
# <details><summary>Answers</summary>
#
# 1. 64 x 64 x 9 = 36,864.  2. Nothing: it mixes the channels of one pixel.  3. One linear map.
#
# </details>
#
# ## Symbols
#
# | | |
# |---|---|
# | $m, n$ | channels in, channels out (the papers' M and N) |
# | $h, w, k$ | height and width of the input; side of the window |
# | $g$ | groups of channels |
# | $E$ | inner channels of a block: $E = t\,m$, expansion $t$ |
# | full | an ordinary convolution: each output reads all $m$ channels |
# | depthwise | $m$ windows $k \times k$, one a channel, nothing mixed |
# | pointwise | 1 x 1: all channels of one pixel mixed |

# %% [markdown]
# ## Your guess (3 minutes)
#
# 64 channels in and out, 14 x 14 pixels: a full 3 x 3 convolution against depthwise 3 x 3 and
# pointwise 1 x 1, batch norm and ReLU6 behind each layer. The second does 7.9 times fewer MACs.
# How many times as fast is it, here, by the clock? And which layer does the fewest MACs *a
# second*: `"full"`, `"pointwise"` or `"depthwise"`?

# %% tags=["predict:03.p1"]
guess_times = predict("03.p1", None)

# %% tags=["predict:03.p2"]
guess_slowest = predict("03.p2", None)

# %% [markdown]
# ## A toy: two steps on 5 x 5 pixels
#
# Two maps. Depthwise gives each a window of its own; pointwise adds them up, here once and twice.

# %%
x = np.arange(50.0).reshape(1, 2, 5, 5)
blur, edge = np.ones((3, 3)) / 9, np.array([[0, 0, 0], [-1, 0, 1], [0, 0, 0.0]])
deep = conv.conv2d(x, np.array([[blur], [edge]]), groups=2)
y = conv.conv2d(deep, np.array([1.0, 2.0]).reshape(1, 2, 1, 1))
y[0, 0], f"{2 * 9 + 2} weights; a full 3 x 3 to as many maps has {1 * 2 * 9}"

# %% [markdown]
# With one output nothing is saved. The windows are shared by all outputs: the more, the better.
#
# ## Exercise 1: what it costs (8 minutes)
#
# Depthwise $k \times k$ with a stride, padded by $(k - 1)/2$, so that a side of $h$ has
# $\lfloor (h - 1)/s \rfloor + 1$ places; behind it pointwise to $n$ channels. No bias. Return
# parameters, MACs, and the MACs as a share of the full convolution's from $m$ to $n$. The papers'
# $1/n + 1/k^2$ must come out.

# %% tags=["exercise:03.separable_cost"]
def separable_cost(m, n, h, w, k, stride):
    """Returns (params, macs, share): two integers and a fraction."""
    ### BEGIN SOLUTION
    places = ((h - 1) // stride + 1) * ((w - 1) // stride + 1)
    params = m * k * k + m * n
    return params, params * places, params / (m * n * k * k)
    ### END SOLUTION

# %% tags=["check:03.separable_cost"]
check("03.separable_cost", separable_cost)

# %% [markdown]
# Stuck? `hint("03.separable_cost", 1)` is the idea, 2 the formula, 3 pseudocode. Every exercise
# has three.
#
# ## Exercise 2: the shuffle (9 minutes)
#
# In MobileNet the pointwise steps do nearly all the work, so ShuffleNet does them in $g$ groups:
# $g$ times cheaper. But then a group only ever reads itself. Between two such steps channels are
# dealt out like cards: the first of every group, the second of every group, and so on. It is a
# *permutation*: nothing is computed. Return the maps in their new order, and `source`, from where
# each comes: `y[i]` is `x[source[i]]`.

# %% tags=["exercise:03.channel_shuffle"]
def channel_shuffle(x, groups):
    """x: (C, H, W), C a multiple of groups; returns y like x, and source, (C,) integers."""
    ### BEGIN SOLUTION
    source = np.arange(len(x)).reshape(groups, -1).T.ravel()
    return x[source], source
    ### END SOLUTION

# %% tags=["check:03.channel_shuffle"]
check("03.channel_shuffle", channel_shuffle)

# %% [markdown]
# ## Exercise 3: what does a block compute? (12 minutes)
#
# MobileNetV2's *inverted residual* goes from $m$ channels up to $E$ (1 x 1, matrix $e$), depthwise
# (windows $d_i$), and down to $n$ (1 x 1, matrix $p$). Leave out its activations and batch norms,
# and it is linear: *one* full convolution computes the same. Return its kernel. (With $E = m$ and
# $e$ the identity this is MobileNet's separable block. Whoever factorises a full kernel goes the
# other way; with $E = m k^2$ that always works.)

# %% tags=["exercise:03.merged"]
def merged(e, d, p):
    """e: (E, m); d: (E, k, k); p: (n, E). Returns w, (n, m, k, k)."""
    ### BEGIN SOLUTION
    return np.einsum("ni,ikl,im->nmkl", p, d, e)
    ### END SOLUTION

# %% tags=["check:03.merged"]
check("03.merged", merged)

# %% [markdown]
# Between the two 1 x 1 steps ReLU6 stands, or all this were a detour. After the last there is
# none: a ReLU on few channels loses what it cuts. That is the *linear bottleneck*.
#
# ## Five nets at their published size (6 minutes)
#
# **Fire** (SqueezeNet): 1 x 1 to few maps, then 1 x 1 and 3 x 3 side by side. **Xception**:
# separable blocks all the way, no activation between their two steps. Counted, not quoted:

# %%
published = {"mobilenetv1": 224, "mobilenetv2": 224, "squeezenet1_0": 224,
             "shufflenet": 224, "xception": 299}
counted = {}
for name, side in published.items():
    net = MODELS[name](classes=1000, resolution=side, width=1.0)
    trained = sum(p.data.size for p in net.parameters().values())
    counted[name] = f"{trained:,}", f"{sum(net.macs().values()):,}"

# %% [markdown]
# ## The papers' rows beside ours

# %%
papers = {"mobilenetv1": ("4.2", "569"), "mobilenetv2": ("3.4", "300"),
          "squeezenet1_0": ("1.2", "-"), "shufflenet": ("-", "137"), "xception": ("22.9", "-")}
Table(["", "paper: parameters, M", "here", "paper: MACs, M", "here"],
      [[n, papers[n][0], counted[n][0], papers[n][1], counted[n][1]] for n in papers],
      "ImageNet's 1000 classes, width 1. ShuffleNet's authors leave out its dense layer.")

# %% [markdown]
# ## On the clock (6 minutes)
#
# Layers alone, and blocks as the nets have them, at four shapes, 8 images at once. Of several short
# races the fastest counts: other programs can only slow one down.

# %%
def layer(k, c, groups=1):
    return chain(("conv", Conv2d(c, c, k, padding=k // 2, groups=groups, bias=False)))

def separable(c):
    return chain(*mobilenet.separable("b", c, c, 1))

def full_block(c):
    return layer(3, c) + chain(("bn", BatchNorm2d(c)), ("relu", mobilenet.ReLU6()), source="conv")

# %%
kinds = {"full": lambda c: layer(3, c), "pointwise": lambda c: layer(1, c),
         "depthwise": lambda c: layer(3, c, c), "separable": separable,
         "inverted": lambda c: mobilenet.inverted_residual("b", c, c, 1, 6, "x"),
         "fire": lambda c: squeezenet.fire("b", c, c // 8, c // 2, "x"),
         "shuffle": lambda c: shufflenet.unit("b", c, c, (4, 4), "x"),
         "xception": lambda c: xception.block("b", c, [c] * 3, 1, "x")}
shapes = lesson.choose(smoke=[(32, 14), (64, 14)],
                       full=[(16, 28), (32, 14), (64, 14), (128, 7)])

# %%
def runner(nodes, c, side):
    """Returns the net of some nodes, and a function that runs it on 8 images."""
    net = initialise(Model(nodes, input_shape=(c, side, side)), rng=lesson.rng("weights"))
    x, weights = lesson.rng("x").normal(size=(8, c, side, side)).astype(np.float32), net.decode()
    def run():
        with no_grad():
            return net(x, weights=weights).data
    return net, run

# %%
def seconds(run):
    races = lesson.choose(smoke=1, full=7)
    return min(min(timing.side_by_side(run, run, seconds=0.03)) for _ in range(races))

# %% tags=["slow"]
mmac, ms = {kind: [] for kind in kinds}, {kind: [] for kind in kinds}
for c, side in shapes:
    for kind, nodes in kinds.items():
        net, run = runner(nodes(c), c, side)
        mmac[kind].append(sum(net.macs().values()) / 1e6)
        ms[kind].append(1000 * seconds(run) / 8)

# %% [markdown]
# ## The plot to remember

# %% tags=["slow"]
pair = [runner(nodes(64), 64, 14) for nodes in (full_block, separable)]
slow, fast = (seconds(run) for _, run in pair)
fewer = np.divide(*(sum(net.macs().values()) for net, _ in pair))
rates = {kind: np.median(np.divide(mmac[kind], ms[kind])) for kind in kinds}
f"{fewer:.1f} times fewer MACs, {slow / fast:.1f} times as fast; you said {guess_times}"

# %% tags=["plot", "slow", "memorable"]
lesson.show(figures.macs_and_ms(mmac, ms, guess_times, shapes.index((64, 14))))

# %% [markdown]
# **Depthwise lies off the line.** Recorded with MNIST: full {{mnist:rate_full}}, pointwise
# {{mnist:rate_pointwise}}, depthwise {{mnist:rate_depthwise}}. A full convolution uses each number
# that it reads $9n$ times, a depthwise one 9 times: most of its time goes into reading and writing.
# So does all of a batch norm's and a shuffle's, which have no MACs. With {{mnist:times_fewer}}
# fewer MACs the separable block is {{mnist:times_faster:range}} faster.
#
# ## A real net (10 minutes, of which the machine takes about 1)
#
# A small net of three separable blocks, and its twin with a full 3 x 3 in place of each. The
# passport's milliseconds are of a program for one image, its batch norms folded away.

# %% tags=["slow"]
lesson.about_data()

# %% tags=["slow"]
def with_full(net):
    """The net with one full convolution for every depthwise and pointwise pair."""
    swap = {}
    for b in ("block1", "block2", "block3"):
        deep, point = net.node(f"{b}.dw").layer, net.node(f"{b}.pw").layer
        one = Conv2d(deep.in_channels, point.out_channels, 3, deep.stride, 1, bias=False)
        swap |= {f"{b}.dw": (), f"{b}.dw_bn": (), f"{b}.dw_relu": ()}
        swap[f"{b}.pw"] = (Node(f"{b}.conv", one, net.node(f"{b}.dw").inputs),)
    return net.edit(swap)

# %% tags=["slow"]
data = lesson.data.without_test()
few = data.train.take(slice(0, lesson.choose(smoke=1000, full=20_000, paper=60_000)))
epochs = lesson.choose(smoke=1, full=round(20_000 / len(few)), paper=20)
how = FineTune(epochs=epochs, lr=0.05, batch_size=64, weight_decay=5e-4, schedule="cosine")
small = DepthwiseNet32(channels=1, resolution=28, width=0.5, normalize=data.normalize)
nets, cards = {"separable": small, "full": with_full(small)}, {}

# %% tags=["slow"]
for name, net in nets.items():
    start = initialise(net, rng=lesson.rng("start"))
    net = nets[name] = how.apply(start, replace(data, train=few), Run(lesson.rng("train")))
    save(net, f"{name}.mcz")
    cards[name] = passport(net, path=f"{name}.mcz", data=lesson.data.test)
    print(f"{name}: {cards[name].summary()}")

# %% tags=["slow"]
lesson.record(times_fewer=fewer, times_faster=slow / fast,
              **{f"rate_{kind}": rates[kind] for kind in ("full", "pointwise", "depthwise")},
              **{f"error_{n}": 100 * c.error for n, c in cards.items()},
              **{f"kb_{n}": c.file_bytes / 1000 for n, c in cards.items()},
              net_fewer=cards["full"].macs / cards["separable"].macs,
              net_faster=cards["full"].ms / cards["separable"].ms,
              **{f"mmac_{kind}": mmac[kind] for kind in kinds},
              **{f"ms_{kind}": ms[kind] for kind in kinds})

# %% [markdown]
# Recorded on MNIST: {{mnist:kb_full}} and {{mnist:kb_separable}} on disk; {{mnist:net_fewer}}
# fewer MACs, {{mnist:net_faster:range}} faster; errors {{mnist:error_full}} and
# {{mnist:error_separable}}. The small net is no gift: after 20,000 images it knows less. What more
# a small net can learn is lesson 18's subject.
#
# ## Where it breaks: a function to expose (6 minutes)
#
# Somebody else's `separable_cost` agrees with yours on many layers. It has one of four faults,
# drawn for your name: a filter for each output, not input; windows of $k$ weights; pointwise
# counted before the stride; the map taken as square. Find an input that shows this fault alone:
# your variant is wrong on it, and functions with the other three faults are right.

# %%
broken = lesson.broken("03.separable_cost")
broken(4, 4, 8, 8, 1, 1), broken(32, 32, 14, 14, 1, 1)

# %% tags=["exercise:03.broken"]
def failing_input():
    """Returns (m, n, h, w, k, stride), k odd: shows `broken` alone."""
    ### BEGIN SOLUTION
    return 1, 2, 3, 3, 1, 1  # shows the fault of an empty name
    ### END SOLUTION

# %% tags=["check:03.broken"]
check("03.broken", failing_input, lesson)

# %% [markdown]
# ## The compiled twin
#
# minicomp has a kernel for depthwise maps: channels side by side in memory, nine windows' numbers
# kept in registers. Beside it a full one, and a pointwise one where a map is a single pixel.

# %% tags=["slow"]
from minicomp.kernels.maps import conv as kernel

def twins(c, side, k, groups, images=8):
    rng, at = lesson.rng("twin"), (k // 2, k // 2)
    x = rng.normal(size=(images, c, side, side)).astype(np.float32)
    w = rng.normal(size=(c, c // groups, k, k)).astype(np.float32)
    return (lambda: kernel.conv2d_ref(x, w, (1, 1), at, groups),
            lambda: kernel.conv2d(x, w, padding=at, groups=groups))

# %% tags=["slow"]
lesson.twin("maps", [("depthwise 3 x 3, 64 channels", *twins(64, 14, 3, 64)),
                     ("full 3 x 3, 64 channels", *twins(64, 14, 3, 1)),
                     ("pointwise, 512 channels, one pixel", *twins(512, 1, 1, 1, images=1))],
            rtol=1e-5)

# %% [markdown]
# The fewer MACs a number is read for, the more the way of reading counts: the depthwise kernel
# gains most. On one pixel a convolution is a matrix times a vector: there BLAS needs no help, and
# the kernel loses.
#
# ## Reflection (5 minutes)
#
# A colleague replaces every 3 x 3 convolution of a net by a separable block, "because that is
# eight times as fast". What does he gain in bytes, in MACs and in milliseconds, what does it cost,
# and where does the time go? At most 120 words, with numbers of your run.

# %% tags=["reflect:03.r1"]
reflect("03.r1", """
""")

# %% [markdown]
# ## Next
#
# Lesson 4 leaves the architecture alone and removes weights one by one. Lesson 10 rounds
# depthwise filters, which take it worst of all.
