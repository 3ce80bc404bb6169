import numpy as np
import pytest

from minicomp.compress import FitNets
from minicomp.papers import PAPERS
from minicomp.papers.distilling import packed
from minicomp.papers.fitnets2015 import SETTING, table

ERRORS = {"teacher": 60, "plain": 190, "KD": 120, "FitNet": 100}


def rows(**more):
    lines = [{"arm": "KD: candidate", "seed": None, "errors": 9, "seconds": 1.0}]
    lines += [{"arm": arm, "seed": seed, "errors": n - 1 + 2 * seed, "seconds": 2.0,
               "file_bytes": 900 + 200 * seed,
               "wrong": packed(np.arange(10_000) < n - 1 + 2 * seed)}
              for seed in (0, 1) for arm, n in (ERRORS | more).items()]
    return table(lines)


def test_the_row_is_met_where_fitnet_errs_least():
    (row,) = rows()
    assert row["met"] and row["seconds"] == 17
    assert row["ours"].startswith("0.60 % (0.59..0.61), 1.90 % (1.89..1.91), 1.20 % (1.19..1.21), "
                                  "1.00 % (0.99..1.01); FitNet beside plain -0.90 (-1.08..-0.7")
    assert row["ours"].endswith("file 1,000 bytes")
    assert not rows(FitNet=120)[0]["met"] and not rows(plain=99)[0]["met"]


def test_nets_are_small_and_the_hint_fits():
    nets = {name: make(rng=np.random.default_rng(0))
            for name, make in (("teacher", SETTING.teacher), ("student", SETTING.student))}
    sizes = {name: (sum(form.values().size for form in net.forms().values()),
                    sum(net.macs().values())) for name, net in nets.items()}
    assert sizes == {"teacher": (29_066, 1_924_992), "student": (6_650, 762_768)}
    for candidate in SETTING.arms["FitNet"]:
        FitNets(teachers=nets["teacher"], **candidate["methods"]["fitnets"]).check(nets["student"])
    assert PAPERS["fitnets2015"].run == SETTING.run


@pytest.mark.parametrize("name", ["plain", "KD", "FitNet"])
def test_no_student_is_shifted_or_trained_for_longer(name):
    for candidate in SETTING.arms[name]:
        assert not set(candidate) - {"lr", "methods"}
    assert "shift" not in SETTING.training and SETTING.training["epochs"] <= 30
