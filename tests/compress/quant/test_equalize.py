"""Cross-layer equalisation: factors, chains, dead channels; absorbed biases, at borders too."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicomp.compress import Equalize, FoldBN, Run
from minicomp.compress.channels.couplings import peaks
from minicomp.compress.quant.equalize import (
    absorbed, divisors, equalisation_factors, equalised, shifted,
)
from minicomp.compress.quant.folding import fold, gaussians
from minicomp.compress.quant.rescaling import rescaled
from minicomp.compress.quant.schemes import Scheme
from minicomp.errors import UserError
from minicomp.models import MODELS
from minicomp.nn import (
    Add, AvgPool2d, BatchNorm2d, Codebook, Conv2d, Dense, Flatten, Linear, MaxPool2d, Model, Node,
    ReLU, ReLU6, Sigmoid, chain,
)

RNG = np.random.default_rng


def drawn(model, seed=0, spread=0.0):
    # He's normal weights; with a spread, the channels of each layer range over e^spread both ways.
    rng = RNG(seed)
    for name, form in model.forms().items():
        fan = np.prod(form.shape[1:]) if len(form.shape) > 1 else 8
        w = rng.standard_normal(form.shape) * np.sqrt(2 / fan)
        by = np.exp(spread * rng.uniform(-1, 1, (len(w), *[1] * (w.ndim - 1))))
        model.set_form(name, Dense((w * by).astype(np.float32)))
    for name, a in model.buffers().items():
        a[...] = rng.uniform(0.5, 2, a.shape)
    return model


def images(model, n=8):
    return RNG(7).standard_normal((n, *model.input_shape)).astype(np.float32)


def assert_same(made, model, rtol=2e-6):
    x = images(model)
    want = model(x).data
    np.testing.assert_allclose(made(x).data, want, rtol=0, atol=rtol * np.abs(want).max())


def triple(pad=1, act=ReLU):
    nodes = chain(("a", Conv2d(2, 4, 1)), ("ra", act()),
                  ("dw", Conv2d(4, 4, 3, padding=pad, groups=4)), ("rd", act()),
                  ("b", Conv2d(4, 3, 1)), ("f", Flatten()))
    return drawn(Model(nodes, input_shape=(2, 6, 6)), spread=2.0)


# --------------------------------------------------------------------------------- the factors


def test_ranges_meet_at_the_geometric_mean():
    r1, r2 = np.array([0.1, 4, 1]), np.array([2, 0.5, 1])
    s = equalisation_factors(r1, r2)
    np.testing.assert_allclose(r1 / s, [0.447, 1.414, 1], atol=5e-4)
    np.testing.assert_allclose(r2 * s, [0.447, 1.414, 1], atol=5e-4)
    assert equalisation_factors([0.0, 1, 0], [1.0, 0, 0]).tolist() == [1, 1, 1]


@given(st.lists(st.tuples(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3)), min_size=1, max_size=6))
def test_no_other_factors_give_more_precision(pairs):
    # the paper's objective, sum_i p1_i p2_i, p a channel's part of its tensor's range
    r1, r2 = np.array(pairs).T

    def precision(s):
        return (r1 / s / (r1 / s).max() * (r2 * s) / (r2 * s).max()).sum()

    best = precision(equalisation_factors(r1, r2))
    rng = RNG(0)
    for spread in (0.01, 0.3, 3):
        others = np.exp(spread * rng.standard_normal((50, len(r1)))) * equalisation_factors(r1, r2)
        assert all(precision(s) <= best * (1 + 1e-9) for s in others)


def test_factors_do_not_overflow():
    tiny, huge = np.array([1e-300]), np.array([1e300])
    assert equalisation_factors(huge, tiny)[0] == pytest.approx(1e300)
    assert equalisation_factors(tiny, huge)[0] == pytest.approx(1e-300)


# ------------------------------------------------------------------------------------- a model


@pytest.mark.parametrize("act", [ReLU, ReLU6])
def test_a_triple_is_equal_on_both_sides_of_every_channel_and_outputs_stay(act):
    model = triple(act=act)
    made = equalised(model)
    assert_same(made, model)
    a, dw, b = (peaks(made.node(name).layer) for name in ("a", "dw", "b"))
    np.testing.assert_allclose(a.max(axis=1), dw.max(axis=0), rtol=1e-3)
    np.testing.assert_allclose(dw.max(axis=1), b.max(axis=0), rtol=1e-3)
    again, rounds = divisors(made)
    assert rounds == 1 and all(np.allclose(s, 1, atol=1e-3) for s in again.values())


def test_the_result_does_not_depend_on_how_channels_were_scaled_before():
    model, rng = triple(), RNG(5)
    other = rescaled(model, {n: np.exp(rng.uniform(-4, 4, 4)) for n in ("a", "dw")})
    for name, form in equalised(other).forms().items():
        np.testing.assert_allclose(form.dense().data, equalised(model).forms()[name].dense().data,
                                   rtol=2e-3)


def test_a_case_by_hand():
    model = Model(chain(("a", Linear(1, 3)), ("r", ReLU()), ("b", Linear(3, 1))), input_shape=(1,))
    model.load_state_dict({"a.weight": [[0.1], [-4], [1]], "a.bias": [1, 2, 3],
                           "b.weight": [[-2, 0.5, 1]], "b.bias": [5]})
    made = equalised(model).state_dict()
    np.testing.assert_allclose(made["a.weight"].ravel(), [0.4472, -1.4142, 1], atol=1e-4)
    np.testing.assert_allclose(made["b.weight"].ravel(), [-0.4472, 1.4142, 1], atol=1e-4)
    np.testing.assert_allclose(made["a.bias"], [4.4721, 0.7071, 3], atol=1e-4)
    assert made["b.bias"] == [5]


@pytest.mark.parametrize("part, at", [("a", (1,)), ("b", (slice(None), 1))])
def test_a_dead_channel_is_left_alone(part, at):
    model = triple()
    w = model.forms()[f"{part}.weight"].value.data
    w[at] = 0
    s, _ = divisors(model)
    made = equalised(model)
    assert_same(made, model)
    assert s["a" if part == "a" else "dw"][1] == 1 and all(np.isfinite(v).all() for v in s.values())
    assert not made.forms()[f"{part}.weight"].dense().data[at].any()


def test_tied_layers_get_one_factor_from_the_largest_of_each_side():
    nodes = (Node("a", Conv2d(1, 1, 1)), Node("b", Conv2d(1, 1, 1)), Node("add", Add(), ("a", "b")),
             Node("r", ReLU(), ("add",)), Node("c", Conv2d(1, 1, 1), ("r",)),
             Node("f", Flatten(), ("c",)))
    model = drawn(Model(nodes, input_shape=(1, 3, 3)))
    for name, w in (("a", 2.0), ("b", 8.0), ("c", 0.5)):
        model.node(name).layer.weight = np.full((1, 1, 1, 1), w)
    s, _ = divisors(model)
    assert s["a"] == s["b"] == pytest.approx(4) and list(s) == ["a", "b"]
    assert_same(equalised(model), model)


def test_per_tensor_8_bits_lose_a_net_of_unequal_channels_and_equalised_keep_it():
    # the claim: eight bits a tensor, before and after, against one scale a channel
    model = triple()
    rng = RNG(5)
    model = rescaled(model, {n: np.exp(rng.uniform(-4, 4, 4)) for n in ("a", "dw")})

    def error(net, per="tensor"):
        quantized = net.copy()
        for name in ("a", "dw", "b"):
            form = quantized.forms()[f"{name}.weight"]
            quantized.set_form(f"{name}.weight", Scheme(bits=8, per=per).form(form))
        x = images(net)
        return np.linalg.norm(quantized(x).data - net(x).data) / np.linalg.norm(net(x).data)

    assert error(model, "channel") < 0.01 < error(equalised(model)) < 0.03
    assert error(model) > 0.5


# -------------------------------------------------------------------------- absorbed biases


def test_what_is_absorbed_by_hand():
    assert absorbed(np.array([5.0, 5, 1, -2]), np.array([1.0, -1, 1, 0.1])).tolist() == [2, 2, 0, 0]


def high(model, name="a", by=20.0):
    # A bias so high that no channel of the layer comes below `by`.
    model.node(name).layer.bias = np.full(model.node(name).layer.bias.shape, by + 100, np.float32)
    return model


@pytest.mark.parametrize("between", [(), (MaxPool2d(3, 1, padding=1),), (AvgPool2d(2),)])
def test_absorbing_is_exact_where_no_channel_falls_below_c(between):
    nodes = [("a", Conv2d(2, 4, 3, padding=1)), ("r", ReLU()),
             *((f"p{i}", p) for i, p in enumerate(between)), ("b", Conv2d(4, 3, 3)),
             ("f", Flatten())]
    model = high(drawn(Model(chain(*nodes), input_shape=(2, 8, 8))))
    c = np.array([20.0, 0, 5, 1])
    made = shifted(model, "a", c)
    assert_same(made, model)
    a, b = (made.forms()[f"{n}.bias"].dense().data - model.forms()[f"{n}.bias"].dense().data
            for n in ("a", "b"))
    np.testing.assert_allclose(a, -c, rtol=1e-5)
    w = model.forms()["b.weight"].dense().data
    np.testing.assert_allclose(b, np.einsum("oikl,i->o", w, c), rtol=1e-5)


def test_a_clip_comes_lower_by_as_much():
    model = triple(pad=0, act=ReLU6)
    for name in ("a", "dw"):
        model.node(name).layer.weight = 0.05 * model.node(name).layer.weight.dense().data
    model.node("a").layer.bias = np.full(4, 5.9, np.float32)
    model.node("a").layer.weight = np.clip(model.node("a").layer.weight.dense().data, -0.3, 0.3)
    x = images(model)
    reached = model(x, taps=["ra"])[1]["ra"].data
    assert reached.min() > 4 and (reached == 6).any()
    made = shifted(model, "a", np.array([4.0, 3, 0, 1]))
    np.testing.assert_allclose(made.buffers()["ra.ceiling"], [2, 3, 6, 5])
    assert_same(made, model)
    assert shifted(model, "a", np.array([7.0, 0, 0, 0])) is None  # nothing is left of the ceiling


def test_where_a_convolution_pads_a_bias_is_not_absorbed():
    model = high(triple(pad=1))
    c = np.array([20.0, 0, 5, 1])
    assert shifted(model, "a", c) is None
    # What it would do: right inside, wrong by W2 c beyond the border.
    w = model.forms()["dw.weight"].dense().data[:, 0]
    wrong = model.copy()
    wrong.node("a").layer.bias = model.forms()["a.bias"].dense().data - c
    wrong.node("dw").layer.bias = model.forms()["dw.bias"].dense().data + w.sum(axis=(1, 2)) * c
    x = images(model)
    off = (wrong(x, taps=["dw"])[1]["dw"].data - model(x, taps=["dw"])[1]["dw"].data)
    assert np.abs(off[:, :, 1:-1, 1:-1]).max() < 1e-3
    np.testing.assert_allclose(off[:, 0, 0, 0], c[0] * (w[0, 0].sum() + w[0, 1:, 0].sum()),
                               rtol=1e-3)
    assert shifted(high(triple(pad=0)), "a", c) is not None
    assert shifted(model, "a", np.zeros(4)) is not None


def test_sums_sigmoids_padded_averages_and_the_end_absorb_nothing():
    def net(*nodes):
        return high(drawn(Model(nodes, input_shape=(2, 6, 6))), "a")

    a, out = Node("a", Conv2d(2, 3, 1)), Conv2d(3, 2, 1)
    c = np.ones(3)
    assert shifted(net(a, Node("r", Sigmoid(), ("a",)), Node("b", out, ("r",))), "a", c) is None
    pool = Node("p", AvgPool2d(3, 1, 1), ("a",))
    assert shifted(net(a, pool, Node("b", out.copy(), ("p",))), "a", c) is None
    assert shifted(net(a, Node("r", ReLU(), ("a",))), "a", c) is None
    both = (Node("o", Conv2d(2, 3, 1)), Node("s", Add(), ("a", "o")), Node("b", out.copy(), ("s",)))
    assert shifted(net(a, *both), "a", c) is None
    two = (Node("r", ReLU(), ("a",)), Node("b", out.copy(), ("r",)), Node("d", out.copy(), ("r",)),
           Node("s", Add(), ("b", "d")))
    model = net(a, *two)
    assert_same(shifted(model, "a", c), model)


# ------------------------------------------------------------------------------ the technique


def applied(model, **knobs):
    told = []
    made = Equalize(**knobs).apply(model, None, Run(None, lambda row: told.append(row["text"])))
    return made, told


def test_batch_norms_are_folded_and_their_statistics_decide_what_is_absorbed():
    nodes = chain(("a", Conv2d(2, 4, 1, bias=False)), ("bn", BatchNorm2d(4)), ("ra", ReLU()),
                  ("b", Conv2d(4, 3, 1)), ("f", Flatten()))
    model = drawn(Model(nodes, input_shape=(2, 6, 6)))
    model.load_state_dict(model.state_dict() | {
        "bn.weight": [1, -1, 1, 1], "bn.bias": [5, 8, 1, -5], "bn.running_mean": [0, 0, 0, 0],
        "bn.running_var": [100, 100, 100, 100]})
    beta, gamma = gaussians(model)["a"]
    assert beta.tolist() == [5, 8, 1, -5] and gamma.tolist() == [1, 1, 1, 1]
    made, told = applied(model)
    assert [n.name for n in made.nodes] == ["a", "ra", "b", "f"]
    assert_same(made, model)  # variances of 100: no channel goes far below its mean
    s, _ = divisors(fold(model))
    plain, _ = applied(model, absorb=False)
    lower = plain.forms()["a.bias"].dense().data - made.forms()["a.bias"].dense().data
    np.testing.assert_allclose(lower, np.array([2, 5, 0, 0]) / s["a"], rtol=1e-5)
    assert "equalize: absorbed high biases of a" in told
    assert told[0].startswith("equalize: 4 channels of 1 layers, in ")
    folded = FoldBN().apply(model, None, Run(None))
    assert not any("absorbed" in text for text in applied(folded)[1])  # nothing tells


def test_a_net_with_padding_depthwise_says_where_it_could_not_absorb():
    model = drawn(MODELS["depthwise32"](width=0.25), spread=2.0)
    for name, form in model.forms().items():
        if name.endswith("_bn.bias"):
            form.value.data[...] = 5.9
    made, told = applied(model)
    said = next(text for text in told if "padding" in text)
    assert "stem" in said and "block1.pw" in said and "block1.dw" not in said
    plain, _ = applied(model, absorb=False)
    assert_same(plain, model, rtol=1e-5)


def test_a_net_without_such_channels_is_refused():
    model = Model(chain(("fc", Linear(3, 2)), ("s", Sigmoid()), ("g", Linear(2, 2))),
                  input_shape=(3,))
    with pytest.raises(UserError, match="^equalize: the model has no channels that could be resca"):
        applied(model)
    model = Model(chain(("fc", Linear(3, 2)), ("s", ReLU()), ("g", Linear(2, 2))), input_shape=(3,))
    model.set_form("g.weight", Codebook(np.zeros((2, 2), int), np.ones(1)))
    with pytest.raises(UserError, match="^equalize: the model has no channels that could be resca"):
        applied(model)


@pytest.mark.peers
@pytest.mark.parametrize("depthwise", [False, True])
def test_one_pair_is_torchs(depthwise):
    # torch takes largest less least for a range: these kernels hold each number with both signs
    torch = pytest.importorskip("torch")
    from torch.ao.quantization._equalize import cross_layer_equalization

    second = Conv2d(4, 4, 3, groups=4) if depthwise else Conv2d(4, 3, 3)
    model = drawn(Model(chain(("a", Conv2d(2, 4, 3)), ("r", ReLU()), ("b", second),
                              ("f", Flatten())), input_shape=(2, 8, 8)), spread=2.0)
    for name in ("a", "b"):
        w = model.forms()[f"{name}.weight"].value.data
        w -= w[..., ::-1, ::-1].copy()
    a, b = torch.nn.Conv2d(2, 4, 3), torch.nn.Conv2d(
        4, second.out_channels, 3, groups=second.groups)
    for module, name in ((a, "a"), (b, "b")):
        module.weight.data = torch.tensor(model.forms()[f"{name}.weight"].value.data)
        module.bias.data = torch.tensor(model.forms()[f"{name}.bias"].value.data)
    cross_layer_equalization(a, b, output_axis=0, input_axis=0 if depthwise else 1)
    made = equalised(model, rounds=1).forms()
    for module, name in ((a, "a"), (b, "b")):
        np.testing.assert_allclose(made[f"{name}.weight"].dense().data,
                                   module.weight.detach().numpy(), rtol=1e-5)
        np.testing.assert_allclose(made[f"{name}.bias"].dense().data,
                                   module.bias.detach().numpy(), rtol=1e-5)
