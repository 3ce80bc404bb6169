"""The file formats: IDX (MNIST and its like), CIFAR's binary records or pickles, and MONK's text.

IDX, big-endian: two zero bytes, the type of an entry (8 = unsigned byte), the number of axes, the
length of each axis as 32 bits, then the entries in C order. So images start with 00 00 08 03,
labels with 00 00 08 01. A CIFAR-10 record is 3073 bytes: the label, then the red, the green and the
blue plane of 32 x 32; the pickles of CIFAR-10's Python version hold the same under `data` and
`labels`. A line of MONK's is: class, a1 .. a6, name.
"""

from __future__ import annotations

import io
import math
import pickle

import numpy as np

from ..errors import DataError, printable

Array = np.ndarray
CIFAR_RECORD = 1 + 3 * 32 * 32
MONK_SIZES = (3, 3, 2, 3, 4, 2)  # a1..a6 take the values 1..size; 17 inputs as one-hot


def idx(raw: bytes, axes: int, where: str) -> Array:
    """Returns the array of an IDX file of unsigned bytes, read-only uint8 with `axes` axes.

    raw : the file's bytes, unpacked        where : names the file in messages
    Raises DataError where the magic is another, or bytes are missing or left over.
    """
    magic = bytes((0, 0, 8, axes))
    if raw[:4] != magic:
        raise DataError(
            f"{where}: wrong magic: expected {magic.hex(' ')} (IDX, bytes, {axes} axes), "
            f"found {raw[:4].hex(' ')}"
        )
    start = 4 + 4 * axes
    if len(raw) < start:
        raise DataError(f"{where}: truncated: expected a header of {start} bytes, found {len(raw)}")
    shape = tuple(int(v) for v in np.frombuffer(raw, ">u4", axes, offset=4))
    expected, found = math.prod(shape), len(raw) - start
    if found != expected:
        what = "truncated" if found < expected else "too long"
        raise DataError(
            f"{where}: {what}: expected {expected:,} bytes of entries for shape {shape}, "
            f"found {found:,}"
        )
    return np.frombuffer(raw, np.uint8, expected, offset=start).reshape(shape)


def idx_pair(images: bytes, labels: bytes, classes: int, where: str) -> tuple[Array, Array]:
    """Returns images (N, H, W) uint8 and labels (N,) uint8 of two IDX files that fit each other."""
    x, y = idx(images, 3, f"{where} images"), idx(labels, 1, f"{where} labels")
    if len(x) != len(y):
        raise DataError(
            f"{where}: expected one label per image, found {len(y):,} labels for {len(x):,} images"
        )
    return x, _checked(y, classes, where)


def cifar(raw: bytes, where: str) -> tuple[Array, Array]:
    """Returns images (N, 3, 32, 32) uint8 and labels (N,) uint8 of a CIFAR-10 binary batch.

    Raises DataError where the bytes are not whole records, or a label is not in 0..9.
    """
    if len(raw) % CIFAR_RECORD or not raw:
        raise DataError(
            f"{where}: truncated: expected records of {CIFAR_RECORD} bytes, "
            f"found {len(raw):,} bytes, "
            f"{len(raw) % CIFAR_RECORD} beyond the last whole one"
        )
    records = np.frombuffer(raw, np.uint8).reshape(-1, CIFAR_RECORD)
    return records[:, 1:].reshape(-1, 3, 32, 32), _checked(records[:, 0], 10, where)


class _Plain(pickle.Unpickler):
    # Builds arrays of bytes and Python's own containers; whatever else a pickle names is refused.

    def find_class(self, module, name):
        known = {"_reconstruct": _empty, "ndarray": "ndarray", "dtype": _bytes}
        if module not in ("numpy", "numpy.core.multiarray") or name not in known:
            raise pickle.UnpicklingError(f"it names {module[:40]}.{name[:40]}")
        return known[name]


def _empty(kind: str, shape: tuple, code: bytes) -> Array:
    # What a pickled array begins as; its shape, dtype and bytes follow as its state.
    if kind != "ndarray" or shape != (0,):
        raise pickle.UnpicklingError("it makes an array in an unknown way")
    return np.ndarray((0,), np.uint8)


def _bytes(kind: bytes, align: int, copy: int) -> np.dtype:
    if kind != b"u1":
        raise pickle.UnpicklingError("its array is not of bytes")
    return np.dtype(np.uint8, copy=True)  # the state that follows is set on it


def cifar_pickled(raw: bytes, where: str) -> tuple[Array, Array]:
    """Returns images (N, 3, 32, 32) uint8 and labels (N,) uint8 of a CIFAR-10 batch in Python.

    No code of the file runs: only arrays and containers are built.
    Raises DataError where it is another pickle, or holds something else.
    """
    try:
        batch = _Plain(io.BytesIO(raw), encoding="bytes").load()
        found = {key.decode() if isinstance(key, bytes) else key: v for key, v in batch.items()}
        x, labels = found["data"], found["labels"]
    except Exception as e:  # a pickle can raise anything
        raise DataError(f"{where}: expected a batch of CIFAR-10 as a Python pickle: "
                        f"{printable(e, 100)}") from e
    whole = isinstance(x, np.ndarray) and isinstance(labels, list) and x.ndim == 2
    if not whole or x.dtype != np.uint8 or x.shape != (len(labels), CIFAR_RECORD - 1) or not all(
            type(v) is int and 0 <= v < 256 for v in labels):
        raise DataError(f"{where}: expected data of shape (N, {CIFAR_RECORD - 1}) uint8 and a list "
                        "of N labels")
    y = np.array(labels, np.uint8)
    return x.reshape(-1, 3, 32, 32), _checked(y, 10, where)


def monks(raw: bytes, where: str) -> tuple[Array, Array]:
    """Returns attributes (N, 6) int64 from 1, and classes (N,) int64, of a file of MONK's problems.

    Raises DataError, naming the line, where a line is not class, a1..a6, name with each in its
    range.
    """
    rows = []
    for number, line in enumerate(raw.decode("ascii", errors="replace").splitlines(), 1):
        words = line.split()
        if not words:
            continue
        if len(words) != 8 or not all(w.isascii() and w.isdigit() for w in words[:7]):
            raise DataError(
                f"{where}, line {number}: expected class, a1..a6 and a name, "
                f"found {line.strip()[:60]!r}"
            )
        values = [int(w) for w in words[:7]]
        if values[0] > 1 or any(not 1 <= v <= size for v, size in zip(values[1:], MONK_SIZES)):
            raise DataError(
                f"{where}, line {number}: expected class 0..1 and a1..a6 from 1 to {MONK_SIZES}, "
                f"found {' '.join(words[:7])}"
            )
        rows.append(values)
    table = np.array(rows, np.int64).reshape(-1, 7)
    return table[:, 1:], table[:, 0]


def one_hot(attributes: Array) -> Array:
    """Returns the (N, 17) float32 inputs of attributes (N, 6): an input per value, 1 where taken.

    >>> one_hot(np.array([[1, 3, 2, 1, 4, 1]]))[0].astype(int).tolist()
    [1, 0, 0, 0, 0, 1, 0, 1, 1, 0, 0, 0, 0, 0, 1, 1, 0]
    """
    return np.concatenate(
        [np.eye(size, dtype=np.float32)[attributes[:, a] - 1] for a, size in enumerate(MONK_SIZES)],
        axis=1,
    )


def _checked(labels: Array, classes: int, where: str) -> Array:
    worst = int(labels.max(initial=0))
    if worst >= classes:
        raise DataError(f"{where}: expected labels 0..{classes - 1}, found {worst}")
    return labels
