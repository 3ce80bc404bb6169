"""Data sets by name: `load("mnist")`, `available()`, `get("mnist")`.

| name | what | where from |
|---|---|---|
| mnist, fashion_mnist, cifar10 | images of ten classes | files: $MINICOMP_DATA, the cache |
| monks-1, monks-2, monks-3 | 17 one-hot inputs, two classes | files, else made from the rules |
| glyphs | 28 x 28 digits | rendered from Matplotlib's fonts, always there |
| FILE.npz, `from_arrays` | arrays of one's own | x_train, y_train, x_test, y_test (`arrays.py`) |

Pixels are float32 in 0..1, byte / 255; a net normalises them itself, as `Dataset.normalize` says.

Nothing here touches the network except `get`, which the user asks for by `minicomp data get NAME`.
"""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..archive import DAMAGED, Archive
from ..errors import DataError, did_you_mean, printable
from . import files, glyphs, monks, readers
from .arrays import from_arrays, read_npz
from .augment import Augment, cutmix, cutout, shift
from .catalog import COLLECTIONS, DataFile
from .dataset import Dataset, Split, batches, pixels

__all__ = [
    "Augment",
    "Dataset",
    "Listing",
    "NAMES",
    "Split",
    "available",
    "batches",
    "cutmix",
    "cutout",
    "default_name",
    "default_note",
    "from_arrays",
    "get",
    "load",
    "shift",
]

Array = np.ndarray
NAMES = ("mnist", "fashion_mnist", "cifar10", "monks-1", "monks-2", "monks-3", "glyphs")
DIGITS = tuple("0123456789")
CLOTHES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
THINGS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
GLYPHS = {"train": 12000, "val": 2000, "test": 2000}  # the first 12,000 of one sequence, and so on
GLYPHS_SHA256 = "1c1c46d598712dfbadbb46f89610b269d113146b583125bfeff935d1fc3614a5"


@dataclass(frozen=True)
class Listing:
    """One line of `available()`.

    state : "found", "incomplete", "absent" or "built in"
    where : the folder with the files, or None        how : what gets it, or how it is made
    """

    name: str
    state: str
    where: Path | None
    how: str
    about: str


def load(name: str, *, root: str | os.PathLike | None = None) -> Dataset:
    """Returns the data set of that name, or of a file NAME.npz (`arrays.read_npz`).

    root : the folder to look in, instead of $MINICOMP_DATA and then the user's cache

    MNIST and Fashion-MNIST validate on the last 5,000 of the 60,000 training examples, CIFAR-10 on
    the last tenth of the training batches that are there, the MONK's problems on their training
    examples (there are too few to set any aside), glyphs on 2,000 of their own.

    Raises DataError: an unknown name, or a file that is missing, of the wrong kind, truncated or
    altered.
    """
    if name == "glyphs":
        return _glyphs()
    if os.fspath(name).endswith(".npz"):
        return read_npz(name)
    _check_name(name)
    if name.startswith("monks-"):
        return _monks(name, root)
    folder = files.require(name, root)
    return _cifar10(folder) if name == "cifar10" else _idx(name, folder)


def available(root: str | os.PathLike | None = None) -> list[Listing]:
    """Returns one Listing per data set: whether it is there, where, and what to run if it is not.

    Looks at names of files only; `load` compares their bytes.
    """
    rows = []
    for name, c in COLLECTIONS.items():
        where, how = files.find(name, root), files.get_command(name)
        partly = next((p for p in files.places(name, root) if files.present(p, name)), None)
        state = "found" if where else "incomplete" if partly else "absent"
        if name.startswith("monks-") and not where:
            how += " (until then generated from its rules)"
        rows.append(Listing(name, state, where or partly, "" if where else how, c.about))
    rows.append(
        Listing(
            "glyphs",
            "built in",
            None,
            "rendered from Matplotlib's fonts",
            "digits, 28 x 28 grey, of 18 fonts with affine and elastic distortion",
        )
    )
    return rows


def get(
    name: str,
    from_: str | os.PathLike | None = None,
    *,
    progress: Callable[[dict], None] | None = None,
) -> Path:
    """Returns the cache folder that now holds data set `name`, downloaded or taken from `from_`.

    from_ : a local folder, or an http(s) address of one
    progress : called with {"event": "progress", "name", "done", "total"}, in bytes

    Raises DataError; what is in the cache then is as it was, or right.
    """
    _check_name(name)
    if name == "glyphs":
        raise DataError("glyphs: nothing to get: they are rendered from Matplotlib's fonts")
    from . import fetch  # urllib and tarfile: a twentieth of a second that nothing else needs

    return fetch.get(name, from_, progress=progress)


def default_name(root: str | os.PathLike | None = None) -> str:
    """Returns "mnist" where its files are found, else "glyphs"."""
    return "mnist" if files.find("mnist", root) else "glyphs"


def default_note(root: str | os.PathLike | None = None) -> str:
    """Returns one line that says which data set `default_name` takes, why, and how to get MNIST."""
    found = files.find("mnist", root)
    if found:
        return f"data: mnist, found in {found}"
    looked = " or ".join(map(str, files.places("mnist", root)))
    return (
        f"data: glyphs, digits rendered from fonts, because MNIST is not in {looked}; "
        f"to get it, run: {files.get_command('mnist')}"
    )


def _check_name(name: str) -> None:
    if name not in NAMES:
        raise DataError(f"unknown data set {printable(repr(name))}"
                        f"{did_you_mean(str(name), (*NAMES, 'FILE.npz'))}")


def _idx(name: str, folder: Path) -> Dataset:
    def unpacked(found: tuple[DataFile, Path]) -> bytes:
        file, path = found
        raw = files.read(path, file, name)
        return files.gunzip(raw, path, name) if raw.startswith(files.GZIP) else raw

    with ThreadPoolExecutor(2) as pool:  # zlib and hashlib release the interpreter's lock
        raw = list(pool.map(unpacked, files.present(folder, name).items()))
    train, test = (
        readers.idx_pair(raw[i], raw[i + 1], 10, f"{folder} {part}")
        for i, part in ((0, "train"), (2, "t10k"))
    )
    classes = DIGITS if name == "mnist" else CLOTHES
    return _images(
        name,
        (train[0][:, None], train[1]),
        (test[0][:, None], test[1]),
        5000,
        classes,
        "files",
        f"{name}, the published files, from {files.place(folder)}",
    )


def _cifar10(folder: Path) -> Dataset:
    def batch(found: tuple[DataFile, Path]) -> tuple[Array, Array]:
        file, path = found
        read = readers.cifar if path.name.startswith(file.name) else readers.cifar_pickled
        return read(files.read(path, file, "cifar10"), str(path))

    with ThreadPoolExecutor(2) as pool:
        parts = list(pool.map(batch, files.present(folder, "cifar10").items()))
    *train, test = parts  # the test batch is the last of the files
    x, y = (np.concatenate(list(part)) for part in zip(*train))
    note = f"cifar10, the published files, from {files.place(folder)}"
    if len(train) < 5:
        note += f": {len(train)} of the 5 training batches, {len(y):,} of 50,000 images"
    return _images("cifar10", (x, y), test, len(y) // 10, THINGS, "files", note)


def _monks(name: str, root) -> Dataset:
    folder = files.find(name, root)
    if folder is None:
        source, note = "generated", (
            f"{name} generated from its rules, not the published examples, because its files "
            f"were not found; to get them, run: {files.get_command(name)}"
        )
        parts = list(monks.generate(int(name[-1])))
    else:
        source, note = "files", f"{name}, the published files, from {files.place(folder)}"
        parts = [
            readers.monks(files.read(path, f, name), str(path))
            for f, path in files.present(folder, name).items()
        ]
    train, test = (Split(readers.one_hot(a), np.array(y, np.int64)) for a, y in parts)
    return Dataset(
        name, train, train, test, ("0", "1"), source, note + "; validation is the training set"
    )


def _glyphs() -> Dataset:
    x, y = _rendered(sum(GLYPHS.values()))
    note = (
        f"glyphs, digits rendered from {len(glyphs.FONTS)} fonts of Matplotlib's; "
        f"for MNIST, run: {files.get_command('mnist')}"
    )
    if _glyphs_sha256(x, y) != GLYPHS_SHA256:
        note += "; not the reference pixels: these fonts are not those of a released Matplotlib"
    k = GLYPHS["train"] + GLYPHS["val"]
    return _images(
        "glyphs",
        (x[:k, None], y[:k]),
        (x[k:, None], y[k:]),
        GLYPHS["val"],
        DIGITS,
        "rendered",
        note,
    )


def _rendered(n: int) -> tuple[Array, Array]:
    # The glyphs of seed 0 from the cache, or rendered and put there; a cache that cannot be used is
    # done without, which is said.
    path = files.cache_dir() / "glyphs" / f"glyphs-{GLYPHS_SHA256[:16]}.npz"
    try:
        like = {"x": np.empty((n, glyphs.SIZE, glyphs.SIZE), np.uint8), "y": np.empty(n, np.uint8)}
        with Archive(path, like) as f:
            f.check()
            x, y = (f.arrays()[name] for name in like)
        if _glyphs_sha256(x, y) == GLYPHS_SHA256:
            return x, y
    except DAMAGED:  # or absent: render again
        pass
    x, y = glyphs.digits(n, seed=0)
    packed = io.BytesIO()
    np.savez(packed, x=x, y=y)
    try:
        files.write(path, packed.getvalue())
    except DataError as e:
        warnings.warn(f"the glyphs are rendered again each time: {e}", stacklevel=2)
    return x, y


def _glyphs_sha256(x: Array, y: Array) -> str:
    digest = hashlib.sha256(np.ascontiguousarray(x).data)
    digest.update(np.ascontiguousarray(y).data)
    return digest.hexdigest()


def _images(
    name: str,
    train: tuple[Array, Array],
    test: tuple[Array, Array],
    n_val: int,
    classes: tuple[str, ...],
    source: str,
    note: str,
) -> Dataset:
    # From bytes (N, C, H, W) and labels; the last n_val of train are the validation split.
    learned, held_out = (Split(pixels(x), y.astype(np.int64)) for x, y in (train, test))
    k = len(learned) - n_val
    return Dataset(
        name,
        learned.take(slice(k)),
        learned.take(slice(k, None)),
        held_out,
        classes,
        source,
        note,
        normalize=name,
    )
