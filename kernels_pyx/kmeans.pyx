"""k-means on a line; contract and reference in minicomp/kernels/kmeans.py.

Ladder, 4096 groups, k = 16: every split tried, 135 M costs; divided at the middle, 16 x 4096 x 12 = 0.8 M.
"""

from cython.parallel cimport prange
from libc.stdint cimport int32_t, uint16_t
from libc.stdlib cimport free, malloc
from libc.math cimport INFINITY


cdef void fill(const double *p0, const double *p1, const double *p2, const double *before, double *now,
               int32_t *split, Py_ssize_t lo, Py_ssize_t hi, Py_ssize_t a_lo, Py_ssize_t a_hi) noexcept nogil:
    # now[b] and split[b] for b in lo..hi, whose best starts lie in a_lo..a_hi.
    cdef Py_ssize_t b, a, best, last
    cdef double value, least, d, q1, q2, q0
    while lo <= hi:
        b = (lo + hi) // 2
        last = a_hi if a_hi < b else b - 1
        q0, q1, q2 = p0[b], p1[b], p2[b]
        least, best = INFINITY, a_lo
        for a in range(a_lo, last + 1):
            d = q1 - p1[a]
            value = before[a] + ((q2 - p2[a]) - d * d / (q0 - p0[a]))
            if value < least:
                least, best = value, a
        now[b], split[b] = least, <int32_t>best
        fill(p0, p1, p2, before, now, split, lo, b - 1, a_lo, best)  # depth: log2 of the groups
        lo, a_lo = b + 1, best


def partition(const double[::1] p0,    # IN (n + 1,)
              const double[::1] p1,    # IN (n + 1,)
              const double[::1] p2,    # IN (n + 1,)
              int32_t[:, ::1] splits):  # OUT (k, n + 1) best start of the last interval
    cdef Py_ssize_t n = p0.shape[0] - 1, k = splits.shape[0], j, b
    cdef double *before = <double *>malloc((n + 1) * sizeof(double))
    cdef double *now = <double *>malloc((n + 1) * sizeof(double))
    cdef double *swap
    if before == NULL or now == NULL:
        free(before)
        free(now)
        raise MemoryError(f"{2 * (n + 1) * 8} bytes for the table of errors")
    with nogil:
        for b in range(n + 1):
            before[b] = INFINITY
        before[0] = 0
        for j in range(k):
            for b in range(j + 1):  # fewer groups than intervals
                now[b], splits[j, b] = INFINITY, 0
            fill(&p0[0], &p1[0], &p2[0], before, now, &splits[j, 0], j + 1, n, j, n - 1)
            swap = before
            before = now
            now = swap
        free(before)
        free(now)


def nearest(const float[::1] x,      # IN (n,)
            const float[::1] edges,  # IN (k - 1,) ascending
            uint16_t[::1] out,       # OUT (n,) edges below x
            int n_threads):
    cdef Py_ssize_t n = x.shape[0], m = edges.shape[0], i
    if n == 0:
        return
    if m == 0:
        out[:] = 0
        return
    for i in prange((n + 4095) // 4096, nogil=True, schedule="static", num_threads=n_threads):
        block(&x[0] + 4096 * i, &edges[0], &out[0] + 4096 * i, min(4096, n - 4096 * i), m)


cdef void block(const float *x, const float *edges, uint16_t *out, Py_ssize_t n, Py_ssize_t m) noexcept nogil:
    cdef Py_ssize_t i, j, base, half, length
    cdef float v, e
    if m < 32:  # counting the edges below vectorises; a search does not
        for i in range(n):
            out[i] = 0
        for j in range(m):
            e = edges[j]
            for i in range(n):
                out[i] = out[i] + (e < x[i])
        return
    for i in range(n):  # branch-free binary search: base is the number of edges known to lie below
        v, base, length = x[i], 0, m
        while length > 1:
            half = length // 2
            base += half if edges[base + half - 1] < v else 0
            length -= half
        out[i] = <uint16_t>(base + (edges[base] < v))
