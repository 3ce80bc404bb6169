"""The modelled energy of nets whose counts are done by hand."""

from dataclasses import replace

import numpy as np
import pytest

import minicomp
from minicomp import comparison, energy
from minicomp import data as datasets
from minicomp.compress import PTQ, Magnitude
from minicomp.compress.technique import Run
from minicomp.data.dataset import Split
from minicomp.deploy import lower
from minicomp.models import LeNet300
from minicomp.nn import Dense
from minicomp.nn.graph import Model, Node
from minicomp.nn.layers import Conv2d, Flatten, Linear


def by_hand():
    # A convolution of 2 filters of 1 x 2 x 2 on 3 x 3 pixels, four places: 6 of its 8 weights are
    # not 0, 24 products; then 8 x 3 weights of which 4 are not 0, one place.
    model = Model([Node("conv", Conv2d(1, 2, 2)), Node("flat", Flatten(), ("conv",)),
                   Node("fc", Linear(8, 3), ("flat",))], input_shape=(1, 3, 3))
    conv, fc = np.ones((2, 1, 2, 2), np.float32), np.zeros((3, 8), np.float32)
    conv[0, 0, 0], fc[0, :4] = 0, 1
    model.set_form("conv.weight", Dense(conv, conv != 0))
    model.set_form("fc.weight", Dense(fc, fc != 0))
    return model


def test_a_net_by_hand():
    model = by_hand()
    assert energy.products(model) == (24 + 4, 0)
    # 28 x (3.7 + 0.9) pJ, and 100 bytes: 13 words of 64 bits out of 8 KiB at 10 pJ.
    assert energy.modelled(model, 100) == pytest.approx(1e-6 * (28 * 4.6 + 13 * 10))
    assert energy.modelled(lower(model), 100) == energy.modelled(model, 100)


@pytest.mark.parametrize("size, picojoules", [
    (0, 0), (1, 10), (8, 10), (9, 20), (8192, 1024 * 10), (8193, 1025 * 20), (32768, 4096 * 20),
    (32769, 4097 * 100), (1 << 20, (1 << 17) * 100), ((1 << 20) + 1, ((1 << 17) + 1) * 1300)])
def test_a_file_is_read_from_the_smallest_memory_that_holds_it(size, picojoules):
    assert energy.reading(size) == picojoules


@pytest.fixture(scope="module")
def quantized():
    whole = datasets.load("glyphs")
    few = replace(whole, **{p: getattr(whole, p).take(slice(60)) for p in ("train", "val", "test")})
    model = LeNet300(normalize=few.normalize, rng=np.random.default_rng(0))

    def made(**knobs):
        return PTQ(**knobs).apply(
            model, few.without_test(), Run(np.random.default_rng(0)))

    return made


def test_integers_are_multiplied_where_the_program_multiplies_them(quantized):
    model = quantized()
    program = lower(model, precision="int8")
    kept = sum(model.effective_macs().values())
    assert energy.products(model) == (kept, 0), "a model runs as float32"
    assert energy.products(program) == (0, kept)
    assert energy.modelled(program, 0) == pytest.approx(1e-6 * kept * (0.2 + 0.1))
    dynamic = lower(quantized(mode="dynamic"), precision="int8-dynamic")
    assert energy.products(dynamic) == (0, kept)
    weights = lower(quantized(mode="weight-only"), precision="weight-only")
    assert energy.products(weights) == (kept, 0), "codes are decoded and multiplied as float32"


def test_compare_has_the_column_where_it_is_asked_for(tmp_path):
    rng = np.random.default_rng(1)
    split = Split(rng.random((20, 1, 28, 28), np.float32), rng.integers(0, 10, 20))
    dense = LeNet300(normalize=None, rng=np.random.default_rng(0))
    nets = {"dense.mcz": dense, "half.mcz": Magnitude(sparsity=0.5).apply(dense, None, Run(None))}
    for name, net in nets.items():
        minicomp.save(net, tmp_path / name)
    files = [(tmp_path / name, net) for name, net in nets.items()]
    rows = comparison.compare(files, split, timed=False, energy=True)
    assert rows[0].energy == pytest.approx(1e-6 * (
        266_200 * 4.6 + energy.reading(rows[0].bytes))) and rows[1].energy < rows[0].energy
    assert comparison.table(rows)[0][-1] == "modelled uJ"
    assert "modelled_uj" in comparison.as_csv(rows).splitlines()[0]
    assert "modelled uJ" in comparison.as_latex(rows)
    assert all("energy" in costs for costs in comparison.fronts(rows)[1:])
    without = comparison.compare(files, split, timed=False)
    assert comparison.table(without)[0] == list(comparison.HEADERS)
    assert "modelled" not in comparison.as_csv(without) + comparison.as_latex(without)
