from minicomp import timing
from minicomp.timing import Clock


def test_laps_do_not_overlap(monkeypatch):
    times = iter([10.0, 12.5, 20.0])
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(times))
    clock = Clock()
    assert (clock.lap(), clock.lap()) == (2.5, 7.5)
