"""The table of learned step sizes: what is compared, in which schedule, when a row is met."""

import pytest

from minicomp.compress import LSQ, QAT
from minicomp.compress.finetune import FineTune
from minicomp.papers import PAPERS, lsq2020
from minicomp.papers.lsq2020 import LONG, SHORT, rows_of, table, wide
from minicomp.quality import Agreement


def counted(**more):
    # Errors of 10,000 images in two seeds, and what goes with them.
    errors = {("float", 32): 70, ("long", 2): 85, ("lsq", 2): 100, ("lsq", 3): 80, ("lsq", 4): 75,
              ("lsq", 8): 70, ("qat", 2): 200, ("qat", 3): 100, ("qat", 4): 80,
              ("rounded", 2): 9000, ("rounded", 3): 4000, ("rounded", 4): 300, ("plain", 2): 110}
    errors |= {tuple([k.rstrip("0123456789"), int(k.lstrip("abcdefghijklmnopqrstuvwxyz"))]): v
               for k, v in more.items()}
    lists = {key: [e - 1, e + 1] for key, e in errors.items()}
    agreed = {k: [Agreement(10, 10_000, 0.25), Agreement(30, 10_000, 0.75)] for k in lists}
    return table(lists, {k: [900, 1100] for k in lists}, dict.fromkeys(lists, 2.0), agreed, 10_000)


def test_all_rows_are_met_where_the_claims_hold():
    rows = counted()
    assert [row["met"] for row in rows] == [True] * 6
    assert rows[0]["ours"] == ("0.85 % (0.84..0.86), floats 0.70 % (0.69..0.71); file 1,000 bytes; "
                               "0.20 % flipped, KL 0.5")
    assert rows[0]["seconds"] == 4 and rows[1]["seconds"] == 8
    assert rows[1]["ours"].startswith("0.70 % (0.69..0.71), 0.75 %")


@pytest.mark.parametrize("i, more", [
    (0, {"long2": 92}), (1, {"lsq4": 90}), (1, {"lsq3": 101, "lsq2": 100}), (2, {"qat4": 74}),
    (3, {"rounded3": 79}), (4, {"qat2": 99}), (5, {"plain2": 99}),
])
def test_a_row_is_not_met_where_its_claim_fails(i, more):
    assert not counted(**more)[i]["met"]


def test_first_and_last_have_8_bits_and_all_one_schedule():
    assert wide(2) == {"*": 2, "conv1": 8, "fc3": 8}
    for bits in (2, 3, 4, 8):
        for word, training in rows_of(bits).items():
            (method,) = training.methods
            assert method.bits == method.act_bits == wide(bits)
            assert type(method) is (QAT if word == "qat" else LSQ)
            known = LONG if word == "long" else {"epochs": 0} if word == "rounded" else SHORT
            assert training == FineTune(methods=(method,), **known)
    assert not rows_of(2)["plain"].methods[0].gain and "qat" not in rows_of(8)
    assert PAPERS["lsq2020"] is lsq2020.PAPER
