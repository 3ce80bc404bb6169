import numpy as np
import pytest

from minicomp.nn.forms import (
    FORMS, AdditivePowers, Affine, BFloat16, Binary, Codebook, Dense, FixedPoint, Form, Half,
    Hashed, Powers, Segments, Ternary, Wavelet)

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
    # What a file does: settings and parts by name, those of pruned entries left out.
    settings = {name: getattr(form, name) for name in form.settings}
    return FORMS[form.kind].from_stored(form.shape, settings, form.stored())


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
    for name, held in form.stored().items():
        part = form.parts[name]
        assert part.role in ("value", "code", "mask", "scale", "table")
        assert held.kind in part.nested if part.nested else isinstance(held, np.ndarray)
        assert held.shape == form.stored_shape(name)
    back = rebuilt(form)
    assert bits(back) == bits(form) and type(back) is type(form) and not back.trainable
    assert (back.mask is None) == (form.mask is None)
    if form.mask is not None:
        np.testing.assert_array_equal(back.mask, form.mask)
    assert bits(rebuilt(back.thaw())) == bits(form)
    assert all(getattr(back, name) == getattr(form, name) for name in form.settings)


@EVERY
def test_state_round_trip_in_place(make):
    form, other = make(), make()
    for t in other.parameters().values():
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


def test_the_table_of_forms_names_each():
    assert FORMS == {"dense": Dense, "half": Half, "codebook": Codebook, "affine": Affine,
                     "fixed": FixedPoint, "bfloat16": BFloat16, "powers": Powers,
                     "apot": AdditivePowers, "wavelet": Wavelet, "segments": Segments,
                     "binary": Binary, "ternary": Ternary, "hashed": Hashed}
    assert len({form.wire for form in FORMS.values()}) == len(FORMS)
    assert all(form.kind == kind for kind, form in FORMS.items())
