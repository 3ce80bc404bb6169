"""The table of quantization-aware training: what is compared, and when a row is met."""

import pytest

from minicomp.papers import PAPERS, jacob2018
from minicomp.papers.jacob2018 import KINDS, ON, _row, techniques
from minicomp.quality import Agreement


@pytest.mark.parametrize("bits, qat, rounded, met", [
    (8, 410, 405, True), (8, 415, 600, False), (4, 425, 900, True), (4, 425, 425, False),
    (4, 435, 900, False),
])
def test_a_row_is_met_where_training_keeps_near_floats(bits, qat, rounded, met):
    keys = {("qat", bits, "tensor"): qat, ("rounded", bits, "tensor"): rounded, ("float",): 401}
    errors = {key: [e, e] for key, e in keys.items()}
    agreed = {k: [Agreement(10, 1000, 0.5), Agreement(20, 1000, 1.0)] for k in keys}
    row = _row(bits, "tensor", errors, {k: [10, 20] for k in keys}, dict.fromkeys(keys, 1.5),
               agreed, 1000)
    assert row["met"] is met and row["seconds"] == 4.5 and row["rounded"] == [rounded, rounded]
    assert row["ours"].endswith("floats 40.10 % (40.10..40.10); file 15 bytes; "
                                "1.50 % flipped, KL 0.75")


@pytest.mark.parametrize("bits, per", KINDS)
def test_both_have_one_grid_and_only_one_trains(bits, per):
    made = techniques(bits, per)
    (qat,), (rounded,) = made["qat"].methods, made["rounded"].methods
    assert (qat.bits, qat.per, qat.act_bits, qat.grid) == (
        rounded.bits, rounded.per, rounded.act_bits, rounded.grid)
    assert made["qat"].epochs == ON["epochs"] and made["rounded"].epochs == 0
    assert PAPERS["jacob2018"] is jacob2018.PAPER
