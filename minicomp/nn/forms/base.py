"""What follows from the parts of a form: copies, masks, selection, state, what a file holds.

A form is a dict of `parts`, the arrays (or forms) that it stores, each with a role; `settings`, the
few numbers beside them; and `decode`, the formula. Everything else is derived here once. A form may
add `frozen_parts` and `thawed_parts` (codes and the latent behind them), `codes` (the range of
integers), `project`, and `stored_shape` of parts that belong to no place of the weight.

A form is *trainable* (parts that move receive gradients) or *frozen* (none does). `dense()` is
bit-equal across `freeze()` and `thaw()`. After every optimizer step `project()` puts the parts back
where the form allows them: masked entries to exactly 0, a pinned centroid to exactly 0.

A mask is True where an entry is kept; elsewhere the form decodes to exactly +0. A mask that is
*behind* hides its entries and lets them train on: their gradient passes straight through,
`project()` leaves them alone, `freeze()` drops them.
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Iterator

import numpy as np

from ...errors import FormatError, dimensions
from ...tensor import Array, Tensor, grad, no_grad, raw
from .parts import (BFLOAT16, Part, Setting, check_codes, check_floats, check_held, code_dtype,
                    hide, keep)


class Form:
    """The contract of a form; `shape` is that of `dense()`, `mask` is True where an entry is kept.

    kind, wire : its name, and its number in a file, which never changes
    least_axes : how many the weight has at least
    movable : single entries can be set to any value
    coded_zero : code 0 decodes to exactly 0 and is the mask, instead of a part of its own
    zero_code : the code that decodes to exactly 0 for every entry, or None; a file may then list
        the others alone, those of `listed`
    """

    kind: str
    wire: int
    parts: dict[str, Part]
    settings: dict[str, Setting] = {}
    movable = coded_zero = behind = False
    least_axes = 0
    shape: tuple[int, ...]
    mask: Array | None = None
    trainable: bool

    def __repr__(self) -> str:
        held = vars(self)
        whole = all(name in held for name in ("shape", *self.parts))
        said = [*self._said()] if whole else ["without its parts"]
        return f"<{type(self).__name__} {dimensions(held.get('shape', ()))}: {', '.join(said)}>"

    def _said(self) -> Iterator[str]:
        # What `repr` says of the form, in short.
        yield from (f"{name} {getattr(self, name)}" for name in self.settings)
        zeros = 1 - self.nonzeros() / max(math.prod(self.shape), 1)
        yield f"{100 * zeros:.1f} % zeros"
        yield "trainable" if self.trainable else "frozen"

    # What a form says itself.

    def decode(self, *, training: bool = False, rng=None) -> Tensor:
        """Returns the weight without regard to the mask; arguments of `dense`."""
        raise NotImplementedError

    def codes(self, name: str) -> range:
        """Returns the integers that a part of role "code" may hold."""
        raise NotImplementedError

    def frozen_parts(self) -> dict:
        """Returns the parts that are others once the form is frozen, None where gone."""
        return {}

    def thawed_parts(self) -> dict:
        """Returns the parts that are others once the form is trainable, None where gone."""
        return {}

    def stored_shape(self, name: str) -> tuple[int, ...]:
        """Returns the shape in a file of a part; the form has its shape and settings, no parts."""
        axes = self.parts[name].axes
        return self.shape if axes is None else tuple(self.shape[a] for a in axes)

    def filled_parts(self, parts: dict) -> dict:
        """Returns the parts of a form from what `stored` made of them."""
        return parts

    @property
    def zero_code(self) -> int | None:
        """The one code of 0, or None where there is none."""
        return 0 if self.coded_zero else None

    def zero_of(self, parts: dict) -> int | None:
        """Returns `zero_code` of a blank form that will have these parts."""
        return self.zero_code

    def listed(self) -> Array | None:
        """Returns which entries of a frozen form a file may list alone, None for all."""
        return self.mask

    def in_words(self) -> list[str]:
        """Returns the settings as tables show them, "k=16"."""
        return [f"{name}={getattr(self, name)}" for name, setting in self.settings.items()
                if setting.type is int]

    # Numbers, and their training.

    def dense(self, *, training: bool = False, rng: np.random.Generator | None = None) -> Tensor:
        """Returns the decoded weight, float32, differentiable in `parameters()`.

        training, rng : a stochastic form draws from rng when training
        """
        w = self.decode(training=training, rng=rng)
        if self.mask is None or self.coded_zero:
            return w
        return (hide if self.behind else keep)(w, self.mask)

    def parameters(self) -> dict[str, Tensor]:
        """Returns what an optimizer may move by the path of its part, "" for a value."""
        found = {}
        for name, part in self.parts.items():
            held = getattr(self, name)
            if part.nested:
                within = held.parameters()
                found |= {f"{name}.{path}".rstrip("."): t for path, t in within.items()}
            elif held is not None and part.moves and self.trainable:
                found[name if name != "value" else ""] = held
        return found

    def pull_back(self, w: Tensor, g: Array) -> dict[str, Array]:
        """Returns dL / d(part) by path as in `parameters()`.

        w : what `dense(training=True)` gave        g : dL / dw, of the weight's shape
        """
        parts = self.parameters()
        pulled = grad(w, list(parts.values()), cotangent=g)
        return {path: p.data for path, p in zip(parts, pulled)}

    def values(self) -> Array:
        """Returns the floats that training moves, a view: of every entry, those that a mask hides
        too. ValueError unless `movable`.
        """
        if not self.movable:
            raise ValueError(f"the weights of a {self.kind} cannot move")
        return self.value.data

    def project(self) -> None:
        """Puts the parts back into the form after an optimizer step, in place."""
        for name, part in self.parts.items():
            held = getattr(self, name)
            if part.nested:
                held.project()
            elif part.moves and part.axes is None and not (
                    held is None or self.mask is None or self.behind):
                np.copyto(held.data, 0, where=~self.mask)

    def nonzeros(self) -> int:
        """Returns the number of entries of `dense()` that are not 0."""
        with no_grad():
            return int(np.count_nonzero(self.dense().data))

    def multiplications(self, seen: int, made: int) -> int:
        """Returns how many multiplications a layer takes that skips zeros, or looks sums up.

        seen, made : places of a map of the input and of the output, 1 of a Linear
        """
        return self.nonzeros() * made

    # Other forms of the same kind, which share no writable array with this one.

    def copy(self) -> Form:
        """Returns an equal form, latents included."""
        return self._with({})

    def freeze(self) -> Form:
        """Returns the form without trainable parts; what a mask hid is dropped."""
        with no_grad():
            return self._with(self.frozen_parts(), trainable=False, behind=False)

    def thaw(self) -> Form:
        """Returns an equal form with trainable parts."""
        with no_grad():
            return self._with({} if self.trainable else self.thawed_parts(), trainable=True)

    def masked(self, keep: Array, *, behind: bool = False) -> Form:
        """Returns the form kept only where `keep` and its own mask both keep.

        behind : what the mask hides goes on training
        Raises ValueError, which names the form, where it cannot carry a mask.
        """
        mask = self._mask_of(keep)
        mask = mask if self.mask is None else mask & self.mask
        return self._with(self._masking(mask, behind), behind=behind)

    def remask(self, mask: Array) -> None:
        """Sets the mask in place, for techniques that prune while training; errors of `masked`."""
        for name, held in self._masking(self._mask_of(mask), self.behind).items():
            setattr(self, name, self._own(name, held))
        self._settle()

    def moved(self, value: Array) -> Form:
        """Returns a form of the same mask that holds other values; ValueError unless `movable`."""
        if not self.movable:
            raise ValueError(f"the weights of a {self.kind} cannot move")
        return self._with({"value": value})

    def gather(self, index) -> Form:
        """Returns the form of `dense()[index]`.

        index : as NumPy takes it; ValueError names what forbids it, such as a scale that entries
            of different places would share
        """
        if not self.carrier:
            raise ValueError(f"a {self.kind} stores nothing by place: no channel can be cut out")
        try:
            held = {name: self._gathered(name, index) for name, part in self.parts.items()
                    if part.axes != () and getattr(self, name) is not None}
        except IndexError as e:
            raise ValueError(f"index does not fit shape {self.shape}: {e}") from None
        return self._with(held, shape=next(
            a.shape for name, a in held.items() if self.parts[name].axes is None))

    def select(self, axis: int, keep: Array) -> Form:
        """Returns the form of `np.take(dense(), keep, axis)`; errors of `gather`.

        keep : positions, integers; ValueError names what is wrong with them
        """
        if not 0 <= axis < len(self.shape):
            raise ValueError(f"axis must be in [0, {len(self.shape) - 1}], got {axis}")
        keep, size = np.asarray(keep), self.shape[axis]
        if keep.ndim != 1 or not keep.size or keep.dtype.kind not in "iu":
            raise ValueError("keep must be integers on one axis, at least one, got "
                             f"{keep.dtype} of shape {keep.shape}")
        if not (0 <= keep.min() and keep.max() < size):
            raise ValueError(f"keep must hold integers in [0, {size - 1}], got {keep}")
        return self.gather((slice(None),) * axis + (keep,))

    # State, and what a file holds.

    def state(self) -> dict[str, Array]:
        """Returns every array by the path of its part, "" for the only one; views, not copies."""
        arrays = {path: raw(held) for path, _, held in self._leaves()}
        return arrays if len(arrays) > 1 else {"": a for a in arrays.values()}

    def load_state(self, state: dict[str, Array]) -> None:
        """Takes over the arrays of an equal form's `state()`, in place.

        Raises ValueError as `check_state` does; the form is then untouched.
        """
        self.check_state(state)
        mine = self.state()
        for path, value in state.items():
            mine[path][...] = value
        self._settle()

    def check_state(self, state: dict[str, Array]) -> None:
        """Raises ValueError where `load_state` would not: a wrong shape, a code out of range, a
        number that is not finite as it would be held."""
        for path, mine in self.state().items():
            if path not in state:
                continue
            if np.shape(state[path]) != mine.shape:
                raise ValueError(f"shape must be {mine.shape}, got {np.shape(state[path])}")
            name = path or next(only for only, *_ in self._leaves())
            if name in self.parts and self.parts[name].role == "code":
                check_codes(name, state[path], self.codes(name))
            check_held(path or "value", mine, state[path])

    def stored(self) -> dict[str, Array | Form]:
        """Returns the parts that a file holds, of the frozen form; those that are None left out."""
        form, stored = self.freeze(), {}
        for name, part in self.parts.items():
            held = raw(getattr(form, name))
            if held is not None and part.role != "latent":
                narrow = not part.nested and part.role not in ("code", "mask") and (
                    part.dtype is not BFLOAT16)  # which stay float32
                stored[name] = held.astype(part.dtype, copy=False) if narrow else held
        return stored

    @classmethod
    def blank(cls, shape: tuple[int, ...], settings: dict) -> Form:
        """Returns a form without parts, to ask what they must be; FormatError for a setting, or too
        few axes."""
        form = cls.__new__(cls)
        form.shape, form.trainable = tuple(shape), False
        for name, setting in cls.settings.items():
            try:
                setattr(form, name, setting.check(name, settings.get(name)))
            except ValueError as e:
                raise FormatError(str(e)) from None
        if len(shape) < cls.least_axes:
            raise FormatError(f"a {cls.kind} needs {cls.least_axes} axes, got shape {shape}")
        return form

    @classmethod
    def from_stored(cls, shape: tuple[int, ...], settings: dict, parts: dict) -> Form:
        """Returns the frozen form whose `stored` gave the parts.

        Raises FormatError where they do not fit together, or a number is none.
        """
        try:
            form = cls.blank(shape, settings)
            sound = {name: form._sound(name, parts.get(name)) for name in cls.parts}
            form._hold(form.filled_parts(sound), trainable=False, copy=None)
        except ValueError as e:
            raise FormatError(str(e)) from None
        if not cls.movable:  # whose weights are the values, known to be finite
            with np.errstate(all="ignore"), no_grad():
                w = form.dense().data  # NaN is its own least and largest
                if w.size and not (np.isfinite(w.min()) and np.isfinite(w.max())):
                    raise FormatError("weights must be finite, got NaN or infinity")
        return form

    # How that is done.

    def _hold(self, parts: dict, trainable: bool, copy: bool | None = True) -> Form:
        # Takes copies of the parts for its own (with copy=None the arrays themselves where they are
        # of the right dtype: nobody else has them); shape and settings are there already.
        self.trainable = trainable
        for name in self.parts:
            setattr(self, name, self._own(name, parts.get(name), copy))
        self._settle()
        return self

    def _with(self, parts: dict, *, trainable: bool | None = None, **attributes) -> Form:
        other = copy.copy(self)
        vars(other).update(attributes)
        parts = {name: getattr(self, name) for name in self.parts} | parts
        return other._hold(parts, self.trainable if trainable is None else trainable)

    def _own(self, name: str, held, copy: bool | None = True):
        part, held = self.parts[name], raw(held)
        if held is None:
            return None
        if part.nested:
            same = held.trainable == self.trainable
            return held.copy() if same else held.thaw() if self.trainable else held.freeze()
        if part.axes is None and np.shape(held) != self.shape:
            raise ValueError(f"{name} must have shape {self.shape}, got {np.shape(held)}")
        if part.moves:
            return Tensor(_floats(name, held, copy), requires_grad=self.trainable)
        dtype = bool if part.role == "mask" else None
        dtype = code_dtype(self.codes(name)) if part.role == "code" else dtype
        return np.array(held, dtype, copy=copy)

    def _settle(self) -> None:
        if self.coded_zero:
            self.mask = getattr(self, self.carrier) != 0
        self.project()

    @property
    def carrier(self) -> str | None:
        """The part of a file that has an entry for each of the weight; None without places."""
        return _carrier(type(self))

    def _mask_of(self, mask: Array) -> Array:
        mask = np.asarray(mask, bool)
        if mask.shape != self.shape:
            raise ValueError(f"mask must have shape {self.shape}, got {mask.shape}")
        return mask

    def _masking(self, mask: Array, behind: bool) -> dict:
        # The parts that a mask changes.
        if "mask" in self.parts:
            return {"mask": mask}
        if not self.coded_zero:
            raise ValueError(f"a {self.kind} without a pinned zero cannot be pruned; prune before "
                             "sharing")
        if behind:
            raise ValueError(f"a {self.kind} cannot train on what a mask hides")
        if (mask & ~self.mask).any():
            raise ValueError(f"a {self.kind} cannot take back what was pruned")
        return {self.carrier: np.where(mask, getattr(self, self.carrier), 0)}

    def _gathered(self, name: str, index) -> Array:
        held, axes = raw(getattr(self, name)), self.parts[name].axes
        if axes is None:
            return held[index]
        for i, axis in enumerate(axes):
            if held.shape[i] == 1:
                continue
            # where on the axis stood what stands there afterwards: (size, everything else)
            came = np.indices(self.shape, sparse=True)[axis]
            came = np.broadcast_to(came, self.shape)[index]
            came = np.moveaxis(came, axis, 0).reshape(came.shape[axis], -1)
            blocks = held.shape[i] != self.shape[axis]
            if (came != came[:, :1]).any() or blocks and not np.array_equal(
                    came[:, 0], np.arange(self.shape[axis])):
                raise ValueError(f"a {self.kind} cannot be cut so along axis {axis}: its {name} is "
                                 "shared")
            if not blocks:
                held = np.take(held, came[:, 0], i)
        return held

    def _leaves(self) -> Iterator[tuple[str, Part, Array | Tensor]]:
        # (path, part, array or Tensor) of every part that is there, those of nested forms too
        for name, part in self.parts.items():
            held = getattr(self, name)
            if part.nested:
                yield from ((f"{name}.{path}", *rest) for path, *rest in held._leaves())
            elif held is not None:
                yield name, part, held

    def _sound(self, name: str, held):
        # The part as it must be, from a file; ValueError says what is wrong with it.
        part = self.parts[name]
        if held is None:
            if name == self.carrier or not (part.optional or part.role == "latent"):
                raise ValueError(f"{name} is missing")
            return None
        shape = self.stored_shape(name)
        if part.nested:
            if held.kind not in part.nested or held.mask is not None:
                raise ValueError(f"{name} must be of form {' or '.join(part.nested)}, unmasked, "
                                 f"got {held.kind!r}")
            if held.shape != shape:
                raise ValueError(f"{name} must have shape {shape}, got {held.shape}")
            return held
        if held.size != math.prod(shape):
            raise ValueError(f"{name} must have {math.prod(shape)} entries for shape {shape}, "
                             f"got {held.size}")
        held = held.reshape(shape)
        if part.role == "code":
            check_codes(name, held, self.codes(name))
        elif part.role != "mask":
            held = check_floats(name, part, held)
        return held


def _floats(name: str, held, copy) -> Array:
    # As float32; float64 stays, for gradient checks and second-order methods run in it.
    held = np.asarray(held)
    if held.dtype.kind not in "biuf":
        raise ValueError(f"{name} must hold numbers, got {held.dtype}")
    return np.array(held, np.float64 if held.dtype == np.float64 else np.float32, copy=copy)


@functools.cache
def _carrier(kind: type[Form]) -> str | None:
    return next((name for name, part in kind.parts.items()
                 if part.axes is None and part.role in ("value", "code")), None)
