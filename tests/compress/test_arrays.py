"""A net of one's own arrays, on which every technique works without a data set or a class."""

from types import SimpleNamespace

import numpy as np
import pytest

from minicomp.compress import DNS, OBC, KMeans, Magnitude, Run, Wanda, net_of
from minicomp.data import Split

RNG = np.random.default_rng
W = np.array([[1.0, -4.0, 2.0, 0.5], [3.0, 0.1, -0.2, 1.0]])


def test_the_net_computes_what_its_arrays_say():
    rng = RNG(0)
    k, b, w = rng.standard_normal((3, 2, 3, 3)), rng.standard_normal(3), rng.standard_normal((2, 3))
    net = net_of((k, b), w)
    assert [node.name for node in net.nodes] == ["conv1", "relu1", "flatten", "fc2"]
    x = rng.standard_normal((5, 2, 3, 3)).astype(np.float32)
    h = np.maximum(np.einsum("ncij,ocij->no", x, k) + b, 0)
    np.testing.assert_allclose(net(x).data, h @ w.T, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(net_of(W)(np.eye(4, dtype=np.float32)).data, W.T, rtol=1e-6)
    wide = net_of(k, rng.standard_normal((2, 12)), input_shape=(2, 4, 4))
    assert wide.shapes()["fc2"] == (2,)


def test_techniques_work_on_it():
    made = Magnitude(sparsity=0.5).apply(net_of(W), None, Run(RNG(0)))
    np.testing.assert_array_equal(
        made.forms()["fc1.weight"].mask, [[False, True, True, False], [True, False, False, True]]
    )
    rng = RNG(1)
    split = Split(rng.standard_normal((30, 4)).astype(np.float32), rng.integers(0, 2, 30))
    data = SimpleNamespace(train=split, val=split)
    for technique in (Wanda(sparsity=0.5), OBC(sparsity=0.5), DNS(c=0.0), KMeans(k=3)):
        found = technique.apply(net_of((W, np.zeros(2))), data, Run(RNG(0)))
        w = found.forms()["fc1.weight"].dense().data
        assert not np.array_equal(w, np.float32(W)) and np.isfinite(w).all(), technique.word


def test_arrays_that_do_not_fit_are_refused():
    for given, words in (
        ((), "layers must hold at least one array, got none"),
        ((np.zeros(3),), r"weights must have shape \(O, I\) or \(O, C, K, K\), got \(3,\)"),
        ((W, W), "Linear needs 4 features, got an input of shape \\(2,\\)"),
        (((W, np.zeros(3)),), "must have shape \\(2,\\), got \\(3,\\)"),
    ):
        with pytest.raises(ValueError, match=words):
            net_of(*given)
