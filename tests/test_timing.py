import time

import pytest

from minicomp import timing
from minicomp.timing import Clock, in_turn, race


def test_laps_do_not_overlap(monkeypatch):
    times = iter([10.0, 12.5, 20.0])
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(times))
    clock = Clock()
    assert (clock.lap(), clock.lap()) == (2.5, 7.5)


def test_measures_take_turns_and_their_medians_count():
    order, slow = [], iter([1.0, 9.0, 1.0])  # one meets a busy machine

    def measure(name, seconds):
        return lambda: order.append(name) or seconds()

    measures = {"a": measure("a", lambda: next(slow)), "b": measure("b", lambda: 2.0)}
    assert in_turn(measures, seconds=0) == {"a": 1.0, "b": 2.0}
    assert order == ["a", "b"] * 3


def test_a_race_lasts_its_seconds_and_warms_nobody_up(monkeypatch):
    now, calls = [0.0], []
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def call():
        calls.append(1)
        now[0] += 0.5

    assert race({"a": call}, seconds=4.9)["a"] == pytest.approx(0.5) and len(calls) == 10


def test_calls_too_short_for_the_clock_are_repeated():
    now, calls = [0.0], []

    def call():
        calls.append(1)
        now[0] += 1e-5

    taken = race({"a": call}, seconds=0, least=2, shortest=1e-4, clock=lambda: now[0])
    assert taken["a"] == pytest.approx(1e-5)
    assert len(calls) == 1 + (1 + 2 + 4 + 8 + 16) + 2 * 16  # warm up, count, time
