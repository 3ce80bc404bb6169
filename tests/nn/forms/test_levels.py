import numpy as np
import pytest

from minicomp.codec import decode, encode
from minicomp.errors import FormatError
from minicomp.gradcheck import grad_check
from minicomp.grid.powers import additive_levels, power_levels
from minicomp.nn import AdditivePowers, BFloat16, Codebook, Dense, Linear, Model, Powers, chain
from minicomp.nn.forms import FORMS

RNG = np.random.default_rng(2)


def net(form):
    model = Model(chain(("fc", Linear(form.shape[1], form.shape[0], bias=False))),
                  input_shape=(form.shape[1],))
    model.set_form("fc.weight", form)
    return model


def spent(form):
    return decode(encode(net(form))).rows[0].parts


def test_a_table_is_the_levels_of_its_rule():
    np.testing.assert_array_equal(Powers(-2, 3).dense().data, power_levels(-2, 3), strict=True)
    np.testing.assert_array_equal(Powers(-2, 3, zero=False).dense().data, power_levels(-2, 3)[1:])
    table = AdditivePowers(0.5, 4)
    np.testing.assert_array_equal(table.dense().data, np.float32(0.5) * additive_levels(4))
    assert table.bits == AdditivePowers(0.5, 4, zero=False).bits == 4
    assert table.without_zero().after_zero().shape == table.shape == (15,)


@pytest.mark.parametrize("table", [Powers(-3, 87), AdditivePowers(0.3, 8)], ids=repr)
def test_a_derived_table_takes_a_few_bytes(table):
    index = RNG.integers(0, table.shape[0], (40, 50))
    derived = spent(Codebook(index, table, pinned_zero=True))
    spelt = spent(Codebook(index, table.dense().data, pinned_zero=True))
    assert derived["values"] == spelt["values"] and derived["codebook"] <= 5
    assert spelt["codebook"] > 3 * derived["codebook"]


def test_the_scale_is_trained_with_the_gradients_of_all():
    index = RNG.integers(0, 15, (6, 5))
    form = Codebook(index, AdditivePowers(0.4, 4), pinned_zero=True)
    assert list(form.parameters()) == ["centroids.scale"]
    g = RNG.standard_normal((6, 5)).astype(np.float32)
    pulled = form.pull_back(form.dense(training=True), g)
    want = (g * additive_levels(4)[index]).sum()
    np.testing.assert_allclose(pulled["centroids.scale"], [want], rtol=1e-5)
    form.centroids.scale.data[...] = -1
    form.project()
    assert form.centroids.scale.data[0] > 0


def test_the_scale_passes_the_gradient_check():
    def f(scale):
        table = AdditivePowers(0.4, 3)
        table.scale = scale
        w = table.dense()
        return (w * w * w).sum()

    grad_check(f, np.array([0.7]), order=2, rng=np.random.default_rng(0))


def test_tables_without_a_0_cannot_pin_it():
    for table in (Powers(0, 2, zero=False), AdditivePowers(1, 3, zero=False)):
        with pytest.raises(ValueError, match="a pinned zero needs .* levels with a 0, got none"):
            Codebook([[0, 1]], table, pinned_zero=True)
    with pytest.raises(ValueError, match="powers levels have one 0"):
        Powers(0, 2).after_zero()
    with pytest.raises(ValueError, match="a powers stores nothing by place"):
        Powers(0, 2).gather((slice(0, 2),))


def test_wrong_arguments_are_refused():
    for scale in (0, -1, np.nan, np.inf, [1, 2]):
        with pytest.raises(ValueError, match="scale must be one finite number > 0"):
            AdditivePowers(scale, 4)
    with pytest.raises(ValueError, match="exponents must be in"):
        Powers(127, 255)


@pytest.mark.parametrize("kind, shape, settings, told", [
    ("powers", (2, 2), {"top": 0}, "powers levels stand on one axis"),
    ("powers", (3,), {"top": 128}, "top must be an integer in"),
    ("powers", (600,), {"top": 0}, "exponents must be in"),
    ("apot", (8,), {}, "apot levels must be 2.bits - 1, or one fewer, got 8"),
    ("apot", (0,), {}, "bits must be in"),
    ("apot", (5000,), {}, "bits must be in"),
])
def test_no_file_makes_a_table_that_there_is_not(kind, shape, settings, told):
    with pytest.raises(FormatError, match=told):
        FORMS[kind].from_stored(shape, settings, {"scale": np.ones(1, np.float32)})


def test_bfloat16_takes_half_the_bytes_of_float32_and_gives_its_upper_half():
    w = RNG.standard_normal((30, 40)).astype(np.float32)
    form = BFloat16(w)
    u = w.view(np.uint32)
    want = (u + 0x7FFF + (u >> 16 & 1)) >> 16 << 16  # half to even
    np.testing.assert_array_equal(form.dense().data.view(np.uint32), want)
    # what is gone are the lower two bytes, which look random
    gone = spent(Dense(w))["values"] - spent(form)["values"]
    np.testing.assert_allclose(gone, 2 * w.size, rtol=0.02)


def test_no_file_makes_a_bfloat16_that_is_no_number():
    for bad in (np.inf, -np.inf, np.nan):
        with pytest.raises(FormatError, match="value must be finite"):
            BFloat16.from_stored((2,), {}, {"value": np.array([1, bad], np.float32)})


def test_an_only_part_of_codes_takes_no_code_out_of_range():
    form = Codebook([[0, 1, 2]], Powers(0, 1), pinned_zero=True)
    assert list(form.state()) == [""]
    with pytest.raises(ValueError, match=r"index must be in \[0, 2\], got 3..3"):
        form.load_state({"": np.full((1, 3), 3)})
