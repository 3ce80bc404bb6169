from types import SimpleNamespace

import numpy as np
import pytest

from minicomp.codec import decode, encode
from minicomp.compress import FineTune, Filters, PTQ, Run, ConcatenatedReLU
from minicomp.compress.channels.removal import removed
from minicomp.compress.share.crelu import both_phases, halved
from minicomp.data import Split
from minicomp.deploy import lower
from minicomp.errors import UserError
from minicomp.models import MLP, LeNet5Classic
from minicomp.nn import CReLU, Dense

RNG = np.random.default_rng
X = RNG(3).standard_normal((3, 1, 28, 28)).astype(np.float32)


def made(model=None, **knobs):
    return ConcatenatedReLU(**knobs).apply(model or LeNet5Classic(rng=RNG(0)), None, Run(RNG(1)))


def test_halves_of_largest_norm():
    assert halved(np.array([[1.0], [-3], [2], [1], [0]])).tolist() == [0, 1, 2]
    w = both_phases(Dense(np.ones((2, 3, 1, 1)), np.arange(6).reshape(2, 3, 1, 1) > 1))
    assert w.shape == (2, 6, 1, 1) and w.mask.sum() == 8 and w.dense().data.sum() == 4


def test_filters_are_halved_the_next_layers_keep_their_inputs_and_nothing_changes_yet():
    net = LeNet5Classic(rng=RNG(0))
    model, shapes = made(net), net.shapes()
    w = {n: f.shape for n, f in model.forms().items() if len(f.shape) > 1}
    assert w["conv1.weight"] == (3, 1, 5, 5) and w["conv2.weight"] == (8, 6, 5, 5)
    assert w["fc1.weight"] == (120, 400) and model.shapes()["relu2"] == shapes["relu2"]
    assert [n.name for n in model.nodes if isinstance(n.layer, CReLU)] == ["relu1", "relu2"]
    keep = {n: halved(net.forms()[f"{n}.weight"].dense().data) for n in ("conv1",)}
    pruned = removed(net, keep)
    second = pruned.forms()["conv2.weight"].dense().data  # ranked as they are left
    pruned = removed(pruned, {"conv2": halved(second)})
    np.testing.assert_allclose(model(X).data, pruned(X).data, atol=1e-6)


def test_one_filter_sees_both_phases():
    model = made(keep={"*": True, "conv1": False})
    y = dict(zip(("conv1", "relu1"), model(X, taps=("conv1", "relu1"))[1].values()))
    x, both = (t.data for t in y.values())
    np.testing.assert_array_equal(both, np.concatenate([np.maximum(x, 0), np.maximum(-x, 0)], 1))


def test_files_programs_and_channels_go_on_with_it():
    model = made()
    for name, form in model.forms().items():  # both phases count
        if len(form.shape) > 1:
            model.set_form(name, Dense(0.1 * RNG(5).standard_normal(form.shape, np.float32)))
    np.testing.assert_array_equal(decode(encode(model)).model(X).data, model(X).data)
    np.testing.assert_allclose(lower(model)(X), model(X).data, atol=1e-5)
    less = Filters(sparsity=0.4).apply(model, None, Run(RNG(2)))
    shapes = less.shapes()
    assert shapes["relu1"][0] == 2 * shapes["conv1"][0] < 6
    assert less.forms()["conv2.weight"].shape[1] == shapes["relu1"][0]
    gone = removed(model, {"conv1": np.array([0, 2])})
    zeroed = model.copy()
    for part in ("weight", "bias"):
        zeroed.forms()[f"conv1.{part}"].value.data[1] = 0
    np.testing.assert_allclose(gone(X).data, zeroed(X).data, atol=1e-5)


def test_integers_refuse_it_by_name_and_weights_alone_are_quantized():
    model = PTQ(mode="weight-only").apply(made(), None, Run(RNG(2)))
    np.testing.assert_allclose(lower(model, precision="weight-only")(X), model(X).data, atol=1e-4)
    split = Split(RNG(4).standard_normal((40, 1, 28, 28)).astype(np.float32), np.arange(40) % 10)
    data = SimpleNamespace(train=split, val=split)
    whole = PTQ(samples=40).apply(made(), data, Run(RNG(2)))
    with pytest.raises(ValueError, match="^relu1: a crelu has no integer form"):
        lower(whole, precision="int8")


def test_nets_without_such_a_place_are_refused():
    with pytest.raises(UserError, match="crelu: it needs a convolution whose ReLU one layer"):
        made(MLP((4, 3, 2), rng=RNG(0)))
    with pytest.raises(UserError, match="crelu: it needs a convolution"):
        made(keep=True)
    assert FineTune().check(made()) is None
