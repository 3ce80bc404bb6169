# Nets that other frameworks trained and wrote (tests/data/make_onnx.py): their outputs are those of
# onnxruntime, codes and scales those of the file.
from pathlib import Path

import numpy as np
import pytest
from minicomp import load, save
from minicomp.deploy import lower
from minicomp.exchange.onnx_import import load_onnx
from minicomp.nn.layers import ActQuant

onnx = pytest.importorskip("onnx")
pytestmark = pytest.mark.peers

FOLDER = Path(__file__).parents[2] / "data" / "onnx"
FLOATS = sorted(p.stem for p in FOLDER.glob("*.onnx")
                if p.stem.startswith(("torch", "keras", "sklearn")))
CODES = sorted(p.stem for p in FOLDER.glob("*.onnx") if p.stem not in FLOATS)
X = np.random.default_rng(0).random((12, 1, 8, 8), np.float32)


def session(name):
    import onnxruntime as runtime

    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    return runtime.InferenceSession(FOLDER / f"{name}.onnx", options)


def theirs(name):
    # All outputs; the input in the order that the graph has.
    run = session(name)
    (given,) = run.get_inputs()
    x = X.transpose(0, 2, 3, 1) if given.shape[-1] == 1 else X
    if len(given.shape) == 2:
        x = x.reshape(len(x), -1)
    if given.shape[0] == 1:
        return [np.concatenate(a) for a in zip(*(run.run(None, {given.name: x[i : i + 1]})
                                                 for i in range(len(x))))]
    return run.run(None, {given.name: x})


def ours(model):
    return model(X.reshape(len(X), *model.input_shape)).data


def softmax(y):
    e = np.exp(y - y.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def test_there_are_files_of_every_framework():
    found = {name.split("_")[0] for name in FLOATS + CODES}
    assert found == {"torch", "sklearn", "keras", "ort", "brevitas", "nncf"}, found
    assert all(p.stat().st_size < 100_000 for p in FOLDER.iterdir())


@pytest.mark.parametrize("name", [n for n in FLOATS if n != "sklearn_mlp"])
def test_floats_are_those_of_onnxruntime(name):
    found = load_onnx(FOLDER / f"{name}.onnx")
    y, wanted = ours(found.model), theirs(name)[0]
    if any("Softmax" in note for note in found.notes):
        y = softmax(y)
    np.testing.assert_allclose(y, wanted, rtol=0, atol=1e-5 * max(1, np.abs(wanted).max()))
    kinds = [node.layer.kind for node in found.model.nodes]
    assert "Normalize" == kinds[0] or "torch_lenet" not in name
    assert "BatchNorm2d" not in kinds or name == "keras_tf2onnx"  # else folded, or a bias


def test_a_classifier_of_scikit_learn_is_cut_behind_its_logits():
    found = load_onnx(FOLDER / "sklearn_mlp.onnx")
    labels, probabilities = theirs("sklearn_mlp")
    y = ours(found.model)
    np.testing.assert_array_equal(y.argmax(axis=1), labels)
    wanted = np.array([[row[i] for i in range(10)] for row in probabilities])
    np.testing.assert_allclose(softmax(y), wanted, atol=1e-6)
    assert "cut off behind the logits: Softmax, ArgMax" in found.notes[0]
    assert [n.layer.kind for n in found.model.nodes] == ["Linear", "ReLU"] * 2 + ["Linear"]
    again = load_onnx(FOLDER / "sklearn_mlp.onnx", input_shape=(1, 8, 8)).model
    assert again.input_shape == (1, 8, 8) and again.nodes[0].layer.kind == "Flatten"
    np.testing.assert_array_equal(ours(again), y)


@pytest.mark.parametrize("name", CODES)
def test_quantized_nets_give_the_numbers_of_onnxruntime(name):
    # exactly, but for sums of floats in another order, which seldom turn a code
    found = load_onnx(FOLDER / f"{name}.onnx")
    y, wanted = ours(found.model), theirs(name)[0]
    grids = [n.layer for n in found.model.nodes if isinstance(n.layer, ActQuant)]
    step = 0 if not grids or grids[-1].dynamic else grids[-1].scale
    assert grids and np.abs(y - wanted).max() <= max(1.001 * step, 1e-5 * np.abs(wanted).max())
    np.testing.assert_array_equal(y.argmax(axis=1), wanted.argmax(axis=1))


@pytest.mark.parametrize("name", CODES)
def test_codes_and_scales_are_those_of_the_file(name, tmp_path):
    model = load_onnx(FOLDER / f"{name}.onnx").model
    arrays = {t.name: onnx.numpy_helper.to_array(t)
              for t in onnx.load(FOLDER / f"{name}.onnx").graph.initializer}
    codes = {a.astype(np.int64).tobytes() for a in arrays.values() if a.dtype.kind in "iu"}
    codes |= {a.astype(np.int64).T.tobytes() for a in arrays.values() if a.ndim == 2}
    scales = {a.reshape(-1).tobytes() for a in arrays.values() if a.dtype == np.float32}
    weights = [f for f in model.forms().values() if f.kind == "affine"]
    assert weights
    for form in weights:
        plain, scale = form.q.astype(np.int64), form.scale.data.reshape(-1)
        if name.startswith("ort"):  # NNCF and brevitas keep them as constants of nodes
            assert plain.tobytes() in codes or (plain + 128).tobytes() in codes
            assert scale.tobytes() in scales
    save(model, tmp_path / "m.mcz")
    np.testing.assert_array_equal(ours(load(tmp_path / "m.mcz")), ours(model))


@pytest.mark.parametrize("name", [n for n in CODES if "dynamic" not in n])
def test_quantized_nets_become_integer_programs(name):
    model = load_onnx(FOLDER / f"{name}.onnx").model
    y, wanted = lower(model, precision="int8")(X), ours(model)
    assert np.abs(y - wanted).max() < 0.05 * np.abs(wanted).max()


def test_one_net_in_both_forms_of_onnxruntime_is_one_net():
    for net in ("lenet", "mobilenet"):
        one, other = (load_onnx(FOLDER / f"ort_{net}_{form}.onnx").model
                      for form in ("qdq", "qoperator"))
        np.testing.assert_array_equal(ours(one), ours(other))
        assert [n.layer.kind for n in one.nodes] == [n.layer.kind for n in other.nodes]
