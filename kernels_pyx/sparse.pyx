"""Products of sparse weights: the twin of kernels/sparse.py and nm.py; the ladders are in
simd/sparse.h and simd/nm.h."""

from cython.parallel cimport prange
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint64_t

cdef extern from "simd/sparse.h" nogil:
    enum: SPARSE_LANES
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

cdef extern from "simd/nm.h" nogil:
    ctypedef struct NM:
        const float *value
        const uint64_t *place
        long windows
        long steps
        long width
    void nm_group(const NM *p, long g, long O, const float *x, float *y, int level)


def lanes(const uint8_t[:, ::1] byte,    # IN (steps, 16), or None
          const uint16_t[:, ::1] word,   # IN (steps, 16), or None
          const float[:, ::1] value,     # IN (steps, 16) beside byte, or None
          const int32_t[::1] base,       # IN (steps,)
          const float[::1] table,        # IN (k padded to 16,), 16 at least
          const int64_t[::1] start,      # IN (groups + 1,)
          const int32_t[::1] row,        # IN (groups 16,)
          const float[::1] x,            # IN (I,), 16 at least
          float[::1] y,                  # OUT (O,)
          int level,
          int n_threads):
    cdef Lanes p
    cdef long groups = start.shape[0] - 1, g
    cdef int kind = SPARSE_BYTE
    if groups == 0 or base.shape[0] == 0:
        y[:] = 0
        return
    if word is not None:
        kind = SPARSE_WORD
    elif value is not None:
        kind = SPARSE_VALUE
    p.byte = &byte[0, 0] if byte is not None else NULL
    p.word = &word[0, 0] if word is not None else NULL
    p.value = &value[0, 0] if value is not None else NULL
    p.base, p.table, p.k = &base[0], &table[0], table.shape[0]
    for g in prange(groups, nogil=True, schedule="static", num_threads=n_threads):
        lanes_group(&p, kind, &start[0], &row[0], g, &x[0], &y[0], level)


def rows(const uint8_t[::1] byte,      # IN (entries,), or None
         const uint16_t[::1] word,     # IN (entries,), or None
         const int32_t[::1] column,    # IN (entries,) with value: CSR; or None
         const float[::1] value,       # IN (entries,), or None
         const float[::1] table,       # IN (codes,), or None
         int gap_bits,
         const int32_t[::1] start,     # IN (blocks O + 1,)
         long width,                   # columns of W in a block
         const float[:, ::1] X,        # IN (I, N)
         float[:, ::1] Y,              # OUT (O, N)
         int level,
         int n_threads):
    cdef Entries p
    cdef long O = Y.shape[0], N = Y.shape[1], i, chunk, blocks
    cdef int kind = SPARSE_BYTE
    if O == 0 or N == 0:
        return
    if start[start.shape[0] - 1] == 0:
        Y[:, :] = 0
        return
    if word is not None:
        kind = SPARSE_WORD
    elif value is not None:
        kind = SPARSE_VALUE
    p.byte = &byte[0] if byte is not None else NULL
    p.word = &word[0] if word is not None else NULL
    p.column = &column[0] if column is not None else NULL
    p.value = &value[0] if value is not None else NULL
    p.table = &table[0] if table is not None else NULL
    p.gap_bits, blocks = gap_bits, (start.shape[0] - 1) // O
    chunk = min(512, (O + n_threads - 1) // n_threads)
    for i in prange((O + chunk - 1) // chunk, nogil=True, schedule="static", num_threads=n_threads):
        sparse_rows(&p, kind, &start[0], blocks, width, O, chunk * i, min(O, chunk * (i + 1)),
                    &X[0, 0], N, &Y[0, 0], level)


def nm(const float[:, :, ::1] value,   # IN (groups, windows steps, 16)
       const uint64_t[:, ::1] place,   # IN (groups, windows steps)
       long windows,
       long width,                     # columns of a window
       const float[::1] x,             # IN (windows width + 16,), zeros past the last column
       float[::1] y,                   # OUT (O,)
       int level,
       int n_threads):
    cdef NM p
    cdef long groups = place.shape[0], g, O = y.shape[0]
    if groups == 0 or place.shape[1] == 0:
        y[:] = 0
        return
    p.value, p.place = &value[0, 0, 0], &place[0, 0]
    p.windows, p.steps, p.width = windows, place.shape[1] // windows, width
    for g in prange(groups, nogil=True, schedule="static", num_threads=n_threads):
        nm_group(&p, g, O, &x[0], &y[0], level)
