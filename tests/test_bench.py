import sys
from pathlib import Path

import numpy as np
import pytest

import minicomp
from minicomp import bench
from minicomp.bench import (against, binary, bits, codebook, coding, depthwise, int8, kernels,
                            lookups, lowrank, programs, pruned, training, worker)
from minicomp.bench.eager import eager
from minicomp.kernels.int8.gemm import gemm_ref
from minicomp.bench.race import peer_module, race, row
from minicomp.errors import UserError
from minicomp.models import MLP, MODELS
from minicomp.models.papers import HalfVGG


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


@pytest.mark.parametrize("name", ["huffman", "coding", "rounding", "sparse", "codebook", "int8",
                                  "bits"])
def test_rows_have_what_the_json_promises(name, monkeypatch):
    monkeypatch.setattr(kernels, "SIZES", ((64, 48, 16, 0.1),))
    even = ((64, 1, "lanes"), (64, 3, "rows"), (64, 1, "CSR"), (64, 3, "CSR"), (64, 1, "N:M"))
    monkeypatch.setattr(kernels, "EVEN", even)
    monkeypatch.setattr(codebook, "SHAPES", [(70, 16, 1, 1), (70, 20, 4, 2)])
    monkeypatch.setattr(kernels, "SYMBOLS", 5000)
    monkeypatch.setattr(coding, "SYMBOLS", 40_000)
    monkeypatch.setattr(coding, "NETS", coding.NETS / "none")
    monkeypatch.setattr(kernels, "ROUNDED", (5000,))
    monkeypatch.setattr(int8, "SHAPES", {"int8 GEMM": [(9, 20, 30)]})
    monkeypatch.setattr(int8, "CONVS", {"conv1": (1, 9, 1, 20, 5)})
    monkeypatch.setattr(bits, "SHAPES", {"XNOR GEMM": [(9, 20, 30)]})
    monkeypatch.setattr(bits, "PACKED_SHAPES", [(9, 20, 30)])
    monkeypatch.setattr(bits, "CONVS", [(1, 5, 70, 3, 3)])
    events = []
    rows = bench.run([name], log=events.append)
    assert rows and {"kernel", "shape", "ours", "peer", "ratio", "unit", "note"} <= set(rows[0])
    assert all(np.isfinite(r["ratio"]) and r["ratio"] >= 0 for r in rows)
    assert events[-1] == {"event": "progress", "name": "bench", "done": 1, "total": 1}
    curves = [r["curve"] for r in rows if "curve" in r]
    assert len(curves) == (len(even) if name == "sparse" else 0)
    assert all(0 < float(d) <= 1 and r > 0 for curve in curves for d, r in curve.items())


@pytest.mark.parametrize("layout", ["lanes", "rows", "CSR", "N:M"])
def test_contestants_of_break_even_multiply_the_same_weights(layout):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(32, 1 if layout in ("lanes", "N:M") else 5)).astype(np.float32)
    codes, table = kernels.weights_at(32, 0.25, layout, rng)
    assert np.count_nonzero(codes) == pytest.approx(0.25 * codes.size, abs=60)
    y = kernels.product(codes, table, X, layout)()
    np.testing.assert_allclose(y.reshape(32, -1), table[codes] @ X, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["lenet300", "lenet5"])
def test_removal_races_nets_that_compute_the_same(name, monkeypatch):
    monkeypatch.setattr("minicomp.deploy.choose._vectors", lambda isa: True)
    x = np.random.default_rng(1).normal(size=(3, 1, 28, 28)).astype(np.float32)
    for batch in (1, 3):
        nets = pruned.contestants(name, np.random.default_rng(0))
        plans = pruned.plans(nets, batch)
        y = {key: plan(x[:batch]) for key, plan in plans.items()}
        for a, b in (
            ("removed", "masked"),
            ("zeros skipped", "zeros multiplied"),
            ("codes skipped", "codes multiplied"),
        ):
            np.testing.assert_allclose(y[a], y[b], rtol=1e-4, atol=1e-5)
        skips = {key for key, plan in plans.items() if set(plan.layouts.values()) != {"dense"}}
        assert skips == {"zeros skipped", "codes skipped"}
        assert nets["removed"].count() < 0.52 * nets["masked"].count()


def test_removal_has_a_row_for_every_pair_and_batch():
    rows = bench.run(["removal"])
    assert len(rows) == 12 and {r["unit"] for r in rows} == {"ms"}
    removed = [r for r in rows if r["kernel"] == "half of the units removed"]
    assert all("x fewer MACs" in r["note"] for r in removed) and len(removed) == 4


def test_low_rank_races_what_is_as_good(monkeypatch):
    # The residuals of all, and what a layer at a third of its MACs computes.
    for name, value in {"SIZE": 96, "RANK": 6, "SPECTRUM": 60}.items():
        monkeypatch.setattr(lowrank, name, value)
    rows = bench.run(["svd"])
    assert [r["kernel"][-13:] for r in rows] == ["2 power steps", "4 power steps"]
    assert all(0.99 < float(r["note"].split("residual ")[1].split(" ")[0]) < 1.2 for r in rows)
    for technique in (lowrank.WeightSVD, lowrank.SpatialSVD):
        r = lowrank.layer_row("lenet5", "conv2", technique, 1)
        assert 3 <= float(r["note"].split("dense; ")[1].split(" ")[0]) < 3.3 and r["ratio"] > 0


def test_contestants_of_k_means_are_right(monkeypatch):
    # Few weights: the optimum has the least error, and says so; ours is within 0.5 % of it.
    monkeypatch.setattr(kernels, "WEIGHTS", 3000)
    monkeypatch.setattr(kernels, "CLUSTERS", (8,))
    rows = bench.run(["kmeans"])
    assert [r["kernel"] for r in rows] == ["kmeans, histogram", "kmeans, optimal"]
    above = [float(r["note"].split("optimum: ")[1].split(" %")[0]) for r in rows]
    assert above[0] < 0.5 and above[1] == pytest.approx(0, abs=1e-3)


@pytest.mark.peers
def test_peers_take_part(monkeypatch):
    monkeypatch.setattr(training, "TRAININGS", (("lenet300", 64, 2, 1), ("depthwise32", 8, 1, 1)))
    rows = bench.run(["training"], peers=True)
    assert [(r["kernel"], r["note"].split("peer: ")[1]) for r in rows] == [
        ("training lenet300", "torch eager; NCHW, SGD with momentum"),
        ("training depthwise32", "torch eager; NCHW, SGD with momentum"),
        ("training depthwise32", "torch eager, channels_last; SGD with momentum"),
    ]


@pytest.mark.peers
@pytest.mark.parametrize("name", ["lenet300", "lenet5", "depthwise32", "mobilenetv2"])
def test_the_net_in_torch_is_the_net(name):
    import torch

    model = MODELS[name](rng=np.random.default_rng(0))
    peer, x = eager(torch, model), np.random.default_rng(1).normal(size=(3, *model.input_shape))
    ours = {f"{node.name}.{part}" for node in model.nodes for part in node.layer.forms}
    layers = {node.name: i for i, node in enumerate(model.nodes)}
    state = peer.state_dict()
    for key, a in model.state_dict().items():
        node, part = key.rsplit(".", 1)
        state[f"layers.{layers[node]}.{part}"] = torch.from_numpy(a)
    assert ours and len(list(peer.parameters())) == len(ours)
    peer.load_state_dict(state)
    with torch.no_grad():
        z = peer.eval()(torch.from_numpy(x.astype(np.float32))).numpy()
    np.testing.assert_allclose(z, model(x.astype(np.float32)).data, rtol=1e-3, atol=1e-3)


@pytest.mark.peers
@pytest.mark.parametrize("stride", [1, 2])
def test_contestants_convolve_alike(stride):
    import torch

    given = (*depthwise.drawn(24, 6, stride, 2), stride)
    for mine, other in zip(depthwise.ours(*given), depthwise.theirs(torch)(*given)):
        a, b = (v if isinstance(v, tuple) else (v,) for v in (mine(), other()))
        for one, two in zip(a, b, strict=True):
            np.testing.assert_allclose(one, two.numpy(), rtol=1e-4, atol=1e-4)


def test_benches_of_peers_alone_say_so():
    said = []
    assert bench.run(["depthwise", "training"], log=said.append) == []
    assert [row["text"].split(":")[0] for row in said if row["event"] == "say"] == [
        "bench depthwise", "bench training"]


@pytest.mark.parametrize("kernel", ["XNOR GEMM", bits.PACKED_TOO])
def test_contestants_multiply_the_same_signs(kernel):
    first, *others = [call() for call in bits.contestants(kernel, (9, 70, 30), {}).values()]
    assert len(others) == 2 and first.any()
    for other in others:
        np.testing.assert_array_equal(other, first)


@pytest.mark.peers
def test_peers_multiply_the_same_codes():
    rng = np.random.default_rng(0)
    a, w = rng.integers(0, 128, (32, 24), np.uint8), rng.integers(-127, 128, (16, 24), np.int8)
    wanted = gemm_ref(a, w, np.zeros(16, np.int32))
    for peer in (int8.onnxruntime, int8.torch):
        np.testing.assert_array_equal(peer(True, None)(a, w)().numpy(), wanted)


# --- two installations ---


class Side:
    """Answers as a worker does: seconds by benchmark; what has none is missing."""

    def __init__(self, name, seconds, asked):
        self.name, self.seconds, self.asked = name, seconds, asked

    def ask(self, request):
        self.asked.append((self.name, request))
        verb, _, name = request.partition(" ")
        if verb == "make":
            return {} if name in self.seconds else {"missing": "ImportError: no such thing"}
        cpu = self.seconds[name]
        return {"cpu": cpu, "wall": 2 * cpu}


def test_two_installations_take_turns_and_a_row_is_their_ratio(monkeypatch):
    monkeypatch.setattr(against, "SECONDS", 0)
    asked, said = [], []
    seconds = {"lenet300": 0.2, "lenet300-shared": 0.3, "lenet5-threads": 0.5}
    sides = {"ours": Side("ours", seconds, asked), "theirs": Side("theirs", {
        "lenet300": 0.3, "lenet300-shared": 0.6, "lenet5-threads": 0.4}, asked)}
    rows = list(against._rows(sides, ["lenet300", "obc", "lenet300-shared", "lenet5-threads"],
                              said.append))
    assert [r["ratio"] for r in rows] == pytest.approx([1.5, 2.0, 0.8])
    assert [r["ours"] for r in rows] == pytest.approx([200, 300, 1000])  # the last by wall clock
    assert "times dense training: ours 1.50, theirs 2.00" in rows[1]["note"]
    assert "wall clock" in rows[2]["note"] and "wall" not in rows[0]["note"]
    turns = [(who, what) for who, what in asked if what.startswith("run lenet300")]
    assert turns[:6] == [(who, "run lenet300") for who in ("ours", "theirs")] * 3
    beside = [(who, f"run {name}") for name in ("lenet300-shared", "lenet300") for who in sides]
    assert turns[6:] == beside * 3
    assert any("bench obc: ours have none (ImportError" in e.get("text", "") for e in said)


@pytest.mark.slow
def test_another_interpreter_is_raced(monkeypatch):
    # Ours beside itself: what runs is the same.
    monkeypatch.setattr(against, "SECONDS", 0)
    said = []
    (r,) = against.against(sys.executable, ["lenet300"], log=said.append)
    assert {"kernel", "shape", "ours", "peer", "ratio", "unit", "note"} <= set(r)
    assert 0.2 < r["ratio"] < 5 and r["unit"] == "ms"
    assert said[0]["text"].count(str(Path(minicomp.__file__).parent)) == 2


@pytest.mark.parametrize("python, says", [
    ("/no/such/python", "cannot be run"), ("/bin/true", "ended at 'about': is minicomp installed"),
])
def test_what_is_no_minicomp_is_said(python, says):
    with pytest.raises(UserError, match=says):
        against.against(python, ["lenet300"])
    with pytest.raises(ValueError, match="names must be some of lenet300, .*, got lenet"):
        against.against(sys.executable, ["lenet"])


def test_every_row_has_a_benchmark_that_runs(monkeypatch):
    monkeypatch.setattr(worker, "STEPS", {"lenet300": 1, "lenet5": 1})
    assert set(against.ROWS) == set(worker.BENCHES) >= set(against.BESIDE)
    made = {}
    for name in set(worker.BENCHES) - {"sparsegpt", "obc", "compress"}:
        assert worker.answer(f"make {name}", made) == {}
        assert min(worker.answer(f"run {name}", made).values()) > 0
    assert "KeyError" in worker.answer("make nothing", made)["missing"]
    assert worker.answer("about", made)["version"] == minicomp.__version__


@pytest.mark.slow
def test_the_slow_benchmarks_run():
    made = {}
    for name in ("sparsegpt", "obc", "compress"):
        assert worker.answer(f"make {name}", made) == {}


@pytest.mark.slow
def test_whole_programs_race_and_the_layer_that_gains_least(monkeypatch):
    monkeypatch.setattr(programs, "NETS", {"lenet5": "LeNet-5", "depthwise32": "DepthwiseNet32"})
    monkeypatch.setattr(binary, "NETS", {})
    rows = bench.run(["programs"])
    kernels = [r["kernel"] for r in rows]
    assert kernels == [f"int8 {what}, {net}" for net in ("LeNet-5", "DepthwiseNet32")
                       for what in ("program", "program", "layers")]
    assert all("flips" in r["note"] for r in rows if "program" in r["kernel"])
    assert [r["shape"] for r in rows[:2]] == ["1 image", "64 images"]
    assert "of 3 layers of 50,000" in rows[2]["note"] and "of 6 layers" in rows[5]["note"]


def test_binary_nets_race_beside_floats(monkeypatch):
    monkeypatch.setattr(programs, "NETS", {})
    monkeypatch.setattr(programs, "BATCHES", (1, 3))
    monkeypatch.setattr(binary, "NETS", {"MLP": lambda rng: MLP((12, 70, 5), rng=rng)})
    rows = bench.run(["programs"])
    assert [(r["kernel"], r["shape"]) for r in rows] == [
        ("binary program, MLP", n) for n in ("1 image", "3 images")]
    assert all("peer: our float32; first layer int8" in r["note"] for r in rows)


@pytest.mark.peers
def test_peers_run_the_same_nets(monkeypatch):
    monkeypatch.setattr(programs, "NETS", {"lenet5": "LeNet-5"})
    monkeypatch.setattr(binary, "NETS", {"VGG": lambda rng: HalfVGG(rng=rng)})
    rows = bench.run(["programs"], peers=True)
    assert [r["kernel"].split(",")[0] for r in rows] == [
        *["int8 program", "int8 program", "float32 program"] * 2, "int8 layers",
        *["binary program"] * 6]
    ours, theirs = rows[0]["note"].split("flips ")[1].split(" % of predictions, theirs ")
    assert abs(float(ours) - float(theirs.split(" %")[0])) < 2


def test_products_by_fft_and_look_ups_have_rows_that_say_what_is_saved(monkeypatch):
    monkeypatch.setattr(lookups, "SIZES", ((1, 64, 64), (3, 64, 8)))
    monkeypatch.setattr(lookups, "CONVS", ((64, 64, 6, 8, 1), (4, 4, 6, 4, 3)))
    rows, said = list(lookups.products_by_fft(False, None)), []
    assert [r["note"].split("; ")[-1] for r in rows] == ["64 x fewer numbers", "8 x fewer numbers"]
    rows = list(lookups.look_ups(False, said.append))
    assert len(rows) + len(said) == 2 and len(said) >= 1  # the small one stays dense
    assert all("x fewer multiplications" in r["note"] and r["ours"] > 0 for r in rows)
