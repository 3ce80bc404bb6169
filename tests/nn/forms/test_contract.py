# One contract for every form of FORMS, and for a form that is defined here alone: integers of 4
# bits with a scale per channel, a float latent behind them while they train, an optional mask, an
# optional offset. Nothing outside this file knows it.
import copy
import math
import random
import zlib

import numpy as np
import pytest

import minicomp
from minicomp.codec import decode, encode
from minicomp.codec.positions import LAYOUTS
from minicomp.compress.channels import removal
from minicomp.errors import FormatError, UserError
from minicomp.nn import (AdditivePowers, Affine, BFloat16, Binary, Circulant, Codebook, Conv2d,
                         Dense, Dictionary, FixedPoint, Flatten, Half, Hashed, Linear, Model,
                         Powers, Product, Seeded, Segments, Ternary, Trellis, Wavelet, chain)
from minicomp.nn.forms import FORMS, MASK, Form, Part
from minicomp.ops import mul
from minicomp.optim import OPTIMIZERS
from minicomp.tensor import grad, primitive, raw, rules


@primitive
def rounded(x, lo, hi):
    return np.clip(np.rint(x), lo, hi) + 0.0  # never -0, which integers have not


rules(rounded, lambda g, y, x, lo, hi: g, None, None)  # straight through


class Toy(Form):
    kind, wire = "toy", 99
    parts = {
        "latent": Part("latent", moves=True, optional=True),
        "q": Part("code", optional=True),
        "scale": Part("scale", moves=True, axes=(0,)),
        "offset": Part("table", optional=True, axes=(0,)),
        "mask": MASK,
    }

    def __init__(self, w, scale, mask=None, offset=None, trainable=True):
        self.shape = np.shape(w)
        parts = {"latent": np.asarray(w, np.float32), "scale": np.asarray(scale, np.float32)}
        parts |= {"offset": offset, "mask": mask}
        self._hold(parts, True)
        if not trainable:
            vars(self).update(vars(self.freeze()))

    def codes(self, name):
        return range(-7, 8)

    def _broadcast(self, a):
        return raw(a).reshape(-1, *[1] * (len(self.shape) - 1))

    def decode(self, *, training=False, rng=None):
        scale = self.scale.reshape(-1, *[1] * (len(self.shape) - 1))
        if self.latent is None:
            w = mul(self.q.astype(np.float32), scale)
        else:
            w = mul(rounded(self.latent / raw(scale), -7, 7), scale)
        return w if self.offset is None else w + self._broadcast(self.offset)

    def frozen_parts(self):
        if self.latent is None:
            return {}
        q = rounded(self.latent.data / self._broadcast(self.scale), -7, 7)
        return {"q": q.astype(int), "latent": None}

    def thawed_parts(self):
        return {"q": None, "latent": self.q * self._broadcast(self.scale)}


RNG = np.random.default_rng(11)
SHAPE = (6, 4, 3, 3)
W = RNG.standard_normal(SHAPE).astype(np.float32)
FAR = W + 0.5 * np.sign(W)  # nothing of it rounds to 0
MASK_ = RNG.random(SHAPE) < 0.4
SCALE = np.linspace(0.1, 0.3, 6).astype(np.float32)
INDEX = RNG.integers(0, 9, SHAPE)
RNG_C = np.append(FAR.reshape(-1), np.ones(8, np.float32))
RUNS = np.append(1 + np.arange(31) % 12, [216 - (1 + np.arange(31) % 12).sum()])
LEVELS = np.linspace(-2, 1.9, 32).astype(np.float32)
BASES = np.stack([W, W + 0.5, RNG.standard_normal(SHAPE)])
ATOMS = RNG.standard_normal((7, 4)).astype(np.float32)
SPARSE = RNG.standard_normal((54, 7)) * (RNG.random((54, 7)) < 0.3)
PRODUCT = RNG.integers(0, 5, (2, 6, 8))  # two stages, blocks of 5 columns, the last one too long
BOOKS = RNG.standard_normal((2, 8, 5, 5)).astype(np.float32)
TABLE = np.linspace(-2, 2, 9).astype(np.float32)

MAKERS = {
    "dense": lambda: Dense(W),
    "dense-masked": lambda: Dense(W, MASK_),
    "half": lambda: Half(W),
    "half-masked": lambda: Half(W, MASK_),
    "codebook": lambda: Codebook(INDEX, TABLE),
    "codebook-pinned": lambda: Codebook(np.where(MASK_, INDEX, 0), Half(TABLE), pinned_zero=True),
    "codebook-apot": lambda: Codebook(INDEX % 7, AdditivePowers(0.8, 3)),
    "codebook-apot-pinned": lambda: Codebook(
        np.where(MASK_, INDEX, 0), AdditivePowers(0.8, 4), pinned_zero=True),
    "bfloat16": lambda: BFloat16(W),
    "bfloat16-masked": lambda: BFloat16(W, MASK_),
    "affine": lambda: Affine.of(FAR, 0.02, trainable=True),
    "affine-rows": lambda: Affine.of(FAR, SCALE / 10, trainable=True),
    "affine-masked": lambda: Affine.of(FAR, SCALE / 10, mask=MASK_, trainable=True),
    "affine-zero": lambda: Affine.of(FAR, [0.03], [70], grid="unsigned", trainable=True),
    "affine-zeros": lambda: Affine.of(W, SCALE / 10, [100, 4, 5, 6, 7, 120], grid="unsigned",
                                      mask=MASK_, trainable=True),
    "affine-midrise": lambda: Affine.of(W, SCALE / 10, grid="midrise", mask=MASK_,
                                        trainable=True),
    "affine-groups": lambda: Affine.of(FAR, np.linspace(0.1, 0.3, 18).reshape(6, 3) / 5,
                                       group=16, trainable=True),
    "affine-lsq": lambda: Affine.of(FAR, SCALE / 5, grid="full", trainable=True).learning("lsq"),
    "fixed": lambda: FixedPoint.of(FAR, 3, 5, trainable=True),
    "fixed-masked": lambda: FixedPoint.of(FAR, 3, 5, mask=MASK_, trainable=True),
    "wavelet": lambda: Wavelet(W.reshape(-1), SHAPE, "db2", 3),
    "wavelet-affine": lambda: Wavelet(
        Affine.of(RNG_C, 0.05, trainable=True), SHAPE, "haar", 4),
    "segments": lambda: Segments(RUNS, LEVELS, SHAPE),
    "segments-half": lambda: Segments(RUNS, Half(LEVELS), SHAPE),
    "circulant": lambda: Circulant(np.resize(LEVELS, 44), SHAPE, 11, 5),
    "circulant-affine": lambda: Circulant(
        Affine.of(np.resize(LEVELS, 72), 0.02, trainable=True), SHAPE, 3),
    "dictionary": lambda: Dictionary.of(ATOMS, SPARSE, SHAPE),
    "dictionary-half": lambda: Dictionary.of(Half(ATOMS), SPARSE, SHAPE),
    "hashed": lambda: Hashed(LEVELS, SHAPE, 3),
    "hashed-affine": lambda: Hashed(Affine.of(LEVELS, 0.02, trainable=True), SHAPE, 2**32 - 1),
    "product": lambda: Product(PRODUCT, BOOKS, SHAPE),
    "product-half-shared": lambda: Product(PRODUCT, Half(BOOKS[:, :1]), SHAPE),
    "binary": lambda: Binary.of(W, SCALE, trainable=True),
    "binary-masked": lambda: Binary.of(W, SCALE, mask=MASK_, trainable=True),
    "binary-bases": lambda: Binary(BASES, np.linspace(-0.3, 0.6, 18).reshape(6, 3),
                                   trainable=True),
    "ternary": lambda: Ternary(np.sign(FAR).astype(int), SCALE, 2 * SCALE, trainable=True),
    "ternary-masked": lambda: Ternary(np.sign(FAR).astype(int), SCALE, mask=MASK_,
                                      trainable=True),
    "ternary-zeros": lambda: Ternary(INDEX % 3 - 1, SCALE, trainable=True),
    "toy": lambda: Toy(W, SCALE),
    "toy-masked": lambda: Toy(W, SCALE, MASK_),
    "toy-offset": lambda: Toy(W, SCALE, MASK_, offset=np.arange(6, dtype=np.float32)),
}


STILL = {  # of which nothing moves
    "codebook-powers": lambda: Codebook(np.where(MASK_, INDEX, 0), Powers(1, 4), pinned_zero=True),
    "codebook-powers-odd": lambda: Codebook(INDEX % 8, Powers(-1, 4, zero=False)),
    "seeded": lambda: Seeded(INDEX[:, 0, 0, 0], 0.1, SHAPE, seed=5, bits=4,
                              trainable=True),
    "trellis": lambda: Trellis(INDEX - 4, 0.1, bits=4, trainable=True),
    "trellis-four": lambda: Trellis(INDEX - 4, -0.2, bits=4, states=4, trainable=True),
}
ALL = MAKERS | STILL


def those(named):
    return pytest.mark.parametrize("make", [ALL[name] for name in named], ids=list(named))


EVERY, MOVING = those(ALL), those(MAKERS)
WHOLE = {name for name in ALL if name.startswith(  # nothing has a place
    ("wavelet", "segments", "hashed", "circulant", "dictionary", "product", "seeded"))}
PLACED = those([name for name in ALL if name not in WHOLE])
ROWS = {"affine-groups", "trellis", "trellis-four"}  # cut along axis 0 alone
CUTTABLE = those([name for name in ALL if name not in WHOLE | ROWS])  # along any axis
MASKABLE = those([name for name in ALL if name not in WHOLE | {
    "codebook", "codebook-apot", "codebook-powers-odd", "ternary-zeros", "trellis",
    "trellis-four"}])  # no mask, or more zeros
PARTED = those([name for name in MAKERS  # the mask is a part of its own, floats of a place train
                if "codebook" not in name and name not in WHOLE
                and not name.startswith(("binary", "ternary", "trellis"))])


@pytest.fixture(autouse=True)
def toy_is_a_form(monkeypatch):
    monkeypatch.setitem(FORMS, "toy", Toy)


def test_every_form_is_tried():
    forms = [make() for make in ALL.values()]
    forms += [form.centroids for form in forms if form.kind == "codebook"]
    assert {form.kind for form in forms} == set(FORMS)


def bits(form):
    return form.dense().data.tobytes()


def net(form=None):
    # conv (6, 4, 3, 3) -> flatten -> fc
    nodes = chain(("conv", Conv2d(4, 6, 3)), ("flatten", Flatten()), ("fc", Linear(24, 5)))
    model = Model(nodes, input_shape=(4, 4, 4))
    w = np.random.default_rng(3).standard_normal((5, 24)).astype(np.float32)
    model.set_form("fc.weight", Dense(w))
    if form is not None:
        model.set_form("conv.weight", form)
    return model


# ----------------------------------------------------------------------------------------- training


@EVERY
def test_dense_is_float32_and_bit_equal_across_freeze_and_thaw(make):
    form = make()
    frozen = form.freeze()
    others = frozen, frozen.thaw(), frozen.thaw().freeze(), form.copy(), frozen.copy(), form.thaw()
    for other in (form, *others):
        assert bits(other) == bits(form) and other.dense().dtype == np.float32
        assert type(other) is type(form) and other.shape == form.shape == SHAPE
    assert form.trainable and not frozen.trainable and frozen.thaw().trainable
    assert frozen.parameters() == {} and not frozen.dense().requires_grad
    assert list(frozen.thaw().parameters()) == list(form.parameters())


@MOVING
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_parameter_gets_a_gradient_and_any_optimizer_leaves_pruned_entries_0(make, name):
    form = make()
    before, mask = form.dense().data.copy(), form.mask
    optimizer = OPTIMIZERS[name](form.parameters(), lr=0.05, weight_decay=0.1)
    for _ in range(5):
        w = form.dense(training=True, rng=np.random.default_rng(0))
        found = grad((w * w + w).sum() * 0.02, list(form.parameters().values()))
        grads = {n: g.data for n, g in zip(form.parameters(), found)}
        assert all(np.isfinite(g).all() and g.any() for g in grads.values())
        optimizer.step(grads)
        form.project()
        if mask is not None:
            assert not form.dense().data[~mask].any()
    assert (form.dense().data != before).any()
    assert bits(form.freeze()) == bits(form) == bits(form.copy())


@MOVING
def test_a_net_that_holds_it_trains(make):
    model = net(make())
    x = RNG.standard_normal((8, 4, 4, 4)).astype(np.float32)
    optimizer = OPTIMIZERS["sgd"](model.parameters(), lr=0.002)
    losses = []
    for _ in range(12):
        error = model(x, training=True) - 1.0
        loss = (error * error).mean()
        losses.append(loss.item())
        found = grad(loss, list(model.parameters().values()))
        optimizer.step({n: g.data for n, g in zip(model.parameters(), found)})
        model.project()
    assert losses[-1] < 0.9 * losses[0]


@EVERY
def test_a_copy_is_exact_and_shares_no_memory(make):
    form = make()
    for t in form.parameters().values():  # what only the floats behind the codes show
        t.data[...] += np.float32(1e-6)
    form.project()
    state = {path: a.copy() for path, a in form.state().items()}
    others = [form.copy(), form.freeze(), form.thaw()]
    others += [form.gather((np.arange(6),))] if form.carrier else []
    for path, a in others[0].state().items():
        np.testing.assert_array_equal(a, state[path], strict=True)
    for other in others:
        for a in other.state().values():
            a[...] = 0
            assert not any(np.shares_memory(a, mine) for mine in form.state().values())
    for path, a in form.state().items():
        np.testing.assert_array_equal(a, state[path])


@MOVING
def test_state_comes_back_in_place(make):
    form, other = make(), make()
    for t in other.parameters().values():
        t.data[...] = t.data[::-1] + 0.1
    other.project()
    tensors = list(form.parameters().values())
    assert bits(form) != bits(other)
    form.load_state({path: a.copy() for path, a in other.state().items()})
    assert bits(form) == bits(other)
    assert all(a is b for a, b in zip(tensors, form.parameters().values()))
    path, a = next(iter(form.state().items()))
    with pytest.raises(ValueError, match="shape must be"):
        form.load_state({path: a[:1]})


# ------------------------------------------------------------------------------------------ masking


@MASKABLE
def test_masked_keeps_what_both_keep_and_the_rest_as_it_was(make):
    form, keep = make(), RNG.random(SHAPE) < 0.5
    for less in (form.masked(keep), form.freeze().masked(keep)):
        want = keep if form.mask is None else keep & form.mask
        np.testing.assert_array_equal(less.mask, want)
        w = less.dense().data
        np.testing.assert_array_equal(w, np.where(want, form.dense().data, 0))
        assert not np.signbit(w[~want]).any() and less.nonzeros() == np.count_nonzero(w)
    assert bits(make()) == bits(form) and less.freeze().trainable is False
    with pytest.raises(ValueError, match="mask must have shape"):
        form.masked(keep[:2])


@MASKABLE
def test_remask_prunes_in_place(make):
    form, keep = make(), RNG.random(SHAPE) < 0.5
    keep = keep if form.mask is None else keep & form.mask
    tensors, want = list(form.parameters().values()), bits(form.masked(keep))
    form.remask(keep)
    assert bits(form) == want
    assert all(a is b for a, b in zip(tensors, form.parameters().values()))
    keep[...] = False
    assert bits(form) == want


@PARTED
def test_a_mask_behind_hides_and_goes_on_training(make):
    form, keep = make(), RNG.random(SHAPE) < 0.5
    hidden = form.masked(keep, behind=True)
    keep = hidden.mask
    w = hidden.dense()
    np.testing.assert_array_equal(w.data, np.where(keep, form.dense().data, 0))
    assert not np.signbit(w.data[~keep]).any() and hidden.behind and not form.behind
    name, t = next(iter(hidden.parameters().items()))  # of the weight's shape
    g = grad((w * 3.0).sum(), t)
    bare = copy.copy(form)
    bare.mask = None
    whole = grad((bare.dense() * 3.0).sum(), bare.parameters()[name])
    np.testing.assert_array_equal(g.data, whole.data)  # 0 where a grid ends alone
    assert (g.data[~keep] != 0).mean() > 0.7
    t.data -= g.data
    before = t.data.copy()
    hidden.project()
    np.testing.assert_array_equal(t.data, before)
    for other in (hidden.copy(), hidden.gather((np.arange(6),)), hidden.thaw()):
        assert other.behind and np.array_equal(other.parameters()[name].data, before)
    everything = hidden.copy()
    everything.remask(np.ones(SHAPE, bool))  # spliced back: it went on training
    assert (everything.dense().data[~keep] != form.dense().data[~keep]).any()
    dropped = hidden.freeze()
    assert bits(dropped) == bits(hidden) and not dropped.behind
    for a in (f.dense().data for f in (dropped, dropped.thaw(), hidden.masked(keep))):
        np.testing.assert_array_equal(a, hidden.dense().data)
    plain = dropped.thaw()
    plain.remask(np.ones(SHAPE, bool))
    assert bits(plain) == bits(plain.freeze())


@PARTED
def test_nan_and_infinity_behind_a_mask_decode_to_0(make):
    form = make().masked(MASK_)
    t = next(iter(form.parameters().values()))
    t.data[~MASK_] = np.where(np.arange((~MASK_).sum()) % 2, np.inf, np.nan)
    with np.errstate(invalid="ignore"):
        w = form.dense().data
    assert not w[~MASK_].any() and not np.signbit(w[~MASK_]).any() and np.isfinite(w).all()


def test_a_form_that_carries_no_mask_says_so():
    for name in {"codebook"} | WHOLE:
        form = ALL[name]()
        with pytest.raises(ValueError, match=f"a {form.kind} without a pinned zero cannot be prun"):
            form.masked(MASK_)
        if name in WHOLE:
            with pytest.raises(ValueError, match=f"a {form.kind} stores nothing by place"):
                form.select(0, ROWS)


@EVERY
def test_moved_holds_other_values_where_movable(make):
    form = make()
    if not form.movable:
        with pytest.raises(ValueError, match=f"weights of a {form.kind} cannot move"):
            form.moved(W)
        return
    other = form.moved(W + 1)
    assert type(other) is type(form) and other.trainable and not form.freeze().moved(W).trainable
    want = type(form)(W + 1, form.mask).dense().data
    np.testing.assert_array_equal(other.dense().data, want)
    with pytest.raises(ValueError, match="value must have shape"):
        form.moved(W[:2])


# ---------------------------------------------------------------------------------------- selection

ROWS = np.array([4, 0, 2])
INDICES = {
    "rows": (ROWS,),
    "columns": (slice(None), np.array([3, 1])),
    "rows and columns": (ROWS[:, None], np.array([[2, 0]])),
    "columns by row": (ROWS[:, None], np.array([[2, 0], [1, 3], [0, 1]])),
    "a slice": (slice(1, 5), slice(None, None, 2)),
}


@CUTTABLE
@pytest.mark.parametrize("index", INDICES.values(), ids=INDICES)
def test_gather_is_numpys_indexing(make, index):
    for form in (make(), make().freeze()):
        part = form.gather(index)
        np.testing.assert_array_equal(part.dense().data, form.dense().data[index], strict=True)
        assert type(part) is type(form) and part.trainable == form.trainable
        if form.mask is not None:
            np.testing.assert_array_equal(part.mask, form.mask[index])
        assert bits(part.freeze()) == bits(part)


@CUTTABLE
def test_select_is_take_along_an_axis(make):
    form = make()
    for axis in range(4):
        keep = np.array([2, 0])
        want = np.take(form.dense().data, keep, axis)
        np.testing.assert_array_equal(form.select(axis, keep).dense().data, want, strict=True)
    with pytest.raises(ValueError, match=r"keep must hold integers in \[0, 5\]"):
        form.select(0, np.array([6]))
    for keep in (np.array([[0, 1]]), [[0], [1]], np.array(0), 1, [True, False], [0.0], [],
                 np.zeros(0, int)):
        with pytest.raises(ValueError, match="keep must be integers on one axis"):
            form.select(0, keep)
    with pytest.raises(ValueError, match="axis must be in"):
        form.select(4, np.array([0]))
    with pytest.raises(ValueError, match="index does not fit"):
        form.gather((np.array([6]),))


def test_a_shared_scale_refuses_what_would_tear_it():
    groups = MAKERS["affine-groups"]()
    for index in ((slice(None), np.array([3, 1])), (slice(None), slice(None, None, -1))):
        with pytest.raises(ValueError, match="an affine cannot be cut so: scales are shared along"):
            groups.gather(index)
    w = groups.dense().data
    np.testing.assert_array_equal(groups.select(0, [5, 1]).dense().data, w[[5, 1]])
    form = Toy(W, SCALE)
    with pytest.raises(ValueError, match="a toy cannot be cut so along axis 0: its scale"):
        form.gather((np.array([[1, 2]]), np.array([[0], [1]])))  # axis 0 varies along the columns
    one = Toy(W, [0.2])  # one scale for all: any cut
    assert one.gather((ROWS,)).scale.shape == (1,)
    blocks = Toy.__new__(Toy)  # a scale for every two rows
    vars(blocks).update(vars(form))
    blocks.scale = type(form.scale)(np.ones(3, np.float32))
    with pytest.raises(ValueError, match="along axis 0: its scale is shared"):
        blocks.gather((ROWS,))
    assert blocks.gather((slice(None), np.array([1]))).scale.shape == (3,)


@PLACED
def test_channels_are_removed_from_a_net_that_holds_it_and_its_optimizer_follows(make):
    model = net(make())
    w, keep = model.forms()["conv.weight"].dense().data, [5, 1, 2]
    chosen = removal.removal(model, {"conv": keep})
    smaller = chosen.apply(model)
    np.testing.assert_array_equal(smaller.forms()["conv.weight"].dense().data, w[[1, 2, 5]])
    optimizer = OPTIMIZERS["adam"](model.parameters(), lr=0.01)
    optimizer.step({n: RNG.standard_normal(t.shape).astype(np.float32)
                    for n, t in model.parameters().items()})
    follower = optimizer.select(chosen, smaller.parameters())
    for name, t in smaller.parameters().items():
        want = optimizer.state["m"][name]
        if name == "fc.weight":
            want = want[:, np.repeat(np.isin(np.arange(6), keep), 4)]
        elif name.startswith("conv") and "centroids" not in name:
            want = want[[1, 2, 5]]
        np.testing.assert_array_equal(follower.state["m"][name], want)
        assert follower.state["m"][name].shape == t.shape


class Placeless(Form):
    kind, wire = "placeless", 98
    parts = {"buckets": Part("value", moves=True, axes=())}

    def __init__(self, shape):
        self.shape = shape
        self._hold({"buckets": np.arange(4, dtype=np.float32)}, True)

    def stored_shape(self, name):
        return (4,)

    def decode(self, *, training=False, rng=None):
        return self.buckets.reshape(-1)[np.arange(math.prod(self.shape)) % 4].reshape(*self.shape)


def test_a_form_without_places_is_saved_and_refuses_cuts_and_masks_by_name(monkeypatch):
    monkeypatch.setitem(FORMS, "placeless", Placeless)
    form = Placeless(SHAPE)
    with pytest.raises(ValueError, match="a placeless stores nothing by place"):
        form.select(0, ROWS)
    with pytest.raises(ValueError, match="a placeless without a pinned zero cannot be pruned"):
        form.masked(MASK_)
    with pytest.raises(UserError, match="conv.weight: a placeless stores nothing by place"):
        removal.removed(net(form), {"conv": ROWS})
    model = net(form)
    back = decode(encode(model)).model.forms()["conv.weight"]
    assert bits(back) == bits(form) and type(back) is Placeless


# ------------------------------------------------------------------------------------------- saving


def assert_equal_forms(a, b):
    a = a.freeze()  # which drops from a mask what rounds to 0
    assert type(a) is type(b) and bits(a) == bits(b) and not b.trainable
    assert (a.mask is None) == (b.mask is None)
    if a.mask is not None:
        np.testing.assert_array_equal(a.mask, b.mask)
    for name, held in a.stored().items():
        other = b.stored()[name]
        if isinstance(held, Form):
            assert_equal_forms(held, other)
        elif a.mask is not None and name == a.carrier:
            np.testing.assert_array_equal(held[a.mask], other[a.mask], strict=True)
        else:
            np.testing.assert_array_equal(held, other, strict=True)


@EVERY
def test_saving_and_loading_is_bit_equal(make, tmp_path):
    first = model = net(make())
    for _ in range(2):
        size = minicomp.save(model, tmp_path / "m.mcz")
        loaded = minicomp.load(tmp_path / "m.mcz")
        assert_equal_forms(model.forms()["conv.weight"], loaded.forms()["conv.weight"])
        shown = minicomp.show(tmp_path / "m.mcz")
        assert sum(shown.parts().values()) == size
        assert shown.rows[0].form == model.forms()["conv.weight"].kind
        model = loaded  # the second time what is saved was loaded
    assert encode(loaded) == (tmp_path / "m.mcz").read_bytes()
    x = RNG.standard_normal((2, 4, 4, 4)).astype(np.float32)
    np.testing.assert_array_equal(loaded(x).data, first(x).data)


@MASKABLE
@pytest.mark.parametrize("layout", [layout for layout in LAYOUTS if layout != "all"])
@pytest.mark.parametrize("kept", [0.0, 0.05, 0.5, 1.0])
def test_it_lies_in_every_layout(make, layout, kept):
    keep = RNG.random(SHAPE) < kept
    if kept:
        keep.flat[0] = True
    model = net(make().masked(keep))
    data = encode(model, force={"conv.weight": layout})
    shown = decode(data)
    assert shown.rows[0].how.startswith(layout)
    assert_equal_forms(model.forms()["conv.weight"], shown.model.forms()["conv.weight"])
    assert len(encode(model)) <= len(data)


def test_codes_of_a_masked_form_cost_what_those_of_a_codebook_cost():
    # 15 codes of which a tenth is kept: the same layouts and coders serve both. What is mixed knows
    # signs, which a codebook has in its table.
    keep = RNG.random(SHAPE) < 0.1
    toy = Toy(W, SCALE, keep)
    index = np.where(keep, toy.freeze().q.astype(int) + 8, 0)
    book = Codebook(index, np.arange(16, dtype=np.float32), pinned_zero=True)
    for layout in set(LAYOUTS) - {"all", "mixed"}:
        a, b = (decode(encode(net(form), force=layout)).rows[0] for form in (toy, book))
        assert a.how == b.how.split(", k")[0]
        assert a.parts["values"] + a.parts["index"] == b.parts["values"] + b.parts["index"]


@EVERY
def test_numbers_that_are_none_are_not_written(make):
    for bad in (np.nan, np.inf):
        form = make().freeze()
        leaves = [held for _, part, held in form._leaves() if part.moves]
        if not leaves:  # codes alone
            assert form.kind in ("fixed", "trellis", "seeded") or form.centroids.kind == "powers"
            return
        t = raw(leaves[0])
        if form.kind in ("half", "bfloat16") or any(".value" in path for path in form.state()):
            bad = np.nan  # a float of 16 bits saturates
        t[...] = bad
        with pytest.raises(UserError, match="conv.weight: .* must be finite"):
            encode(net(form))


def test_a_file_with_what_a_form_may_not_hold_is_refused():
    form = Toy(W, SCALE).freeze()
    form.scale.data[2] = 0
    with pytest.raises(FormatError, match="conv.weight: scale must not be 0"):
        decode(encode(net(form)))
    data = encode(net(Toy(W, SCALE)))
    del FORMS["toy"]  # as a build that does not know it
    with pytest.raises(FormatError, match="conv.weight: no form 99"):
        decode(data)


def rechecked(data):
    return data[:-4] + zlib.crc32(data[:-4]).to_bytes(4, "little")


def small(make):
    # A net around a cut of the form, (3, 2, 3, 3) where it can be, in a file of 100 to 400 bytes.
    form = make()
    if not form.carrier:
        return net(form)
    form = form.gather((slice(0, 3),))
    if not (form.kind == "trellis" or getattr(form, "group", 0)):
        form = form.gather((slice(None), slice(0, 2)))
    C = form.shape[1]
    nodes = chain(("conv", Conv2d(C, 3, 3)), ("flatten", Flatten()), ("fc", Linear(3, 2)))
    model = Model(nodes, input_shape=(C, 3, 3))
    model.set_form("conv.weight", form)
    return model


def damage(model, changes, rng):
    # Every byte changed in turn (of a large file every second or third), the checksum made right
    # again; returns how many files decoded.
    data, decoded = encode(model), 0
    for at in range(4, len(data) - 4, 1 + len(data) // 500):
        for change in rng.sample(range(1, 256), changes):
            damaged = bytearray(data)
            damaged[at] ^= change
            try:
                other = decode(rechecked(bytes(damaged)), 2**20).model
            except FormatError as e:
                assert str(e) and len(str(e)) < 400
                continue
            decoded += 1
            if other.spec() == model.spec():
                for name, form in other.forms().items():
                    assert form.shape == form.dense().shape == model.forms()[name].shape
            assert all(np.isfinite(f.dense().data).all() for f in other.forms().values())
    return decoded


@EVERY
def test_any_damage_is_a_format_error_or_a_model_of_the_same_shapes(make):
    model, rng = small(make), random.Random(1)
    data = encode(model)
    for at in range(len(data)):  # the checksum notices any change
        damaged = bytearray(data)
        damaged[at] ^= rng.randrange(1, 256)
        with pytest.raises(FormatError):
            decode(bytes(damaged), 2**20)
    assert damage(model, 3, rng)  # some only change numbers


@pytest.mark.slow
@EVERY
def test_much_damage_to_a_byte_is_a_format_error_or_a_model_of_the_same_shapes(make):
    assert damage(small(make), 24, random.Random(2))
