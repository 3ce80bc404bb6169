"""The built-in networks by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ..errors import FormatError, UserError, did_you_mean, printable
from ..nn.graph import INPUT, Model, Node
from ..nn.layers import Normalize
from ..nn.layers.normalize import Statistics, normalizer
from . import lenet, mobilenet, plain, resnet, shufflenet, squeezenet, xception
from .arguments import CLASSES, NORMALIZE, Argument, Normalization
from .lenet import MLP, LeNet5, LeNet5Classic, LeNet300
from .mobilenet import DepthwiseNet32, MobileNetV1, MobileNetV2
from .plain import AlexNet, VGGSmall
from .resnet import ResNet20
from .shufflenet import ShuffleNet
from .squeezenet import SqueezeNet10, SqueezeNet11
from .xception import Xception

MODELS: dict[str, Callable[..., Model]] = {
    "lenet300": LeNet300,
    "lenet5": LeNet5,
    "lenet5classic": LeNet5Classic,
    "depthwise32": DepthwiseNet32,
    "mobilenetv2": MobileNetV2,
    "mobilenetv1": MobileNetV1,
    "vggsmall": VGGSmall,
    "resnet20": ResNet20,
    "alexnet": AlexNet,
    "squeezenet1_0": SqueezeNet10,
    "squeezenet1_1": SqueezeNet11,
    "shufflenet": ShuffleNet,
    "xception": Xception,
}
ARGUMENTS: dict[str, dict[str, Argument | Normalization]] = {
    "lenet300": lenet.ARGUMENTS,
    "lenet5": lenet.ARGUMENTS,
    "lenet5classic": lenet.ARGUMENTS,
    "depthwise32": mobilenet.ARGUMENTS,
    "mobilenetv2": mobilenet.ARGUMENTS_V2,
    "mobilenetv1": mobilenet.ARGUMENTS_V1,
    "vggsmall": plain.ARGUMENTS_VGG,
    "resnet20": resnet.ARGUMENTS,
    "alexnet": plain.ARGUMENTS_ALEXNET,
    "squeezenet1_0": squeezenet.ARGUMENTS,
    "squeezenet1_1": squeezenet.ARGUMENTS,
    "shufflenet": shufflenet.ARGUMENTS,
    "xception": xception.ARGUMENTS,
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


def named(text: str) -> tuple[str, dict]:
    """Returns the built-in net and the arguments that a text names, as "resnet20:blocks=1".

    Raises UserError for a net or an argument that there is not, and for a value out of range.

    >>> named("mobilenetv1:width=0.5,resolution=96")
    ('mobilenetv1', {'width': 0.5, 'resolution': 96})
    """
    name, _, rest = text.partition(":")
    if name not in MODELS:
        raise UserError(
            f"unknown model {printable(repr(name), 100)}{did_you_mean(name, MODELS)}")
    declared = {key: a for key, a in ARGUMENTS[name].items() if isinstance(a, Argument)}
    args: dict = {}
    for part in filter(None, rest.split(",")):
        key, _, value = (t.strip() for t in part.partition("="))
        if key not in declared or key in args:
            raise UserError(f"{name}: arguments are written argument=value, each once, of "
                            f"{', '.join(declared)}; got {printable(repr(part), 60)}")
        try:
            args[key] = declared[key].read(key, value)
        except ValueError as e:
            raise UserError(f"{name}: {e}") from None
    return name, args


def for_data(text: str, data, *, rng: np.random.Generator | None = None) -> Model:
    """Returns the built-in net that a text names, as `named` reads it, as it suits a data set.

    What the text leaves open are the data's channels and classes, its height where the net takes a
    `resolution`, and how its input is normalised. Whether the data then fit is for
    `jobs.job.check_data`.
    data : has `name` and `train`, and may have `classes` and `normalize`, as `Dataset`
    rng : draws the weights; None leaves them 0
    Raises UserError for another name, and for more channels, pixels or classes than the net can
        have.
    """
    name, given = named(str(text))
    shape, declared = tuple(data.train.x.shape[1:]), ARGUMENTS[name]
    # Built-in nets take images; what else the data hold is refused as such, not as statistics.
    args = {"normalize": getattr(data, "normalize", None) if len(shape) == 3 else None}
    args["classes"] = len(getattr(data, "classes", ())) or CLASSES.default
    if len(shape) == 3:
        args |= {"channels": shape[0], "resolution": shape[1]}
    try:
        args = {key: v for key, v in args.items() if key in declared} | given
        return MODELS[name](**args, rng=rng)
    except ValueError as e:
        raise UserError(f"{name} cannot take data {data.name}: {e}") from None


def normalization(model: Model) -> Statistics | None:
    """Returns what the model's first node does to its input: a name or (mean, std), None where it
    is no `Normalize`."""
    first = model.nodes[0].layer if model.nodes else None
    if not isinstance(first, Normalize):
        return None
    given = first.config()
    return (given["mean"], given["std"]) if "std" in given else given["mean"]


def renormalized(model: Model, normalize: Statistics | None) -> Model:
    """Returns the model with another input normalisation, or with one, or without; layers are
    shared. A built-in net stays one.

    Raises ValueError for one that `Normalize` or the input refuses.
    """
    nodes, front = list(model.nodes), INPUT
    if normalization(model) is not None:
        front = nodes.pop(0).name
    named = {node.name for node in nodes}
    name = "normalize" if front == INPUT else front
    while name in named:
        name += "_"
    source = INPUT if normalize is None else name
    nodes = [replace(n, inputs=tuple(source if i == front else i for i in n.inputs))
             for n in nodes]
    if normalize is not None:
        nodes.insert(0, Node(name, normalizer(normalize)))
    made = model.rebuilt(nodes, builtin=_renamed(model.builtin, normalize))
    made.shapes()
    return made


def _renamed(builtin: dict | None, normalize: Statistics | None) -> dict | None:
    if builtin is None:
        return None
    args = {key: value for key, value in builtin["args"].items() if key != "normalize"}
    if normalize is not None:
        args["normalize"] = NORMALIZE.check("normalize", normalize)
    return builtin | {"args": args}


__all__ = ["ARGUMENTS", "MODELS", "AlexNet", "DepthwiseNet32", "LeNet300", "LeNet5",
           "LeNet5Classic", "MLP", "MobileNetV1", "MobileNetV2", "ResNet20", "ShuffleNet",
           "SqueezeNet10", "SqueezeNet11", "VGGSmall", "Xception", "for_data", "from_spec",
           "named", "normalization", "renormalized"]
