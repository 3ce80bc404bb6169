# Damaged files: whatever the damage, only FormatError comes out, in bounded time and memory. Most
# mutants get # their checksums made right again, so that it is the parser that meets the damage and
# not the CRC.
import functools
import json
import random
import time
import tracemalloc
import zlib

import numpy as np
import pytest

from minicomp.codec import decode, encode
from minicomp.codec.envelope import Opened, _length
from minicomp.codec.header import MODELS, read_header, write_header
from minicomp.errors import FormatError
from minicomp.models import DepthwiseNet32
from minicomp.nn import (
    BatchNorm2d,
    Codebook,
    Conv2d,
    Dense,
    Flatten,
    Half,
    Linear,
    Model,
    Node,
    ReLU,
)
from minicomp.nn.layers import LAYERS

MAX_BYTES = 2**20
PEAK = 3 * MAX_BYTES  # bytes that decoding may hold at a time
SECONDS = 2.0


def small(seed):
    rng = np.random.default_rng(seed)
    nodes = [
        Node("conv", Conv2d(1, 4, 3)),
        Node("bn", BatchNorm2d(4), ("conv",)),
        Node("relu", ReLU(), ("bn",)),
        Node("flatten", Flatten(), ("relu",)),
        Node("fc", Linear(64, 30), ("flatten",)),
        Node("out", Linear(30, 5), ("fc",)),
    ]
    model = Model(nodes, input_shape=(1, 6, 6))
    for name, form in model.forms().items():
        w = rng.normal(size=form.shape).astype(np.float32)
        mask = rng.random(w.shape) < rng.choice([0.05, 0.2, 0.6])
        kind = rng.integers(4)
        if kind == 0:
            form = Half(w, mask) if rng.random() < 0.5 else Dense(w)
        elif kind == 1:
            form = Dense(w, mask)
        else:
            k = int(rng.integers(2, 40))
            index = np.where(mask, rng.integers(1, k, w.shape) ** 2 % (k - 1) + 1, 0)
            table = rng.normal(size=k).astype(np.float32)
            form = Codebook(index, Half(table) if kind == 2 else Dense(table), pinned_zero=True)
        model.set_form(name, form)
    return model


@functools.cache
def corpus():
    files = []
    for seed, force in enumerate([None, None, "bitmap", "rice", "bucket", "relative", "context"]):
        files.append(encode(small(seed), force=force))
    long = small(9)  # a stream cut into four, and sections with their own checksums
    long.nodes[4].layer.forms["weight"] = Dense(
        np.random.default_rng(0).normal(size=(30, 64)).astype(np.float32)
    )
    big = Model([Node("fc", Linear(400, 200))], input_shape=(400,))
    big.set_form(
        "fc.weight",
        Codebook(
            np.random.default_rng(0).geometric(0.2, (200, 400)) % 32,
            np.linspace(-1, 1, 32).astype(np.float32),
        ),
    )
    built = DepthwiseNet32(width=0.25, classes=3, rng=np.random.default_rng(0))
    return [*files, encode(long), encode(big), encode(built)]


def rechecked(data):
    # The file with every checksum that can be found made right.
    data = bytearray(data)
    if len(data) > 8 and data[3] & 1:
        at = 4
        for number in range(100):
            n = shift = 0
            while at < len(data) - 4 and shift < 42:
                n, at, more = n | (data[at] & 127) << shift, at + 1, data[at] > 127
                shift += 7
                if not more:
                    break
            if at + n > len(data) - 4:
                break
            at += n
            if number:  # the header has no checksum of its own
                data[at : at + 4] = zlib.crc32(data[at - n : at]).to_bytes(4, "little")
                at += 4
    if len(data) >= 4:
        data[-4:] = zlib.crc32(data[:-4]).to_bytes(4, "little")
    return bytes(data)


def mutant(data, others, rng):
    data = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 3, 8])):
        what, at = rng.randrange(7), rng.randrange(len(data))
        if what <= 1:
            data[at] ^= 1 << rng.randrange(8)
        elif what == 2:
            data[at] = rng.choice([0, 1, 127, 128, 255])
        elif what == 3:
            del data[at : at + rng.choice([1, 2, 10, 1000])]
        elif what == 4:
            data[at:at] = bytes(rng.randrange(256) for _ in range(rng.choice([1, 2, 10])))
        elif what == 5:
            other = rng.choice(others)
            start, n = rng.randrange(len(other)), rng.choice([1, 4, 30, 300])
            data[at : at + n] = other[start : start + n]
        else:
            n = rng.choice([1, 4, 30])
            data[at : at + n] = bytes([rng.choice([0, 255])]) * n
        if not data:
            data = bytearray(b"M")
    return bytes(data) if rng.random() < 0.1 else rechecked(data)


# What a message may have: all kinds of layers that there are, and a name cut short.
SAID = 200 + len(", ".join(LAYERS))


def try_decode(data, memory=False):
    # Returns whether it decoded; anything but FormatError escapes and fails the test.
    start = time.process_time()
    if memory:
        tracemalloc.start()
    try:
        shown = decode(data, MAX_BYTES)
        assert sum(shown.parts().values()) == len(data)
        assert all(np.isfinite(form.dense().data).all() for form in shown.model.forms().values())
        decoded = True
    except FormatError as e:
        assert str(e) and len(str(e)) < SAID
        decoded = False
    finally:
        if memory:
            assert tracemalloc.get_traced_memory()[1] < PEAK
            tracemalloc.stop()
    assert time.process_time() - start < SECONDS
    return decoded


def fuzz(files, mutants, seed):
    rng, decoded = random.Random(seed), 0
    for i in range(mutants):
        decoded += try_decode(mutant(rng.choice(files), files, rng), memory=i % 20 == 0)
    return decoded


def test_damaged_files_raise_format_error_only():
    decoded = fuzz(corpus(), 1000, seed=1)
    assert 0 < decoded < 800  # mutants reach the values, and most are refused


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_many_damaged_files_raise_format_error_only(seed):
    fuzz(corpus(), 20_000, seed=100 + seed)


def test_every_truncation_and_every_flipped_bit_is_noticed():
    data = encode(small(3))
    for n in range(len(data)):
        assert not try_decode(data[:n])
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        assert not try_decode(bytes(damaged))  # a CRC-32 finds every single bit


VALUES = [
    -1,
    0,
    1,
    2,
    3,
    255,
    2**16,
    2**31,
    2**53,
    2**64,
    10**40,
    0.5,
    -0.0,
    1e308,
    True,
    False,
    None,
    "x",
    "",
    [],
    {},
    [1],
    [1, 1],
    [10**9, 10**9],
    "builtin",
    "conv",
    "\x1b[31m",
    "a" * 200,
    {"a": 1},
]


def spoiled(header, rng):
    # The header with one place of the tree replaced, removed, doubled or moved.
    header = json.loads(json.dumps(header))
    place = header
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            return header
        key = rng.choice(keys)
        if isinstance(place[key], (dict, list)) and rng.random() < 0.8:
            place = place[key]
            continue
        what = rng.randrange(5)
        if what <= 1:
            place[key] = rng.choice(VALUES)
        elif what == 2:
            del place[key]
        elif isinstance(place, list):
            place.insert(
                rng.randrange(len(place) + 1), rng.choice([place[key], rng.choice(VALUES)])
            )
        else:
            place[
                rng.choice(
                    [
                        "bias",
                        "groups",
                        "padding",
                        "stride",
                        "origin",
                        "data",
                        "nodes",
                        "builtin",
                        "args",
                        "x",
                    ]
                )
            ] = rng.choice([place[key], rng.choice(VALUES)])
        return header


def reheaded(data, header):
    packed = header if isinstance(header, bytes) else write_header(header, dictionary=MODELS)
    old = Opened(data, "model").header
    return rechecked(
        data[:4] + _length(len(packed)) + packed + data[4 + len(_length(len(old))) + len(old) :]
    )


def fuzz_headers(mutants, seed):
    rng, files = random.Random(seed), corpus()
    for i in range(mutants):
        data = rng.choice(files)
        header = read_header(Opened(data, "model").header, MODELS)
        for _ in range(rng.choice([1, 1, 2, 4])):
            header = spoiled(header, rng)
        try_decode(reheaded(data, header), memory=i % 20 == 0)


def test_spoiled_architectures_raise_format_error_only():
    fuzz_headers(500, seed=2)


@pytest.mark.slow
def test_many_spoiled_architectures_raise_format_error_only():
    fuzz_headers(20_000, seed=3)


def deflated(text):
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(text) + packer.flush()


@pytest.mark.parametrize(
    "text, match",
    [
        (b"[" * 100_000, "nest"),
        (b'{"a":' * 17 + b"1" + b"}" * 17, "nest"),
        (b"[1]", "object"),
        (b"", "JSON"),
        (b'{"builtin":"lenet5","builtin":"lenet5"}', "twice"),
        (b'{"a":NaN}', "NaN"),
        (b'{"a":-Infinity}', "Infinity"),
        (b'{"a":1e999}', "2\\*\\*53"),
        (b'{"a":' + b"9" * 5000 + b"}", "2\\*\\*53"),
        (b'{"a":9007199254740993}', "must be"),
        (b"\xff", "JSON"),
        (b'{"a":1} x', "JSON"),
        (b" " * (2**20 + 1), "1048576"),
        (b'{"builtin":"vgg"}', "one of"),
        (b'{"builtin":"lenet300","args":{"x":1}}', "must be among classes, channels"),
        (b'{"builtin":"lenet300","origin":-1}', "origin"),
        (b'{"builtin":"lenet300","origin":true}', "origin"),
        (b'{"builtin":"lenet300","origin":1.5}', "origin"),
        (b'{"builtin":["lenet300"]}', "one of"),
        (b'{"nodes":3}', "architecture"),
        (b"{}", "architecture"),
    ],
)
def test_headers_that_break_the_rules(text, match):
    with pytest.raises(FormatError, match=match):
        decode(reheaded(corpus()[0], deflated(text)), 2**26)


def test_a_header_that_inflates_a_thousandfold_is_refused_early():
    data = reheaded(corpus()[0], deflated(b" " * 2**28))
    assert len(data) < 2**19
    tracemalloc.start()
    with pytest.raises(FormatError, match="1048576"):
        decode(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**24


def test_a_header_of_broken_deflate_is_refused():
    for packed in (b"", b"\xff\xff", deflated(b"{}")[:-1], deflated(b"{}") + b"\0"):
        with pytest.raises(FormatError, match="header"):
            decode(reheaded(corpus()[0], packed))
