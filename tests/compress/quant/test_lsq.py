"""Learned step size quantization: its gradient, its start, what training with it does."""

from types import SimpleNamespace

import numpy as np
import pytest

from minicomp.errors import UserError
from minicomp.compress import LSQ, QAT, Magnitude, Pipeline, Run
from minicomp.compress.finetune import FineTune
from minicomp.compress.quant.lsq import initial_step, step_gain
from minicomp.compress.quant.nodes import grids
from minicomp.data import Split
from minicomp.grid import lsq_quantize
from minicomp.models import MLP
from minicomp.nn import Affine
from minicomp.tensor import Tensor, grad
from minicomp.train import evaluate


def slopes(v, s, lo, hi, gain=1.0):
    v, s = Tensor(np.asarray(v), requires_grad=True), Tensor(np.array([s]), requires_grad=True)
    dv, ds = grad(lsq_quantize(v, s, lo=lo, hi=hi, gain=gain).sum(), [v, s])
    return dv.data, float(ds.data[0])


def test_the_slope_of_a_step_by_hand():
    # v / s = 0.6, 1.4, -0.5, 9, -9 on the codes -2..1: rnd(t) - t = 0.4, clipped: 1, 0.5, 1, -2.
    for t, ds, dv in ((0.6, 0.4, 1), (1.4, 1, 0), (-0.5, 0.5, 1), (9, 1, 0), (-9, -2, 0)):
        found = slopes([0.25 * t], 0.25, -2, 1)
        assert found[0][0] == dv and found[1] == pytest.approx(ds)
    assert slopes([2.25], 0.25, -2, 1, gain=0.1)[1] == pytest.approx(0.1)


def test_the_clipped_terms_are_the_derivative_itself():
    # Beyond the ends v^ = s lo or s hi, which can be differentiated: by differences.
    rng, h = np.random.default_rng(0), 1e-6
    for lo, hi in ((-2, 1), (0, 3), (-8, 7)):
        v = np.concatenate([rng.uniform(hi + 0.7, hi + 9, 20), -rng.uniform(0.7 - lo, 9 - lo, 20)])
        s = 1.0
        up, down = (np.sum(lsq_quantize(v, np.array([s + d]), lo=lo, hi=hi, gain=1.0))
                    for d in (h, -h))
        assert slopes(v, s, lo, hi)[1] == pytest.approx((up - down) / (2 * h), rel=1e-6)
        assert not slopes(v, s, lo, hi)[0].any()


def test_where_steps_begin():
    assert initial_step(np.array([1.0, -3.0]), 4) == np.float32(2)
    assert initial_step(np.zeros(4), 1) == initial_step(np.zeros(0), 1) == 1
    assert step_gain(25, 4) == 0.1


def net_and_data():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((400, 12)).astype(np.float32)
    y = np.argmax(x[:, :3] + 0.5 * x[:, 3:6], axis=1)
    data = SimpleNamespace(train=Split(x[:200], y[:200]), val=Split(x[200:], y[200:]))
    model = MLP([12, 24, 3], rng=np.random.default_rng(1))
    return FineTune(epochs=10, lr=0.05, batch_size=20).apply(model, data, Run(rng)), data


def trained(technique, model, data, **knobs):
    training = technique.training(**{"epochs": 12, "lr": 0.02, "batch_size": 20} | knobs)
    return training.apply(model, data, Run(np.random.default_rng(2)))


def test_two_bits_learn_what_rounding_loses():
    model, data = net_and_data()
    wide = {"*": 2, "fc2": 8}
    rounded = trained(LSQ(bits=wide, act_bits=wide), model, data, lr=1e-9)
    learnt = trained(LSQ(bits=wide, act_bits=wide), model, data)
    before, after = (evaluate(m, data.val).errors for m in (rounded, learnt))
    assert after <= 0.75 * before
    form = learnt.forms()["fc1.weight"]
    assert isinstance(form, Affine) and set(np.unique(form.q)) <= {-2, -1, 0, 1}
    assert not form.trainable and form.latent is None
    assert [layer.bits for layer in grids(learnt).values()] == [2, 8]
    assert [layer.grid for layer in grids(learnt).values()] == ["full", "unsigned"]
    # Steps have moved, those of activations too, and are constants afterwards.
    start = LSQ(bits=wide, act_bits=wide).training(epochs=1, lr=1e-9).apply(
        model, data, Run(np.random.default_rng(2)))
    assert abs(start.node("act1_q").layer.scale / learnt.node("act1_q").layer.scale - 1) > 0.005
    assert not learnt.grids() and not learnt.parameters()


def test_a_pruned_layer_keeps_its_mask_and_its_step_is_of_what_is_kept():
    model, data = net_and_data()
    pruned = Pipeline(steps=(Magnitude(sparsity=0.9),)).apply(model, data, Run(
        np.random.default_rng(0)))
    mask = pruned.forms()["fc1.weight"].mask
    sketch = LSQ(bits=4, act_bits=0).sketch(pruned, rng=np.random.default_rng(0))
    w = pruned.forms()["fc1.weight"].dense().data
    assert sketch.forms()["fc1.weight"].scale.data[0] == initial_step(w[mask], 7)
    made = trained(LSQ(bits=4, act_bits=0), pruned, data, epochs=2)
    assert not made.forms()["fc1.weight"].dense().data[~mask].any()
    assert not grids(made)


def test_after_another_quantization_grids_are_put_anew():
    model, data = net_and_data()
    first = trained(QAT(bits=8, act_bits=8), model, data, epochs=1)
    made = trained(LSQ(bits=3, act_bits=4), first, data, epochs=1)
    assert [(layer.bits, layer.zero_point) for layer in grids(made).values()] == [(4, 0)] * 2
    assert len(made.nodes) == len(first.nodes) and made.forms()["fc1.weight"].bits == 3
    assert not grids(trained(LSQ(act_bits=0), first, data, epochs=1))


def test_a_step_a_channel_has_its_own_start():
    model, _ = net_and_data()
    form = LSQ(bits=4, per="channel").sketch(model, rng=np.random.default_rng(0)).forms()[
        "fc1.weight"]
    w = model.forms()["fc1.weight"].dense().data
    expected = [initial_step(row, 7) for row in w]
    np.testing.assert_array_equal(form.scale.data, np.array(expected, np.float32))


def test_without_its_gain_a_step_moves_further():
    model, data = net_and_data()

    def moved(**knobs):
        made, start = (trained(LSQ(bits=4, act_bits=4, **knobs), model, data, epochs=1, lr=lr)
                       for lr in (1e-4, 1e-9))
        w, a = ((float(m.forms()["fc1.weight"].scale.data[0]), float(m.node("act1_q").layer.scale))
                for m in (made, start))
        return np.abs(np.subtract(w, a))

    assert (moved(gain=False) > 5 * moved()).all()


@pytest.mark.peers
def test_the_gradients_are_those_of_torch():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(3)
    v, s = rng.standard_normal(200).astype(np.float32), np.float32(0.3)
    for lo, hi in ((-2, 1), (-8, 7), (0, 15)):
        tv = torch.tensor(v, requires_grad=True)
        ts = torch.tensor([s], requires_grad=True)
        zero = torch.zeros(1, requires_grad=True)
        made = torch._fake_quantize_learnable_per_tensor_affine(tv, ts, zero, lo, hi, 0.5)
        made.sum().backward()
        dv, ds = slopes(v, s, lo, hi, gain=0.5)
        # torch's inside is that of the rounded code, the paper's that of v / s.
        t = v / s
        edge = (t <= lo) & (np.rint(t) >= lo) | (t >= hi) & (np.rint(t) <= hi)
        np.testing.assert_array_equal(dv[~edge], tv.grad.numpy()[~edge])
        q = np.clip(np.rint(t), lo, hi) - np.where((np.rint(t) < lo) | (np.rint(t) > hi), 0, t)
        mine = np.where(t <= lo, lo, np.where(t >= hi, hi, np.rint(t) - t))
        np.testing.assert_allclose(ts.grad.item() - 0.5 * (q - mine).sum(), ds, rtol=1e-4,
                                   atol=1e-3)


@pytest.mark.parametrize("knobs", [{"samples": 9}, {"method": "mse"}])
def test_knobs_of_grids_that_there_are_none_of_are_refused(knobs):
    with pytest.raises(UserError, match=f"{[*knobs][0]} does not go with act_bits 0"):
        QAT(act_bits=0, **knobs)
