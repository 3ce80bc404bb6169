import numpy as np
import pytest

from minicomp.gradcheck import grad_check
from minicomp.nn import (
    AvgPool2d, BatchNorm1d, BatchNorm2d, Conv2d, Dense, Flatten, Linear, MaxPool2d, Model,
    Sigmoid, Tanh, chain, cross_entropy,
)
from minicomp.tensor import grad, hvp

RNG = np.random.default_rng


def small_net(seed=0):
    nodes = chain(
        ("conv", Conv2d(2, 3, 3, padding=1)),
        ("bn", BatchNorm2d(3)),
        ("tanh", Tanh()),
        ("pool", MaxPool2d(2)),
        ("dw", Conv2d(3, 3, 3, padding=1, groups=3)),
        ("avg", AvgPool2d(3, 2, 1)),
        ("flat", Flatten()),
        ("fc1", Linear(12, 5)),
        ("bn1", BatchNorm1d(5)),
        ("sig", Sigmoid()),
        ("fc2", Linear(5, 3)),
    )
    model = Model(nodes, input_shape=(2, 6, 6))
    rng = RNG(seed)
    for name, form in model.forms().items():
        model.set_form(
            name, Dense(rng.standard_normal(form.shape) * 0.5 + name.endswith("bn.weight"))
        )
    return model


@pytest.mark.parametrize("training", [True, False])
def test_hessian_vector_products_of_a_net_agree_with_finite_differences(training):
    # float64, 1e-7 relative: H v against (g(w + h v) - g(w - h v)) / 2h by a four-point stencil
    model, rng = small_net(), RNG(1)
    x, y = rng.standard_normal((4, 2, 6, 6)), rng.integers(0, 3, 4)
    params = list(model.parameters().values())
    vectors = [rng.standard_normal(p.shape) for p in params]

    def loss(*_):
        return cross_entropy(model(x, training=training), y, label_smoothing=0.1)

    exact = hvp(loss, params, vectors)
    saved, h = [p.data.copy() for p in params], 1e-4
    finite = [np.zeros(p.shape) for p in params]
    for m, c in ((-2, 1.0), (-1, -8.0), (1, 8.0), (2, -1.0)):
        for p, s, v in zip(params, saved, vectors):
            p.data[...] = s + m * h * v
        for f, g in zip(finite, grad(loss(), params)):
            f += c / (12 * h) * g.data
    for p, s in zip(params, saved):
        p.data[...] = s
    scale = np.sqrt(sum((e**2).sum() for e in exact))
    error = np.sqrt(sum(((e - f) ** 2).sum() for e, f in zip(exact, finite)))
    assert error < 1e-7 * scale
    for name, e in zip(model.parameters(), exact):
        idle = training and name in (
            "conv.bias",
            "dw.bias",
            "fc1.bias",
        )  # batch norm takes a constant away
        assert np.abs(e).max() < 1e-12 * scale if idle else np.abs(e).max() > 1e-6 * scale
    # symmetry: u'Hv = v'Hu
    others = [rng.standard_normal(p.shape) for p in params]
    left = sum((u * e).sum() for u, e in zip(others, exact))
    right = sum((v * e).sum() for v, e in zip(vectors, hvp(loss, params, others)))
    assert left == pytest.approx(right, rel=1e-9)


def test_three_orders_of_a_net():
    model = small_net()
    names = list(model.forms())
    x, y = RNG(1).standard_normal((4, 2, 6, 6)), np.array([0, 1, 2, 0])

    def loss(*tensors):
        for name, t in zip(names, tensors):
            model.forms()[name].value = t
        return cross_entropy(model(x, training=True), y)

    grad_check(
        loss, *(model.forms()[n].value.data for n in names), rng=RNG(2), order=3, tolerance=1e-6
    )


@pytest.mark.peers
def test_state_dicts_go_both_ways():
    torch = pytest.importorskip("torch")
    nn = torch.nn
    other = nn.Sequential()
    parts = [
        ("conv", nn.Conv2d(2, 3, 3, padding=1)),
        ("bn", nn.BatchNorm2d(3)),
        ("tanh", nn.Tanh()),
        ("pool", nn.MaxPool2d(2)),
        ("dw", nn.Conv2d(3, 3, 3, padding=1, groups=3)),
        ("avg", nn.AvgPool2d(3, 2, 1)),
        ("flat", nn.Flatten()),
        ("fc1", nn.Linear(12, 5)),
        ("bn1", nn.BatchNorm1d(5)),
        ("sig", nn.Sigmoid()),
        ("fc2", nn.Linear(5, 3)),
    ]
    for name, part in parts:
        other.add_module(name, part)
    model = small_net()
    for name, form in model.forms().items():
        model.set_form(name, Dense(form.value.data.astype(np.float32)))
    x = RNG(0).standard_normal((8, 2, 6, 6)).astype(np.float32)
    other(torch.tensor(x))  # training: moves the running statistics
    theirs = {n: t.numpy() for n, t in other.state_dict().items()}
    assert [n for n in theirs if not n.endswith("num_batches_tracked")] == list(model.state_dict())
    model.load_state_dict(theirs)  # with num_batches_tracked
    other.eval()
    np.testing.assert_allclose(
        model(x).data, other(torch.tensor(x)).detach().numpy(), rtol=1e-4, atol=1e-5
    )
    model(x * 2, training=True)
    other.load_state_dict({n: torch.tensor(a) for n, a in model.state_dict().items()})  # strict
    np.testing.assert_allclose(
        model(x).data, other(torch.tensor(x)).detach().numpy(), rtol=1e-4, atol=1e-5
    )
