/* Depthwise convolution of one image that lies channels-last, float32: one filter per channel.
 *
 *   x (H, W, C) padded to (Hp, Wp, C)   w (KH KW, C)   y, g (Ho, Wo, C)        Conv with O = C
 *
 * Lanes are channels; there is nothing to sum over but the window, so every multiply-add needs an
 * entry of x. The ladder:
 *
 *   portable, avx2   for each tap a pass over the channels of a pixel, y kept in memory
 *   avx512           8 pixels of 16 channels stay in registers while the window passes: one load
 *                    a multiply-add instead of three loads and a store
 *   avx512, 3 x 3    depthwise3.h
 */
#ifndef MINICOMP_DEPTHWISE_H
#define MINICOMP_DEPTHWISE_H

#include "conv.h"
#include "depthwise3.h"

/* The entry of the padded image that tap (a, b) of output pixel (i, j) meets. */
ALWAYS_INLINE long depthwise_at(const Conv *d, long i, long j, long a, long b) {
    return ((i * d->sh + a) * (d->W + 2 * d->pw) + j * d->sw + b) * d->C;
}

/* With `turned` the filters are read from their last tap. */
ALWAYS_INLINE void depthwise_any(const Conv *d, const float *x, const float *w, const float *bias,
                                 float *RESTRICT y, int turned) {
    const long last = d->KH * d->KW - 1;
    for (long i = 0; i < d->Ho; i++)
        for (long j = 0; j < d->Wo; j++, y += d->C) {
            for (long c = 0; c < d->C; c++) y[c] = bias ? bias[c] : 0.0f;
            for (long a = 0; a < d->KH; a++)
                for (long b = 0; b < d->KW; b++) {
                    const float *from = x + depthwise_at(d, i, j, a, b);
                    const long t = a * d->KW + b;
                    const float *tap = w + (turned ? last - t : t) * d->C;
                    for (long c = 0; c < d->C; c++) y[c] += from[c] * tap[c];
                }
        }
}

/* Adds to the padded image dx. */
ALWAYS_INLINE void depthwise_dx_any(const Conv *d, const float *g, const float *w,
                                    float *RESTRICT dx) {
    for (long i = 0; i < d->Ho; i++)
        for (long a = 0; a < d->KH; a++)
            for (long b = 0; b < d->KW; b++) {
                const float *tap = w + (a * d->KW + b) * d->C;
                for (long j = 0; j < d->Wo; j++) {
                    const float *from = g + (i * d->Wo + j) * d->C;
                    float *to = dx + depthwise_at(d, i, j, a, b);
                    for (long c = 0; c < d->C; c++) to[c] += from[c] * tap[c];
                }
            }
}

/* Adds to dw (KH KW, C). */
ALWAYS_INLINE void depthwise_dw_any(const Conv *d, const float *x, const float *g,
                                    float *RESTRICT dw) {
    for (long i = 0; i < d->Ho; i++)
        for (long j = 0; j < d->Wo; j++, g += d->C)
            for (long a = 0; a < d->KH; a++)
                for (long b = 0; b < d->KW; b++) {
                    const float *from = x + depthwise_at(d, i, j, a, b);
                    float *to = dw + (a * d->KW + b) * d->C;
                    for (long c = 0; c < d->C; c++) to[c] += from[c] * g[c];
                }
}

#ifdef MINICOMP_X86

TARGET_AVX2 static void depthwise_avx2(const Conv *d, const float *x, const float *w,
                                       const float *bias, float *y, int turned) {
    depthwise_any(d, x, w, bias, y, turned);
}
TARGET_AVX2 static void depthwise_dx_avx2(const Conv *d, const float *g, const float *w,
                                          float *dx) {
    depthwise_dx_any(d, g, w, dx);
}
TARGET_AVX2 static void depthwise_dw_avx2(const Conv *d, const float *x, const float *g,
                                          float *dw) {
    depthwise_dw_any(d, x, g, dw);
}

/* --------------------------------------------------------------------------------------- avx512 */

/* R neighbouring pixels of y, channels c..c+15:
 *   acc[r] | y[i][j + r][c..c+15] |   += x[... + r sw][c..c+15] * w[tap][c..c+15] for each tap
 * `next` floats lie between a tap and the one after it. Where all 16 channels exist (FULL), x is an
 * operand of the multiply-add itself; a masked load is an instruction of its own. */
TARGET_AVX512 ALWAYS_INLINE void depthwise_run(const Conv *d, const float *x, const float *w,
                                               long next, __m512 from, __mmask16 m, float *y,
                                               const int R, const int FULL) {
    const long step = d->sw * d->C, wide = (d->W + 2 * d->pw) * d->C;
    __m512 acc[8];
    UNROLL for (int r = 0; r < R; r++) acc[r] = from;
    for (long a = 0; a < d->KH; a++)
        for (long b = 0; b < d->KW; b++, w += next) {
            const __m512 tap = FULL ? _mm512_loadu_ps(w) : _mm512_maskz_loadu_ps(m, w);
            const float *at = x + a * wide + b * d->C;
            UNROLL for (int r = 0; r < R; r++, at += step)
                acc[r] = _mm512_fmadd_ps(
                    FULL ? _mm512_loadu_ps(at) : _mm512_maskz_loadu_ps(m, at), tap, acc[r]);
        }
    UNROLL for (int r = 0; r < R; r++) _mm512_mask_storeu_ps(y + r * d->C, m, acc[r]);
}

/* A row of y, channels c..c+15, 8 pixels at a time, then 2, then 1. */
TARGET_AVX512 ALWAYS_INLINE void depthwise_row(const Conv *d, const float *x, const float *w,
                                               long next, __m512 from, __mmask16 m, float *y,
                                               const int FULL) {
    const long step = d->sw * d->C, C = d->C;
    long j = 0;
    for (; j + 8 <= d->Wo; j += 8)
        depthwise_run(d, x + j * step, w, next, from, m, y + j * C, 8, FULL);
    for (; j + 2 <= d->Wo; j += 2)
        depthwise_run(d, x + j * step, w, next, from, m, y + j * C, 2, FULL);
    for (; j < d->Wo; j++) depthwise_run(d, x + j * step, w, next, from, m, y + j * C, 1, FULL);
}

/* Channels outside, rows inside: the KH rows of 16 channels that a row of y needs stay in L1. */
TARGET_AVX512 static void depthwise_any_avx512(const Conv *d, const float *x, const float *w,
                                               const float *bias, float *y, int turned) {
    const long next = turned ? -d->C : d->C;
    if (turned) w += (d->KH * d->KW - 1) * d->C;
    for (long c = 0; c < d->C; c += 16) {
        const __mmask16 m = (__mmask16)depthwise_mask(d->C - c);
        const __m512 from = bias ? _mm512_maskz_loadu_ps(m, bias + c) : _mm512_setzero_ps();
        for (long i = 0; i < d->Ho; i++) {
            const float *at = x + depthwise_at(d, i, 0, 0, 0) + c;
            float *to = y + i * d->Wo * d->C + c;
            if (m == 0xffff) depthwise_row(d, at, w + c, next, from, m, to, 1);
            else depthwise_row(d, at, w + c, next, from, m, to, 0);
        }
    }
}
TARGET_AVX512 static void depthwise_dx_avx512(const Conv *d, const float *g, const float *w,
                                              float *dx) {
    depthwise_dx_any(d, g, w, dx);
}

/* dw of 16 channels and one tap: a sum over all pixels in four accumulators, which do not wait for
 * each other. */
TARGET_AVX512 static void depthwise_dw_any_avx512(const Conv *d, const float *x, const float *g,
                                                  float *dw) {
    const long step = d->sw * d->C;
    for (long c = 0; c < d->C; c += 16) {
        const __mmask16 m = (__mmask16)depthwise_mask(d->C - c);
        for (long a = 0; a < d->KH; a++)
            for (long b = 0; b < d->KW; b++) {
                __m512 acc[4];
                UNROLL for (int r = 0; r < 4; r++) acc[r] = _mm512_setzero_ps();
                for (long i = 0; i < d->Ho; i++) {
                    const float *u = x + depthwise_at(d, i, 0, a, b) + c;
                    const float *v = g + i * d->Wo * d->C + c;
                    long j = 0;
                    for (; j + 4 <= d->Wo; j += 4)
                        UNROLL for (int r = 0; r < 4; r++)
                            acc[r] = _mm512_fmadd_ps(
                                _mm512_maskz_loadu_ps(m, u + (j + r) * step),
                                _mm512_maskz_loadu_ps(m, v + (j + r) * d->C), acc[r]);
                    for (; j < d->Wo; j++)
                        acc[0] = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(m, u + j * step),
                                                 _mm512_maskz_loadu_ps(m, v + j * d->C), acc[0]);
                }
                float *to = dw + (a * d->KW + b) * d->C + c;
                const __m512 sum = _mm512_add_ps(_mm512_add_ps(acc[0], acc[1]),
                                                 _mm512_add_ps(acc[2], acc[3]));
                _mm512_mask_storeu_ps(to, m, _mm512_add_ps(_mm512_maskz_loadu_ps(m, to), sum));
            }
    }
}

#define DEPTHWISE_3X3(holds, name, ...) \
    if (level >= ISA_AVX512 && depthwise_is_3x3(d) && (holds)) { \
        depthwise3##name##_avx512(__VA_ARGS__); \
        return; \
    }
#define DEPTHWISE_RUNG(avx512, avx2, ...) \
    if (level >= ISA_AVX512) { avx512(__VA_ARGS__); return; } \
    if (level >= ISA_AVX2) { avx2(__VA_ARGS__); return; }
#else
#define DEPTHWISE_3X3(holds, name, ...)
#define DEPTHWISE_RUNG(avx512, avx2, ...)
#endif

static void depthwise_either(const Conv *d, const float *x, const float *w, const float *bias,
                             float *y, float *room, int level, int turned) {
    DEPTHWISE_3X3(1, , d, x, w, bias, y, turned)
    x = conv_pad(d, x, room);
    DEPTHWISE_RUNG(depthwise_any_avx512, depthwise_avx2, d, x, w, bias, y, turned)
    depthwise_any(d, x, w, bias, y, turned);
}

/* y = x * w + bias. bias: (C,) or 0; room: for a padded image, of x or of y. */
static void depthwise_image(const Conv *d, const float *x, const float *w, const float *bias,
                            float *y, float *room, int level) {
    depthwise_either(d, x, w, bias, y, room, level, 0);
}

/* Adds dx to the padded image `to`. */
static void depthwise_spread(const Conv *d, const float *g, const float *w, float *to, int level) {
    DEPTHWISE_RUNG(depthwise_dx_avx512, depthwise_dx_avx2, d, g, w, to)
    depthwise_dx_any(d, g, w, to);
}

/* dx for g; of stride 1 the correlation of g with the filters turned around. none: 0; room: for a
 * padded image, of x or of g. */
static void depthwise_image_dx(const Conv *d, const float *g, const float *w, const float *none,
                               float *dx, float *room, int level) {
    DEPTHWISE_3X3(d->sw == 2, _dx2, d, g, w, dx)
    if (d->sh == 1 && d->sw == 1 && d->ph < d->KH && d->pw < d->KW) {
        const Conv back = {d->Ho, d->Wo, d->C, d->C, d->KH, d->KW, 1, 1,
                           d->KH - 1 - d->ph, d->KW - 1 - d->pw, d->H, d->W, d->ahead};
        depthwise_either(&back, g, w, 0, dx, room, level, 1);
        return;
    }
    float *to = d->ph || d->pw ? room : dx;
    memset(to, 0, sizeof(float) * (d->H + 2 * d->ph) * (d->W + 2 * d->pw) * d->C);
    depthwise_spread(d, g, w, to, level);
    if (to != dx) conv_crop(d, to, dx);
}

/* Adds one image's part of dw, (KH KW, C). none: 0; room: for a padded image. */
static void depthwise_image_dw(const Conv *d, const float *x, const float *g, float *dw,
                               float *none, float *room, int level) {
    DEPTHWISE_3X3(1, _dw, d, x, g, dw)
    x = conv_pad(d, x, room);
    DEPTHWISE_RUNG(depthwise_dw_any_avx512, depthwise_dw_avx2, d, x, g, dw)
    depthwise_dw_any(d, x, g, dw);
}

#endif
