"""What of a training is written, and that nothing else is read: sizes and types come first."""

import io
import json
import tracemalloc
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest

from minicomp.checkpoint import differing, fingerprint
from minicomp.data.dataset import Split
from minicomp.errors import UserError
from minicomp.models import MLP
from minicomp.optim import SGD
from minicomp.train import fit


def blobs(n=24):
    rng = np.random.default_rng(0)
    split = Split(rng.standard_normal((n, 8)).astype(np.float32), np.arange(n) % 3)
    return SimpleNamespace(train=split, val=split)


def trained(folder, given=None, **kw):
    model = kw.pop("model", None) or MLP([8, 5, 3], rng=np.random.default_rng(kw.pop("start", 0)))
    rng = kw.pop("rng", None) or np.random.default_rng(1)
    return fit(model, given or blobs(), epochs=2, checkpoint=folder, rng=rng,
               optimizer=SGD(model.parameters(), lr=0.1), **kw)


@pytest.fixture
def there(tmp_path):
    trained(tmp_path, keep_best=True)
    return tmp_path / "fit.npz"


def refused(path, words):
    with pytest.raises(UserError, match=f"checkpoint {path} cannot be used: .*{words}.*; delete it "
                                        "to start again") as e:
        trained(path.parent, keep_best=True)
    assert len(str(e.value)) < 1500 and "\n" not in str(e.value)


def changed(path, **arrays):
    # Writes the file again with other arrays; None leaves one out.
    with np.load(path) as f:
        every = dict(f) | {k.replace("__", "/"): v for k, v in arrays.items()}
    np.savez(path, **{k: v for k, v in every.items() if v is not None})


def noted(path, **more):
    with np.load(path) as f:
        notes = json.loads(f["notes"].tobytes())
    text = json.dumps(notes | more)
    changed(path, notes=np.frombuffer(text.encode(), np.uint8))


EPOCH = {"epoch": 1, "loss": 1.0, "val_errors": 1, "val_size": 1, "lr": 0.1, "seconds": 0.0}


@pytest.mark.parametrize("more, words", [
    ({"spawned": 5_000_000}, r"spawned must be in \[0, 2\], got 5000000"),
    ({"spawned": -1}, "rng has drawn since"),
    ({"spawned": 1.5}, "spawned must be in"),
    ({"spawned": True}, "spawned must be in"),
    ({"step": 3}, "its step must be 2, got 3"),
    ({"step": "2"}, "its step must be 2, got 2"),
    ({"history": [EPOCH] * 3}, "a list of at most 2 epochs"),
    ({"history": {"a": 1}}, "a list of at most 2 epochs"),
    ({"history": [1, 2]}, "an epoch of its history must have epoch, loss"),
    ({"history": [EPOCH, EPOCH | {"loss": "x"}]}, "loss of an epoch must be a number, got x"),
    ({"history": [EPOCH, EPOCH | {"val_errors": 1.5}]}, "val_errors of an epoch must be a number"),
    ({"history": [EPOCH, EPOCH | {"seconds": 10**400}]}, "seconds of an epoch must be a number"),
    ({"rng": {}}, "state of the generator is of another kind"),
    ({"rng": None}, "state of the generator is of another kind"),
    ({"rng": [[]] * 9}, "state of the generator is of another kind"),
    ({"run": None}, "of another run"),
    ({"run": {"lr": 0.1}}, "of another run"),
    ({"more": 1}, "its note must be a JSON object of history"),
])
def test_a_note_must_be_of_this_training(there, more, words):
    noted(there, **more)
    refused(there, words)


@pytest.mark.parametrize("field, value", [("state", 2**128), ("inc", -1), ("state", "1"),
                                          ("inc", None), ("state", True)])
def test_a_state_of_the_generator_is_within_its_words(there, field, value):
    state = np.random.default_rng(0).bit_generator.state
    state["state"][field] = value
    noted(there, rng=state)
    refused(there, "state of the generator is of another kind")


@pytest.mark.parametrize("text", ["[]", "1", '{"a": NaN}', "[" * 100_000, "9" * 5000, "{", ""])
def test_a_note_that_is_no_json_object(there, text):
    changed(there, notes=np.frombuffer(text.encode(), np.uint8))
    refused(there, "")


@pytest.mark.parametrize("arrays, words", [
    ({"model__fc1.weight": None}, "missing model/fc1.weight"),
    ({"extra": np.zeros(3)}, "unexpected extra"),
    ({"best__model__fc1.weight": None}, "missing best/model/fc1.weight"),
    ({"model__fc1.weight": np.zeros((5, 9), np.float32)},
     r"fc1.weight must have shape \(5, 8\), got \(5, 9\)"),
    ({"model__fc1.bias": np.zeros(5)}, "fc1.bias must hold float32, got float64"),
    ({"optimizer__lr": np.zeros(1)}, r"lr must have shape \(\), got \(1,\)"),
    ({"model__fc1.bias": np.zeros(40_000, np.float32)}, "bytes"),
    ({"notes": np.zeros(3)}, "its note must be bytes, got float64"),
    ({"notes": None}, "notes"),
])
def test_names_shapes_and_types_come_from_the_directory(there, arrays, words):
    changed(there, **arrays)
    refused(there, words)


def test_a_deflated_entry_is_refused_before_it_is_read(there):
    # Zeros that inflate to a hundred times the model: no byte of them is inflated.
    with zipfile.ZipFile(there) as old:
        entries = {e.filename: old.read(e) for e in old.infolist()}
    out = io.BytesIO()
    np.save(out, np.zeros(4_000_000, np.float32))
    entries["model/fc1.bias.npy"] = out.getvalue()
    with zipfile.ZipFile(there, "w", zipfile.ZIP_DEFLATED) as new:
        for name, raw in entries.items():
            new.writestr(name, raw, zipfile.ZIP_STORED if name == "notes.npy" else None)
    assert there.stat().st_size < 50_000
    tracemalloc.start()
    refused(there, "must be stored as at most")
    assert tracemalloc.get_traced_memory()[1] < 3_000_000
    tracemalloc.stop()


def test_a_header_that_declares_more_than_the_entry_holds(there):
    with zipfile.ZipFile(there) as old:
        entries = {e.filename: old.read(e) for e in old.infolist()}
    huge = entries["model/fc1.weight.npy"].replace(b"(5, 8), ", b"(9999999999, 8), ")
    entries["model/fc1.weight.npy"] = huge
    with zipfile.ZipFile(there, "w") as new:
        for name, raw in entries.items():
            new.writestr(name, raw)
    refused(there, "")


def test_a_file_larger_than_the_training_is_not_opened(there):
    with open(there, "r+b") as f:
        f.truncate(2**31)  # takes no room on the disk
    refused(there, r"it must take at most [\d,]+ bytes, got 2,147,483,648")


def test_any_byte_may_be_wrong(there):
    # Whatever is altered, it is the training of before or one clear error.
    raw, rng, whole = there.read_bytes(), np.random.default_rng(0), trained(there.parent,
                                                                           keep_best=True)
    for _ in range(100):
        spoilt = bytearray(raw)
        for at in rng.integers(len(raw), size=rng.integers(1, 4)):
            spoilt[at] = rng.integers(256)
        there.write_bytes(spoilt[:rng.integers(len(raw))] if rng.random() < 0.2 else spoilt)
        try:
            assert trained(there.parent, keep_best=True) == whole
        except UserError:
            pass


@pytest.mark.parametrize("kw, words", [
    ({"start": 1}, "start is another one there"),
    ({"given": blobs(128)}, "steps is 2 there, not"),
    ({"batch_size": 32}, "settings batch_size is 64 there, not 32"),
    ({"label_smoothing": 0.1}, "settings label_smoothing is 0.0 there, not 0.1"),
    ({"n_threads": 2}, "threads is 1 there, not 2"),
    ({"keep_best": True}, "settings keep_best is false there, not true"),
])
def test_a_training_of_anything_else_is_refused(tmp_path, kw, words):
    trained(tmp_path)
    with pytest.raises(UserError, match=f"of another run: .*{words}"):
        trained(tmp_path, **kw)


def test_one_other_pixel_or_label_is_another_run(tmp_path):
    trained(tmp_path)
    for part in ("x", "y"):
        given = blobs()
        getattr(given.train, part).reshape(-1)[3] += 1
        with pytest.raises(UserError, match="data is another one there"):
            trained(tmp_path, given)


def test_another_version_is_another_run(tmp_path, monkeypatch):
    trained(tmp_path)
    monkeypatch.setattr("minicomp.checkpoint.__version__", "99")
    with pytest.raises(UserError, match="minicomp is .* there, not 99"):
        trained(tmp_path)


def test_what_was_logged_comes_back(tmp_path):
    whole = trained(tmp_path)
    rows = []
    assert trained(tmp_path, log=rows.append) == whole  # the seconds too
    assert rows == [{"event": "resumed", "rows": [{"event": "epoch", "epochs": 2, **row}
                                                  for row in whole]}]


def test_a_fingerprint_tells_shapes_types_and_ends_apart():
    a = np.arange(6, dtype=np.int32)
    seen = [fingerprint(*each) for each in (
        (a,), (a.reshape(2, 3),), (a.astype(np.uint32),), (a[:3], a[3:]), (a[::-1],), ("a", "b"),
        ("ab",), ("a", b"b"), ({"a": 1},), ({"a": 1.5},), (None,), ())]
    assert len(set(seen)) == len(seen)
    assert fingerprint(a[::2]) == fingerprint(a[::2].copy())


def test_differences_are_words():
    assert differing({"lr": 0.1, "knobs": {"bits": 2}, "old": 1}, {"lr": 0.1, "knobs": {"bits": 3}}
                     ) == ["knobs bits is 2 there, not 3", "old is 1 there, not missing"]
