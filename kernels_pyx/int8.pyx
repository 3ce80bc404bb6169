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
        int32_t *sums
    long c_depthwise_room "depthwise_room"(long KH, long KW)
    long depthwise_rows(const Depthwise *d)
    void depthwise_band(const Depthwise *d, const uint8_t *x, long blocks, long first, long end,
                        uint8_t *y, void *room, int level)

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

cdef extern from "simd/int8/inputs.h" nogil:
    ctypedef struct Input:
        long P, C
        const float *gain
        const float *bias
        float scale, zero, lo, hi
    void input_image(const Input *d, const float *x, uint8_t *y, int level)

cdef extern from "simd/int8/outputs.h" nogil:
    void floats_rows(const int32_t *acc, long m, long n, const float *scale, const float *bias,
                     float lo, float hi, float *y, int level)

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
    Input input
    const float *given

# ----------------------------------------------------------------------------------- what they do

cdef uint8_t *room_of(const Call *c) noexcept nogil:
    return c.rooms + threadid() * c.each


cdef void input_part(const Call *c, long t) noexcept nogil:
    input_image(&c.input, c.given + t * c.n, c.y + t * c.n, c.level)


cdef void input_call(const Call *c) noexcept nogil:
    each(c, input_part, c.M)


cdef void requantize_part(const Call *c, long t) noexcept nogil:
    cdef long parts = min(<long>c.n_threads, c.M), m = t * c.M // parts
    requantize_rows(&c.r, <const int32_t *>c.x + m * c.n, (t + 1) * c.M // parts - m, c.n,
                    c.y + m * c.n, c.level)


cdef void requantize_call(const Call *c) noexcept nogil:
    each(c, requantize_part, min(<long>c.n_threads, c.M))


cdef Target target_of(const Call *c) noexcept nogil:
    cdef Target t = c.to
    if c.codes:
        t.r = &c.r
    return t


cdef Product product_of(const Call *c) noexcept nogil:
    # Of a product, and of a convolution that is one.
    cdef Target t = target_of(c)
    if c.kernel == product_call:
        return conv_product(c.x, c.M, c.n, c.out, &t)
    return conv_product(c.x, c.M * c.conv.H * c.conv.W, c.conv.C, c.conv.O, &t)


cdef long product_parts(const Product *p, int n_threads) noexcept nogil:
    return min(<long>n_threads, max(p.M // 16, gemm_panels(p.O)))


cdef void product_part(const Call *c, long t) noexcept nogil:
    # Rows, or, where there are few, panels of output channels.
    cdef Product p = product_of(c)
    cdef long panels = gemm_panels(p.O), parts = product_parts(&p, c.n_threads)
    if p.M // 16 >= parts:
        gemm(&p, t * p.M // parts, (t + 1) * p.M // parts, 0, panels, c.level)
    else:
        gemm(&p, 0, p.M, t * panels // parts, (t + 1) * panels // parts, c.level)


cdef void product_call(const Call *c) noexcept nogil:
    cdef Product p = product_of(c)
    each(c, product_part, product_parts(&p, c.n_threads))


cdef long bands_of(const Call *c) noexcept nogil:
    # Images, or, where there are few, rows of output.
    return min(c.conv.Ho, (c.n_threads + c.M - 1) // c.M) if c.M < c.n_threads else 1


cdef void conv_part(const Call *c, long t) noexcept nogil:
    # Rows i..end of the output of image n.
    cdef Target to = target_of(c)
    cdef long bands = bands_of(c), n = t // bands, band = t % bands
    cdef long i = band * c.conv.Ho // bands, end = (band + 1) * c.conv.Ho // bands
    cdef long map = c.conv.Ho * c.conv.Wo * c.conv.O
    if c.codes:
        to.y += n * map
    else:
        to.sums += n * map
    conv_image(&c.conv, c.x + n * c.n, &to, i, end, room_of(c), c.level)


cdef void conv_call(const Call *c) noexcept nogil:
    if conv_is_product(&c.conv):
        product_call(c)
    else:
        each(c, conv_part, c.M * bands_of(c))


cdef void depthwise_part(const Call *c, long t) noexcept nogil:
    cdef Depthwise d = c.depthwise
    cdef long rows = depthwise_rows(&d), bands = (d.Ho + rows - 1) // rows, i = t % bands * rows
    if c.codes:
        d.r, d.sums = c.r, NULL
    else:
        d.sums = c.to.sums + t // bands * c.out
    depthwise_band(&d, c.x + t // bands * c.n, c.blocks, i, min(d.Ho, i + rows),
                   c.y + t // bands * c.out, room_of(c), c.level)


cdef void depthwise_call(const Call *c) noexcept nogil:
    cdef long rows = depthwise_rows(&c.depthwise)
    each(c, depthwise_part, c.M * ((c.depthwise.Ho + rows - 1) // rows))


cdef void max_pool_part(const Call *c, long t) noexcept nogil:
    max_pool_row(&c.pool, c.x + t // c.pool.Ho * c.n, t % c.pool.Ho,
                 c.y + t * c.pool.Wo * c.pool.C, c.level)


cdef void max_pool_call(const Call *c) noexcept nogil:
    each(c, max_pool_part, c.M * c.pool.Ho)


cdef void avg_pool_part(const Call *c, long t) noexcept nogil:
    avg_pool_row(&c.pool, c.x + t // c.pool.Ho * c.n, c.zero_point, &c.r, t % c.pool.Ho,
                 c.y + t * c.pool.Wo * c.pool.C, c.level)


cdef void avg_pool_call(const Call *c) noexcept nogil:
    each(c, avg_pool_part, c.M * c.pool.Ho)


cdef void add_part(const Call *c, long t) noexcept nogil:
    add_codes(&c.adder, c.xs, CHUNK * t, min(<long>CHUNK, c.n - CHUNK * t), c.y + CHUNK * t,
              c.level)


cdef void add_call(const Call *c) noexcept nogil:
    each(c, add_part, (c.n + CHUNK - 1) // CHUNK)


cdef long some_of(const Call *c) noexcept nogil:
    # Pixels that a part moves.
    return max(CHUNK // c.n, 1)


cdef void place_part(const Call *c, long t) noexcept nogil:
    cdef long at = some_of(c) * t
    place_codes(c.x + at * c.n, min(some_of(c), c.M - at), c.n, c.table, c.y + at * c.out, c.out,
                c.level)


cdef void place_call(const Call *c) noexcept nogil:
    each(c, place_part, (c.M + some_of(c) - 1) // some_of(c))


cdef void shuffle_part(const Call *c, long t) noexcept nogil:
    cdef long at = some_of(c) * t
    shuffle_codes(c.x + at * c.n, min(some_of(c), c.M - at), c.n, c.groups, c.y + at * c.n)


cdef void shuffle_call(const Call *c) noexcept nogil:
    each(c, shuffle_part, (c.M + some_of(c) - 1) // some_of(c))


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


def to_floats(
    const int32_t[:, ::1] acc,   # IN (M, O)
    const float[::1] scale,      # IN (O,)
    const float[::1] bias,       # IN (O,)
    float lo, float hi,          # ends of a clamp, perhaps infinite
    float[:, ::1] y,             # OUT (M, O)
    int level,
    int n_threads,
):
    """y = clamp(acc scale + bias)."""
    cdef long i, m, M = acc.shape[0], parts = min(<long>n_threads, M)
    if parts <= 1:
        with nogil:
            floats_rows(&acc[0, 0], M, acc.shape[1], &scale[0], &bias[0], lo, hi, &y[0, 0], level)
        return
    for i in prange(parts, nogil=True, schedule="static", num_threads=n_threads):
        m = i * M // parts
        floats_rows(&acc[m, 0], (i + 1) * M // parts - m, acc.shape[1], &scale[0], &bias[0], lo, hi,
                    &y[m, 0], level)


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

    def run(self, const float[::1] x=None):
        """Runs all calls, in order; those of to_codes read x, as large as theirs was."""
        cdef long i
        for i in range(self.count):
            if self.calls[i].kernel == input_call:
                if x is None or x.shape[0] != self.calls[i].M * self.calls[i].n:
                    raise ValueError("x must be as many floats as calls of to_codes were made for")
                self.calls[i].given = &x[0]
        self.run_all()

    def to_codes(
        self,
        const float[::1] x,        # IN (N C P,)
        const float[::1] gain,     # IN (C,), or None, as bias
        const float[::1] bias,
        long N, long C,
        how,                       # scale, zero point, lo, hi
        uint8_t[::1] y,            # OUT (N P C,)
        int level,
        int n_threads,
    ):
        """The codes of numbers, channels last."""
        cdef Call c
        c.kernel, c.level, c.n_threads = input_call, level, n_threads
        c.given, c.M, c.n, c.y = &x[0], N, x.shape[0] // N, &y[0]
        c.input.P, c.input.C, c.input.gain, c.input.bias = c.n // C, C, NULL, NULL
        if gain is not None:
            c.input.gain, c.input.bias = &gain[0], &bias[0]
        c.input.scale, c.input.zero, c.input.lo, c.input.hi = how
        if self.take(&c):
            self.held.append((gain, bias, y))

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
        c.r, c.codes = requant_of(r, how), True
        if self.take(&c):
            self.held.append((x, weight, offset, r, room, y))

    def depthwise_sums(
        self,
        const uint8_t[:, :, :, ::1] x,   # IN (N, H, W, C)
        const int8_t[::1] weight,        # IN packed for level, bytes
        const int32_t[::1] offset,       # IN (blocks V,)
        sizes,                           # H, W, C, KH, KW, sh, sw, ph, pw, Ho, Wo
        int zero_point,                  # of x
        long blocks,
        uint8_t[:, ::1] room,            # n_threads rows of depthwise_room bytes
        int32_t[:, :, :, ::1] sums,      # OUT (N, Ho, Wo, C)
        int level,
        int n_threads,
    ):
        """Each channel with its filter, sums."""
        cdef Call c
        cdef Depthwise d
        d.H, d.W, d.C, d.KH, d.KW, d.sh, d.sw, d.ph, d.pw, d.Ho, d.Wo = sizes
        d.zero_point, d.weight, d.offset = zero_point, &weight[0], &offset[0]
        c.kernel, c.level, c.n_threads, c.depthwise = depthwise_call, level, n_threads, d
        c.x, c.M, c.n, c.blocks = &x[0, 0, 0, 0], x.shape[0], d.H * d.W * d.C, blocks
        c.to.sums, c.out, c.y, c.codes = &sums[0, 0, 0, 0], d.Ho * d.Wo * d.C, NULL, False
        c.rooms, c.each = &room[0, 0], room.shape[1]
        if self.take(&c):
            self.held.append((x, weight, offset, room, sums))

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
