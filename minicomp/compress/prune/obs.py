"""Optimal Brain Surgeon (Hassibi, Stork 1993, "Second order derivatives for network pruning").

Which weight can go at the least rise of the loss, if all the others may move to make up for it? At
a minimum of E the rise is 1/2 dw' H dw. Its least over dw with e_q' dw + w_q = 0 is

    dw = -w_q / [H^-1]_qq  H^-1 e_q,        L_q = 1/2 w_q^2 / [H^-1]_qq                (eq. 5)

so the weight of least *saliency* L_q goes, all others move by dw, and nothing is retrained. H is
the Gauss-Newton matrix alpha I + X'X / P of the outputs' gradients X, whose inverse is built
gradient by gradient (`hessian.inverse_hessian`); or it is exact, and inverted.

A step computes H^-1 at the present weights, deletes one weight and moves the rest. What is gone
stays out of H: the inverse is that over the weights left. The end is where the smallest L_q is no
longer small against E (the paper's step 3), or the sparsity asked for.

Where we leave the paper: it stops where the rise is not "much smaller" than E; here `stop` is that
fraction. Where units saturate, gradients vanish and L_q falls far below the true rise (0.0003 for
0.04 at the end on MONK's problem 1); so `guard` looks at the errors themselves, and the result is
the smallest net on the way that errs on no more examples than the first. The paper computes H^-1
after every deletion; `refresh` does so after several, between which `hessian.without` takes the
deleted weight out of the inverse there is. Away from a minimum the exact H may be indefinite: alpha
is then raised until H is regular, and the log says to what.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...errors import UserError
from ...nn.graph import Model
from ...tensor import Array, no_grad
from ..examples import calibration
from ..curvature.hessian import (
    LOSSES,
    check_layers,
    check_loss,
    damped_inverse,
    exact_hessian,
    float64,
    gauss_newton_rows,
    inverse_hessian,
    layers,
    mean_loss,
    eliminated,
)
from ..technique import Technique, knob
from ..scores import drop_smallest, zeros_of

LARGEST = 6000  # weights: H and its inverse take 16 n^2 bytes, 1.2 GB


def obs_saliency(w: Array, Hinv: Array) -> Array:
    """Returns L_q = w_q^2 / (2 [H^-1]_qq) of every weight, (n,).

    w : (n,)        Hinv : (n, n)        Source: Hassibi & Stork 1993, eq. (5)

    >>> obs_saliency(np.array([1., 3.]), np.linalg.inv([[2., 1.], [1., 2.]])).round(2).tolist()
    [0.75, 6.75]
    """
    return w * w / (2 * np.diag(Hinv))


def obs_step(w: Array, Hinv: Array, q: int) -> tuple[Array, float]:
    """Returns the weights after q is deleted and all others moved, (n,), and the rise L_q.

    w : (n,)        Hinv : (n, n)        q : 0..n-1        Entry q of the result is exactly 0.
    Source: Hassibi & Stork 1993, eq. (5)

    >>> obs_step(np.array([1., 3.]), np.linalg.inv([[2., 1.], [1., 2.]]), 0)[0].round(2).tolist()
    [0.0, 3.5]
    """
    moved = w - (w[q] / Hinv[q, q]) * Hinv[:, q]
    moved[q] = 0.0
    return moved, float(w[q] ** 2 / (2 * Hinv[q, q]))


@dataclass(frozen=True)
class Deletion:
    """A deletion about to be made.

    q : its place in w        saliency : L_q
    loss : E before it        left : weights before it
    alpha : on the diagonal of H, above the one asked for where H was singular with that
    """

    q: int
    saliency: float
    loss: float
    left: int
    alpha: float


class Weights:
    """The named forms of a float64 model as one vector w, and a way to write it back."""

    def __init__(self, model: Model, names: Sequence[str]):
        self.model, self.names = model, list(names)
        self.arrays = [model.forms()[name].value.data for name in self.names]

    def get(self) -> Array:
        """Returns w, (n,)."""
        return self.join(self.arrays)

    def set(self, w: Array) -> None:
        """Writes w, (n,), into the model."""
        for a, part in zip(self.arrays, self.split(w)):
            a[...] = part

    def join(self, parts: Sequence[Array]) -> Array:
        """Returns one array a form as a vector, (n,)."""
        return np.concatenate([np.ravel(p) for p in parts])

    def split(self, v: Array) -> list[Array]:
        """Returns a vector (n,) as one array a form, in their shapes."""
        ends = np.cumsum([a.size for a in self.arrays])[:-1]
        return [p.reshape(a.shape) for p, a in zip(np.split(v, ends), self.arrays)]


def deletions(weights: Weights, live: Array, x: Array, y: Array, *, alpha: float, loss: str,
              hessian: str = "recursion", refresh: int = 1, may_go: Array | None = None
              ) -> Iterator[Deletion]:
    """Yields each deletion before it is made; going on makes it, in the model of `weights`.

    live : (n,) bool, the weights that are there; updated in place
    x, y : the examples over which E and H are taken
    alpha, loss, hessian, refresh : as OBS's knobs
    may_go : (n,) bool, the weights that may be deleted; None: all. Those that may not still move.
    Raises UserError where a derivative is not finite.
    """
    may_go = np.ones(live.size, bool) if may_go is None else may_go
    Hinv, used = None, alpha
    for done in range(int((live & may_go).sum())):
        w, index = weights.get(), np.flatnonzero(live)
        if done % refresh == 0:
            Hinv, used = _inverse(weights, index, x, y, alpha, loss, hessian)
        L = np.where(may_go[index], obs_saliency(w[index], Hinv), np.inf)
        q = int(np.argmin(L))
        with no_grad():
            E = mean_loss(weights.model(x), y, loss).item()
        yield Deletion(int(index[q]), float(L[q]), E, len(index), used)
        w[index], _ = obs_step(w[index], Hinv, q)
        weights.set(w)
        live[index[q]] = False
        rest = np.arange(len(index)) != q
        Hinv = eliminated(Hinv, q)[np.ix_(rest, rest)]


def _inverse(weights: Weights, index: Array, x: Array, y: Array, alpha: float, loss: str,
             hessian: str) -> tuple[Array, float]:
    # H^-1 over the weights of `index`, and the alpha that it took.
    model, names = weights.model, weights.names
    if hessian == "exact":
        H = exact_hessian(model, x, y, names, loss)[np.ix_(index, index)]
        if not np.isfinite(H).all():
            raise UserError("obs: second derivatives must be finite, got NaN or infinity")
        return damped_inverse(H, alpha / (float(np.abs(np.diag(H)).mean()) or 1.0))
    X = np.concatenate([rows[:, index] for rows in gauss_newton_rows(model, x, names, loss)])
    if not np.isfinite(X).all():
        raise UserError("obs: gradients must be finite, got NaN or infinity")
    return inverse_hessian(X, alpha, len(x), block=1 if len(index) < 100 else 64), alpha


@dataclass(frozen=True)
class OBS(Technique):
    """Deletes one weight at a time, that of least L_q, and moves all the others; no retraining."""

    word: ClassVar[str] = "obs"
    title: ClassVar[str] = "Optimal Brain Surgeon"
    source: ClassVar[str] = ("Hassibi & Stork 1993, Second order derivatives for network pruning: "
                             "Optimal Brain Surgeon, NIPS 5")

    sparsity: float | None = knob(None, "fraction of zeros of all that may go, exactly round(s n)",
                                  type=float, lo=0, hi=1, below=True, optional=True)
    stop: float | None = knob(None, "stop before a saliency above this fraction of the loss",
                              type=float, lo=0, optional=True)
    hessian: str = knob("recursion", "Gauss-Newton by the recursion, or exact",
                        choices=("recursion", "exact"))
    alpha: float = knob(1e-4, "on the diagonal of H: the start of the recursion", lo=1e-12, hi=1e6)
    loss: str = knob("cross-entropy", "whose derivatives are taken", choices=LOSSES)
    samples: int = knob(1000, "training examples drawn for H; all where there are fewer", lo=1)
    refresh: int = knob(1, "deletions between two computations of H", lo=1)
    guard: bool = knob(False, "end with the smallest net that errs no more often than the first")
    biases: bool = knob(True, "biases may go too; they move in any case")

    def __post_init__(self):
        super().__post_init__()
        if self.sparsity is None and self.stop is None and not self.guard:
            raise UserError("obs: sparsity, stop or guard must be given, got none")

    def targets(self, model):
        return [node.name for node in layers(model)]

    def reads(self):
        return ("train",)

    def check(self, model):
        super().check(model)
        check_layers(self.word, model)
        check_loss(self.word, model, self.loss)

    def check_shapes(self, model):
        n = sum(math.prod(f.shape) for node in layers(model) for f in node.layer.forms.values())
        if n > LARGEST:
            raise UserError(f"obs: a Hessian of at most {LARGEST} weights fits, got {n}; "
                            "obc and sparsegpt take one layer at a time")

    def change(self, model, data, run):
        weights, live, may_go = self.weights(model)
        split = calibration(self, data, run)
        x, asked = np.asarray(split.x, np.float64), self.alpha
        steps = deletions(weights, live, x, split.y, alpha=self.alpha, loss=self.loss,
                          hessian=self.hessian, refresh=self.refresh, may_go=may_go)
        best, most = None, None
        for done, step in enumerate(steps):
            if self.guard:
                errors = mistakes(weights.model, x, split.y)
                most = errors if most is None else most
                if errors <= most:
                    best = weights.get(), live.copy()
            todo = self.todo(live, may_go, done)
            run.log({"event": "progress", "name": self.word, "done": done, "total": todo})
            if step.alpha > 1.001 * asked:
                asked = step.alpha
                run.log({"event": "damping", "name": self.word, "damping": asked,
                         "asked": self.alpha})
                run.log({"event": "say", "text": f"obs: the Hessian is singular; alpha raised from "
                                                 f"{self.alpha:.3g} to {asked:.3g}"})
            if done >= todo or self.stop is not None and step.saliency > self.stop * step.loss:
                break
        return _pruned(model, weights, *(best or (weights.get(), live)))

    def weights(self, model: Model) -> tuple[Weights, Array, Array]:
        """Returns a float64 copy's weights, which are there, and which may go, (n,) bool."""
        names = [f"{node.name}.{part}" for node in layers(model) for part in node.layer.forms]
        weights, forms = Weights(float64(model), names), model.forms()
        masks = [np.ones(forms[n].shape, bool) if forms[n].mask is None else forms[n].mask
                 for n in names]
        may = [np.full(forms[n].shape, self.biases or not n.endswith(".bias")) for n in names]
        return weights, weights.join(masks), weights.join(may)

    def todo(self, live: Array, may_go: Array, done: int) -> int:
        """Returns how many deletions the sparsity asks for in all, `done` of them made already."""
        n, gone = int(may_go.sum()), int((~live & may_go).sum()) - done
        return n - gone if self.sparsity is None else max(zeros_of(self.sparsity, n) - gone, 0)

    def sketch(self, model, *, rng):
        weights, live, may_go = self.weights(model)
        score = np.where(may_go, np.abs(weights.get()), np.inf)
        n = int(may_go.sum())
        kept = drop_smallest(score, zeros_of(self.sparsity or 0.0, n), mask=live | ~may_go)
        return _pruned(model, weights, weights.get(), kept)


def mistakes(model: Model, x: Array, y: Array) -> int:
    """Returns how many examples are classified wrongly: by argmax, or at 1/2 of a single output."""
    with no_grad():
        z = model(x).data
    return int(np.count_nonzero((z.argmax(axis=1) if z.shape[1] > 1 else z[:, 0] > 0.5) != y))


def _pruned(model: Model, weights: Weights, w: Array, live: Array) -> Model:
    # A copy of the model with w in its forms, masked; a form that lost nothing gets no mask.
    model = model.copy()
    for name, value, mask in zip(weights.names, weights.split(w), weights.split(live)):
        form = model.forms()[name]
        moved = form.moved(value.astype(np.float32))
        model.set_form(name, moved if mask.all() else moved.masked(mask))
    return model
