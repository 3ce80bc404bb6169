import numpy as np
import pytest
from minicomp.reference.draw import Draw, seed_of
from minicomp.teach.checks import lesson10


def test_scales_errors_and_bytes_by_hand():
    w = np.array([[6.0, -2.5], [0.25, -0.75]])
    scale, error, size = lesson10.weight_scales(w, 3, True)
    np.testing.assert_allclose(scale, [2.0, 0.25])
    assert error == pytest.approx(0.25 / 4) and size == 2 + 8  # only -2.5, stored as -2, is off
    assert lesson10.weight_scales(w, 3, False)[2] == 2 + 4


def test_no_drawn_range_puts_its_zero_point_at_a_tie():
    # There a scale in float32 and one in float64 could give two zero points.
    draw = Draw(seed_of("ties"))
    for _ in range(300):
        case = lesson10._range(draw)
        lo, hi = min(case["r_min"], 0), max(case["r_max"], 0)
        at = -lo * (2 ** case["bits"] - 1) / (hi - lo)
        assert abs(at % 1 - 0.5) > 1e-3
        assert lesson10._params(**case)[1] == lesson10.affine_params(**case)[1]
