"""The built-in networks by name."""

from __future__ import annotations

from collections.abc import Callable

from ..errors import FormatError
from ..nn.graph import Model
from .lenet import MLP, LeNet5, LeNet5Classic, LeNet300
from .mobilenet import DepthwiseNet32

MODELS: dict[str, Callable[..., Model]] = {
    "lenet300": LeNet300, "lenet5": LeNet5, "lenet5classic": LeNet5Classic, "depthwise32": DepthwiseNet32}


def from_spec(spec: dict, max_bytes: int = 2**30) -> Model:
    """Returns the model of a `Model.spec()`, its weights 0; FormatError where the spec is malformed.

    max_bytes : limit of the weights that a listed architecture declares
    """
    if not isinstance(spec, dict):
        raise FormatError(f"architecture must be an object, got {type(spec).__name__}")
    if "builtin" not in spec:
        return Model.from_nodes_spec(spec, max_bytes)
    name = spec["builtin"]
    if not isinstance(name, str) or name not in MODELS or spec.get("args") != {}:
        raise FormatError(f"architecture must be one of {', '.join(MODELS)} without arguments, got {str(name)[:40]!r}")
    return MODELS[name]()


__all__ = ["MODELS", "DepthwiseNet32", "LeNet300", "LeNet5", "LeNet5Classic", "MLP", "from_spec"]
