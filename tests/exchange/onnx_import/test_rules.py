# The traps, each as the smallest graph that has it: what onnxruntime computes, the model computes.
import numpy as np
import pytest
from minicomp.errors import UserError
from minicomp.exchange.onnx_import import load_onnx

onnx = pytest.importorskip("onnx")
pytestmark = pytest.mark.peers

H = onnx.helper
RNG = np.random.default_rng(0)
MAPS, FEATURES = ("N", 2, 7, 6), ("N", 12)


def floats(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def ints(*shape, lo=-127, hi=127, dtype=np.int8):
    return RNG.integers(lo, hi + 1, shape).astype(dtype)


def n(kind, inputs, outputs="y", **attributes):
    return H.make_node(kind, ["" if i == "-" else i for i in inputs.split()], outputs.split(),
                       **attributes)


def graph(nodes, arrays, shape, dtype=onnx.TensorProto.FLOAT):
    given = H.make_tensor_value_info("x", dtype, shape)
    held = [onnx.numpy_helper.from_array(np.asarray(a), name) for name, a in arrays.items()]
    made = H.make_graph(nodes, "g", [given], [H.make_empty_tensor_value_info("y")], held)
    domains = [H.make_opsetid("", 21), H.make_opsetid("com.microsoft", 1)]
    return H.make_model(made, opset_imports=domains, ir_version=10)


def both(nodes, arrays, shape, tmp_path, x=None):
    # (the import, its output, onnxruntime's)
    import onnxruntime as runtime

    x = RNG.normal(size=(3, *shape[1:])).astype(np.float32) if x is None else x
    kind = H.np_dtype_to_tensor_dtype(x.dtype)
    path = tmp_path / "g.onnx"
    onnx.save(graph(nodes, arrays, shape, kind), path)
    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    (wanted,) = runtime.InferenceSession(path, options).run(None, {"x": x})
    found = load_onnx(path)
    given = x.astype(np.float32)
    if found.model.input_shape != x.shape[1:]:
        given = given.transpose(0, 3, 1, 2) if given.ndim == 4 else given
        given = given.reshape(len(x), *found.model.input_shape)
    return found, found.model(given).data, wanted


def quantized(name="x", scale="s", zero="z"):
    return [n("QuantizeLinear", f"{name} {scale} {zero}", f"{name}_c"),
            n("DequantizeLinear", f"{name}_c {scale} {zero}", f"{name}_q")]


GRID = {"s": np.float32(0.03), "z": np.uint8(120)}
CODES = {"w": ints(4, 2, 3, 3), "ws": np.abs(floats(4)) / 50 + np.float32(0.001)}
DQ = n("DequantizeLinear", "w ws", "v", axis=0)
CHAIN = [n("Shape", "x", "a"), n("Gather", "a zero", "b"), n("Unsqueeze", "b axes", "c"),
         n("Concat", "c rest", "d", axis=0), n("Reshape", "x d", "e"), n("MatMul", "e m")]
SHUFFLE = [n("Reshape", "k five", "a"), n("Transpose", "a", "b", perm=[0, 2, 1, 3, 4]),
           n("Reshape", "b four", "c"), n("Conv", "c u")]
LAST = [n("Transpose", "x", "a", perm=[0, 2, 3, 1]), n("Mul", "a g", "b"), n("Add", "b h", "c"),
        n("Concat", "c b", "d", axis=3)]
GRAPHS = {
    "pads that differ": ([n("Conv", "x w", pads=[0, 2, 1, 0])], {"w": floats(4, 2, 3, 3)}, MAPS),
    "pads that differ, strides": ([n("Conv", "x w b", pads=[1, 0, 0, 1], strides=[2, 2])],
                                  {"w": floats(4, 2, 3, 3), "b": floats(4)}, MAPS),
    "SAME_UPPER": ([n("Conv", "x w", auto_pad="SAME_UPPER", strides=[2, 2])],
                   {"w": floats(4, 2, 3, 3)}, MAPS),
    "SAME_LOWER": ([n("Conv", "x w", auto_pad="SAME_LOWER", strides=[2, 2])],
                   {"w": floats(4, 2, 4, 4)}, MAPS),
    "dilations, groups": ([n("Conv", "x w", dilations=[2, 1], pads=[2, 1, 0, 1], group=2)],
                          {"w": floats(4, 1, 2, 3)}, MAPS),
    "a Pad": ([n("Pad", "x p", "a"), n("Conv", "a w", pads=[0, 1, 0, 1])],
              {"p": np.array([0, 0, 1, 0, 0, 0, 1, 2]), "w": floats(4, 2, 3, 3)}, MAPS),
    "a Pad of axes, then codes": (
        [n("Pad", "x p - axes", "a"), *quantized("a"), n("Conv", "a_q w")],
        {"p": np.array([1, 2]), "axes": np.array([-2]), "w": floats(4, 2, 3, 3), **GRID}, MAPS),
    "a Pad of codes": (
        [n("QuantizeLinear", "x s z", "a"), n("Pad", "a p z", "b"),
         n("DequantizeLinear", "b s z", "c"), n("Conv", "c w")],
        {"p": np.array([0, 0, 1, 1, 0, 0, 1, 1]), "w": floats(4, 2, 3, 3), **GRID}, MAPS),
    "a Pad, then the largest": (
        [n("Relu", "x", "r"), n("Pad", "r p", "a"),
         n("MaxPool", "a", kernel_shape=[3, 3], strides=[2, 2])],
        {"p": np.array([0, 0, 1, 1, 0, 0, 1, 1])}, MAPS),
    "windows over the end": ([n("MaxPool", "x", kernel_shape=[2, 2], strides=[2, 2],
                                auto_pad="SAME_UPPER")], {}, MAPS),
    "means over the end": ([n("AveragePool", "x", kernel_shape=[2, 2], strides=[2, 2],
                              auto_pad="SAME_UPPER")], {}, MAPS),
    "a mean of axes below 0": ([n("ReduceMean", "x axes", keepdims=0)],
                               {"axes": np.array([-1, -2])}, MAPS),
    "alpha and beta": ([n("Gemm", "x w b", alpha=0.5, beta=-2.0)],
                       {"w": floats(12, 5), "b": floats(1, 5)}, FEATURES),
    "a bias behind": ([n("MatMul", "x w", "a"), n("Add", "b a")],
                      {"w": floats(12, 5), "b": floats(5)}, FEATURES),
    "arithmetic": ([n("Conv", "x w", "a"), n("Mul", "a g", "b"), n("Sub", "h b", "c"),
                    n("Div", "c two")],
                   {"w": floats(4, 2, 3, 3), "g": floats(4, 1, 1), "h": floats(1, 4, 1, 1),
                    "two": np.float32(2)}, MAPS),
    "a normalisation": ([n("Sub", "x g", "a"), n("Div", "a h")],
                        {"g": floats(2, 1, 1), "h": np.abs(floats(2, 1, 1))}, MAPS),
    "sizes computed": (CHAIN, {"zero": np.array(0), "axes": np.array([0]), "rest": np.array([84]),
                               "m": floats(84, 5)}, MAPS),
    "features of channels last": (
        [n("Transpose", "x", "a", perm=[0, 2, 3, 1]), n("Flatten", "a", "b"), n("Gemm", "b w")],
        {"w": floats(84, 5)}, MAPS),
    "channels last and back": (
        [*LAST, n("Relu", "d", "e"), n("Transpose", "e", perm=[0, 3, 1, 2])],
        {"g": floats(2), "h": floats(2)}, MAPS),
    "a mean of channels last": ([*LAST, n("ReduceMean", "d axes", keepdims=0)],
                                {"g": floats(2), "h": floats(2), "axes": np.array([1, 2])}, MAPS),
    "an input of channels last": (
        [n("Sub", "x g", "a"), n("Transpose", "a", "b", perm=[0, 3, 1, 2]), n("Conv", "b w")],
        {"g": floats(2), "w": floats(4, 2, 3, 3)}, ("N", 7, 6, 2)),
    "an input in a row": ([n("Reshape", "x r", "a"), n("Conv", "a w")],
                          {"r": np.array([-1, 1, 3, 4]), "w": floats(2, 1, 2, 2)}, FEATURES),
    "a shuffle": ([n("Conv", "x v", "k"), *SHUFFLE],
                  {"v": floats(6, 2, 1, 1), "u": floats(2, 6, 1, 1),
                   "five": np.array([0, 2, 3, 7, 6]), "four": np.array([0, 6, 7, 6])}, MAPS),
    "codes of weights": ([DQ, n("Conv", "x v")], CODES, MAPS),
    "a scale below 0, code -128": (
        [DQ, n("Conv", "x v")],
        {"w": ints(4, 2, 3, 3, lo=-128, hi=-120), "ws": -CODES["ws"]}, MAPS),
    "an axis below 0, transposed": (
        [n("DequantizeLinear", "w ws", "v", axis=-2), n("Transpose", "v", "t", perm=[1, 0]),
         n("MatMul", "x t")], {"w": ints(5, 12), "ws": np.abs(floats(5))}, FEATURES),
    "codes clipped": (
        [n("Clip", "w lo hi", "c"), n("DequantizeLinear", "c ws", "v", axis=0), n("Conv", "x v")],
        {**CODES, "lo": np.int8(-7), "hi": np.int8(7)}, MAPS),
    "codes made of numbers": (
        [n("QuantizeLinear", "f ws zs", "w", axis=0),
         n("DequantizeLinear", "w ws zs", "v", axis=0), n("Conv", "x v")],
        {"f": floats(4, 2, 3, 3), "ws": CODES["ws"], "zs": np.zeros(4, np.int8)}, MAPS),
    "bytes of signed codes": (
        [n("DequantizeLinear", "w ws zs", "v"), n("MatMul", "x v")],
        {"w": ints(12, 5, lo=0, hi=255, dtype=np.uint8), "ws": np.float32(0.01),
         "zs": np.uint8(128)}, FEATURES),
    "zero points of columns": (
        [n("DequantizeLinear", "w ws zs", "v", axis=1), n("MatMul", "x v")],
        {"w": ints(12, 5, lo=0, hi=255, dtype=np.uint8), "ws": np.abs(floats(5)),
         "zs": ints(5, lo=0, hi=255, dtype=np.uint8)}, FEATURES),
    "scales of blocks": (
        [n("DequantizeLinear", "w ws", "v", axis=0, block_size=4), n("MatMul", "x v")],
        {"w": ints(12, 5), "ws": np.abs(floats(3, 5))}, FEATURES),
    "scales of rows": (
        [n("DequantizeLinear", "w ws", "v", axis=0), n("MatMul", "x v")],
        {"w": ints(12, 5), "ws": np.abs(floats(12))}, FEATURES),
    "codes of an asymmetric convolution": (
        [DQ, n("Conv", "x v", pads=[0, 0, 1, 1], strides=[2, 2])], CODES, MAPS),
    "activations on a grid": ([*quantized(), n("Relu", "x_q")], GRID, MAPS),
    "activations of few codes": (
        [n("QuantizeLinear", "x s z", "a"), n("Clip", "a lo hi", "b"),
         n("DequantizeLinear", "b s z")],
        {"s": np.float32(0.2), "z": np.int8(0), "lo": np.int8(-8), "hi": np.int8(7)}, MAPS),
    "a Clip of codes": (
        [n("Conv", "x w", "k"), n("QuantizeLinear", "k s z", "a"), n("Clip", "a z hi", "b"),
         n("DequantizeLinear", "b s z")],
        {**GRID, "w": floats(4, 2, 3, 3), "hi": np.uint8(180)}, MAPS),
    "the least of it and constants": (
        [n("Relu", "x", "a"), n("Min", "a c")], {"c": np.array([[[0.3]], [[0.7]]], np.float32)},
        MAPS),
    "codes through a pool": (
        [n("QuantizeLinear", "x s z", "a"),
         n("MaxPool", "a", "b", kernel_shape=[2, 2], strides=[2, 2]),
         n("DequantizeLinear", "b s z", "c"), n("Flatten", "c")], GRID, MAPS),
    "a node constant": (
        [n("Constant", "", "w", value=onnx.numpy_helper.from_array(floats(12, 5))),
         n("MatMul", "x w")], {}, FEATURES),
    "a Clip at 6 in two": ([n("Relu", "x", "a"), n("Clip", "a - six")], {"six": np.float32(6)},
                           MAPS),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_it_gives_what_onnxruntime_gives(name, tmp_path):
    nodes, arrays, shape = GRAPHS[name]
    found, y, wanted = both(nodes, arrays, shape, tmp_path)
    np.testing.assert_allclose(y, wanted, rtol=0, atol=1e-5 * max(1, np.abs(wanted).max()))
    kept = "float" in " ".join(found.notes)
    coded = "w" in arrays and arrays["w"].dtype.kind in "iu" or "f" in arrays
    forms = [f.kind for f in found.model.forms().values()]
    assert ("affine" in forms) == (coded and not kept), forms
    assert kept == (name == "scales of rows")


def layers(nodes, arrays, shape, tmp_path):
    path = tmp_path / "g.onnx"
    onnx.save(graph(nodes, arrays, shape), path)
    return [node.layer for node in load_onnx(path).model.nodes]


def test_each_becomes_the_layer_that_says_it(tmp_path):
    def kinds(name):
        return [layer.kind for layer in layers(*GRAPHS[name], tmp_path)]

    assert kinds("a normalisation") == ["Normalize"]
    assert kinds("a bias behind") == ["Linear"]
    assert kinds("arithmetic") == ["Conv2d", "BatchNorm2d"]
    assert kinds("a shuffle") == ["Conv2d", "ChannelShuffle", "Conv2d"]
    assert kinds("features of channels last") == ["Flatten", "Linear"]
    assert kinds("a Clip at 6 in two") == ["ReLU6"]
    assert kinds("a Clip of codes") == ["Conv2d", "ClipChannels", "ActQuant"]
    assert kinds("a Pad") == ["Conv2d"]


def test_codes_scales_and_grids_are_taken_over(tmp_path):
    (conv,) = layers(*GRAPHS["codes of weights"], tmp_path)
    np.testing.assert_array_equal(conv.weight.q, CODES["w"])
    np.testing.assert_array_equal(conv.weight.scale.data, CODES["ws"])
    assert conv.weight.bits == 8 and conv.weight.grid == "narrow"
    (conv,) = layers(*GRAPHS["a scale below 0, code -128"], tmp_path)
    assert conv.weight.grid == "full" and conv.weight.q.min() == -128
    (conv,) = layers(*GRAPHS["codes clipped"], tmp_path)
    assert (conv.weight.bits, conv.weight.grid) == (4, "narrow")
    (linear,) = layers(*GRAPHS["bytes of signed codes"], tmp_path)
    assert linear.weight.zero_point is None and linear.weight.q.min() < 0
    (linear,) = layers(*GRAPHS["scales of blocks"], tmp_path)
    assert linear.weight.group == 4
    (conv,) = layers(*GRAPHS["codes of an asymmetric convolution"], tmp_path)
    assert conv.kernel_size == (4, 4) and (conv.weight.q[..., 0, :] == 0).all()
    assert not conv.weight.mask[..., 0, :].any() and conv.weight.mask[..., 1:, 1:].any()
    (grid,) = layers(*GRAPHS["activations of few codes"], tmp_path)
    assert (grid.bits, grid.grid, grid.scale) == (4, "full", np.float32(0.2))
    grid, _ = layers(*GRAPHS["activations on a grid"], tmp_path)
    assert (grid.scale, grid.zero_point, grid.grid) == (np.float32(0.03), 120, "unsigned")


def test_bytes_go_in_as_numbers(tmp_path):
    nodes = [n("DequantizeLinear", "x s z", "a"), DQ, n("Conv", "a v")]
    x = ints(3, 2, 7, 6, lo=0, hi=255, dtype=np.uint8)
    found, y, wanted = both(nodes, {**CODES, **GRID}, MAPS, tmp_path, x)
    np.testing.assert_allclose(y, wanted, atol=1e-5 * np.abs(wanted).max())
    assert [k.layer.kind for k in found.model.nodes] == ["Normalize", "ActQuant", "Conv2d"]


@pytest.mark.parametrize("nodes, arrays, message", [
    ([n("LeakyRelu", "x", alpha=0.1)], {}, "LeakyRelu.: the operator is not among"),
    ([n("MaxPool", "x", kernel_shape=[2, 2], auto_pad="SAME_LOWER", strides=[1, 1])], {},
     "pads must be"),
    ([n("Pad", "x p", "a"), n("MaxPool", "a", kernel_shape=[2, 2])],
     {"p": np.array([0, 0, 1, 1, 0, 0, 0, 0])}, "may be larger than what comes"),
    ([n("Pad", "x p", "a"), n("Sigmoid", "a", "b"), n("Conv", "b w")],
     {"p": np.array([0, 0, 1, 1, 0, 0, 0, 0]), "w": floats(1, 2, 2, 2)}, "Sigmoid.*padded"),
    ([n("Transpose", "x", "a", perm=[0, 1, 3, 2]), n("Conv", "a w")], {"w": floats(1, 2, 2, 2)},
     "does not cancel"),
    ([n("QuantizeLinear", "x s z", "a"), n("DequantizeLinear", "a t z")],
     {**GRID, "t": np.float32(0.04)}, "must be read with the scale and zero point"),
    ([n("Pad", "x p v", "a"), n("Conv", "a w")],
     {"p": np.array([0, 0, 1, 1, 0, 0, 0, 0]), "v": np.float32(1), "w": floats(1, 2, 2, 2)},
     "what is padded must be 0"),
    ([n("Transpose", "x", perm=[1, 0, 2, 3])], {}, "the examples must stay in front"),
    ([n("Softmax", "x", "a"), n("Relu", "a")], {}, "Relu.: it reads what Softmax gives"),
    ([n("Clip", "x lo hi")], {"lo": np.float32(-1), "hi": np.float32(1)}, "must begin at 0"),
    ([n("Mul", "x x")], {}, "must be a constant"),
])
def test_what_no_layer_does_is_refused_with_its_node(nodes, arrays, message, tmp_path):
    path = tmp_path / "g.onnx"
    onnx.save(graph(nodes, arrays, MAPS), path)
    with pytest.raises(UserError, match=f"node .*{message}"):
        load_onnx(path)
