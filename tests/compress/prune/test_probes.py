"""Probes: each change against its formula, and that none of them compresses."""

from types import SimpleNamespace

import numpy as np
import pytest

from minicomp.codec import encode
from minicomp.compress.finetune import FineTune
from minicomp.compress.prune.magnitude import Magnitude
from minicomp.compress.prune.probes import PROBES, blurred, dropped, noisy, probed, robustness
from minicomp.compress.technique import Run, masked
from minicomp.data.dataset import Split
from minicomp.errors import UserError
from minicomp.models import MLP, LeNet5Classic
from minicomp.train import evaluate


def toy(rng, n=400):
    x = rng.standard_normal((n, 6)).astype(np.float32)
    y = np.argmax(x[:, :3], axis=1)
    return SimpleNamespace(train=Split(x, y), val=Split(x, y))


def test_noise_is_in_standard_deviations_of_the_weights():
    rng = np.random.default_rng(0)
    w = (3.0 + 0.5 * rng.standard_normal((200, 300))).astype(np.float32)
    d = noisy(w, 0.2, rng=rng) - w
    assert d.dtype == np.float32
    assert d.std() == pytest.approx(0.1, rel=0.02) and d.mean() == pytest.approx(0, abs=0.002)
    np.testing.assert_array_equal(noisy(w, 0.0, rng=rng), w)


def test_dropout_keeps_the_mean():
    rng = np.random.default_rng(1)
    w = np.ones((200, 300), np.float32)
    d = dropped(w, 0.25, rng=rng)
    assert set(np.unique(d)) == {np.float32(0), np.float32(1 / 0.75)}
    assert np.mean(d == 0) == pytest.approx(0.25, abs=0.01) and d.mean() == pytest.approx(
        1, abs=0.01
    )


@pytest.mark.parametrize("sigma", [0.3, 0.5, 1.0, 2.5])
@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_blur_agrees_with_scipy(sigma, k):
    from scipy.ndimage import gaussian_filter

    w = np.random.default_rng(2).standard_normal((3, 2, k, k))
    expected = [[gaussian_filter(kernel, sigma, mode="reflect") for kernel in row] for row in w]
    np.testing.assert_allclose(blurred(w, sigma), expected, atol=1e-12)


def test_blur_leaves_matrices_and_means():
    rng = np.random.default_rng(3)
    w = rng.standard_normal((4, 3, 5, 5))
    np.testing.assert_allclose(blurred(w, 1.0).mean(axis=(2, 3)), w.mean(axis=(2, 3)), atol=1e-12)
    np.testing.assert_array_equal(blurred(w[:, :, 0, 0], 1.0), w[:, :, 0, 0])


@pytest.mark.parametrize("name", PROBES)
def test_no_probe_compresses(name):
    rng = np.random.default_rng(4)
    model = LeNet5Classic(rng=rng)
    before, size = b"".join(a.tobytes() for a in model.state_dict().values()), len(encode(model))
    if (
        name != "dropout"
    ):  # a draw of dropout has zeros, which a file stores in fewer bits, as it does any
        assert abs(len(encode(probed(model, name, 0.5, rng=rng))) - size) < 0.02 * size
    made = probed(model, name, 0.5, rng=rng)
    assert made.count() == model.count() and all(f.mask is None for f in made.forms().values())
    assert "compresses nothing" in PROBES[name][3]
    assert b"".join(a.tobytes() for a in model.state_dict().values()) == before


def test_errors_rise_with_the_strength():
    rng = np.random.default_rng(5)
    data = toy(rng)
    model = FineTune(epochs=30, lr=0.05).apply(MLP([6, 16, 3], rng=rng), data, Run(rng))
    for name, levels in (("noise", [0.0, 0.3, 3.0]), ("dropout", [0.0, 0.2, 0.8])):
        rows = robustness(model, data.val, name, levels, rng=rng, draws=5)
        errors = [r["errors"] for r in rows]
        assert errors[0] < errors[1] < errors[2] and errors[2] > 60
        assert (
            rows[0]["least"] == rows[0]["most"] == errors[0]
            and rows[1]["least"] <= errors[1] <= rows[1]["most"]
        )
        assert all(r["compresses"] is False and r["size"] == 400 for r in rows)


def test_drawn_zeros_cost_more_than_chosen_ones():
    rng = np.random.default_rng(7)
    data = toy(rng)
    model = FineTune(epochs=30, lr=0.05).apply(MLP([6, 16, 3], rng=rng), data, Run(rng))
    chosen = evaluate(Magnitude(sparsity=0.5).apply(model, data, Run(rng)), data.val).errors
    assert (
        robustness(model, data.val, "dropout", [0.5], rng=rng, draws=5)[0]["errors"] > 1.5 * chosen
    )


def test_masks_are_not_respected_so_they_are_gone():
    rng = np.random.default_rng(6)
    model = MLP([6, 5, 3], rng=rng)
    pruned = masked(model, {"fc1.weight": rng.random((5, 6)) > 0.5})
    assert probed(pruned, "noise", 0.1, rng=rng).forms()["fc1.weight"].mask is None


@pytest.mark.parametrize(
    "name, level, message",
    [
        ("heat", 0.1, "a probe must be one of noise, dropout, blur, got 'heat'"),
        ("noise", -0.1, r"noise: sigma must be in \[0, inf\), got -0.1"),
        ("dropout", 1.0, r"dropout: p must be in \[0, 1\), got 1.0"),
        ("blur", 0.5, "blur: the model has no kernels larger than one pixel"),
    ],
)
def test_what_is_refused(name, level, message):
    with pytest.raises(UserError, match=message):
        probed(MLP([6, 5, 3]), name, level, rng=np.random.default_rng(0))
