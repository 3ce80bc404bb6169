import functools

import numpy as np
import pytest

from minicomp.data import Dataset, Split
from minicomp.errors import UserError
from minicomp.papers import PAPERS, search
from minicomp.papers.enumerated import Enumerated, in_order, interval, kendall
from minicomp.papers.journal import Journal, recorded
from minicomp.report import plots
from minicomp.search import Limit, Space, cells, evolve, random_search, small_lenet

SPACE = Space({"a": (0, 1, 2), "b": (0, 1)}, make=None)
VAL = np.array([[5, 7, 6], [4, 4, 4], [3, 3, 9], [1, 4, 7], [2, 2, 2], [8, 8, 8]], float)


def nets(val=VAL):
    return Enumerated(SPACE, val, val + 1, np.arange(1.0, 7), images=10, looks=5)


def test_costs_are_a_part_of_the_enumeration():
    table = nets()
    assert table.total == 3 * 21 * 35
    assert table.cost({"a": 2, "b": 1}) == pytest.approx(100 * 6 / 63)
    assert sum(3 * table.cost(choice) for choice in SPACE) == pytest.approx(100)
    assert table.best == 4 and SPACE.decode(list(table.order)[4]) == {"a": 2, "b": 0}


def test_a_search_sees_one_training_and_its_winner_is_told_by_all():
    table = nets()
    seen = table.trials(100, rng=np.random.default_rng(0))
    random_search(SPACE, seen, rng=np.random.default_rng(1))
    assert len(seen.rows) == 6 == len(seen.seeds)
    for trial, s in zip(seen.rows, seen.seeds):
        assert trial.error == VAL[table.row(trial.choice), s]
    seen.seeds[:] = [0] * 6  # as if the first training of each had been seen
    seen.rows[:] = [type(t)(t.choice, VAL[table.row(t.choice), 0], t.spent) for t in seen.rows]
    winner = table.winner(seen, 100)
    assert winner.choice == {"a": 1, "b": 1} and (winner.seen, winner.val, winner.test) == (1, 4, 5)
    assert winner.same == 2 and winner.others == 5.5  # lucky by 4.5
    first = seen.rows[0]
    assert table.winner(seen, first.spent).choice == first.choice
    assert table.winner(seen, first.spent - 0.01) is None


def test_training_in_an_order_stops_when_it_cannot_pay():
    table = nets()
    order = list(SPACE)[::-1]
    seen = table.trials(30, rng=np.random.default_rng(0), spent=3)
    assert in_order(seen, order).error == 2
    assert [t.choice for t in seen.rows] == order[:3]  # 100 (6 + 5 + 4) / 63, and 3 spent before


def test_kendall_and_intervals_by_hand():
    assert kendall(np.array([1, 2, 3]), np.array([1, 3, 2])) == pytest.approx(1 / 3)
    middle, low, high = interval([1.0, 2.0, 3.0])
    assert middle == 2 and high - middle == middle - low == pytest.approx(4.3027 / 3**0.5, abs=1e-3)


def made_up(monkeypatch, quality=None):
    # Lines as of a run: errors fall with size, and one net is better than its size says.
    space = Space({"conv1": (2, 4, 8), "conv2": (4, 8), "hidden": (4, 8, 16)}, small_lenet,
                  weigh=lambda model: model.count())
    for name, value in {"lenets": lambda: space, "LIMIT": Limit(bytes=2500), "RUNS": 3,
                        "MANY": 6, "PARTS": (10, 20), "DECIDES": 20}.items():
        monkeypatch.setattr(search, name, value)
    rng = np.random.default_rng(0)
    lines = [{"arm": "costs", "seed": None, "settings": {}, "seconds": 1.0, **search.costs(space)}]
    for prefix, of in (("", space), ("cell-", cells())):
        for choice in of:
            size = sum(of.encode(choice))
            lines += [{"arm": prefix + search.code_of(of, choice), "seed": s, "seconds": 1.0,
                       "val": 400 - 20 * size + int(rng.integers(9)),
                       "test": 900 - 40 * size} for s in range(3)]
    small = list(search.limited(lines[0]))
    lines += [{"arm": f"supernet-{i}", "seed": None, "seconds": 1.0, "macs": 2e9,
               "errors": [100 - (quality or 1) * sum(space.encode(c)) for c in small]}
              for i in range(3)]
    lines += [{"arm": f"darts-{order}", "seed": s, "seconds": 1.0, "choice": "44",
               "passes": 1000} for order in (1, 2) for s in range(3)]
    return lines


def test_rows_follow_from_lines(monkeypatch):
    rows = search.table(made_up(monkeypatch))
    best, chance, evolved, ofa, tau, cell = rows
    assert best["choice"] == {"conv1": 8, "conv2": 4, "hidden": 8}
    assert best["seconds"] == len(made_up(monkeypatch))
    assert best["met"] and "among 18" in best["row"] and "2,500 bytes" in best["row"]
    assert len(ofa["distances"]["20 %"]["val"]) == 3 and chance["met"]
    assert np.mean(ofa["distances"]["10 %"]["val"]) < 0.16 and ofa["gap"] > 0  # 8 of 5000
    assert all(t > 0.8 for t in tau["tau"]) and tau["met"]
    assert cell["met"] and cell["orders"][1]["val"] == cell["orders"][2]["val"] == [0, 0, 0]
    wrong = search.table(made_up(monkeypatch, quality=-1))
    assert not wrong[3]["met"] and not wrong[4]["met"]
    assert np.mean(wrong[3]["distances"]["10 %"]["val"]) > 0.3


def test_what_is_missing_is_said(monkeypatch, tmp_path):
    lines = made_up(monkeypatch)
    assert "54 of 54 trainings" in search.table(lines)[0]["ours"]
    assert not search.table([line for line in lines if line["seed"] != 2])[0]["met"]
    over = search.code_of(search.lenets(), search.lenets().largest)
    assert "53 of 54 trainings" in search.table(
        [line for line in lines if (line["arm"], line["seed"]) != (over, 1)])[0]["ours"]
    with pytest.raises(UserError, match="every net under the limit .* got 1 missing"):
        search.table([line for line in lines if (line["arm"], line["seed"]) != ("000", 1)])
    few = search.table([line for line in lines if line["arm"] != "supernet-2"
                        and not line["arm"].startswith("darts")])
    assert len(few) == 5 and not few[3]["met"] and "2 supernets" in few[3]["ours"]
    with pytest.raises(UserError, match="at least two supernets, got 0"):
        search.table([line for line in lines if not line["arm"].startswith("supernet")])
    with pytest.raises(UserError, match="--seeds must be at least 2 .* got 1"):
        search.run(None, seeds=[0], log=None, n_threads=1, out=tmp_path, journal=None)


def test_the_picture_is_drawn(monkeypatch, tmp_path):
    ax = search.picture(made_up(monkeypatch))
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "random", "evolution", "ofa"]
    plots.save(ax, tmp_path / "search.png")
    assert (tmp_path / "search.png").stat().st_size > 10_000


def test_the_run_finds_every_arm_and_goes_on(monkeypatch, tmp_path):
    space = Space({"conv1": (1, 2), "hidden": (2, 4)}, functools.partial(
        small_lenet, conv2=2, kernel1=3, kernel2=3), weigh=lambda model: model.count())
    for name, value in {"lenets": lambda: space, "LIMIT": Limit(bytes=300), "RUNS": 2,
                        "IMAGES": 40, "LOOKS": 10, "BATCH": 20, "PARTS": (60, 90), "DECIDES": 90,
                        "cells": lambda: Space({"op1": ("skip",)}, lambda op1, rng: small_lenet(
                            conv1=1, conv2=1, rng=rng)),
                        "darts_found": lambda data, seed, order: {"choice": "0", "passes": 7},
                        "picture": lambda lines: None}.items():
        monkeypatch.setattr(search, name, value)
    monkeypatch.setattr(search.plots, "save", lambda ax, path: None)
    rng = np.random.default_rng(0)
    split = Split(rng.random((200, 1, 28, 28), dtype=np.float32), np.arange(200) % 10)
    data = Dataset("toy", split, split, split)
    journal = Journal(tmp_path / "j.jsonl")
    given = {"log": lambda row: None, "n_threads": 1, "out": tmp_path, "journal": journal}
    PAPERS["search"].run(data, seeds=[0, 1], **given)
    darts = ["cell-0", "darts-1", "darts-2"]
    small = ["00", "01", "10"]  # under the limit
    arms = ["costs", *small, *small, "11", "11", "supernet-0", "supernet-1", *darts, *darts]
    assert [line["arm"] for line in journal.lines] == arms
    assert all(0 <= line["val"] <= 200 and 0 <= line["test"] <= 200
               for line in journal.lines if line["arm"] in ("00", "11", "cell-0"))
    before = journal.path.read_bytes()
    PAPERS["search"].run(data, seeds=[0, 1], **given)
    assert journal.path.read_bytes() == before


def test_the_committed_journal_holds_every_net_under_the_limit_with_three_seeds():
    lines = recorded("search")
    assert {line["seed"] for line in lines} == {None, 0, 1, 2}
    nets = search.lenet_table(lines)  # UserError where one lacks
    assert nets.val.shape == (384, 3) and 100 < len(nets.admitted) < 284
    supernets = [line for line in lines if line["arm"].startswith("supernet-")]
    assert len(supernets) >= 5
    assert all(len(line["errors"]) == len(nets.admitted) for line in supernets)
