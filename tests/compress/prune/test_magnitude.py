import math
from types import SimpleNamespace

import numpy as np
import pytest

from minicomp.compress.finetune import FineTune
from minicomp.compress.prune.magnitude import Magnitude
from minicomp.compress.scores import magnitude_mask
from minicomp.compress.technique import Run, kept, weights
from minicomp.errors import UserError
from minicomp.models import MLP, LeNet5, LeNet300
from minicomp.nn import Codebook, Conv2d, Dense, Half, Model, chain

RNG = np.random.default_rng


def model(seed=0):
    return MLP([20, 16, 9, 4], rng=RNG(seed))


def apply(technique, net, data=None):
    return technique.apply(net, data, Run(RNG(0)))


def mask(net, name):
    return net.forms()[f"{name}.weight"].mask


def bits(net) -> bytes:
    return b"".join(a.tobytes() for a in net.state_dict().values())


# -------------------------------------------------------------------------------------- how many go


@pytest.mark.parametrize("s", [0.0, 0.31, 0.5, 0.9, 0.999])
def test_each_layer_has_exactly_round_s_n_zeros_and_keeps_its_other_values(s):
    net = model()
    pruned = apply(Magnitude(sparsity=s), net)
    for node, name in weights(net).items():
        w, form = net.forms()[name].dense().data, pruned.forms()[name]
        np.testing.assert_array_equal(form.mask, magnitude_mask(w, s))
        assert np.count_nonzero(~form.mask) == round(s * w.size)
        np.testing.assert_array_equal(form.dense().data, np.where(form.mask, w, 0), strict=True)
        assert pruned.forms()[f"{node}.bias"].mask is None


def test_han_s_threshold_is_quality_times_std():
    net = model()
    pruned = apply(Magnitude(quality=1.2), net)
    for name in weights(net).values():
        w = net.forms()[name].dense().data
        np.testing.assert_array_equal(
            pruned.forms()[name].mask, np.abs(w) > 1.2 * np.std(w.astype(np.float64))
        )
    again = apply(
        Magnitude(quality=0.9), pruned
    )  # of the weights that are left, so a second round goes on
    w = pruned.forms()["fc1.weight"].dense().data
    np.testing.assert_array_equal(
        mask(again, "fc1"), np.abs(w) > 0.9 * np.std(w[w != 0].astype(np.float64))
    )
    assert 0 < mask(again, "fc1").sum() < mask(pruned, "fc1").sum()


def test_the_percentile_of_magnitudes():
    net = model()
    pruned = apply(Magnitude(percentile=0.75), net)
    w = np.abs(net.forms()["fc1.weight"].dense().data)
    np.testing.assert_array_equal(mask(pruned, "fc1"), w > np.quantile(w, 0.75))


def test_the_scopes_rank_a_layer_a_row_or_everything():
    net = model()
    net.set_form(
        "fc2.weight", Dense(net.forms()["fc2.weight"].value.data * 10)
    )  # the global ranking spares it
    kernel, everything = (
        apply(Magnitude(sparsity=0.5, scope=s), net) for s in ("kernel", "global")
    )
    np.testing.assert_array_equal((~mask(kernel, "fc1")).sum(axis=1), np.full(16, 10))
    masks = [mask(everything, n) for n in ("fc1", "fc2", "fc3")]
    total = sum(m.size for m in masks)
    assert sum(np.count_nonzero(~m) for m in masks) == round(0.5 * total)
    dropped = [np.count_nonzero(~m) / m.size for m in masks]
    assert dropped[1] < 0.2 < 0.5 < dropped[0]
    flat = np.concatenate(
        [np.abs(net.forms()[n].dense().data).ravel() for n in weights(net).values()]
    )
    np.testing.assert_array_equal(
        np.concatenate([m.ravel() for m in masks]), magnitude_mask(flat, 0.5)
    )


def test_convolutions_and_patterns():
    net = LeNet5(rng=RNG(0))
    pruned = apply(Magnitude(sparsity={"*": 0.9, "conv*": 0.5, "conv2": 0.75}), net)
    zeros = {n: np.count_nonzero(~mask(pruned, n)) for n in ("conv1", "conv2", "fc1", "fc2")}
    assert zeros == {"conv1": 250, "conv2": round(0.75 * 25000), "fc1": 360000, "fc2": 4500}
    only = apply(Magnitude(sparsity={"fc1": 0.9}), net)
    assert np.count_nonzero(~mask(only, "fc1")) == 360000 and mask(only, "conv1").all()
    some = apply(Magnitude(quality={"fc1": 1.0}), net)
    assert not mask(some, "fc1").all() and mask(some, "fc2").all()
    half = apply(Magnitude(percentile={"fc1": 0.5}), net)
    assert np.count_nonzero(mask(half, "fc1")) == 200000 and mask(half, "conv2").all()


# --------------------------------------------------------------------------------------- invariants


def test_masks_of_higher_sparsity_lie_within_those_of_lower():
    net, before = model(), None
    for s in (0.2, 0.5, 0.5, 0.8, 0.95):
        now = mask(apply(Magnitude(sparsity=s), net), "fc1")
        if before is not None:
            assert not (now & ~before).any()
        before = now


@pytest.mark.parametrize("scope", ["local", "kernel", "global"])
def test_pruning_what_is_pruned_goes_on_to_exactly_the_sparsity(scope):
    # The weights still there that happen to be 0 must not count twice: pruned entries are ranked
    # first.
    net = model()
    first = apply(Magnitude(sparsity=0.5), net)
    for name in weights(first).values():
        form = first.forms()[name]
        live = np.flatnonzero(form.mask)
        form.value.data.ravel()[live[: len(live) // 4]] = 0
    second = apply(Magnitude(sparsity=0.55, scope=scope), first)
    zeros = [np.count_nonzero(~second.forms()[n].mask) for n in weights(net).values()]
    sizes = [320, 144, 36]
    if scope == "kernel":
        rows = (~mask(second, "fc1")).sum(axis=1)
        pruned = (~mask(first, "fc1")).sum(axis=1)
        np.testing.assert_array_equal(rows, np.maximum(pruned, 11))
    elif scope == "local":
        assert zeros == [round(0.55 * n) for n in sizes]
    else:
        assert sum(zeros) == round(0.55 * sum(sizes))
    for name in weights(net).values():
        assert not (second.forms()[name].mask & ~first.forms()[name].mask).any()


def test_less_than_what_is_pruned_already_prunes_nothing_more():
    first = apply(Magnitude(sparsity=0.8), model())
    assert bits(apply(Magnitude(sparsity=0.5), first)) == bits(first)
    assert bits(apply(Magnitude(sparsity=0.8), first)) == bits(first)


def test_masks_survive_training_with_momentum_and_weight_decay():
    # TECHNIQUES, traps: masking gradients is not enough, momentum and weight decay revive pruned
    # weights.
    rng = RNG(1)
    x, y = rng.standard_normal((128, 20)).astype(np.float32), rng.integers(0, 4, 128)
    part = SimpleNamespace(x=x, y=y)
    pruned = apply(Magnitude(sparsity=0.8), model())
    for optimizer in ("sgd", "adam", "adamw", "adamax"):
        tuned = FineTune(epochs=2, optimizer=optimizer, lr=0.05, weight_decay=0.01).apply(
            pruned, SimpleNamespace(train=part, val=part), Run(RNG(0))
        )
        for name in weights(pruned).values():
            m = pruned.forms()[name].mask
            w = tuned.forms()[name].dense().data
            assert not w[~m].any() and np.all(w[m] != pruned.forms()[name].dense().data[m])
            np.testing.assert_array_equal(tuned.forms()[name].mask, m)


def test_half_weights_stay_half_and_a_pinned_codebook_gives_codes_up():
    net = model()
    net.set_form("fc1.weight", Half(net.forms()["fc1.weight"].value))
    codes = RNG(0).integers(0, 4, (9, 16))
    net.set_form("fc2.weight", Codebook(codes, [0.0, 1.0, -2.0, 3.0], pinned_zero=True))
    pruned = apply(Magnitude(sparsity=0.75), net)
    assert type(pruned.forms()["fc1.weight"]) is Half
    form = pruned.forms()["fc2.weight"]
    assert type(form) is Codebook and np.count_nonzero(form.index == 0) == 108
    assert not ((form.index != 0) & (form.index != codes)).any()
    net.set_form("fc2.weight", Codebook(codes, [0.0, 1.0, -2.0, 3.0]))
    with pytest.raises(
        UserError, match="fc2.weight: a codebook without a pinned zero cannot be pruned"
    ):
        apply(Magnitude(sparsity=0.75), net)


def test_small_weights_matter_less_than_large_ones():
    # The paper's premise on a trained net: dropping the 70 % smallest weights costs far less than
    # the largest.
    rng = RNG(3)
    centres = rng.standard_normal((4, 20)) * 1.2
    y = rng.integers(0, 4, 600)
    x = (centres[y] + rng.standard_normal((600, 20))).astype(np.float32)
    data = SimpleNamespace(
        train=SimpleNamespace(x=x[:400], y=y[:400]), val=SimpleNamespace(x=x[400:], y=y[400:])
    )
    net = FineTune(epochs=15, lr=0.05).apply(model(), data, Run(RNG(0)))
    small = apply(Magnitude(sparsity=0.7), net)
    large = net.copy()
    for name in weights(net).values():
        w = net.forms()[name].dense().data
        order = np.argsort(-np.abs(w), axis=None)
        keep = np.ones(w.size, bool)
        keep[order[: round(0.7 * w.size)]] = False
        large.set_form(name, Dense(w, keep.reshape(w.shape)))

    def errors(m):
        return np.count_nonzero(m(data.val.x).data.argmax(1) != data.val.y)

    assert errors(net) <= 20
    assert errors(small) <= errors(net) + 40 < errors(large)


# ------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    "knobs, message",
    [
        ({}, "exactly one of sparsity, quality and percentile must be given, got none"),
        (
            {"sparsity": 0.5, "quality": 1.0},
            "exactly one of .* must be given, got sparsity, quality",
        ),
        (
            {"quality": 1.0, "scope": "kernel"},
            "magnitude: scope kernel needs sparsity, got quality",
        ),
        (
            {"quality": 1.0, "scope": "global"},
            "magnitude: scope global needs sparsity, got quality",
        ),
        (
            {"sparsity": {"*": 0.5}, "scope": "global"},
            "magnitude: scope global needs one sparsity for all layers, got one by pattern",
        ),
    ],
)
def test_wrong_knobs(knobs, message):
    with pytest.raises(UserError, match=message):
        Magnitude(**knobs)


def test_a_pattern_must_match_a_layer_with_weights_to_prune():
    from minicomp.models import DepthwiseNet32

    with pytest.raises(
        UserError, match=r"magnitude: sparsity@conv\* matches no layer; there are fc1, fc2, fc3"
    ):
        apply(Magnitude(sparsity={"conv*": 0.5}), LeNet300())
    with pytest.raises(
        UserError, match=r"sparsity@\*_bn matches no layer; there are stem, block1.dw, "
    ):
        apply(
            Magnitude(sparsity={"*_bn": 0.5}), DepthwiseNet32()
        )  # batch norm has no weight to prune


def test_weights_that_are_not_numbers_are_refused():
    net = model()
    net.forms()["fc2.weight"].value.data[0, 0] = np.nan
    with pytest.raises(UserError, match="magnitude: fc2.weight must hold finite numbers"):
        apply(Magnitude(sparsity=0.5), net)


def test_kept_fraction_of_the_papers():
    # Han et al. 2015, table 3: fc1 8 %, fc2 9 %, fc3 26 % kept of LeNet-300-100, 8 % in all
    pruned = apply(
        Magnitude(sparsity={"fc1": 0.92, "fc2": 0.91, "fc3": 0.74}), LeNet300(rng=RNG(0))
    )
    assert [pruned.forms()[f"fc{i}.weight"].nonzeros() for i in (1, 2, 3)] == [18816, 2700, 260]
    assert kept(pruned) == pytest.approx(21776 / 266200)


def test_no_layer_is_emptied_by_one_ranking_of_all():
    # fc1 is a thousand times smaller: all of it would go. One weight stays, or what `floor` says,
    # and as many others go instead.
    net = model()
    net.forms()["fc1.weight"].value.data[:] *= np.float32(1e-3)
    sizes = {name: net.forms()[name].dense().data.size for name in weights(net).values()}
    for floor, least in ((0.0, 1), (0.1, math.ceil(0.1 * sizes["fc1.weight"]))):
        made = apply(Magnitude(sparsity=0.8, scope="global", floor=floor), net)
        kept = {name: int(made.forms()[name].mask.sum()) for name in sizes}
        assert sum(sizes.values()) - sum(kept.values()) == round(0.8 * sum(sizes.values()))
        assert kept["fc1.weight"] == least
        w = np.abs(net.forms()["fc1.weight"].dense().data)
        mask = made.forms()["fc1.weight"].mask
        assert w[mask].min() >= w[~mask].max()
    with pytest.raises(UserError, match="magnitude: sparsity must be at most .* to keep"):
        apply(Magnitude(sparsity=0.8, scope="global", floor=0.5), net)
    with pytest.raises(UserError, match="magnitude: floor is of scope global, got scope local"):
        Magnitude(sparsity=0.8, floor=0.5)


def test_a_kernel_is_a_slice_of_a_convolution():
    w = np.array([[[[1.0, 2.0], [3.0, 4.0]], [[0.1, 0.2], [0.3, 0.4]]]], np.float32)
    net = Model(chain(("conv", Conv2d(2, 1, 2))), input_shape=(2, 2, 2))
    net.set_form("conv.weight", Dense(w))
    mask = apply(Magnitude(sparsity=0.5, scope="kernel"), net).forms()["conv.weight"].mask
    np.testing.assert_array_equal(mask, w >= [[[[3]], [[0.3]]]])
