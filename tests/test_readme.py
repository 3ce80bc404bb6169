"""README names what there is: every technique with its file, lesson and paper."""

import inspect
import re
from pathlib import Path

import pytest

from minicomp.compress import TECHNIQUES
from minicomp.jobs.recipe import recipes

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"

pytestmark = pytest.mark.skipif(not README.exists(), reason="runs in a checkout")


def table(heading: str) -> list[list[str]]:
    text = README.read_text(encoding="utf-8").split(f"## {heading}\n")[1].split("\n## ")[0]
    rows = [line.strip("| ").split("|") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def test_every_technique_has_its_row():
    rows = {re.sub("`", "", row[0]): row for row in table("Techniques")}
    words = [t.word for t in TECHNIQUES]
    assert list(rows) == words, "the table lists `minicomp list` in its order"
    for t in TECHNIQUES:
        _, file, lesson, paper = rows[t.word]
        module = inspect.getmodule(t).__name__.replace(".", "/") + ".py"
        assert file == f"[{Path(module).name}]({module})" and (ROOT / module).is_file()
        assert paper == (t.source or t.title)
        if lesson:
            name = re.search(r"\((?:lessons/)?(.*?)\)", lesson)[1]
            assert (ROOT / "lessons" / name).is_file()


def test_recipes_and_commands_are_named():
    text = README.read_text(encoding="utf-8")
    for name in recipes():
        assert name in text, f"recipe {name} is not in README"
    for command in ("compress", "train", "eval", "show", "lower", "sensitivity", "list", "paper",
                    "bench", "data", "vectors", "cite", "lesson"):
        assert f"minicomp {command}" in text


def test_the_two_commands_stand_as_ci_runs_them():
    text = README.read_text(encoding="utf-8")
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    for command in ("pip install . && minicomp compress", "pip install '.[test]' && pytest"):
        assert f"    {command}\n" in text and command in ci
