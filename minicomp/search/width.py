"""Once-for-all (Cai, Gan, Wang, Zhang & Han 2020, "Once-for-All: Train One Network and Specialize
it for Efficient Deployment", ICLR, arXiv 1908.09791), its widths, kernels and depths nested.

All nets of a space share the weights of the largest, and are trained together:

    min_W sum_choice L_val(C(W, choice))                                                        (1)

C(W, choice) is a slice: of filters, units and channels the first, of a kernel the middle, of layers
in a row the first. A sub-net is then evaluated without any training of its own, and a search costs
what it takes to look. A step trains the largest net on labels, and the smallest and some drawn ones
on what the largest says of the same images, weights shared, gradients added: the sandwich rule and
inplace distillation of Yu & Huang 2019 (arXiv 1903.05134)

    L = CE(largest, y) + sum over sub-nets CE(sub-net, softmax(largest)),   no gradient to a target

The paper shrinks progressively, kernels, then depths, then widths, over 180 epochs, sorts channels
by their norm between, and learns a matrix that turns the middle of a kernel into a smaller one.
None of this is here: all sizes train from the first step, in the order that the draw gave.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..compress.technique import Log, silent
from ..errors import UserError
from ..nn.forms import Dense
from ..nn.graph import Model
from ..nn.losses import cross_entropy
from ..ops import softmax
from ..optim import Adam, cosine
from ..tensor import Tensor
from ..train import Hook, evaluate, fit
from .space import Choice, Space


def sliced(w, shape: Sequence[int]):
    """Returns the sub-weight of a shape, a view (of a Tensor: differentiable): of filters and
    channels, axes 0 and 1, the first, of the kernel, axes 2 and 3, the middle.

    w : (O, I, K, K), (O, I) or (O,), array or Tensor
    Raises UserError where it has none of that shape.
    """
    whole, shape = w.shape, tuple(shape)
    if len(whole) != len(shape) or any(n > m for n, m in zip(shape, whole)) or any(
            (m - n) % 2 for n, m in zip(shape[2:], whole[2:])):
        raise UserError(f"shape must be a slice of {whole}, kernels smaller by an even number, "
                        f"got {shape}")
    middle = [slice((m - n) // 2, (m + n) // 2) for n, m in zip(shape[2:], whole[2:])]
    return w[(*map(slice, shape[:2]), *middle)]


class Supernet:
    """The largest net of a space, of whose weights every other net is a slice.

    model : the largest, its weights drawn with rng
    Raises UserError where a net of the space has a weight that the largest does not contain.
    """

    def __init__(self, space: Space, *, rng: np.random.Generator):
        self.space, self.model = space, space.build(space.largest, rng=rng)
        self._nets: dict[tuple[int, ...], Model] = {}
        for name, values in space.choices.items():  # each value once, beside the largest others
            for value in values:
                self.slices(space.largest | {name: value}, self.model.decode())

    def net(self, choice: Choice) -> Model:
        """Returns the sub-net's list of layers; its own weights are 0 and not used."""
        code = self.space.encode(choice)
        if code not in self._nets:
            self._nets[code] = self.space.build(choice)
        return self._nets[code]

    def slices(self, choice: Choice, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Returns the sub-net's weights, slices of those of the largest, by name."""
        shapes = {name: form.shape for name, form in self.net(choice).forms().items()}
        if extra := [name for name in shapes if name not in weights]:
            raise UserError(f"every layer of {self.space.name(choice)} must be in the largest net, "
                            f"got {extra[0]}")
        return {name: sliced(weights[name], shape) for name, shape in shapes.items()}

    def __call__(self, choice: Choice, x, *, weights: dict[str, Tensor] | None = None) -> Tensor:
        """Returns the logits of a sub-net, with weights shared.

        weights : of the largest net, as `Model.decode` gives them; None decodes them here
        """
        weights = self.model.decode() if weights is None else weights
        return self.net(choice)(x, weights=self.slices(choice, weights), training=True)

    def extract(self, choice: Choice) -> Model:
        """Returns a sub-net by itself, with copies of its slices: a model like any other."""
        made, mine = self.space.build(choice), self.model.decode()
        made.set_forms({name: Dense(np.ascontiguousarray(w.data))
                        for name, w in self.slices(choice, mine).items()})
        return made

    def error(self, choice: Choice, split) -> float:
        """Returns the fraction of errors of a sub-net on a split, none of it trained for this."""
        return evaluate(self.extract(choice), split).error

    def train(self, data, *, epochs: int = 1, lr: float = 0.005, batch_size: int = 50,
              drawn: int = 2, rng: np.random.Generator, log: Log = silent) -> Sandwich:
        """Trains all nets together, in place, by Adam with a cosine; returns the hook, which has
        counted the cost.

        drawn : sub-nets a step, beside the largest and the smallest
        """
        hook = Sandwich(self, drawn)
        fit(self.model, data, epochs=epochs, optimizer=Adam(self.model.parameters(), lr=lr),
            schedule=cosine(), batch_size=batch_size, hooks=[hook], rng=rng, log=log)
        return hook


class Sandwich(Hook):
    """Adds to the largest net's loss those of the smallest and of drawn sub-nets on what it says.

    macs : multiply-accumulates of all images through all nets so far, forward alone
    """

    name = "sandwich"

    def __init__(self, supernet: Supernet, drawn: int = 2):
        super().__init__()
        if drawn < 0:
            raise UserError(f"drawn must be at least 0, got {drawn}")
        self.supernet, self.drawn, self.macs = supernet, drawn, 0.0
        self.choices: list[Choice] = []

    def before_batch(self, state):
        space = self.supernet.space
        self.choices = [space.smallest] + [
            space.sample(rng=state.rng) for _ in range(self.drawn)]
        for choice in [space.largest, *self.choices]:
            self.macs += len(state.batch[1]) * space.cost("macs", choice)

    def loss(self, state):
        target = softmax(state.output.data)  # an array: no gradient
        terms = [cross_entropy(self.supernet(choice, state.batch[0], weights=state.weights), target)
                 for choice in self.choices]
        return sum(terms[1:], terms[0])
