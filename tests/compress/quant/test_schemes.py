import numpy as np
import pytest

from minicomp.compress.quant.schemes import Scheme, sqnr
from minicomp.nn import Dense

RNG = np.random.default_rng(0)
W = RNG.standard_normal((5, 3, 2, 2)).astype(np.float32)


def test_scales_by_hand():
    w = np.array([[1.0, -3.0], [0.5, 7.0]], np.float32)
    np.testing.assert_allclose(Scheme(3).params(w)[0], [1.0, 7 / 3], rtol=1e-6)
    np.testing.assert_allclose(Scheme(3, per="tensor").params(w)[0], [7 / 3], rtol=1e-6)
    scale, zero_point = Scheme(2, "unsigned", zero_point=True).params(w)
    np.testing.assert_allclose(scale, [4 / 3, 7 / 3], rtol=1e-6)  # the range contains 0
    assert zero_point.tolist() == [2, 0]
    torch = Scheme(8, "full", divisor=127.5)
    np.testing.assert_allclose(torch.params(w)[0], [3 / 127.5, 7 / 127.5], rtol=1e-6)


@pytest.mark.parametrize("scheme", [
    Scheme(4), Scheme(4, per="tensor"), Scheme(3, group=5), Scheme(2, "full"),
    Scheme(1, "midrise"), Scheme(4, "unsigned", zero_point=True, group=7),
    Scheme(4, "full", zero_point=True, per="tensor")], ids=str)
def test_every_entry_lies_within_half_a_step_of_its_code(scheme):
    form = scheme.form(Dense(W))
    w, step = form.dense().data, np.broadcast_to(form.spread(form.scale.data), W.shape)
    clipped = scheme.grid == "full" and not scheme.zero_point or scheme.grid == "midrise"
    inside = np.abs(W) <= (step / 2 if scheme.bits == 1 else np.inf)
    near = np.abs(w - W) <= step * 0.5001
    assert (near | ~inside if clipped and scheme.bits == 1 else near).all()


def test_the_least_squared_error_is_below_that_of_any_other_fraction():
    rows = W.reshape(5, -1)
    scale = Scheme(2, clip="mse").params(W)[0]
    for r, s in zip(rows, scale):
        errors = {}
        for fraction in np.arange(1, 101) / 100:
            t = np.float32(fraction * np.abs(r).max())
            errors[fraction] = np.square(t * np.clip(np.rint(r / t), -1, 1) - r).sum()
        mine = np.square(s * np.clip(np.rint(r / s), -1, 1) - r).sum()
        assert mine <= min(errors.values()) * (1 + 1e-5)
    assert sqnr(W, Scheme(2, clip="mse").form(Dense(W)).dense().data) > 2 + sqnr(
        W, Scheme(2).form(Dense(W)).dense().data)


def test_channels_without_a_weight_have_scale_1_and_masks_stay():
    w = W.copy()
    w[2] = 0
    mask = w != 0
    form = Scheme(4).form(Dense(w, mask))
    assert form.scale.data[2] == 1 and not form.dense().data[2].any()
    assert (form.mask <= mask).all() and (form.mask == (form.dense().data != 0)).all()


def test_what_is_no_number_is_refused():
    w = W.copy()
    w[0, 0, 0, 0] = np.inf
    with pytest.raises(ValueError, match="weights must be finite"):
        Scheme(4).params(w)


def test_sqnr_by_hand():
    x = np.array([3.0, 4.0], np.float32)
    assert sqnr(x, x) == np.inf and sqnr(0 * x, x) == -np.inf
    assert abs(sqnr(x, np.array([3.0, 4.5], np.float32)) - 20) < 1e-9
