"""Writes tests/data/conformance: a file for each layout and coder, and what each decodes to.

Run from the checkout: python tests/data/make_conformance.py. values.json holds, by file and form,
the decoded numbers in C order as float32, low byte first, in hexadecimal; of more than 2000 the
SHA-256 of these bytes.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
from minicomp.codec import header
from minicomp.codec.model import decode, encode
from minicomp.codec.positions import Choice
from minicomp.models import from_spec
from minicomp.nn.forms import Affine, BFloat16, Codebook, Dense, Half

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


def files():
    """Yields (name, bytes)."""
    rng = np.random.default_rng(0)
    for name, form, choice in streams(rng):
        model = linear(form.shape[1], 1)
        model.set_form("fc.weight", form)
        yield name, encode(model, force=choice)
    for name, model, force in layouts(rng):
        yield name, encode(model, force=force)


def values(data):
    """Returns what values.json holds of a file."""
    forms = decode(data).model.forms()
    return {name: said(form.dense().data.astype("<f4").tobytes()) for name, form in forms.items()}


def said(data):
    return data.hex() if len(data) <= 8000 else hashlib.sha256(data).hexdigest()


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    made = dict(files())
    for name, data in made.items():
        (FOLDER / f"{name}.mcz").write_bytes(data)
    for (kind, number), text in header._DICTIONARIES.items():
        (FOLDER / f"dictionary-{kind}-{number}.txt").write_bytes(text)
    found = {f"{name}.mcz": values(data) for name, data in made.items()}
    (FOLDER / "values.json").write_text(json.dumps(found, indent=0) + "\n")
