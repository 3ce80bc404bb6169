"""A float program on one image, in one go: the numbers of its steps, on every rung that has it."""

import threading

import numpy as np
import pytest

from minicomp.deploy import Plan, lower, one_image
from minicomp.kernels import cpu
from minicomp.models import MODELS
from minicomp.nn import layers as nn
from minicomp.nn.forms import Dense
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
