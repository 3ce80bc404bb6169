# Files that are made to cost much, mislead or crash: refused early, by name, in bounded memory.
import json
import re
import tracemalloc
import zlib

import numpy as np
import pytest

from minicomp import load
from minicomp.codec import Choice, decode, encode, huffman, positions, streams
from minicomp.codec.bits import BitReader, BitWriter, Budget, bits_needed
from minicomp.codec.envelope import seal
from minicomp.codec.header import MAX_DEPTH, parse_json, read_header, write_header
from minicomp.errors import FormatError, UserError, format_errors
from minicomp.models import LeNet300
from minicomp.nn import Codebook, Dense, Linear, Model, Node
from minicomp.nn.forms import Half
from minicomp.nn.graph import MAX_NODES

MIB = 2**20


def deflated(text):
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(text.encode()) + packer.flush()


def model_file(nodes, shape=(4,), sections=(), **more):
    header = {"input": list(shape), "nodes": nodes} | more
    return seal("model", deflated(json.dumps(header)), list(sections))


# ----------------------------------------------------------------------------------- the header


@pytest.mark.parametrize("text, deep", [
    ('{"a":"' + "[" * 100 + '"}', False),
    ('{"a":"' + '\\"[' * 100 + '"}', False),
    ('{"a":"\\\\","b":' + "[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1) + "}", False),
    ('{"a":"\\\\","b":' + "[" * MAX_DEPTH + "]" * MAX_DEPTH + "}", True),
    ('{"a":"\\\\\\"[[","b":' + "[" * MAX_DEPTH + "]" * MAX_DEPTH + "}", True),
    ('{"a":' * (MAX_DEPTH + 1) + "1" + "}" * (MAX_DEPTH + 1), True),
    ('{"[[[[[[[[[[[[[[[[[[[[":1}', False),
])
def test_only_brackets_outside_of_texts_count_as_depth(text, deep):
    if deep:
        with pytest.raises(FormatError, match=f"nest at most {MAX_DEPTH}"):
            parse_json(text.encode())
    else:
        assert parse_json(text.encode()) == json.loads(text)


def test_the_objects_of_a_header_are_bounded_by_max_bytes():
    text = '{"input":[' + "[0]," * 8000 + "0]}"
    with pytest.raises(FormatError, match="at most 16384 bytes"):
        read_header(deflated(text), max_bytes=32 * 16384)
    tracemalloc.start()
    assert len(read_header(deflated(text), max_bytes=32 * len(text))["input"]) == 8001
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 32 * len(text)


# ----------------------------------------------------------------------------------- sizes

HUGE = [2**31, 2**53, [1], "3", None, True, 1.5, -1, {}]


@pytest.mark.parametrize("value", HUGE)
@pytest.mark.parametrize("kind, args, name", [
    ("Linear", {"in_features": 4, "out_features": 3}, "in_features"),
    ("Linear", {"in_features": 4, "out_features": 3}, "out_features"),
    ("Conv2d", {"in_channels": 1, "out_channels": 1, "kernel_size": 1}, "in_channels"),
    ("Conv2d", {"in_channels": 1, "out_channels": 1, "kernel_size": 1}, "kernel_size"),
    ("Conv2d", {"in_channels": 1, "out_channels": 1, "kernel_size": 1, "groups": 1}, "groups"),
    ("BatchNorm1d", {"num_features": 4}, "num_features"),
    ("MaxPool2d", {"kernel_size": 1}, "kernel_size"),
    ("MaxPool2d", {"kernel_size": 1, "padding": 0}, "padding"),
    ("AdaptiveAvgPool2d", {"output_size": 1}, "output_size"),
    ("ChannelShuffle", {"groups": 1}, "groups"),
    ("ActTopK", {"k": 1}, "k"),
])
def test_sizes_are_checked_before_they_are_used(kind, args, name, value, monkeypatch):
    def allocate(*_, **__):
        raise AssertionError("allocated")

    for made in ("zeros", "ones", "empty"):
        monkeypatch.setattr(np, made, allocate)
    with pytest.raises(FormatError, match=f"node 0: {name} must be an integer") as caught:
        decode(model_file([["a", kind, args | {name: value}, ["x"]]]))
    assert caught.value.__cause__ is None  # found by a check, not by the outer door


def test_in_features_of_200_million_times_a_list_is_refused_by_name():
    nodes = [["f", "Linear", {"in_features": 200_000_000, "out_features": [1]}, ["x"]]]
    with pytest.raises(FormatError, match=r"out_features must be an integer .*, got \[1\]"):
        decode(model_file(nodes))


@pytest.mark.parametrize("entry, says", [
    (3, "a node must be a list of its name"),
    ([], "a node must be a list of its name"),
    (["a", "ReLU", {}], "a node must be a list of its name"),
    (["a", "ReLU", {}, "x"], "a text, a text, an object and a list of texts"),
    (["a", "ReLU", {}, [["x"]]], "a list of texts"),
    (["a", "ReLU", [], ["x"]], "a list of texts"),
    ([3, "ReLU", {}, ["x"]], "a list of texts"),
    (["a", "RLU", {}, ["x"]], "no layer of kind 'RLU'; did you mean ReLU"),
    (["a", ["ReLU"], {}, ["x"]], r"no layer of kind \['ReLU'\]"),
    (["a", "ReLU", {"k": 1}, ["x"]], "ReLU takes no arguments, got k"),
    (["a", "Linear", {"in_features": 4}, ["x"]],
     "Linear takes bias, in_features, out_features, got in_features"),
    (["a", "ActTopK", {"\x1b[31m" * 100: 1}, ["x"]], r"ActTopK takes k, got \\x1b.*letters"),
    (["\x1b[31m", "ReLU", {}, ["x"]], r"node names must .*, got '\\x1b\[31m'"),
    (["n" * 500_000, "ReLU", {}, ["x"]], r"node names must .*letters"),
    (["a", "Add", {}, ["x"] * 1001], "a: a node has at most 1000 inputs, got 1001"),
    (["a", "Add", {}, ["\x1b" * 900]], r"inputs must be earlier nodes, got \\x1b.*letters"),
    (["a", "Dropout", {"p": "0.5"}, ["x"]], r"p must be in \[0, 1\), got '0.5'"),
    (["a", "BatchNorm1d", {"num_features": 4, "eps": [0]}, ["x"]], r"eps must be a float in"),
])
def test_nodes_that_are_none(entry, says):
    with pytest.raises(FormatError, match=says) as caught:
        decode(model_file([entry]), 64 * MIB)
    assert caught.value.__cause__ is None
    assert len(str(caught.value)) < 600 and str(caught.value).isprintable()


def test_a_net_has_at_most_so_many_nodes():
    nodes = [[f"n{i}", "ReLU", {}, ["x"]] for i in range(MAX_NODES + 1)]
    assert len(decode(model_file(nodes[:-1])).model.nodes) == MAX_NODES
    with pytest.raises(FormatError, match=f"at most {MAX_NODES} nodes, declared {MAX_NODES + 1}"):
        decode(model_file(nodes))


def test_shapes_that_double_are_bounded():
    # each joins the one before to itself: more entries than there are digits for
    nodes = [[f"n{i}", "Concat", {}, [f"n{i - 1}" if i else "x"] * 2] for i in range(1000)]
    with pytest.raises(FormatError, match="n38: an array must take at most 4398046511104 bytes"):
        decode(model_file(nodes))
    pools = [["a", "AdaptiveAvgPool2d", {"output_size": 2**31 - 1}, ["x"]]]
    with pytest.raises(FormatError, match="a: an array must take at most"):
        decode(model_file(pools, (1, 2, 2)))
    with pytest.raises(FormatError, match="an array must take at most"):
        decode(model_file([], (2**20, 2**20, 2)))


@pytest.mark.parametrize("origin", [3, 2**16 * 48 + 1, 2034605659530, 2**53, -4, 4.5, True, "9"])
def test_an_origin_must_be_believable(origin):
    linear = ["fc", "Linear", {"in_features": 4, "out_features": 3, "bias": False}, ["x"]]
    with pytest.raises(FormatError, match=r"origin must be an integer in \[4, 3145728\]"):
        decode(model_file([linear], origin=origin))


def test_what_is_saved_has_an_origin_that_is_believed():
    model = Model([Node("fc", Linear(4, 3, bias=False))], input_shape=(4,))
    model.origin_bytes = 2**16 * 48
    assert decode(encode(model)).model.origin_bytes == 2**16 * 48
    model.origin_bytes += 1
    with pytest.raises(UserError, match=r"origin_bytes must be in \[4, 3145728\], got 3145729"):
        encode(model)


@pytest.mark.parametrize("more", [{"weights": 1}, {"\x1b[31m" * 200: 1}])
def test_words_that_a_header_does_not_have_are_refused(more):
    with pytest.raises(FormatError, match="a header holds .*input, nodes, origin, got") as caught:
        decode(model_file([["a", "ReLU", {}, ["x"]]], **more))
    assert str(caught.value).isprintable() and len(str(caught.value)) < 300


# ----------------------------------------------------------------------------------- memory


def lone(w, size, symbol=0):
    # Any number of symbols that are all the same, in no bits.
    lengths = np.zeros(size, np.uint8)
    lengths[symbol] = 1
    w.write(1, 2)
    huffman.write_table(w, lengths)


def section(kind, n, layout="all", order=0):
    w = BitWriter()
    k = int(kind) if kind.isdigit() else 0
    w.count({"dense": 0, "half": 1}.get(kind, 2))
    if k:
        w.count(k - 1)
        w.write(0, 1)
        w.count(0)
        for _ in range(4):
            lone(w, 256)
    w.write(positions.LAYOUTS[layout], 3)
    w.write(order, 1)
    if layout == "bitmap":
        w.bits(np.ones(n, np.uint8))
    if layout == "context":
        for count in (n, 0, 0):
            w.count(count)
    if layout == "mixed":  # all kept, of one code: nothing is coded
        w.write(n, bits_needed(n + 1))
        w.write(0, 3)
        w.count(0)
    for _ in range({"dense": 4, "half": 2}.get(kind, 1)):
        if k != 1:
            lone(w, k or 256)
    return w.getvalue()


CHEAP = [("dense", "all", 0), ("dense", "all", 1), ("half", "all", 0), ("1", "all", 0),
         ("2", "all", 0), ("256", "all", 1), ("257", "all", 0), ("4096", "all", 1),
         ("dense", "bitmap", 0), ("dense", "context", 0), ("dense", "context", 1),
         ("half", "context", 0), ("dense", "mixed", 0)]


@pytest.mark.parametrize("kind, layout, order", CHEAP)
def test_few_bytes_that_declare_all_that_is_allowed_take_no_more_than_three_times_that(
        kind, layout, order):
    most = 4 * MIB
    for share in (1, 1.3, 1.6, 2, 4, 8, 16):  # of the weights: larger ones are refused
        rows = int(most / share) // 4096 - 8
        node = ["fc", "Linear", {"in_features": 1024, "out_features": rows, "bias": False}, ["x"]]
        file = model_file([node], (1024,), [section(kind, rows * 1024, layout, order)])
        tracemalloc.start()
        try:
            loaded = decode(file, most) is not None
        except FormatError as e:
            assert re.search("at most 4194304|weights must take|filling bit", str(e)), e
            loaded = False
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 3 * most
        if loaded:
            return
    assert kind == "1" or layout == "context"  # 1: its table is empty; context: nothing is kept so


def test_the_zeros_of_a_net_make_room_for_its_weights():
    node = ["fc", "Linear", {"in_features": 1024, "out_features": 1000, "bias": False}, ["x"]]
    file = model_file([node], (1024,), [section("dense", 1024 * 1000)])
    tracemalloc.start()
    decode(file, 4 * MIB)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2.1 * 4_096_000  # the zeros twice, as they are made; or the weights and a plane


def test_parts_beside_the_weights_count_too():
    # 100 single weights, each with a table of 65,536 centroids, in 40 bytes
    w = BitWriter()
    w.count(2)
    w.count(2**16 - 1)
    w.write(0, 1)
    w.count(0)
    for _ in range(4):
        lone(w, 256)
    w.write(0, 4)
    w.write(0, 2)
    w.numbers(np.zeros(1, int), 16)
    nodes = [[f"n{i}", "Linear", {"in_features": 1, "out_features": 1, "bias": False},
              [f"n{i - 1}" if i else "x"]] for i in range(100)]
    file = model_file(nodes, (1,), [w.getvalue()] * 100)
    assert decode(file, 32 * MIB).model.count() == 100
    with pytest.raises(FormatError, match="must take at most 16777216 bytes, declared 16"):
        decode(file, 16 * MIB)


def test_the_file_counts_too():
    model = LeNet300(rng=np.random.default_rng(0))
    file = encode(model)
    need = len(file) + model.dense_bytes() + model.activation_bytes()
    decode(file, need + MIB)
    with pytest.raises(FormatError, match="the file, its weights and activations must take"):
        decode(file, need - 1)


def test_a_budget_holds_and_allows():
    budget = Budget(100)
    budget.hold(60)
    budget.allow(100)
    assert budget.left == 40
    with pytest.raises(FormatError, match="at most 100 bytes, declared 101"):
        budget.hold(41)
    with pytest.raises(FormatError, match="decoding needs 101 bytes"):
        budget.allow(101)
    assert budget.held == 60


def test_a_code_of_symbols_that_never_occur_is_refused():
    w = BitWriter()
    lengths = np.full(16, 4, np.uint8)
    w.write(1, 2)
    huffman.write_table(w, lengths)
    data, bits = huffman.encode(np.arange(15), lengths)
    w.bits(np.unpackbits(data, count=bits, bitorder="little"))
    with pytest.raises(FormatError, match="index: a code of 16 symbols for 15"):
        streams.read_symbols(BitReader(w.getvalue()), 15, 16, "index")


# ----------------------------------------------------------------------------------- the doors


def test_the_outer_door_keeps_the_cause():
    for error in (KeyError("a"), MemoryError(), RecursionError("deep"), ZeroDivisionError("\x1b")):
        with pytest.raises(FormatError, match=f"damaged .{type(error).__name__}") as caught:
            with format_errors():
                raise error
        assert caught.value.__cause__ is error and str(caught.value).isprintable()
    for error in (FormatError("own words"), OSError(5, "disk"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as caught:
            with format_errors():
                raise error
        assert caught.value is error


def test_a_bug_of_ours_is_a_damaged_file_to_the_user_and_a_cause_to_us(tmp_path, monkeypatch):
    from minicomp.codec import model as reader

    (tmp_path / "\x1b[31mm.mcz").write_bytes(encode(LeNet300()))
    bug = IndexError("out of range")

    def fails(*_):
        raise bug

    monkeypatch.setattr(reader, "read_sections", fails)
    says = r"x1b\[31mm.mcz: the file is damaged .IndexError"
    with pytest.raises(FormatError, match=says) as caught:
        load(tmp_path / "\x1b[31mm.mcz")
    assert caught.value.__cause__ is bug and str(caught.value).isprintable()


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("layout", [None, *positions.LAYOUTS])
def test_an_order_may_be_asked_of_every_tensor(order, layout):
    # a bias has one axis, hence one order, whatever is asked
    rng = np.random.default_rng(0)
    model = Model([Node("fc", Linear(6, 5))], input_shape=(6,))
    mask = rng.random((5, 6)) < 0.5
    model.set_forms({
        "fc.weight": Dense(rng.normal(size=(5, 6)).astype(np.float32), mask),
        "fc.bias": Half(rng.normal(size=5).astype(np.float32), np.array([1, 0, 1, 0, 1], bool))})
    if layout == "all":
        return  # a kept 0 could not be told from a pruned one
    found = decode(encode(model, force=Choice(layout, order=order))).model
    for name, form in model.forms().items():
        np.testing.assert_array_equal(found.forms()[name].dense().data, form.dense().data)
        np.testing.assert_array_equal(found.forms()[name].mask, form.mask)


@pytest.mark.parametrize("order", [2, -1, "0"])
def test_there_are_two_orders(order):
    with pytest.raises(ValueError, match="order must be 0 or 1, got"):
        Choice(order=order)


def test_shared_weights_of_every_width_come_back():
    # codes are turned in blocks, into the smallest dtype that holds them
    rng = np.random.default_rng(1)
    for k in (2, 255, 256, 257, 5000, 2**16):
        index = rng.integers(0, k, (300, 301))
        model = Model([Node("fc", Linear(301, 300, bias=False))], input_shape=(301,))
        model.set_form("fc.weight", Codebook(index, rng.normal(size=k).astype(np.float32)))
        found = decode(encode(model)).model.forms()["fc.weight"]
        np.testing.assert_array_equal(found.index, model.forms()["fc.weight"].index, strict=True)
    assert write_header({}) and found.k == 2**16
