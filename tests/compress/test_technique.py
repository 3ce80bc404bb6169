import dataclasses
import json
from dataclasses import dataclass
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest

from minicomp.compress import TECHNIQUES, finetune
from minicomp.compress.finetune import FineTune, with_dropout_of
from minicomp.compress.prune.channel_lasso import ChannelLasso
from minicomp.compress.prune.dns import DNS
from minicomp.compress.prune.fpgm import FPGM
from minicomp.compress.prune.iterative import Iterative
from minicomp.compress.prune.magnitude import Magnitude
from minicomp.compress.prune.nm import NM
from minicomp.compress.prune.obs import OBS
from minicomp.compress.share.kmeans import KMeans
from minicomp.compress.technique import (
    Knob,
    Pipeline,
    Run,
    Technique,
    kept,
    knob,
    masked,
    sparsity,
    weights,
)
from minicomp.errors import UserError
from minicomp.models import MLP
from minicomp.nn import (
    Add, BatchNorm1d, Codebook, Dense, Dropout, Half, Linear, Model, Node, ReLU, chain,
)
from minicomp.nn.init import lecun_uniform


def data(n=96):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 2 * n)
    x = (rng.standard_normal((3, 8))[y] + 0.5 * rng.standard_normal((2 * n, 8))).astype(np.float32)
    return SimpleNamespace(
        train=SimpleNamespace(x=x[:n], y=y[:n]), val=SimpleNamespace(x=x[n:], y=y[n:])
    )


def net(p=0.0):
    nodes = chain(
        ("fc1", Linear(8, 12)),
        ("bn1", BatchNorm1d(12)),
        ("relu1", ReLU()),
        ("drop", Dropout(p)),
        ("fc2", Linear(12, 3)),
    )
    model = Model(nodes, input_shape=(8,))
    for i, name in enumerate(weights(model).values()):
        model.set_form(
            name, Dense(lecun_uniform(model.forms()[name].shape, rng=np.random.default_rng(i)))
        )
    return model


def bits(model) -> bytes:
    return b"".join(a.tobytes() for a in model.state_dict().values())


@dataclass(frozen=True)
class Toy(Technique):
    word: ClassVar[str] = "toy"
    title: ClassVar[str] = "A toy"

    strength: float = knob(0.5, "how much", lo=0, hi=1, below=True, per_layer=True)
    bits: int = knob(4, "how many", lo=2, hi=8)
    rate: float = knob(0.1, "how fast", lo=1e-9)
    offset: float = knob(0.0, "anything")
    below_zero: float = knob(-1.0, "at most 0", hi=0)
    mode: str = knob("a", "which", choices=("a", "b"))
    on: bool = knob(False, "whether")
    limit: int | None = knob(None, "if any", type=int, lo=1, optional=True)

    def change(self, model, data, run):
        for form in model.forms().values():
            form.value.data += run.rng.standard_normal(form.shape).astype(np.float32)
        return model


# -------------------------------------------------------------------------------------------- knobs


@pytest.mark.parametrize(
    "knobs, message",
    [
        ({"bits": 1}, r"toy: bits must be in \[2, 8\], got 1"),
        ({"bits": 9}, r"toy: bits must be in \[2, 8\], got 9"),
        ({"bits": 4.0}, r"toy: bits must be an integer in \[2, 8\], got 4.0"),
        ({"bits": "4"}, r"toy: bits must be an integer in \[2, 8\], got '4'"),
        ({"bits": True}, r"toy: bits must be an integer in \[2, 8\], got True"),
        ({"bits": None}, r"toy: bits must be an integer in \[2, 8\], got None"),
        ({"strength": 1.0}, r"toy: strength must be in \[0, 1\), got 1.0"),
        ({"strength": -0.1}, r"toy: strength must be in \[0, 1\), got -0.1"),
        ({"strength": float("nan")}, r"toy: strength must be a number in \[0, 1\), got nan"),
        ({"strength": "much"}, r"toy: strength must be a number in \[0, 1\), got 'much'"),
        ({"strength": {"fc*": 0.2, "fc2": 1.5}}, r"toy: strength@fc2 must be in \[0, 1\), got 1.5"),
        ({"strength": {}}, "toy: strength by pattern needs at least one pattern, got none"),
        ({"rate": 0}, r"toy: rate must be in \[1e-09, inf\), got 0.0"),
        ({"rate": float("inf")}, r"toy: rate must be a number in \[1e-09, inf\), got inf"),
        ({"offset": float("nan")}, "toy: offset must be a number, got nan"),
        ({"below_zero": 0.5}, r"toy: below_zero must be in \(-inf, 0\], got 0.5"),
        (
            {"bits": {"fc1": 4}},
            "toy: bits is one value for the whole model, got one by pattern: {'fc1': 4}",
        ),
        ({"mode": "c"}, "toy: mode must be one of a, b, got 'c'"),
        ({"mode": 1}, "toy: mode must be one of a, b, got 1"),
        ({"on": 1}, "toy: on must be true or false, got 1"),
        ({"limit": 0}, r"toy: limit must be in \[1, inf\), got 0"),
    ],
)
def test_a_wrong_knob_is_named_with_its_range_and_what_was_given(knobs, message):
    with pytest.raises(UserError, match=message + "$"):
        Toy(**knobs)


def test_an_unknown_knob_is_an_error_that_names_the_nearest():
    with pytest.raises(UserError, match="toy: unknown knob 'strenght'; did you mean strength"):
        Toy(strenght=0.5)
    with pytest.raises(UserError, match=r"dns: .* 'epochs'; of its training: DNS\(...\).training"):
        DNS(epochs=3)
    with pytest.raises(UserError, match=r"'epochs'; of its .* Iterative\(train=FineTune\(epochs="):
        Iterative(epochs=3)


@pytest.mark.parametrize("patterns, shadowed", [
    ({"fc1": 0.1, "*": 0.2}, "fc1"), ({"*": 0.1, "fc1": 0.2, "fc*": 0.3, "bn1": 0.1}, r"\*"),
])
def test_a_pattern_that_later_ones_hide_is_refused(patterns, shadowed):
    # The last match wins: its value would be dropped without a word.
    with pytest.raises(UserError, match=f"toy: strength@{shadowed} decides nothing: a later"):
        Toy(strength=patterns).check(net())
    Toy(strength={"*": 0.1, "fc*": 0.2, "fc1": 0.3}).check(net())


def test_a_rate_that_later_patterns_hide_is_refused_and_the_last_match_wins():
    tune = FineTune(lr={"fc1": 0.1, "*": 0.01})
    assert tune.rates("lr") == {"fc1": 0.1, "*": 0.01}
    for training in (tune, FineTune(weight_decay={"*.bias": 0.1, "fc1": 0.2, "*": 0.0})):
        with pytest.raises(UserError, match="finetune: (lr@fc1|weight_decay@.*) decides nothing"):
            training.check(net())
    for training in (FineTune(lr={"*": 0.01, "fc1": 0.1}), FineTune(lr={"fc*": 0.1, "bn*": 0.2})):
        training.check(net())


def test_knobs_take_numpy_numbers_and_keep_python_ones():
    toy = Toy(
        bits=np.int64(5), strength={"fc1": np.float32(0.25), "*": 0}, rate=1, limit=np.uint8(3)
    )
    assert toy.settings() == {
        "strength": {"fc1": 0.25, "*": 0.0},
        "bits": 5,
        "rate": 1.0,
        "offset": 0.0,
        "below_zero": -1.0,
        "mode": "a",
        "on": False,
        "limit": 3,
    }
    assert json.loads(json.dumps(toy.settings())) == toy.settings()
    assert [type(v) for v in (toy.bits, toy.rate, toy.limit)] == [int, float, int]
    with pytest.raises(dataclasses.FrozenInstanceError):
        toy.bits = 3


def test_the_mapping_given_is_not_the_one_kept():
    given = {"fc1": 0.25}
    toy = Toy(strength=given)
    given["fc1"] = 7.0
    assert toy.strength == {"fc1": 0.25}


def test_the_last_pattern_that_matches_wins_and_no_match_is_the_default():
    toy = Toy(strength={"*": 0.1, "conv*": 0.2, "conv2": 0.3, "*_bn": 0.4})
    assert [toy.at("strength", n) for n in ("fc", "conv1", "conv2", "conv2_bn")] == [
        0.1,
        0.2,
        0.3,
        0.4,
    ]
    assert Toy(strength={"conv*": 0.2}).at("strength", "fc") == 0.5
    assert Toy(strength={"conv*": 0.2, "*": 0.1}).at("strength", "conv1") == 0.1
    assert Toy(strength=0.7).at("strength", "fc") == 0.7
    assert Toy(strength={"FC": 0.2}).at("strength", "fc") == 0.5  # names are case-sensitive


def test_a_pattern_that_matches_no_layer_is_an_error():
    Toy(strength={"fc*": 0.1, "bn1": 0.2}).check(net())
    for pattern in ("conv*", "relu1", "x"):
        with pytest.raises(
            UserError,
            match=f"toy: strength@{pattern[:-1]}.? matches no layer; there are fc1, bn1, " "fc2",
        ):
            Toy(strength={"fc1": 0.3, pattern: 0.1}).check(net())


def test_the_range_is_written_as_intervals_are():
    assert Knob(float, "").range() == "(-inf, inf)"
    assert Knob(float, "", lo=0, hi=1).range() == "[0, 1]"
    assert Knob(float, "", lo=0.5, hi=1, below=True).range() == "[0.5, 1)"


@pytest.mark.parametrize("technique", TECHNIQUES, ids=lambda t: t.word)
def test_every_technique_has_word_title_and_knobs_with_help_and_legal_defaults(technique):
    assert technique.word == technique.word.lower() and technique.title and technique.__doc__
    for name, limits in technique.knobs().items():
        default = technique.__dataclass_fields__[name].default
        assert limits.help and limits.check(name, default) == default
    assert len({t.word for t in TECHNIQUES}) == len(TECHNIQUES)


# -------------------------------------------------------------------------------------- fine-tuning


def test_finetune_trains_a_copy_and_leaves_its_argument():
    model = net()
    before = bits(model)
    other = FineTune(epochs=3).apply(model, data(), Run(np.random.default_rng(0)))
    assert bits(model) == before != bits(other)
    again = FineTune(epochs=3).apply(model, data(), Run(np.random.default_rng(0)))
    assert bits(again) == bits(other)


def test_finetune_thaws_what_is_frozen_and_keeps_masks_and_codes():
    model = net()
    rng = np.random.default_rng(1)
    mask = rng.random((12, 8)) < 0.5
    model.set_form("fc1.weight", Dense(model.forms()["fc1.weight"].value, mask, trainable=False))
    codes = rng.integers(0, 4, (3, 12))
    model.set_form(
        "fc2.weight", Codebook(codes, [0.0, -0.5, 0.5, 1.0], pinned_zero=True, trainable=False)
    )
    other = FineTune(epochs=2).apply(model, data(), Run(np.random.default_rng(0)))
    fc1, fc2 = other.forms()["fc1.weight"], other.forms()["fc2.weight"]
    assert not fc1.dense().data[~mask].any()
    assert np.all(fc1.dense().data[mask] != model.forms()["fc1.weight"].dense().data[mask])
    np.testing.assert_array_equal(fc2.index, codes)
    assert fc2.centroids.value.data[0] == 0 and np.all(
        fc2.centroids.value.data[1:] != [-0.5, 0.5, 1.0]
    )
    assert not model.forms()["fc1.weight"].trainable


def test_every_knob_of_finetune_reaches_the_training(monkeypatch):
    seen = {}
    monkeypatch.setattr(finetune, "fit", lambda model, data, **kw: seen.update(kw) or [])
    tune = FineTune(
        epochs=7,
        lr=0.3,
        momentum=0.8,
        nesterov=True,
        weight_decay=0.01,
        batch_size=5,
        schedule="step",
        shift=2,
        cutout=3,
        keep_best=True,
        patience=4,
        label_smoothing=0.25,
    )
    given = data()
    given.mean = 0.4
    run = Run(np.random.default_rng(0), log=print, checkpoint="here", n_threads=2)
    tune.apply(net(), given, run)
    o, a = seen["optimizer"], seen["augment"]
    assert (o.lr, o.momentum, o.nesterov) == (0.3, 0.8, True)
    assert {o.rate(name) for name in o.params} == {0.3} and set(o.decays.values()) == {0.01}
    assert (a.shift, a.cutout, a.mean) == (2, 3, 0.4)
    reached = ("epochs", "batch_size", "keep_best", "patience", "label_smoothing")
    assert {k: seen[k] for k in reached} == {k: getattr(tune, k) for k in reached}
    assert (seen["n_threads"], seen["checkpoint"], seen["hooks"]) == (2, "here", [])
    assert seen["rng"] is run.rng and seen["log"] is print
    assert [round(seen["schedule"](t), 6) for t in (0.2, 0.5, 0.9)] == [1, 0.1, 0.01]
    for name in ("adam", "adamw", "adamax"):
        FineTune(optimizer=name, lr=0.2, weight_decay=0.5).apply(net(), data(), run)
        o = seen["optimizer"]
        assert (type(o).__name__.lower(), o.lr, set(o.decays.values())) == (name, 0.2, {0.5})


def test_the_smoothed_loss_is_that_of_the_smoothed_target():
    given, rows = data(), []
    tune = FineTune(epochs=1, batch_size=96, label_smoothing=0.25)
    tune.apply(net(), given, Run(np.random.default_rng(0), log=rows.append))
    z, y = net()(given.train.x, training=True).data, given.train.y  # the loss before the only step
    logp = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    want = -(0.75 * logp[np.arange(96), y] + 0.25 * logp.mean(axis=1)).mean()
    (epoch,) = (row for row in rows if row["event"] == "epoch")
    assert epoch["loss"] == pytest.approx(want, rel=1e-5)


def test_dropout_is_scaled_by_the_root_of_the_kept_weights_and_only_while_it_trains(monkeypatch):
    # Han et al. 2015, eq. (2): D_r = D_o sqrt(C_r / C_o), with D_o the dropout of the dense net,
    # every time; C counts the layer that feeds it
    seen = []
    monkeypatch.setattr(
        finetune, "fit", lambda model, data, **kw: seen.append(model.node("drop").layer.p) or []
    )
    model = net(0.5)
    w = model.forms()["fc1.weight"].value.data
    mask = np.zeros(w.size, bool)
    mask[: w.size // 4] = True
    model.set_form("fc1.weight", Dense(w, mask.reshape(w.shape)))
    rng = np.random.default_rng(0)
    once = FineTune().apply(model, data(), Run(rng))
    twice = FineTune().apply(once, data(), Run(rng))
    FineTune(dropout=False).apply(twice, data(), Run(rng))
    assert seen == [0.25, 0.25, 0.5]
    assert twice.node("drop").layer.p == 0.5


def test_each_dropout_is_scaled_by_the_layer_that_feeds_it():
    # fc1 keeps 8 %, fc2 all of its weights: 0.5 sqrt(0.08) and 0.5; a mask is not all that counts
    nodes = chain(
        ("fc1", Linear(10, 10)),
        ("drop1", Dropout(0.5)),
        ("fc2", Linear(10, 10)),
        ("bn2", BatchNorm1d(10)),
        ("drop2", Dropout(0.5)),
        ("fc3", Linear(10, 2)),
    )
    model = Model(nodes, input_shape=(10,))
    for name, kept_weights in (("fc1.weight", 8), ("fc2.weight", 100), ("fc3.weight", 5)):
        w = model.forms()[name].value.data
        w.ravel()[:kept_weights] = 1
    scaled = with_dropout_of(model)
    assert scaled.node("drop1").layer.p == pytest.approx(0.5 * 0.08**0.5)
    assert scaled.node("drop2").layer.p == 0.5 == model.node("drop1").layer.p


def test_a_layer_that_says_it_drops_is_scaled_as_what_it_is():
    class Own(Dropout):
        kind = "Own"

    nodes = chain(("fc1", Linear(4, 4)), ("drop", Own(0.4)), ("fc2", Linear(4, 2)))
    model = Model(nodes, input_shape=(4,))
    model.set_form("fc1.weight", Dense(np.float32(np.arange(16).reshape(4, 4) < 4)))
    scaled = finetune.with_dropout_of(model).node("drop").layer
    assert type(scaled) is Own and scaled.p == pytest.approx(0.2)


def test_a_dropout_behind_a_join_is_of_both_branches_together():
    # 4 of 16 weights of fc1 and all 16 of fc2 are there: 20 of 32.
    nodes = (
        Node("fc1", Linear(4, 4)), Node("fc2", Linear(4, 4)), Node("sum", Add(), ("fc1", "fc2")),
        Node("drop", Dropout(0.5), ("sum",)), Node("fc3", Linear(4, 2), ("drop",)),
    )
    model = Model(nodes, input_shape=(4,))
    model.set_form("fc1.weight", Dense(np.float32(np.arange(16).reshape(4, 4) < 4)))
    model.set_form("fc2.weight", Dense(np.ones((4, 4), np.float32)))
    assert with_dropout_of(model).node("drop").layer.p == pytest.approx(0.5 * (20 / 32) ** 0.5)


def test_the_scaled_dropout_trains_the_weights_that_are_returned():
    model = net(0.5)
    other = FineTune(epochs=1).apply(model, data(), Run(np.random.default_rng(0)))
    assert np.all(other.forms()["fc1.weight"].value.data != model.forms()["fc1.weight"].value.data)


# ---------------------------------------------------------------------------------------- pipelines


def test_a_pipeline_is_its_steps_in_order_each_with_a_stream_of_its_own():
    model = net()
    pipeline = Pipeline(steps=(Toy(), Toy(bits=3), FineTune(epochs=1)))
    got = pipeline.apply(model, data(), Run(np.random.default_rng(4)))
    want = model
    for step, stream in zip(pipeline.steps, np.random.default_rng(4).spawn(3)):
        want = step.apply(want, data(), Run(stream))
    assert bits(got) == bits(want) != bits(model)


def test_a_pipeline_logs_every_step():
    log = []
    model = net()
    model.set_form("fc2.weight", Dense(np.zeros((3, 12), np.float32)))
    pipeline = Pipeline(steps=(FineTune(epochs=1), Toy()))
    made = pipeline.apply(model, data(), Run(np.random.default_rng(4), log=log.append))
    starts, steps = ([r for r in log if r["event"] == e] for e in ("start", "step"))
    assert [(r["name"], r["index"], r["of"]) for r in starts] == [("finetune", 1, 2), ("toy", 2, 2)]
    assert [r["name"] for r in steps] == ["finetune", "toy"] and steps[1][
        "knobs"
    ] == Toy().settings()
    z = made(data().val.x).data
    assert (
        steps[1]["errors"] == np.count_nonzero(z.argmax(1) != data().val.y)
        and steps[1]["size"] == 96
    )
    assert steps[1]["sparsity"] == sparsity(made) and bits(steps[1]["model"]) == bits(made)
    assert pipeline.settings() == {
        "steps": [
            {"name": "finetune", **FineTune(epochs=1).settings()},
            {"name": "toy", **Toy().settings()},
        ]
    }


def test_an_empty_pipeline_returns_another_equal_model():
    model = net()
    other = Pipeline().apply(model, data(), Run(np.random.default_rng(0)))
    assert other is not model and bits(other) == bits(model)


def test_a_pipeline_checks_all_patterns_before_the_first_step():
    calls = []

    @dataclass(frozen=True)
    class Spy(Toy):
        def change(self, model, data, run):
            calls.append(1)
            return model

        def sketch(self, model, *, rng):
            return model

    nested = Pipeline(steps=(Spy(), Pipeline(steps=(Toy(strength={"conv*": 0.1}),))))
    with pytest.raises(UserError, match=r"strength@conv\* matches no layer"):
        nested.apply(net(), data(), Run(np.random.default_rng(0)))
    assert not calls


def test_a_pipeline_with_float16_centroids_is_resumed_in_the_same_bits(tmp_path):
    # Their float32 latents are not in the file: every step starts from what a file would hold.
    class Stop(Exception):
        pass

    class Share(Toy):
        def change(self, model, data, run):
            rng = run.rng
            table = Half(np.concatenate([[0], rng.standard_normal(7)]).astype(np.float32))
            codes = rng.integers(0, 8, (12, 8))
            model.set_form("fc1.weight", Codebook(codes, table, pinned_zero=True))
            model.set_form("fc2.weight", Half(rng.standard_normal((3, 12)).astype(np.float32)))
            return model

    def stop(row):
        if row["event"] == "start" and row["index"] == 3:
            raise Stop

    pipeline = Pipeline(steps=(Share(), FineTune(epochs=1), FineTune(epochs=1)))
    whole = pipeline.apply(net(), data(), Run(np.random.default_rng(4)))
    with pytest.raises(Stop):
        pipeline.apply(net(), data(), Run(np.random.default_rng(4), log=stop, checkpoint=tmp_path))
    (tmp_path / "02-finetune" / "fit.npz").unlink()
    (tmp_path / "02-finetune.step").unlink()  # goes on from the first file, then from the second
    for _ in range(2):
        resumed = pipeline.apply(net(), data(), Run(np.random.default_rng(4), checkpoint=tmp_path))
        assert bits(resumed.dense()) == bits(whole.dense())
        for path in tmp_path.glob("03-*.step"):
            path.unlink()
        (tmp_path / "03-finetune" / "fit.npz").unlink()


def test_a_stopped_pipeline_goes_on_where_it_was_and_ends_in_the_same_bits(tmp_path):
    class Stop(Exception):
        pass

    def stop_at(n):
        seen = []

        def log(row):
            seen.append(row)
            if sum(r["event"] == "progress" for r in seen) == n:
                raise Stop

        return log

    calls = []

    class Counted(Toy):
        def change(self, model, data, run):
            calls.append(1)
            return super().change(model, data, run)

        def sketch(self, model, *, rng):
            return model

    # four steps an epoch: stopped in the second epoch of the first training, then in the second
    # training
    pipeline = Pipeline(
        steps=(FineTune(epochs=3, batch_size=24), Counted(), FineTune(epochs=3, batch_size=24))
    )
    whole = pipeline.apply(net(0.5), data(), Run(np.random.default_rng(4)))
    for n in (6, 14):
        with pytest.raises(Stop):
            pipeline.apply(
                net(0.5),
                data(),
                Run(np.random.default_rng(4), log=stop_at(n), checkpoint=tmp_path),
            )
    assert (tmp_path / "02-toy.step").exists()
    log = []
    resumed = pipeline.apply(
        net(0.5), data(), Run(np.random.default_rng(4), log=log.append, checkpoint=tmp_path)
    )
    assert bits(resumed) == bits(whole)
    assert len(calls) == 2  # of the whole run and of the second attempt: the third read the file
    assert sum(r["event"] == "progress" for r in log) == 8
    assert [r["name"] for r in log if r["event"] == "step"] == ["finetune", "toy", "finetune"]


# ---------------------------------------------------------------------------------- what they share


def test_weights_are_the_forms_that_pruning_works_on():
    assert weights(net()) == {"fc1": "fc1.weight", "fc2": "fc2.weight"}


def test_thawed_copies_and_makes_every_form_trainable():
    model = net()
    for name, form in model.forms().items():
        model.set_form(name, form.freeze())
    other = model.thawed()
    assert not model.parameters() and len(other.parameters()) == 6 and bits(other) == bits(model)


def test_kept_and_sparsity_count_entries():
    model = MLP([4, 5, 2], rng=np.random.default_rng(0))  # 20 + 10 weights, 5 + 2 biases of 0
    w = model.forms()["fc1.weight"].value.data
    mask = np.ones((5, 4), bool)
    mask[0] = False
    model.set_form("fc1.weight", Dense(w, mask))
    assert kept(model) == pytest.approx(26 / 30) and sparsity(model) == pytest.approx(4 / 30)


def test_masked_keeps_what_both_masks_keep_and_copies():
    model = net()
    rng = np.random.default_rng(2)
    first, second = rng.random((2, 12, 8)) < 0.5
    once = masked(model, {"fc1.weight": first})
    twice = masked(once, {"fc1.weight": second})
    assert model.forms()["fc1.weight"].mask is None
    np.testing.assert_array_equal(twice.forms()["fc1.weight"].mask, first & second)
    np.testing.assert_array_equal(once.forms()["fc1.weight"].mask, first)
    np.testing.assert_array_equal(
        twice.forms()["fc1.weight"].dense().data,
        np.where(first & second, model.forms()["fc1.weight"].dense().data, 0),
    )


def test_masked_sends_pruned_entries_of_a_codebook_to_the_pinned_zero():
    model, codes = net(), np.random.default_rng(0).integers(0, 3, (3, 12))
    model.set_form("fc2.weight", Codebook(codes, [0, 1, 2], pinned_zero=True))
    mask = np.arange(36).reshape(3, 12) % 2 == 0
    form = masked(model, {"fc2.weight": mask}).forms()["fc2.weight"]
    np.testing.assert_array_equal(form.index, np.where(mask, codes, 0))
    model.set_form("fc2.weight", Codebook(codes, [0, 1, 2]))
    with pytest.raises(
        UserError, match="fc2.weight: a codebook without a pinned zero cannot be pruned"
    ):
        masked(model, {"fc2.weight": mask})


def test_the_contract_returns_a_model_and_a_sketch_needs_no_data():
    with pytest.raises(NotImplementedError):
        Technique().apply(net(), data(), Run(np.random.default_rng(0)))
    model = net()
    sketch = Pipeline(steps=(Toy(), FineTune())).sketch(model, rng=np.random.default_rng(0))
    assert bits(sketch) != bits(model)


@pytest.mark.parametrize("other", [{"knobs": 3}, {"start": 1}, {"seed": 1}, {"data": 1},
                                   {"threads": 2}], ids=lambda other: next(iter(other)))
def test_what_a_pipeline_of_another_run_left_is_refused(other, tmp_path):
    def applied(knobs=2, seed=0, start=0, data=0, threads=1):
        pipeline = Pipeline(steps=(Toy(bits=knobs), FineTune(epochs=1)))
        model, given = MLP([8, 5, 3], rng=np.random.default_rng(start)), globals()["data"]()
        given.val.x[0, 0] += data
        run = Run(np.random.default_rng(seed), None, tmp_path, threads)
        return pipeline.apply(model, given, run)

    first = applied()
    assert bits(applied()) == bits(first)
    name = next(iter(other))
    with pytest.raises(UserError, match=f"of another run: .*{name}.*; delete it to start again"):
        applied(**other)


# -------------------------------------------------------------------- before anything is trained


@pytest.mark.parametrize("steps, message", [
    ((KMeans(bits=2), DNS(c=1.0).training(epochs=1)), "dns: fc1.weight must hold plain values"),
    ((KMeans(bits=2), Magnitude(sparsity=0.5)), "magnitude: fc1.weight: a codebook without a pin"),
    ((Magnitude(sparsity=0.5), ChannelLasso()), "channel-lasso: fc1.weight has pruned weights"),
    ((FPGM(sparsity=0.25), NM(m=4)), "nm: fc2: m must divide the 9 inputs, got 4"),
    ((FineTune(epochs=1, lr={"*": 0.1, "*.centroids": 0.2}), KMeans()), r"lr@\*.centroids matches"),
])
def test_a_step_that_cannot_follow_is_refused_before_the_first(steps, message):
    events = []
    pipeline = Pipeline(steps=(FineTune(epochs=1), *steps))
    with pytest.raises(UserError, match=message):
        pipeline.apply(net(), data(), Run(np.random.default_rng(0), events.append))
    assert not events


def test_rates_of_centroids_can_be_given_behind_kmeans():
    tune = FineTune(epochs=1, lr={"*": 0.01, "*.centroids": 0.1})
    made = Pipeline(steps=(Magnitude(sparsity=0.5), KMeans(bits=2), tune)).apply(
        net(), data(), Run(np.random.default_rng(0))
    )
    assert made.forms()["fc1.weight"].kind == "codebook"


def test_a_pipeline_without_data_says_what_it_needs():
    for steps, names in (((Magnitude(sparsity=0.5),), "val"), ((FineTune(),), "train and val")):
        with pytest.raises(UserError, match=f"pipeline: data must have {names}, each with x and y"):
            Pipeline(steps=steps).apply(net(), None, Run(np.random.default_rng(0)))


@pytest.mark.parametrize("technique", [
    Magnitude(sparsity=0.99), Pipeline(steps=(Magnitude(sparsity=0.99),)), OBS(sparsity=0.98)
], ids=lambda t: t.word)
def test_a_layer_that_loses_its_last_weight_is_said_once(technique):
    rows, model = [], net()
    model.forms()["fc2.weight"].value.data[:] *= 1e-6
    for _ in range(2):  # what is empty already is no news
        model = technique.apply(model, data(), Run(np.random.default_rng(0), rows.append))
    told = [row["text"] for row in rows if row["event"] == "say" and "is left" in row["text"]]
    word = "magnitude" if technique.word == "pipeline" else technique.word
    assert told == [f"{word}: no weight of fc2 is left: what it gives does not depend on its input"]


@pytest.mark.parametrize("make", [
    lambda: Pipeline(steps=Magnitude(sparsity=0.5)),
    lambda: Pipeline(steps=("magnitude",)),
    lambda: FineTune(methods=DNS()),
    lambda: FineTune(methods=("dns",)),
])
def test_what_is_no_technique_is_refused_when_it_is_given(make):
    with pytest.raises(UserError, match="(steps|methods) must be a tuple of techniques"):
        make()


def test_a_list_of_techniques_is_as_good_as_a_tuple():
    assert Pipeline(steps=[KMeans()]) == Pipeline(steps=(KMeans(),))


def test_a_run_needs_a_generator():
    with pytest.raises(UserError, match=r"rng must be a generator, .*, got 3"):
        Run(3)


def test_a_technique_says_in_which_order_it_takes_things():
    with pytest.raises(UserError, match="apply takes a Model, its data and a Run, in this order"):
        Magnitude(sparsity=0.5).apply(None, None, Run(np.random.default_rng(0)))
