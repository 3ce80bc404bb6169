"""The .mcz file: a model in as few bytes as its forms allow, and a reader that trusts none of them.

A file is an envelope (codec/envelope.py) around a header, the architecture (codec/header.py), and
one section for each form in the model's order, then one for the running statistics if there are
any. Shapes are the architecture's and are not repeated. A section is a string of bits
(codec/bits.py), which codec/forms.py writes and reads.

`save` then `load` gives bit-equal dense() arrays. `show` says where every byte went.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

from ..atomic import write_atomically
from ..errors import FormatError, UserError
from ..nn.forms import check_floats
from ..nn.graph import Model
from . import streams
from .accounting import Shown
from .bits import BitReader, BitWriter
from .envelope import Opened, seal
from .forms import read_form, write_form
from .header import read_header, whole, write_header
from .positions import Choice

Force = Choice | str | Mapping[str, Choice | str] | None


def save(model: Model, path: str | Path, *, force: Force = None) -> int:
    """Writes the model to `path`, atomically, and returns the bytes of the file.

    force : None takes the fewest bytes; a Choice, or the name of a layout, holds for every form
        with a mask; a mapping gives them by pattern of form names, of which the last match wins
    Raises UserError for NaN or infinity in the model, a pattern that matches no form, an impossible
    Choice.
    """
    data = encode(model, force=force)
    write_atomically(path, data)
    return len(data)


def load(path: str | Path, max_bytes: int = 2**30) -> Model:
    """Returns the model in a file, its forms frozen.

    max_bytes : limit of the file, of the weights and activations it declares, of one array while
        decoding
    Raises FormatError where anything is wrong with the file, OSError where it cannot be read.
    """
    return show(path, max_bytes).model


def show(path: str | Path, max_bytes: int = 2**30) -> Shown:
    """Returns where every byte of a file went, and its model; raises what `load` raises."""
    path = Path(path)
    if path.stat().st_size > max_bytes:
        raise FormatError(
            f"{path}: a file must take at most {max_bytes} bytes, got {path.stat().st_size}"
        )
    try:
        return decode(path.read_bytes(), max_bytes)
    except FormatError as e:
        raise FormatError(f"{path}: {e}") from None


def encode(model: Model, *, force: Force = None) -> bytes:
    """Returns the bytes of the model's file; arguments and errors of `save`."""
    sections, choices = [], _choices(force, model)
    for name, form in model.forms().items():
        w = BitWriter()
        try:
            write_form(w, form, choices.get(name, Choice()))
        except ValueError as e:
            raise UserError(f"{name}: {e}") from None
        sections.append(w.getvalue())
    if model.buffers():
        w = BitWriter()
        for name, a in model.buffers().items():
            if not np.isfinite(a).all():
                raise UserError(f"{name} must be finite, got NaN or infinity")
            streams.write_floats(w, a.astype(np.float32))
        sections.append(w.getvalue())
    return seal("model", write_header(_header_of(model)), sections)


def decode(data: bytes, max_bytes: int = 2**30) -> Shown:
    """Returns the model in the bytes of a file, and where they went; raises what `load` does."""
    opened = Opened(data, "model")
    model = _model_of(read_header(opened.header, opened.dictionary), max_bytes)
    rows = []
    for name, form in model.forms().items():
        row, decoded = _named(
            name, read_form, BitReader(opened.section(name), max_bytes), name, form.shape
        )
        model.set_form(name, decoded)
        rows.append(row)
    buffers = opened.section("running statistics") if model.buffers() else b""
    _read_buffers(BitReader(buffers, max_bytes), model)
    opened.finish()
    spent = len(opened.header) + len(buffers) + sum(row.bytes for row in rows)
    rest = {"architecture": len(opened.header), "envelope": len(data) - int(spent)}
    return Shown(len(data), model.origin_bytes, rows, len(buffers), rest, model)


def _header_of(model: Model) -> dict:
    header = {key: value for key, value in model.spec().items() if (key, value) != ("args", {})}
    if model.origin_bytes != model.dense_bytes():
        header["origin"] = model.origin_bytes
    return header


def _model_of(header: dict, max_bytes: int) -> Model:
    from ..models import from_spec  # not above: only a file names built-in nets

    origin = whole("origin", header.pop("origin")) if "origin" in header else None
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


def _choices(force: Force, model: Model) -> dict[str, Choice]:
    by_pattern = force if isinstance(force, Mapping) else {} if force is None else {"*": force}
    found = {}
    for pattern, choice in by_pattern.items():
        names = [name for name in model.forms() if fnmatchcase(name, pattern)]
        if not names:
            raise UserError(
                f"pattern {pattern!r} matches no form; there are {', '.join(model.forms())}"
            )
        try:
            found |= dict.fromkeys(
                names, Choice(layout=choice) if isinstance(choice, str) else choice
            )
        except ValueError as e:
            raise UserError(str(e)) from None
    return found


def _read_buffers(r: BitReader, model: Model) -> None:
    for node in model.nodes:
        for part, a in node.layer.buffers.items():
            name = f"{node.name}.{part}"
            found = _named(name, streams.read_floats, r, a.size, np.float32, "buffers")
            try:
                a[...] = check_floats(name, node.layer.buffer_parts[part], found).reshape(a.shape)
            except ValueError as e:
                raise FormatError(str(e)) from None
    r.finish()


def _named(name: str, read: Callable, *args):
    try:
        return read(*args)
    except FormatError as e:
        raise FormatError(f"{name}: {e}") from None
