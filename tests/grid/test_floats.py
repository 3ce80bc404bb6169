import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from minicomp.grid import round_half
from minicomp.tensor import Tensor, grad

EDGES = np.array(
    [
        0.0,
        -0.0,
        1.0,
        1 / 3,
        2048.5,
        2049.0,
        2051.0,
        65504.0,
        65519.9,
        65520.0,
        1e30,
        -1e30,
        6e-8,
        2.9e-8,
        3.1e-8,
        np.inf,
        -np.inf,
    ]
)


def test_rounding_is_to_the_nearest_half_to_even_and_saturates():
    y = round_half(EDGES)
    want = [
        0,
        0,
        1,
        0.333251953125,
        2048,
        2048,
        2052,
        65504,
        65504,
        65504,
        65504,
        -65504,
        2.0**-24,
        0,
        2.0**-24,
        65504,
        -65504,
    ]
    np.testing.assert_array_equal(y, want)
    assert np.signbit(y[1])


def test_the_dtype_stays_and_nan_stays_nan():
    for dtype in (np.float32, np.float64):
        assert round_half(EDGES.astype(dtype)).dtype == dtype
    assert np.isnan(round_half(np.array([np.nan]))).all()


@given(st.floats(-65440, 65440, width=32))
def test_no_other_half_is_nearer(x):
    x = np.float64(x)
    y = round_half(np.array([x]))[0]
    assert y == np.float16(y) == round_half(np.array([y]))[0]
    for other in (
        np.nextafter(np.float16(y), np.float16(np.inf)),
        np.nextafter(np.float16(y), np.float16(-np.inf)),
    ):
        assert abs(x - y) <= abs(x - np.float64(other))


def test_the_cotangent_passes_straight_through():
    x = Tensor(np.array([0.1, 3.0, 1e6]), requires_grad=True)
    g = np.array([1.0, -2.0, 0.5])
    np.testing.assert_array_equal(grad(round_half(x), x, cotangent=g).data, g)
