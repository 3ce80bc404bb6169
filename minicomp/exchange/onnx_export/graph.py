"""An ONNX graph in the making: nodes in order, constants, names that are unique, bytes.

Opset 19, the first whose reference evaluator has DequantizeLinear of every type that is written
here; IR version 9, which is its. The batch axis is "N", any number of examples. Equal graphs give
equal bytes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ... import __version__
from ...errors import UserError
from ...nn.graph import INPUT
from ..library import onnx_library

Array = np.ndarray
OPSET, IR_VERSION = 19, 9
MICROSOFT = "com.microsoft"  # onnxruntime's operators of its own, version 1
OUTPUT = "logits"
MOST_BYTES = 2**31 - 2**20  # what a protobuf file holds, less room for nodes


class Graph:
    """Nodes in the order in which they are added, of each of which one output is read, constants.

    Names are unique: one that is taken gets "_" behind.
    """

    def __init__(self, input_shape: Sequence[int]):
        self.onnx, self.input_shape = onnx_library(), tuple(input_shape)
        self.nodes, self.constants, self.taken = [], [], {INPUT, OUTPUT}
        self._bytes = 0

    def add(self, op: str, *inputs: str, name: str, domain: str = "", outputs: int = 1,
            **attributes) -> str:
        """Adds a node and returns the name of its last output, `name` or one like it.

        inputs : names of values and constants; "" stands for one left out
        """
        made = [self._unique(name) for _ in range(outputs)]
        self.nodes.append(self.onnx.helper.make_node(
            op, list(inputs), made, name=made[-1], domain=domain, **attributes))
        return made[-1]

    def constant(self, name: str, a) -> str:
        """Adds a constant and returns its name; UserError where a file cannot hold so much."""
        a = np.ascontiguousarray(a) if np.ndim(a) else np.asarray(a)
        self._bytes += a.nbytes
        if self._bytes > MOST_BYTES:
            raise UserError(f"an ONNX file holds at most {MOST_BYTES} bytes of weights, got more")
        self.constants.append(self.onnx.numpy_helper.from_array(a, self._unique(name)))
        return self.constants[-1].name

    def _unique(self, name: str) -> str:
        while name in self.taken:
            name += "_"
        self.taken.add(name)
        return name

    def encoded(self, last: str, output_shape: Sequence[int]) -> bytes:
        """Returns the file: the graph whose output, `logits`, is the value `last`.

        output_shape : without N
        """
        helper, kind = self.onnx.helper, self.onnx.TensorProto.FLOAT
        if last == INPUT:
            last = self.add("Identity", INPUT, name="identity")
        for node in self.nodes:  # whoever reads the last value too
            for names in (node.input, node.output):
                names[:] = [OUTPUT if name == last else name for name in names]
        ends = [[helper.make_tensor_value_info(name, kind, ["N", *shape])]
                for name, shape in ((INPUT, self.input_shape), (OUTPUT, output_shape))]
        graph = helper.make_graph(self.nodes, "minicomp", *ends, initializer=self.constants)
        opsets = [helper.make_opsetid("", OPSET)]
        if any(node.domain == MICROSOFT for node in self.nodes):
            opsets.append(helper.make_opsetid(MICROSOFT, 1))
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION,
                                  producer_name="minicomp", producer_version=__version__)
        return model.SerializeToString(deterministic=True)
