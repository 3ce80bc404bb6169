"""Forms: what is stored of a weight, and how it is decoded.

A weight or bias of a layer is always a form. Compression replaces one form by another; whoever needs the
numbers calls `dense()`, the file writes `stored()`, the optimizer moves `parameters()`, and nothing else
about a technique is known outside it.

| form     | stores                                             | dense()                 |
|----------|----------------------------------------------------|-------------------------|
| Dense    | float32 values; with a mask the kept ones           | value, 0 where masked   |
| Half     | float16 values                                     | cast to float32         |
| Codebook | an index a weight, k centroids (themselves a form) | centroids[index]        |

A form is *trainable* (its parts receive gradients) or *frozen* (it has none). `dense()` is bit-equal across
`freeze()` and `thaw()`. After every optimizer step `project()` puts the parts back where the form allows
them: masked entries to exactly 0, a pinned centroid to exactly 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..errors import FormatError
from ..grid import round_half
from ..ops import mul, take
from ..tensor import Array, Tensor, no_grad, raw


@dataclass(frozen=True)
class Stored:
    """One array of a form as a file holds it.

    array : any shape, numbers or booleans        bits : of one entry, before entropy coding
    role : "value", "code", "mask", "scale" or "table"
    """

    array: Array
    bits: int
    role: str


class Form:
    """The contract of a form; `shape` is that of `dense()`, `mask` is True where an entry is kept."""

    kind: str
    shape: tuple[int, ...]
    mask: Array | None
    trainable: bool

    def dense(self, *, training=False, rng=None) -> Tensor:
        """Returns the decoded weight, float32, differentiable in `parameters()`."""
        raise NotImplementedError

    def parts(self) -> dict[str, Tensor]:
        """Returns the real-valued parts by name; "" names the only part of a form that has one."""
        raise NotImplementedError

    def parameters(self) -> dict[str, Tensor]:
        """Returns what an optimizer may move: the parts, or nothing when frozen."""
        return self.parts() if self.trainable else {}

    def project(self) -> None:
        """Puts the parts back into the form after an optimizer step, in place."""

    def copy(self, trainable: bool | None = None) -> Form:
        """Returns an equal form that shares no writable array."""
        raise NotImplementedError

    def freeze(self) -> Form:
        """Returns an equal form without trainable parts."""
        return self.copy(trainable=False)

    def thaw(self) -> Form:
        """Returns an equal form with trainable parts."""
        return self.copy(trainable=True)

    def select(self, axis: int, keep: Array) -> Form:
        """Returns the form of `np.take(dense, keep, axis)`.

        keep : positions, integers; ValueError names what forbids them
        """
        raise NotImplementedError

    def stored(self) -> dict[str, Stored]:
        """Returns the arrays that a file holds, by part."""
        raise NotImplementedError

    def meta(self) -> dict:
        """Returns what a reader needs besides shape and arrays, JSON-able and small."""
        return {}

    @classmethod
    def from_stored(cls, shape: tuple[int, ...], meta: dict, arrays: dict[str, Array]) -> Form:
        """Returns the frozen form that was stored; FormatError where the parts do not fit together."""
        raise NotImplementedError

    def state(self) -> dict[str, Array]:
        """Returns the arrays of a state dict by part name; views, not copies."""
        raise NotImplementedError

    def load_state(self, state: dict[str, Array]) -> None:
        """Takes over the arrays of an equal form's `state()`, in place.

        Raises ValueError as `check_state` does; the form is then untouched.
        """
        self.check_state(state)
        mine = self.state()
        for part, value in state.items():
            mine[part][...] = value
        self.project()

    def check_state(self, state: dict[str, Array]) -> None:
        """Raises ValueError where `load_state` would not take the arrays: a wrong shape, a code out of range."""
        for part, mine in self.state().items():
            if part in state and np.shape(state[part]) != mine.shape:
                raise ValueError(f"shape must be {mine.shape}, got {np.shape(state[part])}")

    def nonzeros(self) -> int:
        """Returns the number of entries of `dense()` that are not 0."""
        with no_grad():
            return int(np.count_nonzero(self.dense().data))


class Dense(Form):
    """A float32 array, with an optional mask of the entries that are kept.

    value : array or Tensor of any shape, copied; entries outside the mask are set to 0
    mask : boolean array of the same shape, True where kept, or None
    """

    kind = "dense"

    def __init__(self, value, mask=None, trainable: bool = True):
        self.value = Tensor(np.array(raw(value)), requires_grad=trainable)
        self.shape = self.value.shape
        self.trainable = trainable
        self.mask = self._keep = None
        if mask is not None:
            self.remask(mask)

    def dense(self, *, training=False, rng=None) -> Tensor:
        # The value outside the mask is kept 0 by project(); the product masks the gradient.
        if self.mask is None or not self.value.requires_grad:
            return self.value
        return mul(self.value, self._keep)

    def parts(self) -> dict[str, Tensor]:
        return {"": self.value}

    def project(self) -> None:
        if self.mask is not None:
            np.copyto(self.value.data, 0, where=~self.mask)

    def remask(self, mask: Array) -> None:
        """Sets the mask in place, for techniques that prune while training; entries outside it become 0."""
        mask = np.array(mask, dtype=bool)
        if mask.shape != self.shape:
            raise ValueError(f"mask must have shape {self.shape}, got {mask.shape}")
        self.mask, self._keep = mask, mask.astype(self.value.dtype)
        self.project()

    def copy(self, trainable=None) -> Dense:
        return type(self)(self.value, self.mask, self.trainable if trainable is None else trainable)

    def select(self, axis, keep) -> Dense:
        _check_select(self.shape, axis, keep)
        mask = None if self.mask is None else np.take(self.mask, keep, axis)
        return type(self)(np.take(self.value.data, keep, axis), mask, self.trainable)

    def stored(self) -> dict[str, Stored]:
        with no_grad():
            value = self.dense().data.astype(self.stored_dtype, copy=False)
        bits = 8 * value.dtype.itemsize
        if self.mask is None:
            return {"value": Stored(value, bits, "value")}
        return {"mask": Stored(self.mask, 1, "mask"), "value": Stored(value[self.mask], bits, "value")}

    stored_dtype = np.dtype(np.float32)

    @classmethod
    def from_stored(cls, shape, meta, arrays) -> Dense:
        value, mask = _found(arrays, "value").astype(np.float32), arrays.get("mask")
        if not np.isfinite(value).all():
            raise FormatError("values must be finite, got NaN or infinity")
        if mask is None:
            return cls(_shaped("value", value, shape), trainable=False)
        mask = _shaped("mask", mask, shape).astype(bool)
        if value.size != np.count_nonzero(mask):
            raise FormatError(f"a mask of {np.count_nonzero(mask)} entries needs as many values, got {value.size}")
        full = np.zeros(shape, np.float32)
        full[mask] = value.ravel()
        return cls(full, mask, trainable=False)

    def state(self) -> dict[str, Array]:
        return {"": self.value.data} if self.mask is None else {"value": self.value.data, "mask": self.mask}

    def load_state(self, state) -> None:
        super().load_state(state)
        self._keep = None if self.mask is None else self.mask.astype(self.value.dtype)


class Half(Dense):
    """Values stored as IEEE float16; while trainable a float32 latent stands behind them.

    The latent begins as the value that is stored: a copy, or a form read from a file, trains on in the same bits.
    """

    kind = "half"
    stored_dtype = np.dtype(np.float16)

    def __init__(self, value, mask=None, trainable: bool = True):
        super().__init__(round_half(np.array(raw(value))), mask, trainable)

    def dense(self, *, training=False, rng=None) -> Tensor:
        return round_half(super().dense())


class Codebook(Form):
    """Shared weights: every entry is one of k centroids (Han et al. 2016, section 3).

    index : integers 0..k-1 of the weight's shape, copied
    centroids : an unmasked form of shape (k,), or an array; copied
    pinned_zero : centroid 0 is exactly 0 and stays it: the code of pruned entries, and the mask
    """

    kind = "codebook"

    def __init__(self, index, centroids, pinned_zero: bool = False, trainable: bool = True):
        form = centroids if isinstance(centroids, Form) else Dense(np.asarray(centroids, np.float32))
        self.centroids = form.copy(trainable=trainable)
        if len(self.centroids.shape) != 1:
            raise ValueError(f"centroids must have shape (k,), got {self.centroids.shape}")
        if self.centroids.mask is not None:
            raise ValueError("centroids must not be masked; a pinned zero is the mask of a codebook")
        self.k = self.centroids.shape[0]
        _check_index(np.asarray(index), self.k)
        self.index = np.asarray(index).astype(np.uint8 if self.k <= 256 else np.uint16 if self.k <= 65536 else np.uint32)
        self.shape = self.index.shape
        self.trainable = trainable
        self.pinned_zero = bool(pinned_zero)
        self.mask = self.index != 0 if self.pinned_zero else None
        self.project()

    @property
    def bits(self) -> int:
        """Bits of one index: ceil(log2 k)."""
        return max(1, math.ceil(math.log2(max(self.k, 1)))) if self.k > 1 else 0

    def dense(self, *, training=False, rng=None) -> Tensor:
        # d loss / d c_k is the sum over the entries that share c_k: Han et al. 2016, eq. (3); take's rule.
        return take(self.centroids.dense(), index=self.index)

    def parts(self) -> dict[str, Tensor]:
        return {f"centroids.{name}".rstrip("."): t for name, t in self.centroids.parts().items()}

    def project(self) -> None:
        self.centroids.project()
        if self.pinned_zero:
            for part in self.centroids.parts().values():
                part.data[0] = 0

    def copy(self, trainable=None) -> Codebook:
        trainable = self.trainable if trainable is None else trainable
        return Codebook(self.index, self.centroids, self.pinned_zero, trainable)

    def select(self, axis, keep) -> Codebook:
        _check_select(self.shape, axis, keep)
        return Codebook(np.take(self.index, keep, axis), self.centroids, self.pinned_zero, self.trainable)

    def stored(self) -> dict[str, Stored]:
        inner = self.centroids.stored()["value"]
        table = inner.array[1:] if self.pinned_zero else inner.array
        return {"index": Stored(self.index, self.bits, "code"), "centroids": Stored(table, inner.bits, "table")}

    def meta(self) -> dict:
        return {"k": self.k, "pinned_zero": self.pinned_zero, "centroids": self.centroids.kind}

    @classmethod
    def from_stored(cls, shape, meta, arrays) -> Codebook:
        kind, k, pinned = (_found(meta, name) for name in ("centroids", "k", "pinned_zero"))
        if kind not in ("dense", "half"):
            raise FormatError(f"centroids must be of form dense or half, got {kind!r}")
        if isinstance(k, bool) or not isinstance(k, int) or k < 1:
            raise FormatError(f"k must be an integer of at least 1, got {k!r}")
        if not isinstance(pinned, bool):
            raise FormatError(f"pinned_zero must be true or false, got {pinned!r}")
        table = _found(arrays, "centroids").astype(np.float32).ravel()
        if table.size + pinned != k:
            raise FormatError(f"a codebook of k = {k} needs {k - pinned} stored centroids, got {table.size}")
        if not np.isfinite(table).all():
            raise FormatError("centroids must be finite, got NaN or infinity")
        index = _shaped("index", _found(arrays, "index"), shape)
        try:
            _check_index(index, k)
        except ValueError as e:
            raise FormatError(str(e)) from None
        centroids = FORMS[kind](np.concatenate([np.zeros(int(pinned), np.float32), table]), trainable=False)
        return cls(index, centroids, pinned, trainable=False)

    def state(self) -> dict[str, Array]:
        return {"index": self.index, "centroids.value": self.centroids.state()[""]}

    def load_state(self, state) -> None:
        super().load_state(state)
        self.mask = self.index != 0 if self.pinned_zero else None

    def check_state(self, state) -> None:
        super().check_state(state)
        if "index" in state:
            _check_index(np.asarray(state["index"]), self.k)


FORMS: dict[str, type[Form]] = {form.kind: form for form in (Dense, Half, Codebook)}


def _shaped(name: str, array: Array, shape: tuple[int, ...]) -> Array:
    if array.size != math.prod(shape):
        raise FormatError(f"{name} must have {math.prod(shape)} entries for shape {shape}, got {array.size}")
    return array.reshape(shape)


def _found(parts: dict, name: str):
    if name not in parts:
        raise FormatError(f"{name} is missing")
    return parts[name]


def _check_index(index: Array, k: int) -> None:
    if index.dtype.kind not in "iu":
        raise ValueError(f"index must hold integers, got {index.dtype}")
    if index.size and not (0 <= index.min() and index.max() < k):
        raise ValueError(f"index must be in [0, {k - 1}], got {index.min()}..{index.max()}")


def _check_select(shape: tuple[int, ...], axis: int, keep: Array) -> None:
    if not 0 <= axis < len(shape):
        raise ValueError(f"axis must be in [0, {len(shape) - 1}], got {axis}")
    keep = np.asarray(keep)
    if keep.dtype.kind not in "iu" or keep.size and not (0 <= keep.min() and keep.max() < shape[axis]):
        raise ValueError(f"keep must hold integers in [0, {shape[axis] - 1}], got {keep.dtype} {keep}")
