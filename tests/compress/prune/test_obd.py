import numpy as np
import pytest

from minicomp import data as datasets
from minicomp.compress.curvature import hessian as second
from minicomp.compress.finetune import FineTune
from minicomp.compress.prune.magnitude import Magnitude
from minicomp.compress.prune.obd import (
    OBD,
    obd_input,
    obd_saliency,
    obd_shared,
    obd_unit,
    obd_weight,
    second_derivatives,
)
from minicomp.compress.technique import Run, weights
from minicomp.data import Dataset, Split
from minicomp.errors import UserError
from minicomp.models import MLP
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
    Dropout,
    Flatten,
    Identity,
    Linear,
    MaxPool2d,
    Model,
    Node,
    ReLU,
    ReLU6,
    Sigmoid,
    Tanh,
    chain,
)
from minicomp.tensor import grad

RNG = np.random.default_rng


def random(model, seed=0, scale=0.7):
    for name, form in model.forms().items():
        model.set_form(
            name, Dense((scale * RNG(seed).standard_normal(form.shape)).astype(np.float32))
        )
        seed += 1
    return second.float64(model)


# --------------------------------------------------------------------------------- the equations


def test_saliency_by_hand_and_the_true_rise_on_a_quadratic():
    h, u = np.array([4.0, 0.1, 1.0]), np.array([1.0, 3.0, -2.0])
    np.testing.assert_array_equal(obd_saliency(u, h), 0.5 * h * u * u)
    for k in range(3):
        cut = np.where(np.arange(3) == k, 0, u)
        assert obd_saliency(u, h)[k] == pytest.approx(0.5 * np.sum(h * (cut - u) ** 2))


def test_a_chain_of_two_units_by_hand():
    # x = tanh(w x0), E = 1/2 (d - v x)^2: every derivative on paper.
    w, v, x0, d = 0.4, -1.3, 0.9, 0.5
    a = w * x0
    x, f1 = np.tanh(a), 1 - np.tanh(a) ** 2
    f2 = -2 * x * f1
    dx, hx = -(d - v * x) * v, v * v
    assert obd_input(np.array([[v]]), np.array([[1.0]]))[0, 0] == hx
    ha = obd_unit(np.array([[hx]]), np.array([[dx]]), np.array([[f1]]), np.array([[f2]]))
    assert ha[0, 0] == pytest.approx(f1 * f1 * hx + f2 * dx)  # eq. 7 with a plus
    assert obd_weight(ha, np.array([[x0]]))[0, 0] == pytest.approx(ha[0, 0] * x0 * x0)

    def loss(w):
        return 0.5 * (d - v * np.tanh(w * x0)) ** 2

    finite = (loss(w + 1e-4) - 2 * loss(w) + loss(w - 1e-4)) / 1e-8
    assert ha[0, 0] * x0 * x0 == pytest.approx(finite, rel=1e-6)
    assert (
        obd_unit(np.array([hx]), np.array([dx]), np.array([f1]))[0] == f1 * f1 * hx
    )  # without f''


def test_shared_parameters_sum_over_their_connections():
    h, index = np.array([[1.0, 2.0], [4.0, 8.0]]), np.array([[0, 2], [2, 0]])
    np.testing.assert_array_equal(obd_shared(h, index, 3), [9, 0, 6])


# -------------------------------------------------------------------------------- one pass back


@pytest.mark.parametrize("loss", second.LOSSES)
def test_the_pass_is_exact_where_no_two_paths_meet(loss):
    # One unit a layer. Two outputs of softmax do meet: cross-entropy is exact in the last layer.
    K = 1 if loss == "squared" else 2
    model = random(
        Model(
            chain(
                ("a", Linear(3, 1)),
                ("s", Sigmoid()),
                ("b", Linear(1, 1)),
                ("t", Tanh()),
                ("c", Linear(1, K)),
            ),
            input_shape=(3,),
        )
    )
    x, y = RNG(1).standard_normal((7, 3)), RNG(2).integers(0, 2, 7)
    found = second_derivatives(model, x, y, loss, f2=True)
    exact = second.exact_diagonal(model, x, y, loss)
    for name in exact if K == 1 else ("c.weight", "c.bias"):
        np.testing.assert_allclose(found[name], exact[name], rtol=1e-10)
    without = second_derivatives(model, x, y, loss, f2=False)
    assert all((h >= 0).all() for h in without.values())
    assert np.abs(without["a.weight"] - found["a.weight"]).max() > 1e-5


def test_a_convolution_s_weight_sums_over_positions_and_the_exact_one_has_their_cross_terms():
    # A linear convolution of one channel: the pass squares, then sums over positions; exactly it is
    # the other way round.
    model = random(
        Model(
            chain(("c", Conv2d(1, 1, 2)), ("f", Flatten()), ("o", Linear(4, 1))),
            input_shape=(1, 3, 3),
        )
    )
    x, y = RNG(3).standard_normal((5, 1, 3, 3)), RNG(4).integers(0, 2, 5)
    v = model.forms()["o.weight"].value.data.reshape(2, 2)
    found = second_derivatives(model, x, y, "squared", f2=True)["c.weight"][0, 0]
    exact = second.exact_diagonal(model, x, y, "squared")["c.weight"][0, 0]
    for a, b in np.ndindex(2, 2):
        patch = x[:, 0, a : a + 2, b : b + 2]
        assert found[a, b] == pytest.approx(np.mean(np.sum((v * patch) ** 2, axis=(1, 2))))
        assert exact[a, b] == pytest.approx(np.mean(np.sum(v * patch, axis=(1, 2)) ** 2))


STAGES = {
    "relu": [("s", ReLU())],
    "relu6": [("s", ReLU6())],
    "identity": [("s", Identity())],
    "dropout": [("s", Dropout(0.5))],
    "max": [("s", MaxPool2d(2))],
    "max overlapping": [("s", MaxPool2d(3, stride=1, padding=1))],
    "average": [("s", AvgPool2d(2))],
    "average padded": [("s", AvgPool2d(3, stride=2, padding=1))],
    "adaptive": [("s", AdaptiveAvgPool2d(2))],
    "bn": [("s", BatchNorm2d(4))],
    "shuffle": [("s", ChannelShuffle(2))],
    "conv": [("s", Conv2d(4, 6, 3, stride=2, padding=1, groups=2))],
    "sigmoid": [("s", Sigmoid())],
    "tanh": [("s", Tanh())],
}


@pytest.mark.parametrize("stage", STAGES)
def test_every_layer_passes_curvature_as_its_squared_jacobian(stage):
    # With one stage between a and squared error no paths meet: d2E/da^2 = sum_k (dz_k/da)^2 / P.
    model = random(
        Model(
            chain(("c", Conv2d(2, 4, 1)), *STAGES[stage], ("f", Flatten())), input_shape=(2, 4, 4)
        )
    )
    if stage == "bn":
        model.buffers()["s.running_var"][...] = [0.3, 1, 2, 5]
    x, y = RNG(5).standard_normal((3, 2, 4, 4)), np.zeros(3, int)
    z, (a,), _ = second.tapped(model, x, [model.node("c")])
    J = np.stack([grad(z[:, k].sum(), a).data for k in range(z.shape[1])])
    h = second_derivatives(model, x, y, "squared", f2=False)
    np.testing.assert_allclose(h["c.bias"], (J**2).sum(axis=(0, 1, 3, 4)) / 3, rtol=1e-6)


def test_branches_add_where_they_meet_their_input():
    nodes = (
        Node("c", Conv2d(2, 4, 1)),
        Node("r", ReLU(), ("c",)),
        Node("t", Identity(), ("c",)),
        Node("cat", Concat(), ("r", "t")),
        Node("f", Flatten(), ("cat",)),
    )
    model = random(Model(nodes, input_shape=(2, 4, 4)))
    x, y = RNG(6).standard_normal((3, 2, 4, 4)), np.zeros(3, int)
    on = model(x, taps=("c",))[1]["c"].data > 0
    h = second_derivatives(model, x, y, "squared", f2=True)
    np.testing.assert_allclose(h["c.bias"], (1 + on).sum(axis=(0, 2, 3)) / 3, rtol=1e-12)
    nodes = nodes[:3] + (Node("add", Add(), ("r", "t")), Node("f", Flatten(), ("add",)))
    model = random(Model(nodes, input_shape=(2, 4, 4)))
    np.testing.assert_allclose(
        second_derivatives(model, x, y, "squared", f2=True)["c.bias"],
        (1 + on).sum(axis=(0, 2, 3)) / 3,
        rtol=1e-12,
    )  # cross terms are dropped


def test_a_layer_without_a_rule_says_so():
    model = random(
        Model(
            chain(("c", Conv2d(1, 2, 1)), ("p", AdaptiveAvgPool2d(2)), ("f", Flatten())),
            input_shape=(1, 3, 3),
        )
    )
    with pytest.raises(UserError, match="no rule takes second derivatives back through p"):
        second_derivatives(model, np.ones((2, 1, 3, 3)), np.zeros(2, int), "squared", f2=False)


@pytest.mark.parametrize("curvature", ["gauss-newton", "recursion", "exact"])
def test_a_layer_that_nothing_reads_has_curvature_0_and_goes_first(curvature):
    nodes = (Node("aux", Linear(3, 2)), Node("fc", Linear(3, 2)))
    model = Model(nodes, input_shape=(3,))
    for name, form in model.forms().items():
        model.set_form(name, Dense(RNG(1).standard_normal(form.shape).astype(np.float32)))
    split = Split(RNG(2).standard_normal((20, 3)).astype(np.float32), np.arange(20) % 2)
    technique = OBD(sparsity=0.5, curvature=curvature)
    h = technique.second(model, split.x, split.y)
    assert not h["aux.weight"].any() and not h["aux.bias"].any() and h["fc.weight"].all()
    data = Dataset("d", split, split, None, ("a", "b"), "files")
    pruned = technique.apply(model, data, Run(RNG(0)))
    assert not pruned.forms()["aux.weight"].mask.any() and pruned.forms()["fc.weight"].mask.all()


# ---------------------------------------------------------------------------------- the technique


@pytest.fixture(scope="module")
def trained():
    data = datasets.load("monks-3").without_test()
    model = FineTune(epochs=40, lr=0.1, weight_decay=1e-4, batch_size=16).apply(
        MLP([17, 12, 2], rng=RNG(0), activation=Tanh), data, Run(RNG(0))
    )
    return model, data


def apply(technique, model, data, log=None):
    return technique.apply(model, data, Run(RNG(0), log=log))


def loss(model, data):
    return second.mean_loss(model(data.train.x), data.train.y, "cross-entropy").item()


def zeros(model):
    return sum(int(np.count_nonzero(~model.forms()[n].mask)) for n in weights(model).values())


@pytest.mark.parametrize("curvature", ["gauss-newton", "recursion", "exact"])
@pytest.mark.parametrize("s", [0.0, 0.37, 0.9])
def test_exactly_round_s_n_go_and_the_rest_stays_as_it_is(trained, curvature, s):
    model, data = trained
    before = {n: f.value.data.copy() for n, f in model.forms().items()}
    pruned = apply(OBD(sparsity=s, curvature=curvature), model, data)
    assert zeros(pruned) == round(s * 228)
    for name, w in before.items():
        np.testing.assert_array_equal(model.forms()[name].value.data, w)
        mask = pruned.forms()[name].mask
        np.testing.assert_array_equal(
            pruned.forms()[name].value.data, w if mask is None else w * mask
        )
    local = apply(
        OBD(sparsity={"fc1": s, "fc2": 0.5}, scope="local", curvature=curvature), model, data
    )
    assert np.count_nonzero(~local.forms()["fc1.weight"].mask) == round(s * 204)
    assert np.count_nonzero(~local.forms()["fc2.weight"].mask) == 12


@pytest.mark.parametrize("curvature", ["gauss-newton", "exact"])
def test_it_costs_less_than_magnitude_and_its_sum_tracks_the_rise(trained, curvature):
    # The claim of figure 2: at every size the loss is at most that of deletion by magnitude.
    model, data = trained
    start, better = loss(model, data), 0
    h = OBD(curvature=curvature).second(model, data.train.x, data.train.y)
    for s in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6):
        pruned = apply(OBD(sparsity=s, curvature=curvature), model, data)
        rise = loss(pruned, data) - start
        other = loss(apply(Magnitude(sparsity=s, scope="global"), model, data), data) - start
        assert rise <= other + 1e-3
        better += rise < 0.8 * other
        if s <= 0.3:
            total = sum(
                obd_saliency(model.forms()[n].value.data, h[n])[~pruned.forms()[n].mask].sum()
                for n in weights(model).values()
            )
            assert abs(total - rise) <= 0.02
    assert better >= 3


def test_deleted_weights_stay_deleted_and_rounds_are_nested(trained):
    model, data = trained
    once = apply(OBD(sparsity=0.6, rounds=3), model, data)
    assert zeros(once) == round(0.6 * 228)
    tuned = FineTune(epochs=1, lr=0.1, momentum=0.9, weight_decay=1e-2).apply(
        once, data, Run(RNG(0))
    )
    more = apply(OBD(sparsity=0.8), tuned, data)
    assert zeros(more) == round(0.8 * 228)
    for name in weights(model).values():
        dead = ~once.forms()[name].mask
        assert (
            not tuned.forms()[name].value.data[dead].any()
            and not more.forms()[name].mask[dead].any()
        )
    assert zeros(apply(OBD(sparsity=0.8, biases=True), model, data)) + sum(
        int(np.count_nonzero(~f.mask))
        for n, f in apply(OBD(sparsity=0.8, biases=True), model, data).forms().items()
        if n.endswith("bias")
    ) == round(0.8 * 242)


def test_a_pruned_weight_goes_before_one_of_negative_saliency(trained):
    _, data = trained
    raw = MLP([17, 12, 2], rng=RNG(1), activation=Tanh)  # far from a minimum
    technique = OBD(sparsity=0.2, curvature="recursion")
    assert min(h.min() for h in technique.second(raw, data.train.x, data.train.y).values()) < 0
    first = apply(Magnitude(sparsity=0.2, scope="global"), raw, data)
    again = apply(technique, first, data)
    for name in weights(raw).values():
        np.testing.assert_array_equal(again.forms()[name].mask, first.forms()[name].mask)


def test_a_codebook_with_a_pinned_zero_is_pruned_too(trained):
    model, data = trained
    shared = model.copy()
    index = RNG(0).integers(1, 4, (12, 17))
    shared.set_form(
        "fc1.weight", Codebook(index, np.array([0, -0.5, 0.4, 0.9], np.float32), pinned_zero=True)
    )
    pruned = apply(OBD(sparsity=0.5), shared, data)
    assert zeros(pruned) == 114 and pruned.forms()["fc1.weight"].kind == "codebook"


def test_mistakes_are_named_and_leave_the_model_alone(trained):
    model, data = trained
    with pytest.raises(UserError, match="scope global needs one sparsity"):
        OBD(sparsity={"fc1": 0.5})
    with pytest.raises(UserError, match="matches no layer"):
        apply(OBD(sparsity={"conv*": 0.5}, scope="local"), model, data)
    spoiled = model.copy()
    spoiled.forms()["fc2.weight"].value.data[0, 0] = np.inf
    with pytest.raises(UserError, match="fc2.weight must hold finite numbers, got NaN or infinity"):
        apply(OBD(sparsity=0.5), spoiled, data)
    with (  # finite weights may have derivatives that are not
        pytest.raises(UserError, match="second derivatives of .* must be finite, got NaN"),
        np.errstate(all="ignore"),
    ):
        OBD(sparsity=0.5).second(spoiled, data.train.x, data.train.y)
    with pytest.raises(UserError, match="no Linear or Conv2d layer"):
        apply(OBD(sparsity=0.5), Model(chain(("f", Flatten())), input_shape=(17,)), data)


def test_a_sketch_has_the_zeros_and_needs_no_data(trained):
    model, _ = trained
    assert zeros(OBD(sparsity=0.7).sketch(model, rng=RNG(0))) == round(0.7 * 228)
