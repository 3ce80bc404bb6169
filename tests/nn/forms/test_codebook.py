import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes

from minicomp.errors import FormatError
from minicomp.gradcheck import grad_check
from minicomp.nn.forms import FORMS, Codebook, Dense, Form, Half
from minicomp.optim import OPTIMIZERS
from minicomp.tensor import grad

RNG = np.random.default_rng(7)
INDEX = RNG.integers(0, 5, (6, 5))
CENTROIDS = np.array([0.0, -1.5, 0.25, 2.0, 3.5], np.float32)
SHAPES = array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=5)


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
def test_derivatives_of_two_orders_through_codes(pinned):
    # float64 forms, as Hessians of compressed nets use them
    def cube(table):
        form = Codebook(INDEX, Dense(CENTROIDS.astype(np.float64)), pinned_zero=pinned)
        form.centroids.value = table
        w = form.dense()
        return w * w * w

    rng = np.random.default_rng(0)
    grad_check(cube, CENTROIDS.astype(np.float64) + 0.5, rng=rng, order=2)


@pytest.mark.parametrize(
    "k, dtype",
    [
        (1, np.uint8),
        (2, np.uint8),
        (3, np.uint8),
        (16, np.uint8),
        (17, np.uint8),
        (256, np.uint8),
        (257, np.uint16),
        (65536, np.uint16),
        (65537, np.uint32),
    ],
)
def test_an_index_has_the_smallest_dtype_that_holds_it(k, dtype):
    form = Codebook(np.array([0, k - 1]), np.arange(k, dtype=np.float32))
    assert form.index.dtype == form.stored()["index"].dtype == dtype
    np.testing.assert_array_equal(form.dense().data, np.array([0, k - 1], np.float32))


def test_a_pinned_zero_is_not_stored():
    form = Codebook(INDEX, CENTROIDS, pinned_zero=True)
    stored = form.stored()["centroids"]
    assert type(stored) is Dense and (form.k, form.pinned_zero) == (5, True)
    np.testing.assert_array_equal(stored.dense().data, CENTROIDS[1:])
    half = Codebook(INDEX, Half(CENTROIDS), pinned_zero=True).stored()["centroids"]
    assert type(half) is Half and half.stored()["value"].dtype == np.float16


def test_names_of_parameters_and_state():
    assert list(Codebook(INDEX, CENTROIDS).parameters()) == ["centroids"]
    assert list(Codebook(INDEX, CENTROIDS).state()) == ["index", "centroids.value"]


@pytest.mark.parametrize(
    "make, message",
    [
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


SETTINGS = {"k": 3, "pinned_zero": True}
PARTS = {"index": np.array([[0, 1], [2, 1]], np.uint8), "centroids": Dense([1.0, 2.0])}
BOOK = Codebook([0, 1], [1.0, 2.0])


@pytest.mark.parametrize(
    "shape, settings, parts, message",
    [
        ((2, 2), {"k": 4}, {}, r"centroids must have shape \(3,\), got \(2,\)"),
        ((2, 2), {"pinned_zero": False}, {}, r"centroids must have shape \(3,\), got \(2,\)"),
        ((2, 2), {"pinned_zero": 1}, {}, "pinned_zero must be true or false, got '1'"),
        ((2, 2), {"pinned_zero": None}, {}, "pinned_zero must be true or false"),
        ((2, 2), {"k": True}, {}, "k must be an integer"),
        ((2, 2), {"k": "3"}, {}, "k must be an integer"),
        ((2, 2), {"k": 0}, {}, r"k must be an integer in \[1, 65536\], got '0'"),
        ((2, 2), {"k": 2**16 + 1}, {}, r"k must be an integer in \[1, 65536\]"),
        ((2, 2), {}, {"centroids": BOOK}, "form dense or half or .*, unmasked, got 'codebook'"),
        ((2, 2), {}, {"centroids": Dense([1.0, 2.0], [True, False])}, "unmasked"),
        ((2, 2), {}, {"centroids": None}, "centroids is missing"),
        ((2, 2), {}, {"index": PARTS["index"] + 1}, r"index must be in \[0, 2\], got 1\.\.3"),
        ((2, 2), {}, {"index": -PARTS["index"].astype(int)}, r"index must be in \[0, 2\]"),
        ((2, 2), {}, {"index": PARTS["index"] * 0.5}, "index must hold integers"),
        ((2, 3), {}, {}, "index must have 6 entries"),
    ],
)
def test_from_stored_refuses_what_does_not_fit(shape, settings, parts, message):
    Codebook.from_stored((2, 2), SETTINGS, PARTS)
    with pytest.raises(FormatError, match=message):
        Codebook.from_stored(shape, SETTINGS | settings, PARTS | parts)
    with pytest.raises(FormatError, match="k must be an integer in .* got 'None'"):
        Codebook.from_stored((2, 2), {"pinned_zero": True}, PARTS)


def test_a_pruned_entry_goes_to_code_0_and_does_not_come_back():
    form = Codebook(INDEX, CENTROIDS, pinned_zero=True)
    keep = RNG.random((6, 5)) < 0.5
    less = form.masked(keep)
    np.testing.assert_array_equal(less.mask, keep & (INDEX != 0))
    np.testing.assert_array_equal(less.index, np.where(keep, INDEX, 0))
    with pytest.raises(ValueError, match="a codebook cannot take back what was pruned"):
        less.remask(np.ones((6, 5), bool))
    form.remask(less.mask)
    assert bits(form) == bits(less)
    with pytest.raises(ValueError, match="codebook without a pinned zero cannot be pruned"):
        Codebook(INDEX, CENTROIDS).masked(keep)
    with pytest.raises(ValueError, match="codebook cannot train on what a mask hides"):
        form.masked(keep, behind=True)
    with pytest.raises(ValueError, match="weights of a codebook cannot move"):
        form.moved(np.zeros((6, 5)))


@given(st.integers(1, 300), st.booleans(), SHAPES, st.integers(0, 2**32 - 1))
def test_any_codebook_survives_storage(k, pinned, shape, seed):
    rng = np.random.default_rng(seed)
    form = Codebook(rng.integers(0, k, shape), rng.standard_normal(k), pinned_zero=pinned)
    assert bits(rebuilt(form)) == bits(form) == bits(form.freeze().thaw())
    assert form.stored()["index"].max(initial=0) < form.k


@pytest.mark.parametrize("pinned", [False, True])
def test_a_codebook_needs_a_centroid(pinned):
    with pytest.raises(ValueError, match="needs at least 1 centroid, got none"):
        Codebook(np.zeros((0, 3), int), np.zeros(0, np.float32), pinned_zero=pinned)


@pytest.mark.parametrize("kind", [Dense, Half])
@pytest.mark.parametrize("pinned", [False, True])
def test_the_gradient_in_one_pass_is_that_of_the_graph(kind, pinned):
    rng = np.random.default_rng(0)
    table = np.append(np.zeros(1), rng.standard_normal(6)).astype(np.float32)
    form = Codebook(rng.integers(0, 7, (9, 5)).astype(np.uint8), kind(table), pinned)
    w, g = form.dense(training=True), rng.standard_normal((9, 5)).astype(np.float32)
    (path, pulled), = form.pull_back(w, g).items()
    (same, want), = Form.pull_back(form, w, g).items()
    assert path == same and pulled.dtype == np.float32
    np.testing.assert_array_equal(pulled, want)
