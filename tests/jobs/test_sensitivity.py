"""Sensitivity: every point prunes something, and the choice under a budget is the best of all "
"that fit."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest

from minicomp.codec import encode
from minicomp.compress.finetune import FineTune
from minicomp.compress.prune.filters import Filters
from minicomp.compress.prune.magnitude import Magnitude
from minicomp.compress.quant.ptq import PTQ
from minicomp.compress.share.kmeans import KMeans
from minicomp.jobs.sensitivity import Point, Scan, _solve, allocate, combined, macs, scan
from minicomp.compress.technique import Run, masked
from minicomp.data.dataset import Split
from minicomp.errors import UserError
from minicomp.models import MLP, DepthwiseNet32, LeNet5Classic
from minicomp.train import evaluate


def toy(rng, n=400):
    x = rng.standard_normal((n, 6)).astype(np.float32)
    y = np.argmax(x[:, :3], axis=1)
    return SimpleNamespace(train=Split(x, y), val=Split(x[:150], y[:150]))


@pytest.fixture(scope="module")
def trained():
    rng = np.random.default_rng(0)
    data = toy(rng)
    return FineTune(epochs=30, lr=0.05).apply(MLP([6, 20, 12, 3], rng=rng), data, Run(rng)), data


@pytest.fixture(scope="module")
def scans(trained):
    model, data = trained
    return {
        what: scan(model, data.val, what=what, sparsities=(0.2, 0.4, 0.6, 0.8, 0.9))
        for what in ("weights", "channels")
    }


def test_quantized_weights_are_pruned_as_they_are(trained):
    model, data = trained
    quantized = PTQ(mode="weight-only", bits=4).apply(model, None, Run(None))
    found = scan(quantized, data.val, sparsities=(0.5,), only="fc2")
    (p,) = found.of("fc2")
    alone = Magnitude(sparsity={"*": 0.0, "fc2": 0.5}).apply(quantized, data, Run(None))
    assert p.loss == evaluate(alone, data.val).loss and 0 < p.removed <= p.of // 2
    assert (alone.forms()["fc1.weight"].q == quantized.forms()["fc1.weight"].q).all()


def test_a_point_is_what_pruning_that_layer_alone_does(trained):
    model, data = trained
    found = scan(model, data.val, sparsities=(0.3, 0.8))
    assert [(p.target, p.sparsity) for p in found.points] == [
        (n, s) for n in ("fc1", "fc2", "fc3") for s in (0.3, 0.8)
    ]
    base = evaluate(model, data.val)
    assert (
        found.baseline == base.error
        and found.base.bytes == len(encode(model))
        and found.base.macs == 396
    )
    p = found.of("fc2")[1]
    alone = Magnitude(sparsity={"*": 0.0, "fc2": 0.8}).apply(model, data, Run(None))
    score = evaluate(alone, data.val)
    assert (p.errors, p.size, p.loss) == (score.errors, score.size, score.loss)
    assert p.rise == score.loss - base.loss and p.rise > 0
    assert (p.removed, p.of) == (192, 240) and p.macs == 396 - 192
    assert p.bytes == pytest.approx(
        len(encode(alone)), rel=0.05
    )  # masks of sparsity 0 on the other layers
    assert found.curves()["fc2"] == ([0.3, 0.8], [q.errors / 150 for q in found.of("fc2")])


def test_channels_of_coupled_layers_are_scanned_together():
    rng = np.random.default_rng(1)
    model = DepthwiseNet32(rng=rng)
    split = Split(
        rng.standard_normal((20, 3, 32, 32)).astype(np.float32), rng.integers(10, size=20)
    )
    found = scan(model, split, what="channels", sparsities=(0.5,), count_bytes=False)
    assert list(found.nodes) == ["stem", "block1.pw", "block2.pw+block3.pw"]
    p = found.of("block2.pw+block3.pw")[0]
    assert (p.removed, p.of, p.bytes) == (64, 128, None)
    alone = Filters(sparsity={"*": 0.0, "block[23].pw": 0.5}).apply(model, None, Run(rng))
    assert p.macs == macs(alone) == sum(alone.macs().values())


def test_the_model_is_untouched(trained):
    model, data = trained
    before = b"".join(a.tobytes() for a in model.state_dict().values())
    found = scan(model, data.val, sparsities=(0.5,))
    allocate(model, found, found.base.bytes * 3 // 4)
    assert b"".join(a.tobytes() for a in model.state_dict().values()) == before


def test_the_choice_is_the_best_of_all_that_fit():
    rng = np.random.default_rng(2)
    for _ in range(20):
        points = [
            Point(t, s, 1, 9, 0, 1, 0.0, rise, int(cost), int(cost))
            for t in "abc"
            for s, rise, cost in zip(
                (0.3, 0.6, 0.9), rng.uniform(-0.2, 1, 3), 900 - rng.integers(1, 300, 3)
            )
        ]
        found = Scan(
            "weights",
            Point("", 0.0, 0, 0, 0, 1, 0.0, 0.0, 900, 900),
            tuple(points),
            {t: (t,) for t in "abc"},
        )
        budget = int(rng.integers(350, 900))
        options = [(None, *found.of(t)) for t in "abc"]
        fitting = [
            sum(p.rise for p in pick if p)
            for pick in itertools.product(*options)
            if sum(p.bytes - 900 for p in pick if p) <= budget - 900
        ]
        if fitting:
            at = _solve(found, budget, "bytes")
            assert sum(p.rise for p in at.values() if p) == pytest.approx(min(fitting), abs=1e-9)
            assert 900 + sum(p.bytes - 900 for p in at.values() if p) <= budget


@pytest.mark.parametrize("what", ["weights", "channels"])
@pytest.mark.parametrize("unit", ["bytes", "macs"])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
def test_a_budget_is_kept_by_the_whole(trained, scans, what, unit, part):
    (model, data), found = trained, scans[what]
    budget = int(part * getattr(found.base, unit))
    chosen = allocate(model, found, budget, unit=unit)
    counted = len(encode(chosen.model)) if unit == "bytes" else macs(chosen.model)
    assert chosen.cost == counted <= budget and chosen.unit == unit
    # The sparsities are the knob of the technique that does it.
    knob = {k: v for k, v in chosen.sparsity.items()}
    same = (Magnitude if what == "weights" else Filters)(sparsity=knob).apply(
        model, data, Run(None)
    )
    x = data.val.x
    np.testing.assert_allclose(same(x).data, chosen.model(x).data, atol=1e-6)


def test_a_scan_finds_where_zeros_cost_least(trained, scans):
    # At one cost the choice rises less than the same sparsity everywhere.
    (model, data), found = trained, scans["weights"]
    even = combined(model, found, dict.fromkeys(found.nodes, 0.7))
    chosen = allocate(model, found, macs(even), unit="macs")
    assert evaluate(chosen.model, data.val).loss < 0.8 * evaluate(even, data.val).loss


def test_a_whole_budget_needs_no_pruning(trained, scans):
    model, found = trained[0], scans["weights"]
    chosen = allocate(model, found, found.base.macs, unit="macs")
    assert chosen.rise <= 0 and chosen.cost <= found.base.macs


def test_rising_sparsities_nest_and_cost_less():
    rng = np.random.default_rng(3)
    model = LeNet5Classic(rng=rng)
    split = Split(
        rng.standard_normal((10, 1, 28, 28)).astype(np.float32), rng.integers(10, size=10)
    )
    found = scan(model, split, sparsities=(0.2, 0.5, 0.9), only="conv*")
    assert list(found.nodes) == ["conv1", "conv2"]
    for t in found.nodes:
        assert [p.removed for p in found.of(t)] == [
            round(s * p.of) for s, p in zip((0.2, 0.5, 0.9), found.of(t))
        ]
        assert np.all(np.diff([p.macs for p in found.of(t)]) < 0)
        assert np.all(np.diff([p.bytes for p in found.of(t)]) < 0)


@pytest.mark.parametrize(
    "knobs, message",
    [
        ({"what": "units"}, "what must be weights or channels, got 'units'"),
        ({"sparsities": (0.5, 1.0)}, r"sparsities of a scan must be in \(0, 1\), got 1"),
        ({"sparsities": (0.0,)}, r"sparsities of a scan must be in \(0, 1\), got 0"),
        ({"sparsities": ()}, "a scan needs at least one sparsity"),
        (
            {"only": "conv*"},
            r"only=conv\* matches no layer with weights to prune; there are fc1, fc2, fc3",
        ),
        (
            {"sparsities": (0.01,), "only": "fc3"},
            "nothing of fc3 goes at 0.01; a higher sparsity must be given",
        ),
        (
            {"sparsities": (0.03,), "what": "channels", "only": "fc2"},
            "nothing of fc2 goes at 0.03; a higher sparsity must be given",
        ),
    ],
)
def test_a_scan_that_cannot_be_done(trained, knobs, message):
    model, data = trained
    with pytest.raises(UserError, match=message):
        scan(model, data.val, **knobs)


def test_a_layer_that_is_as_sparse_already_is_not_a_point(trained):
    model, data = trained
    w = model.forms()["fc1.weight"].dense().data
    pruned, rows = masked(model, {"fc1.weight": np.abs(w) > np.median(np.abs(w))}), []
    found = scan(pruned, data.val, sparsities=(0.3, 0.5, 0.7), log=rows.append)
    assert [(p.target, p.sparsity) for p in found.points] == [("fc1", 0.7)] + [
        (n, s) for n in ("fc2", "fc3") for s in (0.3, 0.5, 0.7)
    ]
    assert found.of("fc1")[0].removed == round(0.7 * 120) - 60
    assert [r["text"] for r in rows if r["event"] == "say"] == [
        "sensitivity: fc1 has 0.5 of its 120 weights at 0: at 0.3, 0.5 nothing would go, left out"
    ]
    progress = [r for r in rows if r["event"] == "progress"]
    assert (progress[-1]["done"], progress[-1]["total"]) == (9, 9)
    low = scan(pruned, data.val, sparsities=(0.3,))
    assert "fc1" not in low.curves() and allocate(pruned, low, 10**6).sparsity["fc1"] == 0.0
    with pytest.raises(UserError, match="nothing of fc1 goes at 0.3; a higher sparsity"):
        scan(pruned, data.val, sparsities=(0.3,), only="fc1")


@pytest.mark.parametrize("steps", [
    (KMeans(bits=3),), (Magnitude(sparsity=0.5), KMeans(bits=3)), (KMeans(bits=3, half=True),)
])
def test_shared_weights_are_scanned_as_what_they_are(trained, steps):
    # A codebook without a code for 0 gets one: nothing else about the net changes.
    model, data = trained
    for step in steps:
        model = step.apply(model, data, Run(np.random.default_rng(0)))
    found = scan(model, data.val, sparsities=(0.4, 0.8))
    dense = scan(model.dense(), data.val, sparsities=(0.4, 0.8))
    assert [(p.target, p.sparsity, p.errors, p.macs) for p in found.points] == [
        (p.target, p.sparsity, p.errors, p.macs) for p in dense.points
    ]
    assert all(p.bytes < q.bytes for p, q in zip(found.points, dense.points))
    assert allocate(model, found, found.base.bytes - 10).cost <= found.base.bytes - 10


@pytest.mark.parametrize(
    "budget, unit, message",
    [
        (0, "bytes", "a budget must be an integer of at least 1, got 0"),
        (1.5, "macs", "a budget must be an integer of at least 1, got 1.5"),
        (100, "weights", "unit must be bytes or macs, got 'weights'"),
        (
            10,
            "bytes",
            r"a budget of 10 bytes cannot be met: \d+ remain when every target is as sparse as "
            r"scanned",
        ),
        (10, "macs", "a budget of 10 macs cannot be met"),
    ],
)
def test_a_budget_that_cannot_be_kept(trained, scans, budget, unit, message):
    model, data = trained
    with pytest.raises(UserError, match=message):
        allocate(model, scans["weights"], budget, unit=unit)
    if unit == "bytes":
        with pytest.raises(UserError, match="a budget of bytes needs a scan that counted them"):
            allocate(model, scan(model, data.val, sparsities=(0.5,), count_bytes=False), 100)
