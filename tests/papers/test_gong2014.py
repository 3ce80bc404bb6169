"""Gong's table in equal bytes, and the one of initial centroids: what fits, places, rows."""

import numpy as np
import pytest

from minicomp.compress.finetune import FineTune
from minicomp.data import Dataset, Split
from minicomp.models import MODELS
from minicomp.papers import gong2014, initial_centroids
from minicomp.papers.gong2014 import (FURTHER, PLACES, families, fitting, forms_of, layer_bytes,
                                      places, replaced)

RNG = np.random.default_rng(0)
W = (0.1 * RNG.standard_normal((60, 96))).astype(np.float32)


def off(forms):
    parts = [form.dense().data for form in forms.values()]
    return np.square(W - (parts[0] if len(parts) == 1 else parts[1] @ parts[0])).sum()


@pytest.mark.parametrize("method", [*PLACES, *FURTHER])
def test_of_each_family_the_largest_that_fits(method, monkeypatch):
    monkeypatch.setattr(gong2014, "BLOCKS", (4, 8))
    most, rng = 4 * W.size / 8, np.random.default_rng(0)
    found = list(fitting(method, W, np.eye(96), most, rng))
    assert 1 <= len(found) <= len(families(method, 96))
    for how, forms in found:
        assert 0 < layer_bytes(forms) <= most
        assert off(forms) < 0.99 * np.square(W).sum()
        family = next(f for f in families(method, 96) if how in f)
        for larger in family[: family.index(how)][-1:]:
            assert layer_bytes(forms_of(method, larger, W, np.eye(96), rng)) > most


def test_more_bytes_err_less_and_two_layers_are_their_product():
    nets = [forms_of("SVD", {"rank": r}, W, None, None) for r in (5, 20, 60)]
    assert off(nets[0]) > off(nets[1]) > off(nets[2]) and off(nets[2]) < 1e-3
    s = np.linalg.svd(W, compute_uv=False)
    np.testing.assert_allclose(off(nets[0]), np.square(s[5:]).sum(), rtol=1e-3)
    model = MODELS["lenet300"](rng=np.random.default_rng(0))
    w = model.forms()["fc2.weight"].dense().data
    chain = replaced(model, "fc2", forms_of("SVD", {"rank": 100}, w, None, None))
    assert chain.node("fc2b").inputs == ("fc2a",) and model.node("fc2")
    x = RNG.random((3, 1, 28, 28)).astype(np.float32)
    np.testing.assert_allclose(chain(x).data, model(x).data, atol=2e-3)


def test_equals_share_the_better_place():
    errors = dict(zip(PLACES, (200, 210, 210, 300, 290)))
    found = {("net", 16, m): [{"errors": e}] for m, e in errors.items()}
    assert places(found, "net", 16) == {
        "product": 1, "residual": 2, "k-means": 2, "sign": 5, "SVD": 4}


@pytest.fixture
def data():
    split = Split(RNG.standard_normal((60, 1, 28, 28)).astype(np.float32),
                  RNG.integers(10, size=60))
    return Dataset("mnist", split, split, split, tuple("0123456789"), "files")


@pytest.mark.slow
def test_gongs_rows(data, monkeypatch, tmp_path):
    how, files = FineTune(epochs=1, lr=0.01), {}
    monkeypatch.setattr(gong2014, "NETS", {"lenet300": ("L", how, ("fc2",), how)})
    monkeypatch.setattr(gong2014, "TIMES", (15,))
    monkeypatch.setattr(gong2014, "file_errors", lambda m, path, name: (
        files.setdefault(path.name, m), (9, 50 - len(files)))[1])
    rows = gong2014.PAPER.run(data, seeds=[0], log=lambda row: None, n_threads=1, out=tmp_path)
    assert [row["row"].split(": ")[1] for row in rows] == [*PLACES, *FURTHER]
    assert rows[0]["ours"].startswith("place 5: ") and not rows[0]["met"]
    assert files["gong-lenet300-15-product-0.mcz"].forms()["fc2.weight"].kind == "product"
    before, after = (files[f"gong-lenet300-15-product{t}-0.mcz"].forms()["fc2.weight"]
                     for t in ("", "-tuned"))
    assert (before.index == after.index).all() and (before.dense().data != after.dense().data).any()


@pytest.mark.slow
def test_rows_of_initial_centroids(data, monkeypatch, tmp_path):
    how, files = FineTune(epochs=1, lr=0.01), {}
    monkeypatch.setattr(initial_centroids, "NETS", {"lenet300": ("L", how, how, how)})
    monkeypatch.setattr(initial_centroids, "BITS", (2,))
    monkeypatch.setattr(initial_centroids, "file_errors", lambda m, path, name: (
        files.setdefault(path.name, m), (9, 20 + len(files)))[1])
    row, = initial_centroids.PAPER.run(data, seeds=[0], log=lambda row: None, n_threads=1,
                                       out=tmp_path)
    assert row["met"] and row["errors"]["linear"] == [21] and "optimal" in row["ours"]
    assert row["ours"].endswith("[1.00]")
    form = files["centroids-lenet300-2-linear-by-sign-0.mcz"].forms()["fc1.weight"]
    assert form.pinned_zero and form.k == 4
