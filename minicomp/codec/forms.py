"""One form as bits, and back: the one writer and the one reader, over parts by their role.

    wire        a count, which form
    settings    one bit a flag, a count for a number less its least
    parts       in the order of their declaration, each after a bit that says whether it is there if
                it is optional: floats and codes by codec/streams.py, a form as here
    pattern     which entries are kept, in which layout and order (codec/layouts.py)
    values      of the kept entries, codes or floats

The last two are of the *carrier*, the part that has an entry for each of the weight. Layout, order
and their parameters are those that take the fewest bits, found by counting. A mask is known by the
pattern; where the form has a code that is 0 (`coded_zero`), the mask is where it stands.
"""

from __future__ import annotations

import functools
import math

import numpy as np

from ..errors import FormatError
from ..nn.forms import FORMS, Form
from . import context as range_coder, layouts, streams
from .accounting import PARTS, Row
from .bits import BitReader, BitWriter, smallest_dtype
from .positions import Choice, scan, unscan

Array = np.ndarray
CHARGED = {"value": "values", "code": "values", "scale": "codebook", "table": "codebook"}


def write_form(w: BitWriter, form: Form, choice: Choice = Choice()) -> None:
    """Appends a form, its carrier laid out as `choice` says.

    Raises ValueError for NaN or infinity, a setting that a file cannot hold, an impossible choice.
    """
    parts, carrier = form.stored(), form.carrier
    for name, held in parts.items():
        if not isinstance(held, Form) and not np.isfinite(held).all():
            raise ValueError(f"{name} must be finite, got NaN or infinity")
    w.count(form.wire)
    for name, setting in form.settings.items():
        value = setting.check(name, getattr(form, name))
        w.write(value, 1) if setting.type is bool else w.count(value - setting.lo)
    for name, part in form.parts.items():
        if name == carrier or part.role in ("mask", "latent"):
            continue
        if part.optional:
            w.write(name in parts, 1)
        if name not in parts:
            continue
        if part.nested:
            write_form(w, parts[name], Choice(values=choice.values))
        elif part.role == "code":
            codes = form.codes(name)
            symbols = _symbols(parts[name], codes.start, len(codes))
            streams.write_symbols(w, symbols.ravel(), len(codes), choice.values)
        else:
            streams.write_floats(w, parts[name], choice.values)
    if carrier:
        write = _write_codes if form.parts[carrier].role == "code" else _write_values
        write(w, form, parts[carrier], choice)


def read_form(r: BitReader, name: str, shape: tuple[int, ...]) -> tuple[Row, Form]:
    """Returns where the bytes of a form went, and the form; FormatError where it is damaged."""
    form, how = _read(r, shape)
    r.finish()
    r.charge("header")
    kept = math.prod(shape) if form.mask is None else int(np.count_nonzero(form.mask))
    spent = {part: r.spent.get(part, 0) / 8 for part in PARTS}
    return Row(name, form.kind, shape, kept, how, spent), form


def _read(r: BitReader, shape: tuple[int, ...], kinds=None, charged: str = "values") -> tuple[Form, str]:
    # kinds : that are allowed, None for all        charged : what the carrier's values count as
    wire = r.count()
    cls = next((cls for cls in FORMS.values() if cls.wire == wire), None)
    if cls is None:
        raise FormatError(f"no form {wire}")
    if kinds is not None and cls.kind not in kinds:
        raise FormatError(f"a form within a form must be {' or '.join(kinds)}, got {cls.kind!r}")
    settings = {name: bool(r.read(1)) if s.type is bool else r.count() + s.lo
                for name, s in cls.settings.items()}
    try:
        form = cls.blank(shape, settings)
    except ValueError as e:
        raise FormatError(str(e)) from None
    parts, how = {}, "all"
    for name, part in cls.parts.items():
        if name == form.carrier or part.role in ("mask", "latent") or part.optional and not r.read(1):
            continue
        r.charge("header")
        shaped, counts_as = form.stored_shape(name), CHARGED[part.role]
        if part.nested:
            parts[name], _ = _read(r, shaped, part.nested, counts_as)
        elif part.role == "code":
            codes = form.codes(name)
            symbols = streams.read_symbols(r, math.prod(shaped), len(codes), counts_as)
            parts[name] = _codes(symbols, codes.start)
        else:
            parts[name] = streams.read_floats(r, math.prod(shaped), part.dtype, counts_as)
    r.charge("header")
    if form.carrier:
        code = cls.parts[form.carrier].role == "code"
        found, how = (_read_codes if code else _read_values)(r, form, charged)
        parts |= found
    words = [f"{name}={settings[name]}" for name, s in cls.settings.items() if s.type is int]
    return cls.from_stored(shape, settings, parts), ", ".join([how, *words])


def _write_values(w: BitWriter, form: Form, value: Array, choice: Choice) -> None:
    mask = form.mask
    if mask is None:
        layouts.write(w, layouts.Plan(layouts.ALL, np.ones(value.shape, bool)))
        streams.write_floats(w, value, choice.values)
        return
    # A filler is known by its value +0, so no kept weight may have it.
    kept = value[mask]
    impossible = {"all"} | ({"relative"} if streams.all_bits_zero(kept).any() else set())
    bits = functools.cache(lambda fillers: streams.floats_cost(kept, fillers, choice.values))

    def cost(layout, fillers):
        return None if layout in impossible else bits(fillers)

    plan = layouts.plan(mask, mask, 1, cost, choice)
    source, order = layouts.write(w, plan), plan.choice.order
    kept = scan(value, order)[scan(mask, order)]
    # source -1: the 0
    streams.write_floats(w, np.append(kept, kept.dtype.type(0))[source], choice.values)


def _read_values(r: BitReader, form: Form, charged: str) -> tuple[dict, str]:
    dtype = form.parts[form.carrier].dtype

    def read(n):
        return streams.read_floats(r, n, dtype, charged)

    layout, order = layouts.read_layout(r, form.shape)
    if layout == "all":
        return {form.carrier: unscan(read(math.prod(form.shape)), form.shape, order)}, layout
    _check_maskable(form, layout)
    value, mask, how = layouts.read_values(r, form.shape, layout, order, read)
    return {form.carrier: value, "mask": mask}, how


# Codes lie in a file as symbols: with a mask, a pruned entry is symbol 0, and kept ones are 1..n.


def _write_codes(w: BitWriter, form: Form, index: Array, choice: Choice) -> None:
    codes, mask, n = form.codes(form.carrier), form.mask, _kept_codes(form)
    if mask is None or n == 0:  # every entry has a code
        symbols = _symbols(index, codes.start, len(codes))
        layouts.write(w, layouts.Plan(layouts.ALL, np.ones(index.shape, bool)))
        streams.write_symbols(w, symbols.ravel(), len(codes), choice.values)
        return
    symbols = np.where(mask, _symbols(index, codes.start + form.coded_zero - 1, n + 1), 0)
    freq = np.bincount(symbols.ravel(), minlength=n + 1)

    def cost(layout, fillers):
        if layout == "context":
            return 0
        if layout == "all":
            return streams.choose(freq, choice.values).bits if form.coded_zero else None
        counts = freq[1:] if layout != "relative" else np.append(fillers, freq[1:])
        return streams.choose(counts, choice.values).bits

    plan = layouts.plan(mask, symbols, n, cost, choice)
    source, layout = layouts.write(w, plan), plan.choice.layout
    if layout == "context":
        return  # the codes are part of the pattern
    symbols = scan(symbols, plan.choice.order)
    if layout != "all":
        symbols = np.append(symbols[symbols != 0], 0).astype(symbols.dtype)[source]
    least = layout not in ("all", "relative")  # 0 does not occur: 1 is stored as 0
    streams.write_symbols(w, symbols - least, n + 1 - least, choice.values)


def _read_codes(r: BitReader, form: Form, charged: str) -> tuple[dict, str]:
    shape, codes, n = form.shape, form.codes(form.carrier), _kept_codes(form)
    layout, order = layouts.read_layout(r, shape)
    if layout == "all":
        symbols = streams.read_symbols(r, math.prod(shape), len(codes), charged)
        return {form.carrier: unscan(_codes(symbols, codes.start), shape, order)}, layout
    _check_maskable(form, layout)

    def read(entries):
        if layout == "relative":
            return streams.read_symbols(r, entries, n + 1, charged)
        symbols = streams.read_symbols(r, entries, n, charged)
        return symbols.astype(_dtype(n + 1)) + 1

    if layout == "context":
        symbols, how = range_coder.read(r, shape, order, n)
        how = layouts.in_words(how, order)
    else:
        symbols, _, how = layouts.read_values(r, shape, layout, order, read)
    if form.coded_zero:
        return {form.carrier: _codes(symbols, codes.start)}, how
    mask = symbols != 0
    return {form.carrier: np.where(mask, _codes(symbols, codes.start - 1), codes.start), "mask": mask}, how


def _kept_codes(form: Form) -> int:
    return len(form.codes(form.carrier)) - form.coded_zero


def _check_maskable(form: Form, layout: str) -> None:
    if form.coded_zero and not _kept_codes(form) or not (form.coded_zero or "mask" in form.parts):
        raise FormatError(f"layout {layout} needs a mask, or a pinned zero and a further code")


def _dtype(size: int) -> type:
    return smallest_dtype(max(size - 1, 0).bit_length())


def _symbols(codes: Array, first: int, size: int) -> Array:
    # codes first..first + size - 1 -> 0..size - 1; what is below wraps around
    return (codes.astype(np.int64) - first).astype(_dtype(size)) if first else codes


def _codes(symbols: Array, first: int) -> Array:
    return symbols.astype(np.int64) + first if first else symbols
