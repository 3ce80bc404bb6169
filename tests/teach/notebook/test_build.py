import json
import shutil

import pytest
from minicomp.errors import UserError
from minicomp.teach.notebook import build
from minicomp.teach import catalog
from minicomp.teach.notebook.cells import Cell


def test_the_setup_cell_takes_mode_data_and_seed_and_keeps_the_rest():
    cell = Cell(
        "code",
        'lesson = Lesson("04", mode="full", student="", course="open")  # a remark\nlesson',
        ("mode",),
    )
    (out,) = build.at([cell], mode="smoke", data="glyphs", seed=3)
    assert (
        out.source
        == 'lesson = Lesson("04", mode="smoke", data="glyphs", seed=3, student="", course="open")'
        "  # a remark\nlesson"
    )
    assert build.at([cell], mode="full") == [cell]
    with pytest.raises(UserError, match="tagged mode"):
        build.at([Cell("code", "x = 1")], mode="smoke")


def test_a_stale_notebook_is_found(tmp_path, monkeypatch, lesson4):
    source = build.sources()
    here = tmp_path / "lessons" / "source"
    shutil.copytree(source, here)
    shutil.copytree(source.parent / "expected", here.parent / "expected")
    monkeypatch.setattr(build, "_ROOT", tmp_path)
    monkeypatch.setattr(catalog, "folder", lambda: here.parent)
    assert all(line.endswith(": missing") for line in build.stale()) and len(build.stale()) == len(
        catalog.lessons()
    )
    for of in catalog.lessons().values():
        build.build(of)
    assert build.stale() == []
    path = here / f"{lesson4.stem}.py"
    path.write_text(path.read_text() + "\n# %% [markdown]\n# One more word.\n")
    (here.parent / "05_other.ipynb").write_text("{}")
    assert build.stale() == [
        "05_other.ipynb: has no source",
        f"{lesson4.stem}.ipynb: out of step with its source",
    ]


def test_an_installation_without_sources_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "_ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="checkout"):
        build.sources()


def test_numbers_are_summed_up_over_runs(lesson4):
    runs = [
        {
            "results": {
                n.key: [1.0, v] if n.key in ("keeps",) or "curve" in n.key else v
                for n in lesson4.numbers
            }
        }
        for v in (1.0, 2.0, 6.0)
    ]
    rows = build.summary(lesson4, runs)
    assert rows["ratio"]["mean"] == 3 and rows["ratio"]["low"] == 1 and rows["ratio"]["high"] == 6
    assert (
        rows["keeps"]["mean"] == [1, 3]
        and rows["ratio"]["runs"] == 3
        and rows["error_cut"]["unit"] == "%"
    )
    del runs[0]["results"]["ratio"], runs[1]["results"]["ratio"], runs[2]["results"]["ratio"]
    with pytest.raises(UserError, match="did not record ratio"):
        build.summary(lesson4, runs)


def test_expected_numbers_are_written_by_running(tmp_path, monkeypatch, lesson4):
    monkeypatch.setattr(build, "_ROOT", tmp_path)
    (tmp_path / "lessons" / "source").mkdir(parents=True)
    monkeypatch.setattr(catalog, "folder", lambda: tmp_path / "lessons")
    seen = []

    def run(of, *, mode, data, seed):
        seen.append((mode, data, seed))
        return {
            "results": {n.key: 2.0 + seed for n in of.numbers},
            "seconds": 7.0,
            "twin": [["10", "1", "2", "3"]],
        }

    monkeypatch.setattr(build, "run", run)
    path = build.record(lesson4, data=["mnist"], seeds=2)
    assert seen == [("full", "mnist", 0), ("full", "mnist", 1)]
    kept = json.loads(path.read_text())
    assert kept["data"]["mnist"]["seconds"] == [7.0, 7.0] and kept["twin"]["rows"] == [
        ["10", "1", "2", "3"]
    ]
    build.record(lesson4, data=["glyphs"], seeds=1)
    assert set(json.loads(path.read_text())["data"]) == {"mnist", "glyphs"}


def test_a_lesson_that_raises_says_where(monkeypatch, lesson4):
    monkeypatch.setattr(
        build,
        "cells_of_draft",
        lambda of: [Cell("code", 'lesson = Lesson("04", mode="full")', ("mode",), "setup")],
    )
    with pytest.raises(UserError, match="NameError"):
        build.run(lesson4, mode="smoke")
