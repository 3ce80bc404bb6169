import json
from pathlib import Path

import numpy as np
import pytest

from minicomp import __version__
from minicomp.errors import UserError
from minicomp.models.papers import DropoutMLP
from minicomp.papers import PAPERS, table
from minicomp.papers.journal import RUNS, Journal, kept, of_arm, read, recorded
from minicomp.papers.table import Paper


def test_what_is_there_is_not_run_again(tmp_path):
    path, said = tmp_path / "new" / "t.jsonl", []
    journal = Journal(path)
    line = journal.take("student", 1, lambda: {"errors": np.int64(7)})
    assert (line["errors"], line["version"]) == (7, __version__) and line["seconds"] >= 0
    again = Journal(path, said.append)
    assert again.take("student", 1, lambda: pytest.fail("it ran")) == line
    assert said == [{"event": "say", "text": "student, seed 1: known, t.jsonl"}]
    # another seed, another arm, other settings are others
    for arm, seed, settings in (("student", 2, {}), ("teacher", 1, {}), ("student", 1, {"T": 4})):
        assert again.get(arm, seed, **settings) is None
        assert again.take(arm, seed, lambda: {"errors": 9}, **settings)["errors"] == 9
    assert again.get("student", 1, T=4)["errors"] == 9 and again.get("student", 1) == line
    assert read(path) == again.lines and len(again.lines) == 4


def test_a_line_that_was_cut_off_is_run_again(tmp_path):
    path = tmp_path / "t.jsonl"
    journal = Journal(path)
    for seed in range(3):
        journal.take("a", seed, lambda: {"errors": 5})
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    assert len(read(path)) == 2
    cut = Journal(path)
    assert [line["seed"] for line in cut.lines] == [0, 1] and cut.get("a", 2) is None
    cut.take("a", 2, lambda: {"errors": 6})
    assert [json.loads(text)["errors"] for text in path.read_text().splitlines()] == [5, 5, 6]


@pytest.mark.parametrize("text", ["{}", "[]", "7", "no JSON", '{"arm": "a", "seed": 1}'])
def test_a_file_that_is_no_journal_is_refused(tmp_path, text):
    path = tmp_path / "t.jsonl"
    good = '{"arm": "a", "seed": 1, "settings": {}}'
    path.write_text(f"{good}\n{text}\n")
    with pytest.raises(UserError, match="t.jsonl: line 2 is not one of a journal"):
        Journal(path)
    assert path.read_text() == f"{good}\n{text}\n"


def test_a_net_is_made_once(tmp_path):
    net = DropoutMLP(3, rng=np.random.default_rng(0))
    made = kept(tmp_path / "n.mcz", lambda: net)
    again = kept(tmp_path / "n.mcz", lambda: pytest.fail("it was made again"))
    x = np.ones((2, 1, 28, 28), np.float32)
    np.testing.assert_array_equal(made(x).data, net(x).data)
    np.testing.assert_array_equal(again(x).data, net(x).data)


def test_fields_come_in_the_order_of_seeds():
    lines = [{"arm": "a", "seed": 2, "n": 5}, {"arm": "b", "seed": 0, "n": 1},
             {"arm": "a", "seed": 0, "n": 4}]
    assert of_arm(lines, "a", "n") == [4, 5] and of_arm(lines, "c", "n") == []


def toy(monkeypatch):
    # A table of one arm, whose journal's lines are its rows.
    monkeypatch.setattr(table.datasets, "load", lambda name: type("D", (), {"original": True}))

    def run(data, *, seeds, log, n_threads, out, journal):
        for seed in seeds:
            journal.take("a", seed, lambda: {"n": seed + 10})

    return Paper("toy", "Toy", "mnist", "", run,
                 table=lambda lines: [{"n": line["n"]} for line in lines])


def test_a_table_goes_on_where_it_stopped(monkeypatch, tmp_path):
    paper, log = toy(monkeypatch), []
    assert paper.rows(seeds=[1, 2], log=log.append, out=tmp_path) == [{"n": 11}, {"n": 12}]
    # of what the journal holds come the seeds that are asked for
    assert paper.rows(seeds=[0, 2], log=log.append, out=tmp_path) == [{"n": 12}, {"n": 10}]
    assert [row["text"] for row in log] == ["a, seed 2: known, toy.jsonl"]
    elsewhere = tmp_path / "other.jsonl"
    assert paper.rows(seeds=[0], log=log.append, journal=elsewhere) == [{"n": 10}]
    assert len(read(elsewhere)) == 1 and len(read(tmp_path / "toy.jsonl")) == 3


def test_a_table_without_a_journal_says_so(monkeypatch, tmp_path):
    plain = Paper("plain", "Plain", "mnist", "", lambda data, **kw: [])
    with pytest.raises(UserError, match="table plain keeps no journal"):
        plain.rows(seeds=[0], log=print, journal=tmp_path / "j.jsonl")
    for paper in (plain, toy(monkeypatch)):
        with pytest.raises(UserError, match=f"table {paper.name} has no committed journal"):
            paper.recorded()


def test_readme_shows_the_committed_rows():
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    committed = sorted(path.stem for path in RUNS.glob("*.jsonl"))
    assert committed == sorted(name for name in PAPERS if recorded(name)) and committed
    for name in committed:
        rows = PAPERS[name].recorded()
        assert rows, name
        for row in rows:
            assert f"| {row['row']} | {row['paper']} | {row['ours']} | " in readme
