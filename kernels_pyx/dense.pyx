"""A linear layer, and the optimizer's pass over its weights, float32: the twin of kernels/dense.py.

N batch, I in, O out. Arrays are checked and allocated by the Python twin.
"""

cdef extern from "simd/dense.h" nogil:
    enum: DENSE_LANES
    enum: DENSE_ROWS
    void dense_forward(const float *x, const float *w, const float *b, float *y, long N, long I,
                       long O, float *xt, float *part)
    void dense_dx(const float *g, const float *w, float *dx, long N, long I, long O)
    void dense_dw(const float *x, const float *g, float *dw, float *db, long N, long I, long O)

LANES = DENSE_LANES
ROWS = DENSE_ROWS


def forward(
    const float[:, ::1] x,   # IN (N, I)
    const float[:, ::1] w,   # IN (O, I)
    const float[::1] b,      # IN (O,) or None
    float[::1] room,         # (I + ROWS) LANES floats
    float[:, ::1] y,         # OUT (N, O)
):
    """y = x w' + b."""
    cdef const float *bias = NULL
    if b is not None:
        bias = &b[0]
    with nogil:
        dense_forward(&x[0, 0], &w[0, 0], bias, &y[0, 0], x.shape[0], x.shape[1], w.shape[0],
                      &room[0], &room[x.shape[1] * DENSE_LANES])


def input_grad(
    const float[:, ::1] g,   # IN (N, O)
    const float[:, ::1] w,   # IN (O, I)
    float[:, ::1] dx,        # OUT (N, I)
):
    """dx = g w."""
    with nogil:
        dense_dx(&g[0, 0], &w[0, 0], &dx[0, 0], g.shape[0], w.shape[1], w.shape[0])


def weight_grad(
    const float[:, ::1] x,   # IN (N, I)
    const float[:, ::1] g,   # IN (N, O)
    float[:, ::1] dw,        # OUT (O, I)
    float[::1] db,           # OUT (O,)
):
    """dw = g' x and db, the sum of g over the batch."""
    with nogil:
        dense_dw(&x[0, 0], &g[0, 0], &dw[0, 0], &db[0], x.shape[0], x.shape[1], g.shape[1])


def sgd(
    float[::1] w,         # INOUT
    float[::1] v,         # INOUT
    const float[::1] g,   # IN
    float lr,
    float momentum,
):
    """v = momentum v + g;  w = w - lr v, in one pass over the memory."""
    cdef Py_ssize_t i
    with nogil:
        for i in range(w.shape[0]):
            v[i] = momentum * v[i] + g[i]
            w[i] -= lr * v[i]
