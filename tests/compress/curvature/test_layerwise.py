import numpy as np
import pytest

from minicomp.compress.curvature import hessian as second
from minicomp.compress.curvature import layerwise
from minicomp.compress.prune.obc import OBC
from minicomp.compress.prune.sparsegpt import SparseGPT
from minicomp.compress.technique import Run
from minicomp.data import Dataset, Split
from minicomp.errors import UserError
from minicomp.models import MLP
from minicomp.nn import Add, Conv2d, Dense, Flatten, Linear, Model, Node, ReLU, chain

RNG = np.random.default_rng


def conv_model():
    model = Model(
        chain(
            ("c", Conv2d(2, 4, 3, stride=2, padding=1, groups=2)),
            ("r", ReLU()),
            ("d", Conv2d(4, 3, 2, bias=False)),
            ("f", Flatten()),
            ("o", Linear(3, 3)),
        ),
        input_shape=(2, 4, 4),
    )
    rng = RNG(0)
    for name, form in model.forms().items():
        model.set_form(name, Dense(rng.standard_normal(form.shape).astype(np.float32)))
    return model


def of_layer(problems, name):
    return next(found for node, found in problems if node.name == name)


def test_a_layer_s_problem_is_the_error_of_its_outputs():
    # H, S and W of a grouped convolution against its real outputs with other weights.
    model = second.float64(conv_model())
    x = RNG(1).standard_normal((9, 2, 4, 4))
    node = model.node("c")
    z = model(x, taps=("c",))[1]["c"].data
    found = of_layer(layerwise.problems(model, model, x, 0.0), "c")
    rows = layerwise.rows_of(node.layer)
    np.testing.assert_allclose(np.concatenate([p.W for p in found]), rows, atol=1e-9)
    other = rows + 0.3 * RNG(2).standard_normal(rows.shape)
    layerwise.set_rows(node.layer, other)
    error = 0.5 * np.sum((model(x, taps=("c",))[1]["c"].data - z) ** 2) / len(x)
    delta = [d - p.W for d, p in zip(np.split(other, 2), found)]
    assert sum(0.5 * np.vdot(d @ p.H, d) for d, p in zip(delta, found)) == pytest.approx(
        error, rel=1e-9
    )
    kept = RNG(3).random((4, 9)) < 0.6
    for p, k in zip(found, np.split(kept, 2)):
        solved = p.solve(k)
        assert not solved[:, :9][~k].any() and (solved[:, 9] != 0).all()
        gradient = (solved - p.W) @ p.H
        np.testing.assert_allclose(gradient[:, :9][k], 0, atol=1e-10)


def test_a_pruned_net_s_inputs_and_the_old_outputs_make_up_for_earlier_layers():
    # X of the changed net, Z of the old one: the least rows are those of linear regression.
    old, now = second.float64(conv_model()), second.float64(conv_model())
    now.forms()["c.weight"].value.data[:, 0, 0] = 0
    x, node = RNG(4).standard_normal((90, 2, 4, 4)), old.node("d")
    (p,) = of_layer(layerwise.problems(now, old, x, 0.0), "d")
    X = second.patches(node.layer, now(x, taps=("r",))[1]["r"].data).reshape(-1, 16)
    Z = old(x, taps=("d",))[1]["d"].data.transpose(0, 2, 3, 1).reshape(-1, 3)
    np.testing.assert_allclose(p.W.T, np.linalg.lstsq(X, Z, rcond=None)[0], atol=1e-7)
    assert p.damping == p.asked == 0 and p.weights == 16 and not p.dead.any()


def test_what_the_inputs_do_not_decide_stays_at_the_weights_there_were():
    # Input 3 is always 0: regression leaves its weights open, damping draws them to the old ones.
    model = second.float64(Model(chain(("o", Linear(4, 2))), input_shape=(4,)))
    for form in model.forms().values():
        form.value.data[...] = RNG(5).standard_normal(form.shape)
    x = RNG(6).standard_normal((30, 4))
    x[:, 3] = 0
    (p,) = of_layer(layerwise.problems(model, model, x, 0.01), "o")
    np.testing.assert_allclose(p.W, layerwise.rows_of(model.node("o").layer), atol=1e-12)
    assert p.damping == p.asked == pytest.approx(0.01 * (np.diag(p.H) - p.damping).mean())


def noise(shape, n=20):
    split = Split(RNG(1).standard_normal((n, *shape)).astype(np.float32), np.zeros(n, np.int64))
    return Dataset("noise", split, split, None, ("0", "1"), "rendered")


def residual():
    # x -> a -> relu -> b -> add with relu -> flat -> o: what crosses b is read twice
    nodes = chain(("a", Conv2d(1, 3, 3)), ("relu", ReLU()), ("b", Conv2d(3, 3, 1))) + (
        Node("add", Add(), ("b", "relu")),
        Node("flat", Flatten(), ("add",)),
        Node("o", Linear(12, 2), ("flat",)),
    )
    model = Model(nodes, input_shape=(1, 4, 4))
    for name, form in model.forms().items():
        model.set_form(name, Dense(RNG(2).standard_normal(form.shape).astype(np.float32)))
    return model


@pytest.mark.parametrize("technique", [OBC(sparsity=0.5), SparseGPT(sparsity=0.5)])
def test_the_cost_is_linear_in_depth(technique, layer_calls):
    # Layer evaluations of chains: every further layer costs the same.
    def cost(depth):
        model, data = MLP([6] * (depth + 1), rng=RNG(0)), noise((6,))
        layer_calls.clear()
        technique.apply(model, data, Run(RNG(0)))
        return layer_calls["Linear"]

    c8, c16, c32 = cost(8), cost(16), cost(32)
    assert c32 - c16 == 2 * (c16 - c8) and c32 < 4.3 * c8
    assert 32 <= c32 <= 3 * 32  # each net runs a layer once: judged, pruned, as it was


@pytest.mark.parametrize("technique", [OBC, SparseGPT])
def test_a_net_with_a_branch_is_walked_as_if_run_anew_for_each_layer(technique):
    model, data = residual(), noise((1, 4, 4), 40)
    made = technique(sparsity=0.5, damping=1e-3).apply(model, data, Run(RNG(0)))
    dense, now = second.float64(model), second.float64(made)
    x = data.calibration(40, RNG(0)).x.astype(np.float64)
    found = {node.name: (H, S) for node, H, S in layerwise.layer_moments(now, dense, x)}
    for name, source in (("a", "x"), ("b", "relu"), ("o", "flat")):
        node = model.node(name)
        a = now(x, taps=[source])[1][source].data
        X = second.input_rows(node.layer, a, ones=True)[0]
        Z = dense(x, taps=[name])[1][name].data
        Z = np.moveaxis(Z, 1, -1).reshape(len(X), -1)
        np.testing.assert_allclose(found[name][0][0], X.T @ X / 40, rtol=1e-10, atol=1e-10)
        np.testing.assert_allclose(found[name][1][0], X.T @ Z / 40, rtol=1e-10, atol=1e-10)


def test_samples_are_bounded_by_what_a_walk_carries(monkeypatch):
    model, rows = residual(), []
    # per example in front of "b": relu (3 x 2 x 2), of 8 bytes; in front of "a": 16 numbers
    assert layerwise.carried_bytes(model) == 8 * 16
    monkeypatch.setattr(layerwise, "CARRIED", 5 * 8 * 16 + 1)
    x = OBC(sparsity=0.5).examples(model, noise((1, 4, 4)), Run(RNG(0), rows.append))
    assert len(x) == 5 and "the activations of 5 examples fill" in rows[0]["text"]


def test_patterns_are_read_or_refused():
    assert layerwise.parse_pattern("2:4", "t") == (2, 4)
    for text in ("", "2", "2:4:8", "0:4", "4:4", "-1:4", "2:x", "２:4"):
        with pytest.raises(UserError, match='t: pattern must be "N:M" with 1 <= N < M'):
            layerwise.parse_pattern(text, "t")
