# The files that FORMAT.md is checked by, and what the page repeats of the code.
import importlib.util
import json
import re
from pathlib import Path

import pytest
from minicomp import codec
from minicomp.codec import header
from minicomp.kernels.coding import mixing
from minicomp.nn.forms import FORMS

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


def test_the_page_has_the_forms():
    # their numbers, the ranges of their settings, their parts in order, whether one is a carrier
    rows = [[cell.strip() for cell in line.split("|")[1:-1]]
            for line in PAGE.split("| wire |")[1].split("\n\n")[0].splitlines()[2:]]
    said, wanted = {}, {}
    for wire, kind, settings, parts, carrier in rows:
        said[int(wire), kind] = (
            [ranged(setting) for setting in settings.split(", ") if setting],
            re.findall(r"(\w+) \([^()]*\):", parts), carrier != "none")
    for kind, cls in FORMS.items():
        beside = [name for name, part in cls.parts.items()
                  if part.role not in ("mask", "latent") and name != carrier_of(cls)]
        wanted[cls.wire, kind] = (
            [(s.type, s.lo, s.hi) for s in cls.settings.values()], beside,
            carrier_of(cls) is not None)
    assert said == wanted


def ranged(setting):
    # "k 1..2^16" as (int, 1, 65536), a flag as (bool, 0, 1)
    name, *found = setting.split(" ")
    if not found:
        return bool, 0, 1
    lo, hi = ((base if power == "" else int(base) ** int(power)) for base, power in (
        re.fullmatch(r"(-?\d+)(?:\^(\d+))?", end.removesuffix("-1")).groups(default="")
        for end in found[0].split("..")))
    return int, int(lo), int(hi) - found[0].endswith("-1")


def carrier_of(cls):
    return cls.carrier.fget(cls.__new__(cls))


def test_the_dictionaries_lie_beside():
    for (kind, number), text in header._DICTIONARIES.items():
        assert (FOLDER / f"dictionary-{kind}-{number}.txt").read_bytes() == text
