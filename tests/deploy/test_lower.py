import numpy as np
import pytest

from minicomp.deploy import lower
from minicomp.models import MLP, MODELS
from minicomp.nn import layers as nn
from minicomp.nn.forms import Dense
from minicomp.nn.graph import Model, Node, chain


def kinds(program):
    return [(s.name, s.kind, s.inputs, s.then) for s in program.steps]


def test_layers_become_steps_or_vanish(nets):
    program = lower(nets.every_layer())
    assert kinds(program) == [
        ("normalize", "scale", ("x",), None),  # nothing stands before it
        ("stem", "conv", ("normalize",), "relu"),
        ("left", "conv", ("stem",), None),  # its sum with `right` is no activation's
        ("right", "avg_pool", ("stem",), None),
        ("right_bn", "scale", ("right",), "relu6"),  # a pool takes no gain
        ("add", "add", ("left", "right_bn"), None),  # read by concat too: no `then`
        ("add_relu", "relu", ("add",), None),
        ("shift", "scale", ("right",), None),
        ("stripes", "shuffle", ("shift",), None),
        ("sign", "sign", ("stripes",), None),  # a shuffle has no `then`
        ("signed", "conv", ("sign",), None),
        ("sized", "input_scale", ("signed", "stripes"), None),  # with a gain
        ("concat", "concat", ("add_relu", "stem", "add", "sized"), None),
        ("shuffle", "shuffle", ("concat",), None),
        ("pool", "max_pool", ("shuffle",), None),
        ("cells", "adaptive_avg_pool", ("pool",), None),
        ("flatten", "flatten", ("cells",), None),
        ("fc1", "linear", ("flatten",), "tanh"),  # through two batch norms
        ("thresh", "threshold", ("fc1",), None),
        ("clip", "clip", ("thresh",), None),
        ("quant", "quantize", ("clip",), None),
        ("fc2", "linear", ("quant",), "sigmoid"),
        ("sums", "binary_sum", ("fc2",), None),
        ("both", "add", ("fc2", "sums"), None),
        ("phases", "crelu", ("both",), None),
        ("topk", "topk", ("phases",), None),
        ("fc3", "linear", ("topk",), None),
    ]
    assert list(program.steps[1].weights) == ["weight", "gain", "bias"]


def test_a_fold_by_hand():
    # gamma (w x + b - mean) / sqrt(var + eps) + beta with gamma 6, b 3, mean 1, var + eps 4,
    # beta -5: 3 (w x) + 9 - 3 - 5
    nodes = chain(("fc", nn.Linear(1, 1)), ("bn", nn.BatchNorm1d(1, eps=0.0)))
    model = Model(nodes, input_shape=(1,))
    values = {"fc.weight": [[7.0]], "fc.bias": [3.0], "bn.weight": [6.0], "bn.bias": [-5.0]}
    for name, value in values.items():
        model.set_form(name, Dense(np.array(value, np.float32)))
    for name, value in (("bn.running_mean", 1.0), ("bn.running_var", 4.0)):
        model.buffers()[name][...] = value
    (step,) = lower(model).steps
    found = {part: form.dense().data.tolist() for part, form in step.weights.items()}
    assert found == {"weight": [[7.0]], "bias": [1.0], "gain": [3.0]}
    np.testing.assert_array_equal(lower(model)(np.array([[2.0]])), [[43.0]])


def test_stored_weights_are_kept_as_they_are(nets):
    for how in ("shared", "half", "n:m"):
        model = nets.large(how)
        program = lower(model)
        for name in ("conv", "fc1", "fc2"):
            kept, was = (m.forms()[f"{name}.weight"] for m in (program, model))
            assert kept.kind == was.kind and not kept.trainable
            np.testing.assert_array_equal(kept.dense().data, was.dense().data, strict=True)


@pytest.mark.parametrize("between", ["tap", "activation", "sum"])
def test_what_others_read_is_not_folded(between, nets):
    bn = Node("bn", nn.BatchNorm1d(3), ("fc",))
    if between == "tap":
        nodes = [Node("fc", nn.Linear(3, 3)), bn, Node("add", nn.Add(), ("fc", "bn"))]
        expected = [("fc", "linear"), ("bn", "scale"), ("add", "add")]
    elif between == "sum":  # which takes no gain
        nodes = [Node("relu", nn.ReLU()), Node("add", nn.Add(), ("x", "relu")),
                 Node("bn", nn.BatchNorm1d(3), ("add",))]
        expected = [("relu", "relu"), ("add", "add"), ("bn", "scale")]
    else:  # batch norm behind an activation, and an activation behind another
        nodes = chain(("fc", nn.Linear(3, 3)), ("r", nn.ReLU()), ("bn", nn.BatchNorm1d(3)),
                      ("s", nn.Sigmoid()), ("t", nn.Tanh()))
        expected = [("fc", "linear"), ("bn", "scale"), ("t", "tanh")]
    model = nets.drawn(Model(nodes, input_shape=(3,)))
    program = lower(model)
    assert [(s.name, s.kind) for s in program.steps] == expected
    nets.close(program(nets.images(model, 5)), model(nets.images(model, 5)).data)


def test_the_output_may_be_an_earlier_node(nets):
    # The last node is the identity of one in the middle; what comes between is not computed.
    nodes = [*chain(("a", nn.ReLU()), ("b", nn.Sigmoid())), Node("c", nn.Identity(), ("a",))]
    model = Model(nodes, input_shape=(3,))
    program = lower(model)
    assert [s.name for s in program.steps] == ["a"]
    np.testing.assert_array_equal(program(nets.images(model, 4)), model(nets.images(model, 4)).data)
    nothing = lower(Model([Node("c", nn.Dropout(0.5))], input_shape=(3,)))
    assert nothing.steps == () and nothing.out_shape == (3,)


def test_an_output_that_is_read_again_is_not_fused():
    # fc is the output, through an identity, and the input of what is not: relu is dead, fc as it is
    nodes = chain(("fc", nn.Linear(2, 2)), ("relu", nn.ReLU()))
    nodes += (Node("id", nn.Identity(), ("fc",)),)
    assert [s.then for s in lower(Model(nodes, input_shape=(2,))).steps] == [None]


def test_the_same_model_gives_the_same_program_and_is_untouched(nets):
    model = nets.every_layer()
    before = model.state_dict()
    a, b = lower(model), lower(model)
    assert kinds(a) == kinds(b) and a.origin_bytes == model.origin_bytes
    for name, form in a.forms().items():
        np.testing.assert_array_equal(form.dense().data, b.forms()[name].dense().data, strict=True)
        form.value.data[...] = 7
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name], strict=True)


def test_built_in_nets_have_one_step_a_weight(built_in):
    for name in MODELS:
        model = built_in(name)
        weights = [n.removesuffix(".weight") for n, f in model.forms().items() if len(f.shape) > 1]
        assert [s.name for s in lower(model).steps if "weight" in s.weights] == weights, name


def test_refusals(nets):
    class Cube(nn.Layer):
        kind = "Cube"

        def forward(self, x, **_):
            return x * x * x

    model = Model(chain(("fc", nn.Linear(3, 3)), ("cube", Cube())), input_shape=(3,))
    training = Model(chain(("conv", nn.ConvBN2d(1, 2, 3))), input_shape=(1, 4, 4))
    with pytest.raises(ValueError, match="conv: a ConvBN2d cannot be lowered"):
        lower(training)
    with pytest.raises(ValueError, match="cube: a Cube cannot be lowered, no step computes it"):
        lower(model)
    with pytest.raises(ValueError, match="precision must be one of float, .* got 'int4'"):
        lower(MLP([3, 2]), precision="int4")
    still = Model(chain(("bn", nn.BatchNorm1d(3, eps=0.0))), input_shape=(3,))
    still.buffers()["bn.running_var"][...] = 0
    with pytest.raises(ValueError, match=r"bn: running_var \+ eps must be above 0, got 0"):
        lower(still)


def test_a_layer_may_name_a_step_that_there_is():
    # A further layer is lowered by what it says of itself, with no other edit.
    class Halve(nn.Layer):
        kind, step = "Halve", "scale"

        def forward(self, x, **_):
            return x * 0.5

        def lowered(self):
            return {"gain": Dense(np.full(3, 0.5)), "bias": Dense(np.zeros(3))}

    model = Model(chain(("fc", nn.Linear(3, 3)), ("half", Halve())), input_shape=(3,))
    model.set_form("fc.weight", Dense(np.eye(3)))
    program = lower(model)
    assert [s.name for s in program.steps] == ["fc"]
    np.testing.assert_array_equal(program(np.array([[2, 4, 6]])), [[1, 2, 3]])
