/* From sums to numbers: y = clamp((float)acc scale + bias), channels are the lanes.
 *
 *   portable, avx2, avx512   the same source, for 4, 8, 16 lanes
 */
#ifndef MINICOMP_INT8_OUTPUTS_H
#define MINICOMP_INT8_OUTPUTS_H

#include <stdint.h>
#include "../isa.h"

ALWAYS_INLINE void floats_any(const int32_t *acc, long m, long n, const float *scale,
                              const float *bias, float lo, float hi, float *RESTRICT y) {
    for (long i = 0; i < m; i++, acc += n, y += n)
        for (long c = 0; c < n; c++) {
            const float t = (float)acc[c] * scale[c] + bias[c];
            y[c] = t < lo ? lo : t > hi ? hi : t;
        }
}

static void floats_portable(const int32_t *acc, long m, long n, const float *scale,
                            const float *bias, float lo, float hi, float *y) {
    floats_any(acc, m, n, scale, bias, lo, hi, y);
}
#ifdef MINICOMP_X86
TARGET_AVX2 static void floats_avx2(const int32_t *acc, long m, long n, const float *scale,
                                    const float *bias, float lo, float hi, float *y) {
    floats_any(acc, m, n, scale, bias, lo, hi, y);
}
TARGET_AVX512_WIDE static void floats_avx512(const int32_t *acc, long m, long n,
                                             const float *scale, const float *bias, float lo,
                                             float hi, float *y) {
    floats_any(acc, m, n, scale, bias, lo, hi, y);
}
#endif

/* m rows of n channels. */
static void floats_rows(const int32_t *acc, long m, long n, const float *scale, const float *bias,
                        float lo, float hi, float *y, int level) {
#ifdef MINICOMP_X86
    if (level >= ISA_AVX512) { floats_avx512(acc, m, n, scale, bias, lo, hi, y); return; }
    if (level >= ISA_AVX2) { floats_avx2(acc, m, n, scale, bias, lo, hi, y); return; }
#endif
    (void)level;
    floats_portable(acc, m, n, scale, bias, lo, hi, y);
}

#endif
