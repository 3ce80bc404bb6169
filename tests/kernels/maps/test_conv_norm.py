import math

import numpy as np
import pytest

from minicomp.kernels import cpu
from minicomp.kernels.maps import conv, conv_norm, norm

isa = pytest.mark.parametrize("isa", cpu.distinct("maps"))
LAYERS = [  # C, O, groups, kernel, stride, padding, (H, W)
    (3, 17, 1, (3, 3), (2, 2), (1, 1), (9, 8)),
    (16, 24, 1, (1, 1), (1, 1), (0, 0), (4, 4)),
    (33, 48, 1, (1, 1), (1, 1), (0, 0), (16, 32)),
    (20, 20, 20, (3, 3), (1, 1), (1, 1), (5, 9)),
    (17, 17, 17, (3, 3), (2, 2), (1, 1), (7, 10)),
    (16, 16, 16, (2, 5), (1, 1), (0, 2), (6, 7)),
    (6, 12, 3, (3, 3), (1, 1), (1, 1), (5, 5)),
    (1, 1, 1, (3, 3), (1, 1), (1, 1), (5, 5)),
]
layers = pytest.mark.parametrize("layer", LAYERS)


def problem(layer, n=6, seed=0, mean=0.0):
    c, o, groups, kernel, stride, padding, size = layer
    rng, kw = np.random.default_rng(seed), dict(stride=stride, padding=padding, groups=groups)
    x = (mean + rng.standard_normal((n, c, *size))).astype(np.float32)
    w = rng.standard_normal((o, c // groups, *kernel)).astype(np.float32)
    g = rng.standard_normal(conv.conv2d_ref(x, w, stride, padding, groups).shape)
    vectors = rng.standard_normal((5, o)).astype(np.float32)
    g = g.astype(np.float32)
    for a in (x, w, g, vectors):
        a.setflags(write=False)
    return x, w, g, tuple(vectors[:3]), norm.Gate(*vectors[3:], 0.5), kw


@isa
@layers
def test_moments_are_those_of_the_convolution(isa, layer):
    x, w, *_, kw = problem(layer, mean=100.0)
    u, mean, var = conv_norm.conv2d_moments(x, w, isa=isa, **kw)
    np.testing.assert_array_equal(u, conv.conv2d(x, w, isa=isa, **kw), strict=True)
    expected, spread = norm.moments_ref(u)
    assert mean.dtype == var.dtype == np.float64
    np.testing.assert_allclose(mean, expected, rtol=1e-11)
    np.testing.assert_allclose(var, spread, rtol=1e-9)


@isa
@layers
@pytest.mark.parametrize("top", [None, 0.5, math.inf])
def test_gradients_have_the_bits_of_the_three_steps(isa, layer, top):
    x, w, g, blend, gate, kw = problem(layer)
    gate = gate._replace(top=top) if top else None
    u = conv.conv2d(x, w, isa=isa, **kw)
    v = norm.blend(g, u, *blend, gate, isa=isa)
    dx, dw, _ = conv_norm.conv2d_norm_grads(g, u, x, w, blend, gate, isa=isa, **kw)
    np.testing.assert_array_equal(
        dx, conv.conv2d_input_grad(v, w, size=x.shape[2:], isa=isa, **kw), strict=True)
    np.testing.assert_array_equal(
        dw, conv.conv2d_weight_grad(x, v, kernel=w.shape[2:], isa=isa, **kw), strict=True)
    none, alone, _ = conv_norm.conv2d_norm_grads(g, u, x, w, blend, gate, want_dx=False, isa=isa,
                                                 **kw)
    assert none is None
    np.testing.assert_array_equal(alone, dw)


def earlier(layer, top=6.0):
    # What the block before may be: gain, offset and mean of its u.
    rng, c = np.random.default_rng(7), layer[0]
    a, b, mean = rng.standard_normal((3, c)).astype(np.float32)
    return norm.Gate(2 * a, b + 1, top), mean


@isa
@layers
@pytest.mark.parametrize("top", [1.0, math.inf])
def test_maps_of_the_block_before_are_made_of_its_u_to_the_bit(isa, layer, top):
    u, w, g, blend, gate, kw = problem(layer)
    before, mean = earlier(layer, top)
    x = norm.affine(u, *before, isa=isa)
    if layer[0] > 1:
        assert (x == 0).any() and ((x > 0) & (x < top)).any() and (top > 1 or (x == top).any())
    (one, *moments), (other, *simple) = (
        conv_norm.conv2d_moments(u, w, before=before, isa=isa, **kw),
        conv_norm.conv2d_moments(x, w, isa=isa, **kw))
    np.testing.assert_array_equal(one, other, strict=True)
    np.testing.assert_allclose(moments, simple, rtol=1e-12)
    after = conv.conv2d(x, w, isa=isa, **kw)
    dx, dw, sums = conv_norm.conv2d_norm_grads(g, after, u, w, blend, gate, before=before,
                                               mean=mean, isa=isa, **kw)
    simple = conv_norm.conv2d_norm_grads(g, after, x, w, blend, gate, isa=isa, **kw)
    np.testing.assert_array_equal(dx, simple[0], strict=True)
    np.testing.assert_array_equal(dw, simple[1], strict=True)
    assert simple[2] is None
    for one, other in zip(sums, norm.sums_ref(dx, u, mean, before)):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)
    _, alone, none = conv_norm.conv2d_norm_grads(g, after, u, w, blend, gate, before=before,
                                                 want_dx=False, isa=isa, **kw)
    np.testing.assert_array_equal(alone, dw)
    assert none is None


@isa
@layers
@pytest.mark.parametrize("n", [1, 6])
def test_bits_do_not_depend_on_threads(isa, layer, n):
    x, w, g, blend, gate, kw = problem(layer, n)
    before, mean = earlier(layer)
    one, two = (conv_norm.conv2d_moments(x, w, before=before, isa=isa, n_threads=n, **kw)
                for n in (1, 2))
    for a, b in zip(one, two):
        np.testing.assert_array_equal(a, b)
    (*one, s), (*two, t) = (
        conv_norm.conv2d_norm_grads(g, one[0], x, w, blend, gate, before=before, mean=mean,
                                    isa=isa, n_threads=n, **kw) for n in (1, 3))
    for a, b in zip((*one, *s), (*two, *t), strict=True):
        np.testing.assert_array_equal(a, b)


@isa
def test_float64_and_empty_batches_run_the_three_steps(isa):
    x, w, g, blend, gate, kw = problem(LAYERS[3])
    wide = [a.astype(np.float64) for a in (x, w, g, *blend)]
    u, mean, _ = conv_norm.conv2d_moments(*wide[:2], isa=isa, **kw)
    np.testing.assert_array_equal(mean, u.mean(axis=(0, 2, 3)))
    dx, dw, _ = conv_norm.conv2d_norm_grads(wide[2], u, *wide[:2], tuple(wide[3:]), None, isa=isa,
                                         **kw)
    assert dx.dtype == dw.dtype == np.float64
    nothing = x[:0], w, g[:0]
    dx, dw, _ = conv_norm.conv2d_norm_grads(nothing[2], g[:0], *nothing[:2], blend, gate, isa=isa,
                                         **kw)
    assert dx.shape == (0, *x.shape[1:]) and not dw.any()


@isa
def test_shapes_that_do_not_fit_are_named(isa):
    x, w, g, blend, gate, kw = problem(LAYERS[3])
    with pytest.raises(ValueError, match="u must have shape"):
        conv_norm.conv2d_norm_grads(g[:2], g[:2], x, w, blend, gate, isa=isa, **kw)
    with pytest.raises(ValueError, match="arrays must have shape .* for gate.b"):
        conv_norm.conv2d_norm_grads(g, g, x, w, blend, gate._replace(b=gate.b[:3]), isa=isa, **kw)
    with pytest.raises(ValueError, match="n_threads must be"):
        conv_norm.conv2d_moments(x, w, isa=isa, n_threads=0, **kw)
    before, mean = earlier(LAYERS[3])
    for wrong in (before._replace(a=mean[:3]), before._replace(top=0.0), tuple(before)):
        with pytest.raises(ValueError, match="before|top"):
            conv_norm.conv2d_moments(x, w, before=wrong, isa=isa, **kw)
    for more in (dict(mean=mean), dict(mean=mean, before=before, want_dx=False),
                 dict(mean=mean[:3], before=before)):
        with pytest.raises(ValueError, match="mean"):
            conv_norm.conv2d_norm_grads(g, g, x, w, blend, gate, isa=isa, **more, **kw)


@pytest.mark.parametrize("n, pixels, c, o", [(64, 16, 160, 960), (64, 1024, 24, 144), (5, 9, 3, 4),
                                             (1, 49, 8, 8), (6, 1, 320, 1280)])
def test_blocks_of_pixels_are_all_pixels(n, pixels, c, o):
    whole = conv.Sizes(1, pixels, c, o, 1, 1, 1, 1, 0, 0, 1, pixels)
    m, block = conv.blocked(whole, n)
    assert m * block.W == n * pixels and block.Wo == block.W
    assert block.W <= 64 or block.W % 2 or block.W * (c + o) <= conv.BLOCK_FLOATS
    assert block.W >= 64 or m % 2
    wide = whole._replace(KW=3)
    assert conv.blocked(wide, n) == (n, wide)
