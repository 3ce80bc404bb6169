import json

import numpy as np
import pytest

from minicomp.compress.channels.constants import constants, folded, removable
from minicomp.compress.channels.removal import removal
from minicomp.compress.prune.obd import OBD
from minicomp.compress.technique import Run
from minicomp.data import Dataset, Split
from minicomp.deploy import lower
from minicomp.gradcheck import grad_check
from minicomp.models import MODELS, normalization, renormalized
from minicomp.nn import Conv2d, Flatten, Linear, Model, Normalize, ReLU, chain
from minicomp.nn.layers.normalize import NAMED
from minicomp.optim import SGD
from minicomp.passport import passport
from minicomp.tensor import Tensor
from minicomp.train import evaluate, fit

RNG = np.random.default_rng


def test_a_channel_by_hand():
    x = np.array([[[[1.0, 0.0]], [[0.5, 2.0]]]], np.float32)
    y = Normalize([0.5, 1.0], [0.25, 2.0])(Tensor(x)).data
    np.testing.assert_array_equal(y, [[[[2.0, -2.0]], [[-0.25, 0.5]]]])


@pytest.mark.parametrize("name", NAMED)
def test_a_name_stands_for_its_numbers_and_is_all_that_is_kept(name):
    named, spelt = Normalize(name), Normalize(*NAMED[name])
    assert named.config() == {"mean": name} and spelt.config()["std"] == list(NAMED[name][1])
    x = Tensor(RNG(0).random((2, len(named.mean), 5, 4), np.float32))
    np.testing.assert_array_equal(named(x).data, spelt(x).data)
    mean, std = (np.array(a)[:, None, None] for a in NAMED[name])
    np.testing.assert_allclose(named(x).data, (x.data - mean) / std, atol=1e-6)


@pytest.mark.parametrize(
    "args, match",
    [
        (("minst",), "alone, one of mnist, fashion_mnist, glyphs, cifar10, got 'minst'"),
        (("mnist", [0.3]), "mean must be numbers beside std"),
        (([0.1],), "std must be a list of numbers in .*, one a channel, got 'None'"),
        (([0.1], [0.0]), r"std must be a list of numbers in \[1e-09, 1e\+09\]"),
        (([0.1], [-1.0]), "std must be"),
        (([np.nan], [1.0]), "mean must be a list of numbers in .*, got '.nan.'"),
        (([np.inf], [1.0]), "mean must be"),
        (([0.1], [np.inf]), "std must be"),
        (([True], [1.0]), "mean must be"),
        (([], []), "mean must be"),
        (("x" * 99, None), "got 'x{40}'$"),
        (([0.1, 0.2], [1.0]), "mean and std must be equally many, got 2 and 1"),
        ((0.1, 0.3), "mean must be"),
    ],
)
def test_what_is_no_normalisation_is_refused(args, match):
    with pytest.raises(ValueError, match=match):
        Normalize(*args)


def test_channels_must_be_as_many_as_the_means():
    with pytest.raises(ValueError, match="Normalize needs a mean for each of 1 channels, got 3"):
        Normalize("cifar10").out_shape((1, 28, 28))
    with pytest.raises(ValueError, match="normalize must have a mean for each channel"):
        MODELS["lenet300"](normalize="cifar10")


def test_it_costs_and_counts_nothing_and_its_gradient_is_one_over_std():
    model = MODELS["lenet300"](normalize="mnist", rng=RNG(0))
    plain = MODELS["lenet300"](rng=RNG(0))
    assert model.count() == plain.count() and sum(model.macs().values()) == 266_200
    assert set(model.parameters()) == set(plain.parameters())
    assert [r.name for r in passport(model, timed=False).layers] == ["fc1", "fc2", "fc3"]
    x = RNG(1).random((2, 1, 28, 28))
    grad_check(lambda t: model.nodes[0].layer(t) * 2.0, x, rng=RNG(2), order=2)


def test_training_is_that_of_a_net_without_it_on_normalised_pixels():
    x, y = RNG(0).random((64, 1, 28, 28), np.float32), RNG(1).integers(0, 10, 64)
    ready = ((x - np.float32(0.1307)) / np.float32(0.3081)).astype(np.float32)
    trained = []
    for split, args in ((Split(ready, y), {}), (Split(x, y), {"normalize": "mnist"})):
        model, data = MODELS["lenet300"](rng=RNG(0), **args), Dataset("toy", split, split)
        fit(model, data, epochs=2, optimizer=SGD(model.parameters(), lr=0.1), rng=RNG(3),
            batch_size=16)
        trained.append(model)
    for name, form in trained[0].forms().items():
        other = trained[1].forms()[name].value.data
        np.testing.assert_allclose(form.value.data, other, atol=2e-5)


def mapped():
    # A convolution, a normalisation of its four channels, and one that reads them.
    nodes = chain(("conv1", Conv2d(1, 4, 3)),
                  ("norm", Normalize([0.0, 0.5, 1.0, 2.0], [1.0, 2.0, 4.0, 0.5])), ("relu", ReLU()),
                  ("conv2", Conv2d(4, 2, 3)), ("flatten", Flatten()), ("fc", Linear(32, 3)))
    model = Model(nodes, input_shape=(1, 8, 8))
    for form in model.forms().values():
        form.value.data[...] = RNG(len(form.shape)).standard_normal(form.shape)
    return model


def test_removed_channels_take_their_means_along():
    model, x = mapped(), RNG(0).random((3, 1, 8, 8), np.float32)
    plan = removal(model, {"conv1": [1, 3]})
    small = plan.apply(model)
    assert small.node("norm").layer.config() == {"mean": [0.5, 2.0], "std": [2.0, 0.5]}
    np.testing.assert_allclose(small(x).data, plan.mask(model)(x).data, rtol=1e-4, atol=1e-4)
    named = Model(chain(("conv", Conv2d(1, 3, 1)), ("norm", Normalize("cifar10")),
                        ("out", Conv2d(3, 2, 1))), input_shape=(1, 4, 4))
    cut = removal(named, {"conv": [2]}).apply(named).node("norm").layer
    assert cut.config() == {"mean": [0.4465], "std": [0.2616]}


def test_a_constant_goes_through_it_into_the_next_bias():
    model, x = mapped(), RNG(0).random((3, 1, 8, 8), np.float32)
    for name in ("conv1.weight", "conv1.bias"):
        model.forms()[name].value.data[1] = 0
    assert constants(model)["norm"][1] == pytest.approx(-0.25)
    gone = removable(model)
    assert len(gone) == 1  # relu(-0.25) is 0
    after = removal(folded(model, gone), {"conv1": [0, 2, 3]}).apply(folded(model, gone))
    np.testing.assert_allclose(after(x).data, model(x).data, rtol=1e-5, atol=1e-5)


def test_lower_keeps_it_as_a_step_and_folds_it_behind_a_convolution():
    net = MODELS["lenet5"](normalize="mnist", rng=RNG(0))
    program, x = lower(net), RNG(1).random((4, 1, 28, 28), np.float32)
    assert [(s.name, s.kind) for s in program.steps][:2] == [("normalize", "scale"),
                                                             ("conv1", "conv")]
    np.testing.assert_allclose(program(x), net(x).data, rtol=1e-4, atol=1e-5)
    behind, x = mapped(), RNG(1).random((4, 1, 8, 8), np.float32)
    program = lower(behind)
    assert [s.name for s in program.steps] == ["conv1", "conv2", "flatten", "fc"]
    np.testing.assert_allclose(program(x), behind(x).data, rtol=1e-4, atol=1e-4)


def test_curvature_goes_through_it():
    x, y = RNG(0).random((40, 1, 8, 8), np.float32), RNG(1).integers(0, 3, 40)
    data = Dataset("toy", Split(x, y), Split(x, y))
    for curvature in ("recursion", "exact", "gauss-newton"):
        pruned = OBD(sparsity=0.5, curvature=curvature).apply(mapped(), data, Run(RNG(0)))
        kept = sum(f.nonzeros() for n, f in pruned.forms().items() if n.endswith("weight"))
        assert kept == sum(f.value.data.size for n, f in mapped().forms().items()
                           if n.endswith("weight")) // 2


def test_a_model_takes_another_normalisation_and_stays_the_same_net():
    model, x = MODELS["lenet300"](normalize="mnist", rng=RNG(0)), RNG(1).random((2, 1, 28, 28))
    x = x.astype(np.float32)
    assert normalization(model) == "mnist"
    none = renormalized(model, None)
    assert normalization(none) is None and none.builtin == {"name": "lenet300", "args": {}}
    np.testing.assert_array_equal(none(model.nodes[0].layer(Tensor(x))).data, model(x).data)
    own = renormalized(none, ((0.5,), (0.25,)))
    assert normalization(own) == ([0.5], [0.25]) == normalization(own.copy())
    assert own.spec() == MODELS["lenet300"](normalize=([0.5], [0.25])).spec()
    assert json.loads(json.dumps(own.spec())) == own.spec()
    back = renormalized(own, "mnist")
    np.testing.assert_array_equal(back(x).data, model(x).data)
    with pytest.raises(ValueError, match="needs a mean for each of 1 channels, got 3"):
        renormalized(model, "cifar10")


def test_an_edited_net_is_renormalised_at_its_input_alone():
    model, x = mapped(), RNG(0).random((3, 1, 8, 8), np.float32)
    made = renormalized(model, ((0.5,), (0.5,)))
    assert [n.name for n in made.nodes][:2] == ["normalize", "conv1"]
    np.testing.assert_allclose(made(x).data, model((x - 0.5) / np.float32(0.5)).data, rtol=1e-5)
    assert made.node("norm").layer is model.node("norm").layer
    taken = Model(chain(("normalize", Linear(4, 4)), ("fc", Linear(4, 2))), input_shape=(4,))
    flat = renormalized(taken, ([0.0] * 4, [2.0] * 4))
    assert [(n.name, n.inputs) for n in flat.nodes] == [
        ("normalize_", ("x",)), ("normalize", ("normalize_",)), ("fc", ("normalize",))]


def test_threads_and_evaluation_see_the_same_net():
    model = MODELS["lenet5"](normalize="glyphs", rng=RNG(0))
    split = Split(RNG(1).random((70, 1, 28, 28), np.float32), RNG(2).integers(0, 10, 70))
    assert evaluate(model, split) == evaluate(model, split, n_threads=2)
