"""The package `onnx`, an extra, which reads and writes the wire format of ONNX files."""

from __future__ import annotations

from ..errors import UserError


def onnx_library():
    """Returns the module `onnx`; UserError where it is not installed."""
    try:
        import onnx
        import onnx.numpy_helper
    except ImportError as e:
        raise UserError(f"ONNX files need the package onnx: pip install onnx ({e})") from None
    return onnx
