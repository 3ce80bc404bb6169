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
    dx, dw = conv_norm.conv2d_norm_grads(g, u, x, w, blend, gate, isa=isa, **kw)
    np.testing.assert_array_equal(
        dx, conv.conv2d_input_grad(v, w, size=x.shape[2:], isa=isa, **kw), strict=True)
    np.testing.assert_array_equal(
        dw, conv.conv2d_weight_grad(x, v, kernel=w.shape[2:], isa=isa, **kw), strict=True)
    none, alone = conv_norm.conv2d_norm_grads(g, u, x, w, blend, gate, want_dx=False, isa=isa, **kw)
    assert none is None
    np.testing.assert_array_equal(alone, dw)


@isa
@layers
@pytest.mark.parametrize("n", [1, 6])
def test_bits_do_not_depend_on_threads(isa, layer, n):
    x, w, g, blend, gate, kw = problem(layer, n)
    one, two = (conv_norm.conv2d_moments(x, w, isa=isa, n_threads=n, **kw) for n in (1, 2))
    for a, b in zip(one, two):
        np.testing.assert_array_equal(a, b)
    grads = [conv_norm.conv2d_norm_grads(g, one[0], x, w, blend, gate, isa=isa, n_threads=n, **kw)
             for n in (1, 3)]
    for a, b in zip(*grads):
        np.testing.assert_array_equal(a, b)


@isa
def test_float64_and_empty_batches_run_the_three_steps(isa):
    x, w, g, blend, gate, kw = problem(LAYERS[3])
    wide = [a.astype(np.float64) for a in (x, w, g, *blend)]
    u, mean, _ = conv_norm.conv2d_moments(*wide[:2], isa=isa, **kw)
    np.testing.assert_array_equal(mean, u.mean(axis=(0, 2, 3)))
    dx, dw = conv_norm.conv2d_norm_grads(wide[2], u, *wide[:2], tuple(wide[3:]), None, isa=isa,
                                         **kw)
    assert dx.dtype == dw.dtype == np.float64
    nothing = x[:0], w, g[:0]
    dx, dw = conv_norm.conv2d_norm_grads(nothing[2], g[:0], *nothing[:2], blend, gate, isa=isa,
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
