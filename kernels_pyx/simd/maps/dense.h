/* A linear layer, float32, batches and weights of up to a few megabytes.
 *
 *   y = x W' + b     x (N, I)   W (O, I)   b (O,)   y, g (N, O)
 *
 * The tile of gemm.h multiplies without packing W: in the forward pass examples are the lanes, so
 * that W is read along its rows and broadcast, and only x, which is smaller, is transposed. BLAS
 * packs both operands, which at 64 examples costs as much as a third of the product. The ladder:
 *
 *   ref, portable, avx2   BLAS: 8 lanes do not beat it
 *   avx512                the tile: up to twice BLAS, by what BLAS makes of the processor
 */
#ifndef MINICOMP_DENSE_H
#define MINICOMP_DENSE_H

#include "gemm.h"

enum { DENSE_LANES = 64, DENSE_ROWS = 48 };

#ifdef MINICOMP_X86

/* x[0..n)[i] of (n, I) as out[i][0..64), n <= 64: 16 x 16 entries at a time stay in L1. */
static void dense_transpose(const float *x, long n, long I, float *RESTRICT out) {
    for (long i0 = 0; i0 < I; i0 += 16) {
        const long i1 = i0 + 16 < I ? i0 + 16 : I;
        for (long m = 0; m < n; m++)
            for (long i = i0; i < i1; i++) out[i * DENSE_LANES + m] = x[m * I + i];
    }
}

/* y (N, O). xt: room for I 64 floats; part: room for 48 x 64. */
static void dense_forward(const float *x, const float *w, const float *b, float *y, long N, long I,
                          long O, float *xt, float *part) {
    for (long n0 = 0; n0 < N; n0 += DENSE_LANES) {
        const long n = N - n0 < DENSE_LANES ? N - n0 : DENSE_LANES;
        dense_transpose(x + n0 * I, n, I, xt);
        for (long o0 = 0; o0 < O; o0 += DENSE_ROWS) {
            const long rows = O - o0 < DENSE_ROWS ? O - o0 : DENSE_ROWS;
            const Tile t = {w + o0 * I, I, 0, 1, xt, 0, DENSE_LANES,
                            part, DENSE_LANES, 0, 1, I, n, 0};
            gemm_avx512(&t, rows); /* part[o][m], (rows, n) */
            for (long m = 0; m < n; m++)
                for (long o = 0; o < rows; o++)
                    y[(n0 + m) * O + o0 + o] = part[o * DENSE_LANES + m] + (b ? b[o0 + o] : 0.0f);
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
                          long O, float *xt, float *part) {}
static void dense_dx(const float *g, const float *w, float *dx, long N, long I, long O) {}
static void dense_dw(const float *x, const float *g, float *dw, float *db, long N, long I,
                     long O) {}

#endif
#endif
