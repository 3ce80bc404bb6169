import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicomp.compress import net_of
from minicomp.compress.allocation import allocate
from minicomp.compress.curvature.hessian import exact_hessian, float64, hutchinson_trace
from minicomp.compress.finetune import FineTune
from minicomp.compress.quant.mixed import MixedBits, code_bytes, logits, quantized
from minicomp.compress.quant.schemes import Scheme
from minicomp.compress.technique import Run, weights
from minicomp.data import Dataset, Split
from minicomp.errors import UserError
from minicomp.models import MLP

RNG = np.random.default_rng


@pytest.fixture(scope="module")
def trained():
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x, y = (x / 16).astype(np.float32), y.astype(np.int64)
    cut = [Split(x[a:b], y[a:b]) for a, b in ((0, 1300), (1300, 1500), (1500, 1797))]
    data = Dataset("digits", *cut, tuple("0123456789"), "files")
    model = MLP([64, 24, 24, 24, 10], rng=RNG(0))
    return FineTune(epochs=5, lr=0.1, batch_size=32).apply(model, data, Run(RNG(0))), data


def bits(model):
    return {node: model.forms()[name].bits for node, name in weights(model).items()}


# ------------------------------------------------------------------------------ the integer program


@given(seed=st.integers(0, 999), layers=st.integers(1, 4), choices=st.integers(1, 5),
       whole=st.booleans())
def test_four_layers_against_every_choice(seed, layers, choices, whole):
    rng = RNG(seed)
    sizes = rng.integers(0, 9, (layers, choices)).astype(float)
    costs = rng.integers(0, 5, (layers, choices)) if whole else rng.random((layers, choices))
    budget = float(rng.integers(sizes.min(axis=1).sum(), sizes.max(axis=1).sum() + 1))
    every = list(itertools.product(range(choices), repeat=layers))

    def total(of, choice):
        return sum(row[i] for row, i in zip(of, choice))

    best = min((total(costs, c), total(sizes, c)) for c in every if total(sizes, c) <= budget)
    found = allocate(costs, sizes, budget)
    assert (total(costs, found), total(sizes, found)) == pytest.approx(best)


def test_a_budget_below_the_smallest_choices_is_refused():
    with pytest.raises(ValueError, match="budget must be at least 3, got 2"):
        allocate([[1.0, 0.5], [1.0, 0.0]], [[1, 5], [2, 7]], 2)
    assert allocate([], [], 0) == []


def test_bytes_of_codes_and_scales():
    assert code_bytes((10, 3, 3, 3), Scheme(4)) == 135 + 40
    assert code_bytes((10, 27), Scheme(3, per="tensor")) == 102 + 4
    assert code_bytes((10, 27), Scheme(3, "unsigned", group=10, zero_point=True)) == 113 + 120


# --------------------------------------------------------------------------------------- the costs


def test_the_trace_is_that_of_the_exact_hessian():
    model = MLP([4, 5, 3], rng=RNG(0))
    x, y = RNG(1).standard_normal((20, 4)), RNG(2).integers(0, 3, 20)
    work, names = float64(model), ["fc1.weight", "fc2.weight"]
    found = hutchinson_trace(work, x, y, names, "cross-entropy", draws=400, rng=RNG(3))
    for name in names:
        H = exact_hessian(work, x, y, [name], "cross-entropy")
        assert found[name] == pytest.approx(np.trace(H), rel=0.1)


def test_omega_by_hand(trained):
    model, data = trained
    few = data.train.take(slice(0, 100))
    technique = MixedBits(mean_bits=5.0, least=3, bits=4, cost="hessian", draws=3)
    found = technique.omegas(model, few, Run(RNG(7)))
    traces = hutchinson_trace(float64(model), few.x, few.y, list(weights(model).values()),
                              "cross-entropy", draws=3, rng=RNG(7))
    w = model.forms()["fc4.weight"].dense().data
    e = np.square(Scheme(4).form(model.forms()["fc4.weight"]).dense().data - w).sum()
    assert found["fc4"][1] == pytest.approx(traces["fc4.weight"] / 240 * e, rel=1e-4)
    assert found["fc4"][0] > found["fc4"][1] > 0


@pytest.mark.parametrize("cost", ["sqnr", "hessian"])
def test_its_choice_is_near_the_best_of_all_within_its_bytes(trained, cost):
    # The claim: costs add up well enough to choose by. 81 nets are measured.
    model, data = trained
    names, x = weights(model), data.train.x[:300]
    z, forms = logits(model, x), model.forms()

    def noise(m):
        return np.square(logits(m, x) - z).sum()

    technique = MixedBits(mean_bits=5.0, least=3, bits=5, cost=cost)
    chosen = bits(technique.apply(model, data, Run(RNG(0))))
    budget, every, mine = technique.budget(model), [], None
    for choice in itertools.product((3, 4, 5), repeat=4):
        schemes = {node: Scheme(b) for node, b in zip(names, choice)}
        used = sum(code_bytes(forms[names[node]].shape, s) for node, s in schemes.items())
        if used <= budget:
            every.append(noise(quantized(model.copy(), schemes)))
            if dict(zip(names, choice)) == chosen:
                mine = every[-1]
    assert mine is not None, "within its bytes"
    assert mine <= 1.5 * min(every) and mine < 0.5 * np.median(every), (mine, sorted(every)[:5])


def test_more_bytes_never_cost_more_and_limits_hold(trained):
    model, data = trained
    run, totals = Run(RNG(0)), []
    technique = MixedBits(mean_bits=4.0)
    costs = technique.costs(model, data.train.take(slice(0, 200)), run)
    assert all(c == sorted(c, reverse=True) for c in costs.values())
    for mean in (3.0, 3.5, 4.0, 5.0, 6.0, 9.0):
        chosen = MixedBits(mean_bits=mean).allocated(model, costs)
        totals.append(sum(costs[node][s.bits - 2] for node, s in chosen.items()))
    assert totals == sorted(totals, reverse=True)
    assert {s.bits for s in chosen.values()} == {8}
    found = MixedBits(mean_bits=5.0, bits={"*": 6, "fc1": 3}, least={"fc4": 6}).apply(
        model, data, run)
    assert bits(found)["fc1"] <= 3 and bits(found)["fc4"] == 6


def test_bad_input(trained):
    model, data = trained
    with pytest.raises(UserError, match="mixed-bits: mean_bits or bytes must be given"):
        MixedBits()
    with pytest.raises(UserError, match="mixed-bits: the budget must be at least .* bytes"):
        MixedBits(bytes=10).apply(model, data, Run(RNG(0)))
    with pytest.raises(UserError, match="fc2 must have least at most bits, got 5 and 4"):
        MixedBits(mean_bits=4.0, bits=4, least={"fc2": 5}).apply(model, data, Run(RNG(0)))
    with pytest.raises(UserError, match="least: fc1: bits must be an integer in .2"):
        MixedBits(mean_bits=4.0, least=1).apply(model, data, Run(RNG(0)))


def test_a_budget_says_its_knob_and_costs_must_be_numbers():
    rng = np.random.default_rng(0)
    w = rng.normal(size=(4, 8))
    with pytest.raises(UserError, match=r"mean_bits must be at least \d.*, got 1: .* bytes"):
        MixedBits(mean_bits=1.0).check_shapes(net_of(w, w[:, :4]))
    split = Split(np.full((5, 8), 1e30, np.float32), np.zeros(5, int))
    data = Dataset("toy", split, split, None, ("a", "b"), "rendered")
    with np.errstate(all="ignore"), pytest.raises(UserError, match="costs must be finite"):
        MixedBits(mean_bits=20.0).apply(net_of(w * 1e30, w[:, :4]), data, Run(rng))
