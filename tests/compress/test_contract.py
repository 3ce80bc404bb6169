"""What every technique keeps to, whatever it does: one test over TECHNIQUES.

A technique is here with a TOY, knobs that make it small; one without a TOY fails. Where it takes
one of several knobs, it has a TOY for each.
"""

import dataclasses
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import numpy as np
import pytest

import minicomp
from minicomp.compress import TECHNIQUES
from minicomp.compress.finetune import FineTune, Rounds, Trained
from minicomp.compress.technique import Pipeline, Run, weights
from minicomp.data import Dataset, Split
from minicomp.errors import UserError
from minicomp.jobs.recipe import make_technique
from minicomp.nn import (
    Add,
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dense,
    Dropout,
    Flatten,
    Linear,
    Model,
    Node,
    ReLU,
    chain,
)
from minicomp.nn.init import he_normal

FOLDER = TemporaryDirectory()
OTHER = str(Path(FOLDER.name) / "other.mcz")  # a net with another bias, see `net`
BLOCKS = {"conv2": "2:4", "conv3": "2:5", "fc*": "2:4"}
FC1 = {"*": False, "fc1": True}  # whose dead unit has no scale
TOY = {
    "magnitude": [{"sparsity": 0.6}, {"quality": 0.5}, {"percentile": 0.6}],
    "iterative": [{"sparsity": 0.6, "rounds": 2}],
    "gradual": [{"sparsity": 0.6, "prunings": 4}],
    "lottery": [{"sparsity": 0.6, "rounds": 2}],
    "bias": [{"threshold": 0.3}],
    "split": [{"sparsity": 0.5}],
    "nm": [{"skip": True}],
    "taylor": [{"sparsity": 0.6, "samples": 20}],
    "snip": [{"sparsity": 0.6, "samples": 20}],
    "wanda": [{"sparsity": 0.6, "samples": 20}],
    "lamp": [{"sparsity": 0.6}],
    "fpgm": [{"sparsity": 0.3}],
    "obd": [{"sparsity": 0.6, "samples": 20}],
    "obs": [{"sparsity": 0.3, "samples": 4, "refresh": 200}],
    "obc": [{"sparsity": 0.6, "samples": 20}, {"pattern": BLOCKS, "samples": 20}],
    "sparsegpt": [{"sparsity": 0.6, "samples": 20}, {"pattern": BLOCKS, "samples": 20}],
    "dns": [{"c": 0.5, "ramp": 0.6}, {"c": -5.0}, {"c": 0.5, "variant": "code"}],
    "movement": [{"sparsity": 0.6}, {"variant": "soft", "penalty": 0.02}],
    "filters": [{"sparsity": 0.5}, {"threshold": {"*": 4.0, "fc1": 1.0}}],
    "channel-lasso": [{"sparsity": 0.5, "samples": 20}],
    "slimming": [{"sparsity": 0.4}],
    "group-lasso": [{"lam": 0.3}],
    "apoz": [{"sparsity": 0.5, "samples": 20}],
    "layer-removal": [{"samples": 20}],
    "dead-units": [{}],
    "sparse-activations": [{"threshold": 0.1}, {"sparsity": 0.5, "samples": 20}, {"top": 0.5}],
    "svd": [{"rank": 2}, {"energy": 0.7}],
    "activation-svd": [{"rank": 2, "samples": 20}],
    "weight-svd": [{"rank": 2}],
    "spatial-svd": [{"rank": 2}],
    "tucker": [{"ranks": "given", "rank_out": 2}],
    "cp": [{"rank": 2}],
    "flattened": [{}],
    "kmeans": [{"bits": 2}, {"k": 5}],
    "product": [{"block": 3, "k": 4}, {"block": {"*": 4, "fc1": 2}, "k": 3, "stages": 2,
                                       "shared": True, "half": True}],
    "bit-down": [{"k": 4, "samples": 20}, {"block": 3, "k": 3, "shared": False, "samples": 20,
                                           "weighting": "diagonal"}],
    "hashed": [{"fraction": 0.5}, {"fraction": {"*": 0.25, "conv1": 1.0}, "start": "averaged",
                                  "real": FC1}],
    "circulant": [{}, {"block": {"*": 4, "fc2": 3}, "start": "averaged", "flips": False}],
    "lcnn": [{"atoms": 4, "lookups": 2}, {"atoms": 5, "lookups": 1, "eps": 0.05, "lam": 0.01}],
    "crelu": [{}],
    "fold-bn": [{}],
    "equalize": [{}, {"absorb": False}],
    "smoothquant": [{"samples": 20}],
    "awq": [{"samples": 20, "tries": 3}],
    "ptq": [
        {"samples": 20},
        {"mode": "dynamic", "act_bits": {"fc*": 4}},
        {"mode": "weight-only", "bits": {"*": 4, "conv1": 8}, "group": 3, "clip": "mse"},
        {"mode": "float16"},
        {"mode": "bfloat16"},
        {"mode": "activations", "samples": 20},
        {"bits": 3, "moments": "exact", "correct": "empirical", "symmetric": True, "samples": 20},
    ],
    "bias-correction": [{"against": OTHER, "samples": 20}],
    "bn-reestimate": [{"samples": 20}],
    "gptq": [{"samples": 20}, {"samples": 20, "bits": 6, "grid": "unsigned", "group": 3}],
    "adaround": [{"samples": 20, "steps": 10}, {"samples": 20, "steps": 10, "per": "tensor"}],
    "mixed-bits": [
        {"mean_bits": 9.0, "least": 5, "samples": 20},
        {"bytes": 1000, "least": 5, "samples": 20, "cost": "hessian", "draws": 2},
    ],
    "joint-bits": [{"budget": 28.0, "bits": 5, "least": 5, "act_bits": 6, "samples": 20},
                   {"cost": "storage", "budget": 4.5, "bits": 5, "least": 4, "act_bits": 4,
                    "samples": 20}],
    "guard": [{"bits": 6, "theta": 0.5}],
    "qat": [{"bits": 4, "act_bits": 5, "delay": 0.3, "freeze": 0.7, "bias_bits": 8, "samples": 20},
            {"grid": "unsigned", "per": "tensor", "act_bits": 0},
            {"bits": 5, "bn": "fold", "freeze": 0.6, "samples": 20, "bias_bits": 8}],
    "lsq": [{"bits": 3, "act_bits": 3, "samples": 20, "bias_bits": 8},
            {"per": "channel", "gain": False, "bits": 4}],
    "pact": [{"bits": 4, "samples": 20}, {"alpha": 0.0, "lam": 0.1}],
    "dorefa": [{"bits": 3, "samples": 20, "bias_bits": 6},
               {"bits": {"*": 1, "conv1": 8}, "act_bits": {"*": 2, "conv1": 8}, "samples": 20}],
    "inq": [{"bits": 4}, {"act_bits": 6, "portions": 2, "samples": 20, "bias_bits": 8}],
    "binary-connect": [{}, {"stochastic": True, "size": "one", "lr_scale": 1, "ends": "real"},
                       {"stochastic": True, "loss": "squared-hinge"}],
    "bnn": [{}, {"norm": "shift", "stochastic": True, "loss": "squared-hinge", "size": "glorot"},
            {"neurons": "stochastic"}],
    "xnor-net": [{"real": FC1}, {"real": FC1, "gradient": "printed"},
                 {"real": FC1, "inputs": "signs"}, {"real": FC1, "inputs": "scaled"}],
    "abc-net": [{"bases": 2}, {"real": FC1, "bases": {"*": 3, "conv1": 1}, "per": "channel"},
                {"activations": 2}],
    "twn": [{}, {"real": FC1, "delta": "exact", "per": "channel"}],
    "ttq": [{"t": 0.1}],
    "fixed-point": [{"fl": 8}, {"rounding": "nearest", "fl": {"*": 12, "conv*": 10}}],
    "lloyd-max": [{"bits": 2}, {"bits": 2, "method": "lloyd"}],
    "balanced": [{"bits": 2}, {"bits": 2, "levels": "mean"}],
    "buckets": [{"bits": 3, "bucket": 9}],
    "log2": [{"bits": 3}, {"bits": 3, "meet": "arithmetic"}],
    "apot": [{"bits": 3}],
    "wavelet": [{"levels": 2, "bits": 4}],
    "segments": [{"bits": 4}],
    "rate-distortion": [{"bits": 5, "weigh": "fisher", "samples": 20}],
    "trellis": [{"bits": 4, "lam": {"*": 0.0, "fc1": 0.2}}],
    "entropy-penalty": [{"lam": 0.05, "every": 3}],
    "entropy-reparametrization": [{"lam": 0.005}],
    "sparse-vd": [{"log_var": -3.0}],
    "soft-sharing": [{"components": 5, "pi0": 0.5, "tau": 0.05}],
    "bayesian-compression": [{"log_var": -3.0}],
    "miracle": [{"rate": 0.5, "bits": 6}],
    "distill": [{"teacher": OTHER}, {"teacher": f"{OTHER}+{OTHER}", "mean": "geometric"}],
    "fitnets": [{"teacher": OTHER}, {"teacher": OTHER, "to": {"relu4": "fc2"}}],
    "fsp": [{"teacher": OTHER}, {"teacher": OTHER, "flow": {"conv1": "relu3"},
                                  "to": {"conv1": "relu1"}}],
    "attention-transfer": [{"teacher": OTHER, "to": {"relu2": "conv3"}},
                           {"teacher": OTHER, "form": "squares", "p": 1}],
    "teacher-assistant": [{"teacher": OTHER, "assistants": OTHER}],
    "born-again": [{"generations": 2}],
    "soup": [{"others": OTHER}, {"others": f"{OTHER}+{OTHER}", "recipe": "greedy"}],
    "finetune": [{}],
}
REFUSES_PRUNED = {"channel-lasso": "remove channels before weights",
                  "wavelet": "wavelet cannot keep what was pruned",
                  "segments": "segments cannot keep what was pruned",
                  **dict.fromkeys(("svd", "activation-svd", "weight-svd", "spatial-svd", "tucker",
                                   "cp", "flattened"), "factor before pruning"),
                  "hashed": "hashed cannot keep what was pruned",
                  "circulant": "circulant cannot keep what was pruned",
                  "lcnn": "lcnn cannot keep what was pruned",
                  "product": "product cannot keep what was pruned",
                  "bit-down": "bit-down cannot keep what was pruned",
                  "miracle": "miracle cannot keep what was pruned"}
CONVS = {"weight-svd", "spatial-svd", "tucker", "cp", "flattened"}  # of convolutions alone
ANY_NODE = {"bias", "finetune", "sparse-activations", "fitnets", "fsp", "attention-transfer"}
# ... whose knobs are not about weights
DATA_DECIDE = {"sparse-activations", "joint-bits"}  # which layers there are, or their bits
ROUGH = {("movement", 1), ("group-lasso", 0), ("sparse-vd", 0),
         ("soft-sharing", 0), ("bayesian-compression", 0)}  # only a training can tell what goes
# How many weights round to 0, only a training can tell; in front of a sign a dead unit learns.
ROUNDED = {"fixed-point", "qat", "lsq", "pact", "inq", "twn", "ttq", "xnor-net",
           "entropy-penalty", "entropy-reparametrization"}
TRAINING = {"epochs": 3, "batch_size": 15, "lr": 0.02}  # of 60 examples: 4 steps an epoch
CASES = [(word, i) for word, toys in TOY.items() for i in range(len(toys))]
each = pytest.mark.parametrize("word, toy", CASES, ids=lambda v: str(v))
KINDS = {t.word: t for t in TECHNIQUES}
TRAINS = [(w, i) for w, i in CASES if issubclass(KINDS.get(w, object), (FineTune, Trained, Rounds))]
WRONG = {float: ("0.5", float("nan"), True), int: (1.5, "1", True), bool: (1, "true"), str: (1,)}


def made(word, toy=0, **knobs):
    # The technique with the knobs of its TOY and these, and a small training where it trains.
    training = TRAINING if (word, toy) in TRAINS else {}
    return make_technique(word, training | TOY[word][toy] | knobs, TECHNIQUES)


@cache
def data():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 120)
    x = rng.standard_normal((3, 1, 4, 4))[y] + 0.7 * rng.standard_normal((120, 1, 4, 4))
    x = x.astype(np.float32)
    train, val = Split(x[:60], y[:60]), Split(x[60:], y[60:])
    return Dataset("toy", train, val, None, ("a", "b", "c"), "rendered")


def prunable(shape):
    # Where a mask may be, alike for every channel that could go, so that it is known again in the
    # smaller net: a place of a kernel, a place of the flattened maps, an output of the net.
    mask = np.ones(shape, bool)
    if len(shape) == 4:
        mask[:, :, 0, 0] = False
    elif shape[0] == 3:
        mask[0] = False
    else:
        mask.reshape(shape[0], -1, 4)[:, :, :2] = False
    return mask


PRUNED = ("conv1.weight", "conv2.weight", "conv3.weight", "fc1.weight", "fc2.weight")


@cache
def net(pruned=False):
    # A convolution, a branch around two, maps that are flattened, two fully connected layers;
    # trained a little. With `pruned` an earlier technique set the masks.
    nodes = chain(
        ("conv1", Conv2d(1, 4, 3, padding=1)),
        ("bn1", BatchNorm2d(4)),
        ("relu1", ReLU()),
        ("conv2", Conv2d(4, 5, 3, padding=1)),
        ("bn2", BatchNorm2d(5)),
        ("relu2", ReLU()),
        ("conv3", Conv2d(5, 4, 3, padding=1)),
    )
    nodes += (Node("add", Add(), ("relu1", "conv3")),)
    tail = chain(
        ("relu3", ReLU()),
        ("pool", AvgPool2d(2)),
        ("flat", Flatten()),
        ("fc1", Linear(16, 8)),
        ("relu4", ReLU()),
        ("drop", Dropout(0.2)),
        ("fc2", Linear(8, 3)),
    )
    nodes += (dataclasses.replace(tail[0], inputs=("add",)), *tail[1:])
    model, rng = Model(nodes, input_shape=(1, 4, 4)), np.random.default_rng(1)
    for name, form in model.forms().items():
        if len(form.shape) > 1:
            model.set_form(name, Dense(he_normal(form.shape, rng=rng)))
    for part in ("weight", "bias"):  # a unit that is dead
        model.forms()[f"fc1.{part}"].value.data[0] = 0
    model = FineTune(epochs=4, lr=0.02, batch_size=15).apply(model, data(), Run(rng))
    other = model.copy()
    other.forms()["fc2.bias"].value.data[:] += 1
    minicomp.save(other, OTHER)
    for name in PRUNED if pruned else ():
        form = model.forms()[name]
        model.set_form(name, form.masked(prunable(form.shape)))
    return model


def applied(word, toy, model=None, **run):
    return made(word, toy).apply(model or net(), data(), Run(np.random.default_rng(3), **run))


once = cache(applied)  # not to be changed


def test_every_technique_has_a_toy():
    assert list(TOY) == [t.word for t in TECHNIQUES]
    assert all(TOY.values())


@each
def test_the_model_given_is_untouched_and_the_seed_decides(word, toy, bits):
    model = net().copy()
    before = [bits(model), model.spec(), {n: f.trainable for n, f in model.forms().items()}]
    first, again = once(word, toy), applied(word, toy, model)
    assert [bits(model), model.spec(), {n: f.trainable for n, f in model.forms().items()}] == before
    assert bits(again) == bits(first) and again.spec() == first.spec()
    mine, others = model._state().values(), again._state().values()
    assert not any(np.shares_memory(a, b) for a in mine for b in others)
    assert (bits(first), first.spec()) != (bits(model), model.spec()), "it does something"
    if (word, toy) in TRAINS:
        other = made(word, toy).apply(model, data(), Run(np.random.default_rng(4)))
        assert bits(other) != bits(first)


def wrong_values(limits):
    # Values that a knob must refuse, of every rule that it has.
    if limits.choices:
        yield from ("none such", 7)
        return
    if limits.lo is not None:
        yield limits.type(limits.lo - 1)
    if limits.hi is not None:
        yield limits.type(limits.hi if limits.below else limits.hi + 1)
    yield from WRONG[limits.type]
    if not limits.optional:
        yield None


@pytest.mark.parametrize("word", TOY)
def test_wrong_knobs_are_refused_by_name(word):
    kind = KINDS[word]
    for name, limits in kind.knobs().items():
        for value in wrong_values(limits):
            with pytest.raises(UserError, match=f"^{word}: {name} must be"):
                kind(**TOY[word][0] | {name: value})
            if limits.per_layer:
                with pytest.raises(UserError, match=f"^{word}: {name}@fc1 must be"):
                    kind(**TOY[word][0] | {name: {"fc1": value}})
        if not limits.per_layer:
            with pytest.raises(UserError, match=f"^{word}: {name} is one value for the whole"):
                kind(**TOY[word][0] | {name: {"fc1": 1}})
    with pytest.raises(UserError, match=f"^{word}: unknown knob 'sparsty'"):
        make_technique(word, {"sparsty": 0.5}, TECHNIQUES)


@pytest.mark.parametrize(
    "word, name", [(t.word, n) for t in TECHNIQUES for n, k in t.knobs().items() if k.per_layer]
)
def test_a_pattern_that_matches_nothing_is_refused_by_name(word, name):
    # With the first TOY that gives the knob a value, else the knob's default.
    toy, value = next(
        ((i, knobs[name]) for i, knobs in enumerate(TOY[word]) if name in knobs),
        (0, KINDS[word].__dataclass_fields__[name].default),
    )
    assert value is not None, f"a TOY of {word} must give {name} a value"
    value = next(iter(value.values())) if isinstance(value, dict) else value
    local = {"scope": "local"} if "scope" in KINDS[word].knobs() else {}
    technique = made(word, toy, **local, **{
        name: {"conv2" if word in CONVS else "fc1": value, "none such": value}})
    with pytest.raises(UserError, match=f"^{word}: {name}@none such matches no"):
        technique.apply(net(), data(), Run(np.random.default_rng(0)))


@pytest.mark.parametrize(
    "word, name",
    [
        (t.word, n)
        for t in TECHNIQUES
        for n, k in t.knobs().items()
        if k.per_layer and t.word not in ANY_NODE
    ],
)
def test_a_pattern_that_matches_a_batch_norm_alone_is_refused(word, name):
    value = next(
        (knobs[name] for knobs in TOY[word] if name in knobs),
        KINDS[word].__dataclass_fields__[name].default,
    )
    value = next(iter(value.values())) if isinstance(value, dict) else value
    toy = next((i for i, knobs in enumerate(TOY[word]) if name in knobs), 0)
    local = {"scope": "local"} if "scope" in KINDS[word].knobs() else {}
    technique = made(word, toy, **local, **{name: {"*": value, "bn1": value}})
    with pytest.raises(UserError, match=f"^{word}: {name}@bn1 matches no"):
        technique.apply(net(), data(), Run(np.random.default_rng(0)))


@each
def test_what_was_pruned_before_stays_exactly_0(word, toy):
    # In the result, and when it is trained on.
    if word in REFUSES_PRUNED:
        with pytest.raises(UserError, match=f"^{word}: .*{REFUSES_PRUNED[word]}"):
            applied(word, toy, net(pruned=True))
        return
    found = applied(word, toy, net(pruned=True))
    decayed = FineTune(**TRAINING, weight_decay=0.01)
    later = decayed.apply(found, data(), Run(np.random.default_rng(4)))
    for model in (found, later):
        forms = model.forms()
        assert {"conv1.weight", "fc1.weight", "fc2.weight"} <= set(forms)
        for name in set(PRUNED) & set(forms):
            w = forms[name].dense().data
            assert (w[~prunable(w.shape)] == 0).all() and w.any(), name


@each
def test_the_result_is_saved_and_loaded_to_the_bit(word, toy, tmp_path):
    model = once(word, toy)
    assert not any(form.behind for form in model.forms().values())
    minicomp.save(model, tmp_path / "x.mcz")
    read = minicomp.load(tmp_path / "x.mcz")
    assert read.spec() == model.spec() and set(read.forms()) == set(model.forms())
    for name, form in model.forms().items():
        a, b = form.dense().data, read.forms()[name].dense().data
        assert read.forms()[name].kind == form.kind
        np.testing.assert_array_equal(a.view(np.uint32), b.view(np.uint32))
    x = data().val.x
    np.testing.assert_array_equal(model(x).data, read(x).data)


@pytest.mark.parametrize("word, toy", TRAINS)
@pytest.mark.parametrize("part", [0.4, 0.9])
def test_a_stopped_run_goes_on_and_ends_in_the_same_bits(word, toy, part, tmp_path, stop_at, bits):
    # 4 steps an epoch, 3 epochs a training, of which there may be several
    whole = []
    applied(word, toy, log=lambda row: whole.append(row["event"]))
    at = round(part * whole.count("progress"))
    with pytest.raises(stop_at.Stop):
        applied(word, toy, checkpoint=tmp_path, log=stop_at(at))
    steps = []
    resumed = applied(word, toy, checkpoint=tmp_path, log=lambda row: steps.append(row["event"]))
    assert bits(resumed) == bits(once(word, toy)) and resumed.spec() == once(word, toy).spec()
    stands = (at - 1) // 4 * 4  # of what was done
    assert steps.count("progress") == whole.count("progress") - stands


@each
def test_a_sketch_needs_no_data_and_no_training(word, toy, bits):
    model = net().copy()
    before = bits(model)
    sketch = made(word, toy).sketch(model, rng=np.random.default_rng(3))
    again = made(word, toy).sketch(model, rng=np.random.default_rng(3))
    assert bits(model) == before and bits(sketch) == bits(again)
    assert not any(form.behind for form in sketch.forms().values())
    if (word, toy) not in ROUGH:
        result = once(word, toy)
        assert sketch.spec() == result.spec() or word in DATA_DECIDE
        a, b = ({n: (f.kind, f.shape) for n, f in m.forms().items()} for m in (sketch, result))
        assert a == b
        zeros = [sum(f.nonzeros() for f in m.forms().values()) for m in (sketch, result)]
        assert word in ROUNDED or zeros[0] == pytest.approx(zeros[1], rel=0.03)
    if isinstance(made(word, toy), FineTune):
        untrained = dataclasses.replace(made(word, toy), epochs=0)
        made_so = untrained.apply(model, None, Run(np.random.default_rng(3)))
        assert bits(made_so) == bits(sketch)


# --------------------------------------------------------------- odd nets, odd data, odd orders


@cache
def branched():
    # The net with a branch that nothing reads.
    nodes = list(net().copy().nodes)
    at = next(i for i, node in enumerate(nodes) if node.name == "pool")
    aux = Conv2d(4, 6, 3)
    aux.forms["weight"] = Dense(he_normal((6, 4, 3, 3), rng=np.random.default_rng(8)))
    nodes[at:at] = [
        Node("aux", aux, ("relu1",)),
        Node("auxbn", BatchNorm2d(6), ("aux",)),
        Node("auxrelu", ReLU(), ("auxbn",)),
        Node("auxdrop", Dropout(0.5), ("auxrelu",)),
    ]
    return Model(nodes, input_shape=(1, 4, 4))


@each
def test_a_branch_that_nothing_reads_is_no_obstacle(word, toy, tmp_path):
    sketch = made(word, toy).sketch(branched(), rng=np.random.default_rng(3))
    for model in (applied(word, toy, branched()), sketch):
        minicomp.save(model, tmp_path / "x.mcz")
        assert np.isfinite(minicomp.load(tmp_path / "x.mcz")(data().val.x).data).all()


def spoiled(kind, name):
    # The data, of which one split is not as it should be, and what is said of it.
    split = getattr(data(), name)
    x, y = split.x.copy(), split.y.copy()
    if kind == "nan":
        x[1, 0, 2, 3] = np.nan
    elif kind == "inf":
        x[-1, 0, 0, 0] = np.inf
    elif kind == "empty":
        x, y = x[:0], y[:0]
    elif kind == "shape":
        x = x[:, :, :3]
    elif kind == "labels":
        y[0] = 3
    bad = None if kind == "none" else Split(x, y)
    return SimpleNamespace(**{"train": data().train, "val": data().val} | {name: bad})


SAID = {
    "nan": "the examples of {} must hold finite numbers, got NaN or infinity",
    "inf": "the examples of {} must hold finite numbers, got NaN or infinity",
    "empty": "the examples of {} must be at least one, got none",
    "shape": r"the examples of {} must be x \(N, 1, 4, 4\) and y \(N,\), got \(60, 1, 3, 4\)",
    "labels": r"the examples of {} must have labels 0..2, integers, got int64 0..3",
    "none": "data must have .*{}.*, each with x and y, got none as {}",
}


@pytest.mark.parametrize("kind", SAID)
@each
def test_data_that_will_not_do_are_one_error_by_name(word, toy, kind, bits):
    technique = made(word, toy)
    for name in ("train", "val"):
        given = spoiled(kind, name)
        if name in technique.reads():
            with pytest.raises(UserError, match=f"^{word}: {SAID[kind].format(name, name)}"):
                technique.apply(net(), given, Run(np.random.default_rng(3)))
        elif name == "train" or not technique.reads():  # it does not look at them
            found = technique.apply(net(), given, Run(np.random.default_rng(3)))
            assert bits(found) == bits(once(word, toy))
    if technique.reads():
        with pytest.raises(UserError, match=f"^{word}: data must have .*, got None"):
            technique.apply(net(), None, Run(np.random.default_rng(3)))


@each
def test_weights_that_are_no_numbers_are_one_error_by_name(word, toy):
    for name in ("conv2.weight", "fc1.bias", "bn1.running_var"):
        model = net().copy()
        model._state()[name].reshape(-1)[1] = np.nan
        with pytest.raises(UserError, match=f"^{word}: {name} must hold finite numbers, got NaN"):
            applied(word, toy, model)


@each
def test_few_examples_are_all_used_and_said_once(word, toy):
    few, rows = SimpleNamespace(train=data().train.take(slice(0, 3)), val=data().val), []
    made(word, toy).apply(net(), few, Run(np.random.default_rng(3), rows.append))
    (technique,) = getattr(made(word, toy), "methods", ()) or (made(word, toy),)
    floats = getattr(technique, "act_bits", None) == 0  # nothing to calibrate
    asked = getattr(technique, "samples", 0) if technique.reads() and not floats else 0
    told = [row["text"] for row in rows if row["event"] == "say" and "asked for" in row["text"]]
    assert told == [f"{word}: {asked} training examples are asked for and 3 are there: all are "
                    "used"] * (asked > 3)


EXACT = [  # word, toy, and of what the sparsity is: of each layer, of all together, of each row
    ("magnitude", 0, "local"), ("iterative", 0, "local"), ("gradual", 0, "local"),
    ("movement", 0, "local"), ("obc", 0, "local"), ("sparsegpt", 0, "local"),
    ("taylor", 0, "global"), ("snip", 0, "global"), ("lamp", 0, "global"), ("obd", 0, "global"),
    ("wanda", 0, "row"),
]


@pytest.mark.parametrize("word, toy, scope", EXACT)
def test_a_pruned_net_ends_at_exactly_the_sparsity_asked(word, toy, scope):
    # What is 0 already counts, and nothing above the sparsity comes back.
    before, after = net(pruned=True).forms(), applied(word, toy, net(pruned=True)).forms()
    zeros, n = 0, 0
    for name in PRUNED:
        gone, now = ~before[name].mask, ~after[name].mask
        assert (now | ~gone).all()
        rows = len(gone) if scope == "row" else 1
        gone, now = gone.reshape(rows, -1), now.reshape(rows, -1)
        wanted = np.maximum(round(0.6 * gone.shape[1]), gone.sum(axis=1))
        if scope != "global":
            np.testing.assert_array_equal(now.sum(axis=1), wanted, err_msg=name)
        zeros, n = zeros + now.sum(), n + now.size
    if scope == "global":
        assert zeros == round(0.6 * n)
        assert all(after[name].mask.any() for name in PRUNED), "no layer is empty"


@pytest.mark.parametrize("best", [{"keep_best": True}, {"patience": 1}], ids=str)
@pytest.mark.parametrize("word, toy", TRAINS)
def test_the_best_epoch_is_never_one_of_a_denser_net(word, toy, best):
    # The labels are what the net said before: each epoch errs more than the one before it, and the
    # first, which is the densest, would be the best.
    x = data().val.x
    said = Split(x, net()(x).data.argmax(axis=1))
    given, counts = SimpleNamespace(train=data().train, val=said), []
    for knobs in ({}, best):
        found = made(word, toy, epochs=4, lr=0.05, **knobs).apply(
            net(), given, Run(np.random.default_rng(3))
        )
        forms = [found.forms()[name] for name in weights(found).values()]
        if word == "slimming":  # of which at any epoch equally many channels go
            counts.append(sum(len(form.dense().data) for form in forms))
        else:
            counts.append(sum(form.nonzeros() for form in forms))
    assert counts[1] <= counts[0] or word in ROUNDED


LATER = [
    ("dns", {}), ("obs", {"sparsity": 0.1}), ("channel-lasso", {}), ("group-lasso", {}),
    ("split", {"blocks": 4}), ("nm", {"skip": True}), ("magnitude", {"sparsity": 0.5}),
    ("layer-removal", {}), ("finetune", {"lr": {"*": 0.1, "*.centroids": 0.2}}),
    ("filters", {"sparsity": {"conv1": 0.5}}), ("apoz", {"sparsity": 0.75}),
]


@each
def test_a_pipeline_is_checked_against_what_its_steps_will_leave(word, toy):
    # Refused in front is what would be refused later; where sizes depend on weights or data, only
    # what is certain.
    first, left = made(word, toy), once(word, toy)
    for later, knobs in LATER:
        step = make_technique(later, knobs, TECHNIQUES)
        try:
            step.check(left)
            step.check_shapes(left)
            refused = ""
        except UserError as e:
            refused = str(e)
        try:
            Pipeline(steps=(first, step)).check(net())
            assert not refused or first.resizes(), refused
        except UserError as e:
            assert refused and (first.resizes() or refused == str(e))
