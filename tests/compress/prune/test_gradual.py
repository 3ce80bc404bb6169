import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicomp import train
from minicomp.compress.finetune import FineTune
from minicomp.compress.prune.gradual import Gradual
from minicomp.compress.schedule import agp_sparsity
from minicomp.compress.prune.magnitude import Magnitude
from minicomp.compress.scores import magnitude_mask
from minicomp.compress.technique import Run, weights
from minicomp.errors import UserError
from minicomp.nn import Codebook, Dense, Half
from minicomp.train import Score


def zeros(model):
    return [np.count_nonzero(~model.forms()[name].mask) for name in weights(model).values()]


@pytest.fixture
def watched(watching, blobs, net):
    # Applies a training; returns the model and the zeros of each mask after every step.
    def apply(training, model=None):
        seen = []
        training = watching(training, after_step=lambda state: seen.append(zeros(state.model)))
        return training.apply(model or net(), blobs(), Run(np.random.default_rng(1))), seen

    return apply


SIZES = [240, 200, 40]

# ---------------------------------------------------------------------------------------- the cubic


def test_the_cubic_by_hand():
    # s_t = s_f + (s_i - s_f) (1 - (t - t0) / (n dt))^3 with s_i 0, s_f 0.8, t0 100, n 10, dt 20
    at = {0: 0.0, 100: 0.0, 120: 0.8 * (1 - 0.9**3), 200: 0.8 * 0.875, 300: 0.8, 1000: 0.8}
    for t, want in at.items():
        assert agp_sparsity(t, s_i=0.0, s_f=0.8, t0=100, n=10, dt=20) == pytest.approx(
            want, abs=1e-15
        )
    assert agp_sparsity(200, s_i=0.5, s_f=0.8, t0=100, n=10, dt=20) == pytest.approx(0.8 - 0.3 / 8)
    assert (
        agp_sparsity(300, s_i=0.5, s_f=0.8, t0=100, n=10, dt=20) == 0.8
    )  # to the bit: round(s n) is exact


@given(
    st.floats(0, 0.99),
    st.floats(0, 0.99),
    st.integers(0, 100),
    st.integers(1, 60),
    st.integers(1, 60),
)
def test_the_cubic_rises_from_first_to_final(s_i, s_f, t0, n, dt):
    s_i, s_f = sorted((s_i, s_f))
    values = [
        agp_sparsity(t, s_i=s_i, s_f=s_f, t0=t0, n=n, dt=dt) for t in range(t0, t0 + n * dt + 1, dt)
    ]
    assert values[0] == pytest.approx(s_i) and values[-1] == s_f
    assert all(a <= b + 1e-12 for a, b in zip(values, values[1:]))


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore:Detected call")
def test_the_cubic_is_torchs():
    torch = pytest.importorskip("torch")
    from torch.ao.pruning import CubicSL, WeightNormSparsifier

    layer = torch.nn.Sequential(torch.nn.Linear(4, 4))
    sparsifier = WeightNormSparsifier(sparsity_level=0.9)
    sparsifier.prepare(layer, [{"tensor_fqn": "0.weight"}])
    schedule = CubicSL(sparsifier, init_sl=0.2, init_t=3, delta_t=4, total_t=10)
    for t in range(1, 60):
        schedule.step()
        if t >= 3 and (t - 3) % 4 == 0:  # torch holds the level between its updates
            want = sparsifier.groups[0]["sparsity_level"]
            assert agp_sparsity(t, s_i=0.2, s_f=0.9, t0=3, n=10, dt=4) == pytest.approx(
                want, abs=1e-12
            ), t


# ----------------------------------------------------------------------------------- along the ramp


def test_masks_follow_the_cubic_and_end_exactly(watched):
    # 160 examples, batch 16: 10 steps an epoch, 60 steps; ramp 0.5: 30 steps, 6 prunings 5 apart
    technique = Gradual(sparsity={"*": 0.9, "fc2": 0.5}, ramp=0.5, prunings=6).training(
        epochs=6, batch_size=16
    )
    model, seen = watched(technique)
    for step, counts in enumerate(seen, start=1):
        t = min(step // 5 * 5, 30)
        want = [
            round(n * agp_sparsity(t, s_i=0.0, s_f=s, t0=0, n=6, dt=5))
            for n, s in zip(SIZES, (0.9, 0.5, 0.9))
        ]
        assert counts == want, step
    assert zeros(model) == [216, 100, 36]
    for name in weights(model).values():
        form = model.forms()[name]
        assert not form.dense().data[~form.mask].any()


def test_the_ramp_starts_at_initial_where_the_final_sparsity_is_not_lower(watched):
    technique = Gradual(sparsity={"*": 0.9, "fc2": 0.3}, initial=0.5, prunings=4).training(
        epochs=4, batch_size=16
    )
    model, seen = watched(technique)
    assert seen[0] == [120, 60, 20]  # from before the first step: 0.5, 0.5 limited to 0.3, 0.5
    assert zeros(model) == [216, 60, 36]
    assert all(a[1] == 60 for a in seen)
    middle = [round(n * agp_sparsity(6, s_i=0.5, s_f=0.9, t0=0, n=4, dt=6)) for n in SIZES]
    assert [seen[5][0], seen[5][2]] == [middle[0], middle[2]]


@pytest.mark.parametrize(
    "epochs, batch, ramp, prunings",
    [
        (1, 160, 0.6, 50),
        (1, 80, 0.01, 50),
        (2, 16, 1.0, 50),
        (3, 16, 0.6, 7),
        (1, 16, 0.99, 9),
        (0, 16, 0.6, 5),
        (4, 50, 0.3, 1),
    ],
)
def test_the_final_sparsity_is_reached_however_short_the_training(
    watched, epochs, batch, ramp, prunings
):
    technique = Gradual(sparsity=0.85, ramp=ramp, prunings=prunings)
    model, seen = watched(technique.training(epochs=epochs, batch_size=batch))
    assert zeros(model) == [204, 170, 34]
    changes = sum(a != b for a, b in zip(seen, seen[1:]))
    assert changes <= prunings
    n, dt = technique.ramp_steps(len(seen))
    assert n <= prunings and n * dt <= max(1, len(seen) * ramp)


@pytest.mark.parametrize("epochs, prunings", [(5, 50), (20, 50), (7, 13)])
def test_the_ramp_takes_the_part_of_the_training_that_was_asked_for(epochs, prunings):
    n, dt = Gradual(prunings=prunings, ramp=0.6).ramp_steps(epochs * 10)
    assert 0.6 * epochs * 10 - dt < n * dt <= 0.6 * epochs * 10


def test_masks_are_nested_and_drop_the_smallest(monkeypatch, blobs, net):
    masks, remask = [], Gradual.remask

    def spy(self, model, t, n, dt):
        form = model.forms()["fc1.weight"]
        before, mask = form.value.data.copy(), form.mask.copy()
        remask(self, model, t, n, dt)
        now = form.mask
        np.testing.assert_array_equal(
            now, magnitude_mask(np.where(mask, before, 0), 1 - now.mean())
        )
        assert not (now & ~mask).any()
        masks.append(now.copy())

    monkeypatch.setattr(Gradual, "remask", spy)
    technique = Gradual(sparsity=0.9, prunings=8).training(epochs=4, batch_size=16)
    technique.apply(net(), blobs(), Run(np.random.default_rng(1)))
    assert len(masks) == 9 and masks[1].mean() > 0.6 and masks[-1].mean() == pytest.approx(0.1)


def test_one_ranking_over_all_layers(watched, net):
    model = net()
    model.set_form("fc2.weight", Dense(model.forms()["fc2.weight"].value.data * 5))
    pruned, seen = watched(
        Gradual(sparsity=0.8, scope="global").training(epochs=2, batch_size=16, lr=1e-4), model
    )
    assert all(sum(a) <= sum(b) for a, b in zip(seen, seen[1:])) and sum(zeros(pruned)) == 384
    assert zeros(pruned)[1] / 200 < 0.8 < zeros(pruned)[0] / 240


def test_the_best_epoch_is_one_of_the_final_sparsity(monkeypatch, watched):
    # Validation errors 1, 2, 3, ...: the first epoch is best, but there the net is still dense.
    counts = iter(range(1, 100))
    monkeypatch.setattr(train, "evaluate", lambda *a, **k: Score(next(counts), 10, 0.0))
    for knobs in ({"keep_best": True}, {"patience": 2}):
        model, seen = watched(
            Gradual(sparsity=0.9, ramp=0.5, prunings=8).training(epochs=8, batch_size=16, **knobs)
        )
        assert zeros(model) == [216, 180, 36]
        if "patience" in knobs:  # the ramp ends with epoch 4, two more follow
            assert len(seen) == 60


# --------------------------------------------------------------------------------------- invariants


def test_what_is_pruned_already_stays_pruned_and_counts(watched, net):
    first = Magnitude(sparsity=0.4).apply(net(), None, Run(np.random.default_rng(0)))
    model, seen = watched(Gradual(sparsity=0.9).training(epochs=2, batch_size=16), first)
    assert seen[0] == [96, 80, 16] and zeros(model) == [216, 180, 36]
    for name in weights(model).values():
        assert not (model.forms()[name].mask & ~first.forms()[name].mask).any()


def test_half_is_pruned_and_a_codebook_is_refused(watched, net):
    model = net()
    model.set_form("fc1.weight", Half(model.forms()["fc1.weight"].value))
    pruned, _ = watched(Gradual(sparsity=0.9).training(epochs=1, batch_size=16), model)
    assert type(pruned.forms()["fc1.weight"]) is Half and zeros(pruned)[0] == 216
    model.set_form("fc2.weight", Codebook(np.ones((10, 20), int), [0.0, 1.0], pinned_zero=True))
    for run in (
        lambda: watched(Gradual().training(), model),
        lambda: Gradual().sketch(model, rng=None),
    ):
        with pytest.raises(
            UserError,
            match="gradual: fc2.weight must hold plain values.* got a codebook; prune before",
        ):
            run()


def test_the_sketch_has_the_final_masks(net):
    technique = Gradual(sparsity={"*": 0.9, "fc2": 0.5}, initial=0.3)
    model = net()
    sketch = technique.sketch(model, rng=np.random.default_rng(0))
    assert zeros(sketch) == [216, 100, 36] and model.forms()["fc1.weight"].mask is None
    w = model.forms()["fc1.weight"].dense().data
    np.testing.assert_array_equal(sketch.forms()["fc1.weight"].mask, magnitude_mask(w, 0.9))


def test_one_ranking_needs_one_sparsity():
    with pytest.raises(UserError, match="one sparsity for all layers, got one by pattern"):
        Gradual(scope="global", sparsity={"fc1": 0.5})


def test_pruning_while_training_beats_pruning_at_once(blobs, net):
    # The paper's claim: at 95 % the net that was pruned while it trained is ahead of the one cut
    # at once.
    given = blobs(400)
    dense = FineTune(epochs=10, lr=0.05, batch_size=32).apply(
        net(), given, Run(np.random.default_rng(0))
    )
    gradual = (
        Gradual(sparsity=0.9)
        .training(epochs=8, lr=0.05, batch_size=32)
        .apply(dense, given, Run(np.random.default_rng(0)))
    )
    once = Magnitude(sparsity=0.9).apply(dense, given, Run(np.random.default_rng(0)))
    assert zeros(gradual) == zeros(once)

    def errors(model):
        return train.evaluate(model.thawed(), given.val).errors

    assert errors(gradual) + 40 < errors(once), (errors(dense), errors(gradual), errors(once))
