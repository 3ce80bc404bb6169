# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # Lesson 1: Autograd and layers, checked by differences
#
# Every net in this course learns from gradients that a program works out by itself. **How do you
# know that they are right?** A wrong gradient rarely crashes: the net learns a little worse, and
# you look for the fault elsewhere.
#
# **Needs:** the chain rule; matrix products. **Time:** 60 minutes. **You will have:** three
# backward passes of your own, and a way to check anybody's.

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

from minicomp import Tensor, grad, ops
from minicomp.conv import conv2d
from minicomp.nn.graph import Node
from minicomp.nn.layers import Tanh
from minicomp.nn.losses import cross_entropy
from minicomp.teach import Lesson, check, figures, hint, predict, reflect
from minicomp.teach.asking.shown import Table

# %% tags=["mode"]
lesson = Lesson("01", mode="full", student="", course="open")
lesson

# %% [markdown]
# ## Warm-up (3 minutes)
#
# 1. $f(x) = x^2$. What is $\frac{f(3 + h) - f(3 - h)}{2h}$ for $h = 0.1$?
# 2. $y = \max(x, 0)$. By how much does $y$ change if $x = -2$ grows by 0.001?
# 3. float64 keeps about 16 digits. What is left of them in $1.0000000000000002 - 1$?
#
# <details><summary>Answers</summary>
#
# 1. Exactly 6, the derivative: for a parabola the errors of both sides cancel.  2. Not at
# all.  3. One digit, and not a good one.
#
# </details>
#
# ## Symbols
#
# | | |
# |---|---|
# | $L$ | the loss, one number |
# | $g$ | cotangent: $\partial L / \partial y$, of the shape of the output $y$ |
# | $h$ | step of a finite difference |
# | $N, C, O$ | batch, channels in, channels out |
# | $a, b$ | row and column within a convolution's kernel |

# %% [markdown]
# ## Your guess (2 minutes)
#
# We check a derivative by the **central difference** $\frac{L(w + h) - L(w - h)}{2h}$. Which step
# makes it most accurate in float64? Write the power of ten: `-3` for $h = 0.001$.

# %% tags=["predict:01.p1"]
guess = predict("01.p1", None)

# %% [markdown]
# ## A toy you can follow by hand
#
# A `Tensor` remembers how it was computed. `grad` walks back along that memory and multiplies by
# one slope per step. For $L = \sum \max(a\,b, 0)$:

# %%
a = Tensor(np.array([[1.0, 2.0], [-1.0, 0.5]]), requires_grad=True)
b = Tensor(np.array([[2.0, 0.0], [1.0, -3.0]]), requires_grad=True)
y = ops.matmul(a, b)
loss = ops.relu(y).sum()
y.data, loss.item(), grad(loss, a).data

# %% [markdown]
# Now change `a[0, 0]` by hand, up and down, and see what the loss does:

# %%
def loss_at(value):
    moved = np.array([[value, 2.0], [-1.0, 0.5]])
    return float(np.maximum(moved @ b.data, 0).sum())

(loss_at(1 + 1e-5) - loss_at(1 - 1e-5)) / 2e-5

# %% [markdown]
# The engine needs one rule per operation, the *backward*: given $g = \partial L/\partial y$, return
# $\partial L/\partial x$ for each input $x$. You write three.
#
# ## Exercise 1: ReLU (5 minutes)
#
# $y = \max(x, 0)$. Return the gradient of $x$. At exactly 0 the slope is taken to be 0. Like all
# functions that you write here, it leaves its arguments as they are: no `g[...] = 0`, no `g *= 2`.

# %% tags=["exercise:01.relu_backward"]
def relu_backward(g, x):
    """g, x: arrays of one shape."""
    ### BEGIN SOLUTION
    return g * (x > 0)
    ### END SOLUTION

# %% tags=["check:01.relu_backward"]
check("01.relu_backward", relu_backward)

# %% [markdown]
# Stuck? `hint("01.relu_backward", 1)` is the idea, 2 the formula, 3 pseudocode. Every exercise
# has three.
#
# ## Exercise 2: a matrix product (8 minutes)
#
# $y = a\,b$, that is $y_{mn} = \sum_k a_{mk}\,b_{kn}$. Return the gradients of $a$ and of $b$.
# You can find both from the shapes alone; then ask yourself why it had to be so.

# %% tags=["exercise:01.matmul_backward"]
def matmul_backward(g, a, b):
    """g: (M, N), a: (M, K), b: (K, N). Returns a tuple (ga, gb)."""
    ### BEGIN SOLUTION
    return g @ b.T, a.T @ g
    ### END SOLUTION

# %% tags=["check:01.matmul_backward"]
check("01.matmul_backward", matmul_backward)

# %% [markdown]
# ## Exercise 3: a convolution (12 minutes)
#
# A convolution slides a small kernel over the image, `stride` pixels at a time. Here is its
# forward pass; `@` sums over channels, for the whole batch at once:

# %%
def conv2d_forward(x, w, stride):
    """x: (N, C, H, W), w: (O, C, K, L). Returns y: (N, O, Ho, Wo)."""
    k, l = w.shape[2:]
    ho, wo = (x.shape[2] - k) // stride + 1, (x.shape[3] - l) // stride + 1
    y = np.zeros((len(x), len(w), ho, wo))
    for i, j, a, b in np.ndindex(ho, wo, k, l):
        y[:, :, i, j] += x[:, :, i * stride + a, j * stride + b] @ w[:, :, a, b].T
    return y

# %% [markdown]
# Line by line, turn it round: whatever was multiplied into `y` takes its share of `g`.

# %% tags=["exercise:01.conv2d_backward"]
def conv2d_backward(g, x, w, stride):
    """g: (N, O, Ho, Wo), x: (N, C, H, W), w: (O, C, K, L). Returns (gx, gw)."""
    ### BEGIN SOLUTION
    gx, gw = np.zeros(x.shape), np.zeros(w.shape)
    for i, j, a, b in np.ndindex(*g.shape[2:], *w.shape[2:]):
        r, c = i * stride + a, j * stride + b
        gx[:, :, r, c] += g[:, :, i, j] @ w[:, :, a, b]
        gw[:, :, a, b] += g[:, :, i, j].T @ x[:, :, r, c]
    return gx, gw
    ### END SOLUTION

# %% tags=["check:01.conv2d_backward"]
check("01.conv2d_backward", conv2d_backward)

# %% [markdown]
# ## A check for everything (5 minutes)
#
# One entry at a time is slow: LeNet-300-100 has 266,610. Instead take **one random direction**
# $d$ of length 1 for all of them and compare
#
# $$\frac{L(w + h d) - L(w - h d)}{2h} \quad\text{with}\quad \langle \nabla L,\, d \rangle .$$
#
# A wrong gradient agrees with a random direction only by an accident of probability 0.

# %%
def relative_error(fn, arrays, h, seed=0):
    """How far the gradient of sum(fn(*arrays)) is from the central difference."""
    rng = np.random.default_rng(seed)
    d = [rng.normal(size=x.shape) for x in arrays]
    length = np.sqrt(sum((e**2).sum() for e in d))
    d = [(e / length).astype(x.dtype) for e, x in zip(d, arrays)]

    def at(step):
        moved = [Tensor(x + x.dtype.type(step) * e) for x, e in zip(arrays, d)]
        return fn(*moved).sum().item()

    leaves = [Tensor(x, requires_grad=True) for x in arrays]
    gradients = grad(fn(*leaves).sum(), leaves)
    slope = sum(float((g.data * e).sum()) for g, e in zip(gradients, d))
    return max(abs((at(h) - at(-h)) / (2 * h) - slope) / abs(slope), 1e-17)

# %%
rng = lesson.rng("operations")
x, w = rng.normal(size=(2, 3, 7, 5)), rng.normal(size=(4, 3, 3, 2))
square, row = rng.normal(size=(4, 4)), rng.normal(size=(1, 4))
labels = np.array([0, 3, 1, 2])
cases = {"matmul": (ops.matmul, [square, square.T]),
         "broadcast +": (ops.add, [square, row]),
         "exp": (ops.exp, [row]), "sigmoid": (ops.sigmoid, [square]),
         "relu": (ops.relu, [square]), "conv2d": (conv2d, [x, w]),
         "conv2d, stride 2": (lambda a, b: conv2d(a, b, stride=(2, 2)), [x, w]),
         "cross-entropy": (lambda z: cross_entropy(z, labels), [square])}

# %%
Table(["operation", "relative error"],
      [[name, f"{relative_error(fn, args, 1e-5):.0e}"]
       for name, (fn, args) in cases.items()],
      "float64, h = 1e-5.")

# %% [markdown]
# ## The real net (8 minutes, of which the machine takes seconds)
#
# Now all parameters of a trained LeNet-300-100 at once, on 32 digits, for every power of ten as
# step. ReLU has a corner, so beside it runs a smooth copy with tanh in its place.

# %% tags=["slow"]
relu_net = lesson.checkpoint("lenet300")
smooth = relu_net.edit({f"relu{i}": (Node(f"relu{i}", Tanh(), (f"fc{i}",)),)
                        for i in (1, 2)})
batch = lesson.data.train.take(slice(0, 32))
lesson.about_data()

# %% tags=["slow"]
def error_at(net, h, dtype):
    """log10 of the relative error, the median of five directions."""
    def loss(*values):
        model = net.copy()
        for form, value in zip(model.forms().values(), values):
            form.value = value
        return cross_entropy(model(Tensor(batch.x.astype(dtype))), batch.y)

    values = [f.dense().data.astype(dtype) for f in net.forms().values()]
    errors = [relative_error(loss, values, h, seed) for seed in range(5)]
    return np.log10(np.median(errors))

# %% tags=["slow"]
steps = list(range(-12, 1))
wanted = [("smooth", smooth, np.float64), ("smooth", smooth, np.float32),
          ("ReLU", relu_net, np.float64)]
curves = {f"{kind} net, {t.__name__}": [error_at(net, 10.0**p, t) for p in steps]
          for kind, net, t in wanted}

# %% [markdown]
# ## The plot to remember

# %% tags=["plot", "slow", "memorable"]
lesson.show(figures.v_curve(steps, curves, guess=guess))

# %% [markdown]
# Two enemies meet. From the right: the series behind the formula is cut off, an error of order
# $h^2$. From the left: two nearly equal losses are subtracted, and the rounding $\varepsilon$
# that is left is divided by $h$. The ReLU net follows until a corner lies between $w - hd$ and
# $w + hd$; then its difference means nothing. Both nets' gradients are right.
#
# ## The textbook's row beside ours
#
# No paper has a table of this; the law is in every textbook of numerical analysis. Where both
# errors are equal, the best error is about $\varepsilon^{2/3}$.

# %% tags=["slow"]
curve64, curve32, curve_relu = curves.values()
best64, best32 = int(np.argmin(curve64)), int(np.argmin(curve32))
law = [2 / 3 * np.log10(np.finfo(t).eps) for t in (np.float64, np.float32)]
Table(["best error", "float64", "float32"],
      [["law", *(f"1e{p:.1f}" for p in law)],
       ["here", f"1e{curve64[best64]:.1f}", f"1e{curve32[best32]:.1f}"]])

# %% tags=["slow"]
lesson.record(best_exponent=steps[best64], best_error=curve64[best64],
              best_exponent32=steps[best32], best_error32=curve32[best32],
              relu_error=curve_relu[steps.index(-2)],
              steps=steps, curve64=curve64, curve32=curve32, curve_relu=curve_relu)

# %% [markdown]
# In float32 a right gradient and a slightly wrong one look alike: that is why checks run in
# float64, and nets need not. Recorded on MNIST: best errors of 1e{{mnist:best_error}} and
# 1e{{mnist:best_error32}}.
#
# ## Where it breaks: a function to expose (6 minutes)
#
# Somebody else's `relu_backward` is right on the input below. It has one of three faults, drawn
# for your name in the second cell: the gradient passes at $x = 0$; the sign of $g$ decides, not
# that of $x$; the slope comes back without $g$. Find an input that shows this fault alone: your
# variant is wrong on it, and functions with the other two faults are right.

# %%
broken = lesson.broken("01.relu_backward")
broken(np.array([1.0, 1.0]), np.array([1.0, 2.0]))

# %% tags=["exercise:01.broken"]
def failing_input():
    """Returns (g, x) that shows the fault of `broken` alone."""
    ### BEGIN SOLUTION
    return np.array([2.0]), np.array([1.0])  # shows the fault of an empty name
    ### END SOLUTION

# %% tags=["check:01.broken"]
check("01.broken", failing_input, lesson)

# %% [markdown]
# ## The compiled twin
#
# Your loops are the definition; training needs speed. minicomp's convolution exists twice: in
# NumPy, and in Cython with vector instructions. Equal results (up to float32 rounding), then the
# clock:

# %% tags=["slow"]
from minicomp.kernels.maps import conv as kernel

def pair(n, c, size, o, k):
    x = rng.normal(size=(n, c, size, size)).astype(np.float32)
    w = rng.normal(size=(o, c, k, k)).astype(np.float32)
    return (lambda: kernel.conv2d_ref(x, w, (1, 1), (0, 0), 1),
            lambda: kernel.conv2d(x, w))

# %% tags=["slow"]
shapes = {"LeNet-5 conv1, 1 image": (1, 1, 28, 20, 5),
          "LeNet-5 conv1, 64 images": (64, 1, 28, 20, 5),
          "LeNet-5 conv2, 64 images": (64, 20, 12, 50, 5),
          "512 maps of 4 x 4, 1 image": (1, 512, 4, 512, 3)}
cases = [(name, *pair(*shape)) for name, shape in shapes.items()]
lesson.twin("maps", cases, rtol=1e-5)

# %% [markdown]
# The last row is a layer with many weights and four output pixels. There is nothing to slide
# over: it is a matrix product, and the library that NumPy calls for those is very good.
#
# ## Reflection (5 minutes)
#
# Why does a smaller step $h$ not always give a better derivative, and why do we check gradients
# in float64 although nets train in float32?

# %% tags=["reflect:01.r1"]
reflect("01.r1", """
""")

# %% [markdown]
# ## Next
#
# Lesson 2 counts what a net is made of: where its bytes are, and where its work is. They are not
# in the same place.
