"""The .mcz file: a model in as few bytes as its forms allow, and a reader that trusts none of them.

A file is an envelope (codec/envelope.py) around a header, the architecture (codec/header.py), and
one section for each form in the model's order, then one for the running statistics if there are
any. Shapes are the architecture's and are not repeated. A section is a string of bits
(codec/bits.py), which codec/forms.py writes and reads.

`save` then `load` gives bit-equal dense() arrays. `show` says where every byte went.
"""

from __future__ import annotations

import math

import numpy as np

from ..errors import FormatError, UserError
from ..models import from_spec
from ..nn.forms import check_floats
from ..nn.graph import Model
from . import streams
from .accounting import Shown
from .bits import BitReader, BitWriter
from .envelope import Opened, seal
from .header import MODELS, label_in, read_header, whole, write_header
from .sections import Force, named, read_sections, write_sections


def encode(model: Model, *, force: Force = None) -> bytes:
    """Returns the bytes of the model's file; arguments and errors of `files.save`."""
    sections = write_sections(model.forms(), force)
    if model.buffers():
        w = BitWriter()
        for name, a in model.buffers().items():
            if not np.isfinite(a).all():
                raise UserError(f"{name} must be finite, got NaN or infinity")
            streams.write_floats(w, a.astype(np.float32))
        sections.append(w.getvalue())
    header = write_header(_header_of(model), dictionary=MODELS)
    return seal("model", header, sections, MODELS)


def decode(data: bytes, max_bytes: int = 2**30) -> Shown:
    """Returns the model in the bytes of a file, and where they went; errors of `files.load`."""
    opened = Opened(data, "model")
    model = _model_of(read_header(opened.header, opened.dictionary), max_bytes)
    shapes = {name: form.shape for name, form in model.forms().items()}
    rows, forms = read_sections(opened, shapes, max_bytes)
    for name, form in forms.items():
        model.set_form(name, form)
    buffers = opened.section("running statistics") if model.buffers() else b""
    _read_buffers(BitReader(buffers, max_bytes), model)
    opened.finish()
    spent = len(opened.header) + len(buffers) + sum(row.bytes for row in rows)
    rest = {"architecture": len(opened.header), "envelope": len(data) - int(spent)}
    return Shown(len(data), model.origin_bytes, rows, len(buffers), rest, model)


def _header_of(model: Model) -> dict:
    header = {key: value for key, value in model.spec().items() if (key, value) != ("args", {})}
    if model.trained_on is not None:
        header["data"] = model.trained_on
    if model.origin_bytes != model.dense_bytes():
        header["origin"] = model.origin_bytes
    return header


def _model_of(header: dict, max_bytes: int) -> Model:
    known = {"builtin", "args"} if "builtin" in header else {"input", "nodes"}
    known |= {"origin", "data"}
    if not set(header) <= known:
        got = str(list(header))[:80]
        raise FormatError(f"a header holds {', '.join(sorted(known))}, got {got}")
    origin = whole("origin", header.pop("origin"), 4) if "origin" in header else None
    trained_on = label_in(header)
    if "builtin" in header:
        header.setdefault("args", {})
    model = from_spec(header, max_bytes)
    declared = model.dense_bytes() + _activation_bytes(model)
    if declared > max_bytes:
        raise FormatError(
            f"weights and activations must take at most {max_bytes} bytes, declared {declared}"
        )
    if origin is not None:
        model.origin_bytes = origin
    model.trained_on = trained_on
    return model


def _activation_bytes(model: Model) -> int:
    # 4 bytes an output and, where a layer pads its input, a padded input entry, for one example
    shapes = model.shapes()
    total = sum(math.prod(shape) for shape in shapes.values())
    for node in model.nodes:
        if any(node.layer.padding):
            channels, *size = shapes[node.inputs[0]]
            total += channels * math.prod(n + 2 * p for n, p in zip(size, node.layer.padding))
    return 4 * total


def _read_buffers(r: BitReader, model: Model) -> None:
    for node in model.nodes:
        for part, a in node.layer.buffers.items():
            name = f"{node.name}.{part}"
            found = named(name, streams.read_floats, r, a.size, np.float32, "buffers")
            try:
                a[...] = check_floats(name, node.layer.buffer_parts[part], found).reshape(a.shape)
            except ValueError as e:
                raise FormatError(str(e)) from None
    r.finish()
