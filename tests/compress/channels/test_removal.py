import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minicomp.codec import load, save
from minicomp.compress.channels.groups import choose_units, groups
from minicomp.compress.channels.removal import removal, removed
from minicomp.compress.prune.dead_units import DeadUnits
from minicomp.compress.channels.units import units
from minicomp.compress.technique import Run
from minicomp.errors import UserError
from minicomp.models import MLP, MODELS
from minicomp.nn import (
    AdaptiveAvgPool2d,
    Add,
    AvgPool2d,
    BatchNorm2d,
    ChannelShuffle,
    Codebook,
    Concat,
    Conv2d,
    Dense,
    Flatten,
    Half,
    Linear,
    MaxPool2d,
    Model,
    Node,
    ReLU,
    ReLU6,
    Tanh,
    chain,
)
from minicomp.optim import OPTIMIZERS
from minicomp.nn.losses import cross_entropy
from minicomp.tensor import grad


def filled(model, rng):
    # Random weights; biases of depthwise layers and batch norm's shifts are 0, so that 0 stays 0 on
    # its way.
    for name, form in model.forms().items():
        node, part = name.rsplit(".", 1)
        layer = model.node(node).layer
        quiet = layer.kind.startswith("BatchNorm") or getattr(layer, "groups", 1) > 1
        value = rng.standard_normal(form.shape) / max(np.prod(form.shape[1:]), 1) ** 0.5
        model.set_form(name, Dense((value * (part == "weight" or not quiet)).astype(np.float32)))
    for name, a in model.buffers().items():
        if name.endswith("running_var"):
            a[...] = rng.uniform(0.5, 2, a.shape)
    return model


def silenced(model, x, silent):
    # The reference: the net is walked as it is, and the silent channels of the named nodes' outputs
    # are set to 0.
    values = {"x": x}
    for node in model.nodes:
        y = node.layer(*(values[i] for i in node.inputs))
        if node.name in silent:
            y = y.data.copy() if hasattr(y, "data") else y.copy()
            y[:, silent[node.name]] = 0
        values[node.name] = y
    y = values[model.nodes[-1].name]
    return y.data if hasattr(y, "numpy") else y


def outputs(model, x):
    return model(x).data


def examples(model, rng, n=3):
    return rng.standard_normal((n, *model.input_shape)).astype(np.float32)


def assert_removal(model, keep, rng):
    x = examples(model, rng)
    chosen = removal(model, keep)
    small = chosen.apply(model)
    silent = {
        name: ~np.isin(
            np.arange(len(units(model).of[name])),
            np.flatnonzero(k) if np.asarray(k).dtype == bool else k,
        )
        for name, k in keep.items()
    }
    expected = silenced(model, x, silent)
    np.testing.assert_allclose(outputs(small, x), expected, atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(outputs(chosen.mask(model), x), expected, atol=1e-5, rtol=1e-5)
    assert small.count() < model.count()
    assert np.abs(expected).max() > 1e-3
    return small


# ----------------------------------------------------------------------------------------- by hand


def test_hidden_unit_of_an_mlp_by_hand():
    model = MLP([2, 3, 2])
    w1, w2 = np.arange(6, dtype=np.float32).reshape(3, 2), np.arange(6, dtype=np.float32).reshape(
        2, 3
    )
    for name, w in (("fc1.weight", w1), ("fc1.bias", np.float32([7, 8, 9])), ("fc2.weight", w2)):
        model.set_form(name, Dense(w))
    small = removed(model, {"fc1": [0, 2]})
    np.testing.assert_array_equal(small.forms()["fc1.weight"].dense().data, [[0, 1], [4, 5]])
    np.testing.assert_array_equal(small.forms()["fc1.bias"].dense().data, [7, 9])
    np.testing.assert_array_equal(small.forms()["fc2.weight"].dense().data, [[0, 2], [3, 5]])
    assert model.forms()["fc1.weight"].shape == (3, 2)  # the model passed in is untouched
    assert small.origin_bytes == model.origin_bytes


def test_flatten_makes_a_channel_a_block_of_features():
    model = Model(
        chain(("conv", Conv2d(1, 3, 1)), ("flat", Flatten()), ("fc", Linear(12, 2))),
        input_shape=(1, 2, 2),
    )
    model.set_form("fc.weight", Dense(np.arange(24, dtype=np.float32).reshape(2, 12)))
    chosen = removal(model, {"conv": [0, 2]})
    np.testing.assert_array_equal(chosen.axes["fc.weight"][1], [0, 1, 2, 3, 8, 9, 10, 11])
    np.testing.assert_array_equal(chosen.keep["flat"], [0, 1, 2, 3, 8, 9, 10, 11])


def test_everything_kept_changes_nothing():
    model = MODELS["lenet5"](rng=np.random.default_rng(0))
    same = removed(model, {"conv1": range(20)})
    assert same.builtin == model.builtin and same.spec() == model.spec()


# ------------------------------------------------------------------------------------ whole models


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("part", [0.25, 0.6])
def test_every_model_of_the_library(name, part, built_in):
    rng = np.random.default_rng(1)
    model = filled(built_in(name, rng=rng), rng)
    keep = {}
    for group in groups(model):
        kept = choose_units(group, rng.random(group.size), round(part * group.size))
        assert not kept.all(), group.name
        keep |= group.keep(kept)
    assert_removal(model, keep, rng)


def residual(rng):
    body = chain(
        ("stem", Conv2d(2, 6, 3, padding=1)),
        ("bn0", BatchNorm2d(6)),
        ("relu0", ReLU()),
        ("conv1", Conv2d(6, 5, 3, padding=1)),
        ("bn1", BatchNorm2d(5)),
        ("relu1", ReLU()),
        ("conv2", Conv2d(5, 6, 3, padding=1)),
    )
    tail = (
        Node("add", Add(), ("relu0", "conv2")),
        Node("relu2", ReLU6(), ("add",)),
        Node("pool", MaxPool2d(2), ("relu2",)),
        Node("flat", Flatten(), ("pool",)),
        Node("fc", Linear(24, 3), ("flat",)),
    )
    return filled(Model(body + tail, input_shape=(2, 4, 4)), rng)


def fire(rng):
    nodes = (
        Node("squeeze", Conv2d(3, 4, 1)),
        Node("relu", ReLU(), ("squeeze",)),
        Node("e1", Conv2d(4, 3, 1), ("relu",)),
        Node("e3", Conv2d(4, 5, 3, padding=1), ("relu",)),
        Node("cat", Concat(), ("e1", "e3")),
        Node("tanh", Tanh(), ("cat",)),
        Node("out", Conv2d(8, 4, 1), ("tanh",)),
        Node("pool", AdaptiveAvgPool2d(1), ("out",)),
        Node("flat", Flatten(), ("pool",)),
    )
    return filled(Model(nodes, input_shape=(3, 4, 4)), rng)


def shuffle(rng, g=3, wide=12, mid=18):
    nodes = chain(
        ("stem", Conv2d(2, wide, 1)),
        ("relu0", ReLU()),
        ("g1", Conv2d(wide, mid, 1, groups=g)),
        ("bn1", BatchNorm2d(mid)),
        ("shuffle", ChannelShuffle(g)),
        ("dw", Conv2d(mid, mid, 3, padding=1, groups=mid, bias=False)),
        ("g2", Conv2d(mid, wide, 1, groups=g)),
    )
    nodes += (
        Node("add", Add(), ("relu0", "g2")),
        Node("pool", AvgPool2d(2), ("add",)),
        Node("flat", Flatten(), ("pool",)),
        Node("fc", Linear(4 * wide, 3), ("flat",)),
    )
    return filled(Model(nodes, input_shape=(2, 4, 4)), rng)


def depthwise(rng, m=2):
    nodes = chain(
        ("stem", Conv2d(2, 4, 3)),
        ("dw", Conv2d(4, 4 * m, 3, padding=1, groups=4, bias=False)),
        ("bn", BatchNorm2d(4 * m)),
        ("relu", ReLU6()),
        ("pw", Conv2d(4 * m, 5, 1)),
        ("flat", Flatten()),
        ("fc", Linear(20, 3)),
    )
    return filled(Model(nodes, input_shape=(2, 4, 4)), rng)


def grouped(rng):
    nodes = chain(
        ("stem", Conv2d(2, 8, 1)),
        ("g1", Conv2d(8, 6, 3, padding=1, groups=2)),
        ("flat", Flatten()),
        ("fc", Linear(96, 3)),
    )
    return filled(Model(nodes, input_shape=(2, 4, 4)), rng)


def plain_shuffle(rng):
    nodes = chain(
        ("stem", Conv2d(2, 6, 1)),
        ("shuffle", ChannelShuffle(2)),
        ("out", Conv2d(6, 3, 1)),
        ("pool", AdaptiveAvgPool2d(1)),
        ("flat", Flatten()),
    )
    return filled(Model(nodes, input_shape=(2, 2, 2)), rng)


@pytest.mark.parametrize(
    "make, keep",
    [
        (residual, {"stem": [1, 2, 5], "conv2": [1, 2, 5]}),
        (residual, {"conv1": [0, 4]}),
        (residual, {"conv1": [3]}),
        (fire, {"squeeze": [3]}),
        (fire, {"e1": [0, 2], "e3": [4]}),
        (fire, {"e3": [0, 1, 2, 3]}),
        (depthwise, {"stem": [0, 3]}),
        (depthwise, {"dw": [2, 3]}),  # both outputs of one input channel
        (depthwise, {"bn": [0, 1, 6, 7], "pw": [1, 2, 4]}),
        (depthwise, {"stem": [1]}),
        (depthwise, {"pw": [0, 2]}),
        (grouped, {"stem": [0, 3, 4, 6]}),
        (grouped, {"g1": [0, 1, 3, 5]}),
        (grouped, {"g1": [3, 4], "stem": [4, 5, 6, 7]}),
        (shuffle, {"stem": [0, 1, 4, 5, 9, 11], "g2": [0, 1, 4, 5, 9, 11]}),
        (shuffle, {"g1": [0, 2, 4, 7, 8, 10, 13, 15, 17]}),
    ],
)
def test_fixture_nets(make, keep):
    rng = np.random.default_rng(2)
    assert_removal(make(rng), keep, rng)


def test_a_tie_takes_the_other_layer_with_it():
    model = residual(np.random.default_rng(0))
    chosen = removal(model, {"stem": [1, 2, 5]})
    np.testing.assert_array_equal(chosen.keep["conv2"], [1, 2, 5])
    np.testing.assert_array_equal(chosen.axes["bn0.running_mean"][0], [1, 2, 5])


def test_a_shuffle_is_of_what_is_left():
    # 2 groups of 3 become 2 groups of 2; the 1 x 1 layer behind is not grouped, so that any order
    # is right.
    rng = np.random.default_rng(0)
    model = plain_shuffle(rng)
    assert_removal(model, {"stem": [0, 2, 3, 4]}, rng)  # even
    assert_removal(model, {"stem": [0, 1, 2, 5]}, rng)  # 3 of one group and 1 of the other


def test_depthwise_of_one_channel_left():
    rng = np.random.default_rng(0)
    small = assert_removal(depthwise(rng, m=1), {"stem": [2]}, rng)
    assert small.node("dw").layer.groups == 1


# -------------------------------------------------------------------------- random graphs


@st.composite
def graphs(draw):
    nodes, shapes = [], {"x": (draw(st.integers(1, 4)), 3, 3)}

    def add(layer, *inputs):
        name = f"n{len(nodes)}"
        nodes.append(Node(name, layer, inputs))
        shapes[name] = layer.out_shape(*(shapes[i] for i in inputs))

    add(Conv2d(shapes["x"][0], draw(st.sampled_from([4, 6])), 1), "x")
    for _ in range(draw(st.integers(1, 9))):
        names = list(shapes)[1:]
        source = names[-1 - draw(st.integers(0, min(2, len(names) - 1)))]
        c = shapes[source][0]
        same = [n for n in names if shapes[n] == shapes[source] and n != source]
        divisors = [g for g in (2, 3) if c % g == 0]
        kind = draw(
            st.sampled_from(
                [
                    "conv",
                    "conv",
                    "grouped",
                    "depthwise",
                    "norm",
                    "act",
                    "pool",
                    "add",
                    "add",
                    "concat",
                    "shuffle",
                ]
            )
        )
        if kind == "grouped" and divisors:
            g = draw(st.sampled_from(divisors))
            add(Conv2d(c, g * draw(st.integers(1, 3)), 3, padding=1, groups=g), source)
        elif kind == "depthwise":
            add(Conv2d(c, c * draw(st.integers(1, 2)), 3, padding=1, groups=c, bias=False), source)
        elif kind == "norm":
            add(BatchNorm2d(c), source)
        elif kind == "act":
            add(draw(st.sampled_from([ReLU, ReLU6, Tanh]))(), source)
        elif kind == "pool":
            add(draw(st.sampled_from([MaxPool2d, AvgPool2d]))(3, 1, 1), source)
        elif kind == "add" and same:
            add(Add(), source, draw(st.sampled_from(same)))
        elif kind == "concat":
            add(
                Concat(),
                source,
                draw(st.sampled_from([n for n in names if shapes[n][1:] == shapes[source][1:]])),
            )
        elif kind == "shuffle" and divisors:
            add(ChannelShuffle(draw(st.sampled_from(divisors))), source)
        else:
            (
                add(
                    Conv2d(
                        c,
                        draw(st.sampled_from([3, 4, 6])),
                        draw(st.sampled_from([1, 3])),
                        padding=0,
                    ),
                    source,
                )
                if (min(shapes[source][1:]) >= 3)
                else add(Conv2d(c, 4, 1), source)
            )
    last = list(shapes)[-1]
    add(Flatten(), last)
    add(Linear(shapes[f"n{len(nodes) - 1}"][0], 3), f"n{len(nodes) - 1}")
    return Model(nodes, input_shape=shapes["x"])


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(graphs(), st.integers(0, 2**32 - 1))
def test_random_graphs(model, seed):
    rng = np.random.default_rng(seed)
    model = filled(model, rng)
    for group in groups(model):
        kept = choose_units(group, rng.random(group.size), int(rng.integers(1, group.size + 1)))
        if kept.all():
            continue
        keep = group.keep(kept)
        try:
            chosen = removal(model, keep)
        except UserError as e:  # shuffled branches that meet again: the message names the node
            assert any(n.name in str(e) for n in model.nodes)
            continue
        x = examples(model, rng, 2)
        expected = silenced(model, x, {n: ~k for n, k in keep.items()})
        np.testing.assert_allclose(outputs(chosen.apply(model), x), expected, atol=1e-5, rtol=1e-5)
        np.testing.assert_allclose(outputs(chosen.mask(model), x), expected, atol=1e-5, rtol=1e-5)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(graphs(), st.integers(0, 2**32 - 1))
def test_random_graphs_with_any_channels_kept(model, seed):
    # No choice is made feasible first: either the removal is right, or it is refused by a node's
    # name.
    rng = np.random.default_rng(seed)
    model = filled(model, rng)
    for group in groups(model):
        kept = rng.random(group.size) < 0.6
        keep = group.keep(kept)
        if kept.all() or not all(k.any() for k in keep.values()):
            continue
        try:
            small = removal(model, keep).apply(model)
        except UserError as e:
            assert any(n.name in str(e) for n in model.nodes)
            continue
        x = examples(model, rng, 2)
        expected = silenced(model, x, {n: ~k for n, k in keep.items()})
        np.testing.assert_allclose(outputs(small, x), expected, atol=1e-5, rtol=1e-5)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(graphs(), st.floats(0.3, 0.95), st.integers(0, 2**32 - 1))
def test_random_graphs_lose_their_dead_units_and_nothing_else(model, sparsity, seed):
    # Here shifts and depthwise biases are not 0: what is constant must be folded.
    rng = np.random.default_rng(seed)
    for name, form in filled(model, rng).forms().items():
        w = rng.standard_normal(form.shape) / max(np.prod(form.shape[1:]), 1) ** 0.5
        keep = rng.random(form.shape[:1]) >= sparsity if len(form.shape) > 1 else True
        w = w * np.reshape(keep, (-1, *[1] * (w.ndim - 1))) if len(form.shape) > 1 else w
        model.set_form(name, Dense(w.astype(np.float32)))
    for name, a in model.buffers().items():
        a[...] = rng.uniform(0.5, 1.5, a.shape)
    try:
        small = DeadUnits().apply(model, None, Run(rng))
    except UserError as e:
        assert "different orders" in str(e)
        return
    x = examples(model, rng, 2)
    np.testing.assert_allclose(outputs(small, x), outputs(model, x), atol=1e-5, rtol=1e-5)


# -------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    "make, keep, message",
    [
        (
            residual,
            {"stem": [0, 1, 2]} | {"conv2": [0, 1, 3]},
            r"add \(add\) ties it to channel 3 of conv2, which is to stay",
        ),
        (
            residual,
            {"fc": [0, 1]},
            "fc: channel 2 cannot be removed: it is one of the model's outputs",
        ),
        (
            residual,
            {"flat": range(23)},
            "flat: channel 23 cannot be removed: it is part of channel 5 of stem, of which",
        ),
        (residual, {"conv1": []}, "conv1 must keep at least one of its 5 channels"),
        (residual, {"conv1": [True] * 4}, r"conv1 has 5 channels, got a mask of shape \(4,\)"),
        (residual, {"conv1": [0, 5]}, r"conv1: kept channels must be in \[0, 4\], got 0..5"),
        (residual, {"conv1": [0, 0]}, "conv1: a channel is named twice"),
        (residual, {"conv1": [0.5]}, "conv1: kept channels must be a list of integers"),
        (residual, {"conv9": [0]}, "no node 'conv9'; there are stem"),
        (
            grouped,
            {"g1": [0, 1, 2, 3]},
            r"g1 \(convolution in 2 groups\): every group must compute equally many channels, 3, 1",
        ),
        (
            grouped,
            {"stem": [0, 1, 2, 3, 4, 5]},
            r"g1 .*: every group must read equally many channels, 4, 2 would stay",
        ),
        (grouped, {"stem": [0, 1, 2, 3]}, r"g1 .*: every group must (read|compute) equally many"),
        (
            plain_shuffle,
            {"stem": [0, 1, 3]},
            r"shuffle \(shuffle\) needs a multiple of 2 channels, 3 would stay",
        ),
        (
            shuffle,
            {"g1": [0, 1, 2, 6, 7, 8, 15, 16, 17]},
            r"g2 .*: every group must read equally many|shuffle channels from",
        ),
        (
            shuffle,
            {"g1": np.setdiff1d(np.arange(18), [0, 8, 16])},
            r"g2 .*: the removal would shuffle channels from one group into another",
        ),
    ],
)
def test_a_removal_that_cannot_be_done_says_why(make, keep, message):
    model = make(np.random.default_rng(0))
    before = model.state_dict()
    with pytest.raises(UserError, match=message) as e:
        removal(model, keep)
    assert "\n" not in str(e.value)
    assert all(np.array_equal(a, before[n]) for n, a in model.state_dict().items())


def test_an_addition_to_the_input_forbids():
    nodes = (
        Node("conv", Conv2d(3, 3, 1)),
        Node("add", Add(), ("x", "conv")),
        Node("flat", Flatten(), ("add",)),
        Node("fc", Linear(12, 2), ("flat",)),
    )
    model = Model(nodes, input_shape=(3, 2, 2))
    with pytest.raises(
        UserError,
        match=r"conv: channel 1 cannot be removed: add \(add\) ties it to one of the model's "
        r"inputs",
    ):
        removal(model, {"conv": [0, 2]})
    assert groups(model) == []


def test_branches_that_the_removal_shuffles_differently_cannot_be_added():
    # The smaller shuffle would order a's channels 0, 2, 1, 5; b's stand in the order 0, 1, 2, 5.
    nodes = (
        Node("a", Conv2d(2, 6, 1)),
        Node("b", Conv2d(2, 6, 1)),
        Node("shuffle", ChannelShuffle(2), ("a",)),
        Node("add", Add(), ("shuffle", "b")),
        Node("out", Conv2d(6, 2, 1), ("add",)),
    )
    rng = np.random.default_rng(0)
    model = filled(Model(nodes, input_shape=(2, 2, 2)), rng)
    message = r"add \(add\) would add channels in different orders: shuffle, b are shuffled"
    with pytest.raises(UserError, match=message):
        removal(model, {"a": [0, 1, 2, 5]})
    small = removal(model, {"a": [0, 2, 3, 5]}).apply(model)
    assert small.shapes()["add"] == (4, 2, 2)


def test_a_plan_of_another_model_is_refused():
    chosen = removal(MLP([4, 5, 2]), {"fc1": [0]})
    with pytest.raises(
        UserError, match=r"another model: fc1.weight must have shape \(5, 4\), got \(6, 4\)"
    ):
        chosen.apply(MLP([4, 6, 2]))


# ------------------------------------------------------------------------- forms, optimizers, files


@pytest.mark.parametrize(
    "form",
    [
        lambda w: Half(w),
        lambda w: Dense(w, np.abs(w) > 0.2),
        lambda w: Codebook(
            np.searchsorted([-0.3, 0.0, 0.3], w), np.float32([-0.5, -0.1, 0.1, 0.5])
        ),
    ],
)
def test_forms_follow(form):
    rng = np.random.default_rng(3)
    model = grouped(rng)
    for name, f in model.forms().items():
        model.set_form(name, form(f.dense().data))
    chosen = removal(model, {"stem": [0, 3, 4, 6], "g1": [1, 5]})  # other columns in each group
    small, x = chosen.apply(model), examples(model, rng)
    assert {type(f) for f in small.forms().values()} == {type(f) for f in model.forms().values()}
    np.testing.assert_allclose(outputs(small, x), outputs(chosen.mask(model.dense()), x), atol=1e-5)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizer_state_follows(name):
    # Training the masked net on, then removing, ends where removing, then training on, does.
    rng = np.random.default_rng(4)
    model = MLP([6, 8, 5, 3], rng=rng)
    keep = {"fc1": [0, 2, 3, 7], "fc2": [1, 2, 4]}
    chosen = removal(model, keep)
    masked = chosen.mask(model)
    x, y = rng.standard_normal((40, 6)).astype(np.float32), rng.integers(3, size=40)

    def steps(net, optimizer):
        for _ in range(5):
            names = list(optimizer.params)
            grads = grad(cross_entropy(net(x), y), [optimizer.params[n] for n in names])
            optimizer.step({n: g.data for n, g in zip(names, grads)})
            net.project()

    optimizer = OPTIMIZERS[name](masked.parameters(), lr=0.05)
    steps(masked, optimizer)
    small = chosen.apply(masked)
    follower = optimizer.select(chosen, small.parameters())
    steps(masked, optimizer)
    steps(small, follower)
    assert set(follower.params) == set(small.parameters())
    for n, w in chosen.apply(masked).state_dict().items():
        np.testing.assert_allclose(small.state_dict()[n], w, atol=1e-5, err_msg=n)


def test_state_of_centroids_stays_whole():
    rng = np.random.default_rng(6)
    model = MLP([4, 3, 2])
    for name, form in model.forms().items():  # fc1.bias has as many centroids as entries
        model.set_form(name, Codebook(rng.integers(3, size=form.shape), rng.standard_normal(3)))
    chosen = removal(model, {"fc1": [0, 2]})
    optimizer = OPTIMIZERS["adam"](model.parameters(), lr=0.1)
    optimizer.step({n: np.full(p.shape, 2, np.float32) for n, p in model.parameters().items()})
    small = chosen.apply(model)
    follower = optimizer.select(chosen, small.parameters())
    assert set(follower.params) == set(model.parameters()) and follower.steps == 1
    for slot in ("m", "v"):
        for name, a in follower.state[slot].items():
            np.testing.assert_array_equal(a, optimizer.state[slot][name], strict=True)
            assert a is not optimizer.state[slot][name]


@pytest.mark.parametrize("make", [residual, fire, shuffle, depthwise, grouped])
def test_a_pruned_model_saves_and_loads(make, tmp_path):
    rng = np.random.default_rng(5)
    model = make(rng)
    keep = {}
    for group in groups(model):
        keep |= group.keep(choose_units(group, rng.random(group.size), group.size // 2))
    small = removed(model, keep)
    save(small, tmp_path / "small.mcz")
    back, x = load(tmp_path / "small.mcz"), examples(model, rng)
    np.testing.assert_array_equal(outputs(back, x), outputs(small, x), strict=True)
    assert back.origin_bytes == model.dense_bytes()


# ------------------------------------------------------------------------------------- groups


def test_groups_of_the_fixtures():
    rng = np.random.default_rng(0)
    assert [g.name for g in groups(residual(rng))] == ["stem+conv2", "conv1"]
    assert [g.name for g in groups(fire(rng))] == ["squeeze", "e1", "e3"]
    assert [g.name for g in groups(shuffle(rng))] == ["stem+g2", "g1"]
    assert [g.name for g in groups(depthwise(rng))] == ["stem", "pw"]


def test_scores_of_tied_layers_are_summed():
    group = groups(residual(np.random.default_rng(0)))[0]
    total = group.add("stem", np.arange(6)) + group.add("conv2", [5, 0, 0, 0, 0, 0])
    np.testing.assert_array_equal(
        choose_units(group, total, 2), [True, False, False, True, True, True]
    )


@given(st.lists(st.integers(0, 50), min_size=8, max_size=8), st.integers(0, 7))
def test_the_cheapest_even_choice_is_the_optimum(scores, count):
    # 2 groups read 4 each: by brute force over all sets of at most `count`, as many as possible,
    # then the cheapest.
    group = groups(grouped(np.random.default_rng(0)))[0]
    gone = ~choose_units(group, scores, count)
    best = None
    for bits in range(256):
        z = np.array([bits >> i & 1 for i in range(8)], bool)
        if z.sum() <= min(count, 7) and z[:4].sum() == z[4:].sum():
            key = (-z.sum(), np.dot(z, scores))
            best = key if best is None else min(best, key)
    assert (-gone.sum(), np.dot(gone, scores)) == best


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_bias_that_folding_added_starts_afresh_by_its_own_pattern(name):
    # fc2 has no bias until it takes up what fc1's dead unit gives.
    rng = np.random.default_rng(7)
    nodes = chain(("fc1", Linear(4, 3)), ("relu", ReLU()), ("fc2", Linear(3, 2, bias=False)))
    model = Model(nodes, input_shape=(4,))
    for form in model.forms().values():
        form.value.data[:] = rng.uniform(0.5, 1, form.shape)
    model.forms()["fc1.weight"].value.data[1] = 0
    lr, decay = {"*": 0.1, "fc2": 0.2, "*.bias": 0.05}, {"*": 0.01, "*.bias": 0.0}
    optimizer = OPTIMIZERS[name](model.parameters(), lr=lr, weight_decay=decay)
    optimizer.lr *= 0.5  # the schedule
    small = DeadUnits().apply(model, None, Run(rng)).thawed()
    follower = optimizer.select(removal(model, {"fc1": [0, 2]}), small.parameters())
    assert set(follower.params) == {"fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"}
    assert follower.rate("fc2.bias") == pytest.approx(0.025) and follower.decays["fc2.bias"] == 0
    assert follower.rate("fc2.weight") == pytest.approx(0.1)
    for slot in follower.slots:
        np.testing.assert_array_equal(follower.state[slot]["fc2.bias"], np.zeros(2), strict=False)
    before = small.forms()["fc2.bias"].dense().data.copy()
    follower.step({n: np.ones_like(p.data) for n, p in follower.params.items()})
    assert (small.forms()["fc2.bias"].dense().data < before).all()
    assert "fc2.bias" not in optimizer.shares
    apart = OPTIMIZERS[name](model.parameters(), lr={"fc1": 0.1, "fc2.weight": 0.1})
    with pytest.raises(ValueError, match="lr by pattern must name .* got none for fc2.bias"):
        apart.select(removal(model, {"fc1": [0, 2]}), small.parameters())


@pytest.mark.parametrize("trainable", [True, False])
def test_a_bias_that_folding_adds_trains_where_its_weight_does(trainable):
    rng = np.random.default_rng(8)
    nodes = chain(("fc1", Linear(4, 3)), ("relu", ReLU()), ("fc2", Linear(3, 2, bias=False)))
    model = Model(nodes, input_shape=(4,))
    for form in model.forms().values():
        form.value.data[:] = rng.uniform(0.5, 1, form.shape)
    model.forms()["fc1.weight"].value.data[1] = 0
    model = model.thawed() if trainable else model.frozen()
    small = DeadUnits().apply(model, None, Run(rng))
    assert {f.trainable for f in small.forms().values()} == {trainable}
    assert "fc2.bias" in small.forms()
