import itertools
import tracemalloc

import numpy as np
import pytest

from minicomp import train
from minicomp.codec import decode, encode
from minicomp.compress import KMeans, ProductQuantization, Run
from minicomp.data import Split
from minicomp.deploy import Program, Step, choose, lower, one_image
from minicomp.deploy.steps import ACTIVATIONS
from minicomp.kernels import cpu
from minicomp.models import MODELS
from minicomp.nn import layers as nn
from minicomp.nn.forms import Codebook, Dense
from minicomp.nn.graph import Model, Node, chain

FORMS = ("dense", "half", "n:m", "pruned", "shared")
NETS = list(MODELS)
CASES = [(name, how) for name in [*NETS[:5], "every layer"] for how in FORMS]
CASES += list(zip(NETS[5:], itertools.cycle(FORMS[::-1])))  # of the same layers: a form each


def kinds(plan):
    return {name: layout for name, layout in plan.layouts.items() if layout != "dense"}


@pytest.mark.parametrize("name, how", CASES)
def test_logits_are_the_models(name, how, nets, every_machine, built_in):
    made = nets.every_layer() if name == "every layer" else nets.drawn(built_in(name))
    model = nets.pruned(made, how)
    program = lower(model)
    for n in (1, 7, 64):
        x = nets.images(model, n)
        nets.close(program.plan(n)(x), model(x).data)


@pytest.mark.parametrize("how, one, steps, many", [
    ("pruned", {"fc1": "lanes"}, {"conv": "CSR", "fc1": "lanes"}, {"fc1": "CSR"}),
    ("shared", {"fc1": "codes in lanes"}, {"conv": "relative index", "fc1": "codes in lanes"},
     {"fc1": "relative index"}),
    ("n:m", {"fc1": "lanes"}, {"fc1": "N:M"}, {"fc1": "CSR"}),
    ("dense", {}, {}, {}),
])
@pytest.mark.parametrize("ends", [None, "tanh"])  # of which the one pass has no kernel
@pytest.mark.parametrize("shape", [{}, {"stride": 2, "padding": 2}])
def test_outputs_are_the_models_whatever_the_layout(how, one, steps, many, shape, ends, nets,
                                                    every_machine):
    model = nets.large(how, **shape)
    if ends:
        model = model.edit({"fc2": (model.node("fc2"), Node("tanh", nn.Tanh(), ("fc2",)))})
    program = lower(model)
    at_once = not ends and cpu.kernel_module("floats") is not None and (
        cpu.resolve("auto", "maps") >= one_image.LEAST)
    for batch, layouts in ((1, one if at_once else steps), (8, many)):
        plan, x = program.plan(batch), nets.images(model, batch)
        assert kinds(plan) == layouts
        nets.close(plan(x), model(x).data)
        dense = program.plan(batch, skip_zeros=False)
        assert kinds(dense) == {} and set(dense.layouts) == {"conv", "fc1", "fc2"}
        nets.close(dense(x), model(x).data)


def test_the_same_bits_at_every_call_and_for_any_threads(nets, every_machine):
    for how in ("pruned", "shared", "n:m", "dense"):
        model = nets.large(how)
        for batch in (1, 4):
            x = nets.images(model, batch)
            plans = [lower(model).plan(batch, n_threads=t) for t in (1, 2, 1)]
            first, *others = [plan(x) for plan in plans for _ in range(2)]
            for other in others:
                np.testing.assert_array_equal(first, other, strict=True)


def test_every_rung_runs(nets):
    for how in ("pruned", "shared", "n:m", "dense"):
        model = nets.large(how)
        for isa in cpu.distinct("maps"):
            for batch in (1, 3):
                x = nets.images(model, batch)
                nets.close(lower(model).plan(batch, isa=isa)(x), model(x).data)


@pytest.mark.parametrize("then", ACTIVATIONS)
def test_activations_are_the_same_fused_or_not(then):
    rng = np.random.default_rng(0)
    x = 4 * rng.normal(size=(3, 5)).astype(np.float32)
    weights = {"weight": Dense(2 * rng.normal(size=(6, 5)).astype(np.float32))}
    args = {"out_features": 6, "bias": False}
    fused = Program([Step("a", "linear", ("x",), args | {"then": then}, weights)], input_shape=(5,))
    steps = [Step("a", "linear", ("x",), args, weights), Step("b", then, ("a",))]
    apart = Program(steps, input_shape=(5,))
    np.testing.assert_array_equal(fused(x), apart(x), strict=True)
    assert not np.array_equal(fused(x), x @ weights["weight"].dense().data.T)


def test_a_fused_activation_leaves_what_others_read():
    # add of one input passes it on: its `then` must not write into it
    steps = [Step("one", "add", ("x",), {"then": "relu"}), Step("two", "add", ("x", "one"))]
    x = np.array([[-1, 2]], np.float32)
    np.testing.assert_array_equal(Program(steps, input_shape=(2,))(x), [[-1, 4]])
    np.testing.assert_array_equal(x, [[-1, 2]])


@pytest.mark.parametrize("kind, gain, bias", [
    *itertools.product(["linear", "conv"], [True, False], [True, False]), ("scale", True, True)])
def test_gain_and_bias_may_be_missing(kind, gain, bias):
    numbers = {"gain": np.array([2, -1, 0.5], np.float32), "bias": np.array([1, 2, 3], np.float32)}
    weights = {p: Dense(numbers[p]) for p, there in (("gain", gain), ("bias", bias)) if there}
    args = {"then": "relu6"}
    if kind != "scale":
        args |= {"gain": gain, "bias": bias}
        size = () if kind == "linear" else (1, 1)
        weights["weight"] = Dense(np.eye(3, dtype=np.float32).reshape(3, 3, *size))
        args |= {"out_features": 3} if kind == "linear" else {"out_channels": 3, "kernel_size": 1}
    shape = (3, 2, 2) if kind == "conv" else (3,)
    program = Program([Step("a", kind, ("x",), args, weights)], input_shape=shape)
    x = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    g, b = (numbers[p].reshape(-1, *[1] * (len(shape) - 1)) if there else i
            for p, there, i in (("gain", gain, 1), ("bias", bias, 0)))
    np.testing.assert_allclose(program(x), np.clip(x * g + b, 0, 6), rtol=1e-6, atol=1e-6)


def test_a_codebook_without_a_pinned_zero_keeps_its_first_centroid(nets, every_machine):
    index = np.where(np.random.default_rng(2).random((400, 300)) < 0.9, 1, 0)
    layer = nn.Linear(300, 400)
    layer.forms["weight"] = Codebook(index, np.array([0.5, 0.0, 2.0], np.float32))
    model = Model(chain(("fc", layer)), input_shape=(300,))
    plan = lower(model).plan()
    assert kinds(plan) == {"fc": "codes in lanes"}
    nets.close(plan(nets.images(model, 1)), model(nets.images(model, 1)).data)


def test_codes_and_codewords_are_looked_up(nets, every_machine, monkeypatch):
    monkeypatch.setattr(choose, "LOOKED_UP", {16: (1, 1000), 256: (2, 1000)})
    run, model = Run(np.random.default_rng(0)), nets.large("dense")
    for technique in (KMeans(bits=4), ProductQuantization(block=5, stages=2),
                      ProductQuantization(block=4, k=100, shared=True)):
        made = technique.apply(model, None, run)
        plan, x = lower(made).plan(), nets.images(made, 1)
        assert kinds(plan) == {"fc1": "tables", "fc2": "tables"}
        nets.close(plan(x), made(x).data)
        x = nets.images(made, 3)
        nets.close(lower(made).plan(3)(x), made(x).data)


def test_a_file_of_the_model_runs_as_the_model_does(nets, every_machine):
    model = nets.large("shared")
    x = nets.images(model, 1)
    again = decode(encode(model)).model
    np.testing.assert_array_equal(lower(again)(x), lower(model)(x), strict=True)


@pytest.mark.parametrize("read_twice", [False, True])
@pytest.mark.parametrize("activation", [None, nn.ReLU, nn.ReLU6, nn.Tanh])
def test_a_convolution_and_its_pooling_at_once_or_apart(activation, read_twice, nets):
    # One pass where only the pooling reads the maps; a bias or none, a pooling that overlaps.
    for bias, groups in ((True, 1), (False, 1), (True, 2)):
        nodes = [Node("conv", nn.Conv2d(2, 6, 3, padding=1, bias=bias, groups=groups))]
        if activation:
            nodes.append(Node("act", activation(), ("conv",)))
        last = nodes[-1].name
        nodes.append(Node("pool", nn.MaxPool2d(3, 1, padding=1), (last,)))
        if read_twice:
            nodes.append(Node("add", nn.Add(), ("pool", last)))
        model = nets.drawn(Model(nodes, input_shape=(2, 7, 8)))
        for isa in cpu.distinct("maps"):
            x = nets.images(model, 3)
            nets.close(lower(model).plan(3, isa=isa)(x), model(x).data)


def test_the_memory_of_what_nobody_reads_any_more_is_free():
    steps = [Step("s0", "relu")] + [Step(f"s{i}", "relu", (f"s{i - 1}",)) for i in range(1, 20)]
    plan = Program(steps, input_shape=(1000, 10, 10)).plan(2)
    x = np.ones(plan.shape, np.float32)
    tracemalloc.start()
    plan(x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * x.nbytes  # a step's input and output, or the last output and the caller's


def test_logits_are_the_callers_own(nets):
    model = nets.large("dense")
    plan, x = lower(model).plan(2), nets.images(model, 2)
    first = plan(x)
    want = first.copy()
    first[...] = 7
    np.testing.assert_array_equal(plan(x), want)
    weights = model.state_dict()
    np.testing.assert_array_equal(plan(np.asfortranarray(x).astype(np.float64)), want)
    for name, a in model.state_dict().items():
        np.testing.assert_array_equal(a, weights[name])


def test_sums_do_not_depend_on_how_the_input_lies(nets):
    # the reference sums the windows of a depthwise convolution in the order of memory
    model = nets.drawn(Model(chain(("conv", nn.Conv2d(8, 8, (5, 3), groups=8))),
                             input_shape=(8, 15, 3)))
    plan, x = lower(model).plan(isa="ref"), nets.images(model, 1)
    np.testing.assert_array_equal(plan(np.asfortranarray(x)), plan(x), strict=True)


def test_a_program_plans_for_the_examples_that_come_and_keeps_the_last_plan(nets):
    model = nets.large("pruned")
    program = lower(model)
    program(nets.images(model, 3))
    plan = program._plan
    program(nets.images(model, 3))
    assert program._plan is plan and plan.batch == 3
    program(nets.images(model, 2))
    assert program._plan.batch == 2


def test_a_plan_is_for_one_number_of_examples(nets):
    model = nets.large("pruned")
    plan = lower(model).plan(2)
    for n in (1, 3):
        says = rf"x must have shape \(2, 6, 10, 10\), got \({n}, 6, 10, 10\)"
        with pytest.raises(ValueError, match=says):
            plan(nets.images(model, n))
    with pytest.raises(ValueError, match="x must have shape"):
        plan(np.zeros((2, 600), np.float32))
    with pytest.raises(ValueError, match="batch must be an integer of at least 1, got 0"):
        lower(model)(np.zeros((0, 6, 10, 10)))


@pytest.mark.parametrize("name", ["batch", "n_threads"])
def test_refusals(name, nets):
    with pytest.raises(ValueError, match=f"{name} must be an integer of at least 1, got 0"):
        lower(nets.large()).plan(**{name: 0})


def test_unknown_rungs_are_refused(nets):
    for program in (lower(nets.large()), Program([], input_shape=(3,))):
        with pytest.raises(ValueError, match="isa must be auto or one of ref"):
            program.plan(isa="sse9")


def test_a_plan_says_how_weights_are_packed(nets, every_machine):
    plan = lower(nets.large("pruned")).plan()
    assert repr(plan) == "<Plan: 1 examples a call, conv: dense, fc1: lanes, fc2: dense>"


def test_evaluate_counts_a_programs_errors(nets):
    model = nets.large("shared")
    x = nets.images(model, 130)
    data = Split(x, np.random.default_rng(0).integers(0, 10, 130))
    for threads in (1, 2):
        ours, theirs = (train.evaluate(m, data, batch_size=50, n_threads=threads)
                        for m in (lower(model), model))
        assert (ours.errors, ours.size) == (theirs.errors, theirs.size)
        assert ours.loss == pytest.approx(theirs.loss, rel=1e-5)


@pytest.mark.parametrize("batch", [0, 1.5, True, None, "2"])
def test_a_batch_is_an_integer_of_at_least_1(batch):
    program = lower(MODELS["lenet300"]())
    with pytest.raises(ValueError, match="batch must be an integer of at least 1"):
        program.plan(batch)
    with pytest.raises(ValueError, match=r"x must have shape \(N, 1, 28, 28\), got \(\)"):
        program(np.float32(1))
    with pytest.raises(ValueError, match="model must be a Model, got a Program"):
        lower(program)
