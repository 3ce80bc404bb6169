# The file of a program: round trips, its size beside the model's, and damage.
import copy
import functools
import itertools
import json
import random
import tracemalloc
import zlib
from types import SimpleNamespace

import numpy as np
import pytest

import minicomp
from minicomp.codec import decode, encode, load, program as codec, save, show
from minicomp.codec.envelope import Opened, seal
from minicomp.codec.header import read_header, write_header
from minicomp.compress.prune.magnitude import Magnitude
from minicomp.compress.prune.nm import NM
from minicomp.compress.quant.fold_bn import FoldBN
from minicomp.compress.quant.ptq import PTQ
from minicomp.compress.share.kmeans import KMeans
from minicomp.compress.technique import Run
from minicomp.deploy import Program, lower
from minicomp.errors import FormatError, UserError
from minicomp.models import MODELS
from minicomp.nn import layers as nn
from minicomp.nn.forms import Affine, Dense, Half
from minicomp.nn.graph import Model, Node

FORMS = ("dense", "half", "n:m", "pruned", "shared")
NETS = list(MODELS)
CASES = [(name, how) for name in [*NETS[:5], "wired"] for how in FORMS]
CASES += list(zip(NETS[5:], itertools.cycle(FORMS[3:] + FORMS[:3])))  # the same layers: a form each
MAX_BYTES = 2**20
PEAK = 24 * MAX_BYTES  # bytes that decoding may hold at a time


def trained(model):
    # Biases and running statistics as of a trained net.
    rng = np.random.default_rng(1)
    for name, form in model.forms().items():
        if len(form.shape) == 1:
            model.set_form(name, Dense(rng.normal(size=form.shape).astype(np.float32)))
    for a in model.buffers().values():
        a[...] = rng.uniform(0.5, 1.5, a.shape)
    return model


def formed(model, how):
    run = Run(np.random.default_rng(0))
    if how == "half":
        for name, form in model.forms().items():
            model.set_form(name, Half(form.dense().data))
    elif how == "n:m":
        model = NM(n=1, m=4, skip=True).apply(model, None, run)
    elif how != "dense":
        model = Magnitude(sparsity=0.9).apply(model, None, run)
        model = KMeans(bits=4).apply(model, None, run) if how == "shared" else model
    return model


def wired():
    # A net with two inputs to a step, batch norm on its own, and arguments of every type.
    rng = np.random.default_rng(0)
    nodes = [
        Node("conv", nn.Conv2d(2, 4, 3, padding=1, groups=2)),
        Node("bn", nn.BatchNorm2d(4), ("conv",)),
        Node("pool", nn.AvgPool2d(3, 1, padding=1), ("bn",)),
        Node("bn2", nn.BatchNorm2d(4), ("pool",)),
        Node("add", nn.Add(), ("bn", "bn2")),
        Node("relu", nn.ReLU(), ("add",)),
        Node("concat", nn.Concat(), ("relu", "bn")),
        Node("cut", nn.ActThreshold(0.5), ("concat",)),
        Node("flatten", nn.Flatten(), ("cut",)),
        Node("fc", nn.Linear(72, 3, bias=False), ("flatten",)),
    ]
    model = trained(Model(nodes, input_shape=(2, 3, 3)))
    for name, form in model.forms().items():
        if len(form.shape) > 1:
            w = rng.normal(size=form.shape).astype(np.float32)
            model.set_form(name, Dense(w, rng.random(w.shape) < 0.3))
    return model


def same(a, b):
    # Equal steps, and weights equal in kind and bits.
    assert [(s.name, s.kind, s.inputs, s.args) for s in a.steps] == [
        (s.name, s.kind, s.inputs, s.args) for s in b.steps]
    for attribute in ("input_shape", "precision", "origin_bytes"):
        assert getattr(a, attribute) == getattr(b, attribute)
    ours, theirs = a.forms(), b.forms()
    assert list(ours) == list(theirs)
    for name, form in ours.items():
        assert form.kind == theirs[name].kind and not theirs[name].trainable
        x, y = form.dense().data, theirs[name].dense().data
        np.testing.assert_array_equal(x.view(np.uint32), y.view(np.uint32), name)


@pytest.mark.parametrize("name, how", CASES)
def test_what_was_saved_is_loaded(name, how, tmp_path, built_in):
    rng = np.random.default_rng(0)
    model = formed(wired() if name == "wired" else trained(built_in(name, rng=rng)), how)
    made = lower(model)
    size = minicomp.save(made, tmp_path / "p.mcz")
    again = minicomp.load(tmp_path / "p.mcz")
    assert isinstance(again, Program) and size == (tmp_path / "p.mcz").stat().st_size
    same(made, again)
    x = rng.normal(size=(3, *model.input_shape)).astype(np.float32)
    np.testing.assert_array_equal(made(x), again(x), strict=True)
    if name != "wired":  # whose header is a list of nodes in both, and most of so small a file
        assert size <= 1.02 * len(encode(model))
    assert encode(again) == encode(made) == (tmp_path / "p.mcz").read_bytes()


def quantized(model, seed=0):
    x = np.random.default_rng(seed).random((40, *model.input_shape)).astype(np.float32)
    data = SimpleNamespace(train=SimpleNamespace(x=x, y=np.zeros(len(x), np.int64)),
                           calibration=lambda n, rng: x)
    run = Run(np.random.default_rng(0))
    return PTQ().apply(FoldBN().apply(model, None, run), data, run), x


@pytest.mark.parametrize("name", ["lenet5", "lenet5classic", "depthwise32"])
@pytest.mark.parametrize("rule", [{}, {"rounding": "gemmlowp"},
                                  {"rounding": "float", "zero_first": True}])
def test_integer_programs_are_loaded_as_they_were(name, rule):
    model, x = quantized(trained(MODELS[name](rng=np.random.default_rng(0))))
    made = lower(model, precision="int8", **rule)
    data = encode(made)
    again = decode(data).model
    same(made, again)
    assert again.integer and (again.rounding, again.zero_first) == (
        rule.get("rounding", "single"), rule.get("zero_first", False))
    np.testing.assert_array_equal(
        again.plan(40).integers(x), made.plan(40).integers(x), strict=True)
    assert encode(again) == data and len(data) <= 1.02 * len(encode(model))


@functools.cache
def small_integers():
    # An integer program with a gain, a grid of each kind, a sum and a table.
    model = Model([
        Node("x_q", nn.ActQuant(8, zero_point=True)),
        Node("conv", nn.Conv2d(2, 3, 3, padding=1, bias=False), ("x_q",)),
        Node("bn", nn.BatchNorm2d(3), ("conv",)),
        Node("conv_q", nn.ActQuant(8, "full", zero_point=True), ("bn",)),
        Node("tanh", nn.Tanh(), ("conv_q",)), Node("tanh_q", nn.ActQuant(4, "narrow"), ("tanh",)),
        Node("add", nn.Add(), ("tanh_q", "conv_q")), Node("add_q", nn.ActQuant(8), ("add",)),
        Node("flatten", nn.Flatten(), ("add_q",)), Node("fc", nn.Linear(27, 4), ("flatten",)),
    ], input_shape=(2, 3, 3))
    rng = np.random.default_rng(0)
    for name in ("conv.weight", "fc.weight"):
        q = rng.integers(-7, 8, model.forms()[name].shape)
        model.set_form(name, Affine(q, rng.uniform(0.5, 1, len(q)), bits=4))
    trained(model)
    for node in model.nodes:
        if isinstance(node.layer, nn.ActQuant):
            node.layer.set_range(-2.0, 1.0)
    return encode(lower(model, precision="int8"))


@pytest.mark.parametrize("values", [1, pytest.param(64, marks=pytest.mark.slow)])
def test_damaged_integer_programs_are_refused_or_whole(values):
    rng, data, taken = random.Random(1), small_integers(), 0
    assert tried(data).integer
    for n in range(0, len(data), 3):
        assert tried(data[:n]) is None
    for at in range(4, len(data) - 4):
        for value in rng.sample(range(256), values):
            damaged = bytearray(data)
            damaged[at] = value
            made = tried(rechecked(damaged), memory=at % 50 == 0)
            if made is not None and made.integer and made.operations() < 10**6:
                taken += 1
                made.plan().integers(np.zeros((1, *made.input_shape)))
    assert taken > 20


def test_where_the_bytes_went_is_said(tmp_path):
    model = formed(MODELS["lenet5classic"](rng=np.random.default_rng(0)), "shared")
    made = lower(model)
    shown = decode(encode(made))
    assert sum(shown.parts().values()) == shown.file_bytes == len(encode(made))
    assert set(shown.by_layer()) == {s.name for s in made.steps} | {""}
    ours = {row.name: row.bytes for row in shown.rows}
    assert ours == {row.name: row.bytes for row in decode(encode(model)).rows}
    assert shown.ratio == model.origin_bytes / len(encode(made))
    save(made, tmp_path / "p.mcz")
    assert show(tmp_path / "p.mcz").parts() == shown.parts()


def test_the_origin_of_a_model_stays():
    model = MODELS["lenet300"](rng=np.random.default_rng(0))
    model.origin_bytes = 12345
    assert decode(encode(lower(model))).model.origin_bytes == 12345


def test_a_layout_can_be_forced():
    made = lower(formed(MODELS["lenet5classic"](rng=np.random.default_rng(0)), "pruned"))
    data = encode(made, force={"fc*.weight": "bitmap"})
    how = {r.name: r.how.split(",")[0] for r in decode(data).rows}
    assert {how[f"fc{i}.weight"] for i in (1, 2, 3)} == {"bitmap"}
    same(made, decode(data).model)
    with pytest.raises(UserError, match="pattern 'gf' matches no form; there are conv1.weight"):
        encode(made, force={"gf": "bitmap"})


def test_a_kind_is_not_taken_for_the_other(tmp_path):
    model = MODELS["lenet300"](rng=np.random.default_rng(0))
    save(model, tmp_path / "m.mcz")
    save(lower(model), tmp_path / "p.mcz")
    assert isinstance(load(tmp_path / "m.mcz"), Model)
    assert isinstance(load(tmp_path / "p.mcz"), Program)
    with pytest.raises(FormatError, match="p.mcz: a model is wanted, got a program"):
        load(tmp_path / "p.mcz", kind="model")
    with pytest.raises(FormatError, match="m.mcz: a program is wanted, got a model"):
        load(tmp_path / "m.mcz", kind="program")


def test_nan_is_refused():
    made = lower(MODELS["lenet300"](rng=np.random.default_rng(0)))
    made.forms()["fc2.bias"].value.data[3] = np.nan
    with pytest.raises(UserError, match="fc2.bias: value must be finite"):
        encode(made)


def test_a_file_takes_no_more_than_max_bytes(tmp_path):
    made = lower(MODELS["lenet300"](rng=np.random.default_rng(0)))
    save(made, tmp_path / "p.mcz")
    with pytest.raises(FormatError, match="must take at most 1000 bytes"):
        load(tmp_path / "p.mcz", 1000)
    with pytest.raises(FormatError, match="weights and activations must take at most 1000000 b"):
        decode(encode(made), 1_000_000)


# ---------------------------------------------------------------------------------------- damage


@functools.cache
def small():
    return encode(lower(wired()))


def tried(data, memory=False):
    # Returns the program, or None where the file was refused; anything but FormatError escapes.
    if memory:
        tracemalloc.start()
    try:
        shown = decode(bytes(data), MAX_BYTES, kind="program")
        assert sum(shown.parts().values()) == len(data)
        assert all(np.isfinite(f.dense().data).all() for f in shown.model.forms().values())
        return shown.model
    except FormatError as e:
        assert str(e) and len(str(e)) < 500
    finally:
        if memory:
            assert tracemalloc.get_traced_memory()[1] < PEAK
            tracemalloc.stop()


def rechecked(data):
    return bytes(data[:-4]) + zlib.crc32(bytes(data[:-4])).to_bytes(4, "little")


def test_every_truncation_and_every_flipped_bit_is_noticed():
    data = small()
    assert tried(data) is not None
    for n in range(len(data)):
        assert tried(data[:n]) is None
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        assert tried(damaged) is None  # a CRC-32 finds every single bit


@pytest.mark.parametrize("values", [2, pytest.param(255, marks=pytest.mark.slow)])
def test_every_byte_may_be_any_other_where_the_checksum_is_right(values):
    # Then it is the parser that meets the damage: FormatError, or a program that fits together.
    rng, data, taken = random.Random(1), small(), 0
    for at in range(4, len(data) - 4):
        for value in rng.sample(range(256), values):
            damaged = bytearray(data)
            damaged[at] = value
            made = tried(rechecked(damaged), memory=at % 50 == 0)
            if made is not None:
                taken += 1
                shapes = made.shapes()
                assert {n: f.shape for n, f in made.forms().items()} == {
                    f"{s.name}.{p}": n for s in made.steps for p, n in s.parts(shapes).items()}
    assert taken > 100


def header():
    return copy.deepcopy(read_header(Opened(small(), "program").header, kind="program"))


def reheaded(changed):
    opened = Opened(small(), "program")
    sections = [opened.section(name) for name in lower(wired()).forms()]
    return seal("program", write_header(changed, "program"), sections)


def changed(path, value):
    made = place = header()
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return made


def test_the_header_is_read_as_it_was_written():
    assert reheaded(header()) == small()
    assert header()["steps"][0] == [
        "conv", "conv",
        {"out_channels": 4, "kernel_size": [3, 3], "padding": [1, 1], "groups": 2, "gain": True},
        ["x"]]


@pytest.mark.parametrize("path, value, says", [
    (["precision"], "int4",
     "precision must be one of float, weight-only, int8-dynamic, int8, binary, got"),
    (["precision"], "int8", "the input is on no grid: an integer program needs a quantize step"),
    (["precision"], "int8-dynamic", "conv: an int8-dynamic program needs a quantize step"),
    (["precision"], "weight-only", "needs weights that are stored as integers"),
    (["rounding"], "float", "rounding and zero_first go with precision int8, got float"),
    (["rounding"], ["single"], "rounding must be one of single, gemmlowp, float"),
    (["zero_first"], 1, "zero_first must be true or false"),
    (["precision"], ["float"], "precision must be one of"),
    (["input"], [2, 3], "input must be|needs an input"),
    (["input"], [2, 3, 0], r"input must be an integer in \[1"),
    (["input"], [2, 3, True], "input must be an integer"),
    (["input"], 7, "input must be a list of sizes"),
    (["input"], [3, 3, 3], "groups must divide 3 and 4"),
    (["input"], [2, 10**5, 10**5], "weights and activations must take at most 1048576 bytes"),
    (["input"], [2, 10**6, 10**6], "an array must take at most 4398046511104 bytes"),
    (["input"], [2**31, 3, 3], r"input must be an integer in \[1, 2147483647\]"),
    (["origin"], -1, "origin must be"),
    (["origin"], 1.5, "origin must be"),
    (["more"], 1, "a header holds data, input, origin, precision, rounding, steps, zero_first"),
    (["origin"], 2**40, r"origin must be an integer in \[4, "),
    (["steps"], 3, "steps a list"),
    (["steps"], {"a": 1}, "steps a list"),
    (["steps"], [["a", "relu", {}, ["x"]]] * 1025, "at most 1024 steps, got 1025"),
    (["steps", 0], ["conv", "conv"], "a step is a name, a kind, an object and a list"),
    (["steps", 3, 3], ["conv"] * 1001, "at most 1000 inputs, got 1001"),
    (["steps", 0, 0], "x", "and not be x"),
    (["steps", 0, 0], "\x1b[31m", "names of steps must match"),
    (["steps", 0, 0], 3, "names of steps must match"),
    (["steps", 1, 0], "conv", "there are two steps of that name"),
    (["steps", 0, 1], "winograd", "no step of kind 'winograd'"),
    (["steps", 0, 1], ["conv"], "no step of kind"),
    (["steps", 0, 1], "linear", "a linear takes out_features"),
    (["steps", 0, 2], [], "a step is a name, a kind, an object and a list"),
    (["steps", 0, 2, "out_channels"], 0, "out_channels must be"),
    (["steps", 0, 2, "out_channels"], 2**30, "at most 1048576 bytes"),
    (["steps", 0, 2, "out_channels"], 2**40, r"out_channels must be an integer below 2\*\*31"),
    (["steps", 0, 2, "kernel_size"], [9, 9], "does not fit"),
    (["steps", 0, 2, "kernel_size"], [3], "kernel_size must be"),
    (["steps", 0, 2, "padding"], [2**30, 1], "at most 1048576 bytes"),
    (["steps", 0, 2, "padding"], [2**40, 1], r"padding must be .* below 2\*\*31"),
    (["steps", 0, 2, "gain"], 1, "gain must be true or false"),
    (["steps", 0, 2, "then"], "relu9", "then must be one of"),
    (["steps", 0, 2, "dilation"], 2, "a conv takes"),
    (["steps", 0, 3], "x", "a step is a name, a kind, an object and a list"),
    (["steps", 0, 3], [], "inputs must be earlier steps, got none"),
    (["steps", 0, 3], ["pool"], "inputs must be earlier steps, got pool"),
    (["steps", 0, 3], [["x"]], "inputs must be earlier steps"),
    (["steps", 0, 3], ["x", "x"], "a conv takes 1 input, got 2"),
    (["steps", 3, 3], ["conv", "x"], "add needs equal shapes"),
    (["input"], [2, 3], "input must be .* got 2 sizes"),
    (["input"], [], "input must be .* got 0 sizes"),
    (["input"], [1, 2, 3, 4], "input must be .* got 4 sizes"),
])
def test_headers_that_break_the_rules(path, value, says):
    with pytest.raises(FormatError, match=says):
        decode(reheaded(changed(path, value)), 2**23 if path == ["steps"] else MAX_BYTES)


def test_what_a_step_pads_counts_though_its_output_is_small():
    made = header()
    made["steps"][0][2] |= {"padding": [600, 600], "stride": [1300, 1300]}  # of 3 x 3 to 1 x 1
    with pytest.raises(FormatError, match="at most 1048576 bytes, declared 11"):
        decode(reheaded(made), MAX_BYTES)


@pytest.mark.parametrize("key", ["precision", "input", "steps"])
def test_headers_that_leave_something_out(key):
    made = header()
    del made[key]
    left = ", ".join(made)
    with pytest.raises(FormatError, match=f"a header holds .*{key}.*, got {left}"):
        decode(reheaded(made), MAX_BYTES)


def test_a_dictionary_that_there_is_not_is_refused():
    data = bytearray(small())
    data[3] |= 8
    with pytest.raises(FormatError, match="no header dictionary 1"):
        decode(rechecked(data), MAX_BYTES)


def test_the_data_of_the_training_are_handed_on():
    model = wired()
    assert "data" not in header() and decode(small()).model.trained_on is None
    model.trained_on = "fashion_mnist"
    program = lower(model)
    assert program.trained_on == decode(encode(program)).model.trained_on == "fashion_mnist"
    for label in ("a b", 3, None, []):
        with pytest.raises(FormatError, match="^data: the label of a data set must be NAME"):
            decode(reheaded(header() | {"data": label}), MAX_BYTES)


def test_a_section_that_is_missing_or_too_many_is_refused():
    opened = Opened(small(), "program")
    sections = [opened.section(name) for name in lower(wired()).forms()]
    packed = write_header(header(), "program")
    for others in (sections[:-1], [*sections, sections[0]], sections[::-1]):
        assert tried(seal("program", packed, others)) is None


def test_spoiled_headers_raise_format_error_only():
    values = [-1, 0, 1, 3, 2**31, 2**53, 0.5, True, None, "x", "conv", "", [], {}, [1, 1]]
    rng, taken = random.Random(2), 0
    for i in range(400):
        made = place = header()
        while True:
            key = rng.choice(list(place) if isinstance(place, dict) else range(len(place)))
            if isinstance(place[key], (dict, list)) and place[key] and rng.random() < 0.8:
                place = place[key]
                continue
            break
        if rng.random() < 0.7:
            place[key] = rng.choice(values)
        else:
            del place[key]
        taken += tried(reheaded(json.loads(json.dumps(made))), memory=i % 20 == 0) is not None
    assert taken < 200


def test_the_readers_of_one_kind_refuse_the_other():
    with pytest.raises(FormatError, match="a program is wanted, got a model"):
        codec.decode(encode(MODELS["lenet300"]()))
