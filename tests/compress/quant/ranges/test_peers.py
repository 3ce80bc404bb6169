# The same numbers as torch and onnxruntime, where they compute the same; no more error than torch.

import numpy as np
import pytest

from minicomp.compress.quant.ranges import (
    histogram_percentile, mse_range, observer, range_error)
from minicomp.compress.quant.ranges.variants import signed_divergences, signed_kl_threshold
from minicomp.grid import (
    affine_params, code_range, dequantize, fake_quantize, quantize, symmetric_scale)
from minicomp.tensor import Tensor, grad

pytestmark = pytest.mark.peers


def tensors():
    rng = np.random.default_rng(0)
    yield "normal", rng.standard_normal(5000)
    yield "laplace", rng.laplace(size=5000)
    yield "relu", np.maximum(rng.standard_normal(5000), 0)
    yield "shifted", rng.standard_normal(5000) + 2
    yield "one-sided", rng.uniform(2, 3.4, 5000)
    yield "cauchy", rng.standard_cauchy(5000)
    yield "outlier", np.append(rng.standard_normal(5000), 40.0)
    yield "few", rng.standard_normal(20)
    yield "two", np.array([-1.0, 0.3])
    yield "tiny", 1e-6 * rng.standard_normal(500)


TENSORS = [(name, x.astype(np.float32)) for name, x in tensors()]
each = pytest.mark.parametrize("name, x", TENSORS, ids=[name for name, _ in TENSORS])


@each
@pytest.mark.parametrize("grid", ["unsigned", "full"])
def test_affine_parameters_and_codes_are_onnxruntimes(name, x, grid):
    utils = pytest.importorskip("onnxruntime.quantization.quant_utils")
    onnx = pytest.importorskip("onnx")
    kind = onnx.TensorProto.UINT8 if grid == "unsigned" else onnx.TensorProto.INT8
    dtype = np.uint8 if grid == "unsigned" else np.int8
    low, high = (np.array(q, dtype) for q in code_range(8, grid))
    z, s = utils.compute_scale_zp(x.min(), x.max(), low, high)
    scale, zero_point = affine_params(x.min(), x.max(), grid=grid)
    assert scale == s and zero_point == z
    expected = utils.quantize_nparray(kind, x, s, z)
    np.testing.assert_array_equal(quantize(x, scale, zero_point, grid=grid), expected)
    low, high = (np.array(q, np.int8) for q in code_range(8, "narrow"))
    z, s = utils.compute_scale_zp(x.min(), x.max(), low, high, symmetric=True)
    assert symmetric_scale(np.abs(x).max()) == s and z == 0


@each
def test_codes_and_values_are_torchs(name, x):
    torch = pytest.importorskip("torch")
    scale, z = affine_params(x.min(), x.max())
    theirs = torch.quantize_per_tensor(torch.tensor(x), float(scale), int(z), torch.quint8)
    q = quantize(x, scale, z, grid="unsigned", rounding="reciprocal")
    np.testing.assert_array_equal(q, theirs.int_repr().numpy())
    np.testing.assert_array_equal(dequantize(q, scale, z), theirs.dequantize().numpy())


@each
def test_fake_quantization_and_its_gradient_are_torchs(name, x):
    torch = pytest.importorskip("torch")
    scale, z = affine_params(0.7 * x.min(), 0.7 * x.max())  # some are clipped
    theirs = torch.tensor(x, requires_grad=True)
    y = torch.fake_quantize_per_tensor_affine(theirs, float(scale), int(z), 0, 255)
    y.sum().backward()
    ours = Tensor(x, requires_grad=True)
    got = fake_quantize(ours, scale, z, lo=0, hi=255)
    near = np.abs(x / scale - np.floor(x / scale) - 0.5) < 1e-3  # ties: they multiply, we divide
    np.testing.assert_allclose(got.data[~near], y.detach().numpy()[~near], rtol=1e-6)
    np.testing.assert_array_equal(grad(got.sum(), ours).data[~near], theirs.grad.numpy()[~near])


def test_fake_quantization_per_channel_is_torchs():
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).standard_normal((6, 50)).astype(np.float32)
    scale, z = affine_params(x.min(axis=1), x.max(axis=1), grid="full")
    y = torch.fake_quantize_per_channel_affine(
        torch.tensor(x), torch.tensor(scale), torch.tensor(z), 0, -128, 127)
    got = fake_quantize(x, scale[:, None], z[:, None], lo=-128, hi=127)
    np.testing.assert_allclose(got, y.numpy(), rtol=1e-6, atol=1e-7)


def test_moving_averages_and_extremes_are_torchs():
    torch = pytest.importorskip("torch")
    ao = pytest.importorskip("torch.ao.quantization")
    rng = np.random.default_rng(0)
    batches = [(k + 1) * rng.standard_normal((4, 5)).astype(np.float32) for k in range(6)]
    pairs = [(ao.MinMaxObserver(), observer("min-max"))] + [
        (ao.MovingAverageMinMaxObserver(averaging_constant=c), observer("ema", c=c))
        for c in (0.01, 0.3)]
    for theirs, ours in pairs:
        for batch in batches:
            theirs(torch.tensor(batch))
            ours.update(batch)
        lo, hi = ours.range()
        np.testing.assert_allclose((lo, hi), (theirs.min_val, theirs.max_val), rtol=1e-6)
        scale, z = theirs.calculate_qparams()
        ours = affine_params(lo, hi)
        np.testing.assert_allclose(ours[0], scale, rtol=1e-6)
        assert ours[1] == z


@each
@pytest.mark.parametrize("bits", [8, 4])
def test_no_more_error_than_torchs_histogram(name, x, bits):
    torch = pytest.importorskip("torch")
    ao = pytest.importorskip("torch.ao.quantization")
    q_max = 2**bits - 1
    theirs = ao.HistogramObserver(quant_min=0, quant_max=q_max)
    theirs(torch.tensor(x))
    scale, z = theirs.calculate_qparams()
    y = torch.fake_quantize_per_tensor_affine(torch.tensor(x), scale, z.int(), 0, q_max)
    error = np.square(x.astype(np.float64) - y.numpy()).sum()
    assert range_error(x, *mse_range(x, bits=bits), bits=bits) <= error * (1 + 1e-6)
    seen = observer("mse")
    for part in np.array_split(x, 7):
        seen.update(part)
    assert range_error(x, *seen.range(bits), bits=bits) <= error * (1 + 1e-6)


def collector(method, bins, *, symmetric=True, percentile=99.9):
    calibrate = pytest.importorskip("onnxruntime.quantization.calibrate")
    return calibrate.HistogramCollector(method, symmetric, bins, 128, percentile, "same")


@each
def test_the_onnxruntime_variant_is_onnxruntimes(name, x):
    peak = np.abs(x).max()
    counts, edges = np.histogram(x, 2048, range=(-peak, peak))
    hist = counts, edges, x.min() - 9 * peak, x.max() + 9 * peak  # so that nothing is clipped
    hi = collector("entropy", 2048).get_entropy_threshold(hist, 128)[1]
    how = {"levels": 128, "variant": "onnxruntime"}
    T, kl = signed_kl_threshold(counts, 2.0 * peak / 2048, **how)
    # They compute in float32: of two cuts that are equal to 1e-5, either may come first. The last
    # two cuts end with the same bin.
    cut = round(float(hi / peak) * 1024) - 65
    assert signed_divergences(counts, **how)[cut:][:1 + (cut == 959)].min() == pytest.approx(
        kl, rel=1e-5)
    if name != "shifted":
        assert T == pytest.approx(hi, rel=1e-6)


@each
@pytest.mark.parametrize("percentile", [99.0, 99.9, 100.0])
def test_percentiles_at_left_edges_are_onnxruntimes(name, x, percentile):
    theirs = collector("percentile", 2048, percentile=percentile)
    theirs.collect_absolute_value({"x": np.append(x, np.abs(x).max())})  # clipped at the largest x
    hi = theirs.compute_percentile()["x"][1]
    counts, edges = np.histogram(np.append(np.abs(x), np.abs(x).max()), 2048)
    width = (edges[-1] - edges[0]) / 2048  # their bins begin at the smallest |x|
    left, right = (edges[0] + histogram_percentile(counts, width, percentile=percentile, edge=edge)
                   for edge in ("left", "right"))
    assert right == pytest.approx(left + width)
    if percentile == 100 and hi == np.abs(x).max():  # their shares add up to less than 1
        left = right
    assert left == pytest.approx(hi, rel=1e-5)
