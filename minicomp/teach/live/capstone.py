"""Measuring a net that somebody handed in as a file: bytes, error on unseen digits, time.

The digits come from a secret, so nobody has seen them: *glyphs* of a seed of their own, and, where
MNIST is there, *mnist*: test images, each seen through a smooth map of its own (`data/warp.py`). A
file is measured on both and counts by the ones that it reads better, which is what it was trained
on. Its time is a ratio: it runs in turn with the dense LeNet-300-100, one image and one thread, so
that a slow machine or a busy one slows both. Of its two plans, one that skips zeros and one that
multiplies them, the faster counts.

The file is a stranger's. It holds no code; it is opened by the library's reader, which trusts
nothing, in a process of its own with limits of memory and time, which is ended when these are
reached.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np

from ...atomic import as_json
from ...codec import decode
from ...comparison import interval
from ...data import files, glyphs, load, warp
from ...data.dataset import Split, pixels
from ...errors import UserError, printable
from ...kernels.threads import blas
from ...models import LeNet300
from ...passport import planned
from ...reference.draw import Draw, seed_of
from ...tensor import no_grad
from ...timing import race
from ...train import evaluate
from ..asking.lesson import Capstone

Array = np.ndarray
INPUT, CLASSES = (1, glyphs.SIZE, glyphs.SIZE), 10
SECONDS, MEMORY = 300.0, 3 * 2**30  # of the process: on the wall, of address space
_RUN = """
import sys
sys.path.insert(0, {root!r})
from minicomp.teach.live.capstone import measure_here
measure_here()
"""


def unseen(secret: str, n: int) -> dict[str, tuple[Array, Array]]:
    """Returns n images (n, 28, 28) uint8 and labels (n,) of each kind of digits there is.

    secret : of a course key; the same secret draws the same digits on every machine
    """
    made = {"glyphs": glyphs.digits(n, _seed("glyphs", secret))}
    if files.find("mnist"):
        test = load("mnist").test
        some = Draw(_seed("which", secret)).permutation(len(test))[:n]
        images = np.rint(255 * test.x[some, 0]).astype(np.uint8)
        made["mnist"] = warp.warped(images, _seed("mnist", secret)), test.y[some]
    return made


def _seed(*words: str) -> int:
    return seed_of("minicomp capstone", *words)


def measured(raw: bytes, digits: Mapping[str, tuple[Array, Array]], asked: Capstone) -> dict:
    """Returns what `measure` does, by a process of its own; "problem" where it does not come back.
    """
    packed = io.BytesIO()
    arrays = {f"{part}_{name}": a for name, pair in digits.items() for part, a in zip("xy", pair)}
    np.savez(packed, net=np.frombuffer(raw, np.uint8), asked=as_json(asdict(asked)), **arrays)
    code = _RUN.format(root=str(Path(__file__).parents[3]))
    try:
        done = subprocess.run([sys.executable, "-P", "-c", code], input=packed.getvalue(),
                              capture_output=True, timeout=SECONDS, check=True)
        return json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        why = f"it is not measured within {SECONDS:g} s"
    except (subprocess.CalledProcessError, ValueError):
        why = "the process that measures it ended"
    return {"problem": why, "bytes": len(raw)}


def measure_here() -> None:
    """Measures the file that standard input holds and writes JSON: the inner half of `measured`."""
    _limit_memory()
    with np.load(io.BytesIO(sys.stdin.buffer.read()), allow_pickle=False) as f:
        digits = {k[2:]: (f[k], f[f"y{k[1:]}"]) for k in f.files if k.startswith("x_")}
        asked = json.loads(str(f["asked"]))
        raw = f["net"].tobytes()
    try:
        found = measure(raw, digits, Capstone(**asked))
    except MemoryError:
        found = {"problem": "it needs more memory than there is for a file", "bytes": len(raw)}
    sys.stdout.write(as_json(found))


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def measure(raw: bytes, digits: Mapping[str, tuple[Array, Array]], asked: Capstone) -> dict:
    """Returns what a file's net is like, JSON-able.

    raw : the file        digits : as of `unseen`
    bytes : of the file        problem : a line that says why it is not measured; else
    digits : which it reads best; errors, size, low, high (95 %), of these
    others : errors on every kind        ratio : its milliseconds to the dense LeNet-300-100's
    """
    found = {"problem": "", "bytes": len(raw)}
    try:
        net = _opened(raw, asked)
    except UserError as e:
        return found | {"problem": printable(e, 300)}
    splits = {name: Split(pixels(x[:, None]), y.astype(np.int64))
              for name, (x, y) in digits.items()}
    errors = {name: evaluate(net, split).errors for name, split in splits.items()}
    best = min(errors, key=errors.get)
    low, high = interval(errors[best], len(splits[best]))
    return found | {"digits": best, "errors": errors[best], "size": len(splits[best]), "low": low,
                    "high": high, "others": errors, "ratio": _ratio(net, splits[best].x[:1])}


def _ratio(net, x: Array) -> float:
    # The net's milliseconds on x, (1, ...), to the dense net's, whose values do not matter to that.
    dense = LeNet300(rng=np.random.default_rng(0))
    calls = {"skipping": planned(net), "whole": planned(net, skip_zeros=False),
             "dense": planned(dense)}
    with no_grad(), blas(1):
        for call in 2 * list(calls.values()):  # not counted: caches
            call(x)
        taken = race({name: lambda call=call: call(x) for name, call in calls.items()},
                     seconds=0.9, least=5)
    return round(min(taken["skipping"], taken["whole"]) / taken["dense"], 3)


def _opened(raw: bytes, asked: Capstone):
    # The net of a file; UserError says why it is none that can be measured.
    if len(raw) > asked.most_bytes:
        raise UserError(f"the file has {len(raw):,} bytes; at most {asked.most_bytes:,} are taken")
    net = decode(raw, asked.memory).model
    outputs = list(net.shapes().values())[-1]
    if tuple(net.input_shape) != INPUT or tuple(outputs) != (CLASSES,):
        raise UserError(f"the net takes {_shape(net.input_shape)} and gives {_shape(outputs)}; it"
                        f" must take {_shape(INPUT)} and give {CLASSES}")
    if (each := net.operations()) > asked.operations:
        raise UserError(f"the net takes about {each:,} operations an image; at most"
                        f" {asked.operations:,} are allowed")
    return net


def _shape(shape) -> str:
    return " x ".join(map(str, shape))


def scored(found: dict, asked: Capstone) -> tuple[int, str]:
    """Returns the points of a measured file, and a line that says what it is."""
    if found["problem"]:
        return 0, found["problem"]
    good = is_good(found, asked)
    points = asked.of_loading + good * (asked.of_error + sum(found["bytes"] <= s
                                                             for s in asked.sizes))
    kind = "warped digits of MNIST" if found["digits"] == "mnist" else "glyphs"
    return points, (
        f"{found['bytes']:,} bytes; {found['errors']} of {found['size']:,} unseen {kind} wrong,"
        f" {100 * found['errors'] / found['size']:.2f} %, which is"
        f" {'within' if good else 'above'} {asked.limit:g} %; {found['ratio']:.2f} times as long"
        " an image as the dense LeNet-300-100")


def is_good(found: dict, asked: Capstone) -> bool:
    """Returns whether a file was measured and errs within the limit."""
    return not found["problem"] and 100 * found["errors"] <= asked.limit * found["size"]


def place(found: dict) -> tuple[int, float]:
    """Returns what good files are ranked by: bytes, then the ratio of times, to one decimal."""
    return found["bytes"], round(found["ratio"], 1)
