"""The JSON header of a model file: deflated when written, trusted in nothing when read."""

from __future__ import annotations

import json
import re
import zlib

from ..errors import FormatError, printable
from ..nn.graph import check_label

MAX_BYTES = 2**20  # of the inflated header
OBJECTS = 32  # bytes that Python's objects take, at most, for a byte of JSON
MAX_DEPTH = 16
MAX_NUMBER = 2**53
_BRACKET = re.compile(r"[\[{]|([\]}])")
# DEFLATE may point back into this text, what most headers consist of; the nearer its end, the fewer
# bits. A dictionary never changes; a further one of a kind of file gets a number of its own.
_DICTIONARIES = {
    ("model", 0): (
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
    ).encode(),
    ("program", 0): (
        '"precision":"int8","precision":"int8-dynamic","precision":"weight-only","precision":"bin'
        'ary","rounding":"single","signed":true,"bits":8,"zero_point":0,"scale":["normalize","sca'
        'le",{"threshold",{"threshold":"topk",{"k":"tanh",{},"sigmoid",{},"then":"sigmoid"},"then'
        '":"tanh"},"relu",{},["relu6",{},["concat",{},["shuffle",{"groups":2},"avg_pool",{"kernel'
        '_size":[2,2],"stride":[2,2],"padding":[1,1],"ceil_mode":true},"bias":false,"gain":true},'
        '"origin":1724320{"precision":"float","input":[3,32,32],"steps":[["stem","conv",{"out_cha'
        'nnels":32,"kernel_size":[3,3],"stride":[2,2],"padding":[1,1],"gain":true,"then":"relu6"}'
        ',["x"]],["block1.dw","conv",{"out_channels":32,"kernel_size":[3,3],"padding":[1,1],"grou'
        'ps":32,"gain":true,"then":"relu6"},["stem"]],["block1.pw","conv",{"out_channels":64,"ker'
        'nel_size":[1,1],"gain":true,"then":"relu6"},["block1.dw"]],["block2.dw","conv",{"out_cha'
        'nnels":64,"kernel_size":[3,3],"stride":[2,2],"padding":[1,1],"groups":64,"gain":true,"th'
        'en":"relu6"},["block1.pw"]],["block2.pw","conv",{"out_channels":128,"kernel_size":[1,1],'
        '"gain":true,"then":"relu6"},["block2.dw"]],["block3.dw","conv",{"out_channels":128,"kern'
        'el_size":[3,3],"padding":[1,1],"groups":128,"gain":true,"then":"relu6"},["block2.pw"]],['
        '"block3.pw","conv",{"out_channels":128,"kernel_size":[1,1],"gain":true,"then":"relu6"},['
        '"block3.dw"]],["add","add",{},["block2.pw","block3.pw"]],["pool","adaptive_avg_pool",{"o'
        'utput_size":[1,1]},["add"]],["flatten","flatten",{},["pool"]],["fc","linear",{"out_featu'
        'res":10},["flatten"]]]}{"precision":"float","input":[1,28,28],"steps":[["conv1","conv",{'
        '"out_channels":6,"kernel_size":[5,5],"padding":[2,2],"then":"relu"},["x"]],["pool1","max'
        '_pool",{"kernel_size":[2,2],"stride":[2,2]},["conv1"]],["conv2","conv",{"out_channels":1'
        '6,"kernel_size":[5,5],"then":"relu"},["pool1"]],["pool2","max_pool",{"kernel_size":[2,2]'
        ',"stride":[2,2]},["conv2"]],["flatten","flatten",{},["pool2"]],["fc1","linear",{"out_fea'
        'tures":120,"then":"relu"},["flatten"]],["fc2","linear",{"out_features":84,"then":"relu"}'
        ',["fc1"]],["fc3","linear",{"out_features":10},["fc2"]]]}{"precision":"float","input":[1,'
        '28,28],"steps":[["conv1","conv",{"out_channels":20,"kernel_size":[5,5]},["x"]],["pool1",'
        '"max_pool",{"kernel_size":[2,2],"stride":[2,2]},["conv1"]],["conv2","conv",{"out_channel'
        's":50,"kernel_size":[5,5]},["pool1"]],["pool2","max_pool",{"kernel_size":[2,2],"stride":'
        '[2,2]},["conv2"]],["flatten","flatten",{},["pool2"]],["fc1","linear",{"out_features":500'
        ',"then":"relu"},["flatten"]],["fc2","linear",{"out_features":10},["fc1"]]]}{"precision":'
        '"float","input":[1,28,28],"steps":[["flatten","flatten",{},["x"]],["fc1","linear",{"out_'
        'features":300,"then":"relu"},["flatten"]],["fc2","linear",{"out_features":100,"then":"re'
        'lu"},["fc1"]],["fc3","linear",{"out_features":10},["fc2"]]]}'
    ).encode(),
}
_DICTIONARIES["model", 1] = _DICTIONARIES["model", 0] + (  # nets that know their data
    '{"builtin":"depthwise32","args":{"channels":1,"resolution":28,"normalize":"fashion_mnist"}'
    ',"data":"fashion_mnist"}{"builtin":"depthwise32","args":{"channels":1,"resolution":28,"nor'
    'malize":"glyphs"},"data":"glyphs"}{"builtin":"depthwise32","args":{"channels":1,"resolutio'
    'n":28,"normalize":"mnist"},"data":"mnist"}{"builtin":"depthwise32","args":{"normalize":"ci'
    'far10"},"data":"cifar10"}{"builtin":"lenet5classic","args":{"normalize":"fashion_mnist"},"'
    'data":"fashion_mnist"}{"builtin":"lenet5classic","args":{"normalize":"glyphs"},"data":"gly'
    'phs"}{"builtin":"lenet5classic","args":{"normalize":"mnist"},"data":"mnist"}{"builtin":"le'
    'net300","args":{"normalize":"fashion_mnist"},"data":"fashion_mnist"}{"builtin":"lenet5","a'
    'rgs":{"normalize":"fashion_mnist"},"data":"fashion_mnist"}{"builtin":"lenet300","args":{"n'
    'ormalize":"glyphs"},"data":"glyphs"}{"builtin":"lenet5","args":{"normalize":"glyphs"},"dat'
    'a":"glyphs"}{"input":[1,28,28],"nodes":[["normalize","Normalize",{"mean":"cifar10"},["x"]]'
    ',["normalize","Normalize",{"mean":"fashion_mnist"},["x"]],["normalize","Normalize",{"mean"'
    ':"glyphs"},["x"]],["normalize","Normalize",{"mean":"mnist"},["x"]],["flatten","Flatten",{}'
    ',["normalize"]],["conv1","Conv2d",{"in_channels":1,"out_channels":20,"kernel_size":[5,5],"'
    'stride":[1,1],"padding":[0,0],"groups":1,"bias":true},["normalize"]],{"builtin":"lenet300"'
    '}{"builtin":"lenet5"}{"builtin":"lenet5","args":{"normalize":"mnist"},"data":"mnist"}{"bui'
    'ltin":"lenet300","args":{"normalize":"mnist"},"data":"mnist"}'
).encode()
MODELS = 1  # the dictionary with which a model's file is written


def preset(kind: str, number: int) -> bytes:
    """Returns the text that DEFLATE may point back into, of a kind of file; it never changes."""
    return _DICTIONARIES[kind, number]


def write_header(header: dict, kind: str = "model", dictionary: int | None = 0) -> bytes:
    """Returns the header as compact JSON in raw DEFLATE, with a dictionary of a kind of file; with
    None without, which no file has: what the dictionary saves is the difference.

    Raises ValueError where it is not JSON or too large.
    """
    text = json.dumps(header, separators=(",", ":"), allow_nan=False).encode()
    if len(text) > MAX_BYTES:
        raise ValueError(f"a header must take at most {MAX_BYTES} bytes, got {len(text)}")
    packer = zlib.compressobj(
        9, zlib.DEFLATED, -15, 9, zlib.Z_DEFAULT_STRATEGY,
        b"" if dictionary is None else preset(kind, dictionary),
    )
    return packer.compress(text) + packer.flush()


def read_header(data: bytes, dictionary: int = 0, kind: str = "model",
                max_bytes: int = 2**30) -> dict:
    """Returns the header that write_header wrote; FormatError for whatever is not.

    dictionary, kind : number of that which deflated it, and the kind of file that it is for
    max_bytes : limit of the objects that it becomes
    At most 1 MiB inflated, depth at most 16, no key twice, no NaN, infinity or number beyond 2**53.
    """
    most = min(MAX_BYTES, max_bytes // OBJECTS)
    if (kind, dictionary) not in _DICTIONARIES:
        raise FormatError(f"no header dictionary {dictionary}")
    unpacker = zlib.decompressobj(-15, _DICTIONARIES[kind, dictionary])
    try:
        text = unpacker.decompress(data, most + 1)
    except zlib.error as e:
        raise FormatError(f"header does not inflate: {e}") from None
    if len(text) > most or not unpacker.eof or unpacker.unused_data:
        raise FormatError(f"header must be one deflated text of at most {most} bytes")
    return parse_json(text)


def parse_json(data: bytes) -> dict:
    """Returns the JSON object in `data` (UTF-8), in linear time; rules and errors of read_header.

    Its length is the caller's to bound.
    """
    try:
        text = data.decode()
        _check_depth(text)
        header = json.loads(
            text, object_pairs_hook=_object, parse_float=_float, parse_int=_int, parse_constant=_no
        )
    except FormatError:
        raise
    except (ValueError, RecursionError) as e:
        raise FormatError(f"header is not JSON: {printable(e)}") from None
    if not isinstance(header, dict):
        raise FormatError(f"header must be an object, got {type(header).__name__}")
    return header


def whole(name: str, value, least: int = 0, most: int = MAX_NUMBER) -> int:
    """Returns value if it is an int (not a bool) in [least, most], else raises FormatError."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise FormatError(
            f"{name} must be an integer in [{least}, {most}], got {printable(repr(value), 40)}"
        )
    return value


def label_in(header: dict) -> str | None:
    """Returns the label of the training data that a header may have, taken out of it, or None.

    Any name is fine, also of a data set that there is not; FormatError where it is malformed.
    """
    if "data" not in header:
        return None
    try:
        return check_label(header.pop("data"))
    except ValueError as e:
        raise FormatError(f"data: {e}") from None


def _check_depth(text: str) -> None:
    # Of what stands outside of texts: every second piece between quotes, those that a backslash
    # makes part of a text gone. A text that never ends is a last piece, whose brackets count not.
    plain = text.replace("\\\\", "").replace('\\"', "")
    depth = 0
    for bracket in _BRACKET.finditer(" ".join(plain.split('"')[::2])):
        depth += -1 if bracket[1] else 1
        if depth > MAX_DEPTH:
            raise FormatError(f"header must nest at most {MAX_DEPTH} deep")


def _object(pairs: list) -> dict:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise FormatError("header has a key twice")
    return found


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
