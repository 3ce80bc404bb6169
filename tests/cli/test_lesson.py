import argparse
import json
import shutil

import pytest
from minicomp.errors import UserError
from minicomp.teach import catalog
from minicomp.cli import lesson as commands, main


def run(*words):
    parser = argparse.ArgumentParser(prog="minicomp")
    commands.add_parsers(parser.add_subparsers(required=True))
    args = parser.parse_args(["lesson", *map(str, words)])
    return args.run(args)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_list_names_every_lesson(capsys):
    assert run("list") == 0
    out = capsys.readouterr().out
    assert all(of.title in out for of in catalog.lessons().values())


def test_open_copies_and_never_overwrites(here, capsys):
    assert run("open", 4, "--no-start") == 0
    path = here / "04_magnitude.ipynb"
    assert path.read_bytes() == catalog.notebook_path(catalog.lesson(4)).read_bytes()
    assert str(path) in capsys.readouterr().out
    path.write_text("my work")
    run("open", "04", "--no-start")
    assert path.read_text() == "my work" and "--fresh" in capsys.readouterr().out
    run("open", 4, "--no-start", "--fresh")
    run("open", 4, "--no-start", "--fresh")
    assert path.read_text() == "my work" and (here / "04_magnitude-3.ipynb").exists()


def test_open_starts_jupyterlab_only_where_it_is(here, capsys, monkeypatch):
    started = []
    monkeypatch.setattr(
        commands.subprocess,
        "run",
        lambda words: started.append(words) or argparse.Namespace(returncode=0),
    )
    monkeypatch.setattr(commands.importlib.util, "find_spec", lambda name: None)
    run("open", 4)
    assert not started and "not installed" in capsys.readouterr().out
    monkeypatch.setattr(commands.importlib.util, "find_spec", lambda name: name)
    run("open", 4)
    assert started[0][-1] == "04_magnitude.ipynb" and "jupyterlab" in started[0]


@pytest.mark.parametrize(
    "words, says",
    [
        (["open", 99, "--no-start"], "no lesson '99'; there are 01"),
        (["open", "x", "--no-start"], "no lesson 'x'"),
        (["grade", 4, "none.ipynb"], "none.ipynb: there is no such file"),
        (["grade", 77, "x.ipynb"], "no lesson '77'"),
        (["grade", 4, "text.ipynb"], "not JSON"),
        (["grade", 4, "other.ipynb"], "a notebook of lesson 01, not of lesson 04"),
        (["grade", 4, "."], "no .ipynb file in it"),
        (["grade", 4, "other.ipynb", "--roster", "r.csv"], "goes with a folder"),
        (["grade", 4, "text.ipynb", "--key", "none.key"], "none.key: cannot be read"),
        (["grade", 4, "text.ipynb", "--jobs", 0], "--jobs must be at least 1"),
        (["progress", "none"], "no such folder"),
        (["build", "--html", "x", 99], "no lesson '99'"),
    ],
)
def test_a_users_mistake_is_one_line(here, words, says):
    if words[2:3] != ["."]:
        (here / "text.ipynb").write_text("no notebook")
        (here / "other.ipynb").write_text(
            '{"cells": [], "metadata": {"minicomp": {"lesson": "01"}}}'
        )
    with pytest.raises(UserError, match=says) as error:
        run(*words)
    assert "\n" not in str(error.value)


def test_main_ends_with_2_and_one_line(capsys):
    assert main(["lesson", "open", "99"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("minicomp lesson: there is no lesson '99'") and err.count("\n") == 1


def test_help_shows_examples(capsys):
    for words in (
        ["--help"],
        ["grade", "--help"],
        ["open", "--help"],
        ["build", "--help"],
        ["progress", "--help"],
    ):
        with pytest.raises(SystemExit) as stop:
            run(*words)
        assert stop.value.code == 0 and "examples:\n  minicomp lesson" in capsys.readouterr().out


def test_grade_one_notebook(here, solved, capsys):
    path = solved()
    assert (
        run(
            "grade",
            4,
            path,
            "--json",
            here / "g.json",
            "--csv",
            here / "g.csv",
            "--feedback",
            here / "pages",
        )
        == 0
    )
    out, of = capsys.readouterr().out, catalog.lesson(4)
    assert f"{of.max_points - 2} of {of.max_points} points (graded)" in out
    assert json.loads((here / "g.json").read_text())["max_points"] == of.max_points
    assert (here / "g.csv").read_bytes().startswith(b"\xef\xbb\xbf") and list(
        (here / "pages").glob("*.html")
    )
    run("grade", 4, path, "--json", "-")
    assert json.loads(capsys.readouterr().out)["points"] == of.max_points - 2


def test_grade_a_folder(here, solved, capsys):
    (here / "in").mkdir()
    solved().rename(here / "in" / "ann.ipynb")
    (here / "in" / "bob.ipynb").write_text("oh")
    assert run("grade", 4, "in", "--key", key(here)) == 0
    out = capsys.readouterr()
    assert (
        "2 rows in grades-04.csv" in out.out
        and "bob (bob.ipynb): bob.ipynb: not a notebook" in out.out
    )
    assert "course code" in out.err and key(here).read_text() not in out.err
    assert (here / "grades-04.json").exists() and len(
        list((here / "feedback-04").glob("*.html"))
    ) == 2


def key(folder):
    path = folder / "course.key"
    path.write_text("a key of a good length")
    return path


def test_progress_grades_what_lies_here(here, solved, capsys):
    run("progress")
    assert "no lesson notebook" in capsys.readouterr().out
    solved().rename(here / "04_magnitude.ipynb")
    shutil.copy(here / "04_magnitude.ipynb", here / "Copy of my answer (2).ipynb")
    (here / "other.ipynb").write_text('{"cells": []}')
    (here / "01_x.ipynb").write_text("oh")
    run("progress", "--json", "p.json")
    out = capsys.readouterr().out
    assert "17 of 19  04_magnitude.ipynb: magnitude_mask 5/5" in out and "not a notebook" in out
    assert "17 of 19  Copy of my answer (2).ipynb" in out and "other" not in out
    assert json.loads((here / "p.json").read_text())[0]["points"] == 17


def test_build_check_fails_when_stale(capsys, monkeypatch):
    from minicomp.teach.notebook import build

    monkeypatch.setattr(build, "stale", lambda: ["04_magnitude.ipynb: out of step with its source"])
    assert run("build", "--check") == 1 and "out of step" in capsys.readouterr().out
    monkeypatch.setattr(build, "stale", lambda: [])
    assert run("build", "--check") == 0
