"""What equal means: judges are functions (case, result) that return None, or a `Message`.

Most compare with a reference (`equal_to`); where several answers are right, a judge tests the
property that decides.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..codec.huffman import canonical_codes, huffman_lengths
from ..codec.index import relative_index
from ..compress.prune.sparsegpt import sparsegpt
from ..compress.line import assign, kmeans_1d_optimal
from ..compress.share.kmeans import kmeans_1d
from ..errors import printable

Array = np.ndarray
Case = dict[str, Any]
DIGITS = 6  # significant ones of a number in a message, where they tell two numbers apart
FEW, MANY, WIDTH = 6, 24, 100  # entries shown of a large array; most, and letters, of a small one


@dataclass(frozen=True)
class Message:
    """What is wrong with an answer.

    slug : stable name of the kind of mistake
    text : what was expected; in a lesson the likely misconception. Never contains a hidden input
    detail : what was expected and what came; not shown where the input is hidden
    first : the first entry that differs, all its digits
    """

    slug: str
    text: str
    detail: str = ""
    first: str = ""


Judge = Callable[[Any, Any], Message | None]


def copied(value):
    """Returns a case, or a value in it, with its arrays copied: a function may write to them."""
    if isinstance(value, dict):
        return {name: copied(v) for name, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(copied, value))
    return value.copy() if isinstance(value, np.ndarray) else value


def unchanged(before, after) -> bool:
    """Returns whether a value is still the one that `copied` returned before a call."""
    if isinstance(before, np.ndarray):
        same = isinstance(after, np.ndarray) and before.dtype == after.dtype
        return same and np.array_equal(before, after)
    if isinstance(before, list | tuple):
        return len(before) == len(after) and all(map(unchanged, before, after))
    return before == after


def equal_to(fn: Callable, *, rtol: float = 0.0, names: tuple[str, ...] = ()) -> Judge:
    """Returns the judge that compares with fn(**case), entry by entry.

    rtol : |got - expected| <= rtol max|expected|; 0 asks for equality
    names : of the parts, where the result is a tuple
    """
    return lambda case, result: difference(fn(**copied(case)), result, rtol=rtol, names=names)


def difference(
    expected,
    got,
    *,
    rtol: float = 0.0,
    atol: float = 0.0,
    where: str = "the result",
    names: tuple[str, ...] = (),
    shown: bool = True,
) -> Message | None:
    """Returns how `got` differs from `expected` in type, shape or value; None where it does not.

    rtol, atol : |got - expected| <= atol + rtol max|expected|; both 0 ask for equality
    names : of the parts, where a tuple is expected; without them a part is "entry 0 of `where`"
    shown : whether the message shows the arrays, which takes longer than comparing them
    """
    if isinstance(expected, tuple | list):
        if _numbers(expected) and isinstance(got, np.ndarray) and got.ndim == 1:
            got = list(got)  # numbers in one array are as right as in a tuple
        if not isinstance(got, tuple | list) or len(got) != len(expected):
            kind, parts = type(expected).__name__, f" ({', '.join(names)})" if names else ""
            told = f"{where} must be a {kind} of {len(expected)}{parts}, got {describe(got)}"
            return Message("wrong-type", told)
        for i, (e, g) in enumerate(zip(expected, got, strict=True)):
            part = names[i] if names else f"entry {i} of {where}"
            if found := difference(e, g, rtol=rtol, atol=atol, where=part, shown=shown):
                return found
        return None
    if isinstance(expected, bool | np.bool_ | str):
        if isinstance(got, bool | np.bool_ | str) and bool(got == expected):
            return None
        return Message("wrong-value", f"{where} must be {expected!r}", f"got {describe(got)}")
    if isinstance(expected, int | np.integer):
        return _integer(int(expected), got, where)
    return _array(np.asarray(expected), got, rtol, atol, where, shown)


def _numbers(values) -> bool:
    # Whether each is a single number.
    return all(isinstance(v, int | float | np.number) and not isinstance(v, bool) for v in values)


def first_difference(rights, results, names, *, rtol: float = 0.0) -> Message | None:
    """Returns the first difference of several results, each from its right one, under its name."""
    each = zip(rights, results, names, strict=True)
    found = (difference(e, r, rtol=rtol, where=name) for e, r, name in each)
    return next(filter(None, found), None)


def each_equal_to(fn: Callable, names: tuple[str, ...], *, rtol: float = 0.0) -> Judge:
    """Returns the judge of a case of several calls: each result is compared with fn(**call).

    names : of the results, in the order of the calls        rtol : as of `equal_to`
    """
    return lambda case, results: first_difference(
        [fn(**copied(call)) for call in case], results, names, rtol=rtol)


def _integer(expected: int, got, where: str) -> Message | None:
    if isinstance(got, np.ndarray) and got.ndim == 0:
        got = got[()]
    if isinstance(got, bool) or not isinstance(got, int | np.integer):
        told = f"{where} must be an integer (division with // keeps it one)"
        return Message("wrong-type", told, f"got {describe(got)}")
    if int(got) == expected:
        return None
    told = f"expected {expected}, got {int(got)}"
    return Message("wrong-value", f"{where} is not the right count", told)


def _array(expected: Array, got, rtol, atol, where: str, shown: bool) -> Message | None:
    if got is None:
        return Message("no-value", f"{where} is None: is there a return?")
    if not isinstance(got, np.ndarray | np.generic | int | float | list | tuple):
        return Message("wrong-type", f"{where} must be {kind_of(expected)}, got {describe(got)}")
    try:
        got = np.asarray(got)
    except ValueError:
        return Message("wrong-type", f"{where} must be one array, got rows of different lengths")
    if got.shape != expected.shape:
        told = f"expected shape {expected.shape}, got {got.shape}"
        if shown and max(expected.ndim, got.ndim) < 3:
            told = f"{told}\nexpected {show(expected)}\ngot      {show(got)}"
        return Message("wrong-shape", f"{where} has the wrong shape", told)
    kind, mine = expected.dtype.kind, got.dtype.kind
    if (kind == "b") != (mine == "b") or mine not in "biuf":
        return Message("wrong-type", f"{where} must be {kind_of(expected)}, got dtype {got.dtype}")
    if kind in "iu" and mine == "f" and not np.array_equal(got, np.rint(got)):
        return Message("wrong-type", f"{where} must hold integers, got dtype {got.dtype}")
    if mine == "f" and not np.isfinite(got).all():
        return Message("not-finite", f"{where} contains NaN or infinity", f"got {show(got)}")
    wrong = got != expected
    bound = 0.0
    if kind != "b" and (rtol or atol):
        bound = atol + rtol * float(np.abs(expected).max(initial=0.0))
        wrong = ~(np.abs(got.astype(np.float64) - expected.astype(np.float64)) <= bound)
    if not wrong.any():
        return None
    count = f"{where} is wrong in {int(wrong.sum())} of {wrong.size} entries"
    told = count if wrong.ndim else f"{where} is wrong"
    slug = "wrong-value"
    if _is_coarse(expected, got):
        slug, told = "too-coarse", f"{where} is right only as far as {got.dtype} goes: keep float64"
    if not shown:
        return Message(slug, told)
    at = tuple(int(i[0]) for i in np.nonzero(wrong)) if wrong.ndim else ()
    # .item(): a float32 as the double that it is, which no other number reads like
    one, other = expected[at].item(), got[at].item()
    first = f"first difference at {at}: {one!r} is expected, got {other!r}"
    return Message(slug, told, _beside(expected, got, wrong, at), first)


def _is_coarse(expected: Array, got: Array) -> bool:
    # Whether got is what is expected, rounded to a smaller float.
    if expected.dtype.kind != "f" or got.dtype.kind != "f":
        return False
    if got.dtype.itemsize >= expected.dtype.itemsize:
        return False
    step = 16 * float(np.finfo(got.dtype).eps) * float(np.abs(expected).max(initial=0.0))
    return bool((np.abs(got.astype(np.float64) - expected) <= step).all())


def _beside(expected: Array, got: Array, wrong: Array, at: tuple[int, ...]) -> str:
    # Both arrays, with as many digits as tell them apart wherever they differ; of large ones the
    # first entries and the first difference.
    digits = next((d for d in range(DIGITS, 17) if _apart(expected, got, wrong, d)), 17)
    kinds = ("", "")
    if expected.dtype.kind == "f" and got.dtype.kind == "f" and expected.dtype != got.dtype:
        kinds = f"  ({expected.dtype})", f"  ({got.dtype})"
    lines = [
        f"{name} {show(value, digits=digits)}{kind}"
        for name, value, kind in zip(("expected", "got     "), (expected, got), kinds)
    ]
    if any(map(_shortened, (expected, got))):
        one, other = (number(value[at], digits) for value in (expected, got))
        place = ", ".join(map(str, at))
        lines.append(f"first difference at [{place}]: expected {one}, got {other}")
    return "\n".join(lines)


def _apart(expected: Array, got: Array, wrong: Array, digits: int) -> bool:
    # Whether no two numbers that differ look alike.
    pairs = zip(expected[wrong].tolist(), got[wrong].tolist(), strict=True)
    return all(number(e, digits) != number(g, digits) for e, g in pairs)


def describe(value) -> str:
    """Returns a value's type, and its shape or length where it has one."""
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, np.number | np.bool_):
        return f"{value.item()!r}"
    if isinstance(value, int | float | str) or value is None:
        return printable(repr(value), limit=60)
    return f"a {type(value).__name__}"


def kind_of(expected: Array) -> str:
    """Returns what kind of array or number is expected, in words."""
    one, many = {
        "b": ("a boolean", "booleans"),
        "i": ("an integer", "integers"),
        "u": ("an integer", "integers"),
        "f": ("a number", "numbers"),
    }[expected.dtype.kind]
    return f"an array of {many}" if expected.ndim else one


def number(value, digits: int = DIGITS) -> str:
    """Returns a number: integers and booleans whole, floats with so many significant digits."""
    if isinstance(value, bool | np.bool_ | int | np.integer):
        return str(value)
    value = float(value)
    return f"{value + 0.0:.{digits}g}"  # -0 reads as 0


def show(value, *, digits: int = DIGITS) -> str:
    """Returns a value on one line: large arrays by their first entries and shape.

    An array of one axis, or a small matrix, is shown as NumPy takes it; one of more axes as its
    entries in C order, with the shape.

    >>> show(np.array([[1.0, 0.5], [2.0, 3.0]])), show(np.ones((1, 1, 2, 1)))
    ('[[1, 0.5], [2, 3]]', '[1, 1] of shape (1, 1, 2, 1)')
    """
    if isinstance(value, tuple | list):
        each = [show(v, digits=digits) for v in value[:8]]
        inner = ", ".join(each + ["..."] * (len(value) > 8))
        inner += "," * (isinstance(value, tuple) and len(value) == 1)
        return f"({inner})" if isinstance(value, tuple) else f"[{inner}]"
    if not isinstance(value, np.ndarray):
        plain = isinstance(value, float | np.floating | np.integer | np.bool_)
        return number(value, digits) if plain else printable(repr(value), limit=60)
    if value.ndim == 0:
        return number(value[()], digits)
    if _shortened(value):
        first = ", ".join(number(v, digits) for v in value.ravel()[:FEW].tolist())
        return f"[{first}, ...] of shape {value.shape}"
    return _entries(value, digits)


def _shortened(value: Array) -> bool:
    # Whether an array is too large for a line.
    if value.ndim > 2 and value.size > FEW:
        return True
    return value.size > MANY or (value.ndim > 0 and len(_entries(value, DIGITS)) > WIDTH)


def _entries(value: Array, digits: int) -> str:
    if value.ndim > 2 or value.size == 0 and value.ndim > 1:
        return f"{_entries(value.ravel(), digits)} of shape {value.shape}"
    each = (number(v, digits) if value.ndim == 1 else _entries(v, digits) for v in value)
    return f"[{', '.join(each)}]"


def show_case(case: Case) -> str:
    """Returns the arguments of a call on one line: "w = [0.5, 1]; sparsity = 0.5"."""
    return "; ".join(f"{name} = {show(value)}" for name, value in case.items())


# ---------------------------------------------------------------------------------- of some entries


def judge_index(case: Case, result) -> Message | None:
    """Equality; the message says what a decoder finds: cumsum(gap) - 1 where there is no filler."""
    wrong = difference(relative_index(**case), result, names=("stored", "source"))
    if wrong and wrong.slug in ("wrong-value", "wrong-shape"):
        stored, source = (np.asarray(r) for r in result)
        if stored.shape == source.shape and stored.ndim == 1:
            back = (np.cumsum(stored + 1) - 1)[source >= 0]
            found = f"a decoder finds positions {show(back)}\n{wrong.detail}"
            return Message(wrong.slug, wrong.text, found)
    return wrong


def judge_huffman(case: Case, result) -> Message | None:
    """Several codes are best: the bits in all decide, Kraft's sum, and where lengths are 0."""
    freq, limit = np.asarray(case["freq"]), case["limit"]
    best = huffman_lengths(freq, limit)
    wrong = difference(best, result)
    if wrong is None or wrong.slug != "wrong-value":
        return wrong
    got, used = np.asarray(result, np.int64), freq > 0
    mine = f"lengths {show(got)}"
    if ((got > 0) != used).any():
        told = "a symbol that occurs needs a length above 0, one that does not has 0"
        return Message("wrong-symbols", told, f"got {mine}")
    kraft, bits, least = float(np.sum(2.0 ** -got[used])), int(got @ freq), int(best @ freq)
    if used.sum() > 1 and kraft != 1:
        told = "the Kraft sum of the lengths, sum 2^-length, is not 1"
        return Message("wrong-kraft", told, f"sum {kraft:g} of {mine}")
    if limit is not None and got.max(initial=0) > limit:
        return Message("too-long", f"a length passes the limit of {limit} bits", f"got {mine}")
    if bits == least:
        return None
    told = f"{bits} bits with {mine}; {least} are enough"
    return Message("too-many-bits", "the code takes more bits than the best one", told)


def judge_canonical(case: Case, result) -> Message | None:
    """Equality; the message says which code begins which, where one does."""
    wrong = difference(canonical_codes(**case), result)
    if wrong is None or wrong.slug != "wrong-value":
        return wrong
    lengths, codes = np.asarray(case["lengths"]), np.asarray(result, np.int64)
    words = [f"{max(int(codes[i]), 0):0{lengths[i]}b}" for i in np.flatnonzero(lengths)]
    both = ((a, b) for a in words for b in words if a is not b and b.startswith(a))
    if (pair := next(both, None)) is None:
        return wrong
    told = "one code begins another, so a decoder cannot tell them apart"
    return Message(wrong.slug, told, f"{pair[0]} and {pair[1]}\n{wrong.detail}")


def judge_sparsegpt(case: Case, result) -> Message | None:
    """The kept entries are ours, and the weights too, to 1e-9 of the largest; the others are 0."""
    W, kept = sparsegpt(**copied(case))
    wrong = difference((W, kept), result, rtol=1e-9)
    if wrong is None and (np.asarray(result[0])[~kept] != 0).any():
        return Message("not-zero", "an entry that is not kept must be exactly 0")
    return wrong


def judge_lloyd(case: Case, result) -> Message | None:
    """The squared error decides, no larger than ours; and every x has its nearest centroid."""
    x = case["x"]
    if told := _no_clusters(x, case["k"], case["pinned_zero"], result):
        return Message("wrong-clusters", told)
    best, error = (
        float(np.square(x - np.asarray(c, np.float32)[i].astype(np.float64)).sum())
        for c, i in (kmeans_1d(**copied(case)), result)
    )
    return _dear(x, best, error, 1e-6)


def _no_clusters(x: Array, k: int, pinned: bool, result) -> str | None:
    # Why (centroids, index) are not k clusters of x at most, each x at its nearest centroid.
    if not isinstance(result, tuple | list) or len(result) != 2:
        return f"(centroids, index) is expected, got {describe(result)}"
    centroids, index = np.asarray(result[0], np.float32), np.asarray(result[1])
    if index.shape != x.shape or index.dtype.kind not in "iu":
        return f"index must hold integers of shape {x.shape}, got {index.dtype} {index.shape}"
    if centroids.ndim != 1 or not 1 <= len(centroids) <= k:
        return f"1 to {k} centroids are expected, got shape {centroids.shape}"
    if index.min() < 0 or index.max() >= len(centroids):
        return f"index must be in [0, {len(centroids) - 1}], got {index.min()}..{index.max()}"
    live = x != 0 if pinned else np.ones(x.shape, bool)
    if pinned and (centroids[0] != 0 or (index[~live] != 0).any() or (index[live] == 0).any()):
        return "centroid 0 must be 0 and belong to the x that are 0, and to them only"
    others = centroids[int(pinned) :]
    if (np.diff(others) < 0).any():
        return "centroids must ascend"
    if live.any() and (assign(x[live], others) != index[live] - int(pinned)).any():
        return "every x must have its nearest centroid, half-way the lower one"
    return None


def judge_kmeans(case: Case, result) -> Message | None:
    """The squared error decides: centroids may differ where partitions are equally good."""
    centroids, x = np.asarray(result[0], np.float64), case["x"].astype(np.float64)
    if centroids.ndim != 1 or not 1 <= len(centroids) <= case["k"]:
        told = f"1 to {case['k']} centroids are expected, got shape {centroids.shape}"
        return Message("wrong-shape", told)
    error = float(np.square(x[:, None] - centroids).min(axis=1).sum())
    return _dear(x, kmeans_1d_optimal(**case)[1], error, 1e-9)


def _dear(x: Array, best: float, error: float, rtol: float) -> Message | None:
    # Says where a squared error is above the best one by more than rtol of the spread of x.
    spread = float(np.square(x - x.mean(dtype=np.float64)).sum())
    if error <= best + rtol * spread:
        return None
    return Message("too-far", f"a squared error of {best} is expected, got {error}")
