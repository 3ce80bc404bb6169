"""Convolution, pooling and batch norm's sums of float32 maps that lie channels-last.

The twin of kernels/conv.py, kernels/pool.py and kernels/norm.py.

N batch, H W size, C in, O out, K kernel. The loops over images are here, one image's work in
simd/*.h. `level` is a rung of simd/isa.h; arrays are checked and allocated by the Python twin.
"""

from cython.parallel cimport prange, threadid
from libc.stdint cimport uint8_t
from libc.string cimport memset

cdef extern from "simd/conv.h" nogil:
    ctypedef struct Conv:
        long H, W, C, O, KH, KW, sh, sw, ph, pw, Ho, Wo
    const float *conv_pad(const Conv *d, const float *x, float *out)
    void conv_im2col(const Conv *d, const float *x, float *columns)
    void conv_col2im(const Conv *d, const float *columns, float *dx)
    void conv_crop(const Conv *d, const float *padded, float *x)
    void conv_pack_o(const Conv *d, const float *w, float *out, long ld)
    void conv_pack_c(const Conv *d, const float *w, float *out, long ld)
    long conv_lanes(long n)
    void conv_unpack(const Conv *d, const float *sum, float *dw)
    void conv_image(const Conv *d, const float *x, const float *w, const float *bias, float *y,
                    int level)
    void conv_image_dx(const Conv *d, const float *g, const float *w, float *dx, float *row,
                       int level)
    void conv_image_dw(const Conv *d, const float *x, const float *g, float *sum, float *db,
                       int level)

cdef extern from "simd/depthwise.h" nogil:
    void depthwise_image(const Conv *d, const float *x, const float *w, const float *bias, float *y,
                         int level)
    void depthwise_image_dx(const Conv *d, const float *g, const float *w, float *dx, float *padded,
                            int level)
    void depthwise_image_dw(const Conv *d, const float *x, const float *g, float *dw, int level)

cdef extern from "simd/norm.h" nogil:
    void norm_sums(const float *g, const float *x, const float *shift, long M, long C, double *s,
                   double *q, int level)
    void norm_moments(const float *x, const float *shift, long M, long C, double *s, double *q,
                      int level)
    void norm_affine(const float *x, const float *a, const float *b, long M, long C, float *y,
                     int level)
    void norm_blend(const float *g, const float *x, const float *a, const float *b, const float *d,
                    long M, long C, float *y, int level)

cdef extern from "simd/pool.h" nogil:
    ctypedef struct Pool:
        long H, W, C, KH, KW, sh, sw, ph, pw, Ho, Wo
    void max_pool_image(const Pool *d, const float *x, float *y, uint8_t *index, int level)
    void max_pool_image_dx(const Pool *d, const float *g, const uint8_t *index, float *dx,
                           int level)
    void avg_pool_image(const Pool *d, const float *x, float *y, int level)
    void avg_pool_image_dx(const Pool *d, const float *g, float *dx, int level)

SLABS = 4  # parts of the batch that sum a weight gradient apart, whatever the number of threads


cdef Conv describe(sizes) except *:
    # sizes: H, W, C, O, KH, KW, sh, sw, ph, pw, Ho, Wo
    cdef Conv d
    d.H, d.W, d.C, d.O, d.KH, d.KW, d.sh, d.sw, d.ph, d.pw, d.Ho, d.Wo = sizes
    return d


def forward(
    const float[:, :, :, ::1] x,   # IN (N, H, W, C)
    const float[:, :, :, ::1] w,   # IN (O, C, KH, KW)
    const float[::1] bias,         # IN (O,) or None
    float[::1] packed,             # room for KH KW C lanes(O)
    float[:, ::1] scratch,         # room for a padded image per thread
    float[:, :, :, ::1] y,         # OUT (N, Ho, Wo, O)
    sizes,
    int level,
    int n_threads,
):
    """y = x * w + bias."""
    cdef Conv d = describe(sizes)
    cdef long n
    cdef const float *b = NULL
    if bias is not None:
        b = &bias[0]
    conv_pack_o(&d, &w[0, 0, 0, 0], &packed[0], conv_lanes(d.O))
    for n in prange(x.shape[0], nogil=True, schedule="static", num_threads=n_threads,
                    use_threads_if=n_threads > 1):
        conv_image(&d, conv_pad(&d, &x[n, 0, 0, 0], &scratch[threadid(), 0]), &packed[0], b,
                   &y[n, 0, 0, 0], level)


def input_grad(
    const float[:, :, :, ::1] g,   # IN (N, Ho, Wo, O)
    const float[:, :, :, ::1] w,   # IN (O, C, KH, KW)
    float[::1] packed,             # room for KH O lanes(KW C)
    float[:, ::1] scratch,         # room for a padded row per thread
    float[:, :, :, ::1] dx,        # OUT (N, H, W, C)
    sizes,
    int level,
    int n_threads,
):
    """dx for the cotangent g of y."""
    cdef Conv d = describe(sizes)
    cdef long n
    conv_pack_c(&d, &w[0, 0, 0, 0], &packed[0], conv_lanes(d.KW * d.C))
    for n in prange(g.shape[0], nogil=True, schedule="static", num_threads=n_threads,
                    use_threads_if=n_threads > 1):
        conv_image_dx(&d, &g[n, 0, 0, 0], &packed[0], &dx[n, 0, 0, 0], &scratch[threadid(), 0],
                      level)


def weight_grad(
    const float[:, :, :, ::1] x,   # IN (N, H, W, C)
    const float[:, :, :, ::1] g,   # IN (N, Ho, Wo, O)
    float[:, ::1] sums,            # zeros (SLABS, O C KH KW)
    float[:, ::1] scratch,         # room for a padded image per thread
    float[:, :, :, ::1] dw,        # OUT (O, C, KH, KW)
    float[:, ::1] db,              # OUT zeros (SLABS, O), to be summed; or None
    sizes,
    int level,
    int n_threads,
):
    """dw and db for the cotangent g of y; the sums do not depend on n_threads."""
    cdef Conv d = describe(sizes)
    cdef long n, slab, i, count = x.shape[0], slabs = SLABS
    cdef float *into
    for slab in prange(slabs, nogil=True, schedule="static", num_threads=n_threads,
                       use_threads_if=n_threads > 1):
        into = &db[slab, 0] if db is not None else NULL
        for n in range(slab * count // slabs, (slab + 1) * count // slabs):
            conv_image_dw(&d, conv_pad(&d, &x[n, 0, 0, 0], &scratch[threadid(), 0]),
                          &g[n, 0, 0, 0], &sums[slab, 0], into, level)
    with nogil:
        for slab in range(1, slabs):
            for i in range(sums.shape[1]):
                sums[0, i] += sums[slab, i]
        conv_unpack(&d, &sums[0, 0], &dw[0, 0, 0, 0])


def im2col(
    const float[:, :, :, ::1] x,   # IN (N, H, W, C)
    float[:, ::1] columns,         # OUT (N Ho Wo, KH KW C)
    float[:, ::1] scratch,         # room for a padded image
    sizes,
):
    """The windows of x as rows."""
    cdef Conv d = describe(sizes)
    cdef long n
    with nogil:
        for n in range(x.shape[0]):
            conv_im2col(&d, conv_pad(&d, &x[n, 0, 0, 0], &scratch[0, 0]),
                        &columns[n * d.Ho * d.Wo, 0])


def col2im(
    const float[:, ::1] columns,   # IN (N Ho Wo, KH KW C)
    float[:, :, :, ::1] dx,        # OUT (N, H, W, C)
    float[:, ::1] scratch,         # room for a padded image
    sizes,
):
    """The adjoint of im2col: entries that im2col copied from one place are summed there."""
    cdef Conv d = describe(sizes)
    cdef long n
    with nogil:
        for n in range(dx.shape[0]):
            memset(&scratch[0, 0], 0, scratch.shape[1] * sizeof(float))
            conv_col2im(&d, &columns[n * d.Ho * d.Wo, 0], &scratch[0, 0])
            conv_crop(&d, &scratch[0, 0], &dx[n, 0, 0, 0])


# ----------------------------------------------------------------------------------- depthwise


def depthwise(
    const float[:, :, :, ::1] x,   # IN (N, H, W, C)
    const float[:, ::1] w,         # IN (KH KW, C)
    const float[::1] bias,         # IN (C,) or None
    float[:, ::1] scratch,         # room for a padded image per thread
    float[:, :, :, ::1] y,         # OUT (N, Ho, Wo, C)
    sizes,
    int level,
    int n_threads,
):
    """y = x * w + bias, a filter per channel."""
    cdef Conv d = describe(sizes)
    cdef long n
    cdef const float *b = NULL
    if bias is not None:
        b = &bias[0]
    for n in prange(x.shape[0], nogil=True, schedule="static", num_threads=n_threads,
                    use_threads_if=n_threads > 1):
        depthwise_image(&d, conv_pad(&d, &x[n, 0, 0, 0], &scratch[threadid(), 0]), &w[0, 0], b,
                        &y[n, 0, 0, 0], level)


def depthwise_input_grad(
    const float[:, :, :, ::1] g,   # IN (N, Ho, Wo, C)
    const float[:, ::1] w,         # IN (KH KW, C)
    float[:, ::1] scratch,         # room for a padded image per thread
    float[:, :, :, ::1] dx,        # OUT (N, H, W, C)
    sizes,
    int level,
    int n_threads,
):
    """dx for the cotangent g of y."""
    cdef Conv d = describe(sizes)
    cdef long n
    for n in prange(g.shape[0], nogil=True, schedule="static", num_threads=n_threads,
                    use_threads_if=n_threads > 1):
        depthwise_image_dx(&d, &g[n, 0, 0, 0], &w[0, 0], &dx[n, 0, 0, 0], &scratch[threadid(), 0],
                           level)


def depthwise_weight_grad(
    const float[:, :, :, ::1] x,   # IN (N, H, W, C)
    const float[:, :, :, ::1] g,   # IN (N, Ho, Wo, C)
    float[:, ::1] scratch,         # room for a padded image per thread
    float[:, :, ::1] dw,           # OUT zeros (SLABS, KH KW, C), to be summed
    sizes,
    int level,
    int n_threads,
):
    """dw for the cotangent g of y; the sums do not depend on n_threads."""
    cdef Conv d = describe(sizes)
    cdef long n, slab, count = x.shape[0], slabs = SLABS
    for slab in prange(slabs, nogil=True, schedule="static", num_threads=n_threads,
                       use_threads_if=n_threads > 1):
        for n in range(slab * count // slabs, (slab + 1) * count // slabs):
            depthwise_image_dw(&d, conv_pad(&d, &x[n, 0, 0, 0], &scratch[threadid(), 0]),
                               &g[n, 0, 0, 0], &dw[slab, 0, 0], level)


# ------------------------------------------------------------------------------------- pooling


cdef Pool describe_pool(sizes) except *:
    # sizes: H, W, C, KH, KW, sh, sw, ph, pw, Ho, Wo
    cdef Pool d
    d.H, d.W, d.C, d.KH, d.KW, d.sh, d.sw, d.ph, d.pw, d.Ho, d.Wo = sizes
    return d


def max_pool(
    const float[:, :, :, ::1] x,   # IN (N, H, W, C)
    float[:, :, :, ::1] y,         # OUT (N, Ho, Wo, C)
    uint8_t[:, :, :, ::1] index,   # OUT (N, Ho, Wo, C), a KW + b
    sizes,
    int level,
    int n_threads,
):
    """The largest entry of each window and its position."""
    cdef Pool d = describe_pool(sizes)
    cdef long n
    for n in prange(x.shape[0], nogil=True, schedule="static", num_threads=n_threads,
                    use_threads_if=n_threads > 1):
        max_pool_image(&d, &x[n, 0, 0, 0], &y[n, 0, 0, 0], &index[n, 0, 0, 0], level)


def max_pool_grad(
    const float[:, :, :, ::1] g,         # IN (N, Ho, Wo, C)
    const uint8_t[:, :, :, ::1] index,   # IN (N, Ho, Wo, C)
    float[:, :, :, ::1] dx,              # OUT (N, H, W, C)
    sizes,
    int level,
    int n_threads,
):
    """Each g added where its window's largest entry lay."""
    cdef Pool d = describe_pool(sizes)
    cdef long n
    for n in prange(g.shape[0], nogil=True, schedule="static", num_threads=n_threads,
                    use_threads_if=n_threads > 1):
        max_pool_image_dx(&d, &g[n, 0, 0, 0], &index[n, 0, 0, 0], &dx[n, 0, 0, 0], level)


def avg_pool(
    const float[:, :, :, ::1] x,   # IN (N, H, W, C)
    float[:, :, :, ::1] y,         # OUT (N, Ho, Wo, C)
    sizes,
    int level,
    int n_threads,
):
    """The mean of each window."""
    cdef Pool d = describe_pool(sizes)
    cdef long n
    for n in prange(x.shape[0], nogil=True, schedule="static", num_threads=n_threads,
                    use_threads_if=n_threads > 1):
        avg_pool_image(&d, &x[n, 0, 0, 0], &y[n, 0, 0, 0], level)


def avg_pool_grad(
    const float[:, :, :, ::1] g,   # IN (N, Ho, Wo, C)
    float[:, :, :, ::1] dx,        # OUT (N, H, W, C)
    sizes,
    int level,
    int n_threads,
):
    """Each g spread evenly over its window."""
    cdef Pool d = describe_pool(sizes)
    cdef long n
    for n in prange(g.shape[0], nogil=True, schedule="static", num_threads=n_threads,
                    use_threads_if=n_threads > 1):
        avg_pool_image_dx(&d, &g[n, 0, 0, 0], &dx[n, 0, 0, 0], level)


# ---------------------------------------------------------------------------- sums per channel


def sums(
    const float[:, ::1] g,    # IN (M, C)
    const float[:, ::1] x,    # IN (M, C)
    const float[::1] shift,   # IN (C,)
    double[::1] s,            # OUT zeros (C,)
    double[::1] q,            # OUT zeros (C,)
    int level,
):
    """s = sum of g, q = sum of g (x - shift), over the rows."""
    with nogil:
        norm_sums(&g[0, 0], &x[0, 0], &shift[0], x.shape[0], x.shape[1], &s[0], &q[0], level)


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
    float[:, ::1] y,         # OUT (M, C)
    int level,
):
    """y = x a + b."""
    with nogil:
        norm_affine(&x[0, 0], &a[0], &b[0], x.shape[0], x.shape[1], &y[0, 0], level)


def blend(
    const float[:, ::1] g,   # IN (M, C)
    const float[:, ::1] x,   # IN (M, C)
    const float[::1] a,      # IN (C,)
    const float[::1] b,      # IN (C,)
    const float[::1] d,      # IN (C,)
    float[:, ::1] y,         # OUT (M, C)
    int level,
):
    """y = g a + x b + d."""
    with nogil:
        norm_blend(&g[0, 0], &x[0, 0], &a[0], &b[0], &d[0], x.shape[0], x.shape[1], &y[0, 0], level)
