# Programs that are neither all float nor all integers, and what each of them says it costs.
import numpy as np
import pytest

from minicomp.deploy import Program, Step, lower
from minicomp.deploy.integer_runtime import IntegerPlan
from minicomp.nn import layers as nn
from minicomp.nn.forms import Affine, Dense
from minicomp.nn.graph import Model, Node, chain


def net(*grids, symmetric=False):
    # A net with int8 weights; grids: what stands before each of its layers, by a function.
    rng = np.random.default_rng(0)
    layers = [("conv", nn.Conv2d(2, 6, 3, padding=1, groups=2)), ("bn", nn.BatchNorm2d(6)),
              ("relu", nn.ReLU()), ("pool", nn.MaxPool2d(2)), ("mix", nn.ChannelShuffle(3)),
              ("flat", nn.Flatten()), ("fc", nn.Linear(54, 5))]
    if grids:
        layers.insert(0, ("x_q", grids[0]()))
        layers.insert(4, ("relu_q", grids[0]()))
    model = Model(chain(*layers), input_shape=(2, 6, 6))
    for name, form in model.forms().items():
        w = rng.normal(size=form.shape).astype(np.float32)
        weight = len(form.shape) > 1
        model.set_form(name, Affine.of(w, np.abs(w).reshape(len(w), -1).max(1) / 127) if weight
                       else Dense(w))
    return model, rng.normal(size=(7, 2, 6, 6)).astype(np.float32)


def dynamic(grid="unsigned", bits=8):
    return lambda: nn.ActQuant(bits, grid, zero_point=grid != "narrow", dynamic=True)


@pytest.mark.parametrize("grid", ["unsigned", "full", "narrow"])
@pytest.mark.parametrize("bits", [8, 4])
def test_a_dynamic_program_is_its_model_with_exact_products(grid, bits):
    model, x = net(dynamic(grid, bits))
    program = lower(model, precision="int8-dynamic")
    assert not program.integer and set(program.plan(7).layouts.values()) == {"int8"}
    got, want = program(x), model(x).data
    assert got.dtype == np.float32
    # the grid of the second layer may differ by a rounding of its range, its codes by one
    assert np.abs(got - want).max() <= np.abs(want).max() * (0.002 if bits == 8 else 0.03)
    exact = model.copy()
    first = lower(Model(model.nodes[:2], input_shape=(2, 6, 6)), precision="int8-dynamic")
    q = exact.node("x_q").layer
    codes = q.codes(x).astype(np.float64)
    scale, zero_point = q.params(float(x.min()), float(x.max()))
    form = exact.forms()["conv.weight"]
    sums = nn.Conv2d(2, 6, 3, padding=1, groups=2, bias=False)
    acc = sums(nn.base.Tensor(codes - zero_point),
               weights={"weight": nn.base.Tensor(form.q.astype(np.float64))}).data
    bias = exact.forms()["conv.bias"].dense().data.reshape(-1, 1, 1)
    step = (scale * form.scale.data).reshape(-1, 1, 1)
    np.testing.assert_array_equal(first(x), acc.astype(np.float32) * step + bias, strict=True)


def test_the_range_is_that_of_the_call():
    model, x = net(dynamic())
    program = lower(model, precision="int8-dynamic")
    assert (program(x)[:1] != program(x[:1])).any()
    last = Model(chain(("q", dynamic()())), input_shape=(3,))
    y = lower(last, precision="int8-dynamic")(np.float32([[0, 0.4, 2.55]]))
    np.testing.assert_allclose(y, [[0, 0.4, 2.55]], atol=0.0051)
    assert y.dtype == np.float32
    y = lower(last, precision="int8-dynamic")(np.float32([[np.nan, np.inf, 2.55]]))
    np.testing.assert_allclose(y, [[0, 2.55, 2.55]], atol=0.0051)  # that of finite entries


@pytest.mark.parametrize("make, says", [
    (lambda: net(), "conv: an int8-dynamic program needs a quantize step before it"),
    (lambda: net(lambda: nn.ActQuant(8)), "x_q: an int8-dynamic program needs grids .* each batch"),
    (lambda: net(dynamic(bits=9)), "x_q: an int8-dynamic program needs grids of at most 8 bits"),
])
def test_what_a_dynamic_program_cannot_compute(make, says):
    with pytest.raises(ValueError, match=says):
        lower(make()[0], precision="int8-dynamic")


def test_a_dynamic_sum_that_could_overflow_is_refused():
    n = 2**31 // (2 * 255 * 127) + 1
    model = Model(chain(("q", dynamic()()), ("fc", nn.Linear(n, 1, bias=False))), input_shape=(n,))
    model.set_form("fc.weight", Affine(np.full((1, n), 127), np.float32(1)))
    with pytest.raises(ValueError, match="fc: an accumulator that could reach .* overflows int32"):
        lower(model, precision="int8-dynamic")


def test_weights_alone_are_integers():
    model, x = net()
    program = lower(model, precision="weight-only")
    assert not program.integer
    np.testing.assert_array_equal(program(x), lower(model)(x), strict=True)
    with pytest.raises(ValueError, match="stored as integers .* got conv dense, fc dense"):
        lower(model.dense(), precision="weight-only")
    with pytest.raises(ValueError, match="x_q: a weight-only program has no grids of activations"):
        lower(net(dynamic())[0], precision="weight-only")


def test_programs_say_which_they_are():
    names = {"float": "float32", "weight-only": "float32", "int8-dynamic": "float32"}
    for precision, words in names.items():
        model = net(*[dynamic()] * (precision == "int8-dynamic"))[0]
        assert f"precision {precision} ({words})" in repr(lower(model, precision=precision))
    static = lower(calibrated(), precision="int8", rounding="gemmlowp")
    assert "precision int8 (integers only, rounding gemmlowp)" in repr(static)
    assert isinstance(static.plan(), IntegerPlan)


def calibrated():
    model = net(lambda: nn.ActQuant(8, zero_point=True))[0]
    model.node("x_q").layer.set_range(-3, 3)
    model.node("relu_q").layer.set_range(0, 9)
    return model


def test_what_a_program_costs():
    for precision, model in (("int8", calibrated()), ("float", calibrated()),
                             ("int8-dynamic", net(dynamic())[0])):
        program = lower(model, precision=precision)
        found = program.profile(3)
        assert found.batch == 3 and found.macs == 6 * 9 * 36 + 54 * 5
        assert found.ms == sum(step.ms for step in found.steps) > 0
        steps = {step.name: step for step in found.steps}
        kinds = [step.kind for step in found.steps]
        if precision == "int8":
            assert kinds == ["input", "conv", "max_pool", "shuffle", "flatten", "linear"]
            plan = program.plan(3)
            assert (found.peak, found.bound) == (plan.size, plan.bound)
            assert found.bound == 3 * (72 + 216)  # the input and the first map, a byte each
            # weights 1, offset, M0, shift, factor 4, lo and hi 1 a channel
            assert steps["relu_q"].weight_bytes == 54 + 6 * (4 * 4 + 2)
            assert steps["relu_q"].value_bytes == found.bound
        else:
            weight = 54 if precision == "int8-dynamic" else 4 * 54
            assert steps["conv"].weight_bytes == weight + 4 * 12  # a gain and a bias
            assert found.peak == found.bound > 3 * (72 + 216)


def test_a_trace_holds_every_integer():
    model = calibrated()
    x = net()[1][:2]
    program = lower(model, precision="int8", rounding="gemmlowp")
    found = program.trace(x)
    np.testing.assert_array_equal(found["logits"], program.plan(2).integers(x), strict=True)
    np.testing.assert_array_equal(found["fc.accumulators"], found["logits"])
    assert str(found["rounding"]) == "gemmlowp" and not found["zero_first"]
    # codes follow from accumulators, multipliers and shifts by hand, in Python's integers
    acc, m0, n = (found[f"relu_q.{what}"] for what in ("accumulators", "multiplier", "shift"))
    assert acc.shape == (2, 6, 6, 6) and acc.dtype == np.int32
    z, lo, hi = (found[f"relu_q.{what}"] for what in ("zero_point", "lo", "hi"))
    for at in np.ndindex(acc.shape):
        a, m, s = int(acc[at]), int(m0[at[1]]), int(n[at[1]])
        high = (abs(a * m) + 2**30 >> 31) * (1 if a * m >= 0 else -1)
        want = (abs(high) + (1 << s - 31 >> 1) >> s - 31) * (1 if high >= 0 else -1) + int(z)
        assert found["relu_q.codes"][at] == min(max(want, lo[at[1]]), hi[at[1]])
    # and accumulators from codes, weights and offsets
    x_q, w, offset = found["x_q.codes"], found["relu_q.weight"], found["relu_q.offset"]
    window = x_q[1, 1, 2:5, 1:4].astype(int)
    assert acc[1, 4, 3, 2] == (window * w[4, 0]).sum() + offset[4]
    with pytest.raises(ValueError, match="a trace is of an integer program, got precision float"):
        lower(model).trace(x)


@pytest.mark.parametrize("rounding, dtype", [("single", np.int64), ("float", np.float32)])
def test_a_trace_holds_the_sums_that_are_rounded(rounding, dtype):
    def grid(scale):
        layer = nn.ActQuant(8, zero_point=True)
        layer.set_grid(scale, 100)
        return layer

    model = Model([Node("q", grid(0.01), ("x",)), Node("r", grid(0.03), ("q",)),
                   Node("add", nn.Add(), ("q", "r")), Node("add_q", grid(0.04), ("add",))],
                  input_shape=(7,))
    x = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
    found = lower(model, precision="int8", rounding=rounding).trace(x)
    total, shift = found["add_q.accumulators"], int(found["add_q.shift"])
    assert total.dtype == dtype
    y = np.rint(total) if rounding == "float" else total + (1 << shift >> 1) >> shift
    np.testing.assert_array_equal(found["add_q.codes"], np.clip(y + 100, 0, 255))


def test_programs_without_steps():
    for precision in ("float", "int8-dynamic"):
        program = Program([], input_shape=(3,), precision=precision)
        assert program.profile().steps == () and program.profile().macs == 0
    with pytest.raises(ValueError, match="got no weights"):
        Program([Step("r", "relu")], input_shape=(3,), precision="weight-only")
