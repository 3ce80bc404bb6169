"""What the techniques have in common that decompose the filters of a convolution as a tensor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...errors import UserError
from ...nn.graph import Model, Node
from ...nn.layers import Layer
from ...tensor import Array
from ..technique import Run, Technique, knob
from . import chains


@dataclass(frozen=True)
class TensorTechnique(Technique):
    """Replaces each convolution that sees neighbours by a chain of smaller ones."""

    skip: bool = knob(False, "leave such a layer as it is", per_layer=True)

    def targets(self, model):
        return [node.name for node in model.nodes if chains.is_spatial(node)]

    def wanted(self, model: Model) -> list[Node]:
        """Returns the nodes that are replaced."""
        return [model.node(name) for name in self.targets(model) if not self.at("skip", name)]

    def check(self, model):
        if not self.targets(model):
            raise UserError(f"{self.word}: the model has no convolution in one group whose kernel "
                            "is more than 1 x 1")
        super().check(model)
        chains.check_plain(self.word, model, [node.name for node in self.wanted(model)])

    def factored(self, node: Node, run: Run) -> tuple[list[Layer], Array | None, str]:
        """Returns the layers in place of a convolution, the filters that they amount to, None where
        there are none that are meant, and what the log says of them."""
        raise NotImplementedError

    def change(self, model, data, run):
        made = {}
        for node in self.wanted(model):
            layers, full, said = self.factored(node, run)
            if "bias" in node.layer.forms and full is not None:
                layers[-1].forms["bias"] = node.layer.forms["bias"].copy()
            made[node.name] = layers
            run.log(self.told(node, layers, full, said))
        return chains.replaced(model, made)

    def told(self, node: Node, layers: list[Layer], full: Array | None, said: str) -> dict:
        """Returns the row of a log that says what becomes of a convolution."""
        before, after = chains.numbers([node.layer]), chains.numbers(layers)
        row = {"event": "say", "layer": node.name, "weights": before, "factors": after}
        text = f"{self.word}: {node.name} {said}: {before:,} weights become {after:,}"
        if full is not None:
            row["error"] = relative_error(chains.decoded(node.layer), full)
            text += f", relative error {row['error']:.3g}"
        if after >= before:
            text += "; that does not pay"
        return row | {"text": text}


def relative_error(w: Array, full: Array) -> float:
    """Returns |w - full| / |w|, 0 where both are 0."""
    return float(np.linalg.norm(w - full) / max(np.linalg.norm(w), np.finfo(float).tiny))
