"""The tables of hashed nets and of look-ups: sizes of nets, when a row is met, and what runs."""

from dataclasses import replace

import numpy as np
import pytest

import minicomp
from minicomp.compress.finetune import FineTune
from minicomp.compress.technique import Run, weights
from minicomp.data.dataset import Dataset, Split
from minicomp.papers import PAPERS, files, hashednets2015, lcnn2017
from minicomp.papers.files import Files

RNG = np.random.default_rng


def digits(n=40):
    split = Split(RNG(0).random((n, 1, 28, 28), np.float32), np.arange(n) % 10)
    return Dataset("digits", split, split, split, tuple("0123456789"))


def noted(tmp_path, **kinds):
    data = replace(digits(), test=Split(np.zeros((10_000, 1), np.float32),
                                        np.zeros(10_000, np.int64)))
    made = Files(data, tmp_path, "t")
    for kind, wrong in kinds.items():
        made.add(kind.replace("_", "-"), 1000, wrong)
    return made


def stored(model):
    # numbers of a net, biases too, those of a mask not counted
    return sum(form.mask.sum() if form.mask is not None else
               sum(a.size for a in form.state().values()) for form in model.forms().values())


@pytest.mark.parametrize("factor", hashednets2015.FACTORS)
@pytest.mark.parametrize("kind", hashednets2015.TITLES)
def test_every_net_stores_as_many_numbers_as_the_fraction_says(kind, factor):
    for setting in hashednets2015.settings(kind, factor)[-2:]:
        run = Run(RNG(1))
        net = hashednets2015.trained(kind, factor, setting, None, None, run, epochs=0)
        assert 0.93 < stored(net) / (hashednets2015.WHOLE // factor) <= 1
        assert kind == "nn" or net.shapes()["fc1"] == (1000,)
        assert net(RNG(2).random((2, 1, 28, 28), np.float32)).shape == (2, 10)


def test_edges_are_drawn_as_large_as_so_few_inputs_ask_for():
    net = hashednets2015.random_edges(None, 64, rng=RNG(0))
    for name in weights(net).values():
        form = net.forms()[name]
        kept = form.dense().data[form.mask]
        inputs = form.mask.mean() * form.shape[1]
        assert kept.std() == pytest.approx((2 / inputs) ** 0.5, rel=0.25)


def test_hashed_rows_are_met_where_they_beat_the_others(tmp_path):
    errors = {f"{kind}_{factor}": 300 for factor in (8, 64) for kind in ("nn", "lrd", "rer")}

    def met(**more):
        rows = hashednets2015.table(noted(tmp_path, **errors | {"hash_8": 200, "hash_64": 200}
                                          | more))
        return [row["met"] for row in rows]

    assert met() == [True] * 8
    assert met(nn_64=200) == [True] * 4 + [False, False, True, True]
    assert met(rer_8=100) == [True, True, True, False] + [True] * 4


def test_two_look_ups_must_halve_the_work_and_cost_little(tmp_path):
    def met(floats=100, two=130, macs=500):
        costs = {"floats": {"macs": 1000}, "2 look-ups": {"macs": macs}}
        made = noted(tmp_path, floats=floats)
        made.add("2 look-ups", 1000, two)
        return [row["met"] for row in lcnn2017.table(made, costs)]

    assert met() == [True, True]
    assert met(two=131) == met(macs=501) == [True, False]


@pytest.mark.slow
@pytest.mark.parametrize("module, rows", [(hashednets2015, 8), (lcnn2017, 5)])
def test_a_table_runs_from_nets_to_rows(tmp_path, monkeypatch, module, rows):
    monkeypatch.setattr(files, "file_errors", lambda model, path, name: (minicomp.save(model, path),
                                                                         7))
    monkeypatch.setitem(module.HOW, "epochs", 1)
    if module is lcnn2017:
        monkeypatch.setattr(lcnn2017, "FLOATS", FineTune(epochs=1))
    else:
        monkeypatch.setattr(module, "RATES", (1e-3,))
        monkeypatch.setattr(module, "PROBE", 1)
    found = module.PAPER.run(digits(), seeds=(3,), log=lambda row: None, n_threads=1,
                             out=tmp_path)
    assert len(found) == rows and module.PAPER is PAPERS[module.PAPER.name]
    assert all(row["seconds"] > 0 for row in found)
