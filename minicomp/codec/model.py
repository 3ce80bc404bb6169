"""The .mcz file: a model in as few bytes as its forms allow, and a reader that trusts none of them.

A file is an envelope (codec/envelope.py) around a header, the architecture (codec/header.py), and
one section for each form in the model's order, then one for the running statistics if there are
any. Shapes are the architecture's and are not repeated. A section is a string of bits
(codec/bits.py), which codec/forms.py writes and reads.

`save` then `load` gives bit-equal dense() arrays. `show` says where every byte went.
"""

from __future__ import annotations

import numpy as np

from ..errors import FormatError, UserError, printable
from ..models import from_spec
from ..nn.graph import Model
from . import streams
from .accounting import Shown, check_origin, most_origin
from .bits import BitReader, BitWriter, Budget
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
    header = write_header(header_of(model), dictionary=MODELS)
    return seal("model", header, sections, MODELS)


def decode(data: bytes, max_bytes: int = 2**30) -> Shown:
    """Returns the model in the bytes of a file, and where they went; errors of `files.load`."""
    budget = Budget(max_bytes)
    budget.hold(len(data))
    opened = Opened(data, "model")
    header = read_header(opened.header, opened.dictionary, "model", max_bytes)
    model = _model_of(header, budget)
    shapes = {name: form.shape for name, form in model.forms().items()}
    places = {f"{node.name}.{part}": (node.layer.forms, part)
              for node in model.nodes for part in node.layer.forms}
    for layer, part in places.values():
        layer[part] = None  # its zeros make room for what is read
    rows, forms = read_sections(opened, shapes, budget)
    for name, (layer, part) in places.items():
        layer[part] = forms[name]
    buffers = opened.section("running statistics") if model.buffers() else b""
    _read_buffers(BitReader(buffers, budget), model)
    opened.finish()
    spent = len(opened.header) + len(buffers) + sum(row.bytes for row in rows)
    rest = {"architecture": len(opened.header), "envelope": len(data) - int(spent)}
    return Shown(len(data), model.origin_bytes, rows, len(buffers), rest, model)


def header_of(model: Model) -> dict:
    """Returns the header of the model's file, JSON-able."""
    header = {key: value for key, value in model.spec().items() if (key, value) != ("args", {})}
    if model.trained_on is not None:
        header["data"] = model.trained_on
    if model.origin_bytes != model.dense_bytes():
        check_origin(model.origin_bytes, model.dense_bytes())
        header["origin"] = model.origin_bytes
    return header


def _model_of(header: dict, budget: Budget) -> Model:
    known = {"builtin", "args"} if "builtin" in header else {"input", "nodes"}
    known |= {"origin", "data"}
    if not set(header) <= known:
        got = printable(", ".join(header), 80)
        raise FormatError(f"a header holds {', '.join(sorted(known))}, got {got}")
    origin, trained_on = header.pop("origin", None), label_in(header)
    if "builtin" in header:
        header.setdefault("args", {})
    model = from_spec(header, budget.left)
    budget.hold(model.dense_bytes() + model.activation_bytes())
    if origin is not None:
        model.origin_bytes = whole("origin", origin, 4, most_origin(model.dense_bytes()))
    model.trained_on = trained_on
    return model


def _read_buffers(r: BitReader, model: Model) -> None:
    for node in model.nodes:
        for part, a in node.layer.buffers.items():
            name = f"{node.name}.{part}"
            found = named(name, streams.read_floats, r, a.size, np.float32, "buffers")
            a[...] = found.reshape(a.shape)
        try:
            node.layer.check_buffers(node.layer.buffers)
        except ValueError as e:
            raise FormatError(f"{node.name}.{e}") from None
    r.finish()
