import numpy as np
import pytest

from minicomp.compress.quant.ranges import (
    METHODS, Histogram, calibrated, kl_threshold, observed, observer, js_threshold,
    symmetric_kl_threshold)
from minicomp.compress.quant.ranges.error import range_error
from minicomp.compress.quant.ranges.variants import signed_kl_threshold
from minicomp.errors import UserError
from minicomp.grid import affine_params, symmetric_scale
from minicomp.models import MLP
from minicomp.nn.taps import observe


def fed(method, batches, **knobs):
    o = observer(method, **knobs)
    for batch in batches:
        o.update(np.asarray(batch, np.float32))
    return o


def batches(scale=1.0, n=8):
    rng = np.random.default_rng(0)
    return [scale * rng.standard_normal((20, 30)).astype(np.float32) for _ in range(n)]


PEAKS = [[0.5, -1.0], [0.0, 4.0], [2.0, 1.0]]  # largest |x|: 1, 4, 2


@pytest.mark.parametrize("method, T", [
    ("abs-max", 2.0), ("window", 4.0), ("mean", 7 / 3),
    ("moving-average", (0.81 * 1 + 0.9 * 4 + 2) / (0.81 + 0.9 + 1)),
])
def test_published_operators_by_hand(method, T):
    o = fed(method, PEAKS)
    assert o.range(8, "narrow") == pytest.approx((-T, T), rel=1e-15)
    assert o.range(8, "unsigned") == pytest.approx((-1.0, T), rel=1e-15)  # nothing lies below -1


def test_a_window_forgets():
    assert fed("window", PEAKS, window=1).range(8, "narrow") == (-2.0, 2.0)
    assert fed("window", PEAKS, window=2).range(8, "narrow") == (-4.0, 4.0)


def test_the_moving_average_has_no_bias_at_first_and_torchs_stays_with_its_first_batch():
    assert fed("moving-average", [[3.0]] * 4).range(8, "narrow") == pytest.approx((-3.0, 3.0))
    assert fed("ema", [[0.0], [6.0]], c=0.05).range() == pytest.approx((0.0, 0.3))
    lo, hi = fed("ema", [[-1.0, 2.0], [-3.0, 4.0], [0.0, 1.0]], c=0.25).range()
    assert (lo, hi) == (0.75 * -1.5 + 0.25 * 0.0, 0.75 * 2.5 + 0.25)


@pytest.mark.parametrize("method", METHODS)
def test_ranges_hold_zero_and_lie_within_what_was_seen(method):
    for shift in (0.0, 6.0, -6.0):
        o = fed(method, [b + np.float32(shift) for b in batches()])
        for bits in (2, 4, 8):
            lo, hi = o.range(bits, "unsigned")
            assert lo <= 0 <= hi and lo < hi and isinstance(lo, float)
            slack = 1.2 if method == "mse" else 1.0  # a wider grid may lie better
            assert slack * min(o.min, 0) <= lo and hi <= slack * max(o.max, 0)
            lo, hi = o.range(bits, "narrow")
            assert -lo == hi > 0


@pytest.mark.parametrize("method", ["min-max", "percentile", "mse", "kl", "symmetric-kl", "js"])
def test_of_a_histogram_batches_and_order_do_not_matter(method):
    b = batches()
    one, other = fed(method, b), fed(method, [np.concatenate(b[::-1])])
    for grid in ("unsigned", "narrow"):
        assert one.range(4, grid) == other.range(4, grid)


@pytest.mark.parametrize("method", METHODS)
def test_constant_tensors(method):
    assert fed(method, [[0.0, 0.0], [0.0]]).range() == (0.0, 0.0)
    for value in (2.5, -2.5):
        o = fed(method, [np.full(5, value)] * 3)
        lo, hi = o.range()
        assert lo == pytest.approx(min(value, 0), rel=1e-3)
        assert hi == pytest.approx(max(value, 0), rel=1e-3)
        assert o.range(8, "narrow") == pytest.approx((-2.5, 2.5), rel=1e-2)


@pytest.mark.parametrize("method", METHODS)
def test_bad_input(method):
    o = observer(method)
    with pytest.raises(ValueError, match="at least one number"):
        o.range()
    o.update(np.zeros((0, 3)))
    with pytest.raises(ValueError, match="at least one number"):
        o.range()
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match="finite numbers, got NaN or infinity"):
            o.update(np.array([1.0, bad]))
    o.update(np.array([1.0, -2.0]))
    with pytest.raises(ValueError, match="bits must be an integer in"):
        o.range(17)
    with pytest.raises(ValueError, match="grid must be one of"):
        o.range(8, "wide")


def test_unknown_methods_and_knobs():
    with pytest.raises(ValueError, match="did you mean percentile"):
        observer("percentil")
    with pytest.raises(TypeError, match="rho"):
        observer("min-max", rho=0.5)
    with pytest.raises(ValueError, match=r"percentile must be in \(0, 100\], got 0"):
        observer("percentile", percentile=0)
    with pytest.raises(ValueError, match=r"rho must be in \[0, 1\], got 2"):
        observer("moving-average", rho=2)
    with pytest.raises(ValueError, match="window must be an integer, at least 1, got 0"):
        observer("window", window=0)
    with pytest.raises(ValueError, match="bits must be at most 10"):
        fed("kl", PEAKS).range(12)


def test_percentile_of_float16_with_more_than_65536_entries():
    x = np.random.default_rng(0).standard_normal(70_000).astype(np.float16)
    o = fed("percentile", [x], percentile=100)
    assert o.range() == (float(x.min()), float(x.max()))


def test_percentiles_are_those_of_the_sorted_numbers():
    x = np.random.default_rng(3).standard_normal(1000).astype(np.float32)
    ascending, width = np.sort(x), 2.0**-14  # peak in [2, 4)
    for k in (0, 1, 10, 400):  # k numbers beyond either end; 2 k beyond -T..T
        o = fed("percentile", [x], percentile=100 - k / 5)
        lo, hi = o.range()
        assert 0 <= ascending[k] - lo <= width and 0 <= hi - ascending[-1 - k] <= width
        T = o.range(8, "narrow")[1]
        assert 0 <= T - np.sort(np.abs(x))[-1 - 2 * k] <= width


def test_mse_errs_less_than_min_max():
    x = np.concatenate(batches()).ravel()
    x[0] = 30.0
    for grid, bits in (("unsigned", 4), ("narrow", 4), ("full", 3), ("midrise", 2)):
        ranges = [fed(m, [x]).range(bits, grid) for m in ("mse", "min-max")]
        best, widest = (range_error(x, *r, bits=bits, grid=grid) for r in ranges)
        assert best < 0.5 * widest


def test_zeros_do_not_pull_the_divergences_down():
    # Behind a ReLU: half of all numbers are 0, which every grid has exactly.
    x = np.maximum(np.random.default_rng(0).standard_normal(20_000), 0)
    for method in ("kl", "symmetric-kl", "js"):
        ours, published = (fed(method, [x], zeros=z).range()[1] for z in (False, True))
        assert published < 0.7 * ours and np.mean(x > ours) < 1e-3


@pytest.mark.parametrize("sign", [1, -1])
def test_one_sided_numbers_have_all_levels_where_there_is_a_zero_point(sign):
    x = sign * np.abs(np.random.default_rng(0).laplace(size=3000))
    o = fed("kl", [x])
    for bits, grid, levels in ((5, "unsigned", 32), (5, "narrow", 16), (6, "full", 64)):
        T = min(kl_threshold(*o.histogram.magnitudes(2048), levels=levels)[0], o.peak)
        assert max(o.range(bits, grid), key=abs) in (T, -T)
    o.update(-0.001 * x)
    T = kl_threshold(*o.histogram.magnitudes(2048), levels=16)[0]
    assert max(o.range(5), key=abs) == sign * min(T, o.peak)


def test_mxnets_variant_is_its_search_on_the_signed_histogram():
    x = np.random.default_rng(0).laplace(size=3000).astype(np.float32)
    o = fed("kl", [x], variant="mxnet")
    counts, width = o.histogram.signed(4000)
    T, _ = signed_kl_threshold(counts, width, levels=63)
    assert o.range(6, "narrow") == (-min(T, o.peak), min(T, o.peak))
    assert abs(T / fed("kl", [x]).range(6, "narrow")[1] - 1) < 0.25
    with pytest.raises(ValueError, match="variant must be tensorrt or mxnet, got 'ncnn'"):
        observer("kl", variant="ncnn")


def net():
    return MLP([12, 20, 10, 4], rng=np.random.default_rng(0))


def test_calibrated_is_one_pass_and_equals_one_observer_a_node():
    model, x = net(), np.random.default_rng(1).standard_normal((50, 12)).astype(np.float32)
    names = ["x", *(node.name for node in model.nodes)]
    outputs = list(observe(model, x, names, batch_size=8))
    for method in METHODS:
        got = calibrated(model, x, names, method=method, bits=6, batch_size=8)
        assert got == {n: fed(method, [o[n] for o in outputs]).range(6) for n in names}
    bits = dict.fromkeys(names, 8) | {"x": 4}
    got = calibrated(model, x, names, method="mse", bits=bits, grid="narrow")
    seen = observed(model, x, names, method="mse")
    assert got == {n: seen[n].range(bits[n], "narrow") for n in names}


def test_calibration_refuses_what_it_cannot_see():
    model = net()
    with pytest.raises(UserError, match="at least one example, got none"):
        calibrated(model, np.zeros((0, 12), np.float32), ["x"])
    with pytest.raises(KeyError, match="no node 'nowhere'"):
        calibrated(model, np.zeros((2, 12), np.float32), ["nowhere"])
    x = np.zeros((2, 12), np.float32)
    x[1, 3] = np.nan
    with pytest.raises(UserError, match="outputs of x must be finite"):
        calibrated(model, x, ["x"])


def test_symmetric_can_be_asked_of_any_grid():
    o = fed("min-max", PEAKS, symmetric=True, bits=4)
    assert o.range(grid="full") == (-4.0, 4.0)
    assert fed("min-max", PEAKS).range(grid="full") == (-1.0, 4.0)


def test_an_observer_takes_up_a_histogram():
    h = Histogram()
    h.update(np.array([1.0, -3.0]))
    assert observer("percentile", histogram=h, percentile=100).range() == (-3.0, 1.0)


def test_scales_come_out_of_ranges():
    scale, zero_point = affine_params(*fed("min-max", PEAKS).range())
    assert scale == np.float32(5 / 255) and zero_point == 51
    assert symmetric_scale(fed("min-max", PEAKS).range(8, "narrow")[1]) == np.float32(4 / 127)


RULES = {"kl": kl_threshold, "symmetric-kl": symmetric_kl_threshold, "js": js_threshold}


@pytest.mark.parametrize("method", ["kl", "symmetric-kl", "js"])
def test_no_divergence_clips_more_than_half_where_no_number_lies_near_0(method):
    rng = np.random.default_rng(0)
    for x in (rng.uniform(2, 3.4, 20000), rng.normal(3, 0.3, 20000),
              1 / (1 + np.exp(-rng.normal(0, 0.4, 20000)))):
        o = observer(method)
        o.update(x)
        lo, hi = o.range(8, "unsigned")
        assert lo == 0 and np.mean(x > hi) <= 0.5
    o = observer(method)
    x = np.abs(rng.normal(size=20000))  # what has numbers near 0 is cut as before
    o.update(x)
    counts, width = o.histogram.magnitudes(2048, zeros=False)
    assert o.range(8, "unsigned")[1] == min(RULES[method](counts, width, levels=256)[0], x.max())
