import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from minicomp.errors import FormatError
from minicomp.gradcheck import grad_check
from minicomp.nn.forms import FORMS, Codebook, Dense, Form, Half, Stored
from minicomp.optim import OPTIMIZERS
from minicomp.tensor import grad

RNG = np.random.default_rng(7)
W = RNG.standard_normal((6, 5)).astype(np.float32)
MASK = RNG.random((6, 5)) < 0.4
INDEX = RNG.integers(0, 5, (6, 5))
CENTROIDS = np.array([0.0, -1.5, 0.25, 2.0, 3.5], np.float32)

MAKERS = {
    "dense": lambda: Dense(W),
    "dense-masked": lambda: Dense(W, MASK),
    "half": lambda: Half(W),
    "half-masked": lambda: Half(W, MASK),
    "codebook": lambda: Codebook(INDEX, CENTROIDS),
    "codebook-pinned": lambda: Codebook(INDEX, CENTROIDS, pinned_zero=True),
    "codebook-half": lambda: Codebook(INDEX, Half(CENTROIDS + 0.1), pinned_zero=True),
    "codebook-1": lambda: Codebook(np.zeros((2, 3), int), np.array([0.5])),
    "vector": lambda: Dense(W[0]),
}
EVERY = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


def bits(form: Form) -> bytes:
    return form.dense().data.tobytes()


def rebuilt(form: Form) -> Form:
    # What a file does: header through JSON, arrays by name.
    meta = json.loads(json.dumps(form.meta()))
    stored = {name: part.array.copy() for name, part in form.stored().items()}
    return FORMS[form.kind].from_stored(form.shape, meta, stored)


# ---------------------------------------------------------------------- the contract, of every form


@EVERY
def test_dense_is_float32_of_the_shape_and_zero_where_masked(make):
    form = make()
    w = form.dense().data
    assert w.dtype == np.float32 and w.shape == form.shape
    if form.mask is not None:
        assert form.mask.dtype == bool and form.mask.shape == form.shape
        assert not w[~form.mask].any()
    assert form.nonzeros() == np.count_nonzero(w)


@EVERY
def test_dense_is_bit_equal_across_freeze_and_thaw(make):
    form = make()
    frozen = form.freeze()
    assert bits(frozen) == bits(form) == bits(frozen.thaw()) == bits(frozen.thaw().freeze())
    assert type(frozen) is type(form) and not frozen.trainable and frozen.thaw().trainable
    assert frozen.parameters() == {} and not frozen.dense().requires_grad
    assert form.parameters() and all(t.requires_grad for t in form.parameters().values())
    assert form.dense().requires_grad
    assert list(frozen.thaw().parameters()) == list(form.parameters())


@EVERY
def test_a_copy_shares_no_memory(make):
    form = make()
    for other in (form.copy(), form.freeze(), form.thaw()):
        before = bits(form)
        for a in other.state().values():
            a[...] = 0
        assert bits(form) == before
        for mine in form.state().values():
            assert not any(np.shares_memory(mine, a) for a in other.state().values())


@EVERY
def test_a_form_does_not_write_into_the_arrays_it_was_made_of(make):
    before = [a.copy() for a in (W, MASK, INDEX, CENTROIDS)]
    form = make()
    for a in form.state().values():
        a[...] = 0
    form.project()
    for a, b in zip((W, MASK, INDEX, CENTROIDS), before):
        np.testing.assert_array_equal(a, b)


@EVERY
def test_from_stored_of_stored_is_the_same_frozen_form(make):
    form = make()
    for part in form.stored().values():
        assert isinstance(part, Stored) and part.role in ("value", "code", "mask", "scale", "table")
        assert part.bits == int(part.bits) >= 0
    back = rebuilt(form)
    assert bits(back) == bits(form) and type(back) is type(form) and not back.trainable
    assert (back.mask is None) == (form.mask is None)
    if form.mask is not None:
        np.testing.assert_array_equal(back.mask, form.mask)
    assert bits(rebuilt(back.thaw())) == bits(form)
    assert rebuilt(form).meta() == form.meta()


@EVERY
def test_state_round_trip_in_place(make):
    form, other = make(), make()
    for t in other.parts().values():
        t.data[...] = t.data[::-1] + 1
    other.project()
    tensors = list(form.parameters().values())
    assert bits(other) != bits(form)
    form.load_state({k: a.copy() for k, a in other.state().items()})
    assert bits(form) == bits(other)
    # an optimizer holds these Tensors: they must stay the ones that dense() reads
    assert all(a is b for a, b in zip(tensors, form.parameters().values()))


@EVERY
def test_select_takes_along_the_axis(make):
    form = make()
    for axis in range(len(form.shape)):
        keep = np.array([1, 0]) if form.shape[axis] < 4 else np.array([3, 0, 2])
        part = form.select(axis, keep)
        want = np.take(form.dense().data, keep, axis)
        np.testing.assert_array_equal(part.dense().data, want, strict=True)
        assert type(part) is type(form) and part.trainable == form.trainable
        if form.mask is not None:
            np.testing.assert_array_equal(part.mask, np.take(form.mask, keep, axis))
        before = bits(form)
        for a in part.state().values():
            a[...] = 0
        assert bits(form) == before
    assert not form.freeze().select(0, np.array([0])).trainable


@EVERY
def test_select_forbids_masks_and_positions_outside_naming_them(make):
    form = make()
    with pytest.raises(ValueError, match=r"keep must .*\[0, "):
        form.select(0, np.array([0, form.shape[0]]))
    with pytest.raises(ValueError, match="keep must"):
        form.select(0, np.ones(form.shape[0], bool))
    with pytest.raises(ValueError, match="axis must"):
        form.select(len(form.shape), np.array([0]))


# ------------------------------------------------------------- masks and pins survive any optimizer


def hard_steps(form: Form, name: str):
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


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_pinned_zero_stays_0_after_every_step(name):
    form = Codebook(INDEX, CENTROIDS, pinned_zero=True)
    np.testing.assert_array_equal(form.mask, INDEX != 0)
    for w in hard_steps(form, name):
        assert not w[INDEX == 0].any() and form.centroids.value.data[0] == 0
    assert np.all(form.centroids.value.data[1:] != CENTROIDS[1:])


def test_a_centroid_that_is_not_pinned_moves():
    form = Codebook(INDEX, CENTROIDS)
    assert form.mask is None
    *_, w = hard_steps(form, "sgd")
    assert np.all(w[INDEX == 0] != 0)


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


# ----------------------------------------------------------------------------------- Codebook, Half


def test_the_gradient_of_a_centroid_is_the_sum_over_its_members():
    # PAPERS, figure 3 of Han et al. 2016: a 4 x 4 weight, 4 centroids, the sums of the figure, lr 1
    codes = np.array([[3, 0, 2, 1], [1, 1, 0, 3], [0, 3, 1, 0], [3, 1, 2, 2]])
    G = np.array(
        [
            [-0.03, -0.01, 0.03, 0.02],
            [-0.01, 0.01, -0.02, 0.12],
            [-0.01, 0.02, 0.04, 0.01],
            [-0.07, -0.02, 0.01, -0.02],
        ],
        np.float32,
    )
    form = Codebook(codes, np.array([-1.0, 0.0, 1.5, 2.0]))
    np.testing.assert_array_equal(form.dense().data[0], np.array([2.0, -1.0, 1.5, 0.0], np.float32))
    g = grad(form.dense(), form.centroids.value, cotangent=G)
    np.testing.assert_allclose(g.data, [-0.03, 0.04, 0.02, 0.04], atol=1e-8)
    np.testing.assert_allclose(
        form.centroids.value.data - g.data, [-0.97, -0.04, 1.48, 1.96], atol=1e-7
    )


@pytest.mark.parametrize("pinned", [False, True])
def test_derivatives_of_two_orders_through_masks_and_codes(pinned):
    # float64 forms, as Hessians of compressed nets use them
    def cube(w):
        return w * w * w

    def dense(value):
        form = Dense(value.data, MASK)
        form.value = value
        return cube(form.dense())

    def codebook(table):
        form = Codebook(INDEX, Dense(CENTROIDS.astype(np.float64)), pinned_zero=pinned)
        form.centroids.value = table
        return cube(form.dense())

    rng = np.random.default_rng(0)
    grad_check(dense, W.astype(np.float64), rng=rng, order=2)
    grad_check(codebook, CENTROIDS.astype(np.float64) + 0.5, rng=rng, order=2)


@pytest.mark.parametrize(
    "k, want, dtype",
    [
        (1, 0, np.uint8),
        (2, 1, np.uint8),
        (3, 2, np.uint8),
        (16, 4, np.uint8),
        (17, 5, np.uint8),
        (256, 8, np.uint8),
        (257, 9, np.uint16),
        (65536, 16, np.uint16),
        (65537, 17, np.uint32),
    ],
)
def test_bits_of_an_index_is_the_ceiling_of_log2_k(k, want, dtype):
    form = Codebook(np.array([0, k - 1]), np.arange(k, dtype=np.float32))
    assert form.bits == want and form.index.dtype == dtype
    assert form.stored()["index"].bits == want
    np.testing.assert_array_equal(form.dense().data, np.array([0, k - 1], np.float32))


def test_a_pinned_zero_is_not_stored():
    form = Codebook(INDEX, CENTROIDS, pinned_zero=True)
    np.testing.assert_array_equal(form.stored()["centroids"].array, CENTROIDS[1:])
    assert form.meta() == {"k": 5, "pinned_zero": True, "centroids": "dense"}
    half = Codebook(INDEX, Half(CENTROIDS), pinned_zero=True)
    assert half.stored()["centroids"].array.dtype == np.float16
    assert half.stored()["centroids"].bits == 16 and half.meta()["centroids"] == "half"


def test_parameter_names_of_a_codebook():
    assert list(Codebook(INDEX, CENTROIDS).parameters()) == ["centroids"]
    assert list(Dense(W).parameters()) == [""]
    assert list(Codebook(INDEX, CENTROIDS).state()) == ["index", "centroids.value"]
    assert list(Dense(W).state()) == [""] and list(Dense(W, MASK).state()) == ["value", "mask"]


def test_half_rounds_to_float16_and_saturates():
    x = np.array([1 / 3, 65504, 65519, 1e6, -1e6, 1e-8, 2.0**-24], np.float32)
    w = Half(x).dense().data
    with np.errstate(over="ignore"):
        want = np.clip(x, -65504, 65504).astype(np.float16)
    np.testing.assert_array_equal(w, want.astype(np.float32), strict=True)
    np.testing.assert_array_equal(Half(x).stored()["value"].array, want, strict=True)
    form = Half(x)
    g = grad(form.dense().sum(), form.value)
    np.testing.assert_array_equal(g.data, np.ones(7, np.float32))  # straight through


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Dense(W, MASK[:3]), r"mask must have shape \(6, 5\), got \(3, 5\)"),
        (lambda: Codebook(INDEX, CENTROIDS[:4]), r"index must be in \[0, 3\], got 0\.\.4"),
        (lambda: Codebook(-INDEX, CENTROIDS), r"index must be in \[0, 4\], got -4\.\.0"),
        (lambda: Codebook(INDEX + 0.5, CENTROIDS), r"index must hold integers, got float64"),
        (
            lambda: Codebook(INDEX, CENTROIDS[None]),
            r"centroids must have shape \(k,\), got \(1, 5\)",
        ),
        (lambda: Codebook(INDEX, Dense(CENTROIDS, CENTROIDS > 0)), "centroids must not be masked"),
    ],
)
def test_wrong_constructor_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "make, change, message",
    [
        (lambda: Dense(W), {"": W[:2]}, r"shape must be \(6, 5\), got \(2, 5\)"),
        (lambda: Dense(W, MASK), {"mask": MASK[0]}, r"shape must be \(6, 5\), got \(5,\)"),
        (
            lambda: Codebook(INDEX, CENTROIDS),
            {"index": INDEX + 3},
            r"index must be in \[0, 4\], got 3\.\.7",
        ),
        (
            lambda: Codebook(INDEX, CENTROIDS),
            {"index": -INDEX},
            r"index must be in \[0, 4\], got -4\.\.0",
        ),
        (
            lambda: Codebook(INDEX, CENTROIDS),
            {"index": INDEX * 0.5},
            "index must hold integers, got float64",
        ),
    ],
)
def test_a_state_that_does_not_fit_leaves_the_form_as_it_was(make, change, message):
    form = make()
    before = bits(form)
    state = {k: a + (a.dtype != bool) for k, a in form.state().items()} | change
    with pytest.raises(ValueError, match=message):
        form.load_state(state)
    assert bits(form) == before


META = {"k": 3, "pinned_zero": True, "centroids": "dense"}
CODES = {"index": np.array([[0, 1], [2, 1]], np.uint8), "centroids": np.array([1, 2], np.float32)}


@pytest.mark.parametrize(
    "kind, shape, meta, stored, message",
    [
        (Dense, (3, 3), {}, {"value": W}, r"value must have 9 entries for shape \(3, 3\), got 30"),
        (Dense, (6, 5), {}, {}, "value is missing"),
        (Dense, (6, 5), {}, {"value": np.where(MASK, np.nan, W)}, "finite"),
        (Dense, (6, 5), {}, {"value": np.where(MASK, np.inf, W)}, "finite"),
        (Half, (6, 5), {}, {"value": np.where(MASK, np.inf, W).astype(np.float16)}, "finite"),
        (Dense, (6, 5), {}, {"value": W[MASK][:-1], "mask": MASK}, "needs as many values"),
        (Dense, (6, 5), {}, {"value": W[MASK], "mask": MASK[:3]}, "mask must have 30 entries"),
        (
            Codebook,
            (2, 2),
            META | {"k": 4},
            CODES,
            "a codebook of k = 4 needs 3 stored centroids, got 2",
        ),
        (Codebook, (2, 2), META | {"pinned_zero": False}, CODES, "needs 3 stored centroids, got 2"),
        (
            Codebook,
            (2, 2),
            META | {"pinned_zero": 1},
            CODES,
            "pinned_zero must be true or false, got 1",
        ),
        (Codebook, (2, 2), META | {"k": True}, CODES, "k must be an integer"),
        (Codebook, (2, 2), META | {"k": "3"}, CODES, "k must be an integer"),
        (
            Codebook,
            (2, 2),
            META | {"k": 0, "pinned_zero": False},
            {"index": CODES["index"], "centroids": np.zeros(0)},
            "k must be an integer of at least 1, got 0",
        ),
        (
            Codebook,
            (2, 2),
            META | {"centroids": "codebook"},
            CODES,
            "form dense or half, got 'codebook'",
        ),
        (Codebook, (2, 2), META | {"centroids": ["dense"]}, CODES, "form dense or half"),
        (Codebook, (2, 2), {"k": 3, "centroids": "dense"}, CODES, "pinned_zero is missing"),
        (Codebook, (2, 2), META, {"index": CODES["index"]}, "centroids is missing"),
        (
            Codebook,
            (2, 2),
            META,
            CODES | {"index": CODES["index"] + 1},
            r"index must be in \[0, 2\], got 1\.\.3",
        ),
        (
            Codebook,
            (2, 2),
            META,
            CODES | {"index": -CODES["index"].astype(int)},
            r"index must be in \[0, 2\]",
        ),
        (Codebook, (2, 3), META, CODES, "index must have 6 entries"),
        (
            Codebook,
            (2, 2),
            META,
            CODES | {"centroids": np.array([1, np.nan])},
            "centroids must be finite",
        ),
    ],
)
def test_from_stored_refuses_what_does_not_fit(kind, shape, meta, stored, message):
    with pytest.raises(FormatError, match=message):
        kind.from_stored(shape, meta, stored)


def test_the_table_of_forms_names_each():
    assert FORMS == {"dense": Dense, "half": Half, "codebook": Codebook}


# ------------------------------------------------------------------------------ any array, any mask

FLOATS = st.floats(-1e4, 1e4, width=32)
SHAPES = array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=5)


@given(arrays(np.float32, SHAPES, elements=FLOATS), st.data())
def test_any_masked_array_survives_storage_and_state(w, data):
    mask = data.draw(arrays(bool, w.shape))
    for form in (Dense(w, mask), Half(w, mask)):
        assert bits(rebuilt(form)) == bits(form) == bits(form.freeze().thaw())
        assert form.stored()["value"].array.size == np.count_nonzero(mask)
        other = type(form)(np.zeros_like(w), np.ones_like(mask))
        other.load_state(form.state())
        assert bits(other) == bits(form)
        np.testing.assert_array_equal(other.mask, mask)
        np.testing.assert_array_equal(
            grad(other.dense().sum(), other.value).data, mask.astype(np.float32)
        )


@given(st.integers(1, 300), st.booleans(), SHAPES, st.integers(0, 2**32 - 1))
def test_any_codebook_survives_storage(k, pinned, shape, seed):
    rng = np.random.default_rng(seed)
    form = Codebook(rng.integers(0, k, shape), rng.standard_normal(k), pinned_zero=pinned)
    assert bits(rebuilt(form)) == bits(form) == bits(form.freeze().thaw())
    assert form.stored()["index"].array.max(initial=0) < 2**form.bits
