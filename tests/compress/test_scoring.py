"""Importance criteria: each formula by hand, and each pruner on a net where the answer is known."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from minicomp.compress.prune.fpgm import FPGM, fpgm_score
from minicomp.compress.prune.lamp import LAMP, lamp_score
from minicomp.compress.prune.snip import SNIP, snip_score
from minicomp.compress.prune.taylor import Taylor, taylor_score
from minicomp.compress.prune.wanda import Wanda, wanda_score
from minicomp.compress.scoring import importance, layer_inputs, loss_gradients
from minicomp.compress.technique import Run, weights
from minicomp.data.dataset import Split
from minicomp.errors import UserError
from minicomp.models import MLP, LeNet5Classic
from minicomp.nn import Codebook, Dense
from minicomp.nn.losses import cross_entropy
from minicomp.tensor import Tensor

ALL = (Taylor, SNIP, Wanda, LAMP)


class Data(SimpleNamespace):
    def calibration(self, n, rng):
        return Split(self.train.x[:n], self.train.y[:n])


def toy(rng, n=200, d=6, scale=None):
    x = (rng.standard_normal((n, d)) * (1 if scale is None else scale)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int64)
    return Data(train=Split(x, y), val=Split(x, y), black=0.0)


def test_formulas_by_hand():
    w, g = np.array([1.0, -2.0, 0.5]), np.array([3.0, 1.0, -4.0])
    np.testing.assert_allclose(taylor_score(w, g), [9, 4, 4])
    np.testing.assert_allclose(snip_score(w, g), [3, 2, 2])
    np.testing.assert_allclose(wanda_score(np.array([[1.0, -2.0]]), np.array([10.0, 1.0])), [[10, 2]])
    # squares 1, 4, 9: 1/14, 4/13, 9/9
    np.testing.assert_allclose(lamp_score(np.array([[1.0, -3.0], [2.0, 0.0]])), [[1 / 14, 1], [4 / 13, 0]])
    # points 0, 1, 3 on a line: distances 1 + 3, 1 + 2, 3 + 2
    np.testing.assert_allclose(fpgm_score(np.array([[0.0], [1.0], [3.0]])), [4, 3, 5])


def test_lamp_spares_the_largest_weight_of_every_layer():
    rng = np.random.default_rng(0)
    model = MLP([20, 10, 2], rng=rng)
    model.forms()["fc2.weight"].value.data[:] *= 1e-4  # a global magnitude threshold would empty this layer
    pruned = LAMP(sparsity=0.95).apply(model, None, Run(rng))
    assert all(pruned.forms()[name].nonzeros() >= 1 for name in weights(pruned).values())


def test_taylor_and_snip_are_of_the_mean_loss():
    rng = np.random.default_rng(1)
    model, data = MLP([6, 2], rng=rng), toy(rng)  # no ReLU: differences do not cross a kink
    g = loss_gradients(model, data.train, batch_size=30)["fc1.weight"]
    w, h = model.forms()["fc1.weight"].value.data, 1e-2

    def loss(i, j, d):
        w[i, j] += d
        value = cross_entropy(model(Tensor(data.train.x)), data.train.y).item()
        w[i, j] -= d
        return value
    for i, j in ((0, 0), (1, 5)):
        assert g[i, j] == pytest.approx((loss(i, j, h) - loss(i, j, -h)) / (2 * h), rel=0.02, abs=1e-4)


def test_layer_inputs_are_norms_over_examples_and_positions():
    rng = np.random.default_rng(2)
    model = LeNet5Classic(rng=rng)
    x = rng.standard_normal((3, 1, 28, 28)).astype(np.float32)
    norms = layer_inputs(model, Split(x, np.zeros(3, np.int64)), batch_size=2)
    np.testing.assert_allclose(norms["conv1"], [np.sqrt(np.square(x).sum())], rtol=1e-6)
    taps = model(x, taps=("relu3",))[1]["relu3"].data
    np.testing.assert_allclose(norms["fc2"], np.sqrt(np.square(taps).sum(axis=0)), rtol=1e-5)


def test_wanda_keeps_small_weights_on_large_inputs():
    rng = np.random.default_rng(3)
    data = toy(rng, scale=np.array([100, 1, 1, 1, 1, 1]))
    model = MLP([6, 2], rng=rng)
    model.forms()["fc1.weight"].value.data[:] = [[0.05, 1, 1, 1, 1, 1]] * 2
    kept = Wanda(sparsity=0.5).apply(model, data, Run(rng)).forms()["fc1.weight"].mask
    assert kept[:, 0].all() and (kept.sum(axis=1) == 3).all()


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("scope", ["global", "local"])
def test_exact_zeros_and_nested_masks(kind, scope):
    rng = np.random.default_rng(4)
    model, data = MLP([6, 9, 2], rng=rng), toy(rng)
    before = model.state_dict()
    masks = []
    for s in (0.3, 0.7):
        pruned = kind(sparsity=s, scope=scope).apply(model, data, Run(np.random.default_rng(0)))
        masks.append({n: pruned.forms()[n].mask for n in weights(pruned).values()})
        zeros = [int((~m).sum()) for m in masks[-1].values()]
        assert sum(zeros) == round(s * 72) if scope == "global" else zeros == [round(s * 54), round(s * 18)]
    assert all((masks[0][n] | ~masks[1][n]).all() for n in masks[0]), "what goes at 0.3 is gone at 0.7"
    assert all(np.array_equal(v, before[n]) for n, v in model.state_dict().items())


@pytest.mark.parametrize("scope", ["row", "local", "global"])
def test_what_is_pruned_already_goes_first_and_counts(scope):
    # Inputs 0 and 1 are always 0, so that live weights score as low as can be; one of four is gone.
    x = np.tile(np.float32([0, 0, 1, 1]), (9, 1))
    split = Split(x, np.zeros(9, np.int64))
    data, model = Data(train=split, val=split), MLP([4, 2], rng=np.random.default_rng(0))
    w = np.float32([[1, 2, 3, 4]] * 2)
    model.set_form("fc1.weight", Dense(w, mask=np.array([[True, True, True, False]] * 2)))
    rest = [[0, 1, 1, 0], [0, 1, 1, 0]] if scope == "row" else [[0, 0, 1, 0], [1, 1, 1, 0]]
    for s, mask in ((0.25, [[1, 1, 1, 0]] * 2), (0.5, rest), (0.75, [[0, 0, 1, 0]] * 2)):
        pruned = Wanda(sparsity=s, scope=scope).apply(model, data, Run(np.random.default_rng(0)))
        np.testing.assert_array_equal(pruned.forms()["fc1.weight"].mask, np.array(mask, bool))


@pytest.mark.parametrize("kind", [Taylor, SNIP, Wanda])
@pytest.mark.parametrize("scope", ["global", "local"])
def test_shared_weights_have_scores_too(kind, scope):
    # The gradient is that of the decoded weight, whatever stands behind it.
    model, data = MLP([6, 2], rng=np.random.default_rng(8)), toy(np.random.default_rng(8))
    codes = np.arange(12).reshape(2, 6) % 4
    table = np.float32([0, -0.7, 0.4, 0.9])
    model.set_form("fc1.weight", Codebook(codes, table, pinned_zero=True))
    plain = model.copy()
    plain.set_form("fc1.weight", Dense(table[codes], mask=codes != 0))
    masks = [kind(sparsity=0.5, scope=scope).apply(m, data, Run(np.random.default_rng(0))).forms()[
        "fc1.weight"].mask for m in (model, plain)]
    np.testing.assert_array_equal(*masks)
    assert np.count_nonzero(~masks[0]) == 6 and not masks[0][codes == 0].any()


def test_fpgm_masks_the_filter_that_others_stand_in_for():
    model = MLP([3, 4, 2], rng=np.random.default_rng(5))
    model.forms()["fc1.weight"].value.data[:] = [[9, 0, 0], [1, 1, 1], [0, 9, 0], [0, 0, 9]]
    mask = FPGM(sparsity=0.25, remove=False).apply(model, None, Run(np.random.default_rng(0))).forms()["fc1.weight"].mask
    np.testing.assert_array_equal(mask.all(axis=1), [True, False, True, True])
    np.testing.assert_array_equal(mask.any(axis=1), [True, False, True, True])


def test_nan_scores_are_refused():
    rng = np.random.default_rng(6)
    model, data = MLP([6, 2], rng=rng), toy(rng)
    data.train.x[0, 0] = np.nan
    with pytest.raises(UserError, match="taylor: the scores of fc1 must be numbers, got NaN"):
        Taylor().apply(model, data, Run(rng))
    for scope in ("row", "local", "global"):
        with pytest.raises(UserError, match="wanda: the scores of fc1 must be numbers, got NaN"):
            Wanda(scope=scope).apply(model, data, Run(rng))
    with pytest.raises(UserError, match="scope global needs one sparsity"):
        Taylor(sparsity={"fc1": 0.5})


def test_importance_gives_one_row_per_criterion_and_sparsity():
    rng = np.random.default_rng(7)
    model, data = MLP([6, 2], rng=rng), toy(rng)
    rows = importance(model, data, [Taylor(), LAMP()], rng=rng, sparsities=[0.25, 0.5],
                      evaluate=lambda m: m.forms()["fc1.weight"].nonzeros() / 12)
    assert [(r["criterion"], r["error"]) for r in rows] == [("taylor", 0.75), ("taylor", 0.5), ("lamp", 0.75),
                                                             ("lamp", 0.5)]
    assert dataclasses.is_dataclass(Taylor)
