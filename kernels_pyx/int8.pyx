"""Fixed-point numbers: the twin of minicomp/kernels/int8/*.py."""

from cython.parallel cimport prange, threadid
from libc.stdlib cimport free, realloc
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


# ------------------------------------------------------------ kernels of an integer program

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

cdef enum: MOST_ADDED = 64

# A kernel with its arguments. x may be int32 sums (requantize); M rows, pixels or images, n entries
# of each; y, of rows `out` apart; a thread's room of `each` bytes.
cdef struct Call:
    void (*kernel)(const Call *c) noexcept nogil
    int level, n_threads, zero_point
    const uint8_t *x
    long M, n
    uint8_t *y
    long out
    uint8_t *rooms
    long each
    Requant r
    bint codes  # whether r makes sums codes
    Target to
    Conv conv
    Depthwise depthwise
    long blocks
    Pool pool
    Adder adder
    const uint8_t *xs[MOST_ADDED]
    const uint8_t *table
    long groups

# ----------------------------------------------------------------------------------- what they do


cdef void requantize_call(const Call *c) noexcept nogil:
    cdef long parts = min(<long>c.n_threads, c.M), i, m
    for i in prange(parts, schedule="static", num_threads=c.n_threads,
                    use_threads_if=c.n_threads > 1):
        m = i * c.M // parts
        requantize_rows(&c.r, <const int32_t *>c.x + m * c.n, (i + 1) * c.M // parts - m, c.n,
                        c.y + m * c.n, c.level)


cdef Target target_of(const Call *c) noexcept nogil:
    cdef Target t = c.to
    if c.codes:
        t.r = &c.r
    return t


cdef void product_call(const Call *c) noexcept nogil:
    cdef Target t = target_of(c)
    cdef Product p = conv_product(c.x, c.M, c.n, c.out, &t)
    multiply(&p, c.level, c.n_threads)


cdef void multiply(const Product *p, int level, int n_threads) noexcept nogil:
    # Threads take rows each, or, where there are few, panels of output channels each.
    cdef long panels = gemm_panels(p.O), parts = min(<long>n_threads, max(p.M // 16, panels)), i
    cdef bint by_rows = p.M // 16 >= parts
    for i in prange(parts, schedule="static", num_threads=n_threads, use_threads_if=parts > 1):
        if by_rows:
            gemm(p, i * p.M // parts, (i + 1) * p.M // parts, 0, panels, level)
        else:
            gemm(p, 0, p.M, i * panels // parts, (i + 1) * panels // parts, level)


cdef void conv_call(const Call *c) noexcept nogil:
    # Threads take images each, or, where there are few, rows of output each.
    cdef long bands = 1, task, n, band, Ho = c.conv.Ho
    cdef Target t = target_of(c)
    cdef Product p
    if conv_is_product(&c.conv):
        p = conv_product(c.x, c.M * c.conv.H * c.conv.W, c.conv.C, c.conv.O, &t)
        multiply(&p, c.level, c.n_threads)
        return
    if c.M < c.n_threads:
        bands = min(Ho, (c.n_threads + c.M - 1) // c.M)
    for task in prange(c.M * bands, schedule="static", num_threads=c.n_threads,
                       use_threads_if=c.n_threads > 1):
        n, band = task // bands, task % bands
        conv_band(c, n, band * Ho // bands, (band + 1) * Ho // bands,
                  c.rooms + threadid() * c.each)


cdef void conv_band(const Call *c, long n, long i, long end, uint8_t *room) noexcept nogil:
    # Rows i..end of the output of image n.
    cdef Target t = target_of(c)
    cdef long map = c.conv.Ho * c.conv.Wo * c.conv.O
    if c.codes:
        t.y += n * map
    else:
        t.sums += n * map
    conv_image(&c.conv, c.x + n * c.n, &t, i, end, room, c.level)


cdef void depthwise_call(const Call *c) noexcept nogil:
    cdef long t
    cdef Depthwise d = c.depthwise
    d.r = c.r
    for t in prange(c.M * c.blocks, schedule="static", num_threads=c.n_threads,
                    use_threads_if=c.n_threads > 1):
        depthwise_block(&d, c.x + t // c.blocks * c.n, t % c.blocks, c.y + t // c.blocks * c.out,
                        c.rooms + threadid() * c.each, c.level)


cdef void max_pool_call(const Call *c) noexcept nogil:
    cdef long t, row = c.pool.Wo * c.pool.C
    for t in prange(c.M * c.pool.Ho, schedule="static", num_threads=c.n_threads,
                    use_threads_if=c.n_threads > 1):
        max_pool_row(&c.pool, c.x + t // c.pool.Ho * c.n, t % c.pool.Ho, c.y + t * row, c.level)


cdef void avg_pool_call(const Call *c) noexcept nogil:
    cdef long t, row = c.pool.Wo * c.pool.C
    for t in prange(c.M * c.pool.Ho, schedule="static", num_threads=c.n_threads,
                    use_threads_if=c.n_threads > 1):
        avg_pool_row(&c.pool, c.x + t // c.pool.Ho * c.n, c.zero_point, &c.r, t % c.pool.Ho,
                     c.y + t * row, c.level)


cdef void add_call(const Call *c) noexcept nogil:
    cdef long t
    for t in prange((c.n + CHUNK - 1) // CHUNK, schedule="static", num_threads=c.n_threads,
                    use_threads_if=c.n_threads > 1):
        add_codes(&c.adder, c.xs, CHUNK * t, min(<long>CHUNK, c.n - CHUNK * t), c.y + CHUNK * t,
                  c.level)


cdef void place_call(const Call *c) noexcept nogil:
    cdef long some = max(CHUNK // c.n, 1), t
    for t in prange((c.M + some - 1) // some, schedule="static", num_threads=c.n_threads,
                    use_threads_if=c.n_threads > 1):
        place_codes(c.x + some * t * c.n, min(some, c.M - some * t), c.n, c.table,
                    c.y + some * t * c.out, c.out, c.level)


cdef void shuffle_call(const Call *c) noexcept nogil:
    cdef long some = max(CHUNK // c.n, 1), t
    for t in prange((c.M + some - 1) // some, schedule="static", num_threads=c.n_threads,
                    use_threads_if=c.n_threads > 1):
        shuffle_codes(c.x + some * t * c.n, min(some, c.M - some * t), c.n, c.groups,
                      c.y + some * t * c.n)


# ------------------------------------------------------------------------------------------ doors


cdef Requant requant_of(r, how) except *:
    # Of a Requantizer, which must outlive what is returned; how: zero_point, rounding (its number),
    # zero_first.
    cdef Requant q
    cdef const int32_t[::1] m0 = r.m0, shift = r.shift
    cdef const float[::1] factor = r.factor
    cdef const uint8_t[::1] lo = r.lo, hi = r.hi
    q.m0, q.shift, q.factor, q.lo, q.hi = &m0[0], &shift[0], &factor[0], &lo[0], &hi[0]
    q.zero_point, q.rounding, q.zero_first = how
    return q


cdef Pool pool_of(sizes) except *:
    # sizes: H, W, C, KH, KW, sh, sw, ph, pw, Ho, Wo
    cdef Pool d
    d.H, d.W, d.C, d.KH, d.KW, d.sh, d.sw, d.ph, d.pw, d.Ho, d.Wo = sizes
    return d


cdef Conv conv_of(sizes) except *:
    # sizes: H, W, C, O, KH, KW, sh, sw, ph, pw, Ho, Wo, groups, zero_point
    cdef Conv d
    (d.H, d.W, d.C, d.O, d.KH, d.KW, d.sh, d.sw, d.ph, d.pw, d.Ho, d.Wo, d.groups,
     d.zero_point) = sizes
    return d


def conv_room(sizes) -> int:
    """The bytes that a thread of `conv` and `conv_codes` needs."""
    cdef Conv d = conv_of(sizes)
    return c_conv_room(&d)


def depthwise_room(long KH, long KW) -> int:
    """The bytes that a thread of `depthwise` needs."""
    return c_depthwise_room(KH, KW)


include "calls.pxi"


cdef class Calls(Kept):
    """The kernels of this room, kept or run at once: see calls.pxi."""

    def requantize(
        self,
        const int32_t[:, ::1] acc,   # IN (M, O)
        r,                           # a Requantizer of O channels
        how,                         # its zero point, number of the rounding, zero_first
        uint8_t[:, ::1] y,           # OUT (M, O)
        int level,
        int n_threads,
    ):
        """The codes of accumulators."""
        cdef Call c
        c.kernel, c.level, c.n_threads = requantize_call, level, n_threads
        c.x, c.M, c.n, c.y = <const uint8_t *>&acc[0, 0], acc.shape[0], acc.shape[1], &y[0, 0]
        c.r = requant_of(r, how)
        if self.take(&c):
            self.held.append((acc, r, y))

    def product(
        self,
        const uint8_t[:, ::1] a,    # IN (M, K)
        const int8_t[::1] w,        # IN packed
        const int32_t[::1] offset,  # IN (O,)
        int32_t[:, ::1] sums,       # OUT (M, O)
        int level,
        int n_threads,
    ):
        """a w' + offset."""
        cdef Call c
        c.kernel, c.level, c.n_threads, c.codes = product_call, level, n_threads, False
        c.x, c.M, c.n, c.out = &a[0, 0], a.shape[0], a.shape[1], sums.shape[1]
        c.to.w, c.to.offset, c.to.sums, c.to.y = &w[0], &offset[0], &sums[0, 0], NULL
        c.to.r = NULL
        if self.take(&c):
            self.held.append((a, w, offset, sums))

    def product_codes(
        self,
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
        cdef Call c
        c.kernel, c.level, c.n_threads, c.codes = product_call, level, n_threads, True
        c.x, c.M, c.n, c.out = &a[0, 0], a.shape[0], a.shape[1], y.shape[1]
        c.to.w, c.to.offset, c.to.sums, c.to.y = &w[0], &offset[0], NULL, &y[0, 0]
        c.r = requant_of(r, how)
        if self.take(&c):
            self.held.append((a, w, offset, r, y))

    def conv(
        self,
        const uint8_t[:, :, :, ::1] x,  # IN (N, H, W, C)
        const int8_t[::1] w,            # IN packed
        const int32_t[::1] offset,      # IN (O,)
        sizes,                          # H, W, C, O, KH, KW, sh, sw, ph, pw, Ho, Wo, groups, zero
        uint8_t[::1] rooms,             # n_threads times conv_room bytes
        int32_t[:, :, :, ::1] sums,     # OUT (N, Ho, Wo, O)
        int level,
        int n_threads,
    ):
        """x * w + offset."""
        cdef Call c
        c.kernel, c.level, c.n_threads, c.codes = conv_call, level, n_threads, False
        c.conv, c.x, c.M = conv_of(sizes), &x[0, 0, 0, 0], x.shape[0]
        c.n, c.rooms, c.each = c.conv.H * c.conv.W * c.conv.C, &rooms[0], c_conv_room(&c.conv)
        c.to.w, c.to.offset, c.to.sums, c.to.y = &w[0], &offset[0], &sums[0, 0, 0, 0], NULL
        c.to.r = NULL
        if self.take(&c):
            self.held.append((x, w, offset, rooms, sums))

    def conv_codes(
        self,
        const uint8_t[:, :, :, ::1] x,  # IN (N, H, W, C)
        const int8_t[::1] w,            # IN packed
        const int32_t[::1] offset,      # IN (O,)
        sizes,                          # H, W, C, O, KH, KW, sh, sw, ph, pw, Ho, Wo, groups, zero
        r,                              # a Requantizer of O channels
        how,                            # its zero point, number of the rounding, zero_first
        uint8_t[::1] rooms,             # n_threads times conv_room bytes
        uint8_t[:, :, :, ::1] y,        # OUT (N, Ho, Wo, O)
        int level,
        int n_threads,
    ):
        """The codes of x * w + offset."""
        cdef Call c
        c.kernel, c.level, c.n_threads, c.codes = conv_call, level, n_threads, True
        c.conv, c.x, c.M = conv_of(sizes), &x[0, 0, 0, 0], x.shape[0]
        c.n, c.rooms, c.each = c.conv.H * c.conv.W * c.conv.C, &rooms[0], c_conv_room(&c.conv)
        c.to.w, c.to.offset, c.to.sums, c.to.y = &w[0], &offset[0], NULL, &y[0, 0, 0, 0]
        c.r = requant_of(r, how)
        if self.take(&c):
            self.held.append((x, w, offset, r, rooms, y))

    def depthwise(
        self,
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
        cdef Call c
        cdef Depthwise d
        d.H, d.W, d.C, d.KH, d.KW, d.sh, d.sw, d.ph, d.pw, d.Ho, d.Wo = sizes
        d.zero_point, d.weight, d.offset = zero_point, &weight[0], &offset[0]
        c.kernel, c.level, c.n_threads, c.depthwise = depthwise_call, level, n_threads, d
        c.x, c.M, c.n, c.blocks = &x[0, 0, 0, 0], x.shape[0], d.H * d.W * d.C, blocks
        c.y, c.out, c.rooms, c.each = &y[0, 0, 0, 0], d.Ho * d.Wo * d.C, &room[0, 0], room.shape[1]
        c.r = requant_of(r, how)
        if self.take(&c):
            self.held.append((x, weight, offset, r, room, y))

    def max_pool(
        self,
        const uint8_t[:, :, :, ::1] x,   # IN (N, H, W, C)
        sizes,                           # H, W, C, KH, KW, sh, sw, ph, pw, Ho, Wo
        uint8_t[:, :, :, ::1] y,         # OUT (N, Ho, Wo, C)
        int level,
        int n_threads,
    ):
        """The largest code of each window."""
        cdef Call c
        c.kernel, c.level, c.n_threads, c.pool = max_pool_call, level, n_threads, pool_of(sizes)
        c.x, c.M, c.y = &x[0, 0, 0, 0], x.shape[0], &y[0, 0, 0, 0]
        c.n = c.pool.H * c.pool.W * c.pool.C
        if self.take(&c):
            self.held.append((x, y))

    def avg_pool(
        self,
        const uint8_t[:, :, :, ::1] x,   # IN (N, H, W, C)
        r,                               # a Requantizer of 64 channels, alike
        how,                             # its zero point, number of the rounding, zero_first
        sizes,                           # H, W, C, KH, KW, sh, sw, ph, pw, Ho, Wo
        int zero_point,                  # of x
        uint8_t[:, :, :, ::1] y,         # OUT (N, Ho, Wo, C)
        int level,
        int n_threads,
    ):
        """The mean of each window, to codes."""
        cdef Call c
        c.kernel, c.level, c.n_threads, c.pool = avg_pool_call, level, n_threads, pool_of(sizes)
        c.x, c.M, c.y = &x[0, 0, 0, 0], x.shape[0], &y[0, 0, 0, 0]
        c.n = c.pool.H * c.pool.W * c.pool.C
        c.r, c.zero_point = requant_of(r, how), zero_point
        if self.take(&c):
            self.held.append((x, r, y))

    def add(
        self,
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
        cdef Call c
        cdef const uint8_t[::1] one
        cdef long i
        if y.shape[0] == 0:
            return
        c.kernel, c.level, c.n_threads = add_call, level, n_threads
        c.n, c.y = y.shape[0], &y[0]
        c.adder.inputs, c.adder.shift = len(xs), shift
        c.adder.m, c.adder.factor, c.adder.zero = &m[0], &factor[0], &zero[0]
        c.adder.zero_point, c.adder.lo, c.adder.hi, c.adder.rounding = how
        for i in range(c.adder.inputs):
            one = xs[i]
            c.xs[i] = &one[0]
        if self.take(&c):
            self.held.append((xs, m, factor, zero, y))

    def place(
        self,
        const uint8_t[:, ::1] x,    # IN (P, C)
        const uint8_t[::1] table,   # IN (256,)
        Py_ssize_t at,              # channel of y at which those of x begin
        uint8_t[:, ::1] y,          # OUT (P, D)
        int level,
        int n_threads,
    ):
        """The codes of x through a table, as channels at..at + C of y."""
        cdef Call c
        c.kernel, c.level, c.n_threads, c.table = place_call, level, n_threads, &table[0]
        c.x, c.M, c.n, c.y, c.out = &x[0, 0], x.shape[0], x.shape[1], &y[0, at], y.shape[1]
        if self.take(&c):
            self.held.append((x, table, y))

    def shuffle(
        self,
        const uint8_t[:, ::1] x,   # IN (P, C)
        Py_ssize_t groups,
        uint8_t[:, ::1] y,         # OUT (P, C), not x
        int n_threads,
    ):
        """Channels (g, k) of x as (k, g) of y."""
        cdef Call c
        c.kernel, c.level, c.n_threads, c.groups = shuffle_call, 1, n_threads, groups
        c.x, c.M, c.n, c.y = &x[0, 0], x.shape[0], x.shape[1], &y[0, 0]
        if self.take(&c):
            self.held.append((x, y))


NOW = Calls(at_once=True)
