# On every test image of MNIST a binary program is its simulation to the bit.
from dataclasses import replace

import numpy as np
import pytest

from minicomp import data
from minicomp.compress import TECHNIQUES
from minicomp.compress.technique import Run
from minicomp.data import Split
from minicomp.deploy import lower
from minicomp.deploy.simulate import compared
from minicomp.deploy.simulate_binary import simulated_binary
from minicomp.jobs.recipe import parse_with
from minicomp.models import LeNet5Classic, LeNet300
from minicomp.train import evaluate

pytestmark = [pytest.mark.slow, pytest.mark.realdata]
TRAINING = "epochs=4,lr=0.005,optimizer=adam"
# First and last layers of 8 bits; all layers of signs, batch norms by shifts.
NETS = [(LeNet5Classic, "bnn:real@conv1=true,real@fc3=true"), (LeNet300, "bnn:norm=shift")]


@pytest.fixture(scope="module")
def mnist():
    if data.default_name() != "mnist":
        pytest.skip("the files of MNIST are not here")
    digits = data.load("mnist")
    return replace(digits, train=Split(digits.train.x[:6000], digits.train.y[:6000]))


@pytest.mark.parametrize("net, how", NETS)
def test_every_image(net, how, mnist):
    model, run = net(normalize="mnist", rng=np.random.default_rng(0)), Run(np.random.default_rng(0))
    for step in parse_with([f"{how},{TRAINING}", "ptq:samples=500"], TECHNIQUES).steps:
        model = step.apply(model, mnist.without_test(), run)
    program = lower(model, precision="binary")
    plan = program.plan(1000, n_threads=2)
    for x in np.split(mnist.test.x, 10):
        logits, sums, _ = simulated_binary(model, x)
        np.testing.assert_array_equal(plan.integers(x), sums, strict=True)
        np.testing.assert_array_equal(plan(x), logits, strict=True)
    found = compared(model, program, mnist.test.x)
    assert max(d.share for d in found.grids) < 0.001 and found.flips <= 30
    ours, theirs = (evaluate(m, mnist.test) for m in (program, model))
    assert abs(ours.errors - theirs.errors) <= found.flips and ours.error < 0.12
