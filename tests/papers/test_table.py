"""What stands in a reproduced table: percentages, files read by a fresh process, published data."""

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from minicomp.cli import main
from minicomp.data import load
from minicomp.errors import UserError
from minicomp.lock import locked
from minicomp.models import MODELS
from minicomp.papers import PAPERS, table
from minicomp.papers.table import Paper, file_errors, mean, percent
from minicomp.train import evaluate


def test_percent_and_mean():
    assert percent([140], 10_000) == "1.40 %"
    assert percent([136, 143, 141], 10_000) == "1.40 % (1.36..1.43)"
    assert percent([0, 0], 50) == "0.00 % (0.00..0.00)"
    assert mean([1, 2, 6]) == 3


def test_generated_data_are_refused(monkeypatch, tmp_path):
    monkeypatch.setenv(
        "MINICOMP_DATA", str(tmp_path)
    )  # no MONK files there: they are made from their rules
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    paper = Paper("p", "P", "monks-1", "", lambda *a, **k: pytest.fail("it ran"))
    with pytest.raises(UserError, match="table p needs the published data set monks-1, got: "):
        paper.rows(seeds=[0], log=print)


def test_a_table_gets_its_data_and_a_folder(monkeypatch, tmp_path):
    monkeypatch.setattr(
        table.datasets, "load", lambda name: SimpleNamespace(name=name, original=True)
    )
    seen = []

    def run(data, *, seeds, log, n_threads, out):
        seen.append((data.name, list(seeds), n_threads, out, out.is_dir()))
        return []

    Paper("p", "P", "mnist", "", run).rows(seeds=range(2), log=print, out=tmp_path)
    Paper("p", "P", "mnist", "", run).rows(seeds=[1], log=print, n_threads=2)
    assert seen[0] == ("mnist", [0, 1], 1, tmp_path, True)
    assert seen[1][1:3] == ([1], 2) and seen[1][4] and not seen[1][3].exists()


def test_two_tables_never_write_to_one_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(table.datasets, "load", lambda name: SimpleNamespace(original=True))
    paper = Paper("p", "P", "mnist", "", lambda data, **kw: [(tmp_path / "lock").exists()])
    with locked(tmp_path), pytest.raises(UserError, match="is in use by another run"):
        paper.rows(seeds=[0], log=print, out=tmp_path)
    assert paper.rows(seeds=[0], log=print, out=tmp_path) == [True]
    assert not list(tmp_path.iterdir())


def test_errors_come_from_a_fresh_process(tmp_path, monkeypatch):
    model, ran, real = MODELS["lenet300"](rng=np.random.default_rng(0)), [], subprocess.run

    def spy(words, **kw):
        ran.append(words)
        return real(words, **kw)

    monkeypatch.setattr(table.subprocess, "run", spy)
    size, errors = file_errors(model, tmp_path / "f.mcz", "glyphs")
    assert ran[0][:3] == [sys.executable, "-P", "-c"] and ran[0][4] == "eval"
    assert size == (tmp_path / "f.mcz").stat().st_size
    assert errors == evaluate(model, load("glyphs").test).errors > 1000
    assert [p.name for p in tmp_path.iterdir()] == ["f.mcz"]


def test_a_process_that_fails_is_not_a_row(tmp_path, monkeypatch):
    monkeypatch.setattr(table, "save", lambda model, path: path.write_bytes(b"MCZ damaged"))
    with pytest.raises(RuntimeError, match="minicomp eval .*f.mcz failed: minicomp eval: .*f.mcz"):
        file_errors(None, tmp_path / "f.mcz", "glyphs")


def test_tables_have_what_the_command_prints():
    for name, paper in PAPERS.items():
        assert paper.name == name and paper.title and paper.time and callable(paper.run)


def test_the_command_writes_rows_and_says_whether_all_are_met(tmp_path, monkeypatch, capsys):
    import json

    def paper(met):
        rows = [{"row": "r", "paper": "1 %", "ours": "2 %", "met": met, "seconds": 1.5}]
        return Paper("han2015", "T", "mnist", "", lambda *a, **k: rows)

    monkeypatch.setattr(
        table.datasets, "load", lambda name: SimpleNamespace(name=name, original=True)
    )
    out = tmp_path / "rows.json"
    for met, code in ((True, 0), (False, 1)):
        monkeypatch.setitem(PAPERS, "han2015", paper(met))
        assert main(["paper", "han2015", "--json", str(out)]) == code
        row = json.loads(out.read_text())["rows"][0]
        assert {"row", "paper", "ours", "met", "seconds"} <= set(row) and row["met"] is met
    assert "2 %" in capsys.readouterr().out
