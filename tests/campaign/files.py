"""Damaged and hostile files: each is refused with FormatError, or loads to what can be saved.

Real files of every form, layout, layer and technique are damaged behind their checksums; headers
are built of their own words and then spoiled, as a tree and as a text; a few files declare as much
as is allowed. What loads is saved and loaded again, to the same bits. Time and memory of every file
are taken.
"""

from __future__ import annotations

import functools
import json
import random
import time
import warnings
import zlib
from pathlib import Path

import numpy as np

from minicomp.codec import decode, encode, huffman, positions
from minicomp.codec.bits import BitWriter
from minicomp.codec.envelope import Opened, kind_of, seal
from minicomp.codec.header import read_header, write_header
from minicomp.deploy import lower
from minicomp.errors import FormatError, UserError
from minicomp.exchange.safetensors import DTYPES, parse_safetensors
from minicomp.nn import Model, Node
from minicomp.nn.layers import LAYERS
from tests.campaign.frame import Failure
from tests.campaign.meter import Meter
from tests.codec import test_fuzz as fuzz
from tests.compress import test_contract as contract

MAX_BYTES = 2**26
SECONDS, MEMORY = 1.0, 3 * MAX_BYTES  # floors: of one file, and growth of the process
BATCH = 100  # files of a step


class Draw(random.Random):
    """The random choices of one file.   techniques : numbers of the techniques' files it may take

    A technique takes a second to run: twenty steps share a few of them.
    """

    def __init__(self, seed: int, number: int):
        super().__init__(f"{seed} {number}")
        some = random.Random(f"techniques {seed // 20}")
        self.techniques = some.sample(range(2 * len(contract.CASES)), 3)


def step(seed: int, folder: Path) -> dict[str, float]:
    """Tries BATCH files; a failure leaves the file in the folder."""
    found = {"files": 0, "loaded": 0, "refused": 0, "most_seconds": 0.0, "most_mebibytes": 0.0}
    for i in range(BATCH):
        rng = Draw(seed, i)
        make = rng.choices(list(MAKERS), MAKERS.values())[0]
        kind, data = make(rng)
        try:
            loaded, seconds, peak = tried(kind, data)
        except Failure as e:
            left = folder / f"failed-{seed}-{i}.{kind}"
            left.write_bytes(data)
            raise Failure(f"file {i} ({make.__name__}, kept as {left}): {e}") from None
        found["files"] += 1
        found["loaded" if loaded else "refused"] += 1
        found["most_seconds"] = max(found["most_seconds"], seconds)
        found["most_mebibytes"] = max(found["most_mebibytes"], peak / 2**20)
    return found


def tried(kind: str, data: bytes) -> tuple[bool, float, int]:
    """Returns (whether it loads, seconds, bytes of growth); Failure for whatever must not be."""
    seconds, peak = [], 0
    for _ in range(3):  # on a busy machine the shortest is the file's own
        meter, start = Meter(), time.process_time()
        thing = _loaded(kind, data)
        seconds.append(time.process_time() - start)
        peak = max(peak, meter.growth())
        if seconds[-1] < SECONDS / 2:
            break
        thing = None
    if min(seconds) > SECONDS:
        raise Failure(f"{len(data):,} bytes took {min(seconds):.2f} s")
    if peak > MEMORY:
        raise Failure(f"{len(data):,} bytes took {peak:,} bytes of memory")
    if thing is not None and kind == "mcz":
        _check_saved(thing)
    return thing is not None, min(seconds), peak


def _loaded(kind: str, data: bytes):
    try:
        if kind == "mcz":
            return decode(data, MAX_BYTES).model
        return parse_safetensors(data, MAX_BYTES)
    except FormatError as e:
        if e.__cause__ is not None:
            raise Failure(f"only the outer door refused it: {e}") from e
        if len(str(e)) > 1000 or not str(e).isprintable():
            raise Failure(f"the message is no message: {str(e)[:200]!r}") from e
        return None
    except BaseException as e:
        raise Failure(f"{type(e).__name__}: {e}") from e


def _check_saved(thing) -> None:
    if thing.activation_bytes() > 2**20:  # the time goes to other files
        return
    try:
        again = decode(encode(thing), MAX_BYTES).model
    except UserError as e:
        raise Failure(f"what was loaded does not save and load: {e}") from e
    same = (_bits(thing) == _bits(again) and type(thing) is type(again)
            and thing.origin_bytes == again.origin_bytes)
    if not same:
        raise Failure("what was loaded differs once it was saved and loaded")
    if thing.operations() < 10**6:
        x = np.ones((2, *thing.input_shape), np.float32)
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            try:
                thing(x)
            except Exception as e:
                raise Failure(f"what was loaded does not run: {type(e).__name__}: {e}") from e


def _bits(thing) -> list:
    arrays = {name: form.dense().data for name, form in thing.forms().items()}
    arrays |= thing.buffers() if isinstance(thing, Model) else {}
    return [(name, a.shape, a.tobytes()) for name, a in arrays.items()]


# --------------------------------------------------------------------- real files, damaged


@functools.cache
def _real(number: int) -> bytes:
    # File `number` of those there are: the forms and layouts of the tests, then each technique's.
    ready = fuzz.corpus()
    if number < len(ready):
        return ready[number]
    word, toy = contract.CASES[(number - len(ready)) // 2]
    model = contract.applied(word, toy)
    return encode(lower(model) if number % 2 else model)


def _real_file(rng: Draw) -> bytes:
    ready = len(fuzz.corpus())
    return _real(rng.randrange(ready) if rng.random() < 0.5 else ready + rng.choice(rng.techniques))


def damaged(rng: Draw) -> tuple[str, bytes]:
    """Returns a real file with bits, lengths and pieces changed, its checksums made right."""
    data = _real_file(rng)
    return "mcz", fuzz.mutant(data, fuzz.corpus(), rng)


def cut(rng: Draw) -> tuple[str, bytes]:
    """Returns the beginning of a real file, or two halves."""
    data = _real_file(rng)
    data = data[: rng.randrange(len(data))]
    if rng.random() < 0.5:
        other = _real_file(rng)
        data += other[rng.randrange(len(other)):]
    return "mcz", fuzz.rechecked(data) if len(data) > 8 and rng.random() < 0.8 else data


# --------------------------------------------------------------------- headers


@functools.cache
def _net(number: int) -> Model:
    # A small net of random layers, of every kind that there is.
    rng = random.Random(f"net {number}")
    shape = rng.choice([(rng.randint(1, 9),), (rng.randint(1, 4), *(rng.randint(1, 8),) * 2)])
    nodes, shapes, input_shape = [], {"x": shape}, shape
    for i in range(rng.randint(1, 7)):
        kind, source = rng.choice(list(LAYERS.values())), rng.choice(list(shapes))
        layer = _layer(kind, shapes[source], rng)
        if layer is None:
            continue
        more = rng.choices(list(shapes), k=(layer.arity or 1) - 1)
        inputs = (source,) * rng.randint(1, 3) if layer.arity is None else (source, *more)
        try:
            shapes[f"n{i}"] = layer.out_shape(*(shapes[name] for name in inputs))
        except ValueError:
            continue
        nodes.append(Node(f"n{i}", layer, inputs))
    return Model(nodes, input_shape=input_shape)


def _layer(kind, shape, rng: random.Random):
    # A layer of a kind for an input of that shape; None where no arguments are found.
    import inspect

    for _ in range(4):
        given = {}
        for p in inspect.signature(kind).parameters.values():
            if p.default is p.empty or rng.random() < 0.5:
                given[p.name] = _argument(p.name, shape, rng)
        try:
            return kind(**given)
        except (ValueError, TypeError):
            continue
    return None


def _argument(name: str, shape, rng: random.Random):
    if name in ("in_features", "in_channels", "num_features"):
        return shape[0]
    if name.startswith(("mean", "std")):
        return [rng.uniform(0.1, 1.0) for _ in range(shape[0])]
    if name in ("bias", "ceil_mode", "dynamic", "signed"):
        return rng.random() < 0.5
    if name in ("p", "eps", "momentum", "threshold", "scale"):
        return rng.choice([0.0, 0.1, 0.5, 1e-5])
    if name in ("kernel_size", "stride", "padding", "output_size"):
        return rng.choice([rng.randint(0, 3), [rng.randint(0, 3), rng.randint(1, 3)]])
    return rng.choice([1, 1, 2, 3, shape[0]])


def headed(rng: Draw) -> tuple[str, bytes]:
    """Returns a file whose header was spoiled as a tree, its sections those of the net."""
    data = _with_header(rng)
    header, opened = _header_in(data), Opened(data, kind_of(data))
    for _ in range(rng.choice([1, 1, 2, 4])):
        header = fuzz.spoiled(header, rng)
    try:
        return "mcz", _reheaded(data, write_header(header, kind_of(data), opened.dictionary))
    except ValueError:  # a number that JSON does not have
        return "mcz", data


def _header_in(data: bytes) -> dict:
    opened = Opened(data, kind_of(data))
    return read_header(opened.header, opened.dictionary, kind_of(data))


def _with_header(rng: Draw) -> bytes:
    if rng.random() < 0.3:
        return _real_file(rng)
    model = _net(rng.randrange(300))
    return _encoded(model, rng.random() < 0.3)


@functools.lru_cache(maxsize=1000)
def _encoded(model: Model, program: bool) -> bytes:
    try:
        return encode(lower(model) if program else model)
    except ValueError:  # no program computes it
        return encode(model)


def worded(rng: Draw) -> tuple[str, bytes]:
    """Returns a file whose header was spoiled as a text: keys twice, nests, huge numbers, ends."""
    data = _with_header(rng)
    text = json.dumps(_header_in(data))
    for _ in range(rng.choice([1, 1, 2, 3])):
        text = _spoiled_text(text, rng)
    packer = zlib.compressobj(1, zlib.DEFLATED, -15)
    return "mcz", _reheaded(data, packer.compress(text.encode("utf-8", "replace")) + packer.flush())


PIECES = [
    "[" * 20, "]" * 20, "[" * 5000, '{"a":' * 16, '{"a":' * 300, '"', "\\", '\\"' * 3000, "0" * 30,
    "9" * 5000, "1e999", "-1", "NaN", "null", "true", "\x1b[31m", "\u202e", "\ud800", ",", ":",
    "{}", "[]", '"x"', '"a":1,', '"origin":4,', '"origin":1e15,', '"nodes":[],', '"input":[1],',
    '"builtin":"lenet5",', '"args":{},', '"data":"mnist",', " " * 3000, "[1]," * 3000,
    '{"a":{}},' * 1000]


def _spoiled_text(text: str, rng: random.Random) -> str:
    at, n = rng.randrange(len(text) + 1), rng.choice([0, 0, 1, 2, 10, 100])
    what = rng.randrange(4)
    if what == 0:
        return text[:at] + rng.choice(PIECES) + text[at + n:]
    if what == 1:  # a piece of it twice
        return text[:at] + text[max(at - rng.choice([1, 20, 200]), 0):]
    if what == 2:
        return text[:at] + text[at + n + 1:]
    digits = [i for i, c in enumerate(text) if c.isdigit()]
    if not digits:
        return text
    at = rng.choice(digits)
    return text[:at] + rng.choice(["9" * 16, "9" * 40, "0", "-3", "2147483648", "1.5", "[[1]]",
                                   "1" * 9, "true", '"1"', "1e300"]) + text[at + 1:]


def _reheaded(data: bytes, header: bytes) -> bytes:
    # The same sections, whatever checksums they had, behind another header.
    opened, sections = Opened(data, kind_of(data)), []
    while opened._at < opened._end:
        sections.append(bytes(opened.section("")))
    return seal(kind_of(data), header, sections, opened.dictionary)


# --------------------------------------------------------------------- as much as is allowed


def _lone(w: BitWriter, size: int, symbol: int = 0) -> None:
    # Symbols that are all the same, in no bits.
    lengths = np.zeros(size, np.uint8)
    lengths[symbol] = 1
    w.write(1, 2)
    huffman.write_table(w, lengths)


def _section(rng: random.Random, n: int) -> bytes:
    w, form = BitWriter(), rng.choice(["dense", "half", "shared", "pinned"])
    w.count({"dense": 0, "half": 1}.get(form, 2))
    k = rng.choice([1, 2, 200, 256, 257, 300, 4000])
    if form in ("shared", "pinned"):
        w.count(k - 1)
        w.write(form == "pinned", 1)
        w.count(0)
        for _ in range(4 * (k > (form == "pinned"))):
            _lone(w, 256, rng.randrange(120))
    layout = rng.choice(list(positions.LAYOUTS))
    w.write(positions.LAYOUTS[layout], 3)
    w.write(rng.randrange(2), 1)
    kept = rng.choice([0, 1, n // 40, n // 2, n])
    if layout == "context":
        w.count(kept)
        w.count(rng.choice([0, 3, 28]))
        w.count(rng.choice([0, 100]))
    elif layout in ("relative", "rice", "bucket"):
        w.count(kept)
        w.write(rng.randrange(16), 4)
    if layout in ("all", "relative"):
        for _ in range(6):
            _lone(w, 256 if form in ("dense", "half") else max(k, 2), rng.randrange(2))
    w.bits(np.array([rng.randrange(2) for _ in range(rng.choice([0, 8, 800]))], np.uint8))
    return w.getvalue()


def large(rng: random.Random) -> tuple[str, bytes]:
    """Returns a file that declares just under, or just over, as much as is allowed."""
    columns = rng.choice([1, 64, 4096])
    n = rng.choice([MAX_BYTES // 4, MAX_BYTES // 5, MAX_BYTES // 8]) - rng.choice([0, 5000, 50_000])
    rows = min(n // columns, 2**31 - 1)
    node = ["fc", "Linear", {"in_features": columns, "out_features": rows, "bias": False}, ["x"]]
    if rng.random() < 0.2:
        many = rng.choice([1000, 1030])
        nodes = [[f"{i:x}", "BatchNorm1d", {"num_features": 1}, ["x"]] for i in range(many)]
        one = _section(rng, 1)
        return "mcz", seal("model", write_header({"input": [1], "nodes": nodes}), [one] * 2 * many)
    header = {"input": [columns], "nodes": [node]}
    return "mcz", seal("model", write_header(header), [_section(rng, rows * columns)])


# --------------------------------------------------------------------- safetensors


def _entries(rng: random.Random) -> tuple[dict, bytes]:
    header, at = {}, 0
    for i in range(rng.randint(0, 6)):
        dtype = rng.choice([*DTYPES, "BF16", "F8_E4M3", "F4"])
        shape = [rng.randint(0, 4) for _ in range(rng.randint(0, 3))]
        size = 2 if dtype == "BF16" else np.dtype(DTYPES.get(dtype, "|u1")).itemsize
        size *= int(np.prod(shape, dtype=int))
        name = rng.choice([f"fc{i}.weight", f"a/b{i}:0", f"w[{i}]", "n" * 300 + str(i), f"\x1b{i}"])
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    if rng.random() < 0.3:
        header["__metadata__"] = {"format": "pt"}
    return header, bytes(rng.randrange(2) for _ in range(at))


def tensors(rng: random.Random) -> tuple[str, bytes]:
    """Returns a safetensors file, its header spoiled as a tree or as a text, or its bytes."""
    header, data = _entries(rng)
    for _ in range(rng.choice([0, 1, 1, 2])):
        header = fuzz.spoiled(header, rng) if header else header
    text = json.dumps(header)
    for _ in range(rng.choice([0, 0, 0, 1, 2])):
        text = _spoiled_text(text, rng)
    raw = text.encode("utf-8", "replace")
    length = len(raw) if rng.random() < 0.9 else rng.choice([0, 1, 2**20, 2**63, len(raw) + 1])
    file = bytearray(length.to_bytes(8, "little") + raw + data)
    if rng.random() < 0.3:
        file[rng.randrange(len(file))] ^= 1 << rng.randrange(8)
    return "safetensors", bytes(file)


MAKERS = {damaged: 40, cut: 10, headed: 22, worded: 14, tensors: 13.5, large: 0.5}
