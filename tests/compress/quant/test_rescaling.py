"""Rescaling of channels: outputs stay, whatever lies between; what cannot take part is refused."""

import numpy as np
import pytest

from minicomp.data import Dataset, Split
from minicomp.compress import AWQ, Equalize, PTQ, SmoothQuant, Run, net_of
from minicomp.compress.quant.folding import fold
from minicomp.compress.quant.rescaling import rescaled, sites, times
from minicomp.deploy import lower
from minicomp.errors import UserError
from minicomp.models import MODELS
from minicomp.nn import (
    ActQuant, ActTopK, AdaptiveAvgPool2d, Add, AvgPool2d, BatchNorm2d, ChannelShuffle, Codebook,
    Concat, Conv2d, Dense, Dropout, Flatten, Linear, MaxPool2d, Model, Node, ReLU, ReLU6, Sigmoid,
    chain,
)

RNG = np.random.default_rng


def drawn(model, seed=0):
    # He's normal weights, so that activations keep their size; small biases.
    rng = RNG(seed)
    for name, form in model.forms().items():
        fan = np.prod(form.shape[1:]) if len(form.shape) > 1 else 8
        w = rng.standard_normal(form.shape) * np.sqrt(2 / fan)
        model.set_form(name, Dense(w.astype(np.float32)))
    for name, a in model.buffers().items():
        a[...] = rng.uniform(0.5, 2, a.shape)
    return model


def images(model, n=6):
    return RNG(7).standard_normal((n, *model.input_shape)).astype(np.float32)


def assert_same(made, model):
    # PAPERS.md pins 1e-6 of what the outputs are; sums of thousands of products round to more.
    x = images(model)
    want = model(x).data
    np.testing.assert_allclose(made(x).data, want, rtol=0, atol=2e-6 * np.abs(want).max())


def moved(model, seed=3, spread=1.0):
    # The model with every site rescaled by factors around 1.
    rng, divisors = RNG(seed), {}
    for site in sites(model):
        divisors |= site.divisors(np.exp(spread * rng.standard_normal(site.n)))
    return rescaled(model, divisors), divisors


def through(*between, out=None, size=(6, 6), channels=4):
    # conv -> between -> a layer that reads
    nodes = [("a", Conv2d(2, channels, 3, padding=1)),
             *((f"m{i}", b) for i, b in enumerate(between)),
             ("b", out or Conv2d(channels, 3, 3, padding=1)), ("end", Flatten())]
    return drawn(Model(chain(*nodes), input_shape=(2, *size)))


BETWEEN = {
    "nothing": (), "relu": (ReLU(),), "max": (ReLU(), MaxPool2d(2)),
    "avg": (AvgPool2d(2, 1, 1), ReLU()),
    "adaptive": (AdaptiveAvgPool2d(2),), "dropout": (Dropout(0.5), ReLU()),
    "shuffle": (ChannelShuffle(2), ReLU()), "relu6": (ReLU6(), MaxPool2d(2)),
}


@pytest.mark.parametrize("name", BETWEEN)
def test_outputs_stay_through_everything_homogeneous(name):
    model = through(*BETWEEN[name])
    (site,) = sites(model)
    assert list(site.writers) == ["a"] and list(site.readers) == ["b"] and site.n == 4
    made, divisors = moved(model)
    assert_same(made, model)
    np.testing.assert_allclose(made.forms()["a.weight"].dense().data,
                               model.forms()["a.weight"].dense().data
                               / divisors["a"].reshape(-1, 1, 1, 1), rtol=1e-6)
    np.testing.assert_allclose(made.forms()["a.bias"].dense().data,
                               model.forms()["a.bias"].dense().data / divisors["a"], rtol=1e-6)
    assert not np.allclose(made.forms()["b.weight"].dense().data,
                           model.forms()["b.weight"].dense().data)


def test_relu6_becomes_a_clip_of_6_over_s_and_a_program_runs_it():
    model = through(ReLU6())
    x = 20 * images(model)
    assert (model(x, taps=["m0"])[1]["m0"].data == 6).mean() > 0.2, "it clips"
    made, divisors = moved(model)
    clip = made.node("m0").layer
    assert clip.kind == "ClipChannels"
    np.testing.assert_allclose(clip.buffers["ceiling"], 6 / divisors["a"], rtol=1e-6)
    want = model(x).data
    for got in (made(x).data, lower(made).plan(6)(x)):
        np.testing.assert_allclose(got, want, atol=2e-6 * np.abs(want).max())
    again, _ = moved(made, seed=4)
    np.testing.assert_allclose(again(x).data, want, atol=2e-6 * np.abs(want).max())
    six = model.edit({})
    assert rescaled(six, {"a": np.ones(4)}).node("m0").layer.kind == "ReLU6"


@pytest.mark.parametrize("out", [Conv2d(4, 4, 3, padding=1, groups=4), Conv2d(4, 8, 3, groups=4),
                                 Conv2d(4, 6, 3, groups=2)])
def test_grouped_and_depthwise_readers_and_writers(out):
    nodes = chain(("a", Conv2d(2, 4, 3)), ("r", ReLU()), ("dw", out.copy()), ("s", ReLU()),
                  ("c", Conv2d(out.out_channels, 3, 1)), ("end", Flatten()))
    model = drawn(Model(nodes, input_shape=(2, 8, 8)))
    assert [(list(s.writers), list(s.readers), s.n) for s in sites(model)] == [
        (["a"], ["dw"], 4), (["dw"], ["c"], out.out_channels)]
    assert_same(moved(model)[0], model)


def test_flattened_channels_are_blocks_of_features():
    nodes = chain(("a", Conv2d(1, 3, 3)), ("r", ReLU()), ("p", MaxPool2d(2)), ("f", Flatten()),
                  ("fc", Linear(12, 5)), ("s", ReLU()), ("out", Linear(5, 2)))
    model = drawn(Model(nodes, input_shape=(1, 6, 6)))
    first, second = sites(model)
    assert first.readers["fc"].tolist() == [0] * 4 + [1] * 4 + [2] * 4 and second.n == 5
    assert_same(moved(model)[0], model)


def test_a_batch_norm_writes_and_does_not_read():
    nodes = chain(("a", Conv2d(1, 3, 3)), ("bn", BatchNorm2d(3)), ("r", ReLU()),
                  ("b", Conv2d(3, 2, 1)), ("end", Flatten()))
    model = drawn(Model(nodes, input_shape=(1, 6, 6)))
    (site,) = sites(model)
    assert list(site.writers) == ["bn"]
    made, divisors = moved(model)
    assert_same(made, model)
    np.testing.assert_allclose(made.forms()["bn.bias"].dense().data,
                               model.forms()["bn.bias"].dense().data / divisors["bn"], rtol=1e-6)
    with pytest.raises(UserError, match="^rescaling: bn normalises the channels that it reads; f"):
        rescaled(model, {"a": np.full(3, 2.0)})
    assert list(sites(fold(model))[0].writers) == ["a"]


def test_an_addition_takes_part_with_all_its_branches():
    nodes = (Node("a", Conv2d(2, 4, 1)), Node("ra", ReLU(), ("a",)),
             Node("b", Conv2d(4, 4, 1), ("ra",)), Node("rb", ReLU6(), ("b",)),
             Node("add", Add(), ("ra", "rb")),
             Node("c", Conv2d(4, 3, 1), ("add",)), Node("end", Flatten(), ("c",)))
    model = drawn(Model(nodes, input_shape=(2, 4, 4)))
    (site,) = sites(model)
    assert list(site.writers) == ["a", "b"] and list(site.readers) == ["b", "c"]
    assert site.writers["a"].tolist() == site.writers["b"].tolist() == [0, 1, 2, 3]
    assert_same(moved(model)[0], model)
    s = np.full(4, 2.0)
    with pytest.raises(UserError, match="^rescaling: add adds ra and rb, whose channels must be"):
        rescaled(model, {"a": s})
    assert site.largest({"a": np.array([1, 5, 1, 0.0]), "b": np.array([2, 1, 1, 0.0])},
                    "writers").tolist() == [2, 5, 1, 0]


def test_an_addition_to_what_cannot_be_rescaled_is_left_out():
    nodes = (Node("a", Conv2d(2, 2, 1)), Node("add", Add(), ("x", "a")),
             Node("c", Conv2d(2, 3, 1), ("add",)), Node("r", ReLU(), ("c",)),
             Node("d", Conv2d(3, 2, 1), ("r",)), Node("end", Flatten(), ("d",)))
    model = drawn(Model(nodes, input_shape=(2, 4, 4)))
    assert [list(s.writers) for s in sites(model)] == [["c"]]


def test_a_concatenation_keeps_its_parts_apart():
    nodes = (Node("a", Conv2d(2, 2, 1)), Node("b", Conv2d(2, 3, 1)),
             Node("cat", Concat(), ("a", "b")), Node("r", ReLU(), ("cat",)),
             Node("c", Conv2d(5, 2, 1), ("r",)),
             Node("end", Flatten(), ("c",)))
    model = drawn(Model(nodes, input_shape=(2, 4, 4)))
    one, two = sites(model)
    assert one.readers["c"].tolist() == [0, 1, -1, -1, -1]
    assert two.readers["c"].tolist() == [-1, -1, 0, 1, 2]
    assert_same(moved(model)[0], model)


def test_a_tie_to_the_input_holds_what_is_tied_to_it():
    # two channels of a are added to inputs; concatenated with b they are read together
    nodes = (Node("a", Conv2d(2, 2, 1)), Node("b", Conv2d(2, 2, 1)),
             Node("cat", Concat(), ("a", "b")), Node("in", Concat(), ("x", "a")),
             Node("both", Add(), ("cat", "in")),
             Node("c", Conv2d(4, 2, 1), ("both",)), Node("end", Flatten(), ("c",)))
    model = drawn(Model(nodes, input_shape=(2, 4, 4)))
    assert sites(model) == []  # a is tied to x, and b to a


@pytest.mark.parametrize("layer", [Sigmoid(), ActTopK(3), ActQuant()])
def test_what_is_not_homogeneous_is_left_out_or_refused_by_name(layer):
    model = through(layer)
    assert sites(model) == []
    with pytest.raises(UserError, match=f"^x: m0: a {layer.kind} of x / s is not that of x, div"):
        rescaled(model, {"a": np.full(4, 2.0)}, word="x")


def test_weights_that_cannot_move_are_left_out_or_refused_by_name():
    model = through(ReLU())
    model.set_form("b.weight", Codebook(np.zeros((3, 4, 3, 3), int), np.ones(2)))
    assert sites(model) == []
    with pytest.raises(UserError, match="^rescaling: b.weight must hold plain values.*codebook"):
        rescaled(model, {"a": np.full(4, 2.0)})


@pytest.mark.parametrize("s, said", [
    (np.ones(3), r"must be 4 numbers, finite and above 0, got shape \(3,\)"),
    (np.array([1, 1, 0, 1.0]), "got shape .* from 0.0 to 1.0"),
    (np.array([1, 1, np.nan, 1.0]), "finite and above 0"),
    (np.array([1, 1, np.inf, 1.0]), "finite and above 0"),
    (-np.ones(4), "finite and above 0"),
])
def test_divisors_that_are_none_are_refused(s, said):
    with pytest.raises(UserError, match=f"^rescaling: the divisors of a .*{said}"):
        rescaled(through(ReLU()), {"a": s})


def test_other_refusals_name_the_node():
    model = through(ReLU())
    with pytest.raises(UserError, match="^rescaling: m0: a ReLU has no weights"):
        rescaled(model, {"m0": np.ones(4)})
    with pytest.raises(UserError, match="^rescaling: a must stay finite, got divisors from 1e-300"):
        rescaled(model, {"a": np.full(4, 1e-300)})
    with pytest.raises(KeyError, match="no node 'z'"):
        rescaled(model, {"z": np.ones(4)})
    with pytest.raises(UserError, match="^rescaling: channels of end are outputs"):
        rescaled(model, {"b": np.full(3, 2.0)})


def test_a_whole_net_before_and_behind_folding_and_masks_stay():
    model = drawn(MODELS["depthwise32"](width=0.25))
    for net in (model, fold(model)):
        weight = net.forms()["block1.pw.weight"]
        net.set_form("block1.pw.weight", weight.masked(RNG(0).random(weight.shape) < 0.5))
        found = sites(net)
        norm = "_bn" if net is model else ""
        assert [list(s.writers) for s in found] == [
            [f"{n}{norm}" for n in names] for names in (
                ["stem"], ["block1.dw"], ["block1.pw"], ["block2.dw"],
                ["block2.pw", "block3.pw"], ["block3.dw"])]
        assert list(found[4].readers) == ["block3.dw", "fc"]
        made, _ = moved(net)
        assert_same(made, net)
        mask = made.forms()["block1.pw.weight"].mask
        np.testing.assert_array_equal(mask, net.forms()["block1.pw.weight"].mask)


def test_a_net_that_stays_what_it_was_is_still_the_built_in_net():
    model = drawn(MODELS["lenet5"]())
    made, divisors = moved(model)
    assert divisors and made.spec() == model.spec()


def test_times_by_hand():
    form = Dense(np.array([[1, 2], [3, 4.0]], np.float32), mask=[[True, True], [False, True]])
    made = times(form, np.array([2.0, 10]))
    assert made.dense().data.tolist() == [[2, 4], [0, 40]]
    assert made.mask.tolist() == form.mask.tolist()
    shared = times(Codebook(np.array([0, 1]), np.array([1.0, 3.0])), np.array([2.0, 2]))
    assert shared.kind == "dense" and shared.dense().data.tolist() == [2, 6]


def test_a_tie_to_what_came_later_holds_too():
    nodes = (Node("a", Conv2d(2, 2, 1)), Node("b", Conv2d(2, 2, 1)), Node("s", Sigmoid(), ("b",)),
             Node("add", Add(), ("a", "s")), Node("c", Conv2d(2, 2, 1), ("add",)),
             Node("end", Flatten(), ("c",)))
    assert sites(drawn(Model(nodes, input_shape=(2, 4, 4)))) == []


def test_channels_that_are_outputs_too_are_left_out():
    nodes = (Node("a", Conv2d(2, 2, 1)), Node("b", Conv2d(2, 2, 1), ("a",)),
             Node("end", ReLU(), ("a",)))
    assert sites(drawn(Model(nodes, input_shape=(2, 4, 4)))) == []


@pytest.mark.parametrize("technique", [Equalize(), SmoothQuant(), AWQ()], ids=lambda t: t.word)
@pytest.mark.parametrize("mode", ["weight-only", "activations"])
def test_what_is_quantized_already_is_refused_by_name(technique, mode):
    rng = np.random.default_rng(0)
    model = net_of(rng.normal(size=(4, 3)), rng.normal(size=(2, 4)))
    split = Split(rng.normal(size=(9, 3)).astype(np.float32), np.zeros(9, int))
    data = Dataset("toy", split, split, None, ("a", "b"), "rendered")
    done = PTQ(mode=mode).apply(model, data, Run(rng))
    with pytest.raises(UserError, match=f"(fc1|x_q) is quantized already; {technique.word} goes"):
        technique.apply(done, data, Run(rng))
    technique.apply(model, data, Run(rng))
