"""Recipes: what TOML and the command line may say, and what each mistake is answered with."""

import dataclasses
import tomllib
from types import SimpleNamespace

import numpy as np
import pytest

from minicomp.compress import TECHNIQUES, FineTune
from minicomp.compress.technique import Run
from minicomp.data import Split
from minicomp.jobs.recipe import FOLDER, load_recipe, parse_knobs, parse_recipe, parse_with, recipes
from minicomp.errors import UserError
from minicomp.models import MODELS
from minicomp.nn import BatchNorm1d, Linear, Model, ReLU, chain

STEPS = """
title = "T"
train = {epochs = 8, lr = 0.1}
[[step]]
technique = "magnitude"
sparsity = {'*' = 0.9, 'conv*' = 0.5}
[[step]]
technique = "finetune"
epochs = 4
"""
OWN = """
[lenet5]
train = {epochs = 2}
[[lenet5.step]]
technique = "kmeans"
bits = 3
"""


def parsed(text, model="lenet300", **kw):
    return parse_recipe(tomllib.loads(text), "mine", model, TECHNIQUES, **kw)


def test_a_recipe_is_a_training_and_steps_in_order():
    recipe = parsed(STEPS)
    assert (
        (recipe.name, recipe.title, recipe.train.epochs, recipe.train.lr) == ("mine", "T", 8, 0.1)
    )
    magnitude, finetune = recipe.pipeline.steps
    assert magnitude.word == "magnitude" and magnitude.at("sparsity", "conv1") == 0.5
    assert magnitude.at("sparsity", "fc1") == 0.9 and finetune.epochs == 4


def test_a_models_own_table_takes_the_place_of_the_common_one():
    own, other = parsed(STEPS + OWN, "lenet5"), parsed(STEPS + OWN, "lenet300")
    assert [s.word for s in own.pipeline.steps] == ["kmeans"] and own.train.epochs == 2
    assert (
        [s.word for s in other.pipeline.steps] == ["magnitude", "finetune"]
        and other.train.epochs == 8
    )
    # a part that the model's table lacks is the common one
    only_train = parsed(STEPS + "[lenet5]\ntrain = {epochs = 3}\n", "lenet5")
    assert len(only_train.pipeline.steps) == 2 and only_train.train.epochs == 3


@pytest.mark.parametrize("text, says", [
    ("stpe = 1", "recipe mine: unknown entry stpe; there are title, source, train, step, lenet300"),
    (
        "[lenet5]\ntrian = {epochs = 1}",
        "recipe mine: lenet5: unknown entry trian; there are train, step",
    ),
    ("lenet300 = 3", "recipe mine: lenet300 must be a table, got 3"),
    ("lenet5 = 3" + STEPS, "recipe mine: lenet5 must be a table, got 3"),
    ("train = 4", "recipe mine: train must be a table of knobs, got 4"),
    (
        "train = {epoch = 4}" + "\n" + STEPS[STEPS.index("[["):],
        "recipe mine: train: finetune: unknown knob 'epoch'; did you mean epochs",
    ),
    (
        "train = {epochs = -1}" + "\n" + STEPS[STEPS.index("[["):],
        r"recipe mine: train: finetune: epochs must be in \[0, inf\), got -1",
    ),
    ("title = 'x'", r"recipe mine has no \[\[step\]\] for lenet300$"),
    (OWN, r"recipe mine has no \[\[step\]\] for lenet300; it has them for lenet5$"),
    ("step = 3", r"step must be written as tables \[\[step\]\], got 3"),
    ("step = []", r"recipe mine has no \[\[step\]\]"),
    ("step = [1]", r"step must be written as tables"),
    ("[[step]]\nsparsity = 0.5", "recipe mine: step 1: technique must be a text, got None"),
    ("[[step]]\ntechnique = ['magnitude']", "recipe mine: step 1: technique must be a text"),
    (
        STEPS + "[[step]]\ntechnique = 'kmean'",
        "recipe mine: step 3: unknown technique 'kmean'; did you mean kmeans",
    ),
    (
        "[[step]]\ntechnique = 'magnitude'\nsparsity = '0.5'",
        r"step 1: magnitude: sparsity must be a number in \[0, 1\), got '0.5'",
    ),
    (
        "[[step]]\ntechnique = 'magnitude'\nsparsity = [0.5]",
        r"sparsity must be a number in \[0, 1\), got \[0.5\]",
    ),
    (
        "[[step]]\ntechnique = 'magnitude'\nsparsity = {fc1 = {a = 1}}",
        r"sparsity@fc1 must be a number",
    ),
])
def test_each_mistake_is_one_line_that_says_where(text, says):
    with pytest.raises(UserError, match=says) as error:
        parsed(text)
    assert "\n" not in str(error.value)


def test_unreadable_files_are_named(tmp_path):
    path = tmp_path / "bad.toml"
    for content in (b"title = ", b"\xff\xfd", b"#" * 2**17):
        path.write_bytes(content)
        with pytest.raises(UserError, match="bad.toml is not readable TOML"):
            load_recipe(str(path), "lenet5", TECHNIQUES)
    for name in ("nothing", str(tmp_path), str(tmp_path / "absent.toml"), ""):
        with pytest.raises(
            UserError, match="recipe must be deep-compression or .* or a TOML file that exists"
        ):
            load_recipe(name, "lenet5", TECHNIQUES)


def test_steps_given_beside_a_recipe_need_none_in_it():
    # han2015 has no steps for lenet5classic;
    # its training, or the default one, is all that is wanted
    given = parse_with(["kmeans:bits=2"], TECHNIQUES)
    assert load_recipe("han2015", "lenet5classic", TECHNIQUES, pipeline=given).pipeline is given
    assert parsed(STEPS, pipeline=given).train.epochs == 8


@pytest.mark.parametrize("name, model", [
    (name, model) for name in recipes() for model in MODELS
    if model in tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8"))])
def test_every_built_in_recipe_fits_the_models_it_names(name, model, built_in):
    recipe = load_recipe(name, model, TECHNIQUES)
    net = built_in(model, rng=np.random.default_rng(0))
    recipe.pipeline.check(net)
    assert recipe.title and recipe.source and recipe.train.epochs >= 1
    left = recipe.pipeline.sketch(net, rng=np.random.default_rng(0))
    if "dns" not in [step.name for step in recipe.pipeline.steps]:
        # surgery's thresholds mean nothing to initial weights
        assert sum(f.nonzeros() for f in left.forms().values()) < 0.6 * net.count()


def test_the_default_recipe_knows_every_model():
    assert set(recipes()) >= {
        "deep-compression", "deep-compression-long", "deep-compression-dns", "han2015"
    }
    assert all(load_recipe("deep-compression", model, TECHNIQUES) for model in MODELS)


def test_faster_shortens_every_training_to_at_least_one_epoch():
    recipe = parsed(
        STEPS
        + "[[step]]\ntechnique = 'finetune'\nepochs = 0\n"
        "[[step]]\ntechnique = 'iterative'\nepochs = 1\n"
    )
    fast = recipe.faster(0.25)
    assert fast.train.epochs == 2 and fast.train.lr == recipe.train.lr
    assert [
        getattr(getattr(s, "train", s), "epochs", None) for s in fast.pipeline.steps
    ] == [None, 1, 0, 1]
    assert recipe.train.epochs == 8, "the recipe itself stays"


# ------------------------------------------------------------------------------ on the command line


def test_words_of_the_command_line():
    steps = parse_with(
        [
            "magnitude:sparsity=0.9,scope=kernel",
            "finetune:epochs=2,dropout=false,patience=none",
            " bias : threshold = 1e-3 ",
            "kmeans",
        ],
        TECHNIQUES,
    ).steps
    assert [s.word for s in steps] == ["magnitude", "finetune", "bias", "kmeans"]
    assert (steps[0].sparsity, steps[0].scope) == (0.9, "kernel")
    assert (steps[1].epochs, steps[1].dropout, steps[1].patience) == (2, False, None)
    assert steps[2].threshold == 0.001


@pytest.mark.parametrize("text", [
    "sparsity=0.9,sparsity@fc*=0.5,sparsity@fc3=0.25",
    "sparsity@fc*=0.5,sparsity=0.9,sparsity@fc3=0.25",
    "sparsity@fc*=0.5,sparsity@fc3=0.25,sparsity=0.9"])
def test_a_plain_value_holds_where_no_pattern_matches_wherever_it_stands(text):
    step = parse_with(["magnitude:" + text], TECHNIQUES).steps[0]
    assert [step.at("sparsity", n) for n in ("conv1", "fc1", "fc3")] == [0.9, 0.5, 0.25]


def test_the_last_pattern_that_matches_wins():
    step = parse_with(["magnitude:sparsity@fc3=0.25,sparsity@fc*=0.5"], TECHNIQUES).steps[0]
    assert step.at("sparsity", "fc3") == 0.5
    assert parse_knobs("a@x=1,b=2", "here") == {"b": 2, "a": {"x": 1}}


@pytest.mark.parametrize("text, says", [
    ("magnitude:sparsity", "magnitude:sparsity: knobs must be written knob=value, got 'sparsity'"),
    ("magnitude:sparsity=0.5,sparsity=0.6", "sparsity is given twice"),
    ("magnitude:sparsity@fc1=0.5,sparsity@fc1=0.6", "sparsity@fc1 is given twice"),
    ("magnitude:sparsity=", r"sparsity must be a number in \[0, 1\), got ''"),
    ("magnitude:sparsity=nan", r"sparsity must be a number in \[0, 1\), got nan"),
    ("magnitude:sparsty=0.5", "magnitude: unknown knob 'sparsty'; did you mean sparsity"),
    ("finetune:epochs@fc1=3", "epochs is one value for the whole model, got one by pattern"),
    ("finetune:epochs=2.5", r"epochs must be an integer in \[0, inf\), got 2.5"),
    ("", "a technique must be named, got none; there are magnitude"),
    ("dns+", r"a technique must be named on either side of each \+ in 'dns\+'"),
    ("+dns", r"a technique must be named on either side of each \+ in '\+dns'"),
    ("dns:epochs=", r"epochs must be an integer in \[0, inf\), got ''"),
    ("dns:=3", "dns:=3: knobs must be written knob=value, got '=3'"),
    ("kmaens", "unknown technique 'kmaens'; did you mean kmeans"),
])
def test_each_wrong_word_is_answered(text, says):
    with pytest.raises(UserError, match=says):
        parse_with([text], TECHNIQUES)


# ------------------------------------------------------------------------------- trainings together


def test_techniques_that_train_together_stand_in_one_word():
    (step,) = parse_with(
        ["dns:c=1,c@fc2=0.5 + slimming:lam=1e-3,epochs=3,lr=0.1,lr@*.bias=0.2"], TECHNIQUES
    ).steps
    dns, slimming = step.methods
    assert (type(step), step.name, step.epochs) == (FineTune, "dns+slimming", 3)
    assert (dns.word, dns.at("c", "fc1"), dns.at("c", "fc2")) == ("dns", 1.0, 0.5)
    assert (slimming.word, slimming.lam) == ("slimming", 0.001)
    assert step.lr == {"*": 0.1, "*.bias": 0.2}
    # the training's knobs may stand with any, and alike with several
    for text in (
        "dns:c=1,epochs=3+slimming:lam=1e-3",
        "dns:epochs=3,c=1+slimming:epochs=3,lam=1e-3",
    ):
        other = parse_with([text], TECHNIQUES).steps[0]
        assert other.epochs == 3 and other.methods == (type(dns)(c=1.0), slimming)


def test_a_group_in_toml_says_whose_knob_it_is_where_two_have_it():
    (step,) = parsed("""
        [[step]]
        technique = "gradual+slimming"
        epochs = 3
        lam = 0.01
        "slimming.sparsity" = 0.5
        "gradual.sparsity" = {'*' = 0.9, 'fc3' = 0.75}
        """).pipeline.steps
    gradual, slimming = step.methods
    assert (step.epochs, slimming.lam, slimming.sparsity) == (3, 0.01, 0.5)
    assert gradual.sparsity == {"*": 0.9, "fc3": 0.75}
    (step,) = parsed(
        '[[step]]\ntechnique = "dns+slimming"\n"slimming.sparsity" = 0.5\nepochs = 2\n'
    ).pipeline.steps
    assert (step.name, step.methods[1].sparsity, step.epochs) == ("dns+slimming", 0.5, 2)


def test_a_group_trains_by_the_words_and_logs_its_knobs():
    nodes = chain(
        ("fc1", Linear(6, 8)), ("bn1", BatchNorm1d(8)), ("relu1", ReLU()), ("fc2", Linear(8, 3))
    )
    model, rng, rows = Model(nodes, input_shape=(6,)), np.random.default_rng(0), []
    for name in ("fc1.weight", "fc2.weight"):
        w = model.forms()[name].value.data
        w[...] = rng.standard_normal(w.shape)
    x = rng.standard_normal((60, 6)).astype(np.float32)
    split = Split(x, x[:, :3].argmax(axis=1))
    pipeline = parse_with(
        ["dns:c=0.5+slimming:lam=1e-3,sparsity=0.5,epochs=3,batch_size=20", "kmeans:bits=2"],
        TECHNIQUES,
    )
    made = pipeline.apply(
        model, SimpleNamespace(train=split, val=split), Run(rng, rows.append)
    )
    assert made.shapes()["fc1"] == (4,) and made.forms()["fc1.weight"].nonzeros() < 20
    assert [r["name"] for r in rows if r["event"] == "step"] == ["dns+slimming", "kmeans"]
    knobs = next(r["knobs"] for r in rows if r["event"] == "step")
    assert (knobs["dns.c"], knobs["slimming.lam"], knobs["epochs"]) == (0.5, 0.001, 3)
    assert sum(r["event"] == "progress" and r["name"] == "train" for r in rows) == 9
    fast = dataclasses.replace(parsed(STEPS), pipeline=pipeline).faster(0.4)
    assert fast.pipeline.steps[0] == dataclasses.replace(pipeline.steps[0], epochs=1)


@pytest.mark.parametrize("text, says", [
    ("dns:epochs=3+slimming:epochs=4", "epochs of the training is given as 3 and 4"),
    ("dns:lr=0.1,c=1+slimming:lr@fc1=0.1", "lr of the training is given as 0.1 and {'fc1': 0.1}"),
    (
        "dns+magnitude:sparsity=0.5",
        "magnitude cannot take part in a training: it does not change a net while it trains",
    ),
    ("slimming+kmeans", "kmeans cannot take part in a training"),
    ("dns+finetune:epochs=3", "finetune cannot take part in a training"),
    ("dns+iterative:rounds=2", "iterative cannot take part in a training"),
    (
        "gradual+dns:c=1",
        "gradual and dns cannot train together: each sets the masks of the same weights",
    ),
    ("dns+dns", "dns is named twice in one training"),
    ("dns+slimmin", "unknown technique 'slimmin'; did you mean slimming"),
    ("dns:c=1+slimming:lamda=1", r"dns\+slimming: unknown knob 'slimming.lamda'; did you mean lam"),
    ("dns:lam=1+slimming", r"dns\+slimming: unknown knob 'dns.lam'; did you mean ramp or gamma"),
    ("dns:c=1,c=2+slimming", "c is given twice"),
])
def test_each_wrong_group_is_answered(text, says):
    with pytest.raises(UserError, match=says):
        parse_with([text], TECHNIQUES)


def test_a_knob_of_two_techniques_must_say_whose_it_is():
    with pytest.raises(
        UserError, match=r"sparsity may be of gradual or slimming; write gradual\.sparsity"
    ):
        parsed("[[step]]\ntechnique = 'gradual+slimming'\nsparsity = 0.5\n")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_recipe_may_begin_with_a_byte_order_mark(encoding, tmp_path):
    path = tmp_path / "r.toml"
    path.write_text('title = "\u00e9"\n[[step]]\ntechnique = "magnitude"\nsparsity = 0.5\n',
                    encoding=encoding)
    recipe = load_recipe(str(path), "lenet300", TECHNIQUES)
    assert recipe.title == "\u00e9" and [s.word for s in recipe.pipeline.steps] == ["magnitude"]


@pytest.mark.parametrize("text, says", [
    ("title = " + "[" * 3000 + "]" * 3000, "values must nest at most 16 deep"),
    ("title = " + "[" * 17 + "]" * 17, "values must nest at most 16 deep"),
    ("title = " + "{a=" * 17 + "1" + "}" * 17, "values must nest at most 16 deep"),
    (".".join(["a"] * 50) + " = 1", "values must nest at most 16 deep"),
    (".".join(["a"] * 20_000) + " = 1", "a line must have at most 100 dots"),
    ("title = " + "9" * 5000, "is not readable TOML: .*digits"),
    ("title = " + "9" * 40, "an integer must be below 2..63"),
    ("title = [[0x" + "f" * 5000 + "]]", "an integer must be below 2..63"),
    ('"\\u001b[31m" = 1', r"unknown entry \\x1b\[31m; there are title"),
    ("n" * 60_000 + " = 1", "unknown entry n{80}\\.\\.\\. .60,000 letters"),
    ("train = '" + "n" * 60_000 + "'", "train must be a table of knobs, got 'n+\\.\\.\\."),
])
def test_recipes_that_are_made_to_cost_much_are_refused_in_a_line(text, says, tmp_path):
    path = tmp_path / "hostile.toml"
    path.write_text(text)
    with pytest.raises(UserError, match=says) as error:
        load_recipe(str(path), "lenet5", TECHNIQUES)
    assert len(str(error.value)) < 500 + len(str(path)) and str(error.value).isprintable()


def test_an_integer_on_the_command_line_has_an_end():
    with pytest.raises(UserError, match="an integer must be below 2..63, got 9{40}"):
        parse_with(["magnitude:sparsity=" + "9" * 4000], TECHNIQUES)
