"""A model's net as a module of PyTorch's, run eagerly: the peer of training.

Layers' names and arguments are PyTorch's, so each node becomes the module of its kind.
"""

from __future__ import annotations

from ..nn.graph import INPUT, Model


def eager(torch, model: Model):
    """Returns the net, weights drawn by PyTorch; of `Add` nodes with two inputs, and the layers
    that PyTorch has under the same name."""

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = torch.nn.ModuleList(_layer(torch.nn, node.layer) for node in model.nodes)

        def forward(self, x):
            values = {INPUT: x}
            for node, layer in zip(model.nodes, self.layers):
                read = [values[name] for name in node.inputs]
                values[node.name] = read[0] + read[1] if node.layer.kind == "Add" else layer(*read)
            return values[model.nodes[-1].name]

    return Net()


def _layer(nn, layer):
    return nn.Identity() if layer.kind == "Add" else getattr(nn, layer.kind)(**layer.config())
