"""What objects say of themselves at a prompt: shapes, sparsity, bits, on few lines."""

from pathlib import Path

import numpy as np
import pytest

import minicomp
from minicomp.compress import DNS, TECHNIQUES, FineTune, KMeans, Magnitude, Pipeline, Run
from minicomp.data import Dataset, Split
from minicomp.deploy import lower
from minicomp.models import MODELS
from minicomp.nn import Codebook, Dense, Half, Linear, Model, Node, ReLU
from minicomp.nn.forms import FORMS

rng = np.random.default_rng(0)
W = np.array([[0, 1.5, 0, 2], [0, 0, 0, 3]], np.float32)


def test_forms_say_shape_bits_and_zeros():
    assert repr(Dense(W)) == "<Dense 2 x 4: 32 bits a value, 62.5 % zeros, trainable>"
    masked = Dense(W, W != 0, trainable=False)
    assert repr(masked) == "<Dense 2 x 4: 32 bits a value, a mask, 62.5 % zeros, frozen>"
    assert "a mask behind" in repr(Dense(W).masked(W != 0, behind=True))
    assert repr(Half(W[0])) == "<Half 4: 16 bits a value, 50.0 % zeros, trainable>"
    book = Codebook([[0, 1, 2, 2]], [0.0, 1.0, 2.0], pinned_zero=True, trainable=False)
    assert repr(book) == (
        "<Codebook 1 x 4: 3 centroids, one pinned to 0, 2 bits an index, 25.0 % zeros, frozen>")
    for form in FORMS.values():  # while one is being made
        assert repr(form.__new__(form)) == f"<{form.__name__} a number: without its parts>"


def test_models_say_their_shapes_and_layers():
    model = MODELS["lenet300"](rng=rng)
    first, *lines = repr(model).splitlines()
    assert first == "<Model lenet300: 1 x 28 x 28 -> 10, 6 nodes, 266,610 weights and biases"
    assert [line.split()[:4] for line in lines] == [
        ["fc1:", "Linear", "<Dense", "300"], ["fc2:", "Linear", "<Dense", "100"],
        ["fc3:", "Linear", "<Dense", "10"]]
    assert "92.0 % zeros" in repr(Magnitude(sparsity=0.92).apply(model, None, Run(rng)))
    assert repr(Model((), input_shape=(3,))) == "<Model: 3 -> 3, 0 nodes, 0 weights and biases>"


def test_layers_and_nodes_say_what_they_are():
    assert repr(ReLU()) == "ReLU()"
    layer = Linear(3, 2)
    assert repr(layer).startswith("Linear(in_features=3, out_features=2, bias=True), weight <Dense")
    assert repr(Node("fc", layer, ("x",))) == f"<Node fc of x: {layer!r}>"


def test_it_is_bounded_and_foreign_names_are_printable():
    deep = Model([Node(f"f{i}", Linear(2, 2), (f"f{i - 1}" if i else "x",)) for i in range(500)],
                 input_shape=(2,))
    assert len(repr(deep).splitlines()) == 22 and "and 480 more with weights" in repr(deep)
    evil = Node("\x1b[31m" + "n" * 10**6, ReLU(), ("\x1b",) * 1000)
    assert len(repr(evil)) < 500 and "\x1b" not in repr(evil) and "and 992 more" in repr(evil)
    broken = Model([Node("f", Linear(3, 2))], input_shape=(2,))
    assert "f: Linear needs 3 features" in repr(broken)
    split = Split(np.zeros((2, 3), np.float32), np.zeros(2, np.int64))
    told = repr(Dataset("\x1b" * 1000, split, split, None, ("a",), "\x1b"))
    assert len(told) < 600 and "\x1b" not in told
    many = Magnitude(sparsity={f"layer{i}": 0.5 for i in range(10**4)})
    assert len(repr(many)) < 300
    assert len(repr(Pipeline(steps=(many,) * 100))) < 300


def test_data_sets_say_their_sizes():
    split = Split(np.zeros((20, 1, 4, 4), np.float32), np.zeros(20, np.int64))
    assert repr(split) == "<Split: 20 examples of 1 x 4 x 4>"
    assert repr(Dataset("mine", split, split.take(slice(5)), None, ("a", "b"), "arrays")) == (
        "<Dataset mine: 1 x 4 x 4, 2 classes, 20 train, 5 val; arrays>")


@pytest.mark.parametrize("technique", TECHNIQUES, ids=lambda t: t.word)
def test_a_technique_says_the_knobs_that_were_set(technique):
    knob, limits = next(iter(technique.knobs().items()), (None, None))
    if knob is None:
        assert repr(technique()) == f"{technique.__name__}()"
        return
    value = {int: 3, float: 0.25, bool: not getattr(technique, knob)}.get(limits.type)
    value = limits.choices[-1] if limits.choices else "a.mcz" if limits.type is str else value
    if limits.lo is not None:
        value = max(value, limits.type(limits.lo))
    given = {knob: value} | ({"mean_bits": 5.0} if technique.word == "mixed-bits" else {})
    told = ", ".join(f"{name}={v!r}" for name, v in given.items())
    assert repr(technique(**given)) == f"{technique.__name__}({told})"


def test_techniques_nest():
    recipe = Pipeline(steps=(DNS(c=3.5).training(epochs=7), KMeans(bits=3), FineTune(epochs=1)))
    assert repr(recipe) == ("Pipeline(steps=(FineTune(epochs=7, methods=(DNS(c=3.5),)), "
                            "KMeans(bits=3), FineTune(epochs=1)))")


def test_a_program_says_what_it_takes():
    assert repr(lower(MODELS["lenet300"](rng=rng))).endswith("1 x 28 x 28 -> 10>")


# What `help(minicomp)` names is there after `import minicomp`, and has something to say.
def test_the_rooms_that_help_names_are_there():
    import re

    named = set(re.findall(r"minicomp\.(\w+)", minicomp.__doc__))
    assert {"reference", "compress", "data", "models", "nn", "train", "save", "load"} <= named
    for name in named:
        assert getattr(minicomp, name).__doc__, name
        assert name in minicomp.__all__
    assert (Path(minicomp.__file__).parent / "py.typed").is_file(), "hints count for type checkers"
