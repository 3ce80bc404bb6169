# Every built-in net with what joins and shuffles in it as a program of each precision.
from types import SimpleNamespace

import numpy as np
import pytest

from minicomp.codec import decode, encode
from minicomp.compress.quant.fold_bn import FoldBN
from minicomp.compress.quant.ptq import PTQ
from minicomp.compress.technique import Run
from minicomp.deploy import lower
from minicomp.deploy.simulate import simulated
from minicomp.models import MODELS

NETS = list(MODELS)[4:]


def images(model):
    return np.random.default_rng(0).random((6, *model.input_shape), np.float32)


def quantized(model, **knobs):
    x = images(model)
    data = SimpleNamespace(train=SimpleNamespace(x=x, y=np.zeros(len(x), np.int64)),
                           calibration=lambda n, rng: x)
    run = Run(np.random.default_rng(0))
    return PTQ(**knobs).apply(FoldBN().apply(model, None, run), data, run), x


def alive(model):
    # Initial weights, and running statistics of what goes through the net.
    rng, x = np.random.default_rng(0), images(model)
    for _ in range(20):
        model(x, training=True, rng=rng)
    return model


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=[pytest.mark.slow] * (name in ("mobilenetv2", "xception")))
    for name in NETS])
def test_the_integer_program_is_the_simulation(name, built_in):
    model, x = quantized(alive(built_in(name, rng=np.random.default_rng(1))))
    program = lower(model, precision="int8")
    assert program.integer
    want, codes = simulated(model, x)
    got = program.plan(len(x)).integers(x)
    np.testing.assert_array_equal(got, want, strict=True)
    assert len(np.unique(got)) > 20 and all(len(np.unique(c)) > 5 for c in codes.values())
    again = decode(encode(program)).model
    np.testing.assert_array_equal(again.plan(len(x)).integers(x), got, strict=True)


@pytest.mark.parametrize("name", NETS)
def test_other_programs_compute_their_model(name, nets, built_in):
    drawn = nets.drawn(built_in(name))
    for mode, precision in (("dynamic", "int8-dynamic"), ("weight-only", "weight-only")):
        model, x = quantized(drawn, mode=mode)
        program = lower(model, precision=precision)
        got, want = program(x), model(x).data
        error = np.sqrt(np.mean((got - want) ** 2) / np.mean(want**2))
        # of a dynamic one a value may round to the next code
        assert error < (1e-5 if precision == "weight-only" else 0.02)
