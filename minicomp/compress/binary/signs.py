"""What trainings of weights +-H share: their form, their knobs, their loss and learning rates."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...grid import stochastic_signs
from ...nn.forms import Dense, Form
from ...nn.forms.binary import pack_bases
from ...nn.graph import Model
from ...nn.init import fans
from ...nn.losses import squared_hinge
from ...tensor import Array
from ..technique import knob
from .training import Latents, Rates, Signed, latent_of, through


def glorot(shape: tuple[int, ...]) -> float:
    """Returns sqrt(1.5 / (fan_in + fan_out)) of a weight (O, I) or (O, C, K, K)."""
    return math.sqrt(1.5 / sum(fans(shape)))


def draw(w: Array, H: float, *, rng: np.random.Generator) -> Array:
    """Returns w_b = +-H of w's shape and dtype, +H with probability clip((w / H + 1) / 2, 0, 1):
    its mean is clip(w, -H, H).

    Source: Courbariaux et al. 2015, eqs. (2), (3)
    """
    return w.dtype.type(H) * stochastic_signs(w / w.dtype.type(H), rng.random(w.shape, np.float32))


class Connected(Signed):
    """The form while it trains: +-H of its latent, which stays in -H..H.

    stochastic : whether training draws signs
    ends : what it is once frozen, "signs" or "real"
    """

    H, stochastic, ends = 1.0, False, "signs"

    def found(self, w):
        return pack_bases(w[None]), np.array([[self.H]], w.dtype)

    def decode(self, *, training=False, rng=None):
        if self.latent is None or not (self.ends == "real" or training and self.stochastic):
            return super().decode()
        if not (training and self.stochastic):
            return self.latent
        return through(self.latent, value=draw(self.visible(), self.H, rng=rng), back=lambda g: g)

    def project(self):
        super().project()
        if self.latent is not None:
            np.clip(self.latent.data, -self.H, self.H, out=self.latent.data)

    def real(self) -> Dense:
        """Returns the frozen form of the latent, which is the mean of what is drawn."""
        return Dense(self.visible(), self.mask, trainable=False)

    def freeze(self):
        if self.latent is not None and self.ends == "real":
            return self.real()
        return super().freeze()


@dataclass(frozen=True)
class OnSigns(Latents):
    """A training whose weights are +-H."""

    by_scales: ClassVar[bool] = False

    stochastic: bool = knob(False, "whether signs are drawn in training, else they are those of "
                                   "the floats")
    size: str = knob("glorot", "H of +-H: sqrt(1.5 / (fan_in + fan_out)) of a layer, or one",
                     choices=("glorot", "one"))
    lr_scale: int = knob(0, "learning rates over sqrt(1.5 / (fan_in + fan_out)) to this power: 1 "
                            "for adam, 2 for sgd, with size one", lo=0, hi=2)
    loss: str = knob("cross-entropy", "of the training; squared-hinge is an L2 support vector "
                                      "machine's", choices=("cross-entropy", "squared-hinge"))

    def signs_of(self, form: Form) -> Connected:
        """Returns the form, trainable, of a layer's weight; it stays in -H..H from now on."""
        made = Connected(latent_of(form))
        made.H = glorot(form.shape) if self.size == "glorot" else 1.0
        made.stochastic = self.stochastic
        made.project()
        return made

    def placed(self, node, form):
        return self.signs_of(form)

    def hook(self, model, data, run):
        return Connecting(self, model)


def connected(model: Model) -> dict[str, Connected]:
    """Returns the forms that are `Connected`, by name."""
    return {name: f for name, f in model.forms().items() if isinstance(f, Connected)}


class Connecting(Rates):
    """Scales learning rates; puts the squared hinge loss in the place of cross-entropy where the
    technique says so."""

    def __init__(self, technique: OnSigns, model: Model):
        factors = {f"{name}.latent": glorot(form.shape) ** -technique.lr_scale
                   for name, form in connected(model).items()}
        super().__init__(technique.word, factors)
        self.replaces = technique.loss == "squared-hinge"

    def loss(self, state):
        return squared_hinge(state.output, state.batch[1]) if self.replaces else None
