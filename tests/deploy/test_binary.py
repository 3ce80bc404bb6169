# From steps to a binary program: instructions, thresholds by evaluation, what is refused.
import math
from fractions import Fraction

import numpy as np
import pytest

from minicomp.deploy import lower
from minicomp.deploy.binary import number_of, reach, thresholds
from minicomp.deploy.grids import SIGNS
from minicomp.deploy.profile import profiled
from minicomp.nn import layers as nn
from minicomp.nn.forms import Affine, Binary, Dense
from minicomp.nn.graph import Model, Node, chain

RNG = np.random.default_rng


def f32(*numbers):
    return np.array(numbers, np.float32)


def drawn_affine(rng, o):
    # Scales, gains and biases of all kinds: negative, 0, tiny, with ties at 0.
    scale = rng.uniform(0.01, 2, o) * rng.choice([-1, 1], o)
    gain = rng.uniform(0.01, 2, o) * rng.choice([-1, 0, 1e-30, 1], o)
    bias = rng.normal(size=o) * rng.choice([0, 1, 100, 1e-28], o)
    return [(f32(*scale), None), (f32(*gain), f32(*bias))]


@pytest.mark.parametrize("seed", range(6))
def test_thresholds_are_those_of_the_whole_range(seed):
    rng, o, K = RNG(seed), 300, [1, 2, 63, 64, 65, 301][seed]
    affine = drawn_affine(rng, o)
    if seed % 2:  # a batch norm behind a pooling
        affine.append((f32(*rng.normal(size=o)), f32(*rng.normal(size=o) * 3)))
    ties = rng.integers(-K, K + 1, 100)  # y is 0, or the like, at these sums
    affine[1][1][:100] = -(f32(*ties) * affine[0][0][:100]) * affine[1][0][:100]
    lo, hi = np.full(o, -K), np.full(o, K)
    t, constant = thresholds(affine, lo, hi)
    s = np.arange(-K, K + 1)[:, None]
    want = number_of(np.broadcast_to(s, (len(s), o)), affine) >= 0
    np.testing.assert_array_equal(np.where(t.below, s <= t.at, s >= t.at), want)
    np.testing.assert_array_equal(constant, want.all(axis=0) | ~want.any(axis=0))
    assert constant.any() and not constant.all() and (t.below & ~constant).any()


def test_the_closed_formula_misses_ties():
    scale, gain = f32(0.64), f32(0.9)
    bias = -(f32(6) * scale) * gain  # y(6) is 0 after rounding, a little below it before
    exact = -Fraction(bias.item()) / (Fraction(scale.item()) * Fraction(gain.item()))
    t, _ = thresholds([(scale, None), (gain, bias)], np.array([-9]), np.array([9]))
    assert math.ceil(exact) == 7 and t.at[0] == 6 and not t.below[0]


def test_the_sign_of_zero_is_plus():
    for bias, gain in ((0.0, 0.0), (-0.0, -0.0), (0.0, -0.0)):
        t, constant = thresholds([(f32(1), None), (f32(gain), f32(bias))], np.array([-3]),
                                 np.array([3]))
        assert constant.all() and t.at[0] == -2**31 and not t.below[0]
    t, constant = thresholds([(f32(-1), None), (f32(1), f32(0))], np.array([-3]), np.array([3]))
    assert (t.at[0], t.below[0], constant[0]) == (0, True, False)


def test_numbers_beyond_float32_are_refused():
    for affine in ([(f32(3e38), None), (f32(1), f32(0))], [(f32(3e38), None), (f32(0), f32(0))],
                   [(f32(1e38), None), (f32(1), f32(3e38))]):  # at both ends, and at one
        with pytest.raises(ValueError, match="layer7: the scale, gain and bias of channel 0 must"):
            thresholds(affine, np.array([-3]), np.array([3]), "layer7")


# ------------------------------------------------------------------------------------ from a model


def quantized():
    layer = nn.ActQuant(8, "unsigned", zero_point=True)
    layer.set_range(-1.0, 2.0)
    return layer


def layers(*given, input_shape=(6,)):
    model = Model(chain(*given), input_shape=input_shape)
    rng = RNG(0)
    for name, form in model.forms().items():
        w = rng.normal(size=form.shape).astype(np.float32)
        model.set_form(name, Binary.of(w, np.full(len(w), 0.5)) if w.ndim > 1 else Dense(w))
    return model


def small(**changed):
    # A net of each kind of step; a layer of it may be another, or nothing.
    given = {"q": quantized(), "conv1": nn.Conv2d(2, 5, 3, padding=1), "pool1": nn.MaxPool2d(2),
             "bn1": nn.BatchNorm2d(5), "sign1": nn.Sign(), "conv2": nn.Conv2d(5, 4, 2),
             "bn2": nn.BatchNorm2d(4), "sign2": nn.Sign(), "pool2": nn.MaxPool2d(2),
             "flatten": nn.Flatten(), "fc1": nn.Linear(4, 7), "bn3": nn.BatchNorm1d(7),
             "sign3": nn.Sign(), "fc2": nn.Linear(7, 3), "bn4": nn.BatchNorm1d(3)} | changed
    return layers(*((k, v) for k, v in given.items() if v is not None), input_shape=(2, 6, 6))


def test_instructions():
    model = small()
    model.set_form("bn1.weight", Dense(f32(1, -1, 0, 2, -2)))
    program = lower(model, precision="binary")
    assert program.integer and "bits between layers" in repr(program)
    assert [(i.name, i.kind, i.inputs[0]) for i in program.instructions] == [
        ("q", "input", "x"), ("conv1.sums", "conv", "q"), ("conv1", "sign", "conv1.sums"),
        ("pool1", "or_pool", "conv1"), ("conv2", "xnor_conv", "pool1"),
        ("pool2", "or_pool", "conv2"), ("flatten", "flatten", "pool2"),
        ("fc1", "xnor_linear", "flatten"), ("fc2", "xnor_linear", "fc1")]
    by_name = {i.name: i for i in program.instructions}
    assert all(i.grid is SIGNS for i in program.instructions[2:-1])
    # maxima before a batch norm that falls are minima of signs
    np.testing.assert_array_equal(by_name["pool1"].arrays["lowest"], [0, 1, 0, 0, 1])
    assert not by_name["pool2"].arrays["lowest"].any()
    assert by_name["conv1"].args["constant"] >= 1 and by_name["fc2"].grid is None
    assert reach(by_name["conv2"]) == 20 and reach(by_name["fc2"]) == 7
    assert by_name["conv1.sums"].arrays["weight"].dtype == np.int8
    costs = {c.name: c for c in profiled(program).steps}
    t = by_name["conv2"].arrays["thresholds"]
    rule = sum(a.nbytes for a in vars(t).values())
    assert costs["conv2"].macs == 80 * 4 and costs["conv2"].weight_bytes == 80 // 8 + rule


def test_integers_may_be_the_weights_of_the_first_and_the_last_layer():
    model, rng = small(), RNG(1)
    for name in ("conv1.weight", "fc2.weight"):
        shape = model.forms()[name].shape
        q = rng.integers(-127, 128, shape)
        model.set_form(name, Affine(q, np.full(shape[0], 0.01, np.float32)))
    program = lower(model, precision="binary")
    assert program.instructions[-1].kind == "planes"
    assert reach(program.instructions[-1]) == np.abs(q).sum(axis=1).max()
    shape = model.forms()["fc1.weight"].shape
    model.set_form("fc1.weight", Affine(rng.integers(-1, 2, shape), np.ones(7, np.float32)))
    with pytest.raises(ValueError, match="fc1: a layer between signs must have weights of one bit"):
        lower(model, precision="binary")


@pytest.mark.parametrize("changed, error", [
    ({"q": None}, "the input is on no grid: in a binary program conv1 must read signs"),
    ({"sign1": nn.ReLU()}, "bn1: what stands behind a layer .* must be a sign, got relu"),
    ({"sign1": nn.Tanh()}, "bn1: what stands behind a layer of a binary program must be a sign"),
    ({"sign1": None}, "conv1 is no sign: in a binary program conv2 must read signs"),
    ({"sign1": quantized()}, "sign1: a binary program has one grid"),
    ({"pool1": nn.AvgPool2d(2)}, "pool1: a avg_pool has no form in a binary program"),
    ({"conv2": nn.Conv2d(5, 5, 2, groups=5), "bn2": None, "fc1": nn.Linear(5, 7)},
     "conv2: a convolution of signs has one group, got 5"),
    ({"bn4": nn.Sign()}, "fc2: a binary program must end in a linear layer"),
    ({"fc2": None, "bn4": None}, "a binary program must end in a linear layer"),
    ({"bn1": None, "sign1": None, "conv2": None, "bn2": None, "sign2": None, "pool2": None,
      "fc1": None, "bn3": None, "sign3": None, "fc2": None, "bn4": None},
     "a binary program needs a sign"),
    ({"bn2": None, "sign2": None, "pool2": None, "fc1": nn.BatchNorm1d(16), "bn3": None,
      "fc2": nn.Linear(16, 3)}, "fc1: a scale behind a flatten is of more channels"),
    ({"q": nn.ActQuant(12)}, "q: .* at most 8 bits, got 12"),
])
def test_what_has_no_form_is_refused_by_name(changed, error):
    with pytest.raises(ValueError, match=error):
        lower(small(**changed), precision="binary")


def test_branches_are_refused():
    nodes = [Node("q", quantized()), Node("fc", nn.Linear(6, 6), ("q",)),
             Node("sign", nn.Sign(), ("fc",)), Node("add", nn.Add(), ("sign", "q")),
             Node("fc2", nn.Linear(6, 3), ("add",))]
    graph = Model(nodes, input_shape=(6,))
    for name in ("fc.weight", "fc2.weight"):
        w = RNG(0).normal(size=graph.forms()[name].shape)
        graph.set_form(name, Binary.of(w, np.ones(len(w))))
    with pytest.raises(ValueError, match="add: the steps of a binary program follow one another"):
        lower(graph, precision="binary")


def test_weights_that_are_none_are_refused_by_name():
    for form, error in [
            (Dense(np.ones((4, 5, 2, 2), np.float32)), "conv2: .* weights of one bit .* dense"),
            (Binary(np.ones((2, 4, 5, 2, 2)), np.ones(2)), "conv2: .* got 2 bases"),
            (Binary.of(np.ones((4, 5, 2, 2)), 1.0, mask=np.eye(4, 20).reshape(4, 5, 2, 2) > 0),
             "conv2: a layer that reads signs has no weights of 0, got a mask")]:
        model = small()
        model.set_form("conv2.weight", form)
        with pytest.raises(ValueError, match=error):
            lower(model, precision="binary")
    with pytest.raises(ValueError, match="alpha must be finite, and not 0"):
        Binary.of(np.ones((4, 5)), np.zeros(4))
    model = small()
    model.node("bn2").layer.buffers["running_mean"][1] = np.nan
    with pytest.raises(ValueError, match="conv2: biases must be finite, got nan in channel 1"):
        lower(model, precision="binary")
    model = small()
    with pytest.raises(ValueError, match="rounding and zero_first go with precision int8"):
        lower(model, precision="binary", rounding="float")
