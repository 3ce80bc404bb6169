"""Products of sparse weights W (O, I): the twin of minicomp/kernels/sparse/{lanes,rows,nm}.py.

The ladders are in simd/sparse/*.h. A layout whose entries have several widths has a function for
each: entries of 8 and of 16 bits hold place and code, the third kind has float32 beside its places.
Arrays are checked, padded and allocated by the Python twins.
"""

from cython.parallel cimport prange
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint64_t

cdef extern from "simd/sparse/sparse.h" nogil:
    enum: SPARSE_BYTE
    enum: SPARSE_WORD
    enum: SPARSE_VALUE
    ctypedef struct Lanes:
        const uint8_t *byte
        const uint16_t *word
        const float *value
        const int32_t *base
        const float *table
        long k
    ctypedef struct Entries:
        const uint8_t *byte
        const uint16_t *word
        const float *value
        const int32_t *column
        const float *table
        int gap_bits
    void lanes_group(const Lanes *p, int kind, const int64_t *start, const int32_t *row, long g,
                     const float *x, float *y, int level)
    void sparse_rows(const Entries *p, int kind, const int32_t *start, long blocks, long width,
                     long O, long from_row, long to_row, const float *X, long N, float *Y,
                     int level)

cdef extern from "simd/sparse/nm.h" nogil:
    ctypedef struct NM:
        const float *value
        const uint64_t *place
        long windows
        long steps
        long width
    void nm_group(const NM *p, long g, long O, const float *x, float *y, int level)


# -------------------------------------------------------------------------------- one column


cdef void each_group(Lanes *p, int kind, const int32_t[::1] base, const int64_t[::1] start,
                     const int32_t[::1] row, const float[::1] x, float[::1] y, int level,
                     int n_threads) noexcept:
    # y of each group of 16 rows; p lacks only base
    cdef long groups = start.shape[0] - 1, g
    if groups == 0 or base.shape[0] == 0:
        y[:] = 0
        return
    p.base = &base[0]
    for g in prange(groups, nogil=True, schedule="static", num_threads=n_threads):
        lanes_group(p, kind, &start[0], &row[0], g, &x[0], &y[0], level)


def lanes8(
    const uint8_t[:, ::1] entry,   # IN (steps, 16) place | code << 4
    const float[::1] table,        # IN (k padded to 16,)
    const int32_t[::1] base,       # IN (steps,)
    const int64_t[::1] start,      # IN (groups + 1,)
    const int32_t[::1] row,        # IN (groups 16,)
    const float[::1] x,            # IN (I,), 16 at least
    float[::1] y,                  # OUT (O,)
    int level,
    int n_threads,
):
    """y = W x of W in lanes, up to 16 codes."""
    cdef Lanes p
    p.byte, p.table, p.k = &entry[0, 0] if base.shape[0] else NULL, &table[0], table.shape[0]
    each_group(&p, SPARSE_BYTE, base, start, row, x, y, level, n_threads)


def lanes16(
    const uint16_t[:, ::1] entry,   # IN (steps, 16) place | code << 4
    const float[::1] table,         # IN (k padded to 16,)
    const int32_t[::1] base,        # IN (steps,)
    const int64_t[::1] start,       # IN (groups + 1,)
    const int32_t[::1] row,         # IN (groups 16,)
    const float[::1] x,             # IN (I,), 16 at least
    float[::1] y,                   # OUT (O,)
    int level,
    int n_threads,
):
    """y = W x of W in lanes, up to 4096 codes."""
    cdef Lanes p
    p.word, p.table, p.k = &entry[0, 0] if base.shape[0] else NULL, &table[0], table.shape[0]
    each_group(&p, SPARSE_WORD, base, start, row, x, y, level, n_threads)


def lanes_of_values(
    const uint8_t[:, ::1] place,   # IN (steps, 16)
    const float[:, ::1] value,     # IN (steps, 16)
    const int32_t[::1] base,       # IN (steps,)
    const int64_t[::1] start,      # IN (groups + 1,)
    const int32_t[::1] row,        # IN (groups 16,)
    const float[::1] x,            # IN (I,), 16 at least
    float[::1] y,                  # OUT (O,)
    int level,
    int n_threads,
):
    """y = W x of W in lanes, a float32 a weight."""
    cdef Lanes p
    if base.shape[0]:
        # the table is loaded, not used: any 16 floats
        p.byte, p.value, p.table, p.k = &place[0, 0], &value[0, 0], &value[0, 0], 16
    each_group(&p, SPARSE_VALUE, base, start, row, x, y, level, n_threads)


def nm(
    const float[:, :, ::1] value,   # IN (groups, windows steps, 16)
    const uint64_t[:, ::1] place,   # IN (groups, windows steps)
    long windows,
    long width,                     # columns of a window
    const float[::1] x,             # IN (windows width + 16,), zeros past the last column
    float[::1] y,                   # OUT (O,)
    int level,
    int n_threads,
):
    """y = W x of W with n of every m weights."""
    cdef NM p
    cdef long groups = place.shape[0], g, O = y.shape[0]
    if groups == 0 or place.shape[1] == 0:
        y[:] = 0
        return
    p.value, p.place = &value[0, 0, 0], &place[0, 0]
    p.windows, p.steps, p.width = windows, place.shape[1] // windows, width
    for g in prange(groups, nogil=True, schedule="static", num_threads=n_threads):
        nm_group(&p, g, O, &x[0], &y[0], level)


# ------------------------------------------------------------------------------- many columns


cdef void each_chunk(const Entries *p, int kind, const int32_t[::1] start, long width,
                     const float[:, ::1] X, float[:, ::1] Y, int level, int n_threads) noexcept:
    # Y, some rows at a time; start: (blocks O + 1,), not all 0
    cdef long O = Y.shape[0], N = Y.shape[1], i, chunk, blocks
    if O == 0 or N == 0:
        return
    blocks, chunk = (start.shape[0] - 1) // O, min(512, (O + n_threads - 1) // n_threads)
    for i in prange((O + chunk - 1) // chunk, nogil=True, schedule="static", num_threads=n_threads):
        sparse_rows(p, kind, &start[0], blocks, width, O, chunk * i, min(O, chunk * (i + 1)),
                    &X[0, 0], N, &Y[0, 0], level)


def rows8(
    const uint8_t[::1] entry,     # IN (entries,) gap - 1 | code << gap_bits
    const float[::1] table,       # IN (codes,)
    int gap_bits,
    const int32_t[::1] start,     # IN (blocks O + 1,)
    long width,                   # columns of W in a block
    const float[:, ::1] X,        # IN (I, N)
    float[:, ::1] Y,              # OUT (O, N)
    int level,
    int n_threads,
):
    """Y = W X of W as relative index, gap and code in 8 bits."""
    cdef Entries p
    if entry.shape[0] == 0:
        Y[:, :] = 0
        return
    p.byte, p.table, p.gap_bits = &entry[0], &table[0], gap_bits
    each_chunk(&p, SPARSE_BYTE, start, width, X, Y, level, n_threads)


def rows16(
    const uint16_t[::1] entry,    # IN (entries,) gap - 1 | code << gap_bits
    const float[::1] table,       # IN (codes,)
    int gap_bits,
    const int32_t[::1] start,     # IN (blocks O + 1,)
    long width,                   # columns of W in a block
    const float[:, ::1] X,        # IN (I, N)
    float[:, ::1] Y,              # OUT (O, N)
    int level,
    int n_threads,
):
    """Y = W X of W as relative index, gap and code in 16 bits."""
    cdef Entries p
    if entry.shape[0] == 0:
        Y[:, :] = 0
        return
    p.word, p.table, p.gap_bits = &entry[0], &table[0], gap_bits
    each_chunk(&p, SPARSE_WORD, start, width, X, Y, level, n_threads)


def csr(
    const int32_t[::1] column,    # IN (m,)
    const float[::1] value,       # IN (m,)
    const int32_t[::1] start,     # IN (O + 1,)
    const float[:, ::1] X,        # IN (I, N)
    float[:, ::1] Y,              # OUT (O, N)
    int level,
    int n_threads,
):
    """Y = W X of W in compressed sparse rows."""
    cdef Entries p
    if value.shape[0] == 0:
        Y[:, :] = 0
        return
    p.column, p.value = &column[0], &value[0]
    each_chunk(&p, SPARSE_VALUE, start, X.shape[0], X, Y, level, n_threads)
