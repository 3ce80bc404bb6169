"""Optimizers and learning-rate schedules.

An optimizer holds parameters and its own state by name, so that state follows a parameter through
removal of channels and through checkpoints. Updates are in place and keep the parameter's dtype.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from numbers import Real

import numpy as np

from .grid import ap2
from .kernels.maps import dense
from .tensor import Array, Tensor, raw

Schedule = Callable[[float], float]  # part of the training done, 0..1 -> factor of the rate
Rate = float | Mapping[str, float]


def by_parameter(knob: str, value: Rate, names: Iterable[str]) -> dict[str, float]:
    """Returns a number by parameter: `value` itself, or that of the last pattern that matches.

    knob : what messages call it        names : of parameters, "block1.dw.weight"
    Raises ValueError for a pattern that matches none, and for a parameter that none matches.
    """
    names = list(names)
    if not isinstance(value, Mapping):
        return dict.fromkeys(names, float(value))
    found: dict[str, float] = {}
    for pattern, number in value.items():
        matching = [
            n for n in names if any(fnmatchcase(prefix, pattern) for prefix in _prefixes(n))
        ]
        if not matching:
            raise ValueError(f"{knob}@{pattern} matches no parameter; there are {', '.join(names)}")
        found |= dict.fromkeys(matching, float(number))
    if missing := [n for n in names if n not in found]:
        raise ValueError(
            f"{knob} by pattern must name every parameter, '*' for the rest, "
            f"got none for {missing[0]}"
        )
    return found


def _prefixes(name: str) -> list[str]:
    # "block1.dw.weight" and the nodes it may belong to: "block1.dw", "block1".
    return [name, *(name[:i] for i, c in enumerate(name) if c == ".")]


class Optimizer:
    """The contract: `step` moves parameters along gradients; `slots` name what is kept of each.

    params : Tensors by name, "conv1.weight"
    lr : learning rate, > 0        weight_decay : lambda of lambda/2 |w|^2, >= 0
    Both are a number or a mapping from pattern to number, the last match wins: a pattern (fnmatch)
    matches a parameter's name, "*.bias", or that of its node, "conv*".
    Raises ValueError for a number out of range, a pattern or parameter without a match.
    """

    slots: tuple[str, ...] = ()
    momentum: float = 0.0
    decoupled = False  # whether the decay acts on the weight itself, not through the gradient
    decays_itself = False  # whether `update` adds the decay to the gradient, in its own pass

    def __init__(self, params: dict[str, Tensor], *, lr: Rate, weight_decay: Rate = 0.0):
        rates = by_parameter("lr", lr, params)
        self.decays = by_parameter("weight_decay", weight_decay, params)
        if not all(r > 0 for r in [*rates.values()] or [lr]):
            raise ValueError(f"lr must be positive, got {lr}")
        if not all(d >= 0 for d in [*self.decays.values()] or [weight_decay]):
            raise ValueError(f"weight_decay must be at least 0, got {weight_decay}")
        self.params = dict(params)
        # The schedule moves lr, the largest rate; each parameter keeps its share of it.
        self.lr = float(max(rates.values(), default=lr if isinstance(lr, Real) else 1.0))
        self.shares = {name: rate / self.lr for name, rate in rates.items()}
        self.given = {"lr": lr, "weight_decay": weight_decay, "largest": self.lr}
        self.steps = 0
        self.state = {
            slot: {n: np.zeros_like(p.data) for n, p in self.params.items()} for slot in self.slots
        }

    def rate(self, name: str) -> float:
        """Returns the learning rate of a parameter at this moment."""
        return self.lr * self.shares[name]

    def scale_rate(self, name: str, factor: float) -> None:
        """Multiplies the learning rate of a parameter, for the rest of the training."""
        self.shares[name] *= factor

    def step(self, grads: dict[str, Array] | None = None) -> None:
        """Moves every parameter with a gradient: grads by name, None takes each Tensor's `grad`."""
        self.steps += 1
        for name, p in self.params.items():
            g, decay = p.grad if grads is None else grads.get(name), self.decays[name]
            if g is None:
                continue
            if decay and self.decoupled:
                p.data *= 1 - self.rate(name) * decay
            elif decay and not self.decays_itself:
                g = g + p.data * decay
            self.update(name, p.data, g)

    def update(self, name: str, w: Array, g: Array) -> None:
        """Moves w in place along its gradient g."""
        raise NotImplementedError

    def restart(self) -> None:
        """Forgets all earlier steps: slots are 0 again, in place. Rates stay as they are."""
        self.steps = 0
        for named in self.state.values():
            for a in named.values():
                a[...] = 0

    def zero_grad(self) -> None:
        """Forgets the gradients."""
        for p in self.params.values():
            p.grad = None

    def state_dict(self) -> dict[str, Array]:
        """Returns "steps", "lr" and "slot/parameter" arrays; copies."""
        slots = {f"{s}/{n}": a.copy() for s, named in self.state.items() for n, a in named.items()}
        return {"steps": np.int64(self.steps), "lr": np.float64(self.lr), **slots}

    def load_state_dict(self, state: dict[str, Array]) -> None:
        """Takes over what `state_dict` returned; ValueError where names or shapes differ, or a
        number is not finite in the slot's dtype."""
        mine = {f"{s}/{n}": a for s, named in self.state.items() for n, a in named.items()}
        wrong = {"steps", "lr", *mine} ^ set(state)
        wrong |= {n for n in set(mine) & set(state) if np.shape(state[n]) != mine[n].shape}
        if wrong:
            raise ValueError(f"optimizer state does not fit: {', '.join(sorted(wrong))}")
        with np.errstate(over="ignore"):
            held = {n: np.asarray(state[n]).astype(a.dtype, copy=False) for n, a in mine.items()}
        held |= {n: np.asarray(state[n], np.float64) for n in ("steps", "lr")}
        if lost := [n for n, a in held.items() if not np.isfinite(a).all()]:
            raise ValueError(f"optimizer state must be finite, got another number in {lost[0]}")
        self.steps, self.lr = int(state["steps"]), float(state["lr"])
        for name, a in mine.items():
            a[...] = state[name]

    def select(self, removal, params: dict[str, Tensor]) -> Optimizer:
        """Returns this optimizer for `removal.apply(model)`; its state follows by name.

        removal : of channels, `compress.channels.removal.Removal`
        params : the smaller model's `parameters()`; one that this optimizer does not know, such as
            a bias that took up a constant, starts with slots of 0, its rate and decay as given
        Raises ValueError where lr or weight_decay was given by pattern and none matches it.
        """
        other = copy.copy(self)
        other.params = dict(params)
        new, known = [n for n in params if n not in self.params], {**self.shares, **params}
        rates, decays = (by_parameter(k, self.given[k], known) for k in ("lr", "weight_decay"))
        other.shares = self.shares | {n: rates[n] / self.given["largest"] for n in new}
        other.decays = self.decays | {n: decays[n] for n in new}
        other.state = {
            s: {n: np.zeros_like(p.data) if n in new else removal.take(n, named[n])
                for n, p in params.items()}
            for s, named in self.state.items()
        }
        return other


class SGD(Optimizer):
    """v = momentum v + g;  w -= lr v, or with nesterov w -= lr (g + momentum v).

    Source: Sutskever et al. 2013.
    """

    slots = ("v",)

    def __init__(self, params, *, lr, momentum: float = 0.0, nesterov: bool = False,
                 weight_decay: Rate = 0.0):
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), got {momentum}")
        super().__init__(params, lr=lr, weight_decay=weight_decay)
        self.momentum, self.nesterov = float(momentum), nesterov
        self.decays_itself = self.momentum > 0 and not nesterov

    def update(self, name, w, g):
        if not self.momentum:
            w -= self.rate(name) * g
            return
        v = self.state["v"][name]
        if not self.nesterov:
            dense.sgd(w, v, g, lr=self.rate(name), momentum=self.momentum, decay=self.decays[name])
            return
        v *= self.momentum
        v += g
        w -= self.rate(name) * (g + self.momentum * v)


class Adam(Optimizer):
    """m, v are decaying means of g and g^2, bias-corrected;  w -= lr m / (sqrt(v) + eps).

    Source: Kingma & Ba 2015 (arXiv 1412.6980), algorithm 1
    """

    slots = ("m", "v")

    def __init__(self, params, *, lr=1e-3, betas=(0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float = 0.0):
        if not all(0 <= b < 1 for b in betas):
            raise ValueError(f"betas must be in [0, 1), got {betas}")
        super().__init__(params, lr=lr, weight_decay=weight_decay)
        self.betas, self.eps = (float(betas[0]), float(betas[1])), float(eps)

    def update(self, name, w, g):
        b1, b2 = self.betas
        m, v = self.state["m"][name], self.state["v"][name]
        m += (1 - b1) * (g - m)
        v *= b2
        v += (1 - b2) * g * g
        c1, c2 = 1 - b1 ** self.steps, 1 - b2 ** self.steps
        w -= (self.rate(name) / c1) * m / (np.sqrt(v) * float(1 / math.sqrt(c2)) + self.eps)


class AdamW(Adam):
    """Adam with weight decay apart from the gradient: w -= lr lambda w.

    Source: Loshchilov & Hutter 2019.
    """

    decoupled = True


class AdaMax(Adam):
    """u = max(b2 u, |g| + eps);  w -= lr / (1 - b1^t) m / u. Source: Kingma & Ba 2015, algorithm 2.

    The paper divides by u without eps; here it is added, as in PyTorch, so that 0 / 0 is 0.
    """

    slots = ("m", "u")

    def __init__(self, params, *, lr=2e-3, betas=(0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float = 0.0):
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)

    def update(self, name, w, g):
        b1, b2 = self.betas
        m, u = self.state["m"][name], self.state["u"][name]
        m += (1 - b1) * (g - m)
        np.maximum(b2 * u, np.abs(g) + self.eps, out=u)
        w -= (self.rate(name) / (1 - b1 ** self.steps)) * m / u


class ShiftAdaMax(AdaMax):
    """AdaMax whose products by a rate and by 1 / v are shifts: both are powers of two.

        m = b1 m + (1 - b1) g;  v = max(b2 v, |g|);  w -= AP2(lr / (1 - b1^t)) m / (AP2(v) + eps)

    AP2(x) = sign(x) 2^round(log2 |x|). Where all rates are lr; another parameter's share of it is
    multiplied in, as the authors do with the factors of layers. v stays as it is between steps (the
    authors' code puts AP2(v) in its place), and eps makes 0 / 0 be 0.
    Source: Courbariaux et al. 2016, arXiv 1602.02830, algorithm 4; eps as in its code
    """

    def __init__(self, params, *, lr=2.0**-10, betas=(1 - 2.0**-3, 1 - 2.0**-10),
                 eps: float = 2.0**-27, weight_decay: float = 0.0):
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)

    def update(self, name, w, g):
        b1, b2 = self.betas
        m, v = self.state["m"][name], self.state["u"][name]
        m += (1 - b1) * (g - m)
        np.maximum(b2 * v, np.abs(g), out=v)
        rate = float(raw(ap2(np.array(self.lr / (1 - b1 ** self.steps))))) * self.shares[name]
        w -= rate * m / (raw(ap2(v)) + self.eps)


OPTIMIZERS: dict[str, type[Optimizer]] = {
    "sgd": SGD, "adam": Adam, "adamw": AdamW, "adamax": AdaMax, "shift-adamax": ShiftAdaMax
}


def constant() -> Schedule:
    """Returns the schedule that is always 1."""
    return lambda done: 1.0


def step(*, at: tuple[float, ...] = (1 / 3, 2 / 3), factor: float = 0.1) -> Schedule:
    """Returns the schedule that multiplies by `factor` at each part of the training in `at`."""
    return lambda done: factor ** sum(done >= a for a in at)


def exponential(*, final: float = 0.01) -> Schedule:
    """Returns the schedule that decays by a constant rate from 1 to `final`."""
    return lambda done: final ** done


def cosine(*, final: float = 0.0) -> Schedule:
    """Returns half a cosine from 1 to `final` (Loshchilov & Hutter 2017, eq. (5), one cycle)."""
    return lambda done: final + (1 - final) * 0.5 * (1 + math.cos(math.pi * done))


SCHEDULES: dict[str, Callable[[], Schedule]] = {
    "constant": constant, "step": step, "exponential": exponential, "cosine": cosine}
