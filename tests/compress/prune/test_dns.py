"""Dynamic network surgery: the three-way rule, the dense gradient, and what is left at the end."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicomp.compress.prune.magnitude import Magnitude
from minicomp.compress.prune.dns import DNS, Surgery, surgery_mask, surgery_thresholds
from minicomp.compress.technique import Run
from minicomp.data.dataset import Split
from minicomp.errors import UserError
from minicomp.models import MLP
from minicomp.nn.forms import Codebook


def toy(rng, n=300):
    # Two informative inputs of ten.
    x = rng.standard_normal((n, 10)).astype(np.float32)
    y = (x[:, 0] + x[:, 1] > 0).astype(np.int64)
    split = Split(x, y)
    return SimpleNamespace(train=split, val=split)


def test_three_way_rule_by_hand():
    w = np.array([0.05, -0.2, 0.2, -0.5, 0.3])
    mask = np.array([True, True, False, False, True])
    # below 0.1: cut; 0.1 <= |w| < 0.3: as before; from 0.3 on: kept
    np.testing.assert_array_equal(surgery_mask(w, mask, 0.1, 0.3), [False, True, False, True, True])


@given(
    st.lists(st.floats(-3, 3), min_size=1, max_size=30),
    st.floats(0, 2),
    st.floats(0, 1),
    st.randoms(),
)
def test_rule_keeps_the_mask_exactly_between_the_thresholds(values, a, width, random):
    w = np.array(values)
    mask = np.array([random.random() < 0.5 for _ in values])
    t = surgery_mask(w, mask, a, a + width)
    between = (np.abs(w) >= a) & (np.abs(w) < a + width)
    np.testing.assert_array_equal(t[between], mask[between])
    assert t[np.abs(w) >= a + width].all() and not t[np.abs(w) < a].any()


def test_thresholds_are_of_the_magnitudes():
    w = np.array([1.0, -3.0, 1.0, 3.0])  # |w|: mean 2, deviation 1
    np.testing.assert_allclose(surgery_thresholds(w, 0.5), (0.9 * 2.5, 1.1 * 2.5))
    assert surgery_thresholds(w, -4.0) == (0.0, 0.0)


def test_wrong_thresholds_and_shapes_are_refused():
    with pytest.raises(ValueError, match="a must be at most b, got a = 2, b = 1"):
        surgery_mask(np.ones(2), np.ones(2, bool), 2, 1)
    with pytest.raises(ValueError, match=r"mask must have shape \(2,\)"):
        surgery_mask(np.ones(2), np.ones(3, bool), 1, 2)
    with pytest.raises(UserError, match="low must be at most high"):
        DNS(low=1.5)


def test_gradient_reaches_what_is_cut(watching):
    # One step of plain descent moves every entry by -lr dL/d(W T), the cut ones too (eq. 2).
    rng = np.random.default_rng(0)
    model, data, seen = MLP([10, 2], rng=rng), toy(rng), []

    def note(state):
        form = state.model.forms()["fc1.weight"]
        seen.append((form.values().copy(), form.mask.copy(), state.weight_grads["fc1.weight"]))
    training = DNS(c=0.5, stop=1.0).training(
        epochs=1, lr=0.5, batch_size=300, momentum=0.0, schedule="constant"
    )
    watching(training, after_step=note).apply(model, data, Run(rng))
    (w, mask, g), start = seen[0], model.forms()["fc1.weight"].values()
    assert 0 < mask.sum() < mask.size and (g != 0).all()
    np.testing.assert_array_equal(w, start - np.float32(0.5) * g)
    # dL/dz x of all ten inputs, with z of the cut weights
    z = data.train.x @ np.where(mask, start, 0).T + model.forms()["fc1.bias"].values()
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    p[np.arange(300), data.train.y] -= 1
    np.testing.assert_allclose(g, p.T @ data.train.x / 300, atol=1e-6)


def test_a_wrongly_cut_weight_is_spliced_back():
    # The two inputs that matter start below the threshold, one that does not starts above it.
    rng = np.random.default_rng(0)
    model = MLP([10, 2], rng=rng)
    w = model.forms()["fc1.weight"].value.data
    w[:] = 0.01 * rng.standard_normal(w.shape)
    w[:, 5] = 0.05
    data = toy(rng)
    left = (
        DNS(c=1.0, stop=0.8)
        .training(epochs=20, lr=0.05, batch_size=30, momentum=0.0)
        .apply(model, data, Run(rng))
    )
    mask = left.forms()["fc1.weight"].mask
    assert mask[:, :2].all(), "the weights of the informative inputs grew back"
    start = DNS(c=1.0).sketch(model, rng=rng).forms()["fc1.weight"].mask
    assert not start[:, :2].any(), "they were cut at the start"


def test_what_is_cut_at_the_end_is_exactly_zero():
    rng = np.random.default_rng(1)
    model = MLP([10, 8, 2], rng=rng)
    left = DNS(c=0.5).training(epochs=2, weight_decay=1e-3).apply(model, toy(rng), Run(rng))
    form = left.forms()["fc1.weight"]
    assert form.kind == "dense" and 0 < form.mask.sum() < form.mask.size
    assert (form.dense().data[~form.mask] == 0).all()


def test_code_variant_cuts_biases_too():
    rng = np.random.default_rng(2)
    model = MLP([10, 2], rng=rng)
    # below and above any threshold of these weights
    model.forms()["fc1.bias"].value.data[:] = [0.0, 9.0]
    paper, code = (DNS(c=1.0, variant=v).sketch(model, rng=rng) for v in ("paper", "code"))
    assert paper.forms()["fc1.bias"].mask is None
    np.testing.assert_array_equal(code.forms()["fc1.bias"].mask, [False, True])


@pytest.fixture
def operated(monkeypatch):
    # (step, rise) of every update of the masks; step counts the batches before.
    seen, before = [], Surgery.before_batch

    def count(self, state):
        self.at = state.step
        before(self, state)
    monkeypatch.setattr(Surgery, "before_batch", count)
    monkeypatch.setattr(
        Surgery, "operate",
        lambda self, model, names, rise=1.0: seen.append((self.at, rise)) if names else None,
    )
    return seen


def test_masks_stay_after_stop(operated):
    rng = np.random.default_rng(3)
    model = MLP([10, 2], rng=rng)
    DNS(c=0.5, stop=0.5).training(epochs=4, batch_size=100).apply(model, toy(rng), Run(rng))
    assert 0 < len(operated) <= 6  # 12 steps, masks move in the first half only
    assert max(step for step, _ in operated) < 6


def test_masks_move_as_often_as_sigma_says_and_later_less_often(operated):
    rng = np.random.default_rng(4)
    technique = DNS(c=0.5, stop=1.0, gamma=0.01, power=1.0).training(epochs=60, batch_size=30)
    technique.apply(MLP([10, 2], rng=rng), toy(rng), Run(rng))
    at = [step for step, _ in operated]
    expected = sum((1 + 0.01 * i) ** -1.0 for i in range(600))  # 195 of 600 steps
    assert abs(len(at) - expected) < 4 * expected**0.5
    assert sum(i < 300 for i in at) > 1.5 * sum(i >= 300 for i in at)


def test_every_layer_draws_for_itself(monkeypatch):
    # As in the authors' code: a layer's mask may move at a step at which another's stays.
    seen, rng = [], np.random.default_rng(4)
    monkeypatch.setattr(Surgery, "operate", lambda self, model, names, rise=1.0: seen.append(names))
    technique = DNS(c=0.5, stop=1.0, gamma=0.1, variant="code")
    technique.training(epochs=20, batch_size=30).apply(MLP([10, 4, 2], rng=rng), toy(rng), Run(rng))
    assert seen[0] == ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"]  # sigma(0) = 1
    assert {tuple(n[:3] for n in names[::2]) for names in seen} == {
        (), ("fc1",), ("fc2",), ("fc1", "fc2")
    }
    assert all(len(names) % 2 == 0 for names in seen), "a layer's bias goes with its weight"


def test_with_stop_0_the_first_cut_is_the_last_with_and_without_training(operated):
    # A training without epochs leaves the same zeros: the mask is set once.
    rng = np.random.default_rng(3)
    DNS(c=0.5, stop=0.0).training(epochs=4, batch_size=100).apply(
        MLP([10, 2], rng=rng), toy(rng), Run(rng)
    )
    assert operated == [(0, 1.0)]


def test_masks_of_stop_0_are_those_of_no_epochs():
    rng = np.random.default_rng(3)
    model, given = MLP([10, 2], rng=rng), toy(rng)
    masks = [
        DNS(c=0.5, stop=0.0).training(epochs=epochs).apply(model, given, Run(rng)).forms()[
            "fc1.weight"
        ].mask
        for epochs in (0, 2)
    ]
    np.testing.assert_array_equal(*masks)
    assert not masks[0].all()


def test_a_ramp_that_ends_behind_stop_is_refused():
    with pytest.raises(UserError, match="dns: ramp must be at most stop.*ramp = 0.8, stop = 0.7"):
        DNS(ramp=0.8)


def test_thresholds_rise_over_the_ramp(operated):
    rng = np.random.default_rng(5)
    technique = DNS(c=0.5, stop=1.0, gamma=0.0, ramp=0.5).training(epochs=4, batch_size=30)
    technique.apply(MLP([10, 2], rng=rng), toy(rng), Run(rng))
    rises = [rise for _, rise in operated]
    np.testing.assert_allclose(rises[:21], np.minimum(np.arange(21) / 20, 1))
    assert len(rises) == 40 and set(rises[20:]) == {1.0}


def test_what_was_pruned_before_is_not_spliced_back():
    rng = np.random.default_rng(6)
    first = Magnitude(sparsity=0.5).apply(MLP([10, 8, 2], rng=rng), None, Run(rng))
    # thresholds of 0: everything may grow
    left = DNS(c=-5.0).training(epochs=6, lr=0.1).apply(first, toy(rng), Run(rng))
    for name in ("fc1.weight", "fc2.weight"):
        assert (left.forms()[name].dense().data[~first.forms()[name].mask] == 0).all()


def surgery_rows(technique, seed, n=300):
    rng, rows, masks = np.random.default_rng(seed), [], []

    def note(row):
        if row["event"] == "surgery":
            rows.append(row)
            masks.append(row["model"].forms()["fc1.weight"].mask.copy())
    left = technique.apply(MLP([10, 2], rng=rng), toy(rng, n), Run(rng, log=note))
    return rows, masks, left


def test_the_log_counts_every_weight_that_was_cut_and_spliced_back():
    # 90 steps are fewer than 100: a row for each, so that the masks tell all that happened.
    technique = DNS(c=0.5, gamma=0.0, stop=0.8).training(epochs=9, batch_size=30, lr=0.3)
    rows, masks, left = surgery_rows(technique, seed=7)
    before = [np.ones((2, 10), bool), *masks[:-1]]
    cuts = np.cumsum([(a & ~b).sum() for a, b in zip(before, masks)])
    spliced = np.cumsum([(b & ~a).sum() for a, b in zip(before, masks)])
    assert [r["cut"] for r in rows] == cuts.tolist() and cuts[-1] > 5
    assert [r["spliced"] for r in rows] == spliced.tolist() and spliced[-1] > 2
    assert [r["sparsity"] for r in rows] == [1 - m.mean() for m in masks]
    assert [(r["step"], r["steps"]) for r in rows] == [(i, 90) for i in range(90)]
    np.testing.assert_array_equal(left.forms()["fc1.weight"].mask, masks[-1])


def test_a_long_training_logs_a_hundred_rows_evenly():
    rows, _, _ = surgery_rows(DNS().training(epochs=23, batch_size=30), seed=8)
    steps = [r["step"] for r in rows]
    assert len(steps) == 100 and steps[0] == 0 and set(np.diff(steps)) == {2, 3}
    rows, _, _ = surgery_rows(DNS().training(epochs=2, batch_size=300), seed=8, n=300)
    assert [r["step"] for r in rows] == [0, 1]


def test_without_a_way_back_nothing_is_spliced():
    technique = DNS(c=0.5, gamma=0.0, high=1e9).training(epochs=9, batch_size=30, lr=0.3)
    rows, masks, _ = surgery_rows(technique, seed=7)
    assert rows[-1]["spliced"] == 0 and all((b <= a).all() for a, b in zip(masks, masks[1:]))


def test_a_resumed_training_counts_on(tmp_path):
    rng = np.random.default_rng(9)
    model, data = MLP([10, 2], rng=rng), toy(rng)
    technique = DNS(c=0.5, gamma=0.0).training(epochs=6, batch_size=30, lr=0.3)

    def run(folder, stop=None):
        rows = []

        def note(row):
            rows.append(row)
            if stop is not None and row["event"] == "epoch" and row["epoch"] == stop:
                raise KeyboardInterrupt
        try:
            technique.apply(model, data, Run(np.random.default_rng(1), log=note, checkpoint=folder))
        except KeyboardInterrupt:
            pass
        return [r for r in rows if r["event"] == "surgery"]

    whole = run(tmp_path / "whole")
    run(tmp_path / "cut", stop=4)
    resumed = run(tmp_path / "cut")
    assert 0 < len(resumed) < len(whole)
    for a, b in zip(resumed, whole[-len(resumed):]):
        assert {k: v for k, v in a.items() if k != "model"} == {
            k: v for k, v in b.items() if k != "model"
        }


def test_the_codes_variant_refuses_a_shared_bias():
    model = MLP([10, 4, 2], rng=np.random.default_rng(0))
    model.set_form("fc1.bias", Codebook(np.zeros(4, int), [0.1]))
    DNS(variant="paper").check(model)
    with pytest.raises(UserError, match="dns: fc1.bias must hold plain values.* got a codebook"):
        DNS(variant="code").check(model)
