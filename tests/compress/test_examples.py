"""The examples that techniques look at: as many as are asked for, or all there are."""

import numpy as np
import pytest

from minicomp.compress import TECHNIQUES
from minicomp.compress.prune.activation import SparseActivations
from minicomp.compress.prune.apoz import APoZ
from minicomp.compress.prune.channel_lasso import ChannelLasso
from minicomp.compress.prune.layer_removal import LayerRemoval
from minicomp.compress.prune.obc import OBC
from minicomp.compress.prune.obd import OBD
from minicomp.compress.prune.snip import SNIP
from minicomp.compress.prune.sparsegpt import SparseGPT
from minicomp.compress.prune.taylor import Taylor
from minicomp.compress.prune.wanda import Wanda
from minicomp.compress.technique import Run
from minicomp.data import Dataset, Split
from minicomp.models import MLP

RNG = np.random.default_rng
READERS = [
    APoZ(sparsity=0.25),
    ChannelLasso(),
    LayerRemoval(),
    OBC(sparsity=0.5),
    OBD(),
    SNIP(),
    SparseActivations(sparsity=0.5),
    SparseGPT(sparsity=0.5),
    Taylor(),
    Wanda(),
]


def data(n):
    rng = RNG(0)
    split = Split(rng.standard_normal((n, 6)).astype(np.float32), rng.integers(0, 6, n))
    return Dataset("toy", split, split, None, tuple("abcdef"), "rendered")


@pytest.mark.parametrize("technique", READERS, ids=lambda t: t.word)
def test_fewer_examples_than_asked_are_no_error_and_told_once(technique):
    model, asked = MLP([6, 6, 6], rng=RNG(1)), technique.samples
    for n in (40, asked):
        rows = []
        technique.apply(model, data(n), Run(RNG(0), rows.append))
        told = [r["text"] for r in rows if r["event"] == "say" and "asked" in r["text"]]
        assert told == [f"{technique.word}: {asked} training examples are asked for and {n} are "
                        "there: all are used"] * (n < asked)


def test_the_knob_has_one_name():
    for technique in TECHNIQUES:
        assert "examples" not in technique.knobs()
