import itertools

import numpy as np
import pytest

from minicomp.codec import decode, encode
from minicomp.compress import Segmentation, net_of
from minicomp.compress.quant.segments import segment, segment_rows, segments_of
from minicomp.compress.technique import Run
from minicomp.errors import UserError

RNG = np.random.default_rng(3)


def error(x, lengths):
    parts = np.split(x, np.cumsum(lengths)[:-1])
    return sum(np.square(part - part.mean()).sum() for part in parts)


def test_by_hand():
    lengths, cost = segment(np.array([1, 1, 5, 6, 1.0]), 3)
    assert lengths.tolist() == [2, 2, 1] and cost == pytest.approx(0.5)
    assert segment(np.array([1.0, 2]), 1)[1] == pytest.approx(0.5)
    # a price of 0.4: 5 and 6 apart cost it, together 0.5; a price of 0.6: together
    x = np.array([[1, 1, 5, 6, 1.0]])
    assert segment_rows(x, 0.4, longest=5)[0].tolist() == [2, 1, 1, 1]
    assert segment_rows(x, 0.6, longest=5)[0].tolist() == [2, 2, 1]
    assert segment_rows(x * 0, 0.6, longest=2)[0].tolist() in ([2, 2, 1], [1, 2, 2], [2, 1, 2])


@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_no_cut_into_as_many_runs_errs_less(n):
    x = RNG.standard_normal(n)
    for s in range(1, n + 1):
        every = [np.diff([0, *cuts, n]) for cuts in itertools.combinations(range(1, n), s - 1)]
        lengths, cost = segment(x, s)
        assert len(lengths) == s and lengths.sum() == n
        np.testing.assert_allclose(cost, min(error(x, cut) for cut in every), atol=1e-12)
        np.testing.assert_allclose(cost, error(x, lengths), atol=1e-12)


@pytest.mark.parametrize("longest", [2, 3, 9])
@pytest.mark.parametrize("lam", [0.0, 0.3, 2.0])
def test_no_cut_at_the_price_costs_less(lam, longest):
    x = RNG.standard_normal((3, 9))
    for row, lengths in zip(x, segment_rows(x, lam, longest=longest)):
        every = [np.diff([0, *cuts, 9]) for s in range(9)
                 for cuts in itertools.combinations(range(1, 9), s)]
        best = min(error(row, cut) + lam * len(cut) for cut in every if max(cut) <= longest)
        assert lengths.max() <= longest
        np.testing.assert_allclose(error(row, lengths) + lam * len(lengths), best, atol=1e-12)


@pytest.mark.parametrize("runs", [4, 9, 20, 36])
def test_at_most_so_many_runs_and_none_of_as_few_errs_less(runs):
    x = RNG.standard_normal((1, 36))
    lengths = segments_of(x, runs, longest=36)[0]
    assert len(lengths) <= runs
    np.testing.assert_allclose(error(x[0], lengths), segment(x[0], len(lengths))[1], atol=1e-9)
    assert len(lengths) >= runs - 3 or runs == 36


def test_an_offset_changes_nothing():
    x = RNG.standard_normal((2, 40))
    a, b = (segment_rows(x + shift, 0.7, longest=9) for shift in (0, 1e4))
    assert all(np.array_equal(p, q) for p, q in zip(a, b))


def test_blocks_are_found_and_take_few_bytes():
    blocks = np.repeat(RNG.standard_normal((32, 10)), 8, axis=1).astype(np.float32)
    model = Segmentation(run=8.0, bits=8).apply(net_of(blocks), None, Run(np.random.default_rng(0)))
    form = next(iter(model.forms().values()))
    assert form.count == 320 and (form.lengths == 8).all()
    step = form.levels.scale.data[0]
    assert np.abs(form.dense().data - blocks).max() <= step / 2 * 1.001
    assert sum(decode(encode(model)).rows[0].parts.values()) < 1.3 * 320  # of 2,560 weights


def test_the_mean_run_is_as_asked_and_shorter_runs_err_less():
    w = RNG.standard_normal((24, 60)).astype(np.float32)
    errors = []
    for run in (1.5, 2.0, 4.0):
        model = Segmentation(run=run).apply(net_of(w), None, Run(np.random.default_rng(0)))
        form = next(iter(model.forms().values()))
        assert run <= w.size / form.count < 1.02 * run
        errors.append(np.square(form.dense().data - w).mean())
    assert errors == sorted(errors) and errors[0] < 0.3 * errors[2]
    # cutting where it is best errs less than cutting into pairs
    pairs = np.repeat(w.reshape(-1, 2).mean(axis=1), 2).reshape(w.shape)
    assert errors[1] < 0.7 * np.square(pairs - w).mean()


def test_wrong_values_are_refused():
    for s in (0, 4):
        with pytest.raises(ValueError, match=rf"s must be in \[1, 3\], got {s}"):
            segment(np.ones(3), s)
    for bad in (np.ones((2, 2)), np.array([1, np.nan])):
        with pytest.raises(ValueError, match=r"x must be \(n,\) and finite"):
            segment(bad, 1)


def test_runs_that_the_longest_does_not_allow_are_refused_and_layers_are_told():
    model, rows = net_of(np.ones((2, 65)), np.ones((3, 2))), []
    with pytest.raises(UserError, match=r"run@fc1 must be at most 21.67, what runs of at most 32 "
                                        r"\(longest\) leave, got 33"):
        Segmentation(run=33.0).apply(model, None, Run(None))
    Segmentation(run=1.0).apply(model, None, Run(None, rows.append))
    told = [(r["done"], r["total"]) for r in rows if r["event"] == "progress"]
    assert told == [(1, 2), (2, 2)]
