import numpy as np
import pytest
from minicomp.teach.checks import lesson07


@pytest.mark.parametrize(
    "wrong, slug",
    [
        (lambda q, L, v: (q, L, v + 1e-3 * (np.arange(len(v)) != q)), "dear"),
        (lambda q, L, v: (q, L, np.where(np.arange(len(v)) == q, 1e-17, v)), "dear"),
        (lambda q, L, v: (q, 1.001 * L, v), "wrong-value"),
        (lambda q, L, v: ((q + 1) % len(v), L, v), "wrong-value"),
        (lambda q, L, v: (q, L), "wrong-type"),
        (lambda q, L, v: (q, L, v[1:]), "wrong-shape"),
    ],
)
def test_a_deletion_is_judged_by_brute_force_too(wrong, slug):
    case = {"w": np.array([1.0, 2.0, 1.25]), "Hinv": np.array([[4.0, 3, 1], [3, 7, 2], [1, 2, 5]])}
    assert lesson07._nothing_is_cheaper(case, lesson07.obs_step(**case)) is None
    assert lesson07._nothing_is_cheaper(case, wrong(*lesson07.obs_step(**case))).slug == slug
