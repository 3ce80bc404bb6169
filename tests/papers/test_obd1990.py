"""The table of Optimal Brain Damage: its net, both curves and the prediction, on noise."""

import numpy as np

from minicomp.data import Dataset, Split
from minicomp.papers import obd1990
from minicomp.papers.obd1990 import SIZES, TRACKED

RNG = np.random.default_rng


def test_the_sizes():
    assert SIZES[0] == 0.05 and SIZES[-1] == 0.9 and TRACKED[-1] == 0.3 and len(SIZES) == 18


def test_run_gives_both_rows_and_judges_them(monkeypatch, tmp_path):
    rng = RNG(1)
    x, y = rng.standard_normal((120, 1, 28, 28)).astype(np.float32), rng.integers(10, size=120)
    data = Dataset("mnist", *[Split(x, y)] * 3, tuple("0123456789"), "files")
    sizes = [0.1, 0.2, 0.3, 0.5, 0.8]
    for name, value in (("EPOCHS", 4), ("STEP", 10), ("SIZES", sizes), ("TRACKED", sizes[:3])):
        monkeypatch.setattr(obd1990, name, value)
    rows = obd1990.PAPER.run(data, seeds=[0], log=None, n_threads=1, out=tmp_path)
    curves, track = rows
    pairs = list(zip(curves["obd"][0], curves["magnitude"][0]))
    assert len(pairs) == 5 and curves["met"] is all(a <= b for a, b in pairs)
    assert sum(a < b for a, b in pairs) >= 4
    assert track["sums"][0] == sorted(track["sums"][0]) and len(track["rises"][0]) == 3
    monkeypatch.setattr(obd1990, "by_magnitude", lambda *a: [-1.0] * 5)
    monkeypatch.setattr(obd1990, "by_saliency", lambda *a, **k: [0.0] * 5)
    monkeypatch.setattr(obd1990, "predicted", lambda *a: ([1.0] * 3, [2.0] * 3))
    rows = obd1990.PAPER.run(data, seeds=[0], log=None, n_threads=1, out=tmp_path)
    assert not any(row["met"] for row in rows)
