from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minicomp
from minicomp.errors import UserError
from minicomp.models import MLP
from minicomp.search import Limit, Space, declared_bytes, lenets, small_lenet
from minicomp.search import space as spaces


def mlp(*, wide, deep, rng=None):
    return MLP([6] + [wide] * deep + [3], rng=rng)


SPACE = Space({"wide": (2, 4, 8), "deep": (1, 2)}, mlp)
MACS = {(2, 1): 18, (2, 2): 22, (4, 1): 36, (4, 2): 52, (8, 1): 72, (8, 2): 136}  # by hand


def test_nets_are_enumerated_with_their_costs():
    assert SPACE.size == 6 and len(list(SPACE)) == 6
    assert {(c["wide"], c["deep"]): SPACE.cost("macs", c) for c in SPACE} == MACS
    assert SPACE.smallest == {"wide": 2, "deep": 1} and SPACE.largest == {"wide": 8, "deep": 2}


def test_a_limit_keeps_what_costs_at_most_so_much():
    small = SPACE.under(Limit(macs=52))
    assert [(c["wide"], c["deep"]) for c in small] == [(2, 1), (2, 2), (4, 1), (4, 2)]
    assert not list(SPACE.under(Limit(macs=17))) and len(list(SPACE)) == 6
    both = SPACE.under(Limit(macs=52, ms=1e-9))
    assert not both.admits(SPACE.smallest)


def test_bytes_are_a_header_and_the_declared_bits_of_each_number(tmp_path):
    model = mlp(wide=8, deep=1, rng=np.random.default_rng(0))
    n = 8 * 6 + 8 + 3 * 8 + 3
    sizes = [declared_bytes(model, bits=bits) for bits in (1, 8, 16, 32)]
    assert np.diff(sizes).tolist() == [np.ceil(n * 7 / 8), n, 2 * n]
    # 32 bits a number is what the file takes, but for what its coder gains or notes
    assert abs(minicomp.save(model, tmp_path / "m.mcz") - sizes[-1]) < 0.2 * sizes[-1]
    weighed = Space(SPACE.choices, mlp, weigh=lambda model: model.count())
    assert weighed.cost("bytes", {"wide": 8, "deep": 1}) == n


def test_milliseconds_are_measured_once(monkeypatch):
    calls = []
    monkeypatch.setattr(spaces, "milliseconds", lambda model: calls.append(1) or 2.0)
    space = Space(SPACE.choices, mlp, Limit(ms=2.0))
    assert len(list(space)) == len(list(space)) == 6 == len(calls)
    assert not list(space.under(Limit(ms=1.9))) and len(calls) == 6


def test_a_wider_net_takes_measurably_longer():
    space = Space({"wide": (2, 1500), "deep": (2,)}, mlp)
    assert space.cost("ms", space.largest) > 2 * space.cost("ms", space.smallest) > 0


@given(st.integers(0, 2**32))
@settings(deadline=None, max_examples=30)
def test_draws_and_mutants_keep_the_limit_and_one_choice_moves(seed):
    rng, space = np.random.default_rng(seed), SPACE.under(Limit(macs=60))
    choice = space.sample(rng=rng)
    other = space.mutate(choice, rng=rng)
    assert space.admits(choice) and space.admits(other)
    assert sum(choice[name] != other[name] for name in space.choices) == 1
    assert space.decode(space.encode(choice)) == choice


def test_every_net_is_drawn_equally_often_and_every_neighbour():
    rng, space = np.random.default_rng(0), SPACE.under(Limit(macs=52))
    drawn = [space.encode(space.sample(rng=rng)) for _ in range(2000)]
    assert all(400 < drawn.count(code) < 600 for code in set(drawn)) and len(set(drawn)) == 4
    near = [space.encode(space.mutate({"wide": 2, "deep": 1}, rng=rng)) for _ in range(2000)]
    assert {code: round(near.count(code) / 500) for code in set(near)} == {(1, 0): 2, (0, 1): 2}


def test_a_net_is_built_from_its_choice():
    choice = {"conv1": 2, "conv2": 4, "kernel1": 3, "kernel2": 5, "depth": 1, "hidden": 0}
    model = small_lenet(**choice, rng=np.random.default_rng(0))
    shapes = {name: form.shape for name, form in model.forms().items() if name.endswith("weight")}
    assert shapes == {"conv1.weight": (2, 1, 3, 3), "conv2.weight": (4, 2, 5, 5),
                      "deep1.weight": (4, 4, 3, 3), "fc2.weight": (10, 100)}
    assert model.forms()["conv1.weight"].values().any()
    space = lenets()
    assert space.size == 384
    assert not space.build(space.smallest).forms()["fc1.weight"].values().any()
    # sizes of maps do not depend on the kernels: a smaller one is the middle of a larger one
    for name in ("conv1", "conv2", "flatten"):
        sizes = {space.build(space.largest | {"kernel1": a, "kernel2": b}).shapes()[name]
                 for a in (3, 5) for b in (3, 5)}
        assert len(sizes) == 1


def test_errors_name_the_choice_and_what_is_allowed():
    with pytest.raises(UserError, match="bits must be a whole number in .1, 32., got 33"):
        declared_bytes(mlp(wide=2, deep=1), bits=33)
    with pytest.raises(UserError, match="macs must be a number above 0, got 0"):
        Limit(macs=0)
    with pytest.raises(UserError, match="at least one choice"):
        Space({}, mlp)
    for values in ((), (1, 1), [1, 2]):
        with pytest.raises(UserError, match="wide must be a tuple of different values"):
            Space({"wide": values}, mlp)
    for choice, match in (({"wide": 2}, "deep must be one of 1, 2, got none"),
                          ({"wide": 3, "deep": 1}, "wide must be one of 2, 4, 8, got 3"),
                          ({"wide": 2, "deep": 1, "wid": 1}, "unknown choice 'wid'; did you mean")):
        with pytest.raises(UserError, match=match):
            SPACE.build(choice)
    with pytest.raises(UserError, match="kind must be one of bytes, macs, ms, got joules"):
        SPACE.cost("joules", SPACE.smallest)
    rng = np.random.default_rng(0)
    with pytest.raises(UserError, match="must admit a net of the space, got macs <= 17; .*18 macs"):
        SPACE.under(Limit(macs=17)).sample(rng=rng)
    with pytest.raises(UserError, match="must admit a net one change from wide=8 deep=1"):
        Space({"wide": (2, 8), "deep": (1,)}, mlp, Limit(macs=17)).mutate(
            {"wide": 8, "deep": 1}, rng=rng)


def test_a_limit_says_what_it_is():
    assert str(Limit(bytes=4000, ms=0.5)) == "bytes <= 4,000, ms <= 0.5"
    assert str(Limit()) == "no limit" and partial(Limit, macs=1)() == Limit(macs=1)
