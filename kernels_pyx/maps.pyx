"""Layers on float32 maps that lie channels-last: the twin of minicomp/kernels/maps/*.py.

N batch, H W size, C in, O out, K kernel; of a linear layer I in, O out. The loops over images are
here, one image's work in simd/maps/*.h. `level` is a rung of simd/isa.h; arrays are checked and
allocated by the Python twins.
"""

from cython.parallel cimport prange, threadid
from libc.stdint cimport int64_t, uint8_t
from libc.string cimport memset

cdef extern from "simd/maps/ahead.h" nogil:
    ctypedef struct Ahead:
        pass
    Ahead ahead_of(const float *x, long n, const float *y, long m, int some)

cdef extern from "simd/maps/conv.h" nogil:
    ctypedef struct Conv:
        long H, W, C, O, KH, KW, sh, sw, ph, pw, Ho, Wo
        Ahead *ahead
    const float *conv_pad(const Conv *d, const float *x, float *out)
    void conv_im2col(const Conv *d, const float *x, float *columns)
    void conv_col2im(const Conv *d, const float *columns, float *dx)
    void conv_crop(const Conv *d, const float *padded, float *x)
    void conv_pack_o(const Conv *d, const float *w, float *out, int level)
    void conv_pack_c(const Conv *d, const float *w, float *out, long ld)
    long conv_lanes(long n)
    void conv_unpack(const Conv *d, const float *sum, float *dw)

ctypedef void (*ImageKernel)(const Conv *d, const float *x, const float *w, const float *bias,
                             float *y, float *room, int level) noexcept nogil
ctypedef void (*WeightKernel)(const Conv *d, const float *x, const float *g, float *dw, float *db,
                              float *room, int level) noexcept nogil

cdef extern from "simd/maps/depthwise.h" nogil:
    ImageKernel conv_image, conv_image_dx, depthwise_image, depthwise_image_dx
    WeightKernel conv_image_dw, depthwise_image_dw

cdef extern from "simd/maps/pool.h" nogil:
    ctypedef struct Pool:
        long H, W, C, KH, KW, sh, sw, ph, pw, Ho, Wo

ctypedef void (*PoolKernel)(const Pool *d, const float *x, uint8_t *index, float *y,
                            int level) noexcept nogil

cdef extern from "simd/maps/pool.h" nogil:
    PoolKernel max_pool_image, max_pool_image_dx, avg_pool_image, avg_pool_image_dx

cdef extern from "simd/maps/norm.h" nogil:
    ctypedef struct Gate:
        const float *a
        const float *b
        float top
    void norm_sums(const float *g, const float *x, const float *shift, Gate gate, long M, long C,
                   double *s, double *q, int level)
    void norm_moments(const float *x, const float *shift, long M, long C, double *s, double *q,
                      int level)
    void norm_affine(const float *x, const float *a, const float *b, int gated, long M, long C,
                     float top, float *y, int level)
    void norm_blend(const float *g, const float *x, const float *a, const float *b, const float *d,
                    Gate gate, long M, long C, float *y, int level)

cdef extern from "simd/maps/dense.h" nogil:
    enum: DENSE_LANES
    enum: DENSE_ROWS
    void dense_forward(const float *x, const float *w, const float *b, float *y, long N, long I,
                       long O, int relu, float *xt, float *part)
    void dense_dx(const float *g, const float *w, float *dx, long N, long I, long O)
    void dense_dw(const float *x, const float *g, float *dw, float *db, long N, long I, long O)

cdef extern from "simd/maps/softmax.h" nogil:
    long softmax_losses(const float *z, const int64_t *label, long N, long K, double s, float *loss,
                        float *p)
    long softmax_losses_dz(const float *g, const float *p, const int64_t *label, long N, long K,
                           double s, float *dz)

cdef extern from "simd/maps/update.h" nogil:
    void update_relu_dx(const float *g, const float *y, long n, float *dx, int level)
    void update_sgd(float *w, float *v, const float *g, long n, float lr, float momentum,
                    float decay, int level)

SLABS = 4  # parts of the batch that sum a weight gradient apart, whatever the number of threads
LANES = DENSE_LANES
ROWS = DENSE_ROWS

# --------------------------------------------------------------------------------- convolution


cdef Conv describe(sizes) except *:
    # sizes: H, W, C, O, KH, KW, sh, sw, ph, pw, Ho, Wo
    cdef Conv d
    d.H, d.W, d.C, d.O, d.KH, d.KW, d.sh, d.sw, d.ph, d.pw, d.Ho, d.Wo = sizes
    d.ahead = NULL
    return d


cdef void on_image(ImageKernel kernel, Conv d, Ahead ahead, const float *x, const float *w,
                   const float *bias, float *y, float *room, int level) noexcept nogil:
    # kernel from x to y; meanwhile it asks for what lies ahead
    d.ahead = &ahead
    kernel(&d, x, w, bias, y, room, level)


cdef void on_weight(WeightKernel kernel, Conv d, Ahead ahead, const float *x, const float *g,
                    float *dw, float *db, float *room, int level) noexcept nogil:
    # kernel from x and g to dw and db; meanwhile it asks for what lies ahead
    d.ahead = &ahead
    kernel(&d, x, g, dw, db, room, level)


cdef const float *or_null(const float[::1] v) noexcept:
    return &v[0] if v is not None else NULL


cdef void each_image(ImageKernel kernel, const Conv *d, const float[:, :, :, ::1] x, const float *w,
                     const float *bias, float[:, ::1] rooms, float[:, :, :, ::1] y, int level,
                     int n_threads) noexcept:
    # kernel from x[n] to y[n], with a room per thread
    cdef long n, count = x.shape[0]
    cdef long read = x.shape[1] * x.shape[2] * x.shape[3]
    cdef long written = y.shape[1] * y.shape[2] * y.shape[3]
    for n in prange(x.shape[0], nogil=True, schedule="static", num_threads=n_threads,
                    use_threads_if=n_threads > 1):
        on_image(kernel, d[0],
                 ahead_of(&x[n, 0, 0, 0], read, &y[n, 0, 0, 0], written, n + 1 < count),
                 &x[n, 0, 0, 0], w, bias, &y[n, 0, 0, 0], &rooms[threadid(), 0], level)


cdef void each_slab(WeightKernel kernel, const Conv *d, const float[:, :, :, ::1] x,
                    const float[:, :, :, ::1] g, float[:, ::1] sums, float *db,
                    float[:, ::1] rooms, int level, int n_threads) noexcept:
    # The images of a slab add up in its row of sums and of db, so that n_threads changes no bit.
    cdef long n, slab, count = x.shape[0], slabs = sums.shape[0]
    cdef float *into
    for slab in prange(slabs, nogil=True, schedule="static", num_threads=n_threads,
                       use_threads_if=n_threads > 1):
        into = db + slab * d.O if db != NULL else NULL
        for n in range(slab * count // slabs, (slab + 1) * count // slabs):
            on_weight(kernel, d[0],
                      ahead_of(&x[n, 0, 0, 0], d.H * d.W * d.C, &g[n, 0, 0, 0], d.Ho * d.Wo * d.O,
                               n + 1 < count),
                      &x[n, 0, 0, 0], &g[n, 0, 0, 0], &sums[slab, 0], into, &rooms[threadid(), 0],
                      level)


cdef void add_slabs(const Conv *d, float[:, ::1] sums, float[:, :, :, ::1] dw) noexcept:
    # dw, in its own order, from the sums of the slabs
    cdef long slab, i
    with nogil:
        for slab in range(1, sums.shape[0]):
            for i in range(sums.shape[1]):
                sums[0, i] += sums[slab, i]
        conv_unpack(d, &sums[0, 0], &dw[0, 0, 0, 0])


def conv(
    const float[:, :, :, ::1] x,   # IN (N, H, W, C)
    const float[:, :, :, ::1] w,   # IN (O, C, KH, KW)
    const float[::1] bias,         # IN (O,) or None
    float[::1] packed,             # room for KH KW C lanes(O)
    float[:, ::1] rooms,           # room for a padded image per thread
    float[:, :, :, ::1] y,         # OUT (N, Ho, Wo, O)
    sizes,
    int level,
    int n_threads,
):
    """y = x * w + bias."""
    cdef Conv d = describe(sizes)
    conv_pack_o(&d, &w[0, 0, 0, 0], &packed[0], level)
    each_image(conv_image, &d, x, &packed[0], or_null(bias), rooms, y, level, n_threads)


def conv_dx(
    const float[:, :, :, ::1] g,   # IN (N, Ho, Wo, O)
    const float[:, :, :, ::1] w,   # IN (O, C, KH, KW)
    float[::1] packed,             # room for KH O lanes(KW C)
    float[:, ::1] rooms,           # room for a padded row per thread
    float[:, :, :, ::1] dx,        # OUT (N, H, W, C)
    sizes,
    int level,
    int n_threads,
):
    """dx for the cotangent g of y."""
    cdef Conv d = describe(sizes)
    conv_pack_c(&d, &w[0, 0, 0, 0], &packed[0], conv_lanes(d.KW * d.C))
    each_image(conv_image_dx, &d, g, &packed[0], NULL, rooms, dx, level, n_threads)


def conv_dw(
    const float[:, :, :, ::1] x,   # IN (N, H, W, C)
    const float[:, :, :, ::1] g,   # IN (N, Ho, Wo, O)
    float[:, ::1] sums,            # zeros (SLABS, O C KH KW)
    float[:, ::1] rooms,           # room for a padded image per thread
    float[:, :, :, ::1] dw,        # OUT (O, C, KH, KW)
    float[:, ::1] db,              # OUT zeros (SLABS, O), to be summed; or None
    sizes,
    int level,
    int n_threads,
):
    """dw and db for the cotangent g of y; the sums do not depend on n_threads."""
    cdef Conv d = describe(sizes)
    each_slab(conv_image_dw, &d, x, g, sums, &db[0, 0] if db is not None else NULL, rooms, level,
              n_threads)
    add_slabs(&d, sums, dw)


def im2col(
    const float[:, :, :, ::1] x,   # IN (N, H, W, C)
    float[:, ::1] columns,         # OUT (N Ho Wo, KH KW C)
    float[:, ::1] rooms,           # room for a padded image
    sizes,
):
    """The windows of x as rows."""
    cdef Conv d = describe(sizes)
    cdef long n
    with nogil:
        for n in range(x.shape[0]):
            conv_im2col(&d, conv_pad(&d, &x[n, 0, 0, 0], &rooms[0, 0]),
                        &columns[n * d.Ho * d.Wo, 0])


def col2im(
    const float[:, ::1] columns,   # IN (N Ho Wo, KH KW C)
    float[:, :, :, ::1] dx,        # OUT (N, H, W, C)
    float[:, ::1] rooms,           # room for a padded image
    sizes,
):
    """The adjoint of im2col: entries that im2col copied from one place are summed there."""
    cdef Conv d = describe(sizes)
    cdef long n
    with nogil:
        for n in range(dx.shape[0]):
            memset(&rooms[0, 0], 0, rooms.shape[1] * sizeof(float))
            conv_col2im(&d, &columns[n * d.Ho * d.Wo, 0], &rooms[0, 0])
            conv_crop(&d, &rooms[0, 0], &dx[n, 0, 0, 0])


def depthwise(
    const float[:, :, :, ::1] x,   # IN (N, H, W, C)
    const float[:, ::1] w,         # IN (KH KW, C)
    const float[::1] bias,         # IN (C,) or None
    float[:, ::1] rooms,           # room for a padded image per thread
    float[:, :, :, ::1] y,         # OUT (N, Ho, Wo, C)
    sizes,
    int level,
    int n_threads,
):
    """y = x * w + bias, a filter per channel."""
    cdef Conv d = describe(sizes)
    each_image(depthwise_image, &d, x, &w[0, 0], or_null(bias), rooms, y, level, n_threads)


def depthwise_dx(
    const float[:, :, :, ::1] g,   # IN (N, Ho, Wo, C)
    const float[:, ::1] w,         # IN (KH KW, C)
    float[:, ::1] rooms,           # room for a padded image per thread
    float[:, :, :, ::1] dx,        # OUT (N, H, W, C)
    sizes,
    int level,
    int n_threads,
):
    """dx for the cotangent g of y."""
    cdef Conv d = describe(sizes)
    each_image(depthwise_image_dx, &d, g, &w[0, 0], NULL, rooms, dx, level, n_threads)


def depthwise_dw(
    const float[:, :, :, ::1] x,   # IN (N, H, W, C)
    const float[:, :, :, ::1] g,   # IN (N, Ho, Wo, C)
    float[:, ::1] rooms,           # room for a padded image per thread
    float[:, ::1] dw,              # OUT zeros (SLABS, KH KW C), to be summed
    sizes,
    int level,
    int n_threads,
):
    """dw for the cotangent g of y; the sums do not depend on n_threads."""
    cdef Conv d = describe(sizes)
    each_slab(depthwise_image_dw, &d, x, g, dw, NULL, rooms, level, n_threads)


# ------------------------------------------------------------------------------------- pooling


cdef Pool describe_pool(sizes) except *:
    # sizes: H, W, C, KH, KW, sh, sw, ph, pw, Ho, Wo
    cdef Pool d
    d.H, d.W, d.C, d.KH, d.KW, d.sh, d.sw, d.ph, d.pw, d.Ho, d.Wo = sizes
    return d


cdef void each_map(PoolKernel kernel, sizes, const float[:, :, :, ::1] x, const uint8_t *index,
                   float[:, :, :, ::1] y, int level, int n_threads) except *:
    # kernel from x[n] to y[n]; index is of the smaller of them, or NULL
    cdef Pool d = describe_pool(sizes)
    cdef long n, step = d.Ho * d.Wo * d.C if index != NULL else 0
    for n in prange(x.shape[0], nogil=True, schedule="static", num_threads=n_threads,
                    use_threads_if=n_threads > 1):
        kernel(&d, &x[n, 0, 0, 0], <uint8_t *>index + n * step, &y[n, 0, 0, 0], level)


def max_pool(
    const float[:, :, :, ::1] x,   # IN (N, H, W, C)
    float[:, :, :, ::1] y,         # OUT (N, Ho, Wo, C)
    uint8_t[:, :, :, ::1] index,   # OUT (N, Ho, Wo, C), a KW + b
    sizes,
    int level,
    int n_threads,
):
    """The largest entry of each window and its position."""
    each_map(max_pool_image, sizes, x, &index[0, 0, 0, 0], y, level, n_threads)


def max_pool_dx(
    const float[:, :, :, ::1] g,         # IN (N, Ho, Wo, C)
    const uint8_t[:, :, :, ::1] index,   # IN (N, Ho, Wo, C)
    float[:, :, :, ::1] dx,              # OUT (N, H, W, C)
    sizes,
    int level,
    int n_threads,
):
    """Each g added where its window's largest entry lay."""
    each_map(max_pool_image_dx, sizes, g, &index[0, 0, 0, 0], dx, level, n_threads)


def avg_pool(
    const float[:, :, :, ::1] x,   # IN (N, H, W, C)
    float[:, :, :, ::1] y,         # OUT (N, Ho, Wo, C)
    sizes,
    int level,
    int n_threads,
):
    """The mean of each window."""
    each_map(avg_pool_image, sizes, x, NULL, y, level, n_threads)


def avg_pool_dx(
    const float[:, :, :, ::1] g,   # IN (N, Ho, Wo, C)
    float[:, :, :, ::1] dx,        # OUT (N, H, W, C)
    sizes,
    int level,
    int n_threads,
):
    """Each g spread evenly over its window."""
    each_map(avg_pool_image_dx, sizes, g, NULL, dx, level, n_threads)


# ----------------------------------------------------------- convolution and the pooling after it


def conv_pool(
    const float[:, :, :, ::1] x,   # IN (N, H, W, C)
    const float[:, :, :, ::1] w,   # IN (O, C, KH, KW)
    const float[::1] bias,         # IN (O,) or None
    float[::1] packed,             # room for KH KW C lanes(O)
    float[:, ::1] rooms,           # room for a padded image per thread
    float[:, ::1] maps,            # room for an image of the convolution's output per thread
    float[:, :, :, ::1] y,         # OUT (N, Ho, Wo, O)
    uint8_t[:, :, :, ::1] index,   # OUT (N, Ho, Wo, O)
    sizes,
    pool_sizes,
    int level,
    int n_threads,
):
    """y = the largest entries of the windows of x * w + bias, and their positions.

    An image's maps are pooled while they lie in the nearest caches.
    """
    cdef Conv d = describe(sizes)
    cdef Pool p = describe_pool(pool_sizes)
    cdef const float *b = or_null(bias)
    cdef long n
    conv_pack_o(&d, &w[0, 0, 0, 0], &packed[0], level)
    for n in prange(x.shape[0], nogil=True, schedule="static", num_threads=n_threads,
                    use_threads_if=n_threads > 1):
        conv_image(&d, &x[n, 0, 0, 0], &packed[0], b, &maps[threadid(), 0], &rooms[threadid(), 0],
                   level)
        max_pool_image(&p, &maps[threadid(), 0], &index[n, 0, 0, 0], &y[n, 0, 0, 0], level)


def conv_pool_dw(
    const float[:, :, :, ::1] x,         # IN (N, H, W, C)
    const float[:, :, :, ::1] g,         # IN (N, Ho, Wo, O)
    const uint8_t[:, :, :, ::1] index,   # IN (N, Ho, Wo, O)
    float[:, ::1] rooms,                 # room for a padded image per thread
    float[:, ::1] maps,                  # room for an image of the convolution's output per thread
    float[:, ::1] sums,                  # zeros (SLABS, O C KH KW)
    float[:, :, :, ::1] dw,              # OUT (O, C, KH, KW)
    float[:, ::1] db,                    # OUT zeros (SLABS, O), to be summed
    sizes,
    pool_sizes,
    int level,
    int n_threads,
):
    """dw and db for the cotangent g of y; the sums do not depend on n_threads."""
    cdef Conv d = describe(sizes)
    cdef Pool p = describe_pool(pool_sizes)
    cdef long n, slab, count = x.shape[0], slabs = sums.shape[0]
    cdef float *map
    for slab in prange(slabs, nogil=True, schedule="static", num_threads=n_threads,
                       use_threads_if=n_threads > 1):
        map = &maps[threadid(), 0]
        for n in range(slab * count // slabs, (slab + 1) * count // slabs):
            max_pool_image_dx(&p, &g[n, 0, 0, 0], <uint8_t *>&index[n, 0, 0, 0], map, level)
            conv_image_dw(&d, &x[n, 0, 0, 0], map, &sums[slab, 0], &db[slab, 0],
                          &rooms[threadid(), 0], level)
    add_slabs(&d, sums, dw)


# ---------------------------------------------------------------------------- sums per channel


cdef Gate gate_of(gate) except *:
    # a, b (C,) and top, or None; the caller holds the arrays
    cdef Gate made
    made.a, made.b, made.top = NULL, NULL, 0
    if gate is not None:
        made.a, made.b, made.top = or_null(gate[0]), or_null(gate[1]), gate[2]
    return made


def sums(
    const float[:, ::1] g,    # IN (M, C)
    const float[:, ::1] x,    # IN (M, C)
    const float[::1] shift,   # IN (C,)
    gate,                     # a (C,), b (C,), top: g counts where 0 < x a + b < top; or None
    double[:, ::1] s,         # OUT zeros (SLABS, C), to be summed
    double[:, ::1] q,         # OUT zeros (SLABS, C), to be summed
    int level,
    int n_threads,
):
    """s = sum of g, q = sum of g (x - shift), over the rows; they do not depend on n_threads."""
    cdef Gate through = gate_of(gate)
    cdef long slab, lo, hi, M = x.shape[0], slabs = s.shape[0]
    for slab in prange(slabs, nogil=True, schedule="static", num_threads=n_threads,
                       use_threads_if=n_threads > 1):
        lo, hi = slab * M // slabs, (slab + 1) * M // slabs
        if hi > lo:
            norm_sums(&g[lo, 0], &x[lo, 0], &shift[0], through, hi - lo, x.shape[1], &s[slab, 0],
                      &q[slab, 0], level)


def moments(
    const float[:, ::1] x,    # IN (M, C)
    const float[::1] shift,   # IN (C,)
    double[::1] s,            # OUT zeros (C,)
    double[::1] q,            # OUT zeros (C,)
    int level,
):
    """s = sum of x - shift, q = sum of its square, over the rows."""
    with nogil:
        norm_moments(&x[0, 0], &shift[0], x.shape[0], x.shape[1], &s[0], &q[0], level)


def affine(
    const float[:, ::1] x,   # IN (M, C)
    const float[::1] a,      # IN (C,)
    const float[::1] b,      # IN (C,)
    bint gated,
    float top,
    float[:, ::1] y,         # OUT (M, C)
    int level,
    int n_threads,
):
    """y = x a + b, or that limited to 0..top."""
    cdef long part, lo, hi, M = x.shape[0]
    for part in prange(n_threads, nogil=True, schedule="static", num_threads=n_threads,
                       use_threads_if=n_threads > 1):
        lo, hi = part * M // n_threads, (part + 1) * M // n_threads
        if hi > lo:
            norm_affine(&x[lo, 0], &a[0], &b[0], gated, hi - lo, x.shape[1], top, &y[lo, 0], level)


def blend(
    const float[:, ::1] g,   # IN (M, C)
    const float[:, ::1] x,   # IN (M, C)
    const float[::1] a,      # IN (C,)
    const float[::1] b,      # IN (C,)
    const float[::1] d,      # IN (C,)
    gate,                    # as in sums
    float[:, ::1] y,         # OUT (M, C)
    int level,
):
    """y = g a + x b + d."""
    cdef Gate through = gate_of(gate)
    with nogil:
        norm_blend(&g[0, 0], &x[0, 0], &a[0], &b[0], &d[0], through, x.shape[0], x.shape[1],
                   &y[0, 0], level)


# ------------------------------------------- convolution and the batch normalisation behind it


cdef ImageKernel image_kernel(bint depthwise) noexcept nogil:
    if depthwise:
        return depthwise_image
    return conv_image


cdef const float *normalised(const Conv *d, Gate line, const float *x, float[:, ::1] images,
                             int level) noexcept nogil:
    # An image of x a + b in 0..top, in this thread's room; x itself where there is no line.
    if line.a == NULL:
        return x
    cdef float *image = &images[threadid(), 0]
    norm_affine(x, line.a, line.b, True, d.H * d.W, d.C, line.top, image, level)
    return image


def conv_moments(
    const float[:, :, :, ::1] x,   # IN (N, H, W, C)
    before,                        # a (C,), b (C,), top: an image is x a + b in 0..top; or None
    const float[::1] w,            # IN (O, C, KH, KW), or depthwise (KH KW, C)
    bint depthwise,
    float[::1] packed,             # room for KH KW C lanes(O)
    float[:, ::1] images,          # with `before`, room for an image per thread
    float[:, ::1] rooms,           # room for a padded image per thread
    float[:, :, :, ::1] u,         # OUT (N, Ho, Wo, O)
    double[:, ::1] s,              # zeros (N, O)
    double[:, ::1] q,              # zeros (N, O)
    double[::1] mean,              # OUT zeros (O,)
    double[::1] var,               # OUT zeros (O,)
    sizes,
    int level,
    int n_threads,
):
    """u = x * w, and mean and variance of its channels.

    An image's maps are summed while they lie in the nearest caches: s and q of v and v v, v = u -
    the image's first entry. The variance is that within images and that of their means.
    """
    cdef Conv d = describe(sizes)
    cdef Gate line = gate_of(before)
    cdef ImageKernel kernel = image_kernel(depthwise)
    cdef const float *filters = &w[0]
    cdef const float *image
    cdef long n, inside = d.H * d.W * d.C, outside = d.Ho * d.Wo * d.O
    if not depthwise:
        conv_pack_o(&d, filters, &packed[0], level)
        filters = &packed[0]
    for n in prange(x.shape[0], nogil=True, schedule="static", num_threads=n_threads,
                    use_threads_if=n_threads > 1):
        image = normalised(&d, line, &x[n, 0, 0, 0], images, level)
        on_image(kernel, d, ahead_of(&x[n, 0, 0, 0], inside, &u[n, 0, 0, 0], outside,
                                     n + 1 < x.shape[0]),
                 image, filters, NULL, &u[n, 0, 0, 0], &rooms[threadid(), 0], level)
        norm_moments(&u[n, 0, 0, 0], &u[n, 0, 0, 0], d.Ho * d.Wo, d.O, &s[n, 0], &q[n, 0], level)
    cdef double count = x.shape[0], places = d.Ho * d.Wo, off, within, apart
    cdef long c
    with nogil:
        for n in range(x.shape[0]):
            for c in range(d.O):
                off = s[n, c] / places
                s[n, c] = u[n, 0, 0, c] + off  # the mean of the image
                within = q[n, c] / places - off * off
                q[n, c] = within if within > 0 else 0
                mean[c] += s[n, c] / count
        for n in range(x.shape[0]):
            for c in range(d.O):
                apart = s[n, c] - mean[c]
                var[c] += (q[n, c] + apart * apart) / count


def conv_norm_grads(
    const float[:, :, :, ::1] g,   # IN (N, Ho, Wo, O)
    const float[:, :, :, ::1] u,   # IN (N, Ho, Wo, O), x * w
    const float[:, :, :, ::1] x,   # IN (N, H, W, C)
    before,                        # as in conv_moments
    const float[::1] shift,        # IN (C,); None: no sums of dx
    const float[::1] w,            # IN (O, C, KH, KW), or depthwise (KH KW, C)
    blend,                         # a, b, d (O,)
    gate,                          # as in sums
    bint depthwise,
    float[::1] packed,             # room for KH O lanes(KW C)
    float[:, ::1] images,          # with `before`, room for an image per thread
    float[:, ::1] rooms,           # room for a padded image per thread
    float[:, ::1] maps,            # room for an image of the convolution's output per thread
    float[:, ::1] sums,            # zeros (SLABS, size of w)
    double[:, ::1] s,              # with `shift`, OUT zeros (SLABS, C), to be summed
    double[:, ::1] q,              # with `shift`, OUT zeros (SLABS, C), to be summed
    float[:, :, :, ::1] dx,        # OUT (N, H, W, C); or None
    sizes,
    int level,
    int n_threads,
):
    """dx and the sums of dw for the cotangent v = g a + u b + d of u, as `blend` gives it; and with
    `shift` what `sums` makes of dx and x, `before` its gate.

    An image's v lies in the nearest caches and nowhere else; n_threads changes no bit.
    """
    cdef Conv e = describe(sizes)
    cdef Gate through = gate_of(gate)
    cdef Gate line = gate_of(before)
    cdef const float *a = or_null(blend[0])
    cdef const float *b = or_null(blend[1])
    cdef const float *d = or_null(blend[2])
    cdef const float *filters = &w[0]
    cdef const float *off = or_null(shift)
    cdef const float *image
    cdef ImageKernel input_grad = depthwise_image_dx if depthwise else conv_image_dx
    cdef WeightKernel weight_grad = depthwise_image_dw if depthwise else conv_image_dw
    cdef long n, slab, count = x.shape[0], slabs = sums.shape[0]
    cdef long inside = e.H * e.W * e.C, outside = e.Ho * e.Wo * e.O
    cdef float *v
    cdef float *room
    cdef bint wanted = dx is not None
    if wanted and not depthwise:
        conv_pack_c(&e, filters, &packed[0], conv_lanes(e.KW * e.C))
        filters = &packed[0]
    for slab in prange(slabs, nogil=True, schedule="static", num_threads=n_threads,
                       use_threads_if=n_threads > 1):
        v, room = &maps[threadid(), 0], &rooms[threadid(), 0]
        for n in range(slab * count // slabs, (slab + 1) * count // slabs):
            norm_blend(&g[n, 0, 0, 0], &u[n, 0, 0, 0], a, b, d, through, e.Ho * e.Wo, e.O, v,
                       level)
            image = normalised(&e, line, &x[n, 0, 0, 0], images, level)
            on_weight(weight_grad, e, ahead_of(&x[n, 0, 0, 0], inside, &g[n, 0, 0, 0], outside,
                                               n + 1 < count),
                      image, v, &sums[slab, 0], NULL, room, level)
            if wanted:
                on_image(input_grad, e, ahead_of(&dx[n, 0, 0, 0], inside, &u[n, 0, 0, 0], outside,
                                                 n + 1 < count),
                         v, filters, NULL, &dx[n, 0, 0, 0], room, level)
                if off != NULL:
                    norm_sums(&dx[n, 0, 0, 0], &x[n, 0, 0, 0], off, line, e.H * e.W, e.C,
                              &s[slab, 0], &q[slab, 0], level)


def unpacked(
    float[:, ::1] sums,         # (SLABS, O C KH KW), as conv_norm_grads leaves them
    float[:, :, :, ::1] dw,     # OUT (O, C, KH, KW)
    sizes,
):
    """dw of a convolution that is not depthwise, from the sums of the slabs."""
    cdef Conv d = describe(sizes)
    add_slabs(&d, sums, dw)


# -------------------------------------------------------------------------------- linear layers


def linear(
    const float[:, ::1] x,   # IN (N, I)
    const float[:, ::1] w,   # IN (O, I)
    const float[::1] b,      # IN (O,) or None
    bint relu,
    float[::1] room,         # (I + ROWS) LANES floats
    float[:, ::1] y,         # OUT (N, O)
):
    """y = x w' + b, or its positive part."""
    cdef const float *bias = or_null(b)
    with nogil:
        dense_forward(&x[0, 0], &w[0, 0], bias, &y[0, 0], x.shape[0], x.shape[1], w.shape[0], relu,
                      &room[0], &room[x.shape[1] * DENSE_LANES])


def linear_dx(
    const float[:, ::1] g,   # IN (N, O)
    const float[:, ::1] w,   # IN (O, I)
    float[:, ::1] dx,        # OUT (N, I)
):
    """dx = g w."""
    with nogil:
        dense_dx(&g[0, 0], &w[0, 0], &dx[0, 0], g.shape[0], w.shape[1], w.shape[0])


def linear_dw(
    const float[:, ::1] x,   # IN (N, I)
    const float[:, ::1] g,   # IN (N, O)
    float[:, ::1] dw,        # OUT (O, I)
    float[::1] db,           # OUT (O,)
):
    """dw = g' x and db, the sum of g over the batch."""
    with nogil:
        dense_dw(&x[0, 0], &g[0, 0], &dw[0, 0], &db[0], x.shape[0], x.shape[1], g.shape[1])


def relu_dx(
    const float[::1] g,   # IN
    const float[::1] y,   # IN, what ReLU returned
    float[::1] dx,        # OUT
    int level,
):
    """dx = g where y > 0, else 0."""
    with nogil:
        update_relu_dx(&g[0], &y[0], g.shape[0], &dx[0], level)


def sgd(
    float[::1] w,         # INOUT
    float[::1] v,         # INOUT
    const float[::1] g,   # IN
    float lr,
    float momentum,
    float decay,
    int level,
):
    """v = momentum v + (g + decay w);  w = w - lr v, in one pass over the memory."""
    with nogil:
        update_sgd(&w[0], &v[0], &g[0], w.shape[0], lr, momentum, decay, level)


# ------------------------------------------------------------------------------- cross-entropy


def cross_entropy(
    const float[:, ::1] z,          # IN (N, K)
    const int64_t[::1] labels,      # IN (N,)
    double smoothing,
    float[::1] losses,              # OUT (N,)
    float[:, ::1] p,                # OUT (N, K), softmax(z)
) -> int:
    """Returns the first row whose label is out of range, where it stopped; N where none is."""
    cdef long bad
    with nogil:
        bad = softmax_losses(&z[0, 0], &labels[0], z.shape[0], z.shape[1], smoothing, &losses[0],
                             &p[0, 0])
    return bad


def cross_entropy_dz(
    const float[::1] g,          # IN (N,)
    const float[:, ::1] p,       # IN (N, K), softmax(z)
    const int64_t[::1] labels,   # IN (N,)
    double smoothing,
    float[:, ::1] dz,            # OUT (N, K)
) -> int:
    """dz for the cotangent g of the losses; returns what `cross_entropy` returns."""
    cdef long bad
    with nogil:
        bad = softmax_losses_dz(&g[0], &p[0, 0], &labels[0], p.shape[0], p.shape[1], smoothing,
                                &dz[0, 0])
    return bad
