"""Cross-layer equalisation (Nagel, van Baalen, Blankevoort, Welling 2019, "Data-free quantization
through weight equalization and bias correction", arXiv 1906.04721, section 4.1).

With one scale for a tensor, a channel whose weights are a hundredth of the largest channel's is
left a hundredth of the codes; behind a folded batch norm, and most of all in depthwise
convolutions, channels differ by that much. But W2 f(W1 x) = (W2 S) f(S^-1 W1 x) where f(s x) =
s f(x), so that channels may be divided on one side and multiplied on the other (`rescaling.py`).
Of all s

    s_i = sqrt(r1_i r2_i) / r2_i,     r1_i = max |W1_i,:|,   r2_i = max |W2_:,i|             (1)

gives each channel the largest share of the range of both tensors: both ranges become
sqrt(r1_i r2_i). Pairs are treated from input to output, again and again until no s moves. That
serves chains of any length, convolution, depthwise, convolution among them, each layer but the
first and last as both W2 and W1.

A small s makes biases, hence activations, large. Where batch norm said that a channel is about
Gaussian, of mean beta and deviation gamma, nearly all of it lies above

    c = max(0, beta - 3 gamma)                                                                (2)

and what does is not bent by ReLU, so that c may be taken off in front of it and given back behind,
b1 <- b1 - c and b2 <- b2 + W2 c: the activation between the two needs to hold less.

Where we leave the paper: it puts ReLU in the place of ReLU6 to rescale it, and outputs change; here
its ceiling becomes 6 / s (and 6 / s - c), and they do not. A sum takes part together with all that
it adds (the paper leaves it out): r1 is the largest of the layers that compute the channel, r2 of
those that read it. Where a convolution pads, what it reads beyond the border is 0 and not c, so
that biases are absorbed only where none does. A channel of which one side is all zeros keeps s = 1.

No data are read. Batch norms are folded first, as the weights behind them are those that are
quantized; their beta and gamma go into (2). In a net that was folded before there is no (2).
Numbers of equations are ours.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from ...errors import UserError
from ...nn.graph import Model
from ...tensor import Array
from ..channels.constants import biased
from ..channels.couplings import couplings, foldable as takes_constant, peaks, sums
from ..technique import Technique, knob, weights
from .folding import check_foldable, fold, gaussians
from .rescaling import Site, check_floats, of_channels, rescaled, sites

CONVERGED = 1e-4  # of ln s: no channel moves by more in a whole round


def equalisation_factors(r1: Array, r2: Array) -> Array:
    """Returns s, (C,) float64: W1 / s and W2 s have equal ranges sqrt(r1 r2) in each channel.

    r1, r2 : (C,), at least 0, the largest |weight| of each channel on either side; s = 1 where one
        is 0
    Source: Nagel et al. 2019, section 4.1; (1) above

    >>> equalisation_factors([0.1, 4, 1], [2, 0.5, 1]).round(3).tolist()
    [0.224, 2.828, 1.0]
    """
    r1, r2 = np.asarray(r1, np.float64), np.asarray(r2, np.float64)
    alive = (r1 > 0) & (r2 > 0)
    # sqrt(r1 r2) / r2, with no product that could leave the range of floats
    return np.where(alive, np.sqrt(r1) / np.sqrt(np.where(alive, r2, 1.0)), 1.0)


def absorbed(beta: Array, gamma: Array) -> Array:
    """Returns c = max(0, beta - 3 |gamma|), (C,): what 99.87 % of a Gaussian lie above, if more
    than 0.   beta, gamma : (C,)        Source: Nagel et al. 2019; (2) above
    """
    return np.maximum(0.0, beta - 3.0 * np.abs(gamma))


# ------------------------------------------------------------------------------------------ a model


def divisors(model: Model, rounds: int = 1000) -> tuple[dict[str, Array], int]:
    """Returns what each layer's channels are to be divided by, (O,), and the rounds that it took.

    rounds : at most so many over all sites; fewer where none moves
    """
    found = weighted_sites(model)
    names = {name for site in found for name in (*site.writers, *site.readers)}
    largest = {name: peaks(model.node(name).layer) for name in names}
    total = {name: np.ones(len(largest[name])) for site in found for name in site.writers}
    for done in range(1, rounds + 1):
        moved = max((_equalised(site, largest, total) for site in found), default=0.0)
        if moved < CONVERGED:
            break
    return total, done


def channel_ranges(model: Model) -> dict[str, Array]:
    """Returns the largest |weight| of each output channel, (O,) float64, by layer."""
    return {node: peaks(model.node(node).layer).max(axis=1) for node in weights(model)}


def weighted_sites(model: Model) -> list[Site]:
    """Returns the sites whose channels layers with weights compute: no batch norm."""
    return [site for site in sites(model)
            if not any(model.node(name).layer.normalises for name in site.writers)]


def _equalised(site: Site, largest: dict[str, Array], total: dict[str, Array]) -> float:
    # One site, in place; returns by how much ln s moved most. largest : |w| of each layer, (O, C)
    r1 = site.largest({name: largest[name].max(axis=1) for name in site.writers}, "writers")
    r2 = site.largest({name: largest[name].max(axis=0) for name in site.readers}, "readers")
    s = equalisation_factors(r1, r2)
    for name, own in site.divisors(s).items():
        largest[name] = largest[name] / own[:, None]
        total[name] = total[name] * own
    for name, at in site.readers.items():
        largest[name] = largest[name] * of_channels(s, at)
    return float(np.abs(np.log(s)).max(initial=0.0))


def equalised(model: Model, rounds: int = 1000, word: str = "equalize") -> Model:
    """Returns the model, a copy, whose ranges are alike on both sides of every channel."""
    return rescaled(model, divisors(model, rounds)[0], word)


def shifted(model: Model, name: str, c: Array) -> Model | None:
    """Returns the model, a copy, in which a layer's channels are lower by c and the biases behind
    it make up for that; None where something behind it cannot.

    c : (C,), at least 0
    Outputs stay where no channel falls below c. Every reader must be able to take it: no
    convolution that pads, no addition, not the end of the model.
    """
    ways, c = couplings(model), np.asarray(c, np.float32).astype(np.float64)
    lower, swap = {name: c}, {name: biased(model.node(name).layer.copy(), -c)}
    for node in model.nodes:
        read = [lower[i] for i in node.inputs if i in lower]
        if not read:
            continue
        if len(node.inputs) > 1:
            return None
        layer, way = node.layer, ways[node.name]
        if layer.coupling == "mix":
            if not takes_constant(layer, read[0]).all():
                return None
            swap[node.name] = biased(layer.copy(), sums(layer) @ read[0])   # b2 + W2 c
            continue
        lower[node.name] = way.pass_on(read)
        through = layer.homogeneous and np.array_equal(way.constant(read), lower[node.name])
        swap[node.name] = layer.copy() if through else layer.shifted(read[0])
        if swap[node.name] is None:
            return None
    if model.nodes[-1].name in lower:
        return None
    made = model.copy()
    return made.rebuilt([replace(node, layer=swap.get(node.name, node.layer))
                         for node in made.nodes])


@dataclass(frozen=True)
class Equalize(Technique):
    """Divides channels in one layer and multiplies them in the next until both ranges are alike."""

    word: ClassVar[str] = "equalize"
    title: ClassVar[str] = "Cross-layer equalisation"
    source: ClassVar[str] = (
        "Nagel, van Baalen, Blankevoort & Welling 2019, Data-Free Quantization Through Weight "
        "Equalization and Bias Correction, arXiv:1906.04721")

    rounds: int = knob(1000, "at most so many rounds over all pairs of layers", lo=1)
    absorb: bool = knob(True, "move high biases into the next layer, as batch norm tells which")

    def check(self, model):
        super().check(model)
        check_floats(self.word, model)
        check_foldable(self.word, model)
        if not sites(model):
            raise UserError(f"{self.word}: the model has no channels that could be rescaled: none "
                            "goes from weights to weights, all free to move, by way of ReLU and "
                            "the like")

    def change(self, model, data, run):
        normal, model = gaussians(model), fold(model, run.log, self.word)
        s, rounds = divisors(model, self.rounds)
        made = rescaled(model, s, self.word)
        run.log({"event": "say", "text": f"{self.word}: {sum(map(len, s.values()))} channels of "
                                         f"{len(s)} layers, in {rounds} rounds"})
        return self.without_high_biases(made, normal, s, run.log) if self.absorb else made

    def without_high_biases(self, model: Model, normal, s: dict[str, Array], log) -> Model:
        """Returns the model with high biases absorbed where that is possible.

        normal : (mean, deviation) of layers' outputs, not yet divided by s
        """
        done, left = [], []
        for name, (beta, gamma) in normal.items():
            own = s.get(name, 1.0)
            c = absorbed(beta / own, gamma / own)
            if c.any():
                made = shifted(model, name, c)
                (left if made is None else done).append(name)
                model = model if made is None else made
        for names, what in ((done, "absorbed high biases of"), (left, "padding, a sum or the end "
                            "of the net lies behind the high biases of")):
            if names:
                log({"event": "say", "text": f"{self.word}: {what} {', '.join(names)}"})
        return model
