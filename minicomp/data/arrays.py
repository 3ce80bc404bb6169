"""Arrays of one's own as a data set: from Python, or from an .npz file.

    x_train, y_train, x_test, y_test        and, optional, x_val, y_val

x : (N, H, W) or (N, C, H, W) images, or (N, D); uint8, which are divided by 255, or floats, which
stay as they are; y : (N,) integers, the class of each, from 0. Keras' `mnist.npz` is such a file.

Nothing in a file is believed: sizes are summed from the arrays' headers before one is read, nothing
is unpickled. Every mistake is one DataError that names the array, what is allowed, what was given.
"""

from __future__ import annotations

import hashlib
import math
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..archive import HEAD, array_header
from ..errors import DataError, did_you_mean, printable
from ..kernels.maps.norm import moments
from ..nn.layers.normalize import Statistics, statistics
from .dataset import Dataset, Split, pixels

Array = np.ndarray
PARTS = ("train", "test", "val")
KEYS = tuple(f"{letter}_{part}" for part in PARTS for letter in "xy")
CLASSES = 1000  # labels are below it
MAX_BYTES = 2**32  # of all arrays, x as float32


def from_arrays(
    x_train: Array,
    y_train: Array,
    x_test: Array | None = None,
    y_test: Array | None = None,
    x_val: Array | None = None,
    y_val: Array | None = None,
    *,
    name: str = "arrays",
    classes: tuple[str, ...] = (),
    normalize: Statistics | str | None = "training",
) -> Dataset:
    """Returns the data set of these arrays; see the module for their shapes and dtypes.

    x_val, y_val : left out, a tenth of the training examples (at most 10,000) is set aside, the
        same ones every time; a single example is both
    name : what reports call it        classes : a name for each label; left out: the numbers
    normalize : what nets begin with: "training" is the mean and standard deviation of the training
        pixels, a channel each; or the name of a set, (mean, std), or None

    Raises DataError.

    >>> mine = from_arrays(np.zeros((20, 8, 8), np.uint8), np.arange(20) % 2)
    >>> mine.input_shape, len(mine.train), len(mine.val), mine.classes
    ((1, 8, 8), 18, 2, ('0', '1'))
    """
    given = dict(zip(KEYS, (x_train, y_train, x_test, y_test, x_val, y_val)))
    return _dataset({key: a for key, a in given.items() if a is not None}, name, classes, normalize)


def read_npz(path: str | Path, *, max_bytes: int = MAX_BYTES) -> Dataset:
    """Returns the data set of an .npz file, named after it; it must have a test set.

    max_bytes : limit of all arrays, x as float32
    Raises DataError where the file cannot be read, or an array is missing, too many or of another
    kind.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            arrays = _arrays(archive, max_bytes)
        for key in KEYS[:4]:
            if key not in arrays:
                raise DataError(f"{key} is missing; an .npz file holds {', '.join(KEYS[:4])} and, "
                                f"optional, {', '.join(KEYS[4:])}, got {_listed(arrays)}")
        return _dataset(arrays, path.stem, (), "training")
    except DataError as e:
        raise DataError(f"{printable(path)}: {e}") from None
    except OSError as e:
        raise DataError(f"{printable(path)}: cannot be read: {e.strerror or e}") from None
    except Exception as e:  # zipfile, zlib and NumPy raise many kinds for a damaged file
        raise DataError(f"{printable(path)}: not a sound .npz file: {printable(e, 100)}") from None


def _arrays(archive: zipfile.ZipFile, max_bytes: int) -> dict[str, Array]:
    entries: dict[str, zipfile.ZipInfo] = {}
    for entry in archive.infolist():
        key = entry.filename.removesuffix(".npy")
        if key not in KEYS:
            raise DataError(f"{printable(key, 40)}: unknown array" + did_you_mean(key[:40], KEYS))
        if key in entries:
            raise DataError(f"{key} stands in the file twice")
        entries[key] = entry
    total = 0
    for key, entry in entries.items():
        with archive.open(entry) as f:
            shape, dtype = array_header(f)
            begin = f.tell()
        size = math.prod(shape)
        if dtype.hasobject:
            raise DataError(f"{key} must be numbers, got objects")
        if entry.file_size != begin + size * dtype.itemsize:
            raise DataError(f"{key}: an array of {printable(dtype, 40)} and shape "
                            f"{printable(shape, 60)} is declared, {entry.file_size:,} bytes follow")
        total += size * max(dtype.itemsize, 4)
    if total > max_bytes:
        raise DataError(f"arrays must take at most {max_bytes:,} bytes as float32, got {total:,}")
    found = {}
    for key, entry in entries.items():
        with archive.open(entry) as f:
            found[key] = np.lib.format.read_array(f, allow_pickle=False, max_header_size=HEAD)
    return found


def _dataset(given: Mapping[str, Array], name: str, classes, normalize) -> Dataset:
    splits, digest = {}, hashlib.sha256()
    for part in PARTS:
        x, y = (given.get(f"{letter}_{part}") for letter in "xy")
        if x is None and y is None:
            continue
        for key, a in ((f"x_{part}", x), (f"y_{part}", y)):
            if a is None:
                raise DataError(f"{key} is missing: x_{part} and y_{part} go together")
        x, y = _array(f"x_{part}", x), _array(f"y_{part}", y)
        splits[part] = _split(part, x, y)
        for a in (x, y):
            digest.update(f"{part} {a.dtype.str} {a.shape} ".encode())
            digest.update(np.ascontiguousarray(a).reshape(-1).view(np.uint8).data)
    if "train" not in splits:
        raise DataError("x_train and y_train are missing")
    for part, split in splits.items():
        shape, wanted = split.x.shape[1:], splits["train"].x.shape[1:]
        if shape != wanted:
            raise DataError(f"x_{part} must have examples of shape {wanted}, as x_train, "
                            f"got {shape}")
    largest = max(int(split.y.max()) for split in splits.values())
    if classes and len(classes) <= largest:
        raise DataError(f"classes must have a name for each label, 0..{largest}, "
                        f"got {len(classes)}")
    note = f"{printable(name, 80)}, arrays of one's own"
    if "val" not in splits:
        splits["train"], splits["val"] = _set_aside(splits["train"])
        note += f"; {len(splits['val']):,} training examples set aside for validation"
    train = splits["train"]
    known = statistics_of(train.x) if normalize == "training" else normalize
    try:
        if known is not None and len(statistics(known)[0]) != train.x.shape[1]:
            raise ValueError(f"it must have a mean for each of the {train.x.shape[1]} channels")
    except ValueError as e:
        raise DataError(f"normalize: {e}") from None
    return Dataset(_name(name), train, splits["val"], splits.get("test"), tuple(classes)
                   or tuple(map(str, range(largest + 1))), "arrays", note, known,
                   digest.hexdigest()[:8])


def _array(key: str, given) -> Array:
    try:
        return np.asarray(given)
    except (ValueError, TypeError) as e:
        raise DataError(f"{key} is no array: {printable(e, 100)}") from None


def _split(part: str, x: Array, y: Array) -> Split:
    key = f"x_{part}"
    allowed = "(N, H, W), (N, C, H, W) or (N, D), no axis empty"
    if x.ndim not in (2, 3, 4) or not x.size:
        raise DataError(f"{key} must have shape {allowed}, got {x.shape}")
    if x.ndim == 4 and x.shape[3] in (1, 3) and min(x.shape[1:3]) > 3:
        raise DataError(f"{key} must have its channels first, (N, C, H, W), got {x.shape}; "
                        "x.transpose(0, 3, 1, 2) puts them there")
    if x.dtype == np.uint8:
        x = pixels(x)
    elif x.dtype.kind == "f":
        with np.errstate(over="ignore"):
            x = np.ascontiguousarray(x, np.float32)
        if not np.isfinite(x).all():
            raise DataError(f"{key} must be finite numbers of float32, got NaN, infinity or more")
    else:
        raise DataError(f"{key} must be uint8, 0..255, or float32, got {printable(x.dtype, 40)}")
    x = x[:, None] if x.ndim == 3 else x
    key = f"y_{part}"
    if y.shape not in ((len(x),), (len(x), 1)):
        raise DataError(f"{key} must have shape ({len(x)},), a class for each example of x_{part}, "
                        f"got {y.shape}")
    if y.dtype.kind not in "iu":
        raise DataError(f"{key} must be integers, the class of each example, "
                        f"got {printable(y.dtype, 40)}")
    low, high = int(y.min()), int(y.max())
    if low < 0 or high >= CLASSES:
        raise DataError(f"{key} must be classes in 0..{CLASSES - 1}, got {low}..{high}")
    return Split(np.ascontiguousarray(x), y.reshape(-1).astype(np.int64))


def _set_aside(train: Split) -> tuple[Split, Split]:
    # By numbers of PCG64.random_raw, which no NumPy changes; a single example is both.
    n = len(train)
    if n == 1:
        return train, train
    drawn = np.argsort(np.random.PCG64(n).random_raw(n), kind="stable")
    held = np.zeros(n, bool)
    held[drawn[: min(max(n // 10, 1), 10_000)]] = True
    return train.take(~held), train.take(held)


def statistics_of(x: Array) -> tuple[list[float], list[float]]:
    """Returns mean and standard deviation of each channel, four significant digits; a channel that
    is one number has 1.   x : (N, C, H, W) or (N, D) float32"""
    mean, var = moments(x)
    std = np.sqrt(var)
    constant = std <= 1e-6 * np.abs(mean)
    return ([_short(v) for v in mean],
            [1.0 if one else _short(v) for v, one in zip(std, constant)])


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def _name(name: str) -> str:
    # As the label of a file may hold it.
    return re.sub(r"[^A-Za-z0-9_.-]", "_", name)[:64] or "arrays"


def _listed(arrays: Mapping[str, Array]) -> str:
    return ", ".join(arrays) or "nothing"
