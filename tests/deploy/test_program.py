import numpy as np
import pytest

from minicomp.deploy import Program, Step, lower
from minicomp.deploy.steps import KINDS, shapes_of
from minicomp.nn.forms import Codebook, Dense


def linear(name, out, inputs=("x",), size=4, **args):
    weights = {"weight": Dense(np.ones((out, size))), "bias": Dense(np.zeros(out))}
    return Step(name, "linear", inputs, {"out_features": out, **args}, weights)


def test_a_program_says_what_it_is():
    program = Program([linear("fc1", 3), linear("fc2", 2, ("fc1",), 3)], input_shape=(4,))
    assert repr(program) == (
        "<Program: precision float (float32), 2 steps, 23 weights, 4 -> 2>"
    )
    assert program.integer is False and program.precision == "float"
    assert program.shapes() == {"x": (4,), "fc1": (3,), "fc2": (2,)} and program.out_shape == (2,)
    assert list(program.forms()) == ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"]
    assert program.count() == 23 and program.origin_bytes == 92
    assert Program([], input_shape=(4,), origin_bytes=7).origin_bytes == 7


def test_it_is_no_model():
    program = Program([linear("fc1", 3)], input_shape=(4,))
    for verb in ("parameters", "project", "edit", "nodes", "state_dict", "dense"):
        assert not hasattr(program, verb)
    with pytest.raises(AttributeError):
        program.steps[0].name = "other"


def test_a_program_without_steps_is_the_identity():
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    y = Program([], input_shape=(3,))(x)
    np.testing.assert_array_equal(y, x)
    assert not np.shares_memory(x, y)


def test_forms_lie_in_the_order_of_the_kind_whatever_that_of_the_weights():
    step = linear("fc", 3, gain=True)
    shuffled = dict(reversed((step.weights | {"gain": Dense(np.ones(3))}).items()))
    program = Program([Step("fc", "linear", ("x",), step.args, shuffled)], input_shape=(4,))
    assert list(program.forms()) == ["fc.weight", "fc.gain", "fc.bias"]


@pytest.mark.parametrize("make, says", [
    (lambda: Step("fc 1", "relu"), "names of steps must match"),
    (lambda: Step("x", "relu"), "and not be x, got 'x'"),
    (lambda: Step("a", "gelu"), "a: no step of kind 'gelu'; there are linear, conv"),
    (lambda: Step("a", "relu", ("x",), {"k": 1}), r"a: a relu takes no arguments, got \['k'\]"),
    (lambda: Step("a", "linear"), r"a: a linear takes out_features, gain, bias, then, got \[\]"),
    (lambda: Step("a", "linear", ("x",), {"out_features": 0}), "a: out_features must be an int"),
    (lambda: Step("a", "linear", ("x",), {"out_features": True}), "a: out_features must be an int"),
    (lambda: linear("a", 2, then="gelu"), "a: then must be one of relu, .*, got 'gelu'"),
    (lambda: linear("a", 2, bias=1), "a: bias must be true or false, got 1"),
    (lambda: Step("a", "threshold", ("x",), {"threshold": -1.0}), "a: threshold must be a finite"),
    (lambda: Step("a", "max_pool", ("x",), {"kernel_size": 2, "stride": [1]}), "a: stride must be"),
])
def test_steps_that_are_none(make, says):
    with pytest.raises(ValueError, match=says):
        make()


@pytest.mark.parametrize("steps, shape, says", [
    ([linear("a", 2), linear("a", 2)], (4,), "a: there are two steps of that name"),
    ([linear("a", 2, ("b",))], (4,), "a: inputs must be earlier steps, got b"),
    ([Step("a", "add", ())], (4,), "a: inputs must be earlier steps, got none"),
    ([Step("a", "relu", ("x", "x"))], (4,), "a: a relu takes 1 input, got 2"),
    ([linear("a", 2)], (4, 2, 2), r"a: linear needs an input \(I,\), got \(4, 2, 2\)"),
    ([linear("a", 2)], (5,), r"a: weights must have shapes \{'weight': \(2, 5\)"),
    ([linear("a", 2, gain=True)], (4,), "a: weights must have shapes .*'gain': \\(2,\\)"),
    ([Step("a", "conv", ("x",), {"out_channels": 2, "kernel_size": 3})], (4,), "a: conv needs"),
    ([Step("a", "conv", ("x",), {"out_channels": 2, "kernel_size": 3})], (4, 2, 2), "does not fit"),
    ([Step("a", "conv", ("x",), {"out_channels": 3, "kernel_size": 1, "groups": 2})], (4, 2, 2),
     "a: groups must divide 4 and 3, got 2"),
    ([Step("a", "max_pool", ("x",), {"kernel_size": 2, "stride": 1, "padding": 2})], (4, 2, 2),
     "a: padding must be at most half"),
    ([Step("a", "shuffle", ("x",), {"groups": 3})], (4, 2, 2), "a: groups must divide the 4"),
    ([Step("f", "flatten"), Step("a", "add", ("x", "f"))], (4, 2, 2), "a: add needs equal shapes"),
    ([Step("f", "flatten"), Step("a", "concat", ("x", "f"))], (4, 2, 2), "a: concat needs equal"),
    ([], (4, 4), r"input_shape must be \(D,\) or \(C, H, W\)"),
    ([], (0,), "input_shape must be an integer of at least 1, got 0"),
])
def test_steps_that_do_not_fit(steps, shape, says):
    with pytest.raises(ValueError, match=says):
        Program(steps, input_shape=shape)


def test_unknown_precisions_are_refused():
    with pytest.raises(ValueError, match="precision must be one of float, .* got 'int4'"):
        Program([], input_shape=(4,), precision="int4")


def test_arguments_are_kept_in_one_spelling():
    a = Step("a", "conv", ("x",), {"out_channels": 2, "kernel_size": [3, 3], "stride": 1})
    b = Step("a", "conv", ["x"], {"out_channels": 2, "kernel_size": 3, "padding": (0, 0)})
    assert a == b and a.given() == {"out_channels": 2, "kernel_size": (3, 3)}


def test_declared_shapes_are_those_that_come_out(nets, every_machine):
    # Of every kind of step: what is declared is what is computed.
    model = nets.every_layer()
    program = lower(model)
    assert {s.kind for s in program.steps} >= set(KINDS) - {"relu6", "sigmoid", "tanh"}
    for i, step in enumerate(program.steps, start=1):
        part = Program(program.steps[:i], input_shape=program.input_shape)
        assert part(nets.images(model, 2)).shape[1:] == part.out_shape
        assert part.out_shape == program.shapes()[step.name]
    assert shapes_of(program.steps, program.input_shape) == program.shapes()


def test_weights_may_have_any_form():
    book = Codebook(np.array([[0, 1], [1, 0]]), np.array([0.0, 2.0]), pinned_zero=True)
    step = Step("fc", "linear", ("x",), {"out_features": 2, "bias": False}, {"weight": book})
    y = Program([step], input_shape=(2,))(np.array([[1, 10]], np.float32))
    np.testing.assert_array_equal(y, [[20, 2]])
