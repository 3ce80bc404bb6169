"""Glyphs: digits drawn from the outlines of Matplotlib's fonts, a data set without a download.

A digit of a random font is scaled, sheared, turned and moved (an affine map), bent by a smooth
random field (an elastic distortion, as in Simard 2003), made a little thinner or thicker, and
rasterised to 28 x 28 bytes.

The same pixels come out on every machine and with every Matplotlib, because nothing on the way may
differ:

1. Outlines are asked for unhinted at a size of one pixel per font unit, where FreeType's arithmetic
   is exact: every coordinate is a multiple of 1/2. At any other size the last bit depends on
   FreeType's version.
2. Random numbers are raw 64-bit words of PCG64, 53 bits of each as a fraction; NumPy keeps that
   stream fixed, and it does not keep its distributions. Sums of them are near enough to a bell.
3. The map of the points uses + - * / and the square root on float64 arrays, one operation at a
   time, which IEEE 754 defines to the last bit. A rotation is (1 - t^2, 2 t) / (1 + t^2), so no
   sine is called.
4. Points are then rounded to 1/256 pixel, and the raster is integer arithmetic.

S samples of one glyph, P points of its outline.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from ..errors import DataError

Array = np.ndarray
SIZE = 28
# File in Matplotlib's fonts/ttf and its units per em. The outlines are the same in Matplotlib 3.6,
# 3.8, 3.10 and 3.11 (FreeType 2.6 and 2.14).
FONTS = (
    ("DejaVuSans", 2048),
    ("DejaVuSans-Bold", 2048),
    ("DejaVuSans-Oblique", 2048),
    ("DejaVuSans-BoldOblique", 2048),
    ("DejaVuSansMono", 2048),
    ("DejaVuSansMono-Bold", 2048),
    ("DejaVuSansMono-Oblique", 2048),
    ("DejaVuSerif", 2048),
    ("DejaVuSerif-Bold", 2048),
    ("DejaVuSerif-Italic", 2048),
    ("STIXGeneral", 1000),
    ("STIXGeneralBol", 1000),
    ("STIXGeneralItalic", 1000),
    ("STIXGeneralBolIta", 1000),
    ("cmr10", 2048),
    ("cmb10", 2048),
    ("cmss10", 2048),
    ("cmtt10", 2048),
)
OUTLINES_SHA256 = "ea4e01102bcc9986e23d22c44ba2033ada1f317d550240d2e782fd5d5b632f10"
UNIT = 256  # raster units per pixel
LINES = 4  # scanlines per row of pixels
LATTICE = 7  # control points per axis of the elastic field, one cell beyond the image on each side
CELL = SIZE / 4  # pixels between control points
# Draws of one sample, in order: label, font, eight numbers of the affine map and the weight, the
# field.
AFFINE = 8
DRAWS = 2 + AFFINE + 2 * LATTICE * LATTICE
HEIGHT = 20.0  # pixels of the longer side before distortion, as in MNIST
TURN, SHEAR, STRETCH, MOVE = 0.18, 0.3, 0.2, 2.0
BEND = 3.2  # pixels: the largest displacement of a control point of the field
THINNER, THICKER = -0.2, 0.5  # pixels: how far an outline moves along its normal


def digits(n: int, seed: int = 0) -> tuple[Array, Array]:
    """Returns n images (n, 28, 28) uint8, white on black, and their labels (n,) uint8.

    The first m of n images are those of digits(m, seed).
    Raises DataError where a font of Matplotlib's is missing.
    """
    words = np.random.PCG64(seed).random_raw(n * DRAWS).reshape(n, DRAWS)
    label, font = words[:, 0] % 10, words[:, 1] % len(FONTS)
    u = (words[:, 2:] >> np.uint64(11)) * 2.0**-52 - 1.0  # (n, DRAWS - 2) in [-1, 1), exact
    images = np.empty((n, SIZE, SIZE), np.uint8)
    for f, d in sorted(set(zip(font.tolist(), label.tolist()))):
        chosen = np.flatnonzero((font == f) & (label == d))
        points, ends = polygon(f, d)
        weight = (THINNER + THICKER) / 2 + (THICKER - THINNER) / 2 * u[chosen, AFFINE - 1]
        placed = thicken(bend(place(points, u[chosen]), u[chosen]), ends, weight)
        images[chosen] = raster(np.floor(placed * UNIT + 0.5).astype(np.int64), ends)
    return images, label.astype(np.uint8)


def outline(font: int, digit: int) -> tuple[Array, Array]:
    """Returns a digit's outline as Matplotlib's path: vertices (V, 2) in font units, codes (V,).

    font : index into FONTS        digit : 0..9
    Raises DataError where the font's file is missing.
    """
    import matplotlib
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextToPath

    name, em = FONTS[font]
    path = Path(matplotlib.get_data_path(), "fonts", "ttf", f"{name}.ttf")
    if not path.is_file():
        raise DataError(
            f"glyphs: no font {path}; Matplotlib's own fonts are needed: reinstall matplotlib, "
            "or run: minicomp data get mnist"
        )
    text = TextToPath()
    text.FONT_SCALE = float(em)  # one pixel per font unit: the scale is 1, nothing is rounded
    vertices, codes = text.get_text_path(FontProperties(fname=path), str(digit))
    return np.asarray(vertices, np.float64), np.asarray(codes, np.uint8)


def polygon(font: int, digit: int) -> tuple[Array, Array]:
    """Returns a digit's outline as closed polygons, centred, its box's longer side 1, y downwards.

    Curves become 4 chords; long lines are cut so that they can bend.

    Returns points (P, 2) float64 and ends (P,) int64: an edge leads from point i to point ends[i].
    """
    vertices, codes = outline(font, digit)
    contours, contour, i = [], [], 0
    while i < len(codes):
        code, p = int(codes[i]), vertices[i]
        if code == 1:  # MOVETO
            contour = [p]
            contours.append(contour)
        elif code == 2:  # LINETO
            _line(contour, p)
        elif code == 3:  # CURVE3: control point, end point
            a, c = contour[-1], vertices[i + 1]
            contour += [
                ((4 - k) * (4 - k) * a + 2 * k * (4 - k) * p + k * k * c) / 16 for k in range(1, 5)
            ]
            i += 1
        elif code == 79:  # CLOSEPOLY
            _line(contour, contour[0])
        else:
            raise DataError(
                f"glyphs: expected lines and quadratic curves in {FONTS[font][0]}, "
                f"found code {code}"
            )
        i += 1
    contours = [c[:-1] if (c[0] == c[-1]).all() else c for c in contours]
    points = np.array([p for c in contours for p in c])
    low, high = points.min(axis=0), points.max(axis=0)
    centred = (points - (low + high) / 2) / (high - low).max() * np.array([1.0, -1.0])
    starts = np.cumsum([0] + [len(c) for c in contours])
    ends = np.concatenate([np.roll(np.arange(a, b), -1) for a, b in zip(starts, starts[1:])])
    return centred, ends


def place(points: Array, u: Array) -> Array:
    """Returns the points of each sample in pixels, (S, P, 2), by a random affine map.

    points : (P, 2)        u : (S, DRAWS - 2) in [-1, 1)
    """
    t = TURN * (u[:, 0] + u[:, 1]) / 2  # tan of half the angle
    cos, sin = (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)
    width, height = HEIGHT * (1 + STRETCH * u[:, 2]), HEIGHT * (1 + STRETCH * u[:, 3])
    x, y = width[:, None] * points[:, 0], height[:, None] * points[:, 1]
    x = x + (SHEAR * u[:, 4])[:, None] * y
    cos, sin = cos[:, None], sin[:, None]
    return np.stack(
        [
            cos * x - sin * y + (SIZE / 2 + MOVE * u[:, 5])[:, None],
            sin * x + cos * y + (SIZE / 2 + MOVE * u[:, 6])[:, None],
        ],
        axis=2,
    )


def bend(points: Array, u: Array, by: float = BEND) -> Array:
    """Returns points moved by a smooth random field: cubic B-splines over random displacements.

    points : (S, P, 2) pixels        u : (S, DRAWS - 2) in [-1, 1)        by : pixels, as BEND
    """
    field = u[:, AFFINE:].reshape(-1, LATTICE, LATTICE, 2) * by
    at = np.clip(points, 0.0, SIZE - 2.0**-20) / CELL  # in cells
    cell = at.astype(np.int64)
    wx, wy = (_spline(at[:, :, k] - cell[:, :, k]) for k in (0, 1))
    sample = np.arange(len(points))[:, None]
    moved = points.copy()
    for j in range(4):  # a fixed order: sums round the same everywhere
        for i in range(4):
            moved += (wy[j] * wx[i])[:, :, None] * field[
                sample, cell[:, :, 1] + j, cell[:, :, 0] + i
            ]
    return moved


def thicken(points: Array, ends: Array, by: Array) -> Array:
    """Returns outlines moved along their normals, outwards where `by` is positive.

    points : (S, P, 2) pixels        ends : (P,)        by : (S,) pixels
    """
    edge = points[:, ends] - points
    length = np.sqrt(edge[:, :, 0] * edge[:, :, 0] + edge[:, :, 1] * edge[:, :, 1])
    # TrueType fills to the right of an edge with y upwards: with y downwards, outside is (dy, -dx)
    normal = (
        np.stack([edge[:, :, 1], -edge[:, :, 0]], axis=2) / np.maximum(length, 2.0**-20)[:, :, None]
    )
    before = np.empty_like(normal)
    before[:, ends] = normal  # the edge that arrives at each point
    return points + (by / 2)[:, None, None] * (normal + before)


def raster(points: Array, ends: Array) -> Array:
    """Returns images of filled polygons, (S, 28, 28) uint8: 255 times a pixel's covered part.

    points : (S, P, 2) int64 in 1/256 pixel        ends : (P,) int64

    Each row of pixels has 4 scanlines. Where an edge crosses one, everything to the right of the
    crossing is covered once more (an edge down) or less (up); the running sum along the row is the
    winding number, and the pixel that holds the crossing gets the exact part of its width.
    """
    s, p, _ = points.shape
    x0, y0 = points[:, :, 0].ravel(), points[:, :, 1].ravel()
    x1, y1 = points[:, ends, 0].ravel(), points[:, ends, 1].ravel()
    step, last = UNIT // LINES, SIZE * LINES
    # Scanline k lies at y = k step + step / 2; an edge crosses those with min(y) <= y < max(y).
    first = np.clip(-((step // 2 - np.minimum(y0, y1)) // step), 0, last)
    count = np.clip(-((step // 2 - np.maximum(y0, y1)) // step), 0, last) - first
    edge = np.repeat(np.arange(s * p), count)
    line = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count) + first[edge]
    y = line * step + step // 2
    dx, dy = (x1 - x0)[edge], (y1 - y0)[edge]
    x = np.clip(x0[edge] + (y - y0[edge]) * dx // dy, 0, SIZE * UNIT)
    column, part = x // UNIT, x % UNIT
    cell = ((edge // p) * SIZE + line // LINES) * (SIZE + 2) + column
    sign = np.where(dy > 0, 1, -1)
    size = s * SIZE * (SIZE + 2)  # sums of integers below 2**53: exact in float64
    change = np.bincount(cell, sign * (UNIT - part), size) + np.bincount(
        cell + 1, sign * part, size
    )
    covered = np.cumsum(change.reshape(s, SIZE, SIZE + 2), axis=2)[:, :, :SIZE].astype(np.int64)
    full = UNIT * LINES
    return ((np.minimum(np.abs(covered), full) * 255 + full // 2) // full).astype(np.uint8)


def outlines_sha256() -> str:
    """Returns the sha256 of every outline used, OUTLINES_SHA256 where the fonts are as expected."""
    digest = hashlib.sha256()
    for font in range(len(FONTS)):
        for digit in range(10):
            vertices, codes = outline(font, digit)
            digest.update((2 * vertices).astype("<i4").tobytes() + codes.tobytes())
    return digest.hexdigest()


def _line(contour: list, p: Array) -> None:
    # Goes to p in pieces of at most about a tenth of the digit's height (0.7 em).
    a = contour[-1]
    pieces = int(np.abs(p - a).max() // 150) + 1
    contour += [a + (p - a) * k / pieces for k in range(1, pieces + 1)] if (p != a).any() else []


def _spline(t: Array) -> tuple[Array, Array, Array, Array]:
    # The four cubic B-splines that reach into a cell, at t in [0, 1); they sum to 1.
    r = 1 - t
    t2, t3 = t * t, t * t * t
    return r * r * r / 6, (3 * t3 - 6 * t2 + 4) / 6, (3 * (t + t2 - t3) + 1) / 6, t3 / 6
