"""What a packed weight is: arrays that a kernel follows without looking, made by a packer alone."""

from __future__ import annotations

import numpy as np


class Packed:
    """A frozen dataclass whose numbers fit together, because its packer says so.

    A kernel reads where the arrays tell it to. So none is made by its constructor, and the arrays
    cannot be written.
    """

    packer: str

    def __init__(self, *args, **kw):
        raise ValueError(f"{type(self).__name__} must be made by {self.packer}")

    @classmethod
    def _made(cls, **fields):
        # For the packer: the object of these fields, its arrays read-only.
        self = object.__new__(cls)
        for name, value in fields.items():
            if isinstance(value, np.ndarray):
                value.setflags(write=False)
            object.__setattr__(self, name, value)
        return self

    @property
    def nbytes(self) -> int:
        """Bytes that one product reads of the weight."""
        return sum(a.nbytes for a in vars(self).values() if isinstance(a, np.ndarray))


def of_kind(w, *kinds: type[Packed]) -> None:
    """Raises ValueError unless w is a packed weight of one of the kinds."""
    if type(w) not in kinds:
        names = " or ".join(f"{kind.__name__}, made by {kind.packer}" for kind in kinds)
        raise ValueError(f"w must be {names}; got {type(w).__name__}")
