import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from minicomp.errors import FormatError
from minicomp.gradcheck import grad_check
from minicomp.nn.forms import FORMS, Dense, Half
from minicomp.optim import OPTIMIZERS
from minicomp.tensor import grad

RNG = np.random.default_rng(7)
W = RNG.standard_normal((6, 5)).astype(np.float32)
MASK = RNG.random((6, 5)) < 0.4


def bits(form):
    return form.dense().data.tobytes()


def rebuilt(form):
    settings = {name: getattr(form, name) for name in form.settings}
    return FORMS[form.kind].from_stored(form.shape, settings, form.stored())


def hard_steps(form, name):
    # Ten steps with momentum and weight decay along gradients that pull masked entries away from 0.
    extra = {"momentum": 0.9, "nesterov": True} if name == "sgd" else {}
    optimizer = OPTIMIZERS[name](form.parameters(), lr=0.1, weight_decay=0.1, **extra)
    for _ in range(10):
        grads = {n: np.full(p.shape, 0.3, np.float32) for n, p in form.parameters().items()}
        optimizer.step(grads)
        form.project()
        yield form.dense().data


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("kind", [Dense, Half])
def test_masked_entries_are_exactly_0_after_every_step(name, kind):
    form = kind(W, MASK)
    for w in hard_steps(form, name):
        assert not w[~MASK].any() and not form.value.data[~MASK].any()
    assert np.all(form.dense().data[MASK] != W[MASK])  # the kept ones did move


def test_the_gradient_of_a_masked_entry_is_0():
    form = Dense(W, MASK)
    g = grad((form.dense() * 2.0).sum(), form.value)
    np.testing.assert_array_equal(g.data, np.where(MASK, 2.0, 0.0).astype(np.float32), strict=True)


def test_an_inf_in_the_latent_does_not_survive_projection():
    form = Dense(W, MASK)
    form.value.data[~MASK] = np.inf
    form.project()
    assert np.isfinite(form.dense().data).all()


def test_remask_sets_the_mask_and_its_own_copy_of_it():
    form, mask = Dense(W), MASK.copy()
    value = form.value
    form.remask(mask)
    mask[...] = True
    np.testing.assert_array_equal(form.mask, MASK)
    np.testing.assert_array_equal(form.dense().data, np.where(MASK, W, 0))
    assert form.value is value
    with pytest.raises(ValueError, match=r"mask must have shape \(6, 5\), got \(5,\)"):
        form.remask(np.ones(5, bool))


def test_half_rounds_to_float16_and_saturates():
    x = np.array([1 / 3, 65504, 65519, 1e6, -1e6, 1e-8, 2.0**-24], np.float32)
    w = Half(x).dense().data
    with np.errstate(over="ignore"):
        want = np.clip(x, -65504, 65504).astype(np.float16)
    np.testing.assert_array_equal(w, want.astype(np.float32), strict=True)
    np.testing.assert_array_equal(Half(x).stored()["value"], want, strict=True)
    form = Half(x)
    g = grad(form.dense().sum(), form.value)
    np.testing.assert_array_equal(g.data, np.ones(7, np.float32))  # straight through


def test_derivatives_of_two_orders_through_a_mask():
    # float64 forms, as Hessians of compressed nets use them
    def cube(value):
        form = Dense(value.data, MASK)
        form.value = value
        w = form.dense()
        return w * w * w

    grad_check(cube, W.astype(np.float64), rng=np.random.default_rng(0), order=2)


def test_names_of_parameters_and_state():
    assert list(Dense(W).parameters()) == list(Dense(W, MASK).parameters()) == [""]
    assert list(Dense(W).state()) == [""] and list(Dense(W, MASK).state()) == ["value", "mask"]


def test_a_mask_of_another_shape_is_refused():
    for make in (lambda: Dense(W, MASK[:3]), lambda: Dense(W).masked(MASK[:3])):
        with pytest.raises(ValueError, match=r"mask must have shape \(6, 5\), got \(3, 5\)"):
            make()


@pytest.mark.parametrize(
    "make, change, message",
    [
        (lambda: Dense(W), {"": W[:2]}, r"shape must be \(6, 5\), got \(2, 5\)"),
        (lambda: Dense(W, MASK), {"mask": MASK[0]}, r"shape must be \(6, 5\), got \(5,\)"),
    ],
)
def test_a_state_that_does_not_fit_leaves_the_form_as_it_was(make, change, message):
    form = make()
    before = bits(form)
    state = {k: a + (a.dtype != bool) for k, a in form.state().items()} | change
    with pytest.raises(ValueError, match=message):
        form.load_state(state)
    assert bits(form) == before


@pytest.mark.parametrize(
    "kind, shape, parts, message",
    [
        (Dense, (3, 3), {"value": W}, r"value must have 9 entries for shape \(3, 3\), got 30"),
        (Dense, (6, 5), {}, "value is missing"),
        (Dense, (6, 5), {"value": np.where(MASK, np.nan, W)}, "value must be finite"),
        (Dense, (6, 5), {"value": np.where(MASK, np.inf, W)}, "value must be finite"),
        (Half, (6, 5), {"value": np.where(MASK, np.inf, W).astype(np.float16)}, "must be finite"),
        (Dense, (6, 5), {"value": W[MASK], "mask": MASK}, "value must have 30 entries"),
        (Dense, (6, 5), {"value": W, "mask": MASK[:3]}, "mask must have 30 entries"),
    ],
)
def test_from_stored_refuses_what_does_not_fit(kind, shape, parts, message):
    with pytest.raises(FormatError, match=message):
        kind.from_stored(shape, {}, parts)


def test_a_copy_keeps_the_float32_behind_a_half_and_freezing_rounds_it():
    form = Half(W, MASK)
    form.value.data[MASK] += np.float32(1e-6)
    behind = form.value.data.copy()
    assert (behind[MASK] != form.dense().data[MASK]).all()
    for other in (form.copy(), form.thaw(), form.masked(MASK), form.gather((np.arange(6),))):
        np.testing.assert_array_equal(other.value.data, behind)
    frozen = form.freeze()
    assert bits(frozen) == bits(form)
    np.testing.assert_array_equal(frozen.value.data, form.dense().data)
    np.testing.assert_array_equal(Half(W).moved(W + 1).value.data, Half(W + 1).value.data)


# ------------------------------------------------------------------------------ any array, any mask

FLOATS = st.floats(-1e4, 1e4, width=32)
SHAPES = array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=5)


@given(arrays(np.float32, SHAPES, elements=FLOATS), st.data())
def test_any_masked_array_survives_storage_and_state(w, data):
    mask = data.draw(arrays(bool, w.shape))
    for form in (Dense(w, mask), Half(w, mask)):
        assert bits(rebuilt(form)) == bits(form) == bits(form.freeze().thaw())
        assert not form.stored()["value"][~mask].any()
        other = type(form)(np.zeros_like(w), np.ones_like(mask))
        other.load_state(form.state())
        assert bits(other) == bits(form)
        np.testing.assert_array_equal(other.mask, mask)
        np.testing.assert_array_equal(
            grad(other.dense().sum(), other.value).data, mask.astype(np.float32)
        )


@pytest.mark.parametrize("value", [[1, 2], np.array([1, 2]), np.array([1, 2], np.float16), [True]])
def test_numbers_of_other_types_become_float32(value):
    form = Dense(value)
    assert form.value.dtype == np.float32 and form.value.requires_grad
    np.testing.assert_array_equal(form.dense().data, np.float32(value), strict=True)


def test_float64_stays_for_gradient_checks():
    value = np.array([1 / 3, 0.1])
    assert Dense(value).dense().dtype == Dense(value).copy().thaw().dense().dtype == np.float64
    np.testing.assert_array_equal(Dense(value).dense().data, value)
    # a file holds float32
    np.testing.assert_array_equal(Dense(value).stored()["value"], np.float32(value), strict=True)


@pytest.mark.parametrize("value", ["a", ["x"], [None], [1j]])
def test_what_is_no_number_is_refused(value):
    with pytest.raises(ValueError, match="value must hold numbers"):
        Dense(value)
