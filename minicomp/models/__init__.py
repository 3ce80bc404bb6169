"""The built-in networks by name."""

from __future__ import annotations

from collections.abc import Callable

from ..errors import FormatError, printable
from ..nn.graph import Model
from . import lenet, mobilenet
from .arguments import Argument
from .lenet import MLP, LeNet5, LeNet5Classic, LeNet300
from .mobilenet import DepthwiseNet32

MODELS: dict[str, Callable[..., Model]] = {
    "lenet300": LeNet300,
    "lenet5": LeNet5,
    "lenet5classic": LeNet5Classic,
    "depthwise32": DepthwiseNet32,
}
ARGUMENTS: dict[str, dict[str, Argument]] = {
    "lenet300": lenet.ARGUMENTS,
    "lenet5": lenet.ARGUMENTS,
    "lenet5classic": lenet.ARGUMENTS,
    "depthwise32": mobilenet.ARGUMENTS,
}


def from_spec(spec: dict, max_bytes: int = 2**30) -> Model:
    """Returns the model of a `Model.spec()`, its weights 0; FormatError where it is malformed.

    max_bytes : limit of the weights that a listed architecture declares; those of a built-in net
        are bounded by its arguments
    """
    if not isinstance(spec, dict):
        raise FormatError(f"architecture must be an object, got {type(spec).__name__}")
    if "builtin" not in spec:
        return Model.from_nodes_spec(spec, max_bytes)
    name, args = spec["builtin"], spec.get("args")
    if not isinstance(name, str) or name not in MODELS:
        raise FormatError(
            f"architecture must be one of {', '.join(MODELS)}, got {printable(repr(name), 40)}")
    if not isinstance(args, dict) or not set(args) <= set(ARGUMENTS[name]):
        raise FormatError(f"arguments of {name} must be among {', '.join(ARGUMENTS[name])}, "
                          f"got {printable(repr(args), 40)}")
    try:
        return MODELS[name](**args)
    except ValueError as e:
        raise FormatError(f"{name}: {e}") from None


__all__ = ["ARGUMENTS", "MODELS", "DepthwiseNet32", "LeNet300", "LeNet5", "LeNet5Classic", "MLP",
           "from_spec"]
