# Integer programs as C, compiled and run against the runtime.
import json
import shutil
import subprocess

import numpy as np
import pytest

import minicomp
from minicomp.cli import main
from minicomp.deploy import Program, Step, lower
from minicomp.exchange import c99
from minicomp.kernels.int8.requantize import ROUNDINGS
from minicomp.models import MODELS
from minicomp.nn.forms import Affine, Dense

needs_gcc = pytest.mark.skipif(not shutil.which("gcc"), reason="needs gcc")
RULES = [*[(rounding, False) for rounding in ROUNDINGS], ("gemmlowp", True), ("float", True)]
FLAGS = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-O1"]
# Reads examples from standard input until it ends, writes a line of logits each.
MAIN = """
#include <stdio.h>
#include "{0}.h"
int main(void)
{{
    static uint8_t x[{1}_INPUTS];
    static int32_t y[{1}_OUTPUTS];
    int i;
    while (fread(x, 1, sizeof x, stdin) == sizeof x) {{
        {0}_run(x, y);
        for (i = 0; i < {1}_OUTPUTS; i++) printf("%ld %.9g ", (long)y[i], y[i] * {0}_scale[i]);
    }}
    return 0;
}}
"""


def dense(*numbers):
    return Dense(np.array(numbers, np.float32), trainable=False)


def quantize(name, reads, scale, zero_point=0, grid="unsigned"):
    weights = {"scale": dense(scale), "zero_point": dense(zero_point)}
    args = {"bits": 8, "grid": grid, "zero_point": True}
    return Step(name, "quantize", (reads,), args, weights)


def weighted(rng, name, kind, reads, shape, **args):
    # A layer of drawn codes and scales, some of which a gain turns below 0.
    o = shape[0]
    size = {"out_features": o} if kind == "linear" else {"out_channels": o,
                                                         "kernel_size": shape[2:]}
    scale = rng.uniform(0.5, 1.5, o).astype(np.float32) / 100 / np.sqrt(np.prod(shape[1:]))
    weights = {"weight": Affine(rng.integers(-127, 128, shape), scale),
               "gain": dense(*rng.choice([-1, 1], o)), "bias": dense(*rng.normal(size=o))}
    return Step(name, kind, (reads,), size | {"gain": True, "bias": True} | args, weights)


def every_kind(rounding, zero_first=False):
    # A program with an instruction of each kind, names that C would not take among them.
    rng = np.random.default_rng(0)
    scale = Step("0", "scale", ("x",), {}, {"gain": dense(0.9, 1.1), "bias": dense(0.1, -0.2)})
    steps = [
        scale, quantize("int", "0", 0.02, 120),
        weighted(rng, "c1", "conv", "int", (6, 2, 3, 3), padding=1, then="relu6"),
        quantize("a.b", "c1", 0.015),
        weighted(rng, "c2", "conv", "a.b", (6, 1, 3, 2), stride=(2, 1), padding=(1, 1), groups=6),
        quantize("a-b", "c2", 0.021, -7, "full"),
        Step("wide", "avg_pool", ("a.b",), {"kernel_size": (3, 2), "stride": (2, 1),
                                           "padding": (1, 1)}),
        quantize("qw", "wide", 0.013, 5),
        Step("sum", "add", ("a-b", "qw", "a-b"), {"then": "relu"}), quantize("qs", "sum", 0.03, 3),
        Step("curve", "sigmoid", ("qs",)), quantize("qc", "curve", 0.004),
        Step("both", "concat", ("qc", "qs")), quantize("qj", "both", 0.02, 9),
        Step("mixed", "shuffle", ("qj",), {"groups": 3}),
        Step("most", "max_pool", ("mixed",), {"kernel_size": 3, "stride": 2, "padding": 1,
                                              "ceil_mode": True}),
        Step("row", "flatten", ("most",)),
        weighted(rng, "l1", "linear", "row", (7, 180), then="relu"), quantize("run", "l1", 0.02),
        weighted(rng, "fc", "linear", "run", (5, 7))]
    return Program(steps, input_shape=(2, 9, 8), precision="int8", rounding=rounding,
                   zero_first=zero_first)


def ties(rounding, zero_first):
    # Steps of 4 from steps of 1, around an odd zero point: a quarter of all sums are ties.
    layer = Step("fc", "linear", ("q",), {"out_features": 3, "bias": False},
                 {"weight": Affine(np.array([[1], [3], [-1]]), np.ones(3, np.float32))})
    wide = Step("wide", "add", ("qf", "qf"))
    return Program([quantize("q", "x", 1.0, 128), layer, quantize("qf", "fc", 4.0, 101),
                    wide, quantize("y", "wide", 16.0, 99)], input_shape=(1,), precision="int8",
                   rounding=rounding, zero_first=zero_first)


def run(program, folder, x):
    # What C makes of the codes of x: logits, and what they stand for.
    c99.export(program, folder)
    prefix = c99.prefix_of(folder.name)
    (folder / "main.c").write_text(MAIN.format(prefix, prefix.upper()))
    files = [str(path) for path in folder.glob("*.c")]
    subprocess.run(["gcc", *FLAGS, *files, "-o", str(folder / "run")], check=True)
    plan = program.plan(len(x))
    codes = next(plan.plain(name, y) for name, y in plan.walk(x))
    told = subprocess.run([folder / "run"], input=codes.tobytes(), capture_output=True, check=True)
    told = np.array(told.stdout.split(), float).reshape(len(x), -1, 2)
    return told[..., 0].astype(np.int32), told[..., 1]


def drawn(program, n, seed=0):
    shape = (n, *program.input_shape)
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@needs_gcc
@pytest.mark.parametrize("rounding, zero_first", RULES)
def test_every_kind_of_instruction_has_the_bits_of_the_runtime(rounding, zero_first, tmp_path):
    program = every_kind(rounding, zero_first)
    assert {i.kind for i in program.instructions} == set(c99._CALLS)
    x = drawn(program, 40)
    logits, numbers = run(program, tmp_path / "of-all", x)
    plan = program.plan(len(x))
    np.testing.assert_array_equal(logits, plan.integers(x), strict=True)
    np.testing.assert_allclose(numbers, plan(x), rtol=1e-6)
    assert len(np.unique(logits)) > 100


@needs_gcc
@pytest.mark.parametrize("rounding, zero_first", RULES)
def test_ties_go_where_those_of_the_runtime_go(rounding, zero_first, tmp_path):
    program, x = ties(rounding, zero_first), np.arange(-128, 128, dtype=np.float32)[:, None]
    logits, _ = run(program, tmp_path / "p", x)
    np.testing.assert_array_equal(logits, program.plan(256).integers(x), strict=True)


@needs_gcc
@pytest.mark.parametrize("end", ["codes", "table", "conv", "mean", "row"])
def test_programs_that_end_otherwise(end, tmp_path):
    rng = np.random.default_rng(1)
    mean = Step("mean", "adaptive_avg_pool", ("qc",), {"output_size": 1})
    steps = [quantize("q", "x", 0.02, 128),
             weighted(rng, "c", "conv", "q", (4, 3, 2, 2)), quantize("qc", "c", 0.02, 100)]
    steps = {"codes": steps, "table": [*steps, quantize("qd", "qc", 0.5, 3)], "conv": steps[:2],
             "mean": [*steps, mean], "row": [*steps, mean, Step("f", "flatten", ("mean",))]}[end]
    program = Program(steps, input_shape=(3, 5, 4), precision="int8")
    x = drawn(program, 10)
    logits, numbers = run(program, tmp_path / "end", x)
    plan = program.plan(len(x))
    np.testing.assert_array_equal(logits, plan.integers(x).reshape(10, -1), strict=True)
    np.testing.assert_allclose(numbers, plan(x).reshape(10, -1), rtol=1e-6)


def test_names_are_made_names_of_c(tmp_path):
    assert [c99.prefix_of(name) for name in ("a-b.c", "9lives", "_x", "", "stdint", "é" * 50)] == [
        "a_b_c", "s9lives", "x", "s", "stdint_net", "s"]
    text = c99.sources(every_kind("single"), "net")
    assert list(text) == ["net.h", "net_weights.h", "net.c"]
    assert "a_b_weight[108]" in text["net_weights.h"]
    assert "a_b_2_weight[36]" in text["net_weights.h"] and "run_step = {" in text["net.c"]
    assert "0.899999976 v + 0.100000001" in text["net.h"]


def test_values_share_memory(tmp_path):
    told = c99.export(every_kind("single"), tmp_path / "p")
    sizes = [6 * 9 * 8, 6 * 5 * 9]  # what lives at a time: a.b and what reads it
    assert sum(sizes) <= told["buffers"] < 2000


@needs_gcc
def test_what_a_small_net_takes(tmp_path):
    # Weights and all that goes with them, beside the packed weights.
    rng = np.random.default_rng(0)
    program = Program([quantize("q", "x", 0.02),
                       weighted(rng, "fc1", "linear", "q", (200, 400), then="relu"),
                       quantize("r", "fc1", 0.02), weighted(rng, "fc2", "linear", "r", (10, 200))],
                      input_shape=(400,), precision="int8")
    told = c99.export(program, tmp_path / "p")
    assert told["weights"] == 200 * 400 + 10 * 200 and told["buffers"] == 256
    assert told["weights"] < told["constants"] <= 1.05 * told["weights"]
    assert 100 < told["code"] < 3000 and 0 < told["stack"] < 600


def test_what_is_refused():
    with pytest.raises(ValueError, match="written of an integer program .*got precision float"):
        c99.sources(lower(MODELS["lenet300"]()), "net")
    two = Program([quantize("q", "x", 0.5), quantize("p", "x", 0.25),
                   Step("a", "add", ("q", "p")), quantize("y", "a", 0.5)], input_shape=(3,),
                  precision="int8")
    with pytest.raises(ValueError, match="whose input is quantized once, got q, p"):
        c99.sources(two, "net")


def test_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    program = every_kind("gemmlowp")
    minicomp.save(program, "p.mcz")
    assert main(["export", "p.mcz", "--c", "my net", "--json", "told.json"]) == 0
    assert "weights" in capsys.readouterr().out
    told = json.loads((tmp_path / "told.json").read_text())
    assert told["folder"] == "my net"
    weights = sum(i.arrays["weight"].size for i in program.instructions if "weight" in i.arrays)
    assert told["bytes"]["weights"] == weights
    for name, text in c99.sources(program, "my_net").items():
        assert (tmp_path / "my net" / name).read_text() == text
    for words, says in ((["p.mcz"], "one of --c DIR and --onnx G.onnx says what to write"),
                        (["p.mcz", "--c", "p.mcz"], "--c: p.mcz is no folder"),
                        (["lenet.mcz", "--c", "net"], "lenet.mcz: there is no such file")):
        assert main(["export", *words]) == 2
        assert says in capsys.readouterr().err
    minicomp.save(MODELS["lenet300"](), "lenet.mcz")
    assert main(["export", "lenet.mcz", "--c", "net"]) == 2
    assert "is on no grid: an integer program needs a quantize" in capsys.readouterr().err
