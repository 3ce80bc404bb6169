"""The MONK's table: its nets, that only training data chooses, and how its rows are judged."""

import numpy as np
import pytest

from minicomp import data as datasets
from minicomp.compress.prune.obs import OBS, mistakes
from minicomp.data import Split
from minicomp.errors import UserError
from minicomp.jobs.small_nets import backprop, error, left, operated
from minicomp.models.papers import SigmoidNet
from minicomp.papers import obs1993
from minicomp.papers.obs1993 import choose_decay, left_by_obs, monk_row, xor_right

RNG = np.random.default_rng


@pytest.mark.slow
def test_backprop_learns_xor_and_obs_deletes_a_right_weight():
    split = Split(np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32), np.array([0, 1, 1, 0]))
    net = backprop(SigmoidNet(2, 2, rng=RNG(1)), split, steps=2500, decay=0.0)
    assert mistakes(net, split.x, split.y) == 0 and error(net, split) < 0.01
    assert xor_right(net, split)["obs"]


def test_the_smallest_net_errs_no_more_than_the_starts(monkeypatch):
    monkeypatch.setattr(obs1993, "STARTS", 2)
    monkeypatch.setattr(obs1993, "STEPS", 400)
    monkeypatch.setattr(obs1993, "ALPHAS", (1e-4, 1e-2))
    train = datasets.load("monks-3").train
    rows = []
    nets = left_by_obs(train, 2, 1e-3, rng=RNG(0), log=rows.append)
    net, counts = nets[0], [left(n) for n in nets]
    assert counts == sorted(counts) and len(counts) in (2, 4)  # the starts that err least, 2 alpha
    start = backprop(SigmoidNet(17, 2, rng=RNG(0).spawn(2)[0]), train, steps=400, decay=1e-3)
    assert mistakes(net, train.x, train.y) <= mistakes(start, train.x, train.y)
    assert left(net) <= 6 and {r["name"] for r in rows} == {"training", "obs"}


def test_a_decay_is_chosen_by_held_out_folds(monkeypatch):
    monkeypatch.setattr(obs1993, "STEPS", 60)
    monkeypatch.setattr(obs1993, "DECAYS", (1e-3, 0.5))
    assert choose_decay(datasets.load("monks-3").train, 2, rng=RNG(0), folds=3) == 1e-3


def test_a_row_is_met_only_at_the_paper_s_weights_and_accuracy(monkeypatch):
    data = datasets.load("monks-3")
    net = SigmoidNet(17, 2, rng=RNG(0))
    small = operated(net, data.train, OBS(sparsity=0.9, loss="squared"))
    monkeypatch.setattr(obs1993, "choose_decay", lambda *a, **k: 1e-3)
    large = operated(net, data.train, OBS(sparsity=0.8, loss="squared"))
    monkeypatch.setattr(obs1993, "left_by_obs", lambda *a, **k: [small, large, large])
    monkeypatch.setattr(obs1993, "datasets", type("D", (), {"load": staticmethod(lambda n: data)}))
    if not data.original:
        with pytest.raises(UserError, match="needs the published data set monks-3"):
            monk_row(3, [0], None)
        return
    row = monk_row(3, [0, 1], None)
    assert row["weights"] == [4, 4] and not row["met"]  # small enough, but it has learnt nothing
    assert row["ours"].endswith(" %, the best of 3 runs a seed, which leave 4..8, median 8")
    assert row["runs"] == [[4, 8, 8]] * 2
    monkeypatch.setattr(obs1993, "_right", lambda net, split: 97.2)
    assert monk_row(3, [0], None)["met"]
    monkeypatch.setattr(obs1993, "left", lambda net: 5)
    assert not monk_row(3, [0], None)["met"]
