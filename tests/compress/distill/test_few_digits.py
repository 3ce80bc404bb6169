# The papers' claims in small: of 200 MNIST digits a student learns more with a teacher of 6,000.

from types import SimpleNamespace

import numpy as np
import pytest

from minicomp.compress import AttentionTransfer, Distill, FineTune, FitNets, Run
from minicomp.data import default_name, load
from minicomp.models import for_data
from minicomp.train import evaluate

pytestmark = [pytest.mark.slow, pytest.mark.realdata]
TRAINING = {"epochs": 30, "lr": 0.01, "batch_size": 20}
SEEDS = range(3)


def net(seed):
    return for_data("lenet5classic", load("mnist"), rng=np.random.default_rng([seed, 1]))


@pytest.fixture(scope="module")
def digits():
    # digits(n): the first n to train, 1,000 to judge
    if default_name() != "mnist":
        pytest.skip("the files of MNIST are not here")
    data = load("mnist")
    return lambda n: SimpleNamespace(train=data.train.take(slice(0, n)),
                                     val=data.val.take(slice(0, 1000)))


def trained(training, data, seed):
    return training.apply(net(seed), data, Run(np.random.default_rng([seed, 2])))


@pytest.fixture(scope="module")
def teacher(digits):
    return trained(FineTune(epochs=4, lr=0.02), digits(6000), 9)


@pytest.fixture(scope="module")
def plain(digits):
    return [trained(FineTune(**TRAINING), digits(200), seed) for seed in SEEDS]


def errors(models, data):
    return sum(evaluate(model, data.val).errors for model in models)


METHODS = {
    "distill": lambda t: Distill(teachers=t),
    "fitnets": lambda t: FitNets(teachers=t, to={"relu2": "relu2"}),
    "attention-transfer": lambda t: AttentionTransfer(teachers=t, beta=300.0, form="squares"),
}


@pytest.mark.parametrize("word", METHODS)
def test_a_taught_student_is_better_than_one_that_learns_alone(word, digits, teacher, plain):
    training = METHODS[word](teacher).training(**TRAINING)
    made = [trained(training, digits(200), seed) for seed in SEEDS]
    assert errors(made, digits(200)) < 0.95 * errors(plain, digits(200))
