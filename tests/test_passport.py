import json
import time

import numpy as np
import pytest

from minicomp.codec import save, show
from minicomp.codec.accounting import FILE_PARTS
from minicomp.data import Split
from minicomp.models import MLP, MODELS
from minicomp.nn.forms import Codebook, Dense
from minicomp import passport as module
from minicomp.passport import (
    dense_parts,
    input_zeros,
    milliseconds,
    passport,
    stored_parts,
)


def lenet5(sparsity=0.9):
    model = MODELS["lenet5"](rng=np.random.default_rng(0))
    for name, form in model.forms().items():
        if name.endswith("weight"):
            w = form.value.data
            form.remask(np.abs(w) >= np.quantile(np.abs(w), sparsity))
    return model


@pytest.fixture(scope="module")
def filed(tmp_path_factory):
    # A model and the path of its file.
    model, path = lenet5(), tmp_path_factory.mktemp("passport") / "m.mcz"
    save(model, path)
    return model, path


def split(model, n=20):
    rng = np.random.default_rng(1)
    x = rng.standard_normal((n, *model.input_shape)).astype(np.float32)
    return Split(x, rng.integers(0, 10, n))


def test_counts_by_hand():
    # 4 -> 3 -> 2: 12 + 3 and 6 + 2 numbers; 5 weights of the first and 2 of the second are kept
    model = MLP((4, 3, 2), rng=np.random.default_rng(0))
    first, second = [n for n in model.forms() if n.endswith("weight")]
    model.set_form(first, Dense(np.array([[1, 0, 0, 2], [0, 3, 0, 0], [4, 0, 5, 0]], np.float32)))
    model.set_form(second, Dense(np.array([[0, 1, 0], [0, 0, 2]], np.float32)))
    for name in model.forms():
        if name.endswith("bias"):
            model.set_form(name, Dense(np.ones(model.forms()[name].shape, np.float32)))
    p = passport(model, timed=False)
    assert [(r.weights, r.weight_nonzeros, r.parameters, r.nonzeros) for r in p.layers] == [
        (12, 5, 15, 8),
        (6, 2, 8, 4),
    ]
    assert [(r.macs, r.effective_macs) for r in p.layers] == [(12, 5), (6, 2)]
    assert (p.parameters, p.nonzeros, p.macs, p.effective_macs) == (23, 12, 18, 7)
    assert p.sparsity == pytest.approx(11 / 18) and p.layers[0].sparsity == pytest.approx(7 / 12)
    assert p.file_bytes is None and p.ratio is None and p.error is None and p.ms is None
    assert p.bytes == p.dense_bytes == 92


def test_convolutions_multiply_each_weight_once_a_place():
    # LeNet-5 of Caffe: 24 x 24 places of conv1, 8 x 8 of conv2
    p = passport(lenet5(), timed=False)
    conv1, conv2, *_ = p.layers
    assert (p.parameters, p.macs) == (431080, 2293000)
    assert (conv1.macs, conv2.macs) == (288000, 1600000)
    assert conv1.effective_macs == 576 * conv1.weight_nonzeros
    assert conv2.effective_macs == 64 * conv2.weight_nonzeros


def test_zeros_that_no_mask_names_count_as_zeros():
    # Codebooks whose centroid 0 is 0, and plain values that happen to be 0
    model = MLP((4, 3, 2), rng=np.random.default_rng(0))
    name = next(iter(model.forms()))
    index = np.array([[0, 1, 2, 0], [0, 0, 0, 1], [2, 2, 1, 0]])
    model.set_form(name, Codebook(index, np.array([0, 0.5, -1], np.float32), pinned_zero=True))
    assert passport(model, timed=False).layers[0].weight_nonzeros == 6


def test_every_byte_of_the_file_is_charged_once(tmp_path):
    for name in ("lenet5", "depthwise32"):
        model = lenet5() if name == "lenet5" else MODELS[name](rng=np.random.default_rng(0))
        size = save(model, tmp_path / "m.mcz")
        p = passport(model, path=tmp_path / "m.mcz", timed=False)
        assert p.file_bytes == size == (tmp_path / "m.mcz").stat().st_size
        assert sum(p.parts().values()) == pytest.approx(size, abs=1e-6)
        assert sum(sum(r.bytes.values()) for r in p.layers) + p.rest == pytest.approx(size)
        assert set(p.parts()) == set(FILE_PARTS)
        assert p.ratio == model.origin_bytes / size
        assert (p.parts()["buffers"] > 0) == (name == "depthwise32")
        assert p.parts()["biases"] > 0 and p.parts()["index"] > 0 or name == "depthwise32"


def test_parts_of_a_model_are_those_of_the_file_it_would_be(filed):
    model, path = filed
    assert stored_parts(model) == show(path).by_layer()


def test_dense_parts_are_four_bytes_a_number():
    model = MODELS["depthwise32"](rng=np.random.default_rng(0))
    parts = dense_parts(model)
    assert sum(sum(p.values()) for p in parts.values()) == model.dense_bytes()
    assert parts["stem"]["values"] == 4 * 864 and parts["stem_bn"]["buffers"] == 4 * 64
    assert parts["fc"]["biases"] == 40


def test_input_zeros_are_of_what_enters_the_layer():
    model = MLP((4, 3, 2), rng=np.random.default_rng(0))
    first, second = [n.rsplit(".", 1)[0] for n in model.forms() if n.endswith("weight")]
    model.set_form(
        f"{first}.weight", Dense(np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]], np.float32))
    )
    model.set_form(f"{first}.bias", Dense(np.zeros(3, np.float32)))
    x = np.array([[1, -1, 0, 0], [2, 3, -4, 1]], np.float32)
    # inputs: 2 of 8 are 0; after ReLU 1, 0, 0 and 2, 3, 0: 3 of 6
    assert input_zeros(model, x) == {first: 2 / 8, second: 3 / 6}
    assert input_zeros(model, x, batch_size=1) == input_zeros(model, x)
    assert input_zeros(model, x, limit=1) == {first: 2 / 4, second: 2 / 3}


def test_errors_are_counted_or_taken():
    model = lenet5()
    data = split(model)
    wrong = int((model(data.x).data.argmax(axis=1) != data.y).sum())
    p = passport(model, data=data, timed=False)
    assert (p.errors, p.size, p.error) == (wrong, 20, wrong / 20)
    assert passport(model, data=data, errors=3, timed=False).errors == 3
    assert all(r.input_zeros is not None for r in p.layers)


def test_milliseconds_are_medians_of_calls_in_turn(monkeypatch):
    # A clock that says how long each call takes: 1, 2, 9, ... ms for one, 4 ms for the other.
    now, order = [0.0], []
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    spans = iter([0, 0, 1, 2, 9, 3, 2])

    def run(x):
        order.append("run")
        now[0] += 1e-3 * next(spans)

    def other(x):
        order.append("other")
        now[0] += 4e-3

    ms, ms_dense = milliseconds(run, other, np.zeros((1, 2)), seconds=0.01)
    assert ms == pytest.approx(2.0) and ms_dense == pytest.approx(4.0)
    assert order == ["run", "other"] * 7  # two of each are warm-up


def test_timing_runs_on_a_real_model_and_can_be_left_out():
    model = lenet5()
    start = time.perf_counter()
    p = passport(model, run=lambda x: time.sleep(0.002))
    assert p.ms > 1.9 and 0 < p.ms_dense < 1000 and time.perf_counter() - start < 5
    assert passport(model, timed=False).ms is None


def test_rows_fit_the_headers_and_end_in_the_totals(filed):
    model, path = filed
    for p in (passport(model, timed=False), passport(model, path=path, timed=False)):
        rows = p.rows()
        assert all(len(row) == len(p.headers()) for row in rows)
        assert rows[-1][0] == "total"
        column = p.headers().index("bytes")
        assert rows[-1][column] == round(p.bytes)
        # every row is rounded to a byte
        assert sum(row[column] for row in rows[:-1]) == pytest.approx(p.bytes, abs=len(rows))
    assert rows[-2][0] == "rest of the file"


def test_summary_says_what_was_taken(filed):
    model, path = filed
    plain = passport(model, timed=False).summary()
    assert "431,080 parameters" in plain and "1,724,320 bytes as float32" in plain
    assert "errors" not in plain and "ms" not in plain
    full = passport(model, path=path, data=split(model), errors=7).summary()
    assert (
        "bytes in the file" in full
        and "7 errors of 20 (35.00 %)" in full
        and " ms an image" in full
    )


def test_json_holds_everything(filed):
    model, path = filed
    p = passport(model, path=path, data=split(model))
    again = json.loads(json.dumps(p.to_dict(), allow_nan=False))
    assert again["file_bytes"] == p.file_bytes and again["layers"][0]["name"] == "conv1"
    assert again["layers"][0]["bytes"] == p.layers[0].bytes and again["error"] == p.error


def test_a_damaged_file_is_refused(filed, tmp_path):
    from minicomp.errors import FormatError

    path = tmp_path / "m.mcz"
    path.write_bytes(filed[1].read_bytes()[:-30])
    with pytest.raises(FormatError):
        passport(filed[0], path=path, timed=False)


def test_milliseconds_are_of_plans_that_skip_zeros_and_that_do_not(monkeypatch):
    monkeypatch.setattr("minicomp.deploy.choose._vectors", lambda isa: True)
    calls = []
    monkeypatch.setattr(module, "milliseconds", lambda *args: calls.append(args) or (1.0, 2.0))
    model = lenet5()
    assert passport(model).ms == 1.0
    ((run, other, x),) = calls
    assert set(other.layouts.values()) == {"dense"} and run.layouts["fc1"] == "lanes"
    assert run.batch == other.batch == len(x) == 1
    np.testing.assert_allclose(run(x), model(x).data, rtol=1e-4, atol=1e-6)
