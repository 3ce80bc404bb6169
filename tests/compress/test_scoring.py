"""What the importance criteria share: gradients, norms of inputs, scopes, NaN."""

from types import SimpleNamespace

import numpy as np
import pytest

from minicomp.compress.prune.fpgm import FPGM
from minicomp.compress.prune.lamp import LAMP
from minicomp.compress.prune.movement import MovementScore
from minicomp.compress.prune.snip import SNIP
from minicomp.compress.prune.taylor import Taylor
from minicomp.compress.prune.wanda import Wanda
from minicomp.compress.scoring import layer_inputs, loss_gradients
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


def toy(rng, n=200, d=6):
    x = rng.standard_normal((n, d)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int64)
    return Data(train=Split(x, y), val=Split(x, y))


def test_gradients_are_of_the_mean_loss():
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
        slope = (loss(i, j, h) - loss(i, j, -h)) / (2 * h)
        assert g[i, j] == pytest.approx(slope, rel=0.02, abs=1e-4)


def test_layer_inputs_are_norms_over_examples_and_positions():
    rng = np.random.default_rng(2)
    model = LeNet5Classic(rng=rng)
    x = rng.standard_normal((3, 1, 28, 28)).astype(np.float32)
    norms = layer_inputs(model, Split(x, np.zeros(3, np.int64)), batch_size=2)
    np.testing.assert_allclose(norms["conv1"], [np.sqrt(np.square(x).sum())], rtol=1e-6)
    taps = model(x, taps=("relu3",))[1]["relu3"].data
    np.testing.assert_allclose(norms["fc2"], np.sqrt(np.square(taps).sum(axis=0)), rtol=1e-5)


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
        if scope == "global":
            assert sum(zeros) == round(s * 72)
        else:
            assert zeros == [round(s * 54), round(s * 18)]
    # what goes at 0.3 is gone at 0.7
    assert all((masks[0][n] | ~masks[1][n]).all() for n in masks[0])
    assert all(np.array_equal(v, before[n]) for n, v in model.state_dict().items())


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
    technique, masks = kind(sparsity=0.5, scope=scope), []
    for m in (model, plain):
        pruned = technique.apply(m, data, Run(np.random.default_rng(0)))
        masks.append(pruned.forms()["fc1.weight"].mask)
    np.testing.assert_array_equal(*masks)
    assert np.count_nonzero(~masks[0]) == 6 and not masks[0][codes == 0].any()


def test_nan_scores_are_refused():
    rng = np.random.default_rng(6)
    model, data = MLP([6, 2], rng=rng), toy(rng)
    data.train.x[0, 0] = np.nan
    for technique in (Taylor(), *(Wanda(scope=scope) for scope in ("row", "local", "global"))):
        with pytest.raises(UserError, match="the examples of train must hold finite numbers"):
            technique.apply(model, data, Run(rng))
        with pytest.raises(UserError, match=f"{technique.word}: the scores of fc1 must be numbers"):
            technique.change(model, data, Run(rng))
    with pytest.raises(UserError, match="scope global needs one sparsity"):
        Taylor(sparsity={"fc1": 0.5})
    with pytest.raises(UserError, match="taylor: floor is of scope global, got scope local"):
        Taylor(scope="local", floor=0.1)


@pytest.mark.parametrize("kind", [LAMP, FPGM])
def test_a_score_of_the_weights_alone_has_no_examples(kind):
    assert "samples" not in kind.knobs()
    assert all("samples" in other.knobs() for other in (Taylor, SNIP, Wanda, MovementScore))
