"""Plain numbers: float32, or stored as float16."""

from __future__ import annotations

import numpy as np

from ...grid import round_half
from ...tensor import raw
from .base import Form
from .parts import MASK, Part


class Dense(Form):
    """A float32 array, with an optional mask of the entries that are kept.

    value : array or Tensor of any shape, copied as float32; float64 stays, so that gradient checks
        and second-order methods can run in it, and is rounded in a file. Entries outside the mask
        are set to 0
    mask : boolean array of the same shape, True where kept, or None
    """

    kind, wire, movable = "dense", 0, True
    parts = {"value": Part("value", moves=True), "mask": MASK}

    def __init__(self, value, mask=None, trainable: bool = True):
        self.shape = np.shape(raw(value))
        self._hold({"value": value, "mask": mask}, trainable)

    def decode(self, *, training=False, rng=None):
        return self.value

    def _said(self):
        bits = 8 * np.dtype(self.parts["value"].dtype).itemsize
        yield f"{bits} bits a value"
        if self.mask is not None:
            yield "a mask behind" if self.behind else "a mask"
        yield from super()._said()


class Half(Dense):
    """Values stored as IEEE float16; while trainable a float32 latent stands behind them.

    The latent begins as the value that is stored; `freeze()` rounds it, `copy()` keeps it.
    """

    kind, wire = "half", 1
    parts = {"value": Part("value", moves=True, dtype=np.float16), "mask": MASK}

    def __init__(self, value, mask=None, trainable: bool = True):
        super().__init__(round_half(np.array(raw(value))), mask, trainable)

    def decode(self, *, training=False, rng=None):
        return round_half(self.value)

    def frozen_parts(self):
        return {"value": round_half(self.value.data)}

    def moved(self, value):
        return super().moved(round_half(np.array(raw(value))))
