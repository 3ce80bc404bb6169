import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicomp.compress.finetune import FineTune
from minicomp.compress.quant.guard import Guard, guarded, restored
from minicomp.compress.technique import Run, weights
from minicomp.data import Dataset, Split
from minicomp.errors import UserError
from minicomp.models import MLP
from minicomp.train import evaluate

RNG = np.random.default_rng
MOST = 8


def toy(sensitivity):
    # A drop that adds up over layers, a quarter of it for each bit more.
    def measure(bits):
        drop = sum(sensitivity[n] * 4.0**-b for n, b in bits.items() if b is not None)
        return drop, drop

    return measure


def test_restoring_is_a_step_and_then_floats():
    assert [restored(b, 8, 1) for b in (3, 7, 8, None)] == [4, 8, None, None]
    assert restored(4, 8, 4) == 8 and restored(6, 8, 4) is None


def test_the_worst_layer_is_restored_by_hand():
    # b costs 16 times a: at 2 bits 1/16 + 1. Up to 1.2 all is well, within 0.4 b has to rise.
    measure = toy({"a": 1.0, "b": 16.0})
    start = {"a": 2, "b": 2}
    assert guarded(["a", "b"], start, measure, 1.2, most=MOST) == {"a": 2, "b": 2}
    assert guarded(["a", "b"], start, measure, 0.4, most=MOST) == {"a": 2, "b": 3}
    assert guarded(["a", "b"], start, measure, 0.0, most=MOST) == {"a": None, "b": None}


@given(seed=st.integers(0, 999), layers=st.integers(1, 5), step=st.integers(1, 3))
def test_the_drop_is_within_theta_after_every_step_and_bits_never_fall(seed, layers, step):
    rng, rows = RNG(seed), []
    names = [f"l{i}" for i in range(layers)]
    measure = toy(dict(zip(names, 10.0 ** rng.uniform(-2, 2, layers))))
    start = {n: int(rng.integers(2, 5)) for n in names}
    theta = 10.0 ** rng.uniform(-5, 0)
    found = guarded(names, start, measure, theta, most=MOST, raise_by=step, log=rows.append)
    assert measure(found)[0] <= theta and list(found) == names
    settled = [r for r, after in zip(rows, [*rows[1:], {"layer": None}])
               if after["layer"] != r["layer"]]
    assert [r["layer"] for r in settled] == names
    assert all(r["drop"] <= r["theta"] for r in settled)
    np.testing.assert_allclose([r["theta"] for r in settled],
                               theta * np.arange(1, layers + 1) / layers)
    wide = {None: 99}
    for before, after in zip(rows, rows[1:]):
        for name, b in before["bits"].items():
            now = after["bits"][name]
            assert wide.get(now, now) >= wide.get(b, b)
        if before["layer"] == after["layer"]:  # taken back: never worse
            assert after["drop"] <= before["drop"]


def test_a_tighter_guard_leaves_no_layer_with_fewer_bits():
    # Of one layer a theorem; of several of these too.
    measure = toy({"a": 3.0, "b": 40.0, "c": 0.2})
    start, last = dict.fromkeys("abc", 2), None
    for theta in (1.0, 0.1, 0.01, 1e-3):
        found = guarded(list("abc"), start, measure, theta, most=16)
        assert last is None or all(found[n] >= last[n] for n in found)
        last = found


# ---------------------------------------------------------------------------------- the technique


@pytest.fixture(scope="module")
def trained():
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x, y = (x / 16).astype(np.float32), y.astype(np.int64)
    cut = [Split(x[a:b], y[a:b]) for a, b in ((0, 1200), (1200, 1500), (1500, 1797))]
    data = Dataset("digits", *cut, tuple("0123456789"), "files")
    model = MLP([64, 32, 16, 10], rng=RNG(0))
    return FineTune(epochs=8, lr=0.1, batch_size=32).apply(model, data, Run(RNG(0))), data


@pytest.mark.parametrize("theta", [0.0, 0.01, 0.05])
def test_the_validation_error_rises_by_no_more_than_theta(trained, theta):
    model, data = trained
    unguarded = Guard(bits=2, theta=1.0).apply(model, data, Run(RNG(0)))
    base = evaluate(model, data.val).errors
    assert evaluate(unguarded, data.val).errors - base > 0.05 * len(data.val)  # there is a need
    assert {f.bits for n, f in unguarded.forms().items() if n.endswith("weight")} == {2}
    rows = []
    found = Guard(bits=2, theta=theta).apply(model, data, Run(RNG(0), rows.append))
    assert evaluate(found, data.val).errors - base <= theta * len(data.val)
    told = [r for r in rows if r["event"] == "guard"]
    assert told[-1]["drop"] <= theta and told[-1]["theta"] == pytest.approx(theta)
    for node, name in weights(model).items():
        b = told[-1]["bits"][node]
        assert getattr(found.forms()[name], "bits", None) == b


def test_bad_input(trained):
    model, data = trained
    with pytest.raises(UserError, match="guard: bits must be at most most, 6, got 8 for fc2"):
        Guard(bits={"*": 4, "fc2": 8}, most=6).apply(model, data, Run(RNG(0)))
