"""Augmentation: a batch as it could also have been photographed.

`shift` moves each image by its own whole number of pixels. `cutout` covers a random square of each
(DeVries & Taylor 2017, arXiv:1708.04552), which is a regulariser of training; it removes no
weight and compresses nothing. `cutmix` puts a piece of another image there (Yun et al. 2019,
arXiv:1905.04899); what such an image shows a teacher says, no label. All run on every batch, so
each is one gather or one mask over the whole batch.

Images are pixels in 0..1, before a net normalises them. What comes in from outside an image is
black, 0. A square is filled with the mean pixel: the normalised net sees 0 there, as in the paper's
code, and the batch's statistics stay.

N images, C channels, H W size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Array = np.ndarray


def shift(x: Array, pixels: int, *, rng: np.random.Generator, fill: float | Array = 0.0) -> Array:
    """Returns each image moved by (dy, dx), both uniform on -pixels..pixels.

    x : (N, C, H, W) float
    pixels : the largest move, at least 0
    fill : value of the pixels that come in from outside, a number or (C, 1, 1)

    Raises ValueError where x has not four axes or pixels is negative.
    """
    _check_images(x)
    if pixels < 0:
        raise ValueError(f"pixels must be at least 0, got {pixels}")
    if pixels == 0:
        return x
    dy, dx = rng.integers(0, 2 * pixels + 1, size=(2, len(x)))
    return shift_by(x, dy - pixels, dx - pixels, fill=fill)


def shift_by(x: Array, dy: Array, dx: Array, *, fill: float | Array = 0.0) -> Array:
    """Returns image n moved down by dy[n] and right by dx[n].

    x : (N, C, H, W)        dy, dx : (N,) ints        fill : a number or (C, 1, 1)
    """
    n, c, h, w = x.shape
    k = int(max(np.abs(dy).max(initial=0), np.abs(dx).max(initial=0)))
    padded = np.empty((n, c, h + 2 * k, w + 2 * k), x.dtype)
    padded[...] = fill
    padded[:, :, k : k + h, k : k + w] = x
    s = padded.strides
    # windows[n, i, j] is the image seen from (i, j) of the padded one: i = k - dy puts it dy lower
    windows = np.lib.stride_tricks.as_strided(
        padded,
        (n, 2 * k + 1, 2 * k + 1, c, h, w),
        (s[0], s[2], s[3], s[1], s[2], s[3]),
        writeable=False,
    )
    return windows[np.arange(n), k - dy, k - dx]


def cutout(
    x: Array, size: int, *, rng: np.random.Generator, fill: float | Array = 0.0
) -> Array:
    """Returns each image with one square of size x size pixels set to `fill`.

    The square's centre is uniform over the pixels, so the square may hang over the border, as in
    the paper (section 3.2).

    x : (N, C, H, W) float
    size : side of the square in pixels, at least 0
    fill : a number or (C, 1, 1)

    Raises ValueError where x has not four axes or size is negative.
    Source: DeVries & Taylor 2017, section 3.
    """
    _check_images(x)
    if size < 0:
        raise ValueError(f"size must be at least 0, got {size}")
    n, _, h, w = x.shape
    top = rng.integers(0, h, size=n) - size // 2
    left = rng.integers(0, w, size=n) - size // 2
    rows = _inside(top, size, h)[:, None, :, None]  # (N, 1, H, 1)
    columns = _inside(left, size, w)[:, None, None, :]  # (N, 1, 1, W)
    return np.where(rows & columns, np.asarray(fill, x.dtype), x)


def cutmix(x: Array, *, rng: np.random.Generator) -> Array:
    """Returns each image with one rectangle of another image of the batch, at its place.

    The rectangle has the image's proportions and the part 1 - lambda of its area, lambda uniform on
    0..1; its centre is uniform over the pixels, and it may hang over the border. An image may be
    its own other one. Labels, which the paper mixes too, are the caller's matter.

    x : (N, C, H, W) float

    Raises ValueError where x has not four axes.
    Source: Yun et al. 2019, eq. (1), (2); they draw one lambda and rectangle a batch, here each
    image has its own.
    """
    _check_images(x)
    n, _, h, w = x.shape
    other, side = x[rng.permutation(n)], np.sqrt(1 - rng.random(n))
    rows, columns = (_inside(rng.integers(0, size, size=n) - cut // 2, cut, size)
                     for size, cut in ((i, np.rint(side * i).astype(int)) for i in (h, w)))
    return np.where(rows[:, None, :, None] & columns[:, None, None, :], other, x)


@dataclass(frozen=True)
class Augment:
    """Shift, then cutout; called as augment(x, rng=rng) on a batch of pixels in 0..1.

    shift : largest move in pixels        cutout : side of the square in pixels; 0 leaves a step out
    mean : what fills the square, `Dataset.mean`
    """

    shift: int = 0
    cutout: int = 0
    mean: float | Array = 0.0

    def __call__(self, x: Array, *, rng: np.random.Generator) -> Array:
        if self.shift:
            x = shift(x, self.shift, rng=rng)
        return cutout(x, self.cutout, rng=rng, fill=self.mean) if self.cutout else x


def _inside(start: Array, size: int | Array, n: int) -> Array:
    # (N, n) bool: start[i] <= position < start[i] + size[i]
    offset = np.arange(n) - start[:, None]
    return (offset >= 0) & (offset < np.asarray(size)[..., None])


def _check_images(x: Array) -> None:
    if x.ndim != 4:
        raise ValueError(f"x must be images (N, C, H, W), got shape {x.shape}")
