from types import SimpleNamespace

import numpy as np
import pytest

from minicomp.compress import FSP, AttentionTransfer, Distill, FitNets
from minicomp.compress.distill import fitnets
from minicomp.compress.distill.attention import attention_loss, attention_map
from minicomp.compress.distill.fitnets import hint_loss, regressed
from minicomp.compress.distill.fsp import fsp_matrix
from minicomp.compress.distill.places import by_size, last_maps, middle
from minicomp.compress.finetune import FineTune
from minicomp.data import Split, load
from minicomp.errors import UserError
from minicomp.gradcheck import grad_check
from minicomp.models import MLP, for_data
from minicomp.nn import Conv2d, Flatten, Linear, Model, ReLU, chain
from minicomp.nn.init import initialise
from minicomp.optim import Adam
from minicomp.tensor import Tensor, grad, no_grad

rng = np.random.default_rng(0)
A, B = rng.standard_normal((2, 3, 4, 5)), rng.standard_normal((2, 2, 4, 5))


def conv_net(maps, seed, blocks=1):
    # `blocks` pairs of convolutions on 8 x 8 pixels, then 4 classes.
    named, before = [], 1
    for i in range(2 * blocks):
        named += [(f"conv{i}", Conv2d(before, maps, 3, padding=1)), (f"relu{i}", ReLU())]
        before = maps
    named += [("flat", Flatten()), ("fc", Linear(64 * maps, 4))]
    return initialise(Model(chain(*named), input_shape=(1, 8, 8)), rng=np.random.default_rng(seed))


@pytest.fixture(scope="module")
def patches():
    # Four kinds of 8 x 8 patches.
    draw = np.random.default_rng(2)
    kinds, y = draw.standard_normal((4, 1, 8, 8)), draw.integers(0, 4, 160)
    x = (kinds[y] + 1.5 * draw.standard_normal((160, 1, 8, 8))).astype(np.float32)
    return SimpleNamespace(train=Split(x[:80], y[:80]), val=Split(x[80:], y[80:]))


@pytest.mark.parametrize("p", [1, 2, 4])
def test_an_attention_map_is_the_printed_one(p):
    for n in range(2):
        sums = [sum(abs(A[n, c, h, w]) ** p for c in range(3)) for h in range(4) for w in range(5)]
        length = sum(v * v for v in sums) ** 0.5
        np.testing.assert_allclose(attention_map(A, p)[n], [v / length for v in sums], rtol=1e-12)
    grad_check(lambda a: attention_map(a, p), A, rng=rng)
    assert not attention_map(0 * A, p).any()


def test_the_difference_of_maps_in_both_forms():
    q, r = attention_map(A), attention_map(A[::-1].copy())
    lengths = [sum((a - b) ** 2 for a, b in zip(*rows)) ** 0.5 for rows in zip(q, r)]
    assert attention_loss(q, r) == pytest.approx(sum(lengths) / 2 / 2, rel=1e-9)
    assert attention_loss(q, r, "squares") == pytest.approx(np.mean((q - r) ** 2), rel=1e-12)
    grad_check(lambda a: attention_loss(attention_map(a), r), A, rng=rng)
    same = Tensor(q, requires_grad=True)
    assert np.isfinite(grad(attention_loss(same, q), [same])[0].data).all()


def test_a_flow_is_the_printed_matrix():
    want = np.zeros((2, 3, 2))
    for n, i, j, s, t in np.ndindex(2, 3, 2, 4, 5):
        want[n, i, j] += A[n, i, s, t] * B[n, j, s, t] / 20
    np.testing.assert_allclose(fsp_matrix(A, B), want, rtol=1e-12)
    grad_check(fsp_matrix, A, B, rng=rng)


def test_a_regressor_is_a_convolution_without_padding_or_a_linear_map():
    w, b = rng.standard_normal((2, 3, 2, 3)), rng.standard_normal(2)
    want = np.zeros((2, 2, 3, 3))
    for n, o, h, x in np.ndindex(want.shape):
        want[n, o, h, x] = (A[n, :, h:h + 2, x:x + 3] * w[o]).sum() + b[o]
    np.testing.assert_allclose(regressed(A, w, b), want, rtol=1e-10)
    grad_check(lambda w, b: regressed(Tensor(A), w, b), w, b, rng=rng)
    v, w = rng.standard_normal((4, 3)), rng.standard_normal((2, 3))
    np.testing.assert_allclose(regressed(v, w, b), v @ w.T + b, rtol=1e-12)
    assert hint_loss(v, v + 2) == pytest.approx(2)


@pytest.mark.peers
def test_maps_and_flows_are_those_of_torch():
    torch = pytest.importorskip("torch")
    a, b = torch.tensor(A), torch.tensor(B)
    q = torch.nn.functional.normalize(a.pow(2).sum(1).flatten(1))
    np.testing.assert_allclose(attention_map(A), q.numpy(), rtol=1e-10)
    np.testing.assert_allclose(
        fsp_matrix(A, B), torch.einsum("nist,njst->nij", a, b).numpy() / 20, rtol=1e-10)
    w, bias = rng.standard_normal((2, 3, 2, 3)), rng.standard_normal(2)
    y = torch.nn.functional.conv2d(a, torch.tensor(w), torch.tensor(bias))
    np.testing.assert_allclose(regressed(A, w, bias), y.numpy(), rtol=1e-8, atol=1e-10)


def test_places_are_found():
    thin, deep = conv_net(2, 0), conv_net(3, 1, blocks=2)
    assert by_size(deep) == {(8, 8): ["relu0", "relu1", "relu2", "relu3"]}
    assert last_maps(thin, deep) == {"relu1": "relu3"}
    assert (middle(thin), middle(deep)) == ("relu0", "relu1")
    caffe = for_data("lenet5", load("glyphs"), rng=np.random.default_rng(0))
    assert list(last_maps(caffe, caffe)) == ["conv1", "pool1", "conv2", "pool2"]


def test_the_first_stage_has_no_other_loss(patches, taught):
    # What lies behind the guided layer, or behind the flow, does not move.
    teacher, knobs = conv_net(3, 5, blocks=2), {"epochs": 2, "batch_size": 16, "lr": 0.05}
    for method, still in (
        (FitNets(teachers=teacher, stage=0.99, to={"relu1": "relu2"}), {"conv2", "conv3", "fc"}),
        (FSP(teachers=teacher, stage=0.99, flow={"relu0": "relu1"}), {"conv2", "conv3", "fc"}),
    ):
        start = conv_net(3, 6, blocks=2)
        made, _ = taught(method.training(**knobs), start, patches)
        moved = {name.split(".")[0] for name, form in made.forms().items()
                 if (form.values() != start.forms()[name].values()).any()}
        assert moved == {"conv0", "conv1", "conv2", "conv3", "fc"} - still
    made, _ = taught(FSP(teachers=teacher, stage=0.5).training(**knobs), start, patches)
    assert (made.forms()["fc.weight"].values() != start.forms()["fc.weight"].values()).any()


def test_the_optimizer_starts_afresh_behind_the_first_stage(patches, taught, monkeypatch):
    # Adam's first step of the second stage is as long as its rate; means of a loss whose gradients
    # were a thousandth would make it a hundred times as long.
    restart, began = Adam.restart, []
    monkeypatch.setattr(Adam, "restart", lambda self: (began.append(self.steps), restart(self)))
    teacher, knobs = conv_net(3, 5), {"epochs": 2, "batch_size": 20, "optimizer": "adam"}
    for method in (FitNets(teachers=teacher, stage=0.5), FSP(teachers=teacher, stage=0.25),
                   FitNets(teachers=teacher, stage=0.0), AttentionTransfer(teachers=teacher)):
        taught(method.training(**knobs), conv_net(3, 6), patches)
    assert began == [4, 2]


def first_loss(method, model, data, taught):
    knobs = {"epochs": 1, "batch_size": 80, "lr": 0.01}
    _, rows = taught(method.training(**knobs), model, data)
    return next(r["loss"] for r in rows if r["event"] == "epoch")


def test_losses_are_those_of_the_formulas(patches, taught):
    student, teacher, x = conv_net(3, 6), conv_net(3, 5, blocks=2), patches.train.x
    with no_grad():
        z, mine = student(x, taps=("relu0", "relu1"))
        _, theirs = teacher(x, taps=("relu0", "relu3"))
    mine, theirs = ({n: t.data.astype(np.float64) for n, t in m.items()} for m in (mine, theirs))
    flow = fsp_matrix(*mine.values()) - fsp_matrix(*theirs.values())
    found = first_loss(FSP(teachers=teacher, lam=0.5, stage=0.9), student, patches, taught)
    assert found == pytest.approx(0.5 * np.square(flow).sum() / 80, rel=1e-4)
    plain = first_loss(AttentionTransfer(teachers=teacher, beta=0.0), student, patches, taught)
    both = first_loss(AttentionTransfer(teachers=teacher, beta=3.0), student, patches, taught)
    look = attention_loss(*(attention_map(m[n]) for m, n in ((mine, "relu1"), (theirs, "relu3"))))
    assert both - plain == pytest.approx(3 * look, rel=1e-3)


@pytest.mark.parametrize("n_threads", [1, 2])
def test_lambda_falls_in_a_line(patches, taught, n_threads):
    # Its weight at each step of the second stage, of a teacher that is the student but for a bias.
    seen, plain = [], fitnets.soft_loss
    teacher = conv_net(3, 5)
    technique = FitNets(teachers=teacher, lam=4.0, end=1.0, stage=0.2)
    with pytest.MonkeyPatch.context() as patch:
        class Seen:
            def __mul__(self, lam):
                seen.append(round(lam, 6))
                return plain(*self.args) * lam

        def noted(*args):
            made = Seen()
            made.args = args
            return made

        patch.setattr(fitnets, "soft_loss", noted)
        taught(technique.training(epochs=1, batch_size=16), conv_net(2, 3), patches)
    assert seen == [4.0, 3.0, 2.0, 1.0]


def test_attention_and_soft_targets_train_together(patches, taught, bits):
    teacher, knobs = conv_net(3, 5, blocks=2), {"epochs": 1, "batch_size": 40}
    methods = AttentionTransfer(teachers=teacher), Distill(teachers=teacher)
    made = [bits(taught(FineTune(methods=m, **knobs), conv_net(2, 1), patches)[0])
            for m in (methods, methods[:1], methods[1:])]
    assert len(set(made)) == 3


def test_places_that_do_not_fit_are_one_error(patches, taught):
    student, teacher = conv_net(3, 1), conv_net(3, 5, blocks=2)
    wider, flat = conv_net(4, 2), MLP([64, 8, 4], rng=np.random.default_rng(0))

    def refused(match, method, model=student):
        with pytest.raises(UserError, match=match):
            method.training(epochs=1).check(model)

    refused("attention-transfer: to must be nodes, the teacher has no relu9; there are conv0",
            AttentionTransfer(teachers=teacher, to={"relu1": "relu9"}))
    refused(r"attention-transfer: to@flat=relu1 must be maps of one height and width, got \(192,\)",
            AttentionTransfer(teachers=teacher, to={"flat": "relu1"}))
    refused("attention-transfer: to must name maps of both nets", AttentionTransfer(teachers=flat),
            flat)
    refused("fsp: flow must name maps of the student", FSP(teachers=flat), flat)
    refused(r"fsp: to@relu0=relu0 must be maps of one shape, got \(3, 8, 8\) and \(4, 8, 8\)",
            FSP(teachers=wider))
    refused("fsp: flow@relu0 must be a node, the student has no relu3",
            FSP(teachers=teacher, flow={"relu0": "relu3"}))
    refused(r"fsp: flow@relu0=flat must be maps of one height",
            FSP(teachers=teacher, flow={"relu0": "flat"}))
    refused("fsp: to@fc must be an end of a flow; these are relu0, relu1",
            FSP(teachers=teacher, to={"fc": "fc"}))
    refused("fitnets: to must name one guided layer and its hint, as to@relu2=relu1, got 2",
            FitNets(teachers=teacher, to={"relu0": "relu0", "relu1": "relu1"}))
    refused("fitnets: to@flat=relu0 must be features, or maps",
            FitNets(teachers=teacher, to={"flat": "relu0"}))
    refused("fitnets: teacher must be one net, got 2", FitNets(teachers=(teacher, teacher)))
    with pytest.raises(UserError, match="to must be given by node, as to@relu1=relu2, got 'relu1'"):
        FSP(teachers=teacher, to="relu1")
    with pytest.raises(UserError, match="fsp and distill cannot train together|distill and fsp"):
        FineTune(methods=(FSP(teachers=teacher), Distill(teachers=teacher)))
