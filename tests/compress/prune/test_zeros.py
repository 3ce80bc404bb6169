"""What every pruning technique promises: what is pruned stays exactly 0 through all later steps."""

from types import SimpleNamespace

import numpy as np
import pytest

import minicomp
from minicomp.compress import TECHNIQUES
from minicomp.jobs.recipe import parse_with
from minicomp.compress.technique import Run, weights
from minicomp.data.dataset import Split
from minicomp.models import MLP
from minicomp.optim import OPTIMIZERS

PRUNERS = (
    "magnitude:sparsity=0.7", "magnitude:quality=0.8", "magnitude:sparsity=0.7,scope=global",
    "bias:threshold=0.02", "iterative:sparsity=0.7,rounds=2,epochs=1",
    "gradual:sparsity=0.7,epochs=2", "lottery:rounds=1,epochs=1", "split:sparsity=0.5,blocks=2",
    "nm:n=1,m=4", "taylor:sparsity=0.7", "snip:sparsity=0.7", "wanda:sparsity=0.7",
    "lamp:sparsity=0.7", "dns:c=0.5,epochs=2", "dns:c=0.5,epochs=2,variant=code",
    "movement:sparsity=0.7,epochs=2", "movement:variant=soft,epochs=4,penalty=0.005",
    "obd:sparsity=0.3", "obc:sparsity=0.5", "sparsegpt:sparsity=0.5",
)


def data(n=120):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 4, n)
    split = Split(
        (rng.standard_normal((4, 8))[y] + rng.standard_normal((n, 8))).astype(np.float32), y
    )
    return SimpleNamespace(train=split, val=split, name="toy",
                           calibration=lambda n, rng: split.take(slice(0, n)))


def net():
    # Biases that are not all 0, two zeros among them.
    model = MLP([8, 12, 4], rng=np.random.default_rng(0))
    model.forms()["fc1.bias"].value.data[:] = np.linspace(-0.05, 0.06, 12)
    return model


def pipeline(*texts):
    return parse_with(texts, TECHNIQUES)


def masks(model):
    return {n: f.mask.copy() for n, f in model.forms().items() if f.mask is not None}


def assert_zero(model, gone):
    for name, mask in gone.items():
        assert (model.forms()[name].dense().data[~mask] == 0).all(), name


@pytest.fixture(scope="module")
def pruned():
    made = {}
    for text in PRUNERS:
        model = pipeline(text, "finetune:epochs=1").apply(
            net(), data(), Run(np.random.default_rng(0))
        )
        made[text] = model, masks(model)
    return made


@pytest.mark.slow
@pytest.mark.parametrize("text", PRUNERS)
def test_zeros_stay_through_sharing_training_and_the_file(text, pruned, tmp_path):
    model, gone = pruned[text]
    assert sum(int((~m).sum()) for m in gone.values()) > 3, "something was pruned"
    assert set(gone) <= set(model.forms()) and (
        text.startswith("bias") or set(weights(model).values()) <= set(gone)
    )
    train = "finetune:epochs=2,lr=0.05,momentum=0.9,weight_decay=0.01,batch_size=30"
    for later in (
        ("kmeans:bits=3",),
        ("kmeans:bits=3,biases=share,half=true", train),
        (train, "kmeans:bits=2", train),
        ("magnitude:sparsity=0.1", train),
    ):
        made = pipeline(*later).apply(model, data(), Run(np.random.default_rng(1)))
        assert_zero(made, gone)
        minicomp.save(made, tmp_path / "f.mcz")
        read = minicomp.load(tmp_path / "f.mcz")
        assert_zero(read, gone)
        assert_zero(pipeline(train).apply(read, data(), Run(np.random.default_rng(2))), gone)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("shared", [False, True])
def test_no_optimizer_moves_what_is_pruned(optimizer, shared, pruned):
    model, gone = pruned["magnitude:sparsity=0.7"]
    before = model.forms()["fc1.weight"].dense().data.copy()
    train = (
        f"finetune:epochs=3,lr=0.02,optimizer={optimizer},"
        "momentum=0.9,nesterov=true,weight_decay=0.1,batch_size=20"
    )
    made = pipeline(*(["kmeans:bits=3"] if shared else []), train).apply(
        model, data(), Run(np.random.default_rng(1))
    )
    assert_zero(made, gone)
    after = made.forms()["fc1.weight"].dense().data
    assert not np.array_equal(after, before), "the others did move"
    live = after[gone["fc1.weight"]]
    assert np.count_nonzero(live) > 0.9 * live.size


@pytest.mark.parametrize("text", PRUNERS)
def test_a_technique_leaves_zeros_of_earlier_ones(text, pruned):
    _, gone = pruned["magnitude:sparsity=0.7"]
    model = pruned["magnitude:sparsity=0.7"][0]
    made = pipeline(text).apply(model, data(), Run(np.random.default_rng(3)))
    assert_zero(made, gone)
