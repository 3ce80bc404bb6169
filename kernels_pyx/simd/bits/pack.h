/* From numbers to bits: bit k of a row is bit k mod 64 of word k / 64, 1 for +1 and 0 for -1. Bits
 * behind the last are 0.
 *
 *   signs    float32 -> bits: x >= 0, so that 0 and -0 are +1; NaN is seen
 *   limits   int32 sums -> bits: acc > above[o], turned over where flip[o] is set
 *
 * The ladder:
 *
 *   portable   a number at a time
 *   avx2       the signs of 8 comparisons are a byte
 *   avx512     a comparison of 16 is its mask
 */
#ifndef MINICOMP_BITS_PACK_H
#define MINICOMP_BITS_PACK_H

#include <stdint.h>
#include <string.h>
#include "../isa.h"

/* above and flip go to the end of a word: above 2^31 - 1, not turned over, is 0 for every sum. */
typedef struct {
    const int32_t *above;
    const uint64_t *flip;
} Limits;

/* The word of 64 numbers, or of the n < 64 last ones; what is NaN is added to *nan. */
ALWAYS_INLINE uint64_t sign_word_any(const float *x, long n, uint64_t *nan) {
    uint64_t word = 0;
    for (long i = 0; i < n; i++) {
        word |= (uint64_t)(x[i] >= 0) << i;
        *nan |= x[i] != x[i];
    }
    return word;
}

ALWAYS_INLINE uint64_t above_word_any(const int32_t *acc, const int32_t *above) {
    uint64_t word = 0;
    for (int i = 0; i < 64; i++) word |= (uint64_t)(acc[i] > above[i]) << i;
    return word;
}

#ifdef MINICOMP_X86
TARGET_AVX2 static uint64_t sign_word_avx2(const float *x, uint64_t *nan) {
    uint64_t word = 0;
    __m256 odd = _mm256_setzero_ps();
    UNROLL for (int i = 0; i < 8; i++) {
        const __m256 v = _mm256_loadu_ps(x + 8 * i);
        const __m256 plus = _mm256_cmp_ps(v, _mm256_setzero_ps(), _CMP_GE_OQ);
        word |= (uint64_t)(uint32_t)_mm256_movemask_ps(plus) << 8 * i;
        odd = _mm256_or_ps(odd, _mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    }
    *nan |= (uint64_t)_mm256_movemask_ps(odd);
    return word;
}
TARGET_AVX2 static uint64_t above_word_avx2(const int32_t *acc, const int32_t *above) {
    uint64_t word = 0;
    UNROLL for (int i = 0; i < 8; i++) {
        const __m256i more = _mm256_cmpgt_epi32(
            _mm256_loadu_si256((const __m256i *)(acc + 8 * i)),
            _mm256_loadu_si256((const __m256i *)(above + 8 * i)));
        word |= (uint64_t)(uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(more)) << 8 * i;
    }
    return word;
}

TARGET_AVX512 static uint64_t sign_word_avx512(const float *x, uint64_t *nan) {
    uint64_t word = 0;
    UNROLL for (int i = 0; i < 4; i++) {
        const __m512 v = _mm512_loadu_ps(x + 16 * i);
        word |= (uint64_t)_mm512_cmp_ps_mask(v, _mm512_setzero_ps(), _CMP_GE_OQ) << 16 * i;
        *nan |= _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    }
    return word;
}
TARGET_AVX512 static uint64_t above_word_avx512(const int32_t *acc, const int32_t *above) {
    uint64_t word = 0;
    UNROLL for (int i = 0; i < 4; i++)
        word |= (uint64_t)_mm512_cmpgt_epi32_mask(_mm512_loadu_si512(acc + 16 * i),
                                                  _mm512_loadu_si512(above + 16 * i)) << 16 * i;
    return word;
}
#endif

/* The bits of a group of 64 sums. All 64 are read, those behind the last for nothing. */
static inline uint64_t limit_word(const int32_t *acc, const Limits *t, long g, int level) {
    const int32_t *above = t->above + 64 * g;
#ifdef MINICOMP_X86
    if (level >= ISA_AVX512) return above_word_avx512(acc, above) ^ t->flip[g];
    if (level >= ISA_AVX2) return above_word_avx2(acc, above) ^ t->flip[g];
#endif
    (void)level;
    return above_word_any(acc, above) ^ t->flip[g];
}

/* n numbers to words; returns whether one is NaN. */
static int pack_row(const float *x, long n, uint64_t *out, int level) {
    uint64_t nan = 0;
    long i = 0;
#ifdef MINICOMP_X86
    if (level >= ISA_AVX512)
        for (; i + 64 <= n; i += 64) *out++ = sign_word_avx512(x + i, &nan);
    else if (level >= ISA_AVX2)
        for (; i + 64 <= n; i += 64) *out++ = sign_word_avx2(x + i, &nan);
#endif
    (void)level;
    for (; i < n; i += 64) *out++ = sign_word_any(x + i, n - i < 64 ? n - i : 64, &nan);
    return nan != 0;
}

/* n sums to words. */
static void limit_row(const int32_t *acc, long n, const Limits *t, uint64_t *out, int level) {
    long g = 0;
    for (; 64 * (g + 1) <= n; g++) out[g] = limit_word(acc + 64 * g, t, g, level);
    if (64 * g < n) {
        int32_t last[64] = {0};
        memcpy(last, acc + 64 * g, (size_t)(n - 64 * g) * sizeof *acc);
        out[g] = limit_word(last, t, g, level);
    }
}

#endif
