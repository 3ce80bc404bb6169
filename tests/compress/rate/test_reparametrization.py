import numpy as np
import pytest

from minicomp.compress import Reparametrization
from minicomp.compress.rate.pricing import code_bits, code_counts, with_fixed_biases
from minicomp.compress.rate.reparametrization import latent_bits
from minicomp.compress.technique import Run
from minicomp.errors import UserError
from minicomp.gradcheck import grad_check
from minicomp.nn.forms import FixedPoint
from minicomp.nn.losses import cross_entropy
from minicomp.tensor import Tensor, grad

RNG = np.random.default_rng(9)
PSI = np.array([-1.0, 0.5, 2.0, 0.3, -2.0])  # of -2..2


def test_at_integers_it_is_what_a_coder_spends_and_between_that_of_the_mean_density():
    p = np.exp(PSI) / np.exp(PSI).sum()
    x = np.arange(-2.0, 3)
    np.testing.assert_allclose([latent_bits(x[i:i + 1], PSI) for i in range(5)], -np.log2(p))
    # the density of phi + u, u from U(-1/2, 1/2): that of phi, P_k in [k - 1/2, k + 1/2), averaged
    grid = np.linspace(-0.5, 0.5, 100_001)
    for x in (0.3, -1.2, 1.75):
        density = np.mean(p[np.floor(x + grid + 0.5).astype(int) + 2])
        assert latent_bits(np.array([x]), PSI) == pytest.approx(-np.log2(density), rel=1e-4)


def test_slopes_are_those_of_differences():
    x = RNG.uniform(-1.9, 1.9, 30)
    x = x[np.abs(x - np.rint(x)) > 1e-2]
    grad_check(latent_bits, x, PSI, rng=RNG)
    args = [Tensor(np.append(x, [5.0, -7.0]), requires_grad=True), Tensor(PSI, requires_grad=True)]
    fast, slow = grad(latent_bits(*args), args), grad(latent_bits.composite(*args), args)
    for a, b in zip(fast, slow):
        np.testing.assert_allclose(a.data, b.data, rtol=1e-9, atol=1e-12)
    assert fast[0].data[-2:].tolist() == [0, 0]


def test_a_table_beyond_what_floats_hold_has_finite_bits_and_slopes():
    # p of the outer integers is e^-2000, which is 0 in any float.
    psi = np.array([-2000.0, 0.0, 3.0, 0.0, -2000.0], np.float32)
    x = Tensor(np.array([1.5, 2.0, 7.0, 0.0], np.float32), requires_grad=True)
    table = Tensor(psi, requires_grad=True)
    with np.errstate(divide="raise", invalid="raise", over="raise"):
        bits = latent_bits(x, table)
        slopes = grad(bits, [x, table])
    log_p = psi - 3.0 - np.log1p(2 * np.exp(-3.0))
    expected = np.log(2) - log_p[3] - 2 * log_p[4] - log_p[2]  # at 1.5 half of p(1), and of p(2)
    assert bits.item() == pytest.approx(expected / np.log(2), rel=1e-6)
    assert all(np.isfinite(s.data).all() for s in slopes)
    assert slopes[0].data[0] == pytest.approx(2 / np.log(2)) and slopes[0].data[2] == 0


def test_the_density_learns_the_codes():
    # The rate is least where the table is how often codes occur, and then is their entropy.
    k = RNG.integers(0, 5, 400) ** 2 // 5 - 2
    psi = Tensor(np.zeros(7), requires_grad=True)
    for _ in range(400):
        psi.data -= 0.004 * grad(latent_bits(Tensor(k.astype(float)), psi), psi).data
    counts = code_counts(k, 3)
    entropy = (counts[counts > 0] * code_bits(counts)[counts > 0]).sum()
    assert latent_bits(k.astype(float), psi.data) == pytest.approx(entropy, rel=0.01)


def test_the_bits_of_the_codes_fall_with_lambda(blobs, net):
    spent = []
    for lam in (0.0, 8.0):
        training = Reparametrization(lam=lam, bits=5).training(epochs=40, optimizer="adam",
                                                               lr=0.01)
        made = training.apply(net(), blobs(), Run(np.random.default_rng(0)))
        total = 0.0
        for name in ("fc1.weight", "fc2.weight", "fc3.weight"):
            counts = code_counts(made.forms()[name].q.astype(int), 15)
            total += (counts[counts > 0] * code_bits(counts)[counts > 0]).sum()
        spent.append(total)
    assert spent[1] < 0.8 * spent[0]


def test_biases_take_the_finest_fixed_point_that_holds_them(net):
    for largest, il in ((0.4, 1), (0.999, 2), (1.4, 2), (5.0, 4), (0.0, 1)):
        given = net().copy()
        given.forms()["fc2.bias"].value.data[...] = 0
        given.forms()["fc2.bias"].value.data[:2] = largest, -largest / 3
        b = given.forms()["fc2.bias"].dense().data
        for bits in (4, 8):
            form = with_fixed_biases(given, bits).forms()["fc2.bias"]
            assert isinstance(form, FixedPoint) and form.il + form.fl == bits and form.il == il
            assert np.abs(form.dense().data - b).max() <= 2.0 ** -form.fl / 2
    assert given.forms()["fc2.bias"].kind == "dense"  # the model given stays


def test_biases_are_rounded_at_the_end(blobs, net):
    made = Reparametrization(bias_bits=5).training(epochs=1).apply(
        net(), blobs(), Run(np.random.default_rng(0)))
    assert {form.kind for name, form in made.forms().items() if name.endswith("bias")} == {"fixed"}
    with pytest.raises(UserError, match=r"bias_bits must be 0 or in \[2, 16\], got 1"):
        Reparametrization(bias_bits=1).apply(net(), blobs(), Run(np.random.default_rng(0)))


def test_steps_weigh_loss_and_rate_alike(blobs, net):
    # With the gain of learned step sizes, that of the loss alone is scaled: s then grows until the
    # codes are too coarse for what lambda asks.
    slopes = {}
    for how in ("plain", "lsq"):
        made = Reparametrization(lam=0.0, bits=4).prepared(net(), None, None)
        form = made.forms()["fc1.weight"]
        assert form.learns == "plain"
        form.learns = how
        x, y = blobs().train.x[:50], blobs().train.y[:50]
        weights = form.parameters()
        slopes[how] = grad(cross_entropy(made(x), y), weights["scale"]).data.item()
    assert abs(slopes["lsq"]) < 0.2 * abs(slopes["plain"])
