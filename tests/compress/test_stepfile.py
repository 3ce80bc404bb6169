import json

import numpy as np
import pytest

from minicomp.compress import stepfile
from minicomp.errors import UserError
from minicomp.models import MLP

OF = {"step": "toy", "knobs": {"bits": 2}}
ROW = {"event": "epoch", "epochs": 2, "epoch": 1, "loss": 0.5, "val_errors": 3, "val_size": 9,
       "lr": 0.1, "seconds": 2.0}


def net():
    return MLP([4, 3, 2], rng=np.random.default_rng(0)).frozen()


@pytest.fixture
def path(tmp_path):
    stepfile.write(tmp_path / "in" / "01-toy.step", OF, net(), [ROW], 7.0)
    return tmp_path / "in" / "01-toy.step"


def test_what_is_kept_comes_back(path):
    model, rows, seconds = stepfile.read(path, OF)
    assert rows == [ROW] and seconds == 7.0
    for name, a in net().state_dict().items():
        np.testing.assert_array_equal(model.state_dict()[name], a, strict=True)


def test_a_step_is_made_once_and_what_it_logged_comes_back(tmp_path):
    path, made, rows = tmp_path / "01-toy.step", [], []

    def make(log):
        made.append(1)
        log({"event": "resumed", "rows": [ROW]})  # a training taken up in its middle
        log(ROW | {"epoch": 2})
        log({"event": "progress"})
        return net()
    first, seconds = stepfile.kept(path, OF, make, lambda row: None)
    again, same = stepfile.kept(path, OF, make, rows.append)
    assert made == [1] and same == seconds >= 2.0  # those of the epochs before count
    assert rows == [{"event": "resumed", "rows": [ROW, ROW | {"epoch": 2}]}]
    stepfile.kept(None, OF, make, rows.append)
    assert made == [1, 1]


def test_a_step_of_something_else_is_refused(path):
    with pytest.raises(UserError, match=f"checkpoint {path} cannot be used: it is of another run: "
                                        "knobs bits is 2 there, not 3; delete it to start again"):
        stepfile.read(path, {"step": "toy", "knobs": {"bits": 3}})


def line(**more):
    return lambda raw: json.dumps(json.loads(raw.split(b"\n", 1)[0]) | more).encode() + (
        b"\n" + raw.split(b"\n", 1)[1])


@pytest.mark.parametrize("spoil, words", [
    (lambda raw: b"", ""),
    (lambda raw: raw[:-9], ""),
    (lambda raw: b"[]\n" + raw, "no step of a run"),
    (lambda raw: b"[" * 100_000, ""),
    (lambda raw: raw.split(b"\n", 1)[1], ""),  # a net alone does not say of which step it is
    (line(of=[1]), "of another run"),
    (line(rows=[ROW | {"epochs": "2"}]), "each of its rows must have"),
    (line(rows=[{"event": "epoch"}]), "each of its rows must have"),
    (line(rows="x"), "its rows must be a list"),
    (line(rows=[ROW | {"loss": None}]), "loss of an epoch must be a number"),
    (line(seconds="7"), "its seconds must be a number"),
    (line(file="other"), "no step of a run"),
])
def test_a_damaged_file_is_one_error(path, spoil, words):
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(UserError, match=f"checkpoint {path} cannot be used: .*{words}.*; delete it "
                                        "to start again") as e:
        stepfile.read(path, OF)
    assert len(str(e.value)) < 1500


def test_a_net_that_is_too_large_is_not_read(path, monkeypatch):
    monkeypatch.setattr(stepfile, "NET", 50)
    with pytest.raises(UserError, match="its net must take at most 50 bytes"):
        stepfile.read(path, OF)
