import inspect

import numpy as np
import pytest

import minicomp
from minicomp.data import from_arrays
from minicomp.errors import FormatError, UserError
from minicomp.jobs.job import check_data
from minicomp.models import (ARGUMENTS, MODELS, MLP, LeNet5, LeNet5Classic, LeNet300, for_data,
                             from_spec)
from minicomp.nn import Tanh, cross_entropy
from minicomp.tensor import grad

RNG = np.random.default_rng


@pytest.mark.parametrize(
    "name, parameters, macs",
    [("lenet5", 431080, 2293000), ("lenet300", 266610, 266200), ("lenet5classic", 61706, 416520)],
)
def test_parameters_and_macs_of_the_papers(name, parameters, macs):
    model = MODELS[name]()
    assert model.count() == parameters and sum(model.macs().values()) == macs
    assert model.origin_bytes == 4 * parameters and not model.buffers()
    assert model.input_shape == (1, 28, 28) and model.builtin == {"name": name, "args": {}}


@pytest.mark.parametrize("name", ["lenet300", "lenet5", "lenet5classic"])
def test_classes_and_channels_are_arguments(name, tmp_path):
    model = MODELS[name](classes=7, channels=3, rng=RNG(0))
    assert model.input_shape == (3, 28, 28) and list(model.shapes().values())[-1] == (7,)
    assert model.builtin == {"name": name, "args": {"classes": 7, "channels": 3}}
    assert MODELS[name](classes=7, channels=1).builtin["args"] == {"classes": 7}
    minicomp.save(model, tmp_path / "m.mcz")
    loaded = minicomp.load(tmp_path / "m.mcz")
    assert loaded.spec() == model.spec()
    x = RNG(1).standard_normal((2, 3, 28, 28)).astype(np.float32)
    np.testing.assert_array_equal(loaded(x).data, model(x).data)


@pytest.mark.parametrize(
    "args, message",
    [
        ({"classes": 0}, r"classes must be an integer in \[1, 1000\], got '0'"),
        ({"classes": 1001}, r"classes must be an integer in \[1, 1000\], got '1001'"),
        ({"classes": True}, "classes must be an integer in .*, got 'True'"),
        ({"classes": 2.0}, "classes must be an integer"),
        ({"classes": "10"}, "classes must be an integer"),
        ({"channels": 17}, r"channels must be an integer in \[1, 16\], got '17'"),
        ({"channels": None}, "channels must be an integer"),
    ],
)
def test_arguments_out_of_bounds_are_refused_where_built_and_where_read(args, message):
    for name in ("lenet300", "lenet5", "lenet5classic"):
        with pytest.raises(ValueError, match=message):
            MODELS[name](**args)
        with pytest.raises(FormatError, match=f"{name}: {message}"):
            from_spec({"builtin": name, "args": args})


@pytest.mark.parametrize("args", [{"rng": 1}, {"width": 1.0}, {"classes": 9, "x": 1}, [], None, 3])
def test_a_header_with_other_arguments_is_refused(args):
    with pytest.raises(FormatError, match="arguments of lenet5 must be among classes, channels"):
        from_spec({"builtin": "lenet5", "args": args})


@pytest.mark.parametrize("name", MODELS)
def test_arguments_are_declared_with_the_defaults_of_the_builder(name):
    parameters = dict(inspect.signature(MODELS[name]).parameters)
    del parameters["rng"]
    assert {n: p.default for n, p in parameters.items()} == {
        n: a.default for n, a in ARGUMENTS[name].items()
    }
    small = name.startswith("lenet") or name == "depthwise32"
    large = {"alexnet": 2**28, "vggsmall": 2**28, "xception": 2**27}
    most = 2**24 if small else large.get(name, 2**26)
    for end in ("lo", "hi"):
        args = {n: getattr(a, end) for n, a in ARGUMENTS[name].items() if n != "normalize"}
        model = MODELS[name](**args)
        assert from_spec(model.spec()).spec() == model.spec() and model.dense_bytes() < most


def test_caffes_lenet5_node_by_node():
    model = LeNet5()
    assert [n.name for n in model.nodes] == [
        "conv1",
        "pool1",
        "conv2",
        "pool2",
        "flatten",
        "fc1",
        "relu1",
        "fc2",
    ]
    assert list(model.shapes().values()) == [
        (1, 28, 28),
        (20, 24, 24),
        (20, 12, 12),
        (50, 8, 8),
        (50, 4, 4),
        (800,),
        (500,),
        (500,),
        (10,),
    ]
    assert {n: m for n, m in model.macs().items() if m} == {
        "conv1": 288000,
        "conv2": 1600000,
        "fc1": 400000,
        "fc2": 5000,
    }  # half of Han et al. 2015, table 4


def test_lenet_300_100_node_by_node():
    model = LeNet300()
    assert [n.name for n in model.nodes] == ["flatten", "fc1", "relu1", "fc2", "relu2", "fc3"]
    assert [m for m in model.macs().values() if m] == [235200, 30000, 1000]


def test_the_classic_has_relu_and_pads_to_32():
    model = LeNet5Classic()
    assert [n.layer.kind for n in model.nodes].count("ReLU") == 4
    assert model.shapes()["conv1"] == (6, 28, 28) and model.shapes()["flatten"] == (400,)


@pytest.mark.parametrize("name", MODELS)
def test_weights_are_drawn_from_rng_biases_are_0_and_no_rng_means_no_weights(name, built_in):
    a, b, c = (built_in(name, rng=RNG(seed)) for seed in (0, 0, 1))
    zeros = built_in(name).forms()
    for key, form in a.forms().items():
        w = form.dense().data
        assert w.dtype == np.float32 and form.trainable and form.mask is None
        np.testing.assert_array_equal(w, b.forms()[key].dense().data)
        if w.ndim > 1:
            assert not np.array_equal(w, c.forms()[key].dense().data)
            assert not zeros[key].dense().data.any()
        elif key.endswith("bias"):
            assert not w.any()


@pytest.mark.parametrize("name", MODELS)
def test_outputs_and_gradients_are_of_reasonable_size_at_the_start(name):
    # Variance neither dies nor explodes through the layers, and every parameter receives a
    # gradient.
    model = MODELS[name](rng=RNG(0))
    x = RNG(1).standard_normal((16, *model.input_shape)).astype(np.float32)
    z = model(x, training=True, rng=RNG(3))
    assert z.shape == (16, 10) and z.dtype == np.float32 and 0.1 < z.data.std() < 3
    loss = cross_entropy(z, RNG(2).integers(0, 10, 16))
    assert 2 < loss.item() < 5
    for g in grad(loss, list(model.parameters().values())):
        assert np.isfinite(g.data).all() and g.data.any()


def test_mlp_has_the_sizes_and_activation_asked_for():
    model = MLP([784, 500, 300, 10])
    assert model.count() == 545810 and model.input_shape == (
        784,
    )  # the net of network slimming 2017
    assert [n.name for n in model.nodes] == ["fc1", "act1", "fc2", "act2", "fc3"]
    assert MLP([2, 3, 1], activation=Tanh).node("act1").layer.kind == "Tanh"
    assert [n.name for n in MLP([2, 3]).nodes] == ["fc1"]
    with pytest.raises(
        ValueError, match=r"sizes must name at least an input and an output, got \[5\]"
    ):
        MLP([5])


@pytest.mark.parametrize(
    "sizes, message",
    [
        ([10**9, 10**9], r"sizes must be an integer in \[1, 1048576\], got '1000000000'"),
        ([4, 0, 3], "sizes must be an integer"),
        ([4, 2.0, 3], "sizes must be an integer"),
        ([4, True], "sizes must be an integer"),
        ([2**20, 2**20], "sizes must make at most 268,435,456 weights, got 1,099,511,627,776"),
    ],
)
def test_the_sizes_of_an_mlp_are_bounded(sizes, message):
    with pytest.raises(ValueError, match=message):
        MLP(sizes)


@pytest.mark.peers
@pytest.mark.parametrize("make", [LeNet300, LeNet5, LeNet5Classic])
def test_torchs_modules_compute_the_same(make):
    torch = pytest.importorskip("torch")
    model, other = make(rng=RNG(0)), torch.nn.Sequential()
    for node in model.nodes:
        args = {k: tuple(v) if isinstance(v, list) else v for k, v in node.layer.config().items()}
        other.add_module(node.name, getattr(torch.nn, node.layer.kind)(**args))
    other.load_state_dict({n: torch.tensor(a) for n, a in model.state_dict().items()})
    x = RNG(1).standard_normal((8, 1, 28, 28)).astype(np.float32)
    np.testing.assert_allclose(
        model(x).data, other(torch.tensor(x)).detach().numpy(), rtol=1e-4, atol=1e-5
    )


def test_a_net_for_data_says_what_it_does_not_know():
    images = from_arrays(np.zeros((4, 1, 28, 28), np.float32), np.array([0, 1, 0, 1]))
    with pytest.raises(UserError, match="unknown model 'lenet30'; did you mean lenet300"):
        for_data("lenet30", images)
    # Statistics of columns are none of an image's channels: it is the shape that does not fit.
    columns = from_arrays(np.zeros((4, 6), np.float32), np.array([0, 1, 0, 1]))
    with pytest.raises(UserError, match=r"examples of shape \(6,\), the model takes \(1, 28, 28\)"):
        check_data(for_data("lenet300", columns), columns)
