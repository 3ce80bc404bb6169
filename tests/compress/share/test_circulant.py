import numpy as np
import pytest

from minicomp.compress import CirculantLayers, Run
from minicomp.compress.share.circulant import circulant_gradient, circulant_product
from minicomp.models import MLP, LeNet5Classic
from minicomp.nn import Circulant, Dense

RNG = np.random.default_rng


@pytest.mark.parametrize("outputs, inputs, block", [(6, 6, 6), (3, 8, 8), (9, 4, 9), (5, 7, 3),
                                                    (4, 6, 1), (1, 1, 1)])
@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-12), (np.float32, 1e-5)])
def test_product_and_gradient_by_fft_are_those_of_the_matrix(outputs, inputs, block, dtype,
                                                             tolerance):
    rng, n = RNG(outputs), -(-outputs // block) * -(-inputs // block) * block
    x, g = rng.standard_normal((3, inputs)), rng.standard_normal((3, outputs))
    form = Circulant(rng.standard_normal(n), (outputs, inputs), block, 4)
    c, w = form.columns.value.data, form.dense().data.astype(np.float64)
    y = circulant_product(x.astype(dtype), c.astype(dtype), form.signs, outputs, block)
    assert y.dtype == dtype
    np.testing.assert_allclose(y, x @ w.T, atol=tolerance * 10)
    pulled = circulant_gradient(g.astype(dtype), x.astype(dtype), form.signs, block)
    want = form.pull_back(form.dense(training=True), (g.T @ x).astype(np.float32))["columns"]
    assert pulled.dtype == dtype and pulled.shape == want.shape
    np.testing.assert_allclose(pulled, want, atol=1e-5)


def made(model, **knobs):
    return CirculantLayers(**knobs).training(epochs=0).apply(model, None, Run(RNG(2)))


def test_fully_connected_layers_alone_take_the_form_at_one_number_an_input():
    forms = made(LeNet5Classic(rng=RNG(0)), real={"*": False, "fc3": True}).forms()
    kinds = {n: f.kind for n, f in forms.items() if len(f.shape) > 1}
    assert kinds == {"conv1.weight": "dense", "conv2.weight": "dense", "fc1.weight": "circulant",
                     "fc2.weight": "circulant", "fc3.weight": "dense"}
    assert forms["fc1.weight"].columns.shape == (400,) and forms["fc1.weight"].flipped
    assert forms["fc1.weight"].seed != forms["fc2.weight"].seed
    blocked = made(LeNet5Classic(rng=RNG(0)), block=8, flips=False).forms()["fc1.weight"]
    assert blocked.columns.shape == (15 * 50 * 8,) and not blocked.flipped


def test_projected_weights_that_are_circulant_already_stay():
    model = MLP((6, 6), rng=RNG(1))
    model.set_form("fc1.weight", Dense(Circulant([1, 2, 3, 4, 5, 6], (6, 6), 6).dense().data))
    form = made(model, start="averaged", flips=False).forms()["fc1.weight"]
    np.testing.assert_allclose(form.columns.value.data, [1, 2, 3, 4, 5, 6], rtol=1e-6)
