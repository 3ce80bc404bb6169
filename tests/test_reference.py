"""The public reference: it passes itself, wrong answers fail with their smallest input, vectors read back."""

import json
import subprocess
import sys

import numpy as np
import pytest

from minicomp import reference
from minicomp.reference import ENTRIES, verify, write_vectors


@pytest.mark.parametrize("name", ENTRIES)
def test_every_reference_passes_its_own_cases(name):
    verify(name, ENTRIES[name].fn, seed=3)


WRONG = {
    "magnitude_mask": lambda w, sparsity: np.abs(w) > np.quantile(np.abs(w), sparsity),  # ties all go
    "nm_mask": lambda w, n, m: np.abs(w) > 0,
    "lamp_score": lambda w: w * w / np.sum(w * w),
    "agp_sparsity": lambda t, s_i, s_f, t0, n, dt: s_f + (s_i - s_f) * (1 - min(max((t - t0) / (n * dt), 0), 1)),
    "surgery_mask": lambda w, mask, a, b: np.abs(w) >= a,  # no memory between the thresholds
    "obs_saliency": lambda w, Hinv: w * w / np.diag(Hinv),  # the half is missing
    "obs_step": lambda w, Hinv, q: (np.where(np.arange(len(w)) == q, 0.0, w), w[q] ** 2 / (2 * Hinv[q, q])),
    "inverse_hessian": lambda X, alpha: np.linalg.inv(alpha * np.eye(X.shape[1]) + X.T @ X),  # 1 / P is missing
    "kmeans_1d_optimal": lambda x, k: (np.linspace(x.min(), x.max(), k), 0.0),
    "centroid_gradient": lambda g, index, k: np.array([g[index == i].mean() if (index == i).any() else 0
                                                       for i in range(k)]),
    "relative_index": lambda positions, p: (np.diff(positions, prepend=-1) - 1, np.arange(len(positions))),
    "huffman_lengths": lambda freq, limit: np.where(freq > 0, max(1, int(np.ceil(np.log2(max((freq > 0).sum(), 2))))), 0),
    "canonical_codes": lambda lengths: np.argsort(lengths).astype(np.uint32),
    "pack_bits": lambda values, width: np.packbits([[v >> i & 1 for i in range(width)][::-1] for v in values])
    if len(values) else np.zeros(0, np.uint8),
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


def test_rules_are_passed_on():
    seen = []
    verify("pack_bits", lambda values, width, order: seen.append(order) or ENTRIES["pack_bits"].fn(values, width),
           order="little")
    assert set(seen) == {"little"}


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="name must be one of magnitude_mask"):
        verify("nothing", print)


@pytest.mark.parametrize("name", ["relative_index", "obs_step", "huffman_lengths"])
def test_json_vectors_hold_the_cases_bit_for_bit(name, tmp_path):
    count = write_vectors(name, tmp_path / "v.json", seed=1)
    written = json.loads((tmp_path / "v.json").read_text())
    assert written["contract"] == reference.VERSION and len(written["cases"]) == count
    for case in written["cases"]:
        arguments = {k: _read(v) for k, v in case["arguments"].items()}
        expected = ENTRIES[name].fn(**arguments)
        parts = expected if isinstance(expected, tuple) else (expected,)
        given = case["expected"] if isinstance(expected, tuple) else [case["expected"]]
        for e, g in zip(parts, given, strict=True):
            np.testing.assert_array_equal(_read(g), e)


def _read(plain):
    if not isinstance(plain, dict):
        return plain
    dtype = np.dtype(plain["dtype"])
    if "bits" in plain:
        data = np.array([np.frombuffer(bytes.fromhex(b), dtype.newbyteorder(">"))[0] for b in plain["bits"]], dtype)
        np.testing.assert_array_equal(data, np.array(plain["data"], dtype))
    else:
        data = np.array([int(e) if isinstance(e, str) else e for e in plain["data"]], dtype)
    value = data.reshape(plain["shape"])
    return value if value.ndim else value.item()


def test_npz_vectors_read_back(tmp_path):
    count = write_vectors("pack_bits", tmp_path / "v.npz")
    with np.load(tmp_path / "v.npz", allow_pickle=False) as f:
        for i in range(count):
            np.testing.assert_array_equal(ENTRIES["pack_bits"].fn(f[f"{i}/values"], int(f[f"{i}/width"])),
                                          f[f"{i}/expected/0"])
    with pytest.raises(ValueError, match="path must end in .json or .npz"):
        write_vectors("pack_bits", tmp_path / "v.txt")


def test_importing_it_loads_numpy_only():
    code = ("import sys, minicomp.reference; "
            "print([m for m in ('scipy', 'matplotlib', 'rich', 'torch', 'sklearn', 'threadpoolctl') if m in sys.modules])")
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
