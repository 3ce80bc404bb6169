import itertools
from types import SimpleNamespace

import numpy as np
import pytest

from minicomp.compress import JointBits
from minicomp.compress.quant.joint_bits import Widths, _quantized, choose_bits
from minicomp.compress.quant.nodes import grids
from minicomp.compress.technique import Run, weights
from minicomp.data import Split
from minicomp.errors import UserError
from minicomp.models import MLP
from minicomp.nn import Add, Flatten, Linear, Model, Node, ReLU, chain
from minicomp.nn.layers import Conv2d
from minicomp.tensor import no_grad


def test_by_hand():
    # Errors 4^-b times 1 and 100: of 6 bits in all the second coordinate gets the more.
    def error(b):
        return 4.0 ** -b[0] + 100 * 4.0 ** -b[1]

    assert choose_bits(error, sum, 6, (1, 1), (8, 8)) == (1, 5)
    assert choose_bits(error, sum, 9, (1, 1), (8, 8)) == (3, 6)
    assert choose_bits(error, sum, 99, (1, 1), (8, 7)) == (8, 7)
    with pytest.raises(ValueError, match="budget must be at least 4, got 3"):
        choose_bits(error, sum, 3, (2, 2), (8, 8))


def problem(seed, n=4):
    # Errors that fall by 4 a bit and join pairwise; a bit of one coordinate costs 30 of another.
    rng = np.random.default_rng(seed)
    gains, sizes = 10 ** rng.uniform(-2, 2, n), 10 ** rng.uniform(0, 1.5, n)
    cross = rng.uniform(0, 1, (n, n))

    def error(bits):  # of one point, or of rows of points
        e = gains * 4.0 ** -np.asarray(bits)
        return e.sum(axis=-1) + ((np.sqrt(e) @ cross) * np.sqrt(e)).sum(axis=-1)

    return error, lambda bits: np.asarray(bits) @ sizes, 3.6 * sizes.sum()


def test_against_all_points():
    # Coordinates need not find the best of 625 points; of a hundred problems they do 98.
    found, points = 0, np.array(list(itertools.product(range(2, 7), repeat=4)))
    for seed in range(100):
        error, cost, budget = problem(seed)
        bits = choose_bits(error, cost, budget, (2,) * 4, (6,) * 4)
        assert cost(bits) <= budget
        found += error(bits) <= error(points[cost(points) <= budget]).min() * (1 + 1e-9)
        assert error(bits) <= error((3,) * 4)
    assert found >= 96


def data(x):
    return SimpleNamespace(train=Split(x, np.zeros(len(x), np.int64)), val=None)


def small(seed=0):
    # The inputs of both layers have outliers of unlike size: widths should differ.
    rng = np.random.default_rng(seed)
    model = MLP([6, 8, 3], rng=rng)
    x = (rng.standard_t(3, size=(40, 6)) * [1, 1, 1, 1, 1, 9]).astype(np.float32)
    return model, x


def error_of(model, made, x):
    with no_grad():
        y, got = model(x).data.astype(np.float64), made(x).data
    return float(np.square(got - y).sum() / np.square(y).sum())


def applied(model, x, **knobs):
    said = []
    made = JointBits(**knobs).apply(model, data(x), Run(np.random.default_rng(0), log=said.append))
    return made, said


def widths_of(made):
    forms = made.forms()
    return ([forms[name].bits for name in weights(made).values()],
            [layer.bits for layer in grids(made).values()])


def test_against_all_points_on_a_net():
    # Two layers, two values, 2 to 4 bits: 81 points, of which the search looks at a part.
    for seed in range(2):
        model, x = small(seed)
        widths = Widths.of(model)
        made, _ = applied(model, x, least=2, bits=4, act_bits=4, budget=9.0)
        ours, found = error_of(model, made, x), widths_of(made)
        assert widths.operations(tuple(found[0] + found[1])) <= 9.0
        whole = JointBits(budget=256.0)
        made_of = whole.forms(model, widths), whole.acts(model, widths, x)
        fitting = [b for b in itertools.product((2, 3, 4), repeat=4) if widths.operations(b) <= 9]
        errors = [error_of(model, _quantized(model, widths, *made_of, b), x) for b in fitting]
        assert ours <= sorted(errors)[2] * (1 + 1e-6) and len(errors) > 20


@pytest.mark.parametrize("cost, gain", [("operations", 0.9), ("storage", 0.7)])
def test_equal_bits_are_never_better_and_the_budget_holds(cost, gain):
    model, x = small()
    widths = Widths.of(model)
    budget = 16.0 if cost == "operations" else 4.0
    made, said = applied(model, x, budget=budget, cost=cost)
    w, a = widths_of(made)
    assert getattr(widths, cost)(tuple(w + a)) <= budget
    equal, _ = applied(model, x, least=4, bits=4, act_bits=4, budget=256.0)
    assert widths_of(equal) == ([4, 4], [4, 4])
    assert error_of(model, made, x) < gain * error_of(model, equal, x)
    assert "bits of weights, then of activations" in said[-1]["text"]


def test_what_there_is_to_choose():
    nodes = (*chain(("conv", Conv2d(1, 4, 3, padding=1)), ("relu", ReLU())),
             Node("side", Conv2d(4, 4, 3, padding=1), ("relu",)),
             Node("sum", Add(), ("relu", "side")),
             Node("flat", Flatten(), ("sum",)), Node("fc", Linear(4 * 25, 2), ("flat",)))
    model = Model(nodes, input_shape=(1, 5, 5))
    widths = Widths.of(model)
    assert widths.layers == ("conv", "side", "fc")
    assert widths.values == ("x", "relu", "side", "sum")
    assert widths.reads == ((0, 0), (1, 1), (2, 3))
    assert widths.macs.tolist() == [900, 3600, 200]
    assert widths.numbers.tolist() == [36, 144, 200]
    assert widths.activations.tolist() == [25, 100, 100, 100]
    bits = (2, 3, 4, 8, 7, 6, 5)
    assert widths.operations(bits) == (900 * 16 + 3600 * 21 + 200 * 20) / 4700
    assert widths.storage(bits) == (36 * 2 + 144 * 3 + 200 * 4 + 25 * 8 + 100 * 18) / (380 + 325)


def test_patterns_bound_the_bits_of_a_layer():
    model, x = small()
    made, _ = applied(model, x, bits={"fc1": 3}, budget=256.0)
    assert widths_of(made)[0][0] == 3 < 6 < widths_of(made)[0][1]


def test_bad_input():
    model, x = small()
    with pytest.raises(UserError, match="budget must be at least 16, that of 4 bits everywhere"):
        applied(model, x, least=4, budget=9.0)
    with pytest.raises(UserError, match="act_bits must be at most 10 for method kl, got 12"):
        applied(model, x, method="kl", act_bits=12)
    with pytest.raises(UserError, match="cost must be one of operations, storage"):
        JointBits(cost="energy")


@pytest.mark.parametrize("knobs, wrong", [
    ({"least": 9, "budget": 100.0}, "least must be at most bits@fc1, 8, got 9"),
    ({"least": 6, "act_bits": 5}, "least must be at most act_bits, 5, got 6"),
    ({"least": 1, "budget": 1.5}, "least: bits must be an integer in .2, 16. for grid narrow")])
def test_a_least_that_cannot_be_is_refused(knobs, wrong):
    with pytest.raises(UserError, match=wrong):
        JointBits(**knobs).check(MLP([4, 3, 2], rng=np.random.default_rng(0)))
