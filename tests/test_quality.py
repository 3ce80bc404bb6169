import math

import numpy as np
import pytest

from minicomp.compress import net_of
from minicomp.data import Split
from minicomp.deploy import lower
from minicomp.errors import UserError
from minicomp.passport import passport
from minicomp.quality import agreement, kl_of_logits


def split(x):
    return Split(np.asarray(x, np.float32), np.zeros(len(x), int))


def test_kl_by_hand():
    # p = (1/2, 1/2), q = (3/4, 1/4): 1/2 log(2/3) + 1/2 log 2
    want = 0.5 * math.log(2 / 3) + 0.5 * math.log(2)
    assert kl_of_logits(np.log([[3.0, 1.0]]), [[5.0, 5.0]])[0] == pytest.approx(want)
    z = np.random.default_rng(0).normal(size=(50, 4)) * 100
    assert (kl_of_logits(z, z + 7) < 1e-9).all() and (kl_of_logits(z, z[::-1]) >= 0).all()
    assert np.isfinite(kl_of_logits([[1e4, -1e4]], [[-1e4, 1e4]])).all()


def test_flips_are_predictions_that_differ():
    one, other = net_of(np.eye(2)), net_of(np.array([[1.0, 0.0], [0.0, 2.0]]))
    x = split([[3, 1], [3, 2], [1, 3]])  # of the other net the second flips
    found = agreement(other, one, x)
    assert (found.flips, found.size) == (1, 3)
    want = kl_of_logits([[3, 2], [3, 4], [1, 6]], [[3, 1], [3, 2], [1, 3]]).mean()
    assert found.kl == pytest.approx(want)
    assert agreement(other, one, x, batch_size=1) == found
    assert agreement(lower(other), one, x) == found
    assert agreement(one, one, x).flips == agreement(one, one, x).kl == 0
    assert agreement(one, one, split(np.zeros((0, 2)))).kl is None


def test_the_passport_has_both():
    one, other = net_of(np.eye(2)), net_of(np.array([[1.0, 0.0], [0.0, 2.0]]))
    x = split([[3, 1], [3, 2], [1, 3]])
    found = passport(other, data=x, against=one, timed=False)
    assert found.flips == 1 and found.to_dict()["kl"] == found.kl > 0
    assert f"1 predictions flipped, KL of the logits {found.kl:.3g} nats" in found.summary()
    assert passport(other, data=x, timed=False).flips is None


def test_nets_that_cannot_be_compared():
    with pytest.raises(UserError, match=r"must take the same input, got \(2,\) and \(3,\)"):
        agreement(net_of(np.ones((2, 2))), net_of(np.ones((2, 3))), split(np.ones((1, 2))))
    with pytest.raises(UserError, match=r"must give the same classes, got \(2,\) and \(4,\)"):
        agreement(net_of(np.ones((2, 3))), net_of(np.ones((4, 3))), split(np.ones((1, 3))))
