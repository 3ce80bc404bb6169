"""Layers that stand in a net while it trains and hold what trains beside the weights."""

from __future__ import annotations

from ..nn.forms import Part
from ..nn.layers import Layer
from ..tensor import Tensor

FREE = Part("table", axes=())  # a buffer of any finite numbers


class Moving(Layer):
    """A layer all of whose buffers are its `grids`: they move in training, and are no weights."""

    step = None

    @property
    def grids(self):
        # Tensors in the buffers' memory, so that a step of an optimizer moves the buffers.
        known = vars(self).get("_moving", {})
        self._moving = {
            name: known[name] if name in known and known[name].data is a  # not those of a copy
            else Tensor(a, requires_grad=True) for name, a in self.buffers.items()}
        return self._moving
