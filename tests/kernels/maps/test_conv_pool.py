import numpy as np
import pytest

from minicomp.kernels import cpu
from minicomp.kernels.layout import as_nhwc
from minicomp.kernels.maps import conv_pool
from minicomp.kernels.maps.conv_pool import Steps

isa = pytest.mark.parametrize("isa", cpu.distinct("maps"))
POOL2 = ((2, 2), (2, 2), (0, 0), False)
# (C, O), (H, W), kernel, steps: LeNet-5's, padding and strides of both, windows that overlap, that
# leave a rest, that hang over the end, a 1 x 1 kernel
CASES = [
    ((1, 20), (28, 28), (5, 5), Steps((1, 1), (0, 0), *POOL2)),
    ((20, 50), (12, 12), (5, 5), Steps((1, 1), (0, 0), *POOL2)),
    ((3, 17), (9, 8), (3, 2), Steps((1, 2), (1, 1), (3, 2), (2, 1), (1, 0), False)),
    ((16, 33), (7, 9), (3, 3), Steps((2, 1), (0, 2), (2, 3), (2, 2), (0, 1), True)),
    ((5, 4), (11, 10), (3, 3), Steps((1, 1), (1, 0), (2, 2), (3, 3), (0, 0), False)),
    ((65, 63), (6, 5), (1, 1), Steps((1, 1), (0, 0), *POOL2)),
    ((2, 1), (5, 5), (2, 2), Steps((1, 1), (0, 0), (3, 3), (1, 1), (1, 1), True)),
]
cases = pytest.mark.parametrize("channels, size, kernel, steps", CASES)


def make(channels, size, kernel, n=5, dtype=np.float32):
    (c, o), rng = channels, np.random.default_rng(0)
    shapes = ((n, c, *size), (o, c, *kernel), (o,))
    x, w, b = (rng.standard_normal(s).astype(dtype) for s in shapes)
    for a in (x, w, b):
        a.setflags(write=False)
    return x, w, b, rng


def equal(got, wanted):
    for a, e in zip(got, wanted, strict=True):
        np.testing.assert_array_equal(a, e, strict=True)


@isa
@cases
@pytest.mark.parametrize("n_threads", [1, 2, 3])
def test_one_pass_gives_the_bits_of_two(isa, channels, size, kernel, steps, n_threads):
    x, w, b, rng = make(channels, size, kernel)
    wanted = conv_pool.conv2d_max_pool_ref(x, w, b, steps, isa=isa)
    how = {"isa": isa, "n_threads": n_threads}
    for images in (x, as_nhwc(x)):
        y, index = conv_pool.conv2d_max_pool(images, w, b, steps, **how)
        equal((y, index), wanted)
    g = rng.standard_normal(y.shape).astype(np.float32)
    wanted = conv_pool.conv2d_max_pool_grad_ref(g, index, x, w, steps, isa=isa)
    equal(conv_pool.conv2d_max_pool_grad(g, index, x, w, steps, **how), wanted)
    dx, *rest = conv_pool.conv2d_max_pool_grad(g, index, x, w, steps, want_dx=False, **how)
    equal(rest, wanted[1:])
    assert dx is None


@isa
def test_results_lie_channels_last(isa):
    (channels, size, kernel, steps), n = CASES[1], 2
    x, w, b, _ = make(channels, size, kernel, n)
    y, index = conv_pool.conv2d_max_pool(x, w, b, steps, isa=isa)
    dx, _, _ = conv_pool.conv2d_max_pool_grad(y, index, x, w, steps, isa=isa)
    for a in (y, dx):
        assert a.transpose(0, 2, 3, 1).flags.c_contiguous


@isa
@pytest.mark.parametrize("n, dtype", [(0, np.float32), (3, np.float64)])
def test_no_images_and_other_dtypes(isa, n, dtype):
    channels, size, kernel, steps = CASES[2]
    x, w, b, _ = make(channels, size, kernel, n, dtype)
    y, index = conv_pool.conv2d_max_pool(x, w, b, steps, isa=isa)
    equal((y, index), conv_pool.conv2d_max_pool_ref(x, w, b, steps, isa="ref"))
    assert y.dtype == dtype and len(y) == n
    got = conv_pool.conv2d_max_pool_grad(y, index, x, w, steps, isa=isa)
    equal(got, conv_pool.conv2d_max_pool_grad_ref(y, index, x, w, steps, isa="ref"))


@isa
def test_what_does_not_fit_is_named(isa):
    channels, size, kernel, steps = CASES[1]
    x, w, b, _ = make(channels, size, kernel, 2)
    y, index = conv_pool.conv2d_max_pool(x, w, b, steps, isa=isa)
    back = conv_pool.conv2d_max_pool_grad
    wide = steps._replace(pool_padding=(2, 2))
    for call, says in (
        (lambda: conv_pool.conv2d_max_pool(x[:, :3], w, b, steps, isa=isa), "needs x"),
        (lambda: conv_pool.conv2d_max_pool(x, w, b[:3], steps, isa=isa), "bias must have shape"),
        (lambda: conv_pool.conv2d_max_pool(x[:, :, :4], w, b, steps, isa=isa), "does not fit"),
        (lambda: conv_pool.conv2d_max_pool(x, w, b, wide, isa=isa), "at most half of the window"),
        (lambda: back(y[:, :, 1:], index, x, w, steps, isa=isa), "shape"),
        (lambda: back(y[:1], index[:1], x, w, steps, isa=isa), "shape"),
        (lambda: back(y[:1], index[:1], x, w, steps, want_dx=False, isa=isa), "shape"),
    ):
        with pytest.raises(ValueError, match=says):
            call()
