"""The .mcz file: a model in as few bytes as its forms allow, and a reader that trusts none of them.

A file is an envelope (codec/envelope.py) around a header, the architecture (codec/header.py), and one section
for each form in the model's order, then one for the running statistics if there are any. Shapes are the
architecture's and are not repeated. A section is a string of bits (codec/bits.py):

    kind        4 bits, which form
    ...         what the kind needs: `WRITERS` and `READERS`
    layout      3 bits, how the pattern of kept entries is stored (codec/positions.py); `all` where there is none
    order       0..2 bits, in which order the entries are scanned
    pattern     for every layout but `all`
    values      of the kept entries, codes or floats (codec/streams.py)

Layout, order and their parameters are those that take the fewest bits, found by counting. `save` then `load`
gives bit-equal dense() arrays. `show` says where every byte went.

A further form is one writer and one reader here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

from ..errors import FormatError, UserError
from ..nn.forms import FORMS, Form
from ..nn.graph import Model
from . import positions, streams
from .atomic import write_atomically
from .bits import BitReader, BitWriter, bits_needed, smallest_dtype
from .envelope import Opened, seal
from .header import read_header, whole, write_header
from .positions import LAYOUTS, Choice

Array = np.ndarray
PARTS = ("values", "index", "codebook", "tables", "header")  # where the bytes of a form go
MAX_K = 2**16  # centroids
_KIND, _LAYOUT = 4, 3  # bits
Force = Choice | str | Mapping[str, Choice | str] | None


@dataclass
class Row:
    """Where the bytes of one form went.

    name : "fc1.weight"        form : its kind        entries, kept : numbers in the weight, and in its mask
    how : layout and scan order        parts : bytes by part, multiples of 1/8
    """

    name: str
    form: str
    shape: tuple[int, ...]
    kept: int
    how: str
    parts: dict[str, float] = field(default_factory=dict)

    @property
    def entries(self) -> int:
        return math.prod(self.shape)

    @property
    def bytes(self) -> float:
        return sum(self.parts.values())


@dataclass
class Shown:
    """Where the bytes of a file went: in rows by form, in running statistics, and in what belongs to neither.

    origin_bytes : of the dense float32 model that compression started from
    rest : bytes of "architecture" and "envelope"        model : what the file holds
    """

    file_bytes: int
    origin_bytes: int
    rows: list[Row]
    buffers: int
    rest: dict[str, int]
    model: Model

    @property
    def ratio(self) -> float:
        return self.origin_bytes / self.file_bytes

    def parts(self) -> dict[str, float]:
        """Returns the bytes of the whole file by part, biases apart; they sum to file_bytes exactly."""
        total = dict.fromkeys((*PARTS[:-1], "biases", "buffers", "header"), 0.0)
        for row in self.rows:
            for part, n in row.parts.items():
                total["biases" if row.name.endswith(".bias") else part] += n
        total["buffers"] += self.buffers
        total["header"] += sum(self.rest.values())
        return total


def save(model: Model, path: str | Path, *, force: Force = None) -> int:
    """Writes the model to `path`, atomically, and returns the bytes of the file.

    force : None takes the fewest bytes; a Choice, or the name of a layout, holds for every form with a mask; a
        mapping gives them by pattern of form names, of which the last match wins
    Raises UserError for NaN or infinity in the model, a pattern that matches no form, an impossible Choice.
    """
    data = encode(model, force=force)
    write_atomically(path, data)
    return len(data)


def load(path: str | Path, max_bytes: int = 2**30) -> Model:
    """Returns the model in a file, its forms frozen.

    max_bytes : limit of the file, of the weights and activations it declares, of one array while decoding
    Raises FormatError where anything is wrong with the file, OSError where it cannot be read.
    """
    return show(path, max_bytes).model


def show(path: str | Path, max_bytes: int = 2**30) -> Shown:
    """Returns where every byte of a file went, and its model; raises what `load` raises."""
    path = Path(path)
    if path.stat().st_size > max_bytes:
        raise FormatError(f"{path}: a file must take at most {max_bytes} bytes, got {path.stat().st_size}")
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
    """Returns the model in the bytes of a file, and where they went; FormatError where anything is wrong."""
    opened = Opened(data, "model")
    model = _model_of(read_header(opened.header), max_bytes)
    rows = []
    for name, form in model.forms().items():
        row, decoded = _named(name, _read_form, BitReader(opened.section(name), max_bytes), name, form.shape)
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
        raise FormatError(f"weights and activations must take at most {max_bytes} bytes, declared {declared}")
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
            raise UserError(f"pattern {pattern!r} matches no form; there are {', '.join(model.forms())}")
        try:
            found |= dict.fromkeys(names, Choice(layout=choice) if isinstance(choice, str) else choice)
        except ValueError as e:
            raise UserError(str(e)) from None
    return found


# --- one form -------------------------------------------------------------------------------------------------------

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
    return Row(name, kind, shape, kept, how, {part: r.spent.get(part, 0) / 8 for part in PARTS}), form


def _write_pattern(w: BitWriter, mask: Array, choice: Choice) -> Array:
    # Appends layout, order and pattern of a complete choice; returns the source of each value, -1 a filler.
    orders = positions.orders(mask.ndim)
    w.write(LAYOUTS.index(choice.layout), _LAYOUT)
    w.write(choice.order, bits_needed(len(orders)))
    flat = positions.scan(mask, choice.order)
    if choice.layout == "all":
        return np.arange(mask.size)
    return positions.write(w, np.flatnonzero(flat), mask.size, choice)


def _read_layout(r: BitReader, shape: tuple[int, ...]) -> tuple[str, int]:
    layout, number = r.read(_LAYOUT), len(positions.orders(len(shape)))
    order = r.read(bits_needed(number))
    if layout >= len(LAYOUTS) or order >= number:
        raise FormatError(f"no layout {layout} or no order {order}")
    r.charge("header")
    return LAYOUTS[layout], order


def _read_values(r: BitReader, shape: tuple[int, ...], layout: str, order: int,
                 read: Callable[[int], Array]) -> tuple[Array, Array, str]:
    """Returns (values of `shape`, 0 where none is kept; mask; how) for every layout but "all".

    read(n) -> (n,) values; those whose bits are all 0 are fillers, if the layout has fillers
    """
    n = math.prod(shape)
    pattern = positions.read(r, n, layout)
    values = read(pattern.entries)
    if layout == "relative":
        filler = values.view(f"u{values.itemsize}") == 0
        found, values = pattern.place(filler), values[~filler]
    else:
        found = pattern.place(None)
    flat, mask = np.zeros(n, values.dtype), np.zeros(n, bool)
    flat[found], mask[found] = values, True
    how = pattern.how + (", axes reversed" if order else "")
    return positions.unscan(flat, shape, order), positions.unscan(mask, shape, order), how


def _write_dense(w: BitWriter, form: Form, choice: Choice) -> None:
    value = _finite("value", form.stored()["value"].array)
    if form.mask is None:
        w.write(LAYOUTS.index("all"), _LAYOUT)
        w.write(0, bits_needed(len(positions.orders(len(form.shape)))))
        streams.write_floats(w, value, choice.values)
        return
    full = np.zeros(form.shape, value.dtype)
    full[form.mask] = value

    def cost(layout, fillers):
        # A filler is known by its value +0, so no kept weight may have it.
        zero_kept = layout == "relative" and (value.view(f"u{value.itemsize}") == 0).any()
        return None if layout == "all" or zero_kept else streams.floats_cost(value, fillers, choice.values)

    choice = positions.cheapest(form.mask, cost, choice)
    source = _write_pattern(w, form.mask, choice)
    kept = positions.scan(full, choice.order)[positions.scan(form.mask, choice.order)]
    streams.write_floats(w, np.append(kept, kept.dtype.type(0))[source], choice.values)  # source -1: the 0


def _read_dense(r: BitReader, shape: tuple[int, ...], dtype: np.dtype) -> tuple[dict, dict, str]:
    layout, order = _read_layout(r, shape)
    if layout == "all":
        value = streams.read_floats(r, math.prod(shape), dtype, "values")
        return {}, {"value": positions.unscan(value, shape, order)}, layout
    value, mask, how = _read_values(r, shape, layout, order, lambda n: streams.read_floats(r, n, dtype, "values"))
    return {}, {"value": value[mask], "mask": mask}, how


def _write_codebook(w: BitWriter, form: Form, choice: Choice) -> None:
    table = form.stored()["centroids"].array
    if not 1 <= form.k <= MAX_K:
        raise ValueError(f"k must be in [1, {MAX_K}], got {form.k}")
    if len(table) + form.pinned_zero != form.k:
        raise ValueError("centroids must not be masked")
    w.count(form.k - 1)
    w.write(form.pinned_zero, 1)
    w.write(list(FORMS).index(form.centroids.kind), 1)
    streams.write_floats(w, _finite("centroids", table), choice.values)
    index, mask = form.index, np.ones(form.shape, bool) if form.mask is None else form.mask
    freq = np.bincount(index.ravel(), minlength=form.k)

    def cost(layout, fillers):
        counts = freq if layout == "all" else freq[1:] if layout != "relative" else np.append(fillers, freq[1:])
        return streams.choose(counts, choice.values).bits

    free = form.pinned_zero and form.k > 1  # else every entry has a code
    choice = positions.cheapest(mask, cost, choice if free else Choice("all", values=choice.values))
    source = _write_pattern(w, mask, choice)
    codes = positions.scan(index, choice.order)
    if choice.layout != "all":
        codes = np.append(codes[codes != 0], 0).astype(codes.dtype)[source]
    least = choice.layout not in ("all", "relative")  # 0 does not occur: code 1 is stored as 0
    streams.write_symbols(w, codes - least, form.k - least, choice.values)


def _read_codebook(r: BitReader, shape: tuple[int, ...]) -> tuple[dict, dict, str]:
    k, pinned, kind = whole("k", r.count() + 1, 1, MAX_K), r.read(1), list(FORMS)[r.read(1)]
    r.charge("header")
    table = streams.read_floats(r, k - pinned, FORMS[kind].stored_dtype, "codebook")
    meta = {"k": k, "pinned_zero": bool(pinned), "centroids": kind}
    layout, order = _read_layout(r, shape)
    if layout == "all":
        index = streams.read_symbols(r, math.prod(shape), k, "values")
        return meta, {"index": positions.unscan(index, shape, order), "centroids": table}, f"all, k={k}"
    if not pinned or k == 1:
        raise FormatError(f"layout {layout} needs a pinned zero and a further centroid")

    def read(n):
        if layout == "relative":
            return streams.read_symbols(r, n, k, "values")
        return streams.read_symbols(r, n, k - 1, "values").astype(smallest_dtype(bits_needed(k))) + 1

    index, _, how = _read_values(r, shape, layout, order, read)
    return meta, {"index": index, "centroids": table}, f"{how}, k={k}"


WRITERS = {"dense": _write_dense, "half": _write_dense, "codebook": _write_codebook}
READERS = {
    "dense": lambda r, shape: _read_dense(r, shape, np.dtype(np.float32)),
    "half": lambda r, shape: _read_dense(r, shape, np.dtype(np.float16)),
    "codebook": _read_codebook,
}


def _read_buffers(r: BitReader, buffers: dict[str, Array]) -> None:
    for name, a in buffers.items():
        a[...] = _named(name, streams.read_floats, r, a.size, np.float32, "buffers").reshape(a.shape)
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
