# Every reader of foreign bytes takes time in proportion to them: 2n against n, n up to the limit.
# What is Python's own work is counted, in operations of the interpreter; what happens inside of a
# regular expression, zlib or NumPy can only be timed, the one timed test there is.
import functools
import gc
import json
import sys
import time
import zlib

import numpy as np
import pytest

from minicomp import nn
from minicomp.codec import decode, encode
from minicomp.codec.bits import BitReader, BitWriter
from minicomp.codec.envelope import seal
from minicomp.codec.forms import read_form, write_form
from minicomp.codec.header import MAX_BYTES, parse_json, read_header
from minicomp.codec.positions import Choice
from minicomp.deploy import lower
from minicomp.errors import FormatError
from minicomp.exchange.safetensors import parse_safetensors
from minicomp.nn import Codebook, Dense, Half, Linear, Model, Node
from minicomp.nn.graph import MAX_NODES

BOUND = 2.3


def net(n, layer=lambda: Linear(2, 2)):
    # n nodes in a row.
    names = ["x", *(f"n{i}" for i in range(n))]
    return Model([Node(name, layer(), (before,)) for before, name in zip(names, names[1:])],
                 input_shape=(2,))


def work(call, *args):
    # Operations of the interpreter.
    count = 0

    def trace(frame, event, arg):
        nonlocal count
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call(*args)
    finally:
        sys.settrace(before)
    return count


def tensors(n):
    header = {f"t{i}": {"dtype": "U8", "shape": [1], "data_offsets": [i, i + 1]} for i in range(n)}
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(n)


LISTS = {
    "a model": (decode, lambda n: encode(net(n))),
    "a model of norms": (decode, lambda n: encode(net(n, lambda: nn.BatchNorm1d(2)))),
    "a program": (decode, lambda n: encode(lower(net(n)))),
    "a model that saves": (encode, net),
    "forms by name": (lambda model: model.frozen().dense().thawed(), net),
    "an edit": (lambda model: model.edit({name: () for name in model.shapes() if name != "x"}),
                lambda n: net(n, nn.ReLU)),
    "safetensors": (parse_safetensors, tensors),
}


@pytest.mark.parametrize("name", LISTS)
def test_twice_the_nodes_are_twice_the_work(name):
    read, made = LISTS[name]
    once, twice = (work(read, made(n)) for n in (12, 24))
    assert once > 500 and twice / once < 2.1


# ------------------------------------------------------------------------------------- timed


def deflated(text):
    packer = zlib.compressobj(1, zlib.DEFLATED, -15)
    return packer.compress(text) + packer.flush()


def refused(read, *args):
    with pytest.raises(FormatError):
        read(*args)


def form_of(kind, layout, n):
    rng = np.random.default_rng(0)
    w, mask = rng.normal(size=(64, n // 64)).astype(np.float32), rng.random((64, n // 64)) < 0.1
    if kind == "shared":
        form = Codebook(np.where(mask, rng.integers(1, 200, w.shape), 0),
                        rng.normal(size=200).astype(np.float32), pinned_zero=True)
    else:
        form = {"dense": Dense, "half": Half}[kind](w, None if layout == "all" else mask)
    writer = BitWriter()
    # The same choices at both sizes: the fewest bits may lie in another order.
    parameter = {"relative": 5, "rice": 3, "bucket": 1}.get(layout)
    write_form(writer, form, Choice(layout, parameter, 0))
    return writer.getvalue(), form.shape


def read_forms(made):
    read_form(BitReader(made[0]), "w", made[1])


# name: (what reads, what makes it of size n, the n that is doubled)
TIMED = {
    "quotes": (lambda data: refused(parse_json, data), lambda n: b'{"a":"' + b'\\"' * n,
               MAX_BYTES // 4),
    "backslashes": (lambda data: refused(parse_json, data), lambda n: b'{"a":"' + b"\\" * (2 * n),
                    MAX_BYTES // 4),
    "strings": (parse_json, lambda n: b'{"a":[' + b'"[",' * n + b"0]}", MAX_BYTES // 10),
    "lists": (parse_json, lambda n: b'{"a":[' + b"[1]," * n + b"0]}", MAX_BYTES // 10),
    "keys": (parse_json, lambda n: b"{" + b",".join(b'"%d":0' % i for i in range(n)) + b"}",
             MAX_BYTES // 24),
    "a deflated header": (lambda data: refused(read_header, data),
                          lambda n: deflated(b" " * n), MAX_BYTES // 2),
    "nodes": (decode, lambda n: encode(net(n)), MAX_NODES // 2),
    "steps": (decode, lambda n: encode(lower(net(n))), MAX_NODES // 2),
    "nodes of many inputs": (lambda data: refused(decode, data), lambda n: seal(
        "model", deflated(json.dumps({"input": [2], "nodes": [
            [f"n{i}", "Add", {}, ["x"] * 250] for i in range(n)] + ["end"]}).encode()), []), 500),
    "arrays": (parse_safetensors, tensors, 20_000),
    **{f"{kind} {layout}": (read_forms, functools.partial(form_of, kind, layout), 2**20)
       for kind in ("dense", "half", "shared")
       for layout in ("all", "bitmap", "relative", "rice", "bucket", "context")},
}


# A hash table of 8 times as many keys takes longer than 8 small ones, for the caches' sake: by as
# much as CPython's own reader takes longer, measured on the same text in the same turns.
TABLES = {
    "keys": lambda data: json.loads(data, object_pairs_hook=dict),
    "arrays": lambda data: json.loads(data[8:8 + int.from_bytes(data[:8], "little")],
                                      object_pairs_hook=dict),
}


def taken(call, made, copies):
    # The time of reading so many copies, whose results are all kept.
    start = time.process_time()
    kept = [call(made) for _ in range(copies)]
    end = time.process_time()
    del kept
    return end - start


@pytest.fixture
def no_collector():
    # Its passes depend on what other tests left in memory.
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.slow
@pytest.mark.parametrize("name", TIMED)
def test_twice_the_bytes_take_at_most_2_3_times_as_long(name, no_collector):
    # In the mean of three doublings: a text 8 times as long against 8 short ones, so that results
    # fill as much memory. What is linear takes as long for both; 2.3 a doubling is 1.5 times, a
    # square 8 times. The least of many, taken in turn: what a busy machine adds goes away with more
    # of them.
    call, make, n = TIMED[name]
    short, long = make(n // 4), make(2 * n)
    runs = [(call, short, 8), (call, long, 1)]
    if name in TABLES:
        runs += [(TABLES[name], short, 8), (TABLES[name], long, 1)]
    least = [float("inf")] * len(runs)
    for turn in range(40):
        least = [min(known, taken(*run)) for known, run in zip(least, runs)]
        ours, *tables = [one / eight for eight, one in zip(least[::2], least[1::2])]
        if turn > 4 and ours / max([1, *tables]) <= (BOUND / 2) ** 3:
            return
    raise AssertionError(f"{ours:.2f} times as long; tables of CPython {tables}; {least}")
