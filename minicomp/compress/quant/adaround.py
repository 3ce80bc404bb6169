"""AdaRound (Nagel, Amjad, van Baalen, Louizos, Blankevoort 2020, arXiv 2004.10568): up or down.

Rounding each weight to nearest is not what hurts a layer's output least. Let every weight go down
or up, and ask for the least squared error of the output:

    min over V  |W x - W~ x|^2 + lambda f_reg(V)                                          (eq. 21)
    W~ = s clip(floor(W / s) + h(V), n, p)                                                (eq. 22)
    h(V) = clip(sigmoid(V) (zeta - gamma) + gamma, 0, 1),   zeta = 1.1, gamma = -0.1      (eq. 23)
    f_reg(V) = sum 1 - |2 h(V) - 1|^beta                                                  (eq. 24)

beta falls from 20 to 2: at first h is free but for its ends, in the end every h is 0 or 1. Before
that, for a fifth of the steps, there is no regularisation (warm start). x are inputs of the net as
it is quantized so far, and the target is the output of the net as it was, after the activation
where one follows:

    min over V  |f_a(W x) - f_a(W~ x^)|^2 + lambda f_reg(V)                               (eq. 25)

Where no activation follows, the first term is tr((W~ - W*) H (W~ - W*)') with H = X'X / R over all
R rows of inputs, and needs no data at all: every step sees all of them. Where one follows, a step
sees a batch of rows.

Where we leave the paper: W is W*, the rows of least error for those inputs (`quant/layers.py`). The
bias follows from the weights, as the constant of least error, so that inputs count by what they
differ from their mean. lambda counts in units of the layer, the mean over its weights of what one
code costs, s^2 H_jj; the paper's 0.01 is for outputs of order 1, and where these are large it never
makes up its mind. A row for which nearest is better in the end is rounded to nearest. Under
`clip = output` a row's scale is that fraction of its largest weight at which GPTQ's sweep leaves
the least error.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...grid import code_range
from ...optim import Adam
from ...tensor import Array, Tensor, grad
from ..curvature.layerwise import LayerProblem
from ..technique import knob
from .layers import LayerQuantizer
from .schemes import Scheme
from .sweep import Rounded

ZETA, GAMMA = 1.1, -0.1  # eq. 23
BETA = (20.0, 2.0)       # eq. 24, from the end of the warm start to the end
WARM = 0.2               # part of the steps without regularisation


def rectified_sigmoid(V: Array) -> Array:
    """Returns h(V), of V's shape and dtype, in 0..1: eq. 23."""
    return np.clip((ZETA - GAMMA) / (1 + np.exp(-V)) + GAMMA, 0, 1)


def rounding_of(part: Array) -> Array:
    """Returns V with h(V) = part, 0..1."""
    sigmoid = (part - GAMMA) / (ZETA - GAMMA)
    return np.log(sigmoid / (1 - sigmoid))


def regularizer(h: Array, beta: float) -> float:
    """Returns f_reg = sum 1 - |2 h - 1|^beta: eq. 24."""
    return float((1 - np.abs(2 * h - 1) ** beta).sum())


def annealed(done: float) -> float | None:
    """Returns beta when part `done`, 0..1, of the steps is over; None during the warm start."""
    if done < WARM:
        return None
    start, end = BETA
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * (done - WARM) / (1 - WARM)))


def adaround(down: Array, part: Array, slope: Callable[[Array], Array], *, lo: Array, hi: Array,
             steps: int = 300, lam: float = 0.01, lr: float = 0.1) -> Array:
    """Returns which weights go up, bool, of the shape of `down`.

    down : floor(W / s), codes without zero point        part : W / s - down, where h begins
    slope : of codes u (float32, not whole), the gradient of the first term with respect to them
    lo, hi : codes that there are, broadcast to down
    steps : of Adam, at the rate lr        lam : lambda
    Source: Nagel et al. 2020, eqs. 21-24, section 4.1 of its setting
    """
    V = Tensor(rounding_of(np.clip(part, 0, 1)).astype(np.float32), requires_grad=True)
    optimizer = Adam({"V": V}, lr=lr)
    for step in range(steps):
        sigmoid = 1 / (1 + np.exp(-V.data))
        h = np.clip((ZETA - GAMMA) * sigmoid + GAMMA, 0, 1)
        u = down + h
        g = slope(np.clip(u, lo, hi)) * ((u >= lo) & (u <= hi))
        beta = annealed(step / steps)
        if beta is not None:
            t = 2 * h - 1
            g = g - lam * 2 * beta * np.sign(t) * np.abs(t) ** (beta - 1)
        free = (h > 0) & (h < 1)
        g = g * free * ((ZETA - GAMMA) * sigmoid * (1 - sigmoid))
        optimizer.step({"V": g.astype(np.float32, copy=False)})
    return rectified_sigmoid(V.data) >= 0.5


@dataclass(frozen=True)
class AdaRound(LayerQuantizer):
    """Learns, layer by layer, which weights are rounded up and which down."""

    word: ClassVar[str] = "adaround"
    title: ClassVar[str] = "AdaRound"
    source: ClassVar[str] = ("Nagel, Amjad, van Baalen, Louizos & Blankevoort 2020, Up or Down? "
                             "Adaptive Rounding for Post-Training Quantization, arXiv:2004.10568")

    steps: int = knob(300, "steps of Adam for each layer", lo=1)
    lam: float = knob(1.0, "lambda, over what a code of a weight costs on average", lo=0)
    lr: float = knob(0.1, "of Adam", lo=1e-6, hi=1)
    batch: int = knob(256, "rows of inputs of a step, where an activation follows", lo=1)
    activation: bool = knob(True, "errors are measured behind the activation that follows")

    sampled = 10_000

    def round(self, p, scheme, scale, zero_point, start, regroup, run, after):
        task = _Task(p, scheme, scale, zero_point, start)
        if self.activation and after is not None and p.X is not None:
            task.behind(after, self.batch, run.rng)
        up = adaround(task.down, task.part, task.slope, lo=task.lo, hi=task.hi, steps=self.steps,
                      lam=self.lam * task.unit, lr=self.lr)
        learnt, nearest = task.codes(task.down + up), task.codes(np.rint(task.down + task.part))
        better = task.error(learnt) <= task.error(nearest)
        u = np.where(better[:, None], learnt, nearest)
        q = np.where(task.kept, u + zero_point, zero_point).astype(np.int32)
        return Rounded(q, task.rows(u), scale, zero_point, task.error(u))


class _Task:
    # The rows `start` of a problem, their codes u without zero point, and the first term of eq. 21
    # or 25 as a function of u.

    def __init__(self, p: LayerProblem, scheme: Scheme, scale, zero_point, start):
        C, (lo, hi) = p.weights, code_range(scheme.bits, scheme.grid)
        self.p, self.kept, self.start = p, ~p.dead, start
        self.scale, self.shift = scale, np.float32(0.5 if scheme.grid == "midrise" else 0)
        self.lo, self.hi = (np.float32(end - zero_point) for end in (lo, hi))
        t = (start[:, :C] / scale - self.shift).astype(np.float32)
        self.down = np.floor(t)
        self.part = t - self.down
        self.H, self.mean = centred(p.H, C)
        self.H = (self.H / p.positions).astype(np.float32)
        self.unit = float((self.kept * scale**2 * np.diag(self.H)).mean())
        self.target, self.act = start[:, :C].astype(np.float32), None

    def behind(self, act, batch, rng):
        # Rows of inputs, and what the layer should give behind the activation.
        C = self.p.weights
        X = self.p.X[:, :C] - (0 if self.mean is None else self.mean)
        self.X, self.act, self.rng, self.batch = X.astype(np.float32), act, rng, batch
        self.best = (self.p.X @ self.start.T).astype(np.float32)      # W* x
        self.goal = act(Tensor(self.p.Z.astype(np.float32))).data     # f_a(W x)

    def codes(self, u):
        return np.clip(u, self.lo, self.hi)

    def values(self, u):
        return np.where(self.kept, self.scale * (u + self.shift), 0)

    def moved(self, u):
        # W~ - W*, (O, weights)
        return self.values(u) - self.target

    def rows(self, u):
        return self.p.completed(self.values(u).astype(np.float64))

    def slope(self, u):
        D = self.moved(u)
        if self.act is None:
            return 2 * (D @ self.H) * self.scale * self.kept
        few = len(self.X) <= self.batch
        at = slice(None) if few else self.rng.integers(0, len(self.X), self.batch)
        X = self.X[at]
        z = Tensor(self.best[at] + X @ D.T, requires_grad=True)
        off = self.act(z) - self.goal[at]
        (g,) = grad((off * off).sum() * (1 / len(X)), [z])
        return (g.data.T @ X) * self.scale * self.kept

    def error(self, u):
        if self.act is None:
            return self.p.error(self.rows(u))
        z = self.act(Tensor(self.best + self.X @ self.moved(u).T)).data
        return np.square(z - self.goal, dtype=np.float64).sum(axis=0)


def centred(H: Array, weights: int) -> tuple[Array, Array | None]:
    """Returns what is left of H, (weights, weights), when the bias follows from the weights, and
    the mean input (weights,); H and None where there is no bias.

        min over b of a row's error: H_ww - H_wb H_bw / H_bb,     b = b* - (w - w*) H_wb / H_bb
    """
    if len(H) == weights:
        return H, None
    mean = H[:weights, weights] / H[weights, weights]
    return H[:weights, :weights] - np.outer(mean, H[weights, :weights]), mean
