"""A reference that others test against: pure functions, arrays in and out, with their test cases.

    from minicomp import reference
    reference.verify("relative_index", mine)              # AssertionError, the smallest input
    reference.ENTRIES["relative_index"].fn(positions, p)  # the reference itself

Each entry has `cases(draw)`, which yields arguments from small to large, and `judge(case, result)`,
which returns None or what is wrong. Where several answers are right the judge tests the property
that decides. `minicomp vectors NAME --out F.json` writes cases and results for other languages.
The lessons' exercises and the tests take the same cases and judges.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from . import vectors
from .cases_binary import BINARY
from .cases_bits import BITS
from .cases_coding import CODING
from .cases_distill import DISTILL
from .cases_hash import HASH
from .cases_lookup import LOOKUP
from .cases_lowrank import LOWRANK
from .cases_product import PRODUCT
from .cases_pruning import PRUNING
from .cases_quant_blocks import QUANT_BLOCKS
from .cases_quant_fixed import FIXED
from .cases_quant_folding import QUANT_FOLDING
from .cases_quant_levels import QUANT_LEVELS
from .cases_quant_ptq import QUANT_PTQ
from .cases_quant_ranges import QUANT_RANGES
from .cases_quant_rounding import ROUNDING
from .cases_quant_training import QUANT_TRAINING
from .cases_rans import RANS
from .cases_rate import RATE
from .cases_search import SEARCH
from .cases_second_order import SECOND_ORDER
from .draw import Draw
from .entry import Entry
from .judges import Case, Message, copied

ENTRIES: dict[str, Entry] = {**PRUNING, **SECOND_ORDER, **CODING, **QUANT_BLOCKS, **FIXED,
                            **QUANT_FOLDING, **QUANT_LEVELS, **QUANT_PTQ, **QUANT_RANGES,
                            **ROUNDING, **QUANT_TRAINING, **BINARY, **BITS, **LOWRANK, **HASH,
                            **LOOKUP, **PRODUCT, **RATE, **RANS, **DISTILL, **SEARCH}


def verify(name: str, fn: Callable, *, seed: int = 0, **rule) -> None:
    """Runs a stranger's function over the cases of entry `name`.

    fn : takes the reference's arguments, by their names or, where its own are called otherwise, in
        their order        seed : of the cases
    rule : further keyword arguments of every call, for a function whose convention can be chosen
    Raises AssertionError with the failing case of the fewest numbers, what was expected, what came,
    the rule and its tolerance; ValueError for an unknown name, and for a function that takes other
    arguments.
    """
    entry = _entry(name)
    judge: Any = entry.judge  # set by the entry itself where it was left out
    numbered = enumerate(entry.cases(Draw(seed)))
    for number, case in sorted(numbered, key=lambda pair: _size(pair[1])):
        shown = f"{name}, case {number}: {', '.join(f'{k} = {_text(v)}' for k, v in case.items())}"
        try:
            result = _called(name, entry, fn, copied(case), rule)
        except Arguments as e:
            raise ValueError(str(e)) from None
        except Exception as e:
            raise AssertionError(f"{shown}\n  raised {type(e).__name__}: {e}") from e
        try:
            wrong = judge(case, result)
        except Exception as e:  # a judge expects numbers of the right kind
            wrong = Message("odd", f"the result cannot be judged: {type(e).__name__}: {e}")
        if wrong is not None:
            expected = _text(entry.fn(**copied(case)))
            more = (wrong.first or wrong.detail).replace("\n", "\n  ")
            told = "\n  ".join(filter(None, (wrong.text, more)))
            raise AssertionError(f"{shown}\n  expected: {expected}\n  got:      {_text(result)}\n"
                                 f"  {told}\n  rule: {entry.rule}; {entry.source}")


def write_vectors(name: str, path: str | Path, *, seed: int = 0) -> int:
    """Writes the cases of an entry with their expected results, and returns how many.

    path : F.json or F.npz; `vectors.plain` says how arrays lie in JSON
    Raises ValueError for an unknown name or another ending.
    """
    entry = _entry(name)
    return vectors.write(Path(path), name, entry, entry.cases(Draw(seed)), seed)


def _entry(name: str) -> Entry:
    if name not in ENTRIES:
        raise ValueError(f"name must be one of {', '.join(ENTRIES)}, got {name!r}")
    return ENTRIES[name]


class Arguments(Exception):
    """A function that does not take the reference's arguments, neither by name nor in order."""


def _called(name: str, entry: Entry, fn: Callable, case: Case, rule: dict):
    try:
        asked = inspect.signature(fn)
    except (TypeError, ValueError):  # a function of C that does not show its arguments
        return fn(**case, **rule)
    ordered = [case[k] for k in inspect.signature(entry.fn).parameters if k in case]
    for args, named in (((), case | rule), (ordered, rule)):
        try:
            asked.bind(*args, **named)
        except TypeError:
            continue
        return fn(*args, **named)
    also = f" and {', '.join(rule)} by name" if rule else ""
    raise Arguments(f"{name}: fn must take {', '.join(case)}, by these names or in this order"
                    f"{also}, got a function of {asked}")


def _size(case: Case) -> int:
    values = [a for v in case.values() for a in (v if isinstance(v, list) else [v])]
    return sum(np.size(a) for a in values)


def _text(value) -> str:
    return np.array2string(value, threshold=20) if isinstance(value, np.ndarray) else repr(value)
