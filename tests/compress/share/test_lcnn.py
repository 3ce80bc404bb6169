from types import SimpleNamespace

import numpy as np
import pytest

from minicomp.compress import LCNN, Run
from minicomp.compress.share.lcnn import (SparseP, first_dictionary, kept_of, lookup_conv, pursuit,
                                          vectors)
from minicomp.conv import conv2d
from minicomp.data import Split
from minicomp.deploy import choose, lower
from minicomp.deploy.choose import LOOKUPS
from minicomp.deploy.runtime import Plan
from minicomp.errors import UserError
from minicomp.models import MLP
from minicomp.nn import BatchNorm2d, Conv2d, Dense, Dictionary, Flatten, Linear, Model, ReLU, chain
from minicomp.nn.forms.dictionary import dictionary_weights
from minicomp.train import evaluate

RNG = np.random.default_rng


def dictionary(shape, k, kept=0.2, seed=0):
    rng, places = RNG(seed), shape[0] * int(np.prod(shape[2:]))
    P = rng.standard_normal((places, k)) * (rng.random((places, k)) < kept)
    return Dictionary.of(rng.standard_normal((k, shape[1])), P, shape)


@pytest.mark.parametrize("stride, padding", [(1, 0), (1, 2), (2, 1), (3, 0)])
def test_a_convolution_by_look_ups_is_the_dense_one(stride, padding):
    form, x = dictionary((4, 3, 2, 3), 6), RNG(1).standard_normal((2, 3, 7, 8))
    atoms, c = (getattr(form, n).value.data.astype(float) for n in ("atoms", "coefficient"))
    y = lookup_conv(x, atoms, form.counts, form.index, c, form.shape, stride, padding)
    w = np.asarray(dictionary_weights(atoms, form.counts, form.index, c, form.shape))
    want = conv2d(x, w, stride=(stride, stride), padding=(padding, padding))
    np.testing.assert_allclose(y, np.asarray(want), atol=1e-12)


def test_pursuit_finds_what_a_few_atoms_made_and_never_gets_worse():
    rng = RNG(3)
    D = np.linalg.qr(rng.standard_normal((8, 8)))[0]  # orthogonal: one answer
    P = np.zeros((20, 8))
    for row in P:
        row[rng.permutation(8)[:3]] = rng.standard_normal(3)
    np.testing.assert_allclose(pursuit(P @ D, D, 3), P, atol=1e-12)
    X, D = rng.standard_normal((15, 5)), rng.standard_normal((9, 5))
    errors = [np.square(X - pursuit(X, D, s) @ D).sum() for s in range(1, 6)]
    assert all(a >= b for a, b in zip(errors, errors[1:])) and errors[-1] < 1e-20
    assert (np.count_nonzero(pursuit(X, D, 2), axis=1) <= 2).all()
    assert not pursuit(np.zeros((2, 5)), D, 3).any()


def test_one_look_up_is_the_best_single_atom_by_brute_force():
    rng = RNG(4)
    X, D = rng.standard_normal((10, 4)), rng.standard_normal((6, 4))
    P = pursuit(X, D, 1)
    for x, p in zip(X, P):
        errors = [np.square(x - (x @ d) / (d @ d) * d).sum() for d in D]
        assert np.flatnonzero(p).tolist() == [int(np.argmin(errors))]
        assert np.square(x - p @ D).sum() == pytest.approx(min(errors))


@pytest.mark.peers
def test_pursuit_is_that_of_scikit_learn():
    linear_model = pytest.importorskip("sklearn.linear_model")
    rng = RNG(5)
    X, D = rng.standard_normal((30, 8)), rng.standard_normal((20, 8))
    D /= np.linalg.norm(D, axis=1, keepdims=True)
    for s in (1, 3, 5):
        want = linear_model.orthogonal_mp(D.T, X.T, n_nonzero_coefs=s).T
        np.testing.assert_allclose(pursuit(X, D, s), want, atol=1e-9)


def test_the_first_dictionary_beats_drawn_atoms_and_fits_what_has_one():
    rng = RNG(6)
    X = rng.standard_normal((60, 8))
    D, P = first_dictionary(X, 12, 2, rng=RNG(0))
    drawn = X[:12] / np.linalg.norm(X[:12], axis=1, keepdims=True)
    error = [np.square(X - p @ d).sum() for p, d in ((P, D), (pursuit(X, drawn, 2), drawn))]
    assert error[0] < 0.85 * error[1]
    np.testing.assert_allclose(np.linalg.norm(D, axis=1), 1)


def test_what_is_kept_of_p():
    P = np.array([[0.5, -2, 1, 0], [0, 0, 0.1, 0]])
    assert kept_of(P, 2, 0).astype(int).tolist() == [[0, 1, 1, 0], [0, 0, 1, 0]]
    assert kept_of(P, 1, 0.4).astype(int).tolist() == [[1, 1, 1, 0], [0, 0, 0, 0]]
    wide = np.ones((1, 300))
    assert kept_of(wide, 1, 0.5)[0].tolist() == [True] * 255 + [False] * 45


def test_the_form_that_trains_freezes_into_look_ups():
    rng = RNG(7)
    form = SparseP(rng.standard_normal((5, 3)), rng.standard_normal((8, 5)), (2, 3, 2, 2), 2, 0.0)
    frozen = form.freeze()
    assert type(frozen) is Dictionary and frozen.lookups == 16 and not frozen.trainable
    np.testing.assert_allclose(frozen.dense().data, form.dense().data, atol=1e-6)
    w = form.dense(training=True)
    pulled = form.pull_back(w, np.ones(form.shape, np.float32))
    assert (pulled["P"] != 0).all(), "straight through, behind the threshold too"


def data():
    rng = RNG(0)
    x = rng.standard_normal((400, 2, 6, 6)).astype(np.float32)
    y = (x[:, 0, 1:4, 1:4].sum(axis=(1, 2)) > x[:, 1, 2:5, 2:5].sum(axis=(1, 2))).astype(np.int64)
    return SimpleNamespace(train=Split(x[:300], y[:300]), val=Split(x[300:], y[300:]))


def net():
    nodes = chain(("conv", Conv2d(2, 8, 3)), ("relu", ReLU()), ("flatten", Flatten()),
                  ("fc", Linear(128, 2)))
    model, rng = Model(nodes, input_shape=(2, 6, 6)), RNG(1)
    for name, form in model.forms().items():
        if len(form.shape) > 1:
            model.set_form(name, Dense(0.2 * rng.standard_normal(form.shape)))
    return model


def trained(technique, epochs=8):
    training = technique.training(epochs=epochs, lr=0.05, batch_size=20)
    return training.apply(net(), data(), Run(RNG(2)))


def test_look_ups_and_atoms_train_together():
    knobs = {"atoms": 2, "lookups": 1, "real": {"*": False, "fc": True}}
    before = trained(LCNN(**knobs), epochs=0)
    after = trained(LCNN(**knobs))
    form = after.forms()["conv.weight"]
    assert type(form) is Dictionary and form.k == 2 and form.lookups <= 72
    assert (form.index != before.forms()["conv.weight"].index).any(), "look-ups move too"
    assert evaluate(after, data().val).error < 0.2 < evaluate(before, data().val).error


def test_a_larger_lambda_leaves_fewer_look_ups():
    left = [sum(f.lookups for f in trained(LCNN(atoms=8, lookups=3, eps=0.02, lam=lam)).forms()
                .values() if f.kind == "dictionary") for lam in (0.0, 0.01)]
    assert left[1] < 0.7 * left[0]


@pytest.mark.parametrize("padding", [0, 1, (2, 0)])
def test_a_program_looks_up_and_gives_what_the_dense_net_gives(padding, monkeypatch):
    monkeypatch.setitem(choose.LIMITS, LOOKUPS, (1.0, 1))
    monkeypatch.setattr(choose, "ROW_LEAST", 1)
    conv = Conv2d(24, 32, (3, 2), padding=padding)
    features = int(np.prod(conv.out_shape((24, 7, 8))))
    bn = BatchNorm2d(32)
    model = Model(chain(("conv", conv), ("bn", bn), ("relu", ReLU()), ("flatten", Flatten()),
                        ("fc", Linear(features, 40))), input_shape=(24, 7, 8))
    model.set_forms({"conv.weight": dictionary((32, 24, 3, 2), 12, 0.15),
                     "conv.bias": Dense(RNG(3).standard_normal(32)),
                     "bn.weight": Dense(np.linspace(-1, 2, 32)),
                     "fc.weight": dictionary((40, features), 4)})
    program, x = lower(model), RNG(4).standard_normal((1, 24, 7, 8)).astype(np.float32)
    plan = program.plan()
    if not choose._vectors(plan.isa):
        pytest.skip("no rung with vectors runs here")
    assert plan.layouts == {"conv": LOOKUPS, "fc": LOOKUPS}
    dense = Plan(program.steps, program.input_shape, skip_zeros=False)
    for mine in (plan, Plan(program.steps, program.input_shape, n_threads=2)):
        y, want = mine(x), dense(x)
        np.testing.assert_allclose(y, want, atol=1e-5 * np.abs(want).max())  # of float rounding
    np.testing.assert_allclose(plan(x), model(x).data, atol=1e-5 * np.abs(want).max())


def test_small_layers_strides_batches_and_many_look_ups_stay_dense(monkeypatch):
    monkeypatch.setattr(choose, "_vectors", lambda isa: True)

    def layout(O=64, C=64, k=8, kept=0.2, batch=1, **how):
        conv = Conv2d(C, O, 3, **how)
        conv.weight = dictionary((O, C // conv.groups, 3, 3), k, kept)
        model = Model(chain(("conv", conv)), input_shape=(C, 8, 8))
        return choose.layout_of(lower(model).steps[0], batch)

    assert layout() == LOOKUPS
    assert {layout(O=16), layout(stride=2), layout(batch=2), layout(k=60, kept=0.9)} == {"dense"}
    assert layout(C=128, groups=2) == "dense"
    linear = Linear(300, 500)
    linear.weight = dictionary((500, 300), 20)
    model = Model(chain(("fc", linear)), input_shape=(300,))
    assert choose.layout_of(lower(model).steps[0]) == "dense"
    monkeypatch.setattr(choose, "ROW_LEAST", 150_000)
    assert choose.layout_of(lower(model).steps[0]) == LOOKUPS


def test_what_cannot_be_looked_up_is_refused_by_name():
    with pytest.raises(UserError, match="lcnn: real must leave a layer that takes the form"):
        trained(LCNN(real=True))
    made = LCNN(atoms=100).training(epochs=0).apply(MLP((12, 5, 3), rng=RNG(0)), None, Run(RNG(1)))
    assert [made.forms()[f"fc{i}.weight"].k for i in (1, 2)] == [5, 3]
    assert vectors(np.zeros((4, 3, 2, 2))).shape == (16, 3)
