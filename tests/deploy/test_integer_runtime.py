# Integer plans: equal to the simulation to the bit, for any batch, rung, threads; their memory.
import threading

import numpy as np
import pytest

from minicomp.deploy import IntegerPlan, integer_runtime, lower
from minicomp.deploy.simulate import compared, simulated
from minicomp.kernels import cpu
from minicomp.nn import layers as nn
from minicomp.nn.forms import Affine, Dense
from minicomp.nn.graph import INPUT, Model, Node

RULES = [(r, z) for r in ("single", "gemmlowp", "float") for z in (False, True)]
TYPES = ("float32", "int32")


def on_grids(model, seed=0, x=None, symmetric=False):
    # The model with int8 weights, and the grids of ActQuant nodes set to what goes through them.
    rng = np.random.default_rng(seed)
    for name, form in model.forms().items():
        if len(form.shape) > 1:
            w = rng.normal(size=form.shape).astype(np.float32)
            scale = np.abs(w).reshape(len(w), -1).max(axis=1) / 127
            model.set_form(name, Affine.of(w, scale))
        else:
            model.set_form(name, Dense(rng.normal(size=form.shape).astype(np.float32)))
    for name, a in model.buffers().items():
        if name.endswith(("mean", "var")):
            a[...] = rng.uniform(0.5, 1.5, a.shape)
    for node in model.nodes:  # the inputs are quantized already when a grid is set
        if isinstance(node.layer, nn.ActQuant):
            _, seen = model(x, taps=node.inputs)
            y = seen[node.inputs[0]].data
            node.layer.set_range(float(y.min()), float(y.max()))
    return model


def quantized(*, symmetric=False):
    return nn.ActQuant(8, "narrow" if symmetric else "unsigned", zero_point=not symmetric)


def everything(symmetric=False):
    # Every instruction, grids of all kinds, odd zero points, clamps of all kinds.
    nodes = [
        Node("norm", nn.Normalize("cifar10")),
        Node("x_q", quantized(symmetric=symmetric), ("norm",)),
        Node("stem", nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), ("x_q",)),
        Node("bn", nn.BatchNorm2d(8), ("stem",)),
        Node("relu6", nn.ReLU6(), ("bn",)),
        Node("stem_q", quantized(), ("relu6",)),
        Node("dw", nn.Conv2d(8, 8, 3, padding=1, groups=8), ("stem_q",)),
        Node("clip", nn.ClipChannels.of(np.linspace(0.5, 3, 8)), ("dw",)),
        Node("pool", nn.MaxPool2d(3, 1, padding=1), ("clip",)),
        Node("dw_q", quantized(symmetric=symmetric), ("pool",)),
        Node("grouped", nn.Conv2d(8, 8, 1, groups=2), ("dw_q",)),
        Node("grouped_q", quantized(symmetric=symmetric), ("grouped",)),
        Node("add", nn.Add(), ("grouped_q", "stem_q", "dw_q")),
        Node("add_relu", nn.ReLU(), ("add",)),
        Node("add_q", quantized(), ("add_relu",)),
        Node("avg", nn.AvgPool2d(3, 1, padding=1), ("add_q",)),
        Node("avg_q", nn.ActQuant(6, "full", zero_point=True), ("avg",)),
        Node("cat", nn.Concat(), ("avg_q", "grouped_q")),
        Node("cat_q", quantized(symmetric=symmetric), ("cat",)),
        Node("mix", nn.ChannelShuffle(4), ("cat_q",)),
        Node("tanh", nn.Tanh(), ("mix",)),
        Node("tanh_q", quantized(symmetric=True), ("tanh",)),
        Node("half", nn.MaxPool2d(2, 2, ceil_mode=True), ("tanh_q",)),
        Node("flat", nn.Flatten(), ("half",)),
        Node("relu", nn.ReLU(), ("flat",)),
        Node("fc1", nn.Linear(144, 20), ("relu",)),
        Node("bn1", nn.BatchNorm1d(20), ("fc1",)),
        Node("fc1_q", quantized(), ("bn1",)),
        Node("fc2", nn.Linear(20, 144), ("fc1_q",)),
        Node("fc2_q", quantized(symmetric=symmetric), ("fc2",)),
        Node("sum", nn.Add(), ("fc2_q", "relu")),  # of rows that lie in different orders
        Node("sum_q", quantized(), ("sum",)),
        Node("two", nn.Concat(), ("fc1_q", "relu", "sum_q")),
        Node("two_q", quantized(symmetric=True), ("two",)),
        Node("fc3", nn.Linear(308, 10), ("two_q",)),
    ]
    return Model(nodes, input_shape=(3, 10, 12))


@pytest.fixture(scope="module", params=[False, True], ids=["asymmetric", "symmetric"])
def net(request):
    rng = np.random.default_rng(7)
    x = rng.random((40, 3, 10, 12)).astype(np.float32)
    model = on_grids(everything(request.param), x=x)
    gamma = model.forms()["bn.weight"].value.data  # a batch norm that turns signs, and a dead one
    gamma[:3] = (-0.7, 0.0, -1.3)
    return model, x


@pytest.mark.parametrize("rounding, zero_first", RULES)
def test_the_program_is_the_simulation(net, rounding, zero_first):
    model, x = net
    program = lower(model, precision="int8", rounding=rounding, zero_first=zero_first)
    assert {i.kind for i in program.instructions} == {
        "input", "conv", "linear", "max_pool", "avg_pool", "add", "concat", "table", "flatten",
        "shuffle"}
    want, codes = simulated(model, x, rounding=rounding, zero_first=zero_first)
    got = program.plan(len(x)).integers(x)
    np.testing.assert_array_equal(got, want, strict=True)
    assert len(np.unique(got)) > 100 and np.ptp(got.argmax(axis=1)) > 0
    for name, grid in codes.items():
        assert len(np.unique(grid)) > 5, name  # or nothing was tested
    np.testing.assert_array_equal(
        program(x), got.astype(np.float32) * program.instructions[-1].scale, strict=True)


def test_every_batch_rung_and_number_of_threads_gives_the_same_bits(net):
    model, x = net
    program = lower(model, precision="int8")
    want = program.plan(40, isa="ref").integers(x)
    for isa in cpu.distinct("int8"):
        for n_threads in (1, 2):
            for batch in (1, 3, 40):
                plan = program.plan(batch, isa=isa, n_threads=n_threads)
                got = plan.integers(x[40 - batch:])
                np.testing.assert_array_equal(got, want[40 - batch:], strict=True)


def test_ordinary_fake_quantization_differs_by_a_step(net):
    model, x = net
    program = lower(model, precision="int8")
    found = compared(model, program, x, batch_size=16)
    assert [d.name for d in found.grids] == [
        n.name for n in model.nodes if isinstance(n.layer, nn.ActQuant)]
    assert max(d.most for d in found.grids) == 1 and max(d.share for d in found.grids) < 0.01
    assert found.size == 40 and found.flips <= 2


def test_a_plan_is_for_one_shape_and_leaves_its_input(net):
    model, x = net
    plan = lower(model, precision="int8").plan(2)
    assert isinstance(plan, IntegerPlan) and "2 examples a call" in repr(plan)
    with pytest.raises(ValueError, match=r"x must have shape \(2, 3, 10, 12\), got \(3, 3, 10"):
        plan(x[:3])
    for how in ({"batch": 0}, {"n_threads": 0}, {"isa": "mmx"}):
        with pytest.raises(ValueError, match=next(iter(how))):
            lower(model, precision="int8").plan(**how)
    fixed = x[:2].copy()
    fixed.setflags(write=False)
    first = plan.integers(fixed)
    second = plan.integers(x[2:4])
    assert not np.shares_memory(first, second)
    np.testing.assert_array_equal(plan.integers(fixed), first)


def test_threads_share_a_plan(net):
    model, x = net
    plan = lower(model, precision="int8").plan(4)
    want = [plan.integers(x[i: i + 4]) for i in range(0, 40, 4)]
    wrong = []

    def run(i):
        for _ in range(5):
            if (plan.integers(x[4 * i: 4 * i + 4]) != want[i]).any():
                wrong.append(i)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_the_memory_is_what_is_needed_at_a_time(net):
    plan = lower(net[0], precision="int8").plan(3)
    assert plan.bound <= plan.size <= 1.1 * plan.bound + 64 * 4
    assert INPUT not in plan.offsets and all(at % 64 == 0 for at in plan.offsets.values())
    lying = dict(plan.walk(net[1][:3]))  # whatever a run reads, it does not write there
    for run in plan.runs:
        for name in set(run.inputs) - {INPUT}:
            shared = np.shares_memory(lying[name], lying[run.name])
            assert shared == (run.steps[0].kind == "flatten")


def test_a_branch_that_nothing_reads_is_neither_lowered_nor_simulated():
    # its bias does not fit int32
    nodes = [Node("x_q", quantized()), Node("dead", nn.Conv2d(2, 3, 1), ("x_q",)),
             Node("dead_q", quantized(), ("dead",)), Node("fc", nn.Conv2d(2, 4, 3), ("x_q",))]
    x = np.random.default_rng(0).random((3, 2, 5, 5)).astype(np.float32)
    model = on_grids(Model(nodes, input_shape=(2, 5, 5)), x=x)
    model.set_form("dead.bias", Dense(np.float32([1e9, 0, 0])))
    want, codes = simulated(model, x)
    np.testing.assert_array_equal(lower(model, precision="int8").plan(3).integers(x), want)
    assert list(codes) == ["x_q"]


def test_values_lie_as_a_program_means_them(net):
    # Each value of a plan, from memory to (N, C, H, W), against the simulation's.
    model, x = net
    program = lower(model, precision="int8")
    plan = program.plan(40)
    values = {name: plan.plain(name, y) for name, y in plan.walk(x)}
    _, codes = simulated(model, x)
    for name in ("x_q", "stem_q", "add_q", "avg_q", "cat_q", "tanh_q", "fc1_q", "sum_q", "two_q"):
        np.testing.assert_array_equal(values[name], codes[name], name, strict=True)
    np.testing.assert_array_equal(values["pool"], codes["dw_q"])  # rounded before the maximum
    flat = values["half"].reshape(40, -1)
    np.testing.assert_array_equal(values["flat"], flat)


def test_nets_without_layers():
    x = np.float32([[0.2, 0.9]])
    np.testing.assert_array_equal(
        lower(Model([], input_shape=(2,)), precision="float")(x), x)
    with pytest.raises(ValueError, match="the input is on no grid"):
        lower(Model([], input_shape=(2,)), precision="int8")
    model = Model([Node("q", nn.ActQuant(8))], input_shape=(2,))
    model.nodes[0].layer.set_grid(0.5)
    np.testing.assert_array_equal(lower(model, precision="int8")(x), [[0.0, 1.0]])


def test_a_flattened_map_lives_as_long_as_who_reads_it():
    nodes = [Node("q", quantized()), Node("flat", nn.Flatten(), ("q",)),
             Node("fc", nn.Linear(8, 8), ("flat",)), Node("fc_q", quantized(), ("fc",))]
    x = np.random.default_rng(0).random((1, 2, 2, 2)).astype(np.float32)
    plan = lower(on_grids(Model(nodes, input_shape=(2, 2, 2)), x=x), precision="int8").plan()
    assert set(plan.offsets) == {"q", "fc_q"} and plan.offsets["q"] != plan.offsets["fc_q"]


def test_a_large_call_goes_through_in_portions(net, monkeypatch):
    model, x = net
    program = lower(model, precision="int8")
    whole = program.plan(40)
    assert whole.portions == (40,)
    each = program.plan(1).size
    for most, portions in ((7 * each, (7, 7, 7, 7, 6, 6)), (each // 2, (1,) * 40)):
        monkeypatch.setattr(integer_runtime, "MOST_BYTES", most)
        plan = program.plan(40)
        assert plan.portions == portions and plan.size <= max(most, each)
        for _ in range(2):
            np.testing.assert_array_equal(plan.integers(x), whole.integers(x), strict=True)
            np.testing.assert_array_equal(plan(x), whole(x), strict=True)
        *_, (name, y) = plan.walk(x)
        np.testing.assert_array_equal(plan.plain(name, y), whole.integers(x))
