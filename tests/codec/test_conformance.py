# The files that FORMAT.md is checked by, and what the page repeats of the code.
import importlib.util
import json
import re
from pathlib import Path

import pytest
from minicomp import codec
from minicomp.codec import header
from minicomp.kernels.coding import mixing

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "tests" / "data" / "conformance"
PAGE = Path(codec.__file__).with_name("FORMAT.md").read_text(encoding="utf-8")
SPEC = importlib.util.spec_from_file_location("made", FOLDER.with_name("make_conformance.py"))
made = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(made)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.mcz")), ids=lambda path: path.stem)
def test_the_package_decodes_it_to_the_same(path):
    assert made.values(path.read_bytes()) == json.loads(
        (FOLDER / "values.json").read_text())[path.name]


def test_the_page_has_the_weights():
    numbers = [int(v) for v in re.findall(r"-?\d+", PAGE.split("Weights:\n")[1].split("##")[0])]
    assert numbers == [v for i, row in enumerate(mixing.WEIGHTS) for v in (i, *row)]


def test_the_dictionaries_lie_beside():
    for (kind, number), text in header._DICTIONARIES.items():
        assert (FOLDER / f"dictionary-{kind}-{number}.txt").read_bytes() == text
