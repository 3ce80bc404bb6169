"""The table of movement pruning: which data and knobs both methods get, and when a row is met."""

import numpy as np
import pytest

from minicomp.compress.finetune import FineTune
from minicomp.compress.prune.gradual import Gradual
from minicomp.compress.prune.movement import Movement
from minicomp.compress.technique import weights
from minicomp.data import Dataset, Split
from minicomp.errors import UserError
from minicomp.models import MLP
from minicomp.nn import Dense
from minicomp.papers import PAPERS, movement2020
from minicomp.papers.movement2020 import ROWS, TUNING, _row, moved, techniques


def dataset(name, seed, source="files"):
    rng = np.random.default_rng(seed)
    split = Split(
        rng.standard_normal((256, 1, 28, 28)).astype(np.float32), rng.integers(10, size=256)
    )
    return Dataset(name, split, split, split, tuple("0123456789"), source)


@pytest.mark.parametrize(
    "movement, met", [([90, 95], True), ([90, 110], False), ([120, 130], False)]
)
def test_a_row_is_met_where_movement_errs_less(movement, met):
    files = {"movement": [(9, e) for e in movement], "gradual": [(8, 100), (8, 100)]}
    row = _row("r", files, {"movement": [0.125, 0.375], "gradual": [0.5, 0.5]}, 1000, 1.0)
    assert row["met"] is met and row["errors"] == movement and row["magnitude"] == [100, 100]
    assert "magnitude 10.00 %" in row["ours"] and row["ours"].endswith(
        "file 9 bytes, 8; moved by 0.25, 0.50"
    )


def test_how_far_the_kept_weights_went():
    start = MLP([2, 2], rng=np.random.default_rng(0))
    start.set_form("fc1.weight", Dense(np.float32([[3, 4], [100, 0]])))
    made = start.copy()
    made.set_form("fc1.weight", Dense(np.float32([[3, 2], [0, 0]]), [[True, True], [False, False]]))
    assert moved(start, made) == pytest.approx(2 / 5)


@pytest.mark.parametrize("title", ROWS)
def test_both_methods_have_one_schedule(title):
    sparsity, lr = ROWS[title]
    moving, sizing = techniques(sparsity, lr)
    (move,), (size,) = moving.methods, sizing.methods
    assert (
        type(move) is Movement
        and type(size) is Gradual
        and f", {100 * sparsity:.0f} % zeros," in title
    )
    assert (move.sparsity, move.scope) == (size.sparsity, size.scope)
    assert {
        name for name in FineTune.knobs() if getattr(moving, name) != getattr(sizing, name)
    } == (set() if "hardly" in title else {"lr"})
    for steps in (1720, 400):  # the ramps end with one step of a mask of each other
        t0, n, dt = move.ramp_steps(steps)
        m, each = size.ramp_steps(steps)
        assert abs(t0 + n * dt - m * each) <= max(dt, each)


def test_the_first_task_is_learned_and_the_second_pruned_for(monkeypatch, tmp_path):
    first, second, seen = dataset("mnist", 0), dataset("fashion_mnist", 1), []
    real = FineTune.fit

    def fit(self, model, data, run, hooks):
        seen.append((self.name, data.train is second.train, data.test))
        return real(self, model, data, run, hooks)

    written = []
    monkeypatch.setattr(FineTune, "fit", fit)
    monkeypatch.setattr(movement2020.datasets, "load", lambda name: {"fashion_mnist": second}[name])
    monkeypatch.setattr(movement2020, "FIRST", FineTune(epochs=1, lr=0.05))
    monkeypatch.setitem(TUNING, "epochs", 1)
    monkeypatch.setattr(
        movement2020,
        "file_errors",
        lambda m, path, name: (written.append((path.name, name, m)), (9, 50))[1],
    )
    rows = movement2020.PAPER.run(first, seeds=[4], log=None, n_threads=1, out=tmp_path)
    assert [r["row"] for r in rows] == list(ROWS) and not any(
        r["met"] for r in rows
    ), "equal is not below"
    assert seen == [("finetune", False, None)] + 3 * [
        ("movement", True, None),
        ("gradual", True, None),
    ]
    assert len({name for name, _, _ in written}) == 6 and {data for _, data, _ in written} == {
        "fashion_mnist"
    }
    for (_, _, model), sparsity in zip(
        written, [s for s, _ in ROWS.values() for _ in range(2)], strict=True
    ):
        kept = sum(model.forms()[n].nonzeros() for n in weights(model).values())
        assert kept == 266_200 - round(sparsity * 266_200)


def test_generated_data_of_the_second_task_are_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(movement2020.datasets, "load", lambda name: dataset(name, 0, "generated"))
    with pytest.raises(
        UserError, match="table movement2020 needs the published data set fashion_mnist"
    ):
        movement2020.PAPER.run(dataset("mnist", 0), seeds=[0], log=None, n_threads=1, out=tmp_path)
    assert PAPERS["movement2020"] is movement2020.PAPER
