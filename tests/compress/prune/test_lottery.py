"""The lottery ticket: survivors return to their initial values, and fewer of them each round."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

import minicomp
from minicomp.compress import finetune
from minicomp.compress.finetune import FineTune
from minicomp.compress.prune.bias import Bias
from minicomp.compress.prune.lottery import Lottery
from minicomp.compress.prune.magnitude import Magnitude
from minicomp.compress.technique import Run, weights
from minicomp.data.dataset import Split
from minicomp.errors import UserError
from minicomp.models import MLP
from minicomp.nn import BatchNorm1d, Dropout, Linear, Model, ReLU, chain
from minicomp.train import evaluate


def zeros(model):
    return [
        int(np.count_nonzero(model.forms()[n].dense().data == 0)) for n in weights(model).values()
    ]


@pytest.fixture
def starts_of(monkeypatch, blobs):
    # The model at the beginning of every training, and what comes out.
    def apply(technique, model):
        starts, fit = [], FineTune.fit

        def spy(self, model, data, run, hooks=()):
            starts.append(model.copy())
            return fit(self, model, data, run, hooks)

        with monkeypatch.context() as patch:
            patch.setattr(FineTune, "fit", spy)
            return starts, technique.apply(model, blobs(200), Run(np.random.default_rng(1)))

    return apply


@pytest.fixture
def saved(tmp_path, blobs, net):
    # A net, its initial weights in a file, and the same net trained from them.
    minicomp.save(net(), tmp_path / "init.mcz")
    trained = FineTune(epochs=4, lr=0.05, batch_size=20).apply(
        net(), blobs(200), Run(np.random.default_rng(2))
    )
    return tmp_path / "init.mcz", trained


def test_survivors_are_at_their_initial_values(saved, blobs, net):
    path, trained = saved
    ticket = Lottery(
        sparsity=0.75, rounds=1, rewind=str(path), train=FineTune(epochs=0)
    ).apply(trained, blobs(200), Run(np.random.default_rng(1)))
    for name in weights(ticket).values():
        mask, first = ticket.forms()[name].mask, net().forms()[name].dense().data
        np.testing.assert_array_equal(ticket.forms()[name].dense().data, np.where(mask, first, 0))
        # chosen by what they became, not by what they were
        w = np.abs(trained.forms()[name].dense().data)
        assert w[mask].min() >= w[~mask].max()
    np.testing.assert_array_equal(
        ticket.forms()["fc1.bias"].dense().data, net().forms()["fc1.bias"].dense().data
    )


def test_every_round_rewinds_and_masks_are_nested(saved, starts_of, net):
    path, trained = saved
    starts, made = starts_of(
        Lottery(
            sparsity=0.875, rounds=3, output=1.0, rewind=str(path), train=FineTune(epochs=1)
        ),
        trained,
    )
    assert [zeros(s) for s in starts] == [[120, 100, 20], [180, 150, 30], [210, 175, 35]]
    first = net().forms()["fc1.weight"].dense().data
    for a, b in zip(starts, starts[1:]):
        assert not (b.forms()["fc1.weight"].mask & ~a.forms()["fc1.weight"].mask).any()
    for s in starts:
        mask = s.forms()["fc1.weight"].mask
        np.testing.assert_array_equal(s.forms()["fc1.weight"].dense().data[mask], first[mask])
    assert zeros(made) == [210, 175, 35]
    assert (
        made.forms()["fc1.weight"].dense().data[mask] != first[mask]
    ).any(), "the ticket is trained"


def test_without_a_file_the_net_is_first_trained_from_the_weights_it_returns_to(starts_of, net):
    # A ticket is of a training that began at its own initial weights;
    # masks from another one are luck.
    starts, _ = starts_of(Lottery(sparsity=0.5, rounds=2, train=FineTune(epochs=2)), net())
    assert len(starts) == 3 and zeros(starts[0]) == [0, 0, 0]
    first = starts[0].forms()["fc1.weight"].dense().data
    assert not np.array_equal(first, net().forms()["fc1.weight"].dense().data)
    for s in starts[1:]:
        mask = s.forms()["fc1.weight"].mask
        np.testing.assert_array_equal(
            s.forms()["fc1.weight"].dense().data, np.where(mask, first, 0)
        )


def test_batch_norm_is_rewound_too(starts_of):
    nodes = chain(
        ("fc1", Linear(12, 6)), ("bn", BatchNorm1d(6)), ("relu", ReLU()), ("fc2", Linear(6, 4))
    )
    model = Model(nodes, input_shape=(12,))
    model.forms()["bn.weight"].value.data[:] = 7
    model.forms()["bn.bias"].value.data[:] = 7
    model.buffers()["bn.running_mean"][:] = 7
    model.buffers()["bn.running_var"][:] = 7
    starts, _ = starts_of(Lottery(sparsity=0.5, rounds=1, train=FineTune(epochs=1)), model)
    for s in starts:
        state = s.state_dict()
        assert (state["bn.weight"] == 1).all() and (state["bn.bias"] == 0).all()
        assert (state["bn.running_mean"] == 0).all() and (state["bn.running_var"] == 1).all()


@pytest.mark.parametrize("s", [0.02, 0.34, 0.7, 0.999])
def test_the_last_round_is_round_s_n_to_the_bit(s):
    model = Model(chain(("fc", Linear(5, 5))), input_shape=(5,))
    split = Split(np.ones((4, 5), np.float32), np.zeros(4, np.int64))
    given = SimpleNamespace(train=split, val=split)
    for technique in (Lottery(sparsity=s, rounds=2, output=1.0, train=FineTune(epochs=1)),
                      Lottery(sparsity={"fc": s}, rounds=2, train=FineTune(epochs=1))):
        made = technique.apply(model, given, Run(np.random.default_rng(0)))
        assert np.count_nonzero(~made.forms()["fc.weight"].mask) == round(s * 25)


def test_the_output_layer_is_pruned_at_half_the_rate(starts_of, net):
    # Frankle & Carbin 2019, figure 2. 50 % a round of the others is 25 % of the output layer's 40
    # weights: 30, 22.5, 16.875 stay.
    technique = Lottery(sparsity=0.875, rounds=3, train=FineTune(epochs=1))
    starts, made = starts_of(technique, net())
    assert [zeros(s)[2] for s in starts] == [0, 10, 18, 23] and zeros(made) == [210, 175, 23]
    assert zeros(technique.sketch(net(), rng=np.random.default_rng(0))) == [210, 175, 23]


def test_what_is_pruned_already_stays_pruned(blobs, net):
    rng = np.random.default_rng(3)
    before = Magnitude(sparsity=0.6).apply(net(), None, Run(rng))
    before.forms()["fc1.bias"].value.data[::2] = 0.5
    before = Bias(threshold=0.1).apply(before, None, Run(rng))
    made = Lottery(sparsity=0.3, rounds=2, train=FineTune(epochs=1)).apply(
        before, blobs(200), Run(rng)
    )
    for name in ("fc1.weight", "fc3.weight", "fc1.bias"):
        gone = ~before.forms()[name].mask
        assert gone.any() and (made.forms()[name].dense().data[gone] == 0).all()


def test_another_architecture_is_refused_and_the_origin_is_the_models_own(tmp_path, saved, blobs):
    path, trained = saved
    minicomp.save(MLP([12, 20, 4], rng=np.random.default_rng(0)), tmp_path / "other.mcz")
    with pytest.raises(UserError, match="other.mcz must hold a net of the same layers and shapes"):
        Lottery(rewind=str(tmp_path / "other.mcz")).apply(
            trained, blobs(200), Run(np.random.default_rng(0))
        )
    trained.origin_bytes = 10**6
    made = Lottery(rounds=1, rewind=str(path), train=FineTune(epochs=1)).apply(
        trained, blobs(200), Run(np.random.default_rng(0))
    )
    assert made.origin_bytes == 10**6


def test_rounds_are_logged(saved, blobs):
    path, trained = saved
    rows = []
    made = Lottery(
        sparsity=0.8, rounds=2, rewind=str(path), train=FineTune(epochs=1)
    ).apply(trained, blobs(200), Run(np.random.default_rng(0), log=rows.append))
    rounds = [r for r in rows if r["event"] == "round"]
    assert (
        [r["round"] for r in rounds] == [1, 2]
        and rounds[-1]["errors"] == evaluate(made, blobs(200).val).errors
    )


def test_a_ticket_learns_what_the_dense_net_learns(saved, blobs):
    path, trained = saved
    lottery = Lottery(
        sparsity=0.75,
        rounds=2,
        rewind=str(path),
        train=FineTune(epochs=6, lr=0.05, batch_size=20),
    )
    ticket = lottery.apply(trained, blobs(200), Run(np.random.default_rng(4)))
    rewound = dataclasses.replace(lottery, train=FineTune(epochs=0)).apply(
        trained, blobs(200), Run(np.random.default_rng(4))
    )
    errors = [evaluate(m, blobs(200).val).errors for m in (trained, ticket, rewound)]
    assert errors[1] <= errors[0] + 10 and errors[2] > errors[1] + 50


@pytest.mark.parametrize("dropout", [True, False])
def test_dropout_shrinks_with_the_root_of_what_is_kept(dropout, blobs, monkeypatch):
    # Half of fc1 goes in each of two rounds: keep 1, 1/2, 1/4.
    seen, fit = [], finetune.fit

    def spy(model, data, **knobs):
        seen.append(model.node("drop").layer.p)
        return fit(model, data, **knobs)

    monkeypatch.setattr(finetune, "fit", spy)
    nodes = chain(
        ("fc1", Linear(12, 20)), ("relu", ReLU()), ("drop", Dropout(0.5)), ("fc2", Linear(20, 4))
    )
    train = FineTune(epochs=1, dropout=dropout)
    made = Lottery(sparsity=0.75, rounds=2, train=train).apply(
        Model(nodes, input_shape=(12,)), blobs(80), Run(np.random.default_rng(0))
    )
    kept = (1.0, 0.5, 0.25) if dropout else (1.0, 1.0, 1.0)
    assert seen == pytest.approx([0.5 * k**0.5 for k in kept])
    assert made.node("drop").layer.p == 0.5
