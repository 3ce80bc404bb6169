"""Writes tests/data/conformance: a file for each layout, coder and form, and what each decodes to.

Run from the checkout: python tests/data/make_conformance.py. A file that is there stays as it is:
it must decode to the same for ever, however files are written by then. values.json holds, by file
and form, the decoded numbers in C order as float32, low byte first, in hexadecimal; of more than
2000 the SHA-256 of these bytes.
"""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from minicomp.codec import decode, encode, header
from minicomp.codec.positions import Choice
from minicomp.deploy import Program, Step
from minicomp.deploy.steps import shapes_of
from minicomp.models import from_spec
from minicomp.nn.forms import (AdditivePowers, Affine, BFloat16, Binary, Circulant, Codebook, Dense,
                               Dictionary, FixedPoint, Half, Hashed, Powers, Product, Seeded,
                               Segments, Ternary, Trellis, Wavelet)
from minicomp.nn.graph import Model

FOLDER = Path(__file__).parent / "conformance"


def linear(inputs, outputs, bias=False):
    return from_spec({"input": [inputs], "nodes": [["fc", "Linear", {
        "in_features": inputs, "out_features": outputs, "bias": bias}, ["x"]]]}, 2**30)


def convolutions():
    return from_spec({"input": [3, 6, 6], "nodes": [
        ["conv", "Conv2d", {"in_channels": 3, "out_channels": 4, "kernel_size": [3, 3]}, ["x"]],
        ["flatten", "Flatten", {}, ["conv"]],
        ["fc", "Linear", {"in_features": 64, "out_features": 12}, ["flatten"]]]}, 2**30)


def codes(shape, k, kept, rng):
    # columns differ in density, codes in frequency
    busy = rng.random(shape) < kept * 2 * rng.random(shape[-1])
    return np.where(busy, 1 + rng.binomial(k - 2, 0.4, shape), 0)


def book(k, rng):
    return np.sort(rng.normal(0, 0.2, k - 1)).astype(np.float32)


def pinned(index, k, rng):
    centroids = np.concatenate([[0], book(k, rng)]).astype(np.float32)
    return Codebook(index, Half(centroids), pinned_zero=True).freeze()


def streams(rng):
    """Yields (name, form of a row, choice): a stream of one coder each."""
    def shared(k, n, p):
        index = np.minimum(rng.geometric(p, (1, n)) - 1, k - 1)
        return Codebook(index, Dense(rng.normal(size=k).astype(np.float32))).freeze()

    plain, huffman, rans = (Choice("all", values=v) for v in ("plain", "huffman", "rans"))
    yield "plain", shared(11, 100, 0.3), plain
    yield "huffman", shared(11, 100, 0.3), huffman
    yield "huffman-lone", shared(11, 100, 1.0), huffman
    yield "four", shared(40, 30_000, 0.05), huffman
    yield "trits", shared(3, 51, 0.4), Choice("all")
    yield "rans", shared(11, 400, 0.5), rans
    yield "rans-32-lanes", shared(2, 40_000, 0.98), rans
    q = np.rint(rng.normal(0, 900, (1, 600))).astype(int)
    yield "split", Affine(q, np.float32(0.01), bits=14).freeze(), Choice("all")
    yield "rising", shared_half(np.sort(rng.normal(size=9)), rng), Choice("all")
    swapped = np.sort(rng.normal(size=9))
    swapped[[7, 8]] = swapped[[8, 7]]
    yield "rising-out-of-order", shared_half(swapped, rng), Choice("all")


def shared_half(values, rng):
    return Codebook(rng.integers(0, 9, (1, 30)), Half(values.astype(np.float32))).freeze()


def layouts(rng):
    """Yields (name, model, choices): a tensor in each layout, of codes and of floats."""
    index = codes((9, 40), 12, 0.2, rng)
    w = np.where(index > 0, rng.normal(size=index.shape), 0).astype(np.float32)
    for layout in ("all", "bitmap", "relative", "rice", "bucket", "context", "mixed"):
        for kind, form in (("codes", pinned(index, 12, rng)), ("floats", Dense(w, index > 0))):
            if (layout, kind) == ("all", "floats"):
                form = Dense(w)
            model = linear(40, 9)
            model.set_form("fc.weight", form.freeze())
            yield f"{layout}-{kind}", model, layout
    for order in (0, 1):
        model = linear(40, 9)
        model.set_form("fc.weight", pinned(index, 12, rng))
        yield f"context-reversed-{order}", model, Choice("context", 5, order)
    model = convolutions()
    spots = codes((4, 3, 3, 3), 20, 0.4, rng)
    spots[1] = 0
    model.set_form("conv.weight", pinned(spots, 20, rng))
    columns = codes((12, 64), 9, 0.3, rng)
    columns[:, 16:32] = 0
    model.set_form("fc.weight", pinned(columns, 9, rng))
    model.set_form("fc.bias", Codebook(rng.integers(0, 6, 12), Half(book(7, rng))).freeze())
    yield "mixed-pictures-and-units", model, {"*.weight": "mixed", "fc.bias": "mixed"}
    affine = linear(40, 9)
    affine.set_form("fc.weight", Affine(index - 4 * (index > 0), rng.random(9).astype(np.float32),
                                        bits=5, mask=index > 4).freeze())
    yield "affine-mixed", affine, "mixed"
    half = linear(30, 4, bias=True)
    half.set_form("fc.weight", BFloat16(rng.normal(size=(4, 30)).astype(np.float32)).freeze())
    half.set_form("fc.bias", Half(rng.normal(size=4).astype(np.float32)).freeze())
    yield "bfloat16", half, None


def net(*layers):
    """Returns a model of linear layers and convolutions that hold the given forms.

    layers : (weight, bias or None) each, a weight of four axes for a convolution of its own size
    """
    nodes, before = [], "x"
    for i, (weight, bias) in enumerate(layers):
        outputs, inputs, *kernel = weight.shape
        config = {"in_channels": inputs, "out_channels": outputs, "kernel_size": kernel}
        if not kernel:
            config = {"in_features": inputs, "out_features": outputs}
        kind = "Conv2d" if kernel else "Linear"
        nodes.append([f"l{i}", kind, config | {"bias": bias is not None}, [before]])
        before = f"l{i}"
        if kernel:
            nodes.append([f"f{i}", "Flatten", {}, [before]])
            before = f"f{i}"
    _, inputs, *kernel = layers[0][0].shape
    model = from_spec({"input": [inputs, *kernel], "nodes": nodes}, 2**30)
    for i, parts in enumerate(layers):
        for name, form in zip(("weight", "bias"), parts):
            if form is not None:
                model.set_form(f"l{i}.{name}", form.freeze())
    return model


def floats(shape, rng):
    return rng.normal(size=shape).astype(np.float32)


def integers(n, rng, *, by_row=False):
    """Returns a form that may stand within another: n integers, some 0."""
    scale = np.float32(0.1) if not by_row else np.abs(floats(n, rng)) + np.float32(0.01)
    return Affine(rng.integers(-3, 4, n), scale, bits=3)


def of_integers(rng):
    """Yields (name, model): forms whose carrier is integers."""
    full = rng.integers(-8, 8, (6, 7))
    full[0] = 1, -1, 0, 1, 1, -1, 1
    mask, zero = full > -3, np.array([1, -2, 0, 3, 3, -8])
    rows = np.abs(floats(6, rng))
    yield "affine-zero-points", net(
        (Affine(full, rows, zero, bits=4, grid="full", mask=mask), None),
        (Affine(rng.integers(0, 8, (5, 6)), np.float32(0.3), 5, bits=3, grid="unsigned",
                mask=rng.random((5, 6)) < 0.4), None),
        (Affine(full.T[:4, :5], np.float32(-0.7), bits=4, grid="full"), None))  # holds -0
    groups = np.abs(floats((6, 3), rng))
    yield "affine-unsigned", net(
        (Affine(full + 8, np.float32(0.3), bits=4, grid="unsigned"),
         Affine(full[:6, 0] & 3, rows, bits=2, grid="unsigned", mask=full[:6, 0] > 0)))
    yield "affine-groups", net(
        (Affine(full + 8, groups, rng.integers(0, 16, (6, 3)), bits=4, grid="unsigned", group=3),
         None),
        (Affine(full[:5, :6], floats((5, 2), rng), bits=4, grid="midrise", group=4,
                mask=full[:5, :6] > 0), None))
    yield "fixed", net(
        (FixedPoint(full, 2, 3, mask=mask), FixedPoint(rng.integers(-4, 4, 6), 9, -6)))
    signs = floats((3, 6, 7), rng)
    yield "binary", net(
        (Binary(signs, floats((6, 3), rng), mask=mask), None),
        (Binary(signs[:1, :5, :6], np.float32([-0.4])), Binary.of(floats(5, rng), floats(5, rng))))
    q = np.sign(full) * mask
    yield "ternary", net(
        (Ternary(q, rows, rows[::-1], mask=mask), Ternary(q[:, 0], np.float32(0.3))),
        (Ternary(q[:5, :6], np.float32(0.2), np.float32(0.7)), None))
    yield "trellis", net(
        (Trellis(full.clip(-7, 7), np.float32(0.03), bits=4), None),
        (Trellis(np.where(mask, 0, full.clip(-7, 7))[:5, :6], np.float32(-0.3), bits=5, states=4),
         None))


def of_tables(rng):
    """Yields (name, model): tables that a rule derives, within a codebook and by themselves."""
    yield "powers", net(
        (Codebook(rng.integers(0, 7, (6, 7)), Powers(-2, 3), pinned_zero=True),
         Powers(1, 3, False)),
        (Codebook(rng.integers(0, 5, (5, 6)), Powers(127, 2)), Powers(-120, 2)))
    yield "apot", net(
        (Codebook(rng.integers(0, 31, (6, 7)), AdditivePowers(0.37, 5), pinned_zero=True), None),
        (Codebook(rng.integers(0, 15, (7, 6)), AdditivePowers(1.3, 4)), AdditivePowers(0.1, 3)),
        (Codebook(rng.integers(0, 2, (6, 7)), AdditivePowers(2.7, 2, False)),
         AdditivePowers(3.1, 3, False)))


def without_places(rng):
    """Yields (name, model): forms none of whose numbers belongs to one place."""
    yield "wavelet", net(
        (Wavelet(floats(44, rng), (6, 7), "db2", 2),
         Wavelet(Half(floats(6, rng)), (6,), "haar", 1)),
        (Wavelet(integers(32, rng, by_row=True), (5, 6), "db4", 3), None),
        (Wavelet(BFloat16(floats(16, rng)), (3, 5), "db4", 4), None))
    yield "segments", net(
        (Segments([3, 30, 1, 8], floats(4, rng), (6, 7)), Segments([1, 5], integers(2, rng), (6,))))
    yield "product", net(
        (Product(rng.integers(0, 5, (3, 6, 3)), floats((3, 3, 5, 3), rng), (6, 7)), None),
        (Product(rng.integers(0, 4, (2, 5, 2)), Half(floats((2, 1, 4, 3), rng)), (5, 6)),
         Product(rng.integers(0, 2, (1, 5, 1)), floats((1, 1, 2, 1), rng), (5,))))
    yield "hashed", net(
        (Hashed(floats(9, rng), (6, 7), 2**32 - 1), None),
        (Hashed(integers(5, rng), (5, 6), 1), None))
    yield "circulant", net(
        (Circulant(floats(16, rng), (5, 6), 4, 77), None),
        (Circulant(Half(floats(7, rng)), (7, 5), 7), None))
    counts = np.array([0, 3, 1, 2, 2, 1, 0, 0])
    yield "dictionary", net(
        (Dictionary(floats((4, 3), rng), counts, rng.integers(0, 4, 9), floats(9, rng),
                    (2, 3, 2, 2)), None),
        (Dictionary(Affine(rng.integers(-3, 4, (5, 2)), floats(5, rng), bits=3), counts,
                    rng.integers(0, 5, 9), integers(9, rng), (8, 2)), None))
    yield "seeded", net(
        (Seeded(rng.integers(0, 1024, 5), 0.1, (6, 7), seed=2**31 - 1, bits=10), None),
        (Seeded(rng.integers(0, 4, 5), 3.3, (5, 6), seed=0, bits=2), None))


def one_code(rng):
    """Yields (name, model, layout): codes of which only one is no zero, in the learnt layouts."""
    index = (rng.random((6, 7)) < 0.3).astype(int)
    for layout in ("context", "mixed"):
        form = Codebook(index, np.float32([0, 0.5]), pinned_zero=True)
        yield f"{layout}-one-code", net((form, None)), layout


def headers(rng):
    """Yields (name, model or program): nodes that hold more than weights, a built-in net, steps."""
    def node(name, kind, *inputs, **config):
        return [name, kind, config, [*inputs]]

    model = from_spec({"input": [2, 5, 5], "nodes": [
        node("c1", "Conv2d", "x", in_channels=2, out_channels=4, kernel_size=[2, 2], groups=2,
             bias=False),
        node("scaled", "InputScale", "c1", "x", num_features=4, kernel_size=[2, 2]),
        node("norm", "BatchNorm2d", "scaled", num_features=4),
        node("clip", "ClipChannels", "norm", num_features=4),
        node("act", "ActQuant", "clip", bits=4, zero_point=True),
        node("c2", "ConvBN2d", "act", in_channels=4, out_channels=3, kernel_size=[3, 3]),
        node("signs", "BinarySum", "c2", bases=2),
        node("shift", "ShiftBatchNorm2d", "signs", num_features=3)]}, 2**30)
    for name, form in model.forms().items():
        model.set_form(name, Dense(floats(form.shape, rng)).freeze())
    for name, a in model.buffers().items():
        a[...] = 3 if name == "act.zero_point" else rng.uniform(0.5, 1.5, a.shape)
    yield "statistics", model
    lenet = from_spec({"builtin": "lenet300", "args": {"classes": 3}}, 2**30)
    for name, form in lenet.forms().items():
        lenet.set_form(name, Segments([form.dense().data.size - 2, 2], floats(2, rng), form.shape)
                       .freeze() if len(form.shape) == 1 else
                       Hashed(floats(3, rng), form.shape, 5).freeze())
    yield "builtin", lenet
    yield "program", program([
        Step("quant", "quantize", ("x",), {"bits": 7, "zero_point": True}),
        Step("conv", "conv", ("quant",), {"out_channels": 4, "kernel_size": (3, 2), "groups": 2,
             "padding": (1, 0), "stride": (1, 2), "gain": True}),
        Step("pool", "max_pool", ("conv",), {"kernel_size": (2, 2), "stride": (3, 2),
             "padding": (1, 1), "ceil_mode": True}),
        Step("norm", "scale", ("pool",), {"then": "relu"}),
        Step("both", "concat", ("norm", "pool")),
        Step("conv2", "conv", ("both",), {"out_channels": 3, "kernel_size": (1, 2)}),
        Step("mean", "adaptive_avg_pool", ("conv2",), {"output_size": (2, 1)}),
        Step("twice", "crelu", ("mean",)),
        Step("clip", "clip", ("twice",)),
        Step("flat", "flatten", ("clip",)),
        Step("fc", "linear", ("flat",), {"out_features": 5, "bias": False}),
        Step("signs", "binary_sum", ("fc",), {"bases": 2}),
        Step("fc2", "linear", ("signs",), {"out_features": 2})], (2, 6, 7), rng)


def program(steps, shape, rng):
    """Returns the program of the steps, with drawn weights."""
    shapes = shapes_of(steps, shape)
    given = [{part: np.abs(floats(size, rng)) for part, size in step.parts(shapes).items()}
             for step in steps]
    for weights in given:
        if "zero_point" in weights:
            weights["zero_point"][:] = 3
    forms = [{part: Dense(w).freeze() for part, w in weights.items()} for weights in given]
    return Program([replace(s, weights=w) for s, w in zip(steps, forms)], input_shape=shape)


def files():
    """Yields (name, bytes)."""
    rng = np.random.default_rng(0)
    for name, form, choice in streams(rng):
        model = linear(form.shape[1], 1)
        model.set_form("fc.weight", form)
        yield name, encode(model, force=choice)
    for name, model, force in layouts(rng):
        yield name, encode(model, force=force)
    rng = np.random.default_rng(1)
    for made in (of_integers, of_tables, without_places, headers):
        for name, model in made(rng):
            yield name, encode(model)
    for name, model, force in one_code(rng):
        yield name, encode(model, force=force)


def values(data):
    """Returns what values.json holds of a file: of its forms, then of its statistics."""
    held = decode(data).model
    numbers = {name: form.dense().data for name, form in held.forms().items()}
    numbers |= held.buffers() if isinstance(held, Model) else {}
    return {name: said(a.astype("<f4").tobytes()) for name, a in numbers.items()}


def said(data):
    return data.hex() if len(data) <= 8000 else hashlib.sha256(data).hexdigest()


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    found = {}
    for name, data in files():
        path = FOLDER / f"{name}.mcz"
        if not path.exists():
            path.write_bytes(data)
        found[path.name] = values(path.read_bytes())
    for (kind, number), text in header._DICTIONARIES.items():
        (FOLDER / f"dictionary-{kind}-{number}.txt").write_bytes(text)
    (FOLDER / "values.json").write_text(json.dumps(found, indent=0) + "\n")
