"""Gong, Liu, Yang & Bourdev 2014 (arXiv 1412.6115), scaled: fully connected layers in equal bytes.

On ImageNet's fully connected layers, at 16 to 24 times fewer bytes, the paper finds product
quantization ahead of residual quantization and scalar k-means, which are about equal, and those
ahead of the sign of the weights and of the SVD. Ours are fc1 (300 x 784) and fc2 (100 x 300) of
LeNet-300-100, and fc1 (500 x 800) of LeNet-5, on MNIST; the last layer, and convolutions, stay
float32.

A layer may take 1/15 or 1/31 of its float32 bytes in a file, all that stands there but its bias:
coded codes and their tables, codebooks or factors, which are float16. Of each method families of
settings are tried (`families`), in each the largest that fits, a layer at a time with the others
float; that with the fewest errors on the validation images is taken, of equals the one of least
squared error. 1/15 and 1/31 are what codes of two bits and of one a weight fit into, with what a
file needs beside them; the sign takes one bit whatever the budget.

Nothing is trained after, as in the paper; then all that moves is, for a few epochs, and the errors
are counted again: by Adam, for the gradient of a centroid is a sum over its members, and a step
that suits single weights is too long for one of many. Of two further rows the paper has none:
product quantization with one codebook for all blocks of a layer, and the same for outputs instead
of weights (Stock et al. 2020).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..codec import decode, encode
from ..compress.arrays import net_of
from ..compress.curvature.hessian import float64
from ..compress.curvature.layerwise import layer_moments
from ..compress.finetune import FineTune
from ..compress.share.bit_down import input_moments
from ..compress.share.blocks import Search, product_bits, product_quantize
from ..compress.share.kmeans import kmeans_1d
from ..compress.technique import Run
from ..models import for_data
from ..nn.forms import Binary, Codebook, Form, Half, Product
from ..nn.graph import Model, Node
from ..nn.layers import Linear
from ..tensor import Array
from ..timing import Clock
from ..train import evaluate
from .table import Paper, file_errors, mean, percent

# net: its title, how it is trained, its layers, how it is trained after
NETS = {
    "lenet300": ("LeNet-300-100", FineTune(epochs=8, lr=0.05, batch_size=64, momentum=0.9),
                 ("fc1", "fc2"), FineTune(epochs=3, optimizer="adam", lr=1e-3, batch_size=64)),
    "lenet5": ("LeNet-5 fc1", FineTune(epochs=4, lr=0.02, batch_size=64, momentum=0.9),
               ("fc1",), FineTune(epochs=1, optimizer="adam", lr=1e-3, batch_size=64)),
}
TIMES = (15, 31)  # float32 bytes of a layer over those allowed
PLACES = {"product": (1,), "residual": (2, 3), "k-means": (2, 3), "sign": (4, 5), "SVD": (4, 5)}
FURTHER = ("shared", "outputs")
BLOCKS = (2, 3, 4, 5, 6, 8, 10, 12, 16)
CODEWORDS = (256, 192, 128, 96, 64, 48, 32, 24, 16, 12, 8, 6, 4, 3, 2)
SEARCH = Search(beam=4, rounds=2)
SLACK = 1.15  # codes are coded, in fewer bits than are estimated before
SAMPLES = 2000  # training images for the moments of inputs


def families(method: str, columns: int) -> list[list[dict]]:
    """Returns lists of settings of a method, each from more bytes to fewer.   columns : of W"""
    if method == "sign":
        return [[{}]]
    if method == "SVD":
        return [[{"rank": rank} for rank in range(columns, 0, -1)]]
    if method == "k-means":
        return [[{"k": k} for k in range(16, 1, -1)]]
    if method == "residual":  # one block of all columns
        return [[{"block": columns, "k": k, "stages": t} for t in range(32, 0, -1)]
                for k in (2, 4, 8, 16)]
    return [[{"block": block, "k": k, "shared": method in FURTHER} for k in CODEWORDS]
            for block in BLOCKS]


def estimated(method: str, how: dict, rows: int, columns: int) -> float:
    """Returns the bits that a setting takes, before codes are coded.   rows, columns : of W"""
    if method == "SVD":
        return 16 * how["rank"] * (rows + columns)
    if "block" in how:
        return product_bits(rows, columns, float_bits=16, **how)
    return rows * columns * np.log2(how.get("k", 2))


def forms_of(method: str, how: dict, w: Array, H: Array, rng) -> dict[str, Form]:
    """Returns the forms that stand for a weight, {"": its form}, or {"a": ..., "b": ...} where it
    is a chain of two layers.

    w : (O, I) float32        H : (I, I), E[x x'] of its inputs
    """
    if method == "sign":
        return {"": Binary.of(w, np.abs(w).mean(), trainable=True)}
    if method == "SVD":
        u, s, vt = np.linalg.svd(w, full_matrices=False)
        root = np.sqrt(s[: how["rank"]])
        return {"a": Half(root[:, None] * vt[: len(root)]), "b": Half(u[:, : len(root)] * root)}
    if method == "k-means":
        centroids, index = kmeans_1d(w, how["k"], init="optimal", rng=None)
        return {"": Codebook(index, Half(centroids))}
    index, books = product_quantize(w, rng=rng, search=SEARCH,
                                    moments=H if method == "outputs" else None, **how)
    return {"": Product(index, Half(books), w.shape)}


def replaced(model: Model, node: str, forms: dict[str, Form]) -> Model:
    """Returns the model, a copy, whose layer has these forms, or is a chain of two."""
    if "" in forms:
        model = model.copy()
        model.set_form(f"{node}.weight", forms[""])
        return model
    old, rank = model.node(node), forms["a"].shape[0]
    first = Linear(forms["a"].shape[1], rank, bias=False)
    second = Linear(rank, forms["b"].shape[0])
    first.forms["weight"], second.forms["weight"] = forms["a"], forms["b"]
    second.forms["bias"] = old.layer.forms["bias"]
    return model.edit({node: (Node(f"{node}a", first, old.inputs),
                              Node(f"{node}b", second, (f"{node}a",)))})


def layer_bytes(forms: dict[str, Form]) -> float:
    """Returns the bytes that forms take in a file, each with its header."""
    total = 0.0
    for form in forms.values():
        net = net_of(np.zeros(form.shape, np.float32))
        net.set_form(next(iter(net.forms())), form.freeze())
        total += decode(encode(net)).rows[0].bytes
    return total


def fitting(method: str, w: Array, H: Array, most: float, rng) -> Iterator[tuple[dict, dict]]:
    """Yields (setting, forms), of each family the largest that takes at most `most` bytes."""
    for family in families(method, w.shape[1]):
        for how in family:
            if estimated(method, how, *w.shape) > 8 * SLACK * most:
                continue
            forms = forms_of(method, how, w, H, rng)
            if layer_bytes(forms) <= most:
                yield how, forms
                break


@dataclass
class Choice:
    """What was taken of a layer: its setting, forms, and bytes."""

    how: dict
    forms: dict[str, Form]
    bytes: float


def chosen(method: str, model: Model, node: str, H: Array, times: int, data, rng) -> Choice:
    """Returns the setting of the fewest errors on validation images, the other layers float."""
    w = model.forms()[f"{node}.weight"].dense().data
    best, least = None, (np.inf, np.inf)
    for how, forms in fitting(method, w, H, 4 * w.size / times, rng):
        off = [form.dense().data.astype(np.float64) for form in forms.values()][::-1]
        off = w - (off[0] @ off[1] if len(off) > 1 else off[0])
        errors = evaluate(replaced(model, node, forms), data.val).errors
        if (errors, np.square(off).sum()) < least:
            least = errors, np.square(off).sum()
            best = Choice(how, forms, layer_bytes(forms))
    if best is None:
        raise RuntimeError(f"no setting of {method} leaves {node} 1/{times} of its bytes")
    return best


def moments_of(model: Model, data, rng) -> dict[str, Array]:
    """Returns E[x x'] of the inputs of each layer, by node."""
    at = rng.choice(len(data.train.y), min(SAMPLES, len(data.train.y)), replace=False)
    work = float64(model)
    found = {}
    for node, H, _ in layer_moments(work, work, data.train.x[at]):
        w = model.forms()[f"{node.name}.weight"]
        found[node.name] = input_moments(H, int(np.prod(w.shape[1:])))
    return found


def run(data, *, seeds, log, n_threads, out) -> list[dict]:
    """Returns a row for each net, budget and method, with its place among the paper's five."""
    found: dict = {}
    for name in NETS:
        for seed in seeds:
            for key, cell in _cells(name, data, seed, log, n_threads, out):
                found.setdefault(key, []).append(cell)
    return [_row(found, *key, len(data.test)) for key in found]


def _cells(name: str, data, seed: int, log, n_threads, out) -> Iterator[tuple]:
    # ((net, times, method), what came of one seed)
    init, rng, drawn = np.random.default_rng(seed).spawn(3)
    _, training, nodes, after = NETS[name]
    given = data.without_test()
    start = training.apply(for_data(name, data, rng=init), given, Run(rng, log, None, n_threads))
    H, clock = moments_of(start, data, drawn), Clock()
    floats = file_errors(start, out / f"gong-{name}-float-{seed}.mcz", data.name)[1]
    for times in TIMES:
        for method in (*PLACES, *FURTHER):
            picks = {node: chosen(method, start, node, H[node], times, given, drawn)
                     for node in nodes}
            model = start
            for node, pick in picks.items():
                model = replaced(model, node, pick.forms)
            stem = f"gong-{name}-{times}-{method}"
            size, errors = file_errors(model, out / f"{stem}-{seed}.mcz", data.name)
            tuned = after.apply(model, given, Run(rng, log, None, n_threads)).frozen()
            tuned_errors = file_errors(tuned, out / f"{stem}-tuned-{seed}.mcz", data.name)[1]
            log({"event": "say", "text": f"{name}, 1/{times}, {method}: {errors} errors, "
                                         f"{tuned_errors} trained; {_settings(picks)}"})
            yield (name, times, method), {
                "float": floats, "errors": errors, "tuned": tuned_errors, "file_bytes": size,
                "bytes": sum(pick.bytes for pick in picks.values()), "how": _settings(picks),
                "seconds": clock.lap()}


def _settings(picks: dict[str, Choice]) -> str:
    said = []
    for node, pick in picks.items():
        how = {k: v for k, v in pick.how.items() if not (k == "shared" or k == "block" and (
            "stages" in pick.how))}
        said.append(f"{node} " + (" ".join(f"{k}={v}" for k, v in how.items()) or "1 bit"))
    return ", ".join(said)


def places(found: dict, name: str, times: int) -> dict[str, int]:
    """Returns the place of each of the paper's methods by mean errors; equals share the better."""
    errors = {method: mean([cell["errors"] for cell in found[name, times, method]])
              for method in PLACES}
    return {method: 1 + sum(other < e for other in errors.values())
            for method, e in errors.items()}


def _row(found: dict, name: str, times: int, method: str, images: int) -> dict:
    cells = found[name, times, method]
    errors, tuned = ([cell[key] for cell in cells] for key in ("errors", "tuned"))
    if method in PLACES:
        place, asked = places(found, name, times)[method], PLACES[method]
        paper, said = f"place {' or '.join(map(str, asked))} of 5", f"place {place}: "
        met = place in asked
    else:
        paper, said = "no row", ""
        met = mean(errors) <= mean([cell["errors"] for cell in found[name, times, "product"]])
    ours = (f"{said}{percent(errors, images)}, trained after {percent(tuned, images)}; "
            f"{mean([cell['bytes'] for cell in cells]):,.0f} bytes; {cells[0]['how']}")
    return {"row": f"{NETS[name][0]} in 1/{times} of its bytes: {method}", "paper": paper,
            "ours": ours, "met": bool(met), "seconds": sum(cell["seconds"] for cell in cells),
            "errors": errors, "tuned": tuned, "float": [cell["float"] for cell in cells],
            "file_bytes": [cell["file_bytes"] for cell in cells]}


PAPER = Paper("gong2014", "Product quantization of fully connected layers (Gong et al. 2014)",
              "mnist", "10 minutes a seed", run,
              "the paper's places are of ImageNet's layers, without training after; bytes are of "
              "the layers in the .mcz file, codebooks and tables included; settings are those of "
              "the first seed; rows without a place are met where they err no more than product")
