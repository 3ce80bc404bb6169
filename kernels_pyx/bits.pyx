"""Numbers of one bit, +1 and -1: the twin of minicomp/kernels/bits/*.py."""

from cython.parallel cimport prange, threadid
from libc.stdlib cimport free, realloc
from libc.stdint cimport int32_t, uint64_t

cdef extern from "simd/bits/pack.h" nogil:
    ctypedef struct Limits:
        const int32_t *above
        const uint64_t *flip
    int pack_row(const float *x, long n, uint64_t *out, int level)
    void limit_row(const int32_t *acc, long n, const Limits *t, uint64_t *out, int level)

cdef extern from "simd/bits/gemm.h" nogil:
    ctypedef struct Product:
        const uint64_t *a
        const uint64_t *b
        long M, W, O
        int32_t K
        int32_t *sums
        uint64_t *bits
        const Limits *t
        const int32_t *fix
        const int32_t *which
    long gemm_groups(long O)
    void gemm(const Product *p, long m, long end, long g, long last, int level)

cdef extern from "simd/bits/conv.h" nogil:
    ctypedef struct Conv:
        long H, W, C, O, KH, KW, sh, sw, ph, pw, Ho, Wo
        int plus
        const int32_t *fix
        const int32_t *down
        const int32_t *across
    int conv_is_product(const Conv *d)
    long c_conv_room "conv_room"(const Conv *d)
    void conv_pixels_of(const Conv *d, const Product *p, const uint64_t *x, long m, long end,
                        uint64_t *room, int level)

cdef extern from "simd/bits/pool.h" nogil:
    ctypedef struct Pool:
        long H, W, words, KH, KW, sh, sw, ph, pw, Ho, Wo
        const uint64_t *flip
    void pool_row(const Pool *d, const uint64_t *x, long i, uint64_t *y, int level)


def pack_signs(
    const float[:, ::1] x,   # IN (M, K)
    uint64_t[:, ::1] out,    # OUT (M, words)
    int level,
    int n_threads,
) -> bool:
    """The bits of x >= 0; returns whether an x is NaN: then its bit means nothing."""
    cdef Py_ssize_t m
    cdef int nan = 0
    for m in prange(x.shape[0], nogil=True, schedule="static", num_threads=n_threads,
                    use_threads_if=n_threads > 1):
        nan |= pack_row(&x[m, 0], x.shape[1], &out[m, 0], level)
    return nan != 0


# A kernel with its arguments. M rows of n sums, or images of n words, at x or acc; of a product and
# a convolution the rest is in product and conv; a thread's room of `each` words.
cdef struct Call:
    void (*kernel)(const Call *c) noexcept nogil
    int level, n_threads
    const int32_t *acc
    const uint64_t *x
    long M, n
    uint64_t *y
    Limits limits
    Product product
    Conv conv
    Pool pool
    uint64_t *rooms
    long each

# ----------------------------------------------------------------------------------- what they do


cdef void limits_part(const Call *c, long m) noexcept nogil:
    limit_row(c.acc + m * c.n, c.n, &c.limits, c.y + m * gemm_groups(c.n), c.level)


cdef void limits_call(const Call *c) noexcept nogil:
    each(c, limits_part, c.M)


cdef Product product_of(const Call *c) noexcept nogil:
    cdef Product p = c.product
    p.t = &c.limits
    return p


cdef long product_parts(const Product *p, int n_threads) noexcept nogil:
    return min(<long>n_threads, max(p.M // 4, gemm_groups(p.O)))


cdef void product_part(const Call *c, long i) noexcept nogil:
    # Rows, or, where there are few, groups of 64 columns.
    cdef Product p = product_of(c)
    cdef long groups = gemm_groups(p.O), parts = product_parts(&p, c.n_threads)
    if p.M // 4 >= parts:
        gemm(&p, i * p.M // parts, (i + 1) * p.M // parts, 0, groups, c.level)
    else:
        gemm(&p, 0, p.M, i * groups // parts, (i + 1) * groups // parts, c.level)


cdef void product_call(const Call *c) noexcept nogil:
    each(c, product_part, product_parts(&c.product, c.n_threads))


cdef void conv_part(const Call *c, long i) noexcept nogil:
    # Pixels of the output.
    cdef Product p = product_of(c)
    cdef long parts = min(<long>c.n_threads, p.M)
    p.fix = c.conv.fix
    conv_pixels_of(&c.conv, &p, c.x, i * p.M // parts, (i + 1) * p.M // parts,
                   c.rooms + threadid() * c.each, c.level)


cdef void conv_call(const Call *c) noexcept nogil:
    each(c, conv_part, min(<long>c.n_threads, c.product.M))


cdef void max_pool_part(const Call *c, long t) noexcept nogil:
    pool_row(&c.pool, c.x + t // c.pool.Ho * c.n, t % c.pool.Ho,
             c.y + t * c.pool.Wo * c.pool.words, c.level)


cdef void max_pool_call(const Call *c) noexcept nogil:
    each(c, max_pool_part, c.M * c.pool.Ho)


# ------------------------------------------------------------------------------------------ doors


cdef Limits limits_of(t) except *:
    # Of Thresholds, which must outlive what is returned.
    cdef Limits q
    cdef const int32_t[::1] above = t.above
    cdef const uint64_t[::1] flip = t.flip
    q.above, q.flip = &above[0], &flip[0]
    return q


cdef Conv conv_of(sizes) except *:
    # sizes: H, W, C, O, KH, KW, sh, sw, ph, pw, Ho, Wo
    cdef Conv d
    d.H, d.W, d.C, d.O, d.KH, d.KW, d.sh, d.sw, d.ph, d.pw, d.Ho, d.Wo = sizes
    d.plus, d.fix, d.down, d.across = 0, NULL, NULL, NULL
    return d


def conv_room(sizes) -> int:
    """The words that a thread of a convolution needs."""
    cdef Conv d = conv_of(sizes)
    return c_conv_room(&d)


include "calls.pxi"


cdef class Calls(Kept):
    """The kernels of this room, kept or run at once: see calls.pxi."""

    def limits(
        self,
        const int32_t[:, ::1] acc,   # IN (M, O)
        t,                           # Thresholds of O channels
        uint64_t[:, ::1] y,          # OUT (M, words)
        int level,
        int n_threads,
    ):
        """The bits of sums."""
        cdef Call c
        c.kernel, c.level, c.n_threads = limits_call, level, n_threads
        c.acc, c.M, c.n, c.y = &acc[0, 0], acc.shape[0], acc.shape[1], &y[0, 0]
        c.limits = limits_of(t)
        if self.take(&c):
            self.held.append((acc, t, y))

    def product(
        self,
        const uint64_t[:, ::1] a,    # IN (M, W)
        const uint64_t[::1] w,       # IN packed
        int32_t K,
        int32_t[:, ::1] sums,        # OUT (M, O)
        int level,
        int n_threads,
    ):
        """a w'."""
        cdef Call c
        c.kernel, c.level, c.n_threads = product_call, level, n_threads
        c.product = Product(&a[0, 0], &w[0], a.shape[0], a.shape[1], sums.shape[1], K,
                            &sums[0, 0], NULL, NULL, NULL, NULL)
        if self.take(&c):
            self.held.append((a, w, sums))

    def product_bits(
        self,
        const uint64_t[:, ::1] a,    # IN (M, W)
        const uint64_t[::1] w,       # IN packed
        int32_t K,
        t,                           # Thresholds of O channels
        long O,
        uint64_t[:, ::1] y,          # OUT (M, words)
        int level,
        int n_threads,
    ):
        """The bits of a w'."""
        cdef Call c
        c.kernel, c.level, c.n_threads, c.limits = product_call, level, n_threads, limits_of(t)
        c.product = Product(&a[0, 0], &w[0], a.shape[0], a.shape[1], O, K, NULL, &y[0, 0], NULL,
                            NULL, NULL)
        if self.take(&c):
            self.held.append((a, w, t, y))

    cdef int conv_to(self, Call *c, x, w, sizes, meets, uint64_t[::1] rooms) except -1:
        # A convolution, but for where its sums go: whether it is kept.
        cdef const uint64_t[:, :, :, ::1] maps = x
        cdef const uint64_t[::1] panels = w
        cdef const int32_t[:, ::1] fix
        cdef const int32_t[::1] down, across
        cdef int K
        c.kernel, c.x, c.conv = conv_call, &maps[0, 0, 0, 0], conv_of(sizes)
        c.rooms, c.each = &rooms[0], c_conv_room(&c.conv)
        K, c.conv.plus, given = meets
        if given is not None:
            fix, down, across = given
            c.conv.fix, c.conv.down, c.conv.across = &fix[0, 0], &down[0], &across[0]
        c.product.a, c.product.b, c.product.K = c.x, &panels[0], K
        c.product.M, c.product.W = maps.shape[0] * c.conv.Ho * c.conv.Wo, maps.shape[3]
        c.product.O, c.product.fix, c.product.which = c.conv.O, NULL, NULL
        if conv_is_product(&c.conv):
            c.kernel = product_call
        else:
            c.product.W *= c.conv.KH * c.conv.KW
        return self.take(c)

    def conv(
        self,
        const uint64_t[:, :, :, ::1] x,  # IN (N, H, W, words)
        const uint64_t[::1] w,           # IN packed
        sizes,                           # H, W, C, O, KH, KW, sh, sw, ph, pw, Ho, Wo
        meets,                           # K, whether padding is +1, (fix, down, across) or None
        uint64_t[::1] rooms,             # n_threads times conv_room words
        int32_t[:, :, :, ::1] sums,      # OUT (N, Ho, Wo, O)
        int level,
        int n_threads,
    ):
        """x * w."""
        cdef Call c
        c.level, c.n_threads = level, n_threads
        c.product.sums, c.product.bits = &sums[0, 0, 0, 0], NULL
        if self.conv_to(&c, x, w, sizes, meets, rooms):
            self.held.append((x, w, meets, rooms, sums))

    def conv_bits(
        self,
        const uint64_t[:, :, :, ::1] x,  # IN (N, H, W, words)
        const uint64_t[::1] w,           # IN packed
        sizes,                           # H, W, C, O, KH, KW, sh, sw, ph, pw, Ho, Wo
        meets,                           # K, whether padding is +1, (fix, down, across) or None
        uint64_t[::1] rooms,             # n_threads times conv_room words
        t,                               # Thresholds of O channels
        uint64_t[:, :, :, ::1] y,        # OUT (N, Ho, Wo, words of O)
        int level,
        int n_threads,
    ):
        """The bits of x * w."""
        cdef Call c
        c.level, c.n_threads, c.limits = level, n_threads, limits_of(t)
        c.product.sums, c.product.bits = NULL, &y[0, 0, 0, 0]
        if self.conv_to(&c, x, w, sizes, meets, rooms):
            self.held.append((x, w, meets, rooms, t, y))

    def max_pool(
        self,
        const uint64_t[:, :, :, ::1] x,  # IN (N, H, W, words)
        sizes,                           # H, W, words, KH, KW, sh, sw, ph, pw, Ho, Wo
        const uint64_t[::1] flip,        # IN (words,)
        uint64_t[:, :, :, ::1] y,        # OUT (N, Ho, Wo, words)
        int level,
        int n_threads,
    ):
        """The largest sign of each window, or the least where flip is set."""
        cdef Call c
        c.kernel, c.level, c.n_threads = max_pool_call, level, n_threads
        c.x, c.M, c.y = &x[0, 0, 0, 0], x.shape[0], &y[0, 0, 0, 0]
        (c.pool.H, c.pool.W, c.pool.words, c.pool.KH, c.pool.KW, c.pool.sh, c.pool.sw, c.pool.ph,
         c.pool.pw, c.pool.Ho, c.pool.Wo) = sizes
        c.pool.flip, c.n = &flip[0], c.pool.H * c.pool.W * c.pool.words
        if self.take(&c):
            self.held.append((x, flip, y))


NOW = Calls(at_once=True)
