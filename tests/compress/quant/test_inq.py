"""Incremental network quantization: its levels, its order, and that frozen weights stay."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest

from minicomp.compress import INQ, KMeans, Magnitude, Run
from minicomp.compress.finetune import FineTune, Trained
from minicomp.compress.quant.inq import (exponents, inq_frozen, inq_portion, inq_quantize,
                                         largest_exponent)
from minicomp.data import Split
from minicomp.errors import UserError
from minicomp.models import MLP
from minicomp.nn import Codebook, Powers
from minicomp.train import Hook, evaluate

def data():
    # Three classes by three of twelve inputs.
    rng = np.random.default_rng(0)
    x = rng.standard_normal((160, 12)).astype(np.float32)
    y = np.argmax(x[:, :3], axis=1)
    return SimpleNamespace(train=Split(x[:80], y[:80]), val=Split(x[80:], y[80:]))


def test_the_largest_exponent_parts_at_arithmetic_means():
    # s in [1.5 2^(k-1), 1.5 2^k) belongs to 2^k.
    for s, n1 in ((0.75, 0), (0.7499, -1), (1.0, 0), (1.4999, 0), (1.5, 1), (3.0, 2), (0.0, 0)):
        assert largest_exponent(s) == n1, s
    assert largest_exponent(1e-38, 8) == -119 and exponents(5) == 8 and exponents(2) == 1


def test_levels_by_hand():
    # 4 bits, n1 = 0: 1, 1/2, 1/4, 1/8 and 0; what lies at a mean goes up.
    w = np.array([0.06, 0.0625, 0.1874, 0.1875, 0.375, 0.374, 0.75, 0.74, -1.4, 9])
    found = inq_quantize(w, 0, 4)
    assert found.tolist() == [0, 0.125, 0.125, 0.25, 0.5, 0.25, 1, 0.5, -1, 1]


def test_every_weight_goes_to_the_nearest_level():
    w = np.random.default_rng(0).standard_normal(500)
    for bits in (2, 3, 5):
        n1 = largest_exponent(np.abs(w).max())
        levels = [0.0] + [s * 2.0 ** (n1 - i) for i in range(exponents(bits)) for s in (1, -1)]
        nearest = np.abs(w[:, None] - np.array(levels)).min(axis=1)
        np.testing.assert_allclose(np.abs(w - inq_quantize(w, n1, bits)), nearest, rtol=1e-5)


def test_the_largest_go_first_ties_by_lowest_index():
    w, live = np.array([1.0, -2.0, 2.0, 0.5, 3.0]), np.array([1, 1, 1, 1, 0], bool)
    first = inq_frozen(w, np.zeros(5, bool), live, 0.25)
    assert first.tolist() == [False, True, False, False, False]
    more = inq_frozen(np.array([9.0, 0.1, 2.0, 0.5, 3.0]), first, live, 0.5)
    assert more.tolist() == [True, True, False, False, False]
    assert [inq_portion(i, 4) for i in (1, 2, 3, 4)] == [0.5, 0.75, 0.875, 1.0]
    assert inq_portion(1, 1) == 1.0


@dataclass(frozen=True)
class Looking(Trained):
    word: ClassVar[str] = "looking"
    title: ClassVar[str] = "Looks on"

    look: object = None

    def hooks(self, model, data, run):
        hook = Hook()
        hook.after_step = self.look
        return [hook]


def net():
    model = MLP([12, 24, 3], rng=np.random.default_rng(1))
    return FineTune(epochs=10, lr=0.05, batch_size=20).apply(model, data(), Run(
        np.random.default_rng(0)))


def run(technique, look=lambda state: None, model=None, **knobs):
    training = FineTune(methods=(technique, Looking(look)), **{
        "epochs": 8, "lr": 0.02, "batch_size": 20, "weight_decay": 0.01} | knobs)
    return training.apply(model or net(), data(), Run(np.random.default_rng(2)))


def test_frozen_weights_stay_while_the_rest_trains():
    seen = []
    made = run(INQ(bits=4), lambda state: seen.append(
        state.model.forms()["fc1.weight"].values().copy()))
    assert len(seen) == 32  # 8 a portion
    peak = np.abs(net().forms()["fc1.weight"].values()).max()
    levels = Powers(largest_exponent(peak), 4).levels()
    for i in range(4):
        portion = [w for w in seen[8 * i:8 * i + 8]]
        still = (np.stack(portion) == portion[0]).all(axis=0)
        assert still.sum() == round(inq_portion(i + 1, 4) * still.size)
        assert np.isin(portion[-1][still], levels).all()
    form = made.forms()["fc1.weight"]
    assert isinstance(form, Codebook) and isinstance(form.centroids, Powers) and form.k == 9
    np.testing.assert_array_equal(form.dense().data, seen[-1])


def test_by_portions_less_is_lost_than_at_once():
    knobs = {"lr": 0.1, "epochs": 16, "weight_decay": 0.0, "schedule": "constant"}
    losses = [evaluate(run(INQ(bits=2, portions=n), **knobs), data().val).loss for n in (4, 1)]
    assert losses[0] < 0.9 * losses[1]


def test_a_pruned_net_keeps_its_zeros_and_counts_what_is_left():
    pruned = Magnitude(sparsity=0.75).apply(net(), data(), Run(None))
    mask, seen = pruned.forms()["fc1.weight"].mask, []
    made = run(INQ(bits=5), lambda state: seen.append(
        state.model.forms()["fc1.weight"].values().copy()), pruned)
    assert not made.forms()["fc1.weight"].dense().data[~mask].any()
    still = (np.stack(seen[:8]) == seen[0]).all(axis=0) & mask
    assert still.sum() == round(0.5 * mask.sum())


def test_shared_weights_are_refused():
    shared = KMeans(bits=2).apply(net(), data(), Run(np.random.default_rng(0)))
    with pytest.raises(UserError, match="inq: fc1.weight must hold plain values"):
        run(INQ(), model=shared)
