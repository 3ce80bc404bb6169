import numpy as np
import pytest

from minicomp.models import DepthwiseNet32, MobileNetV2, from_spec
from minicomp.models.arguments import widened
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


def test_channels_are_rounded_as_mobilenet_rounds_them():
    # make_divisible of the authors' code: multiples of 8, at most a tenth below
    widths = (1.0, 0.75, 0.5, 0.35, 0.25, 0.1, 1.4)
    assert [widened(32, w) for w in widths] == [32, 24, 16, 16, 8, 8, 48]
    for channels in (8, 16, 24, 32, 64, 96, 128, 160, 320):
        for width in np.linspace(0.05, 4, 80):
            wide = widened(channels, width)
            assert wide % 8 == 0 and wide >= 0.9 * channels * width
            assert wide == 8 or wide <= channels * width + 8


def test_width_and_resolution_are_arguments():
    model = DepthwiseNet32(width=0.5, resolution=48, classes=3, channels=1)
    args = {"classes": 3, "channels": 1, "resolution": 48, "width": 0.5}
    assert model.builtin == {"name": "depthwise32", "args": args}
    shapes = model.shapes()
    assert shapes["stem"] == (16, 24, 24) and shapes["block3.pw"] == (64, 12, 12)
    assert shapes["fc"] == (3,)
    back = from_spec(model.spec())
    assert back.shapes() == shapes and back.spec() == model.spec()
    assert DepthwiseNet32(width=1, resolution=32).builtin["args"] == {}
    with pytest.raises(ValueError, match=r"width must be a number in \[0.05, 4.0\], got '0.04'"):
        DepthwiseNet32(width=0.04)
    with pytest.raises(ValueError, match=r"resolution must be an integer in \[8, 224\], got '7'"):
        DepthwiseNet32(resolution=7)


def test_mobilenet_v2_has_the_parameters_and_macs_of_the_paper_at_224():
    # torchvision counts 3,504,872, Keras with the running statistics 3,538,984; "300 M" of table 4
    model = MobileNetV2(classes=1000, resolution=224)
    assert model.count() == 3_504_872
    assert model.origin_bytes == 4 * 3_538_984
    assert sum(model.macs().values()) == 300_774_272
    shapes = model.shapes()
    assert shapes["features.0.0"] == (32, 112, 112) and shapes["features.18.0"] == (1280, 7, 7)
    assert {n: s for n, s in shapes.items() if n.endswith(".add")} == {
        f"features.{i}.add": (c, n, n) for i, c, n in (
            (3, 24, 56), (5, 32, 28), (6, 32, 28), (8, 64, 14), (9, 64, 14), (10, 64, 14),
            (12, 96, 14), (13, 96, 14), (15, 160, 7), (16, 160, 7))}


def test_mobilenet_v2_keeps_small_maps_in_its_first_layers():
    model = MobileNetV2()
    shapes = model.shapes()
    assert shapes["features.2.conv.3"] == (24, 32, 32) and shapes["features.18.0"] == (1280, 4, 4)
    assert round(sum(model.macs().values()) / 1e6) == 88
    assert MobileNetV2(resolution=95).shapes()["features.0.0"] == (32, 95, 95)
    assert MobileNetV2(resolution=96).shapes()["features.18.0"] == (1280, 3, 3)
    assert MobileNetV2(resolution=8, width=0.35).shapes()["features.18.0"] == (1280, 1, 1)


def test_mobilenet_v2_has_torchvisions_names():
    names = list(MobileNetV2(width=0.5).state_dict())
    assert len(names) == 52 * 5 + 2  # convolutions with their batch norms, and the dense layer
    for name in ("features.0.0.weight", "features.1.conv.0.0.weight", "features.1.conv.1.weight",
                 "features.1.conv.2.running_mean", "features.2.conv.0.1.running_var",
                 "features.17.conv.1.0.weight", "features.17.conv.2.weight",
                 "features.17.conv.3.bias", "features.18.1.weight", "classifier.1.bias"):
        assert name in names
    wide = MobileNetV2(width=1.4, classes=3, normalize="cifar10")
    assert wide.shapes()["features.18.0"] == (1792, 4, 4)
    assert from_spec(wide.spec()).shapes() == wide.shapes()
    with pytest.raises(ValueError, match=r"width must be a number in \[0.05, 2.0\], got '2.1'"):
        MobileNetV2(width=2.1)
