import numpy as np
import pytest

from minicomp.compress.quant.ranges import Histogram, observer
from minicomp.compress.quant.ranges.curves import threshold_curves


def test_the_least_of_each_curve_is_what_the_observer_takes():
    h = Histogram()
    h.update(np.append(np.random.default_rng(0).laplace(size=5000), 40.0).astype(np.float32))
    curves = threshold_curves(h, bits=6, bins=512, percentile=99.5)
    for method, (T, values) in curves.items():
        knobs = {"percentile": {"percentile": 99.5}, "mse": {}}.get(method, {"bins": 512})
        hi = observer(method, histogram=h, **knobs).range(6, "narrow")[1]
        assert T[np.argmin(values)] == pytest.approx(hi, rel=0.02 if method == "mse" else 1e-12)
        assert len(T) == len(values) and T[-1] <= h.peak
    assert curves["percentile"][1][0] == pytest.approx(0.005, rel=0.05)


def test_nothing_but_zeros_has_no_thresholds():
    for x in ([], [0.0, 0.0]):
        h = Histogram()
        h.update(np.array(x))
        with pytest.raises(ValueError, match="a number other than 0"):
            threshold_curves(h)
