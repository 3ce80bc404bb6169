# What the steps of a quantized model become: by hand, and what is refused.
import numpy as np
import pytest

from minicomp.deploy import Program, Step
from minicomp.deploy.folded import reach
from minicomp.deploy.grids import Grid, clamped
from minicomp.deploy.integer import codes_of_steps
from minicomp.nn.forms import Affine, Dense


def dense(*numbers):
    return Dense(np.array(numbers, np.float32), trainable=False)


def quantize(name, reads, scale, zero_point=0, *, grid="unsigned", bits=8, dynamic=False):
    args = {"bits": bits, "grid": grid, "zero_point": grid != "narrow" and not dynamic,
            "dynamic": dynamic}
    weights = {} if dynamic else {"scale": dense(scale)}
    if args["zero_point"]:
        weights["zero_point"] = dense(zero_point)
    return Step(name, "quantize", (reads,), args, weights)


def linear(name, reads, q, scale, bias=None, gain=None, then=None, **how):
    q = np.array(q)
    weights = {"weight": Affine(q, np.array(scale, np.float32), **how)}
    for part, numbers in (("gain", gain), ("bias", bias)):
        if numbers is not None:
            weights[part] = dense(*numbers)
    args = {"out_features": len(q), "bias": bias is not None, "gain": gain is not None}
    return Step(name, "linear", (reads,), args | {"then": then}, weights)


def program(*steps, shape=(2,), **rule):
    return Program(steps, input_shape=shape, precision="int8", **rule)


def one(*steps, **how):
    # The program of a quantized input of two entries and these steps: its last instruction.
    return program(quantize("q", "x", 0.5, 3), *steps, **how).instructions[-1]


def test_a_linear_layer_by_hand():
    # s_x 0.5, z 3; s_w 0.25 and 0.5: a step of the sums is 1/8 and 1/4
    made = program(quantize("q", "x", 0.5, 3),
                   linear("fc", "q", [[1, -2], [3, 4]], [0.25, 0.5], bias=[1.0, -0.6]))
    enter, fc = made.instructions
    assert (enter.kind, enter.inputs, enter.grid.scale, enter.grid.zero_point) == (
        "input", ("x",), 0.5, 3)
    assert fc.kind == "linear" and fc.grid is None
    np.testing.assert_array_equal(fc.arrays["bias"], [8, -2])  # rint(-0.6 / 0.25)
    np.testing.assert_array_equal(fc.arrays["offset"], [8 + 3, -2 - 21])
    np.testing.assert_array_equal(fc.scale, np.array([0.125, 0.25], np.float32), strict=True)
    # codes of 1, -1: 5, 1; 5 - 2 + 11 = 14, 15 + 4 - 23 = -4
    x = np.array([[1.0, -1.0]], np.float32)
    np.testing.assert_array_equal(made.plan().integers(x), [[14, -4]], strict=False)
    assert made.plan().integers(x).dtype == np.int32
    np.testing.assert_array_equal(made(x), np.array([[1.75, -1.0]], np.float32), strict=True)


@pytest.mark.parametrize("rounding, codes", [
    ("single", [10, 0, 0, 1, 25]), ("gemmlowp", [10, 1, 0, 2, 26]), ("float", [10, 0, 0, 2, 26])])
def test_each_rounding(rounding, codes):
    # M = 0.1 of sums 100, 5, 4, 15, 255, as in kernels/int8/requantize.py
    made = program(quantize("q", "x", 0.1), linear("fc", "q", [[1]], 1.0), quantize("y", "fc", 1.0),
                   shape=(1,), rounding=rounding)
    r = made.instructions[1].arrays["requantizer"]
    assert (r.m0[0], r.shift[0], r.rounding) == (1717986918, 34, rounding)
    x = np.array([[10.0], [0.5], [0.4], [1.5], [25.5]], np.float32)
    np.testing.assert_array_equal(made.plan(5).integers(x)[:, 0], codes)


@pytest.mark.parametrize("first, codes", [(False, [3, 3, 5]), (True, [4, 4, 6])])
def test_an_odd_zero_point_before_or_after_rounding_to_even(first, codes):
    # M = 0.5 of sums -1, 1, 3 and z = 3: rint(-0.5) + 3, rint(0.5) + 3, rint(1.5) + 3; or rint(2.5)
    made = program(quantize("q", "x", 0.5, 10), linear("fc", "q", [[1]], 1.0),
                   quantize("y", "fc", 1.0, 3), shape=(1,), rounding="float", zero_first=first)
    x = np.array([[-0.5], [0.5], [1.5]], np.float32)
    got = made.plan(3).integers(x)[:, 0] + 3
    np.testing.assert_array_equal(got, [2 if first else 3, codes[1], codes[2]] if first else codes)


def test_factors_of_rule_float_are_onnxruntimes():
    s_x, s_w, s_y = np.float32(0.013), np.float32([0.0071, 0.3]), np.float32(0.021)
    fc = one(quantize("p", "q", s_x), linear("fc", "p", [[1, 2], [3, 4]], s_w),
             quantize("y", "fc", s_y), rounding="float")
    np.testing.assert_array_equal(fc.arrays["requantizer"].factor, s_x * s_w / s_y, strict=True)


def test_a_gain_multiplies_the_scale_and_its_sign_is_the_multipliers():
    fc = one(linear("fc", "q", [[1, 2], [3, 4], [5, 6]], 0.5, bias=[1.0, 1.0, 1.7],
                    gain=[2.0, -3.0, 0.0]), quantize("y", "fc", 1.0, 128))
    np.testing.assert_array_equal(fc.arrays["scale"][:2], np.float32([1.0, -1.5]))
    np.testing.assert_array_equal(fc.arrays["weight"], [[1, 2], [3, 4], [0, 0]])  # 0 : a constant
    np.testing.assert_array_equal(fc.arrays["bias"][:2], [2, -1])  # 1 / (0.5 1), 1 / (0.5 -1.5)
    r = fc.arrays["requantizer"]
    assert r.m0[0] > 0 > r.m0[1] and abs(r.m0[1]) >= 2**30
    made = program(quantize("q", "x", 0.5), linear("fc", "q", [[1, 2], [3, 4], [5, 6]], 0.5,
                   bias=[1.0, 1.0, 1.7], gain=[2.0, -3.0, 0.0]), quantize("y", "fc", 0.1, 128))
    x = np.array([[1.0, 2.0]], np.float32)  # 2 (1 + 4) / 2 + 1, -3 (3 + 8) / 2 + 1, 1.7
    np.testing.assert_array_equal(made.plan().integers(x), [[60, -128, 17]])


@pytest.mark.parametrize("scale", [1e-30, 1.2e-7, 1.0, 3.0])
@pytest.mark.parametrize("bias", [1.5, -0.004, 0.0])
def test_a_channel_without_weights_is_its_bias(scale, bias):
    # A pruned channel: its scale is whatever a tool left there
    steps = [quantize("q", "x", 0.5, 3),
             linear("fc", "q", [[0, 0], [1, 1]], [scale, 1.0], bias=[bias, 0.0])]
    np.testing.assert_allclose(program(*steps)(np.ones((1, 2)))[0, 0], bias, rtol=1e-6, atol=0)
    y = program(*steps, quantize("y", "fc", 0.01, 100)).plan().integers(np.ones((1, 2)))
    assert y[0, 0] == max(np.rint(bias / 0.01), -100)


def test_a_bias_that_does_not_fit_is_refused_by_name():
    with pytest.raises(ValueError, match="fc: a bias of 1.5 does not fit int32 at the scale of ch"
                                         "annel 1; raise the scale"):
        one(linear("fc", "q", [[1, 1], [1, 0]], [1.0, 1e-10], bias=[1.5, 1.5]))


def test_a_sum_that_could_overflow_is_refused_at_the_last_that_could():
    # 255 127 n + bias: 66308 weights and 2147384820 fit int32 by 98827
    n = 66308
    room = 2**31 - 255 * 127 * n
    for bias, refused in ((room - 1, False), (room, True)):
        def make():
            weights = np.full((1, n), 127)
            return program(quantize("q", "x", 1.0), linear("fc", "q", weights, 1.0, bias=[bias]),
                           shape=(n,))
        assert float(np.float32(bias)) == bias
        if refused:
            with pytest.raises(ValueError, match=r"fc: an accumulator that could reach 2\.147\d*e"
                                                 r"\+09 overflows int32, in channel 0"):
                make()
        else:
            assert reach(make().instructions[1].arrays) == 2**31 - 1
            x = np.full((1, n), 255, np.float32)
            assert make().plan().integers(x)[0, 0] == 2**31 - 1


def test_activations_clamp_codes():
    made = one(linear("fc", "q", [[1, 1], [1, 0]], 1.0, then="relu6"), quantize("y", "fc", 0.05, 7))
    r = made.arrays["requantizer"]
    np.testing.assert_array_equal(r.lo, [7, 7])
    np.testing.assert_array_equal(r.hi, [127, 127])  # 7 + 6 / 0.05
    made = one(linear("fc", "q", [[1, 1], [1, 0]], 1.0, then="relu6"), quantize("y", "fc", 0.02))
    np.testing.assert_array_equal(made.arrays["requantizer"].hi, [255, 255])  # 300 is no code
    clip = Step("clip", "clip", ("fc",), {}, {"ceiling": dense(1.0, 2.5)})
    made = one(linear("fc", "q", [[1, 1], [1, 0]], 1.0), clip, quantize("y", "clip", 0.05, 7))
    assert made.name == "y"
    np.testing.assert_array_equal(made.arrays["requantizer"].hi, [27, 57])


def test_clamps_add_up_in_any_order():
    grid = Grid(np.float32(0.1), 10, 0, 255, False)
    assert clamped(grid, [None]) == (10, 255)
    assert clamped(grid, [np.float32(3.04), None, np.float32(6)]) == (10, 40)
    assert clamped(grid, []) == (0, 255)


@pytest.mark.parametrize("grid, bits, lo, hi", [
    ("unsigned", 8, 0, 255), ("unsigned", 3, 0, 7), ("full", 8, 0, 255), ("narrow", 8, 1, 255),
    ("full", 4, 120, 135), ("narrow", 2, 127, 129)])
def test_signed_grids_are_stored_shifted(grid, bits, lo, hi):
    zero_point = {"unsigned": 3, "full": -2, "narrow": 0}[grid]
    made = program(quantize("q", "x", 0.5, zero_point, grid=grid, bits=bits), shape=(1,))
    found = made.instructions[0].grid
    assert (found.lo, found.hi, found.signed) == (lo, hi, grid != "unsigned")
    assert found.zero_point == zero_point + (0 if grid == "unsigned" else 128)
    x = np.linspace(-90, 90, 41, dtype=np.float32)[:, None]
    low, high = ((code - found.zero_point) for code in (lo, hi))
    np.testing.assert_array_equal(made(x), 0.5 * np.clip(np.rint(x / np.float32(0.5)), low, high))


def test_rounding_goes_before_moves_and_moves_keep_their_names():
    conv = Step("c", "conv", ("q",), {"out_channels": 4, "kernel_size": 1, "bias": False,
                                      "then": "relu"},
                {"weight": Affine(np.arange(8).reshape(4, 2, 1, 1) - 4, np.float32(0.5))})
    pool = Step("p", "max_pool", ("c",), {"kernel_size": 2, "stride": 2})
    mixed = Step("s", "shuffle", ("p",), {"groups": 2})
    flat = Step("f", "flatten", ("s",))
    made = program(quantize("q", "x", 0.5), conv, pool, mixed, flat, quantize("y", "f", 0.5),
                   linear("fc", "y", [[1] * 4], 1.0), shape=(2, 2, 2))
    assert [(i.name, i.kind, i.inputs) for i in made.instructions] == [
        ("q", "input", ("x",)), ("y", "conv", ("q",)), ("p", "max_pool", ("y",)),
        ("s", "shuffle", ("p",)), ("f", "flatten", ("s",)), ("fc", "linear", ("f",))]
    assert codes_of_steps(made.steps, made.instructions) == {"q": "q", "y": "f"}


def test_what_reads_one_grid_alone_is_a_table():
    tanh = Step("t", "tanh", ("q",))
    made = one(tanh, quantize("y", "t", 1 / 127, grid="narrow"), shape=(2,))
    x = np.float32(0.5) * (np.arange(256) - 3)
    want = np.clip(np.rint(np.tanh(x) / np.float32(1 / 127)), -127, 127) + 128
    assert made.kind == "table"
    np.testing.assert_array_equal(made.arrays["table"], want)
    # a rectifier stays on its grid, where nobody asks for another; a clamp to 6 as well, if 6 is
    kept = program(quantize("q", "x", 0.5, 3), Step("r", "relu", ("q",)), Step("s", "relu6", ("r",)))
    assert [i.kind for i in kept.instructions] == ["input", "table"]
    assert kept.instructions[-1].grid == kept.instructions[0].grid
    np.testing.assert_array_equal(kept(np.array([[-1.0, 9.0]])), [[0.0, 6.0]])


def test_sums_and_tables_share_a_grid():
    add = Step("a", "add", ("q", "p"), {"then": "relu"})
    made = program(quantize("q", "x", 0.5, 3), quantize("p", "q", 0.25, 0), add,
                   quantize("y", "a", 1.0, 1), shape=(1,))
    x = np.array([[-1.5], [1.0], [2.75]], np.float32)  # codes 0, 5, 8 and 0, 4, 10 (of 2.5)
    np.testing.assert_array_equal(made.plan(3).integers(x)[:, 0], [0, 2, 5])
    both = Step("c", "concat", ("q", "p"))
    made = program(quantize("q", "x", 0.5, 3), quantize("p", "q", 0.25, 0), both,
                   quantize("y", "c", 1.0, 1), shape=(1,))
    np.testing.assert_array_equal(made.plan(3).integers(x), [[-1, 0], [1, 1], [2, 2]])


def test_an_average_is_rounded_once_and_padding_is_0():
    pool = Step("p", "avg_pool", ("q",), {"kernel_size": 2, "stride": 1, "padding": 1})
    made = program(quantize("q", "x", 0.5, 3), pool, quantize("y", "p", 0.25, 5), shape=(1, 1, 1))
    x = np.full((1, 1, 1, 1), 1.5, np.float32)  # 3 steps; a window holds one, 0.375 on average
    np.testing.assert_array_equal(made.plan().integers(x), np.full((1, 1, 2, 2), 2))
    # without a grid it is sums of which each is a share
    last = program(quantize("q", "x", 0.5, 3), pool, shape=(1, 1, 1))
    np.testing.assert_array_equal(last.plan().integers(x), np.full((1, 1, 2, 2), 3))
    np.testing.assert_array_equal(last(x), np.full((1, 1, 2, 2), 0.375))


FC = linear("fc", "q", [[1, 2], [3, 4]], 0.5)
NOT_HALF = Affine(np.ones((2, 2), int), np.float32(1), np.int64(1), grid="full")


@pytest.mark.parametrize("steps, says", [
    ([linear("fc", "x", [[1, 2]], 0.5)], "the input is on no grid: an integer program needs"),
    ([quantize("q", "x", 0.5), FC, linear("g", "fc", [[1, 2]], 0.5)], "fc is on no grid"),
    ([quantize("q", "x", 0.5), FC, quantize("y", "fc", 1.0), Step("a", "add", ("y", "fc"))],
     "fc is on no grid"),
    ([quantize("q", "x", 0.5), Step("s", "sigmoid", ("q",)), linear("g", "s", [[1, 2]], 0.5)],
     "s is on no grid"),
    ([quantize("q", "x", 0.7), Step("s", "relu6", ("q",)), linear("g", "s", [[1, 2]], 0.5)],
     "s is on no grid"),  # 6 is no code
    ([quantize("q", "x", 0.5, dynamic=True), FC], "q: a grid that each batch sets anew cannot be"),
    ([quantize("q", "x", 0.5, bits=9), FC], "q: an integer program needs grids of at most 8 bits"),
    ([quantize("q", "x", 0.5), linear("fc", "q", [[1, 2], [3, 4]], 0.5, bits=9)],
     "fc: an integer program needs weights of at most 8 bits.*bits=9"),
    ([quantize("q", "x", 0.5), linear("fc", "q", [[1, 2], [3, 4]], np.ones((2, 2)), group=1)],
     "fc: an integer program needs weights of at most 8 bits.*group=1"),
    ([quantize("q", "x", 0.5), linear("fc", "q", [[1, 200], [3, 4]], 0.5, grid="unsigned")],
     "fc: an integer program needs weights of codes -128..127, got 1..200"),
    ([quantize("q", "x", 0.5), Step("fc", "linear", ("q",), {"out_features": 2, "bias": False},
                                    {"weight": NOT_HALF})], "fc: .* without zero points"),
    ([quantize("q", "x", 0.5), Step("fc", "linear", ("q",), {"out_features": 2, "bias": False},
                                    {"weight": Dense(np.ones((2, 2)))})],
     "fc: an integer program needs weights on an affine grid .* got a form dense"),
    ([quantize("q", "x", 0.5), linear("fc", "q", [[1, 2], [3, 4]], 0.5, then="tanh"),
      quantize("y", "fc", 1.0)], "fc: an integer program needs a grid between a step and its tanh"),
    ([quantize("q", "x", 0.5), linear("fc", "q", [[1, 2], [3, 4]], 0.5, then="relu")],
     "fc: what ends an integer program on no grid is int32 sums"),
    ([quantize("q", "x", 2.0**30), linear("fc", "q", [[1, 2]], 2.0**30), quantize("y", "fc", 1.0)],
     r"fc: m must be below 2\^30"),
    ([quantize("q", "x", 0.5), Step("t", "topk", ("q",), {"k": 1})], "t: a topk has no integer"),
    ([quantize("q", "x", 0.5), Step("s", "scale", ("q",), {}, {"gain": dense(1, 1),
                                                               "bias": dense(0, 0)})],
     "s: a scale has no integer form"),
    ([quantize("q", "x", 0.5), Step("a", "add", ("q", "q"))], "a: an add that ends .* needs a grid"),
    ([Step("r", "relu"), quantize("q", "r", 0.5)], "r: the input of an integer program needs"),
])
def test_what_has_no_integer_form_is_refused_by_name(steps, says):
    with pytest.raises(ValueError, match=says):
        program(*steps)


@pytest.mark.parametrize("step, says", [
    (Step("p", "adaptive_avg_pool", ("q",), {"output_size": 2}), "p: .* cells of one size"),
    (Step("p", "avg_pool", ("q",), {"kernel_size": 2, "stride": 2, "ceil_mode": True}),
     "p: .* windows of one size"),
])
def test_windows_of_unequal_size_are_refused(step, says):
    with pytest.raises(ValueError, match=says):
        program(quantize("q", "x", 0.5), step, quantize("y", "p", 0.5), shape=(1, 3, 3))


def test_rules_go_with_integers_alone():
    with pytest.raises(ValueError, match="rounding must be one of single, gemmlowp, float, got 'n'"):
        program(rounding="n")
    with pytest.raises(ValueError, match="zero_first must be true or false, got 1"):
        program(zero_first=1)
    with pytest.raises(ValueError, match="rounding and zero_first go with precision int8, got flo"):
        Program([], input_shape=(2,), rounding="float")
