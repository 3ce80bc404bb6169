"""Fixed-point numbers: the twin of minicomp/kernels/int8/*.py."""

from cython.parallel cimport prange
from libc.stdint cimport int32_t, uint64_t

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
