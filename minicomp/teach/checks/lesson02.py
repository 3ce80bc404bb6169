"""Lesson 2: counting parameters and multiply-accumulates by hand.

One multiply-accumulate (MAC) is one product added to a sum; bias and activations are not counted
(DESIGN, section 6). Counts are exact integers.
"""

from __future__ import annotations

import numpy as np

from ..catalog import LessonChecks, Number, Reflection
from ..asking.exercise import Diagnosis, Exercise, Mutant, Part, Prediction
from ..asking.judge import Message, difference, equal_to

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


_LINEAR = Exercise(
    id="02.linear_cost",
    title="What a fully connected layer costs",
    minutes=5,
    parts=(
        Part(
            "tiny",
            1,
            lambda draw: [
                {"inputs": 3, "outputs": 2, "bias": True},
                {"inputs": 3, "outputs": 2, "bias": False},
            ],
            equal_to(linear_cost),
        ),
        Part(
            "property",
            2,
            lambda draw: [
                {
                    "inputs": draw.integer(1, 999),
                    "outputs": draw.integer(1, 999),
                    "bias": bool(draw.integer(0, 2)),
                }
                for _ in range(20)
            ],
            equal_to(linear_cost),
            hidden=True,
        ),
        Part("invariance", 1, _linear_halves, _linear_additive, hidden=True),
        Part(
            "golden",
            1,
            lambda draw: [{"inputs": 784, "outputs": 300, "bias": True}],
            equal_to(linear_cost),
        ),
    ),
    mutants=(
        Mutant(
            "bias-forgotten",
            lambda inputs, outputs, bias: (inputs * outputs, inputs * outputs),
            "The bias is stored too: one number per output.",
        ),
        Mutant(
            "bias-always",
            lambda inputs, outputs, bias: ((inputs + 1) * outputs, inputs * outputs),
            "A bias was counted where the layer has none.",
        ),
        Mutant(
            "bias-per-input",
            lambda inputs, outputs, bias: (inputs * outputs + inputs * bias, inputs * outputs),
            "There is one bias per output, not per input: it is added to each output once.",
        ),
        Mutant(
            "bias-as-mac",
            lambda inputs, outputs, bias: (
                inputs * outputs + outputs * bias,
                inputs * outputs + outputs * bias,
            ),
            "Adding the bias is no multiplication: MACs do not count it.",
        ),
        Mutant(
            "two-operations",
            lambda inputs, outputs, bias: (inputs * outputs + outputs * bias, 2 * inputs * outputs),
            "Those are FLOPs: a multiply and an add each. One MAC is both together.",
        ),
    ),
    hints=(
        "How many arrows go from the inputs to the outputs?",
        "Each output is a sum over all inputs: inputs x outputs weights, each used once per image.",
        (
            "weights = inputs times outputs; params = weights plus outputs if bias; macs = weights;"
            " return both"
        ),
    ),
    tolerance="equality: counts are integers",
    banned=(
        "minicomp.nn.layers:Linear",
        "minicomp.nn.graph:Model.count",
        "minicomp.nn.graph:Model.macs",
    ),
    reference=linear_cost,
)

# -------------------------------------------------------------------------------------- convolution


def conv_cost(
    c: int, o: int, h: int, w: int, k: int, stride: int, padding: int, groups: int, bias: bool
) -> tuple[int, int, int, int]:
    """Returns (ho, wo, params, macs) of a convolution."""
    ho, wo = ((n + 2 * padding - k) // stride + 1 for n in (h, w))
    weights = o * (c // groups) * k * k
    return ho, wo, weights + (o if bias else 0), weights * ho * wo


def _conv_with(*, size=None, grouped=True, positions=True, bias_macs=False):
    # conv_cost with a slip: another rule for the size, groups forgotten, positions forgotten, bias
    # counted.
    def cost(c, o, h, w, k, stride, padding, groups, bias):
        rule = size or (lambda n, k, s, p: (n + 2 * p - k) // s + 1)
        ho, wo = rule(h, k, stride, padding), rule(w, k, stride, padding)
        weights = o * (c // groups if grouped else c) * k * k
        per_place = weights + (o * bias if bias_macs else 0)
        return ho, wo, weights + o * bias, per_place * (ho * wo if positions else 1)

    return cost


def _conv(draw) -> dict:
    groups, k, stride, padding = (
        draw.integer(1, 5),
        draw.integer(1, 6),
        draw.integer(1, 4),
        draw.integer(0, 3),
    )
    return {
        "c": groups * draw.integer(1, 7),
        "o": groups * draw.integer(1, 7),
        "h": draw.integer(k, 33),
        "w": draw.integer(k, 33),
        "k": k,
        "stride": stride,
        "padding": padding,
        "groups": groups,
        "bias": bool(draw.integer(0, 2)),
    }


def _conv_as_linear(draw):
    for _ in range(5):
        c, o, k = draw.integer(1, 20), draw.integer(1, 20), draw.integer(1, 6)
        yield {
            "c": c,
            "o": o,
            "h": k,
            "w": k,
            "k": k,
            "stride": 1,
            "padding": 0,
            "groups": 1,
            "bias": True,
        }


def _same_as_linear(case, result) -> Message | None:
    # A kernel as large as its input is a fully connected layer over c k k inputs.
    params, macs = linear_cost(case["c"] * case["k"] ** 2, case["o"], case["bias"])
    return difference((1, 1, params, macs), result)


_CONV = Exercise(
    id="02.conv_cost",
    title="What a convolution costs",
    minutes=10,
    parts=(
        Part(
            "tiny",
            1,
            lambda draw: [
                dict(c=1, o=1, h=3, w=3, k=2, stride=1, padding=0, groups=1, bias=True),
                dict(c=2, o=4, h=5, w=4, k=3, stride=2, padding=1, groups=2, bias=False),
            ],
            equal_to(conv_cost),
        ),
        Part(
            "property",
            2,
            lambda draw: [_conv(draw) for _ in range(20)],
            equal_to(conv_cost),
            hidden=True,
        ),
        Part("invariance", 1, _conv_as_linear, _same_as_linear, hidden=True),
        Part(
            "golden",
            1,
            lambda draw: [
                dict(c=20, o=50, h=12, w=12, k=5, stride=1, padding=0, groups=1, bias=True)
            ],
            equal_to(conv_cost),
        ),
    ),
    mutants=(
        Mutant(
            "size-kept",
            _conv_with(size=lambda n, k, s, p: n // s),
            "The output was taken to be as large as the input. Without enough padding a k x k"
            " window has n - k + 1 places.",
        ),
        Mutant(
            "padding-once",
            _conv_with(size=lambda n, k, s, p: (n + p - k) // s + 1),
            "Padding was added on one side; it is added on both.",
        ),
        Mutant(
            "rounded-up",
            _conv_with(size=lambda n, k, s, p: -(-(n + 2 * p - k) // s) + 1),
            "A last window that hangs over the edge was counted. The number of places is rounded"
            " down.",
        ),
        Mutant(
            "groups-ignored",
            _conv_with(grouped=False),
            "In groups, an output sees only c / groups of the inputs.",
        ),
        Mutant(
            "one-position",
            _conv_with(positions=False),
            "Those are the MACs of one place. The same weights are used again at each of the ho x"
            " wo places: that is why convolutions are small and slow.",
        ),
        Mutant("bias-as-mac", _conv_with(bias_macs=True), "MACs do not count the bias."),
    ),
    hints=(
        "Two questions: how many weights are there, and at how many places is each used?",
        (
            "places along one side = (n + 2 padding - k) // stride + 1; weights = o x (c / groups)"
            " x k x k; MACs = weights x places."
        ),
        (
            "ho, wo from h, w by the formula; weights = product of four numbers; params = weights"
            " plus o if bias; macs = weights times ho times wo; return ho, wo, params, macs"
        ),
    ),
    tolerance="equality: counts are integers",
    banned=(
        "minicomp.nn.layers:Conv2d",
        "minicomp.nn.layers:_windows",
        "minicomp.kernels.maps.conv:conv_size",
        "minicomp.nn.graph:Model.macs",
        "minicomp.nn.graph:Model.count",
    ),
    reference=conv_cost,
)

# -------------------------------------------------------------------------------------- a whole net


def model_cost(shape: tuple, layers: list) -> Array:
    """Returns (params, macs) of each layer with weights, (n, 2)."""
    return _walk(shape, layers)


def _walk(shape, layers, *, pools=True, flat=True, carry=True, bias_macs=False) -> Array:
    # Rows (params, macs) of the layers that have weights, with the slips that the mutants make.
    c, h, w = shape
    features, rows = 0, []
    for layer in layers:
        kind = layer[0]
        if kind == "conv":
            seen = c if carry or not rows else shape[0]
            ho, wo, params, macs = conv_cost(seen, layer[1], h, w, layer[2], 1, 0, 1, True)
            c, h, w = layer[1], ho, wo
            rows.append((params, macs + (layer[1] * ho * wo if bias_macs else 0)))
        elif kind == "pool" and pools:
            h, w = h // layer[1], w // layer[1]
        elif kind == "flatten":
            features = c * h * w if flat else c
        elif kind == "linear":
            params, macs = linear_cost(features, layer[1], True)
            features = layer[1]
            rows.append((params, macs + (layer[1] if bias_macs else 0)))
    return np.array(rows, dtype=np.int64).reshape(-1, 2)


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
    title="LeNet-5 by hand",
    minutes=12,
    parts=(
        Part(
            "tiny",
            1,
            lambda draw: [
                {"shape": (1, 4, 4), "layers": [("flatten",), ("linear", 2)]},
                {
                    "shape": (1, 5, 5),
                    "layers": [("conv", 2, 2), ("pool", 2), ("flatten",), ("linear", 3)],
                },
            ],
            equal_to(model_cost),
        ),
        Part(
            "property",
            2,
            lambda draw: [_net(draw) for _ in range(20)],
            equal_to(model_cost),
            hidden=True,
        ),
        Part("invariance", 1, _one_more, _rows_stay, hidden=True),
        Part(
            "golden",
            2,
            lambda draw: [{"shape": (1, 28, 28), "layers": LENET5}],
            equal_to(model_cost),
        ),
    ),
    mutants=(
        Mutant(
            "pool-forgotten",
            lambda shape, layers: _walk(shape, layers, pools=False),
            "Pooling halves the height and the width for every layer after it.",
        ),
        Mutant(
            "maps-only",
            lambda shape, layers: _walk(shape, layers, flat=False),
            "Flatten makes one feature of every pixel of every map: c x h x w, not c.",
        ),
        Mutant(
            "channels-not-carried",
            lambda shape, layers: _walk(shape, layers, carry=False),
            "The second convolution sees as many channels as the first one makes, not those of the"
            " image.",
        ),
        Mutant(
            "bias-as-mac",
            lambda shape, layers: _walk(shape, layers, bias_macs=True),
            "MACs do not count the bias.",
        ),
    ),
    hints=(
        (
            "Walk through the net with the shape in your hand; each layer changes the shape, some"
            " add a row."
        ),
        (
            "conv: (c, h, w) -> (o, ho, wo); pool: (c, h // s, w // s); flatten: c h w features;"
            " linear: o features."
        ),
        (
            "c, h, w = shape; for each layer: conv: row from conv_cost, then c, h, w = o, ho, wo;"
            " pool: divide h and w; flatten: n = c * h * w; linear: row from linear_cost, then n ="
            " o; return the rows as an integer array"
        ),
    ),
    tolerance="equality: counts are integers",
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
    title="LeNets and the passport",
    exercises=(_LINEAR, _CONV, _MODEL),
    diagnosis=Diagnosis(
        id="02.broken",
        of=_CONV,
        slugs=("padding-once", "rounded-up", "groups-ignored"),
        valid=_valid_conv,
        agreeing=lambda: (1, 1, 4, 4, 1, 1, 0, 1, True),
        invalid=lambda: (3, 4, 4, 4, 1, 1, 0, 2, True),
        hints=(
            (
                "Which arguments have been 0 or 1 in every case you tried? Change one of them at a"
                " time."
            ),
            "The answer is a tuple of nine: c, o, h, w, k, stride, padding, groups, bias.",
            (
                "take stride 2, padding 1 or groups 2 in turn; compare broken(...) with"
                " conv_cost(...); return the nine numbers that differ"
            ),
        ),
    ),
    predictions=(
        Prediction(
            "02.p1",
            "Which layer of LeNet-5 has the most bytes?",
            options=("conv1", "conv2", "fc1", "fc2"),
        ),
        Prediction(
            "02.p2",
            "Which layer of LeNet-5 has the most MACs?",
            options=("conv1", "conv2", "fc1", "fc2"),
        ),
    ),
    reflections=(
        Reflection(
            "02.r1",
            "An advertisement says: we removed 90 % of LeNet-5's parameters, so it runs ten "
            "times faster. Answer in at most 120 words, with numbers of this lesson.",
            (
                (
                    3,
                    (
                        "bytes sit in fc1, MACs in conv2; quotes both shares; says that time is"
                        " measured, and does not follow MACs either where zeros are still"
                        " multiplied"
                    ),
                ),
                (2, "bytes and MACs lie in different layers, with numbers"),
                (1, "parameters are not time"),
                (0, "neither"),
            ),
        ),
    ),
    numbers=(
        Number("error_lenet300", "error of LeNet-300-100", "%", 2),
        Number("error_lenet5", "error of LeNet-5", "%", 2),
        Number("fc1_bytes", "fc1's share of LeNet-5's bytes", "%", 1),
        Number("conv_macs", "share of the convolutions in the MACs", "%", 1),
        Number("conv_time", "share of the convolutions in the time", "%", 0),
    ),
)
