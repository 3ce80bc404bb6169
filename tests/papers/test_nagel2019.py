"""The table of equalisation: what each claim asks, and a whole run on a few images."""

import numpy as np
import pytest

from minicomp import load, save
from minicomp.compress.finetune import FineTune
from minicomp.data import Dataset, Split
from minicomp.models import MODELS
from minicomp.nn import Dense
from minicomp.papers import PAPERS, nagel2019
from minicomp.papers.nagel2019 import CLAIMS, NETS, WAYS, _ranges, _rises, constructed
from minicomp.quality import Agreement

TENSOR, CHANNEL, EQUALISED, ALL = WAYS


def rises(**errors):
    # Rows of a net of 1,000 images, all right in float, that gets so many wrong by each way.
    kept = {("constructed", "float"): [(900, 0, None, np.zeros(1000, bool))]}
    for way in WAYS:
        n = errors.get(way.split(",")[0].replace(" ", "_"), 0)
        kept["constructed", way] = [(300, n, Agreement(n, 1000, 0.5), np.arange(1000) < n)]
    kept |= {("as trained", way): files for (_, way), files in kept.items()}
    return {f"{net}: {row['row'].partition(': ')[2]}": row
            for net in NETS for row in _rises(net, kept, 3, 1000, 1.0)}


def test_each_claim_is_met_by_its_own_numbers_and_missed_by_others():
    # "equalised" here is both rows that begin so
    good = rises(per_tensor=700, per_channel=5, equalised=4)
    assert all(row["met"] for row in good.values()) and len(good) == 8
    assert good["constructed: per tensor"]["ours"].startswith("+70.00 points")
    assert good["constructed: per tensor"]["ours"].endswith("70.00 % flipped, KL 0.5")
    assert "3 channels had a bias to absorb" in good[f"constructed: {ALL}"]["ours"]
    bad = rises(per_tensor=30, per_channel=40, equalised=35)
    assert not any(row["met"] for row in bad.values())


def test_every_row_has_a_claim():
    assert all((net, way) in CLAIMS or way in CLAIMS for net in NETS for way in WAYS)


def test_ranges_are_met_where_a_depthwise_layer_is_worst():
    found = {"stem": np.array([1.0, 2, 3]), "b.dw": np.array([0.0, 1, 2, 40])}
    row = _ranges("as trained", [found], 1.0)
    assert row["met"] and row["ours"] == "stem 1 / 2 / 3; b.dw 0 / 1.5 / 40"
    assert row["factors"]["b.dw"] == pytest.approx(40)
    assert not _ranges("as trained", [found | {"stem": np.array([0.01, 1])}], 1.0)["met"]


def drawn(model, seed=0):
    rng = np.random.default_rng(seed)
    for name, form in model.forms().items():
        fan = np.prod(form.shape[1:]) if len(form.shape) > 1 else 1
        w = rng.standard_normal(form.shape) * np.sqrt(2 / fan)
        model.set_form(name, Dense(w.astype(np.float32)))
    return model


def test_a_constructed_net_gives_the_same_and_its_channels_are_unlike():
    model = drawn(MODELS["depthwise32"](width=0.25))
    made = constructed(model, np.random.default_rng(0))
    x = np.random.default_rng(1).standard_normal((4, 3, 32, 32)).astype(np.float32)
    want = model(x).data
    np.testing.assert_allclose(made(x).data, want, rtol=0, atol=5e-6 * np.abs(want).max())
    spread = [np.ptp(np.log(np.abs(m.forms()["block1.dw_bn.weight"].dense().data)))
              for m in (model, constructed(model, np.random.default_rng(0), 4.0))]
    assert spread[1] > spread[0] + 2


@pytest.mark.slow
def test_a_run_gives_all_rows_files_and_pictures(monkeypatch, tmp_path):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((40, 1, 28, 28)).astype(np.float32)
    split = Split(x, rng.integers(10, size=40))
    data = Dataset("fashion_mnist", split, split, split, tuple("0123456789"), "files")
    monkeypatch.setattr(nagel2019, "TRAINING", FineTune(epochs=0))
    monkeypatch.setattr(nagel2019, "for_data", lambda name, data, rng: drawn(
        MODELS[name](channels=1, resolution=28, width=0.125)))
    monkeypatch.setattr(nagel2019, "file_errors", lambda m, path, name: (save(m, path), 7))
    rows = nagel2019.run(data, seeds=[3], log=lambda row: None, n_threads=1, out=tmp_path)
    assert [row["row"] for row in rows] == [
        f"{net}: {what}" for net in NETS
        for what in ("channels, least / median / largest max |w|", *WAYS)]
    assert len(list(tmp_path.glob("*.mcz"))) == 10 and len(list(tmp_path.glob("*.png"))) == 2
    floats = [load(tmp_path / f"nagel-{net}-float-3.mcz") for net in ("as-trained", "constructed")]
    assert not any(node.layer.normalises for m in floats for node in m.nodes)
    want, got = (m(split.x).data for m in floats)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * np.abs(want).max())
    assert PAPERS["nagel2019"] is nagel2019.PAPER
