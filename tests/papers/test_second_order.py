"""The one-shot table: what is compared, and when a row is met."""

import numpy as np
import pytest

from minicomp.compress.finetune import FineTune
from minicomp.compress.technique import weights
from minicomp.data import Dataset, Split
from minicomp.papers import second_order
from minicomp.papers.second_order import _row


@pytest.mark.parametrize(
    "errors, seconds, met",
    [
        ([110, 112], [5.0, 6.0], True),
        ([110, 130], [5.0, 6.0], False),
        ([110, 112], [5.0, 6100.0], True),
    ],
)
def test_a_row_is_met_at_a_third_of_the_rise_however_long_it_takes(errors, seconds, met):
    # A busy machine fails no row: the time stands beside it, and not in its text.
    every = {"dense": [100, 100], "magnitude": [130, 136], "obc": errors}
    row = _row("obc", every, seconds, [9, 9], 10_000)
    assert row["met"] is met and row["errors"] == errors and "1.00 %" in row["ours"]
    assert row["pruning_seconds"] == seconds and " s;" not in row["ours"]


def test_run_prunes_both_ways_to_the_same_sparsity(monkeypatch, tmp_path):
    rng = np.random.default_rng(0)
    split = Split(
        rng.standard_normal((200, 1, 28, 28)).astype(np.float32), rng.integers(10, size=200)
    )
    data = Dataset("mnist", split, split, split, tuple("0123456789"), "files")
    seen = []
    monkeypatch.setattr(second_order, "DENSE", FineTune(epochs=1, lr=0.05))
    monkeypatch.setattr(second_order, "OBC", lambda **kw: second_order.Magnitude(**kw))
    monkeypatch.setattr(second_order.Magnitude, "word", "obc")
    monkeypatch.setattr(
        second_order, "file_errors", lambda m, path, name: (seen.append(m), (9, 50))[1]
    )
    rows = second_order.PAPER.run(data, seeds=[0], log=None, n_threads=1, out=tmp_path)
    for model in seen:
        kept = sum(model.forms()[n].nonzeros() for n in weights(model).values())
        assert kept == 266_200 - round(0.9 * 266_200)
    assert len(rows) == 2 and all(r["file_bytes"] == [9] for r in rows)
