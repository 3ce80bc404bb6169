"""The JSON header of a model file: deflated when written, trusted in nothing when read."""

from __future__ import annotations

import json
import re
import zlib

from ..errors import FormatError

MAX_BYTES = 2**20  # of the inflated header
MAX_DEPTH = 16
MAX_NUMBER = 2**53
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]', re.DOTALL)
# DEFLATE may point back into this text, what most headers consist of; the nearer its end, the fewer
# bits. A dictionary never changes; a further one gets a number of its own.
_DICTIONARIES = {
    0: (
        '"ActThreshold",{"threshold":"ActTopK",{"k":"ActQuant",{"kind":"affine","bits":8,"scale":'
        '"zero_point":0,"dynamic":false,"signed":true},"Normalize",{"mean":[0.,0.,0.],'
        '"std":[0.,0.,0.]},["x"]],["normalize"]],["quant1","ChannelShuffle",{"groups":2},'
        '"Concat",{},"Sigmoid",{},"Tanh",{},"Identity",{},"Dropout",{"p":0.5},"AvgPool2d",'
        '"MaxPool2d",{"kernel_size":[2,2],"stride":[2,2],"padding":[0,0],"ceil_mode":false},'
        '["relu1"]],["pool1","BatchNorm1d","ConvBN2d","BatchNorm2d",{"num_features":64,'
        '"eps":1e-05,"momentum":0.1},["conv1"]],["bn1","ReLU6",{},["block1.dw_bn"]],'
        '["block1.dw_relu",["block1.pw_relu"]],["block2.dw",["block1.pw",["block1.pw_bn",'
        '"Add",{},["["add","AdaptiveAvgPool2d",{"output_size":[1,1]},["add"]],["pool",'
        '"Flatten",{},["pool2"]],["flatten","padding":[1,1],"groups":1,"bias":false},'
        '"kernel_size":[1,1],"stride":[1,1],"padding":[0,0],["conv2","Conv2d",{"in_channels":1,'
        '"out_channels":32,"kernel_size":[3,3],"stride":[1,1],"padding":[0,0],"groups":1,'
        '"bias":true},["x"]],["relu1","ReLU",{},["fc1"]],["relu2","ReLU",{},["bn2"]],["act1",'
        '["fc1","Linear",{"in_features":784,"out_features":10,"bias":true},["flatten"]],["fc",'
        '"Linear",{"in_features":128,"out_features":10,"bias":true},["flatten"]]]'
        '{"input":[1,28,28],"nodes":[["conv1"{"input":[3,32,32],"nodes":[["stem",["stem_bn",'
        '{"builtin":"mlp","args":{"sizes":[784,"channels":3,"resolution":96"width":0.5'
        '"origin":172{"builtin":"depthwise32","args":{"classes":100{"builtin":"depthwise32"}'
        '{"builtin":"lenet5classic"}{"builtin":"lenet5"}{"builtin":"lenet300"}'
    ).encode()
}


def write_header(header: dict) -> bytes:
    """Returns the header as compact JSON in raw DEFLATE, with dictionary 0.

    Raises ValueError where it is not JSON or too large.
    """
    text = json.dumps(header, separators=(",", ":"), allow_nan=False).encode()
    if len(text) > MAX_BYTES:
        raise ValueError(f"a header must take at most {MAX_BYTES} bytes, got {len(text)}")
    packer = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zlib.Z_DEFAULT_STRATEGY, _DICTIONARIES[0])
    return packer.compress(text) + packer.flush()


def read_header(data: bytes, dictionary: int = 0) -> dict:
    """Returns the header that write_header wrote; FormatError for whatever is not.

    dictionary : number of that which deflated it
    At most 1 MiB inflated, depth at most 16, no key twice, no NaN, infinity or number beyond 2**53.
    """
    if dictionary not in _DICTIONARIES:
        raise FormatError(f"no header dictionary {dictionary}")
    unpacker = zlib.decompressobj(-15, _DICTIONARIES[dictionary])
    try:
        text = unpacker.decompress(data, MAX_BYTES + 1)
    except zlib.error as e:
        raise FormatError(f"header does not inflate: {e}") from None
    if len(text) > MAX_BYTES or not unpacker.eof or unpacker.unused_data:
        raise FormatError(f"header must be one deflated text of at most {MAX_BYTES} bytes")
    return parse_json(text)


def parse_json(data: bytes) -> dict:
    """Returns the JSON object in `data` (UTF-8); rules and errors of read_header."""
    try:
        text = data.decode()
        _check_depth(text)
        header = json.loads(
            text, object_pairs_hook=_object, parse_float=_float, parse_int=_int, parse_constant=_no
        )
    except FormatError:
        raise
    except (ValueError, RecursionError) as e:
        raise FormatError(f"header is not JSON: {e}") from None
    if not isinstance(header, dict):
        raise FormatError(f"header must be an object, got {type(header).__name__}")
    return header


def whole(name: str, value, least: int = 0, most: int = MAX_NUMBER) -> int:
    """Returns value if it is an int (not a bool) in [least, most], else raises FormatError."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise FormatError(
            f"{name} must be an integer in [{least}, {most}], got {str(value)[:40]!r}"
        )
    return value


def _check_depth(text: str) -> None:
    depth = 0
    for token in _TOKEN.finditer(text):
        if token[0] in "[{":
            depth += 1
        elif token[0] in "]}":
            depth -= 1
        if depth > MAX_DEPTH:
            raise FormatError(f"header must nest at most {MAX_DEPTH} deep")


def _object(pairs: list) -> dict:
    if len(dict(pairs)) < len(pairs):
        raise FormatError("header has a key twice")
    return dict(pairs)


def _int(text: str) -> int:
    if len(text) > 17:
        raise FormatError(f"header has a number beyond 2**53: {text[:20]}")
    return whole("a number in the header", int(text), -MAX_NUMBER)


def _float(text: str) -> float:
    value = float(text)
    if not abs(value) <= MAX_NUMBER:
        raise FormatError(f"header has a number beyond 2**53: {text[:20]}")
    return value


def _no(name: str):
    raise FormatError(f"header has {name}")
