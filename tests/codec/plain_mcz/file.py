"""Sections 1, 2, 9: the envelope, and the forms that a header lists."""

import json
import zlib

from .bits import Bits, product
from .forms import form
from .nets import nodes_of
from .streams import floats

def decoded(data, folder):
    # {name: numbers} of all forms, then of all statistics; folder : of the dictionaries' texts
    header, sections = sections_of(data, folder)
    shapes, statistics = shapes_of(header)
    if statistics:
        *sections, last = sections
    units, out = None, {}
    for (name, shape), section in zip(shapes.items(), sections, strict=True):
        r = Bits(section)
        out[name], mask = form(r, shape, units)
        check_end(r)
        if len(shape) > 1:
            each = product(shape[1:])
            units = mask and [sum(mask[i : i + each]) for i in range(0, len(mask), each)]
    if statistics:
        r = Bits(last)
        out |= {name: floats(r, n, "f") for name, n in statistics.items()}
        check_end(r)
    return out


def check_end(r):
    assert r.left() < 8 and not r.number(r.left())


def sections_of(data, folder):
    # (header, sections)
    assert data[:3] == b"MCZ" and data[3] >> 4 == 2
    assert int.from_bytes(data[-4:], "little") == zlib.crc32(data[:-4])
    dictionary, kind, each = data[3] >> 3 & 1, data[3] >> 1 & 3, data[3] & 1
    at, found = 4, []
    while at < len(data) - 4:
        length = shift = 0
        while True:
            byte, at = data[at], at + 1
            length, shift = length | (byte & 127) << shift, shift + 7
            if byte < 128:
                break
        found.append(data[at : at + length])
        at += length
        if each and len(found) > 1:
            assert int.from_bytes(data[at : at + 4], "little") == zlib.crc32(found[-1])
            at += 4
    text = (folder / f"dictionary-{['model', 'program'][kind]}-{dictionary}.txt").read_bytes()
    return json.loads(zlib.decompressobj(-15, text).decompress(found[0])), found[1:]


def shapes_of(header):
    # ({form: shape}, {statistics: how many numbers})
    if "steps" in header:
        return steps_of(header), {}
    forms, statistics = {}, {}
    nodes = header.get("nodes") or nodes_of(header["builtin"], header.get("args", {}))
    for name, kind, given, *_ in nodes:
        forms |= {f"{name}.{part}": shape for part, shape in forms_of(kind, given).items()}
        statistics |= {f"{name}.{part}": n for part, n in statistics_of(kind, given).items()}
    return forms, statistics


def forms_of(kind, given):
    biased = given.get("bias", True)
    if kind == "Linear":
        weight = given["out_features"], given["in_features"]
    elif kind in ("Conv2d", "ConvBN2d"):
        inputs = given["in_channels"] // given.get("groups", 1)
        weight = given["out_channels"], inputs, *given["kernel_size"]
    elif "BatchNorm" in kind:
        weight = (given["num_features"],)
    else:
        return {"bias": (given["num_features"],)} if kind == "InputScale" and biased else {}
    found = {"weight": weight} | ({"bias": weight[:1]} if biased else {})
    return found | ({"gain": weight[:1]} if kind == "ConvBN2d" else {})


def statistics_of(kind, given):
    if "BatchNorm" in kind or kind == "ConvBN2d":
        spread = "running_scale" if kind.startswith("Shift") else "running_var"
        n = given.get("num_features") or given["out_channels"]
        return {"running_mean": n, spread: n}
    if kind == "ActQuant":
        return scale_of(given)
    if kind == "ClipChannels":
        return {"ceiling": given["num_features"]}
    return {"beta": given["bases"], "shift": given["bases"]} if kind == "BinarySum" else {}


def scale_of(given):
    if given.get("dynamic"):
        return {}
    return {"scale": 1} | ({"zero_point": 1} if given.get("zero_point") else {})


def steps_of(header):
    values, forms = {"x": tuple(header["input"])}, {}
    for name, kind, given, inputs in header["steps"]:
        shapes = [values[i] for i in inputs]
        values[name] = output_of(kind, given, *shapes)
        forms |= {f"{name}.{part}": shape
                  for part, shape in parts_of(kind, given, shapes[0], values[name]).items()}
    return forms


def output_of(kind, given, shape, *others):
    if kind == "linear":
        return (given["out_features"],)
    if kind in ("conv", "max_pool", "avg_pool"):
        strides, pads = given.get("stride", (1, 1)), given.get("padding", (0, 0))
        sizes = zip(shape[1:], given["kernel_size"], strides, pads)
        windows = (windows_of(*one, given.get("ceil_mode", False)) for one in sizes)
        return (given.get("out_channels", shape[0]), *windows)
    if kind == "adaptive_avg_pool":
        return (shape[0], *given["output_size"])
    if kind == "flatten":
        return (product(shape),)
    if kind == "concat":
        return (shape[0] + sum(other[0] for other in others), *shape[1:])
    return (2 * shape[0], *shape[1:]) if kind == "crelu" else shape


def windows_of(size, kernel, stride, padding, up):
    span = size + 2 * padding - kernel
    if not up:
        return span // stride + 1
    count = -(-span // stride) + 1
    return count - ((count - 1) * stride >= size + padding)


def parts_of(kind, given, shape, out):
    if kind == "scale":
        return {"gain": shape[:1], "bias": shape[:1]}
    if kind == "clip":
        return {"ceiling": shape[:1]}
    if kind == "quantize":
        return {part: (n,) for part, n in scale_of(given).items()}
    if kind == "binary_sum":
        return {"beta": (given["bases"],), "shift": (given["bases"],)}
    found = {}
    if kind == "linear":
        found["weight"] = out[0], shape[0]
    if kind == "conv":
        found["weight"] = out[0], shape[0] // given.get("groups", 1), *given["kernel_size"]
    if kind in ("linear", "conv", "input_scale"):
        found |= {"gain": out[:1]} if given.get("gain") else {}
        found |= {"bias": out[:1]} if given.get("bias", True) else {}
    return found
