import numpy as np
import pytest

from minicomp.errors import FormatError
from minicomp.nn import Affine, Segments
from minicomp.tensor import grad


def test_runs_by_hand():
    form = Segments([1, 3, 2], [5.0, -1.0, 2.0], (2, 3))
    assert form.dense().data.tolist() == [[5, -1, -1], [-1, 2, 2]]
    assert form.longest == 3 and form.count == 3
    assert "3 runs of 1..3 weights" in repr(form)


def test_the_gradient_of_a_level_is_the_sum_over_its_run():
    form = Segments([1, 3, 2], [5.0, -1.0, 2.0], (6,))
    cotangent = np.arange(6, dtype=np.float32)
    g = grad(form.dense(), list(form.parameters().values()), cotangent=cotangent)
    assert list(form.parameters()) == ["levels"] and g[0].data.tolist() == [0, 6, 9]


def test_no_weights_are_no_runs():
    assert Segments(np.zeros(0, int), [], (0, 3)).dense().data.shape == (0, 3)


def test_wrong_arguments_are_refused():
    for lengths in ([2, 3], [2, 5]):
        with pytest.raises(ValueError, match=f"sum to the 6 weights, got {sum(lengths)}"):
            Segments(lengths, [0.0, 1.0], (6,))
    with pytest.raises(ValueError, match=r"lengths must be in \[1, 65536\], got 0..6"):
        Segments([0, 6], [0.0, 1.0], (6,))
    with pytest.raises(ValueError, match=r"levels must be unmasked, of shape \(2,\), got \(3,\)"):
        Segments([2, 4], np.zeros(3), (6,))
    with pytest.raises(ValueError, match="levels must be unmasked"):
        Segments([2, 4], Affine.of(np.ones(2), 0.1, mask=[True, False]), (6,))
    parts = {"lengths": np.array([2, 3]), "levels": Segments([1], [1.0], (1,)).levels}
    with pytest.raises(FormatError, match="levels must have shape"):
        Segments.from_stored((6,), {"count": 2, "longest": 3}, parts)
    with pytest.raises(FormatError, match="longest must be an integer in"):
        Segments.from_stored((6,), {"count": 2, "longest": 2**17}, parts)
