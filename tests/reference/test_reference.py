"""The public reference: it passes itself, wrong answers fail with their smallest input."""

import inspect
import subprocess
import sys

import numpy as np
import pytest

from minicomp import reference
from minicomp.grid import code_range
from minicomp.nn.layers.binary import input_scales
from minicomp.reference import ENTRIES, verify


@pytest.mark.parametrize("name", ENTRIES)
def test_every_reference_passes_its_own_cases(name):
    verify(name, ENTRIES[name].fn, seed=3)


WRONG = {
    "parent_of": lambda errors, drawn: int(np.argmin(errors)),  # of all, not of the sample
    "taken_out": lambda errors, remove: int(np.argmax(errors)),  # the worst, whatever is asked
    "mixture": lambda outputs, alpha: np.tensordot(alpha, outputs, 1),  # no softmax
    "mixture_gradient": lambda g, outputs, alpha: (outputs * g).reshape(len(alpha), -1).sum(1),
    "likeliest": lambda alphas, codes: int(np.argmax(  # the mean, not the product
        sum(np.exp(a - a.max())[codes[:, i]] / np.exp(a - a.max()).sum()
            for i, a in enumerate(alphas)))),
    "sliced": lambda w, shape: w[tuple(map(slice, shape))],  # the corner of a kernel
    "order0_bits": lambda symbols: len(symbols) * np.log2(len(np.unique(symbols))),  # all equal
    "conditional_bits": lambda symbols, contexts: ENTRIES["order0_bits"].fn(symbols),
    "adaptive_bits": lambda symbols, k, first: ENTRIES["adaptive_bits"].fn(symbols, k, 1.0),
    "encode_bits": lambda bits, p: np.packbits(bits.astype(np.uint8)),
    "decode_bits": lambda data, p: (p > 32768).astype(np.uint8),
    "rans_slots": lambda freq: freq * 4096 // freq.sum(),  # does not sum up
    "rans_encode": lambda symbols, freq, lanes: ENTRIES["rans_encode"].fn(
        symbols[::-1].copy(), freq, lanes),
    "rans_decode": lambda data, n, freq, lanes: ENTRIES["rans_decode"].fn(
        data, n, freq, lanes)[::-1],
    "fold_bn": lambda w, b, gain, bias: (  # the layer's own bias is not scaled
        w * gain.reshape(-1, *[1] * (w.ndim - 1)), bias + (0 if b is None else b)),
    "equalisation_factors": lambda r1, r2: np.where(  # both ranges 1, not equal to each other
        (r1 > 0) & (r2 > 0), r1, 1.0),
    "absorbed": lambda beta, gamma: np.maximum(0, beta - 3 * gamma),  # gamma may be below 0
    "magnitude_mask": lambda w, sparsity: np.abs(w)
    > np.quantile(np.abs(w), sparsity),  # ties all go
    "nm_mask": lambda w, n, m: np.abs(w) > 0,
    "lamp_score": lambda w: w * w / np.sum(w * w),
    "agp_sparsity": lambda t, s_i, s_f, t0, n, dt: s_f
    + (s_i - s_f) * (1 - min(max((t - t0) / (n * dt), 0), 1)),
    "surgery_mask": lambda w, mask, a, b: np.abs(w) >= a,  # no memory between the thresholds
    "movement_scores": lambda w, g, lr: lr * (g * w).sum(axis=0),  # the sign is the gradient's
    "fpgm_score": lambda w: np.square(w[:, None] - w[None]).reshape(len(w), len(w), -1).sum((1, 2)),
    "quality_threshold": lambda w, quality: quality * float(np.std(w)),  # zeros counted
    "percentile_threshold": lambda w, percentile: float(np.quantile(w, percentile)),
    "bank_mask": lambda w, sparsity, blocks: ENTRIES["magnitude_mask"].fn(w, sparsity),
    "bias_mask": lambda b, threshold: np.abs(b) >= threshold,
    "taylor_score": lambda w, g: np.abs(g * w),  # SNIP's
    "snip_score": lambda w, g: g * w,
    "wanda_score": lambda w, norm: np.abs(w),
    "surgery_thresholds": lambda w, c: (
        0.9 * (np.abs(w).mean() + c * np.abs(w).std()),  # below 0 where c is
        1.1 * (np.abs(w).mean() + c * np.abs(w).std()),
    ),
    "filter_norms": lambda w, order: np.square(w).reshape(len(w), -1).sum(axis=1),  # no root
    "l1_subgradient": lambda gamma, lam: lam * gamma,  # weight decay's
    "apoz": lambda a: (a == 0).mean(axis=0),  # maps are not averaged
    "lasso": lambda G, r, lam: np.linalg.solve(G, r),  # no penalty
    "dead_units": lambda masks: [np.ones(masks[0].shape[1], bool)]
    + [m.any(axis=1) for m in masks],  # one layer at a time
    "obs_saliency": lambda w, Hinv: w * w / np.diag(Hinv),  # the half is missing
    "obs_step": lambda w, Hinv, q: (
        np.where(np.arange(len(w)) == q, 0.0, w),
        w[q] ** 2 / (2 * Hinv[q, q]),
    ),
    "inverse_hessian": lambda X, alpha: np.linalg.inv(
        alpha * np.eye(X.shape[1]) + X.T @ X
    ),  # 1 / P is missing
    "rectified_mean": lambda beta, gamma, top: np.clip(beta, 0, top),  # of the mean, not the mean
    "bias_shift": lambda error, mean, groups: -ENTRIES["bias_shift"].fn(error, mean, groups),
    "weight_correction": lambda w, w_hat, form: w_hat + (  # the mean alone
        w.mean(axis=1) - w_hat.mean(axis=1))[:, None],
    "sqnr": lambda x, y: 10 * np.log10((x @ x) / max((x - y) @ (x - y), 1e-300)) / 2,
    "kl_of_logits": lambda z, reference: ENTRIES["kl_of_logits"].fn(reference, z),
    "obd_saliency": lambda u, h: h * u * u,  # the half is missing
    "obd_unit": lambda h_x, g_x, f1, f2: (  # the sign as printed
        f1 * f1 * h_x - (0 if f2 is None else f2 * g_x)
    ),
    "obd_weight": lambda h_a, x: h_a.T @ x,
    "obd_shared": lambda h, index, k: np.array([h[index == i].mean() if (index == i).any() else 0
                                                for i in range(k)]),
    "obc_trace": lambda w, Hinv: (
        np.argsort(w * w / np.diag(Hinv), kind="stable"),  # nothing moves
        np.sort(w * w / np.diag(Hinv)) / 2,
    ),
    "sparsegpt": lambda W, Hinv, amount: (W, np.ones(W.shape, bool)),
    "gptq": lambda W, Hinv, scale, bits: ENTRIES["gptq"].fn(W, np.eye(len(Hinv)), scale, bits=bits),
    "rectified_sigmoid": lambda V: 1 / (1 + np.exp(-V)),  # not stretched: never 0 or 1
    "rounding_regularizer": lambda h, beta: float((np.abs(2 * h - 1) ** beta).sum()),
    "smooth_scale": lambda x_max, w_max, alpha: np.sqrt(x_max / np.maximum(w_max, 1e-9)),
    "awq_scale": lambda x_mean, alpha: x_mean**alpha,  # not around 1
    "allocate": lambda costs, sizes, budget: [0] * len(costs),
    "kmeans_1d": lambda x, k, init, rng, iterations, pinned_zero: (
        np.linspace(x.min(), x.max(), k),
        np.abs(x[:, None] - np.linspace(x.min(), x.max(), k)).argmin(axis=1),
    ),
    "kmeans_1d_optimal": lambda x, k: (np.linspace(x.min(), x.max(), k), 0.0),
    "centroid_gradient": lambda g, index, k: np.array(
        [g[index == i].mean() if (index == i).any() else 0 for i in range(k)]
    ),
    "relative_index": lambda positions, p: (
        np.diff(positions, prepend=-1) - 1,
        np.arange(len(positions)),
    ),
    "huffman_lengths": lambda freq, limit: np.where(
        freq > 0, max(1, int(np.ceil(np.log2(max((freq > 0).sum(), 2))))), 0
    ),
    "canonical_codes": lambda lengths: np.argsort(lengths).astype(np.uint32),
    "pack_bits": lambda values, width: (
        np.packbits([[v >> i & 1 for i in range(width)][::-1] for v in values])
        if len(values)
        else np.zeros(0, np.uint8)
    ),
    "unpack_bits": lambda data, width, n: np.zeros(n, np.uint8),
    "affine_params": lambda r_min, r_max, bits, grid: (  # 0 is not in every range
        np.float32((np.asarray(r_max) - r_min) / (2**bits - 1)), np.zeros(np.shape(r_min), int)),
    "symmetric_scale": lambda peak, bits, grid: np.float32(peak / (2 ** (bits - 1) - 0.5)),
    "quantize": lambda x, scale, zero_point, bits, grid: np.clip(  # half away from zero
        np.floor(x / scale + 0.5).astype(int) + zero_point, *code_range(bits, grid)),
    "dequantize": lambda q, scale, zero_point: scale * q - zero_point,
    "fake_quantize": lambda x, scale, zero_point, lo, hi: scale * np.rint(x / scale),  # no clip
    "fake_quantize_gradient": lambda x, scale, zero_point, lo, hi: np.ones_like(x),
    "kl_threshold": lambda counts, width, levels: (len(counts) * width, 0.0),  # min-max
    "symmetric_kl_threshold": lambda counts, width, levels: ENTRIES["kl_threshold"].fn(
        counts, width, levels=levels),
    "js_threshold": lambda counts, width, levels: (  # scipy's is the root
        ENTRIES["js_threshold"].fn(counts, width, levels=levels)[0],
        ENTRIES["js_threshold"].fn(counts, width, levels=levels)[1] ** 0.5),
    "histogram_percentile": lambda counts, width, percentile, edge: width * (  # edge is ignored
        int(np.searchsorted(np.cumsum(counts), percentile / 100 * counts.sum())) + 1),
    "ema": lambda a, batch, decay: (1 - decay) * a + decay * batch,
    "initial_step": lambda v, Qp: np.float32(2 * np.abs(v).mean() / Qp),
    "step_gain": lambda n, Qp: 1 / np.sqrt(n),
    "lsq_gradients": lambda v, s, lo, hi, gain: (  # the slope of the clipped alone
        (np.abs(v / s) < hi).astype(float), gain * np.clip(np.rint(v / s), lo, hi).sum()),
    "pact_gradients": lambda x, alpha, k: ((x > 0).astype(float), float((x >= alpha).sum())),
    "dorefa_weights": lambda w, k: np.rint((2**k - 1) * np.tanh(w)) / (2**k - 1),
    "dorefa_activations": lambda a, k: np.rint((2**k - 1) * a) / (2**k - 1),  # not clipped
    "largest_exponent": lambda s: int(np.floor(np.log2(s))),
    "inq_quantize": lambda w, n1, bits: np.sign(w) * 2.0 ** np.clip(  # where the logarithm rounds
        np.rint(np.log2(np.abs(w) + 1e-30)), n1 + 1 - 2 ** (bits - 2), n1),
    "inq_frozen": lambda w, frozen, live, portion: np.abs(w) > np.quantile(np.abs(w), 1 - portion),
    "binarize": lambda x: np.sign(x),  # 0 for 0
    "stochastic_signs": lambda x, u: np.where(u < x, 1.0, -1.0),
    "ap2": lambda x: np.sign(x) * 2.0 ** np.floor(np.log2(np.abs(np.where(x, x, 1)))),  # down
    "glorot": lambda shape: np.sqrt(6 / (shape[0] + shape[1])),
    "ternary_codes": lambda w, delta: np.sign(w).astype(np.int8) * (np.abs(w) >= delta),
    "twn": lambda w: (np.sign(np.rint(w / np.abs(w).mean())).astype(np.int8), np.abs(w).mean()),
    "ttq_codes": lambda w, t: np.sign(w).astype(np.int8) * (np.abs(w) > t),  # not of the largest
    "ttq_scales": lambda w, codes: (np.abs(w[codes != 0]).mean(),) * 2,  # one for both
    "ttq_gradients": lambda g, codes, Wp, Wn: (  # as printed
        g * np.where(codes > 0, Wp, np.where(codes < 0, Wn, 1)), g[codes > 0].sum(),
        g[codes < 0].sum()),
    "bwn_scale": lambda w: np.full(len(w), np.abs(w).mean()),  # one for all filters
    "bwn_gradient": lambda g, w, gradient: g * (np.abs(w) <= 1),  # without alpha
    "abc_bases": lambda w, M: np.stack([  # std of a sample
        np.where(w - w.mean() + u * w.std(ddof=1) < 0, -1.0, 1.0) for u in np.linspace(-1, 1, M)]),
    "abc_alphas": lambda w, B: (B * w).mean(axis=1),  # as if bases were orthogonal
    "binary_sum": lambda x, beta, shift: sum(  # thresholds v, not 1/2 - v
        b * np.where(x >= v, 1.0, -1.0) for b, v in zip(beta, shift)),
    "input_scales": lambda x, kernel_size, stride, padding: input_scales(  # the size of a mean
        x.mean(axis=1, keepdims=True), kernel_size, stride, padding),
    "mse_range": lambda x, bits, grid: (min(x.min(), 0.0), max(x.max(), 0.0)),  # min-max
    "uniform_levels": lambda a, b, n, ends: np.linspace(a, b, n),  # ends kept always
    "uniform_codes": lambda x, a, b, n, ends: np.clip((x - a) / (b - a) * n, 0, n - 1).astype(int),
    "sign_magnitude": lambda q, bits: np.abs(q).astype(np.uint32),
    "twos_complement": lambda q, bits: np.abs(q).astype(np.uint32),
    "power_levels": lambda top, n: np.sort(ENTRIES["power_levels"].fn(top, n)),
    "power_codes": lambda w, top, n, meet: ENTRIES["power_codes"].fn(w, top, n, meet="log"),
    "top_exponent": lambda w, meet: int(np.floor(np.log2(np.abs(w).max()))),
    "log2_quantize": lambda w, bits, meet: np.exp2(np.rint(np.log2(np.abs(w)))),  # no sign
    "additive_levels": lambda bits: np.linspace(-1, 1, 2**bits - 1),
    "additive_codes": lambda w, scale, bits: ENTRIES["additive_codes"].fn(w, 1.0, bits),
    "apot_scale": lambda w, bits, clip: np.abs(w).max(),
    "lloyd_max": lambda x, k, method: (np.linspace(x.min(), x.max(), k), 0.0),
    "balanced_codes": lambda x, k: np.argsort(np.argsort(x)) * 0,
    "cell_means": lambda x, codes, k: np.bincount(codes, weights=x, minlength=k),
    "bucket_quantize": lambda v, u, steps, bucket: np.rint(v * steps) / steps,
    "dwt": lambda x, wavelet, levels: ENTRIES["dwt"].fn(x, wavelet="haar", levels=levels),
    "idwt": lambda c, wavelet, levels: ENTRIES["idwt"].fn(c, wavelet="haar", levels=levels),
    "soft_threshold": lambda c, lam: np.where(np.abs(c) > lam, c, 0).astype(np.float32),  # hard
    "universal_threshold": lambda finest, n: finest.std() * np.sqrt(2 * np.log(n)),
    "segment": lambda x, s: (np.full(s, len(x) // s), 0.0),
    "minifloat_decode": lambda codes, format: np.abs(ENTRIES["minifloat_decode"].fn(codes, format)),
    "minifloat_encode": lambda x, format, saturate: (  # float64 is brought to float16 first
        ENTRIES["minifloat_encode"].fn(np.abs(x).astype(np.float16) + np.float16(1), format,
                                       saturate=True)),
    # codes of the float32 step, and other ties
    "q8_0_encode": lambda x, like: ENTRIES["q8_0_encode"].fn(x, like="gguf"),
    "q4_0_encode": lambda x, like: ENTRIES["q4_0_encode"].fn(x, like="gguf"),
    "mxfp4_encode": lambda x, like: ENTRIES["mxfp4_encode"].fn(x, like="gguf"),
    "mxint8_encode": lambda x: ENTRIES["mxint8_encode"].fn(np.float32(1.5) * x),
    # the tensor's scale is left out; neighbours in the other order
    "nvfp4_encode": lambda x: (ENTRIES["nvfp4_encode"].fn(x)[0], np.float32(1)),
    "nf4_encode": lambda x: (ENTRIES["nf4_encode"].fn(x.reshape(-1, 2)[:, ::-1])),
    "nvfp4_decode": lambda data, tensor: ENTRIES["nvfp4_decode"].fn(data, 1),
    "nf4_decode": lambda codes, peaks: ENTRIES["nf4_decode"].fn(codes >> 4 | codes << 4, peaks),
    **{f"{name}_decode": lambda data, name=name: ENTRIES[f"{name}_decode"].fn(data)[::-1]
       for name in ("q8_0", "q4_0", "mxfp4", "mxint8")},
    "nearest_fixed": lambda x, il, fl: np.clip(  # half to even
        np.rint(x * 2.0**fl), -(2.0 ** (il + fl - 1)), 2.0 ** (il + fl - 1) - 1) * 2.0**-fl,
    "stochastic_fixed": lambda x, u, il, fl: ENTRIES["nearest_fixed"].fn(x, il, fl),
    "fixed_dot": lambda a, b, il, fl: float(  # every product is rounded
        ENTRIES["nearest_fixed"].fn(ENTRIES["nearest_fixed"].fn(a * b, il, fl).sum(), il, fl)),
    "splitmix_uniform": lambda n, key: np.zeros(n, np.float32),
    "pack_signs": lambda x: ENTRIES["pack_signs"].fn(np.where(x == 0, -1, x)),  # sign(0) = -1
    # of whole words: those behind the last are counted as equal
    "xnor_dot": lambda a, b, n: 64 * len(a) - 2 * int(np.bitwise_count(a ^ b).sum()),
    "threshold_bits": lambda acc, at, below: ENTRIES["threshold_bits"].fn(acc, at, ~below),
    "binary_conv": lambda x, w, stride, padding, pad: ENTRIES["binary_conv"].fn(
        x, w, stride, padding, -1),  # 0 is no sign
    "low_rank": lambda w, rank: w * (np.arange(w.shape[1]) < rank),  # the first columns
    "eckart_young": lambda w, rank: float(  # not squared
        np.linalg.svd(w, compute_uv=False)[rank:].sum()),
    "break_even_rank": lambda m, k: m * k // (m + k),  # where both hold as many
    "energy_rank": lambda s, energy: 1 + int(  # not of squares
        np.searchsorted(np.cumsum(s), energy * s.sum() * (1 - 1e-12))),
    "ranks_under_bytes": lambda spectra, shapes, budget: [1] * len(shapes),
    "whitened_low_rank": lambda w, moment, rank: ENTRIES["low_rank"].fn(w, rank),
    "weight_low_rank": lambda w, rank: ENTRIES["spatial_low_rank"].fn(
        w, min(rank, w.shape[0] * w.shape[3])),
    "spatial_low_rank": lambda w, rank: ENTRIES["weight_low_rank"].fn(w, 1),
    "evbmf_rank": lambda v: int(np.linalg.matrix_rank(v)),
    "tucker2_full": lambda core, A, B: np.einsum("op,pqij,cq->ocij", A, core[..., ::-1], 2 * B),
    "tucker2_reconstruct": lambda w, ranks: 0 * w,
    "cp_reconstruct": lambda A, B, V, H: np.einsum("or,cr,ir,jr->ocji", A, B, V, H),
    "flattened_filters": lambda alpha, beta, gamma: np.einsum(
        "oc,oi,oj->ocij", alpha, beta, gamma[:, ::-1]),
    "flattened_conv": lambda x, alpha, beta, gamma: ENTRIES["flattened_conv"].fn(  # convolution
        x, alpha, beta[:, ::-1], gamma[:, ::-1]),
    "randomized_low_rank": lambda w, omega, power: ENTRIES["low_rank"].fn(w, len(omega)),
    "splitmix64": lambda n, key: ENTRIES["splitmix64"].fn(n, key, first=1),
    "hash_places": lambda n, k, seed: (  # the remainder
        (ENTRIES["splitmix64"].fn(n, seed) % np.uint64(k)).astype(np.uint32),
        np.ones(n, np.int8)),
    "hashed_weights": lambda w, shape, seed: np.abs(ENTRIES["hashed_weights"].fn(w, shape, seed)),
    "circulant_product": lambda x, columns, signs, outputs, block: (
        ENTRIES["circulant_product"].fn(x[:, ::-1], columns, signs, outputs, block)),
    "circulant_gradient": lambda g, x, signs, block: ENTRIES["circulant_gradient"].fn(
        g, x[:, ::-1], signs[::-1], block),  # convolution in place of correlation
    "dictionary_weights": lambda atoms, counts, index, coefficient, shape: (  # one look-up each
        ENTRIES["dictionary_weights"].fn(atoms, np.minimum(counts, 1), index, coefficient, shape)),
    "lookup_conv": lambda x, atoms, counts, index, coefficient, shape, stride, padding: (
        ENTRIES["lookup_conv"].fn(x[:, :, ::-1, ::-1], atoms, counts, index, coefficient, shape,
                                  stride, padding)),
    "orthogonal_pursuit": lambda X, D, s: ENTRIES["orthogonal_pursuit"].fn(X, D, 1),
    "hashed_gradient": lambda g, k, seed: ENTRIES["hashed_gradient"].fn(np.ones_like(g), k, seed),
    "nearest_vector": lambda x, centroids: (x @ centroids.T).argmax(axis=1),  # their lengths count
    "kmeans_vectors": lambda x, k, starts: ENTRIES["kmeans_vectors"].fn(x, k, starts=starts,
                                                                        iterations=0),
    "product_decode": lambda codes, codebooks, columns: ENTRIES["product_decode"].fn(
        codes[:1], codebooks, columns),  # one stage
    "product_gradient": lambda g, codes, k, block, shared: ENTRIES["product_gradient"].fn(
        g / len(g), codes, k, block, shared),  # a mean
    "product_bits": lambda rows, columns, block, k, stages, shared, float_bits: (
        stages * rows * -(-columns // block) * (k - 1).bit_length()),  # codebooks for nothing
    "product_break_even": lambda columns, **how: how["k"],
    "residual_sum": lambda codes, codebooks: codebooks[0][codes[0]],
    "beam_codes": lambda x, codebooks, beam: ENTRIES["beam_codes"].fn(x, codebooks, 1),
    "least_squares_codebooks": lambda x, codes, codebooks: codebooks,
    "input_moments": lambda H, columns, weighting: H.mean(axis=0)[:columns, :columns],
    "code_bits": lambda counts: -np.log(counts / counts.sum()),  # nats
    "refit_step": lambda w, points, step, h: ENTRIES["refit_step"].fn(w, points, step),
    "rd_codes": lambda w, step, bits, lam, h: ENTRIES["rd_codes"].fn(w, step, bits, 0.0, h),
    "trellis_path": lambda k, states: ENTRIES["trellis_path"].fn(k + 1, states),
    "trellis_points": lambda k, states: 2 * k,  # Q0 alone
    "trellis_codes": lambda w, step, bits, lam, states, h: ENTRIES["trellis_codes"].fn(
        w, step, bits, 0.0, states=states, h=h),
    "rate_slope": lambda w, step, bits: ENTRIES["rate_slope"].fn(w - step, step, bits),
    "latent_rate": lambda x, psi: ENTRIES["latent_rate"].fn(np.rint(x), psi),  # rounded
    "kl_log_uniform": lambda log_alpha: ENTRIES["kl_log_uniform"].fn(log_alpha) + 0.63576,
    "half_cauchy_slopes": lambda mean, log_var, tau: (mean, 0.5 * (np.exp(log_var) - 1)),
    "posterior_variance": lambda mu, log_var, z, z_var: z * z * np.exp(log_var) + z_var * mu * mu,
    "kl_slope": lambda log_alpha: -ENTRIES["kl_slope"].fn(log_alpha),
    "mixture_slopes": lambda w, mu, log_lam, log_pi: ENTRIES["mixture_slopes"].fn(
        w, mu, -log_lam, log_pi),  # variances for precisions
    "gaussian_kl": lambda mu, log_lam: ENTRIES["gaussian_kl"].fn(mu, log_lam).T,
    "merged_components": lambda mu, log_lam, pi, limit: (mu, log_lam, pi),
    "assigned_components": lambda w, mu, log_lam, pi: np.abs(  # the nearest mean
        w[:, None] - mu).argmin(axis=1),
    "soft_targets": lambda z, T: ENTRIES["soft_targets"].fn(z * T, 1.0),
    "mean_targets": lambda z, T, mean: ENTRIES["soft_targets"].fn(z.mean(axis=0), T) / 2,
    "soft_gradient": lambda z, p, T: ENTRIES["soft_targets"].fn(z, T) - p,  # 1 / T is missing
    "high_temperature_gradient": lambda z, v, T: (z - v) / (z.shape[1] * T * T),  # not centred
    "distillation": lambda z, v, y, T, alpha: (  # T^2 is missing
        ENTRIES["distillation"].fn(z, v, y, T, alpha)[0],
        ENTRIES["distillation"].fn(z, v, y, T, alpha / T**2)[1]),
    "attention_map": lambda a, p: (np.abs(a) ** p).sum(axis=1).reshape(len(a), -1),  # no norm
    "fsp_matrix": lambda a, b: np.einsum("nist,njst->nij", a, b),  # not divided
    "regressed": lambda v, w, b: ENTRIES["regressed"].fn(v, w, 0 * b),
}


@pytest.mark.parametrize("name", ENTRIES)
def test_a_wrong_answer_fails_with_its_input(name):
    with pytest.raises(AssertionError, match=rf"^{name}, case \d+: .*\n") as failure:
        verify(name, WRONG[name])
    assert "rule:" in str(failure.value) and "got" in str(failure.value)


def test_a_function_that_raises_fails_with_its_input():
    with pytest.raises(AssertionError, match="raised ZeroDivisionError"):
        verify("pack_bits", lambda values, width: 1 / 0)


def test_the_smallest_failing_input_comes_first():
    def wrong_from_four(w, sparsity):
        return ENTRIES["magnitude_mask"].fn(w, sparsity) if len(w) < 7 else np.ones(len(w), bool)

    with pytest.raises(AssertionError, match=r"w = \[[^\]]*\]") as failure:
        verify("magnitude_mask", wrong_from_four)
    assert str(failure.value).count(" -") + str(failure.value).count("  ") < 60


def test_of_two_failing_inputs_the_one_of_fewer_numbers_is_shown():
    def wrong_for_many(values, width):
        return ENTRIES["pack_bits"].fn(values, width) if len(values) < 3 else np.zeros(0, np.uint8)

    with pytest.raises(AssertionError, match=r"values = \[\d+ \d+ \d+\], width") as failure:
        verify("pack_bits", wrong_for_many)
    assert "pack_bits, case" in str(failure.value)


@pytest.mark.parametrize("name", ENTRIES)
@pytest.mark.parametrize(
    "answer", [None, "text", (), object(), np.zeros((2, 2, 2)), (None, None), {}]
)
def test_answers_of_another_kind_are_wrong_answers(name, answer):
    with pytest.raises(AssertionError, match="expected:"):
        verify(name, lambda **case: answer)


def test_figure_3_is_the_first_case_of_kmeans():
    # Han et al. 2016, figure 3: the codes and centroids that the figure prints.
    case, *_ = ENTRIES["kmeans_1d"].cases(reference.Draw(0))
    centroids, index = ENTRIES["kmeans_1d"].fn(**case)
    np.testing.assert_array_equal(index, [3, 0, 2, 1, 1, 1, 0, 3, 0, 3, 1, 0, 3, 1, 2, 2])
    np.testing.assert_allclose(centroids, [-1, 0, 1.5, 2], atol=1e-6)
    assert ENTRIES["kmeans_1d"].judge(case, (centroids, index)) is None
    shifted = centroids.copy()
    shifted[2] += 0.01
    assert "squared error" in ENTRIES["kmeans_1d"].judge(case, (shifted, index)).text
    moved = index.copy()
    moved[0] = 2
    assert "nearest" in ENTRIES["kmeans_1d"].judge(case, (centroids, moved)).text


def test_rules_are_passed_on():
    seen = []
    verify(
        "pack_bits",
        lambda values, width, order: seen.append(order) or ENTRIES["pack_bits"].fn(values, width),
        order="little",
    )
    assert set(seen) == {"little"}


@pytest.mark.parametrize("name", ENTRIES)
def test_arguments_may_be_called_otherwise_and_come_in_the_reference_s_order(name):
    case, *_ = ENTRIES[name].cases(reference.Draw(0))
    names = [n for n in inspect.signature(ENTRIES[name].fn).parameters if n in case]
    mine = {n: f"my_{n}" for n in names}
    space = {"fn": ENTRIES[name].fn}
    given = ", ".join(f"{n}={m}" for n, m in mine.items())
    exec(f"def renamed({', '.join(mine.values())}): return fn({given})", space)
    verify(name, space["renamed"])
    with pytest.raises(ValueError, match=rf"^{name}: fn must take {names[0]}.*, got a function of"):
        verify(name, lambda: None)


def test_a_function_that_takes_other_arguments_is_told_which():
    with pytest.raises(ValueError,
                       match=r"pack_bits: fn must take values, width, by these names or in this "
                       r"order and order by name, got a function of \(a, b, c, \*, d\)"):
        verify("pack_bits", lambda a, b, c, *, d: None, order="little")


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="name must be one of magnitude_mask"):
        verify("nothing", print)


def test_importing_it_loads_numpy_only():
    code = (
        "import sys, minicomp.reference; "
        "others = ('scipy', 'matplotlib', 'rich', 'torch', 'sklearn', 'threadpoolctl', "
        "'safetensors'); "
        "print([m for m in others if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
