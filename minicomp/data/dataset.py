"""Splits, data sets and batches: what training, compression and measuring read.

A `Split` is inputs and labels; a `Dataset` is three of them under a name. Training uses `train`,
every choice of a knob or an epoch uses `val`, and `test` is read once, at the end: `without_test`
is what a technique is given, so that it cannot look.

N images, C channels, H W size, D inputs of a flat data set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from ..errors import dimensions, printable
from ..nn.layers.normalize import Statistics, statistics

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class Split:
    """Inputs and their labels.

    x : (N, C, H, W) or (N, D) float32; of images, pixels in 0..1
    y : (N,) int64, the class of each

    Raises ValueError where shapes or dtypes are others.
    """

    x: Array
    y: Array

    def __post_init__(self):
        if self.x.dtype != np.float32 or self.x.ndim not in (2, 4):
            raise ValueError(
                f"x must be float32 (N, C, H, W) or (N, D), got {self.x.dtype} {self.x.shape}"
            )
        if self.y.dtype != np.int64 or self.y.shape != self.x.shape[:1]:
            raise ValueError(f"y must be int64 ({len(self.x)},), got {self.y.dtype} {self.y.shape}")

    def __len__(self) -> int:
        return len(self.y)

    def __repr__(self) -> str:
        return f"<Split: {len(self):,} examples of {dimensions(self.x.shape[1:])}>"

    def take(self, index: Array | slice) -> Split:
        """Returns the split of the examples that `index` selects (a slice shares memory)."""
        return Split(self.x[index], self.y[index])


@dataclass(frozen=True, eq=False)
class Dataset:
    """A named data set.

    train, val, test : Splits; test is None where there is none, or it has been taken away
    classes : name of each label; left out: the numbers up to the largest label
    source : "files" (the real ones, checksums compared), "generated" (from the rules that define
        the problem, where the files are absent), "rendered" (glyphs) or "arrays" (one's own)
    note : one line on where the data came from and what is special about it
    normalize : what a net should begin with, `Normalize` of nn/layers/normalize.py: the name of a
        set, or (mean, std), a number each a channel; None: nothing
    digest : 8 hexadecimal digits that tell arrays of one's own apart; "" for a set with a name
    """

    name: str
    train: Split
    val: Split
    test: Split | None = None
    classes: tuple[str, ...] = ()
    source: str = "arrays"
    note: str = ""
    normalize: Statistics | None = None
    digest: str = ""

    def __post_init__(self):
        if not self.classes:
            splits = [s for s in (self.train, self.val, self.test) if s is not None]
            largest = max(int(s.y.max(initial=0)) for s in splits)
            object.__setattr__(self, "classes", tuple(map(str, range(largest + 1))))

    def __repr__(self) -> str:
        splits = {"train": self.train, "val": self.val, "test": self.test}
        sizes = ", ".join(f"{len(s):,} {name}" for name, s in splits.items() if s is not None)
        return (f"<Dataset {printable(self.name, 100)}: {dimensions(self.input_shape)}, "
                f"{len(self.classes)} classes, {sizes}; {printable(self.source, 100)}>")

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input, (C, H, W) or (D,)."""
        return self.train.x.shape[1:]

    @property
    def original(self) -> bool:
        """Whether the examples are the published ones: a paper's row goes beside no others."""
        return self.source == "files"

    @property
    def label(self) -> str:
        """What a file notes of the data its net was trained on: the name, or NAME@DIGEST."""
        return f"{self.name}@{self.digest}" if self.digest else self.name

    @property
    def mean(self) -> Array:
        """The mean pixel, (C, 1, 1) float32; (1, 1, 1), 0, where no normalisation is known."""
        mean = (0.0,) if self.normalize is None else statistics(self.normalize)[0]
        return np.array(mean, np.float32)[:, None, None]

    def without_test(self) -> Dataset:
        """Returns the same data set with `test` taken away."""
        return replace(self, test=None)

    def calibration(self, n: int, rng: np.random.Generator) -> Split:
        """Returns n training examples drawn without repetition, in the order drawn.

        Raises ValueError where n is not in [1, len(train)].
        """
        if not 1 <= n <= len(self.train):
            raise ValueError(f"n must be in [1, {len(self.train)}], got {n}")
        return self.train.take(rng.choice(len(self.train), size=n, replace=False))


def pixels(x: Array) -> Array:
    """Returns bytes as float32 pixels in 0..1: byte / 255."""
    return np.divide(x, np.float32(255), dtype=np.float32)


def batches(
    split: Split,
    batch_size: int,
    *,
    rng: np.random.Generator | None = None,
    shuffle: bool = False,
    augment: Callable[..., Array] | None = None,
) -> Iterator[tuple[Array, Array]]:
    """Yields (x, y) of `batch_size` examples until each came once; the last may be shorter.

    shuffle : in an order drawn from rng, all of it at the first step; otherwise in the order of the
        split
    augment : called as augment(x, rng=rng) on each batch

    Raises ValueError where batch_size < 1, or rng is missing and needed.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if rng is None and (shuffle or augment is not None):
        raise ValueError("shuffle and augment need rng")
    return _batches(split, batch_size, rng, shuffle, augment)


def _batches(split, batch_size, rng, shuffle, augment):
    order = rng.permutation(len(split)) if shuffle else None
    for start in range(0, len(split), batch_size):
        part = slice(start, start + batch_size)
        x, y = (
            (split.x[part], split.y[part])
            if order is None
            else (split.x.take(order[part], axis=0), split.y.take(order[part]))
        )
        yield (x if augment is None else augment(x, rng=rng)), y
