# The line's own tests are those of k-means (share/test_kmeans.py) but for what is here.
import numpy as np
import pytest

from minicomp.compress.line import Line


@pytest.mark.parametrize("k", [1, 2, 9])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_error_at_levels_is_that_of_the_nearest(k, dtype):
    rng = np.random.default_rng(k)
    x = (3 + rng.standard_normal(300)).astype(dtype)
    levels = np.sort(rng.standard_normal(k))
    want = np.square(x[:, None].astype(np.float64) - levels).min(axis=1).sum()
    np.testing.assert_allclose(Line(x).error_at(levels), want, rtol=1e-9)
