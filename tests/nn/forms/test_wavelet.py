import numpy as np
import pytest

from minicomp.codec import decode, encode
from minicomp.errors import FormatError
from minicomp.gradcheck import adjoint_check
from minicomp.nn import Affine, Linear, Model, Wavelet, chain
from minicomp.nn.forms.wavelet import FILTERS, WAVELETS, dwt, idwt, padded

RNG = np.random.default_rng(5)


@pytest.mark.parametrize("wavelet", WAVELETS)
def test_filters_are_orthonormal_and_have_their_vanishing_moments(wavelet):
    h = np.array(FILTERS[wavelet])
    g = (-1) ** np.arange(len(h)) * h[::-1]
    assert abs(h.sum() - np.sqrt(2)) < 1e-12 and abs((h * h).sum() - 1) < 1e-12
    for shift in range(2, len(h), 2):
        assert abs(h[shift:] @ h[:-shift]) < 1e-12
    for moment in range(len(h) // 2):
        assert abs(np.arange(len(h)) ** moment @ g) < 1e-9 * 10**moment


def test_the_transform_by_hand():
    # pairs: sums and differences over sqrt 2, then again
    r = np.sqrt(0.5)
    c = dwt.fn(np.array([1.0, 3, 5, 5]), wavelet="haar", levels=1)
    np.testing.assert_allclose(c, [4 * r, 10 * r, -2 * r, 0], atol=1e-15)
    c = dwt.fn(np.array([1.0, 3, 5, 5]), wavelet="haar", levels=2)
    np.testing.assert_allclose(c, [7, -3, -2 * r, 0], atol=1e-15)


@pytest.mark.parametrize("wavelet", WAVELETS)
@pytest.mark.parametrize("m, levels", [(0, 3), (2, 1), (8, 0), (16, 2), (48, 4), (256, 5)])
def test_the_inverse_is_the_inverse_and_the_adjoint(wavelet, m, levels):
    how = {"wavelet": wavelet, "levels": levels}
    x = RNG.standard_normal(m)
    c = dwt.fn(x, **how)
    assert c.shape == x.shape and abs((c * c).sum() - (x * x).sum()) < 1e-9
    np.testing.assert_allclose(idwt.fn(c, **how), x, atol=1e-11)
    assert dwt.fn(x.astype(np.float32), **how).dtype == np.float32
    if m:
        adjoint_check(lambda t: idwt(t, **how), x, rng=RNG)
        adjoint_check(lambda t: dwt(t, **how), x, rng=RNG)


# pywt.wavedec(2.0**np.arange(8), wavelet, "periodization", level=2) of PyWavelets 1.9.0
PYWT = {"db2": [98.284846, 29.215154, -31.07186, 47.238212, -17.047382, -2.190671, -8.762683,
                88.104812],
        "db4": [7.390523, 120.109477, -6.550703, -66.479742, 1.144339, -2.766581, 53.084695,
                8.641623]}


@pytest.mark.parametrize("wavelet", PYWT)
def test_taps_and_ends_lie_as_in_pywavelets(wavelet):
    c = dwt.fn(2.0 ** np.arange(8), wavelet=wavelet, levels=2)
    np.testing.assert_allclose(c, PYWT[wavelet], atol=1e-6)


@pytest.mark.peers
@pytest.mark.parametrize("wavelet", WAVELETS)
@pytest.mark.parametrize("m, levels", [(64, 1), (64, 3), (960, 6)])
def test_coefficients_are_those_of_pywavelets(wavelet, m, levels):
    pywt = pytest.importorskip("pywt")
    x = RNG.standard_normal(m)
    want = np.concatenate(pywt.wavedec(x, wavelet, "periodization", level=levels))
    np.testing.assert_allclose(dwt.fn(x, wavelet=wavelet, levels=levels), want, atol=1e-10)


def test_what_is_filled_up_is_cut_off():
    w = RNG.standard_normal((3, 7)).astype(np.float32)
    c = dwt.fn(np.append(w.reshape(-1), np.zeros(3, np.float32)), wavelet="db2", levels=3)
    form = Wavelet(c, (3, 7), "db2", 3)
    assert padded(21, 3) == 24 == len(c)
    np.testing.assert_allclose(form.dense().data, w, atol=1e-6)


def test_coefficients_that_are_mostly_0_lie_as_sparse_codes():
    c = np.where(RNG.random(4096) < 0.02, RNG.standard_normal(4096), 0)
    form = Wavelet(Affine.of(c, 0.05), (64, 64), "haar", 4)
    model = Model(chain(("fc", Linear(64, 64, bias=False))), input_shape=(64,))
    model.set_form("fc.weight", form)
    row = decode(encode(model)).rows[0]
    assert sum(row.parts.values()) < 4096 / 8 / 2  # half a bit a weight


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="wavelet must be one of haar, db2, db4, got 'sym4'"):
        Wavelet(np.zeros(8), (8,), "sym4", 1)
    with pytest.raises(ValueError, match=r"levels must be in \[0, 16\] and 2.levels divide the le"):
        dwt.fn(np.zeros(6), wavelet="haar", levels=2)
    with pytest.raises(ValueError, match=r"coefficients must be unmasked, of shape \(8,\)"):
        Wavelet(np.zeros(7), (7,), "haar", 2)
    masked = Affine.of(np.ones(8), 0.1, mask=np.arange(8) > 0)
    with pytest.raises(ValueError, match="coefficients must be unmasked"):
        Wavelet(masked, (8,), "haar", 2)
    for settings in ({"number": 3, "levels": 1}, {"number": 0, "levels": 17}):
        with pytest.raises(FormatError, match="must be an integer in"):
            Wavelet.from_stored((8,), settings, {})
