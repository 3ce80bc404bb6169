# A decoder written from minicomp/codec/FORMAT.md alone, and what it must read.
import hashlib
import importlib.util
import json
import re
import struct
import sys
from pathlib import Path

import pytest

from minicomp.models import ARGUMENTS, from_spec

FOLDER = Path(__file__).parents[1] / "data" / "conformance"
FILES = sorted(path.name for path in FOLDER.glob("*.mcz"))
SPEC = importlib.util.spec_from_file_location(
    "plain_mcz", Path(__file__).parent / "plain_mcz" / "__init__.py")
plain_mcz = sys.modules["plain_mcz"] = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(plain_mcz)
file, FORMS, Bits = plain_mcz.file, plain_mcz.forms.FORMS, plain_mcz.bits.Bits
PAGE = Path(__file__).parents[2] / "minicomp" / "codec" / "FORMAT.md"


@pytest.mark.parametrize("name", FILES)
def test_a_decoder_written_from_the_page_reads_it(name):
    wanted = json.loads((FOLDER / "values.json").read_text())[name]
    found = plain_mcz.decoded((FOLDER / name).read_bytes(), FOLDER)
    as_bytes = {form: struct.pack(f"<{len(v)}f", *v) for form, v in found.items()}
    assert {form: b.hex() if len(b) <= 8000 else hashlib.sha256(b).hexdigest()
            for form, b in as_bytes.items()} == wanted


def test_every_coder_and_layout_has_a_file():
    assert {name.split(".")[0].split("-")[0] for name in FILES} >= {
        "all", "bitmap", "relative", "rice", "bucket", "context", "mixed", "huffman", "four",
        "split", "trits", "rans", "rising", "statistics", "builtin", "program"}


def test_every_form_of_the_page_has_a_file():
    rows = re.findall(r"^\| (\d+) \| (\w+) \|", PAGE.read_text(encoding="utf-8"), re.M)
    met = set()
    for name in FILES:
        header, sections = file.sections_of((FOLDER / name).read_bytes(), FOLDER)
        shapes, _ = file.shapes_of(header)
        met |= {Bits(section).count() for _, section in zip(shapes, sections)}
    assert met == {int(wire) for wire, _ in rows} == set(FORMS)


@pytest.mark.parametrize("name", ARGUMENTS)
def test_the_page_has_the_built_in_nets(name):
    others = ({"classes": 3, "channels": 2, "width": 0.3, "resolution": 40, "groups": 4,
               "blocks": 1, "hidden": 1},
              {"width": 0.2, "resolution": 64, "groups": 8, "blocks": 4, "hidden": 0})
    for args in ({}, *others):
        given = {key: value for key, value in args.items() if key in ARGUMENTS[name]}
        model = from_spec({"builtin": name, "args": given})
        shapes, statistics = file.shapes_of({"builtin": name, "args": given})
        assert list(shapes.items()) == [(n, f.shape) for n, f in model.forms().items()]
        assert list(statistics.items()) == [(n, a.size) for n, a in model.buffers().items()]
