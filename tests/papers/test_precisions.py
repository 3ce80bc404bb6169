"""The table of precisions: what a row says, and when it is met."""

import numpy as np
import pytest

from minicomp.compress.finetune import FineTune
from minicomp.compress.quant.qat import QAT
from minicomp.data import Dataset, Split
from minicomp.papers import PAPERS, precisions
from minicomp.papers.precisions import MODES, QAT_NAME, Net, _said

NET = Net("A net", "lenet300", "mnist", FineTune(epochs=1), FineTune(epochs=1))


class Data:
    test = range(1000)


def said(sizes, ms, trained=1.0):
    # Rows of nets that take so many bytes and milliseconds, a tenth of them for one image.
    kept = {name: [(size, 10, 5)] for name, size in zip(MODES, sizes)}
    times = [{name: 1e-3 * t * part for name, t in zip(MODES, ms)} for part in (0.1, 1)]
    for t in times:
        t[QAT_NAME] *= trained
        t["onnxruntime qdq"] = 2e-3
    kept["onnxruntime qdq"] = [(None, 12, 6)]
    return _said(NET, type("Given", (), {"test": Data.test}), kept, times, 9.0)


SIZES, MS = (4000, 2000, 1000, 1010, 1020, 1030), (10, 10, 10, 5, 3, 3)


def test_a_row_says_bytes_milliseconds_errors_and_flips():
    rows = said(SIZES, MS)
    assert len(rows) == len(MODES) + 2 and sum(r["seconds"] for r in rows) == 9.0
    integers = rows[list(MODES).index("int8")]
    assert integers["ours"] == ("1,020 bytes (3.92x); 0.3 ms (3.33x) and 3 ms (3.33x); 1.00 %, "
                                "0.50 % flipped")
    assert (integers["file_bytes"], integers["errors"], integers["flips"]) == ([1020], [10], [5])
    theirs = rows[-2]
    assert theirs["row"].endswith("onnxruntime qdq") and "bytes" not in theirs["ours"]
    assert all(r["met"] for r in rows)


@pytest.mark.parametrize("how, missed", [
    ({"sizes": (4000, 2000, 1000, 1010, 2001, 1030), "ms": MS}, ["int8"]),
    ({"sizes": SIZES, "ms": (10, 10, 10, 5, 5.1, 5.1)}, ["int8", QAT_NAME]),
    ({"sizes": SIZES, "ms": MS, "trained": 1.2}, ["trained beside calibrated integers"]),
    ({"sizes": SIZES, "ms": MS, "trained": 0.8}, ["trained beside calibrated integers"]),
])
def test_a_row_is_missed(how, missed):
    assert [r["row"].split(": " if "beside" in r["row"] else "mnist, ")[1]
            for r in said(**how) if not r["met"]] == missed


@pytest.mark.slow
def test_the_table_on_a_short_run(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 1, 28, 28)).astype(np.float32)
    split = Split(x, rng.integers(0, 10, 60))
    data = Dataset("mnist", split, split, split)
    short = Net("LeNet-5", "lenet5", "mnist", FineTune(epochs=1),
                QAT(delay=0.25, freeze=0.75).training(epochs=1))
    monkeypatch.setattr(precisions, "CHOSEN", (short,))
    monkeypatch.setattr("minicomp.bench.race.SECONDS", 0.1)
    monkeypatch.setattr("minicomp.papers.precisions.file_errors", lambda model, path, name: (9, 1))
    rows = PAPERS["precisions"].run(data, seeds=[0, 1], log=lambda row: None, n_threads=1,
                                    out=tmp_path)
    assert [len(r["errors"]) for r in rows if "file_bytes" in r] == [2] * len(MODES)
