import numpy as np
import pytest

from minicomp.nn import BatchNorm2d, Conv2d, Flatten, Linear, Model, chain, init


@pytest.mark.parametrize(
    "shape, fan_in, fan_out",
    [((300, 784), 784, 300), ((64, 32, 5, 5), 800, 1600), ((96, 1, 3, 3), 9, 864)],
)
@pytest.mark.parametrize(
    "fn, bound",
    [
        (init.lecun_uniform, lambda i, o: np.sqrt(3 / i)),
        (init.glorot_uniform, lambda i, o: np.sqrt(6 / (i + o))),
        (init.he_uniform, lambda i, o: np.sqrt(6 / i)),
        (init.torch_uniform, lambda i, o: np.sqrt(1 / i)),
    ],
)
def test_uniforms_fill_their_interval(fn, bound, shape, fan_in, fan_out):
    w, b = fn(shape, rng=np.random.default_rng(0)), bound(fan_in, fan_out)
    assert w.dtype == np.float32 and w.shape == shape
    n = w.size
    assert 0.985 * b < np.abs(w).max() <= b * (1 + 1e-6)
    assert abs(w.mean()) < 4 * b / np.sqrt(3 * n)
    assert w.var() == pytest.approx(b * b / 3, rel=4 * np.sqrt(0.8 / n))


@pytest.mark.parametrize(
    "shape, fan_in, fan_out", [((300, 784), 784, 300), ((64, 32, 5, 5), 800, 1600)]
)
@pytest.mark.parametrize(
    "fn, variance",
    [(init.glorot_normal, lambda i, o: 2 / (i + o)), (init.he_normal, lambda i, o: 2 / i)],
)
def test_normals_have_their_variance(fn, variance, shape, fan_in, fan_out):
    w, v = fn(shape, rng=np.random.default_rng(0)), variance(fan_in, fan_out)
    assert w.dtype == np.float32 and w.shape == shape
    assert abs(w.mean()) < 4 * np.sqrt(v / w.size)
    assert w.astype(np.float64).var() == pytest.approx(v, rel=4 * np.sqrt(2 / w.size))
    assert (np.abs(w) > 3 * np.sqrt(v)).mean() == pytest.approx(0.0027, abs=0.001)  # Gaussian tails


def test_a_gaussian_of_given_deviation():
    w = init.gaussian((100, 100), std=0.01, rng=np.random.default_rng(0))
    assert w.dtype == np.float32 and w.std() == pytest.approx(0.01, rel=0.03)


@pytest.mark.parametrize(
    "fn",
    [init.lecun_uniform, init.glorot_uniform, init.glorot_normal, init.he_uniform, init.he_normal],
)
def test_the_seed_decides(fn):
    a, b, c = (fn((4, 5), rng=np.random.default_rng(s)) for s in (0, 0, 1))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)


def test_a_net_is_drawn_in_its_mixing_layers_alone():
    model = Model(
        chain(("conv", Conv2d(2, 3, 3)), ("bn", BatchNorm2d(3)), ("flatten", Flatten()),
              ("fc", Linear(27, 4))),
        input_shape=(2, 5, 5),
    )
    assert init.initialise(model, rng=np.random.default_rng(7), draw=init.he_normal) is model
    rng = np.random.default_rng(7)
    for name, shape in (("conv.weight", (3, 2, 3, 3)), ("fc.weight", (4, 27))):
        np.testing.assert_array_equal(
            model.forms()[name].dense().data, init.he_normal(shape, rng=rng), strict=True
        )
    assert (model.forms()["bn.weight"].dense().data == 1).all()
    assert not any(model.forms()[f"{name}.bias"].nonzeros() for name in ("conv", "bn", "fc"))
