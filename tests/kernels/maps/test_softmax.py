import numpy as np
import pytest

from minicomp.kernels import cpu
from minicomp.kernels.maps import softmax

isa = pytest.mark.parametrize("isa", cpu.distinct("maps"))
SIZES = [(1, 1), (1, 10), (64, 10), (63, 65), (5, 2), (128, 1000)]


def make(n, k, dtype=np.float32):
    rng = np.random.default_rng(n + k)
    z = (4 * rng.standard_normal((n, k))).astype(dtype)
    labels = rng.integers(0, k, n)
    z.setflags(write=False), labels.setflags(write=False)
    return z, labels, rng.standard_normal(n).astype(dtype)


@isa
@pytest.mark.parametrize("n, k", SIZES)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_every_rung_is_within_roundings_of_exact(isa, n, k, smoothing):
    # Exponents carry a rounding of z - top, at most 2^-24 |z - top|; the rest is a few units.
    z, labels, g = make(n, k)
    losses, p = softmax.cross_entropy(z, labels, smoothing=smoothing, isa=isa)
    exact, q = softmax.cross_entropy_ref(z.astype(np.float64), labels, smoothing)
    span = np.ptp(z, axis=1).max() if k > 1 else 1.0
    np.testing.assert_allclose(losses, exact, rtol=1e-6, atol=2.0**-21 * span)
    np.testing.assert_allclose(p, q, rtol=2.0**-21 * (span + 4))
    dz = softmax.cross_entropy_dz(g, p, labels, smoothing=smoothing, isa=isa)
    wanted = softmax.cross_entropy_dz_ref(g.astype(np.float64), q, labels, smoothing)
    np.testing.assert_allclose(dz, wanted, rtol=1e-5, atol=1e-6 * np.abs(g).max())
    assert losses.dtype == p.dtype == dz.dtype == np.float32


@isa
def test_a_case_by_hand(isa):
    z = np.log(np.array([[1, 2, 5], [8, 1, 1]], np.float32))
    losses, p = softmax.cross_entropy(z, np.array([1, 0]), isa=isa)
    np.testing.assert_allclose(losses, -np.log([0.25, 0.8]), rtol=1e-6)
    np.testing.assert_allclose(p, [[0.125, 0.25, 0.625], [0.8, 0.1, 0.1]], rtol=1e-6)
    dz = softmax.cross_entropy_dz(np.array([1, 10], np.float32), p, np.array([1, 0]), isa=isa)
    np.testing.assert_allclose(dz, [[0.125, -0.75, 0.625], [-2, 1, 1]], rtol=1e-6)


@isa
def test_large_logits_and_other_types_of_arrays(isa):
    z = np.array([[1e30, 0, -1e30], [-1e4, -1e4, -1e4 - 200]], np.float32)
    losses, p = softmax.cross_entropy(z, np.array([0, 1], np.uint8), isa=isa)
    np.testing.assert_allclose(losses, [0, np.log(2)], rtol=1e-6)
    np.testing.assert_allclose(p, [[1, 0, 0], [0.5, 0.5, 0]], atol=1e-30)
    turned = np.asfortranarray(make(6, 5)[0])
    labels = make(12, 5)[1][::2].astype(np.int32)
    for z in (turned, turned.astype(np.float64)):
        losses, p = softmax.cross_entropy(z, labels, isa=isa)
        wanted = softmax.cross_entropy_ref(z, labels, 0.0)
        np.testing.assert_allclose(losses, wanted[0], rtol=1e-5)
        assert losses.dtype == p.dtype == z.dtype
    assert [a.shape for a in softmax.cross_entropy(z[:0], labels[:0], isa=isa)] == [(0,), (0, 5)]


@isa
def test_nan_is_not_lost(isa):
    z = np.full((2, 3), np.nan, np.float32)
    losses, p = softmax.cross_entropy(z, np.zeros(2, int), isa=isa)
    assert np.isnan(losses).all() and np.isnan(p).all()


@isa
@pytest.mark.parametrize("labels, says", [
    (np.array([0, 3]), r"2 labels in \[0, 2\], got shape \(2,\), int64, 0..3"),
    (np.array([-1, 0]), r"-1..0"),
    (np.array([0]), r"2 labels in .* got shape \(1,\)"),
    (np.array([0.0, 1.0]), "float64"),
])
def test_labels_out_of_range_are_named(isa, labels, says):
    with pytest.raises(ValueError, match=says):
        softmax.cross_entropy(np.zeros((2, 3), np.float32), labels, isa=isa)
