"""Trainings compose: several techniques in one training, stopped, resumed, refused, by pattern."""

import itertools
import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest

from minicomp.compress import TECHNIQUES
from minicomp.compress.bayes.bayesian_compression import BayesianCompression
from minicomp.compress.bayes.sparse_vd import SparseVD
from minicomp.compress.binary.abc_net import ABCNet
from minicomp.compress.binary.binary_connect import BinaryConnect
from minicomp.compress.binary.bnn import BNN
from minicomp.compress.binary.ttq import TTQ
from minicomp.compress.binary.twn import TWN
from minicomp.compress.binary.xnor_net import XNORNet
from minicomp.compress.distill.hinton import Distill
from minicomp.compress.distill.fitnets import FitNets
from minicomp.compress.finetune import FineTune, Trained
from minicomp.compress.prune.dns import DNS
from minicomp.compress.prune.gradual import Gradual
from minicomp.compress.prune.group_lasso import GroupLasso
from minicomp.compress.prune.iterative import Iterative
from minicomp.compress.prune.magnitude import Magnitude
from minicomp.compress.prune.movement import Movement
from minicomp.compress.prune.slimming import Slimming
from minicomp.compress.quant.dorefa import DoReFa
from minicomp.compress.quant.fixed_point import FixedPointTraining
from minicomp.compress.quant.inq import INQ
from minicomp.compress.quant.lsq import LSQ
from minicomp.compress.quant.pact import PACT
from minicomp.compress.quant.qat import QAT
from minicomp.compress.rate.entropy_penalty import EntropyPenalty
from minicomp.compress.rate.reparametrization import Reparametrization
from minicomp.compress.share.circulant import CirculantLayers
from minicomp.compress.share.hashednets import HashedNets
from minicomp.compress.share.kmeans import KMeans
from minicomp.compress.share.lcnn import LCNN
from minicomp.compress.share.soft_sharing import SoftSharing
from minicomp.compress.technique import Pipeline, Run, weights
from minicomp.data import Split
from minicomp.errors import UserError
from minicomp.nn import BatchNorm1d, Dense, Linear, Model, ReLU, chain
from minicomp.nn.init import lecun_uniform
from minicomp.nn.losses import cross_entropy
from minicomp.train import Hook, evaluate


def data():
    # Three classes by three of twelve inputs.
    rng = np.random.default_rng(0)
    x = rng.standard_normal((160, 12)).astype(np.float32)
    y = np.argmax(x[:, :3], axis=1)
    return SimpleNamespace(train=Split(x[:80], y[:80]), val=Split(x[80:], y[80:]))


def net():
    nodes = chain(
        ("fc1", Linear(12, 10)),
        ("bn1", BatchNorm1d(10)),
        ("relu1", ReLU()),
        ("fc2", Linear(10, 8)),
        ("bn2", BatchNorm1d(8)),
        ("relu2", ReLU()),
        ("fc3", Linear(8, 3)),
    )
    model, rng = Model(nodes, input_shape=(12,)), np.random.default_rng(1)
    for name in weights(model).values():
        model.set_form(name, Dense(lecun_uniform(model.forms()[name].shape, rng=rng)))
    return model


TEACHER = FineTune(epochs=2).apply(net(), data(), Run(np.random.default_rng(5)))
TRAINED = {
    "gradual": Gradual(sparsity=0.6, prunings=6),
    "dns": DNS(c=0.3, gamma=0.01),
    "movement": Movement(sparsity=0.6, prunings=6),
    "slimming": Slimming(sparsity=0.4, lam=0.02),
    "group-lasso": GroupLasso(lam=0.02),
    "sparse-vd": SparseVD(log_var=-3.0),
    "soft-sharing": SoftSharing(components=5, pi0=0.5, tau=0.05),
    "bayesian-compression": BayesianCompression(log_var=-3.0),
    "qat": QAT(bits=4, act_bits=6, delay=0.3, freeze=0.7),
    "lsq": LSQ(bits=3, act_bits=4),
    "pact": PACT(bits=4, alpha=0.0),
    "dorefa": DoReFa(bits=3),
    "inq": INQ(bits=4),
    "fixed-point": FixedPointTraining(),
    "binary-connect": BinaryConnect(stochastic=True),
    "bnn": BNN(norm="shift"),
    "xnor-net": XNORNet(),
    "abc-net": ABCNet(bases=2),
    "twn": TWN(),
    "ttq": TTQ(),
    "hashed": HashedNets(),
    "circulant": CirculantLayers(),
    "lcnn": LCNN(atoms=5),
    "entropy-penalty": EntropyPenalty(),
    "entropy-reparametrization": Reparametrization(),
    "distill": Distill(teachers=TEACHER, T=2.0),
    "fitnets": FitNets(teachers=TEACHER),
}
TAUGHT = ("distill", "fitnets")  # of terms of the loss alone: they go with all others
OF_MAPS = ("fsp", "attention-transfer")  # which the net here has not: distill/test_features.py
PAIRS = list(itertools.combinations([w for w in TRAINED if w not in TAUGHT], 2))
MASKS, GRIDS = ("gradual", "dns", "movement"), (
    "qat", "lsq", "pact", "dorefa", "inq", "fixed-point", "binary-connect", "bnn", "xnor-net",
    "abc-net", "twn", "ttq", "hashed", "circulant", "lcnn", "entropy-penalty",
    "entropy-reparametrization")
ALONE = ("hashed", "circulant", "lcnn")  # of weights that no other technique may touch
REFUSED = [pair for pair in PAIRS if set(pair) <= set(MASKS) or set(pair) <= set(GRIDS)]
TWO_EACH = [  # every technique with two partners
    ("gradual", "slimming"),
    ("gradual", "group-lasso"),
    ("dns", "slimming"),
    ("dns", "group-lasso"),
    ("movement", "slimming"),
    ("movement", "group-lasso"),
    ("dns", "qat"),
    ("slimming", "qat"),
    ("gradual", "lsq"),
    ("slimming", "lsq"),
    ("dns", "pact"),
    ("slimming", "pact"),
    ("movement", "dorefa"),
    ("slimming", "dorefa"),
    ("dns", "inq"),
    ("slimming", "inq"),
    ("gradual", "fixed-point"),
    ("slimming", "fixed-point"),
    ("dns", "binary-connect"),
    ("slimming", "binary-connect"),
    ("movement", "bnn"),
    ("gradual", "bnn"),
    ("gradual", "xnor-net"),
    ("slimming", "xnor-net"),
    ("dns", "abc-net"),
    ("slimming", "abc-net"),
    ("movement", "twn"),
    ("slimming", "twn"),
    ("gradual", "ttq"),
    ("slimming", "ttq"),
    ("gradual", "entropy-penalty"),
    ("slimming", "entropy-penalty"),
    ("gradual", "entropy-reparametrization"),
    ("slimming", "entropy-reparametrization"),
    ("gradual", "sparse-vd"),
    ("dns", "sparse-vd"),
    ("gradual", "bayesian-compression"),
    ("dns", "bayesian-compression"),
    ("slimming", "soft-sharing"),
    ("gradual", "soft-sharing"),
    ("gradual", "distill"),
    ("qat", "distill"),
    ("hashed", "distill"),
    ("gradual", "fitnets"),
    ("slimming", "fitnets"),
]
PLAIN = ("group-lasso", "sparse-vd", "soft-sharing", "bayesian-compression")
APART = [("slimming", "bnn"), ("sparse-vd", "bayesian-compression"), *itertools.product(
    ("slimming", "group-lasso"), ("sparse-vd", "bayesian-compression"))]
TRAINING = {"epochs": 5, "batch_size": 20, "lr": 0.05}  # of 80 examples: 4 steps an epoch


def together(*words, **knobs):
    return FineTune(methods=tuple(TRAINED[w] for w in words), **TRAINING | knobs)


def applied(training, **run):
    return training.apply(net(), data(), Run(np.random.default_rng(3), **run))


# ---------------------------------------------------------------------------- surgery and slimming


def test_surgery_and_slimming_do_both_and_log_both(watching):
    # One net is cut and spliced while its scales shrink, and then loses channels: as many as
    # slimming alone removes, of weights as sparse as surgery alone leaves them.
    def run(*words):
        # The model, its log, and zeros of the weights and sum of |gamma| when the training ends.
        rows, ends = [], []

        def note(state):
            forms = state.model.forms()
            w = [forms[name].dense().data for name in weights(state.model).values()]
            zeros = sum(int((a == 0).sum()) for a in w) / sum(a.size for a in w)
            gamma = sum(float(np.abs(forms[f"bn{i}.weight"].values()).sum()) for i in (1, 2))
            ends.append((zeros, gamma))

        training = watching(together(*words, epochs=40), after_step=note)
        return applied(training, log=rows.append), {row["event"] for row in rows}, *ends[-1]

    both, events, zeros, gamma = run("dns", "slimming")
    cut, cut_events, cut_zeros, cut_gamma = run("dns")
    slim, slim_events, slim_zeros, slim_gamma = run("slimming")
    for model in (both, slim):
        assert model.shapes()["fc1"][0] + model.shapes()["fc2"][0] == 18 - round(0.4 * 18)
        assert model.shapes()["fc1"] == model.shapes()["bn1"]
    assert cut.shapes() == net().shapes()
    assert zeros > 0.3 and abs(zeros - cut_zeros) < 0.15 and slim_zeros == 0
    assert gamma < 0.8 * cut_gamma and abs(gamma - slim_gamma) < 0.2 * slim_gamma
    for name in weights(both).values():
        form = both.forms()[name]
        assert (form.dense().data[~form.mask] == 0).all() and not form.behind
        assert 0.1 < 1 - form.mask.mean() < 0.9
    assert {"surgery", "removed"} <= events
    assert "removed" not in cut_events and "surgery" not in slim_events
    assert evaluate(both, data().val).error < 0.4  # of 2/3 by chance, before it is tuned


def test_what_hooks_remember_is_in_the_checkpoint_by_their_names(tmp_path):
    rows = []
    applied(together("dns", "slimming"), checkpoint=tmp_path, log=rows.append)
    with np.load(tmp_path / "fit.npz", allow_pickle=False) as f:
        slots = {n: f[n] for n in f.files if n.startswith("hooks/")}
    assert set(slots) == {f"hooks/dns/slot/moves.fc{i}.weight" for i in (1, 2, 3)}
    cuts, spliced = sum(slots.values())
    last = [r for r in rows if r["event"] == "surgery"][-1]
    assert cuts >= last["cut"] > 0 and spliced >= last["spliced"] > 0
    with np.load(tmp_path / "fit.npz", allow_pickle=False) as f:
        masks = {n: f[n] for n in f.files if n.startswith("model/") and n.endswith(".mask")}
    assert cuts - spliced == sum(int((~m).sum()) for m in masks.values())


# -------------------------------------------------------------------------------- stopped, resumed


def check_resumed(words, stops, tmp_path, stop_at, bits):
    training = together(*words)
    whole = applied(training)
    for at in stops:
        folder = tmp_path / str(at)
        with pytest.raises(stop_at.Stop):
            applied(training, checkpoint=folder, log=stop_at(at))
        done = []
        resumed = applied(training, checkpoint=folder, log=lambda row: done.append(row["event"]))
        assert bits(resumed) == bits(whole) and resumed.spec() == whole.spec()
        assert done.count("progress") == 20 - (at - 1) // 4 * 4
    assert bits(whole) != bits(applied(together(words[0]))) != bits(applied(together(words[1])))


@pytest.mark.parametrize("words", TWO_EACH, ids="+".join)
def test_a_stopped_pair_goes_on_and_ends_in_the_same_bits(words, tmp_path, stop_at, bits):
    check_resumed(words, (10,), tmp_path, stop_at, bits)


@pytest.mark.slow
@pytest.mark.parametrize("words", PAIRS, ids="+".join)
def test_every_pair_goes_on_or_is_refused_by_name(words, tmp_path, stop_at, bits):
    if words in REFUSED or words in APART or set(words) & set(ALONE) or (
            words[0] in PLAIN and words[1] in GRIDS):
        with pytest.raises(UserError, match=f"{words[0]} and {words[1]} cannot train together"):
            together(*words)
        return
    turn = PAIRS.index(words)  # each order and stop is that of many pairs
    check_resumed(words[::-1] if turn % 2 else words, (3, 10) if turn // 2 % 2 else (4, 19),
                  tmp_path, stop_at, bits)


def test_every_technique_that_trains_is_here():
    kinds = {t.word for t in TECHNIQUES if issubclass(t, Trained)} - set(OF_MAPS)
    assert set(TRAINED) == kinds
    counts = [word for pair in TWO_EACH for word in pair]
    assert all(counts.count(word) >= 2 for word in kinds - set(ALONE))
    assert set(MASKS) == {w for w in kinds if TRAINED[w].masks}
    assert set(GRIDS) == {w for w in kinds if TRAINED[w].quantizes}


KILLED = """
    import os, signal, sys
    sys.path.insert(0, sys.argv[1])
    import test_together as t

    def log(row):
        if row["event"] == "progress" and row["done"] == 14:
            os.kill(os.getpid(), signal.SIGKILL)

    t.applied(t.together("dns", "group-lasso", "slimming"), checkpoint=sys.argv[2], log=log)
"""


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_a_killed_process_is_gone_on_with_in_another(tmp_path, bits):
    args = [sys.executable, "-P", "-c", textwrap.dedent(KILLED)]
    args += [os.path.dirname(__file__), str(tmp_path)]
    process = subprocess.run(args, capture_output=True, text=True)
    assert process.returncode == -signal.SIGKILL, process.stderr
    training, done = together("dns", "group-lasso", "slimming"), []
    resumed = applied(training, checkpoint=tmp_path, log=lambda row: done.append(row["event"]))
    assert done.count("progress") == 8, "three epochs of five had been written"
    assert bits(resumed) == bits(applied(training))


def test_a_checkpoint_of_other_techniques_is_refused(tmp_path):
    applied(together("dns", "slimming"), checkpoint=tmp_path)
    for words in (("dns",), ("slimming", "dns"), ("dns", "group-lasso")):
        with pytest.raises(UserError, match="fit.npz cannot be used: it is of another run"):
            applied(together(*words), checkpoint=tmp_path)


# --------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize("words", REFUSED, ids="+".join)
def test_two_that_set_masks_or_grids_are_refused_by_name(words):
    with pytest.raises(UserError, match=f"{words[0]} and {words[1]} cannot train together: each"):
        together(*words)


@pytest.mark.parametrize("words", [p for p in PAIRS if set(p) & set(ALONE)], ids="+".join)
def test_weights_without_places_train_alone(words):
    with pytest.raises(UserError, match=f"{words[0]} and {words[1]} cannot train together: "):
        together(*words)


def test_scales_that_a_sign_hides_are_not_slimmed():
    with pytest.raises(UserError, match="slimming and bnn cannot train together: a sign does not"):
        together("bnn", "slimming")


@pytest.mark.parametrize("technique", [Magnitude(sparsity=0.5), KMeans(), FineTune(), Iterative()])
def test_what_is_no_training_is_refused_by_name(technique):
    with pytest.raises(UserError, match=f"{technique.word} cannot take part in a training"):
        FineTune(methods=(Slimming(), technique))


def test_a_technique_twice_and_rounds_of_several_are_refused():
    with pytest.raises(UserError, match="slimming is named twice in one training"):
        FineTune(methods=(Slimming(), DNS(), Slimming(lam=0.1)))
    with pytest.raises(UserError, match=r"iterative trains in rounds of its own: dns\+slimming"):
        Iterative(train=together("dns", "slimming"))


def test_what_one_of_them_refuses_is_refused_before_anything_trains():
    model, rows = Model(chain(("fc", Linear(12, 3))), input_shape=(12,)), []
    with pytest.raises(UserError, match="slimming: the model has no layer whose channels a batch"):
        together("dns", "slimming").apply(model, data(), Run(None, log=rows.append))
    first = FineTune(epochs=1)
    with pytest.raises(UserError, match="slimming: the model has no layer whose channels a batch"):
        Pipeline(steps=(first, together("slimming"))).apply(model, data(), Run(None, rows.append))
    assert not rows


# ------------------------------------------------------------------------------------------ losses


@dataclass(frozen=True)
class Lossy(Trained):
    # Brings a loss: in the place of cross-entropy, or beside it at a weight of its own.
    word: ClassVar[str] = "lossy"
    title: ClassVar[str] = "A toy that brings a loss"

    replaces: bool = False
    weight: float = 1.0

    def hooks(self, model, data, run):
        class Square(Hook):
            name, replaces, base_weight = self.word, self.replaces, self.weight

            def loss(self, state):
                return (state.output * state.output).mean()

        return [Square()]


@dataclass(frozen=True)
class Other(Lossy):
    word: ClassVar[str] = "other"


def first_loss(*methods, **knobs):
    # Of the only step, before it: batch norm sees the batch.
    knobs = {"epochs": 1, "batch_size": 80, "label_smoothing": 0.25} | knobs
    rows = []
    applied(FineTune(methods=methods, **knobs), log=rows.append)
    return next(row["loss"] for row in rows if row["event"] == "epoch")


def test_label_smoothing_stays_when_a_technique_brings_a_loss():
    z = net()(data().train.x, training=True)
    square = float(np.square(z.data).mean())
    smooth, plain = (
        cross_entropy(z, data().train.y, label_smoothing=s).item() for s in (0.25, 0.0)
    )
    assert abs(smooth - plain) > 0.01
    expected = {
        (): smooth,
        (Lossy(),): smooth + square,
        (Lossy(), Slimming()): smooth + square,
        (Lossy(weight=0.5), Other(weight=0.5)): 0.25 * smooth + 2 * square,
        (Lossy(replaces=True),): square,
        (Lossy(replaces=True), Other(weight=0.5)): 0.5 * square + square,
    }
    for methods, loss in expected.items():
        # the order of the shuffled batch rounds differently
        assert first_loss(*methods) == pytest.approx(loss, rel=1e-5), methods
    assert first_loss(label_smoothing=0.0) == pytest.approx(plain, rel=1e-5)
    with pytest.raises(UserError, match="lossy and other cannot train together: each replaces"):
        first_loss(Lossy(replaces=True), Other(replaces=True))


# ----------------------------------------------------------------------- learning rates by pattern


def moves(**knobs):
    # How far one step moves each parameter.
    training = FineTune(epochs=1, batch_size=80, momentum=0.0, schedule="constant", **knobs)
    made, start = applied(training), net()
    return {n: f.dense().data - start.forms()[n].dense().data for n, f in made.forms().items()}


def test_lr_by_pattern_reaches_the_parameters_and_the_last_match_wins():
    plain = moves(lr=0.01)
    lr = {"fc*": 0.02, "fc3": 0.04, "*.bias": 0.08, "fc2.weight": 0.16}
    by_pattern = moves(lr=lr)
    factors = {"fc1.weight": 2, "fc2.weight": 16, "fc3.weight": 4, "bn1.weight": 1, "fc1.bias": 8}
    factors |= {"fc2.bias": 8, "fc3.bias": 8, "bn1.bias": 8, "bn2.bias": 8, "bn2.weight": 1}
    assert set(factors) == set(plain)
    for name, factor in factors.items():
        np.testing.assert_allclose(by_pattern[name], factor * plain[name], rtol=1e-3, atol=2e-7)
    assert np.abs(plain["fc2.weight"]).max() > 1e-4


def test_weight_decay_by_pattern_reaches_the_parameters():
    plain, decayed = moves(lr=0.1), moves(lr=0.1, weight_decay={"fc1.weight": 0.5, "fc3": 0.25})
    for name, form in net().forms().items():
        of = {"fc1.weight": 0.5, "fc3.weight": 0.25, "fc3.bias": 0.25}.get(name, 0.0)
        w = form.dense().data
        np.testing.assert_allclose(decayed[name] - plain[name], -0.1 * of * w, atol=1e-6)


def test_rates_by_pattern_hold_for_techniques_and_for_shared_weights():
    # A pattern names a node of which only a part moves: the centroids of its codebook.
    shared = KMeans(bits=2).apply(net(), None, Run(np.random.default_rng(0)))
    knobs = {"epochs": 1, "batch_size": 80, "momentum": 0.0, "schedule": "constant"}
    once, thrice = (
        Slimming(lam=0.0, sparsity=0.0)
        .training(lr=lr, **knobs)
        .apply(shared, data(), Run(np.random.default_rng(3)))
        .forms()
        for lr in (0.01, {"*": 0.01, "fc1": 0.03})
    )
    before = shared.forms()["fc1.weight"].centroids.value.data
    a, b = (f["fc1.weight"].centroids.value.data - before for f in (once, thrice))
    np.testing.assert_allclose(b, 3 * a, rtol=1e-3)
    assert np.abs(a).max() > 1e-5


@pytest.mark.parametrize("knob", ["lr", "weight_decay"])
def test_a_pattern_that_matches_no_parameter_is_refused_by_the_name_of_the_training(knob):
    with pytest.raises(UserError, match=rf"dns\+slimming: {knob}@fc1.gamma matches no parameter"):
        applied(together("dns", "slimming", **{knob: {"fc1": 0.1, "fc1.gamma": 0.1}}))
