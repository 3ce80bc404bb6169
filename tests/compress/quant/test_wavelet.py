import numpy as np
import pytest

from minicomp.codec import decode, encode
from minicomp.compress import Wavelets, net_of
from minicomp.compress.quant.wavelet import shrunk, soft_threshold, universal_threshold
from minicomp.compress.technique import Run, masked
from minicomp.errors import UserError

RNG = np.random.default_rng(3)


def made(w, **knobs):
    return Wavelets(**knobs).apply(net_of(w), None, Run(np.random.default_rng(0)))


def weight(model):
    return next(iter(model.forms().values())).dense().data


def steps():
    # 16 rows of blocks, and a little noise
    clean = np.repeat(RNG.standard_normal((16, 4)), 16, axis=1)
    return clean, (clean + 0.05 * RNG.standard_normal(clean.shape)).astype(np.float32)


def test_by_hand():
    assert soft_threshold(np.array([3, -0.5, -2, 0.0]), 1.0).tolist() == [2, 0, -1, 0]
    finest = np.array([0.6745, -0.6745, 5, 0.1, -0.6745])
    assert universal_threshold(finest, 8) == pytest.approx(np.sqrt(2 * np.log(8)))
    assert universal_threshold(np.zeros(0), 1) == 0
    # haar, one level: averages 2, 6 (times sqrt 2), details 0 and -1 (times sqrt 2)
    r = np.sqrt(2)
    c = shrunk(np.array([2.0, 2, 5, 7]), wavelet="haar", levels=1, shrink=0)
    np.testing.assert_allclose(c, [2 * r, 6 * r, 0, -r], atol=1e-12)


def test_sigma_is_found_from_the_finest_details():
    x = 3.0 * RNG.standard_normal(2**14)
    c = shrunk(x, wavelet="db4", levels=1, shrink=0)
    lam = universal_threshold(c[len(c) // 2:], len(x))
    assert lam == pytest.approx(3 * np.sqrt(2 * np.log(len(x))), rel=0.03)


@pytest.mark.peers
@pytest.mark.parametrize("wavelet", ["haar", "db2", "db4"])
def test_it_is_what_pywavelets_does(wavelet):
    pywt = pytest.importorskip("pywt")
    x = RNG.standard_normal(512)
    c = pywt.wavedec(x, wavelet, "periodization", level=3)
    lam = 0.5 * universal_threshold(c[-1], 512)
    want = np.concatenate([c[0], *(pywt.threshold(d, lam, "soft") for d in c[1:])])
    np.testing.assert_allclose(shrunk(x, wavelet=wavelet, levels=3, shrink=0.5), want, atol=1e-9)


def test_steps_are_freed_from_noise_in_few_bytes():
    # Donoho & Johnstone 1994: few coefficients hold a signal with jumps
    clean, noisy = steps()
    model = made(noisy, levels=4, shrink=1.0, bits=8)
    error, before = (np.square(w - clean).mean() for w in (weight(model), noisy))
    assert error < 0.3 * before
    assert sum(decode(encode(model)).rows[0].parts.values()) < noisy.size / 4  # 2 bits a weight


def test_noise_goes_almost_entirely_at_the_universal_threshold():
    w = RNG.standard_normal((64, 64)).astype(np.float32)
    form = next(iter(made(w, levels=4, shrink=1.0).forms().values()))
    details = form.coefficients.dense().data[4096 >> 4:]
    assert np.count_nonzero(details) < 0.002 * details.size
    sizes = [sum(decode(encode(made(w, shrink=s))).rows[0].parts.values()) for s in (0.0, 0.25, 1)]
    assert sizes[0] > sizes[1] > sizes[2]


@pytest.mark.parametrize("wavelet", ["haar", "db2", "db4"])
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (4, 2, 3, 3)])
def test_without_threshold_only_the_step_errs(wavelet, shape):
    w = RNG.standard_normal(shape).astype(np.float32)
    model = made(w, wavelet=wavelet, shrink=0.0, bits=12)
    form = next(iter(model.forms().values()))
    step = form.coefficients.scale.data[0]
    # orthonormal: the squared error of weights is that of coefficients
    m = form.coefficients.shape[0]
    assert np.square(weight(model) - w).sum() <= m * step**2 / 4 * 1.001


def test_a_pruned_layer_is_refused_by_name():
    model = net_of(np.ones((4, 4), np.float32))
    name = next(iter(model.forms()))
    with pytest.raises(UserError, match=f"wavelet: {name} must not be pruned"):
        Wavelets().apply(masked(model, {name: np.eye(4, dtype=bool)}), None,
                         Run(np.random.default_rng(0)))


def test_the_threshold_is_of_details_that_see_values_however_much_is_filled_up():
    x = np.random.default_rng(0).standard_normal(500).astype(np.float32)
    kept = [np.count_nonzero(shrunk(x, wavelet="haar", levels=n, shrink=1.0)) for n in (9, 10, 12)]
    assert max(kept) < 20  # noise: the universal threshold leaves few
