/* Pooling of codes of one image, channels last.   x (H, W, C) u8   ->   y (Ho, Wo, C) u8
 *
 * Lanes are channels. The ladder:
 *
 *   portable   a loop over channels inside the loop over the window, 64 channels at a time
 *   avx2       the same source, compiled for 32 lanes of bytes or 8 of sums
 *   avx512     the maximum of 64 channels is one register, the last channels a mask
 */
#ifndef MINICOMP_INT8_POOL_H
#define MINICOMP_INT8_POOL_H

#include <string.h>
#include "requantize.h"

typedef struct { long H, W, C, KH, KW, sh, sw, ph, pw, Ho, Wo; } Pool;

/* The entries (a, b), a0 <= a < a1, b0 <= b < b1, of the map that a window meets. */
typedef struct { long a0, a1, b0, b1; } Window;

ALWAYS_INLINE Window pool_window(const Pool *d, long i, long j) {
    const long top = i * d->sh - d->ph, left = j * d->sw - d->pw;
    const Window w = {top < 0 ? 0 : top, top + d->KH > d->H ? d->H : top + d->KH,
                      left < 0 ? 0 : left, left + d->KW > d->W ? d->W : left + d->KW};
    return w;
}

/* Row i of y; outside of the map is 0, the least code. */
ALWAYS_INLINE void max_pool_any(const Pool *d, const uint8_t *x, long i, uint8_t *RESTRICT y) {
    for (long j = 0; j < d->Wo; j++, y += d->C) {
        const Window w = pool_window(d, i, j);
        memset(y, 0, (size_t)d->C);
        for (long a = w.a0; a < w.a1; a++)
            for (long b = w.b0; b < w.b1; b++) {
                const uint8_t *v = x + (a * d->W + b) * d->C;
                for (long c = 0; c < d->C; c++) y[c] = v[c] > y[c] ? v[c] : y[c];
            }
    }
}

/* Row i of the means: sums of q - z, which r takes. r has 64 channels, all alike. */
ALWAYS_INLINE void avg_pool_any(const Pool *d, const uint8_t *x, int zero_point, const Requant *r,
                                long i, uint8_t *y, int level) {
    int32_t acc[64];
    for (long j = 0; j < d->Wo; j++, y += d->C) {
        const Window w = pool_window(d, i, j);
        const long h = w.a1 > w.a0 ? w.a1 - w.a0 : 0, v = w.b1 > w.b0 ? w.b1 - w.b0 : 0;
        for (long c0 = 0; c0 < d->C; c0 += 64) {
            const long n = d->C - c0 < 64 ? d->C - c0 : 64;
            for (long c = 0; c < n; c++) acc[c] = -(int32_t)(h * v * zero_point);
            for (long a = w.a0; a < w.a1; a++)
                for (long b = w.b0; b < w.b1; b++) {
                    const uint8_t *from = x + (a * d->W + b) * d->C + c0;
                    for (long c = 0; c < n; c++) acc[c] += from[c];
                }
            const Accumulators sums = {acc, 64, 0, 1, n, 0, y + c0, 64};
            requantize(&sums, r, level);
        }
    }
}

#ifdef MINICOMP_X86
TARGET_AVX2 static void max_pool_avx2(const Pool *d, const uint8_t *x, long i, uint8_t *y) {
    max_pool_any(d, x, i, y);
}
TARGET_AVX2 static void avg_pool_avx2(const Pool *d, const uint8_t *x, int zero_point,
                                      const Requant *r, long i, uint8_t *y) {
    avg_pool_any(d, x, zero_point, r, i, y, ISA_AVX2);
}

TARGET_AVX512 static void max_pool_avx512(const Pool *d, const uint8_t *x, long i, uint8_t *y) {
    for (long j = 0; j < d->Wo; j++, y += d->C) {
        const Window w = pool_window(d, i, j);
        for (long c = 0; c < d->C; c += 64) {
            const long n = d->C - c;
            const __mmask64 m = n >= 64 ? ~(__mmask64)0 : ((__mmask64)1 << n) - 1;
            __m512i best = _mm512_setzero_si512();
            for (long a = w.a0; a < w.a1; a++)
                for (long b = w.b0; b < w.b1; b++)
                    best = _mm512_max_epu8(
                        best, _mm512_maskz_loadu_epi8(m, x + (a * d->W + b) * d->C + c));
            _mm512_mask_storeu_epi8(y + c, m, best);
        }
    }
}
TARGET_AVX512 static void avg_pool_avx512(const Pool *d, const uint8_t *x, int zero_point,
                                          const Requant *r, long i, uint8_t *y) {
    avg_pool_any(d, x, zero_point, r, i, y, ISA_AVX512);
}
#define POOL_RUNG(level, name, ...) \
    if ((level) >= ISA_AVX512) { name##_avx512(__VA_ARGS__); return; } \
    if ((level) >= ISA_AVX2) { name##_avx2(__VA_ARGS__); return; }
#else
#define POOL_RUNG(level, name, ...) (void)(level);
#endif

/* Row i of the output; y is where the row begins. */
static void max_pool_row(const Pool *d, const uint8_t *x, long i, uint8_t *y, int level) {
    POOL_RUNG(level, max_pool, d, x, i, y)
    max_pool_any(d, x, i, y);
}
static void avg_pool_row(const Pool *d, const uint8_t *x, int zero_point, const Requant *r, long i,
                         uint8_t *y, int level) {
    POOL_RUNG(level, avg_pool, d, x, zero_point, r, i, y)
    avg_pool_any(d, x, zero_point, r, i, y, ISA_PORTABLE);
}

#endif
