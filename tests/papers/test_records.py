"""The tables of rates and priors: when a row is met, what is chosen, and what runs."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from minicomp.codec import encode
from minicomp.compress.finetune import FineTune
from minicomp.compress.prune.magnitude import Magnitude
from minicomp.compress.rate.rate_distortion import RateDistortion
from minicomp.compress.technique import Run
from minicomp.data.dataset import Dataset, Split
from minicomp.models import MLP, LeNet300
from minicomp.papers import PAPERS, files, rate_distortion, records
from minicomp.papers.files import Files
from minicomp.papers.records import Record, kept_ratio
from minicomp.quality import Agreement

RNG = np.random.default_rng


def digits(n=40):
    split = Split(RNG(0).random((n, 1, 28, 28), np.float32), np.arange(n) % 10)
    return Dataset("digits", split, split, split, tuple("0123456789"))


def noted(tmp_path, **kinds):
    test = Split(np.zeros((10_000, 1), np.float32), np.zeros(10_000, np.int64))
    made = Files(replace(digits(), test=test), tmp_path, "t")
    for kind, (wrong, size) in kinds.items():
        made.add(kind.replace("_", "-"), size, wrong, Agreement(20, 10_000, 0.5))
    return made


@pytest.mark.parametrize("of, kept, size, wrong, met", [
    ("weights", 70.0, 50_000, 192, True), ("weights", 60.0, 100, 192, False),
    ("bytes", 1.0, 15_000, 192, True), ("bytes", 500.0, 16_000, 192, False),
    ("bytes", 1.0, 15_000, 193, False)])
def test_a_row_is_met_by_the_ratio_that_the_paper_counts(tmp_path, of, kept, size, wrong, met):
    made = noted(tmp_path, lenet300=(wrong, size), lenet300_dense=(150, 1_000_000))
    record = Record("lenet300", FineTune(), 68, 1.92, of)
    (row,) = records.table(made, [record], {"lenet300": [kept]}, {"lenet300": 1_066_440})
    assert row["met"] is met and row["kept"] == [kept]
    assert f"{kept:.0f}x of the weights, {1_066_440 / size:.0f}x of the bytes" in row["ours"]
    assert row["paper"].startswith("68x at 1.92 % (")


def test_weights_that_are_kept_are_counted_against_the_dense_net():
    net = LeNet300(rng=RNG(0))
    made = Magnitude(sparsity=0.9).apply(net, None, Run(None))
    assert kept_ratio(made, net) == pytest.approx(10, rel=1e-3) and kept_ratio(net, net) == 1


def test_the_smallest_file_that_errs_little_enough_is_chosen():
    y = RNG(0).integers(0, 4, 200)
    split = Split((RNG(1).standard_normal((4, 12))[y]).astype(np.float32), y)
    data = SimpleNamespace(train=split, val=split)
    model = FineTune(epochs=8, lr=0.1).apply(MLP([12, 30, 4], rng=RNG(0)), data, Run(RNG(0)))
    sweep = [RateDistortion(lam=lam) for lam in (0.0, 0.5, 3.0)]
    runs = [Run(RNG(1))] * 3
    chosen = [rate_distortion.smallest(sweep, model, data, runs, most) for most in (200, -1)]
    sizes = [len(encode(m)) for m in chosen]
    assert sizes[0] < 0.9 * sizes[1]  # of any error the smallest; where none will do the best


@pytest.mark.parametrize("worse, met", [({}, [True] * 10), (
    {"lenet5_trellis": (90, 101)}, [True] * 8 + [False, True])])
def test_a_price_for_bits_must_make_files_smaller(tmp_path, worse, met):
    kinds = {f"{net}_{kind}": (90, 100 if kind == "nearest" else 90)
             for net in records.NAMES for kind in ("floats", *rate_distortion.SWEEPS)}
    made = noted(tmp_path, **{k.replace("-", "_"): v for k, v in (kinds | worse).items()})
    assert [row["met"] for row in rate_distortion.table(made)] == met


@pytest.mark.parametrize("name", ["sparse-vd2017", "soft-sharing2017", "bayesian-compression2017",
                                  "reparametrization2020", "miracle2019"])
def test_each_table_is_made_of_records_that_hold_together(name):
    given = PAPERS[name].run.keywords
    assert {r.net for r in given["records"]} == set(records.NAMES) and given["stem"] == name
    for record in given["records"]:
        record.technique.check(records.for_data(record.net, digits(), rng=RNG(0)))


@pytest.mark.slow
def test_a_table_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "file_errors", lambda model, path, name: (1000, 3))
    monkeypatch.setattr(records, "FLOATS", dict.fromkeys(records.NAMES, FineTune(epochs=1)))
    found = records.run(digits(), seeds=[0], log=lambda row: None, n_threads=1, out=tmp_path,
                        records=[Record("lenet300", Magnitude(sparsity=0.9), 9, 80, "weights")],
                        stem="t")
    assert [row["met"] for row in found] == [True]
