"""Decoding canonical Huffman codes; contract and reference in minicomp/kernels/huffman.py."""

from libc.stdint cimport int64_t, uint8_t, uint16_t

cdef extern from "simd/huffman.h" nogil:
    void huffman_decode8(const uint8_t *data, int64_t size, const int64_t *starts,
                         const int64_t *counts, int64_t streams, const uint8_t *lengths,
                         int64_t k, uint8_t *symbols, int64_t *ends)
    void huffman_decode16(const uint8_t *data, int64_t size, const int64_t *starts,
                          const int64_t *counts, int64_t streams, const uint8_t *lengths,
                          int64_t k, uint16_t *symbols, int64_t *ends)


def decode8(const uint8_t[::1] data,      # IN (B,)
            const int64_t[::1] starts,    # IN (S,) bits
            const int64_t[::1] counts,    # IN (S,)
            const uint8_t[::1] lengths,   # IN (K,) a complete code, K <= 256
            uint8_t[::1] symbols,         # OUT (sum of counts,)
            int64_t[::1] ends):           # OUT (S,) bits
    cdef const uint8_t *first = &data[0] if data.shape[0] else NULL
    cdef uint8_t *out = &symbols[0] if symbols.shape[0] else NULL
    if starts.shape[0] == 0:
        return
    with nogil:
        huffman_decode8(first, data.shape[0], &starts[0], &counts[0], starts.shape[0], &lengths[0],
                        lengths.shape[0], out, &ends[0])


def decode16(const uint8_t[::1] data,     # IN (B,)
             const int64_t[::1] starts,   # IN (S,) bits
             const int64_t[::1] counts,   # IN (S,)
             const uint8_t[::1] lengths,  # IN (K,) a complete code, K <= 4096
             uint16_t[::1] symbols,       # OUT (sum of counts,)
             int64_t[::1] ends):          # OUT (S,) bits
    cdef const uint8_t *first = &data[0] if data.shape[0] else NULL
    cdef uint16_t *out = &symbols[0] if symbols.shape[0] else NULL
    if starts.shape[0] == 0:
        return
    with nogil:
        huffman_decode16(first, data.shape[0], &starts[0], &counts[0], starts.shape[0], &lengths[0],
                         lengths.shape[0], out, &ends[0])
