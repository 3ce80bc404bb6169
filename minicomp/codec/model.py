"""The .mcz file: a model in as few bytes as its forms allow, and a reader that trusts none of them.

A file is an envelope (codec/envelope.py) around a header, the architecture (codec/header.py), and
one section for each form in the model's order, then one for the running statistics if there are
any. Shapes are the architecture's and are not repeated. A section is a string of bits
(codec/bits.py):

    kind        4 bits, which form
    ...         what the kind needs, such as centroids: `WRITERS` and `READERS`
    pattern     which entries are kept, in which layout and order (codec/layouts.py)
    values      of the kept entries, codes or floats (codec/streams.py)

Layout, order and their parameters are those that take the fewest bits, found by counting. `save`
then `load` gives bit-equal dense() arrays. `show` says where every byte went.

A further form is one writer and one reader here.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

from ..errors import FormatError, UserError
from ..nn.forms import FORMS, Form
from ..nn.graph import Model
from . import layouts, context as range_coder, streams
from .accounting import PARTS, Row, Shown
from ..atomic import write_atomically
from .bits import BitReader, BitWriter, bits_needed, smallest_dtype
from .envelope import Opened, seal
from .header import read_header, whole, write_header
from .positions import Choice, scan, unscan

Array = np.ndarray
MAX_K = 2**16  # centroids
_KIND = 4  # bits
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
            _write_form(w, form, choices.get(name, Choice()))
        except ValueError as e:
            raise UserError(f"{name}: {e}") from None
        sections.append(w.getvalue())
    if model.buffers():
        w = BitWriter()
        for name, a in model.buffers().items():
            streams.write_floats(w, _finite(name, a.astype(np.float32)))
        sections.append(w.getvalue())
    return seal("model", write_header(_header_of(model)), sections)


def decode(data: bytes, max_bytes: int = 2**30) -> Shown:
    """Returns the model in the bytes of a file, and where they went; raises what `load` does."""
    opened = Opened(data, "model")
    model = _model_of(read_header(opened.header), max_bytes)
    rows = []
    for name, form in model.forms().items():
        row, decoded = _named(
            name, _read_form, BitReader(opened.section(name), max_bytes), name, form.shape
        )
        model.set_form(name, decoded)
        rows.append(row)
    buffers = opened.section("running statistics") if model.buffers() else b""
    _read_buffers(BitReader(buffers, max_bytes), model.buffers())
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
    from ..models import from_spec  # here and not above: models lie above the codec, and only a file names them

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
        padding = getattr(node.layer, "padding", None)
        if padding is not None:
            channels, *size = shapes[node.inputs[0]]
            total += channels * math.prod(n + 2 * p for n, p in zip(size, padding))
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


# one form


def _write_form(w: BitWriter, form: Form, choice: Choice) -> None:
    w.write(list(FORMS).index(form.kind), _KIND)
    WRITERS[form.kind](w, form, choice)


def _read_form(r: BitReader, name: str, shape: tuple[int, ...]) -> tuple[Row, Form]:
    kind = r.read(_KIND)
    if kind >= len(FORMS):
        raise FormatError(f"no form {kind}")
    kind = list(FORMS)[kind]
    meta, arrays, how = READERS[kind](r, shape)
    r.finish()
    r.charge("header")
    form = FORMS[kind].from_stored(shape, meta, arrays)
    kept = math.prod(shape) if form.mask is None else int(np.count_nonzero(form.mask))
    return (
        Row(name, kind, shape, kept, how, {part: r.spent.get(part, 0) / 8 for part in PARTS}),
        form,
    )


def _write_dense(w: BitWriter, form: Form, choice: Choice) -> None:
    value = _finite("value", form.stored()["value"].array)
    if form.mask is None:
        layouts.write(w, layouts.Plan(layouts.ALL, np.ones(form.shape, bool)))
        streams.write_floats(w, value, choice.values)
        return
    full = np.zeros(form.shape, value.dtype)
    full[form.mask] = value

    # A filler is known by its value +0, so no kept weight may have it.
    impossible = {"all"} | ({"relative"} if streams.all_bits_zero(value).any() else set())
    bits = functools.cache(lambda fillers: streams.floats_cost(value, fillers, choice.values))

    def cost(layout, fillers):
        return None if layout in impossible else bits(fillers)

    plan = layouts.plan(form.mask, form.mask, 1, cost, choice)
    source, order = layouts.write(w, plan), plan.choice.order
    kept = scan(full, order)[scan(form.mask, order)]
    streams.write_floats(
        w, np.append(kept, kept.dtype.type(0))[source], choice.values
    )  # source -1: the 0


def _read_dense(r: BitReader, shape: tuple[int, ...], dtype: np.dtype) -> tuple[dict, dict, str]:
    layout, order = layouts.read_layout(r, shape)
    if layout == "all":
        value = streams.read_floats(r, math.prod(shape), dtype, "values")
        return {}, {"value": unscan(value, shape, order)}, layout
    value, mask, how = layouts.read_values(
        r, shape, layout, order, lambda n: streams.read_floats(r, n, dtype, "values")
    )
    return {}, {"value": value[mask], "mask": mask}, how


def _write_codebook(w: BitWriter, form: Form, choice: Choice) -> None:
    table, index = form.stored()["centroids"].array, form.index
    if not 1 <= form.k <= MAX_K:
        raise ValueError(f"k must be in [1, {MAX_K}], got {form.k}")
    if len(table) + form.pinned_zero != form.k:
        raise ValueError("centroids must not be masked")
    w.count(form.k - 1)
    w.write(form.pinned_zero, 1)
    w.write(list(FORMS).index(form.centroids.kind), 1)
    streams.write_floats(w, _finite("centroids", table), choice.values)
    plan = _plan_codes(form, choice)
    source, layout = layouts.write(w, plan), plan.choice.layout
    if layout == "context":
        return  # the codes are part of the pattern
    codes = scan(index, plan.choice.order)
    if layout != "all":
        codes = np.append(codes[codes != 0], 0).astype(codes.dtype)[source]
    least = layout not in ("all", "relative")  # 0 does not occur: code 1 is stored as 0
    streams.write_symbols(w, codes - least, form.k - least, choice.values)


def _plan_codes(form: Form, choice: Choice) -> layouts.Plan:
    if not form.pinned_zero or form.k == 1:  # every entry has a code
        return layouts.Plan(layouts.ALL, np.ones(form.shape, bool))
    freq = np.bincount(form.index.ravel(), minlength=form.k)

    def cost(layout, fillers):
        if layout == "context":
            return 0
        counts = (
            freq
            if layout == "all"
            else freq[1:] if layout != "relative" else np.append(fillers, freq[1:])
        )
        return streams.choose(counts, choice.values).bits

    return layouts.plan(form.mask, form.index, form.k - 1, cost, choice)


def _read_codebook(r: BitReader, shape: tuple[int, ...]) -> tuple[dict, dict, str]:
    k, pinned, kind = whole("k", r.count() + 1, 1, MAX_K), r.read(1), list(FORMS)[r.read(1)]
    r.charge("header")
    table = streams.read_floats(r, k - pinned, FORMS[kind].stored_dtype, "codebook")
    meta = {"k": k, "pinned_zero": bool(pinned), "centroids": kind}
    layout, order = layouts.read_layout(r, shape)
    if layout == "all":
        index = unscan(streams.read_symbols(r, math.prod(shape), k, "values"), shape, order)
        return meta, {"index": index, "centroids": table}, f"all, k={k}"
    if not pinned or k == 1:
        raise FormatError(f"layout {layout} needs a pinned zero and a further centroid")

    def read(n):
        if layout == "relative":
            return streams.read_symbols(r, n, k, "values")
        return (
            streams.read_symbols(r, n, k - 1, "values").astype(smallest_dtype(bits_needed(k))) + 1
        )

    if layout == "context":
        index, how = range_coder.read(r, shape, order, k - 1)
        how = layouts.in_words(how, order)
    else:
        index, _, how = layouts.read_values(r, shape, layout, order, read)
    return meta, {"index": index, "centroids": table}, f"{how}, k={k}"


WRITERS = {"dense": _write_dense, "half": _write_dense, "codebook": _write_codebook}
READERS = {
    "dense": lambda r, shape: _read_dense(r, shape, np.dtype(np.float32)),
    "half": lambda r, shape: _read_dense(r, shape, np.dtype(np.float16)),
    "codebook": _read_codebook,
}


def _read_buffers(r: BitReader, buffers: dict[str, Array]) -> None:
    for name, a in buffers.items():
        a[...] = _named(name, streams.read_floats, r, a.size, np.float32, "buffers").reshape(
            a.shape
        )
        if name.endswith("var") and (a < 0).any():
            raise FormatError(f"{name}: a variance must be >= 0")
    r.finish()


def _named(name: str, read: Callable, *args):
    try:
        return read(*args)
    except FormatError as e:
        raise FormatError(f"{name}: {e}") from None


def _finite(name: str, a: Array) -> Array:
    if not np.isfinite(a).all():
        raise UserError(f"{name} must be finite, got NaN or infinity")
    return a
