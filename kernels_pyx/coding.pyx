"""Entropy coders: the twin of minicomp/kernels/coding/{huffman,mixing,range_coder,rans}.py.

Contracts and references are there; the coders are in simd/coding/*.h.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t
from libc.stdlib cimport calloc, free

cdef extern from "simd/coding/huffman.h" nogil:
    void huffman_decode8(const uint8_t *data, int64_t size, const int64_t *starts,
                         const int64_t *counts, int64_t streams, const uint8_t *lengths,
                         int64_t k, uint8_t *symbols, int64_t *ends)
    void huffman_decode16(const uint8_t *data, int64_t size, const int64_t *starts,
                          const int64_t *counts, int64_t streams, const uint8_t *lengths,
                          int64_t k, uint16_t *symbols, int64_t *ends)

cdef extern from "simd/coding/range_coder.h" nogil:
    int64_t rc_encode(uint16_t *codes, int64_t R, int64_t C, int64_t m, int bits, int64_t lag,
                      uint8_t *out, int32_t *column)
    int64_t rc_decode(const uint8_t *data, int64_t size, uint16_t *codes, int64_t R, int64_t C,
                      int64_t m, int bits, int64_t lag, int32_t *column, int64_t *split)

cdef extern from "simd/coding/mixing.h" nogil:
    int64_t mx_run(int encoding, uint16_t *codes, int64_t R, int64_t C, int64_t m, int64_t low,
                   int64_t high, int64_t width, int64_t block, const int32_t *weights,
                   const int32_t *units, const uint8_t *data, int64_t size, uint8_t *out,
                   int64_t *cost)

cdef extern from "simd/coding/rans.h" nogil:
    int64_t rans_encode_all(const uint8_t *symbols, int64_t n, const uint32_t *freq, int64_t k,
                            int lanes, uint8_t *out, int64_t room)
    int64_t rans_decode_all(const uint8_t *data, int64_t size, const uint32_t *freq, int64_t k,
                            int lanes, uint8_t *symbols, int64_t n, int level, int *whole)


def huffman8(
    const uint8_t[::1] data,      # IN (B,)
    const int64_t[::1] starts,    # IN (S,) bits
    const int64_t[::1] counts,    # IN (S,)
    const uint8_t[::1] lengths,   # IN (K,) a complete code, K <= 256
    uint8_t[::1] symbols,         # OUT (sum of counts,)
    int64_t[::1] ends,            # OUT (S,) bits
):
    """The symbols of all streams and where each ends, at most 256 symbols."""
    cdef const uint8_t *first = &data[0] if data.shape[0] else NULL
    cdef uint8_t *out = &symbols[0] if symbols.shape[0] else NULL
    if starts.shape[0] == 0:
        return
    with nogil:
        huffman_decode8(first, data.shape[0], &starts[0], &counts[0], starts.shape[0], &lengths[0],
                        lengths.shape[0], out, &ends[0])


def huffman16(
    const uint8_t[::1] data,      # IN (B,)
    const int64_t[::1] starts,    # IN (S,) bits
    const int64_t[::1] counts,    # IN (S,)
    const uint8_t[::1] lengths,   # IN (K,) a complete code, K <= 4096
    uint16_t[::1] symbols,        # OUT (sum of counts,)
    int64_t[::1] ends,            # OUT (S,) bits
):
    """The same for up to 4096 symbols."""
    cdef const uint8_t *first = &data[0] if data.shape[0] else NULL
    cdef uint16_t *out = &symbols[0] if symbols.shape[0] else NULL
    if starts.shape[0] == 0:
        return
    with nogil:
        huffman_decode16(first, data.shape[0], &starts[0], &counts[0], starts.shape[0], &lengths[0],
                         lengths.shape[0], out, &ends[0])


def range_encode(
    const uint16_t[:, ::1] codes,   # IN (R, C), not empty
    int64_t kept,
    int bits,
    int64_t lag,
    uint8_t[::1] out,               # OUT (2 R C + 2 bits kept + 16,)
) -> int:
    """Returns how many bytes of `out` the table of codes took."""
    cdef int64_t size
    cdef int32_t *column = <int32_t *>calloc(codes.shape[1], sizeof(int32_t))
    if column == NULL:
        raise MemoryError
    with nogil:  # an encoder only reads the codes
        size = rc_encode(<uint16_t *>&codes[0, 0], codes.shape[0], codes.shape[1], kept, bits, lag,
                         &out[0], column)
        free(column)
    return size


def range_decode(
    const uint8_t[::1] data,   # IN (B,)
    uint16_t[:, ::1] codes,    # OUT (R, C), all 0, not empty
    int64_t kept,
    int bits,
    int64_t lag,
) -> tuple:
    """Returns how many bytes were asked for, and how many of them belong to the pattern."""
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


def mixing_encode(
    const uint16_t[:, ::1] codes,   # IN (R, C), not empty, kept of them not 0
    int64_t kept,
    int64_t low,
    int64_t high,
    int64_t width,
    int64_t block,
    const int32_t[::1] weights,     # IN (28,)
    const int32_t[::1] units,       # IN (C,), or (0,) for none
    uint8_t[::1] out,               # OUT (4 R C + 20 kept + 16,)
) -> int:
    """Returns how many bytes of `out` the table of codes took."""
    cdef int64_t size
    cdef int64_t[2] cost
    cdef const int32_t *by = &units[0] if units.shape[0] else NULL
    with nogil:  # an encoder only reads the codes
        size = mx_run(1, <uint16_t *>&codes[0, 0], codes.shape[0], codes.shape[1], kept, low, high,
                      width, block, &weights[0], by, NULL, 0, &out[0], cost)
    if size < 0:
        raise MemoryError
    return size


def mixing_decode(
    const uint8_t[::1] data,        # IN (B,)
    uint16_t[:, ::1] codes,         # OUT (R, C), all 0, not empty
    int64_t kept,
    int64_t low,
    int64_t high,
    int64_t width,
    int64_t block,
    const int32_t[::1] weights,     # IN (28,)
    const int32_t[::1] units,       # IN (C,), or (0,) for none
) -> tuple:
    """Returns how many bytes were asked for, and the costs of pattern and codes."""
    cdef int64_t used
    cdef int64_t[2] cost
    cdef const uint8_t *first = &data[0] if data.shape[0] else NULL
    cdef const int32_t *by = &units[0] if units.shape[0] else NULL
    with nogil:
        used = mx_run(0, &codes[0, 0], codes.shape[0], codes.shape[1], kept, low, high, width,
                      block, &weights[0], by, first, data.shape[0], NULL, cost)
    if used < 0:
        raise MemoryError
    return used, cost[0], cost[1]


def rans_encode(
    const uint8_t[::1] symbols,   # IN (N,) below K, of a frequency that is not 0
    const uint32_t[::1] freq,     # IN (K,) that sum to 4096
    int lanes,
    uint8_t[::1] out,             # OUT (2 N + 4 lanes,)
) -> int:
    """Returns how many bytes of `out` the message took."""
    cdef const uint8_t *first = &symbols[0] if symbols.shape[0] else NULL
    cdef int64_t size
    with nogil:
        size = rans_encode_all(first, symbols.shape[0], &freq[0], freq.shape[0], lanes, &out[0],
                               out.shape[0])
    return size


def rans_decode(
    const uint8_t[::1] data,      # IN (B,)
    const uint32_t[::1] freq,     # IN (K,) that sum to 4096
    int lanes,
    uint8_t[::1] symbols,         # OUT (N,)
    int level,
) -> tuple:
    """Returns how many bytes were asked for, and whether every lane ends where it began."""
    cdef const uint8_t *first = &data[0] if data.shape[0] else NULL
    cdef uint8_t *out = &symbols[0] if symbols.shape[0] else NULL
    cdef int64_t used
    cdef int whole = 0
    with nogil:
        used = rans_decode_all(first, data.shape[0], &freq[0], freq.shape[0], lanes, out,
                               symbols.shape[0], level, &whole)
    return used, whole
