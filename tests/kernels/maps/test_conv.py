import itertools

import numpy as np
import pytest

from minicomp.kernels.maps import conv, pool
from minicomp.kernels import cpu, doors
from minicomp.kernels.layout import as_nhwc, nchw, nhwc
from minicomp.kernels.memory import aligned

RUNGS = cpu.distinct("maps")
isa = pytest.mark.parametrize("isa", RUNGS)

# stride, padding, kernel, (C, O), (H, W): channels around the lanes of 8 and 16, strides, padding,
# 1 x 1
SHAPES = [
    ((1, 1), (0, 0), (5, 5), (1, 20), (9, 12)),
    ((1, 1), (0, 0), (5, 5), (20, 50), (7, 6)),
    ((1, 1), (1, 1), (3, 3), (63, 64), (4, 5)),
    ((1, 1), (1, 0), (3, 1), (64, 65), (3, 4)),
    ((2, 1), (1, 2), (3, 2), (17, 15), (5, 6)),
    ((2, 3), (0, 1), (2, 4), (3, 1), (7, 9)),
    ((3, 3), (2, 2), (5, 5), (2, 33), (8, 7)),
    ((1, 1), (0, 0), (1, 1), (65, 63), (5, 7)),
    ((2, 2), (0, 0), (1, 1), (16, 8), (5, 7)),
    ((1, 1), (0, 0), (4, 3), (8, 9), (4, 3)),
    ((1, 1), (0, 0), (2, 1), (1, 1), (70, 1)),
    ((1, 1), (0, 0), (1, 2), (1, 1), (1, 70)),
    # 1, 3 and 4 channels beyond whole vectors of 16, over long windows
    ((1, 1), (1, 1), (3, 3), (33, 17), (5, 7)),
    ((2, 1), (0, 2), (5, 5), (13, 35), (9, 7)),
    ((1, 2), (2, 0), (4, 4), (20, 20), (6, 9)),
]


@pytest.mark.parametrize("stride, padding", [((1, 1), (0, 0)), ((2, 3), (1, 2)), ((1, 2), (2, 0))])
@pytest.mark.parametrize("groups, ones", [(1, False), (1, True), (3, False), (3, True)])
def test_im2col_is_a_loop_over_windows(stride, padding, groups, ones):
    x = np.random.default_rng(0).standard_normal((2, 6, 5, 7))
    (kh, kw), (sh, sw), (ph, pw) = (3, 2), stride, padding
    padded = np.zeros((2, 6, 5 + 2 * ph, 7 + 2 * pw))
    padded[:, :, ph : ph + 5, pw : pw + 7] = x
    ho, wo = (doors.window_count(*each) for each in zip((5, 7), (kh, kw), stride, padding))
    view = conv.window_view(x, (kh, kw), stride, padding)
    assert view.shape == (2, 6, ho, wo, kh, kw)
    rows = conv.im2col(x, (kh, kw), stride, padding, groups, ones)
    per = 6 // groups
    assert rows.shape == (groups, 2 * ho * wo, per * kh * kw + ones) and rows.dtype == x.dtype
    for n, i, j, c in itertools.product(range(2), range(ho), range(wo), range(6)):
        window = padded[n, c, i * sh : i * sh + kh, j * sw : j * sw + kw]
        np.testing.assert_array_equal(view[n, c, i, j], window)
        at = c % per * kh * kw
        row = rows[c // per, (n * ho + i) * wo + j]
        np.testing.assert_array_equal(row[at : at + kh * kw], window.ravel())
    assert not ones or (rows[..., -1] == 1).all()


def whole(rng, *shape):
    # Small whole numbers: products and sums are exact in float32, so every order of summing is the
    # same.
    return rng.integers(-4, 5, shape).astype(np.float32)


def case(shape, n=2, seed=0, draw=whole):
    stride, padding, kernel, (c, o), size = shape
    rng = np.random.default_rng(seed)
    x, w, b = draw(rng, n, c, *size), draw(rng, o, c, *kernel), draw(rng, o)
    out = [doors.window_count(*each) for each in zip(size, kernel, stride, padding)]
    return x, w, b, draw(rng, n, o, *out), dict(stride=stride, padding=padding)


def reference(x, w, b, g, kw, groups=1):
    args = (kw["stride"], kw["padding"], groups)
    return (
        conv.conv2d_ref(x, w, *args) + b[:, None, None],
        conv.conv2d_input_grad_ref(g, w, x.shape[2:], *args),
        conv.conv2d_weight_grad_ref(x, g, w.shape[2:], *args),
        g.sum(axis=(0, 2, 3)),
    )


def run(x, w, b, g, kw, groups=1, **how):
    dw, db = conv.conv2d_weight_grad(
        x, g, kernel=w.shape[2:], bias=True, groups=groups, **kw, **how
    )
    return (
        conv.conv2d(x, w, b, groups=groups, **kw, **how),
        conv.conv2d_input_grad(g, w, size=x.shape[2:], groups=groups, **kw, **how),
        dw,
        db,
    )


def test_kernels_are_compiled():
    # Without this the suite would pass on references alone. `pip install .` builds them.
    assert "portable" in RUNGS


# --------------------------------------------------------------------------------- convolution


@isa
@pytest.mark.parametrize("shape", SHAPES)
def test_whole_numbers_are_exact(isa, shape):
    values = case(shape)
    for got, expected in zip(run(*values, isa=isa), reference(*values)):
        np.testing.assert_array_equal(got, expected, strict=True)


@isa
@pytest.mark.parametrize("shape", SHAPES)
def test_rounding_stays_within_its_bound(isa, shape):
    # A sum of n products is exact to n eps times the sum of their magnitudes, in whatever order.
    x, w, b, g, kw = case(shape, draw=lambda rng, *s: rng.standard_normal(s).astype(np.float32))
    wide = [a.astype(np.float64) for a in (x, w, b, g)]
    exact, size = reference(*wide, kw), reference(*map(np.abs, wide), kw)
    terms = (w[0].size + 1, g.shape[1] * w[0, 0].size, g[:, 0].size, g[:, 0].size)
    for got, y, bound, n in zip(run(x, w, b, g, kw, isa=isa), exact, size, terms):
        assert got.dtype == np.float32
        assert (np.abs(got - y) <= (n + 1) * 2.0**-24 * bound).all()


@isa
@pytest.mark.parametrize("groups", [2, 3, 6])
def test_groups(isa, groups):
    rng = np.random.default_rng(0)
    x, w, b = whole(rng, 2, 6, 5, 6), whole(rng, 12, 6 // groups, 3, 2), whole(rng, 12)
    kw = dict(stride=(2, 1), padding=(1, 0))
    g = whole(rng, *conv.conv2d_ref(x, w, *kw.values(), groups).shape)
    for got, expected in zip(
        run(x, w, b, g, kw, groups, isa=isa), reference(x, w, b, g, kw, groups)
    ):
        np.testing.assert_array_equal(got, expected, strict=True)


DEPTHWISE = [  # stride, padding, kernel, C, (H, W)
    ((1, 1), (1, 1), (3, 3), 64, (7, 13)),
    ((2, 2), (1, 1), (3, 3), 65, (8, 7)),
    ((1, 2), (0, 2), (2, 5), 17, (4, 9)),
    ((3, 1), (2, 0), (2, 1), 15, (5, 4)),
    ((1, 1), (0, 0), (1, 1), 1, (3, 20)),
    ((1, 1), (1, 1), (3, 3), 33, (2, 1)),
    ((1, 1), (0, 2), (3, 3), 16, (4, 30)),
    ((2, 2), (2, 0), (3, 3), 17, (5, 12)),
    ((2, 2), (1, 2), (3, 3), 48, (9, 18)),
    ((2, 2), (0, 1), (3, 3), 5, (4, 2)),
    ((1, 1), (1, 1), (3, 3), 17, (5, 6)),  # two rows at a time, the last alone
    # maps of more than 65,536 entries, which are taken in the order of memory
    ((1, 1), (1, 1), (3, 3), 33, (45, 47)),
    ((1, 1), (0, 2), (3, 3), 17, (70, 60)),
    ((2, 2), (1, 1), (3, 3), 33, (45, 47)),
    ((2, 2), (2, 0), (3, 3), 17, (62, 69)),
]


@isa
@pytest.mark.parametrize("stride, padding, kernel, c, size", DEPTHWISE)
@pytest.mark.parametrize("n", [0, 1, 5])
def test_depthwise(isa, stride, padding, kernel, c, size, n):
    rng = np.random.default_rng(0)
    x, w, b = whole(rng, n, c, *size), whole(rng, c, 1, *kernel), whole(rng, c)
    kw = dict(stride=stride, padding=padding)
    g = whole(rng, *conv.conv2d_ref(x, w, stride, padding, c).shape)
    expected = reference(x, w, b, g, kw, c)
    for got, e in zip(run(x, w, b, g, kw, c, isa=isa), expected):
        np.testing.assert_array_equal(got, e, strict=True)
    real = [rng.standard_normal(a.shape).astype(np.float32) for a in (x, w, b, g)]
    for a in real:
        a.setflags(write=False)
    for one, two in zip(run(*real, kw, c, isa=isa), run(*real, kw, c, isa=isa, n_threads=2)):
        np.testing.assert_array_equal(one, two)


@isa
def test_rounding_of_depthwise_stays_within_its_bound(isa):
    rng = np.random.default_rng(0)
    shapes = (2, 33, 9, 10), (33, 1, 3, 3), (33,), (2, 33, 5, 5)
    values = [rng.standard_normal(s).astype(np.float32) for s in shapes]
    kw = dict(stride=(2, 2), padding=(1, 1))
    wide = [a.astype(np.float64) for a in values]
    exact, size = reference(*wide, kw, 33), reference(*map(np.abs, wide), kw, 33)
    for got, y, bound, n in zip(run(*values, kw, 33, isa=isa), exact, size, (10, 9, 50, 50)):
        assert (np.abs(got - y) <= (n + 1) * 2.0**-24 * bound).all()


@isa
@pytest.mark.parametrize("n", [0, 1, 3, 5])
def test_any_number_of_images(isa, n):
    values = case(SHAPES[4], n=n)
    for got, expected in zip(run(*values, isa=isa), reference(*values)):
        np.testing.assert_array_equal(got, expected, strict=True)


@isa
def test_blocks_of_the_portable_rung_join(isa, monkeypatch):
    # Columns of one image at a time, of three, of all five.
    values = case(SHAPES[1], n=5)
    expected = reference(*values)
    for floats in (1, 3 * 6 * 500, 10**6):
        monkeypatch.setattr(conv, "L2_FLOATS", floats)
        for got, e in zip(run(*values, isa=isa), expected):
            np.testing.assert_array_equal(got, e)


@isa
@pytest.mark.parametrize("shape", SHAPES[1:7:2])
def test_bits_do_not_depend_on_threads(isa, shape):
    values = case(shape, n=7, draw=lambda rng, *s: rng.standard_normal(s).astype(np.float32))
    for one, two in zip(run(*values, isa=isa, n_threads=1), run(*values, isa=isa, n_threads=2)):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("isa", [r for r in RUNGS if r not in ("ref", "portable")])  # not BLAS
def test_an_image_does_not_depend_on_its_batch(isa):
    x, w, b, _, kw = case(
        SHAPES[2], n=5, draw=lambda rng, *s: rng.standard_normal(s).astype(np.float32)
    )
    np.testing.assert_array_equal(
        conv.conv2d(x, w, b, isa=isa, **kw)[3:4], conv.conv2d(x[3:4], w, b, isa=isa, **kw)
    )


@isa
def test_read_only_and_strided_inputs(isa):
    x, w, b, g, kw = case(SHAPES[4])
    expected = run(x, w, b, g, kw, isa=isa)
    wide = [np.repeat(a, 2, axis=-1)[..., ::2] for a in (x, w, b, g)]
    frozen = [as_nhwc(x), np.asfortranarray(w), b.copy(), as_nhwc(g)]
    for a in frozen:
        a.setflags(write=False)
    for other in (wide, frozen):
        for got, e in zip(run(*other, kw, isa=isa), expected):
            np.testing.assert_array_equal(got, e)


@isa
@pytest.mark.parametrize("dtype", [np.float64, np.float16])
def test_other_dtypes_run_the_reference(isa, dtype):
    x, w, b, g, kw = case(SHAPES[0])
    values = [a.astype(dtype) for a in (x, w, b, g)]
    for got, expected in zip(run(*values, kw, isa=isa), reference(*values, kw)):
        np.testing.assert_array_equal(got, expected, strict=True)


@isa
def test_shapes_that_do_not_fit_are_named(isa):
    # A kernel trusts what it is given: none of these may reach it.
    x, w, b, g, _ = case(SHAPES[1])
    for call in (
        lambda: conv.conv2d(x, w[:, :19], isa=isa),
        lambda: conv.conv2d(x, w, b[:49], isa=isa),
        lambda: conv.conv2d_input_grad(g[:, :49], w, size=(7, 6), isa=isa),
        lambda: conv.conv2d_input_grad(g, w, size=(8, 6), isa=isa),
        lambda: conv.conv2d_weight_grad(x, g[:1], kernel=(5, 5), isa=isa),
        lambda: conv.conv2d_weight_grad(x, g[:, :, :1], kernel=(5, 5), isa=isa),
    ):
        with pytest.raises(ValueError, match="needs x|bias must|g must have the shape"):
            call()


@isa
def test_nan_and_infinity_come_through(isa):
    x, w, _, _, _ = case(SHAPES[1])
    x[0, 3, 2, 2], x[1, 0, 4, 4] = np.nan, np.inf
    with np.errstate(invalid="ignore"):
        expected = conv.conv2d_ref(x, w, (1, 1), (0, 0), 1)
        got = conv.conv2d(x, w, isa=isa)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(expected))


# -------------------------------------------------------------------------------------- pooling

POOLS = [
    dict(kernel=k, stride=s, padding=p, ceil_mode=c)
    for k, s, p, c in itertools.product(
        ((2, 2), (3, 2), (1, 1), (4, 4)), ((1, 1), (2, 2), (3, 4)), ((0, 0), (1, 1)), (False, True)
    )
    if 2 * max(p) <= min(k)
]


def without_ceil(kw):
    return {k: v for k, v in kw.items() if k != "ceil_mode"}


@isa
@pytest.mark.parametrize("c", [1, 15, 16, 17, 20, 63, 64, 65])
def test_max_pooling_is_the_reference(isa, c):
    rng = np.random.default_rng(c)
    for kw in POOLS:
        x = whole(rng, 2, c, 6, 7)  # few values: many equal entries in a window
        y, index = pool.max_pool2d(x, isa=isa, **kw)
        expected, at = pool.max_pool2d_ref(x, *kw.values())
        np.testing.assert_array_equal(y, expected, strict=True)
        np.testing.assert_array_equal(index, at, strict=True)
        g = whole(rng, *y.shape)
        np.testing.assert_array_equal(
            pool.max_pool2d_grad(g, index, size=(6, 7), isa=isa, **without_ceil(kw)),
            pool.max_pool2d_grad_ref(g, at, (6, 7), kw["kernel"], kw["stride"], kw["padding"]),
            strict=True,
        )


@isa
@pytest.mark.parametrize("c", [1, 15, 17, 64])
def test_average_pooling_is_the_reference(isa, c):
    rng = np.random.default_rng(c)
    for kw in POOLS:
        x = rng.standard_normal((2, c, 6, 7)).astype(np.float32)
        y = pool.avg_pool2d(x, isa=isa, **kw)
        np.testing.assert_array_equal(y, pool.avg_pool2d_ref(x, *kw.values()), strict=True)
        # Where windows overlap, kernel and reference add them in another order.
        g = rng.standard_normal(y.shape).astype(np.float32)
        args = (6, 7), kw["kernel"], kw["stride"], kw["padding"]
        got = pool.avg_pool2d_grad(g, size=(6, 7), isa=isa, **without_ceil(kw))
        bound = (
            kw["kernel"][0]
            * kw["kernel"][1]
            * 2.0**-23
            * pool.avg_pool2d_grad_ref(np.abs(g), *args)
        )
        assert got.dtype == np.float32
        assert (np.abs(got - pool.avg_pool2d_grad_ref(g.astype(np.float64), *args)) <= bound).all()


@isa
def test_max_pooling_of_nan_infinity_and_signed_zeros(isa):
    rows = np.array(
        [
            [1, np.nan, 5, np.nan],
            [-np.inf, -np.inf, -1, -np.inf],
            [-0.0, 0.0, -1, -2],
            [0.0, -0.0, -1, -2],
            [np.inf, 3, np.inf, np.nan],
        ],
        np.float32,
    )
    x = np.ascontiguousarray(np.repeat(rows[:, None, None, :], 17, axis=1))  # (5, 17, 1, 4)
    y, index = pool.max_pool2d(x, kernel=(1, 4), stride=(1, 1), isa=isa)
    expected, at = pool.max_pool2d_ref(x, (1, 4), (1, 1), (0, 0), False)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(index, at)
    assert at[:, 0, 0, 0].tolist() == [1, 2, 0, 0, 3]
    np.testing.assert_array_equal(np.signbit(y), np.signbit(expected))


@isa
@pytest.mark.parametrize("ceil_mode", [False, True])
def test_padding_is_never_the_largest(isa, ceil_mode):
    x = np.full((2, 5, 6, 7), -np.inf, np.float32)
    x[np.random.default_rng(0).random(x.shape) < 0.1] = 1
    kw = dict(kernel=(3, 2), stride=(2, 2), padding=(1, 1), ceil_mode=ceil_mode)
    y, index = pool.max_pool2d(x, isa=isa, **kw)
    expected, at = pool.max_pool2d_ref(x, *kw.values())
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(index, at)
    assert at[..., 0, 0].min() >= 3  # of the first window the first row and column are padding


@isa
@pytest.mark.parametrize("n", [0, 1, 5])
def test_pooling_of_any_number_of_read_only_images_on_two_threads(isa, n):
    rng = np.random.default_rng(0)
    kw = dict(kernel=(3, 3), stride=(2, 2), padding=(1, 1))
    x = rng.standard_normal((n, 20, 7, 7)).astype(np.float32)
    x.setflags(write=False)
    y, index = pool.max_pool2d(x, isa=isa, n_threads=2, **kw)
    np.testing.assert_array_equal(y, pool.max_pool2d_ref(x, *kw.values(), False)[0], strict=True)
    g = rng.standard_normal(y.shape).astype(np.float32)
    g.setflags(write=False)
    index.setflags(write=False)
    np.testing.assert_array_equal(
        pool.max_pool2d_grad(g, index, size=(7, 7), isa=isa, n_threads=2, **kw),
        pool.max_pool2d_grad(g, index, size=(7, 7), isa=isa, **kw),
        strict=True,
    )
    np.testing.assert_array_equal(
        pool.avg_pool2d(x, isa=isa, n_threads=2, **kw),
        pool.avg_pool2d_ref(x, *kw.values(), False),
        strict=True,
    )
    np.testing.assert_array_equal(
        pool.avg_pool2d_grad(g, size=(7, 7), isa=isa, n_threads=2, **kw),
        pool.avg_pool2d_grad(g, size=(7, 7), isa=isa, **kw),
        strict=True,
    )


@isa
def test_a_cotangent_of_another_shape_is_named(isa):
    x = np.zeros((2, 3, 4, 4), np.float32)
    y, index = pool.max_pool2d(x, kernel=(2, 2), stride=(2, 2), isa=isa)
    with pytest.raises(ValueError, match="g must have the shape of index"):
        pool.max_pool2d_grad(y, index[:1], size=(4, 4), kernel=(2, 2), stride=(2, 2), isa=isa)


@isa
def test_a_window_of_more_than_256_entries(isa):
    x = np.random.default_rng(0).permutation(2 * 17 * 17).reshape(1, 2, 17, 17).astype(np.float32)
    y, index = pool.max_pool2d(x, kernel=(17, 17), stride=(1, 1), isa=isa)
    assert index.dtype == np.int32 and index.max() == x.reshape(2, -1).argmax(axis=1).max()
    dx = pool.max_pool2d_grad(
        np.ones_like(y), index, size=(17, 17), kernel=(17, 17), stride=(1, 1), isa=isa
    )
    np.testing.assert_array_equal(dx, x == y)


# --------------------------------------------------------------------------------------- layout


def test_layout_is_copied_only_where_it_must_be():
    x = np.arange(24.0).reshape(1, 2, 3, 4)
    last = as_nhwc(x)
    np.testing.assert_array_equal(last, x)
    assert not np.shares_memory(last, x) and nhwc(last).flags.c_contiguous
    assert np.shares_memory(as_nhwc(last), last) and np.shares_memory(nchw(nhwc(last)), last)


@pytest.mark.parametrize("shape", [(1,), (3, 65), (2, 3, 64)])
def test_aligned_arrays_start_at_a_cache_line(shape):
    a = aligned(*shape)
    assert (
        a.shape == shape
        and a.dtype == np.float32
        and a.ctypes.data % 64 == 0
        and a.flags.c_contiguous
    )
