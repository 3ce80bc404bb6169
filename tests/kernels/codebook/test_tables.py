import numpy as np
import pytest

from minicomp.kernels import cpu
from minicomp.kernels.codebook import tables
from minicomp.kernels.codebook.tables import matvec, matvec_ref, pack_tables

isa = pytest.mark.parametrize("isa", cpu.distinct("codebook"))
# t, O, s, k, d, one book for all blocks, columns that the last block lacks: a group of 64 rows, one
# row more and less; 8 positions; a block of 256 or of 32 positions; tables of 16 and of 256
CASES = [
    (1, 1, 1, 1, 1, True, 0),
    (1, 63, 65, 16, 1, True, 0),
    (1, 64, 64, 3, 1, True, 0),
    (1, 65, 300, 16, 1, True, 0),
    (2, 70, 129, 5, 3, False, 2),
    (3, 10, 8, 16, 4, True, 1),
    (1, 65, 33, 17, 2, False, 1),
    (1, 64, 7, 256, 1, True, 0),
    (2, 130, 40, 200, 5, False, 0),
    (1, 0, 3, 4, 2, False, 0),
]


def made(t, O, s, k, d, shared, less):
    rng = np.random.default_rng(O + k)
    index = rng.integers(0, k, (t, O, s))
    books = rng.normal(size=(t, 1 if shared else s, k, d)).astype(np.float32)
    return index, books, s * d - less, rng.normal(size=s * d - less).astype(np.float32)


def dense(index, books, columns):
    books = np.broadcast_to(books, (len(index), index.shape[2], *books.shape[2:]))
    w = sum(book[np.arange(len(book)), codes] for codes, book in zip(index, books.astype(float)))
    return w.reshape(index.shape[1], index.shape[2] * books.shape[3])[:, :columns]


@isa
@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_rung_gives_the_bits_of_the_reference(isa, case):
    index, books, columns, x = made(*case)
    x.setflags(write=False)
    w = pack_tables(index, books, columns)
    y = matvec_ref(w, x)
    W = dense(index, books, columns)
    assert (np.abs(y - W @ x) <= 4e-6 * (np.abs(W) @ np.abs(x) + 1)).all()
    for n_threads in (1, 2):
        np.testing.assert_array_equal(matvec(w, x, isa=isa, n_threads=n_threads), y, strict=True)


@isa
def test_by_hand_and_of_any_strides(isa):
    index = np.array([[[0, 1], [1, 1], [1, 0]]], np.uint8)
    books = np.array([[[[1, 2], [3, 4]], [[5, 6], [7, 8]]]], np.float32)
    w = pack_tables(index, books, 3)
    x = np.array([1, 0, 10, 0, 100], np.float32)[::2]
    assert matvec(w, x, isa=isa).tolist() == [721, 743, 543]
    assert w.shape == (3, 3) and not w.code.flags.writeable


def test_codes_of_4_bits_take_half_a_byte():
    index = np.random.default_rng(0).integers(0, 16, (1, 128, 512))
    books = np.zeros((1, 1, 16, 1), np.float32)
    assert len(pack_tables(index, books, 512).code) == 128 * 512 // 2
    # the first position lowest, row by row
    word = pack_tables(index, books, 512).code.view(np.uint32)[5]
    assert [word >> 4 * j & 15 for j in range(8)] == index[0, 5, :8].tolist()
    wide = pack_tables(index, np.zeros((1, 1, 17, 1), np.float32), 512)
    assert len(wide.code) == 128 * 512 and wide.book.shape == (1, 1, 256)


def test_wrong_arguments_are_refused():
    index, books, columns, x = made(1, 5, 3, 4, 2, False, 1)
    w = pack_tables(index, books, columns)
    for wrong in ((index[0], books, 5), (np.full((1, 5, 3), 4), books, 5),
                  (index, books[:, :2], 5), (index, books[0], 5), (index, books, 4),
                  (index, books, 7), (index, books, 0), (index * 0.5, books, 5),
                  (index, np.zeros((1, 3, 257, 2), np.float32), 5),
                  (index[:, :, :0], books[:, :0], 5)):
        with pytest.raises(ValueError, match="must"):
            pack_tables(*wrong)
    for wrong in (x[:-1], x.astype(np.float64), x[None]):
        with pytest.raises(ValueError, match="x must have shape"):
            matvec(w, wrong)
    with pytest.raises(ValueError, match="w must be Tables, made by pack_tables"):
        matvec(books, x)
    with pytest.raises(ValueError, match="must be made by pack_tables"):
        tables.Tables(shape=(3, 3))
