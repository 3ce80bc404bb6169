/* What a float program needs on one image beside the kernels of simd/maps: a row times a matrix,
 * planes to channels last and back, sums, clamps.
 *
 *   portable, avx2   a loop over lanes that the compiler vectorises, 4 and 8 of them
 *   avx512           rows of w by 4, a load of x for all of them: memory is the limit
 */
#ifndef MINICOMP_FLOATS_ROW_H
#define MINICOMP_FLOATS_ROW_H

#include "../isa.h"

enum { CLAMP_NONE, CLAMP_RELU, CLAMP_RELU6 };

/* ------------------------------------------------------------------------------- y = w x + b */

ALWAYS_INLINE void row_any(const float *x, const float *w, const float *b, long I, long O, float *y,
                           const int L) {
    for (long o = 0; o < O; o++, w += I) {
        float sum[16] = {0};
        long i = 0;
        for (; i + L <= I; i += L)
            for (int l = 0; l < L; l++) sum[l] += x[i + l] * w[i + l];
        for (; i < I; i++) sum[0] += x[i] * w[i];
        for (int l = 1; l < L; l++) sum[0] += sum[l];
        y[o] = sum[0] + (b ? b[o] : 0.0f);
    }
}

static void row_portable(const float *x, const float *w, const float *b, long I, long O, float *y) {
    row_any(x, w, b, I, O, y, 4);
}

#ifdef MINICOMP_X86
TARGET_AVX2 static void row_avx2(const float *x, const float *w, const float *b, long I, long O,
                                 float *y) {
    row_any(x, w, b, I, O, y, 16);
}

/* R rows of w; two sums each, so that additions wait less for each other. */
TARGET_AVX512 ALWAYS_INLINE void row_some_avx512(const float *x, const float *w, const float *b,
                                                 long I, float *y, const int R) {
    __m512 sum[4][2];
    UNROLL for (int r = 0; r < R; r++) sum[r][0] = sum[r][1] = _mm512_setzero_ps();
    long i = 0;
    for (; i + 32 <= I; i += 32) {
        const __m512 lo = _mm512_loadu_ps(x + i), hi = _mm512_loadu_ps(x + i + 16);
        UNROLL for (int r = 0; r < R; r++) {
            sum[r][0] = _mm512_fmadd_ps(lo, _mm512_loadu_ps(w + r * I + i), sum[r][0]);
            sum[r][1] = _mm512_fmadd_ps(hi, _mm512_loadu_ps(w + r * I + i + 16), sum[r][1]);
        }
    }
    for (; i < I; i += 16) {
        const __mmask16 m = (__mmask16)(I - i >= 16 ? 0xffff : (1u << (I - i)) - 1);
        const __m512 v = _mm512_maskz_loadu_ps(m, x + i);
        UNROLL for (int r = 0; r < R; r++)
            sum[r][0] = _mm512_fmadd_ps(v, _mm512_maskz_loadu_ps(m, w + r * I + i), sum[r][0]);
    }
    UNROLL for (int r = 0; r < R; r++)
        y[r] = _mm512_reduce_add_ps(_mm512_add_ps(sum[r][0], sum[r][1])) + (b ? b[r] : 0.0f);
}

TARGET_AVX512 static void row_avx512(const float *x, const float *w, const float *b, long I, long O,
                                     float *y) {
    long o = 0;
    for (; o + 4 <= O; o += 4) row_some_avx512(x, w + o * I, b ? b + o : 0, I, y + o, 4);
    for (; o < O; o++) row_some_avx512(x, w + o * I, b ? b + o : 0, I, y + o, 1);
}
#endif

/* y (O,) = w x + b.   w (O, I)   b (O,) or NULL */
static void row_product(const float *x, const float *w, const float *b, long I, long O, float *y,
                        int level) {
#ifdef MINICOMP_X86
    if (level >= ISA_AVX512) { row_avx512(x, w, b, I, O, y); return; }
    if (level >= ISA_AVX2) { row_avx2(x, w, b, I, O, y); return; }
#endif
    (void)level;
    row_portable(x, w, b, I, O, y);
}

/* --------------------------------------------------------------------------------- elementwise */

/* (C, P) to (P, C), times gain plus bias of the channel where there are such. */
static void row_channels_last(const float *x, const float *gain, const float *bias, long C, long P,
                              float *y) {
    if (!gain) {
        for (long c = 0; c < C; c++)
            for (long p = 0; p < P; p++) y[p * C + c] = x[c * P + p];
    } else if (C == 1) {
        for (long p = 0; p < P; p++) y[p] = x[p] * gain[0] + bias[0];
    } else if (P == 1) {
        for (long c = 0; c < C; c++) y[c] = x[c] * gain[c] + bias[c];
    } else {
        for (long c = 0; c < C; c++)
            for (long p = 0; p < P; p++) y[p * C + c] = x[c * P + p] * gain[c] + bias[c];
    }
}

/* (P, C) to (C, P) */
static void row_planes(const float *x, long P, long C, float *y) {
    for (long p = 0; p < P; p++)
        for (long c = 0; c < C; c++) y[c * P + p] = x[p * C + c];
}

static void row_add(const float *x, const float *other, long n, float *y) {
    for (long i = 0; i < n; i++) y[i] = x[i] + other[i];
}

/* max(y, 0), min(that, 6); NaN stays. */
static void row_clamp(float *y, long n, int how) {
    if (how == CLAMP_RELU)
        for (long i = 0; i < n; i++) y[i] = y[i] < 0.0f ? 0.0f : y[i];
    else if (how == CLAMP_RELU6)
        for (long i = 0; i < n; i++) y[i] = y[i] < 0.0f ? 0.0f : y[i] > 6.0f ? 6.0f : y[i];
}

#endif
