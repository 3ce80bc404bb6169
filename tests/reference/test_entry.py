import numpy as np
import pytest
from minicomp.reference import ENTRIES, Draw
from minicomp.reference.entry import Cases, Entry
from minicomp.teach import catalog

EXERCISES = {e.name: e for of in catalog.lessons().values() for e in of.exercises}
# The lesson asks for something else than the entry: the whole of H, the choice of q as well, counts
# without a limit, one grid of several, histograms that a student can follow, what it costs as well,
# logits of a thousand.
# Cases and judge are its own there, the answer is the entry's.
OWN = {"obd_saliency", "obs_step", "huffman_lengths", "affine_params", "quantize", "kl_threshold",
       "low_rank", "flattened_conv", "lookup_conv", "decode_bits", "soft_targets"}


def test_groups_are_cases_of_their_own_and_all_together():
    cases = Cases(tiny=[{"n": 1}], drawn=lambda draw: [{"n": draw.integer(0, 100)}])
    assert list(cases["tiny"](Draw(0))) == [{"n": 1}]
    assert list(cases["drawn"](Draw(3))) == list(cases["drawn"](Draw(3)))
    assert list(cases(Draw(3))) == [{"n": 1}, *cases["drawn"](Draw(3))]
    with pytest.raises(KeyError):
        cases["golden"]


def test_an_entry_without_a_judge_compares_with_its_function():
    entry = Entry(lambda x: np.sqrt(x), Cases(), "near", "nobody", rtol=1e-3)
    assert entry.judge({"x": np.array([4.0])}, [2.001]) is None
    assert entry.judge({"x": np.array([4.0])}, [2.01]).slug == "wrong-value"


def test_every_exercise_that_is_an_entry_takes_its_answer_cases_and_judge():
    shared = set(EXERCISES) & set(ENTRIES)
    assert len(shared) == 20 and OWN < shared
    for name in shared - OWN:
        e, entry = EXERCISES[name], ENTRIES[name]
        parts = {p.name: p for p in e.parts}
        assert e.reference is entry.fn, name
        for group in ("tiny", "property", "golden"):
            part = parts[group]
            assert part.judge is entry.judge, name
            for mine, theirs in zip(part.cases(Draw(5)), entry.cases[group](Draw(5)), strict=True):
                np.testing.assert_equal(mine, theirs)


def test_the_other_exercises_answer_with_the_entry_too():
    H, w, q = np.array([[2.0, 1.0], [1.0, 2.0]]), np.array([1.0, 3.0]), 0
    saliency = EXERCISES["obd_saliency"].reference(w, H)
    np.testing.assert_array_equal(saliency, ENTRIES["obd_saliency"].fn(w, np.diag(H)))
    moved, rise = ENTRIES["obs_step"].fn(w, np.linalg.inv(H), q)
    mine = EXERCISES["obs_step"].reference(w, np.linalg.inv(H))
    assert mine[:2] == (q, rise) and mine[2].tolist() == moved.tolist()
    assert EXERCISES["soft_targets"].reference is ENTRIES["soft_targets"].fn
    counts = np.array([5, 2, 1, 1])
    assert EXERCISES["huffman_lengths"].reference(counts).tolist() == [1, 2, 3, 3]
    mine = EXERCISES["affine_params"].reference(2.0, 3.4, 8)
    assert mine == tuple(a.item() for a in ENTRIES["affine_params"].fn(2.0, 3.4, bits=8))
    counts = np.array([8.0, 3.0, 2.0, 6.0, 1.0, 0.0])
    assert EXERCISES["kl_threshold"].reference(counts, 0.5, 2) == ENTRIES["kl_threshold"].fn(
        counts, 0.5, levels=2)
    q, back = EXERCISES["quantize"].reference(np.array([-0.5, 2.5, 9.0]), 1.0, 3, 3)
    assert q.tolist() == [3, 5, 7] and back.tolist() == [0, 2, 4]
    w = np.array([[1.0, 2.0, 0.0], [0.0, 1.0, 3.0]])
    mine = EXERCISES["low_rank"].reference(w, 1)
    np.testing.assert_array_equal(mine[0], ENTRIES["low_rank"].fn(w, 1))
    assert mine[1:] == (ENTRIES["eckart_young"].fn(w, 1), 5)
    x, a, b, c = np.arange(24.0).reshape(2, 3, 4), w[0, :2], w[1], w[0, :2]
    y, products = EXERCISES["flattened_conv"].reference(x, a, b, c)
    np.testing.assert_array_equal(y, ENTRIES["flattened_conv"].fn(x, a[None], b[None], c[None])[0])
    assert products == 2 * 12 + 3 * 4 + 2 * 3
    D, c = np.array([[1.0, 2.0], [0.5, -1.0]]), np.full((2, 1, 1, 1), 2.0)
    I = np.array([1, 0]).reshape(c.shape)
    y, products = EXERCISES["lookup_conv"].reference(x, D, I, c)
    np.testing.assert_array_equal(y, ENTRIES["lookup_conv"].fn(
        x[None], D, np.array([1, 1]), np.array([1, 0]), c.ravel(), (2, 2, 1, 1))[0])
    assert products == 4 * 12 + 2 * 12
    data, p = np.array([192], np.uint8), np.array([32768] * 3)
    assert EXERCISES["decode_bits"].reference(data, p).tolist() == ENTRIES["decode_bits"].fn(
        data, p).tolist() == [0, 0, 1]
