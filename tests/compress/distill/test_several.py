from types import SimpleNamespace

import numpy as np
import pytest

import minicomp
from minicomp.compress import Assistants, BornAgain, FineTune, Magnitude, Run, Soup
from minicomp.compress.distill.soup import mean_model
from minicomp.data import Split
from minicomp.errors import UserError
from minicomp.models import MLP
from minicomp.nn import BatchNorm1d, Linear, Model, ReLU, chain
from minicomp.nn.init import initialise
from minicomp.tensor import no_grad
from minicomp.train import evaluate

SHORT = {"epochs": 8, "lr": 0.05}


def run(seed=0, log=None):
    return Run(np.random.default_rng(seed), log)


def agreement(model, teacher, x):
    with no_grad():
        return float((model(x).data.argmax(1) == teacher(x).data.argmax(1)).mean())


@pytest.fixture
def noise(blobs):
    # Examples whose labels say nothing: what is learnt is the teacher's.
    given = blobs()
    train = Split(given.train.x, np.random.default_rng(1).integers(0, 4, len(given.train.y)))
    return SimpleNamespace(train=train, val=given.val)


def test_each_net_learns_from_the_one_before_it(net, wide, noise, tmp_path):
    # The student agrees with its assistant, which agrees with the teacher, whatever labels say.
    teacher, assistant = tmp_path / "t.mcz", tmp_path / "a.mcz"
    minicomp.save(wide, teacher)
    minicomp.save(MLP([12, 30, 4], rng=np.random.default_rng(4)), assistant)
    rows, knobs = [], {"teacher": str(teacher), "alpha": 1.0, "train": FineTune(**SHORT)}
    made = Assistants(assistants=str(assistant), **knobs).apply(net(), noise, run(log=rows.append))
    assert agreement(made, wide, noise.val.x) > 0.8
    assert made.forms()["fc1.weight"].shape == net().forms()["fc1.weight"].shape
    assert [r["round"] for r in rows if r["event"] == "round"] == [1, 2]
    epochs = [r["val_errors"] for r in rows if r["event"] == "epoch"]
    assert len(epochs) == 16 and epochs[7] < 0.5 * len(noise.val.y), "the assistant is trained"
    with pytest.raises(UserError, match="teacher-assistant: assistants must name a .mcz file"):
        Assistants(**knobs).apply(net(), noise, run())


def test_a_generation_learns_from_the_one_before_it_and_from_nothing_else(wide, noise, bits):
    trained = BornAgain(generations=2, alpha=1.0, T=2.0, train=FineTune(epochs=30, lr=0.1))
    pruned = Magnitude(sparsity=0.5).apply(wide, None, run())
    made = trained.apply(pruned, noise, run())
    assert agreement(made, pruned, noise.val.x) > 0.8
    for name, form in pruned.forms().items():
        if form.mask is not None:
            assert not made.forms()[name].values()[~form.mask].any()
    scaled = pruned.copy()  # the same function: where it stands, no descendant knows
    for part in ("weight", "bias"):
        scaled.forms()[f"fc1.{part}"].value.data[:] *= 2
    scaled.forms()["fc2.weight"].value.data[:] /= 2
    assert bits(trained.apply(scaled, noise, run())) == bits(made)


def bn_net(seed):
    nodes = chain(("fc1", Linear(12, 8)), ("bn1", BatchNorm1d(8)), ("relu1", ReLU()),
                  ("fc2", Linear(8, 4)))
    return initialise(Model(nodes, input_shape=(12,)), rng=np.random.default_rng(seed))


def test_a_soup_is_the_mean_of_weights_and_statistics(blobs, tmp_path):
    nets = [FineTune(epochs=1).apply(bn_net(0), blobs(), run(seed)) for seed in range(3)]
    for i, net in enumerate(nets[1:]):
        minicomp.save(net, tmp_path / f"{i}.mcz")
    others = "+".join(str(tmp_path / f"{i}.mcz") for i in range(2))
    made, want = Soup(others=others).apply(nets[0], None, run()), [n.state_dict() for n in nets]
    for name, a in made.state_dict().items():
        np.testing.assert_allclose(a, (want[0][name] + want[1][name] + want[2][name]) / 3,
                                   rtol=1e-5, atol=1e-7)
    assert (made.buffers()["bn1.running_mean"] != nets[0].buffers()["bn1.running_mean"]).any()
    with pytest.raises(UserError, match="soup: others must hold nets of the same layers and shape"):
        Soup(others=others).apply(MLP([12, 4], rng=np.random.default_rng(0)), None, run())
    with pytest.raises(UserError, match="soup: others must name a .mcz file, got none"):
        Soup().apply(nets[0], None, run())


def test_a_greedy_soup_leaves_out_what_spoils_it(blobs, tmp_path):
    start = FineTune(epochs=2, lr=0.05).apply(bn_net(0), blobs(), run())
    good = [FineTune(epochs=2, lr=0.02).apply(start, blobs(), run(seed)) for seed in (1, 2)]
    names = []
    for i, net in enumerate((good[1], bn_net(9))):  # the second was not trained at all
        names.append(str(tmp_path / f"{i}.mcz"))
        minicomp.save(net, names[-1])
    rows = []
    made = Soup(others="+".join(names), recipe="greedy").apply(
        good[0], blobs(), run(log=rows.append))
    errors = [evaluate(m, blobs().val).errors for m in (*good, made)]
    assert errors[2] <= min(errors[:2])
    assert evaluate(mean_model([*good, bn_net(9)]), blobs().val).errors > errors[2]
    (told,) = [r["text"] for r in rows if r["event"] == "say"]
    assert told in ("soup: 1 of 3 nets are in", "soup: 2 of 3 nets are in")
