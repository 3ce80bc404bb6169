"""Dynamic network surgery (Guo, Yao, Chen 2016, arXiv 1608.04493).

Pruning by magnitude cannot take a mistake back: what is cut stays cut. Surgery keeps a full weight
W behind a mask T, computes with W T, and goes on training *every* entry of W, the cut ones too:

    min L(W T)   subject to   T = h(W)                                                      (eq. 1)
    W <- W - beta dL / d(W T)                                     for all entries           (eq. 2)
    h(w) = 0 if |w| < a,   T if a <= |w| < b,   1 if |w| >= b                               (eq. 3)

A cut weight that the loss still wants grows back over b and is *spliced* into the net again. T of a
layer is updated at a step i with probability sigma(i) = (1 + gamma i)^-power, each layer with a
draw of its own as in the authors' code, and no more after `stop` of the training, so that the
survivors settle. At step 0 it always is: with `stop` 0 the first cut is the last. The best epoch,
where one is kept, is one after `stop`: before it the net is another, under a ramp a denser one.

tau = max(mu + c sigma, 0), mu and sigma the mean and standard deviation of |w|, taken once at the
start; a = 0.9 tau and b = 1.1 tau.

The paper and its authors' Caffe code differ, and `variant` chooses: "paper" takes mu and sigma over
the weights and leaves biases alone; "code" takes them over the non-zero weights and biases together
and cuts biases too. (The code also compares with <= a and > b, which differs from eq. 3 only where
|w| equals a threshold; eq. 3 is used in both.)
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...errors import UserError
from ...nn.graph import Model
from ...tensor import Array
from ...train import Hook
from ..finetune import Trained, behind
from ..technique import check_movable, knob, weights

ROWS = 100  # of the log in one training, evenly spaced


def surgery_thresholds(
    w: Array, c: float, *, low: float = 0.9, high: float = 1.1
) -> tuple[float, float]:
    """Returns (a, b) = (low tau, high tau), tau = max(mu + c sigma, 0) over |w|.

    w : float, the entries that count        c : the authors' c_rate
    Source: Guo et al. 2016, section 3.2, as the authors' code sets it
    """
    size = np.abs(w.astype(np.float64))
    if not size.size:
        return 0.0, 0.0
    tau = max(size.mean() + c * size.std(), 0.0)
    return low * tau, high * tau


def surgery_mask(w: Array, mask: Array, a: float, b: float) -> Array:
    """Returns T: False where |w| < a, True where |w| >= b, `mask` in between.

    w : float        mask : bool of its shape, True where kept        a <= b : thresholds
    Raises ValueError where a > b or the shapes differ.
    Source: Guo et al. 2016, eq. (3)
    """
    if a > b:
        raise ValueError(f"a must be at most b, got a = {a}, b = {b}")
    if np.shape(mask) != np.shape(w):
        raise ValueError(f"mask must have shape {np.shape(w)}, got {np.shape(mask)}")
    size = np.abs(w)
    return (size >= b) | (mask & (size >= a))


@dataclass(frozen=True)
class DNS(Trained):
    """Trains while weights are cut and spliced back, then goes on at the mask that is left.

    Its log has rows "surgery": step of steps, the entries cut and spliced back so far, the
    sparsity, and the model as it is at that step, whose forms hold the masks.
    """

    word: ClassVar[str] = "dns"
    masks: ClassVar[bool] = True
    title: ClassVar[str] = "Dynamic network surgery"
    source: ClassVar[str] = (
        "Guo, Yao & Chen 2016, Dynamic Network Surgery for Efficient DNNs, arXiv:1608.04493"
    )

    c: float = knob(2.0, "c_rate: threshold in standard deviations above the mean of |w|",
                    lo=-10.0, hi=100.0, per_layer=True)
    gamma: float = knob(1e-4, "decay of the probability to update the mask", lo=0.0)
    power: float = knob(1.0, "power of that decay", lo=0.0)
    stop: float = knob(0.7, "part of the training after which masks stay, 0..1", lo=0.0, hi=1.0)
    low: float = knob(0.9, "a / tau: below it a weight is cut", lo=0.0)
    high: float = knob(1.1, "b / tau: from it on a weight is spliced", lo=0.0)
    variant: str = knob("paper",
                        "thresholds and biases as in the paper, or as in the authors' code",
                        choices=("paper", "code"))
    ramp: float = knob(0.0, "part of the training over which tau rises from 0 to its value "
                            "(0: at once, the paper)", lo=0.0, hi=1.0)

    def __post_init__(self):
        super().__post_init__()
        if self.low > self.high:
            raise UserError(
                f"dns: low must be at most high, got low = {self.low}, high = {self.high}"
            )
        if self.ramp > self.stop:
            raise UserError(
                f"dns: ramp must be at most stop, after which masks stay, got ramp = "
                f"{self.ramp:g}, stop = {self.stop:g}"
            )

    def targets(self, model):
        return list(weights(model))

    def check(self, model):
        super().check(model)
        names = model.forms() if self.variant == "code" else None
        check_movable(self.word, model, names)

    def hooks(self, model, data, run):
        return [Surgery(self, model, run)]

    def cut_forms(self, model, name: str) -> list[str]:
        """Returns the forms of a layer to cut: its weight, in the code's variant its bias too."""
        bias = name.rsplit(".", 1)[0] + ".bias"
        return [name, bias] if self.variant == "code" and bias in model.forms() else [name]

    def thresholds(self, model, node: str, name: str) -> tuple[float, float]:
        """Returns (a, b) of one layer."""
        parts = [model.forms()[form].dense().data.ravel() for form in self.cut_forms(model, name)]
        w = np.concatenate(parts)
        return surgery_thresholds(
            w[w != 0] if self.variant == "code" else w,
            self.at("c", node), low=self.low, high=self.high,
        )


class Surgery(Hook):
    """Cuts and splices: every mask is behind its weight, so that hidden entries go on training.

    A technique splices back only what it cut itself. Slots "moves.NAME", (2,) int64: how often an
    entry of a form was cut, and spliced back, so far.
    """

    name = DNS.word

    def __init__(self, technique: DNS, model: Model, run):
        super().__init__()
        self.technique, self.log, self.thresholds = technique, run.log, {}
        self.layers = {
            node: technique.cut_forms(model, name) for node, name in weights(model).items()
        }
        for node, forms in self.layers.items():
            a_b = technique.thresholds(model, node, forms[0])
            self.thresholds |= dict.fromkeys(forms, a_b)
        self.allowed = behind(model, self.thresholds)
        self.slots |= {f"moves.{name}": np.zeros(2, np.int64) for name in self.allowed}
        self.seed = int(run.rng.integers(2**63))

    def settled(self, steps):
        return math.ceil(self.technique.stop * steps)

    def before_batch(self, state):
        # Draws are of the seed and the step alone, so that a resumed training draws the same.
        of, done = self.technique, state.step / max(state.steps, 1)
        draws = np.random.default_rng([self.seed, state.step]).random(len(self.layers))
        if done < of.stop or state.step == 0:
            chosen = draws < (1 + of.gamma * state.step) ** -of.power
            forms = [f for go, layer in zip(chosen, self.layers.values()) if go for f in layer]
            self.operate(state.model, forms, 1.0 if of.ramp == 0 else min(done / of.ramp, 1.0))
        if state.step * ROWS % state.steps < ROWS:
            self.log(self.row(state))

    def skip(self, model):
        self.operate(model, self.thresholds)

    def operate(self, model: Model, names: Iterable[str], rise: float = 1.0) -> None:
        """Sets the masks of the named forms by eq. (3), in place, with thresholds times `rise`."""
        forms = model.forms()
        for name in names:
            form, (a, b) = forms[name], self.thresholds[name]
            mask = surgery_mask(form.values(), form.mask, rise * a, rise * b) & self.allowed[name]
            if mask.any():  # the last weights of a layer are not cut: an empty layer cannot learn
                moves = np.count_nonzero(form.mask > mask), np.count_nonzero(mask > form.mask)
                self.slots[f"moves.{name}"] += moves
                form.remask(mask)

    def row(self, state) -> dict:
        """Returns the row of the log at a step of the training."""
        forms = [state.model.forms()[name] for name in self.thresholds]
        cut, spliced = sum(self.slots.values())
        kept, size = (
            sum(int(form.mask.sum()) for form in forms), sum(form.mask.size for form in forms)
        )
        return {"event": "surgery", "step": state.step, "steps": state.steps, "cut": int(cut),
                "spliced": int(spliced), "sparsity": 1 - kept / size, "model": state.model}
