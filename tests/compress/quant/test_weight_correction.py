import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicomp.compress import PTQ, Run, net_of
from minicomp.compress.quant.weight_correction import moments, weight_correction
from minicomp.data import Dataset, Split


def rounded(w, bits):
    s = np.abs(w).max(axis=1, keepdims=True) / (2 ** (bits - 1) - 1)
    return s * np.rint(w / s)


def test_by_hand():
    # E w = 1, E w^ = 2, |w - E w| = sqrt 2, |w^ - E w^| = 2 sqrt 2: xi = 1/2
    w, w_hat = np.array([[0.0, 2.0]]), np.array([[0.0, 4.0]])
    assert [a.tolist() for a in moments(w, w_hat)] == [[0.5], [0.0]]
    np.testing.assert_allclose(weight_correction(w, w_hat), w)
    np.testing.assert_allclose(weight_correction(w, w_hat, form="printed"), [[-0.5, 1.5]])


@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(2, 60), st.integers(2, 5))
def test_only_the_exact_form_keeps_the_mean_and_both_the_spread(seed, rows, n, bits):
    w = np.random.default_rng(seed).normal(0.3, 1.0, (rows, n))
    w_hat = rounded(w, bits)
    if (np.ptp(w_hat, axis=1) == 0).any():
        return
    exact, printed = (weight_correction(w, w_hat, form=f) for f in ("exact", "printed"))
    np.testing.assert_allclose(exact.mean(axis=1), w.mean(axis=1), atol=1e-12)
    xi, _ = moments(w, w_hat)
    np.testing.assert_allclose(printed.mean(axis=1), xi * w.mean(axis=1), atol=1e-12)
    for found in (exact, printed):
        np.testing.assert_allclose(found.std(axis=1), w.std(axis=1), rtol=1e-9)


def test_pruned_and_equal_weights():
    nan = np.nan
    xi, d = moments(np.array([[1.0, 3.0, nan], [2.0, 2.0, 2.0], [nan, nan, nan]]),
                    np.array([[1.0, 5.0, nan], [2.1, 2.1, 2.1], [nan, nan, nan]]))
    assert xi.tolist() == [0.5, 1.0, 1.0]
    np.testing.assert_allclose(d, [0.5, -0.1, 0.0], atol=1e-12)
    with pytest.raises(ValueError, match="form must be one of printed, exact, got 'mean'"):
        moments(np.ones((1, 2)), np.ones((1, 2)), form="mean")


def test_where_inputs_are_alike_no_mean_of_an_output_moves():
    # The paper's claim for few bits: the bias of weights moves all outputs one way.
    rng = np.random.default_rng(2)
    x = rng.normal(size=(100, 30)).astype(np.float32)
    x += 1 - x.mean(axis=0)
    data = Dataset("toy", *[Split(x, np.zeros(100, int))] * 2, None, ("a", "b"), "rendered")
    model, moved = net_of((rng.normal(0.2, 1.0, (4, 30)), np.zeros(4))), {}
    for form in ("none", "printed", "exact"):
        found = PTQ(mode="weight-only", bits=2, moments=form).apply(
            model, data, Run(np.random.default_rng(0)))
        moved[form] = np.abs((found(x).data - model(x).data).mean(axis=0)).max()
    assert moved["exact"] < 1e-4 < 0.5 < moved["printed"] and moved["none"] > 1


@pytest.mark.parametrize("per", ["tensor", "channel"])
@pytest.mark.parametrize("grid", ["narrow", "unsigned"])
def test_scales_take_xi_and_the_bias_the_mean_of_the_rest(per, grid):
    rng = np.random.default_rng(2)
    w, b = rng.normal(0.2, 1.0, (4, 30)), rng.normal(size=4)
    model, x = net_of((w, b)), rng.normal(1.0, 1.0, (200, 30)).astype(np.float32)
    data = Dataset("toy", *[Split(x, np.zeros(200, int))] * 2, None, ("a", "b"), "rendered")
    knobs = {"mode": "weight-only", "bits": 2, "per": per, "grid": grid}
    plain, found = (PTQ(**knobs, moments=m).apply(model, data, Run(np.random.default_rng(0)))
                    for m in ("none", "exact"))
    a, form = plain.forms()["fc1.weight"], found.forms()["fc1.weight"]
    np.testing.assert_array_equal(a.q, form.q)  # the codes stay
    rows = 1 if per == "tensor" else 4
    before = a.dense().data.astype(np.float64).reshape(rows, -1)
    xi, d = moments(w.astype(np.float32).reshape(rows, -1), before)
    np.testing.assert_allclose(form.scale.data, a.scale.data * xi, rtol=1e-6)
    np.testing.assert_allclose(found.forms()["fc1.bias"].dense().data,
                               b + d * x.sum(axis=1).mean(), rtol=1e-5, atol=1e-5)
    # what the corrected weights give on average, the net gives on average
    corrected = (xi[:, None] * before + d[:, None]).reshape(4, 30)
    np.testing.assert_allclose(found(x).data.mean(axis=0), (x @ corrected.T + b).mean(axis=0),
                               rtol=1e-4, atol=1e-4)
