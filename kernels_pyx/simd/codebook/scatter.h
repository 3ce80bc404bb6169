/* The gradient of shared weights: out[j] = the sum of all g[i] with index[i] = j, i < n, j < k.
 *
 * Sums run in double. Additions to one place wait for each other, and equal indices are frequent
 * (most weights of a pruned layer are 0), so entry i adds to table i mod 8 of eight:
 *
 *     g        [ g7 | ... | g1 | g0 ]     eight floats, widened at once
 *     sums     table[index[i]][7 .. 0]    eight doubles, one cache line: lane l only meets lane l
 *     out[j] = ((t0 + t1) + (t2 + t3)) + ((t4 + t5) + (t6 + t7))        t = table[j]
 *
 * Every rung adds in this order and gives the same bits.
 *
 *     portable   4 times NumPy's bincount, 10 times where 9 of 10 entries have one index
 *     avx2       the widening is one instruction: 1.2 times portable
 *     avx512     blocks of 512 with mostly index 0, which adds up in a register, without a table:
 *                2 times portable where 9 of 10 are 0; else as avx2
 */
#ifndef MINICOMP_SCATTER_H
#define MINICOMP_SCATTER_H

#include "lookup.h"

enum { SCATTER_LANES = 8, SCATTER_BLOCK = 512 };

#define SCATTER_PLAIN(bits) \
    static void scatter_plain##bits(const float *g, const uint##bits##_t *index, long n, \
                                    double *table) { \
        long i = 0; \
        for (; i + SCATTER_LANES <= n; i += SCATTER_LANES) \
            for (int l = 0; l < SCATTER_LANES; l++) \
                table[(long)index[i + l] * SCATTER_LANES + l] += g[i + l]; \
        for (int l = 0; i + l < n; l++) table[(long)index[i + l] * SCATTER_LANES + l] += g[i + l]; \
    }
SCATTER_PLAIN(8)
SCATTER_PLAIN(16)
SCATTER_PLAIN(32)

#ifdef MINICOMP_X86

TARGET_AVX2 static long scatter8_avx2(const float *g, const uint8_t *index, long n, double *table) {
    double wide[SCATTER_LANES];
    long i = 0;
    for (; i + SCATTER_LANES <= n; i += SCATTER_LANES) {
        _mm256_storeu_pd(wide, _mm256_cvtps_pd(_mm_loadu_ps(g + i)));
        _mm256_storeu_pd(wide + 4, _mm256_cvtps_pd(_mm_loadu_ps(g + i + 4)));
        for (int l = 0; l < SCATTER_LANES; l++)
            table[index[i + l] * SCATTER_LANES + l] += wide[l];
    }
    return i;
}

/* A block of which most entries are of index 0. Those add up in the lanes of a register; the others
 * are moved together first, without a branch that would be guessed wrongly at every second place:
 *
 *     place[]  [ index 8 + lane of each | ...        value[]  [ g of each | ...
 */
TARGET_AVX512 static void scatter8_block(const float *g, const uint8_t *index, double *table) {
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7);
    int32_t place[SCATTER_BLOCK + 16];
    float value[SCATTER_BLOCK + 16];
    __m512d zero = _mm512_loadu_pd(table);
    long others = 0;
    for (long i = 0; i < SCATTER_BLOCK; i += 16) {
        const __m128i c = _mm_loadu_si128((const __m128i *)(index + i));
        const __mmask16 other = _mm_test_epi8_mask(c, c);
        const __m512 v = _mm512_loadu_ps(g + i);
        const __m512i at = _mm512_add_epi32(_mm512_slli_epi32(_mm512_cvtepu8_epi32(c), 3), lane);
        zero = _mm512_mask_add_pd(zero, (__mmask8)~other, zero,
                                  _mm512_cvtps_pd(_mm512_castps512_ps256(v)));
        zero = _mm512_mask_add_pd(zero, (__mmask8)(~other >> 8), zero,
                                  _mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1)));
        _mm512_storeu_si512(place + others, _mm512_maskz_compress_epi32(other, at));
        _mm512_storeu_ps(value + others, _mm512_maskz_compress_ps(other, v));
        others += __builtin_popcount(other);
    }
    _mm512_storeu_pd(table, zero);
    for (long j = 0; j < others; j++) table[place[j]] += value[j];
}

TARGET_AVX512 static long scatter8_avx512(const float *g, const uint8_t *index, long n,
                                          double *table) {
    long i = 0;
    for (; i + SCATTER_BLOCK <= n; i += SCATTER_BLOCK) {
        long others = 0;
        for (long j = 0; j < SCATTER_BLOCK; j += 64) {
            const __m512i c = _mm512_loadu_si512(index + i + j);
            others += __builtin_popcountll(_mm512_test_epi8_mask(c, c));
        }
        if (2 * others > SCATTER_BLOCK) scatter8_avx2(g + i, index + i, SCATTER_BLOCK, table);
        else scatter8_block(g + i, index + i, table);
    }
    return i;
}
#endif

static void scatter8(const float *g, const uint8_t *index, long n, double *table, int level) {
    long i = 0;
#ifdef MINICOMP_X86
    if (level >= ISA_AVX512) i = scatter8_avx512(g, index, n, table);
    else if (level >= ISA_AVX2) i = scatter8_avx2(g, index, n, table);
#endif
    scatter_plain8(g + i, index + i, n - i, table); /* i is a multiple of 8 */
}

/* table: (k, 8) doubles, all 0; width: bytes of an index. Returns the largest index; does nothing
 * where that is not below k. */
static int64_t scatter(const float *g, const void *index, int width, long n, double *table, long k,
                       float *out, int level) {
    const int64_t top = lookup_top(index, width, n, level);
    if (top >= k) return top;
    if (width == 1) scatter8(g, (const uint8_t *)index, n, table, level);
    else if (width == 2) scatter_plain16(g, (const uint16_t *)index, n, table);
    else scatter_plain32(g, (const uint32_t *)index, n, table);
    for (long j = 0; j < k; j++, table += SCATTER_LANES)
        out[j] = (float)(((table[0] + table[1]) + (table[2] + table[3]))
                         + ((table[4] + table[5]) + (table[6] + table[7])));
    return top;
}

#endif
