"""Removal of whole layers and residual blocks by greedy loss (C12).

No single paper states it: the residual blocks of a trained net can be dropped one at a time with
little loss (Veit, Wilber, Belongie 2016, arXiv 1605.06431, section 4.1), and a greedy search drops,
`blocks` times over, the one whose absence raises the loss on sampled training examples least. A
candidate is

    a branch    of an addition, F(x) + x -> x: whatever only that branch used goes with it
    a segment   a weighted layer with the normalisation and activation behind it, replaced by the
                identity; only where it gives back the shape that it takes (stride 1, as many
                channels out as in)

`max_rise` stops the search before a removal that would raise the loss by more than that over the
start.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from ...errors import UserError
from ...nn.graph import Model
from ...train import evaluate
from ..examples import calibration
from ..technique import Technique, knob


def candidates(model: Model) -> dict[str, Model]:
    """Returns what is left of the model by what was removed: "fc2", "add.1" of a second branch."""
    shapes, found = model.shapes(), {}
    readers = {name: [n for n in model.nodes if name in n.inputs] for name in shapes}
    for node in model.nodes:
        if node.layer.coupling == "add" and len(node.inputs) > 1:
            for i in range(len(node.inputs)):
                rest = node.inputs[:i] + node.inputs[i + 1 :]
                smaller = rewired(model, node.name, rest)
                if weights_of(smaller) < weights_of(model):
                    found[f"{node.name}.{i}"] = smaller
        elif node.layer.coupling == "mix":
            last = node
            while len(readers[last.name]) == 1 and readers[last.name][0].layer.pointwise:
                last = readers[last.name][0]
            if shapes[last.name] == shapes[node.inputs[0]] and last is not model.nodes[-1]:
                found[node.name] = rewired(model, last.name, node.inputs)
    return found


def rewired(model: Model, name: str, inputs: tuple[str, ...]) -> Model:
    """Returns the model in which node `name` has other inputs, or, for a single one, is replaced by
    it; nodes that nothing reads any more are gone. Layers are shared."""
    alias = {name: inputs[0]} if len(inputs) == 1 else {}
    nodes = [
        replace(n, inputs=tuple(alias.get(i, i) for i in (inputs if n.name == name else n.inputs)))
        for n in model.nodes
        if n.name not in alias
    ]
    used = {alias.get(model.nodes[-1].name, model.nodes[-1].name)}
    for node in reversed(nodes):
        if node.name in used:
            used |= set(node.inputs)
    nodes = [n for n in nodes if n.name in used]
    return model.rebuilt(nodes)


def weights_of(model: Model) -> int:
    """Returns the number of weights, biases and running statistics."""
    return model.dense_bytes() // 4


@dataclass(frozen=True)
class LayerRemoval(Technique):
    """Removes the layers and branches whose absence raises the loss least, one at a time."""

    word: ClassVar[str] = "layer-removal"
    title: ClassVar[str] = "Greedy removal of layers and blocks"

    blocks: int = knob(1, "layers or branches to remove", lo=1)
    max_rise: float | None = knob(
        None, "stop before the loss has risen by more than this", type=float, lo=0, optional=True
    )
    samples: int = knob(
        2000, "training examples on which the loss is measured; all where there are fewer", lo=1
    )

    def reads(self):
        return ("train",)

    def resizes(self):
        return True

    def check_shapes(self, model):
        self.all(model, 1)

    def change(self, model, data, run):
        sample = calibration(self, data, run)
        start = evaluate(model, sample, n_threads=run.n_threads).loss
        made = model
        for done in range(1, self.blocks + 1):
            tried = {
                name: (evaluate(m, sample, n_threads=run.n_threads).loss, m)
                for name, m in self.all(made, done).items()
            }
            name = min(tried, key=lambda n: tried[n][0])
            loss, smaller = tried[name]
            if self.max_rise is not None and loss > start + self.max_rise:
                break
            made = smaller
            run.log(
                {
                    "event": "removed",
                    "name": self.word,
                    "layer": name,
                    "loss": loss,
                    "rise": loss - start,
                    "weights": model.count() - made.count(),
                }
            )
        return made.copy()

    def all(self, model: Model, done: int) -> dict[str, Model]:
        """Returns the candidates; UserError where there are none."""
        found = candidates(model)
        if not found:
            raise UserError(
                f"layer-removal: {done - 1} of {self.blocks} layers removed, and none of the "
                f"others can be: each changes the shape of what it gets, or is the only path"
            )
        return found

    def sketch(self, model, *, rng):
        for done in range(1, self.blocks + 1):
            model = next(iter(self.all(model, done).values()))
        return model.copy()
