"""Nets as the techniques leave them, and a data set of few examples, for every command."""

from dataclasses import replace

import numpy as np
import pytest

import minicomp
from minicomp import data as datasets
from minicomp.compress import TECHNIQUES, ProductQuantization, Run, Wavelets
from minicomp.grid import additive_codes, power_codes
from minicomp.jobs.recipe import parse_with
from minicomp.models import MODELS
from minicomp.nn import (AdditivePowers, BFloat16, Circulant, Codebook, Dictionary, FixedPoint,
                         Half, Hashed, Powers, Seeded, Trellis)

FEW = {"train": 160, "val": 80, "test": 80}  # of glyphs
TRAINING = "epochs=1,batch_size=32,lr=0.05"
TINY = {"channels": 1, "resolution": 28, "width": 0.05}  # of depthwise32, for images of digits

# What a file went through: a net, and the steps of `minicomp compress`.
MADE = {
    "dense": ("lenet5classic", f"finetune:{TRAINING}"),
    "pruned": ("lenet5classic", f"finetune:{TRAINING} magnitude:sparsity=0.9"),
    "shared": ("lenet5classic", f"finetune:{TRAINING} kmeans:bits=3"),
    "pruned-shared": ("lenet300", f"finetune:{TRAINING} magnitude:sparsity=0.95 kmeans:bits=4"),
    "blocks": ("lenet5classic", "nm:n=2,m=4,skip=true bias:threshold=0.3"),
    "surgery": ("lenet300", f"dns:c=0.5,{TRAINING}"),
    "filters": ("lenet5classic", "filters:sparsity=0.5"),
    "all-three": ("lenet5classic", "filters:sparsity=0.5 magnitude:sparsity=0.8 kmeans:bits=2"),
    "dead-units": ("lenet300", "magnitude:sparsity=0.99 dead-units"),
    "thresholds": ("lenet5classic", "sparse-activations:top=0.5"),
    "slim": ("depthwise32", f"slimming:sparsity=0.3,{TRAINING}"),
    "shallow": ("depthwise32", "layer-removal:samples=40 lamp:sparsity=0.5"),
    "half": ("lenet300", "magnitude:sparsity=0.5"),  # its values are then stored as float16
    "fixed": ("lenet300", "magnitude:sparsity=0.5"),  # and of this with a fixed point
    "int8": ("lenet5classic", f"finetune:{TRAINING} ptq:samples=40"),
    "int4": ("depthwise32", "magnitude:sparsity=0.5 ptq:bits=4,act_bits=6,samples=40"),
    "codes": ("lenet300", "lloyd-max:bits=3"),  # its forms are then `codes`
    "transforms": ("lenet300", "segments"),
    "structures": ("lenet5classic", f"finetune:{TRAINING}"),  # its forms are then `structures`
    "signs": ("lenet300", f"twn:real@fc1=true,{TRAINING} abc-net:real@fc2=true,real@fc3=true"),
}


def structures(model):
    # Look-ups of atoms, few buckets, circulant blocks, and codes of a trellis.
    rng, last = np.random.default_rng(2), model.forms()["fc3.weight"].dense().data
    shapes = {name: form.shape for name, form in model.forms().items()}

    def draw(*shape):
        return rng.normal(0, 0.1, shape).astype(np.float32)

    model.set_forms({
        "conv2.weight": Dictionary.of(draw(9, 6), draw(16 * 25, 9) * (draw(16 * 25, 9) > 0.1),
                                      shapes["conv2.weight"]),
        "fc1.weight": Hashed(draw(500), shapes["fc1.weight"], 3),
        "fc2.weight": Circulant(draw(9 * 12 * 10), shapes["fc2.weight"], 10),
        "fc3.weight": Trellis(np.clip(np.rint(last / 0.05).astype(int), -7, 7), 0.02, bits=4),
    })


def codes(model):
    # Tables that a rule derives, weights that are drawn again, and bfloat16.
    w = {name: form.dense().data for name, form in model.forms().items()}
    apot = additive_codes(w["fc1.weight"], 0.1, 4)
    model.set_forms({
        "fc1.weight": Codebook(apot, AdditivePowers(0.1, 4), pinned_zero=True),
        "fc2.weight": Codebook(power_codes(w["fc2.weight"], -3, 7), Powers(-3, 7), True),
        "fc3.weight": Seeded(np.arange(50) % 16, 0.1, w["fc3.weight"].shape, seed=1, bits=4),
        "fc3.bias": BFloat16(w["fc3.bias"]),
    })


@pytest.fixture(scope="session")
def few():
    # Glyphs, of which few examples are taken.
    whole = datasets.load("glyphs")
    return replace(whole, **{part: getattr(whole, part).take(slice(n)) for part, n in FEW.items()})


@pytest.fixture(scope="session")
def zoo(few, tmp_path_factory):
    # {name: the .mcz file}, nobody writes there.
    folder = tmp_path_factory.mktemp("zoo")
    for name, (net, steps) in MADE.items():
        rng = np.random.default_rng(0)
        tiny = {"width": 0.05, "channels": 1, "resolution": 28} if net == "depthwise32" else {}
        model = MODELS[net](rng=rng, normalize=few.normalize, **tiny)
        model = parse_with(steps.split(), TECHNIQUES).apply(model, few.without_test(), Run(rng))
        for part, form in model.forms().items():
            if name == "half":
                model.set_form(part, Half(form.dense().data, form.mask))
            if name == "fixed":
                model.set_form(part, FixedPoint.of(form.dense().data, 2, 10, mask=form.mask))
        if name == "codes":
            codes(model)
        if name == "transforms":  # its first layer of coefficients, its last of codewords
            first, last = (model.forms()[part] for part in ("fc1.weight", "fc3.weight"))
            model.set_form("fc1.weight", Wavelets().form("fc1", first, Run(rng)))
            vectors = ProductQuantization(k=4, shared=True)
            model.set_form("fc3.weight", vectors.form("fc3", last, Run(rng)))
        if name == "structures":
            structures(model)
        minicomp.save(model, folder / f"{name}.mcz")
    return {name: folder / f"{name}.mcz" for name in MADE}


@pytest.fixture
def small(few, tmp_path, monkeypatch):
    # Commands find few examples, and write into a folder of their own, which this returns.
    load = datasets.load
    monkeypatch.setattr(datasets, "load", lambda name, **kw: few if name == "glyphs"
                        else load(name, **kw))
    monkeypatch.chdir(tmp_path)
    return tmp_path
