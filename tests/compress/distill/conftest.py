import numpy as np
import pytest

from minicomp.compress.finetune import FineTune
from minicomp.compress.technique import Run
from minicomp.models import MLP


@pytest.fixture(scope="session")
def wide(blobs):
    # A teacher of the blobs, trained.
    net = MLP([12, 40, 40, 4], rng=np.random.default_rng(7))
    return FineTune(epochs=8, lr=0.05).apply(net, blobs(), Run(np.random.default_rng(8)))


@pytest.fixture(scope="session")
def taught(blobs):
    # taught(training, model, data=blobs): trained with seed 0, what was logged beside it.
    def made(training, model, data=None, **run):
        rows = []
        run = Run(np.random.default_rng(0), rows.append, **run)
        return training.apply(model, data or blobs(), run), rows

    return made
