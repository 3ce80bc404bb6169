import numpy as np
import pytest

from minicomp.models import (ARGUMENTS, MODELS, AlexNet, MobileNetV1, ResNet20, ShuffleNet,
                             SqueezeNet10, VGGSmall, Xception, from_spec)

RNG = np.random.default_rng
AT_224 = {"classes": 1000, "resolution": 224, "width": 1.0}


@pytest.mark.parametrize("name, args, parameters, running, macs", [
    ("mobilenetv1", AT_224, 4_231_976, 4_253_864, 568_740_352),  # with running statistics: Keras
    ("mobilenetv1", AT_224 | {"width": 0.75}, 2_585_560, 2_601_976, 325_400_448),
    ("mobilenetv1", AT_224 | {"width": 0.5}, 1_331_592, 1_342_536, 149_497_088),
    ("mobilenetv1", AT_224 | {"width": 0.25}, 470_072, 475_544, 41_030_272),
    ("alexnet", AT_224, 61_100_840, 61_100_840, 714_188_480),  # torchvision
    ("squeezenet1_0", AT_224, 1_248_424, 1_248_424, 818_924_576),
    ("squeezenet1_1", AT_224, 1_235_496, 1_235_496, 349_151_936),
    ("xception", AT_224 | {"resolution": 299}, 22_855_952, 22_910_480, 8_357_403_496),  # Keras
    ("vggsmall", {"width": 1.0}, 14_029_726, 14_029_726 + 2 * 3850, 616_966_144),
    ("resnet20", {}, 272_474, 272_474 + 2 * 784, 40_813_184),
])
def test_parameters_and_macs_of_the_papers(name, args, parameters, running, macs):
    model = MODELS[name](**args)
    assert model.count() == parameters and model.origin_bytes == 4 * running
    assert sum(model.macs().values()) == macs


@pytest.mark.parametrize("groups, parameters, running, convolutions", [
    (1, 1_531_936, 1_546_624, 142_502_976), (2, 1_733_848, 1_754_248, 140_036_512),
    (3, 1_865_728, 1_890_208, 136_500_672), (4, 1_968_344, 1_996_088, 133_251_776),
    (8, 2_434_768, 2_473_936, 136_829_952)])
def test_shufflenet_has_the_macs_of_table_1_without_its_dense_layer(
        groups, parameters, running, convolutions):
    model = ShuffleNet(groups=groups, **AT_224)
    assert model.count() == parameters and model.origin_bytes == 4 * running
    macs = model.macs()
    assert macs.pop("fc") == 2 * 2 * model.shapes()["stage2.0.joined"][0] * 1000
    assert sum(macs.values()) == convolutions
    # 143, 140, 137, 133, 137 million in the paper
    assert round(convolutions / 1e6) == {1: 143, 2: 140, 3: 137, 4: 133, 8: 137}[groups]


def test_counts_by_hand():
    # BinaryConnect's binary weights are those of its hidden layers
    net = VGGSmall(width=1.0)
    hidden = [f"conv{i}.weight" for i in range(2, 7)] + ["fc7.weight", "fc8.weight"]
    assert sum(net.forms()[n].dense().data.size for n in hidden) == 14_008_320
    # He et al. 2016: option A has no parameters beside the input of a block, here two 1 x 1 + BN
    assert ResNet20().count() - (16 * 32 + 2 * 32) - (32 * 64 + 2 * 64) == 269_722
    for blocks, depth in ((1, 8), (3, 20), (4, 26), (9, 56)):
        kinds = [n.layer.kind for n in ResNet20(blocks=blocks).nodes if ".down" not in n.name]
        assert kinds.count("Conv2d") + kinds.count("Linear") == depth


@pytest.mark.parametrize("name, node, last, most", [
    ("mobilenetv1", "block13.pw", (256, 4, 4), 13), ("vggsmall", "conv6", (64, 8, 8), 11),
    ("resnet20", "layer3.2.add", (64, 8, 8), 41), ("alexnet", "features.12", (64, 3, 3), 13),
    ("squeezenet1_0", "classifier.1", (10, 4, 4), 20),
    ("squeezenet1_1", "classifier.1", (10, 4, 4), 7),
    ("shufflenet", "stage4.3.joined", (480, 4, 4), 12), ("xception", "sep2.pw", (256, 2, 2), 7)])
def test_at_32_pixels_a_net_fits_one_machine(name, node, last, most):
    model = MODELS[name]()
    assert model.input_shape == (3, 32, 32) and model.shapes()[node] == last
    assert most - 1 < sum(model.macs().values()) / 1e6 < most
    grey = MODELS[name](channels=1, resolution=28, classes=3, normalize="mnist")
    assert list(grey.shapes().values())[-1] == (3,)
    assert from_spec(grey.spec()).shapes() == grey.shapes()


def test_arguments_are_bounded():
    for make, given, message in (
            (MobileNetV1, {"width": 2.1}, r"width must be a number in \[0.05, 2.0\], got '2.1'"),
            (ShuffleNet, {"groups": 5}, "groups must be one of 1, 2, 3, 4, 8, got 5"),
            (ShuffleNet, {"groups": 9}, r"groups must be an integer in \[1, 8\], got '9'"),
            (AlexNet, {"resolution": 15}, r"resolution must be an integer in \[16, 224\]"),
            (VGGSmall, {"hidden": 3}, r"hidden must be an integer in \[0, 2\], got '3'"),
            (VGGSmall, {"resolution": 65}, r"resolution must be an integer in \[8, 64\]"),
            (ResNet20, {"blocks": 0}, r"blocks must be an integer in \[1, 9\], got '0'"),
            (Xception, {"resolution": 300}, r"resolution must be an integer in \[8, 299\]"),
            (SqueezeNet10, {"width": None}, "width must be a number")):
        with pytest.raises(ValueError, match=message):
            make(**given)


def test_every_net_exists_at_its_least_and_odd_sizes():
    for name, lo in (("mobilenetv1", 8), ("vggsmall", 8), ("resnet20", 8), ("alexnet", 16),
                     ("squeezenet1_0", 8), ("squeezenet1_1", 8), ("shufflenet", 8),
                     ("xception", 8)):
        most = ARGUMENTS[name]["resolution"].hi
        for resolution in sorted({min(n, most) for n in (lo, 33, 63, 64, 95, 96, 97)}):
            model = MODELS[name](resolution=resolution, width=0.05)
            assert list(model.shapes().values())[-1] == (10,), (name, resolution)


@pytest.mark.parametrize("groups", (1, 2, 3, 4, 8))
def test_a_unit_of_shufflenet_mixes_its_groups(groups):
    # Without the shuffle an output of a group would see the inputs of that group alone.
    model = ShuffleNet(groups=groups, width=0.1, resolution=8, rng=RNG(0))
    nodes = {n.name: n for n in model.nodes}
    assert nodes["stage2.0.gconv1"].layer.groups == 1
    for name in ("stage2.1.gconv1", "stage4.3.gconv2"):
        assert nodes[name].layer.groups == groups
    assert nodes["stage3.2.dw"].inputs == ("stage3.2.shuffle",)
    assert nodes["stage3.2.shuffle"].layer.groups == groups
    assert nodes["stage2.0.joined"].inputs == ("stage2.0.past", "stage2.0.bn3")


# torchvision's modules, written down as it names them. Weights are random.


def torchs_alexnet(torch, w):
    a, b, c, d, f = (int(n * w) for n in (64, 192, 384, 256, 4096))
    nn = torch.nn
    net = nn.Sequential()
    net.features = nn.Sequential(
        nn.Conv2d(3, a, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(a, b, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(b, c, 3, padding=1), nn.ReLU(), nn.Conv2d(c, d, 3, padding=1), nn.ReLU(),
        nn.Conv2d(d, d, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2))
    net.avgpool, net.flatten = nn.AdaptiveAvgPool2d(6), nn.Flatten()
    net.classifier = nn.Sequential(nn.Dropout(), nn.Linear(36 * d, f), nn.ReLU(), nn.Dropout(),
                                   nn.Linear(f, f), nn.ReLU(), nn.Linear(f, 10))
    return net


def fire_module(torch):
    class Fire(torch.nn.Module):
        def __init__(self, c, s, e):
            super().__init__()
            self.squeeze = torch.nn.Conv2d(c, s, 1)
            self.expand1x1 = torch.nn.Conv2d(s, e, 1)
            self.expand3x3 = torch.nn.Conv2d(s, e, 3, padding=1)

        def forward(self, x):
            x = self.squeeze(x).relu()
            return torch.cat([self.expand1x1(x).relu(), self.expand3x3(x).relu()], 1)

    return Fire


def torchs_squeezenet(torch, version):
    nn, fire = torch.nn, fire_module(torch)
    pool = nn.MaxPool2d(3, 2, ceil_mode=True)
    early, late = [fire(128, 32, 128)], [fire(256, 32, 128), fire(256, 48, 192),
                                         fire(384, 48, 192), fire(384, 64, 256)]
    if version == "1_0":
        net = [nn.Conv2d(3, 96, 7, stride=2), nn.ReLU(), pool, fire(96, 16, 64),
               fire(128, 16, 64), *early, pool, *late, pool, fire(512, 64, 256)]
    else:
        net = [nn.Conv2d(3, 64, 3, stride=2), nn.ReLU(), pool, fire(64, 16, 64),
               fire(128, 16, 64), pool, *early, late[0], pool, *late[1:], fire(512, 64, 256)]
    made = nn.Sequential()
    made.features = nn.Sequential(*net)
    made.classifier = nn.Sequential(nn.Dropout(), nn.Conv2d(512, 10, 1), nn.ReLU(),
                                    nn.AdaptiveAvgPool2d(1))
    made.flatten = nn.Flatten()
    return made


def torchs_resnet(torch, blocks):
    nn = torch.nn

    class BasicBlock(nn.Module):
        def __init__(self, c, o, stride):
            super().__init__()
            self.conv1 = nn.Conv2d(c, o, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(o)
            self.conv2 = nn.Conv2d(o, o, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(o)
            self.downsample = None if c == o else nn.Sequential(
                nn.Conv2d(c, o, 1, stride, bias=False), nn.BatchNorm2d(o))

        def forward(self, x):
            y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
            return (y + (x if self.downsample is None else self.downsample(x))).relu()

    net = nn.Sequential()
    net.conv1, net.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
    net.relu = nn.ReLU()
    for i, (c, o) in enumerate(((16, 16), (16, 32), (32, 64)), start=1):
        net.add_module(f"layer{i}", nn.Sequential(
            BasicBlock(c, o, 1 if c == o else 2),
            *(BasicBlock(o, o, 1) for _ in range(blocks - 1))))
    net.avgpool, net.flatten, net.fc = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)
    return net


@pytest.mark.peers
@pytest.mark.parametrize("name, args, make, size", [
    ("alexnet", {"width": 0.25}, lambda torch, w=0.25: torchs_alexnet(torch, w), 64),
    ("alexnet", {"width": 0.125}, lambda torch, w=0.125: torchs_alexnet(torch, w), 224),
    ("squeezenet1_0", {"width": 1.0}, lambda torch: torchs_squeezenet(torch, "1_0"), 96),
    ("squeezenet1_1", {"width": 1.0}, lambda torch: torchs_squeezenet(torch, "1_1"), 99),
    ("resnet20", {"blocks": 2}, lambda torch: torchs_resnet(torch, 2), 16)])
def test_torchvisions_state_dict_loads_as_it_is(name, args, make, size):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    theirs = make(torch).eval()
    for key, value in theirs.named_buffers():
        if key.endswith("running_mean"):
            value.normal_()
        elif key.endswith("running_var"):
            value.uniform_(0.5, 1.5)
    model = MODELS[name](resolution=size, **args)
    model.load_state_dict({key: value.numpy() for key, value in theirs.state_dict().items()})
    x = RNG(1).standard_normal((3, 3, size, size)).astype(np.float32)
    with torch.no_grad():
        want = theirs(torch.tensor(x)).numpy()
    assert want.std() > 1e-3
    np.testing.assert_allclose(model(x).data, want, rtol=1e-4, atol=1e-4 * np.abs(want).max())
