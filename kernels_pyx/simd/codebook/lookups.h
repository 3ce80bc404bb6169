/* A convolution by look-ups: y[t] = sum over entries e of coefficient[e] S[offset[e] + t], t < n.
 *
 * Maps of the atoms lie one behind the other, so that a shift by (r, c) is an offset; what wraps
 * around a row's end falls on columns that nobody reads. A panel of 64 sums stays in registers:
 *
 *     S + offset   [ t .. t + 63 ]   one load and one multiplication for 8 or 16 sums
 *
 * Each sum adds its entries in their order, with a rounding each: every rung gives the same bits.
 *
 *     portable   a panel in memory
 *     avx2       8 registers
 *     avx512     4 registers
 */
#ifndef MINICOMP_LOOKUPS_H
#define MINICOMP_LOOKUPS_H

#include <stdint.h>

#include "../isa.h"

enum { LOOKUPS_PANEL = 64 };

typedef struct {
    const int32_t *offset;
    const float *coefficient;
    long from, to;
} Lookups;

static void lookups_plain(const Lookups *p, const float *S, long from, long to, float *y) {
    for (long t = from; t < to; t++) y[t] = 0;
    for (long e = p->from; e < p->to; e++)
        for (long t = from; t < to; t++) y[t] += p->coefficient[e] * S[p->offset[e] + t];
}

#ifdef MINICOMP_X86
TARGET_AVX2 static void lookups_avx2(const Lookups *p, const float *S, long t, float *y) {
    __m256 sum[8];
    for (int i = 0; i < 8; i++) sum[i] = _mm256_setzero_ps();
    for (long e = p->from; e < p->to; e++) {
        const __m256 c = _mm256_set1_ps(p->coefficient[e]);
        const float *s = S + p->offset[e] + t;
        for (int i = 0; i < 8; i++)
            sum[i] = _mm256_add_ps(sum[i], _mm256_mul_ps(c, _mm256_loadu_ps(s + 8 * i)));
    }
    for (int i = 0; i < 8; i++) _mm256_storeu_ps(y + t + 8 * i, sum[i]);
}

TARGET_AVX512 static void lookups_avx512(const Lookups *p, const float *S, long t, float *y) {
    __m512 sum[4];
    for (int i = 0; i < 4; i++) sum[i] = _mm512_setzero_ps();
    for (long e = p->from; e < p->to; e++) {
        const __m512 c = _mm512_set1_ps(p->coefficient[e]);
        const float *s = S + p->offset[e] + t;
        for (int i = 0; i < 4; i++)
            sum[i] = _mm512_add_ps(sum[i], _mm512_mul_ps(c, _mm512_loadu_ps(s + 16 * i)));
    }
    for (int i = 0; i < 4; i++) _mm512_storeu_ps(y + t + 16 * i, sum[i]);
}
#endif

/* The entries begin..end-1 are those of this output. */
static void lookups_of(const int32_t *offset, const float *coefficient, long begin, long end,
                       const float *S, long n, float *y, int level) {
    const Lookups entries = {offset, coefficient, begin, end}, *p = &entries;
    long t = 0;
#ifdef MINICOMP_X86
    if (level >= ISA_AVX512)
        for (; t + LOOKUPS_PANEL <= n; t += LOOKUPS_PANEL) lookups_avx512(p, S, t, y);
    else if (level >= ISA_AVX2)
        for (; t + LOOKUPS_PANEL <= n; t += LOOKUPS_PANEL) lookups_avx2(p, S, t, y);
#endif
    lookups_plain(p, S, t, n, y);
}

#endif
