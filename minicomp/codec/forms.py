"""One form as bits, and back: the one writer and the one reader, over parts by their role.

    wire        a count, which form
    settings    one bit a flag, a count for a number less its least
    parts       in the order of their declaration, each after a bit that says whether it is there if
                it is optional: floats and codes by codec/streams.py, a form as here
    pattern     which entries are kept, in which layout and order (codec/layouts.py); not of a form
                within another that has no code of 0
    values      of the kept entries, codes or floats

The last two are of the *carrier*, the part that has an entry for each of the weight. Layout, order
and their parameters are those that take the fewest bits, found by counting.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ..errors import FormatError
from ..grid import bfloat16_bits, bfloat16_of
from ..nn.forms import BFLOAT16, FORMS, Form, Part, code_dtype
from . import layouts, mixed, streams
from .accounting import PARTS, Row
from .bits import BitReader, BitWriter
from .positions import Choice, scan, unscan

Array = np.ndarray
_BLOCK = 1 << 16  # codes turned at once
CHARGED = {"value": "values", "code": "values", "scale": "codebook", "table": "codebook"}


def write_form(w: BitWriter, form: Form, choice: Choice = Choice(), units: Array | None = None,
               within: bool = False, followed: bool = False) -> None:
    """Appends a form; its carrier is laid out as `choice` says, but not `within` another form.

    units : of the layer before, see codec/mixed.py        followed : the section goes on behind it
    Raises ValueError for NaN or infinity, a setting that a file cannot hold, an impossible choice.
    """
    form = form.freeze() if form.trainable else form
    parts = form.stored()
    for name, held in parts.items():
        if not isinstance(held, Form) and not np.isfinite(held).all():
            raise ValueError(f"{name} must be finite, got NaN or infinity")
    w.count(form.wire)
    for name, setting in form.settings.items():
        value = setting.check(name, getattr(form, name))
        w.write(value, 1) if setting.type is bool else w.count(value - setting.lo)
    beside = _beside(form)
    for name, part in beside:
        if part.optional:
            w.write(name in parts, 1)
        if part.nested:
            more = followed or form.carrier is not None or name != beside[-1][0]
            write_form(w, parts[name], Choice(values=choice.values), within=True, followed=more)
        elif name in parts:
            coding = _coding(form, name, parts)
            coding.write(w, coding.symbols(parts[name]).ravel(), "all", choice.values)
    if form.carrier:
        _write_carrier(w, form, parts, choice, units, within, followed)


def read_form(r: BitReader, name: str, shape: tuple[int, ...], units: Array | None = None
              ) -> tuple[Row, Form]:
    """Returns where the bytes of a form went, and the form; FormatError where it is damaged."""
    form, how = _read(r, shape, units)
    r.finish()
    r.charge("header")
    kept = math.prod(shape) if form.mask is None else int(np.count_nonzero(form.mask))
    spent = {part: r.spent.get(part, 0) / 8 for part in PARTS}
    return Row(name, form.kind, shape, kept, how, spent), form


def _read(r: BitReader, shape: tuple[int, ...], units: Array | None, kinds=None,
          charged="values") -> tuple[Form, str]:
    # kinds : of a form within another        charged : the part of a file that its values count as
    wire = r.count()
    cls = next((cls for cls in FORMS.values() if cls.wire == wire), None)
    if cls is None or kinds and cls.kind not in kinds:
        what = f" within another, which takes {' or '.join(kinds)}" if kinds else ""
        raise FormatError(f"no form {wire}{what}")
    settings = {name: bool(r.read(1)) if setting.type is bool else r.count() + setting.lo
                for name, setting in cls.settings.items()}
    form, parts, how = cls.blank(shape, settings), {}, "all"
    for name, part in _beside(form):
        there = not part.optional or r.read(1)
        r.charge("header")
        r.budget.hold(4 * math.prod(form.stored_shape(name)) * there)
        if there and part.nested:
            stored = form.stored_shape(name)
            parts[name], _ = _read(r, stored, None, part.nested, CHARGED[part.role])
        elif there:
            coding, size = _coding(form, name, parts), math.prod(form.stored_shape(name))
            parts[name] = coding.numbers(coding.read(r, size, "all", CHARGED[part.role]))
    r.charge("header")
    if form.carrier:
        found, how = _read_carrier(r, form, parts, charged, units, kinds is not None)
        parts |= found
    return cls.from_stored(shape, settings, parts), ", ".join([how, *form.in_words()])


def _beside(form: Form) -> list[tuple[str, Part]]:
    # what a file holds beside the carrier and its mask
    return [(name, part) for name, part in form.parts.items()
            if name != form.carrier and part.role not in ("mask", "latent")]


# The carrier. A coding says how its numbers are written, and what they cost.


@dataclass(frozen=True)
class _Floats:
    dtype: type
    size = 1  # symbols of a kept entry in a learnt layout, which leaves the numbers out

    def symbols(self, a: Array) -> Array:
        return bfloat16_bits(a) if self.dtype is BFLOAT16 else a

    def numbers(self, a: Array) -> Array:
        return bfloat16_of(a) if self.dtype is BFLOAT16 else a

    def cost(self, kept: Array, pruned: int, coder: str | None) -> Callable:
        # A filler is known by its value +0, so no kept weight may have it.
        impossible = {"all"} | ({"relative"} if streams.all_bits_zero(kept).any() else set())
        bits = functools.cache(lambda fillers: streams.floats_cost(kept, fillers, coder))
        return lambda layout, fillers: None if layout in impossible else bits(fillers)

    def write(self, w: BitWriter, values: Array, layout: str, coder: str | None) -> None:
        streams.write_floats(w, values, coder)

    def read(self, r: BitReader, n: int, layout: str, charged: str) -> Array:
        return streams.read_floats(r, n, self.dtype, charged)


@dataclass(frozen=True)
class _Codes:
    # Symbol 0 is a pruned entry or a filler: where one code is that of 0, it is this; the others
    # are 1..size, in their order.
    codes: range
    zero: int | None

    @property
    def size(self) -> int:
        return len(self.codes) - (self.zero is not None)

    def symbols(self, codes: Array) -> Array:
        s = codes.astype(np.int64) - self.codes.start + 1
        if self.zero is not None:
            s = np.where(codes == self.zero, 0, s - (codes > self.zero))
        return streams.as_symbols(s, self.size + 1)

    def numbers(self, symbols: Array) -> Array:
        flat = symbols.reshape(-1)
        out = np.empty(flat.size, code_dtype(self.codes))
        for at in range(0, flat.size, _BLOCK):
            s = flat[at : at + _BLOCK].astype(np.int64)
            code = np.maximum(s + self.codes.start - 1, self.codes.start)
            if self.zero is not None:
                code = np.where(s == 0, self.zero, code + (code >= self.zero))
            out[at : at + _BLOCK] = code
        return out.reshape(symbols.shape)

    def least(self, layout: str) -> int:
        return 0 if layout == "relative" or layout == "all" and self.zero is not None else 1

    def cost(self, kept: Array, pruned: int, coder: str | None) -> Callable:
        freq = np.bincount(kept, minlength=self.size + 1)

        def cost(layout, fillers):
            if layout in layouts.LEARNT or layout == "all" and self.zero is None:
                return 0 if layout in layouts.LEARNT else None
            freq[0] = pruned if layout == "all" else fillers
            return streams.choose(freq[self.least(layout):], coder).bits

        return cost

    def write(self, w: BitWriter, symbols: Array, layout: str, coder: str | None) -> None:
        if layout not in layouts.LEARNT:  # whose pattern holds them
            least = self.least(layout)
            streams.write_symbols(w, symbols - least, self.size + 1 - least, coder)

    def read(self, r: BitReader, n: int, layout: str, charged: str) -> Array:
        least = self.least(layout)
        symbols = streams.read_symbols(r, n, self.size + 1 - least, charged)
        symbols = streams.as_symbols(symbols, self.size + 1)
        symbols += least
        return symbols


def _coding(form: Form, name: str, parts: dict) -> _Floats | _Codes:
    # parts : of the form, as far as they are read
    if form.parts[name].role == "code":
        return _Codes(form.codes(name), form.zero_of(parts) if name == form.carrier else None)
    return _Floats(form.parts[name].dtype)


def _bare(form: Form, parts: dict, within: bool) -> bool:
    # Whether nothing says how the carrier lies: of a table, whose entries are all there.
    return within and form.zero_of(parts) is None


def symbols_of(form: Form) -> tuple[Array | None, int]:
    """Returns (symbols of the form's carrier, 0 where none is kept, how many are below 0).

    None where it has no carrier, or one of floats.
    """
    form = form.freeze() if form.trainable else form
    parts = form.stored()
    if not form.carrier or isinstance(coding := _coding(form, form.carrier, parts), _Floats):
        return None, 0
    symbols, mask = coding.symbols(parts[form.carrier]), form.listed()
    if mask is not None:
        symbols = np.where(mask, symbols, symbols.dtype.type(0))
    return symbols, _low(form, coding, symbols)


def _unpruned(form: Form, parts: dict) -> bool:
    # Whether no entry of the carrier can be pruned.
    return form.zero_of(parts) is None and "mask" not in form.parts


def _write_carrier(w: BitWriter, form: Form, parts: dict, choice: Choice, units: Array | None,
                   within: bool, followed: bool) -> None:
    coding, mask = _coding(form, form.carrier, parts), form.listed()
    held = parts[form.carrier]
    values = coding.symbols(held)
    if mask is None or not coding.size:  # every entry is stored
        _write_every(w, form, parts, coding, values, choice, units, within)
        return
    values = np.where(mask, values, values.dtype.type(0))
    cost = coding.cost(values[mask], mask.size - np.count_nonzero(mask), choice.values)
    codes = mask if isinstance(coding, _Floats) else values
    known = _known(form, coding, parts, units)
    tensor = layouts.Tensor(mask, codes, known, _low(form, coding, values), followed)
    plan = layouts.plan(tensor, cost, choice)
    source, order, layout = layouts.write(w, plan), plan.choice.order, plan.choice.layout
    values = scan(values, order)
    if layout != "all":  # source -1: the 0
        values = np.append(values[scan(mask, order)], values.dtype.type(0))[source]
    coding.write(w, values, layout, choice.values)


def _write_every(w: BitWriter, form: Form, parts: dict, coding: _Floats | _Codes, values: Array,
                 choice: Choice, units: Array | None, within: bool) -> None:
    layout = "all"
    if not _bare(form, parts, within):
        known = _known(form, coding, parts, units)
        tensor = layouts.Tensor(np.ones(values.shape, bool), values, known)
        plan = layouts.Plan(layouts.ALL, tensor)
        if known.dense and isinstance(coding, _Codes) and not within:
            tensor = replace(tensor, low=_low(form, coding, values))
            freq = np.bincount(values.ravel(), minlength=coding.size + 1)[1:]
            plan = layouts.plan_dense(tensor, streams.choose(freq, choice.values).bits, choice)
        layouts.write(w, plan)
        layout = plan.choice.layout
    coding.write(w, values.ravel(), layout, choice.values)


def _known(form: Form, coding: _Floats | _Codes, parts: dict, units: Array | None) -> mixed.Known:
    # What a reader knows of the carrier once it has the parts beside it.
    return mixed.Known(form.shape, coding.size, units, _unpruned(form, parts),
                       _below_in_table(form, coding, parts))


def _below_in_table(form: Form, coding: _Floats | _Codes, parts: dict) -> int | None:
    for name, part in form.parts.items():
        table = parts.get(name)
        if part.role == "table" and isinstance(table, Form) and table.shape == (coding.size,):
            return int(np.count_nonzero(table.dense().data < 0))
    return None


def _low(form: Form, coding: _Floats | _Codes, symbols: Array) -> int:
    # How many of a carrier's symbols mean values below 0.
    if isinstance(coding, _Floats) or coding.size < 2:
        return 0
    return mixed.below_zero(symbols, form.dense().data, coding.size)


def _read_carrier(r: BitReader, form: Form, parts: dict, charged: str, units: Array | None,
                  within: bool) -> tuple[dict, str]:
    coding, shape = _coding(form, form.carrier, parts), form.shape
    bare = _bare(form, parts, within)
    layout, order = ("all", 0) if bare else layouts.read_layout(r, shape)
    if layout == "all":
        values = coding.read(r, math.prod(shape), layout, charged)
        return {form.carrier: coding.numbers(unscan(values, shape, order))}, layout
    known = _known(form, coding, parts, units)
    if known.dense and layout == "mixed" and isinstance(coding, _Codes) and not within:
        values, how = layouts.read_learnt(r, layout, order, known)
        return {form.carrier: coding.numbers(streams.as_symbols(values, coding.size + 1))}, how
    if not coding.size or known.dense:
        raise FormatError(f"layout {layout} needs a mask, or a pinned zero and a further code")
    r.budget.hold(math.prod(shape))  # the mask
    if layout in layouts.LEARNT and isinstance(coding, _Codes):
        values, how = layouts.read_learnt(r, layout, order, known)
        mask = values != 0
    else:
        values, mask, how = layouts.read_values(
            r, layout, order, known, lambda n: coding.read(r, n, layout, charged))
    return {form.carrier: coding.numbers(values), "mask": mask}, how
