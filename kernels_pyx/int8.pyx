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


# ------------------------------------------------------------ requantization, products, convolution

cdef extern from "simd/int8/requantize.h" nogil:
    ctypedef struct Requant:
        const int32_t *m0
        const int32_t *shift
        const float *factor
        const uint8_t *lo
        const uint8_t *hi
        int zero_point, rounding, zero_first
    void requantize_rows(const Requant *r, const int32_t *acc, long m, long n, uint8_t *y,
                         int level)

cdef extern from "simd/int8/gemm.h" nogil:
    ctypedef struct Product:
        long M, O
    long gemm_panels(long O)
    void gemm(const Product *p, long m, long end, long j, long last, int level)

cdef extern from "simd/int8/conv.h" nogil:
    ctypedef struct Conv:
        long H, W, C, O, KH, KW, sh, sw, ph, pw, Ho, Wo, groups
        int zero_point
    ctypedef struct Target:
        const int8_t *w
        const int32_t *offset
        int32_t *sums
        uint8_t *y
        const Requant *r
    int conv_is_product(const Conv *d)
    long c_conv_room "conv_room"(const Conv *d)
    void conv_image(const Conv *d, const uint8_t *x, const Target *t, long i, long end,
                    uint8_t *room, int level)
    Product conv_product(const uint8_t *x, long M, long K, long O, const Target *t)


cdef Requant requant(const int32_t[::1] m0, const int32_t[::1] shift, const float[::1] factor,
                     const uint8_t[::1] lo, const uint8_t[::1] hi, how) except *:
    # how: zero_point, rounding (its number), zero_first. The arrays must outlive what is returned.
    cdef Requant r
    r.m0, r.shift, r.factor, r.lo, r.hi = &m0[0], &shift[0], &factor[0], &lo[0], &hi[0]
    r.zero_point, r.rounding, r.zero_first = how
    return r


cdef Requant requant_of(r, how) except *:
    # of a Requantizer, which must outlive what is returned
    return requant(r.m0, r.shift, r.factor, r.lo, r.hi, how)


cdef void multiply(const Product *p, int level, int n_threads) noexcept nogil:
    # Threads take rows each, or, where there are few, panels of output channels each.
    cdef long panels = gemm_panels(p.O), parts = min(<long>n_threads, max(p.M // 16, panels)), i
    cdef bint by_rows = p.M // 16 >= parts
    for i in prange(parts, schedule="static", num_threads=n_threads, use_threads_if=parts > 1):
        if by_rows:
            gemm(p, i * p.M // parts, (i + 1) * p.M // parts, 0, panels, level)
        else:
            gemm(p, 0, p.M, i * panels // parts, (i + 1) * panels // parts, level)


cdef void convolve(const Conv *d, const uint8_t *x, long N, const Target *t, uint8_t *rooms,
                   long room, int level, int n_threads) noexcept nogil:
    # Threads take images each, or, where there are few, rows of output each. rooms: room bytes each
    cdef long bands = 1, task, n, band
    cdef Product p
    if conv_is_product(d):
        p = conv_product(x, N * d.H * d.W, d.C, d.O, t)
        multiply(&p, level, n_threads)
        return
    if N < n_threads:
        bands = min(d.Ho, (n_threads + N - 1) // N)
    for task in prange(N * bands, schedule="static", num_threads=n_threads,
                       use_threads_if=n_threads > 1):
        n, band = task // bands, task % bands
        convolve_band(d, x, n, t, band * d.Ho // bands, (band + 1) * d.Ho // bands,
                      rooms + threadid() * room, level)


cdef void convolve_band(const Conv *d, const uint8_t *x, long n, const Target *t, long i, long end,
                        uint8_t *room, int level) noexcept nogil:
    # Rows i..end of the output of image n.
    cdef Target each = t[0]
    if t.sums != NULL:
        each.sums = t.sums + n * d.Ho * d.Wo * d.O
    else:
        each.y = t.y + n * d.Ho * d.Wo * d.O
    conv_image(d, x + n * d.H * d.W * d.C, &each, i, end, room, level)


cdef Target target(const int8_t[::1] w, const int32_t[::1] offset) except *:
    cdef Target t
    t.w, t.offset, t.sums, t.y, t.r = &w[0], &offset[0], NULL, NULL, NULL
    return t


cdef Conv described(sizes) except *:
    # sizes: H, W, C, O, KH, KW, sh, sw, ph, pw, Ho, Wo, groups, zero_point
    cdef Conv d
    (d.H, d.W, d.C, d.O, d.KH, d.KW, d.sh, d.sw, d.ph, d.pw, d.Ho, d.Wo, d.groups,
     d.zero_point) = sizes
    return d


def requantize(
    const int32_t[:, ::1] acc,   # IN (M, O)
    r,                           # a Requantizer of O channels
    how,                         # its zero point, number of the rounding, zero_first
    uint8_t[:, ::1] y,           # OUT (M, O)
    int level,
    int n_threads,
):
    """The codes of accumulators."""
    cdef Requant rule = requant_of(r, how)
    cdef long M = acc.shape[0], parts = min(<long>n_threads, M), i, m
    for i in prange(parts, nogil=True, schedule="static", num_threads=n_threads,
                    use_threads_if=n_threads > 1):
        m = i * M // parts
        requantize_rows(&rule, &acc[m, 0], (i + 1) * M // parts - m, acc.shape[1], &y[m, 0], level)


def product(
    const uint8_t[:, ::1] a,    # IN (M, K)
    const int8_t[::1] w,        # IN packed
    const int32_t[::1] offset,  # IN (O,)
    int32_t[:, ::1] sums,       # OUT (M, O)
    int level,
    int n_threads,
):
    """a w' + offset."""
    cdef Target t = target(w, offset)
    t.sums = &sums[0, 0]
    cdef Product p = conv_product(&a[0, 0], a.shape[0], a.shape[1], offset.shape[0], &t)
    with nogil:
        multiply(&p, level, n_threads)


def product_codes(
    const uint8_t[:, ::1] a,    # IN (M, K)
    const int8_t[::1] w,        # IN packed
    const int32_t[::1] offset,  # IN (O,)
    r,                          # a Requantizer of O channels
    how,                        # its zero point, number of the rounding, zero_first
    uint8_t[:, ::1] y,          # OUT (M, O)
    int level,
    int n_threads,
):
    """The codes of a w' + offset."""
    cdef Requant rule = requant_of(r, how)
    cdef Target t = target(w, offset)
    t.y, t.r = &y[0, 0], &rule
    cdef Product p = conv_product(&a[0, 0], a.shape[0], a.shape[1], offset.shape[0], &t)
    with nogil:
        multiply(&p, level, n_threads)


def conv_room(sizes) -> int:
    """The bytes that a thread of `conv` and `conv_codes` needs."""
    cdef Conv d = described(sizes)
    return c_conv_room(&d)


def conv(
    const uint8_t[:, :, :, ::1] x,  # IN (N, H, W, C)
    const int8_t[::1] w,            # IN packed
    const int32_t[::1] offset,      # IN (O,)
    sizes,                          # H, W, C, O, KH, KW, sh, sw, ph, pw, Ho, Wo, groups, zero point
    uint8_t[::1] rooms,             # n_threads times conv_room bytes
    int32_t[:, :, :, ::1] sums,     # OUT (N, Ho, Wo, O)
    int level,
    int n_threads,
):
    """x * w + offset."""
    cdef Conv d = described(sizes)
    cdef Target t = target(w, offset)
    t.sums = &sums[0, 0, 0, 0]
    with nogil:
        convolve(&d, &x[0, 0, 0, 0], x.shape[0], &t, &rooms[0], c_conv_room(&d), level, n_threads)


def conv_codes(
    const uint8_t[:, :, :, ::1] x,  # IN (N, H, W, C)
    const int8_t[::1] w,            # IN packed
    const int32_t[::1] offset,      # IN (O,)
    sizes,                          # H, W, C, O, KH, KW, sh, sw, ph, pw, Ho, Wo, groups, zero point
    r,                              # a Requantizer of O channels
    how,                            # its zero point, number of the rounding, zero_first
    uint8_t[::1] rooms,             # n_threads times conv_room bytes
    uint8_t[:, :, :, ::1] y,        # OUT (N, Ho, Wo, O)
    int level,
    int n_threads,
):
    """The codes of x * w + offset."""
    cdef Conv d = described(sizes)
    cdef Requant rule = requant_of(r, how)
    cdef Target t = target(w, offset)
    t.y, t.r = &y[0, 0, 0, 0], &rule
    with nogil:
        convolve(&d, &x[0, 0, 0, 0], x.shape[0], &t, &rooms[0], c_conv_room(&d), level, n_threads)


# ------------------------------------------------ depthwise convolution, pooling, sums and moves

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


def depthwise_room(long KH, long KW) -> int:
    """The bytes that a thread of `depthwise` needs."""
    return c_depthwise_room(KH, KW)


def depthwise(
    const uint8_t[:, :, :, ::1] x,   # IN (N, H, W, C)
    const int8_t[::1] weight,        # IN packed for level, bytes
    const int32_t[::1] offset,       # IN (blocks V,)
    r,                               # a Requantizer of blocks V channels
    how,                             # its zero point, number of the rounding, zero_first
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
    d.r = requant_of(r, how)
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
