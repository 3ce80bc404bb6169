"""README names what there is: every technique with its file, lesson and paper."""

import inspect
import re
from dataclasses import replace
from pathlib import Path

import pytest

from minicomp.compress import TECHNIQUES
from minicomp.jobs.recipe import recipes
from minicomp.models import ARGUMENTS, MODELS

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


def test_the_nets_stand_with_their_counts():
    rows = {re.sub("`", "", row[0]): row[2:] for row in table("The nets")}
    assert list(rows) == list(MODELS)
    for name, (parameters, macs, arguments, published, *large) in rows.items():
        common = {"classes", "channels", "normalize"}
        assert arguments.split(", ") == [a for a in ARGUMENTS[name] if a not in common] or (
            not arguments and set(ARGUMENTS[name]) == common)
        assert [parameters, macs] == counts(MODELS[name]())
        sized = dict(re.findall(r"(\w+)=([0-9.]+)", published))
        args = {key: float(v) if key == "width" else int(v) for key, v in sized.items()}
        assert large == counts(MODELS[name](**args)) and bool(args) == (published != "as it is")


def counts(model) -> list[str]:
    return [f"{model.count():,}", f"{sum(model.macs().values()):,}"]


def test_recipes_and_commands_are_named():
    text = README.read_text(encoding="utf-8")
    for name in recipes():
        assert name in text, f"recipe {name} is not in README"
    for command in ("compress", "sweep", "train", "eval", "show", "import", "lower", "trace",
                    "export", "sensitivity", "debug",
                    "list", "paper", "bench", "data", "vectors", "cite", "lesson"):
        assert f"minicomp {command}" in text


def test_the_two_commands_stand_as_ci_runs_them():
    text = README.read_text(encoding="utf-8")
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    for command in ("pip install . && minicomp compress", "pip install '.[test]' && pytest"):
        assert f"    {command}\n" in text and command in ci


def examples():
    # The examples in Python, in order.
    return re.findall(r"^```python\n(.*?)^```$", README.read_text(encoding="utf-8"), re.M | re.S)


def run(monkeypatch, folder, blocks):
    # Runs them as one program, on few images and with an epoch a training; returns its names.
    from minicomp import data
    from minicomp.compress import FineTune

    load, fit = data.load, FineTune.fit
    monkeypatch.setattr(data, "load", lambda name: few(load(name)))
    monkeypatch.setattr(FineTune, "fit", lambda self, *a, **kw: fit(
        replace(self, epochs=min(self.epochs, 1)), *a, **kw))
    monkeypatch.chdir(folder)
    names = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    return names


def few(whole):
    return replace(whole, **{part: getattr(whole, part).take(slice(300))
                             for part in ("train", "val", "test")})


def test_the_examples_in_python_run(tmp_path, monkeypatch, capsys):
    blocks = examples()
    assert len(blocks) >= 7 and all(block.count("\n") <= 12 for block in blocks)
    names = run(monkeypatch, tmp_path, [b for b in blocks if "import torch" not in b])
    assert names["codes"].shape == names["mask"].shape == names["w"].shape == (300, 784)
    assert not names["w"][~names["mask"]].any() and names["logits"].shape == (1, 10)
    assert names["size"] == (tmp_path / "small.mcz").stat().st_size < 30_000
    said = capsys.readouterr().out
    assert "<Model lenet300" in said and "times smaller" in said and "bytes in the file" in said


@pytest.mark.peers
def test_the_comparison_with_torch_runs(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    blocks = examples()
    last = next(i for i, block in enumerate(blocks) if "import torch" in block)
    names = run(monkeypatch, tmp_path, blocks[: last + 1])
    assert names["x"].shape == (100, 1, 28, 28)


def test_extras_are_named():
    import tomllib

    text = README.read_text(encoding="utf-8")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for extra in extras["optional-dependencies"]:
        assert f".[{extra}]" in text, f"README does not name the extra {extra}"
