"""Lesson 19: the nets around a net, and regularised evolution over a table of errors.

A code says which value of each of d choices a net has (exercise 1). n nets, numbered; P nets live,
S of them are drawn a cycle, T cycles (exercise 2).
"""

from __future__ import annotations

from functools import partial

import numpy as np

from ...reference.judges import each_equal_to, equal_to
from ..asking.exercise import (
    Diagnosis,
    Exercise,
    Mutant,
    Prediction,
    hidden,
    standard_parts,
)
from ..asking.lesson import LessonChecks, Number, Reflection

Array = np.ndarray

# -------------------------------------------------------------------------------- nets around a net


def neighbours(code: Array, allowed: Array) -> Array:
    """Returns the codes that differ from a code in one choice and are allowed, (m, d) int64.

    code : (d,) integers        allowed : bool, an axis a choice: whether the limit admits a net
    The first choice's come first, of one choice the lowest value.
    """
    return _around(code, allowed)


def _every(value: int, size: int):
    return (v for v in range(size) if v != value)


def _steps(value: int, size: int):
    return (v for v in (value - 1, value + 1) if 0 <= v < size)


def _wrapped(value: int, size: int):
    return sorted({(value - 1) % size, (value + 1) % size} - {value})


def _around(code, allowed, *, values=_every, first=0, itself=False, asked=True) -> Array:
    # How the mutants slip. values: that a choice may take; first: choice that is changed; itself:
    # whether the code is among them; asked: whether the limit is.
    code, found = tuple(int(v) for v in code), []
    for k in range(first, len(code)):
        found += [(*code[:k], v, *code[k + 1:]) for v in values(code[k], allowed.shape[k])]
    found = ([code] if itself else []) + found
    found = [c for c in found if allowed[c] or not asked]
    return np.array(found, np.int64).reshape(-1, len(code))


def _two_changed(code, allowed) -> Array:
    # All codes but the code itself, however far.
    found = [c for c in np.ndindex(allowed.shape) if c != tuple(code) and allowed[c]]
    return np.array(found, np.int64).reshape(-1, len(code))


def _sorted(code, allowed) -> Array:
    near = _around(code, allowed)
    return near[np.lexsort(near.T[::-1])]


def _backwards(code, allowed) -> Array:
    return _around(code, allowed)[::-1]


def _spaces(draw):
    for _ in range(20):
        sizes = [draw.integer(1, 5) for _ in range(draw.integer(1, 5))]
        allowed = draw.integers(0, 10, *sizes) < 7
        yield {"code": np.array([draw.integer(0, n) for n in sizes]), "allowed": allowed}


def _limits(draw):
    # A tighter limit takes codes away and moves no other.
    for case in list(_spaces(draw))[:6]:
        yield [case | {"allowed": np.ones_like(case["allowed"])}, case]


def _net(code, allowed) -> dict:
    return {"code": np.array(code), "allowed": np.array(allowed, bool)}


_NEAR = Exercise(
    id="19.neighbours",
    minutes=8,
    parts=standard_parts(
        equal_to(neighbours),
        tiny=[_net([1, 0], [[1, 1], [1, 1], [1, 1]]), _net([0], [1, 1, 0, 1]),
              _net([0, 1], [[0, 1, 1], [1, 0, 1]]), _net([0, 0], [[1, 1, 1, 1]])],
        many=_spaces,
        golden=[_net([2, 1], [[1, 1], [0, 1], [1, 1], [1, 1]]), _net([0, 0], [[1, 0], [0, 1]]),
                _net([1, 0, 1], np.ones((2, 2, 2)))],
        more=hidden("a limit", _limits, each_equal_to(neighbours, ("without a limit", "under it"))),
    ),
    mutants=(
        Mutant("steps-of-one", partial(_around, values=_steps)),
        Mutant("wraps", partial(_around, values=_wrapped)),
        Mutant("with-itself", partial(_around, itself=True)),
        Mutant("limit-forgotten", partial(_around, asked=False)),
        Mutant("first-forgotten", partial(_around, first=1)),
        Mutant("any-distance", _two_changed),
        Mutant("sorted", _sorted),
        Mutant("backwards", _backwards),
    ),
    reference=neighbours,
    rtol=0.0,
    atol=0.0,
)

# ---------------------------------------------------------------------------- regularised evolution


def evolution(errors: Array, near: Array, first: Array, drawn: Array, picks: Array
              ) -> tuple[Array, int]:
    """Returns the nets tried, in their order, (P + T,) int64, and the best of them.

    errors : (n,)        near : (n, m), the nets around each        first : (P,) nets, in order of
        birth        drawn : (T, S) places in the queue, 0 the oldest        picks : (T,) 0..m-1
    Of equal errors the older, in the queue and of all tried.
    Source: Real et al. 2019, algorithm 1
    """
    return _evolved(errors, near, first, drawn, picks)


def _best_of_sample(queue, sample, errors) -> int:
    return min(sorted(int(i) for i in sample), key=lambda i: errors[queue[i]])


def _worst_of_sample(queue, sample, errors) -> int:
    return max(sorted(int(i) for i in sample), key=lambda i: errors[queue[i]])


def _best_of_all(queue, sample, errors) -> int:
    return min(range(len(queue)), key=lambda i: errors[queue[i]])


def _first_drawn(queue, sample, errors) -> int:
    return int(sample[0])


def _oldest(queue, parent, errors) -> int:
    return 0


def _worst(queue, parent, errors) -> int:
    return max(range(len(queue)), key=lambda i: errors[queue[i]])


def _the_parent(queue, parent, errors) -> int:
    return parent


def _nobody(queue, parent, errors) -> int | None:
    return None


def _evolved(errors, near, first, drawn, picks, *, parent=_best_of_sample, dies=_oldest,
             best_of=lambda tried, queue: tried) -> tuple[Array, int]:
    # How the mutants slip. parent: of a cycle; dies: after the child's birth; best_of: among whom.
    queue = [int(i) for i in first]
    tried = list(queue)
    for sample, pick in zip(drawn, picks, strict=True):
        place = parent(queue, sample, errors)
        queue.append(int(near[queue[place], pick]))
        tried.append(queue[-1])
        out = dies(queue, place, errors)
        if out is not None:
            del queue[out]
    return np.array(tried, np.int64), min(best_of(tried, queue), key=lambda i: errors[i])


def _errors_returned(errors, near, first, drawn, picks) -> tuple[Array, float]:
    tried, best = _evolved(errors, near, first, drawn, picks)
    return tried, float(errors[best])


def _worlds(draw):
    for _ in range(20):
        yield _drawn_world(draw, draw.integer(5, 12), draw.integer(2, 5), draw.integer(2, 9))


def _drawn_world(draw, n: int, P: int, T: int) -> dict:
    near = np.stack([draw.permutation(n)[:3] for _ in range(n)])
    return {"errors": draw.permutation(n) / 8.0, "near": near, "first": draw.permutation(n)[:P],
            "drawn": draw.integers(0, P, T, 2), "picks": draw.integers(0, 3, T)}


def _other_units(draw):
    # Errors in other units: the same nets are tried.
    for _ in range(4):
        case = _drawn_world(draw, 9, 4, 6)
        yield [case, case | {"errors": 2 * case["errors"] + 1}]


def _ring(errors, first, drawn, picks) -> dict:
    # Net i lies between i - 1 and i + 1, the last beside the first.
    n = len(errors)
    near = np.array([[(i - 1) % n, (i + 1) % n] for i in range(n)])
    return {"errors": np.array(errors, float), "near": near, "first": np.array(first),
            "drawn": np.array(drawn), "picks": np.array(picks)}


_EVOLUTION = Exercise(
    id="19.evolution",
    minutes=18,
    parts=standard_parts(
        equal_to(evolution, names=("the nets tried", "the best")),
        tiny=[_ring([5, 4, 3, 2, 1, 6], [0, 1], [[1, 0], [0, 1]], [1, 1]),
              _ring([5, 1, 3, 2, 4, 6], [1, 4], [[1, 1], [0, 1], [0, 1]], [0, 1, 1]),
              _ring([3, 5, 1, 4, 2, 6], [2, 0, 5], [[2, 1], [1, 2], [0, 2]], [0, 0, 1])],
        many=_worlds,
        golden=[_ring([4, 7, 2, 5, 1, 8, 3, 6], [1, 5, 3], [[0, 2], [1, 2], [2, 1], [0, 1], [1, 1]],
                      [1, 0, 1, 1, 0])],
        more=hidden("other units", _other_units,
                    each_equal_to(evolution, ("of errors", "of 2 errors + 1"))),
        points=(2, 2, 1),
    ),
    mutants=(
        Mutant("worst-dies", partial(_evolved, dies=_worst)),
        Mutant("parent-dies", partial(_evolved, dies=_the_parent)),
        Mutant("nobody-dies", partial(_evolved, dies=_nobody)),
        Mutant("best-of-all", partial(_evolved, parent=_best_of_all)),
        Mutant("first-drawn", partial(_evolved, parent=_first_drawn)),
        Mutant("worst-parent", partial(_evolved, parent=_worst_of_sample)),
        Mutant("best-alive", partial(_evolved, best_of=lambda tried, queue: queue)),
        Mutant("error-returned", _errors_returned),
    ),
    banned=(
        "minicomp.search.evolution:parent_of",
        "minicomp.search.evolution:taken_out",
        "minicomp.search.evolution:evolve",
    ),
    reference=evolution,
    rtol=0.0,
    atol=0.0,
)

# -------------------------------------------------------------------------------------- the lesson

MOST = 400  # nets of a space that a student's input may have


def _valid_net(code, allowed) -> str | None:
    code, allowed = np.asarray(code), np.asarray(allowed)
    if code.ndim != 1 or code.dtype.kind not in "iu" or allowed.dtype != bool:
        return "code holds whole numbers, allowed True and False"
    if allowed.ndim != len(code) or not 1 <= allowed.size <= MOST:
        return f"allowed has an axis for each entry of code, and 1 to {MOST} entries"
    if not all(0 <= v < n for v, n in zip(code.tolist(), allowed.shape)):
        return "each entry of code is a place on its axis of allowed"
    return None


def _input(code, allowed) -> tuple:
    return tuple(_net(code, allowed).values())


LESSON = LessonChecks(
    number="19",
    name="search",
    exercises=(_NEAR, _EVOLUTION),
    diagnosis=Diagnosis(
        id="19.broken",
        of=_NEAR,
        shown_by={
            "steps-of-one": _input([0, 0], [[0, 1, 1]]),
            "with-itself": _input([0, 0], [[1, 1]]),
            "limit-forgotten": _input([0, 0], [[0, 0]]),
            "first-forgotten": _input([0, 0], [[0], [1]]),
        },
        valid=_valid_net,
        agreeing=_input([0, 0], [[0, 1]]),
        several=(_input([0, 0], [[1, 1, 1]]), _input([0, 0], [[0, 0], [1, 1]])),
        invalid=_input([2, 0], [[1, 1]]),
    ),
    predictions=(Prediction("19.p1", unit="searches", hi=20),),
    reflections=(Reflection("19.r1"),),
    numbers=(
        Number("nets", "nets within the limit", "", 0),
        Number("optimum", "least error that a search can see", "%", 2),
        Number("hits_random", "random: found it, of 20", "", 0),
        Number("hits_oldest", "evolution, the oldest dies: found it, of 20", "", 0),
        Number("hits_worst", "evolution, the worst dies: found it, of 20", "", 0),
        Number("seen_random", "random: winners, as seen", "%", 2),
        Number("seen_oldest", "evolution: winners, as seen", "%", 2),
        Number("true_random", "random: winners, on images not seen", "%", 2),
        Number("true_oldest", "evolution: winners, on images not seen", "%", 2),
        Number("curse_all", "images not seen less seen, all nets", "%", 2),
        Number("curse_winners", "the same of evolution's winners", "%", 2),
        Number("best", "least error on images not seen", "%", 2),
        Number("curve_random", "random: best so far, mean of 20", "%", 2),
        Number("curve_oldest", "evolution: best so far, mean of 20", "%", 2),
        Number("curve_worst", "the worst dies: best so far, mean of 20", "%", 2),
        Number("sizes", "bytes of each net", "B", 0),
        Number("truth", "error of each net on images not seen", "%", 2),
        Number("inside", "whether each net is within the limit", "", 0),
    ),
)
