import numpy as np
import pytest

from minicomp.models import DepthwiseNet32
from minicomp.models.mobilenet import separable


def test_depthwise32_is_what_its_docstring_says():
    model = DepthwiseNet32()
    shapes = model.shapes()
    assert shapes["stem"] == (32, 16, 16) and shapes["block1.pw"] == (64, 16, 16)
    assert shapes["block2.pw"] == (128, 8, 8) and shapes["block3.pw"] == (128, 8, 8)
    assert shapes["add"] == (128, 8, 8) and shapes["pool"] == (128, 1, 1) and shapes["fc"] == (10,)
    assert model.node("add").inputs == ("block2.pw_relu", "block3.pw_relu")
    assert sum(n.layer.kind == "Add" for n in model.nodes) == 1
    assert {n.layer.kind for n in model.nodes} == {
        "Conv2d",
        "BatchNorm2d",
        "ReLU6",
        "Add",
        "AdaptiveAvgPool2d",
        "Flatten",
        "Linear",
    }


def test_parameters_and_macs_by_hand():
    model = DepthwiseNet32()
    conv = 3 * 32 * 9 + 32 * 9 + 32 * 64 + 64 * 9 + 64 * 128 + 128 * 9 + 128 * 128
    channels = 32 + 32 + 64 + 64 + 128 + 128 + 128
    assert model.count() == conv + 2 * channels + 128 * 10 + 10
    assert model.origin_bytes == 4 * (model.count() + 2 * channels)
    macs = (
        256 * (3 * 32 * 9 + 32 * 9 + 32 * 64)
        + 64 * (64 * 9 + 64 * 128 + 128 * 9 + 128 * 128)
        + 1280
    )
    assert sum(model.macs().values()) == macs <= 4_000_000


def test_a_separable_block_costs_what_the_paper_says():
    # MobileNet, section 3.1: a separable convolution takes 1/N + 1/K^2 of the multiplications of
    # a full one
    model = DepthwiseNet32()
    macs = model.macs()
    full = 256 * 64 * 32 * 9
    assert macs["block1.dw"] + macs["block1.pw"] == pytest.approx(full * (1 / 64 + 1 / 9))
    dw = dict(separable("b", 8, 16, 2))["b.dw"]
    assert (dw.groups, dw.stride, dw.padding) == (8, (2, 2), (1, 1)) and "bias" not in dw.forms


def test_the_residual_add_is_of_the_block_and_its_input():
    model = DepthwiseNet32(rng=np.random.default_rng(0))
    x = np.random.default_rng(1).standard_normal((2, 3, 32, 32)).astype(np.float32)
    _, taps = model(x, taps=("block2.pw_relu", "block3.pw_relu", "add"))
    np.testing.assert_array_equal(
        taps["add"].data, taps["block2.pw_relu"].data + taps["block3.pw_relu"].data
    )
