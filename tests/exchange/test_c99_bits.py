# Binary programs as C, compiled and run against the runtime.
import shutil
import subprocess

import numpy as np
import pytest

from minicomp.deploy import integer_precision, lower
from minicomp.exchange import c99
from minicomp.nn import layers as nn
from minicomp.nn.forms import Affine, Binary, Dense
from minicomp.nn.graph import Model, chain

needs_gcc = pytest.mark.skipif(not shutil.which("gcc"), reason="needs gcc")
FLAGS = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-O1"]
# Reads examples from standard input until it ends, writes sums and logits of each.
MAIN = """
#include <stdio.h>
#include "{0}.h"
int main(void)
{{
    static uint8_t x[{1}_INPUTS];
    static int32_t y[{1}_OUTPUTS];
    static float f[{1}_OUTPUTS];
    int i;
    while (fread(x, 1, sizeof x, stdin) == sizeof x) {{
        {0}_run(x, y);
        {0}_logits(y, f);
        for (i = 0; i < {1}_OUTPUTS; i++) printf("%ld %.9g ", (long)y[i], f[i]);
    }}
    return 0;
}}
"""
Q = {"bits": 8, "grid": "unsigned", "zero_point": True}


def filled(model, integers):
    rng = np.random.default_rng(0)
    for name, form in model.forms().items():
        w = rng.normal(size=form.shape).astype(np.float32)
        if name in integers:
            model.set_form(name, Affine.of(w, np.full(len(w), 0.02, np.float32)))
        elif w.ndim > 1:
            model.set_form(name, Binary.of(w, rng.choice([-1, 0.3, 1], len(w))))
        else:
            model.set_form(name, Dense(w))
    for name, a in model.buffers().items():
        if name.startswith("bn"):
            a[...] = rng.uniform(0.5, 3, a.shape)
    model.node("q").layer.set_range(-1.0, 2.0)
    return model


def convs(integers):
    return filled(Model(chain(
        ("q", nn.ActQuant(**Q)), ("p0", nn.MaxPool2d(2, 1)), ("c1", nn.Conv2d(2, 9, 3, padding=1)),
        ("p1", nn.MaxPool2d(2)), ("bn1", nn.BatchNorm2d(9)), ("s1", nn.Sign()),
        ("c2", nn.Conv2d(9, 17, 3, padding=(2, 1), stride=(2, 1))), ("bn2", nn.BatchNorm2d(17)),
        ("s2", nn.Sign()), ("p2", nn.MaxPool2d(2)), ("flat", nn.Flatten()),
        ("fc1", nn.Linear(51, 13)), ("bn3", nn.BatchNorm1d(13)), ("s3", nn.Sign()),
        ("fc2", nn.Linear(13, 4)), ("bn4", nn.BatchNorm1d(4))), input_shape=(2, 9, 13)), integers)


def flat(integers):
    return filled(Model(chain(
        ("q", nn.ActQuant(**Q)), ("fc1", nn.Linear(11, 20)), ("bn1", nn.BatchNorm1d(20)),
        ("s1", nn.Sign()), ("fc2", nn.Linear(20, 3))), input_shape=(11,)), integers)


@needs_gcc
@pytest.mark.parametrize("net, integers", [
    (convs, ()), (convs, ("c1.weight", "fc2.weight")), (flat, ("fc1.weight",)),
    (flat, ("fc2.weight",))])
def test_sums_and_logits_are_those_of_the_runtime(net, integers, tmp_path):
    model = net(integers)
    assert integer_precision(model) == "binary"
    program = lower(model, precision="binary")
    told = c99.export(program, tmp_path / "a-net")
    (tmp_path / "a-net/main.c").write_text(MAIN.format("a_net", "A_NET"))
    files = [str(path) for path in (tmp_path / "a-net").glob("*.c")]
    subprocess.run(["gcc", *FLAGS, *files, "-o", str(tmp_path / "run")], check=True)
    x = np.random.default_rng(1).normal(size=(40, *program.input_shape)).astype(np.float32)
    plan = program.plan(40)
    codes = next(plan.plain(name, y) for name, y in plan.walk(x))
    out = subprocess.run([tmp_path / "run"], input=codes.tobytes(), capture_output=True,
                         check=True).stdout.split()
    out = np.array(out, float).reshape(40, -1, 2)
    np.testing.assert_array_equal(out[..., 0].astype(np.int32), plan.integers(x), strict=True)
    np.testing.assert_array_equal(out[..., 1].astype(np.float32), plan(x), strict=True)
    assert len(np.unique(out[..., 0])) > 5 and told["weights"] < 2 * 17 * 81 + 9 * 18 + 52


def test_values_take_a_bit_a_number():
    room = c99._planned(c99.bits.fused(lower(convs(()), precision="binary").instructions))
    assert room.size <= 2 * 9 * 13 + 192 + 64  # codes twice, a cache line each
