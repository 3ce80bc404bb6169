# On every test image of MNIST a program is its simulation to the bit, and a step from its model.
from dataclasses import replace

import numpy as np
import pytest

from minicomp import data
from minicomp.compress.finetune import FineTune
from minicomp.compress.quant.fold_bn import FoldBN
from minicomp.compress.quant.ptq import PTQ
from minicomp.compress.technique import Run
from minicomp.data import Split
from minicomp.deploy import lower
from minicomp.deploy.simulate import compared, simulated
from minicomp.models import DepthwiseNet32, LeNet5
from minicomp.train import evaluate

pytestmark = [pytest.mark.slow, pytest.mark.realdata]


@pytest.fixture(scope="module")
def mnist():
    if data.default_name() != "mnist":
        pytest.skip("the files of MNIST are not here")
    digits = data.load("mnist")
    return replace(digits, train=Split(digits.train.x[:6000], digits.train.y[:6000]))


@pytest.fixture(scope="module", params=["lenet5", "depthwise32"])
def quantized(request, mnist):
    rng = np.random.default_rng(0)
    if request.param == "lenet5":
        model = LeNet5(normalize="mnist", rng=rng)
    else:
        model = DepthwiseNet32(channels=1, resolution=28, normalize="mnist", rng=rng)
    run = Run(rng)
    model = FineTune(epochs=3, lr=0.003, optimizer="adam").apply(model, mnist.without_test(), run)
    return PTQ(samples=500).apply(FoldBN().apply(model, mnist.without_test(), run),
                                  mnist.without_test(), run)


@pytest.mark.parametrize("rounding", ["single", "gemmlowp", "float"])
def test_every_image(rounding, quantized, mnist):
    program = lower(quantized, precision="int8", rounding=rounding)
    plan = program.plan(1000, n_threads=2)
    for x in np.split(mnist.test.x, 10):
        want, _ = simulated(quantized, x, rounding=rounding)
        np.testing.assert_array_equal(plan.integers(x), want, strict=True)


@pytest.mark.parametrize("rounding", ["single", "float"])
def test_the_model_is_a_step_away(rounding, quantized, mnist):
    program = lower(quantized, precision="int8", rounding=rounding)
    found = compared(quantized, program, mnist.test.x)
    assert max(d.most for d in found.grids) <= 1 and found.flips <= 30
    assert max(d.share for d in found.grids if d.name != "add_q") < 0.005
    ours, theirs = (evaluate(m, mnist.test) for m in (program, quantized))
    assert abs(ours.errors - theirs.errors) <= found.flips and ours.error < 0.15


@pytest.mark.parametrize("rounding", ["single", "float"])
def test_sums_differ_from_the_model_at_ties_alone(rounding, quantized, mnist):
    # Two grids of one scale add up to one of twice that, so that every odd sum is a tie: `single`
    # rounds it upward, `float` to even, the model as the rounding of its float32 sums decides.
    if "add_q" not in (node.name for node in quantized.nodes):
        pytest.skip("the net adds nothing")
    program = lower(quantized, precision="int8", rounding=rounding)
    found, by_name = program.trace(mnist.test.x[:500]), {i.name: i for i in program.instructions}
    grids = [by_name[name].grid for name in by_name["add_q"].inputs]
    codes = [found[f"{name}.codes"] for name in by_name["add_q"].inputs]
    total = sum(np.float64(g.scale) * (q.astype(np.float64) - g.zero_point)
                for g, q in zip(grids, codes)) / np.float64(by_name["add_q"].grid.scale)
    reals = np.add(*[g.real(q) for g, q in zip(grids, codes)])
    differ = found["add_q.codes"] != quantized.node("add_q").layer.codes(reals)
    assert differ.any() and np.abs(np.abs(total - np.rint(total))[differ] - 0.5).max() < 1e-4
