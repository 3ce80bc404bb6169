"""Lesson 20: the Pareto front, and two techniques in two orders.

Of n nets: errors and costs, (n,) each (exercise 1). w weights, s sparsity, b bits (exercise 2).
"""

from __future__ import annotations

from functools import partial

import numpy as np

from ...reference.judges import Message, difference, each_equal_to, equal_to
from ..asking.exercise import (
    Diagnosis,
    Exercise,
    Mutant,
    Prediction,
    hidden,
    standard_parts,
)
from ..asking.lesson import Capstone, LessonChecks, Number, Reflection
from .inputs import is_finite

Array = np.ndarray
SUM = 1e-9  # relative: one division and one product of double precision

# ------------------------------------------------------------------------------------ Pareto front


def pareto_front(errors: Array, costs: Array) -> Array:
    """Returns which nets no other beats, (n,) bool.

    A net beats another that is nowhere better and somewhere worse. Of two alike neither does.
    """
    return ~_beats(errors, costs).any(axis=0)


def _beats(errors, costs) -> Array:
    # (n, n): whether net i beats net j.
    e, c = np.asarray(errors, float), np.asarray(costs, float)
    no_worse = (e[:, None] <= e) & (c[:, None] <= c)
    return no_worse & ((e[:, None] < e) | (c[:, None] < c))


def _strict(errors, costs) -> Array:
    e, c = np.asarray(errors), np.asarray(costs)
    return ~((e[:, None] < e) & (c[:, None] < c)).any(axis=0)


def _twins_out(errors, costs) -> Array:
    e, c = np.asarray(errors), np.asarray(costs)
    no_worse = (e[:, None] <= e) & (c[:, None] <= c)
    return ~(no_worse & ~np.eye(len(e), dtype=bool)).any(axis=0)


def _neighbour(errors, costs) -> Array:
    # Of the nets in order of cost, each is compared with the one before it.
    order = np.lexsort((errors, costs))
    beats, front = _beats(errors, costs), np.ones(len(order), bool)
    front[order[1:]] = ~beats[order[:-1], order[1:]]
    return front


def _earlier(errors, costs) -> Array:
    # Only with those that stand before it in the list.
    return ~np.triu(_beats(errors, costs), 1).any(axis=0)


def _best_of_each(errors, costs) -> Array:
    return (errors == np.min(errors)) | (costs == np.min(costs))


def _both_best(errors, costs) -> Array:
    return (errors == np.min(errors)) & (costs == np.min(costs))


def _swept(errors, costs) -> Array:
    # One pass from the cheapest on: whoever errs less than all before stays.
    front, best = np.zeros(len(errors), bool), np.inf
    for i in np.argsort(costs, kind="stable"):
        front[i], best = errors[i] < best, min(best, errors[i])
    return front


def _drawn_nets(draw):
    # Few different values: many nets are equal in one of the two, or in both.
    for _ in range(20):
        n = draw.integer(2, 12)
        yield {"errors": draw.integers(1, 7, n) / 4, "costs": 10.0 * draw.integers(1, 7, n)}


def _shuffled(draw):
    for _ in range(4):
        errors, costs = draw.integers(1, 9, 7) / 4, 10.0 * draw.integers(1, 9, 7)
        order = draw.permutation(7)
        yield [{"errors": errors, "costs": costs},
               {"errors": errors[order], "costs": costs[order]}]


def _nets(errors, costs) -> dict:
    return {"errors": np.array(errors, float), "costs": np.array(costs, float)}


_FRONT = Exercise(
    id="20.pareto_front",
    minutes=8,
    parts=standard_parts(
        equal_to(pareto_front),
        tiny=[_nets([1, 2, 2], [3, 1, 2]), _nets([1, 1], [2, 2]),
              _nets([1, 3, 2, 4], [1, 2, 3, 4]), _nets([2, 1], [2, 1])],
        many=_drawn_nets,
        golden=[_nets([1.5, 1.7, 1.9, 1.8, 3.0, 1.9], [1066, 80, 18, 29, 52, 18]),
                _nets([1, 2, 3], [3, 2, 1])],
        more=hidden("in another order", _shuffled,
                    each_equal_to(pareto_front, ("the list", "the list, shuffled"))),
    ),
    mutants=(
        Mutant("strict", _strict),
        Mutant("twins-out", _twins_out),
        Mutant("neighbour", _neighbour),
        Mutant("earlier-only", _earlier),
        Mutant("swept", _swept),
        Mutant("best-of-each", _best_of_each, forms=(_both_best,)),
        Mutant("turned-round", lambda errors, costs: ~pareto_front(errors, costs)),
    ),
    banned=("minicomp.comparison:front",),
    reference=pareto_front,
    rtol=0.0,
    atol=0.0,
)

# -------------------------------------------------------------------------------------- two orders


def two_orders(w: Array, sparsity: float, bits: int) -> tuple[Array, Array]:
    """Returns w pruned and then quantized, and w quantized and then pruned, float64 (n,).

    w : (n,), not all 0        sparsity : exactly round(s n) zeros, ties by lowest index
    bits : codes -(2^(b-1) - 1) .. 2^(b-1) - 1, half to even, the largest |w| the largest code
    """
    return _orders(w, sparsity, bits)


def _pruned(w: Array, sparsity: float) -> Array:
    out = w.copy()
    out[np.argsort(np.abs(w), kind="stable")[: round(sparsity * w.size)]] = 0
    return out


def _last_pruned(w: Array, sparsity: float) -> Array:
    return _pruned(w[::-1], sparsity)[::-1]


def _all_ties_pruned(w: Array, sparsity: float) -> Array:
    zeros = round(sparsity * w.size)
    return np.where(np.abs(w) > np.sort(np.abs(w))[zeros - 1], w, 0) if zeros else w


def _below_pruned(w: Array, sparsity: float) -> Array:
    return np.where(np.abs(w) < np.quantile(np.abs(w), sparsity), 0, w)


def _quantized(w: Array, bits: int, *, largest=lambda b: 2 ** (b - 1) - 1, to=np.rint,
               scaled=True) -> Array:
    scale = np.abs(w).max() / largest(bits)
    return to(w / scale) * (scale if scaled else 1)


def _orders(w, sparsity, bits, *, pruned=_pruned, quantized=_quantized) -> tuple[Array, Array]:
    w = np.asarray(w, float)
    return quantized(pruned(w, sparsity), bits), pruned(quantized(w, bits), sparsity)


def _one_order(w, sparsity, bits) -> tuple[Array, Array]:
    first, _ = _orders(w, sparsity, bits)
    return first, first.copy()


def _swapped(w, sparsity, bits) -> tuple[Array, Array]:
    return _orders(w, sparsity, bits)[::-1]


def _weights(draw):
    for _ in range(20):
        bits = draw.choice((3, 4))
        yield {"w": _drawn(draw, draw.choice((6, 9, 15)), bits),
               "sparsity": draw.choice((0.2, 0.35, 0.5, 0.6)), "bits": bits}


def _drawn(draw, n: int, bits: int) -> Array:
    # Codes with a remainder below 0.4: far from a half, where w / scale and w times 1 / scale part.
    most = 2 ** (bits - 1) - 1
    w = draw.integers(1 - most, most, n) + 0.8 * draw.uniform(n) - 0.4
    w[draw.integer(0, n)] = draw.choice((-most, most))
    return 0.25 * w


def _scaled(draw):
    for case in list(_weights(draw))[:5]:
        yield [case, case | {"w": 4 * case["w"]}]


def _scale_with_w(case, results) -> Message | None:
    rights = [two_orders(**call) for call in case]
    for right, result, name in zip(rights, results, ("of w", "of 4 w")):
        names = (f"pruned first, {name}", f"quantized first, {name}")
        if wrong := difference(right, result, rtol=SUM, names=names):
            return wrong
    return None


def _case(w, sparsity, bits) -> dict:
    return {"w": np.array(w, float), "sparsity": sparsity, "bits": bits}


_ORDERS = Exercise(
    id="20.two_orders",
    minutes=12,
    parts=standard_parts(
        equal_to(two_orders, rtol=SUM, names=("pruned first", "quantized first")),
        tiny=[_case([1.3, -0.8, 0.9, 3.0], 0.25, 3), _case([3.0, 1.2, -0.7, 0.2], 0.5, 3),
              _case([-0.9, 7.0, 0.8, -2.2, 2.7], 0.2, 4), _case([0.9, 1.2, 6.0, -1.1], 0.25, 3)],
        many=_weights,
        golden=[_case([0.52, -0.31, 0.28, -0.07, 0.9, 0.33, -0.61, 0.12, 0.26], 0.35, 3)],
        more=hidden("scaled", _scaled, _scale_with_w),
    ),
    mutants=(
        Mutant("same-twice", _one_order),
        Mutant("swapped", _swapped),
        Mutant("one-code-more",
               partial(_orders, quantized=partial(_quantized, largest=lambda b: 2 ** (b - 1))),
               forms=(partial(_orders, quantized=partial(_quantized,
                                                         largest=lambda b: 2**b - 1)),)),
        Mutant("cut-off", partial(_orders, quantized=partial(_quantized, to=np.trunc)),
               forms=(partial(_orders, quantized=partial(_quantized, to=np.floor)),)),
        Mutant("ties-together", partial(_orders, pruned=_all_ties_pruned)),
        Mutant("threshold", partial(_orders, pruned=_below_pruned)),
        Mutant("last-of-equals", partial(_orders, pruned=_last_pruned)),
        Mutant("codes", partial(_orders, quantized=partial(_quantized, scaled=False))),
    ),
    banned=(
        "minicomp.compress.scores:magnitude_mask",
        "minicomp.compress.scores:smallest_mask",
        "minicomp.compress.scores:drop_smallest",
    ),
    reference=two_orders,
    rtol=SUM,
)

# -------------------------------------------------------------------------------------- the lesson


def _valid_nets(errors, costs) -> str | None:
    errors, costs = np.asarray(errors), np.asarray(costs)
    if errors.ndim != 1 or errors.shape != costs.shape:
        return "errors and costs are arrays of one length"
    if not (is_finite(errors, "fiu", most=100) and is_finite(costs, "fiu", most=100)):
        return "errors and costs hold 1 to 100 finite numbers each"
    return None


def _input(errors, costs) -> tuple:
    return tuple(_nets(errors, costs).values())


LESSON = LessonChecks(
    number="20",
    name="capstone",
    exercises=(_FRONT, _ORDERS),
    diagnosis=Diagnosis(
        id="20.broken",
        of=_FRONT,
        shown_by={
            "strict": _input([1, 1], [1, 2]),
            "twins-out": _input([1, 1], [1, 1]),
            "neighbour": _input([1, 3, 2], [1, 2, 3]),
            "earlier-only": _input([2, 1], [2, 1]),
        },
        valid=_valid_nets,
        agreeing=_input([2, 1], [1, 2]),
        several=(_input([1, 1], [2, 1]), _input([0, 0, 3, 2], [1, 1, 2, 3])),
        invalid=_input([1, 2], [1]),
    ),
    predictions=(Prediction("20.p1", unit="kB", lo=0.1, hi=1724.32),),
    reflections=(Reflection("20.r1"),),
    numbers=(
        Number("error_dense", "error of the dense net", "%", 2),
        Number("bytes_dense", "dense float32", "B", 0),
        Number("bytes_channels", "channels first", "B", 0),
        Number("error_channels", "channels first", "%", 2),
        Number("bytes_weights", "weights first", "B", 0),
        Number("error_weights", "weights first", "%", 2),
        Number("ratio", "dense bytes / bytes, channels first", "x", 1),
        Number("unseen", "error of the file on unseen digits", "%", 2),
        Number("time", "its time / that of LeNet-300-100", "", 2),
        Number("path_channels", "file after each stage, channels first", "B", 0),
        Number("path_weights", "file after each stage, weights first", "B", 0),
        Number("errors_channels", "error after each stage, channels first", "%", 2),
        Number("errors_weights", "error after each stage, weights first", "%", 2),
    ),
    capstone=Capstone(),
)
