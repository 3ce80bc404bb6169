"""Weights as sums of a few atoms of a dictionary (Bagherinezhad, Rastegari & Farhadi 2017, "LCNN:
Lookup-based Convolutional Neural Network", arXiv 1611.06473).

k atoms D, vectors along the channels; each place (r, c) of each filter o looks s_orc of them up:

    W[o, :, r, c] = sum_{t < s_orc} C_t D[I_t, :]

I : which atom        C : its coefficient        A linear layer is a convolution of one place.
The look-ups of all places stand one behind the other, places in C order of (o, r, c).
"""

from __future__ import annotations

import math

import numpy as np

from ...ops import concat, take
from ...tensor import Array
from .base import Form
from .dense import numbers
from .parts import Part, Setting, check_codes

VALUES = ("affine", "dense", "half", "bfloat16")
MOST_ATOMS, MOST_LOOKUPS = 2**16, 255


class Dictionary(Form):
    """Atoms, and for each place of each filter the atoms that are looked up, with coefficients.

    atoms : an unmasked form of shape (k, C), or an array; copied
    counts : integers (O KH KW,), how many look-ups each place has, 0..255        shape : (O, C,
        KH, KW), or (O, C)
    index : integers (L,) in [0, k), one for each look-up, L the sum of counts
    coefficient : an unmasked form of shape (L,), or an array; copied
    Which atoms are looked up stays in training; atoms and coefficients move.
    No number belongs to one place: no channel can be cut out, no mask can be carried.
    Raises ValueError for other shapes and codes.
    """

    least_axes = 2
    kind, wire = "dictionary", 16
    settings = {"k": Setting(1, MOST_ATOMS), "lookups": Setting(0, 2**28),
                "most": Setting(0, MOST_LOOKUPS)}
    parts = {
        "atoms": Part("table", moves=True, axes=(), nested=VALUES),
        "counts": Part("code", axes=()),
        "index": Part("code", axes=()),
        "coefficient": Part("value", moves=True, axes=(), nested=VALUES),
    }

    def __init__(self, atoms, counts, index, coefficient, shape: tuple[int, ...],
                 trainable: bool = True):
        atoms, coefficient = map(numbers, (atoms, coefficient))
        self.shape = tuple(shape)
        if len(self.shape) < 2:
            raise ValueError(f"shape must have two axes or more, got {self.shape}")
        self.k = self.settings["k"].check("atoms", (*atoms.shape, 0)[0])
        self.lookups = len(np.asarray(index))
        self.most = int(np.max(counts, initial=0))
        self.settings["most"].check("counts", self.most)
        for name, a in (("atoms", atoms), ("coefficient", coefficient)):
            if a.shape != self.stored_shape(name) or a.mask is not None:
                raise ValueError(f"{name} must be unmasked, of shape {self.stored_shape(name)}, "
                                 f"got {a.shape}")
        for name, a in (("counts", counts), ("index", index)):
            if np.shape(a) != self.stored_shape(name):
                raise ValueError(f"{name} must have shape {self.stored_shape(name)}, got "
                                 f"{np.shape(a)}")
            check_codes(name, a, self.codes(name))
        self._hold(self.filled_parts({"atoms": atoms, "counts": np.asarray(counts),
                                      "index": index, "coefficient": coefficient}), trainable)

    @classmethod
    def of(cls, atoms, P: Array, shape: tuple[int, ...], trainable: bool = True) -> Dictionary:
        """Returns the form of a sparse P, (O KH KW, k): its entries that are not 0 are look-ups."""
        counts = np.count_nonzero(P, axis=1)
        place, index = np.nonzero(P)
        return cls(atoms, counts, index, P[place, index], shape, trainable)

    @property
    def places(self) -> int:
        """How many vectors there are: O KH KW."""
        return self.shape[0] * math.prod(self.shape[2:])

    def _said(self):
        yield f"{self.k} atoms of {self.shape[1]}, {self.lookups} look-ups of {self.places} vectors"
        yield "trainable" if self.trainable else "frozen"

    def codes(self, name):
        return range(self.most + 1 if name == "counts" else self.k)

    def stored_shape(self, name):
        if name == "atoms":
            return (self.k, self.shape[1])
        return (self.places if name == "counts" else self.lookups,)

    def filled_parts(self, parts):
        total = int(parts["counts"].astype(np.int64).sum())
        if total != self.lookups:
            raise ValueError(f"counts must sum to the {self.lookups} look-ups, got {total}")
        return parts

    def decode(self, *, training=False, rng=None):
        atoms = self.atoms.dense(training=training, rng=rng)
        coefficient = self.coefficient.dense(training=training, rng=rng)
        return dictionary_weights(atoms, self.counts, self.index, coefficient, self.shape)

    def P(self) -> Array:
        """Returns the coefficients by place and atom, float32 (O KH KW, k), 0 of no look-up; of an
        atom that a place looks up twice the sum."""
        place, P = np.repeat(np.arange(self.places), self.counts), np.zeros((self.places, self.k))
        np.add.at(P, (place, self.index.astype(np.intp)), self.coefficient.dense().data)
        return P.astype(np.float32)

    def multiplications(self, seen, made):
        # by look-ups: k C for each place of the input, one for each look-up and place of the output
        return self.k * self.shape[1] * seen + self.lookups * made


def dictionary_weights(atoms, counts: Array, index: Array, coefficient, shape: tuple[int, ...]):
    """Returns W of `shape`, an array or, where atoms or coefficients are one, a Tensor.

    Look-up t of every place is added at once, one behind the other, those that a place has not with
    coefficient 0; at least one is, so that without look-ups too it is a Tensor where it should be.
    Arguments as of `Dictionary`, arrays
    """
    counts = counts.astype(np.int64)
    begin, places = np.cumsum(counts) - counts, len(counts)
    index = np.append(index.astype(np.int64), 0)  # behind the last: none
    coefficient = concat(coefficient, np.zeros(1, coefficient.dtype), axis=0)
    w = np.zeros((places, shape[1]), atoms.dtype)
    for t in range(max(int(counts.max(initial=0)), 1)):
        at = np.where(counts > t, begin + t, len(index) - 1)
        c = take(coefficient, index=at).reshape(places, 1)
        w = take(atoms, index=index[at]) * c + w
    return as_weight(w, shape)


def as_weight(w, shape: tuple[int, ...]):
    """Returns the vectors w, (O KH KW, C), as a weight of `shape`, (O, C, KH, KW) or (O, C)."""
    last = w.reshape(shape[0], *shape[2:], shape[1])
    return last.transpose(0, len(shape) - 1, *range(1, len(shape) - 1))
