"""Sections 1, 2: the envelope and the header."""

import json
import zlib

from .bits import Bits, product
from .forms import form


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


def forms_of(header):
    for name, kind, given, _ in header["nodes"]:
        if kind == "Linear":
            shape = given["out_features"], given["in_features"]
        elif kind == "Conv2d":
            inputs = given["in_channels"] // given.get("groups", 1)
            shape = given["out_channels"], inputs, *given["kernel_size"]
        else:
            continue
        yield f"{name}.weight", shape
        if given.get("bias", True):
            yield f"{name}.bias", shape[:1]


def decoded(data, folder):
    # {form: numbers} of a file; folder : where the texts of the dictionaries lie
    header, sections = sections_of(data, folder)
    units, out = None, {}
    for (name, shape), section in zip(forms_of(header), sections, strict=True):
        r = Bits(section)
        values, mask = form(r, shape, units)
        assert r.left() < 8 and not r.number(r.left())
        out[name] = values
        if len(shape) > 1:
            each = product(shape[1:])
            units = mask and [sum(mask[i : i + each]) for i in range(0, len(mask), each)]
    return out
