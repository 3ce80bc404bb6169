# A file is a stranger's: whatever is wrong with it is one clear error, in bounded time and memory.
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from minicomp.errors import FormatError, UserError
from minicomp.exchange.onnx_import import load_onnx
from minicomp.exchange.onnx_import.graph import MAX_OPS

onnx = pytest.importorskip("onnx")
pytestmark = pytest.mark.peers

H = onnx.helper
FLOAT = onnx.TensorProto.FLOAT
MEMORY = 2**24  # that a load may take where max_bytes is as much


def array(name, a):
    return onnx.numpy_helper.from_array(np.asarray(a, getattr(a, "dtype", np.float32)), name)


def declared(name, dims, kind=FLOAT):
    return onnx.TensorProto(name=name, dims=dims, data_type=kind)


def model(nodes, arrays=(), shape=("N", 4), outputs=("y",)):
    given = H.make_tensor_value_info("x", FLOAT, shape)
    graph = H.make_graph(nodes, "g", [given], [H.make_empty_tensor_value_info(o) for o in outputs],
                         list(arrays))
    return H.make_model(graph)


def node(kind, inputs, outputs="y", **attributes):
    return H.make_node(kind, inputs.split(), outputs.split(), name=f"a_{kind}", **attributes)


def doubling():
    # y = x, y, y joined 60 times: 2^60 features
    names = ["x", *(f"v{i}" for i in range(60))]
    return [node("Concat", f"{a} {a}", b, axis=1) for a, b in zip(names, [*names[1:], "y"])]


def nested(depth):
    graph = H.make_graph([], "g", [], [])
    for _ in range(depth):
        graph = H.make_graph([H.make_node("If", ["x"], ["y"], then_branch=graph)], "g", [], [])
    return graph.node[0]


INT64 = onnx.TensorProto.INT64
W = array("w", np.eye(4, dtype=np.float32))
K = array("k", np.ones((1, 1, 3, 3), np.float32))
MAPS = ("N", 1, 8, 8)
HOSTILE = {
    "a loop": (model([node("Loop", "x x x")]), "Loop.*is not among"),
    "a branch": (model([nested(1)]), "If.*is not among"),
    "nesting": (model([nested(12)]), "messages in one another"),
    "an operator of nobody": (model([node("Nothing", "x")]), "a_Nothing .Nothing"),
    "a domain of nobody": (model([node("Relu", "x", domain="evil")]), "evil.Relu"),
    "no array": (model([node("MatMul", "x w")]), "nothing before it gives w"),
    "a circle": (model([node("Relu", "b", "a"), node("Relu", "a", "b"), node("Add", "a b")]),
                 "nothing before it gives b"),
    "an output of nobody": (model([node("Relu", "x", "z")]), "nothing before it gives y"),
    "no input": (model([node("Relu", "x")]), "the graph has 0"),
    "two inputs": (model([node("Relu", "x")]), "the graph has 2: x, z"),
    "a name twice": (model([node("Relu", "x"), node("Relu", "x"), node("Add", "y y", "z")],
                           outputs="z"), "there is a y already"),
    "an array twice": (model([node("MatMul", "x w")], [W, W]), "two arrays w"),
    "external data": (model([node("MatMul", "x w")], [W]), "other files"),
    "huge dims": (model([node("MatMul", "x w")], [declared("w", [2**40, 2**20])]),
                  "must take at most"),
    "dims of nothing": (model([node("MatMul", "x w")], [declared("w", [4, 2**20])]),
                        "must take at most|damaged|entries|array w"),
    "dims below 0": (model([node("MatMul", "x w")], [declared("w", [4, -4])]), "at least 0"),
    "texts": (model([node("Add", "x w")], [declared("w", [1], onnx.TensorProto.STRING)]),
              "types are"),
    "numbers too few": (model([node("MatMul", "x w")],
                              [onnx.TensorProto(name="w", dims=[4, 4], data_type=FLOAT,
                                                raw_data=b"1234")]), "take 64 bytes, got 4"),
    "NaN": (model([node("MatMul", "x w")], [array("w", np.full((4, 4), np.nan, np.float32))]),
            "finite"),
    "a constant of any size": (model([node("ConstantOfShape", "s", "w"), node("Add", "x w")],
                                     [array("s", np.array([2**40, 2**40]))]), "at most"),
    "an expansion": (model([node("Expand", "b s", "w"), node("Add", "x w")],
                           [array("s", np.array([2**40])), array("b", np.ones(1, np.float32))]),
                     "at most"),
    "a broadcast": (model([node("Add", "b c", "w"), node("Add", "x w")],
                          [array("b", np.ones((2**20, 1), np.int8)),
                           array("c", np.ones((1, 2**20), np.int8))]), "at most"),
    "a broadcast over maps": (model([node("Add", "x b")], [array("b", np.ones((2, 1, 2)))],
                                    ("N", 2, 2**21, 2)), "at most"),
    "an input of any size": (model([node("Transpose", "x", perm=[0, 2, 3, 1])],
                                   shape=("N", 2**20, 2**20, 2**20)), "at most"),
    "a pad of any size": (model([node("Pad", "x p")],
                                [array("p", np.array([0, 0, 0, 0, 0, 2**40]))],
                                ("N", 4, 4)), "at most"),
    "kernels of any size": (model([node("Conv", "x k", dilations=[2**20, 2**20])], [K], MAPS),
                            "at most"),
    "pads of any size": (model([node("Conv", "x k", pads=[2**40, 0, 0, 0])], [K], MAPS),
                         "at most|below"),
    "doubling": (model(doubling()), "at most|bytes"),
    "strides of 0": (model([node("Conv", "x k", strides=[0, 1])], [K], MAPS), "at least 1"),
    "groups of 0": (model([node("Conv", "x k", group=0)], [K], MAPS), "at least 1"),
    "a window too large": (model([node("MaxPool", "x", kernel_shape=[9, 9])], shape=MAPS),
                           "does not fit"),
    "an attribute of another type": (model([node("Conv", "x k", strides="much")], [K], MAPS),
                                     "strides must be of type list"),
    "an attribute of nobody": (model([node("Relu", "x", speed=3)]), "speed is not read"),
    "a scale of 0": (model([node("QuantizeLinear", "x s z", "q"),
                            node("DequantizeLinear", "q s z")],
                           [array("s", np.float32(0)), array("z", np.uint8(0))]), "above 0"),
    "a weight's scale of 0": (model([node("DequantizeLinear", "w s", "v"), node("MatMul", "x v")],
                                    [array("w", np.ones((4, 4), np.int8)),
                                     array("s", np.float32(0))]), "not 0"),
    "a variance below 0": (model([node("BatchNormalization", "x b b b v")],
                                 [array("b", np.ones(1)), array("v", -np.ones(1))], MAPS),
                           "var must be at least 0"),
    "a division by 0": (model([node("Div", "x b")], [array("b", np.zeros(1))]), "divides by 0"),
    "open sizes": (model([node("Relu", "x")], shape=("N", "C", "H", "W")), "all sizes but N fixed"),
    "too many nodes": (model([node("Relu", "x")] * (MAX_OPS + 1)), "at most"),
    "too many layers": (model([node("Relu", f"v{i}" if i else "x", f"v{i + 1}")
                               for i in range(1100)], outputs=("v1100",)), "at most 1024 nodes"),
    "control characters": (model([H.make_node("a\x1b[31m", ["x"], ["y"], name="n\x1b[31m" * 99)]),
                           r"n\\x1b\[31m"),
}
HOSTILE["external data"][0].graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL
del HOSTILE["no input"][0].graph.input[:]
HOSTILE["two inputs"][0].graph.input.append(H.make_tensor_value_info("z", FLOAT, ("N", 4)))


def loaded(proto, path, max_bytes=MEMORY):
    path.write_bytes(proto if isinstance(proto, bytes) else proto.SerializeToString())
    return load_onnx(path, max_bytes=max_bytes)


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_wrong_is_said(name, tmp_path):
    proto, why = HOSTILE[name]
    load_onnx(_small(tmp_path))  # what is imported once is not the file's
    tracemalloc.start()
    start = time.process_time()
    with pytest.raises(UserError, match=why) as caught:
        loaded(proto, tmp_path / "\x1b[31m.onnx")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    text = str(caught.value)
    assert text.isprintable() and len(text) < 1000 and text.startswith(str(tmp_path)[:20])
    assert "is damaged" not in text, text
    assert peak < 4 * MEMORY and time.process_time() - start < 5


def _small(folder):
    path = folder / "small.onnx"
    path.write_bytes(model([node("Relu", "x")]).SerializeToString())
    return path


def test_bytes_that_are_no_file_of_onnx(tmp_path):
    path = tmp_path / "a.onnx"
    for data in (b"", b"\x00", b"not a file of onnx", b"\xff" * 100, b"\x08\x80", b"\x3a\x05ab",
                 bytes(range(256))):
        with pytest.raises(FormatError):
            loaded(data, path)
    empty = b"\x3a" + b"\x80\x89\x7a" + b"\x0a\x00" * 1_000_000  # a graph of a million nodes
    start = time.process_time()
    with pytest.raises(FormatError, match="fields|cut off|at most"):
        loaded(empty, path)
    assert time.process_time() - start < 10
    with pytest.raises(FormatError, match="must take at most 10 bytes"):
        loaded(model([node("Relu", "x")]), path, max_bytes=10)


def test_damaged_bytes_of_a_net_are_an_error_or_a_net(tmp_path):
    folder = Path(__file__).parents[2] / "data" / "onnx"
    rng = np.random.default_rng(0)
    for name in ("torch_lenet_script", "ort_lenet_qdq", "ort_lenet_qoperator", "ort_lenet_dynamic"):
        data = (folder / f"{name}.onnx").read_bytes()
        for _ in range(40):
            wrong = bytearray(data)
            for at in rng.integers(0, len(data), rng.integers(1, 5)):
                wrong[at] = rng.integers(0, 256)
            if rng.integers(4) == 0:
                wrong = wrong[: rng.integers(len(wrong))]
            try:
                loaded(bytes(wrong), tmp_path / "a.onnx")
            except UserError as e:
                assert "is damaged" not in str(e), e


def test_without_the_library_it_is_named(tmp_path, monkeypatch):
    path = _small(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(UserError, match="need the package onnx: pip install"):
        load_onnx(path)
