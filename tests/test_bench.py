import numpy as np
import pytest

from minicomp import bench
from minicomp.bench import kernels
from minicomp.bench.race import peer_module, race, row


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr("minicomp.bench.race.SHORTEST", 1e-4)
    monkeypatch.setattr("minicomp.bench.race.SECONDS", 0.02)


class Clock:
    """A clock that only the contestants move."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_a_race_is_interleaved_and_gives_the_medians():
    clock, order = Clock(), []
    slow = iter([1.0] * 2 + [1.0, 9.0, 1.0, 1.0, 1.0])  # one run meets a busy machine

    def contestant(name, seconds):
        def call():
            order.append(name)
            clock.now += seconds()

        return call

    times = race(
        {"a": contestant("a", lambda: next(slow)), "b": contestant("b", lambda: 2.0)},
        part=0,
        least=5,
        clock=clock,
    )
    assert times == {"a": 1.0, "b": 2.0}
    assert order == ["a", "a", "b", "b"] + ["a", "b"] * 5  # two calls each to warm up and to count


def test_short_calls_are_repeated():
    clock, calls = Clock(), []

    def call():
        calls.append(1)
        clock.now += 1e-5

    assert race({"a": call}, part=0, least=3, clock=clock)["a"] == pytest.approx(1e-5)
    assert len(calls) >= 3 * 10


def test_a_row_is_a_ratio_of_times_or_rates():
    r = row("k", "s", {"ours": 0.5, "peer": 1.5}, "peer", "why")
    assert r == {
        "kernel": "k",
        "shape": "s",
        "ours": 500,
        "peer": 1500,
        "ratio": 3,
        "unit": "ms",
        "note": "ms; peer: peer; why",
    }
    r = row("k", "s", {"ours": 0.5, "peer": 1.5}, "peer", unit="MB/s", work=3.0)
    assert (r["ours"], r["peer"], r["ratio"]) == (6, 2, 3)


def test_a_missing_peer_is_said():
    said = []
    assert peer_module("no_such_module", True, said.append) is None and len(said) == 1
    assert peer_module("no_such_module", False, said.append) is None and len(said) == 1


def test_break_even_by_hand():
    assert kernels.break_even({0.1: 4.0, 0.4: 0.25}) == pytest.approx(
        0.2
    )  # half-way in the logarithms
    assert kernels.break_even({0.1: 0.9, 0.4: 0.5}) == 0
    assert kernels.break_even({0.1: 3.0, 1.0: 1.2}) == 1


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="names must be some of kmeans, .*, got kmean"):
        bench.run(["kmean"])


@pytest.mark.parametrize("name", ["huffman", "sparse"])
def test_rows_have_what_the_json_promises(name, monkeypatch):
    monkeypatch.setattr(kernels, "SIZES", ((64, 48, 16, 0.1),))
    monkeypatch.setattr(kernels, "EVEN", ((64, 1, "lanes"), (64, 3, "rows"), (64, 1, "csr")))
    monkeypatch.setattr(kernels, "SYMBOLS", 5000)
    events = []
    rows = bench.run([name], log=events.append)
    assert rows and {"kernel", "shape", "ours", "peer", "ratio", "unit", "note"} <= set(rows[0])
    assert all(np.isfinite(r["ratio"]) and r["ratio"] >= 0 for r in rows)
    assert events[-1] == {"event": "progress", "name": "bench", "done": 1, "total": 1}


def test_contestants_of_k_means_are_right(monkeypatch):
    # Few weights: the optimum has the least error, and says so; ours is within 0.5 % of it.
    monkeypatch.setattr(kernels, "WEIGHTS", 3000)
    monkeypatch.setattr(kernels, "CLUSTERS", (8,))
    rows = bench.run(["kmeans"])
    assert [r["kernel"] for r in rows] == ["kmeans, histogram", "kmeans, optimal"]
    above = [float(r["note"].split("optimum: ")[1].split(" %")[0]) for r in rows]
    assert above[0] < 0.5 and above[1] == pytest.approx(0, abs=1e-3)


@pytest.mark.peers
def test_peers_take_part():
    rows = bench.run(["training"], peers=True)
    assert {r["kernel"] for r in rows} == {"training lenet300", "training lenet5"}
