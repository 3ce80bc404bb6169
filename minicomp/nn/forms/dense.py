"""Plain numbers: float32, or stored as float16 or bfloat16."""

from __future__ import annotations

import numpy as np

from ...grid import round_bfloat16, round_half
from ...tensor import raw
from .base import Form
from .parts import BFLOAT16, MASK, Part


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

    # As a table of centroids whose first entry is a pinned 0.

    def pin_zero(self) -> None:
        """Sets the first entry to 0."""
        self.value.data[0] = 0

    def without_zero(self) -> Form:
        """Returns the form of the entries behind the first."""
        return self.gather((slice(1, None),))

    def after_zero(self) -> Form:
        """Returns the form of a 0 and then the entries."""
        value = np.concatenate([np.zeros(1, np.float32), self.value.data])
        return self._with({"value": value}, shape=value.shape)


def numbers(values) -> Form:
    """Returns a form itself, or the float32 form of an array."""
    return values if isinstance(values, Form) else Dense(np.asarray(values, np.float32))


class _Rounded(Dense):
    # Values stored as a narrow float; while trainable a float32 latent stands behind them, which
    # begins as the value that is stored; `freeze()` rounds it, `copy()` keeps it.

    @staticmethod
    def rounded(x):
        """Returns x as it is stored, in x's dtype, straight through."""
        raise NotImplementedError

    def __init__(self, value, mask=None, trainable: bool = True):
        super().__init__(self.rounded(np.array(raw(value))), mask, trainable)

    def decode(self, *, training=False, rng=None):
        return self.rounded(self.value)

    def frozen_parts(self):
        return {"value": self.rounded(self.value.data)}

    def moved(self, value):
        return super().moved(self.rounded(np.array(raw(value))))


class Half(_Rounded):
    """Values stored as IEEE float16; while trainable a float32 latent stands behind them."""

    kind, wire = "half", 1
    parts = {"value": Part("value", moves=True, dtype=np.float16), "mask": MASK}
    rounded = staticmethod(round_half)


class BFloat16(_Rounded):
    """Values stored as bfloat16, the upper half of a float32; a latent behind them as in Half."""

    kind, wire = "bfloat16", 5
    parts = {"value": Part("value", moves=True, dtype=BFLOAT16), "mask": MASK}
    rounded = staticmethod(round_bfloat16)
