"""A float program on one image, in one go: the numbers of its steps, on every rung that has it."""

import threading

import numpy as np
import pytest

from minicomp.deploy import Plan, lower, one_image
from minicomp.kernels import cpu
from minicomp.models import MODELS
from minicomp.nn import layers as nn
from minicomp.nn.forms import Codebook, Dense
from minicomp.nn.graph import Model, Node, chain

RUNGS = [isa for isa in cpu.available("maps") if cpu.RUNGS.index(isa) >= one_image.LEAST]
isa = pytest.mark.parametrize("isa", RUNGS)


def stepwise(plan: Plan, x):
    # The output as the plan's steps compute it, one by one.
    *_, (_, y) = plan.walk(x)
    return y


def every_kind():
    nodes = [
        Node("stem", nn.Conv2d(3, 8, 3, padding=1), ("x",)),  # reads the input, as `again` does
        Node("relu", nn.ReLU(), ("stem",)),
        Node("depthwise", nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8), ("relu",)),
        Node("relu6", nn.ReLU6(), ("depthwise",)),
        Node("bn", nn.BatchNorm2d(8), ("relu6",)),
        Node("conv", nn.Conv2d(8, 18, 3, padding=1), ("bn",)),
        Node("pool", nn.MaxPool2d(3, 2, padding=1, ceil_mode=True), ("conv",)),
        Node("pool_relu", nn.ReLU(), ("pool",)),
        Node("again", nn.Conv2d(3, 18, 5, stride=3, padding=1), ("x",)),
        Node("third", nn.Conv2d(3, 18, 1), ("x",)),
        Node("mean", nn.AvgPool2d(3, 3), ("third",)),
        Node("add", nn.Add(), ("pool_relu", "again", "mean")),
        Node("add_relu", nn.ReLU6(), ("add",)),
        Node("cells", nn.AdaptiveAvgPool2d((1, 2)), ("add_relu",)),
        Node("flatten", nn.Flatten(), ("cells",)),
        Node("fc", nn.Linear(36, 33), ("flatten",)),
        Node("fc_relu", nn.ReLU(), ("fc",)),
        Node("last", nn.Linear(33, 5, bias=False), ("fc_relu",)),
    ]
    return Model(nodes, input_shape=(3, 13, 13))


NETS = {
    "every kind": every_kind,
    "a map at the end": lambda: Model(chain(
        ("normalize", nn.Normalize("cifar10")), ("conv", nn.Conv2d(3, 4, 2)),
        ("bn", nn.BatchNorm2d(4))), input_shape=(3, 5, 6)),
    "rows": lambda: Model(chain(("bn", nn.BatchNorm1d(19)), ("fc", nn.Linear(19, 7))),
                          input_shape=(19,)),
    **{name: lambda name=name: MODELS[name](rng=np.random.default_rng(0))
       for name in ("lenet300", "lenet5", "lenet5-classic", "depthwise32") if name in MODELS},
}


@isa
@pytest.mark.parametrize("name", NETS)
def test_it_computes_what_the_steps_compute(name, isa, nets):
    model = nets.drawn(NETS[name]())
    plan = lower(model).plan(isa=isa)
    assert plan._one is not None
    for seed in (0, 1):
        x = np.random.default_rng(seed).normal(size=plan.shape).astype(np.float32)
        y = plan(x)
        nets.close(y, stepwise(plan, x))
        nets.close(y, model(x).data)
    again = y.copy()
    y[...] = 7
    np.testing.assert_array_equal(plan(np.asfortranarray(x)), again, strict=True)


def sparse_net(inputs, *, norm, bias):
    # Three linear layers: the first two large enough for lanes.
    wide = 24_000 // inputs + 3
    layers = [("fc1", nn.Linear(inputs, wide, bias=bias)), ("relu", nn.ReLU()),
              ("fc2", nn.Linear(wide, 90, bias=bias)), ("relu6", nn.ReLU6()),
              ("last", nn.Linear(90, 5))]
    if norm:  # folded into a gain, which codes do not hold
        layers[1:1] = [("bn", nn.BatchNorm1d(wide))]
    return Model(chain(*layers), input_shape=(inputs,))


@isa
@pytest.mark.parametrize("inputs", [16, 61])
@pytest.mark.parametrize("norm, bias", [(False, True), (True, True), (True, False), (False, False)])
@pytest.mark.parametrize("bits, density", [(None, 0.3), (4, 0.55), (5, 0.3), (None, 0.0), (4, 0.0)])
def test_zeros_of_linear_layers_are_skipped(bits, density, norm, bias, inputs, isa, nets):
    model = nets.drawn(sparse_net(inputs, norm=norm, bias=bias))
    rng = np.random.default_rng(3)
    for name in ("fc1.weight", "fc2.weight"):
        w = model.forms()[name].dense().data
        mask = rng.random(w.shape) < density
        mask[5] = False  # a unit without weights
        table = rng.normal(size=2**bits).astype(np.float32) if bits else None
        model.set_form(name, Dense(w * mask, mask) if not bits else Codebook(
            np.where(mask, rng.integers(1, 2**bits, w.shape), 0),
            np.where(np.arange(2**bits), table, 0).astype(np.float32), pinned_zero=True))
    plan = lower(model).plan(isa=isa)
    layout = "codes in lanes" if bits else "lanes"
    assert plan._one is not None
    assert plan.layouts == {"fc1": layout, "fc2": layout, "last": "dense"}
    for seed in (0, 1):
        x = np.random.default_rng(seed).normal(size=plan.shape).astype(np.float32)
        y = plan(x)
        nets.close(y, stepwise(plan, x))
        nets.close(y, model(x).data)
        np.testing.assert_array_equal(plan(x), y, strict=True)
    dense = lower(model).plan(isa=isa, skip_zeros=False)
    assert set(dense.layouts.values()) == {"dense"} and dense._one is not None


@isa
def test_layers_that_lanes_do_not_fit_are_left_dense(isa, nets):
    # Of fewer than 16 inputs, which lanes read at once.
    model = nets.drawn(Model(chain(("fc", nn.Linear(15, 7000)), ("last", nn.Linear(7000, 3))),
                             input_shape=(15,)))
    mask = np.zeros((7000, 15), bool)
    mask[::7, 3] = True
    model.set_form("fc.weight", Dense(model.forms()["fc.weight"].dense().data * mask, mask))
    plan, x = lower(model).plan(isa=isa), nets.images(model, 1)
    assert plan._one is not None and plan.layouts["fc"] == "dense"
    nets.close(plan(x), model(x).data)


@isa
def test_weights_may_lie_anyhow(isa, nets):
    model = nets.drawn(Model(chain(("conv", nn.Conv2d(2, 5, 3)), ("flatten", nn.Flatten()),
                                   ("fc", nn.Linear(45, 6))), input_shape=(2, 5, 5)))
    for name, form in model.forms().items():
        model.set_form(name, Dense(np.asfortranarray(form.dense().data)))
    plan, x = lower(model).plan(isa=isa), nets.images(model, 1)
    nets.close(plan(x), model(x).data)


@pytest.mark.parametrize("kind", ["tanh", "groups", "uneven cells", "portable", "two images",
                                  "normalised and read"])
def test_what_it_has_no_kernel_for_goes_step_by_step(kind, nets):
    layers, how = [("conv", nn.Conv2d(4, 8, 3, groups=2 if kind == "groups" else 1))], {}
    if kind == "tanh":
        layers.append(("tanh", nn.Tanh()))
    if kind == "uneven cells":
        layers.append(("cells", nn.AdaptiveAvgPool2d((3, 3))))
    nodes = list(chain(*layers))
    if kind == "normalised and read":
        nodes = [Node("bn", nn.BatchNorm2d(4), ("x",)), Node("add", nn.Add(), ("bn", "x"))]
    if kind == "portable":
        how = {"isa": "portable"} if "portable" in cpu.available("maps") else {"isa": "ref"}
    model = nets.drawn(Model(nodes, input_shape=(4, 9, 9)))
    plan = lower(model).plan(2 if kind == "two images" else 1, **how)
    assert plan._one is None
    x = np.random.default_rng(0).normal(size=plan.shape).astype(np.float32)
    nets.close(plan(x), model(x).data)


@pytest.mark.skipif(not RUNGS, reason="no rung runs it")
def test_threads_share_a_plan(nets):
    model = nets.drawn(every_kind())
    plan = lower(model).plan()
    xs = np.random.default_rng(0).normal(size=(8, *plan.shape)).astype(np.float32)
    wanted, got = [plan(x) for x in xs], [None] * 8

    def work(i):
        got[i] = [plan(xs[i]) for _ in range(50)]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for ys, y in zip(got, wanted):
        assert all((one == y).all() for one in ys)
