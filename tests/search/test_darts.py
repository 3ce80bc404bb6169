import numpy as np
import pytest

from minicomp.data import Dataset, Split
from minicomp.errors import UserError
from minicomp.gradcheck import grad_check
from minicomp.models import MLP
from minicomp.nn.graph import Model, chain
from minicomp.ops import softmax
from minicomp.search import Limit, Mixture, Space, cell, cells, darts, discretise
from minicomp.search.darts import architecture_gradient, likeliest, mixture, mixture_gradient
from minicomp.tensor import Tensor, grad


def test_a_mixture_by_hand():
    outputs, alpha = np.array([[1.0], [5.0]]), np.array([0.0, np.log(3.0)])
    assert mixture(outputs, alpha) == pytest.approx(4.0)  # 1/4 and 3/4
    assert mixture_gradient(np.ones(1), outputs, alpha) == pytest.approx([-0.75, 0.75])


def test_the_gradient_of_a_mixture_is_that_of_the_graph():
    rng = np.random.default_rng(0)
    g, outputs = rng.normal(size=(2, 3)), rng.normal(size=(4, 2, 3))
    alpha = Tensor(rng.normal(size=4), requires_grad=True)
    y = mixture([Tensor(o) for o in outputs], alpha)
    np.testing.assert_allclose(grad(y, alpha, cotangent=g).data,
                               mixture_gradient(g, outputs, alpha.data), rtol=1e-12)
    grad_check(lambda o, a: mixture([o[i] for i in range(4)], a), outputs, alpha.data, order=2,
               rng=rng)


def toy(seed=0):
    # A net of one unit that mixes two operations, tanh and its argument, with its two losses.
    rng = np.random.default_rng(seed)
    x, v = rng.normal(size=(2, 5, 3))
    t, u = rng.normal(size=(2, 5))

    def loss(x, t):
        def of(ws, alphas):
            h = (Tensor(x) @ ws[0]).sum(axis=1)
            y = mixture([h, h * h * ws[1]], alphas[0])
            d = y - Tensor(t)
            return (d * d).mean()
        return of

    leaf = [Tensor(a, requires_grad=True) for a in (rng.normal(size=(3, 1)), rng.normal(size=1))]
    return loss(x, t), loss(v, u), leaf, [Tensor(rng.normal(size=2), requires_grad=True)]


def test_second_order_is_the_finite_difference_of_a_step_of_training():
    train, val, ws, alphas = toy()
    xi, eps = 0.1, 1e-6

    def after_a_step(a):
        a = [Tensor(a, requires_grad=True)]
        g = grad(train(ws, a), ws)
        return val([Tensor(w.data - xi * d.data) for w, d in zip(ws, g)], a).item()

    def slope(f):
        moved = np.eye(2) * eps
        return [(f(alphas[0].data + e) - f(alphas[0].data - e)) / (2 * eps) for e in moved]

    second = architecture_gradient(train, val, ws, alphas, xi=xi)[0]
    np.testing.assert_allclose(second, slope(after_a_step), rtol=1e-6)
    first = architecture_gradient(train, val, ws, alphas, xi=0.0)[0]
    fixed = slope(lambda a: val(ws, [Tensor(a)]).item())
    np.testing.assert_allclose(first, fixed, rtol=1e-6)
    assert np.abs(second - first).max() > 0.05 * np.abs(first).max()


def test_second_order_is_equation_7_with_the_papers_finite_difference_8():
    train, val, ws, alphas = toy(1)
    xi = 0.05
    stepped = [Tensor(w.data - xi * d.data, requires_grad=True)
               for w, d in zip(ws, grad(train(ws, alphas), ws))]
    dw = [d.data for d in grad(val(stepped, alphas), stepped)]
    eps = 1e-4 / np.sqrt(sum(float(np.sum(d * d)) for d in dw))
    either = [grad(train([Tensor(w.data + sign * eps * d) for w, d in zip(ws, dw)], alphas),
                   alphas)[0].data for sign in (1, -1)]
    expected = grad(val(stepped, alphas), alphas)[0].data - xi * (either[0] - either[1]) / (2 * eps)
    found = architecture_gradient(train, val, ws, alphas, xi=xi)[0]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_largest_product_of_probabilities_under_the_limit_is_taken():
    alphas = [np.log([0.75, 0.25]), np.log([0.05, 0.25, 0.7])]
    assert likeliest(alphas, np.array([[0, 0], [1, 1]])) == 1
    space = Space({"a": (8, 2), "b": (1, 2, 3)}, lambda *, a, b, rng=None: MLP([1, a * b, 1]))
    named = dict(zip("ab", alphas))
    assert discretise(space, named) == {"a": 8, "b": 3}  # each place's largest
    assert discretise(space.under(Limit(macs=20)), named) == {"a": 2, "b": 3}
    with pytest.raises(UserError, match="must admit a net of the space, got macs <= 3"):
        discretise(space.under(Limit(macs=3)), named)


def test_a_mixture_of_one_operation_is_the_chosen_net():
    mixed = cell(channels=2, rng=np.random.default_rng(0))
    x = np.random.default_rng(1).random((3, 1, 28, 28), dtype=np.float32)
    sure = np.array([0, 0, 0, 0, 40], np.float32)  # softmax: 1 but for 2e-17
    alphas = {"op1": Tensor(sure[::-1].copy()), "op2": Tensor(sure)}
    net = mixed.chosen({"op1": "skip", "op2": "conv5"})
    np.testing.assert_allclose(mixed(x, mixed.parameters(), alphas).data, net(x).data, atol=1e-6)
    assert net.count() == cells(channels=2).build({"op1": "skip", "op2": "conv5"}).count()
    net.forms()["head.fc.weight"].value.data[:] = 0  # a copy
    assert mixed.head.forms()["fc.weight"].values().any()


def linear_or_nothing():
    # Two places that offer a learnt map, or nothing, in a problem that needs the map once.
    def net(*layers):
        return Model(chain(*layers), input_shape=(2,))

    def learnt(seed):
        made = MLP([2, 8, 2], rng=np.random.default_rng(seed))
        return made

    mixed = Mixture(net(), {"op1": {"skip": net(), "mlp": learnt(0)}},
                    MLP([2, 2], rng=np.random.default_rng(2)))
    space = Space({"op1": ("skip", "mlp")}, lambda *, op1, rng=None: mixed.chosen({"op1": op1}))
    rng = np.random.default_rng(3)
    x = rng.normal(size=(1200, 2)).astype(np.float32)
    y = (x[:, 0] * x[:, 1] > 0).astype(np.int64)  # no line tells these apart
    return space, mixed, Dataset("xor", Split(x, y), Split(x[:100], y[:100]))


@pytest.mark.parametrize("order", [1, 2])
def test_the_operation_that_the_problem_needs_is_found(order):
    space, mixed, data = linear_or_nothing()
    rows = []
    found = darts(space, mixed, data, epochs=6, batch_size=20, lr=0.1, alpha_lr=0.02, order=order,
                  rng=np.random.default_rng(0), log=rows.append)
    p = softmax(found.alphas["op1"])
    assert found.choice == {"op1": "mlp"} and p[1] > 0.6
    assert found.passes == 6 * 30 * 20 * (2 * order)
    assert rows[-1]["event"] == "darts" and rows[-2]["done"] == rows[-2]["total"] == 180


def test_errors():
    space, mixed, data = linear_or_nothing()
    rng = np.random.default_rng(0)
    with pytest.raises(UserError, match="order must be 1 or 2, got 3"):
        darts(space, mixed, data, order=3, rng=rng)
    with pytest.raises(UserError, match="choices of the space must be the places"):
        darts(cells(), mixed, data, rng=rng)
    with pytest.raises(UserError, match="batch_size at most 600, half .* got 1 and 601"):
        darts(space, mixed, data, batch_size=601, rng=rng)
