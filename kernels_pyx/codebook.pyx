"""Shared weights: the twin of minicomp/kernels/codebook/*.py.

k-means on a line: ladder of the optimal partition of n = 400,000 numbers into k = 256 intervals:

    every split tried             k n^2 / 2        2e13 costs
    the middle splits the search  k n log2 n       2e9
    a penalty an interval         ~6 n a sweep, 2 to 8 sweeps whatever k is: 2e7
"""

from cython cimport floating
from cython.parallel cimport prange
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t
from libc.stdlib cimport free, malloc

cdef extern from "simd/codebook/kmeans.h" nogil:
    void kmeans_nearest(const float *x, long n, const float *edge, long m, uint16_t *out, int level)

cdef extern from "simd/codebook/lookup.h" nogil:
    int64_t lookup(const float *table, long k, const void *index, int width, long n, float *out,
                   int level)

cdef extern from "simd/codebook/lookups.h" nogil:
    void lookups_of(const int32_t *offset, const float *coefficient, long begin, long end,
                    const float *S, long n, float *y, int level)

cdef extern from "simd/codebook/scatter.h" nogil:
    int64_t scatter(const float *g, const void *index, int width, long n, double *table, long k,
                    float *out, int level)

cdef extern from "simd/codebook/buckets.h" nogil:
    void bucket_sums(const float *g, const unsigned int *places, const int64_t *starts, long k,
                     float *out)
cdef extern from "simd/codebook/tables.h" nogil:
    enum: TABLE_ROWS
    void tables(const float *book, long step, const float *x, long n, long d, long K, float *table,
                int level)
    void table_sums(const void *code, const float *table, long n, long K, float *y, int level)


def running_sums(
    const floating[::1] x,   # IN (n,) ascending, n >= 1
    Py_ssize_t m,            # the place whose value is 0 and whose sums are 0
    double[::1] p1,          # OUT (n + 1,)
    double[::1] p2,          # OUT (n + 1,)
):
    """Running sums of x - x[m] and of its square, from m outwards."""
    cdef Py_ssize_t n = x.shape[0], i
    cdef double centre = x[m], d, s1 = 0, s2 = 0
    with nogil:
        p1[m] = p2[m] = 0
        for i in range(m, n):
            d = x[i] - centre
            s1, s2 = s1 + d, s2 + d * d
            p1[i + 1], p2[i + 1] = s1, s2
        s1 = s2 = 0
        for i in range(m - 1, -1, -1):
            d = x[i] - centre
            s1, s2 = s1 - d, s2 - d * d
            p1[i], p2[i] = s1, s2


cdef struct Sums:
    const double *p0
    const double *p1
    double *rest   # F[a] - p2[a]: the least cost of the first a groups, without their squares


cdef inline double through(const Sums *s, Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    # The least cost of b groups whose last interval starts at a, less p2[b] + penalty.
    cdef double d = s.p1[b] - s.p1[a]
    return s.rest[a] - d * d / (s.p0[b] - s.p0[a])


def sweep(
    const double[::1] p0,   # IN (n + 1,)
    const double[::1] p1,   # IN (n + 1,)
    const double[::1] p2,   # IN (n + 1,)
    double penalty,
    int32_t[::1] start,     # OUT (n + 1,) best start of the interval that ends there
):
    """F[b] = min_a F[a] + cost(a, b) + penalty, for all b in one sweep.

    A later start takes over from an earlier one at some b and keeps it. `queue` holds the starts
    that are best from some b on, in that order: queue[head] is best at the current b, queue[head +
    1] from since[head + 1] on.
    """
    cdef Py_ssize_t n = p0.shape[0] - 1, b, head = 0, tail = 1, lo, hi, mid, at, step
    cdef Sums s
    cdef int32_t *queue = <int32_t *>malloc((n + 1) * sizeof(int32_t))
    cdef int32_t *since = <int32_t *>malloc((n + 1) * sizeof(int32_t))
    s.p0, s.p1, s.rest = &p0[0], &p1[0], <double *>malloc((n + 1) * sizeof(double))
    if queue == NULL or since == NULL or s.rest == NULL:
        free(queue)
        free(since)
        free(s.rest)
        raise MemoryError(f"{16 * (n + 1)} bytes for the sweep")
    with nogil:
        s.rest[0], queue[0], since[0], start[0] = -p2[0], 0, 1, 0
        for b in range(1, n + 1):
            while head + 1 < tail and since[head + 1] <= b:
                head += 1
            start[b] = queue[head]
            s.rest[b] = through(&s, queue[head], b) + penalty
            if b == n:
                break
            # Starts that b beats from where they begin are never best.
            while tail > head + 1:
                at = since[tail - 1]
                if not through(&s, b, at) < through(&s, queue[tail - 1], at):
                    break
                tail -= 1
            # The first place where b beats the last of the queue: double the step, then halve the
            # interval.
            lo = since[tail - 1] if tail > head + 1 else b  # not beaten up to lo
            step, hi = 1, lo + 1
            while hi < n and not through(&s, b, hi) < through(&s, queue[tail - 1], hi):
                lo, step = hi, 2 * step
                hi = lo + step
            if hi >= n:
                hi = n
                if not through(&s, b, n) < through(&s, queue[tail - 1], n):
                    continue
            while hi - lo > 1:
                mid = (lo + hi) // 2
                if through(&s, b, mid) < through(&s, queue[tail - 1], mid):
                    hi = mid
                else:
                    lo = mid
            queue[tail], since[tail] = <int32_t>b, <int32_t>hi
            tail += 1
        free(queue)
        free(since)
        free(s.rest)


def nearest(
    const float[::1] x,       # IN (n,)
    const float[::1] edges,   # IN (m,) ascending
    uint16_t[::1] out,        # OUT (n,) edges below x
    int level,
    int n_threads,
):
    """How many edges lie below each x."""
    cdef Py_ssize_t n = x.shape[0], m = edges.shape[0], i
    cdef const float *edge = &edges[0] if m else NULL
    if n == 0:
        return
    for i in prange((n + 8191) // 8192, nogil=True, schedule="static", num_threads=n_threads):
        kmeans_nearest(&x[8192 * i], min(8192, n - 8192 * i), edge, m, &out[8192 * i], level)


def bucket_add(
    const float[::1] g,             # IN (n,)
    const unsigned int[::1] places, # IN (n,) twice the place, and 1 where the sign is -1
    const int64_t[::1] starts,      # IN (k + 1,) where the places of each bucket begin
    float[::1] out,                 # OUT (k,)
    int n_threads,
):
    """out[j] = the sum of +-g over the places of bucket j, in their order."""
    cdef Py_ssize_t k = out.shape[0], j
    if g.shape[0] == 0:
        out[:] = 0
        return
    for j in prange((k + 1023) // 1024, nogil=True, schedule="static", num_threads=n_threads):
        bucket_sums(&g[0], &places[0], &starts[1024 * j], min(1024, k - 1024 * j), &out[1024 * j])


def lookups(
    const float[::1] S,             # IN maps one behind the other
    const int32_t[::1] offset,      # IN (L,)
    const float[::1] coefficient,   # IN (L,)
    const int64_t[::1] starts,      # IN (O + 1,)
    long n,                         # sums of an output, at most its columns
    float[:, ::1] y,                # OUT (O, columns)
    int level,
    int n_threads,
):
    """y[o, t] = the sum of coefficient S[offset + t] over the look-ups of o, t < n."""
    cdef Py_ssize_t O = y.shape[0], o
    if offset.shape[0] == 0 or n == 0:
        return
    for o in prange(O, nogil=True, schedule="static", num_threads=n_threads):
        lookups_of(&offset[0], &coefficient[0], starts[o], starts[o + 1], &S[0], n, &y[o, 0], level)


def take(
    const float[::1] table,     # IN (k,)
    const uint8_t[::1] index,   # IN (n width,) bytes of n indices
    int width,                  # 1, 2 or 4
    float[::1] out,             # OUT (n,)
    int level,
) -> int:
    """out = table[index]; returns the largest index, and does nothing where that is not below k."""
    cdef int64_t top
    if out.shape[0] == 0:
        return -1
    with nogil:
        top = lookup(&table[0] if table.shape[0] else NULL, table.shape[0], &index[0], width,
                     out.shape[0], &out[0], level)
    return top


def scatter_add(
    const float[::1] g,         # IN (n,)
    const uint8_t[::1] index,   # IN (n width,) bytes of n indices
    int width,                  # 1, 2 or 4
    double[:, ::1] room,        # zeros (k, 8)
    float[::1] out,             # OUT (k,)
    int level,
) -> int:
    """out[j] = the sum of g where index is j; returns the largest index, as take."""
    cdef int64_t top
    if g.shape[0] == 0:
        out[:] = 0
        return -1
    with nogil:
        top = scatter(&g[0], &index[0], width, g.shape[0], &room[0, 0] if room.shape[0] else NULL,
                      room.shape[0], &out[0] if room.shape[0] else NULL, level)
    return top


def table_products(
    const uint8_t[::1] code,     # IN codes, block by block: (groups of 64 rows, positions, 64)
    const float[:, :, ::1] book, # IN (p or 1, d, K), K 16 or 256
    const float[::1] x,          # IN (p d,) what each position is multiplied by
    float[::1] table,            # OUT (block K,)
    float[::1] y,                # OUT (64 groups,)
    Py_ssize_t block,            # positions whose tables are made at once, a multiple of 8
    int level,
    int n_threads,
):
    """y = the sum over positions of the products of codewords with x; tables block by block."""
    cdef Py_ssize_t d = book.shape[1], K = book.shape[2], p = x.shape[0] // d
    cdef Py_ssize_t groups = y.shape[0] // TABLE_ROWS, at = 0, n, g, own
    cdef Py_ssize_t step = d * K if book.shape[0] > 1 else 0
    cdef const uint8_t *from_here = &code[0]
    y[:] = 0
    with nogil:
        while at < p:
            n = min(block, p - at)
            own = n * TABLE_ROWS // 2 if K == 16 else n * TABLE_ROWS  # bytes of a group's codes
            tables(&book[0, 0, 0] + at * step, step, &x[at * d], n, d, K, &table[0], level)
            if n_threads == 1:
                for g in range(groups):
                    table_sums(from_here + g * own, &table[0], n, K, &y[TABLE_ROWS * g], level)
            else:
                for g in prange(groups, schedule="static", num_threads=n_threads):
                    table_sums(from_here + g * own, &table[0], n, K, &y[TABLE_ROWS * g], level)
            from_here += groups * own
            at += n
