import numpy as np
import pytest

import minicomp
from minicomp.compress import Miracle
from minicomp.compress.bayes.miracle import gaussian_kl_of, sample_logits
from minicomp.compress.finetune import FineTune
from minicomp.compress.technique import Run
from minicomp.errors import FormatError
from minicomp.grid.shared_random import keyed, shared_normals, shared_order
from minicomp.nn import Seeded
from minicomp.train import evaluate

RNG = np.random.default_rng(3)


def test_the_generator_is_splitmix64():
    # its first outputs of seed 0, which are published with it
    want = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert keyed(np.uint64(0), np.arange(3)).tolist() == want


def test_samples_are_the_same_by_themselves_and_nearly_normal():
    z = shared_normals(7, np.arange(5)[:, None], np.arange(64), 300)
    assert z.shape == (5, 64, 300) and z.dtype == np.float32
    np.testing.assert_array_equal(z[3, 17], shared_normals(7, np.int64(3), np.int64(17), 300))
    assert not np.array_equal(z[0], shared_normals(8, np.int64(0), np.arange(64), 300))
    assert abs(z.mean()) < 0.01 and z.std() == pytest.approx(1, abs=0.01)
    share = [(np.abs(z) < a).mean() for a in (0.5, 1, 2, 3)]
    np.testing.assert_allclose(share, [0.3829, 0.6827, 0.9545, 0.9973], atol=0.01)  # of eight bytes
    order = shared_order(100, 4)
    assert sorted(order.tolist()) == list(range(100)) and order.tolist() != list(range(100))


def test_a_form_decodes_what_was_drawn():
    form = Seeded(np.array([3, 0, 7]), 0.5, (4, 5), seed=9, bits=3)
    w, order = form.dense().data.reshape(-1), shared_order(20, 9)
    for b, k in enumerate((3, 0, 7)):
        at = order[7 * b:7 * b + 7]
        z = shared_normals(9, np.int64(b), np.int64(k), 7)[:len(at)]
        np.testing.assert_array_equal(w[at], z * np.float32(0.5))
    assert repr(form) == "<Seeded 4 x 5: 3 blocks, 3 bits each, seed 9, frozen>"
    with pytest.raises(ValueError, match="index must be in"):
        Seeded(np.array([8]), 0.5, (4, 5), seed=9, bits=3)
    with pytest.raises(ValueError, match="scale must be one finite number > 0"):
        Seeded(np.array([1]), -0.5, (4, 5), seed=9, bits=3)
    with pytest.raises(FormatError, match="blocks must be 1..2, the weights, got 3"):
        Seeded.from_stored((1, 2), {"seed": 1, "count": 3, "bits": 2},
                           {"index": np.zeros(3, np.uint8), "scale": np.ones(1, np.float32)})


def test_divergence_and_weights_of_samples_are_those_of_the_densities():
    mu, log_var, prior = RNG.standard_normal(4), RNG.standard_normal(4) - 1, 0.8
    sigma, x = np.exp(log_var / 2), np.linspace(-12, 12, 100_001)[:, None]

    def log_normal(x, m, s):
        return -0.5 * ((x - m) / s) ** 2 - np.log(s * np.sqrt(2 * np.pi))

    q = np.exp(log_normal(x, mu, sigma))
    want = (q * (log_normal(x, mu, sigma) - log_normal(x, 0, prior))).sum(0) * (x[1, 0] - x[0, 0])
    np.testing.assert_allclose(gaussian_kl_of(mu, log_var, prior), want, atol=1e-7)
    z = RNG.standard_normal((6, 4))
    w = prior * z
    each = (log_normal(w, mu, sigma) - log_normal(w, 0, prior)).sum(1)
    got = sample_logits(z, mu, log_var, prior)
    np.testing.assert_allclose(got - got[0], each - each[0], rtol=1e-9, atol=1e-9)


def test_a_sample_of_k_equal_to_exp_kl_is_near_the_posterior():
    mu, log_var = np.full(8, 0.6), np.full(8, -1.0)
    k, errors = 2**10, []
    assert gaussian_kl_of(mu, log_var, 1.0).sum() < 10 * np.log(2)
    for b in range(40):
        z = shared_normals(1, np.int64(b), np.arange(k), 8)
        logits = sample_logits(z, mu, log_var, 1.0)
        p = np.exp(logits - logits.max())
        errors.append(z[RNG.choice(k, p=p / p.sum())] - mu)
    errors = np.array(errors)
    assert abs(errors.mean()) < 0.12  # of a prior's sample 0.6
    assert errors.std() == pytest.approx(np.exp(-0.5), rel=0.15)


def test_more_bits_err_less_and_the_file_holds_them(blobs, net, tmp_path):
    data, found = blobs(), []
    start = FineTune(epochs=10, lr=0.1).apply(net(), data, Run(np.random.default_rng(0)))
    train = FineTune(epochs=10, optimizer="adam", lr=0.01)
    for rate in (0.02, 2.0):
        made = Miracle(train=train, rate=rate, bits=6).apply(
            start, data, Run(np.random.default_rng(0)))
        blocks = [made.forms()[f"fc{i}.weight"].count for i in (1, 2, 3)]
        assert blocks == [Miracle(rate=rate, bits=6).blocks("", n) for n in (240, 200, 40)]
        minicomp.save(made, tmp_path / "x.mcz")
        read = minicomp.load(tmp_path / "x.mcz")
        np.testing.assert_array_equal(read(data.val.x).data, made(data.val.x).data)
        found.append((evaluate(made, data.train).errors, (tmp_path / "x.mcz").stat().st_size))
    (few, small), (many, large) = found
    assert many < 0.6 * few and large - small == pytest.approx(480 * 2 / 8, rel=0.3)
