"""The public reference: it passes itself, wrong answers fail with their smallest input."""

import inspect
import subprocess
import sys

import numpy as np
import pytest

from minicomp import reference
from minicomp.reference import ENTRIES, verify


@pytest.mark.parametrize("name", ENTRIES)
def test_every_reference_passes_its_own_cases(name):
    verify(name, ENTRIES[name].fn, seed=3)


WRONG = {
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
