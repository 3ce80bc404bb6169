"""Coding sparse tables of codes; contract and reference in minicomp/kernels/range_coder.py."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t
from libc.stdlib cimport calloc, free

cdef extern from "simd/range_coder.h" nogil:
    int64_t rc_encode(uint16_t *codes, int64_t R, int64_t C, int64_t m, int bits, int64_t lag,
                      uint8_t *out, int32_t *column)
    int64_t rc_decode(const uint8_t *data, int64_t size, uint16_t *codes, int64_t R, int64_t C,
                      int64_t m, int bits, int64_t lag, int32_t *column, int64_t *split)


def encode(const uint16_t[:, ::1] codes,  # IN (R, C), not empty
           int64_t kept, int bits, int64_t lag,
           uint8_t[::1] out):             # OUT (2 R C + 2 bits kept + 16,)
    cdef int64_t size
    cdef int32_t *column = <int32_t *>calloc(codes.shape[1], sizeof(int32_t))
    if column == NULL:
        raise MemoryError
    with nogil:  # an encoder only reads the codes
        size = rc_encode(<uint16_t *>&codes[0, 0], codes.shape[0], codes.shape[1], kept, bits, lag,
                         &out[0], column)
        free(column)
    return size


def decode(const uint8_t[::1] data,       # IN (B,)
           uint16_t[:, ::1] codes,        # OUT (R, C), all 0, not empty
           int64_t kept, int bits, int64_t lag):
    cdef int64_t used, split = 0
    cdef const uint8_t *first = &data[0] if data.shape[0] else NULL
    cdef int32_t *column = <int32_t *>calloc(codes.shape[1], sizeof(int32_t))
    if column == NULL:
        raise MemoryError
    with nogil:
        used = rc_decode(first, data.shape[0], &codes[0, 0], codes.shape[0], codes.shape[1], kept,
                         bits, lag, column, &split)
        free(column)
    return used, split
