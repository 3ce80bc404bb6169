"""Every example of every --help and of README: it parses, and runs on what the first one wrote."""

import argparse
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from minicomp import data as datasets
from minicomp.cli import build_parser, main
from minicomp.jobs import recipe

README = Path(__file__).parents[2] / "README.md"
FIRST = "minicomp compress"
GRID = "train = {epochs = 1}\n[[step]]\ntechnique = 'magnitude'\nsparsity = [0.5, 0.9]\n"


def parsers(parser):
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in dict.fromkeys(action.choices.values()):
                yield from parsers(inner)


def examples():
    # The commands, each once, without what is said of them behind two spaces and more.
    lines = [line for p in parsers(build_parser()) if p.epilog for line in p.epilog.splitlines()]
    if README.exists():
        text = README.read_text(encoding="utf-8")
        lines += re.findall(r"^ {4}(?:.*&& )?(minicomp .*)$", text, re.M)
        inline = re.findall(r"`([^`\n]+)`", text)
        lines += [code for code in inline if re.match(r"minicomp \S+ \S|minicomp --version", code)]
    found = (re.split(r"\s{2,}", line.strip())[0] for line in lines)
    return list(dict.fromkeys(c for c in found if c.startswith("minicomp ")))


EXAMPLES = examples()
# Not commands but their forms, `minicomp compress [MODEL]`, `minicomp COMMAND --help`.
GIVEN = [c for c in EXAMPLES
         if not re.search(r"\[|\b[A-Z]{2,}\b(?!\w|/)", c.replace("DOWNLOADS", ""))]
# Downloads, nets of other frameworks, full papers, other installations, what needs package onnx,
# and what lessons' own tests run.
ELSEWHERE = re.compile(r"minicomp (data get|import|paper \w|bench|export \S+ --onnx|"
                       r"lesson (open|grade|build)|\S+ --help)")
RUN = [c for c in GIVEN if not ELSEWHERE.match(c)]
SLOW = re.compile(r".*--bytes|.*--criteria|minicomp compress lenet5\.safe")


def test_there_are_examples_of_every_command():
    assert len(GIVEN) > 40 and len(RUN) > 25 and GIVEN[0] == FIRST
    named = {c.split()[1] for c in GIVEN}
    assert {"compress", "sweep", "train", "eval", "compare", "show", "import", "lower", "trace",
            "export", "sensitivity", "debug", "list",
            "paper", "bench", "data", "vectors", "cite", "lesson"} <= named


@pytest.mark.parametrize("command", GIVEN)
def test_it_parses(command):
    args = build_parser().parse_args(shlex.split(command)[1:])
    assert args.version or args.run


@pytest.fixture(scope="session")
def first(few, tmp_path_factory):
    # A folder with what the first command wrote, and a user's recipe.
    folder = tmp_path_factory.mktemp("first")
    with pytest.MonkeyPatch.context() as m:
        small_settings(m, few, folder)
        assert main(shlex.split(FIRST)[1:]) == 0
        assert main(["train", "lenet5", "--out", "lenet5.safetensors"]) == 0
        assert main(["lower", "lenet5.mcz"]) == 0
        assert main(shlex.split("compress lenet5 --with ptq --out int8.mcz --no-report")) == 0
        assert main(["lower", "int8.mcz", "--precision", "int8"]) == 0
        bits = "compress lenet300 --with bnn --with ptq --out bits.mcz --no-report"
        assert main(shlex.split(bits)) == 0
        np.save("images.npy", few.test.x[:2])
        assert main(["sweep", "lenet300", "--with", "magnitude:sparsity={0.5,0.6}"]) == 0
        Path("grid.toml").write_text(GRID)
        m.chdir(folder / "lessons")
        assert main(["lesson", "open", "4", "--no-start"]) == 0
    shutil.copy(folder / "lenet5-program.mcz", folder / "program.mcz")
    shutil.copy(folder / "lenet5.mcz", folder / "small.mcz")
    shutil.copy(recipe.FOLDER / "deep-compression.toml", folder / "my.toml")
    return folder


def small_settings(m, few, folder):
    # Few images under every name, an epoch a step, two rungs a scan, one thread.
    load, whole = datasets.load, recipe.load_recipe
    m.setattr(datasets, "default_name", lambda *a: "glyphs")
    m.setattr(datasets, "load", lambda name, **kw: load(name, **kw) if name.startswith("monks")
              else replace(few, name=name))
    for command in ("compress", "train", "sensitivity"):
        m.setattr(f"minicomp.cli.{command}.load_recipe",
                  lambda *a, **kw: whole(*a, **kw).faster(1e-9))
    parse = recipe.parse_recipe
    m.setattr("minicomp.cli.sweep.parse_recipe", lambda *a, **kw: parse(*a, **kw).faster(1e-9))
    for command in ("compress", "sensitivity"):
        m.setattr(f"minicomp.cli.{command}.SPARSITIES", (0.4, 0.99))
    m.setattr("minicomp.passport.milliseconds", lambda *a: (1.0, 2.0))
    m.setattr("minicomp.report.html.svg", lambda figure: "<svg/>")
    m.setattr("os.cpu_count", lambda: 1)
    m.setenv("HOME", str(folder))
    (folder / "lessons").mkdir(exist_ok=True)
    m.chdir(folder)


@pytest.mark.parametrize("command", [
    pytest.param(c, marks=pytest.mark.slow) if SLOW.match(c) else c for c in RUN])
def test_it_runs_on_what_the_first_command_wrote(command, first, few, tmp_path, monkeypatch):
    if command == FIRST:
        assert {"lenet5.mcz", "report.html"} <= {p.name for p in first.iterdir()}
        return
    shutil.copytree(first, tmp_path / "here", ignore=shutil.ignore_patterns("report.html"))
    small_settings(monkeypatch, few, tmp_path / "here")
    words = shlex.split(command.replace("~", str(tmp_path / "here")))  # as a shell does
    assert main(words[1:]) == 0
