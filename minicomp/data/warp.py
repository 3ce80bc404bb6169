"""Warp: images of digits turned, sheared, stretched, moved and bent a little, by a seed.

From a set of images come as many others as there are seeds, each near enough to be read by whoever
reads the originals. As with glyphs, the same bytes come out on every machine: random numbers are
raw words of PCG64, and the map uses + - * / on float64 alone, one operation at a time.

N images, P = 28 * 28 pixels.
"""

from __future__ import annotations

import numpy as np

from .glyphs import AFFINE, DRAWS, SIZE, bend

Array = np.ndarray
# The largest of each: tangent of half the angle, shear, stretch, pixels moved, pixels that a
# control point of the elastic field is moved (0.05: an angle of 6 degrees).
TURN, SHEAR, STRETCH, MOVE, BEND = 0.05, 0.1, 0.06, 0.7, 1.2
CHUNK = 50  # images at a time: their arrays stay in the cache


def warped(images: Array, seed: int) -> Array:
    """Returns each image seen through a smooth random map of its own, (N, 28, 28) uint8.

    images : (N, 28, 28) uint8, black around
    The first m of N are those of warped(images[:m], seed).
    Raises ValueError for images of another shape or dtype.
    """
    if images.ndim != 3 or images.shape[1:] != (SIZE, SIZE) or images.dtype != np.uint8:
        raise ValueError(f"images must be (N, {SIZE}, {SIZE}) uint8, got {images.shape}"
                         f" {images.dtype}")
    words = np.random.PCG64(seed).random_raw(len(images) * DRAWS).reshape(-1, DRAWS)
    u = (words[:, 2:] >> np.uint64(11)) * 2.0**-52 - 1.0  # (N, DRAWS - 2) in [-1, 1), exact
    out = np.empty_like(images)
    for at in (slice(k, k + CHUNK) for k in range(0, len(images), CHUNK)):
        out[at] = sampled(images[at], bend(seen_from(u[at]), u[at], BEND))
    return out


def seen_from(u: Array) -> Array:
    """Returns where each pixel of the result looks, (N, P, 2) as x and y in pixels, affine.

    u : (N, AFFINE or more) in [-1, 1)
    """
    y, x = (np.indices((SIZE, SIZE)).reshape(2, -1) + 0.5) - SIZE / 2  # (P,), 0 is the middle
    turn, shear, wide, high, right, down = u[:, :6, None].transpose(1, 0, 2)
    t = TURN * turn
    cos, sin = (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)
    x = (1 + STRETCH * wide) * (x + SHEAR * shear * y)
    y = (1 + STRETCH * high) * y
    middle = SIZE / 2
    return np.stack([cos * x - sin * y + (middle + MOVE * right),
                     sin * x + cos * y + (middle + MOVE * down)], axis=2)


def sampled(images: Array, at: Array) -> Array:
    """Returns the images at these places, linear between pixels, 0 outside, (N, 28, 28) uint8.

    images : (N, 28, 28) uint8        at : (N, P, 2), x and y in pixels, centres at 0.5
    """
    framed = np.pad(images, ((0, 0), (1, 1), (1, 1))).astype(np.float64)
    at = np.clip(at + 0.5, 0.0, SIZE + 1 - 2.0**-20)  # in the frame, pixel k at k
    cell = at.astype(np.int64)
    (x, y), (i, j) = np.moveaxis(at - cell, 2, 0), np.moveaxis(cell, 2, 0)
    n = np.arange(len(images))[:, None]
    upper = (1 - x) * framed[n, j, i] + x * framed[n, j, i + 1]
    lower = (1 - x) * framed[n, j + 1, i] + x * framed[n, j + 1, i + 1]
    value = np.floor((1 - y) * upper + y * lower + 0.5)
    return value.astype(np.uint8).reshape(images.shape)
