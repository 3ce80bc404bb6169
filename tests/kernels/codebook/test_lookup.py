import numpy as np
import pytest

from minicomp.kernels import cpu
from minicomp.kernels.codebook import lookup
from minicomp.kernels.codebook.lookup import take

isa = pytest.mark.parametrize("isa", cpu.distinct("codebook"))
# one register of the table, two, four, eight, sixteen, and one entry more or less than they hold
TABLES = (1, 2, 15, 16, 17, 31, 32, 33, 64, 65, 128, 129, 255, 256)


@isa
@pytest.mark.parametrize("k", TABLES)
def test_every_rung_takes_the_same_floats(isa, k):
    rng = np.random.default_rng(k)
    table = rng.normal(size=k).astype(np.float32)
    table.setflags(write=False)
    for n in (0, 1, 7, 8, 15, 16, 17, 63, 64, 65, 1000):
        index = rng.integers(0, k, n).astype(np.uint8)
        if n > 1:
            index[0], index[-1] = k - 1, 0
        index.setflags(write=False)
        np.testing.assert_array_equal(take(table, index, isa=isa), table[index], strict=True)


@isa
@pytest.mark.parametrize("dtype, k", [(np.uint16, 257), (np.uint16, 65536), (np.uint32, 70000)])
def test_wide_indices(isa, dtype, k):
    rng = np.random.default_rng(k)
    table, index = rng.normal(size=k).astype(np.float32), rng.integers(0, k, (30, 7)).astype(dtype)
    index[3, 4] = k - 1
    np.testing.assert_array_equal(take(table, index, isa=isa), table[index], strict=True)


@isa
def test_any_strides_and_special_floats(isa):
    table = np.array([np.nan, -np.inf, -0.0, 1e-42, 9.0], np.float32)[::-1]
    index = np.arange(60, dtype=np.uint8).reshape(4, 3, 5).transpose(2, 0, 1) % 5
    got, wanted = take(table, index, isa=isa), table[index]
    np.testing.assert_array_equal(got.view(np.uint32), wanted.view(np.uint32), strict=True)


@isa
@pytest.mark.parametrize("dtype, k", [(np.uint8, 5), (np.uint8, 100), (np.uint16, 300),
                                      (np.uint32, 9)])
def test_an_index_past_the_table_is_named(isa, dtype, k):
    index = np.zeros(70, dtype)
    index[69] = k
    with pytest.raises(ValueError, match=rf"index must be in \[0, {k - 1}\], got {k}"):
        take(np.zeros(k, np.float32), index, isa=isa)
    with pytest.raises(ValueError, match="got 0"):
        take(np.zeros(0, np.float32), np.zeros(1, dtype), isa=isa)


def test_other_types_are_refused():
    table, index = np.zeros(3, np.float32), np.zeros(2, np.uint8)
    for wrong in ((table.astype(float), index), (table, index.astype(int))):
        with pytest.raises(ValueError, match="values must be float32 and index uint8"):
            take(*wrong)


def test_the_bytes_of_an_index_are_its_own_memory():
    index = np.arange(12, dtype=np.uint16).reshape(3, 4)
    assert np.shares_memory(lookup.index_bytes(index), index)
