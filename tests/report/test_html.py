import base64
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from minicomp.codec import load, save
from minicomp.codec.accounting import times
from minicomp.data import Split
from minicomp.models import MODELS
from minicomp.nn.forms import Codebook
from minicomp.report import html, plots
from minicomp.report.compression import Compression, compression_page, write_report
from minicomp.report.html import Page, Picture, Table, render
from minicomp.passport import passport

EVIL = '<script>alert("x")</script>&\'"'
VOID = {"meta", "img", "br", "hr", "link"}


class Reader(HTMLParser):
    # Collects tags, attributes and text, and checks that every tag is closed in order.
    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        self.text.append(data)


def read(text):
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert not reader.open
    return reader


def figure():
    return plots.plot_waterfall([("dense", 1000.0), (EVIL, 100.0)]).figure


def page():
    return Page(
        EVIL,
        EVIL,
        [(EVIL, EVIL, EVIL)],
        [
            EVIL,
            Picture(EVIL, figure(), EVIL, EVIL),
            Table(EVIL, [EVIL, "n"], [[EVIL, 1], ["total", 2]], EVIL, True),
        ],
        EVIL,
    )


def test_names_are_escaped_everywhere():
    text = render(page())
    reader = read(text)
    assert "<script" not in text
    assert not any(k.startswith("on") for _, attrs in reader.tags for k in attrs)
    assert "".join(reader.text).count(EVIL) == 14
    image = next(attrs for tag, attrs in reader.tags if tag == "img")
    assert image["alt"] == EVIL
    region = next(attrs for _, attrs in reader.tags if attrs.get("role") == "region")
    assert region["aria-label"] == EVIL


def test_nothing_is_fetched():
    text = render(page())
    for tag, attrs in read(text).tags:
        assert tag not in ("script", "link", "iframe", "object")
        for name in ("src", "href"):
            assert attrs.get(name, "data:image/svg+xml;base64,").startswith(
                "data:image/svg+xml;base64,"
            )
    assert "@import" not in text and not re.search(r"url\(", text)
    for image in re.findall(r"base64,([A-Za-z0-9+/=]+)", text):
        svg = base64.b64decode(image).decode()
        assert "<script" not in svg
        assert not re.search(r'(?:href|src)="(?!#|data:image/png)', svg)


def test_the_same_figure_gives_the_same_bytes():
    assert html.svg(figure()) == html.svg(figure())


def test_tables_mark_numbers_heads_and_totals():
    text = render(
        Page(
            "t",
            blocks=[Table("t", ["layer", "n", "s"], [["a", 1234, ""], ["b", 2.5, "x"]], last=True)],
        )
    )
    assert '<th scope="col" class="n">n</th>' in text and '<th scope="col">s</th>' in text
    assert '<th scope="row">a</th><td class="n">1,234</td><td></td>' in text
    assert '<tr class="total"><th scope="row">b</th>' in text


def test_cells():
    values = (431080, 0.91999, 12345.6, float("nan"), True, None, "fc1")
    assert [html.cell(v) for v in values] == ["431,080", "0.92", "12,346", "nan", "yes", "", "fc1"]


def test_page_has_what_a_phone_and_a_reader_need():
    text = render(Page("t"))
    assert text.startswith("<!DOCTYPE html>") and 'lang="en"' in text
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in text
    assert "@media print" in text and "@media (max-width" in text


def test_write_is_atomic(tmp_path, monkeypatch):
    path = tmp_path / "r.html"
    assert html.write(Page("one"), path) == path.stat().st_size
    monkeypatch.setattr("os.replace", lambda a, b: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError):
        html.write(Page("two"), path)
    assert "one" in path.read_text() and list(tmp_path.iterdir()) == [path]


# --------------------------------------------------------------------------- the page of a
# compression


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    # LeNet-5 with nine tenths pruned and the rest shared among 15 values.
    rng = np.random.default_rng(0)
    dense = MODELS["lenet5"](rng=rng)
    pruned = dense.copy()
    for name, form in pruned.forms().items():
        if name.endswith("weight"):
            w = form.value.data
            form.remask(np.abs(w) > np.quantile(np.abs(w), 0.9))
    shared = pruned.copy()
    for name, form in pruned.forms().items():
        if name.endswith("weight"):
            w = form.value.data
            centroids = np.linspace(w.min(), w.max(), 15).astype(np.float32)
            index = np.where(w == 0, 0, 1 + np.abs(w[..., None] - centroids).argmin(axis=-1))
            shared.set_form(
                name, Codebook(index, np.append(np.float32(0), centroids), pinned_zero=True)
            )
    path = tmp_path_factory.mktemp("run") / "m.mcz"
    save(shared, path)
    x = rng.standard_normal((30, 1, 28, 28)).astype(np.float32)
    data = Split(x, rng.integers(0, 10, 30))
    steps = [
        {
            "name": n,
            "knobs": {"sparsity": {"*": 0.9}, "lr": 0.01},
            "errors": 4,
            "size": 30,
            "sparsity": 0.9,
            "units_removed": 0,
            "macs": 2_293_000,
            "left": 0.1,
            "seconds": 1.25,
        }
        for n in ("magnitude", "kmeans")
    ]
    epochs = [
        {"stage": "train", "epoch": e, "loss": 1 / e, "val_errors": 9 - e, "val_size": 30}
        for e in (1, 2, 3)
    ]
    return Compression(
        {
            "model": "lenet5",
            "data": "glyphs",
            "recipe": EVIL,
            "seed": 3,
            "threads": 1,
            "steps": steps,
        },
        before=passport(dense, data=data),
        after=passport(shared, path=path, data=data),
        dense=dense,
        model=load(path),
        stages=[("magnitude", pruned), ("kmeans", shared)],
        epochs=epochs,
        scan=({"fc1": ([0.5, 0.9], [0.1, 0.4])}, 0.1, 30),
        note="data: glyphs",
        command="minicomp compress",
    )


def test_the_page_shows_the_pictures_and_the_numbers(run, tmp_path):
    size = write_report(tmp_path / "r.html", run)
    assert size < 2_000_000
    reader = read((tmp_path / "r.html").read_text(encoding="utf-8"))
    images = [attrs for tag, attrs in reader.tags if tag == "img"]
    assert len(images) == 7
    text = " ".join(reader.text)
    assert (
        f"{run.after.file_bytes:,} of 1,724,320 bytes" in text
        and f"{times(run.after.ratio)}x" in text
    )
    assert f"{run.after.errors:,} of 30 test images; before" in text
    assert "seed 3" in text and EVIL in text
    assert "sparsity = {*: 0.9}, lr = 0.01" in text
    # alternative texts are made of the figures shown
    alts = " ".join(i["alt"] for i in images)
    assert all(len(i["alt"]) > 60 for i in images)
    assert (
        "dense 1,724 kB" in alts
        and f"{np.count_nonzero(run.stages[0][1].forms()['fc1.weight'].dense().data):,} weights"
        in alts
    )
    assert "fc1 from 10.00 to 40.0 % at sparsity 0.9" in alts
    assert "30 validation images" in alts and "15 centroids" in alts


def test_the_page_of_less_has_less(run):
    bare = Compression({"model": "m"}, run.before, run.after, run.dense, run.model)
    assert [b.title for b in compression_page(bare).blocks if isinstance(b, Picture)] == [
        "Bytes by layer",
        "Weights of fc1, and the centroids that stand for them",
        "Filters of conv1 before and after",
        "Bytes are in one place, work in another",
    ]
    mlp = MODELS["lenet300"](rng=np.random.default_rng(0))
    plain = passport(mlp, timed=False)
    filed = type(plain)(plain.layers, plain.dense_bytes, 1000, 10.0)
    titles = [
        b.title
        for b in compression_page(Compression({"model": "m"}, plain, filed, mlp, mlp)).blocks
        if isinstance(b, Picture)
    ]
    assert titles == ["Bytes by layer", "Filters of fc1 before and after"]
