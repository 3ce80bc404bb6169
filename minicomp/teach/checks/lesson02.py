"""Lesson 2: counting parameters and multiply-accumulates by hand.

One multiply-accumulate (MAC) is one product added to a sum; bias and activations are not counted
(DESIGN, section 6). Counts are exact integers.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from ...reference.judges import Message, difference, equal_to
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

# ------------------------------------------------------------------------------------------- linear


def linear_cost(inputs: int, outputs: int, bias: bool) -> tuple[int, int]:
    """Returns (params, macs) of a fully connected layer."""
    return inputs * outputs + (outputs if bias else 0), inputs * outputs


def _linear_additive(case, results) -> Message | None:
    # Two halves of the outputs cost as much as all of them.
    whole, left, right = results
    wrong = difference(linear_cost(**case[0]), whole)
    if wrong:
        return wrong
    total = (int(left[0]) + int(right[0]), int(left[1]) + int(right[1]))
    return difference(tuple(map(int, whole)), total, where="the sum over two halves of the outputs")


def _linear_halves(draw):
    for _ in range(5):
        i, a, b = (draw.integer(1, 60) for _ in range(3))
        yield [{"inputs": i, "outputs": o, "bias": True} for o in (a + b, a, b)]


_COST = ("params", "macs")
_LINEAR = Exercise(
    id="02.linear_cost",
    minutes=5,
    parts=standard_parts(
        equal_to(linear_cost, names=_COST),
        tiny=[
            {"inputs": 3, "outputs": 2, "bias": True},
            {"inputs": 3, "outputs": 2, "bias": False},
        ],
        many=lambda draw: [
            {
                "inputs": draw.integer(1, 999),
                "outputs": draw.integer(1, 999),
                "bias": bool(draw.integer(0, 2)),
            }
            for _ in range(20)
        ],
        golden=[{"inputs": 784, "outputs": 300, "bias": True}],
        more=hidden("invariance", _linear_halves, _linear_additive),
    ),
    mutants=(
        Mutant("bias-forgotten", lambda inputs, outputs, bias: (inputs * outputs,) * 2),
        Mutant("bias-always", lambda inputs, outputs, bias: linear_cost(inputs, outputs, True)),
        Mutant(
            "bias-per-input",
            lambda inputs, outputs, bias: (inputs * outputs + inputs * bias, inputs * outputs),
        ),
        Mutant(
            "bias-as-mac", lambda inputs, outputs, bias: (inputs * outputs + outputs * bias,) * 2
        ),
        Mutant(
            "two-operations",
            lambda inputs, outputs, bias: (inputs * outputs + outputs * bias, 2 * inputs * outputs),
        ),
    ),
    banned=(
        "minicomp.nn.layers:Linear",
        "minicomp.nn.graph:Model.count",
        "minicomp.nn.graph:Model.macs",
    ),
    reference=linear_cost,
)

# -------------------------------------------------------------------------------------- convolution


def _places(n, k, s, p):
    return (n + 2 * p - k) // s + 1


def conv_cost(
    c: int, o: int, h: int, w: int, k: int, stride: int, padding: int, groups: int, bias: bool,
    *, size=_places, grouped=True, twice=False, positions=True, pixels=False, bias_macs=False,
    square=False, flops=False,
) -> tuple[int, int, int, int]:
    """Returns (ho, wo, params, macs) of a convolution.

    The switches are how the mutants slip: another rule for the size, groups forgotten or counted
    twice, positions forgotten or those of the input, bias counted, the width not looked at,
    operations for MACs.
    """
    ho, wo = (size(n, k, stride, padding) for n in (h, h if square else w))
    weights = (o // groups if twice else o) * (c // groups if grouped else c) * k * k
    per_place = (weights + (o * bias if bias_macs else 0)) * (2 if flops else 1)
    places = h * w if pixels else ho * wo if positions else 1
    return ho, wo, weights + o * bias, per_place * places


def _conv_case(c, o, h, w, k, stride=1, padding=0, groups=1, bias=True) -> dict:
    return dict(
        c=c, o=o, h=h, w=w, k=k, stride=stride, padding=padding, groups=groups, bias=bias
    )


def _conv(draw) -> dict:
    groups, k = draw.integer(1, 5), draw.integer(1, 6)
    stride, padding = draw.integer(1, 4), draw.integer(0, 3)
    c, o = (groups * draw.integer(1, 7) for _ in range(2))
    h, w = (draw.integer(k, 33) for _ in range(2))
    return _conv_case(c, o, h, w, k, stride, padding, groups, bool(draw.integer(0, 2)))


def _conv_as_linear(draw):
    for _ in range(5):
        c, o, k = draw.integer(1, 20), draw.integer(1, 20), draw.integer(1, 6)
        yield _conv_case(c, o, k, k, k)


def _same_as_linear(case, result) -> Message | None:
    # A kernel as large as its input is a fully connected layer over c k k inputs.
    params, macs = linear_cost(case["c"] * case["k"] ** 2, case["o"], case["bias"])
    return difference((1, 1, params, macs), result, names=_SIZES)


_SIZES = ("ho", "wo", "params", "macs")
_CONV = Exercise(
    id="02.conv_cost",
    minutes=10,
    parts=standard_parts(
        equal_to(conv_cost, names=_SIZES),
        tiny=[
            _conv_case(1, 1, 3, 3, 2),
            _conv_case(1, 1, 3, 4, 1, padding=1, bias=False),
            _conv_case(1, 1, 4, 4, 3, stride=2, bias=False),
            _conv_case(2, 4, 3, 3, 3, groups=2, bias=False),
        ],
        many=lambda draw: [_conv(draw) for _ in range(20)],
        golden=[_conv_case(20, 50, 12, 12, 5)],
        more=hidden("invariance", _conv_as_linear, _same_as_linear),
    ),
    mutants=(
        Mutant(
            "size-kept",
            partial(conv_cost, size=lambda n, k, s, p: n // s),
            forms=(partial(conv_cost, size=lambda n, k, s, p: -(-n // s)),),
        ),
        Mutant("stride-forgotten", partial(conv_cost, size=lambda n, k, s, p: _places(n, k, 1, p))),
        Mutant("padding-forgotten", partial(conv_cost, size=lambda *of: _places(*of[:3], 0))),
        Mutant("padding-once", partial(conv_cost, size=lambda n, k, s, p: (n + p - k) // s + 1)),
        Mutant("rounded-up", partial(conv_cost, size=lambda n, *of: _places(n + of[1] - 1, *of))),
        Mutant("one-forgotten", partial(conv_cost, size=lambda *of: _places(*of) - 1)),
        Mutant("groups-ignored", partial(conv_cost, grouped=False)),
        Mutant("groups-twice", partial(conv_cost, twice=True)),
        Mutant("square-map", partial(conv_cost, square=True)),
        Mutant("one-position", partial(conv_cost, positions=False)),
        Mutant("input-positions", partial(conv_cost, pixels=True)),
        Mutant("bias-as-mac", partial(conv_cost, bias_macs=True)),
        Mutant("two-operations", partial(conv_cost, flops=True)),
    ),
    banned=(
        "minicomp.nn.layers:Conv2d",
        "minicomp.kernels.doors:geometry",
        "minicomp.kernels.doors:window_count",
        "minicomp.nn.graph:Model.macs",
        "minicomp.nn.graph:Model.count",
    ),
    reference=conv_cost,
)

# -------------------------------------------------------------------------------------- a whole net


def model_cost(
    shape: tuple, layers: list,
    *, pools=True, shrinks=True, flat=True, carry=True, bias_macs=False, flops=False, whole=False,
) -> Array:
    """Returns (params, macs) of each layer with weights, (n, 2).

    The switches are how the mutants slip.
    """
    c, h, w = shape
    features, rows = 0, []
    for layer in layers:
        kind = layer[0]
        if kind == "conv":
            seen = c if carry or not rows else shape[0]
            c = layer[1]
            ho, wo, params, macs = conv_cost(seen, c, h, w, layer[2], 1, 0, 1, True)
            rows.append((params, macs + (c * ho * wo if bias_macs else 0)))
            h, w = (ho, wo) if shrinks else (h, w)
            continue
        if kind == "linear":
            params, macs = linear_cost(features, layer[1], True)
            features = layer[1]
            rows.append((params, macs + (features if bias_macs else 0)))
            continue
        if kind == "pool" and pools:
            h, w = h // layer[1], w // layer[1]
        elif kind == "flatten":
            features = c * h * w if flat else c
        if whole:
            rows.append((0, 0))
    return np.array(rows, dtype=np.int64).reshape(-1, 2) * (1, 2 if flops else 1)


LENET5 = [
    ("conv", 20, 5),
    ("pool", 2),
    ("conv", 50, 5),
    ("pool", 2),
    ("flatten",),
    ("linear", 500),
    ("linear", 10),
]


def _net(draw) -> dict:
    size = 2 * draw.integer(8, 13)
    layers = [("conv", draw.integer(1, 9), 3), ("pool", 2)]  # size - 2 is even
    if draw.integer(0, 2):
        layers.append(("conv", draw.integer(1, 9), 2))
    layers += [("flatten",)] + [("linear", draw.integer(1, 40)) for _ in range(draw.integer(1, 4))]
    return {"shape": (draw.integer(1, 4), size, size + 2), "layers": layers}


def _one_more(draw):
    for _ in range(4):
        case = _net(draw)
        yield [case, case | {"layers": case["layers"] + [("linear", 10)]}]


def _rows_stay(case, results) -> Message | None:
    # A layer at the end changes no row before it.
    wrong = difference(model_cost(**case[0]), results[0])
    return wrong or difference(
        np.asarray(results[0]),
        np.asarray(results[1])[:-1],
        where="the rows before one more layer at the end",
    )


_MODEL = Exercise(
    id="02.model_cost",
    minutes=12,
    parts=standard_parts(
        equal_to(model_cost),
        tiny=[
            {"shape": (1, 2, 2), "layers": [("flatten",), ("linear", 2)]},
            {
                "shape": (1, 5, 5),
                "layers": [("conv", 2, 2), ("pool", 2), ("flatten",), ("linear", 3)],
            },
        ],
        many=lambda draw: [_net(draw) for _ in range(20)],
        golden=[{"shape": (1, 28, 28), "layers": LENET5}],
        more=hidden("invariance", _one_more, _rows_stay),
        points=(1, 2, 2),
    ),
    mutants=(
        Mutant("pool-forgotten", partial(model_cost, pools=False)),
        Mutant("size-kept", partial(model_cost, shrinks=False)),
        Mutant("maps-only", partial(model_cost, flat=False)),
        Mutant("channels-not-carried", partial(model_cost, carry=False)),
        Mutant("row-for-every-layer", partial(model_cost, whole=True)),
        Mutant("bias-as-mac", partial(model_cost, bias_macs=True)),
        Mutant("two-operations", partial(model_cost, flops=True)),
    ),
    banned=(
        "minicomp.nn.graph:Model.macs",
        "minicomp.nn.graph:Model.count",
        "minicomp.models.lenet:LeNet5",
    ),
    reference=model_cost,
)

# --------------------------------------------------------------------------------------- the lesson


def _valid_conv(c, o, h, w, k, stride, padding, groups, bias) -> str | None:
    whole = (c, o, h, w, k, stride, padding, groups)
    if any(isinstance(n, bool) or not isinstance(n, int | np.integer) for n in whole):
        return "all but bias are integers"
    if min(c, o, h, w, k, stride, groups) < 1 or padding < 0 or max(whole) > 10_000:
        return "sizes are at least 1, padding at least 0, none above 10,000"
    if c % groups or o % groups:
        return "groups divides c and o"
    return None if min(h, w) + 2 * padding >= k else "the window fits the padded input"


LESSON = LessonChecks(
    number="02",
    name="passport",
    exercises=(_LINEAR, _CONV, _MODEL),
    diagnosis=Diagnosis(
        id="02.broken",
        of=_CONV,
        shown_by={
            "padding-once": (1, 1, 3, 3, 2, 1, 1, 1, True),
            "rounded-up": (1, 1, 4, 4, 3, 2, 0, 1, True),
            "groups-ignored": (2, 2, 3, 3, 2, 1, 0, 2, True),
            "square-map": (1, 1, 3, 4, 2, 1, 0, 1, True),
        },
        valid=_valid_conv,
        agreeing=(1, 1, 4, 4, 1, 1, 0, 1, True),
        several=((2, 2, 6, 8, 3, 2, 2, 2, True),),
        invalid=(3, 4, 4, 4, 1, 1, 0, 2, True),
    ),
    predictions=(
        Prediction("02.p1", options=("conv1", "conv2", "fc1", "fc2")),
        Prediction("02.p2", options=("conv1", "conv2", "fc1", "fc2")),
    ),
    reflections=(Reflection("02.r1"),),
    numbers=(
        Number("error_lenet300", "error of LeNet-300-100", "%", 2),
        Number("error_lenet5", "error of LeNet-5", "%", 2),
        Number("fc1_bytes", "fc1's share of LeNet-5's bytes", "%", 1),
        Number("conv_macs", "share of the convolutions in the MACs", "%", 1),
        Number("conv_time", "share of the convolutions in the time", "%", 0),
    ),
)
