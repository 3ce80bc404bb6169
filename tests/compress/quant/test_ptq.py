import dataclasses

import numpy as np
import pytest

import minicomp
from minicomp.compress import PTQ, KMeans, Magnitude, Pipeline, Run, net_of
from minicomp.compress.quant.nodes import grids
from minicomp.compress.quant.ptq import MODES
from minicomp.compress.quant.schemes import sqnr
from minicomp.data import Dataset, Split
from minicomp.deploy import lower
from minicomp.errors import UserError
from minicomp.models import LeNet300
from minicomp.nn import (Add, AvgPool2d, BatchNorm2d, Conv2d, Flatten, Linear, Model, Node,
                         Normalize, ReLU, chain)



def rng(seed=0):
    return np.random.default_rng(seed)


def split(x):
    return Split(x.astype(np.float32), np.zeros(len(x), int))


def data(x):
    x = np.zeros((1, 3)) if x is None else x
    return Dataset("toy", split(x), split(x), None, ("a", "b"), "rendered")


def quantized(model, x, log=None, **knobs):
    return PTQ(**knobs).apply(model, data(x), Run(rng(), log))


def mlp(seed=0, n=12):
    r = rng(seed)
    return net_of((r.normal(size=(8, n)), r.normal(size=8)),
                  (r.normal(size=(6, 8)), r.normal(size=6)), r.normal(size=(3, 6)))


def images():
    # conv + BN + ReLU, a branch that is added, an average, a layer
    nodes = chain(("conv1", Conv2d(1, 3, 3, padding=1, bias=False)), ("bn1", BatchNorm2d(3)),
                  ("relu1", ReLU()), ("conv2", Conv2d(3, 3, 3, padding=1)))
    nodes += (Node("add", Add(), ("relu1", "conv2")),)
    tail = chain(("pool", AvgPool2d(2)), ("flat", Flatten()), ("fc", Linear(12, 4)))
    nodes += (dataclasses.replace(tail[0], inputs=("add",)), *tail[1:])
    model, r = Model(nodes, input_shape=(1, 4, 4)), rng(1)
    model.load_state_dict({name: r.normal(size=a.shape) ** (2 if "var" in name else 1)
                           for name, a in model.state_dict().items()})
    return model


def test_one_layer_by_hand():
    # w 1.27, -0.635: scale 0.01, codes 127, -64 (63.5 to even); x in -1..3: scale 4 / 255, zero 64
    model = net_of((np.array([[1.27, -0.635]]), np.array([0.5])))
    found = quantized(model, np.array([[-1.0, 0.0], [3.0, 1.0]]))
    form, grid = found.forms()["fc1.weight"], found.node("x_q").layer
    assert form.q.tolist() == [[127, -64]] and form.scale.data[0] == np.float32(0.01)
    assert grid.scale == np.float32(4 / 255) and grid.zero_point == 64
    x = np.array([[0.3, 10.0]], np.float32)  # 0.3: code 83, 19 steps; 10 saturates at 3
    want = 1.27 * 19 * 4 / 255 - 0.64 * 191 * 4 / 255 + 0.5
    assert found(x).data[0, 0] == pytest.approx(want, abs=1e-6)
    assert [n.name for n in found.nodes] == ["x_q", "fc1"], "logits stay as they are"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("make", [mlp, images], ids=["mlp", "images"])
def test_a_file_gives_what_the_net_gave(make, mode, tmp_path):
    model = make()
    x = rng().normal(size=(40, *model.input_shape)).astype(np.float32)
    found = quantized(model, x, mode=mode)
    minicomp.save(found, tmp_path / "q.mcz")
    read = minicomp.load(tmp_path / "q.mcz")
    np.testing.assert_array_equal(read(x).data, found(x).data)
    assert 30 < sqnr(model(x).data, found(x).data) < (120 if mode == "float16" else 60)
    assert bool(grids(read)) == (mode in ("full", "dynamic", "activations"))


@pytest.mark.parametrize("mode, w", [("float16", [65504, 1.0009765625, 2**-24]),
                                     ("bfloat16", [1e30, 1.0, 6e-8])])
def test_weights_of_16_bits_by_hand(mode, w):
    # Beyond 65504, between 1 and 1 + 2^-10, and below float16's least normal number
    given = np.float32([[1e30, 1.001, 6e-8]])
    found = quantized(net_of((given, np.array([0.3]))), None, mode=mode).forms()
    np.testing.assert_allclose(found["fc1.weight"].dense().data, [w], rtol=4e-3)
    assert found["fc1.weight"].dense().data[0, 1] == w[1]
    assert found["fc1.bias"].kind == "dense"


def test_modes_differ_in_what_becomes_of_values_beyond_the_range():
    x = rng().normal(size=(50, 12)).astype(np.float32)
    model, far = mlp(), 20 * x
    found = {mode: quantized(model, x, mode=mode) for mode in MODES}
    errors = {mode: sqnr(model(far).data, net(far).data) for mode, net in found.items()}
    assert errors["full"] < 5 < 25 < errors["dynamic"] < errors["weight-only"] < errors["float16"]


@pytest.mark.parametrize("bits, times", [(8, 4), (4, 8), (2, 16)])
def test_bytes_go_down_with_bits(bits, times, tmp_path):
    model = LeNet300(rng=rng())
    sizes = {}
    for name, net in {"float": model, "half": PTQ(mode="float16").apply(model, None, Run(rng())),
                      "q": PTQ(mode="weight-only", bits=bits).apply(model, None, Run(rng()))
                      }.items():
        minicomp.save(net, tmp_path / f"{name}.mcz")
        sizes[name] = (tmp_path / f"{name}.mcz").stat().st_size
    assert sizes["half"] < 0.5 * model.dense_bytes()  # half of it, and its exponents coded
    assert sizes["q"] < 1.01 * model.dense_bytes() / times + 410 * 4  # and a scale a row


def test_patterns_are_of_the_layer_that_reads():
    x = rng().normal(size=(40, 1, 4, 4)).astype(np.float32)
    found = quantized(images(), x, bits={"*": 4, "fc": 8}, act_bits={"*": 4, "conv1": 8, "fc": 6})
    assert {n: found.forms()[f"{n}.weight"].bits for n in ("conv1", "conv2", "fc")} == {
        "conv1": 4, "conv2": 4, "fc": 8}
    # relu1 is read by conv2 and, through the sum, by fc: the larger of 4 and 6
    assert {name: g.bits for name, g in grids(found).items()} == {
        "x_q": 8, "relu1_q": 6, "conv2_q": 6, "add_q": 6, "pool_q": 6}


def test_symmetric_activations_have_no_zero_points():
    x = rng().normal(size=(40, 1, 4, 4)).astype(np.float32)
    found = grids(quantized(images(), x, symmetric=True))
    assert {name: g.grid for name, g in found.items()} == {
        "x_q": "narrow", "relu1_q": "unsigned", "conv2_q": "narrow", "add_q": "narrow",
        "pool_q": "narrow"}
    assert not any("zero_point" in g.buffers for g in found.values())


def test_quantizing_again_replaces_the_grids():
    x = rng().normal(size=(40, 12)).astype(np.float32)
    first = quantized(mlp(), x)
    again = quantized(first, x, act_bits=4)
    assert list(grids(again)) == list(grids(first))
    assert {g.bits for g in grids(again).values()} == {4} and {
        g.bits for g in grids(first).values()} == {8}
    np.testing.assert_array_equal(again.forms()["fc1.weight"].q, first.forms()["fc1.weight"].q)


def test_masks_stay_and_shared_weights_are_refused_by_name():
    x = rng().normal(size=(40, 12)).astype(np.float32)
    pruned = Magnitude(sparsity=0.5).apply(mlp(), None, Run(rng()))
    found = quantized(pruned, x, moments="exact", correct="empirical", bits=3)
    for name in ("fc1.weight", "fc2.weight"):
        mask = pruned.forms()[name].mask
        assert not found.forms()[name].dense().data[~mask].any()
    shared = KMeans(bits=2).apply(pruned, None, Run(rng()))
    with pytest.raises(UserError, match="^ptq: fc1.weight must hold numbers of its own, got a cod"):
        quantized(shared, x)
    left = quantized(shared, x, mode="activations")
    assert left.forms()["fc1.weight"].kind == "codebook" and len(grids(left)) == 3
    with pytest.raises(UserError, match="^ptq: fc1.weight must hold"):
        Pipeline(steps=(KMeans(bits=2), PTQ())).check(mlp())


def test_a_program_gives_what_the_net_gives():
    x = rng().normal(size=(40, 12)).astype(np.float32)
    for mode in MODES:
        found = quantized(mlp(), x, mode=mode)
        np.testing.assert_allclose(lower(found)(x), found(x).data, atol=1e-4)


def test_an_integer_program_takes_batch_norm_as_it_is():
    x = rng().normal(size=(500, 1, 4, 4)).astype(np.float32)
    found = quantized(images(), x)
    assert any(node.layer.normalises for node in found.nodes)
    program = lower(found, precision="int8")
    step = program.instructions[-1].scale.max()  # of the accumulators, the least there is
    np.testing.assert_allclose(program(x), found(x).data, atol=200 * step)
    assert (program(x).argmax(axis=1) == found(x).data.argmax(axis=1)).mean() > 0.98


def test_the_method_decides_the_range():
    x = rng().normal(size=(500, 50)).astype(np.float32)
    x[0, 0] = 40.0
    methods = ("min-max", "percentile", "mse", "kl")
    scales = {method: grids(quantized(mlp(n=50), x, input_method=method))["x_q"].scale
              for method in methods}
    assert scales["min-max"] == pytest.approx(44 / 255, rel=0.05)
    inner = [grids(quantized(mlp(n=50), x, method=method)) for method in methods]
    assert len({found["x_q"].scale for found in inner}) == 1
    assert len({found["relu1_q"].scale for found in inner}) > 2
    assert scales["percentile"] < scales["min-max"]
    assert scales["kl"] < 0.5 * scales["min-max"]


@pytest.mark.parametrize("normalized", [False, True])
def test_a_background_that_is_not_0_leads_a_divergence_astray_but_not_the_default(normalized):
    r = rng()
    x = np.where(r.random((400, 1, 4, 4)) < 0.8, -0.42, r.uniform(0, 2.8, (400, 1, 4, 4)))
    x = x.astype(np.float32)
    nodes = chain(*[("norm", Normalize([0.0], [1.0]))] * normalized, ("flat", Flatten()),
                  ("fc1", Linear(16, 8)), ("relu", ReLU()), ("fc2", Linear(8, 3)))
    model = Model(nodes, input_shape=(1, 4, 4))
    model.load_state_dict({n: r.normal(size=a.shape) for n, a in model.state_dict().items()})
    found = [sqnr(model(x).data, quantized(model, x, method="kl", **more)(x).data)
             for more in ({}, {"input_method": "kl"})]
    assert found[0] > 25 > 15 > found[1]


def test_one_sided_and_constant_activations():
    model = net_of((np.zeros((2, 3)), np.array([0.0, 2.5])), np.array([[1.0, 2.0]]))
    found = quantized(model, np.full((5, 3), 3.4))  # x in 3.4..3.4, relu1 in {0, 2.5}
    assert grids(found)["x_q"].scale == np.float32(3.4 / 255)
    assert grids(found)["relu1_q"].scale == np.float32(2.5 / 255)
    assert found(np.full((1, 3), 3.4, np.float32)).data[0, 0] == pytest.approx(5.0, abs=1e-5)
    dead = net_of((np.zeros((2, 3)), np.zeros(2)), np.array([[1.0, 2.0]]))
    assert grids(quantized(dead, np.zeros((5, 3))))["relu1_q"].scale == 1
    assert (quantized(dead, np.zeros((5, 3)))(np.ones((1, 3), np.float32)).data == 0).all()


def test_activations_beyond_float_are_one_error():
    model = net_of((np.full((2, 3), 1e30), np.zeros(2)), np.full((1, 2), 1e30))
    model = model.rebuilt([*model.nodes, Node("relu2", ReLU(), ("fc2",)),
                           Node("fc3", Linear(1, 1), ("relu2",))])
    with pytest.raises(UserError, match="^ptq: calibration: the outputs of relu1 must be finite"):
        with np.errstate(over="ignore", invalid="ignore"):
            quantized(model, np.full((5, 3), 1e9))


@pytest.mark.parametrize("knobs, words", [
    ({"mode": "float16", "bits": 4}, "bits does not go with mode float16"),
    ({"mode": "weight-only", "act_bits": 4}, "act_bits does not go with mode weight-only"),
    ({"mode": "dynamic", "method": "kl"}, "method does not go with mode dynamic"),
])
def test_knobs_without_a_use_are_refused(knobs, words):
    with pytest.raises(UserError, match=words):
        PTQ(**knobs)


@pytest.mark.parametrize("knobs, words", [
    ({"bits": {"fc2": 1}}, "ptq: fc2: bits must be an integer in \\[2, 16\\] for grid narrow"),
    ({"symmetric": True, "act_bits": 1}, "ptq: act_bits: bits must be an integer in \\[2, 16\\]"),
    ({"method": "kl", "act_bits": 12}, "act_bits must be at most 10 for method kl, got 12"),
])
def test_bits_that_a_grid_has_not_are_refused(knobs, words):
    with pytest.raises(UserError, match=words):
        PTQ(**knobs).check(mlp())


def test_few_bits_cost_and_a_grid_each_channel_costs_less():
    # The claims of the whitepaper's section 3: at 8 bits a net is near the float one, at 4 it is
    # not; a grid each channel beats one a tensor where channels differ in size.
    r, x = rng(), rng(1).normal(size=(200, 12)).astype(np.float32)
    sizes = np.geomspace(0.01, 1, 8)[:, None]
    model = net_of((sizes * r.normal(size=(8, 12)), r.normal(size=8)))

    def quality(channel=slice(None), **knobs):
        found = quantized(model, x, act_bits=16, **knobs)
        bias = model.forms()["fc1.bias"].dense().data
        return sqnr((model(x).data - bias)[:, channel], (found(x).data - bias)[:, channel])

    assert quality() > 40 > 30 > quality(bits=4) > 10
    assert quality(0, bits=8, per="channel") > quality(0, bits=8, per="tensor") + 20
    assert quality(bits=3, clip="mse") > quality(bits=3) + 0.5


@pytest.mark.peers
@pytest.mark.parametrize("bits, act_bits", [(8, 8), (4, 6), (2, 2)])
def test_logits_are_those_of_torchs_fake_quantization(bits, act_bits):
    torch = pytest.importorskip("torch")
    x = rng().normal(size=(300, 12)).astype(np.float32)
    found = quantized(mlp(), x, bits=bits, act_bits=act_bits)
    top, h = 2 ** (bits - 1) - 1, torch.from_numpy(x)
    for node in found.nodes:
        layer = node.layer
        if node.name.endswith("_q"):
            h = torch.fake_quantize_per_tensor_affine(h, float(layer.scale), layer.zero_point, 0,
                                                      2 ** act_bits - 1)
        elif node.name.startswith("relu"):
            h = torch.relu(h)
        else:
            w = torch.from_numpy(mlp().forms()[f"{node.name}.weight"].dense().data)
            scale = w.abs().amax(dim=1) / top
            zeros = torch.zeros(len(w), dtype=torch.int32)
            w = torch.fake_quantize_per_channel_affine(w, scale, zeros, 0, -top, top)
            b = layer.forms.get("bias")
            h = torch.nn.functional.linear(h, w, b and torch.from_numpy(b.dense().data))
    apart = np.abs(h.numpy() - found(x).data).max(axis=1)
    assert np.median(apart) < 1e-5 and (apart > 1e-3).mean() < 0.02, "ties: torch multiplies"


def test_moments_of_a_pruned_layer_are_those_of_what_is_kept():
    # 4 of 40 weights are kept, at 3 bits one of them rounds to 0; every input is 1
    w = np.zeros((1, 40))
    w[0, :4] = 0.11, 0.45, 0.8, 1.0
    model, x = net_of((w, np.zeros(1))), np.ones((5, 40))
    mask = w != 0
    model.set_form("fc1.weight", model.forms()["fc1.weight"].masked(mask))
    twin = net_of((w[:, :4], np.zeros(1)))
    knobs = {"mode": "weight-only", "bits": 3, "moments": "exact"}
    pruned, whole = quantized(model, x, **knobs), quantized(twin, x[:, :4], **knobs)
    got, want = pruned(x.astype("f4")).data, whole(x[:, :4].astype("f4")).data
    np.testing.assert_allclose(got, want, rtol=1e-6)
    np.testing.assert_allclose(got, w.sum(), rtol=1e-5)  # the mean is kept, exactly
    assert not pruned.forms()["fc1.weight"].dense().data[~mask].any()


def test_a_channel_of_zeros_stays_nearly_that_on_a_grid_without_0():
    model = net_of((np.array([[0.1, -0.2, 0.3], [0, 0, 0]]), np.zeros(2)))
    for clip in ("max", "mse"):
        found = quantized(model, None, mode="weight-only", bits=4, grid="midrise", clip=clip)
        assert np.abs(found.forms()["fc1.weight"].dense().data[1]).max() < 1e-30


def test_the_divisor_and_the_rounding_of_torch_can_be_asked_for():
    w = np.array([[1.0, 0.5]])
    scale = {name: quantized(net_of(w), None, mode="weight-only", grid="full", divisor=name)
             .forms()["fc1.weight"].scale.data[0] for name in ("last-code", "half-range")}
    assert scale == {"last-code": np.float32(1 / 127), "half-range": np.float32(1 / 127.5)}
    r = rng()
    step = r.uniform(0.01, 0.1, (100, 1)).astype(np.float32)
    ties = np.append(np.arange(-125, 126, 2) / 2, 63).astype(np.float32) * step  # 63 is the last
    codes = [quantized(net_of(ties), None, mode="weight-only", bits=7, rounding=how)
             .forms()["fc1.weight"].q for how in ("divide", "reciprocal")]
    assert (codes[0] != codes[1]).any()


@pytest.mark.parametrize("knobs, wrong", [
    ({"mode": "dynamic", "samples": 7}, "samples does not go with mode dynamic"),
    ({"mode": "weight-only", "samples": 7}, "samples does not go with mode weight-only"),
    ({"mode": "float16", "divisor": "half-range"}, "divisor does not go with mode float16")])
def test_further_knobs_without_a_use_are_refused(knobs, wrong):
    with pytest.raises(UserError, match=wrong):
        PTQ(**knobs)
    PTQ(mode="weight-only", samples=7, correct="empirical")  # which reads examples


def test_a_group_is_of_a_row():
    with pytest.raises(UserError, match="fc1 takes per tensor or a group of each row, got both"):
        quantized(mlp(), None, mode="weight-only", per="tensor", group=4)
