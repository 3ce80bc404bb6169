import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from minicomp.compress.curvature import hessian as second
from minicomp.models import MLP
from minicomp.nn import (
    BatchNorm2d,
    Conv2d,
    Dense,
    Flatten,
    Linear,
    Model,
    ReLU,
    Sigmoid,
    Tanh,
    chain,
)
from minicomp.tensor import grad

RNG = np.random.default_rng
EPS = np.finfo(float).eps


def mlp(seed=0, sizes=(5, 4, 3), activation=Sigmoid):
    return second.float64(MLP(sizes, rng=RNG(seed), activation=activation))


def conv(seed=0):
    # Groups, stride, padding, and a batch norm whose statistics are not trivial.
    rng = RNG(seed)
    model = Model(
        chain(
            ("c1", Conv2d(2, 4, 3, stride=2, padding=1, groups=2)),
            ("bn", BatchNorm2d(4)),
            ("t1", Tanh()),
            ("c2", Conv2d(4, 3, 2, bias=False)),
            ("t2", Tanh()),
            ("f", Flatten()),
            ("fc", Linear(3, 3)),
        ),
        input_shape=(2, 4, 4),
    )
    for name, form in model.forms().items():
        model.set_form(name, Dense((0.5 * rng.standard_normal(form.shape)).astype(np.float32)))
    model.buffers()["bn.running_var"][...] = [0.5, 2, 1, 3]
    return second.float64(model)


def examples(model, seed=1, n=6):
    rng = RNG(seed)
    return rng.standard_normal((n, *model.input_shape)), rng.integers(0, 3, n)


def names(model):
    return [f"{node.name}.{part}" for node in second.layers(model) for part in node.layer.forms]


def joined(model, by_name):
    return np.concatenate([np.ravel(by_name[n]) for n in names(model)])


# ----------------------------------------------------------------------------------- the inverse


@given(
    n=st.integers(1, 12),
    R=st.integers(1, 25),
    block=st.sampled_from([1, 3, 64]),
    alpha=st.sampled_from([1e-8, 1e-6, 1e-4, 1e-2, 1.0]),
    seed=st.integers(0, 999),
)
@example(n=3, R=11, block=3, alpha=1e-8, seed=520)  # the first three are nearly in a plane
def test_the_recursion_is_the_inverse_to_what_the_condition_of_H_allows(n, R, block, alpha, seed):
    X = RNG(seed).standard_normal((R, n))
    H = second.hessian(X, alpha)
    np.testing.assert_allclose(H, alpha * np.eye(n) + X.T @ X / R, rtol=1e-12)
    found, expected = second.inverse_hessian(X, alpha, block=block), np.linalg.inv(H)
    # The largest condition number on the way from H_0 = alpha I is that of a direction not yet
    # seen, |H| / alpha. Relative to the inverse in which every direction has been seen for the
    # first time, the largest of those that follow, the error is that times eps and a modest power
    # of n.
    seen = min(-(-n // block) * block, R)
    largest = np.abs(np.linalg.inv(second.hessian(X[:seen], alpha, R))).max()
    bound = 4 * n * EPS * np.linalg.norm(H, 2) / alpha
    assert np.abs(found - expected).max() <= bound * max(largest, np.abs(expected).max())
    np.testing.assert_array_equal(found, found.T)


def test_several_gradients_an_example_are_divided_by_the_examples():
    X = RNG(0).standard_normal((12, 4))
    H = 1e-3 * np.eye(4) + X.T @ X / 3
    np.testing.assert_allclose(second.hessian(X, 1e-3, P=3), H, rtol=1e-12)
    np.testing.assert_allclose(second.inverse_hessian(X, 1e-3, P=3), np.linalg.inv(H), rtol=1e-9)


def test_deleting_from_the_inverse_is_inverting_what_is_left():
    X = RNG(1).standard_normal((20, 6))
    H = second.hessian(X, 0.1)
    rest = [0, 1, 3, 4, 5]
    less = second.eliminated(np.linalg.inv(H), 2)
    np.testing.assert_allclose(
        less[np.ix_(rest, rest)], np.linalg.inv(H[np.ix_(rest, rest)]), rtol=1e-10
    )
    assert not less[2].any() and not less[:, 2].any()


@pytest.mark.parametrize("alpha", [0.0, -1.0])
def test_the_recursion_refuses_what_has_no_inverse(alpha):
    with pytest.raises(ValueError, match="alpha must be positive"):
        second.inverse_hessian(np.eye(2), alpha)
    with pytest.raises(ValueError, match="X must be finite"):
        second.inverse_hessian(np.array([[np.nan, 1.0]]), 1.0)


def test_damping_is_what_was_asked_for_unless_H_is_singular_and_is_told():
    H = second.hessian(RNG(2).standard_normal((30, 5)), 0.0)
    Hinv, used = second.damped_inverse(H, 0.01)
    assert used == pytest.approx(0.01 * np.diag(H).mean())
    np.testing.assert_allclose(Hinv @ (H + used * np.eye(5)), np.eye(5), atol=1e-12)
    assert second.damped_inverse(H, 0.0)[1] == 0.0
    for singular in (np.ones((4, 4)), np.zeros((4, 4)), np.diag([1.0, 1.0, -1.0])):
        Hinv, used = second.damped_inverse(singular, 0.0)
        assert used > 0
        np.linalg.cholesky(singular + used * np.eye(len(singular)))
        assert (
            np.abs(Hinv @ (singular + used * np.eye(len(singular))) - np.eye(len(singular))).max()
            < 1e-3
        )
    with pytest.raises(ValueError, match="H must be finite"):
        second.damped_inverse(np.full((2, 2), np.nan), 0.1)


# ----------------------------------------------------------------------------- of a whole network


@pytest.mark.parametrize("make", [mlp, conv])
def test_the_jacobian_is_the_gradient_of_each_output_of_each_example(make):
    model = make()
    x, _ = examples(model)
    J = second.jacobian(model, x)
    for p in (0, 3):
        for k in range(3):
            expected = grad(
                model(x[p : p + 1])[0, k], [model.forms()[n].value for n in names(model)]
            )
            for name, g in zip(names(model), expected):
                np.testing.assert_allclose(J[name][p, k], g.data.ravel(), atol=1e-13)


@pytest.mark.parametrize("make", [mlp, conv])
@pytest.mark.parametrize("loss", second.LOSSES)
def test_the_exact_hessian_is_the_difference_of_gradients(make, loss):
    model = make()
    x, y = examples(model)
    H = second.exact_hessian(model, x, y, names(model), loss)
    forms = [model.forms()[n].value for n in names(model)]

    def gradient():
        return np.concatenate(
            [g.data.ravel() for g in grad(second.mean_loss(model(x), y, loss), forms)]
        )

    start = 0
    for form in forms:
        for i in (0, form.size - 1):
            form.data.flat[i] += 1e-5
            above = gradient()
            form.data.flat[i] -= 2e-5
            difference = (above - gradient()) / 2e-5
            form.data.flat[i] += 1e-5
            np.testing.assert_allclose(H[start + i], difference, atol=1e-8)
        start += form.size


@pytest.mark.parametrize("make", [mlp, conv])
@pytest.mark.parametrize("loss", second.LOSSES)
def test_the_exact_diagonal_by_units_is_that_of_the_exact_hessian(make, loss):
    model = make()
    x, y = examples(model)
    H = second.exact_hessian(model, x, y, names(model), loss)
    found = second.exact_diagonal(model, x, y, loss)
    assert {n: a.shape for n, a in found.items()} == {
        n: model.forms()[n].shape for n in names(model)
    }
    np.testing.assert_allclose(joined(model, found), np.diag(H), atol=1e-12 * np.abs(H).max())


def test_gauss_newton_leaves_out_the_residuals_and_nothing_else():
    # On squared error with the model's own outputs as targets there are no residuals.
    model = mlp(sizes=(4, 3, 1))
    x = examples(model)[0]
    d = model(x).data[:, 0]
    X = np.concatenate(list(second.gauss_newton_rows(model, x, names(model), "squared")))
    H = second.exact_hessian(model, x, d, names(model), "squared")
    np.testing.assert_allclose(second.hessian(X, 0.0), H, atol=1e-13)
    assert np.abs(second.exact_hessian(model, x, d + 1, names(model), "squared") - H).max() > 1e-2


def test_gauss_newton_of_cross_entropy_is_J_H_z_J():
    model = conv()
    x, _ = examples(model)
    J = second.jacobian(model, x)
    J = np.concatenate([J[n] for n in names(model)], axis=2)
    z = model(x).data
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    expected = sum(j.T @ (np.diag(q) - np.outer(q, q)) @ j for j, q in zip(J, p)) / len(x)
    X = np.concatenate(list(second.gauss_newton_rows(model, x, names(model), "cross-entropy")))
    np.testing.assert_allclose(second.hessian(X, 0.0, P=len(x)), expected, atol=1e-14)


def test_chunks_add_up(monkeypatch):
    model = conv()
    x, y = examples(model, n=7)
    whole = (
        second.exact_diagonal(model, x, y, "squared"),
        second.output_curvature(model, x, "squared"),
        np.concatenate(list(second.gauss_newton_rows(model, x, names(model), "squared"))),
    )
    monkeypatch.setattr(second, "CHUNK", 3)
    parts = (
        second.exact_diagonal(model, x, y, "squared"),
        second.output_curvature(model, x, "squared"),
        np.concatenate(list(second.gauss_newton_rows(model, x, names(model), "squared"))),
    )
    for name in names(model):
        np.testing.assert_allclose(parts[0][name], whole[0][name], atol=1e-14)
    for name in whole[1]:
        np.testing.assert_allclose(parts[1][name], whole[1][name], atol=1e-14)
    np.testing.assert_allclose(parts[2], whole[2], atol=1e-14)


def test_a_unit_s_curvature_is_its_mean_gauss_newton_diagonal():
    model = mlp(activation=ReLU)
    x, _ = examples(model)
    found = second.output_curvature(model, x, "cross-entropy")
    z = model(x).data
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found["fc2"], (p * (1 - p)).mean(axis=0), atol=1e-14)  # d2e/dz2
    W = model.forms()["fc2.weight"].value.data
    on = model(x, taps=("fc1",))[1]["fc1"].data > 0
    H_z = [np.diag(q) - np.outer(q, q) for q in p]
    expected = [
        np.mean([(W[:, i] @ h @ W[:, i]) * o[i] for h, o in zip(H_z, on)]) for i in range(4)
    ]
    np.testing.assert_allclose(found["fc1"], expected, atol=1e-14)


def test_a_convolution_s_unit_has_the_mean_over_its_positions():
    model = conv()
    x, _ = examples(model)
    z, (a, *_), _ = second.tapped(model, x, second.layers(model))
    J = np.stack([grad(z[:, k].sum(), a).data for k in range(3)], axis=1)  # (P, K, O, Ho, Wo)
    found = second.output_curvature(model, x, "squared")["c1"]
    np.testing.assert_allclose(found, (J**2).sum(axis=1).mean(axis=(0, 2, 3)), atol=1e-14)


def test_cross_entropy_of_one_output_is_refused():
    model = mlp(sizes=(4, 3, 1))
    x, y = examples(model)
    with pytest.raises(ValueError, match="loss must be squared"):
        second.mean_loss(model(x), y, "cross-entropy")
