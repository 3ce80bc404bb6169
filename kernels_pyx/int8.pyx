"""Fixed-point numbers: the twin of minicomp/kernels/int8/*.py."""

from cython.parallel cimport prange, threadid
from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint64_t

cdef extern from "simd/int8/rounding.h" nogil:
    ctypedef struct Rounding:
        float unit, step, lo, hi
        uint64_t key
    int ROUND_NEAREST, ROUND_STOCHASTIC, ROUND_CODES, ROUND_VALUES
    int round_fixed(const float *x, long n, const Rounding *r, uint64_t i, int how, int what,
                    void *out, int level)

cdef enum:
    CHUNK = 16384  # entries a thread takes at a time; even


cdef int rounded(const float *x, Py_ssize_t n, const Rounding *r, int how, int what, void *out,
                 int level, int n_threads) noexcept nogil:
    # Whether one of n entries is NaN; out has their codes or values, 4 bytes each.
    cdef Py_ssize_t c, start
    cdef int nan = 0
    for c in prange((n + CHUNK - 1) // CHUNK, schedule="static", num_threads=n_threads):
        start = CHUNK * c
        nan |= round_fixed(x + start, min(<Py_ssize_t>CHUNK, n - start), r, start, how, what,
                           <char *>out + 4 * start, level)
    return nan


def round_codes(
    const float[::1] x,   # IN (n,)
    float unit,           # 2^fl
    float lo, float hi,   # least and largest code
    bint stochastic,
    uint64_t key,         # of the draws
    int32_t[::1] out,     # OUT (n,)
    int level,
    int n_threads,
) -> bool:
    """x unit, rounded and saturated; returns whether an x is NaN: then codes mean nothing."""
    cdef Rounding r
    cdef int nan
    r.unit, r.step, r.lo, r.hi, r.key = unit, 1 / unit, lo, hi, key
    if x.shape[0] == 0:
        return False
    with nogil:
        nan = rounded(&x[0], x.shape[0], &r, ROUND_STOCHASTIC if stochastic else ROUND_NEAREST,
                      ROUND_CODES, &out[0], level, n_threads)
    return nan != 0


def round_values(
    const float[::1] x,   # IN (n,)
    float unit,           # 2^fl
    float lo, float hi,   # least and largest code
    bint stochastic,
    uint64_t key,         # of the draws
    float[::1] out,       # OUT (n,)
    int level,
    int n_threads,
):
    """The codes of x, as round_codes, times 1 / unit; NaN stays NaN."""
    cdef Rounding r
    r.unit, r.step, r.lo, r.hi, r.key = unit, 1 / unit, lo, hi, key
    if x.shape[0] == 0:
        return
    with nogil:
        rounded(&x[0], x.shape[0], &r, ROUND_STOCHASTIC if stochastic else ROUND_NEAREST,
                ROUND_VALUES, &out[0], level, n_threads)


# ------------------------------------------------ depthwise convolution, pooling, sums and moves

cdef extern from "simd/int8/requantize.h" nogil:
    ctypedef struct Requant:
        const int32_t *m0
        const int32_t *shift
        const float *factor
        const uint8_t *lo
        const uint8_t *hi
        int zero_point, rounding, zero_first

cdef extern from "simd/int8/depthwise.h" nogil:
    ctypedef struct Depthwise:
        long H, W, C, KH, KW, sh, sw, ph, pw, Ho, Wo
        int zero_point
        const void *weight
        const int32_t *offset
        Requant r
    long c_depthwise_room "depthwise_room"(long KH, long KW)
    void depthwise_block(const Depthwise *d, const uint8_t *x, long block, uint8_t *y, void *room,
                         int level)

cdef extern from "simd/int8/pool.h" nogil:
    ctypedef struct Pool:
        long H, W, C, KH, KW, sh, sw, ph, pw, Ho, Wo
    void max_pool_row(const Pool *d, const uint8_t *x, long i, uint8_t *y, int level)
    void avg_pool_row(const Pool *d, const uint8_t *x, int zero_point, const Requant *r, long i,
                      uint8_t *y, int level)

cdef extern from "simd/int8/wiring.h" nogil:
    ctypedef struct Adder:
        long inputs
        const int64_t *m
        const float *factor
        const int32_t *zero
        int shift, zero_point, lo, hi, rounding
    void add_codes(const Adder *d, const uint8_t *const *x, long at, long n, uint8_t *y, int level)
    void place_codes(const uint8_t *x, long P, long C, const uint8_t *table, uint8_t *y, long D,
                     int level)
    void shuffle_codes(const uint8_t *x, long P, long C, long G, uint8_t *y)


cdef Requant requant(const int32_t[::1] m0, const int32_t[::1] shift, const float[::1] factor,
                     const uint8_t[::1] lo, const uint8_t[::1] hi, how) except *:
    # how: zero_point, rounding (its number), zero_first. The arrays must outlive what is returned.
    cdef Requant r
    r.m0, r.shift, r.factor, r.lo, r.hi = &m0[0], &shift[0], &factor[0], &lo[0], &hi[0]
    r.zero_point, r.rounding, r.zero_first = how
    return r


def depthwise_room(long KH, long KW) -> int:
    """The bytes that a thread of `depthwise` needs."""
    return c_depthwise_room(KH, KW)


def depthwise(
    const uint8_t[:, :, :, ::1] x,   # IN (N, H, W, C)
    const int8_t[::1] weight,        # IN packed for level, bytes
    const int32_t[::1] offset,       # IN (blocks V,), as all that follow
    const int32_t[::1] m0,
    const int32_t[::1] shift,
    const float[::1] factor,
    const uint8_t[::1] lo,
    const uint8_t[::1] hi,
    how,                             # zero point, rounding, zero_first of the output
    sizes,                           # H, W, C, KH, KW, sh, sw, ph, pw, Ho, Wo
    int zero_point,                  # of x
    long blocks,
    uint8_t[:, ::1] room,            # n_threads rows of depthwise_room bytes
    uint8_t[:, :, :, ::1] y,         # OUT (N, Ho, Wo, C)
    int level,
    int n_threads,
):
    """Each channel with its filter, to codes."""
    cdef Depthwise d
    cdef Py_ssize_t t
    d.H, d.W, d.C, d.KH, d.KW, d.sh, d.sw, d.ph, d.pw, d.Ho, d.Wo = sizes
    d.zero_point, d.weight, d.offset = zero_point, &weight[0], &offset[0]
    d.r = requant(m0, shift, factor, lo, hi, how)
    for t in prange(x.shape[0] * blocks, nogil=True, schedule="static", num_threads=n_threads,
                    use_threads_if=n_threads > 1):
        depthwise_block(&d, &x[t // blocks, 0, 0, 0], t % blocks, &y[t // blocks, 0, 0, 0],
                        &room[threadid(), 0], level)


def max_pool(
    const uint8_t[:, :, :, ::1] x,   # IN (N, H, W, C)
    sizes,                           # H, W, C, KH, KW, sh, sw, ph, pw, Ho, Wo
    uint8_t[:, :, :, ::1] y,         # OUT (N, Ho, Wo, C)
    int level,
    int n_threads,
):
    """The largest code of each window."""
    cdef Pool d
    cdef Py_ssize_t t
    d.H, d.W, d.C, d.KH, d.KW, d.sh, d.sw, d.ph, d.pw, d.Ho, d.Wo = sizes
    for t in prange(x.shape[0] * d.Ho, nogil=True, schedule="static", num_threads=n_threads,
                    use_threads_if=n_threads > 1):
        max_pool_row(&d, &x[t // d.Ho, 0, 0, 0], t % d.Ho, &y[t // d.Ho, t % d.Ho, 0, 0], level)


def avg_pool(
    const uint8_t[:, :, :, ::1] x,   # IN (N, H, W, C)
    const int32_t[::1] m0,           # IN (64,), one channel's repeated, as all that follow
    const int32_t[::1] shift,
    const float[::1] factor,
    const uint8_t[::1] lo,
    const uint8_t[::1] hi,
    how,                             # zero point, rounding, zero_first of the output
    sizes,                           # H, W, C, KH, KW, sh, sw, ph, pw, Ho, Wo
    int zero_point,                  # of x
    uint8_t[:, :, :, ::1] y,         # OUT (N, Ho, Wo, C)
    int level,
    int n_threads,
):
    """The mean of each window, to codes."""
    cdef Pool d
    cdef Py_ssize_t t
    cdef Requant r = requant(m0, shift, factor, lo, hi, how)
    d.H, d.W, d.C, d.KH, d.KW, d.sh, d.sw, d.ph, d.pw, d.Ho, d.Wo = sizes
    for t in prange(x.shape[0] * d.Ho, nogil=True, schedule="static", num_threads=n_threads,
                    use_threads_if=n_threads > 1):
        avg_pool_row(&d, &x[t // d.Ho, 0, 0, 0], zero_point, &r, t % d.Ho,
                     &y[t // d.Ho, t % d.Ho, 0, 0], level)


def add(
    xs,                       # IN I arrays (n,) of uint8
    const int64_t[::1] m,     # IN (I,), as the two that follow
    const float[::1] factor,
    const int32_t[::1] zero,
    int shift,
    how,                      # zero point, lo, hi, rounding of the output
    uint8_t[::1] y,           # OUT (n,)
    int level,
    int n_threads,
):
    """The sum of codes of several grids, to codes."""
    cdef Adder d
    cdef const uint8_t[::1] one
    cdef const uint8_t *x[64]
    cdef Py_ssize_t c, n = y.shape[0]
    d.inputs, d.m, d.factor, d.zero, d.shift = len(xs), &m[0], &factor[0], &zero[0], shift
    d.zero_point, d.lo, d.hi, d.rounding = how
    if n == 0:
        return
    for c in range(d.inputs):
        one = xs[c]
        x[c] = &one[0]
    for c in prange((n + CHUNK - 1) // CHUNK, nogil=True, schedule="static", num_threads=n_threads,
                    use_threads_if=n_threads > 1):
        add_codes(&d, x, CHUNK * c, min(<Py_ssize_t>CHUNK, n - CHUNK * c), &y[CHUNK * c], level)


def place(
    const uint8_t[:, ::1] x,    # IN (P, C)
    const uint8_t[::1] table,   # IN (256,)
    Py_ssize_t at,              # channel of y at which those of x begin
    uint8_t[:, ::1] y,          # OUT (P, D)
    int level,
    int n_threads,
):
    """The codes of x through a table, as channels at..at + C of y."""
    cdef Py_ssize_t each = max(CHUNK // x.shape[1], 1), c
    for c in prange((x.shape[0] + each - 1) // each, nogil=True, schedule="static",
                    num_threads=n_threads, use_threads_if=n_threads > 1):
        place_codes(&x[each * c, 0], min(each, x.shape[0] - each * c), x.shape[1], &table[0],
                    &y[each * c, at], y.shape[1], level)


def shuffle(
    const uint8_t[:, ::1] x,   # IN (P, C)
    Py_ssize_t groups,
    uint8_t[:, ::1] y,         # OUT (P, C), not x
    int n_threads,
):
    """Channels (g, k) of x as (k, g) of y."""
    cdef Py_ssize_t each = max(CHUNK // x.shape[1], 1), c
    for c in prange((x.shape[0] + each - 1) // each, nogil=True, schedule="static",
                    num_threads=n_threads, use_threads_if=n_threads > 1):
        shuffle_codes(&x[each * c, 0], min(each, x.shape[0] - each * c), x.shape[1], groups,
                      &y[each * c, 0])
