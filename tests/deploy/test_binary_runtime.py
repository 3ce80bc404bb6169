# Binary plans: equal to the simulation to the bit, for any batch, rung, threads; their files.
from types import SimpleNamespace

import numpy as np
import pytest

from minicomp.codec import decode, encode
from minicomp.compress.binary.bnn import BNN
from minicomp.compress.quant.nodes import places, without_grids
from minicomp.compress.quant.ptq import PTQ
from minicomp.compress.technique import Run
from minicomp.data import Split
from minicomp.deploy import BinaryPlan, lower
from minicomp.deploy.simulate import compared
from minicomp.deploy.simulate_binary import simulated_binary
from minicomp.errors import FormatError
from minicomp.kernels import cpu
from minicomp.models import LeNet300
from minicomp.nn import layers as nn
from minicomp.nn.forms import Affine, Binary, Dense
from minicomp.nn.graph import Model, chain

RNG = np.random.default_rng


def filled(model, seed=0, integers=()):
    # Signs with scales of both signs, gains below 0 and 0, numbers that tie at 0.
    rng = RNG(seed)
    for name, form in model.forms().items():
        w = rng.normal(size=form.shape).astype(np.float32)
        if w.ndim == 1:
            w = Dense(np.rint(w) if name.startswith("bn") else w)  # gains of 0 among them
        elif name in integers:
            w = Affine.of(w, np.full(len(w), 0.02, np.float32))
        else:
            w = Binary.of(w, rng.choice([-1, 0.5, 1], len(w)))
        model.set_form(name, w)
    for name, a in model.buffers().items():
        if name.endswith("mean"):
            a[...] = rng.integers(-3, 4, a.shape)
        elif name.endswith(("var", "running_scale")):
            a[...] = rng.choice([0.25, 1, 4], a.shape)
    for node in model.nodes:
        if isinstance(node.layer, nn.ActQuant):
            node.layer.set_range(-2.0, 3.0)
    return model


def grid():
    return nn.ActQuant(8, "unsigned", zero_point=True)


def mlp(K=65, integers=()):
    return filled(Model(chain(
        ("q", grid()), ("fc1", nn.Linear(30, 70)), ("bn1", nn.BatchNorm1d(70)), ("s1", nn.Sign()),
        ("fc2", nn.Linear(70, K)), ("bn2", nn.ShiftBatchNorm1d(K)), ("s2", nn.Sign()),
        ("drop", nn.Dropout(0.5)), ("again", nn.Sign()),
        ("fc3", nn.Linear(K, 10)), ("bn3", nn.BatchNorm1d(10))), input_shape=(30,)),
        integers=integers)


def convs(integers=("c1.weight", "fc2.weight")):
    # Pooling of codes, of sums, of signs; padding; maps that are flattened; odd channels.
    return filled(Model(chain(
        ("norm", nn.Normalize("cifar10")), ("q", grid()), ("p0", nn.MaxPool2d(2, 1)),
        ("c1", nn.Conv2d(3, 20, 3, padding=1)), ("p1", nn.MaxPool2d(2)),
        ("bn1", nn.BatchNorm2d(20)), ("s1", nn.Sign()),
        ("c2", nn.Conv2d(20, 70, 3, padding=(2, 1), stride=(2, 1))), ("bn2", nn.BatchNorm2d(70)),
        ("p2", nn.MaxPool2d(3, 2, padding=1)), ("bn2b", nn.BatchNorm2d(70)), ("s2", nn.Sign()),
        ("p3", nn.MaxPool2d((1, 2), 1)), ("flat", nn.Flatten()),
        ("fc1", nn.Linear(280, 33, bias=False)), ("bn4", nn.BatchNorm1d(33)), ("s4", nn.Sign()),
        ("fc2", nn.Linear(33, 5))), input_shape=(3, 9, 13)), integers=integers)


def images(model, n):
    # Multiples of a step of the grid among them, and what lies beyond it.
    return RNG(n).normal(size=(n, *model.input_shape)).astype(np.float32) * 2


NETS = {"mlp": mlp, "mlp 1": lambda: mlp(1), "mlp integers": lambda: mlp(
    130, ("fc1.weight", "fc3.weight")), "convs": convs, "convs of bits": lambda: convs(())}


@pytest.mark.parametrize("name", NETS)
def test_every_rung_batch_and_thread_count_is_the_simulation(name):
    model = NETS[name]()
    program = lower(model, precision="binary")
    constant = [i.args["constant"] for i in program.instructions if "thresholds" in i.arrays]
    assert any(constant)
    for n in (1, 6):
        x = images(model, n)
        logits, sums, signs = simulated_binary(model, x)
        for isa in cpu.available("bits"):
            for n_threads in (1, 3):
                plan = program.plan(n, isa=isa, n_threads=n_threads)
                assert isinstance(plan, BinaryPlan) and "BinaryPlan" in repr(plan)
                for _ in range(2):  # the second reads what the first left
                    np.testing.assert_array_equal(plan(x), logits, strict=True)
                np.testing.assert_array_equal(plan.integers(x), sums, strict=True)
    assert all((s == 1).any() and (s == -1).any() for s in signs.values())
    np.testing.assert_array_equal(program(x), logits, strict=True)


def test_every_sign_is_the_simulation_and_the_trace_agrees():
    model = convs()
    program, x = lower(model, precision="binary"), images(model, 4)
    logits, sums, signs = simulated_binary(model, x)
    traced = program.trace(x)
    np.testing.assert_array_equal(traced["logits"], sums, strict=True)
    for node, name in (("s1", "p1"), ("s2", "p2"), ("s4", "fc1")):
        np.testing.assert_array_equal(traced[f"{name}.signs"], signs[node], strict=True)
    for name in ("c1", "c2", "fc1"):  # before the poolings, of which c2 has a batch norm before
        acc, at, below = (traced[f"{name}.{what}"] for what in ("accumulators", "at", "below"))
        axes = (-1, *[1] * (acc.ndim - 2))
        want = np.where(below.reshape(axes), acc <= at.reshape(axes), acc >= at.reshape(axes))
        np.testing.assert_array_equal(traced[f"{name}.signs"], 2 * want - 1)
    y = sums.astype(np.float32) * traced["fc2.factor"]
    np.testing.assert_array_equal(y * traced["fc2.gain"] + traced["fc2.bias"], logits)
    assert program.profile(2).peak == program.plan(2).size


def test_a_large_call_goes_through_in_portions():
    model = convs()
    program, x = lower(model, precision="binary"), images(model, 601)
    plan = program.plan(601)
    assert len(plan.portions) > 1 and sum(plan.portions) == 601
    np.testing.assert_array_equal(plan(x), simulated_binary(model, x)[0], strict=True)


def test_the_model_itself_differs_by_rounding_alone():
    model = mlp(130)
    found = compared(model, lower(model, precision="binary"), images(model, 400))
    assert [(d.name, d.of) for d in found.grids] == [
        ("q", "q"), ("s1", "fc1"), ("s2", "fc2"), ("again", "fc2")]
    assert max(d.share for d in found.grids) < 0.02 and found.size == 400 and found.flips <= 20


def test_a_net_that_was_trained_becomes_one():
    x = RNG(0).standard_normal((240, 12)).astype(np.float32)
    y = np.argmax(x[:, :3], axis=1)
    few_rows = SimpleNamespace(train=Split(x[:160], y[:160]), val=Split(x[160:], y[160:]))
    model = Model(chain(("fc1", nn.Linear(12, 40)), ("act1", nn.ReLU()), ("fc2", nn.Linear(40, 70)),
                        ("act2", nn.ReLU()), ("fc3", nn.Linear(70, 3))), input_shape=(12,))
    for name, form in model.forms().items():
        model.set_form(name, Dense(RNG(0).normal(size=form.shape).astype(np.float32)))
    run = Run(RNG(0))
    net = BNN().training(epochs=12, lr=0.01, optimizer="adam").apply(model, few_rows, run)
    net = PTQ(samples=100).apply(net, few_rows, run)
    assert [n.name for n in net.nodes if isinstance(n.layer, nn.ActQuant)] == ["x_q"]
    program = lower(net, precision="binary")
    logits, *_ = simulated_binary(net, few_rows.val.x)
    np.testing.assert_array_equal(program(few_rows.val.x), logits, strict=True)
    assert (logits.argmax(axis=1) == few_rows.val.y).mean() > 0.5


def test_signs_get_no_grids():
    # Nor do sums that are pooled and normalised before their sign.
    model = convs(())
    assert places(without_grids(model)) == ["norm"]
    again = PTQ(samples=10).apply(model, SimpleNamespace(train=Split(
        images(model, 10), np.zeros(10, np.int64))), Run(RNG(0)))
    assert {f.kind for n, f in again.forms().items() if len(f.shape) > 1} == {"binary"}


def test_a_file_that_says_binary_and_is_not():
    program = lower(LeNet300(rng=RNG(0)))
    program.precision = "binary"
    with pytest.raises(FormatError, match="flatten: the input of a binary program needs its grid"):
        decode(encode(program))


def test_files():
    model = convs()
    for name, form in model.forms().items():
        if len(form.shape) == 1:  # numbers as a training leaves them
            w = RNG(1).normal(size=form.shape)
            model.set_form(name, Dense(w.astype(np.float32)))
    for name, a in model.buffers().items():
        if name.startswith("bn"):
            a[...] = RNG(2).uniform(0.5, 1.5, a.shape)
    program, x = lower(model, precision="binary"), images(model, 3)
    data = encode(program)
    assert len(data) <= 1.02 * len(encode(model))
    again = decode(data).model
    assert again.precision == "binary" and encode(again) == data
    np.testing.assert_array_equal(again(x), program(x), strict=True)
    rng = RNG(0)
    for _ in range(60):
        wrong = bytearray(data)
        wrong[rng.integers(len(data))] ^= 1 << rng.integers(8)
        try:
            whole = decode(bytes(wrong)).model
        except FormatError:
            continue
        np.testing.assert_array_equal(whole(x), program(x))
    with pytest.raises(FormatError):
        decode(data[:-1])
