/* A linear layer, float32, batches and weights of up to a few megabytes.
 *
 *   y = x W' + b     x (N, I)   W (O, I)   b (O,)   y, g (N, O)
 *
 * The tile of gemm.h multiplies without packing W: in the forward pass examples are the lanes, so
 * that W is read along its rows and broadcast, and only x, which is smaller, is transposed; where
 * outputs are few, they are the lanes, and W is transposed. BLAS packs both operands, which at 64
 * examples costs as much as a third of the product. The ladder:
 *
 *   ref, portable, avx2   BLAS: 8 lanes do not beat it
 *   avx512                the tile: up to twice BLAS, by what BLAS makes of the processor
 */
#ifndef MINICOMP_DENSE_H
#define MINICOMP_DENSE_H

#include "gemm.h"

enum { DENSE_LANES = 64, DENSE_ROWS = 48 };

#ifdef MINICOMP_X86

/* A 16 x 16 block, rows r of `from` (ld floats apart) below R and columns below C; the rest is 0:
 *
 *   unpack pairs of rows, then pairs of pairs:      4 x 4 blocks turned within 128-bit lanes
 *   shuffle lanes twice:                            the 4 x 4 blocks put in their places
 */
TARGET_AVX512 ALWAYS_INLINE void dense_block(const float *from, long ld, long R, long C,
                                             __m512 *c) {
    const __mmask16 m = (__mmask16)(C >= 16 ? 0xffff : (1u << C) - 1);
    __m512 a[16], b[16];
    UNROLL for (int r = 0; r < 16; r++)
        a[r] = r < R ? _mm512_maskz_loadu_ps(m, from + r * ld) : _mm512_setzero_ps();
    UNROLL for (int r = 0; r < 16; r += 2) {
        b[r] = _mm512_unpacklo_ps(a[r], a[r + 1]);
        b[r + 1] = _mm512_unpackhi_ps(a[r], a[r + 1]);
    }
    UNROLL for (int r = 0; r < 16; r += 4)
        UNROLL for (int h = 0; h < 2; h++) { /* a[r + k]: column k of each lane, rows r..r+3 */
            const __m512d lo = _mm512_castps_pd(b[r + h]), hi = _mm512_castps_pd(b[r + 2 + h]);
            a[r + 2 * h] = _mm512_castpd_ps(_mm512_unpacklo_pd(lo, hi));
            a[r + 2 * h + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(lo, hi));
        }
    UNROLL for (int k = 0; k < 4; k++) {
        const __m512 p = _mm512_shuffle_f32x4(a[k], a[4 + k], 0x88);      /* lanes 0 2 of both */
        const __m512 q = _mm512_shuffle_f32x4(a[k], a[4 + k], 0xdd);      /* lanes 1 3 */
        const __m512 u = _mm512_shuffle_f32x4(a[8 + k], a[12 + k], 0x88);
        const __m512 v = _mm512_shuffle_f32x4(a[8 + k], a[12 + k], 0xdd);
        c[k] = _mm512_shuffle_f32x4(p, u, 0x88);
        c[4 + k] = _mm512_shuffle_f32x4(q, v, 0x88);
        c[8 + k] = _mm512_shuffle_f32x4(p, u, 0xdd);
        c[12 + k] = _mm512_shuffle_f32x4(q, v, 0xdd);
    }
}

/* x[0..n)[i] of (n, I) as out[i][0..64), n <= 64; zeros up to the next multiple of 16. */
TARGET_AVX512 static void dense_transpose(const float *x, long n, long I, float *RESTRICT out) {
    __m512 c[16];
    for (long i = 0; i < I; i += 16)
        for (long m = 0; m < n; m += 16) {
            dense_block(x + m * I + i, I, n - m, I - i, c);
            for (long k = 0; k < 16 && i + k < I; k++)
                _mm512_store_ps(out + (i + k) * DENSE_LANES + m, c[k]);
        }
}

/* max(v, 0); NaN stays: the second operand is returned where one is NaN */
#define DENSE_POSITIVE(v) _mm512_max_ps(_mm512_setzero_ps(), v)

/* y[m][o] = part[o][m] + b[o], its positive part with relu, m < n, o < rows; y's rows O apart. */
TARGET_AVX512 static void dense_put(const float *part, long n, long rows, const float *b, int relu,
                                    float *y, long O) {
    __m512 c[16];
    for (long o = 0; o < rows; o += 16) {
        const __mmask16 to = (__mmask16)(rows - o >= 16 ? 0xffff : (1u << (rows - o)) - 1);
        const __m512 bias = b ? _mm512_maskz_loadu_ps(to, b + o) : _mm512_setzero_ps();
        for (long m = 0; m < n; m += 16) {
            dense_block(part + o * DENSE_LANES + m, DENSE_LANES, rows - o, n - m, c);
            for (long k = 0; k < 16 && m + k < n; k++) {
                const __m512 v = _mm512_add_ps(c[k], bias);
                _mm512_mask_storeu_ps(y + (m + k) * O + o, to, relu ? DENSE_POSITIVE(v) : v);
            }
        }
    }
}

/* y (N, O) of at most 64 outputs. wt: room for I 64 floats. */
TARGET_AVX512 static void dense_narrow(const float *x, const float *w, const float *b, float *y,
                                       long N, long I, long O, int relu, float *wt) {
    dense_transpose(w, O, I, wt);
    const Tile t = {x, I, 0, 1, wt, 0, DENSE_LANES, y, O, b, 1, I, O, 0};
    gemm_avx512(&t, N);
    for (long i = 0; relu && i < N * O; i += 16) {
        const __mmask16 m = (__mmask16)(N * O - i >= 16 ? 0xffff : (1u << (N * O - i)) - 1);
        _mm512_mask_storeu_ps(y + i, m, DENSE_POSITIVE(_mm512_maskz_loadu_ps(m, y + i)));
    }
}

/* y (N, O), with relu its positive part. xt: room for I 64 floats; part: for 48 x 64; both at the
 * start of a cache line. */
static void dense_forward(const float *x, const float *w, const float *b, float *y, long N, long I,
                          long O, int relu, float *xt, float *part) {
    if (O <= DENSE_LANES) {
        dense_narrow(x, w, b, y, N, I, O, relu, xt);
        return;
    }
    for (long n0 = 0; n0 < N; n0 += DENSE_LANES) {
        const long n = N - n0 < DENSE_LANES ? N - n0 : DENSE_LANES;
        dense_transpose(x + n0 * I, n, I, xt);
        for (long o0 = 0; o0 < O; o0 += DENSE_ROWS) {
            const long rows = O - o0 < DENSE_ROWS ? O - o0 : DENSE_ROWS;
            const Tile t = {w + o0 * I, I, 0, 1, xt, 0, DENSE_LANES,
                            part, DENSE_LANES, 0, 1, I, n, 0};
            gemm_avx512(&t, rows); /* part[o][m], (rows, n) */
            dense_put(part, n, rows, b ? b + o0 : 0, relu, y + n0 * O + o0, O);
        }
    }
}

/* dx = g W, (N, I): rows are examples, lanes are i, W as it lies. */
static void dense_dx(const float *g, const float *w, float *dx, long N, long I, long O) {
    const Tile t = {g, O, 0, 1, w, 0, I, dx, I, 0, 1, O, I, 0};
    gemm_avx512(&t, N);
}

/* dW = g' x, (O, I), and db = sum of g over the batch, as a row of ones times g. */
static void dense_dw(const float *x, const float *g, float *dw, float *db, long N, long I, long O) {
    static const float one = 1.0f;
    const Tile t = {g, 1, 0, O, x, 0, I, dw, I, 0, 1, N, I, 0};
    gemm_avx512(&t, O);
    const Tile sum = {&one, 0, 0, 0, g, 0, O, db, O, 0, 1, N, O, 0};
    gemm_avx512(&sum, 1);
}

#else /* never called: the rung does not exist here */

static void dense_forward(const float *x, const float *w, const float *b, float *y, long N, long I,
                          long O, int relu, float *xt, float *part) {}
static void dense_dx(const float *g, const float *w, float *dx, long N, long I, long O) {}
static void dense_dw(const float *x, const float *g, float *dw, float *db, long N, long I,
                     long O) {}

#endif
#endif
