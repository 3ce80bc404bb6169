import os
import re

import numpy as np
import pytest

from minicomp.codec import (
    Choice,
    model as container,
    decode,
    encode,
    load,
    positions,
    save,
    show,
    streams,
)
from minicomp.codec.bits import BitWriter, Budget
from minicomp.codec.envelope import CRC_EACH_FROM, Opened, seal
from minicomp.codec.header import read_header, write_header
from minicomp.errors import FormatError, UserError
from minicomp.models import MODELS, LeNet5, LeNet300
from minicomp.nn.forms import FORMS
from minicomp.nn import (
    Add,
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

LAYOUTS = ["bitmap", "relative", "rice", "bucket", "context"]


def small(rng):
    # an edited model: batch norm, a residual add, layers of 1, 2 and 4 axes
    nodes = [
        Node("conv", Conv2d(1, 6, 3, padding=1)),
        Node("bn", BatchNorm2d(6), ("conv",)),
        Node("relu", ReLU(), ("bn",)),
        Node("conv2", Conv2d(6, 6, 3, padding=1, bias=False), ("relu",)),
        Node("add", Add(), ("conv2", "relu")),
        Node("flatten", Flatten(), ("add",)),
        Node("fc", Linear(216, 7), ("flatten",)),
    ]
    model = Model(nodes, input_shape=(1, 6, 6))
    for name, form in model.forms().items():
        model.set_form(name, Dense(rng.normal(size=form.shape).astype(np.float32)))
    for name, a in model.buffers().items():
        a[...] = np.abs(rng.normal(size=a.shape))
    return model


def pruned(w, sparsity):
    return np.abs(w) > np.quantile(np.abs(w), sparsity)


def shared(w, mask, k, half=False, pinned=True):
    centroids = np.linspace(-2, 2, k).astype(np.float32)
    index = np.abs(w[..., None] - centroids).argmin(-1)
    if pinned:
        centroids[0], index = 0, np.where(mask, np.maximum(index, 1), 0)
    return Codebook(index, Half(centroids) if half else Dense(centroids), pinned_zero=pinned)


def variants(w, rng):
    yield Dense(w)
    yield Half(w)
    for sparsity in (0.0, 0.5, 0.95, 1.0):
        mask = pruned(w, sparsity) if sparsity < 1 else np.zeros(w.shape, bool)
        yield Dense(w, mask)
        yield Half(w, mask)
        for k in (2, 3, 17, 300):
            yield shared(w, mask, k)
            yield shared(w, mask, k, half=True)
    yield Codebook(np.zeros(w.shape, int), np.zeros(1, np.float32), pinned_zero=True)
    yield Codebook(np.zeros(w.shape, int), np.full(1, 3, np.float32))
    yield shared(w, None, 5, pinned=False)
    yield Codebook(rng.integers(0, 5000, w.shape), rng.normal(size=5000).astype(np.float32))


def assert_equal_models(a, b):
    assert list(a.forms()) == list(b.forms())
    for name, form in a.forms().items():
        other = b.forms()[name]
        assert type(form) is type(other), name
        assert form.dense().data.tobytes() == other.dense().data.tobytes(), name
        assert other.dense().data.dtype == np.float32
        assert (form.mask is None) == (other.mask is None), name
        if form.mask is not None:
            np.testing.assert_array_equal(form.mask, other.mask)
        if isinstance(form, Codebook):
            np.testing.assert_array_equal(form.index, other.index, strict=True)
            assert (
                form.centroids.kind == other.centroids.kind
                and form.pinned_zero == other.pinned_zero
            )
        assert not other.trainable
    for name, a_ in a.buffers().items():
        np.testing.assert_array_equal(a_, b.buffers()[name], strict=True)
    assert (
        a.spec() == b.spec() and a.origin_bytes == b.origin_bytes and a.input_shape == b.input_shape
    )


def assert_adds_up(shown, data):
    assert shown.file_bytes == len(data)
    assert sum(row.bytes for row in shown.rows) + shown.buffers + sum(shown.rest.values()) == len(
        data
    )
    assert sum(shown.parts().values()) == len(data)


@pytest.mark.parametrize("number", range(len(list(variants(np.ones(4), np.random.default_rng(0))))))
def test_every_form_in_every_layout_comes_back(number):
    rng = np.random.default_rng(number)
    model = small(rng)
    for name in ("conv.bias", "conv2.weight", "fc.weight"):
        form = list(variants(model.forms()[name].dense().data, rng))[number]
        model.set_form(name, form)
    free = encode(model)
    for force in (None, *LAYOUTS):
        if force == "context" and form.mask is not None and getattr(form, "k", 0) > 257:
            with pytest.raises(UserError, match="at most 256 symbols, got 299"):
                encode(model, force=force)
            continue
        data = free if force is None else encode(model, force=force)
        shown = decode(data)
        assert_equal_models(model, shown.model)
        assert_adds_up(shown, data)
        assert len(free) <= len(data)
        if force and form.mask is not None and getattr(form, "k", 2) > 1:
            assert {
                re.split("[ ,]", row.how)[0] for row in shown.rows if row.name == "fc.weight"
            } == {force}


@pytest.mark.parametrize("name", MODELS)
def test_built_in_models_come_back(name, tmp_path, built_in):
    assert len(write_header({"builtin": name})) <= 20
    model = built_in(name, rng=np.random.default_rng(0))
    path = tmp_path / "m.mcz"
    assert save(model, path) == path.stat().st_size
    assert_equal_models(model, load(path))
    assert show(path).rest["architecture"] <= (50 if model.builtin["args"] else 20)
    x = np.random.default_rng(1).normal(size=(2, *model.input_shape)).astype(np.float32)
    np.testing.assert_array_equal(load(path)(x).data, model(x).data)


def test_values_at_the_edges_come_back():
    w = np.array(
        [[0.0, -0.0, np.float32(1e-45), -np.finfo(np.float32).max, 65504, 1, -1]], np.float32
    )
    for mask in (None, np.array([[1, 1, 1, 1, 1, 0, 0]], bool)):
        model = Model([Node("fc", Linear(7, 1))], input_shape=(7,))
        model.set_form("fc.weight", Dense(w, mask))
        for force in (None, "bitmap", "rice", "bucket"):
            assert_equal_models(model, decode(encode(model, force=force)).model)
    # a kept +0 could not be told from a filler
    with pytest.raises(UserError, match="fc.weight: no layout stores"):
        encode(model, force="relative")


def test_an_empty_file_is_small():
    # 4 + 4 bytes of magic and checksum, 1 + 4 of header, for each of 6 forms a length and 6 bytes
    # of zeros
    assert len(encode(LeNet300())) <= 55
    assert decode(encode(LeNet300())).rest == {"architecture": 4, "envelope": 15}


def test_trained_floats_shrink_without_loss():
    # the exponents of 266,610 weights have few values
    model = LeNet300(rng=np.random.default_rng(0))
    shown = decode(encode(model))
    assert 1.2 < shown.ratio < 1.4


def test_the_overhead_of_deep_compression_is_what_it_says():
    # plain bits at the paper's setting: p = 5, 6-bit codes: bytes = (weights + fillers)(5 + 6) / 8
    # and little else
    rng = np.random.default_rng(0)
    model = LeNet300(rng=rng)
    w = model.forms()["fc1.weight"].dense().data
    mask = pruned(w, 0.92)
    model.set_form("fc1.weight", shared(w, mask, 64, half=True))
    choice = Choice("relative", 5, 0, gaps="plain", values="plain")
    row = decode(encode(model, force={"fc1.weight": choice})).rows[0]
    gap = np.diff(np.flatnonzero(mask), prepend=-1)
    entries = len(gap) + int(((gap - 1) // 32).sum())
    assert row.parts["index"] == entries * 5 / 8 and row.parts["values"] == entries * 6 / 8
    assert row.parts["codebook"] == 2 * 63
    assert row.parts["tables"] == 0 and row.parts["header"] < 9
    assert row.how == "relative p=5, k=64"
    coded = decode(encode(model, force={"fc*.weight": Choice("relative", 5)})).rows[0]
    assert coded.bytes < row.bytes and coded.parts["tables"] > 0


def test_the_last_matching_pattern_wins_and_none_is_an_error():
    model = LeNet5(rng=np.random.default_rng(0))
    for name, form in model.forms().items():
        w = form.dense().data
        model.set_form(name, Dense(w, np.random.default_rng(1).random(w.shape) < 0.2))
    rows = {
        row.name: row.how
        for row in decode(
            encode(model, force={"*": "bitmap", "fc*": "rice", "fc2.weight": Choice("relative", 3)})
        ).rows
    }
    assert rows["conv1.weight"].startswith("bitmap") and rows["fc1.bias"].startswith("rice")
    assert rows["fc2.weight"].startswith("relative p=3")
    with pytest.raises(UserError, match="'fc9.*' matches no form"):
        encode(model, force={"fc9.*": "rice"})
    with pytest.raises(UserError, match="layout must be one of"):
        encode(model, force="zip")
    with pytest.raises(UserError, match="fc1.weight"):
        encode(model, force={"fc1.weight": Choice("relative", 0)})


def header_of(model):
    opened = Opened(encode(model), "model")
    return read_header(opened.header, opened.dictionary)


def test_origin_is_recorded_and_rules_the_ratio():
    model = small(np.random.default_rng(0))
    assert "origin" not in header_of(model)
    model.origin_bytes = 10**6
    shown = decode(encode(model))
    assert shown.origin_bytes == shown.model.origin_bytes == 10**6
    assert shown.ratio == 10**6 / shown.file_bytes
    assert header_of(model)["origin"] == 10**6


def test_the_data_of_the_training_are_recorded(tmp_path):
    model = LeNet300(normalize="mnist", rng=np.random.default_rng(0))
    assert "data" not in header_of(model) and decode(encode(model)).model.trained_on is None
    for label in ("mnist", "a-set.of_mine@0123abcd", "n" * 64, "no-set-that-there-is"):
        model.trained_on = label
        assert header_of(model)["data"] == label
        read = decode(encode(model)).model
        assert read.trained_on == read.copy().trained_on == read.frozen().trained_on == label
        assert read.builtin == {"name": "lenet300", "args": {"normalize": "mnist"}}
        assert read.edit({"relu1": ()}).trained_on == label


@pytest.mark.parametrize("name", MODELS)
def test_a_name_of_a_set_and_its_normalisation_cost_a_byte(name):
    channels = {} if name.startswith("lenet") else {"channels": 1, "resolution": 28}
    plain, told = MODELS[name](), MODELS[name](normalize="glyphs", **channels)
    told.trained_on = "glyphs"
    longer = len(Opened(encode(told), "model").header) - len(Opened(encode(plain), "model").header)
    # The dictionary of headers knows the first nets with their data, of others only the parts.
    known = name.startswith("lenet") or name in ("depthwise32", "mobilenetv2")
    assert longer <= (1 if known else 2)


@pytest.mark.parametrize(
    "label",
    ["", "a b", "n" * 65, "mnist@", "mnist@0123ABCD", "mnist@012345678", "../mnist", "x\x1b[31m", 3,
     None, True, [], {"mnist": 1}],
)
def test_malformed_labels_of_data_are_refused(label):
    header = write_header({"builtin": "lenet300", "data": label})
    opened = Opened(encode(LeNet300()), "model")
    sections = [opened.section(name) for name in LeNet300().forms()]
    with pytest.raises(FormatError, match="^data: the label of a data set must be NAME") as e:
        decode(seal("model", header, sections))
    assert str(e.value).isprintable()
    assert decode(seal("model", write_header({"builtin": "lenet300"}), sections)).file_bytes > 0


def test_a_file_of_the_first_dictionary_is_still_read():
    model = small(np.random.default_rng(0))
    opened = Opened(encode(model), "model")
    sections = [opened.section(name) for name in model.forms()]
    sections += [opened.section("running statistics")] if model.buffers() else []
    header = read_header(opened.header, opened.dictionary)
    old = decode(seal("model", write_header(header, dictionary=0), sections)).model
    assert old.spec() == model.spec() and old.trained_on is None
    for name, form in model.forms().items():
        np.testing.assert_array_equal(old.forms()[name].dense().data, form.dense().data)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_are_not_written(bad, tmp_path):
    for name, form in (("fc.weight", Dense), ("fc.bias", Half)):
        if form is Half and not np.isnan(bad):
            continue  # a float16 saturates
        model = small(np.random.default_rng(0))
        w = model.forms()[name].dense().data.copy()
        w.flat[3] = bad
        model.set_form(name, form(w))
        with pytest.raises(UserError, match=f"{name}: value must be finite"):
            save(model, tmp_path / "m.mcz")
    model = small(np.random.default_rng(0))
    model.buffers()["bn.running_mean"][0] = bad
    with pytest.raises(UserError, match="bn.running_mean must be finite"):
        save(model, tmp_path / "m.mcz")
    assert not list(tmp_path.iterdir())


def test_saving_is_atomic(tmp_path, monkeypatch):
    path = tmp_path / "m.mcz"
    model = LeNet300()
    save(model, path)
    before = path.read_bytes()
    model.set_form("fc3.bias", Dense(np.ones(10, np.float32)))

    def fail(*_):
        raise OSError("no space")

    for name in ("fsync", "replace"):
        with monkeypatch.context() as m:
            m.setattr(os, name, fail)
            with pytest.raises(OSError, match="no space"):
                save(model, path)
        assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
    save(model, path)
    assert path.read_bytes() != before and list(tmp_path.iterdir()) == [path]


def test_the_same_model_gives_the_same_bytes():
    a, b = (encode(small(np.random.default_rng(3))) for _ in range(2))
    assert a == b
    assert encode(decode(a).model) == a


def test_large_files_say_which_section_is_damaged():
    model = LeNet300(rng=np.random.default_rng(0))
    data = bytearray(encode(model))
    assert len(data) > CRC_EACH_FROM
    data[-2000] ^= 1
    with pytest.raises(FormatError, match=r"^fc2\.|^fc3\.weight.*checksum differs"):
        decode(bytes(data))
    data = bytearray(encode(LeNet300()))
    data[20] ^= 1
    with pytest.raises(FormatError, match="checksum differs"):
        decode(bytes(data))


def test_what_is_no_file_of_ours_is_refused(tmp_path):
    good = encode(LeNet300())
    for data, match in (
        (b"", "must start with MCZ"),
        (b"PK\3\4" + good[4:], "must start with MCZ"),
        (good[:3] + b"\x10" + good[4:], "version must be 2, got 1: minicomp 0.1.0 wrote this file"),
        (good[:3] + b"\x30" + good[4:], "version must be 2, got 3"),
        (good[:3] + b"\x22" + good[4:], "checksum"),
        (good[:-1], "checksum"),
        (good + b"\0", "checksum"),
    ):
        (tmp_path / "m.mcz").write_bytes(data)
        with pytest.raises(FormatError, match=f"m.mcz: .*{match}"):
            load(tmp_path / "m.mcz")
    with pytest.raises(FormatError, match="at most 10 bytes"):
        (tmp_path / "m.mcz").write_bytes(good)
        load(tmp_path / "m.mcz", max_bytes=10)
    with pytest.raises(OSError):
        load(tmp_path / "missing.mcz")


def test_declared_sizes_are_bounded_before_anything_is_allocated():
    with pytest.raises(FormatError, match="weights and activations must take at most 1000000"):
        decode(encode(LeNet300()), max_bytes=10**6)
    huge = 2**20
    conv = {"in_channels": 1, "out_channels": 1}
    for kind, config in (
        ("Linear", {"in_features": huge, "out_features": huge}),
        ("Conv2d", conv | {"kernel_size": huge, "padding": huge, "stride": huge}),  # weights
        ("Conv2d", conv | {"kernel_size": 1, "padding": huge}),  # outputs
        ("Conv2d", conv | {"kernel_size": 1, "padding": huge, "stride": huge}),  # the padded input
        ("AdaptiveAvgPool2d", {"output_size": huge}),
    ):
        header = {"input": [1, 8, 8], "nodes": [["layer", kind, config, ["x"]]]}
        if kind == "Linear":
            header["input"] = [huge]
        with pytest.raises(FormatError, match="must take"):
            container._model_of(header, Budget(2**30))


def sealed(*sections):
    return seal("model", write_header({"input": [4], "nodes": [LINEAR]}), list(sections))


LINEAR = ["fc", "Linear", {"in_features": 4, "out_features": 3, "bias": False}, ["x"]]


def codebook_section(k, pinned, layout):
    w = BitWriter()
    w.count(2)  # a codebook
    w.count(k - 1)
    w.write(pinned, 1)
    w.count(0)  # of dense centroids
    streams.write_floats(w, np.ones(k - pinned, np.float32))
    w.write(positions.LAYOUTS[layout], 3)
    w.write(0, 1)
    if layout == "bitmap":
        w.bits(np.ones(12, np.uint8))
        streams.write_symbols(w, np.arange(12) % 2, 2, "plain")
    else:
        streams.write_symbols(w, np.arange(12) % 3, 3, "plain")
    return w.getvalue()


def test_sections_by_hand_and_what_they_must_not_say(monkeypatch):
    index = decode(sealed(codebook_section(3, 1, "bitmap"))).model.forms()["fc.weight"].index
    np.testing.assert_array_equal(index.ravel(), 1 + np.arange(12) % 2)
    index = decode(sealed(codebook_section(3, 0, "all"))).model.forms()["fc.weight"].index
    np.testing.assert_array_equal(index.ravel(), np.arange(12) % 3)
    for k, pinned in ((3, 0), (1, 1), (1, 0)):
        with pytest.raises(FormatError, match="fc.weight: layout bitmap needs a mask, or a pinned"):
            decode(sealed(codebook_section(k, pinned, "bitmap")))
    good = codebook_section(3, 1, "bitmap")
    with pytest.raises(FormatError, match="too many after the last section"):
        decode(sealed(good, good))
    with pytest.raises(FormatError, match="fc.weight: 1 bytes are left after the end"):
        decode(sealed(good + b"\0"))
    monkeypatch.delitem(FORMS, "apot")
    with pytest.raises(FormatError, match="fc.weight: no form 7"):
        decode(sealed(bytes([good[0] & 240 | 7]) + good[1:]))
    with pytest.raises(FormatError, match="fc.weight: the length is damaged"):
        decode(sealed())


def test_a_codebook_within_a_codebook_is_refused_before_the_next_is_read():
    w = BitWriter()
    for _ in range(10_000):  # each the centroids of the one before
        w.count(2)
        w.count(0)
        w.write(0, 1)
    with pytest.raises(FormatError, match="no form 2 within another, which takes dense or half"):
        decode(sealed(w.getvalue()))


def test_a_negative_variance_is_refused():
    model = small(np.random.default_rng(0))
    model.buffers()["bn.running_var"][2] = -1
    with pytest.raises(FormatError, match="bn.running_var must be at least 0, got -1"):
        decode(encode(model))
