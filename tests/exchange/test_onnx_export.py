# ONNX files as onnxruntime runs them, at every level of optimisation, beside our own results.
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest

from minicomp import data, save
from minicomp.cli import main
from minicomp.compress import PTQ, KMeans, Magnitude, Run
from minicomp.compress.quant.nodes import with_grids
from minicomp.deploy import lower
from minicomp.deploy.integer import instructions
from minicomp.errors import UserError
from minicomp.exchange.onnx_export import FORMATS, export
from minicomp.kernels.int8.conv import conv_ref
from minicomp.kernels.int8.gemm import gemm_ref
from minicomp.kernels.int8.pool import avg_pool_ref, max_pool_ref
from minicomp.kernels.int8.requantize import requantize_ref
from minicomp.kernels.int8.wiring import add_ref
from minicomp.models import MODELS, LeNet5Classic
from minicomp.nn import layers as nn
from minicomp.nn.forms import Affine, Dense
from minicomp.nn.graph import Model, Node, chain
from minicomp.tensor import raw

NETS_OF_README = Path(__file__).parents[1] / "data" / "nets"
LEVELS = ("DISABLE_ALL", "ENABLE_BASIC", "ENABLE_EXTENDED", "ENABLE_ALL")
INTEGERS = ("qdq", "qoperator")


def rng(seed=0):
    return np.random.default_rng(seed)


def drawn(model, seed=1):
    # Weights, biases and running statistics as of a trained net.
    r = rng(seed)
    for name, form in model.forms().items():
        w = r.normal(size=form.shape).astype(np.float32)
        model.set_form(name, Dense(w / math.sqrt(w[0].size)))
    for name, a in model.buffers().items():
        a[...] = r.uniform(0.5, 1.5, a.shape) if name.endswith(("var", "ceiling")) else (
            r.normal(size=a.shape))
    return model


def images(model, n=16, seed=0):
    return rng(seed).normal(size=(n, *model.input_shape)).astype(np.float32)


def quantized(model, **knobs):
    # With a grid of its own behind what an integer program looks up a function of.
    x = images(model, 64)
    model = PTQ(**knobs).quantized(model.copy(), x, None)
    grids = {}
    for node in model.nodes:
        if node.layer.kind in ("Sigmoid", "Tanh") and knobs.get("mode", "full") == "full":
            y = model(x, taps=node.inputs)[1][node.inputs[0]].data
            grids[node.inputs[0]] = nn.ActQuant(8, "full", zero_point=True)
            grids[node.inputs[0]].set_range(y.min(), y.max())
    return with_grids(model, grids)


def session(path, level, outputs=()):
    ort, onnx = pytest.importorskip("onnxruntime"), pytest.importorskip("onnx")
    model = onnx.load(path)
    onnx.checker.check_model(model)
    for name in outputs:
        model.graph.output.add().name = name
    options = ort.SessionOptions()
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, f"ORT_{level}")
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    options.add_session_config_entry("session.x64quantprecision", "1")
    return ort.InferenceSession(model.SerializeToString(), options,
                                providers=["CPUExecutionProvider"])


def run(path, x, level):
    return session(path, level).run(None, {"x": x})[0]


def head(layers, shape, classes=4):
    # The layers, and a linear layer that gives logits.
    size = math.prod(Model(chain(*layers), input_shape=shape).shapes()[layers[-1][0]])
    flat = () if len(shape) == 1 or layers[-1][0] == "flatten" else (("flatten", nn.Flatten()),)
    return drawn(Model(chain(*layers, *flat, ("fc", nn.Linear(size, classes))), input_shape=shape))


def small(*layers, shape=(3, 9, 7)):
    return head([(f"l{i}", layer) for i, layer in enumerate(layers)], shape)


def joined(join, *inputs, after=()):
    nodes = chain(("stem", nn.Conv2d(3, 4, 3, padding=1)), ("relu", nn.ReLU()))
    nodes += (Node("left", nn.Conv2d(4, 4, 3, padding=1), ("relu",)),
              Node("right", nn.Conv2d(4, 4, 1), ("relu",)), Node("join", join, inputs))
    nodes += chain(*after, ("flatten", nn.Flatten()), source="join")
    size = math.prod(Model(nodes, input_shape=(3, 6, 5)).shapes()["flatten"])
    return drawn(Model(nodes + (Node("fc", nn.Linear(size, 4), ("flatten",)),),
                       input_shape=(3, 6, 5)))


def turned():
    # A batch norm whose gains are below 0 and 0, behind a convolution and behind a linear layer.
    model = small(nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(),
                  nn.Linear(210, 5), nn.BatchNorm1d(5))
    for name in ("l1", "l5"):
        model.node(name).layer.forms["weight"] = Dense(
            np.array([-1, 0, 0.5, -0.1, 2, 1][:model.node(name).layer.num_features], np.float32))
    return model


NETS = {
    "linear": lambda: small(nn.Linear(9, 7), nn.ReLU(), nn.Linear(7, 6), shape=(9,)),
    "conv": lambda: small(nn.Conv2d(3, 5, 3, padding=1), nn.ReLU()),
    "strided": lambda: small(nn.Conv2d(3, 5, (3, 2), stride=(2, 1), padding=(0, 1))),
    "groups": lambda: small(nn.Conv2d(3, 6, 1), nn.Conv2d(6, 8, 3, groups=2), nn.ReLU6()),
    "depthwise": lambda: small(nn.Conv2d(3, 3, 3, padding=1, groups=3), nn.ReLU(),
                               nn.Conv2d(3, 8, 1)),
    "batch norm": lambda: small(nn.Conv2d(3, 5, 3, bias=False), nn.BatchNorm2d(5), nn.ReLU6()),
    "gains": turned,
    "normalize": lambda: small(nn.Normalize("cifar10"), nn.Conv2d(3, 4, 3)),
    "max pool": lambda: small(nn.Conv2d(3, 4, 3), nn.MaxPool2d(3, 2, 1, ceil_mode=True)),
    "max pool, ceil": lambda: small(nn.Conv2d(3, 4, 2), nn.MaxPool2d(3, 2, ceil_mode=True)),
    "avg pool": lambda: small(nn.Conv2d(3, 4, 3), nn.AvgPool2d(3, 2, 1)),
    "global": lambda: small(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1)),
    "cells": lambda: small(nn.Conv2d(3, 4, 2), nn.AdaptiveAvgPool2d((4, 2))),
    "add": lambda: joined(nn.Add(), "left", "relu"),
    "add, relu": lambda: joined(nn.Add(), "left", "right", after=[("relu2", nn.ReLU())]),
    "add of three": lambda: joined(nn.Add(), "left", "relu", "right"),
    "concat": lambda: joined(nn.Concat(), "left", "relu", "right"),
    "shuffle": lambda: small(nn.Conv2d(3, 6, 3), nn.ChannelShuffle(3)),
    "sigmoid": lambda: small(nn.Conv2d(3, 6, 3), nn.Sigmoid()),
    "tanh": lambda: small(nn.Conv2d(3, 6, 3), nn.Tanh(), nn.AvgPool2d(2)),
    "clip": lambda: small(nn.Conv2d(3, 6, 3), nn.ClipChannels.of(np.linspace(0.1, 2, 6)),
                          nn.MaxPool2d(2)),
    "conv at the end": lambda: drawn(Model(chain(
        ("c1", nn.Conv2d(3, 4, 3)), ("relu", nn.ReLU()), ("c2", nn.Conv2d(4, 5, 1, bias=False))),
        input_shape=(3, 5, 5))),
    "average at the end": lambda: drawn(Model(chain(
        ("c1", nn.Conv2d(3, 4, 3)), ("relu", nn.ReLU()), ("pool", nn.AdaptiveAvgPool2d(1)),
        ("flatten", nn.Flatten())), input_shape=(3, 5, 5))),
}
FLOATS = NETS | {
    "sign": lambda: small(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Sign(), nn.Conv2d(6, 4, 1),
                          nn.ShiftBatchNorm2d(4)),
    "sums of signs": lambda: small(nn.Conv2d(3, 6, 3), nn.BinarySum(3), nn.Conv2d(6, 4, 1)),
    "scales of inputs": lambda: drawn(Model((
        *chain(("c1", nn.Conv2d(3, 6, 3)), ("sign", nn.Sign()),
               ("c2", nn.Conv2d(6, 4, (3, 2), 2, 1, bias=False))),
        Node("scale", nn.InputScale(4, (3, 2), 2, 1), ("c2", "c1")),
        Node("bn", nn.BatchNorm2d(4), ("scale",)),
        *chain(("flatten", nn.Flatten()), ("fc", nn.Linear(64, 5, bias=False)), source="bn"),
        Node("last", nn.InputScale(5), ("fc", "bn"))), input_shape=(3, 9, 8))),
    "cells of unequal size": lambda: small(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d((3, 2))),
    "avg pool, ceil": lambda: small(nn.AvgPool2d((4, 3), 2, 1, ceil_mode=True)),
    "sparse activations": lambda: small(nn.ActThreshold(0.4), nn.ActTopK(50)),
    "few entries": lambda: small(nn.ActTopK(200)),
    "nothing": lambda: Model((), input_shape=(3,)),
}


# ------------------------------------------------------------------------------------------- floats


@pytest.mark.peers
@pytest.mark.parametrize("name", FLOATS)
def test_floats_are_ours_at_every_level(name, tmp_path):
    model = FLOATS[name]()
    report = export(model, tmp_path / "g.onnx")
    assert report.format == "float" and not report.decoded
    assert report.bytes == (tmp_path / "g.onnx").stat().st_size
    for n in (1, 5):
        x, y = images(model, n), model(images(model, n)).data
        for level in LEVELS:
            got = run(tmp_path / "g.onnx", x, level)
            assert got.shape == y.shape and np.abs(got - y).max() <= 1e-5 * np.abs(y).max(), level


@pytest.mark.peers
@pytest.mark.parametrize("name", MODELS)
def test_built_in_nets_pruned_and_shared_are_written_dense(name, tmp_path, built_in):
    known = "mnist" if name.startswith("lenet") else "cifar10"
    model = drawn(built_in(name, normalize=known))
    model = Magnitude(sparsity=0.5).apply(model, None, Run(rng()))
    model = KMeans(bits=4).apply(model, None, Run(rng()))
    report = export(lower(model), tmp_path / "g.onnx")
    weights = {node.name + ".weight" for node in model.nodes if node.layer.coupling == "mix"}
    assert set(report.decoded) == weights and "Codebook" in report.decoded[min(weights)]
    x = rng().random((3, *model.input_shape), dtype=np.float32)
    y = model(x).data
    for level in LEVELS:
        assert np.abs(run(tmp_path / "g.onnx", x, level) - y).max() <= 1e-5 * np.abs(y).max()


@pytest.mark.peers
def test_the_graph_says_its_versions_and_the_bytes_are_the_same_again(tmp_path):
    onnx = pytest.importorskip("onnx")
    model = quantized(NETS["add"]())
    for format in INTEGERS:
        for name in ("a.onnx", "b.onnx"):
            report = export(model, tmp_path / name, format=format)
        assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
        graph = onnx.load(tmp_path / "a.onnx")
        assert (graph.ir_version, graph.opset_import[0].version) == (9, 19)
        assert len(graph.opset_import) == (1 if format == "qdq" else 2)
        assert graph.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"
        assert report.nodes == len(graph.graph.node) and report.format == format
        onnx.checker.check_model(graph, full_check=format == "qdq")
    assert export(model, tmp_path / "a.onnx").format == "qdq"


@pytest.mark.peers
@pytest.mark.parametrize("knobs", [{}, {"grid": "unsigned"}, {"per": "tensor", "bits": 4}])
def test_weights_alone_on_grids_stay_codes_and_the_rest_floats(knobs, tmp_path):
    # Gemm with transB = 1: of others the default session quantizes the activations too
    onnx = pytest.importorskip("onnx")
    model = quantized(turned(), mode="weight-only", **knobs)
    report = export(model, tmp_path / "g.onnx", format="qdq")
    kinds = {a.name: a.data_type for a in onnx.load(tmp_path / "g.onnx").graph.initializer}
    held = onnx.TensorProto.UINT8 if "grid" in knobs else onnx.TensorProto.INT8
    assert [kinds[f"{n}.weight.codes"] for n in ("l0", "l4", "fc")] == [held] * 3
    assert bool(report.decoded) == ("bits" in knobs)
    x, y = images(model), model(images(model)).data
    for level in LEVELS:
        assert np.abs(run(tmp_path / "g.onnx", x, level) - y).max() <= 1e-5 * np.abs(y).max()
    assert set(export(model, tmp_path / "g.onnx").decoded) == {
        "l0.weight", "l4.weight", "fc.weight"}


# ----------------------------------------------------------------------------------------- integers


def computed(i, *xs):
    # What an instruction gives, by the references: codes of maps as (N, C, H, W).
    a, last = i.arrays, (0, 2, 3, 1)
    maps = [x.transpose(last) if x.ndim == 4 else x for x in xs]
    if i.kind == "linear":
        y = gemm_ref(maps[0], a["weight"], a["offset"])
    elif i.kind == "conv":
        how = {k: i.args[k] for k in ("stride", "padding", "groups", "zero_point")}
        y = conv_ref(maps[0], np.ascontiguousarray(a["weight"].transpose(last)), a["offset"], **how)
    elif i.kind in ("max_pool", "avg_pool"):
        how = {k: tuple(i.args[k]) for k in ("stride", "padding", "count")}
        how["kernel"] = tuple(i.args["kernel_size"])
        if i.kind == "max_pool":
            y = max_pool_ref(maps[0], **how)
        else:
            y = avg_pool_ref(maps[0], a["requantizer"], zero_point=i.args["zero_point"], **how)
    elif i.kind == "add":
        y = add_ref(maps, a["adder"])
    elif i.kind == "concat":
        y = np.concatenate([t[x] for t, x in zip(a["tables"], maps)], axis=-1)
    elif i.kind == "table":
        y = a["table"][maps[0]]
    elif i.kind == "flatten":
        return xs[0].reshape(len(xs[0]), -1)
    elif i.kind == "shuffle":
        n, c, h, w = xs[0].shape
        g = i.args["groups"]
        return xs[0].reshape(n, g, c // g, h, w).swapaxes(1, 2).reshape(n, c, h, w)
    if i.kind in ("conv", "linear") and i.grid is not None:
        y = requantize_ref(y, a["requantizer"])
    return y.transpose(0, 3, 1, 2) if y.ndim == 4 else y


def constants(path):
    onnx = pytest.importorskip("onnx")
    return [(a.name, onnx.numpy_helper.to_array(a)) for a in onnx.load(path).graph.initializer]


def seen(path, x, level, made):
    # {instruction: the codes that onnxruntime has for it}, and the logits.
    onnx = pytest.importorskip("onnx")
    there = {name for node in onnx.load(path).graph.node for name in node.output}
    names = {}
    for i in made:
        found = [name for name in (f"{i.name}.clip", i.name) if name in there]
        if i.grid is not None and found:
            names[i.name] = found[0]
    logits, *codes = session(path, level, names.values()).run(None, {"x": x})
    return dict(zip(names, codes)), logits


@pytest.mark.peers
@pytest.mark.parametrize("format", INTEGERS)
@pytest.mark.parametrize("name", NETS)
def test_every_instruction_is_ours_within_a_step(name, format, tmp_path):
    # Given onnxruntime's codes before it; in qoperator bit for bit, but for sums and averages.
    model = quantized(NETS[name](), act_bits=8 if name != "clip" else 5)
    program = lower(model)
    made = instructions(program.steps, program.shapes(), rounding="float")
    export(model, tmp_path / "g.onnx", format=format)
    assert all((a > 0).all() for name, a in constants(tmp_path / "g.onnx") if "scale" in name)
    x = 2 * images(model, 8, seed=3)  # beyond what calibration saw, too
    for level in LEVELS:
        codes, logits = seen(tmp_path / "g.onnx", x, level, made)
        y = model(x).data
        assert np.abs(logits - y).max() <= 0.1 * np.abs(y).max()
        for i in made:
            if i.kind == "input":
                want = rounded(i, x)
            elif i.kind == "avg_pool" and i.grid is None or any(s not in codes for s in i.inputs):
                continue
            else:
                want = computed(i, *(codes[source] for source in i.inputs))
            if i.grid is None:
                real = want * i.scale.reshape(-1, *[1] * (want.ndim - 2))
                assert np.abs(logits - real.reshape(logits.shape)).max() <= (
                    1e-5 * np.abs(real).max()), i.name
                continue
            off = np.abs(codes[i.name].astype(int) - want)
            assert codes[i.name].dtype == np.uint8 and off.max() <= 1, (level, i.name)
            assert off.mean() < 0.02, (level, i.name)
            if format == "qoperator" and i.kind not in ("add", "avg_pool"):
                assert off.max() == 0, (level, i.name)


def rounded(i, x):
    if "gain" in i.arrays:
        x = x * i.arrays["gain"].reshape(-1, 1, 1) + i.arrays["bias"].reshape(-1, 1, 1)
    return i.grid.codes(x)


@pytest.mark.peers
@pytest.mark.parametrize("name", MODELS)
def test_built_in_nets_on_integers(name, tmp_path, built_in):
    model = quantized(drawn(built_in(name)))
    program, x = lower(model, precision="int8", rounding="float"), images(model, 64, seed=5)
    want, codes = program(x), program.trace(x)
    for format in INTEGERS:
        export(program, tmp_path / "g.onnx", format=format)
        for level in LEVELS:
            got, logits = seen(tmp_path / "g.onnx", x, level, program.instructions)
            assert np.mean(logits.argmax(axis=1) != want.argmax(axis=1)) <= 0.05, (format, level)
            if format == "qoperator" and not any(
                    i.kind in ("add", "avg_pool") for i in program.instructions):
                assert all(np.array_equal(got[n], codes[f"{n}.codes"]) for n in got)
                assert len(got) > 2
                assert np.abs(logits - want).max() <= 1e-6 * np.abs(want).max()


@pytest.mark.peers
@pytest.mark.parametrize("format", INTEGERS)
@pytest.mark.parametrize("make", [nn.Conv2d, nn.Linear])
def test_a_pruned_channel_keeps_its_bias(make, format, tmp_path):
    # scale 1.2e-7, as torch and torchao leave it: 1.5 would take 1.3e9 / s_x steps
    first = make(3, 4, 3) if make is nn.Conv2d else make(3, 4)
    model = quantized(small(first, shape=(3, 5, 5) if make is nn.Conv2d else (3,)))
    layer = model.node("l0").layer
    form = layer.forms["weight"].freeze()
    q, scale = form.q.copy(), form.scale.data.copy()
    q[1], scale[1] = 0, 1.2e-7
    layer.forms |= {"weight": Affine(q, scale), "bias": Dense(np.array([0.1, 1.5, 0, -2], "f4"))}
    export(model, tmp_path / "g.onnx", format=format)
    x, y = images(model), model(images(model)).data
    plain = run(tmp_path / "g.onnx", x, "DISABLE_ALL")
    step = model.node("l0_q").layer.scale * np.abs(model.forms()["fc.weight"].dense().data)
    for level in LEVELS:
        got = run(tmp_path / "g.onnx", x, level)
        assert np.abs(got - y).max() <= step.sum(axis=1).max()
        assert np.abs(got - plain).max() <= step.sum(axis=1).max()
    made = instructions(lower(model).steps, lower(model).shapes())
    codes, _ = seen(tmp_path / "g.onnx", x, "ENABLE_ALL", made)
    grid = made[1].grid
    assert (grid.real(codes["l0_q"][:, 1]) == grid.real(grid.codes(np.float32(1.5)))).all()


@pytest.mark.peers
@pytest.mark.parametrize("format", INTEGERS)
def test_a_weight_of_code_minus_128_with_a_gain_below_0(format, tmp_path):
    # turned, it would be 128: the scale stays below 0
    model = quantized(small(nn.Conv2d(3, 2, 1, bias=False), nn.BatchNorm2d(2)))
    q = np.array([[-128, 5, 100], [127, -3, 60]], np.int8).reshape(2, 3, 1, 1)
    model.node("l0").layer.forms["weight"] = Affine(q, [0.01, 0.02], grid="full")
    model.node("l1").layer.forms["weight"] = Dense(np.array([-1.5, -0.5], np.float32))
    made = instructions(lower(model).steps, lower(model).shapes(), rounding="float")
    export(model, tmp_path / "g.onnx", format=format)
    for level in LEVELS:
        codes, _ = seen(tmp_path / "g.onnx", images(model), level, made)
        off = np.abs(codes["l1_q"].astype(int) - computed(made[1], codes["x_q"]))
        assert off.max() <= (format == "qdq")


@pytest.mark.peers
def test_the_command_line_writes_what_the_library_writes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model = quantized(drawn(LeNet5Classic()), bits=4)
    save(model, "q.mcz")
    save(lower(model, precision="int8"), "p.mcz")
    export(model, "want.onnx", format="qoperator")
    for name in ("q.mcz", "p.mcz"):
        assert main(["export", name, "--onnx", "g.onnx", "--format", "qoperator",
                     "--json", "r.json"]) == 0
        assert Path("g.onnx").read_bytes() == Path("want.onnx").read_bytes()
    told, out = json.loads(Path("r.json").read_text(encoding="utf-8")), capsys.readouterr().out
    assert told["bytes"] == Path("g.onnx").stat().st_size and "qoperator" in out
    assert set(told["decoded"]) == {f"{n}.weight" for n in ("conv1", "conv2", "fc1", "fc2", "fc3")}
    assert "weights that the file holds as plain numbers" in out
    assert main(["export", "q.mcz", "--onnx", "g.onnx", "--format", "float"]) == 2
    assert "a graph of floats has no values on grids" in capsys.readouterr().err


# ------------------------------------------------------------------------------------ what is wrong


def test_a_missing_package_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(UserError, match="need the package onnx: pip install onnx"):
        export(LeNet5Classic(), tmp_path / "g.onnx")
    assert not list(tmp_path.iterdir())


def test_what_a_format_does_not_have_is_refused_by_name(tmp_path):
    pytest.importorskip("onnx")
    path, model = tmp_path / "g.onnx", NETS["conv"]()
    grids = quantized(model)
    for net, format, says in (
            (model, "onnx", "format must be one of float, qdq, qoperator, got 'onnx'"),
            (grids, "float", "x_q: a graph of floats has no values on grids; format must be qdq"),
            (model, "qdq", "qdq: the input is on no grid"),
            (quantized(model, mode="activations"), "qoperator", "qoperator: l0: an integer program "
             "needs weights on an affine grid")):
        with pytest.raises(UserError, match=says):
            export(net, path, format=format)
    assert not path.exists() and FORMATS[1:] == INTEGERS


# ---------------------------------------------------------------------------------------- real data


def trained(name):
    # A net behind README's table, its weights dense.
    model = MODELS[name.removeprefix("dc-")](normalize="mnist")
    with np.load(NETS_OF_README / f"{name}.npz", allow_pickle=False) as arrays:
        for form in model.forms():
            w = arrays[f"{form}.centroids"].astype(np.float32)[arrays[f"{form}.index"]]
            model.set_form(form, Dense(w))
    return model


@pytest.mark.peers
@pytest.mark.slow
@pytest.mark.realdata
@pytest.mark.parametrize("name", ["dc-lenet300", "dc-lenet5"])
def test_predictions_on_all_of_mnist(name, tmp_path):
    if data.default_name() != "mnist":
        pytest.skip("the files of MNIST are not here")
    digits, model = data.load("mnist"), trained(name)
    x = digits.test.x
    int8 = PTQ(samples=500).apply(model, digits.without_test(), Run(rng()))
    program = lower(int8, precision="int8", rounding="float")
    for net, formats in ((model, ("float",)), (program, INTEGERS)):
        want = np.concatenate([raw(net(part)) for part in np.split(x, 20)])
        for format in formats:
            export(net, tmp_path / "g.onnx", format=format)
            for level in LEVELS:
                got = run(tmp_path / "g.onnx", x, level)
                flips = np.count_nonzero(got.argmax(axis=1) != want.argmax(axis=1))
                print(name, format, level, "flips:", flips, "of", len(x))
                assert flips <= (5 if format == "qdq" else 0)
                if format != "qdq":  # of qoperator the integers are equal
                    tolerance = 1e-5 if format == "float" else 1e-6
                    assert np.abs(got - want).max() <= tolerance * np.abs(want).max()
