/* Pooling of one image that lies channels-last, float32.   x (H, W, C)   y, g (Ho, Wo, C)
 *
 * A window's entries of one channel are C floats apart, so lanes are channels. The ladder:
 *
 *   portable   a loop over channels inside the loop over the window's positions: 6 times NumPy
 *   avx2       the same source, compiled for 8 lanes: 1.5 to 2 times that
 *   avx512     max pooling keeps value and position of 16 channels in two registers; the last
 *              channels are a mask where the compiler has a remainder loop: 2 to 3 times that
 */
#ifndef MINICOMP_POOL_H
#define MINICOMP_POOL_H

#include <stdint.h>
#include <string.h>
#include "../isa.h"

typedef struct { long H, W, C, KH, KW, sh, sw, ph, pw, Ho, Wo; } Pool;

/* The positions a0 <= a < a1, b0 <= b < b1 of window (i, j) that lie inside the image whose entry
 * (0, 0) of the window would be x[base]. */
typedef struct { long a0, a1, b0, b1, base; } Window;

ALWAYS_INLINE Window pool_window(const Pool *d, long i, long j) {
    const long top = i * d->sh - d->ph, left = j * d->sw - d->pw;
    const Window w = {top < 0 ? -top : 0, top + d->KH > d->H ? d->H - top : d->KH,
                      left < 0 ? -left : 0, left + d->KW > d->W ? d->W - left : d->KW,
                      (top * d->W + left) * d->C};
    return w;
}

/* 1 / the entries of window (i, j): padding counts, what hangs over beyond it does not. */
ALWAYS_INLINE float pool_share(const Pool *d, long i, long j) {
    const long top = i * d->sh, left = j * d->sw;
    const long h = top + d->KH > d->H + 2 * d->ph ? d->H + 2 * d->ph - top : d->KH;
    const long w = left + d->KW > d->W + 2 * d->pw ? d->W + 2 * d->pw - left : d->KW;
    return (float)(1.0 / h * (1.0 / w));
}

/* ---------------------------------------------------------------- portable, and twice compiled */

/* Of equal entries the first; a NaN beats all, and is not beaten. Values and positions of 64
 * channels at a time are kept in 32 bits each: selecting bytes by comparing floats, a compiler
 * finds no lanes, and the loop takes 5 times as long. */
ALWAYS_INLINE void max_pool_any(const Pool *d, const float *x, float *y, uint8_t *index) {
    float best[64];
    int32_t at[64];
    for (long i = 0; i < d->Ho; i++)
        for (long j = 0; j < d->Wo; j++, y += d->C, index += d->C) {
            const Window w = pool_window(d, i, j);
            for (long c0 = 0; c0 < d->C; c0 += 64) {
                const long n = d->C - c0 < 64 ? d->C - c0 : 64;
                const float *from = x + w.base + c0;
                for (long c = 0; c < n; c++) best[c] = from[(w.a0 * d->W + w.b0) * d->C + c];
                for (long c = 0; c < n; c++) at[c] = (int32_t)(w.a0 * d->KW + w.b0);
                for (long a = w.a0; a < w.a1; a++)
                    for (long b = w.b0; b < w.b1; b++) {
                        const float *v = from + (a * d->W + b) * d->C;
                        const int32_t here = (int32_t)(a * d->KW + b);
                        for (long c = 0; c < n; c++) {
                            const int nan = (v[c] != v[c]) & (best[c] == best[c]);
                            const int better = (v[c] > best[c]) | nan;
                            at[c] = better ? here : at[c];
                            best[c] = better ? v[c] : best[c];
                        }
                    }
                for (long c = 0; c < n; c++) y[c0 + c] = best[c];
                for (long c = 0; c < n; c++) index[c0 + c] = (uint8_t)at[c];
            }
        }
}

ALWAYS_INLINE void max_pool_dx_any(const Pool *d, const float *g, const uint8_t *index, float *dx) {
    int32_t at[64];
    memset(dx, 0, sizeof(float) * d->H * d->W * d->C);
    for (long i = 0; i < d->Ho; i++)
        for (long j = 0; j < d->Wo; j++, g += d->C, index += d->C) {
            const Window w = pool_window(d, i, j);
            for (long c0 = 0; c0 < d->C; c0 += 64) {
                const long n = d->C - c0 < 64 ? d->C - c0 : 64;
                for (long c = 0; c < n; c++) at[c] = index[c0 + c];
                for (long a = w.a0; a < w.a1; a++)
                    for (long b = w.b0; b < w.b1; b++) {
                        float *RESTRICT to = dx + w.base + (a * d->W + b) * d->C + c0;
                        const int32_t here = (int32_t)(a * d->KW + b);
                        for (long c = 0; c < n; c++) {
                            const float v = g[c0 + c];
                            to[c] += at[c] == here ? v : 0.0f;
                        }
                    }
            }
        }
}

ALWAYS_INLINE void avg_pool_any(const Pool *d, const float *x, float *RESTRICT y) {
    for (long i = 0; i < d->Ho; i++)
        for (long j = 0; j < d->Wo; j++, y += d->C) {
            const Window w = pool_window(d, i, j);
            const float share = pool_share(d, i, j);
            for (long c = 0; c < d->C; c++) y[c] = 0.0f;
            for (long a = w.a0; a < w.a1; a++)
                for (long b = w.b0; b < w.b1; b++) {
                    const float *from = x + w.base + (a * d->W + b) * d->C;
                    for (long c = 0; c < d->C; c++) y[c] += from[c];
                }
            for (long c = 0; c < d->C; c++) y[c] *= share;
        }
}

ALWAYS_INLINE void avg_pool_dx_any(const Pool *d, const float *g, float *RESTRICT dx) {
    memset(dx, 0, sizeof(float) * d->H * d->W * d->C);
    for (long i = 0; i < d->Ho; i++)
        for (long j = 0; j < d->Wo; j++, g += d->C) {
            const Window w = pool_window(d, i, j);
            const float share = pool_share(d, i, j);
            for (long a = w.a0; a < w.a1; a++)
                for (long b = w.b0; b < w.b1; b++) {
                    float *to = dx + w.base + (a * d->W + b) * d->C;
                    for (long c = 0; c < d->C; c++) to[c] += g[c] * share;
                }
        }
}

#ifdef MINICOMP_X86

TARGET_AVX2 static void max_pool_avx2(const Pool *d, const float *x, float *y, uint8_t *index) {
    max_pool_any(d, x, y, index);
}
TARGET_AVX2 static void max_pool_dx_avx2(const Pool *d, const float *g, const uint8_t *index,
                                         float *dx) {
    max_pool_dx_any(d, g, index, dx);
}
TARGET_AVX2 static void avg_pool_avx2(const Pool *d, const float *x, float *y) {
    avg_pool_any(d, x, y);
}
TARGET_AVX2 static void avg_pool_dx_avx2(const Pool *d, const float *g, float *dx) {
    avg_pool_dx_any(d, g, dx);
}

/* --------------------------------------------------------------------------------------- avx512 */

/* Windows of 2 x 2 that do not overlap and lie inside, the usual ones. The best is the largest of
 * four, its position that of the first equal to it; where one is NaN nothing is done, and
 * 0 returned: the loop over positions does it. */
TARGET_AVX512 ALWAYS_INLINE int max_pool_2x2(const float *x, long row, long C, __mmask16 m,
                                             float *y, uint8_t *index) {
    const __m512 a = _mm512_maskz_loadu_ps(m, x), b = _mm512_maskz_loadu_ps(m, x + C);
    const __m512 c = _mm512_maskz_loadu_ps(m, x + row), d = _mm512_maskz_loadu_ps(m, x + row + C);
    if (_mm512_cmp_ps_mask(a, b, _CMP_UNORD_Q) | _mm512_cmp_ps_mask(c, d, _CMP_UNORD_Q)) return 0;
    const __m512 best = _mm512_max_ps(_mm512_max_ps(a, b), _mm512_max_ps(c, d));
    __m128i at = _mm_set1_epi8(3);
    at = _mm_mask_mov_epi8(at, _mm512_cmp_ps_mask(c, best, _CMP_EQ_OQ), _mm_set1_epi8(2));
    at = _mm_mask_mov_epi8(at, _mm512_cmp_ps_mask(b, best, _CMP_EQ_OQ), _mm_set1_epi8(1));
    at = _mm_mask_mov_epi8(at, _mm512_cmp_ps_mask(a, best, _CMP_EQ_OQ), _mm_setzero_si128());
    _mm512_mask_storeu_ps(y, m, best);
    _mm_mask_storeu_epi8(index, m, at);
    return 1;
}

/* The cotangent of one such window: each place is written once. */
TARGET_AVX512 ALWAYS_INLINE void max_pool_2x2_dx(const float *g, const uint8_t *index, __mmask16 m,
                                                 long row, long C, float *dx) {
    const __m512 v = _mm512_maskz_loadu_ps(m, g);
    const __m128i at = _mm_maskz_loadu_epi8(m, index);
    const __mmask16 a = _mm_testn_epi8_mask(at, at), b = _mm_cmpeq_epi8_mask(at, _mm_set1_epi8(1));
    const __mmask16 c = _mm_cmpeq_epi8_mask(at, _mm_set1_epi8(2));
    const __mmask16 d = _mm_cmpeq_epi8_mask(at, _mm_set1_epi8(3));
    _mm512_mask_storeu_ps(dx, m, _mm512_maskz_mov_ps(a, v));
    _mm512_mask_storeu_ps(dx + C, m, _mm512_maskz_mov_ps(b, v));
    _mm512_mask_storeu_ps(dx + row, m, _mm512_maskz_mov_ps(c, v));
    _mm512_mask_storeu_ps(dx + row + C, m, _mm512_maskz_mov_ps(d, v));
}

static int pool_is_2x2(const Pool *d) {
    return d->KH == 2 && d->KW == 2 && d->sh == 2 && d->sw == 2 && d->ph == 0 && d->pw == 0
           && 2 * d->Ho <= d->H && 2 * d->Wo <= d->W;
}

/*   lanes: channels c..c+15 of one window     best  | value |      position | a KW + b | (32 bits)
 *   The position of 16 lanes is narrowed to 16 bytes in the store (vpmovdb). */
TARGET_AVX512 static void max_pool_avx512(const Pool *d, const float *x, float *y, uint8_t *index) {
    const int twos = pool_is_2x2(d);
    for (long i = 0; i < d->Ho; i++)
        for (long j = 0; j < d->Wo; j++, y += d->C, index += d->C) {
            const Window w = pool_window(d, i, j);
            for (long c = 0; c < d->C; c += 16) {
                const __mmask16 m = d->C - c >= 16 ? 0xffff : (__mmask16)((1u << (d->C - c)) - 1);
                if (twos && max_pool_2x2(x + w.base + c, d->W * d->C, d->C, m, y + c, index + c))
                    continue;
                const float *from = x + w.base + c;
                __m512 best = _mm512_maskz_loadu_ps(m, from + (w.a0 * d->W + w.b0) * d->C);
                __m512i at = _mm512_set1_epi32((int)(w.a0 * d->KW + w.b0));
                for (long a = w.a0; a < w.a1; a++)
                    for (long b = w.b0; b < w.b1; b++) {
                        const __m512 v = _mm512_maskz_loadu_ps(m, from + (a * d->W + b) * d->C);
                        /* v > best, or v is NaN and best is not */
                        const __mmask16 better = _mm512_mask_cmp_ps_mask(
                            _mm512_cmp_ps_mask(best, best, _CMP_ORD_Q), v, best, _CMP_NLE_UQ);
                        best = _mm512_mask_mov_ps(best, better, v);
                        at = _mm512_mask_set1_epi32(at, better, (int)(a * d->KW + b));
                    }
                _mm512_mask_storeu_ps(y + c, m, best);
                _mm512_mask_cvtepi32_storeu_epi8(index + c, m, at);
            }
        }
}

/* Where windows do not overlap, each place of dx is written once: no read, no zeros beforehand
 * but for places that no window covers. */
TARGET_AVX512 static void max_pool_dx_avx512(const Pool *d, const float *g, const uint8_t *index,
                                             float *dx) {
    const int apart = d->sh >= d->KH && d->sw >= d->KW, twos = pool_is_2x2(d);
    if (!(apart && d->Ho * d->sh == d->H && d->Wo * d->sw == d->W && d->sh == d->KH
          && d->sw == d->KW && d->ph == 0 && d->pw == 0))
        memset(dx, 0, sizeof(float) * d->H * d->W * d->C);
    for (long i = 0; i < d->Ho; i++)
        for (long j = 0; j < d->Wo; j++, g += d->C, index += d->C) {
            const Window w = pool_window(d, i, j);
            for (long c = 0; c < d->C; c += 16) {
                const __mmask16 m = d->C - c >= 16 ? 0xffff : (__mmask16)((1u << (d->C - c)) - 1);
                if (twos) {
                    max_pool_2x2_dx(g + c, index + c, m, d->W * d->C, d->C, dx + w.base + c);
                    continue;
                }
                const __m512 v = _mm512_maskz_loadu_ps(m, g + c);
                const __m512i at = _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(m, index + c));
                for (long a = w.a0; a < w.a1; a++)
                    for (long b = w.b0; b < w.b1; b++) {
                        float *to = dx + w.base + (a * d->W + b) * d->C + c;
                        const __mmask16 hit =
                            _mm512_cmpeq_epi32_mask(at, _mm512_set1_epi32((int)(a * d->KW + b)));
                        const __m512 part = _mm512_maskz_mov_ps(hit, v);
                        _mm512_mask_storeu_ps(to, m, apart ? part
                            : _mm512_add_ps(part, _mm512_maskz_loadu_ps(m, to)));
                    }
            }
        }
}
TARGET_AVX512 static void avg_pool_avx512(const Pool *d, const float *x, float *y) {
    avg_pool_any(d, x, y);
}
TARGET_AVX512 static void avg_pool_dx_avx512(const Pool *d, const float *g, float *dx) {
    avg_pool_dx_any(d, g, dx);
}

#define POOL_RUNG(level, name, ...) \
    if ((level) >= ISA_AVX512) { name##_avx512(__VA_ARGS__); return; } \
    if ((level) >= ISA_AVX2) { name##_avx2(__VA_ARGS__); return; }
#else
#define POOL_RUNG(level, name, ...)
#endif

/* One image each: from x or g to y or dx; index is written by the first, read by the second, 0 in
 * the others. */
static void max_pool_image(const Pool *d, const float *x, uint8_t *index, float *y, int level) {
    POOL_RUNG(level, max_pool, d, x, y, index)
    max_pool_any(d, x, y, index);
}
static void max_pool_image_dx(const Pool *d, const float *g, uint8_t *index, float *dx, int level) {
    POOL_RUNG(level, max_pool_dx, d, g, index, dx)
    max_pool_dx_any(d, g, index, dx);
}
static void avg_pool_image(const Pool *d, const float *x, uint8_t *none, float *y, int level) {
    POOL_RUNG(level, avg_pool, d, x, y)
    avg_pool_any(d, x, y);
}
static void avg_pool_image_dx(const Pool *d, const float *g, uint8_t *none, float *dx, int level) {
    POOL_RUNG(level, avg_pool_dx, d, g, dx)
    avg_pool_dx_any(d, g, dx);
}

#endif
