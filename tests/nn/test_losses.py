import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicomp import ops
from minicomp.gradcheck import grad_check
from minicomp.nn.losses import (
    REDUCTIONS,
    cross_entropy,
    huber,
    l1,
    l2,
    mse,
    one_hot,
    soft_cross_entropy,
    squared_hinge,
)
from minicomp.tensor import Tensor, grad, hvp

RNG = np.random.default_rng
Z = RNG(0).standard_normal((5, 4)) * 3
Y = np.array([0, 3, 1, 1, 2])
P = RNG(1).random((5, 4))
SOFT = P / P.sum(axis=1, keepdims=True)


def logp(z):
    z = z - z.max(axis=1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=1, keepdims=True))


# ------------------------------------------------------------------------------------------ by hand


def test_cross_entropy_by_hand():
    # two classes, logits 0 and ln 3: softmax 1/4, 3/4
    z = Tensor(np.array([[0.0, np.log(3)]]))
    assert cross_entropy(z, np.array([0])).item() == pytest.approx(np.log(4))
    assert cross_entropy(z, np.array([1])).item() == pytest.approx(np.log(4 / 3))
    assert cross_entropy(z, np.array([[0.5, 0.5]])).item() == pytest.approx(
        0.5 * np.log(4) + 0.5 * np.log(4 / 3)
    )
    # smoothing 0.2 over two classes: 0.9 and 0.1
    want = 0.9 * np.log(4) + 0.1 * np.log(4 / 3)
    assert cross_entropy(z, np.array([0]), label_smoothing=0.2).item() == pytest.approx(want)


def test_the_others_by_hand():
    x, t = Tensor(np.array([1.0, -2.0, 0.5])), np.array([0.0, 1.0, 0.5])
    assert mse(x, t).item() == pytest.approx((1 + 9 + 0) / 3)
    assert huber(x, t).item() == pytest.approx((0.5 + 2.5 + 0) / 3)  # e = 1, 3, 0; delta 1
    assert huber(x, t, delta=2.0).item() == pytest.approx((0.5 + 4 + 0) / 3)  # 2 (3 - 1) = 4
    z = Tensor(
        np.array([[0.5, -2.0, 0.0]])
    )  # class 0: max(0, 1 - .5)^2, max(0, 1 - 2)^2, max(0, 1 + 0)^2
    assert squared_hinge(z, np.array([0]), reduction="sum").item() == pytest.approx(0.25 + 0 + 1)
    w = [Tensor(np.array([[1.0, -2.0]])), Tensor(np.array([3.0]))]
    assert l1(w).item() == 6 and l2(w).item() == 7
    assert l1([]).item() == l2([]).item() == 0


def test_the_gradient_of_l2_is_the_weight_and_of_l1_its_sign():
    w = Tensor(np.array([1.5, -2.0, 0.0]), requires_grad=True)
    np.testing.assert_array_equal(grad(l2([w]), w).data, w.data)
    np.testing.assert_array_equal(grad(l1([w]), w).data, [1, -1, 0])


def test_the_gradient_of_cross_entropy_is_softmax_minus_target_over_n():
    z = Tensor(Z, requires_grad=True)
    want = (np.exp(logp(Z)) - np.eye(4)[Y]) / 5
    np.testing.assert_allclose(grad(cross_entropy(z, Y), z).data, want, atol=1e-15)


@pytest.mark.parametrize(
    "loss, n",
    [
        (lambda r: cross_entropy(Tensor(Z), Y, reduction=r), 5),
        (lambda r: mse(Tensor(Z), SOFT, reduction=r), 20),
        (lambda r: huber(Tensor(Z), SOFT, reduction=r), 20),
        (lambda r: squared_hinge(Tensor(Z), Y, reduction=r), 20),
    ],
)
def test_reductions_are_of_examples_or_entries(loss, n):
    each = loss("none").data
    assert each.size == n and each.shape[0] == 5
    assert loss("sum").item() == pytest.approx(each.sum()) and loss("mean").item() == pytest.approx(
        each.mean()
    )
    assert set(REDUCTIONS) == {"mean", "sum", "none"}
    with pytest.raises(ValueError, match="reduction must be one of mean, sum, none, got 'avg'"):
        loss("avg")


def test_large_logits_do_not_overflow():
    z = Tensor(np.array([[1e4, -1e4, 0.0], [3e38, 1.0, 2.0]], np.float32), requires_grad=True)
    loss = cross_entropy(z, np.array([1, 0]), reduction="none")
    np.testing.assert_allclose(loss.data, [2e4, 0])
    assert np.isfinite(grad(loss.sum(), z).data).all()


@given(st.integers(1, 6), st.integers(1, 6), st.floats(0, 0.99), st.integers(0, 2**32 - 1))
def test_labels_are_one_hot_targets(n, k, smoothing, seed):
    rng = RNG(seed)
    z, y = rng.standard_normal((n, k)), rng.integers(0, k, n)
    a = cross_entropy(Tensor(z), y, label_smoothing=smoothing).item()
    assert a == pytest.approx(
        cross_entropy(Tensor(z), np.eye(k)[y], label_smoothing=smoothing).item()
    )
    target = (1 - smoothing) * np.eye(k)[y] + smoothing / k
    assert a == pytest.approx(-(target * logp(z)).sum(axis=1).mean())


def test_float32_stays():
    z = Tensor(Z.astype(np.float32), requires_grad=True)
    for loss in (
        cross_entropy(z, Y),
        cross_entropy(z, SOFT),
        cross_entropy(z, Y, label_smoothing=0.1),
        mse(z, SOFT.astype(np.float32)),
        huber(z, SOFT.astype(np.float32), delta=0.5),
        squared_hinge(z, Y),
        l1([z]),
        l2([z]),
    ):
        assert loss.dtype == np.float32 and grad(loss, z).dtype == np.float32
    assert one_hot(Y, 4).dtype == np.float32


# ------------------------------------------------------------------------- derivatives to any order


@pytest.mark.parametrize(
    "loss",
    [
        lambda z: cross_entropy(z, Y),
        lambda z: cross_entropy(z, SOFT),
        lambda z: cross_entropy(z, 3 * P),
        lambda z: cross_entropy(z, Y, label_smoothing=0.3, reduction="none"),
        lambda z: mse(z, SOFT),
        lambda z: huber(z, SOFT, delta=0.7),
        lambda z: squared_hinge(z, Y),
        lambda z: l2([z]),
    ],
    ids=["labels", "soft", "unnormalised", "smoothed", "mse", "huber", "hinge", "l2"],
)
def test_two_orders_agree_with_finite_differences(loss):
    grad_check(loss, Z, rng=RNG(4), order=2)


def test_the_hessian_of_cross_entropy_is_diag_p_minus_p_p():
    v = RNG(5).standard_normal((1, 4))
    p = np.exp(logp(Z[:1]))
    (got,) = hvp(lambda z: cross_entropy(z, Y[:1]), [Tensor(Z[:1], requires_grad=True)], [v])
    np.testing.assert_allclose(got, p * v - p * (p @ v.T), rtol=1e-12)


def test_fused_equals_composite():
    results = []
    for fn in (
        lambda z: soft_cross_entropy(z, target=3 * P),
        lambda z: soft_cross_entropy.composite(z, target=3 * P),
    ):
        z = Tensor(Z, requires_grad=True)
        weight = np.arange(1.0, 6.0)
        (second,) = hvp(lambda t, fn=fn: (fn(t) * fn(t) * weight).sum(), [z], [P])
        results.append((fn(z).data, grad(fn(z), z, cotangent=weight).data, second))
    for fused, simple in zip(*results):
        np.testing.assert_allclose(fused, simple, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("dtype, rtol", [(np.float64, 1e-12), (np.float32, 1e-5)])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_labels_are_targets_of_one_entry(dtype, rtol, reduction, smoothing):
    results = []
    for target in (Y, one_hot(Y, 4)):
        z = Tensor(Z.astype(dtype), requires_grad=True)
        loss = cross_entropy(z, target, label_smoothing=smoothing, reduction=reduction)
        cotangent = np.arange(1.0, 1.0 + loss.size, dtype=dtype).reshape(loss.shape)
        dz = grad(loss, z, cotangent=cotangent)
        results.append((loss.data, dz.data))
        assert loss.dtype == dz.dtype == dtype
    for labels, targets in zip(*results):
        np.testing.assert_allclose(labels, targets, rtol=rtol, atol=rtol / 10)


# ------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda z: cross_entropy(z, np.array([0, 1, 2, 3, 4])),
            r"target must hold 5 labels in \[0, 3\], got .*0\.\.4",
        ),
        (
            lambda z: cross_entropy(z, np.array([0, 1, 2, 3, -1])),
            r"labels in \[0, 3\], got .*-1\.\.3",
        ),
        (
            lambda z: cross_entropy(z, np.array([0, 1])),
            r"target must hold 5 labels in \[0, 3\], got shape \(2,\)",
        ),
        (
            lambda z: cross_entropy(z, Y.astype(float)),
            r"target must hold 5 labels .* got .*float64",
        ),
        (
            lambda z: cross_entropy(z, SOFT[:, :3]),
            r"target must have shape \(5,\) or \(5, 4\), got \(5, 3\)",
        ),
        (
            lambda z: cross_entropy(z, Y, label_smoothing=1.0),
            r"label_smoothing must be in \[0, 1\), got 1.0",
        ),
        (
            lambda z: squared_hinge(z, np.array([0, 1, 2, 3, -1])),
            r"labels in \[0, 3\], got .*-1\.\.3",
        ),
        (
            lambda z: squared_hinge(z, np.array([0, 1, 2, 3, 4])),
            r"labels in \[0, 3\], got .*0\.\.4",
        ),
        (
            lambda z: squared_hinge(z, np.array([0])),
            r"target must hold 5 labels in \[0, 3\], got shape \(1,\)",
        ),
        (lambda z: mse(z, SOFT[0]), r"target must have shape \(5, 4\), got \(4,\)"),
        (lambda z: huber(z, 0.0), r"target must have shape \(5, 4\), got \(\)"),
        (lambda z: huber(z, SOFT, delta=0.0), "delta must be positive, got 0.0"),
    ],
)
def test_wrong_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call(Tensor(Z))


# ------------------------------------------------------------------------------------------ PyTorch


@pytest.mark.peers
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(
    "name, ours, theirs",
    [
        (
            "labels",
            lambda z, r: cross_entropy(z, Y, reduction=r),
            lambda F, t, z, r: F.cross_entropy(z, t(Y), reduction=r),
        ),
        (
            "soft",
            lambda z, r: cross_entropy(z, SOFT, reduction=r),
            lambda F, t, z, r: F.cross_entropy(z, t(SOFT), reduction=r),
        ),
        (
            "smoothed",
            lambda z, r: cross_entropy(z, Y, label_smoothing=0.3, reduction=r),
            lambda F, t, z, r: F.cross_entropy(z, t(Y), label_smoothing=0.3, reduction=r),
        ),
        (
            "smoothed soft",
            lambda z, r: cross_entropy(z, SOFT, label_smoothing=0.3, reduction=r),
            lambda F, t, z, r: F.cross_entropy(z, t(SOFT), label_smoothing=0.3, reduction=r),
        ),
        (
            "mse",
            lambda z, r: mse(z, SOFT, reduction=r),
            lambda F, t, z, r: F.mse_loss(z, t(SOFT), reduction=r),
        ),
        (
            "huber",
            lambda z, r: huber(z, SOFT, delta=0.7, reduction=r),
            lambda F, t, z, r: F.huber_loss(z, t(SOFT), delta=0.7, reduction=r),
        ),
    ],
)
def test_values_and_gradients_are_torchs(name, ours, theirs, reduction):
    torch = pytest.importorskip("torch")
    mine, other = Tensor(Z, requires_grad=True), torch.tensor(Z, requires_grad=True)
    a, b = ours(mine, reduction), theirs(torch.nn.functional, torch.tensor, other, reduction)
    np.testing.assert_allclose(a.data, b.detach().numpy(), rtol=1e-12, atol=1e-14)
    a.sum().backward()
    b.sum().backward()
    np.testing.assert_allclose(mine.grad, other.grad.numpy(), rtol=1e-10, atol=1e-14)


# ------------------------------------------------------------------------- logits of minus infinity

OUT = np.array([[1, -np.inf, 2], [-np.inf, 3, -np.inf]])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize(
    "target", [np.array([0, 1]), np.array([[1.0, 0, 0], [0, 1, 0]])], ids=["labels", "soft"]
)
def test_a_class_that_cannot_be_adds_nothing(target, create_graph, dtype):
    # log(e + e^2) - 1 = 1.3133, and the gradient softmax - target of the two classes left
    z = Tensor(OUT.astype(dtype), requires_grad=True)
    losses = cross_entropy(z, target, reduction="none")
    np.testing.assert_allclose(losses.data, [1.3132617, 0], rtol=1e-6, atol=1e-7)
    g = grad(losses.sum(), z, create_graph=create_graph)
    np.testing.assert_allclose(g.data, [[-0.7310586, 0, 0.7310586], [0, 0, 0]], rtol=1e-6)


def test_a_target_that_asks_for_a_class_that_cannot_be_has_an_infinite_loss():
    z = Tensor(OUT[:1].astype(np.float32), requires_grad=True)
    for target, smoothing in ((np.array([1]), 0), (np.array([0]), 0.1),
                              (np.array([[0.5, 0.5, 0]]), 0)):
        loss = cross_entropy(z, target, label_smoothing=smoothing)
        assert loss.item() == np.inf and np.isfinite(grad(loss, z).data).all()


def test_the_other_losses_with_a_class_that_cannot_be():
    z = Tensor(OUT[:1], requires_grad=True)
    loss = squared_hinge(z, np.array([0]), reduction="none")
    np.testing.assert_array_equal(loss.data, [[0, 0, 9]])
    np.testing.assert_array_equal(grad(loss.sum(), z).data, [[0, 0, 6]])
    np.testing.assert_allclose(ops.logsumexp(z).data, [np.log(np.exp(1) + np.exp(2))])
    np.testing.assert_array_equal(ops.logsumexp(Tensor(np.full((1, 2), np.inf))).data, [np.inf])
