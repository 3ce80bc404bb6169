# Layers that are defined here alone go through channel removal, dead units, slimming, scores, OBD
# and the passport with no other edit; those that do not say what becomes of channels are refused by
# name.

import numpy as np
import pytest

from minicomp import ops
from minicomp.codec import load, save
from minicomp.compress.channels.removal import removal, removed
from minicomp.compress.prune.activation import SparseActivations
from minicomp.compress.prune.dead_units import DeadUnits
from minicomp.compress.prune.filters import Filters
from minicomp.compress.prune.obd import OBD
from minicomp.compress.prune.slimming import Slimming
from minicomp.compress.technique import Run, sparsity
from minicomp.data import Dataset, Split
from minicomp.deploy import lower
from minicomp.errors import UserError
from minicomp.jobs.criteria import CRITERIA
from minicomp.nn import BatchNorm2d, Conv2d, Dense, Flatten, Linear, Model, ReLU, chain
from minicomp.nn.layers import LAYERS, Layer
from minicomp.nn.layers.base import Plain
from minicomp.passport import passport
from minicomp.train import evaluate

RNG = np.random.default_rng


class ChannelScale(Layer):
    kind, coupling, pointwise, step = "ChannelScale", "keep", True, "scale"
    sizes = {"channels": "out"}

    def __init__(self, channels: int):
        super().__init__(channels=channels)
        self.forms["weight"] = Dense(np.ones(channels, np.float32))

    @classmethod
    def entries(cls, channels):
        return channels

    def forward(self, x, *, weights, **_):
        return x * ops.reshape(weights["weight"], shape=(1, -1, *[1] * (x.ndim - 2)))

    def lowered(self):
        gain = self.forms["weight"].freeze()
        return {"gain": gain, "bias": Dense(np.zeros(gain.shape, np.float32), trainable=False)}


class Softsign(Plain):
    kind, coupling, pointwise, activation = "Softsign", "keep", True, True

    def forward(self, x, **_):
        return x / (1.0 + ops.absolute(x))


class Centre(Plain):
    # It takes the mean over channels away, and does not say what becomes of channels.
    kind = "Centre"

    def forward(self, x, **_):
        return x - ops.mean(x, axis=1, keepdims=True)


class Contrast(Centre):
    # As Centre, but it says that channels compete.
    kind, coupling = "Contrast", "compete"


class Silent(ChannelScale):
    # An array per channel, and no word of how many channels there are.
    kind, sizes = "Silent", {}


class Project(Layer):
    # It mixes features, and has no bias that a constant could go into.
    kind, coupling = "Project", "mix"
    sizes = {"read": "in", "made": "out"}

    def __init__(self, read: int, made: int):
        super().__init__(read=read, made=made)
        self.forms["weight"] = Dense(np.zeros((made, read), np.float32))

    def forward(self, x, *, weights, **_):
        return ops.matmul(x, ops.transpose(weights["weight"]))

    def out_shape(self, shape):
        return (self.config()["made"],)


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    for layer in (ChannelScale, Softsign, Centre, Contrast, Silent, Project):
        monkeypatch.setitem(LAYERS, layer.kind, layer)


def net(*between, behind=()):
    rng = RNG(0)
    nodes = chain(("conv1", Conv2d(2, 6, 3)), *between, ("conv2", Conv2d(6, 5, 2)),
                  ("bn", BatchNorm2d(5)), ("relu", ReLU()), *behind, ("flat", Flatten()),
                  ("fc", Linear(45, 3)))
    model = Model(nodes, input_shape=(2, 6, 6))
    for name, form in model.forms().items():
        value = rng.standard_normal(form.shape) / np.sqrt(np.prod(form.shape[1:]))
        model.set_form(name, Dense(value.astype(np.float32)))
    return model


def toys():
    return net(("scale", ChannelScale(6)), ("soft", Softsign()))


def x_of(model, n=4):
    return RNG(9).standard_normal((n, *model.input_shape)).astype(np.float32)


def data(n=60):
    rng = RNG(8)
    split = Split(rng.standard_normal((n, 2, 6, 6)).astype(np.float32), rng.integers(3, size=n))
    return Dataset("toy", split, split, None, ("a", "b", "c"), "files")


# ------------------------------------------------------------------------------ what is let through


def test_channels_go_and_the_layer_with_them(tmp_path):
    model = toys()
    cut = removal(model, {"conv1": [0, 2, 5]})
    small = cut.apply(model)
    assert small.node("scale").layer.config() == {"channels": 3}
    scales = [m.forms()["scale.weight"].value.data for m in (model, small)]
    np.testing.assert_array_equal(scales[1], scales[0][[0, 2, 5]])
    np.testing.assert_allclose(
        small(x_of(model)).data, cut.mask(model)(x_of(model)).data, rtol=1e-5, atol=1e-6
    )
    save(small, tmp_path / "small.mcz")
    np.testing.assert_array_equal(
        load(tmp_path / "small.mcz")(x_of(model)).data, small(x_of(model)).data
    )


def test_a_constant_is_folded_through_the_layers():
    model = toys()
    w = model.forms()["conv1.weight"].value.data
    w[[1, 4]] = 0  # two units are softsign(scale b)
    model.forms()["conv1.bias"].value.data[1] = 2
    rows = []
    small = DeadUnits().apply(model, None, Run(RNG(0), log=rows.append))
    assert rows[-1]["units"] == {"conv1": 2, "conv2": 0}
    np.testing.assert_allclose(small(x_of(model)).data, model(x_of(model)).data, atol=1e-5)


def test_slimming_trains_them_and_removes_channels_that_pass_them():
    model = net(("soft", Softsign()), behind=[("scale", ChannelScale(5)), ("soft2", Softsign())])
    model.forms()["bn.weight"].value.data[[1, 4]] = 1e-3  # the two that go
    training = Slimming(sparsity=0.4, lam=1e-3).training(epochs=1, lr=1e-3, batch_size=20)
    made = training.apply(model, data(), Run(RNG(0)))
    for name, shape in (("bn.weight", (3,)), ("scale.weight", (3,)), ("fc.weight", (3, 27))):
        assert made.forms()[name].shape == shape
    np.testing.assert_allclose(made.forms()["conv2.weight"].dense().data,
                               model.forms()["conv2.weight"].dense().data[[0, 2, 3]], atol=0.1)
    assert np.isfinite(made(x_of(model)).data).all()


@pytest.mark.parametrize("word", CRITERIA)
def test_every_criterion_scores_a_net_of_them(word):
    pruned = CRITERIA[word].apply(toys(), data(), Run(RNG(0)))
    assert sparsity(pruned) > 0.2
    assert pruned.forms()["scale.weight"].mask is None


@pytest.mark.parametrize("curvature", ["gauss-newton", "recursion", "exact"])
def test_curvature_goes_back_through_them(curvature):
    model, some = toys(), data().train
    technique = OBD(curvature=curvature)
    found = technique.second(model, some.x, some.y)["conv1.weight"]
    assert np.abs(found).max() > 1e-6 and found.shape == (6, 2, 3, 3)


def projecting():
    nodes = chain(("fc", Linear(4, 5)), ("soft", Softsign()), ("project", Project(5, 6)),
                  ("relu", ReLU()), ("out", Project(6, 2)))
    model = Model(nodes, input_shape=(4,))
    for i, (name, form) in enumerate(model.forms().items()):
        model.set_form(name, Dense(RNG(i).standard_normal(form.shape).astype(np.float32)))
    return model


def test_a_layer_that_mixes_loses_rows_and_columns():
    model = projecting()
    small = removed(model, {"fc": [1, 4], "project": [0, 2, 3]})
    assert small.node("project").layer.config() == {"read": 2, "made": 3}
    np.testing.assert_array_equal(
        small.forms()["project.weight"].value.data,
        model.forms()["project.weight"].value.data[np.ix_([0, 2, 3], [1, 4])],
    )


@pytest.mark.parametrize("bias, gone", [(0.7, 0), (0.0, 1)])
def test_a_constant_stays_where_no_bias_can_take_it(bias, gone):
    model, rows = projecting(), []
    model.forms()["fc.weight"].value.data[3] = 0
    model.forms()["fc.bias"].value.data[3] = bias
    small = DeadUnits().apply(model, None, Run(RNG(0), log=rows.append))
    assert rows[-1]["units"] == {"fc": gone, "project": 0}
    np.testing.assert_allclose(small(x_of(model)).data, model(x_of(model)).data, rtol=1e-5)


def test_an_activation_gets_a_threshold_behind_it():
    made = SparseActivations(threshold=0.1).apply(toys(), data(), Run(RNG(0)))
    assert made.node("soft.sparse").inputs == ("soft",)


def test_a_passport_counts_them_and_times_what_says_by_which_step_it_is_computed(tmp_path):
    model = net(("scale", ChannelScale(6)))
    save(model, tmp_path / "toys.mcz")
    made = passport(model, path=tmp_path / "toys.mcz", data=data().train, timed=True)
    row = next(row for row in made.layers if row.name == "scale")
    assert (row.kind, row.parameters, row.macs) == ("ChannelScale", 6, 0)
    assert made.file_bytes == (tmp_path / "toys.mcz").stat().st_size and made.ms > 0
    assert made.errors == evaluate(model, data().train).errors
    np.testing.assert_allclose(
        lower(model).plan(batch=4)(x_of(model)), model(x_of(model)).data, rtol=1e-4, atol=1e-5
    )
    assert passport(toys(), data=data().train, timed=False).macs == made.macs
    with pytest.raises(ValueError, match="^soft: a Softsign cannot be lowered"):
        lower(toys())
    assert passport(toys(), timed=True).ms > 0  # as the model that it is


# ---------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    "act",
    [
        lambda model: removed(model, {"conv1": [0, 1]}),
        lambda model: DeadUnits().apply(model, None, Run(RNG(0))),
        lambda model: Slimming(sparsity=0.4).slimmed(model),
        lambda model: Filters(sparsity=0.5).apply(model, None, Run(RNG(0))),
    ],
)
def test_a_layer_that_does_not_say_is_refused_by_name(act):
    model = net(("centre", Centre()))
    with pytest.raises(UserError, match=r"^centre: channels of a Centre \(coupling None\) cannot"):
        act(model)


def test_a_layer_that_does_not_say_has_no_rule_for_curvature_but_an_exact_one():
    model, some = net(("centre", Centre())), data().train
    with pytest.raises(UserError, match="no rule takes .* back through centre, a Centre"):
        OBD().second(model, some.x, some.y)
    assert OBD(curvature="exact").second(model, some.x, some.y)["conv1.weight"].any()


@pytest.mark.parametrize("curvature", ["gauss-newton", "recursion", "exact"])
def test_a_layer_that_mixes_and_does_not_show_its_rows_is_refused_by_obd(curvature):
    x, y = RNG(0).standard_normal((8, 4)), np.arange(8) % 2
    with pytest.raises(UserError, match="a Project does not show what its outputs see of its in"):
        OBD(curvature=curvature).second(projecting(), x, y)


def test_what_does_not_ask_for_channels_works_with_it(tmp_path):
    model = net(("centre", Centre()))
    assert sparsity(CRITERIA["magnitude"].apply(model, data(), Run(RNG(0)))) > 0.2
    save(model, tmp_path / "it.mcz")
    np.testing.assert_array_equal(
        load(tmp_path / "it.mcz")(x_of(model)).data, model(x_of(model)).data
    )
    assert passport(model, timed=False).macs > 0


def test_channels_that_compete_are_not_dead_though_nobody_reads_them_or_they_are_constant():
    model = net(("contrast", Contrast()))
    model.forms()["conv1.weight"].value.data[1] = 0
    model.forms()["conv2.weight"].value.data[:, 3] = 0
    rows = []
    small = DeadUnits().apply(model, None, Run(RNG(0), log=rows.append))
    assert rows[-1]["units"] == {"conv1": 0, "conv2": 0}
    np.testing.assert_array_equal(small(x_of(model)).data, model(x_of(model)).data)
    assert removed(model, {"conv1": [0, 2]}).forms()["conv1.weight"].shape[0] == 2


def test_a_layer_that_does_not_count_its_channels_is_refused_where_it_would_be_cut():
    model = net(("silent", Silent(6)))
    assert removed(model, {"conv2": [0]}).forms()["silent.weight"].shape == (6,)
    with pytest.raises(UserError, match=r"^silent: channels of a Silent .* does not say which"):
        removed(model, {"conv1": [0]})
