"""Comparing an answer with what is right, and saying in one line how they differ.

A judge is a function `judge(case, result) -> Message | None`. Most exercises compare with a
reference (`equal_to`); where several answers are right a judge tests the property instead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Array = np.ndarray


@dataclass(frozen=True)
class Message:
    """What is wrong with an answer.

    slug : stable name, the part of the message id after the exercise's
    text : what was expected and the likely misconception; never contains a hidden input
    detail : the input, what was expected and what came; not shown where the input is hidden
    """

    slug: str
    text: str
    detail: str = ""


def equal_to(reference: Callable, *, rtol: float = 0.0, atol: float = 0.0) -> Callable:
    """Returns the judge that compares with reference(**case), entry by entry.

    rtol, atol : |got - expected| <= atol + rtol max|expected|; both 0 ask for equality
    """

    def judge(case: dict, result) -> Message | None:
        return difference(reference(**case), result, rtol=rtol, atol=atol)

    return judge


def difference(
    expected,
    got,
    *,
    rtol: float = 0.0,
    atol: float = 0.0,
    where: str = "the result",
    shown: bool = True,
) -> Message | None:
    """Returns how `got` differs from `expected` in type, shape or value; None where it does not.

    shown : whether the message shows the arrays, which takes longer than comparing them
    """
    if isinstance(expected, tuple):
        if not isinstance(got, tuple | list) or len(got) != len(expected):
            return Message(
                "wrong-type", f"{where} must be a tuple of {len(expected)}, got {describe(got)}"
            )
        for i, (e, g) in enumerate(zip(expected, got, strict=True)):
            part = f"entry {i} of {where}"
            found = difference(e, g, rtol=rtol, atol=atol, where=part, shown=shown)
            if found:
                return found
        return None
    if isinstance(expected, bool | np.bool_ | str):
        same = isinstance(got, type(expected) | np.bool_ | bool | str) and bool(got == expected)
        return (
            None
            if same
            else Message("wrong-value", f"{where} must be {expected!r}", f"got {describe(got)}")
        )
    if isinstance(expected, int | np.integer):
        return _integer(int(expected), got, where)
    return _array(np.asarray(expected), got, rtol, atol, where, shown)


def _integer(expected: int, got, where: str) -> Message | None:
    if isinstance(got, np.ndarray) and got.ndim == 0:
        got = got[()]
    if isinstance(got, bool) or not isinstance(got, int | np.integer):
        return Message(
            "wrong-type",
            f"{where} must be an integer (division with // keeps it one)",
            f"got {describe(got)}",
        )
    return (
        None
        if int(got) == expected
        else Message(
            "wrong-value", f"{where} is not the right count", f"expected {expected}, got {int(got)}"
        )
    )


def _array(
    expected: Array, got, rtol: float, atol: float, where: str, shown: bool
) -> Message | None:
    if got is None:
        return Message("no-value", f"{where} is None: is there a return?")
    if not isinstance(got, np.ndarray | np.generic | int | float | list | tuple):
        return Message("wrong-type", f"{where} must be {kind_of(expected)}, got {describe(got)}")
    try:
        got = np.asarray(got)
    except ValueError:
        return Message("wrong-type", f"{where} must be one array, got rows of different lengths")
    if got.shape != expected.shape:
        return Message(
            "wrong-shape",
            f"{where} has the wrong shape",
            f"expected shape {expected.shape}, got {got.shape}",
        )
    if (expected.dtype.kind == "b") != (got.dtype.kind == "b") or got.dtype.kind not in "biuf":
        return Message("wrong-type", f"{where} must be {kind_of(expected)}, got dtype {got.dtype}")
    if (
        expected.dtype.kind in "iu"
        and got.dtype.kind == "f"
        and not np.array_equal(got, np.rint(got))
    ):
        return Message("wrong-type", f"{where} must hold integers, got dtype {got.dtype}")
    if got.dtype.kind == "f" and not np.isfinite(got).all():
        return Message("not-finite", f"{where} contains NaN or infinity", f"got {show(got)}")
    if expected.dtype.kind == "b":
        wrong = got != expected
    else:
        bound = atol + rtol * float(np.abs(expected).max(initial=0.0))
        wrong = np.abs(got.astype(np.float64) - expected.astype(np.float64)) > bound
    if not wrong.any():
        return None
    return Message(
        "wrong-value",
        (
            f"{where} is wrong in {int(wrong.sum())} of {wrong.size} entries"
            if wrong.ndim
            else f"{where} is wrong"
        ),
        f"expected {show(expected)}\ngot      {show(got)}" if shown else "",
    )


def describe(value) -> str:
    """Returns a value's type, and its shape or length where it has one."""
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, int | float | np.generic | str) or value is None:
        return repr(value)[:60]
    return f"a {type(value).__name__}"


def is_sparsity(value) -> bool:
    """Returns whether a value is a number in [0, 1): a fraction of zeros."""
    number = isinstance(value, int | float | np.floating) and not isinstance(value, bool)
    return number and bool(0 <= value < 1)


def kind_of(expected: Array) -> str:
    """Returns what kind of array or number is expected, in words."""
    entries = {"b": "booleans", "i": "integers", "u": "integers", "f": "numbers"}[
        expected.dtype.kind
    ]
    return (
        f"an array of {entries}"
        if expected.ndim
        else {"booleans": "a boolean", "integers": "an integer", "numbers": "a number"}[entries]
    )


def show(value, limit: int = 24) -> str:
    """Returns a value on few lines: six digits, large arrays by shape and first entries."""
    if isinstance(value, tuple | list):
        inner = ", ".join(show(v, limit) for v in value[:6]) + (", ..." if len(value) > 6 else "")
        return f"({inner})" if isinstance(value, tuple) else f"[{inner}]"
    if isinstance(value, np.ndarray) and value.size > limit:
        return f"shape {value.shape}, first entries {show(value.ravel()[:6])}"
    if isinstance(value, np.ndarray):
        value = value + 0.0 if value.dtype.kind == "f" else value  # -0 reads as 0
        return np.array2string(value, precision=6, separator=", ").replace("\n", "\n         ")
    return f"{value:.9g}" if isinstance(value, float | np.floating) else repr(value)
