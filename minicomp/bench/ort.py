"""onnxruntime as a peer: one thread, weights as constants, input and output bound beforehand."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np

Array = np.ndarray


class Session:
    """An ONNX model, by onnxruntime."""

    def __init__(self, model: bytes | str | Path):
        ort = import_module("onnxruntime")
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors
        self._session = ort.InferenceSession(
            model if isinstance(model, bytes) else str(model), options,
            providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name
        self._output = self._session.get_outputs()[0].name

    def __call__(self, x: Array) -> Array:
        """Returns the output for x."""
        return self._session.run([self._output], {self._input: x})[0]

    def bound(self, x: Array) -> Callable:
        """Returns what computes the output for x, whose memory it reads, and returns it, an
        OrtValue."""
        values, binding = import_module("onnxruntime").OrtValue, self._session.io_binding()
        binding.bind_ortvalue_input(self._input, values.ortvalue_from_numpy(x))
        once = self(x)
        y = values.ortvalue_from_shape_and_type(once.shape, once.dtype)
        binding.bind_ortvalue_output(self._output, y)

        def call():
            self._session.run_with_iobinding(binding)
            return y

        return call
